"""`ncc.Trainer`: epochs to the bit as `fit` has them; edges that go and come; what moves along."""

from __future__ import annotations

import numpy as np
import pytest
from nets import random_layers, some_net, to_nal
from objects import same

import ncc
from ncc.driver.settings import Settings
from ncc.errors import NccError
from ncc.formats.write import write_nal
from ncc.ir.graph import AGGREGATIONS
from ncc.machine.codegen import Codegen
from ncc.training.rewire import targets_of
from ncc.training.step import TrainStep

# Ties, constants, a product, and edges that skip a level.
NET = """N 09
00
01
02
03 tanh 00@k0:0.5,01:-0.25 +@b0:0.125
04 tanh 00:1.5,01@k0,02:0.3 +=0.5
05 tanh mul 00:0.7,02:0.9
06 sigmoid 03@k0,04:=-1,00:0.1 +@b0
07 sigmoid 03:0.75,04:-0.5,05:0.2 +0.25
08 identity 06:1,07:2,01:0.05
"""


def sparse(seed=1):
    return ncc.parse(random_layers((12, 30, 30, 4), 6, seed, activation="tanh"))


def samples(net, loss="ce", n=70, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(net.inputs)))
    if loss == "ce":
        return x, rng.integers(0, len(net.outputs), n)
    return x, rng.uniform(size=(n, len(net.outputs)))


def edges(net):
    """By (source, target): the code of the weight."""
    graph = net.graph
    pairs = zip(graph.sources.tolist(), targets_of(graph).tolist(), strict=True)
    return dict(zip(pairs, graph.weights.tolist(), strict=True))


def held(trainer):
    """By edge, and by neuron for biases, the parameter and the reals that the optimizer keeps, as
    far as they are trained."""
    graph, params = trainer.net.graph, trainer.params
    trained = int((~trainer.frozen).sum())
    number = np.cumsum(~trainer.frozen) - 1
    state = trainer.state
    slots = len(state) // trained
    state = state[len(state) - slots * trained :].reshape(slots, trained)
    codes = {**edges(trainer.net), **{j: c for j, c in enumerate(graph.biases.tolist()) if c >= 0}}
    return {place: (float(params[code]), *([] if trainer.frozen[code]
                                           else state[:, number[code]].tolist()))
            for place, code in codes.items() if code >= 0}


@pytest.fixture
def no_llvm(monkeypatch):
    """Counts calls of LLVM."""
    calls = []
    made = Codegen._made

    def counted(self, kind, text):
        calls.append(kind)
        return made(self, kind, text)

    monkeypatch.setattr(Codegen, "_made", counted)
    return calls


def test_epochs_are_those_of_fit_to_the_bit():
    net = sparse()
    x, y = samples(net)
    how = {"lr": 0.01, "batch": 16, "seed": 3}
    _, history = ncc.fit(net, x, y, loss="ce", optimizer="adam", epochs=4, **how)
    trainer = ncc.Trainer(net, "ce", "adam", **how)
    assert [trainer.epoch(x, y) for _ in range(4)] == [epoch.loss for epoch in history.epochs]
    same(trainer.params, history.state.params)
    same(trainer.state, history.state.optimizer)
    assert trainer.loss(x, y) < history.epochs[0].loss


@pytest.mark.parametrize("grow", ["random", "gradient"])
@pytest.mark.parametrize("optimizer", ["sgd:momentum=0.9", "adam"])
def test_edges_change_without_llvm_and_survivors_keep_all(no_llvm, grow, optimizer):
    net = sparse()
    x, y = samples(net)
    trainer = ncc.Trainer(net, "ce", optimizer, 16, lr=0.05, seed=1)
    trainer.epoch(x, y)
    del no_llvm[:]
    for _ in range(4):
        before, was = held(trainer), trainer.net
        done = trainer.rewire(0.3, grow=grow)
        after = held(trainer)
        assert len(done.dropped) == len(done.grown) == 2 * 54 + 7
        gone, come = map(set, (map(tuple, done.dropped.tolist()), map(tuple, done.grown.tolist())))
        assert len(gone) == len(come) == len(done.dropped)
        assert set(edges(trainer.net)) == (set(edges(was)) - gone) | come
        for place, value in after.items():
            if place in come:
                assert not any(value)
            else:
                assert value == before[place]
        trainer.net.graph.verify()
        trainer.epoch(x, y)
    assert not no_llvm


