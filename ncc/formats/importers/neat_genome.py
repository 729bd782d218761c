"""Genomes and networks of neat-python: live ones, and pickled genomes with their configuration."""

from __future__ import annotations

import configparser
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Final, NamedTuple

from ncc.errors import NccError
from ncc.formats.importers import pickles
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options, listed, opened
from ncc.formats.importers.neat_functions import ACTIVATIONS, OURS, own_name
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

AGGREGATIONS: Final = {**OURS, "median": "median"}
CLASSES: Final = ("neat.genome.DefaultGenome", "neat.genes.DefaultNodeGene",
                  "neat.genes.DefaultConnectionGene")
# What genes have; another attribute may be one that a network of the user's own computes with.
NODE_GENE: Final = frozenset({"key", "bias", "response", "activation", "aggregation",
                              "time_constant"})
CONNECTION_GENE: Final = frozenset({"key", "weight", "enabled", "innovation"})
LARGEST_CONFIG: Final = 2**20
MOST_PINS: Final = 10**5
NETWORKS: Final = {("neat.nn.feed_forward", "FeedForwardNetwork"): False,
                   ("neat.nn.recurrent", "RecurrentNetwork"): True}
CTRNN: Final = ("neat.ctrnn", "CTRNN")
IZNN: Final = ("neat.iznn", "IZNN")
Activation = Callable[[str], Function | None]
Aggregation = Callable[[str], str | None]


class Pins(NamedTuple):
    """What a configuration says of genomes: keys of inputs and outputs, and whether their networks
    feed forward."""

    inputs: Sequence[int]
    outputs: Sequence[int]
    feed_forward: bool


# Live objects.

def recognises_object(value: Any) -> bool:
    """Whether it is a network of neat-python, a genome, or a pair of genome and configuration."""
    if isinstance(value, tuple):
        return len(value) == 2 and _is_genome(value[0]) and hasattr(value[1], "genome_config")
    return _is_genome(value) or _network_class(value) is not None


def from_object(value: Any, options: Options) -> Imported:
    """The net of a live network, or of (genome, configuration). It is read, never called."""
    if isinstance(value, tuple):
        return _of_genome(value[0], value[1], options)
    if _is_genome(value):
        raise _object("genome").fault("E815", "a genome does not say its inputs and outputs",
                                      help="ncc.from_neat(genome, config)")
    kind = _network_class(value)
    file = _object(type(value).__name__)
    if kind is None or kind == IZNN:
        raise file.fault("E812", "its neurons spike: their potentials are no functions of sums")
    word = "advance" if kind == CTRNN else "activate"
    if getattr(getattr(type(value), word, None), "__module__", "") != kind[0]:
        raise file.fault("E810", f"a network whose class has an {word} of its own")
    return _of_network(file, value, kind, options)


def _is_genome(value: Any) -> bool:
    return ("neat.genome", "DefaultGenome") in _classes(value)


def _network_class(value: Any) -> tuple[str, str] | None:
    return next((name for name in _classes(value) if name in (*NETWORKS, CTRNN, IZNN)), None)


def _classes(value: Any) -> list[tuple[str, str]]:
    return [(cls.__module__, cls.__qualname__) for cls in type(value).__mro__]


def _object(name: Any) -> Foreign:
    return Foreign(f"<{name}>", "")


