"""The Graph Challenge's net: its generator, and what merge finds in it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import ncc
from ncc.ir.graph import INPUT, Graph
from ncc.passes.graph.merge import merge
from ncc.passes.graph.prune import prune

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import graph_challenge as challenge  # noqa: E402


def graph(neurons: int, layers: int, *, tied: bool = False) -> Graph:
    """The net as `ncc` sees it; weights are one constant, or one slot."""
    tables = challenge.net(neurons, layers)
    count = neurons * (layers + 1)
    lengths = np.repeat([0, 32], [neurons, count - neurons])
    return Graph(
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        sources=np.concatenate([t.ravel() + neurons * k for k, t in enumerate(tables)]).astype(
            np.int32),
        weights=np.full(32 * (count - neurons), 0 if tied else -1, np.int32),
        biases=np.repeat([-(2**31), -2], [neurons, count - neurons]).astype(np.int32),
        activations=np.repeat([INPUT, 0x20], [neurons, count - neurons]).astype(np.int32),
        aggregations=np.zeros(count, np.int8),
        inputs=np.arange(neurons, dtype=np.int32),
        outputs=np.arange(count - neurons, count, dtype=np.int32),
        values=np.full(int(tied), 0.0625), constants=np.array([0.0625, -0.3]),
        names={0: "w"} if tied else {}, functions={0x20: "min(32, relu(x))"},
        levels=np.repeat(np.arange(layers + 1, dtype=np.int32), neurons))


@pytest.mark.parametrize("neurons", [1024, 4096])
def test_all_have_32_sources_and_readers_and_a_group_leads_everywhere(neurons: int) -> None:
    size = {1024: 6, 4096: 8}[neurons]
    tables = challenge.net(neurons, 2 * size)
    reach = np.eye(neurons, dtype=np.bool_)[[0, 17, neurons - 1]]
    for k, table in enumerate(tables):
        assert table.shape == (neurons, 32) and (np.diff(table, axis=1) > 0).all()
        assert (np.bincount(table.ravel(), minlength=neurons) == 32).all()
        reach = np.logical_or.reduce(reach[:, table], axis=2) if k < size else reach
    assert reach.all()
    assert not np.array_equal(tables[0], tables[size])


def test_merge_on_the_challenges_net() -> None:
    whole = graph(1024, 120)
    assert whole.n_edges == 3_932_160
    for given in (whole, graph(1024, 120, tied=True)):
        small = prune(merge(given, numerics="fused"))
        assert int((small.activations >= 0).sum()) == 7_040
        assert small.n_edges == 7_040 * 32
    fast = prune(merge(whole, numerics="fast"), numerics="fast")
    assert int((fast.activations >= 0).sum()) == 7_040
    # 167,988 with the challenge's own permutations of the groups; these are others.
    assert whole.n_edges / fast.n_edges > 23
    assert set((fast.constants[-1 - fast.weights] * 16).tolist()) <= set(range(1, 33))


def test_merged_bits() -> None:
    whole = graph(1024, 12)
    x = challenge.pictures(50, 1024)
    y = whole.run(x)
    assert (merge(whole).run(x).view(np.uint32) == y.view(np.uint32)).all()
    fast = merge(whole, numerics="fast")
    fast.verify()
    assert fast.n_edges < merge(whole).n_edges
    assert np.allclose(fast.run(x), y, rtol=1e-5, atol=1e-5)


def test_the_text_is_the_net() -> None:
    net = ncc.parse(challenge.nal(1024, 2, weight="=0.0625").decode())
    expected = graph(1024, 2)
    for name in ("starts", "sources", "weights", "activations", "inputs", "outputs"):
        assert np.array_equal(getattr(net.graph, name), getattr(expected, name)), name
    assert net.graph.constants.tolist() == [0.0625, -0.3]
    drawn = ncc.parse(challenge.nal(1024, 2, weight="random").decode())
    assert drawn.n_params == drawn.n_edges == 65_536 and len(np.unique(drawn.params)) > 30_000
    assert np.array_equal(drawn.graph.sources, expected.sources)
