"""Nets as estimators of scikit-learn: fit compiles and trains, predict is machine code.

    clf = ncc.NetClassifier(hidden=(64, 64), density=0.1).fit(X, y)
    clf.compiled_.save("digits.o")

Wants scikit-learn (`pip install 'ncc-compiler[sklearn]'`); `import ncc` does not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np

from ncc.driver.settings import Settings, arithmetic
from ncc.ir.ssa import DTYPES
from ncc.nets.net import Net, load, parse
from ncc.nets.random_layers import layers
from ncc.runtime.compiled import Array, Compiled
from ncc.scalar import losses
from ncc.training.bar import Meter
from ncc.training.checkpoint import State
from ncc.training.loop import finite, fit, train
from ncc.training.prepare import in_own_order, with_prior

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ModuleNotFoundError as error:
    raise ImportError(f"ncc's estimators want scikit-learn ({error}): "
                      "pip install 'ncc-compiler[sklearn]'") from error

__all__ = ["NetClassifier", "NetRegressor"]

# A net, its file, its text (.nal: it has lines), or what makes it of (n_features, n_outputs).
Given = Net | str | Path | Callable[[int, int], Net]


class _Estimator(BaseEstimator):
    """What both have. The parameters, beside those that `ncc.fit` has under the same name:

    net           the net to train: a `Net`, a file, the text of a `.nal`, or a function of
                  (n_features, n_outputs) that returns a `Net`. It starts from its own values,
                  where it has them. None: layers, made by the next three
    hidden        widths of the hidden layers, or the width of the only one; () for a linear model
    activation    of the hidden layers
    density       share of the layer before that a hidden neuron reads, drawn at random
    random_state  of these draws, the missing values, the order of the samples and of what is
                  held out: an int for the same result each time
    warm_start    whether `fit` goes on from the values that an earlier `fit` has learnt
    verbose       whether `fit` says on standard output how far it is

    Features are taken as they come, from dense and sparse X; put a `StandardScaler` before, where
    their ranges differ. In which order the samples are given has no part in the result, and a
    weight that is a whole number is so many samples; other weights count relative to their mean.

    After `fit`: `net_` (a `Net`, with the values learnt), `compiled_` (a `Compiled`), `history_`
    (a `History`), `loss_curve_` (an entry an epoch), `n_iter_` (epochs), `n_features_in_`.

    `partial_fit` is one epoch over the samples it is given, from where the last one ended, the
    optimizer's state included; `validation`, `patience` and `epochs` have no part in it.

    ValueError where the net does not fit X and y; NccError as of `ncc.fit`.
    """

    def __init__(self, net: Given | None = None, *, hidden: int | Sequence[int] = (32,),
                 activation: str = "tanh", density: float = 1.0, optimizer: str = "adam",
                 lr: float | None = None, batch: int = 32, epochs: int = 100,
                 validation: float = 0.0, patience: int | None = None, init: str = "he",
                 random_state: Any = None, threads: int = 1, dtype: Any = None,
                 warm_start: bool = False, verbose: bool = False) -> None:
        self.net = net
        self.hidden = hidden
        self.activation = activation
        self.density = density
        self.optimizer = optimizer
        self.lr = lr
        self.batch = batch
        self.epochs = epochs
        self.validation = validation
        self.patience = patience
        self.init = init
        self.random_state = random_state
        self.threads = threads
        self.dtype = dtype
        self.warm_start = warm_start
        self.verbose = verbose

    def _made(self, n_outputs: int, seed: int) -> Net:
        """The net to train, on X of `n_features_in_`."""
        given, n_inputs = self.net, self.n_features_in_
        if given is None:
            given_widths: Any = self.hidden
            hidden = [given_widths] if isinstance(given_widths, Integral) else given_widths
            return layers([n_inputs, *hidden, n_outputs], activation=self.activation,
                          density=self.density, seed=seed)
        if isinstance(given, Net):
            net = given
        elif isinstance(given, str) and "\n" in given:
            net = parse(given)
        elif isinstance(given, (str, Path)):
            net = load(given)
        else:
            net = given(n_inputs, n_outputs)
        if len(net.inputs) != n_inputs:
            raise ValueError(f"X has {n_inputs} features, and the net {len(net.inputs)} inputs")
        return net

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _data(self, X: Any, y: Any, first: bool, **how: Any) -> tuple[Array, Any]:
        """X as a dense array, and y, checked; `first` says whether they set n_features_in_."""
        X, y = validate_data(self, X, y, reset=first, dtype=[np.float64, np.float32],
                             accept_sparse="csr", multi_output=True, **how)
        return _dense(X), y

    def _weights(self, given: Any, X: Array) -> Array | None:
        """float64 (samples,), or None where all are the same."""
        if given is None:
            return None
        weights = np.asarray(given, np.float64)
        if weights.shape != (len(X),):
            raise ValueError(f"sample_weight has shape {weights.shape}, not ({len(X)},)")
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ValueError("sample_weight holds a number that is negative or not finite, or all "
                             "are zero")
        return None if (weights == weights[0]).all() else weights

    def _started(self, n_outputs: int, seed: int) -> Net:
        """The net to train: with `warm_start` the one that was learnt, where there is one."""
        if self.warm_start and hasattr(self, "net_"):
            if (len(self.net_.inputs), len(self.net_.outputs)) != (self.n_features_in_, n_outputs):
                raise ValueError(f"warm_start: the net has {len(self.net_.inputs)} inputs and "
                                 f"{len(self.net_.outputs)} outputs, and is to have "
                                 f"{self.n_features_in_} and {n_outputs}")
            return self.net_
        return self._made(n_outputs, seed)

    def _seed_on(self) -> int:
        """That of the `partial_fit` before, if there was one."""
        return self._state_seed if hasattr(self, "_state") else self._seed()

    def _train(self, net: Net, x: Array, y: Array, loss: str, seed: int, weights: Array | None
               ) -> None:
        x, y, weights = self._ordered(net, x, y, weights)
        meter = Meter(sys.stdout if self.verbose else None)
        try:
            self.compiled_, self.history_ = fit(
                net, x, y, loss=loss, optimizer=self.optimizer, lr=self.lr, batch=self.batch,
                epochs=self.epochs, seed=seed, validation=self.validation, patience=self.patience,
                init=self.init, threads=self.threads, dtype=self.dtype, progress=meter,
                sample_weight=weights)
        finally:
            meter.close()
        self.net_ = Net(net.graph.with_(values=self.compiled_.params))
        self._learnt()

    def _train_on(self, net: Net, x: Array, y: Array, loss: str, seed: int, weights: Array | None
                  ) -> None:
        """One epoch more, which is kept whatever its loss."""
        x, y, weights = self._ordered(net, x, y, weights)
        before: State | None = getattr(self, "_state", None)
        meter = Meter(sys.stdout if self.verbose else None)
        try:
            _, self.history_ = train(
                net.graph, x, y, loss=loss, optimizer=self.optimizer, lr=self.lr, batch=self.batch,
                epochs=1 + (0 if before is None else len(before.epochs)), seed=seed,
                init=self.init, threads=self.threads, settings=Settings(self.dtype),
                progress=meter, sample_weight=weights, state=before, same_samples=False)
        finally:
            meter.close()
        state = self.history_.state
        if state is None:
            raise ValueError("the loss is no number: a smaller lr, or features of a smaller range")
        self._state, self._state_seed = state, seed
        self.net_ = Net(net.graph.with_(values=state.params))
        self.compiled_ = Compiled(net.graph, state.params, dtype=self.dtype, threads=self.threads)
        self._learnt()

    def _ordered(self, net: Net, x: Array, y: Array, weights: Array | None
                 ) -> tuple[Array, Array, Array | None]:
        real = np.dtype(DTYPES[arithmetic(net.graph, self.dtype, None)[0]])
        finite(x, "X", real)  # here, where the rows are those of the caller
        finite(y.reshape(len(y), -1), "y", real)
        return in_own_order(x, y, weights)

    def _learnt(self) -> None:
        self.loss_curve_ = [epoch.loss for epoch in self.history_.epochs]
        self.n_iter_ = len(self.loss_curve_)

    def _outputs(self, x: Any) -> Array:
        """What the net says of X: float64 (samples, n_outputs)."""
        check_is_fitted(self)
        x = _dense(validate_data(self, x, reset=False, dtype=[np.float64, np.float32],
                                 accept_sparse="csr"))
        compiled: Compiled = self.compiled_
        with np.errstate(over="ignore"):
            x = x.astype(DTYPES[compiled.dtype])
        if not np.isfinite(x).all():
            raise ValueError(f"X holds a value that overflows {compiled.dtype}")
        return compiled(x).astype(np.float64)


    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _dense(x: Any) -> Array:
    made: Array = x.toarray() if hasattr(x, "toarray") else x
    return made


class NetClassifier(ClassifierMixin, _Estimator):
    __doc__ = f"""A net that learns classes; its outputs are logits.

    Of one output where there are two classes (trained by binary cross-entropy), or of one a class
    (softmax cross-entropy): `classes_` says in which order. A y of several columns of 0 and 1 is
    multilabel: an output each, trained by binary cross-entropy.

    class_weight  weights of the classes, a dict, or "balanced": by the inverse of their frequency

    {_Estimator.__doc__}"""

    def __init__(self, net: Given | None = None, *, hidden: int | Sequence[int] = (32,),
                 activation: str = "tanh", density: float = 1.0, optimizer: str = "adam",
                 lr: float | None = None, batch: int = 32, epochs: int = 100,
                 validation: float = 0.0, patience: int | None = None, init: str = "he",
                 random_state: Any = None, threads: int = 1, dtype: Any = None,
                 warm_start: bool = False, verbose: bool = False, class_weight: Any = None
                 ) -> None:
        super().__init__(net, hidden=hidden, activation=activation, density=density,
                         optimizer=optimizer, lr=lr, batch=batch, epochs=epochs,
                         validation=validation, patience=patience, init=init,
                         random_state=random_state, threads=threads, dtype=dtype,
                         warm_start=warm_start, verbose=verbose)
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """X (samples, features), y (samples,) of labels of any kind, two classes or more, or
        (samples, labels) of 0 and 1; sample_weight (samples,)."""
        X, y = self._data(X, y, True)
        y = self._labels(y)
        weights = self._weights(sample_weight, X)
        if weights is not None:
            X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
        before = getattr(self, "classes_", None) if self.warm_start else None
        self._name(y)
        if before is not None and not np.array_equal(before, self.classes_):
            raise ValueError(f"warm_start: y holds the classes {self.classes_}, not {before}")
        seed = self._seed()
        net, numbers = self._started(self._count(), seed), self._numbers(y)
        weights = self._of_classes(y, weights)
        if self.net is None and before is None:
            net = with_prior(net, numbers, weights)
        self._train(net, X, numbers, self._loss(net), seed, weights)
        self.__dict__.pop("_state", None)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One epoch over these samples, after `fit` too. `classes` are all that will come, and
        wanted at the first call (not of multilabel y)."""
        first = not hasattr(self, "net_")
        X, y = self._data(X, y, first)
        y = self._labels(y)
        weights = self._weights(sample_weight, X)
        if first:
            if classes is None and y.ndim == 1:
                raise ValueError("the first call of partial_fit wants classes, all that will come")
            self._name(y if y.ndim > 1 else np.asarray(classes))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes are {np.unique(classes)}, not {self.classes_} as before")
        if y.ndim == 1 and not np.isin(y, self.classes_).all():
            raise ValueError(f"y holds a label that is none of the classes {self.classes_}")
        seed = self._seed_on()
        net = self._made(self._count(), seed) if first else self.net_
        self._train_on(net, X, self._numbers(y), self._loss(net), seed,
                       self._of_classes(y, weights))
        return self

    def _labels(self, y: Any) -> Array:
        """(samples,) of classes, or (samples, labels) of 0 and 1."""
        if type_of_target(y, input_name="y") == "multilabel-indicator":
            return _dense(y)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return np.asarray(y)

    def _name(self, y: Array) -> None:
        self._multilabel = y.ndim > 1
        self.classes_ = np.arange(y.shape[1]) if y.ndim > 1 else np.unique(y)
        if len(self.classes_) < 2 and not self._multilabel:
            raise ValueError("y holds one class, and a classifier wants two or more")

    def _count(self) -> int:
        count = len(self.classes_)
        return 1 if count == 2 and not self._multilabel else count

    def _numbers(self, y: Array) -> Array:
        if self._multilabel != (y.ndim > 1) or (y.ndim > 1 and y.shape[1] != len(self.classes_)):
            raise ValueError(f"y has shape {y.shape}, which is not as it was before")
        return y if self._multilabel else np.searchsorted(self.classes_, y)

    def _loss(self, net: Net) -> str:
        outputs, count = len(net.outputs), len(self.classes_)
        if outputs != count and ((outputs, count) != (1, 2) or self._multilabel):
            what = "labels" if self._multilabel else "classes"
            raise ValueError(f"y holds {count} {what}, and the net has {outputs} outputs")
        return "bce" if outputs == 1 or self._multilabel else "ce"

    def _of_classes(self, y: Array, weights: Array | None) -> Array | None:
        """The weights of the samples times those of their classes."""
        if self.class_weight is None:
            return weights
        of_class: Array = compute_sample_weight(self.class_weight, y)
        return of_class if weights is None else of_class * weights

    def decision_function(self, X: Any) -> Array:
        """Logits: (samples,) of the second of two classes, (samples, classes) of more, (samples,
        labels) of multilabel."""
        y = self._outputs(X)
        if len(self.classes_) > 2 or self._multilabel:
            return y
        with np.errstate(invalid="ignore"):
            found: Array = y[:, 0] if y.shape[1] == 1 else y[:, 1] - y[:, 0]
            return found

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (samples, classes), in the order of `classes_`; of multilabel (samples,
        labels), each for itself."""
        logits = self.decision_function(X)
        if self._multilabel:
            small = np.exp(-np.abs(logits))
            chances: Array = np.where(logits < 0, small, 1.0) / (1.0 + small)
            return chances
        if logits.ndim == 1:
            logits = np.stack([np.zeros_like(logits), logits], axis=1)
        with np.errstate(invalid="ignore"):  # of infinite logits some chances are NaN
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            found: Array = powers / powers.sum(axis=1, keepdims=True)
            return found

    def predict(self, X: Any) -> Array:
        """The likeliest class of each sample (samples,); of multilabel 0 and 1 (samples,
        labels)."""
        logits = self.decision_function(X)
        if self._multilabel:
            return (logits > 0).astype(np.intp)
        found: Array = self.classes_[(logits > 0).astype(np.intp) if logits.ndim == 1
                                     else logits.argmax(axis=1)]
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class NetRegressor(RegressorMixin, _Estimator):
    __doc__ = f"""A net that learns numbers, one or several a sample.

    loss          mse, mae or huber:delta=D

    {_Estimator.__doc__}"""

    def __init__(self, net: Given | None = None, *, loss: str = "mse",
                 hidden: int | Sequence[int] = (32,), activation: str = "tanh",
                 density: float = 1.0, optimizer: str = "adam", lr: float | None = None,
                 batch: int = 32, epochs: int = 100, validation: float = 0.0,
                 patience: int | None = None, init: str = "he", random_state: Any = None,
                 threads: int = 1, dtype: Any = None, warm_start: bool = False,
                 verbose: bool = False) -> None:
        super().__init__(net, hidden=hidden, activation=activation, density=density,
                         optimizer=optimizer, lr=lr, batch=batch, epochs=epochs,
                         validation=validation, patience=patience, init=init,
                         random_state=random_state, threads=threads, dtype=dtype,
                         warm_start=warm_start, verbose=verbose)
        self.loss = loss

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """X (samples, features), y (samples,) or (samples, outputs); sample_weight (samples,)."""
        X, columns = self._columns(X, y, True)
        weights = self._weights(sample_weight, X)
        seed = self._seed()
        net = self._fitting(self._started(columns.shape[1], seed), columns)
        self._train(net, X, columns, self.loss, seed, weights)
        self.__dict__.pop("_state", None)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One epoch over these samples, after `fit` too."""
        first = not hasattr(self, "net_")
        X, columns = self._columns(X, y, first)
        weights = self._weights(sample_weight, X)
        seed = self._seed_on()
        net = self._fitting(self._made(columns.shape[1], seed) if first else self.net_, columns)
        self._train_on(net, X, columns, self.loss, seed, weights)
        return self

    def _columns(self, X: Any, y: Any, first: bool) -> tuple[Array, Array]:
        X, y = self._data(X, y, first, y_numeric=True)
        y = _dense(y)
        if losses.parse(self.loss).name in ("bce", "ce"):
            raise ValueError(f"the loss {self.loss} is for classes: see NetClassifier")
        self._flat = y.ndim == 1
        return X, y.reshape(len(y), -1)

    def _fitting(self, net: Net, columns: Array) -> Net:
        if len(net.outputs) != columns.shape[1]:
            raise ValueError(f"y has {columns.shape[1]} columns, and the net "
                             f"{len(net.outputs)} outputs")
        return net

    def predict(self, X: Any) -> Array:
        """float64 (samples,), or (samples, outputs) where y had columns."""
        y = self._outputs(X)
        return y[:, 0] if self._flat else y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
