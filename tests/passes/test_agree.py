"""Agreement: reference, graph, plan, ssa after every pass, and machine code have one answer."""

from __future__ import annotations

import numpy as np
import pytest
from agree import Every
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import inputs_for, nets, random_layers, to_nal
from objects import same
from reference import agrees, run

import ncc
from ncc.driver.compiler import Build
from ncc.driver.net_module import interpret
from ncc.driver.observe import Watcher
from ncc.driver.pipeline import AFTER_ORDER, steps, walk
from ncc.driver.settings import options
from ncc.ir.graph import AGGREGATIONS
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module
from ncc.machine.llvm import host
from ncc.passes.graph.order import order
from ncc.passes.graph.resolve import resolve


def everywhere(net, x, dtype, numerics, form):
    real = np.float32 if dtype == "f32" else np.float64
    x = x.astype(real)
    graph = ncc.parse(to_nal(net)).graph
    chosen = options(host(), dtype=dtype, numerics=numerics, form=form, batch_form=form)
    watch = Every(x, graph.values, dtype, numerics)
    watch.y = graph.run(x, graph.values, dtype=dtype, numerics=numerics)
    along = [s for s in steps() if s.call not in (resolve, order)]
    walk(graph, chosen, watch, along=along)
    expected = run(net, x, None, real)
    assert agrees(watch.y, expected).all()
    for opt in (0, 2):
        fn = ncc.compile(ncc.Net(graph), dtype=dtype, numerics=numerics, opt=opt, form=form,
                         batch_form=form)
        same(fn(x), watch.y)
        for row, y in zip(x, watch.y, strict=True):
            same(fn(row), y)


