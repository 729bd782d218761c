"""What the compiler's own arithmetic is measured by: the functions in a wider type, the inputs to
ask about, and the distance in units in the last place.

float64 judges float32, and the C compiler's long double judges float64, where that is longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

INF, NAN = float("inf"), float("nan")
REALS = {"f32": np.float32, "f64": np.float64}
BITS = {"f32": np.uint32, "f64": np.uint64}
BOUNDS = {"f32": 2.0, "f64": 4.0}  # the contract's
# Whether there is a type to judge float64 by.
WIDER = np.finfo(np.longdouble).nmant > 60
Array = Any


def wide_sigmoid(x: Array) -> Array:
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1) / (1 + z)


def wide_softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def wide_erf(x: Array) -> Array:
    """2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (1 3 5 .. 2n+1): no term cancels another."""
    real = x.dtype.type
    a = np.clip(x, real(-7), real(7))
    term = sum_ = a
    for n in range(1, 250):
        term = term * (2 * a * a) / real(2 * n + 1)
        sum_ = sum_ + term
    return 2 / np.sqrt(np.arctan(real(1)) * 4) * np.exp(-a * a) * sum_


WIDE: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh,
    "sigmoid": wide_sigmoid, "softplus": wide_softplus, "erf": wide_erf,
    "sin": np.sin, "cos": np.cos, "atan": np.arctan,
    "sqrt": np.sqrt,
}


def widen(x: Array) -> Array:
    """float32 as float64; float64 as the C compiler's long double, which has to be WIDER."""
    return x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)


def ulps(got: Array, want: Array) -> Array:
    """|got - want| in units in the last place of want, which is in a wider type. Equal infinities,
    zeros of equal sign and NaNs are 0 apart; any other difference among them is infinite."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
        exponent = np.frexp(np.maximum(np.abs(want), want.dtype.type(info.tiny)))[1] - 1
        unit = np.ldexp(want.dtype.type(1), exponent - info.nmant)
        # An overflow counts from 2^maxexp, where rounding to nearest would also give it.
        top = np.ldexp(want.dtype.type(1), info.maxexp)
        value = np.where(np.isinf(got), np.copysign(top, got), got.astype(want.dtype))
        apart = np.abs(value - want) / unit
    same = (got == rounded) & (np.signbit(got) == np.signbit(rounded))
    special = np.isinf(rounded) & np.isinf(got) | (rounded == 0) & (got == 0)
    apart = np.where(special, np.where(same, 0, INF), apart)
    return np.where(np.isnan(want) | np.isnan(got),
                    np.where(np.isnan(want) & np.isnan(got), 0, INF), apart)


def nasty(dtype: str) -> Array:
    real = REALS[dtype]
    info = np.finfo(real)
    values = [0.0, INF, NAN, info.tiny, info.smallest_subnormal, info.max, 0.5, 1.0, 2.0, 0.5625,
              1 - info.epsneg, 1 + info.eps, info.tiny * (1 - info.eps), 1e-5, 1e-20, 1e30, 1e38,
              88.72283, 88.72284, 103.97, 104.0, 709.7827, 709.7828, 745.13, 745.14, 17.0, 37.0,
              9.0, 20.0, 6.0, math.log(2) / 2, math.log(2) * 1.5, math.sqrt(2), math.sqrt(0.5),
              math.pi, math.pi / 2, math.pi / 4, 6381956970095103 * 2.0**797]
    with np.errstate(all="ignore"):
        column = np.array(values).astype(real)
    return np.concatenate([column, -column])


def samples(dtype: str, n: int = 20000) -> Array:
    """Every exponent, the ranges where the functions live, and beside every multiple of pi/2."""
    rng = np.random.default_rng(20)
    real = REALS[dtype]
    parts = [
        rng.integers(0, 2 ** (8 * real().itemsize), 3 * n, dtype=BITS[dtype]).view(real),
        rng.uniform(-1, 1, n), rng.uniform(-5, 5, n), rng.uniform(-120, 120, n),
        rng.uniform(-760, 760, n), rng.integers(-(10**6), 10**6, n) * (math.pi / 2),
        1 + rng.uniform(-1e-3, 1e-3, n), 2.0 ** rng.uniform(-60, 2, n),
    ]
    return np.concatenate([*(p.astype(real) for p in parts), nasty(dtype)])
