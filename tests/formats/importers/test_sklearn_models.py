"""Estimators of scikit-learn beside what they predict; refusals; pickles."""

from __future__ import annotations

import io
import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import compare, shared, survives

import ncc
from ncc.cli import main
from ncc.formats.importers import registry
from ncc.formats.importers.foreign import Foreign, Options
from ncc.formats.importers.sklearn.models import MODELS

pytest.importorskip("sklearn")
import joblib  # noqa: E402
from sklearn import linear_model, svm  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import (  # noqa: E402
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)

pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # fits of three iterations
N, FEATURES = 60, 5


def samples(seed=0):
    """x, and targets: of three classes, two, labels of two columns, reals of two columns."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, FEATURES)) * 3 + rng.normal(size=FEATURES) * 5
    z = (x - x.mean(axis=0)) @ rng.normal(size=(FEATURES, 2)) / 3
    return x, {"three": (z[:, 0] > -1).astype(int) + (z[:, 0] > 1), "two": z[:, 0] > 0,
               "labels": (z > 0).astype(int), "reals": z, "real": z[:, 0],
               "positive": np.exp(z[:, 0] / 4)}


def expected(estimator, x):
    how = next(name for name in ("predict_proba", "decision_function", "predict")
               if hasattr(estimator, name))
    found = np.asarray(getattr(estimator, how)(x), np.float64)
    return found.reshape(len(x), -1)


def check(estimator, target, seed=0, dtype=np.float64):
    """Fit, and compare the net's outputs; the net."""
    x, targets = samples(seed)
    x = x.astype(dtype)
    estimator.fit(x, targets[target])
    net = ncc.from_sklearn(estimator)
    new = np.random.default_rng(seed + 1).permutation(x.ravel()).reshape(x.shape)
    if net.graph.dtype == "f32":
        y = net.graph.run(new, dtype="f32")
        np.testing.assert_allclose(y, expected(estimator, new), rtol=1e-4, atol=1e-5)
    else:
        y = net.graph.run(new, dtype="f64")
        compare(type(estimator).__name__, y, expected(estimator, new), "C")
    return net


@pytest.mark.parametrize("name", ["iris_relu", "cancer_logistic"])
def test_a_shared_file_has_its_probabilities(name):
    path, made = shared(f"sklearn/{name}.pkl"), np.load(shared(f"sklearn/{name}.npz"))
    net = ncc.load(path, allow_pickle=True)
    assert net.graph.dtype == "f64"
    compare(path, net.graph.run(made["x"], dtype="f64"), made["proba"], "C")


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.each_choice("solver", "activation")
def test_perceptrons(activation, solver):
    how = {"activation": activation, "solver": solver, "max_iter": 3, "random_state": 0,
           "learning_rate_init": 1e-4}  # so that sgd does not diverge
    for target, outputs in (("three", 3), ("two", 2), ("labels", 2)):
        net = check(MLPClassifier((4, 3), **how), target)
        assert len(net.outputs) == outputs
    for target, outputs in (("real", 1), ("reals", 2)):
        assert len(check(MLPRegressor(hidden_layer_sizes=(4,), **how), target).outputs) == outputs
    check(MLPClassifier((), **how), "three")
    if solver == "adam" or activation == "tanh":  # others may diverge
        check(MLPRegressor(loss="poisson", hidden_layer_sizes=(4,), **how), "positive")


LINEAR = [
    (linear_model.LogisticRegression(max_iter=20), ("three", "two")),
    (linear_model.LogisticRegression(solver="liblinear"), ("two",)),
    (linear_model.SGDClassifier(loss="log_loss", max_iter=3, alpha=0.5), ("three", "two")),
    (linear_model.SGDClassifier(loss="modified_huber", max_iter=3), ("three", "two")),
    (linear_model.SGDClassifier(loss="hinge", max_iter=3), ("three", "two")),
    (linear_model.Perceptron(max_iter=3), ("three", "two")),
    (linear_model.RidgeClassifier(), ("three", "two", "labels")),
    (svm.LinearSVC(max_iter=9), ("three", "two")),
    (linear_model.LinearRegression(), ("real", "reals")),
    (linear_model.LinearRegression(fit_intercept=False), ("real", "reals")),
    (linear_model.Ridge(), ("real", "reals")),
    (linear_model.Lasso(alpha=0.5), ("real", "reals")),
    (linear_model.ElasticNet(alpha=0.5), ("real", "reals")),
    (linear_model.PoissonRegressor(max_iter=9), ("positive",)),
]
MORE = [
    (linear_model.TweedieRegressor(power=0, max_iter=9), ("positive",)),
    (linear_model.LogisticRegressionCV(Cs=2, cv=2, max_iter=9), ("three", "two")),
    (linear_model.MultiTaskLasso(), ("reals",)),
    (linear_model.BayesianRidge(), ("real",)),
    (linear_model.HuberRegressor(), ("real",)),
    (linear_model.SGDRegressor(max_iter=3), ("real",)),
    (svm.LinearSVR(max_iter=9), ("real",)),
    (linear_model.GammaRegressor(max_iter=9), ("positive",)),
    (linear_model.TweedieRegressor(power=1.5, max_iter=9), ("positive",)),
    (linear_model.TweedieRegressor(power=0, link="log", max_iter=9), ("positive",)),
]


