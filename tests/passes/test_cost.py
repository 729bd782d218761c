"""The cost model: it predicts something for every form, and chooses by it."""

from __future__ import annotations

import ctypes
import math
import time

import numpy as np
import pytest
from nets import random_layers
from shared_nets import dense, mixed, patches, radix

import ncc
from ncc.bench.peak import calibrate
from ncc.driver.compiler import Build
from ncc.driver.pipeline import steps
from ncc.driver.settings import options
from ncc.ir.plan import FORMS
from ncc.machine.llvm import Loaded, host
from ncc.machine.model import LEVEL2
from ncc.nets.random_layers import layers
from ncc.passes.plan.cost import predict, tiles
from ncc.passes.plan.group import KINDS, PER_KIND, STRAIGHT, STRAIGHT_BATCH, WORTH, group

ALONG = [s for s in steps() if s.name not in ("resolve", "order")]
NETS = {
    "dense": lambda: dense(40, 40, 40, 10),
    "sparse": lambda: ncc.parse(random_layers([64] * 4, 12, 1, weights=True)),
    "patches": patches,
    "radix": radix,
    "mixed": mixed,
    "small": lambda: dense(4, 3, 2),
}


def seconds(net, form):
    """Of forward, and of forward_batch for each of 256 samples: the least of some rounds."""
    chosen = options(host(), form=form, batch_form=form, limit=False)
    build = Build(net.graph, host(), chosen, along=ALONG)
    loaded = Loaded(build.object(), ["net_forward", "net_forward_batch"])
    pointer = ctypes.c_void_p
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, len(net.inputs))).astype(np.float32)
    y = np.zeros((256, len(net.outputs)), np.float32)
    raw = np.zeros(len(build.plan.packed) + 64 * 64 * (build.plan.batch.work + 2), np.float32)
    aligned = raw[-raw.ctypes.data % 64 // 4 :]
    packed = aligned[: len(build.plan.packed)]
    packed[:] = rng.uniform(-0.1, 0.1, len(packed))
    work = aligned.ctypes.data + (len(packed) * 4 + 63) // 64 * 64
    given = (x.ctypes.data, packed.ctypes.data, y.ctypes.data, work)
    single = ctypes.CFUNCTYPE(None, *[pointer] * 4)(loaded.addresses["net_forward"])
    batch = ctypes.CFUNCTYPE(None, ctypes.c_size_t, *[pointer] * 4)(
        loaded.addresses["net_forward_batch"])

    def least(call, count):
        times = []
        for _ in range(10):
            began = time.perf_counter()
            for _ in range(count):
                call()
            times.append((time.perf_counter() - began) / count)
        return min(times)

    return least(lambda: single(*given), 100), least(lambda: batch(256, *given), 2) / 256


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] * (name != "small"))
    for name in NETS])
def test_every_form_has_a_prediction(name):
    """Predicted beside measured (pytest -s): nothing is asserted of times."""
    net = NETS[name]()
    native = max(1, host().vector_bits // 32)
    second = calibrate(3).best * 1e9 / (2 * native)  # cycles: two FMAs each
    for form in FORMS:
        plan = group(net.graph, form=form, batch_form=form, native=native)
        predicted = predict(plan, form, native=native)
        assert all(math.isfinite(p) and p > 0 for p in predicted)
        measured = [t * second for t in seconds(net, form)]
        print(f"{name}, {form}: " + ", ".join(
            f"{what} {p:.0f} / {m:.0f} = {p / m:.2f}" for what, p, m in
            zip(("one sample", "batch"), predicted, measured, strict=True)))


def test_the_cheapest_form_is_chosen():
    """Of both functions together: their loops, if both have any, are over one packed layout. What
    is straight has to be worth its compile, and what is shared to have few kinds of tiles: in
    `mixed`, of 34 kinds, shared rows were measured to be slower than straight code, too."""
    for make in NETS.values():
        graph = make().graph
        plan = group(graph, native=16, assembles=True)
        length = len(plan.edges) + len(plan.rows) + len(graph.outputs)
        plans = {form: group(graph, form=form, batch_form=form, native=16) for form in FORMS}
        costs = {form: predict(of, form, native=16) for form, of in plans.items()}
        schedules = (plan.single, plan.batch)
        for k, schedule in enumerate(schedules):
            assert f"{costs[schedule.form][k]:.0f} cycles a sample predicted" in schedule.why

        def total(forms, costs=costs, length=length):
            return sum([costs[form][k] * (1 + length / WORTH * (form == "straight"))
                        / costs["straight"][k] for k, form in enumerate(forms)])

        allowed = [["straight"] * (length <= limit) for limit in (STRAIGHT, STRAIGHT_BATCH)]
        few = tiles(plans["shared"]) <= KINDS + len(plan.edges) // PER_KIND
        best = min(total((a, b)) for looped in ("table", "shared")[: 1 + few]
                   for a in (*allowed[0], looped) for b in (*allowed[1], looped))
        assert total([s.form for s in schedules]) <= 1.05 * best  # ties


def test_the_cost_of_a_plan_is_what_chose_its_form():
    """Of a net whose weights are in no level-2 cache, too."""
    plan = group(layers([736] * 3).graph, native=16)
    assert len(plan.packed) * 4 > LEVEL2
    cycles = predict(plan, plan.single.form, native=16).single
    assert plan.single.why.startswith(f"{cycles:.0f} cycles a sample predicted")


def test_a_small_dense_net_is_shared_and_a_tiny_one_straight():
    assert group(dense(16, 32, 5).graph, native=16).single.form == "shared"
    assert group(dense(4, 3, 2, how="relu").graph, native=16).single.form == "straight"


def test_without_vectors_rows_of_a_block_follow_one_another():
    plan = group(dense(16, 32, 5).graph, form="shared", batch_form="shared", native=1)
    assert {s.rows for s in plan.segments} == {4, 1}
    assert predict(plan, "shared", native=1).single > predict(
        group(dense(16, 32, 5).graph, form="shared", batch_form="shared", native=16), "shared",
        native=16).single


def test_sharing_wants_edges_for_each_kind_of_its_blocks():
    """Code of its own for each kind of blocks takes long to compile: not in a net of few edges."""
    rng = np.random.default_rng(3)
    text = [f"{k:03x}" for k in range(40)]
    for k in range(60):  # in-lists of 1 to 15 sources, of 1 to 8 rows each
        sources = ",".join([f"{j:03x}" for j in rng.choice(40, 1 + k // 4, replace=False)])
        text += [f"{len(text) + row:03x} tanh {sources}" for row in range(1 + k % 8)]
    text.insert(0, f"N {len(text):03x}")
    irregular = ncc.parse("\n".join(text) + "\n").graph
    for graph, shared in ((irregular, False), (dense(40, 40, 40, 10).graph, True)):
        assert (group(graph, native=16).batch.form == "shared") is shared
        asked = group(graph, native=16, form="shared", batch_form="shared")
        assert asked.batch.form == "shared"
