"""GraphML: the part of it that networkx and others write, read by the XML parser of Python.

A document type declaration is refused: nothing of a net needs one, and entities, which may grow
without end or name other files, can only be declared there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple
from xml.parsers import expat

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options
from ncc.formats.importers.graphs.attributes import (
    TAKES,
    Described,
    Edge,
    Node,
    Place,
    built,
    undirected,
)

DEEPEST: Final = 64  # elements within each other
# The elements that are read, and within which; what else is in a file (drawings) is skipped.
CHILDREN: Final = ("graph", "node", "edge")  # what has attributes
INSIDE: Final = {"graphml": ("",), "key": ("graphml",), "default": ("key",), "graph": ("graphml",),
                 "node": ("graph",), "edge": ("graph",), "data": ("graphml", *CHILDREN)}
REFUSED: Final = {"hyperedge": "an edge of several nodes", "port": "a port of a node"}
TYPES: Final[dict[str, Callable[[str], Any]]] = {
    "boolean": bool, "int": int, "integer": int, "long": int, "float": float, "double": float,
    "real": float}
FLAGS: Final = {"true": True, "false": False, "1": True, "0": False}


class Key(NamedTuple):
    """An attribute that the file declares: what it is called, its type, what has it."""

    name: str
    type: str
    of: str


def recognises(file: Foreign) -> bool:
    return b"<graphml" in file.data[:65536]


def read(files: list[Foreign], options: Options) -> Imported:
    """The net of a GraphML file of one directed graph."""
    (file,) = files
    return built(_Reader(file).described(), options)


class _Reader:
    """Gathers nodes and edges as the parser meets them."""

    def __init__(self, file: Foreign) -> None:
        self.file = file
        self.keys: dict[str, Key] = {}
        self.defaults: dict[str, dict[str, Any]] = {of: {} for of in CHILDREN}
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.graph: dict[str, Any] | None = None
        self.directed: str | None = None
        self.open: list[str] = []
        self.skipped = 0  # of the open elements, from the outermost skipped one on
        self.key: Key | None = None  # of the value that is open
        self.text: list[str] = []
        self.attributes: dict[str, Any] = {}  # of the element that is open
        self.met: set[str] = set()  # the keys of values in it
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._doctype

    def described(self) -> Described:
        try:
            self.parser.Parse(self.file.data, True)
        except expat.ExpatError as error:
            raise self.file.fault("E801", f"this is no XML: {expat.ErrorString(error.code)}",
                                  line=error.lineno) from None
        except (LookupError, ValueError) as error:  # an encoding that Python does not know
            raise self.file.fault("E801", f"this is no XML: {error}") from None
        if self.graph is None:
            raise self.file.fault("E801", "no <graph> is in this file")
        return Described(self.file, "graphml", self.nodes, self.edges, self.graph, parallel="E810")

    @property
    def place(self) -> Place:
        return Place(line=self.parser.CurrentLineNumber)

    def fault(self, code: str, message: str) -> NccError:
        return self.file.fault(code, message, line=self.place.line)

    def _doctype(self, *_: object) -> None:
        raise self.fault("E801", "a document type declaration, which could declare entities")

    def _start(self, tag: str, given: dict[str, str]) -> None:
        tag = tag.rpartition(" ")[2]
        within = self.open[-1] if self.open else ""
        self.open.append(tag)
        if len(self.open) > DEEPEST:
            raise self.fault("E801", f"more than {DEEPEST} elements within each other")
        if tag in REFUSED and not self.skipped:
            raise self.fault("E810", f"<{tag}>, {REFUSED[tag]}, has no meaning as neurons")
        if tag == "graph" and not self.skipped and (within == "node" or self.graph is not None):
            raise self.fault("E810", "a second <graph> in one file has no meaning as neurons")
        if self.skipped or self.key is not None or tag not in INSIDE:
            self.skipped += 1
        elif within not in INSIDE[tag]:
            raise self.fault("E801", f"<{tag}> within <{within}>" if within else
                             "this is no GraphML, whose first element is <graphml>")
        elif tag == "key":
            self._declare(given)
        elif tag == "default":
            self.key = self.keys[next(reversed(self.keys))]
        elif tag == "data":
            self._data(self._of(given, "key"))
        elif tag == "graph":
            self.directed = self._of(given, "edgedefault")
            self.graph = self._child(tag)
        elif tag == "node":
            self.nodes.append(Node(self._of(given, "id"), self._child(tag), self.place))
        elif tag == "edge":
            directed = given.get("directed", "true" if self.directed == "directed" else "false")
            if not FLAGS.get(directed):
                raise undirected(self.file, self.place)
            self.edges.append(Edge(self._of(given, "source"), self._of(given, "target"),
                                   self._child(tag), self.place))

    def _of(self, given: dict[str, str], name: str) -> str:
        if name not in given:
            raise self.fault("E801", f"<{self.open[-1]}> has no {name}")
        return given[name]

    def _child(self, tag: str) -> dict[str, Any]:
        self.attributes, self.met = dict(self.defaults[tag]), set()
        return self.attributes

    def _declare(self, given: dict[str, str]) -> None:
        key = self._of(given, "id")
        if key in self.keys:
            raise self.fault("E801", f"a second <key> {key}")
        self.keys[key] = Key(given.get("attr.name", key), given.get("attr.type", "string"),
                             given.get("for", "all"))

    def _data(self, key: str) -> None:
        if key not in self.keys:
            raise self.fault("E801", f"no <key> declares {key}")
        if key in self.met:
            raise self.fault("E801", f"a second value of {key}")
        self.met.add(key)
        self.key = self.keys[key]

    def _characters(self, text: str) -> None:
        if self.key is not None and not self.skipped:
            self.text.append(text)

    def _end(self, _: str) -> None:
        tag = self.open.pop()
        if self.skipped:
            self.skipped -= 1
        elif self.key is not None:
            name, value = self.key.name, self._value(self.key.type, "".join(self.text).strip())
            if tag == "default":
                for of in CHILDREN if self.key.of == "all" else (self.key.of,):
                    self.defaults.setdefault(of, {})[name] = value
            elif self.open[-1] != "graphml":
                self.attributes[name] = value
            self.key, self.text = None, []
        elif tag in ("node", "edge") and self.graph is not None:
            self.attributes, self.met = self.graph, set()

    def _value(self, kind: str, text: str) -> Any:
        """A value as its type has it; as text where the type is not known."""
        convert = TYPES.get(kind, str)
        if convert is str:
            return text
        try:
            return FLAGS[text.lower()] if convert is bool else convert(_number(text))
        except (KeyError, ValueError):
            raise self.fault("E801", f"{text[:40]!r} is no {kind}") from None


def _number(text: str) -> str:
    """The text, which is not one that only Python takes for a number."""
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return text


IMPORTER = Importer("graphml", "a graph as GraphML", (".graphml",), recognises, read, TAKES)
