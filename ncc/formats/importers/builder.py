"""Nets neuron by neuron, by the names that their source has for them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ncc.errors import NccError, Source
from ncc.formats.importers.foreign import Foreign, Imported, Options
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph
from ncc.ir.graph_types import Label
from ncc.ir.syntax import activation_code, is_hex, unknown
from ncc.scalar.activations import FREE, code_of, name_of
from ncc.scalar.expressions import parse


class Constant(NamedTuple):
    """A weight or bias that is no parameter."""

    value: float


class Tied(NamedTuple):
    """A weight or bias that shares its parameter with all others of this name, an identifier."""

    name: str
    value: float | None = None


Number = float | Constant | Tied | None  # None: a parameter without a value


class Late(NamedTuple):
    """As a source: the value of a neuron in the call before (0 in the first one)."""

    key: Hashable


def asked(options: Options) -> str:
    """The same of `options.activation`, which may be a code, too; identity where it is not given.
    NccError E118: it is none."""
    if options.activation is None:
        return "identity"
    word = options.activation if isinstance(options.activation, str) else f"{options.activation:x}"
    code = activation_code(word, {})
    text = formula(word, options.functions) if code == NONE else name_of(code)
    if text is None or code == NONE and is_hex(word) and word not in options.functions:
        raise unknown(word, {}, None, None)
    return text


def formula(name: str, own: Mapping[str, str]) -> str | None:
    """An activation as the builder takes it, by a name of the user's `own`, a name of ncc's or an
    expression in x; None where it is neither."""
    text = own.get(name, name)
    if code_of(text) is None:
        try:
            parse(Source("<activation>", text), text)
        except NccError:
            return None
    return text


class _Bare:
    """No bias at all, which is not a bias of 0."""


BARE = _Bare()
Bias = Number | _Bare


class Builder:
    """Takes neurons in any order, numbers them as they come (inputs apart from none), keeps
    in-lists as given. Keys are any hashable names, of which readers may come first.

        b = Builder(file, options)
        b.input(-1, "-1")
        b.neuron(0, [(-1, 0.5)], "tanh", bias=0.1)
        b.made([0], exactness="B", importer="neat")
    """

    def __init__(self, file: Foreign, options: Options) -> None:
        self.file, self.options = file, options
        self._numbers: dict[Hashable, int] = {}
        self._keys: list[Hashable] = []
        self._activations: list[int] = []
        self._aggregations: list[int] = []
        self._edges: list[list[tuple[Hashable, Number]]] = []
        self._biases: list[Number | _Bare] = []
        self._labels: list[Label] = []
        self._functions: dict[str, int] = {}
        self._count = 0
        self._values: list[float] = []
        self._constants: dict[str, int] = {}
        self._names: dict[str, int] = {}
        self._late: dict[int, int] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._numbers

    def input(self, key: Hashable, label: str | None = None) -> None:
        """The next input of the net."""
        self._add(key, INPUT, "sum", (), BARE, label)

    def neuron(self, key: Hashable, edges: Iterable[tuple[Hashable, Number]],
               activation: str = "identity", *, aggregation: str = "sum",
               bias: Number | _Bare = BARE, label: str | None = None) -> None:
        """A neuron of edges (source, weight), in their order. `activation` is the name of one of
        ncc's or an expression in x. Without edges its aggregation does not matter, and it is
        activation(bias), of bias 0 where it has none."""
        code = code_of(activation)
        if code is None:
            code = self._functions.setdefault(activation, FREE + len(self._functions))
        edges = list(edges)
        self._count += len(edges)
        if self._count > self.options.max_edges:
            raise self.file.fault("E819", f"more than {self.options.max_edges} edges",
                                  help="--max-edges gives another limit")
        if not edges:
            aggregation = "sum"
            bias = Constant(0.0) if isinstance(bias, _Bare) else bias
        self._add(key, code, aggregation, edges, bias, label)

    def constant(self, key: Hashable, value: float, label: str | None = None) -> None:
        """A neuron that has this value and no parameter."""
        self.neuron(key, (), bias=Constant(value), label=label)

    def _add(self, key: Hashable, code: int, aggregation: str,
             edges: Sequence[tuple[Hashable, Number]], bias: Number | _Bare, label: str | None
             ) -> None:
        if key in self._numbers:
            raise self.file.fault("E801", f"a second node {key}")
        if label is not None:
            self._labels.append(Label(len(self._keys), label))
        self._numbers[key] = len(self._keys)
        self._keys.append(key)
        self._activations.append(code)
        self._aggregations.append(AGGREGATIONS.index(aggregation))
        self._edges.append(list(edges))
        self._biases.append(bias)

    def made(self, outputs: Iterable[Hashable], *, exactness: str, importer: str,
             notes: Iterable[str] = (), numerics: str | None = None, dtype: str | None = None,
             labels: Iterable[Label] = ()) -> Imported:
        """The net, whose `outputs` are neurons by their keys, none twice.

        NccError E801 for an edge or an output that names no neuron, a source that stands twice in
        an in-list, a net without outputs.
        """
        self._number_states()
        sources: list[int] = []
        weights: list[int] = []
        biases: list[int] = []
        for j, edges in enumerate(self._edges):
            met: set[int] = set()
            for key, weight in edges:
                source = self._number(key, f"a connection into {self._keys[j]}")
                if source in met:
                    raise self.file.fault(
                        "E801", f"two connections from {key} into {self._keys[j]}")
                met.add(source)
                sources.append(source)
                weights.append(self._code(weight))
            bias = self._biases[j]
            biases.append(NONE if isinstance(bias, _Bare) else self._code(bias))
        named = [self._number(key, "an output") for key in outputs]
        if not named:
            raise self.file.fault("E801", "a net without outputs")
        if len(set(named)) < len(named):
            raise self.file.fault("E801", "an output that is named twice")
        states = len(self._late)
        activations = np.array(self._activations + [INPUT] * states, np.int32)
        lengths = np.array([len(edges) for edges in self._edges] + [0] * states, np.int64)
        graph = Graph(
            starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            sources=np.array(sources, np.int32),
            weights=np.array(weights, np.int32),
            biases=np.array(biases + [NONE] * states, np.int32),
            activations=activations,
            aggregations=np.array(self._aggregations + [0] * states, np.int8),
            inputs=np.flatnonzero(activations == INPUT).astype(np.int32),
            outputs=np.array(named, np.int32),
            values=np.array(self._values, np.float64),
            constants=np.array([float(text) for text in self._constants], np.float64),
            names={slot: name for name, slot in self._names.items()},
            functions={code: text for text, code in self._functions.items()},
            labels=(*self._labels, *labels), numerics=numerics, dtype=dtype,
            states=np.array(list(self._late), np.int32))
        try:
            graph.verify()
        except NccError as error:  # what no importer has looked at: a number, a name, a formula
            raise self.file.fault("E801", error.message) from None
        return Imported(self.file.name, "", graph=graph, exactness=exactness, importer=importer,
                        notes=tuple(notes))

    def _number_states(self) -> None:
        """A state neuron for each neuron that is read late, by number, behind all others."""
        late = {source.key for edges in self._edges for source, _ in edges
                if isinstance(source, Late)}
        numbers = sorted(self._number(key, "a late connection") for key in late)
        self._late = {number: len(self._keys) + k for k, number in enumerate(numbers)}

    def _number(self, key: Hashable, what: str) -> int:
        if isinstance(key, Late):
            return self._late[self._numbers[key.key]]
        number = self._numbers.get(key)
        if number is None:
            raise self.file.fault("E801", f"{what} names {key}, which is no node")
        return number

    def _code(self, number: Number) -> int:
        """The parameter code of a weight or bias, and its slot or entry where it is a new one."""
        if isinstance(number, Constant):  # by its text, since -0.0 == 0.0
            return -1 - self._constants.setdefault(repr(float(number.value)),
                                                   len(self._constants))
        if isinstance(number, Tied):
            slot = self._names.get(number.name)
            if slot is not None:
                return slot
            slot = self._names[number.name] = len(self._values)
            number = number.value
        self._values.append(np.nan if number is None else float(number))
        return len(self._values) - 1
