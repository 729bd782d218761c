"""ONNX's functions of one number, and the attributes of its nodes."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ncc.formats.importers.onnx.evaluate import Node
from ncc.formats.importers.tensors.net import Neurons, Weights

PLAIN: Final = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus",
    "Softsign": "softsign", "Mish": "mish", "HardSwish": "hard_swish", "Exp": "exp", "Log": "log",
    "Abs": "abs", "Sqrt": "sqrt", "Sin": "sin", "Cos": "cos", "Atan": "atan", "Erf": "erf",
    "Reciprocal": "recip", "Neg": "-x", "Tan": "sin(x)/cos(x)", "Sign": "step(x)-step(-x)",
    "Sinh": "(expm1(x)-expm1(-x))/2", "Cosh": "(exp(x)+exp(-x))/2",
    "Asin": "atan(x/sqrt((1-x)*(1+x)))", "Acos": "2*atan(sqrt((1-x)/(1+x)))",
    "Atanh": "(log1p(x)-log1p(-x))/2", "Acosh": "log1p(x-1+sqrt((x-1)*(x+1)))",
    "Asinh": "(step(x)-step(-x))*log1p(abs(x)+x^2/(1+sqrt(x^2+1)))",
}


class Unkept(Exception):
    """A value of an attribute or an input that ncc cannot keep; the message names it."""


def attribute(node: Node, name: str, usual: Any = None) -> Any:
    return node.attrs.get(name, usual)


def fixed(held: Any, what: str = "an input that must be constant, and depends on the net's own"
          ) -> Any:
    """A constant as an array."""
    if isinstance(held, Neurons):
        raise Unkept(what)
    return held.values if isinstance(held, Weights) else np.asarray(held)


def real(value: float) -> str:
    return f"({float(value)!r})" if value < 0 else repr(float(value))


def formula(name: str, alpha: float | None = None, beta: float | None = None,
            gamma: float | None = None) -> str:
    """The expression of a function with its parameters, by default ONNX's."""
    def given(value: float | None, usual: float) -> str:
        return real(usual if value is None else value)

    if name == "LeakyRelu":
        return f"max(x,0)+{given(alpha, 0.01)}*min(x,0)"
    if name == "Elu":
        return f"max(x,0)+{given(alpha, 1.0)}*expm1(min(x,0))"
    if name == "Celu":
        a = given(alpha, 1.0)
        return f"max(x,0)+{a}*expm1(min(x,0)/{a})"
    if name == "Selu":
        a, g = given(alpha, 1.67326319217681884765625), given(gamma, 1.05070102214813232421875)
        return f"{g}*(max(x,0)+{a}*expm1(min(x,0)))"
    if name == "HardSigmoid":
        return f"min(1,max(0,{given(alpha, 0.2)}*x+{given(beta, 0.5)}))"
    if name == "ThresholdedRelu":
        a = given(alpha, 1.0)
        return f"step(x-{a})*max(x,{a})"
    if name == "Swish":
        a = given(alpha, 1.0)
        return f"x*sigmoid({a}*x)"
    if name == "ScaledTanh":
        return f"{given(alpha, 1.0)}*tanh({given(beta, 1.0)}*x)"
    if name == "Affine":
        return f"{given(alpha, 1.0)}*x+{given(beta, 0.0)}"
    if name in PLAIN:
        return PLAIN[name]
    raise Unkept(f"the function {name}")
