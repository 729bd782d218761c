"""`ncc verify --against torch` and `--against keras`: every tensor on the way, and the module of
the first that is wrong."""

import functools
import os

import numpy as np
import pytest
from oracles import shared

import ncc
from ncc.cli import main

torch = pytest.importorskip("torch")
nn = torch.nn


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.TransformerEncoderLayer(4, 2, 6, batch_first=True) for _ in range(2)])
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Sequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.LSTM(3, 4, batch_first=True)
        self.second = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        made, (h, _) = self.second(self.first(x)[0])
        return self.head(made[:, -1]) + h[0, :, :2]


def images():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3),
                         nn.Tanh(), nn.Flatten(), nn.Linear(12, 2))


# The parameter that is changed; what is said of the first tensor that has another value then.
CASES = {
    "encoder": (Encoder, (3, 4), "layers.1.linear1.weight", "layers.1/relu_1[",
                "relu.default of layers.1.linear1/linear_6, module layers.1 (Trans"),
    "norm": (Encoder, (3, 4), "layers.0.norm1.weight", "layers.0.norm1/layer_norm",
             ", module layers.0.norm1 (LayerNorm)"),
    "lstm": (Sequence, (5, 3), "second.weight_hh_l0", "second/lstm_1.0",
             ", module second (LSTM)"),
    "conv": (images, (1, 5, 5), "2.weight.folded", "4/tanh", ", module 4 (Tanh)"),
}


@functools.cache
def made(kind, shape):
    """An exported program, and its net."""
    torch.manual_seed(3)
    program = torch.export.export(kind().eval(), (torch.zeros(1, *shape),), strict=False)
    return program, ncc.load(program)


def damaged(net, name):
    """The parameters, one of them changed."""
    params = net.params.copy()
    slots = net.tensors[name][0] if name in net.tensors else None
    params[int(slots.ravel()[1]) if slots is not None else 18 + 2 + 5] += 0.5
    return params


@pytest.mark.parametrize("name", CASES)
def test_module_of_the_first_wrong_tensor_is_named(name):
    program, net = made(*CASES[name][:2])
    good = net.verify(program, samples=3)
    assert good.ok and "tensors on the way" in good.text and good.title.startswith("torch ")
    wrong = ncc.nets.net.Net(net.graph.with_(values=damaged(net, CASES[name][2])), net.tensors,
                             net.places)
    said = wrong.verify(program, samples=3)
    assert not said.ok and "first diverging neuron" in said.diverging
    *_, tensor, there = CASES[name]
    assert f", {tensor}" in said.diverging or f"({tensor}" in said.diverging, said.text
    assert there in said.diverging


def test_program_in_a_file_and_weights_that_are_not_its(tmp_path, capsys):
    program, net = made(Encoder, (3, 4))
    path = tmp_path / "encoder.pt2"
    torch.export.save(program, path)
    np.save(tmp_path / "w.npy", damaged(net, "layers.0.linear1.weight"))
    command = ["verify", str(path), "--against", "torch", "--samples", "3"]
    assert main([*command, "--dtype", "f64"]) == 0
    assert "held" in capsys.readouterr().out
    assert main([*command, "--weights", str(tmp_path / "w.npy")]) == 3
    assert "there aten.relu.default of layers.0.linear1/linear_2" in capsys.readouterr().out
    assert main(["verify", str(shared("onnx/rnn.onnx")), "--against", "torch"]) == 2


def test_a_module_that_the_net_is_not_of():
    _, net = made(images, (1, 5, 5))
    torch.manual_seed(4)
    other = images()
    said = net.verify(other, samples=3)
    assert not said.ok and "module 1 (ReLU)" in said.diverging and other.training
    with pytest.raises(ncc.NccError, match="E810"):
        net.verify(nn.Linear(2, 2))


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    found = pytest.importorskip("keras")
    if found.backend.backend() != "torch":
        pytest.skip("keras has another backend")
    return found


@pytest.mark.parametrize("name", ["conv2d.h5", "rnn.keras"])
def test_models_of_keras(keras, name, capsys):
    assert main(["verify", str(shared(f"keras/{name}")), "--against", "keras", "--samples", "3"]
                ) == 0
    out = capsys.readouterr().out
    assert "against Keras 3" in out and "tensors on the way" in out


def test_layer_of_the_first_wrong_tensor_is_named(keras, tmp_path):
    layers = keras.layers
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, "tanh", name="turn"),
                              layers.Dense(3, name="back")], name="inner")
    x, y = keras.Input((3,), name="x"), keras.Input((3,), name="a")
    shared_by_both = layers.Dense(3, "tanh", name="both")
    made = inner(layers.Add()([shared_by_both(shared_by_both(x)), inner(y)]))
    model = keras.Model([x, y], layers.Dense(1, name="last")(made))
    path = tmp_path / "m.keras"
    model.save(path)
    net = ncc.from_keras(path)
    assert {"both", "both:1", "inner/turn", "inner:1/turn", "last"} <= net.places.keys()
    assert net.verify(model).ok
    for weight, first in (("inner/back/kernel", "inner/back["), ("both/kernel", "both["),
                          ("last/bias", "last[")):
        params = net.params.copy()
        params[int(net.tensors[weight][0].ravel()[0])] += 0.5
        said = ncc.nets.net.Net(net.graph.with_(values=params), net.tensors, net.places).verify(
            model, samples=3)
        assert not said.ok and (f", {first}" in said.diverging or f"({first}" in said.diverging
                                ), said.text
        assert "layer " + first.rstrip("[") in said.diverging, said.text
