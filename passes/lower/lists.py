"""The in-lists of a plan's blocks, as the arrays that loops read: lists that repeat stand once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import Ints, Longs
from ncc.ir.plan import Plan

PART = 1024  # rows that are looked at together
MANY = 16  # lists: fewer are short


class Lists(NamedTuple):
    """The slots that blocks read: those of block b are `sources` from starts[b] on, up to ends[b],
    each with bases[b] added. Without `bases` nothing is, and `starts` has one more than there are
    blocks: the sources of a block that has its own end where the next begins."""

    sources: Ints
    starts: Longs
    ends: Longs
    bases: Ints | None


def lists_of(plan: Plan, slots: Ints) -> Lists:
    """The lists of a plan whose neurons have these slots. Blocks that follow one another and read
    the same have one list. So have all, wherever they are, whose lists differ by what is added to
    each source, where they are many: the positions of a convolution, the steps of an RNN, the heads
    and rows of attention.

        slots 0 1 2, 1 2 3, 5 6 7  =>  sources 0 1 2, starts 0 0 0, bases 0 1 5
    """
    leader = plan.blocks[:-1]
    lengths = np.diff(plan.starts)[leader]
    fresh = _fresh(plan, leader, lengths)
    sources = _sources(plan, slots, leader[fresh], lengths[fresh])
    repeated = csr.repeated(lengths[fresh], sources) if fresh.sum() >= MANY else None
    if repeated is None:
        ends = np.cumsum(np.where(fresh, lengths, 0))
        return Lists(sources, np.append(ends - lengths, ends[-1:]), ends, None)
    begins, bases, sources = repeated
    of = np.cumsum(fresh) - 1
    return Lists(sources, begins[of], begins[of] + lengths, bases[of])


def _sources(plan: Plan, slots: Ints, rows: Longs, lengths: Longs) -> Ints:
    """The slots that these rows read, one row after another; a part of them at a time, as what is
    computed on the way takes many times the memory."""
    ends = np.cumsum(lengths)
    found = np.empty(lengths.sum(), np.int32)
    for part in range(0, len(rows), PART):
        n, end = lengths[part : part + PART], ends[part : part + PART]
        at = csr.ranges(plan.starts[rows[part : part + PART]], n)
        found[end[0] - n[0] : end[-1]] = slots[plan.graph.sources[plan.edges[at]]]
    return found


def _fresh(plan: Plan, leader: Longs, lengths: Longs) -> NDArray[np.bool_]:
    """Which blocks read other sources than the block before."""
    fresh = np.ones(len(leader), np.bool_)
    wide = np.flatnonzero((plan.sizes[1:] > 1) & (plan.sizes[:-1] > 1)
                          & (lengths[1:] == lengths[:-1])) + 1
    if not len(wide):
        return fresh
    count = lengths[wide]
    sources = plan.graph.sources[plan.edges]
    here = sources[csr.ranges(plan.starts[leader[wide]], count)]
    before = sources[csr.ranges(plan.starts[leader[wide - 1]], count)]
    differs = np.zeros(len(leader), np.bool_)
    differs[np.repeat(wide, count)[here != before]] = True
    fresh[wide] = differs[wide]
    return fresh


def once(plan: Plan, lists: Lists, segments: Longs, count: int) -> Longs:
    """Of each segment (a row of `segments`) of rows by themselves: 1 where each `count` that go
    together have one list of weights, 2 where they have one of sources, but for their bases; or
    both."""
    found = np.zeros(len(segments), np.int64)
    first, last = segments[:, 0], segments[:, 1]
    rounds = np.where(segments[:, 2] == 1, (last - first) // count, 0)
    chunks = np.repeat(first, rounds) + csr.within(rounds) * count
    for bit, begins, shared in ((1, plan.weights, plan.shares),
                                (2, lists.starts, lists.bases is not None)):
        if shared:
            at = begins[chunks[:, None] + np.arange(count)]
            other = np.repeat(np.arange(len(first)), rounds)[(at != at[:, :1]).any(axis=1)]
            alike = rounds > 0
            alike[other] = False
            found += bit * alike
    return found
