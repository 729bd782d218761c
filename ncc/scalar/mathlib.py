"""The compiler's own arithmetic: each mathematical opcode as a sequence of plain ones.

A sequence is written once, against an `Emitter`: numpy evaluates it (`ncc/scalar/numpy_eval.py`),
`expand` writes it down as ssa ops. It has no branch (both sides are computed and `select` picks),
no conversion between reals and words (a real that carries an integer in its low mantissa bits, by
the addition of 1.5 * 2^mantissa, is read as a word, and back), and lets NaN through. Where the
target has an FMA (`fused`), every product that is only added to is one; elsewhere the same
sequence runs with product and sum rounded apart. Both meet the bounds, over all inputs:
2 units in the last place in f32, 4 in f64.

The polynomials are minimax fits by Remez's exchange in 50-digit arithmetic (1,200 Chebyshev
points; the function divided as the comment at each says, the weight turning the error of the
quotient into that of the function), each coefficient then rounded to the dtype.

Sources of the reductions:
    Cody & Waite, "Software Manual for the Elementary Functions" (1980): r = x - n ln2 with ln2 in
    two parts, the first short enough that n times it is exact; x - n pi/2 in four.
    Payne & Hanek, "Radian reduction for trigonometric functions" (1983): only those bits of 2/pi
    that the exponent of x does not push over multiples of 4 are multiplied.
    Tang, "Table-driven implementation of the logarithm function" (1990), for log(1+f) through
    s = f/(2+f), as 2 atanh(s).
    Shepherd & Laframboise, "Chebyshev approximation of (1+2x)exp(x^2)erfc x" (1981), for erfc in
    1/(a+2).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ncc.scalar.emitter import MathEmitter

Value = Any  # whatever the emitter's values are
Emitter = MathEmitter[Value]


class _Format(NamedTuple):
    """A real's layout, and what depends on it."""

    width: int  # bits
    mantissa: int  # bits stored
    bias: int
    ln2_high: float  # a multiple of a power of two that leaves room for n's bits
    ln2_low: float
    exp_low: float  # exp is +0 below
    exp_high: float  # exp is infinite above
    expm1_low: float  # expm1 is -1 below
    tanh_high: float  # tanh is 1 above
    erf_high: float  # erf is 1 above
    half_pi: float
    half_pi_low: float  # pi/2 - half_pi
    half_pi_bits: int  # as many as half_pi_short has, at least
    half_pi_short: float
    half_pi_rest: float  # pi/2 - half_pi_short
    near: float  # up to here multiples of pi/2 are taken off in parts
    half_pi_parts: tuple[float, float, float, float]  # which add up to pi/2; 12 (20) bits times one
    # of the first three is exact, and the first two end at grains of 2^-23 (2^-53) at the finest
    limb: int  # Payne and Hanek: bits of a limb,
    grain: int  # bits between the entries of the table,
    limbs: int  # limbs of 2/pi that are multiplied


_FORMATS = {
    "f32": _Format(
        32, 23, 127, 0.693359375, -0.00021219444170128554, -105.0, 89.0, -18.0, 10.0, 4.0,
        1.5707963705062866, -4.371138828673793e-08, 9, 1.5703125, 0.00048382679233327508,
        4096.0,
        (1.5703125, 0.0004838705062866211, -4.371395334601402e-08, 2.5633440682570896e-12),
        14, 2, 6,
    ),
    "f64": _Format(
        64, 52, 1023, 0.6931471803691238, 1.9082149292705877e-10, -746.0, 710.0, -38.0, 20.0, 6.0,
        1.5707963267948966, 6.123233995736766e-17, 26, 1.5707963109016418,
        1.5893254773528196e-08,
        1e6,
        (1.5707963267341256, 6.077105485502443e-11, -4.9789962502207207e-17,
         -2.940788670387328e-27),
        28, 4, 7,
    ),
}
_LOG2E = {"f32": 1.4426950216293335, "f64": 1.4426950408889634}
_PER_QUARTER = {"f32": 0.6366197466850281, "f64": 0.6366197723675814}  # 2/pi
_SQRT_HALF = {"f32": 0x3F3504F3, "f64": 0x3FE6A09E667F3BCD}  # bits

