"""Files of safetensors, as its library and as torch see them; parameters that go to torch and come
from there."""

import functools
import json

import numpy as np
import pytest
from oracles import mutants, shared

import ncc
from ncc.cli import main
from ncc.errors import NccError
from ncc.formats import safetensors

ARRAYS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3) / 7, "b": np.array(2.5),
          "count": np.array(3), "mask": np.array([True, False, True]),
          "none": np.zeros((0, 4), np.float32), "half": np.arange(3, dtype=np.float16)}


def same(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and a[k].shape == b[k].shape and (a[k] == b[k]).all() for k in a)


def test_what_is_written_is_read_here_and_by_the_library(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.encode(ARRAYS))
    assert same(safetensors.read(path), ARRAYS)
    library = pytest.importorskip("safetensors.numpy")
    assert same(library.load_file(path), ARRAYS)
    library.save_file(ARRAYS, path, {"format": "pt"})
    assert same(safetensors.read(path), ARRAYS)


def test_bfloat16_is_widened(tmp_path):
    path = tmp_path / "x.safetensors"
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\x80\x3f\xc0\xbf")
    assert safetensors.read(path)["w"].tolist() == [1.0, -1.5]


def test_forged_headers_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    good = safetensors.encode({"w": np.zeros((2, 2)), "v": np.ones(3, np.float32)})
    forged = [b"", b"\x01", b"\xff" * 8, (2**40).to_bytes(8, "little") + good[8:],
              good.replace(b"[2,2]", b"[2,3]"), good.replace(b"[2,2]", b"[-2]"),
              good.replace(b"[0,32]", b"[32,0]"), good.replace(b"[0,32]", b"[0,99]"),
              good.replace(b"[2,2]", b"[281474976710657,2]"), good.replace(b"F64", b"F65"),
              good.replace(b"F64", b"XXX"), good.replace(b'{"w"', b'[["w"'),
              (10**5).to_bytes(8, "little") + b"[" * 10**5]
    for data in forged:
        path.write_bytes(data)
        with pytest.raises(NccError, match="E140"):
            safetensors.read(path)
    for data in mutants(good, 1, 300):
        path.write_bytes(data)
        try:
            assert all(held.nbytes <= len(data) for held in safetensors.read(path).values())
        except NccError as error:
            assert error.code == "E140"


@functools.cache
def modules():
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm1d(4)
            self.rnn = nn.LSTM(4, 3, 2, batch_first=True)
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            made = torch.relu(self.norm(self.conv(x)))
            return self.head(self.rnn(made.transpose(1, 2))[0][:, -1])

    torch.manual_seed(0)
    first = Both().eval()
    other = Both().eval()
    with torch.no_grad():
        for held in other.buffers():
            if held.is_floating_point():
                held.add_(torch.rand_like(held))
    return torch, first, other


def outputs(net, x, tmp_path, capsys, *more):
    rows = tmp_path / "x.npy"
    np.save(rows, x.reshape(len(x), -1))
    assert main(["run", str(net), "--input", str(rows), *more]) == 0
    return np.loadtxt(capsys.readouterr().out.splitlines(), delimiter=",")


def test_a_program_with_the_parameters_of_a_file(tmp_path, capsys):
    library = pytest.importorskip("safetensors.torch")
    torch, first, other = modules()
    x = torch.randn(3, 3, 5)
    program, weights = tmp_path / "net.pt2", tmp_path / "w.safetensors"
    torch.export.save(torch.export.export(first, (x[:1],), strict=False), program)
    library.save_file(other.state_dict(), weights)
    y = outputs(program, x.numpy(), tmp_path, capsys, "--weights", str(weights))
    assert np.abs(y - other(x).detach().numpy()).max() < 1e-5
    assert np.abs(y - first(x).detach().numpy()).max() > 1e-2
    state = other.state_dict()
    del state["rnn.bias_hh_l1"]
    library.save_file(state, weights)
    assert main(["run", str(program), "--input", str(tmp_path / "x.npy"), "--weights",
                 str(weights)]) == 1
    assert "E816" in capsys.readouterr().err


