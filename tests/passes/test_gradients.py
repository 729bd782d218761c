"""Gradients: the graph's against torch and against differences, all others against the graph's."""

from __future__ import annotations

import re

import numpy as np
import pytest
from gradients import (
    FORMS,
    Backward,
    close,
    differences,
    interpreted,
    smooth,
    torch_activations,
    torch_gradient,
)
from nets import random_layers, some_net, to_nal
from objects import EVERY, same
from reference import ACTIVATION_NAMES, CODES, evaluate

import ncc
from ncc.driver.observe import Watcher
from ncc.errors import Source
from ncc.ir.ssa import DTYPES, Module
from ncc.scalar.activations import ACTIVATIONS
from ncc.scalar.derivative import PARTIALS, derivative_at
from ncc.scalar.expressions import expression, parse
from ncc.scalar.numpy_eval import Numpy
from ncc.scalar.opcodes import OPCODES

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
    torch.set_num_threads(1)
    met = 0
    for seed in range(40):
        net, graph, x, dy, params = drawn(seed, seed % 8 + 1)
        if is_smooth(graph, x, dy, params):
            met += 1
            wanted = torch_gradient(torch, net, x, params, dy)
            for numerics in ("strict", "fused"):
                close(graph.gradient(x, dy, params, "f64", numerics), wanted, 1e-9, seed)
    assert met > 36


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
    """Interprets what each pass makes, and compares: with the first graph's gradient nearly, as
    passes over graphs make neurons one; with the gradient of the last one to the bit."""

    def __init__(self, x, dy, params, wanted, dtype, numerics):
        self.asked = x, dy, params
        self.wanted, self.dtype, self.numerics = wanted, dtype, numerics
        self.rel = 1e-11 if dtype == "f64" else 1e-4
        self.prover = Watcher(verify_each=True)
        self.met = []

    def before(self, step, level, params):
        self.prover.before(step, level)

    def after(self, step, old, new, seconds, params):
        self.prover.after(step, old, new, seconds)
        if hasattr(new, "gradient"):
            made = new.gradient(*self.asked, self.dtype, self.numerics)
            close(made, self.wanted, self.rel, f"after {step.name}")
            self.wanted = made
        elif isinstance(new, Module) and any(f.name == "backward" for f in new.funcs):
            moved, _ = interpreted(new, *self.asked, "backward")
            same(np.ascontiguousarray(moved), self.wanted[0])
            for a, b in zip(interpreted(new, *self.asked), self.wanted, strict=True):
                same(a, b)
        else:
            return
        self.met.append(step.name)


