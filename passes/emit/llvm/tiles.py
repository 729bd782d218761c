"""Tile transposes: loads and stores of a square tile, as many consecutive elements of each lane's
as there are lanes in a vector."""

from __future__ import annotations

from ncc.passes.emit.llvm.addresses import (
    address,
    beside,
    contiguous,
    element_type,
    first_lane,
    kept_offsets,
    lane_addresses,
    part_addresses,
)
from ncc.passes.emit.llvm.lanes import accumulates, shape, store_order
from ncc.passes.emit.llvm.shuffles import transposed
from ncc.passes.emit.llvm.writer import Writer
from ncc.passes.emit.tables import cell
from ncc.passes.emit.tile_assembly import WIDTHS, Places, registers, turned
from ncc.passes.emit.tile_moves import Move, moves
from ncc.scalar.sum_order import CHAIN


def is_tile(w: Writer, at: int) -> bool:
    """Whether the loads, or the stores, from here on are of one."""
    opcode, reads, (name, offset) = w.func.ops[at]
    index = reads[-1] if len(reads) == (2 if opcode == "store" else 1) else -1
    if w.native < 2 or index < 0 or name in w.private or not w.varying[index]:
        return False
    # Of a later op the index may not be written yet; in whole rounds it is, or is from memory.
    if w.open.whole and index not in w.open.affine:
        return False
    if contiguous(w, index) or element_type(w, name) != w.real:
        return False
    following = w.func.ops[at : at + w.native]
    return len(following) == w.native and all(
        op[0] == opcode and op[2] == (name, offset + k) and op[1][-1:] == (index,)
        for k, op in enumerate(following))


# One part of the lanes at a time, from its loads to its stores: the registers hold a tile, and not
# one of each part.


def load_tile(w: Writer, at: int) -> None:
    """Leave a tile of loads to the first op that needs more of it than stores of its columns."""
    w.tile.waiting = (at, [])
    w.done = at + w.native


def waits(w: Writer, at: int) -> bool:
    """Whether this op is written before the tile that waits, or is a store of its column."""
    assert w.tile.waiting is not None
    opcode, reads, imm = w.func.ops[at]
    if opcode == "store":
        column = reads[0] - w.tile.waiting[0]
        return imm[0] in w.private and 0 <= column < w.native
    return aside(w, at)


def aside(w: Writer, at: int) -> bool:
    """An index of constants and tables."""
    opcode, _, imm = w.func.ops[at]
    return w.types[at] == "i" and (
        opcode in ("index", "iadd", "imul")
        or opcode == "load" and imm[0] in w.tables and not w.varying[at])


def write_tile(w: Writer) -> None:
    """Write the tile that waits, and the stores of its columns."""
    assert w.tile.waiting is not None
    first, stores = w.tile.waiting
    w.tile.waiting = None
    _, (index,), (name, offset) = w.func.ops[first]
    v = w.type("f", True)

    def written(rows: list[str], part: int | str) -> list[str]:
        columns = transposed(w, [w.load(v, a, w.size) for a in rows])
        for k, a in stores:
            w.store(v, columns[k], beside(w, a, part), w.size * w.native)
        return columns

    if w.parts() > 1 and all([sum([k == column for column, _ in stores])
                              == w.uses[first + k] for k in range(w.native)]):
        part, ending = open_parts(w, first)
        written(part_addresses(w, name, offset, index, part), part)
        close_parts(w, first, ending)
        return
    made: list[list[str]] = [[] for _ in range(w.native)]
    for p in range(w.parts()):
        columns = written(lane_addresses(w, name, offset, index, p), p)
        for column, value in zip(made, columns, strict=True):
            column.append(value)
    for k, vectors in enumerate(made):
        w.vectors[first + k] = vectors


def store_tile(w: Writer, at: int) -> None:
    """Write a tile of stores."""
    _, (_, index), (name, offset) = w.func.ops[at]
    v = w.type("f", True)
    values = [op[1][0] for op in w.func.ops[at : at + w.native]]

    def written(places: list[str], columns: list[str], lanes: list[int]) -> None:
        rows = transposed(w, columns)
        for lane in lanes:
            w.store(v, rows[lane], places[lane], w.size)

    def loaded(r: int, part: int | str) -> str:
        return w.load(v, beside(w, w.tile.addresses[r], part), w.size * w.native)

    storing = store_order(w, index)
    parts, lanes = [p for p, _ in storing], storing[0][1]
    if (len(parts) > 1 and sorted(parts, reverse=True) == parts
            and all([other == lanes for _, other in storing])
            and all([r in w.tile.addresses for r in values])):
        part, ending = open_parts(w, at, from_last=True)
        written(part_addresses(w, name, offset, index, part),
                [loaded(r, part) for r in values], lanes)
        close_parts(w, at, ending)
    else:
        for p, lanes in storing:
            written(lane_addresses(w, name, offset, index, p),
                    [loaded(r, p) if r in w.tile.addresses else w.vectors[r][p]
                     for r in values], lanes)
    w.done = at + w.native


