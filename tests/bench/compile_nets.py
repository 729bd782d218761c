"""Nets of every shape, as `.nal` texts from a seed, for bench_compile.py and bench_neat.py.

Each function is one kind of net, its size is in the arguments, and the same arguments make the same
text. `mixture(seed)` draws all of it: depth, widths, fan-ins, activations, aggregations, biases,
ties, constants, functions, outputs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence

NAMES = ("identity sigmoid tanh relu silu gelu swish leaky_relu elu selu softplus softsign "
         "hard_sigmoid exp log abs square cube sqrt rsqrt recip sin cos gauss step gelu_tanh mish "
         "hard_swish relu6 clip atan erf").split()
AGGREGATIONS = ("sum", "mul", "mean", "max", "min", "maxabs", "sumbias", "maximum", "minimum",
                "dot", "div")
# What neat-python, SharpNEAT and their like evolve with; a net of k activations has the first k.
NEAT = ("sigmoid", "tanh", "relu", "gauss", "sin", "softplus", "abs", "elu")
FUNCTIONS = ("1/(1+exp(-4.9*x))", "x*sigmoid(1.702*x)", "x/(1+abs(x))", "tanh(2.5*x)",
             "exp(-abs(x))", "log(1+x^2)", "sin(x)*cos(x)", "max(0,min(1,x))", "x^2/(1+x^2)",
             "softplus(x)-softplus(-x)", "atan(5*x)", "sqrt(1+x^2)", "erf(x/2)+x/10",
             "1/(1+x^2)", "x*exp(-x^2)", "abs(x)^3/(1+abs(x))")


class Text:
    """A net under construction; neurons are numbered as they come."""

    def __init__(self, functions: Iterable[str] = ()) -> None:
        self.n = 0
        self._functions = [f"fn {0x20 + k:x} {text}" for k, text in enumerate(functions)]
        self._out: list[str] = []
        self._lines: list[str] = []

    def inputs(self, count: int) -> list[int]:
        """`count` inputs, which have to come before other neurons or among them, as they like."""
        return [self._line("") for _ in range(count)]

    def neuron(self, activation: str, sources: Iterable[int], weights: Iterable[object],
               bias: object = "", aggregation: str = "") -> int:
        """A neuron; a weight is a number, or what stands behind the source: `@k0`, `:=1`. A dot
        takes each source with the next one, the last one with the first."""
        words = [f"{i:x}" for i in sources]
        if aggregation == "dot":
            words = [f"{a}*{b}" for a, b in zip(words, words[1:] + words[:1], strict=True)]
        edges = [f"{i}{w}" if str(w)[:1] in "@:" else f"{i}:{w}"
                 for i, w in zip(words, weights, strict=True)]
        words = [activation, aggregation if edges and aggregation != "sum" else "", ",".join(edges),
                 f"+{bias}" if bias != "" else ""]
        return self._line(" " + " ".join([w for w in words if w]))

    def out(self, neurons: Iterable[int]) -> None:
        self._out = [f"{j:x}" for j in neurons]

    def _line(self, rest: str) -> int:
        self._lines.append(f"{self.n:x}{rest}\n")
        self.n += 1
        return self.n - 1

    def __str__(self) -> str:
        head = [f"N {self.n:x}", *self._functions]
        if self._out:
            head.append("out " + ",".join(self._out))
        return "\n".join(head) + "\n" + "".join(self._lines)


def scaled(rng: random.Random, count: int) -> list[str]:
    """Of variance 1/count."""
    return [f"{rng.gauss(0, 1) / math.sqrt(count):.4f}" for _ in range(count)]


def edges_of(count: int, activation: str = "relu", seed: int = 0, width: int = 32) -> str:
    """`count` edges between random layers of `width`, 8 to a neuron, without biases."""
    rng, text = random.Random(seed), Text()
    before, left = text.inputs(width), count
    while left:
        layer = []
        for _ in range(min(width, -(-left // 8))):
            fan_in = min(8, left)
            layer.append(text.neuron(activation, sorted(rng.sample(before, fan_in)),
                                     scaled(rng, fan_in)))
            left -= fan_in
        # The last layer of all may be narrower, those before are not: 8 sources are there.
        before = layer if len(layer) >= 8 else before
    return str(text)


def layers(widths: Sequence[int], fan_in: int | None = None, seed: int = 0) -> str:
    """Relu layers with biases: dense, or each neuron reads `fan_in` of the layer before."""
    rng, text = random.Random(seed), Text()
    before = text.inputs(widths[0])
    for width in widths[1:]:
        count = fan_in or len(before)
        before = [text.neuron("relu", sorted(rng.sample(before, count)) if fan_in else before,
                              scaled(rng, count), f"{rng.gauss(0, 1):.3f}")
                  for _ in range(width)]
    return str(text)


def genome(neurons: int, edges: int, activations: Sequence[str] = NEAT[:3], seed: int = 0, *,
           n_inputs: int = 8, n_outputs: int = 4, functions: Iterable[str] = (),
           scale: float = 1.0) -> str:
    """As evolution leaves them: an order of hidden neurons, each of which reads some before it and
    is read by some behind it, and edges between any two that are drawn until there are enough."""
    rng, text = random.Random(seed), Text(functions)
    inputs = list(range(n_inputs))
    hidden = list(range(n_inputs, neurons - n_outputs))
    outputs = list(range(neurons - n_outputs, neurons))
    order = inputs + hidden
    sources: dict[int, set[int]] = {j: set() for j in hidden + outputs}
    for k, j in enumerate(hidden):
        sources[j].add(rng.choice(order[:n_inputs + k]))
        sources[rng.choice(hidden[k + 1:] + outputs)].add(j)
    for j in outputs:
        sources[j].add(rng.choice(order))
    count = sum(map(len, sources.values()))
    room = len(hidden) * n_inputs + len(hidden) * (len(hidden) - 1) // 2 + n_outputs * len(order)
    while count < min(edges, room):
        j = rng.choice(hidden + outputs)
        i = rng.choice(order[:j] if j < neurons - n_outputs else order)
        count += i not in sources[j]
        sources[j].add(i)
    text.inputs(n_inputs)
    for j in hidden + outputs:
        text.neuron(rng.choice(activations), sorted(sources[j]),
                    [f"{rng.gauss(0, scale):.4f}" for _ in sources[j]], f"{rng.gauss(0, 1):.3f}")
    text.out(outputs)
    return str(text)


def neat(neurons: int, edges: int, activations: int = 3, seed: int = 0) -> str:
    """A genome; of three activations it has the steep ones of neat-python's kind, as functions."""
    if activations == 3:
        return genome(neurons, edges, ("20", "21", "relu"), seed,
                      functions=("1/(1+exp(-5*x))", "tanh(2.5*x)"))
    return genome(neurons, edges, NEAT[:activations], seed)


