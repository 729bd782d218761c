"""Random nets: small ones as plain data, with everything the contract has, and big ones as text.

`nets()` is a hypothesis strategy, `some_net(seed)` the same generator off a seed; `inputs_for`
draws rows for a net; `to_nal` writes it down; `random_layers` makes files for benchmarks.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import ACTIVATION_NAMES, CODES, FUNCTIONS, Net, Weight, inputs

AGGREGATIONS = ("sum", "mul", "mean", "max", "min", "maxabs", "sumbias", "maximum", "minimum",
                "dot", "div")
SINGLE = AGGREGATIONS[:-2] + AGGREGATIONS[-1:]  # of single sources, not of pairs
FINITE = AGGREGATIONS[:-1]  # a div may divide by 0
ONE = Weight("const", "", 1.0)  # of the second edge of a pair of a dot
# Defined only where x > 0, or without bound near 0: a tame net moves their argument above 0.
POSITIVE = tuple(CODES[name] for name in ("log", "sqrt", "rsqrt", "recip"))
# The largest magnitude each may reach for an argument of at most b; others: about b itself.
_GROWTH: dict[int, Callable[[float], float]] = {
    CODES["exp"]: lambda b: math.exp(min(b, 700.0)),
    CODES["square"]: lambda b: b * b,
    CODES["cube"]: lambda b: b * b * b,
    CODES["selu"]: lambda b: 1.8 * b + 1,
}
FIRST_CUSTOM = 0x20

Choose = Callable[[int, int], int]  # an integer, both ends included


@st.composite
def nets(draw: st.DrawFn, *, max_neurons: int = 16, max_fan_in: int = 5,
         activations: Sequence[int] | None = None,
         aggregations: Sequence[str] = AGGREGATIONS, ties: bool = True, constants: bool = True,
         functions: bool = True, valued: bool = True, tame: bool = True) -> Net:
    """A net of 2 to `max_neurons` neurons: skips, shuffled indices, in-lists in any order, neurons
    without readers, named outputs. See `_build` for what each switch leaves out."""
    return _build(lambda low, high: draw(st.integers(low, high)), max_neurons, max_fan_in,
                  activations, aggregations, ties, constants, functions, valued, tame)


def some_net(seed: int, *, max_neurons: int = 16, max_fan_in: int = 5,
             activations: Sequence[int] | None = None,
             aggregations: Sequence[str] = AGGREGATIONS, ties: bool = True,
             constants: bool = True, functions: bool = True, valued: bool = True,
             tame: bool = True) -> Net:
    """The net that `nets` might draw, from a seed: for scripts, and nets too large to shrink."""
    return _build(random.Random(seed).randint, max_neurons, max_fan_in, activations, aggregations,
                  ties, constants, functions, valued, tame)


def inputs_for(net: Net, *, max_samples: int = 5, wild: bool = False,
               ) -> st.SearchStrategy[NDArray[np.float32]]:
    """Rows (1..max_samples, n_inputs) in -2..2, exact in float32; wild: any float32 at all."""
    sixteenths = st.integers(-32, 32).map(lambda k: k / 16)
    numbers: st.SearchStrategy[float] = st.floats(width=32) if wild else sixteenths
    width = len(inputs(net))
    row = st.lists(numbers, min_size=width, max_size=width)
    return st.lists(row, min_size=1, max_size=max_samples).map(
        lambda rows: np.array(rows, dtype=np.float32).reshape(len(rows), width))


def _build(choose: Choose, max_neurons: int, max_fan_in: int, activations: Sequence[int] | None,
           aggregations: Sequence[str], ties: bool, constants: bool, functions: bool, valued: bool,
           tame: bool) -> Net:
    """A net, neuron by neuron in evaluation order, its indices shuffled at the end.

    Weights are eighths in -2..2. `tame` keeps each neuron's magnitude under about 1,000 and logs
    and their like off zero, for inputs in -2..2; without it a net may overflow and make NaN.
    Only a div may make an infinity or a NaN even so: FINITE has all aggregations but this one.
    `valued` False leaves out the values of some parameters.
    """
    n = choose(2, max_neurons)
    n_inputs = choose(1, max(1, n // 2))
    custom = list(FUNCTIONS) if functions else []
    texts = {FIRST_CUSTOM + k: text for k, text in enumerate(custom)}
    codes = list(range(len(ACTIVATION_NAMES))) if activations is None else list(activations)
    codes += list(texts) if activations is None else []
    tie_values: list[float | None] = []

    def value() -> float | None:
        if not valued and choose(0, 3) == 0:
            return None
        return choose(-16, 16) / 8

    def weight() -> Weight:
        kind = choose(0, 7)
        if kind == 0 and constants:
            return Weight("const", "", choose(-16, 16) / 8)
        if kind == 1 and constants:
            return Weight("const", "", (1.0, -1.0, 0.5, 0.0)[choose(0, 3)])
        if kind in (2, 3) and ties:
            name = choose(0, 3)
            while len(tie_values) <= name:
                tie_values.append(value())
            return Weight("tie", f"k{name}", tie_values[name])
        return Weight("weight", "", value())

    in_lists: list[list[tuple[int, Weight]]] = [[] for _ in range(n_inputs)]
    biases: list[Weight | None] = [None] * n_inputs
    functions_of = [-1] * n_inputs
    aggregations_of = ["sum"] * n_inputs
    bounds = [2.0] * n_inputs
    for j in range(n_inputs, n):
        left = list(range(j))
        # Now and then a neuron that reads nothing: a bias alone.
        fan_in = 0 if choose(0, 15) == 0 else choose(1, min(j, max_fan_in))
        in_list = [(left.pop(choose(0, len(left) - 1)), weight()) for _ in range(fan_in)]
        bias = weight() if fan_in == 0 or choose(0, 1) else None
        code = codes[choose(0, len(codes) - 1)]
        aggregation = aggregations[choose(0, len(aggregations) - 1)] if fan_in else "sum"
        if aggregation == "dot":  # the last source may be left over
            in_list = in_list[: fan_in // 2 * 2]
            in_list = [(s, ONE if k % 2 else w) for k, (s, w) in enumerate(in_list)]
            aggregation = "dot" if in_list else "sum"
            in_list = in_list or [(0, weight())]
        bound = _bound(in_list, aggregation, bounds)
        if tame and code in POSITIVE:
            bias = Weight("weight", "", math.ceil(min(bound, 1000)) + 0.5)
        bound += 2.0 if bias is None or bias.value is None else abs(bias.value)
        if tame and _reach(code, bound) > 1000:
            code, bound = CODES["tanh"], 1.0
        in_lists.append(in_list)
        biases.append(bias)
        functions_of.append(code)
        aggregations_of.append(aggregation)
        bounds.append(_reach(code, bound))

    # Index places[j] for the j-th in order: evaluation follows the edges, not the indices.
    left = list(range(n))
    places = [left.pop(choose(0, len(left) - 1)) for _ in range(n)]
    at = sorted(range(n), key=lambda j: places[j])
    return Net(
        n,
        tuple(tuple((places[s], w) for s, w in in_lists[j]) for j in at),
        tuple(biases[j] for j in at),
        tuple(functions_of[j] for j in at),
        tuple(aggregations_of[j] for j in at),
        _named_outputs(choose, n),
        texts,
    )


def _named_outputs(choose: Choose, n: int) -> tuple[int, ...] | None:
    """Some neurons in any order, inputs among them, or half the time the default."""
    if choose(0, 1):
        return None
    left = list(range(n))
    return tuple(left.pop(choose(0, len(left) - 1)) for _ in range(choose(1, min(n, 4))))


def _bound(in_list: list[tuple[int, Weight]], aggregation: str, bounds: list[float]) -> float:
    """What the aggregation's magnitude may reach; weights without a value may be as large as 2."""
    terms = [bounds[s] * (2.0 if w.value is None else abs(w.value)) for s, w in in_list]
    if aggregation == "mul":
        return math.prod(terms)
    if aggregation == "div":  # by what may be 0
        return math.inf if len(terms) > 1 else terms[0]
    if aggregation == "dot":
        return sum(a * b for a, b in zip(terms[::2], terms[1::2], strict=True))
    return sum(terms) if aggregation in ("sum", "sumbias") else max(terms, default=0.0)