def test_trained_parameters_go_back(tmp_path, capsys):
    library = pytest.importorskip("safetensors.torch")
    torch, _, _ = modules()
    nn = torch.nn
    module = nn.Sequential(nn.LSTM(3, 4, batch_first=True)).eval()
    example = torch.zeros(1, 4, 3)
    net = ncc.from_torch(module, example)
    program, out = tmp_path / "net.pt2", tmp_path / "trained.safetensors"
    torch.export.save(torch.export.export(module, (example,), strict=False), program)
    params = np.random.default_rng(1).normal(size=net.n_params)
    np.save(tmp_path / "w.npy", params)
    assert main(["export", str(program), "--weights", str(tmp_path / "w.npy"), "-o", str(out)]) == 0
    held = library.load_file(out)
    assert all(value.dtype == torch.float32 for value in held.values())
    module.load_state_dict(held)  # every name, and no other
    x = torch.randn(5, 4, 3)
    y = net.graph.with_(values=params).run(x.numpy().reshape(5, -1))
    assert np.abs(y[:, :16] - module(x)[0].detach().numpy().reshape(5, -1)).max() < 1e-5
    net.export(tmp_path / "own.safetensors")
    assert safetensors.read(tmp_path / "own.safetensors").keys() == held.keys()


def test_a_module_with_statistics_goes_back_whole():
    torch, _, _ = modules()
    nn = torch.nn
    module = nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Linear(4, 2))
    module.register_buffer("steps", torch.tensor(7))
    net = ncc.from_torch(module, torch.zeros(1, 3))
    state = net.to_state_dict(net.params + 1)
    assert state["steps"] == 7 and state["steps"].dtype == np.int64
    module.load_state_dict({name: torch.as_tensor(held) for name, held in state.items()})


def test_parameters_by_name_of_other_models(tmp_path, capsys):
    pytest.importorskip("onnx")
    model = shared("onnx/pruned_mlp.onnx")
    net = ncc.load(model)
    out = tmp_path / "w.safetensors"
    params = np.arange(net.n_params) / 8 + 0.125
    np.save(tmp_path / "w.npy", params)
    assert main(["export", str(model), "--weights", str(tmp_path / "w.npy"), "-o", str(out)]) == 0
    command = ["build", str(model), "--weights", str(out), "--emit", "graph"]
    capsys.readouterr()
    assert main(command) == 0
    assert ncc.parse(capsys.readouterr().out, "graph").params.tolist() == params.tolist()
    held = safetensors.read(out)
    name = next(iter(held))
    out.write_bytes(safetensors.encode({**held, name: held[name][:1]}))
    assert main(command) == 1
    assert "E141" in capsys.readouterr().err


def test_a_net_without_names_has_one_vector(tmp_path, capsys):
    path, out = tmp_path / "a.nal", tmp_path / "w.safetensors"
    path.write_text("N 02\n00\n01 tanh 00\n")
    assert main(["export", str(path), "-o", str(out)]) == 1
    assert "E607" in capsys.readouterr().err
    assert main(["export", str(path), "--init", "shared:0.5", "-o", str(out)]) == 0
    assert safetensors.read(out)["params"].tolist() == [0.5]
    assert main(["run", str(path), "--weights", str(out), "--input", str(tmp_path / "x.csv")]) == 1
    (tmp_path / "x.csv").write_text("1\n")
    assert main(["run", str(path), "--weights", str(out), "--input", str(tmp_path / "x.csv")]) == 0
    out.write_bytes(safetensors.encode({"w": np.zeros(2)}))
    assert main(["run", str(path), "--weights", str(out), "--input", str(tmp_path / "x.csv")]) == 1
    assert "only a vector" in capsys.readouterr().err
