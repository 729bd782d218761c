"""The interpreter of the graph level: the forward pass, the backward pass, and Jacobians."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncc.errors import NccError
from ncc.ir import csr
from ncc.ir.graph_types import AGGREGATIONS, NONE, SUM_CODES, Arrays, Ints, Longs
from ncc.scalar import aggregations as aggregate
from ncc.scalar import sum_order as sums
from ncc.scalar.derivative import derivative_at, tame, times
from ncc.scalar.expressions import emit, expression
from ncc.scalar.numpy_eval import Numpy

COLUMNS = 512  # inputs that are looked at together: 64 bytes a neuron


class Reverse:
    """The backward pass: `table` is what codes index, `work` (N, batch) are the neurons' values and
    `totals` the arguments of their activations; `parts` are the first and the last sample + 1 of
    each sum over samples, the chunks of the batch if left out."""

    def __init__(self, graph: Arrays, table: NDArray[Any], e: Numpy, work: NDArray[Any],
                 totals: NDArray[Any], parts: Sequence[tuple[int, int]] | None = None) -> None:
        self.graph = graph
        self.table = table
        self.e = e
        self.work, self.totals = work, totals
        self.levels = graph.levels if graph.levels is not None else _levels(graph)
        # -0 is what a sum may begin with so that its first term stands as it is.
        self.adjoints = np.full_like(work, -0.0)
        self.touched = np.zeros(graph.n_neurons, np.bool_)
        batch = work.shape[1]
        self.parts = [(first, min(batch, first + sums.CHUNK)) for first in range(
            0, batch, sums.CHUNK)] if parts is None else parts
        # By part: an edge's share of the gradient, a bias's.
        self.edges = np.zeros((len(self.parts), graph.n_edges), e.real)
        self.biases = np.zeros((len(self.parts), graph.n_neurons), e.real)

    def run(self, seeds: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """dx (batch, n_inputs) and dparams (n_params,) of the outputs' adjoints (batch,
        n_outputs)."""
        dx, dparams = self.by_parts(seeds)
        total = np.zeros(self.graph.n_params, self.e.real)
        for part in dparams:
            total += part
        return dx, total

    def by_parts(self, seeds: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """As `run`, but dparams (parts, n_params), summed over the samples of each part."""
        g = self.graph
        for k, j in enumerate(g.outputs.tolist()):
            self.adjoints[j] = self.e.op("add", self.adjoints[j], seeds[:, k])
            self.touched[j] = True
        for rows, prefixes in reversed(list(self.groups())):
            self.back(rows, prefixes)
        dx = np.where(self.touched[g.inputs, None], self.adjoints[g.inputs], 0).T
        codes = np.insert(g.weights, g.starts[1:], g.biases)
        used = codes >= 0
        dparams = np.zeros((len(self.parts), g.n_params), self.e.real)
        for part, edges, biases in zip(dparams, self.edges, self.biases, strict=True):
            np.add.at(part, codes[used], np.insert(edges, g.starts[1:], biases)[used])
        return dx.astype(self.e.real).copy(), dparams

    def groups(self) -> Iterator[tuple[Longs, Longs]]:
        """Rows that are computed alike, in order, of those that an output sees, and of how many of
        each's edges the products are summed up in order."""
        rows, prefixes, keys = documented(self.graph, self.levels, self.e.dtype)
        for begin, end in pairwise(csr.borders(*keys).tolist()):
            yield rows[begin:end], prefixes[begin:end]

    def back(self, rows: Longs, prefixes: Longs) -> None:
        """The deltas of rows that are computed alike, and what comes of them."""
        g, e = self.graph, self.e
        j, edges = int(rows[0]), _edges(g, rows)
        agg, program = AGGREGATIONS[g.aggregations[j]], expression(int(g.activations[j]),
                                                                   g.functions)
        ns = [self.work[g.sources[at]] for at in edges]
        ws = [self.table[g.weights[at]] for at in edges]
        total = self.totals[rows]
        adjoint = self.adjoints[rows]
        found = np.asarray(derivative_at(program, e, total, self.work[rows]))
        d = e.op("mul", adjoint, found) if tame(program) else times(e, adjoint, found)
        self.biases[:, rows] = self.summed(sums.by_lanes, d, np.ones_like(d))
        if not edges:
            return
        parts = aggregate.pull(e, agg, ns, ws, d)
        for k, (at, n, part) in enumerate(zip(edges, ns, parts, strict=True)):
            ordered = prefixes > k
            for mine, way in ((ordered, sums.one_by_one), (~ordered, sums.by_lanes)):
                if mine.any():
                    self.edges[:, at[mine]] = self.summed(way, part[mine], n[mine])
        self.push(edges, ws, parts)

    def summed(self, way: Callable[..., NDArray[Any]], x: NDArray[Any], y: NDArray[Any]
               ) -> NDArray[Any]:
        """Of x, y (rows, batch) the sums of each part (parts, rows)."""
        start = self.e.const(0.0)
        made = [way(self.e, x[:, a:b].T, y[:, a:b].T, start) for a, b in self.parts]
        return np.stack(made) if made else np.zeros((0, len(x)), self.e.real)

    def push(self, edges: list[Longs], ws: list[NDArray[Any]], parts: list[NDArray[Any]]) -> None:
        """What rows add to the adjoints of their sources: each source's terms one after another,
        those of different sources side by side."""
        count, n_rows = len(edges), len(edges[0])
        row = np.repeat(np.arange(n_rows)[::-1], count)
        position = np.tile(np.arange(count)[::-1], n_rows)
        read = self.graph.sources[np.stack(edges)[position, row]]
        by = np.argsort(read, kind="stable")
        new = np.diff(read[by], prepend=-1) != 0
        rank = np.empty(len(by), np.int64)
        rank[by] = np.arange(len(by)) - np.maximum.accumulate(
            np.where(new, np.arange(len(by)), 0))
        weights = np.stack(ws)
        alike = all(part is parts[0] for part in parts)
        apart = parts[0][None] if alike else np.stack(parts)
        for now in range(int(rank.max()) + 1):
            mine = np.flatnonzero(rank == now)
            i, k, r = read[mine], position[mine], row[mine]
            self.adjoints[i] = aggregate.step(self.e, "sum", self.adjoints[i],
                                              apart[0 if alike else k, r], weights[k, r])
            self.touched[i] = True


