"""Programs and modules of torch, against their outputs and gradients in float64."""

import numpy as np
import pytest
from oracles import compare, shared

import ncc
from ncc.formats.importers.foreign import Options
from ncc.formats.importers.registry import of_object

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.mark.parametrize("name", ["cnn2d_norm", "encoder_norm", "gru", "lstm2", "mlp_acts",
                                  "pruned"])
def test_programs_of_the_collection(name):
    held = np.load(shared(f"torch/{name}.npz"))
    net = ncc.load(shared(f"torch/{name}.pt2"))
    x = held["x"].reshape(len(held["x"]), -1)
    y = net.graph.run(x, dtype="f64")
    compare(f"torch/{name}.pt2", y, held["y64"].reshape(y.shape), "C")
    dx, _ = net.graph.gradient(x, held["dy"].reshape(y.shape), dtype="f64")
    compare(f"torch/{name}.pt2, dx", dx, held["dx64"].reshape(dx.shape), "C")
    fn = ncc.compile(net, tier="now", cache=False)
    compare(f"torch/{name}.pt2, f32", fn(x), held["y32"].reshape(y.shape).astype(np.float32), "C")


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding="same", bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 3, 1)

    def forward(self, x):
        inner = self.last(torch.relu(self.norm(self.conv(x))))
        return torch.cat([x + inner, inner.mean((2, 3), keepdim=True).expand_as(x)], 1).flatten(1)


MASK = nn.Transformer.generate_square_subsequent_mask(4)


class Scores(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Parameter(torch.randn(1, 4, 6))
        self.block = nn.TransformerEncoderLayer(6, 2, 12, activation="gelu", batch_first=True,
                                                norm_first=True)

    def forward(self, x):
        made = self.block(x + self.embed, src_mask=MASK)
        return (made @ made.transpose(1, 2)).softmax(-1).pow(2).sum(-1) / 3 - made.amax(-1)


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        out, (h, _) = self.rnn(x)
        return self.head(out[:, -1]) + h[0, :, :2]


MODULES = {
    "residual": (Residual, (3, 5, 4)), "scores": (Scores, (4, 6)), "both": (Both, (5, 3)),
    "gru": (lambda: nn.Sequential(nn.GRU(3, 4, batch_first=True)), (5, 3)),
    "rnn": (lambda: nn.Sequential(nn.RNN(3, 4, nonlinearity="relu", batch_first=True)), (5, 3)),
    "pools": (lambda: nn.Sequential(nn.Conv1d(2, 4, 3, 2, 1, 1, 2), nn.GroupNorm(2, 4), nn.Mish(),
                                    nn.AvgPool1d(2), nn.Flatten(), nn.Softplus(2.0)), (2, 9)),
    "deconv": (lambda: nn.Sequential(nn.ConvTranspose2d(2, 3, 3, 2, 1, 1), nn.PReLU(3),
                                     nn.AdaptiveAvgPool2d(2), nn.LeakyReLU(0.2)), (2, 3, 3)),
    "acts": (lambda: nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Hardswish(), nn.ELU(0.5),
                                   nn.SELU(), nn.Softsign(), nn.Hardtanh(-0.1, 0.2),
                                   nn.LogSoftmax(-1)), (4,)),
    # Of float64, torch's own gradient of celu has 8 digits.
    "celu": (lambda: nn.Sequential(nn.Linear(4, 6), nn.CELU(0.7)), (4,)),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), (4,)),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    torch.manual_seed(1)
    made, shape = MODULES[name]
    module = made().double().eval()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * 0.1)
        for _, held in module.named_buffers():
            if held.is_floating_point():
                held.add_(torch.rand_like(held))
    x = torch.randn(4, *shape, dtype=torch.float64, requires_grad=True)
    net = ncc.from_torch(module, torch.zeros(1, *shape, dtype=torch.float64))
    y = module(x)
    y = y[0] if isinstance(y, tuple) else y
    dy = torch.randn_like(y)
    y.backward(dy)
    rows = x.detach().numpy().reshape(4, -1)
    n = y[0].numel()
    compare(f"torch module {name}", net.graph.run(rows, dtype="f64")[:, :n],
            y.detach().numpy().reshape(4, -1), "C")
    seeds = np.zeros((4, len(net.outputs)))
    seeds[:, :n] = dy.numpy().reshape(4, -1)
    dx, _ = net.graph.gradient(rows, seeds, dtype="f64")
    compare(f"torch module {name}, dx", dx, x.grad.numpy().reshape(4, -1), "C",
            1e-7 if name == "celu" else None)
    assert ncc.parse(str(net.graph), "graph").graph.n_edges == net.n_edges


