"""Depths of neurons; a cycle is found here.

Kahn's algorithm, a frontier at a time: a wide one as arrays, a narrow one (numpy would spend
its time on calls) as a plain loop, so that a chain of a hundred thousand neurons is fast as well.
Time and memory O(N + E).
"""

from __future__ import annotations

import numpy as np

from ncc.errors import NccError, Source
from ncc.ir import csr
from ncc.ir.graph import Graph, Ints, Longs, settled
from ncc.ir.syntax import Syntax, digits

NARROW = 24  # neurons; below it a loop is faster than some twenty numpy calls
SHOWN = 12  # neurons of a cycle that a message names


def order(graph: Graph, *, source: Source | None = None, syntax: Syntax | None = None) -> Graph:
    """`graph` with the depth of each neuron: the longest path to it from a source.

        graph 05                         graph 05
        inputs 00 01                     inputs 00 01
        outputs 04                       outputs 04
        values 0.5 2.0 1.0 1.0           values 0.5 2.0 1.0 1.0
        constants                  =>    constants
        00 input                         00 @0 input
        01 input                         01 @0 input
        02 tanh sum 03*p0 00*p1          02 @2 tanh sum 03*p0 00*p1
        03 relu sum 01*p2                03 @1 relu sum 01*p2
        04 relu sum 02*p3                04 @3 relu sum 02*p3

    A neuron of `sumbias` without edges becomes a sum: it is its bias. A net with a cycle has no
    depths:

        graph 05
        inputs 00 01
        outputs 04
        values 0.5 2.0 1.0 1.0
        constants                  =>    error[E116]: a cycle: 02 -> 03 -> 02
        00 input                         help: ~03 in an in-list is its value of the last call
        01 input
        02 tanh sum 03*p0 00*p1
        03 relu sum 02*p2
        04 relu sum 02*p3

    The NccError stands on a line of `syntax` if that is given (and shows the line from `source`,
    if that is another).
    """
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
    if bool((waits > 0).any()):
        raise _cycle(graph, waits, source, syntax)
    return graph.with_(levels=levels, aggregations=settled(graph.starts, graph.aggregations))


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


def _cycle(graph: Graph, waits: Ints, source: Source | None, syntax: Syntax | None) -> NccError:
    """Some neuron that still waits reads another that does, and so on, until one comes again."""
    waiting = waits > 0
    path: list[int] = []
    places = np.full(graph.n_neurons, -1, np.int64)
    j = int(np.argmax(waiting))
    while places[j] < 0:
        places[j] = len(path)
        path.append(j)
        sources = graph.sources[graph.starts[j] : graph.starts[j + 1]]
        j = int(sources[np.argmax(waiting[sources])])
    ring = path[int(places[j]) :][::-1]  # along the edges
    turn = ring.index(min(ring))
    ring = ring[turn:] + ring[: turn + 1]
    width = digits(graph.n_neurons)
    labels = {label.first: label.name for label in graph.labels if not label.shape}
    names = [labels.get(n, f"{n:0{width}x}") for n in ring]
    note = ""
    if len(names) > SHOWN:
        note = f"it has {len(ring) - 1} neurons"
        names = [*names[: SHOWN - 2], "...", *names[-2:]]
    span = None
    if syntax is not None:
        source, span = source or syntax.source, syntax.neuron_span(ring[0])
    return NccError("E116", "a cycle: " + " -> ".join(names), source, span, note=note,
                    help=f"~{names[-2]} in an in-list is its value of the last call")
