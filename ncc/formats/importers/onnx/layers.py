"""ONNX's convolutions, pools and norms; each takes the reader, the node and its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ncc.formats.importers.onnx.evaluate import Node
from ncc.formats.importers.onnx.functions import Unkept, attribute, real
from ncc.formats.importers.tensors import contraction, elementwise, norms
from ncc.formats.importers.tensors.net import Neurons, Tensor, Weights

Border = list[tuple[int, int]]


def weights(held: Any, what: str) -> Weights:
    if not isinstance(held, Weights):
        raise Unkept(f"{what} that depend on the input")
    return held


def sampled(x: Any, how: Callable[[Neurons], Neurons]) -> Neurons:
    """Of each sample of (n, channels, *space)."""
    if not isinstance(x, Neurons):
        raise Unkept("a constant input, of filters that depend on the net's own")
    return Neurons(np.stack([how(Neurons(sample)).ids for sample in x.ids]))


class Window:
    """kernel_shape, strides, dilations, pads and auto_pad of a node, over axes of sizes `space`."""

    def __init__(self, node: Node, space: Sequence[int], kernel: Sequence[int] | None = None
                 ) -> None:
        found = attribute(node, "kernel_shape", kernel)
        if found is None or len(found) != len(space) or min(found, default=1) < 1:
            raise ValueError(f"a kernel of {found} over {tuple(space)}")
        dims = len(space)
        self.kernel = list(found)
        self.stride = list(attribute(node, "strides") or [1] * dims)
        self.dilation = list(attribute(node, "dilations") or [1] * dims)
        pads = list(attribute(node, "pads") or [0] * 2 * dims)
        if len(self.stride) != dims or len(self.dilation) != dims or len(pads) != 2 * dims or min(
                self.stride + self.dilation) < 1:
            raise ValueError(f"strides {self.stride}, dilations {self.dilation}, pads {pads} over "
                             f"{dims} axes")
        if max(pads) > 2**16 or max(self.kernel + self.dilation) > 2**16:
            raise Unkept(f"pads {pads}, a kernel of {self.kernel}, dilations {self.dilation}")
        self.reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        self.auto = attribute(node, "auto_pad", "NOTSET")
        self.padding: Border = list(zip(pads[:dims], pads[dims:], strict=True))
        if self.auto == "VALID":
            self.padding = [(0, 0)] * dims
        elif self.auto in ("SAME_UPPER", "SAME_LOWER"):
            totals = [max((-(-size // s) - 1) * s + reach - size, 0) for size, s, reach in zip(
                space, self.stride, self.reach, strict=True)]
            self.padding = [halves(total, self.auto == "SAME_UPPER") for total in totals]
        elif self.auto not in ("NOTSET", ""):
            raise Unkept(f"auto_pad {self.auto}")

    def ceiled(self, space: Sequence[int]) -> Border:
        """The borders with what ceil_mode adds at the end; a window that would begin there is none.
        """
        made = []
        for size, s, reach, (low, high) in zip(space, self.stride, self.reach, self.padding,
                                               strict=True):
            count = -(-(size + low + high - reach) // s) + 1
            if (count - 1) * s >= size + low:
                count -= 1
            made.append((low, max((count - 1) * s + reach - size - low, 0)))
        return made


def halves(total: int, upper: bool) -> tuple[int, int]:
    """The two sides of a border, of which the end gets the odd cell where `upper`."""
    return (total // 2, total - total // 2) if upper else (total - total // 2, total // 2)


# -- convolutions

def conv(reader: Any, node: Node, x: Any, w: Any, bias: Any = None) -> Neurons:
    """A batch norm that alone reads it is folded into its filters."""
    w = weights(w, "filters")
    bias = None if bias is None else weights(bias, "biases")
    held = Window(node, x.shape[2:], w.shape[2:])
    if tuple(held.kernel) != w.shape[2:]:
        raise ValueError(f"kernel_shape {held.kernel} of filters {w.shape}")
    after = None if reader.options.no_fold else reader.reader_of(node, "BatchNormalization")
    given = [] if after is None else [reader.values.get(name) for name in after.inputs[1:]]
    if after is not None and plain_norm(after) and len(given) == 4 and all(
            isinstance(one, Weights) for one in given):
        scale, shift, mean, variance = given
        values, offsets = norms.folded(w, bias, mean, variance, scale, shift,
                                       attribute(after, "epsilon", 1e-5))
        name = node.inputs[1]
        reader.notes.append(f"{after.name} is folded into {node.name}, whose weights it changes")
        make = reader.net.constants if reader.options.trainable == "none" else None
        w = make(values) if make else reader.net.parameter(f"{name}.folded", values)
        bias = make(offsets) if make else reader.net.parameter(f"{name}.folded_bias", offsets)
        reader.finished[after.outputs[0]] = node.outputs[0]
    return sampled(x, lambda sample: contraction.conv(
        reader.net, sample, w, bias, stride=held.stride, padding=held.padding,
        dilation=held.dilation, groups=attribute(node, "group", 1)))


def conv_transposed(reader: Any, node: Node, x: Any, w: Any, bias: Any = None) -> Neurons:
    w = weights(w, "filters")
    bias = None if bias is None else weights(bias, "biases")
    space = x.shape[2:]
    auto, node = attribute(node, "auto_pad", "NOTSET"), node._replace(
        attrs={k: v for k, v in node.attrs.items() if k != "auto_pad"})
    held = Window(node, space, w.shape[2:])
    extra = list(attribute(node, "output_padding") or [0] * len(space))
    wanted = attribute(node, "output_shape")
    if wanted is None and auto.startswith("SAME"):
        wanted = [size * s for size, s in zip(space, held.stride, strict=True)]
    border = held.padding
    if wanted is not None:
        wanted = wanted[-len(space) :]
        totals = [s * (size - 1) + more + reach - want for size, s, more, reach, want in zip(
            space, held.stride, extra, held.reach, wanted, strict=True)]
        # A size beyond what the filters reach is zeros at the end.
        extra = [more + max(-total, 0) for more, total in zip(extra, totals, strict=True)]
        border = [halves(max(total, 0), auto != "SAME_LOWER" and auto == "SAME_UPPER")
                  for total in totals]
    return sampled(x, lambda sample: contraction.conv_transposed(
        reader.net, sample, w, bias, stride=held.stride, padding=border, dilation=held.dilation,
        groups=attribute(node, "group", 1), output_padding=extra))


# -- pools

def max_pool(reader: Any, node: Node, x: Neurons) -> Neurons:
    if len(node.outputs) > 1 and node.outputs[1]:
        raise Unkept("the output Indices, which are integers")
    held = Window(node, x.shape[2:])
    border = held.ceiled(x.shape[2:]) if attribute(node, "ceil_mode", 0) else held.padding
    return sampled(x, lambda sample: contraction.pool(
        reader.net, sample, "max", held.kernel, stride=held.stride, padding=border,
        dilation=held.dilation))


def average_pool(reader: Any, node: Node, x: Neurons) -> Neurons:
    """A border counts with count_include_pad, but for what ceil_mode adds to it."""
    held = Window(node, x.shape[2:])
    space = x.shape[2:]
    border = held.ceiled(space) if attribute(node, "ceil_mode", 0) else held.padding
    counted = np.zeros((1, *space), np.int32)
    around = border
    if attribute(node, "count_include_pad", 0):
        counted = np.pad(counted, [(0, 0), *held.padding])
        for axis, (size, (low, high)) in enumerate(zip(space, border, strict=True), 1):
            counted = counted.take(range(min(low + size + high, counted.shape[axis])), axis)
        around = [(0, low + size + high - there) for size, (low, high), there in zip(
            space, border, counted.shape[1:], strict=True)]
    seen = contraction.windows(counted, held.kernel, held.stride, around, held.dilation)
    reader.net.fits(contraction.terms(space, [x.shape[1], *held.kernel], held.stride, border))
    axes = tuple(range(1 + len(space), 1 + 2 * len(space)))
    counts = (seen == 0).sum(axes)

    def pooled(sample: Neurons) -> Neurons:
        found = contraction.windows(sample.ids, held.kernel, held.stride, border, held.dilation)
        flat = found.reshape(*found.shape[: 1 + len(space)], -1)
        if np.array_equal(np.broadcast_to(counts, flat.shape[:-1]), (flat >= 0).sum(-1)):
            return reader.net.sum_of(flat, aggregation="mean")  # type: ignore[no-any-return]
        rates = reader.net.codes(Weights(1.0 / counts))
        return reader.net.sum_of(flat, np.broadcast_to(  # type: ignore[no-any-return]
            rates[..., None], flat.shape), unit=False)

    return sampled(x, pooled)


def lp_pool(reader: Any, node: Node, x: Neurons) -> Tensor:
    p = attribute(node, "p", 2)
    held = Window(node, x.shape[2:])
    border = held.ceiled(x.shape[2:]) if attribute(node, "ceil_mode", 0) else held.padding
    raised = elementwise.unary(reader.net, x, raised_to(p))
    reader.net.fits(contraction.terms(x.shape[2:], [x.shape[1], *held.kernel], held.stride, border))

    def summed(sample: Neurons) -> Neurons:
        found = contraction.windows(sample.ids, held.kernel, held.stride, border, held.dilation)
        flat = found.reshape(*found.shape[: len(x.shape) - 1], -1)
        return reader.net.sum_of(flat, activation=root_of(p))  # type: ignore[no-any-return]

    return sampled(raised, summed)


def raised_to(p: Any) -> str:
    if p != int(p) or not 1 <= p <= 16:
        raise Unkept(f"p {p}")
    return {1: "abs", 2: "square"}.get(int(p), f"abs(x)^{int(p)}")


def root_of(p: Any) -> str:
    return {1: "identity", 2: "sqrt"}.get(int(p), f"exp(log(x)*{1 / p!r})")


def global_pool(how: str, reader: Any, node: Node, x: Neurons) -> Tensor:
    return elementwise.reduce(reader.net, x, tuple(range(2, len(x.shape))), how, True)


def global_lp_pool(reader: Any, node: Node, x: Neurons) -> Tensor:
    p = attribute(node, "p", 2)
    made = elementwise.unary(reader.net, x, raised_to(p))
    total = elementwise.reduce(reader.net, made, tuple(range(2, len(x.shape))), "sum", True)
    return elementwise.unary(reader.net, total, root_of(p))


# -- norms

def plain_norm(node: Node) -> bool:
    return not attribute(node, "training_mode", 0) and attribute(node, "spatial", 1) == 1 and len(
        [name for name in node.outputs if name]) == 1


def batch_norm(reader: Any, node: Node, x: Neurons, scale: Any, shift: Any, mean: Any,
               variance: Any) -> Tensor:
    if not plain_norm(node):
        raise Unkept("training_mode 1, whose statistics are those of a batch, or spatial 0")
    eps = attribute(node, "epsilon", 1e-5)
    rest = (scale, shift, mean, variance)
    if all(isinstance(held, Weights) for held in rest):
        rate = scale.values / np.sqrt(variance.values + eps)
        offset = shift.values - mean.values * rate
        name = node.inputs[1]
        if reader.options.trainable == "none" or scale.slots is None:
            w, b = Weights(rate), Weights(offset)
        else:
            w = reader.net.parameter(f"{name}.scale", rate)
            b = reader.net.parameter(f"{name}.shift", offset)
        return sampled(x, lambda sample: norms.affine(reader.net, sample, w, b))
    wide = [held.moved(lambda h: h.reshape(-1, *[1] * (len(x.shape) - 2))) for held in rest]
    root = elementwise.unary(reader.net, elementwise.binary(
        reader.net, "add", wide[3], Weights(np.array(eps))), "rsqrt")
    rate = elementwise.binary(reader.net, "mul", root, wide[0])
    made = elementwise.binary(reader.net, "sub", x, wide[2])
    made = elementwise.binary(reader.net, "mul", made, rate)
    return elementwise.binary(reader.net, "add", made, wide[1])


def _affine(reader: Any, x: Tensor, scale: Any, shift: Any) -> Tensor:
    """x * scale + shift."""
    for op, held in (("mul", scale), ("add", shift)):
        if held is not None:
            x = elementwise.binary(reader.net, op, x, held)
    return x


def _normalized(reader: Any, node: Node, x: Neurons, shape: Sequence[int], scale: Any, shift: Any,
                axes: Sequence[int] | None = None, centred: bool = True) -> Tensor:
    """x as an array of `shape`, normalized over the last axis, times scale and plus shift, which
    broadcast to x where they have the shape `axes`."""
    rest = []
    for held in (scale, shift):
        if held is not None:
            wide = held if axes is None else held.moved(lambda h: h.reshape(axes))
            held = elementwise.wide(wide, x.shape).moved(lambda h: h.reshape(shape))
        rest.append(held)
    flat, eps = Neurons(x.ids.reshape(shape)), attribute(node, "epsilon", 1e-5)
    if any(isinstance(held, Neurons) for held in rest):
        made = _affine(reader, norms.normalized(reader.net, flat, eps, centred=centred), *rest)
    else:
        made = norms.normalized(reader.net, flat, eps, *rest, centred=centred)
    return made.moved(lambda h: h.reshape(x.shape))


def instance_norm(reader: Any, node: Node, x: Neurons, scale: Any, shift: Any) -> Tensor:
    return _normalized(reader, node, x, (*x.shape[:2], prod(x.shape[2:])), scale, shift,
                       (-1, *[1] * (len(x.shape) - 2)))


def group_norm(reader: Any, node: Node, x: Neurons, scale: Any, shift: Any) -> Tensor:
    """Before opset 21 scale and shift are of groups, from there on of channels."""
    groups = node.attrs["num_groups"]
    n, channels = x.shape[:2]
    if channels % groups:
        raise ValueError(f"{groups} groups of {channels} channels")
    if scale.shape != (channels,) or node.opset < 21:
        scale, shift = (held.moved(lambda h: np.repeat(h.reshape(groups), channels // groups))
                        for held in (scale, shift))
    return _normalized(reader, node, x, (n, groups, prod(x.shape[1:]) // groups), scale, shift,
                       (-1, *[1] * (len(x.shape) - 2)))


def layer_norm(reader: Any, node: Node, x: Neurons, scale: Any, shift: Any = None) -> Tensor:
    if any(node.outputs[1:]):
        raise Unkept("the outputs Mean and InvStdDev")
    return _over_last(reader, node, x, scale, shift, True)


def rms_norm(reader: Any, node: Node, x: Neurons, scale: Any) -> Tensor:
    return _over_last(reader, node, x, scale, None, False)


def _over_last(reader: Any, node: Node, x: Neurons, scale: Any, shift: Any, centred: bool
               ) -> Tensor:
    axis = attribute(node, "axis", -1)
    if not -len(x.shape) <= axis < len(x.shape):
        raise ValueError(f"axis {axis} of the shape {x.shape}")
    axis %= len(x.shape)
    shape = (*x.shape[:axis], prod(x.shape[axis:]))
    return _normalized(reader, node, x, shape, scale, shift, centred=centred)


def lp_norm(reader: Any, node: Node, x: Neurons) -> Tensor:
    p, axis = attribute(node, "p", 2), attribute(node, "axis", -1)
    total = elementwise.reduce(reader.net, x, [axis], "l1" if p == 1 else "l2", True)
    rate = elementwise.unary(reader.net, total, "step(x)/(x+(1-step(x)))")  # 0 of nothing
    return elementwise.binary(reader.net, "mul", x, rate)


def lrn(reader: Any, node: Node, x: Neurons) -> Tensor:
    """x / (bias + alpha/size * sum of squares of near channels)^beta."""
    size = attribute(node, "size", 1)
    rate = attribute(node, "alpha", 1e-4) / size
    squares = elementwise.unary(reader.net, x, "square")
    border = ((size - 1) // 2, size - 1 - (size - 1) // 2)
    moved = np.moveaxis(squares.ids, 1, -1)  # type: ignore[union-attr]
    padded = np.pad(moved, [(0, 0)] * (moved.ndim - 1) + [border], constant_values=-1)
    near = np.lib.stride_tricks.sliding_window_view(padded, size, -1)
    total = reader.net.sum_of(
        np.ascontiguousarray(near), reader.net.code(rate), unit=False,
        biases=np.full(near.shape[:-1], reader.net.code(attribute(node, "bias", 1.0)), np.int32),
        activation=f"exp({real(-attribute(node, 'beta', 0.75))}*log(x))")
    return elementwise.binary(reader.net, "mul", x, Neurons(np.moveaxis(total.ids, -1, 1)))
