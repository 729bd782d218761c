"""An LSTM reads a sequence, and another one says it backwards, looking back by attention.

    python examples/reverse.py

The net is built of whole arrays of neurons (ncc/formats/importers/tensors/): an encoder and a
decoder, both LSTMs, unrolled, and between them additive attention (Bahdanau et al. 2015): each
state of the decoder scores all states of the encoder, and reads their mean by the softmax of the
scores. In training the decoder is told what it should have said before (teacher forcing); when it
is tested it is told what it did say.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

import ncc
from ncc.formats.importers.tensors.attention import additive
from ncc.formats.importers.tensors.contraction import linear, matmul
from ncc.formats.importers.tensors.elementwise import concatenated, softmax
from ncc.formats.importers.tensors.net import Neurons, Tensor, TensorNet, Weights
from ncc.formats.importers.tensors.recurrent import Cell, lstm_step, unrolled
from ncc.passes.graph.order import order

STEPS, SYMBOLS, HIDDEN = 6, 5, 16
HOW = {"loss": "bce", "optimizer": "adam", "lr": 0.005, "batch": 32, "epochs": 12, "seed": 1,
       "init": "xavier"}
ENOUGH = 0.95  # of the sequences have to be right to the last symbol

Numbers = NDArray[np.int64]


def net(steps: int = STEPS, symbols: int = SYMBOLS, hidden: int = HIDDEN) -> ncc.Net:
    """Inputs: `steps` one-hot rows of what is to be reversed, and as many of what was said before;
    the outputs are as many rows of logits."""
    made = TensorNet()
    source, said = made.input("source", (steps, symbols)), made.input("said", (steps, symbols))

    def fresh(name: str, *shape: int) -> Weights:
        return made.parameter(name, np.full(shape, np.nan))

    def cell(name: str) -> Cell:
        return Cell(fresh(f"{name}.w_x", 4 * hidden, symbols),
                    fresh(f"{name}.w_h", 4 * hidden, hidden), fresh(f"{name}.b", 4 * hidden))

    read, h, c = unrolled(made, source, cell("encoder"), lstm_step())
    states, _, _ = unrolled(made, said, cell("decoder"), lstm_step(), h, c)

    def mapped(x: Tensor, name: str, width: int, bias: bool = True) -> Tensor:
        return linear(made, x, fresh(f"{name}.weight", width, x.shape[-1]),
                      fresh(f"{name}.bias", width) if bias else None)

    queries, keys = mapped(states, "query", hidden), mapped(read, "key", hidden, False)
    assert isinstance(queries, Neurons) and isinstance(keys, Neurons)
    scores = additive(made, queries, keys, fresh("score", hidden))
    seen = matmul(made, softmax(made, scores), read)
    y = mapped(concatenated(made, [states, seen], 1), "out", symbols)
    built = made.graph([("y", y)])
    return ncc.Net(order(built.graph), {name: (held, np.full(held.shape, np.nan))
                                  for name, held in built.slots.items()})


def one_hot(numbers: Numbers) -> NDArray[np.float64]:
    """(n, steps) to (n, steps * symbols); a number below 0 is a row of zeros."""
    rows = np.eye(SYMBOLS)[numbers] * (numbers >= 0)[..., None]
    return rows.reshape(len(numbers), -1)


def sequences(count: int, seed: int) -> Numbers:
    return np.random.default_rng(seed).integers(SYMBOLS, size=(count, STEPS))


def inputs(source: Numbers, said: Numbers) -> NDArray[np.float64]:
    """Of each sequence, with what was said of it: at a step the decoder is told the step before."""
    before = np.concatenate([np.full((len(said), 1), -1), said[:, :-1]], axis=1)
    return np.concatenate([one_hot(source), one_hot(before)], axis=1)


def answers(fn: ncc.Compiled, source: Numbers) -> Numbers:
    """What the net says, symbol by symbol."""
    said = np.full(source.shape, -1)
    for step in range(STEPS):
        logits = fn(inputs(source, said)).reshape(len(source), STEPS, SYMBOLS)
        said[:, step] = logits[:, step].argmax(axis=1)
    return said


def main() -> None:
    made = net()
    print(f"{made.n_neurons:,} neurons, {made.n_edges:,} edges, {made.n_params:,} parameters")
    source = sequences(4000, 1)
    target = source[:, ::-1]
    fn, _ = ncc.fit(made, inputs(source, target), one_hot(target), **HOW)
    held_out = sequences(500, 2)
    said = answers(fn, held_out)
    print("".join(map(str, held_out[0])), "backwards is", "".join(map(str, said[0])))
    share = float((said == held_out[:, ::-1]).all(axis=1).mean())
    print(f"held-out sequences reversed without a fault: {share:.3f}")
    if share < ENOUGH:
        sys.exit("it has learnt too little")


if __name__ == "__main__":
    main()