def named(pair):
    return type(pair).__name__


@pytest.mark.parametrize("estimator, targets", [
    *LINEAR, *[pytest.param(*pair, marks=pytest.mark.slow) for pair in MORE]], ids=named)
def test_linear_models(estimator, targets):
    for target in targets:
        check(estimator, target)
    check(make_pipeline(StandardScaler(), estimator), targets[0])


def test_every_model_of_the_table_is_one_of_scikit_learns():
    known = {name for module in (linear_model, svm) for name in dir(module)}
    assert set(MODELS) - {"MLPClassifier", "MLPRegressor"} <= known


def test_probabilities_that_are_all_zero():
    """There scikit-learn makes them equal."""
    x, targets = samples()
    for loss in ("log_loss", "modified_huber"):
        model = linear_model.SGDClassifier(loss=loss, max_iter=3).fit(x, targets["three"])
        model.intercept_ = np.array([-5.0, -900.0, -900.0])
        model.coef_ = np.array([[10.0] * FEATURES, [0.0] * FEATURES, [0.0] * FEATURES])
        rows = np.array([[-100.0] * FEATURES, [100.0] * FEATURES, [0.11] * FEATURES])
        y = ncc.load(model).graph.run(rows, dtype="f64")
        np.testing.assert_allclose(y, model.predict_proba(rows), rtol=1e-12, atol=1e-300)
        assert y[0].tolist() == [1 / 3] * 3


@pytest.mark.parametrize("scaler", [
    StandardScaler(), StandardScaler(with_mean=False), StandardScaler(with_std=False),
    RobustScaler(), RobustScaler(with_centering=False, with_scaling=False),
    MinMaxScaler((-2, 3)), MinMaxScaler(clip=True), MaxAbsScaler()], ids=str)
def test_scalers(scaler):
    net = check(make_pipeline(scaler, MLPClassifier((4,), max_iter=3, random_state=0)), "three")
    scaled = check(make_pipeline("passthrough", scaler, MinMaxScaler((0, 2)),
                                 linear_model.Ridge()), "real")
    assert net.n_params == 4 * FEATURES + 4 + 4 * 3 + 3  # the scaler's are constants
    assert scaled.n_params == FEATURES + 1


def test_a_scaler_is_a_neuron_a_feature_but_far_from_zero():
    x, targets = samples()
    near = make_pipeline(StandardScaler(), linear_model.Ridge())
    assert check(near, "real").n_neurons == 2 * FEATURES + 1
    for far in (1e3, 1e9):
        near.fit(x + far, targets["real"])
        net = ncc.load(near)
        assert net.n_neurons == 3 * FEATURES + 1
        compare(f"Ridge, {far}", net.graph.run(x + far, dtype="f64"),
                near.predict(x + far)[:, None], "C")


@given(st.data())
def test_random_pipelines(data):
    draw = data.draw
    steps = draw(st.lists(st.sampled_from([StandardScaler(), MinMaxScaler(), MaxAbsScaler(),
                                           RobustScaler()]), max_size=2))
    target = draw(st.sampled_from(["three", "two", "labels", "real", "reals"]))
    kind = MLPRegressor if target[:4] == "real" else MLPClassifier
    model = kind(hidden_layer_sizes=tuple(draw(st.lists(st.integers(1, 6), max_size=3))),
                 activation=draw(st.sampled_from(["identity", "logistic", "tanh", "relu"])),
                 solver=draw(st.sampled_from(["adam", "sgd", "lbfgs"])), max_iter=3,
                 random_state=draw(st.integers(0, 9)), learning_rate_init=1e-4)
    check(make_pipeline(*steps, model), target, draw(st.integers(0, 9)))


