"""Training from outside: `ncc.fit` and `ncc train`; the loop itself around a scripted step."""

from __future__ import annotations

import os
import pickle
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import ncc
from ncc.driver.settings import Settings
from ncc.errors import NccError
from ncc.formats import samples as data
from ncc.formats import weights
from ncc.training import loop as training
from ncc.training.bar import Meter, bar, line
from ncc.training.loop import Epoch, History, Status
from ncc.training.step import TrainStep

XOR = """N 05
00
01
02 tanh 00,01 +
03 tanh 00,01 +
04 sigmoid 02,03 +
"""
X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
Y = np.array([0, 1, 1, 0])
# Two blobs and two logits; 40 samples.
LOGITS = "N 04\n00\n01\n02 identity 00,01 +\n03 identity 00,01 +\n"


def blobs(n=40, seed=1):
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return random.standard_normal((n, 2)) + 3 * labels[:, None], labels


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("xor.nal").write_text(XOR)
    Path("logits.nal").write_text(LOGITS)
    Path("x.csv").write_text("0,0\n0,1\n1,0\n1,1\n")
    Path("y.csv").write_text("0\n1\n1\n0\n")
    return tmp_path


TRAIN = ("train", "xor.nal", "--data", "x.csv", "--target", "y.csv")
FAST = ("--lr", "0.1", "--batch", "4", "--seed", "1")


# ---- learning


def test_xor_is_learnt():
    fn, history = ncc.fit(ncc.parse(XOR), X, Y, lr=0.1, batch=4, epochs=200, seed=1)
    assert (fn(X).round() == Y[:, None]).all() and np.abs(fn(X) - Y[:, None]).max() < 0.1
    assert history.stopped == "done" and len(history.epochs) == 200
    assert history.epochs[-1].loss < history.epochs[0].loss / 20
    again = pickle.loads(pickle.dumps(fn))
    assert (again(X) == fn(X)).all()
    with pytest.raises(TypeError):
        ncc.fit(ncc.parse(XOR), X, Y, epoch=3)


@pytest.mark.parametrize("loss, y", [("ce", None), ("bce", "hot"), ("huber:delta=0.5", "hot"),
                                     ("mae", "hot")])
@pytest.mark.parametrize("optimizer", ["sgd:momentum=0.9", "rmsprop"])
def test_every_loss_learns_two_blobs(loss, y, optimizer):
    x, labels = blobs()
    goals = labels if y is None else np.eye(2)[labels]
    fn, history = ncc.fit("logits.nal", x, goals, loss=loss, optimizer=optimizer, lr=0.02,
                          batch=8, epochs=60, validation=0.25)
    assert (fn(x).argmax(1) == labels).mean() > 0.9
    assert history.best and history.epochs[history.best - 1].validation < 0.6


def test_the_same_seed_is_the_same_result():
    """Minibatches large enough that two threads share them."""
    x, labels = blobs(500)

    def fit(seed=3, threads=1, **how):
        fn, history = ncc.fit("logits.nal", x, labels, loss="ce", epochs=4, seed=seed,
                              batch=200, threads=threads, validation=0.2, **how)
        return fn.params.tobytes(), history

    assert fit() == fit()
    assert fit(threads=2) == fit(threads=2)
    assert fit()[0] != fit(4)[0]
    assert fit(params=np.zeros(6))[0] != fit(4, params=np.zeros(6))[0]  # the shuffles alone


HIDDEN = "N 07\n00\n01\n02 tanh 00,01 +\n03 tanh 00,01 +\n04 relu 00,01 +\n" \
         "05 identity 02,03,04 +\n06 identity 02,03,04 +\n"


