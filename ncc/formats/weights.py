"""Parameters from outside the net: read from a file, or drawn at random."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError, Source, Span
from ncc.formats import safetensors
from ncc.formats.read import decode
from ncc.ir import csr
from ncc.ir.graph import NONE, Graph, Ints, Reals
from ncc.parsing import NUMBER, real

RULES = ("he", "xavier", "uniform", "shared")
# Parameters by the names of the tool that a net comes from: the slot of each element of an array
# (-1 where it has none), and its first value.
Tensors = Mapping[str, tuple[NDArray[Any], NDArray[Any]]]


@dataclass(frozen=True)
class ByName:
    """A file of arrays, and what a net's parameters are called there."""

    path: str
    tensors: Tensors

    def __str__(self) -> str:
        return self.path


def load(path: str | Path | ByName, n_params: int) -> Reals:
    """The canonical parameter vector in a file: float64 (n_params).

    `.npy`: a vector; `.npz`: its entry `params`; `.safetensors`: arrays by name, or the vector
    `params`; else text, a number a line, with comments as in nets. Raises NccError: E140
    unreadable, E141 a wrong length, E142 not finite, E143 no number.
    """
    tensors = path.tensors if isinstance(path, ByName) else {}
    path = Path(str(path))
    if path.suffix == ".safetensors":
        return _by_name(path, tensors, n_params)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NccError("E140", f"cannot read {path}: {error.strerror or error}") from None
    if path.suffix in (".npy", ".npz"):
        values = _array(path)
    else:
        values = _text(decode(str(path), data))
    source = Source(str(path), "")
    if len(values) != n_params:
        raise NccError("E141", f"it holds {len(values)} values, but the net has {n_params} "
                       "parameters", source)
    return _finite(values, source)


def _by_name(path: Path, tensors: Tensors, n_params: int) -> Reals:
    """The vector that arrays by name are; what are no parameters must be what they were."""
    source = Source(str(path), "")
    arrays = safetensors.read(path)
    if not tensors or "params" in arrays:
        if "params" not in arrays:
            raise NccError("E140", "it has arrays by name, and the net no such names, but only a "
                           "vector, `params`", source,
                           help="--weights for the file of torch, ONNX or Keras itself")
        tensors = {"params": (np.arange(n_params), arrays["params"])}
    values = np.full(n_params, np.nan)
    for name, (slots, held) in tensors.items():
        given = arrays.get(name)
        mine = slots >= 0
        if given is None and not mine.any():
            continue
        if given is None or given.shape != slots.shape:
            raise NccError("E141", f"it has no {name}" if given is None else f"{name} has the "
                           f"shape {given.shape}, but in the net {slots.shape}", source)
        values[slots[mine]] = given[mine]
        if not np.allclose(given[~mine], held[~mine], 1e-6, 0, equal_nan=True):
            raise NccError("E141", f"{name} has other values where it is no parameter of the net",
                           source)
    if np.isnan(values).any() and all(np.isfinite(arrays[name]).all() for name in tensors
                                      if name in arrays):
        raise NccError("E141", "the net has parameters that were computed from several arrays, as "
                       "those of a batch norm are", source, help="--weights with a vector of all "
                       "of them, .npy; or another file of torch, ONNX or Keras with these arrays")
    return _finite(values, source)


def _finite(values: Reals, source: Source) -> Reals:
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        k = int(wrong[0])
        raise NccError("E142", f"value {k} is {values[k]}, not a finite number", source)
    return values


def _array(path: Path) -> Reals:
    source = Source(str(path), "")
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if path.suffix == ".npz":
            loaded = loaded["params"]
    except KeyError:
        raise NccError("E140", "it has no entry `params`", source,
                       help='numpy.savez(path, params=vector)') from None
    except MemoryError:
        raise
    except Exception as error:
        # numpy, zipfile and zlib each have errors of their own for a damaged file.
        raise NccError("E140", f"no {path.suffix[1:]} file of numpy's: {error}", source) from None
    if not isinstance(loaded, np.ndarray) or loaded.ndim != 1 or loaded.dtype.kind not in "fiu":
        what = f"{loaded.dtype} of shape {loaded.shape}" if isinstance(loaded, np.ndarray) else "?"
        raise NccError("E140", f"not a vector of reals, but {what}", source)
    return loaded.astype(np.float64)


