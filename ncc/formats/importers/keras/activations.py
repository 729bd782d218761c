"""The activations of Keras as ncc's or as expressions in x, with the constants of Keras 3; where
those of Keras 2 differ, with these."""

from __future__ import annotations

from typing import Final

from ncc.formats.importers.foreign import Json

TEXTS: Final = {
    "linear": "identity", "relu": "relu", "relu6": "relu6", "sigmoid": "sigmoid", "tanh": "tanh",
    "elu": "elu", "selu": "selu", "softplus": "softplus", "softsign": "softsign", "silu": "silu",
    "swish": "silu", "gelu": "gelu", "exponential": "exp", "hard_sigmoid": "hard_sigmoid",
    "hard_silu": "hard_swish", "hard_swish": "hard_swish", "mish": "mish", "hard_tanh": "clip",
    "leaky_relu": "max(0.2*x,x)", "log_sigmoid": "-softplus(-x)", "celu": "elu",
    "tanh_shrink": "x-tanh(x)", "soft_shrink": "max(x-0.5,0)+min(x+0.5,0)",
    "hard_shrink": "x*step(abs(x)-0.5)", "squareplus": "(x+sqrt(x^2+4))/2",
    "sparse_plus": "(min(max(x,-1),1)+1)^2/4+(max(x,1)-1)",
    "sparse_sigmoid": "min(1,max(0,(x+1)/2))",
}
KERAS_2: Final = {"hard_sigmoid": "min(1,max(0,0.2*x+0.5))"}
OVER_AN_AXIS: Final = ("softmax", "log_softmax")


def name_of(held: Json) -> str:
    """The name of an activation in a configuration: a string, or null, or a function by name."""
    if held.value is None:
        return "linear"
    if isinstance(held.value, dict):
        if held.has("class_name") and held["class_name"].value == "function":
            return held["config"].text()
        raise held.fault("E811", "an activation that is an object of a class")
    return held.text()


def text_of(held: Json, keras: int) -> str:
    """An elementwise activation as ncc has it. NccError E811 for the user's own."""
    name = name_of(held)
    if keras == 2 and name in KERAS_2:
        return KERAS_2[name]
    if name not in TEXTS:
        raise held.fault("E811", f"the activation {name[:60]!r}",
                         note="known are " + ", ".join((*TEXTS, *OVER_AN_AXIS)))
    return TEXTS[name]


def relu(most: float | None, slope: float, threshold: float) -> str:
    """The layer ReLU: x above the threshold, at most `most`, and slope (x - threshold) below."""
    above = f"x*step(x-{threshold!r})" if threshold else "max(x,0)"
    if most is not None:
        above = f"min(max({above},0),{most!r})"
    return above if not slope else f"{above}+{slope!r}*min(x-{threshold!r},0)"
