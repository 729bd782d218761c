"""Neurons that must be equal are made once (value numbering)."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import NONE, PLAIN_SUM_CODES, Graph, Ints, Longs
from ncc.scalar.activations import ACTIVATIONS

Words = NDArray[np.uint64]

NARROW = 32  # neurons; a narrower level is numbered by a loop, numpy would spend its time on calls


def merge(graph: Graph, *, numerics: str = "fused") -> Graph:
    """The same function of the inputs and parameters, equal neurons made once.

        graph 05                            graph 05
        inputs 00 01                        inputs 00 01
        outputs 04                          outputs 04
        values 0.5 2.0 1.0 1.0              values 0.5 2.0 1.0 1.0
        constants                     =>    constants
        00 @0 input                         00 @0 input
        01 @0 input                         01 @0 input
        02 @1 tanh sum 00*p0 01*p1          02 @1 tanh sum 00*p0 01*p1
        03 @1 tanh sum 00*p0 01*p1          03 @1 absent
        04 @2 relu sum 02*p2 03*p3          04 @2 relu sum 02*p2 02*p3

    Equal are neurons of one depth with the same function, aggregation, bias and in-list, in order:
    sources that are equal themselves, and the same parameter or constants of the same bits (0.0 is
    not -0.0). Equal *values* of two parameters are not enough, for parameters change. The first by
    index stays. Sums keep every term and their order, so results keep their bits; an in-list may
    then name a source twice. Inputs never merge, and so no state neurons; parameters and the
    canonical order stay.

    Under `fast` a sum's terms have no order: in-lists of sums are compared as if sorted, and
    constant edges from one source into one sum are joined, at the place of the first:

        // numerics=fast
        graph 03                                  graph 03
        inputs 00 01                              inputs 00 01
        outputs 02                                outputs 02
        values                                    values
        constants 0.5                       =>    constants 0.5 1.0
        00 @0 input                               00 @0 input
        01 @0 input                               01 @0 input
        02 @1 relu sum 00*c0 01*c0 00*c0          02 @1 relu sum 00*c1 01*c0

    O(W + N), but for sorting in-lists under `fast`.
    """
    if graph.levels is None:
        raise ValueError("merge wants a graph with levels")
    fast = numerics == "fast"
    first = numbered(graph, fast)
    gone = first != np.arange(graph.n_neurons)
    if gone.any():
        graph = graph.without(gone)
        graph = graph.with_(sources=first[graph.sources], outputs=first[graph.outputs],
                            states=first[graph.states])
    return _joined(graph) if fast else graph


def numbered(graph: Graph, fast: bool) -> Ints:
    """The neuron that stands for each of a graph with levels (N)."""
    assert graph.levels is not None
    keys = _keys(graph, fast)
    first = np.arange(graph.n_neurons, dtype=np.int32)
    rows = np.flatnonzero(graph.activations >= 0)
    rows = rows[np.argsort(graph.levels[rows], kind="stable")]
    for begin, end in pairwise(csr.borders(graph.levels[rows]).tolist()):
        if end - begin >= NARROW:
            _number(graph, keys, rows[begin:end], first)
        elif end - begin > 1:
            _number_few(graph, keys, rows[begin:end].tolist(), first)
    return first


def _joined(graph: Graph) -> Graph:
    """Constant edges from one source into one sum as one edge, whose weight is their sum.

    A sum of weights that would overflow f32 stays apart.
    """
    target = csr.owners(graph.starts)
    mine = np.flatnonzero((graph.weights < 0) & _sums(graph)[target])
    pairs = target[mine] << 32 | graph.sources[mine]
    by = np.argsort(pairs, kind="stable")
    new = np.diff(pairs[by], prepend=-1) != 0
    if new.all():
        return graph
    heads = np.flatnonzero(new)
    sums = np.add.reduceat(graph.constants[-1 - graph.weights[mine[by]]], heads)
    several = np.diff(np.append(heads, len(by))) > 1
    several &= np.abs(sums) <= np.finfo(np.float32).max
    sizes = np.diff(np.append(heads, len(by)))
    drop = mine[by[np.repeat(several, sizes) & ~new]]
    constants, which = np.unique(sums[several], return_inverse=True)
    weights = graph.weights.copy()
    weights[mine[by[heads[several]]]] = -1 - len(graph.constants) - which
    kept = np.ones(graph.n_edges, np.bool_)
    kept[drop] = False
    lengths = np.bincount(target[kept], minlength=graph.n_neurons)
    return graph.with_(
        starts=csr.starts(lengths), sources=graph.sources[kept], weights=weights[kept],
        constants=np.concatenate([graph.constants, constants]))


def _sums(graph: Graph) -> NDArray[np.bool_]:
    """Whether each neuron sums (N), wherever its bias is added."""
    made: NDArray[np.bool_] = np.isin(graph.aggregations, PLAIN_SUM_CODES)
    return made


class _Keys(NamedTuple):
    """What two equal neurons share, besides their sources: `weights` (E), `neurons` (4, N).

    `unordered` (N) says whose in-lists are compared as if sorted.
    """

    weights: Ints
    neurons: Ints
    unordered: NDArray[np.bool_]


def _keys(graph: Graph, fast: bool) -> _Keys:
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
    return _Keys(canonical(graph.weights), neurons, fast & _sums(graph))


def _number_few(graph: Graph, keys: _Keys, rows: list[int], first: Ints) -> None:
    """As `_number`, of a level so narrow that a dictionary is faster than arrays."""
    seen: dict[tuple[bytes, ...], int] = {}
    for j in rows:
        edges = slice(graph.starts[j], graph.starts[j + 1])
        sources, weights = first[graph.sources[edges]], keys.weights[edges]
        if keys.unordered[j]:
            by = np.lexsort((weights, sources))
            sources, weights = sources[by], weights[by]
        key = (sources.tobytes(), weights.tobytes(), keys.neurons[:, j].tobytes())
        first[j] = seen.setdefault(key, j)


def _number(graph: Graph, keys: _Keys, rows: Longs, first: Ints) -> None:
    """Set `first` of each of `rows`, one level, whose sources have theirs already."""
    lengths = keys.neurons[3, rows].astype(np.int64)
    hashes = np.empty(len(rows), np.uint64)
    for part in csr.parts(lengths):
        hashes[part] = _hashes(keys, rows[part], lengths[part],
                               *_in_lists(graph, keys, rows[part], first))
    by = np.argsort(hashes, kind="stable")
    new = np.concatenate([[True], hashes[by][1:] != hashes[by][:-1]])
    # Every row that shares its hash with an earlier one is compared with the first of them, and
    # where that was mere chance, once more among the rest.
    while not new.all():
        heads = by[np.maximum.accumulate(np.where(new, np.arange(len(by)), 0))]
        later, heads = by[~new], heads[~new]
        equal = (keys.neurons[:, rows[later]] == keys.neurons[:, rows[heads]]).all(axis=0)
        later, heads, others = later[equal], heads[equal], later[~equal]
        unequal = np.zeros(len(later), np.bool_)
        for part in csr.parts(lengths[later]):
            sources, weights = _in_lists(graph, keys, rows[later[part]], first)
            others_sources, others_weights = _in_lists(graph, keys, rows[heads[part]], first)
            differ = (sources != others_sources) | (weights != others_weights)
            owner = np.repeat(np.arange(part.start, part.stop), lengths[later[part]])
            unequal[owner[differ]] = True
        first[rows[later[~unequal]]] = rows[heads[~unequal]]
        by = np.sort(np.concatenate([others, later[unequal]]))
        by = by[np.argsort(hashes[by], kind="stable")]
        new = np.ones(len(by), np.bool_)
        new[1:] = hashes[by][1:] != hashes[by][:-1]


def _in_lists(graph: Graph, keys: _Keys, rows: Longs, first: Ints) -> tuple[Ints, Ints]:
    """The sources and weights of these rows, one in-list after another, as they are compared."""
    lengths = keys.neurons[3, rows].astype(np.int64)
    edges = csr.ranges(graph.starts[rows], lengths)
    sources, weights = first[graph.sources[edges]], keys.weights[edges]
    if keys.unordered[rows].any():
        return _sorted(sources, weights, lengths, keys.unordered[rows])
    return sources, weights


def _sorted(sources: Ints, weights: Ints, lengths: Longs, unordered: NDArray[np.bool_]
            ) -> tuple[Ints, Ints]:
    """The in-lists of the `unordered` rows sorted by source, then weight."""
    edges = sources.astype(np.int64) << 32 | weights.view(np.uint32)
    size = int(lengths[0])
    if unordered.all() and (lengths == size).all():
        edges = np.sort(edges.reshape(-1, size), axis=1).reshape(-1)
    else:
        row = np.repeat(np.arange(len(lengths)), lengths)
        mine = np.flatnonzero(np.repeat(unordered, lengths))
        edges[mine] = edges[mine[np.lexsort((edges[mine], row[mine]))]]
    return (edges >> 32).astype(np.int32), edges.astype(np.int32)  # the low half


def _hashes(keys: _Keys, rows: Longs, lengths: Longs, sources: Ints, weights: Ints) -> Words:
    """A word for each row, of its key and its in-list with every edge's place in it."""
    place = csr.within(lengths).view(np.uint64)
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
