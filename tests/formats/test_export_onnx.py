"""Nets as ONNX models: onnxruntime computes the same, and so does what is imported of them."""

import numpy as np
import pytest

import ncc
from ncc.ir.graph import AGGREGATIONS
from ncc.scalar.activations import ACTIVATIONS

pytest.importorskip("onnx")
OWN = ["max(0.5,x)*min(x,1)", "x^5/(1+x^2)", "log1p(abs(x))", "step(x-0.1)*expm1(x)", "max(x,-x)"]
SINGLE = {"gelu", "erf", "atan"}  # of which onnxruntime has no float64


def a_net(seed, dtype, states=False):
    """All activations and aggregations, own functions, shared and own in-lists, ties, constants."""
    rng = np.random.default_rng(seed)
    names = [a.name for a in ACTIVATIONS if a.name not in ("log", "sqrt", "rsqrt", "recip")
             and (dtype == "f32" or a.name not in SINGLE)]
    lines, at = [], 7

    def read(n):
        found = sorted(rng.choice(max(at - 20, 0) + np.arange(min(at, 20)), n, replace=False))
        return [f"{i:x}" for i in found]

    def add(text):
        nonlocal at
        lines.append(f"{at:x} {text}")
        at += 1

    for k, name in enumerate([*names, "20", "21", "22", "23", "24"]):
        agg = AGGREGATIONS[k % len(AGGREGATIONS)]
        edges = [f"{i}:{'=' * int(rng.integers(2))}{rng.normal():.3f}" for i in read(1 + k % 4)]
        if agg == "div":  # by the inputs, which are not 0
            edges = [f"{i}:{rng.normal():.3f}" for i in range(1 + k % 4)]
        if agg == "dot":
            edges = [f"{i}*{edge}" for i, edge in zip(read(len(edges)), edges, strict=True)]
        bias = ("", f" +{rng.normal():.3f}", f" +={rng.normal():.3f}")[k % 3]
        add(f"{name} {'' if agg == 'sum' else agg + ' '}{','.join(edges)}{bias}")
    shared = ",".join(read(6))
    for _ in range(5):
        weights = [f"{i}:{rng.normal():.3f}" for i in shared.split(",")]
        if states:
            weights.append(f"~{at - 1:x}:{rng.normal():.3f}")
        add(f"tanh {','.join(weights)} +{rng.normal():.3f}")
    add(f"sigmoid {read(1)[0]}@t:0.5")
    add(f"identity {read(1)[0]}@t")
    add("identity +0.25")
    outs = ",".join(f"{i:x}" for i in (at - 1, at - 9, at - 4, 3, at - 12))
    head = [f"N {at:x}", f"out {outs}", f"dtype {dtype}",
            *[f"fn {0x20 + k:x} {text}" for k, text in enumerate(OWN)],
            *[f"{i:x}" for i in range(7)]]
    return ncc.parse("\n".join(head + lines) + "\n")


def runs(model, feeds):
    runtime = pytest.importorskip("onnxruntime")
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = runtime.InferenceSession(model.SerializeToString(), settings,
                                       providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def near(y, expected, dtype):
    limit = {"f32": 1e-5, "f64": 1e-12}[dtype]
    with np.errstate(invalid="ignore"):
        apart = np.where((y == expected) | np.isnan(y) & np.isnan(expected), 0, abs(y - expected))
    finite = np.abs(expected[np.isfinite(expected)])
    assert apart.max() <= limit * max(1, finite.max(initial=0))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("seed", range(4))
def test_onnxruntime_and_what_is_imported_agree(seed, dtype):
    net = a_net(seed, dtype)
    x = np.random.default_rng(seed).normal(size=(9, 7)).astype({"f32": "f4", "f64": "f8"}[dtype])
    model = net.to_onnx()
    expected = net.graph.run(x, dtype=dtype, numerics="strict")
    near(runs(model, {"x": x})[0], expected, dtype)
    back = ncc.from_onnx(model)
    near(back.graph.run(x, dtype=dtype), expected, dtype)
    assert (back.graph.n_inputs, len(back.outputs), back.graph.dtype) == (7, 5, dtype)


@pytest.mark.parametrize("name", ["log", "sqrt", "rsqrt", "recip"])
def test_functions_of_positive_numbers(name):
    net = ncc.parse(f"N 3\n0\n1\n2 {name} 0:0.5,1:2 +0.1\n")
    x = np.random.default_rng(1).uniform(0.1, 2, (8, 2)).astype(np.float32)
    near(runs(net.to_onnx(), {"x": x})[0], net.graph.run(x, dtype="f32"), "f32")


def test_states_are_an_input_and_an_output():
    net = a_net(3, "f32", states=True)
    x = np.random.default_rng(2).normal(size=(4, 7)).astype(np.float32)
    expected = net.graph.run_steps(x, None, "f32", "strict")
    model, state, rows = net.to_onnx(), np.zeros((1, len(net.states)), np.float32), []
    for row in x:
        y, state = runs(model, {"x": row[None], "state": state})
        rows.append(y[0])
    near(np.array(rows), expected, "f32")


def test_a_layer_is_one_product(tmp_path):
    net = ncc.parse(
        "N 8\n0\n1\n2\n3 relu 0:1,1:2,2:3 +1\n4 relu 0:2,1:1,2:5 +1\n5 relu 0:2,1:7,2:5 +1\n"
        "6 tanh 3:1,4:2,5:0.5\n7 tanh 3:1,4:2,5:1.5\n")
    path = tmp_path / "net.onnx"
    net.export(path)
    import onnx
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds == ["Gemm", "Relu", "Gemm", "Tanh", "Identity"]
    back = ncc.load(path)
    assert (back.n_neurons, back.n_edges, back.n_params) == (8, 15, 18)


def test_what_is_no_model():
    with pytest.raises(ncc.NccError) as caught:
        ncc.parse("N 2\n0\n1 tanh 0\n").to_onnx()
    assert caught.value.code == "E607"
    many = ",".join(f"{i:x}" for i in range(300))
    rows = "\n".join(f"{i:x}" for i in range(300))
    net = ncc.parse(f"N 12d\n{rows}\n12c identity maxabs {many}\n")
    with pytest.raises(ncc.NccError, match="maxabs") as caught:
        ncc.Net(net.graph.with_(values=np.ones(300))).to_onnx()
    assert caught.value.code == "E401"
