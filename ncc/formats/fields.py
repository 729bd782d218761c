"""Fat tokens, which are many lines of a net file, to arrays: hex indices, numbers, ties."""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import nan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ncc.errors import Span
from ncc.ir.graph import Ints
from ncc.ir.syntax import OUT_OF_RANGE, Parameters
from ncc.parsing import Token, real

Octets = NDArray[np.uint8]

COMMENTS: Final = "%#"  # each begins one
COMMENT: Final = re.compile(r"[%#][^\n]*")

PAIR: Final = re.compile(r"([~0-9a-fA-F]++)\*([~0-9a-fA-F]++)([^,\n]*+)")  # 00*01:0.5

_NIBBLE: Final = np.zeros(256, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789", np.uint8)] = np.arange(10)
_NIBBLE[np.frombuffer(b"abcdef", np.uint8)] = np.arange(10, 16)
_NIBBLE[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)
_NIBBLE.setflags(write=False)


PIECE: Final = 1 << 20  # characters that are read together: their arrays take ten times as much


def pieces(text: str, mark: str, first: int = 0, last: int | None = None) -> Iterator[str]:
    """What stands between these two places of `text`, in pieces of about PIECE characters that end
    before a `mark`, which is in none of them."""
    end = len(text) if last is None else last
    while end - first > PIECE:
        at = text.find(mark, first + PIECE, end)
        if at < 0:
            break
        yield text[first:at]
        first = at + 1
    yield text[first:end]


def hex_index(text: str) -> int:
    """A hex index of any length; those that no net can hold are all one."""
    return min(int(text, 16), OUT_OF_RANGE)


def octets_of(text: str) -> Octets:
    return np.frombuffer(text.encode("ascii"), np.uint8)


def hexes(octets: Octets, begins: NDArray[np.intp], ends: NDArray[np.intp]) -> Ints:
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
    result[~long] = hexes(octets, begins[~long], ends[~long])
    fields = zip(begins[long].tolist(), ends[long].tolist(), strict=True)
    result[long] = [hex_index(octets[b:e].tobytes().decode("ascii")) for b, e in fields]
    return result


def hex_list(text: str) -> Ints:
    """Hex words with one comma between them."""
    if not text:
        return np.zeros(0, np.int32)
    octets = octets_of(text)
    commas = np.flatnonzero(octets == ord(","))
    return hexes(octets, np.append(0, commas + 1), np.append(commas, len(octets)))


def places_of(octets: Octets, mark: str, begins: NDArray[np.intp], ends: NDArray[np.intp]
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


def decimals(octets: Octets, begins: NDArray[np.intp], ends: NDArray[np.intp]) -> Parameters:
    """The numbers written at begins .. ends, as strtod reads them.

    One of at most 15 digits without an exponent is an integer over a power of ten, both exact, so
    that one division rounds it rightly (Clinger 1990); others go one at a time.
    """
    dots = places_of(octets, ".", begins, ends)
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
        values[k] = real(octets[begins[k] : ends[k]].tobytes().decode("ascii"))
    count = len(values)
    return Parameters(np.broadcast_to(np.int32(-1), count), values,
                      np.broadcast_to(np.False_, count))


def parameters_of(texts: list[str], ties: dict[str, int]) -> Parameters:
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
                value = real(number)
        elif text:
            value = real(text.lstrip("="))
        names.append(tie)
        values.append(value)
        constant.append(text[:1] == "=")
    return Parameters(np.array(names, np.int32), np.array(values, np.float64),
                      np.array(constant, np.bool_))


def undelayed(octets: Octets, begins: NDArray[np.intp]
              ) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Where the index of each source begins, behind its `~`, and whether it has one."""
    marked = octets[begins] == ord("~")
    return begins + marked, marked


def nowhere(count: int) -> NDArray[np.bool_]:
    """`count` times False; takes no memory."""
    return np.broadcast_to(np.False_, count)


def no_parameters(count: int) -> Parameters:
    """`count` parameters of which nothing is said; takes no memory."""
    return Parameters(np.broadcast_to(np.int32(-1), count), np.broadcast_to(np.float64(nan), count),
                      np.broadcast_to(np.False_, count))


def scatter(parameters: Parameters, where: NDArray[np.bool_]) -> Parameters:
    """`parameters` at the places that `where` holds, nothing elsewhere."""
    result = Parameters(np.full(len(where), -1, np.int32), np.full(len(where), nan),
                        np.zeros(len(where), np.bool_))
    result.ties[where] = parameters.ties
    result.values[where] = parameters.values
    result.constant[where] = parameters.constant
    return result


class Column:
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


class ParameterColumns:
    """Parameters, piece by piece."""

    def __init__(self, most: int) -> None:
        self.ties = Column(most, np.int32(-1))
        self.values = Column(most, np.float64(nan))
        self.constant = Column(most, np.False_)

    def add(self, piece: Parameters) -> None:
        self.ties.add(piece.ties)
        self.values.add(piece.values)
        self.constant.add(piece.constant)

    def whole(self) -> Parameters:
        return Parameters(self.ties.whole(), self.values.whole(), self.constant.whole())


def int_column(most: int) -> Column:
    return Column(most, np.int32(0))


def words_of(token: Token) -> list[tuple[str, Span]]:
    """The words of a line of its own, with their places; commas separate as blanks do."""
    line = token.line or 1
    return [(m[0], Span(line, m.start() + 1, len(m[0])))
            for m in re.finditer(r"[^\s,]+", COMMENT.sub("", token))]
