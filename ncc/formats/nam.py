"""Tokens of a .nam file to its syntax."""

from __future__ import annotations

import numpy as np

from ncc.errors import NccError, Source, Span
from ncc.formats.fields import int_column, octets_of
from ncc.formats.head import of_kind
from ncc.ir.syntax import Matrix, uncommented
from ncc.parsing import Token, text_of


def bit_matrix(source: Source, tokens: list[Token]) -> Matrix:
    lines: list[int] = []
    most = source.text.count("1")
    sources, targets = int_column(most), int_column(most)
    size = 0
    for token in of_kind(tokens, "ROWS"):
        rows: list[str] = []
        for line, content in enumerate(text_of(token, source).split("\n"), token.line or 1):
            row = uncommented(content).rstrip(" \t")
            if not row:
                continue
            bits = row[len(row.rstrip("01")) :]
            if not lines and not rows:
                size = len(bits)
            if len(bits) != size:
                span = Span(line, len(row) - len(bits) + 1, len(bits))
                first = lines[0] if lines else token.line
                raise NccError("E132", f"a row of {len(bits)} digits among rows of {size}",
                               source, span, note=f"the first row is on line {first}")
            rows.append(bits)
            if len(lines) + 1 > size:
                span = Span(line, len(row) - len(bits) + 1, len(bits))
                raise NccError("E133", f"more rows than the {size} columns", source, span)
            lines.append(line)
        matrix = octets_of("".join(rows)).reshape(len(rows), size)
        i, j = np.nonzero(matrix == ord("1"))
        sources.add((i + (len(lines) - len(rows))).astype(np.int32))
        targets.add(j.astype(np.int32))
    if not lines:
        raise NccError("E137", "the matrix has no rows", source, Span(1, 1))
    if len(lines) < size:
        line = lines[-1]
        row = uncommented(source.line(line)).rstrip(" \t")
        raise NccError("E133", f"{len(lines)} rows of {size} columns: the matrix is not square",
                       source, Span(line, max(1, len(row) - size + 1), max(1, size)))
    return Matrix(source, size, np.array(lines, np.int32), sources.whole(), targets.whole())
