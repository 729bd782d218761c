"""`fn.each` and `fn.each_vjp`: the bits of one call a vector, shapes, copies, threads, refusals."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from nets import random_layers, some_net, to_nal
from objects import AGGREGATES, EVERY, same

import ncc
from ncc.ir.ssa import DTYPES
from ncc.runtime import each

# Irregular, deep, every kind of edge: shared by ties, constant, biased or not.
TIED = """N 09
00
01
02
03 tanh 00@k,01@k,02 +@b
04 relu 00:=2,03 +
05 sigmoid 03@k,04,02 +=0.5
06 sin mul 03,04@k +
07 softplus 05,06,00
08 identity 07,03@k +@b
"""
WIDE = random_layers([20, 30, 7], 9, seed=4, weights=True, activation="tanh")
COUNTS = (0, 1, 5, 16, 33, 70)


def drawn(fn, n, seed=0):
    """x (n, n_inputs), params (n, n_params) and dy (n, n_outputs), of the net's dtype."""
    rng = np.random.default_rng(seed)
    g = fn.graph
    return [rng.standard_normal((n, width)).astype(DTYPES[fn.dtype])
            for width in (len(g.inputs), g.n_params, len(g.outputs))]


def one_by_one(fn, x, params):
    y = np.empty((len(x), len(fn.graph.outputs)), x.dtype)
    for k, row in enumerate(params):
        fn.params = row
        y[k] = fn(x[k])
    return y


def pulled_one_by_one(fn, x, params, dy):
    dx, dparams = np.empty_like(x), np.empty_like(params)
    for k, row in enumerate(params):
        fn.params = row
        dx[k], dparams[k] = fn.vjp(x[k])[1](dy[k])
    return dx, dparams


@pytest.mark.each_choice
@pytest.mark.parametrize("form", ["auto", "straight", "table", "shared"])
@pytest.mark.parametrize("dtype, numerics", [("f32", "fused"), ("f32", "strict"), ("f64", "fused"),
                                             ("f64", "strict")])
@pytest.mark.parametrize("text", [TIED, WIDE, AGGREGATES, EVERY], ids=["tied", "wide", "aggregates",
                                                                      "every"])
def test_the_bits_of_a_call_for_each_vector(form, dtype, numerics, text):
    forms = {} if form == "auto" else {"batch_form": form, "backward_form": form}
    fn = ncc.compile(ncc.parse(text), dtype=dtype, numerics=numerics, opt=1, limit=False,
                     params=np.zeros(ncc.parse(text).n_params), **forms)
    with np.errstate(all="ignore"):
        for n in COUNTS:
            x, params, dy = drawn(fn, n, seed=n)
            wanted = one_by_one(fn, x, params)
            same(fn.each(x, params), wanted)
            y, pullback = fn.each_vjp(x, params)
            same(y, wanted)
            for found, right in zip(pullback(dy), pulled_one_by_one(fn, x, params, dy),
                                    strict=True):
                same(found, right)


@pytest.mark.parametrize("seed", [
    *range(6), *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(6, 60)]])
def test_random_nets(seed):
    net = ncc.parse(to_nal(some_net(seed, tame=seed % 3 > 0)))
    fn = ncc.compile(net, opt=0, limit=False, params=np.zeros(net.n_params),
                     batch_form=("straight", "table", "shared")[seed % 3],
                     backward_form=("table", "straight")[seed % 2])
    x, params, dy = drawn(fn, 19, seed)
    with np.errstate(all="ignore"):
        same(fn.each(x, params), one_by_one(fn, x, params))
        for found, right in zip(fn.each_vjp(x, params)[1](dy),
                                pulled_one_by_one(fn, x, params, dy), strict=True):
            same(found, right)


@pytest.fixture(scope="module")
def fn():
    return ncc.compile(ncc.parse(TIED), opt=0, params=np.zeros(ncc.parse(TIED).n_params))


