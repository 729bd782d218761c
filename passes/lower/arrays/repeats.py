"""Row classes, or depth groups of these, that repeat but for what each time adds, as those of the
steps of an RNN: the loops over them, and their arrays of one period."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import Longs
from ncc.passes.lower.arrays.folds import Fold, Parts, Uneven, parts_of
from ncc.passes.lower.arrays.nests import Nest, Walk


class Repeats(NamedTuple):
    """Units: depth groups, or row classes where those are not mixed; and the inputs, which are a
    part by themselves.

    parts    of the units that are kept
    units    their fold
    classes  that of the row classes
    """

    parts: Parts
    units: Fold
    classes: Fold

    def walk(self, walk: Walk, of_units: bool) -> Walk:
        """The walk through what is kept, whose outermost loop is that over the times."""
        nest = walk.nest
        fold = (self.units if of_units else self.classes).within(nest.groups)
        counts, steps = nest.counts, nest.steps
        if not len(counts):  # the innermost loop is one over rows
            counts, steps = np.ones((1, len(nest.first)), np.int64), nest.first[None] * 0
        for alike in (*counts, *steps):
            if fold.folded(alike)[1].any():
                raise Uneven
        first, more = fold.folded(nest.first)
        times = np.bincount(fold.of, minlength=len(first))
        groups = csr.starts(np.diff(nest.groups)[(self.units if of_units else self.classes).kept])
        return Walk(Nest(nest.names, first, np.concatenate([counts[:, fold.kept], times[None]]),
                         np.concatenate([steps[:, fold.kept], more[None]]), groups), walk.table)


def repeats_of(starts: Longs, alike: list[NDArray[Any]], numbers: list[NDArray[Any]],
               unit_numbers: list[NDArray[Any]], walks: Iterable[Walk],
               unit_walks: Iterable[Walk]) -> Repeats | None:
    """The repeats of units of which each begins with row class `starts` (U+1). Of row classes with
    these numbers (S each), which are to be `alike` or are moved by what each time adds; of units
    with such numbers (U each); and with these walks, class by class or unit by unit. None where too
    few repeat."""
    count = len(starts) - 2  # without the inputs
    each = np.arange(count + 2)
    held = [(starts, column) for column in alike]
    moved = [*[(starts, column) for column in numbers],
             *[(each, column) for column in unit_numbers]]
    for nests, groups in [*[(walk.nest, walk.nest.groups[starts]) for walk in walks],
                          *[(walk.nest, walk.nest.groups) for walk in unit_walks]]:
        held += [(groups, column) for column in nests.counts]
        held += [(groups, column) for steps in nests.steps for column in steps.T]
        moved += [(groups, column) for column in nests.first.T]
    # How many classes and nests there are of each unit is to be the same, too.
    held += [(each, np.diff(groups)) for groups, _ in held + moved]
    shapes, bounds = _joined(held, count)
    keys = csr.representatives(bounds, shapes.astype(np.int32), np.arange(count))
    values, bounds = _joined(moved, count)
    found = parts_of(keys, bounds, values)
    if found is None:
        return None
    parts, fold = found
    kept = len(fold.kept)
    parts = Parts(np.append(parts.ends, kept + 1), np.append(parts.times, 1))
    units = Fold(*[np.append(mine, last) for mine, last in zip(
        fold, (count, kept, 0, count), strict=True)])
    return Repeats(parts, units, units.within(starts))


def _joined(columns: list[tuple[Longs, NDArray[Any]]], count: int) -> tuple[Longs, Longs]:
    """The numbers of each of the first `count` units, of all columns one after another; where each
    unit's begin. A column comes with where the numbers of each unit begin in it."""
    lengths = np.sum([np.diff(starts[: count + 1]) for starts, _ in columns], axis=0)
    bounds = csr.starts(lengths)
    made = np.empty(bounds[-1], np.int64)
    at = bounds[:-1].copy()
    for starts, column in columns:
        mine = np.diff(starts[: count + 1])
        made[csr.ranges(at, mine)] = column[starts[0] : starts[count]]
        at += mine
    return made, bounds
