"""The backward pass, unrolled."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, NONE
from ncc.ir.plan import Run
from ncc.ir.ssa import UNLINKED
from ncc.passes.lower.reverse.frame import Backward
from ncc.scalar.aggregations import SUMS, pull, step, total
from ncc.scalar.derivative import derivative_at, tame, times
from ncc.scalar.expressions import Expr, emit, expression


class Edge(NamedTuple):
    source: int  # neuron
    weight: int  # op
    code: int  # of the weight, as in the graph


class Row(NamedTuple):
    """A neuron that was computed: what of, and the argument of its activation."""

    neuron: int
    program: Expr
    aggregation: str
    edges: list[Edge]
    argument: int


class _Product(NamedTuple):
    """A term of the gradient of a parameter of a neuron: a delta times a value. `order` is where
    its edge or bias stands among the graph's, `at` among the plan's edges and then its rows."""

    neuron: int
    param: int
    order: int
    at: int
    delta: int
    value: int | None  # of a bias it is 1


class Unrolled(Backward):
    """Every edge as ops, as `lower` writes it, and then backwards."""

    def before(self) -> None:
        """An element of `gradient` for each edge and each bias with a parameter, neighbours where
        their parameters are."""
        g, plan = self.g, self.plan
        if not self.lanes:
            return
        ends = np.diff(plan.starts)
        row = csr.owners(plan.starts)
        ordered = csr.within(ends) < np.repeat(plan.prefixes(self.dtype), ends)
        params = np.concatenate([g.weights[plan.edges], g.biases[plan.rows]]).astype(np.int64)
        order = np.concatenate([plan.edges + plan.rows[row],
                                g.starts[plan.rows + 1] + plan.rows])
        in_order = np.append(ordered, np.zeros(len(plan.rows), bool))
        by = np.lexsort((order, params, in_order))
        by = by[params[by] >= 0]
        self.sum_in(int((~in_order[by]).sum()), params[by], order[by])
        self.element_at = np.full(len(params), -1, np.int64)
        self.element_at[by] = np.arange(len(by))

    def body(self) -> None:
        b, g = self.b, self.g
        values: dict[int, int] = {}
        for k, i in enumerate(g.inputs.tolist()):
            b.neuron = i
            values[i] = b.load("x", k, self.row_of_x)
        rows = self.run_forward(values)
        adjoints = self.seeded(values)
        gradient = self.run_back(rows, values, adjoints)
        b.neuron = UNLINKED
        self.only_if(b.emit("given", (), "dparams"))
        if self.lanes:
            self.accumulated(gradient)
        else:
            self.added(gradient)
        b.close()
        if "dx" in self.named:
            self.only_if(b.emit("given", (), "dx"))
            for k, i in enumerate(g.inputs.tolist()):
                b.neuron = i
                b.store(adjoints.get(i, b.const(0.0)), "dx", k, self.row_of_x)
            b.neuron = UNLINKED
            b.close()

    def run_forward(self, values: dict[int, int]) -> list[Row]:
        """The rows, whose values join those of the inputs in `values`, by neuron."""
        rows: list[Row] = []
        self.loaded: dict[int, int] = {}
        for run in self.plan.runs:
            for r in range(run.first, run.last):
                row = self.summed(run, r, values)
                values[row.neuron] = emit(row.program, self.b, row.argument)
                rows.append(row)
        return rows

    @cached_property
    def position(self) -> dict[int, int]:
        """Where each parameter stands in `packed`."""
        params, first = np.unique(self.plan.packed, return_index=True)
        return dict(zip(params.tolist(), first.tolist(), strict=True))

    def parameter(self, code: int) -> int:
        """A parameter or a constant, which is loaded once."""
        if code not in self.loaded:
            self.loaded[code] = (
                self.b.load("packed", self.position[code]) if code >= 0
                else self.b.const(float(self.plan.constants[-1 - code])))
        return self.loaded[code]

    def summed(self, run: Run, r: int, values: dict[int, int]) -> Row:
        """Row r of a run, without its value."""
        b, g, plan = self.b, self.g, self.plan
        agg = AGGREGATIONS[run.aggregation]
        j = b.neuron = int(plan.rows[r])
        at = plan.edges[plan.starts[r] : plan.starts[r + 1]]
        code = int(g.biases[j])
        bias = None if code == NONE else self.parameter(code)
        codes = g.weights[at].tolist()
        edges = list(map(Edge, g.sources[at].tolist(), map(self.parameter, codes), codes))
        argument = total(b, agg, ((values[e.source], e.weight) for e in edges), bias)
        return Row(j, expression(run.activation, g.functions), agg, edges, argument)

    def seeded(self, values: dict[int, int]) -> dict[int, int]:
        """The adjoints of the outputs, by neuron: 0 in inactive lanes, so that all deltas are."""
        b, outputs = self.b, self.g.outputs.tolist()
        if self.ends.seed is None:
            b.neuron = outputs[0] if outputs else UNLINKED  # what several share is of the first
            row_of_y = self.times_sample(self.n_outputs)
            seeds = []
            for k, j in enumerate(outputs):
                b.neuron = j
                seeds.append(b.load("dy", k, row_of_y))
        else:
            seeds = self.ends.seed(self, [values[j] for j in outputs])
        adjoints: dict[int, int] = {}
        for j, d in zip(outputs, seeds, strict=True):
            b.neuron = j
            d = self.mask(d)
            adjoints[j] = b.op("add", adjoints[j], d) if j in adjoints else d
        return adjoints

    def run_back(self, rows: list[Row], values: dict[int, int], adjoints: dict[int, int]
                 ) -> list[_Product]:
        """From the last row to the first: the products of the gradient. `adjoints` are then those
        of the inputs."""
        b, g, plan = self.b, self.g, self.plan
        gradient: list[_Product] = []
        for r in range(len(rows) - 1, -1, -1):
            j, program, agg, edges, argument = rows[r]
            if j not in adjoints:
                continue
            b.neuron = j
            d = adjoints.pop(j)
            derivative = derivative_at(program, b, argument, values[j])
            # 0 times what is infinite is no 0, so that lanes are made 0 where sums begin.
            d = self.mask(b.op("mul", d, derivative) if tame(program) else times(b, d, derivative))
            code = int(g.biases[j])
            if code >= 0:
                gradient.append(_Product(j, code, int(g.starts[j + 1]) + j, len(plan.edges) + r,
                                         d, None))
            if not edges:
                continue
            parts = pull(b, agg, [values[e.source] for e in edges], [e.weight for e in edges], d)
            first_edge = int(plan.starts[r])
            for k in range(len(edges) - 1, -1, -1):
                (i, w, code), part = edges[k], parts[k]
                b.neuron = i
                if i in adjoints:
                    adjoints[i] = step(b, "sum", adjoints[i], part, w)
                else:
                    adjoints[i] = b.op("mul", part, w)
                b.neuron = j
                if code >= 0:
                    part = part if agg in SUMS else self.mask(part)
                    gradient.append(_Product(j, code, int(plan.edges[first_edge + k]) + j,
                                             first_edge + k, part, values[i]))
        return gradient

    def after(self) -> None:
        if self.lanes:  # of one sample all is in `dparams` already
            super().after()

    def accumulated(self, gradient: list[_Product]) -> None:
        """Into the elements of a batch, which are in the order of parameters."""
        b = self.b
        one = b.const(1.0)
        for p in sorted(gradient, key=lambda p: int(self.element_at[p.at])):
            element, b.neuron = int(self.element_at[p.at]), p.neuron
            b.accumulate(p.delta, one if p.value is None else self.mask(p.value), self.sums,
                         self.element_of(element), in_order=element >= self.loss_element)
        b.neuron = UNLINKED

    def added(self, gradient: list[_Product]) -> None:
        """To `dparams`, of one sample: for each parameter the sum of its edges' products."""
        b = self.b
        sums: dict[int, int] = {}
        owner: dict[int, int] = {}
        for p in sorted(gradient, key=lambda p: (p.param, p.order)):
            b.neuron = p.neuron
            owner.setdefault(p.param, p.neuron)
            part = p.delta if p.value is None else b.op("mul", p.delta, p.value)
            sums[p.param] = b.op("add", sums[p.param], part) if p.param in sums else part
        for param, value in sums.items():
            b.neuron = owner[param]
            b.store(b.op("add", b.load(self.result, param), value), self.result, param)
        b.neuron = UNLINKED