@pytest.mark.parametrize("optimizer", ["sgd:momentum=0.9:nesterov=1", "adam", "rmsprop"])
@pytest.mark.parametrize("spelt", ["mse", "mae", "huber:delta=0.5", "bce", "ce"])
@pytest.mark.each_choice
def test_it_trains_as_torch_does(spelt, optimizer):
    """The same net, from the same values, on the same minibatches, in f64: twenty epochs."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # its threads would wait for each other longer than they work
    graph = ncc.parse(HIDDEN).graph
    x, labels = blobs(30)
    y = labels if spelt == "ce" else np.eye(2)[labels]
    start = weights.init(graph, "xavier", 2)
    got, history = training.train(graph, x, y, loss=spelt, optimizer=optimizer, lr=0.01, batch=8,
                                  epochs=20, seed=6, params=start,
                                  settings=Settings("f64"))

    def layer(first, sources, neurons):
        """A torch layer of neurons whose slots follow one another from `first`."""
        made = torch.nn.Linear(sources, neurons, dtype=torch.float64)
        rows = start[first : first + neurons * (sources + 1)].reshape(neurons, sources + 1)
        with torch.no_grad():
            made.weight.copy_(torch.tensor(rows[:, :-1]))
            made.bias.copy_(torch.tensor(rows[:, -1]))
        return made

    hidden, out = layer(0, 2, 3), layer(9, 3, 2)
    both = [*hidden.parameters(), *out.parameters()]
    judge = {"sgd:momentum=0.9:nesterov=1":
             lambda: torch.optim.SGD(both, lr=0.01, momentum=0.9, nesterov=True),
             "adam": lambda: torch.optim.Adam(both, lr=0.01),
             "rmsprop": lambda: torch.optim.RMSprop(both, lr=0.01)}[optimizer]()
    f = torch.nn.functional
    measure = {"mse": f.mse_loss, "mae": f.l1_loss, "bce": f.binary_cross_entropy_with_logits,
               "huber:delta=0.5": lambda a, b: f.huber_loss(a, b, delta=0.5),
               "ce": f.cross_entropy}[spelt]
    inputs, goals = torch.tensor(x), torch.tensor(y)
    random = np.random.default_rng([6, 1])
    for epoch in history.epochs:
        total, order = 0.0, random.permutation(30)
        for first in range(0, 30, 8):
            part = order[first : first + 8]
            sums = hidden(inputs[part])
            values = out(torch.cat([sums[:, :2].tanh(), sums[:, 2:].relu()], 1))
            loss = measure(values, goals[part])
            judge.zero_grad()
            loss.backward()
            judge.step()
            total += loss.item() * len(part)
        assert epoch.loss == pytest.approx(total / 30, rel=1e-9)
    if history.best == 20:
        flat = torch.cat([torch.cat([m.weight, m.bias[:, None]], 1).flatten()
                          for m in (hidden, out)])
        np.testing.assert_allclose(got, flat.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_values_of_the_net_stay_where_it_has_them():
    """`he` fills what has no value; a slot with one begins there."""
    text = XOR.replace("04 sigmoid 02,03 +", "04 sigmoid 02:5,03 +0.5")
    graph = ncc.parse(text).graph
    wanted = weights.init(graph, "he", 7)
    got, _ = training.train(graph, X, Y, seed=7, epochs=1, lr=1e-30)
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-20)
    got, _ = training.train(graph, X, Y, init="shared:0.5", epochs=1, lr=1e-30)
    np.testing.assert_allclose(got, [0.5] * 6 + [5, 0.5, 0.5], rtol=1e-6)


# ---- the loop, around a step that does what a script says


class Scripted:
    """Stands where the TrainStep does: the loss of call k is script[k]; params count the steps."""

    def __init__(self, *_, **options):
        self.options = options
        self.params = np.zeros(1)
        self.state = np.zeros(0)
        self.seen = []
        Scripted.last = self

    train = ()
    held = ()

    def step(self, x, target, lr):
        assert x.flags.c_contiguous and x.dtype == np.float32 and len(x) == len(target)
        self.seen.append((x.copy(), target.copy(), lr))
        self.params = self.params + 1
        k = len(self.seen) - 1
        return float(self.train[k]) if k < len(self.train) else 1.0

    def loss(self, x, target):
        self.held_out = x, target
        self.calls = getattr(self, "calls", -1) + 1
        return float(self.held[self.calls])


@pytest.fixture
def scripted(monkeypatch):
    monkeypatch.setattr(training, "TrainStep", Scripted)
    monkeypatch.setattr(Scripted, "train", ())
    monkeypatch.setattr(Scripted, "held", ())
    return Scripted


def columns(n):
    return np.arange(n)[:, None] * np.array([[1.0, 10.0]]), np.arange(n, dtype=float)


def test_an_epoch_takes_each_sample_once_in_an_order_of_its_own(scripted):
    x, y = columns(10)
    training.train(ncc.parse(XOR).graph, x, y, batch=4, epochs=3, lr=0.5)
    seen = scripted.last.seen
    assert [len(s[0]) for s in seen] == [4, 4, 2] * 3
    assert {s[2] for s in seen} == {0.5}
    orders = [np.concatenate([s[1][:, 0] for s in seen[k : k + 3]]) for k in (0, 3, 6)]
    for order in orders:
        assert sorted(order) == list(range(10))
    assert (orders[0] != orders[1]).any() and (orders[1] != orders[2]).any()
    for inputs, goals, _ in seen:
        np.testing.assert_array_equal(inputs, goals * [1, 10])


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples(scripted):
    scripted.train = (1, 2, 8)
    _, history = training.train(ncc.parse(XOR).graph, *columns(10), batch=4, epochs=1)
    assert history.epochs == (Epoch(1, (4 + 8 + 16) / 10, pytest.approx(np.nan, nan_ok=True)),)


def test_the_share_to_validate_is_drawn_once(scripted):
    scripted.held = (3, 2, 1)
    training.train(ncc.parse(XOR).graph, *columns(20), batch=16, epochs=3, validation=0.2)
    held = scripted.last.held_out[1][:, 0]
    assert len(held) == 4 and (np.diff(held) > 0).all()
    trained = {float(v) for s in scripted.last.seen for v in s[1][:, 0]}
    assert trained == set(range(20)) - set(held)
    scripted.held = (3,)
    training.train(ncc.parse(XOR).graph, *columns(20), batch=16, epochs=1, validation=0.2, seed=9)
    assert (scripted.last.held_out[1][:, 0] != held).any()


def test_training_stops_after_patience_and_gives_the_best(scripted):
    scripted.held = (5, 4, 4, 3, 3.5, np.nan, 3, 9)
    pair = columns(3)
    params, history = training.train(ncc.parse(XOR).graph, *columns(8), batch=8, epochs=50,
                                     validation=pair, patience=3)
    assert history.stopped == "patience" and history.best == 4 and len(history.epochs) == 7
    np.testing.assert_array_equal(params, [4])  # steps by then
    np.testing.assert_array_equal(scripted.last.held_out[1][:, 0], pair[1])


def test_without_validation_the_lowest_loss_is_the_best(scripted):
    scripted.train = (5, 3, 4)
    params, history = training.train(ncc.parse(XOR).graph, *columns(8), batch=8, epochs=3)
    assert (history.best, params[0], history.stopped) == (2, 2, "done")


def test_a_loss_that_is_no_number_ends_training(scripted):
    scripted.train = (5, 3, np.nan)
    params, history = training.train(ncc.parse(XOR).graph, *columns(8), batch=8, epochs=9)
    assert (history.best, params[0], history.stopped) == (2, 2, "diverged")
    scripted.train = (np.inf,)
    with pytest.raises(NccError, match="epoch 1 left a loss of inf") as caught:
        training.train(ncc.parse(XOR).graph, *columns(8), batch=8, epochs=9)
    assert caught.value.code == "E636"


def test_parameters_that_are_no_numbers_are_not_kept(scripted, monkeypatch):
    scripted.train = (5, 3, 1)
    step = Scripted.step

    def overflow(self, *how):
        loss = step(self, *how)
        if loss == 1:
            self.params = np.array([np.inf])
        return loss

    monkeypatch.setattr(Scripted, "step", overflow)
    params, history = training.train(ncc.parse(XOR).graph, *columns(8), batch=8, epochs=9)
    assert (history.best, params[0], history.stopped) == (2, 2, "diverged")


def test_what_the_step_is_made_with(scripted):
    training.train(ncc.parse(XOR).graph, X, Y, threads=3, epochs=1, optimizer="rmsprop",
                   settings=Settings("f32", "strict", 1))
    given = scripted.last.options
    assert np.isfinite(given.pop("params")).all()
    assert given == {"threads": 3, "frozen": None, "settings": Settings("f32", "strict", 1)}
    assert scripted.last.seen[0][2] == 0.01  # the learning rate that goes with rmsprop


@pytest.mark.parametrize("when", [0.5, 1, 3])
def test_an_interrupt_ends_training_after_the_step(scripted, monkeypatch, when):
    """At a step of the first epoch, at its last, and in a later one: the best so far comes back."""
    scripted.train = (5,) * 20
    step = Scripted.step

    def interrupted(self, *how):
        loss = step(self, *how)
        if len(self.seen) == 2 * when:
            signal.raise_signal(signal.SIGINT)
        return loss

    monkeypatch.setattr(Scripted, "step", interrupted)
    params, history = training.train(ncc.parse(XOR).graph, *columns(8), batch=4, epochs=9)
    assert history.stopped == "interrupted"
    assert (len(history.epochs), history.best) == ((2, 1) if when == 3 else (0, 0))
    np.testing.assert_array_equal(params, [2 if when == 3 else 2 * when])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_handlers_and_threads_are_left_alone(scripted, monkeypatch):
    came = []
    old = signal.signal(signal.SIGINT, lambda *_: came.append(1))
    try:
        _, history = training.train(
            ncc.parse(XOR).graph, *columns(8), batch=8, epochs=2,
            progress=lambda p: signal.raise_signal(signal.SIGINT))
        assert (history.stopped, len(came)) == ("done", 2)
    finally:
        signal.signal(signal.SIGINT, old)
    made = []
    worker = threading.Thread(target=lambda: made.append(
        training.train(ncc.parse(XOR).graph, *columns(8), epochs=2)))
    worker.start()
    worker.join()
    assert made[0][1].stopped == "done"


def test_progress_tells_each_epoch(scripted):
    scripted.train, scripted.held = (4, 2, 1, 1), (9, 8)
    seen = []
    training.train(ncc.parse(XOR).graph, *columns(8), batch=4, epochs=2, progress=seen.append,
                   validation=columns(2))
    ends = [p for p in seen if p.seen == p.samples]
    assert [(p.epoch, p.epochs, p.samples, p.loss, p.validation) for p in ends] == [
        (1, 2, 8, 3, 9), (2, 2, 8, 1, 8)]
    assert all(p.rate > 0 for p in ends)


# ---- what is wrong

BAD = [
    (dict(x=X[:, :1]), "E631", r"x has shape \(4, 1\), the net wants \(samples, 2\)"),
    (dict(x=X[0]), "E631", r"x has shape \(2,\)"),
    (dict(y=np.zeros((4, 2))), "E631", r"\(4, 2\), the net wants \(samples, 1\) or \(samples,\)"),
    (dict(y=Y[:3]), "E631", "x has 4 samples, y has 3"),
    (dict(x=[["a", "b"]] * 4), "E631", "not real numbers"),
    (dict(x=X + 1j), "E631", "not real numbers"),
    (dict(x=[[0, 0], [0, 1], [1, np.nan], [1, 1]]), "E633", "row 2, column 1 of x is nan"),
    (dict(y=[0, 1, np.inf, 0]), "E633", "row 2, column 0 of y is inf"),
    (dict(x=X * 1e300), "E633", "row 1, column 1 of x is 1e[+]300: not a finite float32"),
    (dict(x=np.zeros((0, 2)), y=np.zeros(0)), "E635", "x has no samples"),
    (dict(lr=0.0), "E634", "learning rate is 0.0"),
    (dict(lr=-1.0), "E634", "learning rate"),
    (dict(lr=float("nan")), "E634", "learning rate"),
    (dict(lr=float("inf")), "E634", "learning rate"),
    (dict(batch=0), "E634", "batch is 0, not a whole number from 1 on"),
    (dict(batch=1.5), "E634", "batch is 1.5"),
    (dict(epochs=0), "E634", "epochs is 0"),
    (dict(seed=-1), "E634", "seed is -1"),
    (dict(threads=-1), "E634", "threads is -1"),
    (dict(patience=0, validation=0.5), "E634", "patience is 0"),
    (dict(patience=3), "E634", "nothing is held out"),
    (dict(validation=1.0), "E634", "validation is 1.0"),
    (dict(validation=-0.5), "E634", "validation is -0.5"),
    (dict(validation=float("nan")), "E634", "validation is nan"),
    (dict(validation=0.9), "E635", "leave none to train on"),
    (dict(validation=(X, Y[:2])), "E631", "validation x has 4 samples, validation y has 2"),
    (dict(loss="mes"), "E630", "no loss"),
    (dict(optimizer="adamm"), "E630", "no optimizer"),
    (dict(loss="ce"), "E630", "two classes"),
    (dict(loss="bce", y=[0, 1, 2, 0]), "E632", "row 2 of y has 2, which is not in 0..1"),
    (dict(init="hee"), "E144", "hee"),
    (dict(dtype="f16"), "E603", "f16"),
    (dict(numerics="slow"), "E603", "slow"),
]


@pytest.mark.parametrize("how, code, words", BAD, ids=[f"{b[1]}-{k}" for k, b in enumerate(BAD)])
def test_what_is_wrong_is_said(how, code, words):
    with pytest.raises(NccError, match=words) as caught:
        ncc.fit("xor.nal", **{"x": X, "y": Y, "epochs": 1, **how})
    assert caught.value.code == code


@pytest.mark.parametrize("labels, words", [
    ([0, 1, 2, 0], "row 2 of y has 2, which is not a class: 0..1"),
    ([0, -1, 1, 0], "row 1 of y has -1"),
    ([0, 1, 1, 0.5], "row 3 of y has 0.5"),
])
def test_labels_are_classes(labels, words):
    with pytest.raises(NccError, match=words) as caught:
        ncc.fit("logits.nal", X, labels, loss="ce")
    assert caught.value.code == "E632"
    with pytest.raises(NccError, match="number of its class"):
        ncc.fit("logits.nal", X, np.eye(2)[Y], loss="ce")


def test_classes_by_name():
    """Numbered in their order: the same as by these numbers, for ce and for bce of one output."""
    names = np.array(["no", "yes"])
    fn, history = ncc.fit("logits.nal", X, Y, loss="ce", epochs=3)
    for given in (names[Y], names[Y][:, None], names[Y].astype(object), names[Y].tolist()):
        named, how = ncc.fit("logits.nal", X, given, loss="ce", epochs=3)
        assert named.params.tobytes() == fn.params.tobytes()
        assert (how.classes, how.epochs) == (("no", "yes"), history.epochs)
        assert how.csv() == "# classes no,yes\n" + history.csv()
    assert history.classes == ()
    one = ncc.fit("xor.nal", X, Y, loss="bce", epochs=3)[0]
    assert ncc.fit("xor.nal", X, names[Y], loss="bce", epochs=3)[0].params.tolist() == \
        one.params.tolist()
    held = ncc.fit("xor.nal", X, names[Y], loss="bce", epochs=3, validation=(X[:2], names[Y][:2]))
    assert held[1].epochs[0].validation > 0


@pytest.mark.parametrize("how, code, words", [
    (dict(y=["a", "b", "c", "a"], loss="ce"), "E632", "names 3 classes, and the net is for 2"),
    (dict(y=["a", "b", "b", "a"]), "E631", "y holds texts, not real numbers"),
    (dict(y=[["a", "b"]] * 4, loss="ce"), "E631", r"\(4, 2\): one name a sample"),
    (dict(y=["a", "b"] * 2, loss="ce", validation=(X[:2], ["a", "c"])), "E632",
     "row 1 of validation y has 'c'"),
    (dict(y=["a", 1, "b", "a"], loss="ce"), "E63", "3 classes|not real"),
    (dict(y=["a", None, "b", "a"], loss="ce"), "E631", "object"),
])
def test_names_that_are_no_classes(how, code, words):
    with pytest.raises(NccError, match=words) as caught:
        ncc.fit("logits.nal", X, epochs=1, **how)
    assert caught.value.code.startswith(code)


def test_names_of_classes_in_files(ncc_):
    Path("kinds.csv").write_text("no\nyes\n yes \nno # not\n")
    words = ("train", "logits.nal", "--data", "x.csv", "--loss", "ce", "--epochs", 3, *FAST)
    status, _, err = ncc_(*words, "--target", "kinds.csv", "-o", "w.npz", "--curve", "c.csv")
    assert status == 0 and err.splitlines()[-1].endswith("; classes 0 no, 1 yes")
    assert Path("c.csv").read_text().startswith("# classes no,yes\nepoch,loss,validation\n1,")
    assert np.load("w.npz")["classes"].tolist() == ["no", "yes"]
    assert ncc_(*words, "--target", "y.csv", "-o", "v.npz")[0] == 0
    assert np.array_equal(weights.load("v.npz", 6), weights.load("w.npz", 6))
    # A first row too many is the column's name, said or not; a column of numbers has it above.
    np.save("names.npy", np.array(["no", "yes", "yes", "no"]))
    Path("headed.csv").write_text("kind\n" + Path("kinds.csv").read_text())
    Path("hx.csv").write_text("a,b\n" + Path("x.csv").read_text())
    words = [str(w).replace("x.csv", "hx.csv") for w in words]
    for flags, said in (([], True), (["--header"], False)):
        status, _, err = ncc_(*words, "--target", "headed.csv", "-o", "u.npz", *flags, "--quiet")
        assert status == 0 and ("note: headed.csv: " in err) == said
        assert np.array_equal(weights.load("u.npz", 6), weights.load("w.npz", 6))
    Path("numbers.csv").write_text("kind\n0\n1\n1\n0\n")
    status, _, err = ncc_(*words, "--target", "numbers.csv", "-o", "u.npz", "--quiet")
    assert status == 0 and "note: numbers.csv: line 1 names the columns" in err
    status, _, err = ncc_(*words, "--target", "names.npy", "-o", "u.npz", "--quiet")
    assert np.array_equal(weights.load("u.npz", 6), weights.load("w.npz", 6))
    # Where a target is no class, a name is no number.
    status, _, err = ncc_(*TRAIN[:-1], "kinds.csv", "-o", "w")
    assert status == 1 and "kinds.csv:2:1: error[E623]: 'yes' is no number" in err


@pytest.mark.parametrize("out", ["t.nal", "t.nel", "t.graph"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_a_net_with_its_values(ncc_, out, dtype):
    """What it computes is what the net does with the weights, to the bit."""
    assert ncc_(*TRAIN, *FAST, "--epochs", 5, "--dtype", dtype, "-o", out, "--quiet")[0] == 0
    assert ncc_(*TRAIN, *FAST, "--epochs", 5, "--dtype", dtype, "-o", "w.npy", "--quiet")[0] == 0
    given = ("--input", "x.csv", "--dtype", dtype)
    assert ncc_("run", out, *given) == ncc_("run", "xor.nal", "--weights", "w.npy", *given)
    assert np.array_equal(ncc.load(out).params.astype(np.load("w.npy").dtype), np.load("w.npy"))


def test_a_net_that_cannot_have_values(ncc_):
    for words, status, message in (
            (["-o", "t.nam"], 1, "values of weights"), (["-o", "xor.nal"], 2, "is an input")):
        found, _, err = ncc_(*TRAIN, *words)
        assert found == status and message in err
    Path("kinds.csv").write_text("no\nyes\nyes\nno\n")
    for out, sign in (("t.nal", "%"), ("t.graph", "//")):
        assert ncc_(*TRAIN[:-1], "kinds.csv", "--loss", "bce", "--epochs", 1, "-o", out)[0] == 0
        assert Path(out).read_text().startswith(f"{sign} classes no,yes\n")
        assert ncc_("check", out)[0] == 0


# ---- going on


HOW = [
    dict(), dict(optimizer="sgd:momentum=0.9:nesterov=1"), dict(optimizer="rmsprop", batch=7),
    dict(optimizer="adamw:amsgrad=1", validation=0.25), dict(dtype="f64", numerics="strict"),
    dict(validation=0.3, patience=40), dict(frozen="02"), dict(threads=2, batch=40),
]


@pytest.mark.parametrize("how", [
    pytest.param(how, id=",".join(how) or "plain", marks=[pytest.mark.slow] * (k < 4))
    for k, how in enumerate(HOW)])
def test_training_goes_on_to_the_bit(how, tmp_path, monkeypatch):
    """In one go, in two, in many, through a file or a pickle: one net, one history."""
    monkeypatch.setenv("NCC_CACHE_DIR", str(tmp_path / "cache"))  # one compile is enough
    monkeypatch.setenv("NCC_CACHE_SIZE", "64M")
    x, labels = blobs(50)
    how = dict(loss="ce", lr=0.05, batch=8, seed=5) | how

    def fit(epochs, **more):
        return ncc.fit("logits.nal", x, labels, **how, epochs=epochs, **more)

    fn, whole = fit(9)
    _, first = fit(4)
    first.state.save(tmp_path / "state")
    for state in (first.state, tmp_path / "state", str(tmp_path / "state"),
                  pickle.loads(pickle.dumps(first.state))):
        again, history = fit(9, state=state)
        assert again.params.tobytes() == fn.params.tobytes()
        assert (history.csv(), history.best) == (whole.csv(), whole.best)
        assert history.state.encode() == whole.state.encode()
    state = None
    for epochs in range(1, 10):
        again, history = fit(epochs, state=state)
        state = history.state
    assert again.params.tobytes() == fn.params.tobytes() and history == whole
    assert fit(9, state=state)[1] == whole  # nothing is left to do


def test_an_interrupted_training_goes_on_to_the_bit(monkeypatch):
    """In the middle of an epoch: that epoch is done anew."""
    x, labels = blobs(50)
    how = dict(loss="ce", lr=0.05, batch=8, seed=5, epochs=6)
    fn, whole = ncc.fit("logits.nal", x, labels, **how)
    step, seen = TrainStep.step, []

    def interrupted(self, *given):
        seen.append(1)
        if len(seen) == stop:
            signal.raise_signal(signal.SIGINT)
        return step(self, *given)

    for stop in (1, 3, 7, 17, 28):  # noqa: B007
        seen.clear()
        with monkeypatch.context() as patch:
            patch.setattr(TrainStep, "step", interrupted)
            _, half = ncc.fit("logits.nal", x, labels, **how)
        assert half.stopped == "interrupted" and len(half.epochs) == len(half.state.epochs)
        again, history = ncc.fit("logits.nal", x, labels, **how, state=half.state)
        assert again.params.tobytes() == fn.params.tobytes() and history == whole


def test_patience_counts_on(scripted):
    scripted.held = (5, 4, 4.5, 4.5)
    how = dict(batch=8, validation=columns(3), patience=3)
    _, half = training.train(ncc.parse(XOR).graph, *columns(8), epochs=4, **how)
    scripted.held = (4.5,)
    _, history = training.train(ncc.parse(XOR).graph, *columns(8), epochs=50, **how,
                                state=half.state)
    assert (history.stopped, history.best, len(history.epochs)) == ("patience", 2, 5)
    _, again = training.train(ncc.parse(XOR).graph, *columns(8), epochs=50, **how,
                              state=history.state)
    assert again == history


@pytest.fixture(scope="module")
def three_epochs():
    """How a training went, and its state."""
    how = dict(x=X, y=Y, batch=4, seed=1, epochs=3)
    return how, ncc.fit(ncc.parse(XOR), **how)[1].state


@pytest.mark.parametrize("change, words", [
    (dict(net=XOR.replace("tanh", "relu")), "another net"),
    (dict(net=XOR.replace("02,03 +", "02,03")), "another net"),
    (dict(loss="mae"), "the loss mse, not mae"), (dict(optimizer="sgd"), "the optimizer adam"),
    (dict(optimizer="adam:beta1=0.8"), "the optimizer adam"), (dict(batch=2), "the batch 4, not 2"),
    (dict(dtype="f64"), "the dtype f32, not f64"), (dict(numerics="strict"), "the numerics"),
    (dict(seed=2), "the seed 1, not 2"), (dict(validation=0.25), "the validation share 0.0"),
    (dict(validation=(X, Y)), "a pair"), (dict(frozen="02"), "other frozen parameters"),
    (dict(x=X[::-1]), "other samples"), (dict(y=1 - Y), "other samples"),
    (dict(epochs=2), "3 epochs behind it"), (dict(params=np.zeros(9)), "params are given"),
])
def test_a_state_of_something_else_is_refused_with_the_reason(three_epochs, change, words):
    how, state = three_epochs
    net = ncc.parse(change.get("net", XOR))
    change = {name: value for name, value in change.items() if name != "net"}
    with pytest.raises(NccError, match=words) as caught:
        ncc.fit(net, **(how | dict(epochs=4) | change), state=state)
    assert caught.value.code == ("E634" if "params" in change else "E638")


def test_a_state_goes_on_for_another_time_at_another_rate_and_if_asked_with_other_samples(
        three_epochs):
    how, state = three_epochs
    fn, _ = ncc.fit(ncc.parse(XOR.replace("00,01 +", "00:1,01 +")), **(how | dict(epochs=4)),
                    lr=0.5, state=state)
    assert np.isfinite(fn.params).all()
    ncc.fit(ncc.parse(XOR), X[::-1], Y, batch=4, seed=1, epochs=4, state=state,
            same_samples=False)


def test_files_that_hold_no_state(tmp_path):
    np.savez(tmp_path / "w.npz", params=np.zeros(9))
    np.save(tmp_path / "w.npy", np.zeros(9))
    (tmp_path / "empty").write_bytes(b"")
    _, history = ncc.fit("xor.nal", X, Y, epochs=1)
    whole = history.state.encode()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    for name in ("w.npz", "w.npy", "empty", "half", "none", "."):
        with pytest.raises(NccError) as caught:
            ncc.fit("xor.nal", X, Y, epochs=2, state=tmp_path / name)
        assert caught.value.code == "E638"


def test_a_diverged_training_has_no_state(scripted):
    scripted.train = (5, 3, np.nan)
    _, history = training.train(ncc.parse(XOR).graph, *columns(8), batch=8, epochs=9)
    assert history.stopped == "diverged" and history.state is None


def test_the_command_goes_on(ncc_):
    """Options that are not said again are those of the state; those that are must be its."""
    how = (*FAST, "--validation", "0.25", "--optimizer", "rmsprop", "--dtype", "float64")
    assert ncc_(*TRAIN, *how, "--epochs", 8, "-o", "whole.npy", "--curve", "whole.csv")[0] == 0
    assert ncc_(*TRAIN, *how, "--epochs", 3, "-o", "w.npy", "--save-state", "s")[0] == 0
    status, _, err = ncc_(*TRAIN, "--resume", "s", "--epochs", 8, "-o", "w.npy", "--curve", "c.csv",
                          "--save-state", "s")
    assert status == 0, err
    assert Path("w.npy").read_bytes() == Path("whole.npy").read_bytes()
    assert Path("c.csv").read_text() == Path("whole.csv").read_text()
    for words, status, message in (
            (["--batch", "32"], 1, "the batch 4, not 32"), (["--seed=0"], 1, "the seed 1, not 0"),
            (["--loss", "mae"], 1, "the loss mse"), (["--init", "he"], 2, "--resume restores"),
            (["--weights", "w.npy"], 2, "--resume restores"), (["--freeze", "02"], 1, "frozen"),
            (["--epochs", "5"], 1, "8 epochs behind it")):
        found, _, err = ncc_(*TRAIN, "--resume", "s", "--epochs", 9, *words, "-o", "x.npy")
        assert found == status and message in err, (words, err)
    assert ncc_(*TRAIN, "--resume", "w.npy", "-o", "x.npy")[0] == 1
    assert ncc_(*TRAIN, "--save-state", "w", "-o", "w")[0] == 2
    assert not Path("x.npy").exists()


def test_a_net_without_parameters():
    with pytest.raises(NccError, match="no parameters"):
        ncc.fit(ncc.parse("N 02\n00\n01 relu 00:=1\n"), X[:, :1], Y)


# ---- the command


@pytest.mark.parametrize("out", ["w.txt", "w.npy", "w.npz"])
def test_the_weights_run(ncc_, out):
    status, printed, err = ncc_(*TRAIN, *FAST, "--epochs", 200, "-o", out)
    assert (status, printed) == (0, "")
    assert err.splitlines()[-1].startswith(f"{out}: the weights of epoch 200, loss 0.0")
    params = weights.load(out, 9)
    fn, _ = ncc.fit("xor.nal", X, Y, lr=0.1, batch=4, seed=1, epochs=200)
    np.testing.assert_array_equal(params, fn.params)
    status, printed, _ = ncc_("run", "xor.nal", "--weights", out, "--input", "x.csv")
    assert printed == data.csv(fn(X)) and (fn(X)[:, 0].round() == Y).all()


def test_training_goes_on_from_weights(ncc_):
    ncc_(*TRAIN, *FAST, "--epochs", 5, "-o", "a.npy")
    ncc_(*TRAIN, *FAST, "--epochs", 1, "--lr", "1e-30", "--weights", "a.npy", "-o", "b.npy")
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))
    status, out, _ = ncc_(*TRAIN, *FAST, "--epochs", 5, "-o", "-")
    assert status == 0 and out == "".join(f"{v}\n" for v in np.load("a.npy"))


def test_the_curve_and_quiet(ncc_):
    status, out, err = ncc_(*TRAIN, *FAST, "--epochs", 3, "-o", "w", "--curve", "c.csv", "--quiet",
                            "--validation", "0.25")
    assert (status, out, err) == (0, "", "")
    lines = Path("c.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,validation" and len(lines) == 4
    _, history = ncc.fit("xor.nal", X, Y, lr=0.1, batch=4, seed=1, epochs=3, validation=0.25)
    assert [tuple(map(float, s.split(","))) for s in lines[1:]] == list(history.epochs)


def test_plain_lines_where_no_terminal_looks(ncc_):
    _, _, err = ncc_(*TRAIN, *FAST, "--epochs", 3, "-o", "w")
    shown = err.splitlines()
    assert len(shown) == 4
    for k, text in enumerate(shown[:3], 1):
        assert re.fullmatch(rf"epoch {k}/3, loss \S+, [\d,]+ samples/s", text), text


def test_a_picture(ncc_):
    pytest.importorskip("matplotlib")
    for ending, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        status, _, _ = ncc_(*TRAIN, *FAST, "--epochs", 2, "-o", "w", "--plot", f"c.{ending}")
        assert status == 0 and Path(f"c.{ending}").read_bytes().startswith(magic)
    first = Path("c.svg").read_bytes()
    ncc_(*TRAIN, *FAST, "--epochs", 2, "-o", "w", "--plot", "c.svg")
    assert Path("c.svg").read_bytes() == first
    from ncc.training import curve as plot

    assert plot.curve(History((), 0, "interrupted"), "png").startswith(b"\x89PNG")


def test_a_picture_wants_matplotlib(ncc_, monkeypatch):
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "ncc.training.curve", raising=False)
    status, _, err = ncc_(*TRAIN, "-o", "w", "--plot", "c.png")
    assert status == 5 and "E637" in err and "pip install 'ncc-compiler[plot]'" in err
    assert not Path("w").exists()


def test_samples_come_from_npy_and_npz(ncc_):
    np.save("x.npy", X)
    np.save("y.npy", Y)
    np.savez("both.npz", X=X, Y=Y)
    np.savez("only.npz", whatever=Y)
    np.savez("neither.npz", a=X, b=Y)
    made = []
    for x, y in (("x.csv", "y.csv"), ("x.npy", "y.npy"), ("both.npz", "both.npz"),
                 ("x.npy", "only.npz")):
        status, _, err = ncc_("train", "xor.nal", "--data", x, "--target", y, *FAST, "--epochs", 2,
                              "-o", "w.npy")
        assert status == 0, err
        made.append(np.load("w.npy").tobytes())
    assert len(set(made)) == 1
    status, _, err = ncc_("train", "xor.nal", "--data", "neither.npz", "--target", "y.npy",
                          "-o", "w")
    assert status == 1 and "neither.npz has no entry x" in err and "it has a, b" in err


@pytest.mark.parametrize("words, status, code", [
    (["--data", "nan.csv"], 1, "E633"), (["--data", "no.csv"], 1, "E101"),
    (["--data", "y.csv"], 1, "E624"), (["--target", "x.csv"], 1, "E624"),
    (["--target", "word.csv"], 1, "E623"), (["--data", "empty.csv"], 1, "E631"),
    (["--data", "empty.csv", "--target", "empty.csv"], 1, "E635"),
    (["--lr", "0"], 2, "E634"), (["--loss", "mes"], 2, "E630"), (["--batch", "0"], 2, "E634"),
    (["--loss", "bce", "--target", "labels.csv"], 1, "E632"),
    (["--loss", "huber:delta=0"], 2, "E630"), (["--patience", "2"], 2, "E634"),
    (["--validation", "1"], 2, "E634"), (["--seed", "-1"], 2, "E634"),
    (["--init", "he2"], 2, "E144"), (["--weights", "no.npy"], 1, "E140"),
    (["-o", "no/w"], 1, "E622"), (["-o", "."], 2, "E608"), (["-o", "x.csv"], 2, "E608"),
    (["--curve", "w"], 2, "E608"), (["--data", "-", "--target", "-"], 2, "E609"),
    (["--lr", "1e30", "--optimizer", "sgd", "--epochs", "3", "net"], 2, ""),
])
def test_what_is_wrong_on_the_command_line(ncc_, words, status, code):
    Path("nan.csv").write_text("0,0\n0,nan\n1,0\n1,1\n")
    Path("word.csv").write_text("0\n1\none\n0\n")
    Path("labels.csv").write_text("0\n1\n7\n0\n")
    Path("empty.csv").write_text("")
    before = sorted(os.listdir())
    got, out, err = ncc_(*TRAIN, "-o", "w", "--epochs", 1, *words)
    assert (got, out) == (status, "") and code in err
    assert sorted(os.listdir()) == before


def test_a_row_that_is_no_number_is_named_with_its_file(ncc_):
    Path("nan.csv").write_text("0,0\n0,nan\n1,0\n1,1\n")
    err = ncc_(*TRAIN, "-o", "w", "--data", "nan.csv")[2]
    assert "row 1, column 1 of nan.csv is nan" in err


def test_a_sigmoid_under_bce_is_warned_of(ncc_):
    err = ncc_(*TRAIN, "-o", "w", "--loss", "bce", "--epochs", 1)[2]
    assert "warning[W002]" in err


def test_training_that_diverges_says_so(ncc_):
    Path("line.nal").write_text("N 02\n00\n01 identity 00 +\n")
    Path("x1.csv").write_text("1000\n2000\n")
    Path("y1.csv").write_text("1\n2\n")
    words = ("train", "line.nal", "--data", "x1.csv", "--target", "y1.csv", "--optimizer", "sgd",
             "-o", "w")
    status, _, err = ncc_(*words, "--lr", "100")
    assert status == 0 and "; then the loss was no number" in err
    assert np.isfinite(weights.load("w", 2)).all()
    Path("w").unlink()
    status, _, err = ncc_(*words, "--lr", "1e38")
    assert status == 1 and "E636" in err and not Path("w").exists()


# ---- interrupts and terminals


def long(*words):
    """A training that takes minutes: a line each 20,000 epochs where no terminal looks."""
    return [sys.executable, "-m", "ncc", *TRAIN, *FAST, "--epochs", "2000000", *words]


def kept(curve):
    assert np.isfinite(weights.load("w.npy", 9)).all()
    lines = Path(curve).read_text().splitlines()
    assert lines[0] == "epoch,loss,validation" and len(lines) > 1
    assert sorted(os.listdir()) == [curve, "logits.nal", "w.npy", "x.csv", "xor.nal", "y.csv"]


def test_ctrl_c_keeps_the_best_weights():
    process = subprocess.Popen(long("-o", "w.npy", "--curve", "c.csv"), stderr=subprocess.PIPE,
                               text=True)
    try:
        assert process.stderr.readline().startswith("epoch 20000/2000000, loss ")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "ncc: interrupted"
    assert err.splitlines()[-2].startswith("w.npy: the weights of epoch ")
    kept("c.csv")


def test_a_bar_where_a_terminal_looks():
    ours, theirs = pty.openpty()
    process = subprocess.Popen(long("-o", "w.npy", "--curve", "c.csv"), stdout=theirs,
                               stderr=theirs, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    shown = b""
    try:
        while shown.count(b"\r") < 4:
            shown += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                more = os.read(ours, 4096)
            except OSError:  # Linux's word for the end
                break
            if not more:
                break
            shown += more
        assert process.wait(60) == 130
    finally:
        process.kill()
        os.close(ours)
    *drawn, end = shown.decode().split("\r\n")[0].split("\r")[1:]
    for text in drawn:
        assert re.fullmatch(r"\[[#.]{20}\] epoch \d+/2000000 loss \S+ [\d,]+ samples/s *",
                            text), text
        assert len(text) <= 80
    assert end.startswith("[") and "\r\nw.npy: the weights of epoch " in shown.decode()
    kept("c.csv")


def test_the_bar_fits_and_fills():
    p = Status(3, 10, 50, 100, 0.123456, 0.25, 1234.5)
    assert bar(p) == "[#####...............] epoch 3/10 loss 0.1235 validation 0.25 1,234 samples/s"
    assert line(p._replace(validation=np.nan)) == "epoch 3/10, loss 0.1235, 1,234 samples/s"
    assert bar(p._replace(epoch=10, seen=100)).startswith("[####################]")


def test_a_meter_without_a_stream_or_with_a_broken_one(tmp_path):
    meter = Meter(None)
    meter(Status(1, 1, 1, 1, 0.0, np.nan, 1.0))
    meter.close()
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as broken:
        meter = Meter(broken)
        meter(Status(1, 1, 1, 1, 0.0, np.nan, 1.0))
        meter(Status(1, 1, 1, 1, 0.0, np.nan, 1.0))
        meter.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)


# ---- the gradients underneath


def test_the_sweeps_of_a_sample_and_of_a_batch_may_both_be_tables():
    """Both in one module, of a net whose rows share sources: what one sweep's tables say of its
    blocks is not the other's."""
    net = ncc.load(Path(__file__).parents[2] / "examples/digits.nal")
    random = np.random.default_rng(0)
    x, dy = random.random((33, 64)), random.standard_normal((33, 10))
    fn = ncc.compile(net)
    for rows in (slice(0, 33), 0):
        _, pullback = fn.vjp(x[rows])
        wanted = net.graph.gradient(np.atleast_2d(x[rows]), np.atleast_2d(dy[rows]),
                                    dtype="f64")[1]
        np.testing.assert_allclose(pullback(dy[rows])[1], wanted, rtol=1e-4, atol=1e-4)


def test_a_step_may_be_accumulated_in_parts():
    """Of many small minibatches one large one is made: their gradients' sum, one update."""
    net = ncc.load(Path(__file__).parents[2] / "examples/digits.nal")
    rng = np.random.default_rng(0)
    x, y = rng.random((90, 64)), rng.random((90, 10))
    whole, parts, pieces = [TrainStep(net.graph, "mse", "adam", params=net.params)
                            for _ in range(3)]
    for _ in range(3):
        mean = whole.step(x, y, 0.01)
        assert parts.accumulate(x, y) == mean
        parts.update(90, 0.01)
        assert np.array_equal(parts.params, whole.params)
        means = [pieces.accumulate(x[k : k + 30], y[k : k + 30]) for k in (0, 30, 60)]
        pieces.update(90, 0.01)
        assert np.isclose(np.mean(means), mean, rtol=1e-6)
        assert np.allclose(pieces.params, whole.params, rtol=1e-4, atol=1e-5)
    held = whole.memory
    assert held["params"] == held["gradient"] == 4 * net.n_params
    assert held["state"] == 4 * (2 * net.n_params + 2) and held["work"] > 0