def everywhere(graph, x, dy, params, dtype, numerics, form, opt=0):
    """The gradients of every level and of machine code, single and batch, have the same bits."""
    real = np.float32 if dtype == "f32" else np.float64
    x, dy, params = x.astype(real), dy.astype(real), params.astype(real)
    wanted = graph.gradient(x, dy, params, dtype, numerics)
    watch = Every(x, dy, params, wanted, dtype, numerics)
    fn = Backward(graph, dtype, form, opt, watch=watch, numerics=numerics)
    passes = "embed merge prune group place differentiate train lower fold cse dce expand split"
    assert watch.met == passes.split()
    for a, b in zip(fn(x, dy, params), watch.wanted, strict=True):
        same(a, b)
    same(fn(x, dy, params, "backward")[0], watch.wanted[0])
    for k, row in enumerate(x[:2]):
        alone = fn.build.plan.graph.gradient(row, dy[k], params, dtype, numerics)
        dx, dparams = fn(row[None], dy[k : k + 1], params, "backward")
        same(dx[0], alone[0])
        same(dparams, alone[1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.each_choice
def test_every_level_has_the_graphs_gradient(dtype, numerics, form):
    first = 1000 * (2 * (dtype == "f32") + (numerics == "fused"))
    for seed in range(first, first + len(SIZES) // 2):
        n = SIZES[2 * (seed - first) + (form == "table")]
        _, graph, x, dy, params = drawn(seed, n, max_neurons=12)
        everywhere(graph, x, dy, params, dtype, numerics, form, opt=seed % 4)


# ---- nets with something odd

ODD = {
    "an input is an output": "N 03\nout 00,02,01\n00\n01\n02 02 00:0.5,01:0.25 +0.1\n",
    "no rows": "N 02\nout 01\n00\n01\n",
    "outputs are read": "N 04\nout 01,03\n00\n01 02 00:0.5\n02 02 01:0.7,00:.3\n"
                        "03 01 02:1.5,01:.25\n",
    "equal outputs": "N 05\nout 01,02,03\n00\n01 02 00@a:0.5\n02 02 00@a\n"
                     "03 02 01:0.3,02:0.4\n04 03 03:1\n",
    "neurons that nobody reads": "N 05\nout 01\n00\n01 02 00:0.5\n02 02 00:0.25,01:.5 +0.4\n"
                                 "03 02 02:0.3\n04 02 03:1 +.25\n",
    "no parameters": "N 03\n00\n01\n02 02 00:=0.5,01:=0.25 +=0.1\n",
    "constants": "N 05\n00\n01 02 +0.5\n02 00 +=0.25\n03 0d 00:.5,01:.25,02:.75\n"
                 "04 02 mul 03:1,02:=.5,01:.3\n",
    "no inputs": "N 03\n00 02 +0.5\n01 03 00:0.5 +0.25\n02 02 mul 00:1.5,01:.5\n",
    "neither inputs nor parameters": "N 01\n00 02 +=0.5\n",
    "a bias alone is an output": "N 02\nout 01,00\n00\n01 00 +0.5\n",
    "weights of 0": "N 04\n00\n01\n02 02 00:=0,01:0.5\n03 02 02:=0,00:0.5,01:0\n",
    "ties of all kinds": "N 06\n00\n01\n02 02 00@a:0.5,01@a +@a\n"
                         "03 02 mul 00@a,01@b:.25,02@a +@b\n04 02 max 02@a,03@b\n"
                         "05 01 mean 02@a,03@a,04@b +@a\n",
    "unused inputs": "N 04\n00\n01\n02\n03 02 01:0.5\n",
}


def aggregating(aggregation):
    """Layers of four; fan-ins 1..10, so that each block of the loops has its rest."""
    rng = np.random.default_rng(5)
    rows = ["N 24", *[f"{j:02x}" for j in range(10)]]
    for j in range(10, 36):
        before = min(j, 10 + (j - 10) // 4 * 4)
        sources = rng.choice(before, (j - 10) % 10 + 1, replace=False).tolist()
        weights = np.where(rng.random(10) < 0.5, -1, 1) * rng.uniform(0.6, 1.4, 10)
        edges = ",".join(f"{i:02x}:{w:.4f}" for i, w in zip(sources, weights, strict=False))
        bias = f" +{rng.uniform(-0.5, 0.5):.4f}" if j % 3 else ""
        rows.append(f"{j:02x} {('tanh', 'identity', 'silu')[j % 3]} {aggregation} {edges}{bias}")
    return "\n".join(rows).replace(" sum ", " ") + "\n"


ODD |= {kind: aggregating(kind) for kind in ("sum", "mul", "mean", "max", "min", "maxabs")}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] * (name in ("mul", "mean", "min", "maxabs")))
    for name in ODD])
