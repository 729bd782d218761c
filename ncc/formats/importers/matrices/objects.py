"""Live matrices: scipy.sparse, numpy, and lists of them, one a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.formats.importers.foreign import Foreign, Imported, Options, of_module
from ncc.formats.importers.matrices.arrays import Matrix, built, dense, real, too_large

Array = tuple[Foreign, NDArray[Any]]


def recognises(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(map(_is_matrix, value))
    return _is_matrix(value)


def _is_matrix(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (of_module(value, "scipy") and hasattr(value, "tocoo"))


def from_object(value: Any, options: Options) -> Imported:
    """The net of an adjacency matrix, or of a list of matrices, one a layer; booleans are edges
    whose weights have no value. NccErrors E801, E816, E817, E819."""
    several = isinstance(value, list | tuple)
    items = [_item(each, f"<matrix {k}>" if several else "<matrix>", options)
             for k, each in enumerate(value if several else [value])]
    return net(items, options, "scipy", layered=options.layered or several)


def net(items: Sequence[Matrix | Array], options: Options, importer: str, *, layered: bool
        ) -> Imported:
    """The net of sparse and dense matrices. All entries of a dense layer are edges; of a dense
    adjacency matrix those that are not 0."""
    layered = layered or len(items) > 1
    return built([item if isinstance(item, Matrix) else _dense(*item, layered, options)
                  for item in items], options, importer, layered=layered)


def _dense(file: Foreign, values: NDArray[Any], layered: bool, options: Options) -> Matrix:
    if values.ndim != 2:
        raise file.fault("E801", f"an array of {values.ndim} axes is no matrix")
    if values.size > options.max_edges:
        raise too_large(file, sum(values.shape), values.size, options)
    real(file, values[:0, :0].ravel())  # of its type
    return dense(file, values, zeros=layered or values.shape[0] != values.shape[1])


def _item(value: Any, name: str, options: Options) -> Matrix | Array:
    file = Foreign(name, "")
    if isinstance(value, np.ndarray):
        return file, np.asarray(value)
    if len(value.shape) != 2:
        raise file.fault("E801", f"an array of {len(value.shape)} axes is no matrix")
    if value.nnz > options.max_edges:
        raise too_large(file, sum(value.shape), value.nnz, options)
    found = value.tocoo()
    rows, columns = (np.asarray(side).astype(np.int64) for side in (found.row, found.col))
    return Matrix(file, (int(found.shape[0]), int(found.shape[1])), rows, columns,
                  real(file, found.data))
