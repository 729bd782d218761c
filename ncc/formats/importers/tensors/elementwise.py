"""Elementwise operations, broadcast as numpy does, and reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ncc.formats.importers.tensors.net import ABSENT, ZERO, Neurons, Tensor, TensorNet, Weights
from ncc.ir.graph import Ints

PLAIN: Final = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
                "max": np.maximum, "min": np.minimum}


def unary(net: TensorNet, x: Tensor, text: str) -> Tensor:
    """An activation of ncc's, or an expression in x."""
    if isinstance(x, Weights):
        return Weights(net.computed(text, x.values))
    return net.sum_of(net.neurons(x).ids[..., None], activation=text)


def binary(net: TensorNet, op: str, a: Tensor, b: Tensor) -> Tensor:
    """add, sub, mul, div, max or min. ValueError for shapes that do not broadcast."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    a, b = wide(a, shape), wide(b, shape)
    if isinstance(a, Weights) and isinstance(b, Weights):
        with np.errstate(all="ignore"):
            made = Weights(PLAIN[op](a.values, b.values))
        return net.fresh(_slotted(made)) if a.slots is not None or b.slots is not None else made
    if op in ("add", "sub"):
        return _sum(net, a, b, -1.0 if op == "sub" else 1.0)
    if op == "mul":
        return _product(net, a, b)
    if op == "div":
        if isinstance(b, Weights):
            with np.errstate(all="ignore"):
                inverse = 1.0 / b.values
            return _product(net, a, net.fresh(Weights(inverse, b.slots)))
        return _quotient(net, a, b)
    return _extreme(net, op, a, b)


def _slotted(made: Weights) -> Weights:
    """Marked as made of parameters, so that `fresh` gives it some."""
    return Weights(made.values, np.full(made.shape, -1, np.int32))


def wide(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x.moved(lambda held: np.broadcast_to(held, shape))


def _sum(net: TensorNet, a: Tensor, b: Tensor, sign: float) -> Tensor:
    """a + sign * b, of which one at least is neurons."""
    if isinstance(a, Neurons) and isinstance(b, Neurons):
        if sign == 1.0:  # a sum with what is 0 is no neuron
            only = np.where(a.ids == ZERO, b.ids, a.ids)
            if ((a.ids == ZERO) | (b.ids == ZERO)).all():
                return Neurons(only)
        return net.sum_of(np.stack([a.ids, b.ids], axis=-1),
                          net.codes(Weights(np.array([1.0, sign]))), unit=False)
    if isinstance(a, Neurons):
        assert isinstance(b, Weights)
        held = b if sign == 1.0 else net.fresh(Weights(-b.values, b.slots))
        return shifted(net, a, held)
    assert isinstance(a, Weights) and isinstance(b, Neurons)
    return net.sum_of(b.ids[..., None], net.code(sign), unit=False, biases=net.codes(a))


def shifted(net: TensorNet, x: Neurons, by: Weights, activation: str = "identity") -> Neurons:
    """x plus constants, elementwise; where they are 0 and no parameters, x itself."""
    if by.slots is None and activation == "identity" and not by.values.any():
        return x
    return net.sum_of(x.ids[..., None], biases=net.codes(by), activation=activation)


def _product(net: TensorNet, a: Tensor, b: Tensor) -> Tensor:
    if isinstance(a, Weights):
        a, b = b, a
    assert isinstance(a, Neurons)
    if isinstance(b, Weights):
        if b.slots is None and (b.values == 1.0).all():
            return a
        return net.sum_of(a.ids[..., None], net.codes(b)[..., None], unit=False)
    gone = (a.ids == ZERO) | (b.ids == ZERO)  # 0 times what is finite
    pairs = np.stack([np.where(gone, ZERO, a.ids), np.where(gone, ZERO, b.ids)], axis=-1)
    made = np.full(a.shape, ZERO, np.int32)
    if (~gone).any():
        made[~gone] = net.rows(pairs[~gone], net.code(1.0), None, "identity", "mul")
    return Neurons(made)


def _quotient(net: TensorNet, a: Tensor, b: Neurons) -> Tensor:
    """a / b, of constants times 1 / b."""
    if isinstance(a, Weights):
        return _product(net, a, unary(net, b, "recip"))
    here = a.ids != ZERO
    pairs = np.stack([a.ids, net.neurons(b).ids], axis=-1)[here]
    made = np.full(a.shape, ZERO, np.int32)
    made[here] = net.rows(pairs, net.code(1.0), None, "identity", "div")
    return Neurons(made)


def _extreme(net: TensorNet, op: str, a: Tensor, b: Tensor) -> Tensor:
    """max or min as torch, ONNX and numpy have them: a NaN is passed on."""
    aggregation = {"max": "maximum", "min": "minimum"}[op]
    a, b = net.neurons(a), net.neurons(b)
    return net.sum_of(np.stack([a.ids, b.ids], axis=-1), aggregation=aggregation)


def clip(net: TensorNet, x: Tensor, low: float, high: float) -> Tensor:
    """min(high, max(low, x))."""
    text = "x"
    if low > -np.inf:
        text = f"max({text},{float(low)!r})"
    if high < np.inf:
        text = f"min({text},{float(high)!r})"
    return x if text == "x" else unary(net, x, text)


def reduce(net: TensorNet, x: Tensor, axes: Sequence[int] | None, how: str, keep: bool = False
           ) -> Tensor:
    """Over axes (None: all) by `sum`, `mean`, `mul`, `max`, `min` (NaN is passed on), or of squares
    or magnitudes: `l1`, `l2`, `sumsquare`, `logsum`, `logsumexp`."""
    rank = len(x.shape)
    over = tuple(range(rank)) if axes is None else tuple(sorted({a % rank for a in axes}))
    if isinstance(x, Weights):
        return Weights(_folded(x.values, over, how, keep))
    if how in ("l1", "l2", "sumsquare"):
        inner = unary(net, x, "abs" if how == "l1" else "square")
        made = reduce(net, inner, over, "sum", keep)
        return unary(net, made, "sqrt") if how == "l2" else made
    if how == "logsum":
        return unary(net, reduce(net, x, over, "sum", keep), "log")
    if how == "logsumexp":
        top = reduce(net, x, over, "max", True)
        shifted_down = unary(net, binary(net, "sub", x, top), "exp")
        total = unary(net, reduce(net, shifted_down, over, "sum", keep), "log")
        return binary(net, "add", total, top if keep else _squeezed(top, over))
    sources = np.moveaxis(net.neurons(x).ids if how != "sum" else x.ids, over,
                          range(rank - len(over), rank))
    shape = sources.shape[: rank - len(over)]
    aggregation = {"sum": "sum", "mean": "mean", "mul": "mul", "max": "maximum",
                   "min": "minimum"}[how]
    made = net.sum_of(np.ascontiguousarray(sources).reshape(*shape, -1), aggregation=aggregation)
    if keep:
        kept = tuple(1 if axis in over else size for axis, size in enumerate(x.shape))
        return made.moved(lambda ids: ids.reshape(kept))
    return made


def _squeezed(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    return x.moved(lambda held: np.squeeze(held, axes))


def _folded(values: Any, axes: tuple[int, ...], how: str, keep: bool) -> Any:
    with np.errstate(all="ignore"):
        if how == "l1":
            return np.abs(values).sum(axes, keepdims=keep)
        if how in ("l2", "sumsquare"):
            total = np.square(values).sum(axes, keepdims=keep)
            return np.sqrt(total) if how == "l2" else total
        if how == "logsum":
            return np.log(values.sum(axes, keepdims=keep))
        if how == "logsumexp":
            top = values.max(axes, keepdims=True)
            total = np.log(np.exp(values - top).sum(axes, keepdims=keep))
            return total + (top if keep else np.squeeze(top, axes))
        fold: Any = {"sum": np.sum, "mean": np.mean, "mul": np.prod, "max": np.max,
                     "min": np.min}[how]
        return fold(values, axis=axes, keepdims=keep)


def softmax(net: TensorNet, x: Neurons, axis: int = -1, log: bool = False) -> Neurons:
    """Softmax over an axis, shifted by the largest, as torch computes it; ABSENT elements take no
    part, and are ZERO then. 2n + 2 neurons of n."""
    ids = np.moveaxis(x.ids, axis, -1)
    if not log:
        made = binary(net, "div", *exponentials(net, Neurons(ids)))
        return made.moved(lambda held: np.moveaxis(held, -1, axis))  # type: ignore[return-value]
    flat, top, raised = _raised(net, ids)
    here = flat != ABSENT
    total = np.broadcast_to(net.rows(raised, net.code(1.0), None, "log")[:, None], flat.shape)
    triples = np.stack([flat[here], top[here], total[here]], axis=-1)
    lower = np.full(flat.shape, ZERO, np.int32)
    lower[here] = net.rows(triples, net.codes(Weights(np.array([1.0, -1.0, -1.0]))))
    return Neurons(np.moveaxis(lower.reshape(ids.shape), -1, axis))


def exponentials(net: TensorNet, x: Neurons) -> tuple[Neurons, Neurons]:
    """exp(x - its largest over the last axis), ZERO where x is ABSENT, and the sums of these over
    that axis, which stays: softmax is their quotient."""
    _, _, raised = _raised(net, x.ids)
    total = net.rows(raised, net.code(1.0))
    return Neurons(raised.reshape(x.shape)), Neurons(total.reshape(*x.shape[:-1], 1))


def _raised(net: TensorNet, ids: Ints) -> tuple[Ints, Ints, Ints]:
    """Rows of ids (..., n) as (m, n), each row's largest, again and again, and exp(x - largest)."""
    flat = ids.reshape(-1, ids.shape[-1])
    absent = flat == ABSENT
    flat = np.where(absent, ABSENT, net.neurons(Neurons(flat)).ids).astype(np.int32)
    top = net.rows(flat, net.code(1.0), None, "identity", "maximum")
    each = np.broadcast_to(top[:, None], flat.shape)
    here = ~absent
    raised = np.full(flat.shape, ZERO, np.int32)
    raised[here] = net.rows(np.stack([flat[here], each[here]], axis=-1),
                            net.codes(Weights(np.array([1.0, -1.0]))), None, "exp")
    return flat, each, raised


def concatenated(net: TensorNet, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors one after another along an axis."""
    if all(isinstance(part, Weights) for part in parts):
        held = [part for part in parts if isinstance(part, Weights)]
        if all(part.slots is None for part in held):
            return Weights(np.concatenate([part.values for part in held], axis))
        slots = [np.full(part.shape, -1, np.int32) if part.slots is None else part.slots
                 for part in held]
        return Weights(np.concatenate([part.values for part in held], axis),
                       np.concatenate(slots, axis))
    ids: list[Ints] = [part.ids if isinstance(part, Neurons) else net.neurons(part).ids
                       for part in parts]
    return Neurons(np.concatenate(ids, axis))
