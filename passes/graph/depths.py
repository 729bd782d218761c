"""The depth of each neuron: what `order` and `unroll` share.

Kahn's algorithm, a frontier at a time: a wide one as arrays, a narrow one (numpy would spend
its time on calls) as a plain loop, so that a chain of a hundred thousand neurons is fast as well.
Time and memory O(N + E).
"""

from __future__ import annotations

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import Graph, Ints, Longs

NARROW = 24  # neurons; below it a loop is faster than some twenty numpy calls


def levels_of(graph: Graph) -> tuple[Ints, Ints]:
    """The longest path to each neuron from a source; and how many of its edges each still waits
    for, which is 0 of all where the net has no cycle."""
    count = graph.n_neurons
    firsts, readers = _readers(graph)
    waits = np.diff(graph.starts).astype(np.int32)
    levels = np.zeros(count, np.int32)
    frontier = np.flatnonzero(waits == 0).astype(np.int32)
    level = 0
    while len(frontier):
        levels[frontier] = level
        level += 1
        if len(frontier) < NARROW:
            frontier, level = _narrow(frontier.tolist(), level, firsts, readers, waits, levels)
        else:
            frontier = _wide(frontier, firsts, readers, waits)
    return levels, waits


def _readers(graph: Graph) -> tuple[Longs, Ints]:
    """The out-lists as CSR: the readers of neuron i are readers[firsts[i] : firsts[i + 1]]."""
    firsts = csr.starts(np.bincount(graph.sources, minlength=graph.n_neurons))
    # Sorting (source, target) pairs packed in a word is several times faster than an argsort.
    pairs = graph.sources.astype(np.int64)
    pairs <<= 32
    readers: Ints = csr.owners(graph.starts, np.int32)
    pairs |= readers
    pairs.sort()
    np.copyto(readers, pairs, casting="unsafe")  # the low half
    return firsts, readers


def _wide(frontier: Ints, firsts: Longs, readers: Ints, waits: Ints) -> Ints:
    """The neurons that wait for none but `frontier`; `waits` counts down."""
    begins = firsts[frontier]
    lengths = firsts[frontier + 1] - begins
    met = readers[csr.ranges(begins, lengths)]
    if len(met) * 8 > len(waits):
        waits -= np.bincount(met, minlength=len(waits)).astype(np.int32)
        ready = np.zeros(len(waits), np.bool_)
        ready[met] = True
        neurons = np.flatnonzero(ready).astype(np.int32)
    else:
        neurons, times = np.unique(met, return_counts=True)
        waits[neurons] -= times.astype(np.int32)
    done: Ints = neurons[waits[neurons] == 0]
    return done


def _narrow(frontier: list[int], level: int, firsts: Longs, readers: Ints, waits: Ints,
            levels: Ints) -> tuple[Ints, int]:
    """Frontier after frontier while they are narrow: the first wide one, and its level."""
    first, reader, wait, depth = firsts.data, readers.data, waits.data, levels.data
    while 0 < len(frontier) < NARROW:
        ready = []
        for i in frontier:
            for e in range(first[i], first[i + 1]):
                j = reader[e]
                left = wait[j] - 1
                wait[j] = left
                if left == 0:
                    depth[j] = level
                    ready.append(j)
        frontier = ready
        level += 1
    return np.array(frontier, np.int32), level - 1
