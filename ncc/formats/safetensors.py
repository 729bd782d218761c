"""Files of safetensors: arrays by name, read and written without its library.

Eight bytes, the length of a JSON header, little-endian; the header, which gives each array its
dtype, its shape and its place among the bytes behind; those bytes, little-endian.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError, Source

LONGEST: Final = 100_000_000  # bytes of a header, as the format has it
DTYPES: Final = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8",
                 "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "?"}
Arrays = dict[str, NDArray[Any]]


def read(path: str | Path) -> Arrays:
    """The arrays in a file. NccError E140 where it cannot be read, or is none of safetensors."""
    source = Source(str(path), "")
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise NccError("E140", f"cannot read {path}: {error.strerror or error}") from None
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, LONGEST):
        raise NccError("E140", "it is no file of safetensors: it ends within its header", source)
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise NccError("E140", f"its header is no JSON: {error}", source) from None
    if not isinstance(header, dict):
        raise NccError("E140", "its header is no object of JSON", source)
    found, body = {}, memoryview(data)[8 + size :]
    for name, held in header.items():
        if name != "__metadata__":
            made = _array(held, body)
            if made is None:
                raise NccError("E140", f"its header says of {name[:60]!r} what cannot be, or a "
                               "dtype that is not read", source)
            found[name] = made
    return found


def _array(held: Any, body: memoryview) -> NDArray[Any] | None:
    """An array by its entry in the header; None for a malformed one."""
    if not isinstance(held, dict):
        return None
    dtype, shape, place = [held.get(key) for key in ("dtype", "shape", "data_offsets")]
    if not (isinstance(dtype, str) and dtype in DTYPES and _sizes(shape) and _sizes(place)):
        return None
    assert isinstance(shape, list) and isinstance(place, list)
    if len(place) != 2 or len(shape) > 32 or not place[0] <= place[1] <= len(body):
        return None
    kind = np.dtype(DTYPES[dtype])
    if prod(shape) * kind.itemsize != place[1] - place[0]:
        return None
    flat = np.frombuffer(body[place[0] : place[1]], kind).reshape(shape)
    if dtype == "BF16":
        return (flat.astype(np.uint32) << 16).view(np.float32)
    return flat


def _sizes(held: Any) -> bool:
    return isinstance(held, list) and all(
        isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**48
        for each in held)


def encode(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A file of arrays of reals, integers or booleans."""
    names = {np.dtype(word): name for name, word in DTYPES.items() if name != "BF16"}
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    at = 0
    # Larger elements first, so that each array begins at a multiple of its element's size.
    for name, held in sorted(arrays.items(), key=lambda pair: (-pair[1].itemsize, pair[0])):
        kind = held.dtype.newbyteorder("<")
        parts.append(np.ascontiguousarray(held, kind).tobytes())
        header[name] = {"dtype": names[kind], "shape": list(held.shape),
                        "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    words = json.dumps(header, separators=(",", ":")).encode()
    words += b" " * (-len(words) % 8)
    return len(words).to_bytes(8, "little") + words + b"".join(parts)
