"""Turns that repeat, such as those of the steps of an RNN: the numbers of one period, and what each
further time adds to them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import Longs
from ncc.passes.lower.arrays.turns import Kind

FEWER = 2  # times fewer turns are worth two loops more
LONGEST = 8  # periods that make up one, where what is added repeats more rarely than the turns do


class Periods(NamedTuple):
    """Turns in parts of neighbours, each part gone through some times, with the numbers of chunks
    (`Descriptors`) as they are at the first time.

    turns    (T)  the turns that are kept, and the segments and chunks of these
    segments (S)
    chunks   (C)
    ends     (P)  where each part ends among the turns that are kept
    times    (P)  how often it is gone through
    steps    (C)  each by name: what every further time adds to what is added to a chunk's numbers
    repeats  (C)  whether a chunk is in a part that is gone through several times
    ahead    (S)  how many segments further on one is at every further time
    """

    turns: Longs
    segments: Longs
    chunks: Longs
    ends: Longs
    times: Longs
    steps: dict[str, Longs]
    repeats: NDArray[np.bool_]
    ahead: Longs

    def alike(self, values: Longs, chunks: NDArray[np.bool_]) -> int | None:
        """The one of `values` (C) that all these `chunks` (C) have, None if they have several."""
        some = values[chunks]
        return int(some[0]) if len(some) and (some == some[0]).all() else None


def periods_of(kinds: list[Kind], begins: Longs, classes: Longs, chunks: Longs,
               moved: dict[str, Longs], single: NDArray[np.bool_]) -> Periods:
    """The periods of the turns of these kinds, which go through all segments: `begins` (T+1): the
    first segment of each turn; `classes` (S); `chunks` (S+1): the first chunk of each segment; what
    is added to the numbers of each chunk, by name; `single`: the segments without chunks. One part,
    gone through once, where hardly a turn is saved."""
    count, parts = len(begins) - 1, list[tuple[int, int, int]]()
    number = np.zeros(len(classes), np.int64)
    for k, kind in enumerate(kinds):
        number[kind.segments] = k
    # The rows of segments without chunks are read one by one, so that none is like another.
    alike = np.where(single, np.arange(len(classes)) + len(kinds) * (classes.max(initial=0) + 1),
                     classes * len(kinds) + number)
    keys = csr.representatives(begins, alike.astype(np.int32), np.arange(count))
    numbers = np.stack([np.zeros(int(chunks[-1]), np.int64), *moved.values()])
    for first, length, times in csr.periods(keys, count // (8 * FEWER)):
        begin = chunks[begins[first]]
        each = (chunks[begins[first + length]] - begin) * times
        rounds = numbers[:, begin : begin + each].reshape(len(numbers), times, -1)
        parts += [(first + at * length, more * length, again)
                  for at, more, again in [_evenly(rounds.transpose(1, 0, 2).reshape(times, -1))]
                  if again > 1]
    if sum(length * (times - 1) for _, length, times in parts) * FEWER < count:
        parts = []
    return _kept(parts, begins, chunks, moved)


def _evenly(rounds: Longs) -> tuple[int, int, int]:
    """Where the numbers of rounds (n, k) repeat but for what each time adds, as (first, length,
    times) in rounds: of all such the one that saves most."""
    best = (0, 0, 0, 1)
    for length in range(1, min(LONGEST, len(rounds) // 2) + 1):
        apart = rounds[length:] - rounds[:-length]
        even = (apart[length:] == apart[:-length]).all(axis=1)
        cuts = csr.borders(even)
        longest = np.where(even[cuts[:-1]], np.diff(cuts), 0)
        if not len(longest):
            continue
        k = int(np.argmax(longest))
        times = int(longest[k]) // length + 2
        if longest[k]:
            best = max(best, ((times - 1) * length, int(cuts[k]), length, times),
                       key=lambda made: made[0])
    return best[1:]


def _kept(parts: list[tuple[int, int, int]], begins: Longs, chunks: Longs, moved: dict[str, Longs]
          ) -> Periods:
    """The periods of these parts (first turn, turns, times), and of the turns between them."""
    turns, steps = np.ones(len(begins) - 1, np.bool_), {
        name: np.zeros_like(values) for name, values in moved.items()}
    repeats, ahead = np.zeros(int(chunks[-1]), np.bool_), np.zeros(int(begins[-1]), np.int64)
    lengths, times = list[int](), list[int]()
    at = 0
    for first, length, again in [*parts, (len(turns), 0, 1)]:
        if first > at:
            lengths, times = [*lengths, first - at], [*times, 1]
        if length:
            lengths, times = [*lengths, length], [*times, again]
            turns[first + length : first + length * again] = False
            begin, then = begins[[first, first + length]].tolist()
            ahead[begin:then] = then - begin
            begin, then = chunks[[begin, then]].tolist()
            repeats[begin:then] = True
            for name, values in moved.items():
                steps[name][begin:then] = (values[then : 2 * then - begin] - values[begin:then])
        at = first + length * again
    segments = np.repeat(turns, np.diff(begins))
    kept = np.flatnonzero(np.repeat(segments, np.diff(chunks)))
    return Periods(np.flatnonzero(turns), np.flatnonzero(segments), kept,
                   np.cumsum(lengths, dtype=np.int64), np.array(times, np.int64),
                   {name: values[kept] for name, values in steps.items()}, repeats[kept],
                   ahead[segments])
