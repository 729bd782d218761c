"""The plan as functions of scalar ops: forward, forward_batch, pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, NONE, Ints, Longs
from ncc.ir.plan import Plan, Run, Schedule, Segment
from ncc.ir.ssa import DTYPES, Buffer, Builder, Func, Module, Table
from ncc.passes.lower.schedule import in_time, pays, slots_of
from ncc.scalar.aggregations import finish, start, step
from ncc.scalar.expressions import abreast, emit, expression

FAR = 3 << 19  # bytes of weights and sources: three quarters of a level-2 cache of 2 MB
NEAR = 1 << 20  # bytes of values of a round of samples
CHAINS = 4  # vectors of rows under way at once hide the latency of an FMA
PART = 1024  # rows that are looked at together
SIDE = 4  # rows of one kind that are computed side by side: a vector of 128 bits, in f32
SHORT = 3  # rows: of segments that are shorter on average, each row has a loop of its own


def lower(plan: Plan, *, name: str = "net", dtype: str = "f32", numerics: str = "fused",
          lanes: int = 16, far_lanes: int = 0, alone_lanes: int = 0, native: int = 1,
          block: int = 8, lanes_block: int = 2, lanes_rows: int = 4,
          embedded: bool = False, forwards: bool = True) -> Module:
    """Write each function of the plan in its form.

        04 <- 00 01          =>        %0 = load x[0]
                                       %1 = load packed[0]
                                       %2 = mul %0, %1
                                       %3 = load x[1]
                                       %4 = load packed[1]
                                       %5 = fma %3, %4, %2

    `straight` writes every edge as ops, of one sample on machines with vectors in the order of
    passes/lower/schedule.py, with slots of its own; `table` loops over rows and edges and reads
    sources and slots from constant tables, `block` rows of one level and fan-in at a time
    (`lanes_block` where each is a vector). `shared` does so for rows of their own; in blocks of
    rows with the same sources each source is loaded once: in `forward` the rows are lanes, in
    vectors of `native`; in `forward_batch` up to `lanes_rows` of them are computed at a time. There
    the samples are a loop of `lanes`, or of `far_lanes` where the weights are too many for the
    cache and the values are not, or of `alone_lanes` where most edges are of rows by themselves,
    and what is `work` in `forward` is private to each sample; without vectors it is a loop of
    calls. Where the parameters are `embedded` (all are constants) there is no `packed` buffer and
    no `pack`. Without `forwards` there is `pack` alone, for those who have the others and want
    gradients beside them.
    """
    longer = lanes
    if far_lanes and _far(plan, np.dtype(DTYPES[dtype]).itemsize, far_lanes):
        longer = far_lanes
    elif alone_lanes and plan.batch.form != "straight" and 2 * _alone(plan) > len(plan.edges):
        longer = alone_lanes
    lanes_rows, lanes = max(1, lanes_rows * lanes // longer), longer
    lowering = _Lowering(plan, dtype, numerics, native, lanes_rows, embedded)
    if not forwards:
        return Module(name, dtype, numerics, (lowering.pack(),), tuple(lowering.tables.values()))
    funcs = [lowering.function("forward", plan.single, 0, block)]
    if native == 1 and plan.batch.form == plan.single.form:
        funcs.append(lowering.one_by_one(funcs[0]))
    else:
        funcs.append(lowering.function("forward_batch", plan.batch, lanes, lanes_block))
    if lowering.packs:
        funcs.insert(0, lowering.pack())
    return Module(name, dtype, numerics, tuple(funcs), tuple(lowering.tables.values()))


def _far(plan: Plan, size: int, lanes: int) -> bool:
    """Whether weights and sources come from beyond the level-2 cache for each round of samples, so
    that longer rounds read them less often; their values must fit."""
    return (plan.batch.form != "straight" and len(plan.packed) * size + 2 * _alone(plan) > FAR
            and plan.batch.work * lanes * size <= NEAR)


def _alone(plan: Plan) -> int:
    """The edges of rows by themselves: each loads its weight for one sum a vector of samples, and
    gains from longer rounds, while in a tile of rows weights and sources serve several."""
    return int(np.diff(plan.starts)[plan.sizes[plan.block_of] == 1].sum())


class _Kind(NamedTuple):
    """Rows with one activation and one aggregation: their segments, and where those of each turn
    begin and end."""

    run: Run
    name: str
    segments: Longs
    first: Longs
    last: Longs


class _Lowering:
    def __init__(self, plan: Plan, dtype: str, numerics: str, native: int, lanes_rows: int,
                 embedded: bool) -> None:
        self.plan = plan
        self.native = native
        self.lanes_rows = lanes_rows
        self.dtype = dtype
        self.fused = numerics != "strict"
        self.tables: dict[str, Table] = {}
        self.packs = not embedded
        if not self.packs and len(plan.weights):
            self.table("packed", "f", self.constants(plan.packed))
        self.position: dict[int, int] = {}
        if "straight" in (plan.single.form, plan.batch.form):
            slots, first = np.unique(plan.packed, return_index=True)
            self.position = dict(zip(slots.tolist(), first.tolist(), strict=True))

    def constants(self, codes: Ints) -> Any:
        return self.plan.constants[-1 - codes].astype(DTYPES[self.dtype])

    def table(self, name: str, type: str, values: Any) -> str:
        if name not in self.tables:
            array = values if type == "f" else np.ascontiguousarray(values, np.int32)
            self.tables[name] = Table(name, type, array)
        return name

    def builder(self) -> Builder:
        return Builder(self.dtype, self.fused)

    def function(self, name: str, schedule: Schedule, lanes: int, block: int) -> Func:
        g = self.plan.graph
        b = self.builder()
        sample = None
        if lanes:
            sample = b.loop(b.index(0), b.emit("count"), lanes=lanes)[0]
        # Straight lanes keep their values in registers.
        size = 0 if lanes and schedule.form == "straight" else schedule.work
        if schedule.form == "straight" and not lanes and self.native > 1 and pays(
                self.plan, self.dtype, self.fused):
            groups = in_time(self.plan, self.dtype, self.fused, SIDE)
            slots, size = slots_of(self.plan, groups)
            self.straight(b, sample, slots, groups)
        elif schedule.form == "straight":
            assert schedule.slots is not None
            # The vectors of one row's lanes are sums enough under way at once.
            side = 1 if lanes > 1 else block
            groups = [list(range(first, last))
                      for run in self.plan.runs for first, last in self.abreast(run, side)]
            self.straight(b, sample, schedule.slots.tolist(), groups)
        else:
            self.rows(b, schedule, sample, block)
        if lanes:
            b.close()
        buffers = [Buffer("x", "in", len(g.inputs))]
        if self.packs:
            buffers.append(Buffer("packed", "in", len(self.plan.packed)))
        buffers.append(Buffer("y", "out", len(g.outputs)))
        buffers.append(Buffer("work", "private" if lanes else "work", size))
        return Func(name, tuple(buffers), b.ops, counted=bool(lanes))

    def one_by_one(self, func: Func) -> Func:
        """A batch on a target without vectors: the function of one sample, sample by sample."""
        b = self.builder()
        sample = b.loop(b.index(0), b.emit("count"))[0]
        moved = [buffer for buffer in func.buffers if buffer.name in ("x", "y")]
        at = tuple([b.op("imul", sample, b.index(buffer.size)) for buffer in moved])
        b.emit("call_at", at, (func.name, tuple([buffer.name for buffer in moved])))
        b.close()
        return Func("forward_batch", func.buffers, b.ops, counted=True)

    def straight(self, b: Builder, sample: int | None, slots: list[int],
                 groups: list[list[int]]) -> None:
        """The rows of a group, which are of one kind, take turns edge by edge: their sums are
        chains of FMAs, of which the machine overlaps no more than it has in sight."""
        plan, g = self.plan, self.plan.graph
        run_of = np.repeat(np.arange(len(plan.runs)), [run.last - run.first for run in plan.runs])
        row_of_x = None if sample is None else b.op("imul", sample, b.index(len(g.inputs)))
        row_of_y = None if sample is None else b.op("imul", sample, b.index(len(g.outputs)))
        wanted: dict[int, list[int]] = {}
        for k, o in enumerate(g.outputs.tolist()):
            wanted.setdefault(o, []).append(k)
        made: dict[int, int] = {}
        for k, i in enumerate(g.inputs.tolist()):
            made[i] = b.load("x", k, row_of_x)
            for o in wanted.get(i, ()):
                b.store(made[i], "y", o, row_of_y)
        codes: dict[int, int] = {}

        def parameter(code: int) -> int:
            if code not in codes:
                codes[code] = (b.load("packed", self.position[code]) if code >= 0
                               else b.const(float(plan.constants[-1 - code])))
            return codes[code]

        sources, weights, biases = g.sources.tolist(), g.weights.tolist(), g.biases.tolist()
        for group in groups:
            run = plan.runs[run_of[group[0]]]
            program = expression(run.activation, g.functions)
            agg = AGGREGATIONS[run.aggregation]
            rows = plan.rows[group].tolist()
            shifts: list[int | None] = [
                None if biases[j] == NONE else parameter(biases[j]) for j in rows]
            accs: list[int | None] = [x if agg == "sum" else None for x in shifts]
            edges = [plan.edges[plan.starts[r] : plan.starts[r + 1]].tolist() for r in group]
            for turn in zip_longest(*edges):
                for i, e in enumerate(turn):
                    if e is not None:
                        ends = made[sources[e]], parameter(weights[e])
                        acc = accs[i]
                        accs[i] = (start(b, agg, *ends) if acc is None
                                   else step(b, agg, acc, *ends))
            totals = [finish(b, agg, acc, len(edges[i]), None if agg == "sum" else shifts[i])
                      for i, acc in enumerate(accs)]
            values = abreast(program, b, totals)
            for j, value in zip(rows, values, strict=True):
                made[j] = value
                if slots[j] >= 0 and sample is None:
                    b.store(value, "work", slots[j])
                for o in wanted.get(j, ()):
                    b.store(value, "y", o, row_of_y)

    def abreast(self, run: Run, count: int) -> Iterator[tuple[int, int]]:
        """The rows of a run, `count` or fewer of one level at a time."""
        assert self.plan.graph.levels is not None
        levels = self.plan.graph.levels[self.plan.rows[run.first : run.last]]
        for low, high in pairwise(csr.borders(levels).tolist()):
            for first in range(low, high, count):
                yield run.first + first, run.first + min(first + count, high)

    def rows(self, b: Builder, schedule: Schedule, sample: int | None, block: int) -> None:
        plan, g = self.plan, self.plan.graph
        assert schedule.slots is not None
        # Where single and batch functions are both loops, their slots and so these are the same.
        # Blocks of one group, which follow one another often, have one in-list.
        leader = plan.blocks[:-1]
        lengths = np.diff(plan.starts)[leader]
        fresh = self.fresh(leader, lengths)
        begins = np.cumsum(np.where(fresh, lengths, 0))
        self.table("sources", "i", self.sources(schedule, leader[fresh], lengths[fresh]))
        # One more than there are blocks: a block of fresh sources ends where the next begins.
        self.table("starts", "i", np.append(begins - lengths, begins[-1:]))
        self.weights = "starts"  # where each source has a weight, and in the same order
        if not np.array_equal(begins - lengths, plan.weights):
            self.weights = self.table("weights", "i", plan.weights)
        self.table("biases", "i", np.maximum(plan.biases, 0))
        self.table("places", "i", schedule.slots[plan.rows[leader]])
        row_of_x = None if sample is None else b.op("imul", sample, b.index(len(g.inputs)))
        for k, count in b.columns(len(g.inputs), sample is not None):
            x = k if row_of_x is None else b.op("iadd", row_of_x, k)
            for c, value in enumerate([b.load("x", c, x) for c in range(count)]):
                b.store(value, "work", c, k)
            b.close()
        self.segments = np.array(plan.segments, np.int64).reshape(-1, len(Segment._fields))
        self.table("segment_edges", "i", self.segments[:, 3])
        if plan.phased:
            self.in_phases(b)
        for depth, kinds in () if plan.phased else self.stretches():
            turn = b.loop(b.index(0), b.index(depth))[0] if depth > 1 else None
            for kind in kinds:
                self.kind(b, kind, turn, sample is not None, block)
            if turn is not None:
                b.close()
        outs = self.table("outs", "i", schedule.slots[g.outputs])
        row_of_y = None if sample is None else b.op("imul", sample, b.index(len(g.outputs)))
        for k, count in b.columns(len(g.outputs), sample is not None):
            values = [b.load("work", 0, b.load(outs, c, k)) for c in range(count)]
            y = k if row_of_y is None else b.op("iadd", row_of_y, k)
            for c, value in enumerate(values):
                b.store(value, "y", c, y)
            b.close()

    def stretches(self) -> Iterator[tuple[int, list[_Kind]]]:
        """The kinds of rows, in loops of so many turns: where each kind's segments follow one
        another, each has a loop of its own of one turn; else all take turns, depth by depth, so
        that the code of a kind stands once however often it returns."""
        plan, segments = self.plan, self.segments
        levels = plan.graph.levels
        assert levels is not None
        first = plan.blocks[segments[:, 0]]
        run_of = np.searchsorted([run.first for run in plan.runs], first, side="right") - 1
        keys = [(run.activation, run.aggregation) for run in plan.runs]
        names = {key: k for k, key in enumerate(sorted(dict.fromkeys(keys)))}
        number = np.array([names[key] for key in keys], np.int64)[run_of]
        runs = {key: run for key, run in zip(keys, plan.runs, strict=True)}
        alternate = np.count_nonzero(np.diff(number)) >= len(names)
        # Every turn goes through the kinds in their order, as the rows of a depth do.
        turn = np.zeros(len(first), np.int64)
        if alternate:
            turn = np.unique(levels[plan.rows[first]], return_inverse=True)[1]
        count = int(turn.max(initial=-1)) + 1
        made = []
        for key, k in names.items():
            mine = np.flatnonzero(number == k)
            order = np.arange(count + 1)
            bounds = np.searchsorted(turn * len(names) + number, order * len(names) + k)
            ends = np.searchsorted(turn * len(names) + number, order * len(names) + k, "right")
            if not alternate:
                bounds, ends = mine[:1], mine[-1:] + 1
            made.append(_Kind(runs[key], f"{k}", mine, bounds[:count], ends[:count]))
        if alternate:
            yield count, made
        else:
            yield from ((1, [kind]) for kind in sorted(made, key=lambda kind: kind.first[0]))

    def in_phases(self, b: Builder) -> None:
        """Rows by themselves, depth by depth: first the sums of each aggregation, which stand in
        the values' slots meanwhile, then the activations."""
        plan, g = self.plan, self.plan.graph
        assert g.levels is not None
        rows = plan.rows
        turn = np.unique(g.levels[rows], return_inverse=True)[1]
        turns = np.arange(int(turn.max(initial=-1)) + 1)
        t = b.loop(b.index(0), b.index(len(turns)))[0]
        for agg in np.unique(g.aggregations[rows]).tolist():
            mine = np.flatnonzero(g.aggregations[rows] == agg)
            name = f"rows_of_{AGGREGATIONS[agg]}"
            k = b.loop(*self.bounds(b, name, t, np.searchsorted(turn[mine], turns),
                                    np.searchsorted(turn[mine], turns, "right")))[0]
            biased = any(run.biased for run in plan.runs if run.aggregation == agg)
            self.ragged(b, Run(0, 0, 0, agg, biased), b.load(self.table(name, "i", mine), 0, k))
            b.close()
        acts, number = np.unique(g.activations[rows], return_inverse=True)
        keys = turn * len(acts) + number
        for k, act in enumerate(acts.tolist()):
            if act == 0:  # the identity
                continue
            q = b.loop(*self.bounds(b, f"rows_with_{k}", t,
                                    np.searchsorted(keys, turns * len(acts) + k),
                                    np.searchsorted(keys, turns * len(acts) + k, "right")))[0]
            place = b.load("places", 0, q)
            value = emit(expression(act, g.functions), b, b.load("work", 0, place))
            b.store(value, "work", 0, place)
            b.close()
        b.close()

    def kind(self, b: Builder, kind: _Kind, turn: int | None, batch: bool, block: int) -> None:
        """The rows of a kind, or of one turn of it: segment by segment, or, where those are short,
        row by row."""
        segments, run = self.segments, kind.run
        counts = segments[kind.segments, 1] - segments[kind.segments, 0]
        held = segments[kind.segments, 2]
        if (held == 1).all() and counts.sum() < SHORT * len(counts):
            borders = np.append(segments[:, 0], segments[-1:, 1])
            lo, hi = self.bounds(b, f"rows_{kind.name}", turn, borders[kind.first],
                                 borders[kind.last])
            q = b.loop(lo, hi)[0]
            self.ragged(b, run, q)
            b.close()
            return
        s = b.loop(*self.bounds(b, f"segments_{kind.name}", turn, kind.first, kind.last))[0]
        k = b.load("segment_edges", 0, s)
        shapes = {(room, side): None for room, side in segments[kind.segments][:, [2, 4]].tolist()}
        for room, side in shapes:
            lanes = not batch and self.native > 1 and room > 1
            mine = (segments[:, 2] == room) & (segments[:, 4] == side)
            unit = side if lanes else 1
            # As many at a time as hide the latency of a sum, which runs in in-list order.
            many = (block if room == 1 else max(1, CHAINS // side) if lanes else 1) * unit
            for count in dict.fromkeys((many, unit)):
                q = self.blocks(b, mine, s, f"{room}_{side}", count, many)
                if room == 1:
                    self.alone(b, run, q, k, s, count)
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

    def sources(self, schedule: Schedule, rows: Longs, lengths: Longs) -> Ints:
        """The slots that these rows read, one row after another; a part of them at a time, as what
        is computed on the way takes many times the memory."""
        plan = self.plan
        assert schedule.slots is not None
        ends = np.cumsum(lengths)
        found = np.empty(lengths.sum(), np.int32)
        for part in range(0, len(rows), PART):
            n, end = lengths[part : part + PART], ends[part : part + PART]
            at = csr.ranges(plan.starts[rows[part : part + PART]], n)
            found[end[0] - n[0] : end[-1]] = schedule.slots[plan.graph.sources[plan.edges[at]]]
        return found

    def fresh(self, leader: Longs, lengths: Longs) -> Any:
        """Which blocks read other sources than the block before."""
        plan = self.plan
        fresh = np.ones(len(leader), bool)
        wide = np.flatnonzero((plan.sizes[1:] > 1) & (plan.sizes[:-1] > 1)
                              & (lengths[1:] == lengths[:-1])) + 1
        if not len(wide):
            return fresh
        count = lengths[wide]
        sources = plan.graph.sources[plan.edges]
        here = sources[csr.ranges(plan.starts[leader[wide]], count)]
        before = sources[csr.ranges(plan.starts[leader[wide - 1]], count)]
        differs = np.zeros(len(leader), bool)
        differs[np.repeat(wide, count)[here != before]] = True
        fresh[wide] = differs[wide]
        return fresh

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

    def ragged(self, b: Builder, run: Run, q: int) -> None:
        """Block q, of one row, of any number of edges."""
        first, last = b.load("starts", 0, q), b.load("starts", 1, q)
        # From a source to its weight, where they are not in the same order.
        shift = None
        if self.weights != "starts":
            shift = b.op("iadd", b.load(self.weights, 0, q),
                         b.op("imul", first, b.index(-1)))

        def edges(j: int | None) -> list[tuple[int, int]]:
            at = first if j is None else j
            return [(b.load("work", 0, b.load("sources", 0, at)),
                     b.load("packed", 0, at if shift is None else b.op("iadd", at, shift)))]

        agg = AGGREGATIONS[run.aggregation]
        biases = [b.load("packed", 0, b.load("biases", 0, q))] if run.biased else None
        begin = first if agg == "sum" else b.op("iadd", first, b.index(1))
        count = None
        if agg == "mean":
            count = b.op("real", b.op("iadd", last, b.op("imul", first, b.index(-1))))
        (value,) = self.sums(b, run, begin, last, count, edges, biases, 1)
        b.store(value, "work", 0, b.load("places", 0, q))

    def alone(self, b: Builder, run: Run, q: int, k: int, s: int, count: int) -> None:
        """Blocks q .. q+count-1, of one row each, in one loop."""
        names = dict.fromkeys(("starts", self.weights))
        begins = {name: [b.load(name, 0, q)] for name in names}
        for held in begins.values():
            for _ in range(count - 1):
                held.append(b.op("iadd", held[-1], k))

        def edge(i: int, j: int | None) -> tuple[int, int]:
            at = {name: held[i] if j is None else b.op("iadd", held[i], j)
                  for name, held in begins.items()}
            return (b.load("work", 0, b.load("sources", 0, at["starts"])),
                    b.load("packed", 0, at[self.weights]))

        biases = None
        if run.biased:
            biases = [b.load("packed", 0, b.load("biases", i, q)) for i in range(count)]
        values = self.sums(b, run, self.first(b, run), k, self.mean_of(b, run, s),
                           lambda j: [edge(i, j) for i in range(count)], biases, count)
        for i, value in enumerate(values):
            b.store(value, "work", 0, b.load("places", i, q))

    def in_lanes(self, b: Builder, run: Run, q: int, k: int, s: int, room: int, side: int,
                 count: int) -> None:
        """Blocks q .. q+count-1, whose rows are lanes: each source is one for all of them, and for
        `side` blocks."""
        reads = [b.load("starts", i, q) for i in range(0, count, side)]
        weights = [b.load(self.weights, i, q) for i in range(count)]
        places = [b.load("places", i, q) for i in range(count)]
        shifts = [b.load("biases", i, q) for i in range(count)] if run.biased else []
        row = b.loop(b.index(0), b.index(room), lanes=room)[0]

        def edges(j: int | None) -> list[tuple[int, int]]:
            at = [read if j is None else b.op("iadd", read, j) for read in reads]
            by = row if j is None else b.op("iadd", b.op("imul", j, b.index(room)), row)
            sources = [b.load("work", 0, b.load("sources", 0, a)) for a in at]
            return [(sources[i // side], b.load("packed", 0, b.op("iadd", w, by)))
                    for i, w in enumerate(weights)]

        biases = [b.load("packed", 0, b.op("iadd", at, row)) for at in shifts] or None
        values = self.sums(b, run, self.first(b, run), k, self.mean_of(b, run, s), edges, biases,
                           count)
        for place, value in zip(places, values, strict=True):
            b.store(value, "work", 0, b.op("iadd", place, row))
        b.close()

    def by_rows(self, b: Builder, run: Run, q: int, k: int, s: int, room: int) -> None:
        """Block q, some of its rows at a time, which read each source once."""
        count = max(c for c in range(1, self.lanes_rows + 1) if room % c == 0)
        held = -(-np.diff(self.plan.blocks) // count)
        u = b.loop(b.index(0), b.load(self.table(f"parts_{count}", "i", held), 0, q))[0]
        row = b.op("imul", u, b.index(count))
        reads = b.load("starts", 0, q)
        weights = b.op("iadd", b.load(self.weights, 0, q), row)

        def edges(j: int | None) -> list[tuple[int, int]]:
            at, w = reads, weights
            if j is not None:
                at, w = b.op("iadd", at, j), b.op("iadd", w, b.op("imul", j, b.index(room)))
            n = b.load("work", 0, b.load("sources", 0, at))
            return [(n, b.load("packed", i, w)) for i in range(count)]

        biases = None
        if run.biased:
            at = b.op("iadd", b.load("biases", 0, q), row)
            biases = [b.load("packed", i, at) for i in range(count)]
        place = b.op("iadd", b.load("places", 0, q), row)
        values = self.sums(b, run, self.first(b, run), k, self.mean_of(b, run, s), edges, biases,
                           count)
        for i, value in enumerate(values):
            b.store(value, "work", i, place)
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
            values.append(emit(program, b, acc))
        return values

    def pack(self) -> Func:
        codes = self.plan.packed
        b = self.builder()
        n_params = self.plan.graph.n_params
        buffers = (Buffer("params", "in", n_params), Buffer("packed", "out", len(codes)))
        fixed = np.flatnonzero(codes < 0)
        everywhere = len(fixed) == 0
        if everywhere and bool((codes == np.arange(len(codes), dtype=np.int32)).all()):
            k = b.loop(b.index(0), b.index(len(codes)))[0]
            b.store(b.load("params", 0, k), "packed", 0, k)
            b.close()
            return Func("pack", buffers, b.ops)
        # Where all move, the table is the plan's own array, which takes no memory again.
        moved = np.zeros(0, np.int64) if everywhere else np.flatnonzero(codes >= 0)
        taken = codes if everywhere else codes[moved]
        k = b.loop(b.index(0), b.index(len(taken)))[0]
        value = b.load("params", 0, b.load(self.table("pack_from", "i", taken), 0, k))
        to = k if everywhere else b.load(self.table("pack_to", "i", moved), 0, k)
        b.store(value, "packed", 0, to)
        b.close()
        if not everywhere:
            k = b.loop(b.index(0), b.index(len(fixed)))[0]
            value = b.load(self.table("fixed", "f", self.constants(codes[fixed])), 0, k)
            b.store(value, "packed", 0, b.load(self.table("fixed_to", "i", fixed), 0, k))
            b.close()
        return Func("pack", buffers, b.ops)