def population(nets: int, seed: int = 0) -> str:
    """Genomes side by side in one net, which read the same 8 inputs."""
    rng, text = random.Random(seed), Text()
    shared = text.inputs(8)
    for _ in range(nets):
        known = list(shared)
        for _ in range(20):
            fan_in = rng.randint(1, 5)
            known.append(text.neuron(rng.choice(NEAT[:3]), rng.sample(known, fan_in),
                                     scaled(rng, fan_in), f"{rng.gauss(0, 1):.3f}"))
    return str(text)


def every(seed: int = 0, neurons: int | None = None) -> str:
    """Each activation with each aggregation, over 2 to 5 of the 40 neurons before; or as many
    neurons as are asked for, of pairs drawn at random."""
    rng, text = random.Random(seed), Text()
    pairs = [(a, g) for a in NAMES for g in AGGREGATIONS]
    rng.shuffle(pairs)
    before = text.inputs(8)
    for activation, aggregation in pairs[:neurons]:
        fan_in = rng.randint(2, 5)
        before.append(text.neuron(activation, rng.sample(before[-40:], fan_in),
                                  scaled(rng, fan_in), f"{rng.gauss(0, 1):.3f}", aggregation))
    return str(text)


def each_activation(seed: int = 0) -> str:
    """41 neurons: 4 inputs, each of the 32 activations over two, 5 that read four of these."""
    rng, text = random.Random(seed), Text()
    inputs = text.inputs(4)
    middle = [text.neuron(name, rng.sample(inputs, 2), scaled(rng, 2), f"{rng.gauss(0, 1):.3f}")
              for name in NAMES]
    for name in ("20", "tanh", "relu", "sigmoid", "identity"):
        text.neuron("tanh" if name == "20" else name, rng.sample(middle, 4), scaled(rng, 4))
    return str(text)


