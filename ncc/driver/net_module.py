"""An ssa module that stands for a net: its functions run by the interpreter, its parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncc.ir.graph import Reals
from ncc.ir.ssa import DTYPES, Module, Table

# The table in which an ssa text carries the canonical parameters; no buffer has this name.
VALUES = "parameters"


def runnable(module: Module) -> bool:
    """Whether it has the functions that `lower` makes of a net, over the buffers that they have."""
    funcs = {f.name: [b.name for b in f.buffers] for f in module.funcs}
    packed = ["packed"] if "pack" in funcs else []
    state = ["state"] if "reset" in funcs else []
    wanted = ["x", *packed, "y", *state, "work"]
    return (funcs.get("forward") == wanted and funcs.get("forward_batch") == wanted
            and funcs.get("pack") in ([], None, ["params", "packed"]))


def n_params(module: Module) -> int:
    """How many canonical parameters `pack` reads; 0 where the code holds them."""
    found = [b.size for f in module.funcs if f.name == "pack" for b in f.buffers
             if b.name == "params"]
    return found[0] if found else 0


def carrying(module: Module, values: Reals | None) -> Module:
    """The module with its canonical parameters beside it, in a table that no op reads, so that
    its text is a whole net."""
    count = n_params(module)
    if not count or values is None or len(values) != count or np.isnan(values).any():
        return module
    if any(t.name == VALUES for t in module.tables):
        return module
    table = Table(VALUES, "f", values.astype(DTYPES[module.dtype]))
    return module.with_(tables=(*module.tables, table))


def carried(module: Module) -> tuple[Module, Reals | None]:
    """The inverse of `carrying`: the module that passes see, and the parameters, if it has them."""
    found = [t for t in module.tables if t.name == VALUES and t.type == "f"]
    if not found or len(found[0].values) != n_params(module):
        return module, None
    rest = tuple(t for t in module.tables if t.name != VALUES)
    return module.with_(tables=rest), found[0].values.astype(np.float64)


def interpret_backward(module: Module, x: Any, dy: Any, params: Any, *, batch: bool = False
                       ) -> tuple[Any, Any]:
    """dx (batch, n_inputs) and dparams of an ssa module's own `backward`, (batch, n_params), or
    `backward_batch`, summed: x (batch, n_inputs), dy (batch, n_outputs)."""
    real = DTYPES[module.dtype]
    x, dy = np.asarray(x, real), np.asarray(dy, real)
    n, count = len(x), n_params(module)
    packed = np.zeros(sum(b.size for b in module.func("pack").buffers if b.name == "packed"), real)
    module.run("pack", {"params": np.asarray(params, np.float64).astype(real), "packed": packed})
    if batch:
        flat = {"x": x.reshape(-1), "packed": packed, "dy": dy.reshape(-1),
                "dx": np.zeros(x.size, real), "dparams": np.zeros(count, real)}
        module.run("backward_batch", flat, n)
        return flat["dx"].reshape(x.shape), flat["dparams"]
    # An axis behind the first is a batch, whose samples have a gradient each.
    buffers = {"x": np.ascontiguousarray(x.T), "packed": packed, "dy": np.ascontiguousarray(dy.T),
               "dx": np.zeros(x.T.shape, real), "dparams": np.zeros((count, n), real)}
    module.run("backward", buffers)
    return buffers["dx"].T, buffers["dparams"].T


def n_states(module: Module) -> int:
    """How many values a call leaves for the next one."""
    return sum([b.size for f in module.funcs if f.name == "forward" for b in f.buffers
                if b.name == "state"])


def interpret(module: Module, x: Any, params: Any, *, batch: bool = False, state: Any = None
              ) -> Any:
    """y of an ssa module's own `forward`, or `forward_batch`: x (batch, n_inputs). `state`
    (batch, S) is overwritten; without it all of it is 0."""
    real = DTYPES[module.dtype]
    x = np.asarray(x, real)
    funcs = {f.name: f for f in module.funcs}
    func = funcs["forward_batch" if batch else "forward"]
    sizes = {b.name: b.size for b in func.buffers}
    n = len(x)
    buffers: dict[str, Any] = {}
    if "packed" in sizes:
        packed = np.zeros((sizes["packed"],), real)
        module.run("pack", {"params": np.asarray(params, np.float64).astype(real),
                            "packed": packed})
        buffers["packed"] = packed
    held = np.zeros((n, sizes.get("state", 0)), real) if state is None else state
    if batch:
        buffers["x"] = np.ascontiguousarray(x).reshape(-1)
        buffers["y"] = np.zeros(n * sizes["y"], real)
        buffers["state"] = held.reshape(-1).copy()
        module.run(func.name, buffers, n)
        held[...] = buffers["state"].reshape(held.shape)
        return buffers["y"].reshape(n, sizes["y"])
    buffers = {"x": np.ascontiguousarray(x.T), **buffers, "y": np.zeros((sizes["y"], n), real),
               "state": held.T.copy()}
    module.run(func.name, buffers)
    held[...] = buffers["state"].T
    return buffers["y"].T
