"""The forward pass as loops over index arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ncc.ir.graph import AGGREGATIONS, Ints, Longs
from ncc.ir.plan import Plan, Run, Schedule
from ncc.ir.ssa import DTYPES
from ncc.ir.ssa_build import Builder
from ncc.machine.model import CHAINS
from ncc.passes.lower.lists import lists_of, once
from ncc.passes.lower.often import LOOPED, cut, unrolled
from ncc.passes.lower.tables import Tables
from ncc.passes.lower.turns import Kind, spans, stretches
from ncc.scalar.aggregations import FROM_BIAS, edges_a_term, finish, start, step, term, total
from ncc.scalar.expressions import Expr, emit, expression

SHORT = 3  # rows: of segments that are shorter on average, each row has a loop of its own
UNROLLED = 3  # terms of each row of a kind: up to here a loop over them is longer than they are


class Loops:
    """What the functions of one plan share, and the loops of those in the forms table and shared:
    over segments, blocks, rows and edges. Values are in the buffer `held`."""

    held = "work"
    unrolls = True  # lists that many rows read have code of their own in a batch

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
        if plan.seconds.any() or not np.array_equal(lists.starts[: len(plan.weights)],
                                                    plan.weights):
            self.weights = self.table("weights", "i", plan.weights)
        self.table("biases", "i", np.maximum(plan.biases, 0))
        self.table("places", "i", schedule.slots[plan.rows[plan.blocks[:-1]]])
        self.columns_in(b, sample, "x", g.n_inputs, 0)
        self.columns_in(b, sample, "state", len(g.states), g.n_inputs)
        self.segments = cut(plan, lists)
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

    def moved(self, b: Builder, slot: int, base: int | None) -> int:
        """The value in this slot, `base` further on."""
        return b.load(self.held, 0, slot if base is None else b.op("iadd", slot, base))

    def end(self, b: Builder, block: int) -> int:
        """Where the list of sources of a block ends."""
        if self.lists.bases is None:
            return b.load("starts", 1, block)
        return b.load(self.table("ends", "i", self.lists.ends), 0, block)

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
        places = "places" if lanes or not wide.any() else self.table(
            "row_places", "i", schedule.slots[rows])
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
            q = b.loop(*self.bounds(b, f"rows_{kind.name}", turn, borders[kind.first],
                                    borders[kind.last]))[0]
            self.ragged(b, run, q, segments[kind.segments, 3])
            b.close()
            return
        s = b.loop(*self.bounds(b, f"segments_{kind.name}", turn, kind.first, kind.last))[0]
        if kind.listed:
            s = b.load(self.table(f"segments_{kind.name}", "i", kind.segments), 0, s)
        k = b.load("segment_edges", 0, s)
        same = once(self.plan, self.lists, segments, block)
        apart = batch and self.unrolls and bool((segments[:, 5] != LOOPED).any())
        keys = np.column_stack([segments[:, [2, 4]], same,
                                segments[:, 5] if apart else np.full(len(segments), LOOPED)])
        for key in dict.fromkeys(map(tuple, keys[kind.segments].tolist())):
            room, side, alike, listed = key
            mine = (keys == key).all(axis=1)
            if listed != LOOPED:
                q = self.blocks(b, mine, s, f"{kind.name}_{listed}_{alike}", block, block)
                these = kind.segments[mine[kind.segments]]
                unrolled(self, b, run, q, segments[these], block, bool(alike & 1))
                b.close()
                continue
            lanes = not batch and self.native > 1 and room > 1
            unit = side if lanes else 1
            # As many at a time as hide the latency of a sum, which runs in in-list order.
            many = (block if room == 1 else max(1, CHAINS // side) if lanes else 1) * unit
            for count in dict.fromkeys((many, unit)):
                name = f"{room}_{side}" + f"_{alike}" * (alike > 0) + "_rest" * apart
                q = self.blocks(b, mine, s, name, count, many)
                if room == 1:
                    self.alone(b, run, q, k, s, count, alike if count > 1 else 0)
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

    def slots_of(self, b: Builder, run: Run, at: int, offset: int = 0) -> list[int]:
        """The slots, without a base, of the sources of a term whose first edge is number at +
        offset."""
        return [b.load("sources", offset + i, at)
                for i in range(edges_a_term(AGGREGATIONS[run.aggregation]))]

    def sources_of(self, b: Builder, run: Run, base: int | None, at: int, offset: int = 0
                   ) -> list[int]:
        """Their values."""
        return [self.moved(b, slot, base) for slot in self.slots_of(b, run, at, offset)]

    def edges_before(self, b: Builder, run: Run, j: int) -> int:
        """The number of the edges of the first j terms of a row."""
        size = edges_a_term(AGGREGATIONS[run.aggregation])
        return j if size == 1 else b.op("imul", j, b.index(size))

    def terms_in(self, b: Builder, run: Run, edges: int) -> int:
        """How many terms so many edges are."""
        size = edges_a_term(AGGREGATIONS[run.aggregation])
        return edges if size == 1 else b.op("idiv", edges, b.index(size))

    def ragged(self, b: Builder, run: Run, q: int, fan_ins: Longs) -> None:
        """Block q, of one row, of one of these numbers of edges."""
        agg = AGGREGATIONS[run.aggregation]
        size = edges_a_term(agg)
        few = fan_ins.min() == fan_ins.max() and size <= fan_ins[0] <= UNROLLED * size
        first, base = b.load("starts", 0, q), self.base(b, q)
        if size > 1 and not few:
            edges_of = b.op("iadd", self.end(b, q), b.op("imul", first, b.index(-1)))
            self.alone(b, run, q, edges_of, q, 1, 0)
            return
        # From a source to its weight, where they are not in the same order.
        shift = None
        if self.weights != "starts":
            shift = b.op("iadd", b.load(self.weights, 0, q),
                         b.op("imul", first, b.index(-1)))

        def edges(j: int | None, offset: int = 0) -> list[tuple[int, int]]:
            at = first if j is None else j
            by = at if shift is None else b.op("iadd", at, shift)
            return [term(b, agg, self.sources_of(b, run, base, at, offset * size),
                         self.parameter(b, offset, by))]

        biases = [self.parameter(b, 0, b.load("biases", 0, q))] if run.biased else None
        if few:
            terms = [edges(None, j)[0] for j in range(fan_ins[0] // size)]
            argument = total(b, "sum" if size > 1 else agg, terms, biases[0] if biases else None)
            program = expression(run.activation, self.plan.graph.functions)
            self.put(b, self.value(b, program, argument), 0, b.load("places", 0, q))
            return
        last = self.end(b, q)
        begin = first if agg == "sum" else b.op("iadd", first, b.index(1))
        count = None
        if agg == "mean":
            count = b.op("real", b.op("iadd", last, b.op("imul", first, b.index(-1))))
        (value,) = self.sums(b, run, begin, last, count, edges, biases, 1)
        self.put(b, value, 0, b.load("places", 0, q))

    def alone(self, b: Builder, run: Run, q: int, k: int, s: int, count: int, same: int) -> None:
        """Blocks q .. q+count-1, of one row each of k edges, in one loop; `same` as `once` says."""
        agg, terms = AGGREGATIONS[run.aggregation], self.terms_in(b, run, k)
        begins = {"starts": [b.load("starts", 0, q)], self.weights: [b.load(self.weights, 0, q)]}
        for name, held in begins.items():
            starts = name == "starts"
            for i in range(1, 1 if same & (2 if starts else 1) else count):
                apart = self.lists.bases is not None if starts else self.plan.shares
                held.append(b.load(name, i, q) if apart
                            else b.op("iadd", held[-1], k if starts else terms))
        bases = [self.base(b, q, i) for i in range(count)]

        def edges(j: int | None) -> list[tuple[int, int]]:
            at: dict[int, int] = {}
            slots: dict[int, list[int]] = {}
            weights: dict[int, int] = {}
            found = []
            for i in range(count):
                first, weight = (held[i % len(held)] for held in (
                    begins["starts"], begins[self.weights]))
                for begin, by in ((first, "edges"), (weight, "terms")):
                    if begin not in at:
                        at[begin] = begin if j is None else b.op(
                            "iadd", begin, self.edges_before(b, run, j) if by == "edges" else j)
                if first not in slots:
                    slots[first] = self.slots_of(b, run, at[first])
                ns = [self.moved(b, slot, bases[i]) for slot in slots[first]]
                if weight not in weights:
                    weights[weight] = self.parameter(b, 0, at[weight])
                found.append(term(b, agg, ns, weights[weight]))
            return found

        biases = None
        if run.biased:
            biases = [self.parameter(b, 0, b.load("biases", i, q)) for i in range(count)]
        values = self.sums(b, run, self.first(b, run), terms, self.mean_of(b, run, s),
                           edges, biases, count)
        for i, value in enumerate(values):
            self.put(b, value, 0, b.load("places", i, q))

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
            at = [read if j is None else b.op("iadd", read, self.edges_before(b, run, j))
                  for read in reads]
            by = row if j is None else b.op("iadd", b.op("imul", j, b.index(room)), row)
            sources = [self.sources_of(b, run, base, a)
                       for base, a in zip(bases, at, strict=True)]
            return [term(b, agg, sources[i // side], self.parameter(b, 0, b.op("iadd", w, by)))
                    for i, w in enumerate(weights)]

        agg, terms = AGGREGATIONS[run.aggregation], self.terms_in(b, run, k)
        biases = [self.parameter(b, 0, b.op("iadd", at, row)) for at in shifts] or None
        values = self.sums(b, run, self.first(b, run), terms, self.mean_of(b, run, s), edges,
                           biases, count)
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
                at = b.op("iadd", at, self.edges_before(b, run, j))
                w = b.op("iadd", w, b.op("imul", j, b.index(room)))
            ns = self.sources_of(b, run, base, at)
            return [term(b, agg, ns, self.parameter(b, i, w)) for i in range(count)]

        agg, terms = AGGREGATIONS[run.aggregation], self.terms_in(b, run, k)

        biases = None
        if run.biased:
            at = b.op("iadd", b.load("biases", 0, q), row)
            biases = [self.parameter(b, i, at) for i in range(count)]
        place = b.op("iadd", b.load("places", 0, q), row)
        values = self.sums(b, run, self.first(b, run), terms, self.mean_of(b, run, s), edges,
                           biases, count)
        for i, value in enumerate(values):
            self.put(b, value, i, place)
        b.close()

    def first(self, b: Builder, run: Run) -> int:
        """The term at which the loop over a row's terms begins."""
        return b.index(0 if AGGREGATIONS[run.aggregation] in FROM_BIAS else 1)

    def mean_of(self, b: Builder, run: Run, s: int) -> int | None:
        """The number of edges of the rows of segment s, as a real, where their mean is wanted."""
        if AGGREGATIONS[run.aggregation] != "mean":
            return None
        counts = self.segments[:, 3].astype(DTYPES[self.dtype])
        return b.load(self.table("counts", "f", counts), 0, s)

    def sums(self, b: Builder, run: Run, begin: int, end: int, mean_of: int | None,
             edges: Callable[[int | None], list[tuple[int, int]]], biases: list[int] | None,
             count: int) -> list[int]:
        """The values of `count` rows of as many terms each, side by side: as many sums under way at
        once hide the latency of each. `edges` are the sources and weights of term j of each, for j
        in begin .. end, None for the first one of an aggregation that starts from it."""
        agg = AGGREGATIONS[run.aggregation]
        program = expression(run.activation, self.plan.graph.functions)
        if agg in FROM_BIAS:
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
            bias = None if agg in FROM_BIAS or biases is None else biases[i]
            acc = finish(b, "sum" if agg == "mean" else agg, acc, 0, bias)
            values.append(self.value(b, program, acc))
        return values
