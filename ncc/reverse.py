"""The sweep back: a plan's gradients as ssa ops, in the straight and in the table form.

A sweep forward keeps each neuron's value and its activation's argument in `work`; the sweep back
gathers, for each neuron, its readers' deltas times their weights (no scatter, but where an
aggregation chooses among its edges), and multiplies by the slope of its activation, which
ncc/adjoint.py derives. O(W+N), as the sweep forward (Griewank and Walther 2008, chapter 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ncc.activations import expression
from ncc.adjoint import reads_argument, slope, tame, times
from ncc.aggregate import finish, pull, start, step
from ncc.expressions import emit
from ncc.graph import AGGREGATIONS, NONE, Longs
from ncc.plan import Plan, Schedule
from ncc.ssa import DTYPES, Buffer, Builder, Func, Table

STRETCH = 128  # sources: a round of their values, in four vectors, takes half the nearest cache
SQUARE = 16  # columns of x and y that change places with samples at once: a vector's lanes


class _Kind(NamedTuple):
    """Rows that are computed by the same code, in blocks with as much `room`."""

    activation: int
    aggregation: int
    biased: bool
    room: int


def lanes(native: int) -> int:
    """Samples in a round of a batch: the more vectors, the seldomer the tables are read from end to
    end and sums over the lanes made; four keep as many sums as registers hold."""
    return 4 * native if native > 1 else 1


@dataclass(frozen=True)
class Ends:
    """What stands around a sweep: the buffers that the caller has an eye on, in order, and

    begin   ops before it
    seed    the adjoints of the outputs, and more, of their values: (sweep, y, k) -> adjoints, for
            lists of ops with the numbers k of the outputs; without it they are `dy`
    loops   the same as loops over places: `seeds` from `values`; without it from `dy`
    finish  ops behind it, where `dparams` are ready
    """

    buffers: tuple[Buffer, ...]
    begin: Callable[[Sweep], None] | None = None
    seed: Callable[[Straight, list[int]], list[int]] | None = None
    loops: Callable[[Tabled], None] | None = None
    finish: Callable[[Sweep], None] | None = None


def sweep(schedule: Schedule, plan: Plan, dtype: str, numerics: str, tables: dict[str, Table],
          native: int, recompute: int = 0, registers: int = 16) -> Sweep:
    """The form that the schedule names; tables are added to `tables`. Where the table form would
    keep more than `recompute` bytes of values, it computes them again by blocks of the net."""
    form = Straight if schedule.form == "straight" else Tabled
    return form(plan, dtype, numerics, tables, native, recompute, registers)


class Sweep:
    """What both forms share: buffers, and what becomes of the gradients at the end."""

    def __init__(self, plan: Plan, dtype: str, numerics: str, tables: dict[str, Table],
                 native: int, recompute: int, registers: int) -> None:
        self.plan = plan
        # Sums of a tile: half the registers for sums of four vectors.
        self.tile = max(1, registers // 8)
        self.recompute = recompute
        self.g = plan.graph
        self.dtype = dtype
        self.tables = tables
        self.native = max(1, native)
        self.b = Builder(dtype, numerics != "strict")
        self.n_inputs, self.n_outputs = len(self.g.inputs), len(self.g.outputs)
        self.buffers: dict[str, Buffer] = {}
        self.names: dict[str, str] = {}  # of tables: what each is called in the module
        self.sample: int | None = None

    def table(self, name: str, type: str, values: Any) -> str:
        """A constant table, for `cell` to read; functions share those that hold the same."""
        array = (np.asarray(values, DTYPES[self.dtype]) if type == "f"
                 else np.ascontiguousarray(values, np.int32))
        stem = actual = f"back_{name}"
        made = Table(actual, type, array)
        while self.tables.setdefault(actual, made) != made:
            actual = f"{stem}_{len(self.tables)}"
            made = Table(actual, type, array)
        self.names[name] = actual
        return actual

    def cell(self, name: str, offset: int, index: int) -> int:
        return self.b.load(self.names[name], offset, index)

    def bounds(self, name: str, index: int) -> tuple[int, int]:
        """Cell `index` and the next: where a list begins and ends."""
        return self.cell(name, 0, index), self.cell(name, 1, index)

    def function(self, name: str, lanes: int, ends: Ends) -> Func:
        """The sweep over one sample, or over a batch in rounds of `lanes`. What the caller does
        not name among the buffers of `ends`, dx or dparams, is not made, or kept in `work`."""
        b = self.b
        self.lanes = lanes
        self.ends = ends
        self.named = [buffer.name for buffer in ends.buffers]
        if ends.begin is not None:
            ends.begin(self)
        self.before()
        if lanes:
            self.sample = b.loop(b.index(0), b.emit("count"), lanes=lanes)[0]
        self.row_of_x = self.times_sample(self.n_inputs)
        self.body()
        if lanes:
            b.close()
        self.after()
        if ends.finish is not None:
            ends.finish(self)
        if not self.buffers:
            self.memory("work", 0)
        return Func(name, (*ends.buffers, *self.buffers.values()), b.ops, counted=bool(lanes))

    def times_sample(self, size: int) -> int | None:
        return None if self.sample is None else self.b.op("imul", self.sample, self.b.index(size))

    def before(self) -> None: ...

    def body(self) -> None: ...

    def after(self) -> None: ...

    def memory(self, name: str, size: int, shared: bool = False) -> str:
        """A buffer of `work`: of each sample, or `shared` by all."""
        kind = "private" if self.lanes and not shared else "work"
        self.buffers[name] = Buffer(name, kind, size)
        return name

    def masked(self, d: int) -> int:
        """d, 0 in the lanes that repeat a sample. A gradient wants it; but where dx is wanted too,
        those lanes store the same dx as the sample's own, so that seeds are not masked at once."""
        return self.b.op("mask", d) if "dx" in self.named else d

    def offset(self, row: int | None, k: int) -> int:
        return k if row is None else self.b.op("iadd", row, k)

    def zero(self, name: str, size: int) -> None:
        """Clear a buffer that no lane has to itself, a vector at a time."""
        b = self.b
        wide = lanes(self.native) if self.lanes else 0
        whole = size // wide * wide if wide > 1 else 0
        for lo, hi, by in ((0, whole, wide), (whole, size, 0)):
            if lo < hi:
                k = b.loop(b.index(lo), b.index(hi), lanes=by)[0]
                b.store(b.const(0.0), name, 0, k)
                b.close()

    def only_if(self, given: int) -> None:
        """Open a loop that runs once or not at all."""
        self.b.loop(self.b.index(0), given)


