"""`.graph` texts back to graphs: `str(read(Source(name, str(graph))))` is `str(graph)`."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np

from ncc.errors import NccError, Source, Span
from ncc.ir import labels
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, NONE, Graph, Ints, Label, faults
from ncc.parsing import Token
from ncc.parsing import read as tree
from ncc.scalar.activations import FREE, code_of

_NEURON = re.compile(
    r"(?P<index>[0-9a-fA-F]{1,8})(?: +@(?P<level>[0-9]{1,9}))?+ +(?:(?P<kind>input|absent)"
    r"|(?P<activation>\w+) +(?P<aggregation>" + "|".join(AGGREGATIONS) + ")"
    r"(?: +\+(?P<bias>[pc][0-9a-fA-F]{1,7}))?+"
    r"(?P<edges>(?: +[0-9a-fA-F]{1,8}\*[pc][0-9a-fA-F]{1,7})*+)) *", re.ASCII)
_REAL = re.compile(r"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+")
_LARGEST = 2**31 - 2


class _Rows(NamedTuple):
    """The neuron lines, column by column; `edges` are their texts, `lines` where they stand."""

    indices: list[int]
    levels: list[int]
    activations: list[int]
    aggregations: list[int]
    biases: list[int]
    edges: list[str]
    lines: list[int]


def read(source: Source) -> Graph:
    """The graph of a text. Raises NccError: E001 outside the grammar, E310 for a line that is no
    neuron's, E311 for a bad word, E312 for a graph that `Graph.verify` would refuse."""
    tokens = [t for t in tree("graph", source).children if isinstance(t, Token)]
    by_type: dict[str, list[Token]] = {}
    for token in tokens:
        by_type.setdefault(token.type, []).append(token)
    head = by_type["GRAPH"][0]
    rows = _Rows([], [], [], [], [], [], [])
    for token in by_type.get("NEURONS", ()):
        _neurons(source, token, rows)
    count = _hex(source, head, head.split()[1])
    if len(rows.indices) != count:
        raise _fault(source, head, "E312", f"{count} neurons, but {len(rows.indices)} lines")
    for j, index in enumerate(rows.indices):
        if index != j:
            raise _line(source, rows.lines[j], "E312", f"neuron {index:02x} stands where {j:02x} "
                        "should: every neuron has one line, ascending")
    sources, weights = _edges(rows.edges)
    lengths = [text.count("*") for text in rows.edges]
    levelled = [level >= 0 for level in rows.levels]
    if any(levelled) and not all(levelled):
        j = levelled.index(False)
        raise _line(source, rows.lines[j], "E312", "some neurons have a level and this has none")
    activations = np.array(rows.activations, np.int32)
    graph = Graph(
        starts=np.cumsum([0, *lengths], dtype=np.int64),
        sources=sources,
        weights=weights,
        biases=np.array(rows.biases, np.int32),
        activations=activations,
        aggregations=np.array(rows.aggregations, np.int8),
        inputs=_indices(source, by_type["INPUTS"][0]),
        outputs=_indices(source, by_type["OUTPUTS"][0]),
        values=np.array(_reals(source, by_type["VALUES"][0]), np.float64),
        constants=np.array(_reals(source, by_type["CONSTANTS"][0]), np.float64),
        names=_names(source, by_type.get("NAME", [])),
        functions=_functions(source, by_type.get("FUNCTION", [])),
        levels=np.array(rows.levels, np.int32) if all(levelled) and count else None,
        shows_inputs="SHOWS" in by_type,
        labels=_labels(source, by_type.get("LABELS", []), count),
        numerics=_asked(by_type.get("NUMERICS", [])),
        dtype=_asked(by_type.get("DTYPE", [])),
        states=_indices(source, by_type["STATES"][0]) if "STATES" in by_type
        else np.zeros(0, np.int32),
    )
    for message, neuron in faults(graph):
        if neuron is None:
            raise _fault(source, head, "E312", message)
        raise _line(source, rows.lines[neuron], "E312", f"neuron {neuron:02x}: {message}")
    return graph


