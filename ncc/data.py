"""Samples in files: CSV and npy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.source import NccError, Source, Span

Array = NDArray[Any]


def load(path: str, columns: int) -> Array:
    """float64 (batch, columns) from `.npy` or CSV: a sample a row, commas or blanks between.

    NccError E110 names the row and the column of what is no number, E111 a row of another length.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise NccError("E101", f"cannot read {path}: {error.strerror or error}") from None
    if path.endswith(".npy"):
        try:
            array = np.load(io.BytesIO(raw), allow_pickle=False)
            array = np.atleast_2d(np.asarray(array, np.float64))
        except (ValueError, EOFError, TypeError):
            raise NccError("E110", f"{path} is no numeric .npy file") from None
        if array.ndim != 2 or array.shape[1] != columns:
            raise NccError("E111", f"{path} has shape {array.shape}, the net has {columns} inputs")
        return array
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NccError("E110", f"{path} is not UTF-8 text") from None
    source = Source(path, text)
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        if len(fields) != columns:
            raise NccError("E111", f"{len(fields)} values, the net has {columns} inputs", source,
                           Span(number, 1, max(1, len(line.rstrip()))))
        try:
            rows.append(list(map(float, fields)))
        except ValueError:
            bad = next(f for f in fields if not _is_number(f))
            raise NccError("E110", f"{bad!r} is no number", source,
                           Span(number, line.index(bad) + 1, len(bad))) from None
    return np.array(rows, np.float64).reshape(len(rows), columns)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def csv(y: Array) -> str:
    """A sample a row; each number with the fewest digits that carry its value."""
    return "".join([",".join(map(str, row)) + "\n" for row in y])


def encode(y: Array, suffix: str) -> bytes:
    if suffix == ".npy":
        out = io.BytesIO()
        np.save(out, y)
        return out.getvalue()
    return csv(y).encode()
