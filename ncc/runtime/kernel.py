"""Engines of this machine: compiled once for a set of kinds, kept on disk, loaded once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.driver.compiler import Build
from ncc.driver.settings import options
from ncc.images.kinds import Kinds
from ncc.ir.ssa import Module
from ncc.machine import cache
from ncc.machine.llvm import host
from ncc.machine.native import Library, aligned
from ncc.passes.lower.data.engine import engine
from ncc.passes.lower.data.forward import NETS

Array = NDArray[Any]
OPT = 2


class Kernel:
    """An engine in memory: `kinds`, `dtype`, `numerics` say which, `library` has its functions, and
    `lanes` are those of `forward_batch`. Any thread may call it at any time."""

    def __init__(self, kinds: Kinds, dtype: str, numerics: str, chosen: dict[str, Any],
                 library: Library) -> None:
        self.kinds = kinds
        self.dtype = dtype
        self.numerics = numerics
        self.lanes: int = chosen["lanes_data"]
        self.library = library
        self.real = library.real

    def forward(self, head: NDArray[np.uint32], block: NDArray[np.uint8], values: int, x: Array,
                y: Array) -> None:
        """y (nets, samples, outputs) of x (samples, inputs), row-major; y (nets, outputs) of x
        (inputs,). `head` names the images in `block` as `forward` of the engine wants it, and
        `values` is how many values the largest of them has."""
        lanes = 1 if x.ndim == 1 else self.lanes
        work = self.work(values * lanes)
        at = block.ctypes.data
        common = (head.ctypes.data, at, at, x.ctypes.data, y.ctypes.data, work.ctypes.data)
        if x.ndim == 1:
            self.library.calls["forward"](*common)
        else:
            self.library.calls["forward_batch"](len(x), *common)

    def step(self, block: NDArray[np.uint8], x: Array, y: Array, work: Array) -> None:
        """y (nets, outputs) of x (nets, inputs), row-major, of a chunk of nets as blocks; `work` is
        for their values."""
        at = block.ctypes.data
        self.library.calls["step"](at, at, x.ctypes.data, y.ctypes.data, work.ctypes.data)

    def threads(self, wanted: int) -> int:
        """How many threads a caller gets that wants so many; 0 is one a core."""
        return wanted or os.cpu_count() or 1

    def work(self, elements: int) -> Array:
        """Memory for a call, aligned, which this thread uses again."""
        held: Array | None = getattr(_local, self.dtype, None)
        if held is None or len(held) < elements:
            held = aligned(elements, self.real)
            setattr(_local, self.dtype, held)
        return held


_local = threading.local()
_kernels: dict[tuple[Kinds, str, str], Kernel] = {}
_lock = threading.Lock()


def kernel(kinds: Kinds, dtype: str, numerics: str | None = None, cached: bool = True) -> Kernel:
    """The engine of these kinds for this machine: in memory already, or from the cache on disk
    unless not `cached`, or compiled. NccError E400 where that takes too much."""
    chosen = _options(dtype, numerics)
    key = kinds, chosen["dtype"], chosen["numerics"]
    with _lock:
        found = _kernels.get(key)
        if found is None:
            found = _kernels[key] = _larger(*key) or _made(kinds, chosen, cached)
        return found


def _options(dtype: Any, numerics: str | None) -> dict[str, Any]:
    """Of this machine, with longer rounds of samples than where memory is dear: 5 % faster."""
    chosen = options(host(), dtype=dtype, numerics=numerics, name="engine")
    return {**chosen, "lanes_data": chosen["lanes_data"] * (2 if chosen["native"] > 1 else 1)}


def at_hand(kinds: Kinds, dtype: Any, numerics: str | None = None, cached: bool = True) -> bool:
    """Whether `kernel` finds one, and has not to compile."""
    chosen = _options(dtype, numerics)
    key = kinds, chosen["dtype"], chosen["numerics"]
    with _lock:
        if key in _kernels or _larger(*key):
            return True
    name = _key(kinds.kinds, chosen) if cached else None
    return name is not None and cache.lookup(name) is not None


def _key(name: tuple[Any, ...], chosen: dict[str, Any]) -> str | None:
    return cache.key("engine", name, host(), chosen, OPT)


def loaded(make: Callable[[], Module], name: tuple[Any, ...], chosen: dict[str, Any],
           cached: bool) -> Library:
    """A module over images as machine code, which is kept under a name and a target's options."""
    key = _key(name, chosen) if cached else None
    entry = None if key is None else cache.lookup(key)
    if entry is None:
        entry = Build(make(), host(), chosen, OPT).made
        if key is not None:
            cache.store(key, entry)
    return Library(entry, chosen["dtype"])


def _larger(kinds: Kinds, dtype: str, numerics: str) -> Kernel | None:
    """An engine in memory of these kinds and not many others, each of which costs a little at every
    level of a net."""
    most = 2 * len(kinds.kinds) + 4
    fits = [k for k in _kernels.values() if (k.dtype, k.numerics) == (dtype, numerics)
            and len(k.kinds.kinds) <= most and set(kinds.kinds) <= set(k.kinds.kinds)]
    return min(fits, key=lambda k: len(k.kinds.kinds), default=None)


def _made(kinds: Kinds, chosen: dict[str, Any], cached: bool) -> Kernel:
    dtype, numerics = chosen["dtype"], chosen["numerics"]
    library = loaded(lambda: engine(kinds, name="engine", dtype=dtype, numerics=numerics,
                                    lanes_data=chosen["lanes_data"]), kinds.kinds, chosen, cached)
    return Kernel(kinds, dtype, numerics, chosen, library)


def head(places: Any, inputs: int, outputs: int) -> NDArray[np.uint32]:
    """What an engine's functions take as `nets`, of images that begin at these bytes."""
    words = np.empty(NETS + len(places), np.uint32)
    words[:NETS] = len(places), inputs, outputs
    words[NETS:] = np.asarray(places, np.int64) // 4
    return words
