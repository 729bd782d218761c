"""`ncc.NetClassifier`, `ncc.NetRegressor`: scikit-learn's own checks, and what is ncc's in them."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

import ncc
from ncc.ir.graph import NONE
from ncc.nets.random_layers import layers

sklearn = pytest.importorskip("sklearn")
from scipy import sparse  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_diabetes, load_digits, load_iris  # noqa: E402
from sklearn.model_selection import GridSearchCV, train_test_split  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

ESTIMATORS = [ncc.NetClassifier(), ncc.NetRegressor(),
              ncc.NetClassifier(hidden=(24, 16), density=0.5, activation="relu", dtype="f64"),
              ncc.NetRegressor(hidden=(24, 16), density=0.5, activation="relu", dtype="f64")]
RNG = np.random.default_rng(11)
X = RNG.standard_normal((120, 3))
Y = np.stack([X[:, 0] - X[:, 1], 0.5 * X[:, 2] + 1], axis=1)
LINEAR = "N 05\n00\n01\n02\n03 identity 00,01,02 +\n04 identity 00,01,02 +\n"


@pytest.fixture(autouse=True, scope="module")
def kept(no_cache, tmp_path_factory):
    """The checks fit nets of few shapes again and again: they are compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NCC_CACHE_DIR", str(tmp_path_factory.mktemp("kept")))
        patch.setenv("NCC_CACHE_SIZE", "512M")
        yield


# No check is expected to fail.
@parametrize_with_checks(ESTIMATORS[:1])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@parametrize_with_checks(ESTIMATORS[1:])
@pytest.mark.slow
def test_scikit_learns_checks_of_other_nets(estimator, check):
    check(estimator)


@pytest.mark.parametrize("density", [1.0, 0.3])
def test_layers(density):
    net = layers([10, 7, 5, 2], activation="relu", density=density, seed=4)
    graph = net.graph
    graph.verify()
    assert ncc.parse(str(graph), "graph").n_params == net.n_params
    fans = [10, 7] if density == 1 else [3, 2]
    assert np.diff(graph.starts).tolist() == [0] * 10 + [fans[0]] * 7 + [fans[1]] * 5 + [5] * 2
    assert (net.inputs, net.outputs) == (list(range(10)), [22, 23])
    assert graph.activations.tolist() == [-1] * 10 + [3] * 12 + [0] * 2
    # Canonical: by neuron its edges, then its bias.
    expected = []
    for j in range(10, 24):
        expected += graph.weights[graph.starts[j] : graph.starts[j + 1]].tolist()
        expected.append(int(graph.biases[j]))
    assert expected == list(range(net.n_params))
    assert (graph.biases[:10] == NONE).all()
    for j in range(10, 24):
        read = graph.sources[graph.starts[j] : graph.starts[j + 1]].tolist()
        assert read == sorted(set(read))
        low, high = (0, 10) if j < 17 else (10, 17) if j < 22 else (17, 22)
        assert all(low <= i < high for i in read)
    again, other = (layers([10, 7, 5, 2], density=density, seed=s).graph.sources for s in (4, 5))
    assert np.array_equal(again, graph.sources)
    assert np.array_equal(other, graph.sources) == (density == 1)


