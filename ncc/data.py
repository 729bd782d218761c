"""Samples in files: CSV, npy and npz."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.parse import NUMBER
from ncc.source import NccError, Source, Span

Array = NDArray[Any]
# A number of a net file, or what only data may hold.
_FIELD = re.compile(rf"(?:{NUMBER.pattern}|[+-]?(?:nan|inf|infinity))", re.IGNORECASE)
# Lines of nothing else are taken by Python's own float, which reads them as C does.
_PLAIN = re.compile(r"[-+.,0-9eE \t\n]*+")


def load(path: str, columns: int, stdin: bytes | None = None, *, wanted: str = "",
         entry: str = "x") -> Array:
    """float64 (batch, columns) from `.npy`, `.npz` or CSV: a sample a row, commas between (or
    blanks). Of an `.npz` it is the only entry, or the one named `entry`, in either case.

    `stdin` are the bytes instead of a file's. NaN and infinities are data. NccError E101: no such
    file; E623 names the row and the column of what is no number, E624 a row of another length,
    with `wanted` ("the net has 3 inputs") as the reason.
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
        return _array(path, raw, columns, wanted, entry)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NccError("E623", f"{path} is not UTF-8 text") from None
    text = text.replace("\r\n", "\n")
    source = Source(path, text)
    number = float if _PLAIN.fullmatch(text) else _number
    rows = []
    for at, line in enumerate(text.split("\n"), 1):
        if not line or line.isspace():
            continue
        fields = line.split(",") if "," in line else line.split()
        if len(fields) != columns:
            raise NccError("E624", f"{len(fields)} values, {wanted}", source,
                           Span(at, 1, max(1, len(line.rstrip()))))
        try:
            rows.append([number(f) for f in fields])
        except ValueError:
            raise _bad(source, at, line) from None
    return np.array(rows, np.float64).reshape(len(rows), columns)


def _array(path: str, raw: bytes, columns: int, wanted: str, entry: str) -> Array:
    try:
        array: Any = np.load(io.BytesIO(raw), allow_pickle=False)
        if not isinstance(array, np.ndarray):
            names = [n for n in array.files if n.lower() == entry]
            if len(array.files) != 1 and len(names) != 1:
                raise NccError("E623", f"{path} has no entry {entry}",
                               note="it has " + ", ".join(array.files[:8]))
            array = array[(names or array.files)[0]]
        if array.dtype.kind not in "fiub":
            raise ValueError
    except (NccError, MemoryError):
        raise
    except Exception:
        # numpy, zipfile and zlib each have errors of their own for a damaged file.
        raise NccError("E623", f"{path} is no numeric .npy or .npz file") from None
    if array.ndim == 1:
        # One sample, or samples of one value: for a net of one input both are the same.
        array = array[:, None] if columns == 1 else array[None]
    if array.ndim != 2 or array.shape[1] != columns:
        raise NccError("E624", f"{path} has shape {array.shape}, {wanted}")
    return np.asarray(array, np.float64)


def _number(text: str) -> float:
    text = text.strip(" \t")
    if not _FIELD.fullmatch(text):
        raise ValueError(text)
    try:
        return float.fromhex(text) if "x" in text.lower() else float(text)
    except OverflowError:
        return -math.inf if text.startswith("-") else math.inf


def _bad(source: Source, at: int, line: str) -> NccError:
    """The first field of the line that is no number, at its place."""
    for found in re.finditer(r"(?:^|(?<=,))[^,]*+" if "," in line else r"\S+", line):
        text = found[0].strip(" \t")
        try:
            _number(text)
        except ValueError:
            start = found.start() + len(found[0]) - len(found[0].lstrip(" \t"))
            what = f"{text[:40]!r} is no number" if text else "a field is empty"
            return NccError("E623", what, source, Span(at, start + 1, max(1, len(text))))
    return NccError("E623", "no row of numbers", source, Span(at, 1))


def csv(y: Array) -> str:
    """A sample a row; each number with the fewest digits that carry its value."""
    return "".join([",".join(map(str, row)) + "\n" for row in y])


def encode(y: Array, suffix: str) -> bytes:
    if suffix == ".npy":
        out = io.BytesIO()
        np.save(out, y)
        return out.getvalue()
    return csv(y).encode()
