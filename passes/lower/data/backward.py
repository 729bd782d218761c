"""The way back over an image: gradients, in the order of ncc/scalar/sum_order.py."""

from __future__ import annotations

from collections.abc import Callable

from ncc.images.image import AT as IMAGE_AT
from ncc.images.image_back import AT
from ncc.images.kinds import Kind, Kinds
from ncc.ir.ssa import OPEN, Buffer, Func
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.data.forward import Forward
from ncc.passes.lower.data.rows import Rows
from ncc.scalar.aggregations import PAIRS, PLAIN_SUMS, divisor_part, start, step, taken
from ncc.scalar.derivative import derivative_at, reads_argument, tame, times
from ncc.scalar.sum_order import CHUNK, ROUND

IMAGES = (Buffer("image", "indices", OPEN), Buffer("back", "indices", OPEN),
          Buffer("reals", "in", OPEN))
# What a call wants memory for: sums over the samples, weights by reader, values of each sample.
MEMORY = (Buffer("gradient", "inout", OPEN), Buffer("by_reader", "inout", OPEN),
          Buffer("work", "private", OPEN))
FEW = 4  # kinds: so many loops gather their own adjoints, which is 3 % faster


def elementwise(b: Builder, lanes: int, count: int, body: Callable[[int], None]) -> None:
    """The body for each k below count, which is only known at run time: in whole vectors, whose
    elements lie side by side, and then one by one."""
    rounds = b.op("idiv", count, b.index(lanes))
    first = b.op("imul", b.loop(b.index(0), rounds)[0], b.index(lanes))
    body(b.op("iadd", first, b.loop(b.index(0), b.index(lanes), lanes=lanes)[0]))
    b.close()
    b.close()
    body(b.loop(b.op("imul", rounds, b.index(lanes)), count)[0])
    b.close()


