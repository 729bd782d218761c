"""Nets that answer before they are compiled: same bits, and their own code later."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from nets import some_net, to_nal
from objects import same

import ncc
from ncc.cli import main, run
from ncc.driver import compiler
from ncc.errors import NccError
from ncc.images.kinds import kinds_of
from ncc.runtime import tiered
from ncc.runtime.kernel import kernel

FEW = (0, 1, 2, 3, 0x15)


def net_of(seed, neurons=60):
    """A net that is not compiled at once."""
    while True:
        net = ncc.parse(to_nal(some_net(seed, max_neurons=neurons, activations=FEW,
                                        aggregations=("sum", "max"))))
        if net.n_edges > 40:
            return net
        seed += 100


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Everything is worth an engine, and no net a compile of its own, unless a test says so."""
    monkeypatch.setattr(tiered, "SOON", 0.0)
    monkeypatch.setattr(tiered, "ENGINE", -9.0)
    monkeypatch.setattr(tiered, "SHARE", 1e9)


@pytest.fixture
def compiles(monkeypatch):
    """How often a module became machine code."""
    found = []
    make = compiler.Codegen.object
    monkeypatch.setattr(compiler.Codegen, "object",
                        lambda self, text: found.append(1) or make(self, text))
    return found


def rows(net, n, dtype="f32"):
    x = np.random.default_rng(n).normal(size=(n, len(net.inputs)))
    return x.astype(np.float32 if dtype == "f32" else np.float64)


@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.each_choice
def test_the_first_answers_have_the_bits_of_the_last(dtype, numerics):
    for seed in range(4):
        net = net_of(seed)
        early = ncc.compile(net, dtype=dtype, numerics=numerics)
        late = ncc.compile(net, dtype=dtype, numerics=numerics, tier="now")
        assert type(early) is tiered.Tiered and type(late) is ncc.Compiled
        assert isinstance(early, ncc.Compiled) and early.numerics == late.numerics
        for n in (0, 1, 65, 200):
            same(early(rows(net, n, dtype)), late(rows(net, n, dtype)))
        same(early(rows(net, 1, dtype)[0]), late(rows(net, 1, dtype)[0]))
        assert type(early) is tiered.Tiered


def test_nothing_is_compiled_for_a_net_that_is_called_a_few_times(compiles):
    net = net_of(5)
    kernel(kinds_of([net.graph]), "f32")
    compiles.clear()
    fn = ncc.compile(net, cache=False)
    for _ in range(5):
        fn(rows(net, 9))
    assert not compiles and type(fn) is tiered.Tiered


def test_who_evaluates_nothing_gets_no_engine(monkeypatch):
    asked = []
    make = tiered.kernel
    monkeypatch.setattr(tiered, "kernel", lambda *of: asked.append(of) or make(*of))
    net = net_of(5)
    x = rows(net, 3)
    fn = ncc.compile(net, cache=False)
    assert type(fn) is tiered.Tiered
    y, _ = fn.vjp(x)
    assert not asked and type(fn) is ncc.Compiled
    fn = ncc.compile(net, cache=False)
    fn.params = net.params  # before the first sample, too
    with pytest.raises(ValueError):
        fn(x[:, 1:])
    assert not asked
    same(fn(x), y)
    assert len(asked) == 1


def test_its_own_code_takes_over_in_the_background(monkeypatch, compiles):
    net = net_of(6)
    x = rows(net, 300)
    fn = ncc.compile(net, cache=False)
    y = fn(x)
    fn._left = 0.0
    deadline = time.monotonic() + 60
    while type(fn) is tiered.Tiered and time.monotonic() < deadline:
        same(fn(x), y)
    assert type(fn) is ncc.Compiled and compiles
    same(fn(x), y)
    same(fn(x[0]), y[0])


@pytest.mark.parametrize("ask", [
    lambda fn, x: fn.vjp(x)[0], lambda fn, x: repr(fn), lambda fn, x: fn._library,
    lambda fn, x: pickle.dumps(fn)])
def test_what_only_its_own_code_has_is_made_when_it_is_asked_for(ask):
    net = net_of(7)
    x = rows(net, 5)
    fn = ncc.compile(net)
    y = fn(x)
    ask(fn, x)
    assert type(fn) is ncc.Compiled
    same(fn(x), y)
    same(pickle.loads(pickle.dumps(fn))(x), y)


def test_parameters_are_set_before_and_after():
    net = net_of(8)
    x = rows(net, 5)
    fn = ncc.compile(net)
    late = ncc.compile(net, tier="now")
    for scale in (1.0, 0.5):
        params = net.params * scale
        fn.params = late.params = params
        same(fn(x), late(x))
        same(fn.params, params)
    with pytest.raises(ValueError, match="read-only"):
        fn.params[:] = 0
    for wrong in (params[1:], params + np.nan, params + 1e300):
        with pytest.raises(ValueError, match="params"):
            fn.params = wrong
    assert type(fn) is tiered.Tiered
    fn._now()
    same(fn(x), late(x))
    same(fn.params, params)


def test_without_values_it_says_so():
    net = ncc.parse("N 06\n00\n01\n" + "".join(
        f"0{k} tanh {','.join(f'0{i}' for i in range(k))}\n" for k in range(2, 6)))
    fn = ncc.compile(net)
    assert type(fn) is tiered.Tiered and fn.params is None
    with pytest.raises(ValueError, match="14 of them have no value"):
        fn([1.0, 2.0])
    fn.params = np.ones(14)
    same(fn([1.0, 2.0]), ncc.compile(net, np.ones(14), tier="now")([1.0, 2.0]))