# exp(r) = 1 + r + r^2 P(r), |r| <= ln2/2 (1 + 2^-11), relative error
_EXP = {
    "f32": (
        0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.00836874544620514,
        0.0013814539415761828,
    ),
    "f64": (
        0.5000000000000011, 0.1666666666666641, 0.041666666666529725, 0.008333333333494975,
        0.0013888888943760587, 0.00019841269505780187, 2.4801492949014424e-05,
        2.755758679825112e-06, 2.7630306465013003e-07, 2.500002057961876e-08,
    ),
}
# expm1(r) = r + r^2 P(r), the same interval, relative error
_EXPM1 = {
    "f32": (
        0.5, 0.1666666716337204, 0.04166635498404503, 0.008333273231983185,
        0.0013941050274297595, 0.00019914229051209986,
    ),
    "f64": (
        0.5, 0.16666666666666677, 0.0416666666666667, 0.008333333333321579,
        0.001388888888886678, 0.00019841269886266568, 2.480158736066467e-05,
        2.755724406157002e-06, 2.755724266918784e-07, 2.510909054139947e-08,
        2.092447090204437e-09,
    ),
}
# tanh(a) = a + a z P(z), z = a^2, a <= 0.5625, relative error
_TANH = {
    "f32": (
        -0.3333331346511841, 0.13332471251487732, -0.053839247673749924,
        0.021014278754591942, -0.006188640836626291,
    ),
    "f64": (
        -0.3333333333333184, 0.1333333333310116, -0.05396825384317967, 0.02186948519474964,
        -0.008863184104522285, 0.003591636396259144, -0.001452807563695228,
        0.0005779307021760571, -0.00020834425334167875, 4.967661323701568e-05,
    ),
}
# 2 atanh(s) = 2 s + s z P(z), z = s^2, s <= (sqrt2-1)/(sqrt2+1), relative error
_LOG = {
    "f32": (
        0.6666677594184875, 0.399774968624115, 0.298730731010437,
    ),
    "f64": (
        0.6666666666666735, 0.39999999999411096, 0.28571428743261945, 0.2222219847603175,
        0.18183569738633695, 0.15313903253416217, 0.14797507820555297,
    ),
}
# log(1+z) = z - z^2/2 + z^3 P(z), 0 <= z <= 1, relative error
_LOG1P = {
    "f32": (
        0.3333224952220917, -0.2497509866952896, 0.1977432370185852, -0.1556953638792038,
        0.1102512925863266, -0.06092146411538124, 0.02187541499733925, -0.00367746502161026,
    ),
    "f64": (
        0.3333333333330177, -0.24999999996808933, 0.19999999869837412, -0.16666663718104385,
        0.1428567167169784, -0.12499574810538037, 0.11108029305274188, -0.0998319033637213,
        0.09020109115892856, -0.08098500988957381, 0.07069138597451627, -0.058012598758351144,
        0.042904037756409774, -0.02729364374635572, 0.014215902245482201, -0.00573193358987393,
        0.0016607269267996901, -0.000305507479382785, 2.6676778469052336e-05,
    ),
}
# sin(y) = y + y z P(z), z = y^2, y <= pi/4, relative error
_SIN = {
    "f32": (
        -0.16666655242443085, 0.008332173340022564, -0.00019516656175255775,
    ),
    "f64": (
        -0.16666666666666632, 0.008333333333322316, -0.00019841269829725178,
        2.7557313662045095e-06, -2.505075326234211e-08, 1.5896504813622624e-10,
    ),
}
# cos(y) = 1 - z/2 + z^2 P(z), z = y^2, y <= pi/4, absolute error
_COS = {
    "f32": (
        0.04166664555668831, -0.001388736185617745, 2.4437729734927416e-05,
    ),
    "f64": (
        0.0416666666666666, -0.001388888888887399, 2.480158728939493e-05,
        -2.755731432603077e-07, 2.0875719558633443e-09, -1.1359448672889999e-11,
    ),
}
# atan(t) = t + t z P(z), z = t^2, t <= 1, relative error
_ATAN = {
    "f32": (
        -0.33333298563957214, 0.19998548924922943, -0.14264242351055145,
        0.10952185839414597, -0.08403448760509491, 0.057957567274570465,
        -0.031177813187241554, 0.01091458648443222, -0.0017936169169843197,
    ),
    "f64": (
        -0.3333333333333307, 0.19999999999951462, -0.14285714282575218, 0.11111111007029345,
        -0.09090907003047172, 0.07692279839933137, -0.06666404062714676,
        0.05880527844692937, -0.05253518685049355, 0.04722322660711651,
        -0.04219180108111464, 0.03664193418288104, -0.029903895080862455,
        0.021984898000632604, -0.013900601947469, 0.0071965327408182195,
        -0.0028849336505914207, 0.0008313272132863726, -0.00015216202824661223,
        1.3225192123766914e-05,
    ),
}
# erf(a) = a + a P(z), z = a^2, a <= 1, relative error
_ERF = {
    "f32": (
        0.12837916612625122, -0.3761262595653534, 0.11283600330352783,
        -0.026854444295167923, 0.005189535673707724, -0.0008020842797122896,
        7.889125117799267e-05,
    ),
    "f64": (
        0.12837916709551256, -0.3761263890318355, 0.11283791670945252, -0.02686617064327605,
        0.0052239776074224096, -0.0008548325989658623, 0.00012055295319667005,
        -1.4924744652474978e-05, 1.6447517596109436e-06, -1.6209175623942718e-07,
        1.3722976264394339e-08, -7.801190850712518e-10,
    ),
}
# erfc(a) = exp(-a^2) P(1/(a+2)), 0.99 <= a <= 6.1, absolute error
_ERFC = {
    "f32": (
        0.0018114583799615502, 0.5195943117141724, 1.5858598947525024, -0.510992705821991,
        10.178742408752441, -7.380025863647461,
    ),
    "f64": (
        -2.961071389151905e-06, 0.5643696762828843, 1.123426472572154, 2.056463920189802,
        1.9146863615299352, 9.784464273571865, -40.66618205619106, 159.78101282666944,
        -507.4633291718262, 989.2458554109213, -1146.8768760096507, 743.887774971362,
        -210.8670901558642,
    ),
}

