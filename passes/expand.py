"""Mathematics becomes arithmetic: no libm, any lane width."""

from __future__ import annotations

from ncc.arithmetic import SEQUENCES
from ncc.opcodes import OPCODES
from ncc.ssa import Builder, Func, Module


def expand(module: Module, *, native_sqrt: bool = True) -> Module:
    """Replace every mathematical op by its sequence from `ncc/arithmetic.py`.

        %1 = relu %0        =>        %1 = const 0.0
                                      %2 = le %0, %1
                                      %3 = select %2, %1, %0

    `sqrt` stays where the target has the instruction, which rounds correctly, as the sequence.
    """
    tables = Builder(module.dtype, module.fused).tables
    for table in module.tables:
        if table.type == "w":
            tables[tuple(table.values.tolist())] = table
    funcs = []
    for func in module.funcs:
        b = Builder(module.dtype, module.fused, [], tables)
        funcs.append(_expand(func, b, native_sqrt))
    old = [t for t in module.tables if t.type != "w"]
    return module.with_(funcs=tuple(funcs), tables=(*old, *tables.values()))


def _expand(func: Func, b: Builder, native_sqrt: bool) -> Func:
    mathematical = {name for name, row in OPCODES.items() if row.math}
    if native_sqrt:
        mathematical.remove("sqrt")
    new: list[int] = []
    for opcode, reads, imm in func.ops:
        if opcode in mathematical:
            new.append(SEQUENCES[opcode](b, new[reads[0]]))
        else:
            b.ops.append((opcode, tuple([new[r] for r in reads]), imm))
            new.append(len(b.ops) - 1)
    return func.with_ops(b.ops)
