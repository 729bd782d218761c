"""The sweep back in the straight form."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ncc.ir.graph import AGGREGATIONS, NONE
from ncc.passes.lower.backward_frame import Sweep
from ncc.scalar.aggregations import pull, step, total
from ncc.scalar.derivative import slope, tame, times
from ncc.scalar.expressions import emit, expression


class _Product(NamedTuple):
    slot: int
    order: int
    at: int
    delta: int
    value: int | None  # of a bias it is 1


class Straight(Sweep):
    """Every edge as ops, as `lower` writes it, and then backwards."""

    def before(self) -> None:
        """A cell for each edge and each bias with a slot, neighbours where their slots are."""
        g, plan = self.g, self.plan
        if not self.lanes:
            return
        ends = np.diff(plan.starts)
        row = np.repeat(np.arange(len(plan.rows)), ends)
        ordered = np.arange(len(row)) - np.repeat(plan.starts[:-1], ends) < np.repeat(
            plan.prefixes(self.dtype), ends)
        slots = np.concatenate([g.weights[plan.edges], g.biases[plan.rows]]).astype(np.int64)
        order = np.concatenate([plan.edges + plan.rows[row],
                                g.starts[plan.rows + 1] + plan.rows])
        in_order = np.append(ordered, np.zeros(len(plan.rows), bool))
        by = np.lexsort((order, slots, in_order))
        by = by[slots[by] >= 0]
        self.cells(int((~in_order[by]).sum()), slots[by], order[by])
        self.in_order = in_order
        self.cell_at = np.full(len(slots), -1, np.int64)
        self.cell_at[by] = np.arange(len(by))

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
                edges = list(zip(g.sources[at].tolist(), [parameter(c) for c in
                                                          g.weights[at].tolist()],
                                 g.weights[at].tolist(), strict=True))
                argument = total(b, agg, ((made[i], w) for i, w, _ in edges), bias)
                made[j] = emit(program, b, argument)
                rows.append((j, program, agg, edges, argument))

        adjoints: dict[int, int] = {}
        # The gradient's products: their slot, where their edge or bias stands among the graph's,
        # and among the plan's edges and then its rows, a delta, and what it is multiplied with.
        gradient: list[_Product] = []

        def add(j: int, value: int) -> None:
            adjoints[j] = b.op("add", adjoints[j], value) if j in adjoints else value

        outputs = g.outputs.tolist()
        if self.ends.seed is None:
            row_of_y = self.times_sample(self.n_outputs)
            seeds = [b.load("dy", k, row_of_y) for k in range(self.n_outputs)]
        else:
            seeds = self.ends.seed(self, [made[j] for j in outputs])
        for j, d in zip(outputs, seeds, strict=True):
            add(j, self.mask(d))  # so that all deltas are 0 in the lanes that repeat a sample
        for r in range(len(rows) - 1, -1, -1):
            j, program, agg, edges, argument = rows[r]
            if j not in adjoints:
                continue
            d = adjoints.pop(j)
            found = slope(program, b, argument, made[j])
            # 0 times what is infinite is no 0, so that lanes are made 0 where sums begin.
            d = self.mask(b.op("mul", d, found) if tame(program) else times(b, d, found))
            code = int(g.biases[j])
            if code >= 0:
                gradient.append(_Product(code, int(g.starts[j + 1]) + j, len(plan.edges) + r, d,
                                         None))
            if not edges:
                continue
            parts = pull(b, agg, [made[i] for i, _, _ in edges], [w for _, w, _ in edges], d)
            first_edge = int(plan.starts[r])
            for k in range(len(edges) - 1, -1, -1):
                (i, w, code), part = edges[k], parts[k]
                if i in adjoints:
                    adjoints[i] = step(b, "sum", adjoints[i], part, w)
                else:
                    adjoints[i] = b.op("mul", part, w)
                if code >= 0:
                    part = part if agg in ("sum", "mean") else self.mask(part)
                    gradient.append(_Product(code, int(plan.edges[first_edge + k]) + j,
                                             first_edge + k, part, made[i]))
        self.only_if(b.emit("given", (), "dparams"))
        if self.lanes:
            self.accumulated(gradient)
        else:
            self.added(gradient)
        b.close()
        if "dx" in self.named:
            self.only_if(b.emit("given", (), "dx"))
            for k, i in enumerate(g.inputs.tolist()):
                b.store(adjoints.get(i, b.const(0.0)), "dx", k, self.row_of_x)
            b.close()

    def after(self) -> None:
        if self.lanes:  # of one sample all is in `dparams` already
            super().after()

    def accumulated(self, gradient: list[_Product]) -> None:
        """Into the cells of a batch, which are in the order of slots."""
        b = self.b
        one = b.const(1.0)
        for p in sorted(gradient, key=lambda p: int(self.cell_at[p.at])):
            cell = int(self.cell_at[p.at])
            b.accumulate(p.delta, one if p.value is None else self.mask(p.value), self.sums,
                         self.cell_of(cell), in_order=cell >= self.loss_cell)

    def added(self, gradient: list[_Product]) -> None:
        """To `dparams`, of one sample: for each slot the sum of its edges' products."""
        b = self.b
        sums: dict[int, int] = {}
        for p in sorted(gradient, key=lambda p: (p.slot, p.order)):
            part = p.delta if p.value is None else b.op("mul", p.delta, p.value)
            sums[p.slot] = b.op("add", sums[p.slot], part) if p.slot in sums else part
        for slot, made in sums.items():
            b.store(b.op("add", b.load("dparams", slot), made), "dparams", slot)
