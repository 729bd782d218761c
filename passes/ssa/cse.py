"""Common subexpression elimination."""

from __future__ import annotations

import struct
from typing import Any

from ncc.ir.ssa import READ_ONLY, Func, Module, Op
from ncc.scalar.opcodes import COMMUTES, OPS

# Whose value is the same wherever else in the function they read the same.
PURE = frozenset(o.name for o in OPS.values() if o.effect in ("", "frame"))


def cse(module: Module) -> Module:
    """Make each distinct op once.

        func forward(x in 2, y out 1) {          func forward(x in 2, y out 1) {
          %0 = load x[0]                           %0 = load x[0]
          %1 = load x[1]                           %1 = load x[1]
          %2 = mul %0, %1                  =>      %2 = mul %0, %1
          %3 = mul %1, %0                          %3 = add %2, %2
          %4 = add %2, %3                          store %3, y[0]
          store %4, y[0]                         }
        }

    Value numbering over one forward scan; a loop's body opens a scope, so that nothing in it is
    used outside. Constants are told apart by their bits. Loads from buffers that are never
    written are pure; the others are left alone.
    """
    tables = {t.name for t in module.tables}
    return module.with_(funcs=tuple(_cse(f, tables) for f in module.funcs))


def _cse(func: Func, tables: set[str]) -> Func:
    constant = tables | {b.name for b in func.buffers if b.kind in READ_ONLY}
    out: list[Op] = []
    new: list[int] = []
    made: dict[Any, int] = {}
    scopes: list[list[Any]] = []  # the keys each open loop has added to `made`
    for op in func.ops:
        opcode, reads, imm = op
        if reads and len(out) < len(new):  # else no op is gone yet, and all numbers are the same
            op = (opcode, tuple([new[r] for r in reads]), imm)
        key: Any
        if opcode == "const":
            key = struct.pack("<d", imm)
        elif opcode in PURE and (opcode != "apply" or len(reads) == 1):  # no `result` follows
            if opcode in COMMUTES and op[1][0] > op[1][1]:
                a, b, *rest = op[1]
                op = (opcode, (b, a, *rest), imm)
            key = op
        elif opcode == "load":
            key = op if imm[0] in constant else None
        else:
            key = None
            if opcode == "for":
                scopes.append([])
            elif opcode == "yield":
                for old in scopes.pop():
                    del made[old]
        if key is not None:
            at = made.get(key)
            if at is not None:
                new.append(at)
                continue
            made[key] = len(out)
            if scopes:
                scopes[-1].append(key)
        new.append(len(out))
        out.append(op)
    return func.with_ops(out, new)
