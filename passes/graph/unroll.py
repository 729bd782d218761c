"""A net with states as a net of several steps, which has none."""

from __future__ import annotations

import numpy as np

from ncc.errors import NccError
from ncc.ir import csr
from ncc.ir.graph import Graph
from ncc.ir.labels import Label
from ncc.passes.graph.depths import levels_of

MOST = 2**31 - 2  # neurons, and edges


def unroll(graph: Graph, *, steps: int = 0) -> Graph:
    """`steps` steps of `graph` from the reset on, as one net: x are the inputs of the first step,
    then those of the second, ..., and y the outputs likewise. 0: the graph as it is.

        // steps=2
        graph 03                            graph 05
        inputs 00 02                        inputs 00 02
        outputs 01                          outputs 01 03
        states 01                           values 0.5 2.0
        values 0.5 2.0                =>    constants 0.0
        constants                           name p0 w0
        00 @0 input                         name p1 w1
        01 @1 tanh sum 00*p0 02*p1          00 @0 input
        02 @0 input                         01 @1 tanh sum 00*p0 04*p1
                                            02 @0 input
                                            03 @2 tanh sum 02*p0 01*p1
                                            04 @0 identity sum +c0

    Neuron j of step t is t*N + j, N the net's own neurons, and reads what it read, from the step
    before what the state neurons held. Behind the last step stands a constant neuron for each
    state: what the first step reads. Its values are 0 and its edges stay, for 0*w is not nothing:
    it may be -0, and a product or a maximum has it among its terms. So all steps have the bits that
    the net with states has.

    Parameters are the same vector in the same order; each step's edges share their slots, which get
    names so that net files can say so. A label has the number of its step behind it: `eye.0`.

    O(steps (W + N)). NccError E161 (status 2) where `steps` is negative, the graph has no states,
    or the net would be too large.
    """
    if steps == 0:
        return graph
    count, states = graph.n_own, len(graph.states)
    if steps < 0 or not states:
        raise NccError("E161", f"{steps} steps" if steps < 0 else
                       "no neuron reads a value of the last call: there is nothing to unroll",
                       help="--unroll 10" if steps < 0 else "~04 in an in-list reads one")
    if steps * max(count, graph.n_edges) + states > MOST:
        raise NccError("E161", f"{steps} steps of {count} neurons and {graph.n_edges} edges are "
                       "more than a net can have")
    base = (np.arange(steps) * count)[:, None]
    rank = np.full(graph.n_neurons, -1, np.int32)
    rank[graph.inputs[graph.n_inputs :]] = np.arange(states)
    late = np.flatnonzero(rank[graph.sources] >= 0)
    held = rank[graph.sources[late]]
    sources = graph.sources + base
    sources[0, late] = steps * count + held
    sources[1:, late] = graph.states[held] + base[:-1]
    zero = -1 - len(graph.constants)

    def every(values: np.ndarray, behind: int) -> np.ndarray:
        """What each step's neurons have, then what the constants have."""
        return np.concatenate([np.tile(values[:count], steps),
                               np.full(states, behind)]).astype(values.dtype)

    made = graph.with_(
        starts=csr.starts(every(np.diff(graph.starts), 0)),
        sources=sources.reshape(-1).astype(np.int32),
        weights=np.tile(graph.weights, steps),
        biases=every(graph.biases, zero),
        activations=every(graph.activations, 0),
        aggregations=every(graph.aggregations, 0),
        inputs=(graph.inputs[: graph.n_inputs] + base).reshape(-1).astype(np.int32),
        outputs=(graph.outputs + base).reshape(-1).astype(np.int32),
        constants=np.append(graph.constants, 0.0),
        names=_named(graph) if steps > 1 else graph.names,
        labels=_labelled(graph, steps) if steps > 1 else graph.labels,
        states=np.zeros(0, np.int32),
    )
    return made.with_(levels=levels_of(made)[0])


def _named(graph: Graph) -> dict[int, str]:
    """A name for every slot: its own, or one that no other has."""
    used = set(graph.names.values())
    mark = "w"
    while any(f"{mark}{slot:x}" in used for slot in range(graph.n_params)):
        mark += "_"
    return {slot: graph.names.get(slot, f"{mark}{slot:x}") for slot in range(graph.n_params)}


def _labelled(graph: Graph, steps: int) -> tuple[Label, ...]:
    """The labels of each step, its number behind their names."""
    used = {label.name for label in graph.labels}
    mark = "."
    while any(f"{name}{mark}{t}" in used for name in used for t in range(steps)):
        mark += "."
    return tuple([label._replace(first=label.first + t * graph.n_own,
                                 name=f"{label.name}{mark}{t}")
                  for t in range(steps) for label in graph.labels])
