"""Sums of products: dense layers, products of matrices, convolutions, pools."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ncc.formats.importers.tensors.elementwise import reduce
from ncc.formats.importers.tensors.net import ZERO, Neurons, Tensor, TensorNet, Weights
from ncc.ir.graph import Ints

Pairs = Sequence[tuple[int, int]]


def linear(net: TensorNet, x: Tensor, w: Weights, bias: Weights | None = None) -> Tensor:
    """x (..., k) by w (n, k), plus a bias (n): (..., n). Among parameters a constant 0 is the
    weight of an edge that was pruned, and makes none."""
    if isinstance(x, Weights):
        made = x.values @ w.values.T
        return Weights(made if bias is None else made + bias.values)
    n, k = w.shape
    lead = x.shape[:-1]
    net.fits(prod(lead) * n * k)
    sources = np.broadcast_to(x.ids.reshape(-1, 1, k), (int(np.prod(lead)), n, k))
    gone = w.values == 0.0
    if net.keep_zeros:
        gone &= False if w.slots is None else w.slots < 0
    if gone.any():
        sources = np.where(gone, ZERO, sources)
    biases = None if bias is None else np.broadcast_to(net.codes(bias), sources.shape[:2]).ravel()
    codes = np.broadcast_to(net.codes(w), sources.shape).reshape(-1, k)
    return Neurons(net.rows(sources.reshape(-1, k), codes, biases).reshape(*lead, n))


def matmul(net: TensorNet, a: Tensor, b: Tensor) -> Tensor:
    """numpy's a @ b."""
    if isinstance(a, Weights) and isinstance(b, Weights):
        return Weights(a.values @ b.values)
    if len(b.shape) == 1:
        return matmul(net, a, b.moved(lambda h: h[:, None])).moved(lambda h: h[..., 0])
    if len(a.shape) == 1:
        return matmul(net, a.moved(lambda h: h[None]), b).moved(lambda h: h[..., 0, :])
    if isinstance(b, Weights) and len(b.shape) == 2:
        return linear(net, a, b.moved(np.transpose))
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if b.shape[-2] != k:
        raise ValueError(f"matrices of shapes {a.shape} and {b.shape} have no product")
    net.fits(prod(lead) * m * k * n)

    def left(held: NDArray[Any]) -> NDArray[Any]:
        return np.broadcast_to(held[..., :, None, :], (*lead, m, n, k))

    def right(held: NDArray[Any]) -> NDArray[Any]:
        return np.broadcast_to(np.swapaxes(held, -1, -2)[..., None, :, :], (*lead, m, n, k))

    if isinstance(b, Weights):
        assert isinstance(a, Neurons)
        return net.sum_of(left(a.ids), right(net.codes(b)), unit=False)
    if isinstance(a, Weights):
        return net.sum_of(right(b.ids), left(net.codes(a)), unit=False)
    return dot(net, left(a.ids), right(b.ids))


def dot(net: TensorNet, a: Ints, b: Ints, scale: float = 1.0) -> Neurons:
    """Sums over the last axis of products of neurons, times a constant: (..., k) twice to (...), a
    neuron each."""
    k = a.shape[-1]
    made = net.dots(a.reshape(-1, k), b.reshape(-1, k), net.code(scale))
    return Neurons(made.reshape(a.shape[:-1]))


def terms(space: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Pairs
          ) -> float:
    """How many elements windows of a kernel (channels, ...) have at most, over a space in a border.
    """
    return prod(kernel) * prod((size + low + high) / s + 1 for size, s, (low, high) in zip(
        space, stride, padding, strict=True))


def windows(ids: Ints, kernel: Sequence[int], stride: Sequence[int], padding: Pairs,
            dilation: Sequence[int]) -> Ints:
    """Of an array (channels, *space) the windows (channels, *places, *kernel); ZERO lies around."""
    padded = np.pad(ids, [(0, 0), *padding], constant_values=ZERO)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    axes = tuple(range(1, ids.ndim))
    seen = sliding_window_view(padded, reach, axes)
    places = tuple(slice(None, None, s) for s in stride)
    inside = tuple(slice(None, None, d) for d in dilation)
    return np.asarray(seen[(slice(None), *places, *inside)])


