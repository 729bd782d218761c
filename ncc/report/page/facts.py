"""What the page has to know of a net: names, edges, which neurons its picture shows where."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, INPUT, Graph, Longs
from ncc.ir.labels import Label, Names, covering, digits
from ncc.report.picture import Picture, nodes_of
from ncc.scalar.activations import name_of

TOLD = 20_000  # neurons; of more, no single one has a name or a word
EDGES = 50_000  # of more, what a neuron reads is not told
PAD = range(16, 4097)  # inputs that may be painted


def facts(graph: Graph, drawn: Picture) -> dict[str, Any]:
    """Of a graph and its picture, as the page's script reads them: `count` own neurons, `digits` of
    their indices; `inputs`, `outputs` and `states`, neurons; `nodes` of the picture, each its
    neurons as stretches [first, count], with their `shapes` and `columns`; `names` by neuron;
    `words`, of which `word` says each neuron's; `edges`; `pad`, the width of the inputs as a
    picture, or 0."""
    count, told = graph.n_own, graph.n_own <= TOLD
    called = Names(graph.labels)
    names = {j: name for j in range(count) if (name := called.of(j))} if told else {}
    words, word = _words(graph)
    node = nodes_of(graph)
    starts, members = csr.grouped(node[node >= 0], len(drawn.nodes))
    neurons = np.flatnonzero(node >= 0)[members]
    nodes = [_stretches(neurons[starts[k] : starts[k + 1]]) for k in range(len(drawn.nodes))]
    whole = {(label.first, label.size): label.shape for label in graph.labels}
    return {
        "count": count, "digits": digits(graph.n_own), "states": graph.states.tolist(),
        "inputs": graph.inputs[: graph.n_inputs].tolist(), "outputs": graph.outputs.tolist(),
        "nodes": nodes, "columns": drawn.columns.tolist(),
        "shapes": [whole.get((each[0][0], each[0][1])) if len(each) == 1 else None
                   for each in nodes],
        "names": names, "words": words if told else [], "word": word if told else [],
        "edges": _edges(graph) if graph.n_edges <= EDGES else None, "pad": _pad(graph)}


def _stretches(neurons: Longs) -> list[list[int]]:
    """Ascending neurons as [first, count] of those that follow one another."""
    ends = np.flatnonzero(np.diff(neurons) != 1) + 1
    first = np.append(0, ends)
    sizes = np.diff(np.append(first, len(neurons)))
    return [list(pair) for pair in zip(neurons[first].tolist(), sizes.tolist(), strict=True)]


def _words(graph: Graph) -> tuple[list[str], list[int]]:
    """What neurons compute, in words, and which of them each does."""
    own = slice(graph.n_own)
    pairs = graph.activations[own].astype(np.int64) * len(AGGREGATIONS) + graph.aggregations[own]
    found, which = np.unique(pairs, return_inverse=True)
    words = []
    for function, aggregation in (divmod(pair, len(AGGREGATIONS)) for pair in found.tolist()):
        word = "input" if function == INPUT else name_of(function)
        words.append(f"{word} {AGGREGATIONS[aggregation]}" if aggregation else word)
    return words, which.tolist()


def _edges(graph: Graph) -> dict[str, Any]:
    """How many each neuron has, their sources and their weights (null without a value)."""
    table = np.concatenate([graph.values, graph.constants[::-1]])  # by parameter codes
    weights = table[graph.weights] if graph.n_edges else np.zeros(0)
    return {"counts": np.diff(graph.starts).tolist(), "sources": graph.sources.tolist(),
            "weights": numbers(weights.tolist())}


def numbers(values: list[float]) -> list[float | str | None]:
    """Numbers as JSON has them: null for NaN, "Infinity" and "-Infinity"."""
    return [v if math.isfinite(v) else None if v != v else "Infinity" if v > 0 else "-Infinity"
            for v in values]


def _pad(graph: Graph) -> int:
    """The width of the inputs as a picture: of the array that they are, or of a square."""
    inputs = graph.inputs[: graph.n_inputs]
    if len(inputs) not in PAD:
        return 0
    arrays: list[Label] = [label for _, label in covering(graph.labels, inputs, graph.n_neurons)
                           if label.size == len(inputs) and len(label.shape) > 1]
    if arrays:
        return arrays[0].shape[-1]
    root = math.isqrt(len(inputs))
    return root if root * root == len(inputs) else 0
