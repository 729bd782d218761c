"""The text matrix: the cells of the N x N matrix of edges."""

from __future__ import annotations

from ncc.formats.write import names_of, refuse_dense
from ncc.ir import csr
from ncc.ir.graph import Graph


def matrix(graph: Graph) -> str:
    """`N words cells bytes` of the N x N bit matrix in rows of 32-bit words, then its cells. What
    is read of the last call has a row and a column of its own, `n~04`."""
    n, names = graph.n_neurons, names_of(graph)
    words = -(-n // 32)
    width = max(map(len, names), default=0)
    refuse_dense(graph, 5 + 3 * width if n else 0)
    starts, edges = csr.grouped(graph.sources, n)
    target = csr.owners(graph.starts)[edges]
    blank = "_" * (4 + 3 * width)
    lines = [f"{n} {words} {n * n} {n * words * 4}", " ".join(f"n{name}" for name in names)]
    for i, name in enumerate(names):
        cells = [blank] * n
        for j in target[starts[i] : starts[i + 1]].tolist():
            cells[j] = f"+n{name}*w{name}{names[j]}".ljust(len(blank))
        lines.append(" ".join((f"n{name}", *cells)))
    return "".join(line + "\n" for line in lines)
