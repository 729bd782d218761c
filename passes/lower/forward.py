"""The plan as functions of scalar ops: forward, forward_batch, pack."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, NONE, Ints
from ncc.ir.plan import FORWARD, Plan, Run, Schedule
from ncc.ir.ssa import DTYPES, UNLINKED, Buffer, Func
from ncc.ir.ssa_build import Builder, builder
from ncc.machine.model import FAR_WEIGHTS, NEAR_VALUES
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.forward_loops import Loops
from ncc.passes.lower.packing import copy_tiles
from ncc.passes.lower.schedule import in_time, pays, slots_of
from ncc.scalar.aggregations import FROM_BIAS, edges_a_term, finish, start, step, term
from ncc.scalar.expressions import abreast, expression

TILED = 1 << 15  # parameters that lie as far apart from where `pack` copies them tile by tile
SIDE = 4  # rows of one kind that are computed side by side: a vector of 128 bits, in f32


def functions(plan: Plan, tables: Tables, *, dtype: str, numerics: str, lanes: int, far_lanes: int,
              alone_lanes: int, native: int, block: int, lanes_block: int, lanes_rows: int,
              small: bool, provenance: bool) -> list[Func]:
    """Of forward, forward_batch, steps, pack and reset those that the plan names, in its order.

    `straight` writes every edge as ops, of one sample on machines with vectors in the order of
    passes/lower/schedule.py, with slots of its own; `table` loops over rows and edges and reads
    sources and slots from constant tables, `block` rows of one level and fan-in at a time
    (`lanes_block` where each is a vector); in a batch, lists of sources that many rows read have
    code of their own (passes/lower/arrays/often.py), but where code is to be `small`. `shared` does
    so for rows of their own; in blocks of rows with the same sources each source is loaded once: in
    `forward` the rows are lanes, in vectors of `native`; in `forward_batch` up to `lanes_rows` of
    them are computed at a time. There the samples are a loop of `lanes`, or of `far_lanes` where
    the weights are too many for the cache and the values are not, or of `alone_lanes` where most
    edges are of rows by themselves, and what is `work` in `forward` is private to each sample;
    without vectors it is a loop of calls. Where no `pack` is wanted, all parameters are constants,
    and there is no `packed` buffer.
    The values of the last call are in `state`, of each sample its own; `reset` makes them 0, and
    `steps` is `forward` of samples one after another.
    """
    if not any(wanted.name in FORWARD for wanted in plan.functions):
        return []
    longer = lanes
    if far_lanes and _far(plan, np.dtype(DTYPES[dtype]).itemsize, far_lanes):
        longer = far_lanes
    elif alone_lanes and plan.batch.form != "straight" and 2 * _alone(plan) > len(plan.edges):
        longer = alone_lanes
    lanes_rows, lanes = max(1, lanes_rows * lanes // longer), longer
    lowering = Forward(plan, tables, dtype, numerics, native, lanes_rows, not small, provenance)
    made: dict[str, Func] = {}
    if plan.wants("forward"):
        made["forward"] = lowering.function("forward", plan.single, 0, block)
    if plan.wants("forward_batch"):
        if native == 1 and plan.batch.form == plan.single.form:
            made["forward_batch"] = lowering.one_by_one(made["forward"], "forward_batch",
                                                        ("x", "y", "state"))
        else:
            made["forward_batch"] = lowering.function("forward_batch", plan.batch, lanes,
                                                      lanes_block)
    if plan.wants("steps"):
        made["steps"] = lowering.one_by_one(made["forward"], "steps", ("x", "y"))
    if lowering.packs:
        made["pack"] = lowering.pack()
    if plan.wants("reset"):
        made["reset"] = lowering.reset()
    return [made[wanted.name] for wanted in plan.functions if wanted.name in made]


def _far(plan: Plan, size: int, lanes: int) -> bool:
    """Whether weights and sources come from beyond the level-2 cache for each round of samples, so
    that longer rounds read them less often; their values must fit."""
    return (plan.batch.form != "straight"
            and len(plan.packed) * size + 2 * _alone(plan) > FAR_WEIGHTS
            and plan.batch.work * lanes * size <= NEAR_VALUES)


def _alone(plan: Plan) -> int:
    """The edges of rows by themselves: each loads its weight for one sum a vector of samples, and
    gains from longer rounds, while in a tile of rows weights and sources serve several."""
    return int(np.diff(plan.starts)[plan.sizes[plan.block_of] == 1].sum())


class Forward(Loops):
    def __init__(self, plan: Plan, tables: Tables, dtype: str, numerics: str, native: int,
                 lanes_rows: int, unrolls: bool, provenance: bool) -> None:
        super().__init__(plan, tables, dtype, native, lanes_rows, unrolls)
        self.fused = numerics != "strict"
        self.provenance = provenance
        self.packs = plan.wants("pack")
        if not self.packs and len(plan.weights):
            self.table("packed", "f", self.constants(plan.packed))
        self.position: dict[int, int] = {}
        if "straight" in (plan.single.form, plan.batch.form):
            slots, first = np.unique(plan.packed, return_index=True)
            self.position = dict(zip(slots.tolist(), first.tolist(), strict=True))

    def constants(self, codes: Ints) -> Any:
        return self.plan.constants[-1 - codes].astype(DTYPES[self.dtype])

    def builder(self) -> Builder:
        return builder(self.dtype, self.fused, self.provenance)

    def function(self, name: str, schedule: Schedule, lanes: int, block: int) -> Func:
        g = self.plan.graph
        b = self.builder()
        sample = None
        if lanes:
            sample = b.loop(b.index(0), b.emit("count"), lanes=lanes)[0]
        size = self.compute(b, schedule, sample, lanes, block)
        if lanes:
            b.close()
        buffers = [Buffer("x", "in", g.n_inputs)]
        if self.packs:
            buffers.append(Buffer("packed", "in", len(self.plan.packed)))
        buffers.append(Buffer("y", "out", len(g.outputs)))
        if len(g.states):
            buffers.append(Buffer("state", "inout", len(g.states)))
        buffers.append(Buffer("work", "private" if lanes else "work", size))
        return Func(name, tuple(buffers), b.ops, counted=bool(lanes), neurons=b.neurons)

    def compute(self, b: Builder, schedule: Schedule, sample: int | None, lanes: int, block: int
                ) -> int:
        """Write a sample's y from its x; how many elements of `work` that takes."""
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
        return size

    def one_by_one(self, func: Func, name: str, rows: tuple[str, ...]) -> Func:
        """The function of one sample, sample by sample: a batch on a target without vectors, or the
        steps of a stream. `rows` are the buffers of which each sample has a row of its own."""
        b = self.builder()
        sample = b.loop(b.index(0), b.emit("count"))[0]
        moved = [buffer for buffer in func.buffers if buffer.name in rows]
        at = tuple([b.op("imul", sample, b.index(buffer.size)) for buffer in moved])
        b.emit("call_at", at, (func.name, tuple([buffer.name for buffer in moved])))
        b.close()
        return Func(name, func.buffers, b.ops, counted=True)

    def parameter_of(self, b: Builder, code: int) -> int:
        """The canonical parameter of this number."""
        return b.load("packed", self.position[code])

    def straight(self, b: Builder, sample: int | None, slots: list[int],
                 groups: list[list[int]]) -> None:
        """The rows of a group, which are of one kind, take turns edge by edge: their sums are
        chains of FMAs, of which the machine overlaps no more than it has in sight."""
        plan, g = self.plan, self.plan.graph
        run_of = np.repeat(np.arange(len(plan.runs)), [
            run.last - run.first for run in plan.runs]).tolist()
        # What several neurons share is of the first.
        b.neuron = int(g.inputs[0]) if g.n_inputs else UNLINKED
        row_of_x = None if sample is None else b.op("imul", sample, b.index(g.n_inputs))
        b.neuron = int(g.outputs[0]) if len(g.outputs) else UNLINKED
        row_of_y = None if sample is None else b.op("imul", sample, b.index(len(g.outputs)))
        row_of_state = None
        if sample is not None and len(g.states):
            row_of_state = b.op("imul", sample, b.index(len(g.states)))
        wanted: dict[int, list[int]] = {}
        for k, o in enumerate(g.outputs.tolist()):
            wanted.setdefault(o, []).append(k)
        made: dict[int, int] = {}
        for k, i in enumerate(g.inputs.tolist()):
            b.neuron = i
            made[i] = (b.load("x", k, row_of_x) if k < g.n_inputs
                       else b.load("state", k - g.n_inputs, row_of_state))
            for o in wanted.get(i, ()):
                b.store(made[i], "y", o, row_of_y)
        codes: dict[int, int] = {}

        def parameter(code: int) -> int:
            if code not in codes:
                codes[code] = (self.parameter_of(b, code) if code >= 0
                               else b.const(float(plan.constants[-1 - code])))
            return codes[code]

        sources, weights, biases = g.sources.tolist(), g.weights.tolist(), g.biases.tolist()
        neurons, starts, in_lists = (
            plan.rows.tolist(), plan.starts.tolist(), plan.edges.tolist())
        for group in groups:
            run = plan.runs[run_of[group[0]]]
            program = expression(run.activation, g.functions)
            agg = AGGREGATIONS[run.aggregation]
            rows = [neurons[r] for r in group]
            shifts: list[int | None] = []
            for j in rows:
                b.neuron = j
                shifts.append(None if biases[j] == NONE else parameter(biases[j]))
            accs: list[int | None] = [x if agg in FROM_BIAS else None for x in shifts]
            size = edges_a_term(agg)
            edges = [in_lists[starts[r] : starts[r + 1]] for r in group]
            for k in range(0, max(map(len, edges)), size):
                for i, mine in enumerate(edges):
                    if k < len(mine):
                        b.neuron = rows[i]
                        ends = term(b, agg, [made[sources[e]] for e in mine[k : k + size]],
                                    parameter(weights[mine[k]]))
                        acc = accs[i]
                        accs[i] = (start(b, agg, *ends) if acc is None
                                   else step(b, agg, acc, *ends))
            totals = []
            for i, j in enumerate(rows):
                b.neuron = j
                totals.append(finish(b, agg, accs[i], len(edges[i]) // size,
                                     None if agg in FROM_BIAS else shifts[i]))
            first = len(b.ops)
            values = abreast(program, b, totals)
            b.in_turn(first, rows)
            for j, value in zip(rows, values, strict=True):
                b.neuron = j
                made[j] = value
                if slots[j] >= 0 and sample is None:
                    b.store(value, "work", slots[j])
                for o in wanted.get(j, ()):
                    b.store(value, "y", o, row_of_y)
        # At the end: until then rows read what the last call left there.
        for k, j in enumerate(g.states.tolist()):
            b.neuron = j
            b.store(made[j], "state", k, row_of_state)
        b.neuron = UNLINKED

    def abreast(self, run: Run, count: int) -> Iterator[tuple[int, int]]:
        """The rows of a run, `count` or fewer of one level at a time."""
        assert self.plan.graph.levels is not None
        levels = self.plan.graph.levels[self.plan.rows[run.first : run.last]]
        for low, high in pairwise(csr.borders(levels).tolist()):
            for first in range(low, high, count):
                yield run.first + first, run.first + min(first + count, high)

    def reset(self) -> Func:
        b, size = self.builder(), len(self.plan.graph.states)
        k = b.loop(b.index(0), b.index(size))[0]
        b.store(b.const(0.0), "state", 0, k)
        b.close()
        return Func("reset", (Buffer("state", "out", size),), b.ops)

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
        left = copy_tiles(b, self.plan, self.native, self.table, TILED)
        # Where all move, the table is the plan's own array, which takes no memory again.
        all_left = bool(left.all())
        moved = np.zeros(0, np.int64) if all_left else np.flatnonzero(left)
        taken = codes if all_left else codes[moved]
        k = b.loop(b.index(0), b.index(len(taken)))[0]
        value = b.load("params", 0, b.load(self.table("pack_from", "i", taken), 0, k))
        to = k if all_left else b.load(self.table("pack_to", "i", moved), 0, k)
        b.store(value, "packed", 0, to)
        b.close()
        if not everywhere:
            k = b.loop(b.index(0), b.index(len(fixed)))[0]
            value = b.load(self.table("fixed", "f", self.constants(codes[fixed])), 0, k)
            b.store(value, "packed", 0, b.load(self.table("fixed_to", "i", fixed), 0, k))
            b.close()
        return Func("pack", buffers, b.ops)
