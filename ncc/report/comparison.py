"""Two answers to the same samples, compared: in ulps, absolutely, and by the first neuron at which
they part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ncc.formats.write import bias_text, names_of, weight_text
from ncc.ir import graph_run
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph
from ncc.ir.labels import Names
from ncc.scalar import aggregations as aggregate
from ncc.scalar.activations import name_of
from ncc.scalar.numpy_eval import Numpy

Reals = NDArray[Any]
T = TypeVar("T")
SHOWN: Final = 12  # in-edges of a neuron that are shown
# Of the largest output: what classes B and C may differ by.
SCALED: Final = {"f32": 1e-5, "f64": 1e-12}
KINKS: Final = {"relu", "step", "leaky_relu", "elu", "selu", "relu6", "clip", "hard_sigmoid",
                "hard_swish", "abs"}

PICKS: Final = {"max", "min", "maxabs", "maximum", "minimum"}  # aggregations that take one edge


class Limits(NamedTuple):
    """How far answers may be apart: an output is within them if it is so by either.

    ulp     in steps between neighbouring floats; None: not by these
    atol    absolutely
    scaled  of the largest output's magnitude
    """

    ulp: int | None = None
    atol: float = 0.0
    scaled: float = 0.0

    def __str__(self) -> str:
        words = [f"{self.ulp} ulp"] if self.ulp is not None else []
        words += [f"{self.atol:g}"] if self.atol else []
        words += [f"{self.scaled:g} of the largest output"] if self.scaled else []
        return " or ".join(words) or "equal"


def limits_of(exactness: str, dtype: str) -> Limits:
    """What an importer's class promises: equal bits, or nearly."""
    return Limits(0) if exactness == "A" else Limits(0, 0.0, SCALED[dtype])


class Other(NamedTuple):
    """What a net is compared with: a title; y (n, outputs) of x (n, inputs), the rows of a net with
    state being steps; the values of neurons, by label or by number, of sample k of x, where they
    are known; likewise the formulas of those that are neurons of ncc's. `places` are the numbers of
    the neurons that tensors of the other's are, by name, -1 where an element is none. `single` says
    that it computes in float32, in parts at least, whatever it is asked for."""

    title: str
    outputs: Callable[[Reals], Reals]
    values: Callable[[Reals, int], Mapping[str | int, float]] | None = None
    formulas: Callable[[], Mapping[str | int, str]] | None = None
    places: Mapping[str, NDArray[Any]] = {}  # which nobody writes to
    single: bool = False


@dataclass(frozen=True, repr=False)
class Comparison:
    """Outputs y (n, outputs) of a net and `expected` ones: `ulps` and `differences` (n, outputs).
    `text` is all that there is to say."""

    y: Reals
    expected: Reals
    ulps: NDArray[np.uint64]
    differences: Reals
    limits: Limits
    title: str
    diverging: str = ""

    __module__ = "ncc"

    def __repr__(self) -> str:
        return (f"Comparison({'ok' if self.ok else 'not ok'}, {len(self.y)} samples, largest "
                f"difference {self.differences.max(initial=0.0):.3g})")

    @property
    def within(self) -> NDArray[np.bool_]:
        scale = self.scale
        near = self.differences <= max(self.limits.atol, self.limits.scaled * scale)
        if self.limits.ulp is not None:
            near |= self.ulps <= self.limits.ulp
        return near

    @property
    def ok(self) -> bool:
        """Whether every output is within the limits."""
        return bool(self.within.all())

    @property
    def scale(self) -> float:
        """The largest magnitude of what was expected, 1 where there is none but 0."""
        finite = np.abs(self.expected[np.isfinite(self.expected)])
        return float(finite.max(initial=0.0)) or 1.0

    @property
    def worst(self) -> int:
        """The sample with the largest difference: an infinity or a NaN on one side first."""
        far = np.where(np.isnan(self.differences), np.inf, self.differences)
        return int(far.max(axis=1, initial=0.0).argmax()) if far.size else 0

    @property
    def text(self) -> str:
        n, outputs = self.y.shape
        wrong = int((~self.within).sum())
        largest = self.differences.max(initial=0.0)
        rows = [
            f"against {self.title}",
            f"samples {n}, outputs {outputs}",
            f"equal {int((self.ulps == 0).sum())} of {self.y.size}",
            f"largest difference {_ulp(int(self.ulps.max(initial=0)))}, {largest:.3g}, "
            f"{largest / self.scale:.3g} of the largest output",
            f"worst sample {self.worst}",
            f"limit {self.limits}: " + ("held" if not wrong else f"{wrong} outputs are beyond it"),
        ]
        return "\n".join(rows) + "\n" + self.diverging


