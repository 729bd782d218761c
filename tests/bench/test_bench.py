"""`ncc bench`: what it reports, that peers compute the net, and that a wrong one is refused.

No test asserts a time; only that what is derived of the samples follows from them.
"""

from __future__ import annotations

import datetime
import functools
import importlib.util
import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from nets import random_layers

import ncc
from ncc.bench import measure as bench
from ncc.bench import peak, peer_onnx
from ncc.bench import peer as peer_module
from ncc.bench.dense_layers import layered, unsuitable
from ncc.bench.peer import Contender, Peer, Unable
from ncc.bench.peers import PEERS
from ncc.cli import main
from ncc.machine import limits
from ncc.scalar.activations import ACTIVATIONS
from ncc.scalar.numpy_eval import Numpy

NET = """N 07
00
01
02 03 00:0.5,01:-1.25
03 tanh 00:1,02:0.25 +0.1
04 sigmoid 00:1,02:0.25,03:-2
05 00 +1.5
06 00 03:1,04:2,05:0.5 +-0.25
"""
TOP = {"version", "net", "neurons", "edges", "parameters", "inputs", "outputs", "depth",
       "executed", "filled", "init", "dtype", "numerics", "batch", "threads", "seconds", "clock",
       "machine", "peak", "rows", "absent", "refused"}
ROW = {"who", "way", "median", "min", "samples", "calls", "fmas", "gfmas", "peak", "times_ncc",
       "error"}
INSTALLED = [p for p in PEERS.values() if p.absent() is None]


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.nal"
    path.write_text(NET)
    return str(path)


def command(capsys, *words):
    status = main(["bench", *words, "--seconds", "0.01"])
    out = capsys.readouterr()
    return status, out.out, out.err


