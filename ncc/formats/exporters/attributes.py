"""A net as a directed graph whose nodes and edges have attributes: what GraphML, node-link JSON and
networkx are made of.

Nodes are `n0a`, in the order of the neurons; the edges of a neuron stand in the order of its
in-list. Attributes, each only where there is something to say:

    node  input        True of an input
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

from ncc.formats.write import in_lists, names_of, sayable
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph
from ncc.scalar.activations import name_of

# The attributes of nodes and of edges, in the order in which they are written, and their types.
OF_NODES: dict[str, type] = {"input": bool, "output": int, "activation": str, "aggregation": str,
                             "bias": float, "bias_tie": str, "bias_const": bool}
OF_EDGES: dict[str, type] = {"weight": float, "tie": str, "const": bool}


def nodes(graph: Graph, ending: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each node with its attributes. NccError E401 for what only passes make: two edges between the
    same neurons, parameters that are shared without a name."""
    sayable(graph, ending)
    outputs = {j: k for k, j in enumerate(graph.outputs.tolist(), 1)}
    activations, aggregations = graph.activations.tolist(), graph.aggregations.tolist()
    biases = graph.biases.tolist()
    for j, name in enumerate(names_of(graph)):
        found: dict[str, Any] = {}
        if activations[j] == INPUT:
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
        yield f"n{name}", found


def edges(graph: Graph) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each edge, (source, target, attributes)."""
    names = names_of(graph)
    for j, sources, weights in in_lists(graph):
        for i, code in zip(sources, weights, strict=True):
            yield (f"n{names[i]}", f"n{names[j]}",
                   _parameter(graph, code, "weight", "tie", "const"))


def _parameter(graph: Graph, code: int, value: str, tie: str, const: str) -> dict[str, Any]:
    if code < 0:
        return {value: float(graph.constants[-1 - code]), const: True}
    number = float(graph.values[code])
    found: dict[str, Any] = {} if number != number else {value: number}
    if code in graph.names:
        found[tie] = graph.names[code]
    return found