def test_odd_nets_have_their_gradients(name):
    """And dparams are added to what the caller has, dx is overwritten, and each may be NULL."""
    graph = ncc.parse(ODD[name]).graph
    rng = np.random.default_rng(1)
    params = graph.values

    x = rng.uniform(-1.5, 1.5, (3, len(graph.inputs)))
    dy = rng.standard_normal((3, len(graph.outputs)))
    found = graph.gradient(x, dy, params, "f64")
    for _ in range(4):
        ways = [rng.standard_normal(a.shape) for a in found]

        def value(steps, x=x, dy=dy, ways=ways):
            return np.array([(graph.run(x + h * ways[0], params + h * ways[1], "f64") * dy).sum()
                             for h in steps[:, 0]])

        along = sum([(a * way).sum() for a, way in zip(found, ways, strict=True)])
        close((differences(value, np.zeros(1), 1e-4),), (np.array([along]),), 1e-7)
    for form in FORMS:
        fn = Backward(graph, "f64", form)
        fn.module.verify()
        for n in (0, 1, 3, 40):
            x = rng.uniform(-1.5, 1.5, (n, len(graph.inputs)))
            dy = rng.standard_normal((n, len(graph.outputs)))
            dx, dparams = graph.gradient(x, dy, params, "f64")
            start = rng.standard_normal(len(params))
            for function in ("backward", "backward_batch"):
                close(fn(x, dy, params, function), (dx, dparams), 1e-11, (form, n, function))
                found = fn(x, dy, params, function, start=start)
                close(found, (dx, start + dparams), 1e-11, (form, n, function))
                close(fn(x, dy, params, function, dparams=False)[:1], (dx,), 1e-11)
                close(fn(x, dy, params, function, dx=False)[1:], (dparams,), 1e-11)
                fn(x, dy, params, function, dx=False, dparams=False)


def test_a_tied_nets_gradient_is_the_sum_over_its_untied_copy():
    rows = ["N 0c", "00", "01", "02"]
    for j in range(3, 12):
        names = [("@a", "@b", "@c")[(j + k) % 3] for k in range(3)]
        edges = ",".join(f"{j - 3 + k:02x}{name}" for k, name in enumerate(names))
        rows.append(f"{j:02x} tanh {('', 'mul ', 'max ')[j % 3]}{edges} +{names[j % 3]}")
    tied = ncc.parse("\n".join(rows)).graph
    loose = ncc.parse("\n".join(re.sub("@[abc]", "", row) for row in rows)).graph
    slots = np.concatenate([
        [*tied.weights[tied.starts[j] : tied.starts[j + 1]], tied.biases[j]]
        for j in range(3, 12)])
    assert tied.n_params == 3 and loose.n_params == len(slots) == 36
    params = np.array([0.6, -0.9, 1.1])
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((9, 3)), rng.standard_normal((9, len(tied.outputs)))
    for form in FORMS:
        dx, apart = Backward(loose, "f64", form)(x, dy, params[slots])
        together = Backward(tied, "f64", form)(x, dy, params)
        close(together, (dx, np.bincount(slots, apart)), 1e-12)


# ---- derivatives

SPECIAL = [0.0, -0.0, 1, -1, 3, -3, 6, -6, 2.5, -2.5, 1e-20, -1e-20, 1 + 1e-6, 3 - 1e-6, 6 + 1e-5,
           *[s * v for v in (10, 20, 40, 50, 88, 89, 100, 104, 600, 709.5, 746, 800, 1e4, 1e10,
                             1e19, 1e30) for s in (1, -1)]]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", ACTIVATION_NAMES)
@pytest.mark.each_choice
def test_slopes_are_torchs_at_kinks_and_far_out(name, dtype, fused):
    torch = pytest.importorskip("torch")
    x = np.concatenate([SPECIAL, np.linspace(-7, 7, 200)]).astype(DTYPES[dtype])
    at = torch.tensor(x, requires_grad=True)
    torch_activations(torch)[name](at).sum().backward()
    wanted = at.grad.numpy()
    found = derivative_at(expression(CODES[name], {}), Numpy(dtype, fused), x)
    found = np.broadcast_to(found, x.shape)
    if name == "gelu_tanh":  # torch's is NaN where x^3 overflows
        wanted = np.where(np.abs(x) > 1e10, x > 0, wanted)
    rel = 1e-12 if dtype == "f64" else 2e-5
    np.testing.assert_allclose(found, wanted, rtol=rel, atol=rel)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_machine_code_has_these_slopes(dtype, form):
    """Every activation behind every source: a net of one input, an output each."""
    graph = ncc.parse(EVERY).graph
    fn = Backward(graph, dtype, form)
    x = np.array(SPECIAL[:31])[:, None]
    dy = np.ones((len(x), len(graph.outputs)))
    with np.errstate(all="ignore"):
        wanted = graph.gradient(x.astype(fn.real), dy, None, dtype)
    for name in ("backward", "backward_batch"):
        found = fn(x, dy, graph.values, name)
        interpreted = fn.interpreted(x, dy, graph.values, name)
        same(found[0], np.ascontiguousarray(interpreted[0]))
        for a, w in zip(found, wanted, strict=True):
            assert (np.isfinite(a) == np.isfinite(w)).all()
            np.testing.assert_allclose(a, w, rtol=1e-3 if dtype == "f32" else 1e-11, atol=1e-5)


