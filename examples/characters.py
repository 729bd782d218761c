"""A small transformer learns to spell, better than any model that sees one character alone.

    python examples/characters.py

The text is made here: words drawn at random from a list, with blanks between. `ncc.new` makes the
transformer, as GPT-2 is built: one-hot characters, a tied embedding, learned positions, one block
of causal attention of two heads. It reads eight characters and gives the logits of the next. What
is measured is its cross-entropy on text that it has not seen, beside the least that a bigram model
could have there: the entropy of a character given the one before, counted in that text itself.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

import ncc

WORDS = "tea ten net neat ate eat tan ant nan tent nett anne etna".split()
LETTERS = " aent"
SEEN = 8  # characters
HOW = {"loss": "ce", "optimizer": "adam", "lr": 0.003, "batch": 64, "epochs": 8, "seed": 1}
ENOUGH = 0.75  # of the bigram model's cross-entropy


def text(count: int, seed: int) -> NDArray[np.int64]:
    """The numbers of the characters of so many words."""
    words = np.random.default_rng(seed).choice(WORDS, count)
    return np.array([LETTERS.index(letter) for letter in " ".join(words)])


def samples(numbers: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """x (n, SEEN * letters): SEEN characters as one-hot rows; y (n): the character behind them."""
    windows = np.lib.stride_tricks.sliding_window_view(numbers, SEEN + 1)
    return np.eye(len(LETTERS))[windows[:, :-1]].reshape(len(windows), -1), windows[:, -1]


def bigrams(numbers: NDArray[np.int64]) -> float:
    """The cross-entropy, in nats, of the bigram model that is the best one of just this text."""
    counts = np.zeros((len(LETTERS), len(LETTERS)))
    np.add.at(counts, (numbers[:-1], numbers[1:]), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return float(-(counts * np.log(np.where(counts, shares, 1))).sum() / counts.sum())


def net() -> ncc.Net:
    return ncc.new("transformer", f"{SEEN}x{len(LETTERS)} d16 h2 l1", last=True, init="xavier",
                   seed=1)


def cross_entropy(fn: ncc.Compiled, numbers: NDArray[np.int64]) -> float:
    x, y = samples(numbers)
    logits = fn(x).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]).mean())


def spelt(fn: ncc.Compiled, count: int, seed: int) -> str:
    """Text that the net goes on with, character by character, after the start of another."""
    rng, written = np.random.default_rng(seed), text(SEEN, seed)[:SEEN].tolist()
    for _ in range(count):
        logits = fn(np.eye(len(LETTERS))[written[-SEEN:]].ravel()).astype(np.float64)
        shares = np.exp(logits - logits.max())
        written.append(int(rng.choice(len(LETTERS), p=shares / shares.sum())))
    return "".join(LETTERS[k] for k in written[SEEN:])


def main() -> None:
    made = net()
    print(f"{made.n_neurons:,} neurons, {made.n_edges:,} edges, {made.n_params:,} parameters")
    fn, _ = ncc.fit(made, *samples(text(2000, 1)), **HOW)
    held_out = text(500, 2)
    found, least = cross_entropy(fn, held_out), bigrams(held_out)
    print(f"it writes: {spelt(fn, 40, 3)}")
    print(f"held-out cross-entropy {found:.3f}; no bigram model is below {least:.3f}")
    if found > ENOUGH * least:
        sys.exit("it has learnt too little")


if __name__ == "__main__":
    main()
