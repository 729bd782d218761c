"""Where the nodes of a picture stand: a layered layout (Sugiyama, Tagawa & Toda 1981).

Nodes have columns, and edges go to the right. An edge that passes over columns takes a *bend* in
each: a place of its own, so that it runs between the nodes and not behind them; edges that begin as
one share their bends. Sweeps to and fro put each column in the order of the barycentres of its
neighbours, and the order with the fewest crossings is kept. Then each node moves as near to the
middle of its neighbours as the order allows. Nothing is random: the same picture has the same
layout.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir.graph import Longs, Reals

PIECES = 4000  # of edges, between bends; in a picture that wants more all edges are straight
SWEEPS = 8
WIDE = 500  # nodes and bends; no crossings are counted between wider columns
THIN = 9.0  # height of a bend


class Layout(NamedTuple):
    """The middle of each node (n), and the heights of the bends of each trunk by column:
    bends[trunk][column]."""

    y: Reals
    bends: dict[int, dict[int, float]]


class _Columns(NamedTuple):
    """What stands in each column, in order, nodes and bends numbered together; their heights, and
    between a column and the next one the pairs (left, right) that an edge joins."""

    members: list[Longs]
    heights: Reals
    pairs: list[tuple[Longs, Longs]]


def layout(columns: Longs, heights: Reals, sources: Longs, targets: Longs, trunks: Longs,
           pinned: Longs) -> Layout:
    """The layout of nodes in `columns` (n), whose heights include the space around them; edges go
    from `sources` (e) to `targets` (e), each to a higher column. Those of a trunk (e), which has
    one source, begin as one. The `pinned` columns stay in the order of their nodes' numbers."""
    made, bends = _with_bends(columns, heights, sources, targets, trunks)
    fixed = set(pinned.tolist())
    order = _ordered(made, fixed)
    y = _placed(made._replace(members=order))
    return Layout(y[: len(columns)], {k: {c: float(y[v]) for c, v in at.items()}
                                      for k, at in bends.items()})


def _with_bends(columns: Longs, heights: Reals, sources: Longs, targets: Longs, trunks: Longs
                ) -> tuple[_Columns, dict[int, dict[int, int]]]:
    n, last = len(columns), int(columns.max(initial=0))
    bends: dict[int, dict[int, int]] = {}
    members = [np.flatnonzero(columns == c).tolist() for c in range(last + 1)]
    total = n
    if (columns[targets] - columns[sources]).sum() <= PIECES:
        for k, s, t in zip(trunks.tolist(), sources.tolist(), targets.tolist(), strict=True):
            at = bends.setdefault(k, {})
            for c in range(int(columns[s]) + 1, int(columns[t])):
                if c not in at:
                    at[c] = total
                    members[c].append(total)
                    total += 1
    pairs: list[set[tuple[int, int]]] = [set() for _ in range(last)]
    for k, s, t in zip(trunks.tolist(), sources.tolist(), targets.tolist(), strict=True):
        before, over = s, range(int(columns[s]) + 1, int(columns[t]))
        for c in over if bends else ():
            pairs[c - 1].add((before, bends[k][c]))
            before = bends[k][c]
        if bends or not over:
            pairs[columns[t] - 1].add((before, t))
    ends = [np.array(sorted(each), np.int64).reshape(-1, 2) for each in pairs]
    return _Columns([np.array(each, np.int64) for each in members],
                    np.append(heights, np.full(total - n, THIN)),
                    [(each[:, 0], each[:, 1]) for each in ends]), bends


