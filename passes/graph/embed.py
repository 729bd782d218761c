"""Parameters become constants, so that code can hold them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncc.ir.graph import Graph, Ints


def embed(graph: Graph, *, params: NDArray[np.float64] | None = None) -> Graph:
    """`graph` with `params`, float64 (n_params,), in place of its parameters; None: as it is.

        // params=0.5,2.0
        graph 03                                graph 03
        inputs 00 01                            inputs 00 01
        outputs 02                              outputs 02
        values 0.5 2.0                          values 0.5 2.0
        constants 1.0                     =>    constants 1.0 0.5 2.0
        00 @0 input                             00 @0 input
        01 @0 input                             01 @0 input
        02 @1 relu sum +c0 00*p0 01*p1          02 @1 relu sum +c0 00*c1 01*c2

    The canonical vector stays as it was: the caller's interface does not change.
    Raises ValueError where the length does not match or a parameter is not finite.
    """
    if params is None:
        return graph
    values = np.asarray(params, np.float64)
    if values.shape != (graph.n_params,):
        raise ValueError(f"params have shape {values.shape}, the net has {graph.n_params}")
    if not np.isfinite(values).all():
        raise ValueError("a parameter has no finite value")
    old = len(graph.constants)

    def moved(codes: Ints) -> Ints:
        return np.where(codes >= 0, -1 - old - codes, codes).astype(np.int32)

    return graph.with_(weights=moved(graph.weights), biases=moved(graph.biases), values=values,
                       constants=np.concatenate([graph.constants, values]))
