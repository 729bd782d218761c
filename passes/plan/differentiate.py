"""Gradient functions are wanted of a plan."""

from __future__ import annotations

import numpy as np

from ncc.ir.plan import Plan, Wanted
from ncc.ir.ssa import DTYPES
from ncc.machine.model import EDGES_TO_KEEP
from ncc.scalar.sum_order import CHUNK


def differentiate(plan: Plan, *, vjp: bool = True, recompute: int = 0, kept: int = 0,
                  dtype: str = "f32") -> Plan:
    """Ask for the backward functions whose form the plan has.

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
        plan 3 neurons, 1 rows, 2 edges, 2 packed
        functions pack, forward, forward_batch, backward, backward_batch
        ...

    Where a function would keep more than `recompute` bytes of values in `work` (0: no limit), they
    are computed again by blocks of the net. Without `vjp` they are not asked for, for those who
    train and want no gradient of their own. Beside `each` stands each_backward: the gradients of
    each sample, not summed.

    A caller that wants y first and the gradients then says how many bytes of a chunk of samples may
    be `kept` between. In the place of `backward` stand then `forward_keep`, which makes y and
    `kept`, and `backward_kept`, which reads it and may do so again; and forward_batch_keep and
    backward_batch_kept in that of `backward_batch`: in the form `table` of one block, where sums
    are so long that to keep one takes less than to make it again.

    Where `group` was asked for a form of Jacobians, that of a sample is wanted, and of several.
    """
    if plan.jacobian is not None:
        plan = plan.wanting(Wanted("jacobian"), Wanted("jacobian_batch"))
    if plan.each is not None and plan.backward_batch is not None:
        plan = plan.wanting(Wanted("each_backward"))
    if not vjp:
        return plan
    names: list[str] = []
    for suffix, schedule, samples in (("", plan.backward, 1),
                                      ("_batch", plan.backward_batch, CHUNK)):
        if schedule is None:
            continue
        size = plan.n_kept * samples * np.dtype(DTYPES[dtype]).itemsize
        if (schedule.form != "straight" and not recompute and 0 < size <= kept
                and EDGES_TO_KEEP * plan.n_kept <= len(plan.edges)):
            names += [f"forward{suffix}_keep", f"backward{suffix}_kept"]
        else:
            names.append(f"backward{suffix}")
    return plan.wanting(*[Wanted(name, recompute=recompute) for name in names])
