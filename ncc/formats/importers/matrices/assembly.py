"""Arrays of edges and biases to a graph: parameters get slots, constants a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import INPUT, NONE, Graph, Ints, Reals
from ncc.ir.graph_types import distinct_constants

Flags = NDArray[np.bool_]


def assemble(lengths: NDArray[Any], sources: Ints, values: Reals, biases: Reals, *,
             fixed: Flags, biased: Flags, fixed_biases: Flags, activations: Ints,
             aggregations: NDArray[np.int8], outputs: Ints, **more: Any) -> Graph:
    """The graph of N neurons and E edges; the slots are in canonical order, the bias of a neuron
    behind its in-list.

    lengths      int (N)      of the in-lists
    sources      int32 (E)
    values       float64 (E)  of the weights, NaN where they have none
    biases       float64 (N)
    fixed        bool (E)     whether a weight is a constant, and no parameter
    biased, fixed_biases      bool (N), whether a neuron has a bias; whether that is a constant
    activations  int32 (N)    codes, INPUT among them
    more         of `Graph`: functions, labels, dtype, ...
    """
    starts = csr.starts(lengths)
    before = np.cumsum(biased, dtype=np.int32) - biased  # biases of the neurons before
    weights = np.arange(len(sources), dtype=np.int32)
    weights += np.repeat(before, lengths)
    at_bias = (starts[1:] + before)[biased]
    given = np.empty(len(sources) + len(at_bias), np.float64)
    given[weights], given[at_bias] = values, biases[biased]
    constant = np.zeros(len(given), np.bool_)
    constant[weights], constant[at_bias] = fixed, fixed_biases[biased]
    codes = np.arange(len(given), dtype=np.int32)
    constants = np.zeros(0)
    if bool(constant.any()):
        codes = np.cumsum(~constant, dtype=np.int32) - np.int32(1)
        constants, codes[constant] = distinct_constants(given[constant])
        given = given[~constant]
    every_bias = np.full(len(biased), NONE, np.int32)
    every_bias[biased] = codes[at_bias]
    return Graph(
        starts=starts, sources=sources, weights=codes[weights], biases=every_bias,
        activations=activations, aggregations=aggregations,
        inputs=np.flatnonzero(activations == INPUT).astype(np.int32), outputs=outputs,
        values=given, constants=constants, **more)
