"""`fn.vjp` from outside: shapes, threads, parameters, copies."""

from __future__ import annotations

import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from gradients import close, torch_gradient
from nets import random_layers, some_net, to_nal
from objects import same

import ncc
from ncc.driver.compiler import Build
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import options
from ncc.errors import Source
from ncc.ir.ssa_text import read
from ncc.machine import native as library
from ncc.machine.llvm import host
from ncc.nets.net import Net
from ncc.nets.random_layers import layers
from ncc.passes.lower.lower import lower
from ncc.passes.plan.differentiate import differentiate
from ncc.scalar.activations import code_of

TEXT = random_layers([12, 16, 8], 5, seed=2, weights=True, activation="tanh")
X = np.random.default_rng(0).standard_normal((300, 12)).astype("f")
DY = np.random.default_rng(1).standard_normal((300, 8)).astype("f")


@pytest.fixture(scope="module")
def fn():
    return ncc.compile(ncc.parse(TEXT), opt=0)


def bits(found):
    return [a.tobytes() for a in found]


def test_the_pullback_is_the_graphs_gradient(fn):
    for n in (0, 1, 7, 8, 33, 300):
        y, pullback = fn.vjp(X[:n])
        same(y, fn(X[:n]))
        found = pullback(DY[:n])
        assert all(a.dtype == np.float32 for a in found)
        close(found, fn.graph.gradient(X[:n], DY[:n], fn.params), 1e-5)
    y, pullback = fn.vjp(X[0])
    assert y.shape == (8,)
    dx, dparams = pullback(DY[0])
    assert dx.shape == (12,) and dparams.shape == (fn.graph.n_params,)
    close((dx, dparams), fn.graph.gradient(X[0], DY[0], fn.params), 1e-5)


def test_against_torch_in_float64():
    torch = pytest.importorskip("torch")
    net = some_net(3, max_neurons=10)
    fn = ncc.compile(ncc.parse(to_nal(net)), dtype="f64", opt=1)
    n = len(fn.graph.inputs), len(fn.graph.outputs)
    rng = np.random.default_rng(2)
    x, dy = rng.uniform(-2, 2, (7, n[0])), rng.standard_normal((7, n[1]))
    close(fn.vjp(x)[1](dy), torch_gradient(torch, net, x, fn.params, dy), 1e-9)


def test_a_pullback_keeps_what_it_was_made_with(fn):
    mine = pickle.loads(pickle.dumps(fn))
    x = X[:5].copy()
    _, pullback = mine.vjp(x)
    first = pullback(DY[:5])
    kept = [a.copy() for a in first]
    mine.params = mine.params * 2
    x[:] = 0
    again = pullback(DY[:5])
    assert bits(again) == bits(first) == bits(kept)
    again[0][:] = again[1][:] = 7  # what it gives is the caller's
    assert bits(pullback(DY[:5])) == bits(kept)
    assert bits(mine.vjp(X[:5])[1](DY[:5])) != bits(kept)
    twice = pullback(2 * DY[:5])
    for a, b in zip(twice, kept, strict=True):
        same(a, 2 * b)


def test_a_copy_has_the_same_gradients(fn):
    wanted = fn.vjp(X)[1](DY)
    assert bits(pickle.loads(pickle.dumps(fn)).vjp(X)[1](DY)) == bits(wanted)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_have_a_fixed_order(fn, threads):
    many = ncc.compile(ncc.parse(TEXT), opt=0, threads=threads)
    alone = fn.vjp(X)[1](DY)
    first = many.vjp(X)[1](DY)
    same(first[0], alone[0])
    close(first, alone, 1e-5)
    for _ in range(10):
        assert bits(many.vjp(X)[1](DY)) == bits(first)


def test_pullbacks_may_run_at_once(fn):
    fresh = pickle.loads(pickle.dumps(fn))  # whose backward functions are yet to be compiled
    wanted = fn.vjp(X)[1](DY)
    one = fn.vjp(X[3])[1](DY[3])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: (fresh.vjp(X)[1](DY), fresh.vjp(X[3])[1](DY[3])),
                              range(16)))
        _, pullback = fn.vjp(X)
        found += [(a, one) for a in pool.map(lambda _: pullback(DY), range(16))]
    for batch, single in found:
        assert bits(batch) == bits(wanted) and bits(single) == bits(one)


