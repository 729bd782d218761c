"""`each` and `each_backward` at every level: plan, ssa before and after each pass, C, vectors."""

from __future__ import annotations

import ctypes
import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from nets import some_net, to_nal
from objects import AGGREGATES, same

import ncc
from ncc.driver.compiler import Build
from ncc.driver.observe import Watcher
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import options
from ncc.errors import NccError, Source
from ncc.ir import plan_text
from ncc.ir.plan import Wanted
from ncc.ir.ssa import DTYPES, Module
from ncc.ir.ssa_text import read
from ncc.machine.llvm import host, target
from ncc.machine.native import Library, aligned
from ncc.passes.emit.to_c import to_c
from ncc.passes.lower.each import CACHED
from ncc.passes.lower.lower import lower
from ncc.passes.plan.differentiate import differentiate
from ncc.passes.plan.group import group
from ncc.passes.plan.place import place

NAMES = ("each", "each_backward")
EVERY = {"each": True, "gradient": True, "kept": 0}
COUNTS = (1, 3, 16, 37)
FMA = ["-mfma"] if host().triple.startswith("x86_64") and host().fma else []


def drawn(graph, n, dtype, seed=0):
    """x, params and dy of n samples."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((n, width)).astype(DTYPES[dtype])
            for width in (len(graph.inputs), graph.n_params, len(graph.outputs))]


def interpreted(module, x, params, dy):
    """y, dx, dparams of a module's own functions."""
    y, dx, dparams = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(params)
    flat = [array.reshape(-1) for array in (x, params, y, dy, dx, dparams)]
    held = dict(zip(("x", "params", "y", "dy", "dx", "dparams"), flat, strict=True))
    for name in NAMES:
        named = [b.name for b in module.func(name).buffers]
        module.run(name, {key: array for key, array in held.items() if key in named}, len(x))
    return y, dx, dparams


def by_the_graph(graph, x, params, dy, dtype, numerics):
    """The same, one sample after another, by the interpreter of graphs."""
    y = np.array([graph.run(row, p, dtype, numerics) for row, p in zip(x, params, strict=True)])
    pulled = [graph.gradient(row, d, p, dtype, numerics)
              for row, d, p in zip(x, dy, params, strict=True)]
    return y, np.array([dx for dx, _ in pulled]), np.array([dp for _, dp in pulled])


class Each:
    """Interprets both functions after every pass, which is verified and, if it can be, proved."""

    def __init__(self, graph, n, dtype, numerics):
        self.arrays = drawn(graph, n, dtype, n)
        self.wanted = by_the_graph(graph, *self.arrays, dtype, numerics)
        self.prover = Watcher(verify_each=True)

    def before(self, step, level, params):
        self.prover.before(step, level)

    def after(self, step, old, new, seconds, params):
        self.prover.after(step, old, new, seconds)
        if isinstance(new, Module):
            for found, right in zip(interpreted(new, *self.arrays), self.wanted, strict=True):
                same(found, right)


@pytest.mark.each_choice
@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("seed", range(6))
@np.errstate(all="ignore")
def test_every_level_has_the_bits_of_one_sample(form, dtype, numerics, seed):
    graph = ncc.parse(to_nal(some_net(seed, max_neurons=10))).graph
    watch = Each(graph, COUNTS[seed % len(COUNTS)], dtype, numerics)
    chosen = options(host(), dtype=dtype, numerics=numerics, form=form, batch_form=form,
                     backward_form=form, **EVERY)
    module = Build(graph, host(), chosen, 1, watch, AFTER_ORDER).module
    assert {"pack", "forward", "backward_batch", *NAMES} <= {f.name for f in module.funcs}
    text = str(module)
    assert str(read(Source("net.ssa", text))) == text


