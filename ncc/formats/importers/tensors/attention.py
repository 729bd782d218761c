"""Attention: scores of queries and keys, softmax, sums of values."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.formats.importers.tensors.contraction import dot, matmul
from ncc.formats.importers.tensors.elementwise import binary, exponentials, softmax
from ncc.formats.importers.tensors.net import ABSENT, Neurons, Tensor, TensorNet, Weights


def attention(net: TensorNet, q: Neurons, k: Neurons, v: Tensor, *, scale: float,
              mask: NDArray[Any] | None = None) -> Tensor:
    """softmax(scale q k^T + mask) v, for q (..., t, d), k (..., s, d), v (..., s, e).

    mask    real (t, s) or what broadcasts to it, added to the scores: where it is -inf the key
            takes no part, so that causal attention has half of the products

    ValueError for a query to which no key is left.
    """
    t, s = q.shape[-2], k.shape[-2]
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    added = np.zeros((*lead, t, s)) if mask is None else np.broadcast_to(mask, (*lead, t, s))
    here = added != -np.inf
    if not here.any(axis=-1).all():
        raise ValueError("a mask leaves a query without keys")
    left = np.broadcast_to(q.ids[..., :, None, :], (*lead, t, s, q.shape[-1]))[here]
    right = np.broadcast_to(k.ids[..., None, :, :], (*lead, t, s, q.shape[-1]))[here]
    scores: Tensor = dot(net, left, right, scale)
    if added[here].any():
        scores = binary(net, "add", scores, Weights(added[here]))
    assert isinstance(scores, Neurons)
    ids = np.full(here.shape, ABSENT, np.int32)
    ids[here] = scores.ids
    if here.sum() <= prod(lead) * t * v.shape[-1]:
        return matmul(net, softmax(net, Neurons(ids)), v)
    raised, total = exponentials(net, Neurons(ids))  # fewer sums than shares: these are divided
    return binary(net, "div", matmul(net, raised, v), total)


def additive(net: TensorNet, q: Neurons, k: Neurons, scale: Weights) -> Neurons:
    """Scores (t, s) of queries (t, d) and keys (s, d): sums of scale (d) times tanh(q + k)
    (Bahdanau et al. 2015)."""
    t, s, d = q.shape[0], k.shape[0], q.shape[-1]
    left = np.broadcast_to(q.ids[:, None], (t, s, d))
    right = np.broadcast_to(k.ids[None], (t, s, d))
    met = net.sum_of(np.stack([left, right], axis=-1), activation="tanh")
    return net.sum_of(met.ids, np.broadcast_to(net.codes(scale), (t, s, d)), unit=False)
