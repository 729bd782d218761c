"""Rows as nests of loops in sequences that repeat: all rows, in their order, with their kinds."""

from __future__ import annotations

import numpy as np

from ncc.passes.lower.arrays.sequences import sequences_of


def rows_of(found):
    """The numbers and the kinds of all rows, in the order of the loops."""
    nest, rows, kinds = found.nest, [], []
    for part, times in enumerate(found.times.tolist()):
        for time in range(times):
            for group in range(found.parts[part], found.parts[part + 1]):
                for q in range(nest.groups[group], nest.groups[group + 1]):
                    made = (nest.first[q] + time * nest.steps[-1, q])[None]
                    for count, step in zip(nest.counts[-2::-1, q], nest.steps[-2::-1, q],
                                           strict=True):
                        made = (made[:, None] + np.arange(count)[None, :, None] * step).reshape(
                            -1, made.shape[1])
                    rows.append(made)
                    kinds += [found.kinds[group]] * len(made)
    return np.concatenate(rows), np.array(kinds)


def test_sequences_have_the_rows_that_they_are_made_of():
    rng = np.random.default_rng(0)
    repeated = 0
    for _ in range(200):
        numbers, kinds = [], []
        for _ in range(rng.integers(1, 4)):
            n, times = int(rng.integers(1, 9)), int(rng.integers(1, 40))
            rows, steps = rng.integers(0, 9, (n, 2)), rng.integers(0, 3, (n, 2))
            numbers += [rows + time * steps for time in range(times)]
            kinds += [rng.integers(0, 3, n)] * times
        numbers, kinds = np.concatenate(numbers), np.concatenate(kinds)
        found = sequences_of(dict(zip("ab", numbers.T, strict=True)), kinds)
        rows, of = rows_of(found)
        assert np.array_equal(rows, numbers) and np.array_equal(of, kinds)
        repeated += bool((found.times > 1).any())
    assert repeated > 100


def test_steps_of_a_recurrence_stand_once():
    step, row = np.meshgrid(np.arange(50), np.arange(10), indexing="ij")
    kinds = np.where(row < 8, 0, row).ravel()
    found = sequences_of({"at": (100 * step + row**2).ravel()}, kinds)
    assert found.times.tolist() == [50]
    assert found.kinds.tolist() == [0, 8, 9]