def fan_out(outputs: int, activation: str = "identity") -> str:
    """One input and so many outputs, each of which reads it."""
    text = Text()
    text.inputs(1)
    for k in range(outputs):
        text.neuron(activation, [0], [k + 1])
    return str(text)


def named_inputs(count: int) -> str:
    """All inputs are outputs, and so is one neuron that reads the first."""
    text = Text()
    inputs = text.inputs(count)
    text.out([*inputs, text.neuron("identity", [0], [2])])
    return str(text)


def lonely(inputs: int) -> str:
    """So many inputs, the first of which is read."""
    text = Text()
    text.inputs(inputs)
    text.neuron("identity", [0], [2])
    return str(text)


def chain(length: int, activations: Sequence[str] = ("tanh",)) -> str:
    """One neuron behind the other, activations in turn."""
    text = Text()
    last = text.inputs(1)[0]
    for k in range(length):
        last = text.neuron(activations[k % len(activations)], [last], [0.9])
    return str(text)


def fan_in(count: int, aggregations: Sequence[str] = ("sum",), seed: int = 0) -> str:
    """Neurons that read `count` inputs each, one an aggregation."""
    rng, text = random.Random(seed), Text()
    inputs = text.inputs(count)
    for aggregation in aggregations:
        text.neuron("identity", inputs, [f"{rng.gauss(0, 1):.3f}" for _ in inputs], "",
                    aggregation)
    return str(text)


def fan_ins(largest: int, activations: Sequence[str] = ("tanh",), levels: int = 1,
            seed: int = 0) -> str:
    """On each level a neuron of each fan-in 1 .. `largest`, activations in turn."""
    rng, text = random.Random(seed), Text()
    before = text.inputs(largest)
    for _ in range(levels):
        before = [text.neuron(activations[k % len(activations)], rng.sample(before, k),
                              scaled(rng, k), f"{rng.gauss(0, 1):.3f}")
                  for k in range(1, largest + 1)]
    return str(text)


def lstm(steps: int, inputs: int = 8, hidden: int = 16, seed: int = 0) -> str:
    """An LSTM unrolled: weights tied over the steps, gates as neurons, products by `mul`; each h of
    each step is an output."""
    rng, text = random.Random(seed), Text()
    x = [text.inputs(inputs) for _ in range(steps)]
    h, c = text.inputs(hidden), text.inputs(hidden)
    met: set[str] = set()

    def tie(name: str, size: int) -> str:
        value = "" if name in met else f":{rng.gauss(0, 1) / math.sqrt(size):.4f}"
        met.add(name)
        return f"@{name}{value}"

    def product(a: int, b: int) -> int:
        return text.neuron("identity", (a, b), (":=1", ":=1"), "", "mul")

    found = []
    for t in range(steps):
        gates = {}
        for gate, activation in (("i", "sigmoid"), ("f", "sigmoid"), ("g", "tanh"),
                                 ("o", "sigmoid")):
            gates[gate] = [text.neuron(
                activation, [*x[t], *h],
                [tie(f"w{gate}_{k}_{i}", inputs + hidden) for i in range(inputs + hidden)],
                tie(f"b{gate}_{k}", 1)) for k in range(hidden)]
        c = [text.neuron("identity", (product(gates["f"][k], c[k]),
                                      product(gates["i"][k], gates["g"][k])), (":=1", ":=1"))
             for k in range(hidden)]
        h = [product(gates["o"][k], text.neuron("tanh", [c[k]], [":=1"])) for k in range(hidden)]
        found += h
    text.out(found)
    return str(text)


