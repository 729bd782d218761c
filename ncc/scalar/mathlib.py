"""The compiler's own arithmetic: each mathematical opcode as a sequence of plain ones.

A sequence is written once, against an `Emitter`: numpy evaluates it (`ncc/scalar/numpy_eval.py`),
`expand` writes it down as ssa ops. It has no branch (both sides are computed and `select` picks),
no conversion between reals and words (a real that carries an integer in its low mantissa bits, by
the addition of 1.5 * 2^mantissa, is read as a word, and back), and lets NaN through. Where the
target has an FMA (`fused`), every product that is only added to is one; elsewhere the same
sequence runs with product and sum rounded apart. Both meet the bounds, over all inputs:
2 units in the last place in f32, 4 in f64.

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

from collections.abc import Callable

from ncc.scalar.coefficients import (
    ATAN,
    COS,
    ERF,
    ERFC,
    EXPM1,
    FORMATS,
    LOG1P,
    PER_QUARTER,
    SIN,
    TANH,
    TWO_OVER_PI,
)
from ncc.scalar.mathlib_builder import Builder, Emitter, Value


def exp(e: Emitter, x: Value) -> Value:
    """exp(x) = 2^n exp(r), |r| <= ln2/2 (Cody & Waite)."""
    b = Builder(e)
    x = e.op("max", e.op("min", x, b.c(b.format.exp_high)), b.c(b.format.exp_low))
    return b.mul(*b.exp_wide(x))


def exp_near(e: Emitter, x: Value) -> Value:
    """exp(x), the same bits, where x is between the two of EXP_NEAR, or NaN."""
    return Builder(e).exp_near(x)


def exp_below(e: Emitter, x: Value) -> Value:
    """exp(x), the same bits, where x is at most 0, or NaN."""
    b = Builder(e)
    return b.mul(*b.exp_wide(e.op("max", x, b.c(b.format.exp_low))))


def expm1(e: Emitter, x: Value) -> Value:
    """exp(x) - 1 = 2 (2^(n-1) expm1(r) + (2^(n-1) - 1/2)), r with the rest of its reduction."""
    b = Builder(e)
    y = e.op("max", e.op("min", x, b.c(b.format.exp_high)), b.c(b.format.expm1_low))
    word, n, rest = b.without_ln2(y, b.format.bias - 1)
    low = b.mul(n, b.c(b.format.ln2_low))
    r = b.sub(rest, low)
    low = b.sub(b.sub(rest, r), low)
    s = b.mad(b.mul(r, r), b.polynomial(EXPM1, r), b.mad(low, r, low))
    s = b.add(s, r)
    scale = b.power(word)
    y = b.mad(scale, s, b.sub(scale, b.c(0.5)))
    tiny = e.op("lt", e.op("abs", x), b.c(2.0**-60))
    return b.pick(tiny, x, b.add(y, y))


def sigmoid(e: Emitter, x: Value) -> Value:
    """With z = exp(-|x|) and q = z/(1+z): 1 - q, or z - z q where x < 0, which is z/(1+z) with the
    roundings of the quotient in a small term: no overflow, and small where it is small."""
    b = Builder(e)
    far = e.op("max", e.op("neg", e.op("abs", x)), b.c(b.format.exp_low))
    p, power = b.exp_wide(far)
    z = b.mul(p, power)
    one = b.c(1.0)
    part = b.div(z, b.mad(p, power, one))
    top = b.pick(e.op("lt", x, b.c(0.0)), z, one)
    return b.mad(e.op("neg", top), part, top)


def sigmoid_by_exp(e: Emitter, x: Value) -> Value:
    """The same bits. The power of two in z is exact unless z is subnormal, where 1+z is 1 in either
    case; and exp clamps."""
    b = Builder(e)
    z = e.op("exp", e.op("neg", e.op("abs", x)))
    one = b.c(1.0)
    part = b.div(z, b.add(z, one))
    top = b.pick(e.op("lt", x, b.c(0.0)), z, one)
    return b.mad(e.op("neg", top), part, top)


def softplus(e: Emitter, x: Value) -> Value:
    """log(1 + exp(x)) = relu(x) + log(1+z) with z = exp(-|x|), which is at most 1: what the sum in
    z lost and the terms from the cubic ones on join relu(x) first, where a sum is smallest, z
    last."""
    b = Builder(e)
    far = e.op("max", e.op("neg", e.op("abs", x)), b.c(b.format.exp_low))
    p, u, v = b.exp_factors(far)
    sum_ = b.mad(p, u, u)
    z = b.mul(sum_, v)
    lost = b.mad(p, u, b.sub(u, sum_))
    square = b.mul(z, z)
    cubic = b.polynomial(LOG1P, z, square, b.mul(square, square))
    rest = b.mad(b.mul(square, z), cubic, b.mad(lost, v, relu(e, x)))
    return b.add(b.mad(square, b.c(-0.5), rest), z)


def tanh(e: Emitter, x: Value) -> Value:
    """An odd polynomial below 0.5625; above, 1 - 2 z/(1+z) with z = exp(-2|x|), which is > 0."""
    b = Builder(e)
    a = e.op("min", e.op("abs", x), b.c(b.format.tanh_high))
    return _tanh(b, x, a, b.exp_near(b.mul(a, b.c(-2.0))))


def tanh_by_exp(e: Emitter, x: Value) -> Value:
    """The same bits: without the clamp of |x|, z only becomes smaller, where 1 - 2 z/(1+z) is 1."""
    b = Builder(e)
    a = e.op("abs", x)
    return _tanh(b, x, a, e.op("exp", b.mul(a, b.c(-2.0))))


def _tanh(b: Builder, x: Value, a: Value, z: Value) -> Value:
    """tanh of x by a = |x| and z."""
    e = b.e
    one = b.c(1.0)
    far = b.mad(b.div(z, b.add(z, one)), b.c(-2.0), one)
    square = b.mul(a, a)
    near = b.mad(b.mul(a, square), b.polynomial(TANH, square), a)
    return b.signed(b.pick(e.op("lt", a, b.c(0.5625)), near, far), b.sign(x))


def erf(e: Emitter, x: Value) -> Value:
    """An odd polynomial below 1; above, 1 - exp(-a^2) P(1/(a+2)) (Shepherd & Laframboise)."""
    return _erf(Builder(e), x, exp_near)


def erf_by_exp(e: Emitter, x: Value) -> Value:
    """The same bits."""
    return _erf(Builder(e), x, lambda e, y: e.op("exp", y))


def _erf(b: Builder, x: Value, exp: Callable[[Emitter, Value], Value]) -> Value:
    e = b.e
    a = e.op("min", e.op("abs", x), b.c(b.format.erf_high))
    square = b.mul(a, a)
    near = b.mad(a, b.polynomial(ERF, square), a)
    one = b.c(1.0)
    z = exp(e, e.op("neg", square))
    t = b.div(one, b.add(a, b.c(2.0)))
    far = b.mad(e.op("neg", z), b.polynomial(ERFC, t), one)
    return b.signed(b.pick(e.op("lt", a, one), near, far), b.sign(x))


def log(e: Emitter, x: Value) -> Value:
    """n ln2 + log(m), m in sqrt(1/2) .. sqrt(2) (Tang)."""
    b = Builder(e)
    zero = b.c(0.0)
    up = 2.0 ** (b.format.mantissa + 1)
    subnormal = e.op("lt", x, b.c(2.0 ** (1 - b.format.bias)))
    n, m = b.log_parts(b.pick(subnormal, b.mul(x, b.c(up)), x))
    down = b.pick(subnormal, b.c(b.format.mantissa + 1.0), zero)
    y = b.log_sum(b.sub(b.whole(n), down), b.sub(m, b.c(1.0)), None)
    y = b.pick(e.op("lt", x, b.special(float("inf"))), y, x)  # infinity and NaN stay
    below = b.pick(e.op("eq", x, zero), b.special(float("-inf")), b.special(float("nan")))
    return b.pick(e.op("le", x, zero), below, y)


def log1p(e: Emitter, x: Value) -> Value:
    """log(u) + c/u with u = 1+x rounded and c the exact rest (Knuth's two-sum); where u needs no
    power of two, log(1+f) with f = x itself."""
    b = Builder(e)
    zero, one = b.c(0.0), b.c(1.0)
    u = b.add(x, one)
    part = b.sub(u, x)
    c = b.add(b.sub(x, b.sub(u, part)), b.sub(one, part))
    n, m = b.log_parts(u)
    near = e.op("weq", n, b.w(0))
    f = b.pick(near, x, b.sub(m, one))
    low = b.pick(near, zero, b.div(c, u))
    y = b.log_sum(b.whole(n), f, low)
    y = b.pick(e.op("lt", x, b.special(float("inf"))), y, x)
    y = b.pick(e.op("eq", x, zero), x, y)  # the sign of zero
    ends = b.pick(e.op("eq", x, b.c(-1.0)), b.special(float("-inf")),
                  b.special(float("nan")))
    return b.pick(e.op("le", x, b.c(-1.0)), ends, y)


def atan(e: Emitter, x: Value) -> Value:
    """A polynomial up to 1; pi/2 - atan(1/a) above."""
    b = Builder(e)
    a = e.op("abs", x)
    over = e.op("gt", a, b.c(1.0))
    t = b.pick(over, b.div(b.c(-1.0), a), a)
    zero = b.c(0.0)
    z = b.mul(t, t)
    low = b.pick(over, b.c(b.format.half_pi_low), zero)
    y = b.add(t, b.mad(b.mul(t, z), b.polynomial(ATAN, z), low))
    y = b.add(y, b.pick(over, b.c(b.format.half_pi), zero))
    return b.signed(y, b.sign(x))


def _two_over_pi(dtype: str) -> tuple[int, ...]:
    """Overlapping limbs of 2/pi: entry i holds `limb` bits from bit first + i grain, bits counted
    from 1 after the point; those before it are 0."""
    form = FORMATS[dtype]
    first = -form.mantissa - 2
    last = (form.bias + 2) // form.grain + (form.limbs - 1) * (form.limb // form.grain)
    mask = (1 << form.limb) - 1
    starts = (first + i * form.grain for i in range(last + 1))
    return tuple((TWO_OVER_PI >> (1408 - (start - 1 + form.limb))) & mask for start in starts)


def _quarters(b: Builder, a: Value) -> tuple[Value, Value, Value]:
    """a >= 0 less the nearest multiple q of pi/2, as a sum y + low, and a word that is q modulo 4:
    by parts of pi/2 (Cody & Waite), or, beyond `near`, by bits of 2/pi (Payne & Hanek).

    By parts: a - n p1 and that less n p2 are exact, as is n p3; what the third difference rounds
    off, and n p4, are low.
    """
    e, form = b.e, b.format
    p1, p2, p3, p4 = form.half_pi_parts
    shifted = b.mad(a, b.c(PER_QUARTER[e.dtype]), b.c(b.magic))
    n = b.sub(shifted, b.c(b.magic))
    rest = b.mad(n, b.c(-p2), b.mad(n, b.c(-p1), a))
    part = b.mul(n, b.c(p3))
    y = b.sub(rest, part)
    low = b.mad(n, b.c(-p4), b.sub(b.sub(rest, y), part))
    return e.rarely(e.op("gt", a, b.c(form.near)), (y, low, e.op("bits", shifted)),
                    lambda: _far_quarters(b, a))


def _far_quarters(b: Builder, a: Value) -> tuple[Value, Value, Value]:
    """The same for any a >= 0, the word in 0 .. 4.

    With a = m 2^(E - bias - mantissa), m an integer, and E = bias - 1 + grain j + shift, the bits
    of 2/pi before the table's entry j only add multiples of 4. The limbs of m 2^shift, two, meet
    those of 2/pi; the sums of a column stay below 2^(2 limb + 1).
    """
    e, form = b.e, b.format
    mantissa, limb, limbs = form.mantissa, form.limb, form.limbs
    table = _two_over_pi(e.dtype)
    mask = b.w((1 << limb) - 1)
    clamped = e.op("max", a, b.c(0.5))  # E >= bias - 1; below 1/2 nothing is subtracted
    word = e.op("bits", clamped)
    exponent = e.op("wsub", e.op("wshr", word, b.w(mantissa)), b.w(form.bias - 1))
    entry = e.op("wshr", exponent, b.w(form.grain.bit_length() - 1))
    shift = e.op("wand", exponent, b.w(form.grain - 1))
    m = e.op("wor", e.op("wand", word, b.w((1 << mantissa) - 1)), b.w(1 << mantissa))
    m = e.op("wshl", m, shift)
    m_high, m_low = e.op("wshr", m, b.w(limb)), e.op("wand", m, mask)
    stride = limb // form.grain
    digits: list[Value] = []  # of the product, the last limb first
    carry = below = None
    for k in range(limbs - 1, -1, -1):
        at = e.op("wadd", entry, b.w(k * stride)) if k else entry
        bits = e.lookup(table, at)
        column = e.op("wmul", m_low, bits)
        if below is not None:
            column = e.op("wadd", e.op("wadd", column, e.op("wmul", m_high, below)), carry)
        digits.append(e.op("wand", column, mask))
        carry, below = e.op("wshr", column, b.w(limb)), bits
    digits.reverse()
    # The first digit has two bits before the point, those of the quarter.
    unit = b.w(limb - 2)
    quarter = e.op("wshr", e.op("wadd", digits[0], b.w(1 << (limb - 3))), unit)
    first = e.op("wsub", digits[0], e.op("wshl", quarter, unit))
    parts = [
        b.mul(b.whole(digit), b.c(2.0 ** (2 - limb * (k + 1))))
        for k, digit in enumerate([first, *digits[1:5]])
    ]
    # Twice the sum of a large and a small part, with its error: the large one may be zero.
    high = b.add(parts[0], parts[1])
    low = b.sub(parts[1], b.sub(high, parts[0]))
    low = b.add(low, b.add(parts[2], b.add(parts[3], parts[4])))
    turn = b.add(high, low)
    low = b.sub(low, b.sub(turn, high))
    # Times pi/2: the upper bits of the turn times the short pi/2 are exact.
    upper = e.op("unbits", e.op("wand", e.op("bits", turn), b.w(-1 << form.half_pi_bits)))
    low = b.add(b.sub(turn, upper), low)
    exact = b.mul(upper, b.c(form.half_pi_short))
    rest = b.mad(turn, b.c(form.half_pi_rest), b.mul(low, b.c(form.half_pi_short)))
    y = b.add(exact, rest)
    low = b.sub(rest, b.sub(y, exact))
    near = e.op("lt", a, b.c(0.5))
    y = b.pick(near, a, b.add(y, b.sub(a, a)))  # infinity and NaN become NaN
    return y, b.pick(near, b.c(0.0), low), quarter


def _wave(b: Builder, y: Value, low: Value, quarter: Value) -> Value:
    """sin(y + low + quarter pi/2), |y| <= pi/4."""
    e = b.e
    z = b.mul(y, y)
    sine = b.add(b.mad(b.mul(y, z), b.polynomial(SIN, z), low), y)
    # 1 - z/2 rounds; what it loses goes with the small terms.
    one, half = b.c(1.0), b.c(-0.5)
    main = b.mad(z, half, one)
    lost = b.mad(z, half, b.sub(one, main))
    small = b.mad(b.mul(z, z), b.polynomial(COS, z), b.mul(e.op("neg", y), low))
    cosine = b.add(b.add(small, lost), main)
    odd = e.op("weq", e.op("wand", quarter, b.w(1)), b.w(1))
    value = e.op("bits", b.pick(odd, cosine, sine))
    flip = e.op("wshl", e.op("wand", quarter, b.w(2)), b.w(b.format.width - 2))
    return e.op("unbits", e.op("wxor", value, flip))


def sin(e: Emitter, x: Value) -> Value:
    """By quarters of a turn."""
    b = Builder(e)
    y, low, quarter = _quarters(b, e.op("abs", x))
    value = _wave(b, y, low, quarter)
    return e.op("unbits", e.op("wxor", e.op("bits", value), b.sign(x)))


def cos(e: Emitter, x: Value) -> Value:
    """By quarters of a turn: sin, one quarter on."""
    b = Builder(e)
    y, low, quarter = _quarters(b, e.op("abs", x))
    return _wave(b, y, low, e.op("wadd", quarter, b.w(1)))


def sqrt(e: Emitter, x: Value) -> Value:
    """The correctly rounded root, a binary digit at a time on words: what a target without the
    instruction, thus without an FPU, does fastest. The last digit only rounds: no root lies on a
    tie, so it rounds up where it is 1."""
    b, form = Builder(e), FORMATS[e.dtype]
    mantissa, bias = form.mantissa, form.bias
    infinity, zero = b.special(float("inf")), b.c(0.0)
    half = mantissa // 2 + 1
    subnormal = e.op("lt", x, b.c(2.0 ** (1 - bias)))
    word = e.op("bits", b.pick(subnormal, b.mul(x, b.c(4.0**half)), x))
    exponent = e.op("wadd", e.op("wshr", word, b.w(mantissa)), b.w(bias))  # of x, + 2 bias
    rest = e.op("wor", e.op("wand", word, b.w((1 << mantissa) - 1)), b.w(1 << mantissa))
    # x = rest 4^k, its exponent even: 2 bias + E is odd where E - bias is.
    rest = e.op("wshl", rest, e.op("wand", exponent, b.w(1)))
    rest = e.op("wadd", rest, rest)
    root = b.w(0)  # twice the digits so far
    for digit in range(mantissa + 1, -1, -1):
        step_ = b.w(1 << digit)
        trial = e.op("wadd", root, step_)
        less = e.op("wlt", rest, trial)
        root = b.pick(less, root, e.op("wadd", trial, step_))
        rest = b.pick(less, rest, e.op("wsub", rest, trial))
        rest = e.op("wadd", rest, rest)
    # root = 2q, q of mantissa + 2 bits; (q + 1)/2 rounds, the hidden bit adds one to the exponent.
    q = e.op("wshr", root, b.w(1))
    rounded = e.op("wshr", e.op("wadd", q, b.w(1)), b.w(1))
    k = e.op("wshl", e.op("wsub", e.op("wshr", exponent, b.w(1)), b.w(1)), b.w(mantissa))
    y = e.op("unbits", e.op("wadd", k, rounded))
    y = b.pick(subnormal, b.mul(y, b.c(2.0**-half)), y)
    y = b.pick(e.op("lt", x, infinity), y, x)  # infinity and NaN stay
    y = b.pick(e.op("eq", x, zero), x, y)  # so does a zero, with its sign
    return b.pick(e.op("lt", x, zero), b.special(float("nan")), y)


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
# The same functions with the opcode exp in them, of what is at most 0: for small code, which has
# one exp for all.
BY_EXP: dict[str, Callable[[Emitter, Value], Value]] = {
    "sigmoid": sigmoid_by_exp,
    "tanh": tanh_by_exp,
    "erf": erf_by_exp,
}