def test_labels_logits_notes_and_dtypes():
    pandas = pytest.importorskip("pandas")
    x, targets = samples()
    table = pandas.DataFrame(x, columns=["a", "b", "c", "d", "a b"])
    words = np.array(["no", "yes", "may be"])[targets["three"]]
    model = make_pipeline(StandardScaler(), MLPClassifier((3,), max_iter=3)).fit(table, words)
    net = ncc.from_sklearn(model)
    assert [(label.name, label.shape) for label in net.graph.labels] == [
        *[(name, ()) for name in table], ("layer1", (3,)), ("class may be", ()), ("class no", ()),
        ("class yes", ())]
    assert {label.first for label in net.graph.labels[-3:]} == set(net.outputs)
    scores = ncc.from_sklearn(model, logits=True).graph.run(x, dtype="f64")
    power = np.exp(scores - scores.max(axis=1, keepdims=True))
    compare("logits", power / power.sum(axis=1, keepdims=True), model.predict_proba(table), "C")
    made = registry.of_object(model)
    assert made.notes == ("the outputs are predict_proba; --logits gives the scores before it",)
    assert (made.exactness, made.graph.dtype, made.graph.numerics) == ("C", "f64", None)
    two = linear_model.LogisticRegression().fit(x, targets["two"])
    raw = ncc.from_sklearn(two, logits=True)
    compare("logit", raw.graph.run(x, dtype="f64"), two.decision_function(x)[:, None], "C")
    assert raw.graph.labels[-1].name == "class True"
    single = check(MLPClassifier((3,), max_iter=3), "three", dtype=np.float32)
    assert single.graph.dtype == "f32"


def test_zeros_may_be_left_out():
    x, targets = samples()
    lasso = linear_model.Lasso(alpha=1.0).fit(x, targets["real"])
    kept = int(np.count_nonzero(lasso.coef_))
    assert 0 < kept < FEATURES
    assert ncc.from_sklearn(lasso).n_edges == FEATURES
    sparse = ncc.from_sklearn(lasso, drop_zeros=True)
    assert sparse.n_edges == kept
    compare("Lasso", sparse.graph.run(x, dtype="f64"), lasso.predict(x)[:, None], "C")
    lasso.coef_[:] = 0
    assert ncc.from_sklearn(lasso, drop_zeros=True).graph.run(x, dtype="f64")[0, 0] == (
        lasso.intercept_)
    model = linear_model.SGDClassifier(loss="hinge", max_iter=3).fit(x, targets["two"]).sparsify()
    assert ncc.load(model).n_edges == FEATURES


def test_a_search_is_its_best_estimator():
    x, targets = samples()
    search = GridSearchCV(make_pipeline(StandardScaler(), linear_model.Ridge()),
                          {"ridge__alpha": [0.1, 1]}, cv=2)
    with pytest.raises(ncc.NccError, match="no best_estimator_"):
        ncc.load(search)
    search.fit(x, targets["real"])
    assert str(ncc.load(search).graph) == str(ncc.load(search.best_estimator_).graph)


class Mine(linear_model.Ridge):
    """A user's own."""


def ridge(**changes):
    model = linear_model.Ridge().fit(*[samples()[0], samples()[1]["real"]])
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def perceptron(**changes):
    model = MLPClassifier((3,), max_iter=2).fit(samples()[0], samples()[1]["three"])
    for name, value in changes.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize("make, code, words", [
    (lambda: MLPClassifier(), "E801", "no coefs_"),
    (lambda: linear_model.Ridge(), "E801", "has no coef_: it is not fitted"),
    (lambda: linear_model.LogisticRegression(), "E801", "not fitted"),
    (lambda: make_pipeline(StandardScaler(), ridge()), "E801", "/standardscaler: .*no mean_"),
    (lambda: RandomForestClassifier(), "E810", "RandomForestClassifier is not read as neurons"),
    (lambda: make_pipeline(PCA(2), ridge()), "E810", "/pca: .*PCA in front of a model"),
    (lambda: make_pipeline("passthrough"), "E801", "without a step"),
    (lambda: Mine(), "E810", "Mine is no class of scikit-learn's own"),
    (lambda: ridge(coef_=np.full(3, np.nan)), "E801", "not finite"),
    (lambda: ridge(coef_=np.ones((1, 2, 3))), "E816", "coef_ has shape"),
    (lambda: ridge(intercept_=np.ones(2)), "E816", r"intercept_ has shape \(2,\), not \(1\)"),
    (lambda: ridge(coef_=np.ones(3, complex)), "E817", "complex128"),
    (lambda: ridge(coef_=["a"]), "E817", "no array of real numbers"),
    (lambda: perceptron(coefs_=[np.ones((5, 3)), np.ones((4, 3))]), "E816",
     r"coefs_\[1\] has shape \(4, 3\), not \(3, any\)"),
    (lambda: perceptron(intercepts_=[np.ones(3)]), "E801", "as many intercepts_"),
    (lambda: perceptron(activation="gelu"), "E811", "gelu"),
    (lambda: perceptron(out_activation_="sparsemax"), "E811", "sparsemax"),
])
def test_what_is_refused(make, code, words):
    with pytest.raises(ncc.NccError, match=words) as caught:
        ncc.load(make())
    assert caught.value.code == code


