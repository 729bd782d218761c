"""What a net means, written apart from the compiler: plain data in, float64 out.

Nothing here imports ncc: the formulas are the contract's, in numpy and `math`, so that an entry
wrong in the compiler's tables is seen. `run` also gives, beside each value, how far a correct
evaluation in float32 or float64 may be from it, by carrying a bound of the error along; `agrees`
compares with that, so a test needs no tolerance of its own and no net is too steep for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Reals = NDArray[np.float64]


class Weight(NamedTuple):
    """A weight or a bias. `kind` is "weight" (trainable), "tie" (trainable, shared by all that
    bear `name`) or "const"; a trainable one may have no value."""

    kind: str
    name: str = ""
    value: float | None = None


class Net(NamedTuple):
    """Neuron j reads `in_lists[j]`, pairs (source, Weight) in order; an input has neither in-list
    nor bias. The edges of a dot come in pairs, the second with a constant weight of 1. Activations
    are codes (-1 for inputs); `outputs` None means the contract's default;
    `functions` maps codes that the file defines to their texts."""

    n: int
    in_lists: tuple[tuple[tuple[int, Weight], ...], ...]
    biases: tuple[Weight | None, ...]
    activations: tuple[int, ...]
    aggregations: tuple[str, ...]
    outputs: tuple[int, ...] | None = None
    functions: dict[int, str] = {}  # noqa: RUF012


ACTIVATION_NAMES = (
    "identity sigmoid tanh relu silu gelu swish leaky_relu elu selu softplus softsign hard_sigmoid "
    "exp log abs square cube sqrt rsqrt recip sin cos gauss step gelu_tanh mish hard_swish relu6 "
    "clip atan erf"
).split()
CODES = {name: code for code, name in enumerate(ACTIVATION_NAMES)}

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _keep_nan(x: Reals, y: Reals) -> Reals:
    """y, but NaN where x is."""
    return np.where(np.isnan(x), np.nan, y)


def _sigmoid(x: Reals) -> Reals:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small / (1 + small), 1 / (1 + small))


def _times(x: Reals, gate: Reals) -> Reals:
    """x * gate for a gate that falls to 0 faster than x grows: 0 at minus infinity."""
    return np.where(x == -np.inf, 0.0, x * gate)


def _selu(x: Reals) -> Reals:
    # Klambauer et al., Self-Normalizing Neural Networks (2017), equation 14
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _softplus(x: Reals) -> Reals:
    return np.logaddexp(0.0, x)


def _gelu_tanh(x: Reals) -> Reals:
    # x/2 (1 + tanh u) = x sigmoid(2u), which does not cancel for x < 0
    return _times(x, _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


# By name, on arrays. Where a formula of the contract cancels, its equal that does not stands here.
ACTIVATIONS: dict[str, Callable[[Reals], Reals]] = {
    "identity": lambda x: x,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: _keep_nan(x, np.where(x > 0, x, 0.0)),
    "silu": lambda x: _times(x, _sigmoid(x)),
    "gelu": lambda x: _times(x, _erfc(-x / math.sqrt(2)) / 2),
    "swish": lambda x: _times(x, _sigmoid(x)),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": _selu,
    "softplus": _softplus,
    "softsign": lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x))),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "exp": np.exp,
    "log": np.log,
    "abs": np.abs,
    "square": lambda x: x * x,
    "cube": lambda x: x * x * x,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "recip": lambda x: 1 / x,
    "sin": np.sin,
    "cos": np.cos,
    "gauss": lambda x: np.exp(-x * x),
    "step": lambda x: np.where(x > 0, 1.0, 0.0),
    "gelu_tanh": _gelu_tanh,
    "mish": lambda x: _times(x, np.tanh(_softplus(x))),
    "hard_swish": lambda x: _times(x, np.clip(x / 6 + 0.5, 0, 1)),
    "relu6": lambda x: np.clip(x, 0, 6),
    "clip": lambda x: np.clip(x, -1, 1),
    "atan": np.arctan,
    "erf": _erf,
}

# Texts for `fn` lines, each with its meaning.
FUNCTIONS: dict[str, Callable[[Reals], Reals]] = {
    "1/(1+exp(-4.9*x))": lambda x: _sigmoid(4.9 * x),
    "max(x, 0.5*x, -1)": lambda x: np.maximum(np.maximum(x, 0.5 * x), -1),
    "-x^2 + 3": lambda x: 3 - x * x,
    "(x - 0.25) / (2 + abs(x))": lambda x: (x - 0.25) / (2 + np.abs(x)),
    "tanh(min(x, 1.5)) * 1e-1": lambda x: np.tanh(np.minimum(x, 1.5)) / 10,
    "0.5": lambda x: np.full_like(x, 0.5),
}


def meaning(net: Net, code: int) -> Callable[[Reals], Reals]:
    """The function that activation `code` of this net is."""
    if code in net.functions:
        return FUNCTIONS[net.functions[code]]
    return ACTIVATIONS[ACTIVATION_NAMES[code]]


def inputs(net: Net) -> list[int]:
    return [j for j in range(net.n) if not net.in_lists[j] and net.biases[j] is None]


def outputs(net: Net) -> list[int]:
    """Named, or by index the neurons, inputs apart, that no neuron reads."""
    if net.outputs is not None:
        return list(net.outputs)
    read = {source for in_list in net.in_lists for source, _ in in_list}
    taken = set(inputs(net))
    return [j for j in range(net.n) if j not in read and j not in taken]


def slots(net: Net) -> list[Weight]:
    """The canonical parameter vector: each trainable weight, in-list by in-list and each neuron's
    bias after its in-list; a tie stands where its name is first met."""
    found: list[Weight] = []
    names: dict[str, int] = {}
    for j in range(net.n):
        bias = net.biases[j]
        weights = [w for _, w in net.in_lists[j]] + ([bias] if bias is not None else [])
        for w in weights:
            if w.kind == "weight":
                found.append(w)
            elif w.kind == "tie" and w.name not in names:
                names[w.name] = len(found)
                found.append(w)
    return found


def parameters(net: Net) -> Reals | None:
    """The values of `slots`, float64; None where one has none."""
    values = [w.value for w in slots(net)]
    return None if None in values else np.array(values, dtype=np.float64)


def topological(net: Net) -> list[int]:
    """The neurons, each after those it reads."""
    waiting = [len(in_list) for in_list in net.in_lists]
    readers: list[list[int]] = [[] for _ in range(net.n)]
    for j, in_list in enumerate(net.in_lists):
        for source, _ in in_list:
            readers[source].append(j)
    ready = [j for j in range(net.n) if waiting[j] == 0]
    for j in ready:  # grows while it is read
        for reader in readers[j]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if len(ready) != net.n:
        raise ValueError("the net has a cycle")
    return ready


class Approximate(NamedTuple):
    """Values, and for each how far a rounded evaluation may lie from it (infinity: anywhere)."""

    value: Reals
    error: Reals


def evaluate(net: Net, x: ArrayLike, params: ArrayLike | None = None) -> Reals:
    """The outputs (samples, n_outputs) for inputs (samples, n_inputs)."""
    return run(net, x, params).value


def run(net: Net, x: ArrayLike, params: ArrayLike | None = None,
        dtype: DTypeLike = np.float64) -> Approximate:
    """The outputs (samples, n_outputs) in float64, with the error that `dtype` may make."""
    rows = np.asarray(x, dtype=np.float64)
    values = parameters(net) if params is None else np.asarray(params, dtype=np.float64)
    if values is None:
        raise ValueError("the net has parameters without values")
    if rows.ndim != 2 or rows.shape[1] != len(inputs(net)):
        raise ValueError(f"inputs are {rows.shape}, expected (samples, {len(inputs(net))})")
    numbers = _Numbers(net, values)
    rounding = _Rounding(dtype)
    neurons: dict[int, Approximate] = {
        j: rounding.exact(rows[:, k]) for k, j in enumerate(inputs(net))
    }
    with np.errstate(all="ignore"):
        for j in topological(net):
            if j not in neurons:
                neurons[j] = _neuron(net, j, neurons, numbers, rounding, len(rows))
    found = [neurons[j] for j in outputs(net)]
    return Approximate(np.stack([f.value for f in found], 1), np.stack([f.error for f in found], 1))


def agrees(actual: ArrayLike, expected: Approximate) -> NDArray[np.bool_]:
    """Where `actual` is what a correct evaluation may give."""
    y = np.asarray(actual, dtype=np.float64)
    with np.errstate(all="ignore"):
        near = np.abs(y - expected.value) <= expected.error
    both_nan = np.isnan(y) & np.isnan(expected.value)
    agreed: NDArray[np.bool_] = near | (y == expected.value) | both_nan | np.isinf(expected.error)
    return agreed


class _Numbers:
    """The number behind each weight: parameters are dealt out in canonical order."""

    def __init__(self, net: Net, values: Reals) -> None:
        expected = slots(net)
        if values.shape != (len(expected),):
            raise ValueError(f"parameters are {values.shape}, expected ({len(expected)},)")
        dealt = iter(values.tolist())
        ties: dict[str, float] = {}
        self.edges: list[list[float]] = []
        self.biases: list[float | None] = []

        def number(w: Weight) -> float:
            if w.kind == "const":
                assert w.value is not None
                return w.value
            if w.kind == "weight":
                return float(next(dealt))
            if w.name not in ties:
                ties[w.name] = float(next(dealt))
            return ties[w.name]

        for in_list, bias in zip(net.in_lists, net.biases, strict=True):
            self.edges.append([number(w) for _, w in in_list])
            self.biases.append(None if bias is None else number(bias))


class _Rounding:
    """What one dtype does to numbers."""

    def __init__(self, dtype: DTypeLike) -> None:
        info: Any = np.finfo(np.dtype(dtype))
        self.dtype = np.dtype(dtype)
        self.eps = float(info.eps)  # twice the unit roundoff: room for fused and strict
        self.largest = float(info.max) / 4
        self.tiny = float(info.tiny)

    def exact(self, value: Reals) -> Approximate:
        """A number from outside: its error is what conversion to the dtype does."""
        with np.errstate(all="ignore"):
            moved = np.abs(value.astype(self.dtype).astype(np.float64) - value)
        return self.settled(value, np.nan_to_num(moved, nan=0.0))

    def settled(self, value: Reals, error: Reals) -> Approximate:
        """No claim is made of what overflows the dtype, or of an error that is no number."""
        lost = np.isnan(error) | (np.isfinite(value) & (np.abs(value) > self.largest))
        return Approximate(value, np.where(lost, np.inf, error))


def _neuron(net: Net, j: int, neurons: dict[int, Approximate], numbers: _Numbers,
            rounding: _Rounding, samples: int) -> Approximate:
    bias = numbers.biases[j]
    products = []
    for (source, _), w in zip(net.in_lists[j], numbers.edges[j], strict=True):
        n = neurons[source]
        fixed = rounding.exact(np.full(samples, w))
        products.append(_product(n, fixed, rounding))
    if bias is not None:
        start = rounding.exact(np.full(samples, bias))
    if not products:
        total = start
    elif net.aggregations[j] in ("sum", "dot"):
        if net.aggregations[j] == "dot":
            products = [_product(a, b, rounding)
                        for a, b in zip(products[::2], products[1::2], strict=True)]
        total = _sum(products if bias is None else [start, *products], rounding)
    else:
        total = _aggregate(net.aggregations[j], products, rounding)
        if bias is not None:
            total = _sum([total, start], rounding)
    return _activate(net, net.activations[j], total, rounding)


def _product(a: Approximate, b: Approximate, rounding: _Rounding) -> Approximate:
    value = a.value * b.value
    error = (np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
             + rounding.eps * np.abs(value) + rounding.tiny)
    # Sure to be what it is: a NaN times anything, an infinity times what is surely not zero.
    certain = np.zeros(value.shape, dtype=bool)
    for p, q in ((a, b), (b, a)):
        certain |= (p.error == 0) & np.isnan(p.value)
        certain |= (p.error == 0) & np.isinf(p.value) & (np.abs(q.value) > q.error)
        certain |= (p.error == 0) & np.isinf(p.value) & (q.error == 0)
    return rounding.settled(value, _unless_finite(value, error, certain))


def _quotient(a: Approximate, b: Approximate, rounding: _Rounding) -> Approximate:
    value = a.value / b.value
    least = np.abs(b.value) - b.error  # that the divisor may be in magnitude
    error = np.where(least > 0, (a.error + np.abs(value) * b.error) / np.maximum(least, 1e-300),
                     np.inf) + rounding.eps * np.abs(value) + rounding.tiny
    certain = (a.error == 0) & (b.error == 0)
    return rounding.settled(value, _unless_finite(value, error, certain))


def _sum(terms: Sequence[Approximate], rounding: _Rounding) -> Approximate:
    """In order; the error of summing is K eps sum |terms| and each term's own."""
    value = terms[0].value
    for t in terms[1:]:
        value = value + t.value
    size = np.sum([np.abs(t.value) for t in terms], axis=0)
    error = np.sum([t.error for t in terms], axis=0) + len(terms) * rounding.eps * size
    # Finite terms do not move an infinity; nothing moves a NaN.
    sure = [np.where(np.isfinite(t.value), np.isfinite(t.error), t.error == 0) for t in terms]
    endless = [~np.isfinite(t.value) for t in terms]
    nans = [np.isnan(t.value) & (t.error == 0) for t in terms]
    certain = (np.all(sure, axis=0) & np.any(endless, axis=0)) | np.any(nans, axis=0)
    return rounding.settled(value, _unless_finite(value, error, certain))