class Straight(Sweep):
    """Every edge as ops, as `lower` writes it, and then backwards."""

    def body(self) -> None:
        b, g, plan = self.b, self.g, self.plan
        made: dict[int, int] = {}
        for k, i in enumerate(g.inputs.tolist()):
            made[i] = b.load("x", k, self.row_of_x)
        slots, first = np.unique(plan.packed, return_index=True)
        position = dict(zip(slots.tolist(), first.tolist(), strict=True))
        codes: dict[int, int] = {}

        def parameter(code: int) -> int:
            if code not in codes:
                codes[code] = (b.load("packed", position[code]) if code >= 0
                               else b.const(float(plan.constants[-1 - code])))
            return codes[code]

        rows: list[tuple[int, Any, str, list[tuple[int, int, int]], int]] = []
        for run in plan.runs:
            program = expression(run.activation, g.functions)
            agg = AGGREGATIONS[run.aggregation]
            for r in range(run.first, run.last):
                j = int(plan.rows[r])
                at = plan.edges[plan.starts[r] : plan.starts[r + 1]]
                code = int(g.biases[j])
                bias = None if code == NONE else parameter(code)
                acc = bias if agg == "sum" else None
                edges = list(zip(g.sources[at].tolist(), [parameter(c) for c in
                                                          g.weights[at].tolist()],
                                 g.weights[at].tolist(), strict=True))
                for i, w, _ in edges:
                    acc = (start(b, agg, made[i], w) if acc is None
                           else step(b, agg, acc, made[i], w))
                total = finish(b, agg, acc, len(at), None if agg == "sum" else bias)
                made[j] = emit(program, b, total)
                rows.append((j, program, agg, edges, total))

        adjoints: dict[int, int] = {}
        gradient: dict[int, list[tuple[int, int]]] = {}  # by slot: pairs whose products it sums

        def add(j: int, value: int) -> None:
            adjoints[j] = b.op("add", adjoints[j], value) if j in adjoints else value

        outputs = g.outputs.tolist()
        if self.ends.seed is None:
            row_of_y = self.times_sample(self.n_outputs)
            seeds = [b.load("dy", k, row_of_y) for k in range(self.n_outputs)]
        else:
            seeds = self.ends.seed(self, [made[j] for j in outputs])
        for j, d in zip(outputs, seeds, strict=True):
            add(j, d)
        one = b.const(1.0)
        for j, program, agg, edges, total in reversed(rows):
            if j not in adjoints:
                continue
            d = adjoints.pop(j)
            found = slope(program, b, total, made[j])
            d = b.op("mul", d, found) if tame(program) else times(b, d, found)
            code = int(g.biases[j])
            if code >= 0:
                gradient.setdefault(code, []).append((d, one))
            if not edges:
                continue
            parts = pull(b, agg, [made[i] for i, _, _ in edges], [w for _, w, _ in edges], d)
            for (i, w, code), part in zip(edges, parts, strict=True):
                if adjoints.get(i) is not None and b.fused:
                    adjoints[i] = b.op("fma", part, w, adjoints[i])
                else:
                    add(i, b.op("mul", part, w))
                if code >= 0:
                    gradient.setdefault(code, []).append((part, made[i]))
        self.only_if(b.emit("given", (), "dparams"))
        for slot in sorted(gradient):
            for d, n in gradient[slot]:
                b.accumulate(self.masked(d), n, "dparams", slot)
        b.close()
        if "dx" in self.named:
            self.only_if(b.emit("given", (), "dx"))
            for k, i in enumerate(g.inputs.tolist()):
                b.store(adjoints.get(i, b.const(0.0)), "dx", k, self.row_of_x)
            b.close()


class _Blocks(NamedTuple):
    """Rows cut into blocks: `rows` are their borders; the block of each row; the rows that another
    block reads; the rows of the largest block."""

    rows: Longs
    of_row: Longs
    passed: Longs
    widest: int


