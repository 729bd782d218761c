"""The rows and tiles of rows that the loops of a backward pass go through, with the numbers of
each: from arrays or, where structure repeats, from loop nests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import PLAIN_SUM_CODES, Longs
from ncc.ir.plan import Plan
from ncc.passes.lower.arrays import nests
from ncc.passes.lower.arrays.nests import Walk, nest_of
from ncc.passes.lower.reverse.frame import Backward
from ncc.passes.lower.reverse.layout import Arrays, Elements, Flags, Routes, RowClasses

# The arrays that are indexed by a row's number in the order of the backward pass.
IN_ORDER = frozenset(("order_places", "reader_starts", "reader_counts", "reader_bases",
                      "weight_starts", "weight_bases", "reader_rounds", "reader_rests"))
SAVED = 4  # times fewer nests than rows are worth loops over nests
# Of a tile, where the sums of its rows' gradient begin, by lanes and in order; and where those of
# each row do.
CELLS = {"cells": "gradient_of_rows", "ordered_cells": "gradient_of_rows_in_order"}

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


def walk_of(name: str, columns: Arrays, groups: Longs, table: Table, wanted: bool = False
            ) -> Walk | None:
    """The walk through rows with these numbers, whose arrays have `name` in theirs; None where
    nests save too little, unless it is `wanted`."""
    count = len(next(iter(columns.values())))
    # Where a nest ends, a column changes its step twice at the most; asked before all are copied.
    if not wanted and (count < nests.FEW or any(
            SAVED * np.count_nonzero(np.diff(column, 2)) > 2 * count
            for column in columns.values())):
        return None
    nest = nest_of(columns, groups)
    if SAVED * len(nest.first) > count and not wanted:
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


def activation_walks(places: Longs, starts: Longs, count: int, table: Table, wanted: bool
                     ) -> list[Walk | None]:
    """For each of `count` activations the walk through the elements of its rows, depth group by
    depth group; `starts`: where those of each group and activation begin in `places`; `wanted` as
    in `walk_of`."""
    lengths = np.diff(starts).reshape(-1, count)
    begins = starts[:-1].reshape(-1, count)
    return [walk_of(f"acts_{n}", {"places": places[csr.ranges(begins[:, n], lengths[:, n])]},
                    csr.starts(lengths[:, n]), table, wanted) for n in range(count)]


@dataclass(frozen=True, eq=False)
class Tiles:
    """The tiles of rows that are sums.

    numbers  (T)    each, by name, class by class
    groups   (S+2)  where the tiles of each row class begin
    abreast         how many are unrolled together, where sums are made in order
    uneven          CELLS, and signatures of whose rows they are not equally far apart: numbers of
                    rows stand in their place, which arrays of rows have them of
    repeats         whether any tile has a source twice in its in-list, so that the adjoint of this
                    source has to take one part after the other, row by row
    """

    numbers: dict[str, Longs]
    groups: Longs
    abreast: list[int]
    uneven: set[tuple[str, int]]
    repeats: bool

    def walk(self, table: Table) -> Walk:
        """Through the tiles; one by one, where they are few or nests save too little."""
        few = len(self.numbers["rows"]) < nests.FEW
        nest = nest_of(self.numbers, self.groups, 0 if few else nests.DEPTH)
        return Walk(nest, lambda of, values: table(f"tile_{of}", values))


def tiles_of(plan: Plan, classes: RowClasses, elements: Elements, routes: Routes, of_rows: Arrays,
             native: int, block: int, at_once: int) -> Tiles:
    """`of_rows`: where the gradients of rows are, and those of the biases of blocks; `block`: BLOCK
    of ncc/scalar/sum_order.py; `at_once`: the rows of a tile that the forward part takes so."""
    blocks = np.flatnonzero(routes.tiled[plan.blocks[:-1]])
    first, rows, lists = plan.blocks[blocks], np.diff(plan.blocks)[blocks], elements.lists
    lengths = np.diff(plan.starts)[first]
    owner = np.repeat(np.arange(len(first)), lengths)
    read = elements.read[csr.ranges(plan.starts[first], lengths)]
    pairs = np.sort(owner * (int(elements.read.max(initial=0)) + 1) + read)
    prefix = routes.prefix[first]
    numbers: dict[str, NDArray[Any]] = {
        "lists": lists.begins[first], "weights": plan.weights[blocks],
        "biases": np.maximum(plan.biases[blocks], 0), "places": elements.own[first], "rows": rows,
        "parts": -(-rows // np.minimum(plan.sizes[blocks], at_once)),
        "inner": np.bincount(owner, read >= len(plan.graph.inputs), len(first)) > 0,
        "prefix": prefix, "ordered": prefix, "rest": lengths - prefix,
        "bias_cells": of_rows["gradient_of_block_biases"][blocks]}
    if lists.bases is not None:
        numbers["bases"] = lists.bases[first]
    abreast: list[int] = []
    spans = rows
    if native > 1:
        whole = plan.sizes[blocks] == native
        together, left = tiles_together(plan, routes.prefix[plan.blocks[:-1]],
                                        max(1, block // native))
        many = np.where(whole, together[blocks], 0)
        abreast, spans = np.unique(many[many > 0]).tolist(), np.maximum(rows, many * native)
        numbers["ordered"] = np.where(whole, left[blocks], prefix)
        numbers |= {f"abreast_{n}": many == n for n in abreast}
    begins = np.append(classes.tiles[:-1], [len(plan.sizes)] * 2)
    groups = np.searchsorted(blocks, begins)
    kinds = classes.number[csr.owners(groups)]
    uneven: set[tuple[str, int]] = set()
    for name, array in CELLS.items():
        apart, even = _apart(of_rows[array], first, spans)
        odd = np.isin(kinds, kinds[~even])
        uneven |= {(name, kind) for kind in np.unique(kinds[odd]).tolist()}
        numbers[name] = np.where(odd, first, of_rows[array][first])
        numbers[f"{name}_apart"] = np.where(odd, 0, apart)
    return Tiles({name: np.asarray(column, np.int64) for name, column in numbers.items()}, groups,
                 abreast, uneven, bool((pairs[1:] == pairs[:-1]).any()))


def _apart(of_row: NDArray[Any], first: Longs, counts: Longs) -> tuple[Longs, Flags]:
    """How far apart the numbers are that `of_row` has of so many consecutive rows, and whether all
    are as far; of one row what the rows before have."""
    more = counts > 1
    apart = of_row[first + more] - of_row[first]
    apart = apart[np.maximum.accumulate(np.where(more, np.arange(len(first)), 0))]
    owner = np.repeat(np.arange(len(first)), counts)
    odd = of_row[csr.ranges(first, counts)]
    odd = odd != of_row[first][owner] + apart[owner] * csr.within(counts)
    return apart, np.bincount(owner, odd, len(first)) == 0


def tiles_together(plan: Plan, prefix: Longs, least: int) -> tuple[Longs, Longs]:
    """How many tiles are unrolled together where sums are made in order, of the first of them; else
    0: as many as are a whole block of ncc/scalar/sum_order.py's, which is `least` tiles, or two
    such where both share an in-list. And of how many of the `prefix` edges of each tile the sums
    are left to be made, row by row."""
    left = prefix.copy()
    together = np.zeros(len(left), np.int64)
    for many in (2 * least, least) if least == 1 else (least,):
        for segment in plan.segments:
            for first in range(segment.first, segment.last, segment.side):
                for tile in range(first, first + segment.side - many + 1, many):
                    span = slice(tile, tile + many)
                    if (left[span] > 0).all():
                        together[tile], left[span] = many, 0
    return together, left
