"""What a tool is asked for: the answers to a file of its own, or to what a net is exported as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ncc.ir.graph import Graph


class Asked(NamedTuple):
    """A net and the file that it comes from.

    path    of the file; None where the net comes from no file of the tool's
    dtype   f32 or f64, what the net is evaluated in
    places  tensors of the tool's by name: the neuron that each element is, -1 where it is none
    config  the configuration of a genome
    """

    graph: Graph
    dtype: str
    path: str | None = None
    places: Mapping[str, NDArray[Any]] = {}
    allow_pickle: bool = False
    config: str | None = None


def first_line(error: Exception) -> str:
    """The first line of what a tool says, or its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