def delayed(w: Writer, at: int) -> bool:
    """Whether a private load is read by the stores of a tile alone, and nothing is written
    between."""
    ops = w.func.ops
    if w.native < 2 or w.lanes == w.native:
        return False
    end = at + 1
    while end < len(ops) and (aside(w, end) or (
            ops[end][0] == "load" and ops[end][2][0] in w.private)):
        end += 1
    if end == len(ops) or ops[end][0] != "store" or not is_tile(w, end):
        return False
    values = [op[1][0] for op in ops[end : end + w.native]]
    return at in values and all([
        ops[r][0] == "load" and ops[r][2][0] in w.private and w.uses[r] == 1
        and (r >= at or r in w.tile.addresses) for r in values])


# A tile of each part in a loop: shuffles take LLVM long, many times as long as other ops.


def open_parts(w: Writer, at: int, from_last: bool = False) -> tuple[str, tuple[str, str]]:
    """Open a loop over the parts of the lanes: the number of the first lane of each, and what is
    written at its end: the next one's, and whether there is one."""
    n, i = w.native, w.index
    first, step, end = (w.lanes - n, -n, -n) if from_last else (0, n, w.lanes)
    w.lines += [f"  br label %part{at}", f"part{at}:",
                f"  %p{at} = phi {i} [ {first}, %{w.block} ], [ %q{at}, %part{at} ]"]
    w.block = f"part{at}"
    return f"%p{at}", (f"  %q{at} = add {i} %p{at}, {step}", f"icmp ne {i} %q{at}, {end}")


def close_parts(w: Writer, at: int, ending: tuple[str, str]) -> None:
    """Close a loop over the parts of the lanes."""
    step, goes = ending
    w.lines.append(step)
    w.lines += [f"  br i1 {w.add(goes)}, label %part{at}, label %whole{at}{w.rolled()}",
                f"whole{at}:"]
    w.block = f"whole{at}"


# Tiles that ncc's own assembly moves.


def find_moves(w: Writer) -> None:
    """Find those whose vectors it knows, in loops whose vectors store in turn."""
    ops = w.func.ops
    loops = [at for at, op in enumerate(ops) if op[0] == "for" and op[2] > 1]
    if not loops or not w.unit.assembles:
        return
    found = moves(w.func, private=w.private, plain=w.plain, varying=w.varying,
                  tables={name for name, table in w.tables.items() if table.type == "i"},
                  uses=w.uses, aside=lambda at: aside(w, at))
    for at, each in found:
        start = max(loop for loop in loops if loop < at)
        n, lanes = shape(w, start)
        if (n * w.bits <= w.unit.assembles and n * w.bits // 8 in WIDTHS and each.count % n == 0
                and (lanes <= CHAIN * n or not accumulates(w, start))):
            w.tile.moves[at] = each
            w.tile.moved |= each.ops


def move(w: Writer, tile: Move) -> None:
    """Write a move: the vectors of lanes one after the other, back from the last one on."""
    n, size, parts, columns = w.native, w.size, w.parts(), tile.columns
    stride, uniform = w.open.affine[tile.index]
    w.tile.rolled.add(w.loops[-1][0])
    first, step = (0, 1) if tile.into else (parts - 1, -1)
    base = address(w, tile.name, tile.offset, uniform)
    index = None if columns.index is None else w.scalar[columns.index]
    private = (address(w, columns.name, columns.beyond, None, w.lanes) if columns.table
               else address(w, columns.name, columns.offset, index, w.lanes))
    operands = [beside(w, private, first)]
    # The first two move: as operands they are results, and then arguments.
    if w.open.whole:
        assert isinstance(stride, int)
        begin = w.add(f"mul nsw {w.index} {w.open.step}, {stride}")
        if first:
            begin = w.add(f"add nsw {w.index} {begin}, {first * n * stride}")
        operands.append(w.beyond(base, f"{w.index} {begin}"))
        rows, far = Places("$1", stride * size), n * stride * size
    else:
        operands += [w.beyond(kept_offsets(w, stride), f"{w.index} {first * n}", "i32"),
                     first_lane(w, base, stride)]
        rows, far = Places("$4", size, "$1"), n * 4
    held = Places("$0", w.lanes * size)
    if columns.table:
        held = held._replace(cells=f"${len(operands) + 2}",
                             bytes=cell(w.tables[columns.table]).itemsize)
        operands.append(address(w, columns.table, columns.offset, index))
    wide = range(0, tile.count, n)
    sources = [rows._replace(offset=k * size) for k in wide]
    targets = [held._replace(first=k) for k in wide]
    order = list(range(n))
    if not tile.into:
        sources, targets = targets, sources
        order = store_order(w, tile.index)[0][1]
    text = "\\0A".join(turned(size, n, sources, targets, order, parts,
                             [("$0", step * n * size), ("$1", step * far)]))
    changed = ",".join(["=&r,=&r,0,1", *["r"] * (len(operands) - 2),
                        *[f"~{{{r}}}" for r in registers(size, n)],
                        "~{memory},~{dirflag},~{fpsr},~{flags}"])
    passed = ", ".join([f"ptr {o}" for o in operands])
    w.add(f'call {{ ptr, ptr }} asm sideeffect "{text}", "{changed}"({passed})')
