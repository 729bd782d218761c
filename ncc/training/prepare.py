"""Before a training of estimators: samples in an order of their own, biases that know classes."""

from __future__ import annotations

import numpy as np

from ncc.nets.net import Net
from ncc.runtime.compiled import Array

# Whole weights are repeated samples, where these are at most so many times the samples.
MOST_REPEATED = 16
LEAST_SHARE = 1e-4  # of a class in the biases that training starts from


def in_own_order(x: Array, y: Array, weights: Array | None) -> tuple[Array, Array, Array | None]:
    """The samples in an order of their own, whatever order they came in: by a hash of their bits.
    Whole weights become repeated samples, as long as these do not become too many."""
    if weights is not None:
        alive = weights > 0
        x, y, weights = x[alive], y[alive], weights[alive]
        if (weights == np.floor(weights)).all() and weights.sum() <= MOST_REPEATED * len(weights):
            count = weights.astype(np.intp)
            x, y, weights = np.repeat(x, count, axis=0), np.repeat(y, count, axis=0), None
    row = np.hstack([np.asarray(x, np.float64), np.asarray(y, np.float64).reshape(len(x), -1)])
    factors = np.random.default_rng(0).integers(1, 2**63, row.shape[1], np.uint64) * 2 + 1
    bits = np.ascontiguousarray(row + 0.0).view(np.uint64)  # -0 is 0
    keys = ((bits ^ (bits >> np.uint64(32))) * factors).sum(axis=1)
    order = np.argsort(keys ^ (keys >> np.uint64(29)), kind="stable")
    return x[order], y[order], None if weights is None else weights[order]


def with_prior(net: Net, numbers: Array, weights: Array | None) -> Net:
    """The biases of the outputs such that without features each class has its (weighted) share:
    what is rare, or counts for little, need not be unlearnt."""
    graph = net.graph
    if numbers.ndim > 1:
        shares = np.average(numbers, axis=0, weights=weights)
    else:
        counts = np.bincount(numbers, weights, max(2, len(graph.outputs)))
        shares = counts / counts.sum()
    shares = np.clip(shares, LEAST_SHARE, 1 - LEAST_SHARE)
    if numbers.ndim > 1 or len(graph.outputs) == 1:
        logits = np.log(shares / (1 - shares))[-len(graph.outputs):]
    else:
        logits = np.log(shares) - np.log(shares).mean()
    values = graph.values.copy()
    values[graph.biases[graph.outputs]] = logits
    return Net(graph.with_(values=values))
