"""The kinds of rows that an engine computes: all that its code depends on."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ncc.errors import NccError
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, Graph
from ncc.scalar.activations import ACTIVATIONS, FREE


class Kind(NamedTuple):
    """An aggregation, and an activation as the text of an expression in x."""

    aggregation: str
    activation: str


@dataclass(frozen=True)
class Kinds:
    """A set of kinds, in their order: an image (ncc/ir/image.py) has the rows of a level by the
    numbers of their kinds."""

    kinds: tuple[Kind, ...]

    def __str__(self) -> str:
        """A kind a line."""
        return "".join([f"{k.aggregation} {k.activation}\n" for k in self.kinds])

    @property
    def digest(self) -> int:
        """32 bits that an image has in its head, and the engine that evaluates it."""
        return zlib.crc32(str(self).encode())

    def numbers(self, graph: Graph) -> dict[tuple[int, int], int]:
        """The number of each pair of an aggregation and an activation in use, by their codes in the
        graph. NccError E147 where there is none."""
        number = {kind: k for k, kind in enumerate(self.kinds)}
        found = {}
        for pair in pairs(graph):
            kind = _kind(graph, pair)
            if kind not in number:
                raise NccError("E147", "the engine has no rows of the kind "
                                       f"{kind.aggregation} {kind.activation}")
            found[pair] = number[kind]
        return found


def kinds_of(graphs: Iterable[Graph]) -> Kinds:
    """The kinds of all rows of the graphs."""
    return Kinds(tuple(sorted({_kind(g, pair) for g in graphs for pair in pairs(g)})))


def pairs(graph: Graph) -> list[tuple[int, int]]:
    """The pairs of an aggregation and an activation of a graph's rows, by code."""
    codes = graph.activations.astype(np.int64) * len(AGGREGATIONS) + graph.aggregations
    rows = (graph.activations != INPUT) & (graph.activations != ABSENT)
    found = np.unique(codes[rows]).tolist()
    return [(code % len(AGGREGATIONS), code // len(AGGREGATIONS)) for code in found]


def _kind(graph: Graph, pair: tuple[int, int]) -> Kind:
    aggregation, code = pair
    text = ACTIVATIONS[code].formula if code < FREE else graph.functions[code]
    return Kind(AGGREGATIONS[aggregation], text)