def tangents(graph: Arrays, table: NDArray[Any], e: Numpy, work: NDArray[Any],
             totals: NDArray[Any]) -> NDArray[Any]:
    """The forward mode: by how much each neuron moves with each input, (N, n_inputs), where `work`
    and `totals` (N, n_inputs) are those of one sample, in each column.

    The tangent of a sum (or mean) is that of its sources, in the order of the in-list; of another
    aggregation each source has in the place of its weight the derivative by it, rounded. It is then
    multiplied by the derivative of the activation, as adjoints are.
    """
    levels = graph.levels if graph.levels is not None else _levels(graph)
    found = np.zeros_like(work)
    found[graph.inputs] = np.eye(len(graph.inputs))
    for rows in _groups(graph, levels):
        agg, edges = AGGREGATIONS[graph.aggregations[rows[0]]], _edges(graph, rows)
        weights = [table[graph.weights[at]] for at in edges]
        if edges and agg not in aggregate.SUMS:
            ns = [work[graph.sources[at]] for at in edges]
            parts = aggregate.pull(e, agg, ns, weights, np.ones_like(totals[rows]))
            weights = [e.op("mul", part, w) for part, w in zip(parts, weights, strict=True)]
        pairs = ((found[graph.sources[at]], w) for at, w in zip(edges, weights, strict=True))
        summed = (aggregate.total(e, "mean" if agg == "mean" else "sum", pairs, None) if edges
                  else np.full_like(totals[rows], -0.0))
        program = expression(int(graph.activations[rows[0]]), graph.functions)
        slope = np.asarray(derivative_at(program, e, totals[rows], work[rows]))
        found[rows] = e.op("mul", summed, slope) if tame(program) else times(e, summed, slope)
    return found