def convolution(side: int = 28, filters: int = 4, kernel: int = 3, stride: int = 2,
                classes: int = 10, seed: int = 0) -> str:
    """A picture, `filters` tied filters over its windows, relu, and a dense layer."""
    rng, text = random.Random(seed), Text()
    pixels = text.inputs(side * side)
    met: set[str] = set()

    def tie(name: str) -> str:
        value = "" if name in met else f":{rng.gauss(0, 1) / kernel:.4f}"
        met.add(name)
        return f"@{name}{value}"

    maps = []
    for f in range(filters):
        for r in range(0, side - kernel + 1, stride):
            for q in range(0, side - kernel + 1, stride):
                at = [(i, j) for i in range(kernel) for j in range(kernel)]
                maps.append(text.neuron(
                    "relu", [pixels[(r + i) * side + q + j] for i, j in at],
                    [tie(f"k{f}_{i}_{j}") for i, j in at], tie(f"b{f}")))
    for _ in range(classes):
        text.neuron("identity", maps, scaled(rng, len(maps)), f"{rng.gauss(0, 1):.3f}")
    return str(text)


def residual(width: int = 32, blocks: int = 40, fan_in: int = 8, seed: int = 0) -> str:
    """h + relu(W h), block by block."""
    rng, text = random.Random(seed), Text()
    h = text.inputs(width)
    for _ in range(blocks):
        inner = [text.neuron("relu", sorted(rng.sample(h, fan_in)), scaled(rng, fan_in),
                             f"{rng.gauss(0, 1):.3f}") for _ in range(width)]
        h = [text.neuron("identity", pair, (":=1", ":=1"))
             for pair in zip(h, inner, strict=True)]
    return str(text)


def butterfly(size: int = 256, seed: int = 0) -> str:
    """log2(size) levels of neurons that read two, as an FFT's."""
    rng, text = random.Random(seed), Text()
    h, step = text.inputs(size), 1
    while step < size:
        h = [text.neuron("tanh", (h[k], h[k ^ step]), scaled(rng, 2)) for k in range(size)]
        step *= 2
    return str(text)


def tree(leaves: int = 1024, seed: int = 0) -> str:
    """A binary tree of sums, products and maxima in turn."""
    rng, text = random.Random(seed), Text()
    h, k = text.inputs(leaves), 0
    while len(h) > 1:
        h = [text.neuron("tanh", h[i:i + 2], scaled(rng, 2), "", ("sum", "mul", "max")[k % 3])
             for i in range(0, len(h), 2)]
        k += 1
    return str(text)


def wide(outputs: int = 10_000, inputs: int = 1_000, seed: int = 0) -> str:
    """One layer; each neuron reads three inputs."""
    rng, text = random.Random(seed), Text()
    before = text.inputs(inputs)
    for _ in range(outputs):
        text.neuron("relu", rng.sample(before, 3), scaled(rng, 3))
    return str(text)


def read_outputs(neurons: int = 400, seed: int = 0) -> str:
    """Every second neuron is an output, and most of these are read as well."""
    rng, text = random.Random(seed), Text()
    known = text.inputs(16)
    for _ in range(neurons):
        known.append(text.neuron(rng.choice(("tanh", "relu")), rng.sample(known[-60:], 5),
                                 scaled(rng, 5), f"{rng.gauss(0, 1):.3f}"))
    text.out(known[16::2])
    return str(text)


def tied(neurons: int = 500, ties: int = 16, seed: int = 0) -> str:
    """All weights and biases are one of a few slots."""
    rng, text = random.Random(seed), Text()
    known = text.inputs(16)
    values = [f"{rng.gauss(0, 0.5):.4f}" for _ in range(ties)]
    met: set[int] = set()

    def tie() -> str:
        k = rng.randrange(ties)
        value = "" if k in met else f":{values[k]}"
        met.add(k)
        return f"@k{k}{value}"

    for _ in range(neurons):
        known.append(text.neuron("tanh", rng.sample(known[-60:], 6), [tie() for _ in range(6)],
                                 tie()))
    return str(text)


def constant(neurons: int = 600, seed: int = 0) -> str:
    """Constant weights of few values, and neurons that are a constant or a bias alone."""
    rng, text = random.Random(seed), Text()
    known = text.inputs(16)
    for k in range(neurons):
        if k % 10 == 0:
            known.append(text.neuron("identity" if k % 20 else "tanh", (), (),
                                     "=1" if k % 20 else "0.5"))
            continue
        weights = [":=" + rng.choice(("1", "-1", "0.5", "0.0625")) for _ in range(6)]
        known.append(text.neuron("relu", rng.sample(known[-60:], 6), weights))
    return str(text)


