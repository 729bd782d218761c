"""Adjoints and tangents of many directions, unrolled."""

from __future__ import annotations

from itertools import pairwise

from ncc.ir import csr
from ncc.ir.ssa import UNLINKED
from ncc.passes.lower.reverse.unrolled import Row, Unrolled
from ncc.passes.lower.sample.directions import Directions
from ncc.scalar.aggregations import SUMS, pull, step, total
from ncc.scalar.derivative import derivative_at, tame
from ncc.scalar.expressions import emit
from ncc.scalar.opcodes import OPCODES

TOGETHER = 4  # rows from which on their activations are worth a loop over vectors


class Straight(Directions, Unrolled):
    """Every edge as ops."""

    def values(self) -> None:
        """The forward pass, and the derivatives of the activations."""
        b, g = self.b, self.g
        assert g.levels is not None
        self.of = {i: b.load("x", k, self.row_of_x) for k, i in enumerate(g.inputs.tolist())}
        self.rows: list[Row] = []
        self.slopes: list[int] = []
        self.loaded = {}
        for run in self.plan.runs:
            levels = g.levels[self.plan.rows[run.first : run.last]]
            for first, last in pairwise((run.first + csr.borders(levels)).tolist()):
                rows = [self.summed(run, r, self.of) for r in range(first, last)]
                self.rows += rows
                if self.native > 1 and len(rows) >= TOGETHER and any(
                        OPCODES[node.op].math for node in rows[0].program.nodes
                        if node.op in OPCODES):
                    self.activated(rows)
                    continue
                for row in rows:
                    b.neuron = row.neuron
                    value = self.of[row.neuron] = emit(row.program, b, row.argument)
                    self.slopes.append(derivative_at(row.program, b, row.argument, value))
        b.neuron = UNLINKED

    def activated(self, rows: list[Row]) -> None:
        """The values and derivatives of rows of one activation that do not read each other, whose
        arguments become the elements of vectors on the way."""
        b, wide = self.b, self.native
        size = -(-len(rows) // wide) * wide
        for name in ("arguments", "values", "slopes"):
            held = self.buffers.get(name)
            self.memory(name, max(size, held.size if held else 0), shared=True)
        for k in range(size):
            b.store(rows[min(k, len(rows) - 1)].argument, "arguments", k)
        b.neuron = UNLINKED
        k = b.loop(b.index(0), b.index(size), lanes=wide)[0]
        argument = b.load("arguments", 0, k)
        value = emit(rows[0].program, b, argument)
        b.store(value, "values", 0, k)
        b.store(derivative_at(rows[0].program, b, argument, value), "slopes", 0, k)
        b.close()
        for k, row in enumerate(rows):
            b.neuron = row.neuron
            self.of[row.neuron] = b.load("values", k)
            self.slopes.append(b.load("slopes", k))

    def parts(self, row: Row, d: int) -> list[int]:
        return pull(self.b, row.aggregation, [self.of[e.source] for e in row.edges],
                    [e.weight for e in row.edges], d) if row.edges else []

    def adjoints(self) -> None:
        b, g = self.b, self.g
        found: dict[int, int] = {}
        for k, j in enumerate(g.outputs.tolist()):
            found[j] = b.op("add", found[j], self.unit(k)) if j in found else self.unit(k)
        for row, slope in zip(reversed(self.rows), reversed(self.slopes), strict=True):
            if row.neuron not in found:
                continue
            b.neuron = row.neuron
            d = self.scaled(found.pop(row.neuron), slope, tame(row.program))
            parts = self.parts(row, d)
            for k in range(len(parts) - 1, -1, -1):
                i, w, _ = row.edges[k]
                found[i] = (step(b, "sum", found[i], parts[k], w) if i in found
                            else b.op("mul", parts[k], w))
        b.neuron = UNLINKED
        for k, i in enumerate(g.inputs.tolist()):
            self.put(found.get(i, b.const(0.0)), False, k)

    def tangents(self) -> None:
        b, g = self.b, self.g
        found = {i: self.unit(k) for k, i in enumerate(g.inputs.tolist())}
        for row, slope in zip(self.rows, self.slopes, strict=True):
            b.neuron = row.neuron
            weights = [e.weight for e in row.edges]
            if row.aggregation not in SUMS:
                weights = [b.op("mul", part, w) for part, w in zip(
                    self.parts(row, b.const(1.0)), weights, strict=True)]
            agg = "mean" if row.aggregation == "mean" else "sum"
            pairs = ((found[e.source], w) for e, w in zip(row.edges, weights, strict=True))
            t = total(b, agg, pairs, None) if weights else b.const(-0.0)
            found[row.neuron] = self.scaled(t, slope, tame(row.program))
        b.neuron = UNLINKED
        for k, j in enumerate(g.outputs.tolist()):
            self.put(found[j], True, k)