def test_limits_and_options_that_have_no_use():
    with pytest.raises(ncc.NccError, match="E819"):
        ncc.load(ridge(), max_edges=4)
    with pytest.raises(ncc.NccError, match="E609"):
        ncc.load(ridge(), transpose=True)
    with pytest.raises(ncc.NccError, match=r"--logits: Ridge is no classifier"):
        ncc.from_sklearn(ridge(), logits=True)


# Pickles ------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemError('it ran')",)


def test_a_pickle_wants_the_users_word(tmp_path, capsys):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(ridge()))
    with pytest.raises(ncc.NccError, match=r"E818[^$]*--allow-pickle, if you trust"):
        ncc.load(path)
    assert ncc.load(path, allow_pickle=True).n_edges == FEATURES
    out = tmp_path / "net.nal"
    assert main(["import", str(path), "-o", str(out)]) == 1
    assert "error[E818]: a pickle may run any code" in capsys.readouterr().err
    assert main(["import", str(path), "-o", str(out), "--allow-pickle"]) == 0
    assert main(["verify", str(path), "--against", "sklearn", "--allow-pickle"]) == 0
    path.write_bytes(pickle.dumps(perceptron()))
    assert main(["verify", str(path), "--against", "sklearn", "--allow-pickle", "--logits"]) == 2
    assert "--logits: what sklearn computes are probabilities" in capsys.readouterr().err
    for compress in (0, 3, ("gzip", 3), ("xz", 3)):
        packed = tmp_path / "model.joblib"
        joblib.dump(ridge(), packed, compress=compress)
        assert ncc.load(packed, allow_pickle=True).n_edges == FEATURES
        with pytest.raises(ncc.NccError, match="E818"):
            ncc.load(packed)


@pytest.mark.parametrize("value, code, words", [
    ({"sklearn": 1}, "E800", "an object of builtins.dict"),
    (["sklearn", Evil()], "E801", "cannot be unpickled: SystemError: it ran"),
])
def test_what_a_pickle_may_hold(value, code, words):
    file = Foreign("m.pkl", "", pickle.dumps(value))
    with pytest.raises(ncc.NccError) as caught:
        registry.read([file], "sklearn", Options())
    assert caught.value.code == "E818"
    with pytest.raises(ncc.NccError, match=words) as caught:
        registry.read([file], "sklearn", Options(allow_pickle=True))
    assert caught.value.code == code


def test_a_library_that_is_missing_is_named(monkeypatch):
    file, other = Foreign("m.pkl", "", pickle.dumps(ridge())), io.BytesIO()
    joblib.dump(ridge(), other)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model._ridge", None)
    monkeypatch.setitem(sys.modules, "joblib", None)
    for each in (file, Foreign("m.joblib", "", other.getvalue())):
        with pytest.raises(ncc.NccError, match="wants a library that is missing") as caught:
            registry.read([each], "sklearn", Options(allow_pickle=True))
        assert caught.value.code == "E637"
        assert caught.value.help == "pip install 'ncc-compiler[sklearn]'"


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_broken_pickles_are_refused_unread(tmp_path, count):
    data = pickle.dumps(ridge())
    rng = np.random.default_rng(count)
    for _ in range(count):
        made = bytearray(data)
        for at in rng.integers(2, len(data), 3).tolist():
            made[at] = int(rng.integers(256))
        assert survives(tmp_path / "m.pkl", bytes(made), source="sklearn") == "E818"
