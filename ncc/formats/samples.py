"""Samples in files: CSV, npy and npz."""

from __future__ import annotations

import io
import math
import re
import shlex
from collections.abc import Callable
from csv import reader
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError, Source, Span
from ncc.parsing import NUMBER, real

Array = NDArray[Any]
# A number of a net file, or what only data may hold.
_FIELD = re.compile(rf"(?:{NUMBER.pattern}|[+-]?(?:nan|inf|infinity))", re.IGNORECASE)
# Text of nothing else is taken by Python's own float, which reads numbers as C does.
_PLAIN = re.compile(r"[-+.,0-9eE \t\n]*+")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[_',\u00a0\u2009\u202f ]\d{3})+(?:\.\d*)?")


def load(path: str, columns: int, stdin: bytes | None = None, *, wanted: str = "",
         entry: str = "x", header: bool | None = None, labels: bool = False,
         note: Callable[[str], None] | None = None) -> Array:
    """float64 (batch, columns) from `.npy`, `.npz` or CSV: a sample a row, commas between (or
    blanks), lines that end as they do on any system, `#` before comments. Of an `.npz` it is the
    only entry, or the one named `entry`, in either case.

    stdin   the bytes instead of a file's
    header  whether the first row of a CSV names columns; None: if all of it begins with letters,
            and then `note` is called with a line that says so
    labels  whether a sample may be a word, the name of its class: then the result is of strings,
            (batch, 1), unless all are numbers; a header is one if all below it are numbers

    NaN and infinities are data. NccError E101: no such file; E623 names the row, the column and
    the cause of what is no number, E624 a row of another length, with `wanted` ("the net has 3
    inputs") as the reason.
    """
    wanted = wanted or f"the net has {columns} inputs"
    if stdin is not None:
        raw = stdin
    else:
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise NccError("E101", f"cannot read {path}: {error.strerror or error}") from None
    if path.endswith((".npy", ".npz")):
        return _array(path, raw, columns, wanted, entry, labels)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NccError("E623", f"{path} is not UTF-8 text") from None
    text = text.replace("\r\n", "\n")
    if "\n" not in text:
        text = text.replace("\r", "\n")  # line ends of old Macs
    table = _Table(Source(path, text), columns, wanted, labels)
    skipped = table.read(header)
    if skipped is not None and header is None and note is not None:
        shown = table.source.line(skipped)
        note(f"{path}: line {skipped} names the columns, and is skipped: {shown[:60]}")
    if table.words:
        return np.array(table.words)[:, None]
    return np.array(table.rows, np.float64).reshape(len(table.rows), columns)


@dataclass
class _Table:
    """The rows of a CSV, as numbers or as words."""

    source: Source
    columns: int
    wanted: str
    labels: bool

    def read(self, header: bool | None) -> int | None:
        """Fill `rows` (or `words`, where some row is no number): the line of the header, if there
        is one."""
        self.rows: list[list[float]] = []
        self.words: list[str] = []
        text, head = self.source.text, None
        lines = text.split("\n")
        plain = _PLAIN.fullmatch(text)
        wordy: list[bool] = []  # of labels: whether each is no number
        for at, line in enumerate(lines, 1):
            if "#" in line:
                line = line.partition("#")[0]
            if not line or line.isspace():
                continue
            if head is None and not self.rows and (
                    header or (header is None and not self.labels and _names_columns(line))):
                head = at
                plain = _PLAIN.fullmatch("\n".join(lines[at:]))
                continue
            fields = _fields(line, self.labels)
            if len(fields) != self.columns:
                raise self._misfit(at, line, fields)
            try:
                self.rows.append([float(f) if plain else _number(f) for f in fields])
                wordy.append(False)
            except ValueError:
                if not self.labels or not fields[0]:
                    raise self._no_number(at, line) from None
                self.rows.append([math.nan])
                wordy.append(True)
            if self.labels:
                self.words.append(fields[0])
        if sum(wordy) == 1 and wordy[0] and len(wordy) > 1 and header is None:
            del self.rows[0], self.words[0]
            head = next(at for at, line in enumerate(lines, 1) if line.partition("#")[0].strip())
            wordy = []
        if not any(wordy):
            self.words = []
        return head

    def _file(self) -> str:
        return shlex.quote(self.source.name)

    def _misfit(self, at: int, line: str, fields: list[str]) -> NccError:
        """A row of another length."""
        words, comma = line.split(), ""
        if ";" in line:
            return self._no_number(at, line)
        if len(fields) == self.columns + 1 and not fields[-1]:
            comma = ": the line ends with a comma"
            help = f"sed 's/,[ \\t]*$//' < {self._file()}"
        elif len(words) == self.columns and all(_DECIMAL_COMMA.fullmatch(w) for w in words):
            help = f"where commas are decimal signs: tr , . < {self._file()}"
        elif any(re.fullmatch(r"\d{3}", f) for f in fields[1:]) and len(fields) > self.columns:
            help = "digits are not grouped by commas: 1000, not 1,000"
        else:
            help = ""
        return NccError("E624", f"{len(fields)} values, {self.wanted}{comma}", self.source,
                        Span(at, 1, max(1, len(line.rstrip()))), help=help)

    def _no_number(self, at: int, line: str) -> NccError:
        """The first field of the line that is no number, at its place, with the cause."""
        if ";" in line:
            where = Span(at, line.index(";") + 1)
            parts = [part.strip() for part in line.split(";")]
            if any(_DECIMAL_COMMA.fullmatch(part) for part in parts):
                return NccError("E623", "`;` separates the values, and their decimal sign is a "
                                "comma", self.source, where,
                                help=f"tr ',;' '.,' < {self._file()}")
            return NccError("E623", "`;` separates the values, not a comma", self.source, where,
                            help=f"tr ';' ',' < {self._file()}")
        field = r'(?:^|(?<=,))(?:"[^"]*"|[^,])*+' if "," in line else r"\S+"
        for found in re.finditer(field, line):
            text = found[0].strip(" \t")
            bare = text.strip('"')
            try:
                _number(bare)
            except ValueError:
                start = found.start() + len(found[0]) - len(found[0].lstrip(" \t"))
                what = f"{text[:40]!r} is no number" if text else "a field is empty"
                help = ""
                if "\r" in text:
                    help = "a carriage return ends a line only before a line feed, or in a file " \
                           "without any"
                elif _GROUPED.fullmatch(bare):
                    help = "digits are not grouped: 1000"
                elif _DECIMAL_COMMA.fullmatch(bare):
                    help = "the decimal sign is a point: 0.5"
                return NccError("E623", what, self.source, Span(at, start + 1, max(1, len(text))),
                                help=help)
        return NccError("E623", "no row of numbers", self.source, Span(at, 1))


def _fields(line: str, label: bool) -> list[str]:
    if '"' in line:
        return [field.strip(" \t") for field in next(reader([line], skipinitialspace=True))]
    if "," in line:
        return line.split(",")
    return [line.strip(" \t")] if label else line.split()


def _names_columns(line: str) -> bool:
    """Whether nothing in the row begins as a number does; and no `;` is between the names."""
    names = [field.strip(" \t\"'") for field in _fields(line, False)]
    return ";" not in line and any(names) and all(
        not name or ((name[0].isalpha() or name[0] in "_([") and not _FIELD.fullmatch(name))
        for name in names)


def _array(path: str, raw: bytes, columns: int, wanted: str, entry: str, labels: bool) -> Array:
    try:
        array: Any = np.load(io.BytesIO(raw), allow_pickle=False)
        if not isinstance(array, np.ndarray):
            names = [n for n in array.files if n.lower() == entry]
            if len(array.files) != 1 and len(names) != 1:
                raise NccError("E623", f"{path} has no entry {entry}",
                               note="it has " + ", ".join(array.files[:8]))
            array = array[(names or array.files)[0]]
    except (NccError, MemoryError):
        raise
    except Exception as error:
        # numpy, zipfile and zlib each have errors of their own for a damaged file.
        objects = "allow_pickle" in str(error)
        raise NccError("E623", f"{path} holds Python objects, not numbers" if objects else
                       f"{path} is no .npy or .npz file of numpy's", help=(
                           "numpy.asarray(x, float) before numpy.save" if objects else "")
                       ) from None
    if array.dtype.kind not in ("fiubU" if labels else "fiub"):
        kinds = {"U": "texts", "S": "bytes", "c": "complex numbers", "M": "dates", "V": "records",
                 "m": "times"}
        what = kinds.get(array.dtype.kind, "no numbers")
        raise NccError("E623", f"{path} holds {what} ({array.dtype}), not real numbers")
    if array.ndim == 1:
        # One sample, or samples of one value: for a net of one input both are the same.
        array = array[:, None] if columns == 1 else array[None]
    if array.ndim != 2 or array.shape[1] != columns:
        turned = array.ndim == 2 and array.shape[0] == columns
        raise NccError("E624", f"{path} has shape {array.shape}, {wanted}",
                       help="a sample is a row: is it the transpose?" if turned else "")
    return array if array.dtype.kind == "U" else np.asarray(array, np.float64)


def _number(text: str) -> float:
    text = text.strip(" \t")
    if not _FIELD.fullmatch(text):
        raise ValueError(text)
    return real(text)


def csv(y: Array) -> str:
    """A sample a row; each number with the fewest digits that carry its value."""
    return "".join([",".join(map(str, row)) + "\n" for row in y])


def encode(y: Array, suffix: str) -> bytes:
    if suffix == ".npy":
        out = io.BytesIO()
        np.save(out, y)
        return out.getvalue()
    return csv(y).encode()
