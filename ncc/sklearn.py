"""Nets as estimators of scikit-learn: fit compiles and trains, predict is machine code.

    clf = ncc.NetClassifier(hidden=(64, 64), density=0.1).fit(X, y)
    clf.compiled_.save("digits.o")

Wants scikit-learn (`pip install 'ncc-compiler[sklearn]'`); `import ncc` does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from ncc import losses
from ncc.layers import layers
from ncc.net import Net, load, parse
from ncc.runtime import Array, Compiled
from ncc.ssa import DTYPES
from ncc.training import fit

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
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
    hidden        widths of the hidden layers; () for a linear model
    activation    of the hidden layers
    density       share of the layer before that a hidden neuron reads, drawn at random
    random_state  of these draws, the missing values, the order of the samples and of what is
                  held out: an int for the same result each time

    Features are taken as they come; put a `StandardScaler` before, where their ranges differ.

    After `fit`: `net_` (a `Net`, with the values learnt), `compiled_` (a `Compiled`), `history_`
    (a `History`), `loss_curve_` (an entry an epoch), `n_iter_` (epochs), `n_features_in_`.

    ValueError where the net does not fit X and y; NccError as of `ncc.fit`.
    """

    def __init__(self, net: Given | None = None, *, hidden: Sequence[int] = (32,),
                 activation: str = "tanh", density: float = 1.0, optimizer: str = "adam",
                 lr: float | None = None, batch: int = 32, epochs: int = 100,
                 validation: float = 0.0, patience: int | None = None, init: str = "he",
                 random_state: Any = None, threads: int = 1, dtype: Any = "f32") -> None:
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

    def _made(self, n_outputs: int, seed: int) -> Net:
        """The net to train, on X of `n_features_in_`."""
        given, n_inputs = self.net, self.n_features_in_
        if given is None:
            return layers([n_inputs, *self.hidden, n_outputs], activation=self.activation,
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

    def _train(self, net: Net, x: Array, y: Array, loss: str, seed: int) -> None:
        self.compiled_, self.history_ = fit(
            net, x, y, loss=loss, optimizer=self.optimizer, lr=self.lr, batch=self.batch,
            epochs=self.epochs, seed=seed, validation=self.validation, patience=self.patience,
            init=self.init, threads=self.threads, dtype=self.dtype)
        self.net_ = Net(net.graph.with_(values=self.compiled_.params))
        self.loss_curve_ = [epoch.loss for epoch in self.history_.epochs]
        self.n_iter_ = len(self.loss_curve_)

    def _outputs(self, x: Any) -> Array:
        """What the net says of X: float64 (samples, n_outputs)."""
        check_is_fitted(self)
        x = validate_data(self, x, reset=False, dtype=[np.float64, np.float32])
        compiled: Compiled = self.compiled_
        with np.errstate(over="ignore"):
            x = x.astype(DTYPES[compiled.dtype])
        if not np.isfinite(x).all():
            raise ValueError(f"X holds a value that overflows {compiled.dtype}")
        return compiled(x).astype(np.float64)


class NetClassifier(ClassifierMixin, _Estimator):
    __doc__ = f"""A net that learns classes; its outputs are logits.

    Of one output where there are two classes (trained by binary cross-entropy), or of one a class
    (softmax cross-entropy): `classes_` says in which order.

    {_Estimator.__doc__}"""

    def fit(self, X: Any, y: Any) -> Self:
        """X (samples, features), y (samples,) of labels of any kind: two classes or more."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        count = len(self.classes_)
        if count < 2:
            raise ValueError("y holds one class, and a classifier wants two or more")
        seed = self._seed()
        net = self._made(1 if count == 2 else count, seed)
        outputs = len(net.outputs)
        if outputs != count and (outputs, count) != (1, 2):
            raise ValueError(f"y holds {count} classes, and the net has {outputs} outputs")
        self._train(net, X, numbers, "bce" if outputs == 1 else "ce", seed)
        return self

    def decision_function(self, X: Any) -> Array:
        """Logits: (samples,) of the second of two classes, (samples, classes) of more."""
        y = self._outputs(X)
        if len(self.classes_) > 2:
            return y
        return y[:, 0] if y.shape[1] == 1 else y[:, 1] - y[:, 0]

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (samples, classes), in the order of `classes_`."""
        logits = self.decision_function(X)
        if logits.ndim == 1:
            logits = np.stack([np.zeros_like(logits), logits], axis=1)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: Array = powers / powers.sum(axis=1, keepdims=True)
        return found

    def predict(self, X: Any) -> Array:
        """The likeliest class of each sample (samples,)."""
        logits = self.decision_function(X)
        found: Array = self.classes_[(logits > 0).astype(np.intp) if logits.ndim == 1
                                     else logits.argmax(axis=1)]
        return found


class NetRegressor(RegressorMixin, _Estimator):
    __doc__ = f"""A net that learns numbers, one or several a sample.

    loss          mse, mae or huber:delta=D

    {_Estimator.__doc__}"""

    def __init__(self, net: Given | None = None, *, loss: str = "mse",
                 hidden: Sequence[int] = (32,), activation: str = "tanh", density: float = 1.0,
                 optimizer: str = "adam", lr: float | None = None, batch: int = 32,
                 epochs: int = 100, validation: float = 0.0, patience: int | None = None,
                 init: str = "he", random_state: Any = None, threads: int = 1,
                 dtype: Any = "f32") -> None:
        super().__init__(net, hidden=hidden, activation=activation, density=density,
                         optimizer=optimizer, lr=lr, batch=batch, epochs=epochs,
                         validation=validation, patience=patience, init=init,
                         random_state=random_state, threads=threads, dtype=dtype)
        self.loss = loss

    def fit(self, X: Any, y: Any) -> Self:
        """X (samples, features), y (samples,) or (samples, outputs)."""
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], multi_output=True,
                             y_numeric=True)
        if losses.parse(self.loss).name in ("bce", "ce"):
            raise ValueError(f"the loss {self.loss} is for classes: see NetClassifier")
        self._flat = y.ndim == 1
        columns = y.reshape(len(y), -1)
        seed = self._seed()
        net = self._made(columns.shape[1], seed)
        if len(net.outputs) != columns.shape[1]:
            raise ValueError(f"y has {columns.shape[1]} columns, and the net "
                             f"{len(net.outputs)} outputs")
        self._train(net, X, columns, self.loss, seed)
        return self

    def predict(self, X: Any) -> Array:
        """float64 (samples,), or (samples, outputs) where y had columns."""
        y = self._outputs(X)
        return y[:, 0] if self._flat else y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