def _unless_finite(value: Reals, error: Reals, certain: NDArray[np.bool_]) -> Reals:
    """The error of a finite value; of another, none where it is certain."""
    return np.where(np.isfinite(value), error, np.where(certain, 0.0, np.inf))


def _aggregate(kind: str, products: list[Approximate], rounding: _Rounding) -> Approximate:
    if kind in ("mul", "div"):
        product = products[0]
        for p in products[1:]:
            product = (_product if kind == "mul" else _quotient)(product, p, rounding)
        return product
    if kind == "sumbias":
        return _sum(products, rounding)
    if kind == "mean":
        total = _sum(products, rounding)
        value = total.value / len(products)
        error = total.error / len(products) + rounding.eps * np.abs(value) + rounding.tiny
        return rounding.settled(value, _unless_finite(value, error, total.error == 0))
    best, error = products[0].value, products[0].error
    for p in products[1:]:
        nan = np.isnan(p.value)
        wins = {"max": p.value > best, "min": p.value < best,
                "maximum": (p.value > best) | nan, "minimum": (p.value < best) | nan,
                "maxabs": np.abs(p.value) > np.abs(best)}[kind]
        # Where the error leaves open which wins, the loser may be the answer.
        gap = np.abs(p.value - best)
        rivals = np.abs(np.abs(p.value) - np.abs(best)) if kind == "maxabs" else gap
        loser, open_ = error, rivals <= p.error + error
        settled = np.where(wins, p.error, error)
        error = np.where(open_, np.maximum(p.error, error) + gap, settled)
        error = np.where(np.isinf(p.error) | np.isinf(loser), np.inf, error)
        best = np.where(wins, p.value, best)
    return rounding.settled(best, error)