def test_arrays_of_any_layout_and_type(fn):
    wanted = bits(fn.vjp(X[:9])[1](DY[:9]))
    assert bits(fn.vjp(np.asfortranarray(X[:9]))[1](np.asfortranarray(DY[:9]))) == wanted
    assert bits(fn.vjp(X[:9].astype("d"))[1](DY[:9].tolist())) == wanted
    wide = np.zeros((9, 24), "f")
    wide[:, ::2] = X[:9]
    assert bits(fn.vjp(wide[:, ::2])[1](DY[:9])) == wanted


def test_what_does_not_fit_is_refused(fn):
    for x in (np.zeros(11), np.zeros((2, 13)), np.zeros((2, 2, 12)), np.float32(1)):
        with pytest.raises(ValueError, match="12"):
            fn.vjp(x)
    for dy in (np.zeros(8), np.zeros((4, 8)), np.zeros((5, 7))):
        with pytest.raises(ValueError, match="8"):
            fn.vjp(X[:5])[1](dy)
    with pytest.raises(ValueError, match="complex"):
        fn.vjp(X[:5])[1](DY[:5] * 1j)
    with pytest.raises(ValueError, match="no value"):
        ncc.compile(ncc.parse("N 02\n00\n01 0 00\n")).vjp(np.ones(1))


@pytest.mark.parametrize("text", ["N 02\nout 01\n00\n01\n", "N 01\n00 02 +=0.5\n",
                                  "N 02\n00\n01 02 00:=2\n", "N 01\n00 02 +0.5\n"])
def test_nets_without_parameters_or_inputs(text):
    fn = ncc.compile(ncc.parse(text), opt=0)
    n_inputs = len(fn.graph.inputs)
    for shape in ((), (3,)):
        x, dy = np.ones((*shape, n_inputs), "f"), np.ones((*shape, 1), "f")
        close(fn.vjp(x)[1](dy), fn.graph.gradient(x, dy, fn.graph.values), 1e-6)


def test_weights_in_the_code_have_their_gradients_too(fn):
    held = ncc.Compiled(fn.graph, passes={"params": fn.params, "embedded": True})
    close(held.vjp(X[:9])[1](DY[:9]), fn.vjp(X[:9])[1](DY[:9]), 1e-6)


def test_opt_and_forms_are_those_of_fn():
    wanted = None
    for opt, form in ((0, "straight"), (3, "table")):
        fn = ncc.compile(ncc.parse(TEXT), opt=opt, backward_form=form)
        found = fn.vjp(X[:40])[1](DY[:40])
        wanted = found if wanted is None else wanted
        close(found, wanted, 1e-5)


