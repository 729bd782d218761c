"""Constants and identities, none of which changes a bit of a result."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ncc.ir.ssa import OPEN, Func, Module, Op
from ncc.scalar.numpy_eval import Numpy
from ncc.scalar.opcodes import OPCODES

# What there may be something to do about whatever is known of its reads.
ALONE = frozenset({"const", "word", "index", "load", "neg"})
ONE, MINUS_ONE, ZERO, MINUS_ZERO = (struct.pack("<d", v) for v in (1.0, -1.0, 0.0, -0.0))


def fold(module: Module) -> Module:
    """Compute what is constant and drop what does nothing.

        func forward(x in 2, y out 1) {          func forward(x in 2, y out 1) {
          %0 = load x[0]                           %0 = load x[0]
          %1 = load x[1]                           %1 = load x[1]
          %2 = const 1.0                   =>      %2 = const 1.0
          %3 = mul %1, %2                          %3 = fma %1, %0, %0
          %4 = fma %3, %0, %0                      store %3, y[0]
          store %4, y[0]                         }
        }

    `x*0 -> 0`, `x+0 -> x` and reordering are absent: they change NaN, infinities or -0.
    """
    tables = {t.name: t for t in module.tables}
    evaluate = Numpy(module.dtype, module.fused)
    return module.with_(funcs=tuple(_fold(f, tables, evaluate) for f in module.funcs))


def _fold(func: Func, tables: dict[str, Any], evaluate: Numpy) -> Func:
    out: list[Op] = []
    new: list[int] = []  # the number in `out` of each op's value
    known: dict[int, Any] = {}  # by number in `out`: (type, bits, value) of a constant
    numbers = known.keys()
    sizes = {b.name: b.size for b in func.buffers}

    def emit(op: Op) -> int:
        if op[0] == "const":
            value = float(op[2])
            op = ("const", (), value)
            known[len(out)] = ("f", struct.pack("<d", value), value)
        elif op[0] in ("word", "index"):
            known[len(out)] = (op[0][0], b"", op[2])
        out.append(op)
        return len(out) - 1

    def simplify(op: Op) -> Op | int | None:
        """One step: an op, an earlier value that it is, or None where nothing is to be done."""
        opcode, reads, imm = op
        if opcode == "load":
            table = tables.get(imm[0])
            fact = known.get(reads[0]) if reads else ("i", b"", 0)
            if fact is None or not (reads or table):
                return None
            at = imm[1] + fact[2]
            size = sizes[imm[0]] if table is None else len(table.values)
            # Outside its buffer only code that is never reached can read.
            if at < 0 or at >= size != OPEN:
                return None
            if table is None:
                return ("load", (), (imm[0], at))
            kind = {"f": "const", "i": "index", "w": "word"}[table.type]
            return (kind, (), table.values[at].item())
        row = OPCODES.get(opcode)
        if row is None:
            return None
        if opcode == "neg" and out[reads[0]][0] == "neg":
            return out[reads[0]][1][0]
        facts = [known.get(r) for r in reads]
        if not any(facts) or opcode == "mask":  # what a lane holds is not known here
            return None
        if None in facts or row.result not in "fwi":
            return _identity(opcode, reads, facts)
        args = [f[2] for f in facts if f is not None]
        if row.result == "i":
            return ("index", (), int(evaluate.op(opcode, *args)))
        args = [evaluate.const(f[2]) if f[0] == "f" else
                evaluate.word(f[2]) if f[0] == "w" else f[2] for f in facts if f is not None]
        value = np.asarray(evaluate.op(opcode, *args)).item()
        if row.result == "w":
            return ("word", (), value)
        # A NaN is left to be computed: its payload is the machine's.
        return ("const", (), value) if value == value else _identity(opcode, reads, facts)

    for op in func.ops:
        opcode, reads, imm = op
        if reads and len(out) < len(new):  # else no op is gone yet, and all numbers are the same
            reads = tuple([new[r] for r in reads])
            op = (opcode, reads, imm)
        if opcode not in ALONE and numbers.isdisjoint(reads):
            new.append(len(out))
            out.append(op)
            continue
        now: Op | int = op
        while not isinstance(now, int):
            simpler = simplify(now)
            now = emit(now) if simpler is None else simpler
        new.append(now)
    return func.with_ops(out, new)


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
