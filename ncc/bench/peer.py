"""What a peer is, and what peers share: activations of a layer, layers one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from ncc.bench.dense_layers import Array, Layer, Layers

NUMPY_NAMES = {"f32": "float32", "f64": "float64"}
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


def samples_of(x: Array) -> Array:
    """(neurons, samples) row-major, or the one sample."""
    return np.ascontiguousarray(x.T)


def column_of(bias: Array | None, x: Array) -> Array | None:
    return bias if bias is None or x.ndim == 1 else bias[:, None]


def affordable(layers: Layers) -> None:
    if layers.n_dense > DENSE:
        raise Unable("its dense matrices are too large")


def gather_of(layer: Layer) -> Array | None:
    """The columns to pick of low .. high, None where it is all of them."""
    columns = layer.read()
    return None if len(columns) == layer.high - layer.low else columns


def activations_of(layer: Layer, functions: Mapping[str, Step]) -> Step:
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


def evaluator(layers: Layers, steps: list[Step], x: Any, empty: Callable[..., Any]
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