def _of_network(file: Foreign, net: Any, kind: tuple[str, str], options: Options) -> Imported:
    recurrent = NETWORKS.get(kind, True)
    step = step_of(file, options, kind == CTRNN)
    items = net.node_evals if kind != CTRNN else [
        (key, node.activation, node.aggregation, node.bias, node.response, node.links,
         node.time_constant) for key, node in net.node_evals.items()]
    inputs = _pins(file, net.input_nodes, (), "/input_nodes")
    outputs = _pins(file, net.output_nodes, inputs, "/output_nodes")
    nodes: dict[int, Node] = {}
    for k, item in enumerate(items):
        at = f"/node_evals/{k}"
        key, activation, aggregation, bias, response, links, *constant = item
        key = _key(file, key, at)
        if key in nodes or key in inputs:
            raise file.fault("E801", f"a second node {key}", at)
        edges = _edges(file, links, at)
        nodes[key] = Node(
            _function(file, activation, options, f"{at}/activation"),
            _fold(file, getattr(aggregation, "__name__", "?"),
                  own_name(aggregation, "aggregation"), f"{at}/aggregation"),
            _number(file, bias, f"{at}/bias"), _number(file, response, f"{at}/response"),
            edges, at, *(time_constant(file, _number(file, each, at), at) for each in constant))
    if not recurrent:
        for key in outputs:
            if key not in nodes:
                raise file.fault("E812", f"output {key} is never evaluated: it is on a cycle, or "
                                 "reads one", "/node_evals",
                                 note="neat-python leaves out such nodes, whose value is 0 there")
        for node in nodes.values():
            for source, _ in node.edges:
                if source not in nodes and source not in inputs:
                    raise file.fault("E801", f"a connection from {source}, which is no node",
                                     node.at)
    return built(file, options, Network(inputs, outputs, nodes, (), recurrent, step))


def _edges(file: Foreign, links: Iterable[Any], at: str) -> list[tuple[int, float]]:
    edges: dict[int, float] = {}
    for i, weight in links:
        source = _key(file, i, at)
        if source in edges:
            raise file.fault("E801", f"a second connection from {source}", at)
        edges[source] = _number(file, weight, f"{at}/links")
    return list(edges.items())


def _function(file: Foreign, function: Any, options: Options, at: str) -> Function:
    """An activation of a live network."""
    name = own_name(function, "activation")
    if name in ACTIVATIONS:
        return own(name)
    whole = str(getattr(function, "__name__", type(function).__name__))
    for word in (whole, whole.removesuffix("_activation")):
        if word in options.functions:
            return Function(options.functions[word])
    raise _no_formula(file, whole, at)


def _no_formula(file: Foreign, name: str, at: str) -> NccError:
    return file.fault("E811", f"the activation {name[:40]} is not one of neat-python's own", at,
                      help=f"give its formula: fn={{'{name[:40]}': 'x*sigmoid(x)'}}, or "
                      f"--fn '{name[:40]}=x*sigmoid(x)'")


def _fold(file: Foreign, shown: str, name: str | None, at: str) -> str:
    if name not in AGGREGATIONS:
        raise file.fault("E811", f"the aggregation {shown[:40]} is not one of neat-python's own",
                         at, help="known are " + listed(AGGREGATIONS))
    return AGGREGATIONS[name]


def _of_genome(genome: Any, config: Any, options: Options) -> Imported:
    held = config.genome_config
    file = _object(f"genome {getattr(genome, 'key', '?')}")

    def activation(name: str) -> Function | None:
        found = own_name(held.activation_defs.functions.get(name), "activation")
        return own(found) if found in ACTIVATIONS else None

    def aggregation(name: str) -> str | None:
        return own_name(held.aggregation_function_defs.functions.get(name), "aggregation")

    pins = Pins(_pins(file, held.input_keys, (), "/config/input_keys"),
                _pins(file, held.output_keys, held.input_keys, "/config/output_keys"),
                bool(held.feed_forward))
    return of_genome(file, genome, pins, activation, aggregation, options)


# Genomes, live or read from a pickle.

