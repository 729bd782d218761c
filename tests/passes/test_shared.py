"""Rows that share their sources: found, laid side by side, and computed to the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from agree import Every
from nets import random_layers
from objects import same
from shared_nets import dense, mixed, net_of, patches, radix

import ncc
from ncc.driver.compiler import Build
from ncc.driver.net_module import interpret
from ncc.driver.pipeline import steps, walk
from ncc.driver.settings import options
from ncc.errors import NccError, Source
from ncc.ir.csr import representatives
from ncc.ir.plan_text import read
from ncc.machine.llvm import host, target
from ncc.passes.plan.group import group
from ncc.passes.plan.place import place
from ncc.runtime.compiled import Compiled

ALONG = [s for s in steps() if s.name not in ("resolve", "order")]


NETS = {
    "dense": lambda: dense(20, 37, 16, 5),
    "one row": lambda: dense(9, 1, 4),
    "no bias": lambda: dense(17, 40, 3, bias=""),
    "patches": patches,
    "tied patches": lambda: patches(tied=True),
    "radix": radix,
    "mixed": mixed,
}


def x_for(net, n, dtype="f32"):
    real = np.float32 if dtype == "f32" else np.float64
    x = np.random.default_rng(1).standard_normal((n, len(net.inputs))).astype(real)
    x[-1, ::3] = np.inf
    x[:, 1] = -0.0
    return x


@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.each_choice
def test_every_level_has_the_same_answer(name, dtype, numerics):
    net = NETS[name]()
    x = x_for(net, 33, dtype)
    chosen = options(host(), dtype=dtype, numerics=numerics, form="shared", batch_form="shared")
    watch = Every(x[:3], net.graph.values, dtype, numerics)
    watch.y = net.graph.run(x[:3], net.graph.values, dtype=dtype, numerics=numerics)
    walk(net.graph, chosen, watch, along=ALONG)
    expected = net.graph.run(x, net.graph.values, dtype=dtype, numerics=numerics)
    fn = ncc.compile(net, dtype=dtype, numerics=numerics, form="shared", batch_form="shared")
    for n in (1, 7, 8, 33):
        same(fn(x[:n]), expected[:n])
    same(np.stack([fn(row) for row in x[:5]]), expected[:5])


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("name", ["dense", "patches", "mixed"])
@pytest.mark.each_choice
def test_every_width_of_vectors(name, width):
    net = NETS[name]()
    x = x_for(net, 19)
    expected = net.graph.run(x, net.graph.values)
    for rows in (3, 8):
        chosen = options(host(), form="shared", batch_form="shared", native=width, lanes=2 * width,
                         vector_bits=32 * width if width > 1 else 0, lanes_rows=rows)
        build = Build(net.graph, host(), chosen, along=ALONG)
        build.plan.verify()
        for batch in (False, True):
            same(interpret(build.module, x, net.graph.values, batch=batch), expected)
    how = {"native": width, "lanes": 2 * width, "vector_bits": 32 * width if width > 1 else 0}
    fn = ncc.compile(net, form="shared", batch_form="shared", **how)
    same(fn(x), expected)
    same(fn(x[0]), expected[0])


@pytest.mark.parametrize("rows", [
    pytest.param(rows, marks=[pytest.mark.slow] * (rows not in (1, 7, 8, 9, 17)))
    for rows in range(1, 19)])
def test_ragged_blocks(rows):
    net = dense(5, rows, 3 * rows, 1)
    x = x_for(net, 9)
    expected = net.graph.run(x, net.graph.values)
    for dtype in ("f32", "f64"):
        fn = ncc.compile(net, dtype=dtype, form="shared", batch_form="shared")
        if dtype == "f32":
            same(fn(x), expected)
            same(fn(x[0]), expected[0])
        else:
            same(fn(x), net.graph.run(x.astype(np.float64), net.graph.values, dtype="f64"))


def test_embedded_weights_are_padded_too():
    net = NETS["mixed"]()
    x = x_for(net, 5)
    common = options(host(), form="shared", batch_form="shared", params=net.graph.values,
                     embedded=True)
    build = Build(net.graph, host(), common, along=ALONG, embedded=True)
    for batch in (False, True):
        same(interpret(build.module, x, net.graph.values, batch=batch),
             net.graph.run(x, net.graph.values))


@pytest.mark.parametrize("native", [1, 3, 32])
@pytest.mark.parametrize("name", NETS)
@pytest.mark.each_choice
def test_a_plan_text_of_another_machine_computes_the_same(name, native):
    """Tiles of whatever height: no vector of this machine, nor a power of two, has to fit them."""
    graph = NETS[name]().graph
    plan = read(Source("p", str(place(group(graph, form="shared", batch_form="shared",
                                            native=native)))))
    build = Build(plan, host(), options(host()))
    fn, x = Compiled(graph, build=build, cache=False), x_for(NETS[name](), 33)
    expected = graph.run(x)
    same(fn(x), expected)
    same(fn(x[0]), expected[0])


# ---- the plan


def planned(net, **more):
    return place(group(net.graph, form="shared", batch_form="shared", native=16, **more))


def test_the_plan_says_what_is_shared():
    text = str(planned(dense(3, 6, 2)))
    assert "single: shared" in text
    for rows, room, fan_in in ((6, 8, 3), (2, 2, 6)):
        assert text.count(f"  segment of {fan_in} edges a row, tiles of {room} rows\n"
                          f"  tile of {rows} rows\n") == 1


def test_blocks_stand_side_by_side():
    plan = planned(dense(4, 16 * 6 + 3))
    assert [(s.rows, s.side, s.last - s.first) for s in plan.segments] == [
        (16, 4, 4), (16, 2, 2), (4, 1, 1)]
    assert len(plan.packed) == 4 * (96 + 4) + 96 + 4
    assert sum(plan.packed < 0) == 4 + 1  # the row that the last block lacks


def test_what_shares_is_found_by_order_activation_and_aggregation():
    net = net_of(["4 tanh 0,1,2", "5 tanh 2,1,0", "6 relu 0,1,2", "7 tanh max 0,1,2",
                  "8 tanh 0,1,2", "9 tanh 0,1", "a tanh 0,1,2,3"], 4)
    alive = np.arange(4, 11, dtype=np.int32)
    g = net.graph
    found = representatives(g.starts, g.sources, alive, g.activations, g.aggregations)
    assert found.tolist() == [0, 1, 2, 3, 0, 5, 6]


def test_a_random_net_stays_a_table_and_a_dense_one_is_shared():
    sparse = ncc.parse(random_layers([200] * 4, 20, 1, weights=True))
    assert group(sparse.graph, native=16).batch.form == "table"
    assert group(dense(100, 100, 10).graph, native=16).batch.form == "shared"


def test_a_table_beside_a_shared_function_is_refused():
    with pytest.raises(NccError, match="E602"):
        group(dense(3, 3).graph, form="table", batch_form="shared")


def broken(plan, **changes):
    with pytest.raises(NccError, match="E304"):
        plan.with_(**changes).verify()


def test_a_broken_plan_is_caught():
    plan = planned(dense(4, 20, 18))
    plan.verify()
    packed = plan.packed.copy()
    packed[[0, 1]] = packed[[1, 0]]
    broken(plan, packed=packed)
    broken(plan, segments=plan.segments[:-1])
    broken(plan, segments=(plan.segments[0]._replace(side=2), *plan.segments[1:]))
    broken(plan, segments=(plan.segments[0]._replace(fan_in=3), *plan.segments[1:]))
    blocks = plan.blocks.copy()
    blocks[1] -= 1
    broken(plan, blocks=blocks)
    slots = plan.single.slots.copy()
    slots[plan.rows[-1]] = slots[plan.rows[0]]
    broken(plan, single=type(plan.single)("shared", "", slots, plan.single.work))


def test_a_block_takes_no_slot_that_its_level_reads():
    """Chains of dense layers: two layers' slots, and the inputs'."""
    plan = planned(dense(16, *[16] * 20))
    assert plan.single.work == 16 + 2 * 16


# ---- what it is for


def test_a_source_is_loaded_once_a_block():
    """512 rows of 64 sources: 512 * 64 weights, and a source for each 64 of them."""
    module = Build(dense(64, 512).graph, host(), options(
        host(), form="shared", batch_form="shared", native=16, lanes_rows=8), along=ALONG).module
    for name, rows in (("forward", 4), ("forward_batch", 8)):
        ops = module.func(name).ops
        inner = max(at for at, op in enumerate(ops) if op[0] == "fma")
        while ops[inner][0] != "for":
            inner -= 1
        body = ops[inner : next(at for at in range(inner, len(ops)) if ops[at][0] == "yield")]
        loads = [op[2][0] for op in body if op[0] == "load"]
        assert loads.count("work") == loads.count("sources") == 1
        assert loads.count("packed") == sum(op[0] == "fma" for op in body) == rows


def test_weights_from_afar_serve_longer_rounds(monkeypatch):
    net = dense(16, 40, 8)
    x = x_for(net, 70)
    how = {"form": "shared", "batch_form": "shared", "native": 16, "lanes": 32, "far_lanes": 64,
           "lanes_rows": 8}
    lanes = []
    for far in (1 << 30, 100):
        monkeypatch.setattr("ncc.passes.lower.forward.FAR_WEIGHTS", far)
        module = Build(net.graph, host(), options(host(), **how), along=ALONG).module
        ops = module.func("forward_batch").ops
        lanes.append(max(op[2] for op in ops if op[0] == "for"))
        same(interpret(module, x, net.graph.values, batch=True),
             net.graph.run(x, net.graph.values))
    assert lanes == [32, 64]


def test_rows_by_themselves_run_in_longer_rounds():
    """The form of most edges decides, and the results are the same."""
    rows = ",".join(f"{i:x}" for i in range(6))
    apart = [f"{8 + k:x} relu {k:x},{k + 1:x},{k + 2:x}" for k in range(6)]
    few = net_of([*[f"{8 + k:x} relu {rows}" for k in range(16)], "18 relu 0,1"], 8)
    for net, expected in ((few, 16), (net_of(apart, 8), 32)):
        chosen = options(host(), form="shared", batch_form="shared", native=8, lanes=16,
                         alone_lanes=32, lanes_rows=4)
        module = Build(net.graph, host(), chosen, along=ALONG).module
        assert max(op[2] for op in module.func("forward_batch").ops if op[0] == "for") == expected
        x = x_for(net, 40)
        same(interpret(module, x, net.graph.values, batch=True),
             net.graph.run(x, net.graph.values))


def test_the_weights_of_blocks_are_prefetched():
    """One address an edge of a tile of rows, none of a row by itself or without vectors."""
    def prefetches(net, name):
        chosen = options(target(name), form="shared", batch_form="shared")
        return Build(net.graph, target(name), chosen, along=ALONG).llvm.count(
            "call void @llvm.prefetch")

    apart = net_of([f"{8 + k:x} relu {k:x},{k + 1:x},{k + 2:x}" for k in range(6)], 8)
    for name in ("x86-64-v3", "x86-64-v4", "aarch64"):
        assert prefetches(dense(16, 32), name) > 0
        assert prefetches(apart, name) == 0
    assert prefetches(dense(16, 32), "cortex-m4f") == 0
