"""A net as an ONNX model: level by level, neurons of the same in-list as one Gemm, others by their
function, aggregation and number of edges as a Gather, a product with their weights and a Reduce.

The input is x (batch, inputs), the output y (batch, outputs). A net with states has a second input,
`state` (batch, states), and a second output, `next_state`, which the next call takes. Constants are
nodes, parameters are initialisers; a parameter that is shared stands there once for each that has
it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.formats.exporters.attributes import parameters
from ncc.formats.exporters.onnx_graph import OnnxGraph
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, NONE, Graph, Ints
from ncc.scalar.activations import FREE, name_of
from ncc.scalar.aggregations import edges_a_term
from ncc.scalar.expressions import emit, expression

OPSET: Final = 17
LARGEST: Final = 2**31 - 2**20  # bytes of a protobuf
LONGEST: Final = 256  # edges of a maxabs or a div, which are taken one by one
REDUCE: Final = {"sum": "ReduceSum", "sumbias": "ReduceSum", "mean": "ReduceMean",
                 "mul": "ReduceProd", "max": "ReduceMax", "maximum": "ReduceMax",
                 "min": "ReduceMin", "minimum": "ReduceMin", "dot": "ReduceSum"}
DIRECT: Final = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg",
                 "abs": "Abs", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "sin": "Sin",
                 "cos": "Cos", "sigmoid": "Sigmoid", "softplus": "Softplus", "relu": "Relu",
                 "tanh": "Tanh", "erf": "Erf", "atan": "Atan", "max": "Max", "min": "Min"}


class Formula:
    """An emitter (ncc/scalar/emitter.py) whose values are names of an ONNX graph. Max and Min pass
    a NaN on there, so a choice between them and a NaN is theirs."""

    fused = False

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph

    def const(self, value: float) -> str:
        return self.graph.real(value)

    def op(self, name: str, *values: str) -> str:
        node = self.graph.node
        if name == "softplus" and self.graph.dtype == np.float64:  # onnxruntime has none of these
            (x,) = values
            rest = node("Exp", node("Neg", node("Abs", x)))
            return node("Add", node("Relu", x), node("Log", node("Add", rest, self.const(1.0))))
        if name in DIRECT:
            return node(DIRECT[name], *values)
        if name == "step":
            return node("Relu", node("Sign", values[0]))
        if name == "expm1":  # tanh(x/2) (exp(x) + 1)
            half = node("Tanh", node("Mul", values[0], self.const(0.5)))
            return node("Mul", half, node("Add", node("Exp", values[0]), self.const(1.0)))
        if name == "log1p":
            return node("Log", node("Add", values[0], self.const(1.0)))
        if name == "une" and values[0] == values[1]:
            return ""
        if name == "select" and values[0] == "":
            return values[2]
        raise NccError("E401", f"a function with {name} is not written as ONNX")


class _Exported:
    """The blocks (batch, n) that hold values so far: `block` and `place` say where each neuron is.
    """

    def __init__(self, graph: Graph, dtype: str) -> None:
        self.graph, self.onnx = graph, OnnxGraph(dtype, OPSET)
        self.table = parameters(graph)
        self.block = np.full(graph.n_neurons, -1, np.int64)
        self.place = np.zeros(graph.n_neurons, np.int64)
        self.names: list[str] = []
        self.sizes: list[int] = []

    def add(self, name: str, neurons: Ints) -> None:
        self.block[neurons] = len(self.names)
        self.place[neurons] = np.arange(len(neurons))
        self.names.append(name)
        self.sizes.append(len(neurons))

    def read(self, neurons: Ints) -> str:
        """Values of neurons (batch, n), in this order."""
        blocks = np.unique(self.block[neurons])
        starts = dict(zip(blocks.tolist(), np.concatenate([[0], np.cumsum(
            [self.sizes[b] for b in blocks.tolist()])[:-1]]).tolist(), strict=True))
        held = [self.names[b] for b in blocks.tolist()]
        whole = held[0] if len(held) == 1 else self.onnx.node("Concat", *held, axis=1)
        total = sum(self.sizes[b] for b in blocks.tolist())
        at = self.place[neurons] + np.array([starts[b] for b in self.block[neurons].tolist()])
        if len(at) == total and np.array_equal(at, np.arange(total)):
            return whole
        return self.onnx.node("Gather", whole, self.onnx.fixed(at.astype(np.int64)), axis=1)

    def codes(self, codes: Ints) -> str:
        """Parameters, as an initialiser; as a constant where none may be trained."""
        array = self.table[codes].astype(self.onnx.dtype)
        if (codes >= 0).any():
            return self.onnx.constant(array, f"p{len(self.onnx.constants)}")
        return self.onnx.fixed(array)

    def model(self) -> Any:
        graph, onnx = self.graph, self.onnx
        assert graph.levels is not None
        inputs = {"x": graph.n_inputs}
        self.add("x", graph.inputs[: graph.n_inputs])
        if len(graph.states):
            inputs["state"] = len(graph.states)
            self.add("state", graph.inputs[graph.n_inputs :])
        mine = np.flatnonzero((graph.activations != INPUT) & (graph.activations != ABSENT))
        levels = graph.levels[mine]
        order = np.argsort(levels, kind="stable")
        bounds = np.flatnonzero(np.diff(levels[order])) + 1
        for level in np.split(mine[order], bounds) if len(mine) else []:
            self.level(level)
        results = {"y": graph.outputs}
        if len(graph.states):
            results["next_state"] = graph.states
        for name, neurons in results.items():
            onnx.nodes.append(onnx.helper.make_node("Identity", [self.read(neurons)], [name]))
        return onnx.model(inputs, {name: len(held) for name, held in results.items()})

    def level(self, neurons: NDArray[Any]) -> None:
        """The neurons of one level, as blocks: those of a kind that share an in-list are dense."""
        graph = self.graph
        dense: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for j in neurons.tolist():
            sources = graph.sources[graph.starts[j] : graph.starts[j + 1]]
            kind = AGGREGATIONS[graph.aggregations[j]]
            shared = sources.tobytes() if kind in ("sum", "sumbias") else b""
            dense[int(graph.activations[j]), kind, graph.biases[j] != NONE, len(sources),
                  shared].append(j)
        rest: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for key, held in dense.items():
            if key[3] and key[4] and len(held) > 1:
                self.add(self.activated(key[0], self.gemm(np.array(held))), np.array(held))
            else:
                rest[key[:4]] += held
        for (code, kind, _, count), held in rest.items():
            at = np.array(held)
            made = self.reduced(kind, at, count) if count else self.constant(at)
            self.add(self.activated(code, made), at)

    def edges(self, neurons: Ints, count: int) -> NDArray[Any]:
        """Where the edges of neurons that have `count` each are (n, count)."""
        return self.graph.starts[neurons][:, None] + np.arange(count)

    def gemm(self, neurons: Ints) -> str:
        graph = self.graph
        first = neurons[0]
        sources = graph.sources[graph.starts[first] : graph.starts[first + 1]]
        weights = self.codes(graph.weights[self.edges(neurons, len(sources))])
        reads = [self.read(sources), weights]
        if graph.biases[first] != NONE:
            reads.append(self.codes(graph.biases[neurons]))
        return self.onnx.node("Gemm", *reads, transB=1)

    def constant(self, neurons: Ints) -> str:
        """Neurons without edges: their biases, for each sample of the batch."""
        node, n = self.onnx.node, len(neurons)
        batch = node("Shape", "x", start=0, end=1)
        shape = node("Concat", batch, self.onnx.fixed(np.array([n], np.int64)), axis=0)
        return node("Expand", self.codes(self.graph.biases[neurons]), shape)

    def reduced(self, kind: str, neurons: Ints, count: int) -> str:
        graph, node = self.graph, self.onnx.node
        edges = self.edges(neurons, count)
        size = edges_a_term(kind)
        products = self.of_edges(edges[:, ::size])
        codes = graph.weights[edges[:, ::size]]
        if (codes >= 0).any() or (self.table[codes] != 1.0).any():
            products = node("Mul", products, self.codes(codes))
        if size > 1:
            products = node("Mul", products, self.of_edges(edges[:, 1::size]))
        made = (self.in_turn(kind, products, count) if kind in ("maxabs", "div") else
                self.fold(REDUCE[kind], products))
        if graph.biases[neurons[0]] != NONE:
            made = node("Add", made, self.codes(graph.biases[neurons]))
        return made

    def of_edges(self, edges: NDArray[Any]) -> str:
        """What edges (n, count) read: (batch, n, count)."""
        held = self.read(self.graph.sources[edges].ravel())
        shape = self.onnx.fixed(np.array([-1, *edges.shape], np.int64))
        return self.onnx.node("Reshape", held, shape)

    def fold(self, op: str, products: str) -> str:
        """Over the last axis; up to opset 18 only ReduceSum has axes as an input."""
        if op == "ReduceSum":
            axes = self.onnx.fixed(np.array([2], np.int64))
            return self.onnx.node(op, products, axes, keepdims=0)
        return self.onnx.node(op, products, axes=[2], keepdims=0)

    def in_turn(self, kind: str, products: str, count: int) -> str:
        """Of (batch, n, count) the quotient, or what is greatest in magnitude, the first of
        equals."""
        if count > LONGEST:
            raise NccError("E401", f"a {kind} of {count} edges is not written as ONNX, only of "
                           f"{LONGEST}")
        node = self.onnx.node

        def each(k: int) -> str:
            return node("Gather", products, self.onnx.fixed(np.array(k, np.int64)), axis=2)

        acc = each(0)
        for k in range(1, count):
            one = each(k)
            if kind == "div":
                acc = node("Div", acc, one)
                continue
            more = node("Relu", node("Sign", node("Sub", node("Abs", one), node("Abs", acc))))
            rest = node("Sub", self.onnx.real(1.0), more)
            acc = node("Add", node("Mul", acc, rest), node("Mul", one, more))
        return acc

    def activated(self, code: int, h: str) -> str:
        made = self.onnx.act(name_of(code), h, exact=True) if code < FREE else None
        if made is None:
            made = emit(expression(code, self.graph.functions), Formula(self.onnx), h)
        return made


def onnx_model(graph: Graph) -> Any:
    """The ModelProto of an ordered graph. NccError E401 for a function that is not written as ONNX
    or a model beyond 2 GiB, E607 where a parameter has no value, E637 without onnx."""
    if 8 * (2 * graph.n_edges + graph.n_neurons) > LARGEST:
        raise NccError("E401", f"{graph.n_edges} edges are more than a file of ONNX holds")
    return _Exported(graph, graph.dtype or "f32").model()


def onnx_file(graph: Graph, lossy: bool = False) -> bytes:
    """The file, as `onnx_model`."""
    return bytes(onnx_model(graph).SerializeToString())
