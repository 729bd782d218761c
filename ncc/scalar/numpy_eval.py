"""The numpy reading of every opcode: what the interpreters of the levels compute with.

A real is a float32 or float64 array of any (broadcastable) shape, a word an int32 or int64 array
of the same width, an index an int64 array, a truth value a bool array. Every op works element by
element, rounds once, and raises nothing: the IEEE flags are ignored and integers wrap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ncc.scalar.mathlib import SEQUENCES

Array = Any  # an ndarray or a numpy scalar


def fma32(a: Array, b: Array, c: Array) -> Array:
    """a*b + c rounded once, in float32, by float64.

    The product of two float32 is exact in float64; only the sum s = p + c is rounded, and rounding
    s to float32 goes wrong only where s lies on a float32 tie (its low 28 bits are then zero, in
    every range) that the exact sum does not. There s moves one step toward the exact sum: rounding
    to odd (Boldo & Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    """
    product = np.multiply(a, b, dtype=np.float64)
    sum_ = np.add(product, c, dtype=np.float64)
    suspect = (sum_.view(np.int64) & 0xFFFFFFF) == 0
    if suspect.any():
        # Knuth's two-sum: `error` is exactly product + c - sum_, or NaN beside an infinity.
        part = sum_ - product
        error = (product - (sum_ - part)) + (c - part)
        inexact = suspect & np.isfinite(error) & (error != 0)
        sum_ = np.where(inexact, np.nextafter(sum_, np.copysign(np.inf, error)), sum_)
    return sum_.astype(np.float32)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """s = round(a + b) and the exact rest (Knuth)."""
    s = a + b
    part = s - a
    return s, (a - (s - part)) + (b - part)


def _halves(a: Array) -> tuple[Array, Array]:
    """a as a sum of two reals of at most 26 bits (Veltkamp); |a| < 2^996."""
    scaled = a * 134217729.0  # 2^27 + 1
    high = scaled - (scaled - a)
    return high, a - high


def _exact_fma(a: float, b: float, c: float) -> float:
    """a*b + c rounded once, for finite non-zero arguments, in rational arithmetic."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    try:
        return exact.numerator / exact.denominator  # rounds once, subnormals too
    except OverflowError:
        return np.inf if exact > 0 else -np.inf


def fma64(a: Array, b: Array, c: Array) -> Array:
    """a*b + c rounded once, in float64.

    Dekker's exact product and Boldo & Melquiond's sum of three by rounding to odd, where no
    intermediate can overflow or underflow; rational arithmetic elsewhere.
    """
    a, b, c = np.broadcast_arrays(a, b, c)
    plain = a * b
    result = plain + c
    # An infinite or NaN argument, or a product that is exactly zero: the plain sum is right but
    # where a finite product overflowed beside an infinite or NaN c.
    finite = np.isfinite(a) & np.isfinite(b)
    result = np.where(finite & ~np.isfinite(c), c, result)
    work = finite & np.isfinite(c) & (a != 0) & (b != 0)
    result = np.where(work & (c == 0), plain, result)  # keeps the sign of what underflows
    work &= c != 0
    # A product far below c only tells c's rounding on which side it lies: any tiny one will do.
    tiny = work & (np.abs(plain) < 2.0**-900) & (np.abs(c) > 2.0**-700)
    sign = np.copysign(1.0, a) * np.copysign(1.0, b)
    a = np.where(tiny, sign * 2.0**-430, a)
    b = np.where(tiny, 2.0**-430, b)
    plain = a * b
    safe = work & (np.abs(a) < 2.0**900) & (np.abs(b) < 2.0**900) & (np.abs(c) < 2.0**1000)
    safe &= (np.abs(plain) < 2.0**1000) & (np.abs(plain) > 2.0**-900)
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    rest = a_low * b_low - (((plain - a_high * b_high) - a_low * b_high) - a_high * b_low)
    t_high, t_low = _two_sum(c, rest)
    v_high, v_low = _two_sum(plain, t_high)
    odd, error = _two_sum(t_low, v_low)
    nudge = safe & (error != 0) & ((odd.view(np.int64) & 1) == 0)
    odd = np.where(nudge, np.nextafter(odd, np.copysign(np.inf, error)), odd)
    result = np.where(safe, v_high + odd, result)
    rare = work & ~safe
    if rare.any():
        result[rare] = [_exact_fma(float(x), float(y), float(z))
                        for x, y, z in zip(a[rare], b[rare], c[rare], strict=True)]
    return result


def _fma(a: Array, b: Array, c: Array) -> Array:
    return (fma32 if a.dtype == np.float32 else fma64)(a, b, c)


def _shift_right_logical(a: Array, b: Array) -> Array:
    unsigned = np.uint32 if a.dtype == np.int32 else np.uint64
    return (a.view(unsigned) >> b.view(unsigned)).view(a.dtype)


def _bits(a: Array) -> Array:
    return a.view(np.int32 if a.dtype == np.float32 else np.int64)


def _unbits(a: Array) -> Array:
    return a.view(np.float32 if a.dtype == np.int32 else np.float64)


EVALUATORS: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "fma": _fma,
    "neg": np.negative,
    "abs": np.abs,
    "max": lambda a, b: np.where(b > a, b, a),
    "min": lambda a, b: np.where(b < a, b, a),
    "lt": np.less,
    "gt": np.greater,
    "le": np.less_equal,
    "ge": np.greater_equal,
    "eq": np.equal,
    "une": np.not_equal,
    "select": np.where,
    "mask": lambda a: a,
    "real": lambda a: a,  # of the evaluator's dtype by now
    "bits": _bits,
    "unbits": _unbits,
    "wadd": np.add,
    "wsub": np.subtract,
    "wmul": np.multiply,
    "wand": np.bitwise_and,
    "wor": np.bitwise_or,
    "wxor": np.bitwise_xor,
    "wshl": np.left_shift,
    "wshr": _shift_right_logical,
    "wsar": np.right_shift,
    "weq": np.equal,
    "wlt": np.less,
    "iadd": np.add,
    "imul": np.multiply,
    "any": np.any,
    "imin": np.minimum,
    "idiv": np.floor_divide,
}


