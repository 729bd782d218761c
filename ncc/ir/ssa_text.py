"""The ssa level's text back to its object: the inverse of `str(module)`."""

from __future__ import annotations

import re
from math import isfinite, isinf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError, Source, Span
from ncc.ir.ssa import DTYPES, KINDS, OPEN, Buffer, Func, Module, Op, Table
from ncc.parsing import Token, Tree, ended
from ncc.parsing import read as tree_of
from ncc.scalar.opcodes import OPS

_VALUE: Final = re.compile(r"%(\d+)")
_PLACE: Final = re.compile(r"(\w+)\[(?:%(\d+)(?:[ \t]++\+[ \t]++(-?\d+))?+|(-?\d+))\]")
_LINE: Final = re.compile(
    r"[ \t]*+(?:%(?P<number>\d++)[ \t]++=[ \t]++)?+(?P<word>\}[ \t]++yield|\w++)[ \t]*+"
    r"(?P<rest>[^\n/]*+)"
)


def read(source: Source) -> Module:
    """The module that the text shows, verified: `str(read(Source(name, str(m)))) == str(m)`, and
    so are the objects.

    Reals are exact: every digit sequence that str() prints names one real of the dtype. Raises
    NccError (status 1, with line and column): E001 outside the grammar, E315 a value that does
    not fit, E300 a rule of the level that is broken.
    """
    source = ended(source)
    try:
        tree = tree_of("ssa", source)
    except NccError as error:
        raise _explain(source, error) from None
    return _Reader(source).module(tree)


