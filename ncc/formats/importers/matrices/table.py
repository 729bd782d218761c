"""Tables of numbers in text, read by numpy: a line a row, blanks or tabs between."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign
from ncc.parsing import NUMBER

Column = tuple[str, Any]
BLOCK: Final = 1 << 20  # bytes that are text at a time
KINDS: Final = {"i": "an integer of 32 bits", "f": "a number"}


def read(file: Foreign, begin: int, columns: Sequence[Column], *, comments: str | None = None,
         rows: int | None = None) -> NDArray[Any]:
    """The rows of a file from byte `begin` on, as a record each; no NccError but E801, which names
    the line.

    columns   names and types of the fields
    comments  what begins a comment, up to the end of its line
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as an integer that is written as 1.0
        warnings.filterwarnings("ignore", "loadtxt: input contained no data")
        try:
            return np.loadtxt(_lines(file.data, begin), list(columns), comments=comments, ndmin=1,
                              max_rows=rows)
        except (ValueError, DeprecationWarning, UserWarning):
            raise _fault(file, begin, columns, comments) from None


def _lines(data: bytes, begin: int) -> Iterator[str]:
    """Lines of ASCII, without their ends. UnicodeDecodeError where they are not."""
    rest = ""
    for at in range(begin, len(data), BLOCK):
        lines = (rest + data[at : at + BLOCK].decode("ascii")).replace("\r", "\n").split("\n")
        rest = lines.pop()
        yield from lines
    yield rest


def rows(data: bytes, begin: int, comments: str | None = None) -> Iterator[tuple[int, str]]:
    """The rows, with the numbers of their lines; what is not ASCII as ?."""
    line = 1 + data.count(b"\n", 0, begin)
    at = begin
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        text = data[at:end].decode("ascii", "replace").strip()
        if comments is not None:
            text = text.partition(comments)[0].strip()
        if text:
            yield line, text
        at, line = end + 1, line + 1


def line_of(file: Foreign, begin: int, k: int, comments: str | None = None) -> int:
    """The line of row k."""
    return next((line for n, (line, _) in enumerate(rows(file.data, begin, comments)) if n == k), 0)


def _fault(file: Foreign, begin: int, columns: Sequence[Column], comments: str | None) -> NccError:
    """The first row that is no record of these columns."""
    for line, text in rows(file.data, begin, comments):
        fields = text.split()
        if len(fields) != len(columns):
            what = f"{len(fields)} fields, not {len(columns)}: " + " ".join(n for n, _ in columns)
            return file.fault("E801", what, line=line)
        for field, (name, kind) in zip(fields, columns, strict=True):
            if not _fits(field, np.dtype(kind)):
                return file.fault(
                    "E801", f"{field[:40]!r} as {name} is not {KINDS[np.dtype(kind).kind]}",
                    line=line)
    return file.fault("E801", "this is no table of numbers")


def _fits(field: str, kind: np.dtype[Any]) -> bool:
    if kind.kind == "f":
        return NUMBER.fullmatch(field) is not None and "x" not in field.lower()
    digits = field[1:] if field[:1] in ("+", "-") else field
    return digits.isdecimal() and len(digits) < 20 and int(digits) < 2**31
