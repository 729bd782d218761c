"""The peer onnxruntime: the net as an ONNX model."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from typing import Any

import numpy as np

from ncc.bench.dense_layers import Array, Layers
from ncc.bench.peer import DENSE, Contender, Unable, affordable
from ncc.formats.exporters.onnx_graph import OnnxGraph

_OPSET = 20  # the first with Gelu


def onnxruntime(layers: Layers, x: Array, threads: int, stack: ExitStack) -> Contender:
    """A matrix product and a function a layer, (samples, neurons): what its optimiser fuses."""
    runtime: Any = import_module("onnxruntime")
    import_module("onnx")  # which writes the model
    affordable(layers)
    graph = OnnxGraph(layers.dtype, _OPSET)
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
            made = graph.act(name, graph.node("Gemm", *reads, transB=1))
            if made is None:
                raise Unable(f"it has no {name}")
            parts.append(made)
        out = parts[0] if len(parts) == 1 else graph.node("Concat", *parts, axis=1)
        blocks.append((layer.first, layer.last, out))
    first = blocks[-1][0] if layers.chain else 0
    positions = layers.outputs + first
    if layers.chain and np.array_equal(layers.outputs, np.arange(blocks[-1][1] - first)):
        y = blocks[-1][2]
    else:
        every = graph.node("Concat", *[b[2] for b in blocks], axis=1)
        y = graph.node("Gather", every, graph.constant(positions), axis=1)
    model = graph.model({"x": layers.n_inputs}, {y: len(layers.outputs)}).SerializeToString()
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