def _reach(code: int, bound: float) -> float:
    """What the activation's magnitude may reach for an argument in -bound..bound; a custom one may
    square. The positive ones are at least 1/2 from 0, as a tame net keeps them."""
    if code >= FIRST_CUSTOM:
        return bound * bound + 3
    return _GROWTH[code](bound) if code in _GROWTH else max(bound, 2.0)


def to_nal(net: Net) -> str:
    """The net as a `.nal` text. Codes and names of activations alternate; the value of a tie stands
    at its first appearance in the file, or (ties of odd number) at its last."""
    appearances: dict[str, int] = {}
    for j in range(net.n):
        for w in _weights(net, j):
            appearances[w.name] = appearances.get(w.name, 0) + 1
    met: dict[str, int] = {}

    def spelt(w: Weight) -> str:
        number = "" if w.value is None else repr(w.value)
        if w.kind == "const":
            return f"={number}"
        if w.kind == "weight":
            return number
        met[w.name] = met.get(w.name, 0) + 1
        last = int(w.name[1:]) % 2
        here = met[w.name] == (appearances[w.name] if last else 1)
        return f"@{w.name}" + (f":{number}" if number and here else "")

    def edge(source: int, w: Weight) -> str:
        written = spelt(w)
        return f"{source:02x}" + (":" if written[:1] not in ("", "@") else "") + written

    lines = [f"N {net.n:02x}"]
    used = set(net.activations)
    lines += [f"fn {code:x} {text}" for code, text in net.functions.items() if code in used]
    if net.outputs is not None:
        lines.append("out " + ",".join(f"{j:02x}" for j in net.outputs))
    for j in range(net.n):
        words = [f"{j:02x}"]
        bias = net.biases[j]
        if net.in_lists[j] or bias is not None:
            code = net.activations[j]
            by_name = j % 2 and code < len(ACTIVATION_NAMES)
            words.append(ACTIVATION_NAMES[code] if by_name else f"{code:02x}")
        if net.in_lists[j]:
            if net.aggregations[j] != "sum":
                words.append(net.aggregations[j])
            edges = net.in_lists[j]
            if net.aggregations[j] == "dot":
                words.append(",".join(f"{a:02x}*{edge(b, w)}" for (a, w), (b, _) in zip(
                    edges[::2], edges[1::2], strict=True)))
            else:
                words.append(",".join(edge(source, w) for source, w in edges))
        if bias is not None:
            words.append(f"+{spelt(bias)}")
        lines.append(" ".join(words))
    return "\n".join(lines) + "\n"