def test_a_thread_gets_enough_to_do(monkeypatch):
    """A small net's batch stays in one thread, a larger one's is shared, with the same bits."""
    fn = ncc.compile(ncc.parse(TEXT), opt=0, threads=2)
    held = fn._library.n_packed
    assert len(library.shares(1_000, 2, fn._library)) == 2
    monkeypatch.setattr(library, "PRODUCTS_A_THREAD", 4_000_000)
    assert len(library.shares(1_000, 2, fn._library)) == 1
    assert library.shares(8_000_000 // held + 2, 2, fn._library)[0][0] == 0
    assert len(library.shares(8_000_000 // held + 2, 2, fn._library)) == 2


def test_parameters_are_packed_once_for_each_vector(monkeypatch):
    fn = ncc.compile(ncc.parse(TEXT), opt=0)
    made = []
    pack = library.Library.pack
    monkeypatch.setattr(library.Library, "pack",
                        lambda self, params: (made.append(params), pack(self, params))[1])
    first = bits(fn.vjp(X[:5])[1](DY[:5]))
    assert len(made) == 2  # for the forward functions and for the backward ones
    assert bits(fn.vjp(X[:5])[1](DY[:5])) == first and len(made) == 2
    old = fn.params
    _, kept = fn.vjp(X[:5])
    fn.params = 2 * old  # packed for the forward functions here
    assert bits(fn.vjp(X[:5])[1](DY[:5])) != first and len(made) == 5
    assert bits(kept(DY[:5])) == first
    fn.params = old
    assert bits(fn.vjp(X[:5])[1](DY[:5])) == first and len(made) == 8


# -- what the forward pass keeps

def drawn(widths):
    """Dense layers of tanh, with values."""
    graph = layers(widths).graph
    values = np.random.default_rng(4).standard_normal(graph.n_params) / 4
    return Net(graph.with_(values=values))


WIDE = drawn([12, 48, 48, 8])


@pytest.fixture
def always(monkeypatch):
    """Whatever nets keep, few edges or many."""
    monkeypatch.setattr("ncc.passes.plan.differentiate.EDGES_TO_KEEP", 0)


def keeping(net, **more):
    """A compiled net whose way back finds what was kept, and one that runs forward twice."""
    twice = ncc.Compiled(net.graph, cache=False, passes={"backward_form": "table"}, **more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncc.runtime.compiled.KEPT", -1)
        twice._backward()
    fn = ncc.Compiled(net.graph, cache=False, passes={"backward_form": "table"}, **more)
    names = {name for name in fn._backward().calls if name != "pack"}
    assert names == {"forward_keep", "forward_batch_keep", "backward_kept", "backward_batch_kept"}
    assert set(twice._backward().calls) == {"pack", "backward", "backward_batch"}
    return fn, twice


@cache
def both():
    return keeping(WIDE, opt=0)


@pytest.mark.parametrize("seed, dtype", [
    pytest.param(seed, ("f32", "f64")[seed % 2], marks=[pytest.mark.slow] * (seed > 8))
    for seed in range(6, 12)])
def test_what_is_kept_changes_no_bit(always, seed, dtype):
    net = some_net(seed, max_neurons=30, max_fan_in=9)
    fn, twice = keeping(ncc.parse(to_nal(net)), dtype=dtype, opt=0, threads=1 + seed % 3)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((700, len(fn.graph.inputs))).astype(fn._real)
    dy = rng.standard_normal((700, len(fn.graph.outputs))).astype(fn._real)
    x[3:9] *= 1e4
    with np.errstate(all="ignore"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "PRODUCTS_A_THREAD", 0)  # threads from few samples on
        for n in (0, 1, 31, 33, 128, 129, 700):
            y, pullback = fn.vjp(x[:n])
            same(y, fn.graph.run(x[:n], fn.params, dtype, fn.numerics))
            wanted = bits(twice.vjp(x[:n])[1](dy[:n]))
            assert bits(pullback(dy[:n])) == wanted == bits(pullback(dy[:n])), n
        y, pullback = fn.vjp(x[0])
        same(y, fn(x[0]))
        assert bits(pullback(dy[0])) == bits(twice.vjp(x[0])[1](dy[0])) == bits(pullback(dy[0]))


@pytest.mark.parametrize("form", ["table", "shared"])
def test_in_every_form_and_as_text(always, form):
    """The functions over the plan of each form: they read back as they were written, and their
    meaning is that of `backward_batch`."""
    graph = drawn([12, 20, 18, 8]).graph
    activations = graph.activations.copy()
    activations[14:46:3] = code_of("gauss")  # whose slope wants the argument
    graph = graph.with_(activations=activations)
    chosen = options(host(), gradient=True, form=form, batch_form=form, backward_form=form)
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((39, 12), "f"), rng.standard_normal((39, 8), "f")
    found = {}
    for kept in (0, 1 << 20):
        build = Build(graph, host(), {**chosen, "kept": kept}, 0, along=AFTER_ORDER)
        module = build.module
        assert str(read(Source("kept.ssa", str(module)))) == str(module)
        packed = np.zeros(build.plan.packed.size, "f")
        module.run("pack", {"params": graph.values.astype("f"), "packed": packed})
        given = {"x": x.ravel(), "packed": packed, "dy": dy.ravel()}
        dx, dparams = np.zeros(x.size, "f"), np.zeros(graph.n_params, "f")
        name = "backward_batch"
        if kept:
            sizes = {b.name: b.size for b in module.func("forward_batch_keep").buffers}
            given["kept"], y = np.zeros(39 * sizes["kept"], "f"), np.zeros(dy.size, "f")
            module.run("forward_batch_keep", {**{k: given[k] for k in ("x", "packed", "kept")},
                                              "y": y}, 39)
            assert not np.isnan(given["kept"]).any()
            name += "_kept"
        module.run(name, {**given, "dx": dx, "dparams": dparams}, 39)
        found[kept] = bits((dx, dparams))
    assert found[0] == found[1 << 20]


def test_the_way_back_computes_no_value_again(always):
    plan = Build(WIDE.graph, host(), options(host(), gradient=True), along=AFTER_ORDER).plan
    module = lower(differentiate(plan.with_(functions=()), kept=1 << 28), native=8)
    made = {func.name: sum(op[0] == "tanh" for op in func.ops) for func in module.funcs}
    assert set(made) == {"forward_keep", "backward_kept", "forward_batch_keep",
                         "backward_batch_kept"}
    for name, count in made.items():
        assert (count > 0) == name.startswith("forward"), name


def counted(fn, monkeypatch):
    """The functions that are called from here on, as a list that grows."""
    calls = []
    held = fn._backward()
    for name, call in held.calls.items():
        monkeypatch.setitem(held.calls, name,
                            lambda *given, name=name, call=call: (calls.append(name), call(*given)))
    return calls


def test_forward_is_run_once(always, monkeypatch):
    fn, _ = both()
    calls = counted(fn, monkeypatch)
    for many, name in ((slice(0, 40), "_batch"), (0, "")):
        del calls[:]
        _, pullback = fn.vjp(X[many])
        pullback(DY[many])
        pullback(DY[many])
        assert [c for c in calls if c != "pack"] == [
            f"forward{name}_keep", f"backward{name}_kept", f"backward{name}_kept"]


def test_what_is_kept_is_of_its_call(always):
    """Not what other calls, other parameters, a changed x or another thread made since."""
    fn, _ = both()
    x = X[:200].copy()
    wanted = bits(fn.vjp(x)[1](DY[:200]))
    _, pullback = fn.vjp(x)
    fn.vjp(X[100:])[1](DY[100:])
    x[:] = 0
    old = fn.params
    fn.params = old * 2
    fn.vjp(x)[1](DY[:200])
    with ThreadPoolExecutor(4) as pool:
        assert set(map(tuple, pool.map(lambda _: bits(pullback(DY[:200])), range(8)))) == {
            tuple(wanted)}
    fn.params = old


def test_it_goes_with_the_pullback(always, monkeypatch):
    fn, _ = both()
    made = []

    def noted(*given):
        kept = library.to_keep(*given)
        made.append(weakref.ref(kept))
        return kept

    monkeypatch.setattr("ncc.runtime.compiled.to_keep", noted)
    y, pullback = fn.vjp(X)
    pullback(DY)
    assert made[0]().shape == (300, 104)
    del pullback
    gc.collect()
    assert made[0]() is None and y.shape == (300, 8)


@pytest.mark.parametrize("threads", [1, 2])
def test_too_much_to_keep_is_made_again(always, monkeypatch, threads):
    fn, twice = both()
    wanted = bits(twice.vjp(X)[1](DY))
    monkeypatch.setattr(fn, "threads", threads)
    monkeypatch.setattr("ncc.runtime.compiled.KEPT", 4 * 104 * 299)
    monkeypatch.setattr(library, "AGAIN", 128)
    monkeypatch.setattr(library, "PRODUCTS_A_THREAD", 0)
    calls = counted(fn, monkeypatch)
    y, pullback = fn.vjp(X)
    assert y.tobytes() == fn(X).tobytes() and "forward_batch_keep" not in calls
    assert bits(pullback(DY)) == bits(pullback(DY)) == wanted
    assert calls.count("forward_batch_keep") == calls.count("backward_batch_kept") == 6


@pytest.mark.slow
def test_what_is_not_worth_it_or_too_much_is_not_kept(monkeypatch):
    """Short sums, long tapes, and where values are to be made again by blocks."""
    def names(fn):
        return {name for name in fn._backward().calls if name != "pack"}

    net, twice = drawn([40, 40, 40, 5]), {"backward", "backward_batch"}
    kept = {"forward_keep", "forward_batch_keep", "backward_kept", "backward_batch_kept"}
    assert names(ncc.Compiled(net.graph, opt=0)) == kept
    assert names(ncc.Compiled(ncc.parse(TEXT).graph, opt=0,
                              passes={"backward_form": "table"})) == twice
    assert names(ncc.Compiled(net.graph, opt=0, passes={"recompute": 1 << 20})) == twice
    # Of one sample it may be little enough.
    monkeypatch.setattr("ncc.runtime.compiled.KEPT", 4 * 85 * 127)
    assert names(ncc.Compiled(net.graph, opt=0)) == {"forward_keep", "backward_kept",
                                                     "backward_batch"}