# The first 1,408 bits of 2/pi after the point.
_TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea"
    "09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b"
    "1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f7"
    "8a5292ea6bfb5fb11f8d5d0856033046fc7b6babf0cfbc209af4361da9e391615ee61b086599855f14a06840",
    16,
)


def _real_bits(value: float, dtype: str) -> int:
    """The word of a real."""
    real, word = ("<f", "<i") if dtype == "f32" else ("<d", "<q")
    return int(struct.unpack(word, struct.pack(real, value))[0])


@dataclass(frozen=True)
class _Pen:
    """An emitter with the words that the sequences are written in."""

    e: Emitter

    @property
    def format(self) -> _Format:
        return _FORMATS[self.e.dtype]

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
        shifted = self.mad(x, self.c(_LOG2E[self.e.dtype]), magic)
        n = self.sub(shifted, magic)
        rest = self.mad(n, self.c(-self.format.ln2_high), x)
        return self.e.op("bits", shifted), n, rest

    def exp_parts(self, x: Value, offset: int) -> tuple[Value, Value]:
        """exp(x) as 2^n (1 + p): a word whose low bits are n + offset, and p."""
        word, n, rest = self.without_ln2(x, offset)
        r = self.mad(n, self.c(-self.format.ln2_low), rest)
        square = self.mul(r, r)
        return word, self.mad(square, self.polynomial(_EXP, r, square), r)

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
        """exp(x) where x is in -40 .. 0 or NaN."""
        word, p = self.exp_parts(x, self.format.bias)
        power = self.power(word)
        return self.mad(p, power, power)

    def log_parts(self, x: Value) -> tuple[Value, Value]:
        """Normal x > 0 as 2^n m: the word n, and m in sqrt(1/2) .. sqrt(2)."""
        e = self.e
        root = self.w(_SQRT_HALF[e.dtype])
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
        rest = self.mad(s, self.mad(z, self.polynomial(_LOG, z), half), rest)
        return self.mad(n, self.c(self.format.ln2_high), self.sub(f, self.sub(half, rest)))


def exp(e: Emitter, x: Value) -> Value:
    """exp(x) = 2^n exp(r), |r| <= ln2/2 (Cody & Waite)."""
    pen = _Pen(e)
    x = e.op("max", e.op("min", x, pen.c(pen.format.exp_high)), pen.c(pen.format.exp_low))
    return pen.mul(*pen.exp_wide(x))


