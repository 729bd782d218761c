"""Optimizers: what a step makes of a parameter and its gradient, for every emitter.

The state is the caller's, all zeros before the first step: `scalars` reals that all parameters
share, then `slots` arrays of P. A step calls `begin` once and `element` for each parameter.

    sgd      b = momentum b + (1 - dampening) g          (at the first step b = g)
             w = w - lr b                                 nesterov: w - lr (g + momentum b)
    adam     m = m + (1 - beta1)(g - m), v = beta2 v + (1 - beta2) g^2
             w = w - lr/(1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)
    adamw    adam on w (1 - lr weight_decay)
    rmsprop  v = alpha v + (1 - alpha) g^2               centered: less the square of g's mean
             w = w - lr b, b = momentum b + g / (sqrt(v) + eps)

In the others than adamw, g is the gradient + weight_decay w. Names and defaults are torch's.
(Sutskever et al. 2013, Kingma and Ba 2015, Reddi et al. 2018 for amsgrad, Loshchilov and Hutter
2019, Hinton's lecture 6e of 2012 with Graves 2013 for centered.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ncc.errors import NccError
from ncc.scalar.aggregations import step
from ncc.scalar.choice import Option, read, spelt
from ncc.scalar.emitter import Emitter, V

_RATE = Option(0.0, 0.0, 1.0, high_too=False)
_DECAY = Option(0.0, 0.0)
_FLAG = Option(0.0, flag=True)
_EPS = Option(1e-8, 0.0)
_ADAM = {"beta1": _RATE._replace(usual=0.9), "beta2": _RATE._replace(usual=0.999), "eps": _EPS,
         "weight_decay": _DECAY, "amsgrad": _FLAG}
OPTIMIZERS: dict[str, dict[str, Option]] = {
    "sgd": {"momentum": _DECAY, "dampening": _RATE, "nesterov": _FLAG, "weight_decay": _DECAY},
    "adam": _ADAM,
    "adamw": {**_ADAM, "weight_decay": _DECAY._replace(usual=0.01)},
    "rmsprop": {"alpha": _RATE._replace(usual=0.99), "eps": _EPS, "momentum": _DECAY,
                "centered": _FLAG, "weight_decay": _DECAY},
}
# The learning rate where the caller names none: torch's.
LEARNING_RATE = {"sgd": 1e-3, "adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-2}


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with its options; `str` is the text that `parse` reads back."""

    name: str
    options: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return spelt(self.name, self.options)

    def option(self, name: str) -> float:
        return dict(self.options)[name]

    @property
    def scalars(self) -> int:
        """Reals of state that all parameters share."""
        if self.name == "sgd":
            return 1 if self.option("dampening") else 0
        return 1 if self.name in ("adam", "adamw") else 0

    @property
    def slots(self) -> int:
        """Reals of state that each parameter has."""
        if self.name == "sgd":
            return 1 if self.option("momentum") else 0
        if self.name == "rmsprop":
            return 1 + bool(self.option("centered")) + bool(self.option("momentum"))
        return 3 if self.option("amsgrad") else 2


def parse(text: str) -> Optimizer:
    """`adam`, `sgd:momentum=0.9:nesterov=1`, ..; NccError E630 (status 2) where it is wrong."""
    made = Optimizer(*read(text, "optimizer", OPTIMIZERS))
    if made.name == "sgd" and made.option("nesterov"):
        if not made.option("momentum") or made.option("dampening"):
            raise NccError("E630", "sgd: nesterov wants a momentum and no dampening")
    return made


def state_size(optimizer: Optimizer, n_params: int) -> int:
    """Reals of state: the scalars, then each slot's n_params."""
    return optimizer.scalars + optimizer.slots * n_params


