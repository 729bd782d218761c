"""A convolution, written with ties, learns to read handwritten digits.

    python examples/conv.py

The shape is that of conv_4x4_k3.nam, grown from 4 x 4 to 8 x 8 pixels and from 2 filters to 16: a
3 x 3 filter over the picture, a second one over its result, and ten outputs. A filter is one set
of nine weights and a bias, whatever its place: ties by name. In between, each 4 x 4 places are
averaged, by constant weights.

That a tie's gradient is the sum of the gradients of all the edges that share it is checked against
the untied copy of the net, where each edge has a weight of its own. --save, --check: see lesson.py.
"""

from __future__ import annotations

import re

import digits
import numpy as np
from lesson import Lesson
from numpy.typing import NDArray

import ncc

SIDE, FILTERS, POOL = 8, 16, 4
ENOUGH = 0.98  # of the held-out rows
EXACT = 1e-12  # relative, in float64: the sums round in another order


def nal(side: int, filters: int, outputs: int, pool: int = 1) -> str:
    """Pixels row by row; the first filter's result, the second's, ...; those of the second filters
    over them; their averages over pool x pool places, where that is more than one; the outputs."""
    lines = [f"{j:x}" for j in range(side * side)]

    def add(rest: str) -> int:
        lines.append(f"{len(lines):x} {rest}")
        return len(lines) - 1

    def filtered(first: int, name: str) -> int:
        """A filter over the picture whose top left pixel is neuron `first`; the result's."""
        for y in range(side):
            for x in range(side):
                edges = [f"{first + v * side + u:x}@{name}_{v - y + 1}{u - x + 1}"
                         for v in range(max(0, y - 1), min(side, y + 2))
                         for u in range(max(0, x - 1), min(side, x + 2))]
                last = add(f"relu {','.join(edges)} +@{name}")
        return last + 1 - side * side

    maps = [filtered(0, f"p{f}") for f in range(filters)]
    maps = [filtered(first, f"q{f}") for f, first in enumerate(maps)]
    read = [first + k for first in maps for k in range(side * side)]
    if pool > 1:
        read = [add("identity mean " + ",".join(f"{first + (y + v) * side + x + u:x}:=1"
                                                for v in range(pool) for u in range(pool)))
                for first in maps for y in range(0, side, pool) for x in range(0, side, pool)]
    everything = ",".join(f"{j:x}" for j in read)
    for _ in range(outputs):
        add(f"identity {everything} +")
    return f"N {len(lines):x}\n" + "\n".join(lines) + "\n"


def untied(text: str) -> str:
    """The net with a weight of its own for each edge, a bias of its own for each neuron."""
    return re.sub("@[a-z0-9_]+", "", text)


def spread(tied: ncc.Net, own: ncc.Net) -> NDArray[np.int64]:
    """For each parameter of the untied copy, that of the tied net whose place it takes."""
    slots = np.empty(own.n_params, np.int64)
    for a, b in ((tied.graph.weights, own.graph.weights), (tied.graph.biases, own.graph.biases)):
        slots[b[b >= 0]] = a[b >= 0]
    return slots


def difference(text: str, params: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    """Between a tie's gradient and the sum over the untied copy, relative to the largest."""
    tied, own = ncc.parse(text), ncc.parse(untied(text))
    slots = spread(tied, own)
    gradients = []
    for net, values in ((tied, params), (own, params[slots])):
        y, pullback = ncc.compile(net, params=values, dtype="f64").vjp(x)
        gradients.append(pullback(np.cos(np.arange(y.size).reshape(y.shape)))[1])
    sums = np.bincount(slots, gradients[1], minlength=tied.n_params)
    return float(np.abs(gradients[0] - sums).max() / np.abs(sums).max())


def lesson() -> Lesson:
    learn_x, held_x, learn_y, held_y = digits.samples()
    text = nal(SIDE, FILTERS, 10, POOL)

    def report(fn: ncc.Compiled) -> bool:
        net = ncc.parse(text)
        print(f"{net.n_edges:,} edges, {net.n_params} parameters; untied "
              f"{ncc.parse(untied(text)).n_params:,}")
        off = difference(text, fn.params, held_x[:32])
        good = off < EXACT
        print("a tie's gradient is the sum over the untied copy: "
              + ("yes" if good else f"no, they differ by {off:g}"))
        right = int((fn(held_x).argmax(axis=1) == held_y).sum())
        accuracy = right / len(held_y)
        print(f"held-out accuracy {accuracy:.4f} ({right} of {len(held_y)})")
        return good and accuracy >= ENOUGH

    how = {"loss": "ce", "optimizer": "adam", "lr": 0.005, "batch": 32, "epochs": 60, "seed": 0}
    return Lesson("conv", text, learn_x, learn_y, how, report)


if __name__ == "__main__":
    lesson().main()
