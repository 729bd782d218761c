"""Matrices of prettyNEAT and weight agnostic networks against a reading of `ann.act`."""

import json
import math

import numpy as np
import pytest
from oracles import compare, mutants, shared, survives

import ncc
from ncc.formats.importers.foreign import opened
from ncc.formats.importers.registry import read
from ncc.formats.importers.wann import FUNCTIONS

EXACT = {"dtype": "f64", "numerics": "strict"}
ARGUMENTS = np.concatenate([
    np.random.default_rng(0).normal(size=200) * 2, np.random.default_rng(1).normal(size=50) * 1e3,
    [0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, -1e-300, 5e-324, 1e200, -1e200, math.inf, -math.inf]])
READINGS = {  # of applyAct
    1: lambda x: x,
    2: lambda x: 1.0 * (x > 0),
    3: lambda x: np.sin(np.pi * x),
    4: lambda x: np.exp(-np.multiply(x, x) / 2),
    5: np.tanh,
    6: lambda x: (np.tanh(x / 2) + 1) / 2,
    7: lambda x: -x,
    8: abs,
    9: lambda x: np.maximum(0, x),
    10: lambda x: np.cos(np.pi * x),
    11: lambda x: x ** 2,
}
GAMES = {"swing": "cartpole_swingup", "biped": "biped"}


def text(matrix, functions):
    rows = [",".join(f"{v:1.2e}" for v in [*row, f]) for row, f in
            zip(matrix, functions, strict=True)]
    return "\n".join(rows) + "\n"


def matrix(n, edges):
    made = np.zeros((n, n))
    for i, j, w in edges:
        made[i, j] = w
    return made


@pytest.fixture
def saved(tmp_path):
    def save(words, name="some.out"):
        path = tmp_path / name
        path.write_text(words)
        return path
    return save


@np.errstate(all="ignore")
@pytest.mark.parametrize("number", FUNCTIONS)
def test_every_function_is_that_of_the_source(saved, number):
    path = saved(text(matrix(3, [(1, 2, 1)]), [1, 1, number]))
    y = ncc.load(path, inputs=1, outputs=1).graph.run(ARGUMENTS[:, None], **EXACT)[:, 0]
    np.testing.assert_allclose(y, READINGS[number](ARGUMENTS), rtol=4e-16 if number not in (
        3, 4, 10) else 1e-13, atol=1e-15)
    assert set(READINGS) == set(FUNCTIONS)


@pytest.mark.parametrize("name", ["swing", "biped", "ind_0", "ind_7", "ind_15"])
def test_shared_champions_are_what_their_tool_computes(name):
    path = shared(f"wann/{name}.out")
    found = np.load(path.with_suffix(".npz"))
    made = read([opened(path)])
    assert (len(made.graph.inputs), len(made.graph.outputs)) == (found["inputs"], found["outputs"])
    assert made.notes[0].startswith(f"{found['inputs']} inputs and {found['outputs']} outputs")
    nets = {"y": ncc.load(path)}
    if name in GAMES:
        second = path.with_name(f"{GAMES[name]}.wann.json")
        nets["y_tuned"] = ncc.load(path, tuned=str(second), weight_bias=float(found["weight_bias"]))
        nets["y_shared"] = ncc.load(path, shared=1.5)
        assert nets["y_shared"].n_params == 1
    for key, net in nets.items():
        compare(path, net.graph.run(found["x"], dtype="f64"), found[key], "C")


def acted(matrix, functions, inputs, outputs, row):
    value = np.zeros(len(matrix))
    value[0], value[1:inputs + 1] = 1, row
    for j in range(inputs + 1, len(matrix)):
        value[j] = READINGS[functions[j]](np.dot(value, np.nan_to_num(matrix[:, j])))
    return value[-outputs:]


@pytest.mark.parametrize("seed", range(4))
def test_random_matrices_are_what_act_computes(saved, seed):
    rng = np.random.default_rng(seed)
    n, inputs, outputs = 14, int(rng.integers(1, 4)), int(rng.integers(1, 4))
    made = np.triu(rng.normal(size=(n, n)).round(2) * (rng.random((n, n)) < 0.4), 1)
    made[:, :inputs + 1] = made[n - outputs:] = 0
    made[0, inputs + 1:] = rng.choice([0, np.nan, 1.25], n - inputs - 1)
    functions = [1] * (inputs + 1) + rng.choice([1, 5, 7, 8, 9, 11], n - inputs - 1).tolist()
    path = saved(text(made, functions))
    x = rng.normal(size=(7, inputs))
    expected = np.array([acted(made, functions, inputs, outputs, row) for row in x])
    said = {"inputs": inputs, "outputs": outputs}
    compare(path, ncc.load(path, **said).graph.run(x, **EXACT), expected, "C")
    soft = np.exp(expected - expected.max(axis=1, keepdims=True))
    compare(path, ncc.load(path, softmax=True, **said).graph.run(x, **EXACT),
            soft / soft.sum(axis=1, keepdims=True), "C")


NET = matrix(5, [(0, 3, 0.5), (1, 3, -2), (1, 4, np.nan), (2, 4, 1.5), (3, 4, 3)])
GOOD = text(NET, [1, 1, 1, 9, 1])