def begin(e: Emitter[V], optimizer: Optimizer, scalars: Sequence[V], lr: V
          ) -> tuple[tuple[V, ...], tuple[V, ...]]:
    """The scalars after this step, and what `element` wants of them for each parameter.

    The counter t stands at 2^24 in f32 (2^53 in f64) for good: beta^t has long been 0 then.
    """
    option = optimizer.option
    if optimizer.name == "sgd":
        if not optimizer.scalars:
            return (), (lr,)
        first = e.op("eq", scalars[0], e.const(0.0))
        part = e.op("select", first, e.const(1.0), e.const(1.0 - option("dampening")))
        return (e.const(1.0),), (lr, part)
    if optimizer.name == "rmsprop":
        return (), (lr,)
    t = e.op("add", scalars[0], e.const(1.0))
    size = e.op("div", lr, _one_less_power(e, option("beta1"), t))
    root = e.op("sqrt", _one_less_power(e, option("beta2"), t))
    unroot = e.op("div", e.const(1.0), root)
    if optimizer.name == "adam":
        return (t,), (size, unroot)
    keep = e.op("sub", e.const(1.0), e.op("mul", lr, e.const(option("weight_decay"))))
    return (t,), (size, unroot, keep)


def element(e: Emitter[V], optimizer: Optimizer, w: V, g: V, slots: Sequence[V],
            shared: Sequence[V]) -> tuple[V, tuple[V, ...]]:
    """The parameter and its slots after the step; `shared` is what `begin` made."""
    option = optimizer.option
    if optimizer.name == "adamw":
        w = e.op("mul", w, shared[2])
    elif option("weight_decay"):
        g = _plus(e, g, e.const(option("weight_decay")), w)
    if optimizer.name == "sgd":
        if not slots:
            return _minus(e, w, shared[0], g), ()
        part = e.op("mul", shared[1], g) if shared[1:] else g
        held = _plus(e, part, e.const(option("momentum")), slots[0])
        if option("nesterov"):
            g = _plus(e, g, e.const(option("momentum")), held)
        else:
            g = held
        return _minus(e, w, shared[0], g), (held,)
    if optimizer.name == "rmsprop":
        return _rmsprop(e, optimizer, w, g, slots, shared[0])
    m = _lerp(e, slots[0], g, 1.0 - option("beta1"))
    v = _square_mean(e, slots[1], g, option("beta2"))
    kept: tuple[V, ...] = (m, v)
    if option("amsgrad"):
        v = e.op("max", slots[2], v)
        kept = (*kept, v)
    below = _plus(e, e.const(option("eps")), e.op("sqrt", v), shared[1])
    return _minus(e, w, shared[0], e.op("div", m, below)), kept


def _rmsprop(e: Emitter[V], optimizer: Optimizer, w: V, g: V, slots: Sequence[V], lr: V
             ) -> tuple[V, tuple[V, ...]]:
    option = optimizer.option
    v = _square_mean(e, slots[0], g, option("alpha"))
    kept: tuple[V, ...] = (v,)
    if option("centered"):
        mean = _lerp(e, slots[1], g, 1.0 - option("alpha"))
        kept = (*kept, mean)
        # A variance: below 0 only by rounding, where the root would be NaN.
        v = e.op("max", _minus(e, v, mean, mean), e.const(0.0))
    move = e.op("div", g, e.op("add", e.op("sqrt", v), e.const(option("eps"))))
    if option("momentum"):
        move = _plus(e, move, e.const(option("momentum")), slots[-1])
        kept = (*kept, move)
    return _minus(e, w, lr, move), kept


def _plus(e: Emitter[V], c: V, a: V, b: V) -> V:
    """c + a b, as the edges of a sum round."""
    return step(e, "sum", c, a, b)


def _minus(e: Emitter[V], c: V, a: V, b: V) -> V:
    """c - a b"""
    return step(e, "sum", c, e.op("neg", a), b)


def _lerp(e: Emitter[V], mean: V, g: V, part: float) -> V:
    return _plus(e, mean, e.const(part), e.op("sub", g, mean))


def _square_mean(e: Emitter[V], mean: V, g: V, beta: float) -> V:
    return _plus(e, e.op("mul", e.const(beta), mean), e.op("mul", e.const(1.0 - beta), g), g)


def _one_less_power(e: Emitter[V], beta: float, t: V) -> V:
    """1 - beta^t, with no digit lost where beta^t is close to 1."""
    if beta == 0.0:
        return e.const(1.0)
    return e.op("neg", e.op("expm1", e.op("mul", t, e.const(math.log(beta)))))
