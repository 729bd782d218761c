"""`ncc.torch.module`: a torch module whose values and gradients are the compiled functions'."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from nets import FINITE, some_net, to_nal

import ncc
from ncc.machine import native as library
from ncc.nets.random_layers import layers

torch = pytest.importorskip("torch")

NET = """N 07
00
01
02
03 tanh 00:0.5,01@k:-1.25,02:0.3 +0.1
04 sigmoid 00:1,03@k +=0.25
05 00 mul 03:1,04:2 +-0.5
06 silu mean 02:=2,03:1.5
"""  # outputs 05 and 06
SMOOTH = [k for k in range(0x20) if k not in (3, 7, 8, 9, 0xC, 0xF, 0x18, 0x1B, 0x1C, 0x1D)]
RNG = np.random.default_rng(3)


def samples(*shape, dtype=torch.float32):
    return torch.tensor(RNG.standard_normal(shape), dtype=dtype)


@pytest.fixture(scope="module")
def model():
    return ncc.torch.module(ncc.parse(NET))


@pytest.fixture(scope="module", params=["", "kept"])
def exact(request):
    """In float64; and so that the way back finds what was kept, as in larger nets."""
    if not request.param:
        return ncc.torch.module(ncc.parse(NET), dtype="f64")
    made = ncc.torch.module(ncc.parse(NET), dtype="f64", opt=1)  # another one's code
    with pytest.MonkeyPatch.context() as patch:
        for name in ("differentiate.EDGES_TO_KEEP", "group.STRAIGHT_BACKWARD",
                     "group.STRAIGHT_BACKWARD_BATCH"):
            patch.setattr(f"ncc.passes.plan.{name}", 0)
        assert {"backward_kept", "backward_batch_kept"} <= set(made.code.library(True).calls)
    return made


@pytest.mark.parametrize("shape", [(3,), (1, 3), (70, 3), (2, 5, 3), (0, 3), (2, 0, 3)])
def test_values_are_the_compiled_nets(model, shape):
    fn = ncc.compile(ncc.parse(NET))
    x = samples(*shape)
    y = model(x)
    assert y.shape == (*shape[:-1], 2) and y.dtype == torch.float32
    expected = fn(x.reshape(-1, 3).numpy() if x.numel() else np.empty((0, 3), np.float32))
    assert np.array_equal(y.detach().reshape(-1, 2).numpy(), expected)
    with torch.no_grad():  # other code: without the backward functions
        assert torch.equal(model(x), y)


def test_gradcheck(exact):
    for shape in ((3,), (4, 3), (2, 2, 3)):
        x = samples(*shape, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(exact, x)

        start = exact.params.detach().clone().requires_grad_()
        for mine in (x, x.detach()):
            assert torch.autograd.gradcheck(
                lambda x, p: torch.func.functional_call(exact, {"params": p}, x), (mine, start))


@pytest.mark.parametrize("seed", [*range(5), *range(6, 13)])  # 5 is no number: a log below 0
def test_gradcheck_of_random_nets(seed):
    """Smooth activations, every aggregation but div (a tie of winners has no finite difference, and
    no random weights make one)."""
    text = to_nal(some_net(seed, activations=SMOOTH, functions=False, aggregations=FINITE))
    random = np.random.default_rng(seed)
    net = ncc.parse(text)
    params = random.uniform(0.25, 1.0, net.n_params)
    made = ncc.torch.module(net, params, dtype="f64")
    x = torch.tensor(random.uniform(0.5, 1.5, (3, len(net.inputs))), requires_grad=True)
    start = made.params.detach().clone().requires_grad_()
    assert torch.isfinite(made(x)).all()
    assert torch.autograd.gradcheck(
        lambda x, p: torch.func.functional_call(made, {"params": p}, x), (x, start))


def test_no_samples_have_no_gradient(exact):
    x = samples(0, 3, dtype=torch.float64).requires_grad_()
    dx, dparams = torch.autograd.grad(exact(x).sum(), (x, exact.params))
    assert dx.shape == (0, 3) and dparams.tolist() == [0.0] * 9


def test_gradients_are_vjps(model):
    fn = ncc.compile(ncc.parse(NET))
    x, dy = samples(70, 3).requires_grad_(), samples(70, 2)
    dx, dparams = torch.autograd.grad(model(x), (x, model.params), dy)
    _, pullback = fn.vjp(x.detach().numpy())
    expected = pullback(dy.numpy())
    assert np.array_equal(dx.numpy(), expected[0])
    assert np.array_equal(dparams.numpy(), expected[1])


def test_threads_change_no_value():
    one, two = (ncc.torch.module(ncc.parse(NET), threads=t) for t in (1, 2))
    x = samples(300, 3)
    assert torch.equal(one(x), two(x))
    one(x).sum().backward()
    two(x).sum().backward()
    assert torch.allclose(one.params.grad, two.params.grad, rtol=1e-5)


def test_only_what_is_wanted_has_a_gradient(model):
    mine = copy.deepcopy(model)
    x = samples(4, 3)
    mine(x).sum().backward()
    assert x.grad is None and mine.params.grad is not None
    mine.params.requires_grad_(False)
    assert not mine(x).requires_grad
    x.requires_grad_()
    mine.params.grad = None
    mine(x).sum().backward()
    assert x.grad.shape == (4, 3) and mine.params.grad is None
    with torch.no_grad():
        assert not mine(x).requires_grad
    with torch.inference_mode():
        mine(x)


def test_backward_uses_the_parameters_of_its_forward(exact):
    mine = copy.deepcopy(exact)
    x = samples(5, 3, dtype=torch.float64)
    expected = torch.autograd.grad(mine(x).sum(), mine.params)[0]
    y = mine(x)
    with torch.no_grad():
        mine.params.mul_(2)
    assert torch.equal(torch.autograd.grad(y.sum(), mine.params)[0], expected)
    assert not torch.equal(torch.autograd.grad(mine(x).sum(), mine.params)[0], expected)


def test_parameters_may_be_computed(exact):
    """By another net, say: their gradient goes on to what they came from."""
    x, z = samples(5, 3, dtype=torch.float64), samples(2, dtype=torch.float64)
    weight = samples(9, 2, dtype=torch.float64).requires_grad_()
    made = torch.func.functional_call(exact, {"params": weight @ z}, x)
    made.sum().backward()
    p = (weight @ z).detach().requires_grad_()
    (expected,) = torch.autograd.grad(
        torch.func.functional_call(exact, {"params": p}, x).sum(), p)
    assert torch.allclose(weight.grad, torch.outer(expected, z), rtol=1e-12)
    assert exact.params.grad is None


def test_a_changed_x_is_an_error(exact):
    x = samples(5, 3, dtype=torch.float64)
    y = exact(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_backward_twice(exact):
    x = samples(5, 3, dtype=torch.float64).requires_grad_()
    y = exact(x)
    first = torch.autograd.grad(y.sum(), x, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y.sum(), x)


def test_a_second_derivative_is_refused(exact):
    x = samples(5, 3, dtype=torch.float64).requires_grad_()
    y = exact(x).sum()
    dx, dparams = torch.autograd.grad(y, (x, exact.params), create_graph=True)
    for wrong in (dx.square().sum(), y + dx.sum(), dparams.sum()):
        with pytest.raises(NotImplementedError, match="first derivatives only"):
            torch.autograd.grad(wrong, x, retain_graph=True)


def test_forward_mode_is_refused_not_wrong(exact):
    x = samples(3, dtype=torch.float64)
    with torch.autograd.forward_ad.dual_level():
        with pytest.raises((RuntimeError, NotImplementedError), match="jvp|forward"):
            exact(torch.autograd.forward_ad.make_dual(x, torch.ones_like(x)))


@pytest.mark.parametrize("change", [
    lambda p: p.data.mul_(0.5),
    lambda p: p.data.copy_(torch.full_like(p, 0.1)),
    lambda p: p.detach().add_(1.0),
    lambda p: setattr(p, "data", torch.full_like(p, 0.2)),
    lambda p: p.data.numpy().fill(-0.3),
], ids=["data.mul_", "data.copy_", "detach.add_", "data=", "numpy"])
def test_changed_parameters_are_seen(model, change):
    mine = copy.deepcopy(model)
    x = samples(4, 3)
    mine(x), mine(x).sum().backward()
    change(mine.params)
    expected = ncc.compile(ncc.parse(NET), mine.params.detach().numpy())(x.numpy())
    assert np.array_equal(mine(x).detach().numpy(), expected)
    with torch.no_grad():
        assert np.array_equal(mine(x).numpy(), expected)


def test_training_with_torchs_optimizers():
    """Behind a layer and before one of torch's: the same as all of it in torch."""
    net = ncc.parse("N 05\n00\n01\n02\n03 tanh 00:0.5,01:-1,02:0.25 +0.1\n"
                    "04 tanh 00:-0.5,01:0.75,02:1 +\n".replace("+\n", "+0\n"))
    x, target = samples(40, 4, dtype=torch.float64), samples(40, 1, dtype=torch.float64)
    # LBFGS soon makes much of a difference in the last bit.
    for optimizer, steps in ((torch.optim.SGD, 10), (torch.optim.Adam, 10), (torch.optim.LBFGS, 3)):
        torch.manual_seed(1)
        first, last = torch.nn.Linear(4, 3).double(), torch.nn.Linear(2, 1).double()
        middle = torch.nn.Linear(3, 2).double()
        with torch.no_grad():
            flat = torch.tensor(net.params).reshape(2, 4)
            middle.weight.copy_(flat[:, :3])
            middle.bias.copy_(flat[:, 3])
        mine = torch.nn.Sequential(copy.deepcopy(first), ncc.torch.module(net, dtype="f64"),
                                   copy.deepcopy(last))
        theirs = torch.nn.Sequential(first, middle, torch.nn.Tanh(), last)
        losses = []
        for whole in (mine, theirs):
            updates = optimizer(whole.parameters(), lr=0.05)

            def closure(whole=whole, updates=updates):
                updates.zero_grad()
                loss = torch.nn.functional.mse_loss(whole(x), target)
                loss.backward()
                return loss

            losses.append([updates.step(closure).item() for _ in range(steps)])
        assert losses[0][-1] < losses[0][0]
        assert np.allclose(losses[0], losses[1], rtol=1e-9), optimizer