def _ulp(number: int) -> str:
    return f"{number} ulp" if number < 2**62 else "no number of ulp"


@np.errstate(all="ignore")  # infinities and NaN are values
def compared(graph: Graph, y: Reals, other: Other, x: Reals, limits: Limits, numerics: str
             ) -> Comparison:
    """`graph`'s outputs y (n, outputs) of x (n, inputs), of dtype float32 or float64, beside those
    of another; where they are too far apart, the first neuron, by depth, that is."""
    expected = np.asarray(other.outputs(x), np.float64).astype(y.dtype)
    if expected.shape != y.shape:
        raise ValueError(f"{other.title} has outputs of shape {expected.shape}, the net of "
                         f"{y.shape}")
    far = np.where((y == expected) | np.isnan(y) & np.isnan(expected), 0,
                   np.abs(y.astype(np.float64) - expected.astype(np.float64)))
    far = np.where(np.isnan(far), np.inf, far)
    made = Comparison(y, expected, ulps(y, expected), far, limits, other.title)
    if made.ok and not other.places or other.values is None or len(graph.states) or not len(y):
        return made
    theirs = other.values(x, made.worst)
    text = on_the_way(graph, x[made.worst], theirs, other.places, numerics, made.worst)
    if not made.ok:
        said = {} if other.formulas is None else other.formulas()
        text += diverging(graph, x[made.worst], by_number(graph, theirs, other.places), limits,
                          numerics, made.worst, by_number(graph, said, other.places), other.places)
    return Comparison(y, expected, made.ulps, far, limits, other.title, text)


def on_the_way(graph: Graph, x: Reals, theirs: Mapping[str | int, Any],
               places: Mapping[str, NDArray[Any]], numerics: str, sample: int) -> str:
    """How far, in one sample, the tensors are apart whose places are known; empty for none."""
    ours = node_values(graph, x, dtype_of(x), numerics)[0]
    worst, where, neurons, tensors = 0.0, "", 0, 0
    for name, place in places.items():
        if name not in theirs or np.size(theirs[name]) != place.size:
            continue
        here = place.ravel() >= 0
        if not here.any():
            continue
        tensors, neurons = tensors + 1, neurons + int(here.sum())
        a, b = ours[place.ravel()[here]], np.ravel(theirs[name])[here].astype(ours.dtype)
        apart = np.where((a == b) | np.isnan(a) & np.isnan(b), 0.0, np.abs(a - b))
        most = float(np.where(np.isnan(apart), np.inf, apart).max())
        if most > worst:
            worst, where = most, f", in {name}"
    return (f"tensors on the way {tensors}, {neurons} neurons of sample {sample}: largest "
            f"difference {worst:.3g}{where}\n" if tensors else "")


def ulps(a: Reals, b: Reals) -> NDArray[np.uint64]:
    """How many steps between neighbouring floats lie between a and b, exactly: of +0 and -0, and of
    NaNs, none; between a NaN and a number as many as there can be."""
    def ordered(v: Reals) -> NDArray[np.uint64]:
        word, top = ((np.uint32, 31) if v.dtype == np.float32 else (np.uint64, 63))
        bits = v.view(word).astype(np.uint64)
        sign = np.uint64(1 << top)
        return np.where(bits & sign, sign - (bits & ~sign), bits + sign)

    first, second = ordered(np.ascontiguousarray(a)), ordered(np.ascontiguousarray(b))
    steps = np.maximum(first, second) - np.minimum(first, second)
    nan_a, nan_b = np.isnan(a), np.isnan(b)
    steps = np.where(nan_a ^ nan_b, np.iinfo(np.uint64).max, steps)
    return np.where(nan_a & nan_b, np.uint64(0), steps)


