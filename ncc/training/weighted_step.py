"""Training in which samples count differently: a step whose gradient is a weighted sum."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.driver.compiler import Build
from ncc.driver.settings import USUAL, Settings
from ncc.machine.llvm import host
from ncc.machine.native import Library, backward, forward
from ncc.progress import Progress
from ncc.scalar import losses
from ncc.scalar.numpy_eval import Numpy
from ncc.training.freeze import freeze
from ncc.training.step import TrainStep

Array = NDArray[Any]


class WeightedStep(TrainStep):
    """A `TrainStep` of targets (n, n_targets + 1), whose last column is the weight of the sample:
    the loss of a minibatch is sum(weight * loss) / n.

    The loss and its derivatives are computed by numpy, between the forward and the backward
    functions of the net, so that a step takes about two forward passes longer than one
    without weights.
    """

    def __init__(self, graph: Any, loss: str, optimizer: str, settings: Settings = USUAL,
                 **how: Any) -> None:
        super().__init__(graph, loss, optimizer, settings=settings, **how)
        self._loss = losses.parse(loss)
        name = "f32" if self._real == np.float32 else "f64"
        net = freeze(graph, self._frozen, self.params)
        with Progress(sys.stderr) as progress, progress.working("emit obj"):
            build = Build.of(net, host(), settings, progress, gradient=True)
            self._both = Library(build.made, name)
        self._numpy = Numpy(name, build.options["numerics"] != "strict")

    def accumulate(self, x: Any, target: Any) -> float:
        x, target = self._checked(x, target)
        self._fresh = False
        packed = self._both.pack(self._params)
        mean, derivatives = self._weighed(forward(self._both, x, packed, self.threads), target)
        backward(self._both, x, packed, derivatives, None, self._gradient, self.threads)
        return mean

    def loss(self, x: Any, target: Any) -> float:
        x, target = self._checked(x, target)
        packed = self._both.pack(self._params)
        return self._weighed(forward(self._both, x, packed, self.threads), target)[0]

    def _checked(self, x: Any, target: Any) -> tuple[Array, Array]:
        with np.errstate(over="ignore"):
            target = np.asarray(target, self._real)
        x, _ = super()._checked(x, target[:, :-1])
        return x, target

    def _weighed(self, y: Array, target: Array) -> tuple[float, Array]:
        """The mean loss, and the weighted derivatives in y (n, n_outputs)."""
        goals, weights = target[:, :-1], target[:, -1:]
        e = self._numpy
        with np.errstate(all="ignore"):  # what is not finite shows in the loss
            if self._loss.name == "ce":
                top = y.max(axis=1, keepdims=True)
                terms = losses.ce_term(e, y, top)
                total = terms.sum(axis=1, keepdims=True)
                numbers = np.arange(y.shape[1], dtype=y.dtype)
                each = losses.ce_loss(e, total, top,
                                      np.take_along_axis(y, goals.astype(np.intp), 1))
                derivatives = losses.ce_derivative(e, terms, total, numbers, goals)
            else:
                each, derivatives = losses.element(e, self._loss, y, goals)
            mean = float((each * weights).sum(dtype=np.float64)) / (max(1, len(y)) * self._divisor)
            return mean, np.ascontiguousarray(derivatives * weights, self._real)
