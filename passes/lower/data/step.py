"""A sample of its own for each net: over blocks of rows as lanes (ncc/images/blocks.py)."""

from __future__ import annotations

from ncc.images.blocks import AT, FIXED, ONE, WIDTH, ZERO
from ncc.ir.ssa import OPEN, Buffer, Func
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.data.rows import Rows


def step_of(rows: Rows) -> Func:
    """y (nets, outputs) of x (nets, inputs), row-major, of a chunk of nets. `blocks` and `reals`
    are the same memory, as words and as reals; `work` has a place for each value, of which `state`
    are, where there are any, those of the step before; they are what the caller's next step wants.
    """
    b = Builder(rows.dtype, rows.fused)
    heads = {name: b.load("blocks", k) for name, k in AT.items()}
    b.store(b.const(0.0), "work", ZERO)
    b.store(b.const(1.0), "work", ONE)
    k = b.loop(b.index(0), heads["inputs"])[0]
    b.store(b.load("x", 0, k), "work", FIXED, k)
    b.close()
    level = b.loop(b.index(0), heads["levels"])[0]
    at = b.op("iadd", heads["bounds"], b.op("imul", level, b.index(len(rows.kinds.kinds))))
    for number in range(len(rows.kinds.kinds)):
        block = b.loop(b.load("blocks", number, at), b.load("blocks", number + 1, at))[0]
        _block(b, rows, number, block, heads)
        b.close()
    b.close()
    o = b.loop(b.index(0), heads["outputs"])[0]
    source = b.load("blocks", 0, b.op("iadd", heads["outs"], o))
    b.store(b.load("work", 0, source), "y", 0, o)
    b.close()
    # What the next step reads as the step before.
    s = b.loop(b.index(0), heads["state"])[0]
    old = b.op("iadd", b.op("iadd", heads["inputs"], b.index(FIXED)), s)
    b.store(b.load("work", 0, b.op("iadd", heads["rows"], s)), "work", 0, old)
    b.close()
    buffers = (Buffer("blocks", "indices", OPEN), Buffer("reals", "in", OPEN),
               Buffer("x", "in", OPEN), Buffer("y", "out", OPEN), Buffer("work", "work", OPEN))
    return Func("step", buffers, b.ops)


def _block(b: Builder, rows: Rows, number: int, block: int, heads: dict[str, int]) -> None:
    """The rows of a block of this kind."""
    width = b.index(WIDTH[rows.dtype])
    turns = b.op("iadd", heads["edges"], block)
    begin, end = b.load("blocks", 0, turns), b.load("blocks", 1, turns)
    first = b.op("imul", block, width)
    lane = b.loop(b.index(0), width, lanes=WIDTH[rows.dtype])[0]

    def cell(part: str, place: int) -> int:
        return b.op("iadd", b.op("iadd", heads[part], place), lane)

    def edge(turn: int) -> tuple[int, int]:
        place = b.op("imul", turn, width)
        source = b.load("blocks", 0, cell("sources", place))
        return b.load("work", 0, source), b.load("reals", 0, cell("weights", place))

    total = rows.argument(b, number, begin, end, b.load("reals", 0, cell("biases", first)),
                       lambda: b.load("reals", 0, cell("counts", first)), edge)
    b.store(rows.activated(b, number, total), "work", 0, cell("rows", first))
    b.close()
