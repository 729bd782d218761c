"""Other libraries computing the same net: what `ncc bench` compares with.

Each is imported when it is asked for and only then, and each gets what it likes best: weights
prepared, values (neurons, samples) row-major, functions in place, the samples in its own layout
before the clock runs. What it does is its own functions one layer after another, as a program of
that library would.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from ncc.bench.dense_layers import Array, Layer, Layers

Step = Callable[[Any], Any]
# Entries of all dense matrices that a peer may make: half a gigabyte of float32, and a quarter of
# what an ONNX file can hold.
DENSE = 1 << 27


class Unable(Exception):
    """This peer cannot compute this net; the message says why."""


@dataclass(frozen=True)
class Contender:
    """`call()` computes the batch; `result` makes (batch, outputs) of what it returned; `fmas` are
    those it executes for a sample, zeros counted where it multiplies them."""

    call: Callable[[], Any]
    result: Callable[[Any], Array]
    fmas: int


@dataclass(frozen=True)
class Peer:
    """`make(layers, x, threads, stack)`: x is (batch, inputs), or (inputs,) for one sample. What it
    changes in the process (a library's number of threads) `stack` undoes."""

    name: str
    needs: tuple[str, ...]
    make: Callable[[Layers, Array, int, ExitStack], Contender]

    def absent(self) -> str | None:
        """Which of its modules is not installed."""
        missing = [name for name in self.needs if find_spec(name) is None]
        return f"{' and '.join(missing)} not installed" if missing else None


# ---- numpy and scipy


def _sigmoid(h: Array) -> Array:
    np.negative(h, out=h)
    np.exp(h, out=h)
    h += 1
    return np.reciprocal(h, out=h)


def _softplus(h: Array) -> Array:
    return np.logaddexp(h, 0, out=h)


def _gelu_tanh(h: Array) -> Array:
    h *= 0.5 * (1 + np.tanh(0.79788456080286536 * (h + 0.044715 * h * h * h)))
    return h


def _times(h: Array, factor: Array) -> Array:
    h *= factor
    return h


def _expm1(h: Array, scale: float) -> Array:
    return np.where(h > 0, h, scale * np.expm1(np.minimum(h, 0)))


# Each may write over its argument.
NUMPY: dict[str, Step] = {
    "identity": lambda h: h,
    "sigmoid": _sigmoid,
    "tanh": lambda h: np.tanh(h, out=h),
    "relu": lambda h: np.maximum(h, 0, out=h),
    "silu": lambda h: _times(h, _sigmoid(h.copy())),
    "swish": lambda h: _times(h, _sigmoid(h.copy())),
    "leaky_relu": lambda h: np.maximum(h, h * h.dtype.type(0.01), out=h),
    "elu": lambda h: _expm1(h, 1.0),
    "selu": lambda h: 1.0507009873554805 * _expm1(h, 1.6732632423543772),
    "softplus": _softplus,
    "softsign": lambda h: np.divide(h, 1 + np.abs(h), out=h),
    "hard_sigmoid": lambda h: np.clip(h / 6 + 0.5, 0, 1),
    "exp": lambda h: np.exp(h, out=h),
    "log": lambda h: np.log(h, out=h),
    "abs": lambda h: np.abs(h, out=h),
    "square": lambda h: np.square(h, out=h),
    "cube": lambda h: _times(h, h * h),
    "sqrt": lambda h: np.sqrt(h, out=h),
    "rsqrt": lambda h: np.reciprocal(np.sqrt(h, out=h), out=h),
    "recip": lambda h: np.reciprocal(h, out=h),
    "sin": lambda h: np.sin(h, out=h),
    "cos": lambda h: np.cos(h, out=h),
    "gauss": lambda h: np.exp(-(h * h)),
    "step": lambda h: (h > 0).astype(h.dtype),
    "gelu_tanh": _gelu_tanh,
    "mish": lambda h: _times(h, np.tanh(_softplus(h.copy()))),
    "hard_swish": lambda h: _times(h, np.clip(h + 3, 0, 6) / 6),
    "relu6": lambda h: np.clip(h, 0, 6, out=h),
    "clip": lambda h: np.clip(h, -1, 1, out=h),
    "atan": lambda h: np.arctan(h, out=h),
}


def _scipy_functions() -> dict[str, Step]:
    special: Any = import_module("scipy.special")

    def gelu(h: Array) -> Array:
        return _times(h, (1 + special.erf(h * h.dtype.type(0.70710678118654752))) / 2)

    return NUMPY | {
        "sigmoid": lambda h: special.expit(h, out=h),
        "silu": lambda h: _times(h, special.expit(h)),
        "swish": lambda h: _times(h, special.expit(h)),
        "gelu": gelu,
        "erf": lambda h: special.erf(h, out=h),
    }


def _scipy_csr(layers: Layers, x: Array, threads: int, stack: ExitStack) -> Contender:
    """One thread: scipy has no more for a product."""
    sparse: Any = import_module("scipy.sparse")
    functions = _scipy_functions()

    def step(layer: Layer) -> Step:
        width = layer.high - layer.low
        matrix = sparse.csr_matrix((layer.weights, layer.columns, layer.starts),
                                   shape=(layer.rows, width))
        bias, act = _column(layer.bias, x), _act(layer, functions)

        def run(h: Any) -> Any:
            h = matrix @ h
            if bias is not None:
                h += bias
            return act(h)

        return run

    call = _evaluator(layers, [step(layer) for layer in layers.layers], _samples(x), np.empty)
    return Contender(call, np.transpose, layers.n_edges)


def _numpy_dense(layers: Layers, x: Array, threads: int, stack: ExitStack) -> Contender:
    if find_spec("threadpoolctl") is None:
        raise Unable("threadpoolctl not installed, which numpy's BLAS wants to be told its threads")
    pools: Any = import_module("threadpoolctl")
    stack.enter_context(pools.threadpool_limits(threads))
    _affordable(layers)

    def step(layer: Layer) -> Step:
        matrix, columns = layer.dense(), _gather(layer)
        bias, act = _column(layer.bias, x), _act(layer, NUMPY)

        def run(h: Any) -> Any:
            h = matrix @ (h if columns is None else h[columns])
            if bias is not None:
                h += bias
            return act(h)

        return run

    call = _evaluator(layers, [step(layer) for layer in layers.layers], _samples(x), np.empty)
    return Contender(call, np.transpose, layers.n_dense)


# ---- torch


def _torch(threads: int, stack: ExitStack) -> tuple[Any, dict[str, Step]]:
    torch: Any = import_module("torch")
    nn: Any = import_module("torch.nn.functional")
    stack.callback(torch.set_num_threads, torch.get_num_threads())
    torch.set_num_threads(threads)
    stack.enter_context(torch.no_grad())
    return torch, {
        "identity": lambda h: h,
        "sigmoid": torch.sigmoid_,
        "tanh": torch.tanh_,
        "relu": torch.relu_,
        "silu": lambda h: nn.silu(h, inplace=True),
        "gelu": nn.gelu,
        "swish": lambda h: nn.silu(h, inplace=True),
        "leaky_relu": lambda h: nn.leaky_relu(h, 0.01, inplace=True),
        "elu": lambda h: nn.elu(h, inplace=True),
        "selu": lambda h: nn.selu(h, inplace=True),
        "softplus": nn.softplus,
        "softsign": nn.softsign,
        "hard_sigmoid": lambda h: nn.hardsigmoid(h, inplace=True),
        "exp": torch.exp_,
        "log": torch.log_,
        "abs": torch.abs_,
        "square": torch.square_,
        "cube": lambda h: h.pow_(3),
        "sqrt": torch.sqrt_,
        "rsqrt": torch.rsqrt_,
        "recip": torch.reciprocal_,
        "sin": torch.sin_,
        "cos": torch.cos_,
        "gauss": lambda h: torch.exp_(torch.neg_(torch.square_(h))),
        "step": lambda h: h.gt_(0),
        "gelu_tanh": lambda h: nn.gelu(h, approximate="tanh"),
        "mish": lambda h: nn.mish(h, inplace=True),
        "hard_swish": lambda h: nn.hardswish(h, inplace=True),
        "relu6": lambda h: nn.relu6(h, inplace=True),
        "clip": lambda h: h.clamp_(-1, 1),
        "atan": torch.atan_,
        "erf": torch.erf_,
    }


def _torch_dense(layers: Layers, x: Array, threads: int, stack: ExitStack) -> Contender:
    torch, functions = _torch(threads, stack)
    _affordable(layers)

    def step(layer: Layer) -> Step:
        matrix = torch.from_numpy(layer.dense())
        gather = _gather(layer)
        columns = None if gather is None else torch.from_numpy(gather)
        return _torch_step(torch, matrix, columns, layer, x, _act(layer, functions))

    return _torch_contender(torch, layers, step, x, layers.n_dense)


def _torch_csr(layers: Layers, x: Array, threads: int, stack: ExitStack) -> Contender:
    torch, functions = _torch(threads, stack)

    def step(layer: Layer) -> Step:
        if not len(layer.columns):
            matrix = torch.zeros(layer.rows, layer.high - layer.low,
                                 dtype=getattr(torch, _NAMES[layers.dtype]))
        else:
            starts = layer.starts.astype(np.int32)  # the indices that MKL takes without a copy
            matrix = torch.sparse_csr_tensor(
                *[torch.from_numpy(a) for a in (starts, layer.columns, layer.weights)],
                size=(layer.rows, layer.high - layer.low))
        return _torch_step(torch, matrix, None, layer, x, _act(layer, functions))

    return _torch_contender(torch, layers, step, x, layers.n_edges)


_NAMES = {"f32": "float32", "f64": "float64"}


def _torch_step(torch: Any, matrix: Any, columns: Any, layer: Layer, x: Array, act: Step) -> Step:
    given = _column(layer.bias, x)
    bias = None if given is None else torch.from_numpy(given)
    add = torch.addmv if x.ndim == 1 else torch.addmm

    def run(h: Any) -> Any:
        if columns is not None:
            h = h[columns]
        return act(matrix @ h if bias is None else add(bias, matrix, h))

    return run


def _torch_contender(torch: Any, layers: Layers, step: Callable[[Layer], Step], x: Array,
                     fmas: int) -> Contender:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that CSR is in beta
        steps = [step(layer) for layer in layers.layers]
    kind = getattr(torch, _NAMES[layers.dtype])
    call = _evaluator(layers, steps, torch.from_numpy(_samples(x)),
                      lambda shape, dtype: torch.empty(shape, dtype=kind))
    return Contender(call, lambda y: np.transpose(y.numpy()), fmas)


# ---- onnxruntime

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
        self.dtype = np.dtype(_NAMES[dtype])
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


def _onnxruntime(layers: Layers, x: Array, threads: int, stack: ExitStack) -> Contender:
    """A matrix product and a function a layer, (samples, neurons): what its optimiser fuses."""
    runtime: Any = import_module("onnxruntime")
    _affordable(layers)
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


# ---- what they share


def _samples(x: Array) -> Array:
    """(neurons, samples) row-major, or the one sample."""
    return np.ascontiguousarray(x.T)


def _column(bias: Array | None, x: Array) -> Array | None:
    return bias if bias is None or x.ndim == 1 else bias[:, None]


def _affordable(layers: Layers) -> None:
    if layers.n_dense > DENSE:
        raise Unable("its dense matrices are too large")


def _gather(layer: Layer) -> Array | None:
    """The columns to pick of low .. high, None where it is all of them."""
    columns = layer.read()
    return None if len(columns) == layer.high - layer.low else columns


def _act(layer: Layer, functions: Mapping[str, Step]) -> Step:
    """The activations of a layer, as a function that may write over its argument."""
    for _, _, name in layer.pieces:
        if name not in functions:
            raise Unable(f"it has no {name}")
    acts = [(a, b, functions[name]) for a, b, name in layer.pieces]
    if len(acts) == 1:
        return acts[0][2]

    def pieces(h: Any) -> Any:
        for a, b, act in acts:
            h[a:b] = act(h[a:b])
        return h

    return pieces


def _evaluator(layers: Layers, steps: list[Step], x: Any, empty: Callable[..., Any]
               ) -> Callable[[], Any]:
    """All steps in order, y (outputs, samples). Where the net is no chain, values are rows of one
    array, and a layer reads a stretch of it; numpy and torch spell that alike."""
    outputs: Any = layers.outputs
    if layers.chain:
        last = layers.layers[-1]
        whole = np.array_equal(outputs, np.arange(last.rows))

        def chain() -> Any:
            h = x
            for step in steps:
                h = step(h)
            return h if whole else h[outputs]

        return chain
    values = empty((layers.n_positions, *x.shape[1:]), x.dtype)
    places = [(step, layer.low, layer.high, layer.first, layer.last)
              for step, layer in zip(steps, layers.layers, strict=True)]

    def anywhere() -> Any:
        values[: layers.n_inputs] = x
        for step, low, high, first, last in places:
            values[first:last] = step(values[low:high])
        return values[outputs]

    return anywhere


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("scipy-csr", ("scipy",), _scipy_csr),
        Peer("torch-csr", ("torch",), _torch_csr),
        Peer("torch-dense", ("torch",), _torch_dense),
        Peer("onnxruntime", ("onnxruntime", "onnx"), _onnxruntime),
        Peer("numpy-dense", ("numpy",), _numpy_dense),
    )
}
