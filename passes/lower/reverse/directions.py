"""Passes over a net for many directions side by side: adjoints back from each output, or tangents
forward from each input, past one forward pass whose values and derivatives all of them read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ncc.ir.graph import AGGREGATIONS, Longs
from ncc.ir.plan import Plan
from ncc.ir.ssa import UNLINKED
from ncc.passes.lower.kept import Kept
from ncc.passes.lower.reverse.frame import Backward
from ncc.passes.lower.reverse.scatter import choice, factors
from ncc.passes.lower.reverse.unrolled import Row, Unrolled
from ncc.passes.lower.tables import Tables
from ncc.scalar.aggregations import SUMS, pull, step, total
from ncc.scalar.derivative import derivative_at, tame, times
from ncc.scalar.expressions import expression


def lanes_of(count: int, native: int) -> int:
    """Directions at a time: a power of two that holds all of them, two vectors at most; 0 of one
    direction, and where there are no vectors."""
    if native == 1 or count < 2:
        return 0
    return min(1 << (count - 1).bit_length(), 2 * native)


class Directions(Backward):
    """What both forms share: the directions, their seeds, and where the Jacobian stands."""

    direction: int | None  # the number of the lane's; None where there is one alone
    row_of_jac: int | None  # where the sample's Jacobian begins; None of one sample

    def begin(self, counted: bool) -> None:
        """Open the loop over the samples, if there are several."""
        self.row_of_x = self.row_of_jac = None
        if counted:
            self.sample = self.b.loop(self.b.index(0), self.b.emit("count"))[0]
            self.row_of_x = self.times_sample(self.n_inputs)
            self.row_of_jac = self.times_sample(self.n_inputs * self.n_outputs)

    def open(self, count: int) -> None:
        """Open the loop over so many directions."""
        b = self.b
        self.count = count
        self.direction = None
        if count == 1:
            return
        # 1 among zeros: what is read from `count - 1 - k` on is 1 for direction k alone.
        self.table("unit", "f", np.arange(2 * count - 1) == count - 1)
        self.direction = b.loop(b.index(0), b.index(count), lanes=self.lanes)[0]

    def close(self) -> None:
        if self.direction is not None:
            self.b.close()

    def seed(self, k: int) -> int:
        """The seed of input or output number k: 1 in its own direction, else 0."""
        if self.direction is None:
            return self.b.const(1.0)
        return self.cell("unit", self.count - 1 - k, self.direction)

    def seed_at(self, k: int) -> int:
        """The same, of a number that an index is."""
        b = self.b
        if self.direction is None:
            return b.const(1.0)
        back = b.op("iadd", b.op("imul", k, b.index(-1)), b.index(self.count - 1))
        return self.cell("unit", 0, b.op("iadd", self.direction, back))

    def place(self, by: int = 1) -> int | None:
        """Where the elements of the direction begin in `jac`, whose numbers are `by` apart."""
        if self.direction is None:
            return self.row_of_jac
        at = self.direction if by == 1 else self.b.op("imul", self.direction, self.b.index(by))
        return at if self.row_of_jac is None else self.b.op("iadd", at, self.row_of_jac)

    def scaled(self, d: int, slope: int, is_tame: bool) -> int:
        """d times the derivative of an activation."""
        return self.b.op("mul", d, slope) if is_tame else times(self.b, d, slope)

    def zeros(self, where: Longs) -> None:
        """+0 at these places of the Jacobian, ascending."""
        b = self.b
        first = np.flatnonzero(np.diff(where, prepend=-2) != 1)
        if not len(where):
            return
        ends = np.append(where[first[1:] - 1], where[-1]) + 1
        self.table("zeros", "i", where[first])
        self.table("zeros_end", "i", ends)
        k = b.loop(b.index(0), b.index(len(first)))[0]
        at = b.loop(self.cell("zeros", 0, k), self.cell("zeros_end", 0, k))[0]
        b.store(b.const(0.0), "jac", 0, self.offset(self.row_of_jac, at))
        b.close()
        b.close()


class Straight(Directions, Unrolled):
    """Every edge as ops."""

    def values(self) -> None:
        """The forward pass, and the derivatives of the activations."""
        b, g = self.b, self.g
        self.of = {i: b.load("x", k, self.row_of_x) for k, i in enumerate(g.inputs.tolist())}
        self.rows = self.run_forward(self.of)
        self.slopes = []
        for row in self.rows:
            b.neuron = row.neuron
            self.slopes.append(derivative_at(row.program, b, row.argument, self.of[row.neuron]))
        b.neuron = UNLINKED

    def parts(self, row: Row, d: int) -> list[int]:
        return pull(self.b, row.aggregation, [self.of[e.source] for e in row.edges],
                    [e.weight for e in row.edges], d) if row.edges else []

    def adjoints(self) -> None:
        b, g = self.b, self.g
        found: dict[int, int] = {}
        for k, j in enumerate(g.outputs.tolist()):
            found[j] = b.op("add", found[j], self.seed(k)) if j in found else self.seed(k)
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
        at = self.place(self.n_inputs)
        for k, i in enumerate(g.inputs.tolist()):
            b.store(found.get(i, b.const(0.0)), "jac", k, at)

    def tangents(self) -> None:
        b, g = self.b, self.g
        found = {i: self.seed(k) for k, i in enumerate(g.inputs.tolist())}
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
        at = self.place()
        for k, j in enumerate(g.outputs.tolist()):
            b.store(found[j], "jac", k * self.n_inputs, at)


class _Kind(NamedTuple):
    """What the code of a row depends on: `height` is the room of its tile, `tame` whether the
    derivative of its activation is finite."""

    aggregation: int
    height: int
    tame: bool


class Looped(Directions):
    """Loops over segments, tiles, rows and edges.

    Rows that share their sources go by tiles of the plan's blocks: a source's adjoint takes the
    parts of several rows while it is in a register. A buffer `adjoints` or `tangents` has an
    element for each value.
    """

    def __init__(self, plan: Plan, dtype: str, numerics: str, tables: Tables, native: int,
                 recompute: int, registers: int, provenance: bool) -> None:
        super().__init__(plan, dtype, numerics, tables, native, recompute, registers, provenance)
        self.kept = Kept(plan, tables, dtype, self.native)

    def values(self) -> None:
        plan = self.plan
        self.memory("values", self.kept.size, shared=True)
        self.memory("slopes", self.kept.size, shared=True)
        self.kept.run(self.b, self.row_of_x)
        self.weights_in = self.kept.names.get("packed", "packed")
        self.arrays()
        if not plan.additive.all():
            longest = int(np.diff(plan.starts)[~plan.additive].max())
            self.memory("products", longest)

    def arrays(self) -> None:
        """The arrays of segments, tiles and edges."""
        plan, kept = self.plan, self.kept
        leader = plan.blocks[:-1]
        segments = np.array(plan.segments, np.int64).reshape(-1, 5)
        first = plan.blocks[segments[:, 0]]
        run_of = np.searchsorted([run.first for run in plan.runs], first, side="right") - 1
        kinds = [_Kind(plan.runs[k].aggregation, height, tame(expression(
            plan.runs[k].activation, self.g.functions)))
            for k, height in zip(run_of.tolist(), segments[:, 2].tolist(), strict=True)]
        self.kinds = list(dict.fromkeys(kinds))
        number = np.array([self.kinds.index(kind) for kind in kinds], np.int64)
        blocks = segments[:, 1] - segments[:, 0]
        for k in range(len(self.kinds)):
            self.table(f"blocks_{k}", "i", np.where(number == k, blocks, 0))
        self.table("first_block", "i", segments[:, 0])
        self.table("fan_in", "i", segments[:, 3])
        self.table("edges", "i", plan.starts[leader])
        self.table("weights", "i", plan.weights)
        self.table("elements", "i", kept.elements[leader])
        self.heights = np.diff(plan.blocks)
        self.sources = self.table("sources", "i", kept.slots()[self.g.sources[plan.edges]])
        self.n_segments = len(segments)
        self.counts = segments[:, 3].astype(np.float64)

    # -- a row's parts

    def each_block(self, s: int, k: int, last_first: bool) -> int:
        """Open a loop over the blocks of segment s, if they are of kind k."""
        b = self.b
        count, first = self.cell(f"blocks_{k}", 0, s), self.cell("first_block", 0, s)
        q = b.loop(b.index(0), count)[0]
        if last_first:
            q = b.op("iadd", b.op("imul", q, b.index(-1)), b.op("iadd", count, b.index(-1)))
        return b.op("iadd", first, q)

    def rows_of(self, q: int, height: int) -> list[tuple[int, str, str]]:
        """Block q's rows, from the last one on, as loops of so many rows each: how many, and arrays
        of how many loops there are and where they begin from above."""
        many = min(height, 8 if self.registers > 16 else 4)
        whole = self.heights // many
        found = []
        for count, rounds, top in ((1, self.heights - whole * many, self.heights),
                                   (many, whole, whole * many)):
            mine = np.where(self.plan.sizes == height, rounds, 0)
            if mine.any():
                name = f"{height}_by_{count}"
                found.append((count, self.table(f"rounds_{name}", "i", mine),
                              self.table(f"top_{name}", "i", top)))
                if many == 1:
                    break
        return found

    def each_part(self, q: int, height: int) -> Iterator[tuple[int, int]]:
        """For each part of block q's rows, the last one first, a loop: (how many rows, the first of
        them within the block)."""
        b = self.b
        if height == 1:
            yield 1, b.index(0)
            return
        for count, rounds, top in self.rows_of(q, height):
            u = b.loop(b.index(0), b.load(rounds, 0, q))[0]
            down = b.op("imul", b.op("iadd", u, b.index(1)), b.index(-count))
            yield count, b.op("iadd", b.load(top, 0, q), down)
            b.close()

    def weight(self, offset: int, index: int) -> int:
        return self.b.load(self.weights_in, offset, index)

    def mean(self, s: int, value: int) -> int:
        """A value divided by the length of the in-lists of segment s."""
        return self.b.op("div", value, self.b.load(
            self.table("counts", "f", np.maximum(self.counts, 1)), 0, s))

    # -- back

    def adjoints(self) -> None:
        b = self.b
        self.memory("adjoints", self.kept.size)
        k = b.loop(b.index(0), b.index(self.kept.size))[0]
        b.store(b.const(-0.0), "adjoints", 0, k)
        b.close()
        places = self.table("outputs", "i", self.kept.slots()[self.g.outputs])
        k = b.loop(b.index(0), b.index(self.n_outputs))[0]
        self.add(b.load(places, 0, k), self.seed_at(k), None)
        b.close()
        s = b.loop(b.index(0), b.index(self.n_segments))[0]
        s = b.op("iadd", b.op("imul", s, b.index(-1)), b.index(self.n_segments - 1))
        for number, kind in enumerate(self.kinds):
            q = self.each_block(s, number, True)
            for count, u in self.each_part(q, kind.height):
                self.rows_back(kind, s, q, u, count)
            b.close()
        b.close()
        k = b.loop(b.index(0), b.index(self.n_inputs))[0]
        b.store(b.load("adjoints", 0, k), "jac", 0, self.offset(self.place(self.n_inputs), k))
        b.close()

    def add(self, element: int, value: int, weight: int | None) -> None:
        """Add a value, or its product with a weight, to an adjoint."""
        b = self.b
        acc = b.load("adjoints", 0, element)
        acc = b.op("add", acc, value) if weight is None else step(b, "sum", acc, value, weight)
        b.store(acc, "adjoints", 0, element)

    def rows_back(self, kind: _Kind, s: int, q: int, u: int, count: int) -> None:
        """What rows u .. u+count-1 of block q add to the adjoints of their sources."""
        b, agg = self.b, AGGREGATIONS[kind.aggregation]
        element = b.op("iadd", self.cell("elements", 0, q), u)
        deltas = [self.scaled(b.load("adjoints", i, element), b.load("slopes", i, element),
                              kind.tame) for i in range(count)]
        edges, first = self.cell("fan_in", 0, s), self.cell("edges", 0, q)
        weights = b.op("iadd", self.cell("weights", 0, q), u)
        if agg not in SUMS:
            row = _Adjoints(self, kind, edges, first, weights)
            if agg == "mul":
                factors(b, row, deltas[0])
            else:
                choice(b, agg, row, deltas[0])
            return
        if agg == "mean":
            deltas = [self.mean(s, d) for d in deltas]
        k = b.loop(b.index(0), edges)[0]
        k = b.op("iadd", b.op("imul", k, b.index(-1)), b.op("iadd", edges, b.index(-1)))
        source = b.load(self.sources, 0, b.op("iadd", first, k))
        at = b.op("iadd", weights, b.op("imul", k, b.index(kind.height)))
        acc = b.load("adjoints", 0, source)
        for i in range(count - 1, -1, -1):
            acc = step(b, "sum", acc, deltas[i], self.weight(i, at))
        b.store(acc, "adjoints", 0, source)
        b.close()

    # -- forward

    def tangents(self) -> None:
        b = self.b
        self.memory("tangents", self.kept.size)
        k = b.loop(b.index(0), b.index(self.n_inputs))[0]
        b.store(self.seed_at(k), "tangents", 0, k)
        b.close()
        s = b.loop(b.index(0), b.index(self.n_segments))[0]
        for number, kind in enumerate(self.kinds):
            q = self.each_block(s, number, False)
            for count, u in self.each_part(q, kind.height):
                self.rows_forward(kind, s, q, u, count)
            b.close()
        b.close()
        places = self.table("outputs", "i", self.kept.slots()[self.g.outputs])
        k = b.loop(b.index(0), b.index(self.n_outputs))[0]
        at = self.offset(self.place(), b.op("imul", k, b.index(self.n_inputs)))
        b.store(b.load("tangents", 0, b.load(places, 0, k)), "jac", 0, at)
        b.close()

    def rows_forward(self, kind: _Kind, s: int, q: int, u: int, count: int) -> None:
        """The tangents of rows u .. u+count-1 of block q."""
        b, agg = self.b, AGGREGATIONS[kind.aggregation]
        edges, first = self.cell("fan_in", 0, s), self.cell("edges", 0, q)
        weights = b.op("iadd", self.cell("weights", 0, q), u)
        if agg not in SUMS:
            row = _Slopes(self, kind, edges, first, weights)
            if agg == "mul":
                factors(b, row, b.const(1.0))
            else:
                choice(b, agg, row, b.const(1.0))
        k, *sums = b.loop(b.index(0), edges, [b.const(-0.0)] * count)
        t = b.load("tangents", 0, b.load(self.sources, 0, b.op("iadd", first, k)))
        at = b.op("iadd", weights, b.op("imul", k, b.index(kind.height)))
        sums = b.close(*[
            step(b, "sum", acc, t, self.weight(i, at) if agg in SUMS
                 else b.load("products", 0, k)) for i, acc in enumerate(sums)])
        if agg == "mean":
            sums = [self.mean(s, value) for value in sums]
        element = b.op("iadd", self.cell("elements", 0, q), u)
        made = [self.scaled(value, b.load("slopes", i, element), kind.tame)
                for i, value in enumerate(sums)]
        for i, value in enumerate(made):
            b.store(value, "tangents", i, element)


class _Parts:
    """A row whose edges get different parts, of so many edges (an op), whose in-list begins at
    `first` and whose weights at `weights`."""

    def __init__(self, of: Looped, kind: _Kind, edges: int, first: int, weights: int) -> None:
        self.of, self.b, self.kind, self.edges = of, of.b, kind, edges
        self.first, self.weights = first, weights

    def source(self, k: int) -> int:
        return self.b.load(self.of.sources, 0, self.b.op("iadd", self.first, k))

    def edge(self, k: int) -> tuple[int, int]:
        b = self.b
        at = b.op("iadd", self.weights, b.op("imul", k, b.index(self.kind.height)))
        return b.load("values", 0, self.source(k)), self.of.weight(0, at)


class _Adjoints(_Parts):
    """Its sources' adjoints get them."""

    def add(self, k: int, n: int, w: int, part: int) -> None:
        self.of.add(self.source(k), part, w)


class _Slopes(_Parts):
    """They become the derivatives by its sources' values, in `products`."""

    def add(self, k: int, n: int, w: int, part: int) -> None:
        self.b.store(self.b.op("mul", part, w), "products", 0, k)
