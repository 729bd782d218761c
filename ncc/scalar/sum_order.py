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
               first whole BLOCK[dtype]s of edges of those rows of a sum or a mean that stand in
               whole BLOCK[dtype]s of rows with one leader.

**Slots.** The sum of a chunk of a slot is that of its edges, added in the order of the canonical
vector: by target neuron, in-list, and the bias last. Chunk by chunk it is then added to dparams:
((dparams + c0) + c1) + ... So threads take whole chunks, and calls for whole chunks one after
another give what one call gives. A single sample is a batch of one. The losses of a batch are
summed like the gradient of a bias, those of a sample in the order of the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.scalar.numpy_eval import Numpy

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

CHUNK = 128  # samples; whole rounds of any dtype, and of any machine's
ROUND = {"f32": 32, "f64": 16}  # samples
CHAIN = 4  # samples
BLOCK = {"f32": 16, "f64": 8}  # rows, and edges
PART = 1 << 18  # edges that are looked at together: their arrays stay in the cache


def leaders(starts: Longs, sources: Ints, activations: Ints, aggregations: NDArray[Any],
            alive: Ints) -> Longs:
    """For each neuron of `alive`, the position in it of the first one that has the same in-list,
    activation and aggregation: itself, where there is none before.

    In-lists are told apart by a 64-bit polynomial hash, and equal ones compared: O(W)."""
    lengths = np.diff(starts)[alive]
    begins = starts[:-1][alive]
    powers = np.cumprod(np.full(int(lengths.max(initial=0)) + 1, 0x9E3779B97F4A7C15, np.uint64))
    hashes = np.empty(len(alive), np.uint64)
    for part in parts(lengths):
        k = counted(lengths[part])
        read = sources[np.repeat(begins[part], lengths[part]) + k]
        mixed = (read.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD6E8FEB86659FD93)
        mixed ^= mixed >> np.uint64(32)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed * powers[k])])
        ends = np.cumsum(lengths[part])
        hashes[part] = sums[ends] - sums[ends - lengths[part]]
    keys = (hashes, lengths, activations[alive], aggregations[alive])
    order = np.lexsort((np.arange(len(alive)), *keys))
    new = np.ones(len(alive), bool)
    new[1:] = False
    for key in keys:
        new[1:] |= key[order[1:]] != key[order[:-1]]
    first = np.empty(len(alive), np.int64)
    first[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(alive)), 0))]
    later = np.flatnonzero(first != np.arange(len(alive)))
    for part in parts(lengths[later]):
        mine, n = later[part], lengths[later[part]]
        k = counted(n)
        same = (sources[np.repeat(begins[mine], n) + k]
                == sources[np.repeat(begins[first[mine]], n) + k])
        apart = mine[np.repeat(np.arange(len(mine)), n)[~same]]
        first[apart] = apart
    return first


def counted(lengths: Longs) -> Longs:
    """0, 1, ... for each of `lengths`, one after another."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)


def parts(lengths: Longs) -> Iterator[slice]:
    """Stretches of rows of about PART edges, so that what is computed of each edge stays small."""
    ends = np.cumsum(lengths)
    cuts = np.searchsorted(ends, np.arange(PART, ends[-1] if len(ends) else 0, PART))
    bounds = np.unique([0, *cuts.tolist(), len(lengths)]).tolist()
    return starmap(slice, pairwise(bounds))


def in_order(first: Longs, fan_in: Longs, additive: NDArray[np.bool_], block: int) -> Longs:
    """Of how many edges of each row, from the first on, a round's products are summed up in order.

    `first` are the rows' leaders: any number that those of one leader share and no others have,
    rows that share one in the order of rows; `additive` says which are sums or means; `block` is
    BLOCK of the dtype."""
    _, group, counts = np.unique(first, return_inverse=True, return_counts=True)
    by = np.argsort(group, kind="stable")
    rank = np.empty(len(first), np.int64)
    rank[by] = counted(counts)
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
