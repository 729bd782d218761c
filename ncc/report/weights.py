"""The text weights: the symbolic weights of a net, and the terms that they make, as blocks.

Of `fcn 2 1`, a head line of names, then a row a neuron; the column says which neuron reads it:

    a b c
    a ____ ____ __ac
    b ____ ____ __bc
    c ____ ____ ____

    a b c
    a _____ _____ +a*ac
    b _____ _____ +b*bc
    c _____ _____ _____

The first block is W, the second the terms of n W: down a column stands the sum of a neuron. Up to
26 neurons are letters, and `ac` is the weight of the edge from a to c; more are `n00`, `n01`, ...
and their weights `w0002`. The value of a in the last call is `~a`, a row behind the others.
"""

from __future__ import annotations

from collections.abc import Callable

from ncc.formats.nam_labels import letters
from ncc.formats.write import names_of, refuse_dense
from ncc.ir import csr
from ncc.ir.graph import Graph


def weights(graph: Graph) -> str:
    """Both blocks. NccError E402 where they would be too large."""
    single = letters(graph)
    if single is not None:
        names, weight = single, _pair
    else:
        names, weight = [f"n{name}" for name in names_of(graph)], _weight
    width = len(names[0])
    refuse_dense(graph, 2 * (6 + 4 * width))
    return "\n".join([_block(graph, names, lambda i, j: f"__{weight(i, j)}"),
                      _block(graph, names, lambda i, j: f"+{i}*{weight(i, j)}")])


def _pair(i: str, j: str) -> str:
    return i + j


def _weight(i: str, j: str) -> str:
    """n00, n02 => w0002"""
    return f"w{i[1:]}{j[1:]}"


def _block(graph: Graph, names: list[str], cell: Callable[[str, str], str]) -> str:
    n = len(names)
    starts, edges = csr.grouped(graph.sources, n)
    targets = csr.owners(graph.starts)[edges].tolist()
    blank = "_" * len(cell(names[0], names[0]))
    lines = [" ".join(names)]
    for i, name in enumerate(names):
        cells = [blank] * n
        for j in targets[starts[i] : starts[i + 1]]:
            cells[j] = cell(name, names[j])
        lines.append(" ".join((name, *cells)))
    return "".join(f"{line}\n" for line in lines)
