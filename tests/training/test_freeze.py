"""Frozen parameters: constants of the compiled step, which cost no op and do not move."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from nets import random_layers

import ncc
from ncc.cli import main
from ncc.driver.compiler import Build
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import Settings, options
from ncc.machine.llvm import host
from ncc.scalar.numpy_eval import Numpy
from ncc.training.freeze import chosen, freeze
from ncc.training.step import TrainStep

# Two layers of two, ties across both, a constant weight and a constant bias.
NET = """N 07
00
01
02 tanh 00@k0:0.5,01:-0.25 +@b0:0.125
03 tanh 00:1.5,01@k0 +=0.5
04 sigmoid 02@k0,03:=-1 +@b0
05 sigmoid 02:0.75,03:-0.5 +0.25
06 identity 04:1,05:2
"""
SLOTS = ["k0", "01 02", "b0", "00 03", "02 05", "03 05", "+05", "04 06", "05 06"]


@pytest.fixture
def net():
    return ncc.parse(NET)


def samples(net, count=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, len(net.inputs))), rng.random((count, len(net.outputs)))


@pytest.mark.parametrize(("text", "slots"), [
    ("@k0", "k0"), ("02", "k0,01 02,b0"), ("3", "00 03,k0"), ("04", "k0,b0"),
    ("05-06", "02 05,03 05,+05,04 06,05 06"), ("@b0, 6", "b0,04 06,05 06"), ("0-2", "k0,01 02,b0")])
def test_what_is_chosen(net, text, slots):
    mask = chosen(net.graph, text)
    assert [SLOTS[k] for k in np.flatnonzero(mask)] == sorted(slots.split(","), key=SLOTS.index)
    assert np.array_equal(chosen(net.graph, mask), mask)


@pytest.mark.parametrize(("which", "says"), [
    ("@k1", "is no tie of the net"), ("k0", "is no neuron, no range of neurons and no tie"),
    ("", "is no neuron"), ("02,,03", "is no neuron"), ("07", "not among the neurons 0 to 6"),
    ("3-2", "not among the neurons 0 to 6"), ("00-01", "has no parameters"),
    (np.ones(3, bool), r"bool \(3,\), not a mask of 9 booleans"),
    ([0, 1], r"int64 \(2,\), not a mask")])
def test_what_cannot_be(net, which, says):
    with pytest.raises(ncc.NccError, match=says) as caught:
        chosen(net.graph, which)
    assert (caught.value.code, caught.value.status) == ("E634", 2)


def test_the_frozen_graph_computes_the_same(net):
    mask = chosen(net.graph, "02,05")
    still = freeze(net.graph, mask, net.params)
    still.verify()
    assert still.n_params == 3 and still.names == {}
    assert freeze(net.graph, chosen(net.graph, "05"), net.params).names == {0: "k0", 2: "b0"}
    x, _ = samples(net)
    assert still.run(x).tobytes() == net.graph.run(x).tobytes()
    dy = np.ones((len(x), 1))
    whole = net.graph.gradient(x, dy, dtype="f64")[1]
    assert np.array_equal(still.gradient(x, dy, dtype="f64")[1], whole[~mask])


def gradient_ops(graph, **how):
    common = options(host(), gradient=True, vjp=False, loss="mse", optimizer="adam", apart=True,
                     **how)
    module = Build(graph, host(), common, along=AFTER_ORDER).module
    (func,) = [f for f in module.funcs if f.name == "gradient_batch"]
    return [op[0] for op in func.ops]


def test_no_op_is_left_of_a_frozen_parameters_gradient():
    net = ncc.parse(random_layers([6, 8, 8, 3], 4, 1, activation="tanh"))
    values = net.params

    def ops(text):
        mask = chosen(net.graph, text) if text else np.zeros(net.n_params, bool)
        found = gradient_ops(freeze(net.graph, mask, values), backward_form="straight")
        # One sum for each parameter, and that of the losses.
        assert found.count("accumulate") == (~mask).sum() + 1
        return len(found)

    whole, first, second = ops(""), ops("06-0d"), ops("0e-15")
    in_layer = chosen(net.graph, "06-0d").sum()
    assert in_layer == chosen(net.graph, "0e-15").sum()
    # Without the second layer's gradient the adjoints still go through it, to the first; without
    # the first's there is nobody before it to carry any to.
    assert second <= whole - in_layer
    assert first < second - in_layer


@pytest.mark.parametrize("form", ["table", "shared"])
def test_loops_go_back_no_further_than_to_the_first_parameter(monkeypatch, form):
    count = 0

    class Counting(Numpy):
        def op(self, name, *arrays):
            nonlocal count
            count += 1
            return super().op(name, *arrays)

    monkeypatch.setattr(ncc.ir.ssa, "Numpy", Counting)
    net = ncc.parse(random_layers([6] * 5, 6, 1, activation="tanh"))
    x, y = samples(net, 1)

    def ops(text):
        nonlocal count
        mask = chosen(net.graph, text) if text else np.zeros(net.n_params, bool)
        graph = freeze(net.graph, mask, net.params)
        common = options(host(), gradient=True, vjp=False, loss="mse", optimizer="adam",
                         apart=True, form=form, batch_form=form, backward_form=form, dtype="f64")
        module = Build(graph, host(), common, along=AFTER_ORDER).module
        func = module.func("gradient_batch")
        buffers = {b.name: np.zeros(b.size) for b in func.buffers if b.kind in ("in", "inout")}
        module.run("pack", {"params": graph.values, "packed": buffers["packed"]})
        buffers |= {"x": x.ravel(), "target": y.ravel()}
        count = 0
        module.run("gradient_batch", buffers, 1)
        found = np.zeros(net.n_params)
        found[~mask] = buffers["dparams"]
        return count, found

    (whole, gradient), (last, part), (middle, _) = ops(""), ops("06-17"), ops("12-17")
    frozen = chosen(net.graph, "06-17")
    assert not part[frozen].any() and np.array_equal(part[~frozen], gradient[~frozen])
    # What is added to `dparams`, an op a parameter, but for the weights of tiles, which are added
    # at once; and, of the three layers, an FMA an edge at least for adjoints that nobody wants.
    added = 6 if form == "shared" else 42
    assert last < whole - 3 * added - 3 * 36
    # Before the one in the middle somebody still wants what goes through it, but nobody the
    # products for its own gradient, an op an edge at least.
    assert last < middle <= whole - added - 36


@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("optimizer", ["sgd:momentum=0.9:weight_decay=0.1", "adam",
                                       "adamw:weight_decay=0.1", "rmsprop:centered=1"])
@pytest.mark.each_choice
def test_frozen_parameters_stay_and_the_others_train_the_same(net, form, optimizer):
    mask = chosen(net.graph, "02,05")
    x, y = samples(net)
    settings = Settings(passes={"backward_form": form}, cache=False)
    how = {"params": net.params, "settings": settings}
    still = TrainStep(net.graph, "mse", optimizer, frozen=mask, **how)
    free = TrainStep(net.graph, "mse", optimizer, **how)
    for step in range(20):
        part = slice(step % 2 * 20, step % 2 * 20 + 17)
        a, b = still.step(x[part], y[part], 0.05), free.step(x[part], y[part], 0.05)
        assert a == b
        moved = free.params
        assert (moved[mask] != net.params[mask]).any()
        moved[mask] = net.params[mask]
        free.params = moved
        assert np.array_equal(still.params, moved)
    assert (still.params[~mask] != net.params[~mask]).all()
    whole, part = free.gradient(x, y)[1], still.gradient(x, y)[1]
    assert not part[mask].any() and np.array_equal(part[~mask], whole[~mask])
    assert len(still.state) < len(free.state) or not optimizer.startswith("adam")


def test_a_frozen_parameter_cannot_be_set(net):
    mask = chosen(net.graph, "@k0")
    made = TrainStep(net.graph, "mse", "sgd", params=net.params, frozen=mask,
                   settings=Settings(cache=False))
    made.params = np.where(mask, net.params, 0.0)
    assert made.params.tolist() == np.where(mask, net.params, 0.0).tolist()
    with pytest.raises(ValueError, match="a frozen parameter has another value"):
        made.params = np.zeros(net.n_params)


def test_fit_and_the_command_freeze(net, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = samples(net)
    how = {"epochs": 3, "lr": 0.1, "batch": 16, "optimizer": "adamw"}
    fn, history = ncc.fit(net, x, y, frozen="@k0,05", **how)
    mask = chosen(net.graph, "@k0,05")
    assert np.array_equal(fn.params[mask], net.params[mask])
    assert (fn.params[~mask] != net.params[~mask]).all() and history.best == 3
    Path("net.nal").write_text(NET)
    np.savez("xy.npz", x=x, y=y)
    words = ["train", "net.nal", "--data", "xy.npz", "--target", "xy.npz", "-o", "w.npy",
             "--quiet", "--freeze"]
    options = [w for key, value in how.items() for w in (f"--{key}", str(value))]
    assert main([*words, "@k0,05", *options]) == 0
    assert np.array_equal(np.load("w.npy"), fn.params)
    assert main([*words, "@k9"]) == 2
    assert "'@k9' is no tie of the net" in capsys.readouterr().err
    assert main([*words, "2-6"]) == 1
    assert "no parameters to train" in capsys.readouterr().err


def test_what_is_frozen_without_a_value_is_drawn_as_all_are():
    net = ncc.parse("N 03\n00\n01 relu 00 +\n02 identity 01 +\n")
    x = np.ones((8, 1))
    fn, _ = ncc.fit(net, x, x[:, 0], frozen="01", epochs=2, seed=3)
    drawn, _ = ncc.fit(net, x, x[:, 0], frozen="02", epochs=2, seed=3)
    before = ncc.formats.weights.init(net.graph, "he", 3)
    assert fn.params[:2].tolist() == before[:2].tolist()
    assert drawn.params[2:].tolist() == before[2:].tolist()
    assert (fn.params[2:] != before[2:].astype(np.float32)).any()
