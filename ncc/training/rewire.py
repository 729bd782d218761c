"""Which edges of a net go, which come, and the net that is then: sparse training's two halves.

Only edges into neurons that sum are changed. An edge goes if its weight is trained, and never a
neuron's last one, or the strongest of all where all would go. A new edge goes from a neuron of a
lower level to one of a higher, so no cycle can come, and stands last in its in-list.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.ir.graph import ABSENT, INPUT, PLAIN_SUM_CODES, Graph, Ints, Longs, Reals
from ncc.ir.labels import digits
from ncc.passes.graph.order import order

Mask = NDArray[np.bool_]


class Edges(NamedTuple):
    """Edges of a net, of as many entries each: `sources` and `targets` are neurons, `weights` their
    parameters."""

    sources: Longs
    targets: Longs
    weights: Reals


class Changed(NamedTuple):
    """A net after a change: `kept` (n_params,) says which parameter each was, -1 of new ones."""

    graph: Graph
    kept: Longs


def targets_of(graph: Graph) -> Longs:
    """The target of each edge."""
    return np.repeat(np.arange(graph.n_neurons), np.diff(graph.starts))


def _sums(graph: Graph) -> Mask:
    """Whether each neuron sums (N,), wherever its bias is added."""
    made: Mask = np.isin(graph.aggregations, PLAIN_SUM_CODES)
    return made


def changeable(graph: Graph, frozen: Mask) -> Mask:
    """Whether each edge may go (E,): a trained weight, into a neuron that sums."""
    trained = np.append(~frozen, np.zeros(len(graph.constants), np.bool_))
    made: Mask = trained[graph.weights] & _sums(graph)[targets_of(graph)]
    return made


def dropped(graph: Graph, may: Mask, scores: Reals, share: float, by_layer: bool) -> Mask:
    """The edges that go (E,): of those that `may`, the `share` with the lowest scores (E,), of each
    layer (the edges into neurons of one level) or of all; of equals the first.

    NccError E633 for a score that is no number."""
    assert graph.levels is not None
    if np.isnan(scores[may]).any():
        raise NccError("E633", "a score to drop edges by is no number",
                       help="the weights, where the magnitude is the score")
    targets = targets_of(graph)
    free = may.copy()
    free[_last(graph, may, scores)] = False
    layer = graph.levels[targets] if by_layer else np.zeros(graph.n_edges, np.int32)
    sizes = np.bincount(layer[may], minlength=1)
    gone = np.zeros(graph.n_edges, np.bool_)
    at = np.flatnonzero(free)
    at, starts = at[_by(layer[at])], _starts(layer[at], len(sizes))
    for k in np.flatnonzero(sizes).tolist():
        mine = at[starts[k] : starts[k + 1]]
        count = min(int(share * sizes[k] + 1e-9), len(mine))
        gone[mine[lowest(scores[mine], count)]] = True
    return gone


def _by(keys: Ints | Longs) -> Longs:
    """The order of keys; those that are equal as they come."""
    return np.argsort(keys, kind="stable")


def _starts(keys: Ints | Longs, count: int) -> Longs:
    """Where those of each key below `count` begin, in that order: (count + 1,)."""
    return np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=count))])


def _last(graph: Graph, may: Mask, scores: Reals) -> Longs:
    """The edges that are to stay so that each neuron has one: of those whose edges all may go, the
    first of the highest scores."""
    fans = np.diff(graph.starts)
    rows = np.flatnonzero(fans)
    held = np.where(may, scores, np.inf)
    highest = np.repeat(np.maximum.reduceat(held, graph.starts[rows]) if len(rows) else held,
                        fans[rows])
    at = np.flatnonzero(held == highest)
    target = np.searchsorted(graph.starts, at, side="right")
    first: Longs = at[np.diff(target, prepend=-1) != 0]
    return first


def lowest(scores: Reals, count: int) -> Longs:
    """The places of the `count` lowest scores; of equals the first."""
    if not count:
        return np.zeros(0, np.int64)
    limit = np.partition(scores, count - 1)[count - 1]
    below = np.flatnonzero(scores < limit)
    equal = np.flatnonzero(scores == limit)[: count - len(below)]
    return np.concatenate([below, equal])


class LevelPair(NamedTuple):
    """Pairs of neurons: any of `sources` with any of `targets`, both ascending; `taken` are the
    pairs that are edges, each target's number * len(sources) + source's number, ascending."""

    sources: Longs
    targets: Longs
    taken: Longs

    @property
    def free(self) -> int:
        return len(self.sources) * len(self.targets) - len(self.taken)

    def drawn(self, count: int, random: np.random.Generator) -> tuple[Longs, Longs]:
        """Of the pairs that are no edges so many different ones, all alike likely."""
        ranks = np.sort(random.choice(self.free, count, replace=False, shuffle=False))
        keys = ranks + np.searchsorted(self.taken - np.arange(len(self.taken)), ranks, "right")
        return self.sources[keys % len(self.sources)], self.targets[keys // len(self.sources)]


def level_pairs(graph: Graph, stays: Mask, sources: Longs, targets: Longs
                ) -> list[tuple[LevelPair, int]]:
    """Where new edges may be, beside those that stay (E,): for each pair of levels that the edges
    (sources, targets) joined, which went, such pairs of neurons, and how many are to come. What
    does not fit there comes elsewhere, from any level to a higher one. NccError E639 where the net
    has no room."""
    held = _Levels(graph, stays)
    levels, many = held.levels, held.many
    joined, counts = np.unique(levels[sources] * many + levels[targets], return_counts=True)
    wanted = dict(zip(joined.tolist(), counts.tolist(), strict=True))
    pairs = {pair: held.between(pair) for pair in wanted}
    taken = {pair: min(count, pairs[pair].free) for pair, count in wanted.items()}
    left = len(sources) - sum(taken.values())
    for pair in range(many * many if left else 0):
        if left and pair // many < pair % many:
            if pair not in pairs:
                pairs[pair] = held.between(pair)
            more = min(left, pairs[pair].free - taken.get(pair, 0))
            taken[pair] = taken.get(pair, 0) + more
            left -= more
    if left:
        raise NccError("E639", f"the net has no room for {left} more edges")
    return [(pairs[pair], count) for pair, count in taken.items() if count]


class _Levels:
    """The neurons of each level, and the edges that stay between any two, into neurons that sum."""

    def __init__(self, graph: Graph, stays: Mask) -> None:
        assert graph.levels is not None
        levels = self.levels = graph.levels.astype(np.int64)
        many = self.many = int(levels.max(initial=0)) + 1
        here = graph.activations != ABSENT
        sums = here & (graph.activations != INPUT) & _sums(graph)
        number = np.zeros((2, graph.n_neurons), np.int64)  # among those of its level
        self.neurons: list[Longs] = []  # by level, those that may be sources, and targets
        self.starts: list[Longs] = []
        for k, which in enumerate((here, sums)):
            mine = np.flatnonzero(which)
            mine = mine[_by(levels[mine])]
            starts = _starts(levels[mine], many)
            number[k, mine] = np.arange(len(mine)) - starts[levels[mine]]
            self.neurons.append(mine)
            self.starts.append(starts)
        target = targets_of(graph)
        mine = np.flatnonzero(stays & sums[target])
        s, t = graph.sources[mine], target[mine]
        pair = levels[s] * many + levels[t]
        keys = number[1, t] * np.diff(self.starts[0])[levels[s]] + number[0, s]
        by = _by(pair)
        self.pair, self.keys = pair[by], keys[by]

    def between(self, pair: int) -> LevelPair:
        low, high = divmod(pair, self.many)
        sources, targets = [neurons[starts[level] : starts[level + 1]] for neurons, starts, level
                            in zip(self.neurons, self.starts, (low, high), strict=True)]
        first, last = np.searchsorted(self.pair, [pair, pair + 1])
        return LevelPair(sources, targets, np.sort(self.keys[first:last]))


def checked(graph: Graph, sources: Longs, targets: Longs, count: int) -> None:
    """NccError E639 unless these are `count` different edges that the graph, with levels, can have
    beside its own: from lower levels to higher ones, into neurons that sum."""
    assert graph.levels is not None
    shapes = [np.shape(sources), np.shape(targets)]
    if shapes != [(count,), (count,)]:
        raise NccError("E639", f"new edges are {shapes[0]} sources and {shapes[1]} targets, not "
                       f"{count}: as many as went")
    for neurons in (sources, targets):
        if neurons.dtype.kind not in "iu" or (
                count and not 0 <= neurons.min() <= neurons.max() < graph.n_neurons):
            raise NccError("E639", "a new edge is of a neuron that the net has not")
    levels = graph.levels
    width = digits(graph.n_own)

    def named(k: int) -> str:
        return f"the edge {sources[k]:0{width}x} -> {targets[k]:0{width}x}"

    up = levels[sources] < levels[targets]
    if not up.all():
        k = int(np.flatnonzero(~up)[0])
        path = _path(graph, int(targets[k]), int(sources[k]))
        raise NccError("E639", f"{named(k)} leads from level {levels[sources[k]]} to level "
                       f"{levels[targets[k]]}, not to a higher one",
                       note=" -> ".join([f"{j:0{width}x}" for j in path]))
    wrong = (graph.activations[targets] < 0) | ~_sums(graph)[targets]
    wrong |= graph.activations[sources] == ABSENT
    if wrong.any():
        raise NccError("E639", f"{named(int(np.flatnonzero(wrong)[0]))} leads into no sum")
    keys = targets.astype(np.int64) * graph.n_neurons + sources
    twice = np.isin(keys, targets_of(graph) * graph.n_neurons + graph.sources)
    twice[np.setdiff1d(np.arange(count), np.unique(keys, return_index=True)[1])] = True
    if twice.any():
        raise NccError("E639", f"{named(int(np.flatnonzero(twice)[0]))} is there already")


def _path(graph: Graph, start: int, end: int) -> list[int]:
    """A path that leads from a neuron to another; none: no neuron."""
    targets = targets_of(graph)
    before = {start: start}
    reached = [start]
    while reached and end not in before:
        mine = np.flatnonzero(np.isin(graph.sources, reached))
        reached = []
        for e in mine.tolist():
            if int(targets[e]) not in before:
                before[int(targets[e])] = int(graph.sources[e])
                reached.append(int(targets[e]))
    if end not in before:
        return []
    path = [end]
    while path[-1] != start:
        path.append(before[path[-1]])
    return path[::-1]


def changed(graph: Graph, stays: Mask, sources: Longs, targets: Longs, levels: bool = True
            ) -> Changed:
    """The graph of the edges that stay (E,) and of new ones, with weights of their own, which are
    0; with its levels, or, without `levels`, those of the graph before. Parameters are numbered in
    the canonical order; a tie of which an edge is left stays."""
    old = graph.n_params
    by = np.argsort(targets, kind="stable")
    end = np.cumsum(np.bincount(targets, minlength=graph.n_neurons))
    left = np.diff(np.concatenate([[0], np.cumsum(stays)])[graph.starts])
    more = np.diff(end, prepend=0)
    starts = np.concatenate([[0], np.cumsum(left + more)])
    # Survivors first, in their order, then the new ones.
    is_new = np.zeros(int(starts[-1]), np.bool_)
    counted = np.arange(len(by)) - np.repeat(end - more, more)
    is_new[np.repeat(starts[:-1] + left, more) + counted] = True
    new_sources = np.empty(len(is_new), np.int32)
    weights = np.empty(len(is_new), np.int32)
    new_sources[~is_new], new_sources[is_new] = graph.sources[stays], sources[by]
    weights[~is_new] = graph.weights[stays]
    weights[is_new] = old + np.arange(len(by))
    # Parameters anew, each where it comes first.
    at_bias = starts[1:] + np.arange(graph.n_neurons)
    codes = np.empty(len(weights) + graph.n_neurons, np.int32)
    is_edge = np.ones(len(codes), np.bool_)
    is_edge[at_bias] = False
    codes[at_bias], codes[is_edge] = graph.biases, weights
    used = codes[codes >= 0]
    count = np.arange(len(used))
    first = np.empty(old + len(by), np.int64)
    first[used[::-1]] = count[::-1]
    leads = used[first[used] == count]
    numbers = np.full(old + len(by), -1, np.int32)
    numbers[leads] = np.arange(len(leads))

    def moved(codes: NDArray[np.int32]) -> NDArray[np.int32]:
        return np.where(codes >= 0, numbers[np.maximum(codes, 0)], codes).astype(np.int32)

    kept = np.where(leads < old, leads, -1).astype(np.int64)
    values = np.where(kept >= 0, np.append(graph.values, 0.0)[kept], 0.0)
    names = {int(numbers[code]): name for code, name in graph.names.items() if numbers[code] >= 0}
    made = graph.with_(starts=starts, sources=new_sources, weights=moved(weights),
                       biases=moved(graph.biases), values=values, names=names)
    if levels and not _levels_hold(made):
        made = order(made)
    return Changed(made, kept)


def _levels_hold(graph: Graph) -> bool:
    """Whether the levels are still those of the longest paths: each is one more than the highest
    that is read."""
    assert graph.levels is not None
    fans = np.diff(graph.starts)
    rows = np.flatnonzero(fans)
    if not len(rows):
        return not graph.levels.any()
    highest = np.maximum.reduceat(graph.levels[graph.sources], graph.starts[rows])
    wanted = np.zeros(graph.n_neurons, np.int64)
    wanted[rows] = highest + 1
    return bool((wanted == graph.levels).all())
