"""Rows of neurons with fewer of them: sums and quotients that their readers take in."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, NONE, Ints
from ncc.scalar.activations import ACTIVATIONS

SUM, MEAN, DOT, DIV = (AGGREGATIONS.index(name) for name in ("sum", "mean", "dot", "div"))
LINEAR: Final = 0  # the code of the identity
RECIP: Final = next(held.code for held in ACTIVATIONS if held.name == "recip")
MOST: Final = 4  # readers of a sum that they take in
WIDEST: Final = 64  # readers of a quotient
Mask = NDArray[np.bool_]


class Rows:
    """Rows of neurons one after another: their lengths, activations, aggregations and biases (N),
    and of their edges the sources and weights (E), as a Block has them. `kept` are never taken in.
    """

    def __init__(self, lengths: NDArray[np.int64], sources: Ints, weights: Ints, biases: Ints,
                 activations: Ints, aggregations: NDArray[np.int8], kept: Mask) -> None:
        self.lengths, self.sources, self.weights, self.biases = lengths, sources, weights, biases
        self.activations, self.aggregations, self.kept = activations, aggregations, kept

    @property
    def starts(self) -> NDArray[np.int64]:
        return csr.starts(self.lengths)

    def plain(self, aggregation: int, live: Mask, one: int) -> Mask:
        """Live rows of two edges of weight 1, without a bias or an activation."""
        found: Mask = ((self.lengths == 2) & (self.aggregations == aggregation) & live
                       & ~self.kept & (self.activations == LINEAR) & (self.biases == NONE))
        at = np.flatnonzero(found)
        first = self.starts[at]
        found[at] = (self.weights[first] == one) & (self.weights[first + 1] == one)
        return found

    def readers(self, edges: Mask) -> NDArray[np.int64]:
        """How many of these edges read each neuron."""
        return np.bincount(self.sources[edges], minlength=len(self.lengths))

    def widened(self, hit: Mask, sources: NDArray[Any], weights: NDArray[Any]) -> None:
        """Two edges, of these sources and weights (h, 2), in the place of each edge `hit` (h)."""
        target = csr.owners(self.starts)
        times = 1 + hit.astype(np.int64)
        self.lengths = self.lengths + np.bincount(target[hit], minlength=len(self.lengths))
        self.sources, self.weights = np.repeat(self.sources, times), np.repeat(self.weights, times)
        new = np.repeat(hit, times)
        self.sources[new] = sources.ravel()
        self.weights[new] = weights.ravel()


def without_sums(net: Any, rows: Rows, live: Mask) -> bool:
    """x + y, read by few sums and means alone, is read as x and y, as that of a residual path is by
    a norm and the next such sum; whether there was one. What is taken in reads nothing that is."""
    one = net.code(1.0)
    taken = rows.plain(SUM, live, one)
    target, first = csr.owners(rows.starts), rows.starts[:-1]
    units = np.bincount(target[rows.weights == one], minlength=len(live)) == rows.lengths
    fit = (rows.weights < 0) & ((rows.aggregations == SUM) | (rows.aggregations == MEAN) & units
                                )[target]
    alive = live[target]
    taken &= (rows.readers(alive & ~fit) == 0) & (rows.readers(alive) <= MOST)
    at = np.flatnonzero(taken)
    pairs = rows.sources[first[at][:, None] + np.arange(2)]
    chained = taken[pairs].any(axis=1)
    for j, (a, b) in zip(at[chained].tolist(), pairs[chained].tolist(), strict=True):
        taken[j] = not (taken[a] or taken[b])
    while taken.any():
        hit = taken[rows.sources] & alive
        new = rows.sources[first[rows.sources[hit]][:, None] + np.arange(2)]
        among = np.bincount(target[hit], minlength=len(live)) > 0
        stay = among[target] & ~hit
        reads = np.concatenate([np.stack([target[stay], rows.sources[stay]], axis=1),
                                np.stack([np.repeat(target[hit], 2), new.ravel()], axis=1)])
        every, times = np.unique(reads, axis=0, return_counts=True)
        twice = np.zeros(len(live), np.bool_)
        twice[every[times > 1, 0]] = True  # a row that would read a neuron twice
        wrong = rows.sources[hit & twice[target]]
        if not wrong.size:
            _of_means(net, rows, among)
            rows.widened(hit, new, np.repeat(rows.weights[hit][:, None], 2, axis=1))
            return True
        taken[wrong] = False
    return False


def _of_means(net: Any, rows: Rows, among: Mask) -> None:
    """Means as sums of shares."""
    means = np.flatnonzero(among & (rows.aggregations == MEAN))
    if means.size:
        sizes, where = np.unique(rows.lengths[means], return_inverse=True)
        share = np.zeros(len(rows.lengths), np.int32)
        share[means] = np.array([net.code(1.0 / size) for size in sizes.tolist()], np.int32)[where]
        rows.aggregations[means] = SUM
        edges = share[csr.owners(rows.starts)]
        rows.weights = np.where(edges < 0, edges, rows.weights)


def without_quotients(net: Any, rows: Rows, live: Mask) -> bool:
    """Sums of quotients x / t alone, as the map of all heads of attention is, read pairs of x and
    1 / t, where t is read for that alone; whether there were any."""
    one, n = net.code(1.0), len(live)
    quotients = rows.plain(DIV, live, one)
    if not quotients.any():
        return False
    starts = rows.starts
    target = csr.owners(starts)
    alive = live[target]
    second = csr.within(rows.lengths) == 1
    simple = (rows.aggregations == SUM) & (rows.activations == LINEAR) & ~rows.kept & live
    quotients &= rows.readers(alive) <= WIDEST
    while quotients.any():
        sums = (rows.aggregations == SUM) & live & (rows.lengths > 0) & (np.bincount(
            target[quotients[rows.sources]], minlength=n) == rows.lengths)
        divides = quotients[target] & second & alive
        totals = simple & (rows.readers(alive & ~divides) == 0)
        at = np.flatnonzero(quotients)
        good = (rows.readers(alive & ~sums[target])[at] == 0) & totals[rows.sources[starts[at] + 1]]
        if good.all():
            break
        quotients[at[~good]] = False
    if not quotients.any():
        return False
    hit = sums[target]
    read = starts[rows.sources[hit]]
    rows.activations[rows.sources[starts[np.flatnonzero(quotients)] + 1]] = RECIP
    rows.aggregations[sums] = DOT
    weights = np.stack([rows.weights[hit], np.full(int(hit.sum()), one, np.int32)], axis=1)
    rows.widened(hit, rows.sources[read[:, None] + np.arange(2)], weights)
    return True
