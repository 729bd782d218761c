"""Frame of a backward function: its buffers and arrays, and what its callers add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import Ints, Longs
from ncc.ir.plan import Plan
from ncc.ir.ssa import Buffer, Func
from ncc.ir.ssa_build import builder
from ncc.passes.lower.arrays import moves
from ncc.passes.lower.arrays.moves import Numbers
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.arrays.tied import add_tied, tied_of
from ncc.passes.lower.packing import copy_fixed
from ncc.scalar.sum_order import CHAIN, CHUNK, ROUND


def lanes(native: int, dtype: str) -> int:
    """Samples at a time: whole rounds of sums, in four vectors or more. More vectors amortise the
    reading of arrays and the horizontal sums; four keep as many sums as registers hold. A machine
    without vectors takes samples one by one."""
    return max(ROUND[dtype], CHAIN * native) if native > 1 else 1


@dataclass(frozen=True)
class Ends:
    """What a caller adds to a backward function: the buffers of its signature, in order, and

    begin   ops before the pass
    seed    the adjoints of the outputs, and more, of their values: (pass, y) -> adjoints, lists of
            ops in the order of the outputs; without it they are `dy`
    loops   the same as loops over elements: `seeds` from `values`; without it from `dy`
    finish  ops behind the pass, where `dparams` are ready
    fresh   whether `dparams` are 0 when the function begins
    """

    buffers: tuple[Buffer, ...]
    begin: Callable[[Backward], None] | None = None
    seed: Callable[[Any, list[int]], list[int]] | None = None
    loops: Callable[[Any], None] | None = None
    finish: Callable[[Backward], None] | None = None
    fresh: bool = False

    @property
    def has_loss(self) -> bool:
        return self.seed is not None


class Backward:
    """What both forms share: buffers, and what becomes of the gradients at the end."""

    def __init__(self, plan: Plan, dtype: str, numerics: str, tables: Tables,
                 native: int, recompute: int, registers: int, provenance: bool) -> None:
        self.plan = plan
        # Rows of a tile: half the registers for sums of two of the lanes' vectors at a time.
        self.tile = max(1, registers // 4)
        self.registers = registers
        self.recompute = recompute
        self.g = plan.graph
        self.dtype = dtype
        self.tables = tables
        self.native = max(1, native)
        self.b = builder(dtype, numerics != "strict", provenance)
        self.n_inputs, self.n_outputs = len(self.g.inputs), len(self.g.outputs)
        self.buffers: dict[str, Buffer] = {}
        self.result = "dparams"  # what `after` adds to
        self.places: dict[str, Numbers] = {}  # of outputs and their seeds
        self.names: dict[str, str] = {}  # of tables: what each is called in the module
        self.sample: int | None = None

    def table(self, name: str, type: str, values: Any) -> str:
        """A constant table, for `cell` to read; functions share those that hold the same."""
        self.names[name] = self.tables.add(f"back_{name}", type, values)
        return self.names[name]

    def cell(self, name: str, offset: int, index: int) -> int:
        return self.b.load(self.names[name], offset, index)

    def bounds(self, name: str, index: int) -> tuple[int, int]:
        """Cell `index` and the next: where a list begins and ends."""
        return self.cell(name, 0, index), self.cell(name, 1, index)

    def function(self, name: str, lanes: int, ends: Ends) -> Func:
        """The pass over one sample, or over a batch in rounds of `lanes`. What the caller does not
        name among the buffers of `ends`, dx or dparams, is not made, or kept in `work`."""
        b = self.b
        self.lanes = lanes
        self.ends = ends
        self.named = [buffer.name for buffer in ends.buffers]
        self.sums = "chain" if lanes == 1 else "gradient"  # what accumulates
        if ends.begin is not None:
            ends.begin(self)
        self.before()
        if lanes:
            self.chunks()
        else:
            self.row_of_x = self.times_sample(self.n_inputs)
            self.body()
            self.after()
        if ends.finish is not None:
            ends.finish(self)
        if not self.buffers:
            self.memory("work", 0)
        return Func(name, (*ends.buffers, *self.buffers.values()), b.ops, counted=bool(lanes),
                    neurons=b.neurons)

    def each(self, name: str, lanes: int, ends: Ends) -> Func:
        """The pass over one sample, of as many as `lanes` side by side, each with parameters of its
        own, in rows of `params`, and rows of `dx` and `dparams`, which are overwritten. All memory
        is each lane's own: `packed`, and what is added up to `dparams`, from 0."""
        b, n_params = self.b, self.g.n_params
        self.lanes = 0  # each lane by itself: no sums over them
        self.ends = ends
        self.named = [buffer.name for buffer in ends.buffers]
        self.sums, self.result = "gradient", "lane_gradient"
        self.before()
        self.sample = b.loop(b.index(0), b.emit("count"), lanes=lanes)[0]
        self.row_of_x = self.times_sample(self.n_inputs)
        self.memory(self.result, n_params)
        self.packed()
        k = b.loop(b.index(0), b.index(n_params))[0]
        b.store(b.const(0.0), self.result, 0, k)
        b.close()
        self.body()
        self.after()
        self.only_if(b.emit("given", (), "dparams"))
        self.columns_out(self.result, "", range(n_params), "dparams", n_params, 0)
        b.close()
        b.close()
        memory = [buffer._replace(kind="private") for buffer in self.buffers.values()]
        return Func(name, (*ends.buffers, *memory), b.ops, counted=True, neurons=b.neurons)

    def packed(self) -> None:
        """`packed` of the lanes' parameters, transposed to where each stands first; then where it
        stands again, and the constants. One that stands nowhere goes to an element more."""
        b, codes, n_params = self.b, self.plan.packed, self.g.n_params
        self.memory("packed", len(codes) + 1)
        owners, firsts = np.unique(codes, return_index=True)
        to = np.full(n_params, len(codes))
        to[owners[owners >= 0]] = firsts[owners >= 0]
        self.columns_in("params", n_params, 0, "packed", "pack_to", to)
        again = np.setdiff1d(np.flatnonzero(codes >= 0), firsts)
        moves.each(b, self.table, "again", {"from": to[codes[again]], "to": again},
                   lambda at, to: b.store(b.load("packed", 0, at), "packed", 0, to))
        copy_fixed(b, self.plan, self.dtype, self.table)

    # -- rows of samples

    def columns_in(self, source: str, width: int, first: int, to: str, name: str, places: Numbers
                   ) -> None:
        """Columns of a sample's row of `width`, from the `first` on, to these `places` of `to`.
        Arrays have the `name`, where there are any."""
        b, row = self.b, self.times_sample(width)
        for k, at in moves.columns(b, self.table, name, places, self.sample is not None):
            here = self.offset(row, k)
            for value, place in zip([b.load(source, first + c, here) for c in range(len(at))], at,
                                    strict=True):
                b.store(value, to, *place)

    def columns_out(self, source: str, name: str, places: Numbers, to: str, width: int, first: int
                    ) -> None:
        """The same in the other direction."""
        b, row = self.b, self.times_sample(width)
        for k, at in moves.columns(b, self.table, name, places, self.sample is not None):
            values = [b.load(source, *place) for place in at]
            here = self.offset(row, k)
            for c, value in enumerate(values):
                b.store(value, to, first + c, here)

    def output_place(self, name: str, k: int) -> int:
        """Number k (an op) of the `places` of this name."""
        return moves.number(self.b, self.table, name, self.places[name], k)

    def chunks(self) -> None:
        """The body for each sample, chunk by chunk, with the sums of each added where it ends."""
        b, zero = self.b, self.b.index(0)
        count, chunk = b.emit("count"), b.index(CHUNK)
        many = b.op("idiv", b.op("iadd", count, b.index(CHUNK - 1)), chunk)
        self.chunk = b.loop(zero, many)[0]
        lo = b.op("imul", self.chunk, chunk)
        hi = b.op("imin", b.op("iadd", lo, chunk), count)
        self.begin_chunk()
        if self.lanes > 1:
            self.samples(lo, hi)
        else:
            width = ROUND[self.dtype]
            left = b.op("iadd", hi, b.op("imul", lo, b.index(-1)))
            rounds = b.op("idiv", b.op("iadd", left, b.index(width - 1)), b.index(width))
            q = b.loop(zero, rounds)[0]
            begin = b.op("iadd", lo, b.op("imul", q, b.index(width)))
            c = b.loop(zero, b.index(width // CHAIN))[0]
            first = b.op("iadd", begin, b.op("imul", c, b.index(CHAIN)))
            self.samples(first, b.op("imin", b.op("iadd", first, b.index(CHAIN)), hi))
            self.end_chain(c)
            b.close()
            self.end_round()
            b.close()
        self.after()
        self.end_chunk()
        b.close()

    def samples(self, lo: int, hi: int) -> None:
        self.sample = self.b.loop(lo, hi, lanes=self.lanes)[0]
        self.row_of_x = self.times_sample(self.n_inputs)
        self.body()
        self.b.close()

    def times_sample(self, size: int) -> int | None:
        return None if self.sample is None else self.b.op("imul", self.sample, self.b.index(size))

    def before(self) -> None: ...

    def body(self) -> None: ...

    # -- the gradient of a batch: an element of `gradient` for each sum over the samples

    def sum_in(self, by_lanes: int, params: Ints | Longs, order: Ints | Longs,
               direct: bool = False) -> None:
        """The memory for sums over the samples: an element for each edge and bias, the first
        `by_lanes` of which are summed by lanes, the others in order (ncc/scalar/sum_order.py), and
        between them one for the losses.

        params  (elements) the parameter to whose gradient each belongs, -1 for none
        order   (elements) where its edge or bias stands among all
        direct  whether some sums are made in `dparams` itself
        """
        self.loss_element = by_lanes
        self.n_lanes = by_lanes + self.ends.has_loss
        loss = np.full(int(self.ends.has_loss), -1, np.int32)
        owner = np.concatenate([params[:by_lanes], loss, params[by_lanes:]])
        rank = np.concatenate([order[:by_lanes], loss, order[by_lanes:]])
        by = np.lexsort((rank, owner)).astype(np.int32)
        del rank
        self.moved = by[np.count_nonzero(owner < 0):]  # those of no owner come first
        self.params = owner[self.moved]
        self.n_elements = len(owner)
        self.memory("gradient", self.n_elements, shared=True)
        if self.lanes == 1:
            self.memory("chain", self.n_elements, shared=True)
            self.memory("pending", self.levels * self.n_lanes, shared=True)
        self.direct = direct
        if direct:
            self.memory("held", self.g.n_params, shared=True)

    @property
    def levels(self) -> int:
        """How often the chains of a round are added in pairs."""
        return (ROUND[self.dtype] // CHAIN).bit_length() - 1

    def element_of(self, number: int) -> int:
        """The element of `gradient` of an edge or a bias, by their number without the loss."""
        return number if number < self.loss_element else number + self.ends.has_loss

    def begin_chunk(self) -> None:
        b = self.b
        self.only_if(b.emit("given", (), "dparams"))
        for name in ("gradient", "chain"):
            if name in self.buffers:
                self.zero(name, self.n_elements)
        if self.direct:
            self.only_if(self.later())
            self.in_vectors(self.g.n_params, self.put_aside)
            b.close()
        b.close()
        if self.ends.has_loss:
            b.store(b.const(0.0), "gradient", self.loss_element)
            if "chain" in self.buffers:
                b.store(b.const(0.0), "chain", self.loss_element)

    def end_chunk(self) -> None:
        b = self.b
        if self.direct:
            self.only_if(b.emit("given", (), "dparams"))
            self.only_if(self.later())
            self.in_vectors(self.g.n_params, self.put_back)
            b.close()
            b.close()
        if self.ends.has_loss:
            to = "loss" if "loss" in self.named else "state"
            b.store(b.op("add", b.load(to, 0), b.load("gradient", self.loss_element)), to, 0)

    def later(self) -> int:
        """1 where `dparams` may hold more than 0 before the chunk, else 0."""
        b = self.b
        return b.op("imin", self.chunk, b.index(1)) if self.ends.fresh else b.index(1)

    def put_aside(self, k: int) -> None:
        b = self.b
        b.store(b.load("dparams", 0, k), "held", 0, k)
        b.store(b.const(0.0), "dparams", 0, k)

    def put_back(self, k: int) -> None:
        b = self.b
        b.store(b.op("add", b.load("held", 0, k), b.load("dparams", 0, k)), "dparams", 0, k)

    def end_chain(self, c: int) -> None:
        """Chain number c of a round of samples, one by one, is done: it is added to the one before,
        the two to the two before, .."""
        b, n = self.b, self.n_lanes
        numbers = np.arange(1 << self.levels)
        ones = [(numbers & ((2 << t) - 1)) == (1 << t) - 1 for t in range(self.levels)]
        ones.append(numbers == numbers[-1])
        wanted = b.emit("given", (), "dparams")
        lo = b.op("imul", b.index(self.loss_element),
                  b.op("iadd", b.index(1), b.op("imul", wanted, b.index(-1))))
        for t, last in enumerate(ones):
            self.only_if(b.load(self.table(f"pairs_{t}", "i", last), 0, c))
            k = b.loop(lo, b.index(n))[0]
            total = b.load("chain", 0, k)
            for level in range(t):
                total = b.op("add", b.load("pending", level * n, k), total)
            if t < self.levels:
                b.store(total, "pending", t * n, k)
            else:
                b.store(b.op("add", b.load("gradient", 0, k), total), "gradient", 0, k)
            b.store(b.const(0.0), "chain", 0, k)
            b.close()
            b.close()

    def end_round(self) -> None:
        """The sums in order of a round of samples, one by one, are done."""
        b = self.b
        if self.n_lanes < self.n_elements:
            self.only_if(b.emit("given", (), "dparams"))
            k = b.loop(b.index(self.n_lanes), b.index(self.n_elements))[0]
            b.store(b.op("add", b.load("gradient", 0, k), b.load("chain", 0, k)), "gradient", 0, k)
            b.store(b.const(0.0), "chain", 0, k)
            b.close()
            b.close()

    def after(self) -> None:
        """dparams += gradient, from elements to parameters."""
        b = self.b
        begins = np.flatnonzero(np.diff(self.params, prepend=-1))
        counts = np.diff(np.append(begins, len(self.params)))
        alone, tied = begins[counts == 1], begins[counts > 1]
        self.only_if(b.emit("given", (), "dparams"))
        k = b.loop(b.index(0), b.index(len(alone)))[0]
        at = b.load(self.table("cells", "i", self.moved[alone]), 0, k)
        params = self.params[alone]
        # Where each parameter has one edge there is nothing to look up.
        if len(params) and int(params[-1]) == int(params[0]) + len(params) - 1:
            to = b.op("iadd", k, b.index(int(params[0])))
        else:
            to = b.load(self.table("slots", "i", params), 0, k)
        new = b.op("add", b.load(self.result, 0, to), b.load("gradient", 0, at))
        b.store(new, self.result, 0, to)
        b.close()
        if len(tied):
            wide = self.native if self.result == "dparams" else 1
            for sums in tied_of(self.params[tied], self.moved[csr.ranges(
                    tied, counts[counts > 1])], counts[counts > 1], wide):
                add_tied(b, sums, lambda name, values: self.table(name, "i", values), self.result)
        b.close()

    def add_loss(self, value: int) -> None:
        """Add a sample's loss to those of the batch."""
        b = self.b
        if self.lanes:
            b.accumulate(self.mask(value), b.const(1.0), self.sums, self.loss_element)
        else:
            to = "loss" if "loss" in self.named else "state"
            b.store(b.op("add", b.load(to, 0), value), to, 0)

    def memory(self, name: str, size: int, shared: bool = False) -> str:
        """A buffer of `work`: of each sample, or `shared` by all."""
        kind = "private" if self.lanes and not shared else "work"
        self.buffers[name] = Buffer(name, kind, size)
        return name

    def mask(self, value: int) -> int:
        """A value, and +0 in inactive lanes."""
        return self.b.op("mask", value) if self.lanes else value

    def offset(self, row: int | None, k: int) -> int:
        return k if row is None else self.b.op("iadd", row, k)

    def zero(self, name: str, size: int) -> None:
        """Clear a buffer that no lane has to itself."""
        b = self.b
        self.in_vectors(size, lambda k: b.store(b.const(0.0), name, 0, k))

    def in_vectors(self, size: int, body: Callable[[int], object]) -> None:
        """The body for each k below `size`, a vector at a time."""
        b = self.b
        wide = lanes(self.native, self.dtype) if self.lanes else 0
        whole = size // wide * wide if wide > 1 else 0
        for lo, hi, by in ((0, whole, wide), (whole, size, 0)):
            if lo < hi:
                body(b.loop(b.index(lo), b.index(hi), lanes=by)[0])
                b.close()

    def only_if(self, condition: int) -> None:
        """Open a loop that runs once or not at all."""
        self.b.loop(self.b.index(0), condition)