@pytest.mark.each_choice
@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("dtype, numerics", [("f32", "strict"), ("f64", "fused"), ("f32", "fused")])
@pytest.mark.parametrize("text", [to_nal(some_net(3)), AGGREGATES], ids=["random", "aggregates"])
@np.errstate(all="ignore")
def test_c_has_them(tmp_path, form, dtype, numerics, text):
    graph = ncc.parse(text).graph
    chosen = options(host(), dtype=dtype, numerics=numerics, batch_form=form, backward_form=form,
                     scalar=True, **EVERY)
    build = Build(graph, host(), chosen, 1, None, AFTER_ORDER)
    header = build.header(compiled=False)
    (tmp_path / "net.c").write_text(to_c(build.module, header))
    done = subprocess.run(
        ["gcc", "-std=c99", "-O2", *FMA, "-Wall", "-Wextra", "-Wpedantic", "-Wconversion",
         "-Werror", "-fPIC", "-shared", tmp_path / "net.c", "-o", tmp_path / "net.so", "-lm"],
        capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lib = ctypes.CDLL(str(tmp_path / "net.so"))
    x, params, dy = drawn(graph, 9, dtype)
    y, dx, dparams = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(params)
    x_at, params_at, y_at, dy_at, dx_at, dparams_at = [
        ctypes.c_void_p(array.ctypes.data) for array in (x, params, y, dy, dx, dparams)]
    count, works = ctypes.c_size_t(9), []
    for name in NAMES:
        size = int(re.search(rf"#define NET_{name.upper()}_WORK_BYTES +(\d+)", header)[1])
        works.append(aligned(size + 64, np.uint8))
        works[-1][...] = 0xFF
    at = [ctypes.c_void_p(work.ctypes.data) for work in works]
    lib.net_each(count, x_at, params_at, y_at, at[0])
    lib.net_each_backward(count, x_at, params_at, dy_at, dx_at, dparams_at, at[1])
    assert all((work[-64:] == 0xFF).all() for work in works)  # no more than the header says
    for found, right in zip((y, dx, dparams), by_the_graph(graph, x, params, dy, dtype, numerics),
                            strict=True):
        same(found, right)


@pytest.mark.skipif(not (host().triple.startswith("x86_64") and host().fma),
                    reason="needs an x86-64-v3 machine")
@pytest.mark.each_choice
@pytest.mark.parametrize("aim", ["x86-64", "x86-64-v3", "native"])
@pytest.mark.parametrize("lanes", [None, 64])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@np.errstate(all="ignore")
def test_any_vectors_have_the_same_bits(aim, lanes, dtype, form):
    graph = ncc.parse(to_nal(some_net(11, max_neurons=30))).graph
    machine = host() if aim == "native" else target(aim)
    more = {} if lanes is None else {"lanes": lanes}
    chosen = options(machine, dtype=dtype, numerics="strict", batch_form=form, backward_form=form,
                     forwards=False, vjp=False, **EVERY, **more)
    held = Library(Build(graph, machine, chosen, 1, None, AFTER_ORDER).made, dtype)
    assert set(held.functions) == {"pack", *NAMES}
    for n in (1, 7, 40):
        x, params, dy = drawn(graph, n, dtype)
        y, dx, dparams = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(params)
        at = [array.ctypes.data for array in (x, params, y, dy, dx, dparams)]
        held.calls["each"](n, *at[:3], held.scratch("each"))
        held.calls["each_backward"](n, *at[:2], *at[3:], held.scratch("each_backward"))
        for found, right in zip((y, dx, dparams), by_the_graph(graph, x, params, dy, dtype,
                                                               "strict"), strict=True):
            same(found, right)


# ---- the plan


GRAPH = ncc.parse("N 06\n00\n01\n02 tanh 00,01 +\n03 tanh 00,01 +\n04 relu 02,03\n"
                  "05 relu 02,03\n").graph


def planned(**more):
    return place(group(GRAPH, each=True, batch_form="table", **more))


def names(plan):
    return [wanted.name for wanted in plan.functions]


def test_they_are_asked_for_alone():
    assert names(planned()) == ["pack", "forward", "forward_batch", "each"]
    assert names(planned(forwards=False)) == ["pack", "each"]
    assert names(differentiate(planned())) == names(planned())  # no gradients were asked for
    both = planned(gradient=True)
    assert names(differentiate(both, vjp=False)) == [*names(planned()), "each_backward"]
    assert names(differentiate(both)) == [*names(planned()), "each_backward", "backward",
                                          "backward_batch"]
    plain = place(group(GRAPH, gradient=True))
    assert not set(NAMES) & set(names(differentiate(plain)))
    for plan in (planned(), both, differentiate(both)):
        plan.verify()
        module = lower(plan)
        module.verify()
        assert sorted(f.name for f in module.funcs) == sorted(names(plan))


def test_they_want_a_schedule():
    plain = place(group(GRAPH, gradient=True))
    for name in NAMES:
        with pytest.raises(NccError, match="has no schedule"):
            plain.wanting(Wanted(name)).verify()
    with pytest.raises(NccError, match="has no schedule"):
        planned().wanting(Wanted("each_backward")).verify()


def test_the_plans_text_has_them():
    for form in ("straight", "table", "shared"):
        plan = differentiate(place(group(GRAPH, each=True, gradient=True, form=form,
                                         batch_form=form)))
        again = plan_text.read(Source("net.plan", str(plan)))
        assert str(again) == str(plan) and "\neach: " in str(plan)
        assert again.each.slots.tolist() == plan.each.slots.tolist()


def test_work_slots_of_each_are_checked():
    plan = planned()
    assert plan.each is not None and plan.each.slots is not None
    slots = plan.each.slots.copy()
    slots[3] = slots[2]
    with pytest.raises(NccError, match="before its last reader"):
        plan.with_(each=replace(plan.each, slots=slots)).verify()


def test_a_tie_is_loaded_once_and_wide_nets_take_fewer_lanes():
    shared = "N 05\n00\n01\n02 tanh 00@w,01@w\n03 relu 00@w,02@w\n04 sin 02@w,03@w\n"

    def each(text, form, **more):
        graph = ncc.parse(text).graph
        return lower(place(group(graph, each=True, batch_form=form)), native=16, **more
                     ).func("each")

    for form in ("straight", "table"):
        func = each(shared, form, lanes=32)
        assert sum(op[0] == "load" and op[2][0] == "params" for op in func.ops) == 1
    sizes = {b.name: b.size for b in each(shared, "straight").buffers}
    assert sizes["params"] == sizes["lane_params"] == 1
    wide = "N 402\n" + "".join(f"{k:02x}\n" for k in range(1024)) + "".join(
        f"{k:x} tanh " + ",".join(f"{i:02x}" for i in range(1024)) + "\n" for k in (1024, 1025))
    loops = [[op[2] for op in each(text, "table", lanes=32).ops if op[0] == "for" and op[2]]
             for text in (shared, wide)]
    assert loops == [[32], [16]] and 2048 * 32 * 4 > CACHED
