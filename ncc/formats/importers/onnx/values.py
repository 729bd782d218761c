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