class Tabled(Sweep):
    """Loops over segments, rows and edges, which read tables.

    In a batch, rows that share their sources go in tiles of some rows and some sources, of the
    plan's blocks: each value and each delta is loaded once for several sums.

    `values` holds the inputs, then what blocks of rows pass on to later blocks, then the values of
    one block's rows, at their places; without `recompute` there is one block. A row's value stays
    until the sweep back writes its delta over it: all its readers have been there. `sums` holds
    the arguments of activations, if the slope of any is not to be had from its value.

    With more blocks than one, the sweep back runs a block forward again before it goes back
    through it, and leaves what it owes to earlier blocks in `adjoints` (Griewank 1992, "Achieving
    logarithmic growth of temporal and spatial complexity in reverse automatic differentiation",
    at one level).
    """

    UNROLL = 2  # sums of an out-list under way at once

    def before(self) -> None:
        b, g, plan = self.b, self.g, self.plan
        self.batch = bool(self.lanes)
        n_rows, n_in = len(plan.rows), self.n_inputs
        number = np.zeros(g.n_neurons, np.int64)  # inputs first, then rows
        number[g.inputs] = np.arange(n_in)
        number[plan.rows] = n_in + np.arange(n_rows)
        sources = number[g.sources[plan.edges]]
        reader = np.repeat(np.arange(n_rows), np.diff(plan.starts))
        self.segments()
        self.additive = np.isin(g.aggregations[plan.rows], [AGGREGATIONS.index("sum"),
                                                            AGGREGATIONS.index("mean")])
        self.room = plan.sizes[plan.block_of]  # of each row's block
        # Whose edges' parts of adjoints are added up where they belong, and not gathered there.
        tiled = self.additive & (self.room > 1) & self.batch
        self.scatters = bool(tiled.any()) or not self.additive.all()
        argument = any(reads_argument(expression(kind.activation, g.functions))
                       for kind in self.kinds)
        cells = 1 + argument + self.scatters  # for each place
        blocks = self.cut(number, sources, reader, cells)
        passed, block = blocks.passed, blocks.of_row
        n_blocks = len(blocks.rows) - 1
        self.n_blocks = n_blocks

        # Places: where a reader finds what it reads.
        self.local = n_in + len(passed)
        local = self.local + np.arange(n_rows) - blocks.rows[block]
        slot = np.full(n_in + n_rows, self.local + blocks.widest)  # nowhere: a cell of zero
        slot[:n_in] = np.arange(n_in)
        slot[n_in + passed] = n_in + np.arange(len(passed))
        row = sources - n_in
        inside = row >= 0
        inside[inside] = block[row[inside]] == block[reader[inside]]
        places = slot[sources]
        places[inside] = local[row[inside]]
        self.table("places", "i", places)
        self.table("starts", "i", plan.starts)
        self.table("weights", "i", np.maximum(
            plan.weights[plan.block_of] + np.arange(n_rows) - plan.blocks[plan.block_of], 0))
        self.table("biases", "i", np.maximum(plan.bias_places, 0))
        self.table("segment_places", "i", local[self.firsts])
        if tiled.any():
            self.tiles(places, local)
        if n_blocks > 1:
            ends = np.arange(n_blocks + 1)
            self.table("passed_starts", "i", np.searchsorted(block[passed], ends))
            self.table("passed_places", "i", local[passed])
            self.table("slots", "i", slot[n_in:])
            for k, (lo, hi, _) in enumerate(self.stretches):
                cuts = np.clip(np.searchsorted(self.firsts, blocks.rows), lo, hi)
                self.table(f"stretch_{k}", "i", cuts)
            self.table("again", "i", np.arange(n_blocks) < n_blocks - 1)

        # The gradient has the edges of a segment's rows not row by row but by stretches of their
        # sources, whose values stay in the nearest cache meanwhile; the order of its sums is free.
        segment = np.repeat(np.arange(self.n_segments), np.diff(np.append(self.firsts, n_rows)))
        self.codes = plan.packed.copy()
        flat = np.flatnonzero((self.additive & (self.room == 1))[reader])
        near = places[flat] // (STRETCH if self.batch else len(places) + 1)
        flat_sorted = flat[np.lexsort((flat, near, segment[reader[flat]]))]
        spots = plan.weight_places[flat]  # ascending
        self.codes[spots] = plan.packed[plan.weight_places[flat_sorted]]
        ends_of = np.zeros((2, int(spots.max(initial=-1)) + 1), np.int64)
        ends_of[:, spots] = local[reader[flat_sorted]], places[flat_sorted]
        self.table("flat_rows", "i", ends_of[0])
        self.table("flat_sources", "i", ends_of[1])
        self.table("segment_weights", "i", np.maximum(
            plan.weights[[segment.first for segment in plan.segments]], 0))

        # Readers, of those rows that pass on one delta to all their edges: for each row those in
        # its own block; for each block the values from outside that it reads, and their readers.
        gathered = np.flatnonzero((self.additive & ~tiled)[reader])
        keys = np.where(inside, row, n_rows + block[reader] * (n_in + n_rows) + sources)[gathered]
        by = np.argsort(keys, kind="stable")
        gathered, keys = gathered[by], keys[by]
        outside = np.unique(keys[np.searchsorted(keys, n_rows):])
        if n_blocks == 1:
            outside = n_rows + np.arange(n_in)  # all inputs, whose gradient is dx
        else:
            of = (outside - n_rows) // (n_in + n_rows)
            self.table("import_starts", "i", np.searchsorted(of, np.arange(n_blocks + 1)))
            self.table("import_slots", "i", slot[(outside - n_rows) % (n_in + n_rows)])
        listed = np.concatenate([np.arange(n_rows), outside])
        begins = np.searchsorted(keys, listed)
        counts = np.searchsorted(keys, listed, side="right") - begins
        self.table("reader_starts", "i", begins)
        self.table("reader_ends", "i", begins + counts)
        self.table("readers", "i", local[reader[gathered]])
        self.table("reader_edges", "i", plan.weight_places[gathered])
        self.table("reader_rounds", "i", counts // self.UNROLL)
        self.table("reader_rest", "i", begins + counts // self.UNROLL * self.UNROLL)
        # A segment's rows by the length of their out-lists: loops of one length after another are
        # foreseen by the machine.
        order = np.lexsort((counts[:n_rows], segment))
        self.table("order", "i", order - self.firsts[segment])
        seeded = np.argsort(number[g.outputs], kind="stable")
        counts = np.bincount(number[g.outputs], minlength=n_in + n_rows)
        self.table("seed_starts", "i", np.concatenate([[0], np.cumsum(counts)]))
        self.table("seed_outputs", "i", seeded)
        held = slot if n_blocks > 1 else np.concatenate([np.arange(n_in), local])
        self.table("seed_places", "i", held[number[g.outputs][seeded]])
        self.table("seed_ranks", "i", np.argsort(seeded))

        # The last block's tiles may reach beyond it.
        room = int(self.room[tiled].max(initial=1))
        self.memory("values", self.local + blocks.widest + room - 1)
        if argument:
            self.memory("sums", blocks.widest + room - 1)
        self.memory("seeds", self.n_outputs)
        if self.scatters or n_blocks > 1:
            self.memory("adjoints", self.local + (blocks.widest if self.scatters else 0) + 1)
            self.nothing = self.buffers["adjoints"].size - 1
            if not self.scatters:
                slot = np.where(slot == self.local + blocks.widest, self.nothing, slot)
                self.table("slots", "i", slot[n_in:])
        if not self.additive.all():
            self.memory("products", int(np.diff(plan.starts)[~self.additive].max()))
        self.memory("gradient", len(plan.packed), shared=True)
        zero = b.index(0)
        if self.batch:
            if "dx" not in self.named:  # the sweep forward alone wants neither
                self.only_if(b.emit("given", (), "dparams"))
            self.zero("gradient", len(plan.packed))
            # The weights in the order of the readers: read from end to end for each tile.
            self.memory("turned", len(gathered), shared=True)
            k = b.loop(zero, b.index(len(gathered)))[0]
            b.store(b.load("packed", 0, self.cell("reader_edges", 0, k)), "turned", 0, k)
            b.close()
            if "dx" not in self.named:
                b.close()

    def segments(self) -> None:
        """Stretches of rows of one kind, level and fan-in; for each kind, which of its rows lie in
        each segment, so that one piece of code serves all the segments of a kind."""
        plan, g = self.plan, self.g
        assert g.levels is not None
        bounds = np.array([(plan.blocks[p.first], plan.blocks[p.last]) for p in plan.segments],
                          np.int64).reshape(-1, 2)
        first, last = bounds[:, 0], bounds[:, 1]
        run_of = np.searchsorted([run.first for run in plan.runs], first, side="right") - 1
        kinds = [_Kind(run.activation, run.aggregation, run.biased, segment.rows)
                 for segment, run in zip(plan.segments, [plan.runs[k] for k in run_of.tolist()],
                                         strict=True)]
        self.kinds = list(dict.fromkeys(kinds))
        self.n_segments = len(first)
        self.firsts = first
        number = np.array([self.kinds.index(kind) for kind in kinds], np.int64)
        self.segment_edges = np.array([segment.fan_in for segment in plan.segments], np.int64)
        self.kind_rows = [np.where(number == k, last - first, 0) for k in range(len(self.kinds))]
        self.table("segment_rows", "i", first)
        self.table("segment_edges", "i", self.segment_edges)
        self.table("segment_biases", "i",
                   np.maximum(plan.biases[[segment.first for segment in plan.segments]], 0)
                   if plan.segments else [])
        for k, rows in enumerate(self.kind_rows):
            self.table(f"rows_{k}", "i", rows)
        # Stretches of segments: one a kind where the kinds do not take turns, else one of all.
        turns = np.flatnonzero(number[1:] != number[:-1]) + 1
        begins, ends = [0, *turns.tolist()], [*turns.tolist(), self.n_segments]
        if len(begins) == len(self.kinds):
            self.stretches = [(lo, hi, [int(number[lo])])
                              for lo, hi in zip(begins, ends, strict=True)]
        elif self.kinds:
            self.stretches = [(0, self.n_segments, list(range(len(self.kinds))))]
        else:
            self.stretches = []

    def cut(self, number: Longs, sources: Longs, reader: Longs, cells: int) -> _Blocks:
        """One block, or as few as keep the values of a round of samples within `recompute` bytes;
        where none do, those that take least."""
        n_rows = len(self.plan.rows)
        size = np.dtype(DTYPES[self.dtype]).itemsize * max(1, self.lanes) * cells
        best: tuple[int, _Blocks] | None = None
        count = 1
        while count <= max(1, self.n_segments):
            ideal = np.arange(count + 1) * n_rows / count
            ends = np.append(self.firsts, n_rows)
            rows = np.unique(ends[np.searchsorted(ends, ideal)])
            rows = rows if len(rows) > 1 else np.array([0, n_rows])
            block = np.searchsorted(rows, np.arange(n_rows), side="right") - 1
            row = sources - self.n_inputs
            inner = row >= 0
            across = row[inner][block[row[inner]] != block[reader[inner]]]
            seen = number[self.g.outputs] - self.n_inputs
            if len(rows) > 2:
                across = np.concatenate([across, seen[seen >= 0]])
            passed = np.unique(across)
            widest = int(np.diff(rows).max(initial=0))
            made = _Blocks(rows, block, passed, widest)
            need = (self.n_inputs + len(passed) + widest) * size
            if best is None or need < best[0]:
                best = need, made
            if not self.recompute or need <= self.recompute:
                break
            count += max(1, count // 2)
        assert best is not None
        return best[1]

    def body(self) -> None:
        b = self.b
        zero = b.index(0)
        for k, count in self.columns(self.n_inputs):
            at = self.offset(self.row_of_x, k)
            for c, value in enumerate([b.load("x", c, at) for c in range(count)]):
                b.store(value, "values", c, k)
            b.close()
        if self.n_blocks == 1:
            self.forward(None)
        else:
            block = b.loop(zero, b.index(self.n_blocks))[0]
            self.forward(block)
            k = b.loop(*self.bounds("passed_starts", block))[0]
            b.store(b.load("values", 0, self.cell("passed_places", 0, k)), "values",
                    self.n_inputs, k)
            b.close()
            b.close()
        if self.ends.loops is None:
            self.seed()
        else:
            self.ends.loops(self)
        self.wanted = b.emit("given", (), "dparams")
        if "dx" not in self.named:  # then the sweep back is for dparams alone
            self.only_if(self.wanted)
        if "adjoints" in self.buffers:
            self.clear(0, self.buffers["adjoints"].size)
        if self.n_blocks == 1:
            self.back(None)
        else:
            k = b.loop(zero, b.index(self.n_blocks))[0]
            block = b.op("iadd", b.op("imul", k, b.index(-1)), b.index(self.n_blocks - 1))
            self.only_if(self.cell("again", 0, block))
            self.forward(block)
            b.close()
            if self.scatters:
                self.clear(self.local, self.buffers["adjoints"].size)
            self.back(block)
            k = b.loop(*self.bounds("import_starts", block))[0]
            to = self.cell("import_slots", 0, k)
            owed = self.gathered(b.op("iadd", k, b.index(len(self.plan.rows))),
                                 b.load("adjoints", 0, to))
            b.store(owed, "adjoints", 0, to)
            b.close()
            b.close()
        if "dx" in self.named:
            self.only_if(b.emit("given", (), "dx"))
            k = b.loop(zero, b.index(self.n_inputs))[0]
            acc = self.seeded(k, b.load("adjoints", 0, k) if "adjoints" in self.buffers
                              else b.const(0.0))
            if self.n_blocks == 1:
                acc = self.gathered(b.op("iadd", k, b.index(len(self.plan.rows))), acc)
            # The inputs' values have no reader any more.
            b.store(acc, "values", 0, k)
            b.close()
            for k, count in self.columns(self.n_inputs):
                values = [b.load("values", c, k) for c in range(count)]
                at = self.offset(self.row_of_x, k)
                for c, value in enumerate(values):
                    b.store(value, "dx", c, at)
                b.close()
        b.close()

    def clear(self, lo: int, hi: int) -> None:
        b = self.b
        k = b.loop(b.index(lo), b.index(hi))[0]
        b.store(b.const(0.0), "adjoints", 0, k)
        b.close()

    def forward(self, block: int | None) -> None:
        """The values of a block's rows, or of all."""
        b = self.b
        for n, (lo, hi, kinds) in enumerate(self.stretches):
            if block is None:
                s = b.loop(b.index(lo), b.index(hi))[0]
            else:
                s = b.loop(*self.bounds(f"stretch_{n}", block))[0]
            for kind in kinds:
                if self.is_tiled(self.kinds[kind]):
                    self.tiled_forward(s, kind)
                else:
                    self.rows_forward(s, kind)
            b.close()

    def back(self, block: int | None) -> None:
        """The deltas of a block's rows, or of all, and their part of the gradient."""
        b = self.b
        for n, (lo, hi, kinds) in reversed(list(enumerate(self.stretches))):
            if block is None:
                lo = max(lo, self.lowest())
                if lo >= hi:
                    continue
                k = b.loop(b.index(lo), b.index(hi))[0]
                last = b.index(lo + hi - 1)
            else:
                first, end = self.bounds(f"stretch_{n}", block)
                k = b.loop(first, end)[0]
                last = b.op("iadd", b.op("iadd", first, end), b.index(-1))
            s = b.op("iadd", b.op("imul", k, b.index(-1)), last)
            for kind in kinds:
                self.rows_back(s, kind)
            b.close()

    def lowest(self) -> int:
        """The first segment with a parameter: no delta of one before it is wanted, but for dx."""
        if "dx" in self.named:
            return 0
        weights, biases = self.g.weights[self.plan.edges], self.g.biases[self.plan.rows]
        owners = np.repeat(np.arange(len(self.plan.rows)), np.diff(self.plan.starts))
        held = np.concatenate([owners[weights >= 0], np.flatnonzero(biases >= 0)])
        row = held.min(initial=len(self.plan.rows))
        return int(np.searchsorted(self.firsts, row, side="right")) - 1

    def columns(self, width: int) -> Iterator[tuple[int, int]]:
        """A loop over the columns of x, dx or dy, as `lower` has it: squares of samples and
        columns change places at once, and the last starts early rather than end late."""
        b = self.b
        count = 1 if not self.lanes or width < SQUARE else SQUARE
        zero = b.index(0)
        q = b.loop(zero, b.index(width // count))[0]
        yield b.op("imul", q, b.index(count)), count
        if width % count:
            b.loop(zero, b.index(1))
            yield b.index(width - count), count

    def seed(self) -> None:
        b = self.b
        row_of_y = self.times_sample(self.n_outputs)
        for k, count in self.columns(self.n_outputs):
            at = self.offset(row_of_y, k)
            for c, value in enumerate([b.load("dy", c, at) for c in range(count)]):
                b.store(value, "seeds", 0, self.cell("seed_ranks", c, k))
            b.close()

    # -- forward

    def rows_forward(self, s: int, kind: int) -> None:
        b = self.b
        count = self.cell(f"rows_{kind}", 0, s)
        block = 2 if self.batch else 8
        held = self.kind_rows[kind]
        whole = self.table(f"rows_{kind}_by_{block}", "i", held // block)
        rest = self.table(f"rows_{kind}_from_{block}", "i", held // block * block)
        q = b.loop(b.index(0), b.load(whole, 0, s))[0]
        self.together(self.kinds[kind], s, b.op("imul", q, b.index(block)), block)
        b.close()
        u = b.loop(b.load(rest, 0, s), count)[0]
        self.together(self.kinds[kind], s, u, 1)
        b.close()

    def together(self, kind: _Kind, s: int, u: int, count: int) -> None:
        """The values of rows u .. u+count-1 of segment s, of as many edges each, kept."""
        b = self.b
        first, edges = self.cell("segment_rows", 0, s), self.cell("segment_edges", 0, s)
        place = b.op("iadd", self.cell("segment_places", 0, s), u)
        agg = AGGREGATIONS[kind.aggregation]
        r = b.op("iadd", first, u)
        at = [self.cell("starts", 0, r)]
        for _ in range(count - 1):
            at.append(b.op("iadd", at[-1], edges))
        weights = [self.cell("weights", i, r) for i in range(count)]
        biases = [b.load("packed", 0, self.cell("biases", i, r)) if kind.biased else None
                  for i in range(count)]
        if agg == "sum":
            begin = 0
            firsts = [b.const(-0.0) if x is None else x for x in biases]
        else:
            begin = 1
            firsts = [start(b, agg, *self.edge(e, w, b.index(0), kind))
                      for e, w in zip(at, weights, strict=True)]
        loop = b.loop(b.index(begin), edges, firsts)
        accs = [step(b, agg, acc, *self.edge(e, w, loop[0], kind))
                for acc, e, w in zip(loop[1:], at, weights, strict=True)]
        self.finished(kind, b.close(*accs), biases, place, s)

    def finished(self, kind: _Kind, accs: Sequence[int], biases: Sequence[int | None], place: int,
                 s: int) -> None:
        """Keep the values of rows of segment s whose edges are summed up."""
        b = self.b
        agg = AGGREGATIONS[kind.aggregation]
        program = expression(kind.activation, self.g.functions)
        for i, acc in enumerate(accs):
            if agg == "mean":
                acc = b.op("div", acc, self.fan_in(s))
            total = finish(b, "sum" if agg == "mean" else agg, acc, 0,
                           None if agg == "sum" else biases[i])
            if reads_argument(program):
                b.store(total, "sums", i - self.local, place)
            b.store(emit(program, b, total), "values", i, place)

    def fan_in(self, s: int) -> int:
        """The length of the in-lists of a segment, as a real."""
        counts = np.maximum(self.segment_edges, 1)
        return self.b.load(self.table("fan_in", "f", counts), 0, s)

    def edge(self, at: int, weight: int, k: int, kind: _Kind) -> tuple[int, int]:
        """The source's value and the weight of edge k of a row whose first ones stand there."""
        b = self.b
        by = k if kind.room == 1 else b.op("imul", k, b.index(kind.room))
        return (b.load("values", 0, self.cell("places", 0, b.op("iadd", at, k))),
                b.load("packed", 0, b.op("iadd", weight, by)))

    # -- tiles: rows that share their sources

    def tiles(self, places: Longs, local: Longs) -> None:
        """Tables of the blocks."""
        plan = self.plan
        leader = plan.blocks[:-1]
        lengths = np.diff(plan.starts)[leader]
        owner = np.repeat(np.arange(len(leader)), lengths)
        at = np.repeat(plan.starts[leader] - np.cumsum(lengths) + lengths, lengths)
        read = places[at + np.arange(len(at))]
        inner = np.bincount(owner, read >= self.n_inputs, len(leader)) > 0
        # A source twice in an in-list: its adjoint takes one part after the other.
        pairs = np.sort(owner * (int(places.max(initial=0)) + 1) + read)
        self.repeats = bool((pairs[1:] == pairs[:-1]).any())
        self.table("block_starts", "i", plan.starts[leader])
        self.table("block_weights", "i", plan.weights)
        self.table("block_biases", "i", np.maximum(plan.biases, 0))
        self.table("block_places", "i", local[leader])
        self.table("block_rows", "i", np.diff(plan.blocks))
        self.table("block_inner", "i", inner)
        self.table("block_outer", "i", ~inner)
        self.table("segment_blocks", "i", [segment.first for segment in plan.segments])
        counts = np.array([segment.last - segment.first for segment in plan.segments])
        for k, rows in enumerate(self.kind_rows):
            self.table(f"blocks_{k}", "i", np.where(rows > 0, counts, 0))

    def is_tiled(self, kind: _Kind) -> bool:
        return self.batch and kind.room > 1 and AGGREGATIONS[kind.aggregation] in ("sum", "mean")

    def each_block(self, s: int, number: int) -> int:
        """Open a loop over the blocks of segment s, if they are of this kind."""
        b = self.b
        q = b.loop(b.index(0), self.cell(f"blocks_{number}", 0, s))[0]
        return b.op("iadd", self.cell("segment_blocks", 0, s), q)

    def tiled_forward(self, s: int, number: int) -> None:
        b, kind = self.b, self.kinds[number]
        agg = AGGREGATIONS[kind.aggregation]
        count = min(kind.room, self.tile)
        block = self.each_block(s, number)
        at, weights = self.cell("block_starts", 0, block), self.cell("block_weights", 0, block)
        parts = -(-np.diff(self.plan.blocks) // count)
        u = b.loop(b.index(0), b.load(self.table(f"block_parts_{count}", "i", parts), 0, block))[0]
        base = b.op("imul", u, b.index(count))
        biases: list[int | None] = [None] * count
        if kind.biased:
            bias = b.op("iadd", self.cell("block_biases", 0, block), base)
            biases = [b.load("packed", i, bias) for i in range(count)]
        firsts = [x if x is not None and agg == "sum" else b.const(-0.0) for x in biases]
        k, *accs = b.loop(b.index(0), self.cell("segment_edges", 0, s), firsts)
        n = b.load("values", 0, self.cell("places", 0, b.op("iadd", at, k)))
        by = b.op("iadd", b.op("iadd", weights, b.op("imul", k, b.index(kind.room))), base)
        accs = b.close(*[step(b, "sum", acc, n, b.load("packed", i, by))
                         for i, acc in enumerate(accs)])
        self.finished(kind, accs, biases, b.op("iadd", self.cell("block_places", 0, block), base),
                      s)
        b.close()
        b.close()

    def tiled_back(self, s: int, number: int) -> None:
        """What the deltas of a segment's rows add to the adjoints of their sources, and to the
        gradient."""
        b, kind = self.b, self.kinds[number]
        edges = self.cell("segment_edges", 0, s)
        zero = b.index(0)
        block = self.each_block(s, number)
        at, weights = self.cell("block_starts", 0, block), self.cell("block_weights", 0, block)
        place = self.cell("block_places", 0, block)
        pushes = self.cell("block_inner", 0, block)
        if "dx" in self.named:  # of those that read inputs alone only then
            pushes = b.op("iadd", pushes, b.op("imul", self.cell("block_outer", 0, block),
                                               b.emit("given", (), "dx")))
        self.only_if(pushes)
        done = np.zeros_like(self.segment_edges)
        for count in dict.fromkeys((1 if self.repeats else self.tile, 1)):
            rounds = self.table(f"tile_rounds_{count}", "i", (self.segment_edges - done) // count)
            after = self.table(f"tile_after_{count}", "i", done)
            q = b.loop(zero, b.load(rounds, 0, s))[0]
            k = b.op("iadd", b.load(after, 0, s), b.op("imul", q, b.index(count)))
            sources = [self.cell("places", i, b.op("iadd", at, k)) for i in range(count)]
            r, *accs = b.loop(zero, self.cell("block_rows", 0, block),
                              [b.load("adjoints", 0, i) for i in sources])
            d = b.load("values", 0, b.op("iadd", place, r))
            by = b.op("iadd", b.op("iadd", weights, b.op("imul", k, b.index(kind.room))), r)
            accs = b.close(*[step(b, "sum", acc, d, b.load("packed", i * kind.room, by))
                             for i, acc in enumerate(accs)])
            for i, acc in zip(sources, accs, strict=True):
                b.store(acc, "adjoints", 0, i)
            b.close()
            done = done + (self.segment_edges - done) // count * count
        b.close()
        self.only_if(self.wanted)
        rows = range(kind.room)  # those that a block lacks have cells that nobody reads
        if kind.biased and AGGREGATIONS[kind.aggregation] == "sum":
            one = b.const(1.0)
            self.add_gradient([(self.masked(b.load("values", i, place)), one) for i in rows],
                              self.cell("block_biases", 0, block))
        k = b.loop(zero, edges)[0]
        n = self.masked(b.load("values", 0, self.cell("places", 0, b.op("iadd", at, k))))
        self.add_gradient([(n, b.load("values", i, place)) for i in rows],
                          b.op("iadd", weights, b.op("imul", k, b.index(kind.room))))
        b.close()
        b.close()
        b.close()

    # -- backward

    def seeded(self, v: int, acc: int) -> int:
        """acc, and the seeds of value number v, if it is an output."""
        b = self.b
        k, acc = b.loop(*self.bounds("seed_starts", v), [acc])
        (acc,) = b.close(b.op("add", acc, b.load("seeds", 0, k)))
        return acc

    def gathered(self, k: int, acc: int) -> int:
        """acc, and the deltas of the readers on list k, times their weights."""
        b = self.b
        nothing = b.const(0.0)
        q, *accs = b.loop(b.index(0), self.cell("reader_rounds", 0, k),
                          [acc] + [nothing] * (self.UNROLL - 1))
        at = b.op("iadd", self.cell("reader_starts", 0, k),
                  b.op("imul", q, b.index(self.UNROLL)))
        accs = b.close(*[self.read_back(at, i, a) for i, a in enumerate(accs)])
        e, acc = b.loop(self.cell("reader_rest", 0, k), self.cell("reader_ends", 0, k), [accs[0]])
        (accs[0],) = b.close(self.read_back(e, 0, acc))
        while len(accs) > 1:
            accs = [b.op("add", x, y) for x, y in zip(accs[::2], accs[1::2], strict=True)]
        return accs[0]

    def read_back(self, at: int, i: int, acc: int) -> int:
        b = self.b
        weight = (b.load("turned", i, at) if self.batch
                  else b.load("packed", 0, self.cell("reader_edges", i, at)))
        delta = b.load("values", 0, self.cell("readers", i, at))
        if b.fused:
            return b.op("fma", weight, delta, acc)
        return b.op("add", acc, b.op("mul", weight, delta))

    def rows_back(self, s: int, number: int) -> None:
        b, kind = self.b, self.kinds[number]
        agg = AGGREGATIONS[kind.aggregation]
        program = expression(kind.activation, self.g.functions)
        count = self.cell(f"rows_{number}", 0, s)
        first, edges = self.cell("segment_rows", 0, s), self.cell("segment_edges", 0, s)
        places = self.cell("segment_places", 0, s)
        one = b.const(1.0)
        u = self.cell("order", 0, b.op("iadd", first, b.loop(b.index(0), count)[0]))
        r, place = b.op("iadd", first, u), b.op("iadd", places, u)
        d = b.load("adjoints", 0, place) if self.scatters else b.const(0.0)
        if self.n_blocks > 1:
            d = b.op("add", d, b.load("adjoints", 0, self.cell("slots", 0, r)))
        d = self.gathered(r, self.seeded(b.op("iadd", r, b.index(self.n_inputs)), d))
        total = (b.load("sums", -self.local, place) if reads_argument(program)
                 else b.const(0.0))
        found = slope(program, b, total, b.load("values", 0, place))
        d = b.op("mul", d, found) if tame(program) else times(b, d, found)
        if kind.biased and agg != "sum":
            self.add_gradient([(self.masked(d), one)], self.cell("biases", 0, r))
        if agg == "mean":
            d = b.op("div", d, self.fan_in(s))
        b.store(d, "values", 0, place)
        if agg not in ("sum", "mean"):
            self.scatter(agg, r, edges, d, kind)
        b.close()
        if agg not in ("sum", "mean"):
            return
        if self.is_tiled(kind):
            self.tiled_back(s, number)
            return
        self.only_if(self.wanted)
        if kind.room > 1:  # of one sample
            u = b.loop(b.index(0), count)[0]
            r, d = b.op("iadd", first, u), b.load("values", 0, b.op("iadd", places, u))
            if kind.biased and agg == "sum":
                self.add_gradient([(d, one)], self.cell("biases", 0, r))
            at, weight = self.cell("starts", 0, r), self.cell("weights", 0, r)
            k = b.loop(b.index(0), edges)[0]
            n = b.load("values", 0, self.cell("places", 0, b.op("iadd", at, k)))
            self.add_gradient([(d, n)], b.op("iadd", weight, b.op("imul", k, b.index(kind.room))))
            b.close()
            b.close()
            b.close()
            return
        if kind.biased and agg == "sum":
            self.in_blocks(
                f"rows_{number}", self.kind_rows[number], s,
                lambda k, i: (self.masked(b.load("values", i, b.op("iadd", places, k))), one),
                self.cell("segment_biases", 0, s))
        self.in_blocks(
            f"edges_{number}", self.kind_rows[number] * self.segment_edges, s,
            lambda k, i: self.flat_edge(b.op("iadd", self.cell("segment_weights", 0, s), k), i),
            self.cell("segment_weights", 0, s))
        b.close()

    def flat_edge(self, at: int, i: int) -> tuple[int, int]:
        """The delta and the source's value of the edge whose gradient is cell at + i."""
        b = self.b
        return (self.masked(b.load("values", 0, self.cell("flat_rows", i, at))),
                b.load("values", 0, self.cell("flat_sources", i, at)))

    def in_blocks(self, name: str, held: Longs, s: int,
                  pair: Callable[[int, int], tuple[int, int]], to: int) -> None:
        """gradient[to + k + i] of pair(k, i), for held[s] cells: as many neighbours at once as a
        vector holds, then four, then one by one."""
        b = self.b
        done = np.zeros_like(held)
        widest = self.native if self.batch else 4
        for block in dict.fromkeys((widest, 4, 1)):
            rounds = self.table(f"{name}_rounds_{block}", "i", (held - done) // block)
            after = self.table(f"{name}_after_{block}", "i", done)
            q = b.loop(b.index(0), b.load(rounds, 0, s))[0]
            k = b.op("iadd", b.load(after, 0, s), b.op("imul", q, b.index(block)))
            self.add_gradient([pair(k, i) for i in range(block)], b.op("iadd", to, k))
            b.close()
            done = done + (held - done) // block * block

    def add_gradient(self, pairs: list[tuple[int, int]], at: int) -> None:
        b = self.b
        for i, (x, y) in enumerate(pairs):
            if self.batch:
                b.accumulate(x, y, "gradient", i, at)
            else:  # of one sample, every cell is written once
                b.store(b.op("mul", x, y), "gradient", i, at)

    def scatter(self, agg: str, r: int, edges: int, d: int, kind: _Kind) -> None:
        """What row r of delta d, whose edges do not all get the same, adds to the adjoints of its
        sources and to the gradient: of factors, each that of the others' product; else all to
        the first edge that has the value that was chosen."""
        b = self.b
        at, weight = self.cell("starts", 0, r), self.cell("weights", 0, r)

        def edge(k: int) -> tuple[int, int]:
            return self.edge(at, weight, k, kind)

        def scattered(k: int, n: int, w: int, d: int) -> None:
            i = self.cell("places", 0, b.op("iadd", at, k))
            b.store(b.op("add", b.load("adjoints", 0, i), b.op("mul", d, w)), "adjoints", 0, i)
            to = b.op("iadd", weight, b.op("imul", k, b.index(kind.room)))
            self.add_gradient([(self.masked(d), n)], to)

        if agg == "mul":
            k, before = b.loop(b.index(0), edges, [b.const(1.0)])
            b.store(before, "products", 0, k)
            n, w = edge(k)
            b.close(b.op("mul", before, b.op("mul", n, w)))
            k, behind = b.loop(b.index(0), edges, [d])
            back = b.op("iadd", b.op("imul", k, b.index(-1)),
                        b.op("iadd", edges, b.index(-1)))
            n, w = edge(back)
            scattered(back, n, w, b.op("mul", behind, b.load("products", 0, back)))
            b.close(b.op("mul", behind, b.op("mul", n, w)))
            return
        # The adjoint goes down the chain of choices, from the last edge up to the first.
        loop = b.loop(b.index(1), edges, [start(b, agg, *edge(b.index(0)))])
        b.store(loop[1], "products", 0, loop[0])
        b.close(step(b, agg, loop[1], *edge(loop[0])))
        k, left = b.loop(b.index(1), edges, [d])
        back = b.op("iadd", b.op("imul", k, b.index(-1)), edges)
        n, w = edge(back)
        product, acc, zero = b.op("mul", n, w), b.load("products", 0, back), b.const(0.0)
        if agg == "maxabs":
            taken = b.op("gt", b.op("abs", product), b.op("abs", acc))
        else:
            taken = b.op("gt" if agg == "max" else "lt", product, acc)
        scattered(back, n, w, b.op("select", taken, left, zero))
        (left,) = b.close(b.op("select", taken, zero, left))
        scattered(b.index(0), *edge(b.index(0)), left)

    def after(self) -> None:
        """dparams += gradient, from the packed order to the canonical one."""
        b, codes = self.b, self.codes
        moved = np.flatnonzero(codes >= 0)
        self.only_if(b.emit("given", (), "dparams"))
        k = b.loop(b.index(0), b.index(len(moved)))[0]
        at = k if len(moved) == len(codes) else b.load(self.table("moved", "i", moved), 0, k)
        to = b.load(self.table("slots", "i", codes[moved]), 0, k)
        b.store(b.op("add", b.load("dparams", 0, to), b.load("gradient", 0, at)), "dparams", 0, to)
        b.close()
        b.close()
