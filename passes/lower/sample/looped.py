"""Adjoints and tangents of many directions, as loops over segments, tiles, rows and edges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS
from ncc.ir.plan import Plan, Segment
from ncc.passes.lower.arrays import moves
from ncc.passes.lower.arrays.lists import lists_of
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.reverse.scatter import parts
from ncc.passes.lower.sample.directions import Directions
from ncc.passes.lower.sample.kept import Kept
from ncc.scalar.aggregations import PAIRS, SUMS, step
from ncc.scalar.derivative import tame
from ncc.scalar.expressions import expression


class Kind(NamedTuple):
    """What the code of a row depends on: `height` is the room of its tile, `tame` whether the
    derivative of its activation is finite, `even` whether it reads neighbours. Of a gradient
    besides: whether rows have biases, whether only some do, whether all they read are inputs,
    whether gradients are added up before `dparams` gets them (`summed`), and whether any of its
    weights is a parameter.
    """

    aggregation: int
    height: int
    tame: bool
    even: bool = False
    biased: bool = False
    some: bool = False
    outer: bool = False
    summed: bool = False
    trained: bool = True


class InList(NamedTuple):
    """Where an in-list begins in `sources`, and what is added to each of its elements (ops)."""

    at: int
    base: int | None


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
        kinds = self.more_of_kinds([
            Kind(plan.runs[k].aggregation, height,
                 tame(expression(plan.runs[k].activation, self.g.functions)))
            for k, height in zip(run_of.tolist(), segments[:, 2].tolist(), strict=True)])
        self.kinds = list(dict.fromkeys(kinds))
        number = np.array([self.kinds.index(kind) for kind in kinds], np.int64)
        blocks = segments[:, 1] - segments[:, 0]
        for k in range(len(self.kinds)):
            self.table(f"blocks_{k}", "i", np.where(number == k, blocks, 0))
        self.table("first_block", "i", segments[:, 0])
        self.table("fan_in", "i", segments[:, 3])
        # Those of the forward pass, by the same names.
        lists = lists_of(plan, kept.slots())
        self.sources = self.tables.add("sources", "i", lists.sources)
        self.begins = self.tables.add("starts", "i", lists.starts)
        self.bases = None if lists.bases is None else self.tables.add("bases", "i", lists.bases)
        self.table("weights", "i", plan.weights)
        self.table("elements", "i", kept.elements[leader])
        self.heights = np.diff(plan.blocks)
        self.n_segments = len(segments)
        self.counts = segments[:, 3].astype(np.float64)

    def more_of_kinds(self, kinds: list[Kind]) -> list[Kind]:
        """The kind of each segment, with what else is to be known of it."""
        if self.lanes or self.native == 1:
            return kinds
        plan = self.plan
        source = self.kept.slots()[self.g.sources[plan.edges]]
        jumps = (np.diff(source, prepend=0) != 1) & (csr.within(np.diff(plan.starts)) > 0)
        uneven = np.bincount(csr.owners(plan.starts), jumps, len(plan.rows)) > 0
        return [kind._replace(even=not uneven[self.rows_in(segment)].any() and segment.fan_in > 1)
                for kind, segment in zip(kinds, plan.segments, strict=True)]

    def rows_in(self, segment: Segment) -> slice:
        """The rows of a segment."""
        return slice(self.plan.blocks[segment.first], self.plan.blocks[segment.last])

    # -- a row's parts

    def in_list(self, q: int) -> InList:
        """The in-list of block q."""
        b = self.b
        return InList(b.load(self.begins, 0, q),
                      None if self.bases is None else b.load(self.bases, 0, q))

    def source(self, read: InList, k: int | None) -> int:
        """The element of source k of an in-list; of the first one."""
        b = self.b
        found = b.load(self.sources, 0, read.at if k is None else b.op("iadd", read.at, k))
        return found if read.base is None else b.op("iadd", found, read.base)

    def each_block(self, s: int, k: int, last_first: bool) -> int:
        """Open a loop over the blocks of segment s, if they are of kind k."""
        b = self.b
        count, first = self.cell(f"blocks_{k}", 0, s), self.cell("first_block", 0, s)
        q = b.loop(b.index(0), count)[0]
        if last_first:
            q = b.op("iadd", b.op("imul", q, b.index(-1)), b.op("iadd", count, b.index(-1)))
        return b.op("iadd", first, q)

    def rows_of(self, kind: Kind) -> list[tuple[int, str, str]]:
        """A block's rows, from the last one on, as loops of so many rows each: how many, and arrays
        of how many loops there are and where they begin from above."""
        height = kind.height
        many = height if self.by_tiles(kind) else min(height, 8 if self.registers > 16 else 4)
        if AGGREGATIONS[kind.aggregation] not in SUMS:
            many = 1
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

    def each_part(self, q: int, kind: Kind) -> Iterator[tuple[int, int]]:
        """For each part of block q's rows, the last one first, a loop: (how many rows, the first of
        them within the block)."""
        b = self.b
        if kind.height == 1:
            yield 1, b.index(0)
            return
        for count, rounds, top in self.rows_of(kind):
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

    def each_output(self, body: Callable[[int, int], object]) -> None:
        """The body for the number and the element of each output."""
        moves.each(self.b, self.table, "outputs", {
            "number": range(self.n_outputs), "place": self.kept.slots()[self.g.outputs]}, body)

    # -- back

    def adjoints(self) -> None:
        b = self.b
        self.clear()
        self.each_output(lambda k, at: self.add(at, self.unit_at(k), None))
        self.back()
        k = b.loop(b.index(0), b.index(self.n_inputs))[0]
        self.put(b.load("adjoints", 0, k), False, 0, k)
        b.close()

    def clear(self) -> None:
        """The adjoints before their first term."""
        b = self.b
        self.memory("adjoints", self.kept.size)
        k = b.loop(b.index(0), b.index(self.kept.size))[0]
        b.store(b.const(-0.0), "adjoints", 0, k)
        b.close()

    def back(self) -> None:
        """From the last row to the first, what each adds to the adjoints of its sources."""
        b = self.b
        s = b.loop(b.index(0), b.index(self.n_segments))[0]
        s = b.op("iadd", b.op("imul", s, b.index(-1)), b.index(self.n_segments - 1))
        for number, kind in enumerate(self.kinds):
            q = self.each_block(s, number, True)
            for count, u in self.each_part(q, kind):
                self.rows_back(kind, s, q, u, count)
            b.close()
        b.close()

    def add(self, element: int, value: int, weight: int | None) -> None:
        """Add a value, or its product with a weight, to an adjoint."""
        b = self.b
        acc = b.load("adjoints", 0, element)
        acc = b.op("add", acc, value) if weight is None else step(b, "sum", acc, value, weight)
        b.store(acc, "adjoints", 0, element)

    def rows_back(self, kind: Kind, s: int, q: int, u: int, count: int) -> None:
        """What rows u .. u+count-1 of block q add to the adjoints of their sources."""
        b, agg = self.b, AGGREGATIONS[kind.aggregation]
        element = b.op("iadd", self.cell("elements", 0, q), u)
        deltas = [self.scaled(b.load("adjoints", i, element), b.load("slopes", i, element),
                              kind.tame) for i in range(count)]
        edges, read = self.cell("fan_in", 0, s), self.in_list(q)
        weights = b.op("iadd", self.cell("weights", 0, q), u)
        if agg not in SUMS:
            self.bias_gradient(kind, q, u, deltas)
            row = _Adjoints(self, kind, edges, read, weights, self.place(kind, q, u))
            (row.pairs if agg in PAIRS else row.chain)(deltas[0])
            return
        shares = [self.mean(s, d) for d in deltas] if agg == "mean" else deltas
        self.bias_gradient(kind, q, u, deltas)
        self.gradient(kind, q, u, edges, read, shares)
        if self.open_push(kind):
            self.push(kind, edges, read, weights, shares)
            self.close_push(kind)

    def push(self, kind: Kind, edges: int, read: InList, weights: int, parts: list[int]) -> None:
        """Add the parts of some rows of a block to the adjoints of their sources: of neighbours a
        vector at a time, for which a tile of weights is transposed."""
        b, wide = self.b, self.native
        zero = b.index(0)
        if self.by_tiles(kind) and len(parts) == wide:
            source, rounds = self.source(read, None), b.op("idiv", edges, b.index(wide))
            turn = b.op("imul", b.loop(zero, rounds)[0], b.index(wide))
            lane = b.loop(zero, b.index(wide), lanes=wide)[0]
            k = b.op("iadd", lane, turn)
            self.add_parts(b.op("iadd", k, source), b.op("iadd", b.op("imul", k, b.index(wide)),
                                                         weights), parts)
            b.close()
            b.close()
            k = b.loop(b.op("imul", rounds, b.index(wide)), edges)[0]
            source = b.op("iadd", source, k)
        else:
            k = b.loop(zero, edges)[0]
            k = b.op("iadd", b.op("imul", k, b.index(-1)), b.op("iadd", edges, b.index(-1)))
            source = self.source(read, k)
        at = b.op("iadd", weights, b.op("imul", k, b.index(kind.height)))
        self.add_parts(source, at, parts)
        b.close()

    def by_tiles(self, kind: Kind) -> bool:
        """Whether tiles of its weights are transposed, so that sources are a vector's lanes."""
        return not self.lanes and kind.even and kind.height == self.native > 1

    def add_parts(self, source: int, at: int, parts: list[int]) -> None:
        """Add parts of the last row first, times packed[at + i], to the adjoint of a source."""
        b = self.b
        weights = [self.weight(i, at) for i in range(len(parts))]
        acc = b.load("adjoints", 0, source)
        for part, weight in zip(reversed(parts), reversed(weights), strict=True):
            acc = step(b, "sum", acc, part, weight)
        b.store(acc, "adjoints", 0, source)

    # What a gradient makes besides (passes/lower/sample/single.py); a Jacobian has none.

    def place(self, kind: Kind, q: int, u: int) -> int:
        """What says where the gradients of the edges of row u of block q are."""
        return self.b.index(0)

    def open_push(self, kind: Kind) -> bool:
        """Open what stands around a push of rows of this kind; False where there is none."""
        return True

    def close_push(self, kind: Kind) -> None: ...

    def bias_gradient(self, kind: Kind, q: int, u: int, deltas: list[int]) -> None: ...

    def edge_gradient(self, kind: Kind, begin: int, k: int, n: int, part: int) -> None: ...

    def gradient(self, kind: Kind, q: int, u: int, edges: int, read: InList, parts: list[int]
                 ) -> None: ...

    # -- forward

    def tangents(self) -> None:
        b = self.b
        self.memory("tangents", self.kept.size)
        k = b.loop(b.index(0), b.index(self.n_inputs))[0]
        b.store(self.unit_at(k), "tangents", 0, k)
        b.close()
        s = b.loop(b.index(0), b.index(self.n_segments))[0]
        for number, kind in enumerate(self.kinds):
            q = self.each_block(s, number, False)
            for count, u in self.each_part(q, kind):
                self.rows_forward(kind, s, q, u, count)
            b.close()
        b.close()
        self.each_output(lambda k, at: self.put(b.load("tangents", 0, at), True, 0, k))

    def rows_forward(self, kind: Kind, s: int, q: int, u: int, count: int) -> None:
        """The tangents of rows u .. u+count-1 of block q."""
        b, agg = self.b, AGGREGATIONS[kind.aggregation]
        edges, read = self.cell("fan_in", 0, s), self.in_list(q)
        weights = b.op("iadd", self.cell("weights", 0, q), u)
        if agg not in SUMS:
            row = _Slopes(self, kind, edges, read, weights, b.index(0))
            (row.pairs if agg in PAIRS else row.chain)(b.const(1.0))
        k, *sums = b.loop(b.index(0), edges, [b.const(-0.0)] * count)
        t = b.load("tangents", 0, self.source(read, k))
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


