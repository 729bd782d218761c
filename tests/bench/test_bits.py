"""tests/bench/bench_bits.py on ten nets: every target in every form twice; and that it finds and
shrinks faults."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import ncc
from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS
from ncc.scalar import sum_order as sums


@pytest.fixture(scope="module")
def made():
    path = Path(__file__).parents[1] / "bench" / "bench_bits.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        spec = importlib.util.spec_from_file_location("bench_bits", path)
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "bench_bits", module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def cases(made):
    return [made.Case(made.text_of(seed), seed) for seed in range(10)]


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in ("v3", "aarch64")))
    for name in ("v2", "v3", "v4", "aarch64", "rv64")])
def test_gradients_and_training_have_one_answer(made, cases, name):
    if reason := made.PLACES[name].absent:
        pytest.skip(reason)
    report = made.examined(cases, [name], by_python=False)
    assert not report.faults, "\n".join(map(str, report.faults))
    assert report.nets[name] == set(range(10)) and report.forms[name] == set(made.FORMS)
    assert report.finite[name] > 0.5 * report.compared[name] > 0


def test_python_gives_it_in_any_number_of_threads(made, cases):
    for case in (cases[1], cases[6]):
        for name, check in made.HERE_TOO.items():
            difference, met = made.by(check, case)
            assert not difference and sum(a.size for a in met) > 100, (name, difference)


@pytest.mark.parametrize("text", [
    "N 03\nout 00,01\n00\n01\n02 tanh 00:1\n",  # no rows
    "N 03\n00 tanh +0.5\n01 relu 00:1\n02 relu max 00:1,01:2\n",  # no inputs
    "N 04\n00\n01\n02 tanh 00:=1,01:=0.5 +=0.25\n03 relu mul 02:=1,00:=2\n",  # no parameters
], ids=["outputs are inputs", "no inputs", "no parameters"])
def test_nets_that_lack_something_do_so_in_every_form(made, text):
    name = next((n for n in ("v3", "aarch64") if not made.PLACES[n].absent), None)
    if name is None:
        pytest.skip("neither this machine nor an emulator runs them")
    report = made.examined([made.Case(text, 0)], [name], full=True, by_python=False)
    assert not report.faults, "\n".join(map(str, report.faults))


def test_equal_neurons_are_one_in_the_order_of_sums(made):
    """`merge` makes one of two neurons that are tied: their outputs' adjoints are added first."""
    name = next((n for n in ("v3", "v2", "aarch64") if not made.PLACES[n].absent), None)
    if name is None:
        pytest.skip("neither this machine nor an emulator runs them")
    case = made.Case("N 03\n00\n01 sin 00@k:-0.7854\n02 sin 00@k\n", 0, "f32")
    report = made.examined([case], [name], by_python=False)
    assert not report.faults, "\n".join(map(str, report.faults))
    apart = case.graph.gradient(case.x, case.dy, case.params, "f32", "strict")[0]
    assert (apart != case.parts("strict")[1]).any()  # or it would show nothing


def test_five_nets_have_every_target_in_every_form(made):
    for first in (0, 13):
        chosen = [way for seed in range(first, first + 5)
                  for way in made.ways(seed, made.PLACES.values())]
        met = Counter((w.place.name, w.form) for w in chosen if not w.training)
        assert set(met.values()) == {1} and len(met) == 25
        assert any(w.training for w in chosen)
    assert len({(w.place.name, w.form, w.training)
                for w in made.ways(3, made.PLACES.values(), True)}) == 50


def test_the_nets_have_everything(made):
    kinds, sizes, seen = set(), [], Counter()
    for seed in range(256):
        text = made.text_of(seed)
        assert text == made.text_of(seed)
        graph = ncc.parse(text).graph
        real = graph.activations >= 0
        kinds |= set(zip(graph.activations[real].tolist(), graph.aggregations[real].tolist(),
                         strict=True))
        sizes.append(graph.n_neurons)
        seen["ties"] += bool(graph.names)
        seen["constants"] += bool((graph.weights < 0).any())
        seen["dead"] += not np.isin(np.arange(graph.n_neurons), np.concatenate(
            [graph.sources, graph.outputs])).all()
        alive = np.flatnonzero(real).astype(np.int32)
        first = csr.representatives(graph.starts, graph.sources, alive, graph.activations,
                                    graph.aggregations)
        seen["shared"] += Counter(first.tolist()).most_common(1)[0][1] >= 16 if len(first) else 0
    assert {a for a, _ in kinds} >= set(range(32))
    assert {a for _, a in kinds} == set(range(len(AGGREGATIONS))) and len(kinds) > 150
    assert min(sizes) <= 3 and sum(100 <= n <= 500 for n in sizes) >= 3
    assert sum(n <= 16 for n in sizes) > 128
    assert min(seen.values()) >= 8 and len(seen) == 4, seen


def test_a_fault_is_found_and_made_small(made, monkeypatch):
    """An oracle that adds in another order differs where four samples or more are summed up."""
    if made.PLACES["v2"].absent:
        pytest.skip("needs an x86-64 machine")
    case = made.Case(made.text_of(6), 6)
    monkeypatch.setattr(sums, "by_lanes", sums.one_by_one)
    fault = made.examined([case], ["v2"], by_python=False).faults[0]
    assert fault.what.startswith("dparams of backward_batch")
    small = made.shrunk(case.text, lambda text: made.has(fault, text, case.dtype, case.numerics),
                        5.0)
    assert len(small) < len(case.text) / 2
    assert made.has(fault, small, case.dtype, case.numerics)
    monkeypatch.undo()
    assert not made.has(fault, small, case.dtype, case.numerics)


def test_the_command(made, capsys, monkeypatch, tmp_path):
    net = tmp_path / "net.nal"
    net.write_text("N 03\n00\n01\n02 tanh 00:1,01:2 +0.5\n")
    monkeypatch.setattr(sys, "argv", ["bench_bits.py", "--net", str(net), "--only-target", "v2"])
    made.main()
    rows = capsys.readouterr().out.splitlines()
    if not made.PLACES["v2"].absent:
        assert [row.split(" | ")[0] for row in rows[-3:]] == [
            "| v2", "| host, vjp", "| host, Trainer"]
        assert all(row.endswith("| 0 |") for row in rows[-3:])
    monkeypatch.setattr(sys, "argv", ["bench_bits.py", "--only-target", "pdp11"])
    with pytest.raises(SystemExit):
        made.main()
