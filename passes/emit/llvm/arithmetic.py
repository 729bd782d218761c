"""Arithmetic of the ssa level as instructions of LLVM, over scalars and vectors."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ncc.passes.emit.divide import division
from ncc.passes.emit.llvm.lanes import lane_index, masked
from ncc.passes.emit.llvm.writer import Writer
from ncc.scalar.opcodes import OPCODES

# {t} the type of reals, {w} of words, {i} of indices, {b} of truth values, {s} of the last operand,
# {m} the name of reals in intrinsics; {0} {1} {2} the operands. Two lines make two instructions;
# {last} is what the first makes.
INSTRUCTIONS = {
    "add": "fadd {t} {0}, {1}",
    "sub": "fsub {t} {0}, {1}",
    "mul": "fmul {t} {0}, {1}",
    "div": "fdiv {t} {0}, {1}",
    "fma": "call {t} @llvm.fma.{m}({t} {0}, {t} {1}, {t} {2})",
    "neg": "fneg {t} {0}",
    "abs": "call {t} @llvm.fabs.{m}({t} {0})",
    "sqrt": "call {t} @llvm.sqrt.{m}({t} {0})",
    "lt": "fcmp olt {t} {0}, {1}",
    "gt": "fcmp ogt {t} {0}, {1}",
    "le": "fcmp ole {t} {0}, {1}",
    "ge": "fcmp oge {t} {0}, {1}",
    "eq": "fcmp oeq {t} {0}, {1}",
    "une": "fcmp une {t} {0}, {1}",
    "bits": "bitcast {t} {0} to {w}",
    "unbits": "bitcast {w} {0} to {t}",
    "wadd": "add {w} {0}, {1}",
    "wsub": "sub {w} {0}, {1}",
    "wmul": "mul {w} {0}, {1}",
    "wand": "and {w} {0}, {1}",
    "wor": "or {w} {0}, {1}",
    "wxor": "xor {w} {0}, {1}",
    "wshl": "shl {w} {0}, {1}",
    "wshr": "lshr {w} {0}, {1}",
    "wsar": "ashr {w} {0}, {1}",
    "weq": "icmp eq {w} {0}, {1}",
    "wlt": "icmp slt {w} {0}, {1}",
    "iadd": "add {i} {0}, {1}",
    "imul": "mul {i} {0}, {1}",
    "imin": "icmp slt {i} {1}, {0}\nselect {b} {last}, {i} {1}, {i} {0}",
    "idiv": "udiv {i} {0}, {1}",
    # max(a, b) is b > a ? b : a: an instruction of its own where the machine has this very one
    "max": "fcmp ogt {t} {1}, {0}\nselect {b} {last}, {t} {1}, {t} {0}",
    "min": "fcmp olt {t} {1}, {0}\nselect {b} {last}, {t} {1}, {t} {0}",
    "select": "select {b} {0}, {s} {1}, {s} {2}",
    "real": "uitofp {i} {0} to {t}",
}
FAST = {"add", "sub", "mul", "div", "fma", "neg"}
INTRINSICS = ("fma", "abs", "sqrt")


def write_arithmetic(w: Writer, at: int) -> None:
    """Write an op of the table of opcodes."""
    opcode, reads, _ = w.func.ops[at]
    varying = w.varying[at]
    if varying and OPCODES[opcode].result == "i":
        w.open.affine[at] = lane_index(w, opcode, reads)
    elif opcode == "any":
        w.scalar[at] = any_lane(w, reads[0])
    elif opcode == "idiv" and (by := power(w, reads[1])) is not None:
        # What would be a call where a machine does not divide, and at -O0 stays one.
        held = w.scalar[reads[0]]
        w.scalar[at] = w.add(f"lshr {w.index} {held}, {by}") if by else held
    elif opcode == "mask":
        if varying:
            w.vectors[at] = masked(w, w.vectors[reads[0]])
        else:
            w.scalar[at] = w.scalar[reads[0]]
    elif varying:
        args, window = [w.vectors[r] for r in reads], w.window()
        letter = w.types[reads[-1]]
        w.vectors[at] = [instruction(w, opcode, [a[p] for a in args], letter, True)
                         if p in window else "" for p in range(w.parts())]
    else:
        operands = [w.scalar[r] for r in reads]
        w.scalar[at] = instruction(w, opcode, operands, w.types[reads[-1]], False)


def literal(value: float) -> str:
    """A constant as an operand."""
    # A double's bits serve both: LLVM writes a float constant as the double of its value.
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def instruction(w: Writer, opcode: str, args: Sequence[str], letter: str, vector: bool) -> str:
    """Write an op, of scalars or of vectors, that reads values of the type `letter`."""
    key = (opcode, letter, w.native if vector else 0)
    templates = w.templates.get(key)
    if templates is None:
        templates = w.templates[key] = templates_of(w, opcode, letter, vector)
    last = ""
    for template in templates:
        last = w.add(template.format(*args, last=last))
    return last


def templates_of(w: Writer, opcode: str, letter: str, vector: bool) -> list[str]:
    """The instructions with their types filled in and their operands open."""
    if opcode == "div" and not w.unit.divides:
        w.used.add(division(w.module.name))
        return [f"call float @{w.module.name}.divide(float {{0}}, float {{1}})"]
    t = w.type("f", vector)
    many = vector and w.native > 1
    m = f"v{w.native}f{w.bits}" if many else f"f{w.bits}"
    text = INSTRUCTIONS[opcode].format(
        "{0}", "{1}", "{2}", last="{last}", t=t, m=m, w=w.type("w", vector), i=w.index,
        b=w.type("b", vector), s=w.type(letter, vector))
    if opcode in INTRINSICS:
        name = text.split("@")[1].split("(")[0]
        arguments = ", ".join([t] * len(OPCODES[opcode].reads))
        w.used.add(f"declare {t} @{name}({arguments})")
    if w.flags and opcode in FAST:
        word, rest = text.split(" ", 1)
        text = f"{word} {w.flags}{rest}"
    return text.split("\n")


def multiply_add(w: Writer, a: str, b: str, total: str | None, vector: bool) -> str:
    """total + a*b."""
    if total is None:
        return instruction(w, "mul", [a, b], "f", vector)
    if w.module.fused:
        return instruction(w, "fma", [a, b, total], "f", vector)
    return instruction(w, "add", [total, instruction(w, "mul", [a, b], "f", vector)], "f", vector)


def power(w: Writer, value: int) -> int | None:
    """Of which power of two a constant index is the value, if of any: of 1 that is 0."""
    opcode, _, imm = w.func.ops[value]
    return imm.bit_length() - 1 if opcode == "index" and imm > 0 and not imm & imm - 1 else None


def any_lane(w: Writer, value: int) -> str:
    """Whether a truth value holds in any lane, as an index."""
    if not w.varying[value]:
        return w.add(f"zext i1 {w.scalar[value]} to {w.index}")
    parts, t = w.vectors[value], w.type("b", True)
    while len(parts) > 1:
        parts = [*parts[2:], w.add(f"or {t} {parts[0]}, {parts[1]}")]
    held = parts[0]
    if w.native > 1:
        name = f"@llvm.vector.reduce.or.v{w.native}i1"
        w.used.add(f"declare i1 {name}({t})")
        held = w.add(f"call i1 {name}({t} {held})")
    return w.add(f"zext i1 {held} to {w.index}")
