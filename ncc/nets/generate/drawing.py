"""Edges drawn at random, without replacement, in memory of their number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import Longs


def drawn(rng: np.random.Generator, choices: NDArray[Any], count: int) -> tuple[Longs, Longs]:
    """How many sources each row has (rows), and the sources (edges), ascending within a row.

    Row r draws of 0 .. choices[r] - 1; in all `count` (row, source) are drawn, at least one of each
    row and at most all; beyond the one, all that are left are equally likely."""
    first = csr.starts(choices)
    rows = len(choices)
    count = min(max(count, rows), int(first[-1]))
    ones = first[:-1] + rng.integers(choices)
    # The k-th cell that is none of `ones` lies as many behind k as there are of these before it.
    others = distinct(rng, int(first[-1]) - rows, count - rows)
    others = others + np.searchsorted(ones - np.arange(rows), others, side="right")
    cells = np.sort(np.concatenate([ones, others]))
    owner = np.searchsorted(first, cells, side="right") - 1
    return np.bincount(owner, minlength=rows), cells - first[owner]


def distinct(rng: np.random.Generator, total: int, count: int) -> Longs:
    """`count` different numbers of 0 .. total - 1, ascending, every such set equally likely."""
    if 2 * count > total:
        left = np.ones(total, np.bool_)
        left[distinct(rng, total, total - count)] = False
        return np.flatnonzero(left)
    found = np.zeros(0, np.int64)
    while len(found) < count:
        more = rng.integers(total, size=(count - len(found)) * 5 // 4 + 8)
        found = np.unique(np.concatenate([found, more]))
    chosen = rng.permutation(len(found))[:count]
    made: Longs = np.sort(found[chosen])
    return made