def _ordered(made: _Columns, fixed: set[int]) -> list[Longs]:
    """The columns, in the order with the fewest crossings that the sweeps meet."""
    place = np.zeros(len(made.heights))
    order = list(made.members)

    def put(c: int) -> None:
        """Places from 0 to 1, so that columns of different sizes compare."""
        place[order[c]] = (np.arange(len(order[c])) + 0.5) / max(1, len(order[c]))

    for c in range(len(order)):
        put(c)
    best, fewest = list(order), _crossings(made, place)
    inner = [c for c in range(len(order)) if c not in fixed]
    for sweep in range(SWEEPS if inner and fewest else 0):
        forward = sweep % 2 == 0
        for c in inner if forward else reversed(inner):
            means = _means(made, place, c, left=forward, right=not forward)
            order[c] = order[c][np.lexsort((order[c], place[order[c]], means))]
            put(c)
        crossings = _crossings(made, place)
        if crossings < fewest:
            best, fewest = list(order), crossings
    return best


def _means(made: _Columns, place: Reals, c: int, left: bool, right: bool) -> Reals:
    """The mean place of the neighbours of all in column c; its own where it has none."""
    total, count = np.zeros(len(place)), np.zeros(len(place))
    if left and c:
        froms, mine = made.pairs[c - 1]
        np.add.at(total, mine, place[froms])
        np.add.at(count, mine, 1.0)
    if right and c < len(made.pairs):
        mine, tos = made.pairs[c]
        np.add.at(total, mine, place[tos])
        np.add.at(count, mine, 1.0)
    members = made.members[c]
    found: Reals = np.where(count > 0, total / np.maximum(count, 1.0), place)
    # Rounded, so that what a tie is does not hang on the order of a sum.
    return np.round(found[members], 9)


def _crossings(made: _Columns, place: Reals) -> int:
    """How many pairs of edges cross, between columns that are not too wide."""
    total = 0
    for c, (froms, tos) in enumerate(made.pairs):
        left, right = made.members[c], made.members[c + 1]
        if not len(froms) or max(len(left), len(right)) > WIDE:
            continue
        joined = np.zeros((len(left), len(right)), np.int64)
        joined[_ranks(place, left, froms), _ranks(place, right, tos)] = 1
        above = np.cumsum(np.cumsum(joined, axis=0), axis=1)  # all up to this row and column
        lower = above[:, -1:] - above  # up to this row, in later columns
        total += int((joined[1:] * lower[:-1]).sum())
    return total


def _ranks(place: Reals, members: Longs, chosen: Longs) -> Longs:
    """Where each of the `chosen` stands among the members of its column."""
    rank = np.zeros(len(place), np.int64)
    rank[members[np.argsort(place[members], kind="stable")]] = np.arange(len(members))
    return rank[chosen]


def _placed(made: _Columns) -> Reals:
    """The middle of all, the topmost edge at 0: columns are centred, then drawn to their
    neighbours."""
    y = np.zeros(len(made.heights))
    offsets: list[NDArray[np.float64]] = []
    for members in made.members:
        size = made.heights[members]
        offsets.append(np.cumsum(size) - size / 2)
        y[members] = offsets[-1] - size.sum() / 2
    inner = range(len(made.members))
    for sweep in range(2 * SWEEPS if len(made.members) > 1 else 0):
        way = inner if sweep % 2 else reversed(inner)
        for c in way:
            members = made.members[c]
            both = sweep >= SWEEPS
            wanted = _means(made, y, c, left=both or bool(sweep % 2),
                            right=both or not sweep % 2)
            y[members] = _spread(wanted - offsets[c]) + offsets[c]
    return np.asarray(np.round(y - (y - made.heights / 2).min(initial=0.0), 3))


def _spread(wanted: Reals) -> Reals:
    """The ascending numbers nearest to these by least squares (pool adjacent violators): so many
    that want the same place share it, around their mean."""
    sums: list[float] = []
    sizes: list[int] = []
    for value in wanted.tolist():
        total, size = value, 1
        while sums and sums[-1] * size >= total * sizes[-1]:
            total += sums.pop()
            size += sizes.pop()
        sums.append(total)
        sizes.append(size)
    return np.repeat(np.array(sums) / np.maximum(np.array(sizes), 1), sizes)
