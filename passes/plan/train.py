"""A step of training is wanted of a plan."""

from __future__ import annotations

from ncc.ir.plan import Plan, Wanted
from ncc.scalar import losses, optimizers


def train(plan: Plan, *, loss: str = "", optimizer: str = "", apart: bool = False,
          recompute: int = 0) -> Plan:
    """Ask for a step of training with a loss and an optimizer, by their texts; nothing without
    them, or where `group` was not asked for gradients.

        // loss=mse optimizer=rmsprop
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
        functions pack, forward, forward_batch, train_step{loss=mse,optimizer=rmsprop...
        ...

    train_step, train_step_batch    loss and gradients of one sample or of n, the update of
                                    `params`, and `packed` made anew; state[0] is the step's mean
                                    loss, before the update
    where they are wanted `apart`:
    gradient_batch                  makes of `dparams`, which are 0, the gradients of n samples'
                                    losses, unless that is NULL, and adds the losses to loss[0],
                                    not divided by n
    update                          one update of `params` by scale * dparams, which become 0

    `recompute` as in `differentiate`.
    """
    if not (loss and optimizer) or plan.backward is None or plan.backward_batch is None:
        return plan
    of_loss, of_optimizer = str(losses.parse(loss)), str(optimizers.parse(optimizer))
    names = ("gradient_batch", "update") if apart else ("train_step", "train_step_batch")
    return plan.wanting(*[Wanted(name, recompute, of_loss, of_optimizer) for name in names])
