"""Estimators of scikit-learn as layers and what comes after them.

Checked against scikit-learn 1.9: `predict_proba` of classifiers that have it, `decision_function`
of those that do not, `predict` of regressors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from ncc.formats.importers.foreign import listed
from ncc.formats.importers.sklearn.fitted import Fitted

HIDDEN: Final = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
HUBER: Final = "(min(max(x,-1),1)+1)/2"


class Layer(NamedTuple):
    """Weights (k, n), biases (n) or none; all neurons have the activation."""

    weights: NDArray[Any]
    biases: NDArray[Any] | None
    activation: str


class Model(NamedTuple):
    """Layers, of which the last has the activation identity; what is made of its values.

    activation  of the last layer, where no logits are wanted
    after       each: nothing more; pair: [1-p, p] of one p; softmax; share: divided by their sum
    classes     that outputs are of; None: it is no classifier
    single      whether it computes in float32
    """

    layers: list[Layer]
    activation: str = "identity"
    after: str = "each"
    classes: list[Any] | None = None
    single: bool = False


def model(fitted: Fitted) -> Model:
    """NccErrors E801, E810 (an estimator that is not known), E811, E816, E817."""
    reader = MODELS.get(fitted.name)
    if reader is None:
        raise fitted.fault("E810", f"{fitted.name} is not read as neurons", help="read are "
                           + listed(MODELS, 99))
    return reader(fitted)


def _perceptron(fitted: Fitted) -> Model:
    weights, biases = fitted.get("coefs_"), fitted.get("intercepts_")
    if not weights or not biases or len(weights) != len(biases):
        raise fitted.fault("E801", f"{fitted.name} has no coefs_ and as many intercepts_: is it "
                                   "fitted?")
    word = str(fitted.get("activation"))
    if word not in HIDDEN:
        raise fitted.fault("E811", f"the activation {word[:40]} is not known")
    layers: list[Layer] = []
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        below = layers[-1].weights.shape[1] if layers else None
        checked = fitted.array(f"coefs_[{k}]", below, None, of=weight)
        layers.append(Layer(checked, fitted.array(f"intercepts_[{k}]", checked.shape[1], of=bias),
                            HIDDEN[word] if k < len(weights) - 1 else "identity"))
    single = fitted.single("coefs_")
    head = fitted.get("out_activation_")
    classes = _classes(fitted) if fitted.name == "MLPClassifier" else None
    if head == "softmax":
        return Model(layers, "identity", "softmax", classes, single)
    if head == "logistic":
        return Model(layers, "sigmoid", "pair" if layers[-1].weights.shape[1] == 1 else "each",
                     classes, single)
    if head not in ("identity", "exp"):
        raise fitted.fault("E811", f"the activation {str(head)[:40]} of the outputs is not known")
    return Model(layers, head, "each", classes, single)


def _linear(fitted: Fitted, activation: str = "identity", after: str = "each",
            classes: list[Any] | None = None) -> Model:
    """coef_ (k) or (n, k), intercept_ a number or (n)."""
    axes = len(getattr(fitted.get("coef_"), "shape", ()))
    weights = fitted.array("coef_", *[None] * max(axes, 1))
    weights = weights[None] if weights.ndim == 1 else weights
    if weights.ndim != 2:
        raise fitted.fault("E816", f"coef_ has shape {weights.shape}, not classes x features")
    one = len(getattr(fitted.get("intercept_"), "shape", ())) == 0
    biases: NDArray[Any] | None = fitted.array("intercept_", *[] if one else [len(weights)])
    if not fitted.get("fit_intercept", True) and biases is not None and not biases.any():
        biases = None
    elif one and biases is not None:
        biases = biases.repeat(len(weights))
    return Model([Layer(weights.T, biases, "identity")], activation, after, classes,
                 fitted.single("coef_"))


def _regressor(fitted: Fitted) -> Model:
    return _linear(fitted)


def _logarithmic(fitted: Fitted) -> Model:
    return _linear(fitted, "exp")


def _tweedie(fitted: Fitted) -> Model:
    """The link `auto` is the logarithm for a power above 0."""
    link = fitted.get("link")
    if link not in ("auto", "log", "identity"):
        raise fitted.fault("E813", f"the link is {str(link)[:40]}, and auto, log and identity are "
                                   "known")
    log = link == "log" or link == "auto" and fitted.get("power") > 0
    return _linear(fitted, "exp" if log else "identity")


def _scores(fitted: Fitted) -> Model:
    return _linear(fitted, classes=_classes(fitted))


def _logistic(fitted: Fitted) -> Model:
    """Before 1.8 there was multi_class: `ovr` is logistic functions over their sum."""
    classes = _classes(fitted)
    kind = fitted.get("multi_class", "auto")
    if len(classes) <= 2:
        if kind == "multinomial":
            raise fitted.fault("E813", "multi_class is multinomial, of two classes",
                               help="fit it again: by default it is logistic")
        return _linear(fitted, "sigmoid", "pair", classes)
    if kind == "ovr" or fitted.get("solver") == "liblinear":
        return _linear(fitted, "sigmoid", "share", classes)
    return _linear(fitted, "identity", "softmax", classes)


def _sgd(fitted: Fitted) -> Model:
    classes = _classes(fitted)
    activation = {"log_loss": "sigmoid", "log": "sigmoid", "modified_huber": HUBER}.get(
        fitted.get("loss"))
    if activation is None:
        return _linear(fitted, classes=classes)
    return _linear(fitted, activation, "pair" if len(classes) <= 2 else "share", classes)


def _classes(fitted: Fitted) -> list[Any]:
    classes = fitted.get("classes_")
    if classes is None or not hasattr(classes, "tolist"):
        raise fitted.fault("E801", f"{fitted.name} has no classes_: it is not fitted")
    return list(classes.tolist())


MODELS: Final[dict[str, Callable[[Fitted], Model]]] = {
    **dict.fromkeys(("MLPClassifier", "MLPRegressor"), _perceptron),
    **dict.fromkeys(("LogisticRegression", "LogisticRegressionCV"), _logistic),
    "SGDClassifier": _sgd,
    **dict.fromkeys(("Perceptron", "RidgeClassifier", "RidgeClassifierCV", "LinearSVC",
                     "PassiveAggressiveClassifier"), _scores),
    **dict.fromkeys((
        "LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "LassoLars", "LassoLarsCV",
        "LassoLarsIC", "MultiTaskLasso", "MultiTaskLassoCV", "ElasticNet", "ElasticNetCV",
        "MultiTaskElasticNet", "MultiTaskElasticNetCV", "Lars", "LarsCV",
        "OrthogonalMatchingPursuit", "OrthogonalMatchingPursuitCV", "BayesianRidge",
        "ARDRegression", "HuberRegressor", "TheilSenRegressor", "QuantileRegressor",
        "SGDRegressor", "LinearSVR", "PassiveAggressiveRegressor"), _regressor),
    **dict.fromkeys(("PoissonRegressor", "GammaRegressor"), _logarithmic),
    "TweedieRegressor": _tweedie,
}