def _neurons(source: Source, token: Token, rows: _Rows) -> None:
    for offset, text in enumerate(token.split("\n")):
        if not text:
            continue
        number = (token.line or 1) + offset
        match = _NEURON.fullmatch(text)
        if match is None:
            raise _line(source, number, "E310", "this is no neuron's line",
                        "02 @1 relu sum +c0 00*p0 01*p1, or 00 @0 input")
        index, level, kind, activation, aggregation, bias, edges = match.groups()
        if kind is not None:
            code = INPUT if kind == "input" else ABSENT
        else:
            named = code_of(activation)
            if named is None and re.fullmatch("[0-9a-fA-F]{1,8}", activation):
                named = int(activation, 16)
            if named is None or named > _LARGEST:
                raise _line(source, number, "E311", f"unknown activation {activation[:40]}")
            code = named
        rows.indices.append(int(index, 16))
        rows.levels.append(-1 if level is None else int(level))
        rows.activations.append(code)
        rows.aggregations.append(AGGREGATIONS.index(aggregation) if aggregation else 0)
        rows.biases.append(NONE if bias is None else _code(bias))
        rows.edges.append(edges or "")
        rows.lines.append(number)


def _code(word: str) -> int:
    number = int(word[1:], 16)
    return number if word[0] == "p" else -1 - number


def _edges(texts: list[str]) -> tuple[Ints, Ints]:
    words = "".join(texts).replace("*", " ").split()
    # An index past every int32 becomes the largest: `faults` finds it out of range.
    sources = [min(int(word, 16), _LARGEST) for word in words[0::2]]
    return np.array(sources, np.int32), np.array([_code(w) for w in words[1::2]], np.int32)


def _indices(source: Source, token: Token) -> Ints:
    return np.array([_hex(source, token, word) for word in token.split()[1:]], np.int32)


def _hex(source: Source, token: Token, word: str) -> int:
    if re.fullmatch("[0-9a-fA-F]{1,8}", word) is None or int(word, 16) > _LARGEST:
        raise _fault(source, token, "E311", f"{word[:40]} is no index", word)
    return int(word, 16)


def _reals(source: Source, token: Token) -> list[float]:
    head, *words = token.split()
    if re.fullmatch(r"[0-9.eE+\-\s]*+", token[len(head) :]):  # so neither nan, inf nor 1_0
        try:
            return [math.nan if word == "-" else float(word) for word in words]
        except ValueError:
            pass
    bad = next(word for word in words if word != "-" and not _REAL.fullmatch(word))
    raise _fault(source, token, "E311", f"{bad[:40]} is no number", bad)


def _names(source: Source, tokens: list[Token]) -> dict[int, str]:
    names: dict[int, str] = {}
    for token in tokens:
        _, slot, name = token.split()
        number = _hex(source, token, slot[1:])
        if number in names:
            raise _fault(source, token, "E312", f"a second name for {slot}", slot)
        names[number] = name
    return names


def _asked(tokens: list[Token]) -> str | None:
    """The word of a directive, if the text has it; `faults` says whether that is known."""
    return tokens[0].split()[1] if tokens else None


def _labels(source: Source, tokens: list[Token], count: int) -> tuple[Label, ...]:
    """The labels of a net of `count` neurons, and E311 and E312 where they stand."""
    found: list[Label] = []
    places: list[int] = []
    for token in tokens:
        for number, line in enumerate(token.split("\n"), token.line or 1):
            if not line:
                continue
            label = labels.label_of(line)
            if isinstance(label, str):
                raise _line(source, number, "E311", label, "label 10 conv1 8x26x26")
            found.append(label)
            places.append(number)
    wrong = labels.fault(found, count)
    if wrong is not None:
        raise _line(source, places[wrong.number], "E312", wrong.message)
    return tuple(found)


def _functions(source: Source, tokens: list[Token]) -> dict[int, str]:
    functions: dict[int, str] = {}
    for token in tokens:
        _, code, text = token.split(None, 2) if len(token.split(None, 2)) == 3 else ("", "", "")
        if not text:
            raise _fault(source, token, "E311", "a function without an expression")
        number = _hex(source, token, code)
        if number in functions or number < FREE:
            raise _fault(source, token, "E312", f"function {code} is already defined", code)
        functions[number] = text.rstrip()
    return functions


def _fault(source: Source, token: Token, code: str, message: str, word: str = "") -> NccError:
    """A fault at `word` of a token, or at its beginning."""
    before = token[: max(token.find(word), 0)] if word else ""
    line = (token.line or 1) + before.count("\n")
    column = len(before) - before.rfind("\n") if "\n" in before else (token.column or 1) + len(
        before)
    length = len(word) or len(token.split("\n")[0])
    return NccError(code, message, source, Span(line, column, length))


def _line(source: Source, number: int, code: str, message: str, help: str = "") -> NccError:
    span = Span(number, 1, len(source.line(number)))
    return NccError(code, message, source, span, help=help)
