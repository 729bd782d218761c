"""A net in training whose edges may change: a step over its image, compiled for its kinds alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.driver.settings import arithmetic
from ncc.images.image_back import table
from ncc.images.kinds import kinds_of
from ncc.ir.graph import Graph
from ncc.runtime.back import Images, training_kernel
from ncc.scalar import losses, optimizers
from ncc.training.freeze import Mask, freeze
from ncc.training.step import TrainStep

Array = NDArray[Any]


class ImageStep(TrainStep):
    """A `TrainStep` whose net is data: `change` gives it another one, of the same kinds of neurons,
    without any compiling. To the bit it does what the compiled step does.

    Arguments are those of `TrainStep`; the graph has levels.
    """

    def __init__(self, graph: Graph, loss: str, optimizer: str, *, params: Any = None,
                 dtype: Any = None, threads: int = 1, numerics: str | None = None,
                 cache: bool = True, frozen: Mask | None = None) -> None:
        dtype, numerics = arithmetic(graph, dtype, numerics)
        self._loss, self._optimizer = losses.parse(loss), optimizers.parse(optimizer)
        values = self._begin(graph, self._loss, params, threads, frozen)
        self._kernel = training_kernel(kinds_of([graph]), str(self._loss), str(self._optimizer),
                                       dtype, numerics, cache)
        self._library = self._kernel.library
        self._real = self._library.real
        self._made(values)

    def change(self, graph: Graph, params: Any, frozen: Mask | None, kept: NDArray[np.int64]
               ) -> None:
        """Another net, which has levels, with parameters (n_params,); `kept` says for each
        trained one which one it was, whose reals of the optimizer it keeps, or -1, for zeros.

        NccError E147 where a neuron is of a kind that the net had none of at first."""
        scalars, slots = self._optimizer.scalars, self._optimizer.slots
        head = self._state[: 1 + scalars]
        old = self._state[1 + scalars :].reshape(slots, len(self._params))
        self._kernel.kinds.of(graph, np.flatnonzero(graph.activations >= 0))
        self._made(self._begin(graph, self._loss, params, self.threads, frozen))
        self._state[: 1 + scalars] = head
        new = self._state[1 + scalars :].reshape(slots, len(self._params))
        stays = kept >= 0
        new[:, stays] = old[:, kept[stays]]

    def gradient_of(self, graph: Graph, params: Any, x: Any, target: Any) -> Array:
        """The gradient (n_params,) of the mean loss of samples, of another net, which has levels,
        with parameters (n_params,). Nothing changes."""
        x, target = self._checked(x, target)
        images = self._kernel.images(graph, np.asarray(params, np.float64))
        loss, gradient = np.zeros(1, self._real), np.zeros(graph.n_params, self._real)
        self._called(images, images.memory(self._kernel.lanes, self._real), x, target, loss,
                     gradient)
        made: Array = gradient / (max(1, len(x)) * self._divisor)
        return made

    def _made(self, values: Array) -> None:
        net = freeze(self.graph, self._frozen, values)
        self._hold(self._real, 1 + optimizers.state_size(self._optimizer, net.n_params))
        self._table = table(net, net.values).astype(self._real)
        self._params = self._table[: net.n_params]
        self._images = self._kernel.images(net, net.values)
        self.params = values

    def _pack(self) -> None:
        image = self._images.image.ctypes.data
        self._library.calls["pack"](self._images.back.ctypes.data, image,
                                    self._table.ctypes.data, image)

    def _leading(self) -> tuple[int, ...]:
        return (self._images.back.ctypes.data,)

    def _weights(self) -> int:
        return self.graph.n_edges

    def _summed(self, thread: int, x: Array, target: Array, loss: Array, gradient: Array | None
                ) -> None:
        if thread not in self._work:
            self._work[thread] = self._images.memory(self._kernel.lanes, self._real)
        self._called(self._images, self._work[thread], x, target, loss, gradient)

    def _called(self, images: Images, memory: tuple[Array, ...], x: Array, target: Array,
                loss: Array, gradient: Array | None) -> None:
        image = images.image.ctypes.data
        self._library.calls["gradient_batch"](
            len(x), image, images.back.ctypes.data, image, x.ctypes.data, target.ctypes.data,
            None if gradient is None else gradient.ctypes.data, loss.ctypes.data,
            *[part.ctypes.data for part in memory])

    @property
    def memory(self) -> dict[str, int]:
        return {"params": self._params.nbytes, "gradient": self._gradient.nbytes,
                "state": self._state.nbytes,
                "images": self._images.image.nbytes + self._images.back.nbytes,
                "work": sum(part.nbytes for held in self._work.values() for part in held)}
