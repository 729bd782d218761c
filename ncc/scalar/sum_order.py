"""The one order of every sum of a gradient, whatever computes it.

dx, dparams and training steps have the same bits in every form, on every target, for any number of
threads, recomputed or not, under `strict` and `fused` (`fast` may take any order): all of them add
in the order that stands here, which is a function of the graph (as `prune` leaves it) and of the
dtype alone. A term is a product and a sum: one fused multiply-add under `fused`, two operations
under `strict`.

**Rows** are the neurons that are computed, sorted by level, activation, aggregation, fan-in,
leader and index; the leader of a neuron is the first one with the same in-list, activation and
aggregation.

**The adjoint of a value** is one chain. It begins with the seeds of the outputs that it is, in the
order of the outputs, and goes on with its readers, in descending order of rows and, where an
in-list holds it twice, from the end of the list: acc + part * weight. The first term stands as it
is (a product is rounded), and what has no term is +0.

**The gradient of a weight over a batch.** For each edge (and each bias, whose value is 1) the
products delta * value of CHUNK consecutive samples are summed up, starting from +0, round by
round, a round being ROUND[dtype] consecutive samples: cell = cell + sum of the round. Samples that
a round lacks count as +0. The sum of a round is

    by lanes   chains of CHAIN consecutive samples, which begin with a rounded product; the chains
               are added in pairs, the pairs in pairs, ... : ((c0+c1)+(c2+c3))+((c4+c5)+(c6+c7))
    in order   one chain over all its samples, which begins with a rounded product: for the edges of
               dense layers, where the rows, not the samples, are a vector's lanes. These are the
               first whole BLOCK[dtype]s of edges of those rows of a sum, wherever its bias is
               added, or a mean (SUMS of ncc/scalar/aggregations.py) that stand in
               whole BLOCK[dtype]s of rows with one leader.

**Slots.** The sum of a chunk of a slot is that of its edges, added in the order of the canonical
vector: by target neuron, in-list, and the bias last. Chunk by chunk it is then added to dparams:
((dparams + c0) + c1) + ... So threads take whole chunks, and calls for whole chunks one after
another give what one call gives. A single sample is a batch of one. The losses of a batch are
summed like the gradient of a bias, those of a sample in the order of the outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.scalar.numpy_eval import Numpy

Longs = NDArray[np.int64]

CHUNK = 128  # samples; whole rounds of any dtype, and of any machine's
ROUND = {"f32": 32, "f64": 16}  # samples
CHAIN = 4  # samples
BLOCK = {"f32": 16, "f64": 8}  # rows, and edges


def in_order(first: Longs, fan_in: Longs, additive: NDArray[np.bool_], block: int) -> Longs:
    """Of how many edges of each row, from the first on, a round's products are summed up in order.

    `first` are the rows' representatives (`csr.representatives`): any number that those of one
    share and no others have, rows that share one in the order of rows; `additive` says which are
    sums or means; `block` is BLOCK of the dtype."""
    _, group, counts = np.unique(first, return_inverse=True, return_counts=True)
    by = np.argsort(group, kind="stable")
    rank = np.empty(len(first), np.int64)
    rank[by] = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
    whole = additive & (rank < counts[group] // block * block)
    return np.where(whole, fan_in // block * block, 0)


def by_lanes(e: Numpy, x: NDArray[Any], y: NDArray[Any], total: Any) -> NDArray[Any]:
    """total, and round by round the sum over the first axis, which is samples, of x*y."""
    width = ROUND[e.dtype]
    for first in range(0, len(x), width):
        some, other = _filled(x[first : first + width]), _filled(y[first : first + width])
        sums = e.op("mul", some[0], other[0])
        for p in range(1, CHAIN):
            sums = term(e, some[p], other[p], sums)
        count = width // CHAIN
        sums = np.concatenate([sums, np.zeros((count - len(sums), *sums.shape[1:]), e.real)])
        while len(sums) > 1:
            sums = e.op("add", sums[::2], sums[1::2])
        total = e.op("add", total, sums[0])
    return np.asarray(total)


def one_by_one(e: Numpy, x: NDArray[Any], y: NDArray[Any], total: Any) -> NDArray[Any]:
    """The same, each round's sum being one chain over its samples."""
    width = ROUND[e.dtype]
    for first in range(0, len(x), width):
        last = min(first + width, len(x))
        sums = e.op("mul", x[first], y[first])
        for s in range(first + 1, last):
            sums = term(e, x[s], y[s], sums)
        total = e.op("add", total, sums)
    return np.asarray(total)


def term(e: Numpy, x: NDArray[Any], y: NDArray[Any], total: NDArray[Any]) -> NDArray[Any]:
    """total + x*y."""
    made: NDArray[Any] = (e.op("fma", x, y, total) if e.fused
                          else e.op("add", total, e.op("mul", x, y)))
    return made


def _filled(x: NDArray[Any]) -> list[NDArray[Any]]:
    """The first samples of the chains, the second ones, ..., +0 where the last chain lacks any."""
    lacks = -len(x) % CHAIN
    whole = np.concatenate([x, np.zeros((lacks, *x.shape[1:]), x.dtype)]) if lacks else x
    return [whole[p::CHAIN] for p in range(CHAIN)]