def test_shapes_are_refused_as_later():
    net = net_of(9)
    fn, late = ncc.compile(net), ncc.compile(net, tier="now")
    for wrong in (np.zeros(99), np.zeros((2, 99)), np.zeros((1, 1, len(net.inputs)))):
        messages = []
        for some in (fn, late):
            with pytest.raises(ValueError) as caught:
                some(wrong)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    with pytest.raises(ValueError, match="complex"):
        fn(np.zeros(len(net.inputs), complex))
    assert fn([0] * len(net.inputs)).dtype == np.float32


@pytest.mark.parametrize("threads", [2, 0])
def test_threads_change_no_bit(threads):
    net = net_of(10)
    x = rows(net, 1000)
    same(ncc.compile(net, threads=threads)(x), ncc.compile(net, tier="now")(x))


def test_callers_and_a_setter_at_once(monkeypatch):
    """Each answer is that of the old parameters or of the new ones, whole."""
    net = net_of(11)
    x = rows(net, 70)
    fn = ncc.compile(net, cache=False)
    sets = [net.params, net.params * 0.5]
    wanted = [ncc.compile(net, p, tier="now")(x).tobytes() for p in sets]
    found, stop = set(), threading.Event()

    def call():
        while not stop.is_set():
            found.add(fn(x).tobytes())

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for k in range(60):
        fn.params = sets[k % 2]
        if k == 20:
            fn._left = 0.0
    fn._now()
    fn.params = sets[0]
    stop.set()
    for caller in callers:
        caller.join()
    assert found <= set(wanted) and type(fn) is ncc.Compiled


def test_a_compile_that_fails_in_the_background_is_an_error_for_who_asks(monkeypatch):
    net = net_of(12)
    x = rows(net, 5)
    fn = ncc.compile(net, cache=False)
    y = fn(x)

    def fails(*_):
        raise NccError("E400", "too much")

    monkeypatch.setattr(compiler.Codegen, "object", fails)
    fn._left = 0.0
    fn(x)
    fn._maker.join()
    same(fn(x), y)
    with pytest.raises(NccError, match="E400"):
        fn.vjp(x)
    same(fn(x), y)


def test_options_of_the_code_ask_for_it_now():
    net = net_of(13)
    for how in ({"form": "table"}, {"opt": 1}, {"tune": True}, {"skip_dead": True},
                {"numerics": "fast"}):
        assert type(ncc.compile(net, **how)) is not tiered.Tiered
    with pytest.raises(ValueError, match="tier is 'later'"):
        ncc.compile(net, tier="later")


def test_estimates_are_in_the_order_of_what_takes_longer(monkeypatch):
    """Of a net's own code, and of its engine: more edges; longer activations, and more of them;
    rows that are no sums. A few edges are no work, and a net is the engine's whatever its size."""
    monkeypatch.undo()

    def estimates(count, *activations, aggregation=""):
        text = f"N {count + 8:x}\n" + "".join([f"{i:x}\n" for i in range(8)])
        for k in range(count):
            name = activations[k % len(activations)]
            text += f"{k + 8:x} {name} {aggregation} {k:x}:1,{k + 1:x}\n"
        return tiered._estimates(ncc.parse(text).graph)[1:]

    relu, longer = estimates(40, "relu"), estimates(400, "relu")
    assert relu[0] < longer[0] and relu[1] == longer[1]
    steps = [("relu",), ("tanh",), ("sin",), ("sin", "tanh")]
    for faster, slower in pairwise([estimates(40, *names) for names in steps]):
        assert faster[0] < slower[0] and faster[1] < slower[1]
    most = estimates(40, "relu", aggregation="max")
    assert most[0] == relu[0] and most[1] > relu[1]
    assert estimates(4, "relu")[0] < tiered.SOON < relu[1]


def test_a_script_ends_while_its_net_is_being_compiled(tmp_path):
    net = net_of(14)
    (tmp_path / "net.graph").write_text(str(net.graph))
    script = ("import ncc\nfrom ncc.runtime import tiered\ntiered.SOON, tiered.ENGINE = 0, -9\n"
              f"tiered.SHARE = 0\nnet = ncc.load({str(tmp_path / 'net.graph')!r})\n"
              "fn = ncc.compile(net, cache=False)\nfn([0] * len(net.inputs))\n"
              "assert fn._maker is not None\nprint('ended')\n")
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                              timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_ncc_run_takes_an_engine_for_few_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = net_of(15)
    (tmp_path / "net.graph").write_text(str(net.graph))
    np.save("few.npy", rows(net, 3))
    kernel(kinds_of([net.graph]), "f32")
    own = []
    monkeypatch.setattr(run, "Compiled",
                        lambda *given, **more: own.append(1) or ncc.Compiled(*given, **more))
    found = []
    for most, options in ((1.0, []), (0.0, []), (1.0, ["-O1"])):
        monkeypatch.setattr(tiered, "AN_EDGES_SAMPLE", 1e-9 / max(most, 1e-12))
        assert main(["run", "net.graph", "--input", "few.npy", "-o", "y.npy", *options]) == 0
        found.append((len(own), np.load("y.npy").tobytes()))
    assert [count for count, _ in found] == [0, 1, 2]
    assert len({y for _, y in found}) == 1
