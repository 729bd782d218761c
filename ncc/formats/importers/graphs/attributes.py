"""A graph of nodes and edges with attributes, which is what its readers answer, to a net.

Those that ncc's own export writes (ncc/formats/exporters/attributes.py says what they mean); an
activation may also be a name of --fn. All others are left alone, and a note says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from ncc.errors import NccError, near
from ncc.formats.exporters.attributes import OF_EDGES, OF_GRAPHS, OF_NODES
from ncc.formats.importers.builder import BARE, Builder, Constant, Late, Tied, asked, formula
from ncc.formats.importers.foreign import Foreign, Imported, Options, listed
from ncc.ir.graph import AGGREGATIONS
from ncc.ir.graph_types import Label
from ncc.ir.labels import digits
from ncc.scalar.activations import ACTIVATIONS
from ncc.scalar.aggregations import PAIRS

DIRECTIVES: Final = {"numerics": ("strict", "fused", "fast"), "dtype": ("f32", "f64")}
_SHAPE: Final = re.compile(r"[1-9]\d{0,9}(?:x[1-9]\d{0,9}){0,31}", re.ASCII)
TAKES: Final = ("fn", "activation")  # the options of all these formats


class Place(NamedTuple):
    """Where something stands: a line, or a path in a file or an object."""

    at: str = ""
    line: int = 0


class Node(NamedTuple):
    key: Hashable
    attributes: Mapping[str, Any]
    place: Place


class Edge(NamedTuple):
    source: Hashable
    target: Hashable
    attributes: Mapping[str, Any]
    place: Place


@dataclass
class Described:
    """A graph as its file or object has it, nodes and edges in the order of insertion: the edges
    into a node are its in-list in this order.

    parallel  the code of a second edge from one node to another: E810 where the source knows
              such, E801 where it does not
    """

    file: Foreign
    importer: str
    nodes: list[Node]
    edges: list[Edge]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    parallel: str = "E801"

    def fault(self, code: str, message: str, place: Place, attribute: str = "", help: str = ""
              ) -> NccError:
        at = f"{place.at}/{attribute}" if attribute and place.at else place.at
        return self.file.fault(code, message, at, line=place.line, help=help)


def undirected(file: Foreign, place: Place) -> NccError:
    """The fault of a graph whose edges have no direction."""
    return file.fault("E810", "an undirected graph is no net: its edges have no direction",
                      place.at, line=place.line, help="networkx: a DiGraph with an edge from each "
                      "neuron to those that read it")


def told(key: Hashable) -> str:
    """The name of a node in a message."""
    return str(key)[:40]


def built(graph: Described, options: Options) -> Imported:
    """The net of a graph. NccErrors E801, E810 (parallel edges), E811, E817, E819."""
    in_lists = _in_lists(graph)
    values = _Values(graph, options)
    states = _states(graph, in_lists)
    nodes = [node for node in graph.nodes if node.key not in states]
    inputs = _inputs(graph, nodes, in_lists, values)
    outputs = _outputs(graph, nodes, inputs, values)
    names = labels([node.key for node in nodes])
    builder = Builder(graph.file, options)
    for node, name in zip(nodes, names, strict=True):
        if node.key in inputs:
            builder.input(node.key, name)
            continue
        builder.neuron(
            node.key, [(states.get(edge.source, edge.source),
                        values.parameter(edge, "weight", "tie", "const"))
                       for edge in in_lists[node.key]],
            values.activation(node), aggregation=values.aggregation(node),
            bias=values.bias(node), label=name)
    made = builder.made(outputs, exactness="B", importer=graph.importer,
                        notes=[*graph.notes, *_unknown(graph)], numerics=values.said("numerics"),
                        dtype=values.said("dtype"), labels=_arrays(nodes, names, values))
    return replace(made, on_cycle="a node with the attribute `state` has the value of another in "
                                  "the call before")


def _states(graph: Described, in_lists: Mapping[Hashable, list[Edge]]) -> dict[Hashable, Late]:
    """The nodes that stand for the last value of another."""
    found: dict[Hashable, Late] = {}
    for node in graph.nodes:
        if "state" in node.attributes:
            of = node.attributes["state"]
            if not isinstance(of, Hashable) or of not in in_lists or in_lists[node.key]:
                raise graph.fault("E801", "a node with a state names another node, and no edge "
                                  "leads into it", node.place, "state")
            found[node.key] = Late(of)
    for node in graph.nodes:
        if node.key in found and found[node.key].key in found:
            raise graph.fault("E801", "a state of a state", node.place, "state")
    return found


def _arrays(nodes: Sequence[Node], names: Sequence[str | None], values: _Values) -> list[Label]:
    """The labels of arrays of neurons, without those whose name another label has."""
    met = set(names)
    made = []
    for j, node in enumerate(nodes):
        name, shape = values.word(node, "array"), values.word(node, "array_shape")
        if name is None or shape is None or name in met or not name.isprintable():
            continue
        if not _SHAPE.fullmatch(shape):
            raise values.graph.fault("E801", f"{shape[:40]!r} is no shape", node.place,
                                     "array_shape")
        met.add(name)
        made.append(Label(j, name, tuple(map(int, shape.split("x")))))
    return made


def _in_lists(graph: Described) -> dict[Hashable, list[Edge]]:
    """The edges into each node."""
    found: dict[Hashable, list[Edge]] = {}
    for node in graph.nodes:
        if node.key in found:
            raise graph.fault("E801", f"a second node {told(node.key)}", node.place)
        found[node.key] = []
    met: set[tuple[Hashable, Hashable]] = set()
    for edge in graph.edges:
        ends = edge.source, edge.target
        for end, word in zip(ends, ("from", "to"), strict=True):
            if end not in found:
                raise graph.fault("E801", f"an edge {word} {told(end)}, which is no node",
                                  edge.place)
        if ends in met:
            raise graph.fault(graph.parallel, f"a second edge from {told(ends[0])} to "
                              f"{told(ends[1])}", edge.place,
                              help="add up the weights of parallel edges")
        met.add(ends)
        found[edge.target].append(edge)
    return found


def _inputs(graph: Described, nodes: Sequence[Node],
            in_lists: Mapping[Hashable, list[Edge]], values: _Values) -> set[Hashable]:
    """What is marked so; and of the others nodes without edges into them and without a bias. Where
    there is none, those without edges into them: what an input says of a bias means nothing."""
    marks = {node.key: values.mark(node, "input") for node in nodes}
    for node in nodes:
        if marks[node.key] and in_lists[node.key]:
            raise graph.fault("E801", f"node {told(node.key)} is an input, and has an edge into it",
                              node.place, "input")
    ends = [node for node in nodes if marks[node.key] is None and not in_lists[node.key]]
    found = [node for node in nodes if marks[node.key]]
    found += [node for node in ends if not _says(node, "bias", "bias_tie")]
    found = found or ends
    idle = sum(_says(node, "bias", "bias_tie", "activation", "aggregation") for node in found)
    if idle:
        graph.notes.append(f"{idle} of the inputs {'have' if idle > 1 else 'has'} an activation or "
                           "a bias, which means nothing of an input")
    return {node.key for node in found}


def _outputs(graph: Described, nodes: Sequence[Node], inputs: set[Hashable], values: _Values
             ) -> list[Hashable]:
    """What is marked so, true or by a number from 1 on, which tells the order; where nothing is,
    nodes that no other reads and that are no inputs."""
    marks = {node.key: values.mark(node, "output") for node in nodes}
    found = [node for node in nodes if marks[node.key]]
    if not found:
        read = {edge.source for edge in graph.edges}
        found = [node for node in nodes if node.key not in read and node.key not in inputs
                 and marks[node.key] is None]
    if not found and graph.edges:
        found = [node for node in nodes if node.key not in inputs]  # a cycle, which `order` tells
    if not found:
        raise graph.fault("E801", "a net without outputs", Place())
    if all(isinstance(marks[node.key], bool | None) for node in found):
        return [node.key for node in found]
    by_number: dict[int, Hashable] = {}
    for node in found:
        mark = marks[node.key]
        if mark is None or isinstance(mark, bool) or mark in by_number:
            raise graph.fault("E801", "where an output has a number, each has one of its own",
                              node.place, "output",
                              help="true marks them in the order of the nodes")
        by_number[mark] = node.key
    return [by_number[number] for number in sorted(by_number)]


def _says(item: Node | Edge, *names: str) -> bool:
    """Whether there is such an attribute, be it without a value."""
    return any(name in item.attributes for name in names)


def _unknown(graph: Described) -> list[str]:
    """A line for the attributes of nodes that mean nothing here, one for edges, one for graphs."""
    sorts: tuple[tuple[str, Iterable[Mapping[str, Any]], Iterable[str]], ...] = (
        ("nodes", (node.attributes for node in graph.nodes), OF_NODES),
        ("edges", (edge.attributes for edge in graph.edges), OF_EDGES),
        ("the graph", (graph.attributes,), OF_GRAPHS))
    lines = []
    for what, items, known in sorts:
        names = {str(name): None for item in items for name in item if name not in known}
        if names:
            lines.append(f"attributes of {what} that say nothing here: {listed(map(ascii, names))}")
    return lines


class _Values:
    """What attributes say, checked."""

    def __init__(self, graph: Described, options: Options) -> None:
        self.graph, self.own, self.default = graph, options.functions, asked(options)
        self._ties: dict[str, float | None] = {}
        self._formulas: dict[str, str] = {}
        for node in graph.nodes:
            self._tie(node, "bias", "bias_tie")
        for edge in graph.edges:
            self._tie(edge, "weight", "tie")

    def _tie(self, item: Node | Edge, value: str, tie: str) -> None:
        """A parameter's value, which all that share it have, or say nothing of."""
        name = self.word(item, tie)
        if name is None:
            return
        if not (name.isidentifier() and name.isascii()):
            raise self.graph.fault("E801", f"the name {name[:40]!r} of a tie is no identifier",
                                   item.place, tie)
        number = self._number(item, value)
        known = self._ties.setdefault(name, number)
        if known is None:
            self._ties[name] = number
        elif number is not None and number != known:
            raise self.graph.fault("E801", f"{number} for tie {name}, which is {known} elsewhere",
                                   item.place, value)

    def parameter(self, item: Node | Edge, value: str, tie: str, const: str
                  ) -> float | Constant | Tied | None:
        """A weight or bias; None where it has no value."""
        number, name = self._number(item, value), self.word(item, tie)
        if self._flag(item, const):
            if number is None or name is not None:
                raise self.graph.fault("E801", f"a constant has a {value} and no {tie}",
                                       item.place, const)
            return Constant(number)
        return number if name is None else Tied(name, self._ties[name])

    def bias(self, node: Node) -> Any:
        """As the builder takes it; one of null or NaN is a parameter without a value."""
        if not _says(node, "bias", "bias_tie"):
            return BARE
        return self.parameter(node, "bias", "bias_tie", "bias_const")

    def activation(self, node: Node) -> str:
        """A name of ncc's or an expression in x."""
        name = self.word(node, "activation")
        return self.default if name is None else self.formula(name, node.place)

    def formula(self, name: str, place: Place) -> str:
        if name not in self._formulas:
            text = formula(name, self.own)
            if text is None:
                raise self.graph.fault(
                    "E811", f"the activation {name[:40]!r} is none of ncc's, and no expression in "
                    "x", place, "activation", help="give its formula: --fn 'NAME=x*sigmoid(x)'; or "
                    + near(name, [a.name for a in ACTIVATIONS]))
            self._formulas[name] = text
        return self._formulas[name]

    def aggregation(self, node: Node) -> str:
        name = self.word(node, "aggregation") or "sum"
        if name not in AGGREGATIONS:
            raise self.graph.fault("E811", f"the aggregation {name[:40]!r} is none of ncc's",
                                   node.place, "aggregation", help=near(name, AGGREGATIONS))
        if name in PAIRS:
            raise self.graph.fault("E811", f"a {name} has pairs of sources, which the edges of a "
                                   "graph do not say", node.place, "aggregation",
                                   help="a node of its own for each product: mul")
        return name

    def said(self, word: str) -> str | None:
        """A directive of the graph."""
        said = self.graph.attributes.get(word)
        if said is not None and said not in DIRECTIVES[word]:
            raise self.graph.fault("E801", f"{word} is {listed(DIRECTIVES[word])}",
                                   Place(f"/graph/{word}"))
        return said

    def mark(self, node: Node, word: str) -> bool | int | None:
        """True or False, or a number that also tells the order, None where it is not said."""
        said = _plain(node.attributes.get(word))
        if said is not None and not isinstance(said, int):
            raise self.graph.fault("E801", f"true, false or a number is wanted as {word}",
                                   node.place, word)
        return said

    def _flag(self, item: Node | Edge, word: str) -> bool:
        said = _plain(item.attributes.get(word))
        if said is not None and not isinstance(said, bool):
            raise self.graph.fault("E801", f"true or false is wanted as {word}", item.place, word)
        return bool(said)

    def word(self, item: Node | Edge, word: str) -> str | None:
        said = item.attributes.get(word)
        if said is not None and not isinstance(said, str):
            raise self.graph.fault("E801", f"a text is wanted as {word}", item.place, word)
        return said

    def _number(self, item: Node | Edge, word: str) -> float | None:
        said = _plain(item.attributes.get(word))
        if said is None or word == "bias" and isinstance(said, float) and math.isnan(said):
            return None
        if isinstance(said, bool) or not isinstance(said, int | float):
            raise self.graph.fault("E817", f"a real number is wanted as {word}, not "
                                   f"{type(said).__name__}", item.place, word)
        try:
            number = float(said)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or number != said:
            raise self.graph.fault("E801", f"{str(said)[:40]} as {word} is no finite number of "
                                   "float64", item.place, word)
        return number


def _plain(value: Any) -> Any:
    """A scalar of numpy's as Python's."""
    return value.item() if type(value).__module__ == "numpy" and not value.shape else value


def labels(keys: Sequence[Hashable]) -> list[str | None]:
    """A printable name of its own for each key; none where the key is what ncc's own export calls
    a neuron without a label."""
    width = digits(len(keys))
    met: set[str] = set()
    names: list[str | None] = []
    for j, key in enumerate(keys):
        text = None if key == f"n{j:0{width}x}" else next(
            (text for text in (str(key), repr(key))
             if text and text.isprintable() and text not in met), None)
        names.append(text)
        if text is not None:
            met.add(text)
    return names
