"""The verifier of the ssa level; its rules stand at `Module.verify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ncc.errors import NccError
from ncc.ir.ssa_types import DTYPES, KINDS, OPEN, PURE, Buffer, Func, Place, Table, print_any
from ncc.scalar.opcodes import OPCODES, OPS, SUMS, Opcode, takes
from ncc.scalar.sum_order import ROUND


class Verifier:
    """The rules of `Module.verify`, over a module of these parts: `check` raises its NccError."""

    def __init__(self, dtype: str, numerics: str, funcs: Sequence[Func], tables: Sequence[Table],
                 place: Place | None) -> None:
        self.dtype = dtype
        self.numerics = numerics
        self.place = place
        self.names = [t.name for t in tables] + [f.name for f in funcs]
        self.tables = {t.name: t for t in tables}
        self.funcs = {f.name: f for f in funcs}

    def check(self) -> None:
        seen: dict[str, None] = {}
        for name in self.names:
            if name in seen:
                raise self.fault(name, None, f"the name {name} is used twice")
            seen[name] = None
        if self.dtype not in DTYPES or self.numerics not in ("strict", "fused", "fast"):
            raise self.fault("", None, f"unknown dtype or numerics: {self.dtype} {self.numerics}")
        for func in self.funcs.values():
            self.func(func)

    def fault(self, func: Func | str, at: int | None, message: str) -> NccError:
        """The fault at an op (None: at the head) of a function or, by its name, of anything."""
        note = ""
        if isinstance(func, Func) and at is not None:
            rows = range(max(0, at - 3), min(len(func.ops), at + 4))
            shown = [print_any(r, func.ops[r]) + ("   <-- here" if r == at else "") for r in rows]
            note = f"in {func.name}: " + " ; ".join(shown)
        if self.place is None:
            return NccError("E300", f"ssa: {message}", note=note)
        source, span = self.place(func.name if isinstance(func, Func) else func, at)
        return NccError("E300", message, source, span, status=1)

    def func(self, func: Func) -> None:
        buffers = {b.name: b for b in func.buffers}
        if len(buffers) != len(func.buffers) or any(b in self.tables for b in buffers):
            raise self.fault(func, None, "a buffer's name is used twice")
        work = [b for b in func.buffers if b.kind in ("work", "private")]
        for b in func.buffers:
            if b.kind not in KINDS or b.size < OPEN or (b.size == OPEN and b in work[:-1]):
                raise self.fault(func, None, f"bad buffer {b}")
        if func.pure and (func.buffers or func.counted or func.exported or not func.ops
                          or func.ops[-1][0] != "return"):
            raise self.fault(func, None, "a pure function has no buffers, and returns at its end")
        if func.neurons is not None and len(func.neurons) != len(func.ops):
            raise self.fault(func, None, f"{len(func.neurons)} neurons of {len(func.ops)} ops")
        body = _Body(self, func, buffers)
        for at in range(len(func.ops)):
            body.op(at)
        if body.loops:
            raise self.fault(func, len(func.ops) - 1, "a loop is not closed")

    def above(self, name: str, other: str) -> bool:
        """Whether one function stands above another."""
        return self.names.index(name) < self.names.index(other)

    def fits(self, kind: str, imm: Any, buffers: Mapping[str, Buffer]) -> bool:
        """Whether an immediate is of its row's kind."""
        if kind in ("real", "int", "lanes"):
            wanted = float if kind == "real" else int
            return isinstance(imm, wanted) and (kind != "lanes" or imm >= 0)
        if kind in ("place", "call"):
            return isinstance(imm, tuple) and len(imm) == 2
        if kind == "table":
            return imm in self.tables and self.tables[imm].type == "w"
        return imm in buffers if kind == "buffer" else (imm is None) == (kind == "")

    def access(self, func: Func, at: int, row: Opcode, reads: tuple[int, ...],
               imm: tuple[str, int], buffers: Mapping[str, Buffer], in_lanes: bool) -> str:
        """The type letter of what stands at a place."""
        name, offset = imm
        table, buffer = self.tables.get(name), buffers.get(name)
        if not table and not buffer:
            raise self.fault(func, at, f"no buffer or table {name}")
        size = len(table.values) if table else buffer.size if buffer else 0
        if len(reads) == row.values and (offset < 0 or offset >= size != OPEN):
            raise self.fault(func, at, f"{name}[{offset}] lies outside its {size} elements")
        kind = "table" if table else buffer.kind if buffer else ""
        good = {"load": ("in", "inout", "value", "indices", "work", "private", "table"),
                "store": ("out", "inout", "work", "private")}.get(row.name, ("inout", "work"))
        if kind not in good or (kind == "private" and not in_lanes):
            raise self.fault(func, at, f"{row.name} of {name}, which is {kind}")
        return table.type if table else "i" if kind == "indices" else "f"