def test_weights_of_a_second_file_are_by_rows(saved):
    path, second = saved(GOOD), saved("[[1, 2, 3, 4], 99]", "some.wann.json")
    net = ncc.load(path, tuned=second, weight_bias=-0.5)
    np.testing.assert_array_equal(net.graph.run([[-1.0, 2.0]], **EXACT),
                                  [[2.5 * 2 + 3.5 * max(0, 0.5 - 1.5)]])
    net = ncc.load(path, shared=-2.0)
    assert net.n_params == 1
    np.testing.assert_array_equal(net.graph.run([[1.0, 2.0]], **EXACT), [[-4.0]])
    assert read([opened(path)]).notes[1] == "1 disabled connections are left out"


@pytest.mark.parametrize("words, options, code, message", [
    (GOOD.replace("\n", ",0\n", 1), {}, "E801", ":1:1: error[E801]: 7 numbers, where 5 lines"),
    (GOOD.replace("1.50e+00", "x"), {}, "E801", ":3:1: error[E801]: 'x' is no finite number"),
    (GOOD.replace("1.50e+00", "inf"), {}, "E801", "'inf' is no finite number"),
    (GOOD.replace("1.50e+00", "1e999"), {}, "E801", "no finite number"),
    (text(NET + matrix(5, [(3, 3, 1)]), [1] * 5), {}, "E801", "a connection from 3 to 3"),
    (text(NET + matrix(5, [(3, 1, 1)]), [1] * 5), {}, "E801", "a connection from 3 to 1"),
    (text(NET, [1, 1, 1, 12, 1]), {}, "E811", ":4:1: error[E811]: neuron 3 has the function 1.20"),
    (text(NET, [1, 1, 1, 1.5, 1]), {}, "E811", "known are 1 to 11"),
    (text(NET, [1, 1, 5, 9, 1]), {}, "E815", "columns 1 to 3 are empty, but the functions"),
    (text(matrix(6, [(1, 3, 1), (2, 4, 1)]), [1, 1, 1, 1, 5, 1]), {}, "E815", "the last 3 rows"),
    (text(matrix(4, [(1, 3, 1)]), [1] * 4), {"inputs": 3}, "E815", "cannot be told apart"),
    (text(matrix(4, []), [1] * 4), {}, "E815", "cannot be told apart"),
    (GOOD, {"inputs": 3}, "E815", "3 inputs and 1 outputs do not fit"),
    (GOOD, {"outputs": 2}, "E815", "2 inputs and 2 outputs do not fit"),
    (GOOD, {"weight_bias": -1.5}, "E815", "--tuned FILE names it"),
    (GOOD, {"tuned": "t.wann.json"}, "E815", "adds to all weights"),
    (GOOD, {"tuned": "t.wann.json", "weight_bias": 0.0}, "E816", "3 weights for 4 edges"),
    (GOOD, {"tuned": "u.wann.json", "weight_bias": 0.0}, "E801", "[weights, score] is wanted"),
    (GOOD, {"tuned": "none.json", "weight_bias": 0.0}, "E101", "cannot read"),
    (GOOD, {"tuned": "t.wann.json", "shared": 1.0}, "E609", "--shared all the same"),
    ("1\n" * 2000, {}, "E801", "2000 lines need 2001 numbers each"),
])
def test_what_is_refused(saved, tmp_path, monkeypatch, words, options, code, message):
    monkeypatch.chdir(tmp_path)
    saved("[[1, 2, 3], 0]", "t.wann.json")
    saved("[1, 2, 3]", "u.wann.json")
    with pytest.raises(ncc.NccError) as caught:
        ncc.load(saved(words), source="wann", **options)
    assert caught.value.code == code and message in f"{caught.value} {caught.value.help}"


def test_weights_alone_are_no_net(saved):
    with pytest.raises(ncc.NccError, match="weights without their net") as caught:
        ncc.load(saved(json.dumps([[1.5], 2]), "some.wann.json"))
    assert caught.value.code == "E815"


def test_an_import_is_the_same_net_as_the_texts_of_it(saved, tmp_path, ncc_):
    path = saved(GOOD)
    saved("[[1, 2, 3, 4], 99]", "some.wann.json")
    x = np.random.default_rng(0).normal(size=(9, 2))
    words = ["--tuned", str(tmp_path / "some.wann.json"), "--weight-bias", "-0.5", "--softmax"]
    net = ncc.load(path, tuned=str(tmp_path / "some.wann.json"), weight_bias=-0.5, softmax=True)
    for ending in ("graph", "nal"):
        out = tmp_path / f"kept.{ending}"
        assert ncc_("import", str(path), "-o", str(out), *words)[0] == 0
        np.testing.assert_array_equal(ncc.load(out).graph.run(x, **EXACT),
                                      net.graph.run(x, **EXACT))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_broken_files_are_refused_or_read(tmp_path, seed):
    codes = {survives(tmp_path / "m.out", made, source="wann")
             for made in mutants(GOOD.encode(), seed, 2000 if seed else 150)}
    assert {None, "E801", "E811", "E815"} <= codes
