"""Comparisons of nets with nets and with other tools: distances, limits, the first neuron."""

import io
import json
import math
import sys
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest

import ncc
from ncc.cli import main
from ncc.report.comparison import ulps

NETS = Path(__file__).parents[3] / "shared/nets"
NET = """N 06
00
01
02 tanh 00:0.5,01:-1.25 +0.1
03 relu 00:2,02:1
04 max 02:1,03:0.5
05 sigmoid 03:1,04:-1 +
"""
NET = NET.replace("04 max", "04 identity max").replace(" +\n", " +0.25\n")


def changed(tmp_path, old, new, name="other.nal"):
    path = tmp_path / name
    assert old in NET
    path.write_text(NET.replace(old, new))
    return path


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.nal"
    path.write_text(NET)
    return path


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_ulps_are_steps_between_neighbours(real):
    big = np.finfo(real).max
    a = np.array([1.0, 0.0, -0.0, 1.0, big, np.nan, np.nan, 5e-324, np.inf], real)
    b = np.array([1.0, -0.0, 0.0, np.nextafter(real(1), real(2)), -big, np.nan, 1.0, 0.0, np.inf],
                 real)
    word = np.uint32 if real is np.float32 else np.uint64
    expected = [0, 0, 0, 1, 2 * int(np.array(big).view(word)), 0, 2**64 - 1,
                int(real(5e-324) > 0), 0]
    assert ulps(a, b).tolist() == expected
    assert ulps(b, a).tolist() == expected


def test_equal_nets_are_equal(net, tmp_path, capsys):
    same = changed(tmp_path, "05 sigmoid", "05   sigmoid")
    assert main(["verify", str(net), "--against", str(same), "--samples", "7"]) == 0
    assert "equal 7 of 7" in capsys.readouterr().out
    made = ncc.load(net).verify(ncc.load(same))
    assert made.ok and repr(made) == "Comparison(ok, 100 samples, largest difference 0)"


def test_the_first_neuron_that_parts_is_named_with_its_inputs(net, tmp_path, capsys):
    other = changed(tmp_path, "02:1,03:0.5", "02:1,03:0.75")
    x = tmp_path / "x.csv"
    x.write_text("1,1\n3,1\n")
    command = ["verify", str(net), "--against", str(other), "--input", str(x)]
    assert main(command) == 3
    said = capsys.readouterr()
    assert "error[E321]" in said.err and "2 outputs differ" in said.err
    assert "first diverging neuron 04, in sample" in said.out
    assert "identity of max: 02*1.0 03*0.5" in said.out
    assert "reads 02: " in said.out and "reads 03: " in said.out
    assert main([*command, "--atol", "10"]) == 0


def test_a_kink_and_another_edge_of_a_maximum_are_told(net, tmp_path):
    here = ncc.load(net)
    flips = here.verify(changed(tmp_path, "00:2,02:1", "00:-2,02:1"), [[1.0, 0.0]])
    assert not flips.ok and "first diverging neuron 03" in flips.diverging
    taken = here.verify(changed(tmp_path, "00:0.5,01:-1.25 +0.1", "00:0.5,01:-1.25 +9"),
                        [[1.0, 3.0]], atol=1.5)
    assert "first diverging neuron 02" in taken.diverging or taken.ok
    step = ncc.parse("N 03\n00\n01 identity 00:1 +1e-9\n02 step 01:1\n")
    other = ncc.parse("N 03\n00\n01 identity 00:1 +-1e-9\n02 step 01:1\n")
    made = step.verify(other, [[0.0]], atol=1e-6)
    assert "first diverging neuron 02" in made.diverging
    assert "different sides of a step or a kink" in made.diverging
    pick = ncc.parse("N 04\n00\n01 identity 00:1 +1e-9\n02 identity 00:1\n"
                     "03 identity max 01:1e9,02:5\n")
    other = ncc.parse("N 04\n00\n01 identity 00:1 +-1e-9\n02 identity 00:1\n"
                      "03 identity max 01:1e9,02:5\n")
    assert "max takes another edge" in pick.verify(other, [[0.0]], atol=1e-6).diverging


def test_infinities_and_nans_are_values():
    net = ncc.parse("N 02\n00\n01 identity 00:1\n")
    x = [[math.inf], [math.nan], [1.0]]
    assert net.verify(lambda x: x, x).ok
    made = net.verify(lambda x: np.zeros_like(x), x)
    assert not made.ok and int((~made.within).sum()) == 3 and made.worst in (0, 1)


def test_functions_objects_and_shapes(net):
    held = ncc.load(net)
    assert held.verify(lambda x: held.graph.run(x)).ok
    with pytest.raises(ValueError, match="shape"):
        held.verify(lambda x: x)
    with pytest.raises(ValueError, match="cannot be evaluated"):
        held.verify(3)


@pytest.mark.parametrize("words, said", [
    (["--against", "neat-python"], "is not a file of that tool's"),
    (["--against", "missing.nal"], "cannot read"),
    (["--against", "x.unknown"], "unknown file extension"),
    (["--against", "nothing"], "neither a file nor one of neat-python, sklearn, fann"),
    (["--against", "net.nal", "--max-ulp", "-1"], "limits are 0 or more"),
    (["--against", "net.nal", "--atol", "nan"], "limits are 0 or more"),
    (["--against", "net.nal", "--samples", "0"], "there must be one at least")])
