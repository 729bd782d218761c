"""A step of training over images: loss, gradients, optimizer."""

from __future__ import annotations

from typing import Any

from ncc.images.image import AT as IMAGE_AT
from ncc.images.image_back import AT
from ncc.images.kinds import Kinds
from ncc.ir.ssa import OPEN, Buffer, Func, Module
from ncc.ir.ssa_build import Builder
from ncc.passes.lower import update
from ncc.passes.lower.data.backward import IMAGES, Back, elementwise
from ncc.scalar import losses, optimizers
from ncc.scalar.losses import Loss
from ncc.scalar.optimizers import Optimizer


def training(kinds: Kinds, loss: str, optimizer: str, *, name: str = "net", dtype: str = "f32",
             numerics: str = "fused", lanes_back: int = 64, unroll: int = 8, native: int = 16,
             apart: bool = True) -> Module:
    """Write the functions of a step of training of a net whose rows are of these kinds. They take
    its image (ncc/images/image.py) and that of its way back (ncc/images/image_back.py).

        sum relu(x)
        =>
        func gradient_batch(count, image indices *, ..., dparams inout *, loss inout 1, ...) {
          ...                 dparams and loss grow by those of the samples, as in compiled nets
        }
        func update(back indices *, params inout *, dparams inout *, state inout *, lr value 1, ...
          ...                 params and state after the step; dparams are 0 then
        }
        func pack(back indices *, image indices *, params in *, reals inout *) {
          ...                 the parameters, and constants behind them, to their places in reals
        }

    or, unless `apart`, one function that does all of that, with the loss in state[0]:

        func train_step_batch(count, image indices *, ..., target in *, params inout *, ...) {
          ...
        }
    """
    fused, ready = numerics != "strict", optimizers.parse(optimizer)
    how = (kinds, losses.parse(loss), dtype, fused, lanes_back, unroll, max(4, native))
    if not apart:
        return Module(name, dtype, numerics, (_Step(ready, *how).function(),))
    return Module(name, dtype, numerics, (
        _Gradient(*how).function(), _update(Builder(dtype, fused), ready, lanes_back),
        _pack(Builder(dtype, fused), lanes_back)))


class _Gradient(Back):
    """A backward pass whose adjoints of the outputs come of a loss."""

    name = "gradient_batch"
    total = "loss"  # the buffer that the loss is added to

    def __init__(self, kinds: Kinds, loss: Loss, dtype: str, fused: bool, lanes: int, unroll: int,
                 wide: int) -> None:
        super().__init__(kinds, dtype, fused, lanes, unroll, wide)
        self.of_loss = loss

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return (Buffer("x", "in", OPEN), Buffer("target", "in", OPEN),
                Buffer("dparams", "inout", OPEN), Buffer("loss", "inout", 1))

    def begin_chunk(self) -> None:
        self.b.store(self.b.const(0.0), "gradient", 0, self.loss)

    def end_chunk(self) -> None:
        b = self.b
        more = b.load("gradient", 0, self.loss)
        b.store(b.op("add", b.load(self.total, 0), more), self.total, 0)

    def seeds(self) -> None:
        b, loss, zero, end = self.b, self.of_loss, self.zero, self.n_out

        def place(k: int) -> tuple[str, int]:
            return "work", b.op("iadd", self.at["work_seeds"], k)

        def output(k: int) -> int:
            return self.element(b.load("image", 0, b.op("iadd", self.outs, k)))

        if loss.name == "ce":
            label = b.load("target", 0, self.sample)
            update.adjoints_of_class(b, zero, end, label, output, place, self.add_loss)
            return
        row = b.op("imul", self.sample, self.n_out)
        k = b.loop(zero, end)[0]
        b.store(b.load("target", 0, b.op("iadd", row, k)), "work", 0, place(k)[1])
        b.close()
        self.add_loss(update.adjoints(b, loss, zero, end, output, place))

    def add_loss(self, value: int) -> None:
        b = self.b
        b.accumulate(b.op("mask", value), b.const(1.0), "gradient", 0, self.loss)


class _Step(_Gradient):
    """The gradient, and the optimizer's update by it."""

    name = "train_step_batch"
    total = "state"
    images = (*IMAGES[:2], Buffer("reals", "inout", OPEN))

    def __init__(self, optimizer: Optimizer, *how: Any) -> None:
        super().__init__(*how)
        self.optimizer = optimizer

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return (Buffer("x", "in", OPEN), Buffer("target", "in", OPEN),
                Buffer("params", "inout", OPEN), Buffer("state", "inout", OPEN),
                Buffer("lr", "value", 1), Buffer("dparams", "inout", OPEN))

    def begin(self) -> None:
        b = self.b
        elementwise(b, self.lanes, self.at["n_params"],
                    lambda k: b.store(b.const(0.0), "dparams", 0, k))
        b.store(b.const(0.0), "state", 0)

    def finish(self) -> None:
        b = self.b
        scale = b.const(1.0)
        if self.of_loss.name != "ce":
            scale = b.op("div", scale, b.op("real", self.n_out))
        count = b.op("max", b.op("real", b.emit("count")), b.const(1.0))
        scale = b.op("div", scale, count)
        b.store(b.op("mul", b.load("state", 0), scale), "state", 0)
        _updated(b, self.optimizer, self.at["n_params"], scale, self.lanes)
        _packed(b, self.forward.reals(b, self.zero, "biases"), self.at["reals"],
                self.at["n_reals"], self.lanes)


def _update(b: Builder, optimizer: Optimizer, lanes: int) -> Func:
    _updated(b, optimizer, b.load("back", AT["n_params"]), b.load("scale", 0), lanes)
    return Func("update", (
        Buffer("back", "indices", OPEN), Buffer("params", "inout", OPEN),
        Buffer("dparams", "inout", OPEN), Buffer("state", "inout", OPEN), Buffer("lr", "value", 1),
        Buffer("scale", "value", 1)), b.ops)


def _updated(b: Builder, optimizer: Optimizer, n: int, scale: int, lanes: int) -> None:
    """The n parameters and the state after the step; dparams are 0 then."""
    shared = update.begin(b, optimizer)
    apart = [b.op("imul", n, b.index(s)) for s in range(optimizer.slots)]
    elementwise(b, lanes, n, lambda k: update.element(b, optimizer, k, scale, shared, [
        (1 + optimizer.scalars, b.op("iadd", far, k)) for far in apart]))


def _pack(b: Builder, lanes: int) -> Func:
    _packed(b, b.load("image", IMAGE_AT["biases"]), b.load("back", AT["reals"]),
            b.load("back", AT["n_reals"]), lanes)
    return Func("pack", (Buffer("back", "indices", OPEN), Buffer("image", "indices", OPEN),
                         Buffer("params", "in", OPEN), Buffer("reals", "inout", OPEN)), b.ops)


def _packed(b: Builder, first: int, numbers: int, count: int, lanes: int) -> None:
    """The image's reals, from number `first` on, of what its way back says."""

    def one(k: int) -> None:
        value = b.load("params", 0, b.load("back", 0, b.op("iadd", numbers, k)))
        b.store(value, "reals", 0, b.op("iadd", first, k))

    elementwise(b, lanes, count, one)
