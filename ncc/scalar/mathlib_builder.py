"""An emitter with the words that the sequences of `mathlib` are written in."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from ncc.scalar.coefficients import EXP, FORMATS, LOG, LOG2E, SQRT_HALF, Format
from ncc.scalar.emitter import MathEmitter

Value = Any  # whatever the emitter's values are
Emitter = MathEmitter[Value]


def _real_bits(value: float, dtype: str) -> int:
    """The word of a real."""
    real, word = ("<f", "<i") if dtype == "f32" else ("<d", "<q")
    return int(struct.unpack(word, struct.pack(real, value))[0])


@dataclass(frozen=True)
class Builder:
    """An emitter with the words that the sequences are written in."""

    e: Emitter

    @property
    def format(self) -> Format:
        return FORMATS[self.e.dtype]

    @property
    def magic(self) -> float:
        """1.5 * 2^mantissa: adding it rounds to an integer, in the low bits of the sum."""
        return 1.5 * 2.0**self.format.mantissa

    def c(self, value: float) -> Value:
        return self.e.const(value)

    def w(self, value: int) -> Value:
        return self.e.word(value)

    def bits(self, value: float) -> Value:
        """The word of a constant."""
        return self.e.word(_real_bits(value, self.e.dtype))

    def special(self, value: float) -> Value:
        """An infinity or NaN, spelt as its word: no text ever holds such a real."""
        return self.e.op("unbits", self.bits(value))

    def add(self, a: Value, b: Value) -> Value:
        return self.e.op("add", a, b)

    def sub(self, a: Value, b: Value) -> Value:
        return self.e.op("sub", a, b)

    def mul(self, a: Value, b: Value) -> Value:
        return self.e.op("mul", a, b)

    def div(self, a: Value, b: Value) -> Value:
        return self.e.op("div", a, b)

    def mad(self, a: Value, b: Value, c: Value) -> Value:
        """a*b + c, rounded once where the target can."""
        if self.e.fused:
            return self.e.op("fma", a, b, c)
        return self.add(self.mul(a, b), c)

    def pick(self, condition: Value, a: Value, b: Value) -> Value:
        return self.e.op("select", condition, a, b)

    def polynomial(self, table: dict[str, tuple[float, ...]], *powers: Value) -> Value:
        """The polynomial with these coefficients, constant first, in x. Of `powers`, which are x,
        x^2, x^4, ..., the last serves Horner's scheme, and each before it makes one term of two
        (Estrin 1960), so that fewer operations wait for one another."""
        terms = [self.c(coefficient) for coefficient in table[self.e.dtype]]
        for power in powers[:-1]:
            last = terms[-1:] if len(terms) % 2 else []
            terms = [self.mad(high, power, low)
                     for low, high in zip(terms[::2], terms[1::2], strict=False)] + last
        sum_ = terms.pop()
        while terms:
            sum_ = self.mad(sum_, powers[-1], terms.pop())
        return sum_

    def sign(self, x: Value) -> Value:
        """The sign bit of x, as a word."""
        return self.e.op("wand", self.e.op("bits", x), self.w(1 << (self.format.width - 1)))

    def signed(self, a: Value, sign: Value) -> Value:
        """a >= 0 with that sign bit."""
        e = self.e
        return e.op("unbits", e.op("wor", e.op("bits", a), sign))

    def power(self, exponent: Value) -> Value:
        """2^(k - bias), 0 < k <= 2 bias, from a word whose low bits are k; the others are lost."""
        e = self.e
        return e.op("unbits", e.op("wshl", exponent, self.w(self.format.mantissa)))

    def whole(self, word: Value) -> Value:
        """The real of a word, for |word| < 2^(mantissa-1)."""
        e = self.e
        return self.sub(e.op("unbits", e.op("wadd", word, self.bits(self.magic))),
                        self.c(self.magic))

    def without_ln2(self, x: Value, offset: int) -> tuple[Value, Value, Value]:
        """n = round(x/ln2): a word whose low bits are n + offset, n, and x - n ln2_high, exact."""
        magic = self.c(self.magic + offset)
        shifted = self.mad(x, self.c(LOG2E[self.e.dtype]), magic)
        n = self.sub(shifted, magic)
        rest = self.mad(n, self.c(-self.format.ln2_high), x)
        return self.e.op("bits", shifted), n, rest

    def exp_parts(self, x: Value, offset: int) -> tuple[Value, Value]:
        """exp(x) as 2^n (1 + p): a word whose low bits are n + offset, and p."""
        word, n, rest = self.without_ln2(x, offset)
        r = self.mad(n, self.c(-self.format.ln2_low), rest)
        square = self.mul(r, r)
        return word, self.mad(square, self.polynomial(EXP, r, square), r)

    def exp_factors(self, x: Value) -> tuple[Value, Value, Value]:
        """exp(x) where x is in exp_low .. exp_high or NaN, as (p u + u) v: 2^n is u v, so that one
        rounding makes a subnormal, or an infinity."""
        e = self.e
        word, p = self.exp_parts(x, 2 * self.format.bias)
        half = e.op("wsar", word, self.w(1))
        return p, self.power(half), self.power(e.op("wsub", word, half))

    def exp_wide(self, x: Value) -> tuple[Value, Value]:
        """The same as a product of two."""
        p, u, v = self.exp_factors(x)
        return self.mad(p, u, u), v

    def exp_near(self, x: Value) -> Value:
        """exp(x), the same bits, where x is between the two of EXP_NEAR, or NaN."""
        word, p = self.exp_parts(x, self.format.bias)
        power = self.power(word)
        return self.mad(p, power, power)

    def log_parts(self, x: Value) -> tuple[Value, Value]:
        """Normal x > 0 as 2^n m: the word n, and m in sqrt(1/2) .. sqrt(2)."""
        e = self.e
        root = self.w(SQRT_HALF[e.dtype])
        shifted = e.op("wsub", e.op("bits", x), root)
        n = e.op("wsar", shifted, self.w(self.format.mantissa))
        low = e.op("wand", shifted, self.w((1 << self.format.mantissa) - 1))
        return n, e.op("unbits", e.op("wadd", low, root))

    def log_sum(self, n: Value, f: Value, low: Value | None) -> Value:
        """n ln2 + log(1 + f) + low, for a real n and 1 + f in sqrt(1/2) .. sqrt(2); smallest
        first: n ln2_high - ((f^2/2 - (s (f^2/2 + z P(z)) + n ln2_low + low)) - f)."""
        s = self.div(f, self.add(f, self.c(2.0)))
        z = self.mul(s, s)
        half = self.mul(self.mul(f, f), self.c(0.5))
        rest = self.mul(n, self.c(self.format.ln2_low))
        if low is not None:
            rest = self.add(rest, low)
        rest = self.mad(s, self.mad(z, self.polynomial(LOG, z), half), rest)
        return self.mad(n, self.c(self.format.ln2_high), self.sub(f, self.sub(half, rest)))