def test_a_quarter_of_each_layer_goes_the_smallest_weights_first():
    net = sparse()
    trainer = ncc.Trainer(net, "ce", "sgd", seed=2)
    was = trainer.net.graph
    targets = targets_of(was)
    done = trainer.rewire(0.25)
    gone = set(map(tuple, done.dropped.tolist()))
    levels = was.levels
    for level in (1, 2, 3):
        mine = np.flatnonzero(levels[targets] == level)
        sizes = np.abs(was.values[was.weights[mine]])
        is_gone = np.array([(int(was.sources[e]), int(targets[e])) in gone for e in mine])
        assert is_gone.sum() == len(mine) // 4
        # But for the last edges of neurons, nothing that stayed is smaller than what went.
        lone = [e for e in mine[~is_gone].tolist()
                if np.abs(was.values[was.weights[e]]) < sizes[is_gone].max()]
        for e in lone:
            own = slice(was.starts[targets[e]], was.starts[targets[e] + 1])
            assert np.abs(was.values[was.weights[own]]).max() == np.abs(
                was.values[was.weights[e]])
        grown = done.grown[levels[done.grown[:, 1]] == level]
        assert len(grown) == is_gone.sum()
        assert (levels[grown[:, 0]] == level - 1).all()
    whole = ncc.Trainer(net, "ce", "sgd", seed=2).rewire(0.25, layers=False)
    assert len(whole.dropped) == net.n_edges // 4


def test_the_same_seeds_give_the_same_nets():
    net = sparse()
    x, y = samples(net)

    def run(seed, change):
        trainer = ncc.Trainer(net, "ce", "adam", 16, seed=seed)
        for _ in range(3):
            trainer.epoch(x, y)
            trainer.rewire(seed=change)
        return write_nal(trainer.net.graph)

    assert run(1, None) == run(1, None) != run(2, None)
    assert run(1, 5) == run(1, 5) != run(1, 6)


@pytest.mark.parametrize("grow", ["random", "gradient"])
def test_what_is_trained_is_what_the_compiled_net_computes(grow):
    net = sparse()
    x, y = samples(net)
    trainer = ncc.Trainer(net, "ce", "adam", 16, lr=0.01, seed=1)
    trainer.epoch(x, y)
    trainer.rewire(0.4, grow=grow)
    single = TrainStep(trainer.net.graph, "ce", "adam", settings=Settings(opt=1))
    single.state = trainer.state
    target = y[:, None].astype(np.float32)
    assert single.loss(x, target) == trainer.loss(x, y)
    order = np.random.default_rng([1, 1])
    order.permutation(len(x))
    order = order.permutation(len(x))
    for first in range(0, len(x), 16):
        single.step(x[order[first : first + 16]], target[order[first : first + 16]], 0.01)
    trainer.epoch(x, y)
    same(single.params, trainer.params)
    same(single.state, trainer.state)
    fn = trainer.compiled()
    same(fn(x.astype(np.float32)), trainer.net.graph.run(x, dtype="f32", numerics=fn.numerics))


@pytest.mark.parametrize("seed", [
    pytest.param(seed, marks=[pytest.mark.slow] * (seed > 3)) for seed in range(12)])
@pytest.mark.parametrize("grow", ["random", "gradient"])
def test_irregular_nets_change_too_and_stay_nets(seed, grow):
    """Any aggregations, ties, constants: what may not change stays, and the text says the net."""
    net = ncc.parse(to_nal(some_net(seed, max_neurons=24)))
    if not net.n_params:
        return
    x, y = samples(net, "mse", 20)
    trainer = ncc.Trainer(net, "mse", "sgd:momentum=0.9", 8, lr=1e-3)
    trainer.epoch(np.clip(x, -1, 1), y)
    before, was = held(trainer), edges(trainer.net)
    if np.isnan(trainer.net.graph.values).any():  # something was divided by 0
        return
    try:
        done = trainer.rewire(0.5, grow=grow)
    except NccError as error:  # a net that is full, or whose gradients are infinite
        assert error.code in ("E639", "E633")
        return
    graph = trainer.net.graph
    graph.verify()
    assert len(done.grown) == len(done.dropped)
    come = set(map(tuple, done.grown.tolist()))
    for place, value in held(trainer).items():
        assert place in come or np.array_equal(value, before[place], equal_nan=True)
    for pair, code in was.items():
        if code < 0 or AGGREGATIONS[graph.aggregations[pair[1]]] not in ("sum", "sumbias"):
            assert pair in edges(trainer.net)
    again = ncc.parse(write_nal(graph))
    for name in ("starts", "sources", "biases", "levels", "outputs", "values"):
        one, two = getattr(again.graph, name), getattr(graph, name)
        assert np.array_equal(one, two, equal_nan=True), name
    assert (again.graph.weights[graph.weights >= 0] == graph.weights[graph.weights >= 0]).all()