class Masked(nn.Module):
    """An encoder layer, causal or not."""

    def __init__(self, causal, **options):
        super().__init__()
        self.causal = causal
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, **options)

    def forward(self, x):
        return self.layer(x, src_mask=MASK if self.causal else None)


LAYERS = {
    **{f"encoder, {activation}{', first' * first}{', causal' * causal}":
       (lambda a=activation, f=first, c=causal: Masked(c, activation=a, norm_first=f), (4, 6))
       for activation in ("relu", "gelu") for first in (False, True) for causal in (False, True)},
    "lstm": (lambda: nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True), (4, 3)),
    "gru": (lambda: nn.GRU(3, 4, 2, bidirectional=True, batch_first=True), (4, 3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_all_parameters(name):
    torch.manual_seed(2)
    make, shape = LAYERS[name]
    module = make().double().eval()
    x = torch.randn(3, *shape, dtype=torch.float64, requires_grad=True)
    net = ncc.from_torch(module, torch.zeros(1, *shape, dtype=torch.float64))
    y = module(x)
    y = y[0] if isinstance(y, tuple) else y
    dy = torch.randn_like(y)
    y.backward(dy)
    rows, n = x.detach().numpy().reshape(3, -1), y[0].numel()
    seeds = np.zeros((3, len(net.outputs)))
    seeds[:, :n] = dy.numpy().reshape(3, -1)
    compare(f"torch {name}", net.graph.run(rows, dtype="f64")[:, :n],
            y.detach().numpy().reshape(3, -1), "C")
    dx, dp = net.graph.gradient(rows, seeds, dtype="f64")
    compare(f"torch {name}, dx", dx, x.grad.numpy().reshape(3, -1), "C")
    fn = ncc.compile(net, dtype="f64", tier="now", cache=False)
    compare(f"torch {name}, compiled", fn(rows)[:, :n], y.detach().numpy().reshape(3, -1), "C")
    compare(f"torch {name}, dx compiled", fn.vjp(rows)[1](seeds)[0],
            x.grad.numpy().reshape(3, -1), "C")
    known = 0
    for key, parameter in module.named_parameters():
        slots, _ = net.tensors[key]
        mine = slots >= 0
        known += int(mine.sum())
        if mine.any():
            compare(f"torch {name}, {key}", dp[slots[mine]], parameter.grad.numpy()[mine], "C")
    assert known == net.n_params


def test_a_block_of_attention_has_no_neuron_for_a_product():
    class Heads(nn.Module):
        def forward(self, x):
            q, k, v = x.split(4, -1)
            return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    net = ncc.from_torch(nn.Sequential(nn.LayerNorm(12), Heads()), torch.zeros(1, 5, 12))
    keys = 1 + 2 + 3 + 4 + 5
    norms, sums = 5 * (1 + 12 + 1 + 12), 5 * 4
    # Scores, exponentials and shares; the largest and the total of each step.
    assert net.n_neurons == 60 + norms + 3 * keys + 2 * 5 + sums


def test_pruned_weights_are_edges_no_more_and_go_back():
    import torch.nn.utils.prune as prune
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2))
    prune.random_unstructured(module[0], "weight", 0.5)
    net = ncc.from_torch(module, torch.zeros(1, 5))
    assert net.n_edges == 10 + 8 and net.n_params == 10 + 4 + 8 + 2
    state = net.to_state_dict(np.arange(net.n_params))
    assert sorted(state) == ["0.bias", "0.weight_mask", "0.weight_orig", "2.bias", "2.weight"]
    mask = module[0].weight_mask.numpy() == 1
    assert (np.sort(np.concatenate([state["0.weight_orig"][mask], *[
        state[k].ravel() for k in ("0.bias", "2.bias", "2.weight")]]))
        == np.arange(net.n_params)).all()
    np.testing.assert_array_equal(state["0.weight_orig"][~mask],
                                  module[0].weight_orig.detach().numpy()[~mask])


