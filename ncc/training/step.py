"""A net in training: its compiled step, and the memory that the step works on."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.driver.compiler import Build
from ncc.driver.settings import USUAL, Settings
from ncc.ir.graph import Graph
from ncc.machine.llvm import host
from ncc.machine.native import Library, Sums, aligned, in_chunks
from ncc.progress import Progress
from ncc.scalar import losses, optimizers
from ncc.training.freeze import Mask, freeze

Array = NDArray[Any]


class TrainStep:
    """The loss, the gradients and the optimizer of a net as machine code, on minibatches.

    loss, optimizer   their texts: "mse", "huber:delta=0.5"; "adam", "sgd:momentum=0.9"
    params            the canonical vector (n_params,) to start from; the graph's values without
    threads           over the samples of a minibatch, whole chunks of ncc/scalar/sum_order.py each;
                      0 is one a core. No result depends on them.
    settings          of the code: dtype, numerics, opt, ...
    frozen            the parameters that stay as they are (n_params,), if any

    NccError E630 (status 2) for a text that is wrong; ValueError where a parameter has no value.
    """

    def __init__(self, graph: Graph, loss: str, optimizer: str, *, params: Any = None,
                 threads: int = 1, frozen: Mask | None = None,
                 settings: Settings = USUAL) -> None:
        of_loss, of_optimizer = losses.parse(loss), optimizers.parse(optimizer)
        values = self._begin(graph, of_loss, params, threads, frozen)
        with Progress(sys.stderr) as progress, progress.working("emit obj"):
            made = Build.of(freeze(graph, self._frozen, values), host(), settings, progress,
                            gradient=True, vjp=False, loss=str(of_loss),
                            optimizer=str(of_optimizer), apart=True).made
        self._library = library = Library(made, settings.of(graph).dtype)
        self._hold(library.real, library.functions["update"].buffers["state"])
        self._packed = aligned(library.n_packed or 0, self._real)
        self.params = values

    def _begin(self, graph: Graph, loss: losses.Loss, params: Any, threads: int,
               frozen: Mask | None) -> Array:
        """What does not depend on the code: the parameters to start from."""
        self.graph = graph
        self._frozen = np.zeros(graph.n_params, np.bool_) if frozen is None else frozen
        values = self._whole(graph.values if params is None else params)
        self._held = values[self._frozen]
        self.threads = threads
        self.n_targets = losses.targets(loss, len(graph.outputs))
        self._divisor = losses.scale(loss, len(graph.outputs))
        self._work: dict[int, Any] = {}  # by thread
        return values

    def _hold(self, real: Any, state: int) -> None:
        """Memory for so many reals of the optimizer's, and the gradient."""
        self._real = real
        self._state = np.zeros(state, real)
        self._gradient = np.zeros(self.graph.n_params - len(self._held), real)
        self._params = np.empty_like(self._gradient)
        self._fresh = True  # whether the gradient is 0

    @property
    def real(self) -> np.dtype[Any]:
        """What it computes in."""
        made: np.dtype[Any] = self._real
        return made

    @property
    def params(self) -> Array:
        """The canonical parameters (n_params,), float64, a copy; settable."""
        values = np.empty(self.graph.n_params)
        values[self._frozen] = self._held
        values[~self._frozen] = self._params
        return values

    @params.setter
    def params(self, values: Any) -> None:
        array = self._whole(values)
        if (array[self._frozen] != self._held).any():
            raise ValueError("a frozen parameter has another value")
        with np.errstate(over="ignore"):
            self._params[:] = array[~self._frozen]
        self._pack()

    def _pack(self) -> None:
        """The parameters, as `gradient_batch` reads them."""
        self._library.calls["pack"](self._params.ctypes.data, self._packed.ctypes.data)

    def _whole(self, values: Any) -> Array:
        array = np.array(values, np.float64)
        if array.shape != (self.graph.n_params,):
            raise ValueError(f"params has shape {array.shape}, the net wants "
                             f"({self.graph.n_params},)")
        if np.isnan(array).any():
            raise ValueError(f"{int(np.isnan(array).sum())} of {len(array)} parameters have no "
                             "value")
        return array

    @property
    def state(self) -> Array:
        """What the optimizer keeps between steps, a copy; settable; all zeros to begin."""
        return self._state[1:].copy()

    @state.setter
    def state(self, values: Any) -> None:
        array = np.asarray(values, self._real)
        if array.shape != (len(self._state) - 1,):
            raise ValueError(f"state has shape {array.shape}, not ({len(self._state) - 1},)")
        self._state[1:] = array

    def loss(self, x: Any, target: Any) -> float:
        """The mean loss of samples x (n, n_inputs) and targets (n, n_targets), which for `ce` are
        classes, (n,) too. Nothing changes."""
        return self._mean_loss(*self._checked(x, target), None)

    def step(self, x: Any, target: Any, lr: float) -> float:
        """One update on a minibatch, of learning rate `lr`: the mean loss before it."""
        mean = self.accumulate(x, target)
        self.update(len(x), lr)
        return mean

    def accumulate(self, x: Any, target: Any) -> float:
        """Add the gradient of a minibatch to what `update` goes by: its mean loss."""
        fresh, self._fresh = self._fresh, False
        return self._mean_loss(*self._checked(x, target), self._gradient, fresh)

    def update(self, samples: int, lr: float) -> None:
        """One update by the mean gradient of the `samples` that were accumulated since the last."""
        real = self._real.type
        # Rounded as train_step_batch rounds it.
        scale = real(1.0 / self._divisor) / real(max(1, samples))
        self._library.calls["update"](*self._leading(), self._params.ctypes.data,
                                      self._gradient.ctypes.data, self._state.ctypes.data, lr,
                                      float(scale))
        self._fresh = True
        self._pack()

    def _leading(self) -> tuple[int, ...]:
        """What `update` takes before the parameters."""
        return ()

    @property
    def memory(self) -> dict[str, int]:
        """Bytes that are held between steps and in them, by what they are for."""
        return {"params": self._params.nbytes, "gradient": self._gradient.nbytes,
                "state": self._state.nbytes, "packed": self._packed.nbytes,
                "work": sum(part.nbytes for part in self._work.values())}

    def gradient(self, x: Any, target: Any) -> tuple[float, Array]:
        """The mean loss of a minibatch and its gradient (n_params,), of frozen ones 0."""
        x, target = self._checked(x, target)
        gradient = np.zeros_like(self._gradient)
        mean = self._mean_loss(x, target, gradient)
        whole = np.zeros(self.graph.n_params, self._real)
        whole[~self._frozen] = gradient / (max(1, len(x)) * self._divisor)
        return mean, whole

    def _checked(self, x: Any, target: Any) -> tuple[Array, Array]:
        with np.errstate(over="ignore"):  # what overflows is an infinity
            x = np.asarray(x, self._real, order="C")
            target = np.asarray(target, self._real, order="C")
        if target.ndim == 1 and self.n_targets == 1:
            target = target[:, None]
        if x.ndim != 2 or x.shape[1] != len(self.graph.inputs):
            raise ValueError(f"x has shape {x.shape}, the net wants (n, {len(self.graph.inputs)})")
        if target.shape != (len(x), self.n_targets):
            raise ValueError(f"target has shape {target.shape}, not ({len(x)}, {self.n_targets})")
        return x, target

    def _mean_loss(self, x: Array, target: Array, gradient: Array | None, fresh: bool = True
                   ) -> float:
        """The mean loss; the gradients are added to `gradient`, where it is wanted, which is 0 if
        it is `fresh`."""
        loss = np.zeros(1, self._real)

        def part(thread: int, first: int, last: int, sums: Sums) -> None:
            self._summed(thread, x[first:last], target[first:last], sums[0],
                         None if gradient is None else sums[1])

        totals = (loss,) if gradient is None else (loss, gradient)
        in_chunks(self._library, len(x), self.threads, totals, part, not fresh, self._weights())
        return float(loss[0]) / (max(1, len(x)) * self._divisor)

    def _weights(self) -> int | None:
        """How many weights a sample costs, where the library does not know."""
        return None

    def _summed(self, thread: int, x: Array, target: Array, loss: Array, gradient: Array | None
                ) -> None:
        """Add the loss of samples, and its gradient where it is wanted, in the memory of a
        thread."""
        if thread not in self._work:
            self._work[thread] = self._library.work("gradient_batch")
        self._library.calls["gradient_batch"](
            len(x), x.ctypes.data, target.ctypes.data, self._packed.ctypes.data,
            None if gradient is None else gradient.ctypes.data, loss.ctypes.data,
            self._work[thread].ctypes.data)
