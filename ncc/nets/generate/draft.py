"""A net as it is made: neurons are numbered as they come, parameters at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph, Ints, Longs
from ncc.ir.labels import Label
from ncc.scalar.activations import ACTIVATIONS, code_of

# The most edges, or inputs, of a net that is made; on the way they take some 40 bytes each.
MOST = 2**28
FREE_KEY = np.int64(-(2**62))  # the key of an edge or a bias whose parameter nobody shares
NO_KEY = FREE_KEY - 1  # of a bias that is not there


def activation_code(name: str) -> int:
    """The code of an activation; NccError E118 where there is none of that name."""
    code = code_of(name)
    if code is None:
        raise NccError("E118", f"unknown activation {name}", status=2,
                       help="one of " + ", ".join(a.name for a in ACTIVATIONS))
    return code


def fits(count: int, what: str = "edges") -> None:
    """NccError E655 before memory is taken for more edges (or neurons) than MOST."""
    if count > MOST:
        raise NccError("E655", f"a net of {count:,} {what}: the most that are made are {MOST:,}")


class Draft:
    """Layers of neurons, each of them told its sources, and the graph of them all.

    An edge or a bias has a *key* (int64) until the end: FREE_KEY where its parameter is its own, a
    key of `named` where it is shared under a name, and -1-c for entry c of the constants.
    """

    def __init__(self) -> None:
        self.count = 0
        self.fans: list[Longs] = []
        self.sources: list[Ints] = []
        self.weights: list[Longs] = []
        self.biases: list[Longs] = []
        self.activations: list[Ints] = []
        self.aggregations: list[NDArray[np.int8]] = []
        self.names: list[str] = []
        self.constants: list[float] = []
        self.labels: list[Label] = []

    def inputs(self, count: int) -> int:
        """The first of so many input neurons."""
        fits(count, "neurons")
        none = np.zeros(0, np.int64)
        return self._add(np.zeros(count, np.int64), none.astype(np.int32), none,
                         np.full(count, NO_KEY), INPUT, 0)

    def label(self, first: int, name: str, *shape: int) -> None:
        """Names the neurons from `first` on, as an array of that shape."""
        self.labels.append(Label(first, name, shape))

    def named(self, names: Sequence[str]) -> int:
        """The first of the keys of parameters that are shared under these names."""
        self.names += names
        return len(self.names) - len(names)

    def constant(self, value: float) -> int:
        """The key of a constant."""
        self.constants.append(value)
        return -len(self.constants)

    def layer(self, fans: NDArray[Any], sources: NDArray[Any], activation: int, *,
              weights: NDArray[Any] | int | None = None,
              biases: NDArray[Any] | bool = False, aggregation: str = "sum") -> int:
        """The first of len(fans) new neurons, neuron j with fans[j] of the `sources`, in order.

        sources  neurons; -1-j for the value of neuron j in the call before
        weights  keys (edges), the one key of all, or None: each has its own
        biases   keys (neurons), or whether each has its own
        """
        keys = np.full(len(sources), FREE_KEY)
        if weights is not None:
            keys[:] = weights
        bias = np.full(len(fans), FREE_KEY if biases is not False else NO_KEY)
        if not isinstance(biases, bool):
            bias[:] = biases
        return self._add(np.asarray(fans, np.int64), np.asarray(sources, np.int32), keys, bias,
                         activation, AGGREGATIONS.index(aggregation))

    def dense(self, width: int, first: int, count: int, activation: int, bias: bool) -> int:
        """The first of `width` neurons, each of which reads the `count` neurons from `first` on."""
        return self.layer(np.full(width, count), np.tile(np.arange(first, first + count), width),
                          activation, biases=bias)

    def _add(self, fans: Longs, sources: Ints, weights: Longs, biases: Longs, activation: int,
             aggregation: int) -> int:
        first, self.count = self.count, self.count + len(fans)
        self.fans.append(fans)
        self.sources.append(sources)
        self.weights.append(weights)
        self.biases.append(biases)
        self.activations.append(np.full(len(fans), activation, np.int32))
        self.aggregations.append(np.full(len(fans), aggregation, np.int8))
        return first

    def graph(self, outputs: int) -> Graph:
        """The graph, without levels, whose outputs are the last `outputs` neurons. Parameters have
        no values; their slots are canonical: by target, in in-list order, then the bias."""
        own, sources = self.count, np.concatenate(self.sources)
        states = np.unique(-1 - sources[sources < 0])
        first = self.inputs(len(states))
        late = np.searchsorted(states, -1 - sources)
        sources = np.where(sources < 0, first + late, sources).astype(np.int32)
        starts = csr.starts(np.concatenate(self.fans))
        weights, biases = np.concatenate(self.weights), np.concatenate(self.biases)
        bare = biases == NO_KEY
        edges = np.arange(len(weights)) + csr.owners(starts)  # places in a list of edges and biases
        ends = starts[1:] + np.arange(self.count)
        keys = np.empty(len(weights) + self.count, np.int64)
        keys[edges], keys[ends] = weights, biases
        slots, names, n_params = self._slots(keys)
        activations = np.concatenate(self.activations)
        return Graph(
            starts=starts, sources=sources,
            weights=slots[edges], biases=np.where(bare, NONE, slots[ends]).astype(np.int32),
            activations=activations,
            aggregations=np.concatenate(self.aggregations),
            inputs=np.flatnonzero(activations == INPUT).astype(np.int32),
            outputs=np.arange(own - outputs, own, dtype=np.int32), states=states,
            values=np.full(n_params, np.nan), constants=np.array(self.constants, np.float64),
            names=names, labels=tuple(self.labels))

    def _slots(self, keys: Longs) -> tuple[Ints, dict[int, str], int]:
        """Parameter codes of keys, numbered as they appear; the names of slots; how many slots."""
        new = keys == FREE_KEY  # where a slot appears first
        shared = np.flatnonzero(keys >= 0)
        first = np.full(len(self.names), len(keys), np.int64)
        np.minimum.at(first, keys[shared], shared)
        used = first[first < len(keys)]
        new[used] = True
        numbers = np.cumsum(new) - 1
        codes = np.where(keys == FREE_KEY, numbers, keys)
        codes[shared] = numbers[first[keys[shared]]]
        names = {int(numbers[at]): name
                 for at, name in zip(first.tolist(), self.names, strict=True) if at < len(keys)}
        return codes.astype(np.int32), dict(sorted(names.items())), int(new.sum())