def node_values(graph: Graph, x: Reals, dtype: str, numerics: str) -> tuple[Reals, Reals]:
    """Every neuron's value and its activation's argument (N,) for one sample x (inputs,)."""
    e, samples, table = graph_run.arguments(graph, x, None, dtype, numerics)
    work, totals = graph_run.forward(graph, samples, table, e)
    return work[:, 0], totals[:, 0]


def dtype_of(x: Reals) -> str:
    return "f32" if x.dtype == np.float32 else "f64"


def diverging(graph: Graph, x: Reals, known: Mapping[int, float], limits: Limits,
              numerics: str, sample: int, said: Mapping[int, str],
              places: Mapping[str, NDArray[Any]]) -> str:
    """Of the neurons whose values of one sample are known on both sides the first, by depth, that
    is beyond the limits; its inputs, its formula (and the other's, if `said`), and whether a kink
    lies between; empty where none is."""
    ours, totals = node_values(graph, x, dtype_of(x), numerics)
    assert graph.levels is not None
    for j in sorted(known, key=lambda j: (int(graph.levels[j]), j)):  # type: ignore[index]
        a, b = ours[j], np.asarray(known[j], ours.dtype)[()]
        apart = abs(float(a) - float(b))
        near = apart <= max(limits.atol, limits.scaled * max(abs(float(b)), 1.0))
        if limits.ulp is not None:
            near = near or int(ulps(np.array([a]), np.array([b]))[0]) <= limits.ulp
        if not near and not (np.isnan(a) and np.isnan(b)):
            return _described(graph, j, ours, totals, known, numerics, sample, said.get(j, ""),
                              element(j, places))
    return ""


def element(j: int, places: Mapping[str, NDArray[Any]]) -> str:
    """Neuron j as an element of the first tensor that has it: fc1/linear[0,3]."""
    for name, place in places.items():
        if (found := np.argwhere(place == j)).size or not place.ndim and place == j:
            return name + (f"[{','.join(map(str, found[0].tolist()))}]" if place.ndim else "")
    return ""


