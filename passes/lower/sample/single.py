"""The backward pass of one sample, in loops on machines with vectors: the forward pass keeps values
and derivatives, tiles of rows push adjoints to their sources, and gradients of rows whose weights
are consecutive parameters go to `dparams` vector by vector."""

from __future__ import annotations

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import NONE
from ncc.ir.plan import Plan
from ncc.passes.lower.reverse.layout import consecutive, edges_of
from ncc.passes.lower.reverse.readers import unread_inputs
from ncc.passes.lower.sample.looped import InList, Kind, Looped


def fits(plan: Plan) -> bool:
    """Whether the weights of each row are consecutive parameters that nothing else has, and its
    bias, if any, is one, too: the sum of its products is then the product itself."""
    g = plan.graph
    first = plan.blocks[[segment.first for segment in plan.segments]]
    last = plan.blocks[[segment.last for segment in plan.segments]]
    own = g.biases[plan.rows]
    own = own[own != NONE]
    return (bool(consecutive(plan, first, last).all()) and bool((own >= 0).all())
            and len(np.unique(own)) == len(own))


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
        self.table("first_row", "i", plan.blocks[:-1])
        biases = g.biases[plan.rows]
        self.table("bias_params", "i", np.maximum(biases, 0))
        self.table("has_bias", "i", biases != NONE)
        begins = np.minimum(plan.starts[:-1], max(0, len(plan.edges) - 1))
        of_edge = g.weights[plan.edges] if len(plan.edges) else np.zeros(1, np.int32)
        self.table("weight_params", "i", of_edge[begins])
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

    def after(self) -> None: ...  # all is in `dparams` already

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
        for kind, segment in zip(super().more_of_kinds(kinds), plan.segments, strict=True):
            rows = self.rows_in(segment)
            found.append(kind._replace(
                biased=bool(biased[rows].any()), outer=not inner[rows].any(),
                some=bool(biased[rows].any() and not biased[rows].all())))
        return found

    # -- what a row leaves

    def row(self, q: int) -> int:
        return self.cell("first_row", 0, q)

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
        r = b.op("iadd", self.row(q), u)
        for i, d in enumerate(deltas):
            if kind.some:
                self.only_if(self.cell("has_bias", i, r))
            self.increase(self.cell("bias_params", i, r), 0, d)
            if kind.some:
                b.close()
        b.close()

    def increase(self, at: int, offset: int, value: int) -> None:
        """dparams[at + offset] += value."""
        b = self.b
        b.store(b.op("add", b.load("dparams", offset, at), value), "dparams", offset, at)

    def edge_gradient(self, r: int, k: int, n: int, part: int) -> None:
        b = self.b
        self.only_if(self.wanted)
        self.increase(b.op("iadd", self.cell("weight_params", 0, r), k), 0, b.op("mul", part, n))
        b.close()

    def gradient(self, kind: Kind, q: int, u: int, edges: int, read: InList, deltas: list[int],
                 parts: list[int]) -> None:
        """Of rows that are sums or means: a value is loaded once for all of them."""
        b = self.b
        self.bias_gradient(kind, q, u, deltas)
        self.only_if(self.wanted)
        r = b.op("iadd", self.row(q), u)
        params = [self.cell("weight_params", i, r) for i in range(len(parts))]

        def products(k: int, source: int) -> None:
            value = b.load("values", 0, source)
            for at, d in zip(params, parts, strict=True):
                self.increase(b.op("iadd", at, k), 0, b.op("mul", d, value))

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