def test_what_cannot_be_compared_is_refused(net, words, said, capsys, monkeypatch):
    monkeypatch.chdir(net.parent)
    assert main(["verify", str(net), *words]) in (1, 2)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words, said, status", [
    (["SELF", "--source", "neat", "--against", "sklearn"], "not a file of", 2),
    (["-", "--source", "neat", "--against", "neat-python"], "standard input is none", 2),
    (["SELF", "--unroll", "3", "--against", "neat-python"], "makes a step a call", 2),
    (["SELF", "--against", "neat-python"], "itself fails: OverflowError", 3)])
def test_tools_on_what_is_not_theirs_are_refused(words, said, status, tmp_path, capsys,
                                                 monkeypatch):
    """A tool that raises an exception is no fault of ncc's."""
    pytest.importorskip("neat")
    path = tmp_path / "net.json"
    path.write_text(json.dumps({
        "format_version": "1.0", "network_type": "recurrent", "metadata": {},
        "topology": {"num_inputs": 1, "num_outputs": 1, "input_keys": [-1], "output_keys": [0]},
        "nodes": [{"id": 0, "type": "output", "activation": {"name": "square", "custom": False},
                   "aggregation": {"name": "sum", "custom": False}, "bias": 0, "response": 1}],
        "connections": [{"from": -1, "to": 0, "weight": 1e200, "enabled": True},
                        {"from": 0, "to": 0, "weight": 1, "enabled": True}]}))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert main(["verify", *[str(path) if word == "SELF" else word for word in words]]) == status
    assert said in capsys.readouterr().err


def test_both_nets_get_the_values_that_neither_has(tmp_path):
    path = tmp_path / "net.nal"
    path.write_text("N 03\n00\n01\n02 tanh 00@w,01@w +\n")
    for words in ["--init", "he"], ["--init", "shared:1.5"]:
        assert main(["verify", str(path), "--against", str(path), *words]) == 0


def test_more_samples_than_memory_holds_are_refused(net, capsys):
    for command in (["verify", str(net), "--against", str(net)], ["trace", str(net)]):
        assert main([*command, "--samples", "1000000000"]) == 4
        assert "E400" in capsys.readouterr().err


@pytest.mark.parametrize("dtype, title", [("f32", "libfann"), ("f64", "libdoublefann")])
@pytest.mark.skipif(not NETS.exists(), reason="the nets of other tools are not here")
@pytest.mark.skipif(find_library("doublefann") is None, reason="libfann is not installed")
def test_fann_computes_in_the_dtype_of_the_net(dtype, title, capsys):
    path = str(NETS / "fann/pieces_exact.net")
    assert main(["verify", path, "--against", "fann", "--dtype", dtype]) == 0
    assert f"against {title}\n" in capsys.readouterr().out
    scaled = str(NETS / "fann/scaled.net")
    assert main(["verify", scaled, "--against", "fann", "--dtype", dtype, "--scaling"]) == 2


@pytest.mark.skipif(not NETS.exists(), reason="the nets of other tools are not here")
@pytest.mark.parametrize("name", ["xor_winner", "random_1", "random_4", "random_5"])
def test_an_export_of_neat_pythons_is_verified_by_neat_python(name, capsys):
    pytest.importorskip("neat")
    path = NETS / f"neat/{name}.json"
    assert main(["verify", str(path), "--against", "neat-python"]) == 0
    assert "against neat-python 2" in capsys.readouterr().out


@pytest.mark.skipif(not NETS.exists(), reason="the nets of other tools are not here")
def test_a_node_of_neat_pythons_that_differs_is_named_by_its_key(tmp_path):
    neat = pytest.importorskip("neat")
    from ncc.report.oracles.evolved import _neat_json
    path = NETS / "neat/random_1.json"
    held = json.loads(path.read_text())
    net = ncc.load(path)
    assert net.verify(_neat_json(held, neat)).ok
    changed = next(n for n in held["nodes"] if n["type"] == "output")
    changed["bias"] += 0.5
    made = net.verify(_neat_json(held, neat))
    assert not made.ok and f"({changed['id']})" in made.diverging


def test_trace_prints_every_neuron_and_writes_tables(net, tmp_path, capsys):
    x = tmp_path / "x.csv"
    x.write_text("1,1\n3,-1\n")
    assert main(["trace", str(net), "--input", str(x)]) == 0
    out = capsys.readouterr().out
    assert out.count("sample ") == 2 and "  00 = 1.0 input\n" in out
    held = ncc.load(net)
    y = held.graph.run([[1, 1], [3, -1]])
    for value in y[:, 0]:
        assert f"  05 = {value!s} output, of " in out
    table, array = tmp_path / "t.csv", tmp_path / "t.npy"
    assert main(["trace", str(net), "--input", str(x), "-o", str(table)]) == 0
    assert main(["trace", str(net), "--input", str(x), "-o", str(array)]) == 0
    rows = table.read_text().splitlines()
    assert rows[0] == "00,01,02,03,04,05"
    np.testing.assert_array_equal(np.loadtxt(rows[1:], delimiter=",").astype(np.float32),
                                  np.load(array))
    np.testing.assert_array_equal(np.load(array)[:, -1], y[:, 0])


def test_trace_of_a_net_with_state_goes_step_by_step(tmp_path, capsys):
    path = tmp_path / "count.nal"
    path.write_text("N 02\n00\n01 identity 00:1,~01:1\n")
    x = tmp_path / "x.csv"
    x.write_text("1\n2\n4\n")
    assert main(["trace", str(path), "--input", str(x)]) == 0
    out = capsys.readouterr().out
    for value in ("1.0", "3.0", "7.0"):
        assert f"01 = {value} output" in out
