"""The order of a straight function's rows: each row once, after what it reads; slots that hold."""

from __future__ import annotations

import random

import numpy as np
import pytest

import ncc
from ncc.ir.plan import Plan
from ncc.passes.lower.schedule import FEW, in_time, pays, slots_of
from ncc.passes.plan.group import group
from ncc.passes.plan.place import place

KINDS = ("sigmoid", "tanh", "relu", "gauss", "sin", "softplus", "abs")


def genome(neurons: int, seed: int, kinds: tuple[str, ...] = KINDS) -> str:
    rng = random.Random(seed)
    lines = [f"N {neurons:x}", *[f"{i:x}" for i in range(4)]]
    for j in range(4, neurons):
        sources = sorted({rng.randrange(max(0, j - 15), j), *rng.sample(range(j), min(j, 3))})
        edges = ",".join(f"{i:x}:{rng.gauss(0, 0.5):.3f}" for i in sources)
        lines.append(f"{j:x} {rng.choice(kinds)} {edges} +{rng.gauss(0, 0.5):.3f}")
    return "\n".join(lines) + "\n"


def planned(text: str) -> Plan:
    return place(group(ncc.parse(text).graph, form="straight"))


@pytest.mark.parametrize("side", [1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_rows_follow_what_they_read(seed: int, side: int) -> None:
    plan = planned(genome(120, seed))
    g = plan.graph
    groups = in_time(plan, "f32", True, side)
    assert sorted(r for some in groups for r in some) == list(range(len(plan.rows)))
    made = set(g.inputs.tolist())
    slots, used = slots_of(plan, groups)
    holds: dict[int, int] = {}
    for some in groups:
        assert 1 <= len(some) <= side
        rows = [int(plan.rows[r]) for r in some]
        assert len({(g.activations[j], g.aggregations[j]) for j in rows}) == 1
        for r in some:
            for i in g.sources[plan.edges[plan.starts[r] : plan.starts[r + 1]]].tolist():
                assert i in made
                assert i in g.inputs or holds[slots[i]] == i
        made.update(rows)
        for j in rows:
            if slots[j] >= 0:
                assert slots[j] < used
                holds[slots[j]] = j


def test_the_longest_way_comes_first() -> None:
    """A chain of tanh beside many rows that nothing waits for: the chain's rows begin at once."""
    n = 100
    chain = [f"{j:x} tanh {j - 1:x}:1" for j in range(1, 20)]
    leaves = [f"{j:x} tanh 0:1" for j in range(20, n)]
    plan = planned("\n".join([f"N {n:x}", "0", *chain, *leaves]) + "\n")
    groups = in_time(plan, "f32", True, 4)
    place_of = {int(plan.rows[r]): k for k, rows in enumerate(groups) for r in rows}
    assert place_of[1] == 0
    assert place_of[2] < max(place_of[j] for j in range(20, n))
    assert max(len(rows) for rows in groups) == 4


def test_pays_where_something_is_long() -> None:
    assert pays(planned(genome(120, 0)), "f32", True)
    assert not pays(planned(genome(120, 0, ("relu", "abs"))), "f32", True)
    assert not pays(planned(genome(FEW, 0)), "f32", True)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("numerics", ["strict", "fused"])
def test_no_bit_changes(dtype: str, numerics: str) -> None:
    """The straight function in time gives the bits of the loops, and of a batch."""
    text = genome(150, 3)
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(
        np.float32 if dtype == "f32" else np.float64)
    net = ncc.parse(text)
    straight = ncc.compile(net, dtype=dtype, numerics=numerics, form="straight")
    table = ncc.compile(net, dtype=dtype, numerics=numerics, form="table")
    for row in x:
        np.testing.assert_array_equal(straight(row), table(row))
    np.testing.assert_array_equal(straight(x), np.stack([table(row) for row in x]))
