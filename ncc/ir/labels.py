"""Labels: names of neurons, of one or of a range that is an array; their text, what they cover;
and how indices, the names of all others, are written.

    label 00 left-eye             a name of neuron 00
    label 10 conv1 8x26x26        of the 8*26*26 neurons from 10 on, row-major
    label 02 "the left eye"       a name that is no plain word is a JSON string
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import prod
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/+\-]++")
_SHAPE: Final = re.compile(r"[1-9][0-9]{0,9}(?:x[1-9][0-9]{0,9})*+")
_LINE: Final = re.compile(
    r'[ \t]*+label[ \t]++(?P<first>[0-9a-fA-F]++)[ \t]++'
    r'(?P<name>[A-Za-z0-9_.:/+\-]++|"(?:[^"\\]|\\.)*+")(?:[ \t]++(?P<shape>[0-9x]++))?+[ \t]*+'
    r'(?P<rest>.*+)', re.DOTALL)
_MOST: Final = 2**31 - 1  # no neuron has this index
_AXES: Final = 32  # numpy's arrays have no more


class Label(NamedTuple):
    """The name of neuron `first`, or of the prod(shape) neurons from it on, as an array of that
    shape, row-major."""

    first: int
    name: str
    shape: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many neurons it names."""
        return prod(self.shape)


Label.__module__ = "ncc"  # where a pickle of a net finds it


def digits(count: int) -> int:
    """How many hex digits the indices of a net of `count` neurons are written with: as many as the
    last has, and two at least."""
    return max(2, len(f"{max(count - 1, 0):x}"))


def lines(labels: Iterable[Label], width: int) -> Iterator[str]:
    """A line a label, in the order given; indices have so many hex digits."""
    for first, name, shape in labels:
        axes = " " + "x".join(map(str, shape)) if shape else ""
        yield f"label {first:0{width}x} {quoted(name)}{axes}"


def quoted(name: str) -> str:
    """A name as texts spell it: as it is, or as a JSON string."""
    return name if PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def label_of(line: str, comments: str = "") -> Label | str:
    """The label of a line, which may end with a comment that begins with one of `comments`; else
    what is wrong with it."""
    match = _LINE.match(line)
    if match is None or match["rest"] and match["rest"][0] not in comments:
        return "a label is an index, a name and, for an array, its shape"
    first, name, shape, _ = match.groups()
    if name[0] == '"':
        try:
            name = json.loads(name)
        except ValueError:
            return "the name is no JSON string"
    if shape is not None and not _SHAPE.fullmatch(shape):
        return "a shape is sizes from 1 on with an x between them"
    axes = () if shape is None else tuple(map(int, shape.split("x")))
    return Label(min(int(first, 16), _MOST), name, axes)


def titled(label: Label) -> str:
    """The name as it is, and the shape: conv1 8x26x26."""
    return label.name + (" " + "x".join(map(str, label.shape)) if label.shape else "")


def covering(labels: Iterable[Label], neurons: NDArray[np.int32], n_neurons: int
             ) -> list[tuple[int, Label]]:
    """The labels all of whose neurons stand one after another in `neurons` (inputs, outputs), each
    with the place of its first one there; by that place."""
    # A stretch is a run of neighbours that follow one another, too.
    stretch = np.cumsum(np.diff(neurons, prepend=neurons[:1]) != 1)
    place = np.full(n_neurons, -1, np.int64)
    place[neurons] = np.arange(len(neurons))
    found = []
    for label in labels:
        first, last = place[label.first], place[label.first + label.size - 1]
        if first >= 0 and last - first == label.size - 1 and stretch[first] == stretch[last]:
            found.append((int(first), label))
    return sorted(found, key=lambda item: item[0])


class Names:
    """The names of single neurons by labels: `left-eye`, `conv1[2,0,1]`. A neuron's own label goes
    before that of an array, which goes before that of an array that begins earlier."""

    def __init__(self, labels: Iterable[Label]) -> None:
        self._own: dict[int, str] = {}
        arrays = []
        for label in labels:
            if label.shape:
                arrays.append(label)
            else:
                self._own.setdefault(label.first, label.name)
        self._arrays = sorted(arrays, key=lambda label: label.first)
        self._firsts = [label.first for label in self._arrays]
        ends = (label.first + label.size for label in self._arrays)
        self._last = list(accumulate(ends, max))  # where all arrays up to each end

    def of(self, neuron: int) -> str:
        """The name of a neuron; an empty text where it has none."""
        own = self._own.get(neuron)
        if own is not None:
            return own
        k = bisect_right(self._firsts, neuron) - 1
        while k >= 0 and self._last[k] > neuron:
            label = self._arrays[k]
            if neuron < label.first + label.size:
                at = np.unravel_index(neuron - label.first, label.shape)
                return f"{label.name}[{','.join(map(str, map(int, at)))}]"
            k -= 1
        return ""


class LabelFault(NamedTuple):
    """What is wrong with label `number`: `kind` is "text" (its name or shape), "range" or "twice",
    where `earlier` has its name already."""

    number: int
    kind: str
    message: str
    earlier: int = -1


def fault(labels: Iterable[Label], n_neurons: int) -> LabelFault | None:
    """The first label that is not right in a net of so many neurons."""
    seen: dict[str, int] = {}
    for k, label in enumerate(labels):
        first, name, shape = label
        if not name or not name.isprintable():
            return LabelFault(k, "text", f"no printable text: {ascii(name[:40])}")
        if len(shape) > _AXES or any(size < 1 for size in shape):
            return LabelFault(k, "text", f"label {quoted(name)[:40]} has no shape that an array "
                              "can have")
        if first < 0 or first + prod(shape) > n_neurons:
            return LabelFault(k, "range", f"label {quoted(name)[:40]} names {label.size} neurons "
                              f"from {first:02x} on; the net's last is {n_neurons - 1:02x}")
        if seen.setdefault(name, k) != k:
            return LabelFault(k, "twice", f"a second label {quoted(name)[:40]}", seen[name])
    return None
