"""The forward pass as loops over index arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ncc.ir.graph import AGGREGATIONS, Ints, Longs
from ncc.ir.plan import Plan, Run, Schedule
from ncc.ir.ssa import DTYPES
from ncc.ir.ssa_build import Builder
from ncc.machine.model import CHAINS
from ncc.passes.lower.arrays.lists import Arrays, Block, Within, once
from ncc.passes.lower.arrays.often import LOOPED, cut, unrolled
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.arrays.turns import Kind, Turn, short, spans
from ncc.passes.lower.arrays.windows import side_by_side
from ncc.scalar.aggregations import FROM_BIAS, edges_a_term, finish, start, step, term, total
from ncc.scalar.expressions import Expr, emit, expression

UNROLLED = 3  # terms of each row of a kind: up to here a loop over them is longer than they are


class Loops(Arrays):
    """What the functions of one plan share, and the loops of those in the forms table and shared:
    over segments, blocks, rows and edges. Values are in the buffer `held`. Where it `unrolls`,
    lists that many rows read have code of their own in a batch."""

    def __init__(self, plan: Plan, tables: Tables, dtype: str, native: int, lanes_rows: int,
                 unrolls: bool = True) -> None:
        super().__init__(plan, tables)
        self.unrolls, self.dtype = unrolls, dtype
        self.native, self.lanes_rows = native, lanes_rows

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
        turns = self.begin(schedule.slots, cut)
        begin = int(schedule.slots[g.inputs[:1]].max(initial=0))
        self.columns_in(b, sample, "x", g.n_inputs, begin)
        self.columns_in(b, sample, "state", len(g.states), begin + g.n_inputs)
        if plan.phased:
            self.in_phases(b, schedule, sample is not None, block)
        for depth, kinds in turns:
            loops, turn = self.turns(b, depth)
            for kind in kinds:
                self.kind(b, kind, turn, sample is not None, block)
            for _ in range(loops):
                b.close()

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
                self.kind(b, kind, Turn(t), batch, block)
                continue
            mine = np.flatnonzero(g.aggregations[rows] == agg)
            k = b.loop(*self.bounds(b, f"rows_of_{name}", t, *spans(turn[mine], turns)))[0]
            listed = self.table(f"rows_of_{name}", "i", plan.block_of[mine])
            self.ragged(b, run, Block(b.load(listed, 0, k), {}), np.diff(plan.starts)[mine])
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

    def kind(self, b: Builder, kind: Kind, turn: Turn | None, batch: bool, block: int) -> None:
        """The rows of a kind, or of one turn of it: segment by segment, or, where those are short,
        row by row."""
        segments, run, mine = self.segments, kind.run, kind.segments
        t, time = (None, None) if turn is None else turn
        if short(kind, segments):
            borders = np.append(segments[:, 0], segments[-1:, 1])
            if self.shared is not None:
                borders = self.shared.position[borders]
            q = b.loop(*self.bounds(b, f"rows_{kind.name}", t, borders[kind.first],
                                    borders[kind.last]))[0]
            self.ragged(b, run, Block(q, {}), segments[mine, 3])
            b.close()
            return
        s = b.loop(*self.bounds(b, f"segments_{kind.name}", t, kind.first, kind.last))[0]
        if kind.listed:
            s = b.load(self.table(f"segments_{kind.name}", "i", mine), 0, s)
        of, segments = s, self.classes
        if self.shared is not None:
            of, mine = b.load("segment_classes", 0, s), np.unique(self.shared.classes[mine])
        k = b.load("segment_edges", 0, of)
        segment = Within(s, of, time, kind.segments)
        same = self.alike(segments, batch, block)
        apart = batch and self.unrolls and bool((segments[:, 5] != LOOPED).any())
        keys = np.column_stack([segments[:, [2, 4]], same,
                                segments[:, 5] if apart else np.full(len(segments), LOOPED)])
        beside = side_by_side(self, b, kind, segment, block) if apart else []
        mine = mine[~np.isin(segments[mine, 5], beside)]
        for key in dict.fromkeys(map(tuple, keys[mine].tolist())):
            room, side, alike, listed = key
            wanted = (keys == key).all(axis=1)
            these = segments[mine[wanted[mine]]]
            if listed != LOOPED:
                loops, at = self.blocks(b, wanted, segment, f"{kind.name}_{listed}_{alike}", block,
                                        block, side)
                unrolled(self, b, run, at, these, block, bool(alike & 1))
                for _ in range(loops):
                    b.close()
                continue
            lanes = self.lanes(batch) and room > 1
            unit = side if lanes else 1
            many = block if room == 1 else self.together(side) if lanes else 1
            sizes = these[:, 1] - these[:, 0]
            for count in dict.fromkeys((many, unit)):
                if not (sizes // many if count == many else sizes % many).any():
                    continue
                name = f"{room}_{side}" + f"_{alike}" * (alike > 0) + "_rest" * apart
                loops, at = self.blocks(b, wanted, segment, name, count, many, side)
                offsets = self.offsets(these, count)
                if room == 1:
                    self.alone(b, run, at, k, of, count, alike if count > 1 else 0, offsets)
                elif lanes:
                    self.in_lanes(b, run, at, k, of, room, side, count, offsets)
                else:
                    self.by_rows(b, run, at, k, of, room)
                for _ in range(loops):
                    b.close()
        b.close()

    def lanes(self, batch: bool) -> bool:
        """Whether the rows of a tile are lanes."""
        return not batch and self.native > 1

    def together(self, side: int) -> int:
        """Tiles whose rows are lanes, `side` of one in-list: as many at a time as hide the latency
        of a sum, which runs in in-list order."""
        return max(1, CHAINS // side) * side

    def alike(self, segments: Longs, batch: bool, block: int) -> Longs:
        """What blocks of each segment that go together have in common, as `once` says."""
        rooms, sides = segments[:, 2], segments[:, 4]
        found = once(self.plan, self.lists, segments, rooms == 1, block)
        for side in range(1, CHAINS + 1) if self.shared is not None and self.lanes(batch) else ():
            mine = (rooms > 1) & (sides == side)
            same = once(self.plan, self.lists, segments, mine, self.together(side))
            found += np.where(same == 3, same, 0)  # else they gain too little for code of their own
        return found

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

    def ragged(self, b: Builder, run: Run, q: Block, fan_ins: Longs) -> None:
        """Block q, of one row, of one of these numbers of edges."""
        agg = AGGREGATIONS[run.aggregation]
        size = edges_a_term(agg)
        few = fan_ins.min() == fan_ins.max() and size <= fan_ins[0] <= UNROLLED * size
        first, base = self.number(b, "starts", q), self.base(b, q)
        if size > 1 and not few:
            edges_of = b.op("iadd", self.end(b, q), b.op("imul", first, b.index(-1)))
            self.alone(b, run, q, edges_of, q.at, 1, 0, {})
            return
        # From a source to its weight, where they are not in the same order.
        shift = None
        if self.weights != "starts":
            shift = b.op("iadd", self.number(b, self.weights, q),
                         b.op("imul", first, b.index(-1)))

        def edges(j: int | None, offset: int = 0) -> list[tuple[int, int]]:
            at = first if j is None else j
            by = at if shift is None else b.op("iadd", at, shift)
            return [term(b, agg, self.sources_of(b, run, base, at, offset * size),
                         self.parameter(b, offset, by))]

        biases = [self.parameter(b, 0, self.number(b, "biases", q))] if run.biased else None
        if few:
            terms = [edges(None, j)[0] for j in range(fan_ins[0] // size)]
            argument = total(b, "sum" if size > 1 else agg, terms, biases[0] if biases else None)
            program = expression(run.activation, self.plan.graph.functions)
            self.put(b, self.value(b, program, argument), 0, self.number(b, "places", q))
            return
        last = self.end(b, q)
        begin = first if agg == "sum" else b.op("iadd", first, b.index(1))
        count = None
        if agg == "mean":
            count = b.op("real", b.op("iadd", last, b.op("imul", first, b.index(-1))))
        (value,) = self.sums(b, run, begin, last, count, edges, biases, 1)
        self.put(b, value, 0, self.number(b, "places", q))

    def alone(self, b: Builder, run: Run, q: Block, k: int, s: int, count: int, same: int,
              offsets: dict[str, list[int]]) -> None:
        """Blocks q .. q+count-1, of one row each of k edges, in one loop; `same` as `once` says,
        `offsets` as `offsets`."""
        agg, terms = AGGREGATIONS[run.aggregation], self.terms_in(b, run, k)
        begins = {name: [self.number(b, name, q)] for name in ("starts", self.weights)}
        for name, held in begins.items():
            starts = name == "starts"
            for i in range(1, 1 if same & (2 if starts else 1) else count):
                apart = self.lists.bases is not None if starts else self.plan.shares
                held.append(self.number(b, name, q, i) if apart
                            else b.op("iadd", held[-1], k if starts else terms))
        # Where all have one list, what is added to all bases is added to its slots: they are fewer.
        added = q.moved.get("bases") if len(begins["starts"]) < count else None
        bases = self.bases(b, q if added is None else q.without("bases"), range(count), offsets)

        def edges(j: int | None) -> list[tuple[int, int]]:
            at: dict[int, int] = {}
            slots: dict[int, list[int]] = {}
            weights: dict[int, int] = {}
            found = []
            for i, (base, offset) in enumerate(bases):
                first, weight = (held[i % len(held)] for held in (
                    begins["starts"], begins[self.weights]))
                for begin, by in ((first, "edges"), (weight, "terms")):
                    if begin not in at:
                        at[begin] = begin if j is None else b.op(
                            "iadd", begin, self.edges_before(b, run, j) if by == "edges" else j)
                if first not in slots:
                    slots[first] = self.slots_of(b, run, at[first])
                    if added is not None:
                        slots[first] = [b.op("iadd", slot, added) for slot in slots[first]]
                ns = [self.moved(b, slot, base, offset) for slot in slots[first]]
                if weight not in weights:
                    weights[weight] = self.parameter(b, 0, at[weight])
                found.append(term(b, agg, ns, weights[weight]))
            return found

        biases = None
        if run.biased:
            biases = [self.parameter(b, offset, at)
                      for at, offset in self.of_round(b, "biases", q, range(count), offsets)]
        values = self.sums(b, run, self.first(b, run), terms, self.mean_of(b, run, s),
                           edges, biases, count)
        places = self.of_round(b, "places", q, range(count), offsets)
        for value, (place, offset) in zip(values, places, strict=True):
            self.put(b, value, offset, place)

    def bases(self, b: Builder, q: Block, blocks: range, offsets: dict[str, list[int]]
              ) -> Sequence[tuple[int | None, int]]:
        """What is added to the sources of some of the blocks from q on."""
        if self.lists.bases is None:
            return [(None, 0)] * len(blocks)
        return list(self.of_round(b, "bases", q, blocks, offsets))

    def in_lanes(self, b: Builder, run: Run, q: Block, k: int, s: int, room: int, side: int,
                 count: int, offsets: dict[str, list[int]]) -> None:
        """Blocks q .. q+count-1, whose rows are lanes: each source is one for all of them, and for
        `side` blocks; `offsets` as `offsets`."""
        units = range(0, count, side)
        starts = list(self.of_round(b, "starts", q, units, offsets))
        weights, places, shifts = [
            list(self.of_round(b, name, q, range(count), offsets)) if name != "biases" or run.biased
            else [] for name in (self.weights, "places", "biases")]
        bases = self.bases(b, q, units, offsets)
        row = b.loop(b.index(0), b.index(room), lanes=room)[0]

        def edges(j: int | None) -> list[tuple[int, int]]:
            # What blocks have in common is read once.
            at = {first: first if j is None else b.op("iadd", first, self.edges_before(b, run, j))
                  for first, _ in starts}
            by = row if j is None else b.op("iadd", b.op("imul", j, b.index(room)), row)
            slots: dict[tuple[int, int], list[int]] = {}
            sources = []
            for (first, more), (base, offset) in zip(starts, bases, strict=True):
                if (first, more) not in slots:
                    slots[first, more] = self.slots_of(b, run, at[first], more)
                sources.append([self.moved(b, slot, base, offset) for slot in slots[first, more]])
            read: dict[tuple[int, int], int] = {}
            found = []
            for i, (weight, offset) in enumerate(weights):
                if (weight, offset) not in read:
                    read[weight, offset] = self.parameter(b, offset, b.op("iadd", weight, by))
                found.append(term(b, agg, sources[i // side], read[weight, offset]))
            return found

        agg, terms = AGGREGATIONS[run.aggregation], self.terms_in(b, run, k)
        biases = [self.parameter(b, offset, b.op("iadd", at, row)) for at, offset in shifts] or None
        values = self.sums(b, run, self.first(b, run), terms, self.mean_of(b, run, s), edges,
                           biases, count)
        for (place, offset), value in zip(places, values, strict=True):
            self.put(b, value, offset, b.op("iadd", place, row))
        b.close()

    def by_rows(self, b: Builder, run: Run, q: Block, k: int, s: int, room: int) -> None:
        """Block q, some of its rows at a time, which read each source once."""
        count = max(c for c in range(1, self.lanes_rows + 1) if room % c == 0)
        held = -(-(self.shared.arrays if self.shared else self.numbers)["rows"] // count)
        u = b.loop(b.index(0), b.load(self.table(f"parts_{count}", "i", held), 0, q.at))[0]
        row = b.op("imul", u, b.index(count))
        reads, base = self.number(b, "starts", q), self.base(b, q)
        weights = b.op("iadd", self.number(b, self.weights, q), row)

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
            at = b.op("iadd", self.number(b, "biases", q), row)
            biases = [self.parameter(b, i, at) for i in range(count)]
        place = b.op("iadd", self.number(b, "places", q), row)
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
        counts = self.classes[:, 3].astype(DTYPES[self.dtype])
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
