"""The forward pass over images, which are arguments."""

from __future__ import annotations

from ncc.images.image import AT
from ncc.ir.ssa import DTYPES, OPEN, Buffer, Func
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.data.rows import Rows
from ncc.scalar.derivative import reads_argument

# Before the places of the images in `nets`, in words each: how many there are, their inputs, their
# outputs.
NETS = 3


class Forward:
    """The forward pass of one engine."""

    def __init__(self, rows: Rows) -> None:
        self.of = rows
        self.kinds, self.dtype, self.fused = rows.kinds, rows.dtype, rows.fused

    def forward(self, name: str, lanes: int) -> Func:
        """y of the same x, of each net: y (nets, samples, outputs), x (samples, inputs), row-major.
        `nets` are how many there are, their inputs, their outputs, and then where the image of each
        begins, in words; `image` and `reals` are the same memory, as words and as reals. `work` has
        a place for each value of a net, inputs and rows, in each lane."""
        b = Builder(self.dtype, self.fused)
        n_nets, n_in, n_out = [b.load("nets", k) for k in range(NETS)]
        sample, count = None, b.index(1)
        if lanes:
            count = b.emit("count")
            sample = b.loop(b.index(0), count, lanes=lanes)[0]
        row_of_x = None if sample is None else b.op("imul", sample, n_in)
        k = b.loop(b.index(0), n_in)[0]
        b.store(b.load("x", 0, k if row_of_x is None else b.op("iadd", row_of_x, k)), "work", 0, k)
        b.close()
        net = b.loop(b.index(0), n_nets)[0]
        head = b.load("nets", NETS, net)
        self.rows(b, head, n_in)
        y = b.op("imul", b.op("imul", net, count), n_out)
        if sample is not None:
            y = b.op("iadd", b.op("imul", sample, n_out), y)
        outs = self.word(b, head, "outs")
        o = b.loop(b.index(0), n_out)[0]
        value = b.load("work", 0, b.load("image", 0, b.op("iadd", outs, o)))
        b.store(value, "y", 0, b.op("iadd", y, o))
        b.close()
        b.close()
        if lanes:
            b.close()
        buffers = (Buffer("nets", "indices", OPEN), Buffer("image", "indices", OPEN),
                   Buffer("reals", "in", OPEN), Buffer("x", "in", OPEN), Buffer("y", "out", OPEN),
                   Buffer("work", "private" if lanes else "work", OPEN))
        return Func(name, buffers, b.ops, counted=bool(lanes))

    def word(self, b: Builder, head: int, name: str) -> int:
        """Where a part of words begins, of an image that begins at `head`."""
        return b.op("iadd", head, b.load("image", AT[name], head))

    def reals(self, b: Builder, head: int, name: str) -> int:
        """Where a part of reals begins, in reals."""
        words = DTYPES[self.dtype]().itemsize // 4
        at = head if words == 1 else b.op("idiv", head, b.index(words))
        return b.op("iadd", at, b.load("image", AT[name], head))

    def rows(self, b: Builder, head: int, n_in: int, sums: int | None = None) -> None:
        """The rows of an image, level by level, and in a level kind by kind; the argument of row
        r's activation to element sums + r of `work`, where its derivative reads that."""
        many = len(self.kinds.kinds)
        bounds = self.word(b, head, "bounds")
        parts = (self.word(b, head, "starts"), self.word(b, head, "sources"),
                 self.reals(b, head, "biases"), self.reals(b, head, "weights"))
        level = b.loop(b.index(0), b.load("image", AT["levels"], head))[0]
        at = b.op("iadd", bounds, b.op("imul", level, b.index(many)))
        for k in range(many):
            row = b.loop(b.load("image", k, at), b.load("image", k + 1, at))[0]
            total = self.argument(b, k, row, parts)
            if sums is not None and reads_argument(self.of.programs[k]):
                b.store(total, "work", 0, b.op("iadd", sums, row))
            b.store(self.of.activated(b, k, total), "work", 0, b.op("iadd", n_in, row))
            b.close()
        b.close()

    def argument(self, b: Builder, number: int, row: int, parts: tuple[int, int, int, int]) -> int:
        """The argument of a row's activation."""
        starts, sources, biases, weights = parts
        at = b.op("iadd", starts, row)
        first, last = b.load("image", 0, at), b.load("image", 1, at)
        bias = b.load("reals", 0, b.op("iadd", biases, row))

        def edge(e: int) -> tuple[int, int]:
            source = b.load("image", 0, b.op("iadd", sources, e))
            return b.load("work", 0, source), b.load("reals", 0, b.op("iadd", weights, e))

        def count() -> int:
            return b.op("real", b.op("iadd", last, b.op("imul", first, b.index(-1))))

        return self.of.argument(b, number, first, last, bias, count, edge)
