"""Edge lists with decimal ids: those of SNAP, and the layers of the Graph Challenge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options
from ncc.formats.importers.matrices import table
from ncc.formats.importers.matrices.arrays import TAKES, Matrix, built
from ncc.ir.graph_types import Label

_ROW: Final = re.compile(rb"[ \t]*+\d++[ \t]++\d++(?:[ \t]++[^ \t\n]++)?[ \t]*+\r?(?:\n|$)")
_COMMENTS: Final = re.compile(rb"(?:[ \t]*+(?:#[^\n]*+)?\n)*+")
_UNDIRECTED: Final = re.compile(rb"#[^\n]*\bundirected\b", re.IGNORECASE)
_CHALLENGE: Final = re.compile(r"n\d+-l\d+\.tsv$", re.IGNORECASE)


def recognises(file: Foreign) -> bool:
    return _is_table(file) and not _CHALLENGE.search(file.name)


def recognises_challenge(file: Foreign) -> bool:
    return _is_table(file) and _CHALLENGE.search(file.name) is not None


def _is_table(file: Foreign) -> bool:
    comments = _COMMENTS.match(file.data)
    return comments is not None and _ROW.match(file.data, comments.end()) is not None


def read(files: list[Foreign], options: Options) -> Imported:
    """The net of SNAP's: `from to`, perhaps a weight. Ids, which may have gaps, are numbered as
    they ascend, and stay as labels; `#` begins a comment."""
    (file,) = files
    found = _UNDIRECTED.search(file.data)
    if found is not None:
        raise file.fault("E810", "an undirected graph is no net: its edges have no "
                                   "direction", line=1 + file.data.count(b"\n", 0, found.start()))
    edges = _edges(file, ("from", "to", "weight"))
    ids, numbers = np.unique(np.concatenate([edges.rows, edges.columns]), return_inverse=True)
    rows, columns = np.split(numbers.astype(np.int32), 2)
    labels: Sequence[Label] = ()
    if not np.array_equal(ids, np.arange(len(ids))):
        labels = [Label(k, str(name)) for k, name in enumerate(ids.tolist())]
    matrix = replace(edges, shape=(len(ids), len(ids)), rows=rows, columns=columns)
    return built([matrix], options, "snap", layered=False, labels=labels)


def read_challenge(files: list[Foreign], options: Options) -> Imported:
    """The net of the Graph Challenge's layers, a file each: `row column value`, counted from 1.

    A file does not say its shape: where two layers meet it is the largest number of either, at the
    ends --inputs and --outputs, or else the largest number.
    """
    edges = [_edges(file, ("row", "column", "value"), 1) for file in files]
    sides = [(m.rows, m.columns) for m in edges]
    if options.transpose:
        sides = [(columns, rows) for rows, columns in sides]
    sizes = [[int(side.max(initial=-1)) + 1 for side in both] for both in sides]
    widths = [sizes[0][0], *[max(a[1], b[0]) for a, b in zip(sizes, sizes[1:], strict=False)],
              sizes[-1][1]]
    for at, asked, what in ((0, options.inputs, "inputs"), (-1, options.outputs, "outputs")):
        if asked is not None:
            if asked < widths[at]:
                raise files[at].fault("E816", f"--{what} {asked}, and the file has number "
                                              f"{widths[at]}")
            widths[at] = asked
    shaped = [replace(m, shape=(b, a) if options.transpose else (a, b)) for m, a, b in
              zip(edges, widths, widths[1:], strict=False)]
    return built(shaped, options, "graph-challenge", layered=True)


def _edges(file: Foreign, names: tuple[str, str, str], first: int = 0) -> Matrix:
    """The edges of a file, whose ids are counted from `first`; its shape is not known yet."""
    start = _COMMENTS.match(file.data)
    begin = 0 if start is None else start.end()
    fields = file.data[begin : begin + 1024].partition(b"\n")[0].partition(b"#")[0].split()
    columns: list[tuple[str, Any]] = [
        (names[0], np.int32), (names[1], np.int32), (names[2], np.float64)]
    if len(fields) < 3 and first == 0:
        columns.pop()
    found = table.read(file, begin, columns, comments="#")

    def place(k: int) -> dict[str, Any]:
        return {"line": table.line_of(file, begin, k, "#")}

    sides: list[NDArray[Any]] = []
    for name in names[:2]:
        for k in np.flatnonzero(found[name] < first)[:1].tolist():
            raise _below(file, name, int(found[name][k]), first, place(k))
        sides.append(found[name] - np.int32(first))
    weights = found[names[2]].copy() if len(columns) == 3 else None
    return Matrix(file, (0, 0), sides[0], sides[1], weights, place)


def _below(file: Foreign, name: str, value: int, first: int, place: dict[str, Any]) -> NccError:
    return file.fault("E801", f"{value} as {name}: ids are {first} or more", **place)


IMPORTER = Importer("snap", "an edge list with decimal ids, as SNAP's", (".txt", ".tsv", ".edges"),
                    recognises, read, tuple(name for name in TAKES if name != "layered"))
CHALLENGE = Importer("graph-challenge", "a layer of the Graph Challenge", (".tsv",),
                     recognises_challenge, read_challenge,
                     (*(name for name in TAKES if name != "layered"), "inputs", "outputs"),
                     layers=True)