def _weights(net: Net, j: int) -> list[Weight]:
    """Neuron j's weights, then its bias, in file order, which is canonical."""
    bias = net.biases[j]
    return [w for _, w in net.in_lists[j]] + ([bias] if bias is not None else [])


def random_layers(widths: Sequence[int], fan_in: int, seed: int = 0, *, activation: str = "relu",
                  weights: bool = True, biases: bool = True) -> str:
    """A big `.nal` text of layers, fast: each neuron reads `fan_in` of the layer before.

    `widths[0]` is the number of inputs. The layer before is cut into `fan_in` equal stretches and
    one neuron read of each, so that sources are distinct and ascending without a shuffle a row;
    `fan_in` = the width before makes a dense layer. Weights have four decimals and variance
    1/fan_in. `random_layers([125] * 5, 20)` has 10,000 edges.

    Without weights a line is `0400 relu 0012,0034`; with them `0012:0.1234,...`.
    """
    rng = np.random.default_rng(seed)
    n = sum(widths)
    digits = max(2, len(f"{n - 1:x}"))
    head = f"N {n:x}\n" + "".join(f"{j:0{digits}x}\n" for j in range(widths[0]))
    parts = [head.encode()]
    first = 0
    for before, width in zip(widths, widths[1:], strict=False):
        if not 0 < fan_in <= before:
            raise ValueError(f"fan_in {fan_in} does not fit a layer of {before}")
        cuts = np.arange(fan_in + 1) * before // fan_in
        # Rows at a time, so that ten million edges do not take gigabytes.
        for start in range(0, width, 65536 // fan_in + 1):
            rows = min(width - start, 65536 // fan_in + 1)
            targets = first + before + start + np.arange(rows)
            sources = first + rng.integers(cuts[:-1], cuts[1:], size=(rows, fan_in))
            parts.append(_lines(rng, targets, sources, digits, activation, weights, biases))
        first += before
    return b"".join(parts).decode("ascii")


def _lines(rng: np.random.Generator, targets: NDArray[np.int64], sources: NDArray[np.int64],
           digits: int, activation: str, weights: bool, biases: bool) -> bytes:
    """The lines of some neurons. Every field has one width, so a block of lines is one array of
    bytes (rows, width), filled by columns."""
    rows, fan_in = sources.shape
    edge = digits + (len(":-0.123") if weights else 0)
    cells = np.empty((rows, fan_in, edge + 1), dtype=np.uint8)
    cells[:, :, :digits] = _hexadecimal(sources, digits)
    if weights:
        spread = min(9999, int(10000 * math.sqrt(3 / fan_in)))
        cells[:, :, digits] = ord(":")
        cells[:, :, digits + 1 : edge] = _decimal(rng.integers(-spread, spread + 1, sources.shape))
    cells[:, :, edge] = ord(",")
    edges = cells.reshape(rows, -1)[:, :-1]
    columns = [_hexadecimal(targets, digits), _repeated(f" {activation} ", rows), edges]
    if biases:
        columns.append(_repeated(" +", rows))
        columns.append(_decimal(rng.integers(-9999, 10000, (rows,))))
    columns.append(_repeated("\n", rows))
    return np.concatenate(columns, axis=1).tobytes()


def _repeated(text: str, rows: int) -> NDArray[np.uint8]:
    return np.tile(np.frombuffer(text.encode(), dtype=np.uint8), (rows, 1))


def _hexadecimal(numbers: NDArray[np.int64], digits: int) -> NDArray[np.uint8]:
    """(..., digits) characters."""
    alphabet = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    nibbles = numbers[..., None] >> (4 * np.arange(digits - 1, -1, -1)) & 15
    return np.take(alphabet, nibbles)


def _decimal(ten_thousandths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(..., 6) characters: 0.1234, or -.1234."""
    places = np.abs(ten_thousandths)[..., None] // np.array([1000, 100, 10, 1]) % 10
    text = np.empty((*ten_thousandths.shape, 6), dtype=np.uint8)
    text[..., 0] = np.where(ten_thousandths < 0, ord("-"), ord("0"))
    text[..., 1] = ord(".")
    text[..., 2:] = places + ord("0")
    return text


def with_delays(text: str, seed: int, share: float = 0.4) -> str:
    """The `.nal` text of a net of `to_nal`, in which a share of the edges read the value of the
    last call, of any neuron."""
    draw = random.Random(seed)
    lines = text.splitlines()
    count = int(lines[0].split()[1], 16)

    def delayed(items: str) -> str:
        made: dict[str, str] = {}
        for item in items.split(","):
            end = 5 if item[2:3] == "*" else 2  # a pair has two sources
            source = "*".join([f"~{draw.randrange(count):02x}" if draw.random() < share else one
                               for one in item[:end].split("*")])
            made.setdefault(source, source + item[end:])
        return ",".join(made.values())

    for k, line in enumerate(lines):
        words = line.split()
        if words[0] not in ("N", "fn", "out"):
            at = 3 if len(words) > 2 and words[2] in AGGREGATIONS else 2
            if len(words) > at and words[at][0] != "+":
                words[at] = delayed(words[at])
            lines[k] = " ".join(words)
    return "\n".join(lines) + "\n"
