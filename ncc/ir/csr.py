"""Compressed sparse rows: lists of lists as arrays, and what is done with them, once.

List k is `elements[starts[k] : starts[k + 1]]`, where `starts` is int64 (n + 1), ascends, and
begins with 0. So stand the in-lists of a graph (`starts`, `sources`) and the rows of a plan; its
`blocks` are lists of rows. All of it is O(elements) but where it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise, starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

PART = 1 << 18  # elements that are looked at together: their arrays stay in the cache
TRIED = 8  # lengths of what repeats


def starts(lengths: NDArray[Any]) -> Longs:
    """The starts (n + 1) of lists of these lengths (n): [2, 0, 3] => [0, 2, 2, 5]."""
    made = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=made[1:])
    return made


def owners(starts: NDArray[Any], dtype: Any = np.int64) -> NDArray[Any]:
    """The list that each element stands in: [0, 2, 2, 5] => [0, 0, 2, 2, 2]."""
    return np.repeat(np.arange(len(starts) - 1, dtype=dtype), np.diff(starts))


def ranges(begins: NDArray[Any] | int, lengths: NDArray[Any]) -> Longs:
    """The numbers from each of `begins` (n) on, as many as `lengths` (n) says, one range after
    another: [7, 3], [2, 3] => [7, 8, 3, 4, 5]. So the elements of chosen lists are found."""
    ends = np.cumsum(lengths)
    made: Longs = np.arange(ends[-1] if len(ends) else 0, dtype=np.int64)
    made += np.repeat(begins - ends + lengths, lengths)
    return made


def within(lengths: NDArray[Any]) -> Longs:
    """The position of each element within its list: [2, 0, 3] => [0, 1, 0, 1, 2]."""
    return ranges(0, lengths)


def some(starts: Longs, flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether any element of each list is set: [0, 2, 2, 3], [1, 0, 0] => [1, 0, 0]."""
    counts = np.zeros(len(flags) + 1, np.int64)
    np.cumsum(flags, out=counts[1:])
    found: NDArray[np.bool_] = counts[starts[1:]] > counts[starts[:-1]]
    return found


def borders(*keys: NDArray[Any]) -> Longs:
    """Where a new range of equal elements begins, and the end: between two borders no key (n)
    changes. [5, 5, 2, 2, 2] => [0, 2, 5]; without elements [0]."""
    n = len(keys[0])
    change = np.zeros(max(0, n - 1), np.bool_)
    for key in keys:
        change |= key[1:] != key[:-1]
    return np.concatenate([np.zeros(min(n, 1), np.int64), np.flatnonzero(change) + 1, [n]])


def even(columns: Iterable[NDArray[Any]], begins: NDArray[Any]) -> Longs:
    """Where ranges of rows begin in which each number, of columns (n each), is as far from that of
    the row before; a range begins at each of `begins`, too. Greedy: a range is as long as can be.
    4 5 6 7 1 9 => 0 4, of one column; a part of the rows at a time."""
    columns = [*columns]
    n = len(columns[0])
    change, fixed = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    for column in columns:
        for lo in range(2, n, PART):
            apart = np.diff(column[lo - 2 : lo + PART])
            change[lo : lo + PART] |= apart[1:] != apart[:-1]
    fixed[:1] = True
    fixed[begins] = True
    change |= fixed
    # Where a range begins its next row fits in; so where one row after another does not, each
    # second one begins a range.
    at = np.flatnonzero(change)
    again = fixed[at] | ~change[at - 1]
    last = np.maximum.accumulate(np.where(again, at, 0))
    found: Longs = at[(at - last) % 2 == 0]
    return found