def test_layers_refuses():
    for wrong in ({"activation": "rellu"}, {"density": 0.0}, {"density": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            layers([2, 3, 1], **wrong)
    for widths in ([2], [2, 0, 1]):
        with pytest.raises(ValueError, match="widths"):
            layers(widths)


def test_digits_by_a_random_sparse_net():
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16, y, random_state=0)
    model = ncc.NetClassifier(hidden=(128,), density=0.1, activation="relu", lr=0.01, epochs=30,
                              random_state=0).fit(x_train, y_train)
    assert model.net_.n_edges == 128 * 6 + 128 * 10
    assert model.score(x_test, y_test) > 0.95
    assert model.loss_curve_[-1] < 0.1 * model.loss_curve_[0]
    assert model.n_iter_ == len(model.loss_curve_) == 30


def test_classes_of_any_kind():
    x, y = load_iris(return_X_y=True)
    for names in (np.array(["setosa", "versicolor", "virginica"]), np.array([7, -1, 3])):
        model = make_pipeline(StandardScaler(), ncc.NetClassifier(random_state=1))
        labels = names[y]
        model.fit(x, labels)
        assert model.classes_.tolist() == sorted(names.tolist())
        assert model.score(x, labels) > 0.9
        p = model.predict_proba(x)
        assert p.shape == (150, 3) and np.allclose(p.sum(axis=1), 1)
        assert (model.classes_[p.argmax(axis=1)] == model.predict(x)).all()


@pytest.mark.parametrize("outputs", [1, 2])
def test_two_classes_by_one_output_or_two(outputs):
    net = layers([3, 8, outputs], seed=1)
    y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    model = ncc.NetClassifier(net, lr=0.05, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9
    logits = model.compiled_(X).astype(float)
    z = logits[:, 0] if outputs == 1 else logits[:, 1] - logits[:, 0]
    assert np.array_equal(model.decision_function(X), z)
    assert np.allclose(model.predict_proba(X)[:, 1], 1 / (1 + np.exp(-z)), rtol=1e-12)
    assert np.array_equal(model.predict(X), np.where(z > 0, "same", "other"))


def test_far_logits_have_probabilities():
    net = ncc.parse("N 04\n00\n01 identity 00\n02 identity 00:-1\n03 identity 00:0\n")
    model = ncc.NetClassifier(net, lr=1e-9, epochs=1, random_state=0)
    model.fit([[1.0], [2.0], [3.0]], [0, 1, 2])
    p = model.predict_proba([[1e6], [-1e6], [0.0]])
    assert np.isfinite(p).all() and np.allclose(p.sum(axis=1), 1)


def test_regression_of_several_outputs():
    model = ncc.NetRegressor(lr=0.02, random_state=0).fit(X, Y)
    assert model.score(X, Y) > 0.98 and model.predict(X).shape == (120, 2)
    one = ncc.NetRegressor(lr=0.02, random_state=0).fit(X, Y[:, 0])
    assert one.predict(X).shape == (120,) and one.predict(X).dtype == np.float64
    column = ncc.NetRegressor(lr=0.02, random_state=0).fit(X, Y[:, :1])
    assert np.array_equal(column.predict(X)[:, 0], one.predict(X))


@pytest.mark.parametrize("loss", ["mse", "mae", "huber:delta=0.5"])
def test_losses_of_the_regressor(loss):
    model = ncc.NetRegressor(LINEAR, loss=loss, lr=0.05, random_state=0).fit(X, Y)
    assert model.score(X, Y) > 0.99
    assert np.allclose(model.net_.params, [1, -1, 0, 0, 0, 0, 0.5, 1], atol=0.05)


def test_a_net_of_any_kind(tmp_path):
    path = tmp_path / "linear.nal"
    path.write_text(LINEAR)
    asked = []

    def build(n_features, n_outputs):
        asked.append((n_features, n_outputs))
        return ncc.parse(LINEAR)

    found = [ncc.NetRegressor(net, epochs=3, random_state=0).fit(X, Y).predict(X)
             for net in (ncc.parse(LINEAR), LINEAR, path, str(path), build)]
    assert asked == [(3, 2)]
    assert all(np.array_equal(found[0], other) for other in found)


def test_training_goes_on_from_the_nets_values():
    first = ncc.NetRegressor(LINEAR, lr=0.05, random_state=0).fit(X, Y)
    assert ncc.parse(LINEAR).params is None and first.net_.params is not None
    second = ncc.NetRegressor(first.net_, lr=0.05, epochs=1, random_state=0).fit(X, Y)
    assert second.loss_curve_[0] < 0.1 * first.loss_curve_[0]


def test_a_net_that_does_not_fit():
    with pytest.raises(ValueError, match="X has 2 features, and the net 3 inputs"):
        ncc.NetRegressor(LINEAR).fit(X[:, :2], Y)
    with pytest.raises(ValueError, match="y has 1 columns, and the net 2 outputs"):
        ncc.NetRegressor(LINEAR).fit(X, Y[:, 0])
    with pytest.raises(ValueError, match="y holds 3 classes, and the net has 2 outputs"):
        ncc.NetClassifier(LINEAR).fit(X, np.arange(120) % 3)
    with pytest.raises(ValueError, match="one class"):
        ncc.NetClassifier(LINEAR).fit(X, np.zeros(120))
    with pytest.raises(ValueError, match="ce is for classes"):
        ncc.NetRegressor(LINEAR, loss="ce").fit(X, Y)
    with pytest.raises(ncc.NccError, match="adum"):
        ncc.NetRegressor(LINEAR, optimizer="adum").fit(X, Y)
    with pytest.raises(ValueError, match="activation"):
        ncc.NetRegressor(activation="rellu").fit(X, Y)


def test_what_overflows_the_dtype_is_an_error_in_fit_and_predict():
    wild = X.copy()
    wild[5, 1] = 1e39
    with pytest.raises(ncc.NccError, match="row 5, column 1"):
        ncc.NetRegressor(LINEAR).fit(wild, Y)
    model = ncc.NetRegressor(LINEAR, epochs=1).fit(X, Y)
    with pytest.raises(ValueError, match="overflows f32"):
        model.predict(wild)
    wide = ncc.NetRegressor(LINEAR, epochs=1, dtype="f64").fit(X, Y)
    assert np.isfinite(wide.predict(wild)).all()


def test_the_seed_is_all_the_chance_there_is():
    def fitted(seed):
        return ncc.NetClassifier(hidden=(8,), density=0.5, epochs=5, validation=0.2,
                                 random_state=seed).fit(X, Y[:, 0] > 0)

    one, same, other = fitted(1), fitted(1), fitted(2)
    assert one.loss_curve_ == same.loss_curve_ != other.loss_curve_
    assert np.array_equal(one.decision_function(X), same.decision_function(X))
    states = [fitted(np.random.RandomState(1)).loss_curve_ for _ in range(2)]
    assert states[0] == states[1]


def test_patience_and_validation():
    noise = RNG.standard_normal(120)
    model = ncc.NetRegressor(lr=0.05, epochs=500, validation=0.3, patience=5, random_state=0)
    model.fit(X, noise)
    assert model.history_.stopped == "patience"
    assert model.n_iter_ == model.history_.best + 5 < 500


def test_the_net_learnt_is_the_compiled_one(tmp_path):
    model = ncc.NetRegressor(epochs=5, random_state=0, threads=2).fit(X, Y)
    expected = ncc.compile(model.net_)(X).astype(float)
    assert np.array_equal(model.predict(X), expected)
    model.compiled_.save(tmp_path / "net.o")
    assert (tmp_path / "net.h").exists()
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(X), expected)
    assert not hasattr(clone(model), "compiled_")


def test_hidden_may_be_an_int():
    wide = ncc.NetRegressor(hidden=8, epochs=2, random_state=0).fit(X, Y)
    same = ncc.NetRegressor(hidden=(8,), epochs=2, random_state=0).fit(X, Y)
    also = ncc.NetRegressor(hidden=np.int64(8), epochs=2, random_state=0).fit(X, Y)
    assert np.array_equal(wide.predict(X), same.predict(X))
    assert np.array_equal(wide.predict(X), also.predict(X))
    with pytest.raises(ValueError, match="widths"):
        ncc.NetRegressor(hidden=0).fit(X, Y)


def test_the_order_of_the_samples_has_no_part():
    turned = RNG.permutation(len(X))
    one = ncc.NetClassifier(epochs=3, validation=0.2, random_state=0).fit(X, Y[:, 0] > 0)
    two = ncc.NetClassifier(epochs=3, validation=0.2, random_state=0).fit(X[turned],
                                                                          Y[turned, 0] > 0)
    assert np.array_equal(one.decision_function(X), two.decision_function(X))
    assert one.loss_curve_ == two.loss_curve_


KINDS = np.array(["a", "b", "c"])[(X[:, 0] > 0.3) + (X[:, 1] > 0).astype(int)]


@pytest.mark.parametrize("estimator, y", [
    (ncc.NetRegressor(LINEAR, epochs=3, random_state=0), Y),
    pytest.param(ncc.NetClassifier(epochs=3, random_state=0), KINDS, marks=pytest.mark.slow),
    (ncc.NetClassifier(epochs=3, random_state=0), KINDS == "a"),
])
def test_weights_of_samples(estimator, y):
    """Whole ones are repetitions, to the bit; equal ones none; others count by their size."""
    count = RNG.integers(0, 4, len(X))
    whole = clone(estimator).fit(X, y, count)
    repeated = clone(estimator).fit(np.repeat(X, count, 0), np.repeat(y, count, 0))
    assert whole.loss_curve_ == repeated.loss_curve_
    assert np.array_equal(whole.net_.params, repeated.net_.params)
    plain = clone(estimator).fit(X, y)
    assert np.array_equal(clone(estimator).fit(X, y, np.full(len(X), 0.3)).net_.params,
                          plain.net_.params)
    half = clone(estimator).set_params(batch=len(X), epochs=1, optimizer="sgd", lr=1e-3)
    some = RNG.uniform(0.5, 1.5, len(X))
    by_size, twice = (clone(half).fit(X, y, s * some).net_.params for s in (1, 2.5))
    np.testing.assert_allclose(by_size, twice, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(by_size, clone(half).fit(X, y).net_.params)
    for wrong in (-some, some * np.nan, some * 0, some[1:], some[:, None]):
        with pytest.raises(ValueError, match="sample_weight"):
            clone(estimator).fit(X, y, wrong)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber:delta=0.5"])
def test_weighted_steps_are_those_of_repeated_samples(loss):
    """A full batch a step: the weighted mean is the mean over repetitions, scaled."""
    count = RNG.integers(1, 4, 30)
    how = dict(loss=loss, optimizer="sgd", lr=0.1, epochs=1, dtype="f64", params=np.ones(8))
    net = ncc.parse(LINEAR)
    weighted = ncc.fit(net, X[:30], Y[:30], batch=30, sample_weight=count, **how)
    repeated = ncc.fit(net, np.repeat(X[:30], count, 0), np.repeat(Y[:30], count, 0),
                       batch=int(count.sum()), **how)
    np.testing.assert_allclose(weighted[0].params, repeated[0].params, rtol=1e-12)
    assert weighted[1].epochs[0].loss == pytest.approx(repeated[1].epochs[0].loss, rel=1e-12)


def test_weights_of_classes():
    y = (X[:, 0] > 1.2).astype(int)  # one in nine
    for weight in ("balanced", {0: 1.0, 1: 8.0}):
        heavy = ncc.NetClassifier(class_weight=weight, epochs=20, random_state=0).fit(X, y)
        assert heavy.predict(X)[y == 1].mean() > 0.9
    shares = [ncc.NetClassifier(class_weight=w, epochs=20, random_state=0).fit(X, y)
              .predict_proba(X)[:, 1].mean() for w in (None, "balanced", {0: 100.0})]
    assert shares[2] < shares[0] < shares[1]
    same = [ncc.NetClassifier(class_weight={0: 1, 1: 3}, epochs=2, random_state=0).fit(X, y),
            ncc.NetClassifier(epochs=2, random_state=0).fit(X, y, 1 + 2 * y)]
    assert np.array_equal(same[0].net_.params, same[1].net_.params)
    with pytest.raises(ValueError):
        ncc.NetClassifier(class_weight="balnaced").fit(X, y)


def test_several_labels_of_a_sample():
    y = np.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 0] * X[:, 2] > 0], axis=1).astype(int)
    model = ncc.NetClassifier(lr=0.05, random_state=0)
    for given in (y, y.astype(bool), sparse.csr_matrix(y)):
        model.fit(X, given)
        assert model.predict(X).shape == (120, 3) and (model.predict(X) == y).mean() > 0.95
    p, logits = model.predict_proba(X), model.decision_function(X)
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-logits)), rtol=1e-12)
    assert np.array_equal(model.predict(X), logits > 0) and model.score(X, y) > 0.8
    assert model.classes_.tolist() == [0, 1, 2] and len(model.net_.outputs) == 3
    two = ncc.NetClassifier(LINEAR, epochs=2).fit(X, y[:, :2])
    assert two.predict(X).shape == (120, 2)
    with pytest.raises(ValueError, match="3 labels, and the net has 2 outputs"):
        ncc.NetClassifier(LINEAR).fit(X, y)


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "coo_array"])
def test_sparse_features(kind):
    thin = np.where(np.abs(X) > 0.8, X, 0.0)
    given = getattr(sparse, kind)(thin)
    for estimator, y in ((ncc.NetRegressor(epochs=3, random_state=0), Y),
                         (ncc.NetClassifier(epochs=3, random_state=0), KINDS)):
        dense, same = clone(estimator).fit(thin, y), clone(estimator).fit(given, y)
        assert np.array_equal(dense.net_.params, same.net_.params)
        assert np.array_equal(dense.predict(thin), same.predict(given))


