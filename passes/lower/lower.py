"""The functions that a plan names, as functions of scalar ops."""

from __future__ import annotations

from ncc.ir.plan import Plan
from ncc.ir.ssa import Module
from ncc.passes.lower import backward, each, forward, jacobian, train_step
from ncc.passes.lower.arrays.tables import Tables


def lower(plan: Plan, *, name: str = "net", dtype: str = "f32", numerics: str = "fused",
          lanes: int = 16, far_lanes: int = 0, alone_lanes: int = 0, native: int = 1,
          block: int = 8, lanes_block: int = 2, lanes_rows: int = 4, registers: int = 16,
          small: bool = False, scalar: bool = False, provenance: bool = False) -> Module:
    """Write each function that the plan names, in its form.

        plan 3 neurons, 1 rows, 2 edges, 2 packed
        functions pack, forward, forward_batch
        single: straight, 0 slots of work (asked for)
        batch: straight, 0 slots of work (asked for)
        ...
        run activation 03 sum {
          02 <- 00 01
        }
        ...
        =>
        func pack(params in 2, packed out 2) {
          ...
        }

        func forward(x in 2, packed in 2, y out 1, work work 0) {
          %0 = load x[0]
          %1 = load x[1]
          %2 = load packed[0]
          %3 = mul %0, %2
          %4 = load packed[1]
          %5 = fma %1, %4, %3
          %6 = relu %5
          store %6, y[0]
        }

        func forward_batch(count, x in 2, packed in 2, y out 1, work work 0) {
          ...
        }

    First those that go forward (passes/lower/forward.py), with parameters for each sample, too
    (passes/lower/each.py), then the gradients (passes/lower/backward.py), a step of training
    (passes/lower/train_step.py), and the Jacobian (passes/lower/jacobian.py), whatever the order of
    their names. `scalar` is for C, which has no sums over the lanes of a vector: then gradients and
    training go sample by sample, and Jacobians direction by direction. With `provenance`, each op
    of unrolled code carries the neuron that it computes from here on (`Func.neurons`).
    """
    tables = Tables(dtype)
    funcs = forward.functions(plan, tables, dtype=dtype, numerics=numerics, lanes=lanes,
                              far_lanes=far_lanes, alone_lanes=alone_lanes, native=native,
                              block=block, lanes_block=lanes_block, lanes_rows=lanes_rows,
                              small=small, provenance=provenance)
    funcs += each.functions(plan, tables, dtype=dtype, numerics=numerics, lanes=lanes,
                            native=native, lanes_block=lanes_block, lanes_rows=lanes_rows,
                            small=small, provenance=provenance)
    for written in (backward, train_step, jacobian):
        funcs += written.functions(plan, tables, dtype=dtype, numerics=numerics,
                                   native=1 if scalar else native, registers=registers,
                               provenance=provenance)
    return Module(name, dtype, numerics, tuple(funcs), tuple(tables.made.values()))
