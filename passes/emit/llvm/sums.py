"""Sums of gradients over the samples: accumulates, accrues, and outer products of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from ncc.passes.emit.llvm.addresses import address, place
from ncc.passes.emit.llvm.arithmetic import instruction, multiply_add
from ncc.passes.emit.llvm.lanes import in_rounds, shape
from ncc.passes.emit.llvm.shuffles import reduced, selection, transposed
from ncc.passes.emit.llvm.writer import Writer
from ncc.scalar.opcodes import EFFECTS
from ncc.scalar.sum_order import CHAIN

BARRIERS = (EFFECTS - {"accumulate"}) | {"for", "yield"}  # between accumulates


def write_sum(w: Writer, at: int) -> None:
    """Write an accumulate or an accrue."""
    if at in w.sums.outer:
        outer_product(w, at)
    elif w.lanes == 1:
        add_product(w, at)
    elif w.func.ops[at][0] == "accrue":
        accrue(w, at)
    else:
        accumulate(w, at)


def add_product(w: Writer, at: int) -> None:
    """Write the sum of a cell and a product of one sample."""
    a = place(w, at)
    one, two = [w.vectors[r][0] if w.varying[r] else w.scalar[r] for r in w.func.ops[at][1][:2]]
    new = multiply_add(w, one, two, w.load(w.real, a, w.size), False)
    w.store(w.real, new, a, w.size)


def accumulate(w: Writer, at: int) -> None:
    """Write an accumulate; those that add to neighbouring cells share the steps of their sums over
    the lanes, where the last of them stands."""
    _, reads, (name, offset) = w.func.ops[at]
    if not w.sums.open:
        w.sums.neighbours = together(w, at)
    if at not in w.sums.chains:
        side_by_side(w, at)
    w.sums.open.append(w.sums.chains.pop(at))
    count = w.sums.neighbours
    if len(w.sums.open) < count:
        return
    rounds = reduced(w, w.sums.open)
    w.sums.open = []
    a = address(w, name, offset + 1 - count, w.scalar[reads[2]] if len(reads) > 2 else None)
    v = w.type("f", True)
    t = w.real if count == 1 else f"<{count} x {w.real}>"
    total = w.load(t, a, w.size)
    for vector in rounds:
        if count == 1:
            vector = w.extract(w.real, vector, 0)
        elif count < w.native:
            vector = w.add(f"shufflevector {v} {vector}, {v} poison, {selection(range(count))}")
        total = w.add(f"fadd {w.flags}{t} {total}, {vector}")
    w.store(t, total, a, w.size)


def together(w: Writer, at: int) -> int:
    """How many accumulates from here on add to neighbouring cells, with nothing between them
    that stores, jumps, or reads those cells: a power of two, at most a vector's lanes."""
    _, reads, (name, offset) = w.func.ops[at]
    count = 1
    for opcode, others, imm in w.func.ops[at + 1 :]:
        if count == w.native or opcode in BARRIERS or (opcode == "load" and imm[0] == name):
            break
        if opcode == "accumulate":
            if others[2:] != reads[2:] or imm != (name, offset + count):
                break
            count += 1
    return 1 << (count.bit_length() - 1)


def side_by_side(w: Writer, at: int) -> None:
    """The chains of the accumulates from here on: a vector of all of them at a time, as they
    share factors."""
    ops = w.func.ops
    end = at + 1
    while end < len(ops) and ops[end][0] == "accumulate" and end - at < 8:
        end += 1
    for k in range(at, end):
        w.sums.chains[k] = []
    for group in range(0, w.parts(), CHAIN):
        totals: list[str | None] = [None] * (end - at)
        for p in range(group, group + CHAIN):
            for k in range(end - at):
                x, y = [w.vectors[r][p] for r in ops[at + k][1][:2]]
                totals[k] = multiply_add(w, x, y, totals[k], True)
        for k, total in enumerate(totals):
            w.sums.chains[at + k].append(str(total))


