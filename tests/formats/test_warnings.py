"""numpy says nothing of what our own lines do: overflow to infinities, and what comes of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import ncc
from ncc.errors import NccError
from ncc.training.step import TrainStep

NET = "N 05\n00\n01\n02 exp 00:3,01:2 +1\n03 identity 00:1,01:-1\n04 cube 02:2,03:-5\n"
HUGE = np.array([[1e39, -1e39], [1e300, 1e300], [np.inf, -np.inf], [np.nan, 0.0], [1e30, 1e30]])
# As many rows as threads share.
MANY = np.tile(HUGE, (60, 1))


@pytest.fixture(autouse=True)
def strict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("threads", [1, 3])
def test_calls_and_gradients(dtype, threads):
    fn = ncc.compile(ncc.parse(NET), dtype=dtype, threads=threads)
    for x in (HUGE[0], HUGE[2], HUGE, MANY):
        y, pullback = fn.vjp(x)
        assert np.array_equal(fn(x), y, equal_nan=True)
        for dy in (np.full(y.shape, 1e300), np.full(y.shape, np.inf), -np.ones(y.shape)):
            dx, dparams = pullback(dy)
            assert dx.shape == x.shape and dparams.shape == (7,)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("numerics", ["strict", "fused"])
def test_the_interpreters(dtype, numerics):
    graph = ncc.parse(NET).graph
    y = graph.run(HUGE, dtype=dtype, numerics=numerics)
    graph.gradient(HUGE, np.full(y.shape, 1e300), dtype=dtype, numerics=numerics)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("weight", [None, np.linspace(0, 1e300, 200)])
def test_training_that_diverges(threads, weight):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 2)) * 1e18, rng.standard_normal(200)
    with pytest.raises(NccError) as caught:
        ncc.fit(ncc.parse(NET), x, y, lr=1e10, epochs=5, batch=200, threads=threads,
                sample_weight=weight)
    assert caught.value.code == "E636"
    trainer = TrainStep(ncc.parse(NET).graph, "mse", "sgd", threads=threads)
    trainer.accumulate(MANY, np.zeros((300, 1)))


def test_parameters_that_overflow_are_an_error():
    for params in (np.full(7, 1e300), [1, 2, 3, 4, 5, 6, np.inf]):
        with pytest.raises(NccError, match="of params is"):
            ncc.fit(ncc.parse(NET), [[0, 0]], [0], params=params, epochs=1)
    with pytest.raises(NccError, match="overflows f32"):
        ncc.compile(ncc.parse(NET.replace("00:3", "00:3e300")))


def test_the_command(ncc_, capsys):
    Path("net.nal").write_text(NET)
    np.save("x.npy", HUGE)
    for words in (["run", "net.nal", "--input", "x.npy"],
                  ["run", "net.nal", "--input", "x.npy", "--check", "--verify-each"],
                  ["build", "net.nal", "--check", "--emit", "obj,ssa", "-o", "."],
                  ["run", "net.ssa", "--input", "x.npy"], ["run", "net.nal", "--input", "x.npy",
                                                           "--threads", "2", "--skip-dead"]):
        assert ncc_(*words)[0] == 0


def test_estimators_of_infinite_logits():
    pytest.importorskip("sklearn")
    x = np.array([[1.0], [2.0], [3.0]])
    net = ncc.parse("N 04\n00\n01 exp 00:1\n02 exp 00:2\n03 exp 00:3\n")
    model = ncc.NetClassifier(net, lr=1e-9, epochs=1).fit(x, [0, 1, 2])
    assert model.predict_proba(x * 1e3).shape == (3, 3) and model.predict(x * 1e3).shape == (3,)
    two = ncc.NetClassifier(ncc.parse("N 03\n00\n01 exp 00:1\n02 exp 00:2\n"), lr=1e-9, epochs=1)
    two.fit(x, [0, 1, 1]).predict_proba(x * 1e3)
