"""A step of training: loss, gradients, optimizer."""

from __future__ import annotations

import numpy as np

from ncc.ir.plan import Plan
from ncc.ir.ssa import UNLINKED, Buffer, Func
from ncc.ir.ssa_build import Builder
from ncc.passes.lower import update
from ncc.passes.lower.arrays import moves
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.backward import backward_pass
from ncc.passes.lower.packing import copy_tiles
from ncc.passes.lower.reverse.frame import Backward, Ends, lanes
from ncc.passes.lower.reverse.loops import Loops
from ncc.passes.lower.reverse.unrolled import Unrolled
from ncc.passes.lower.sample.single import Single
from ncc.scalar import losses, optimizers
from ncc.scalar.losses import Loss
from ncc.scalar.optimizers import Optimizer


def functions(plan: Plan, tables: Tables, *, dtype: str, numerics: str, native: int, registers: int,
              provenance: bool) -> list[Func]:
    """Of train_step, train_step_batch, gradient_batch and update those that the plan names: what
    they do, passes/plan/train.py says. Their backward passes are those of gradients, seeded by the
    loss, not the caller's dy."""
    funcs: list[Func] = []
    wide = lanes(native, dtype)
    for wanted in plan.functions:
        if not wanted.loss:
            continue
        if not funcs:
            tables.begin()
        step = _Step(plan, losses.parse(wanted.loss), optimizers.parse(wanted.optimizer), wide)
        if wanted.name == "update":
            funcs.append(step.update(Builder(dtype, numerics != "strict")))
            continue
        form = backward_pass(wanted, plan, dtype, numerics, tables, native, registers, provenance)
        ends = step.gradient() if wanted.name == "gradient_batch" else step.step()
        funcs.append(form.function(wanted.name, wide if wanted.batch else 0, ends))
    return funcs


