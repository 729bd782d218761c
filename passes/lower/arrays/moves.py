"""Moves: from where to where elements go, in loops over ranges that are evenly apart where that
takes less than arrays that say so of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ncc.ir.graph import Ints, Longs
from ncc.ir.ssa_build import TILE, Builder
from ncc.passes.lower.arrays.nests import FEW, Nest, nest_of

SAVED = 4  # times fewer numbers than arrays have are worth loops around loops
SOME = 1 << 16  # rows that are looked at before all are

Numbers = Ints | Longs | range
Tabled = Callable[[str, str, Any], str]  # name, type and values of a constant array: its name


def each(b: Builder, table: Tabled, name: str, columns: dict[str, Numbers],
         body: Callable[..., object]) -> None:
    """The body for each row of numbers, which it gets as indices, in the order of `columns`: (n)
    each, by name. Arrays are called `name`_..., where there are any."""
    n = len(next(iter(columns.values())))
    if not n:
        return
    nest = saving(columns)
    if nest is not None:
        loops, row = _open(b, table, name, nest, 1)
        body(*row)
    else:
        loops, k = 1, b.loop(b.index(0), b.index(n))[0]
        body(*[number(b, table, f"{name}_{column}", values, k)
               for column, values in columns.items()])
    for _ in range(loops):
        b.close()


def columns(b: Builder, table: Tabled, name: str, places: Numbers, lanes: bool
            ) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """As `Builder.columns`, over as many columns as there are `places`, with the place of each
    column of a round, an offset and an index. The loops end behind the caller's body."""
    n = len(places)
    if not n:
        return
    even = _step(places) == 1
    nest = None if even else saving({"column": range(n), "place": places})
    # Without lanes the arrays are those of the function that has some: both have loops, or none.
    if nest is not None and (nest.counts[0] >= TILE).all() and (nest.steps[0] == 1).all():
        wide = TILE if lanes else 1
        loops, (column, place) = _open(b, table, name, nest, wide)
        yield column, [(c, place) for c in range(wide)]
        for _ in range(loops):
            b.close()
        return
    for k, wide in b.columns(n, lanes):
        if even:
            yield k, [(int(places[0]) + c, k) for c in range(wide)]
        else:
            listed = table(name, "i", places)
            yield k, [(0, b.load(listed, c, k)) for c in range(wide)]
        b.close()


def number(b: Builder, table: Tabled, name: str, numbers: Numbers, k: int) -> int:
    """Number k of these: an array has them, if they are not evenly apart."""
    step = _step(numbers)
    if step is None:
        return b.load(table(name, "i", numbers), 0, k)
    if step == 0:
        return b.index(int(numbers[0]))
    at = k if step == 1 else b.op("imul", k, b.index(step))
    return at if numbers[0] == 0 else b.op("iadd", at, b.index(int(numbers[0])))


def saving(columns: dict[str, Numbers]) -> Nest | None:
    """The nests of these rows, if their numbers are less than the arrays that list them: of the
    first ones, too, so that nothing is made of many that are not even."""
    n = len(next(iter(columns.values())))
    listed = sum([_step(column) is None for column in columns.values()])
    for many in dict.fromkeys((min(n, SOME), n)):
        nest = None
        if many * listed >= FEW:
            nest = nest_of({name: _array(c[:many]) for name, c in columns.items()},
                           np.array([0, many]))
        if nest is None or SAVED * nest.cells > many * listed:
            return None
    return nest


def _open(b: Builder, table: Tabled, name: str, nest: Nest, wide: int) -> tuple[int, list[int]]:
    """Open the loops over all rows of nests, `wide` of the innermost loop at a time, whose last
    ones start early rather than end late: how many loops, and the numbers of the row. What is the
    same within a loop is before it."""
    q, loops = b.index(0), 0
    if len(nest.first) > 1:
        q, loops = b.loop(q, b.index(len(nest.first)))[0], 1

    def cell(part: str, values: Longs, some: Any = True) -> int:
        """The number of this nest, which only `some` have need of."""
        chosen = values[np.broadcast_to(some, values.shape)]
        if (chosen == chosen[0]).all():
            return b.index(int(chosen[0]))
        return b.load(table(f"{name}_{part}", "i", values), 0, q)

    many = [loop for loop in reversed(range(len(nest.counts))) if (nest.counts[loop] > 1).any()]
    row = [cell(column, nest.first[:, k]) for k, column in enumerate(nest.names)]
    ends = {loop: cell(f"count_{loop}", nest.counts[loop]) for loop in many}
    steps = {loop: [cell(f"{column}_step_{loop}", nest.steps[loop][:, k], nest.counts[loop] > 1)
                    for k, column in enumerate(nest.names)] for loop in many}
    whole = -(-nest.counts[0] // wide)
    rounds = ends[0] if wide == 1 else cell(f"rounds_{wide}", whole)
    for loop in many:
        k = b.loop(b.index(0), ends[loop] if loop else rounds)[0]
        if loop == 0 and wide > 1:
            k = b.op("imul", k, b.index(wide))
            if (nest.counts[0] % wide).any():
                k = b.op("imin", k, b.op("iadd", ends[0], b.index(-wide)))
        row = [b.op("iadd", at, b.op("imul", k, step)) if moves else at for at, step, moves in zip(
            row, steps[loop], nest.steps[loop].any(axis=0), strict=True)]
    return loops + len(many), row


def _step(numbers: Numbers) -> int | None:
    """How far apart numbers are, if evenly; 1 of one, or of none."""
    if len(numbers) < 2:
        return 1
    step = int(numbers[1]) - int(numbers[0])
    return step if isinstance(numbers, range) or (np.diff(numbers) == step).all() else None


def _array(numbers: Numbers) -> Ints | Longs:
    if isinstance(numbers, range):
        return np.arange(numbers.start, numbers.stop, numbers.step, dtype=np.int32)
    return numbers