class _Body:
    """The ops of a function, one after another: the types of those so far ('' where an op makes no
    value), and which of them can be read."""

    def __init__(self, of: Verifier, func: Func, buffers: Mapping[str, Buffer]) -> None:
        self.of = of
        self.func = func
        self.buffers = buffers
        self.typed: list[str] = []
        self.visible: list[bool] = []
        self.loops: list[tuple[int, list[int]]] = []  # (the for's number, its carries)
        self.lanes = -1  # the depth of the lanes loop
        # Of the yield or the apply before: (its number, what its results are of).
        self.closed: tuple[int, list[int]] | None = None

    def need(self, at: int, good: bool, message: str = "") -> None:
        if not good:
            raise self.of.fault(self.func, at,
                                message or f"{self.func.ops[at][0]} is ill-formed")

    def op(self, at: int) -> None:
        opcode, reads, imm = self.func.ops[at]
        for r in reads:
            if not 0 <= r < at or not self.visible[r]:
                raise self.of.fault(self.func, at, f"%{r} is not a value that %{at} can read")
        got = "".join([self.typed[r] for r in reads])
        if self.func.pure and opcode not in PURE:
            raise self.of.fault(self.func, at, f"{opcode} in a pure function")
        row = OPS.get(opcode)
        if row is None:
            raise self.of.fault(self.func, at, f"unknown opcode {opcode}")
        if not takes(opcode, got) or not self.of.fits(row.imm, imm, self.buffers):
            raise self.of.fault(self.func, at, f"{opcode} reads {row.reads}, not {got}"
                                if opcode in OPCODES else f"{opcode} is ill-formed")
        result = row.result if row.result != "*" else got[-1]
        if opcode in OPCODES:
            pass
        elif row.imm == "place":
            kind = self.place(at, row)
            result = kind if row.result else ""
        elif opcode in ("for", "carry", "yield"):
            self.loop(at, got)
        elif opcode == "result":
            result = self.result(at)
        elif opcode in ("call", "call_at", "apply"):
            self.call(at)
        elif opcode == "count":
            self.need(at, self.func.counted)
        elif opcode in ("argument", "return"):
            self.need(at, self.func.pure)
            self.need(at, opcode == "argument" or at == len(self.func.ops) - 1,
                      "a return is the last op")
        self.typed.append(result)
        self.visible.append(result != "")

    def place(self, at: int, row: Opcode) -> str:
        """The type letter of what stands at a place."""
        opcode, reads, imm = self.func.ops[at]
        if opcode in SUMS and self.lanes >= 0:
            width = self.func.ops[self.loops[self.lanes][0]][2]
            self.need(at, width == 1 or width % ROUND[self.of.dtype] == 0,
                      f"{width} lanes are no whole rounds of sums")
        return self.of.access(self.func, at, row, reads, imm, self.buffers, self.lanes >= 0)

    def loop(self, at: int, got: str) -> None:
        opcode, reads, imm = self.func.ops[at]
        if opcode == "for":
            if imm:
                self.need(at, self.lanes < 0, "lanes loops do not nest")
                self.lanes = len(self.loops)
            self.loops.append((at, []))
        elif opcode == "carry":
            self.need(at, bool(self.loops)
                      and self.loops[-1][0] + len(self.loops[-1][1]) + 1 == at,
                      "a carry stands directly after its for")
            self.need(at, self.lanes != len(self.loops) - 1, "a lanes loop carries nothing")
            self.need(at, reads[0] < self.loops[-1][0],
                      "a carry starts from a value above its loop")
            self.loops[-1][1].append(at)
        else:
            self.need(at, bool(self.loops), "a yield without a loop")
            start, carries = self.loops.pop()
            self.need(at, got == "".join([self.typed[c] for c in carries]),
                      "a yield names the next value of every carry")
            self.visible[start:] = [False] * (at - start)
            self.lanes = -1 if self.lanes == len(self.loops) else self.lanes
            self.closed = (at, carries)

    def result(self, at: int) -> str:
        imm, ops = self.func.ops[at][2], self.func.ops
        before, of = self.closed or (at, [])
        self.need(at, 0 <= imm < len(of)
                  and all([ops[k][0] == "result" for k in range(before + 1, at)]),
                  "a result stands directly after its yield or apply")
        return self.typed[of[imm]]

    def call(self, at: int) -> None:
        opcode, reads, imm = self.func.ops[at]
        name, moved = imm if opcode == "call_at" else (imm, ())
        callee = self.of.funcs.get(name)
        if opcode == "apply":
            self.need(at, callee is not None and callee.pure, f"no pure function {name}")
            self.need(at, not self.func.pure or self.of.above(name, self.func.name),
                      f"{name} stands below the pure function that applies it")
            self.closed = (at, [at] * len(reads))
            return
        if opcode == "call":
            good, what = callee is not None and not callee.exported and not callee.pure, "internal"
        else:
            self.need(at, len(moved) == len(reads))
            good, what = (callee is not None and callee.exported and not callee.counted
                          and self.lanes < 0), "exported"
        if callee is None or not good:
            raise self.of.fault(self.func, at, f"a {opcode} of no {what} function: {name}")
        self.need(at, all([op[0] != opcode for op in callee.ops]),
                  "a called function calls nothing")
        self.need(at, all([self.buffers.get(b.name) == b for b in callee.buffers]),
                  f"{name} wants buffers that are not here")
        self.need(at, {b.name for b in callee.buffers}.issuperset(moved),
                  f"{name} has no such buffers: {', '.join(moved)}")
