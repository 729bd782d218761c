"""A net as a directed graph whose nodes and edges have attributes: what GraphML, node-link JSON and
networkx are made of.

Nodes are in the order of the neurons, the edges of a neuron in the order of its in-list. A node is
called as its neuron is labelled, else `n0a`. Attributes, each only where there is something to say:

    graph numerics     strict, fused or fast, where the net asks for one
          dtype        f32 or f64, likewise
    node  input        True of an input
          state        the node whose value of the call before (0 in the first) this one has
          array        the name of an array of neurons that begins here, in their order
          array_shape  its shape, 3x8x8
          output       1, 2, ...: its place among the outputs
          activation   a name, or the expression of an own function
          aggregation  where it is not the sum
          bias         a number, NaN of one without a value
          bias_tie     the name under which the bias is shared
          bias_const   True of a bias that is no parameter
    edge  weight       a number, left out where it has no value
          tie          the name under which the weight is shared
          const        True of a weight that is no parameter
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ncc.errors import NccError
from ncc.formats.write import in_lists, names_of, refuse_pairs, sayable
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph, Reals
from ncc.scalar.activations import name_of

# The attributes of graphs, nodes and edges, in the order in which they are written; their types.
OF_GRAPHS: dict[str, type] = {"numerics": str, "dtype": str}
OF_NODES: dict[str, type] = {"input": bool, "state": str, "output": int, "activation": str,
                             "aggregation": str, "bias": float, "bias_tie": str,
                             "bias_const": bool, "array": str, "array_shape": str}
OF_EDGES: dict[str, type] = {"weight": float, "tie": str, "const": bool}


def ids(graph: Graph) -> list[str]:
    """What the nodes are called, no two alike."""
    names = [f"n{name}" for name in names_of(graph)]
    taken = set(names)
    for label in graph.labels:
        if not label.shape and label.name not in taken:
            names[label.first] = label.name
            taken.add(label.name)
    return names


def directives(graph: Graph) -> dict[str, Any]:
    """The attributes of the whole."""
    return {name: said for name in OF_GRAPHS if (said := getattr(graph, name)) is not None}


def nodes(graph: Graph, ending: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each node with its attributes. NccError E401 for pairs of sources, and for what only passes
    make: two edges between the same neurons, parameters that are shared without a name."""
    refuse_pairs(graph, ending)
    sayable(graph, ending)
    outputs = {j: k for k, j in enumerate(graph.outputs.tolist(), 1)}
    activations, aggregations = graph.activations.tolist(), graph.aggregations.tolist()
    biases, names = graph.biases.tolist(), ids(graph)
    arrays = {label.first: label for label in graph.labels if label.shape}
    states = dict(zip(graph.inputs[graph.n_inputs :].tolist(), graph.states.tolist(), strict=True))
    for j, name in enumerate(names):
        found: dict[str, Any] = {}
        if j in states:
            found["state"] = names[states[j]]
        elif activations[j] == INPUT:
            found["input"] = True
        if j in outputs:
            found["output"] = outputs[j]
        if activations[j] >= 0:
            found["activation"] = graph.functions.get(activations[j]) or name_of(activations[j])
        if aggregations[j]:
            found["aggregation"] = AGGREGATIONS[aggregations[j]]
        if biases[j] != NONE:
            found |= _parameter(graph, biases[j], "bias", "bias_tie", "bias_const")
            found.setdefault("bias", float("nan"))
        if j in arrays:
            found |= {"array": arrays[j].name, "array_shape": "x".join(map(str, arrays[j].shape))}
        yield name, found


def edges(graph: Graph) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each edge, (source, target, attributes)."""
    names = ids(graph)
    for j, sources, weights in in_lists(graph):
        for i, code in zip(sources, weights, strict=True):
            yield names[i], names[j], _parameter(graph, code, "weight", "tie", "const")


def parameters(graph: Graph) -> Reals:
    """What parameter codes are an index of, float64 (P + C): values, and constants from the end.
    NccError E607 where a parameter has no value."""
    missing = int(np.isnan(graph.values).sum())
    if missing:
        raise NccError("E607", f"{missing} of {graph.n_params} parameters have no value",
                       help="--weights FILE or --init RULE")
    return np.concatenate([graph.values, graph.constants[::-1]])


def _parameter(graph: Graph, code: int, value: str, tie: str, const: str) -> dict[str, Any]:
    if code < 0:
        return {value: float(graph.constants[-1 - code]), const: True}
    number = float(graph.values[code])
    found: dict[str, Any] = {} if number != number else {value: number}
    if code in graph.names:
        found[tie] = graph.names[code]
    return found