# ---- choices and products


def test_factors_of_0_and_equals_at_a_choice():
    """One factor of 0 gets the product of the others, two leave nothing; of equal products the
    first gets all."""
    text = ("N 0a\n00\n01\n02\n03 00 mul 00:2,01:3,02:5\n04 00 max 00:2,01:2,02:2\n"
            "05 00 min 00:2,01:2,02:2\n06 00 maxabs 00:2,01:-2,02:2\n07 00 mul 00:0,01:3,02:0\n"
            "08 00 max 00:0,01:-0.0,02:0\n09 00 mean 00:0,01:3,02:0\n")
    graph = ncc.parse(text).graph
    x = np.array([[0.0, 1, 2], [0, 0, 2], [1, 1, 1], [0, 0, 0], [2, 3, 3], [-1, 1, -1]])

    def edges(x, weights, neuron):
        """What an output of 1 gives weights and inputs, by hand."""
        p = x * weights
        if neuron in (3, 7):
            d = np.array([np.prod(np.delete(p, k)) for k in range(3)])
        elif neuron == 9:
            d = np.full(3, 1 / 3)
        else:
            d = np.zeros(3)
            best = {4: np.argmax(p), 8: np.argmax(p), 5: np.argmin(p),
                    6: np.argmax(np.abs(p))}[neuron]
            d[best] = 1
        return d * weights, d * x

    for form in FORMS:
        fn = Backward(graph, "f64", form)
        for row in x:
            for k, neuron in enumerate(range(3, 10)):
                weights = graph.values[3 * k : 3 * k + 3]
                dx, dw = edges(row, weights, neuron)
                dparams = np.zeros(21)
                dparams[3 * k : 3 * k + 3] = dw
                dy = np.eye(7)[k : k + 1]
                for name in ("backward", "backward_batch"):
                    close(fn(row[None], dy, graph.values, name), (dx[None], dparams), 1e-15,
                          (form, row.tolist(), neuron))


SATURATED = ("1:100", "1:-100", "2:200", "17:1e19", "17:-1e3", "0d:-1e30", "a:-1e9", "4:-1e9",
             "6:-1e9", "5:-1e9", "1a:-1e9", "1f:1e9", "80:1e9", "80:-1e9", "81:300", "1e:1e18")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_what_is_saturated_is_flat(dtype, form):
    """No NaN, though a factor of the derivative overflows; what stands before it gets 0."""
    rows = ["N 32", "fn 80 1/(1+exp(-4.9*x))", "fn 81 exp(-x^4)", "00", "01 00 00:1 +0.5"]
    for j, (code, _, weight) in enumerate([text.partition(":") for text in SATURATED]):
        flat, sum, product = (f"{3 * j + k:02x}" for k in (2, 3, 4))
        rows += [f"{flat} {code} 01:{weight}", f"{sum} 00 {flat}:1,01:0",
                 f"{product} 00 mul {sum}:1,{flat}:1"]
    graph = ncc.parse("\n".join(rows)).graph
    x, dy = np.array([[1.0], [0.5], [2.0]]), np.ones((3, len(SATURATED)))
    fn = Backward(graph, dtype, form)
    for name in ("backward", "backward_batch"):
        dx, dparams = fn(x, dy, graph.values, name)
        assert np.isfinite(dparams).all() and np.abs(dx).max() < 1e-5


# ---- lanes


@pytest.mark.parametrize("dtype, vector_bits, lanes", [
    ("f32", 32, 1), ("f64", 64, 1), ("f32", 128, 16), ("f64", 128, 8), ("f32", 256, 32),
    ("f32", 512, 32), ("f64", 512, 16)])