def _explain(source: Source, error: NccError) -> NccError:
    """The same error, at the first character of the line that the grammar stopped in."""
    number = error.line or 1
    line = source.line(number)
    start = len(line) - len(line.lstrip())
    if error.message == "the text ends too early":
        return error
    words = line.strip()
    message = f"no line of an ssa text: {words[:60]!r}" if words else "the text ends too early"
    span = Span(number, start + 1, max(1, len(words)))
    return NccError("E001", message, source, span, note="the lines are those of grammar/ssa.lark")


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.dtype = "f32"
        self.heads: dict[str, int] = {}  # the line of each function's and table's head
        self.lines: dict[str, list[int]] = {}  # the line of each op, by function

    def fault(self, line: int, what: str, message: str) -> NccError:
        """At the first `what` of the line (blanks around it only choose which), or its start."""
        text = self.source.line(line)
        at = text.find(what)
        at = at + len(what) - len(what.lstrip()) if at >= 0 else len(text) - len(text.lstrip())
        what = what.strip()
        return NccError("E315", message, self.source, Span(line, at + 1, max(1, len(what))))

    def module(self, tree: Tree[Token]) -> Module:
        head, *rest = tree.children
        _, name, dtype, numerics = str(head).split("//")[0].split()
        if dtype not in DTYPES:
            raise self.fault(_line(head), dtype, f"no dtype {dtype}: f32 or f64")
        self.dtype = dtype
        tables = []
        funcs = []
        for part in rest:
            if isinstance(part, Token):
                tables.append(self.table(part))
            else:
                funcs.append(self.func(part))
        module = Module(name, dtype, numerics, tuple(funcs), tuple(tables))
        module.verify(place=self.place)
        return module

    def place(self, name: str, at: int | None) -> tuple[Source, Span]:
        """Where op `at` of a function stands, or a head, or the module's."""
        number = self.heads.get(name, 1)
        lines = self.lines.get(name, ())
        if at is not None and at < len(lines):
            number = lines[at]
        line = self.source.line(number)
        words = line.strip()
        return self.source, Span(number, line.find(words) + 1, max(1, len(words)))

    def table(self, token: Token) -> Table:
        line = _line(token)
        head, _, values = str(token).split("//")[0].partition(":")
        _, name, type = head.split()
        self.heads.setdefault(name, line)
        words = values.split()
        if type not in ("f", "i", "w"):
            raise self.fault(line, f" {type}", f"no type of a table: {type}")
        bits = 64 if type == "w" and self.dtype == "f64" else 32
        kind = DTYPES[self.dtype] if type == "f" else np.dtype(f"i{bits // 8}")
        array = _fast(words, type == "f", kind)
        if array is None:  # a word at a time, for the fault or for the infinities
            array = np.array([self.real(line, w) if type == "f" else self.integer(line, w, bits)
                              for w in words], kind)
        return Table(name, type, array)

    def real(self, line: int, word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            raise self.fault(line, word, f"no number: {word}") from None
        if self.dtype == "f32" and isfinite(value):
            with np.errstate(over="ignore"):
                value = float(np.float32(value))
        if isinf(value) and "inf" not in word:
            raise self.fault(line, word, f"{word} overflows {self.dtype}")
        return value

    def integer(self, line: int, word: str, bits: int) -> int:
        try:
            value = int(word)
        except ValueError:
            raise self.fault(line, word, f"no integer: {word}") from None
        if not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise self.fault(line, word, f"{word} does not fit {bits} bits")
        return value

    def func(self, tree: Tree[Token]) -> Func:
        head, *bodies = tree.children
        line = _line(head)
        shown = str(head).split("//")[0]
        kind, name = shown.partition("(")[0].split()
        self.heads.setdefault(name, line)
        inside = shown[shown.index("(") + 1 : shown.index(")")]
        parameters = [p.split() for p in inside.split(",")] if inside.strip() else []
        counted = parameters[:1] == [["count"]]
        buffers = []
        for words in parameters[1 if counted else 0 :]:
            if words == ["count"]:
                raise self.fault(line, "count", "the count of samples comes first, once")
            if words[1] not in KINDS:
                raise self.fault(line, f" {words[1]} ",
                                 f"no kind of buffer: {words[1]}; one of {', '.join(KINDS)}")
            size = OPEN if words[2] == "*" else self.integer(line, words[2], 64)
            if size < 0 and words[2] != "*":
                raise self.fault(line, f" {words[2]}", "bad buffer: its size is negative")
            buffers.append(Buffer(words[0], words[1], size))
        ops: list[Op] = []
        # A function whose name is taken keeps the places of the first: that is the fault.
        lines = self.lines.setdefault(name, [])
        for token in bodies[:-1]:  # the last is the closing brace
            first = _line(token)
            for number, text in enumerate(str(token).split("\n")[:-1], first):
                ops.append(self.op(number, text, len(ops)))
                lines.append(number)
        return Func(name, tuple(buffers), ops, counted, kind == "func", kind == "pure")

    def op(self, line: int, text: str, at: int) -> Op:
        match = _LINE.match(text)
        assert match is not None
        number, word, rest = match.groups()
        if number is not None and int(number) != at:
            raise self.fault(line, f"%{number}", f"this value is number %{at} of its function")
        word = word if word[0] != "}" else "yield"
        row = OPS.get(word)
        kind = row.imm if row is not None else ""
        if row is not None and kind == "place":
            place = _PLACE.search(rest)
            assert place is not None
            name, index, shift, constant = place.groups()
            offset = self.integer(line, constant or shift or "0", 64)
            values = rest[: place.start()] if row.values else ""
            reads = (*map(int, _VALUE.findall(values)), *([int(index)] if index else []))
            return (word, reads, (name, offset))
        if kind == "real":
            return (word, (), self.real(line, rest.strip()))
        if kind == "int":
            bits = 32 if word == "word" and self.dtype == "f32" else 64
            return (word, (), self.integer(line, rest.strip(), bits))
        reads = tuple(map(int, _VALUE.findall(rest)))
        imm: Any = None
        if kind == "call":
            name, *moved = re.findall(r"\w+(?=[ \t[])", rest)
            imm = (name, tuple(moved))
        elif kind == "lanes":
            lanes = rest.partition("lanes")[2]
            imm = int(lanes.rstrip(" \t{")) if lanes else 0
        elif kind:
            imm = rest.split()[0]
        return (word, reads, imm)


def _fast(words: list[str], real: bool, kind: Any) -> NDArray[Any] | None:
    """All words at once, where each is a number and fits."""
    try:
        wide = np.array(list(map(float if real else int, words)),
                        np.float64 if real else np.int64)
    except (ValueError, OverflowError):
        return None
    with np.errstate(over="ignore"):
        array = wide.astype(kind)
    good = np.isfinite(array) if real else array == wide
    return array if bool(np.all(good)) else None


def _line(token: Any) -> int:
    return int(token.line)
