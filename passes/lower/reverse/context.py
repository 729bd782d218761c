"""What all parts of the looped backward pass share: records, buffers, the loops they use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, PAIR_CODES, SUM_CODES, Longs
from ncc.ir.ssa import DTYPES
from ncc.passes.lower.arrays import moves
from ncc.passes.lower.arrays.folds import Fold, Uneven
from ncc.passes.lower.arrays.nests import Walk
from ncc.passes.lower.arrays.repeats import Repeats, repeats_of
from ncc.passes.lower.reverse.accumulators import accumulators_of
from ncc.passes.lower.reverse.frame import Backward
from ncc.passes.lower.reverse.layout import (
    Arrays,
    DepthGroups,
    Flags,
    Signature,
    checkpoints_of,
    depth_groups,
    edges_of,
    elements_of,
    routes_of,
    row_classes,
)
from ncc.passes.lower.reverse.readers import readers_of, seed_arrays, unread_inputs
from ncc.passes.lower.reverse.rows import (
    Row,
    activation_walks,
    backward_columns,
    forward_columns,
    input_columns,
    tiles_of,
    walk_of,
)
from ncc.scalar.aggregations import edges_a_term, step, term
from ncc.scalar.expressions import Expr, expression
from ncc.scalar.sum_order import BLOCK


class InList(NamedTuple):
    """Where an in-list begins in `places`, and what is added to each of its elements (ops)."""

    at: int
    base: int | None


class Looped(Backward):
    """Rows, readers, row classes and stages of a plan as arrays, and the memory of the pass.

    `values` holds the inputs, then what stages pass on to later ones, then the values of one
    stage's rows; without `recompute` there is one stage. A row's value stays until the backward
    pass writes its delta over it: all its readers have been there. `sums` holds the arguments of
    activations, if the derivative of any is not to be had from its value.
    """

    wanted: int  # 1 where the caller wants dparams, else 0

    # -- before the loops

    def before(self) -> None:
        plan = self.plan
        self.arrays: Arrays = {}
        self.more: dict[str, str] = {}  # of arrays: that of what each time adds
        self.tile_walk: Walk | None = None
        self.batch = bool(self.lanes)
        # Readers an iteration: a batch keeps in registers a sum over the lanes for each, the value,
        # and the adjoint.
        self.unroll = 4 if self.registers <= 16 else max(4, min(self.native, 8))
        edges = self.edges = edges_of(plan)
        classes = self.classes = row_classes(plan, self.lanes > 1)
        self.declare(classes.arrays(len(plan.rows)))
        routes = self.routes = routes_of(plan, edges, self.batch, self.dtype)
        self.scatters = routes.scatters
        reals = 1 + bool(len(self.plan.arguments)) + self.scatters + classes.mixed  # for each value
        size = np.dtype(DTYPES[self.dtype]).itemsize * max(1, self.lanes) * reals
        stages = self.stages = checkpoints_of(plan, edges, classes, size, self.recompute)
        elements = self.elements = elements_of(plan, edges, stages, self.scatters)
        self.local = elements.local
        self.declare(elements.arrays(plan, classes))
        if len(stages) > 1:
            self.declare(elements.stage_arrays(plan, classes, stages))
        if classes.mixed:
            self.groups: DepthGroups = depth_groups(plan, classes, stages, elements)
            self.declare(self.groups.arrays(len(classes)))
        readers = self.readers = readers_of(plan, edges, classes, routes, stages, elements,
                                            0 if classes.mixed else self.unroll)
        if len(stages) > 1:
            self.declare(readers.stage_arrays(elements))
        self.declare(readers.arrays(plan, edges, classes, elements))
        self.by_rows = readers.once is not None
        self.group_rests = readers.counts(plan, classes)
        self.accumulators()
        seeds = seed_arrays(plan, edges, elements, len(stages))
        self.places = {**seeds}
        self.declare({"seed_starts": seeds["seed_starts"]})
        prefix = np.where(routes.tiled, 0, routes.prefix)
        if prefix.any():
            self.declare({"row_prefix": prefix})
        self.walk(len(plan.rows))
        self.unread = unread_inputs(plan, edges)
        self.memories()
        if self.batch and not self.by_rows:
            self.transpose_weights()

    def walk(self, n_rows: int) -> None:
        """The rows, or those of an activation, and the inputs as loops over nests, where these are
        much fewer; not stage by stage."""
        arrays, tiled, order = self.arrays, self.routes.tiled, self.readers.order
        groups = np.append(self.classes.firsts, [n_rows, n_rows])

        # Without `self`, which a walk would keep in a cycle: its arrays take more than all else.
        add, names = self.tables.add, self.names

        def table(name: str, values: Any) -> str:
            names[name] = add(f"back_{name}", "i", values)
            return names[name]

        self.repeats: Repeats | None = None
        self.time: int | None = None
        self.walks: dict[str, Walk | None] = dict.fromkeys(("forward", "backward", "inputs"))
        self.activation_walks: list[Walk | None] = []
        if len(self.stages) > 1:
            return
        for name, columns, bounds in (
                ("forward", forward_columns(arrays, tiled, self.elements.own), groups),
                ("backward", backward_columns(self.plan, arrays, tiled, order), groups),
                ("inputs", input_columns(arrays, n_rows, self.n_inputs),
                 np.array([0, self.n_inputs]))):
            wanted = name == "inputs" and self.walks["backward"] is not None
            self.walks[name] = walk_of(name, columns, bounds, table, wanted)
        both = self.walks["forward"] is not None and self.walks["backward"] is not None
        if self.classes.mixed:
            g = self.groups
            self.activation_walks = activation_walks(g.by_activation, g.starts, len(g.activations),
                                                     table, both)
        if both and not self.lowest():
            self.fold()

    def lowest(self) -> int:
        """The first class with a parameter: no delta of one before it is wanted, but for dx."""
        if "dx" in self.named:
            return 0
        weights, biases = self.g.weights[self.plan.edges], self.g.biases[self.plan.rows]
        owners = np.concatenate([self.edges.reader[weights >= 0], np.flatnonzero(biases >= 0)])
        row = owners.min(initial=len(self.plan.rows))
        # 0 without rows
        return max(0, int(np.searchsorted(self.classes.firsts, row, side="right")) - 1)

    def fold(self) -> None:
        """Row classes that repeat stand once, if there are such."""
        classes, arrays = self.classes, self.arrays
        starts = (np.append(self.groups.classes, len(classes) + 1) if classes.mixed
                  else np.arange(len(classes) + 2))
        walks = [walk for walk in (self.walks["forward"], self.walks["backward"], self.tile_walk)
                 if walk is not None]
        acts = [walk for walk in self.activation_walks if walk is not None]
        moved = ("segment_places", "gradient_of_segment_biases", "group_rests")
        alike = [np.append(classes.number, -1), classes.fan_in, classes.trained, *classes.rows,
                 self.group_rests]
        try:
            found = repeats_of(starts, alike, [arrays[name] for name in moved if name in arrays],
                               [self.groups.elements] if classes.mixed else [], walks, acts)
            if found is None:
                return
            for name in ("forward", "backward"):
                walk = self.walks[name]
                assert walk is not None
                self.walks[name] = found.walk(walk, False)
            if self.tile_walk is not None:
                self.tile_walk = found.walk(self.tile_walk, False)
            self.activation_walks = [found.walk(walk, True) for walk in acts]
        except Uneven:
            return
        self.repeats = found
        for name in ("segment_edges", "segment_trained", *moved):
            if name in arrays:
                self.of_each(name, "i", arrays[name], found.classes)
        if classes.mixed:
            self.of_each("turn_places", "i", self.groups.elements, found.units)
            self.table("turn_segments", "i", csr.starts(np.diff(starts)[found.units.kept]))

    def of_each(self, name: str, type: str, values: NDArray[Any], fold: Fold | None) -> None:
        """Declare an array of row classes or of depth groups, with this fold, if there is one."""
        if fold is None:
            self.table(name, type, values)
            return
        first, more = fold.folded(np.asarray(values, np.int64))
        self.table(name, type, first)
        if more.any():
            self.more[name] = self.table(f"{name}_more", "i", more)

    def of_classes(self, name: str, type: str, values: NDArray[Any]) -> None:
        """The same, of row classes."""
        self.of_each(name, type, values, self.repeats and self.repeats.classes)

    def cell(self, name: str, offset: int, index: int) -> int:
        """Of row classes or depth groups that repeat: as it is this time."""
        found = super().cell(name, offset, index)
        if name not in self.more:
            return found
        assert self.time is not None
        more = self.b.load(self.more[name], offset, index)
        return self.b.op("iadd", found, self.b.op("imul", self.time, more))

    def around(self, walk: Walk) -> dict[int, int]:
        """The loop of a walk that is open around row classes: over the times, if they repeat."""
        return {} if self.time is None else {len(walk.nest.counts) - 1: self.time}

    def mine(self, number: int | None) -> Flags:
        """Which row classes, of those that stand once, have rows of this signature, or any."""
        rows = self.classes.rows
        found: Flags = (np.sum(rows, axis=0) if number is None else rows[number]) > 0
        return found if self.repeats is None else found[self.repeats.classes.kept]

    def declare(self, arrays: Arrays) -> None:
        for name, values in arrays.items():
            self.arrays[name] = self.tables.made[self.table(name, "i", values)].values

    def accumulators(self) -> None:
        plan = self.plan
        made = accumulators_of(plan, self.edges, self.classes, self.routes, self.readers,
                               self.batch)
        self.sum_in(made.by_lanes, made.owners(plan.cells.codes), made.owners(plan.canonical),
                    bool(made.direct.any()))
        losses = int(self.ends.has_loss)
        self.declare(made.arrays(plan, self.edges, self.classes, losses))
        if self.routes.tiled.any():
            self.tiles = tiles_of(plan, self.classes, self.elements, self.routes, self.arrays,
                                  self.native, BLOCK[self.dtype], self.tile)
            self.tile_walk = self.tiles.walk(lambda name, values: self.table(name, "i", values))
        self.declare(made.list_arrays(plan, self.routes, self.elements, self.by_rows, losses))
        lists = made.edge_lists(self.routes)
        self.any_pushed, self.any_alone = len(lists["pushed"]) > 0, len(lists["alone"]) > 0

    def memories(self) -> None:
        plan, widest = self.plan, self.stages.widest
        # The last stage's tiles may reach beyond it.
        height = int(self.routes.heights[self.routes.tiled].max(initial=1))
        self.memory("values", self.local + widest + height - 1)
        if len(self.plan.arguments):
            self.memory("sums", widest + height - 1)
        if self.classes.mixed:
            self.memory("pulled", self.groups.widest)
        self.memory("seeds", self.n_outputs)
        if self.scatters or len(self.stages) > 1:
            self.memory("adjoints", self.elements.nowhere + 1)
        chained = ~np.isin(self.g.aggregations[plan.rows], [*SUM_CODES, *PAIR_CODES])
        if chained.any():
            self.memory("products", int(np.diff(plan.starts)[chained].max()))

    def transpose_weights(self) -> None:
        """The weights in the order of the readers: read from end to end for each round of samples.
        A function without dx wants none where it has no dparams to make."""
        b, count = self.b, len(self.readers.edges)
        if "dx" not in self.named:
            self.only_if(b.emit("given", (), "dparams"))
        self.memory("turned", count, shared=True)
        moves.each(b, self.table, "turned", {
            "from": self.plan.weight_places[self.readers.edges], "to": range(count),
        }, lambda at, k: b.store(b.load("packed", 0, at), "turned", 0, k))
        if "dx" not in self.named:
            b.close()

    # -- loops

    def from_last(self, first: int, end: int) -> int:
        """Open a loop from end-1 down to first."""
        b = self.b
        k = b.loop(first, end)[0]
        last = b.op("iadd", b.op("iadd", first, end), b.index(-1))
        return b.op("iadd", b.op("imul", k, b.index(-1)), last)

    def units_of(self, stage: int | None) -> tuple[int, int]:
        """Where the depth groups of a stage, or all, begin and end; or its row classes, where these
        are not mixed."""
        mixed = self.classes.mixed
        if stage is None:
            return self.b.index(0), self.b.index(len(self.groups if mixed else self.classes))
        return self.bounds("block_turns" if mixed else "block_segments", stage)

    def each_unit(self, stage: int | None) -> tuple[int, int]:
        """Open loops over the depth groups or row classes of a stage, or all: how many loops, and
        which it is."""
        b = self.b
        if self.repeats is None:
            return 1, b.loop(*self.units_of(stage))[0]
        parts = self.repeats.parts
        self.table("part_begins", "i", parts.begins)
        self.table("part_ends", "i", parts.ends)
        self.table("part_times", "i", parts.times)
        part = b.loop(b.index(0), b.index(len(parts.ends) - 1))[0]  # without the inputs
        self.time = b.loop(b.index(0), self.cell("part_times", 0, part))[0]
        return 3, b.loop(self.cell("part_begins", 0, part), self.cell("part_ends", 0, part))[0]

    def each_unit_back(self) -> tuple[int, int]:
        """The same of all in the backward direction, and last the inputs."""
        b, count = self.b, len(self.groups if self.classes.mixed else self.classes)
        if self.repeats is None:
            self.table("back", "i", [*reversed(range(count)), count])
            return 1, self.cell("back", 0, b.loop(b.index(0), b.index(count + 1))[0])
        parts = self.repeats.parts
        order = np.roll(np.arange(len(parts.ends))[::-1], -1)
        self.table("back_begins", "i", parts.begins[order])
        self.table("back_ends", "i", parts.ends[order])
        self.table("back_times", "i", parts.times[order])
        part = b.loop(b.index(0), b.index(len(order)))[0]
        self.time = self.from_last(b.index(0), self.cell("back_times", 0, part))
        return 3, self.from_last(self.cell("back_begins", 0, part), self.cell("back_ends", 0, part))

    def each_activation(self, t: int) -> Iterator[tuple[Expr, int]]:
        """For each activation a loop over the rows of depth group t that have it: it and their
        elements."""
        b, acts = self.b, self.groups.activations
        first = b.op("imul", t, b.index(len(acts)))
        for n, act in enumerate(acts):
            program = expression(act, self.g.functions)
            walk = self.activation_walks[n] if self.activation_walks else None
            if walk is not None:
                some = np.diff(walk.nest.groups) > 0
                loops, row = walk.open(b, t, some, "all", around=self.around(walk))
                yield program, row.number(b, "places")
                self.end(loops)
                continue
            at = b.op("iadd", first, b.index(n))
            yield program, self.cell("act_places", 0, b.loop(*self.bounds("act_starts", at))[0])
            b.close()

    def end(self, loops: int) -> None:
        """Close so many loops."""
        for _ in range(loops):
            self.b.close()

    def portions(self, count: int, widths: Iterable[int], counts: Longs
                 ) -> Iterator[tuple[int, int]]:
        """Loops over 0 .. count-1: as many at a time as the first of the widths says, then of those
        that are left as the next, ..: how many, and the first one. `counts`: what `count` may be;
        no loop where there is nothing for it."""
        b, done = self.b, self.b.index(0)
        for width in widths:
            if not (counts >= width).any():
                continue
            left = b.op("iadd", count, b.op("imul", done, b.index(-1)))
            rounds = b.op("idiv", left, b.index(width))
            q = b.loop(b.index(0), rounds)[0]
            yield width, b.op("iadd", done, b.op("imul", q, b.index(width)))
            b.close()
            done = b.op("iadd", done, b.op("imul", rounds, b.index(width)))
            counts = counts % width

    def edges_of_class(self, s: int, number: int) -> int:
        """The length of the in-lists of class s, of this signature."""
        return self.of_class("segment_edges", self.classes.fan_in, s, number)

    def of_class(self, name: str, values: Longs, s: int, number: int) -> int:
        """The element of `values` (S+1) of class s, of this signature."""
        mine = values[self.classes.rows[number] > 0]
        if len(mine) and (mine == mine[0]).all():
            return self.b.index(int(mine[0]))
        self.of_classes(name, "i", values)
        return self.cell(name, 0, s)

    # -- rows and edges

    def is_tiled(self, kind: Signature) -> bool:
        return (self.batch and kind.height > 1
                and kind.aggregation in SUM_CODES)

    def fan_in(self, s: int) -> int:
        """The length of the in-lists of a class, as a real."""
        self.of_classes("fan_in", "f", np.maximum(self.classes.fan_in, 1))
        return self.cell("fan_in", 0, s)

    def base(self, name: str, k: int) -> int | None:
        """What is added to each element of list k, by this array; None where there is none."""
        return self.cell(name, 0, k) if name in self.names else None

    def listed(self, name: str, offset: int, at: int, base: int | None) -> int:
        """An element of a list."""
        found = self.cell(name, offset, at)
        return found if base is None else self.b.op("iadd", found, base)

    def list_of(self, row: Row, offset: int = 0) -> InList:
        """The in-list of a row, or of that `offset` further on."""
        base = row.number("place_bases", offset) if "place_bases" in self.names else None
        return InList(row.number("starts", offset), base)

    def place(self, read: InList, k: int, offset: int = 0) -> int:
        """Where edge number k + offset of an in-list finds what it reads."""
        return self.listed("places", offset, self.b.op("iadd", read.at, k), read.base)

    def edge(self, read: InList, weight: int, k: int, kind: Signature) -> tuple[int, int]:
        """The source's value and the weight of edge k of a row of this in-list, whose first weight
        stands there; of the k-th pair, what is folded for it."""
        b, agg = self.b, AGGREGATIONS[kind.aggregation]
        by = k if kind.height == 1 else b.op("imul", k, b.index(kind.height))
        size = edges_a_term(agg)
        first = k if size == 1 else b.op("imul", k, b.index(size))
        ns = [b.load("values", 0, self.place(read, first, i)) for i in range(size)]
        return term(b, agg, ns, b.load("packed", 0, b.op("iadd", weight, by)))

    def terms(self, kind: Signature, edges: int) -> int:
        """How many terms so many edges are."""
        size = edges_a_term(AGGREGATIONS[kind.aggregation])
        return edges if size == 1 else self.b.op("idiv", edges, self.b.index(size))

    # -- adjoints and the gradient

    def clear(self, lo: int, hi: int) -> None:
        """The adjoints lo .. hi-1 before their first term."""
        b = self.b
        k = b.loop(b.index(lo), b.index(hi))[0]
        b.store(b.const(-0.0), "adjoints", 0, k)
        b.close()

    def push(self, element: int, value: int, weight: int | None = None) -> None:
        """Add a value, or its product with a weight, to an adjoint."""
        b = self.b
        acc = b.load("adjoints", 0, element)
        acc = b.op("add", acc, value) if weight is None else step(b, "sum", acc, value, weight)
        b.store(acc, "adjoints", 0, element)

    def add_gradient(self, x: int, y: int, i: int, at: int) -> None:
        """Add x*y to gradient[at + i]."""
        b = self.b
        if self.batch:
            b.accumulate(x, y, self.sums, i, at)
        else:  # of one sample, every element is written once
            b.store(b.op("mul", x, y), "gradient", i, at)

    def in_vectors_of(self, name: str, counts: Longs, s: int,
                      pair: Callable[[int, int], tuple[int, int]], to: int) -> None:
        """Add to gradient[to + k + i] the product of pair(k, i), for counts[s] elements: as many
        neighbours at once as a vector holds, then four, then one by one."""
        widest = self.native if self.batch else 4
        self.of_classes(name, "i", counts)
        count = self.cell(name, 0, s)
        for width, k in self.portions(count, dict.fromkeys((widest, 4, 1)), counts):
            at = self.b.op("iadd", to, k)
            for i, (x, y) in enumerate([pair(k, i) for i in range(width)]):
                self.add_gradient(x, y, i, at)
