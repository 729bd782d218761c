"""Nets of layers, drawn at random: what to start from where nobody gave a net."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ncc.nets.generate.draft import Draft
from ncc.nets.net import Net
from ncc.passes.graph.order import order
from ncc.scalar.activations import code_of


def layers(widths: Sequence[int], *, activation: str = "tanh", density: float = 1.0,
           seed: int = 0) -> Net:
    """widths[0] inputs, hidden layers of `activation`, widths[-1] outputs without one.

    A hidden neuron has a bias and reads `density` of the layer before: as many of its neurons
    (rounded, one at least) as any other, drawn without replacement, in ascending order. An output
    has a bias and reads all of it. Parameters have no values. O(neurons + edges + the widest layer
    times the next).

    ValueError for an activation that is not built in, a density not in 0 .. 1, or a width below 1.
    """
    code = code_of(activation)
    if code is None:
        raise ValueError(f"unknown activation {activation!r}")
    if not 0 < density <= 1:
        raise ValueError(f"density is {density}, not above 0 and at most 1")
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths are {list(widths)}: inputs and outputs, each 1 or more, are "
                         "wanted")
    random = np.random.default_rng(seed)
    draft = Draft()
    first = draft.inputs(widths[0])
    for k in range(1, len(widths)):
        before, width = widths[k - 1], widths[k]
        last = k == len(widths) - 1
        fan = before if last else max(1, round(density * before))
        rows = np.tile(np.arange(before), (width, 1))
        if fan < before:
            rows = np.sort(random.permuted(rows, axis=1)[:, :fan], axis=1)
        first = draft.layer(np.full(width, fan), (rows + first).ravel(), 0 if last else code,
                            biases=True)
    return Net(order(draft.graph(widths[-1])))
