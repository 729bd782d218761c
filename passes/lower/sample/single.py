"""The backward pass of one sample, in loops on machines with vectors: the forward pass keeps values
and derivatives, tiles of rows push adjoints to their sources, and gradients of rows whose weights
are consecutive parameters go to `dparams` vector by vector. Those of other rows, whose parameters
are shared, go to a buffer `gradient` in the same way, and are added up at the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import NONE, PAIR_CODES, Longs
from ncc.ir.plan import Plan
from ncc.passes.lower.reverse.accumulators import rooms
from ncc.passes.lower.reverse.layout import Flags, consecutive, edges_of
from ncc.passes.lower.reverse.readers import unread_inputs
from ncc.passes.lower.sample.blocks import Block, InList, Kind
from ncc.passes.lower.sample.looped import Looped


def own(plan: Plan) -> Flags:
    """Of each segment, whether the weights of each row are consecutive parameters that nothing else
    has, and its bias, if any, is one, too: the sum of its products is then the product itself."""
    g = plan.graph
    bounds = np.array([[s.first, s.last] for s in plan.segments], np.int64).reshape(-1, 2)
    first, last = plan.blocks[bounds].T
    codes = np.concatenate([g.weights, g.biases[plan.rows]])
    uses = np.bincount(codes[codes >= 0], minlength=g.n_params + 1)
    biases = g.biases[plan.rows]
    shared = csr.starts((biases != NONE) & ((biases < 0) | (uses[np.maximum(biases, 0)] > 1)))
    found: Flags = consecutive(plan, first, last) & (shared[last] == shared[first])
    return found


def fits(plan: Plan) -> bool:
    """Whether rows that share an in-list read each source once: an adjoint gets the parts of a tile
    edge by edge, but those of a source that was merged from several row by row. Of rows of pairs
    each row's parts go there together."""
    heads = plan.blocks[:-1][plan.sizes > 1]
    heads = heads[~np.isin(plan.graph.aggregations[plan.rows[heads]], PAIR_CODES)]
    counts = np.diff(plan.starts)[heads]
    reader = np.repeat(np.arange(len(heads)), counts)
    at = plan.edges[csr.ranges(plan.starts[heads], counts)]
    pairs = reader * plan.graph.n_neurons + plan.graph.sources[at]
    return len(np.unique(pairs)) == len(pairs)


