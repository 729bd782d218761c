"""A net as a graph of other tools: GraphML, and the node-link JSON of networkx and D3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ncc.formats.exporters.attributes import (
    OF_EDGES,
    OF_GRAPHS,
    OF_NODES,
    directives,
    edges,
    nodes,
)
from ncc.ir.graph import Graph

TYPES = {bool: "boolean", int: "int", float: "double", str: "string"}
# Characters that text and the values of attributes spell. (xml.sax, which knows them, too, imports
# what speaks HTTP.)
TEXT = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
IN_TEXT = str.maketrans(TEXT)
IN_QUOTES = str.maketrans({**TEXT, '"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
"""


def graphml(graph: Graph, lossy: bool = False) -> bytes:
    """GraphML (Brandes et al. 2002) with the attributes of attributes.py. NccError E401."""
    parts = [HEAD]
    for kind, known in (("graph", OF_GRAPHS), ("node", OF_NODES), ("edge", OF_EDGES)):
        parts += [f'  <key id="{name}" for="{kind}" attr.name="{name}" '
                  f'attr.type="{TYPES[type]}"/>\n' for name, type in known.items()]
    parts.append('  <graph edgedefault="directed">\n')
    parts += [f"    {_data(said)}\n"] if (said := directives(graph)) else []
    for name, held in nodes(graph, "graphml"):
        parts.append(f"    <node id={_quoted(name)}>{_data(held)}</node>\n")
    for source, target, held in edges(graph):
        parts.append(f"    <edge source={_quoted(source)} target={_quoted(target)}>"
                     f"{_data(held)}</edge>\n")
    parts.append("  </graph>\n</graphml>\n")
    return "".join(parts).encode()


def _quoted(text: str) -> str:
    return f'"{text.translate(IN_QUOTES)}"'


def _data(held: Mapping[str, Any]) -> str:
    return "".join([f'<data key="{name}">{_spelt(value).translate(IN_TEXT)}</data>'
                    for name, value in held.items()])


def _spelt(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "NaN" if value != value else repr(value)
    return str(value)


def node_link(graph: Graph, lossy: bool = False) -> bytes:
    """The JSON that `networkx.node_link_graph` reads (its edges under `links`), an object a line,
    with the attributes of attributes.py; a bias without a value is null. NccError E401."""
    listed = [{"id": name, **_plain(held)} for name, held in nodes(graph, "json")]
    linked = [{"source": source, "target": target, **held}
              for source, target, held in edges(graph)]
    lines = [",\n".join([f"  {json.dumps(row)}" for row in rows]) for rows in (listed, linked)]
    return ('{"directed": true, "multigraph": false, "graph": '
            + json.dumps(directives(graph)) + ',\n "nodes": [\n' + lines[0]
            + '\n ],\n "links": [\n' + lines[1] + "\n ]\n}\n").encode()


def _plain(held: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {name: None if value != value else value for name, value in held.items()}
