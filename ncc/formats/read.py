"""Net files to syntax: bytes to text, text to fat tokens (lark), fat tokens to arrays (numpy).

A text outside its grammar is looked at once more, line by hand, by the `_explain` functions: they
run only when there is an error, and say what is wrong in words of the format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import inf, nan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError, Source, Span, near
from ncc.ir.graph import AGGREGATIONS, Ints
from ncc.ir.syntax import (
    FORMATS,
    OUT_OF_RANGE,
    Act,
    AdjacencyList,
    Agg,
    Bias,
    Count,
    EdgeList,
    Function,
    Matrix,
    Out,
    Parameters,
    Syntax,
    uncommented,
)
from ncc.parsing import NUMBER, Token, read, text_of

Octets = NDArray[np.uint8]


def decode(name: str, data: bytes) -> Source:
    """The text of a file; E103 where it is not UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        source = Source(name, data.decode("utf-8", "replace"))
        raise NccError(
            "E103", f"byte {data[error.start]:02x} is not UTF-8", source, Span(line, column),
            help="a net is a text file; is this one?",
        ) from None
    return _plain(Source(name, text))


def net(source: Source, format: str) -> Syntax:
    """What a net file says. Raises NccError, see grammar/README.md for the codes."""
    if format not in FORMATS:
        raise NccError("E102", f"unknown format {format!r}", help="one of " + ", ".join(FORMATS),
                       status=2)
    source = _plain(source)
    if _SKIPPED.fullmatch(source.text):
        raise NccError("E137", "the file holds no net", source, Span(1, 1),
                       help=_LINE_ENDS if "\r" in source.text else "")
    try:
        tokens = [t for t in read(format, source).children if isinstance(t, Token)]
    except NccError as error:
        raise _explain(source, format, error) from None
    if format == "nam":
        return _matrix(source, tokens)
    return _adjacency(source, tokens) if format == "nal" else _edges(source, tokens)


def _plain(source: Source) -> Source:
    """Without byte order mark and carriage returns, and with an end to the last line.

    E001 at a carriage return that ends no line, but in a comment, where anything may stand.
    """
    text = source.text.removeprefix("\ufeff")
    if "\r" in text:  # one character is looked for five times faster than two
        text = text.replace("\r\n", "\n")
        if "\r" in text:
            text = re.sub(r"\r+(?:\n|\Z)", "\n", text)
            _no_lone_return(Source(source.name, text))
    if not text.endswith("\n"):
        text += "\n"
    return source if text is source.text else Source(source.name, text)


_LINE_ENDS: Final = "lines end with LF or CRLF; with CR alone, as old Macs wrote, they do not"


def _no_lone_return(source: Source) -> None:
    number, start = 1, 0
    for found in re.finditer("\r", source.text):
        number += source.text.count("\n", start, found.start())
        start = source.text.rfind("\n", 0, found.start()) + 1
        if re.search("[%#]|//", source.text[start : found.start()]) is None:
            raise NccError("E001", "a carriage return that ends no line", source,
                           Span(number, found.start() - start + 1), help=_LINE_ENDS)
        start = found.start()


# Pieces of a line -----------------------------------------------------------------------------

_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD: Final = re.compile(r"[A-Za-z0-9_]+")
_ENDLESS: Final = re.compile(r"[+-]?(?:nan(?:\(\w*\))?|inf(?:inity)?)", re.IGNORECASE)
_COMMENT: Final = re.compile(r"[%#][^\n]*")
# The look behind keeps a long run of blanks from being tried at each of them.
_COMMA: Final = re.compile(r"(?<![ \t])[ \t]*+,[ \t]*+")
_ITEM_WEIGHT: Final = re.compile(r"[:@][^,]*")
_SKIPPED: Final = re.compile(r"(?:[ \t]*+(?:[%#][^\n]*+)?+\n)*+")

