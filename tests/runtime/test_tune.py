"""Tuning: the forms are timed, what is chosen computes the same, and is remembered."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from nets import random_layers
from shared_nets import dense

import ncc
from ncc.cli import main
from ncc.driver.settings import options
from ncc.errors import NccError
from ncc.ir.plan import FORMS
from ncc.machine.llvm import host
from ncc.machine.targets import TARGETS
from ncc.runtime import tune


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
    assert "form" not in found and found["batch_form"] in ("table", "straight")
    assert found["timed"] == ["batch_form"]
    found = tune.tuned(graph, host(), options(host(), form="straight", batch_form="straight"))
    assert found == {"timed": []}


def test_a_form_too_long_to_be_tried_leaves_the_other_to_be_timed(monkeypatch):
    monkeypatch.setattr(tune, "STRAIGHT", (8, 8))
    graph = dense(6, 18, 2).graph
    for asked, other in (("form", "batch_form"), ("batch_form", "form")):
        found = tune.tuned(graph, host(), options(host(), **{asked: "straight"}))
        assert found["timed"] == [other] and found[other] in ("table", "shared")


def test_every_command_takes_and_explains_the_fastest(ncc_, monkeypatch, tmp_path):
    def least(calls):
        forms = ["straight", "table", "table", "shared", "shared"]
        if len(calls) == 3:  # a machine without vectors
            forms = ["straight", "table", "shared"]
        return [[1.0 if form == "table" else 3.0] * 2 for form in forms]

    monkeypatch.setattr(tune, "_least", least)
    monkeypatch.chdir(tmp_path)
    Path("net.nal").write_text("N 4\n00\n01\n02 relu 00:1,01:-1\n03 tanh 02:1,00:2\n")
    Path("x.csv").write_text("1,2\n3,4\n")
    timed, asked = "timed here", "asked for"
    for words, single, batch in (
            (["build", "--emit", "plan"], ("table", timed), ("table", timed)),
            (["build", "--emit", "plan", "--form", "straight"], ("straight", asked),
             ("table", timed)),
            (["build", "--emit", "plan", "--batch-form", "straight"], ("table", timed),
             ("straight", asked)),
            (["run", "--input", "x.csv"], ("table", timed), ("table", timed)),
            (["run", "--input", "x.csv", "--skip-dead"], ("table", timed), ("table", timed)),
            (["bench", "--peers", "none", "--seconds", "0.01"], ("table", timed),
             ("table", timed))):
        words = [words[0], "net.nal", *words[1:]]
        plain, found = ncc_(*words), ncc_(*words, "--tune", "--explain")
        assert plain[0] == found[0] == 0
        assert words[0] != "run" or found[1] == plain[1]
        said = found[2].splitlines()
        assert said[0].startswith(f"forward: {single[0]} ({single[1]})")
        assert said[1].startswith(f"forward_batch: {batch[0]} ({batch[1]})")


def test_what_cannot_be_tuned_is_refused(ncc_, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("net.nal").write_text("N 3\n00\n01\n02 relu 00:1,01:1\n")
    for passes, kind in (("merge", "graph"), ("group,place", "plan"), ("group,place,lower", "ssa")):
        status, _, err = ncc_("build", "net.nal", "--emit", kind, "--passes", passes, "--tune")
        assert status == 2 and "E609" in err
    assert ncc_("build", "net.nal", "--emit", "ssa", "-o", "net.ssa")[0] == 0
    status, _, err = ncc_("build", "net.ssa", "--emit", "llvm", "--tune")
    assert status == 2 and "E609" in err


def test_another_machines_code_is_not_timed(tmp_path, capfd):
    with pytest.raises(NccError, match="E609"):
        tune.tuned(dense(3, 2).graph, TARGETS["cortex-m4f"], options(TARGETS["cortex-m4f"]))
    (tmp_path / "net.nal").write_text("N 3\n00\n01\n02 relu 00:1,01:1\n")
    assert main(["build", str(tmp_path / "net.nal"), "--tune", "-o", str(tmp_path / "net.o")]) == 0
    assert (tmp_path / "net.o").exists()
    assert re.fullmatch(r".*net\.nal: flash .*\n", capfd.readouterr().err)
