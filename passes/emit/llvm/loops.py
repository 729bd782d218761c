"""Loops: their heads with carries, their ends, and those that are written twice."""

from __future__ import annotations

import math

from ncc.passes.emit.llvm.lanes import open_lanes, shape
from ncc.passes.emit.llvm.writer import Writer

# Rounds up to which a loop of one sample is short: LLVM would unroll it for eight, and nothing ever
# enters what it makes of that.
SHORT = 4
# Loops of a function up to which LLVM improves them, and lines of a loop, on average, from which on
# they are bodies more than loops: then it improves many, and leaves a few as they are.
MANY, FEW, LONG = 40, 2, 128


def open_loop(w: Writer, at: int) -> None:
    """Write the head of a loop, with its carries."""
    ops = w.func.ops
    _, reads, lanes = ops[at]
    mine: list[int] = []
    while ops[at + 1 + len(mine)][0] == "carry":
        mine.append(at + 1 + len(mine))
    w.loops.append((at, mine))
    if lanes:
        w.native, w.lanes = shape(w, at)
    lo, hi = w.scalar[reads[0]], w.scalar[reads[1]]
    turns = w.parts() if at in w.elementwise else 1
    if turns > 1:
        lo, hi = [f"{int(bound) * turns}" if bound[0] != "%" else w.add(
            f"mul {w.index} {bound}, {turns}") for bound in (lo, hi)]
    if w.half is None and too_many(w, at, mine):
        w.half = 0
    turn = f"{at}again" if w.half else f"{at}"
    w.lines += [f"  br label %head{turn}", f"head{turn}:"]
    w.scalar[at] = f"%k{turn}"
    w.lines.append(f"  %k{turn} = phi {w.index} [ {lo}, %{w.block} ], "
                   f"[ %next{turn}, %latch{turn} ]")
    for c in mine:
        carry(w, c, turn, w.block, ops[c][1][0])
    w.lines += [f"  %go{turn} = icmp slt {w.index} %k{turn}, {hi}",
                f"  br i1 %go{turn}, label %body{turn}, label %exit{turn}",
                f"body{turn}:"]
    w.block = f"body{turn}"
    if lanes:
        open_lanes(w, at, reads, hi)
    for c in mine:
        if w.splatted[c]:
            w.splat(c)
    if turns > 1:
        w.scalar[at] = w.add(f"udiv {w.index} %k{turn}, {turns}")
        number = w.add(f"urem {w.index} %k{turn}, {turns}")
        w.part = w.add(f"mul {w.index} {number}, {w.native}")


def close_loop(w: Writer, at: int) -> bool:
    """Write the end of a loop, at its yield; whether it is written once `again`, from its `for`
    on, for the other half of the lanes' vectors."""
    ops, reads = w.func.ops, w.func.ops[at][1]
    start, done = w.loops.pop()
    w.part = ""
    turn = f"{start}again" if w.half else f"{start}"
    step = w.lanes if ops[start][2] else 1
    # A loop that begins where a table says is over a list, and most lists are short.
    # One that carries nothing hides no latency when it is unrolled.
    first, last = [ops[r][0] for r in ops[start][1]]
    # Assembly is one instruction to LLVM, however long it is.
    listed = (first == "load" or not done and last not in ("index", "count")
              or w.lanes == 1 and last == "load" and most_rounds(w, start) <= SHORT
              or start in w.tile.rolled)
    w.latches.append((len(w.lines) + 2, turn))
    w.lines += [f"  br label %latch{turn}", f"latch{turn}:",
                f"  %next{turn} = add nuw nsw {w.index} %k{turn}, {step}",
                f"  br label %head{turn}" + (w.rolled() if listed else ""), f"exit{turn}:"]
    w.block = f"exit{turn}"
    for c, r in zip(done, reads, strict=True):
        for p in w.window() if w.varying[c] else range(1):
            value = w.vectors[r][p] if w.varying[c] else w.scalar[r]
            hole = w.holes[(c, p)]
            w.lines[hole] = w.lines[hole].replace("?", value)
    if w.half == 0:
        w.half, w.again = 1, start
        return True
    w.half = None
    for later in range(at + 1, min(len(ops), at + 1 + len(done))):
        if ops[later][0] == "result":
            c = done[ops[later][2]]
            if w.varying[c]:
                w.vectors[later] = w.vectors[c]
            else:
                w.scalar[later] = w.scalar[c]
    if ops[start][2]:
        w.lanes = w.native = 1
    return False


def improvable(w: Writer) -> bool:
    """Whether LLVM is to improve the loops of the function, whose lines are written: to rotate,
    unroll and simplify them.

    The loops of many kinds of rows, over short lists, run no faster for it, nor does straight code
    in a loop. Where they are many, they hide that they count: in the code generator, too, LLVM
    would look for cheaper ways to count and address at once, a third of the time that it takes.
    Small devices' code is to be short, and theirs has no vectors: LLVM improves all of it.
    """
    if not w.unit.vector_bits:
        return True
    count = len(w.latches)
    long = sum([line.count("\n") + 1 for line in w.lines]) >= LONG * count
    if count <= MANY or long:
        return count > FEW or not long
    for at, turn in w.latches:
        w.lines[at] = (w.lines[at].replace(f"%next{turn}", f"%step{turn}", 1) + "\n  "
                       f'%next{turn} = call {w.index} asm "", "=r,0"({w.index} %step{turn})')
    return False


def most_rounds(w: Writer, start: int) -> float:
    """The rounds of a loop, at most, whose end a table says; infinite where none does."""
    lo, hi = [w.func.ops[r] for r in w.func.ops[start][1]]
    table = w.tables.get(hi[2][0])
    if lo[0] != "index" or table is None:
        return math.inf
    return int(table.values.max(initial=0)) - int(lo[2])


def too_many(w: Writer, at: int, carries: list[int]) -> bool:
    """Whether the sums of a loop are more than half the registers hold, so that it is written
    twice, for one half of the lanes' vectors after the other. It does nothing else then."""
    if len(carries) * w.parts() <= w.unit.registers // 2 or w.parts() % 2 or not all(
            [w.varying[c] for c in carries]):
        return False
    end = at + 1 + len(carries)
    for k, (opcode, _, imm) in enumerate(w.func.ops[end:], end):
        if opcode == "yield":
            return True
        if opcode == "load" and w.varying[k] and imm[0] not in w.private or (
                opcode not in ("load", "const", "index", "iadd", "imul", "fma", "mul", "add")):
            return False
    return False


def carry(w: Writer, c: int, turn: str, block: str, init: int) -> None:
    """Write a carry: what comes back at the end of a round is known only there."""
    letter = w.types[c]
    if w.varying[c]:
        w.vectors[c] = [f"%c{c}_{p}" for p in range(w.parts())]
        t = w.type(letter, True)
        for p in w.window():
            w.holes[(c, p)] = len(w.lines)
            w.lines.append(f"  %c{c}_{p} = phi {t} [ {w.vectors[init][p]}, %{block} ], "
                           f"[ ?, %latch{turn} ]")
    else:
        w.holes[(c, 0)] = len(w.lines)
        w.lines.append(f"  %c{c} = phi {w.type(letter)} "
                       f"[ {w.scalar[init]}, %{block} ], [ ?, %latch{turn} ]")
        w.scalar[c] = f"%c{c}"
