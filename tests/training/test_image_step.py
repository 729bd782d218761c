"""Steps over images: the bits of compiled steps; other nets without compiling."""

from __future__ import annotations

import numpy as np
import pytest
from nets import random_layers, some_net, to_nal
from objects import same

import ncc
from ncc.driver.compiler import Build
from ncc.driver.settings import Settings, options
from ncc.errors import NccError
from ncc.images.image_back import table
from ncc.images.kinds import kinds_of
from ncc.machine.llvm import host
from ncc.machine.native import Library
from ncc.passes.lower.data.training import training
from ncc.runtime.back import BackKernel, of_target
from ncc.training.image_step import ImageStep
from ncc.training.step import TrainStep

CASES = [("mse", "sgd"), ("huber:delta=0.5", "adam"), ("ce", "sgd:momentum=0.9"),
         ("bce", "rmsprop:centered=1:momentum=0.5"), ("mae", "adamw:amsgrad=1"),
         ("ce", "sgd:momentum=0.9:dampening=0.5")]


def samples(graph, loss, n, dtype, seed=0):
    """x, and targets that the loss can have."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(graph.inputs))).astype(dtype)
    many = len(graph.outputs)
    if loss == "ce":
        return x, rng.integers(0, many, (n, 1)).astype(dtype)
    return x, rng.uniform(0, 1, (n, many)).astype(dtype)


def net_of(seed, loss):
    """The first net from a seed on that the loss can be of."""
    while True:
        graph = ncc.parse(to_nal(some_net(seed, max_neurons=24))).graph
        if loss != "ce" or len(graph.outputs) > 1:
            return graph
        seed += 100


@pytest.mark.parametrize("dtype, numerics", [("f32", "fused"), ("f32", "strict"), ("f64", None)])
@pytest.mark.parametrize("case", [0, 1, *[
    pytest.param(case, marks=pytest.mark.slow) for case in range(2, len(CASES))]])
def test_steps_over_images_have_the_bits_of_compiled_ones(case, dtype, numerics):
    loss, optimizer = CASES[case]
    if numerics == "fused" and dtype not in host().fma:
        pytest.skip("no FMA")
    graph = net_of(case, loss)
    frozen = np.random.default_rng(case).random(graph.n_params) < 0.2
    one = TrainStep(graph, loss, optimizer, frozen=frozen,
                    settings=Settings(dtype, numerics, opt=1))
    two = ImageStep(graph, loss, optimizer, frozen=frozen, dtype=dtype, numerics=numerics)
    for k, n in enumerate((5, 150, 129)):
        x, target = samples(graph, loss, n, two._real, k)
        assert np.array_equal(one.loss(x, target), two.loss(x, target), equal_nan=True)
        for a, b in zip(one.gradient(x, target), two.gradient(x, target), strict=True):
            same(np.asarray(a), np.asarray(b))
        one.step(x, target, 0.01)
        two.step(x, target, 0.01)
        same(one.params, two.params)
        same(one.state, two.state)
    assert set(two.memory) == {"params", "gradient", "state", "images", "work"}


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("case", [2, *[
    pytest.param(case, marks=pytest.mark.slow) for case in range(len(CASES)) if case != 2]])
def test_a_step_in_one_function_has_the_same_bits(case, dtype):
    """As machine code, and by the interpreter."""
    loss, optimizer = CASES[case]
    graph = net_of(case, loss)
    kinds, chosen = kinds_of([graph]), options(host(), dtype=dtype, name="engine")
    module = training(kinds, loss, optimizer, apart=False, **of_target(chosen))
    module.verify()
    library = Library(Build(module, host(), chosen, 1).made, dtype)
    kernel = BackKernel(kinds, dtype, chosen, library)
    wanted = TrainStep(graph, loss, optimizer, settings=Settings(dtype, opt=1))
    real = kernel.real
    made = []
    for _ in range(2):
        images = kernel.images(graph, graph.values)
        params = table(graph, graph.values).astype(real)
        made.append((images, params, np.zeros(1 + len(wanted.state), real)))
    for k, n in enumerate((5, 150)):
        x, target = samples(graph, loss, n, real, k)
        mean = wanted.step(x, target, 0.01)
        for native, (images, params, state) in zip((True, False), made, strict=True):
            memory = [part[:] for part in images.memory(kernel.lanes if native else 1, real)]
            reals, dparams = images.image.view(real), np.full(graph.n_params, np.nan, real)
            arrays = (images.image.view(np.uint32), images.back, reals, x, target, params, state)
            if native:
                library.calls["train_step_batch"](
                    n, *[a.ctypes.data for a in arrays], 0.01, dparams.ctypes.data,
                    *[part.ctypes.data for part in memory])
            else:
                names = ("image", "back", "reals", "x", "target", "params", "state")
                held = {name: a.reshape(-1) for name, a in zip(names, arrays, strict=True)}
                held |= {"lr": np.array([0.01], real), "dparams": dparams, "gradient": memory[0],
                         "by_reader": memory[1], "work": memory[2]}
                module.run("train_step_batch", held, n=n)
            # Of the loss the sum has the same bits; the mean is one of reals here, of floats there.
            assert np.isclose(state[0], mean, rtol=1e-6, equal_nan=True)
            same(state[1:], wanted.state)
            same(params[: graph.n_params], wanted.params.astype(real))


def test_threads_change_no_bit():
    graph = ncc.parse(random_layers((20, 40, 40, 4), 7, 1)).graph
    x, target = samples(graph, "ce", 500, np.float32)
    steps = [ImageStep(graph, "ce", "adam", threads=threads) for threads in (1, 2)]
    for step in steps:
        for _ in range(3):
            step.step(x, target, 0.01)
    same(steps[0].params, steps[1].params)


def test_another_net_of_the_same_kinds_goes_on_where_the_first_stood():
    first, second = [ncc.parse(random_layers((9, 16, 16, 3), 5, seed)).graph for seed in (1, 2)]
    x, target = samples(first, "ce", 40, np.float32)
    step = ImageStep(first, "ce", "adam")
    step.step(x, target, 0.01)
    state = step.state
    n = second.n_params
    kept = np.where(np.arange(n) % 3 == 0, np.arange(n)[::-1], -1)
    step.change(second, second.values, None, kept)
    for old, new in zip(state[1:].reshape(2, -1), step.state[1:].reshape(2, -1), strict=True):
        same(new, np.where(kept >= 0, old[kept], np.float32(0)))
    assert step.state[0] == state[0] == 1
    fresh = TrainStep(second, "ce", "adam", settings=Settings(opt=1))
    fresh.state = step.state
    for one in (step, fresh):
        one.step(x, target, 0.01)
    same(step.params, fresh.params)
    other = ncc.parse(random_layers((9, 16, 16, 3), 5, 2, activation="tanh")).graph
    with pytest.raises(NccError, match="E147"):
        step.change(other, other.values, None, np.full(n, -1))
