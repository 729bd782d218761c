"""What training steps of every form share: a loss as loops over outputs, an optimizer's update."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ncc.ir.ssa_build import Builder
from ncc.scalar import losses, optimizers
from ncc.scalar.losses import Loss
from ncc.scalar.optimizers import Optimizer

Output = Callable[[int], int]  # its value, by its number
Place = Callable[[int], tuple[str, int]]  # where its adjoint is: a buffer, an index


def adjoints(b: Builder, loss: Loss, zero: int, end: int, output: Output, place: Place) -> int:
    """The adjoints of the outputs zero .. end-1, in whose places are their targets; their loss."""
    k, total = b.loop(zero, end, [b.const(0.0)])
    name, seed = place(k)
    value, d = losses.element(b, loss, output(k), b.load(name, 0, seed))
    b.store(d, name, 0, seed)
    return b.close(b.op("add", total, value))[0]


def adjoints_of_class(b: Builder, zero: int, end: int, label: int, output: Output, place: Place,
                    add_loss: Callable[[int], None]) -> None:
    """The same of `ce`, whose target is one class, `label`; the loss goes to `add_loss`."""
    first = output(zero)
    k, top, chosen = b.loop(zero, end, [first, first])
    y = output(k)
    top, chosen = b.close(losses.ce_top(b, top, y),
                          losses.ce_gather(b, chosen, y, b.op("real", k), label))
    k, total = b.loop(zero, end, [b.const(0.0)])
    term = losses.ce_term(b, output(k), top)
    name, seed = place(k)
    b.store(term, name, 0, seed)
    (total,) = b.close(b.op("add", total, term))
    add_loss(losses.ce_loss(b, total, top, chosen))
    k = b.loop(zero, end)[0]
    name, seed = place(k)
    adjoint = losses.ce_derivative(b, b.load(name, 0, seed), total, b.op("real", k), label)
    b.store(adjoint, name, 0, seed)
    b.close()


def begin(b: Builder, optimizer: Optimizer) -> Sequence[int]:
    """What all parameters share in an update, of the scalars in `state`, which are moved on."""
    lr = b.load("lr", 0)
    held = [b.load("state", 1 + k) for k in range(optimizer.scalars)]
    held_after, shared = optimizers.begin(b, optimizer, held, lr)
    for k, value in enumerate(held_after):
        b.store(value, "state", 1 + k)
    return shared


def element(b: Builder, optimizer: Optimizer, k: int, scale: int, shared: Sequence[int],
            places: Sequence[tuple[int, int]]) -> None:
    """Parameter k, and its reals of `state`, which are in `places` (offset, index), after an update
    by its gradient times `scale`; the gradient becomes 0."""
    g = b.op("mul", b.load("dparams", 0, k), scale)
    slots = [b.load("state", *place) for place in places]
    w, slots_after = optimizers.element(b, optimizer, b.load("params", 0, k), g, slots, shared)
    b.store(w, "params", 0, k)
    for place, value in zip(places, slots_after, strict=True):
        b.store(value, "state", *place)
    b.store(b.const(0.0), "dparams", 0, k)
