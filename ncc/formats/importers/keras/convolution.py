"""Keras's convolutions and pools. Arrays have no batch axis, and channels last."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ncc.formats.importers.tensors import contraction, elementwise
from ncc.formats.importers.tensors.net import Neurons, Tensor, Weights

Border = list[tuple[int, int]]


def conv(dims: int, layer: Any, x: Neurons) -> Any:
    layer.channels_last()
    kernel, groups = layer.sizes("kernel_size", dims), layer.integer("groups", 1)
    filters, channels = layer.integer("filters"), x.shape[-1]
    shapes = {"kernel": (*kernel, channels // groups, filters)}
    w, *bias = layer.weights(shapes | _bias(layer, filters))
    return layer.activated(_convolved(layer, x, _turned(w), bias, groups))


def depthwise(dims: int, layer: Any, x: Neurons) -> Any:
    layer.channels_last()
    kernel, each = layer.sizes("kernel_size", dims), layer.integer("depth_multiplier", 1)
    channels = x.shape[-1]
    shapes = {"kernel|depthwise_kernel": (*kernel, channels, each)}
    w, *bias = layer.weights(shapes | _bias(layer, channels * each))
    return layer.activated(_convolved(layer, x, _apart(w), bias, channels))


def separable(dims: int, layer: Any, x: Neurons) -> Any:
    layer.channels_last()
    kernel, each = layer.sizes("kernel_size", dims), layer.integer("depth_multiplier", 1)
    channels, filters = x.shape[-1], layer.integer("filters")
    shapes = {"depthwise_kernel": (*kernel, channels, each),
              "pointwise_kernel": (*[1] * dims, channels * each, filters)}
    w, point, *bias = layer.weights(shapes | _bias(layer, filters))
    inner = _convolved(layer, x, _apart(w), [], channels)
    layer.fits(prod(inner.shape) * filters)
    flat = point.moved(lambda held: held.reshape(channels * each, filters).T)
    return layer.activated(contraction.linear(layer.net, inner, flat, *bias))


def transposed(dims: int, layer: Any, x: Neurons) -> Any:
    layer.channels_last()
    kernel, stride = layer.sizes("kernel_size", dims), layer.sizes("strides", dims, 1)
    dilation, filters = layer.sizes("dilation_rate", dims, 1), layer.integer("filters")
    if layer.integer("groups", 1) != 1:
        raise layer.fault("E813", "groups")
    w, *bias = layer.weights({"kernel": (*kernel, filters, x.shape[-1])} | _bias(layer, filters))
    border = []
    same = layer.word("padding", "valid", ("valid", "same")) == "same"
    more = ([None] * dims if not layer.has("output_padding") else
            [each.integer() for each in layer.config["output_padding"]]
            if isinstance(layer.config["output_padding"].value, list)
            else [layer.integer("output_padding", None, 0)] * dims)
    for k, s, d, extra in zip(kernel, stride, dilation, more, strict=True):
        reach = (k - 1) * d + 1
        low, high = _margins(reach, s, same, extra)
        border.append((reach - 1 - low, reach - 1 - high))
    layer.fits(prod(x.shape) * filters * prod(kernel))
    layer.fits(prod(size * s for size, s in zip(x.shape, stride, strict=False)) * x.shape[-1]
               * filters)
    made = contraction.conv_transposed(
        layer.net, _channels_first(x), w.moved(lambda h: np.moveaxis(h, (-1, -2), (0, 1))),
        bias[0] if bias else None, stride=stride, padding=border, dilation=dilation)
    return layer.activated(_channels_last(made))


def _margins(reach: int, stride: int, same: bool, extra: int | None) -> tuple[int, int]:
    """The border of the input, spread by the stride, before and behind (as Keras has it for JAX:
    what all its backends are to compute)."""
    if not same:
        more = max(reach, stride) - reach if extra is None else extra
        return reach - 1, reach - 1 + more
    total = stride + reach - 2 if extra is None else reach + reach % 2 - 2 + extra
    low = min(total // 2 + total % 2, reach - 1)
    return low, total - low


def pool(dims: int, how: str, layer: Any, x: Neurons) -> Neurons:
    layer.channels_last()
    kernel = layer.sizes("pool_size", dims)
    stride = layer.sizes("strides", dims) if layer.has("strides") else kernel
    border = _border(layer, x, kernel, stride, [1] * dims, ("valid", "same"))
    layer.fits(_places(x, kernel, stride, border) * x.shape[-1] * prod(kernel))
    return _channels_last(contraction.pool(
        layer.net, _channels_first(layer.net.neurons(x)), how, kernel, stride=stride,
        padding=border, counts_border=False))


def global_pool(dims: int, how: str, layer: Any, x: Neurons) -> Tensor:
    layer.channels_last()
    return elementwise.reduce(layer.net, x, tuple(range(dims)), how, layer.flag("keepdims", False))


def _bias(layer: Any, filters: int) -> dict[str, tuple[int, ...]]:
    return {"bias": (filters,)} if layer.flag("use_bias", True) else {}


def _turned(w: Weights) -> Weights:
    """Filters (*kernel, in, out) as (out, in, *kernel)."""
    return w.moved(lambda held: np.moveaxis(held, (-1, -2), (0, 1)))


def _apart(w: Weights) -> Weights:
    """Filters (*kernel, channels, each) as (channels * each, 1, *kernel)."""
    return w.moved(lambda held: np.moveaxis(held.reshape(*held.shape[:-2], -1), -1, 0)[:, None])


def _convolved(layer: Any, x: Neurons, w: Weights, bias: list[Weights], groups: int) -> Neurons:
    dims = len(x.shape) - 1
    kernel = list(w.shape[2:])
    stride, dilation = layer.sizes("strides", dims, 1), layer.sizes("dilation_rate", dims, 1)
    words = ("valid", "same", "causal") if dims == 1 else ("valid", "same")
    border = _border(layer, x, kernel, stride, dilation, words)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    layer.fits(_places(x, reach, stride, border) * prod(w.shape))
    return _channels_last(contraction.conv(
        layer.net, _channels_first(x), w, bias[0] if bias else None, stride=stride, padding=border,
        dilation=dilation, groups=groups))


def _places(x: Neurons, reach: list[int], stride: list[int], border: Border) -> int:
    """At how many places a window may stand. ValueError where at none."""
    counts = [(size + low + high - k) // s + 1 for size, k, s, (low, high) in zip(
        x.shape, reach, stride, border, strict=False)]
    if min(counts) < 1:
        raise ValueError(f"a window of {reach} in {x.shape[:-1]}")
    return prod(counts)


def _border(layer: Any, x: Neurons, kernel: list[int], stride: list[int], dilation: list[int],
            words: tuple[str, ...]) -> Border:
    """Of `same` as much as makes ceil(size / stride) places, the smaller half before; of `causal`
    all of it before."""
    how = layer.word("padding", "valid", words)
    found: Border = []
    for size, k, s, d in zip(x.shape, kernel, stride, dilation, strict=False):
        reach = (k - 1) * d + 1
        total = 0 if how == "valid" else max((-(-size // s) - 1) * s + reach - size, 0)
        found.append((reach - 1, 0) if how == "causal" else (total // 2, total - total // 2))
    return found


def _channels_first(x: Neurons) -> Neurons:
    return x.moved(lambda ids: np.moveaxis(ids, -1, 0))


def _channels_last(x: Neurons) -> Neurons:
    return x.moved(lambda ids: np.moveaxis(ids, 0, -1))
