"""Depths of neurons; a cycle is found here."""

from __future__ import annotations

import numpy as np

from ncc.errors import NccError, Source
from ncc.ir.graph import Graph, Ints, settled
from ncc.ir.labels import digits
from ncc.ir.syntax import Syntax
from ncc.passes.graph.depths import levels_of

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
    levels, waits = levels_of(graph)
    if bool((waits > 0).any()):
        raise _cycle(graph, waits, source, syntax)
    return graph.with_(levels=levels, aggregations=settled(graph.starts, graph.aggregations))


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
