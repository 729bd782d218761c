"""The gradients of parameters that stand at several edges: sums of elements of `gradient`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import Ints, Longs
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.arrays.nests import Nest, Walk, saving

NARROW = 4  # lanes: fewer are not worth their while
VECTORS = 2  # at a time: sums that do not wait for one another
SOME = 16  # of so many parameters one or more go by vectors that have a loop of their own


class Tied(NamedTuple):
    """Parameters that have several elements each, `wide` neighbours or a multiple at a time, whose
    elements are neighbours, too. Elements of one are often as far apart as those of another, which
    then is on the same list.

    lists   by list: how far each `element` of a parameter is from its first
    ranges  by list: ranges of neighbours: the first `param`, its `first` element, and of how many
            times `wide` it is the first (`rounds`), unless that is 1
    """

    wide: int
    lists: Nest
    ranges: Nest


def tied_of(params: Ints | Longs, elements: Ints | Longs, counts: Longs, native: int
            ) -> list[Tied]:
    """`counts` (n) elements of each of `params` (n), which ascend, one parameter after another, in
    the order in which they are added, for vectors of so many lanes.

        0 1 2 3 4, 5 25 6 26 7 27 8 28 1 9, 2 2 2 2 2  =>  4 wide: list 0 20, range 0 from 5 on;
        1 wide: list 0 8, range 4 from 1 on
    """
    starts = csr.starts(counts)
    first = elements[starts[:-1]]
    apart = elements - np.repeat(first, counts)
    of = csr.representatives(starts, apart.astype(np.int32), np.arange(len(params)))
    order = np.argsort(of, kind="stable")
    params, first, of = params[order], first[order], of[order]
    number = np.arange(len(params))
    borders = csr.borders(params - number, first - number, of)
    begins: Longs = borders[:-1]
    left, made = np.diff(borders), []
    for wide in _widths(native):
        if wide == 1:
            begins = csr.ranges(begins, left)
            left = np.ones_like(begins)
        rounds = left // wide
        if not rounds.any() or wide > 1 and len(params) > SOME * wide * rounds.sum():
            continue
        at = begins[rounds > 0]
        columns = {"param": params[at], "first": first[at]}
        if rounds.max() > 1:
            columns["rounds"] = rounds[rounds > 0]
        kept = np.unique(of[at])
        lists = saving({"element": apart[csr.ranges(starts[kept], counts[kept])]},
                       csr.starts(counts[kept]))
        groups = np.append(np.searchsorted(of[at], kept), len(at))
        made.append(Tied(wide, lists, saving(columns, groups)))
        begins, left = begins + rounds * wide, left - rounds * wide
    return made


def _widths(native: int) -> list[int]:
    """How many parameters may go at a time, the most first."""
    widths = [VECTORS * native >> k for k in range((VECTORS * native // NARROW).bit_length())]
    return [*(widths if native > 1 else []), 1]


def add_tied(b: Builder, tied: Tied, table: Callable[[str, Any], str], to: str) -> None:
    """Add to each of these parameters' elements of `to` the sum of its elements of `gradient`."""
    lists = Walk(tied.lists, lambda name, values: table(f"tied_lists_{name}", values))
    ranges = Walk(tied.ranges, lambda name, values: table(f"tied_{name}", values))
    mine, wide = np.ones(len(tied.lists.groups) - 1, np.bool_), tied.wide
    k = b.loop(b.index(0), b.index(len(mine)))[0]
    loops, row = ranges.open(b, k, mine, "all")
    first, param = row.number(b, "first"), row.number(b, "param")
    if wide > 1:
        if "rounds" in ranges.nest.names:
            turn = b.op("imul", b.loop(b.index(0), row.number(b, "rounds"))[0], b.index(wide))
            first, param, loops = b.op("iadd", first, turn), b.op("iadd", param, turn), loops + 1
        lane = b.loop(b.index(0), b.index(wide), lanes=wide)[0]
        first, param, loops = b.op("iadd", lane, first), b.op("iadd", lane, param), loops + 1
    within, element = lists.open(b, k, mine, "all", carries=(b.const(0.0),))
    at = b.op("iadd", first, element.number(b, "element"))
    total = b.op("add", element.carried[0], b.load("gradient", 0, at))
    for _ in range(within):
        (total,) = b.close(total)
    b.store(b.op("add", b.load(to, 0, param), total), to, 0, param)
    for _ in range(loops + 1):
        b.close()