def expm1(e: Emitter, x: Value) -> Value:
    """exp(x) - 1 = 2 (2^(n-1) expm1(r) + (2^(n-1) - 1/2)), r with the rest of its reduction."""
    pen = _Pen(e)
    y = e.op("max", e.op("min", x, pen.c(pen.format.exp_high)), pen.c(pen.format.expm1_low))
    word, n, rest = pen.without_ln2(y, pen.format.bias - 1)
    low = pen.mul(n, pen.c(pen.format.ln2_low))
    r = pen.sub(rest, low)
    low = pen.sub(pen.sub(rest, r), low)
    s = pen.mad(pen.mul(r, r), pen.polynomial(_EXPM1, r), pen.mad(low, r, low))
    s = pen.add(s, r)
    scale = pen.power(word)
    y = pen.mad(scale, s, pen.sub(scale, pen.c(0.5)))
    tiny = e.op("lt", e.op("abs", x), pen.c(2.0**-60))
    return pen.pick(tiny, x, pen.add(y, y))


def sigmoid(e: Emitter, x: Value) -> Value:
    """With z = exp(-|x|) and q = z/(1+z): 1 - q, or z - z q where x < 0, which is z/(1+z) with the
    roundings of the quotient in a small term: no overflow, and small where it is small."""
    pen = _Pen(e)
    far = e.op("max", e.op("neg", e.op("abs", x)), pen.c(pen.format.exp_low))
    p, power = pen.exp_wide(far)
    z = pen.mul(p, power)
    one = pen.c(1.0)
    part = pen.div(z, pen.mad(p, power, one))
    top = pen.pick(e.op("lt", x, pen.c(0.0)), z, one)
    return pen.mad(e.op("neg", top), part, top)


def softplus(e: Emitter, x: Value) -> Value:
    """log(1 + exp(x)) = relu(x) + log(1+z) with z = exp(-|x|), which is at most 1: what the sum in
    z lost and the terms from the cubic ones on join relu(x) first, where a sum is smallest, z
    last."""
    pen = _Pen(e)
    far = e.op("max", e.op("neg", e.op("abs", x)), pen.c(pen.format.exp_low))
    p, u, v = pen.exp_factors(far)
    sum_ = pen.mad(p, u, u)
    z = pen.mul(sum_, v)
    lost = pen.mad(p, u, pen.sub(u, sum_))
    square = pen.mul(z, z)
    cubic = pen.polynomial(_LOG1P, z, square, pen.mul(square, square))
    rest = pen.mad(pen.mul(square, z), cubic, pen.mad(lost, v, relu(e, x)))
    return pen.add(pen.mad(square, pen.c(-0.5), rest), z)


def tanh(e: Emitter, x: Value) -> Value:
    """An odd polynomial below 0.5625; above, 1 - 2 z/(1+z) with z = exp(-2|x|), which is > 0."""
    pen = _Pen(e)
    a = e.op("min", e.op("abs", x), pen.c(pen.format.tanh_high))
    z = pen.exp_near(pen.mul(a, pen.c(-2.0)))
    one = pen.c(1.0)
    far = pen.mad(pen.div(z, pen.add(z, one)), pen.c(-2.0), one)
    square = pen.mul(a, a)
    near = pen.mad(pen.mul(a, square), pen.polynomial(_TANH, square), a)
    return pen.signed(pen.pick(e.op("lt", a, pen.c(0.5625)), near, far), pen.sign(x))


def erf(e: Emitter, x: Value) -> Value:
    """An odd polynomial below 1; above, 1 - exp(-a^2) P(1/(a+2)) (Shepherd & Laframboise)."""
    pen = _Pen(e)
    a = e.op("min", e.op("abs", x), pen.c(pen.format.erf_high))
    square = pen.mul(a, a)
    near = pen.mad(a, pen.polynomial(_ERF, square), a)
    one = pen.c(1.0)
    z = pen.exp_near(e.op("neg", square))
    t = pen.div(one, pen.add(a, pen.c(2.0)))
    far = pen.mad(e.op("neg", z), pen.polynomial(_ERFC, t), one)
    return pen.signed(pen.pick(e.op("lt", a, one), near, far), pen.sign(x))


