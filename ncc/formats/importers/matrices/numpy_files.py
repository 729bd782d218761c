"""Matrices in files of numpy's: `.npz` of scipy.sparse.save_npz, `.npz` and `.npy` of arrays.

Nothing is unpickled or evaluated. What an array's header claims is compared with limits and with
the other arrays before any of its data is read, so that a file takes memory for no more than it
holds, however well it is packed.
"""

from __future__ import annotations

import io
import re
import zipfile
from math import prod
from typing import IO, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options, listed
from ncc.formats.importers.matrices import objects
from ncc.formats.importers.matrices.arrays import (
    TAKES,
    Matrix,
    fits,
    real,
    too_large,
)

LONGEST_HEAD: Final = 1 << 16  # bytes of the text before an array
# Where arrays are so much larger than their file, and so many bytes, it is no net that they are.
PACKED: Final = 200
UNPACKED: Final = 1 << 26
_PARTS: Final = {name: re.compile(rf"['\"]{name}['\"]\s*:\s*{value}") for name, value in (
    ("descr", r"['\"]([<>|=]?[a-zA-Z]\d+)['\"]"), ("fortran_order", "(True|False)"),
    ("shape", r"\(((?: *\d{1,18}L? *,)*+(?: *\d{1,18}L? *)?) *\)"))}
AXES: Final = {"csr": (0, 1), "csc": (1, 0)}  # of what `indptr` and `indices` count


class Head(NamedTuple):
    """What an array says of itself."""

    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)


def recognises(file: Foreign) -> bool:
    return file.data.startswith(b"\x93NUMPY") or (
        file.data.startswith(b"PK") and b".npy" in file.data and b"conns.npy" not in file.data)


def read(files: list[Foreign], options: Options) -> Imported:
    """The net of a matrix in a file, or of several, in one file or more, one a layer."""
    items: list[Matrix | objects.Array] = []
    for file in files:
        if file.data.startswith(b"\x93NUMPY"):
            stream = io.BytesIO(file.data)
            head = _head(file, stream)
            items.append((file, _values(file, stream, _within(head, file, options))))
        else:
            items += Archive(file, options).matrices()
    return objects.net(items, options, "scipy", layered=options.layered)


