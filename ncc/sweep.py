"""What stands around a sweep back over a net: its buffers and tables, and what its callers add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ncc.plan import Plan
from ncc.ssa import DTYPES, Buffer, Builder, Func, Table


def lanes(native: int) -> int:
    """Samples in a round of a batch: the more vectors, the seldomer the tables are read from end to
    end and sums over the lanes made; four keep as many sums as registers hold."""
    return 4 * native if native > 1 else 1


@dataclass(frozen=True)
class Ends:
    """What stands around a sweep: the buffers that the caller has an eye on, in order, and

    begin   ops before it
    seed    the adjoints of the outputs, and more, of their values: (sweep, y, k) -> adjoints, for
            lists of ops with the numbers k of the outputs; without it they are `dy`
    loops   the same as loops over places: `seeds` from `values`; without it from `dy`
    finish  ops behind it, where `dparams` are ready
    """

    buffers: tuple[Buffer, ...]
    begin: Callable[[Sweep], None] | None = None
    seed: Callable[[Any, list[int]], list[int]] | None = None
    loops: Callable[[Any], None] | None = None
    finish: Callable[[Sweep], None] | None = None


class Sweep:
    """What both forms share: buffers, and what becomes of the gradients at the end."""

    def __init__(self, plan: Plan, dtype: str, numerics: str, tables: dict[str, Table],
                 native: int, recompute: int, registers: int) -> None:
        self.plan = plan
        # Rows of a tile: half the registers for sums of two of the lanes' vectors at a time.
        self.tile = max(1, registers // 4)
        self.registers = registers
        self.recompute = recompute
        self.g = plan.graph
        self.dtype = dtype
        self.tables = tables
        self.native = max(1, native)
        self.b = Builder(dtype, numerics != "strict")
        self.n_inputs, self.n_outputs = len(self.g.inputs), len(self.g.outputs)
        self.buffers: dict[str, Buffer] = {}
        self.names: dict[str, str] = {}  # of tables: what each is called in the module
        self.sample: int | None = None

    def table(self, name: str, type: str, values: Any) -> str:
        """A constant table, for `cell` to read; functions share those that hold the same."""
        array = (np.asarray(values, DTYPES[self.dtype]) if type == "f"
                 else np.ascontiguousarray(values, np.int32))
        stem = actual = f"back_{name}"
        made = Table(actual, type, array)
        while self.tables.setdefault(actual, made) != made:
            actual = f"{stem}_{len(self.tables)}"
            made = Table(actual, type, array)
        self.names[name] = actual
        return actual

    def cell(self, name: str, offset: int, index: int) -> int:
        return self.b.load(self.names[name], offset, index)

    def bounds(self, name: str, index: int) -> tuple[int, int]:
        """Cell `index` and the next: where a list begins and ends."""
        return self.cell(name, 0, index), self.cell(name, 1, index)

    def function(self, name: str, lanes: int, ends: Ends) -> Func:
        """The sweep over one sample, or over a batch in rounds of `lanes`. What the caller does
        not name among the buffers of `ends`, dx or dparams, is not made, or kept in `work`."""
        b = self.b
        self.lanes = lanes
        self.ends = ends
        self.named = [buffer.name for buffer in ends.buffers]
        if ends.begin is not None:
            ends.begin(self)
        self.before()
        if lanes:
            self.sample = b.loop(b.index(0), b.emit("count"), lanes=lanes)[0]
        self.row_of_x = self.times_sample(self.n_inputs)
        self.body()
        if lanes:
            b.close()
        self.after()
        if ends.finish is not None:
            ends.finish(self)
        if not self.buffers:
            self.memory("work", 0)
        return Func(name, (*ends.buffers, *self.buffers.values()), b.ops, counted=bool(lanes))

    def times_sample(self, size: int) -> int | None:
        return None if self.sample is None else self.b.op("imul", self.sample, self.b.index(size))

    def before(self) -> None: ...

    def body(self) -> None: ...

    def after(self) -> None: ...

    def memory(self, name: str, size: int, shared: bool = False) -> str:
        """A buffer of `work`: of each sample, or `shared` by all."""
        kind = "private" if self.lanes and not shared else "work"
        self.buffers[name] = Buffer(name, kind, size)
        return name

    def offset(self, row: int | None, k: int) -> int:
        return k if row is None else self.b.op("iadd", row, k)

    def zero(self, name: str, size: int) -> None:
        """Clear a buffer that no lane has to itself, a vector at a time."""
        b = self.b
        wide = lanes(self.native) if self.lanes else 0
        whole = size // wide * wide if wide > 1 else 0
        for lo, hi, by in ((0, whole, wide), (whole, size, 0)):
            if lo < hi:
                k = b.loop(b.index(lo), b.index(hi), lanes=by)[0]
                b.store(b.const(0.0), name, 0, k)
                b.close()

    def only_if(self, given: int) -> None:
        """Open a loop that runs once or not at all."""
        self.b.loop(self.b.index(0), given)
