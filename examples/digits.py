"""A net that reads handwritten digits: 8 x 8 pixels in, ten class scores out.

    python examples/digits.py                     train, write digits.nal and the held-out rows
    python examples/digits.py --check             the accuracy of digits.nal, evaluated by numpy
    python examples/digits.py --check scores.csv  the accuracy of scores made by another, such as
        ncc run examples/digits.nal --input examples/digits.csv -o scores.csv

Only training needs scikit-learn, for the data and the optimiser. The split and the seed are
fixed; a row is held out once and for all, and no setting was chosen by looking at those rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
WIDTHS = (64, 32, 16, 10)
ACTIVATIONS = ("relu", "relu", "identity")
HELD_OUT = 360

Singles = NDArray[np.float32]
Table = NDArray[np.float64]
Labels = NDArray[np.int64]


def samples() -> tuple[Table, Table, Labels, Labels]:
    """Pixels (rows, 64) to learn of and held out, scaled to 0..1, and the digits of both."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    train_x, held_x, train_y, held_y = train_test_split(
        images / 16.0, labels, test_size=HELD_OUT, random_state=0, stratify=labels
    )
    return train_x, held_x, train_y, held_y


def train() -> None:
    """Writes digits.nal, digits.csv (360 x 64, pixels scaled to 0..1) and digits_labels.csv."""
    from sklearn.neural_network import MLPClassifier

    train_x, held_x, train_y, held_y = samples()
    # The classifier ends in a softmax, which changes no order: the net's ten scores are its logits.
    model = MLPClassifier(WIDTHS[1:-1], alpha=0.01, max_iter=2000, random_state=0)
    model.fit(train_x, train_y)
    write_nal(HERE / "digits.nal", model.coefs_, model.intercepts_)
    np.savetxt(HERE / "digits.csv", held_x, fmt="%g", delimiter=",")
    np.savetxt(HERE / "digits_labels.csv", held_y, fmt="%d")


def number(value: float) -> str:
    """Six significant digits; what has decayed to nothing (a pixel that is always blank) is 0."""
    return f"{value:.6g}" if abs(value) >= 1e-6 else "0"


def write_nal(path: Path, weights: list[NDArray[np.float64]],
              biases: list[NDArray[np.float64]]) -> None:
    """The layers as a neural adjacency list; `weights[k]` is (sources, targets)."""
    lines = [
        "% 8 x 8 pixels, each 0..1, row by row; the scores of the digits 0 to 9. See digits.py.",
        f"N {sum(WIDTHS):02x}",
    ]
    lines += [f"{j:02x}" for j in range(WIDTHS[0])]
    first = 0
    for layer, activation, bias in zip(weights, ACTIVATIONS, biases, strict=True):
        sources, targets = layer.shape
        for t in range(targets):
            edges = ",".join(f"{first + s:02x}:{number(layer[s, t])}" for s in range(sources))
            lines.append(f"{first + sources + t:02x} {activation} {edges} +{number(bias[t])}")
        first += sources
    path.write_text("\n".join(lines) + "\n")


def evaluate(path: Path, rows: Singles) -> Singles:
    """The scores (rows, 10) that the net in the file gives, in float32, by numpy alone."""
    values: list[Singles] = list(rows.T)
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) != 4:
            continue  # the comment, the count, an input
        _, activation, edges, bias = words
        total = np.full(len(rows), np.float32(bias[1:]))
        for edge in edges.split(","):
            source, weight = edge.split(":")
            total += values[int(source, 16)] * np.float32(weight)
        values.append(np.maximum(total, 0) if activation == "relu" else total)
    return np.stack(values[-WIDTHS[-1]:], axis=1)


def report(scores: Singles) -> None:
    """Prints how many held-out rows have their label's score as the highest."""
    labels = np.loadtxt(HERE / "digits_labels.csv", dtype=np.int64)
    if scores.shape != (HELD_OUT, WIDTHS[-1]):
        raise SystemExit(f"scores are {scores.shape}, expected {(HELD_OUT, WIDTHS[-1])}")
    right = int((scores.argmax(axis=1) == labels).sum())
    print(f"held-out accuracy {right / HELD_OUT:.4f} ({right} of {HELD_OUT})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", nargs="?", const="", metavar="SCORES.csv",
                        help="print the accuracy of these scores, or of the written net")
    check = parser.parse_args().check
    if check is None:
        train()
    if check:
        scores = np.loadtxt(check, dtype=np.float32, delimiter=",", ndmin=2)
    else:
        rows = np.loadtxt(HERE / "digits.csv", dtype=np.float32, delimiter=",")
        scores = evaluate(HERE / "digits.nal", rows)
    report(scores)


if __name__ == "__main__":
    main()