class Parts:
    """A row whose edges get different parts, of so many edges (an op), which reads this list
    and whose weights begin at `weights`; `begin` is that of its gradients."""

    def __init__(self, of: Looped, kind: Kind, edges: int, read: InList, weights: int, begin: int
                 ) -> None:
        self.of, self.b, self.kind, self.edges = of, of.b, kind, edges
        self.read, self.weights, self.begin = read, weights, begin

    def source(self, k: int) -> int:
        return self.of.source(self.read, k)

    def edge(self, k: int) -> tuple[int, int]:
        b = self.b
        at = b.op("iadd", self.weights, b.op("imul", k, b.index(self.kind.height)))
        return b.load("values", 0, self.source(k)), self.of.weight(0, at)

    def add(self, k: int, n: int, w: int, part: int) -> None:
        raise NotImplementedError

    def chain(self, d: int) -> None:
        """The parts of delta d of a row that is neither a sum nor one of pairs."""
        parts(self.b, AGGREGATIONS[self.kind.aggregation], self, d)

    def pairs(self, d: int) -> None:
        """The parts of delta d of a row of products n0*w*n1, from the last pair to the first: d*n1
        with the weight w, and before it d*n0*w with the weight 1."""
        b = self.b
        count = b.op("idiv", self.edges, b.index(2))
        k = b.loop(b.index(0), count)[0]
        back = b.op("iadd", b.op("imul", k, b.index(-1)), b.op("iadd", count, b.index(-1)))
        w = self.of.weight(0, b.op("iadd", self.weights, b.op("imul", back, b.index(
            self.kind.height))))
        edge = b.op("imul", back, b.index(2))
        second = b.op("iadd", edge, b.index(1))
        n0, n1 = [b.load("values", 0, self.source(e)) for e in (edge, second)]
        self.add(second, n1, b.const(1.0), b.op("mul", d, b.op("mul", n0, w)))
        self.add(edge, n0, w, b.op("mul", d, n1))
        b.close()


class _Adjoints(Parts):
    """Its sources' adjoints get them."""

    def add(self, k: int, n: int, w: int, part: int) -> None:
        self.of.edge_gradient(self.kind, self.begin, k, n, part)
        if self.of.open_push(self.kind):
            self.of.add(self.source(k), part, w)
            self.of.close_push(self.kind)


class _Slopes(Parts):
    """They become the derivatives by its sources' values, in `products`."""

    def add(self, k: int, n: int, w: int, part: int) -> None:
        self.b.store(self.b.op("mul", part, w), "products", 0, k)
