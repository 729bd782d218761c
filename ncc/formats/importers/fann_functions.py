"""The functions of FANN, as formulas of ncc's."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from ncc.formats.importers.words import Word

# By their numbers, z the argument (src/include/fann_activation.h of libfann). What FANN selects by
# ?: are steps, maxima and minima here. 2.2.0 evaluates exp, sin and the steps of 4, 6 and 19 in
# double and rounds once, later sources in the float of the net.
FORMULAS: Final = {
    0: "{z}",  # linear
    1: "1-step(-{z})",  # threshold
    2: "1-2*step(-{z})",
    3: "1/(1+exp(-2*{z}))",  # sigmoid
    5: "2/(1+exp(-2*{z}))-1",
    7: "exp(-({z})^2)",  # gaussian
    8: "exp(-({z})^2)*2-1",
    9: "0",  # gaussian stepwise, which fann_run leaves out
    10: "{z}/2/(1+abs({z}))+0.5",  # elliot
    11: "{z}/(1+abs({z}))",
    12: "min(max({z},0),1)",  # linear piece
    13: "min(max({z},-1),1)",
    14: "sin({z})",
    15: "cos({z})",
    16: "sin({z})/2+0.5",
    17: "cos({z})/2+0.5",
    18: "max({z},0)",  # rectified
    19: "max(0.01*{z},{z})",
}
RATIONAL: Final = frozenset((0, 1, 2, 9, 10, 11, 12, 13, 18))
# Stepwise sigmoids: six points, the values there, those before and behind.
POINTS: Final = {
    4: ((-2.64665246009826660156, -1.47221946716308593750, -0.549306154251098632812,
         0.549306154251098632812, 1.47221934795379638672, 2.64665293693542480469),
        (0.00499999988824129104614, 0.0500000007450580596924, 0.25, 0.75,
         0.949999988079071044922, 0.995000004768371582031), 0, 1),
    6: ((-2.64665293693542480469, -1.47221934795379638672, -0.549306154251098632812,
         0.549306154251098632812, 1.47221934795379638672, 2.64665293693542480469),
        (-0.990000009536743164062, -0.899999976158142089844, -0.5, 0.5,
         0.899999976158142089844, 0.990000009536743164062), -1, 1),
}
FARTHEST: Final = 3  # from there on they are constant


def _stepwise(points: tuple[float, ...], values: tuple[float, ...], least: int, most: int) -> str:
    """The sum of all pieces, each times whether x lies in it: a sum with zeros is exact. From
    FARTHEST on they are constant, and x is held there, so that no piece overflows."""
    z = f"max(min(x,{FARTHEST}),-{FARTHEST})"
    beyond = [f"(1-step({_signed(v)}-{z}))" for v in points]  # z >= v
    parts = [f"{least}*(1-{beyond[0]})"] if least else []
    for k, ((v1, v2), (r1, r2)) in enumerate(zip(pairwise(points), pairwise(values), strict=True)):
        piece = (f"(({_signed(r2)}-{_signed(r1)})*({z}-{_signed(v1)})"
                 f"/({_signed(v2)}-{_signed(v1)})+{_signed(r1)})")
        parts.append(f"({beyond[k]}-{beyond[k + 1]})*{piece}")
    return "+".join([*parts, f"{most}*{beyond[-1]}"])


def _signed(value: float) -> str:
    return f"({value!r})" if value < 0 else repr(value)


STEPWISE: Final = {number: _stepwise(*said) for number, said in POINTS.items()}


def formula(function: int, steepness: float, place: Word | None = None) -> str:
    """A function of a steepness, in the sum x; of a stepwise one its argument, whose function in
    STEPWISE is a neuron of its own, as it is long. NccErrors E811, E813 at `place`."""
    if function not in FORMULAS and function not in STEPWISE:
        assert place is not None
        raise place.fault("E811", f"activation function {function} is none of FANN's 0 to 19")
    if steepness < 0:
        assert place is not None
        raise place.fault("E813", f"a steepness of {steepness}, which turns the limits "
                                  "of the sum about")
    s = repr(steepness)
    # 150/s is left to be divided: in the net's own dtype it is what FANN has.
    z = f"max(min({s}*x,150/{s}),-(150/{s}))" if steepness else "(0*x)"
    return FORMULAS.get(function, "{z}").format(z=z)