def of_genome(file: Foreign, genome: Any, pins: Pins, activation: Activation,
              aggregation: Aggregation, options: Options) -> Imported:
    """The net of a genome: its enabled connections, in their order, and the nodes that an output
    depends on; that of its CTRNN, whatever `pins` say, where `options` has a time step.
    `activation` and `aggregation` say what a name is, None for the user's own.

    NccError E801 where it is malformed, E810 for genes that have more than neat-python's, E811 for
    functions of the user's, E812 for a cycle.
    """
    nodes, connections = (_dict(file, genome, name) for name in ("nodes", "connections"))
    edges, notes = _expressed(file, nodes, connections, pins)
    kept = _needed(pins.outputs, edges)
    step = step_of(file, options, options.time_step is not None)
    recurrent = step is not None or not pins.feed_forward
    made: dict[int, Node] = {}
    for k, gene in nodes.items():
        key, at = _key(file, k, "/nodes"), f"/nodes/{k}"
        if key not in kept or (key not in edges and recurrent):
            continue
        _known(file, gene, NODE_GENE, at)
        name = _word(file, gene, "activation", at)
        function = activation(name)
        if function is None and name in options.functions:
            function = Function(options.functions[name])
        if function is None:
            raise _no_formula(file, name, f"{at}/activation")
        word = _word(file, gene, "aggregation", at)
        made[key] = Node(function, _fold(file, word, aggregation(word), f"{at}/aggregation"),
                         _number(file, getattr(gene, "bias", None), f"{at}/bias"),
                         _number(file, getattr(gene, "response", None), f"{at}/response"),
                         edges.get(key, []), at, 1.0 if step is None else _time_constant(
                             file, gene, at))
    left = len(nodes) - len([key for key in nodes if key in kept])
    if left:
        notes.append(f"{left} nodes that no output depends on are left out")
    constants = sum(not node.edges for node in made.values())
    if constants:
        notes.append(f"{constants} nodes without connections are constants, as in neat-python "
                     "1.1 and later")
    return built(file, options, Network(pins.inputs, pins.outputs, made, notes, recurrent, step))


def _time_constant(file: Foreign, gene: Any, at: str) -> float:
    at += "/time_constant"
    found = getattr(gene, "time_constant", None)
    if found is None:
        raise file.fault("E815", "a gene without a time constant, as earlier releases made them",
                         at)
    return time_constant(file, _number(file, found, at), at)


def _expressed(file: Foreign, nodes: Mapping[Any, Any], connections: Mapping[Any, Any], pins: Pins
               ) -> tuple[dict[int, list[tuple[int, float]]], list[str]]:
    """The in-list of each node that has one, of enabled connections; notes."""
    inputs = set(pins.inputs)
    known = inputs | set(nodes)
    for key in pins.outputs:
        if key not in nodes:
            raise file.fault("E801", f"output {key} is no node", "/nodes")
    edges: dict[int, list[tuple[int, float]]] = {}
    disabled = 0
    for ends, gene in connections.items():
        at = f"/connections/{ends!s:.60}"
        if not isinstance(ends, tuple) or len(ends) != 2:
            raise file.fault("E801", "a connection that is no pair of nodes", at)
        source, target = (_key(file, end, at) for end in ends)
        _known(file, gene, CONNECTION_GENE, at)
        enabled = getattr(gene, "enabled", None)
        if not isinstance(enabled, bool | int) and type(enabled).__name__ not in ("bool", "bool_"):
            raise file.fault("E801", "it is neither enabled nor disabled", f"{at}/enabled")
        if not enabled:
            disabled += 1
            continue
        for key in (source, target):
            if key not in known:
                raise file.fault("E801", f"{key} is no node", at)
        if target in inputs:
            raise file.fault("E801", "a connection into an input", at)
        weight = _number(file, getattr(gene, "weight", None), f"{at}/weight")
        edges.setdefault(target, []).append((source, weight))
    return edges, [f"{disabled} disabled connections are left out"] if disabled else []


def _needed(outputs: Iterable[int], edges: Mapping[int, list[tuple[int, float]]]) -> set[int]:
    """The outputs, and what they depend on."""
    needed, left = set(outputs), list(outputs)
    while left:
        for source, _ in edges.get(left.pop(), ()):
            if source not in needed:
                needed.add(source)
                left.append(source)
    return needed


def _dict(file: Foreign, genome: Any, name: str) -> Mapping[Any, Any]:
    found = getattr(genome, name, None)
    if not isinstance(found, Mapping):
        raise file.fault("E801", f"a genome without {name}")
    return found


