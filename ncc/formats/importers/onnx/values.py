"""What the values of a model are: neurons, weights, arrays of what is no real."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ncc.formats.importers.onnx.evaluate import Node, library
from ncc.formats.importers.tensors.net import ABSENT, Neurons, Weights


def data_inputs(node: Node, count: int) -> range:
    """Which inputs of a node that moves are what it moves."""
    if node.kind == "Concat":
        return range(count)
    if node.kind == "Where":
        return range(1, 3)
    if node.kind.startswith("Scatter"):
        return range(0, 3, 2)
    return range(0, count, 2) if node.kind == "Pad" and count > 2 else range(1)


def masked(held: Any) -> bool:
    """Whether elements are -inf."""
    return isinstance(held, Neurons) and bool((held.ids == ABSENT).any())


def inner_names(proto: Any) -> Iterator[str]:
    """What the graphs inside a node read."""
    for held in proto.attribute:
        for graph in (held.g, *held.graphs):
            for inner in graph.node:
                yield from inner.input
                yield from inner_names(inner)
            yield from (one.name for one in graph.output)


def is_real(held: Any) -> bool:
    dtype = getattr(held, "dtype", None)
    return dtype is not None and (dtype.kind == "f" or dtype.name == "bfloat16")


def plain(held: Any) -> Any:
    """A constant as an array."""
    if isinstance(held, list):
        return [plain(one) for one in held]
    return held.values if isinstance(held, Weights) else held


def kind_of(held: Any) -> tuple[int, Any]:
    """Element type and shape, for a function that depends on them."""
    if isinstance(held, Neurons | Weights):
        return 1, held.shape
    held = np.asarray(held)
    return library("onnx.helper").np_dtype_to_tensor_dtype(held.dtype), held.shape


def made_size(node: Node, inputs: list[Any]) -> float:
    """How many elements a node makes of a few numbers; 0 of one that does not."""
    def numbers(k: int) -> Any:
        held = inputs[k] if k < len(inputs) else None
        return None if held is None or isinstance(held, Neurons) else np.asarray(
            plain(held), np.float64).ravel()

    size = float(np.prod(inputs[0].shape, dtype=np.float64)) if inputs and hasattr(
        inputs[0], "shape") else 0.0
    first, second = numbers(0), numbers(1)
    if node.kind == "ConstantOfShape" and first is not None:
        return float(np.prod(first))
    if node.kind in ("Expand", "Tile", "CenterCropPad") and second is not None:
        return float(np.prod(second)) * (size if node.kind == "Tile" else 1.0)
    if node.kind == "Range" and first is not None and second is not None:
        step = numbers(2)
        return float(np.nan_to_num(np.abs((second - first) / step).max(initial=0.0)))
    if node.kind == "OneHot" and second is not None:
        return float(second.max(initial=0.0)) * size
    if node.kind == "Pad":
        pads = np.array(node.attrs.get("pads", second), np.float64).ravel()
        shape = np.array(inputs[0].shape, np.float64)
        if len(pads) == 2 * len(shape):
            return float(np.prod(shape + pads[: len(shape)] + pads[len(shape) :]))
        return size * float(np.prod(1 + np.abs(pads)))
    if node.kind in ("Resize", "Upsample"):
        scales = [numbers(k) for k in range(1, len(inputs))] + [node.attrs.get("scales")]
        rates = [float(np.prod(held)) * (1.0 if k == 2 else size)
                 for k, held in enumerate(scales) if held is not None and len(held)
                 and (k != 0 or len(inputs) < 3)]
        return max(rates, default=0.0)
    return 0.0