def log(e: Emitter, x: Value) -> Value:
    """n ln2 + log(m), m in sqrt(1/2) .. sqrt(2) (Tang)."""
    pen = _Pen(e)
    zero = pen.c(0.0)
    up = 2.0 ** (pen.format.mantissa + 1)
    subnormal = e.op("lt", x, pen.c(2.0 ** (1 - pen.format.bias)))
    n, m = pen.log_parts(pen.pick(subnormal, pen.mul(x, pen.c(up)), x))
    down = pen.pick(subnormal, pen.c(pen.format.mantissa + 1.0), zero)
    y = pen.log_sum(pen.sub(pen.whole(n), down), pen.sub(m, pen.c(1.0)), None)
    y = pen.pick(e.op("lt", x, pen.special(float("inf"))), y, x)  # infinity and NaN stay
    below = pen.pick(e.op("eq", x, zero), pen.special(float("-inf")), pen.special(float("nan")))
    return pen.pick(e.op("le", x, zero), below, y)


def log1p(e: Emitter, x: Value) -> Value:
    """log(u) + c/u with u = 1+x rounded and c the exact rest (Knuth's two-sum); where u needs no
    power of two, log(1+f) with f = x itself."""
    pen = _Pen(e)
    zero, one = pen.c(0.0), pen.c(1.0)
    u = pen.add(x, one)
    part = pen.sub(u, x)
    c = pen.add(pen.sub(x, pen.sub(u, part)), pen.sub(one, part))
    n, m = pen.log_parts(u)
    near = e.op("weq", n, pen.w(0))
    f = pen.pick(near, x, pen.sub(m, one))
    low = pen.pick(near, zero, pen.div(c, u))
    y = pen.log_sum(pen.whole(n), f, low)
    y = pen.pick(e.op("lt", x, pen.special(float("inf"))), y, x)
    y = pen.pick(e.op("eq", x, zero), x, y)  # the sign of zero
    ends = pen.pick(e.op("eq", x, pen.c(-1.0)), pen.special(float("-inf")),
                    pen.special(float("nan")))
    return pen.pick(e.op("le", x, pen.c(-1.0)), ends, y)


def atan(e: Emitter, x: Value) -> Value:
    """A polynomial up to 1; pi/2 - atan(1/a) above."""
    pen = _Pen(e)
    a = e.op("abs", x)
    over = e.op("gt", a, pen.c(1.0))
    t = pen.pick(over, pen.div(pen.c(-1.0), a), a)
    zero = pen.c(0.0)
    z = pen.mul(t, t)
    low = pen.pick(over, pen.c(pen.format.half_pi_low), zero)
    y = pen.add(t, pen.mad(pen.mul(t, z), pen.polynomial(_ATAN, z), low))
    y = pen.add(y, pen.pick(over, pen.c(pen.format.half_pi), zero))
    return pen.signed(y, pen.sign(x))


def _two_over_pi(dtype: str) -> tuple[int, ...]:
    """Overlapping limbs of 2/pi: entry i holds `limb` bits from bit first + i grain, bits counted
    from 1 after the point; those before it are 0."""
    form = _FORMATS[dtype]
    first = -form.mantissa - 2
    last = (form.bias + 2) // form.grain + (form.limbs - 1) * (form.limb // form.grain)
    mask = (1 << form.limb) - 1
    starts = (first + i * form.grain for i in range(last + 1))
    return tuple((_TWO_OVER_PI >> (1408 - (start - 1 + form.limb))) & mask for start in starts)


def _quarters(pen: _Pen, a: Value) -> tuple[Value, Value, Value]:
    """a >= 0 less the nearest multiple q of pi/2, as a sum y + low, and a word that is q modulo 4:
    by parts of pi/2 (Cody & Waite), or, beyond `near`, by bits of 2/pi (Payne & Hanek).

    By parts: a - n p1 and that less n p2 are exact, as is n p3; what the third difference rounds
    off, and n p4, are low.
    """
    e, form = pen.e, pen.format
    p1, p2, p3, p4 = form.half_pi_parts
    shifted = pen.mad(a, pen.c(_PER_QUARTER[e.dtype]), pen.c(pen.magic))
    n = pen.sub(shifted, pen.c(pen.magic))
    rest = pen.mad(n, pen.c(-p2), pen.mad(n, pen.c(-p1), a))
    part = pen.mul(n, pen.c(p3))
    y = pen.sub(rest, part)
    low = pen.mad(n, pen.c(-p4), pen.sub(pen.sub(rest, y), part))
    return e.rarely(e.op("gt", a, pen.c(form.near)), (y, low, e.op("bits", shifted)),
                    lambda: _far_quarters(pen, a))