@dataclass(frozen=True)
class Numpy:
    """The opcodes over numpy arrays: `dtype` "f32" or "f64"; `fused` picks the sequences of the
    mathematics, as it does in `expand`."""

    dtype: str
    fused: bool

    @property
    def real(self) -> type[np.floating[Any]]:
        return np.float32 if self.dtype == "f32" else np.float64

    @property
    def integer(self) -> type[np.signedinteger[Any]]:
        return np.int32 if self.dtype == "f32" else np.int64

    def op(self, name: str, *arrays: Array) -> Array:
        """What opcode `name` makes of its arrays; KeyError for a name that is no opcode."""
        with np.errstate(all="ignore"):
            if name == "real":
                arrays = (np.asarray(arrays[0]).astype(self.real),)
            if name in SEQUENCES:
                return SEQUENCES[name](self, arrays[0])
            return EVALUATORS[name](*arrays)

    def const(self, value: float) -> Array:
        return self.real(value)

    def word(self, value: int) -> Array:
        """`value` as a word, signed or unsigned alike: its low bits."""
        return self.words((value,))[0]

    def words(self, values: tuple[int, ...]) -> Array:
        """A table of words, shape (len(values),)."""
        bits = 32 if self.dtype == "f32" else 64
        unsigned = np.array([v & ((1 << bits) - 1) for v in values], np.dtype(f"u{bits // 8}"))
        return unsigned.view(self.integer)

    def rarely(self, condition: Array, usual: tuple[Array, ...],
               other: Callable[[], tuple[Array, ...]]) -> tuple[Array, ...]:
        """The values of `other` where the condition holds, else the `usual` ones."""
        if not np.any(condition):
            return usual
        return tuple([np.where(condition, a, b)
                      for a, b in zip(other(), usual, strict=True)])

    def lookup(self, values: tuple[int, ...], index: Array) -> Array:
        """values[index], for words 0 <= index < len(values); IndexError outside."""
        if np.any((index < 0) | (index >= len(values))):
            raise IndexError(f"lookup outside a table of {len(values)}")
        return self.words(values)[index]
