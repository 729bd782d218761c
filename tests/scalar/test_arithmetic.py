"""The compiler's own arithmetic, against the C library in a wider type, and its exact ends.

The bounds are the contract's: 2 units in the last place in f32, 4 in f64, with and without an
FMA. `tests/bench/bench_ulps.py --all` walks all 2^32 float32 inputs and prints the maxima.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import itertools
import math

import numpy as np
import pytest
from ulps import BITS, BOUNDS, INF, NAN, REALS, WIDE, WIDER, Array, samples, ulps, widen

from ncc.scalar.coefficients import EXP_NEAR
from ncc.scalar.mathlib import BY_EXP, SEQUENCES, exp_below, exp_near
from ncc.scalar.numpy_eval import EVALUATORS, Numpy
from ncc.scalar.opcodes import OPCODES

BOTH = pytest.mark.parametrize("dtype", ["f32", "f64"])
MODES = pytest.mark.parametrize("fused", [True, False], ids=["fused", "strict"])
def test_every_opcode_has_a_reading() -> None:
    mathematical = {o.name for o in OPCODES.values() if o.math}
    assert set(SEQUENCES) == mathematical
    assert set(EVALUATORS) == set(OPCODES) - mathematical


@BOTH
@MODES
@pytest.mark.parametrize("name", WIDE)
@pytest.mark.each_choice
def test_within_the_bound(name: str, dtype: str, fused: bool) -> None:
    if dtype == "f64" and not WIDER:
        pytest.skip("no long double to judge float64 by")
    x = samples(dtype)
    got = Numpy(dtype, fused).op(name, x)
    assert got.dtype == REALS[dtype]
    with np.errstate(all="ignore"):
        error = ulps(got, WIDE[name](widen(x)))
    worst = int(np.argmax(error))
    assert error[worst] <= BOUNDS[dtype], (x[worst], got[worst])


@BOTH
@MODES
def test_the_functions_by_exp_have_the_same_bits(dtype: str, fused: bool) -> None:
    x, e = samples(dtype), Numpy(dtype, fused)
    x = np.concatenate([x, REALS[dtype](np.linspace(-30, 30, 2001))])
    with np.errstate(all="ignore"):
        pairs = [(e.op(name, x), by_exp(e, x)) for name, by_exp in BY_EXP.items()]
        pairs.append((e.op("exp", -np.abs(x)), exp_below(e, -np.abs(x))))
    for want, got in pairs:
        known = ~np.isnan(want)
        np.testing.assert_array_equal(np.isnan(got), ~known)
        np.testing.assert_array_equal(got[known].view(BITS[dtype]), want[known].view(BITS[dtype]))


@BOTH
@MODES
def test_the_short_exp_has_the_same_bits_between_its_ends(dtype: str, fused: bool) -> None:
    low, high = EXP_NEAR[dtype]
    e, real = Numpy(dtype, fused), REALS[dtype]
    rng = np.random.default_rng(0)
    grid = np.linspace(low, high, 300_001)
    near = np.log(2.0) * np.arange(np.ceil(low / np.log(2.0)), high / np.log(2.0))
    x = np.concatenate([
        grid, rng.uniform(low, high, 300_000), [low, high, 0.0, -0.0, NAN],
        # about multiples of ln 2, where p is small
        (near[:, None] * (1 + np.arange(-40, 41) * np.finfo(real).eps / 2)).ravel(),
        rng.normal(size=300_000) * 10.0 ** rng.integers(-12, 1, 300_000)]).astype(real)
    x = x[~((x < low) | (x > high))]
    got, want = exp_near(e, x), e.op("exp", x)
    np.testing.assert_array_equal(got.view(BITS[dtype]), want.view(BITS[dtype]))


ENDS = {
    "exp": {-INF: 0.0, INF: INF, 0.0: 1.0, -1e4: 0.0, 1e4: INF},
    "expm1": {-INF: -1.0, INF: INF, 0.0: 0.0, -1e4: -1.0, 1e4: INF},
    "log": {0.0: -INF, INF: INF, 1.0: 0.0, -1.0: NAN, -INF: NAN},
    "log1p": {-1.0: -INF, INF: INF, 0.0: 0.0, -2.0: NAN, -INF: NAN},
    "tanh": {-INF: -1.0, INF: 1.0, 0.0: 0.0, 50.0: 1.0},
    "sigmoid": {-INF: 0.0, INF: 1.0, 0.0: 0.5, 50.0: 1.0, -1e4: 0.0},
    "softplus": {-INF: 0.0, INF: INF, -1e4: 0.0, 1e4: 1e4},
    "erf": {-INF: -1.0, INF: 1.0, 0.0: 0.0, 50.0: 1.0},
    "sin": {-INF: NAN, INF: NAN, 0.0: 0.0},
    "cos": {-INF: NAN, INF: NAN, 0.0: 1.0},
    "atan": {-INF: -math.pi / 2, INF: math.pi / 2, 0.0: 0.0},
    "sqrt": {-INF: NAN, INF: INF, 0.0: 0.0, 4.0: 2.0, -1.0: NAN},
    "relu": {-INF: 0.0, INF: INF, 0.0: 0.0, -3.0: 0.0, 3.0: 3.0},
    "step": {-INF: 0.0, INF: 1.0, 0.0: 0.0, -3.0: 0.0, 3.0: 1.0},
}
ODD = ("expm1", "log1p", "tanh", "erf", "sin", "atan", "sqrt")  # f(-0) = -0


@BOTH
@MODES
@pytest.mark.parametrize("name", ENDS)
def test_ends_are_exact(name: str, dtype: str, fused: bool) -> None:
    real, numbers = REALS[dtype], Numpy(dtype, fused)
    for x, want in ENDS[name].items():
        got = numbers.op(name, np.array([x], real))[0]
        np.testing.assert_equal(got, real(want), f"{name}({x})")
        assert np.isnan(want) or np.signbit(got) == np.signbit(want), (name, x)
    if name in ODD:
        assert np.signbit(numbers.op(name, np.array([-0.0], real))[0])
    # Every kind of NaN: quiet, signalling, either sign, all bits set.
    width = 8 * real().itemsize
    one = (1 << (width - 1)) - (1 << (23 if dtype == "f32" else 52))  # infinity's word
    words = [one + 1, one | (1 << (21 if dtype == "f32" else 50)), (1 << width) - 1]
    nan = numbers.op(name, np.array(words, BITS[dtype]).view(real))
    assert np.all(nan == 0) if name == "step" else np.all(np.isnan(nan))


@BOTH
@MODES
def test_never_above_one(dtype: str, fused: bool) -> None:
    x = np.concatenate([samples(dtype), np.linspace(-40, 40, 100001, dtype=REALS[dtype])])
    numbers = Numpy(dtype, fused)
    for name in ("tanh", "erf", "sigmoid", "sin", "cos"):
        y = numbers.op(name, x)
        assert np.nanmax(np.abs(y)) == 1, name
        assert name != "sigmoid" or np.nanmin(y) == 0


@BOTH
def test_sqrt_is_the_ieee_one(dtype: str) -> None:
    rng = np.random.default_rng(3)
    k = rng.integers(1, 2**12 if dtype == "f32" else 2**26, 20000).astype(REALS[dtype])
    square = k * k
    squares = [square, np.nextafter(square, 0), np.nextafter(square, REALS[dtype](INF))]
    x = np.concatenate([samples(dtype), *squares])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(Numpy(dtype, False).op("sqrt", x), np.sqrt(x))


@BOTH
def test_relu_keeps_every_positive_bit(dtype: str) -> None:
    x = samples(dtype)
    x = x[~np.isnan(x)]
    want = np.where(x > 0, x, REALS[dtype](0))
    for fused in (True, False):
        got = Numpy(dtype, fused).op("relu", x)
        np.testing.assert_array_equal(got.view(BITS[dtype]), want.view(BITS[dtype]))


@BOTH
def test_strict_uses_no_fma(dtype: str) -> None:
    class Spy(Numpy):
        def op(self, name: str, *arrays: Array) -> Array:
            used.append(name)
            return super().op(name, *arrays)

    for name in SEQUENCES:
        used: list[str] = []
        Spy(dtype, False).op(name, REALS[dtype](0.7))
        assert "fma" not in used, name
        assert not [u for u in used[1:] if OPCODES[u].math], name


@BOTH
def test_constants_are_reals_of_the_dtype(dtype: str) -> None:
    """So that no reading of a sequence rounds one otherwise."""
    class Spy(Numpy):
        def const(self, value: float) -> Array:
            assert math.isfinite(value) and float(self.real(value)) == value
            return super().const(value)

    for name, fused in itertools.product(SEQUENCES, (True, False)):
        Spy(dtype, fused).op(name, REALS[dtype](0.7))


@BOTH
def test_fma_rounds_once(dtype: str) -> None:
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    real, c_real = (np.float32, ctypes.c_float) if dtype == "f32" else (np.float64, ctypes.c_double)
    judge = library.fmaf if dtype == "f32" else library.fma
    judge.restype, judge.argtypes = c_real, [c_real] * 3
    rng, info, n = np.random.default_rng(1), np.finfo(real), 5000
    few = [0.0, 1.0, 3.0, info.tiny, info.smallest_subnormal, info.max, INF, NAN, 1 + info.eps,
           info.eps / 2, info.eps**2, info.tiny**0.5]
    column = np.array([*few, *(-v for v in few)], real)
    near_one = 1 + rng.integers(-40, 40, (n, 3)).astype(real) * info.eps
    normal = rng.standard_normal((n, 3)).astype(real)
    cancel = normal.copy()
    cancel[:, 2] = -(cancel[:, 0] * cancel[:, 1])
    with np.errstate(all="ignore"):
        rows = np.concatenate([
            np.array(list(itertools.product(column, repeat=3)), real),
            rng.integers(0, 2 ** (8 * real().itemsize), (n, 3), dtype=BITS[dtype]).view(real),
            near_one, normal, cancel, normal * real(info.tiny**0.5),
            near_one * real(2) ** rng.integers(-2 * info.nmant, 2 * info.nmant, (n, 3)),
        ]).astype(real)
    got = Numpy(dtype, True).op("fma", rows[:, 0], rows[:, 1], rows[:, 2])
    want = np.array([judge(*map(float, row)) for row in rows], real)
    both = np.isnan(got) & np.isnan(want)
    np.testing.assert_array_equal(np.where(both, 0, got.view(BITS[dtype])),
                                  np.where(both, 0, want.view(BITS[dtype])))


def test_fma_is_not_two_roundings_of_a_double() -> None:
    # (1 + 2^-23)(1 - 2^-23) 2^-24 + 1 + 2^-23 lies 2^-70 below a float32 tie, and float64 on it.
    a, b = np.float32(1 + 2.0**-23), np.float32((1 - 2.0**-23) * 2.0**-24)
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(a)) == 1 + 2.0**-22
    for shape in ((), (1,), (2, 3)):
        got = Numpy("f32", True).op("fma", np.full(shape, a), np.full(shape, b), a)
        assert np.shape(got) == shape and np.all(got == a)


@BOTH
def test_words_wrap_and_shift(dtype: str) -> None:
    numbers = Numpy(dtype, True)
    width = 32 if dtype == "f32" else 64
    top, one = numbers.word(1 << (width - 1)), numbers.word(1)
    assert top < 0 and numbers.word(-1) == numbers.word((1 << width) - 1)
    assert numbers.op("wsub", top, one) == (1 << (width - 1)) - 1
    assert numbers.op("wshl", one, numbers.word(width - 1)) == top
    assert numbers.op("wshr", top, numbers.word(width - 1)) == 1
    assert numbers.op("wsar", top, numbers.word(width - 1)) == -1
    assert numbers.op("wmul", top, numbers.word(3)) == top
    assert numbers.op("unbits", numbers.op("bits", numbers.const(-1.5))) == -1.5
    assert numbers.lookup((7, -1, 9), np.array([2, 0], numbers.integer)).tolist() == [9, 7]
    with pytest.raises(IndexError):
        numbers.lookup((7,), np.array([-1], numbers.integer))


@BOTH
def test_max_and_min_are_the_tables(dtype: str) -> None:
    numbers, real = Numpy(dtype, True), REALS[dtype]
    a = np.array([1, 2, NAN, 1, 0.0, -0.0], real)
    b = np.array([2, 1, 1, NAN, -0.0, 0.0], real)
    for name in ("max", "min"):
        compare = np.greater if name == "max" else np.less
        got = numbers.op(name, a, b).view(BITS[dtype])
        np.testing.assert_array_equal(got, np.where(compare(b, a), b, a).view(BITS[dtype]))
