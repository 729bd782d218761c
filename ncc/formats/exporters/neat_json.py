"""A net as the JSON that neat-python exports, where neat-python computes the same bits of it.

A node there is activation(bias + response * aggregation(...)), the bias added last, so a sum of
several products that starts from a bias cannot be said; and its functions are its own ones, so
another is refused, never approximated. An aggregate that one neuron alone reads, alone, becomes a
response, as `ncc/formats/importers/neat_net.py` made a neuron of one. Nodes keep the ids that their
labels are, where these are numbers; else inputs are -1, -2, ..., outputs 0, 1, ...

A net with state is a recurrent network there, if each of its neurons but inputs is read late.
"""

from __future__ import annotations

import json
from itertools import count
from typing import Any, Final

import numpy as np

from ncc.errors import NccError
from ncc.formats.importers.neat_functions import ACTIVATIONS, NAMED, OURS
from ncc.formats.write import names_of
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, NONE, Graph
from ncc.scalar.activations import name_of

FUNCTIONS: Final = {text.replace(" ", ""): name for name, text in ACTIVATIONS.items()}
FOLDS: Final = {ours: theirs for theirs, ours in OURS.items()} | {"sumbias": "sum"}
# Of ncc's own activations: what has the same values there, but for a NaN.
SAME: Final = {"clip": "clamped"} | {name: name for name in NAMED}
WRITTEN: Final = {"format_version": "1.0", "neat_python_version": "2.0.0"}


def neat_json(graph: Graph, lossy: bool = False) -> bytes:
    """The file, of an ordered graph. NccError E401 where neat-python would compute something else
    (`lossy`: a sum may start from its bias, parameters need not be shared), E607 where a parameter
    has no value."""
    return (json.dumps(_Network(graph, lossy).exported(), indent=2) + "\n").encode()


def _loss(what: str, help: str = "") -> NccError:
    return NccError("E401", f"neat-python cannot express: {what}", help=help)


