"""Layers of neurons, one upon another, to a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.formats.importers.matrices.assembly import assemble
from ncc.ir.graph import AGGREGATIONS, INPUT, Graph, Ints
from ncc.ir.graph_types import Label
from ncc.scalar.activations import FREE, code_of

Values = NDArray[Any] | float


class Layers:
    """Begins with the inputs; each layer is an array of the numbers of its neurons."""

    def __init__(self, inputs: int) -> None:
        self.inputs = np.arange(inputs, dtype=np.int32)
        self.count = inputs
        self._lengths = [np.zeros(inputs, np.int64)]
        self._activations = [np.full(inputs, INPUT, np.int32)]
        self._aggregations = [np.zeros(inputs, np.int8)]
        self._biases = [np.full(inputs, np.nan)]
        self._sources: list[Ints] = []
        self._weights: list[NDArray[np.float64]] = []
        self._fixed: list[NDArray[np.bool_]] = []
        self._fixed_biases = [np.zeros(inputs, np.bool_)]
        self._functions: dict[str, int] = {}

    def layer(self, sources: NDArray[Any], weights: Values, biases: Values | None = None,
              activation: str = "identity", *, aggregation: str = "sum", fixed: bool = False,
              drop_zeros: bool = False) -> Ints:
        """A neuron for each row of `sources` (n, k), which reads those k neurons.

        weights     float (n, k)
        biases      float (n), or none
        activation  a name of ncc's or an expression in x
        fixed       whether weights and biases are constants, and no parameters
        drop_zeros  whether edges of weight 0 are left out
        """
        n, k = sources.shape
        code = code_of(activation)
        if code is None:
            code = self._functions.setdefault(activation, FREE + len(self._functions))
        wide = np.broadcast_to(np.asarray(weights, np.float64), (n, k))
        kept = wide != 0 if drop_zeros else np.ones((n, k), np.bool_)
        self._lengths.append(kept.sum(axis=1))
        self._sources.append(sources[kept].astype(np.int32))
        self._weights.append(wide[kept])
        self._fixed.append(np.full(int(kept.sum()), fixed))
        self._biases.append(np.broadcast_to(
            np.asarray(np.nan if biases is None else biases, np.float64), (n,)))
        self._fixed_biases.append(np.full(n, fixed))
        self._activations.append(np.full(n, code, np.int32))
        self._aggregations.append(np.full(n, AGGREGATIONS.index(aggregation), np.int8))
        self.count += n
        return np.arange(self.count - n, self.count, dtype=np.int32)

    def dense(self, below: Ints, weights: NDArray[Any], biases: Values | None, activation: str,
              drop_zeros: bool) -> Ints:
        """All of `below` (k) to each of n neurons; weights (k, n)."""
        return self.layer(np.broadcast_to(below, (weights.shape[1], len(below))), weights.T, biases,
                          activation, drop_zeros=drop_zeros)

    def each(self, below: Ints, weights: Values, biases: Values | None = None,
             activation: str = "identity") -> Ints:
        """A neuron for each of `below` (n), of constants: weights (n) and biases (n)."""
        wide = np.broadcast_to(np.asarray(weights, np.float64), (len(below),))
        return self.layer(below[:, None], wide[:, None], biases, activation, fixed=True)

    def one(self, below: Ints, activation: str = "identity", aggregation: str = "sum") -> Ints:
        """A neuron that reads all of `below` as they are."""
        return self.layer(below[None], 1.0, None, activation, aggregation=aggregation, fixed=True)

    def pairs(self, left: Ints, right: Ints, weight: float, activation: str = "identity",
              aggregation: str = "sum") -> Ints:
        """Of each of `left` (n) and the neuron `right` a neuron; `weight` is that of `right`."""
        both = np.stack([left, np.broadcast_to(right, left.shape)], axis=1)
        return self.layer(both, np.array([1.0, weight]), None, activation, aggregation=aggregation,
                          fixed=True)

    def graph(self, outputs: Ints, labels: Sequence[Label], dtype: str) -> Graph:
        """Neurons with neither edge nor bias have the constant bias 0."""
        lengths, biases = np.concatenate(self._lengths), np.concatenate(self._biases)
        activations = np.concatenate(self._activations)
        bare = (lengths == 0) & np.isnan(biases) & (activations != INPUT)
        biases[bare] = 0.0
        return assemble(
            lengths, np.concatenate(self._sources),
            np.concatenate(self._weights), biases, fixed=np.concatenate(self._fixed),
            biased=~np.isnan(biases), fixed_biases=np.concatenate(self._fixed_biases) | bare,
            activations=activations,
            aggregations=np.concatenate(self._aggregations), outputs=outputs, labels=tuple(labels),
            functions={code: text for text, code in self._functions.items()}, dtype=dtype)
