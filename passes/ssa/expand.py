"""Mathematics becomes arithmetic: no libm, any lane width."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ncc.ir.ssa import UNLINKED, Func, Module, Op
from ncc.ir.ssa_build import Builder
from ncc.machine.x86 import SOME
from ncc.scalar.coefficients import EXP_NEAR
from ncc.scalar.mathlib import BY_EXP, SEQUENCES, exp_below, exp_near
from ncc.scalar.mathlib_builder import Emitter, Value
from ncc.scalar.opcodes import OPCODES

INLINE = 300  # ops of a function with all sequences in it
SHORT = 8  # ops: of a sequence that takes no more than a call


def expand(module: Module, *, native_sqrt: bool = True, inline: int = INLINE,
           assembles: bool = False, small: bool = False, native: int = 1) -> Module:
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

    Where code is to be `small`, on a machine without vectors (`native` 1), no sequence stands twice
    in the module: what would is applied, and so is `exp` in tanh, sigmoid and erf, if several of
    these are used.
    """
    builder = Builder(module.dtype, module.fused)
    for table in module.tables:
        if table.type == "w":
            builder.tables[tuple(table.values.tolist())] = table
    sequences = {name: (name, SEQUENCES[name]) for name, row in OPCODES.items() if row.math}
    if native_sqrt:
        del sequences["sqrt"]
    often: set[str] = set()
    if small and native == 1:
        module, sequences["exp"] = _by_exp(module, builder, sequences["exp"])
        often = _often(module)
    made = {f.name: f for f in module.funcs if f.pure}
    bodies: dict[str, Func] = {}  # by opcode, its sequence as a function
    funcs = []
    for func in module.funcs:
        counts = Counter([op[0] for op in func.ops])
        for opcode in sorted(counts.keys() & sequences.keys() - bodies.keys()):
            bodies[opcode] = _pure(*sequences[opcode], builder)
        used = {opcode: made.get(body.name, body) for opcode, body in sorted(bodies.items())
                if opcode in counts}
        whole = len(func.ops) + sum([counts[name] * len(f.ops) for name, f in used.items()])
        side = 1
        if assembles and len(func.ops) > SOME and "for" not in counts:
            side = 4 if module.dtype == "f32" else 2
        applied = {opcode: f for opcode, f in used.items() if len(f.ops) > SHORT and (
            side > 1 or whole > inline or opcode in often)}
        made |= {f.name: f for f in applied.values()}
        funcs.append(_expand(func, builder, bodies, applied, side))
    old = [t for t in module.tables if t.type != "w"]
    pure = _linked([f for f in made.values() if f not in module.funcs], funcs)
    return module.with_(funcs=(*pure, *funcs), tables=(*old, *builder.tables.values()))


Sequence = tuple[str, Callable[[Emitter, Value], Value]]  # the name of its function, and itself


def _pure(name: str, sequence: Callable[[Emitter, Value], Value], builder: Builder) -> Func:
    """A function of the name and sequence."""
    b = Builder(builder.dtype, builder.fused, [], builder.tables)
    b.emit("return", (sequence(b, b.emit("argument")),))
    return Func(name, (), b.ops, exported=False, pure=True)


def _linked(pure: list[Func], funcs: list[Func]) -> list[Func]:
    """The pure functions, those that are applied for one neuron alone with that neuron."""
    if not any(func.neurons for func in funcs):
        return pure
    users: dict[str, set[int]] = {}
    for func in funcs:
        name = ""
        for at, (opcode, _, imm) in enumerate(func.ops):
            if opcode == "apply":
                name = imm
            if opcode == "apply" or (opcode == "result" and name):  # one of its results
                users.setdefault(name, set()).add(func.neurons[at] if func.neurons else UNLINKED)
            else:
                name = ""
    return [replace(func, neurons=list(found) * len(func.ops))
            if len(found := users.get(func.name, set())) == 1 and UNLINKED not in found else func
            for func in pure]


def _often(module: Module) -> set[str]:
    """The opcodes that stand in the module more than once."""
    counts = Counter(op[0] for func in module.funcs for op in func.ops)
    return {opcode for opcode, count in counts.items() if count > 1}


def _by_exp(module: Module, builder: Builder, exp: Sequence) -> tuple[Module, Sequence]:
    """The module with the opcode exp in all that can be made by it, if several such are in it; and
    which exp is enough."""
    there = {op[0] for func in module.funcs for op in func.ops}
    if len(there & {"exp", *BY_EXP}) < 2 or any(func.pure for func in module.funcs):
        return module, exp
    bodies = {name: _pure(name, BY_EXP[name], builder) for name in sorted(BY_EXP)
              if name in there}
    often = _often(module)
    applied = {name: body for name, body in bodies.items() if name in often}
    funcs = [_expand(func, builder, bodies, applied, 1) for func in module.funcs]
    return (module.with_(funcs=(*applied.values(), *funcs)),
            exp if "exp" in there else ("exp_below", exp_below))


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


def _expand(func: Func, builder: Builder, bodies: dict[str, Func],
            applied: dict[str, Func], side: int) -> Func:
    """The ops of `bodies` are these; of those that are applied, `side` neighbours of one opcode, or
    fewer, are one apply."""
    b = Builder(builder.dtype, builder.fused, [], builder.tables)
    new: list[int] = []
    ops = func.ops
    groups = _groups(ops, applied, side) if side > 1 else {}
    near = _near(ops, builder.dtype) if "exp" in bodies and "exp" not in applied else set()
    for at, op in enumerate(ops):
        if at < len(new):  # together with the one before
            continue
        opcode, reads, imm = op
        if opcode in applied:
            end = groups.get(at, at + 1)
            arguments = tuple([new[ops[k][1][0]] for k in range(at, end)])
            new.append(b.emit("apply", arguments, applied[opcode].name))
            new += [b.emit("result", (), k) for k in range(1, end - at)]
        elif at in near:
            new.append(exp_near(b, new[reads[0]]))
        elif opcode in bodies:
            new.append(_inline(b, bodies[opcode], new[reads[0]]))
        else:
            if reads and len(b.ops) > at:  # else each op was one so far, and has its number
                op = (opcode, tuple([new[r] for r in reads]), imm)
            new.append(len(b.ops))
            b.ops.append(op)
    return func.with_ops(b.ops, new)


def _inline(b: Builder, body: Func, x: int) -> int:
    """The value that a pure function makes of x, by its ops in place."""
    first = len(b.ops) - 1  # the number of its op k is first + k; its op 0 is its argument
    for opcode, reads, imm in body.ops[1:-1]:
        b.ops.append((opcode, tuple([first + r if r else x for r in reads]), imm))
    result = body.ops[-1][1][0]
    return first + result if result else x


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
