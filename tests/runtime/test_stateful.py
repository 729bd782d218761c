"""Nets with states from Python: steps, streams, saved states, gradients through time, and what
other tools compute."""

from __future__ import annotations

import copy
import pickle
import threading

import neat
import numpy as np
import pytest
from genomes import assert_close, config, genomes
from objects import same

import ncc
from ncc.cli import main
from ncc.errors import NccError

CELL = "N 04\n00\n01\n02 tanh 00:0.5,01:-1,~02:0.75,~03:0.5 +0.1\n03 sigmoid 02:2,~00:1\n"


def cell(**options):
    return ncc.compile(ncc.parse(CELL), **options)


def inputs(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal((*shape, 2)).astype(np.float32)


# ---- the interface


def test_a_call_is_a_step():
    fn, x = cell(), inputs(10)
    assert fn.states == [0, 2, 3]
    assert repr(fn).startswith("Stateful(2 inputs -> 1 outputs, 4 neurons, 6 edges, 7 parameters,")
    want = ncc.parse(CELL).graph.run_steps(x)
    same(np.stack([fn(row) for row in x]), want)
    fn.reset()
    same(np.stack([fn(row.tolist()) for row in x]), want)
    fn.reset()
    same(fn.steps(x[:4]), want[:4])
    same(fn.steps(x[4:]), want[4:])
    assert fn.steps(x[:0]).shape == (0, 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_streams_side_by_side(threads):
    fn, xs = cell(threads=threads), inputs(3, 300)
    want = ncc.parse(CELL).graph.run_steps(xs)
    same(np.stack([fn(x) for x in xs]), want)
    assert fn.state.shape == (300, 3)
    fn.reset()
    same(fn.steps(xs), want)
    fn.reset()
    assert fn(xs[0, :0]).shape == (0, 1) and fn.state.shape == (0, 3)


def test_a_state_is_read_and_set():
    fn, x = cell(), inputs(6)
    assert not fn.state.any() and fn.state.shape == (3,)
    fn.steps(x[:3])
    saved = fn.state
    assert saved.dtype == np.float32
    same(saved[:1], x[2, :1])  # of neuron 00, its last input
    rest = fn.steps(x[3:])
    assert (fn.state != saved).any()
    fn.state = saved
    same(fn.steps(x[3:]), rest)
    fn.state = saved.tolist()
    same(fn.steps(x[3:]), rest)
    fn.state[:] = 0  # a copy
    assert fn.state.any()
    fn.state = np.stack([saved, np.zeros(3)])
    y = fn(np.stack([x[3], x[0]]))
    same(y, np.stack([rest[0], cell()(x[0])]))


def test_wrong_shapes_are_said():
    fn, x = cell(), inputs(4)
    fn(x[0])
    for call, message in ((lambda: fn(x), "the state is of one stream, x of 4 streams"),
                          (lambda: fn.steps(x[:, None]), "one stream, x of 1 streams"),
                          (lambda: fn(x[:, :1]), r"x has shape \(4, 1\), the net wants \(2,\)"),
                          (lambda: fn.steps(x[0]), r"xs has shape \(2,\)"),
                          (lambda: setattr(fn, "state", np.zeros(2)), r"state has shape \(2,\)"),
                          (lambda: setattr(fn, "state", np.zeros((1, 1, 3))), "state has shape")):
        with pytest.raises(ValueError, match=message):
            call()
    fn.reset()
    assert fn(x).shape == (4, 1)


def test_parameters_change_and_the_state_stays():
    fn, x = cell(), inputs(5)
    fn(x[0])
    before = fn.state
    fn.params = fn.params * 0.5
    same(fn.state, before)
    held = before.copy()
    same(fn(x[1]), ncc.parse(CELL).graph.run(x[1], fn.params, state=held))
    bare = ncc.compile(ncc.parse(CELL.replace(":0.5", "")))
    for call in (bare, bare.steps):
        with pytest.raises(ValueError, match="have no value: set fn.params"):
            call(x[:1])


def test_pickles_and_copies_hold_the_state():
    fn, x = cell(), inputs(6)
    fn.steps(x[:3])
    for other in (pickle.loads(pickle.dumps(fn)), copy.deepcopy(fn)):
        same(other.state, fn.state)
        same(other.steps(x[3:]), ncc.parse(CELL).graph.run_steps(x)[3:])
    same(fn.steps(x[3:]), ncc.parse(CELL).graph.run_steps(x)[3:])


def test_calls_of_threads_come_one_after_another():
    """A counter: no step is lost, whichever thread makes it."""
    fn = ncc.compile(ncc.parse("N 02\n00\n01 identity 00:=1,~01:=1\n"))
    ones = np.ones(1, np.float32)
    threads = [threading.Thread(target=lambda: [fn(ones) for _ in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fn.state == 8000


@pytest.mark.parametrize(("threads", "form"), [(1, "straight"), (1, "table"), (2, "auto")])
def test_streams_with_parameters_of_their_own(threads, form):
    net, n = ncc.parse(CELL), 37 if threads == 1 else 300
    fn = cell(threads=threads, form=form, batch_form=form)
    xs, params = inputs(4, n), np.random.default_rng(1).standard_normal((n, 7)).astype(np.float32)
    ys = np.stack([fn.each(x, params) for x in xs])
    for k in range(0, n, 7):
        state = np.zeros(3, np.float32)
        same(ys[:, k], net.graph.run_steps(xs[:, k], params[k].astype(float), state=state))
        same(fn.state[k], state)
    assert fn.each(xs[0, 0], params).shape == fn.each(xs[0], params[0]).shape == (n, 1)
    with pytest.raises(ValueError, match="each stream has its own"):
        fn.each(xs[0], params, shared=True)
    fn.reset()
    same(fn.each(xs[0, 0], params[0]), ys[0, 0])
    assert fn.state.shape == (3,)


def test_states_that_no_output_depends_on_are_no_states():
    net = ncc.parse("N 04\nout 01\n00\n01 tanh 00:1,~01:0.5\n02 tanh 00:1,~02:1,~03:1\n"
                    "03 relu 02:1\n")
    assert net.states == [1, 2, 3] and ncc.compile(net).states == [1]
    none = ncc.parse("N 03\nout 01\n00\n01 tanh 00:1\n02 relu ~02:1\n")
    fn, x = ncc.compile(none), np.ones((3, 1), np.float32)
    same(fn.each(x, np.ones((3, 2), np.float32)), none.graph.run(x))
    assert fn.states == [] and fn.state.shape == (0,)
    same(fn.steps(x), none.graph.run_steps(x))
    fn.reset()
    same(fn(x), none.graph.run(x))


@pytest.mark.parametrize("call", [
    lambda net: ncc.compile(net).vjp(np.zeros(2, np.float32)),
    lambda net: ncc.compile(net).each_vjp(np.zeros(2, np.float32), np.zeros((3, 7))),
    lambda net: ncc.compile(net, skip_dead=True),
    lambda net: ncc.Compiled(net.graph),
    lambda net: ncc.fit(net, np.zeros((4, 2)), np.zeros((4, 1))),
    lambda net: ncc.Trainer(net),
    lambda net: ncc.population([net, net]),
    lambda net: net.graph.gradient(np.zeros(2), np.zeros(1)),
    lambda net: net.to_scipy(lossy=True),
], ids=["vjp", "each_vjp", "skip_dead", "Compiled", "fit", "Trainer", "population",
        "gradient", "scipy"])
def test_what_states_do_not_have_says_so(call):
    with pytest.raises(NccError, match="E160.*net with state") as caught:
        call(ncc.parse(CELL))
    assert "--unroll T" in str(caught.value)


def test_saved_files_have_states(tmp_path):
    fn = cell()
    fn.save(tmp_path / "net.o")
    fn.save(tmp_path / "net.nal")
    assert "void net_reset(float *state);" in (tmp_path / "net.h").read_text()
    assert str(ncc.load(tmp_path / "net.nal").graph) == str(fn.graph)


# ---- the command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.nal").write_text(CELL)
    np.savetxt("x.csv", inputs(7), delimiter=",")
    return tmp_path


@pytest.mark.parametrize("kind", ["nal", "graph", "plan", "ssa"])
def test_run_makes_steps_of_rows(folder, kind):
    if kind != "nal":
        assert main(["build", "net.nal", "--emit", kind, "-o", f"net.{kind}",
                     "--cpu", "native"]) == 0
    assert main(["run", f"net.{kind}", "--input", "x.csv", "-o", "y.npy"]) == 0
    same(np.load("y.npy"), ncc.parse(CELL).graph.run_steps(inputs(7)))


@pytest.mark.parametrize("kind", ["bwd", "image", "plan --backward",
                                  "header --train mse,adam"])
def test_kinds_that_states_do_not_have(folder, capsys, kind):
    assert main(["build", "net.nal", "--emit", *kind.split(), "-o", "out"]) == 1
    assert "error[E160]" in capsys.readouterr().err


def test_texts_show_what_is_read_of_the_last_call(folder, capsys):
    for kind in ("fwd", "matrix", "dot"):
        assert main(["build", "net.nal", "--emit", kind]) == 0
    out = capsys.readouterr().out
    assert "n02 = f02( +n00*w0002 +n01*w0102 +n~02*w~0202 +n~03*w~0302 +b02)\n" in out
    assert "\nn~02 " in out
    assert '  n02 -> n02 [label="0.75", style=dashed, constraint=false];\n' in out


def test_unroll_is_for_every_command(folder, capsys):
    inputs(3, 2).reshape(3, 4).tofile("x.bin")
    np.save("x.npy", inputs(3, 2).reshape(3, 4))
    assert main(["run", "net.nal", "--unroll", "2", "--input", "x.npy", "-o", "y.npy"]) == 0
    want = ncc.parse(CELL).graph.run_steps(inputs(3, 2).swapaxes(0, 1))
    same(np.load("y.npy"), want.swapaxes(0, 1).reshape(3, 2))
    assert main(["check", "net.nal", "--unroll", "3"]) == 0
    assert "inputs 6\noutputs 3\n" in capsys.readouterr().out
    assert main(["build", "net.nal", "--unroll", "2", "--verify-each", "--check",
                 "--no-backward"]) == 0
    assert main(["convert", "net.nal", "steps.nal", "--unroll", "2"]) == 0
    made = ncc.load("steps.nal")
    assert str(made.graph) == str(ncc.unroll(ncc.parse(CELL), 2).graph)
    assert made.params.tolist() == ncc.parse(CELL).params.tolist()
    for words, status in ((["--unroll", "0"], 2), (["--unroll", "1" + 9 * "0"], 2)):
        assert main(["check", "net.nal", *words]) == status
    assert main(["check", "steps.nal", "--unroll", "2"]) == 2
    assert "there is nothing to unroll" in capsys.readouterr().err


def test_train_writes_the_net_with_states(folder, capsys):
    """The echo of the last input is learnt on windows, and the net is then as it was, but for its
    weights."""
    text = "N 03\n00\n01 identity 00\n02 identity 01,~01\n"
    (folder / "echo.nal").write_text(text)
    x = np.random.default_rng(0).standard_normal((200, 4))
    y = np.concatenate([np.zeros((200, 1)), x[:, :-1]], axis=1)
    np.save("x.npy", x)
    np.save("y.npy", y)
    assert main(["train", "echo.nal", "--data", "x.npy", "--target", "y.npy", "-o", "e.nal"]) == 1
    assert "E160" in capsys.readouterr().err
    assert main(["train", "echo.nal", "--unroll", "4", "--data", "x.npy", "--target", "y.npy",
                 "--init", "xavier", "--lr", "0.02", "-o", "trained.nal", "--quiet"]) == 0
    net = ncc.load("trained.nal")
    assert net.states == [1] and net.n_neurons == 3
    stream = np.random.default_rng(1).standard_normal((20, 1)).astype(np.float32)
    np.testing.assert_allclose(ncc.compile(net).steps(stream)[1:], stream[:-1], atol=0.01)


# ---- other tools


def test_an_elman_network_is_torchs():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    n_in, hidden, steps = 3, 4, 6
    rnn = torch.nn.RNN(n_in, hidden, dtype=torch.float64)
    w_in, w_hidden, b_in, b_hidden = [p.detach().numpy() for p in rnn.parameters()]
    lines = [f"N {n_in + hidden:02x}", *[f"{i:02x}" for i in range(n_in)]]
    for j in range(hidden):
        edges = [f"{i:02x}:{w!r}" for i, w in enumerate(w_in[j].tolist())]
        edges += [f"~{n_in + i:02x}:{w!r}" for i, w in enumerate(w_hidden[j].tolist())]
        lines.append(f"{n_in + j:02x} tanh {','.join(edges)} +{float(b_in[j] + b_hidden[j])!r}")
    net = ncc.parse("\n".join(lines) + "\n")
    x = torch.randn(steps, n_in, dtype=torch.float64, requires_grad=True)
    theirs = rnn(x)[0]
    fn = ncc.compile(net, dtype="f64")
    np.testing.assert_allclose(fn.steps(x.detach().numpy()), theirs.detach(), rtol=1e-12)

    # Backpropagation through time.
    dy = torch.randn_like(theirs)
    theirs.backward(dy)
    y, pullback = ncc.compile(ncc.unroll(net, steps), dtype="f64").vjp(
        x.detach().numpy().reshape(-1))
    np.testing.assert_allclose(y.reshape(steps, hidden), theirs.detach(), rtol=1e-12)
    dx, dparams = pullback(dy.numpy().reshape(-1))
    np.testing.assert_allclose(dx.reshape(steps, n_in), x.grad, rtol=1e-10, atol=1e-14)
    a, b, c, _ = [p.grad.numpy() for p in rnn.parameters()]
    np.testing.assert_allclose(dparams, np.concatenate([a, b, c[:, None]], axis=1).reshape(-1),
                               rtol=1e-10, atol=1e-14)


def test_a_recurrent_network_of_neat_pythons_runs_1000_steps():
    """Every edge from a node is delayed there. With functions that are exact, its values to the
    bit: bias + response*sum, each rounded."""
    exact = {"relu": "relu", "clamped": "clip", "abs": "abs", "identity": "identity",
             "hat": "20"}
    made = config(3, 2, tuple(exact), ("sum", "max"), feed_forward=False, hidden=3)
    steps, ran = 1000, 0
    x = np.random.default_rng(0).uniform(-1, 1, (steps, 3))
    for key, genome in genomes(made, 8, 7):
        for gene in genome.nodes.values():  # so that values stay in bounds
            gene.response = gene.response * 0.25
            if gene.activation in ("relu", "abs", "identity"):
                gene.activation = "clamped" if key % 3 else gene.activation
        theirs = neat.nn.RecurrentNetwork.create(genome, made)
        want = np.array([theirs.activate(row) for row in x.tolist()])
        if not np.isfinite(want).all() or np.abs(want).max() > 1e100:
            continue
        fn = ncc.compile(recurrent(theirs, exact), dtype="f64", numerics="strict")
        np.testing.assert_array_equal(fn.steps(x), want)
        ran += 1
    assert ran >= 5


def test_imported_recurrent_networks_run_1000_steps():
    """Of all functions, as ncc reads them from a live network: near what they are there."""
    made = config(3, 2, ("sigmoid", "tanh", "gauss", "clamped", "sin"), feed_forward=False,
                  hidden=3, response=0.3)
    x = np.random.default_rng(0).uniform(-1, 1, (1000, 3))
    for _, genome in genomes(made, 1, 3):
        theirs = neat.nn.RecurrentNetwork.create(genome, made)
        fn = ncc.compile(ncc.from_neat(theirs))
        assert (fn.dtype, fn.numerics) == ("f64", "strict")
        assert_close(fn.steps(x), theirs, x)


def recurrent(theirs, names):
    """The net of a RecurrentNetwork: a node is two neurons, the sum and what comes of it."""
    nodes = {key: k for k, (key, *_) in enumerate(theirs.node_evals)}
    first = len(theirs.input_nodes)
    number = {key: f"{k:02x}" for k, key in enumerate(theirs.input_nodes)}
    number |= {key: f"~{first + 2 * k + 1:02x}" for key, k in nodes.items()}
    count = first + 2 * len(nodes)
    idle = [key for key in dict.fromkeys([*theirs.output_nodes, *[
        i for *_, links in theirs.node_evals for i, _ in links]]) if key not in number]
    number |= {key: f"{count + k:02x}" for k, key in enumerate(idle)}  # which nothing reaches: 0
    lines = []
    for k, (_, act, agg, bias, response, links) in enumerate(theirs.node_evals):
        word = {"sum": "sum", "max": "max"}[agg.__name__.removesuffix("_aggregation")]
        edges = ",".join(f"{number[i]}:{float(w)!r}" for i, w in links)
        lines.append(f"{first + 2 * k:02x} identity {word} {edges}")
        name = names[act.__name__.removesuffix("_activation")]
        lines.append(f"{first + 2 * k + 1:02x} {name} {first + 2 * k:02x}:={float(response)!r} "
                     f"+{float(bias)!r}")
    out = ",".join(number[key].lstrip("~") for key in theirs.output_nodes)
    return ncc.parse("\n".join([
        f"N {count + len(idle):02x}", "fn 20 max(0,1-abs(x))", f"out {out}",
        *[f"{k:02x}" for k in range(first)], *lines,
        *[f"{count + k:02x} identity +=0" for k in range(len(idle))]]) + "\n")


def test_a_continuous_time_network_is_a_net_with_states():
    """y' = d y + (1-d) tanh(W y + V x + b), d = exp(-dt/tau): the node's value and its leak."""
    rng = np.random.default_rng(3)
    n, n_in, steps = 4, 2, 200
    w, v, b = rng.standard_normal((n, n)), rng.standard_normal((n, n_in)), rng.standard_normal(n)
    d = np.exp(-0.1 / rng.uniform(0.2, 2, n))
    lines = [f"N {n_in + 2 * n:02x}", *[f"{i:02x}" for i in range(n_in)]]
    for j in range(n):
        edges = [f"~{n_in + 2 * i + 1:02x}:{float(w[j, i])!r}" for i in range(n)]
        edges += [f"{i:02x}:{float(v[j, i])!r}" for i in range(n_in)]
        lines.append(f"{n_in + 2 * j:02x} tanh {','.join(edges)} +{float(b[j])!r}")
        lines.append(f"{n_in + 2 * j + 1:02x} identity ~{n_in + 2 * j + 1:02x}:={float(d[j])!r},"
                     f"{n_in + 2 * j:02x}:={float(1 - d[j])!r}")
    net = ncc.parse("\n".join(lines) + "\n")
    x, y, want = rng.standard_normal((steps, n_in)), np.zeros(n), []
    for row in x:
        y = d * y + (1 - d) * np.tanh(w @ y + v @ row + b)
        want.append(y)
    fn = ncc.compile(net, dtype="f64")
    np.testing.assert_allclose(fn.steps(x), want, rtol=1e-11, atol=1e-13)
