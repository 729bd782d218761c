"""merge: graph -> graph. Neurons that must be equal are made once (value numbering).

    02 tanh sum 00*p0 01*p1             02 tanh sum 00*p0 01*p1
    03 tanh sum 00*p0 01*p1      =>     03 absent
    04 relu sum 02*p2 03*p3             04 relu sum 02*p2 02*p3

Equal are neurons of one level with the same function, aggregation, bias and in-list, in order:
sources that are equal themselves, and the same parameter slot or constants of the same bits (0.0 is
not -0.0). Equal *values* of two slots are not enough, for parameters change. The first by index
stays. Sums keep every term and their order, so results keep their bits; an in-list may then name
a source twice. Inputs never merge; slots and the canonical order stay.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.activations import ACTIVATIONS
from ncc.graph import ABSENT, NONE, Graph, Ints, Longs

Words = NDArray[np.uint64]


def merge(graph: Graph) -> Graph:
    """The same function of the inputs and parameters, equal neurons made once. O(W + N)."""
    if graph.levels is None:
        raise ValueError("merge wants a graph with levels")
    keys = _keys(graph)
    first = np.arange(graph.n_neurons, dtype=np.int32)  # the neuron that stands for each
    rows = np.flatnonzero(graph.activations >= 0)
    rows = rows[np.argsort(graph.levels[rows], kind="stable")]
    cuts = np.flatnonzero(np.diff(graph.levels[rows])) + 1
    for level in np.split(rows, cuts):
        if len(level) > 1:
            _number(graph, keys, level, first)
    gone = first != np.arange(graph.n_neurons)
    if not gone.any():
        return graph
    lengths = np.diff(graph.starts)
    kept = np.repeat(~gone, lengths)
    return graph.with_(
        starts=np.concatenate([[0], np.cumsum(np.where(gone, 0, lengths))]).astype(np.int64),
        sources=first[graph.sources[kept]],
        weights=graph.weights[kept],
        biases=np.where(gone, NONE, graph.biases).astype(np.int32),
        activations=np.where(gone, ABSENT, graph.activations).astype(np.int32),
        aggregations=np.where(gone, 0, graph.aggregations).astype(np.int8),
        outputs=first[graph.outputs],
    )


class _Keys(NamedTuple):
    """What two equal neurons share, besides their sources: `weights` (E), `neurons` (4, N)."""

    weights: Ints
    neurons: Ints


def _keys(graph: Graph) -> _Keys:
    """Codes that are equal where what they stand for is: constants by bits, functions by text."""
    _, index, which = np.unique(graph.constants.view(np.int64), return_index=True,
                                return_inverse=True)
    # An array for -1-c, -2-c, ...: entry c is the code of the first constant with those bits.
    same = (-1 - index[which]).astype(np.int32)

    def canonical(codes: Ints) -> Ints:
        constant = (codes < 0) & (codes != NONE)
        result = codes.copy()
        result[constant] = same[-1 - codes[constant]]
        return result

    texts = {a.code: a.formula for a in ACTIVATIONS} | graph.functions
    by_text: dict[str, int] = {}
    renamed = {code: by_text.setdefault(text, code) for code, text in texts.items()}
    functions = graph.activations.copy()
    for code, target in renamed.items():
        if code != target:
            functions[graph.activations == code] = target
    neurons = np.stack([functions, graph.aggregations, canonical(graph.biases),
                        np.diff(graph.starts)]).astype(np.int32)
    return _Keys(canonical(graph.weights), neurons)


def _number(graph: Graph, keys: _Keys, rows: Longs, first: Ints) -> None:
    """Set `first` of each of `rows`, one level, whose sources have theirs already."""
    lengths = keys.neurons[3, rows].astype(np.int64)
    edges = _spread(graph.starts[rows], lengths)
    sources = first[graph.sources[edges]]
    hashes = _hashes(keys, rows, lengths, sources, keys.weights[edges])
    by = np.argsort(hashes, kind="stable")
    new = np.concatenate([[True], hashes[by][1:] != hashes[by][:-1]])
    # Every row that shares its hash with an earlier one is compared with the first of them, and
    # where that was mere chance, once more among the rest.
    begins = np.cumsum(lengths) - lengths
    while not new.all():
        heads = by[np.maximum.accumulate(np.where(new, np.arange(len(by)), 0))]
        later, heads = by[~new], heads[~new]
        equal = (keys.neurons[:, rows[later]] == keys.neurons[:, rows[heads]]).all(axis=0)
        later, heads, others = later[equal], heads[equal], later[~equal]
        sizes = lengths[later]
        mine, theirs = _spread(begins[later], sizes), _spread(begins[heads], sizes)
        differ = (sources[mine] != sources[theirs]) | (
            keys.weights[edges[mine]] != keys.weights[edges[theirs]])
        unequal = np.zeros(len(later), np.bool_)
        unequal[np.repeat(np.arange(len(later)), sizes)[differ]] = True
        first[rows[later[~unequal]]] = rows[heads[~unequal]]
        by = np.sort(np.concatenate([others, later[unequal]]))
        by = by[np.argsort(hashes[by], kind="stable")]
        new = np.ones(len(by), np.bool_)
        new[1:] = hashes[by][1:] != hashes[by][:-1]


def _spread(starts: Longs, lengths: Longs) -> Longs:
    """starts[0], starts[0]+1, ... (lengths[0] of them), starts[1], ..."""
    ends = np.cumsum(lengths)
    edges: Longs = np.arange(ends[-1] if len(ends) else 0, dtype=np.int64)
    edges += np.repeat(starts - ends + lengths, lengths)
    return edges


def _hashes(keys: _Keys, rows: Longs, lengths: Longs, sources: Ints, weights: Ints) -> Words:
    """A word for each row, of its key and its in-list with every edge's place in it."""
    place = _spread(np.zeros(len(rows), np.int64), lengths).view(np.uint64)
    edge = _mixed(sources.astype(np.uint64) << np.uint64(32) | weights.view(np.uint32))
    edge = _mixed(edge + place * np.uint64(0x9E3779B97F4A7C15))
    total = np.concatenate([[np.uint64(0)], np.cumsum(edge, dtype=np.uint64)])
    ends = np.cumsum(lengths)
    result: Words = total[ends] - total[ends - lengths]
    for key in keys.neurons:
        result = _mixed(result ^ key[rows].view(np.uint32).astype(np.uint64))
    return result


def _mixed(words: Words) -> Words:
    """splitmix64's finaliser (Steele, Lea & Flood 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
