"""The backward pass of one sample, in loops on machines with vectors: the forward pass keeps values
and derivatives, tiles of rows push adjoints to their sources, and gradients of rows whose weights
are consecutive parameters go to `dparams` vector by vector. Those of other rows, whose parameters
are shared, go to a buffer `gradient` in the same way, and are added up at the end."""

from __future__ import annotations

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import NONE
from ncc.ir.plan import Plan
from ncc.passes.lower.reverse.accumulators import rooms
from ncc.passes.lower.reverse.layout import Flags, consecutive, edges_of
from ncc.passes.lower.reverse.readers import unread_inputs
from ncc.passes.lower.sample.looped import InList, Kind, Looped


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


class Single(Looped):
    """`dx` and `dparams` of one sample, and what the callers of `Backward.function` add."""

    def before(self) -> None:
        self.direction = self.row_of_x = self.row_of_jac = None

    def body(self) -> None:
        b, g, plan = self.b, self.g, self.plan
        self.values()
        slots = self.kept.slots()
        self.table("output_places", "i", slots[g.outputs])
        self.table("seed_ranks", "i", np.arange(self.n_outputs))
        self.summed = any([kind.summed for kind in self.kinds])
        direct = np.array([not kind.summed for kind in self.of_segments], bool)
        direct = np.repeat(direct, [plan.blocks[s.last] - plan.blocks[s.first]
                                    for s in plan.segments])
        self.table("first_row", "i", csr.starts(direct)[plan.blocks[:-1]])
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
        k = b.loop(b.index(0), b.index(self.n_outputs))[0]
        self.add(self.cell("output_places", 0, k), b.load("seeds", 0, k), None)
        b.close()
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

    def sums_of_cells(self) -> None:
        """A cell of `gradient` for each edge of each row whose gradients are summed, in the order
        of rows, and then for the bias of each."""
        plan, g = self.plan, self.g
        heights = np.diff(plan.blocks)
        blocks = [segment.last - segment.first for segment in plan.segments]
        summed, biased = [np.repeat(np.repeat(np.array(of, bool), blocks), heights) for of in (
            [kind.summed and kind.trained for kind in self.of_segments],
            [kind.summed and kind.biased for kind in self.of_segments])]
        lengths, leaders = np.diff(plan.starts), plan.blocks[:-1]
        edges, rows = np.flatnonzero(np.repeat(summed, lengths)), np.flatnonzero(biased)
        room = rooms(plan, edges)
        first = csr.starts(room)
        self.table("first_cell", "i", first[leaders])
        self.table("room", "i", room[leaders])
        self.table("first_bias", "i", first[-1] + csr.starts(biased)[leaders])
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

    def place(self, kind: Kind, q: int, u: int) -> int:
        """The row's number, or its first cell."""
        b = self.b
        if not kind.summed:
            return b.op("iadd", self.cell("first_row", 0, q), u)
        return b.op("iadd", self.cell("first_cell", 0, q),
                    b.op("imul", u, self.cell("room", 0, q)))

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

    def bias_gradient(self, kind: Kind, q: int, u: int, deltas: list[int]) -> None:
        if not kind.biased:
            return
        b = self.b
        self.only_if(self.wanted)
        if kind.summed:
            first = b.op("iadd", self.cell("first_bias", 0, q), u)
            for i, d in enumerate(deltas):
                b.store(d, "gradient", i, first)
            b.close()
            return
        r = b.op("iadd", self.cell("first_row", 0, q), u)
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

    def gradient(self, kind: Kind, q: int, u: int, edges: int, read: InList, parts: list[int]
                 ) -> None:
        """Of rows that are sums or means: a value is loaded once for all of them."""
        if not kind.trained:
            return
        b = self.b
        self.only_if(self.wanted)
        begin = self.place(kind, q, u)
        if kind.summed:
            places, room = [begin], self.cell("room", 0, q)
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
