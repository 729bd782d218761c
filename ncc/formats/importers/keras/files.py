"""Files of Keras: `.keras`, a zip of JSON and HDF5, and the older `.h5`; neither needs Keras."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError, optional
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Json, Options, listed
from ncc.formats.importers.keras.model import Reader

ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
LONGEST_JSON: Final = 2**26  # bytes
RATIO: Final = 1100  # deflate makes no byte of less than a thousandth
GLOBAL: Final = ord("G")
HEAP: Final = re.compile(b"(?:GCOL\x01|HEAP\x00)\x00\x00\x00(.{8})", re.DOTALL)
Reals = NDArray[np.float64]


class Place(NamedTuple):
    """Where the weights of a layer are: the group of a `.keras`, the names that an `.h5` has for
    the layer and what it is in, of which the first is a group."""

    group: str = ""
    names: tuple[str, ...] = ()

    def inside(self, group: str, name: str) -> Place:
        return Place(f"{self.group}/{group}" if self.group else group,
                     (*self.names, name) if name else self.names)


class Arrays:
    """The arrays of an HDF5 file, each read when it is asked for, none that points elsewhere."""

    def __init__(self, file: Foreign, data: bytes) -> None:
        h5py = optional("h5py", "keras")
        self.file, self.size, self.h5py = file, len(data), h5py
        for found in HEAP.finditer(data):  # HDF5 takes as much memory as a heap says it has
            size = int.from_bytes(found[1], "little")
            if size > len(data) - found.start() or found[0][0] == GLOBAL and not _whole(
                    data[found.start() : found.start() + size]):
                raise file.fault("E801", "the HDF5 in it is broken: a heap of a wrong size")
        if _longest_text(data) > len(data):
            raise file.fault("E801", "the HDF5 in it is broken: a text longer than the file")
        self.root = self.guarded(lambda: h5py.File(h5py.h5f.open_file_image(data)))

    def guarded(self, read: Callable[[], Any]) -> Any:
        """What `read` gives; E801 for whatever the library of HDF5 says of a broken file."""
        try:
            return read()
        except NccError:
            raise
        except Exception as error:
            words = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise self.file.fault("E801", f"the HDF5 in it is broken: {words}") from None

    def group(self, path: str) -> Any:
        """A group or an array by its path, None where there is none."""
        def read() -> Any:
            now = self.root
            for part in path.split("/"):
                if not isinstance(now, self.h5py.Group) or part not in now:
                    return None
                if not isinstance(now.get(part, getlink=True), self.h5py.HardLink):
                    raise self.file.fault("E801", f"{path} is a link to something else")
                now = now[part]
            return now

        return self.guarded(read)

    def attribute(self, group: Any, name: str) -> Any:
        """An attribute, None where there is none."""
        def read() -> Any:
            if name not in group.attrs:
                return None
            held = group.attrs.get_id(name)
            if held.dtype.itemsize * prod(held.shape or ()) > self.size:
                raise self.file.fault("E801", f"the attribute {name} has the shape {held.shape}")
            return group.attrs[name]

        return self.guarded(read)

    def array(self, held: Any, path: str) -> Reals:
        """An array of reals, as float64."""
        def read() -> Reals:
            if not isinstance(held, self.h5py.Dataset):
                raise self.file.fault("E801", f"{path} is no array")
            if held.external or held.is_virtual:
                raise self.file.fault("E801", f"{path} is kept in another file")
            if held.dtype.kind != "f":
                raise self.file.fault("E817", f"{path} is of {held.dtype}, not of reals")
            if held.nbytes > RATIO * min(held.id.get_storage_size(), self.size):
                raise self.file.fault("E801", f"{path} has the shape {held.shape}, of which the "
                                      f"file holds {held.id.get_storage_size()} bytes")
            return np.asarray(held[()], np.float64)

        made: Reals = self.guarded(read)
        if not np.isfinite(made).all():
            raise self.file.fault("E801", f"{path} holds NaN or an infinity")
        return made


def _whole(heap: bytes) -> bool:
    """Whether the objects of a global heap end where it ends; HDF5 looks for its end for ever where
    one has no size. An object has a number, 0 of free space, 6 bytes, a size of 8, its bytes."""
    at = 16
    while at + 16 <= len(heap):
        size = int.from_bytes(heap[at + 8 : at + 16], "little")
        at += 16 + -(-size // 8) * 8 if any(heap[at : at + 2]) else size
        if not size:
            return False
    return at <= len(heap)


def _longest_text(data: bytes) -> int:
    """The longest text that an attribute of those that are read says it has. HDF5 takes memory for
    it before it looks whether it is there. Of the format: an attribute message is a version, name,
    type and dataspace with their sizes (padded to 8 bytes in version 1), and its data, of a text of
    variable length (class 9) a length of 4 bytes, an address of 8 and an index of 4."""
    longest = 0
    for found in re.finditer(rb"(?:model_config|keras_version|weight_names)\0", data):
        for version, before in ((1, 8), (2, 8), (3, 9)):
            head = data[max(found.start() - before, 0) : found.start()]
            if len(head) < before or head[0] != version:
                continue
            sizes = [int.from_bytes(head[k : k + 2], "little") for k in (2, 4, 6)]
            padded = [-(-size // 8) * 8 if version == 1 else size for size in sizes]
            kind = found.start() + padded[0]
            at = kind + padded[1] + padded[2]
            if data[kind : kind + 1] and data[kind] & 15 == 9:
                dims = kind + padded[1] + 8 if version == 1 else kind + padded[1] + 4
                count = int.from_bytes(data[dims : dims + 8], "little") if sizes[2] >= 12 else 1
                for k in range(at, min(at + 16 * count, len(data)), 16):
                    longest = max(longest, int.from_bytes(data[k : k + 4], "little"))
    return longest


class ZipWeights:
    """The weights of a `.keras`: numbered arrays in the group `vars` of each layer."""

    def __init__(self, file: Foreign, data: bytes) -> None:
        self.arrays = Arrays(file, data)

    def read(self, place: Place, names: Sequence[str]) -> list[Reals]:
        """The arrays of a layer, as many as names. NccError E816 where it has others."""
        path = f"{place.group}/vars"
        group = self.arrays.group(path)
        count = 0 if group is None else self.arrays.guarded(lambda: len(group))
        if count < len(names):
            raise self.arrays.file.fault(
                "E816", f"{'/'.join(place.names)} has {count} arrays of weights, and its "
                f"structure asks for {len(names)}: {listed(names)}")
        return [self.arrays.array(self.arrays.group(f"{path}/{k}"), f"{path}/{k}")
                for k in range(len(names))]


class H5Weights:
    """The weights of an `.h5`: arrays by name, in the group of a layer of the outermost model."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def read(self, place: Place, names: Sequence[str]) -> list[Reals]:
        """The arrays of a layer, by their names ("kernel", or "kernel|depthwise_kernel")."""
        top = f"model_weights/{place.names[0]}"
        group = self.arrays.group(top)
        paths = [] if group is None else [
            word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)
            for word in self.arrays.guarded(
                lambda: list(self.arrays.attribute(group, "weight_names")))]
        found = []
        for name in names:
            fit = [path for path in paths
                   if path.split("/")[-1].split(":")[0] in name.split("|")
                   and _within(path, place.names[1:])]
            if len(fit) != 1:
                raise self.arrays.file.fault(
                    "E816", f"{'/'.join(place.names)}: {len(fit)} arrays called {name}, not one")
            found.append(self.arrays.array(self.arrays.group(f"{top}/{fit[0]}"), fit[0]))
        return found


