"""Reverse-mode differentiation of expressions, on any emitter: derived, never written by hand.

An expression is replayed backwards (Linnainmaa 1970; Griewank and Walther, "Evaluating
Derivatives", 2nd ed. 2008, chapter 3): each node's adjoint is the sum, over the nodes that read
it, of their adjoint times a partial derivative, which stands in the one table below. Only those
values of the expression itself are computed that some partial derivative reads.

At kinks the derivative is that of one of the two sides: `max(a, b)` and `min(a, b)` of equals move
with a, and relu, abs and step are flat at 0, as torch has it. An adjoint that is 0 stays 0 whatever
it is multiplied with (0 * inf is no derivative): a saturated exp(-x^4) is flat, not NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Generic

from ncc.scalar.emitter import Emitter, V
from ncc.scalar.expressions import Expr

# Ops whose derivative is finite and small wherever their argument is finite.
_TAME = ("x", "const", "neg", "abs", "max", "min", "select", "une", "relu", "step", "tanh",
         "sigmoid", "softplus", "erf", "sin", "cos", "atan", "add", "sub")


def tame(expr: Expr) -> bool:
    """Whether the derivative of `expr` is finite at every finite x, because nothing in it grows."""
    return all(node.op in _TAME for node in expr.nodes)


def derivative_at(expr: Expr, e: Emitter[V], x: V, y: V | None = None) -> V:
    """expr'(x); `y` is expr(x), where the caller has it."""
    return _Adjoint(expr, e, x, y).run()


def reads_argument(expr: Expr) -> bool:
    """Whether `derivative_at` computes with x where y is given: not of relu, tanh or exp, say."""
    trace = _Trace()
    found = derivative_at(expr, trace, 0, 1)
    live = {found}
    for k in range(len(trace.reads) - 1, -1, -1):
        if k in live:
            live.update(trace.reads[k])
    return 0 in live


class _Trace:
    """An emitter that keeps what each value was made of; 0 is x and 1 is y."""

    fused = False

    def __init__(self) -> None:
        self.reads: list[tuple[int, ...]] = [(), ()]

    def op(self, name: str, /, *values: int) -> int:
        self.reads.append(values)
        return len(self.reads) - 1

    def const(self, value: float, /) -> int:
        return self.op("const")


def times(e: Emitter[V], adjoint: V, factor: V) -> V:
    """adjoint * factor, and the adjoint itself where that is 0, whatever the factor."""
    flat = e.op("eq", adjoint, e.const(0.0))
    return e.op("select", flat, adjoint, e.op("mul", adjoint, factor))


class _Adjoint(Generic[V]):
    def __init__(self, expr: Expr, e: Emitter[V], x: V, y: V | None) -> None:
        self.nodes, self.direct = expr.nodes, expr.direct
        self.e = e
        self.x = x
        self.known: dict[int, V] = {} if y is None else {len(expr.nodes) - 1: y}
        self.one = e.const(1.0)

    def value(self, at: int) -> V:
        """The expression's own value at a node, made when it is first asked for."""
        wanted = [at]
        while wanted:
            k = wanted[-1]
            node = self.direct[k]
            missing = [a for a in node.args if a not in self.known]
            if k in self.known:
                wanted.pop()
            elif node.op == "x":
                self.known[k] = self.x
            elif node.op == "const":
                self.known[k] = self.e.const(node.value)
            elif missing:
                wanted += missing
            else:
                self.known[k] = self.e.op(node.op, *[self.known[a] for a in node.args])
        return self.known[at]

    def run(self) -> V:
        adjoints: dict[int, V] = {len(self.nodes) - 1: self.one}
        total: V | None = None
        for at in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[at]
            if at not in adjoints or node.op == "const":
                continue
            if node.op == "x":
                total = adjoints[at]
                continue
            parts = PARTIALS[node.op](_Site(self, at, adjoints[at]))
            for a, part in zip(node.args, parts, strict=True):
                if part is not None and self.nodes[a].op != "const":
                    adjoints[a] = self.e.op("add", adjoints[a], part) if a in adjoints else part
        return self.e.const(0.0) if total is None else total


