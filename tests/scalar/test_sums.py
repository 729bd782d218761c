"""One answer for gradients: the bits of the graph's own, in every form, vector width, batch, split
and number of threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from gradients import Backward
from nets import random_layers, some_net, to_nal
from objects import same

import ncc
from ncc.driver.settings import Settings
from ncc.machine import native as library
from ncc.machine.llvm import host
from ncc.machine.native import backward
from ncc.scalar import sum_order as sums
from ncc.scalar.numpy_eval import Numpy
from ncc.training.step import TrainStep

FORMS = ("straight", "table", "shared")
WIDTHS = [bits for bits in (0, 128, 256, 512) if bits <= host().vector_bits]
SIZES = (1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 300)
# Tied edges and biases, one in-list in many rows (with whole blocks of 16 rows and of 16 edges, and
# what is left of them), readers of one value in tiles, alone and behind another aggregation.
MIXED = "\n".join(
    ["N 5a", *[f"{j:02x}" for j in range(20)]]
    + [f"{j:02x} tanh " + ",".join(f"{i:02x}" for i in range(19)) + " +" for j in range(20, 55)]
    + [f"{j:02x} relu mean " + ",".join(f"{i:02x}" for i in range(3, 20)) + " +@b"
       for j in range(55, 72)]
    + [f"{j:02x} silu {('', 'mul ', 'max ', 'min ', 'maxabs ')[j % 5]}"
       + ",".join(f"{i:02x}{'@a' if i % 7 == 0 else ''}" for i in range(j - 60, j - 20, 3))
       for j in range(72, 86)]
    + [f"{j:02x} identity " + ",".join(f"{i:02x}" for i in range(50, 86)) for j in range(86, 90)])


def drawn(text, seed=0):
    graph = ncc.parse(text).graph
    rng = np.random.default_rng(seed)
    values = np.where(np.isnan(graph.values), rng.uniform(-0.3, 0.3, graph.n_params), graph.values)
    return graph.with_(values=values)


def compiled(graph, dtype, form, bits, numerics="fused", **more):
    native = max(1, bits // (32 if dtype == "f32" else 64))
    forms = {"form": form, "batch_form": form} if form != "straight" else {}
    return Backward(graph, dtype, form, numerics=numerics, vector_bits=bits, native=native,
                    lanes=2 * native if native > 1 else 1, far_lanes=0, alone_lanes=0,
                    registers=32 if bits > 256 else 16, **forms, **more)


def samples(graph, n, real, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.uniform(-2, 2, (n, len(graph.inputs))).astype(real),
            rng.standard_normal((n, len(graph.outputs))).astype(real))


def agree(fn, sizes, numerics="fused"):
    """A batch and single samples have the bits of the gradient of the graph as it is compiled."""
    graph = fn.build.plan.graph
    for n in sizes:
        x, dy = samples(graph, n, fn.real, n)
        wanted = graph.gradient(x, dy, None, fn.dtype, numerics)
        for found, want in zip(fn(x, dy, graph.values), wanted, strict=True):
            same(found, want)
        one = graph.gradient(x[-1], dy[-1], None, fn.dtype, numerics)
        found = fn(x[-1:], dy[-1:], graph.values, "backward")
        same(found[0][0], one[0])
        same(found[1], one[1])
        same(wanted[0][-1], one[0])


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.each_choice
def test_batches_of_all_sizes_have_the_graphs_bits(dtype, bits, form):
    agree(compiled(drawn(MIXED), dtype, form, bits), SIZES if dtype == "f32" else SIZES[1::4])


@pytest.mark.parametrize("seed", [
    pytest.param(seed, marks=[pytest.mark.slow] * (seed not in (1, 2))) for seed in range(8)])
def test_random_nets_have_the_graphs_bits(seed):
    """Every aggregation, ties, constants, shared in-lists: in all forms and widths."""
    dtype, numerics = ("f32", "f64")[seed % 2], ("fused", "strict")[seed // 2 % 2]
    if seed % 3:
        graph = ncc.parse(to_nal(some_net(seed, max_neurons=24, max_fan_in=8))).graph
    else:
        graph = ncc.parse(random_layers([17, 16 + seed % 2, 20], 16 if seed % 2 else 9, seed=seed,
                                        weights=True)).graph
    for form, bits in itertools.product(FORMS, WIDTHS):
        recompute = (0, 500)[seed % 2] if form != "straight" else 0
        agree(compiled(graph, dtype, form, bits, numerics, recompute=recompute),
              [SIZES[(3 * seed + bits) % len(SIZES)]], numerics)


@pytest.mark.parametrize("form", FORMS[1:])
def test_blocks_that_are_computed_again_change_no_bit(form):
    text = random_layers([24] * 12, 9, seed=1, weights=True)
    text = text.replace("30 relu ", "30 relu mul ").replace("52 relu ", "52 relu max ")
    graph = ncc.parse(text).graph
    plain = compiled(graph, "f32", form, WIDTHS[-1])
    again = compiled(graph, "f32", form, WIDTHS[-1], recompute=20000)
    x, dy = samples(graph, 140, np.float32)
    assert again.library.functions["backward_batch"].work < plain.library.functions[
        "backward_batch"].work
    for a, b in zip(plain(x, dy, graph.values), again(x, dy, graph.values), strict=True):
        same(a, b)


@pytest.mark.parametrize("bits", (0, WIDTHS[-1]))
@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize("dtype", [pytest.param("f32", marks=pytest.mark.slow), "f64"])
@pytest.mark.each_choice
def test_the_interpreters_have_the_graphs_bits(dtype, form, bits):
    graph = drawn(MIXED)
    n, real = (133, np.float32) if dtype == "f32" else (18, np.float64)
    x, dy = samples(graph, n, real)
    fn = compiled(graph, dtype, form, bits)
    wanted = fn.build.plan.graph.gradient(x, dy, None, dtype)
    for found, want in zip(fn.interpreted(x, dy, graph.values), wanted, strict=True):
        same(found, want)


def test_calls_for_whole_chunks_are_one_call():
    graph = drawn(MIXED)
    fn = compiled(graph, "f32", "shared", WIDTHS[-1])
    x, dy = samples(graph, 300, np.float32)
    start = np.random.default_rng(0).standard_normal(graph.n_params)
    dx, whole = fn(x, dy, graph.values, start=start)
    sums_so_far, moved = start, []
    for first, last in ((0, 128), (128, 256), (256, 300)):
        some, sums_so_far = fn(x[first:last], dy[first:last], graph.values, start=sums_so_far)
        moved.append(some)
    same(sums_so_far, whole)
    same(np.concatenate(moved), dx)


@pytest.mark.parametrize("threads", [
    pytest.param(threads, marks=[pytest.mark.slow] * (threads < 3)) for threads in (1, 2, 3)])
def test_threads_change_no_bit(monkeypatch, threads):
    monkeypatch.setattr(library, "PRODUCTS_A_THREAD", 1)
    graph = drawn(MIXED)
    fn = compiled(graph, "f32", "shared", WIDTHS[-1])
    held, g = fn.library, fn.build.plan.graph
    x, dy = samples(graph, 700, np.float32)
    dx, dparams = np.empty_like(x), np.ones(graph.n_params, np.float32)
    backward(held, x, held.pack(graph.values.astype(np.float32)), dy, dx, dparams, threads)
    one = fn(x, dy, graph.values, start=np.ones(graph.n_params))
    same(dx, one[0])
    same(dparams, one[1])
    same(dx, g.gradient(x, dy)[0])


@pytest.mark.parametrize("loss", [pytest.param("mse", marks=pytest.mark.slow),
                                  pytest.param("ce", marks=pytest.mark.slow), "bce"])
def test_training_has_the_same_bits_everywhere(monkeypatch, loss):
    """Losses and parameters: for any number of threads, in any form, in vectors of any width."""
    monkeypatch.setattr(library, "PRODUCTS_A_THREAD", 1)
    graph = drawn(random_layers([18, 20, 16, 5], 16, seed=1, activation="tanh"))
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (260, 18))
    target = rng.integers(0, 5, 260) if loss == "ce" else rng.random((260, 5))
    seen = []
    for threads, form, bits in ((1, "shared", WIDTHS[-1]), (2, "shared", WIDTHS[-1]),
                                (1, "table", 256), (1, "straight", 128), (1, "table", 0)):
        native = max(1, bits // 32)
        trainer = TrainStep(graph, loss, "adam", threads=threads, settings=Settings(opt=1, passes={
            "backward_form": form, "vector_bits": bits, "native": native, "far_lanes": 0,
            "alone_lanes": 0, "lanes": native}))
        means = [trainer.step(x, target, 0.01), trainer.step(x[:70], target[:70], 0.01),
                 trainer.loss(x, target)]
        seen.append((means, trainer.params.tolist()))
    assert all(found == seen[0] for found in seen[1:])


def test_the_gradient_of_parts_is_that_of_whole_chunks():
    graph = drawn(random_layers([6, 9, 3], 5, seed=1))
    rng = np.random.default_rng(0)
    x, target = rng.uniform(-1, 1, (300, 6)), rng.random((300, len(graph.outputs)))
    whole, parts = [TrainStep(graph, "mse", "sgd", settings=Settings(opt=0)) for _ in range(2)]
    whole.step(x, target, 0.1)
    for first in (0, 128, 256):
        parts.accumulate(x[first : first + 128], target[first : first + 128])
    parts.update(300, 0.1)
    assert whole.params.tolist() == parts.params.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_infinite_in_the_last_sample_stays_there(form):
    """The lanes that repeat it add nothing, whatever its values and slopes are."""
    text = ("N 08\n00\n01\n02\n03 identity mul 00:1,01:2\n04 recip 02:1 +0\n05 exp 03:1,00:-1\n"
            "06 identity mul 04:1,03:1,02:2\n07 identity 05:1,06:1,04:0.5\n")
    graph = ncc.parse(text).graph
    x = np.ones((5, 3))
    x[4] = [np.inf, 1, 0]
    for bits in WIDTHS:
        fn = compiled(graph, "f64", form, bits)
        g = fn.build.plan.graph
        found = fn(x, np.ones((5, 1)), graph.values)
        for a, b in zip(found, g.gradient(x, np.ones((5, 1)), None, "f64"), strict=True):
            same(a, b)


def test_the_order_by_hand():
    """Chains of four, added in pairs; a round after the other; or one by one."""
    e = Numpy("f32", False)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 37)).astype(np.float32)
    p = (x * y).tolist()

    def add(*terms):
        total = np.float32(terms[0])
        for term in terms[1:]:
            total = np.float32(total + np.float32(term))
        return total

    p += [0.0] * 27
    rounds = []
    for first in (0, 32):
        chains = [add(*p[first + 4 * c : first + 4 * c + 4]) for c in range(8)]
        pairs = [add(*chains[k : k + 2]) for k in range(0, 8, 2)]
        rounds.append(add(add(*pairs[:2]), add(*pairs[2:])))
    assert sums.by_lanes(e, x, y, e.const(1.0)) == add(1.0, *rounds)
    assert sums.one_by_one(e, x, y, e.const(1.0)) == add(1.0, add(*p[:32]), add(*p[32:37]))