def document(capsys, *words):
    status, out, err = command(capsys, *words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_the_documents_keys_are_those_that_the_module_lists(capsys, net):
    found = document(capsys, net)
    assert set(found) == TOP
    assert all(set(row) == ROW for row in found["rows"])
    for key in TOP | ROW | {"narrow", "wide", "best"}:
        assert key in bench.__doc__, key
    assert (found["neurons"], found["edges"], found["inputs"], found["outputs"]) == (7, 10, 2, 1)
    assert (found["filled"], found["init"], found["batch"]) == (0, None, 256)
    assert [row["way"] for row in found["rows"] if row["who"] == "ncc"] == [
        "batch", "single", "c-call"]


def test_what_is_derived_follows_from_the_samples(capsys, net):
    found = document(capsys, net, "--batch", "16", "--threads", "1")
    base = {row["way"]: row["median"] for row in found["rows"] if row["who"] == "ncc"}
    base["c-call"] = base["single"]
    best = found["peak"]["best"]
    assert best == max(found["peak"]["narrow"], found["peak"]["wide"] or 0) > 0
    for row in found["rows"]:
        assert len(row["samples"]) >= 3 and min(row["samples"]) >= 0 < row["median"]
        assert row["median"] == median(row["samples"]) and row["min"] == min(row["samples"])
        assert row["times_ncc"] == row["median"] / base[row["way"]]
        assert row["gfmas"] == pytest.approx(row["fmas"] / row["median"] / 1e9)
        assert row["peak"] == pytest.approx(row["gfmas"] / best)
        assert row["error"] <= bench.TOLERANCE
        samples = 16 if row["way"] == "batch" else 1
        assert row["fmas"] % samples == 0
        dense = row["who"] in ("torch-dense", "numpy-dense", "onnxruntime")
        assert (row["fmas"] // samples == 10) or (dense and row["fmas"] // samples > 10)


def test_each_installed_peer_has_its_rows(capsys, net):
    found = document(capsys, net)
    for peer in PEERS.values():
        rows = [row["way"] for row in found["rows"] if row["who"] == peer.name]
        if any(peer.name == a["who"] for a in found["absent"]):
            assert rows == []
        else:
            assert rows == ["batch", "single"]


def test_the_table_says_what_the_document_says(capsys, net):
    status, out, err = command(capsys, net, "--peers", "none")
    assert status == 0 and err == ""
    assert "7 neurons, 10 edges, depth 4" in out and "batch of 256" in out
    assert "ncc, called from C" in out and "scipy" not in out


def test_missing_weights_are_filled_and_said_so(capsys, tmp_path):
    path = tmp_path / "net.nal"
    path.write_text("N 03\n00\n01\n02 03 00,01:2 +\n")
    status, out, err = command(capsys, str(path), "--peers", "none")
    assert status == 0
    assert "2 of 3 parameters have no value: --init he" in err and "by --init he" in out
    found = document(capsys, str(path), "--peers", "none", "--init", "shared:0.5")
    assert (found["filled"], found["init"]) == (2, "shared:0.5")


def test_edges_that_merge_removes_are_not_executed(capsys, tmp_path):
    path = tmp_path / "net.nal"
    path.write_text("N 05\n00\n01\n02 03 00@a:1,01@b:2\n03 03 00@a,01@b\n04 00 02:1,03:1\n")
    found = document(capsys, str(path), "--peers", "none")
    assert (found["edges"], found["executed"]) == (6, 4)
    assert found["rows"][0]["fmas"] == 4 * 256


def test_absent_libraries_are_listed(capsys, net, monkeypatch):
    monkeypatch.setattr(peer_module, "find_spec", lambda name: None)
    found = document(capsys, net)
    assert [a["who"] for a in found["absent"]] == list(PEERS)
    assert found["absent"][0]["why"] == "scipy not installed"
    assert found["absent"][3]["why"] == "onnxruntime and onnx not installed"
    assert {row["who"] for row in found["rows"]} == {"ncc"}
    _, out, _ = command(capsys, net)
    assert "absent: torch-csr: torch not installed" in out


def broken(change):
    """A peer whose result is ncc's own but for `change`."""
    def make(layers, x, threads, stack):
        fn = ncc.compile(ncc.parse(NET))
        return Contender(lambda: fn(x), change, layers.n_edges)
    return Peer("broken", (), make)


@pytest.mark.parametrize("change", [
    lambda y: y * 1.001, lambda y: y[..., :0], lambda y: np.where(y == y.max(), np.nan, y)])
def test_a_wrong_peer_is_refused(change):
    fn = ncc.compile(ncc.parse(NET))
    known = {"broken": broken(change), "right": replace(broken(lambda y: y), name="right")}
    report = bench.measure(fn, batch=4, budget=0.01, peers=list(known), known=known)
    assert [who for who, _ in report.refused] == ["broken"]
    assert report.row("broken") is None and report.row("right").error == 0
    assert report.row("right", "single") and not report.row("broken", "single")
    assert "refused: broken: its result of the batch differs" in str(report)


def test_a_refused_peer_is_status_3(capsys, net, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PEERS, "broken", broken(lambda y: y + 1))
    status, out, err = command(capsys, net, "--peers", "broken")
    assert status == 3 and "E641" in err and "broken" in err
    assert "refused: broken" in out
    assert [p.name for p in tmp_path.iterdir()] == ["net.nal"]  # no pass is to blame: no reproducer


def test_a_peer_that_fails_is_absent():
    def fails(layers, x, threads, stack):
        raise RuntimeError("no such kernel\nat line 3")
    fn = ncc.compile(ncc.parse(NET))
    report = bench.measure(fn, batch=4, budget=0.01, peers=["it"],
                           known={"it": Peer("it", (), fails)})
    assert report.absent == (("it", "it failed: RuntimeError: no such kernel"),)


@pytest.mark.parametrize("line, why", [
    ("02 00 mul 00:1,01:2", "the net has other aggregations than the sum"),
    ("02 20 00:1,01:2", "the net has activations of its own (fn)")])
def test_nets_that_are_no_layers_have_no_peers(capsys, tmp_path, line, why):
    path = tmp_path / "net.nal"
    path.write_text(f"N 03\nfn 20 x*x+1\n00\n01\n{line}\n")
    found = document(capsys, str(path))
    assert {row["who"] for row in found["rows"]} == {"ncc"}
    assert set(a["why"] for a in found["absent"]) <= {why} | {p.absent() for p in PEERS.values()}


@pytest.mark.parametrize("words, code", [
    (["--batch", "0"], "E640"), (["--threads", "-1"], "E640"), (["--seconds", "0"], "E640"),
    (["--seconds", "nan"], "E640"), (["--peers", "tensorflow"], "E640"),
    (["--form", "round"], "no --form round"), (["--init", "he2"], "E144")])
def test_a_wrong_command_line(capsys, net, words, code):
    assert main(["bench", net, *words]) == 2
    assert code in capsys.readouterr().err


def test_an_ssa_text_and_no_file(capsys, tmp_path):
    assert main(["bench", str(tmp_path / "net.ssa")]) in (1, 2)
    assert main(["bench", str(tmp_path / "none.nal")]) == 1
    assert "E101" in capsys.readouterr().err


# ---- peers compute the net


def answers(peer, net, x, dtype="f32"):
    with ExitStack() as stack, np.errstate(all="ignore"):
        run = peer.make(layered(net.graph, dtype), x, 1, stack)
        return run.result(run.call())


@functools.cache
def of_activation(code, dtype):
    net = ncc.parse(f"N 07\n00\n01\n02\n03 {code:x} 00:0.3,01:0.5\n04 00 00:-1,02:2 +0.25\n"
                    f"05 {code:x} 03:0.5,01:0.25 +0.5\n06 00 05:1,04:-1,03:0.125\n")
    return net, ncc.compile(net, dtype=dtype)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("peer", INSTALLED, ids=lambda p: p.name)
def test_peers_agree_on_every_activation(peer, dtype):
    """Also two activations in a layer, a skipped layer, and one sample."""
    x = np.random.default_rng(1).uniform(0.1, 2, (5, 3)).astype({"f32": "f4", "f64": "f8"}[dtype])
    able = 0
    for a in ACTIVATIONS:
        net, fn = of_activation(a.code, dtype)
        try:
            found = [answers(peer, net, x, dtype), answers(peer, net, x[0], dtype)]
        except Unable:
            continue
        except Exception as fault:  # onnxruntime has not every operator in float64
            assert "NOT_IMPLEMENTED" in str(fault) and dtype == "f64", fault
            continue
        able += 1
        for y, want in zip(found, [fn(x), fn(x[0])], strict=True):
            assert bench._error(y, want) < (1e-5 if dtype == "f32" else 1e-7), a.name
    assert able >= 15


@pytest.mark.parametrize("peer", INSTALLED, ids=lambda p: p.name)
def test_peers_agree_on_chains_and_others(peer):
    chain = ncc.parse(random_layers([12, 9, 9, 4], 9, 3))
    assert layered(chain.graph, "f32").chain
    ragged = ncc.parse(random_layers([12, 30, 9, 4], 3, 3))
    assert not layered(ragged.graph, "f32").chain
    for net in (chain, ragged, ncc.parse(NET)):
        x = np.random.default_rng(1).standard_normal((7, len(net.inputs))).astype(np.float32)
        try:
            found = answers(peer, net, x)
        except Unable:
            assert peer.name == "onnxruntime" and net.n_neurons == 7
            continue
        assert bench._error(found, ncc.compile(net)(x)) < 1e-5


def test_layers_by_hand():
    """Positions of NET: 00 01 | 05 | 02 | 03 | 04 | 06; the constant is a layer without edges."""
    found = layered(ncc.parse(NET).graph, "f64")
    assert [(r.first, r.last, r.low, r.high) for r in found.layers] == [
        (2, 3, 0, 0), (3, 4, 0, 2), (4, 5, 0, 4), (5, 6, 0, 5), (6, 7, 2, 6)]
    assert found.n_edges == 10 and found.outputs.tolist() == [6]
    last = found.layers[-1]
    assert last.read().tolist() == [0, 2, 3] and last.dense().tolist() == [[0.5, 1, 2]]
    assert last.bias.tolist() == [-0.25] and last.pieces == ((0, 1, "identity"),)
    assert unsuitable(ncc.parse(NET).graph) is None


def test_too_large_for_dense_matrices(monkeypatch):
    for module in (peer_module, peer_onnx):
        monkeypatch.setattr(module, "DENSE", 8)
    net = ncc.parse(random_layers([12, 9, 4], 9, 3))
    for peer in INSTALLED:
        if "csr" not in peer.name:
            with pytest.raises(Unable, match="too large"):
                answers(peer, net, np.ones((2, 12), np.float32))


# ---- the clock and the peak


def test_rounds_are_taken_in_turn():
    order = []
    calls = [lambda k=k: order.append(k) for k in range(3)]
    timed, counts = bench.interleaved(calls, 1e-9, 2)
    assert [len(t) for t in timed] == [3, 3, 3] and counts == [1, 1, 1]
    # Two calls of each to warm up and to estimate; in a round one that is not timed, and one.
    assert order == [0, 0, 1, 1, 2, 2] * 4


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_the_peaks_kernels_compute(dtype):
    """s = s*a + b by hand, of other numbers than calibration's."""
    for kernel in peak.kernels(dtype):
        if kernel is None:
            continue
        n = peak.SUMS * kernel.lanes
        assert kernel.fmas(10) == n * 10
        kernel._memory[:n] = 3
        kernel._call(kernel._memory.ctypes.data, 4)
        assert (kernel._memory[:n] == 1 + 2 / 2**4).all()
        with pytest.raises(RuntimeError):
            kernel(1)
    found = peak.calibrate(1, dtype)
    assert found.best == max(found.narrow, found.wide or 0)


# ---- the table of targets


def script(name):
    spec = importlib.util.spec_from_file_location(
        name, Path(__file__).parents[1] / "bench" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fast():
    return script("bench_fast")


def test_its_nets_are_what_the_rows_say(fast):
    net = fast.sparse(64, 3, 8)
    net.graph.verify()
    assert (net.n_neurons, net.n_edges, len(net.outputs)) == (256, 3 * 64 * 8, 64)
    assert layered(net.graph, "f32").chain
    net = fast.dense(16, 64, 32, 32, 5)
    net.graph.verify()
    assert net.n_edges == 16 * 64 + 64 * 32 + 32 * 32 + 32 * 5
    net = fast.irregular()
    net.graph.verify()
    assert (net.n_neurons, net.n_edges, net.graph.levels.max()) == (1000, 4500, 170)


@pytest.mark.parametrize("value, below, met", [
    (5, False, "no"), (10, False, "yes"), (20, False, "stretch"),
    (5, True, "stretch"), (10, True, "yes"), (10.5, True, "no")])
def test_a_row_says_whether_its_target_is_met(fast, value, below, met):
    stretch = 6 if below else 20
    assert fast.Cell("", "", value, "", 10, stretch, below).met() == met


def test_rows_of_a_moment(fast, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench_fast.py", "--rows", "python-call,one-tagger",
                                      "--seconds", "0.01"])
    fast.main()
    lines = [s for s in capsys.readouterr().out.splitlines() if s.startswith("|")]
    assert lines[2].startswith("| Python call, 20 neurons |") and len(lines) == 4
    assert "16-64-32-32-5" in lines[3] or "wants gcc" in lines[3]


def test_rewiring_is_measured_in_rows_and_calls_no_llvm(capsys, monkeypatch):
    made = script("bench_rewire")
    monkeypatch.setattr(sys, "argv", ["bench_rewire.py", "--quick"])
    made.main()
    lines = [s for s in capsys.readouterr().out.splitlines() if s.startswith("| ")]
    assert len(lines) == 2 + 8 and "| calls of LLVM in all of that | 0 | 0 |" in lines
    assert made.erdos_renyi([784, 1000, 1000, 1000, 10], 0).n_edges > 126_000


@pytest.mark.skipif(PEERS["torch-csr"].absent() is not None, reason="no torch")
@pytest.mark.parametrize("optimizer", [pytest.param("sgd", marks=pytest.mark.slow), "adam"])
def test_the_training_steps_by_hand_are_nccs(fast, optimizer):
    """`stepped` raises where they are not; here of a net that takes no time."""
    times, least, share = fast.stepped(fast.sparse(32, 3, 4), ("csr", "masked"), 0.01, optimizer)
    assert len(times) == 3 and share > 0
    assert all(0 < a <= b for a, b in zip(least, times, strict=True))
    kinds = ("dense", "autograd")
    assert len(fast.stepped(fast.dense(9, 7, 4), kinds, 0.01, optimizer).times) == 3


def test_the_rows_of_training_are_those_of_the_issue(capsys, monkeypatch):
    made = script("bench_train")
    assert list(made.ROWS) == ["train-sparse", "parts", "widths", "train-dense", "memory"]
    monkeypatch.setattr(made, "sparse", lambda width, depth: made.fast.sparse(32, depth, 4))
    monkeypatch.setattr(made, "dense", lambda *widths: made.fast.dense(9, 7, 4))
    monkeypatch.setattr(sys, "argv", ["bench_train.py", "--rows", "parts,memory", "--seconds",
                                      "0.01"])
    made.fast.main(made.ROWS, made.__doc__)
    lines = [s for s in capsys.readouterr().out.splitlines() if s.startswith("| ")]
    assert len(lines) == 2 + 4 and not any("failed" in line for line in lines)
    assert all(word in lines[4] for word in ("params", "gradient", "state", "packed", "work"))


def test_a_peer_of_gcc_leaves_subnormals_alone(fast) -> None:
    """Code linked with -ffast-math makes its whole process flush them to 0 when it is loaded."""
    x = np.ones(1, np.float32)
    fast.Gcc("y[0] = x[0] * w[0];", np.ones(1), x, 1)()
    assert np.float64(5e-324) * 1.0 > 0


def test_straight_c_is_the_net(fast):
    """Each activation that it knows, twice in a row, with and without a bias."""
    lines = ["00", "01"]
    for name in fast.C_ACTIVATIONS:
        j = len(lines)
        lines += [f"{j:02x} {name} 00:0.5,01:-0.3 +0.2", f"{j + 1:02x} {name} {j:02x}:0.7,01:0.1"]
    net = ncc.parse(f"N {len(lines):02x}\n" + "\n".join(lines) + "\n")
    x = np.array([0.7, -1.1], np.float32)
    try:
        theirs = fast.Gcc(fast.naive_c(net.graph), net.params, x, len(net.outputs))
    except fast.Missing:
        pytest.skip("no gcc")
    assert np.allclose(theirs(), ncc.compile(net)(x), rtol=1e-5, atol=1e-6)
    assert theirs.seconds > 0


def test_one_sample_of_a_genome_beside_gcc(capsys, monkeypatch):
    made = script("bench_neat")
    monkeypatch.setattr(made, "GOAL", 0.0)  # no ratio misses it, so that the status is 0
    monkeypatch.setattr(made, "ACTIVATIONS", ("tanh", "abs"))
    monkeypatch.setattr(sys, "argv", ["bench_neat.py", "--sizes", "12", "--seeds", "1",
                                      "--seconds", "0.01"])
    made.main()
    lines = [s for s in capsys.readouterr().out.splitlines() if s.startswith("| ")]
    assert lines[2].startswith("| 12 neurons") and len(lines) == 4
    # Its last cell is a verdict on times, which a test leaves open.
    assert lines[3].startswith("| 12 neurons, median |") or "wants gcc" in lines[2]


@pytest.mark.slow
def test_a_population_beside_neat_python(capsys, monkeypatch):
    pytest.importorskip("neat")
    made = script("bench_population")
    monkeypatch.setattr(made, "beside", lambda *row: made.Cell(row[0], "", 0.0, "", None))
    monkeypatch.setattr(made.engine_rows, "Cell", lambda what, shown, value, target, *_, **__: (
        made.Cell(what, shown, value, target, 0 if target == "0" else None, below=True)))
    monkeypatch.setattr(sys, "argv", ["bench_population.py", "--sizes", "3,30", "--rounds", "1",
                                      "--genomes", "4", "--seed", "1", "--bits", "3", "--seeds",
                                      "1"])
    made.main()
    lines = [s for s in capsys.readouterr().out.splitlines() if s.startswith("| ")]
    assert len(lines) == 2 + 3 + 2 + 3 + 3 + 1 + 1 + 4 + 2 + 2 + 2
    assert [line.split(" | ")[3] for line in lines[-2:]] == ["yes |"] * 2
    assert sum("another bit" in line and "| 0 | 0 | yes |" in line for line in lines) == 2


@pytest.mark.parametrize("function", ["__call__", "step"])
def test_bits_of_a_population_that_differ_are_counted(function, monkeypatch):
    pytest.importorskip("neat")
    made = script("bench_population")
    rows, config = made.engine_rows, made.made_by.config(8, 4, ("tanh",), ("sum",))
    genomes = made.made_by.neat_set(config, 3, 1)
    monkeypatch.setattr(rows, "TOGETHER", 2)
    assert [cell.value for cell in rows.bits(genomes, config, "fused", 1)] == [0]
    right = getattr(rows.ncc.Population, function)

    def wrong(pop, x):
        y = right(pop, x)
        y[2].view(np.uint32).flat[-1] ^= 1
        return y

    monkeypatch.setattr(rows.ncc.Population, function, wrong)
    assert [cell.value for cell in rows.bits(genomes, config, "fused", 1)] == [1]


def test_parameters_as_lanes_beside_a_call_a_vector(capsys, monkeypatch):
    made = script("bench_each")
    monkeypatch.setattr(made, "SPEEDUP", 0.0)
    monkeypatch.setattr(made, "LOOP", 3)
    monkeypatch.setattr(sys, "argv", ["bench_each.py", "--quick", "--seconds", "0.01"])
    made.main()
    lines = [s for s in capsys.readouterr().out.splitlines() if s.startswith("| ")]
    assert len(lines) == 5 and lines[2].startswith("| 107 activations, 287 edges, 70 vectors |")
    net = made.net_of(made.GENOME)
    assert net.n_edges == 287 and int((net.graph.activations >= 0).sum()) == 107
    wrong = made.Measured(made.GENOME, 5, "f32")
    monkeypatch.setattr(wrong, "loop", lambda: np.zeros((5, len(net.outputs)), np.float32))
    with pytest.raises(AssertionError, match="other bits"):
        wrong.check()


# ---- the bound on compiling


@pytest.fixture(scope="module")
def compiling():
    return script("bench_compile")


def test_rows_are_of_more_than_forty_nets(compiling):
    rows = compiling.rows()
    assert len({row.net for row in rows}) >= 40
    assert len({(row.net, row.way) for row in rows}) == len(rows)
    assert set(compiling.SHORT) <= {f"{row.net}: {row.way}" for row in rows}
    assert [r.net for r in compiling.mixtures(2, 5)] == ["mixture 5"] * 2 + ["mixture 6"] * 2


def kinds(nets):
    """A small net of each kind."""
    return {
        "edges": nets.edges_of(100, width=9), "layers": nets.layers((9, 7, 4)),
        "sparse": nets.layers((9, 7, 4), 3), "neat": nets.neat(30, 80),
        "wild": nets.neat(30, 80, 8),
        "population": nets.population(2), "every": nets.every(), "some": nets.every(1, 20),
        "each": nets.each_activation(), "fan_out": nets.fan_out(5), "named": nets.named_inputs(5),
        "lonely": nets.lonely(5), "chain": nets.chain(9, ("tanh", "relu")),
        "fan_in": nets.fan_in(9, nets.AGGREGATIONS), "fan_ins": nets.fan_ins(5, levels=2),
        "lstm": nets.lstm(2, 2, 3), "convolution": nets.convolution(7, 2, 3, 2, 2),
        "residual": nets.residual(4, 3, 2), "butterfly": nets.butterfly(8), "tree": nets.tree(8),
        "wide": nets.wide(9, 5), "read": nets.read_outputs(20), "tied": nets.tied(20, 3),
        "constant": nets.constant(30), "functions": nets.functions(40), "twins": nets.twins(5),
        "biases": nets.constants_only(5),
        **{f"mixture {seed}": nets.mixture(seed, 300) for seed in range(30)}}


def test_the_nets_to_compile_are_nets_with_as_many_edges_as_is_counted(compiling):
    made = kinds(compiling.nets)
    assert made == kinds(compiling.nets)  # a seed says it all
    for name, text in made.items():
        graph = ncc.parse(text, name=name).graph
        real = graph.activations >= 0
        pairs = set(zip(graph.activations[real].tolist(), graph.aggregations[real].tolist(),
                        strict=True))
        assert compiling.counts(text) == (graph.n_edges, len(pairs)), name
    assert compiling.counts(made["every"])[1] == 32 * 11
    assert compiling.counts(made["each"]) == (84, 32)
    assert compiling.counts(compiling.nets.neat(115, 280))[0] == 280
    assert compiling.counts(compiling.nets.edges_of(1_000)) == (1_000, 1)


def test_the_bound(compiling):
    forward, gradient, trains = [compiling.Row("", str, way) for way in (
        "forward", "gradient", "build --train mse,sgd")]
    assert compiling.bounds(forward, 1_000, 5, "") == pytest.approx((0.22, 154e6))
    assert compiling.bounds(gradient, 1_000, 5, "straight table") == pytest.approx((0.55, 154e6))
    assert compiling.bounds(trains, 1_000, 5, "table shared") == pytest.approx((1.1, 150.2e6))
    special = compiling.Row("", str, "forward", bar=5, room=1e6)
    assert compiling.bounds(special, 1_000, 5, "") == (5, 1e6)
    backward = {way: compiling.Row("", str, way).backward for way in (
        "first forward", "build", "build --no-backward", "build --embed-weights", "gradient")}
    assert list(backward.values()) == [False, True, False, False, True]


def test_the_guide_says_the_bound(compiling):
    words = " ".join((Path(__file__).parents[2] / "ncc/cli/README.md").read_text().split())
    made = compiling
    assert (f"{made.BASE} s of CPU time + {made.EDGE * 1e6:.0f} us an edge + "
            f"{made.PAIR * 1e3:.0f} ms a distinct pair") in words
    assert f"{made.GRADIENT} times that with gradients" in words
    assert (f"{made.ROOM / 1e6:.0f} MB of memory + {made.UNROLLED / 1e3:.0f} kB an edge where any "
            f"function is unrolled (`straight`), else {made.LOOPED:.0f} B an edge") in words
    limit = (limits.ANY, limits.AN_EDGE, limits.A_PAIR, limits.GRADIENTS)
    assert limit == (made.BASE, made.EDGE, made.PAIR, made.GRADIENT)


@pytest.mark.parametrize("way", [
    "forward", "gradient", pytest.param("build --dtype f64", marks=pytest.mark.slow)])
def test_a_compile_in_a_process_of_its_own(compiling, way):
    row = compiling.Row("two edges", lambda: "N 03\n00\n01\n02 tanh 00:1,01:2 +0.5\n", way)
    found = compiling.measured(row, 1_000, 6)
    assert found.state == "done", found
    assert (found.neurons, found.edges, found.pairs) == (3, 2, 1)
    assert found.cpu > 0 and found.size > 500 and 0 <= found.peak < 2e9
    assert found.forms.split() == ["straight"] * (2 if way == "forward" else 4)
    late = found._replace(cpu=3 * found.bound, peak=0)
    assert late.held == "no: time 3.0x" and late._replace(cpu=0).held == "yes"
    assert late._replace(cpu=0, peak=2 * late.room).held == "no: memory 2.0x"
    refused = late._replace(state="refused E400")
    assert refused.held == "no: refused E400" and refused._replace(cpu=0).held == "yes: refused"
    assert refused._replace(cpu=0).holds and not refused.holds


def test_a_compile_that_comes_to_nothing(compiling):
    """One that takes too long, one that may not have the memory, one that is refused."""
    long = compiling.Row("chain", lambda: compiling.nets.chain(3_000), "build")
    assert compiling.measured(long, 0.001, 6).held == "no: timeout"
    short = compiling.measured(long, 1_000, 0.1)
    assert short.state != "done" and short.held.startswith(("no: ", "yes: refused"))
    wrong = compiling.Row("cycle", lambda: "N 03\n00\n01 00 00,02\n02 00 01\n", "build")
    assert compiling.measured(wrong, 1_000, 6).state.startswith("refused E")


# ---- the errors of the arithmetic


def test_errors_are_those_of_the_interpreter(monkeypatch, capsys):
    """The maxima over the same inputs, by the sequences in numpy; a function that is off by more
    than its bound is told."""
    made = script("bench_ulps")
    x = made.samples("f32", 300)
    with np.errstate(all="ignore"):
        want = np.tanh(x.astype(np.float64))
    found = made.worst("tanh", "f32", [x], ["strict"])["strict"]
    errors = made.ulps(Numpy("f32", False).op("tanh", x), want)
    assert found == (errors.max(), x[errors.argmax()]) and 0.5 < found[0] < 2
    first, second = list(made.words(1 << 14))[:2]
    assert np.isnan(first).any() and len(second) == 1 << 18 and second[0] == 0
    monkeypatch.setattr(sys, "argv", ["bench_ulps.py", "--stride", "1000003", "--samples", "100",
                                      "--only", "exp,atan"])
    with pytest.raises(SystemExit) as ended:
        made.main()
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0 and len(lines) == 4 and lines[3].count(" | ") == 4
    monkeypatch.setitem(made.WIDE, "exp", lambda x: np.exp(x) * (1 + 4e-7))
    with pytest.raises(SystemExit) as ended:
        made.main()
    assert ended.value.code == 1


# ---- the tables of the guide


def test_tables_go_between_their_markers():
    made = script("all")
    for table in made.TABLES:
        guide = (Path(__file__).parents[2] / table.guide).read_text()
        assert (Path(made.HERE) / table.script).exists()
        found = made.placed(guide, table.name, "| a |\n")
        begin = f"<!-- {table.name}: begin -->\n"
        assert begin + "| a |\n<!--" in found
        assert found.split(begin)[0] == guide.split(begin)[0]
        assert found.split("end -->")[-1] == guide.split("end -->")[-1]
        assert made.placed(found, table.name, guide.split(begin)[1].split("<!--")[0]) == guide
        assert made.placed(guide, table.name, made.section(guide, table.name)) == guide
    with pytest.raises(ValueError, match="no markers of the table none"):
        made.placed(guide, "none", "")
    assert made.tables("so\n| a |\n| - |\n\n| b |\n") == "| a |\n| - |\n| b |\n"
    line = made.machine(datetime.date(2026, 1, 2))
    assert line.endswith("2026-01-02") and "-bit vectors" in line


def test_rows_beside_peers_are_copied_from_the_measured_table():
    made = script("all")
    fast = """`a command`, a machine

| what | measured | target, stretch | met |
| --- | --- | --- | --- |
| batch 256, RadiX 1,024 x 120, random | 56 % P, 59.7 GFMA/s | >= 70 % P | no |
| the same against the best peer | 3.86x torch-csr (scipy-csr 7 % P, torch-csr 15 % P) | | no |
| one sample, random 10,000 edges, from C | 0.74 edges a cycle | >= 0.8, 1.0 | no |
| the same against gcc -O3 | 1.06x | >= 1.15x | no |
| training step, dense 784-300-100-10, SGD | 0.64x torch by hand, 46 % P | >= 1x | no |
"""
    assert made.beside_peers(fast) == """`a command`, a machine

| net | ncc | speed, peer = 1 |
| --- | --- | --- |
| batch 256, RadiX 1,024 x 120, random | 56 % P, 59.7 GFMA/s | 3.86x torch-csr |
| one sample, random 10,000 edges, from C | 0.74 edges a cycle | 1.06x gcc -O3 |
| training step, dense 784-300-100-10, SGD | 46 % P | 0.64x torch by hand |
"""
    top = Path(__file__).parents[2]
    shown = made.section((top / "README.md").read_text(), "peers")
    table = made.section((top / "tests/bench/README.md").read_text(), "fast")
    assert shown == made.beside_peers(table) and shown.count("\n| ") >= 5


def test_a_table_is_what_its_script_prints(monkeypatch, tmp_path):
    made = script("all")
    (tmp_path / "it.py").write_text("print('so\\n| a |\\nand so'); raise SystemExit(1)")
    monkeypatch.setattr(made, "HERE", tmp_path)
    found, status = made.measured(made.Table("it", "it.py"), False)
    assert status == 1 and found.endswith("\n\n| a |\n") and "bench/it.py" in found
