"""Kinds of rows as text: `sum:tanh,max:relu`, or a kind a line, as `str(Kinds)` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ncc.errors import NccError, Source, Span, near
from ncc.images.kinds import Kind, Kinds
from ncc.ir.graph import AGGREGATIONS, NONE
from ncc.ir.syntax import activation_code, unknown
from ncc.scalar.activations import ACTIVATIONS
from ncc.scalar.expressions import parse

_KIND = re.compile(rf"(?:(\w+)\s*:\s*|({'|'.join(AGGREGATIONS)})\s+)?(.*)")


def split(text: str) -> list[str]:
    """The parts of a list that commas separate, but for those in parentheses."""
    parts, depth = [""], 0
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == "," and not depth:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts if part.strip()]


def read(source: Source) -> Kinds:
    """The kinds that a text names, sorted, each once. A kind is an aggregation and an activation,
    sum where there is no aggregation; an activation is a name, a code or an expression in x. `%`
    begins a comment. NccError E613, and those of expressions, with their places."""
    found = {kind for number, line in enumerate(source.text.splitlines(), 1)
             for kind in _line(line.partition("%")[0], source, number)}
    return Kinds(tuple(sorted(found)))


def joined(many: list[Kinds]) -> Kinds:
    """All of these kinds."""
    return Kinds(tuple(sorted({kind for kinds in many for kind in kinds.kinds})))


def _line(line: str, source: Source, number: int) -> Iterator[Kind]:
    begin = 0
    for part in split(line):
        begin = line.index(part, begin)
        match = _KIND.fullmatch(part)
        assert match is not None  # which anything does
        aggregation, word = match[1] or match[2] or "sum", match[3]
        if aggregation not in AGGREGATIONS:
            raise NccError("E613", f"no aggregation {aggregation}", source,
                           Span(number, begin + 1, len(aggregation)),
                           help=near(aggregation, AGGREGATIONS))
        at = Span(number, begin + 1 + match.start(3), max(1, len(word)))
        yield Kind(aggregation, _activation(word, source, at))
        begin += len(part)


def _activation(word: str, source: Source, at: Span) -> str:
    """The text of an activation's expression."""
    if re.fullmatch(r"\w*", word) and word != "x":
        code = activation_code(word, {})
        if code == NONE:
            fault = unknown(word, {}, None, None)
            raise NccError("E613", fault.message, source, at, help=fault.help)
        return ACTIVATIONS[code].formula
    parse(source, word, at.line, at.column)
    return word
