"""Mathematics becomes arithmetic: no libm, any lane width."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from ncc.ir.ssa import Func, Module, Op
from ncc.ir.ssa_build import Builder
from ncc.machine.x86 import SOME
from ncc.scalar.coefficients import EXP_NEAR
from ncc.scalar.mathlib import SEQUENCES, exp_near
from ncc.scalar.opcodes import OPCODES

INLINE = 300  # ops of a function with all sequences in it
SHORT = 8  # ops: of a sequence that takes no more than a call


def expand(module: Module, *, native_sqrt: bool = True, inline: int = INLINE,
           assembles: bool = False) -> Module:
    """Replace every mathematical op by its sequence from `ncc/scalar/mathlib.py`.

        func forward(x in 1, y out 1) {          func forward(x in 1, y out 1) {
          %0 = load x[0]                           %0 = load x[0]
          %1 = relu %0                     =>      %1 = const 0.0
          store %1, y[0]                           %2 = le %0, %1
        }                                          %3 = select %2, %1, %0
                                                   store %3, y[0]
                                                 }

    In a function that would be longer than `inline` ops, each but the shortest is an `apply` of a
    pure function instead, which holds the sequence once; in long straight functions that ncc
    `assembles` itself, neighbours are applied together. `sqrt` stays where the target has the
    instruction, which rounds correctly, as the sequence; `exp` of what is clamped, and so needs no
    clamp and no second factor, is a shorter sequence with the same bits.
    """
    builder = Builder(module.dtype, module.fused)
    for table in module.tables:
        if table.type == "w":
            builder.tables[tuple(table.values.tolist())] = table
    mathematical = {name for name, row in OPCODES.items() if row.math}
    if native_sqrt:
        mathematical.remove("sqrt")
    made = {f.name: f for f in module.funcs if f.pure}
    funcs = []
    for func in module.funcs:
        counts = Counter(op[0] for op in func.ops)
        used = {name: made.get(name) or _pure(name, builder)
                for name in sorted(mathematical & counts.keys())}
        whole = len(func.ops) + sum([counts[name] * len(f.ops) for name, f in used.items()])
        side = 1
        if assembles and len(func.ops) > SOME and "for" not in counts:
            side = 4 if module.dtype == "f32" else 2
        applied = {name: f for name, f in used.items()
                   if (side > 1 or whole > inline) and len(f.ops) > SHORT}
        made |= applied
        funcs.append(_expand(func, builder, mathematical, applied, side))
    old = [t for t in module.tables if t.type != "w"]
    pure = [f for f in made.values() if f not in module.funcs]
    return module.with_(funcs=(*pure, *funcs), tables=(*old, *builder.tables.values()))


def _pure(name: str, builder: Builder) -> Func:
    """A function of the opcode's name and sequence."""
    b = Builder(builder.dtype, builder.fused, [], builder.tables)
    b.emit("return", (SEQUENCES[name](b, b.emit("argument")),))
    return Func(name, (), b.ops, exported=False, pure=True)


def _groups(ops: list[Op], applied: dict[str, Func], side: int) -> dict[int, int]:
    """Where ops that may be applied together begin, and end: neighbours of one opcode, `side` or
    fewer, none of which reads another."""
    found = {}
    end = 0
    for at, (opcode, _, _) in enumerate(ops):
        if at < end or opcode not in applied:
            continue
        end = at + 1
        while end < min(len(ops), at + side) and ops[end][0] == opcode and ops[end][1][0] < at:
            end += 1
        if end > at + 1:
            found[at] = end
    return found


def _expand(func: Func, builder: Builder, mathematical: set[str], applied: dict[str, Func],
            side: int) -> Func:
    """`side` neighbours of one opcode, or fewer, are one apply."""
    b = Builder(builder.dtype, builder.fused, [], builder.tables)
    new: list[int] = []
    ops = func.ops
    groups = _groups(ops, applied, side)
    near = _near(ops, builder.dtype) if "exp" not in applied else set()
    for at, (opcode, reads, imm) in enumerate(ops):
        if at < len(new):  # together with the one before
            continue
        if opcode in applied:
            end = groups.get(at, at + 1)
            arguments = tuple([new[ops[k][1][0]] for k in range(at, end)])
            new.append(b.emit("apply", arguments, opcode))
            new += [b.emit("result", (), k) for k in range(1, end - at)]
        elif opcode in mathematical:
            new.append((exp_near if at in near else SEQUENCES[opcode])(b, new[reads[0]]))
        else:
            b.ops.append((opcode, tuple([new[r] for r in reads]), imm))
            new.append(len(b.ops) - 1)
    return func.with_ops(b.ops, new)


def _near(ops: list[Op], dtype: str) -> set[int]:
    """The exps whose arguments are between EXP_NEAR, or NaN."""
    low, high = EXP_NEAR[dtype]
    spans: list[tuple[float, float]] = []  # of each value that is a real and no NaN
    found = set()
    for at, (opcode, reads, imm) in enumerate(ops):
        spans.append(_span(opcode, [spans[r] for r in reads], imm,
                           bool(reads) and ops[reads[-1]][0] == "const"))
        if opcode == "exp" and low <= spans[reads[0]][0] and spans[reads[0]][1] <= high:
            found.add(at)
    return found


def _span(opcode: str, of: list[tuple[float, float]], imm: Any, known: bool
          ) -> tuple[float, float]:
    """Between what a value is, unless it is NaN, by what it reads, the last of which is `known`."""
    if opcode == "const":
        return (imm, imm)
    if opcode == "neg":
        return (-of[0][1], -of[0][0])
    if opcode in ("max", "min"):  # the first of two where the second is NaN
        (low, high), other = of
        if opcode == "max":
            return (max(low, other[0]) if known else low, max(high, other[1]))
        return (min(low, other[0]), min(high, other[1]) if known else high)
    if opcode == "mul":
        products = [a * b for a in of[0] for b in of[1]]
        if all(map(math.isfinite, products)):
            return (min(products), max(products))
    return (-math.inf, math.inf)
