"""The weights of a net as a sparse matrix: Matrix Market, and the `.npz` of scipy.sparse.

The matrix is square, w[i, j] the weight of the edge from neuron i to neuron j; a weight of 0 is an
entry, too. Such a file has neither biases nor activations, so only a net without can be said.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np

from ncc.errors import NccError
from ncc.formats.write import only_edges
from ncc.ir import csr
from ncc.ir.graph import Graph, Ints, Longs, Reals
from ncc.ir.graph_types import refuse_states


class Rows(NamedTuple):
    """Compressed sparse rows of the matrix (N, N): by source, its targets ascending.

    starts   int64 (N+1)
    targets  int32 (E)
    weights  float64 (E), NaN where an edge has no value
    """

    starts: Longs
    targets: Ints
    weights: Reals


def rows(graph: Graph, ending: str, lossy: bool = False) -> Rows:
    """The matrix of `graph`. NccError E401 where a file of that ending cannot say it, E160 for a
    net with state."""
    refuse_states(graph, "a matrix")
    only_edges(graph, ending, lossy=lossy, values=True)
    starts, edges = csr.grouped(graph.sources, graph.n_neurons)
    table = np.concatenate([graph.values, graph.constants[::-1]])  # a parameter code is its index
    targets: Ints = csr.owners(graph.starts, np.int32)
    return Rows(starts, targets[edges], table[graph.weights[edges]])


def valued(matrix: Rows) -> Rows:
    """The same matrix. NccError E607 where a weight has no value."""
    missing = int(np.isnan(matrix.weights).sum())
    if missing:
        raise NccError("E607", f"{missing} of {len(matrix.weights)} weights have no value",
                       help="--weights FILE or --init RULE (the parameters' values)")
    return matrix


def matrix_market(graph: Graph, lossy: bool = False) -> bytes:
    """A coordinate file (Boisvert, Pozo and Remington 1996), its indices from 1 on, an edge a line:
    `real`, or `pattern` where no weight has a value. NccError E401, E607."""
    held = rows(graph, "mtx", lossy)
    pattern = bool(np.isnan(held.weights).all()) and len(held.weights) > 0
    if not pattern:
        valued(held)
    sources = (csr.owners(held.starts) + 1).tolist()
    targets = (held.targets + 1).tolist()
    lines = [f"%%MatrixMarket matrix coordinate {'pattern' if pattern else 'real'} general",
             "% entry i j: the edge from neuron i to neuron j, counted from 1",
             f"{graph.n_neurons} {graph.n_neurons} {graph.n_edges}"]
    if pattern:
        lines += [f"{i} {j}" for i, j in zip(sources, targets, strict=True)]
    else:
        lines += [f"{i} {j} {w!r}"
                  for i, j, w in zip(sources, targets, held.weights.tolist(), strict=True)]
    return ("\n".join(lines) + "\n").encode()


def scipy_npz(graph: Graph, lossy: bool = False) -> bytes:
    """What `scipy.sparse.save_npz` writes of a CSR matrix: `indices`, `indptr`, `data`, `shape`,
    `format`. NccError E401, E607."""
    held = valued(rows(graph, "npz", lossy))
    out = io.BytesIO()
    np.savez_compressed(out, indices=held.targets, indptr=held.starts, format=np.array(b"csr"),
                        shape=np.full(2, graph.n_neurons), data=held.weights)
    return out.getvalue()
