"""Loop nests that are recovered from arrays: all rows, in their order, with their numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ncc.ir.ssa import Buffer, Func, Module, Table
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.arrays.nests import DEPTH, Nest, Walk, nest_of
from ncc.passes.lower.arrays.tied import tied_of


def rows_of(nest: Nest):
    """The numbers of all rows of a nest, and how many there are of each."""
    rows, lengths = [], []
    for q, first in enumerate(nest.first):
        loops = [range(count) for count in nest.counts[::-1, q].tolist()]
        made = [first + sum((k * step for k, step in zip(at, nest.steps[::-1, q], strict=True)),
                            np.zeros_like(first)) for at in itertools.product(*loops)]
        rows += made
        lengths.append(len(made))
    return np.array(rows), np.array(lengths)


def test_a_nest_has_the_rows_that_it_is_made_of():
    rng = np.random.default_rng(0)
    for _ in range(300):
        n = int(rng.integers(1, 60))
        columns = {name: (np.repeat(rng.integers(0, 3, n), rng.integers(1, 5, n))[:n]
                          + np.arange(n) * rng.integers(-1, 2)
                          + np.arange(n) // rng.integers(1, 9) * rng.integers(0, 4))
                   for name in "ab"[: rng.integers(1, 3)]}
        groups = np.sort(np.concatenate([[0, n], rng.integers(0, n + 1, 4)]))
        nest = nest_of(columns, groups)
        rows, lengths = rows_of(nest)
        assert np.array_equal(rows, np.stack([*columns.values()], axis=1))
        assert np.array_equal(np.append(0, np.cumsum(lengths))[nest.groups], groups)


def test_steps_rows_and_columns_are_three_loops():
    steps, rows, columns = np.meshgrid(range(5), range(7), range(9), indexing="ij")
    at = (1000 + 400 * steps + 40 * rows - columns).ravel()
    nest = nest_of({"at": at, "step": 3 * steps.ravel()}, np.array([0, len(at)]))
    assert nest.first.tolist() == [[1000, 0]]
    assert nest.counts.tolist() == [[9], [7], [5]]
    assert nest.steps.tolist() == [[[-1, 0]], [[40, 0]], [[400, 3]]]


@pytest.mark.parametrize("depth", [0, DEPTH])
@pytest.mark.parametrize("last_first", [False, True])
def test_a_walk_goes_through_a_groups_rows_in_their_order(depth, last_first):
    """Of loops, or of arrays; some numbers go down."""
    rows, columns = np.divmod(np.arange(24), 6)
    at = np.concatenate([[40], 7 + 10 * rows - columns, [3, 1], 50 + np.arange(5)])
    groups, tables = np.array([0, 1, 27, 27, 32]), {}

    def table(name, values):
        assert np.array_equal(tables.setdefault(name, np.asarray(values)), values)
        return name

    walk = Walk(nest_of({"at": at, "twice": 2 * at}, groups, depth), table)
    mine = np.array([False, True, True, True])
    b = Builder("f64", False)
    group = b.loop(b.index(0), b.index(len(mine)))[0]
    loops, row = walk.open(b, group, mine, "mine", last_first=last_first)
    value = b.op("add", b.load("x", 0, row.number(b, "at")), b.load("x", 0, row.number(b, "twice")))
    b.store(b.op("add", b.op("mul", b.load("y", 0), b.const(0.5)), value), "y", 0)
    for _ in range(loops + 1):
        b.close()
    held = tuple(Table(name, "i", values.astype(np.int32)) for name, values in tables.items())
    assert bool(depth) == ("count_0" in tables)
    module = Module("net", "f64", "strict", (Func("f", (
        Buffer("x", "in", 120), Buffer("y", "inout", 1)), b.ops),), held)
    module.verify()
    x, y, wanted = np.random.default_rng(0).normal(size=120), np.zeros(1), 0.0
    module.run("f", {"x": x, "y": y})
    for begin, end in itertools.pairwise(groups[1:].tolist()):
        for k in at[begin:end].tolist()[:: -1 if last_first else 1]:
            wanted = wanted * 0.5 + (x[k] + x[2 * k])
    assert y[0] == wanted


def listed(params, elements, counts, native):
    """The elements of each parameter, in their order, by what `tied_of` makes of them."""
    made, widths = {}, []
    for tied in tied_of(params, elements, counts, native):
        rows, lengths = rows_of(tied.lists)
        ends = np.append(0, np.cumsum(lengths))[tied.lists.groups]
        ranges, sizes = rows_of(tied.ranges)
        of = np.append(0, np.cumsum(sizes))[tied.ranges.groups]
        for k, (lo, hi) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
            for row in ranges[of[k] : of[k + 1]]:
                column = dict(zip(tied.ranges.names, row.tolist(), strict=True))
                for m in range(tied.wide * column.get("rounds", 1)):
                    assert column["param"] + m not in made
                    made[column["param"] + m] = (column["first"] + m + rows[lo:hi, 0]).tolist()
        widths.append(tied.wide)
    return made, widths


@pytest.mark.parametrize("native", [1, 4, 16])
def test_each_parameter_has_its_elements_in_their_order(native):
    rng = np.random.default_rng(native)
    for _ in range(15):
        n = int(rng.integers(1, 150))
        params = np.flatnonzero(rng.random(2 * n) < rng.choice([0.5, 0.95]))[:n]
        if not len(params):
            continue
        counts = np.full(len(params), rng.integers(2, 40))
        lists = rng.permutation(400)[: counts.max()] * 300
        starts = params + rng.integers(0, 2, len(params)).cumsum() * rng.choice([0, 7])
        rows = [start + lists[:count] for start, count in zip(starts, counts, strict=True)]
        if rng.random() < 0.3:  # nothing repeats
            rows = [rng.permutation(row) for row in rows]
        made, widths = listed(params, np.concatenate(rows), counts, native)
        assert made == dict(zip(params.tolist(), [row.tolist() for row in rows], strict=True))
        assert widths == sorted(set(widths), reverse=True)
        assert max(widths) <= 2 * native and (native > 1 or widths == [1])


def test_weights_of_steps_are_two_loops_of_vectors():
    """16 rows of 32 weights, 40 steps, which are 1000 elements apart."""
    params = np.concatenate([np.arange(32) + 33 * row for row in range(16)])
    first = np.concatenate([np.arange(32) + 40 * row for row in range(16)])
    elements = (first[:, None] + 1000 * np.arange(40)).ravel()
    (tied,) = tied_of(params, elements, np.full(len(params), 40), 8)
    assert tied.wide == 16
    assert tied.lists.counts.tolist() == [[40]] and tied.lists.steps.tolist() == [[[1000]]]
    columns = zip(tied.ranges.names, tied.ranges.first.T.tolist(),
                  tied.ranges.steps[0].T.tolist(), strict=True)
    assert list(columns) == [("param", [0], [33]), ("first", [0], [40]), ("rounds", [2], [0])]
