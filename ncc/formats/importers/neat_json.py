"""Nets that neat-python exports as JSON (`neat.export`, format version 1)."""

from __future__ import annotations

import re
from typing import Final

from ncc.formats.importers.foreign import Foreign, Imported, Importer, Json, Options, listed
from ncc.formats.importers.neat_functions import ACTIVATIONS, OURS
from ncc.formats.importers.neat_net import (
    LARGEST_KEY,
    Function,
    Network,
    Node,
    built,
    own,
    step_of,
    time_constant,
)

TYPES: Final = ("input", "hidden", "output")
AGGREGATIONS: Final = {**OURS, "median": "median"}
CONSTANTS: Final = (1, 1)  # the first version that has nodes without connections


KINDS: Final = ("feedforward", "recurrent", "ctrnn")


def recognises(file: Foreign) -> bool:
    head = file.data[:65536]
    return head.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"{" and b'"network_type"' in file.data


def read(files: list[Foreign], options: Options) -> Imported:
    """The net of a JSON file: of class A, where its functions are of + - * / and comparisons, else
    of class B."""
    (file,) = files
    top = file.json()
    version = top["format_version"].text()
    if not re.fullmatch(r"1(\.\d+)*", version):
        raise top["format_version"].fault("E802", f"format version {version[:20]}; known are 1.x")
    kind = _kind(top["network_type"])
    recurrent = kind != "feedforward"
    step = step_of(file, options, kind == "ctrnn", "/network_type")
    topology = top["topology"]
    inputs = _keys(topology["input_keys"], {})
    outputs = _keys(topology["output_keys"], inputs)
    for word, keys in (("num_inputs", inputs), ("num_outputs", outputs)):
        if topology.has(word) and topology[word].integer() != len(keys):
            raise topology[word].fault("E801", f"{word} is not the number of the keys, "
                                               f"{len(keys)}")
    nodes = _nodes(top["nodes"], inputs, options, kind == "ctrnn")
    for key, place in outputs.items():
        if key not in nodes and not recurrent:
            raise place.fault("E801", f"output {key} is no node",
                              note="neat-python leaves out the nodes of a cycle, whose value "
                              "is 0 there")
    notes = _connect(top["connections"], inputs, nodes, recurrent)
    if not recurrent:
        _constants(top["metadata"], nodes)
    return built(file, options,
                 Network(list(inputs), list(outputs), nodes, notes, recurrent, step))


def _kind(place: Json) -> str:
    word = place.text()
    if word == "iznn":
        raise place.fault("E812", "the neurons of an iznn network spike: their potentials are no "
                          "functions of sums")
    if word not in KINDS:
        raise place.fault("E810", f"a {word[:40]} network is not known")
    return word


def key_of(place: Json) -> int:
    """The id of a node."""
    key = place.integer()
    if abs(key) > LARGEST_KEY:
        raise place.fault("E801", "an id beyond 2^53")
    return key


def _keys(place: Json, others: dict[int, Json]) -> dict[int, Json]:
    """Ids with their places, none twice, nor among `others`."""
    found: dict[int, Json] = {}
    for item in place:
        key = key_of(item)
        if key in found or key in others:
            raise item.fault("E801", f"{key} is named twice")
        found[key] = item
    return found


def _nodes(places: Json, inputs: dict[int, Json], options: Options, timed: bool
           ) -> dict[int, Node]:
    """The nodes that are no inputs, without connections. What a file says of the functions of an
    input is ignored there, too."""
    nodes: dict[int, Node] = {}
    met: set[int] = set()
    for place in places:
        key, word = key_of(place["id"]), place["type"].text()
        if key in met:
            raise place["id"].fault("E801", f"a second node {key}")
        met.add(key)
        if word not in TYPES:
            raise place["type"].fault("E810", f"a node of type {word[:40]}",
                                      help="known are " + listed(TYPES))
        if (word == "input") != (key in inputs):
            raise place["type"].fault("E801", f"node {key} is of type {word}, and among the "
                                      f"input_keys it is {'' if key in inputs else 'not '}")
        if key in inputs:
            continue
        nodes[key] = Node(_activation(place["activation"], options),
                          _aggregation(place["aggregation"]), place["bias"].real(),
                          place["response"].real(), [], place.at,
                          time_constant(place.file, place["time_constant"].real(), place.at)
                          if timed else 1.0)
    return nodes


def _activation(place: Json, options: Options) -> Function:
    name, custom = place["name"].text(), place["custom"].flag()
    if not custom and name in ACTIVATIONS:
        return own(name)
    if name in options.functions:
        return Function(options.functions[name])
    shown = name[:40]
    raise place.fault("E811", f"the activation {shown} is the user's own" if custom else
                      f"the activation {shown} is not one of neat-python's",
                      help=f"give its formula: --fn '{shown}=x*sigmoid(x)'")


def _aggregation(place: Json) -> str:
    name, custom = place["name"].text(), place["custom"].flag()
    if custom or name not in AGGREGATIONS:
        raise place.fault("E811", f"the aggregation {name[:40]} is "
                          + ("the user's own" if custom else "not one of neat-python's"),
                          help="known are " + listed(AGGREGATIONS))
    return AGGREGATIONS[name]


def _connect(places: Json, inputs: dict[int, Json], nodes: dict[int, Node],
             recurrent: bool) -> list[str]:
    """Put the connections into their nodes, and say how many are disabled."""
    met: set[tuple[int, int]] = set()
    disabled = 0
    for place in places:
        source, target = key_of(place["from"]), key_of(place["to"])
        if target not in nodes:
            raise place["to"].fault("E801", f"a connection into {target}, which is "
                                    + ("an input" if target in inputs else "no node"))
        if source not in nodes and source not in inputs and not recurrent:
            raise place["from"].fault("E801", f"a connection from {source}, which is no node")
        if (source, target) in met:
            raise place.fault("E801", f"a second connection from {source} to {target}")
        met.add((source, target))
        weight = place["weight"].real()
        if place["enabled"].flag():
            nodes[target].edges.append((source, weight))
        else:
            disabled += 1
    return [f"{disabled} disabled connections are left out"] if disabled else []


def _constants(metadata: Json, nodes: dict[int, Node]) -> None:
    """NccError E815 for a node without connections in a file of a neat-python that had dropped
    it."""
    if not metadata.has("neat_python_version"):
        return
    place = metadata["neat_python_version"]
    version = re.match(r"(\d{1,9})\.(\d{1,9})", place.text())
    if version is None or (int(version[1]), int(version[2])) >= CONSTANTS:
        return
    for key, node in nodes.items():
        if not node.edges:
            raise place.fault("E815", f"node {key} has no connections: neat-python {version[0]} "
                              "drops it, later ones have it as a constant",
                              help="export the net by neat-python 1.1 or later")


IMPORTER = Importer("neat", "a network that neat-python exported as JSON", (".json",),
                    recognises, read, ("fn", "simple", "time_step"))
