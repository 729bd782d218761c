"""Constants and identities, none of which changes a bit of a result."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ncc.evaluate import Numpy
from ncc.opcodes import OPCODES
from ncc.ssa import Func, Module, Op

ONE, MINUS_ONE, ZERO, MINUS_ZERO = (struct.pack("<d", v) for v in (1.0, -1.0, 0.0, -0.0))


def fold(module: Module) -> Module:
    """Compute what is constant and drop what does nothing.

        %2 = const 1.0
        %3 = mul %1, %2           =>       %4 = fma %1, %0, %0
        %4 = fma %3, %0, %0

    `x*0 -> 0`, `x+0 -> x` and reordering are absent: they change NaN, infinities or -0.
    """
    tables = {t.name: t for t in module.tables}
    evaluate = Numpy(module.dtype, module.fused)
    return module.with_(funcs=tuple(_fold(f, tables, evaluate) for f in module.funcs))


def _fold(func: Func, tables: dict[str, Any], evaluate: Numpy) -> Func:
    out: list[Op] = []
    new: list[int] = []  # the number in `out` of each op's value
    known: list[Any] = []  # by number in `out`: ("f", bytes, value) of a constant, else None

    def emit(op: Op, fact: Any = None) -> int:
        out.append(op)
        known.append(fact)
        return len(out) - 1

    def real(value: float) -> int:
        value = float(value)
        return emit(("const", (), value), ("f", struct.pack("<d", value), value))

    for opcode, reads, imm in func.ops:
        reads = tuple([new[r] for r in reads])
        if opcode == "const":
            new.append(real(imm))
            continue
        if opcode in ("word", "index"):
            new.append(emit((opcode, reads, imm), (opcode[0], b"", imm)))
            continue
        if opcode == "load" and imm[0] in tables:
            index = 0 if not reads else known[reads[0]]
            if index is not None:
                at = imm[1] + (index[2] if index else 0)
                table = tables[imm[0]]
                value = table.values[at].item()
                if table.type == "f":
                    new.append(real(value))
                else:
                    kind = "index" if table.type == "i" else "word"
                    new.append(emit((kind, (), value), (table.type, b"", value)))
                continue
        if opcode == "load" and reads and known[reads[0]] is not None:
            new.append(emit(("load", (), (imm[0], imm[1] + known[reads[0]][2]))))
            continue
        row = OPCODES.get(opcode)
        if row is None:
            new.append(emit((opcode, reads, imm)))
            continue
        facts = [known[r] for r in reads]
        if any(facts):
            if all(facts) and row.result in "fwi":
                args = [f[2] for f in facts]
                if row.result == "i":
                    value = args[0] + args[1] if opcode == "iadd" else args[0] * args[1]
                    new.append(emit(("index", (), value), ("i", b"", value)))
                    continue
                if all(f[0] == "f" for f in facts):
                    args = [evaluate.const(a) for a in args]
                else:
                    args = [evaluate.const(f[2]) if f[0] == "f" else evaluate.word(f[2])
                            for f in facts]
                result = np.asarray(evaluate.op(opcode, *args)).item()
                if row.result == "f":
                    # A NaN is left to be computed: its payload is the machine's.
                    if result == result:
                        new.append(real(result))
                        continue
                else:
                    new.append(emit(("word", (), result), ("w", b"", result)))
                    continue
            found = _identity(opcode, reads, facts)
            if isinstance(found, int):
                new.append(found)
                continue
            if found is not None:
                new.append(emit(found))
                continue
        if opcode == "neg" and out[reads[0]][0] == "neg":
            new.append(out[reads[0]][1][0])
            continue
        new.append(emit((opcode, reads, imm)))
    return func.with_ops(out)


def _identity(opcode: str, reads: tuple[int, ...], facts: list[Any]) -> Op | int | None:
    """What the op equals: an earlier value, a simpler op, or None."""
    bits = [f[1] if f is not None and f[0] == "f" else None for f in facts]
    if opcode == "mul":
        for a, b in ((0, 1), (1, 0)):
            if bits[b] == ONE:  # x * 1 == x
                return reads[a]
            if bits[b] == MINUS_ONE:  # x * -1 == -x
                return ("neg", (reads[a],), None)
    elif opcode == "add":
        for a, b in ((0, 1), (1, 0)):
            if bits[b] == MINUS_ZERO:  # x + -0 == x
                return reads[a]
    elif opcode == "sub":
        if bits[1] == ZERO:  # x - 0 == x
            return reads[0]
    elif opcode == "div":
        if bits[1] == ONE:  # x / 1 == x
            return reads[0]
    elif opcode == "fma":
        for a, b in ((0, 1), (1, 0)):
            if bits[b] == ONE:  # x*1 + c == x + c
                return ("add", (reads[a], reads[2]), None)
            if bits[b] == MINUS_ONE:  # x*-1 + c == c - x
                return ("sub", (reads[2], reads[a]), None)
        if bits[2] == MINUS_ZERO:  # a*b + -0 == a*b
            return ("mul", reads[:2], None)
    elif opcode == "iadd":
        for a, b in ((0, 1), (1, 0)):
            if facts[b] is not None and facts[b][2] == 0:
                return reads[a]
    elif opcode == "imul":
        for a, b in ((0, 1), (1, 0)):
            if facts[b] is not None and facts[b][2] == 1:
                return reads[a]
    return None
