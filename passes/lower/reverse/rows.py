"""The rows that the loops of a backward pass go through, one or some at a time, with the numbers of
each: from arrays or, where structure repeats, from loop nests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import PLAIN_SUM_CODES, Longs
from ncc.ir.plan import Plan
from ncc.passes.lower.arrays import nests
from ncc.passes.lower.arrays.nests import Walk, nest_of
from ncc.passes.lower.reverse.frame import Backward
from ncc.passes.lower.reverse.layout import Arrays, Flags

# The arrays that are indexed by a row's number in the order of the backward pass.
IN_ORDER = frozenset(("order_places", "reader_starts", "reader_counts", "reader_bases",
                      "weight_starts", "weight_bases", "reader_rounds", "reader_rests"))
SAVED = 4  # times fewer nests than rows are worth loops over nests

Table = Callable[[str, Any], str]


class Row(NamedTuple):
    """A row, or the first of some that follow one another: its number `r` among all rows and `k` in
    the order of the backward pass, which also numbers the inputs (ops); or where loops over nests
    have got to."""

    f: Backward
    r: int | None
    k: int | None
    nested: nests.Row | None = None

    def number(self, name: str, offset: int = 0) -> int:
        """Its number in the array of this name, or that of the row `offset` further on."""
        if self.nested is not None:
            return self.nested.number(self.f.b, name, offset)
        at = self.k if name in IN_ORDER else self.r
        assert at is not None
        if name == "seed_starts":  # of values, which are the inputs, then the rows
            at = self.f.b.op("iadd", at, self.f.b.index(self.f.n_inputs))
        return self.f.cell(name, offset, at)

    def bounds(self, name: str) -> tuple[int, int]:
        """Where its list begins and ends, in the array of this name."""
        if self.nested is not None:
            return self.number(name), self.number(f"{name}_end")
        return self.number(name), self.number(name, 1)

    def base(self, name: str) -> int | None:
        """What is added to each element of its list; None where there is no such array."""
        return self.number(name) if name in self.f.names else None


def walk_of(name: str, columns: Arrays, groups: Longs, table: Table) -> Walk | None:
    """The walk through rows with these numbers, whose arrays have `name` in theirs; None where
    nests save too little."""
    count = len(next(iter(columns.values())))
    # Where a nest ends, a column changes its step twice at the most; asked before all are copied.
    if count < nests.FEW or any(SAVED * np.count_nonzero(np.diff(column, 2)) > 2 * count
                                for column in columns.values()):
        return None
    nest = nest_of(columns, groups)
    if SAVED * len(nest.first) > count:
        return None
    return Walk(nest, lambda of, values: table(f"{name}_{of}", values))


def forward_columns(arrays: Arrays, tiled: Flags, own: Longs) -> Arrays:
    """The numbers of rows by themselves in the forward part. Here and below, what is not read of a
    row is 0, so that it does not break a nest."""
    return {"elements": own,
            **{name: np.where(tiled, 0, arrays[name])
               for name in ("starts", "place_bases", "weights", "biases") if name in arrays}}


def backward_columns(plan: Plan, arrays: Arrays, tiled: Flags, order: Longs) -> Arrays:
    """The numbers of all rows, in the order of the backward pass."""
    plain = np.isin(plan.graph.aggregations[plan.rows], PLAIN_SUM_CODES)
    wanted = {"weights": ~plain, "gradient_of_biases": ~plain,
              **dict.fromkeys(("starts", "place_bases", "gradient_of_rows",
                               "gradient_of_rows_in_order", "row_prefix"), ~tiled)}
    return {**{name: np.where(some, arrays[name], 0)[order]
               for name, some in wanted.items() if name in arrays},
            **_lists(arrays, "pushed", "pushed_weight", order),
            **_bounds(arrays, "pushed_starts", order), **_bounds(arrays, "alone_starts", order),
            **_read(arrays, np.arange(len(order)), len(plan.graph.inputs) + order)}


def input_columns(arrays: Arrays, n_rows: int, n_inputs: int) -> Arrays:
    """Those of the inputs, whose lists of readers stand behind those of the rows."""
    inputs = np.arange(n_inputs)
    return _read(arrays, n_rows + inputs, inputs)


def _read(arrays: Arrays, lists: Longs, values: Longs) -> Arrays:
    """What the adjoints of these values are made of, whose readers are on these lists."""
    return {"order_places": arrays["order_places"][lists],
            **_lists(arrays, "reader", "weight", lists), **_bounds(arrays, "reader_rests", lists),
            **_bounds(arrays, "seed_starts", values)}


def _lists(arrays: Arrays, of: str, weights: str, chosen: Longs) -> Arrays:
    """The numbers of these lists, all 0 of one that is empty."""
    counts = next((name for name in (f"{of}_counts", f"{of}_rounds") if name in arrays), None)
    if counts is None:
        return {}
    some = arrays[counts][chosen] > 0
    return {name: np.where(some, arrays[name][chosen], 0)
            for name in (counts, f"{of}_starts", f"{of}_bases", f"{weights}_starts",
                         f"{weights}_bases") if name in arrays}


def _bounds(arrays: Arrays, name: str, chosen: Longs) -> Arrays:
    """Where these lists begin and end, both 0 of one that is empty; nothing where there is no such
    array, or one with an entry a list."""
    counts = f"{name.removesuffix('_starts')}_counts"
    if name not in arrays or counts in arrays:
        return {}
    begin, end = arrays[name][chosen], arrays[name][chosen + 1]
    return {name: np.where(end > begin, begin, 0), f"{name}_end": np.where(end > begin, end, 0)}


def activation_walks(places: Longs, starts: Longs, count: int, table: Table
                     ) -> list[Walk | None]:
    """For each of `count` activations the walk through the elements of its rows, depth group by
    depth group; `starts`: where those of each group and activation begin in `places`."""
    lengths = np.diff(starts).reshape(-1, count)
    begins = starts[:-1].reshape(-1, count)
    return [walk_of(f"acts_{n}", {"places": places[csr.ranges(begins[:, n], lengths[:, n])]},
                    csr.starts(lengths[:, n]), table) for n in range(count)]
