"""The sweep back as loops over tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np

from ncc.ir.graph import AGGREGATIONS, Longs
from ncc.ir.ssa import Buffer, Builder, Func
from ncc.passes.lower.backward_arrays import Kind, Places
from ncc.scalar.aggregations import finish, start, step
from ncc.scalar.derivative import reads_argument, slope, tame, times
from ncc.scalar.expressions import Expr, emit, expression
from ncc.scalar.sum_order import BLOCK


class Tabled(Places):
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

    With one block, the sweep forward may be a function of its own, `forward_alone`, which leaves
    what is `kept` of each sample: the values of all rows, then the arguments that slopes are made
    from. A caller that names `kept` goes back from there.
    """

    @cached_property
    def arguments(self) -> Longs:
        """The rows whose activation's slope is made from its argument."""
        return np.concatenate([np.zeros(0, np.int64), *[
            np.arange(run.first, run.last) for run in self.plan.runs
            if reads_argument(expression(run.activation, self.g.functions))]])

    @property
    def n_kept(self) -> int:
        """Reals of a sample's `kept`."""
        return len(self.plan.rows) + len(self.arguments)

    def forward_alone(self, name: str) -> Func:
        """The sweep forward of a function that was made: y, and `kept`."""
        b = self.b = Builder(self.dtype, self.b.fused)
        self.sample = (b.loop(b.index(0), b.emit("count"), lanes=self.lanes)[0] if self.batch
                       else None)
        n, n_kept = len(self.plan.rows), self.n_kept
        self.columns_in("x", self.n_inputs, 0, self.n_inputs, "values", 0)
        self.forward(None)
        self.columns_out("values", "output_places", self.n_outputs, "y", self.n_outputs, 0)
        self.columns_out("values", self.local, n, "kept", n_kept, 0)
        if len(self.arguments):
            self.columns_out("sums", "argument_places", len(self.arguments), "kept", n_kept, n)
        if self.batch:
            b.close()
        used = {op[2][0] for op in b.ops if op[0] in ("load", "store")}
        return Func(name, (
            Buffer("x", "in", self.n_inputs), Buffer("packed", "in", len(self.plan.packed)),
            Buffer("y", "out", self.n_outputs), Buffer("kept", "out", n_kept),
            *[held for held in self.buffers.values() if held.name in used]),
            b.ops, counted=self.batch)

    def columns_in(self, source: str, width: int, first: int, count: int, to: str, places: int | str
                   ) -> None:
        """Columns first .. first+count-1 of a sample's row of `width`, to consecutive places of
        `to`, or those that a table says."""
        b, row = self.b, self.times_sample(width)
        for k, wide in b.columns(count, self.batch):
            at = self.offset(row, k)
            for c, value in enumerate([b.load(source, first + c, at) for c in range(wide)]):
                b.store(value, to, *self.place(places, c, k))
            b.close()

    def columns_out(self, source: str, places: int | str, count: int, to: str, width: int,
                    first: int) -> None:
        """The same in the other direction."""
        b, row = self.b, self.times_sample(width)
        for k, wide in b.columns(count, self.batch):
            values = [b.load(source, *self.place(places, c, k)) for c in range(wide)]
            at = self.offset(row, k)
            for c, value in enumerate(values):
                b.store(value, to, first + c, at)
            b.close()

    def place(self, places: int | str, c: int, k: int) -> tuple[int, int]:
        """Place number c + k: an offset and an index."""
        return (places + c, k) if isinstance(places, int) else (0, self.cell(places, c, k))

    def body(self) -> None:
        b = self.b
        zero = b.index(0)
        self.columns_in("x", self.n_inputs, 0, self.n_inputs, "values", 0)
        if "kept" in self.named:
            n = len(self.plan.rows)
            self.columns_in("kept", self.n_kept, 0, n, "values", self.local)
            if len(self.arguments):
                self.table("argument_places", "i", self.arguments)
                self.columns_in("kept", self.n_kept, n, len(self.arguments), "sums",
                                "argument_places")
        elif self.n_blocks == 1:
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
            self.seed("dy")
        else:
            self.ends.loops(self)
        self.wanted = b.emit("given", (), "dparams")
        if "dx" not in self.named:  # then the sweep back is for dparams alone
            self.only_if(self.wanted)
        if "adjoints" in self.buffers:
            self.clear(0, self.buffers["adjoints"].size)
            k = b.loop(zero, b.index(self.n_outputs))[0]
            self.push(self.cell("seed_places", 0, k), self.mask(b.load("seeds", 0, k)))
            b.close()
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
                k = b.loop(*self.bounds("passed_starts", block))[0]
                b.store(b.load("adjoints", self.n_inputs, k), "adjoints", 0,
                        self.cell("passed_places", 0, k))
                b.close()
            self.back(block)
            self.rests_back(b.op("iadd", block, b.index(self.n_segments)))
            k = b.loop(*self.bounds("import_starts", block))[0]
            to = self.cell("import_slots", 0, k)
            owed = self.gathered(b.op("iadd", k, b.index(len(self.plan.rows))),
                                 b.load("adjoints", 0, to), to)
            b.store(owed, "adjoints", 0, to)
            b.close()
            b.close()
        if "dx" in self.named:
            self.only_if(b.emit("given", (), "dx"))
            k = b.loop(zero, b.index(self.n_inputs))[0]
            acc = b.load("adjoints", 0, k) if "adjoints" in self.buffers else self.seeded(k)
            if self.n_blocks == 1:
                acc = self.read_back(b.op("iadd", k, b.index(len(self.plan.rows))), acc)
            if self.unread.any():  # -0 is what a sum begins with; and what has no term is +0
                last = self.table("unread", "f", np.where(self.unread, 0.0, -0.0))
                acc = b.op("add", acc, b.load(last, 0, k))
            # The inputs' values have no reader any more.
            b.store(acc, "values", 0, k)
            b.close()
            self.columns_out("values", 0, self.n_inputs, "dx", self.n_inputs, 0)
        b.close()

    def clear(self, lo: int, hi: int) -> None:
        b = self.b
        k = b.loop(b.index(lo), b.index(hi))[0]
        b.store(b.const(-0.0), "adjoints", 0, k)
        b.close()

    def push(self, place: int, value: int, weight: int | None = None) -> None:
        """Add a value, or its product with a weight, to the adjoint at a place."""
        b = self.b
        acc = b.load("adjoints", 0, place)
        acc = b.op("add", acc, value) if weight is None else step(b, "sum", acc, value, weight)
        b.store(acc, "adjoints", 0, place)

    def forward(self, block: int | None) -> None:
        """The values of a block's rows, or of all."""
        b = self.b
        if self.mixed:
            t = b.loop(*self.turns_of(block))[0]
            self.sums_forward(b.loop(*self.bounds("turn_segments", t))[0])
            b.close()
            self.activate(t)
            b.close()
            return
        self.sums_forward(b.loop(*self.segments_of(block))[0])
        b.close()

    def sums_forward(self, s: int) -> None:
        """The rows of segment s."""
        for number, kind in enumerate(self.kinds):
            if self.is_tiled(kind):
                self.tiled_forward(s, number)
            else:
                self.rows_forward(s, number)

    def segments_of(self, block: int | None) -> tuple[int, int]:
        """Where the segments of a block, or all, begin and end."""
        if block is None:
            return self.b.index(0), self.b.index(self.n_segments)
        return self.bounds("block_segments", block)

    def turns_of(self, block: int | None) -> tuple[int, int]:
        """Where the turns of a block, or all, begin and end."""
        b = self.b
        if block is None:
            return b.index(0), b.index(len(self.turn_segments) - 1)
        return self.bounds("block_turns", block)

    def each_activation(self, t: int) -> Iterator[tuple[Expr, int]]:
        """For each activation a loop over the rows of turn t that have it: it and their places."""
        b = self.b
        first = b.op("imul", t, b.index(len(self.acts)))
        for n, act in enumerate(self.acts):
            at = b.op("iadd", first, b.index(n))
            yield (expression(act, self.g.functions),
                   self.cell("act_places", 0, b.loop(*self.bounds("act_starts", at))[0]))
            b.close()

    def activate(self, t: int) -> None:
        """The values of the rows of turn t, in whose places stand their sums."""
        b = self.b
        for program, place in self.each_activation(t):
            total = b.load("values", 0, place)
            if reads_argument(program):
                b.store(total, "sums", -self.local, place)
            b.store(emit(program, b, total), "values", 0, place)

    def back(self, block: int | None) -> None:
        """The deltas of a block's rows, or of all, and their part of the gradient."""
        b = self.b
        if any(map(self.is_tiled, self.kinds)):
            # 0 in the lanes that repeat a sample: 0 times an infinity would be added otherwise.
            self.only_if(self.wanted)
            k = b.loop(b.index(0), b.index(self.buffers["values"].size))[0]
            b.store(self.mask(b.load("values", 0, k)), "values", 0, k)
            b.close()
            b.close()
        # Segments, or turns; where all have deltas, that of the inputs comes after them.
        low = self.lowest() if block is None else 0
        first, end = self.turns_of(block) if self.mixed else self.segments_of(block)
        if low and self.mixed:
            low = int(np.searchsorted(self.turn_segments, low, "right")) - 1
        if low:
            first = b.index(low)
        if block is None and not low:
            count = len(self.turn_segments) - 1 if self.mixed else self.n_segments
            order = self.table("back", "i", [*reversed(range(count)), count])
            at = b.load(order, 0, b.loop(b.index(0), b.index(count + 1))[0])
        else:
            at = self.from_last(first, end)
        if self.mixed:
            self.turn_back(at)
        else:
            self.rests_back(at)
            for kind in range(len(self.kinds)):
                self.rows_back(at, kind)
            self.biases_back(at)
        b.close()
        if block is None:  # the values whose deltas nobody wants are sources all the same
            n_rows = len(self.plan.rows)
            if low and self.mixed:
                low = int(self.turn_segments[low])
            late = [*range(low), self.n_segments] if low else []
            lists = [*range(int(self.firsts[low]) if low else 0),
                     *range(n_rows, n_rows + self.n_inputs)]
            if late or self.n_whole:
                self.only_if(self.wanted)
                if late:
                    k = b.loop(b.index(0), b.index(len(late)))[0]
                    self.rests_back(b.load(self.table("late_groups", "i", late), 0, k))
                    b.close()
                if self.n_whole:
                    k = b.loop(b.index(0), b.index(len(lists)))[0]
                    k = b.load(self.table("late_lists", "i", lists), 0, k)
                    n = self.mask(b.load("values", 0, self.cell("order_places", 0, k)))
                    self.gradient_in_rounds(k, n)
                    b.close()
                b.close()

    def from_last(self, first: int, end: int) -> int:
        """Open a loop from end-1 down to first."""
        b = self.b
        k = b.loop(first, end)[0]
        last = b.op("iadd", b.op("iadd", first, end), b.index(-1))
        return b.op("iadd", b.op("imul", k, b.index(-1)), last)

    def turn_back(self, t: int) -> None:
        """The rows of turn t: the adjoints of their values, which need those values no more; then
        the deltas, activation by activation; then what follows from them, row by row."""
        b = self.b
        segments = self.bounds("turn_segments", t)
        to = b.op("imul", self.cell("turn_places", 0, t), b.index(-1))
        s = b.loop(*segments)[0]
        self.rests_back(s)
        k = b.loop(*self.bounds("segment_rows", s))[0]
        r, place = self.cell("order", 0, k), self.cell("order_places", 0, k)
        b.store(self.pulled(k, r, place), "pulled", 0, b.op("iadd", place, to))
        b.close()
        b.close()
        for program, place in self.each_activation(t):
            d = b.load("pulled", 0, b.op("iadd", place, to))
            b.store(self.sloped(program, d, place), "values", 0, place)
        s = self.from_last(*segments)
        for number, kind in enumerate(self.kinds):
            if self.follows(kind):
                k, r, place = self.each_row_back(s, number)
                self.follow(kind, s, r, place, b.load("values", 0, place))
                b.close()
            if self.is_tiled(kind):
                self.tiled_back(s, number)
        self.biases_back(s)
        b.close()

    def lowest(self) -> int:
        """The first segment with a parameter: no delta of one before it is wanted, but for dx."""
        if "dx" in self.named:
            return 0
        weights, biases = self.g.weights[self.plan.edges], self.g.biases[self.plan.rows]
        owners = np.repeat(np.arange(len(self.plan.rows)), np.diff(self.plan.starts))
        held = np.concatenate([owners[weights >= 0], np.flatnonzero(biases >= 0)])
        row = held.min(initial=len(self.plan.rows))
        return max(0, int(np.searchsorted(self.firsts, row, side="right")) - 1)  # 0 without rows

    def seed(self, buffer: str) -> None:
        """`seeds`, in the order of places, from a row of the caller's with a cell an output."""
        b = self.b
        row_of_y = self.times_sample(self.n_outputs)
        for k, count in b.columns(self.n_outputs, self.batch):
            at = self.offset(row_of_y, k)
            for c, value in enumerate([b.load(buffer, c, at) for c in range(count)]):
                b.store(value, "seeds", 0, self.cell("seed_ranks", c, k))
            b.close()

    # -- forward

    def rows_forward(self, s: int, kind: int) -> None:
        b = self.b
        count = self.cell(f"rows_{kind}", 0, s)
        if self.mixed:
            u = b.loop(b.index(0), count)[0]
            self.together(self.kinds[kind], s, u, 1)
            b.close()
            return
        block = 2 if self.batch else 8
        held = self.kind_rows[kind]
        if (held >= block).any():
            whole = self.table(f"rows_{kind}_by_{block}", "i", held // block)
            q = b.loop(b.index(0), b.load(whole, 0, s))[0]
            self.together(self.kinds[kind], s, b.op("imul", q, b.index(block)), block)
            b.close()
        if (held % block).any():
            rest = self.table(f"rows_{kind}_from_{block}", "i", held // block * block)
            u = b.loop(b.load(rest, 0, s), count)[0]
            self.together(self.kinds[kind], s, u, 1)
            b.close()

    def together(self, kind: Kind, s: int, u: int, count: int) -> None:
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

    def finished(self, kind: Kind, accs: Sequence[int], biases: Sequence[int | None], place: int,
                 s: int) -> None:
        """Keep the values of rows of segment s whose edges are summed up: the sums themselves,
        where activations come later."""
        b = self.b
        agg = AGGREGATIONS[kind.aggregation]
        for i, acc in enumerate(accs):
            if agg == "mean":
                acc = b.op("div", acc, self.fan_in(s))
            total = finish(b, "sum" if agg == "mean" else agg, acc, 0,
                           None if agg == "sum" else biases[i])
            if kind.activation is not None:
                program = expression(kind.activation, self.g.functions)
                if reads_argument(program):
                    b.store(total, "sums", i - self.local, place)
                total = emit(program, b, total)
            b.store(total, "values", i, place)

    def fan_in(self, s: int) -> int:
        """The length of the in-lists of a segment, as a real."""
        counts = np.maximum(self.segment_edges, 1)
        return self.b.load(self.table("fan_in", "f", counts), 0, s)

    def edge(self, at: int, weight: int, k: int, kind: Kind) -> tuple[int, int]:
        """The source's value and the weight of edge k of a row whose first ones stand there."""
        b = self.b
        by = k if kind.room == 1 else b.op("imul", k, b.index(kind.room))
        return (b.load("values", 0, self.cell("places", 0, b.op("iadd", at, k))),
                b.load("packed", 0, b.op("iadd", weight, by)))

    # -- tiles: rows that share their sources

    def is_tiled(self, kind: Kind) -> bool:
        return self.batch and kind.room > 1 and AGGREGATIONS[kind.aggregation] in ("sum", "mean")

    def each_block(self, s: int, number: int, last_first: bool = False) -> int:
        """Open a loop over the blocks of segment s, if they are of this kind."""
        b = self.b
        count, first = self.cell(f"blocks_{number}", 0, s), self.cell("segment_blocks", 0, s)
        q = b.loop(b.index(0), count)[0]
        if last_first:
            q = b.op("iadd", b.op("imul", q, b.index(-1)), b.op("iadd", count, b.index(-1)))
        return b.op("iadd", first, q)

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
        zero = b.index(0)
        block = self.each_block(s, number, last_first=True)
        at, weights = self.cell("block_starts", 0, block), self.cell("block_weights", 0, block)
        place = self.cell("block_places", 0, block)
        pushes = self.cell("block_inner", 0, block)
        if "dx" in self.named:  # of those that read inputs alone only then
            pushes = b.op("iadd", pushes, b.op("imul", self.cell("block_outer", 0, block),
                                               b.emit("given", (), "dx")))
        self.only_if(pushes)
        count = self.cell("block_rows", 0, block)
        last = b.op("iadd", count, b.index(-1))
        if self.repeats:  # from the last row on, and in each from the last edge
            r = b.loop(zero, count)[0]
            r = b.op("iadd", b.op("imul", r, b.index(-1)), last)
            edges = self.cell("segment_edges", 0, s)
            k = b.loop(zero, edges)[0]
            k = b.op("iadd", b.op("imul", k, b.index(-1)), b.op("iadd", edges, b.index(-1)))
            by = b.op("iadd", b.op("iadd", weights, b.op("imul", k, b.index(kind.room))), r)
            self.push(self.cell("places", 0, b.op("iadd", at, k)),
                      b.load("values", 0, b.op("iadd", place, r)), b.load("packed", 0, by))
            b.close()
            b.close()
        else:
            done = np.zeros_like(self.segment_edges)
            for wide in dict.fromkeys((self.tile, 1)):
                if not (self.segment_edges - done >= wide).any():
                    continue
                rounds = self.table(f"tile_rounds_{wide}", "i", (self.segment_edges - done) // wide)
                after = self.table(f"tile_after_{wide}", "i", done)
                q = b.loop(zero, b.load(rounds, 0, s))[0]
                k = b.op("iadd", b.load(after, 0, s), b.op("imul", q, b.index(wide)))
                sources = [self.cell("places", i, b.op("iadd", at, k)) for i in range(wide)]
                r, *accs = b.loop(zero, count, [b.load("adjoints", 0, i) for i in sources])
                r = b.op("iadd", b.op("imul", r, b.index(-1)), last)
                d = b.load("values", 0, b.op("iadd", place, r))
                by = b.op("iadd", b.op("iadd", weights, b.op("imul", k, b.index(kind.room))), r)
                accs = b.close(*[step(b, "sum", acc, d, b.load("packed", i * kind.room, by))
                                 for i, acc in enumerate(accs)])
                for i, acc in zip(sources, accs, strict=True):
                    b.store(acc, "adjoints", 0, i)
                b.close()
                done = done + (self.segment_edges - done) // wide * wide
        b.close()
        self.only_if(self.wanted)
        rows = range(kind.room)  # those that a block lacks have cells that nobody reads
        if kind.biased and AGGREGATIONS[kind.aggregation] == "sum":
            one, to = b.const(1.0), self.cell("gradient_of_block_biases", 0, block)
            for i, d in enumerate([b.load("values", i, place) for i in rows]):
                self.add_gradient(d, one, i, to)
        self.tiled_gradient(number, block)
        b.close()
        b.close()

    def tiled_gradient(self, number: int, block: int) -> None:
        """What a block adds to the gradient of its weights.

        Sums in order, of blocks that together are whole ones of ncc/scalar/sum_order.py's: of all
        their rows and many sources at a time. Sums by lanes: of two rows and four sources."""
        b, kind = self.b, self.kinds[number]
        first, place = self.cell("block_firsts", 0, block), self.cell("block_places", 0, block)
        at = self.cell("block_starts", 0, block)
        sizes = np.diff(self.plan.blocks)
        prefix = self.prefix[self.plan.blocks[:-1]]
        length = np.diff(self.plan.starts)[self.plan.blocks[:-1]]
        to = "dparams" if kind.direct else self.sums

        def deltas(u: int, rows: int) -> list[int]:
            at = b.op("iadd", place, u)
            return [b.load("values", i, at) for i in range(rows)]

        def add(name: str, edge: int, cell: int, count: int, u: int, ds: Sequence[int]) -> None:
            """The edges edge .. edge+count-1 of the block's rows u .., whose deltas are `ds`, from
            each row's cell number `cell` on."""
            row = b.op("iadd", first, u)
            ns = [b.load("values", 0, self.cell("places", i, b.op("iadd", at, edge)))
                  for i in range(count)]
            cells = [b.op("iadd", self.cell(name, j, row), cell) for j in range(len(ds))]
            for d, start_of in zip(ds, cells, strict=True):
                for i, n in enumerate(ns):
                    b.accumulate(n, d, to, i, start_of, in_order=name.endswith("order"))

        def by_rows(name: str, held: Longs, begin: Longs | None) -> None:
            """Of held[block] edges, from number begin[block] on."""
            done = np.zeros_like(held)
            short = "ordered" if name.endswith("order") else "left"
            from_ = None if begin is None else b.load(self.table("block_prefix", "i", begin), 0,
                                                      block)
            for count in (4, 2, 1):
                if not (held - done >= count).any():
                    continue
                k = self.some(block, f"{short}_{count}", held, done, count)
                edge = k if from_ is None else b.op("iadd", from_, k)
                held_rows = np.zeros_like(sizes)
                for rows in (2, 1):
                    if not (sizes - held_rows >= rows).any():
                        continue
                    u = self.some(block, f"rows_{rows}", sizes, held_rows, rows)
                    add(name, edge, k, count, u, deltas(u, rows))
                    b.close()
                    held_rows = held_rows + (sizes - held_rows) // rows * rows
                b.close()
                done = done + (held - done) // count * count

        alone = prefix
        if kind.room == self.native > 1:
            many, alone = self.together_blocks
            for blocks in np.unique(many[many > 0]).tolist():
                self.only_if(b.load(self.table(f"abreast_{blocks}", "i", many == blocks), 0, block))
                ds = deltas(b.index(0), blocks * self.native)  # turned once for all edges
                wide = max(8, self.native)
                k = self.some(block, "edges", prefix, np.zeros_like(prefix), wide)
                add("gradient_of_rows_in_order", k, k, wide, b.index(0), ds)
                b.close()
                b.close()
        if alone.any():
            by_rows("gradient_of_rows_in_order", alone, None)
        by_rows("gradient_of_rows", length - prefix, prefix)

    @cached_property
    def together_blocks(self) -> tuple[Longs, Longs]:
        """How many blocks go together where sums are made in order, of the first of them; else 0:
        as many as are a whole one of ncc/scalar/sum_order.py's, or two such where both are of one
        side. And of how many edges of each block the sums are left to be made, row by row."""
        plan = self.plan
        least = max(1, BLOCK[self.dtype] // self.native)
        left = self.prefix[plan.blocks[:-1]].copy()
        found = np.zeros(len(left), np.int64)
        for many in (2 * least, least) if least == 1 else (least,):
            for segment in plan.segments:
                for first in range(segment.first, segment.last, segment.side):
                    for block in range(first, first + segment.side - many + 1, many):
                        mine = slice(block, block + many)
                        if (left[mine] > 0).all():
                            found[block], left[mine] = many, 0
        return found, left

    def some(self, s: int, name: str, held: Longs, done: Longs, count: int) -> int:
        """Open a loop over what is left of held[s] after done[s], `count` at a time: the first."""
        b = self.b
        rounds = self.table(f"some_{name}", "i", (held - done) // count)
        after = self.table(f"after_{name}", "i", done)
        q = b.loop(b.index(0), b.load(rounds, 0, s))[0]
        return b.op("iadd", b.load(after, 0, s), b.op("imul", q, b.index(count)))

    # -- backward

    def seeded(self, v: int) -> int:
        """The seeds of value number v, if it is an output: 0 in the lanes that repeat a sample, so
        that all deltas are."""
        b = self.b
        k, acc = b.loop(*self.bounds("seed_starts", v), [b.const(-0.0)])
        (acc,) = b.close(b.op("add", acc, self.mask(b.load("seeds", 0, k))))
        return acc

    def gathered(self, k: int, acc: int, place: int) -> int:
        """acc, and the deltas of the readers on list k, times their weights. Where the gradient is
        wanted, that of whole rounds of these edges, too, while their deltas are at hand: `place` is
        that of the value which they read."""
        b = self.b
        if "dx" not in self.named:
            acc = self.in_rounds(k, b.index(1), acc, self.mask(b.load("values", 0, place)))
        else:
            unwanted = b.op("iadd", b.index(1), b.op("imul", self.wanted, b.index(-1)))
            acc = self.in_rounds(k, self.wanted, acc, self.mask(b.load("values", 0, place)))
            acc = self.in_rounds(k, unwanted, acc, None)
        return self.rest(k, acc)

    def read_back(self, k: int, acc: int) -> int:
        """acc, and the deltas of the readers on list k, times their weights."""
        return self.rest(k, self.in_rounds(k, self.b.index(1), acc, None))

    def in_rounds(self, k: int, given: int, acc: int, n: int | None) -> int:
        """`acc` after the whole rounds of list k, if `given` is 1. The edges' gradient goes with
        the value n, if there is one."""
        b = self.b
        if not self.n_whole:
            return acc
        at, accs = self.open_rounds(k, given, [acc])
        for i in range(self.round):
            d = b.load("values", 0, self.cell("readers", i, at))
            accs = [self.weighted(at, i, d, accs[0])]
            if n is not None:
                self.add_gradient(d, n, i, at)
        return b.close(*accs)[0]

    def gradient_in_rounds(self, k: int, n: int) -> None:
        """The gradient of the edges in the whole rounds of list k, which read the value n."""
        if not self.n_whole:
            return
        at, _ = self.open_rounds(k, self.b.index(1), [])
        for i in range(self.round):
            self.add_gradient(self.b.load("values", 0, self.cell("readers", i, at)), n, i, at)
        self.b.close()

    def open_rounds(self, k: int, given: int, carries: list[int]) -> tuple[int, list[int]]:
        b = self.b
        start, rounds = self.cell("reader_starts", 0, k), self.cell("reader_rounds", 0, k)
        q, *carries = b.loop(b.index(0), b.op("imul", rounds, given), carries)
        return b.op("iadd", start, b.op("imul", q, b.index(self.round))), carries

    def rest(self, k: int, acc: int) -> int:
        b = self.b
        at, acc = b.loop(*self.bounds("reader_rests", k), [acc])
        d = b.load("values", 0, self.cell("readers", 0, at))
        return b.close(self.weighted(at, 0, d, acc))[0]

    def weighted(self, at: int, i: int, d: int, acc: int) -> int:
        """acc + the delta d times the weight of the edge whose reader is number at + i."""
        b = self.b
        weight = (b.load("turned", i, at) if self.batch
                  else b.load("packed", 0, self.cell("reader_edges", i, at)))
        return step(b, "sum", acc, d, weight)

    def rests_back(self, group: int) -> None:
        """The gradient of those edges of a group's values that no round has."""
        b = self.b
        self.only_if(self.wanted)
        to = self.cell("group_rests", 0, group)

        def pair(k: int, i: int) -> tuple[int, int]:
            at = b.op("iadd", to, k)
            source = self.cell("rest_sources", i - self.n_whole, at)
            return (b.load("values", 0, self.cell("readers", i, at)),
                    self.mask(b.load("values", 0, source)))

        self.in_blocks("rests", self.group_rests, group, pair, to)
        b.close()

    def rows_back(self, s: int, number: int) -> None:
        kind = self.kinds[number]
        assert kind.activation is not None
        k, r, place = self.each_row_back(s, number)
        d = self.sloped(expression(kind.activation, self.g.functions), self.pulled(k, r, place),
                        place)
        self.follow(kind, s, r, place, d)
        self.b.close()
        if self.is_tiled(kind):
            self.tiled_back(s, number)

    def each_row_back(self, s: int, number: int) -> tuple[int, int, int]:
        """Open a loop over the rows of segment s, if they are of this kind: the numbers of each in
        the order of the way back and among all rows, and its place."""
        b = self.b
        count, first = self.cell(f"rows_{number}", 0, s), self.cell("segment_rows", 0, s)
        k = b.op("iadd", first, b.loop(b.index(0), count)[0])
        return k, self.cell("order", 0, k), self.cell("order_places", 0, k)

    def pulled(self, k: int, r: int, place: int) -> int:
        """The adjoint of the value of row r, number k in the order of the way back."""
        b = self.b
        if self.scatters:
            d = b.load("adjoints", 0, place)
        elif self.n_blocks > 1:
            d = b.load("adjoints", 0, self.cell("slots", 0, r))
        else:
            d = self.seeded(b.op("iadd", r, b.index(self.n_inputs)))
        return self.gathered(k, d, place)

    def sloped(self, program: Expr, d: int, place: int) -> int:
        """The delta of the row with this place, whose value has the adjoint d."""
        b = self.b
        total = (b.load("sums", -self.local, place) if reads_argument(program)
                 else b.const(0.0))
        found = slope(program, b, total, b.load("values", 0, place))
        # 0 in the lanes that repeat a sample, where 0 times what is infinite is none.
        return self.mask(b.op("mul", d, found) if tame(program) else times(b, d, found))

    def follows(self, kind: Kind) -> bool:
        """Whether anything follows from the delta of a row, apart from tiles."""
        agg = AGGREGATIONS[kind.aggregation]
        return (agg != "sum"
                or not self.is_tiled(kind) and (self.any_pushed or self.any_alone))

    def follow(self, kind: Kind, s: int, r: int, place: int, d: int) -> None:
        """What follows from the delta d of row r of segment s, which is kept for its readers."""
        b = self.b
        agg = AGGREGATIONS[kind.aggregation]
        if kind.biased and agg != "sum":
            self.add_gradient(d, b.const(1.0), 0, self.cell("gradient_of_biases", 0, r))
        if agg == "mean":
            d = b.op("div", d, self.fan_in(s))
        b.store(d, "values", 0, place)
        if agg not in ("sum", "mean"):
            self.scatter(agg, r, self.cell("segment_edges", 0, s), d, kind)
        elif not self.is_tiled(kind):
            self.edges_back(r, d)

    def biases_back(self, s: int) -> None:
        """The gradient of the biases from which the sums of segment s start."""
        b = self.b
        mine = [n for n, kind in enumerate(self.kinds) if kind.biased and not self.is_tiled(kind)
                and AGGREGATIONS[kind.aggregation] == "sum"]
        if not mine:
            return
        places, one = self.cell("segment_places", 0, s), b.const(1.0)
        self.only_if(self.wanted)
        self.in_blocks(
            "biased", np.sum([self.kind_rows[n] for n in mine], axis=0), s,
            lambda k, i: (b.load("values", i, b.op("iadd", places, k)), one),
            self.cell("gradient_of_segment_biases", 0, s))
        b.close()

    def in_blocks(self, name: str, held: Longs, s: int,
                  pair: Callable[[int, int], tuple[int, int]], to: int) -> None:
        """gradient[to + k + i] of pair(k, i), for held[s] cells: as many neighbours at once as a
        vector holds, then four, then one by one."""
        b = self.b
        done = np.zeros_like(held)
        widest = self.native if self.batch else 4
        for block in dict.fromkeys((widest, 4, 1)):
            if not (held - done >= block).any():
                continue
            rounds = self.table(f"{name}_rounds_{block}", "i", (held - done) // block)
            after = self.table(f"{name}_after_{block}", "i", done)
            q = b.loop(b.index(0), b.load(rounds, 0, s))[0]
            k = b.op("iadd", b.load(after, 0, s), b.op("imul", q, b.index(block)))
            at = b.op("iadd", to, k)
            for i, (x, y) in enumerate([pair(k, i) for i in range(block)]):
                self.add_gradient(x, y, i, at)
            b.close()
            done = done + (held - done) // block * block

    def add_gradient(self, x: int, y: int, i: int, at: int) -> None:
        """Of x*y, gradient[at + i]."""
        b = self.b
        if self.batch:
            b.accumulate(x, y, self.sums, i, at)
        else:  # of one sample, every cell is written once
            b.store(b.op("mul", x, y), "gradient", i, at)

    def edges_back(self, r: int, d: int) -> None:
        """What row r of delta d adds to the adjoints of those sources whose readers' parts are not
        gathered, and to the gradient of edges that is made edge by edge."""
        b = self.b
        if self.any_pushed:
            first, end = self.bounds("pushed_starts", r)
            k = b.loop(first, end)[0]  # from the last one on
            k = b.op("iadd", b.op("imul", k, b.index(-1)),
                     b.op("iadd", b.op("iadd", first, end), b.index(-1)))
            place = self.cell("pushed_places", 0, k)
            self.push(place, d, b.load("packed", 0, self.cell("pushed_weights", 0, k)))
            self.only_if(b.op("imul", self.wanted, self.cell("pushed_by_lanes", 0, k)))
            self.add_gradient(d, self.mask(b.load("values", 0, place)), 0,
                              self.cell("pushed_cells", 0, k))
            b.close()
            b.close()
        if self.any_alone:
            self.only_if(self.wanted)
            k = b.loop(*self.bounds("alone_starts", r))[0]
            n = self.mask(b.load("values", 0, self.cell("alone_places", 0, k)))
            b.accumulate(d, n, self.sums, 0, self.cell("alone_cells", 0, k), in_order=True)
            b.close()
            b.close()

    def scatter(self, agg: str, r: int, edges: int, d: int, kind: Kind) -> None:
        """What row r of delta d, whose edges do not all get the same, adds to the adjoints of its
        sources and to the gradient: of factors, each that of the others' product; else all to
        the first edge that has the value that was chosen."""
        b = self.b
        at, weight = self.cell("starts", 0, r), self.cell("weights", 0, r)
        cell = self.cell("gradient_of_rows", 0, r)

        def edge(k: int) -> tuple[int, int]:
            return self.edge(at, weight, k, kind)

        def scattered(k: int, n: int, w: int, d: int) -> None:
            self.push(self.cell("places", 0, b.op("iadd", at, k)), d, w)
            self.add_gradient(self.mask(d), self.mask(n), 0, b.op("iadd", cell, k))

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