def _known(file: Foreign, gene: Any, names: frozenset[str], at: str) -> None:
    """NccError E810 for a gene that has more to it than neat-python's own."""
    held = gene.state if isinstance(gene, pickles.Record) else getattr(gene, "__dict__", {})
    for name in held:
        if name not in names:
            raise file.fault("E810", f"a gene with {str(name)[:40]}, which neat-python's have not",
                             at)


def _word(file: Foreign, gene: Any, name: str, at: str) -> str:
    found = getattr(gene, name, None)
    if not isinstance(found, str):
        raise file.fault("E801", f"its {name} is no name", f"{at}/{name}")
    return found


def _pins(file: Foreign, keys: Iterable[Any], others: Iterable[int], at: str) -> list[int]:
    found = [_key(file, key, at) for key in keys]
    if len({*found, *others}) < len(found) + len(list(others)):
        raise file.fault("E801", "a key that is named twice", at)
    return found


def _key(file: Foreign, value: Any, at: str) -> int:
    try:
        key = operator.index(value)
    except TypeError:
        raise file.fault("E801", "a key that is no integer", at) from None
    if isinstance(value, bool) or abs(key) > LARGEST_KEY:
        raise file.fault("E801", "a key that is no integer within 2^53", at)
    return key


def _number(file: Foreign, value: Any, at: str) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise file.fault("E801", "a number is wanted here", at)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise file.fault("E801", "a number that is not finite", at)
    return number


# Pickled genomes.

def recognises(file: Foreign) -> bool:
    """A pickle, unless it is of another library."""
    head = file.data[:65536]
    return head[:1] == b"\x80" and (b"neat.gen" in head or b"sklearn" not in head)


def read(files: list[Foreign], options: Options) -> Imported:
    """The net of a pickled genome under the configuration that `options.config` names."""
    (file,) = files
    genome = pickles.read(file, CLASSES)
    if not isinstance(genome, pickles.Record) or genome.of != CLASSES[0]:
        raise file.fault("E801", "the pickle holds no genome of neat-python")
    if options.config is None:
        raise file.fault("E815", "a genome does not say its inputs, outputs, and whether its "
                         "network feeds forward", help="--config gives neat-python's configuration")
    pins = configuration(opened(Path(options.config)))
    return of_genome(file, genome, pins, lambda name: own(name) if name in ACTIVATIONS else None,
                     lambda name: name, options)


def configuration(file: Foreign) -> Pins:
    """What a file of neat-python's configuration says of its networks. NccErrors E801, E819."""
    if len(file.data) > LARGEST_CONFIG:
        raise file.fault("E819", f"a configuration of more than {LARGEST_CONFIG} bytes")
    text = file.as_text()
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text.words)
    except configparser.Error as error:
        line = getattr(error, "lineno", 0) or 0
        raise text.fault("E801", "this is no configuration of neat-python's: "
                         + type(error).__name__, line=line) from None
    if not parser.has_section("DefaultGenome"):
        raise text.fault("E801", "no section [DefaultGenome]")
    section = parser["DefaultGenome"]

    def said(name: str) -> str:
        if name not in section:
            raise text.fault("E815", f"no {name} in [DefaultGenome]")
        return section[name].strip()

    def count(name: str) -> int:
        word = said(name)
        if not (word.isascii() and word.isdigit()) or len(word) > 20:
            raise text.fault("E801", f"{name} is no count: {word[:40]}")
        if int(word) > MOST_PINS:
            raise text.fault("E819", f"{name} is {word}, and {MOST_PINS} are the most")
        return int(word)

    flag = {"true": True, "false": False}.get(said("feed_forward").lower())
    if flag is None:
        raise text.fault("E801", "feed_forward is neither True nor False")
    return Pins(range(-1, -count("num_inputs") - 1, -1), range(count("num_outputs")), flag)


# --allow-pickle is for `ncc verify`, where neat-python itself reads the file.
IMPORTER = Importer("neat-genome", "a genome or a network of neat-python", (".pickle", ".pkl"),
                    recognises, read, ("fn", "simple", "config", "time_step", "allow_pickle"),
                    recognises_object, from_object)