def _far_quarters(pen: _Pen, a: Value) -> tuple[Value, Value, Value]:
    """The same for any a >= 0, the word in 0 .. 4.

    With a = m 2^(E - bias - mantissa), m an integer, and E = bias - 1 + grain j + shift, the bits
    of 2/pi before the table's entry j only add multiples of 4. The limbs of m 2^shift, two, meet
    those of 2/pi; the sums of a column stay below 2^(2 limb + 1).
    """
    e, form = pen.e, pen.format
    mantissa, limb, limbs = form.mantissa, form.limb, form.limbs
    table = _two_over_pi(e.dtype)
    mask = pen.w((1 << limb) - 1)
    clamped = e.op("max", a, pen.c(0.5))  # E >= bias - 1; below 1/2 nothing is subtracted
    word = e.op("bits", clamped)
    exponent = e.op("wsub", e.op("wshr", word, pen.w(mantissa)), pen.w(form.bias - 1))
    entry = e.op("wshr", exponent, pen.w(form.grain.bit_length() - 1))
    shift = e.op("wand", exponent, pen.w(form.grain - 1))
    m = e.op("wor", e.op("wand", word, pen.w((1 << mantissa) - 1)), pen.w(1 << mantissa))
    m = e.op("wshl", m, shift)
    m_high, m_low = e.op("wshr", m, pen.w(limb)), e.op("wand", m, mask)
    stride = limb // form.grain
    digits: list[Value] = []  # of the product, the last limb first
    carry = below = None
    for k in range(limbs - 1, -1, -1):
        at = e.op("wadd", entry, pen.w(k * stride)) if k else entry
        bits = e.lookup(table, at)
        column = e.op("wmul", m_low, bits)
        if below is not None:
            column = e.op("wadd", e.op("wadd", column, e.op("wmul", m_high, below)), carry)
        digits.append(e.op("wand", column, mask))
        carry, below = e.op("wshr", column, pen.w(limb)), bits
    digits.reverse()
    # The first digit has two bits before the point, those of the quarter.
    unit = pen.w(limb - 2)
    quarter = e.op("wshr", e.op("wadd", digits[0], pen.w(1 << (limb - 3))), unit)
    first = e.op("wsub", digits[0], e.op("wshl", quarter, unit))
    parts = [
        pen.mul(pen.whole(digit), pen.c(2.0 ** (2 - limb * (k + 1))))
        for k, digit in enumerate([first, *digits[1:5]])
    ]
    # Twice the sum of a large and a small part, with its error: the large one may be zero.
    high = pen.add(parts[0], parts[1])
    low = pen.sub(parts[1], pen.sub(high, parts[0]))
    low = pen.add(low, pen.add(parts[2], pen.add(parts[3], parts[4])))
    turn = pen.add(high, low)
    low = pen.sub(low, pen.sub(turn, high))
    # Times pi/2: the upper bits of the turn times the short pi/2 are exact.
    upper = e.op("unbits", e.op("wand", e.op("bits", turn), pen.w(-1 << form.half_pi_bits)))
    low = pen.add(pen.sub(turn, upper), low)
    exact = pen.mul(upper, pen.c(form.half_pi_short))
    rest = pen.mad(turn, pen.c(form.half_pi_rest), pen.mul(low, pen.c(form.half_pi_short)))
    y = pen.add(exact, rest)
    low = pen.sub(rest, pen.sub(y, exact))
    near = e.op("lt", a, pen.c(0.5))
    y = pen.pick(near, a, pen.add(y, pen.sub(a, a)))  # infinity and NaN become NaN
    return y, pen.pick(near, pen.c(0.0), low), quarter


def _wave(pen: _Pen, y: Value, low: Value, quarter: Value) -> Value:
    """sin(y + low + quarter pi/2), |y| <= pi/4."""
    e = pen.e
    z = pen.mul(y, y)
    sine = pen.add(pen.mad(pen.mul(y, z), pen.polynomial(_SIN, z), low), y)
    # 1 - z/2 rounds; what it loses goes with the small terms.
    one, half = pen.c(1.0), pen.c(-0.5)
    main = pen.mad(z, half, one)
    lost = pen.mad(z, half, pen.sub(one, main))
    small = pen.mad(pen.mul(z, z), pen.polynomial(_COS, z), pen.mul(e.op("neg", y), low))
    cosine = pen.add(pen.add(small, lost), main)
    odd = e.op("weq", e.op("wand", quarter, pen.w(1)), pen.w(1))
    value = e.op("bits", pen.pick(odd, cosine, sine))
    flip = e.op("wshl", e.op("wand", quarter, pen.w(2)), pen.w(pen.format.width - 2))
    return e.op("unbits", e.op("wxor", value, flip))


