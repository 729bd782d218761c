"""Live graphs of networkx."""

from __future__ import annotations

from typing import Any

from ncc.formats.importers.foreign import Foreign, Imported, Options, of_module
from ncc.formats.importers.graphs.attributes import Described, Edge, Node, Place, built, undirected


def recognises(value: Any) -> bool:
    return of_module(value, "networkx") and hasattr(value, "is_directed")


def from_object(value: Any, options: Options) -> Imported:
    """The net of a DiGraph, or of a MultiDiGraph without parallel edges. NccErrors as `built`."""
    file = Foreign("<networkx>", "")
    if not value.is_directed():
        raise undirected(file, Place())
    nodes = [Node(key, data, Place(f"node {key!r}")) for key, data in value.nodes(data=True)]
    # By target: so an in-list is in the order in which its edges came.
    edges = []
    for target, sources in value.pred.items():
        for source, data in sources.items():
            place = Place(f"edge {source!r} -> {target!r}")
            parallel = list(data.values()) if value.is_multigraph() else [data]
            edges += [Edge(source, target, each, place) for each in parallel]
    return built(Described(file, "networkx", nodes, edges, value.graph, parallel="E810"), options)