def test_frozen_edges_and_ties_travel():
    net = ncc.parse(NET)
    x, y = samples(net, "mse", 30)
    trainer = ncc.Trainer(net, "mse", "adam", 8, lr=0.01, frozen="@b0,07")
    start = {place: value[0] for place, value in held(trainer).items()}
    for _ in range(4):
        trainer.epoch(x, y)
        trainer.rewire(0.5)
        found = edges(trainer.net)
        assert {(3, 7), (4, 7), (5, 7), (0, 5), (2, 5), (4, 6)} <= set(found)
        after = held(trainer)
        for place in ((3, 7), (4, 7), (5, 7), 7, 3, 6):
            assert after[place] == (start[place],)
        codes = [code for pair, code in found.items()
                 if pair in ((0, 3), (1, 4), (3, 6)) and trainer.net.graph.names.get(code) == "k0"]
        assert len(set(codes)) <= 1
    assert trainer.net.graph.names


def test_functions_choose_what_goes_and_what_comes():
    net = sparse()
    trainer = ncc.Trainer(net, "ce", "sgd")
    seen = {}

    def by(edges):
        seen["edges"] = edges
        return -np.abs(edges.weights)  # the largest go

    def grow(net, count, random):
        have = set(edges(net))
        free = [(s, t) for s in net.inputs for t in range(12, 42) if (s, t) not in have]
        seen["count"] = count
        return np.array(free[:count]).T

    done = trainer.rewire(0.1, by=by, grow=grow)
    assert len(seen["edges"].weights) == net.n_edges and seen["count"] == len(done.dropped)
    values = dict(zip(zip(seen["edges"].sources.tolist(), seen["edges"].targets.tolist(),
                          strict=True), seen["edges"].weights.tolist(), strict=True))
    largest = max(values, key=lambda pair: abs(values[pair]))
    assert list(largest) in done.dropped.tolist()
    assert set(edges(trainer.net)) >= set(map(tuple, done.grown.tolist()))


def test_an_edge_that_cannot_be_is_refused_with_its_path():
    net = ncc.parse("N 06\n00\n01\n02 tanh 00:1,01:2 +0\n03 tanh 02:1,01:0.1 +0\n"
                    "04 tanh 03:1,02:.2,00:.1 +0\n05 00 mul 04:1\nout 04,05")
    cases = [([4], [3], "the edge 04 -> 03 leads from level 3 to level 2", "03 -> 04"),
             ([2], [2], "the edge 02 -> 02 leads from level 1 to level 1", "02"),
             ([2], [3], "02 -> 03 is there already", ""), ([0], [1], "not to a higher one", ""),
             ([3], [5], "leads into no sum", ""), ([7], [3], "a neuron that the net has not", ""),
             ([0, 1], [3, 3], "2 sources and 2 targets|\\(2,\\) sources", "")]
    for sources, targets, message, note in cases:
        trainer = ncc.Trainer(net, "mse", "sgd")
        before = trainer.params
        with pytest.raises(NccError, match=message) as caught:
            trainer.rewire(0.15, grow=lambda *_, s=sources, t=targets: (np.array(s), np.array(t)),
                           layers=False)
        assert caught.value.code == "E639" and note in (caught.value.note or "")
        same(trainer.params, before)
        assert edges(trainer.net) == edges(net)


def test_neurons_that_no_output_sees_any_more_are_told():
    net = ncc.parse("N 06\n00\n01\n02 tanh 00:1,01:2 +0\n03 tanh 00:1,01:3 +0\n"
                    "04 tanh 00:1,01:3 +0\n05 identity 02:.1,03:5,04:6 +0")
    trainer = ncc.Trainer(net, "mse", "sgd")
    done = trainer.rewire(0.23, grow=lambda net, count, _: (
        np.array([0, 1])[:count], np.array([5, 5])[:count]), layers=False,
        by=lambda edges: np.where(edges.targets == 5, np.abs(edges.weights) - 100, 0))
    assert sorted(done.dropped.tolist()) == [[2, 5], [3, 5]] and done.dead == [2, 3]
    x, y = samples(net, "mse", 9)
    before = held(trainer)
    trainer.epoch(x, y)
    after = held(trainer)
    assert after[0, 2] == before[0, 2] and after[0, 4] != before[0, 4]


def test_options_that_cannot_be():
    net = sparse()
    trainer = ncc.Trainer(net, "ce", "sgd")
    for how, message in (({"drop": 1.0}, "drop is"), ({"by": "size"}, "by is"),
                         ({"grow": "all"}, "grow is"), ({"grow": "gradient"}, "last minibatch"),
                         ({"by": lambda edges: [1.0]}, "scores of shape")):
        with pytest.raises(NccError, match=message):
            trainer.rewire(**how)
    with pytest.raises(NccError, match="E633"):
        trainer.rewire(by=lambda edges: edges.weights * np.nan)
    with pytest.raises(NccError, match="batch"):
        ncc.Trainer(net, "ce", "sgd", 0)
    full = ncc.parse("N 04\n00\n01\n02 tanh 00:1,01:2 +0\n03 identity 02:3,00:1,01:1 +0")
    done = ncc.Trainer(full, "mse", "sgd").rewire(0.5)
    assert sorted(done.dropped.tolist()) == sorted(done.grown.tolist())