class _Step:
    def __init__(self, plan: Plan, loss: Loss, optimizer: Optimizer, lanes: int) -> None:
        self.plan = plan
        self.loss = loss
        self.optimizer = optimizer
        self.lanes = lanes
        g = plan.graph
        self.n_params = g.n_params
        self.n_targets = losses.targets(loss, len(g.outputs))
        self.divisor = losses.scale(loss, len(g.outputs))
        self.x = Buffer("x", "in", len(g.inputs))
        self.target = Buffer("target", "in", self.n_targets)
        # The loss of the last step stands before what the optimizer keeps.
        self.state = Buffer("state", "inout", 1 + optimizers.state_size(optimizer, self.n_params))

    # -- the functions

    def gradient(self) -> Ends:
        return Ends((self.x, self.target, Buffer("packed", "in", len(self.plan.packed)),
                     Buffer("dparams", "inout", self.n_params), Buffer("loss", "inout", 1)),
                    None, self.seed, self.loops, None, fresh=True)

    def step(self) -> Ends:
        return Ends((self.x, self.target, Buffer("params", "inout", self.n_params),
                     Buffer("packed", "inout", len(self.plan.packed)), self.state,
                     Buffer("lr", "value", 1)), self.begin, self.seed, self.loops, self.finish,
                    fresh=True)

    def update(self, b: Builder) -> Func:
        self.updated(b, b.load("scale", 0))
        return Func("update", (Buffer("params", "inout", self.n_params),
                               Buffer("dparams", "inout", self.n_params), self.state,
                               Buffer("lr", "value", 1), Buffer("scale", "value", 1)), b.ops)

    # -- around the backward pass

    def begin(self, backward: Backward) -> None:
        b = backward.b
        backward.memory("dparams", self.n_params, shared=True)
        backward.zero("dparams", self.n_params)
        b.store(b.const(0.0), "state", 0)

    def finish(self, backward: Backward) -> None:
        b = backward.b
        scale = b.const(1.0 / self.divisor)
        if backward.lanes:
            count = b.op("max", b.op("real", b.emit("count")), b.const(1.0))
            scale = b.op("div", scale, count)
        b.store(b.op("mul", b.load("state", 0), scale), "state", 0)
        self.updated(b, scale)
        self.packed_anew(backward)

    def packed_anew(self, backward: Backward) -> None:
        """`packed`, from params: tiles, and what lies otherwise one by one."""
        b, plan = backward.b, self.plan
        left = copy_tiles(b, plan, backward.native if backward.lanes else 1, backward.table)
        to = np.flatnonzero(left)
        moves.each(b, backward.table, "pack", {"from": plan.packed[to], "to": to},
                   lambda slot, at: b.store(b.load("params", 0, slot), "packed", 0, at))

    def updated(self, b: Builder, scale: int) -> None:
        """params and state after the step, of dparams, which become 0."""
        optimizer, n = self.optimizer, self.n_params
        shared = update.begin(b, optimizer)
        first = 1 + optimizer.scalars
        whole = n // self.lanes * self.lanes if self.lanes > 1 else 0
        for lo, hi, wide in ((0, whole, self.lanes), (whole, n, 0)):
            if lo == hi:
                continue
            k = b.loop(b.index(lo), b.index(hi), lanes=wide)[0]
            update.element(b, optimizer, k, scale, shared, [
                (first + s * n, k) for s in range(optimizer.slots)])
            b.close()

    # -- seeds

    def targets(self, backward: Backward, k: int) -> int:
        """The target number k, an index or a number of the sample's row."""
        row = backward.times_sample(self.n_targets)
        return backward.b.load("target", 0, backward.offset(row, k))

    def seed(self, backward: Unrolled, ys: list[int]) -> list[int]:
        b, loss = backward.b, self.loss
        outputs = backward.g.outputs.tolist()
        if loss.name != "ce":
            pairs = []
            for k, j in enumerate(outputs):
                b.neuron = j
                pairs.append(losses.element(b, loss, ys[k], self.targets(backward, b.index(k))))
            total = b.const(0.0)
            for j, (value, _) in zip(outputs, pairs, strict=True):
                b.neuron = j
                total = b.op("add", total, value)
            b.neuron = UNLINKED
            backward.add_loss(total)
            return [d for _, d in pairs]
        label = self.targets(backward, b.index(0))
        top = chosen = ys[0]
        numbers = [b.const(float(k)) for k in range(len(ys))]
        for j, y, number in zip(outputs[1:], ys[1:], numbers[1:], strict=True):
            b.neuron = j
            top = losses.ce_top(b, top, y)
            chosen = losses.ce_gather(b, chosen, y, number, label)
        terms = []
        for j, y in zip(outputs, ys, strict=True):
            b.neuron = j
            terms.append(losses.ce_term(b, y, top))
        total = b.const(0.0)
        for j, term in zip(outputs, terms, strict=True):
            b.neuron = j
            total = b.op("add", total, term)
        b.neuron = UNLINKED
        backward.add_loss(losses.ce_loss(b, total, top, chosen))
        adjoints = []
        for j, term, number in zip(outputs, terms, numbers, strict=True):
            b.neuron = j
            adjoints.append(losses.ce_derivative(b, term, total, number, label))
        return adjoints

    def loops(self, backward: Loops | Single) -> None:
        b, loss = backward.b, self.loss
        zero, end = b.index(0), b.index(backward.n_outputs)

        def output(k: int) -> int:
            """The value of output number k."""
            return b.load("values", 0, backward.output_place("output_places", k))

        def place(k: int) -> tuple[str, int]:
            """Where the adjoint of output number k is to be."""
            return "seeds", backward.output_place("seed_ranks", k)

        if loss.name != "ce":
            backward.seed("target")
            backward.add_loss(update.adjoints(b, loss, zero, end, output, place))
            return
        label = self.targets(backward, zero)
        update.adjoints_of_class(b, zero, end, label, output, place, backward.add_loss)