def sin(e: Emitter, x: Value) -> Value:
    """By quarters of a turn."""
    pen = _Pen(e)
    y, low, quarter = _quarters(pen, e.op("abs", x))
    value = _wave(pen, y, low, quarter)
    return e.op("unbits", e.op("wxor", e.op("bits", value), pen.sign(x)))


def cos(e: Emitter, x: Value) -> Value:
    """By quarters of a turn: sin, one quarter on."""
    pen = _Pen(e)
    y, low, quarter = _quarters(pen, e.op("abs", x))
    return _wave(pen, y, low, e.op("wadd", quarter, pen.w(1)))


def sqrt(e: Emitter, x: Value) -> Value:
    """The correctly rounded root, a binary digit at a time on words: what a target without the
    instruction, thus without an FPU, does fastest. The last digit only rounds: no root lies on a
    tie, so it rounds up where it is 1."""
    pen, form = _Pen(e), _FORMATS[e.dtype]
    mantissa, bias = form.mantissa, form.bias
    infinity, zero = pen.special(float("inf")), pen.c(0.0)
    half = mantissa // 2 + 1
    subnormal = e.op("lt", x, pen.c(2.0 ** (1 - bias)))
    word = e.op("bits", pen.pick(subnormal, pen.mul(x, pen.c(4.0**half)), x))
    exponent = e.op("wadd", e.op("wshr", word, pen.w(mantissa)), pen.w(bias))  # of x, + 2 bias
    rest = e.op("wor", e.op("wand", word, pen.w((1 << mantissa) - 1)), pen.w(1 << mantissa))
    # x = rest 4^k, its exponent even: 2 bias + E is odd where E - bias is.
    rest = e.op("wshl", rest, e.op("wand", exponent, pen.w(1)))
    rest = e.op("wadd", rest, rest)
    root = pen.w(0)  # twice the digits so far
    for digit in range(mantissa + 1, -1, -1):
        step_ = pen.w(1 << digit)
        trial = e.op("wadd", root, step_)
        less = e.op("wlt", rest, trial)
        root = pen.pick(less, root, e.op("wadd", trial, step_))
        rest = pen.pick(less, rest, e.op("wsub", rest, trial))
        rest = e.op("wadd", rest, rest)
    # root = 2q, q of mantissa + 2 bits; (q + 1)/2 rounds, the hidden bit adds one to the exponent.
    q = e.op("wshr", root, pen.w(1))
    rounded = e.op("wshr", e.op("wadd", q, pen.w(1)), pen.w(1))
    k = e.op("wshl", e.op("wsub", e.op("wshr", exponent, pen.w(1)), pen.w(1)), pen.w(mantissa))
    y = e.op("unbits", e.op("wadd", k, rounded))
    y = pen.pick(subnormal, pen.mul(y, pen.c(2.0**-half)), y)
    y = pen.pick(e.op("lt", x, infinity), y, x)  # infinity and NaN stay
    y = pen.pick(e.op("eq", x, zero), x, y)  # so does a zero, with its sign
    return pen.pick(e.op("lt", x, zero), pen.special(float("nan")), y)


def relu(e: Emitter, x: Value) -> Value:
    """x where x > 0, NaN where NaN, else +0. A comparison and a choice of bits: half the cycles of
    the maximum and the sum that would make the same of -0."""
    zero = e.const(0.0)
    return e.op("select", e.op("le", x, zero), zero, x)


def step(e: Emitter, x: Value) -> Value:
    """1 where x > 0, else +0 (NaN too)."""
    zero = e.const(0.0)
    return e.op("select", e.op("gt", x, zero), e.const(1.0), zero)


SEQUENCES: dict[str, Callable[[Emitter, Value], Value]] = {
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "erf": erf,
    "sin": sin,
    "cos": cos,
    "atan": atan,
    "sqrt": sqrt,
    "relu": relu,
    "step": step,
}
