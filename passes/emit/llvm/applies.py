"""Calls of pure functions: of vectors, several at a time."""

from __future__ import annotations

from collections.abc import Sequence

from ncc.ir.ssa import Func, Op
from ncc.passes.emit.llvm.writer import Variant, Writer

ABREAST = 2  # vectors that a pure function takes at once: the one's latency hides the other's


def result_type(w: Writer, variant: Variant, letters: Sequence[str] = "f") -> str:
    """The type of so many vectors of each of these types."""
    kinds = []
    for letter in letters:
        scalar = w.type(letter)
        kind = f"<{variant.native} x {scalar}>" if variant.native > 1 else scalar
        kinds += [kind] * variant.parts
    return f"{{ {', '.join(kinds)} }}" if len(kinds) > 1 else kinds[0]


def apply(w: Writer, at: int) -> None:
    """Write an apply, and the results behind it: of vectors, ABREAST in a call."""
    _, reads, name = w.func.ops[at]
    for result, read in enumerate(reads, at):
        if not w.varying[at]:
            w.scalar[result] = called(w, Variant(name, 1, 1), [w.scalar[read]])[0]
            continue
        parts = w.vectors[read]
        w.vectors[result] = [
            value for p in range(0, len(parts), ABREAST) for value in called(
                w, Variant(name, w.native, len(parts[p : p + ABREAST])),
                parts[p : p + ABREAST])]


def apply_rare(w: Writer, at: int) -> None:
    """What a loop of a pure function computes of one value where something rare holds: applied,
    as other functions have the same, and it is long."""
    ops = w.func.ops
    count = len(w.loops[-1][1])
    first, end = at + 1 + count, next(
        k for k in range(at, len(ops)) if ops[k][0] == "yield") - count
    if ops[ops[at][1][1]][0] != "any" or {op[0] for op in ops[end : end + count]} != {"select"}:
        return
    above = sorted({r for op in ops[first:end] for r in op[1] if r < first})
    argument = [r for r in above if ops[r][0] not in ("const", "word")]
    made = [op[1][1] for op in ops[end : end + count]]
    if len(argument) != 1 or w.types[argument[0]] != "f" or min(made) < first:
        return
    number = {r: k for k, r in enumerate([*argument, *[r for r in above if r != argument[0]],
                                          *range(first, end)])}
    body: list[Op] = [("argument", (), None)]
    for r in list(number)[1:]:
        opcode, reads, imm = ops[r]
        body.append((opcode, tuple([number[k] for k in reads]), imm))
    body.append(("return", tuple([number[r] for r in made]), None))
    func = w.unit.rare.setdefault(tuple(body), Func(
        f"rare{len(w.unit.rare)}", (), body, exported=False, pure=True))
    variant = Variant(func.name, w.native, w.parts())
    x = w.vectors[argument[0]] if w.varying[argument[0]] else [w.scalar[argument[0]]]
    results = called(w, variant, x, [w.types[r] for r in made])
    for k, r in enumerate(made):
        mine = results[k * len(x) : (k + 1) * len(x)]
        w.vectors[r], w.scalar[r] = mine, mine[0]
    w.done = end


def called(w: Writer, variant: Variant, arguments: Sequence[str], letters: Sequence[str] = "f"
           ) -> list[str]:
    """Write a call of a variant: its results, of each value the vectors."""
    w.unit.applied[variant] = None
    kind, whole = result_type(w, variant._replace(parts=1)), result_type(w, variant, letters)
    result = w.add(f"call fastcc {whole} @{w.unit.symbol(variant.symbol)}("
                   + ", ".join([f"{kind} {a}" for a in arguments]) + ")")
    if variant.parts * len(letters) == 1:
        return [result]
    return [w.add(f"extractvalue {whole} {result}, {p}")
            for p in range(variant.parts * len(letters))]
