"""The syntax level: what a net file says, as it says it, with a place for everything.

Large nets are kept as arrays; the span of one edge is found again in its line when an error wants
it. `str(syntax)` is the file in its plainest spelling, and reads back to the same net.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError, Source, Span, near
from ncc.ir import labels
from ncc.ir.graph import AGGREGATIONS, NONE, Ints, Label, Longs, Reals
from ncc.ir.labels import digits
from ncc.scalar.activations import ACTIVATIONS, FREE, code_of
from ncc.scalar.expressions import parse

Bytes = NDArray[np.int8]
Truths = NDArray[np.bool_]

FORMATS = ("nal", "nam", "nel")
OUT_OF_RANGE = 2**31 - 1  # stands for every index this large or larger; N is at most this


@dataclass(frozen=True)
class Count:
    """The `N` line."""

    value: int
    span: Span


@dataclass(frozen=True)
class Function:
    """A `fn` line; `span` is the code's, `body` the expression's."""

    code: int
    text: str
    span: Span
    body: Span


@dataclass(frozen=True)
class Out:
    """The `out` line."""

    indices: tuple[int, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Directives:
    """What `label`, `numerics` and `dtype` lines say; None where there is no such line. `lines` are
    those on which the labels stand."""

    labels: tuple[Label, ...] = ()
    lines: tuple[int, ...] = ()
    numerics: str | None = None
    dtype: str | None = None


@dataclass(frozen=True, eq=False)
class Parameters:
    """What is written at K edges or biases.

    ties      int32 (K)    index of the tie's name in the file, -1 where there is none
    values    float64 (K)  NaN where none is written
    constant  bool (K)     `=` before the value
    """

    ties: Ints
    values: Reals
    constant: Truths


@dataclass(frozen=True, eq=False)
class AdjacencyList:
    """A `.nal`: S neuron lines with E edges.

    indices, lines    int32 (S)      the neuron, and the line it stands on
    activations       int32 (S)      index into `words`, -1 where there is none
    aggregations      int8 (S)       index into AGGREGATIONS, -1 where there is none
    starts            int64 (S+1)    edges of line s are starts[s] .. starts[s+1]
    sources, weights  (E)            in file order
    delayed           bool (E)       `~`: the edge reads its source's value of the last call
    paired            bool (E)       `*`: the edge is the first one of a pair, and has its weight;
                                     the next one is the second, of constant weight 1
    biased, biases    (S)            whether there is a bias, and which
    """

    source: Source
    count: Count
    functions: tuple[Function, ...]
    out: Out | None
    directives: Directives
    words: tuple[str, ...]
    ties: tuple[str, ...]
    indices: Ints
    lines: Ints
    activations: Ints
    aggregations: Bytes
    starts: Longs
    sources: Ints
    delayed: Truths
    paired: Truths
    weights: Parameters
    biased: Truths
    biases: Parameters

    def edge_span(self, edge: int) -> Span:
        statement = int(np.searchsorted(self.starts, edge, side="right")) - 1
        start, text = self._field(statement, "list")
        items = re.finditer(r"[^\s,*]+", text)
        for _ in range(edge - int(self.starts[statement])):
            next(items)
        item = next(items)
        end = next(items).end() if self.paired[edge] else item.end()
        return Span(int(self.lines[statement]), start + item.start() + 1, end - item.start())

    def neuron_span(self, neuron: int) -> Span:
        return self.part_span(neuron, "index")

    def part_span(self, statement: int, part: str) -> Span:
        """Where `part` (index, word, aggregation, list, bias) of a line stands."""
        start, text = self._field(statement, part)
        return Span(int(self.lines[statement]), start + 1, len(text))

    def _field(self, statement: int, part: str) -> tuple[int, str]:
        match = _LINE.match(uncommented(self.source.line(int(self.lines[statement]))))
        assert match is not None  # the grammar has accepted it
        return match.start(part), match[part]

    def __str__(self) -> str:
        return "\n".join(self._texts()) + "\n"

    def _texts(self) -> Iterator[str]:
        yield from _head(self.count, self.functions, self.out, self.directives)
        width = digits(self.count.value)
        weights = _spell(self.weights, self.ties)
        biases = _spell(self.biases, self.ties)
        for s in range(len(self.indices)):
            parts = [f"{self.indices[s]:0{width}x}"]
            if self.activations[s] >= 0:
                parts.append(self.words[self.activations[s]])
            if self.aggregations[s] >= 0:
                parts.append(AGGREGATIONS[self.aggregations[s]])
            edges = range(self.starts[s], self.starts[s + 1])
            if edges:
                sources = _sources(self, width)
                parts.append(",".join(
                    sources(e) + _after_source(weights(e)) for e in edges if sources(e)))
            if self.biased[s]:
                parts.append("+" + biases(s))
            yield " ".join(parts)


@dataclass(frozen=True, eq=False)
class Matrix:
    """A `.nam`: the E ones of N rows of N digits, row by row.

    lines             int32 (N)   the line of each row
    sources, targets  int32 (E)   the row and the column of each one
    """

    source: Source
    size: int
    lines: Ints
    sources: Ints
    targets: Ints

    def edge_span(self, edge: int) -> Span:
        line = int(self.lines[self.sources[edge]])
        match = re.search(r"[01]+[ \t]*$", uncommented(self.source.line(line)))
        assert match is not None  # the grammar has accepted it
        return Span(line, match.start() + int(self.targets[edge]) + 1)

    def neuron_span(self, neuron: int) -> Span:
        """The row of a neuron."""
        line = int(self.lines[neuron])
        text = self.source.line(line)
        return Span(line, len(text) - len(text.lstrip(" \t")) + 1, len(text.strip(" \t")))

    def __str__(self) -> str:
        return "".join(self._texts())

    def _texts(self) -> Iterator[str]:
        bounds = np.searchsorted(self.sources, np.arange(self.size + 1))
        for i in range(self.size):
            row = np.full(self.size, ord("0"), np.uint8)
            row[self.targets[bounds[i] : bounds[i + 1]]] = ord("1")
            yield row.tobytes().decode("ascii") + "\n"


@dataclass(frozen=True)
class Act:
    """An `act` line: neurons first .. last (None: all that are no inputs) get `word`."""

    first: int | None
    last: int | None
    word: str
    span: Span  # of the range; of the word where there is none
    word_span: Span


@dataclass(frozen=True)
class Bias:
    """A `bias` line; entry `bias` of the file's `biases`."""

    index: int
    span: Span


