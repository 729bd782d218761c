"""Models of Keras against Keras itself (with torch beneath), and against formulas."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
from oracles import compare, mutants, shared, survives

import ncc
from ncc import NccError

h5py = pytest.importorskip("h5py")
FILES = ["conv1d", "conv2d", "mlp", "rnn"]


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("name", FILES)
def test_models_of_the_collection(name, ending):
    held = np.load(shared(f"keras/{name}.npz"))
    path = shared(f"keras/{name}.{ending}")
    net = ncc.from_keras(path)
    x = held["x"].reshape(len(held["x"]), -1)
    y = net.graph.run(x, dtype="f32")
    compare(f"keras/{name}.{ending}", y, held["y"], "C")


# -- against Keras

@pytest.fixture(scope="module")
def keras():
    pytest.importorskip("torch")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    found = pytest.importorskip("keras")
    if found.backend.backend() != "torch":
        pytest.skip("keras has another backend")
    return found


def chain(*names, shape):
    """A Sequential of layers, each a text."""
    return shape, lambda L, x: [_through(L, x, names)]


def _through(L, x, names):
    for name in names:
        x = eval(name, {"L": L})(x)
    return x


def states(L, x):
    y, h, c = L.LSTM(3, return_state=True, return_sequences=True)(x)
    z = L.LSTM(3)(x, initial_state=[h, c])
    return [y, z, L.GRU(3)(x, initial_state=h), L.RNN(L.GRUCell(2))(x)]


def siamese(L, x):
    """A layer and a model that are used twice, and models within each other."""
    import keras
    dense = L.Dense(5, activation="tanh", name="twice")
    inner = keras.Sequential([L.Dense(5), L.BatchNormalization(), L.PReLU()], name="inner")
    a = keras.Input((5,))
    outer = keras.Model(a, [inner(inner(a)), L.Dense(2)(a)], name="outer")
    one, other = outer(dense(x))
    two, _ = outer(dense(dense(x)))
    return [L.Subtract()([one, two]), L.Maximum()([one, x]), L.Dot(-1)([one, two]), other]


def merges(L, x):
    a, b = L.Dense(4)(x), L.Dense(4)(x)
    return [L.Add()([a, b, x]), L.Multiply()([a, b]), L.Average()([a, b, x]),
            L.Minimum()([a, b]), L.Concatenate(1)([a, b]), L.Dot((2, 2))([a, b]),
            L.Dot(1)([a, b])]


def heads(L, x):
    return [L.MultiHeadAttention(2, 3, value_dim=4)(x, x, use_causal_mask=True),
            L.MultiHeadAttention(2, 3, use_bias=False, output_shape=5)(x, x),
            L.Attention(use_scale=True)([x, x]),
            L.AdditiveAttention()([x, x], use_causal_mask=True),
            L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="e", activation="relu")(x)]


ACTIVATIONS = ("linear relu relu6 sigmoid tanh elu selu softplus softsign silu gelu exponential "
               "hard_sigmoid hard_silu mish hard_tanh leaky_relu log_sigmoid celu tanh_shrink "
               "soft_shrink hard_shrink squareplus sparse_plus sparse_sigmoid softmax "
               "log_softmax").split()
MODELS = {
    "activations": ((7,), lambda L, x: [L.Activation(a)(L.Dense(7)(x)) for a in ACTIVATIONS]),
    "layers of activations": ((3, 4), lambda L, x: [layer(x) for layer in (
        L.ReLU(0.8, 0.1, 0.2), L.ReLU(negative_slope=0.5), L.ReLU(6.0), L.LeakyReLU(), L.ELU(0.7),
        L.PReLU(), L.PReLU(shared_axes=[1]), L.Softmax(), L.Softmax(axis=1),
        L.Softmax(axis=[1, 2]))]),
    "conv1d": chain("L.Conv1D(4, 3, dilation_rate=2, padding='causal')",
                    "L.SeparableConv1D(6, 3, strides=2, padding='same', depth_multiplier=2)",
                    "L.Conv1DTranspose(2, 4, strides=3)", "L.DepthwiseConv1D(2, padding='same')",
                    "L.AveragePooling1D(3, 1, padding='same')", "L.UpSampling1D(2)",
                    "L.ZeroPadding1D((2, 1))", "L.MaxPooling1D(3, 1)", "L.Cropping1D((1, 0))",
                    shape=(9, 3)),
    "conv2d": chain("L.Conv2D(4, (3, 2), strides=2, padding='same', groups=2, activation='relu')",
                    "L.BatchNormalization()", "L.ZeroPadding2D(((1, 0), (0, 2)))",
                    "L.MaxPooling2D(2, 1, padding='same')", "L.DepthwiseConv2D(2, "
                    "depth_multiplier=2)", "L.Conv2DTranspose(3, 3, strides=2, padding='same')",
                    "L.SpatialDropout2D(0.5)", "L.GlobalAveragePooling2D(keepdims=True)",
                    shape=(7, 8, 2)),
    "transposed": ((4, 3, 2), lambda L, x: [layer(x) for layer in (
        L.Conv2DTranspose(2, 2, strides=3, padding="same"),
        L.Conv2DTranspose(2, (3, 4), strides=2, padding="valid", output_padding=1),
        L.Conv2DTranspose(2, 5, strides=1, padding="same", use_bias=False))]),
    "conv3d": chain("L.Conv3D(2, 2, activation='gelu')", "L.AveragePooling3D(2, 1)",
                    "L.Cropping3D(((0, 1), 0, 0))", "L.UpSampling3D((1, 2, 1))",
                    "L.Conv3DTranspose(2, 2)", "L.MaxPooling3D(2)", "L.GlobalMaxPooling3D()",
                    shape=(5, 4, 4, 2)),
    "norms": ((4, 6), lambda L, x: [layer(x) for layer in (
        L.LayerNormalization(), L.LayerNormalization(axis=[1, 2], scale=False),
        L.BatchNormalization(axis=1, center=False),
        L.BatchNormalization(scale=False), L.GroupNormalization(3), L.UnitNormalization(),
        L.RMSNormalization(), L.Rescaling(0.5, 2.0), L.Normalization(mean=2.0, variance=3.0),
        L.Normalization(axis=-1, mean=[1.0] * 6, variance=[2.0] * 6, invert=True))]),
    "reshaping": chain("L.Permute((3, 1, 2))", "L.Reshape((4, -1))", "L.GaussianNoise(0.1)",
                       "L.TimeDistributed(L.Dense(3, activation='relu'))", "L.Flatten()",
                       "L.RepeatVector(3)", "L.ActivityRegularization(0.1)", shape=(2, 3, 4)),
    "distributed": chain("L.TimeDistributed(L.Conv1D(2, 2))", "L.GlobalAveragePooling2D()",
                         shape=(3, 4, 2)),
    "recurrent": chain("L.GRU(3, return_sequences=True, reset_after=False, go_backwards=True)",
                       "L.Bidirectional(L.LSTM(2, return_sequences=True))",
                       "L.Bidirectional(L.GRU(3, activation='relu'), merge_mode='ave')",
                       shape=(4, 3)),
    "gru": chain("L.GRU(3, use_bias=False, return_sequences=True)",
                 "L.SimpleRNN(2, activation='relu', return_sequences=True, go_backwards=True)",
                 "L.Bidirectional(L.SimpleRNN(2), merge_mode='mul')", shape=(4, 3)),
    "states": ((4, 2), states), "siamese": ((5,), siamese), "merges": ((3, 4), merges),
    "heads": ((4, 5), heads),
}
# Keras's products of matrices are of float32 under torch, whatever is asked for.
OF_FLOAT64 = {"layers of activations", "conv1d", "transposed", "conv3d"}


@pytest.fixture(scope="module")
def f64(keras):
    was = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield keras
    keras.config.set_floatx(was)


@pytest.mark.slow  # Keras takes ten seconds to be imported
@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.parametrize("name", MODELS)
def test_layers(f64, tmp_path, name, ending):
    shape, make = MODELS[name]
    x = f64.Input(shape)
    model = f64.Model(x, make(f64.layers, x))
    rng = np.random.default_rng(7)
    model.set_weights([np.abs(w) + rng.random(w.shape) if "variance" in v.name else
                       rng.normal(size=w.shape) * 0.5 for v, w in zip(
                           model.weights, model.get_weights(), strict=True)])
    path = tmp_path / f"model.{ending}"
    model.save(path)
    net = ncc.from_keras(path)
    given = rng.normal(size=(5, *shape))
    expected = model.predict(given, verbose=0)
    wanted = np.concatenate([np.reshape(y, (5, -1)) for y in (
        expected if isinstance(expected, list | tuple) else [expected])], axis=1)
    y = net.graph.run(given.reshape(5, -1), dtype="f64")
    assert net.graph.dtype == "f64"
    compare(f"keras {name}.{ending}", y, wanted, "C", None if name in OF_FLOAT64 else 1e-6)


# -- by hand, without Keras

def saved(path, layers, weights, *, kind="Sequential", version="3.5.0", **more):
    """A .keras of a configuration and arrays by group."""
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        for group, arrays in weights.items():
            for k, array in enumerate(arrays):
                file[f"{group}/vars/{k}"] = np.asarray(array, np.float32)
    config = {"class_name": kind, "config": {"name": "m", "layers": layers} | more}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("model.weights.h5", held.getvalue())
    return path


def layer(kind, name, inbound=None, **config):
    made = {"class_name": kind, "config": {"name": name} | config, "name": name}
    return made if inbound is None else made | {"inbound_nodes": inbound}


def entry(*shape):
    return layer("InputLayer", "x", [], batch_shape=[None, *shape])


W = np.array([[1.0, -2, 0.5], [0, 1, 3]])
B = np.array([0.25, -1, 2])
X = np.array([[0.5, -1.5], [2, 1]])


def test_a_dense_layer_of_one_formula(tmp_path):
    path = saved(tmp_path / "m.keras", [entry(2), layer(
        "Dense", "a", units=3, activation="relu")], {"layers/dense": [W, B]})
    net = ncc.load(path)
    assert (net.graph.run(X, dtype="f64") == np.maximum(X @ W + B, 0)).all()
    assert {name: values.shape for name, (_, values) in net.tensors.items()} == {
        "a/kernel": (2, 3), "a/bias": (3,)}
    assert (net.to_state_dict()["a/kernel"] == W).all()
    assert ncc.load(path, trainable="none").n_params == 0


@pytest.mark.parametrize("name", ["a\nb", "", "\u00e9\0"])
def test_a_name_that_is_no_text_is_no_label(tmp_path, name):
    layers = [entry(2), layer("Dense", name, units=3), layer("Dense", "last", units=3)]
    path = saved(tmp_path / "m.keras", layers, {
        "layers/dense": [W, B], "layers/dense_1": [np.eye(3), B]})
    net = ncc.load(path)
    assert [label.name for label in net.graph.labels] == ["x", "y"]
    assert name in net.places and ncc.parse(str(net.graph), "graph").n_edges == net.n_edges


def test_an_average_at_the_border_counts_what_is_there(tmp_path):
    """Of 4 elements, windows of 3 and a stride of 2, the border of one lies behind."""
    path = saved(tmp_path / "m.keras", [entry(4, 1), layer(
        "AveragePooling1D", "p", pool_size=[3], strides=[2], padding="same")], {})
    x = np.array([[1.0, 2, 6, 8]])
    assert (ncc.load(path).graph.run(x, dtype="f64") == [[3, 7]]).all()


def test_histories_of_keras_2(tmp_path):
    layers = [layer("InputLayer", "x", [], batch_input_shape=[None, 2]),
              layer("Dense", "a", [[["x", 0, 0, {}]]], units=3, activation="hard_sigmoid"),
              layer("Concatenate", "c", [[["a", 0, 0, {}], ["x", 0, 0, {}]]], axis=-1)]
    path = saved(tmp_path / "m.keras", layers, {"layers/dense": [W, B]}, kind="Functional",
                 version="2.13.1", input_layers=[["x", 0, 0]], output_layers=[["c", 0, 0]])
    y = np.concatenate([np.clip(0.2 * (X @ W + B) + 0.5, 0, 1), X], 1)
    assert np.allclose(ncc.load(path).graph.run(X, dtype="f64"), y, rtol=1e-15)


def test_models_within_models_as_keras_2_counts_their_calls(tmp_path):
    inner = layer("Functional", "inner", [[["x", 0, 0, {}]], [["inner", 1, 0, {}]]], layers=[
        layer("InputLayer", "i", [], batch_input_shape=[None, 2]),
        layer("Dense", "d", [[["i", 0, 0, {}]]], units=2)],
        input_layers=[["i", 0, 0]], output_layers=[["d", 0, 0]])
    path = tmp_path / "m.h5"
    config = {"class_name": "Functional", "config": {
        "name": "m", "layers": [layer("InputLayer", "x", [], batch_input_shape=[None, 2]), inner],
        "input_layers": [["x", 0, 0]], "output_layers": [["inner", 2, 0]]}}
    with h5py.File(path, "w") as file:
        file.attrs.update(model_config=json.dumps(config), keras_version="2.13.1")
        group = file.create_group("model_weights/inner")
        group.attrs["weight_names"] = ["d/kernel:0", "d/bias:0"]
        group["d/kernel:0"], group["d/bias:0"] = W[:, :2].astype(np.float32), B[:2]
    y = (X @ W[:, :2] + B[:2]) @ W[:, :2] + B[:2]
    assert np.allclose(ncc.load(path).graph.run(X, dtype="f64"), y, rtol=1e-15)


GATED = {"units": 1, "return_sequences": True, "activation": "tanh"}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, h, c):
    i, f, g, o = x * W4[0] + h * W4[1] + W4[2]
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_after(x, h, c):
    (z, r, n), inner = x * W4[0, :3] + W4[2, :3], h * W4[1, :3] + W4[3, :3]
    z, n = sigmoid(z + inner[0]), np.tanh(n + sigmoid(r + inner[1]) * inner[2])
    return z * h + (1 - z) * n, c


def gru_before(x, h, c):
    z, r, n = x * W4[0, :3] + W4[2, :3]
    z, r = sigmoid(z + h * W4[1, 0]), sigmoid(r + h * W4[1, 1])
    return z * h + (1 - z) * np.tanh(n + r * h * W4[1, 2]), c


W4 = np.array([[1.0, -2, 0.5, 0.25], [0, 1, 3, -0.5], [0.5, -1, 2, 1], [0.25, 0.5, -0.5, 0]])


@pytest.mark.parametrize("kind, step, bias, options", [
    ("LSTM", lstm, W4[2], {}), ("GRU", gru_after, W4[2:, :3], {"reset_after": True}),
    ("GRU", gru_before, W4[2, :3], {"reset_after": False})])
@pytest.mark.parametrize("backwards", [False, True])
def test_gates_in_the_order_of_keras(tmp_path, kind, step, bias, options, backwards):
    gates = bias.shape[-1]
    path = saved(tmp_path / "m.keras", [entry(3, 1), layer(
        kind, "r", go_backwards=backwards, **GATED, **options)], {f"layers/{kind.lower()}/cell": [
            W4[:1, :gates], W4[1:2, :gates], bias]})
    x, h, c, wanted = [0.5, -1.5, 2.0], 0.0, 0.0, []
    for each in x[::-1] if backwards else x:
        h, c = step(each, h, c)
        wanted.append(h)
    net = ncc.load(path)
    assert np.allclose(net.graph.run(np.array([x]), dtype="f64"), wanted, rtol=1e-14)
    again = net.graph.with_(values=np.zeros(net.n_params))
    assert set(net.to_state_dict()) == {"r/kernel", "r/recurrent_kernel", "r/bias"}
    assert (again.run(np.array([x]), dtype="f64") == 0).all()


@pytest.mark.parametrize("code, where, made", [
    ("E810", "'e' (Embedding)", layer("Embedding", "e", input_dim=3, output_dim=2)),
    ("E810", "'l' (Lambda)", layer("Lambda", "l")),
    ("E810", "'my'", layer("MyLayer", "my")),
    ("E810", "'d' (Dense)", layer("Dense", "d", units=3) | {"registered_name": "Own>Dense"}),
    ("E811", "'swoosh'", layer("Dense", "a", units=3, activation="swoosh")),
    ("E813", "'c' (Conv1D): data_format", layer("Conv1D", "c", data_format="channels_first",
                                                filters=1, kernel_size=1)),
    ("E813", "'d' (Dense): its dtype is mixed", layer("Dense", "d", units=3,
                                                      dtype="mixed_float16")),
    ("E814", "'b' (BatchNormalization): axis", layer("BatchNormalization", "b", axis=0)),
    ("E814", "'r' (Reshape)", layer("Reshape", "r", target_shape=[5])),
    ("E816", "(2, 3)", layer("Dense", "a", units=4)),
    ("E816", "others has 0 arrays", layer("Conv1D", "others", filters=1, kernel_size=1)),
    ("E819", "elements", layer("RepeatVector", "r", n=2**30)),
])
def test_refusals(tmp_path, code, where, made):
    path = saved(tmp_path / "m.keras", [entry(2), made], {"layers/dense": [W, B]})
    with pytest.raises(NccError) as error:
        ncc.load(path)
    assert (error.value.code, where in str(error.value)) == (code, True), error.value


def test_refused_inputs(tmp_path):
    for shape, code in (([None, 3], "E814"), ([2**20, 2**10], "E819"), (["a"], "E814")):
        with pytest.raises(NccError, match="'x'") as error:
            ncc.load(saved(tmp_path / "m.keras", [entry(*shape), layer("Dense", "a", units=3)], {}))
        assert error.value.code == code
    with pytest.raises(NccError) as error:
        ncc.load(saved(tmp_path / "m.keras", [layer("Dense", "a", units=3)], {}))
    assert error.value.code == "E815"
    with pytest.raises(NccError) as error:
        ncc.load(saved(tmp_path / "m.keras", [entry(3)], {}, version="4.0"))
    assert error.value.code == "E802"
    loop = [entry(2), layer("Add", "a", [[["b", 0, 0, {}], ["x", 0, 0, {}]]]),
            layer("Add", "b", [[["a", 0, 0, {}], ["x", 0, 0, {}]]])]
    with pytest.raises(NccError) as error:
        ncc.load(saved(tmp_path / "m.keras", loop, {}, kind="Functional",
                       input_layers=[["x", 0, 0]], output_layers=[["b", 0, 0]]))
    assert error.value.code == "E801"


def test_weights_alone_are_no_model(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["dense/kernel"] = W
    with pytest.raises(NccError) as error:
        ncc.load(tmp_path / "w.h5")
    assert error.value.code == "E815"


def test_arrays_that_are_not_there(tmp_path):
    """Shapes of more than the file holds, and links to other files, are refused, not followed."""
    layers = [entry(2), layer("Dense", "a", units=3, use_bias=False)]

    def refused(make):
        path = saved(tmp_path / "m.keras", layers, {})
        held = io.BytesIO()
        with h5py.File(held, "w") as file:
            make(file.create_group("layers/dense/vars"))
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in (parts | {"model.weights.h5": held.getvalue()}).items():
                archive.writestr(name, data)
        with pytest.raises(NccError) as error:
            ncc.load(path)
        return error.value.code

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["w"] = W
    other = str(tmp_path / "other.h5")
    assert refused(lambda g: g.create_dataset("0", (10**6, 10**6), np.float32,
                                              chunks=(100, 100))) == "E801"
    assert refused(lambda g: g.__setitem__("0", h5py.ExternalLink(other, "w"))) == "E801"
    assert refused(lambda g: g.create_dataset("0", (2, 3), np.float32, external=[
        (other, 0, 24)])) == "E801"
    assert refused(lambda g: g.__setitem__("0", np.ones((2, 3), int))) == "E817"
    assert refused(lambda g: g.__setitem__("0", np.full((2, 3), np.nan))) == "E801"


def test_a_heap_that_is_larger_than_its_file(tmp_path):
    """HDF5 takes the memory that the file says its heap of strings has: 4 GB of 32 kB."""
    data = bytearray(shared("keras/mlp.h5").read_bytes())
    at = data.index(b"GCOL") + 8
    for place, size in ((at, 2**32 - 1), (at + 16, 0), (at + 16, 2**40)):
        forged = data[:place] + size.to_bytes(8, "little") + data[place + 8 :]
        assert survives(tmp_path / "m.h5", bytes(forged)) == "E801"


def test_a_text_that_is_longer_than_its_file(tmp_path):
    """As the attribute says; HDF5 takes the memory before it looks."""
    data = bytearray(shared("keras/mlp.h5").read_bytes())
    length = h5py.File(io.BytesIO(data)).attrs["model_config"].encode()
    at = data.index(len(length).to_bytes(4, "little"), data.index(b"model_config\0"))
    data[at : at + 4] = (2**32 - 16).to_bytes(4, "little")
    assert survives(tmp_path / "m.h5", bytes(data)) == "E801"


def test_a_zip_that_unpacks_to_more_than_may_be(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * 2**27)
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", "")
    with pytest.raises(NccError) as error:
        ncc.load(tmp_path / "m.keras")
    assert error.value.code == "E819"


def broken(path, tmp_path, count):
    data = path.read_bytes()
    codes = [survives(tmp_path / path.name, each, source="keras")
             for each in mutants(data, 3, count)]
    if path.suffix == ".keras":  # its JSON, for the zip notices a changed byte
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        for each in mutants(parts["config.json"], 5, count):
            held = io.BytesIO()
            with zipfile.ZipFile(held, "w") as archive:
                for name, part in (parts | {"config.json": each}).items():
                    archive.writestr(name, part)
            codes.append(survives(tmp_path / path.name, held.getvalue(), source="keras"))
    return codes


@pytest.mark.parametrize("name", ["mlp.keras", "rnn.h5"])
def test_broken_files(tmp_path, name):
    assert "E801" in broken(shared("keras") / name, tmp_path, 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{name}.{ending}" for name in FILES
                                  for ending in ("keras", "h5")])
def test_many_broken_files(tmp_path, name):
    assert "E801" in broken(shared("keras") / name, tmp_path, 1000)
