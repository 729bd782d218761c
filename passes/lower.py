"""The plan as functions of scalar ops: forward, forward_batch, pack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ncc.activations import expression
from ncc.aggregate import finish, start, step
from ncc.expressions import emit
from ncc.graph import AGGREGATIONS, NONE, Ints, Longs
from ncc.plan import Plan, Run, Schedule
from ncc.ssa import DTYPES, Buffer, Builder, Func, Module, Table

SQUARE = 16  # columns of x and y that change places with samples at once: a vector's lanes


def lower(plan: Plan, *, name: str = "net", dtype: str = "f32", numerics: str = "fused",
          lanes: int = 16, block: int = 8, lanes_block: int = 2,
          embedded: bool = False) -> Module:
    """Write each function of the plan in its form.

        04 <- 00 01          =>        %0 = load x[0]
                                       %1 = load packed[0]
                                       %2 = mul %0, %1
                                       %3 = load x[1]
                                       %4 = load packed[1]
                                       %5 = fma %3, %4, %2

    `straight` writes every edge as ops; `table` loops over rows and edges and reads sources and
    slots from constant tables, `block` rows of one level and fan-in at a time (`lanes_block` where
    each is a vector). In `forward_batch` the samples are a loop of `lanes`, and what is `work` in
    `forward` is private to each sample. Where the parameters are `embedded` (all are constants)
    there is no `packed` buffer and no `pack`.
    """
    lowering = _Lowering(plan, dtype, numerics, embedded)
    funcs = [lowering.function("forward", plan.single, 0, block)]
    funcs.append(lowering.function("forward_batch", plan.batch, lanes, lanes_block))
    if lowering.packs:
        funcs.insert(0, lowering.pack())
    return Module(name, dtype, numerics, tuple(funcs), tuple(lowering.tables.values()))


class _Lowering:
    def __init__(self, plan: Plan, dtype: str, numerics: str, embedded: bool) -> None:
        self.plan = plan
        self.dtype = dtype
        self.fused = numerics != "strict"
        self.tables: dict[str, Table] = {}
        self.packs = not embedded
        if not self.packs and "table" in (plan.single.form, plan.batch.form):
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
        if schedule.form == "straight":
            self.straight(b, schedule, sample)
        else:
            self.rows(b, schedule, sample, block)
        if lanes:
            b.close()
        buffers = [Buffer("x", "in", len(g.inputs))]
        if self.packs:
            buffers.append(Buffer("packed", "in", len(self.plan.packed)))
        buffers.append(Buffer("y", "out", len(g.outputs)))
        # Straight lanes keep their values in registers.
        size = 0 if lanes and schedule.form == "straight" else schedule.work
        buffers.append(Buffer("work", "private" if lanes else "work", size))
        return Func(name, tuple(buffers), b.ops, counted=bool(lanes))

    def straight(self, b: Builder, schedule: Schedule, sample: int | None) -> None:
        plan, g = self.plan, self.plan.graph
        assert schedule.slots is not None
        slots = schedule.slots.tolist()
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

        biases = g.biases.tolist()
        for run in plan.runs:
            program = expression(run.activation, g.functions)
            agg = AGGREGATIONS[run.aggregation]
            for r in range(run.first, run.last):
                j = int(plan.rows[r])
                at = plan.edges[plan.starts[r] : plan.starts[r + 1]]
                bias = None if biases[j] == NONE else parameter(biases[j])
                acc = bias if agg == "sum" else None
                weights = g.weights[at].tolist()
                for i, code in zip(g.sources[at].tolist(), weights, strict=True):
                    n, w = made[i], parameter(code)
                    acc = start(b, agg, n, w) if acc is None else step(b, agg, acc, n, w)
                assert acc is not None or bias is not None
                acc = finish(b, agg, acc, len(at), None if agg == "sum" else bias)
                value = made[j] = emit(program, b, acc)
                if slots[j] >= 0 and sample is None:
                    b.store(value, "work", slots[j])
                for o in wanted.get(j, ()):
                    b.store(value, "y", o, row_of_y)

    def rows(self, b: Builder, schedule: Schedule, sample: int | None, block: int) -> None:
        plan, g = self.plan, self.plan.graph
        assert schedule.slots is not None
        # Where single and batch functions are both tables, their slots and so these are the same.
        self.table("sources", "i", schedule.slots[g.sources[plan.edges]])
        self.table("starts", "i", plan.starts)
        self.table("places", "i", schedule.slots[plan.rows])
        zero = b.index(0)
        row_of_x = None if sample is None else b.op("imul", sample, b.index(len(g.inputs)))
        for k, count in self.columns(b, len(g.inputs), sample):
            at = k if row_of_x is None else b.op("iadd", row_of_x, k)
            for c, value in enumerate([b.load("x", c, at) for c in range(count)]):
                b.store(value, "work", c, k)
            b.close()
        first, last, fan_in = self.segments()
        self.table("segment_rows", "i", first)
        self.table("segment_ends", "i", last)
        self.table("segment_edges", "i", fan_in)
        whole = (last - first) // block if block > 1 else np.zeros_like(first)
        blocks = self.table(f"segment_blocks_{block}", "i", whole)
        tails = self.table(f"segment_tails_{block}", "i", first + whole * block)
        for run in plan.runs:
            lo, hi = np.searchsorted(first, [run.first, run.last]).tolist()
            s = b.loop(b.index(lo), b.index(hi))[0]
            k = b.load("segment_edges", 0, s)
            if block > 1:
                q = b.loop(zero, b.load(blocks, 0, s))[0]
                r = b.op("iadd", b.load("segment_rows", 0, s), b.op("imul", q, b.index(block)))
                self.together(b, run, r, k, block)
                b.close()
            r = b.loop(b.load(tails, 0, s), b.load("segment_ends", 0, s))[0]
            self.together(b, run, r, k, 1)
            b.close()
            b.close()
        outs = self.table("outs", "i", schedule.slots[g.outputs])
        row_of_y = None if sample is None else b.op("imul", sample, b.index(len(g.outputs)))
        for k, count in self.columns(b, len(g.outputs), sample):
            values = [b.load("work", 0, b.load(outs, c, k)) for c in range(count)]
            at = k if row_of_y is None else b.op("iadd", row_of_y, k)
            for c, value in enumerate(values):
                b.store(value, "y", c, at)
            b.close()

    def columns(self, b: Builder, width: int, sample: int | None) -> Iterator[tuple[int, int]]:
        """A loop over the columns of x or y, of which the body takes `count` a round. In lanes
        that is a square of some lanes and as many columns, which are transposed at once; the
        last square starts early rather than end late."""
        count = 1 if sample is None or width < SQUARE else SQUARE
        zero = b.index(0)
        q = b.loop(zero, b.index(width // count))[0]
        yield b.op("imul", q, b.index(count)), count
        if width % count:
            b.loop(zero, b.index(1))
            yield b.index(width - count), count

    def segments(self) -> tuple[Longs, Longs, Longs]:
        """First row, end and fan-in of each stretch of rows of one run, level and fan-in: their
        sums may run side by side."""
        plan = self.plan
        assert plan.graph.levels is not None
        levels, lengths = plan.graph.levels[plan.rows], np.diff(plan.starts)
        change = (levels[1:] != levels[:-1]) | (lengths[1:] != lengths[:-1])
        change[[run.first - 1 for run in plan.runs[1:]]] = True
        first = np.concatenate([[0], np.flatnonzero(change) + 1])[: len(plan.rows)]
        return first, np.append(first[1:], len(plan.rows))[: len(first)], lengths[first]

    def together(self, b: Builder, run: Run, r: int, k: int, count: int) -> None:
        """Rows r .. r+count-1, of k edges each, in one loop: as many sums under way at once hide
        the latency of each, which runs in in-list order."""
        agg = AGGREGATIONS[run.aggregation]
        program = expression(run.activation, self.plan.graph.functions)
        at = [b.load("starts", 0, r)]
        for _ in range(count - 1):
            at.append(b.op("iadd", at[-1], k))
        shift = run.bias - run.first
        biases = [b.load("packed", shift + i, r) if run.biased else None for i in range(count)]
        if agg == "sum":
            # -0.0 + p is p, of either sign: the sum starts from its first product.
            begin = 0
            firsts = [b.const(-0.0) if bias is None else bias for bias in biases]
        else:
            begin = 1
            firsts = [start(b, agg, *self.edge(b, e)) for e in at]
        loop = b.loop(b.index(begin), k, firsts)
        accs = [step(b, agg, acc, *self.edge(b, b.op("iadd", e, loop[0])))
                for acc, e in zip(loop[1:], at, strict=True)]
        for i, acc in enumerate(b.close(*accs)):
            bias = None if agg == "sum" else biases[i]
            if agg == "mean":
                # finish() divides by a number known here; in a loop over rows it is in a table.
                counts = np.diff(self.plan.starts).astype(DTYPES[self.dtype])
                acc = b.op("div", acc, b.load(self.table("counts", "f", counts), i, r))
            acc = finish(b, "sum" if agg == "mean" else agg, acc, 0, bias)
            b.store(emit(program, b, acc), "work", 0, b.load("places", i, r))

    def edge(self, b: Builder, at: int) -> tuple[int, int]:
        return b.load("work", 0, b.load("sources", 0, at)), b.load("packed", 0, at)

    def pack(self) -> Func:
        codes = self.plan.packed
        b = self.builder()
        n_params = self.plan.graph.n_params
        buffers = (Buffer("params", "in", n_params), Buffer("packed", "out", len(codes)))
        moved = np.flatnonzero(codes >= 0)
        fixed = np.flatnonzero(codes < 0)
        if len(moved) == len(codes) and np.array_equal(codes, np.arange(len(codes))):
            k = b.loop(b.index(0), b.index(len(codes)))[0]
            b.store(b.load("params", 0, k), "packed", 0, k)
            b.close()
            return Func("pack", buffers, b.ops)
        everywhere = len(fixed) == 0
        k = b.loop(b.index(0), b.index(len(moved)))[0]
        value = b.load("params", 0, b.load(self.table("pack_from", "i", codes[moved]), 0, k))
        to = k if everywhere else b.load(self.table("pack_to", "i", moved), 0, k)
        b.store(value, "packed", 0, to)
        b.close()
        if not everywhere:
            k = b.loop(b.index(0), b.index(len(fixed)))[0]
            value = b.load(self.table("fixed", "f", self.constants(codes[fixed])), 0, k)
            b.store(value, "packed", 0, b.load(self.table("fixed_to", "i", fixed), 0, k))
            b.close()
        return Func("pack", buffers, b.ops)