@dataclass(frozen=True)
class Agg:
    """An `agg` line."""

    index: int
    aggregation: int
    span: Span


@dataclass(frozen=True, eq=False)
class EdgeList:
    """A `.nel`: E edges in file order; `biases` belongs to `bias`, entry by entry.

    lines, sources, targets  int32 (E)
    delayed, paired          bool (E), as in an adjacency list
    """

    source: Source
    count: Count
    functions: tuple[Function, ...]
    out: Out | None
    directives: Directives
    acts: tuple[Act, ...]
    bias: tuple[Bias, ...]
    aggs: tuple[Agg, ...]
    ties: tuple[str, ...]
    lines: Ints
    sources: Ints
    delayed: Truths
    paired: Truths
    targets: Ints
    weights: Parameters
    biases: Parameters

    def edge_span(self, edge: int, word: int = 0) -> Span:
        """The place of an edge's source (word 0), target (1) or weight (2)."""
        line = int(self.lines[edge])
        found = list(re.finditer(r"\S+", uncommented(self.source.line(line))))[word]
        return Span(line, found.start() + 1, len(found[0]))

    def neuron_span(self, neuron: int) -> Span:
        """The first edge into a neuron; the `N` line where there is none."""
        edges = np.flatnonzero(self.targets == neuron)
        return self.edge_span(int(edges[0]), 1) if len(edges) else self.count.span

    def __str__(self) -> str:
        return "\n".join(self._texts()) + "\n"

    def _texts(self) -> Iterator[str]:
        yield from _head(self.count, self.functions, self.out, self.directives)
        width = digits(self.count.value)
        biases = _spell(self.biases, self.ties)
        for act in self.acts:
            if act.first is None or act.last is None:
                yield f"act {act.word}"
            elif act.first == act.last:
                yield f"act {act.first:0{width}x} {act.word}"
            else:
                yield f"act {act.first:0{width}x}-{act.last:0{width}x} {act.word}"
        for k, bias in enumerate(self.bias):
            yield f"bias {bias.index:0{width}x} +{biases(k)}"
        for agg in self.aggs:
            yield f"agg {agg.index:0{width}x} {AGGREGATIONS[agg.aggregation]}"
        weights = _spell(self.weights, self.ties)
        sources = _sources(self, width)
        for e in range(len(self.sources)):
            if not sources(e):
                continue
            weight = weights(e)
            edge = f"{sources(e)} {self.targets[e]:0{width}x}"
            yield f"{edge} {weight}" if weight else edge


Syntax = AdjacencyList | Matrix | EdgeList

