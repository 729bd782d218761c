"""Nets as files of SharpNEAT and of FANN: what they compute there, what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from libfann import LIBRARIES, RECTIFIED
from oracles import shared

import ncc
from ncc.formats.exporters.fann import FUNCTIONS
from ncc.formats.exporters.registry import named, of_path
from ncc.formats.importers import sharpneat
from ncc.formats.importers.fann_functions import FORMULAS, STEPWISE, formula
from ncc.ir.graph import Graph

EXACT = {"dtype": "f64", "numerics": "fused"}


def graph_of(text: str) -> Graph:
    return ncc.parse(text).graph


def back(tmp_path, graph, name, **options):
    path = tmp_path / "some.net"
    path.write_bytes(named(name).write(graph, False))
    return ncc.load(path, source=name, **options), path


def random_net(rng, functions, biases, own="", inputs=3):
    """A net of ten neurons, each of some before it, the last three and one before are outputs."""
    lines, n = [], inputs + 10
    for j in range(inputs, n):
        read = sorted(rng.choice(j, min(j, int(rng.integers(1, 6))), False).tolist())
        edges = ",".join(f"{i:x}:{rng.normal():.3f}" for i in read)
        bias = f" +{rng.normal():.3f}" if biases else ""
        lines.append(f"{j:x} {rng.choice(functions)} {edges}{bias}")
    outputs = ",".join(f"{j:x}" for j in (n - 1, n - 3, n - 2, inputs + 1))
    return graph_of("\n".join([f"N {n:x}", *([own] if own else []), f"out {outputs}",
                               *[f"{i:x}" for i in range(inputs)], *lines]) + "\n")


def close(y, expected, tolerance=1e-12):
    assert np.abs(y - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("name", sharpneat.FUNCTIONS)
def test_sharpneat_has_each_of_its_functions(tmp_path, name):
    text = sharpneat.FUNCTIONS[name]
    own, word = ("", text) if text == "relu" else (f"fn 20 {text}", "20")
    rng = np.random.default_rng(1)
    graph = random_net(rng, [word], False, own)
    net, path = back(tmp_path, graph, "sharpneat")
    assert path.read_text().endswith(f"0\t{name}\n\n")
    x = rng.normal(size=(20, 3))
    close(net.graph.run(x, **EXACT), graph.run(x, **EXACT) + 0.0, 1e-9)


@pytest.mark.parametrize("word, name", [("tanh", "TanH"), ("atan", "ArcTan"), ("relu", "ReLU"),
                                        ("sigmoid", "Logistic"), ("clip", "Linear")])
def test_sharpneat_has_some_of_our_functions(tmp_path, word, name):
    rng = np.random.default_rng(2)
    graph = random_net(rng, [word], False)
    net, path = back(tmp_path, graph, "sharpneat")
    assert path.read_text().endswith(f"0\t{name}\n\n")
    x = rng.normal(size=(20, 3))
    close(net.graph.run(x, **EXACT), graph.run(x, **EXACT))


@pytest.mark.parametrize("name", ["example1", "example2", "binary11", "binary-three-multiplexer"])
def test_a_net_of_sharpneats_goes_back_with_the_same_bits(tmp_path, name):
    path = shared(f"sharpneat/{name}.net")
    net, _ = back(tmp_path, ncc.load(path).graph, "sharpneat")
    x = np.load(path.with_suffix(".npz"))
    np.testing.assert_array_equal(net.graph.run(x["x"], **EXACT), x["y"])


def test_sharpneat_takes_steps_of_delayed_edges(tmp_path):
    graph = graph_of("N 05\nout 03,04\n00\n01\n02 relu 00:0.5,~04:-1.5\n03 relu ~02:2,~03:0.5\n"
                     "04 relu 01:1,~02:0.25\n")
    net, path = back(tmp_path, graph, "sharpneat")
    assert "cyclic\t1\n" in path.read_text()
    x = np.random.default_rng(0).normal(size=(12, 2))
    np.testing.assert_array_equal(net.graph.run_steps(x, **EXACT), graph.run_steps(x, **EXACT))


@pytest.mark.parametrize("text, message", [
    ("N 03\n00\n01 tanh 00:1\n02 relu 01:1\n", "more than one activation: tanh, relu"),
    ("N 02\n00\n01 identity 00:1\n", "the activation identity"),
    ("N 02\n00\n01 relu 00:1 +1\n", "biases (neuron 01)"),
    ("N 03\n00\n01\n02 relu max 00:1,01:1\n", "the aggregation max (neuron 02)"),
    ("N 03\n00\n01 relu +=0\n02 relu 01:1,00:1\n", "a constant neuron (01)"),
    ("N 03\nout 00,02\n00\n01\n02 relu 01:1,00:1\n", "an input that is an output"),
    ("N 04\n00\n01 relu 00:1\n02 relu 00:1,~01:1\n03 relu 01:1,02:1\n", "current values beside"),
    ("N 02\n00\n01 relu ~00:1\n", "an input's value of the last call"),
    ("N 02\n00\n01 relu 00\n", "1 of 1 parameters have no value"),
])
def test_what_sharpneat_cannot_say(text, message):
    with pytest.raises(ncc.NccError, match=re.escape(message)):
        named("sharpneat").write(graph_of(text), False)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("words", [*[[word] for word in FUNCTIONS], list(FUNCTIONS)],
                         ids=lambda words: words[0] if not words[1:] else "all")
def test_fann_has_these_of_our_functions(tmp_path, words, dtype):
    rng = np.random.default_rng(3)
    graph = random_net(rng, words, True)
    net, path = back(tmp_path, graph, "fann")
    x = (rng.normal(size=(20, 3)) * 3).astype("f4" if dtype == "f32" else "f8")
    expected = graph.run(x, dtype=dtype, numerics="strict")
    tolerance = 2e-5 if dtype == "f32" else 1e-11
    close(net.graph.run(x, dtype=dtype, numerics="strict"), expected, tolerance)
    if dtype in LIBRARIES and all(FUNCTIONS[word][0] < RECTIFIED for word in words):
        close(LIBRARIES[dtype](path, x), expected, tolerance)


@pytest.mark.parametrize("function", [*FORMULAS, *STEPWISE])
def test_fann_has_each_of_its_functions(tmp_path, function):
    rng = np.random.default_rng(4)
    own = STEPWISE.get(function) or formula(function, 0.75)
    net, path = back(tmp_path, graph := random_net(rng, ["20"], True, f"fn 20 {own}"), "fann")
    assert f", {function}, 7.5" in path.read_text() or function in (9, *STEPWISE)
    x = rng.normal(size=(20, 3))
    expected = graph.run(x, dtype="f64", numerics="strict")
    assert np.abs(net.graph.run(x, dtype="f64", numerics="strict") - expected).max() <= 1e-11


def test_values_beyond_fanns_limit_of_a_sum_are_kept(tmp_path):
    graph = graph_of("N 03\n00\n01 identity 00:1000 +1\n02 identity 01:1000,00:1\n")
    net, path = back(tmp_path, graph, "fann")
    x = np.array([[7.0], [-123456.0]])
    expected = graph.run(x, dtype="f64", numerics="strict")
    np.testing.assert_array_equal(net.graph.run(x, dtype="f64", numerics="strict"), expected)
    if "f64" in LIBRARIES:
        np.testing.assert_array_equal(LIBRARIES["f64"](path, x), expected)


@pytest.mark.parametrize("text, kind, rate, sizes", [
    ("N 06\n00\n01\n02 tanh 00:1,01:2 +1\n03 tanh 00:1,01:2\n04 sigmoid 02:1,03:1 +0\n"
     "05 sigmoid 02:1,03:2 +1\n", 0, "1.000000", "3 3 3"),
    ("N 05\n00\n01\n02 tanh 00:1,01:2 +1\n03 tanh 00:1,01:2,02:3 +1\n"
     "04 sigmoid 00:1,01:1,02:1,03:1 +1\n", 1, "1.000000", "3 1 1 1"),
    ("N 04\n00\n01\n02 tanh 00:1,01:2 +1\n03 tanh 01:2,02:3 +1\n", 1, "0.4", "3 1 1"),
    ("N 05\n00\n01\n02 tanh 04:1,01:2 +1\n03 tanh 01:2,02:3 +1\n04 tanh 00:1 +1\n", 1, "0.4",
     "3 1 1 1"),
    ("N 04\nout 02,00\n00\n01\n02 tanh 00:1,01:2 +1\n03 tanh 01:2,02:3 +1\n", 1, "0", "3 1 1 2"),
])
def test_the_type_of_a_net_of_fanns(tmp_path, text, kind, rate, sizes):
    graph = graph_of(text)
    net, path = back(tmp_path, graph, "fann")
    said = path.read_text()
    assert f"network_type={kind}\n" in said and f"connection_rate={rate}" in said
    assert f"layer_sizes={sizes} \n" in said
    x = np.random.default_rng(0).normal(size=(9, 2))
    expected = graph.run(x, dtype="f64", numerics="strict")
    close(net.graph.run(x, dtype="f64", numerics="strict"), expected)
    if "f64" in LIBRARIES:
        close(LIBRARIES["f64"](path, x), expected)


@pytest.mark.parametrize("name", ["cascade", "sigmoid", "stepwise", "sparse_mixed",
                                  "shortcut_exact", "pieces_exact"])
def test_a_net_of_fanns_goes_back(tmp_path, name):
    path = shared(f"fann/{name}.net")
    held = np.load(path.with_suffix(".npz"))
    for simple in (True, False):
        graph = ncc.load(path, simple=simple).graph
        net, written = back(tmp_path, graph, "fann")
        close(net.graph.run(held["x"], numerics="strict"), held["y"], 1e-5)
        if "f32" in LIBRARIES:
            close(LIBRARIES["f32"](written, held["x"]), held["y"], 1e-5)


@pytest.mark.parametrize("text, message", [
    ("N 02\n00\n01 step 00:1\n", "the activation step"),
    ("N 02\nfn 20 x^3\n00\n01 20 00:1\n", "the activation x^3"),
    ("N 02\n00\n01 relu mean 00:1\n", "the aggregation mean (neuron 01)"),
    ("N 02\n00\n01 relu ~01:1,00:1\n", "a net of FANN's of a net with state"),
    ("N 02\n00\n01 relu 00:1e30\n", "weights so large (neuron 01)"),
    ("N 02\n00\n01 relu 00:1 +\n", "1 of 2 parameters have no value"),
])
def test_what_fann_cannot_say(text, message):
    with pytest.raises(ncc.NccError, match=re.escape(message)):
        named("fann").write(graph_of(text), False)


def test_the_command_writes_both(tmp_path, ncc_):
    net = tmp_path / "net.nal"
    net.write_text("N 03\n00\n01\n02 tanh 00:1,01:-2\n")
    assert of_path("x.net") is named("sharpneat")
    for name in ("sharpneat", "fann"):
        out = tmp_path / f"{name}.net"
        assert ncc_("export", str(net), "--to", name, "-o", str(out))[0] == 0
        assert ncc.load(out).graph.run([[1.0, 0.25]], dtype="f64")[0, 0] == pytest.approx(
            np.tanh(0.5), rel=1e-14)
