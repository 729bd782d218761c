"""The verifier of the ssa level; its rules stand at `Module.verify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ncc.errors import NccError
from ncc.ir.ssa_types import DTYPES, KINDS, OPEN, PURE, Buffer, Func, Place, Table, print_any
from ncc.scalar.opcodes import CONTROL, OPCODES
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
            row = OPCODES.get(opcode)
            if func.pure and opcode not in PURE and (row is None or opcode == "mask"):
                raise self.fault(func, at, f"{opcode} in a pure function")
            if row is not None:
                want = row.reads
                if "*" in want and len(got) == len(want):
                    want = want.replace("*", got[-1])
                if got != want or imm is not None:
                    raise self.fault(func, at, f"{opcode} reads {row.reads}, not {got}")
                result = row.result if row.result != "*" else got[-1]
            elif opcode not in CONTROL and opcode != "count":
                raise self.fault(func, at, f"unknown opcode {opcode}")
            elif opcode == "const":
                self.expect(func, at, got, "", isinstance(imm, float))
                result = "f"
            elif opcode in ("word", "index"):
                self.expect(func, at, got, "", isinstance(imm, int))
                result = opcode[0]
            elif opcode == "count":
                self.expect(func, at, got, "", func.counted)
                result = "i"
            elif opcode == "lookup":
                t = self.tables.get(imm)
                self.expect(func, at, got, "w", t is not None and t.type == "w")
                result = "w"
            elif opcode == "given":
                self.expect(func, at, got, "", imm in buffers)
                result = "i"
            elif opcode in ("load", "store", "accumulate", "accrue"):
                if opcode[:2] == "ac" and lanes >= 0:
                    width = func.ops[loops[lanes][0]][2]
                    if width > 1 and width % ROUND[self.dtype]:
                        raise self.fault(func, at, f"{width} lanes are no whole rounds of sums")
                result = self.access(func, at, opcode, reads, imm, got, buffers, lanes >= 0)
            elif opcode == "for":
                self.expect(func, at, got, "ii", isinstance(imm, int) and imm >= 0)
                if imm:
                    if lanes >= 0:
                        raise self.fault(func, at, "lanes loops do not nest")
                    lanes = len(loops)
                loops.append((at, []))
                result = "i"
            elif opcode == "carry":
                if not loops or len(reads) != 1 or loops[-1][0] + len(loops[-1][1]) + 1 != at:
                    raise self.fault(func, at, "a carry stands directly after its for")
                if lanes == len(loops) - 1:
                    raise self.fault(func, at, "a lanes loop carries nothing")
                if reads[0] >= loops[-1][0]:
                    raise self.fault(func, at, "a carry starts from a value above its loop")
                loops[-1][1].append(at)
                result = got
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
                self.expect(func, at, got, "f" if opcode == "return" else "", func.pure)
                if opcode == "return" and at != len(func.ops) - 1:
                    raise self.fault(func, at, "a return is the last op")
                result = "f" if opcode == "argument" else ""
            elif opcode == "apply":
                callee = self.funcs.get(imm)
                self.expect(func, at, got, "f" * len(got), len(got) > 0)
                if callee is None or not callee.pure:
                    raise self.fault(func, at, f"no pure function {imm}")
                closed = (at, [at] * len(got))
                result = "f"
            elif opcode == "result":
                last = closed is not None and all(
                    func.ops[k][0] == "result" for k in range(closed[0] + 1, at)
                )
                if closed is None or not last or not 0 <= imm < len(closed[1]) or reads:
                    raise self.fault(func, at, "a result stands directly after its yield or apply")
                result = typed[closed[1][imm]]
            elif opcode == "call":
                callee = self.funcs.get(imm)
                if callee is None or callee.exported or callee.pure or reads:
                    raise self.fault(func, at, f"a call of no internal function: {imm}")
                if any(op[0] == "call" for op in callee.ops):
                    raise self.fault(func, at, "a called function calls nothing")
                if any(buffers.get(b.name) != b for b in callee.buffers):
                    raise self.fault(func, at, f"{imm} wants buffers that are not here")
            elif opcode == "call_at":
                name, moved = imm
                callee = self.funcs.get(name)
                self.expect(func, at, got, "i" * len(moved), len(moved) > 0)
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

    def expect(self, func: Func, at: int, got: str, want: str, good: bool) -> None:
        if got != want or not good:
            raise self.fault(func, at, f"{func.ops[at][0]} is ill-formed")

    def access(self, func: Func, at: int, opcode: str, reads: tuple[int, ...], imm: Any, got: str,
               buffers: dict[str, Buffer], in_lanes: bool) -> str:
        self.expect(func, at, "", "", isinstance(imm, tuple) and len(imm) == 2)
        name, offset = imm
        table, buffer = self.tables.get(name), buffers.get(name)
        wants = {"load": "", "store": "f"}.get(opcode, "ff")
        value, index = got[: len(wants)], got[len(wants) :]
        if index not in ("", "i") or value != wants:
            raise self.fault(func, at, f"{opcode} is ill-formed")
        if not table and not buffer:
            raise self.fault(func, at, f"no buffer or table {name}")
        size = len(table.values) if table else buffer.size if buffer else 0
        if not index and (offset < 0 or offset >= size != OPEN):
            raise self.fault(func, at, f"{name}[{offset}] lies outside its {size} elements")
        kind = "table" if table else buffer.kind if buffer else ""
        good = {"load": ("in", "inout", "value", "indices", "work", "private", "table"),
                "store": ("out", "inout", "work", "private")}.get(opcode, ("inout", "work"))
        if kind not in good or (kind == "private" and not in_lanes):
            raise self.fault(func, at, f"{opcode} of {name}, which is {kind}")
        held = table.type if table else "i" if kind == "indices" else "f"
        return held if opcode == "load" else ""
