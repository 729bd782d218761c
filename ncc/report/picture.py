"""What a picture of a net shows: nodes, each a neuron or a box of neurons, and edges between them.

A net of few neurons is drawn neuron by neuron. Of a larger one, neurons stand together in boxes:
arrays that have a label, and layers of equal neurons; where that are still too many, all of a
depth, then of several depths. So a picture of any net is small, and takes O(neurons + edges) array
code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, NONE, Graph, Longs, Reals
from ncc.ir.labels import Label, Names, digits, titled
from ncc.scalar.activations import name_of
from ncc.scalar.aggregations import edges_a_term

NODES, EDGES = 200, 4000  # of a net that is drawn neuron by neuron
BOXES, JOINTS = 60, 300  # of others: boxes, and edges between them
BANDS = 12  # of depths, where there are still more
ARRAYS = 1000  # labels; a net with more of them is drawn without
TERMS = 6  # of a formula that are spelt out
CLIP = 60  # characters of a name in a tooltip

Mask = NDArray[np.bool_]


class Node(NamedTuple):
    """A neuron, or a box of `size` of them.

    name    of the neuron, or of the box with its shape
    words   what it computes: activations and aggregations
    tip     all that is known of it, in lines
    neuron  its index in hex; empty for a box
    input   its places among the inputs: `x[0]`
    output  its places among the outputs: `y[0]`
    grey    whether no code is made of it
    """

    name: str
    words: str
    tip: str
    neuron: str
    size: int
    input: str
    output: str
    grey: bool


class Edges(NamedTuple):
    """Arrays (E) of edges between nodes: how many edges of the net each stands for, its weight (NaN
    where it has no value, or stands for several), whether it reads the last call, whether no code
    is made of it, what its tooltip says of its weights."""

    sources: Longs
    targets: Longs
    counts: Longs
    weights: Reals
    late: Mask
    grey: Mask
    tips: list[str]


class Picture(NamedTuple):
    """Nodes with the column of each, and the edges between them."""

    nodes: list[Node]
    columns: Longs
    edges: Edges


def picture(graph: Graph, unseen: Mask, first: Longs) -> Picture:
    """The picture of a graph with levels. `unseen` (N) are the neurons that no output sees, `first`
    (N) the one that is computed in place of each: itself, or one that is equal."""
    node = nodes_of(graph)
    target = csr.owners(graph.starts)
    source = graph.sources.astype(np.int64)
    held = graph.inputs[graph.n_inputs :]
    late = np.isin(source, held)
    of = np.arange(graph.n_neurons)
    of[held] = graph.states
    ends = node[of[source]], node[target]
    grey = unseen | (first != np.arange(graph.n_neurons))
    count = int(node.max(initial=-1)) + 1
    shown = node >= 0
    single = count == int(shown.sum())
    table = np.concatenate([graph.values, graph.constants[::-1]])  # by parameter codes
    weights = table[graph.weights] if len(source) else np.zeros(0)
    if single:
        edges = Edges(*ends, np.ones(len(source), np.int64), weights, late, grey[target],
                      [_number(w) for w in weights.tolist()] if len(source) <= EDGES else [])
    else:
        edges = _joined(ends, late, weights, count)
    inner = np.bincount(ends[1][(ends[0] == ends[1]) & ~late], minlength=count)
    nodes = list(_described(graph, node, count, inner, unseen, first, table))
    return Picture(nodes, _columns(graph, node, edges, count), edges)


# ---- which neurons stand together


def nodes_of(graph: Graph) -> Longs:
    """The node that each neuron is drawn in (N), -1 where in none: ABSENT and state neurons."""
    assert graph.levels is not None
    shown = graph.activations != ABSENT
    shown[graph.inputs[graph.n_inputs :]] = False
    number = np.cumsum(shown) - 1
    if shown.sum() <= NODES and graph.n_edges <= EDGES:
        return np.where(shown, number, -1)
    level = graph.levels.astype(np.int64)
    output = np.zeros(graph.n_neurons, np.int64)
    output[graph.outputs] = 1
    _, function = np.unique(graph.activations, return_inverse=True)
    kind = (function * len(AGGREGATIONS) + graph.aggregations) * 2 + output
    whole = _arrays(graph)
    depth = level * 2 + (graph.activations != INPUT)
    deepest = int(level.max(initial=0)) + 1
    fine = depth * (int(kind.max(initial=0)) + 1) + kind
    pieces = np.where(whole >= 0, whole * deepest + level, -1)  # an array, depth by depth
    for array, other in [(whole, fine), (whole, depth), (pieces, fine), (pieces, depth),
                         (None, fine), (None, depth)]:
        made = _ranked(other if array is None else
                       np.where(array >= 0, array, other + array.max() + 1), shown)
        if _drawable(graph, made):
            return made
    band = level * BANDS // deepest
    return _ranked(np.where(graph.activations == INPUT, -1, band), shown)


def _arrays(graph: Graph) -> Longs:
    """The labelled array of each neuron (N), -1 where it stands in none; of several that overlap,
    the smallest."""
    made = np.full(graph.n_neurons, -1, np.int64)
    arrays = [(label.size, k, label) for k, label in enumerate(graph.labels) if label.size > 1]
    if len(arrays) <= ARRAYS:
        for size, k, label in sorted(arrays):
            of = made[label.first : label.first + size]
            if of.max() < 0:
                of[:] = k
    return made


def _ranked(keys: Longs, shown: Mask) -> Longs:
    """Nodes by equal keys, numbered by their first neurons; -1 where nothing is shown."""
    _, begin, node = np.unique(keys[shown], return_index=True, return_inverse=True)
    rank = np.empty(len(begin), np.int64)
    rank[np.argsort(begin)] = np.arange(len(begin))
    made = np.full(len(keys), -1, np.int64)
    made[shown] = rank[node]
    return made


def _drawable(graph: Graph, node: Longs) -> bool:
    """Whether that are few enough nodes and edges, and no cycle."""
    count = int(node.max(initial=-1)) + 1
    if count > BOXES:
        return False
    pairs = _pairs(node[graph.sources], node[csr.owners(graph.starts)], count)
    return len(pairs) <= JOINTS and _depths(pairs // count, pairs % count, count) is not None


def _pairs(sources: Longs, targets: Longs, count: int) -> Longs:
    """The pairs source * count + target of different nodes that an edge goes between, ascending;
    sources of -1, what stands in no node, are left out."""
    kept = (sources != targets) & (sources >= 0)
    return np.flatnonzero(np.bincount(sources[kept] * count + targets[kept]))


def _depths(sources: Longs, targets: Longs, count: int) -> Longs | None:
    """The longest path to each of so many nodes; None where there is a cycle."""
    depth = np.zeros(count, np.int64)
    for _ in range(count + 1):
        deeper = depth.copy()
        np.maximum.at(deeper, targets, depth[sources] + 1)
        if np.array_equal(deeper, depth):
            return depth
        depth = deeper
    return None


def _columns(graph: Graph, node: Longs, edges: Edges, count: int) -> Longs:
    """The column of each node: its depth; outputs that nobody reads stand in the last one, what
    reads nothing and is no input right before its readers."""
    real = (edges.sources != edges.targets) & ~edges.late
    sources, targets = edges.sources[real], edges.targets[real]
    depth = _depths(sources, targets, count)
    assert depth is not None
    last = int(depth.max(initial=0))
    nearest = np.full(count, last, np.int64)
    np.minimum.at(nearest, sources, depth[targets] - 1)
    given, output, reads = (np.zeros(count, np.bool_) for _ in range(3))
    given[node[graph.inputs[: graph.n_inputs]]] = True
    output[node[graph.outputs][node[graph.outputs] >= 0]] = True
    reads[targets] = True
    reader = np.zeros(count, np.bool_)
    reader[sources] = True
    depth[output & ~reader & ~given] = last
    late = ~reads & ~given & reader
    depth[late] = nearest[late]
    _, made = np.unique(depth, return_inverse=True)  # no column is empty
    return made.astype(np.int64)


def _joined(ends: tuple[Longs, Longs], late: Mask, weights: Reals, count: int) -> Edges:
    """The edges between nodes, one for all of a pair."""
    code = (ends[0] * count + ends[1]) * 2 + late
    code = code[(ends[0] != ends[1]) | late]
    weights = weights[(ends[0] != ends[1]) | late]
    counts = np.bincount(code)
    found = np.flatnonzero(counts)
    least, most = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
    np.minimum.at(least, code, weights)  # NaN stays
    np.maximum.at(most, code, weights)
    tips = [f"{n:,} edges, weights {_number(low)} .. {_number(high)}" if low == low
            else f"{n:,} edges" for n, low, high in
            zip(counts[found].tolist(), least[found].tolist(), most[found].tolist(), strict=True)]
    return Edges(found // 2 // count, found // 2 % count, counts[found],
                 np.full(len(found), np.nan), found % 2 == 1, np.zeros(len(found), np.bool_), tips)


# ---- what is said of them


def _number(value: float) -> str:
    return "no value" if value != value else f"{value:.5g}"


def clipped(text: str, most: int = CLIP) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "\u2026"


class _Hexed:
    """The indices of neurons as `names_of` spells them, of those that are asked for."""

    def __init__(self, graph: Graph) -> None:
        self._digits = digits(graph.n_own)
        held = graph.inputs[graph.n_inputs :].tolist()
        self._late = dict(zip(held, graph.states.tolist(), strict=True))

    def of(self, neuron: int) -> str:
        late = self._late.get(neuron)
        return f"{neuron:0{self._digits}x}" if late is None else f"~{late:0{self._digits}x}"


def _described(graph: Graph, node: Longs, count: int, inner: Longs, unseen: Mask, first: Longs,
               table: Reals) -> Iterator[Node]:
    """The nodes, in order; `inner` (count) edges stand inside of each, `table` has the values of
    parameter codes."""
    shown = np.flatnonzero(node >= 0)
    starts, by = csr.grouped(node[shown], count)
    members = shown[by]
    place = np.full(graph.n_neurons, -1, np.int64)
    place[graph.inputs[: graph.n_inputs]] = np.arange(graph.n_inputs)
    outputs = csr.grouped(graph.outputs, graph.n_neurons)
    names, called = _Hexed(graph), Names(graph.labels)
    arrays = {(label.first, label.size): label for label in reversed(graph.labels)}
    for k in range(count):
        mine = members[starts[k] : starts[k + 1]]
        given = place[mine][place[mine] >= 0].tolist()
        seen = outputs[1][csr.ranges(outputs[0][mine], np.diff(outputs[0])[mine])]
        dead, equal = unseen[mine], first[mine] != mine
        words = _words(graph, mine)
        index = names.of(int(mine[0])) if len(mine) == 1 else ""
        if index:
            name = called.of(int(mine[0])) or "n" + index
            tip = [f"n{index}" + ("" if name == "n" + index else " " + clipped(name)),
                   _formula(graph, int(mine[0]), names, table)]
            tip += ["no output sees it"] if dead[0] else []
            tip += [f"equal to n{names.of(int(first[mine[0]]))}, computed once"] if equal[0] else []
        else:
            name = _box(graph, mine, arrays)
            tip = [clipped(name), f"{len(mine):,} neurons, {words}"]
            tip += [f"{inner[k]:,} edges inside"] if inner[k] else []
            tip += [f"no output sees {dead.sum():,} of them"] if dead.any() else []
            tip += [f"{equal.sum():,} equal to others, computed once"] if equal.any() else []
        yield Node(name, "" if words == "input" else words, "\n".join(line for line in tip if line),
                   index, len(mine), _places("x", given), _places("y", sorted(seen.tolist())),
                   bool((dead | equal).all()))


def _words(graph: Graph, mine: Longs) -> str:
    """The functions of neurons, the most frequent first: relu; relu 20, tanh max 4; +2 more."""
    pairs = graph.activations[mine].astype(np.int64) * len(AGGREGATIONS) + graph.aggregations[mine]
    found, counts = np.unique(pairs, return_counts=True)
    by = np.argsort(-counts, kind="stable")
    words = []
    for k in by[:3].tolist():
        function, aggregation = divmod(int(found[k]), len(AGGREGATIONS))
        word = "input" if function == INPUT else name_of(function)
        word += f" {AGGREGATIONS[aggregation]}" if aggregation else ""
        words.append(word if len(found) == 1 else f"{word} {counts[k]}")
    return ", ".join(words) + (f", +{len(by) - 3} more" if len(by) > 3 else "")


def _box(graph: Graph, mine: Longs, arrays: dict[tuple[int, int], Label]) -> str:
    """The name of a box: its label and shape, or those that it is a part of, or how many it has."""
    whole = arrays.get((int(mine[0]), len(mine)))
    if whole is not None and mine[-1] - mine[0] == len(mine) - 1:
        return titled(whole)
    around = [label for label in graph.labels if label.size > 1 and label.first <= mine[0]
              and mine[-1] < label.first + label.size]
    if around and len(graph.labels) <= ARRAYS:
        least = min(around, key=lambda label: label.size)
        return f"{least.name}: {len(mine)} of {titled(least)[len(least.name) + 1 :]}"
    return f"{len(mine):,} inputs" if graph.activations[mine[0]] == INPUT \
        else f"{len(mine):,} neurons"


def _places(letter: str, places: list[int]) -> str:
    """x[0]; x[0..63]; x[0,2,...]."""
    if len(places) > 2 and places[-1] - places[0] == len(places) - 1:
        return f"{letter}[{places[0]}..{places[-1]}]"
    more = ",..." if len(places) > 3 else ""
    return f"{letter}[{','.join(map(str, places[:3]))}{more}]" if places else ""


def _formula(graph: Graph, j: int, names: _Hexed, table: Reals) -> str:
    """tanh(-3.01*n00 + 3.01*n01 - 1.7), with the first terms of a long one; `w` has no value."""
    code = int(graph.activations[j])
    if code == INPUT:
        return ""
    edges = slice(graph.starts[j], graph.starts[j + 1])
    weights = table[graph.weights[edges]].tolist() if len(table) else []
    aggregation = AGGREGATIONS[graph.aggregations[j]]
    size = edges_a_term(aggregation)
    weights, sources = weights[::size], graph.sources[edges][: TERMS * size].reshape(-1, size)
    terms = ["*n".join([_factor(w), *[names.of(i) for i in of_term]])
             for of_term, w in zip(sources.tolist(), weights, strict=False)]
    if len(weights) > TERMS:
        terms.append(f"... {len(weights) - TERMS} more")
    if graph.biases[j] != NONE:
        terms.append(_factor(float(table[graph.biases[j]]), "b"))
    joint = " + " if aggregation in ("sum", "sumbias", "dot") else ", "
    inside = joint.join(terms).replace("+ -", "- ")
    if joint == ", ":
        inside = f"{aggregation}({inside})"
    text = graph.functions.get(code)
    more = "" if text is None else f", the function {clipped(text)}"
    return f"{name_of(code)}({inside}){more}"


def _factor(value: float, symbol: str = "w") -> str:
    return symbol if value != value else f"{value:.5g}"