class Archive:
    """The entries of an `.npz`: `heads` by name, `array` for each. NccErrors E801, E802, E817, E818
    and E819."""

    def __init__(self, file: Foreign, options: Options) -> None:
        self.file, self.options = file, options
        self.heads: dict[str, Head] = {}
        with _Damage(file):
            self.zip = zipfile.ZipFile(io.BytesIO(file.data))
            for name in self.zip.namelist():
                if len(self.heads) == 4096:
                    raise file.fault("E819", "an archive of more than 4096 entries")
                entry = name.removesuffix(".npy")
                if entry in self.heads:
                    raise file.fault("E801", "a second entry of this name", f"/{entry}")
                with self.zip.open(name) as stream:
                    self.heads[entry] = _head(file, stream, entry)
        size = sum(head.size * head.dtype.itemsize for head in self.heads.values())
        if size > max(UNPACKED, PACKED * len(file.data)):
            raise file.fault("E819", f"{size >> 20} MiB packed into {len(file.data)} bytes",
                             help="numpy.savez does not pack")

    def matrices(self) -> list[Matrix | objects.Array]:
        if not self.heads:
            raise self.file.fault("E801", "an archive without entries")
        if "format" not in self.heads:
            return [(self.file, self.array(name, 2)) for name in self.heads]
        word = self.array("format", 0).tobytes().replace(b"\0", b"").decode("ascii", "replace")
        shape = [int(size) for size in self.indices("shape")[:3]]
        if len(shape) != 2 or min(shape) < 0:
            raise self.file.fault("E801", f"{shape} is no shape of a matrix", "/shape")
        fits(self.file, max(shape), self.head("data").size, self.options)
        if word == "coo":
            rows, columns = (self.indices(name, "data") for name in ("row", "col"))
        elif word in AXES:
            rows, columns = self.compressed(*(shape[axis] for axis in AXES[word]))
            rows, columns = (rows, columns) if word == "csr" else (columns, rows)
        else:
            raise self.file.fault("E813", f"the format is {word}, and {listed(('coo', *AXES))} "
                                  "are read", "/format", help="save_npz(file, matrix.tocsr())")
        return [Matrix(self.file, (shape[0], shape[1]), rows, columns,
                       real(self.file, self.array("data", 1)))]

    def compressed(self, lists: int, _: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """The list that each entry is in, and its place there. NccError E801."""
        indices = self.indices("indices", "data")
        if self.head("indptr").shape != (lists + 1,):
            raise self.file.fault("E801", f"{lists} lists, and an array of shape "
                                  f"{self.head('indptr').shape} of their starts", "/indptr")
        starts = self.indices("indptr")
        if starts[0] != 0 or starts[-1] != len(indices) or (np.diff(starts) < 0).any():
            raise self.file.fault("E801", f"these are no starts of lists of {len(indices)} entries",
                                  "/indptr")
        return np.repeat(np.arange(lists, dtype=np.int32), np.diff(starts)), indices

    def head(self, name: str) -> Head:
        if name not in self.heads:
            raise self.file.fault("E801", f"the entry {name} is missing", note="it has "
                                  + listed(self.heads))
        return self.heads[name]

    def indices(self, name: str, like: str | None = None) -> NDArray[Any]:
        """Integers, as many as `like` has."""
        head = self.head(name)
        if head.dtype.kind not in "iu" or like is not None and self.head(like).shape != head.shape:
            raise self.file.fault("E801", f"an array of {head.dtype}, {head.shape}"
                                  + (f", beside {like}, {self.head(like).shape}" if like else ""),
                                  f"/{name}")
        return self.array(name, 1)

    def array(self, name: str, axes: int) -> NDArray[Any]:
        head = self.head(name)
        if len(head.shape) != axes:
            raise self.file.fault("E801", f"an array of {len(head.shape)} axes, not {axes}",
                                  f"/{name}")
        _within(head, self.file, self.options, f"/{name}")
        entry = name + ".npy" if name + ".npy" in self.zip.NameToInfo else name
        with _Damage(self.file), self.zip.open(entry) as stream:
            _head(self.file, stream, name)
            return _values(self.file, stream, head, f"/{name}")


class _Damage:
    """Says E801 for what zipfile and zlib raise of a damaged file."""

    def __init__(self, file: Foreign) -> None:
        self.file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if isinstance(error, NccError | MemoryError):
            return
        if isinstance(error, Exception):
            raise self.file.fault("E801", f"a damaged zip file: {error}") from None


def _head(file: Foreign, stream: IO[bytes], at: str = "") -> Head:
    """What stands before an array. NccErrors E801, E802."""
    at = f"/{at}" if at else ""
    magic = stream.read(8)
    if magic[:6] != b"\x93NUMPY" or len(magic) < 8:
        raise file.fault("E801", "this is no array of numpy's", at)
    width = {1: 2, 2: 4, 3: 4}.get(magic[6])
    if width is None:
        raise file.fault("E802", f"version {magic[6]} of the array format, and 1 to 3 are known",
                         at)
    length = int.from_bytes(stream.read(width), "little")
    text = stream.read(min(length, LONGEST_HEAD)).decode("latin-1")
    found = {name: part.search(text) for name, part in _PARTS.items()}
    if "O" in text.partition("descr")[2][:8] and found["descr"] is None:
        raise file.fault("E818", "an array of Python objects, which is a pickle", at)
    if length > LONGEST_HEAD or None in found.values():
        raise file.fault("E801" if found["descr"] or "descr" not in text else "E817",
                         f"this is no array of numbers: {text[:60]!r}", at)
    descr, fortran, shape = (match[1] for match in found.values() if match is not None)
    try:
        dtype = np.dtype(descr)
    except TypeError:
        raise file.fault("E801", f"no type of numpy's is called {descr}", at) from None
    sizes = tuple(int(size.strip(" L")) for size in shape.split(",")[:64] if size.strip())
    return Head(dtype, fortran == "True", sizes)


def _within(head: Head, file: Foreign, options: Options, at: str = "") -> Head:
    """The head of an array that memory may be taken for. NccErrors E817, E819."""
    if head.dtype.kind == "O":
        raise file.fault("E818", "an array of Python objects, which is a pickle", at)
    if head.dtype.kind not in "fiubUS" or head.dtype.itemsize > 64:
        raise file.fault("E817", f"an array of {head.dtype}: no real numbers", at)
    if head.size > options.max_edges + 1:
        raise too_large(file, max(head.shape, default=1), head.size, options)
    return head


def _values(file: Foreign, stream: IO[bytes], head: Head, at: str = "") -> NDArray[Any]:
    """The array itself, which is all that follows."""
    values = np.empty(head.size, head.dtype)
    room = values.view(np.uint8).data if values.size else memoryview(b"")
    done = 0
    while done < len(room):
        part = stream.read(min(len(room) - done, 1 << 20))
        if not part:
            raise file.fault("E801", f"{len(room)} bytes of numbers are declared, and {done} "
                                     "follow", at)
        room[done : done + len(part)] = part
        done += len(part)
    if stream.read(1):
        raise file.fault("E801", f"more follows than the {len(room)} bytes that are declared", at)
    return values.reshape(head.shape, order="F" if head.fortran else "C")


IMPORTER = Importer("scipy", "a matrix of scipy.sparse or numpy, live or as .npz or .npy",
                    (".npz", ".npy"), recognises, read, TAKES, objects.recognises,
                    objects.from_object, layers=True)
