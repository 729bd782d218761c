"""Nets that neat-python exports as JSON (`neat.export`, format version 1).

A node is activation(bias + response * aggregation(value * weight, ...)) in Python's floats.
"""

from __future__ import annotations

from typing import NamedTuple

from ncc.formats.importers.builder import Builder, Constant
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Json, Options, listed
from ncc.formats.importers.neat_functions import ACTIVATIONS, OURS


class Node(NamedTuple):
    """A node of the file; `place` is where it stands."""

    activation: str
    aggregation: str
    bias: float
    response: float
    edges: list[tuple[int, float]]
    place: Json


def recognises(file: Foreign) -> bool:
    head = file.data[:65536]
    return head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"{" and b'"network_type"' in file.data


def read(files: list[Foreign], options: Options) -> Imported:
    """The net of a JSON file, exact up to ulps of exp and the like (class B)."""
    (file,) = files
    top = file.json()
    version = top["format_version"].text()
    if version.split(".")[0] != "1":
        raise top["format_version"].fault("E802", f"format version {version}, and 1.x is known")
    if (type_of := top["network_type"].text()) != "feedforward":
        raise top["network_type"].fault("E812", f"a {type_of} network has state")
    inputs = [key.integer() for key in top["topology"]["input_keys"]]
    outputs = [key.integer() for key in top["topology"]["output_keys"]]
    nodes: dict[int, Node] = {}
    for place in top["nodes"]:
        key = place["id"].integer()
        if key in inputs:
            continue
        if key in nodes:
            raise place.fault("E801", f"a second node {key}")
        nodes[key] = Node(_function(place["activation"], options.functions, True),
                          _function(place["aggregation"], {}, False), place["bias"].real(),
                          place["response"].real(), [], place)
    disabled = 0
    for place in top["connections"]:
        source, target = place["from"].integer(), place["to"].integer()
        if target not in nodes:
            raise place.fault("E801", f"a connection into {target}, which is "
                              + ("an input" if target in inputs else "no node"))
        if source not in nodes and source not in inputs:
            raise place.fault("E801", f"a connection from {source}, which is no node")
        if not place["enabled"].flag():
            disabled += 1
        elif source in dict(nodes[target].edges):
            raise place.fault("E801", f"a second connection from {source} to {target}")
        else:
            nodes[target].edges.append((source, place["weight"].real()))
    return built(file, options, inputs, outputs, nodes,
                 [f"{disabled} disabled connections are left out"] if disabled else [])


def _function(place: Json, own: dict[str, str], activation: bool) -> str:
    """The formula or the aggregation of ncc's for a name; E811 where there is none."""
    name = place["name"].text()
    if activation and name in own:
        return own[name]
    known = ACTIVATIONS if activation else OURS
    if place["custom"].flag() or name not in known:
        what = "activation" if activation else "aggregation"
        raise place.fault("E811", f"the {what} {name} is not one of neat-python's own"
                          if place["custom"].flag() else f"the {what} {name} is not known",
                          help=f"give its formula: --fn '{name}=x*sigmoid(x)'" if activation else
                          "known are " + listed(OURS))
    return known[name]


def built(file: Foreign, options: Options, inputs: list[int], outputs: list[int],
          nodes: dict[int, Node], notes: list[str]) -> Imported:
    """The net of checked nodes, each rounded as Python rounds it."""
    builder = Builder(file, options)
    for key in inputs:
        builder.input(key, str(key))
    for key, node in nodes.items():
        edges: list[tuple[object, float | Constant]] = list(node.edges)
        if not edges:
            empty = 1.0 if node.aggregation == "mul" else 0.0
            builder.neuron(key, [], node.activation, bias=node.bias + node.response * empty,
                           label=str(key))
            continue
        builder.neuron((key, "aggregate"), edges, aggregation=node.aggregation)
        builder.neuron(key, [((key, "aggregate"), Constant(node.response))], node.activation,
                       bias=node.bias, label=str(key))
    return builder.made(outputs, exactness="B", importer="neat", notes=notes, numerics="strict",
                        dtype="f64")


IMPORTER = Importer("neat", "a network that neat-python exported as JSON", (".json",),
                    recognises, read, ("fn", "simple"))
