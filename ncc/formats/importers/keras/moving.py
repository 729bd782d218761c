"""Keras's layers that move elements, and those that merge tensors."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ncc.formats.importers.tensors import contraction, elementwise
from ncc.formats.importers.tensors.net import ZERO, Neurons, Tensor


def unchanged(layer: Any, x: Tensor) -> Tensor:
    """What does nothing when a net is only evaluated."""
    return x


def flatten(layer: Any, x: Tensor) -> Tensor:
    layer.channels_last()
    return x.moved(np.ravel)


def reshape(layer: Any, x: Tensor) -> Tensor:
    shape = [each.integer() for each in layer.config["target_shape"]]
    return x.moved(lambda held: held.reshape(shape))


def permute(layer: Any, x: Tensor) -> Tensor:
    dims = [each.integer() - 1 for each in layer.config["dims"]]
    if sorted(dims) != list(range(len(x.shape))):
        raise ValueError(f"dims {[k + 1 for k in dims]} of a tensor of shape {x.shape}")
    return x.moved(lambda held: np.transpose(held, dims))


def repeat_vector(layer: Any, x: Tensor) -> Tensor:
    times = layer.integer("n")
    _large(layer, times * prod(x.shape))
    return x.moved(lambda held: np.repeat(held[None], times, 0))


def padded(dims: int, layer: Any, x: Neurons) -> Neurons:
    layer.channels_last()
    pairs = _pairs(layer, "padding", dims)
    _large(layer, prod(size + sum(pair) for size, pair in zip(x.shape, pairs, strict=False))
           * x.shape[-1])
    return Neurons(np.pad(x.ids, [*pairs, (0, 0)], constant_values=ZERO))


def cropped(dims: int, layer: Any, x: Tensor) -> Tensor:
    layer.channels_last()
    pairs = _pairs(layer, "cropping", dims)
    if any(sum(pair) >= size for size, pair in zip(x.shape, pairs, strict=False)):
        raise ValueError(f"a cropping of {pairs} of a tensor of shape {x.shape}")
    at = tuple(slice(low, size - high) for size, (low, high) in zip(x.shape, pairs, strict=False))
    return x.moved(lambda held: held[at])


def up_sampled(dims: int, layer: Any, x: Tensor) -> Tensor:
    layer.channels_last()
    layer.word("interpolation", "nearest", ("nearest",))
    sizes = layer.sizes("size", dims)
    _large(layer, prod(x.shape) * prod(sizes))
    for axis, times in enumerate(sizes):
        x = x.moved(lambda held, axis=axis, times=times: np.repeat(held, times, axis))  # type: ignore[misc]
    return x


def _pairs(layer: Any, key: str, dims: int) -> list[tuple[int, int]]:
    """How much lies before and behind, an axis: 1, [1, 2] (of one axis a pair, of more each on both
    sides), [[1, 2], [0, 1]]."""
    held = layer.config[key]
    value = held.value
    found: Any = [value] * dims if isinstance(value, int) else value
    if dims == 1 and isinstance(found, list) and len(found) == 2 and all(
            isinstance(each, int) for each in found):
        found = [found]
    if isinstance(found, list) and len(found) == dims:
        found = [[each, each] if isinstance(each, int) else each for each in found]
        if all(isinstance(pair, list) and len(pair) == 2 and all(
                isinstance(each, int) and 0 <= each < 2**24 for each in pair) for pair in found):
            return [(int(low), int(high)) for low, high in found]
    raise layer.fault("E813", f"{key} is {str(value)[:40]}")


def _large(layer: Any, count: int) -> None:
    if count > 2**25:
        raise layer.fault("E819", f"its output has {count} elements, and {2**25} are the most")


# -- merging

def _several(layer: Any, tensors: tuple[Any, ...]) -> list[Tensor]:
    """Of one argument, a list, or of several."""
    found = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], list) else list(tensors)
    if len(found) < 2:
        raise ValueError(f"{len(found)} tensors, and two at least are merged")
    if len({len(tensor.shape) for tensor in found}) > 1:
        raise ValueError("tensors of " + ", ".join(str(t.shape) for t in found))
    return list(found)


def merged(op: str, layer: Any, *tensors: Any) -> Tensor:
    found = _several(layer, tensors)
    if op == "sub" and len(found) != 2:
        raise ValueError(f"{len(found)} tensors, and two are subtracted")
    made = found[0]
    for each in found[1:]:
        made = elementwise.binary(layer.net, op, made, each)
    return made


def average(layer: Any, *tensors: Any) -> Tensor:
    found = _several(layer, tensors)
    wide = [layer.net.neurons(each).ids for each in found]
    made: Tensor = layer.net.sum_of(np.stack(np.broadcast_arrays(*wide), -1), aggregation="mean")
    return made


def concatenate(layer: Any, *tensors: Any) -> Tensor:
    found = _several(layer, tensors)
    (axis,) = layer.axes("axis", len(found[0].shape))
    return elementwise.concatenated(layer.net, found, axis)


def dot(layer: Any, *tensors: Any) -> Tensor:
    """Sums of products over an axis of each: the other axes of the first, then of the second."""
    a, b = _several(layer, tensors)
    if layer.flag("normalize", False):
        raise layer.fault("E813", "normalize")
    rank = len(a.shape)
    held = layer.config["axes"].value
    ends = layer.axes("axes", rank)
    if len(ends) != 2:
        ends *= 2
    if isinstance(held, list) and len(held) != 2:
        raise layer.fault("E813", f"axes {held}")
    left, right = (each.moved(lambda h, end=end: np.moveaxis(h, end, -1))  # type: ignore[misc]
                   for each, end in zip((a, b), ends, strict=True))
    if left.shape[-1] != right.shape[-1]:
        raise ValueError(f"axes of {left.shape[-1]} and {right.shape[-1]} elements")
    rows, columns = left.shape[:-1], right.shape[:-1]
    k = left.shape[-1]
    layer.fits(prod(rows) * prod(columns) * k * 3)
    made = contraction.matmul(layer.net, left.moved(lambda h: h.reshape(-1, k)),
                              right.moved(lambda h: h.reshape(-1, k).T))
    return made.moved(lambda h: h.reshape(*rows, *columns) if rows or columns else h.reshape(1))
