"""Compiled objects kept between runs: a folder of files, one an entry, named by what made it.

A file is a head line, the facts as JSON, the bytes of the object and of its tables; the head says
their lengths and a checksum, so that what was cut short or damaged counts as absent. Nothing here
raises for the state of the disk: a cache that cannot be read or written is an empty one. (What
raises is an NCC_CACHE_SIZE that is no size.)

The bytes of such a file, compressed, are also what a pickle carries of an entry: `Carried`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.machine.llvm import LLVM

SIZE = 512 << 20  # bytes of all entries, where NCC_CACHE_SIZE says nothing else
STALE = 3600.0  # seconds after which an unfinished file belongs to a process that died
MAGIC = b"ncc-cache-2"
ENTRY, UNFINISHED = ".entry", ".new"
PACKAGES = ("ncc", "ncc.passes", "ncc.grammar")
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True)
class Entry:
    """What one compilation made: an object, and what its callers have to know of it, as JSON says
    it (the names of its functions, the sizes of its buffers). `tables` are the bytes of the symbols
    that the object does not have itself. `name` is its key, where it has one."""

    code: bytes
    facts: Mapping[str, Any]
    tables: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    name: str | None = field(default=None, compare=False)


# An entry on its way to another process: its key, and the bytes of its file, compressed. (No class
# of its own, as a pickle would name the module.)
Carried = tuple[str, bytes]


# ---- keys


def key(*parts: Any) -> str | None:
    """The name (hex) of what this compiler makes of `parts`: numbers, texts, arrays, dataclasses,
    and sequences and mappings of them. None where one is something else, or where ncc cannot read
    its own sources, which may be others at the next run."""
    compiler = _compiler()
    if compiler is None:
        return None
    digest = hashlib.sha256(compiler)
    try:
        _add(digest, parts)
    except (TypeError, ValueError):
        return None
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Feed `value` so that no two values feed the same bytes. TypeError for one of another type."""
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype.str} {value.shape} ".encode())
        if value.dtype.hasobject:
            raise TypeError("an array of objects")
        digest.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    elif value is None or isinstance(value, (bool, int, float)):
        digest.update(f"{value!r} ".encode())
    elif isinstance(value, str):
        text = value.encode("utf-8", "surrogatepass")
        digest.update(b"text %d " % len(text) + text)
    elif isinstance(value, Mapping):
        digest.update(b"mapping %d " % len(value))
        for name in sorted(value):
            _add(digest, name)
            _add(digest, value[name])
    elif is_dataclass(value):
        _add(digest, {f.name: getattr(value, f.name) for f in fields(value)})
    elif isinstance(value, Sequence):
        digest.update(b"sequence %d " % len(value))
        for item in value:
            _add(digest, item)
    else:
        raise TypeError(f"no key is made of {type(value).__name__}")


@cache
def _compiler() -> bytes | None:
    """A digest of ncc's own sources and of LLVM's version: a compiler that was changed in any way
    never finds what another one made. None where the sources are not files that can be read."""
    digest = hashlib.sha256(LLVM.encode())
    try:
        for package in PACKAGES:
            for name, text in _sources(files(package), package):
                digest.update(f"{name} {len(text)} ".encode() + text)
    except OSError:
        return None
    return digest.digest()


