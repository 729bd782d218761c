"""Every aggregation in every form, gradient, engine and dtype: the bits of the interpreter, also
where a product is a NaN, an infinity or a zero of either sign."""

from __future__ import annotations

import numpy as np
import pytest
from gradients import Backward
from objects import same

import ncc
from ncc.driver.settings import options
from ncc.ir.graph import AGGREGATIONS
from ncc.ir.plan import FORMS
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import host

# Of those that other tests have less of, some cases run always; of the others in the long run.
NEW = ("sumbias", "dot", "div")
EACH = [agg if agg in NEW else pytest.param(agg, marks=pytest.mark.slow) for agg in AGGREGATIONS]


def net_of(agg: str, act: str = "tanh") -> ncc.Net:
    """Rows that share an in-list, enough of them for tiles; rows of one to six edges of their own;
    biases in some of either; and rows that read all these."""
    rng, values = np.random.default_rng(3), np.random.default_rng(4)
    lines, n = [f"{j:02x}" for j in range(8)], 8

    def row(sources: list[int], biased: bool) -> None:
        words = [f"{i:02x}" for i in sources]
        if agg == "dot":  # a square where one is left over, and the first pair again
            words += words[-1:] * (len(words) % 2)
            words = [f"{a}*{b}" for a, b in zip(words[::2], words[1::2], strict=True)]
            words += words[:1]
        edges = ",".join([f"{word}:{w:.3f}" for word, w in zip(
            words, values.normal(size=len(words)), strict=True)])
        bias = f" +{values.normal():.3f}" if biased else ""
        lines.append(f"{len(lines):02x} {act} {agg} {edges}{bias}")

    for k in range(35):
        row([1, 5, 0, 3, 6, 2], k % 3 > 0)
    for k in range(1, 7):
        row(rng.choice(n, k, replace=False).tolist(), k % 2 > 0)
    many = len(lines)
    for k in range(5):
        row(rng.choice(many, 17, replace=False).tolist(), k % 2 > 0)
    return ncc.parse("\n".join([f"N {len(lines):02x}", *lines]) + "\n")


