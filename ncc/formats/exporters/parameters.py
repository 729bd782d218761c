"""Parameters by the names that they have in the tool that a net comes from, and as safetensors."""

from __future__ import annotations

import numpy as np

from ncc.errors import NccError
from ncc.formats import safetensors
from ncc.formats.weights import Tensors
from ncc.ir.graph import Graph, Reals


def state_dict(values: Reals, tensors: Tensors) -> safetensors.Arrays:
    """The parameters `values` (P) as arrays by name; elements that are no parameters, and arrays
    that have none, keep their values. NccError E401 where there are no names, or some parameters
    were computed from several of the tool's."""
    if not tensors:
        raise NccError("E401", "its parameters have no names in a module",
                       help="net.params has them as a vector")
    unknown = np.setdiff1d(np.arange(len(values)), np.concatenate(
        [slots.ravel() for slots, _ in tensors.values()]))  # an array may have two names
    if len(unknown):
        raise NccError("E401", f"{len(unknown)} of its {len(values)} parameters were "
                       "computed from several of the module's, as those of a batch norm are, which "
                       "are not known from them", help="net.params has them as a vector, which "
                       "fn.params and --weights take; a net file keeps them")
    return {name: np.where(slots >= 0, values[slots], held) if (slots >= 0).any() else held
            for name, (slots, held) in tensors.items()}


def safetensors_file(graph: Graph, tensors: Tensors) -> bytes:
    """The parameters of a net, in the dtype that it asks for, else float32: by name, or where they
    have none as one vector, `params`. NccErrors E401, E607 where one has no value."""
    missing = int(np.isnan(graph.values).sum())
    if missing:
        raise NccError("E607", f"{missing} of {graph.n_params} parameters have no value",
                       help="--weights FILE or --init RULE")
    arrays = state_dict(graph.values, tensors) if tensors else {"params": graph.values}
    real = np.float64 if graph.dtype == "f64" else np.float32
    return safetensors.encode({name: held.astype(real) if held.dtype.kind == "f" else held
                               for name, held in arrays.items()})
