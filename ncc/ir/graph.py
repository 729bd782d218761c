"""The graph level: a net as arrays.

In-lists are CSR; parameters are slots of the canonical vector; the file format is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncc.errors import NccError, Source
from ncc.ir import csr
from ncc.ir.csr import Ints as Ints
from ncc.ir.csr import Longs as Longs
from ncc.scalar import aggregations as aggregate
from ncc.scalar import sum_order as sums
from ncc.scalar.activations import FREE, name_of
from ncc.scalar.derivative import slope, tame, times
from ncc.scalar.expressions import emit, expression, parse
from ncc.scalar.numpy_eval import Numpy

Reals = NDArray[np.float64]

NONE = -(2**31)  # no bias
INPUT = -1  # the activation code of an input
ABSENT = -2  # the activation code of a neuron that a pass has removed
AGGREGATIONS = ("sum", "mul", "mean", "max", "min", "maxabs")


@dataclass(frozen=True, eq=False)
class Graph:
    """A net of N neurons, E edges, P parameter slots and C constants.

    A *parameter code* (of an edge or a bias) is a slot s >= 0 of the canonical parameter vector,
    or -1-c for entry c of `constants`, or NONE (biases only).

    starts       int64 (N+1)  in-list of neuron j is starts[j] .. starts[j+1]
    sources      int32 (E)    the neuron each edge comes from
    weights      int32 (E)    parameter codes
    biases       int32 (N)    parameter codes
    activations  int32 (N)    activation codes; INPUT, ABSENT
    aggregations int8 (N)     indices into AGGREGATIONS
    inputs       int32        ascending
    outputs      int32        in the order the caller sees; may repeat after `merge`
    values       float64 (P)  the file's parameter values, NaN where it gives none
    constants    float64 (C)
    names        slot -> tie name, for the slots that have one
    functions    code -> the text of an expression in x, for codes the file defines, ascending
    levels       int32 (N)    longest path from a source; None before `order`
    labelled     whether texts print inputs (`.nam`)
    """

    __module__ = "ncc"  # what a pickle of a public object holds is found there, too
    starts: Longs
    sources: Ints
    weights: Ints
    biases: Ints
    activations: Ints
    aggregations: NDArray[np.int8]
    inputs: Ints
    outputs: Ints
    values: Reals
    constants: Reals
    names: dict[int, str] = field(default_factory=dict)
    functions: dict[int, str] = field(default_factory=dict)
    levels: Ints | None = None
    labelled: bool = False

    @property
    def n_neurons(self) -> int:
        return len(self.starts) - 1

    @property
    def n_edges(self) -> int:
        return len(self.sources)

    @property
    def n_params(self) -> int:
        return len(self.values)

    def with_(self, **changes: Any) -> Graph:
        """This graph with other fields."""
        return replace(self, **changes)

    def without(self, gone: NDArray[np.bool_]) -> Graph:
        """This graph with neurons (N) made ABSENT, and without their in-lists. Who reads one of
        them still does."""
        kept = ~np.repeat(gone, np.diff(self.starts))
        return self.with_(
            starts=csr.starts(np.where(gone, 0, np.diff(self.starts))),
            sources=self.sources[kept],
            weights=self.weights[kept],
            biases=np.where(gone, NONE, self.biases).astype(np.int32),
            activations=np.where(gone, ABSENT, self.activations).astype(np.int32),
            aggregations=np.where(gone, 0, self.aggregations).astype(np.int8),
        )

    def __str__(self) -> str:
        """The `.graph` text; `ncc.ir.graph_text.read` makes the identical graph of it."""
        return "\n".join(_lines(self)) + "\n"

    def verify(self) -> None:
        """Raise NccError (E301, status 3) unless

        - each array has its dtype and its length, `outputs` is not empty;
        - `starts` begins at 0, never falls, and ends at E;
        - sources and outputs are neurons, weights are slots or constants, biases too or NONE;
        - values are finite or NaN, constants finite;
        - functions have codes from 0x20 on, ascending, and texts that are expressions;
        - names belong to slots, are identifiers, and no two are the same;
        - activation and aggregation codes are known;
        - `inputs` are the neurons of activation INPUT, ascending; those have neither an in-list
          nor a bias, and the aggregation sum;
        - so have ABSENT neurons, and nobody reads them, nor are they outputs;
        - each other neuron has an in-list or a bias, an in-list if its aggregation is not sum;
        - levels, if any, are not negative and rise along every edge.
        """
        for message, neuron in faults(self):
            where = "" if neuron is None else f"neuron {neuron:02x}: "
            raise NccError("E301", where + message, status=3)

    @np.errstate(all="ignore")  # infinities and NaN are values
    def run(self, x: ArrayLike, params: ArrayLike | None = None, dtype: str = "f32",
            numerics: str = "fused") -> NDArray[Any]:
        """The outputs (n_outputs,) or (batch, n_outputs) of inputs x, in `dtype`: the meaning of
        the net, which every other form must equal bit for bit (under `fast`, nearly).

        `params` (n_params,) default to the file's. Raises ValueError for a wrong shape, NccError
        E302 where a parameter has no value or does not fit the dtype, E303 for a cycle.
        """
        e, samples, table = _arguments(self, x, params, dtype, numerics)
        work, _ = _forward(self, samples, table, e)
        y = work[self.outputs].T.copy()
        return y if np.ndim(x) == 2 else y[0]

    @np.errstate(all="ignore")
    def gradient(self, x: ArrayLike, dy: ArrayLike, params: ArrayLike | None = None,
                 dtype: str = "f32", numerics: str = "fused"
                 ) -> tuple[NDArray[Any], NDArray[Any]]:
        """dx, of x's shape, and dparams (n_params,), summed over the batch: the gradients of
        sum(y * dy), dy (n_outputs,) or (batch, n_outputs), by a reverse sweep in `dtype`.

        The meaning of every backward function, bit for bit where both have the same graph (and the
        numerics are not `fast`): sums are added in the order of ncc/scalar/sum_order.py. Raises as
        `run` does.
        """
        e, samples, table = _arguments(self, x, params, dtype, numerics)
        seeds = np.asarray(dy, e.real).reshape(len(samples), len(self.outputs))
        with np.errstate(all="ignore"):
            dx, dparams = _Reverse(self, table, e, *_forward(self, samples, table, e)).run(seeds)
        return dx if np.ndim(x) == 2 else dx[0], dparams


class _Reverse:
    """The sweep back: `table` is what codes index, `work` (N, batch) are the neurons' values and
    `totals` the arguments of their activations."""

    def __init__(self, graph: Graph, table: NDArray[Any], e: Numpy, work: NDArray[Any],
                 totals: NDArray[Any]) -> None:
        self.graph = graph
        self.table = table
        self.e = e
        self.work, self.totals = work, totals
        self.levels = graph.levels if graph.levels is not None else _levels(graph)
        # -0 is what a sum may begin with so that its first term stands as it is.
        self.adjoints = np.full_like(work, -0.0)
        self.touched = np.zeros(graph.n_neurons, np.bool_)
        self.chunks = range(0, work.shape[1], sums.CHUNK)
        # By chunk: an edge's part of the gradient, a bias's.
        self.edges = np.zeros((len(self.chunks), graph.n_edges), e.real)
        self.biases = np.zeros((len(self.chunks), graph.n_neurons), e.real)

    def run(self, seeds: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        g = self.graph
        for k, j in enumerate(g.outputs.tolist()):
            self.adjoints[j] = self.e.op("add", self.adjoints[j], seeds[:, k])
            self.touched[j] = True
        for rows, prefixes in reversed(list(self.groups())):
            self.back(rows, prefixes)
        dx = np.where(self.touched[g.inputs, None], self.adjoints[g.inputs], 0).T
        codes = np.insert(g.weights, g.starts[1:], g.biases)
        used = codes >= 0
        dparams = np.zeros(g.n_params, self.e.real)
        for edges, biases in zip(self.edges, self.biases, strict=True):
            chunk = np.zeros_like(dparams)
            np.add.at(chunk, codes[used], np.insert(edges, g.starts[1:], biases)[used])
            dparams += chunk
        return dx.astype(self.e.real).copy(), dparams

    def groups(self) -> Iterator[tuple[Longs, Longs]]:
        """Rows that are computed alike, in order, of those that an output sees, and of how many of
        each's edges the products are summed up in order."""
        g, fan_in = self.graph, np.diff(self.graph.starts)
        live = np.zeros(g.n_neurons, np.bool_)
        live[g.outputs] = True
        target = csr.owners(g.starts)
        by = np.argsort(-self.levels[target], kind="stable")
        for at in np.split(by, np.flatnonzero(np.diff(self.levels[target[by]])) + 1):
            live[g.sources[at[live[target[at]]]]] = True
        alive = np.flatnonzero(live & (g.activations >= 0)).astype(np.int32)
        first = csr.representatives(g.starts, g.sources, alive, g.activations, g.aggregations)
        keys = np.stack([alive, first, fan_in[alive], g.aggregations[alive],
                         g.activations[alive], self.levels[alive]])
        keys = keys[:, np.lexsort(keys)]
        rows = keys[0]
        additive = np.isin(g.aggregations[rows], [AGGREGATIONS.index("sum"),
                                                  AGGREGATIONS.index("mean")])
        prefixes = sums.in_order(keys[1], fan_in[rows], additive, sums.BLOCK[self.e.dtype])
        cuts = np.flatnonzero((keys[2:, 1:] != keys[2:, :-1]).any(axis=0)) + 1
        for begin, end in pairwise([0, *cuts.tolist(), len(rows)]):
            if begin < end:
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
        found = np.asarray(slope(program, e, total, self.work[rows]))
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
        """Of x, y (rows, batch) the sums of each chunk (chunks, rows)."""
        start = self.e.const(0.0)
        made = [way(self.e, x[:, c : c + sums.CHUNK].T, y[:, c : c + sums.CHUNK].T, start)
                for c in self.chunks]
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