@pytest.mark.slow
def test_partial_fit_goes_on():
    """Epoch by epoch it is what ncc.fit does from state to state; classes may come late."""
    model = ncc.NetRegressor(lr=0.05, batch=30, random_state=0)
    for _ in range(60):
        model.partial_fit(X, Y)
    assert model.score(X, Y) > 0.95 and model.n_iter_ == 60 == len(model.loss_curve_)
    again = pickle.loads(pickle.dumps(model)).partial_fit(X, Y)
    assert np.array_equal(again.net_.params, model.partial_fit(X, Y).net_.params)
    late = ncc.NetClassifier(lr=0.05, random_state=0)
    for part in ("a", "b", "c", None) * 15:
        rows = slice(None) if part is None else KINDS == part
        late.partial_fit(X[rows], KINDS[rows], classes=["c", "b", "a"])
    assert late.classes_.tolist() == ["a", "b", "c"] and late.score(X, KINDS) > 0.8
    late.partial_fit(X, KINDS, sample_weight=RNG.uniform(1, 2, 120))
    for call, words in ((lambda: ncc.NetClassifier().partial_fit(X, KINDS), "wants classes"),
                        (lambda: late.partial_fit(X, KINDS, classes=["a", "b"]), "as before"),
                        (lambda: late.partial_fit(X[:2], ["a", "d"]), "none of the classes"),
                        (lambda: late.partial_fit(X[:, :2], KINDS), "features")):
        with pytest.raises(ValueError, match=words):
            call()
    fitted = ncc.NetClassifier(epochs=30, lr=0.05, random_state=0).fit(X, KINDS)
    loss = fitted.loss_curve_
    assert fitted.partial_fit(X, KINDS).loss_curve_[0] < 0.5 * loss[0]


