"""Adjoints and tangents of many directions, as loops over segments, tiles, rows and edges."""

from __future__ import annotations

from ncc.ir.graph import AGGREGATIONS
from ncc.passes.lower.reverse.scatter import parts
from ncc.passes.lower.sample.blocks import Block, Blocks, InList, Kind
from ncc.scalar.aggregations import PAIRS, SUMS, step


class Looped(Blocks):
    """Loops over segments, tiles, rows and edges.

    Rows that share their sources go by tiles of the plan's blocks: a source's adjoint takes the
    parts of several rows while it is in a register. A buffer `adjoints` or `tangents` has an
    element for each value.
    """

    # -- back

    def adjoints(self) -> None:
        b = self.b
        self.clear()
        places = self.table("outputs", "i", self.kept.slots()[self.g.outputs])
        k = b.loop(b.index(0), b.index(self.n_outputs))[0]
        self.add(b.load(places, 0, k), self.unit_at(k), None)
        b.close()
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
        for kind, block in self.each_block():
            for count, u in self.each_part(block, kind):
                self.rows_back(kind, block, u, count)

    def add(self, element: int, value: int, weight: int | None) -> None:
        """Add a value, or its product with a weight, to an adjoint."""
        b = self.b
        acc = b.load("adjoints", 0, element)
        acc = b.op("add", acc, value) if weight is None else step(b, "sum", acc, value, weight)
        b.store(acc, "adjoints", 0, element)

    def rows_back(self, kind: Kind, block: Block, u: int, count: int) -> None:
        """What rows u .. u+count-1 of a block add to the adjoints of their sources."""
        b, agg = self.b, AGGREGATIONS[kind.aggregation]
        element = b.op("iadd", block.number(b, "elements"), u)
        deltas = [self.scaled(b.load("adjoints", i, element), b.load("slopes", i, element),
                              kind.tame) for i in range(count)]
        edges, read = block.number(b, "fan_in"), self.in_list(block)
        weights = b.op("iadd", block.number(b, "weights"), u)
        if agg not in SUMS:
            self.bias_gradient(kind, block, u, deltas)
            row = _Adjoints(self, kind, edges, read, weights, self.place(kind, block, u))
            (row.pairs if agg in PAIRS else row.chain)(deltas[0])
            return
        shares = [self.mean(block, d) for d in deltas] if agg == "mean" else deltas
        self.bias_gradient(kind, block, u, deltas)
        self.gradient(kind, block, u, edges, read, shares)
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

    def add_parts(self, source: int, at: int, parts: list[int]) -> None:
        """Add parts of the last row first, times packed[at + i], to the adjoint of a source."""
        b = self.b
        weights = [self.weight(i, at) for i in range(len(parts))]
        acc = b.load("adjoints", 0, source)
        for part, weight in zip(reversed(parts), reversed(weights), strict=True):
            acc = step(b, "sum", acc, part, weight)
        b.store(acc, "adjoints", 0, source)

    # What a gradient makes besides (passes/lower/sample/single.py); a Jacobian has none.

    def place(self, kind: Kind, block: Block, u: int) -> int:
        """What says where the gradients of the edges of row u of a block are."""
        return self.b.index(0)

    def open_push(self, kind: Kind) -> bool:
        """Open what stands around a push of rows of this kind; False where there is none."""
        return True

    def close_push(self, kind: Kind) -> None: ...

    def bias_gradient(self, kind: Kind, block: Block, u: int, deltas: list[int]) -> None: ...

    def edge_gradient(self, kind: Kind, begin: int, k: int, n: int, part: int) -> None: ...

    def gradient(self, kind: Kind, block: Block, u: int, edges: int, read: InList, parts: list[int]
                 ) -> None: ...

    # -- forward

    def tangents(self) -> None:
        b = self.b
        self.memory("tangents", self.kept.size)
        k = b.loop(b.index(0), b.index(self.n_inputs))[0]
        b.store(self.unit_at(k), "tangents", 0, k)
        b.close()
        for kind, block in self.each_block():
            for count, u in self.each_part(block, kind):
                self.rows_forward(kind, block, u, count)
        places = self.table("outputs", "i", self.kept.slots()[self.g.outputs])
        k = b.loop(b.index(0), b.index(self.n_outputs))[0]
        self.put(b.load("tangents", 0, b.load(places, 0, k)), True, 0, k)
        b.close()

    def rows_forward(self, kind: Kind, block: Block, u: int, count: int) -> None:
        """The tangents of rows u .. u+count-1 of a block."""
        b, agg = self.b, AGGREGATIONS[kind.aggregation]
        edges, read = block.number(b, "fan_in"), self.in_list(block)
        weights = b.op("iadd", block.number(b, "weights"), u)
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
            sums = [self.mean(block, value) for value in sums]
        element = b.op("iadd", block.number(b, "elements"), u)
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
