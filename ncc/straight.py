"""The sweep back in the straight form."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncc.activations import expression
from ncc.adjoint import slope, tame, times
from ncc.aggregate import pull, total
from ncc.expressions import emit
from ncc.graph import AGGREGATIONS, NONE
from ncc.sweep import Sweep


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
                edges = list(zip(g.sources[at].tolist(), [parameter(c) for c in
                                                          g.weights[at].tolist()],
                                 g.weights[at].tolist(), strict=True))
                argument = total(b, agg, ((made[i], w) for i, w, _ in edges), bias)
                made[j] = emit(program, b, argument)
                rows.append((j, program, agg, edges, argument))

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
            add(j, b.op("mask", d))  # so that all deltas are 0 in the lanes that repeat a sample
        one = b.const(1.0)
        for j, program, agg, edges, argument in reversed(rows):
            if j not in adjoints:
                continue
            d = adjoints.pop(j)
            found = slope(program, b, argument, made[j])
            d = b.op("mul", d, found) if tame(program) else times(b, d, found)
            code = int(g.biases[j])
            if code >= 0:
                gradient.setdefault(code, []).append((d, one))
            if not edges:
                continue
            parts = pull(b, agg, [made[i] for i, _, _ in edges], [w for _, w, _ in edges], d)
            for (i, w, code), part in zip(edges, parts, strict=True):
                if i in adjoints and b.fused:
                    adjoints[i] = b.op("fma", part, w, adjoints[i])
                else:
                    add(i, b.op("mul", part, w))
                if code >= 0:
                    gradient.setdefault(code, []).append((part, made[i]))
        self.only_if(b.emit("given", (), "dparams"))
        for slot in sorted(gradient):
            for d, n in gradient[slot]:
                b.accumulate(d, n if n == one else b.op("mask", n), "dparams", slot)
        b.close()
        if "dx" in self.named:
            self.only_if(b.emit("given", (), "dx"))
            for k, i in enumerate(g.inputs.tolist()):
                b.store(adjoints.get(i, b.const(0.0)), "dx", k, self.row_of_x)
            b.close()
