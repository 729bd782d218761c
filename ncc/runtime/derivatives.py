"""`fn.vjp` and `fn.jacobian`: gradients after a forward pass, and all derivatives by the inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.machine.native import Library, backward, forward, reals, shares

Array = NDArray[Any]


def vjp(library: Library, values: Library, x: Array, packed: Array, own: Array | None,
        kept: Array | None, n_params: int, threads: int
        ) -> tuple[Array, Callable[[Any], tuple[Array, Array]]]:
    """y of x, and the pullback: dy to dx and dparams, by the backward functions of `library` with
    their `packed`. y is made by them where they may keep values in `kept`, else by those of
    `values` with their `own` packed (None where the weights are in the code)."""
    if kept is None:
        y = forward(values, x, own, threads)
    else:
        y = forward(library, x, packed, threads, kept)

    def pullback(dy: Any) -> tuple[Array, Array]:
        dy = reals(dy, library.real, "dy")
        if dy.shape != y.shape:
            raise ValueError(f"dy has shape {dy.shape}, y has {y.shape}")
        dx = np.empty_like(x)
        dparams = np.zeros(n_params, library.real)
        backward(library, x, packed, dy, dx, dparams, threads, kept)
        return dx, dparams

    return y, pullback


def jacobian(library: Library, x: Array, packed: Array, n_outputs: int, threads: int) -> Array:
    """(n_outputs, n_inputs) of x (n_inputs,), or (n, n_outputs, n_inputs) of x (n, n_inputs), which
    is row-major and of the library's dtype. Each sample has the bits that it has alone."""
    made = np.empty((*x.shape[:-1], n_outputs, x.shape[-1]), library.real)
    if x.ndim == 1:
        library.calls["jacobian"](x.ctypes.data, packed.ctypes.data, made.ctypes.data,
                                  library.scratch("jacobian"))
        return made
    passes = 1 + min(n_outputs, x.shape[-1])
    library.spread(
        "jacobian_batch",
        lambda first, last: (last - first, x.ctypes.data + first * x.strides[0],
                             packed.ctypes.data, made.ctypes.data + first * made.strides[0]),
        shares(len(x), threads, library, passes))
    return made
