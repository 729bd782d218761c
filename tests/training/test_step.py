"""The compiled step of training against torch's, and its two halves against the whole."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from gradients import FORMS, close, torch_loss, torch_optimizer, torch_run
from nets import some_net, to_nal
from reference import CODES

import ncc
from ncc.driver.compiler import Build
from ncc.driver.observe import Watcher
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import Settings, options
from ncc.ir.graph import AGGREGATIONS
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import host
from ncc.machine.native import Library
from ncc.scalar import losses, optimizers
from ncc.training.step import TrainStep

QUICK = Settings(opt=0)
LOSSES = ("mse", "mae", "huber:delta=0.5", "bce", "ce")
OPTIMIZERS = ("sgd:momentum=0.9:nesterov=1:weight_decay=0.01", "adam", "adamw:amsgrad=1",
              "rmsprop:momentum=0.5")
SMOOTH = tuple(CODES[name] for name in ("identity", "tanh", "sigmoid", "silu", "sin"))


def problem(seed, loss, n, dtype="f32"):
    """A net with two outputs or more, x, a target, and as torch's loss takes it."""
    for more in range(100):
        net = some_net(seed + 1000 * more, activations=SMOOTH, functions=False, max_neurons=8)
        graph = ncc.parse(to_nal(net)).graph
        if (len(graph.outputs) > 1 and graph.n_params > 4
                and AGGREGATIONS.index("div") not in graph.aggregations):  # may divide by 0
            break
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, len(graph.inputs)))
    if loss == "ce":
        target = rng.integers(0, len(graph.outputs), n)
    elif loss == "bce":
        target = rng.random((n, len(graph.outputs)))
    else:
        target = rng.standard_normal((n, len(graph.outputs)))
    return net, graph, x, target if loss == "ce" else target.astype(DTYPES[dtype])