def tangential(graph: Arrays) -> bool:
    """Whether the Jacobian is made in forward mode, a pass for each input: there are fewer of them
    than outputs. The mode is a part of what is computed: the two add in different orders."""
    return graph.n_inputs < len(graph.outputs)


def dependence(graph: Arrays) -> NDArray[np.bool_]:
    """Of a graph with depths: (n_outputs, n_inputs), whether a path of edges leads from the input
    to the output. Elsewhere the Jacobian is 0, whatever the weights and values are."""
    assert graph.levels is not None
    rows = np.flatnonzero(np.diff(graph.starts) > 0)
    rows = rows[np.argsort(graph.levels[rows], kind="stable")]
    turns = np.split(rows, csr.borders(graph.levels[rows])[1:-1])
    inputs = graph.inputs[: graph.n_inputs]
    found = np.zeros((len(graph.outputs), len(inputs)), np.bool_)
    for first in range(0, len(inputs), COLUMNS):
        some = inputs[first : first + COLUMNS]
        reach = np.zeros((graph.n_neurons, -(-len(some) // 8)), np.uint8)
        reach[some] = np.packbits(np.eye(len(some), dtype=np.bool_), axis=1)
        for turn in turns if len(rows) else []:
            lengths = np.diff(graph.starts)[turn]
            sources = graph.sources[csr.ranges(graph.starts[turn], lengths)]
            reach[turn] |= np.bitwise_or.reduceat(reach[sources], csr.starts(lengths)[:-1])
        bits = np.unpackbits(reach[graph.outputs], axis=1, count=len(some))
        found[:, first : first + len(some)] = bits.astype(np.bool_)
    return found


def documented(graph: Arrays, levels: Ints, dtype: str) -> tuple[Longs, Longs, Longs]:
    """The rows that an output sees, in the order of ncc/scalar/sum_order.py; of how many of each's
    edges the products are summed up in order; and (4, rows) fan-in, aggregation, activation, level,
    which rows that are computed alike share."""
    g, fan_in = graph, np.diff(graph.starts)
    alive = np.flatnonzero(seen(g, levels) & (g.activations >= 0)).astype(np.int32)
    first = csr.representatives(g.starts, g.sources, alive, g.activations, g.aggregations)
    keys = np.stack([alive, first, fan_in[alive], g.aggregations[alive], g.activations[alive],
                     levels[alive]])
    keys = keys[:, np.lexsort(keys)]
    rows = keys[0]
    additive = np.isin(g.aggregations[rows], SUM_CODES)
    return rows, sums.in_order(keys[1], fan_in[rows], additive, sums.BLOCK[dtype]), keys[2:]


def seen(graph: Arrays, levels: Ints) -> NDArray[np.bool_]:
    """Whether an output sees each neuron: (N,)."""
    live = np.zeros(graph.n_neurons, np.bool_)
    live[graph.outputs] = True
    target = csr.owners(graph.starts)
    by = np.argsort(levels[target], kind="stable")[::-1]  # often sorted, which is fast to see
    for at in np.split(by, np.flatnonzero(np.diff(levels[target[by]])) + 1):
        live[graph.sources[at[live[target[at]]]]] = True
    return live


def arguments(graph: Arrays, x: ArrayLike, params: ArrayLike | None, dtype: str, numerics: str,
              state: NDArray[Any] | None = None) -> tuple[Numpy, NDArray[Any], NDArray[Any]]:
    """The evaluator, the values of the inputs, those of the state neurons behind x's, as
    (batch, inputs), and what parameter codes index, as a column."""
    e = Numpy(dtype, numerics != "strict")
    samples = np.atleast_2d(np.asarray(x, e.real))
    if np.ndim(x) not in (1, 2) or samples.shape[1] != graph.n_inputs:
        raise ValueError(f"x has shape {np.shape(x)}, the net has {graph.n_inputs} inputs")
    shape = (*np.shape(x)[:-1], len(graph.states))
    if state is not None and (state.shape != shape or state.dtype != e.real):
        raise ValueError(f"state is {state.dtype} of shape {state.shape}, the net wants "
                         f"{np.dtype(e.real)} of {shape}")
    if len(graph.states):
        held = np.zeros(shape, e.real) if state is None else state
        samples = np.concatenate([samples, np.atleast_2d(held)], axis=1)
    return e, samples, _table(graph, params, e)[:, None]


def forward(graph: Arrays, samples: NDArray[Any], table: NDArray[Any], e: Numpy
            ) -> tuple[NDArray[Any], NDArray[Any]]:
    """Every neuron's value and its activation's argument, (N, batch) both."""
    levels = graph.levels if graph.levels is not None else _levels(graph)
    work = np.full((graph.n_neurons, len(samples)), np.nan, e.real)
    work[graph.inputs] = samples.T
    totals = np.full_like(work, np.nan)
    for rows in _groups(graph, levels):
        j = int(rows[0])
        agg, edges = AGGREGATIONS[graph.aggregations[j]], _edges(graph, rows)
        bias = None if graph.biases[j] == NONE else table[graph.biases[rows]]
        pairs = ((work[graph.sources[at]], table[graph.weights[at]]) for at in edges)
        totals[rows] = aggregate.total(e, agg, pairs, bias)
        work[rows] = emit(expression(int(graph.activations[j]), graph.functions), e, totals[rows])
    return work, totals


def _edges(graph: Arrays, rows: Longs) -> list[Longs]:
    """The first edge of each of rows that are computed alike, the second, ..."""
    first = graph.starts[rows]
    return [first + k for k in range(int(graph.starts[rows[0] + 1] - first[0]))]


def _table(graph: Arrays, params: ArrayLike | None, e: Numpy) -> NDArray[Any]:
    """Parameters, then constants backwards, so that a parameter code is an index."""
    values = graph.values if params is None else np.asarray(params, np.float64)
    if values.shape != (graph.n_params,):
        raise ValueError(f"params have shape {values.shape}, the net has {graph.n_params}")
    if params is None and np.isnan(values).any():
        missing = int(np.isnan(values).sum())
        raise NccError("E302", f"{missing} of {graph.n_params} parameters have no value",
                       help="give --weights or --init")
    with np.errstate(over="ignore"):
        table = np.concatenate([values, graph.constants[::-1]]).astype(e.real)
    fixed = table if params is None else table[graph.n_params :]
    if not np.isfinite(fixed).all():
        raise NccError("E302", f"a weight or bias overflows {e.dtype}")
    return table


def _levels(graph: Arrays) -> Ints:
    """Longest paths from a source, by relaxing all edges until nothing moves."""
    target = csr.owners(graph.starts)
    levels = np.zeros(graph.n_neurons, np.int32)
    for _ in range(graph.n_neurons):
        before = levels.copy()
        np.maximum.at(levels, target, before[graph.sources] + 1)
        if (levels == before).all():
            return levels
    raise NccError("E303", "the net has a cycle")


def _groups(graph: Arrays, levels: Ints) -> list[Longs]:
    """Neurons that are computed alike, level by level: one activation, one aggregation, one length
    of the in-list, all or none with a bias."""
    rows = np.flatnonzero(graph.activations >= 0)
    keys = np.stack([graph.biases == NONE, np.diff(graph.starts), graph.aggregations,
                     graph.activations, levels])[:, rows]
    by = np.lexsort(keys)
    rows, keys = rows[by], keys[:, by]
    return [rows[a:b] for a, b in pairwise(csr.borders(*keys).tolist())]
