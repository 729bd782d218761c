"""`fn.vjp` from outside: shapes, threads, parameters, copies."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from gradients import close, torch_gradient
from nets import random_layers, some_net, to_nal
from objects import same

import ncc
from ncc import library

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
    monkeypatch.setattr(library, "WORK", 4_000_000)
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