class _Network:
    """A graph on its way to nodes and connections."""

    def __init__(self, graph: Graph, lossy: bool) -> None:
        self.graph, self.lossy = graph, lossy
        self.names = names_of(graph)
        self.table = np.concatenate([graph.values, graph.constants[::-1]])
        missing = int(np.isnan(graph.values).sum())
        if missing:
            raise NccError("E607", f"{missing} of {graph.n_params} parameters have no value",
                           help="--weights FILE or --init RULE")
        codes = np.concatenate([graph.weights, graph.biases[graph.biases != NONE]])
        if not lossy and (np.bincount(codes[codes >= 0], minlength=1) > 1).any():
            raise _loss("parameters that are shared", "--lossy leaves that out")
        self.inputs: list[int] = graph.inputs[: graph.n_inputs].tolist()
        self.late = dict(zip(graph.inputs[graph.n_inputs :].tolist(), graph.states.tolist(),
                             strict=True))
        self.readers = np.bincount(graph.sources, minlength=graph.n_neurons)
        self.folded = self._folded()
        self.zeros = self._zeros() if self.late else set()
        self.ids = self._ids()

    def sources(self, j: int) -> list[int]:
        found: list[int] = self.graph.sources[self._list(j)].tolist()
        return found

    def _list(self, j: int) -> slice:
        return slice(int(self.graph.starts[j]), int(self.graph.starts[j + 1]))

    def weights(self, j: int) -> list[float]:
        found: list[float] = self.table[self.graph.weights[self._list(j)]].tolist()
        return found

    def bias(self, j: int) -> float:
        code = int(self.graph.biases[j])
        return 0.0 if code == NONE else float(self.table[code])

    def _folded(self) -> dict[int, int]:
        """Neurons that are read by one alone, which reads nothing else: by that one."""
        g = self.graph
        lengths = np.diff(g.starts)
        plain = ((g.activations == 0) & (g.biases == NONE) & (self.readers == 1) & (lengths > 0))
        plain[g.outputs] = plain[g.states] = False
        plain[[label.first for label in g.labels if not label.shape]] = False
        sums = np.isin(g.aggregations, [AGGREGATIONS.index(w) for w in ("sum", "sumbias")])
        ones = np.flatnonzero((lengths == 1) & sums & (g.activations != INPUT))
        sources = g.sources[g.starts[ones]]
        return {int(j): int(i) for j, i in zip(ones, sources, strict=True) if plain[i]}

    def _zeros(self) -> set[int]:
        """Neurons that are always 0, which a recurrent network there has not as nodes."""
        g = self.graph
        return {j for j in range(g.n_own) if g.activations[j] == 0
                and not self.sources(j) and self.bias(j) == 0}

    def _ids(self) -> dict[int, int]:
        """The id of each neuron."""
        g = self.graph
        said: dict[int, int] = {}
        for label in g.labels:
            if not label.shape and label.first not in said and _is_id(label.name):
                said[label.first] = int(label.name)
        outputs = g.outputs.tolist()
        if len(set(said.values())) < len(said) or not {*self.inputs, *outputs} <= said.keys():
            said = {j: -1 - k for k, j in enumerate(self.inputs)}
            said |= {j: k for k, j in enumerate(outputs) if j not in said}
        free = count(max([len(outputs) - 1, *said.values()]) + 1)
        inner = set(self.folded.values())
        for j in range(g.n_own):
            if j not in said and j not in inner:
                said[j] = next(free)
        self.free = free
        return said

    def exported(self) -> dict[str, Any]:
        g = self.graph
        hidden = set(self.folded.values())
        assert g.levels is not None
        order = [j for j in np.argsort(g.levels, kind="stable").tolist() if j < g.n_own
                 and g.activations[j] not in (INPUT, ABSENT) and j not in hidden
                 and j not in self.zeros]
        nodes: list[dict[str, Any]] = []
        connections: list[dict[str, Any]] = []
        outputs = [self.ids[j] for j in g.outputs.tolist()]
        for j in order:
            kind = "output" if j in g.outputs else "hidden"
            nodes.append(self.node(j, kind))
            connections += self.connections(j)
        for k, j in enumerate(g.outputs.tolist()):
            if j in self.inputs:  # an input is no output there: a node with its value is
                if self.late:
                    raise _loss("an input that is an output, of a net with state")
                outputs[k] = next(self.free)
                nodes.append(_node(outputs[k], "output", "identity", "sum", 0.0, 1.0))
                connections.append(_connection(self.ids[j], outputs[k], 1.0))
        inputs = [self.ids[j] for j in self.inputs]
        nodes += [_node(key, "input", "identity", "none", 0.0, 1.0) for key in inputs]
        return {
            "format_version": WRITTEN["format_version"],
            "network_type": "recurrent" if self.late else "feedforward",
            "metadata": {"neat_python_version": WRITTEN["neat_python_version"],
                         "note": "written by ncc"},
            "topology": {"num_inputs": len(inputs), "num_outputs": len(outputs),
                         "input_keys": inputs, "output_keys": outputs},
            "nodes": nodes, "connections": connections}

    def node(self, j: int, kind: str) -> dict[str, Any]:
        """The node of a neuron, and of the aggregate that it alone reads."""
        inner = self.folded.get(j, j)
        response = 1.0 if inner == j else self.weights(j)[0]
        fold = AGGREGATIONS[self.graph.aggregations[inner]]
        if fold not in FOLDS:
            why = ("whose NaN goes on" if fold in ("maximum", "minimum") else
                   "which neat-python does not have")
            raise _loss(f"neuron {self.names[inner]} has the aggregation {fold}, {why}")
        if (fold == "sum" and inner == j and len(self.sources(j)) > 1 and self.bias(j) != 0
                and not self.lossy):
            raise _loss(f"the sum of neuron {self.names[j]} starts from its bias, which "
                        "neat-python adds last", "--lossy leaves out the order of that sum")
        return _node(self.ids[j], kind, self.activation(j), FOLDS[fold], self.bias(j), response)

    def activation(self, j: int) -> str:
        code = int(self.graph.activations[j])
        text = self.graph.functions.get(code)
        name = FUNCTIONS.get(text.replace(" ", "")) if text else SAME.get(name_of(code))
        if name is None:
            raise _loss(f"neuron {self.names[j]} has the activation {text or name_of(code)}",
                        "its functions are other ones, such as tanh(2.5*x), and have these "
                        "formulas in ncc/formats/importers/neat_functions.py")
        return name

    def connections(self, j: int) -> list[dict[str, Any]]:
        inner = self.folded.get(j, j)
        made = []
        for i, weight in zip(self.sources(inner), self.weights(inner), strict=True):
            if self.late and i not in self.late and i not in self.inputs and i not in self.zeros:
                raise _loss(f"neuron {self.names[j]} reads {self.names[i]} as it is now: in a "
                            "recurrent network all values are those of the step before")
            made.append(_connection(self.ids[self.late.get(i, i)], self.ids[j], weight))
        return made


def _is_id(name: str) -> bool:
    digits = name.removeprefix("-")
    return digits.isascii() and digits.isdigit() and str(int(name)) == name and len(name) < 16


def _node(key: int, kind: str, activation: str, aggregation: str, bias: float, response: float
          ) -> dict[str, Any]:
    return {"id": key, "type": kind, "activation": {"name": activation, "custom": False},
            "aggregation": {"name": aggregation, "custom": False}, "bias": bias,
            "response": response}


def _connection(source: int, target: int, weight: float) -> dict[str, Any]:
    return {"from": source, "to": target, "weight": weight, "enabled": True}

