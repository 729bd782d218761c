"""The Jacobian of a net: one forward pass, then as many passes over its edges as it has outputs, or
inputs, side by side as lanes."""

from __future__ import annotations

import numpy as np

from ncc.ir.graph_run import dependence, tangential
from ncc.ir.plan import JACOBIAN, Plan
from ncc.ir.ssa import Buffer, Func
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.sample.directions import lanes_of
from ncc.passes.lower.sample.looped import Looped
from ncc.passes.lower.sample.straight import Straight


def functions(plan: Plan, tables: Tables, *, dtype: str, numerics: str, native: int, registers: int,
              provenance: bool) -> list[Func]:
    """`jacobian` and `jacobian_batch`, where the plan names them.

        func jacobian(x in 2, packed in 3, jac out 2, work work 0) {
          %0 = load x[0]
          ...
          store %14, jac[1]
        }

    jac[o*n_inputs + i] is the derivative of output o by input i. A net that has fewer inputs than
    outputs takes a pass forward for each input, whose tangents go along the edges (forward mode);
    any other takes a pass back for each output, as `backward` does with the seed 1 (reverse mode).
    The activations' derivatives, which all passes share, are made in the one forward pass before.
    Where no path leads from an input to an output the derivative is +0, whatever the values are. A
    batch goes sample by sample.
    """
    made: list[Func] = []
    for wanted in plan.functions:
        if wanted.name not in JACOBIAN:
            continue
        if not made:
            tables.begin()
        straight = plan.schedule_of(wanted).form == "straight"
        form = (Straight if straight else Looped)(
            plan, dtype, numerics, tables, native, 0, registers, provenance)
        made.append(_jacobian(form, plan, wanted.name, native))
    return made


def _jacobian(form: Straight | Looped, plan: Plan, name: str, native: int) -> Func:
    g, counted = plan.graph, name == "jacobian_batch"
    forward = tangential(g)
    count = len(g.inputs) if forward else len(g.outputs)
    form.lanes = lanes_of(count, native)
    form.begin(counted)
    form.values()
    form.open(count)
    if forward:
        form.tangents()
    else:
        form.adjoints()
    form.close(forward)
    form.zeros(np.flatnonzero(~dependence(g)))
    if counted:
        form.b.close()
    packed = [Buffer("packed", "in", len(plan.packed))] if plan.wants("pack") else []
    if not form.buffers:
        form.memory("work", 0)
    return Func(name, (
        Buffer("x", "in", len(g.inputs)), *packed,
        Buffer("jac", "out", len(g.inputs) * len(g.outputs)), *form.buffers.values()), form.b.ops,
        counted=counted, neurons=form.b.neurons)
