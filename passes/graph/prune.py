"""Neurons that no output can see become ABSENT."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import NONE, PLAIN_SUM_CODES, Graph


def prune(graph: Graph, *, numerics: str = "fused") -> Graph:
    """The same function of the inputs, without what it does not need. O(W + N).

        graph 04                      graph 04
        inputs 00 01                  inputs 00 01
        outputs 02                    outputs 02
        values 0.5 2.0                values 0.5 2.0
        constants               =>    constants
        00 @0 input                   00 @0 input
        01 @0 input                   01 @0 input
        02 @1 relu sum 00*p0          02 @1 relu sum 00*p0
        03 @1 relu sum 01*p1          03 @1 absent

    A state neuron that is not seen goes as well, and the neuron that it takes its value from is
    seen where it is seen itself:

        graph 06                          graph 06
        inputs 00 04 05                   inputs 00 04
        outputs 01                        outputs 01
        states 02 03                      states 02
        values 0.5 2.0 1.0 1.0            values 0.5 2.0 1.0 1.0
        constants                   =>    constants
        00 @0 input                       00 @0 input
        01 @1 tanh sum 04*p0              01 @1 tanh sum 04*p0
        02 @1 relu sum 00*p1              02 @1 relu sum 00*p1
        03 @1 relu sum 05*p2 04*p3        03 @1 absent
        04 @0 input                       04 @0 input
        05 @0 input                       05 @0 absent

    Inputs stay, read or not: they are the caller's interface. So do parameters, whose order is
    canonical. Under `fast` an edge into a sum whose weight is a constant 0 goes too; elsewhere it
    may not: it makes a NaN of an infinity, and -0 + 0*n is +0.
    """
    if numerics == "fast":
        graph = _without_zeros(graph)
    seen = seen_of(graph)
    gone = ~seen & (graph.activations >= 0)
    held = graph.inputs[graph.n_inputs :]
    kept = seen[held]
    if not kept.all():
        gone[held[~kept]] = True
        graph = graph.with_(inputs=np.append(graph.inputs[: graph.n_inputs], held[kept]),
                            states=graph.states[kept])
    return graph.without(gone) if gone.any() else graph


def seen_of(graph: Graph) -> NDArray[np.bool_]:
    """Which neurons (N) some output sees, in this call or, in a net with states, a later one."""
    return _seen_in_time(graph) if len(graph.states) else _seen(graph)


def _seen(graph: Graph) -> NDArray[np.bool_]:
    """Which neurons some output reads, however far back.

    Backwards by levels where the graph has them, so that each in-list is looked at once; a
    neuron's readers all stand on higher levels.
    """
    seen = np.zeros(graph.n_neurons, np.bool_)
    seen[graph.outputs] = True
    if graph.levels is None or not graph.n_neurons:
        raise ValueError("prune wants a graph with levels")
    read = seen.copy()
    read[graph.sources] = True
    if read[graph.activations >= 0].all():  # then who is read leads on to an output
        return read
    lengths = np.diff(graph.starts)
    by = np.argsort(graph.levels, kind="stable")
    cuts = np.searchsorted(graph.levels[by], np.arange(graph.levels.max() + 2))
    for level in range(len(cuts) - 2, 0, -1):
        rows = by[cuts[level] : cuts[level + 1]]
        rows = rows[seen[rows]]
        seen[graph.sources[csr.ranges(graph.starts[rows], lengths[rows])]] = True
    return seen


def _seen_in_time(graph: Graph) -> NDArray[np.bool_]:
    """`_seen` of a net with states, which an output reads in a later call, too: from the outputs
    back, a frontier at a time."""
    from_ = np.full(graph.n_neurons, -1, np.int32)
    from_[graph.inputs[graph.n_inputs :]] = graph.states
    lengths = np.diff(graph.starts)
    seen = np.zeros(graph.n_neurons, np.bool_)
    frontier = np.unique(graph.outputs)
    while len(frontier):
        seen[frontier] = True
        late = from_[frontier]
        met = np.concatenate([
            graph.sources[csr.ranges(graph.starts[frontier], lengths[frontier])], late[late >= 0]])
        frontier = np.unique(met[~seen[met]])
    return seen


def _without_zeros(graph: Graph) -> Graph:
    """Without the edges of weight 0 into sums; the first stays where it is all a neuron has, and of
    `sumbias` always."""
    lengths = np.diff(graph.starts)
    target = csr.owners(graph.starts)
    zeros = np.flatnonzero(graph.constants == 0)
    drop = np.isin(graph.weights, -1 - zeros) & np.isin(graph.aggregations[target], PLAIN_SUM_CODES)
    left = np.bincount(target[~drop], minlength=graph.n_neurons)
    alone = (graph.biases == NONE) | (graph.aggregations != 0)
    bare = (left == 0) & alone & (lengths > 0)
    drop[graph.starts[:-1][bare]] = False
    left = left + bare
    return graph.with_(starts=csr.starts(left), sources=graph.sources[~drop],
                       weights=graph.weights[~drop])
