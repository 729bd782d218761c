"""Tuning: the forms are timed, what is chosen computes the same, and is remembered."""

from __future__ import annotations

import numpy as np
import pytest
from nets import random_layers
from test_shared import dense

import ncc
from ncc import tune
from ncc.build import options
from ncc.cli import main
from ncc.machine import TARGETS, host
from ncc.plan import FORMS
from ncc.source import NccError


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(tune, "ROUNDS", 1)
    monkeypatch.setattr(tune, "SECONDS", 1e-6)
    monkeypatch.setenv("NCC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NCC_CACHE_SIZE", raising=False)


def test_a_tuned_net_computes_the_same():
    for net in (dense(8, 20, 3), ncc.parse(random_layers([24] * 3, 6, 1, weights=True))):
        x = np.random.default_rng(0).standard_normal((9, len(net.inputs))).astype(np.float32)
        plain, fn = ncc.compile(net), ncc.compile(net, tune=True)
        assert np.array_equal(fn(x), plain(x)) and np.array_equal(fn(x[0]), plain(x[0]))
        y, pullback = fn.vjp(x)
        assert np.array_equal(y, plain(x))
        assert np.allclose(pullback(y)[1], plain.vjp(x)[1](y)[1], rtol=1e-4, atol=1e-5)


def test_what_was_found_is_remembered(monkeypatch):
    graph = dense(6, 18, 2).graph
    chosen = options(host())
    found = tune.tuned(graph, host(), chosen)
    assert found["form"] in FORMS and found["batch_form"] in FORMS
    assert {found["form"], found["batch_form"]} != {"table", "shared"}

    def never(*_):
        raise AssertionError

    monkeypatch.setattr(tune, "_fastest", never)
    assert tune.tuned(graph, host(), chosen) == found
    with pytest.raises(AssertionError):
        tune.tuned(graph, host(), chosen, cached=False)
    with pytest.raises(AssertionError):
        tune.tuned(graph, host(), options(host(), numerics="strict"))


def test_the_least_time_is_taken(monkeypatch):
    graph = dense(6, 18, 2).graph
    for fastest in FORMS:
        def least(calls, fastest=fastest):
            names = ["straight", "table", "table", "shared", "shared"]
            assert len(calls) == (5 if host().vector_bits else 3)
            return [[1.0 if name == fastest else 3.0 + k, 1.0 if name == fastest else 3.0 + k]
                    for k, name in enumerate(names[: len(calls)])]

        monkeypatch.setattr(tune, "_least", least)
        found = tune.tuned(graph, host(), options(host()), cached=False)
        assert found["form"] == fastest
        assert found["batch_form"] == fastest


def test_a_form_that_was_asked_for_stays():
    graph = dense(6, 18, 2).graph
    found = tune.tuned(graph, host(), options(host(), form="table"))
    assert found["form"] == "table" and found["batch_form"] in ("table", "straight")


def test_another_machines_code_is_not_timed(tmp_path, capfd):
    with pytest.raises(NccError, match="E609"):
        tune.tuned(dense(3, 2).graph, TARGETS["cortex-m4f"], options(TARGETS["cortex-m4f"]))
    (tmp_path / "net.nal").write_text("N 3\n00\n01\n02 relu 00:1,01:1\n")
    assert main(["build", str(tmp_path / "net.nal"), "--tune", "-o", str(tmp_path / "net.o")]) == 0
    assert (tmp_path / "net.o").exists() and capfd.readouterr().err == ""
