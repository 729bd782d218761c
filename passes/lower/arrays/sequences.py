"""Rows one after another as nests of loops, where sequences of nests that repeat are loops, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import Longs
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.arrays.nests import FEW, Nest, Walk, nest_of

LESS = 4  # times fewer numbers than in arrays that are worth loops
OFTEN = 4  # times that a sequence is a loop of its own
LEAST, MOST = 16, 64  # nests that a sequence saves which is a loop of its own; how many there are


class Sequences(NamedTuple):
    """Rows in their order: parts, of which each is a sequence of groups of nests, several times.

    nest            as groups of one kind each; its outermost loop is that over the times
    kinds     (G)   the kind of each group
    parts     (P+1) where the groups of each part begin
    times     (P)   how often each part is gone through
    """

    nest: Nest
    kinds: Longs
    parts: Longs
    times: Longs

    @property
    def cells(self) -> int:
        """How many numbers stand in arrays: those of which not all are the same."""
        nest = self.nest
        columns = [*nest.first.T, *nest.counts, *[c for steps in nest.steps for c in steps.T]]
        varying = sum([len(c) for c in columns if (c != c[0]).any()])
        return varying + (len(self.kinds) + len(self.times) if len(self.kinds) > 1 else 0)


def sequences_of(columns: dict[str, Longs], kinds: Longs) -> Sequences:
    """The sequences of rows (n) whose numbers are `columns` (n each), by name, of these kinds (n).

        two rows of kind 0, three of kind 1, and so on, 9 times  =>  9 times nests of 2 and of 3
    """
    borders = csr.borders(kinds)
    nest = nest_of(columns, borders)
    of = np.repeat(kinds[borders[:-1]], np.diff(nest.groups))
    alike = np.unique(np.column_stack([of, *nest.counts, *nest.steps]), axis=0,
                      return_inverse=True)[1].reshape(-1)
    parts = np.array([*_parts(nest.first, alike)], np.int64).reshape(-1, 3)
    first, length, times = parts.T
    kept, many = csr.ranges(first, length), np.repeat(times, length)
    after = np.minimum(kept + np.repeat(length, length), len(nest.first) - 1)
    more = np.where(many[:, None] > 1, nest.first[after] - nest.first[kept], 0)
    groups = csr.borders(of[kept], csr.owners(csr.starts(length)))
    return Sequences(
        Nest(nest.names, nest.first[kept], np.concatenate([nest.counts[:, kept], many[None]]),
             np.concatenate([nest.steps[:, kept], more[None]]), groups),
        of[kept][groups[:-1]], np.searchsorted(groups, csr.starts(length)), times)


def _parts(first: Longs, alike: Longs) -> Iterator[tuple[int, int, int]]:
    """The parts of nests whose first numbers are `first` (Q, K), equal `alike` (Q) where nothing
    but these differs: where each begins, how many nests it has, how often."""
    done = 0
    for at, length, times in csr.periods(alike, max(LEAST, len(alike) // MOST)):
        begins = csr.even(first[at : at + length * times].reshape(times, -1).T,
                          np.zeros(1, np.int64))
        for begin, count in zip(begins.tolist(), np.diff(np.append(begins, times)).tolist(),
                                strict=True):
            if count >= OFTEN:
                begin = at + begin * length
                if begin > done:
                    yield done, begin - done, 1
                yield begin, length, count
                done = begin + count * length
    if done < len(first):
        yield done, len(first) - done, 1


class Here(NamedTuple):
    """The row that open loops are at: its numbers (ops), by name. They stand where the row begins,
    whether or not it reads them: so LLVM may move their loads out of the innermost loop."""

    numbers: dict[str, int]

    def number(self, b: Builder, name: str) -> int:
        return self.numbers[name]


class Steps:
    """The loops over the rows of sequences; `table` adds an array of integers to the module: its
    name there, of its name here."""

    def __init__(self, sequences: Sequences, table: Callable[[str, Any], str]) -> None:
        self.sequences = sequences
        self.walk = Walk(sequences.nest, table)

    def cell(self, b: Builder, name: str, values: Longs, at: int | None) -> int:
        """Element `at` of `values`, which has one alone where that is None."""
        if (values == values[0]).all():
            return b.index(int(values[0]))
        return b.load(self.walk.table(name, values), 0, at)

    def each(self, b: Builder) -> Iterator[tuple[int, Here]]:
        """For each kind the loops in which its rows are: the kind, and the row."""
        found = self.sequences
        part, around = None, {}
        if len(found.times) > 1:
            part = b.loop(b.index(0), b.index(len(found.times)))[0]
        if (found.times > 1).any():
            times = self.cell(b, "times", found.times, part)
            around = {len(found.nest.counts) - 1: b.loop(b.index(0), times)[0]}
        group = b.loop(self.cell(b, "parts", found.parts[:-1], part),
                       self.cell(b, "part_ends", found.parts[1:], part))[0]
        for kind in dict.fromkeys(found.kinds.tolist()):
            loops, row = self.walk.open(b, group, found.kinds == kind, str(kind), around=around)
            yield kind, Here({name: row.number(b, name) for name in found.nest.names})
            for _ in range(loops):
                b.close()
        for _ in range(1 + (part is not None) + len(around)):
            b.close()


def steps_of(columns: dict[str, Longs], kinds: Longs, table: Callable[[str, Any], str]
             ) -> Steps | None:
    """The loops over the rows of these columns and kinds (n each), as `sequences_of` has them. None
    where that leaves more than a quarter of the arrays, or these are short."""
    if len(kinds) < FEW:
        return None
    found = sequences_of(columns, kinds)
    varying = sum([len(column) for column in columns.values() if (column != column[0]).any()])
    return Steps(found, table) if LESS * found.cells <= varying else None
