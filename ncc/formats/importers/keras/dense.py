"""Keras's dense layers, layers of activations, norms. Arrays have no batch axis, channels last."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ncc.formats.importers.keras import activations
from ncc.formats.importers.tensors import contraction, elementwise, norms
from ncc.formats.importers.tensors.net import Neurons, Tensor, Weights


def dense(layer: Any, x: Neurons) -> Any:
    units, inputs = layer.integer("units"), x.shape[-1]
    shapes = {"kernel": (inputs, units)} | ({"bias": (units,)} if layer.flag("use_bias", True)
                                            else {})
    if layer.has("lora_rank") or layer.has("quantization_config"):
        raise layer.fault("E813", "a kernel that is quantized, or of a low rank apart")
    layer.fits(prod(x.shape) * units)
    kernel, *bias = layer.weights(shapes)
    return layer.activated(contraction.linear(layer.net, x, kernel.moved(np.transpose), *bias))


# -- activations

def activation(layer: Any, x: Neurons) -> Any:
    return layer.activated(x)


def relu(layer: Any, x: Neurons) -> Tensor:
    most = layer.real("max_value", 0.0) if layer.has("max_value") else None
    text = activations.relu(most, layer.real("negative_slope", 0.0), layer.real("threshold", 0.0))
    return elementwise.unary(layer.net, x, text)


def leaky_relu(layer: Any, x: Neurons) -> Tensor:
    slope = layer.real("alpha" if layer.has("alpha") else "negative_slope", 0.3)
    return elementwise.unary(layer.net, x, f"max(x,0)+{slope!r}*min(x,0)")


def elu(layer: Any, x: Neurons) -> Tensor:
    return elementwise.unary(layer.net, x,
                             f"max(x,0)+{layer.real('alpha', 1.0)!r}*expm1(min(x,0))")


def thresholded_relu(layer: Any, x: Neurons) -> Tensor:
    theta = layer.real("theta", 1.0)
    return elementwise.unary(layer.net, x, f"x*step(x-{theta!r})")


def prelu(layer: Any, x: Neurons) -> Tensor:
    """max(x, 0) + alpha min(x, 0), alpha tied over the shared axes."""
    shared = layer.axes("shared_axes", len(x.shape)) if layer.has("shared_axes") else []
    shape = tuple(1 if k in shared else size for k, size in enumerate(x.shape))
    (alpha,) = layer.weights({"alpha": shape})
    below = elementwise.binary(layer.net, "mul", elementwise.unary(layer.net, x, "min(x,0)"), alpha)
    return elementwise.binary(layer.net, "add", elementwise.unary(layer.net, x, "relu"), below)


def softmax(layer: Any, x: Neurons) -> Neurons:
    axes = sorted(set(layer.axes("axis", len(x.shape))))
    x = layer.net.neurons(x)
    if len(axes) == 1:
        return elementwise.softmax(layer.net, x, axes[0])
    last = np.moveaxis(x.ids, axes, range(-len(axes), 0))
    made = elementwise.softmax(layer.net, Neurons(last.reshape(
        *last.shape[: -len(axes)], -1))).ids.reshape(last.shape)
    return Neurons(np.moveaxis(made, range(-len(axes), 0), axes))


# -- norms

def batch_normalization(layer: Any, x: Neurons) -> Neurons:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta: what training does not change and what it
    does are one weight and one bias of a channel here."""
    (axis,) = layer.axes("axis", len(x.shape))
    if layer.flag("renorm", False):
        raise layer.fault("E813", "renorm")
    scaled, centred = layer.flag("scale", True), layer.flag("center", True)
    names = ["gamma"] * scaled + ["beta"] * centred + ["moving_mean", "moving_variance"]
    found = dict(zip(names, layer.values({name: (x.shape[axis],) for name in names}), strict=True))
    factor = found.get("gamma", 1.0) / np.sqrt(found["moving_variance"] + layer.real(
        "epsilon", 1e-3))
    offset = found.get("beta", 0.0) - found["moving_mean"] * factor
    made = norms.affine(layer.net, Neurons(np.moveaxis(x.ids, axis, 0)),
                        layer.computed("scale", factor), layer.computed("shift", offset))
    return Neurons(np.moveaxis(made.ids, 0, axis))