def _text(source: Source) -> Reals:
    values: list[float] = []
    for number, line in enumerate(source.text.split("\n"), 1):
        text = re.split(r"[%#]", line, maxsplit=1)[0].strip(" \t")
        if not text:
            continue
        span = Span(number, len(line) - len(line.lstrip(" \t")) + 1, len(text))
        if not NUMBER.fullmatch(text):
            if text.lstrip("+-").lower() in ("nan", "inf", "infinity"):
                raise NccError("E142", f"{text} is not a finite number", source, span)
            raise NccError("E143", "not a number", source, span, help="one value a line")
        value = real(text)
        if math.isinf(value):
            raise NccError("E142", "the number overflows", source, span)
        values.append(value)
    return np.array(values, np.float64)


def encode(values: NDArray[Any], suffix: str, classes: Sequence[str] = ()) -> bytes:
    """A file that `load` reads: `.npy`, `.npz`, else text, in the digits of the array's dtype.

    An `.npz` has the names of classes, too, if there are any.
    """
    if suffix not in (".npy", ".npz"):
        return "".join([f"{value}\n" for value in values]).encode()
    out = io.BytesIO()
    if suffix == ".npy":
        np.save(out, values)
    else:
        named: dict[str, Any] = {"classes": np.array(classes)} if classes else {}
        np.savez(out, params=values, **named)
    return out.getvalue()


def init(graph: Graph, rule: str, seed: int) -> Reals:
    """`graph.values` with every missing one drawn by `rule`: float64 (P). Given ones stay.

    he         normal, variance 2 / fan-in (He et al. 2015)
    xavier     normal, variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010)
    uniform    -1/sqrt(fan-in) .. 1/sqrt(fan-in)
    shared:V   V, at biases too; the other rules put 0 there

    Fan-in is the target's in-edges, fan-out the source's out-edges; a tied slot goes by its first
    edge. One draw a slot, from numpy's default_rng(seed), whether it is used or not: a value in
    the file moves no other. Raises NccError E144, E142.
    """
    name, colon, argument = rule.partition(":")
    if name not in RULES or (name == "shared") != bool(colon):
        close = get_close_matches(name, RULES, 1)
        help = f"did you mean {close[0]}?" if close and close[0] != name else ""
        raise NccError("E144", f"no rule {rule!r} to fill parameters",
                       help=help or "he, xavier, uniform or shared:VALUE")
    if seed < 0:
        raise NccError("E144", f"the seed {seed} is negative")
    if name == "shared":
        drawn = np.full(graph.n_params, _shared(argument))
    else:
        drawn = _drawn(graph, name, np.random.default_rng(seed))
    return np.where(np.isnan(graph.values), drawn, graph.values)


def _shared(text: str) -> float:
    if not NUMBER.fullmatch(text):
        raise NccError("E144", f"shared:{text}: not a number", help="shared:0.5")
    value = real(text)
    if math.isinf(value):
        raise NccError("E142", f"shared:{text} overflows", status=2)
    return value


def _drawn(graph: Graph, rule: str, random: np.random.Generator) -> Reals:
    fan_in = np.diff(graph.starts)
    sources = graph.read_neurons
    fan_out = np.bincount(sources, minlength=graph.n_neurons)
    targets: Ints = csr.owners(graph.starts, np.int32)
    first = np.full(graph.n_params, NONE, np.int64)  # the first edge of each slot
    trained = np.flatnonzero(graph.weights >= 0)[::-1]
    first[graph.weights[trained]] = trained  # of equal slots the last written stays: the first
    edges = first[first >= 0]
    fan = fan_in[targets[edges]].astype(np.float64)
    if rule == "uniform":
        draws = random.uniform(-1.0, 1.0, graph.n_params)[first >= 0] / np.sqrt(fan)
    else:
        if rule == "xavier":
            fan += fan_out[sources[edges]]
        draws = random.standard_normal(graph.n_params)[first >= 0] * np.sqrt(2.0 / fan)
    values = np.zeros(graph.n_params)
    values[first >= 0] = draws
    return values