@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@settings(max_examples=max(1, settings.default.max_examples // 2))
@given(data=st.data())
@pytest.mark.each_choice
def test_every_level_has_the_same_answer(data, dtype, numerics, form):
    net = data.draw(nets())
    everywhere(net, data.draw(inputs_for(net)), dtype, numerics, form)


@given(data=st.data())
def test_wild_inputs_agree_too(data):
    net = data.draw(nets(tame=False, max_neurons=8))
    x = data.draw(inputs_for(net, wild=True))
    graph = ncc.parse(to_nal(net)).graph
    for form in ("straight", "table", "shared"):
        fn = ncc.compile(ncc.Net(graph), form=form, batch_form=form)
        same(fn(x), graph.run(x, graph.values))


@given(data=st.data())
def test_embedded_weights_change_nothing(data):
    net = data.draw(nets())
    x = data.draw(inputs_for(net))
    graph = ncc.parse(to_nal(net)).graph
    along = [s for s in steps() if s.call not in (resolve, order)]
    for form in ("straight", "table", "shared"):
        common = options(host(), form=form, batch_form=form, params=graph.values,
                         embedded=True)
        build = Build(graph, host(), common, along=along, embedded=True)
        assert all(b.name != "packed" for f in build.module.funcs for b in f.buffers)
        for batch in (False, True):
            same(interpret(build.module, x, graph.values, batch=batch), graph.run(x, graph.values))


@pytest.fixture(scope="module")
def layered():
    """One net in every form and dtype."""
    net = ncc.parse(random_layers([24, 20, 12], 8, seed=1, weights=True))
    return [ncc.compile(net, dtype=dtype, batch_form=form, form=form) for dtype in ("f32", "f64")
            for form in ("straight", "table", "shared")]


@pytest.mark.parametrize("n", [1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 200])
def test_ragged_batches(layered, n):
    x = np.random.default_rng(n).standard_normal((n, 24)).astype(np.float32)
    for fn in layered:
        same(fn(x), np.stack([fn(row) for row in x]))


@pytest.mark.parametrize("block", [1, 2, 3, 8])
@pytest.mark.parametrize("lanes", [1, 16, 48])
def test_blocks_and_lanes_change_no_bit(block, lanes):
    rows = ["N 1e", *[f"{i:02x}" for i in range(6)]]
    rng = np.random.default_rng(7)
    for j in range(6, 30):
        sources = sorted(rng.choice(min(j, 6 + 8 * ((j - 6) // 8)), 2 + j % 2, replace=False))
        agg = ("", "max ", "mean ")[j // 8 % 3]
        rows.append(f"{j:02x} tanh {agg}" + ",".join(
            [f"{i:02x}:{rng.integers(-8, 9) / 4}" for i in sources]))
    net = ncc.parse("\n".join(rows))
    x = rng.standard_normal((50, 6)).astype(np.float32)
    fn = ncc.compile(net, form="table", batch_form="table", block=block, lanes_block=block,
                     lanes=lanes)
    same(fn(x), net.graph.run(x))
    same(np.stack([fn(row) for row in x]), net.graph.run(x))


def test_long_straight_code_is_split_and_agrees():
    net = ncc.parse(random_layers([60, 60, 60, 60, 60], 20, seed=3, weights=True))
    x = np.random.default_rng(0).standard_normal((5, 60)).astype(np.float32)
    watcher = Watcher(verify_each=True)
    along = [s for s in steps("fold,cse,dce,expand,split{piece=500}")]
    plan = walk(net.graph, options(host(), form="straight"), until=Plan,
                along=[s for s in steps() if s.call not in (resolve, order)])
    module = walk(plan, options(host()), until=Module, along=steps("lower"))
    module = walk(module, options(host(), assembles=False), watcher, until=Module, along=along)
    assert len(module.funcs) > 5
    same(interpret(module, x, net.params), net.graph.run(x))
    assert plan.single.work <= 121


@pytest.mark.parametrize("seed", range(4))
def test_slots_last_as_long_as_loops_by_aggregation_and_activation_want(seed):
    """Within a level rows are summed up in the order of their aggregations then, not in the plan's:
    a value that one of them reads keeps its slot until all are."""
    rng = np.random.default_rng(seed)
    lines = [f"{j:02x}" for j in range(6)]
    for _ in range(3):
        before = len(lines)
        for j in range(before, before + 24):
            word = ("tanh", "relu", "abs", "silu")[rng.integers(4)]
            word += ("", " max", " mean", " min")[rng.integers(4)]
            sources = rng.choice(before, rng.integers(1, 4), replace=False)
            lines.append(f"{j:02x} {word} " + ",".join(
                [f"{i:02x}:{rng.standard_normal():.3f}" for i in sources]))
    graph = ncc.parse("\n".join(["N 4e", "out 4d,4c,4b,4a,49,48", *lines])).graph
    x = rng.standard_normal((5, 6)).astype(np.float32)
    for lanes in (1, 16):
        chosen = options(host(), form="table", batch_form="table", lanes=lanes)
        made = Build(graph, host(), chosen)
        assert made.plan.phased and made.plan.single.work < graph.n_neurons
        y = graph.run(x, numerics=chosen["numerics"])
        same(interpret(made.module, x, graph.values), y)
        same(interpret(made.module, x, graph.values, batch=True), y)


@pytest.mark.parametrize("fan_in", [1, 2, 3, 4])
@pytest.mark.parametrize("agg", AGGREGATIONS)
def test_rows_with_as_many_edges_as_each_other_need_no_loop_over_them(agg, fan_in):
    """Up to three: with a bias, and without one in the same kind of rows."""
    sources = range(fan_in)
    lines = ["N 07", *[f"{i:02x}" for i in range(4)]]
    for j, bias in ((4, " +0.5"), (5, "")):
        edges = ",".join([f"{(i + j) % 4:02x}" + f"*{i:02x}" * (agg == "dot") + f":{i - 1.5}"
                          for i in sources])
        lines.append(f"{j:02x} tanh {agg} {edges}{bias}")
    net = ncc.parse("\n".join([*lines, "06 relu 04:1,05:-1"]))
    chosen = options(host(), form="table", batch_form="table")
    forward = Build(net.graph, host(), chosen, along=AFTER_ORDER).module.func("forward")
    carries = [op for op in forward.ops if op[0] == "carry"]
    assert len(carries) == (fan_in > 3)
    x = np.random.default_rng(0).standard_normal((37, 4)).astype(np.float32)
    fn = ncc.compile(net, form="table", batch_form="table", cache=False)
    same(fn(x), net.graph.run(x))
    same(np.stack([fn(row) for row in x]), net.graph.run(x))