def test_one_sample_or_one_vector_for_all(fn, monkeypatch):
    x, params, dy = drawn(fn, 300)
    wanted = one_by_one(fn, np.tile(x[3], (300, 1)), params)
    dx, dparams = pulled_one_by_one(fn, x, np.tile(params[3], (300, 1)), dy)
    fn.params = params[3]
    for copies in (each.COPIES, 64 * 8 * 4):  # all of them at once, and 64 rows at a time
        monkeypatch.setattr(each, "COPIES", copies)
        same(fn.each(x[3], params), wanted)
        same(fn.each(x, params[3]), fn(x))
        y, pullback = fn.each_vjp(x, params[3])
        same(y, fn(x))
        found = pullback(dy)
        assert [part.shape for part in found] == [(300, 3), (300, fn.graph.n_params)]
        same(found[0], dx)
        same(found[1], dparams)
    dx, dparams = fn.each_vjp(x[3], params)[1](dy)
    assert dx.shape == (300, 3)  # of each vector, not their sum
    same(dx, fn.each_vjp(np.tile(x[3], (300, 1)), params)[1](dy)[0])
    same(fn.each(x[0], params[3]), fn(x[0]))
    y, pullback = fn.each_vjp(x[0], params[3])
    for found, right in zip(pullback(dy[0]), fn.vjp(x[0])[1](dy[0]), strict=True):
        same(found, right)


def test_per_sample_gradients_add_up_to_that_of_the_batch(fn):
    x, params, dy = drawn(fn, 50)
    fn.params = params[0]
    total = fn.vjp(x)[1](dy)[1]
    assert np.allclose(fn.each_vjp(x, params[0])[1](dy)[1].sum(axis=0), total, rtol=1e-3,
                       atol=1e-4)


@pytest.mark.parametrize("m", [0, 1, 6, 40, 200])
@pytest.mark.parametrize("n", [0, 1, 6, 40, 200])
def test_shared_samples_meet_every_vector(fn, m, n):
    x, params = drawn(fn, m)[0], drawn(fn, n, seed=1)[1]
    y = fn.each(x, params, shared=True)
    assert y.shape == (n, m, 1) and y.dtype == np.float32
    for k in range(n):
        fn.params = params[k]
        same(y[k], fn(x))


@pytest.mark.parametrize("rows", [1, 33])
def test_a_sweep_of_one_shared_weight(rows):
    text = "N 05\n00\n01\n02 tanh 00@w,01@w\n03 relu 00@w,02@w\n04 sin 02@w,03@w\n"
    net = ncc.parse(text)
    fn = ncc.compile(net, params=np.zeros(1))
    sweep = np.linspace(-2, 2, rows)[:, None]
    x = np.random.default_rng(0).standard_normal((9, 2))
    y = fn.each(x, sweep, shared=True)
    for k in range(rows):
        fn.params = sweep[k]
        same(y[k], fn(x))
    assert net.n_params == 1


def test_a_net_without_parameters():
    fn = ncc.compile(ncc.parse("N 03\n00\n01\n02 tanh 00:=1,01:=-2\n"))
    x = np.random.default_rng(0).standard_normal((9, 2)).astype("f")
    same(fn.each(x, np.zeros((9, 0))), fn(x))
    assert fn.each_vjp(x, np.zeros((9, 0)))[1](np.ones((9, 1)))[1].shape == (9, 0)


def test_very_large_nets_go_vector_by_vector(fn, monkeypatch):
    x, params, dy = drawn(fn, 9)
    wanted = [fn.each(x, params), *fn.each_vjp(x, params)[1](dy), fn.each(x[0], params),
              fn.each(x, params[0]), fn.each(x, params[:4], shared=True)]
    monkeypatch.setattr(each, "LARGE", 0)
    monkeypatch.setattr(each, "_in_lanes", None)
    found = [fn.each(x, params), *fn.each_vjp(x, params)[1](dy), fn.each(x[0], params),
             fn.each(x, params[0]), fn.each(x, params[:4], shared=True)]
    for a, b in zip(found, wanted, strict=True):
        same(a, b)
    assert fn.each(x[0], params[0]).shape == (1,) and fn.each(x[:0], params[:0]).shape == (0, 1)


