"""A random sparse net, of 5 % of the edges of a dense one, learns to read handwritten digits.

    python examples/sparse_digits.py

Layers of 64 pixels, 1,024 and 256 relu neurons and ten scores; of the 330,240 edges that dense
layers of these widths have, a twentieth is drawn by a seed and stays as drawn. What is held out are
digits.py's 360 rows; widths, epochs and decay were chosen by parts of the other rows held out.
--save and --check: see lesson.py.
"""

from __future__ import annotations

from itertools import pairwise

import digits
import numpy as np
from lesson import Lesson
from numpy.typing import NDArray

import ncc

WIDTHS = (64, 1024, 256, 10)
DENSITY = 0.05
ENOUGH = 0.96  # of the held-out rows


def drawn(sources: int, targets: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Who reads whom, (targets, sources): DENSITY of all, each target at least one."""
    reads = np.zeros((targets, sources), np.bool_)
    reads[np.arange(targets), rng.integers(sources, size=targets)] = True
    free = np.flatnonzero(~reads)
    more = int(DENSITY * reads.size) - targets
    reads.flat[rng.permutation(free)[:more]] = True
    return reads


def nal(seed: int = 0) -> str:
    """The net as a neural adjacency list, without values."""
    rng = np.random.default_rng(seed)
    count = sum(WIDTHS)
    # Named, as there are hidden neurons that nobody happens to read.
    outputs = ",".join(f"{j:x}" for j in range(count - WIDTHS[-1], count))
    lines = [f"N {count:x}", f"out {outputs}", *[f"{j:x}" for j in range(WIDTHS[0])]]
    first = 0
    for sources, targets in pairwise(WIDTHS):
        activation = "identity" if first + sources + targets == count else "relu"
        for t, reads in enumerate(drawn(sources, targets, rng)):
            edges = ",".join(f"{first + s:x}" for s in np.flatnonzero(reads))
            lines.append(f"{first + sources + t:x} {activation} {edges} +")
        first += sources
    return "\n".join(lines) + "\n"


def lesson() -> Lesson:
    learn_x, held_x, learn_y, held_y = digits.samples()

    def report(fn: ncc.Compiled) -> bool:
        edges = ncc.parse(nal()).n_edges
        dense = sum(a * b for a, b in pairwise(WIDTHS))
        right = int((fn(held_x).argmax(axis=1) == held_y).sum())
        accuracy = right / len(held_y)
        print(f"{edges:,} edges of {dense:,}: density {edges / dense:.2%}")
        print(f"held-out accuracy {accuracy:.4f} ({right} of {len(held_y)})")
        return edges <= DENSITY * dense and accuracy >= ENOUGH

    how = {"loss": "ce", "optimizer": "adamw:weight_decay=0.1", "lr": 0.003, "batch": 32,
           "epochs": 80, "seed": 0}
    return Lesson("sparse_digits", nal(), learn_x, learn_y, how, report)


if __name__ == "__main__":
    lesson().main()
