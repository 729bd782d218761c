"""The ssa module as one C99 file."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np

from ncc.errors import NccError
from ncc.ir.ssa import UNLINKED, Buffer, Func, Module, Table, layout, types
from ncc.ir.ssa_types import linked
from ncc.passes.emit.c_texts import (
    CLOSE,
    DOUBLES,
    ERRORS,
    EXPRESSIONS,
    FLASH,
    HEAD,
    HELPERS,
    LITERALS,
    METHOD,
    METHODS,
    OPEN,
    PLAIN,
    PRAGMAS,
    RESTORE,
)
from ncc.passes.emit.tables import cell
from ncc.scalar.opcodes import EFFECTS, OPCODES, OPS, SUMS


def to_c(module: Module, header: str = "") -> str:
    """One C99 file: `header` (the text of the net's header), tables, functions.

        func forward(x in 2, y out 1) {
          %0 = load x[0]
          %1 = load x[1]
          %2 = fma %0, %1, %1
          store %2, y[0]
        }
        =>
        ...
        void net_forward(const float *net_RESTRICT x, float *net_RESTRICT y)
        {
            const float v2 = fmaf(x[0], x[1], x[1]);
            y[0] = v2;
        }
        ...

    Every value is a local of its own, but for constants and for loads of what is not written,
    which stand where they are read; a lanes loop is a plain loop over samples. Needs an expanded
    module (`native_sqrt` is welcome). Raises KeyError for an opcode that has no expression, and
    NccError E604 for sums over the lanes of a vector, which the option `scalar` of `differentiate`
    and `train` avoids. Where ops have neurons, each line ends with its one, as a comment.
    """
    for func in module.funcs:
        loops: list[int] = []
        for opcode, _, imm in func.ops:
            if opcode == "for":
                loops.append(imm)
            elif opcode == "yield":
                loops.pop()
            elif opcode in SUMS and max(loops, default=0) > 1:
                raise NccError("E604", f"{func.name} sums over the lanes of vectors, which C has "
                               "not", help="--emit c of the net itself")
    real, word = ("float", "uint32_t") if module.dtype == "f32" else ("double", "uint64_t")
    bits = 32 if module.dtype == "f32" else 64
    prefix = module.name
    taken = [f.name for f in module.funcs] + [t.name for t in module.tables]
    while any(f"{prefix}_{helper}" == f"{module.name}_{name}" for helper in HELPERS
              for name in taken):
        prefix += "_"
    marks = {
        "p": prefix,
        "real": real,
        "w": word,
        "f": "f" if bits == 32 else "",
        "top": _word(1 << bits - 1, bits),
    }
    functions = [_Writer(module, func, marks).text() for func in module.funcs]
    body = "\n".join(functions)
    read = dict.fromkeys([op[2] if op[0] == "lookup" else op[2][0] for func in module.funcs
                          for op in func.ops if op[0] in ("lookup", "load")])
    tables = [_table(t, module, prefix, bits) for t in module.tables if t.name in read]
    named = [name for name in HELPERS if f"{prefix}_{name}(" in body]
    if "divide" in named:
        named = [name for name in HELPERS if name in (*named, "to_bits", "from_bits")]
    helpers = [HELPERS[name].format(**marks) for name in named]
    signs = "\n".join([*tables, body])
    names = (f"fma{marks['f']}(", f"sqrt{marks['f']}(", "INFINITY", "NAN")
    includes = ["#include <float.h>"]
    includes += ["#include <math.h>"] if any(name in signs for name in names) else []
    includes += ["#include <stddef.h>", "#include <stdint.h>"]
    parts = [HEAD, header, "\n".join(includes) + "\n"]
    exact = module.numerics != "fast"
    if exact:
        wrong = " && ".join([f"FLT_EVAL_METHOD != {m}" for m in METHODS[module.dtype]])
        parts += [ERRORS + METHOD.format(wrong=wrong, real=real) + PRAGMAS]
        parts += [DOUBLES, LITERALS.format(**marks)] if real == "double" else []
    flash = FLASH.format(**marks) if tables else ""
    parts += [OPEN.format(**marks) + flash, *helpers, *tables, *functions,
              CLOSE.format(**marks) + (f"#undef {prefix}_FLASH\n" if flash else "")]
    parts += [RESTORE] if exact else []
    return "\n".join([p for p in parts if p])


def _word(value: int, bits: int) -> str:
    shown = str(value) if 0 <= value < 100 else f"0x{value % (1 << bits):x}"
    return f"UINT{bits}_C({shown})"


def _literal(value: float, dtype: str) -> str:
    """A constant that is exactly `value`, rounded to the dtype: decimal where that is short."""
    real = float(np.float32(value)) if dtype == "f32" else value
    if math.isnan(real):
        return "NAN"
    if math.isinf(real):
        return "INFINITY" if real > 0 else "(-INFINITY)"
    short = repr(abs(real))
    if len(short) > 8 or "e" in short or Decimal(short) != Decimal(abs(real)):
        digits, exponent = abs(real).hex().split("p")
        short = f"{digits.rstrip('0').rstrip('.')}p{exponent}"
    short += "f" if dtype == "f32" else ""
    return f"(-{short})" if math.copysign(1.0, real) < 0 else short


def _table(table: Table, module: Module, prefix: str, bits: int) -> str:
    if table.type == "f":
        kind, row = "float" if bits == 32 else "double", 6
        shown = [_literal(v, module.dtype) for v in table.values.tolist()]
    elif table.type == "w":
        kind, row = f"uint{bits}_t", 128 // bits
        shown = [_word(v, bits) for v in table.values.tolist()]
    else:
        held = cell(table)
        signed = table.values.min(initial=0) < 0
        kind, row = f"{'' if signed else 'u'}int{8 * held.itemsize}_t", 16
        shown = [str(v) for v in table.values.tolist()]
    lines = ["    " + ", ".join(shown[k : k + row]) for k in range(0, len(shown), row)] or ["    0"]
    name = f"{module.name}_{table.name}"
    return (f"static const {prefix}_FLASH {kind} {name}[{max(1, len(shown))}] = {{\n"
            + ",\n".join(lines) + "\n};\n")


class _Writer:
    """Writes one function; `values` are the C expressions of values so far."""

    def __init__(self, module: Module, func: Func, marks: dict[str, str]) -> None:
        self.module = module
        self.func = func
        self.marks = marks
        self.tables = {t.name: t for t in module.tables}
        self.kinds = {b.name: b.kind for b in func.buffers}
        self.types = types(func, {t.name: t.type for t in module.tables})
        self.live = _live(func)
        self.read = dict.fromkeys([r for op in func.ops for r in op[1]])
        self.values: list[str] = []
        self.lines: list[str] = []
        self.neuron = UNLINKED  # of the op that is written
        self.depth = 1

    def text(self) -> str:
        func, module = self.func, self.module
        loops: list[tuple[int, list[int]]] = []
        done: list[int] = []
        applied: list[str] = []  # the calls of the apply before, if no loop was closed since
        for at, (opcode, reads, imm) in enumerate(func.ops):
            if not self.live[at]:
                self.values.append("")
                continue
            value = f"v{at}"
            self.neuron = func.neurons[at] if func.neurons is not None else UNLINKED
            args = [self.values[r] for r in reads]
            if opcode in OPCODES:
                self.local(at, self.expression(opcode, args))
            elif opcode == "const":
                value = _literal(imm, module.dtype)
            elif opcode == "word":
                value = _word(imm, 32 if module.dtype == "f32" else 64)
            elif opcode == "index":  # counted backwards, it wraps around as indices do
                value = str(imm) if imm >= 0 else f"(size_t){imm}"
            elif opcode == "count":
                value = "n"
            elif opcode == "lookup":
                self.local(at, f"{module.name}_{imm}[{args[0]}]")
            elif opcode == "load":
                place = self.place(imm, args)
                if self.stays(imm[0], reads):
                    value = place
                else:
                    self.local(at, place)
            elif opcode == "store":
                self.line(f"{self.place(imm, args[1:])} = {args[0]};")
            elif opcode in SUMS:
                self.accumulate(self.place(imm, args[2:]), args[0], args[1])
            elif opcode == "given":
                self.local(at, f"{self.name(imm)} != NULL")
            elif opcode == "for":
                carries: list[int] = []
                while func.ops[at + 1 + len(carries)][0] == "carry":
                    c = at + 1 + len(carries)
                    carries.append(c)
                    first = self.values[func.ops[c][1][0]]
                    self.line(f"{self.type(c)} v{c} = {first};")
                value = f"i{at}"
                lo, hi = args
                # `< 0` is never true of a size_t, and compilers say so.
                more = f"{value} < {hi}" if hi != "0" else f"{value} != {lo}"
                self.line(f"for (size_t {value} = {lo}; {more}; {value}++) {{")
                self.depth += 1
                loops.append((at, carries))
            elif opcode == "yield":
                start, done = loops.pop()
                self.next(done, args)
                self.depth -= 1
                self.line("}")
                for c in done:
                    if c not in self.read:
                        self.line(f"(void)v{c};")
            elif opcode == "call_at":
                moved = dict(zip(imm[1], args, strict=True))
                passed = [f"{self.name(b)} + {moved[b.name]}" if b.name in moved else self.name(b)
                          for b in module.func(imm[0]).buffers]
                self.line(f"{module.name}_{imm[0]}({', '.join(passed)});")
            elif opcode == "apply":
                applied = [f"{module.name}_apply_{imm}({arg})" for arg in args]
                self.local(at, applied[0])
                done = []
            elif opcode == "argument":
                value = "x"
            elif opcode == "return":
                self.line(f"return {args[0]};")
            elif opcode == "result" and not done:
                self.local(at, applied[imm])
            elif opcode == "result":
                value = f"v{done[imm]}"
            elif opcode == "call":
                passed = [self.name(b) for b in module.func(imm).buffers]
                self.line(f"{module.name}_{imm}({', '.join(passed)});")
            self.values.append(value)
        return self.head() + "\n".join(self.lines) + "\n}\n"

    def head(self) -> str:
        """The signature, and a cast to void for each parameter that the body does not name."""
        func = self.func
        real = self.marks["real"]
        if func.pure:
            return f"static {real} {self.module.name}_apply_{func.name}(const {real} x)\n{{\n"
        named = dict.fromkeys([op[2][0] for at, op in enumerate(func.ops)
                               if OPS[op[0]].imm == "place" and self.live[at]])
        named.update(dict.fromkeys([op[2] for at, op in enumerate(func.ops)
                                    if op[0] == "given" and self.live[at]]))
        for op in func.ops:
            if op[0] in ("call", "call_at"):
                callee = self.module.func(op[2] if op[0] == "call" else op[2][0])
                named.update(dict.fromkeys([b.name for b in callee.buffers]))
        parameters = ["size_t n"] if func.counted else []
        first = []
        counts = any(op[0] == "count" and self.live[at] for at, op in enumerate(func.ops))
        if func.counted and not counts:
            first.append("    (void)n;\n")
        restrict = self.marks["p"] + "_RESTRICT"
        offsets, _ = layout(func)
        memory = any(name in named for name in offsets)
        for b in func.buffers:
            name = self.name(b)
            kind = {"in": f"const {real}", "indices": "const uint32_t"}.get(b.kind, real)
            if b.kind == "value":
                parameters.append(f"{real} {name}")
                if b.name not in named:
                    first.append(f"    (void){name};\n")
                continue
            if b.name in offsets and func.exported:
                if f"void *{restrict} memory" not in parameters:
                    parameters.append(f"void *{restrict} memory")
                    if not memory:
                        first.append("    (void)memory;\n")
                if b.name in named:
                    at = offsets[b.name]
                    shown = f"({real} *)memory" + (f" + {at}" if at else "")
                    first.append(f"    {real} *const {name} = {shown};\n")
                continue
            parameters.append(f"{kind} *{restrict} {name}")
            if b.name not in named:
                first.append(f"    (void){name};\n")
        linkage = "" if func.exported else "static "
        shown = ", ".join(parameters) or "void"
        return (f"{linkage}void {self.module.name}_{func.name}({shown})\n{{\n" + "".join(first)
                + ("\n" if first and self.lines else ""))

    def expression(self, opcode: str, args: list[str]) -> str:
        own = opcode == "div" and self.module.dtype == "f32"
        return ("{p}_divide({0}, {1})" if own else EXPRESSIONS[opcode]).format(*args, **self.marks)

    def name(self, buffer: Buffer | str) -> str:
        name = buffer if isinstance(buffer, str) else buffer.name
        return name if name in PLAIN else f"b_{name}"

    def type(self, at: int) -> str:
        return {"f": self.marks["real"], "w": self.marks["w"], "i": "size_t", "b": "int"}[
            self.types[at]]

    def line(self, text: str) -> None:
        self.lines.append(linked("    " * self.depth + text, self.neuron))

    def local(self, at: int, expression: str) -> None:
        self.line(f"const {self.type(at)} v{at} = {expression};")

    def place(self, imm: tuple[str, int], index: list[str]) -> str:
        name, offset = imm
        if self.kinds.get(name) == "value":
            return name
        base = f"{self.module.name}_{name}" if name in self.tables else self.name(name)
        if not index:
            return f"{base}[{offset}]"
        more = f" {'+' if offset > 0 else '-'} {abs(offset)}" if offset else ""
        return f"{base}[{index[0]}{more}]"

    def stays(self, name: str, reads: tuple[int, ...]) -> bool:
        """Whether a load means the same wherever it is read: nobody writes there, and its index is
        no carry, which moves on. Indices are widened once, in a local."""
        table = self.tables.get(name)
        if table.type != "f" if table is not None else self.kinds[name] not in ("in", "value"):
            return False
        return all(self.func.ops[r][0] not in ("carry", "result") for r in reads)

    def accumulate(self, place: str, a: str, b: str) -> None:
        if self.module.fused:
            self.line(f"{place} = fma{self.marks['f']}({a}, {b}, {place});")
        else:
            self.line(f"{place} = {place} + {a} * {b};")

    def next(self, carries: list[int], args: list[str]) -> None:
        """All carries move at once: one whose old value a later one takes is kept aside."""
        names = [f"v{c}" for c in carries]
        moved: list[str] = []
        for k, arg in enumerate(args):
            if arg in names[:k] and arg != names[k]:
                self.line(f"const {self.type(carries[k])} next{carries[k]} = {arg};")
                moved.append(f"next{carries[k]}")
            else:
                moved.append(arg)
        for name, arg in zip(names, moved, strict=True):
            if name != arg:
                self.line(f"{name} = {arg};")


def _live(func: Func) -> list[bool]:
    """What a store or a loop needs; the compiler would warn of locals that nothing reads."""
    live = [False] * len(func.ops)
    effects = EFFECTS | {"for", "yield", "carry", "return"}
    for at in range(len(func.ops) - 1, -1, -1):
        opcode, reads, _ = func.ops[at]
        if live[at] or opcode in effects:
            live[at] = True
            for r in reads:
                live[r] = True
    return live
