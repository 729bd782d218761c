"""Optimizers against torch, step by step, from a state of zeros."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import torch_optimizer

from ncc.errors import NccError
from ncc.ir.ssa import Buffer, Func, Module
from ncc.ir.ssa_build import Builder
from ncc.scalar import optimizers
from ncc.scalar.numpy_eval import Numpy

SPELT = [
    "sgd", "sgd:momentum=0.9", "sgd:momentum=0.9:nesterov=1",
    "sgd:momentum=0.9:nesterov=1:weight_decay=1e-2", "sgd:weight_decay=0.1",
    "sgd:momentum=0.5:dampening=0.25", "adam", "adam:beta1=0.5:beta2=0.9:eps=1e-3",
    "adam:weight_decay=0.1:amsgrad=1", "adam:beta1=0", "adamw", "adamw:weight_decay=0.3:amsgrad=1",
    "rmsprop", "rmsprop:centered=1", "rmsprop:momentum=0.9:weight_decay=0.01",
    "rmsprop:alpha=0.5:centered=1:momentum=0.5",
]
N = 37


def step(e, optimizer, w, g, state, lr):
    """One step on the flat state, as a compiled one lays it out."""
    head = optimizer.scalars
    scalars, shared = optimizers.begin(e, optimizer, list(state[:head]), e.const(lr))
    w, slots = optimizers.element(e, optimizer, w, g, list(state[head:].reshape(-1, len(w))),
                                  shared)
    assert len(scalars) == head and len(slots) == optimizer.slots
    return w, np.concatenate([np.array(scalars, w.dtype), *slots]).astype(w.dtype)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("spelt", SPELT)
@pytest.mark.each_choice
def test_a_hundred_steps_are_torchs(spelt, dtype, fused):
    """The gradient is given anew each step: of one size at every parameter, or of any."""
    torch = pytest.importorskip("torch")
    optimizer = optimizers.parse(spelt)
    e = Numpy(dtype, fused)
    random = np.random.default_rng(7)
    w = random.standard_normal(N).astype(e.real)
    state = np.zeros(optimizers.state_size(optimizer, N), e.real)
    theirs = torch.tensor(w, requires_grad=True)
    lr = 0.013
    judge = torch_optimizer(torch, optimizer, theirs, lr)
    size = 10.0 ** random.uniform(-6, 1, N)
    for _ in range(100):
        g = (size * random.standard_normal(N)).astype(e.real)
        w, state = step(e, optimizer, w, g, state, lr)
        theirs.grad = torch.tensor(g)
        judge.step()
        np.testing.assert_allclose(w, theirs.detach().numpy(),
                                   rtol=1e-5 if dtype == "f32" else 1e-12,
                                   atol=1e-6 if dtype == "f32" else 1e-14)


@pytest.mark.parametrize("spelt", SPELT)
def test_as_ssa_ops_it_is_the_same_bits(spelt):
    """One step as a function of the ssa level, over parameters as samples."""
    optimizer = optimizers.parse(spelt)
    size = optimizers.state_size(optimizer, 1)
    b = Builder("f32", True)
    state = [b.load("state", k) for k in range(size)]
    head = optimizer.scalars
    scalars, shared = optimizers.begin(b, optimizer, state[:head], b.load("lr", 0))
    w, slots = optimizers.element(b, optimizer, b.load("w", 0), b.load("g", 0), state[head:],
                                  shared)
    for k, value in enumerate((w, *scalars, *slots)):
        b.store(value, "y", k)
    buffers = (Buffer("state", "in", size), Buffer("lr", "in", 1),
               Buffer("w", "in", 1), Buffer("g", "in", 1),
               Buffer("y", "out", 1 + size))
    module = Module("step", "f32", "fused", (Func("step", buffers, b.ops),),
                    tuple(b.tables.values()))
    module.verify()
    random = np.random.default_rng(3)
    given = {"state": random.random((size, N)), "lr": np.full((1, N), 0.01),
             "w": random.standard_normal((1, N)), "g": random.standard_normal((1, N)),
             "y": np.zeros((1 + size, N))}
    arrays = {name: array.astype(np.float32) for name, array in given.items()}
    if head:
        arrays["state"][0] = 4
    module.run("step", arrays)
    w, state = step(Numpy("f32", True), optimizer, arrays["w"][0], arrays["g"][0],
                    np.concatenate([arrays["state"][:head, 0], arrays["state"][head:].ravel()]),
                    0.01)
    np.testing.assert_array_equal(arrays["y"][0], w)
    np.testing.assert_array_equal(arrays["y"][1 + head:].ravel(), state[head:])


@pytest.mark.parametrize("spelt", SPELT)
def test_a_parameter_without_gradient_stays_a_number(spelt):
    optimizer = optimizers.parse(spelt)
    e = Numpy("f32", True)
    w = np.float32([0, 1, -1e20, 1e-30])
    state = np.zeros(optimizers.state_size(optimizer, 4), np.float32)
    for _ in range(3):
        w, state = step(e, optimizer, w, np.zeros(4, np.float32), state, 0.1)
        assert np.isfinite(w).all() and np.isfinite(state).all()


def test_the_power_of_beta_keeps_its_digits():
    """In f32, at 1, 1,000 and 100,000 steps: where 1 - beta^t is small, and where it is 1."""
    e = Numpy("f32", False)
    optimizer = optimizers.parse("adam")
    for t in (1, 10, 1000, 100_000, 2**24):
        (count,), (size, unroot) = optimizers.begin(e, optimizer, [np.float32(t - 1)],
                                                    np.float32(1))
        assert count == t
        assert size == pytest.approx(1 / (1 - 0.9**t), rel=1e-6)
        assert unroot == pytest.approx((1 - 0.999**t) ** -0.5, rel=1e-6)


def test_names():
    assert optimizers.parse("sgd:momentum=0.9:nesterov=1:weight_decay=1e-4").options == (
        ("momentum", 0.9), ("dampening", 0.0), ("nesterov", 1.0), ("weight_decay", 1e-4))
    assert optimizers.parse("adamw").option("weight_decay") == 0.01
    for spelt in SPELT:
        made = optimizers.parse(spelt)
        assert optimizers.parse(str(made)) == made
        assert made.name in optimizers.LEARNING_RATE
    for text, word in [("adm", "did you mean adam"), ("adam:bta1=1", "did you mean beta1"),
                       ("adam:beta1=1", "value < 1"), ("adam:beta1=-0.1", "0 <= value"),
                       ("sgd:nesterov=1", "wants a momentum"), ("sgd:nesterov=yes", "no number"),
                       ("sgd:nesterov=2", "0 or 1"), ("sgd:momentum=1_0", "no number"),
                       ("sgd:momentum=0.9:dampening=0.1:nesterov=1", "no dampening"),
                       ("sgd:momentum=.9:momentum=.8", "twice"), ("adam:eps=1e999", "finite")]:
        with pytest.raises(NccError) as caught:
            optimizers.parse(text)
        assert caught.value.code == "E630" and caught.value.status == 2
        assert word in str(caught.value)


def test_the_size_of_the_state():
    assert [optimizers.state_size(optimizers.parse(s), 10) for s in (
        "sgd", "sgd:momentum=0.9", "sgd:momentum=0.9:dampening=0.1", "adam", "adamw:amsgrad=1",
        "rmsprop", "rmsprop:centered=1:momentum=0.1")] == [0, 10, 11, 21, 31, 10, 30]
