"""A net as layers of matrices: what a library of linear algebra needs to compute it.

Neurons are renumbered to *positions*: the inputs, then layer by layer, within a layer by
activation. A layer is all neurons of one level, so it reads earlier layers only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import INPUT, NONE, PLAIN_SUM_CODES, Graph, Ints, Longs
from ncc.ir.ssa import DTYPES
from ncc.scalar.activations import FREE, name_of

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Layer:
    """Positions first .. last: act(matrix @ values[low:high] + bias), a column a sample.

    starts   int64 (rows + 1)   the matrix in CSR form
    columns  int32 (nnz)        ascending in a row, counted from `low`
    weights  (nnz)              of the dtype asked for
    bias     (rows) or None
    pieces   (first row, last row, name of the activation), from 0 on
    """

    first: int
    last: int
    low: int
    high: int
    starts: Longs
    columns: Ints
    weights: Array
    bias: Array | None
    pieces: tuple[tuple[int, int, str], ...]

    @property
    def rows(self) -> int:
        return self.last - self.first

    def read(self) -> Longs:
        """The columns that hold a weight, ascending."""
        return np.flatnonzero(np.bincount(self.columns, minlength=self.high - self.low))

    def dense(self) -> Array:
        """The matrix with its zeros, (rows, columns read)."""
        columns = self.read()
        at = np.zeros(self.high - self.low, np.int64)
        at[columns] = np.arange(len(columns))
        matrix = np.zeros((self.rows, len(columns)), self.weights.dtype)
        rows = csr.owners(self.starts)
        np.add.at(matrix, (rows, at[self.columns]), self.weights)
        return matrix


@dataclass(frozen=True, eq=False)
class Layers:
    """The layers of a net. In a *chain* each reads just the one before and the last is read out,
    so that no earlier value has to be kept; `outputs` are then counted from its first position."""

    n_inputs: int
    n_positions: int
    layers: tuple[Layer, ...]
    outputs: Longs
    chain: bool
    dtype: str

    @property
    def n_edges(self) -> int:
        return sum([len(layer.columns) for layer in self.layers])

    @property
    def n_dense(self) -> int:
        """The entries of all dense matrices, zeros counted."""
        return sum([layer.rows * len(layer.read()) for layer in self.layers])


def unsuitable(graph: Graph) -> str | None:
    """Why the net is no layers of matrices; None where it is."""
    if not np.isin(graph.aggregations, PLAIN_SUM_CODES).all():
        return "the net has other aggregations than the sum"
    if (graph.activations >= FREE).any():
        return "the net has activations of its own (fn)"
    return None


def layered(graph: Graph, dtype: str) -> Layers:
    """The layers of an ordered net whose parameters all have values; `unsuitable` nets aside."""
    assert graph.levels is not None
    lengths = np.diff(graph.starts)
    # A constant (a bias alone) is on level 0 as inputs are, and is a layer of its own behind them.
    still = graph.activations == INPUT
    depth = 2 * graph.levels.astype(np.int64) + (~still & (graph.levels == 0))
    order = np.lexsort((np.arange(graph.n_neurons), graph.activations, depth))
    position = np.empty(graph.n_neurons, np.int64)
    position[order] = np.arange(graph.n_neurons)
    table = np.concatenate([graph.values, graph.constants[::-1]]).astype(DTYPES[dtype])
    cuts = np.flatnonzero(np.diff(depth[order], prepend=-1, append=-1))
    layers = [_layer(graph, order[a:b], int(a), position, lengths, table)
              for a, b in zip(cuts[:-1], cuts[1:], strict=True) if not still[order[a]]]
    outputs = position[graph.outputs]
    ends = [len(graph.inputs), *[layer.last for layer in layers]]
    begins = [0, *ends]
    chain = bool(layers) and bool((outputs >= layers[-1].first).all()) and all(
        [layer.low >= begins[k] and layer.high <= ends[k] and layer.high > layer.low
         for k, layer in enumerate(layers)])
    if chain:
        layers = [_whole(layer, begins[k], ends[k]) for k, layer in enumerate(layers)]
        outputs = outputs - layers[-1].first
    return Layers(len(graph.inputs), graph.n_neurons, tuple(layers), outputs, chain, dtype)


def _layer(graph: Graph, rows: Longs, first: int, position: Longs, lengths: Longs,
           table: Array) -> Layer:
    """The layer of the neurons `rows`, which stand at positions from `first` on."""
    counts = lengths[rows]
    starts = csr.starts(counts)
    edges = csr.ranges(graph.starts[rows], counts)
    columns = position[graph.sources[edges]]
    by = np.lexsort((columns, csr.owners(starts)))
    low, high = (int(columns.min()), int(columns.max()) + 1) if len(columns) else (0, 0)
    biased = graph.biases[rows] != NONE
    bias = None
    if biased.any():
        bias = np.where(biased, table[np.where(biased, graph.biases[rows], 0)], 0)
    activations = graph.activations[rows]
    cuts = [*np.flatnonzero(np.diff(activations, prepend=-9)).tolist(), len(rows)]
    pieces = tuple([(a, b, name_of(int(activations[a])))
                    for a, b in zip(cuts[:-1], cuts[1:], strict=True)])
    return Layer(first, first + len(rows), low, high, starts, (columns[by] - low).astype(np.int32),
                 table[graph.weights[edges[by]]], bias, pieces)


def _whole(layer: Layer, low: int, high: int) -> Layer:
    """The same layer, reading all of low .. high."""
    columns = layer.columns + np.int32(layer.low - low)
    return Layer(layer.first, layer.last, low, high, layer.starts, columns, layer.weights,
                 layer.bias, layer.pieces)
