"""Text files of other tools, word by word, with the place of each; how deep their neurons are."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign, listed

Key = TypeVar("Key", bound=Hashable)

NATURAL: Final = re.compile(r"[0-9]{1,10}")
DECIMAL: Final = re.compile(r"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
UNSEEN: Final = 65_536  # neurons that a file may declare without a byte for each


class Word(NamedTuple):
    """A word of a file and where it stands there; `file` has its text."""

    text: str
    file: Foreign
    line: int
    column: int

    def fault(self, code: str, message: str, **more: Any) -> NccError:
        return self.file.fault(code, message, line=self.line, column=self.column,
                               length=max(len(self.text), 1), **more)

    def natural(self, what: str, most: int = 2**31 - 1) -> int:
        """A decimal integer without a sign. NccError E801."""
        if not NATURAL.fullmatch(self.text) or int(self.text) > most:
            raise self.fault("E801", f"{what} is wanted here, an integer without sign, not "
                                     f"{self.text[:40]!r}")
        return int(self.text)

    def real(self, what: str) -> float:
        """A finite decimal number as float64. NccError E801."""
        number = float(self.text) if DECIMAL.fullmatch(self.text) else math.nan
        if not math.isfinite(number):
            raise self.fault("E801", f"{what} is wanted here, a finite number, not "
                                     f"{self.text[:40]!r}")
        return number


def lines(file: Foreign) -> Iterator[tuple[int, str]]:
    """The lines of a text from 1 on, without their ends, as faults count them."""
    for number, text in enumerate(file.text.split("\n"), 1):
        yield number, text.removesuffix("\r")


def words(file: Foreign, number: int, text: str) -> list[Word]:
    """The words of a line, between blanks and tabs."""
    return [Word(found[0], file, number, found.start() + 1)
            for found in re.finditer(r"[^ \t]+", text)]


def declared(file: Foreign, count: int, what: str, at: Word | None = None) -> None:
    """NccError E819 where a file declares far more neurons than it has bytes to speak of them."""
    if count > max(UNSEEN, len(file.data)):
        said = f"{count} {what} in a file of {len(file.data)} bytes"
        raise at.fault("E819", said) if at is not None else file.fault("E819", said)


def depths(sources: Mapping[Key, Sequence[Key]], roots: Iterable[Key]) -> dict[Key, int]:
    """How deep each neuron is that a root reaches: its longest path from one; `sources` are the
    in-lists of all but the roots, a source without one has none. ValueError for a cycle, which it
    shows, whether a root reaches it or not."""
    found = dict.fromkeys(roots, 0)
    readers: dict[Key, list[Key]] = {}
    wanted: dict[Key, int] = {}
    for key, read in sources.items():
        wanted[key] = sum(source in sources for source in read)
        for source in read:
            readers.setdefault(source, []).append(key)
    ready = [key for key, count in wanted.items() if count == 0]
    done = set(ready)
    while ready:
        key = ready.pop()
        before = [found[source] for source in sources[key] if source in found]
        if before:
            found[key] = max(before) + 1
        for reader in readers.get(key, ()):
            wanted[reader] -= 1
            if wanted[reader] == 0:
                done.add(reader)
                ready.append(reader)
    if len(done) < len(sources):
        raise ValueError("a cycle: " + _cycle(sources, done))
    return found


def _cycle(sources: Mapping[Key, Sequence[Key]], done: set[Key]) -> str:
    """One of the cycles among the neurons that are not done, of which each reads another."""
    key = next(key for key in sources if key not in done)
    path: dict[Key, None] = {}
    while key not in path:
        path[key] = None
        key = next(source for source in sources[key] if source in sources and source not in done)
    cycle = list(path)[list(path).index(key):]
    return listed([*cycle[::-1], cycle[-1]], 12).replace(", ", " -> ")
