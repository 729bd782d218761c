"""Node-link JSON, as `networkx.node_link_data` makes it: nodes, and `edges` or `links`."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

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

LARGEST: Final = 2**53  # a number as an id: larger ones can be chosen such that all hash alike


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
    """A node's id: a text, a number or a list of such, which is a tuple, as in networkx."""
    if isinstance(place.value, list):
        return tuple(_plain(each) for each in place)
    return _plain(place)


def _plain(place: Json) -> str | int | float:
    value = place.value
    if isinstance(value, bool) or not isinstance(value, str | int | float) or (
            not isinstance(value, str) and abs(value) > LARGEST):
        raise place.fault("E801", "the id of a node is a text, a number or a list of such")
    return value


def _attributes(place: Json, *but: str) -> dict[str, Any]:
    if not isinstance(place.value, dict):
        raise place.fault("E801", "an object is wanted here")
    return {name: value for name, value in place.value.items() if name not in but}


IMPORTER = Importer("node-link", "a graph of networkx, live or as node-link JSON", (".json",),
                    recognises, read, TAKES, objects.recognises, objects.from_object)
