"""The interpreter of the ssa level: its ops over numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ncc.ir.ssa_types import Func, Op
from ncc.scalar.numpy_eval import Numpy
from ncc.scalar.opcodes import OPCODES
from ncc.scalar.sum_order import by_lanes, one_by_one, term


def run(funcs: Mapping[str, Func], func: Func, buffers: dict[str, Any], tables: Mapping[str, Any],
        n: int | None, evaluate: Numpy, argument: Any = None) -> Any:
    """Run a function; what a pure one makes of `argument`."""
    ops = func.ops
    real = evaluate.real
    values: list[Any] = [None] * len(ops)
    ends: dict[int, int] = {}
    stack: list[int] = []
    for at, op in enumerate(ops):
        if op[0] == "for":
            stack.append(at)
        elif op[0] == "yield":
            ends[stack.pop()] = at
    private = {b.name: b.size for b in func.buffers if b.kind == "private"}
    # A batch has an axis behind that of the lanes.
    batch = max([held.shape[1:] for held in buffers.values()], key=len, default=())
    for b in func.buffers:
        if b.kind == "work" and b.name not in buffers:
            buffers[b.name] = np.full((b.size, *batch), np.nan, real)
    in_lanes = width = 0  # iterations of the lanes loop that is open, and its lanes
    running: list[tuple[int, int, int]] = []  # (for, the next index, hi) of the open plain loops
    at = 0
    while at < len(ops):
        opcode, reads, imm = ops[at]
        if opcode in OPCODES:
            args = [values[r] for r in reads]
            if opcode == "iadd":
                values[at] = args[0] + args[1]
            elif opcode == "any":
                values[at] = int(np.any(args[0]))
            elif opcode == "imul":
                values[at] = args[0] * args[1]
            elif opcode == "imin":
                values[at] = min(args)
            elif opcode == "idiv":
                values[at] = args[0] // args[1]
            else:
                values[at] = evaluate.op(opcode, *args)
        elif opcode == "const":
            values[at] = evaluate.const(imm)
        elif opcode == "word":
            values[at] = evaluate.word(imm)
        elif opcode == "index":
            values[at] = imm
        elif opcode == "count":
            values[at] = n
        elif opcode == "lookup":
            values[at] = tables[imm][values[reads[0]]]
        elif opcode == "load":
            name, offset = imm
            index = values[reads[0]] + offset if reads else offset
            held = tables.get(name)
            got = (buffers[name] if held is None else held)[index]
            if batch and np.ndim(index) == got.ndim > 0 and got.dtype == real:
                got = got.reshape(*got.shape, *[1] * len(batch))
            values[at] = got.copy()
        elif opcode == "store":
            name, offset = imm
            index = values[reads[1]] + offset if len(reads) > 1 else offset
            buffers[name][index] = values[reads[0]]
        elif opcode in ("accumulate", "accrue"):
            name, offset = imm
            index = values[reads[2]] + offset if len(reads) > 2 else offset
            a, c, total = values[reads[0]], values[reads[1]], buffers[name][index]
            if in_lanes:
                a, c = [np.broadcast_to(v, (in_lanes, *batch)) for v in (a, c)]
            if width > 1:
                total = (by_lanes if opcode == "accumulate" else one_by_one)(evaluate, a, c, total)
            else:
                for x, y in zip(a, c, strict=True) if in_lanes else ((a, c),):
                    total = term(evaluate, x, y, total)
            buffers[name][index] = total
        elif opcode == "given":
            values[at] = int(buffers.get(imm) is not None)
        elif opcode == "for":
            lo, hi = int(values[reads[0]]), int(values[reads[1]])
            carries: list[int] = []
            while ops[at + 1 + len(carries)][0] == "carry":
                carries.append(at + 1 + len(carries))
            for c in carries:
                values[c] = values[ops[c][1][0]]
            if imm and lo < hi:  # the iterations of a lanes loop, all at once
                values[at] = np.arange(lo, hi)
                in_lanes, width = hi - lo, imm
                for name, size in private.items():
                    buffers[name] = np.full((size, hi - lo, *batch), np.nan, real)
                running.append((at, hi, hi))
                at += len(carries)
            elif lo < hi:
                values[at] = lo
                running.append((at, lo + 1, hi))
                at += len(carries)
            else:
                at = ends[at]
                _results(ops, values, at, [values[c] for c in carries])
        elif opcode == "yield":
            start, following, hi = running.pop()
            if ops[start][2]:
                in_lanes = width = 0
            nexts = [values[r] for r in reads]
            for k, v in enumerate(nexts):
                values[start + 1 + k] = v
            if following < hi:
                values[start] = following
                running.append((start, following + 1, hi))
                at = start + len(reads)
            else:
                _results(ops, values, at, nexts)
        elif opcode == "call":
            run(funcs, funcs[imm], buffers, tables, n, evaluate)
        elif opcode == "call_at":
            first = dict(zip(imm[1], [values[r] for r in reads], strict=True))
            callee = funcs[imm[0]]
            run(funcs, callee, {b.name: buffers[b.name][first.get(b.name, 0) :]
                                  for b in callee.buffers if b.name in buffers},
                 tables, None, evaluate)
        elif opcode == "apply":
            callee = funcs[imm]
            made = [run(funcs, callee, {}, tables, n, evaluate, values[r]) for r in reads]
            values[at] = made[0]
            _results(ops, values, at, made)
        elif opcode == "argument":
            values[at] = argument
        elif opcode == "return":
            return values[reads[0]]
        at += 1
    return None


def _results(ops: list[Op], values: list[Any], at: int, last: list[Any]) -> None:
    """The values of the results behind the yield or apply at `at`, in any order."""
    at += 1
    while at < len(ops) and ops[at][0] == "result":
        values[at] = last[ops[at][2]]
        at += 1
