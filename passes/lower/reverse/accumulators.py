"""Where the looped backward pass sums up the gradient of each edge and bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import Ints, Longs
from ncc.ir.plan import Plan
from ncc.ir.plan_types import weights_a_row
from ncc.passes.lower.reverse.layout import (
    Arrays,
    Edges,
    Elements,
    Flags,
    Routes,
    RowClasses,
    once,
)
from ncc.passes.lower.reverse.readers import Readers

MORE = 1.25  # times the room that is taken, to be even


@dataclass(frozen=True, eq=False)
class Accumulators:
    """One element of `gradient` for each edge and bias; but tiles of direct rows have none, as they
    add to `dparams` itself.

    cells     the cell of the plan's (`Plan.cells`) whose gradient each is, -1 for none: first
              those of edges that are gathered, in their order, then those of the others: of tiles,
              row by row; of edges that are pushed; of biases; and last what is summed in order
    by_lanes  how many of them are summed by lanes, the others in order (ncc/scalar/sum_order.py)
    ordered   (E)  whether the gradient of an edge is summed in order
    direct    (E)  whether its row is direct
    tiled     (E)  whether its row is of a tile
    by_rows   (E)  whether its gradient is made from end to end of its in-list, as its row gets a
                   delta: where lists of readers repeat, of sums by themselves
    trained   (E)  whether any weight of its class is a parameter; the others have no element, but
                   for those that are gathered

    A gathered edge that is summed in order has two: nobody reads the first. Edges by rows stand as
    those of tiles do.
    """

    cells: Ints
    by_lanes: int
    ordered: Flags
    direct: Flags
    tiled: Flags
    by_rows: Flags
    trained: Flags

    def owners(self, codes: Ints) -> Ints:
        """Of each of them the entry of `codes` (one for each cell), -1 of no owner."""
        owners: Ints = np.where(self.cells >= 0, codes[self.cells], -1)
        return owners

    def edge_lists(self, routes: Routes) -> dict[str, Longs]:
        """The edges that are walked one by one: those that are pushed, and those that are summed in
        order though their row is no tile's, nor walked from end to end."""
        return {"pushed": np.flatnonzero(routes.pushed),
                "alone": np.flatnonzero(self.ordered & self.trained & ~self.tiled & ~self.by_rows)}

    def arrays(self, plan: Plan, edges: Edges, classes: RowClasses, losses: int) -> Arrays:
        """Where the sums of rows, tiles and biases stand. `losses`: elements for losses, which
        stand before those that are summed in order."""
        element = self.numbers(plan, losses)
        by_row = np.where(self.direct, plan.graph.weights[plan.edges], element[plan.cells.edges])
        made: Arrays = {}
        walked = (self.tiled | self.by_rows) & self.trained
        for name, chosen in (
                ("rows", walked & ~self.ordered | ~plan.additive[edges.reader]),
                ("rows_in_order", walked & self.ordered)):
            held = np.flatnonzero(chosen)
            first = held[np.diff(edges.reader[held], prepend=np.int32(-1)) != 0]
            begins = np.zeros(len(plan.rows), np.int64)
            begins[edges.reader[first]] = by_row[first]
            made[f"gradient_of_{name}"] = begins
        biases = plan.cells.biases
        made["gradient_of_biases"] = element[biases]
        made["gradient_of_block_biases"] = element[plan.cells.block_biases]
        made["gradient_of_segment_biases"] = element[np.append(biases[classes.firsts], -1)]
        return made

    def list_arrays(self, plan: Plan, routes: Routes, elements: Elements, repeat: bool, losses: int
                    ) -> Arrays:
        """The lists of the edges that are walked one by one; `repeat`: whether they may."""
        made: Arrays = {}
        lists = self.edge_lists(routes)
        if repeat:
            held = lists["pushed"]
            starts = np.searchsorted(held, plan.starts)
            return {"pushed_counts": np.diff(starts),
                    **once(starts, elements.read[held]).arrays(
                        "pushed_places", "pushed_starts", "pushed_bases"),
                    **once(starts, plan.weight_places[held]).arrays(
                        "pushed_weights", "pushed_weight_starts", "pushed_weight_bases")}
        of_edge = self.numbers(plan, losses)[plan.cells.edges]
        for name, held in lists.items():
            made[f"{name}_starts"] = np.searchsorted(held, plan.starts)
            made[f"{name}_places"] = elements.read[held]
            made[f"{name}_cells"] = of_edge[held]
        pushed = lists["pushed"]
        made["pushed_weights"] = plan.weight_places[pushed]
        made["pushed_by_lanes"] = (self.trained & ~self.ordered)[pushed]
        return made

    def numbers(self, plan: Plan, losses: int) -> Ints:
        """The element of `gradient` of each of the plan's cells; 0 of those that have none."""
        element = np.zeros(len(plan.cells.codes) + 1, np.int32)
        number = np.arange(len(self.cells), dtype=np.int32)
        number[self.by_lanes:] += losses
        owned = self.cells >= 0
        element[self.cells[owned]] = number[owned]
        return element


