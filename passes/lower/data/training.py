"""A step of training over images: loss, gradients, optimizer."""

from __future__ import annotations

from ncc.ir.image import AT as IMAGE_AT
from ncc.ir.image_back import AT
from ncc.ir.kinds import Kinds
from ncc.ir.ssa import OPEN, Buffer, Func, Module
from ncc.ir.ssa_build import Builder
from ncc.passes.lower import update
from ncc.passes.lower.data.backward import Back, elementwise
from ncc.scalar import losses, optimizers
from ncc.scalar.losses import Loss
from ncc.scalar.optimizers import Optimizer


def training(kinds: Kinds, loss: str, optimizer: str, *, name: str = "net", dtype: str = "f32",
             numerics: str = "fused", lanes_back: int = 64, unroll: int = 8, native: int = 16
             ) -> Module:
    """Write the functions of a step of training of a net whose rows are of these kinds. They take
    its image (ncc/ir/image.py) and that of its way back (ncc/ir/image_back.py).

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
    """
    made = _Gradient(kinds, losses.parse(loss), dtype, numerics != "strict", lanes_back, unroll,
                     max(4, native))
    ready = optimizers.parse(optimizer)
    return Module(name, dtype, numerics, (
        made.function(), _update(Builder(dtype, numerics != "strict"), ready, lanes_back),
        _pack(Builder(dtype, numerics != "strict"), lanes_back)))


class _Gradient(Back):
    """A backward pass whose adjoints of the outputs come of a loss."""

    name = "gradient_batch"

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
        b.store(b.op("add", b.load("loss", 0), b.load("gradient", 0, self.loss)), "loss", 0)

    def seeds(self) -> None:
        b, loss, zero, end = self.b, self.of_loss, self.zero, self.n_out

        def place(k: int) -> tuple[str, int]:
            return "work", b.op("iadd", self.at["work_seeds"], k)

        def output(k: int) -> int:
            return self.element(b.load("image", 0, b.op("iadd", self.outs, k)))

        if loss.name == "ce":
            label = b.load("target", 0, self.sample)
            update.slopes_of_class(b, zero, end, label, output, place, self.add_loss)
            return
        row = b.op("imul", self.sample, self.n_out)
        k = b.loop(zero, end)[0]
        b.store(b.load("target", 0, b.op("iadd", row, k)), "work", 0, place(k)[1])
        b.close()
        self.add_loss(update.slopes(b, loss, zero, end, output, place))

    def add_loss(self, value: int) -> None:
        b = self.b
        b.accumulate(b.op("mask", value), b.const(1.0), "gradient", 0, self.loss)


def _update(b: Builder, optimizer: Optimizer, lanes: int) -> Func:
    n, scale = b.load("back", AT["n_params"]), b.load("scale", 0)
    shared = update.begin(b, optimizer)
    apart = [b.op("imul", n, b.index(s)) for s in range(optimizer.slots)]

    def one(k: int) -> None:
        update.element(b, optimizer, k, scale, shared, [
            (1 + optimizer.scalars, b.op("iadd", far, k)) for far in apart])

    elementwise(b, lanes, n, one)
    return Func("update", (
        Buffer("back", "indices", OPEN), Buffer("params", "inout", OPEN),
        Buffer("dparams", "inout", OPEN), Buffer("state", "inout", OPEN), Buffer("lr", "value", 1),
        Buffer("scale", "value", 1)), b.ops)


def _pack(b: Builder, lanes: int) -> Func:
    first, places = b.load("image", IMAGE_AT["biases"]), b.load("back", AT["reals"])

    def one(k: int) -> None:
        value = b.load("params", 0, b.load("back", 0, b.op("iadd", places, k)))
        b.store(value, "reals", 0, b.op("iadd", first, k))

    elementwise(b, lanes, b.load("back", AT["n_reals"]), one)
    return Func("pack", (Buffer("back", "indices", OPEN), Buffer("image", "indices", OPEN),
                         Buffer("params", "in", OPEN), Buffer("reals", "inout", OPEN)), b.ops)
