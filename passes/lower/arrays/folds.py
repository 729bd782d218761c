"""Items that repeat but for what each time adds, such as the row classes of the steps of an RNN:
their arrays hold one period, and what a time adds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import Longs
from ncc.passes.lower.arrays.periods import evenly

FEW = 16  # items: the arrays of fewer are short
FEWER = 2  # times fewer items are worth loops over times


class Uneven(Exception):
    """An array of items that are folded does not repeat as they do."""


class Fold(NamedTuple):
    """Items (N), of which those stand for all that are gone through first.

    kept  (K)  these
    of    (N)  the number of each among them
    time  (N)  how often that was gone through before
    then  (K)  the item that each is the next time; itself, where there is none
    """

    kept: Longs
    of: Longs
    time: Longs
    then: Longs

    def within(self, starts: Longs) -> Fold:
        """The fold of the parts of items, which begin at `starts` (N+1): as many in all that repeat
        an item."""
        counts, firsts = np.diff(starts), starts[:-1]
        places = csr.starts(counts[self.kept])
        if not np.array_equal(counts, counts[self.kept][self.of]):
            raise Uneven
        return Fold(csr.ranges(firsts[self.kept], counts[self.kept]),
                    csr.ranges(places[:-1][self.of], counts), np.repeat(self.time, counts),
                    csr.ranges(firsts[self.then], counts[self.kept]))

    def folded(self, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The numbers of the items that are kept, of `values` (N, ..), and what each time adds."""
        first = values[self.kept]
        step = values[self.then] - first
        time = self.time.reshape(-1, *[1] * (values.ndim - 1))
        if not np.array_equal(values, first[self.of] + time * step[self.of]):
            raise Uneven
        return first, step


class Parts(NamedTuple):
    """Neighbouring items as parts, each gone through some times.

    ends   (P)  where each part ends among the items that are kept
    times  (P)
    """

    ends: Longs
    times: Longs

    @property
    def begins(self) -> Longs:
        return np.append(0, self.ends[:-1])


def parts_of(keys: Longs, starts: Longs, numbers: Longs) -> tuple[Parts, Fold] | None:
    """The parts of items with these keys (N), where those of one key have as many numbers, which
    begin at `starts` (N+1); and their fold. None where too few repeat."""
    count, found = len(keys), list[tuple[int, int, int]]()
    if count < FEW:
        return None
    for first, length, times in csr.periods(keys, count // (8 * FEWER)):
        rounds = numbers[starts[first] : starts[first + length * times]].reshape(times, -1)
        at, more, again = evenly(rounds)
        if again > 1:
            found.append((first + at * length, more * length, again))
    if sum(length * (times - 1) for _, length, times in found) * FEWER < count:
        return None
    pieces, end = list[tuple[int, int]](), 0  # the items of each part, and its times
    for first, length, again in [*found, (count, 0, 1)]:
        pieces += [(first - end, 1)] * (first > end) + [(length, again)] * (length > 0)
        end = first + length * again
    size, again_of = np.array(pieces, np.int64).T
    parts = Parts(np.cumsum(size), again_of)
    firsts = csr.starts(size * parts.times)[:-1]
    kept = csr.ranges(firsts, size)
    rounds_of = np.repeat(size, size * parts.times)
    within = csr.within(size * parts.times)
    return parts, Fold(kept, np.repeat(parts.begins, size * parts.times) + within % rounds_of,
                       within // rounds_of,
                       kept + np.repeat(np.where(parts.times > 1, size, 0), size))
