"""Items that repeat but for what each time adds: their arrays, and the steps of an RNN."""

from __future__ import annotations

import numpy as np
import pytest
from objects import same

import ncc
from ncc.driver.compiler import Build
from ncc.driver.settings import options
from ncc.machine.llvm import target
from ncc.passes.lower.arrays.folds import Uneven, parts_of


def items(rng):
    """Keys, and a number each, of items that lead, some that repeat, and some that follow."""
    lead, length, times, tail = rng.integers(0, 6, 2).tolist() + rng.integers(1, 12, 2).tolist()
    length += 1
    keys = np.concatenate([rng.integers(0, 4, lead), np.tile(rng.integers(0, 4, length), times),
                           rng.integers(0, 4, tail)])
    more = rng.integers(-9, 9, length)
    moved = rng.integers(0, 99, length) + np.arange(times)[:, None] * more
    return keys, np.concatenate([rng.integers(0, 99, lead), moved.ravel(),
                                 rng.integers(0, 99, tail)])


def test_folded_items_are_all_items():
    rng, folded = np.random.default_rng(0), 0
    for _ in range(300):
        keys, numbers = items(rng)
        found = parts_of(keys, np.arange(len(keys) + 1), numbers)
        if found is None:
            continue
        folded += 1
        parts, fold = found
        first, more = fold.folded(numbers)
        walked, begin = [], 0
        for end, times in zip(parts.ends.tolist(), parts.times.tolist(), strict=True):
            walked += [(keys[fold.kept[k]], first[k] + time * more[k])
                       for time in range(times) for k in range(begin, end)]
            begin = end
        assert walked == list(zip(keys, numbers, strict=True))
        # Parts of the items, as many as each one's key and one more.
        starts = np.append(0, np.cumsum(keys + 1))
        of_parts = np.repeat(numbers, keys + 1) * 3 + np.arange(starts[-1])
        within = fold.within(starts)
        first, more = within.folded(of_parts)
        assert np.array_equal(first[within.of] + within.time * more[within.of], of_parts)
    assert folded > 100


def test_what_does_not_repeat_is_not_folded():
    keys = np.tile([0, 1], 20)
    parts, fold = parts_of(keys, np.arange(41), np.arange(40) * 5)
    assert len(fold.kept) == 2 and parts.times.tolist() == [20]
    with pytest.raises(Uneven):
        fold.folded(np.arange(40) ** 2)
    with pytest.raises(Uneven):
        fold.within(np.append(0, np.cumsum(np.arange(40))))
    assert parts_of(np.arange(40), np.arange(41), np.arange(40)) is None


def test_gradients_of_steps_are_loops_over_times():
    """Of 12 steps the bits, of 40 not many more numbers than of 20: of lists that mix what moves
    with the steps and what moves with the inputs."""
    net = ncc.new("lstm", "3x12", "h8", init="xavier")
    fn = ncc.compile(net, dtype="f32", form="shared", batch_form="shared", backward_form="table",
                     cache=False)
    x = np.random.default_rng(0).normal(size=(37, len(net.inputs))).astype(np.float32)
    y, pullback = fn.vjp(x)
    dy = np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape)
    for mine, theirs in zip(pullback(dy), net.graph.gradient(x, dy, dtype="f32"), strict=True):
        same(mine, theirs)

    def tables(steps):
        machine = target("x86-64-v4")
        build = Build(ncc.new("lstm", f"3x{steps}", "h8").graph, machine, options(
            machine, name="net", form="shared", batch_form="shared", backward_form="table",
            gradient=True))
        return len(build.plan.rows), {t.name: len(t.values) for t in build.module.tables}

    (few, short), (many, long) = tables(20), tables(40)
    assert "back_part_times" in short and max(
        len_ for name, len_ in short.items() if "nests" in name) < 40
    assert sum(long.values()) - sum(short.values()) < (many - few)
