"""What lies in a module of WebAssembly beside its code, and the files that call it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import numpy as np

from ncc.ir.graph import Graph
from ncc.ir.ssa import DTYPES
from ncc.machine.wasm.link import linked

ENDINGS = (".mjs", ".d.mts")


def module(code: bytes, functions: Mapping[str, Any], graph: Graph, *, name: str, dtype: str,
           numerics: str, embedded: bool) -> bytes:
    """An object of wasm32 linked, with two custom sections: `ncc`, what a caller has to know of the
    net and its `functions` (as ncc/machine/native.py has them) in JSON, and `ncc.params`, the
    canonical parameters in `dtype`, little-endian, where they have values and are not `embedded`.
    NccError E702."""
    about = {"name": name, "dtype": dtype, "numerics": numerics, "inputs": graph.n_inputs,
             "outputs": len(graph.outputs), "params": 0 if embedded else graph.n_params,
             "functions": functions}
    sections = {"ncc": json.dumps(about, separators=(",", ":")).encode()}
    if not (embedded or np.isnan(graph.values).any()):
        real = "<f4" if DTYPES[dtype]().itemsize == 4 else "<f8"
        sections["ncc.params"] = graph.values.astype(real).tobytes()
    return linked(code, sections)


def beside(name: str, dtype: str) -> dict[str, str]:
    """The files beside the module that is the file `name`, by their endings: JavaScript that loads
    and calls it, and what TypeScript has to know of that."""
    found = {}
    for ending in ENDINGS:
        text = _read(f"net{ending}")
        found[ending] = text.replace("net.wasm", quote(name)).replace(
            "type Reals = Float32Array", f"type Reals = Float{8 * DTYPES[dtype]().itemsize}Array")
    return found


def runtime() -> str:
    """JavaScript that calls a module: that of the file beside it, for a page that holds both."""
    return _read("net.mjs")


def _read(name: str) -> str:
    return files("ncc.machine.wasm").joinpath(name).read_text(encoding="utf-8")