def test_trained_parameters_go_back_into_the_module():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.GRU(4, 2, batch_first=True)).double()
    net = ncc.from_torch(module, torch.zeros(1, 5, 3, dtype=torch.float64))
    new = net.params + np.random.default_rng(0).normal(size=net.n_params)
    module.load_state_dict({key: torch.tensor(held)
                            for key, held in net.to_state_dict(new).items()})
    x = torch.randn(1, 5, 3, dtype=torch.float64)
    y = net.graph.run(x.numpy().reshape(1, -1), new, dtype="f64")
    np.testing.assert_allclose(y[0, :10], module(x)[0].detach().numpy().ravel(), rtol=1e-12)


class Mixes(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Sorts(nn.Module):
    def forward(self, x):
        return x.sort(-1)[0]


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("module, example, code, said", [
    (Mixes(), torch.zeros(1, 3), "E814", "do not stay apart"),
    (Sorts(), torch.zeros(1, 3), "E810", "aten.sort"),
    (Branches(), torch.zeros(1, 3), "E810", "cannot trace"),
    (nn.Embedding(4, 2), torch.zeros(1, 3, dtype=torch.int64), "E817", "one-hot"),
    (nn.Linear(3, 2), torch.zeros(2, 3), "E814", "a batch of 2"),
    (nn.Sequential(nn.Linear(3, 4), nn.MaxPool1d(3, ceil_mode=True)), torch.zeros(1, 3), "E813",
     "ceil_mode"),
    (nn.Linear(3, 2), None, "E815", "an example"),
])
def test_what_is_no_net_is_refused(module, example, code, said):
    with pytest.raises(ncc.NccError) as caught:
        ncc.from_torch(module, example)
    assert caught.value.code == code and said in str(caught.value)


def test_batch_norms_may_stay_and_parameters_may_be_fixed():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    folded = of_object(module, Options(example=torch.zeros(1, 3)))
    apart = of_object(module, Options(example=torch.zeros(1, 3), no_fold=True))
    fixed = of_object(module, Options(example=torch.zeros(1, 3), trainable="none"))
    assert folded.graph.n_neurons == 7 and apart.graph.n_neurons == 11
    assert folded.notes and not apart.notes
    assert folded.graph.n_params == 16 and fixed.graph.n_params <= 16
    for made, count in ((folded, 16), (apart, 8)):
        with pytest.raises(ncc.NccError) as caught:
            ncc.Net(made.graph, tensors=made.tensors).to_state_dict()
        assert caught.value.code == "E401" and "a batch norm" in str(caught.value)
        assert f"{count} of its {made.graph.n_params} parameters" in str(caught.value)
        assert "net.params" in caught.value.help


def test_an_array_of_two_names_stands_for_no_other_parameters():
    module = nn.Sequential(nn.Linear(3, 3, False), nn.Linear(3, 3, False), nn.BatchNorm1d(3)).eval()
    module[1].weight = module[0].weight
    net = ncc.from_torch(module, torch.zeros(1, 3), no_fold=True)
    assert net.n_params == 9 + 6
    with pytest.raises(ncc.NccError, match="6 of its 15 parameters"):
        net.to_state_dict()
    module = module[:2]
    back = ncc.from_torch(module, torch.zeros(1, 3)).to_state_dict(np.arange(9.0))
    assert back.keys() == module.state_dict().keys()
    for held in back.values():  # so that it does not matter which is loaded last
        assert np.array_equal(held, np.arange(9.0).reshape(3, 3))
