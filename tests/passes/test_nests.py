"""Loop nests that are recovered from arrays: all rows, in their order, with their numbers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ncc.ir.ssa import Buffer, Func, Module, Table
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.arrays.nests import DEPTH, Nest, Walk, nest_of


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