def _within(path: str, names: Sequence[str]) -> bool:
    """Whether names stand in a path in this order."""
    parts = iter(path.split("/"))
    return all(any(part == name for part in parts) for name in names)


def _zipped(file: Foreign) -> tuple[Json, str, ZipWeights]:
    def member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
        info = archive.getinfo(name)
        if info.file_size > min(most, RATIO * len(file.data)):
            raise file.fault("E819", f"{name} in it has {info.file_size} bytes")
        with archive.open(info) as held:
            return held.read(most)

    try:
        with zipfile.ZipFile(io.BytesIO(file.data)) as archive:
            names = set(archive.namelist())
            for name in ("config.json", "metadata.json", "model.weights.h5"):
                if name not in names:
                    raise file.fault("E801", f"no {name} is in it")
            held = {name: member(archive, name, most) for name, most in (
                ("config.json", LONGEST_JSON), ("metadata.json", LONGEST_JSON),
                ("model.weights.h5", 2**31))}
    except NccError:
        raise
    except Exception as error:  # whatever zipfile and zlib raise of a broken file
        raise file.fault("E801", f"this is no zip: {error}") from None
    metadata = Foreign(f"{file.name}/metadata.json", "", held["metadata.json"]).json()
    version = metadata["keras_version"].text()
    config = Foreign(f"{file.name}/config.json", "", held["config.json"]).json()
    return config, version, ZipWeights(file, held["model.weights.h5"])


def _h5(file: Foreign) -> tuple[Json, str, H5Weights]:
    arrays = Arrays(file, file.data)
    config = arrays.attribute(arrays.root, "model_config")
    if config is None:
        raise file.fault("E815", "it has weights, and does not say of what model",
                         help="model.save('model.keras') writes both")
    version = arrays.attribute(arrays.root, "keras_version") or "2"
    words = [value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
             for value in (config, version)]
    return (Foreign(f"{file.name}/model_config", "", words[0]).json(),
            words[1].decode("ascii", "replace"), H5Weights(arrays))


def _read(files: list[Foreign], options: Options) -> Imported:
    (file,) = files
    zipped = file.data[:4] == ZIP
    if not zipped and file.data[:8] != HDF5:
        raise file.fault("E801", "this is neither a zip, as a .keras is, nor HDF5")
    config, version, weights = _zipped(file) if zipped else _h5(file)
    major = version.split(".")[0]
    if major not in ("2", "3"):
        raise file.fault("E802", f"Keras {version[:20]}", note="known are versions 2 and 3")
    reader = Reader(file, weights, Place(), int(major), options)
    graph, tensors, places = reader.run(config)
    return Imported(file.name, "", graph=graph, exactness="C", importer="keras",
                    notes=tuple(reader.notes), tensors=tensors,
                    places=places)


def _recognises(file: Foreign) -> bool:
    if file.data[:4] == ZIP:
        return b"model.weights.h5" in file.data
    return file.data[:8] == HDF5 and b"model_config" in file.data or (
        file.data[:8] == HDF5 and file.name.lower().endswith((".h5", ".hdf5")))


IMPORTER = Importer("keras", "a model of Keras", (".keras", ".h5", ".hdf5"), _recognises, _read,
                    ("trainable",))