def functions(neurons: int = 200, seed: int = 0) -> str:
    """As a genome, of sixteen functions of its own."""
    return genome(neurons, 4 * neurons, [f"{0x20 + k:x}" for k in range(len(FUNCTIONS))], seed,
                  functions=FUNCTIONS, scale=0.4)


def twins(copies: int = 2_000, seed: int = 0) -> str:
    """Neurons that are all the same, which merge finds, and a sum of them."""
    rng, text = random.Random(seed), Text()
    inputs = text.inputs(4)
    weights = scaled(rng, 4)
    middle = [text.neuron("tanh", inputs, [f"@w{i}" + (f":{w}" if k == 0 else "")
                                           for i, w in enumerate(weights)])
              for k in range(copies)]
    text.neuron("identity", middle, scaled(rng, copies))
    return str(text)


def constants_only(neurons: int = 3_000, seed: int = 0) -> str:
    """Biases without in-lists, each an output, and one input that is read."""
    rng, text = random.Random(seed), Text()
    text.inputs(1)
    text.neuron("identity", [0], [1])
    for _ in range(neurons):
        text.neuron("tanh", (), (), f"{rng.gauss(0, 1):.3f}")
    return str(text)


def mixture(seed: int, largest: int = 4_000) -> str:
    """A net of which everything is drawn, of at most about `largest` edges."""
    rng = random.Random(seed)
    own = rng.sample(FUNCTIONS, rng.choice((0, 0, 0, 1, 4, 16)))
    text = Text(own)
    kinds = rng.choice((1, 1, 2, 3, 5, 8, 16, 32))
    activations = rng.sample(NAMES, min(kinds, 32)) + [f"{0x20 + k:x}" for k in range(len(own))]
    aggregations = rng.choice((("sum",), ("sum",), ("sum", "mean"), ("sum", "max", "mul"),
                               AGGREGATIONS))
    edges = int(largest ** rng.uniform(0.4, 1))
    most = rng.choice((1, 2, 4, 9, 32, 200, 1_000))
    depth = edges ** rng.uniform(0, 0.8)
    width = max(1, round(edges / depth / ((1 + most) / 2)))
    reach = rng.choice((1, 1, 2, 5, 1_000))  # layers that a neuron may look back over
    biased = rng.choice((0, 0, 0.5, 1))
    ties = rng.choice((0, 0, 0, 3, 100))
    constants = rng.choice((0, 0, 0.2, 1))
    sharing = rng.choice((0, 0, 0, 0.5, 0.95))
    met: set[int] = set()

    def value(size: int) -> str:
        number = f"{rng.gauss(0, 1) / math.sqrt(size):.4f}"
        if rng.random() < constants:
            return f"={number}"
        if ties and rng.random() < 0.7:
            k = rng.randrange(ties)
            first = "" if k in met else f":{number}"
            met.add(k)
            return f"@k{k}{first}"
        return number

    layers = [text.inputs(rng.choice((1, 3, 16, 100, 1_000)))]
    flat = list(layers[0])
    shared: list[int] = []
    while edges > 0:
        layer = []
        known = [j for one in layers[-reach:] for j in one] if reach < 1_000 else flat
        shared = []
        for _ in range(min(width, max(1, edges))):
            count = min(len(known), rng.randint(1, most), max(1, edges))
            if shared and rng.random() < sharing:
                sources = shared
            else:
                sources = shared = rng.sample(known, count)
            weights = [value(len(sources)) for _ in sources]
            bias = value(4) if rng.random() < biased else ""
            layer.append(text.neuron(rng.choice(activations), sources,
                                     [w if w[0] == "@" else f":{w}" for w in weights], bias,
                                     rng.choice(aggregations)))
            edges -= len(sources)
            if edges <= 0:
                break
        layers.append(layer)
        flat += layer
    if rng.random() < 0.3:
        text.out(rng.sample(flat, rng.randint(1, min(len(flat), 300))))
    return str(text)
