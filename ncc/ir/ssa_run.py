"""The interpreter of the ssa level: its ops over numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ncc.ir.ssa_types import OPEN, Func
from ncc.scalar.numpy_eval import Numpy
from ncc.scalar.opcodes import OPCODES, SUMS
from ncc.scalar.sum_order import by_lanes, one_by_one, term


def run(funcs: Mapping[str, Func], func: Func, buffers: dict[str, Any], tables: Mapping[str, Any],
        n: int | None, evaluate: Numpy, argument: Any = None) -> Any:
    """Run a function; what a pure one makes of `argument`."""
    return _Run(funcs, func, buffers, tables, n, evaluate, argument).body()


class _Run:
    """One run of a function: `values` by op, the loops that are open."""

    def __init__(self, funcs: Mapping[str, Func], func: Func, buffers: dict[str, Any],
                 tables: Mapping[str, Any], n: int | None, evaluate: Numpy, argument: Any) -> None:
        self.funcs = funcs
        self.ops = func.ops
        self.buffers = buffers
        self.tables = tables
        self.n = n
        self.evaluate = evaluate
        self.argument = argument
        self.values: list[Any] = [None] * len(func.ops)
        self.ends: dict[int, int] = {}
        stack: list[int] = []
        for at, op in enumerate(func.ops):
            if op[0] == "for":
                stack.append(at)
            elif op[0] == "yield":
                self.ends[stack.pop()] = at
        self.indices = {b.name for b in func.buffers if b.kind == "indices"}
        # An open one is as long as what the caller gave.
        self.private = {b.name: len(buffers[b.name]) if b.size == OPEN else b.size
                        for b in func.buffers if b.kind == "private"}
        # A batch has an axis behind that of the lanes.
        self.batch: tuple[int, ...] = max([array.shape[1:] for array in buffers.values()], key=len,
                                          default=())
        for b in func.buffers:
            if b.kind == "work" and b.name not in buffers:
                buffers[b.name] = np.full((b.size, *self.batch), np.nan, evaluate.real)
        self.in_lanes = self.width = 0  # iterations of the open lanes loop, and its lanes
        # (for, the next index, hi) of the open loops.
        self.running: list[tuple[int, int, int]] = []

    def body(self) -> Any:
        values, evaluate = self.values, self.evaluate
        at = 0
        while at < len(self.ops):
            opcode, reads, imm = self.ops[at]
            if opcode in OPCODES:
                values[at] = self.plain(opcode, [values[r] for r in reads])
            elif opcode == "const":
                values[at] = evaluate.const(imm)
            elif opcode == "word":
                values[at] = evaluate.word(imm)
            elif opcode == "index":
                values[at] = imm
            elif opcode == "count":
                values[at] = self.n
            elif opcode == "lookup":
                values[at] = self.tables[imm][values[reads[0]]]
            elif opcode == "load":
                values[at] = self.load(reads, imm)
            elif opcode == "store":
                name, offset = imm
                index = values[reads[1]] + offset if len(reads) > 1 else offset
                self.buffers[name][index] = values[reads[0]]
            elif opcode in SUMS:
                self.accumulate(opcode, reads, imm)
            elif opcode == "given":
                values[at] = int(self.buffers.get(imm) is not None)
            elif opcode == "for":
                at = self.enter(at)
            elif opcode == "yield":
                at = self.leave(at)
            elif opcode in ("call", "call_at"):
                self.call(opcode, reads, imm)
            elif opcode == "apply":
                made = [run(self.funcs, self.funcs[imm], {}, self.tables, self.n, evaluate,
                            values[r]) for r in reads]
                values[at] = made[0]
                self.results(at, made)
            elif opcode == "argument":
                values[at] = self.argument
            elif opcode == "return":
                return values[reads[0]]
            at += 1
        return None

    def plain(self, opcode: str, args: list[Any]) -> Any:
        """An op of the opcode table: those of indices here, the others as the emitter has them."""
        if opcode == "iadd":
            return args[0] + args[1]
        if opcode == "any":
            return int(np.any(args[0]))
        if opcode == "imul":
            return args[0] * args[1]
        if opcode == "imin":
            return np.minimum(*args)
        if opcode == "idiv":
            return args[0] // args[1]
        return self.evaluate.op(opcode, *args)

    def load(self, reads: tuple[int, ...], imm: tuple[str, int]) -> Any:
        name, offset = imm
        index = self.values[reads[0]] + offset if reads else offset
        table = self.tables.get(name)
        got = (self.buffers[name] if table is None else table)[index]
        if name in self.indices:
            return got.astype(np.int64)
        if self.batch and np.ndim(index) == got.ndim > 0 and got.dtype == self.evaluate.real:
            got = got.reshape(*got.shape, *[1] * len(self.batch))
        return got.copy()

    def accumulate(self, opcode: str, reads: tuple[int, ...], imm: tuple[str, int]) -> None:
        values, evaluate, in_lanes = self.values, self.evaluate, self.in_lanes
        name, offset = imm
        index = values[reads[2]] + offset if len(reads) > 2 else offset
        a, c, total = values[reads[0]], values[reads[1]], self.buffers[name][index]
        if in_lanes:
            a, c = [np.broadcast_to(v, (in_lanes, *self.batch)) for v in (a, c)]
        if self.width > 1:
            total = (by_lanes if opcode == "accumulate" else one_by_one)(evaluate, a, c, total)
        else:
            for x, y in zip(a, c, strict=True) if in_lanes else ((a, c),):
                total = term(evaluate, x, y, total)
        self.buffers[name][index] = total

    def enter(self, at: int) -> int:
        """Open the loop at `at`, or pass over one of no iteration: where the run then stands."""
        ops, values = self.ops, self.values
        _, reads, lanes = ops[at]
        lo, hi = int(values[reads[0]]), int(values[reads[1]])
        carries: list[int] = []
        while ops[at + 1 + len(carries)][0] == "carry":
            carries.append(at + 1 + len(carries))
        for c in carries:
            values[c] = values[ops[c][1][0]]
        if lo >= hi:
            at = self.ends[at]
            self.results(at, [values[c] for c in carries])
            return at
        if lanes:  # the iterations of a lanes loop, all at once
            values[at] = np.arange(lo, hi)
            self.in_lanes, self.width = hi - lo, lanes
            for name, size in self.private.items():
                self.buffers[name] = np.full((size, hi - lo, *self.batch), np.nan,
                                             self.evaluate.real)
            self.running.append((at, hi, hi))
        else:
            values[at] = lo
            self.running.append((at, lo + 1, hi))
        return at + len(carries)

    def leave(self, at: int) -> int:
        """The yield at `at`: on to the next iteration, or out of the loop."""
        ops, values = self.ops, self.values
        reads = ops[at][1]
        start, following, hi = self.running.pop()
        if ops[start][2]:
            self.in_lanes = self.width = 0
        nexts = [values[r] for r in reads]
        for k, v in enumerate(nexts):
            values[start + 1 + k] = v
        if following < hi:
            values[start] = following
            self.running.append((start, following + 1, hi))
            return start + len(reads)
        self.results(at, nexts)
        return at

    def call(self, opcode: str, reads: tuple[int, ...], imm: Any) -> None:
        if opcode == "call":
            run(self.funcs, self.funcs[imm], self.buffers, self.tables, self.n, self.evaluate)
            return
        first = dict(zip(imm[1], [self.values[r] for r in reads], strict=True))
        callee = self.funcs[imm[0]]
        run(self.funcs, callee, {b.name: self.buffers[b.name][first.get(b.name, 0) :]
                                 for b in callee.buffers if b.name in self.buffers},
            self.tables, None, self.evaluate)

    def results(self, at: int, last: list[Any]) -> None:
        """The values of the results behind the yield or apply at `at`, in any order."""
        at += 1
        while at < len(self.ops) and self.ops[at][0] == "result":
            self.values[at] = last[self.ops[at][2]]
            at += 1
