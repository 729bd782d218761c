"""The graph level: a net as arrays.

In-lists are CSR; parameters are slots of the canonical vector; the file format is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncc.errors import NccError
from ncc.ir import csr, labels
from ncc.ir.graph_run import Reverse, arguments, dependence, forward, tangential, tangents
from ncc.ir.graph_types import (
    ABSENT,
    AGGREGATIONS,
    INPUT,
    NONE,
    NUMERICS,
    PAIR_CODES,
    PLAIN_SUM_CODES,
    SUM_CODES,
    Arrays,
    Ints,
    Label,
    Longs,
    Reals,
    refuse_states,
    seconds,
    settled,
)
from ncc.ir.graph_verify import faults
from ncc.scalar.activations import name_of

__all__ = ["ABSENT", "AGGREGATIONS", "INPUT", "NONE", "NUMERICS", "PAIR_CODES", "PLAIN_SUM_CODES",
           "SUM_CODES",
           "Graph", "Ints", "Label", "Longs", "Reals", "code", "faults",
           "refuse_states", "seconds", "settled", "wrapped"]


@dataclass(frozen=True, eq=False)
class Graph(Arrays):
    """The arrays of a net with their verifier, text and interpreter."""

    __module__ = "ncc"  # what a pickle of a public object holds is found there, too

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
        - each other neuron has an in-list or a bias, an in-list if its aggregation is not sum,
          or, without levels, sumbias;
        - the in-list of a dot is pairs of edges, and the second of each has a constant weight of 1;
        - states are neurons, neither ABSENT nor state neurons themselves, and no more than inputs;
          behind a state neuron stand only others, and ABSENT ones;
        - labels have printable names, no two the same, and name neurons of the net;
        - numerics and dtype, if any, are known;
        - levels, if any, are not negative and rise along every edge.
        """
        for message, neuron in faults(self):
            where = "" if neuron is None else f"neuron {neuron:02x}: "
            raise NccError("E301", where + message)

    @np.errstate(all="ignore")  # infinities and NaN are values
    def run(self, x: ArrayLike, params: ArrayLike | None = None, dtype: str = "f32",
            numerics: str = "fused", state: NDArray[Any] | None = None) -> NDArray[Any]:
        """The outputs (n_outputs,) or (batch, n_outputs) of inputs x, in `dtype`: the meaning of
        the net, which every other form must equal bit for bit (under `fast`, nearly).

        `params` (n_params,) default to the file's. A net with states makes a step: of one stream,
        or of as many as x has rows. `state`, (S,) or (batch, S) of `dtype`, is what the state
        neurons read, and is overwritten with what they read next; without it they read 0.
        Raises ValueError for a wrong shape, NccError E302 where a parameter has no value or does
        not fit the dtype, E303 for a cycle.
        """
        e, samples, table = arguments(self, x, params, dtype, numerics, state)
        work, _ = forward(self, samples, table, e)
        if state is not None:
            state[...] = work[self.states].T.reshape(state.shape)
        y = work[self.outputs].T.copy()
        return y if np.ndim(x) == 2 else y[0]

    def run_steps(self, xs: ArrayLike, params: ArrayLike | None = None, dtype: str = "f32",
                  numerics: str = "fused", state: NDArray[Any] | None = None) -> NDArray[Any]:
        """The outputs (T, n_outputs) of T steps of one stream, one after another, of inputs
        xs (T, n_inputs); or of streams side by side, (T, batch, n_outputs) of
        (T, batch, n_inputs). `state` and the rest as in `run`: without it the first step reads 0.
        """
        samples = np.asarray(xs)
        if samples.ndim not in (2, 3):
            raise ValueError(f"xs have shape {samples.shape}, not (steps, n_inputs) or "
                             "(steps, batch, n_inputs)")
        if state is None:
            state = np.zeros((*samples.shape[1:-1], len(self.states)),
                             np.float64 if dtype == "f64" else np.float32)
        ys = [self.run(x, params, dtype, numerics, state) for x in samples]
        return np.stack(ys) if ys else np.zeros((*samples.shape[:-1], len(self.outputs)),
                                                state.dtype)

    @np.errstate(all="ignore")
    def gradient(self, x: ArrayLike, dy: ArrayLike, params: ArrayLike | None = None,
                 dtype: str = "f32", numerics: str = "fused"
                 ) -> tuple[NDArray[Any], NDArray[Any]]:
        """dx, of x's shape, and dparams (n_params,), summed over the batch: the gradients of
        sum(y * dy), dy (n_outputs,) or (batch, n_outputs), by a backward pass in `dtype`.

        The meaning of every backward function, bit for bit where both have the same graph (and the
        numerics are not `fast`): sums are added in the order of ncc/scalar/sum_order.py. Raises as
        `run` does, and E160 for a net with states: unrolled, it is one without.
        """
        refuse_states(self, "a gradient")
        e, samples, table = arguments(self, x, params, dtype, numerics)
        seeds = np.asarray(dy, e.real).reshape(len(samples), len(self.outputs))
        with np.errstate(all="ignore"):
            dx, dparams = Reverse(self, table, e, *forward(self, samples, table, e)).run(seeds)
        return dx if np.ndim(x) == 2 else dx[0], dparams


    @np.errstate(all="ignore")
    def jacobian(self, x: ArrayLike, params: ArrayLike | None = None, dtype: str = "f32",
                 numerics: str = "fused") -> NDArray[Any]:
        """The derivative of each output by each input, (n_outputs, n_inputs), of one sample x
        (n_inputs,), in `dtype`; of an ordered graph: the meaning of every function that makes
        Jacobians, bit for bit.

        In reverse mode row k is dx of `gradient`, where dy is 1 for output k and 0 for the others.
        In forward mode, which a net with fewer inputs than outputs has, column i is what
        `tangents` of ncc/ir/graph_run.py says of the seed 1 for input i and 0 for the others. What
        no path of edges leads to is +0 in both. Raises as `gradient` does.
        """
        refuse_states(self, "a Jacobian")
        n_inputs, n_outputs = self.n_inputs, len(self.outputs)
        if tangential(self):
            e, samples, table = arguments(self, np.tile(x, (n_inputs, 1)), params, dtype, numerics)
            found = tangents(self, table, e, *forward(self, samples, table, e))
            found = found[self.outputs]
        else:
            found, _ = self.gradient(np.tile(x, (n_outputs, 1)), np.eye(n_outputs), params, dtype,
                                     numerics)
        return np.where(dependence(self), found, found.dtype.type(0))


