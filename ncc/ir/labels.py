"""Labels: names of neurons, of one or of a range that is an array; their text.

    label 00 left-eye             a name of neuron 00
    label 10 conv1 8x26x26        of the 8*26*26 neurons from 10 on, row-major
    label 02 "the left eye"       a name that is no plain word is a JSON string
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from math import prod
from typing import Final, NamedTuple

PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/+\-]++")
_SHAPE: Final = re.compile(r"[1-9][0-9]{0,9}(?:x[1-9][0-9]{0,9})*+")
_LINE: Final = re.compile(
    r'[ \t]*+label[ \t]++(?P<first>[0-9a-fA-F]++)[ \t]++'
    r'(?P<name>[A-Za-z0-9_.:/+\-]++|"(?:[^"\\]|\\.)*+")(?:[ \t]++(?P<shape>[0-9x]++))?+[ \t]*+')
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


def lines(labels: Iterable[Label], digits: int) -> Iterator[str]:
    """A line a label, in the order given; indices have so many hex digits."""
    for first, name, shape in labels:
        axes = " " + "x".join(map(str, shape)) if shape else ""
        yield f"label {first:0{digits}x} {quoted(name)}{axes}"


def quoted(name: str) -> str:
    """A name as texts spell it: as it is, or as a JSON string."""
    return name if PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def label_of(line: str) -> Label | str:
    """The label of a line without its comment; else what is wrong with it."""
    match = _LINE.match(line)
    if match is None or match.end() != len(line):
        return "a label is an index, a name and, for an array, its shape"
    first, name, shape = match.groups()
    if name[0] == '"':
        try:
            name = json.loads(name)
        except ValueError:
            return "the name is no JSON string"
    if shape is not None and not _SHAPE.fullmatch(shape):
        return "a shape is sizes from 1 on with an x between them"
    axes = () if shape is None else tuple(map(int, shape.split("x")))
    return Label(int(first, 16), name, axes)


def fault(labels: Iterable[Label], n_neurons: int) -> tuple[int, str, int | None] | None:
    """The number of the first label that is not right in a net of so many neurons, what is wrong
    with it, and the number of the label whose name it has, if that is what is wrong."""
    seen: dict[str, int] = {}
    for k, label in enumerate(labels):
        first, name, shape = label
        if not name or not name.isprintable():
            return k, f"the name of a label is no printable text: {ascii(name[:40])}", None
        if len(shape) > _AXES or any(size < 1 for size in shape):
            return k, f"label {quoted(name)[:40]} has no shape that an array can have", None
        if first < 0 or first + prod(shape) > n_neurons:
            return k, (f"label {quoted(name)[:40]} names {label.size} neurons from {first:02x} on, "
                       f"and the net has {n_neurons:02x}"), None
        if seen.setdefault(name, k) != k:
            return k, f"a second label {quoted(name)[:40]}", seen[name]
    return None
