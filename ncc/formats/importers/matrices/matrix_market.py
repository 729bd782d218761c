"""Matrix Market files: coordinate matrices, real, integer or pattern, general.

Boisvert, Pozo, Remington 1996, The Matrix Market exchange formats. Indices count from 1.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options, listed
from ncc.formats.importers.matrices import table
from ncc.formats.importers.matrices.arrays import TAKES, Matrix, built, too_large

BANNER: Final = b"%%MatrixMarket"
# What is read, by the place in the first line; the first is what others are to be made.
WORDS: Final = (("object", ("matrix",)), ("format", ("coordinate",)),
                ("field", ("real", "double", "integer", "pattern")), ("symmetry", ("general",)))
_SIZES: Final = re.compile(rb"[ \t]*+(\d{1,20})[ \t]++(\d{1,20})[ \t]++(\d{1,20})[ \t]*+")


def recognises(file: Foreign) -> bool:
    return file.data[: len(BANNER)].lower() == BANNER.lower()


def read(files: list[Foreign], options: Options) -> Imported:
    """The net of an adjacency matrix, or of one matrix a layer."""
    matrices = [matrix(file, options) for file in files]
    return built(matrices, options, "matrix-market", layered=options.layered or len(files) > 1)


def matrix(file: Foreign, options: Options) -> Matrix:
    """The matrix of one file. NccErrors E801, E813 (another kind of matrix), E819."""
    pattern = _field(file) == "pattern"
    (height, width, entries), begin = _sizes(file)
    if entries > options.max_edges:
        raise too_large(file, height + width, entries, options)
    columns = [("row", np.int32), ("column", np.int32), *[("value", np.float64)] * (not pattern)]
    found = table.read(file, begin, columns)
    if len(found) != entries:
        raise file.fault("E801", f"the matrix has {entries} entries by its second line, and "
                                 f"{len(found)} follow")
    return Matrix(file, (height, width), found["row"] - np.int32(1), found["column"] - np.int32(1),
                  None if pattern else found["value"].copy(),
                  lambda k: {"line": table.line_of(file, begin, k)})


def _field(file: Foreign) -> str:
    """What the entries are, by the first line."""
    if not recognises(file):
        raise file.fault("E801", "a Matrix Market file begins with %%MatrixMarket")
    words = file.data[: 1024].partition(b"\n")[0].decode("ascii", "replace").lower().split()[1:]
    if len(words) != len(WORDS):
        raise file.fault("E801", "the first line says object, format, field and symmetry",
                                   line=1)
    for said, (what, known) in zip(words, WORDS, strict=True):
        if said not in known:
            raise file.fault(
                "E813", f"the {what} is {said[:40]}, and {listed(known)} is read", line=1,
                help="scipy.io.mmwrite(file, scipy.sparse.coo_array(matrix.toarray()), "
                     "symmetry='general')")
    return words[2]


def _sizes(file: Foreign) -> tuple[tuple[int, int, int], int]:
    """Rows, columns and entries; where the entries begin."""
    at = file.data.find(b"\n") + 1
    line = 2
    while at > 0:
        end = file.data.find(b"\n", at)
        text = file.data[at : end if end >= 0 else len(file.data)].rstrip(b"\r")
        if text.strip() and not text.startswith(b"%"):
            match = _SIZES.fullmatch(text)
            if match is None:
                raise file.fault("E801", "the numbers of rows, columns and entries are "
                                                   "wanted here", line=line)
            height, width, entries = map(int, match.groups())
            return (height, width, entries), end + 1 if end >= 0 else len(file.data)
        at, line = end + 1, line + 1
    raise file.fault("E801", "the numbers of rows, columns and entries are missing")


IMPORTER = Importer("matrix-market", "a Matrix Market file", (".mtx", ".mm"), recognises, read,
                    TAKES, layers=True)