def test_vectors_of_any_width_and_batches_of_any_size(dtype, vector_bits, lanes):
    """Wide rows, so that squares of them are transposed; dx is that of single calls, to the bit,
    and a batch's dparams do not depend on what `work` held."""
    graph = ncc.parse(random_layers([20, 12, 18], 7, seed=1, weights=True)).graph
    rng = np.random.default_rng(0)
    width = 32 if dtype == "f32" else 64
    form = FORMS[lanes % 3 % 2]
    fn = Backward(graph, dtype, form, vector_bits=vector_bits, native=vector_bits // width,
                  lanes=lanes)
    for n in (1, 2, lanes - 1, lanes, lanes + 1, 2 * lanes + 3, 70):
        x, dy = rng.standard_normal((n, 20)), rng.standard_normal((n, 18))
        wanted = graph.gradient(x, dy, graph.values, dtype)
        found = fn(x, dy, graph.values)
        close(found, wanted, 1e-12 if dtype == "f64" else 1e-4, n)
        same(found[0], fn(x, dy, graph.values, "backward")[0])
        same(found[1], fn(x, dy, graph.values)[1])


@pytest.mark.parametrize("dtype, vector_bits", [("f32", 128), ("f64", 128), ("f32", 256),
                                                ("f64", 256), ("f32", 512), ("f64", 512)])
