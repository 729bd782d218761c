"""`ncc verify --against onnxruntime`: models, exports, and what is said of a net that is wrong."""

import numpy as np
import pytest
from oracles import shared

import ncc
from ncc.cli import main

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


@pytest.mark.parametrize("name", ["cnn", "lstm", "attention_primitives"])
def test_models_of_the_collection(name, capsys):
    assert main(["verify", str(shared(f"onnx/{name}.onnx")), "--against", "onnxruntime"]) == 0
    out = capsys.readouterr().out
    assert "against onnxruntime 1" in out and "held" in out


def test_exports_of_other_nets(tmp_path, capsys):
    path = tmp_path / "net.nal"
    path.write_text("N 4\n0\n1\n2 tanh 0:1,1:-2 +0.5\n3 gelu max 0:0.5,2:3\n")
    assert main(["verify", str(path), "--against", "onnxruntime"]) == 0
    assert "of the net's export" in capsys.readouterr().out


def test_first_diverging_tensor_is_named_by_its_node(tmp_path, capsys):
    rng = np.random.default_rng(0)
    weights = {"w1": rng.normal(size=(3, 4)), "w2": rng.normal(size=(4, 4)),
               "w3": rng.normal(size=(4, 2))}
    nodes = [helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
             helper.make_node("Tanh", ["a"], ["b"]),
             helper.make_node("MatMul", ["b", "w2"], ["c"], name="second"),
             helper.make_node("Sigmoid", ["c"], ["d"], name="gate"),
             helper.make_node("MatMul", ["d", "w3"], ["y"], name="last")]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()])
    path = tmp_path / "deep.onnx"
    onnx.save(helper.make_model(graph, ir_version=8,
                                opset_imports=[helper.make_opsetid("", 18)]), path)
    net = ncc.load(path)
    assert [label.name for label in net.graph.labels] == ["x", "y", "b", "d"]
    params = net.graph.values.copy()
    params[12 + 5] += 0.5  # a weight of the second product, to the second of its neurons
    np.save(tmp_path / "w.npy", params)
    command = ["verify", str(path), "--against", "onnxruntime"]
    assert main(command) == 0
    assert main([*command, "--weights", str(tmp_path / "w.npy")]) == 3
    out = capsys.readouterr().out
    assert "first diverging neuron 08 (d[0,1])" in out and "there Sigmoid, node gate" in out
