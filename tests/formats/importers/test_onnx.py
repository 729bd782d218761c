"""ONNX models against the outputs of the collection, onnx's own cases, its evaluator; refusals."""

import numpy as np
import pytest
from oracles import compare, mutants, shared, survives

import ncc
from ncc.cli import main

onnx = pytest.importorskip("onnx")
import onnx_cases  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

NAMES = ["attention_primitives", "cnn", "conv1d_dilated_groups", "elementwise_mix",
         "gemm_alpha_transb_bias_row", "gru", "layernorm_mlp", "lstm", "pruned_mlp", "rnn",
         "softmax_opset11_axis1", "softmax_opset13"]


@pytest.mark.parametrize("name", NAMES)
def test_models_of_the_collection(name):
    held = np.load(shared(f"onnx/{name}.npz"))
    net = ncc.load(shared(f"onnx/{name}.onnx"))
    (x,) = [held[key] for key in held if key.startswith("in_")]
    x = x.reshape(-1, net.graph.n_inputs)
    expected = np.concatenate([held[key].reshape(len(x), -1) for key in held
                               if key.startswith("out_")], axis=1)
    y = net.graph.run(x, dtype="f64").astype(np.float32)
    compare(f"onnx/{name}.onnx", y, expected, "C")
    assert net.graph.labels[0].name == "x" and net.graph.dtype == "f32"
    assert ncc.parse(str(net.graph), "graph").graph.n_edges == net.n_edges


def test_dilated_same_padding_as_onnx_evaluates_it():
    path = shared("onnx/conv1d_dilated_groups_same.onnx")
    x = np.random.default_rng(0).standard_normal((3, 18)).astype(np.float32)
    expected = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x.reshape(3, 2, 9)})[0]
    y = ncc.load(path).graph.run(x, dtype="f64").astype(np.float32)
    compare("onnx/conv1d_dilated_groups_same.onnx", y, expected, "C")


def test_refused_operator_of_the_collection():
    with pytest.raises(ncc.NccError, match="node y: TopK") as caught:
        ncc.load(shared("onnx/refuse_topk.onnx"))
    assert caught.value.code == "E810"


SAMPLE = {
    "abs": "abs", "acos": "acos", "asinh": "asinh", "celu": "celu", "clip": "clip",
    "averagepool": "averagepool_2d_ceil averagepool_2d_pads_count_include_pad "
                   "averagepool_2d_same_lower averagepool_2d_ceil_last_window_starts_on_pad",
    "batch_normalization": "batchnorm_epsilon", "concat": "concat_2d_axis_1",
    "conv": "conv_with_strides_padding", "div": "div_bcast",
    "convtranspose": "convtranspose_output_shape convtranspose_pads",
    "depthtospace": "depthtospace_example", "einsum": "einsum_batch_matmul",
    "expand": "expand_dim_changed", "gather": "gather_0", "gelu": "gelu_tanh_1",
    "gemm": "gemm_all_attributes", "gru": "gru_with_initial_bias gru_seq_length",
    "groupnormalization": "group_normalization_example", "hardsigmoid": "hardsigmoid_default",
    "instance_normalization": "instancenorm_epsilon", "lpnormalization": "l2normalization_axis_0",
    "logsoftmax": "logsoftmax_axis_1", "lrn": "lrn", "max": "max_example",
    "lstm": "lstm_with_peepholes lstm_with_initial_bias", "matmul": "matmul_3d",
    "maxpool": "maxpool_2d_ceil_output_size_reduce_by_one", "mean": "mean_example",
    "prelu": "prelu_broadcast", "pow": "pow_bcast_scalar", "where": "where_example",
    "reduce_log_sum_exp": "reduce_log_sum_exp_keepdims_random",
    "reducel2": "reduce_l2_negative_axes_keep_dims_random", "selu": "selu",
    "resize": "resize_upsample_scales_nearest", "shrink": "shrink_soft",
    "rnn": "simple_rnn_batchwise", "softmax": "softmax_axis_0", "tile": "tile",
    "split": "split_equal_parts_2d", "thresholdedrelu": "thresholdedrelu",
    "attention": "attention_4d_causal",
}