@pytest.mark.each_choice
def test_tiles_of_vectors_of_any_width(dtype, vector_bits):
    """Blocks of rows that are full and that are not; sources in whole tiles and what is left."""
    nets = [random_layers([21, 37, 35], 21, seed=1), random_layers([18, 18, 40], 18, seed=2)]
    rng = np.random.default_rng(0)
    width = 32 if dtype == "f32" else 64
    shared = {"form": "shared", "batch_form": "shared", "backward_form": "shared"}
    for graph in [ncc.parse(text).graph for text in nets]:
        fn = Backward(graph, dtype, **shared, vector_bits=vector_bits,
                      native=vector_bits // width)
        for n in (1, 33, 70):
            x = rng.standard_normal((n, len(graph.inputs)))
            dy = rng.standard_normal((n, len(graph.outputs)))
            wanted = graph.gradient(x, dy, graph.values, dtype)
            found = fn(x, dy, graph.values)
            close(found, wanted, 1e-12 if dtype == "f64" else 1e-4, n)
            same(found[1], fn(x, dy, graph.values)[1])


@pytest.mark.parametrize("form", [*FORMS, "shared"])
def test_an_infinity_in_a_ragged_rounds_last_sample_is_no_nan(form):
    """The lanes that repeat it add 0 to the gradient, and not 0 * inf."""
    text = random_layers([6, 6, 9], 6, seed=1, activation="identity")
    graph = ncc.parse(text).graph
    chosen = {"form": form, "batch_form": form}
    x, dy = np.ones((3, 6)), np.ones((3, 9))
    x[2, 1] = np.inf
    fn = Backward(graph, "f64", form, vector_bits=256, native=4, **chosen)
    found = fn(x, dy, graph.values)[1]
    single = sum(fn(x[k : k + 1], dy[k : k + 1], graph.values, "backward")[1] for k in range(3))
    assert np.isinf(single).any()
    close((found,), (single,), 1e-12, 3)


def test_optimization_changes_no_bit():
    _, graph, x, dy, params = drawn(7, 37)
    for form in FORMS:
        found = [Backward(graph, "f32", form, opt=opt)(x, dy, params) for opt in (0, 3)]
        for a, b in zip(*found, strict=True):
            same(a, b)


def test_each_function_may_have_its_form():
    """`auto` at a size where the batch is a table and the single sample is straight."""
    graph = ncc.parse(random_layers([9, 9, 9], 6, seed=1, weights=True)).graph
    fn = Backward(graph, "f64", "auto", form="table", batch_form="straight")
    plan = fn.build.plan
    assert (plan.backward.form, plan.backward_batch.form) == ("straight", "table")
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((33, 9)), rng.standard_normal((33, 9))
    wanted = graph.gradient(x, dy, graph.values, "f64")
    for name in ("backward", "backward_batch"):
        close(fn(x, dy, graph.values, name), wanted, 1e-12)
        close(fn.interpreted(x, dy, graph.values, name), wanted, 1e-12)


def test_blocks_of_shared_rows_have_their_gradients():
    """Whatever the form of the forward functions, whose order of the weights is one for all."""
    rng = np.random.default_rng(3)
    rows, before, j = ["N 1d", *[f"{j:02x}" for j in range(5)]], list(range(5)), 5
    for width in (11, 9, 4):
        for k in range(width):
            edges = ",".join(f"{i:02x}:{rng.uniform(-1, 1):.3f}" for i in before[:: 1 + (k > 6)])
            bias = f" +{rng.uniform(-1, 1):.3f}" if (k + width) % 3 else ""
            rows.append(f"{j:02x} {('tanh', 'silu')[j % 2]} {edges}{bias}")
            j += 1
        before = list(range(j - width, j))
    graph = ncc.parse("\n".join(rows)).graph
    x, dy = rng.standard_normal((9, 5)), rng.standard_normal((9, 4))
    wanted = graph.gradient(x, dy, None, "f64")
    for form in ("straight", "table", "shared"):
        for backward_form in FORMS:
            fn = Backward(graph, "f64", backward_form, form=form, batch_form=form)
            for name in ("backward", "backward_batch"):
                close(fn(x, dy, graph.values, name), wanted, 1e-12, (form, backward_form))


# ---- the work there is


def chain(n):
    return "\n".join([f"N {n:x}", "00", *[f"{j:02x} tanh {j - 1:02x}:0.5 +0.1"
                                          for j in range(1, n)]])


def skips(n):
    """Everybody reads all that stands above."""
    return "\n".join([f"N {n:x}", "00", *[
        f"{j:02x} tanh " + ",".join(f"{i:02x}:0.01" for i in range(j)) for j in range(1, n)]])


@pytest.mark.parametrize("aggregation", ["sum", "mul"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.each_choice
def test_operations_are_linear_in_edges_and_neurons(monkeypatch, form, aggregation):
    """Those that are written in straight code, and those that run in loops."""
    count = 0

    class Counting(Numpy):
        def op(self, name, *arrays):
            nonlocal count
            count += 1
            return super().op(name, *arrays)

    monkeypatch.setattr(ncc.ir.ssa, "Numpy", Counting)
    for text in (chain(40), chain(120), skips(12), skips(32), random_layers([40] * 2, 4),
                 random_layers([40] * 5, 4), random_layers([16, 16, 16], 16)):
        if aggregation != "sum":
            text = text.replace(" tanh ", f" tanh {aggregation} ").replace(
                " relu ", f" relu {aggregation} ")
        graph = ncc.parse(text).graph
        bound = 12 * graph.n_edges + 80 * graph.n_neurons  # tanh and its derivative are 50
        fn = Backward(graph, "f64", form)
        written = len(fn.module.func("backward").ops)
        assert written <= (bound if form == "straight" else 3000), (written, bound)
        count = 0
        fn.interpreted(np.zeros((1, len(graph.inputs))), np.zeros((1, len(graph.outputs))),
                       np.zeros(graph.n_params), "backward")
        assert graph.n_edges < 16 * count, count  # a vector of edges may be one op
        assert count <= bound, (count, bound)


def test_every_op_of_an_expression_has_its_partials():
    """No op that an expression can hold lacks a rule; and no rule is of an op that none holds."""
    held = {"add", "sub", "mul", "div", "neg", "abs", "max", "min", "select", "une"}
    held |= {o.name for o in OPCODES.values() if o.math}
    assert set(PARTIALS) == held
    texts = [a.formula for a in ACTIVATIONS] + [
        "-x+x*x/(1+x)-max(x,1,2*x)+min(x,-x)", "x^-3", "+".join(
            f"{name}(x)" for name in held if OPCODES[name].math), "abs(x)"]
    seen = {node.op for text in texts for node in parse(Source("t", text), text).nodes}
    assert seen - {"x", "const"} == held