def test_threads_give_the_same_bits():
    one, two = [ncc.compile(ncc.parse(WIDE), threads=threads) for threads in (1, 2)]
    x, params, dy = drawn(one, 500)
    same(two.each(x, params), one.each(x, params))
    for a, b in zip(two.each_vjp(x, params)[1](dy), one.each_vjp(x, params)[1](dy), strict=True):
        same(a, b)


def test_nothing_is_compiled_before_the_first_call():
    fn = ncc.compile(ncc.parse(TIED), params=np.ones(13))
    assert fn._later == {}
    x, params, dy = drawn(fn, 3)
    fn.each(x, params)
    assert list(fn._later) == ["each"]
    fn.each_vjp(x, params)
    assert list(fn._later) == ["each"]
    fn.each_vjp(x, params)[1](dy)
    assert list(fn._later) == ["each", "each_backward"]
    same(pickle.loads(pickle.dumps(fn)).each(x, params), fn.each(x, params))


def test_whatever_a_net_was_compiled_with():
    net = ncc.parse(WIDE)
    plain = ncc.compile(net)
    x, params, _ = drawn(plain, 5)
    wanted = plain.each(x, params)
    fixed = ncc.Compiled(net.graph, passes={"params": net.params, "embedded": True})
    same(fixed.each(x, params), wanted)
    same(fixed.each(x, params, shared=True)[2, 2], wanted[2])
    same(ncc.compile(net, skip_dead=True).each(x, params), wanted)
    unvalued = ncc.compile(ncc.parse(random_layers([20, 30, 7], 9, seed=4, activation="tanh")))
    same(unvalued.each(x, params), wanted)  # and fn.params needs no value for it


def test_arguments_are_converted_and_kept(fn):
    x, params, dy = drawn(fn, 7)
    wanted = fn.each(x, params)
    same(fn.each(x.astype("d"), params.tolist()), wanted)
    same(fn.each(np.asfortranarray(x), np.repeat(params, 2, axis=0)[::2]), wanted)
    before = fn.params
    y, pullback = fn.each_vjp(x, params)
    right = pullback(dy)
    x[...], params[...] = 7, 8
    for a, b in zip(pullback(dy), right, strict=True):
        same(a, b)
    assert np.array_equal(fn.params, before)
    params[...] = np.inf
    assert np.isnan(fn.each(x, params)).all()


@pytest.mark.parametrize("x, params, options, words", [
    ((4, 3), (5, 13), {}, ["(4, 3)", "(5, 13)", "shared=True"]),
    ((4, 2), (4, 13), {}, ["(4, 2)", "(3,)"]),
    ((4, 3), (4, 10), {}, ["(4, 10)", "(n, 13)"]),
    ((4, 3), (), {}, ["()", "(n, 13)"]),
    ((2, 4, 3), (4, 13), {}, ["(2, 4, 3)"]),
    ((3,), (4, 13), {"shared": True}, ["(3,)", "(m, 3)"]),
    ((4, 3), (13,), {"shared": True}, ["(13,)", "(n, 13)"]),
])
def test_shapes_that_do_not_fit(fn, x, params, options, words):
    with pytest.raises(ValueError) as caught:
        fn.each(np.zeros(x), np.zeros(params), **options)
    assert all(word in str(caught.value) for word in words)
    if not options:
        with pytest.raises(ValueError):
            fn.each_vjp(np.zeros(x), np.zeros(params))


def test_a_seed_of_another_shape(fn):
    x, params, dy = drawn(fn, 4)
    with pytest.raises(ValueError, match=r"dy has shape \(3, 1\), y has \(4, 1\)"):
        fn.each_vjp(x, params)[1](dy[:3])
