"""Parameters as lanes: a batch whose samples have parameters of their own."""

from __future__ import annotations

import numpy as np

from ncc.ir.plan import Plan
from ncc.ir.ssa import DTYPES, Buffer, Func
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.forward import Forward

CACHED = 64 << 10  # bytes of parameters and values: more lanes than one vector's pay up to here


def functions(plan: Plan, tables: Tables, *, dtype: str, numerics: str, lanes: int, native: int,
              lanes_block: int, lanes_rows: int, small: bool, provenance: bool) -> list[Func]:
    """`each`, where the plan names it.

        func each(count, x in 1, params in 2, y out 1, lane_params private 2, work private 0) {
          ...
          %2 = for %0..%1 lanes 16 {
            ...
        }

    y[k] = net(x[k], params[k]) of `count` samples: the parameters are canonical, and lanes of the
    loop as the samples are. Each iteration copies those of its lanes to `lane_params`, transposed
    in tiles (`Builder.columns`), so that the net reads a parameter of all lanes as one vector;
    edges that share a parameter read one element. The form is `straight`, without index arrays, or
    loops that find an edge's parameter in the array `elements`. There are `lanes`, or no more than
    a vector's `native` where more would need too much of the cache. Each sample has a row
    of `state`, of a net with states.
    """
    if plan.each is None or not plan.wants("each"):
        return []
    tables.begin()
    size = np.dtype(DTYPES[dtype]).itemsize
    held = (plan.graph.n_params + plan.each.work) * size
    longer = lanes if held * lanes <= CACHED else native
    more = max(1, lanes // longer)
    lowering = Each(plan, tables, dtype, numerics, native, max(1, lanes_rows * more), not small,
                    provenance)
    return [lowering.each(longer, lanes_block * more)]


class Each(Forward):
    """The forward pass over `lane_params`: the canonical parameters, then the constants."""

    def each(self, lanes: int, block: int) -> Func:
        plan, g = self.plan, self.plan.graph
        assert plan.each is not None
        looped = plan.each.form != "straight"
        b = self.builder()
        sample = b.loop(b.index(0), b.emit("count"), lanes=lanes)[0]
        self.copy(b, sample)
        if looped:
            self.table("elements", "i", np.where(plan.packed < 0, g.n_params - 1 - plan.packed,
                                                 plan.packed))
            k = b.loop(b.index(0), b.index(len(plan.constants)))[0]
            fixed = self.table("constants", "f", plan.constants)
            b.store(b.load(fixed, 0, k), "lane_params", g.n_params, k)
            b.close()
        size = self.compute(b, plan.each, sample, lanes, block)
        b.close()
        # Arrays that functions of an earlier kind have are theirs, by the names there.
        names = self.tables.names
        ops = [(opcode, reads, (names.get(imm[0], imm[0]), imm[1])) if opcode == "load"
               else (opcode, reads, imm) for opcode, reads, imm in b.ops]
        state = [Buffer("state", "inout", len(g.states))] if len(g.states) else []
        return Func("each", (
            Buffer("x", "in", g.n_inputs), Buffer("params", "in", g.n_params),
            Buffer("y", "out", len(g.outputs)), *state,
            Buffer("lane_params", "private", g.n_params + looped * len(plan.constants)),
            Buffer("work", "private", size)), ops, counted=True, neurons=b.neurons)

    def copy(self, b: Builder, sample: int) -> None:
        """The parameters of the lanes, each lane's from a row of its own."""
        row = b.op("imul", sample, b.index(self.plan.graph.n_params))
        for k, count in b.columns(self.plan.graph.n_params, True):
            at = b.op("iadd", row, k)
            for c, value in enumerate([b.load("params", c, at) for c in range(count)]):
                b.store(value, "lane_params", c, k)
            b.close()

    def parameter(self, b: Builder, offset: int, index: int) -> int:
        return b.load("lane_params", 0, b.load("elements", offset, index))

    def parameter_of(self, b: Builder, code: int) -> int:
        return b.load("lane_params", code)