def layer_normalization(layer: Any, x: Neurons) -> Tensor:
    if layer.flag("rms_scaling", False):
        raise layer.fault("E813", "rms_scaling")
    return _normalized(layer, x, layer.flag("scale", True), layer.flag("center", True), 1e-3, True)


def rms_normalization(layer: Any, x: Neurons) -> Tensor:
    return _normalized(layer, x, True, False, 1e-6, False)


def _normalized(layer: Any, x: Neurons, scaled: bool, centred: bool, epsilon: float, less_mean: bool
                ) -> Tensor:
    axes = sorted(set(layer.axes("axis", len(x.shape))))
    shape = tuple(x.shape[axis] for axis in axes)
    gamma = "gamma" if less_mean else "scale|gamma"
    found = layer.weights({gamma: shape} if scaled else {}) if not centred else layer.weights(
        ({gamma: shape} if scaled else {}) | {"beta": shape})
    scale = found[0] if scaled else None
    shift = found[-1] if centred else None
    ends = range(-len(axes), 0)
    last = Neurons(np.moveaxis(layer.net.neurons(x).ids, axes, ends))
    made = norms.layer_norm(layer.net, last, len(axes), scale, shift,
                            layer.real("epsilon", epsilon), centred=less_mean)
    return made.moved(lambda held: np.moveaxis(held, ends, axes))


def group_normalization(layer: Any, x: Neurons) -> Tensor:
    (axis,) = layer.axes("axis", len(x.shape))
    channels = x.shape[axis]
    groups = layer.integer("groups", 32, -1)
    groups = channels if groups == -1 else groups
    if groups < 1 or channels % groups:
        raise layer.fault("E813", f"{groups} groups of {channels} channels")
    names = ["gamma"] * layer.flag("scale", True) + ["beta"] * layer.flag("center", True)
    found = dict(zip(names, layer.weights({name: (channels,) for name in names}), strict=True))
    first = Neurons(np.moveaxis(layer.net.neurons(x).ids, axis, 0))
    made = norms.group_norm(layer.net, first, groups, found.get("gamma"), found.get("beta"),
                            layer.real("epsilon", 1e-3))
    return made.moved(lambda held: np.moveaxis(held, 0, axis))


def unit_normalization(layer: Any, x: Neurons) -> Tensor:
    axes = layer.axes("axis", len(x.shape))
    total = elementwise.reduce(layer.net, layer.net.neurons(x), axes, "sumsquare", True)
    root = elementwise.unary(layer.net, total, "1/sqrt(max(x,1e-12))")
    return elementwise.binary(layer.net, "mul", x, root)


def normalization(layer: Any, x: Neurons) -> Neurons:
    """(x - mean) / sqrt(variance), or its inverse, by constants."""
    rank = len(x.shape)
    over = layer.config.value.get("axis", -1)
    axes = sorted(set(layer.axes("axis", rank))) if over is not None else []
    shape = tuple(x.shape[axis] for axis in axes)
    if layer.has("mean"):
        mean, variance = (np.array(layer.config[key].value, np.float64)
                          for key in ("mean", "variance"))
        if mean.ndim > 1 and mean.shape[0] == 1:
            mean, variance = mean.reshape(mean.shape[-1:]), variance.reshape(mean.shape[-1:])
    else:
        mean, variance = layer.values({"mean": shape, "variance": shape})
    root = np.maximum(np.sqrt(variance), 1e-7)
    factor, offset = (root, mean) if layer.flag("invert", False) else (1.0 / root, -mean / root)
    wide = [size if k in axes else 1 for k, size in enumerate(x.shape)]

    def over_all(held: Any) -> Any:
        held = np.broadcast_to(held, shape) if held.ndim else held
        return np.broadcast_to(held.reshape(wide) if held.ndim else held, x.shape)

    return _affine(layer, x, over_all(factor), over_all(offset))


def rescaling(layer: Any, x: Neurons) -> Neurons:
    """scale x + offset."""
    factor, offset = (np.broadcast_to(np.array(
        [each.real() for each in layer.config[key]] if isinstance(layer.config[key].value, list)
        else layer.config[key].real()), x.shape) for key in ("scale", "offset"))
    return _affine(layer, x, factor, offset)


def _affine(layer: Any, x: Neurons, factor: Any, offset: Any) -> Neurons:
    net = layer.net
    return net.sum_of(x.ids[..., None], net.codes(Weights(factor))[..., None],  # type: ignore[no-any-return]
                      unit=False, biases=net.codes(Weights(offset)))