def test_warm_start_goes_on_from_what_was_learnt():
    model = ncc.NetRegressor(lr=0.05, epochs=40, warm_start=True, random_state=0).fit(X, Y)
    first = model.loss_curve_
    assert model.fit(X, Y).loss_curve_[0] < 0.1 * first[0]
    cold = model.set_params(warm_start=False).fit(X, Y)
    assert cold.loss_curve_ == first
    model.set_params(warm_start=True)
    with pytest.raises(ValueError, match="warm_start"):
        model.fit(X, Y[:, 0])
    classes = ncc.NetClassifier(epochs=2, warm_start=True).fit(X, KINDS)
    with pytest.raises(ValueError, match="warm_start: y holds the classes"):
        classes.fit(X, np.where(KINDS == "a", "z", KINDS))


def test_verbose_says_how_far_it_is(capsys):
    ncc.NetRegressor(epochs=3, random_state=0).fit(X, Y)
    assert capsys.readouterr() == ("", "")
    ncc.NetRegressor(epochs=3, verbose=True, random_state=0).fit(X, Y)
    out, err = capsys.readouterr()
    assert [line.split(",")[0] for line in out.splitlines()] == [
        "epoch 1/3", "epoch 2/3", "epoch 3/3"] and err == ""


@pytest.mark.slow
def test_a_search_over_nets():
    search = GridSearchCV(ncc.NetRegressor(epochs=30, lr=0.05, random_state=0),
                          {"hidden": [(), (8,)], "density": [0.5, 1.0]}, cv=2)
    x, y = load_diabetes(return_X_y=True)
    search.fit(StandardScaler().fit_transform(x), (y - y.mean()) / y.std())
    assert search.best_score_ > 0.3
    assert len(search.cv_results_["params"]) == 4


def test_import_ncc_leaves_scikit_learn_alone():
    """And says which extra it is where scikit-learn is absent."""
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == "sklearn":
            raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")
sys.meta_path.insert(0, Absent())
import ncc
assert "sklearn" not in sys.modules
try:
    ncc.NetClassifier
except ImportError as error:
    print(error)
try:
    ncc.NetClassifer
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ncc-compiler[sklearn]" in done.stdout
    assert "has no attribute 'NetClassifer'" in done.stdout