@pytest.mark.parametrize("density", [0.2, 1.0])
def test_layers_are_masked_matrices(density):
    """Torch's own matrices, with zeros, have the same gradients, in the parameters and in x, as the
    code of nets of this size: tables for the sparse one, shared rows for the dense."""
    widths = [30, 80, 60, 5]
    net = layers(widths, activation="silu", density=density, seed=2)
    graph, first = net.graph, np.cumsum([0, *widths])
    mine = ncc.torch.module(net, dtype="f64", threads=2, seed=1)
    p = mine.params.detach().clone().requires_grad_()
    x, dy = (samples(150, n, dtype=torch.float64).requires_grad_() for n in (30, 5))
    h = x
    for k, width in enumerate(widths[1:], 1):
        low, high = first[k], first[k + 1]
        edges = slice(graph.starts[low], graph.starts[high])
        fans = np.diff(graph.starts)[low:high]
        rows = torch.tensor(np.repeat(np.arange(width), fans))
        columns = torch.tensor(graph.sources[edges] - first[k - 1], dtype=torch.int64)
        matrix = torch.zeros(width, widths[k - 1], dtype=torch.float64)
        matrix = matrix.index_put((rows, columns), p[torch.tensor(graph.weights[edges])])
        h = h @ matrix.T + p[torch.tensor(graph.biases[low:high])]
        h = torch.nn.functional.silu(h) if k < 3 else h
    expected = torch.autograd.grad(h, (x, p), dy)
    y = mine(x)
    assert torch.allclose(y, h, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(y, (x, mine.params), dy)
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


def test_state_dict_copy_and_pickle(model):
    assert list(model.state_dict()) == ["params"]
    other = ncc.torch.module(ncc.parse(NET), np.zeros(9))
    x = samples(4, 3)
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(x), model(x))
    copied = copy.deepcopy(model)
    assert copied.code is model.code
    with torch.no_grad():
        copied.params.zero_()
    assert not torch.equal(copied(x), model(x))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(x), model(x))


