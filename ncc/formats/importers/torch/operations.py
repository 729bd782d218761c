"""What torch's operations on neurons are; each takes the reader, the node and the arguments of
aten's schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from ncc.formats.importers.tensors import elementwise
from ncc.formats.importers.tensors.net import ZERO, Neurons, Tensor, Weights
from ncc.formats.importers.torch import layers
from ncc.formats.importers.torch.layers import Unkept


def tensor(held: Any) -> Tensor:
    """An argument as a tensor: numbers are constants."""
    return held if isinstance(held, Neurons | Weights) else Weights(np.array(float(held)))


# -- elementwise

PLAIN: Final = {name: name for name in (
    "relu", "sigmoid", "tanh", "silu", "mish", "selu", "softsign", "exp", "log", "abs", "square",
    "sqrt", "rsqrt", "sin", "cos", "atan", "erf", "relu6")} | {
    "hardsigmoid": "hard_sigmoid", "hardswish": "hard_swish", "reciprocal": "recip",
    "neg": "-x", "log1p": "log(1+x)", "expm1": "exp(x)-1", "arctan": "atan",
    "tan": "sin(x)/cos(x)", "sinh": "(exp(x)-exp(-x))/2", "cosh": "(exp(x)+exp(-x))/2",
    "log2": "log(x)*1.4426950408889634", "log10": "log(x)*0.4342944819032518",
    "exp2": "exp(x*0.6931471805599453)", "log_sigmoid": "min(x,0)-log(1+exp(-abs(x)))",
    "sigmoid_": "sigmoid", "relu_": "relu", "tanh_": "tanh", "silu_": "silu",
    "hardswish_": "hard_swish", "selu_": "selu", "mish_": "mish", "relu6_": "relu6"}


def _unary(text: str, reader: Any, node: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    return elementwise.unary(reader.net, x, text)


def _real(value: float) -> str:
    return f"({float(value)!r})" if value < 0 else repr(float(value))


def gelu(reader: Any, node: Any, x: Tensor, *, approximate: str = "none") -> Tensor:
    return elementwise.unary(reader.net, x, "gelu" if approximate == "none" else "gelu_tanh")


def elu(reader: Any, node: Any, x: Tensor, alpha: float = 1.0, scale: float = 1.0,
        input_scale: float = 1.0) -> Tensor:
    if (alpha, scale, input_scale) == (1, 1, 1):
        return elementwise.unary(reader.net, x, "elu")
    inner = f"exp({_real(input_scale)}*min(x,0))-1"
    return elementwise.unary(reader.net, x, f"{_real(scale)}*(max(x,0)+{_real(alpha)}*({inner}))")


def celu(reader: Any, node: Any, x: Tensor, alpha: float = 1.0) -> Tensor:
    a = _real(alpha)
    return elementwise.unary(reader.net, x, f"max(x,0)+{a}*(exp(min(x,0)/{a})-1)")


def leaky_relu(reader: Any, node: Any, x: Tensor, slope: float = 0.01) -> Tensor:
    return elementwise.unary(reader.net, x, "leaky_relu" if slope == 0.01
                             else f"max(x,0)+{_real(slope)}*min(x,0)")


def softplus(reader: Any, node: Any, x: Tensor, beta: float = 1.0, threshold: float = 20.0
             ) -> Tensor:
    b = _real(beta)
    return elementwise.unary(reader.net, x, "softplus" if beta == 1
                             else f"(max({b}*x,0)+log(1+exp(-abs({b}*x))))/{b}")


def softshrink(reader: Any, node: Any, x: Tensor, lambd: float = 0.5) -> Tensor:
    a = _real(lambd)
    return elementwise.unary(reader.net, x, f"max(x-{a},0)+min(x+{a},0)")


def hardtanh(reader: Any, node: Any, x: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    return elementwise.clip(reader.net, x, low, high)


def clamp(reader: Any, node: Any, x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    if isinstance(min, Neurons | Weights) or isinstance(max, Neurons | Weights):
        for op, bound in (("max", min), ("min", max)):
            x = x if bound is None else elementwise.binary(reader.net, op, x, tensor(bound))
        return x
    return elementwise.clip(reader.net, x, -np.inf if min is None else min,
                            np.inf if max is None else max)


def prelu(reader: Any, node: Any, x: Neurons, slope: Weights) -> Tensor:
    """max(x, 0) + slope * min(x, 0), a slope a channel: two neurons of an element."""
    shape = [1] * len(x.shape)
    if slope.values.size > 1:
        shape[1] = -1
    low = elementwise.unary(reader.net, x, "min(x,0)")
    part = elementwise.binary(reader.net, "mul", low, slope.moved(lambda h: h.reshape(shape)))
    return elementwise.binary(reader.net, "add", elementwise.unary(reader.net, x, "relu"), part)


def _binary(op: str, reader: Any, node: Any, a: Any, b: Any, alpha: Any = 1, **how: Any) -> Tensor:
    if how.get("rounding_mode") is not None:
        raise Unkept(f"rounding_mode {how['rounding_mode']}")
    left, right = tensor(a), tensor(b)
    if alpha != 1:
        right = elementwise.binary(reader.net, "mul", right, tensor(alpha))
    return elementwise.binary(reader.net, op, left, right)


def rsub(reader: Any, node: Any, a: Any, b: Any, alpha: Any = 1) -> Tensor:
    return _binary("sub", reader, node, b, a, alpha)


def power(reader: Any, node: Any, x: Any, exponent: Any) -> Tensor:
    if isinstance(exponent, Neurons | Weights) or not isinstance(x, Neurons):
        raise Unkept("an exponent that is not a number")
    if float(exponent).is_integer() and abs(exponent) <= 64:
        k = int(exponent)
        text = {1: "x", 2: "square", 3: "cube", -1: "recip"}.get(k, f"x^{k}" if k >= 0 else
                                                                f"1/x^{-k}")
        return elementwise.unary(reader.net, x, text)
    if exponent in (0.5, -0.5):
        return elementwise.unary(reader.net, x, "sqrt" if exponent > 0 else "rsqrt")
    raise Unkept(f"the exponent {exponent}")


def _reduced(how: str, reader: Any, node: Any, x: Tensor, dim: Any = None, keep: bool = False,
             **_: Any) -> Tensor:
    axes = None if dim is None or dim == [] else [dim] if isinstance(dim, int) else list(dim)
    return elementwise.reduce(reader.net, x, axes, how, keep)


def extreme(how: str, reader: Any, node: Any, x: Tensor, *more: Any, **_: Any) -> Any:
    """max and min: of all, of two tensors, or over an axis, whose indices are not kept."""
    if not more:
        return elementwise.reduce(reader.net, x, None, how)
    if isinstance(more[0], Neurons | Weights):
        return elementwise.binary(reader.net, how, x, more[0])
    keep = bool(more[1]) if len(more) > 1 else False
    if any(user.args[1] == 1 for user in node.users):
        raise Unkept("indices, which are integers")
    return [elementwise.reduce(reader.net, x, [more[0]], how, keep), None]


def norm(reader: Any, node: Any, x: Tensor, p: Any = 2, dim: Any = None, keep: bool = False,
         **_: Any) -> Tensor:
    if p not in (1, 2):
        raise Unkept(f"the norm {p}")
    return _reduced(f"l{int(p)}", reader, node, x, dim, keep)


def softmax(reader: Any, node: Any, x: Neurons, dim: int, *_: Any, log: bool = False) -> Neurons:
    return elementwise.softmax(reader.net, x, dim, log)


def padded(reader: Any, node: Any, x: Neurons, pads: Sequence[int], value: float = 0.0) -> Neurons:
    """constant_pad_nd: pairs from the last axis on."""
    widths = [(0, 0)] * (len(x.shape) - len(pads) // 2)
    widths += [(pads[k], pads[k + 1]) for k in range(len(pads) - 2, -1, -2)]
    if min(pads) < 0:
        cut = tuple(slice(max(-low, 0), size - max(-high, 0))
                    for (low, high), size in zip(widths, x.shape, strict=True))
        x = Neurons(x.ids[cut])
        widths = [(max(low, 0), max(high, 0)) for low, high in widths]
    fill = ZERO if value == 0 else int(reader.net.neurons(Weights(np.array([value]))).ids[0])
    return Neurons(np.pad(x.ids, widths, constant_values=fill))


def pad(reader: Any, node: Any, x: Neurons, pads: Sequence[int], mode: str = "constant",
        value: float | None = None) -> Neurons:
    if mode == "constant":
        return padded(reader, node, x, pads, value or 0.0)
    widths = [(0, 0)] * (len(x.shape) - len(pads) // 2)
    widths += [(pads[k], pads[k + 1]) for k in range(len(pads) - 2, -1, -2)]
    how: Any = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}.get(mode)
    if how is None:
        raise Unkept(f"the mode {mode}")
    return Neurons(np.pad(x.ids, widths, mode=how))


OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    **{name: partial(_unary, text) for name, text in PLAIN.items()},
    "gelu": gelu, "elu": elu, "elu_": elu, "celu": celu, "leaky_relu": leaky_relu,
    "leaky_relu_": leaky_relu, "softplus": softplus, "softshrink": softshrink,
    "hardtanh": hardtanh, "hardtanh_": hardtanh, "clamp": clamp, "clip": clamp, "prelu": prelu,
    "clamp_min": clamp, "clamp_max": lambda r, n, x, high: clamp(r, n, x, None, high),
    "pow": power, "rsub": rsub, "norm": norm, "linalg_vector_norm": norm,
    **{name: partial(_binary, op) for name, op in (
        ("add", "add"), ("add_", "add"), ("sub", "sub"), ("subtract", "sub"), ("mul", "mul"),
        ("mul_", "mul"), ("multiply", "mul"), ("div", "div"), ("divide", "div"),
        ("true_divide", "div"), ("maximum", "max"), ("minimum", "min"))},
    **{name: partial(_reduced, how) for name, how in (
        ("sum", "sum"), ("mean", "mean"), ("prod", "mul"), ("amax", "max"), ("amin", "min"),
        ("logsumexp", "logsumexp"))},
    "max": partial(extreme, "max"), "min": partial(extreme, "min"),
    "softmax": softmax, "_softmax": softmax, "log_softmax": partial(softmax, log=True),
    "_log_softmax": partial(softmax, log=True),
    "linear": layers.linear, "addmm": layers.addmm, "baddbmm": layers.addmm,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), layers.matmul),
    "convolution": layers.aten_convolution,
    **{f"conv{d}d": partial(layers.convolution, d, False) for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": partial(layers.convolution, d, True) for d in (1, 2, 3)},
    **{f"max_pool{d}d": partial(layers.pool, d, "max") for d in (1, 2, 3)},
    **{f"avg_pool{d}d": partial(layers.pool, d, "mean") for d in (1, 2, 3)},
    **{f"adaptive_avg_pool{d}d": partial(layers.adaptive, d, "mean") for d in (1, 2, 3)},
    **{f"_adaptive_avg_pool{d}d": partial(layers.adaptive, d, "mean") for d in (2, 3)},
    **{f"adaptive_max_pool{d}d": partial(layers.adaptive, d, "max") for d in (1, 2, 3)},
    "batch_norm": layers.batch_norm,
    "_native_batch_norm_legit_no_training": layers.batch_norm_legit,
    "layer_norm": layers.layer_norm, "rms_norm": layers.rms_norm, "group_norm": layers.group_norm,
    "instance_norm": layers.instance_norm,
    "native_layer_norm": lambda r, n, *args: [layers.layer_norm(r, n, *args), None, None],
    "scaled_dot_product_attention": layers.attention,
    **{kind: partial(layers.recurrent_layers, kind)
       for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    "constant_pad_nd": padded, "pad": pad,
}
