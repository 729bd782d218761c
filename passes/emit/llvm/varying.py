"""Which values of a function differ from lane to lane, and in which loops vectors take turns."""

from __future__ import annotations

from collections.abc import Sequence, Set

from ncc.ir.ssa import Func
from ncc.scalar.opcodes import OPCODES, SUMS

# Loops of a function over rows that have no sums but activations, say, each of another kind: from
# so many on the vectors of their lanes take turns, so that the code stands once.
KINDS = 8
TURNING = 4  # ops of vectors in such a loop, at least


def lane_dependence(func: Func, types: Sequence[str], private: Set[str]
                    ) -> tuple[list[bool], list[bool], dict[int, dict[int, None]]]:
    """Which values vary; which others a vector op reads, so that they are wanted in every
    lane; and those of them that stand above a lanes loop, by the loop's number."""
    ops = func.ops
    varying = [False] * len(ops)
    entering: dict[int, dict[int, None]] = {}
    if not any(op[0] == "for" and op[2] for op in ops):
        return varying, varying, entering
    changed = True
    while changed:
        changed = False
        loops: list[list[int]] = []
        done: list[int] = []
        in_lanes: list[bool] = [False]
        for at, (opcode, reads, imm) in enumerate(ops):
            if opcode == "for":
                loops.append([])
                in_lanes.append(in_lanes[-1] or imm > 0)
                now = imm > 0
            elif opcode == "any":
                now = False
            elif opcode == "mask":
                now = in_lanes[-1]
            elif opcode == "load":
                now = imm[0] in private or any(varying[r] for r in reads)
            elif opcode == "apply":
                now = any(varying[r] for r in reads)
                done = [at] * len(reads)
            elif opcode == "result":
                now = varying[done[imm]]
            else:
                now = varying[at] or any(varying[r] for r in reads)
            if opcode == "carry":
                loops[-1].append(at)
            elif opcode == "yield":
                done = loops.pop()
                in_lanes.pop()
                for c, r in zip(done, reads, strict=True):
                    if varying[r] and not varying[c]:
                        varying[c] = changed = True
                now = False
            varying[at] = now or varying[at]
    splatted = [False] * len(ops)
    loops = []
    start, depth = -1, 0  # the lanes loop that is open, and how deep
    for at, (opcode, reads, imm) in enumerate(ops):
        if opcode == "for":
            loops.append([])
            if imm:
                start, depth = at, len(loops)
                entering[at] = {}
        elif opcode == "carry":
            loops[-1].append(at)
        carries = loops.pop() if opcode == "yield" else []
        for k, r in enumerate(reads):
            mixed = varying[carries[k]] if carries else varying[at] or (opcode in ("store", *SUMS))
            if start >= 0 and not varying[r] and mixed and types[r] in "fwb":
                if r > start:
                    splatted[r] = True
                else:
                    entering[start][r] = None
        if opcode == "yield" and len(loops) < depth:
            start, depth = -1, 0
    return varying, splatted, entering


def turning_loops(func: Func, types: Sequence[str], private: Set[str], varying: Sequence[bool]
                  ) -> dict[int, bool]:
    """The loops over rows that do nothing but load private vectors, compute with them and store
    them, where there are many; and whether a mask is among their ops."""
    found: dict[int, bool] = {}
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