def by_number(graph: Graph, theirs: Mapping[str | int, T], places: Mapping[str, NDArray[Any]]
              ) -> dict[int, T]:
    """What is said of neurons by label, by number or by the names of `places`, by the number of
    `graph`'s. Of an array of neurons it is an array of as many elements, or a word for all."""
    labels = {label.name: label for label in graph.labels}
    found: dict[int, T] = {}
    for key, value in theirs.items():
        if isinstance(key, int):
            found[key] = value
        elif key in places:
            mine, each = places[key].ravel(), np.ravel(np.asarray(value)).tolist()
            if isinstance(value, str) or len(each) == mine.size:
                told = zip(mine.tolist(), each * (mine.size // len(each)), strict=True)
                found |= {j: one for j, one in told if j not in found}
        elif key in labels and not labels[key].shape:
            found[labels[key].first] = value
        elif key in labels:
            first, size = labels[key].first, labels[key].size
            each = np.ravel(np.asarray(value)).tolist()
            if isinstance(value, str) or len(each) == size:
                found |= dict(zip(range(first, first + size), each * (size // len(each)),
                                  strict=True))
    return {j: value for j, value in found.items() if 0 <= j < graph.n_own}


def titles(graph: Graph) -> Callable[[int], str]:
    """What says a neuron by its number, and its label, if it has one."""
    names, called = names_of(graph), Names(graph.labels)

    def title(j: int) -> str:
        label = called.of(j)
        return names[j] + (f" ({label})" if label else "")

    return title


def formula(graph: Graph, j: int, names: Sequence[str]) -> str:
    """A neuron as relu of sum: 00*0.5 01*-1.0 +0.25; `names` are those of all neurons."""
    code = int(graph.activations[j])
    if code == INPUT:
        return "input"
    at = slice(int(graph.starts[j]), int(graph.starts[j + 1]))
    sources, weights = graph.sources[at].tolist(), graph.weights[at].tolist()
    size = aggregate.edges_a_term(AGGREGATIONS[graph.aggregations[j]])
    terms = ["*".join([*[names[i] for i in sources[k : k + size]],
                       weight_text(graph, weights[k]).lstrip("=")])
             for k in range(0, len(sources), size)]
    shown = [*terms[:SHOWN], *(["..."] if len(terms) > SHOWN else [])]
    bias = [] if graph.biases[j] == NONE else [bias_text(graph, j).replace("+=", "+")]
    called = graph.functions.get(code) or name_of(code)
    inside = f"{AGGREGATIONS[graph.aggregations[j]]}: {' '.join([*shown, *bias])}"
    return f"{called} of {inside}"


def _described(graph: Graph, j: int, ours: Reals, totals: Reals, known: Mapping[int, float],
               numerics: str, sample: int, said: str, place: str) -> str:
    title, here = titles(graph), formula(graph, j, names_of(graph))
    called = title(j) + (f", {place}" if place and f"({place})" not in title(j) else "")
    lines = [f"first diverging neuron {called}, in sample {sample}: "
             f"{ours[j]!s} here, {ours.dtype.type(known[j])!s} there", f"  {here}"]
    if said not in ("", here):
        lines.append(f"  there {said}")
    at = slice(int(graph.starts[j]), int(graph.starts[j + 1]))
    sources = graph.sources[at].tolist()
    for i in sources[:SHOWN]:
        there = f", {ours.dtype.type(known[i])!s} there" if i in known else ""
        lines.append(f"  reads {title(i)}: {ours[i]!s} here{there}")
    if all(i in known for i in sources) and graph.activations[j] != INPUT:
        theirs = np.array([known[i] for i in sources], ours.dtype)
        argument = _argument(graph, j, theirs, numerics)
        agg = AGGREGATIONS[graph.aggregations[j]]
        if agg in PICKS and _picked(graph, j, theirs) != _picked(graph, j, ours[sources]):
            lines.append(f"  {agg} takes another edge here than there")
        kinked = (name_of(int(graph.activations[j])) in KINKS
                  or any(word in graph.functions.get(int(graph.activations[j]), "")
                         for word in ("step", "max", "min", "abs", "relu")))
        if kinked and (argument > 0) != (totals[j] > 0):
            lines.append(f"  its argument is {totals[j]!s} here and would be {argument!s} there: "
                         "they lie on different sides of a step or a kink")
        lines.append(f"  argument {totals[j]!s} here; of the values there it would be "
                     f"{argument!s}")
    return "\n".join(lines) + "\n"


def _picked(graph: Graph, j: int, values: Reals) -> int:
    """Which edge an aggregation of PICKS takes."""
    at = slice(int(graph.starts[j]), int(graph.starts[j + 1]))
    products = values * _table(graph, values)[graph.weights[at]]
    agg = AGGREGATIONS[graph.aggregations[j]]
    return int((np.abs(products) if agg == "maxabs" else
                -products if agg in ("min", "minimum") else products).argmax())


def _table(graph: Graph, values: Reals) -> Reals:
    """Parameters and constants, so that a parameter code is an index."""
    return np.concatenate([graph.values, graph.constants[::-1]]).astype(values.dtype)


def _argument(graph: Graph, j: int, values: Reals, numerics: str) -> Any:
    """The argument of a neuron's activation for other values of its sources."""
    e = Numpy("f32" if values.dtype == np.float32 else "f64", numerics != "strict")
    table = _table(graph, values)
    at = slice(int(graph.starts[j]), int(graph.starts[j + 1]))
    bias = None if graph.biases[j] == NONE else table[graph.biases[j]]
    return aggregate.total(e, AGGREGATIONS[graph.aggregations[j]],
                           zip(values, table[graph.weights[at]], strict=True), bias)


def of_graph(graph: Graph, title: str, dtype: str, numerics: str) -> Other:
    """Another net of ncc's, whose neurons are known by their labels, else by their numbers."""
    def outputs(x: Reals) -> Reals:
        return graph.run_steps(x, None, dtype, numerics) if len(graph.states) else graph.run(
            x, None, dtype, numerics)

    def values(x: Reals, sample: int) -> Mapping[str | int, float]:
        found = node_values(graph, x[sample], dtype, numerics)[0].tolist()
        names = {label.first: label.name for label in graph.labels if not label.shape}
        return {names.get(j, j): value for j, value in enumerate(found)}

    def formulas() -> Mapping[str | int, str]:
        names = {label.first: label.name for label in graph.labels if not label.shape}
        indices = names_of(graph)
        return {names.get(j, j): formula(graph, j, indices) for j in range(graph.n_own)}

    return Other(title, outputs, values, formulas)
