"""Normalizations: by running statistics, or by those of the sample itself."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.formats.importers.tensors.elementwise import binary
from ncc.formats.importers.tensors.net import Neurons, Tensor, TensorNet, Weights
from ncc.ir.graph import Ints


def batch_norm(net: TensorNet, x: Neurons, mean: Weights, variance: Weights,
               scale: Weights | None, shift: Weights | None, eps: float, name: str = ""
               ) -> Neurons:
    """(x - mean) / sqrt(variance + eps) * scale + shift over channels, x (channels, ...): one
    neuron an element, whose weight and bias are computed here and tied over a channel."""
    factor = 1.0 / np.sqrt(variance.values + eps)
    if scale is not None:
        factor = factor * scale.values
    offset = -mean.values * factor + (0.0 if shift is None else shift.values)
    w, b = net.parameter(f"{name}.scale" if name else "", factor), net.parameter(
        f"{name}.shift" if name else "", offset)
    return affine(net, x, w, b)


def affine(net: TensorNet, x: Neurons, w: Weights, b: Weights | None) -> Neurons:
    """x (channels, ...) times w (channels), plus b (channels)."""
    def over(codes: Ints) -> NDArray[Any]:
        return np.broadcast_to(codes.reshape(-1, *[1] * (x.ids.ndim - 1)), x.shape)

    return net.sum_of(x.ids[..., None], over(net.codes(w))[..., None], unit=False,
                      biases=None if b is None else over(net.codes(b)))


def folded(w: Weights, bias: Weights | None, mean: Weights, variance: Weights,
           scale: Weights | None, shift: Weights | None, eps: float) -> tuple[Any, Any]:
    """Filters (out, ...) and biases (out) that do what these and a batch norm behind them do."""
    factor = 1.0 / np.sqrt(variance.values + eps)
    if scale is not None:
        factor = factor * scale.values
    offset = (0.0 if bias is None else bias.values) - mean.values
    return (w.values * factor.reshape(-1, *[1] * (w.values.ndim - 1)),
            offset * factor + (0.0 if shift is None else shift.values))


def normalized(net: TensorNet, x: Neurons, eps: float, scale: Weights | None = None,
               shift: Weights | None = None, *, centred: bool = True) -> Neurons:
    """x (..., n) less its mean over the last axis (unless not `centred`), by the root of its mean
    square plus eps, times `scale` and plus `shift`, which broadcast: 2n + 2 neurons of n.
    """
    if centred:
        mean = net.sum_of(x.ids, aggregation="mean")
        less = binary(net, "sub", x, Neurons(mean.ids[..., None]))
        assert isinstance(less, Neurons)
        x = less
    n = x.shape[-1]
    rows = x.ids.reshape(-1, n)
    root = net.dots(rows, rows, net.code(1.0 / n), net.code(eps), "rsqrt")
    gain, offset = (None if held is None else np.broadcast_to(net.codes(held), x.shape).ravel()
                    for held in (scale, shift))
    made = net.dots(rows.reshape(-1, 1), np.repeat(root, n)[:, None],
                    None if gain is None else gain[:, None], offset)
    return Neurons(made.reshape(x.shape))


def layer_norm(net: TensorNet, x: Neurons, axes: int, scale: Weights | None,
               shift: Weights | None, eps: float, *, centred: bool = True) -> Tensor:
    """Over the last `axes` axes, whose shape scale and shift have; RMS norm if not `centred`."""
    n = prod(x.shape[len(x.shape) - axes :])
    gain, offset = (None if held is None else held.moved(np.ravel) for held in (scale, shift))
    made = normalized(net, Neurons(x.ids.reshape(-1, n)), eps, gain, offset, centred=centred)
    return Neurons(made.ids.reshape(x.shape))


def group_norm(net: TensorNet, x: Neurons, groups: int, scale: Weights | None,
               shift: Weights | None, eps: float) -> Tensor:
    """Over groups of the channels of x (channels, *space), with all of space; of as many groups as
    channels it is instance norm."""
    each = x.ids.size // x.shape[0]
    gain, offset = (None if held is None else held.moved(
        lambda h: np.repeat(h, each).reshape(groups, -1)) for held in (scale, shift))
    made = normalized(net, Neurons(x.ids.reshape(groups, -1)), eps, gain, offset)
    return Neurons(made.ids.reshape(x.shape))
