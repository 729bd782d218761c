"""LSTMs, GRUs, attention and transformers that are made, against torch's modules with the same
weights: outputs and gradients of float64."""

import re

import numpy as np
import pytest

from ncc import NccError
from ncc.nets.generate.kinds import new

torch = pytest.importorskip("torch")
nn = torch.nn


class Recurrent(nn.Module):
    def __init__(self, kind, inputs, h, layers, outputs, bidirectional=False, bias=True):
        super().__init__()
        self.rnn = getattr(nn, kind)(inputs, h, layers, batch_first=True, bias=bias,
                                     bidirectional=bidirectional)
        self.head = nn.Linear(h * (1 + bidirectional), outputs, bias=bias)

    def forward(self, x):
        _, state = self.rnn(x)
        h = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat(list(h[-2:] if self.rnn.bidirectional else h[-1:]), -1))


class Residual(nn.Module):
    """Layers of one width, each added to what it reads, but for the first one."""

    def __init__(self, kind, inputs, h, layers, bidirectional):
        super().__init__()
        ends = 1 + bidirectional
        self.rnn = nn.ModuleList([
            getattr(nn, kind)(inputs if k == 0 else ends * h, h, batch_first=True,
                              bidirectional=bidirectional) for k in range(layers)])
        self.head, self.h = nn.Linear(ends * h, 2), h

    def forward(self, x):
        for layer in self.rnn:
            y, _ = layer(x)
            x = y + x if x.shape == y.shape else y
        return self.head(torch.cat([x[:, -1, : self.h], x[:, 0, self.h :]], -1))

    def load_state_dict(self, held):
        super().load_state_dict({re.sub(r"rnn\.(.*)_l(\d)", r"rnn.\2.\1_l0", name): value
                                 for name, value in held.items()})


class Heads(nn.Module):
    def __init__(self, width, heads, causal, steps, bias=True):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, bias=bias, batch_first=True)
        self.mask = nn.Transformer.generate_square_subsequent_mask(
            steps, dtype=torch.float64) if causal else None

    def forward(self, x):
        return self.attention(x, x, x, attn_mask=self.mask)[0].flatten(1)

    def load_state_dict(self, held):
        self.attention.load_state_dict(held)


class Additive(nn.Module):
    def __init__(self, width, causal):
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.score, self.causal = nn.Linear(width, 1, bias=False), causal

    def forward(self, x):
        met = torch.tanh(self.query(x)[:, :, None] + self.key(x)[:, None])
        scores = self.score(met)[..., 0]
        if self.causal:
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        return (scores.softmax(-1) @ x).flatten(1)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict({"c_attn": nn.Linear(width, 3 * width),
                                   "c_proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width),
                                  "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (part.view(b, t, self.heads, -1).transpose(1, 2)
                   for part in self.attn["c_attn"](self.ln_1(x)).split(d, -1))
        seen = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](seen.transpose(1, 2).reshape(b, t, d))
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class Transformer(nn.Module):
    def __init__(self, steps, symbols, width, heads, layers, last=False):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(symbols, width), nn.Embedding(steps, width)
        self.h = nn.ModuleList([Block(width, heads) for _ in range(layers)])
        self.ln_f, self.last = nn.LayerNorm(width), last

    def forward(self, x):
        x = x @ self.wte.weight + self.wpe.weight
        for block in self.h:
            x = block(x)
        y = self.ln_f(x) @ self.wte.weight.T
        return (y[:, -1:] if self.last else y).flatten(1)


