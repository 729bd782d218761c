"""A net made of arrays of neurons, with the names of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ncc.formats.importers.tensors.net import Tensor, TensorNet, Weights
from ncc.ir.graph import Graph, Ints, Reals


class Made(NamedTuple):
    """A graph, and its parameters by the names that they have in torch: slots (-1 where an element
    is none) and first values, NaN where there is none yet."""

    graph: Graph
    tensors: dict[str, tuple[Ints, Reals]]


def fresh(net: TensorNet, name: str, *shape: int) -> Weights:
    """Parameters without values."""
    return net.parameter(name, np.full(shape, np.nan))


def ones(net: TensorNet, name: str, *shape: int) -> Weights:
    """Parameters that begin as 1, as the gains of a norm do."""
    return net.parameter(name, np.ones(shape))


def made(net: TensorNet, y: Tensor, rest: Mapping[str, Weights] | None = None) -> Made:
    """The net whose outputs are y. `rest` are further arrays, some of whose elements are
    parameters."""
    for name, held in (rest or {}).items():
        assert held.slots is not None
        net.named[name] = held.slots
    values = np.concatenate([np.zeros(0), *net.values])
    firsts = {name: np.where(slots >= 0, values[slots], 0.0) if values.size else
              np.zeros(slots.shape) for name, slots in net.named.items()}
    graph, found, _ = net.graph([("y", y)])
    return Made(graph, {name: (slots, firsts[name]) for name, slots in found.items()})
