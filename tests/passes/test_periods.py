"""Turns that repeat: all turns, in their order, with the numbers of their chunks."""

from __future__ import annotations

import numpy as np
import pytest

from ncc.ir import csr
from ncc.ir.plan import Run
from ncc.passes.lower.arrays.periods import Periods, periods_of
from ncc.passes.lower.arrays.turns import Kind


def turns_of(periods: Periods):
    """The turns that are gone through, each with how often it was before."""
    begin = 0
    for end, times in zip(periods.ends.tolist(), periods.times.tolist(), strict=True):
        for time in range(times):
            yield from ((turn, time) for turn in periods.turns[begin:end].tolist())
        begin = end


def of_turns(classes: list[list[int]], moved):
    """The periods of turns with segments of these classes, of as many chunks each, and no chunk
    in those of class 0; `moved`(turn, k): what is added in chunk k of a turn."""
    flat = np.array([of for turn in classes for of in turn], np.int64)
    begins = csr.starts(np.array([len(turn) for turn in classes]))
    chunks = csr.starts(flat)
    owner = np.repeat(csr.owners(begins), flat)
    within = csr.within(np.diff(chunks[begins]))
    by = {"places": np.array([moved(*at) for at in zip(owner.tolist(), within.tolist(),
                                                       strict=True)], np.int64)}
    kind = Kind(Run(0, 1, 0, 0, False), "0", np.arange(len(flat)), begins[:-1], begins[1:])
    found = periods_of([kind], begins, flat, chunks, by, flat == 0)
    # Every turn comes to what it is without.
    made = [turn for turn, _ in turns_of(found)]
    assert [classes[turn] for turn in made] == classes
    for turn, (like, time) in enumerate(turns_of(found)):
        mine, its = [np.arange(chunks[begins[t]], chunks[begins[t + 1]]) for t in (turn, like)]
        at = np.searchsorted(found.chunks, its)
        assert np.array_equal(found.chunks[at], its)
        assert np.array_equal(by["places"][mine],
                              by["places"][its] + time * found.steps["places"][at])
        assert found.repeats[at].all() or time == 0
        assert 0 not in classes[turn] or like == turn
    return found


def test_steps_are_kept_once():
    found = of_turns([[3], *[[1, 2], [2]] * 10, [5]], lambda turn, k: 7 * (turn // 2) + k)
    assert (found.ends.tolist(), found.times.tolist()) == ([1, 3, 4], [1, 10, 1])
    assert found.turns.tolist() == [0, 1, 2, 21]
    assert found.alike(found.steps["places"], found.repeats) == 7


def test_places_that_repeat_each_third_step():
    found = of_turns([[2], [1]] * 12, lambda turn, k: (turn // 2) % 3 * 50 + turn // 6 * 4)
    assert (found.ends.tolist(), found.times.tolist()) == ([6], [4])


def test_hardly_a_turn_is_saved():
    found = of_turns([[2], [1]] * 12, lambda turn, k: turn * turn)
    assert (found.ends.tolist(), found.times.tolist()) == ([24], [1])


@pytest.mark.parametrize("seed", range(30))
def test_any_turns(seed):
    rng = np.random.default_rng(seed)
    classes = []
    for _ in range(rng.integers(1, 4)):
        step = [rng.integers(0 if rng.random() < 0.1 else 1, 4, rng.integers(1, 3)).tolist()
                for _ in range(rng.integers(1, 4))]
        classes += step * int(rng.integers(1, 12))
    steps = rng.integers(0, 3, (len(classes), 9)) * (rng.random() < 0.5)
    slope = rng.integers(0, 4, 9)
    late = int(rng.integers(0, len(classes)))
    of_turns(classes, lambda turn, k: int(slope[k % 9] * turn + steps[turn, k % 9] * (turn < late)))
