"""Expressions and the table of activations, against formulas written apart from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gradients import torch_activations

from ncc.errors import NccError, Source
from ncc.scalar.activations import ACTIVATIONS, FREE, code_of, name_of
from ncc.scalar.expressions import DEEPEST, LONGEST, Expr, emit, expression, parse
from ncc.scalar.numpy_eval import Numpy
from ncc.scalar.opcodes import OPCODES


def read(text: str) -> Expr:
    return parse(Source("f", text), text)


def at(text: str, *points: float, dtype: str = "f64") -> list[float]:
    e = Numpy(dtype, True)
    x = np.array(points, e.real)
    return [float(v) for v in np.broadcast_to(emit(read(text), e, x), x.shape)]


def test_formulas_without_the_grammar_are_those_of_it():
    for a in ACTIVATIONS:
        assert expression(a.code, {}) == read(a.formula)


@pytest.mark.parametrize(("text", "x", "value"), [
    ("x", 3, 3),
    ("-x^2", 3, -9),
    ("(-x)^2", 3, 9),
    ("x^0", math.nan, 1),
    ("x^1", 3, 3),
    ("x^13", 3, 3.0**13),
    ("x^-2", 2, 0.25),
    ("2*-x", 3, -6),
    ("+x - -x", 3, 6),
    ("1-2-x", 3, -4),
    ("8/2/x", 2, 2),
    ("1+2*x^2/4", 4, 9),
    ("0x1.8p1*x", 2, 6),
    (".5*x+1.e1", 2, 11),
    ("max(x, 1, 2*x)", 3, 6),
    ("min(x, 1, -x)", 3, -3),
    ("relu6(x)+relu6(x+1)", 2, 5),
    ("square(cube(x))", 2, 64),
    ("7", 3, 7),
])
def test_what_expressions_mean(text: str, x: float, value: float) -> None:
    assert at(text, x) == [value]


EXTREMES = [(a, b) for name in ("max", "min") for number in ("2", "-2", "0", "-0.0")
            for a, b in ((f"{name}({number},y)", name), (f"{name}(y,{number})", name))]


@pytest.mark.parametrize("text, opcode", EXTREMES, ids=[text for text, _ in EXTREMES])
@pytest.mark.parametrize("y", ["x", "2*x"])
def test_the_extreme_of_a_number_is_one_op_but_of_zero_first(text: str, opcode: str, y: str
                                                              ) -> None:
    expr = read(text.replace("y", y))
    kept = [node.op for node in expr.brief if node.op not in ("x", "const", "mul")]
    zero = text[4:].startswith(("0,", "-0.0,"))
    assert kept == ([opcode, "une", "select"] if zero else [opcode])
    x = np.array([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, np.inf, -np.inf, np.nan, 5e-324, -3.0])
    values = []
    for node in expr.nodes:  # as they were written
        e = Numpy("f64", False)
        values.append(x if node.op == "x" else np.full_like(x, node.value) if node.op == "const"
                      else e.op(node.op, *[values[a] for a in node.args]))
    got = emit(expr, Numpy("f64", False), x)
    np.testing.assert_array_equal(got.view(np.int64), values[-1].view(np.int64))


@pytest.mark.parametrize("text", ["max(x,1)", "max(1,x)", "min(2,x,1)", "max(x,x*2)", "relu(x)",
                                  "min(1,x-x)", "max(x*2,x)", "min(step(x),x)", "max(-0,x)",
                                  "max(min(1,x),x)", "min(max(x,1)*0,x)", "max(leaky_relu(x),x)"])
def test_nan_passes_through_extremes(text: str) -> None:
    assert math.isnan(at(text, math.nan)[0])


@pytest.mark.parametrize(("text", "code", "column"), [
    ("y", "E201", 1),
    ("x+foo(x)", "E201", 3),
    ("x+max(x)", "E202", 3),
    ("tanh(x,x)", "E202", 1),
    ("x/0", "E203", 2),
    ("x/(1-1)", "E203", 2),
    ("x/-0.0", "E203", 2),
    ("1+1e999", "E204", 3),
    ("1+0x1p5000", "E204", 3),
    ("nan", "E204", 1),
    ("inf*x", "E204", 1),
    ("1e308*10*x", "E204", 6),
    ("x^2.5", "E205", 3),
    ("x^1e2", "E205", 3),
    ("x^2147483648", "E205", 3),
    ("x^" + "9" * 5000, "E205", 3),
    ("0^-1", "E203", 4),
    ("x^2^3", "E001", 4),
    ("x x", "E001", 3),
    ("x+*x", "E001", 3),
    ("(x", "E001", 3),
    ("__import__('os')", "E001", 12),
    ("x @ 1", "E001", 3),
    ("", "E001", 1),
])
def test_faults_have_a_place(text: str, code: str, column: int) -> None:
    file = Source("net.nal", f"N 02\nfn 20 {text}\n")
    with pytest.raises(NccError) as caught:
        parse(file, text, 2, 7)
    assert (caught.value.code, caught.value.line, caught.value.column) == (code, 2, 6 + column)
    assert caught.value.source is file


def test_nesting_and_size_are_bounded() -> None:
    read("(" * DEEPEST + "x" + ")" * DEEPEST)
    read("-" * DEEPEST + "x")
    read("x" + "+x" * (LONGEST - 1))  # long is not deep; one node is x
    for text in ("(" * (DEEPEST + 1) + "x" + ")" * (DEEPEST + 1), "-" * (DEEPEST + 1) + "x",
                 "tanh(" * (DEEPEST + 1) + "x" + ")" * (DEEPEST + 1), "(" * 100_000,
                 "x" + "+x" * LONGEST):
        with pytest.raises(NccError) as caught:
            read(text)
        assert (caught.value.code, caught.value.status) == ("E206", 4)


def test_programs_are_straight_and_use_known_opcodes() -> None:
    for a in ACTIVATIONS:
        nodes = expression(a.code, {}).nodes
        read_later = {k for n in nodes for k in n.args}
        assert all(k < i for i, n in enumerate(nodes) for k in n.args)
        assert read_later == set(range(len(nodes) - 1))  # nothing dead
        for n in nodes:
            assert n.op in ("x", "const") or len(n.args) == len(OPCODES[n.op].reads)


def test_the_table_is_the_contracts() -> None:
    names = ("identity sigmoid tanh relu silu gelu swish leaky_relu elu selu softplus softsign "
             "hard_sigmoid exp log abs square cube sqrt rsqrt recip sin cos gauss step gelu_tanh "
             "mish hard_swish relu6 clip atan erf").split()
    assert [a.name for a in ACTIVATIONS] == names and len(names) == FREE
    assert all(a.code == k == code_of(a.name) and name_of(k) == a.name
               for k, a in enumerate(ACTIVATIONS))
    assert code_of("relux") is None and name_of(0xAB) == "ab"
    assert expression(0x20, {0x20: "x+1"}) == read("x+1")
    with pytest.raises(KeyError):
        expression(0x21, {})


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _gelu_tanh(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


FORMULAS: dict[str, Callable[[float], float]] = {
    "identity": lambda x: x,
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
    "relu": lambda x: x if x > 0 else 0.0,
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: x / 2 * (1 + math.erf(x / math.sqrt(2))),
    "swish": lambda x: x * _sigmoid(x),
    "leaky_relu": lambda x: x if x > 0 else 0.01 * x,
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x)),
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + abs(x)),
    "hard_sigmoid": lambda x: 0.0 if x < -3 else 1.0 if x > 3 else x / 6 + 0.5,
    "exp": lambda x: math.exp(x) if x < 709 else math.inf,
    "log": lambda x: math.log(x) if x > 0 else -math.inf if x == 0 else math.nan,
    "abs": abs,
    "square": lambda x: x * x,
    "cube": lambda x: x * x * x,
    "sqrt": lambda x: math.sqrt(x) if x >= 0 else math.nan,
    "rsqrt": lambda x: x**-0.5 if x > 0 else math.copysign(math.inf, x) if x == 0 else math.nan,
    "recip": lambda x: 1 / x if x else math.copysign(math.inf, x),
    "sin": math.sin,
    "cos": math.cos,
    "gauss": lambda x: math.exp(-x * x),
    "step": lambda x: float(x > 0),
    "gelu_tanh": _gelu_tanh,
    "mish": lambda x: x * math.tanh(_softplus(x)),
    "hard_swish": lambda x: x * (0.0 if x < -3 else 1.0 if x > 3 else (x + 3) / 6),
    "relu6": lambda x: 0.0 if x <= 0 else min(x, 6.0),
    "clip": lambda x: min(max(x, -1.0), 1.0),
    "atan": math.atan,
    "erf": math.erf,
}
# (at -inf, at +inf); NaN where a function has no limit
LIMITS = {
    "identity": (-math.inf, math.inf), "sigmoid": (0, 1), "tanh": (-1, 1), "relu": (0, math.inf),
    "silu": (0, math.inf), "gelu": (0, math.inf), "swish": (0, math.inf),
    "leaky_relu": (-math.inf, math.inf), "elu": (-1, math.inf),
    "selu": (-1.0507009873554805 * 1.6732632423543772, math.inf), "softplus": (0, math.inf),
    "softsign": (-1, 1), "hard_sigmoid": (0, 1), "exp": (0, math.inf),
    "log": (math.nan, math.inf), "abs": (math.inf, math.inf), "square": (math.inf, math.inf),
    "cube": (-math.inf, math.inf), "sqrt": (math.nan, math.inf), "rsqrt": (math.nan, 0),
    "recip": (0, 0), "sin": (math.nan, math.nan), "cos": (math.nan, math.nan), "gauss": (0, 0),
    "step": (0, 1), "gelu_tanh": (0, math.inf), "mish": (0, math.inf),
    "hard_swish": (0, math.inf), "relu6": (0, 6), "clip": (-1, 1),
    "atan": (-math.pi / 2, math.pi / 2), "erf": (-1, 1),
}


def values(name: str, points: Any, dtype: str, fused: bool = True) -> Any:
    e = Numpy(dtype, fused)
    code = code_of(name)
    assert code is not None
    return emit(expression(code, {}), e, np.asarray(points, e.real))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.each_choice
def test_activations_against_their_formulas(name: str, dtype: str, fused: bool) -> None:
    points = np.concatenate([np.linspace(-30, 30, 2401), np.linspace(-1.2, 1.2, 97),
                             np.logspace(-30, 1.9, 200), -np.logspace(-30, 1.9, 200),
                             [0.0, -0.0, 3.0, -3.0, 6.0, 100.0, -100.0]])
    points = points.astype(np.float32)  # exact in both
    with np.errstate(all="ignore"):
        expected = np.array([FORMULAS[name](float(x)) for x in points])
    got = values(name, points, dtype, fused)
    assert got.dtype == (np.float32 if dtype == "f32" else np.float64)
    eps = float(np.finfo(got.dtype).eps)
    # Formulas that cancel by the contract's own words lose with the argument, not the value.
    cancels = name in ("gelu", "gelu_tanh", "hard_sigmoid", "hard_swish", "clip")
    slack = 16 * eps * np.abs(points.astype(np.float64)) if cancels else 0.0
    # A rounding of the argument moves exp and its like by |x| times as much.
    factor = 8 + 2 * np.abs(points) * (name in ("silu", "swish", "mish", "gauss")) * np.abs(points)
    with np.errstate(invalid="ignore", over="ignore"):
        expected = np.where(np.abs(expected) > np.finfo(got.dtype).max,
                            np.sign(expected) * np.inf, expected)
        near = np.abs(got - expected) <= (factor * eps * np.abs(expected) + slack
                                          + 100 * np.finfo(got.dtype).tiny)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected)) | near
    worst = np.flatnonzero(~same)[:3]
    assert same.all(), [(points[k], got[k], expected[k]) for k in worst]


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.each_choice
def test_activations_at_the_ends(name: str, dtype: str) -> None:
    got = values(name, [-np.inf, np.inf, np.nan], dtype)
    np.testing.assert_allclose(got[:2], LIMITS[name], rtol=1e-6)
    assert got[2] == 0 if name == "step" else np.isnan(got[2])


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.each_choice
def test_zeros_keep_their_signs_as_in_torch(name: str, dtype: str) -> None:
    """Of the zeros themselves and of the smallest numbers; relu and relu6 are +0 by contract."""
    torch = pytest.importorskip("torch")
    real = np.float32 if dtype == "f32" else np.float64
    tiny = float(np.finfo(real).smallest_subnormal)
    x = np.array([0.0, -0.0, tiny, -tiny], real)
    got = values(name, x, dtype)
    wanted = torch_activations(torch)[name](torch.tensor(x)).numpy()
    if name in ("relu", "relu6"):
        wanted = wanted + 0.0
    assert np.array_equal(np.isnan(got), np.isnan(wanted))
    got, wanted = np.nan_to_num(got), np.nan_to_num(wanted)
    assert np.array_equal(np.signbit(got), np.signbit(wanted)), (got, wanted)
    assert np.array_equal(got == 0, wanted == 0), (got, wanted)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.each_choice
def test_no_nan_from_finite_arguments(name: str, dtype: str) -> None:
    big = float(np.finfo(np.float32 if dtype == "f32" else np.float64).max)
    points = np.array([0.0, 1e-45, 1.0, 88.0, 100.0, 750.0, 1e6, 1e19, 1e30, 3e38, big])
    got = values(name, points, dtype)
    assert not np.isnan(got).any()
    if name not in ("log", "sqrt", "rsqrt"):
        assert not np.isnan(values(name, -points, dtype)).any()
    low, high = LIMITS[name]
    if math.isfinite(high):
        assert got[-1] == pytest.approx(high, rel=1e-6)
    elif high == math.inf and name != "log":
        assert got[-1] >= math.sqrt(big) / 1.001 and (name in ("exp", "square", "cube", "sqrt")
                                              or got[-1] < math.inf or name == "selu")
