"""Gradients and training steps over images on this machine: compiled once for a set of kinds, kept
on disk, loaded once."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.driver.settings import options
from ncc.images.image import Words, image
from ncc.images.image_back import AT, back
from ncc.images.kinds import Kinds
from ncc.ir.graph import Graph
from ncc.ir.ssa import Module
from ncc.machine.llvm import host
from ncc.machine.native import Library, aligned, placed
from ncc.passes.lower.data.gradients import gradients
from ncc.passes.lower.data.training import training
from ncc.passes.lower.reverse.frame import lanes
from ncc.runtime.kernel import loaded

Array = NDArray[Any]


class BackKernel:
    """Backward passes over images, in memory; `unroll` is what images of the way back are made for.
    Any thread may call it at any time, with memory of its own."""

    def __init__(self, kinds: Kinds, dtype: str, chosen: dict[str, Any], library: Library) -> None:
        self.kinds = kinds
        self.dtype = dtype
        self.lanes = lanes(chosen["native"], dtype)
        self.unroll = unroll(chosen)
        self.library = library
        self.real = library.real

    def images(self, graph: Graph, params: Any) -> Images:
        """What the kernel takes of a graph with levels, and its params (n_params,). NccError E147
        where a row is of none of the kinds."""
        block = image(graph, self.kinds, self.dtype, params)
        return Images(placed(block), placed(back(graph, self.kinds, self.dtype, self.unroll)))

    def gradient(self, images: Images, x: Array, dy: Array, dx: Array | None,
                 dparams: Array | None) -> None:
        """dx of x (n, inputs) and dy (n, outputs); the gradient of the parameters is added to
        dparams (n_params,). All are of the kernel's dtype and row-major; None is not wanted."""
        memory = images.memory(self.lanes, self.real)
        image = images.image.ctypes.data
        self.library.calls["backward_batch"](
            len(x), image, images.back.ctypes.data, image, x.ctypes.data, dy.ctypes.data,
            None if dx is None else dx.ctypes.data,
            None if dparams is None else dparams.ctypes.data,
            *[part.ctypes.data for part in memory])


class Images:
    """The image of a net, and that of its way back."""

    def __init__(self, image: NDArray[np.uint8], back: Words) -> None:
        self.image = image
        self.back = back

    def word(self, name: str) -> int:
        """A word of the head of the way back's image."""
        return int(self.back[AT[name]])

    def memory(self, lanes: int, real: Any) -> tuple[Array, Array, Array]:
        """What a call wants memory for, one at a time: `gradient`, `by_reader`, `work`."""
        return (aligned(self.word("n_elements") + 1, real), aligned(self.word("n_edges"), real),
                aligned(self.word("work_size") * lanes, real))


_kernels: dict[tuple[Any, ...], BackKernel] = {}
_lock = threading.Lock()


def back_kernel(kinds: Kinds, dtype: str, numerics: str | None = None, cached: bool = True
                ) -> BackKernel:
    """The backward pass of these kinds for this machine: in memory already, or from the cache on
    disk unless not `cached`, or compiled. NccError E400 where that takes too much."""
    return _kernel("gradients", kinds, (), dtype, numerics, cached)


def training_kernel(kinds: Kinds, loss: str, optimizer: str, dtype: str,
                    numerics: str | None = None, cached: bool = True) -> BackKernel:
    """The same of a step of training."""
    return _kernel("training", kinds, (loss, optimizer), dtype, numerics, cached)


def _kernel(what: str, kinds: Kinds, more: tuple[str, ...], dtype: str, numerics: str | None,
            cached: bool) -> BackKernel:
    chosen = options(host(), dtype=dtype, numerics=numerics, name="engine")
    key = what, kinds, more, dtype, chosen["numerics"]

    def make() -> Module:
        if what == "gradients":
            return gradients(kinds, **of_target(chosen))
        return training(kinds, *more, **of_target(chosen))

    with _lock:
        if key not in _kernels:
            library = loaded(make, (what, kinds.kinds, more), chosen, cached)
            _kernels[key] = BackKernel(kinds, dtype, chosen, library)
        return _kernels[key]


def of_target(chosen: dict[str, Any]) -> dict[str, Any]:
    """What the code of a backward pass depends on, beside the kinds, of a target's options."""
    return {"name": chosen["name"], "dtype": chosen["dtype"], "numerics": chosen["numerics"],
            "native": chosen["native"], "unroll": unroll(chosen),
            "lanes_back": lanes(chosen["native"], chosen["dtype"])}


def unroll(chosen: dict[str, Any]) -> int:
    """Edges an iteration: registers keep a sum over the samples for each of them, a value and its
    adjoint."""
    return 4 if chosen["registers"] <= 16 else max(4, min(int(chosen["native"]), 8))
