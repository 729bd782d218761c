"""Losses and their derivatives, for every emitter: what training makes small.

With y an output, t its target, d = y - t (torch's definitions, and its derivatives at kinks):

    mse     d^2                                       derivative 2 d
    mae     |d|                                       -1, 0, 1
    huber   d^2/2 where |d| <= delta,                 d clipped to -delta .. delta
            delta (|d| - delta/2) beyond
    bce     relu(y) - y t + log1p(exp(-|y|))          sigmoid(y) - t
            (cross-entropy of sigmoid(y) and t in 0..1: y is a logit)
    ce      log(sum_k exp(y_k - top)) - (y_c - top)   exp(y_k - top)/sum - [k = c]
            (cross-entropy of softmax(y) and class c; top = max_k y_k)

The first four go output by output: `element`. For `ce` the caller loops over the outputs three
times, with the pieces `ce_top`, `ce_gather` (folds over k), `ce_term` (summed), `ce_loss` and
`ce_derivative`. A class is a real that holds a whole number, 0 .. n_outputs-1.

The loss of a batch is torch's mean: over samples and outputs, and over samples for `ce`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ncc.errors import NccError
from ncc.scalar.choice import Option, read, spelt
from ncc.scalar.emitter import Emitter, V

LOSSES: dict[str, dict[str, Option]] = {
    "mse": {},
    "mae": {},
    "huber": {"delta": Option(1.0, 0.0, low_too=False)},
    "bce": {},
    "ce": {},
}
ALIASES = {"l2": "mse", "l1": "mae", "binary_cross_entropy": "bce", "cross_entropy": "ce"}


@dataclass(frozen=True)
class Loss:
    """A loss with its options; `str` is the text that `parse` reads back."""

    name: str
    options: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        return spelt(self.name, self.options)

    def option(self, name: str) -> float:
        return dict(self.options)[name]


def parse(text: str) -> Loss:
    """`mse`, `huber:delta=0.5`, ..; NccError E630 (status 2) for another name, option or value."""
    head, colon, rest = text.partition(":")
    return Loss(*read(ALIASES.get(head, head) + colon + rest, "loss", LOSSES))


def targets(loss: Loss, n_outputs: int) -> int:
    """Reals in the target of a sample: the class alone for `ce`, else one an output.

    NccError E630 (status 2) for `ce` of fewer than two outputs: it is 0 whatever they are.
    """
    if loss.name != "ce":
        return n_outputs
    if n_outputs < 2:
        raise NccError("E630", f"ce is for two classes or more, and the net has {n_outputs} "
                       "output", help="bce takes one logit")
    return 1


def scale(loss: Loss, n_outputs: int) -> int:
    """What the sum of a sample's losses is divided by, beside the number of samples."""
    return 1 if loss.name == "ce" else n_outputs


def element(e: Emitter[V], loss: Loss, y: V, t: V) -> tuple[V, V]:
    """The loss of one output and its derivative in y, neither divided by anything.

    Finite arguments give no NaN; d^2 may overflow. ValueError for `ce`, which has no elements.
    """
    if loss.name == "bce":
        cross = e.op("sub", e.op("relu", y), e.op("mul", y, t))
        rest = e.op("log1p", e.op("exp", e.op("neg", e.op("abs", y))))
        return e.op("add", cross, rest), e.op("sub", e.op("sigmoid", y), t)
    d = e.op("sub", y, t)
    if loss.name == "mse":
        return e.op("mul", d, d), e.op("add", d, d)
    if loss.name == "mae":
        zero = e.const(0.0)
        # Neither above nor below 0 is 0, or NaN, which stays.
        below = e.op("select", e.op("lt", d, zero), e.const(-1.0), d)
        return e.op("abs", d), e.op("select", e.op("gt", d, zero), e.const(1.0), below)
    if loss.name == "huber":
        # With s the derivative, s (d - s/2) is d^2/2 inside and delta (|d| - delta/2) outside.
        delta = loss.option("delta")
        derivative = e.op("max", e.op("min", d, e.const(delta)), e.const(-delta))
        half = e.op("mul", e.const(0.5), derivative)
        return e.op("mul", derivative, e.op("sub", d, half)), derivative
    raise ValueError(f"the loss {loss.name} does not go by outputs")


# ---- the pieces of ce, over the outputs k


def ce_top(e: Emitter[V], top: V, y: V) -> V:
    """The largest output so far, from y_0 on."""
    return e.op("max", top, y)


def ce_gather(e: Emitter[V], chosen: V, y: V, k: V, t: V) -> V:
    """y_t, folded over the outputs from 0 on: y where k is the class t, else what there was."""
    return e.op("select", e.op("eq", k, t), y, chosen)


def ce_term(e: Emitter[V], y: V, top: V) -> V:
    """exp(y - top), at most 1: their sum over the outputs is at least 1."""
    return e.op("exp", e.op("sub", y, top))


def ce_loss(e: Emitter[V], total: V, top: V, chosen: V) -> V:
    """The sample's loss, of the sum of the terms, the largest output and the class's."""
    return e.op("sub", e.op("log", total), e.op("sub", chosen, top))


def ce_derivative(e: Emitter[V], term: V, total: V, k: V, t: V) -> V:
    """The derivative in output k, of its term and the sum of all."""
    hit = e.op("select", e.op("eq", k, t), e.const(1.0), e.const(0.0))
    return e.op("sub", e.op("div", term, total), hit)
