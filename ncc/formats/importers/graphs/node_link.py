"""Node-link JSON, as `networkx.node_link_data` makes it: nodes, and `edges` or `links`."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ncc.formats.importers.foreign import Foreign, Imported, Importer, Json, Options
from ncc.formats.importers.graphs import objects
from ncc.formats.importers.graphs.attributes import (
    TAKES,
    Described,
    Edge,
    Node,
    Place,
    built,
    undirected,
)


def recognises(file: Foreign) -> bool:
    head = file.data[:65536].lstrip(b"\xef\xbb\xbf \r\n\t")
    return (head[:1] == b"{" and b'"nodes"' in file.data and b'"network_type"' not in file.data
            and (b'"links"' in file.data or b'"edges"' in file.data))


def read(files: list[Foreign], options: Options) -> Imported:
    """The net of a node-link JSON file; networkx before 3.4 wrote `links` for `edges`."""
    (file,) = files
    top = file.json()
    if top.has("directed") and not top["directed"].flag():
        raise undirected(file, Place("/directed"))
    several = top.has("multigraph") and top["multigraph"].flag()
    word = "links" if top.has("links") and not top.has("edges") else "edges"
    nodes = [Node(_key(place["id"]), _attributes(place, "id"), Place(place.at))
             for place in top["nodes"]]
    edges = [Edge(_key(place["source"]), _key(place["target"]),
                  _attributes(place, "source", "target", *["key"] * several), Place(place.at))
             for place in top[word]]
    attributes = _attributes(top["graph"]) if top.has("graph") else {}
    return built(Described(file, "node-link", nodes, edges, attributes,
                           parallel="E810" if several else "E801"), options)


def _key(place: Json) -> Hashable:
    """A node's id: a text or a number; a list is a tuple of such, as in networkx."""
    value = place.value
    if isinstance(value, list):
        return tuple(_key(each) for each in place)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise place.fault("E801", "the id of a node is a text or a number")
    return value


def _attributes(place: Json, *but: str) -> dict[str, Any]:
    if not isinstance(place.value, dict):
        raise place.fault("E801", "an object is wanted here")
    return {name: value for name, value in place.value.items() if name not in but}


IMPORTER = Importer("node-link", "a graph of networkx, live or as node-link JSON", (".json",),
                    recognises, read, TAKES, objects.recognises, objects.from_object)
