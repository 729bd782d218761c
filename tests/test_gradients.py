"""Gradients: the graph's against torch and against differences, all others against the graph's."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import FORMS, Backward, close, differences, interpreted, smooth, torch_gradient
from nets import some_net, to_nal
from objects import same
from reference import evaluate

import ncc
from ncc.ssa import Module
from ncc.watch import Watcher

SIZES = (1, 7, 8, 33, 64, 67)


def drawn(seed, n=None, **switches):
    """A random net off its kinks, its graph, and x, dy, params for it."""
    rng = np.random.default_rng(seed)
    net = some_net(seed, **switches)
    graph = ncc.parse(to_nal(net)).graph
    n = SIZES[seed % len(SIZES)] if n is None else n
    x = rng.uniform(-2, 2, (n, len(graph.inputs)))
    dy = rng.standard_normal((n, len(graph.outputs)))
    return net, graph, x, dy, graph.values * (1 + rng.uniform(-0.01, 0.01, graph.n_params))


def is_smooth(graph, x, dy, params):
    return smooth(lambda a, p: graph.gradient(a, dy, p, "f64"), x, params,
                  np.random.default_rng(0))


# ---- the graph's own


def test_graphs_have_torchs_gradient():
    torch = pytest.importorskip("torch")
    met = 0
    for seed in range(60):
        net, graph, x, dy, params = drawn(seed, seed % 8 + 1)
        if is_smooth(graph, x, dy, params):
            met += 1
            wanted = torch_gradient(torch, net, x, params, dy)
            for numerics in ("strict", "fused"):
                close(graph.gradient(x, dy, params, "f64", numerics), wanted, 1e-9, seed)
    assert met > 55


def test_graphs_gradient_is_the_quotient_of_differences():
    met = 0
    for seed in range(24):
        net, graph, x, dy, params = drawn(seed, 2, max_neurons=10)
        dx, dparams = graph.gradient(x, dy, params, "f64")
        steep = max(np.abs(dx).max(initial=0), np.abs(dparams).max(initial=0)) > 1e3
        if steep or not is_smooth(graph, x, dy, params):
            continue
        met += 1

        def at_inputs(rows, k, net=net, params=params, dy=dy):
            return evaluate(net, rows, params) @ dy[k]

        def at_params(rows, net=net, x=x, dy=dy):
            return np.array([(evaluate(net, x, p) * dy).sum() for p in rows])

        by_difference = np.stack([differences(lambda rows, k=k: at_inputs(rows, k), row)
                                  for k, row in enumerate(x)])
        close((by_difference, differences(at_params, params)), (dx, dparams), 1e-5, seed)
    assert met > 18


# ---- every level


class Every:
    """Interprets what each pass makes, and compares with the first graph's gradient."""

    def __init__(self, x, dy, params, wanted, dtype, numerics):
        self.asked = x, dy, params
        self.wanted, self.dtype, self.numerics = wanted, dtype, numerics
        self.rel = 1e-11 if dtype == "f64" else 1e-4
        self.prover = Watcher(verify_each=True)
        self.met = []

    def before(self, step, level):
        self.prover.before(step, level)

    def after(self, step, old, new, seconds):
        self.prover.after(step, old, new, seconds)
        if hasattr(new, "gradient"):
            made = [new.gradient(*self.asked, self.dtype, self.numerics)]
        elif isinstance(new, Module) and any(f.name == "backward" for f in new.funcs):
            made = [interpreted(new, *self.asked, name) for name in ("backward", "backward_batch")]
        else:
            return
        self.met.append(step.name)
        for found in made:
            close(found, self.wanted, self.rel, f"after {step.name}")


def everywhere(graph, x, dy, params, dtype, numerics, form, opt=0):
    """The gradients of every level and of machine code, single and batch; those of the last module
    and of machine code are the same bits, but for sums over lanes, whose order is a target's."""
    real = np.float32 if dtype == "f32" else np.float64
    x, dy, params = x.astype(real), dy.astype(real), params.astype(real)
    wanted = graph.gradient(x, dy, params, dtype, numerics)
    watch = Every(x, dy, params, wanted, dtype, numerics)
    fn = Backward(graph, dtype, form, opt, watch=watch, numerics=numerics)
    passes = "embed merge prune differentiate train fold cse dce expand split"
    assert watch.met == passes.split()
    for name in ("backward", "backward_batch"):
        dx, dparams = fn(x, dy, params, name)
        close((dx, dparams), wanted, watch.rel, name)
        same(dx, fn.interpreted(x, dy, params, name)[0])
    for k, row in enumerate(x[:2]):
        alone = fn.interpreted(row[None], dy[k : k + 1], params, "backward")
        for a, b in zip(fn(row[None], dy[k : k + 1], params, "backward"), alone, strict=True):
            same(a, b)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_every_level_has_the_graphs_gradient(dtype, numerics, form):
    first = 1000 * (2 * (dtype == "f32") + (numerics == "fused"))
    for seed in range(first, first + len(SIZES) // 2):
        n = SIZES[2 * (seed - first) + (form == "table")]
        _, graph, x, dy, params = drawn(seed, n, max_neurons=12)
        everywhere(graph, x, dy, params, dtype, numerics, form, opt=seed % 4)
