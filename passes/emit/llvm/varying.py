"""Which values of a function differ from lane to lane, and in which loops vectors take turns."""

from __future__ import annotations

from collections.abc import Sequence, Set

from ncc.ir.ssa import Func
from ncc.scalar.opcodes import OPCODES, SUMS

# Loops of a function over rows that have no sums but activations, say, each of another kind: from
# so many on the vectors of their lanes take turns, so that the code stands once.
KINDS = 8
TURNING = 4  # ops of vectors in such a loop, at least
MIXES = {"store", *SUMS}  # all that these read of a lane is vectors


def varying_values(func: Func, private: Set[str]) -> list[bool]:
    """Which values differ from lane to lane: what is loaded from `private` memory or at the number
    of a sample, and all that is made of such values."""
    ops = func.ops
    varying = [False] * len(ops)
    changed = any([op[0] == "for" and op[2] for op in ops])  # a loop over lanes, which varies
    while changed:
        changed = False
        loops: list[list[int]] = []
        done: list[int] = []
        in_lanes: list[bool] = [False]
        for at, (opcode, reads, imm) in enumerate(ops):
            now = varying[at] or True in [varying[r] for r in reads]
            if opcode == "for":
                loops.append([])
                in_lanes.append(in_lanes[-1] or imm > 0)
                now = imm > 0
            elif opcode == "carry":
                loops[-1].append(at)
            elif opcode == "any":
                now = False
            elif opcode == "mask":
                now = in_lanes[-1]
            elif opcode == "load":
                now = now or imm[0] in private
            elif opcode == "apply":
                done = [at] * len(reads)
            elif opcode == "result":
                now = varying[done[imm]]
            elif opcode == "yield":
                done = loops.pop()
                in_lanes.pop()
                for c, r in zip(done, reads, strict=True):
                    if varying[r] and not varying[c]:
                        varying[c] = changed = True
                now = False
            varying[at] = now
    return varying


def wanted_in_lanes(func: Func, types: Sequence[str], varying: Sequence[bool]
                    ) -> tuple[list[bool], dict[int, dict[int, None]]]:
    """Which values that do not vary are wanted in every lane, as an op over vectors reads them; and
    those of them that stand above a lanes loop, by the loop's number."""
    splatted = [False] * len(func.ops)
    entering: dict[int, dict[int, None]] = {}
    if True not in varying:
        return splatted, entering
    loops: list[list[int]] = []
    start, depth = -1, 0  # the lanes loop that is open, and how deep
    for at, (opcode, reads, imm) in enumerate(func.ops):
        if opcode == "for":
            loops.append([])
            if imm:
                start, depth = at, len(loops)
                entering[at] = {}
        elif opcode == "carry":
            loops[-1].append(at)
        carries = loops.pop() if opcode == "yield" else []
        if start >= 0:
            mixed = varying[at] or opcode in MIXES
            for k, r in enumerate(reads):
                if varying[r] or not (varying[carries[k]] if carries else mixed) or (
                        types[r] not in "fwb"):
                    continue
                if r > start:
                    splatted[r] = True
                else:
                    entering[start][r] = None
        if opcode == "yield" and len(loops) < depth:
            start, depth = -1, 0
    return splatted, entering


def turning_loops(func: Func, types: Sequence[str], private: Set[str], varying: Sequence[bool]
                  ) -> dict[int, bool]:
    """The loops over rows that do nothing but load private vectors, compute with them and store
    them, where there are many; and whether a mask is among their ops."""
    found: dict[int, bool] = {}
    if True not in varying:
        return found
    start, vectors, masks = -1, 0, False  # of the innermost loop, while it is such a one
    in_lanes = False
    for at, (opcode, reads, imm) in enumerate(func.ops):
        if opcode == "for":
            in_lanes |= imm > 0
            start, vectors, masks = (-1 if imm or not in_lanes else at), 0, False
        elif opcode == "yield":
            if start >= 0 and vectors >= TURNING:
                found[start] = masks
            start = -1
        elif start >= 0:
            vectors += TURNING if opcode == "apply" else varying[at]
            masks |= opcode == "mask"
            known = (opcode in ("const", "word", "index", "apply")
                     or opcode in OPCODES and opcode != "any" and types[at] != "i"
                     or opcode in ("load", "store") and imm[0] in private
                     or not varying[at] and (opcode == "load" or opcode in OPCODES))
            if not known or any(varying[r] and r < start for r in reads):
                start = -1
    return found if len(found) > KINDS else {}
