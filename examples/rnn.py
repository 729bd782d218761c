"""A recurrent net, unrolled with tied weights, remembers: the adding problem.

    python examples/rnn.py

At each of 16 steps the net reads a number drawn from 0..1 and a mark, which is 1 at two steps and
0 at all others; what it has to say at the end is the sum of the two marked numbers (Hochreiter and
Schmidhuber 1997). The last step is never marked, so that it tells nothing: the mean squared error
of a net without memory, which sees no more than that step, is at least the variance of the sum,
1/6. Beside the net such a net is trained, the same without the edges from state to state.

The shape is that of rnn_2x3_h4.nam, longer and wider: each step's state reads that step's inputs
and the state before, by the same weights at every step; the output reads the last state.
--save and --check: see lesson.py.
"""

from __future__ import annotations

import numpy as np
from lesson import Lesson
from numpy.typing import NDArray

import ncc

STEPS = 16
HIDDEN = 16
ENOUGH = 0.1  # of the variance of what is to be said: the error that is left

Table = NDArray[np.float64]


def nal(steps: int, hidden: int, outputs: int = 1, *, memory: bool = True) -> str:
    """Two inputs a step, step by step, then the states, then the outputs. Into state neuron k lead
    the weights u0_k, u1_k of the inputs and v0_k, v1_k, ... of the state before."""
    first = 2 * steps
    last = first + steps * hidden
    count = last + outputs
    named = ",".join(f"{j:x}" for j in range(last, count))
    lines = [f"N {count:x}", f"out {named}", *[f"{j:x}" for j in range(first)]]
    for step in range(steps):
        before = first + (step - 1) * hidden
        for k in range(hidden):
            edges = [f"{2 * step + i:x}@u{i}_{k}" for i in range(2)]
            if step and memory:
                edges += [f"{before + i:x}@v{i}_{k}" for i in range(hidden)]
            lines.append(f"{before + hidden + k:x} tanh {','.join(edges)} +@b{k}")
    state = ",".join(f"{j:x}" for j in range(last - hidden, last))
    lines += [f"{j:x} identity {state} +" for j in range(last, count)]
    return "\n".join(lines) + "\n"


def sequences(count: int, steps: int, seed: int) -> tuple[Table, Table]:
    """x (count, 2 steps): number and mark of each step; y (count, 1): the sum to be said."""
    rng = np.random.default_rng(seed)
    numbers, marks = rng.random((count, steps)), np.zeros((count, steps))
    where = rng.random((count, steps - 1)).argsort(axis=1)[:, :2]
    np.put_along_axis(marks, where, 1, axis=1)
    x = np.stack([numbers, marks], axis=2).reshape(count, 2 * steps)
    return x, (numbers * marks).sum(axis=1, keepdims=True)


def lesson() -> Lesson:
    x, y = sequences(8000, STEPS, seed=1)
    how = {"loss": "mse", "optimizer": "adam", "lr": 0.003, "batch": 32, "epochs": 30, "seed": 1,
           "init": "xavier"}

    def report(fn: ncc.Compiled) -> bool:
        net = ncc.parse(nal(STEPS, HIDDEN))
        print(f"{STEPS} steps, a state of {HIDDEN}: {net.n_edges:,} edges, {net.n_params} "
              "parameters")
        held_x, held_y = sequences(2000, STEPS, seed=2)

        def error(which: ncc.Compiled) -> float:
            return float(((which(held_x) - held_y) ** 2).mean())

        without, _ = ncc.fit(ncc.parse(nal(STEPS, HIDDEN, memory=False)), x, y, **how)
        found = error(fn)
        print(f"held-out mean squared error  {found:.4f}")
        print(f"of the same without memory  {error(without):.4f}, as no such net is "
              f"below {held_y.var():.4f}")
        return found <= ENOUGH * held_y.var()

    return Lesson("rnn", nal(STEPS, HIDDEN), x, y, how, report)


if __name__ == "__main__":
    lesson().main()
