"""Rows and columns of a `.nam` with labels, for people; who reads the file skips them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ncc.errors import NccError
from ncc.formats.write import names_of
from ncc.ir import csr
from ncc.ir.graph import Graph

STYLES = ("none", "letters", "layers", "indices")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def letters(graph: Graph) -> list[str] | None:
    """A letter for each neuron, `~a` for the last value of a; None where there are more neurons
    than letters."""
    if graph.n_own > len(LETTERS):
        return None
    return [*LETTERS[: graph.n_own], *[f"~{LETTERS[j]}" for j in graph.states.tolist()]]


def labelled(graph: Graph, rows: str, style: str) -> str:
    """The `rows` of a plain .nam with the labels of a style of STYLES:

    none     as they are
    letters  a head line of letters, each row behind its letter
    indices  each row behind its index, `n0a|`, the digits of the columns' ones below each other
    layers   the same with the depth of a neuron and its number among those of that depth, `n12|`

    NccError E653 for more than 26 letters.
    """
    if style == "none":
        return rows
    lines = rows.split("\n")[:-1]
    if style == "letters":
        heads = letters(graph)
        if heads is None:
            raise NccError("E653", f"letters are labels of {len(LETTERS)} neurons at most, the net "
                           f"has {graph.n_neurons}", help="--labels indices")
        rows_behind = map("".join, zip(heads, lines, strict=True))
        return "".join(f"{line}\n" for line in ("".join(heads), *rows_behind))
    names = names_of(graph) if style == "indices" else _by_layer(graph)
    digits = ["".join(column) for column in zip(*names, strict=True)]
    head = ["n" * len(names)]
    head += [f"{LETTERS[8 + k]}:{row}" for k, row in enumerate(digits)]  # i:, j:, ...
    head.append("-" * (len(f"n{names[0]}|") + len(names)))
    body = [f"n{name}|{line}" for name, line in zip(names, lines, strict=True)]
    return "".join(f"{line}\n" for line in (*head, *body))


def _by_layer(graph: Graph) -> Sequence[str]:
    assert graph.levels is not None
    first, by = csr.grouped(graph.levels, int(graph.levels.max(initial=0)) + 1)
    within = np.empty(graph.n_neurons, np.int64)
    within[by] = csr.within(np.diff(first))
    wide = [len(f"{int(n):x}") for n in (graph.levels.max(initial=0), within.max(initial=0))]
    return [f"{depth:0{wide[0]}x}{k:0{wide[1]}x}"
            for depth, k in zip(graph.levels.tolist(), within.tolist(), strict=True)]
