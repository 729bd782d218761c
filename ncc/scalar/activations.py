"""The table of activations: contract code, name, and formula as an expression in x.

Each formula is finite wherever its function is, has the function's limits at the infinities, gives
NaN for NaN (but `step`), and has torch's derivative at a kink. That of `max(a, b)` and `min(a, b)`
where both are equal is that of a, and that of relu, abs and step at 0 is 0; hence `relu(x)` here
and `max(x, 0)` there, and `min(x,0) - relu(x)` for -|x| where the derivative at 0 matters.

leaky_relu, elu and selu keep -0, as torch's do: `max(a, x)` with a(x) >= x below 0 and 0 above is
one of the two, sign and all, and `max(-0, x)` adds no sign; where relu(x) would make +0 of the sum.
relu and relu6 are +0 at -0, as the contract has it.

`max(x, -800)` times a factor that is 0 from there on keeps -inf * 0 out of the limits: sigmoid
underflows below -746 in float64, erf is -1 below -9.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple


class Activation(NamedTuple):
    code: int
    name: str
    formula: str


ACTIVATIONS: tuple[Activation, ...] = (
    Activation(0x00, "identity", "x"),
    Activation(0x01, "sigmoid", "sigmoid(x)"),
    Activation(0x02, "tanh", "tanh(x)"),
    Activation(0x03, "relu", "relu(x)"),
    Activation(0x04, "silu", "max(x,-800)*sigmoid(x)"),
    Activation(0x05, "gelu", "max(x,-40)/2*(1+erf(x*0.70710678118654752))"),
    Activation(0x06, "swish", "max(x,-800)*sigmoid(x)"),
    Activation(0x07, "leaky_relu", "max(0.01*min(x,0),x)"),
    Activation(0x08, "elu", "max(expm1(min(x,0)),x)"),
    # Klambauer et al. 2017, the constants to double precision
    Activation(0x09, "selu",
               "1.0507009873554805*(max(-0,x)+1.6732632423543772*expm1(min(x,0)))"),
    Activation(0x0A, "softplus", "softplus(x)"),
    Activation(0x0B, "softsign", "max(min(x,1e30),-1e30)/(1+min(abs(x),1e30))"),
    Activation(0x0C, "hard_sigmoid", "min(1,relu(x/6+0.5))"),
    Activation(0x0D, "exp", "exp(x)"),
    Activation(0x0E, "log", "log(x)"),
    Activation(0x0F, "abs", "abs(x)"),
    Activation(0x10, "square", "x^2"),
    Activation(0x11, "cube", "x^3"),
    Activation(0x12, "sqrt", "sqrt(x)"),
    Activation(0x13, "rsqrt", "1/sqrt(x)"),
    Activation(0x14, "recip", "1/x"),
    Activation(0x15, "sin", "sin(x)"),
    Activation(0x16, "cos", "cos(x)"),
    Activation(0x17, "gauss", "exp(-x^2)"),
    Activation(0x18, "step", "step(x)"),
    # Hendrycks and Gimpel 2016: sqrt(2/pi) (x + 0.044715 x^3)
    Activation(0x19, "gelu_tanh",
               "max(x,-40)/2*(1+tanh(0.79788456080286536*(x+0.044715*x^3)))"),
    Activation(0x1A, "mish", "max(x,-800)*tanh(softplus(x))"),
    Activation(0x1B, "hard_swish", "max(x,-3)*(min(6,relu(x+3))/6)"),
    Activation(0x1C, "relu6", "min(6,relu(x))"),
    Activation(0x1D, "clip", "min(max(x,-1),1)"),
    Activation(0x1E, "atan", "atan(x)"),
    Activation(0x1F, "erf", "erf(x)"),
)
FREE = 0x20  # codes from here on are a file's own


def code_of(name: str) -> int | None:
    """The code of a built-in activation, None where there is none of that name."""
    return _codes().get(name)


def name_of(code: int) -> str:
    """The name of a built-in, the code in hex for a file's own function."""
    return ACTIVATIONS[code].name if 0 <= code < FREE else f"{code:02x}"


@cache
def _codes() -> dict[str, int]:
    return {a.name: a.code for a in ACTIVATIONS}
