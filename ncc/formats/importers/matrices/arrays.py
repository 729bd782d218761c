"""Matrices to a net: a square one is the adjacency matrix of a net, others are its layers.

w[i, j] is the weight of the edge from i to j. In-lists ascend. Everything here is done with whole
arrays: a net of 10^6 edges takes well under a second and some 100 bytes an edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.formats.importers.builder import asked
from ncc.formats.importers.foreign import Foreign, Imported, Options
from ncc.formats.importers.matrices.assembly import assemble
from ncc.ir.graph import INPUT, Graph, Ints, Reals
from ncc.ir.graph_types import Label
from ncc.scalar.activations import FREE, code_of

TAKES: Final = ("activation", "bias", "transpose", "layered", "drop_zeros", "fn")
# Neurons without any edge, of which a few bytes of a file can declare any number.
ISOLATED: Final = 10**6
MOST: Final = 2**31 - 1  # neurons that int32 can number
LAYERED: Final = "--layered: a square matrix is a layer, from rows to columns"


@dataclass(frozen=True)
class Matrix:
    """A sparse matrix of E entries, in any order.

    file     whose it is, in messages
    shape    rows and columns
    rows     int (E), of shape[0]
    columns  int (E), of shape[1]
    values   float64 (E), None where it gives none
    place    the line of entry k, where it has one: `line` of `Foreign.fault`
    """

    file: Foreign
    shape: tuple[int, int]
    rows: NDArray[Any]
    columns: NDArray[Any]
    values: Reals | None
    place: Callable[[int], dict[str, Any]] = lambda _: {}

    def fault(self, code: str, k: int, what: str, help: str = "") -> NccError:
        """A fault of entry k, which is told by its place, or counted from 0."""
        place = self.place(k)
        if place.get("line"):
            return self.file.fault(code, what, help=help, **place)
        return self.file.fault(code, f"entry ({self.rows[k]}, {self.columns[k]}): {what}",
                               help=help)


def dense(file: Foreign, values: NDArray[Any], *, zeros: bool) -> Matrix:
    """A matrix of all entries of an array (rows, columns), `zeros` among them or not."""
    rows, columns = np.nonzero(np.ones_like(values, np.bool_) if zeros else values != 0)
    return Matrix(file, (values.shape[0], values.shape[1]), rows, columns,
                  real(file, values[rows, columns]))


def real(file: Foreign, values: NDArray[Any]) -> Reals | None:
    """Values as float64, which has them all; None for booleans. NccErrors E801, E817."""
    if values.dtype.kind == "b":
        return None
    if values.dtype.kind not in "fiu" or values.dtype.itemsize > 8:
        raise file.fault("E817", f"values of {values.dtype}: no real numbers of at most 64 bits")
    made: Reals = values.astype(np.float64, copy=False)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and len(values):
        if max(-int(values.min()), int(values.max())) > 2**53:
            raise file.fault("E801", "an integer of more than 53 bits, which float64 lacks")
    return made


def built(matrices: Sequence[Matrix], options: Options, importer: str, *, layered: bool,
          notes: Sequence[str] = (), labels: Sequence[Label] = ()) -> Imported:
    """The net of one square matrix, or of layers, whose shapes chain.

    layered  whether a single square matrix is a layer

    NccErrors E801 (a second entry, a value that is not finite), E816 (shapes), E819.
    """
    if options.transpose:
        matrices = [replace(m, shape=m.shape[::-1], rows=m.columns, columns=m.rows)
                    for m in matrices]
    notes = list(notes)
    _chained(matrices)
    first = matrices[0]
    square = len(matrices) == 1 and first.shape[0] == first.shape[1]
    fits(first.file, first.shape[0] + (0 if square and not layered else sum(
        m.shape[1] for m in matrices)), sum(len(m.rows) for m in matrices), options)
    for matrix in matrices:
        _check(matrix)
    matrices = [_without_zeros(m, options.drop_zeros, notes) for m in matrices]
    first = matrices[0]
    if square and not layered:
        lengths, sources, values = _in_lists(first)
        is_input = lengths == 0
        outputs = ~is_input
        outputs[sources] = False
        if len(sources) and not outputs.any():
            outputs = ~is_input  # there is a cycle, which `order` tells
    else:
        lengths, sources, values, labels = _layers(matrices, labels)
        is_input = np.arange(len(lengths)) < first.shape[0]
        outputs = np.arange(len(lengths)) >= len(lengths) - matrices[-1].shape[1]
    graph = _graph(first.file, lengths, sources, values, is_input,
                   np.flatnonzero(outputs).astype(np.int32), options, tuple(labels))
    return Imported(first.file.name, "", graph=graph, exactness="C", importer=importer,
                    notes=tuple(notes), on_cycle=LAYERED if square and not layered else "")


def _check(matrix: Matrix) -> None:
    """Entries are in range and finite. NccError E801."""
    for indices, size, what in zip((matrix.rows, matrix.columns), matrix.shape, ("row", "column"),
                                   strict=True):
        wild = np.flatnonzero((indices < 0) | (indices >= size))[:1]
        for k in wild.tolist():
            raise matrix.fault("E801", k, f"this {what} is not one of {size}")
    if matrix.values is not None:
        for k in np.flatnonzero(~np.isfinite(matrix.values))[:1].tolist():
            raise matrix.fault("E801", k, f"{matrix.values[k]} is no finite number")


def too_large(file: Foreign, neurons: int, edges: int, options: Options) -> NccError:
    return file.fault("E819", f"{neurons} neurons and {edges} edges, which take about "
                      f"{28 * neurons + 40 * edges >> 20} MiB to read; {options.max_edges} edges, "
                      f"and as many neurons, are the most",
                      help="--max-edges gives another limit")


def fits(file: Foreign, neurons: int, edges: int, options: Options) -> None:
    """NccError E819 for a net that is too large, be it of neurons that the file only counts."""
    if (edges > options.max_edges or neurons > min(options.max_edges, MOST)
            or neurons - 2 * edges > ISOLATED):
        raise too_large(file, neurons, edges, options)


def _without_zeros(matrix: Matrix, drop: bool, notes: list[str]) -> Matrix:
    """The matrix, and a note that its zeros are edges; or without them."""
    if matrix.values is None or bool(matrix.values.all()):
        return matrix
    kept = matrix.values != 0
    zeros = len(kept) - int(kept.sum())
    if not drop:
        notes.append(f"{zeros} edges of weight 0 are kept; --drop-zeros leaves them out")
        return matrix
    notes.append(f"{zeros} entries of 0 are left out")
    at = np.flatnonzero(kept)
    place = matrix.place
    return replace(matrix, rows=matrix.rows[kept], columns=matrix.columns[kept],
                   values=matrix.values[kept], place=lambda k: place(int(at[k])))


def _in_lists(matrix: Matrix) -> tuple[NDArray[Any], Ints, Reals | None]:
    """Of each column the number of its entries; their rows, ascending; their values.

    NccError E801: two entries of one row and column.
    """
    height, width = matrix.shape
    rows, columns, values = matrix.rows, matrix.columns, matrix.values
    places = columns.astype(np.int64)
    places *= height
    places += rows
    steps = np.diff(places)
    if len(steps) and int(steps.min()) <= 0:
        by = np.argsort(places, kind="stable")
        for k in np.flatnonzero(np.diff(places[by]) == 0)[:1].tolist():
            k = int(by[k + 1])
            raise matrix.fault("E801", k, "a second entry of this row and column",
                               help="add them up, as scipy's sum_duplicates does")
        rows, values = rows[by], None if values is None else values[by]
    return np.bincount(columns, minlength=width), rows.astype(np.int32), values


def _layers(matrices: Sequence[Matrix], labels: Sequence[Label]
            ) -> tuple[NDArray[Any], Ints, Reals | None, Sequence[Label]]:
    """The in-lists of the neurons of all layers, the inputs first, and names of the layers."""
    first = matrices[0].shape[0]
    lengths, sources, values = [np.zeros(first, np.int64)], [], []
    named = [Label(0, "x", (first,))] if first else []
    begin = 0
    for k, matrix in enumerate(matrices, 1):
        count, rows, weights = _in_lists(matrix)
        lengths.append(count)
        sources.append(rows + np.int32(begin))
        values.append(np.full(len(rows), np.nan) if weights is None else weights)
        begin += matrix.shape[0]
        if matrix.shape[1]:
            named.append(Label(begin, f"layer{k}", (matrix.shape[1],)))
    return np.concatenate(lengths), np.concatenate(sources), np.concatenate(values), (
        labels or named)


def _chained(matrices: Sequence[Matrix]) -> None:
    for before, after in zip(matrices, matrices[1:], strict=False):
        if before.shape[1] != after.shape[0]:
            raise after.file.fault(
                "E816", f"a layer from {after.shape[0]} to {after.shape[1]} after one from "
                f"{before.shape[0]} to {before.shape[1]}: {after.shape[0]} is not "
                f"{before.shape[1]}", help="--transpose, if rows are outputs")


def _graph(file: Foreign, lengths: NDArray[Any], sources: Ints, values: Reals | None,
           is_input: NDArray[np.bool_], outputs: Ints, options: Options, labels: tuple[Label, ...]
           ) -> Graph:
    """The graph of in-lists, one activation and one bias for all neurons but the inputs; those
    with neither edge nor bias have the constant bias 0."""
    if not len(outputs):
        raise file.fault("E801", "a net without outputs")
    text = asked(options)
    code = code_of(text)
    computed = ~is_input
    bias = options.bias is not None
    return assemble(
        lengths, sources, np.full(len(sources), np.nan) if values is None else values,
        np.full(len(lengths), options.bias if options.bias is not None else 0.0),
        fixed=np.zeros(len(sources), np.bool_),
        biased=computed if bias else computed & (lengths == 0),
        fixed_biases=np.full(len(lengths), not bias),
        activations=np.where(is_input, np.int32(INPUT), np.int32(FREE if code is None else code)),
        aggregations=np.zeros(len(lengths), np.int8), outputs=outputs, labels=labels,
        functions={FREE: text} if code is None else {})
