"""The verifier of the graph level; its rules stand at `Graph.verify`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError, Source
from ncc.ir import csr, labels
from ncc.ir.graph_types import (
    ABSENT,
    AGGREGATIONS,
    INPUT,
    NONE,
    NUMERICS,
    PAIR_CODES,
    PLAIN_SUM_CODES,
    Arrays,
    Ints,
)
from ncc.scalar.activations import FREE
from ncc.scalar.expressions import parse


def faults(graph: Arrays) -> Iterator[tuple[str, int | None]]:
    """What is wrong with a graph, and with which neuron; later checks trust the earlier ones."""
    g, n = graph, len(graph.starts) - 1
    shapes = (("starts", np.int64, n + 1), ("sources", np.int32, g.n_edges),
              ("weights", np.int32, g.n_edges), ("biases", np.int32, n),
              ("activations", np.int32, n), ("aggregations", np.int8, n),
              ("inputs", np.int32, None), ("outputs", np.int32, None), ("states", np.int32, None),
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
    if len(g.states) > len(g.inputs) or ((g.states < 0) | (g.states >= n)).any():
        yield "a state is no neuron, or is no input's", None
        return
    yield from _text_faults(g)
    acts, lengths = g.activations, np.diff(g.starts)
    known = (acts >= ABSENT) & (acts < FREE) | np.isin(acts, list(g.functions))
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
    yield from _state_faults(g)
    yield from (("it has neither in-list nor bias", j) for j in first(~still & bare))
    lone = PLAIN_SUM_CODES if g.levels is None else [0]  # `order` makes sums of the others
    yield from (("its aggregation has no in-list", j)
                for j in first(~np.isin(g.aggregations, lone) & (lengths == 0)))
    pairs = np.isin(g.aggregations, PAIR_CODES)
    yield from (("its in-list is no pairs of edges", j) for j in first(pairs & (lengths % 2 == 1)))
    if pairs.any():
        one = -1 - np.flatnonzero(g.constants == 1.0)
        yield from (("the weight of a pair's second edge is no constant 1", j)
                    for j in first(g.seconds() & ~np.isin(g.weights, one), target))
    if g.levels is not None:
        yield from (("its level is negative", j) for j in first(g.levels < 0))
        falls = g.levels[g.sources] >= g.levels[target]
        yield from (("an edge into it does not rise", j) for j in first(falls, target))


def first(bad: NDArray[np.bool_], neurons: NDArray[Any] | None = None) -> Iterator[int]:
    """The first that is bad, if any: its index, or its entry in `neurons`."""
    at = np.flatnonzero(bad)[:1]
    return iter((at if neurons is None else neurons[at]).tolist())


def _state_faults(g: Arrays) -> Iterator[tuple[str, int]]:
    """What is wrong with the state neurons, and with those whose values they take."""
    gone = g.activations == ABSENT
    yield from (("it is absent, and a state takes its value", j)
                for j in first(gone[g.states], g.states))
    late = np.isin(g.states, g.inputs[g.n_inputs :])
    behind = np.arange(g.n_neurons) > g.n_own
    behind[g.inputs[g.n_inputs :]] = False
    yield from (("it stands behind a state neuron", j) for j in first(behind & ~gone))
    yield from (("it is a state, and another takes its value", j) for j in first(late, g.states))


def _text_faults(g: Arrays) -> Iterator[tuple[str, None]]:
    """What is wrong with the functions, the names, the labels and the directives."""
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
    wrong = labels.fault(g.labels, g.n_own)
    if wrong is not None:
        yield wrong.message, None
    if g.numerics not in (None, *NUMERICS):
        yield f"numerics {g.numerics} are unknown", None
    if g.dtype not in (None, "f32", "f64"):
        yield f"dtype {g.dtype} is unknown", None
