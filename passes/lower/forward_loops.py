"""The forward pass as loops over index arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, Ints, Longs
from ncc.ir.plan import Plan, Run, Schedule, Segment
from ncc.ir.ssa import DTYPES
from ncc.ir.ssa_build import Builder
from ncc.machine.model import CHAINS
from ncc.passes.lower.lists import lists_of
from ncc.passes.lower.tables import Tables
from ncc.passes.lower.turns import Kind, spans, stretches
from ncc.scalar.aggregations import finish, start, step, total
from ncc.scalar.expressions import Expr, emit, expression

SHORT = 3  # rows: of segments that are shorter on average, each row has a loop of its own
UNROLLED = 3  # edges of each row of a kind: up to here a loop over them is longer than they are


class Loops:
    """What the functions of one plan share, and the loops of those in the forms table and shared:
    over segments, blocks, rows and edges. Values are in the buffer `held`."""

    held = "work"

    def __init__(self, plan: Plan, tables: Tables, dtype: str, native: int, lanes_rows: int
                 ) -> None:
        self.plan = plan
        self.native = native
        self.lanes_rows = lanes_rows
        self.dtype = dtype
        self.tables = tables

    def table(self, name: str, type: str, values: Any) -> str:
        if name not in self.tables.own:
            self.tables.add(name, type, values)
        return name

    def parameter(self, b: Builder, offset: int, index: int) -> int:
        """The weight or the bias that is element offset + index of `packed`."""
        return b.load("packed", offset, index)

    def value(self, b: Builder, program: Expr, argument: int) -> int:
        """The value of a row, of the argument of its activation."""
        return emit(program, b, argument)

    def put(self, b: Builder, value: int, offset: int, place: int) -> None:
        """Store the value of a row at element offset + place."""
        b.store(value, self.held, offset, place)

    def rows(self, b: Builder, schedule: Schedule, sample: int | None, block: int) -> None:
        """A sample's y, and what it leaves for the next call, from its x and what the last left."""
        g = self.plan.graph
        self.values(b, schedule, sample, block)
        assert schedule.slots is not None
        self.columns_out(b, sample, "outs", schedule.slots[g.outputs], "y")
        self.columns_out(b, sample, "next", schedule.slots[g.states], "state")

    def values(self, b: Builder, schedule: Schedule, sample: int | None, block: int) -> None:
        """The inputs and the values of all rows, to their slots."""
        plan, g = self.plan, self.plan.graph
        assert schedule.slots is not None
        # Where single and batch functions are both loops, their slots and so these are the same.
        lists = self.lists = lists_of(plan, schedule.slots)
        self.table("sources", "i", lists.sources)
        self.table("starts", "i", lists.starts)
        if lists.bases is not None:
            self.table("bases", "i", lists.bases)
        self.weights = "starts"  # where each source has a weight, and in the same order
        if not np.array_equal(lists.starts[: len(plan.weights)], plan.weights):
            self.weights = self.table("weights", "i", plan.weights)
        self.table("biases", "i", np.maximum(plan.biases, 0))
        self.table("places", "i", schedule.slots[plan.rows[plan.blocks[:-1]]])
        self.columns_in(b, sample, "x", g.n_inputs, 0)
        self.columns_in(b, sample, "state", len(g.states), g.n_inputs)
        self.segments = np.array(plan.segments, np.int64).reshape(-1, len(Segment._fields))
        self.table("segment_edges", "i", self.segments[:, 3])
        if plan.phased:
            self.in_phases(b, schedule, sample is not None, block)
        for depth, kinds in () if plan.phased else stretches(plan, self.segments):
            turn = b.loop(b.index(0), b.index(depth))[0] if depth > 1 else None
            for kind in kinds:
                self.kind(b, kind, turn, sample is not None, block)
            if turn is not None:
                b.close()

    def base(self, b: Builder, block: int, number: int = 0) -> int | None:
        """What is added to the sources of block `block` + number, of lists that many share."""
        return None if self.lists.bases is None else b.load("bases", number, block)

    def source(self, b: Builder, base: int | None, offset: int, at: int) -> int:
        """The value that element offset + at of `sources` tells of, `base` further on."""
        return self.moved(b, b.load("sources", offset, at), base)

    def moved(self, b: Builder, slot: int, base: int | None) -> int:
        return b.load(self.held, 0, slot if base is None else b.op("iadd", slot, base))

    def columns_in(self, b: Builder, sample: int | None, name: str, size: int, to: int) -> None:
        """The `size` elements of a sample's row of a buffer, to the slots from `to` on."""
        if not size:
            return
        row = None if sample is None else b.op("imul", sample, b.index(size))
        for k, count in b.columns(size, sample is not None):
            at = k if row is None else b.op("iadd", row, k)
            for c, value in enumerate([b.load(name, c, at) for c in range(count)]):
                b.store(value, self.held, to + c, k)
            b.close()

    def columns_out(self, b: Builder, sample: int | None, table: str, slots: Ints, name: str
                    ) -> None:
        """What is in these slots, to a sample's row of a buffer."""
        if not len(slots):
            return
        places = self.table(table, "i", slots)
        row = None if sample is None else b.op("imul", sample, b.index(len(slots)))
        for k, count in b.columns(len(slots), sample is not None):
            values = [b.load(self.held, 0, b.load(places, c, k)) for c in range(count)]
            at = k if row is None else b.op("iadd", row, k)
            for c, value in enumerate(values):
                b.store(value, name, c, at)
            b.close()

    def in_phases(self, b: Builder, schedule: Schedule, batch: bool, block: int) -> None:
        """Depth by depth: first the sums of each aggregation, which stand in the values' slots
        meanwhile, then the activations."""
        plan, g = self.plan, self.plan.graph
        assert g.levels is not None and schedule.slots is not None
        rows, first = plan.rows, plan.blocks[self.segments[:, 0]]
        turn = np.unique(g.levels[rows], return_inverse=True)[1]
        turns = np.arange(int(turn.max(initial=-1)) + 1)
        t = b.loop(b.index(0), b.index(len(turns)))[0]
        for agg in np.unique(g.aggregations[rows]).tolist():
            biased = any(run.biased for run in plan.runs if run.aggregation == agg)
            run, name = Run(0, 0, 0, agg, biased), AGGREGATIONS[agg]
            mine = np.flatnonzero(g.aggregations[rows[first]] == agg)
            if (self.segments[mine, 2] > 1).any():
                kind = Kind(run, name, mine, *spans(turn[first[mine]], turns), listed=True)
                self.kind(b, kind, t, batch, block)
                continue
            mine = np.flatnonzero(g.aggregations[rows] == agg)
            k = b.loop(*self.bounds(b, f"rows_of_{name}", t, *spans(turn[mine], turns)))[0]
            listed = self.table(f"rows_of_{name}", "i", plan.block_of[mine])
            self.ragged(b, run, b.load(listed, 0, k), np.diff(plan.starts)[mine])
            b.close()
        wide = plan.sizes[plan.block_of] > 1
        lanes = not batch and self.native > 1 and bool(wide.any())
        places = "places"
        if bool(wide.any()) and not lanes:
            places = self.table("row_places", "i", schedule.slots[rows])
        acts, number = np.unique(g.activations[rows], return_inverse=True)
        for k, act in enumerate(acts.tolist()):
            if act == 0:  # the identity
                continue
            program = expression(act, g.functions)
            if lanes:
                self.activate(b, program, f"{k}", t, turns, turn, np.flatnonzero(number == k))
                continue
            q = b.loop(*self.bounds(b, f"rows_with_{k}", t, *spans(
                turn * len(acts) + number, turns * len(acts) + k)))[0]
            place = b.load(places, 0, q)
            self.put(b, self.value(b, program, b.load(self.held, 0, place)), 0, place)
            b.close()
        b.close()

    def activate(self, b: Builder, program: Expr, name: str, t: int, turns: Longs, turn: Longs,
                 rows: Longs) -> None:
        """The values of `rows` of one sample, in whose slots are their sums: those of turn t, by
        themselves or tile by tile, whose rows are lanes."""
        plan = self.plan
        blocks = np.unique(plan.block_of[rows])
        for room in np.unique(plan.sizes[blocks]).tolist():
            mine = blocks[plan.sizes[blocks] == room]
            listed = f"tiles_{room}_with_{name}"
            k = b.loop(*self.bounds(b, listed, t, *spans(turn[plan.blocks[mine]], turns)))[0]
            place = b.load("places", 0, b.load(self.table(listed, "i", mine), 0, k))
            if room > 1:
                place = b.op("iadd", place, b.loop(b.index(0), b.index(room), lanes=room)[0])
            self.put(b, self.value(b, program, b.load(self.held, 0, place)), 0, place)
            for _ in range(1 + (room > 1)):
                b.close()

    def kind(self, b: Builder, kind: Kind, turn: int | None, batch: bool, block: int) -> None:
        """The rows of a kind, or of one turn of it: segment by segment, or, where those are short,
        row by row."""
        segments, run = self.segments, kind.run
        counts = segments[kind.segments, 1] - segments[kind.segments, 0]
        held = segments[kind.segments, 2]
        if (held == 1).all() and counts.sum() < SHORT * len(counts) and not kind.listed:
            borders = np.append(segments[:, 0], segments[-1:, 1])
            lo, hi = self.bounds(b, f"rows_{kind.name}", turn, borders[kind.first],
                                 borders[kind.last])
            q = b.loop(lo, hi)[0]
            self.ragged(b, run, q, segments[kind.segments, 3])
            b.close()
            return
        s = b.loop(*self.bounds(b, f"segments_{kind.name}", turn, kind.first, kind.last))[0]
        if kind.listed:
            s = b.load(self.table(f"segments_{kind.name}", "i", kind.segments), 0, s)
        k = b.load("segment_edges", 0, s)
        same = self.same(block)
        shapes = {(room, side, once): None for (room, side), once in zip(
            segments[kind.segments][:, [2, 4]].tolist(), same[kind.segments].tolist(), strict=True)}
        for room, side, once in shapes:
            lanes = not batch and self.native > 1 and room > 1
            mine = (segments[:, 2] == room) & (segments[:, 4] == side) & (same == once)
            unit = side if lanes else 1
            # As many at a time as hide the latency of a sum, which runs in in-list order.
            many = (block if room == 1 else max(1, CHAINS // side) if lanes else 1) * unit
            for count in dict.fromkeys((many, unit)):
                name = f"{room}_{side}" + f"_{once}" * (once > 0)
                q = self.blocks(b, mine, s, name, count, many)
                if room == 1:
                    self.alone(b, run, q, k, s, count, once if count > 1 else 0)
                elif lanes:
                    self.in_lanes(b, run, q, k, s, room, side, count)
                else:
                    self.by_rows(b, run, q, k, s, room)
                b.close()
        b.close()

    def bounds(self, b: Builder, name: str, turn: int | None, first: Any, last: Any
               ) -> tuple[int, int]:
        """Where a turn's part of a list begins and ends."""
        if turn is None:
            return b.index(int(first[0])), b.index(int(last[0]))
        return (b.load(self.table(f"{name}_first", "i", first), 0, turn),
                b.load(self.table(f"{name}_last", "i", last), 0, turn))

    def blocks(self, b: Builder, mine: Any, s: int, kind: str, count: int, many: int) -> int:
        """A loop over segment s's blocks, `count` at a time: `many`, or of those that are left
        then. There are none in the segments of other shapes, those that are not `mine`."""
        segments = self.segments
        first, last = segments[:, 0], segments[:, 1]
        done = first + (last - first) // many * many
        begin, end = (first, done) if count == many else (done, last)
        rounds = np.where(mine, (end - begin) // count, 0)
        name = f"{kind}_{count}_{many}"
        q = b.loop(b.index(0), b.load(self.table(f"rounds_{name}", "i", rounds), 0, s))[0]
        begin = np.where(mine, begin, 0)
        first_of = b.load(self.table(f"blocks_{name}", "i", begin), 0, s)
        return b.op("iadd", first_of, b.op("imul", q, b.index(count)))

    def ragged(self, b: Builder, run: Run, q: int, fan_ins: Longs) -> None:
        """Block q, of one row, of one of these numbers of edges."""
        first, base = b.load("starts", 0, q), self.base(b, q)
        # From a source to its weight, where they are not in the same order.
        shift = None
        if self.weights != "starts":
            shift = b.op("iadd", b.load(self.weights, 0, q),
                         b.op("imul", first, b.index(-1)))

        def edges(j: int | None, offset: int = 0) -> list[tuple[int, int]]:
            at = first if j is None else j
            by = at if shift is None else b.op("iadd", at, shift)
            return [(self.source(b, base, offset, at), self.parameter(b, offset, by))]

        agg = AGGREGATIONS[run.aggregation]
        biases = [self.parameter(b, 0, b.load("biases", 0, q))] if run.biased else None
        if fan_ins.min() == fan_ins.max() and 1 <= fan_ins[0] <= UNROLLED:
            argument = total(b, agg, [edges(None, j)[0] for j in range(fan_ins[0])],
                             biases[0] if biases else None)
            program = expression(run.activation, self.plan.graph.functions)
            self.put(b, self.value(b, program, argument), 0, b.load("places", 0, q))
            return
        last = (b.load("starts", 1, q) if self.lists.bases is None
                else b.load(self.table("ends", "i", self.lists.ends), 0, q))
        begin = first if agg == "sum" else b.op("iadd", first, b.index(1))
        count = None
        if agg == "mean":
            count = b.op("real", b.op("iadd", last, b.op("imul", first, b.index(-1))))
        (value,) = self.sums(b, run, begin, last, count, edges, biases, 1)
        self.put(b, value, 0, b.load("places", 0, q))

    def same(self, count: int) -> Longs:
        """Of each segment of rows by themselves: 1 where each `count` that go together have one
        list of weights, 2 where they have one of sources, but for their bases; or both."""
        found = np.zeros(len(self.segments), np.int64)
        pairs = [(1, self.plan.weights, self.plan.shares),
                 (2, self.lists.starts, self.lists.bases is not None)]
        first, last = self.segments[:, 0], self.segments[:, 1]
        rounds = np.where(self.segments[:, 2] == 1, (last - first) // count, 0)
        chunks = np.repeat(first, rounds) + csr.within(rounds) * count
        for bit, begins, shared in pairs:
            if shared:
                at = begins[chunks[:, None] + np.arange(count)]
                other = np.repeat(np.arange(len(first)), rounds)[(at != at[:, :1]).any(axis=1)]
                alike = rounds > 0
                alike[other] = False
                found += bit * alike
        return found

    def alone(self, b: Builder, run: Run, q: int, k: int, s: int, count: int, once: int) -> None:
        """Blocks q .. q+count-1, of one row each, in one loop; `once` as `same` says."""
        begins = {"starts": self.begins(b, "starts", q, k, 1 if once & 2 else count)}
        if self.weights != "starts":
            begins[self.weights] = self.begins(b, self.weights, q, k, 1 if once & 1 else count)
        bases = [self.base(b, q, i) for i in range(count)]

        def edges(j: int | None) -> list[tuple[int, int]]:
            at = {name: [i if j is None else b.op("iadd", i, j) for i in held]
                  for name, held in begins.items()}
            slots = [b.load("sources", 0, i) for i in at["starts"]]
            weights = [self.parameter(b, 0, i) for i in at[self.weights]]
            return [(self.moved(b, slot, base), weight) for slot, weight, base in zip(
                    slots * (count // len(slots)), weights * (count // len(weights)), bases,
                    strict=True)]

        biases = None
        if run.biased:
            biases = [self.parameter(b, 0, b.load("biases", i, q)) for i in range(count)]
        values = self.sums(b, run, self.first(b, run), k, self.mean_of(b, run, s),
                           edges, biases, count)
        for i, value in enumerate(values):
            self.put(b, value, 0, b.load("places", i, q))

    def begins(self, b: Builder, name: str, q: int, k: int, count: int) -> list[int]:
        """Where the lists of blocks q .. q+count-1 of k edges begin by the array `name`: one behind
        the other, where no block has another's list."""
        if self.lists.bases is not None if name == "starts" else self.plan.shares:
            return [b.load(name, i, q) for i in range(count)]
        found = [b.load(name, 0, q)]
        for _ in range(count - 1):
            found.append(b.op("iadd", found[-1], k))
        return found

    def in_lanes(self, b: Builder, run: Run, q: int, k: int, s: int, room: int, side: int,
                 count: int) -> None:
        """Blocks q .. q+count-1, whose rows are lanes: each source is one for all of them, and for
        `side` blocks."""
        reads = [b.load("starts", i, q) for i in range(0, count, side)]
        weights = [b.load(self.weights, i, q) for i in range(count)]
        places = [b.load("places", i, q) for i in range(count)]
        shifts = [b.load("biases", i, q) for i in range(count)] if run.biased else []
        bases = [self.base(b, q, i) for i in range(0, count, side)]
        row = b.loop(b.index(0), b.index(room), lanes=room)[0]

        def edges(j: int | None) -> list[tuple[int, int]]:
            at = [read if j is None else b.op("iadd", read, j) for read in reads]
            by = row if j is None else b.op("iadd", b.op("imul", j, b.index(room)), row)
            sources = [self.source(b, base, 0, a) for base, a in zip(bases, at, strict=True)]
            return [(sources[i // side], self.parameter(b, 0, b.op("iadd", w, by)))
                    for i, w in enumerate(weights)]

        biases = [self.parameter(b, 0, b.op("iadd", at, row)) for at in shifts] or None
        values = self.sums(b, run, self.first(b, run), k, self.mean_of(b, run, s), edges, biases,
                           count)
        for place, value in zip(places, values, strict=True):
            self.put(b, value, 0, b.op("iadd", place, row))
        b.close()

    def by_rows(self, b: Builder, run: Run, q: int, k: int, s: int, room: int) -> None:
        """Block q, some of its rows at a time, which read each source once."""
        count = max(c for c in range(1, self.lanes_rows + 1) if room % c == 0)
        held = -(-np.diff(self.plan.blocks) // count)
        u = b.loop(b.index(0), b.load(self.table(f"parts_{count}", "i", held), 0, q))[0]
        row = b.op("imul", u, b.index(count))
        reads, base = b.load("starts", 0, q), self.base(b, q)
        weights = b.op("iadd", b.load(self.weights, 0, q), row)

        def edges(j: int | None) -> list[tuple[int, int]]:
            at, w = reads, weights
            if j is not None:
                at, w = b.op("iadd", at, j), b.op("iadd", w, b.op("imul", j, b.index(room)))
            n = self.source(b, base, 0, at)
            return [(n, self.parameter(b, i, w)) for i in range(count)]

        biases = None
        if run.biased:
            at = b.op("iadd", b.load("biases", 0, q), row)
            biases = [self.parameter(b, i, at) for i in range(count)]
        place = b.op("iadd", b.load("places", 0, q), row)
        values = self.sums(b, run, self.first(b, run), k, self.mean_of(b, run, s), edges, biases,
                           count)
        for i, value in enumerate(values):
            self.put(b, value, i, place)
        b.close()

    def first(self, b: Builder, run: Run) -> int:
        """The edge at which the loop over a row's edges begins."""
        return b.index(0 if AGGREGATIONS[run.aggregation] == "sum" else 1)

    def mean_of(self, b: Builder, run: Run, s: int) -> int | None:
        """The number of edges of the rows of segment s, as a real, where their mean is wanted."""
        if AGGREGATIONS[run.aggregation] != "mean":
            return None
        counts = self.segments[:, 3].astype(DTYPES[self.dtype])
        return b.load(self.table("counts", "f", counts), 0, s)

    def sums(self, b: Builder, run: Run, begin: int, end: int, mean_of: int | None,
             edges: Callable[[int | None], list[tuple[int, int]]], biases: list[int] | None,
             count: int) -> list[int]:
        """The values of `count` rows of as many edges each, side by side: as many sums under way at
        once hide the latency of each. `edges` are the sources and weights of edge j of each, for j
        in begin .. end, None for the first one of an aggregation that starts from it."""
        agg = AGGREGATIONS[run.aggregation]
        program = expression(run.activation, self.plan.graph.functions)
        if agg == "sum":
            # -0.0 + p is p, of either sign: the sum starts from its first product.
            firsts = biases or [b.const(-0.0)] * count
        else:
            firsts = [start(b, agg, n, w) for n, w in edges(None)]
        loop = b.loop(begin, end, firsts)
        accs = [step(b, agg, acc, n, w)
                for acc, (n, w) in zip(loop[1:], edges(loop[0]), strict=True)]
        values = []
        for i, acc in enumerate(b.close(*accs)):
            if mean_of is not None:  # finish() divides by a number known here
                acc = b.op("div", acc, mean_of)
            bias = None if agg == "sum" or biases is None else biases[i]
            acc = finish(b, "sum" if agg == "mean" else agg, acc, 0, bias)
            values.append(self.value(b, program, acc))
        return values
