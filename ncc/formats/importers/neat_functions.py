"""The functions of neat-python, as formulas of ncc's."""

from __future__ import annotations

from typing import Any, Final

# neat/activations.py of neat-python 2.0.0, which says `z if z > 0 else ...` where a maximum and a
# minimum are here, clamps arguments, and has exp(z) - 1 where others have expm1.
ACTIVATIONS: Final = {
    "sigmoid": "1/(1+exp(-max(-60,min(60,5*x))))",
    "tanh": "tanh(max(-60,min(60,2.5*x)))",
    "sin": "sin(max(-60,min(60,5*x)))",
    "gauss": "exp(-5*max(-3.4,min(3.4,x))^2)",
    "relu": "relu(x)",
    "elu": "max(x,0)+(exp(min(x,0))-1)",
    "lelu": "max(x,0)+0.005*min(x,0)",
    "selu": "1.0507009873554805*max(x,0)+1.7580993408473766*(exp(min(x,0))-1)",
    "softplus": "0.2*log(1+exp(max(-60,min(60,5*x))))",
    "identity": "x",
    "clamped": "max(-1,min(1,x))",
    "inv": "1/(x+(1-step(abs(x))))*step(abs(x))",
    "log": "log(max(1e-7,x))",
    "exp": "exp(max(-60,min(60,x)))",
    "abs": "abs(x)",
    "hat": "max(0,1-abs(x))",
    "square": "x^2",
    "cube": "x^3",
}
# By their names there, ours.
OURS: Final = {"sum": "sum", "product": "mul", "max": "max", "min": "min", "maxabs": "maxabs",
               "mean": "mean"}
# Those that ncc has under the same name, to the bit; so nets show names.
NAMED: Final = frozenset({"identity", "relu", "abs", "square", "cube"})
# Those that give Python's bits. (A square is C's pow there, which rounds otherwise now and then.)
EXACT: Final = frozenset({"identity", "relu", "lelu", "clamped", "inv", "abs", "hat"})


def formula(name: str) -> str:
    """What `Builder.neuron` is given for one of ACTIVATIONS."""
    return name if name in NAMED else ACTIVATIONS[name]


def own_name(function: Any, ending: str) -> str | None:
    """The name of a function of neat-python's own, a live one (`ending` is "activation" or
    "aggregation"); None of the user's, whatever it is called."""
    name = str(getattr(function, "__qualname__", ""))
    if getattr(function, "__module__", "") != f"neat.{ending}s" or not name.endswith(f"_{ending}"):
        return None
    return name.removesuffix(f"_{ending}")
