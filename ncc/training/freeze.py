"""Parameters that training leaves as they are: to the compiler they are constants.

So no optimizer sees them, to let them decay, and no gradient is carried back to where only they
would want it. In the straight form none is written for them at all; the loops of the others go back
to the first level that has a parameter, and above it make the gradients of constants, too.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.ir.graph import Graph, Ints, Reals

Mask = NDArray[np.bool_]


def chosen(graph: Graph, which: str | Any) -> Mask:
    """The slots to freeze (n_params,): those of a mask of booleans, or of a text such as

        @k0,0c,40-7f    the tie k0; all that leads into the neurons 0c and 40 to 7f, bias included

    A tie that leads into such a neuron is frozen wherever it is. NccError E634 (status 2) where
    the net has no such tie or neuron or a part has no parameters.
    """
    if not isinstance(which, str):
        mask = np.asarray(which)
        if mask.dtype != np.bool_ or mask.shape != (graph.n_params,):
            raise NccError("E634", f"frozen is {mask.dtype} {mask.shape}, not a mask of "
                           f"{graph.n_params} booleans")
        return mask.copy()
    slots = {name: slot for slot, name in graph.names.items()}
    mask = np.zeros(graph.n_params, np.bool_)
    for word in which.replace(" ", "").split(","):
        if word.startswith("@"):
            if word[1:] not in slots:
                raise _fault(word, "is no tie of the net")
            mask[slots[word[1:]]] = True
            continue
        ends = re.fullmatch("([0-9a-fA-F]+)(?:-([0-9a-fA-F]+))?", word)
        if ends is None:
            raise _fault(word, "is no neuron, no range of neurons and no tie")
        first, last = int(ends[1], 16), int(ends[2] or ends[1], 16)
        if not first <= last < graph.n_neurons:
            raise _fault(word, f"is not among the neurons 0 to {graph.n_neurons - 1:x}")
        codes = np.concatenate([graph.weights[graph.starts[first] : graph.starts[last + 1]],
                                graph.biases[first : last + 1]])
        if not (codes >= 0).any():
            raise _fault(word, "has no parameters")
        mask[codes[codes >= 0]] = True
    return mask


def _fault(word: str, what: str) -> NccError:
    return NccError("E634", f"to freeze: {word[:40]!r} {what}", help="@k0,0c,40-7f")


def freeze(graph: Graph, mask: Mask, params: Reals) -> Graph:
    """`graph` with the slots of `mask` as constants, their values those of `params` (n_params,),
    finite; the others are its canonical vector, in the order they had.

        values 0.5 2.0   frozen: p0         values 2.0
        constants 1.0                 =>    constants 1.0 0.5
        02 relu sum 00*p0 01*p1             02 relu sum 00*c1 01*p0
    """
    if not mask.any():
        return graph
    codes = np.where(mask, -len(graph.constants) - np.cumsum(mask), np.cumsum(~mask) - 1)

    def moved(old: Ints) -> Ints:
        return np.where(old >= 0, codes[np.maximum(old, 0)], old).astype(np.int32)

    return graph.with_(
        weights=moved(graph.weights), biases=moved(graph.biases), values=params[~mask],
        constants=np.concatenate([graph.constants, params[mask]]),
        names={int(codes[slot]): name for slot, name in graph.names.items() if not mask[slot]})