def accumulators_of(plan: Plan, edges: Edges, classes: RowClasses, routes: Routes,
                    readers: Readers, batch: bool) -> Accumulators:
    reader, gathered, cells = edges.reader, readers.edges, plan.cells
    position = np.arange(len(reader)) - plan.starts[:-1][reader]
    ordered = position < routes.prefix[reader]
    direct_rows = np.array([classes.signatures[k].direct for k in classes.number.tolist()], bool)
    listed = np.zeros(len(reader), bool)
    if readers.once is None:
        listed[gathered] = True
    else:
        gathered = gathered[:0]
    tiled, class_of = routes.tiled[reader], classes.per_row(len(plan.rows))[reader]
    direct, trained = tiled & direct_rows[class_of], classes.trained[class_of]
    by_rows = plan.additive[reader] & ~tiled & (readers.once is not None)
    # Biases row by row, or one for each row for which a tile has room.
    of_biases = cells.biases[cells.biases >= 0]
    if batch:
        of_biases = np.arange(int((plan.sizes * weights_a_row(plan)).sum()), len(cells.codes))
    places = cells.edges
    lanes, walked = trained & ~ordered, tiled & ~direct | by_rows
    parts = [np.where(ordered[gathered], -1, places[gathered]),
             _evenly(plan, np.flatnonzero(lanes & walked), places),
             places[lanes & ~listed & ~tiled & ~by_rows & ~plan.seconds],
             of_biases, places[trained & ordered & ~direct]]
    made = np.concatenate(parts, dtype=np.int32)
    return Accumulators(made, len(made) - len(parts[-1]), ordered, direct, tiled, by_rows, trained)


def _evenly(plan: Plan, chosen: Longs, places: Ints) -> Ints:
    """The cells of these edges, row by row, with room as `rooms` says."""
    room, lengths = rooms(plan, chosen)
    made = np.full(room.sum(), -1, np.int32)
    made[csr.ranges(csr.starts(room)[:-1], lengths)] = places[chosen]
    return made


def rooms(plan: Plan, chosen: Longs) -> tuple[Longs, Longs]:
    """The room of each row for elements of these edges, which ascend, and how many it has: as much
    as the longest has that shares a parameter with its block, if that is hardly more. So the
    elements of one weight of a filter, or of the steps of an RNN, are those of another, moved
    (passes/lower/arrays/tied.py)."""
    rows = csr.owners(plan.starts, np.int32)[chosen]
    lengths = np.bincount(rows, minlength=len(plan.rows))
    params = plan.graph.weights[plan.edges[chosen]]
    if np.bincount(params[params >= 0], minlength=1).max() < 2:
        return lengths, lengths
    rows, params = rows[params >= 0], params[params >= 0]
    longest = np.zeros(plan.graph.n_params, np.int64)
    np.maximum.at(longest, params, lengths[rows])
    room = lengths.copy()
    np.maximum.at(room, rows, longest[params])
    room = np.repeat(np.maximum.reduceat(room, plan.blocks[:-1]), np.diff(plan.blocks))
    return room if room.sum() <= lengths.sum() * MORE else lengths, lengths