class _Site(Generic[V]):
    """A node, its adjoint, and words in which a partial derivative is said."""

    def __init__(self, of: _Adjoint[V], at: int, adjoint: V) -> None:
        self.of = of
        self.at = at
        self.d = adjoint

    @property
    def y(self) -> V:
        return self.of.value(self.at)

    def arg(self, k: int) -> V:
        return self.of.value(self.of.nodes[self.at].args[k])

    def op(self, name: str, *values: V) -> V:
        return self.of.e.op(name, *values)

    def const(self, value: float) -> V:
        return self.of.e.const(value)

    def scaled(self, factor: V) -> V:
        """The adjoint times a factor that may be infinite."""
        if self.d is self.of.one:
            return factor
        return times(self.of.e, self.d, factor)

    def by(self, k: int) -> V:
        """The adjoint times argument k; a number needs no care."""
        node = self.of.nodes[self.of.nodes[self.at].args[k]]
        if node.op == "const" and self.d is not self.of.one:
            return self.op("mul", self.d, self.const(node.value))
        return self.scaled(self.arg(k))

    def where(self, test: V, a: V, b: V) -> V:
        return self.op("select", test, a, b)


Rule = Callable[["_Site[Any]"], tuple[Any, ...]]


def _div(s: _Site[V]) -> tuple[V, V]:
    inverse = s.op("div", s.const(1.0), s.arg(1))
    return s.scaled(inverse), s.op("neg", s.scaled(s.op("mul", s.y, inverse)))


def _abs(s: _Site[V]) -> tuple[V]:
    a, zero = s.arg(0), s.const(0.0)
    down = s.where(s.op("lt", a, zero), s.op("neg", s.d), zero)
    return (s.where(s.op("gt", a, zero), s.d, down),)


def _extreme(test: str) -> Rule:
    def rule(s: _Site[V]) -> tuple[V, V]:
        second = s.op(test, s.arg(1), s.arg(0))
        zero = s.const(0.0)
        return s.where(second, zero, s.d), s.where(second, s.d, zero)
    return rule


def _select(s: _Site[V]) -> tuple[None, V, V]:
    test, zero = s.arg(0), s.const(0.0)
    return None, s.where(test, s.d, zero), s.where(test, zero, s.d)


def _erf(s: _Site[V]) -> tuple[V]:
    bell = s.op("exp", s.op("neg", s.op("mul", s.arg(0), s.arg(0))))
    return (s.scaled(s.op("mul", s.const(2.0 / math.sqrt(math.pi)), bell)),)


def _one_minus_square(s: _Site[V]) -> V:
    return s.op("sub", s.const(1.0), s.op("mul", s.y, s.y))


def _one_plus_square(s: _Site[V]) -> V:
    return s.op("add", s.const(1.0), s.op("mul", s.arg(0), s.arg(0)))


def _over(s: _Site[V], divisor: V) -> V:
    return s.scaled(s.op("div", s.const(1.0), divisor))


# What each argument of an op gets of the op's adjoint d; None where it has no derivative.
PARTIALS: Mapping[str, Rule] = {
    "add": lambda s: (s.d, s.d),
    "sub": lambda s: (s.d, s.op("neg", s.d)),
    "mul": lambda s: (s.by(1), s.by(0)),
    "div": _div,
    "neg": lambda s: (s.op("neg", s.d),),
    "abs": _abs,
    "max": _extreme("gt"),
    "min": _extreme("lt"),
    "select": _select,
    "une": lambda s: (None, None),
    "exp": lambda s: (s.scaled(s.y),),
    "expm1": lambda s: (s.scaled(s.op("add", s.y, s.const(1.0))),),
    "log": lambda s: (_over(s, s.arg(0)),),
    "log1p": lambda s: (_over(s, s.op("add", s.arg(0), s.const(1.0))),),
    "tanh": lambda s: (s.scaled(_one_minus_square(s)),),
    "sigmoid": lambda s: (s.scaled(s.op("mul", s.y, s.op("sub", s.const(1.0), s.y))),),
    "softplus": lambda s: (s.scaled(s.op("sigmoid", s.arg(0))),),
    "erf": _erf,
    "sin": lambda s: (s.scaled(s.op("cos", s.arg(0))),),
    "cos": lambda s: (s.op("neg", s.scaled(s.op("sin", s.arg(0)))),),
    "atan": lambda s: (_over(s, _one_plus_square(s)),),
    "sqrt": lambda s: (_over(s, s.op("add", s.y, s.y)),),
    "relu": lambda s: (s.where(s.op("gt", s.y, s.const(0.0)), s.d, s.const(0.0)),),
    "step": lambda s: (None,),
}
