"""Passes over a net for many directions side by side: adjoints back from each output, or tangents
forward from each input."""

from __future__ import annotations

import numpy as np

from ncc.ir.graph import Longs
from ncc.passes.lower.reverse.frame import Backward
from ncc.scalar.derivative import times


def lanes_of(count: int, native: int) -> int:
    """Directions at a time: a power of two that holds all of them, two vectors at most; 0 of one
    direction, and where there are no vectors."""
    if native == 1 or count < 2:
        return 0
    return min(1 << (count - 1).bit_length(), 2 * native)


class Directions(Backward):
    """What both forms share: the directions, their seeds, and where the Jacobian stands."""

    direction: int | None  # the number of the lane's; None where there is one alone
    row_of_jac: int | None  # where the sample's Jacobian begins; None of one sample

    def begin(self, counted: bool) -> None:
        """Open the loop over the samples, if there are several."""
        self.row_of_x = self.row_of_jac = None
        if counted:
            self.sample = self.b.loop(self.b.index(0), self.b.emit("count"))[0]
            self.row_of_x = self.times_sample(self.n_inputs)
            self.row_of_jac = self.times_sample(self.n_inputs * self.n_outputs)

    def open(self, count: int) -> None:
        """Open the loop over so many directions."""
        b = self.b
        self.count = count
        self.direction = None
        if count == 1:
            return
        self.rounded = -(-count // max(1, self.lanes)) * max(1, self.lanes)
        # 1 among zeros: what is read from `count - 1 - k` on is 1 for direction k alone. Whole
        # rounds of lanes take plain vectors; the last ones may be of seeds that are all 0.
        self.table("unit", "f", np.arange(count + self.rounded - 1) == count - 1)
        self.direction = b.loop(b.index(0), b.index(self.rounded), lanes=self.lanes)[0]

    def close(self, forward: bool) -> None:
        """Close the loop. What is left of it, in `found`, becomes the Jacobian."""
        if self.direction is None:
            return
        b = self.b
        b.close()
        if not self.lanes:
            return
        o = b.loop(b.index(0), b.index(self.n_outputs))[0]
        i = b.loop(b.index(0), b.index(self.n_inputs))[0]
        element, direction = (o, i) if forward else (i, o)
        value = b.load("found", 0, b.op("iadd", b.op("imul", element, b.index(self.rounded)),
                                        direction))
        at = b.op("iadd", b.op("imul", o, b.index(self.n_inputs)), i)
        b.store(value, "jac", 0, self.offset(self.row_of_jac, at))
        b.close()
        b.close()

    def put(self, value: int, forward: bool, number: int, index: int | None = None) -> None:
        """Store the derivative of output (or, of a pass back, by input) number + index."""
        b, n = self.b, self.n_inputs
        if self.lanes and self.direction is not None:
            held = self.n_outputs if forward else n
            self.memory("found", held * self.rounded, shared=True)
            lane = self.direction if index is None else b.op("iadd", self.direction, b.op(
                "imul", index, b.index(self.rounded)))
            b.store(value, "found", number * self.rounded, lane)
            return
        by, far = (1, n) if forward else (n, 1)
        at = self.row_of_jac
        parts = [] if self.direction is None else [(self.direction, by)]
        for part, size in parts + ([] if index is None else [(index, far)]):
            more = part if size == 1 else b.op("imul", part, b.index(size))
            at = more if at is None else b.op("iadd", at, more)
        b.store(value, "jac", number * far, at)

    def unit(self, k: int) -> int:
        """The seed of input or output number k: 1 in its own direction, else 0."""
        if self.direction is None:
            return self.b.const(1.0)
        return self.cell("unit", self.count - 1 - k, self.direction)

    def unit_at(self, k: int) -> int:
        """The same, of a number that an index is."""
        b = self.b
        if self.direction is None:
            return b.const(1.0)
        back = b.op("iadd", b.op("imul", k, b.index(-1)), b.index(self.count - 1))
        return self.cell("unit", 0, b.op("iadd", self.direction, back))

    def scaled(self, d: int, slope: int, is_tame: bool) -> int:
        """d times the derivative of an activation."""
        return self.b.op("mul", d, slope) if is_tame else times(self.b, d, slope)

    def zeros(self, where: Longs) -> None:
        """+0 at these places of the Jacobian, ascending."""
        b = self.b
        first = np.flatnonzero(np.diff(where, prepend=-2) != 1)
        if not len(where):
            return
        ends = np.append(where[first[1:] - 1], where[-1]) + 1
        self.table("zeros", "i", where[first])
        self.table("zeros_end", "i", ends)
        k = b.loop(b.index(0), b.index(len(first)))[0]
        at = b.loop(self.cell("zeros", 0, k), self.cell("zeros_end", 0, k))[0]
        b.store(b.const(0.0), "jac", 0, self.offset(self.row_of_jac, at))
        b.close()
        b.close()
