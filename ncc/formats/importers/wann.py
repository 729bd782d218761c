"""Nets of prettyNEAT and of the weight agnostic networks: the `.out` matrices of WANNRelease.

N lines of N+1 numbers: the weights from i to each j, then the number of the function of i. Neuron 0
is the constant 1, then come the inputs, the hidden neurons in order, the outputs; 0 and NaN are no
edges.
A neuron is its function of a dot product, in float64, whose order numpy chooses (`ann.act`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.formats.importers.builder import BARE, Bias, Builder, Constant, Number, Tied
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options, opened

# By their numbers in `applyAct`, which takes any other for 1.
FUNCTIONS: Final = {
    1: "identity",
    2: "step",
    3: "sin(3.141592653589793*x)",
    4: "exp(-(x*x)/2)",
    5: "tanh(x)",
    6: "(tanh(x/2)+1)/2",
    7: "-x",
    8: "abs",
    9: "relu",
    10: "cos(3.141592653589793*x)",
    11: "x^2",
}
ROW: Final = re.compile(r"[-+0-9.eEnaNA, ]*+")  # characters of numbers and of NaN


class Net(NamedTuple):
    """`weights` (N, N), NaN where a connection is disabled; `functions` (N)."""

    weights: NDArray[np.float64]
    functions: list[int]
    inputs: int
    outputs: int


def recognises(file: Foreign) -> bool:
    """Numbers between commas, in the first line one more than there are lines; or the weights of
    such a matrix, which `read` refuses."""
    if file.name.lower().endswith(".wann.json"):
        return file.data.lstrip()[:1] == b"["
    first, _, _ = file.data[:1_000_000].partition(b"\n")
    if re.fullmatch(rb"[-+0-9.eEnaN, \r]+", first) is None:
        return False
    return first.count(b",") == file.data.rstrip(b"\n").count(b"\n") + 1


def read(files: list[Foreign], options: Options) -> Imported:
    """The net, class C. With --tuned the weights are those of a `.wann.json`."""
    (file,) = files
    if file.data.lstrip()[:1] == b"[":
        raise file.fault("E815", "these are weights without their net",
                         help=f"read the .out, with --tuned {file.name} --weight-bias V")
    if options.tuned is not None and options.shared is not None:
        raise NccError("E609", "--tuned gives each edge its weight, --shared all the same")
    file = file.as_text()
    net = _parsed(file, options)
    edges = (net.weights != 0) & ~np.isnan(net.weights)
    weights = net.weights
    if options.tuned is not None:
        weights = _tuned(edges, options)
    elif options.weight_bias is not None:
        raise file.fault("E815", "--weight-bias is added to the weights of a .wann.json",
                         help="--tuned FILE names it")
    builder = Builder(file, options)
    made: list[object] = list(range(len(weights) - net.outputs, len(weights)))
    for key in range(1, net.inputs + 1):
        builder.input(key, str(key))
    for key in range(net.inputs + 1, len(weights)):
        sources = np.flatnonzero(edges[:, key]).tolist()
        read_by: list[tuple[object, Number]] = [
            (source, _number(float(weights[source, key]), options)) for source in sources]
        bias: Bias = read_by.pop(0)[1] if sources[:1] == [0] else BARE
        builder.neuron(key, read_by, FUNCTIONS[net.functions[key]], bias=bias, label=str(key))
    if options.softmax:
        made = _softmax(builder, made)
    disabled = int(np.isnan(net.weights).sum())
    notes = [f"{net.inputs} inputs and {net.outputs} outputs"
             + ("" if options.inputs is not None and options.outputs is not None else
                ", since the first columns and the last rows are empty")]
    notes += [f"{disabled} disabled connections are left out"] * (disabled > 0)
    return builder.made(made, exactness="C", importer="wann", notes=notes, dtype="f64")


def _number(weight: float, options: Options) -> Number:
    return weight if options.shared is None else Tied("shared", options.shared)


def _parsed(file: Foreign, options: Options) -> Net:
    """The matrix, checked. NccErrors E801, E811, E815, E819."""
    text = file.text.rstrip("\n")
    n = text.count("\n") + 1
    if 2 * n * n > len(text):
        raise file.fault("E801", f"{n} lines need {n + 1} numbers each", line=1)
    rows = [row.removesuffix("\r") for row in text.split("\n")]
    weights = np.zeros((n, n))
    functions = []
    for i, row in enumerate(rows):
        words = row.split(",")
        if len(words) != n + 1:
            raise file.fault("E801", f"{len(words)} numbers, where {n} lines need {n + 1} each",
                             line=i + 1)
        values = _values(words) if ROW.fullmatch(row) else None
        if values is None:
            raise _no_number(file, words, i + 1)
        weights[i] = values[:-1]
        early = np.flatnonzero(weights[i, :i + 1])
        if len(early):
            raise file.fault("E801", f"a connection from {i} to {early[0]}, which is computed "
                                     "before it: the tool reads 0 there", line=i + 1)
        functions.append(int(values[-1]) if values[-1] == values[-1] // 1 else -1)
    inputs, outputs = _sizes(file, weights, functions, options)
    for i in range(inputs + 1, n):
        if functions[i] not in FUNCTIONS:
            raise file.fault("E811", f"neuron {i} has the function {rows[i].rpartition(',')[2]}: "
                                     "known are 1 to 11", line=i + 1,
                             note="the tool takes it for 1, x")
    return Net(weights, functions, inputs, outputs)


def _values(words: list[str]) -> list[float] | None:
    """The numbers of a line, NaN among them; None where a word is none, or overflows."""
    try:
        values = [*map(float, words)]
    except ValueError:
        return None
    return None if np.isinf(values).any() else values


def _no_number(file: Foreign, words: list[str], line: int) -> NccError:
    word = next(word for word in words if not ROW.fullmatch(word) or _values([word]) is None)
    return file.fault("E801", f"{word.strip()[:60]!r} is no finite number", line=line)


def _sizes(file: Foreign, weights: NDArray[np.float64], functions: list[int], options: Options
           ) -> tuple[int, int]:
    """The numbers of inputs and outputs, which the file does not say: neuron 0 and the inputs read
    nothing, the outputs are read by nobody. Where hidden neurons may be among them, as their
    functions show, or both overlap, it is E815 without --inputs and --outputs."""
    some = (weights != 0) | np.isnan(weights)
    n = len(weights)
    reading, read = np.flatnonzero(some.any(axis=0)), np.flatnonzero(some.any(axis=1))
    first = int(reading[0]) if len(reading) else n
    last = n - 1 - int(read[-1]) if len(read) else n
    said = (options.inputs, options.outputs)
    help = "--inputs and --outputs say how many there are"
    if options.inputs is None and len({*functions[:first]}) > 1:
        raise file.fault("E815", f"columns 1 to {first} are empty, but the functions of these "
                                 "neurons differ: some may be hidden", help=help)
    if options.outputs is None and len({*functions[n - last:]}) > 1:
        raise file.fault("E815", f"the last {last} rows are empty, but the functions of these "
                                 "neurons differ: some may be hidden", help=help)
    inputs = first - 1 if options.inputs is None else options.inputs
    outputs = last if options.outputs is None else options.outputs
    if None in said and inputs + outputs >= n:
        raise file.fault("E815", f"of {n} neurons {first} read nothing and {last} are read by "
                                 "none: inputs and outputs cannot be told apart", help=help)
    if not (0 <= inputs < first and 1 <= outputs <= last and inputs + outputs < n):
        raise file.fault("E815", f"{inputs} inputs and {outputs} outputs do not fit: {first - 1} "
                                 f"neurons behind the bias read nothing, {last} are read by none")
    return inputs, outputs


def _tuned(edges: NDArray[np.bool_], options: Options) -> NDArray[np.float64]:
    """The weights of a `.wann.json`, by rows of the matrix, plus --weight-bias. NccErrors E101,
    E801, E815, E816."""
    assert options.tuned is not None
    second = opened(Path(options.tuned))
    top = list(second.json())
    if len(top) != 2:
        raise second.fault("E801", "[weights, score] is wanted here", "/")
    values = [place.real() for place in top[0]]
    if options.weight_bias is None:
        raise second.fault("E815", "what the tool adds to all weights of this game is in no file",
                           help="--weight-bias V says it: swing -1.5, biped -1.87, racer -0.7, "
                                "mnist 0")
    if len(values) != edges.sum():
        raise second.fault("E816", f"{len(values)} weights for {int(edges.sum())} edges", "/0")
    made = np.zeros(edges.shape)
    made[edges] = np.array(values) + options.weight_bias
    return made


def _softmax(builder: Builder, outputs: list[object]) -> list[object]:
    """exp(y - max y) of each output y, over their sum."""
    one = Constant(1.0)
    builder.neuron("max", [(key, one) for key in outputs], aggregation="maximum")
    for key in outputs:
        builder.neuron(("exp", key), [(key, one), ("max", Constant(-1.0))], "exp")
    builder.neuron("sum", [(("exp", key), one) for key in outputs], "recip")
    for key in outputs:
        builder.neuron(("softmax", key), [(("exp", key), one), ("sum", one)], aggregation="mul")
    return [("softmax", key) for key in outputs]


IMPORTER = Importer("wann", "a matrix of prettyNEAT's or of a weight agnostic network",
                    (".out", ".wann.json"),
                    recognises, read,
                    ("inputs", "outputs", "weight_bias", "tuned", "shared", "softmax"))