def conv(net: TensorNet, x: Neurons, w: Weights, bias: Weights | None, *, stride: Sequence[int],
         padding: Pairs, dilation: Sequence[int], groups: int = 1) -> Neurons:
    """x (channels, *space) by filters w (out, channels / groups, *kernel), bias (out), to
    (out, *places): each sum over channels, then the kernel row-major; its border has no edges, and
    the weights are tied over all places. ValueError for shapes that do not fit."""
    out, each, *kernel = w.shape
    if each * groups != x.shape[0] or out % groups:
        raise ValueError(f"filters of shape {w.shape} in {groups} groups, and {x.shape[0]} "
                         "channels")
    net.fits(out * terms(x.shape[1:], w.shape[1:], stride, padding))
    seen = windows(x.ids, kernel, stride, padding, dilation)
    places = seen.shape[1 : 1 + len(kernel)]
    n = int(np.prod(places))
    k = each * int(np.prod(kernel))
    # (groups, channels of a group, places, kernel) -> (groups, places, terms)
    held = seen.reshape(groups, each, n, -1).transpose(0, 2, 1, 3).reshape(groups, 1, n, k)
    sources = np.broadcast_to(held, (groups, out // groups, n, k)).reshape(out * n, k)
    codes = np.broadcast_to(net.codes(w).reshape(out, 1, k), (out, n, k)).reshape(out * n, k)
    biases = None if bias is None else np.repeat(net.codes(bias), n)
    return Neurons(net.rows(sources, codes, biases).reshape(out, *places))


def conv_transposed(net: TensorNet, x: Neurons, w: Weights, bias: Weights | None, *,
                    stride: Sequence[int], padding: Pairs, dilation: Sequence[int],
                    groups: int = 1, output_padding: Sequence[int] = ()) -> Neurons:
    """The transpose of a convolution: x (channels, *space) by w (channels, out / groups, *kernel).
    It is the convolution, with the kernel turned round, of x with zeros between its elements."""
    channels, each, *kernel = w.shape
    extra = output_padding or [0] * len(kernel)
    spread = np.full((channels, *[(size - 1) * s + 1 for size, s in zip(
        x.shape[1:], stride, strict=True)]), ZERO, np.int32)
    spread[(slice(None), *[slice(None, None, s) for s in stride])] = x.ids
    border = [((k - 1) * d - low, (k - 1) * d - high + more) for k, d, (low, high), more in zip(
        kernel, dilation, padding, extra, strict=True)]
    if any(low < 0 or high < 0 for low, high in border):
        cut = (slice(None), *[slice(max(-low, 0), size - max(-high, 0)) for (low, high), size in
                              zip(border, spread.shape[1:], strict=True)])
        spread = spread[cut]
        border = [(max(low, 0), max(high, 0)) for low, high in border]

    def turned(held: NDArray[Any]) -> NDArray[Any]:
        apart = np.flip(held, tuple(range(2, held.ndim))).reshape(
            groups, channels // groups, each, *kernel)
        return apart.swapaxes(1, 2).reshape(groups * each, channels // groups, *kernel)

    return conv(net, Neurons(spread), w.moved(turned), bias, stride=[1] * len(kernel),
                padding=border, dilation=dilation, groups=groups)


def pool(net: TensorNet, x: Neurons, how: str, kernel: Sequence[int], *, stride: Sequence[int],
         padding: Pairs, dilation: Sequence[int] | None = None, counts_border: bool = True
         ) -> Neurons:
    """max or mean over windows of x (channels, *space). A border takes no part, unless a mean
    `counts_border`."""
    net.fits(terms(x.shape[1:], [x.shape[0], *kernel], stride, padding))
    seen = windows(x.ids, kernel, stride, padding, dilation or [1] * len(kernel))
    flat = seen.reshape(*seen.shape[: 1 + len(kernel)], -1)
    if how == "max":
        return net.sum_of(flat, aggregation="maximum")
    if counts_border and (flat == ZERO).any():
        return net.sum_of(flat, net.code(1.0 / flat.shape[-1]), unit=False)
    return net.sum_of(flat, aggregation="mean")


def adaptive_pool(net: TensorNet, x: Neurons, how: str, sizes: Sequence[int]) -> Neurons:
    """Pools to given sizes, which must divide those of x. ValueError where they do not."""
    space = x.shape[1:]
    if any(size % wanted for size, wanted in zip(space, sizes, strict=True)):
        raise ValueError(f"an adaptive pool of {space} to {tuple(sizes)}, which do not divide it")
    kernel = [size // wanted for size, wanted in zip(space, sizes, strict=True)]
    return pool(net, x, how, kernel, stride=kernel, padding=[(0, 0)] * len(kernel))


def global_pool(net: TensorNet, x: Neurons, how: str) -> Tensor:
    return reduce(net, x, tuple(range(1, len(x.shape))), how, True)
