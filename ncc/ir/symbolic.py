"""Symbolic terms: nodes of a graph in which equal nodes are one, in a few normal forms."""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

from ncc.scalar.numpy_eval import Numpy
from ncc.scalar.opcodes import COMMUTES, OPCODES

Node = tuple[str, Any, tuple[int, ...]]  # what it is, its immediate (hashable), its children
_ONE: Final = struct.pack("<d", 1.0)
_MINUS_ONE: Final = struct.pack("<d", -1.0)
_MINUS_ZERO: Final = struct.pack("<d", -0.0)


class Terms:
    """A store of terms: equal ones have one number."""

    def __init__(self, dtype: str, fused: bool) -> None:
        self.numbers: dict[Node, int] = {}
        self.nodes: list[Node] = []
        self.evaluate = Numpy(dtype, fused)
        self.zero = self.index(0)

    def make(self, what: str, imm: Any = None, children: tuple[int, ...] = ()) -> int:
        node = (what, imm, children)
        number = self.numbers.get(node)
        if number is None:
            number = self.numbers[node] = len(self.nodes)
            self.nodes.append(node)
        return number

    def real(self, value: float) -> int:
        return self.make("const", struct.pack("<d", value))

    def word(self, value: int) -> int:
        return self.make("word", int(self.evaluate.word(value)))

    # Indices: constant + sum of coefficient * atom, atoms ascending.

    def index(self, constant: int) -> int:
        return self.make("index", (constant, ()))

    def parts(self, term: int) -> tuple[int, dict[int, int]]:
        """An index as its constant and its coefficients by atom."""
        what, imm, children = self.nodes[term]
        if what != "index":
            return 0, {term: 1}
        constant, coefficients = imm
        return constant, dict(zip(children, coefficients, strict=True))

    def affine(self, constant: int, coefficients: dict[int, int]) -> int:
        kept = sorted((a, c) for a, c in coefficients.items() if c)
        if constant == 0 and len(kept) == 1 and kept[0][1] == 1:
            return kept[0][0]
        return self.make("index", (constant, tuple([c for _, c in kept])),
                         tuple([a for a, _ in kept]))

    def index_op(self, opcode: str, a: int, b: int) -> int:
        (first, x), (second, y) = self.parts(a), self.parts(b)
        if opcode == "iadd":
            for atom, c in y.items():
                x[atom] = x.get(atom, 0) + c
            return self.affine(first + second, x)
        if opcode in ("imin", "idiv"):
            if not x and not y:
                return self.index(int(self.evaluate.op(opcode, first, second)))
            if opcode == "imin" and a > b:
                a, b = b, a
            return self.make(opcode, None, (a, b))
        if x and y:
            return self.make("imul", None, (a, b) if a < b else (b, a))
        scale, constant, scaled = (first, second, y) if not x else (second, first, x)
        return self.affine(scale * constant, {atom: scale * c for atom, c in scaled.items()})

    def address(self, index: int) -> tuple[int, int]:
        """An index as a symbolic part without a constant, and the constant."""
        what, imm, children = self.nodes[index]
        if what != "index" or not children:
            return (self.zero, imm[0]) if what == "index" else (index, 0)
        return self.affine(0, dict(zip(children, imm[1], strict=True))), imm[0]

    # Reals and words.

    def apply(self, opcode: str, args: tuple[int, ...]) -> int:
        """The term of an op of `OPCODES`, in its normal form. A NaN is never folded."""
        row = OPCODES[opcode]
        if opcode == "any":
            return self.make("any", None, args)
        if row.result == "i":
            return self.index_op(opcode, *args)
        nodes = self.nodes
        if opcode == "sub":  # a - b == a + -b
            opcode, args = "add", (args[0], self.apply("neg", (args[1],)))
        if opcode == "real":
            constant, atoms = self.parts(args[0])
            if not atoms:
                return self.real(float(self.evaluate.real(constant)))
        elif row.result in "fw" and opcode != "mask" and all(
                [nodes[a][0] in ("const", "word") for a in args]):
            value = self.constant(opcode, args)
            if value == value:
                return self.real(value) if row.result == "f" else self.word(int(value))
        if opcode in COMMUTES and args[0] > args[1]:
            args = (args[1], args[0], *args[2:])
        if opcode == "mul":
            for x, one in (args, args[::-1]):
                held = self.bits(one)
                if held == _ONE:
                    return x
                if held == _MINUS_ONE:
                    return self.apply("neg", (x,))
        elif opcode == "add":
            for x, zero in (args, args[::-1]):
                if self.bits(zero) == _MINUS_ZERO:
                    return x
        elif opcode == "fma":
            for x, one in (args[:2], args[1::-1]):
                held = self.bits(one)
                if held == _ONE or held == _MINUS_ONE:
                    x = x if held == _ONE else self.apply("neg", (x,))
                    return self.apply("add", (x, args[2]))
            if self.bits(args[2]) == _MINUS_ZERO:
                return self.apply("mul", args[:2])
        elif opcode == "div":
            if self.bits(args[1]) == _ONE:
                return args[0]
        elif opcode == "neg" and nodes[args[0]][0] == "neg":
            return nodes[args[0]][2][0]
        return self.make(opcode, None, args)

    def bits(self, term: int) -> bytes | None:
        what, imm, _ = self.nodes[term]
        return imm if what == "const" else None

    def constant(self, opcode: str, args: tuple[int, ...]) -> Any:
        held = []
        for a in args:
            what, imm, _ = self.nodes[a]
            held.append(self.evaluate.const(struct.unpack("<d", imm)[0]) if what == "const"
                        else self.evaluate.word(imm))
        return np.asarray(self.evaluate.op(opcode, *held)).item()

    # Memory.

    def memory(self, version: int, cells: dict[int, int], symbol: int | None = None) -> int:
        """`version` with cells [symbol + k] overwritten."""
        if not cells:
            return version
        at = sorted(cells)
        base = self.zero if symbol is None else symbol
        return self.make("stored", tuple(at), (version, base, *[cells[k] for k in at]))

    # Words about a difference.

    def difference(self, a: int | None, b: int | None) -> str:
        """The two terms where they first differ, going down while only one child does."""
        while a is not None and b is not None:
            (what, imm, children), (what_now, imm_now, now) = self.nodes[a], self.nodes[b]
            apart = [k for k, (x, y) in enumerate(zip(children, now, strict=False)) if x != y]
            if (what, imm, len(children)) != (what_now, imm_now, len(now)) or len(apart) != 1:
                break
            a, b = children[apart[0]], now[apart[0]]
        return f"before: {self.show(a)}; after: {self.show(b)}"

    def show(self, term: int | None, depth: int = 3) -> str:
        """A term, cut off below `depth`."""
        if term is None:
            return "nothing"
        what, imm, children = self.nodes[term]
        if what == "const":
            return repr(struct.unpack("<d", imm)[0])
        if what == "table":
            return f"table of {len(imm[1])} bytes"
        shown = "" if imm is None else f" {imm!r:.40}"
        if not children:
            return what + shown
        inside = ["..."] if depth == 0 else [self.show(c, depth - 1) for c in children[:4]]
        return f"{what}{shown}({', '.join(inside)}{', ...' if len(children) > 4 else ''})"