# The contract's own formulas of these cancel, so their error goes with the argument, not the value.
_CANCELLING = tuple(CODES[name] for name in ("gelu", "gelu_tanh", "mish", "softplus", "hard_swish"))


def _activate(net: Net, code: int, x: Approximate, rounding: _Rounding) -> Approximate:
    """f moves by what it moves at both ends of x's error, and by a few roundings of its own."""
    f = meaning(net, code)
    value = f(x.value)
    if code == CODES["identity"]:
        return x
    size = np.where(np.isfinite(x.value), np.abs(x.value), 0.0)  # an infinity is not rounded
    slack = x.error + 2 * rounding.eps * size
    ends = [f(x.value + slack), f(x.value - slack)]
    moved = np.max([_distance(end, value) for end in ends], axis=0)
    error = 1.5 * moved + 8 * rounding.eps * np.abs(value) + 4 * rounding.tiny
    if code in _CANCELLING or code in net.functions:
        error = error + 8 * rounding.eps * (1 + size)
    error = np.where(np.isfinite(value), error, moved)
    error = np.where(np.isinf(x.error), np.inf, error)
    if code == CODES["step"]:  # what a step makes of NaN is its own affair
        error = np.where(np.isnan(x.value), np.inf, moved)
    return rounding.settled(value, error)


def _distance(a: Reals, b: Reals) -> Reals:
    """|a - b|, 0 where both are NaN or the same infinity, infinity where only one is."""
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf, posinf=np.inf))