def _arguments(graph: Graph, x: ArrayLike, params: ArrayLike | None, dtype: str, numerics: str
               ) -> tuple[Numpy, NDArray[Any], NDArray[Any]]:
    """The evaluator, x as (batch, n_inputs), and what parameter codes index, as a column."""
    e = Numpy(dtype, numerics != "strict")
    samples = np.atleast_2d(np.asarray(x, e.real))
    if np.ndim(x) not in (1, 2) or samples.shape[1] != len(graph.inputs):
        raise ValueError(f"x has shape {np.shape(x)}, the net has {len(graph.inputs)} inputs")
    return e, samples, _table(graph, params, e)[:, None]


def _forward(graph: Graph, samples: NDArray[Any], table: NDArray[Any], e: Numpy
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


def _edges(graph: Graph, rows: Longs) -> list[Longs]:
    """The first edge of each of rows that are computed alike, the second, ..."""
    first = graph.starts[rows]
    return [first + k for k in range(int(graph.starts[rows[0] + 1] - first[0]))]


def _table(graph: Graph, params: ArrayLike | None, e: Numpy) -> NDArray[Any]:
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


def _levels(graph: Graph) -> Ints:
    """Longest paths from a source, by relaxing all edges until nothing moves."""
    target = csr.owners(graph.starts)
    levels = np.zeros(graph.n_neurons, np.int32)
    for _ in range(graph.n_neurons):
        before = levels.copy()
        np.maximum.at(levels, target, before[graph.sources] + 1)
        if (levels == before).all():
            return levels
    raise NccError("E303", "the net has a cycle")


def _groups(graph: Graph, levels: Ints) -> list[Longs]:
    """Neurons that are computed alike, level by level: one activation, one aggregation, one length
    of the in-list, all or none with a bias."""
    rows = np.flatnonzero(graph.activations >= 0)
    keys = np.stack([graph.biases == NONE, np.diff(graph.starts), graph.aggregations,
                     graph.activations, levels])[:, rows]
    by = np.lexsort(keys)
    rows, keys = rows[by], keys[:, by]
    return [rows[a:b] for a, b in pairwise(csr.borders(*keys).tolist())]


def _lines(graph: Graph) -> Iterator[str]:
    digits = max(2, len(f"{max(graph.n_neurons - 1, 0):x}"))
    names = [f"{j:0{digits}x}" for j in range(graph.n_neurons)]

    def code(number: int) -> str:
        return f"p{number:x}" if number >= 0 else f"c{-1 - number:x}"

    yield f"graph {graph.n_neurons:02x}"
    if graph.labelled:
        yield "labelled"
    yield from _wrapped("inputs", [names[j] for j in graph.inputs.tolist()])
    yield from _wrapped("outputs", [names[j] for j in graph.outputs.tolist()])
    for number, text in graph.functions.items():
        yield f"fn {number:02x} {text}"
    yield from _wrapped("values", ["-" if v != v else repr(v) for v in graph.values.tolist()])
    yield from _wrapped("constants", [repr(v) for v in graph.constants.tolist()])
    for slot in sorted(graph.names):
        yield f"name p{slot:x} {graph.names[slot]}"
    starts, sources, weights = (a.tolist() for a in (graph.starts, graph.sources, graph.weights))
    activations, biases = graph.activations.tolist(), graph.biases.tolist()
    aggregations = graph.aggregations.tolist()
    levels = None if graph.levels is None else graph.levels.tolist()
    for j, name in enumerate(names):
        at = "" if levels is None else f" @{levels[j]}"
        if activations[j] in (INPUT, ABSENT):
            yield f"{name}{at} {'input' if activations[j] == INPUT else 'absent'}"
            continue
        words = [f"{name}{at}", name_of(activations[j]), AGGREGATIONS[aggregations[j]]]
        if biases[j] != NONE:
            words.append(f"+{code(biases[j])}")
        edges = range(starts[j], starts[j + 1])
        words += [f"{names[sources[k]]}*{code(weights[k])}" for k in edges]
        yield " ".join(words)


def _wrapped(head: str, words: list[str]) -> Iterator[str]:
    """`words` behind `head`, sixteen a line, the further lines indented."""
    for k in range(0, max(len(words), 1), 16):
        yield " ".join((head if k == 0 else "   ", *words[k : k + 16]))


def faults(graph: Graph) -> Iterator[tuple[str, int | None]]:
    """What is wrong with a graph, and with which neuron; later checks trust the earlier ones."""
    g, n = graph, len(graph.starts) - 1
    shapes = (("starts", np.int64, n + 1), ("sources", np.int32, g.n_edges),
              ("weights", np.int32, g.n_edges), ("biases", np.int32, n),
              ("activations", np.int32, n), ("aggregations", np.int8, n),
              ("inputs", np.int32, None), ("outputs", np.int32, None),
              ("values", np.float64, None), ("constants", np.float64, None))
    for name, dtype, length in shapes:
        array = getattr(g, name)
        if array.dtype != dtype or array.ndim != 1:
            yield f"{name} is no vector of {np.dtype(dtype)}", None
            return
        if length is not None and len(array) != length:
            yield f"{name} has {len(array)} entries, not {length}", None
            return
    if n < 0 or g.starts[0] != 0 or (np.diff(g.starts) < 0).any() or g.starts[-1] != g.n_edges:
        yield "starts do not cut the edges into in-lists", None
        return
    if g.levels is not None and (g.levels.dtype != np.int32 or g.levels.shape != (n,)):
        yield f"levels is no vector of int32 of {n} entries", None
        return
    if not len(g.outputs):
        yield "the net has no outputs", None
    target = csr.owners(g.starts)

    def first(bad: NDArray[np.bool_], neurons: NDArray[Any] | None = None) -> Iterator[int]:
        at = np.flatnonzero(bad)[:1]
        return iter((at if neurons is None else neurons[at]).tolist())

    def outside(codes: Ints) -> NDArray[np.bool_]:
        return (codes < -len(g.constants)) | (codes >= g.n_params)

    wild = (g.sources < 0) | (g.sources >= n)
    yield from (("its in-list names no neuron", j) for j in first(wild, target))
    if wild.any():
        return
    if ((g.outputs < 0) | (g.outputs >= n)).any():
        yield "an output is no neuron", None
        return
    yield from (("a weight is no slot and no constant", j)
                for j in first(outside(g.weights), target))
    yield from (("its bias is no slot and no constant", j)
                for j in first(outside(g.biases) & (g.biases != NONE)))
    if np.isinf(g.values).any():
        yield "a value is infinite", None
    if not np.isfinite(g.constants).all():
        yield "a constant is not finite", None
    codes = list(g.functions)
    if codes != sorted(codes) or (codes and codes[0] < FREE):
        yield "functions do not ascend from code 20", None
    for code, text in g.functions.items():
        try:
            parse(Source("<fn>", text), text)
        except NccError as error:
            yield f"function {code:02x}: {error.message}", None
    if any(not 0 <= slot < g.n_params for slot in g.names):
        yield "a name belongs to no slot", None
    words = sorted(g.names.values())
    if any(a == b for a, b in zip(words, words[1:], strict=False)):
        yield "two slots have one name", None
    if any(not (word.isidentifier() and word.isascii()) for word in words):
        yield "a name is no identifier", None
    acts, lengths = g.activations, np.diff(g.starts)
    known = (acts >= ABSENT) & (acts < FREE) | np.isin(acts, codes)
    yield from (("its activation is unknown", j) for j in first(~known))
    kinds = (g.aggregations < 0) | (g.aggregations >= len(AGGREGATIONS))
    yield from (("its aggregation is unknown", j) for j in first(kinds))
    if not np.array_equal(g.inputs, np.flatnonzero(acts == INPUT)):
        yield "inputs are not the neurons of activation INPUT, ascending", None
    bare = (lengths == 0) & (g.biases == NONE)
    still = (acts == INPUT) | (acts == ABSENT)
    yield from (("an input or absent neuron has a sum", j)
                for j in first(still & (~bare | (g.aggregations != 0))))
    gone = acts == ABSENT
    yield from (("it reads an absent neuron", j) for j in first(gone[g.sources], target))
    yield from (("an output is absent", j) for j in first(gone[g.outputs], g.outputs))
    yield from (("it has neither in-list nor bias", j) for j in first(~still & bare))
    yield from (("its aggregation has no in-list", j)
                for j in first((g.aggregations != 0) & (lengths == 0)))
    if g.levels is not None:
        yield from (("its level is negative", j) for j in first(g.levels < 0))
        falls = g.levels[g.sources] >= g.levels[target]
        yield from (("an edge into it does not rise", j) for j in first(falls, target))
