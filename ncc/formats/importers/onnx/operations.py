"""What ONNX's operators on neurons are: elementwise, reductions, softmax, products of matrices; the
layers stand in `layers`. Each takes the reader, the node and its inputs (None: not there)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from ncc.formats.importers.onnx import layers, recurrent
from ncc.formats.importers.onnx.evaluate import Node
from ncc.formats.importers.onnx.functions import PLAIN, Unkept, attribute, fixed, formula, real
from ncc.formats.importers.tensors import contraction, elementwise
from ncc.formats.importers.tensors.net import ABSENT, ZERO, Neurons, Tensor, Weights

# -- elementwise

def unary(text: str, reader: Any, node: Node, x: Tensor) -> Tensor:
    return elementwise.unary(reader.net, x, text)


def parametric(reader: Any, node: Node, x: Tensor) -> Tensor:
    return elementwise.unary(reader.net, x, formula(node.kind, *(
        attribute(node, name) for name in ("alpha", "beta", "gamma"))))


def gelu(reader: Any, node: Node, x: Tensor) -> Tensor:
    how = attribute(node, "approximate", "none")
    if how not in ("none", "tanh"):
        raise Unkept(f"approximate {how}")
    return elementwise.unary(reader.net, x, "gelu" if how == "none" else "gelu_tanh")


def shrink(reader: Any, node: Node, x: Tensor) -> Tensor:
    bias, lambd = real(attribute(node, "bias", 0.0)), attribute(node, "lambd", 0.5)
    if lambd < 0:
        raise Unkept(f"lambd {lambd}")
    k = real(lambd)
    return elementwise.unary(reader.net, x, f"step(x-{k})*(max(x,{k})-{bias})"
                             f"+step(-x-{k})*(min(x,-{k})+{bias})")


def clip(reader: Any, node: Node, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    """Bounds are attributes before opset 11, and inputs from there on."""
    bounds = []
    for name, held, none in (("min", low, -np.inf), ("max", high, np.inf)):
        if isinstance(held, Neurons):
            return elementwise.binary(reader.net, "min", elementwise.binary(
                reader.net, "max", x, real_tensor(low, -np.inf)), real_tensor(high, np.inf))
        if held is not None:
            bounds.append(float(np.asarray(fixed(held)).ravel()[0]))
        else:
            bounds.append(float(attribute(node, name, none)))
    if bounds[0] > bounds[1]:  # ONNX: all values become the upper bound
        return elementwise.unary(reader.net, x, f"min(max(x,{real(bounds[0])}),{real(bounds[1])})")
    return elementwise.clip(reader.net, x, *bounds)


def real_tensor(held: Any, usual: float) -> Tensor:
    return held if isinstance(held, Neurons | Weights) else Weights(np.array(usual))


def prelu(reader: Any, node: Node, x: Tensor, slope: Tensor) -> Tensor:
    """max(x, 0) + slope * min(x, 0): two neurons of an element."""
    low = elementwise.unary(reader.net, x, "min(x,0)")
    part = elementwise.binary(reader.net, "mul", low, slope)
    return elementwise.binary(reader.net, "add", elementwise.unary(reader.net, x, "relu"), part)


def binary(op: str, reader: Any, node: Node, a: Any, b: Any) -> Tensor:
    a, b = tensor(a), tensor(b)
    if op == "add":
        masked = _masked(reader, node, a, b) or _masked(reader, node, b, a)
        if masked is not None:
            return masked
        if any(isinstance(held, Neurons) and (held.ids == ABSENT).any() for held in (a, b)):
            raise Unkept("-inf of a mask comes to it, and only a softmax takes that")
    if op == "mul" and isinstance(a, Neurons) and isinstance(b, Neurons) and np.array_equal(
            a.ids, b.ids):
        return elementwise.unary(reader.net, a, "square")
    return elementwise.binary(reader.net, op, a, b)


def tensor(held: Any) -> Tensor:
    if isinstance(held, Neurons | Weights):
        return held
    return Weights(np.asarray(held, np.float64))


def _masked(reader: Any, node: Node, x: Tensor, mask: Tensor) -> Tensor | None:
    """x without the elements to which a constant -inf is added, or that are -inf."""
    if not isinstance(x, Neurons) or not isinstance(mask, Weights) or mask.slots is not None:
        return None
    gone = np.broadcast_to(mask.values == -np.inf, np.broadcast_shapes(x.shape, mask.shape))
    absent = gone | np.broadcast_to(x.ids == ABSENT, gone.shape)
    if not absent.any():
        return None
    rest = Weights(np.where(mask.values == -np.inf, 0.0, mask.values))
    ids = np.where(x.ids == ABSENT, ZERO, x.ids)
    made = elementwise.wide(elementwise.binary(reader.net, "add", Neurons(ids), rest), gone.shape)
    assert isinstance(made, Neurons)
    return Neurons(np.where(absent, ABSENT, made.ids))


def variadic(op: str, reader: Any, node: Node, *held: Any) -> Tensor:
    made = tensor(held[0])
    for one in held[1:]:
        made = binary(op, reader, node, made, one)
    if node.kind == "Mean":
        made = elementwise.binary(reader.net, "div", made, Weights(np.array(float(len(held)))))
    return made


def power(reader: Any, node: Node, x: Any, exponent: Any) -> Tensor:
    if isinstance(exponent, Neurons):
        base = fixed(x, "a power whose base and exponent depend on the input")
        if not (base > 0).all():
            raise Unkept("an exponent that depends on the input, of a base that is not positive")
        rate = Weights(np.log(base))
        return elementwise.unary(reader.net, elementwise.binary(reader.net, "mul", exponent, rate),
                                 "exp")
    powers = np.asarray(fixed(exponent), np.float64)
    shape = np.broadcast_shapes(x.shape, powers.shape)
    wide = np.broadcast_to(powers, shape)
    ids = np.broadcast_to(reader.net.neurons(x).ids, shape).copy()
    for value in np.unique(powers).tolist():
        made = elementwise.unary(reader.net, Neurons(ids[wide == value]), _power(value))
        assert isinstance(made, Neurons)
        ids[wide == value] = made.ids
    return Neurons(ids)


def _power(k: float) -> str:
    named = {1.0: "x", 2.0: "square", 3.0: "cube", -1.0: "recip", 0.5: "sqrt", -0.5: "rsqrt"}
    if k in named:
        return named[k]
    if not np.isfinite(k):
        raise Unkept(f"the exponent {k}")
    if k.is_integer() and abs(k) <= 64:
        return f"x^{int(k)}" if k >= 0 else f"1/x^{int(-k)}"
    if k.is_integer():
        raise Unkept(f"the exponent {k}")
    return f"exp({real(k)}*log(x))"


def same(reader: Any, node: Node, x: Tensor, *_: Any) -> Any:
    return x


def cast(reader: Any, node: Node, x: Tensor, like: Any = None) -> Tensor:
    """To a real of 32 or 64 bits; what is narrower, or no real, would be rounded."""
    to = attribute(node, "to") if like is None else 1 if isinstance(like, Neurons | Weights) else 0
    if to not in (1, 11):
        raise Unkept(f"to the type {to}, which rounds")
    return x


def dropout(reader: Any, node: Node, x: Tensor, ratio: Any = None, training: Any = None) -> Any:
    if training is not None and bool(np.asarray(fixed(training)).any()):
        raise Unkept("training_mode, which is random")
    return [x, np.ones(x.shape, bool)]


def upsample(reader: Any, node: Node, x: Neurons, scales: Any = None) -> Neurons:
    """Upsample, and Resize of opset 10, which is the same: the nearest element before it."""
    if attribute(node, "mode", "nearest") != "nearest":
        raise Unkept(f"mode {attribute(node, 'mode')}")
    rates = fixed(scales) if scales is not None else np.array(attribute(node, "scales"))
    if rates.shape != (len(x.shape),) or not (rates > 0).all():
        raise ValueError(f"scales {rates} of the shape {x.shape}")
    sizes = np.floor(np.array(x.shape) * rates.astype(np.float32))
    if np.prod(sizes) > reader.options.max_edges:
        raise Unkept(f"scales {rates}")
    places = [np.minimum((np.arange(int(size)) / np.float32(rate)).astype(np.int64), old - 1)
              for size, rate, old in zip(sizes, rates, x.shape, strict=True)]
    return Neurons(x.ids[np.ix_(*places)])


# -- reductions

def reduced(how: str, reader: Any, node: Node, x: Tensor, axes: Any = None) -> Tensor:
    over = attribute(node, "axes") if axes is None else np.asarray(axes).ravel().tolist()
    if not over:
        if attribute(node, "noop_with_empty_axes", 0):
            text = {"l1": "abs", "l2": "abs", "sumsquare": "square", "logsum": "log"}.get(how)
            return x if text is None else elementwise.unary(reader.net, x, text)
        over = None
    if 0 in x.shape:
        raise Unkept(f"the shape {x.shape}, of nothing")
    if over is not None and any(not -len(x.shape) <= axis < len(x.shape) for axis in over):
        raise ValueError(f"axes {over} of the shape {x.shape}")
    return elementwise.reduce(reader.net, x, over, how, bool(attribute(node, "keepdims", 1)))


def softmax(reader: Any, node: Node, x: Neurons, *, log: bool = False) -> Neurons:
    """Before opset 13 all axes from `axis` (default 1) on are one; from there on `axis` is."""
    if node.opset >= 13:
        if (x.ids == ABSENT).all(attribute(node, "axis", -1)).any():
            raise Unkept("a row that a mask of -inf leaves nothing of")
        return elementwise.softmax(reader.net, x, attribute(node, "axis", -1), log)
    if (x.ids == ABSENT).any():
        raise Unkept("-inf of a mask, before opset 13")
    axis = attribute(node, "axis", 1) % max(len(x.shape), 1)
    flat = Neurons(x.ids.reshape(int(np.prod(x.shape[:axis])), -1))
    return Neurons(elementwise.softmax(reader.net, flat, -1, log).ids.reshape(x.shape))


# -- products of matrices

def matmul(reader: Any, node: Node, a: Any, b: Any) -> Tensor:
    """With a constant matrix, and a constant bias added by the one node that reads it."""
    a, b = tensor(a), tensor(b)
    if not isinstance(b, Weights) or len(b.shape) != 2:
        return contraction.matmul(reader.net, a, b)
    if a.shape[-1] != b.shape[0]:
        raise ValueError(f"matrices of shapes {a.shape} and {b.shape} have no product")
    after = reader.reader_of(node, "Add")
    bias = None
    if after is not None:
        other = [name for name in after.inputs if name != node.outputs[0]]
        held = reader.values.get(other[0]) if len(other) == 1 else None
        if isinstance(held, Weights) and held.shape == (b.shape[1],):
            bias = held
            reader.finished[after.outputs[0]] = node.outputs[0]
    return contraction.linear(reader.net, a, b.moved(np.transpose), bias)


def gemm(reader: Any, node: Node, a: Any, b: Any, c: Any = None) -> Tensor:
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    a, b = tensor(a), tensor(b)
    if attribute(node, "transA", 0):
        a = a.moved(np.transpose)
    if attribute(node, "transB", 0):
        b = b.moved(np.transpose)
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"matrices of shapes {a.shape} and {b.shape} have no product")
    if isinstance(b, Weights):
        b = scaled(reader, b, alpha)
    elif isinstance(a, Weights):
        a = scaled(reader, a, alpha)
    if isinstance(b, Weights) and (c is None or isinstance(c, Weights) and (
            len(c.shape) < 2 or c.shape[0] == 1)):
        bias = None if c is None else scaled(reader, c, beta).moved(
            lambda held: np.broadcast_to(held.reshape(-1), (b.shape[1],)))
        return contraction.linear(reader.net, a, b.moved(np.transpose), bias)
    made = contraction.matmul(reader.net, a, b)
    if isinstance(a, Neurons) and isinstance(b, Neurons) and alpha != 1:
        made = elementwise.binary(reader.net, "mul", made, Weights(np.array(alpha)))
    if c is None or beta == 0:
        return made
    c = tensor(c)
    if beta != 1:
        c = scaled(reader, c, beta) if isinstance(c, Weights) else elementwise.binary(
            reader.net, "mul", c, Weights(np.array(beta)))
    return binary("add", reader, node, made, c)


def scaled(reader: Any, held: Weights, factor: float) -> Weights:
    """Of parameters, parameters of their own, where the factor is not 1."""
    if factor == 1:
        return held
    made: Weights = reader.net.fresh(Weights(held.values * factor, held.slots))
    if held.slots is not None and (held.slots < 0).any():  # pruned ones stay so
        assert made.slots is not None
        return Weights(made.values, np.where(held.slots < 0, -1, made.slots).astype(np.int32))
    return made


def einsum(reader: Any, node: Node, *held: Any) -> Tensor:
    """Of one or two tensors: their products over all letters, summed over those that the result
    has not."""
    parts = [tensor(one) for one in held]
    if len(parts) > 2:
        raise Unkept(f"a product of {len(parts)} tensors")
    terms, result = _letters(attribute(node, "equation"), [part.shape for part in parts])
    sizes: dict[str, int] = {}
    for letters, part in zip(terms, parts, strict=True):
        for letter, size in zip(letters, part.shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise ValueError(f"the letter {letter} has the sizes {sizes[letter]} and {size}")
    summed = [letter for letter in sizes if letter not in result]
    order = [*result, *summed]
    full = tuple(sizes[letter] for letter in order)
    lead = full[: len(result)]

    def spread(array: Any, letters: Sequence[str]) -> Any:
        number = {letter: k for k, letter in enumerate(order)}
        distinct = [letter for letter in order if letter in letters]
        made = np.einsum(array, [number[c] for c in letters], [number[c] for c in distinct])
        shape = [sizes[c] if c in distinct else 1 for c in order]
        return np.broadcast_to(made.reshape(shape), full).reshape(*lead, -1)

    ids = [spread(part.ids, letters) if isinstance(part, Neurons)
           else spread(reader.net.codes(part), letters)
           for part, letters in zip(parts, terms, strict=True)]
    if len(parts) == 1:
        return reader.net.sum_of(ids[0])  # type: ignore[no-any-return]
    if isinstance(parts[0], Neurons) and isinstance(parts[1], Neurons):
        return contraction.dot(reader.net, ids[0], ids[1])
    neurons, codes = ids if isinstance(parts[0], Neurons) else ids[::-1]
    return reader.net.sum_of(neurons, codes, unit=False)  # type: ignore[no-any-return]


def _letters(equation: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[list[str]], list[str]]:
    """The letters of each tensor and of the result; those of "..." are capital Greek."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    words = left.split(",")
    if len(words) != len(shapes):
        raise ValueError(f"the equation {equation} is of {len(words)} tensors")
    more = max((len(shape) - len(word.replace("...", ""))
                for word, shape in zip(words, shapes, strict=True) if "..." in word), default=0)
    dots = [chr(0x391 + k) for k in range(more)]

    def spelled(word: str, rank: int | None) -> list[str]:
        before, there, after = word.partition("...")
        if not there:
            return list(before)
        count = more if rank is None else rank - len(before) - len(after)
        return [*before, *(dots[more - count :]), *after]

    terms = [spelled(word, len(shape)) for word, shape in zip(words, shapes, strict=True)]
    if arrow:
        return terms, spelled(right, None)
    every = [letter for term in terms for letter in term if letter not in dots]
    return terms, dots + sorted({letter for letter in every if every.count(letter) == 1})


OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    **{kind: partial(unary, text) for kind, text in PLAIN.items()},
    **dict.fromkeys(("LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid", "ThresholdedRelu", "Swish"),
                    parametric),
    "Gelu": gelu, "Shrink": shrink, "Clip": clip, "PRelu": prelu, "Pow": power,
    "Identity": same, "Cast": cast, "CastLike": cast, "Dropout": dropout,
    **{kind: partial(binary, op) for kind, op in (
        ("Add", "add"), ("Sub", "sub"), ("Mul", "mul"), ("Div", "div"))},
    **{kind: partial(variadic, op) for kind, op in (
        ("Sum", "add"), ("Mean", "add"), ("Max", "max"), ("Min", "min"))},
    **{f"Reduce{kind}": partial(reduced, how) for kind, how in (
        ("Sum", "sum"), ("Mean", "mean"), ("Prod", "mul"), ("Max", "max"), ("Min", "min"),
        ("L1", "l1"), ("L2", "l2"), ("SumSquare", "sumsquare"), ("LogSum", "logsum"),
        ("LogSumExp", "logsumexp"))},
    "Softmax": softmax, "LogSoftmax": partial(softmax, log=True),
    "Upsample": upsample, "Resize": upsample,
    "MatMul": matmul, "Gemm": gemm, "Einsum": einsum,
    "Conv": layers.conv, "ConvTranspose": layers.conv_transposed,
    "MaxPool": layers.max_pool, "AveragePool": layers.average_pool, "LpPool": layers.lp_pool,
    "GlobalMaxPool": partial(layers.global_pool, "max"),
    "GlobalAveragePool": partial(layers.global_pool, "mean"),
    "GlobalLpPool": layers.global_lp_pool,
    "BatchNormalization": layers.batch_norm, "InstanceNormalization": layers.instance_norm,
    "GroupNormalization": layers.group_norm, "LayerNormalization": layers.layer_norm,
    "RMSNormalization": layers.rms_norm, "LpNormalization": layers.lp_norm, "LRN": layers.lrn,
    "RNN": recurrent.rnn, "LSTM": recurrent.lstm, "GRU": recurrent.gru,
}
