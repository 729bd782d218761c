"""Names, counts and codes of a net file are checked; the file format is forgotten."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.ir.graph import INPUT, NONE, Graph, Ints
from ncc.ir.graph_types import distinct_constants
from ncc.ir.syntax import Directives, Matrix, Syntax, activation_code, is_hex, unknown
from ncc.ir.syntax_verify import UNSAID, InLists, in_lists, plain, silent


def resolve(syntax: Syntax, *, activation: int | str = 0, outputs: str | None = None) -> Graph:
    """The graph of a net file.

        N 03                             graph 03
        00                               inputs 00 01
        01                               outputs 02
        02 relu 00@k:0.5,01 +=1    =>    values 0.5 -
                                         constants 1.0
                                         name p0 k
                                         00 input
                                         01 input
                                         02 relu sum +c0 00*p0 01*p1

    A neuron whose value of the last call is read (`~02`) has a state neuron, behind the others:

        N 03                             graph 05
        00                               inputs 00 03 04
        01 tanh 00,~01,~02               outputs 02
        02 relu 01,~01:0.5        =>     states 01 02
                                         values - - - - 0.5
                                         constants
                                         00 input
                                         01 tanh sum 00*p0 03*p1 04*p2
                                         02 relu sum 01*p3 03*p4
                                         03 input
                                         04 input

    `activation` (a code or a name) goes to the neurons of matrices and edge lists that say none;
    `outputs` (hex, commas) replaces the file's. Faults are NccErrors: those of `verify` in
    ncc/ir/syntax_verify.py, and of the options E118, E129, E130.
    """
    net = in_lists(syntax, outputs=outputs is None)
    default = _default(activation, net.functions)
    weights, biases, values, constants, names = _slots(net)
    inputs = np.flatnonzero(net.activations == INPUT).astype(np.int32)
    said = Directives() if isinstance(syntax, Matrix) else syntax.directives
    graph = Graph(
        starts=net.starts,
        sources=net.sources,
        weights=weights,
        biases=biases,
        activations=np.where(net.activations == UNSAID, default, net.activations),
        aggregations=np.maximum(net.aggregations, 0).astype(np.int8),
        inputs=inputs,
        outputs=_outputs(syntax, net, outputs),
        values=values,
        constants=constants,
        names=names,
        functions=net.functions,
        shows_inputs=isinstance(syntax, Matrix),
        labels=said.labels,
        numerics=said.numerics,
        dtype=said.dtype,
    )
    return with_states(graph, net.delayed) if net.late else graph


def with_states(graph: Graph, delayed: NDArray[np.bool_]) -> Graph:
    """`graph`, whose sources are its own neurons, with a state neuron behind them for each that
    `delayed` edges (E) read: ascending by that neuron."""
    states, rank = np.unique(graph.sources[delayed], return_inverse=True)
    count, new = graph.n_neurons, len(states)
    sources = graph.sources.copy()
    sources[delayed] = count + rank
    return graph.with_(
        starts=np.append(graph.starts, np.full(new, graph.starts[-1])),
        sources=sources,
        biases=np.append(graph.biases, np.full(new, NONE, np.int32)),
        activations=np.append(graph.activations, np.full(new, INPUT, np.int32)),
        aggregations=np.append(graph.aggregations, np.zeros(new, np.int8)),
        inputs=np.append(graph.inputs, np.arange(count, count + new, dtype=np.int32)),
        states=states.astype(np.int32),
    )


def unused_inputs(graph: Graph) -> Ints:
    """The inputs that no neuron reads and that are no output: worth a warning."""
    used = np.zeros(graph.n_neurons, np.bool_)
    used[graph.sources] = True
    used[graph.results] = True
    return graph.inputs[~used[graph.inputs]]


def _default(activation: int | str, functions: dict[int, str]) -> int:
    word = activation if isinstance(activation, str) else f"{activation:x}"
    code = activation_code(word, functions)
    if code == NONE:
        raise unknown(word, functions, None, None)
    return code


# Parameters ---------------------------------------------------------------------------------------


def _slots(net: InLists) -> tuple[Ints, Ints, NDArray[np.float64], NDArray[np.float64],
                               dict[int, str]]:
    """Parameter codes of edges and neurons, the values, the constants, and the names of slots."""
    edges = len(net.sources)
    biases = np.full(net.n_neurons, NONE, np.int32)
    if silent(net.weights) and not len(net.biased):
        return (np.arange(edges, dtype=np.int32), biases, np.full(edges, np.nan), np.zeros(0), {})
    # All parameters in canonical order: a neuron's bias after its in-list.
    total = edges + len(net.biased)
    at_bias = net.starts[net.biased + 1] + np.arange(len(net.biased))
    is_edge = np.ones(total, np.bool_)
    is_edge[at_bias] = False
    if all(plain(given) for given in (net.weights, net.biases)):
        # A slot each, which is their place: without the detour, whose arrays take twice the memory.
        biases[net.biased] = at_bias
        values = np.empty(total, np.float64)
        values[at_bias] = net.biases.values
        values[is_edge] = net.weights.values
        before = np.zeros(net.n_neurons, np.int32)
        before[net.biased] = 1
        weights = np.arange(edges, dtype=np.int32)
        weights += np.repeat(np.cumsum(before, dtype=np.int32) - before, np.diff(net.starts))
        return weights, biases, values, np.zeros(0), {}
    ties = np.empty(total, np.int32)
    values = np.empty(total, np.float64)
    constant = np.empty(total, np.bool_)
    for where, given in ((is_edge, net.weights), (~is_edge, net.biases)):
        ties[where], values[where], constant[where] = given.ties, given.values, given.constant
    tied = np.flatnonzero(ties >= 0)
    # A tie's slot stands where its name comes first; `leader` is that place.
    leader = np.full(len(net.ties), total, np.int64)
    np.minimum.at(leader, ties[tied], tied)
    leads = ~constant
    leads[tied] = tied == leader[ties[tied]]
    slots = np.cumsum(leads) - 1
    codes = slots.astype(np.int32)
    codes[tied] = slots[leader[ties[tied]]]
    slot_values = values[leads]
    valued = tied[~np.isnan(values[tied])]
    slot_values[codes[valued]] = values[valued]
    constants, codes[constant] = distinct_constants(values[constant])
    biases[net.biased] = codes[~is_edge]
    names = {int(slots[leader[t]]): net.ties[t] for t in np.argsort(leader).tolist()}
    return codes[is_edge], biases, slot_values, constants, names


# Outputs ------------------------------------------------------------------------------------------


def _outputs(syntax: Syntax, net: InLists, option: str | None) -> Ints:
    """What the option names, else the file, else every computed neuron that no other reads in the
    same call."""
    if option is not None:
        return _option_outputs(option, net.n_neurons)
    out = None if isinstance(syntax, Matrix) else syntax.out
    if out is not None:
        return np.array(out.indices, np.int32)
    ends = net.activations != INPUT
    ends[net.sources[~net.delayed] if net.late else net.sources] = False
    return np.flatnonzero(ends).astype(np.int32)


def _option_outputs(option: str, count: int) -> Ints:
    indices: list[int] = []
    for word in option.split(","):
        word = word.strip(" \t")
        if not is_hex(word):
            raise NccError("E130", f"--outputs: {word[:40]!r} is no hexadecimal index", status=2,
                           help="--outputs 0c,0d")
        index = int(word, 16)
        if index >= count:
            raise NccError("E130", f"--outputs: {word[:40]} is out of range", status=2,
                           note=f"the net has the neurons 0 to {count - 1:x}")
        if index in indices:
            raise NccError("E129", f"--outputs: {word[:40]} is an output twice", status=2)
        indices.append(index)
    return np.array(indices, np.int32)