def _sources(folder: Traversable, package: str) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each source in `folder` and the folders in it. What another one of
    PACKAGES holds is left to that: the links in a checkout lead there."""
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        name = f"{package}.{file.name}"
        if file.is_dir():
            if name not in PACKAGES:
                yield from _sources(file, name)
        elif file.name.endswith((".py", ".lark")):
            yield f"{package} {file.name}", file.read_bytes()


# ---- the folder


def folder() -> Path | None:
    """NCC_CACHE_DIR, or `ncc` under XDG_CACHE_HOME, or ~/.cache/ncc; it need not exist. None for a
    user without a home."""
    own = os.environ.get("NCC_CACHE_DIR")
    if own:
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # A relative one is invalid and ignored (XDG Base Directory Specification 0.8).
    if os.path.isabs(shared):
        return Path(shared, "ncc")
    home = os.path.expanduser("~")
    return Path(home, ".cache", "ncc") if os.path.isabs(home) else None


def limit() -> int:
    """Bytes that the entries may take: NCC_CACHE_SIZE, as 1000000, 64K, 512M or 2G (powers of
    1024); 0 is no cache. SIZE where it is not given; NccError E605 (status 2) where it is no size.
    """
    given = os.environ.get("NCC_CACHE_SIZE", "").strip()
    text = given.lower().removesuffix("b")
    digits = text.rstrip("kmg")
    unit = text[len(digits) :]
    if not given:
        return SIZE
    # Of more digits Python makes no number, and no disk has so many bytes.
    if not (digits.isascii() and digits.isdigit() and unit in UNITS and len(digits) < 1000):
        shown = given if len(given) <= 40 else given[:37] + "..."
        raise NccError("E605", f"NCC_CACHE_SIZE={shown} is no size in bytes",
                       help="1000000, 64K, 512M or 2G; 0 is no cache")
    return int(digits) * UNITS[unit]


def _place() -> Path | None:
    """The folder, if code may be taken from it: ours, and nobody else may write to it."""
    path = folder() if limit() else None
    try:
        return path if path is not None and _ours(path.stat(), stat.S_ISDIR) else None
    except (OSError, ValueError):  # there is none, or its name can be no name
        return None


def unused() -> str | None:
    """Why nothing is taken from the folder or kept in it, where it is so."""
    path = folder()
    if not limit():
        return "NCC_CACHE_SIZE is 0"
    if path is None:
        return "this user has no home"
    if _compiler() is None:
        return "ncc cannot read its own sources"
    if os.path.lexists(path) and _place() is None:
        return "it is no folder of this user's alone: chmod 700, or another NCC_CACHE_DIR"
    return None


def _ours(found: os.stat_result, kind: Any) -> bool:
    """To load an object is to run it, so it must come from nobody but this user."""
    mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    return bool(mine and kind(found.st_mode) and not found.st_mode & 0o022)


# ---- entries


def lookup(name: str) -> Entry | None:
    """The entry of a key; None where there is none that is whole. It counts as used now."""
    place = _place()
    if place is None:
        return None
    path = place / (name + ENTRY)
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            found = os.fstat(file.fileno())
            entry = _read(file, found.st_size, name) if _ours(found, stat.S_ISREG) else None
        if entry is not None:
            with suppress(OSError):  # read-only, or removed meanwhile: it is whole all the same
                os.utime(path)
        return entry
    except (OSError, ValueError, MemoryError):
        return None


def _read(file: Any, size: int, name: str) -> Entry | None:
    line = file.readline(100)
    head = line.split()
    if len(head) != 4 or head[0] != MAGIC:
        return None
    lengths = int(head[2]), int(head[3])
    if len(line) + sum(lengths) != size or min(lengths) < 0:
        return None
    text, body = file.read(lengths[0]), file.read(lengths[1])
    if int(head[1], 16) != _checksum(name, text, body):
        return None
    facts, sizes = json.loads(text)
    tables = {}
    end = len(body)
    for symbol, size in reversed(sizes):
        tables[symbol] = np.frombuffer(body, np.uint8)[end - size : end]
        end -= size
    return Entry(body[:end] if sizes else body, facts, dict(reversed(tables.items())), name)


def _written(name: str, entry: Entry) -> list[Any]:
    """The bytes of an entry's file, in pieces."""
    sizes = [(symbol, len(table)) for symbol, table in entry.tables.items()]
    facts = json.dumps([entry.facts, sizes]).encode()
    body: list[Any] = [entry.code, *entry.tables.values()]
    length = sum([len(piece) for piece in body])
    head = b"%s %08x %d %d\n" % (MAGIC, _checksum(name, facts, *body), len(facts), length)
    return [head, facts, *body]


def _checksum(name: str, *pieces: Any) -> int:
    crc = zlib.crc32(name.encode())
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


def store(name: str, entry: Entry) -> None:
    """Keep an entry, and remove those used longest ago where all together are too large.

    Many processes may store at once, the same entry too: each writes a file of its own and renames
    it, so that a reader finds a whole one or none.
    """
    try:
        path = folder()
        pieces = _written(name, entry)
        if path is None or sum([len(piece) for piece in pieces]) + 200 > limit():
            return
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _place() is None:
            return
        unfinished = path / f"{os.getpid()}-{token_hex(8)}{UNFINISHED}"
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(unfinished, flags, 0o600), "wb") as out:
                out.writelines(pieces)
            os.replace(unfinished, path / (name + ENTRY))
        finally:
            unfinished.unlink(missing_ok=True)
        _evict(path, limit())
    except (OSError, ValueError, MemoryError):
        pass  # read-only, full: then this one is not kept


# ---- pickles


def carried(entry: Entry) -> Carried | None:
    """An entry as a pickle carries it; None for one without a key, which nobody could ask for."""
    if entry.name is None:
        return None
    # The first level: machine code becomes half as long, at 100 MB/s, and little shorter by others.
    return entry.name, zlib.compress(b"".join(_written(entry.name, entry)), 1)


def brought(given: Carried | None, name: str | None) -> Entry | None:
    """The entry of the key `name` out of a pickle; None where that carries none, or another one:
    that of another machine, of another version of ncc; or where it came damaged."""
    if given is None or name is None or given[0] != name:
        return None
    try:
        data = zlib.decompress(given[1])
        return _read(io.BytesIO(data), len(data), name)
    except (zlib.error, ValueError, TypeError, MemoryError):
        return None


# ---- what the folder holds


class _File(NamedTuple):
    used: float  # seconds since the epoch
    name: str
    size: int


def _files(path: Path, ending: str) -> list[_File]:
    """The files of that ending, those used longest ago first."""
    found = []
    with suppress(OSError, ValueError), os.scandir(path) as listing:
        for item in listing:
            if item.name.endswith(ending) and not item.is_dir(follow_symlinks=False):
                with suppress(OSError):  # another process has removed it
                    status = item.stat(follow_symlinks=False)
                    found.append(_File(status.st_mtime, item.name, status.st_size))
    return sorted(found)


def _evict(path: Path, most: int) -> None:
    now = time.time()
    for file in _files(path, UNFINISHED):
        if now - file.used > STALE:
            (path / file.name).unlink(missing_ok=True)
    entries = _files(path, ENTRY)
    total = sum([file.size for file in entries])
    for file in entries:
        if total <= most:
            return
        (path / file.name).unlink(missing_ok=True)
        total -= file.size


def contents() -> tuple[int, int]:
    """How many entries there are, and their bytes."""
    path = folder()
    entries = [] if path is None else _files(path, ENTRY)
    return len(entries), sum([file.size for file in entries])


def clear() -> None:
    """Remove every entry, and nothing else. OSError where one cannot be removed."""
    path = folder()
    if path is not None:
        for file in _files(path, ENTRY) + _files(path, UNFINISHED):
            (path / file.name).unlink(missing_ok=True)