def test_sample_of_the_cases():
    found = {case.name: case for case in onnx_cases.cases(*SAMPLE)}
    names = [f"test_{name}" for names in SAMPLE.values() for name in names.split()]
    results = [onnx_cases.run(found[name]) for name in names if name in found]
    bad = [result for result in results if result.how != "passed"]
    assert len(results) >= 40 and not bad, bad


@pytest.mark.slow
def test_all_cases():
    results = [onnx_cases.run(case) for case in onnx_cases.cases()]
    assert not [result for result in results if result.how == "wrong"]
    assert sum(result.how == "passed" and result.reals for result in results) >= 445


# -- models made here

def model_of(nodes, inputs, outputs, weights=(), opset=18, kind=TensorProto.FLOAT, **more):
    """Inputs and outputs are name=shape; a name as a size is symbolic."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, kind, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, kind, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(w), n) for n, w in dict(weights).items()])
    return helper.make_model(graph, ir_version=8,
                             opset_imports=[helper.make_opsetid("", opset)], **more)


RNG = np.random.default_rng(7)


def reals(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def agrees(model, x, expected=None, **options):
    net = ncc.from_onnx(model, **options)
    rows = x.reshape(-1, net.graph.n_inputs)
    if expected is None:
        (name,) = [held.name for held in model.graph.input]
        expected = ReferenceEvaluator(model).run(None, {name: x})[0]
    y = net.graph.run(rows, dtype="f64").astype(np.float32)
    compare("onnx model", y, expected.reshape(y.shape).astype(np.float32), "C")
    return net


def test_bias_after_a_product_is_one_neuron():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]),
             helper.make_node("Add", ["b", "h"], ["z"]), helper.make_node("Tanh", ["z"], ["y"])]
    model = model_of(nodes, {"x": ["N", 4]}, {"y": ["N", 3]}, {"w": reals(4, 3), "b": reals(3)})
    net = agrees(model, reals(5, 4))
    assert (net.n_neurons, net.n_edges, net.n_params) == (7, 12, 15)
    assert set(net.to_state_dict()) == {"w", "b"}
    assert ncc.from_onnx(model, trainable="none").n_params == 0


def test_norm_is_folded_into_a_convolution():
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"], pads=[1, 0]),
             helper.make_node("BatchNormalization", ["h", "s", "b", "m", "v"], ["y"])]
    weights = {"w": reals(3, 2, 2), "s": reals(3), "b": reals(3), "m": reals(3),
               "v": abs(reals(3))}
    model = model_of(nodes, {"x": ["N", 2, 5]}, {"y": ["N", 3, 5]}, weights)
    folded = agrees(model, reals(4, 2, 5))
    apart = agrees(model, reals(4, 2, 5), no_fold=True)
    assert apart.n_neurons == folded.n_neurons + 15


def test_mask_of_a_pruned_weight_makes_no_edges():
    mask = (RNG.random((4, 3)) < 0.5).astype(np.float32)
    nodes = [helper.make_node("Mul", ["w", "mask"], ["p"]),
             helper.make_node("MatMul", ["x", "p"], ["y"])]
    model = model_of(nodes, {"x": ["N", 4]}, {"y": ["N", 3]}, {"w": reals(4, 3), "mask": mask})
    assert agrees(model, reals(2, 4)).n_edges == int(mask.sum())


def test_causal_mask_leaves_products_out():
    mask = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
             helper.make_node("MatMul", ["x", "t"], ["s"]),
             helper.make_node("Add", ["s", "mask"], ["m"]),
             helper.make_node("Softmax", ["m"], ["p"]),
             helper.make_node("MatMul", ["p", "x"], ["y"])]
    model = model_of(nodes, {"x": ["N", 3, 2]}, {"y": ["N", 3, 2]}, {"mask": mask})
    agrees(model, reals(4, 3, 2))
    model.graph.node[3].op_type = "Exp"
    refused("E813", "only a softmax", model)


def test_functions_and_branches_are_inlined():
    inner = helper.make_function("own", "twice", ["a"], ["b"], [
        helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 18)])
    then = helper.make_graph([helper.make_node("Neg", ["h"], ["o"])], "t", [], [
        helper.make_tensor_value_info("o", TensorProto.FLOAT, None)])
    other = helper.make_graph([helper.make_node("Exp", ["h"], ["o"])], "e", [], [
        helper.make_tensor_value_info("o", TensorProto.FLOAT, None)])
    nodes = [helper.make_node("twice", ["x"], ["h"], domain="own"),
             helper.make_node("If", ["c"], ["i"], then_branch=then, else_branch=other),
             helper.make_node("Softplus", ["i"], ["y"])]
    model = model_of(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {"c": np.array(True)},
                     functions=[inner])
    model.opset_import.append(helper.make_opsetid("own", 1))
    x = reals(2, 3)
    agrees(model, x, np.log1p(np.exp(-2 * x.astype(np.float64))))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_recurrent_layers_with_states(kind, direction):
    ends, gates = 2 if direction == "bidirectional" else 1, {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    weights = {"w": reals(ends, gates * 3, 2), "r": reals(ends, gates * 3, 3),
               "b": reals(ends, gates * 6), "h": reals(ends, 1, 3), "c": reals(ends, 1, 3)}
    names = ["x", "w", "r", "b", "", "h"] + ["c"] * (kind == "LSTM")
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(kind, names, ["y"], hidden_size=3, direction=direction, **more)
    model = model_of([node], {"x": [4, "N", 2]}, {"y": [4, ends, "N", 3]}, weights, 14)
    x = reals(4, 1, 2)
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(),
                                       providers=["CPUExecutionProvider"])
    agrees(model, x, session.run(None, {"x": x})[0], dim={"N": 1})
    refused("E814", "axis 1 of input x has no size, but is called N", model)


def test_shapes_come_from_the_options(tmp_path):
    model = model_of([helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
                     {"x": ["N", "T"]}, {"y": []}, opset=12)
    for options in ({"dim": {"T": 3, "N": 1}}, {"shape": {"x": (1, 3)}}):
        assert ncc.from_onnx(model, **options).graph.n_inputs == 3
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert main(["check", str(path), "--dim", "T=3", "--dim", "N=1"]) == 0
    assert main(["check", str(path), "--shape", "x=1x3"]) == 0
    assert ncc.load(path, dim=["T=3", "N=2"]).graph.n_inputs == 6
    refused("E814", "T=many", path, dim=("T=many",))


def test_data_beside_the_file(tmp_path):
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 40]},
                     {"y": ["N", 30]}, {"w": reals(40, 30)})
    path = tmp_path / "big.onnx"
    x = reals(2, 40)
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    onnx.save(model, path, save_as_external_data=True, location="big.bin", size_threshold=0)
    net = ncc.load(path)
    compare("external data", net.graph.run(x, dtype="f64").astype(np.float32), expected, "C")
    (tmp_path / "big.bin").unlink()
    refused("E815", "another file", path)


def test_inputs_and_outputs_one_after_another():
    nodes = [helper.make_node("Sub", ["a", "b"], ["d"]), helper.make_node("Mul", ["a", "b"], ["p"])]
    model = model_of(nodes, {"a": ["N", 2], "b": ["N", 2]}, {"d": ["N", 2], "p": ["N", 2]},
                     kind=TensorProto.DOUBLE)
    net = ncc.load(model)
    assert net.graph.run([[1.0, 2, 3, 5]]).tolist() == [[-2, -3, 3, 10]]
    assert [str(label.name) for label in net.graph.labels] == ["a", "b", "d", "p"]
    assert net.graph.dtype == "f64"


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, 18])
def test_attributes_of_early_opsets_are_inputs_later(opset):
    """Slice, Squeeze, Unsqueeze, Pad, Clip, Split, ReduceSum, and Softmax and BatchNormalization,
    whose meanings differ, beside onnxruntime."""
    runtime = pytest.importorskip("onnxruntime")
    weights = {"s": np.float32([1, 2]), "b": reals(2), "m": reals(2), "v": np.float32([2, 1]),
               "one": [1], "three": [3], "parts": [1, 3], "pads": [0, 1, 0, 0, 0, 1],
               "low": np.float32(-0.5), "fill": np.float32(1.5)}

    def node(op, first, out, since, inputs, **attributes):
        out = out if isinstance(out, list) else [out]
        if opset >= since:
            return helper.make_node(op, [first, *inputs], out, axis=1) if op == "Split" else \
                helper.make_node(op, [first, *inputs], out)
        return helper.make_node(op, [first], out, **attributes)

    nodes = [helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["n"]),
             node("Slice", "n", "c", 10, ["one", "three", "two"], axes=[2], starts=[1], ends=[3]),
             node("Pad", "c", "p", 11, ["pads", "fill" if opset >= 11 else ""],
                  pads=[0, 1, 0, 0, 0, 1]),
             helper.make_node("Softmax", ["p"], ["q"]),
             node("Unsqueeze", "q", "u", 13, ["one"], axes=[1]),
             node("Squeeze", "u", "z", 13, ["one"], axes=[1]),
             node("Clip", "z", "l", 11, ["low"], min=-0.5),
             helper.make_node("Flatten", ["l"], ["f"]),
             helper.make_node("Slice", ["f"], ["g"], axes=[1], starts=[0], ends=[4])
             if opset < 10 else helper.make_node("Slice", ["f", "zero", "four", "one"], ["g"]),
             node("Split", "g", ["h", "i"], 13, ["parts"], axis=1, split=[1, 3]),
             helper.make_node("Sub", ["h", "i"], ["y"])]
    used = {name for one in nodes for name in one.input}
    weights = {name: value for name, value in (weights | {"two": [2], "zero": [0], "four": [4]}
                                               ).items() if name in used}
    model = model_of(nodes, {"x": ["N", 2, 3]}, {"y": ["N", 3]}, weights, opset)
    x = reals(4, 2, 3)
    session = runtime.InferenceSession(model.SerializeToString(),
                                       providers=["CPUExecutionProvider"])
    agrees(model, x, session.run(None, {"x": x})[0])


def test_upsample_is_the_nearest_before():
    for opset, node in ((7, helper.make_node("Upsample", ["x"], ["y"], scales=[1.0, 1, 2, 3])),
                        (9, helper.make_node("Upsample", ["x", "s"], ["y"])),
                        (10, helper.make_node("Resize", ["x", "s"], ["y"]))):
        weights = {"s": np.float32([1, 1, 2, 3])} if opset > 7 else {}
        x = reals(2, 1, 2, 2)
        model = model_of([node], {"x": ["N", 1, 2, 2]}, {"y": ["N", 1, 4, 6]}, weights, opset)
        agrees(model, x, x.repeat(2, 2).repeat(3, 3))


def test_value_of_a_pad_is_no_neuron():
    refused("E813", "value 2", one("Pad", opset=9, pads=[0, 1, 0, 0], value=2.0, y=("N", 5)))


def test_a_neuron_that_is_read_twice_is_copied(tmp_path):
    nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
             helper.make_node("MatMul", ["x", "t"], ["s"]),
             helper.make_node("Tile", ["s", "r"], ["d"]), helper.make_node("MatMul", ["d", "w"],
                                                                           ["m"]),
             helper.make_node("Add", ["m", "m"], ["y"])]
    model = model_of(nodes, {"x": ["N", 2, 2]}, {"y": ["N", 2, 3]},
                     {"r": [1, 1, 3], "w": reals(6, 3)})
    net = agrees(model, reals(3, 2, 2))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert main(["import", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "m.nal")]) == 0
    x = reals(3, 4)
    back = ncc.load(tmp_path / "m.nal").graph.run(x, dtype="f64")
    assert np.abs(back - net.graph.run(x, dtype="f64")).max() < 1e-12


# -- refusals

def refused(code, words, model, **options):
    with pytest.raises(ncc.NccError, match=words) as caught:
        ncc.load(model, **options)
    assert caught.value.code == code


def one(op, inputs=("x",), weights=(), x=("N", 4), y=("N", 4), opset=18, **attributes):
    return model_of([helper.make_node(op, list(inputs), ["y"], name="this", **attributes)],
                    {"x": list(x)}, {"y": list(y)}, weights, opset)


@pytest.mark.parametrize(("code", "words", "model"), [
    ("E810", "node this: Floor", one("Floor")),
    ("E810", "random", one("RandomNormalLike")),
    ("E810", "domain com.microsoft", one("FusedMatMul", domain="com.microsoft")),
    ("E813", "exponent depend", one("Pow", ("x", "x"))),
    ("E813", "mode linear", one("Resize", ("x", "", "s"), {"s": np.float32([1, 2])},
                                mode="linear")),
    ("E813", "training_mode", one("Dropout", ("x", "r", "t"),
                                  {"r": np.float32(0.5), "t": np.array(True)})),
    ("E813", "finite", one("Mul", ("x", "w"), {"w": np.float32([np.inf])})),
    ("E814", "batch", one("Softmax", axis=0)),
    ("E814", "batch", one("ReduceSum", y=(1, 1), keepdims=1)),
    ("E814", "batch", one("Transpose", perm=[1, 0], y=(4, "N"))),
    ("E814", "batch of two", one("Reshape", ("x", "s"), {"s": [1, 4]})),
    ("E802", "opset 6", one("Relu", opset=6)),
    ("E814", "no size", one("Relu", x=("N", None))),
    ("E819", "elements", one("Relu", x=("N", 2**40))),
    ("E819", "elements", one("Tile", ("x", "r"), {"r": [1, 2**40]})),
    ("E819", "elements", one("ConstantOfShape", ("s",), {"s": [2**20, 2**20]})),
    ("E819", "elements", one("Range", ("a", "b", "c"), {
        "a": np.float32(0), "b": np.float32(1e12), "c": np.float32(1)})),
    ("E819", "elements", one("Pad", ("x", "p"), {"p": [0, 0, 0, 2**40]})),
    ("E819", "terms", one("AveragePool", x=("N", 4, 2000, 2000), y=("N", 4, 1, 1),
                          kernel_shape=[1000, 1000])),
    ("E819", "terms", model_of([helper.make_node("Unsqueeze", ["x", "a"], ["c"]),
                                helper.make_node("Unsqueeze", ["x", "b"], ["d"]),
                                helper.make_node("MatMul", ["c", "d"], ["y"])],
                               {"x": [30000]}, {"y": [30000, 30000]}, {"a": [1], "b": [0]})),
])
def test_refusals(code, words, model):
    if model.opset_import[0].version == 18 and model.graph.node[0].domain:
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    refused(code, words, model)


def test_integers_are_refused():
    node = helper.make_node("Gather", ["w", "x"], ["y"])
    model = model_of([node], {"x": ["N", 2]}, {"y": ["N", 2]}, {"w": reals(5)})
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    refused("E817", "one-hot", model)


def test_broken_files(tmp_path, request):
    path = tmp_path / "broken.onnx"
    for name in ("cnn", "lstm", "softmax_opset13"):
        data = shared(f"onnx/{name}.onnx").read_bytes()
        for made in mutants(data, 3, 40):
            survives(path, made)