def accrue(w: Writer, at: int) -> None:
    """Write an accrue by itself, a sample at a time."""
    a, reads = place(w, at), w.func.ops[at][1]
    total = w.load(w.real, a, w.size)
    for elements in in_rounds(w):
        chain: str | None = None
        for element in elements:
            part, lane = divmod(element, w.native)
            x, y = [w.extract(w.real, w.vectors[r][part], lane) for r in reads[:2]]
            chain = multiply_add(w, x, y, chain, False)
        total = instruction(w, "add", [total, str(chain)], "f", False)
    w.store(w.real, total, a, w.size)


def outer_products(w: Writer) -> None:
    """Find the runs of accrues that add up the outer product of the values of some sources and
    the deltas of as many rows as one or more vectors have lanes, all from memory of each
    sample's own."""
    ops, n, at = w.func.ops, 1, 0

    def private(values: Sequence[int]) -> bool:
        return all(ops[v][0] == "load" and ops[v][2][0] in w.private for v in values)

    while at < len(ops):
        opcode, reads, imm = ops[at]
        begin = at
        at += 1
        if opcode == "for" and imm:
            n = shape(w, begin)[0]
        if opcode != "accrue" or n < 2 or len(reads) < 3:
            continue
        while at < len(ops) and ops[at][0] == "accrue":
            at += 1
        run = ops[begin:at]
        wide = next((k for k, op in enumerate(run) if op[1][1] != run[0][1][1]), len(run))
        ns, ds = ([op[1][0] for op in run[:wide]], [op[1][1] for op in run[::wide]])
        if (wide % n == len(ds) % n == 0 and wide * len(ds) == len(run)
                and private(ns + ds) and all([
                op[1][:2] == (ns[k % wide], ds[k // wide])
                and op[1][2:] == run[k // wide * wide][1][2:]
                and op[2] == (imm[0], imm[1] + k % wide) for k, op in enumerate(run)])):
            w.sums.outer[begin] = (ns, tuple(ds))
            w.sums.turning[max(ds)] = tuple(ds)


def turn(w: Writer, ds: tuple[int, ...]) -> None:
    """The deltas of an outer product, turned: for each sample a vector of the rows."""
    w.sums.columns[ds] = [
        [column for p in range(w.parts()) for column in transposed(
            w, [w.vectors[d][p] for d in ds[k : k + w.native]])]
        for k in range(0, len(ds), w.native)]


def outer_product(w: Writer, at: int) -> None:
    """Write a run of accrues as sums over the samples, one after the other, in which the rows
    are the lanes: all that has to be turned are the rows' deltas, and the sums."""
    ns, ds = w.sums.outer[at]
    bases = [place(w, n, w.lanes) for n in ns]
    v = w.type("f", True)
    rows = w.sums.columns[ds]
    count = max(1, w.unit.registers // 2 // len(rows))  # sources whose sums are in registers
    for elements in in_rounds(w):
        totals: list[list[str | None]] = [[None] * len(ns) for _ in rows]
        for first in range(0, len(ns), count):
            for element in elements:
                for k in range(first, min(first + count, len(ns))):
                    a = w.beyond(bases[k], f"i64 {element}")
                    full = w.broadcast(w.real, w.load(w.real, a, w.size))
                    for sums, columns in zip(totals, rows, strict=True):
                        sums[k] = multiply_add(w, full, columns[element], sums[k], True)
        for side, first in product(range(len(rows)), range(0, len(ns), w.native)):
            made = transposed(w, [str(t) for t in totals[side][first : first + w.native]])
            for j, row in enumerate(made, side * w.native):
                a = place(w, at + j * len(ns) + first)
                new = instruction(w, "add", [w.load(v, a, w.size), row], "f", True)
                w.store(v, new, a, w.size)
    w.done = at + len(ns) * len(ds)