class Back:
    """A backward pass over the image of one net (ncc/images/image.py) and that of its way back
    (ncc/images/image_back.py), in rounds of `lanes` samples, `unroll` edges at a time, sums of
    `wide` neighbouring elements at once.

    A value is an element of `work`; its row's delta is written over it when all its readers have
    been there. Subclasses say what the adjoints of the outputs are (`seeds`), and may begin and end
    with ops of their own.

    ValueError where the lanes are no whole rounds of sums: chains of single samples, for machines
    without vectors, are not kept.
    """

    name = "backward_batch"
    images = IMAGES

    def __init__(self, kinds: Kinds, dtype: str, fused: bool, lanes: int, unroll: int, wide: int
                 ) -> None:
        if lanes % ROUND[dtype]:
            raise ValueError(f"{lanes} lanes are no whole rounds of sums")
        self.forward = Forward(Rows(kinds, dtype, fused))
        self.kinds = kinds
        self.b = Builder(dtype, fused)
        self.lanes = lanes
        self.unroll = unroll
        self.wide = wide

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        return (Buffer("x", "in", OPEN), Buffer("dy", "in", OPEN), Buffer("dx", "out", OPEN),
                Buffer("dparams", "inout", OPEN))

    def function(self) -> Func:
        b = self.b
        self.has_dx = any(buffer.name == "dx" for buffer in self.buffers)
        zero = self.zero = b.index(0)
        word = self.forward.word
        self.n_in, self.n_out, self.levels = [
            b.load("image", IMAGE_AT[name]) for name in ("inputs", "outputs", "levels")]
        self.bounds, self.starts, self.sources, self.outs = [
            word(b, zero, name) for name in ("bounds", "starts", "sources", "outs")]
        self.weights = self.forward.reals(b, zero, "weights")
        self.at = {name: b.load("back", k) for name, k in AT.items() if k > AT["unroll"]}
        self.biases = self.at["n_edges"]  # elements
        self.loss = b.op("iadd", self.biases, b.load("image", IMAGE_AT["rows"]))
        self.wanted = b.emit("given", (), "dparams")
        self.begin()
        elementwise(b, self.lanes, self.at["n_edges"], self.reorder)
        self.chunks()
        self.finish()
        return Func(self.name, (*self.images, *self.buffers, *MEMORY), b.ops, counted=True)

    def reorder(self, k: int) -> None:
        """The weight of edge k of the lists, where it is read from end to end."""
        b = self.b
        b.store(b.load("reals", 0, self.entry("edges", k)), "by_reader", 0, k)

    # -- the image

    def entry(self, name: str, index: int, offset: int = 0) -> int:
        """Word index + offset of a part of the way back's image."""
        return self.b.load("back", offset, self.b.op("iadd", self.at[name], index))

    def list(self, name: str, index: int) -> tuple[int, int]:
        """Where a list begins and ends."""
        return self.entry(name, index), self.entry(name, index, 1)

    def element(self, index: int) -> int:
        return self.b.load("work", 0, index)

    def masked(self, index: int) -> int:
        """An element, and +0 in inactive lanes: 0 times what is infinite is no 0."""
        return self.b.op("mask", self.element(index))

    # -- chunks of samples

    def begin(self) -> None: ...

    def begin_chunk(self) -> None: ...

    def end_chunk(self) -> None: ...

    def finish(self) -> None: ...

    def chunks(self) -> None:
        b, zero = self.b, self.zero
        count, size = b.emit("count"), b.index(CHUNK)
        many = b.op("idiv", b.op("iadd", count, b.index(CHUNK - 1)), size)
        chunk = b.loop(zero, many)[0]
        lo = b.op("imul", chunk, size)
        hi = b.op("imin", b.op("iadd", lo, size), count)
        self.only_if(self.wanted)
        self.clear()
        b.close()
        self.begin_chunk()
        self.sample = b.loop(lo, hi, lanes=self.lanes)[0]
        self.body()
        b.close()
        self.only_if(self.wanted)
        self.added()
        b.close()
        self.end_chunk()
        b.close()

    def clear(self) -> None:
        """Elements before a chunk: 0, and -0 in the one that nothing is added to."""
        b = self.b
        elementwise(b, self.lanes, self.at["n_elements"],
                  lambda k: b.store(b.const(0.0), "gradient", 0, k))
        b.store(b.const(-0.0), "gradient", 0, self.at["n_elements"])

    def added(self) -> None:
        """dparams += gradient, from its elements to parameters."""
        b = self.b

        def add(k: int) -> None:
            more = b.load("gradient", 0, self.entry("elements", k))
            b.store(b.op("add", b.load("dparams", 0, k), more), "dparams", 0, k)

        elementwise(b, self.lanes, self.at["n_params"], add)
        k = b.op("imul", b.loop(self.zero, self.at["n_tied"])[0], b.index(2))
        i, total = b.loop(self.entry("tied", k), self.entry("tied", k, 2), [b.const(0.0)])
        more = b.load("gradient", 0, self.entry("tied_elements", i))
        (total,) = b.close(b.op("add", total, more))
        to = self.entry("tied", k, 1)
        b.store(b.op("add", b.load("dparams", 0, to), total), "dparams", 0, to)
        b.close()

    # -- a sample

    def body(self) -> None:
        b = self.b
        row_of_x = b.op("imul", self.sample, self.n_in)
        k = b.loop(self.zero, self.n_in)[0]
        b.store(b.load("x", 0, b.op("iadd", row_of_x, k)), "work", 0, k)
        b.close()
        self.forward.rows(b, self.zero, self.n_in, self.at["work_sums"])
        self.seeds()
        if not self.has_dx:  # then the way back is for dparams alone
            self.only_if(self.wanted)
        t = b.loop(self.zero, self.levels)[0]
        level = self.from_last(t, self.levels)
        self.level_back(level)
        b.close()
        self.inputs_back(row_of_x)
        if not self.has_dx:
            b.close()

    def seeds(self) -> None:
        """The adjoints of the outputs, to their elements."""
        b = self.b
        row_of_y = b.op("imul", self.sample, self.n_out)
        k = b.loop(self.zero, self.n_out)[0]
        d = b.load("dy", 0, b.op("iadd", row_of_y, k))
        b.store(d, "work", 0, b.op("iadd", self.at["work_seeds"], k))
        b.close()

    def level_back(self, level: int) -> None:
        b, many = self.b, len(self.kinds.kinds)
        at = b.op("iadd", self.bounds, b.op("imul", level, b.index(many)))
        rows = [b.load("image", k, at) for k in range(many + 1)]
        first, last = [b.op("iadd", self.n_in, rows[k]) for k in (0, many)]
        self.left_over(first, last, b.op("iadd", level, b.index(1)))
        # Of many kinds adjoints come first, by code that all share; to element pulled + row.
        pulled = b.op("iadd", self.at["work_pulled"], b.op("imul", rows[0], b.index(-1)))
        if many > FEW:
            row = b.loop(rows[0], rows[many])[0]
            b.store(self.adjoint(b.op("iadd", self.n_in, row)), "work", 0,
                    b.op("iadd", pulled, row))
            b.close()
        for k, kind in enumerate(self.kinds.kinds):
            row = b.loop(rows[k], rows[k + 1])[0]
            value = b.op("iadd", self.n_in, row)
            adjoint = (self.element(b.op("iadd", pulled, row)) if many > FEW
                       else self.adjoint(value))
            self.follow(kind, row, value, self.delta(k, row, value, adjoint))
            b.close()
            if kind.aggregation in PLAIN_SUMS:
                self.only_if(self.wanted)
                self.in_vectors(rows[k], rows[k + 1], lambda row: (
                    b.op("iadd", self.n_in, row), None), self.biases)
                b.close()

    def inputs_back(self, row_of_x: int) -> None:
        """The gradient of edges from inputs, and dx: the adjoints of the inputs."""
        b = self.b
        self.left_over(self.zero, self.n_in, self.zero)
        if not self.has_dx:
            v = b.loop(self.zero, self.n_in)[0]
            self.gathered(v, self.wanted, b.const(-0.0), gradient=True)
            b.close()
            return
        given = b.emit("given", (), "dx")
        v = b.loop(self.zero, b.op("imul", self.n_in, self.either(self.wanted, given)))[0]
        acc = self.adjoint(v)
        self.only_if(given)
        # What has no term is +0.
        terms = b.op("iadd", self.length("seeds", v), b.op(
            "iadd", self.length("whole", v), self.length("remainders", v)))
        _, acc = b.loop(b.op("imin", terms, b.index(1)), b.index(1), [acc])
        (acc,) = b.close(b.const(0.0))
        b.store(acc, "dx", 0, b.op("iadd", row_of_x, v))
        b.close()
        b.close()

    # -- adjoints

    def adjoint(self, value: int) -> int:
        """The adjoint of a value: its seeds, then its readers' parts times their weights. The
        gradient of the edges of whole iterations goes with it."""
        b = self.b
        k, acc = b.loop(*self.list("seeds", value), [b.const(-0.0)])
        # 0 in inactive lanes, so that all deltas are.
        seed = self.masked(b.op("iadd", self.at["work_seeds"], self.entry("outs", k)))
        (acc,) = b.close(b.op("add", acc, seed))
        acc = self.gathered(value, self.wanted, acc, gradient=True)
        if self.has_dx:
            unwanted = b.op("iadd", b.index(1), b.op("imul", self.wanted, b.index(-1)))
            acc = self.gathered(value, unwanted, acc, gradient=False)
        k, acc = b.loop(*self.list("remainders", value), [acc])
        (acc,) = b.close(self.weighted(k, 0, self.element(self.entry("readers", k)), acc))
        return acc

    def gathered(self, value: int, wanted: int, acc: int, gradient: bool) -> int:
        """acc after the whole iterations of a value's list, if `wanted` is 1."""
        b = self.b
        first, last = self.list("whole", value)
        rounds = b.op("imul", b.op("iadd", last, b.op("imul", first, b.index(-1))), wanted)
        n = self.masked(value) if gradient else 0
        q, acc = b.loop(first, b.op("iadd", first, rounds), [acc])
        at = b.op("imul", q, b.index(self.unroll))
        for i in range(self.unroll):
            d = self.element(self.entry("readers", at, i))
            acc = self.weighted(at, i, d, acc)
            if gradient:
                b.accumulate(d, n, "gradient", i, at)
        return b.close(acc)[0]

    def weighted(self, at: int, i: int, d: int, acc: int) -> int:
        return step(self.b, "sum", acc, d, self.b.load("by_reader", i, at))

    def left_over(self, first: int, last: int, level: int) -> None:
        """The gradients of the edges that read values first .. last-1, those of `level`, that no
        whole iteration has; and of those that are summed in order."""
        b = self.b
        self.only_if(self.wanted)
        self.in_vectors(self.entry("remainders", first), self.entry("remainders", last), lambda k: (
            self.entry("readers", k), self.entry("sources", k)), self.zero)
        k = b.loop(*self.list("ordered", level))[0]
        to = b.op("iadd", self.loss, b.op("iadd", k, b.index(1)))
        b.accumulate(self.element(self.entry("ordered_readers", k)),
                     self.masked(self.entry("ordered_sources", k)), "gradient", 0, to,
                     in_order=True)
        b.close()
        b.close()

    def in_vectors(self, first: int, last: int,
                   pair: Callable[[int], tuple[int, int | None]], to: int) -> None:
        """Add to gradient[to + k], for k in first .. last-1, the product of the elements pair(k),
        None being 1: many neighbours at once, then four, then one by one."""
        b = self.b
        one = b.const(1.0)
        for width in dict.fromkeys((self.wide, 4, 1)):
            left = b.op("iadd", last, b.op("imul", first, b.index(-1)))
            rounds = b.op("idiv", left, b.index(width))
            q = b.loop(self.zero, rounds)[0]
            at = b.op("iadd", first, b.op("imul", q, b.index(width)))
            element = b.op("iadd", to, at)
            made = []
            for i in range(width):
                d, n = pair(b.op("iadd", at, b.index(i)) if i else at)
                made.append((self.element(d), one if n is None else self.masked(n)))
            for i, (d, n) in enumerate(made):
                b.accumulate(d, n, "gradient", i, element)
            b.close()
            first = b.op("iadd", first, b.op("imul", rounds, b.index(width)))

    # -- rows

    def delta(self, number: int, row: int, value: int, d: int) -> int:
        """The delta of a row, of the adjoint d of its value."""
        b, program = self.b, self.forward.of.programs[number]
        total = (self.element(b.op("iadd", self.at["work_sums"], row))
                 if reads_argument(program) else b.const(0.0))
        derivative = derivative_at(program, b, total, self.element(value))
        # 0 in inactive lanes, where 0 times what is infinite is none.
        return b.op("mask", b.op("mul", d, derivative) if tame(program)
                    else times(b, d, derivative))

    def follow(self, kind: Kind, row: int, value: int, d: int) -> None:
        """What follows from the delta d of a row: it, or the parts of its edges, for readers."""
        b, agg = self.b, kind.aggregation
        if agg in PLAIN_SUMS:
            b.store(d, "work", 0, value)
            return
        self.only_if(self.wanted)
        b.accumulate(d, b.const(1.0), "gradient", 0, b.op("iadd", self.biases, row))
        b.close()
        at = b.op("iadd", self.starts, row)
        first, last = b.load("image", 0, at), b.load("image", 1, at)
        edges = b.op("iadd", last, b.op("imul", first, b.index(-1)))
        if agg == "mean":
            b.store(b.op("div", d, b.op("real", edges)), "work", 0, value)
        else:
            way = (self.factors if agg == "mul" else self.divisors if agg == "div" else
                   self.pairs if agg in PAIRS else self.choice)
            way(agg, first, edges, self.entry("parts", row), d)

    def edge(self, first: int, k: int) -> tuple[int, int]:
        b = self.b
        e = b.op("iadd", first, k)
        source = b.load("image", 0, b.op("iadd", self.sources, e))
        return self.element(source), b.load("reals", 0, b.op("iadd", self.weights, e))

    def part(self, parts: int, k: int, d: int) -> None:
        self.b.store(self.b.op("mask", d), "work", 0, self.b.op("iadd", parts, k))

    def factors(self, agg: str, first: int, edges: int, parts: int, d: int) -> None:
        """Each factor of a product gets that of the others."""
        b = self.b
        k, before = b.loop(self.zero, edges, [b.const(1.0)])
        b.store(before, "work", 0, b.op("iadd", self.at["work_before"], k))
        b.close(b.op("mul", before, b.op("mul", *self.edge(first, k))))
        k, behind = b.loop(self.zero, edges, [d])
        k = self.from_last(k, edges)
        before = self.element(b.op("iadd", self.at["work_before"], k))
        self.part(parts, k, b.op("mul", behind, before))
        b.close(b.op("mul", behind, b.op("mul", *self.edge(first, k))))

    def divisors(self, agg: str, first: int, edges: int, parts: int, d: int) -> None:
        """From the last divisor to the first, then what is divided."""
        b, one = self.b, self.b.index(1)
        k, acc = b.loop(one, edges, [start(b, agg, *self.edge(first, self.zero))])
        quotient = step(b, agg, acc, *self.edge(first, k))
        b.store(quotient, "work", 0, b.op("iadd", self.at["work_before"], k))
        b.close(quotient)
        k, left = b.loop(one, edges, [d])
        k = b.op("iadd", b.op("imul", k, b.index(-1)), edges)
        left = b.op("div", left, b.op("mul", *self.edge(first, k)))
        quotient = self.element(b.op("iadd", self.at["work_before"], k))
        self.part(parts, k, divisor_part(b, left, quotient))
        (left,) = b.close(left)
        self.part(parts, self.zero, left)

    def pairs(self, agg: str, first: int, edges: int, parts: int, d: int) -> None:
        """Each source of a pair gets the other, times the weight the second one."""
        b = self.b
        k = b.op("imul", b.loop(self.zero, b.op("idiv", edges, b.index(2)))[0], b.index(2))
        behind = b.op("iadd", k, b.index(1))
        (n0, w), (n1, _) = self.edge(first, k), self.edge(first, behind)
        self.part(parts, k, b.op("mul", d, n1))
        self.part(parts, behind, b.op("mul", d, b.op("mul", n0, w)))
        b.close()

    def choice(self, agg: str, first: int, edges: int, parts: int, d: int) -> None:
        """All goes to the first edge that has the value that was chosen, down the chain of choices,
        from the last edge up to the first."""
        b = self.b
        one = b.index(1)
        k, acc = b.loop(one, edges, [start(b, agg, *self.edge(first, self.zero))])
        b.store(acc, "work", 0, b.op("iadd", self.at["work_before"], k))
        b.close(step(b, agg, acc, *self.edge(first, k)))
        k, left = b.loop(one, edges, [d])
        k = b.op("iadd", b.op("imul", k, b.index(-1)), edges)
        product = b.op("mul", *self.edge(first, k))
        acc = self.element(b.op("iadd", self.at["work_before"], k))
        chosen, none = taken(b, agg, acc, product), b.const(0.0)
        self.part(parts, k, b.op("select", chosen, left, none))
        (left,) = b.close(b.op("select", chosen, none, left))
        self.part(parts, self.zero, left)

    # -- loops

    def from_last(self, k: int, end: int) -> int:
        """end-1-k"""
        b = self.b
        return b.op("iadd", b.op("imul", k, b.index(-1)), b.op("iadd", end, b.index(-1)))

    def length(self, name: str, index: int) -> int:
        first, last = self.list(name, index)
        return self.b.op("iadd", last, self.b.op("imul", first, self.b.index(-1)))

    def either(self, a: int, c: int) -> int:
        return self.b.op("imin", self.b.op("iadd", a, c), self.b.index(1))

    def only_if(self, condition: int) -> None:
        """Open a loop that runs once or not at all."""
        self.b.loop(self.zero, condition)
