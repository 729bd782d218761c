"""The kinds of rows that an engine computes: all that its code depends on."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ncc.errors import NccError
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, Graph, Longs
from ncc.scalar.activations import ACTIVATIONS, FREE


class Kind(NamedTuple):
    """An aggregation, and an activation as the text of an expression in x."""

    aggregation: str
    activation: str


@dataclass(frozen=True)
class Kinds:
    """A set of kinds, in their order: an image (ncc/images/image.py) has the rows of a level by the
    numbers of their kinds."""

    kinds: tuple[Kind, ...]

    def __str__(self) -> str:
        """A kind a line."""
        return "".join([f"{k.aggregation} {k.activation}\n" for k in self.kinds])

    @property
    def plain(self) -> tuple[tuple[str, ...], ...]:
        """The same without classes of ncc's, for pickles."""
        return tuple(map(tuple, self.kinds))

    @classmethod
    def of_plain(cls, plain: Iterable[Iterable[str]]) -> Kinds:
        return cls(tuple([Kind(*pair) for pair in plain]))

    @property
    def digest(self) -> int:
        """32 bits that an image has in its head, and the engine that evaluates it."""
        return zlib.crc32(str(self).encode())

    def of(self, graph: Graph, rows: Longs) -> Longs:
        """The number of the kind of each of these neurons. NccError E147 where there is none."""
        number = {kind: k for k, kind in enumerate(self.kinds)}
        codes = _codes(graph, rows)
        used, where = np.unique(codes, return_inverse=True)
        found = []
        for code in used.tolist():
            kind = _kind(graph, code)
            if kind not in number:
                raise NccError("E147", "the engine has no rows of the kind "
                                       f"{kind.aggregation} {kind.activation}")
            found.append(number[kind])
        return np.array(found, np.int64)[where]


def kinds_of(graphs: Iterable[Graph]) -> Kinds:
    """The kinds of all rows of the graphs."""
    found = set()
    for g in graphs:
        rows = np.flatnonzero((g.activations != INPUT) & (g.activations != ABSENT))
        found |= {_kind(g, code) for code in np.unique(_codes(g, rows)).tolist()}
    return Kinds(tuple(sorted(found)))


def _codes(graph: Graph, rows: Longs) -> Longs:
    """Activation and aggregation of each row, as one number."""
    return (graph.activations[rows].astype(np.int64) * len(AGGREGATIONS)
            + graph.aggregations[rows])


def _kind(graph: Graph, code: int) -> Kind:
    code, aggregation = divmod(code, len(AGGREGATIONS))
    text = ACTIVATIONS[code].formula if code < FREE else graph.functions[code]
    return Kind(AGGREGATIONS[aggregation], text)