_LINE = re.compile(
    r"[ \t]*(?P<index>[0-9a-fA-F]+)(?:[ \t]+(?P<word>[A-Za-z0-9_]+)"
    r"(?:[ \t]+(?P<aggregation>[sm][a-z]+|dot|div))?"
    r"(?:[ \t]+(?P<list>[~0-9a-fA-F][^\s,]*(?:[ \t]*,[ \t]*[^\s,]+)*))?"
    r"(?:[ \t]+(?P<bias>\+\S+))?)?"
)


def uncommented(line: str) -> str:
    """A line without its comment."""
    return re.split(r"[%#]", line, maxsplit=1)[0]


def _head(count: Count, functions: tuple[Function, ...], out: Out | None,
          directives: Directives) -> Iterator[str]:
    width = digits(count.value)
    yield f"N {count.value:0{width}x}"
    for function in functions:
        yield f"fn {function.code:02x} {function.text}"
    if out is not None:
        yield "out " + ",".join(f"{i:0{width}x}" for i in out.indices)
    if directives.numerics is not None:
        yield f"numerics {directives.numerics}"
    if directives.dtype is not None:
        yield f"dtype {directives.dtype}"
    yield from labels.lines(directives.labels, width)


class _spell:
    """The text of parameter k: `0.5`, `@k0`, `@k0:0.5`, `=1` or nothing."""

    def __init__(self, parameters: Parameters, ties: tuple[str, ...]) -> None:
        self.parameters = parameters
        self.ties = ties

    def __call__(self, k: int) -> str:
        value = float(self.parameters.values[k])
        number = "" if value != value else repr(value)
        if self.parameters.constant[k]:
            return "=" + number
        if self.parameters.ties[k] >= 0:
            tie: str = self.ties[self.parameters.ties[k]]
            return f"@{tie}:{number}" if number else f"@{tie}"
        return number


class _sources:
    """The source of edge e as it is written, `~04`, or both sources of a pair, `00*01`; nothing
    where it is the second one of a pair."""

    def __init__(self, syntax: AdjacencyList | EdgeList, width: int) -> None:
        self.syntax = syntax
        self.width = width

    def one(self, e: int) -> str:
        return "~" * bool(self.syntax.delayed[e]) + f"{self.syntax.sources[e]:0{self.width}x}"

    def __call__(self, e: int) -> str:
        if e and self.syntax.paired[e - 1]:
            return ""
        return self.one(e) + (f"*{self.one(e + 1)}" if self.syntax.paired[e] else "")


def _after_source(weight: str) -> str:
    return weight if weight == "" or weight[0] == "@" else ":" + weight


def functions_of(source: Source, functions: tuple[Function, ...]) -> dict[int, str]:
    """The texts of `fn` lines by ascending code: E110, E126, E127, E201 .. E206."""
    lines: dict[int, int] = {}
    for f in functions:
        if f.code < FREE:
            raise NccError("E126", f"code {f.code:02x} is {ACTIVATIONS[f.code].name}", source,
                           f.span, help=f"codes from {FREE:02x} on are free")
        if f.code >= OUT_OF_RANGE:
            raise NccError("E110", "the code is out of range", source, f.span,
                           help=f"codes from {FREE:02x} on are free")
        if f.code in lines:
            raise NccError("E127", f"function {f.code:02x} is defined twice", source, f.span,
                           note=f"the first is on line {lines[f.code]}")
        lines[f.code] = f.span.line
        parse(source, f.text, f.body.line, f.body.column)
    return {f.code: f.text for f in sorted(functions, key=lambda f: f.code)}


def activation_code(word: str, functions: dict[int, str]) -> int:
    """The code that a number or a name stands for; NONE where there is no such activation."""
    code = code_of(word)
    if code is not None:
        return code
    if not is_hex(word):
        return NONE
    number = int(word, 16)
    return number if 0 <= number < FREE or number in functions else NONE


def is_hex(word: str) -> bool:
    return word != "" and not word.strip("0123456789abcdefABCDEF")


def unknown(word: str, functions: dict[int, str], source: Source | None,
             span: Span | None) -> NccError:
    shown = word if len(word) <= 40 else word[:37] + "..."
    if is_hex(word):
        help = f"codes are 00 to {FREE - 1:02x}, or defined by `fn {shown} ...`"
    elif word in AGGREGATIONS:
        help = "an aggregation comes after the activation: 09 00 mul 04,05"
    else:
        help = near(word, [a.name for a in ACTIVATIONS])
    return NccError("E118", f"unknown activation {shown}", source, span, help=help,
                    status=1 if source else 2)