NETS = {
    "lstm 3x4 h5 o2": lambda: Recurrent("LSTM", 3, 5, 1, 2),
    "lstm 3x4 h4 l2 --bidirectional": lambda: Recurrent("LSTM", 3, 4, 2, 3, True),
    "gru 3x4 h4 l3": lambda: Recurrent("GRU", 3, 4, 3, 3),
    "gru 2x3 h3 l2 --bidirectional": lambda: Recurrent("GRU", 2, 3, 2, 2, True),
    "gru 2x3 h3 --no-bias": lambda: Recurrent("GRU", 2, 3, 1, 2, bias=False),
    "lstm 2x3 h3 l3 --residual": lambda: Residual("LSTM", 2, 3, 3, False),
    "gru 2x3 h3 l2 --residual --bidirectional": lambda: Residual("GRU", 2, 3, 2, True),
    "attention 5x6 h3": lambda: Heads(6, 3, False, 5),
    "attention 5x6 h2 --causal": lambda: Heads(6, 2, True, 5),
    "attention 4x6 --no-bias": lambda: Heads(6, 1, False, 4, bias=False),
    "attention 5x4 --additive": lambda: Additive(4, False),
    "attention 5x4 --additive --causal": lambda: Additive(4, True),
    "transformer 4x5 d4 h2 l2": lambda: Transformer(4, 5, 4, 2, 2),
    "transformer 3x4 d6 h3 --last": lambda: Transformer(3, 4, 6, 3, 1, True),
}


def made(text):
    words = text.split()
    options = {word[2:]: True for word in words if word.startswith("--")}
    if options.pop("no-bias", False):
        options["bias"] = False
    return new(words[0], *[word for word in words[1:] if not word.startswith("--")], **options)


@pytest.mark.parametrize("text", NETS)
def test_it_is_torchs_module(text):
    net = made(text)
    rng = np.random.default_rng(0)
    params = rng.normal(size=net.n_params) * 0.5
    graph = net.graph.with_(values=params)
    module = NETS[text]().double()
    module.load_state_dict({name: torch.tensor(value)
                            for name, value in net.to_state_dict(params).items()})
    x = rng.normal(size=(3, len(net.inputs)))
    given = torch.tensor(x).reshape(3, *net.graph.labels[0].shape).requires_grad_()
    y = module(given)
    assert abs(graph.run(x, dtype="f64") - y.detach().numpy()).max() <= 1e-12
    dy = rng.normal(size=y.shape)
    (y * torch.tensor(dy)).sum().backward()
    dx, dp = graph.gradient(x, dy, dtype="f64")
    assert abs(dx - given.grad.numpy().reshape(3, -1)).max() <= 1e-12

    def named(held):
        """Arrays by our names as a dictionary by the module's."""
        module.load_state_dict({name: torch.tensor(value) for name, value in held.items()})
        return {name: value.numpy().copy() for name, value in module.state_dict().items()}

    mine = named(net.to_state_dict(dp))
    slots = named({name: np.where(slots >= 0, 1.0, 0) for name, (slots, _) in net.tensors.items()})
    for name, p in module.named_parameters():
        grad = p.grad.numpy()
        assert abs(np.where(slots[name], mine[name] - grad, 0)).max() <= 1e-11, name
    # What is no parameter here is one of two biases that are only added.
    assert all(slots[name].all() for name in slots if "bias_hh" not in name)


def test_values_that_are_not_drawn():
    net = new("transformer", "3x4 d4", init="xavier")
    slots, values = net.tensors["ln_f.weight"]
    assert (net.params[slots] == 1).all() and (values == 1).all()
    assert (net.params[net.tensors["wpe.weight"][0]] == 0).all()  # biases, to ncc
    assert len(set(net.params[net.tensors["wte.weight"][0]].ravel().tolist())) == 16


@pytest.mark.parametrize(("words", "code"), [
    ("lstm 2x3", "E652"), ("lstm 2 h4", "E652"), ("gru 2x3 h4 x1", "E652"),
    ("lstm 2x3 h4 --residual", "E654"), ("attention", "E652"), ("attention 4x8 h3", "E654"),
    ("attention 4x8 h2 --additive", "E654"), ("attention 4x8 h2 h2", "E652"),
    ("transformer 4x8 d6 h4", "E654"), ("transformer 4x8 q1", "E652"), ("transformer", "E652"),
    ("lstm 1000x10000 h10000", "E655"), ("transformer 100000x4 d64", "E655"),
    ("attention 100000x64", "E655"), ("gru 2x3 h4 --causal", "E651")])
def test_refused_sizes(words, code):
    with pytest.raises(NccError) as error:
        made(words)
    assert error.value.code == code
