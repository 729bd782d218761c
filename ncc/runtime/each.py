"""Batches whose samples have parameters of their own: how they are called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.machine.native import Library, backward, forward, shares

Array = NDArray[Any]
# Parameters of a net from where no code is made that has them as lanes: it is twice as fast up to
# there, but takes hundreds of megabytes of work.
LARGE = 1 << 20
# Samples from where they are worth a call for each vector, rather than one for each sample; of few
# vectors, half as many.
MANY = 128
COPIES = 1 << 20  # bytes of copies of what is one for all


def evaluate(lanes: Callable[[], Library], plain: Library | None, x: Array, params: Array,
             shared: bool, threads: int) -> Array:
    """y of `Compiled.each`: x (n_inputs,), (n, n_inputs) or, `shared`, (m, n_inputs), params
    (n_params,) or (n, n_params), row-major and of the libraries' dtype.

    `lanes` gives the library with `each`, `plain` is one with `pack` and the forward functions
    (None where the weights are in their code)."""
    large = plain is not None and params.shape[-1] > LARGE
    if plain is not None and (large or shared and len(x) > min(len(params) // 2, MANY)):
        return _one_by_one(plain, x, params, shared, threads)
    library = lanes()
    n_outputs = library.functions["each"].buffers["y"]
    if shared:
        y = np.empty((len(params), len(x), n_outputs), library.real)
        for k, sample in enumerate(x):
            (y[:, k],) = _in_lanes(library, "each", (sample, params), (n_outputs,), threads)
        return y
    (y,) = _in_lanes(library, "each", (x, params), (n_outputs,), threads)
    return y


def pull(lanes: Callable[[], Library], plain: Callable[[], Library], x: Array, params: Array,
         dy: Array, threads: int) -> tuple[Array, Array]:
    """The gradients of sum(y[k] * dy[k]) for each k: dx (n, n_inputs) and dparams (n, n_params),
    without n where neither x nor params has it. `lanes` gives the library with `each_backward`,
    `plain` the one with the backward functions."""
    widths = x.shape[-1], params.shape[-1]
    if params.shape[-1] <= LARGE:
        dx, dparams = _in_lanes(lanes(), "each_backward", (x, params, dy), widths, threads)
        return dx, dparams
    library, lead = plain(), dy.shape[:-1]
    dx, dparams = [np.zeros((*lead, width), library.real) for width in widths]
    for k in np.ndindex(lead):
        packed = library.pack(params[k] if params.ndim == 2 else params)
        backward(library, x[k] if x.ndim == 2 else x, packed, dy[k], dx[k], dparams[k], threads)
    return dx, dparams


def _one_by_one(plain: Library, x: Array, params: Array, shared: bool, threads: int) -> Array:
    """y, vector by vector: of all samples where they are `shared`."""
    rows = max(a.shape[:-1] for a in (x, params)) if not shared else params.shape[:1]
    y = [forward(plain, x if shared or x.ndim == 1 else x[k],
                 plain.pack(params[k] if params.ndim == 2 else params), threads)
         for k in np.ndindex(rows)]
    found = np.array(y, plain.real)
    middle = x.shape[:1] if shared else ()
    return found.reshape(*rows, *middle, plain.functions["forward"].buffers["y"])


def _in_lanes(library: Library, name: str, arrays: tuple[Array, ...], widths: tuple[int, ...],
              threads: int) -> list[Array]:
    """What the function `name` makes of `arrays`, each of one row or of a row for each sample: as
    many arrays as `widths`, without the samples' axis where none of the former has it."""
    lead = max([array.shape[:-1] for array in arrays])
    n = lead[0] if lead else 1
    made = [np.empty((n, width), library.real) for width in widths]
    if threads == 1 and all([array.ndim == 2 for array in arrays]):
        library.calls[name](n, *[array.ctypes.data for array in (*arrays, *made)],
                            library.scratch(name))
        return made
    for first, last, held in _pieces(n, arrays):
        both = [*held, *[array[first:last] for array in made]]
        at = [(array.ctypes.data, array.strides[0]) for array in both]

        def arguments(lo: int, hi: int, at: list[tuple[int, int]] = at) -> tuple[int, ...]:
            return hi - lo, *[address + lo * stride for address, stride in at]

        library.spread(name, arguments, shares(last - first, threads, library, 2))
    return made if lead else [array[0] for array in made]


def _pieces(n: int, arrays: tuple[Array, ...]) -> Iterator[tuple[int, int, list[Array]]]:
    """n samples as first and last of each piece, and their rows of each array: of one that is a
    single row, copies, of which there are no more than COPIES bytes."""
    single = [array.nbytes for array in arrays if array.ndim == 1]
    most = max(1, n)
    if single:
        most = min(most, max(1, COPIES // max(1, *single) // 64) * 64)
    copies = [np.tile(array, (min(n, most), 1)) if array.ndim == 1 else array for array in arrays]
    for first in range(0, n, most):
        last = min(n, first + most)
        yield first, last, [copy[: last - first] if array.ndim == 1 else copy[first:last]
                            for array, copy in zip(arrays, copies, strict=True)]
