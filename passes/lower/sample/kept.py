"""The forward pass of one sample, in loops, that keeps each value and each activation's derivative
for passes that come after it."""

from __future__ import annotations

import numpy as np

from ncc.ir.graph import Ints, Longs
from ncc.ir.plan import Plan, Schedule
from ncc.ir.ssa import DTYPES
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.forward_loops import Loops
from ncc.scalar.derivative import derivative_at
from ncc.scalar.expressions import Expr, emit

BLOCK = 8  # rows of one level and fan-in whose sums run side by side
ROWS = 4  # of a tile, on machines without vectors


class Kept(Loops):
    """Values in the buffer `values`, derivatives of activations in `slopes`, at the same elements:
    those of the inputs first, then tile by tile, with those for which a tile has room.

    size              elements of both
    elements int64 (R)  those of the rows
    """

    held = "values"

    def __init__(self, plan: Plan, tables: Tables, dtype: str, native: int) -> None:
        super().__init__(plan, tables, dtype, native, ROWS)
        n_inputs = len(plan.graph.inputs)
        ends = np.cumsum(plan.sizes)
        self.size = n_inputs + int(ends[-1] if len(ends) else 0)
        first = n_inputs + ends - plan.sizes
        rows = np.arange(len(plan.rows))
        self.elements: Longs = first[plan.block_of] + rows - plan.blocks[plan.block_of]
        self.slopes: dict[int, int] = {}  # by the op of a value

    def slots(self) -> Ints:
        """The element of each neuron's value."""
        found = np.full(self.plan.graph.n_neurons, -1, np.int32)
        found[self.plan.graph.inputs] = np.arange(len(self.plan.graph.inputs))
        found[self.plan.rows] = self.elements
        return found

    @property
    def names(self) -> dict[str, str]:
        """What its arrays are called in the module."""
        return self.tables.names

    def run(self, b: Builder, row: int | None = None) -> None:
        """Write the pass from `x`, from element `row` on (None: 0), and `packed`, which is an array
        where no function packs."""
        plan, first = self.plan, len(b.ops)
        self.row = row
        if not plan.wants("pack"):
            codes = plan.constants[-1 - plan.packed].astype(DTYPES[self.dtype])
            self.table("packed", "f", codes)
        self.values(b, Schedule("shared", "", self.slots(), self.size), None, BLOCK)
        # Arrays that functions of an earlier kind have are theirs, by the names there.
        names = self.names
        b.ops[first:] = [
            (opcode, reads, (names.get(imm[0], imm[0]), imm[1])) if opcode == "load"
            else (opcode, reads, imm) for opcode, reads, imm in b.ops[first:]]

    def columns_in(self, b: Builder, sample: int | None, name: str, size: int, to: int) -> None:
        if size:
            k = b.loop(b.index(0), b.index(size))[0]
            at = k if self.row is None else b.op("iadd", self.row, k)
            b.store(b.load(name, 0, at), self.held, to, k)
            b.close()

    def value(self, b: Builder, program: Expr, argument: int) -> int:
        found = emit(program, b, argument)
        self.slopes[found] = derivative_at(program, b, argument, found)
        return found

    def put(self, b: Builder, value: int, offset: int, place: int) -> None:
        super().put(b, value, offset, place)
        b.store(self.slopes.pop(value), "slopes", offset, place)
