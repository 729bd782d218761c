"""Nets of layers, drawn at random: what to start from where nobody gave a net."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import INPUT, NONE, Graph, Ints
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
    firsts = np.cumsum([0, *widths])
    count, inputs = int(firsts[-1]), widths[0]
    sources: list[Ints] = []
    fans = [np.zeros(inputs, np.int64)]
    for k in range(1, len(widths)):
        before, width = widths[k - 1], widths[k]
        fan = before if k == len(widths) - 1 else max(1, round(density * before))
        rows = np.tile(np.arange(before), (width, 1))
        if fan < before:
            rows = np.sort(random.permuted(rows, axis=1)[:, :fan], axis=1)
        sources.append((rows + firsts[k - 1]).astype(np.int32).ravel())
        fans.append(np.full(width, fan, np.int64))
    fan_in = np.concatenate(fans)
    starts = csr.starts(fan_in)
    targets = csr.owners(starts)
    # Slots by target: its edges, then its bias. So each neuron before shifts them by one.
    ahead = np.maximum(np.arange(count) - inputs, 0)
    biases = np.where(np.arange(count) < inputs, NONE, starts[1:] + ahead)
    activations = np.full(count, code)
    activations[:inputs] = INPUT
    activations[firsts[-2] :] = 0
    return Net(order(Graph(
        starts=starts, sources=np.concatenate(sources),
        weights=(np.arange(starts[-1]) + ahead[targets]).astype(np.int32),
        biases=biases.astype(np.int32), activations=activations.astype(np.int32),
        aggregations=np.zeros(count, np.int8), inputs=np.arange(inputs, dtype=np.int32),
        outputs=np.arange(firsts[-2], count, dtype=np.int32),
        values=np.full(int(starts[-1]) + count - inputs, np.nan), constants=np.zeros(0))))