def test_layouts_of_x(exact):
    x = samples(6, 8, dtype=torch.float64)
    for view in (x[:, ::3], x.T[:, 1:4], x[:, 2:5], x[0, :3].expand(4, 3), x[0, 5:],
                 torch.complex(x[:, :3], x[:, 3:6]).conj().imag):
        leaf = view.detach().clone().contiguous().requires_grad_()
        assert torch.equal(exact(view), exact(leaf))
    base = x.clone().requires_grad_()
    exact(base[:, ::3]).sum().backward()
    assert (base.grad[:, [1, 2, 4, 5, 7]] == 0).all() and (base.grad[:, ::3] != 0).all()


def test_wrong_arguments(model, exact):
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(\.\.\., 3\)"):
        model(samples(4, 2))
    with pytest.raises(ValueError, match=r"x has shape \(\)"):
        model(torch.tensor(1.0))
    with pytest.raises(TypeError, match="torch.float64.*f32"):
        model(samples(4, 3, dtype=torch.float64))
    with pytest.raises(TypeError, match="torch.int64"):
        exact(torch.ones(4, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match="ndarray"):
        model(np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match="x is on meta.*CPU"):
        model(torch.zeros(4, 3, device="meta"))
    with pytest.raises(ValueError, match="params is on meta"):
        copy.deepcopy(model).to("meta")(samples(4, 3))
    with pytest.raises(TypeError, match="params is torch.float64"):
        copy.deepcopy(model).double()(samples(4, 3))
    with pytest.raises(ValueError, match=r"params has shape \(8,\)"):
        torch.func.functional_call(model, {"params": torch.zeros(8)}, samples(4, 3))
    with pytest.raises(ValueError, match=r"\(8,\).*\(9,\)"):
        ncc.torch.module(ncc.parse(NET), np.zeros(8))
    for wrong in (float("nan"), 1e39):
        with pytest.raises(ValueError, match="not finite in f32"):
            ncc.torch.module(ncc.parse(NET), np.full(9, wrong))
    with pytest.raises(ncc.NccError, match="no dtype f16"):
        ncc.torch.module(ncc.parse(NET), dtype="f16")
    with pytest.raises(ValueError, match="threads"):
        ncc.torch.module(ncc.parse(NET), threads=-1)


def test_missing_values_are_drawn():
    net = ncc.parse(NET.replace(":1.5", ""))
    drawn = [ncc.torch.module(net, seed=s).params.detach().numpy() for s in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert np.array_equal(drawn[0][:-1], net.graph.values[:-1].astype(np.float32))
    torch.manual_seed(5)
    first = ncc.torch.module(net).params
    second = ncc.torch.module(net).params
    torch.manual_seed(5)
    assert torch.equal(ncc.torch.module(net).params, first)
    assert not torch.equal(second, first)


def test_nothing_to_train_and_nothing_to_read():
    fixed = ncc.torch.module(ncc.parse("N 02\n00\n01 square 00:=3\n"))
    x = torch.tensor([2.0], requires_grad=True)
    y = fixed(x)
    y.backward()
    assert (y.item(), x.grad.item(), fixed.params.shape) == (36.0, 36.0, (0,))
    constant = ncc.torch.module(ncc.parse("N 01\n00 00 +2\n"))
    y = constant(torch.zeros(5, 0))
    y.sum().backward()
    assert y.tolist() == [[2.0]] * 5 and constant.params.grad.tolist() == [5.0]


def test_what_is_no_number_goes_through(model):
    mine = copy.deepcopy(model)
    with torch.no_grad():
        mine.params[0] = float("nan")
    assert torch.isnan(mine(samples(4, 3))).any()
    with pytest.raises(ValueError, match="not finite"):
        mine.compiled()


def test_our_own_lines_do_not_warn(monkeypatch):
    monkeypatch.setattr(library, "PRODUCTS_A_THREAD", 0)
    net = ncc.parse("N 03\n00\n01\n02 0 00:2,01:-1e-40 +0.5\n")
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        mine = ncc.torch.module(net, threads=2)
        for x in (torch.full((300, 2), 1e38), torch.zeros(0, 2), torch.full((2,), float("nan"))):
            x.requires_grad_()
            (mine(x) * 2e36).sum().backward()
        assert mine.compiled()(np.ones(2)) == 2.5


def test_back_to_a_compiled_net(model, tmp_path):
    fn = model.compiled()
    x = samples(4, 3)
    assert np.array_equal(fn(x.numpy()), model(x).detach().numpy())
    fn.save(tmp_path / "net.o")
    assert (tmp_path / "net.h").exists()


def test_many_threads_at_once(model):
    mine = copy.deepcopy(model)
    xs = [samples(n, 3) for n in range(1, 33)]

    def work(x):
        x = x.clone().requires_grad_()
        y = mine(x)
        y.sum().backward()
        return y.detach(), x.grad

    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        got = list(pool.map(work, xs * 4))
    for x, (y, dx) in zip(xs * 4, got, strict=True):
        alone = x.clone().requires_grad_()
        assert torch.equal(y, model(x))
        model(alone).sum().backward()
        assert torch.equal(dx, alone.grad)


def test_repr(model):
    assert repr(model) == ("Module(7 neurons, 9 edges, 9 parameters, 3 inputs, 2 outputs, f32)")


def test_import_ncc_leaves_optional_libraries_alone():
    """And says which extra it is where torch is absent. (`ncc.formats.importers.neat_json` and the
    like are ncc's own.)"""
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Absent())
import ncc
ncc.from_neat, ncc.from_networkx, ncc.from_scipy, ncc.from_sklearn
found = {"torch", "scipy", "networkx", "sklearn", "joblib", "neat"} & set(sys.modules)
assert not found, found
try:
    ncc.torch
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ncc-compiler[torch]" in done.stdout


# ---- what torch records and transforms


def with_params(model):
    return lambda p, x: torch.func.functional_call(model, {"params": p}, x)


def gradient(model, x):
    """Of the sum of y, in the parameters."""
    return torch.autograd.grad(model(x).sum(), model.params)[0]


def jacobian(f, x):
    """Row by row, with autograd alone."""
    x = x.detach().requires_grad_()
    y = f(x)
    rows = [torch.autograd.grad(y, x, e.reshape(y.shape), retain_graph=True)[0]
            for e in torch.eye(y.numel(), dtype=y.dtype)]
    return torch.stack(rows).reshape(*y.shape, *x.shape)


def test_functional_gradients(exact):
    x, p = samples(4, 3, dtype=torch.float64), exact.params.detach()
    f = with_params(exact)
    expected = gradient(exact, x)
    assert torch.equal(torch.func.grad(lambda p: f(p, x).sum())(p), expected)
    with torch.no_grad():  # which torch.func looks through
        assert torch.equal(torch.func.grad(lambda p: f(p, x).sum())(p), expected)
    y, pullback = torch.func.vjp(f, p, x)
    dy = samples(4, 2, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    expected = torch.autograd.grad(exact(leaf), (exact.params, leaf), dy)
    assert torch.equal(y, exact(x))
    assert all(map(torch.equal, pullback(dy), expected))
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        torch.func.jacrev(torch.func.jacrev(exact))(x)
    with pytest.raises((RuntimeError, NotImplementedError), match="jvp|forward"):
        torch.func.jacfwd(exact)(x)


def test_functional_jacobians(exact):
    x, p = samples(4, 3, dtype=torch.float64), exact.params.detach()
    f = with_params(exact)
    for one in (x[0], x):
        assert torch.equal(torch.func.jacrev(exact)(one), jacobian(exact, one))
        assert torch.equal(torch.func.jacrev(f)(p, one), jacobian(lambda p, x=one: f(p, x), p))
    assert torch.equal(torch.autograd.functional.jacobian(exact, x, vectorize=True),
                       jacobian(exact, x))
    assert torch.equal(torch.vmap(torch.func.jacrev(exact))(x),
                       torch.stack([jacobian(exact, row) for row in x]))
    y = exact(x)
    dys = samples(5, 4, 2, dtype=torch.float64)
    many = torch.autograd.grad(y, exact.params, dys, is_grads_batched=True, retain_graph=True)[0]
    assert torch.equal(many, torch.stack([
        torch.autograd.grad(y, exact.params, dy, retain_graph=True)[0] for dy in dys]))


def test_vmap(exact):
    x, p = samples(4, 2, 3, dtype=torch.float64), exact.params.detach()
    f = with_params(exact)
    many = torch.stack([p, p * 2, p * 0.5, -p])
    assert torch.equal(torch.vmap(exact)(x), exact(x))
    assert torch.equal(torch.vmap(exact, 1, 1)(x), exact(x))
    assert torch.equal(torch.vmap(torch.vmap(exact))(x), exact(x))
    assert torch.equal(torch.vmap(f, (0, None))(many, x), torch.stack([f(q, x) for q in many]))
    assert torch.equal(torch.vmap(f)(many, x), torch.stack(list(map(f, many, x))))
    assert torch.equal(torch.vmap(f, (1, None))(many.T, x), torch.stack([f(q, x) for q in many]))
    each = torch.vmap(torch.func.grad(lambda p, x: f(p, x).sum()), (None, 0))(p, x)
    assert torch.equal(each, torch.stack([gradient(exact, row) for row in x]))
    whole = torch.func.grad(lambda p: torch.vmap(lambda x: f(p, x))(x).sum())(p)
    assert torch.allclose(whole, gradient(exact, x), rtol=1e-12)
    assert torch.vmap(exact)(x[:0]).shape == (0, 2, 2)
    assert torch.vmap(f, (0, None))(many[:0], x).shape == (0, 4, 2, 2)
    assert torch.func.jacrev(exact)(x[:0, 0]).shape == (0, 2, 0, 3)


@pytest.mark.parametrize("backend, dynamic", [("eager", None), ("aot_eager", True)])
@pytest.mark.each_choice
def test_compile(exact, backend, dynamic):
    """In one graph, of which a net is an operator; with other values each time."""
    torch._dynamo.reset()
    mine = copy.deepcopy(exact)
    plain = torch.nn.Sequential(torch.nn.Linear(4, 3).double(), mine, torch.nn.Tanh())
    made = torch.compile(plain, fullgraph=True, backend=backend, dynamic=dynamic)
    for shape in ((6, 4), (6, 4), (9, 4), (4,), (2, 3, 4)):
        x = samples(*shape, dtype=torch.float64)
        leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        y = made(leaf)
        assert torch.allclose(y, plain(other), rtol=1e-12)
        got = torch.autograd.grad(y.square().sum(), [leaf, *plain.parameters()])
        expected = torch.autograd.grad(plain(other).square().sum(), [other, *plain.parameters()])
        for a, b in zip(got, expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-9)
        with torch.no_grad():
            assert torch.allclose(made(x), plain(x), rtol=1e-12)
            mine.params.mul_(1.25)


def test_operators_keep_torchs_rules(exact):
    x, p = samples(4, 3, dtype=torch.float64), exact.params.detach()
    torch.library.opcheck(torch.ops.ncc.forward, (x, p, exact.code.key, True))
    y, *kept = torch.ops.ncc.forward(x, p, exact.code.key, True)
    for wanted in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(torch.ops.ncc.backward, (x, *kept, y, exact.code.key, 9, *wanted))


@pytest.mark.parametrize("strict", [False, True])
def test_export_is_an_operator_of_this_net(strict):
    text = NET.replace("0.5", f"0.{6 + strict}")  # whose code nothing else holds
    plain = torch.nn.Sequential(torch.nn.Linear(3, 3), ncc.torch.module(ncc.parse(text)))
    made = torch.export.export(plain, (samples(4, 3),), strict=strict)
    file = io.BytesIO()
    torch.export.save(made, file)
    x = samples(4, 3)
    expected = plain(x)
    for again in (made, torch.export.load(io.BytesIO(file.getvalue()))):
        assert torch.equal(again.module()(x), expected)
    del plain
    gc.collect()
    assert torch.equal(made.module()(x), expected)


@pytest.mark.slow
def test_what_is_recorded_finds_its_net_in_another_process(tmp_path):
    (tmp_path / "net.nal").write_text(NET)
    script = """
import sys, torch, ncc
ncc.torch
if sys.argv[1] == "save":
    model = ncc.torch.module("net.nal")
    torch.export.save(torch.export.export(model, (torch.ones(1, 3),)), "net.pt2")
else:
    made = torch.export.load("net.pt2").module()
    try:
        made(torch.ones(1, 3))
    except RuntimeError as error:
        print(error)
    model = ncc.torch.module("net.nal")
    print(torch.equal(made(torch.ones(1, 3)), model(torch.ones(1, 3))))
"""
    for how in ("save", "load"):
        done = subprocess.run([sys.executable, "-W", "ignore", "-c", script, how], cwd=tmp_path,
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    assert "make its module by ncc.torch.module" in done.stdout
    assert done.stdout.endswith("True\n")


def test_tracers_see_an_operator_and_no_constant(exact):
    make_fx = pytest.importorskip("torch.fx.experimental.proxy_tensor").make_fx
    x = samples(4, 3, dtype=torch.float64)
    made = make_fx(lambda x: exact(x).tanh())(x)
    assert torch.equal(made(2 * x), exact(2 * x).tanh())
    with pytest.raises(TypeError, match="x is a Proxy, not a tensor"):
        torch.fx.symbolic_trace(exact)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["trace", "script", "onnx", "onnx dynamo"])
def test_what_runs_without_ncc_is_refused(model, how):
    plain = torch.nn.Sequential(torch.nn.Linear(3, 3), model).eval()
    x = samples(4, 3)
    name = "torch.onnx.export" if "onnx" in how else f"torch.jit.{how}"
    if "onnx" in how:
        pytest.importorskip("onnx")
    if "dynamo" in how:
        pytest.importorskip("onnxscript")
    with pytest.raises(Exception, match=f"{name} writes a model that runs without Python and ncc"):
        if how == "trace":
            torch.jit.trace(plain, x)
        elif how == "script":
            torch.jit.script(plain)
        else:
            torch.onnx.export(plain, (x,), io.BytesIO(), dynamo="dynamo" in how)


@pytest.mark.slow
def test_an_older_torch():
    """Without vmap rules for operators: torch.compile goes around the net, and vmap is refused."""
    script = """
import torch
del torch.library.register_vmap
import ncc
model = ncc.torch.module(ncc.parse("N 03\\n00\\n01\\n02 tanh 00:2,01:-1 +0.5\\n"))
x = torch.tensor([[1.0, 2.0], [0.5, 0.25]])
made = torch.compile(lambda x: model(2 * x) + 1, backend="eager")
print(torch.equal(made(x), model(2 * x) + 1))
made(x).sum().backward()
mine, model.params.grad = model.params.grad, None
model(2 * x).sum().backward()
print(torch.equal(mine, model.params.grad))
try:
    torch.vmap(model)(x)
except NotImplementedError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("True\nTrue\nvmap of a net of ncc wants torch 2.5")
