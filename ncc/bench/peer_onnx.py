"""The peer onnxruntime: the net as an ONNX model."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from typing import Any

import numpy as np

from ncc.bench.dense_layers import Array, Layers
from ncc.bench.peer import DENSE, NUMPY_NAMES, Contender, Unable, affordable

# One operator each, with its attributes, its further arguments, and the opset that has it.
_ONNX: dict[str, tuple[str, dict[str, Any], tuple[float, ...]]] = {
    "sigmoid": ("Sigmoid", {}, ()),
    "tanh": ("Tanh", {}, ()),
    "relu": ("Relu", {}, ()),
    "gelu": ("Gelu", {}, ()),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.01}, ()),
    "elu": ("Elu", {}, ()),
    "selu": ("Selu", {}, ()),
    "softplus": ("Softplus", {}, ()),
    "softsign": ("Softsign", {}, ()),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, ()),
    "exp": ("Exp", {}, ()),
    "log": ("Log", {}, ()),
    "abs": ("Abs", {}, ()),
    "sqrt": ("Sqrt", {}, ()),
    "recip": ("Reciprocal", {}, ()),
    "square": ("Pow", {}, (2.0,)),
    "cube": ("Pow", {}, (3.0,)),
    "sin": ("Sin", {}, ()),
    "cos": ("Cos", {}, ()),
    "gelu_tanh": ("Gelu", {"approximate": "tanh"}, ()),
    "mish": ("Mish", {}, ()),
    "hard_swish": ("HardSwish", {}, ()),
    "relu6": ("Clip", {}, (0.0, 6.0)),
    "clip": ("Clip", {}, (-1.0, 1.0)),
    "atan": ("Atan", {}, ()),
    "erf": ("Erf", {}, ()),
}
_OPSET = 20  # the first with Gelu


class _OnnxGraph:
    """Nodes and constants under way; a value is its name."""

    def __init__(self, dtype: str) -> None:
        self.helper: Any = import_module("onnx.helper")
        self.from_array: Any = import_module("onnx.numpy_helper").from_array
        self.dtype = np.dtype(NUMPY_NAMES[dtype])
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(self.from_array(array, name))
        return name

    def node(self, op: str, *reads: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(op, list(reads), [name], **attributes))
        return name

    def act(self, name: str, h: str) -> str:
        if name == "identity":
            return h
        if name in ("silu", "swish"):
            return self.node("Mul", h, self.node("Sigmoid", h))
        if name not in _ONNX:
            raise Unable(f"it has no {name}")
        op, attributes, more = _ONNX[name]
        rest = [self.constant(np.array(v, self.dtype)) for v in more]
        return self.node(op, h, *rest, **attributes)


def onnxruntime(layers: Layers, x: Array, threads: int, stack: ExitStack) -> Contender:
    """A matrix product and a function a layer, (samples, neurons): what its optimiser fuses."""
    runtime: Any = import_module("onnxruntime")
    affordable(layers)
    graph = _OnnxGraph(layers.dtype)
    blocks = [(0, layers.n_inputs, "x")]  # positions, and the value that holds them
    fmas = 0
    for layer in layers.layers:
        if not len(layer.columns):
            raise Unable("the net has constant neurons")
        read = [b for b in blocks if b[0] < layer.high and b[1] > layer.low]
        h = read[0][2] if len(read) == 1 else graph.node("Concat", *[b[2] for b in read], axis=1)
        matrix = np.zeros((layer.rows, read[-1][1] - read[0][0]), layer.weights.dtype)
        at = layer.read() + layer.low - read[0][0]
        matrix[:, at] = layer.dense()
        fmas += matrix.size
        if fmas > DENSE:
            raise Unable("its dense matrices are too large")
        parts = []
        for a, b, name in layer.pieces:
            reads = [h, graph.constant(np.ascontiguousarray(matrix[a:b]))]
            if layer.bias is not None:
                reads.append(graph.constant(layer.bias[a:b]))
            parts.append(graph.act(name, graph.node("Gemm", *reads, transB=1)))
        out = parts[0] if len(parts) == 1 else graph.node("Concat", *parts, axis=1)
        blocks.append((layer.first, layer.last, out))
    first = blocks[-1][0] if layers.chain else 0
    positions = layers.outputs + first
    if layers.chain and np.array_equal(layers.outputs, np.arange(blocks[-1][1] - first)):
        y = blocks[-1][2]
    else:
        every = graph.node("Concat", *[b[2] for b in blocks], axis=1)
        y = graph.node("Gather", every, graph.constant(positions), axis=1)
    model = _onnx_model(graph, y, layers)
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    # Its threads would spin on while others are timed.
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    session = runtime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    given = {"x": np.ascontiguousarray(np.atleast_2d(x))}

    def result(y: Any) -> Array:
        array: Array = y[0]
        return array if x.ndim == 2 else array[0]

    return Contender(lambda: session.run(None, given), result, fmas)


def _onnx_model(graph: _OnnxGraph, y: str, layers: Layers) -> Any:
    helper = graph.helper
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    named = helper.make_graph(
        graph.nodes, "net", [helper.make_tensor_value_info("x", kind, [None, layers.n_inputs])],
        [helper.make_tensor_value_info(y, kind, [None, len(layers.outputs)])], graph.constants)
    model = helper.make_model(named, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = 9  # of that opset: older runtimes read it, too
    return model.SerializeToString()