def repeated(lengths: NDArray[Any], elements: Ints) -> tuple[Longs, Ints, Ints] | None:
    """Lists of numbers from 0 on that are one list, moved: list k is
    kept[begins[k] : begins[k] + lengths[k]], with bases[k] added to each. `begins` (n), `bases`
    (n), `kept`; None where more than half of the elements would be left, or hardly two a list less.
    [3, 3], [4, 5, 7, 6, 7, 9] => [0, 0], [4, 6], [0, 1, 3]."""
    first = starts(lengths)
    bases = np.zeros(len(lengths), np.int32)
    some = np.flatnonzero(lengths)
    if len(some):
        bases[some] = np.minimum.reduceat(elements, first[some])

    def moved(rows: NDArray[Any] | slice) -> Ints:
        n = lengths[rows]
        read = elements[ranges(first[:-1][rows], n)]
        read -= np.repeat(bases[rows], n)
        return read

    equal = _first_equal(lengths, moved)
    own = equal == np.arange(len(lengths))
    if int(lengths[~own].sum()) <= max(len(elements) // 2, 2 * len(lengths)):
        return None  # known before anything is kept
    begins = np.zeros(len(lengths), np.int64)
    begins[own] = np.cumsum(lengths[own]) - lengths[own]
    return begins[equal], bases, moved(np.flatnonzero(own))


def grouped(keys: NDArray[Any], count: int) -> tuple[Longs, Longs]:
    """The elements by key, keys being 0 .. count-1: the elements of key k, in their order, are
    by[starts[k] : starts[k + 1]]. `starts` (count + 1) and `by` (n), which takes a sort unless
    the keys ascend. [2, 0, 2] of 3 => [0, 1, 1, 3], [1, 0, 2]."""
    first = starts(np.bincount(keys, minlength=count))
    if bool((keys[1:] >= keys[:-1]).all()):
        return first, np.arange(len(keys))
    return first, np.argsort(keys, kind="stable")


def parts(lengths: NDArray[Any]) -> Iterator[slice]:
    """Slices of the lists, of about PART elements each, so that what is computed of each element
    stays small."""
    ends = np.cumsum(lengths)
    cuts = np.searchsorted(ends, np.arange(PART, ends[-1] if len(ends) else 0, PART))
    bounds = np.unique([0, *cuts.tolist(), len(lengths)]).tolist()
    return starmap(slice, pairwise(bounds))


def representatives(starts: Longs, elements: Ints, chosen: NDArray[Any], *keys: NDArray[Any]
                    ) -> Longs:
    """For each of the `chosen` lists, the position in `chosen` of the first one with the same
    elements and the same `keys` (n, each): its own, where there is none before."""
    lengths, begins = np.diff(starts)[chosen], starts[:-1][chosen]
    return _first_equal(lengths, lambda rows: elements[ranges(begins[rows], lengths[rows])],
                        *[key[chosen] for key in keys])


def _first_equal(lengths: NDArray[Any], read: Callable[[NDArray[Any] | slice], Ints],
                 *keys: NDArray[Any]) -> Longs:
    """For each list of these lengths the first one with the same elements, which `read` gives of
    some lists, one after another, and the same `keys` (n, each).

    Lists are told apart by a 64-bit polynomial hash, and equal ones compared, a part of them at a
    time, so that elements may be computed where they are wanted."""
    count = len(lengths)
    powers = np.cumprod(np.full(int(lengths.max(initial=0)) + 1, 0x9E3779B97F4A7C15, np.uint64))
    hashes = np.empty(count, np.uint64)
    for part in parts(lengths):
        mixed = read(part).astype(np.uint64)
        mixed += np.uint64(1)
        mixed *= np.uint64(0xD6E8FEB86659FD93)
        mixed ^= mixed >> np.uint64(32)
        mixed *= powers[within(lengths[part])]
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed)])
        ends = np.cumsum(lengths[part])
        hashes[part] = sums[ends] - sums[ends - lengths[part]]
    told = (hashes, lengths, *keys)
    order = np.lexsort((np.arange(count), *told))
    new = np.ones(count, np.bool_)
    new[1:] = False
    for key in told:
        new[1:] |= key[order[1:]] != key[order[:-1]]
    first = np.empty(count, np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(count), 0))]
    later = np.flatnonzero(first != np.arange(count))
    for part in parts(lengths[later]):
        mine = later[part]
        same = read(mine) == read(first[mine])
        apart = mine[np.repeat(np.arange(len(mine)), lengths[mine])[~same]]
        first[apart] = apart
    return first


def periods(keys: NDArray[Any], least: int = 1) -> list[tuple[int, int, int]]:
    """Where keys (n) repeat: from `first` on `times` times the same `length` keys, as (first,
    length, times), ascending, not overlapping. Greedy: what saves most keys goes first, and saves
    `least` at least; only lengths are tried that often lie between equal keys.
    5 1 2 1 2 1 2 7 => (1, 2, 3)."""
    found, left = [], [(0, len(keys))]
    while left:
        begin, end = left.pop()
        part = keys[begin:end]
        order = np.argsort(part, kind="stable")
        lengths, counts = np.unique(np.diff(order)[np.diff(part[order]) == 0], return_counts=True)
        best = (max(1, least) - 1, 0, 0, 0)  # keys saved, first, length, times
        for length in np.sort(lengths[np.argsort(-counts, kind="stable")[:TRIED]]).tolist():
            cuts = borders(part[length:] == part[:-length])
            first = cuts[:-1]
            times = np.where(part[first] == part[first + length], np.diff(cuts) // length, 0)
            k = int(np.argmax(times))
            best = max(best, (int(times[k]) * length, begin + int(first[k]), length,
                              int(times[k]) + 1), key=lambda made: made[0])
        _, at, length, count = best
        if count:
            found.append((at, length, count))
            left += [(begin, at), (at + length * count, end)]
    return sorted(found)