def beside_torch(seed, loss, optimizer, n, dtype, rel, steps, again):
    """`again` starts each step from torch's parameters, so that only one step's rounding counts."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    of_loss, of_optimizer = losses.parse(loss), optimizers.parse(optimizer)
    net, graph, x, target = problem(seed, loss, n, dtype)
    real = DTYPES[dtype]
    trainer = TrainStep(graph, loss, optimizer, settings=Settings(
        dtype, opt=0, passes={"backward_form": FORMS[seed % 2]}))
    theirs = torch.tensor(graph.values.astype(real), requires_grad=True)
    judge = torch_optimizer(torch, of_optimizer, theirs, 0.01)
    rows, goal = torch.tensor(x.astype(real)), torch.tensor(target)
    for step in range(steps):
        if again:
            trainer.params = theirs.detach().numpy()
        judge.zero_grad()
        wanted = torch_loss(torch, of_loss, torch_run(torch, net, rows, theirs), goal)
        wanted.backward()
        judge.step()
        assert trainer.loss(x, target) == pytest.approx(wanted.item(), rel=rel, abs=rel), step
        mean, gradient = trainer.gradient(x, target)
        close((gradient,), (theirs.grad.numpy(),), rel, step)
        assert trainer.step(x, target, 0.01) == mean
        close((trainer.params,), (theirs.detach().numpy(),), rel, step)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.each_choice
def test_a_hundred_steps_are_torchs(loss, optimizer):
    seed = 50 + LOSSES.index(loss) + 5 * OPTIMIZERS.index(optimizer)
    beside_torch(seed, loss, optimizer, (1, 5, 16, 33)[seed % 4], "f32", 1e-5, 100, True)


@pytest.mark.parametrize("loss, optimizer",
                         list(zip(LOSSES, (*OPTIMIZERS, "adam"), strict=True)))
def test_thirty_steps_run_as_torchs_do(loss, optimizer):
    seed = 20 + LOSSES.index(loss)
    beside_torch(seed, loss, optimizer, 16 + seed % 3, "f64", 1e-10, 30, False)


# ---- the step as one function, and as two


def whole(graph, loss, optimizer, dtype, form):
    """The library with train_step and train_step_batch."""
    chosen = options(host(), dtype=dtype, gradient=True, loss=loss, optimizer=optimizer,
                     backward_form=form)
    return Library(Build(graph, host(), chosen, 0, along=AFTER_ORDER).made, dtype)


BOTH = [("mse", "table"), ("mae", "straight"), ("huber:delta=0.5", "table"), ("bce", "straight"),
        ("ce", "table"), ("ce", "straight")]


@pytest.mark.parametrize("loss, form, optimizer", [
    (*both, optimizer) for both, optimizer in zip(
        BOTH, (*OPTIMIZERS, "sgd:dampening=0.5:momentum=0.5", "sgd"), strict=True)])
def test_the_whole_step_is_its_halves(loss, optimizer, form):
    """From the same start: parameters, packed and state are those of the TrainStep, whose memory
    may hold anything; state[0] is the mean loss."""
    dtype = "f64" if form == "table" else "f32"
    real, rel = DTYPES[dtype], 1e-12 if dtype == "f64" else 1e-5
    n = 37
    _, graph, x, target = problem(3, loss, n, dtype)
    x, target = x.astype(real), target.astype(real)
    library = whole(graph, loss, optimizer, dtype, form)
    trainer = TrainStep(graph, loss, optimizer, settings=Settings(
        dtype, opt=0, passes={"backward_form": form}))
    fresh = trainer.state
    for name, rows in (("train_step", [slice(k, k + 1) for k in range(5)]),
                       ("train_step_batch", [slice(0, 37), slice(0, 1), slice(1, 9), slice(0, 0)])):
        trainer.params, trainer.state = graph.values, fresh
        params = graph.values.astype(real)
        packed = library.pack(params)
        state = np.zeros(library.functions[name].buffers["state"], real)
        work = library.work(name)
        for part in rows:
            work[:] = np.nan
            arrays = [a.ctypes.data for a in (x[part], target[part], params, packed, state)]
            count = [part.stop - part.start] if name == "train_step_batch" else []
            library.calls[name](*count, *arrays, 0.02, work.ctypes.data)
            mean = trainer.step(x[part], target[part], 0.02)
            assert state[0] == pytest.approx(mean, rel=rel)
            close((params, state[1:]), (trainer.params, trainer.state), rel, (name, part))
            assert packed.tobytes() == library.pack(params).tobytes()


def test_a_state_taken_over_goes_on():
    _, graph, x, target = problem(1, "mse", 9)
    one, two = (TrainStep(graph, "mse", "adam", settings=QUICK) for _ in range(2))
    for _ in range(5):
        one.step(x, target, 0.1)
    two.params, two.state = one.params, one.state
    assert one.step(x, target, 0.1) == two.step(x, target, 0.1)
    assert one.params.tobytes() == two.params.tobytes()
    assert one.state.tobytes() == two.state.tobytes()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_have_a_fixed_order(threads):
    _, graph, x, target = problem(2, "ce", 200)
    runs = []
    for _ in range(2):
        trainer = TrainStep(graph, "ce", "sgd", settings=QUICK, threads=threads)
        means = [trainer.step(x, target, 0.1) for _ in range(5)]
        runs.append((means, trainer.params.tobytes()))
    assert runs[0] == runs[1]
    alone = TrainStep(graph, "ce", "sgd", settings=QUICK)
    mean, gradient = alone.gradient(x, target)
    found = TrainStep(graph, "ce", "sgd", settings=QUICK, threads=threads).gradient(x, target)
    assert found[0] == pytest.approx(mean, rel=1e-5)
    close((found[1],), (gradient,), 1e-5)


def test_the_loss_changes_nothing_and_an_empty_batch_is_no_step():
    _, graph, x, target = problem(4, "huber:delta=0.5", 9)
    trainer = TrainStep(graph, "huber:delta=0.5", "sgd:momentum=0.9", settings=QUICK)
    before = trainer.params.tobytes()
    assert trainer.loss(x, target) == trainer.loss(x, target) == trainer.gradient(x, target)[0]
    assert trainer.params.tobytes() == before and not trainer.state.any()
    assert trainer.step(x[:0], target[:0], 0.1) == 0.0
    assert trainer.params.tobytes() == before


def test_what_does_not_fit_is_refused():
    _, graph, x, target = problem(4, "mse", 9)
    trainer = TrainStep(graph, "mse", "sgd", settings=QUICK)
    wide = np.zeros((9, target.shape[1] + 1))
    for bad in ((x[:, 1:], target), (x[0], target[0]), (x, target[:8]), (x, wide)):
        with pytest.raises(ValueError, match="shape"):
            trainer.step(*bad, 0.1)
    for params in (np.zeros(3), np.full(graph.n_params, np.nan)):
        with pytest.raises(ValueError):
            trainer.params = params
    with pytest.raises(ValueError, match="state"):
        trainer.state = np.zeros(99)


@pytest.mark.parametrize("loss, form", BOTH)
def test_passes_leave_the_step_as_it_is(loss, form):
    """Each is proved; and the interpreter's step is machine code's."""
    optimizer = "adam"
    _, graph, x, target = problem(5, loss, 11)
    x, target = x.astype("f"), target.astype("f").reshape(11, -1)
    for apart in (True, False):
        chosen = options(host(), gradient=True, loss=loss, optimizer=optimizer, apart=apart,
                         backward_form=form)
        build = Build(graph, host(), chosen, 0, Watcher(verify_each=True), AFTER_ORDER)
        build.module.verify()
    library = Library(build.made, "f32")
    params = graph.values.astype("f")
    packed = library.pack(params)
    state = np.zeros(library.functions["train_step_batch"].buffers["state"], "f")
    held = {"x": x.reshape(-1), "target": target.reshape(-1), "params": params.copy(),
            "packed": packed.copy(), "state": state.copy(), "lr": np.array([0.1], "f")}
    build.module.run("train_step_batch", held, 11)
    work = library.work("train_step_batch")
    library.calls["train_step_batch"](
        11, *[a.ctypes.data for a in (x, target, params, packed, state)], 0.1, work.ctypes.data)
    for name, made in (("params", params), ("packed", packed), ("state", state)):
        close((held[name],), (made,), 1e-5, name)


@pytest.mark.parametrize("dtype, how", [("f64", "tied"), ("f32", "frozen")])
@pytest.mark.slow
def test_dense_layers_step_in_tiles_as_scalars_do(dtype, how):
    """Blocks by two and alone, full and not, sources that are no whole squares, layers of several
    strides and of uneven ones: the step is the interpreter's and that of scalar code, `packed` what
    `pack` makes."""
    real, rel, n = DTYPES[dtype], 1e-11 if dtype == "f64" else 1e-5, 37
    rng = np.random.default_rng(3)
    widths = (19, 53, 40, 24, 6)
    lines = [f"N {sum(widths):x}", *[f"{i:x}" for i in range(widths[0])]]
    first = 0
    for layer, (before, width) in enumerate(pairwise(widths)):
        for row in range(width):
            edges = [f"{first + k:x}:{rng.standard_normal() / 5:.6f}" for k in range(before)]
            if how == "tied" and layer == 1:
                edges = [f"{first + k:x}@k{k}" + (":0.125" if row == 0 else "")
                         for k in range(before)]
            if how == "frozen" and layer == 1 and row % 16 == 0:
                edges[2] = f"{first + 2:x}:=0.5"
            bias = " +@b0" if how == "frozen" and row % 5 == 1 else " +" if how else ""
            lines.append(f"{first + before + row:x} tanh {','.join(edges)}{bias}")
        first += before
    graph = ncc.parse("\n".join(lines) + "\n").graph
    graph = graph.with_(values=np.nan_to_num(graph.values, nan=0.1))
    x = rng.uniform(-1, 1, (n, widths[0])).astype(real)
    target = rng.standard_normal((n, widths[-1])).astype(real)
    scalar = TrainStep(graph, "mse", "sgd", settings=Settings(
        dtype, opt=0, passes={"backward_form": "straight"}))
    mean = scalar.step(x, target, 0.1)
    chosen = options(host(), dtype=dtype, gradient=True, loss="mse", optimizer="sgd",
                     form="shared", backward_form="table")
    build = Build(graph, host(), chosen, 0, along=AFTER_ORDER)
    library = Library(build.made, dtype)
    params = graph.values.astype(real)
    packed = library.pack(params)
    state = np.zeros(library.functions["train_step_batch"].buffers["state"], real)
    held = {"x": x.reshape(-1), "target": target.reshape(-1), "params": params.copy(),
            "packed": packed.copy(), "state": state.copy(), "lr": np.array([0.1], real)}
    build.module.run("train_step_batch", held, n)
    work = library.work("train_step_batch")
    work[:] = np.nan
    library.calls["train_step_batch"](
        n, *[a.ctypes.data for a in (x, target, params, packed, state)], 0.1, work.ctypes.data)
    assert state[0] == pytest.approx(mean, rel=rel)
    close((params,), (scalar.params,), rel)
    for name, made in (("params", params), ("packed", packed), ("state", state)):
        close((held[name],), (made,), rel, name)
    assert packed.tobytes() == library.pack(params).tobytes()