def _lines(graph: Graph) -> Iterator[str]:
    width = labels.digits(graph.n_neurons)
    names = [f"{j:0{width}x}" for j in range(graph.n_neurons)]

    yield f"graph {graph.n_neurons:02x}"
    if graph.shows_inputs:
        yield "shows-inputs"
    if graph.numerics is not None:
        yield f"numerics {graph.numerics}"
    if graph.dtype is not None:
        yield f"dtype {graph.dtype}"
    yield from wrapped("inputs", [names[j] for j in graph.inputs.tolist()])
    yield from wrapped("outputs", [names[j] for j in graph.outputs.tolist()])
    if len(graph.states):
        yield from wrapped("states", [names[j] for j in graph.states.tolist()])
    for number, text in graph.functions.items():
        yield f"fn {number:02x} {text}"
    yield from wrapped("values", ["-" if v != v else repr(v) for v in graph.values.tolist()])
    yield from wrapped("constants", [repr(v) for v in graph.constants.tolist()])
    for slot in sorted(graph.names):
        yield f"name p{slot:x} {graph.names[slot]}"
    yield from labels.lines(graph.labels, width)
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


def code(number: int) -> str:
    """A parameter code as texts spell it: p0, c0."""
    return f"p{number:x}" if number >= 0 else f"c{-1 - number:x}"


def wrapped(head: str, words: list[str]) -> Iterator[str]:
    """`words` behind `head`, sixteen a line, the further lines indented."""
    for k in range(0, max(len(words), 1), 16):
        yield " ".join((head if k == 0 else "   ", *words[k : k + 16]))
