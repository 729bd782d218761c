"""`packed` from params, tile by tile: what `pack` and the training step have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import Longs
from ncc.ir.plan import Plan
from ncc.ir.ssa_build import Builder

STRIDES = 8  # loops over tiles, each for rows as far apart: a net of many such layers is rare


def copy_tiles(b: Builder, plan: Plan, n: int, table: Callable[[str, str, Any], str],
               least: int = 0) -> NDArray[np.bool_]:
    """Copy from params to `packed` where n rows that are packed together have their weights side by
    side and equally far apart, as in dense layers: tiles of n rows and n sources, transposed, where
    at least so many elements lie as far apart. Which elements of `packed` are left to be copied.

    `table` makes a constant array, and gives its name.
    """
    left: NDArray[np.bool_] = plan.packed >= 0
    strides, firsts, counts = _regular(plan, n)
    for stride in np.unique(strides[counts > 0]).tolist()[:STRIDES]:
        mine = np.flatnonzero((strides == stride) & (counts > 0))
        begins = plan.weights[mine]
        sizes = counts[mine] * n * n
        if sizes.sum() < least:
            continue
        for part in csr.parts(sizes):
            left[csr.ranges(begins[part], sizes[part])] = False
        q = b.loop(b.index(0), b.index(len(mine)))[0]
        taken = b.load(table(f"square_slots_{stride}", "i", firsts[mine]), 0, q)
        to = b.load(table(f"square_places_{stride}", "i", begins), 0, q)
        many = b.load(table(f"square_counts_{stride}", "i", counts[mine]), 0, q)
        j = b.loop(b.index(0), many)[0]
        row = b.loop(b.index(0), b.index(n), lanes=n)[0]
        at = b.op("iadd", b.op("imul", row, b.index(stride)),
                  b.op("iadd", taken, b.op("imul", j, b.index(n))))
        values = [b.load("params", k, at) for k in range(n)]
        at = b.op("iadd", row, b.op("iadd", to, b.op("imul", j, b.index(n * n))))
        for k, value in enumerate(values):
            b.store(value, "packed", k * n, at)
        for _ in range(3):
            b.close()
    return left


def _regular(plan: Plan, n: int) -> tuple[Longs, Longs, Longs]:
    """For each block of rows: how far its rows' weights lie apart in params, where the first one's
    begin, and how many tiles of n sources and n rows it has: 0 where it is not full, or its weights
    do not lie so."""
    strides, firsts, counts = np.zeros((3, len(plan.blocks) - 1), np.int64)
    if n == 1:
        return strides, firsts, counts
    full = np.flatnonzero((np.diff(plan.blocks) == n) & (plan.sizes == n)
                          & (np.diff(plan.starts)[plan.blocks[:-1]] >= n))
    full = full[np.sort(np.unique(plan.weights[full], return_index=True)[1])]
    broken = plan.broken()
    rows = plan.blocks[full, None] + np.arange(n)
    begins = plan.graph.weights[plan.edges[plan.starts[rows]]]
    even = ((np.diff(begins, 2, axis=1) == 0).all(axis=1) & (begins[:, 1] > begins[:, 0])
            & ~broken[rows].any(axis=1))
    chosen = full[even]
    strides[chosen], firsts[chosen] = (begins[:, 1] - begins[:, 0])[even], begins[even, 0]
    counts[chosen] = np.diff(plan.starts)[plan.blocks[chosen]] // n
    return strides, firsts, counts
