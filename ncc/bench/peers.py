"""Other libraries computing the same net: what `ncc bench` compares with.

Each is imported when it is asked for and only then, and each gets what it likes best: weights
prepared, values (neurons, samples) row-major, functions in place, the samples in its own layout
before the clock runs. What it does is its own functions one layer after another, as a program of
that library would.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from ncc.bench.dense_layers import Array, Layer, Layers
from ncc.bench.peer import (
    NUMPY_NAMES,
    Contender,
    Peer,
    Step,
    Unable,
    activations_of,
    affordable,
    column_of,
    evaluator,
    gather_of,
    samples_of,
)
from ncc.bench.peer_onnx import onnxruntime

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
        bias, act = column_of(layer.bias, x), activations_of(layer, functions)

        def run(h: Any) -> Any:
            h = matrix @ h
            if bias is not None:
                h += bias
            return act(h)

        return run

    call = evaluator(layers, [step(layer) for layer in layers.layers], samples_of(x), np.empty)
    return Contender(call, np.transpose, layers.n_edges)


def _numpy_dense(layers: Layers, x: Array, threads: int, stack: ExitStack) -> Contender:
    if find_spec("threadpoolctl") is None:
        raise Unable("threadpoolctl not installed, which numpy's BLAS wants to be told its threads")
    pools: Any = import_module("threadpoolctl")
    stack.enter_context(pools.threadpool_limits(threads))
    affordable(layers)

    def step(layer: Layer) -> Step:
        matrix, columns = layer.dense(), gather_of(layer)
        bias, act = column_of(layer.bias, x), activations_of(layer, NUMPY)

        def run(h: Any) -> Any:
            h = matrix @ (h if columns is None else h[columns])
            if bias is not None:
                h += bias
            return act(h)

        return run

    call = evaluator(layers, [step(layer) for layer in layers.layers], samples_of(x), np.empty)
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
    affordable(layers)

    def step(layer: Layer) -> Step:
        matrix = torch.from_numpy(layer.dense())
        gather = gather_of(layer)
        columns = None if gather is None else torch.from_numpy(gather)
        return _torch_step(torch, matrix, columns, layer, x, activations_of(layer, functions))

    return _torch_contender(torch, layers, step, x, layers.n_dense)


def _torch_csr(layers: Layers, x: Array, threads: int, stack: ExitStack) -> Contender:
    torch, functions = _torch(threads, stack)

    def step(layer: Layer) -> Step:
        if not len(layer.columns):
            matrix = torch.zeros(layer.rows, layer.high - layer.low,
                                 dtype=getattr(torch, NUMPY_NAMES[layers.dtype]))
        else:
            starts = layer.starts.astype(np.int32)  # the indices that MKL takes without a copy
            matrix = torch.sparse_csr_tensor(
                *[torch.from_numpy(a) for a in (starts, layer.columns, layer.weights)],
                size=(layer.rows, layer.high - layer.low))
        return _torch_step(torch, matrix, None, layer, x, activations_of(layer, functions))

    return _torch_contender(torch, layers, step, x, layers.n_edges)



def _torch_step(torch: Any, matrix: Any, columns: Any, layer: Layer, x: Array, act: Step) -> Step:
    given = column_of(layer.bias, x)
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
    kind = getattr(torch, NUMPY_NAMES[layers.dtype])
    call = evaluator(layers, steps, torch.from_numpy(samples_of(x)),
                     lambda shape, dtype: torch.empty(shape, dtype=kind))
    return Contender(call, lambda y: np.transpose(y.numpy()), fmas)


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("scipy-csr", ("scipy",), _scipy_csr),
        Peer("torch-csr", ("torch",), _torch_csr),
        Peer("torch-dense", ("torch",), _torch_dense),
        Peer("onnxruntime", ("onnxruntime", "onnx"), onnxruntime),
        Peer("numpy-dense", ("numpy",), _numpy_dense),
    )
}
