"""A net as a directed graph whose nodes and edges have attributes: what GraphML, node-link JSON and
networkx are made of.

Nodes are the net's own neurons in their order, by their labels, or `n0a`; the edges of a neuron
stand in the order of its in-list. Attributes, each only where there is something to say:

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
          delayed      True of an edge that reads the value of the last call
          position     1, 2, ...: its place in the in-list, where that is not in the order of the
                       nodes: networkx.read_graphml sorts edges by their sources
    graph numerics     strict, fused or fast, which the net asks for
          dtype        f32 or f64, which the net asks for
          labels       lines as in a net file, `label 10 conv1 8x26x26`, of names that are no nodes'
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from ncc.errors import NccError
from ncc.formats.write import in_lists, names_of, sayable
from ncc.ir import labels
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph
from ncc.ir.labels import Label
from ncc.scalar.activations import name_of

# The attributes of each, in the order in which they are written, and their types.
OF_GRAPHS: dict[str, type] = {"numerics": str, "dtype": str, "labels": str}
OF_NODES: dict[str, type] = {"input": bool, "output": int, "activation": str, "aggregation": str,
                             "bias": float, "bias_tie": str, "bias_const": bool}
OF_EDGES: dict[str, type] = {"weight": float, "tie": str, "const": bool,
                            "delayed": bool, "position": int}


def ids(graph: Graph) -> tuple[list[str], tuple[Label, ...]]:
    """The name of the node of each own neuron, and the labels that are none: arrays, second names;
    all of them where names of nodes would not tell which labels there are."""
    plain = [f"n{name}" for name in names_of(graph)[: graph.n_own]]
    single: dict[int, Label] = {}
    for label in graph.labels:
        if not label.shape:
            single.setdefault(label.first, label)
    rest = tuple(label for label in graph.labels if single.get(label.first) != label)
    names = [single[j].name if j in single else name for j, name in enumerate(plain)]
    told = (*[single[j] for j in sorted(single) if names[j] != plain[j]], *rest)
    return (names, rest) if told == graph.labels and len(set(names)) == len(names) else (
        plain, graph.labels)


def whole(graph: Graph) -> dict[str, str]:
    """The attributes of the graph itself."""
    digits = max(2, len(f"{graph.n_own - 1:x}"))
    found = {"numerics": graph.numerics, "dtype": graph.dtype,
             "labels": "\n".join(labels.lines(ids(graph)[1], digits))}
    return {name: value for name, value in found.items() if value}


def nodes(graph: Graph, ending: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each node with its attributes. NccError E401 for what only passes make: two edges between the
    same neurons (one of them late, too), parameters that are shared without a name."""
    sayable(graph, ending)
    outputs = {j: k for k, j in enumerate(graph.outputs.tolist(), 1)}
    activations, aggregations = graph.activations.tolist(), graph.aggregations.tolist()
    biases = graph.biases.tolist()
    for j, name in enumerate(ids(graph)[0]):
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
        yield name, found


def edges(graph: Graph) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each edge, (source, target, attributes). NccError E401 where a neuron reads another one and
    its last value."""
    names = ids(graph)[0]
    states = graph.states.tolist()
    for j, sources, weights in in_lists(graph):
        read = [states[i - len(names)] if i >= len(names) else i for i in sources]
        ascends = all(a < b for a, b in pairwise(read))
        met: set[int] = set()
        for k, (i, code) in enumerate(zip(read, weights, strict=True)):
            held = _parameter(graph, code, "weight", "tie", "const")
            if sources[k] >= len(names):
                held["delayed"] = True
            if not ascends:
                held["position"] = k + 1
            if i in met:
                raise NccError("E401", f"a graph cannot express: two edges from {names[i]} to "
                               f"{names[j]}, one of which reads its last value",
                               help="a neuron that copies the value, and is read late in its place")
            met.add(i)
            yield names[i], names[j], held


def _parameter(graph: Graph, code: int, value: str, tie: str, const: str) -> dict[str, Any]:
    if code < 0:
        return {value: float(graph.constants[-1 - code]), const: True}
    number = float(graph.values[code])
    found: dict[str, Any] = {} if number != number else {value: number}
    if code in graph.names:
        found[tie] = graph.names[code]
    return found
