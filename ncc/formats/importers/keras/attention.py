"""Keras's attention layers, over (steps, features), and EinsumDense."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ncc.formats.importers.tensors import attention as attend
from ncc.formats.importers.tensors import contraction, elementwise
from ncc.formats.importers.tensors.net import ABSENT, Neurons, Tensor, Weights


def multi_head(layer: Any, query: Neurons, value: Any = None, key: Any = None,
               use_causal_mask: bool = False) -> Tensor:
    """Heads of softmax(q k^T / sqrt(key_dim)) v, each of projections of its own."""
    value = query if value is None else value
    key = value if key is None else key
    if any(len(held.shape) != 2 for held in (query, value, key)):
        raise layer.fault("E813", "attention over more than one axis")
    for name in ("sliding_window", "use_gate"):
        if layer.config.value.get(name):
            raise layer.fault("E813", name)
    heads, size = layer.integer("num_heads"), layer.integer("key_dim")
    width = layer.integer("value_dim", size)
    biased = layer.flag("use_bias", True)
    steps, keys = query.shape[0], value.shape[0]
    layer.fits(steps * keys * heads * (2 * size + 2 * width))

    def projected(what: str, x: Neurons, each: int) -> Neurons:
        """(steps, features) to (heads, steps, each)."""
        shapes = {"kernel": (x.shape[-1], heads, each)} | (
            {"bias": (heads, each)} if biased else {})
        layer.fits(prod(x.shape) * heads * each)
        kernel, *bias = layer.weights(shapes, f"{what}_dense", what)
        made = contraction.linear(
            layer.net, x, kernel.moved(lambda h: h.reshape(len(h), -1).T),
            *[held.moved(np.ravel) for held in bias])
        return Neurons(made.moved(lambda h: h.reshape(len(h), heads, each)).ids.swapaxes(0, 1))  # type: ignore[union-attr]

    q, k, v = (projected(what, x, each) for what, x, each in (
        ("query", query, size), ("key", key, size), ("value", value, width)))
    mask = np.triu(np.full((steps, keys), -np.inf), 1) if use_causal_mask else None
    made = attend.attention(layer.net, q, k, v, scale=size ** -0.5, mask=mask)
    held = layer.config.value.get("output_shape")
    shape = ([query.shape[-1]] if held is None else [held] if isinstance(held, int)
             else [each.integer() for each in layer.config["output_shape"]])
    shapes = {"kernel": (heads, width, *shape)} | ({"bias": tuple(shape)} if biased else {})
    kernel, *bias = layer.weights(shapes, "output_dense", "attention_output")
    out = contraction.linear(
        layer.net, made.moved(lambda h: h.swapaxes(0, 1).reshape(steps, heads * width)),
        kernel.moved(lambda h: h.reshape(heads * width, -1).T),
        *[held.moved(np.ravel) for held in bias])
    return out.moved(lambda h: h.reshape(steps, *shape))


def attention(layer: Any, tensors: list[Neurons], use_causal_mask: bool = False) -> Tensor:
    """softmax(scale q k^T) v of [q, v, k]."""
    q, v, k = _three(layer, tensors)
    layer.word("score_mode", "dot", ("dot",))
    layer.fits(q.shape[0] * v.shape[0] * 2 * (q.shape[1] + v.shape[1]))
    if layer.flag("use_scale", False):
        (scale,) = layer.weights({"scale": ()})
        q = elementwise.binary(layer.net, "mul", q, scale)  # type: ignore[assignment]
    mask = (np.triu(np.full((len(q.ids), len(v.ids)), -np.inf), 1) if use_causal_mask else None)
    return attend.attention(layer.net, q, k, v, scale=1.0, mask=mask)


def additive(layer: Any, tensors: list[Neurons], use_causal_mask: bool = False) -> Tensor:
    """softmax(sum of scale tanh(q + k)) v of [q, v, k]."""
    q, v, k = _three(layer, tensors)
    layer.fits(q.shape[0] * v.shape[0] * (2 * q.shape[1] + 2 * v.shape[1]))
    scale = layer.weights({"scale": (q.shape[-1],)})[0] if layer.flag("use_scale", True) else (
        Weights(np.ones(q.shape[-1])))
    made = attend.additive(layer.net, q, k, scale)
    if use_causal_mask:
        made = Neurons(np.where(np.tri(*made.shape, dtype=np.bool_), made.ids, np.int32(ABSENT)))
    return contraction.matmul(layer.net, elementwise.softmax(layer.net, made), v)


def _three(layer: Any, tensors: Any) -> tuple[Neurons, Neurons, Neurons]:
    if not isinstance(tensors, list) or not 2 <= len(tensors) <= 3 or any(
            len(held.shape) != 2 for held in tensors):
        raise ValueError("it wants [query, value] or [query, value, key], of (steps, features)")
    q, v, *k = (layer.net.neurons(held) for held in tensors)
    return q, v, k[0] if k else v


def einsum_dense(layer: Any, x: Neurons) -> Any:
    """Of an equation whose kernel begins with the last axes of x, as "abc,cd->abd"."""
    equation = layer.config["equation"].text().replace(" ", "").replace("...", "~")
    left, arrow, result = equation.partition("->")
    of_x, comma, of_w = left.partition(",")
    shared = [letter for letter in of_w if letter in of_x]
    count = len(shared)
    if (not arrow or not comma or not count or of_x[-count:] != of_w[:count]
            or result != of_x[:-count] + of_w[count:] or len(of_x) == count):
        raise layer.fault("E813", f"the equation {equation[:60]!r}")
    shape = layer.config["output_shape"].value
    outer = (shape if isinstance(shape, list) else [shape])[-(len(of_w) - count):]
    if any(not isinstance(size, int) or size < 1 for size in outer) or len(outer) != (
            len(of_w) - count):
        raise layer.fault("E813", f"output_shape is {str(shape)[:40]}")
    inner = x.shape[len(x.shape) - count :]
    shapes: dict[str, tuple[int, ...]] = {"kernel": (*inner, *outer)}
    if axes := layer.config.value.get("bias_axes"):
        if not isinstance(axes, str) or not result.endswith(axes) or len(axes) > len(outer):
            raise layer.fault("E813", f"bias_axes is {str(axes)[:40]!r}")
        shapes["bias"] = tuple(outer[-len(axes):])
    layer.fits(prod(x.shape) * prod(outer))
    kernel, *bias = layer.weights(shapes)
    lead, k = x.shape[: len(x.shape) - count], prod(inner)
    flat = [held.moved(lambda h: np.broadcast_to(h, outer).ravel()) for held in bias]
    made = contraction.linear(layer.net, Neurons(x.ids.reshape(*lead, k)),
                              kernel.moved(lambda h: h.reshape(k, -1).T), *flat)
    return layer.activated(made.moved(lambda h: h.reshape(*lead, *outer)))
