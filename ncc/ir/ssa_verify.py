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
        typed: list[str] = []
        visible: list[bool] = []
        loops: list[tuple[int, list[int]]] = []  # (the for's number, its carries)
        lanes = -1  # the depth of the lanes loop
        closed: tuple[int, list[int]] | None = None  # (the yield's number, the loop's carries)
        for at, (opcode, reads, imm) in enumerate(func.ops):
            result = ""
            for r in reads:
                if not 0 <= r < at or not visible[r]:
                    raise self.fault(func, at, f"%{r} is not a value that %{at} can read")
            got = "".join([typed[r] for r in reads])
            row = OPS.get(opcode)
            if func.pure and opcode not in PURE:
                raise self.fault(func, at, f"{opcode} in a pure function")
            if row is None:
                raise self.fault(func, at, f"unknown opcode {opcode}")
            if not takes(opcode, got) or not self.fits(row.imm, imm, buffers):
                raise self.fault(func, at, f"{opcode} reads {row.reads}, not {got}"
                                 if opcode in OPCODES else f"{opcode} is ill-formed")
            result = row.result if row.result != "*" else got[-1]
            if opcode in OPCODES:
                pass
            elif row.imm == "place":
                if opcode in SUMS and lanes >= 0:
                    width = func.ops[loops[lanes][0]][2]
                    if width > 1 and width % ROUND[self.dtype]:
                        raise self.fault(func, at, f"{width} lanes are no whole rounds of sums")
                kind = self.access(func, at, row, reads, imm, buffers, lanes >= 0)
                result = kind if row.result else ""
            elif opcode == "count":
                self.expect(func, at, func.counted)
            elif opcode == "for":
                if imm:
                    if lanes >= 0:
                        raise self.fault(func, at, "lanes loops do not nest")
                    lanes = len(loops)
                loops.append((at, []))
            elif opcode == "carry":
                if not loops or loops[-1][0] + len(loops[-1][1]) + 1 != at:
                    raise self.fault(func, at, "a carry stands directly after its for")
                if lanes == len(loops) - 1:
                    raise self.fault(func, at, "a lanes loop carries nothing")
                if reads[0] >= loops[-1][0]:
                    raise self.fault(func, at, "a carry starts from a value above its loop")
                loops[-1][1].append(at)
            elif opcode == "yield":
                if not loops:
                    raise self.fault(func, at, "a yield without a loop")
                start, carries = loops.pop()
                if got != "".join([typed[c] for c in carries]):
                    raise self.fault(func, at, "a yield names the next value of every carry")
                visible[start:] = [False] * (at - start)
                lanes = -1 if lanes == len(loops) else lanes
                closed = (at, carries)
            elif opcode in ("argument", "return"):
                self.expect(func, at, func.pure)
                if opcode == "return" and at != len(func.ops) - 1:
                    raise self.fault(func, at, "a return is the last op")
            elif opcode == "apply":
                callee = self.funcs.get(imm)
                if callee is None or not callee.pure:
                    raise self.fault(func, at, f"no pure function {imm}")
                closed = (at, [at] * len(got))
            elif opcode == "result":
                last = closed is not None and all(
                    func.ops[k][0] == "result" for k in range(closed[0] + 1, at)
                )
                if closed is None or not last or not 0 <= imm < len(closed[1]):
                    raise self.fault(func, at, "a result stands directly after its yield or apply")
                result = typed[closed[1][imm]]
            elif opcode == "call":
                callee = self.funcs.get(imm)
                if callee is None or callee.exported or callee.pure:
                    raise self.fault(func, at, f"a call of no internal function: {imm}")
                if any(op[0] == "call" for op in callee.ops):
                    raise self.fault(func, at, "a called function calls nothing")
                if any(buffers.get(b.name) != b for b in callee.buffers):
                    raise self.fault(func, at, f"{imm} wants buffers that are not here")
            elif opcode == "call_at":
                name, moved = imm
                callee = self.funcs.get(name)
                self.expect(func, at, len(moved) == len(reads))
                if callee is None or not callee.exported or callee.counted or lanes >= 0:
                    raise self.fault(func, at, f"call_at of no exported function: {name}")
                if any(buffers.get(b.name) != b for b in callee.buffers) or any(
                        op[0] == "call_at" for op in callee.ops):
                    raise self.fault(func, at, f"{name} wants buffers that are not here")
                if not {b.name for b in callee.buffers}.issuperset(moved):
                    raise self.fault(func, at, f"{name} has no such buffers: {', '.join(moved)}")
            typed.append(result)
            visible.append(result != "")
        if loops:
            raise self.fault(func, len(func.ops) - 1, "a loop is not closed")

    def expect(self, func: Func, at: int, good: bool) -> None:
        if not good:
            raise self.fault(func, at, f"{func.ops[at][0]} is ill-formed")

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
