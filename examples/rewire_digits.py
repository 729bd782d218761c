"""A net of 2 % of the edges of a dense one learns to read handwritten digits, in three ways.

    python examples/rewire_digits.py [--seeds N] [--epochs N]

Layers of 64 pixels, 256 and 256 relu neurons and ten scores; a 50th of the edges is drawn by a
seed, layers getting shares as of an Erdos-Renyi graph. That mask stays as it is (static), or after
each epoch the 30 % of the edges with the smallest weights go, ever fewer towards the end, and as
many others come: drawn (SET, Mocanu et al. 2018), or by the gradient that they would have (RigL,
Evci et al. 2020). Prints the accuracy on digits.py's 360 held-out rows, and fails where an edge
that changes is not worth a hundredth of them on average.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from itertools import pairwise

import digits
import numpy as np

import ncc

WIDTHS = (64, 256, 256, 10)
DENSITY = 0.02
WAYS = {"static": None, "SET": "random", "RigL": "gradient"}
WORTH = 0.01


def nal(seed: int) -> str:
    """The net as a neural adjacency list, without values."""
    rng = np.random.default_rng(seed)
    count, pairs = sum(WIDTHS), list(pairwise(WIDTHS))
    edges = DENSITY * sum(a * b for a, b in pairs)
    share = edges / sum(a + b for a, b in pairs)
    outputs = ",".join(f"{j:x}" for j in range(count - WIDTHS[-1], count))
    lines = [f"N {count:x}", f"out {outputs}", *[f"{j:x}" for j in range(WIDTHS[0])]]
    first = 0
    for sources, targets in pairs:
        reads = np.zeros((targets, sources), np.bool_)
        reads[np.arange(targets), rng.integers(sources, size=targets)] = True  # each one at least
        more = max(0, round(share * (sources + targets)) - targets)
        reads.flat[rng.permutation(np.flatnonzero(~reads))[:more]] = True
        activation = "identity" if first + sources + targets == count else "relu"
        for t, row in enumerate(reads):
            read = ",".join(f"{first + s:x}" for s in np.flatnonzero(row))
            lines.append(f"{first + sources + t:x} {activation} {read} +")
        first += sources
    return "\n".join(lines) + "\n"


def accuracies(seed: int, epochs: int) -> Iterator[tuple[str, float]]:
    """Of each way the share of the held-out rows that is read rightly."""
    learn_x, held_x, learn_y, held_y = digits.samples()
    net = ncc.parse(nal(seed))
    for way, grow in WAYS.items():
        trainer = ncc.Trainer(net, "ce", "adam", batch=32, lr=0.003, seed=seed)
        for epoch in range(epochs):
            trainer.epoch(learn_x, learn_y)
            if grow and epoch < 3 * epochs // 4:
                # What comes late has no time to learn.
                trainer.rewire(0.15 * (1 + math.cos(math.pi * epoch / epochs)), grow=grow)
        assert trainer.net.n_edges == net.n_edges
        yield way, float((trainer.compiled()(held_x).argmax(axis=1) == held_y).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    net = ncc.parse(nal(0))
    print(f"{net.n_edges} edges of {sum(a * b for a, b in pairwise(WIDTHS)):,}")
    print("seed  " + "  ".join([f"{way:>6}" for way in WAYS]))
    rows = []
    for seed in range(options.seeds):
        rows.append(list(dict(accuracies(seed, options.epochs)).values()))
        print(f"{seed:4}  " + "  ".join([f"{value:6.4f}" for value in rows[-1]]), flush=True)
    means = np.mean(rows, axis=0)
    print("mean  " + "  ".join([f"{value:6.4f}" for value in means]))
    if (means[1:] < means[0] + WORTH).any():
        sys.exit(1)


if __name__ == "__main__":
    main()
