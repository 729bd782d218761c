"""The backward pass as loops over arrays: the order of its parts."""

from __future__ import annotations

import numpy as np

from ncc.ir.graph import AGGREGATIONS, PLAIN_SUM_CODES
from ncc.ir.ssa import Buffer, Func
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.reverse.context import Looped
from ncc.passes.lower.reverse.forward import stage_values
from ncc.passes.lower.reverse.gather import (
    adjoint_alone,
    gathered,
    gradient_alone,
    remainder_gradient,
    row_adjoint,
    seeded,
)
from ncc.passes.lower.reverse.layout import Signature
from ncc.passes.lower.reverse.rows import Row
from ncc.passes.lower.reverse.scatter import (
    choice_backward,
    divisors_backward,
    edges_backward,
    factors_backward,
    pairs_backward,
)
from ncc.passes.lower.reverse.tiles import tiles_backward
from ncc.scalar.aggregations import CHOICES, PAIRS
from ncc.scalar.derivative import derivative_at, reads_argument, tame, times
from ncc.scalar.expressions import Expr, expression


class Loops(Looped):
    """Loops over row classes, rows and edges, which read arrays.

    In a batch, rows that share their sources go in tiles of some rows and some sources, of the
    plan's blocks: each value and each delta is loaded once for several sums.

    With more stages than one, the backward pass runs a stage forward again before it goes back
    through it, and leaves what it owes to earlier stages in `adjoints` (Griewank 1992, "Achieving
    logarithmic growth of temporal and spatial complexity in reverse automatic differentiation",
    at one level).

    With one stage, the forward pass may be a function of its own, `forward_alone`, which leaves
    what is `kept` of each sample: the values of all rows, then the arguments that derivatives are
    made from. A caller that names `kept` goes back from there.
    """

    def forward_alone(self, name: str) -> Func:
        """The forward pass of a function that was made: y, and `kept`."""
        b = self.b = Builder(self.dtype, self.b.fused)
        self.sample = (b.loop(b.index(0), b.emit("count"), lanes=self.lanes)[0] if self.batch
                       else None)
        n, n_kept = len(self.plan.rows), self.plan.n_kept
        self.columns_in("x", self.n_inputs, 0, self.n_inputs, "values", 0)
        stage_values(self, None)
        self.columns_out("values", "output_places", self.n_outputs, "y", self.n_outputs, 0)
        self.columns_out("values", self.local, n, "kept", n_kept, 0)
        if len(self.plan.arguments):
            self.columns_out("sums", "argument_places", len(self.plan.arguments), "kept", n_kept, n)
        if self.batch:
            b.close()
        used = {op[2][0] for op in b.ops if op[0] in ("load", "store")}
        return Func(name, (
            Buffer("x", "in", self.n_inputs), Buffer("packed", "in", len(self.plan.packed)),
            Buffer("y", "out", self.n_outputs), Buffer("kept", "out", n_kept),
            *[buffer for buffer in self.buffers.values() if buffer.name in used]),
            b.ops, counted=self.batch)

    # -- rows of samples

    def seed(self, buffer: str) -> None:
        """`seeds`, in the order of values, from a row of the caller's with one for each output."""
        b = self.b
        row_of_y = self.times_sample(self.n_outputs)
        for k, count in b.columns(self.n_outputs, self.sample is not None):
            at = self.offset(row_of_y, k)
            for c, value in enumerate([b.load(buffer, c, at) for c in range(count)]):
                b.store(value, "seeds", 0, self.cell("seed_ranks", c, k))
            b.close()

    # -- one sample

    def body(self) -> None:
        b = self.b
        zero = b.index(0)
        self.run_forward(zero)
        if self.ends.loops is None:
            self.seed("dy")
        else:
            self.ends.loops(self)
        self.wanted = b.emit("given", (), "dparams")
        if "dx" not in self.named:  # then the backward pass is for dparams alone
            self.only_if(self.wanted)
        if "adjoints" in self.buffers:
            self.clear(0, self.buffers["adjoints"].size)
            k = b.loop(zero, b.index(self.n_outputs))[0]
            self.push(self.cell("seed_places", 0, k), self.mask(b.load("seeds", 0, k)))
            b.close()
        if len(self.stages) == 1:
            self.run_back(None)
        else:
            self.stages_back(zero)
        if "dx" in self.named:
            self.inputs_back(zero)
        b.close()

    def run_forward(self, zero: int) -> None:
        """The values of all rows, or of those that stages pass on to later ones; or `kept`."""
        b = self.b
        self.columns_in("x", self.n_inputs, 0, self.n_inputs, "values", 0)
        if "kept" in self.named:
            n = len(self.plan.rows)
            self.columns_in("kept", self.plan.n_kept, 0, n, "values", self.local)
            if len(self.plan.arguments):
                self.table("argument_places", "i", self.plan.arguments)
                self.columns_in("kept", self.plan.n_kept, n, len(self.plan.arguments), "sums",
                                "argument_places")
        elif len(self.stages) == 1:
            stage_values(self, None)
        else:
            stage = b.loop(zero, b.index(len(self.stages)))[0]
            stage_values(self, stage)
            k = b.loop(*self.bounds("passed_starts", stage))[0]
            b.store(b.load("values", 0, self.cell("passed_places", 0, k)), "values",
                    self.n_inputs, k)
            b.close()
            b.close()

    def stages_back(self, zero: int) -> None:
        """From the last stage on, each forward again and then back."""
        b, n_stages = self.b, len(self.stages)
        k = b.loop(zero, b.index(n_stages))[0]
        stage = b.op("iadd", b.op("imul", k, b.index(-1)), b.index(n_stages - 1))
        self.only_if(self.cell("again", 0, stage))
        stage_values(self, stage)
        b.close()
        if self.scatters:
            self.clear(self.local, self.buffers["adjoints"].size)
            k = b.loop(*self.bounds("passed_starts", stage))[0]
            b.store(b.load("adjoints", self.n_inputs, k), "adjoints", 0,
                    self.cell("passed_places", 0, k))
            b.close()
        self.run_back(stage)
        remainder_gradient(self, b.op("iadd", stage, b.index(len(self.classes))))
        k = b.loop(*self.bounds("import_starts", stage))[0]
        to = self.cell("import_slots", 0, k)
        row = Row(self, None, b.op("iadd", k, b.index(len(self.plan.rows))))
        owed = gathered(self, row, b.load("adjoints", 0, to), to)
        b.store(owed, "adjoints", 0, to)
        b.close()
        b.close()

    def inputs_back(self, zero: int) -> None:
        """dx, where the caller wants it: the adjoints of the inputs."""
        b = self.b
        self.only_if(b.emit("given", (), "dx"))
        walk = self.walks["inputs"]
        if walk is not None:
            loops, nested = walk.open(b, zero, np.ones(1, np.bool_), "0")
            row = Row(self, None, None, nested)
            k = row.number("order_places")
        else:
            loops, k = 1, b.loop(zero, b.index(self.n_inputs))[0]
            row = Row(self, b.op("iadd", k, b.index(-self.n_inputs)), None)
        acc = b.load("adjoints", 0, k) if "adjoints" in self.buffers else seeded(self, row)
        if len(self.stages) == 1:
            if walk is None:
                row = row._replace(k=b.op("iadd", k, b.index(len(self.plan.rows))))
            acc = adjoint_alone(self, row, acc)
        if self.unread.any():  # -0 is what a sum begins with; and what has no term is +0
            last = self.table("unread", "f", np.where(self.unread, 0.0, -0.0))
            acc = b.op("add", acc, b.load(last, 0, k))
        # The inputs' values have no reader any more.
        b.store(acc, "values", 0, k)
        self.end(loops)
        self.columns_out("values", 0, self.n_inputs, "dx", self.n_inputs, 0)

    # -- backward

    def run_back(self, stage: int | None) -> None:
        """The deltas of a stage's rows, or of all, and their part of the gradient."""
        b, mixed = self.b, self.classes.mixed
        if any(map(self.is_tiled, self.classes.signatures)):
            # 0 in inactive lanes: 0 times an infinity would be added otherwise.
            self.only_if(self.wanted)
            k = b.loop(b.index(0), b.index(self.buffers["values"].size))[0]
            b.store(self.mask(b.load("values", 0, k)), "values", 0, k)
            b.close()
            b.close()
        # Row classes, or depth groups; where all have deltas, that of the inputs comes after them.
        low = self.lowest() if stage is None else 0
        first, end = self.groups_of(stage) if mixed else self.classes_of(stage)
        if low and mixed:
            low = int(np.searchsorted(self.groups.classes, low, "right")) - 1
        if low:
            first = b.index(low)
        if stage is None and not low:
            count = len(self.groups) if mixed else len(self.classes)
            order = self.table("back", "i", [*reversed(range(count)), count])
            at = b.load(order, 0, b.loop(b.index(0), b.index(count + 1))[0])
        else:
            at = self.from_last(first, end)
        if mixed:
            self.group_back(at)
        else:
            remainder_gradient(self, at)
            for number in range(len(self.classes.signatures)):
                self.rows_back(at, number)
            self.biases_back(at)
        b.close()
        if stage is None:
            self.gradient_of_late(int(self.groups.classes[low]) if low and mixed else low)

    def lowest(self) -> int:
        """The first class with a parameter: no delta of one before it is wanted, but for dx."""
        if "dx" in self.named:
            return 0
        weights, biases = self.g.weights[self.plan.edges], self.g.biases[self.plan.rows]
        owners = np.concatenate([self.edges.reader[weights >= 0], np.flatnonzero(biases >= 0)])
        row = owners.min(initial=len(self.plan.rows))
        # 0 without rows
        return max(0, int(np.searchsorted(self.classes.firsts, row, side="right")) - 1)

    def gradient_of_late(self, low: int) -> None:
        """The gradient of edges from values whose deltas nobody wants: inputs, and rows of classes
        below `low`."""
        b, n_rows, whole = self.b, len(self.plan.rows), self.readers.n_whole
        late = [*range(low), len(self.classes)] if low else []
        lists = [*range(int(self.classes.firsts[low]) if low else 0),
                 *range(n_rows, n_rows + self.n_inputs)]
        if not (late or whole):
            return
        self.only_if(self.wanted)
        if late and not self.by_rows:
            k = b.loop(b.index(0), b.index(len(late)))[0]
            remainder_gradient(self, b.load(self.table("late_groups", "i", late), 0, k))
            b.close()
        if whole:
            k = b.loop(b.index(0), b.index(len(lists)))[0]
            k = b.load(self.table("late_lists", "i", lists), 0, k)
            n = self.mask(b.load("values", 0, self.cell("order_places", 0, k)))
            gradient_alone(self, Row(self, None, k), n)
            b.close()
        b.close()

    def group_back(self, t: int) -> None:
        """The rows of depth group t: the adjoints of their values, which need those values no more;
        then the deltas, activation by activation; then what follows from them, row by row."""
        b = self.b
        classes = self.bounds("turn_segments", t)
        to = b.op("imul", self.cell("turn_places", 0, t), b.index(-1))
        s = b.loop(*classes)[0]
        remainder_gradient(self, s)
        loops, row, element = self.each_row_back(s, None)
        b.store(row_adjoint(self, row, element), "pulled", 0, b.op("iadd", element, to))
        self.end(loops)
        b.close()
        for program, element in self.each_activation(t):
            d = b.load("pulled", 0, b.op("iadd", element, to))
            b.store(self.delta(program, d, element), "values", 0, element)
        s = self.from_last(*classes)
        for number, kind in enumerate(self.classes.signatures):
            if self.follows(kind):
                loops, row, element = self.each_row_back(s, number)
                self.follow(kind, s, row, element, b.load("values", 0, element))
                self.end(loops)
            if self.is_tiled(kind):
                tiles_backward(self, s, number)
        self.biases_back(s)
        b.close()

    def rows_back(self, s: int, number: int) -> None:
        kind = self.classes.signatures[number]
        assert kind.activation is not None
        loops, row, element = self.each_row_back(s, number)
        d = self.delta(expression(kind.activation, self.g.functions),
                       row_adjoint(self, row, element), element)
        self.follow(kind, s, row, element, d)
        self.end(loops)
        if self.is_tiled(kind):
            tiles_backward(self, s, number)

    def each_row_back(self, s: int, number: int | None) -> tuple[int, Row, int]:
        """Open loops over the rows of class s, if they are of this signature, or of any: how many
        loops, the row and its element."""
        b = self.b
        if self.walks["backward"] is not None:
            rows = self.classes.rows
            mine = np.sum(rows, axis=0) if number is None else rows[number]
            loops, nested = self.walks["backward"].open(
                b, s, mine > 0, "all" if number is None else f"{number}")
            row = Row(self, None, None, nested)
            return loops, row, row.number("order_places")
        if number is None:
            k = b.loop(*self.bounds("segment_rows", s))[0]
        else:
            count, first = self.cell(f"rows_{number}", 0, s), self.cell("segment_rows", 0, s)
            k = b.op("iadd", first, b.loop(b.index(0), count)[0])
        row = Row(self, self.cell("order", 0, k), k)
        return 1, row, row.number("order_places")

    def delta(self, program: Expr, d: int, element: int) -> int:
        """The delta of the row with this element, whose value has the adjoint d."""
        b = self.b
        total = (b.load("sums", -self.local, element) if reads_argument(program)
                 else b.const(0.0))
        derivative = derivative_at(program, b, total, b.load("values", 0, element))
        # 0 in inactive lanes, where 0 times what is infinite is none.
        return self.mask(b.op("mul", d, derivative) if tame(program) else times(b, d, derivative))

    def follows(self, kind: Signature) -> bool:
        """Whether anything follows from the delta of a row, apart from tiles."""
        return (kind.aggregation not in PLAIN_SUM_CODES
                or not self.is_tiled(kind) and (self.any_pushed or self.any_alone or self.by_rows))

    def follow(self, kind: Signature, s: int, row: Row, element: int, d: int) -> None:
        """What follows from the delta d of a row of class s, which is kept for its readers."""
        b = self.b
        agg = AGGREGATIONS[kind.aggregation]
        if kind.biased and kind.aggregation not in PLAIN_SUM_CODES:
            self.add_gradient(d, b.const(1.0), 0, row.number("gradient_of_biases"))
        if agg == "mean":
            d = b.op("div", d, self.fan_in(s))
        b.store(d, "values", 0, element)
        if agg == "mul":
            factors_backward(self, row, self.cell("segment_edges", 0, s), d, kind)
        elif agg == "div":
            divisors_backward(self, row, self.cell("segment_edges", 0, s), d, kind)
        elif agg in PAIRS:
            pairs_backward(self, row, self.cell("segment_edges", 0, s), d, kind)
        elif agg in CHOICES:
            choice_backward(self, agg, row, self.cell("segment_edges", 0, s), d, kind)
        elif not self.is_tiled(kind):
            edges_backward(self, s, row, d)

    def biases_back(self, s: int) -> None:
        """The gradient of the biases from which the sums of class s start."""
        b = self.b
        rows = [rows for rows, kind in zip(self.classes.rows, self.classes.signatures, strict=True)
                if kind.biased and not self.is_tiled(kind)
                and kind.aggregation in PLAIN_SUM_CODES]
        if not rows:
            return
        elements, one = self.cell("segment_places", 0, s), b.const(1.0)
        self.only_if(self.wanted)
        self.in_vectors_of(
            "biased", np.sum(rows, axis=0), s,
            lambda k, i: (b.load("values", i, b.op("iadd", elements, k)), one),
            self.cell("gradient_of_segment_biases", 0, s))
        b.close()
