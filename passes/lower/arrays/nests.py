"""Loop nests that are recovered from arrays: rows whose numbers ascend evenly are a loop, and need
no arrays of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import Longs
from ncc.ir.ssa_build import Builder

DEPTH = 3  # loops of a nest at the most
LESS = 2  # times fewer ranges than rows make a loop of its own
LITTLE = 4  # times fewer numbers than there were
FEW = 128  # rows: the arrays of fewer are short


class Nest(NamedTuple):
    """Rows, group by group, as nests of loops: of each nest the numbers of its first row, and what
    each loop's iteration adds to them.

    names           of the numbers
    first   (Q, K)  the numbers of the first row of each nest
    counts  (D, Q)  the iterations of each of its loops, the innermost first
    steps   (D, Q, K)
    groups  (G+1)   where the nests of each group begin
    """

    names: tuple[str, ...]
    first: Longs
    counts: Longs
    steps: Longs
    groups: Longs

    @property
    def cells(self) -> int:
        """How many numbers are kept, if each is."""
        return self.first.size + self.counts.size + self.steps.size


def nest_of(columns: Mapping[str, NDArray[Any]], groups: Longs, depth: int = DEPTH) -> Nest:
    """The nests of rows whose numbers are `columns` (n each), by name; `groups` (G+1): where the
    rows of each group begin. At most `depth` loops: of 0 each row is a nest, as in plain arrays.

        7 8 9 17 18 19 27 28 29  =>  first 7, counts 3 and 3, steps 1 and 10
    """
    rows = [np.asarray(column, np.int64) if column.dtype == np.bool_ else column
            for column in columns.values()]
    groups = np.asarray(groups, np.int64)
    n, width = len(rows[0]), len(rows)
    counts, steps = np.ones((0, n), np.int64), np.zeros((0, n, width), np.int64)
    for _ in range(depth):
        # Loops within are alike in all iterations of the one around them.
        within = csr.borders(*counts, *[c for step in steps for c in step.T]
                             ) if len(counts) else groups
        inner = groups[:-1][np.diff(groups) > 0]
        begins = csr.even(rows, np.unique(np.concatenate([inner, within[within < n]])))
        if LESS * len(begins) > n:
            break
        count = np.diff(np.append(begins, n))
        step = np.zeros((len(begins), width), np.int64)
        more = count > 1
        after = begins[more] + 1
        for k, column in enumerate(rows):
            step[more, k] = column[after] - column[after - 1].astype(np.int64)
        groups = np.searchsorted(begins, groups)
        rows, n = [column[begins] for column in rows], len(begins)
        counts = np.concatenate([counts[:, begins], count[None]])
        steps = np.concatenate([steps[:, begins], step[None]])
    first = np.stack([np.asarray(column, np.int64) for column in rows], axis=1)
    return Nest(tuple(columns), first, counts, steps, groups)


def saving(columns: Mapping[str, NDArray[Any]], groups: Longs) -> Nest:
    """`nest_of` these, without loops where they save less than three quarters of the numbers."""
    nest = nest_of(columns, groups)
    numbers = len(next(iter(columns.values()))) * len(columns)
    return nest if LITTLE * nest.cells <= numbers else nest_of(columns, groups, 0)


class Row(NamedTuple):
    """The row that open loops of a walk are at: its nest, and how far each loop is (ops); `chosen`:
    the nests that it may be of; `carried`: the carries of these loops."""

    walk: Walk
    nest: int
    at: dict[int, int]
    chosen: Longs
    carried: tuple[int, ...] = ()

    def number(self, b: Builder, name: str, offset: int = 0) -> int:
        """The number of this name of the row, or of that `offset` rows on in the innermost loop."""
        walk, nest = self.walk, self.walk.nest
        k = nest.names.index(name)
        found = walk.cell(b, name, nest.first[:, k], self.nest, self.chosen)
        for loop, at in self.at.items():
            more = self.chosen[nest.counts[loop][self.chosen] > 1]
            if not nest.steps[loop][more, k].any():
                continue
            step = walk.cell(b, f"{name}_step_{loop}", nest.steps[loop][:, k], self.nest, more)
            found = b.op("iadd", found, b.op("imul", at, step))
            if loop == 0 and offset:
                found = b.op("iadd", found, b.op("imul", step, b.index(offset)))
        return found


class Walk:
    """The loops over the rows of nests, group by group; `table` adds an array of integers to the
    module: its name there, of its name here."""

    def __init__(self, nest: Nest, table: Callable[[str, Any], str]) -> None:
        self.nest = nest
        self.table = table

    def cell(self, b: Builder, name: str, values: Longs, nest: int, chosen: Longs) -> int:
        """The element of `values` (Q) of this nest, which is one of the `chosen`."""
        some = values[chosen]
        if len(some) and (some == some[0]).all():
            return b.index(int(some[0]))
        return b.load(self.table(name, values), 0, nest)

    def open(self, b: Builder, group: int, mine: NDArray[np.bool_], name: str, width: int = 1,
             rest: bool = False, around: dict[int, int] | None = None, last_first: bool = False,
             carries: tuple[int, ...] = ()) -> tuple[int, Row]:
        """Open loops over the rows of a group, if it is one of `mine` (G), whose arrays have `name`
        in theirs: `width` rows of the innermost loop at a time, or the `rest`, which are left
        then, one by one; or one by one from the last on. How many loops they are, and the row, or
        the first of so many. Loops of the nest that are open `around` it (how far each is, by its
        number) go on; each of the others has these `carries`."""
        nest = self.nest
        assert width == 1 or len(nest.counts) > 0 and not last_first
        many = np.where(mine, np.diff(nest.groups), 0)
        chosen = np.flatnonzero(np.repeat(mine, np.diff(nest.groups)))
        every = np.arange(len(many))
        end = self.cell(b, f"nests_{name}", many, group, every)
        q, *carried = _loop(b, b.index(0), end, last_first, carries)
        q = b.op("iadd", self.cell(b, "nests", nest.groups[:-1], group, every), q)
        at = dict(around or {})
        before = len(at)
        for loop in reversed(range(len(nest.counts))):
            counts = nest.counts[loop]
            if loop in at or ((counts[chosen] == 1).all() and (loop > 0 or width == 1)):
                continue
            begin, end = b.index(0), self.cell(b, f"count_{loop}", counts, q, chosen)
            if loop == 0 and width > 1:
                whole = counts // width
                rounds = self.cell(b, f"rounds_{width}", whole, q, chosen)
                begin, end = ((b.op("imul", rounds, b.index(width)), end) if rest
                              else (begin, rounds))
            k, *carried = _loop(b, begin, end, last_first, carried)
            at[loop] = b.op("imul", k, b.index(width)) if loop == 0 and not rest else k
        return 1 + len(at) - before, Row(self, q, at, chosen, tuple(carried))


def _loop(b: Builder, begin: int, end: int, last_first: bool, carries: Iterable[int]) -> list[int]:
    """Open a loop from begin up to end-1, or from 0 up, in which the number is from the last on:
    this number, then the carries."""
    k, *carried = b.loop(begin, end, carries)
    if last_first:
        k = b.op("iadd", b.op("imul", k, b.index(-1)), b.op("iadd", end, b.index(-1)))
    return [k, *carried]