_NIBBLE: Final = np.zeros(256, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789", np.uint8)] = np.arange(10)
_NIBBLE[np.frombuffer(b"abcdef", np.uint8)] = np.arange(10, 16)
_NIBBLE[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)
_NIBBLE.setflags(write=False)


def _index(text: str) -> int:
    """A hex index of any length; those that no net can hold are all one."""
    return min(int(text, 16), OUT_OF_RANGE)


def _number(text: str) -> float:
    """A number as strtod reads it; infinite where it overflows."""
    if "x" in text or "X" in text:
        try:
            return float.fromhex(text)
        except OverflowError:
            return inf
    return float(text)


def _octets(text: str) -> Octets:
    return np.frombuffer(text.encode("ascii"), np.uint8)


def _hexes(octets: Octets, begins: NDArray[np.intp], ends: NDArray[np.intp]) -> Ints:
    """The indices written at begins .. ends, any number of digits each: int32."""
    widths = ends - begins
    widest = int(widths.max(initial=0))
    if widest <= 7:
        result = _NIBBLE[octets[ends - 1]].astype(np.int32)
        for k in range(1, widest):
            digit = _NIBBLE[octets[ends - 1 - np.minimum(k, widths - 1)]].astype(np.int32)
            digit[widths <= k] = 0
            result |= digit << np.int32(4 * k)
        return result
    # Eight digits and more are rare: those fields one at a time, the others as above.
    long = widths > 7
    result = np.empty(len(begins), np.int32)
    result[~long] = _hexes(octets, begins[~long], ends[~long])
    fields = zip(begins[long].tolist(), ends[long].tolist(), strict=True)
    result[long] = [_index(octets[b:e].tobytes().decode("ascii")) for b, e in fields]
    return result


def _separated(text: str) -> Ints:
    """Hex words with one comma between them."""
    if not text:
        return np.zeros(0, np.int32)
    octets = _octets(text)
    commas = np.flatnonzero(octets == ord(","))
    return _hexes(octets, np.append(0, commas + 1), np.append(commas, len(octets)))


def _mark(octets: Octets, mark: str, begins: NDArray[np.intp], ends: NDArray[np.intp]
          ) -> NDArray[np.intp]:
    """Where `mark` stands in each field begins .. ends, which holds one at most; else its end."""
    at = np.flatnonzero(octets == ord(mark))
    if len(at) == len(begins):  # one in each
        return at
    at = np.append(at, len(octets))
    return np.minimum(at[np.searchsorted(at, begins)], ends)


DIGITS: Final = 15  # an integer of so many decimal digits, and a power of ten, is exact in a double
_TENS: Final = np.array([float(f"1e{k}") for k in range(DIGITS + 1)])
_TENS.setflags(write=False)


def _decimals(octets: Octets, begins: NDArray[np.intp], ends: NDArray[np.intp]) -> Parameters:
    """The numbers written at begins .. ends, as strtod reads them.

    One of at most 15 digits without an exponent is an integer over a power of ten, both exact, so
    that one division rounds it rightly (Clinger 1990); others go one at a time.
    """
    dots = _mark(octets, ".", begins, ends)
    signs = octets[begins]
    negative = signs == ord("-")
    firsts = begins + (negative | (signs == ord("+")))
    tail = np.maximum(ends - dots - 1, 0)
    odd = (dots - firsts) + tail > DIGITS
    total = np.zeros(len(begins), np.int64)
    power = np.ones(len(begins), np.int64)
    # The digits behind the point from the last one on, then those before it, which count for more.
    for stops, widths in ((ends, tail), (dots, dots - firsts)):
        widths = np.minimum(widths, DIGITS)
        for k in range(1, int(widths.max(initial=0)) + 1):
            digit = octets[np.maximum(stops - k, 0)] - np.uint8(ord("0"))
            inside = k <= widths
            odd |= inside & (digit > 9)
            digit[~inside] = 0
            total += digit * power
            np.multiply(power, 10, out=power, where=inside)
    values = total / _TENS[np.minimum(tail, DIGITS)]
    np.negative(values, out=values, where=negative)
    for k in np.flatnonzero(odd).tolist():
        values[k] = _number(octets[begins[k] : ends[k]].tobytes().decode("ascii"))
    count = len(values)
    return Parameters(np.broadcast_to(np.int32(-1), count), values,
                      np.broadcast_to(np.False_, count))


def _parameters(texts: list[str], ties: dict[str, int]) -> Parameters:
    """Weights and biases: `0.5`, `@k0`, `@k0:0.5`, `=1` or nothing; new names go into `ties`."""
    count = len(texts)
    try:  # a plain number each, as in almost every net with values
        return Parameters(np.full(count, -1, np.int32), np.array([*map(float, texts)], np.float64),
                          np.zeros(count, np.bool_))
    except ValueError:
        pass
    names: list[int] = []
    values: list[float] = []
    constant: list[bool] = []
    for text in texts:
        tie = -1
        value = nan
        if text[:1] == "@":
            name, _, number = text[1:].partition(":")
            tie = ties.setdefault(name, len(ties))
            if number:
                value = _number(number)
        elif text:
            value = _number(text.lstrip("="))
        names.append(tie)
        values.append(value)
        constant.append(text[:1] == "=")
    return Parameters(np.array(names, np.int32), np.array(values, np.float64),
                      np.array(constant, np.bool_))


def _nothing(count: int) -> Parameters:
    """`count` parameters of which nothing is said; takes no memory."""
    return Parameters(np.broadcast_to(np.int32(-1), count), np.broadcast_to(np.float64(nan), count),
                      np.broadcast_to(np.False_, count))


def _spread(parameters: Parameters, where: NDArray[np.bool_]) -> Parameters:
    """`parameters` at the places that `where` holds, nothing elsewhere."""
    result = Parameters(np.full(len(where), -1, np.int32), np.full(len(where), nan),
                        np.zeros(len(where), np.bool_))
    result.ties[where] = parameters.ties
    result.values[where] = parameters.values
    result.constant[where] = parameters.constant
    return result


class _Column:
    """Pieces of a vector, end to end in memory that is taken once, for `most` elements: the system
    gives it page by page, as they are written. While the pieces say `nothing` (stride 0), none."""

    def __init__(self, most: int, nothing: Any) -> None:
        self.most = most
        self.nothing = nothing
        self.size = 0
        self.array: NDArray[Any] | None = None

    def add(self, piece: NDArray[Any]) -> None:
        end = self.size + len(piece)
        if self.array is None and piece.strides != (0,):
            self.array = np.empty(self.most, self.nothing.dtype)
            self.array[: self.size] = self.nothing
        if self.array is not None:
            self.array[self.size : end] = piece
        self.size = end

    def whole(self) -> NDArray[Any]:
        if self.array is None:
            return np.broadcast_to(self.nothing, self.size)
        self.array.resize(self.size, refcheck=False)
        return self.array


class _Weights:
    """Parameters, piece by piece."""

    def __init__(self, most: int) -> None:
        self.ties = _Column(most, np.int32(-1))
        self.values = _Column(most, np.float64(nan))
        self.constant = _Column(most, np.False_)

    def add(self, piece: Parameters) -> None:
        self.ties.add(piece.ties)
        self.values.add(piece.values)
        self.constant.add(piece.constant)

    def whole(self) -> Parameters:
        return Parameters(self.ties.whole(), self.values.whole(), self.constant.whole())


def _ints(most: int) -> _Column:
    return _Column(most, np.int32(0))


def _fields(token: Token) -> list[tuple[str, Span]]:
    """The words of a line of its own, with their places; commas separate as blanks do."""
    line = token.line or 1
    return [(m[0], Span(line, m.start() + 1, len(m[0])))
            for m in re.finditer(r"[^\s,]+", _COMMENT.sub("", token))]


# The head lines, the same in .nal and .nel -----------------------------------------------------


def _count(token: Token) -> Count:
    _, (text, span) = _fields(token)
    return Count(int(text, 16), span)


def _functions(tokens: Iterable[Token]) -> tuple[Function, ...]:
    functions = []
    for token in tokens:
        _, (code, span), (_, body), *_ = _fields(token)
        text = uncommented(token.rstrip("\n"))[body.column - 1 :].rstrip(" \t")
        place = Span(body.line, body.column, len(text))
        functions.append(Function(_index(code), text, span, place))
    return tuple(functions)


def _out(source: Source, tokens: list[Token]) -> Out | None:
    if len(tokens) > 1:
        _, span = _fields(tokens[1])[0]
        raise NccError("E128", "`out` stands twice", source, span,
                       note=f"the first is on line {tokens[0].line}")
    if not tokens:
        return None
    _, *fields = _fields(tokens[0])
    return Out(tuple(_index(text) for text, _ in fields), tuple(span for _, span in fields))


def _of(tokens: list[Token], kind: str) -> list[Token]:
    return [t for t in tokens if t.type == kind]


# .nal -----------------------------------------------------------------------------------------


class _Neurons:
    """The lines of NEURONS tokens, as arrays, a piece a token."""

    def __init__(self, source: Source) -> None:
        self.source = source
        # Every line but the last has an end, every edge but a line's last a comma.
        lines = source.text.count("\n")
        edges = lines + source.text.count(",")
        self.words: dict[str, int] = {}
        self.ties: dict[str, int] = {}
        self.indices = _ints(lines)
        self.lines: list[int] = []
        self.activations: list[int] = []
        self.aggregations: list[int] = []
        self.counts: list[int] = []
        self.sources = _ints(edges)
        self.weights = _Weights(edges)
        self.biased: list[bool] = []
        self.biases = _Weights(lines)

    def add(self, token: Token) -> None:
        text = text_of(token, self.source)
        if "%" in text or "#" in text:
            text = _COMMENT.sub("", text)
        if " ," in text or ", " in text or "\t" in text:
            text = _COMMA.sub(",", text)
        words = self.words
        indices: list[str] = []
        lists: list[str] = []
        biases: list[str] = []
        first = len(self.biased)
        for line, content in enumerate(text.split("\n"), token.line or 1):
            fields = content.split()
            if not fields:
                continue
            indices.append(fields[0])
            self.lines.append(line)
            bias = aggregation = ""
            edges = ""
            if len(fields) > 2:
                edges = fields[2]
                if len(fields) > 3 or edges[0] in "+sm":
                    for field in fields[2:]:
                        # An in-list starts with a hex digit, an aggregation with s or m.
                        if field[0] == "+":
                            bias = field
                        elif field[0] in "sm":
                            aggregation = field
                        else:
                            edges = field
                    if edges[0] in "+sm":
                        edges = ""
            self.activations.append(
                words.setdefault(fields[1], len(words)) if len(fields) > 1 else -1)
            self.aggregations.append(AGGREGATIONS.index(aggregation) if aggregation else -1)
            self.counts.append(edges.count(",") + 1 if edges else 0)
            if edges:
                lists.append(edges)
            self.biased.append(bool(bias))
            if bias:
                biases.append(bias[1:])
        self.indices.add(_separated(",".join(indices)))
        self._edges(",".join(lists))
        where = np.array(self.biased[first:], np.bool_)
        self.biases.add(_spread(_parameters(biases, self.ties), where) if biases
                        else _nothing(len(where)))

    def _edges(self, text: str) -> None:
        if ":" not in text and "@" not in text:
            sources = _separated(text)
            self.sources.add(sources)
            self.weights.add(_nothing(len(sources)))
            return
        octets = _octets(text)
        commas = np.flatnonzero(octets == ord(","))
        begins, ends = np.append(0, commas + 1), np.append(commas, len(octets))
        if "@" not in text and "=" not in text:
            stops = _mark(octets, ":", begins, ends)
            self.sources.add(_hexes(octets, begins, stops))
            weighted = stops < ends
            if weighted.all():
                self.weights.add(_decimals(octets, stops + 1, ends))
            else:
                some = _decimals(octets, stops[weighted] + 1, ends[weighted])
                self.weights.add(_spread(some, weighted))
            return
        # An index ends at the first `:` or `@` of its item, if there is one.
        marks = np.append(np.flatnonzero((octets == ord(":")) | (octets == ord("@"))), len(octets))
        stops = np.minimum(marks[np.searchsorted(marks, begins)], ends)
        texts = [t.lstrip(":") for t in _ITEM_WEIGHT.findall(text)]
        self.sources.add(_hexes(octets, begins, stops))
        self.weights.add(_spread(_parameters(texts, self.ties), stops < ends))


def _adjacency(source: Source, tokens: list[Token]) -> AdjacencyList:
    neurons = _Neurons(source)
    for token in _of(tokens, "NEURONS"):
        neurons.add(token)
    starts = np.zeros(len(neurons.counts) + 1, np.int64)
    np.cumsum(neurons.counts, out=starts[1:])
    syntax = AdjacencyList(
        source=source,
        count=_count(tokens[0]),
        functions=_functions(_of(tokens, "FUNCTION")),
        out=_out(source, _of(tokens, "OUT")),
        words=tuple(neurons.words),
        ties=tuple(neurons.ties),
        indices=neurons.indices.whole(),
        lines=np.array(neurons.lines, np.int32),
        activations=np.array(neurons.activations, np.int32),
        aggregations=np.array(neurons.aggregations, np.int8),
        starts=starts,
        sources=neurons.sources.whole(),
        weights=neurons.weights.whole(),
        biased=np.array(neurons.biased, np.bool_),
        biases=neurons.biases.whole(),
    )
    _finite(source, syntax.weights, syntax.edge_span)
    _finite(source, syntax.biases, lambda s: syntax.part_span(s, "bias"))
    return syntax


def _finite(source: Source, parameters: Parameters, place: Callable[[int], Span]) -> None:
    if parameters.values.strides == (0,):
        return
    bad = np.flatnonzero(np.isinf(parameters.values))
    if len(bad):
        raise NccError("E108", "the number overflows", source, place(int(bad[0])))


# .nam -----------------------------------------------------------------------------------------


def _matrix(source: Source, tokens: list[Token]) -> Matrix:
    lines: list[int] = []
    most = source.text.count("1")
    sources, targets = _ints(most), _ints(most)
    size = 0
    for token in _of(tokens, "ROWS"):
        rows: list[str] = []
        for line, content in enumerate(text_of(token, source).split("\n"), token.line or 1):
            row = uncommented(content).rstrip(" \t")
            if not row:
                continue
            bits = row[len(row.rstrip("01")) :]
            if not lines and not rows:
                size = len(bits)
            if len(bits) != size:
                span = Span(line, len(row) - len(bits) + 1, len(bits))
                first = lines[0] if lines else token.line
                raise NccError("E132", f"a row of {len(bits)} digits among rows of {size}",
                               source, span, note=f"the first row is on line {first}")
            rows.append(bits)
            if len(lines) + 1 > size:
                span = Span(line, len(row) - len(bits) + 1, len(bits))
                raise NccError("E133", f"more rows than the {size} columns", source, span)
            lines.append(line)
        matrix = _octets("".join(rows)).reshape(len(rows), size)
        i, j = np.nonzero(matrix == ord("1"))
        sources.add((i + (len(lines) - len(rows))).astype(np.int32))
        targets.add(j.astype(np.int32))
    if not lines:
        raise NccError("E137", "the matrix has no rows", source, Span(1, 1))
    if len(lines) < size:
        line = lines[-1]
        row = uncommented(source.line(line)).rstrip(" \t")
        raise NccError("E133", f"{len(lines)} rows of {size} columns: the matrix is not square",
                       source, Span(line, max(1, len(row) - size + 1), max(1, size)))
    return Matrix(source, size, np.array(lines, np.int32), sources.whole(), targets.whole())


# .nel -----------------------------------------------------------------------------------------


def _edges(source: Source, tokens: list[Token]) -> EdgeList:
    ties: dict[str, int] = {}
    most = source.text.count("\n")
    lines, sources, targets = _ints(most), _ints(most), _ints(most)
    weights = _Weights(most)
    acts: list[Act] = []
    biases: list[Bias] = []
    written: list[str] = []
    aggs: list[Agg] = []
    for token in tokens:
        if token.type == "EDGES":
            _edge_run(source, token, ties, lines, sources, targets, weights)
        elif token.type == "ACT":
            acts.append(_act(_fields(token)))
        elif token.type == "BIAS_LINE":
            _, (index, span), (text, _) = _fields(token)
            biases.append(Bias(_index(index), span))
            written.append(text[1:])
        elif token.type == "AGG":
            _, (index, span), (name, _) = _fields(token)
            aggs.append(Agg(_index(index), AGGREGATIONS.index(name), span))
    syntax = EdgeList(
        source=source,
        count=_count(tokens[0]),
        functions=_functions(_of(tokens, "FUNCTION")),
        out=_out(source, _of(tokens, "OUT")),
        acts=tuple(acts),
        bias=tuple(biases),
        aggs=tuple(aggs),
        biases=_parameters(written, ties),
        ties=tuple(ties),
        lines=lines.whole(),
        sources=sources.whole(),
        targets=targets.whole(),
        weights=weights.whole(),
    )
    _finite(source, syntax.weights, lambda e: syntax.edge_span(e, 2))
    _finite(source, syntax.biases, lambda k: syntax.bias[k].span)
    return syntax


def _edge_run(source: Source, token: Token, ties: dict[str, int], lines: _Column, sources: _Column,
              targets: _Column, weights: _Weights) -> None:
    text = text_of(token, source)
    if "%" in text or "#" in text:
        text = _COMMENT.sub("", text)
    octets = _octets(text)
    ink = octets > ord(" ")
    edges = np.diff(ink.astype(np.int8), prepend=np.int8(0), append=np.int8(0))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    # The place of a word in its line: 0 for the source, 1 for the target, 2 for the weight.
    row = np.cumsum(octets == ord("\n"), dtype=np.int32)[begins]
    heads = np.flatnonzero(np.diff(row, prepend=np.int32(-1)))
    sizes = np.diff(np.append(heads, len(begins)))
    lines.add(row[heads] + np.int32(token.line or 1))
    sources.add(_hexes(octets, begins[heads], ends[heads]))
    targets.add(_hexes(octets, begins[heads + 1], ends[heads + 1]))
    weighted = sizes == 3
    if not weighted.any():
        weights.add(_nothing(len(heads)))
        return
    thirds = heads[weighted] + 2
    if "@" in text or "=" in text:
        texts = [text[b:e] for b, e in zip(begins[thirds].tolist(), ends[thirds].tolist(),
                                           strict=True)]
        some = _parameters(texts, ties)
    else:
        some = _decimals(octets, begins[thirds], ends[thirds])
    weights.add(some if weighted.all() else _spread(some, weighted))


def _act(fields: list[tuple[str, Span]]) -> Act:
    word, word_span = fields[-1]
    if len(fields) == 2:
        return Act(None, None, word, word_span, word_span)
    text, span = fields[1]
    first, _, last = text.partition("-")
    return Act(_index(first), _index(last or first), word, span, word_span)


# What is wrong with a line that no grammar takes ------------------------------------------------


_BLANKS: Final = re.compile(r"[ \t]*")
_INK: Final = re.compile(r"[^ \t]*")
_ITEM: Final = re.compile(r"[^\s,]*")


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


class _Line:
    """A line and how far it has been read."""

    def __init__(self, source: Source, number: int) -> None:
        self.source = source
        self.number = number
        self.text = uncommented(source.line(number)).rstrip(" \t")
        self.at = 0
        self.blanks()

    def blanks(self) -> None:
        # Never by slices: a line of a million items would be copied a million times.
        self.at = _end(_BLANKS, self.text, self.at)

    @property
    def rest(self) -> str:
        return self.text[self.at :]

    def word(self) -> str:
        """The characters up to the next blank."""
        return self.text[self.at : _end(_INK, self.text, self.at)]

    def take(self, count: int) -> None:
        self.at += count
        self.blanks()

    def fault(self, code: str, message: str, *, skip: int = 0, length: int = 1, note: str = "",
              help: str = "") -> NccError:
        span = Span(self.number, self.at + skip + 1, max(1, length))
        return NccError(code, message, self.source, span, note=note, help=help)

    def hex(self, what: str, help: str = "") -> NccError | None:
        """Take a hex index, or say what stands in its place."""
        word = self.word()
        if not word:
            return self.fault("E001", f"{what} is missing", help=help)
        if not _HEX.fullmatch(word):
            good = _HEX.match(word)
            skip = good.end() if good else 0
            return self.fault("E106", f"{_short(word)} is no hexadecimal index", skip=skip,
                              length=len(word) - skip,
                              help=help or f"{what} is written in the digits 0-9 a-f, without 0x")
        self.take(len(word))
        return None

    def parameter(self, text: str, skip: int, *, edge: bool) -> NccError | None:
        """Is `text`, at `skip` from here, a weight or bias? (`:` may come before in an in-list.)"""
        if edge and text[:1] == ":":
            text, skip = text[1:], skip + 1
            if text[:1] == "@":
                return self.fault("E109", "a tie follows its source directly", skip=skip,
                                  length=len(text), help="write 00@k0 or 00@k0:0.5")
        if text[:1] == "@":
            name, colon, number = text[1:].partition(":")
            if not _NAME.fullmatch(name):
                return self.fault("E109", f"{_short(name)} is no name of a tie", skip=skip + 1,
                                  length=len(name), help="a letter or _, then letters, digits, _")
            if not colon:
                return None
            text, skip = number, skip + 2 + len(name)
            if text[:1] == "=":
                return self.fault("E109", "a tied parameter cannot be a constant", skip=skip,
                                  length=len(text))
        elif text[:1] == "=":
            text, skip = text[1:], skip + 1
        if NUMBER.fullmatch(text):
            return None
        if _ENDLESS.fullmatch(text):
            return self.fault("E108", f"{text} is not a finite number", skip=skip,
                              length=len(text))
        what = f"{_short(text)} is no number" if text else "a number is missing"
        return self.fault("E107", what, skip=skip, length=len(text),
                          help="numbers are decimal floating point: 0.5, -1.25e-3, 0x1.8p3")

    def surplus(self) -> NccError:
        return self.fault("E001", f"unexpected {_short(self.rest)}", length=len(self.rest))


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _explain(source: Source, format: str, error: NccError) -> NccError:
    """The error that a reader of the format wants for `error`, which lark found."""
    number = error.line or 1
    last = source.text.count("\n")
    while number < last and not uncommented(source.line(number)).strip(" \t"):
        number += 1
    line = _Line(source, number)
    if format == "nam":
        return _explain_row(line) or error
    if _SKIPPED.match(source.text, 0) and _first_line(source) == number:
        found = _explain_count(line)
    elif line.word() in ("N", "n"):
        found = line.fault("E105", "`N` stands twice", length=1)
    elif line.word() in ("fn", "out"):
        found = _explain_fn(line) if line.word() == "fn" else _explain_out(line)
    else:
        found = _explain_neuron(line) if format == "nal" else _explain_edge(line)
    return found or error


def _first_line(source: Source) -> int:
    match = _SKIPPED.match(source.text)
    return source.text.count("\n", 0, match.end() if match else 0) + 1


def _explain_count(line: _Line) -> NccError | None:
    head = "a net starts with its neuron count: N 0e"
    if line.word() not in ("N", "n"):
        word = line.word()
        return line.fault("E104", f"`N` is missing before {_short(word)}", length=len(word),
                          help=head)
    line.take(1)
    return line.hex("the neuron count", head) or (line.surplus() if line.rest else None)


def _explain_fn(line: _Line) -> NccError | None:
    line.take(2)
    found = line.hex("the code of the function", "fn 20 1/(1+exp(-x))")
    if found is None and not line.rest:
        found = line.fault("E135", "the expression is missing", help="fn 20 1/(1+exp(-x))")
    return found


def _explain_out(line: _Line) -> NccError | None:
    line.take(3)
    if not line.rest:
        return line.fault("E001", "an output is missing", help="out 0c,0d")
    return _explain_items(line, weights=False) or (line.surplus() if line.rest else None)


def _explain_items(line: _Line, *, weights: bool) -> NccError | None:
    """The items between commas, up to the first that nothing follows."""
    while True:
        item = line.text[line.at : _end(_ITEM, line.text, line.at)]
        good = _HEX.match(item)
        if not item:
            return line.fault("E001", "an index is missing beside the comma")
        stop = good.end() if good else 0
        if stop == 0 or (stop < len(item) and not (weights and item[stop] in ":@")):
            return line.fault("E106", f"{_short(item)} is no hexadecimal index", skip=stop,
                              length=len(item) - stop,
                              help="indices are written in the digits 0-9 a-f, without 0x")
        if stop < len(item):
            found = line.parameter(item[stop:], stop, edge=True)
            if found:
                return found
        line.take(len(item))
        if not line.text.startswith(",", line.at):
            return None
        line.take(1)


def _explain_neuron(line: _Line) -> NccError | None:
    found = line.hex("the neuron's index", "a line is: index activation in-list, as 04 03 00,01")
    if found:
        return found
    word = line.word()
    if word[:1] in ("+", "-"):
        return line.fault("E120", "a bias without an activation", length=len(word),
                          help="the activation comes first: 04 03 00,01 +0.5")
    if not _WORD.fullmatch(word):
        if _HEX.match(word) and re.search(r"[,:@]", word):
            return line.fault("E120", "an in-list without an activation", length=len(word),
                              help="the activation comes first: 04 03 00,01")
        return line.surplus()
    before = line.at
    line.take(len(word))
    if line.rest.startswith(","):
        line.at = before
        return line.fault("E120", "an in-list without an activation", length=len(word),
                          help="the activation comes first: 04 03 00,01")
    word = line.word()
    if _NAME.fullmatch(word) and not _HEX.fullmatch(word):
        if word not in AGGREGATIONS:
            return line.fault("E119", f"unknown aggregation {_short(word)}", length=len(word),
                              help=near(word, AGGREGATIONS))
        line.take(len(word))
    if line.rest and line.rest[0] not in "+-":
        found = _explain_items(line, weights=True)
        if found:
            return found
    return _explain_bias(line) or (line.surplus() if line.rest else None)


def _explain_bias(line: _Line) -> NccError | None:
    word = line.word()
    if word[:1] == "-":
        return line.fault("E107", "a bias starts with `+`", length=len(word),
                          help=f"write +{word[:40]}")
    if word[:1] == "+":
        found = line.parameter(word[1:], 1, edge=False) if len(word) > 1 else None
        if found:
            return found
        line.take(len(word))
    return None


def _explain_edge(line: _Line) -> NccError | None:
    word = line.word()
    if _NAME.fullmatch(word) and not _HEX.fullmatch(word):
        if word == "act":
            return _explain_act(line)
        if word in ("bias", "agg"):
            return _explain_said(line, word)
        return line.fault("E106", f"{_short(word)} is no hexadecimal index", length=len(word),
                          help=near(word, ("act", "agg", "bias", "fn", "out")))
    help = "an edge is: source target weight, as 00 04 0.5"
    found = line.hex("the source", help) or line.hex("the target", help)
    if found or not line.rest:
        return found
    word = line.word()
    found = line.parameter(word, 0, edge=False)
    line.take(len(word))
    return found or (line.surplus() if line.rest else None)


def _explain_act(line: _Line) -> NccError | None:
    line.take(3)
    if not line.rest:
        return line.fault("E001", "the activation is missing", help="act 04-0d relu")
    word = line.word()
    if len(word) < len(line.rest):
        for part in word.split("-", 1):
            if not _HEX.fullmatch(part):
                return line.fault("E106", f"{_short(part)} is no hexadecimal index",
                                  length=len(word), help="act 04 03 or act 04-0d 03")
        line.take(len(word))
        word = line.word()
    if not _WORD.fullmatch(word):
        return line.surplus()
    line.take(len(word))
    return line.surplus() if line.rest else None


def _explain_said(line: _Line, what: str) -> NccError | None:
    line.take(len(what))
    example = "bias 04 +0.1" if what == "bias" else "agg 09 mul"
    found = line.hex("the neuron's index", example)
    if found:
        return found
    word = line.word()
    if not word:
        return line.fault("E001", f"{what} says nothing of the neuron", help=example)
    if what == "agg":
        if word not in AGGREGATIONS:
            return line.fault("E119", f"unknown aggregation {_short(word)}", length=len(word),
                              help=near(word, AGGREGATIONS))
        line.take(len(word))
    elif word[:1] not in ("+", "-"):
        return line.fault("E107", "a bias starts with `+`", length=len(word),
                          help=f"write +{word[:40]}")
    return _explain_bias(line) or (line.surplus() if line.rest else None)


def _explain_row(line: _Line) -> NccError | None:
    label = re.compile(r"[A-Za-z0-9_]*\|[ \t]*|[A-Za-z](?=[ \t]*[01])[ \t]*").match(line.text,
                                                                                   line.at)
    if label:
        line.at = label.end()
    good = re.compile(r"[01]*").match(line.text, line.at)
    skip = len(good[0]) if good else 0
    shown = line.rest[skip : skip + 1]
    what = f"{shown!r} in a row of 0 and 1" if shown else "a row without digits"
    return line.fault("E134", what, skip=skip, help="a row is N digits 0 or 1, after its label")
