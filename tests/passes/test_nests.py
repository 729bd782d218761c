"""Loop nests that are recovered from arrays: all rows, in their order, with their numbers."""

from __future__ import annotations

import itertools

import numpy as np

from ncc.passes.lower.arrays.nests import Nest, nest_of


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