class Single(Looped):
    """`dx` and `dparams` of one sample, and what the callers of `Backward.function` add."""

    def before(self) -> None:
        self.direction = self.row_of_x = self.row_of_jac = None

    def body(self) -> None:
        b, g, plan = self.b, self.g, self.plan
        self.values()
        slots = self.kept.slots()
        self.places = {"output_places": slots[g.outputs], "seed_ranks": range(self.n_outputs)}
        direct = ~self.of_rows(lambda kind: kind.summed)
        self.declare("first_row")
        biases = g.biases[plan.rows][direct]
        self.table("bias_params", "i", np.maximum(biases, 0))
        self.table("has_bias", "i", biases != NONE)
        begins = np.minimum(plan.starts[:-1], max(0, len(plan.edges) - 1))[direct]
        of_edge = g.weights[plan.edges] if len(plan.edges) else np.zeros(1, np.int32)
        self.table("weight_params", "i", of_edge[begins])
        if self.summed:
            self.sums_of_cells()
        self.seeds()
        self.wanted = b.emit("given", (), "dparams")
        self.clear()
        self.each_output(lambda k, at: self.add(at, b.load("seeds", 0, k), None))
        self.back()
        if "dx" not in self.named:
            return
        self.only_if(b.emit("given", (), "dx"))
        k = b.loop(b.index(0), b.index(self.n_inputs))[0]
        adjoint = b.load("adjoints", 0, k)
        unread = unread_inputs(plan, edges_of(plan))
        if unread.any():  # -0 is what a sum begins with; and what has no term is +0
            last = self.table("unread", "f", np.where(unread, 0.0, -0.0))
            adjoint = b.op("add", adjoint, b.load(last, 0, k))
        b.store(adjoint, "dx", 0, k)
        b.close()
        b.close()

    def after(self) -> None:
        if self.summed:  # all else is in `dparams` already
            super().after()

    @property
    def last_first(self) -> bool:
        return True

    def of_rows(self, asked: Callable[[Kind], bool]) -> Flags:
        """What is asked of the kind of each row."""
        blocks = [segment.last - segment.first for segment in self.plan.segments]
        of_blocks = np.repeat(np.array([*map(asked, self.of_segments)], bool), blocks)
        return np.repeat(of_blocks, np.diff(self.plan.blocks))

    def more(self) -> dict[str, Longs]:
        """The first row of each block, of those whose gradients go to `dparams` at once. Of the
        others the first cell of `gradient`: there is one for each edge of each row, in the order of
        rows, with room for more, and then one for the bias of each."""
        plan = self.plan
        self.summed = any([kind.summed for kind in self.kinds])
        leaders = plan.blocks[:-1]
        summed = self.of_rows(lambda kind: kind.summed)
        found = {"first_row": csr.starts(~summed)[leaders]}
        if not self.summed:
            return found
        trained = self.of_rows(lambda kind: kind.summed and kind.trained)
        biased = self.of_rows(lambda kind: kind.summed and kind.biased)
        room, _ = rooms(plan, np.flatnonzero(np.repeat(trained, np.diff(plan.starts))))
        self.cells = csr.starts(room)
        return found | {"first_cell": self.cells[leaders], "room": room[leaders],
                        "first_bias": self.cells[-1] + csr.starts(biased)[leaders]}

    def sums_of_cells(self) -> None:
        """What becomes of the cells of `gradient`."""
        plan, g, first = self.plan, self.g, self.cells
        summed = self.of_rows(lambda kind: kind.summed and kind.trained)
        biased = self.of_rows(lambda kind: kind.summed and kind.biased)
        lengths = np.diff(plan.starts)
        edges, rows = np.flatnonzero(np.repeat(summed, lengths)), np.flatnonzero(biased)
        self.declare("first_cell", "room", "first_bias")
        # The canonical order: by neuron, in-list, and the bias last.
        at, neurons = plan.edges[edges], plan.rows[rows]
        cells = np.append(csr.ranges(first[:-1][summed], lengths[summed]),
                          first[-1] + np.arange(len(rows)))
        order, params = np.zeros(first[-1] + len(rows), np.int64), np.full(
            first[-1] + len(rows), -1, np.int64)
        order[cells] = np.append(at + csr.owners(g.starts)[at], g.starts[neurons + 1] + neurons)
        params[cells] = np.maximum(np.append(g.weights[at], g.biases[neurons]), -1)
        self.sum_in(len(params), params, order)

    def seeds(self) -> None:
        """The adjoints of the outputs, in their order."""
        self.memory("seeds", self.n_outputs)
        if self.ends.loops is None:
            self.seed("dy")
        else:
            self.ends.loops(self)

    def seed(self, buffer: str) -> None:
        b = self.b
        k = b.loop(b.index(0), b.index(self.n_outputs))[0]
        b.store(b.load(buffer, 0, k), "seeds", 0, k)
        b.close()

    def more_of_kinds(self, kinds: list[Kind]) -> list[Kind]:
        plan, g = self.plan, self.g
        inner = np.bincount(csr.owners(plan.starts), self.kept.slots()[
            g.sources[plan.edges]] >= self.n_inputs, len(plan.rows)) > 0
        biased = g.biases[plan.rows] != NONE
        found = []
        for kind, segment, alone in zip(super().more_of_kinds(kinds), plan.segments, own(plan),
                                        strict=True):
            rows = self.rows_in(segment)
            edges = plan.edges[plan.starts[rows.start] : plan.starts[rows.stop]]
            found.append(kind._replace(
                biased=bool(biased[rows].any()), outer=not inner[rows].any(),
                some=bool(alone and biased[rows].any() and not biased[rows].all()),
                summed=not alone, trained=bool(alone or (g.weights[edges] >= 0).any())))
        self.of_segments = found
        return found

    # -- what a row leaves

    def place(self, kind: Kind, block: Block, u: int) -> int:
        """The row's number, or its first cell."""
        b = self.b
        if not kind.summed:
            return b.op("iadd", block.number(b, "first_row"), u)
        return b.op("iadd", block.number(b, "first_cell"),
                    b.op("imul", u, block.number(b, "room")))

    def open_push(self, kind: Kind) -> bool:
        """Adjoints of inputs alone are for dx."""
        if kind.outer:
            if "dx" not in self.named:
                return False
            self.only_if(self.b.emit("given", (), "dx"))
        return True

    def close_push(self, kind: Kind) -> None:
        if kind.outer:
            self.b.close()

    def bias_gradient(self, kind: Kind, block: Block, u: int, deltas: list[int]) -> None:
        if not kind.biased:
            return
        b = self.b
        self.only_if(self.wanted)
        if kind.summed:
            first = b.op("iadd", block.number(b, "first_bias"), u)
            for i, d in enumerate(deltas):
                b.store(d, "gradient", i, first)
            b.close()
            return
        r = b.op("iadd", block.number(b, "first_row"), u)
        for i, d in enumerate(deltas):
            if kind.some:
                self.only_if(self.cell("has_bias", i, r))
            self.increase(self.cell("bias_params", i, r), d)
            if kind.some:
                b.close()
        b.close()

    def increase(self, at: int, value: int) -> None:
        """dparams[at] += value."""
        b = self.b
        b.store(b.op("add", b.load("dparams", 0, at), value), "dparams", 0, at)

    def leave(self, kind: Kind, at: int, value: int) -> None:
        """Add a product to that of its parameter, or put it into its cell."""
        if kind.summed:
            self.b.store(value, "gradient", 0, at)
        else:
            self.increase(at, value)

    def edge_gradient(self, kind: Kind, begin: int, k: int, n: int, part: int) -> None:
        if not kind.trained:
            return
        b = self.b
        self.only_if(self.wanted)
        first = begin if kind.summed else self.cell("weight_params", 0, begin)
        self.leave(kind, b.op("iadd", first, k), b.op("mul", part, n))
        b.close()

    def gradient(self, kind: Kind, block: Block, u: int, edges: int, read: InList, parts: list[int]
                 ) -> None:
        """Of rows that are sums or means: a value is loaded once for all of them."""
        if not kind.trained:
            return
        b = self.b
        self.only_if(self.wanted)
        begin = self.place(kind, block, u)
        if kind.summed:
            places, room = [begin], block.number(b, "room")
            for _ in parts[1:]:
                places.append(b.op("iadd", places[-1], room))
        else:
            places = [self.cell("weight_params", i, begin) for i in range(len(parts))]

        def products(k: int, source: int) -> None:
            value = b.load("values", 0, source)
            for at, d in zip(places, parts, strict=True):
                self.leave(kind, b.op("iadd", at, k), b.op("mul", d, value))

        wide = self.native
        if kind.even and wide > 1:
            source = self.source(read, None)
            rounds = b.op("idiv", edges, b.index(wide))
            turn = b.loop(b.index(0), rounds)[0]
            lane = b.loop(b.index(0), b.index(wide), lanes=wide)[0]
            k = b.op("iadd", lane, b.op("imul", turn, b.index(wide)))
            products(k, b.op("iadd", k, source))
            b.close()
            b.close()
            k = b.loop(b.op("imul", rounds, b.index(wide)), edges)[0]
            products(k, b.op("iadd", source, k))
            b.close()
        else:
            k = b.loop(b.index(0), edges)[0]
            products(k, self.source(read, k))
            b.close()
        b.close()