def samples(dtype: str, wild: bool) -> np.ndarray:
    """(37, 8); where `wild`, a third of the numbers are NaN, infinities and zeros."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(37, 8))
    if wild:
        x = np.where(rng.random(x.shape) < 0.33,
                     rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0], x.shape), x)
    return x.astype(DTYPES[dtype])


@pytest.mark.each_choice
@pytest.mark.parametrize("agg", EACH)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("act", ["identity", "tanh"])
def test_code_has_the_interpreters_bits(agg, form, numerics, dtype, act):
    net = net_of(agg, act)
    fn = ncc.compile(net, dtype=dtype, numerics=numerics, form=form, batch_form=form, opt=0,
                     cache=False)
    for wild in (False, True):
        x = samples(dtype, wild)
        y = net.graph.run(x, dtype=dtype, numerics=numerics)
        same(fn(x), y)
        same(np.stack([fn(row) for row in x[:9]]), y[:9])


@pytest.mark.each_choice
@pytest.mark.parametrize("agg", EACH)
@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_gradients_have_the_interpreters_bits(agg, form, numerics, dtype):
    graph = net_of(agg).graph
    made = Backward(graph, dtype, "table" if form == "shared" else form, numerics=numerics,
                    form=form, batch_form=form)
    rng = np.random.default_rng(1)
    for wild in (False, True):
        x = samples(dtype, wild)
        dy = rng.normal(size=(len(x), len(graph.outputs))).astype(DTYPES[dtype])
        want = graph.gradient(x, dy, graph.values, dtype, numerics)
        for found, wanted in zip(made(x, dy, graph.values), want, strict=True):
            same(found, wanted)
        one = [graph.gradient(x[k : k + 1], dy[k : k + 1], graph.values, dtype, numerics)
               for k in range(5)]
        dx, _ = made(x[:5], dy[:5], graph.values, "backward")
        same(dx, np.concatenate([moved for moved, _ in one]))


PRODUCTS = """N 09
00
01
02
03 tanh dot 00*01:0.5,02*02:-1.5,01*00@k:0.7 +0.2
04 silu dot 03*00:1.25,01*02@k
05 sigmoid div 00:0.5,01:2,02:1.5 +0.1
06 tanh div 03:1,05@k
07 identity dot 05*06:=1,03*04:2,06*06@k +@k
08 identity div 07:1
"""


def test_products_and_quotients_have_torchs_gradients():
    """Squares, a pair twice, a tie in pairs, divisors and a bias."""
    torch = pytest.importorskip("torch")
    graph = ncc.parse(PRODUCTS).graph
    rng = np.random.default_rng(2)
    x = rng.uniform(0.5, 2, (5, 3))
    dy = rng.normal(size=(5, 1))
    params = graph.values + rng.normal(size=graph.n_params) / 8
    n = list(torch.tensor(x.T, requires_grad=True))
    for column in n:
        column.retain_grad()
    p = torch.tensor(params, requires_grad=True)
    a, b, k, c, d, e, f, g, h, i, j, m = p
    t3 = torch.tanh(n[0] * n[1] * a + n[2] * n[2] * b + n[1] * n[0] * k + c)
    t4 = torch.nn.functional.silu(t3 * n[0] * d + n[1] * n[2] * k)
    t5 = torch.sigmoid(n[0] * e / (n[1] * f) / (n[2] * g) + h)
    t6 = torch.tanh(t3 * i / (t5 * k))
    y = (t5 * t6 + t3 * t4 * j + t6 * t6 * k + k) * m
    (y * torch.tensor(dy[:, 0])).sum().backward()
    np.testing.assert_allclose(graph.run(x, params, dtype="f64")[:, 0], y.detach().numpy(),
                               rtol=1e-13)
    dx, dparams = graph.gradient(x, dy, params, "f64")
    np.testing.assert_allclose(dx, np.stack([column.grad for column in n], 1), rtol=1e-12)
    np.testing.assert_allclose(dparams, p.grad, rtol=1e-12)


@pytest.mark.each_choice
@pytest.mark.parametrize("agg", EACH)
@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_engines_have_the_interpreters_bits(agg, numerics, dtype):
    """Over images, for samples that all nets get, and in blocks, for one of its own each."""
    nets = [net_of(agg), net_of(agg, "identity"), net_of("sum")]
    pop = ncc.population(nets, dtype=dtype, numerics=numerics)
    for wild in (False, True):
        x = samples(dtype, wild)
        y = [net.graph.run(x, dtype=dtype, numerics=numerics) for net in nets]
        same(pop(x), np.stack(y))
        for k in range(4):
            same(pop.step(x[3 * k : 3 * k + 3]), np.stack(
                [of[3 * k + j] for j, of in enumerate(y)]))


@pytest.mark.parametrize("agg", ["sumbias", pytest.param("maximum", marks=pytest.mark.slow)])
def test_a_trained_net_is_the_same_by_image_and_by_code(agg):
    net = net_of(agg)
    x = samples("f32", False)
    t = np.zeros((37, len(net.outputs)), np.float32)
    trainer = ncc.Trainer(net, lr=0.01, seed=3)
    trainer.epoch(x, t)
    _, history = ncc.fit(net, x, t, lr=0.01, seed=3, epochs=1)
    assert np.array_equal(trainer.params, history.state.params)


def test_edges_into_a_sum_with_its_bias_behind_may_change():
    net = net_of("sumbias")
    trainer = ncc.Trainer(net, seed=1)
    done = trainer.rewire(0.3)
    assert len(done.dropped) == len(done.grown) > 10
    trainer.net.graph.verify()


@pytest.mark.parametrize("agg", ["sum", "sumbias"])
def test_fast_may_reorder_sums_wherever_their_bias_is(agg):
    """Equal sums are one, zeros go, and a net whose edges are all zeros keeps one."""
    net = ncc.parse(f"N 06\n00\n01\n02 tanh {agg} 00:=1,01:=2 +=1\n03 tanh {agg} 01:=2,00:=1 +=1\n"
                    f"04 0 {agg} 02:=1,03:=1,00:=0\n05 0 {agg} 00:=0,01:=0 +=3\n")
    fn = ncc.compile(net, numerics="fast", cache=False, tier="now")
    assert np.allclose(fn([0.1, 0.2]), [2 * np.tanh(1.5), 3], rtol=1e-6)
    assert options(host(), numerics="fast")["numerics"] in ("fast", "strict")
