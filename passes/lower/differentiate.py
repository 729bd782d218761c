"""The plan's gradients as functions of scalar ops: backward, backward_batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ncc.ir.plan import Plan
from ncc.ir.ssa import DTYPES, Buffer, Module, Table
from ncc.passes.lower.backward import sweep
from ncc.passes.lower.reverse.frame import Ends, lanes
from ncc.passes.lower.reverse.loops import Loops as Tabled
from ncc.scalar.sum_order import CHUNK

EDGES = 24  # to a real kept, from where writing and reading it take less time than making it again


def differentiate(plan: Plan, *, name: str = "net", dtype: str = "f32", numerics: str = "fused",
                  native: int = 1, recompute: int = 0, registers: int = 16,
                  vjp: bool = True, scalar: bool = False, kept: int = 0) -> Module:
    """Write the reverse sweep of each function of a plan that asks for it.

        plan 3 neurons, 1 rows, 2 edges, 2 packed
        single: straight, 0 slots of work (asked for)
        batch: straight, 0 slots of work (asked for)
        run activation 03 sum {
          02 <- 00 01
        }
        =>
        ...
        func backward(x in 2, packed in 2, dy in 1, dx out 2, dparams inout 2, work work 0) {
          ...
          %7 = load dy[0]                    // adjoint of neuron 02
          ...
          %12 = select %10, %8, %11          // derivative of relu
          %13 = mul %7, %12                  // adjoint of its sum: its delta
          %14 = mul %13, %3                  // what it adds to the adjoint of 01
          %15 = mul %13, %2
          ...
            %19 = mul %13, %0                // what it adds to the gradient of its first weight
          ...
        }

        func backward_batch(count, x in 2, packed in 2, dy in 1, dx out 2, dparams inout 2, ...
          ...
                    accumulate %65, %72, chain[0]
          ...
        }

    Gradients of a batch are summed in `work` and added to `dparams` at the end of each chunk of
    samples, where the caller gave any; the ties' sums are made there. In which order:
    ncc/scalar/sum_order.py; how: passes/lower/backward.py. Where a function would keep more than
    `recompute` bytes of values in `work` (0: no limit), they are computed again by blocks of the
    net. Without `vjp` nothing is written, for those who train and want no gradient of their own.

    A caller that wants y first and the gradients then says how many bytes of a chunk of samples may
    be `kept` between. In the place of `backward` stand then `forward_keep`, which makes y and
    `kept`, and `backward_kept`, which reads it and may do so again; and forward_batch_keep and
    backward_batch_kept in that of `backward_batch`: in the table form of one block, where sums are
    so long that to keep one takes less than to make it again.
    """
    g = plan.graph
    n_inputs, n_outputs = len(g.inputs), len(g.outputs)
    ends = Ends(
        (Buffer("x", "in", n_inputs), Buffer("packed", "in", len(plan.packed)),
         Buffer("dy", "in", n_outputs), Buffer("dx", "out", n_inputs),
         Buffer("dparams", "inout", g.n_params)))
    native = 1 if scalar else native
    tables: dict[str, Table] = {}
    funcs = []
    for title, schedule, wide in (("backward", plan.backward, 0),
                                  ("backward_batch", plan.backward_batch,
                                   lanes(native, dtype))):
        if not vjp or schedule is None:
            continue
        form = sweep(schedule, plan, dtype, numerics, tables, native, recompute, registers)
        size = np.dtype(DTYPES[dtype]).itemsize * (CHUNK if wide else 1)
        if not (isinstance(form, Tabled) and not recompute and 0 < form.n_kept * size <= kept
                and EDGES * form.n_kept <= len(plan.edges)):
            funcs.append(form.function(title, wide, ends))
            continue
        held = Buffer("kept", "in", form.n_kept)
        after = replace(ends, buffers=(*ends.buffers[:2], held, *ends.buffers[2:]))
        back = form.function(f"{title}_kept", wide, after)
        funcs += [form.forward_alone(title.replace("backward", "forward") + "_keep"), back]
    return Module(name, dtype, numerics, tuple(funcs), tuple(tables.values()))
