"""The functions of a compiled module, loaded into this process, for ctypes to call."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.cache import Entry
from ncc.machine import Loaded
from ncc.ssa import DTYPES, Module, layout

Array = NDArray[Any]
ALIGN = 64
# Products of a weight and a sample: for fewer a thread takes longer to start than to run.
WORK = 4_000_000


class Function(NamedTuple):
    """An exported function: elements of its buffers by name (of one sample, where it is `counted`)
    and of `work`; `signature` is a letter an argument: n a count, p a pointer, v a real."""

    signature: str
    buffers: dict[str, int]
    work: int


def functions(module: Module) -> dict[str, Function]:
    """What a caller has to know of each exported function of the last ssa module."""
    found = {}
    for f in module.funcs:
        if f.exported:
            kinds = ["v" if b.kind == "value" else "p" for b in f.buffers
                     if b.kind not in ("work", "private")]
            work = ["p"] if len(kinds) < len(f.buffers) else []
            signature = "".join((["n"] if f.counted else []) + kinds + work)
            named = {b.name: b.size for b in f.buffers if b.kind not in ("work", "private")}
            found[f.name] = Function(signature, named, layout(f)[1])
    return found


class Library:
    """An object in memory. `calls` are its functions by name, `functions` what they want."""

    def __init__(self, entry: Entry, dtype: str) -> None:
        self.functions = {name: Function(*facts)
                          for name, facts in entry.facts["functions"].items()}
        self.real = np.dtype(DTYPES[dtype])
        types = {"n": ctypes.c_size_t, "p": ctypes.c_void_p,
                 "v": ctypes.c_float if dtype == "f32" else ctypes.c_double}
        # Where they are aligned already, as those of a new entry are, they are not copied.
        self._tables = {symbol: placed(table) for symbol, table in entry.tables.items()}
        outside = {symbol: table.ctypes.data for symbol, table in self._tables.items()}
        self._loaded = Loaded(entry.code, entry.facts["exports"], outside)
        self.calls: dict[str, Any] = {}
        self.addresses: dict[str, int] = {}
        for symbol in entry.facts["exports"]:
            name = next(n for n in self.functions if symbol.endswith(f"_{n}"))
            arguments = [types[letter] for letter in self.functions[name].signature]
            self.addresses[name] = self._loaded.addresses[symbol]
            self.calls[name] = ctypes.CFUNCTYPE(None, *arguments)(self.addresses[name])
        self._local = threading.local()
        self._pools: dict[int, ThreadPoolExecutor] = {}  # by process: a fork has no threads

    @property
    def n_packed(self) -> int | None:
        """Elements of `packed`; None where the weights are in the code."""
        held = self.functions.get("pack")
        return None if held is None else held.buffers["packed"]

    def pack(self, params: Array) -> Array:
        """`packed` of a canonical vector of the library's dtype, aligned."""
        packed = aligned(self.n_packed or 0, self.real)
        self.calls["pack"](params.ctypes.data, packed.ctypes.data)
        return packed

    def work(self, name: str) -> Array:
        """Memory for one call of a function at a time."""
        return aligned(self.functions[name].work, self.real)

    def scratch(self, name: str) -> int | None:
        """The address of this thread's work for a function; None where it needs none."""
        held = getattr(self._local, name, None)
        if held is None:
            array = self.work(name)
            held = (array.ctypes.data if len(array) else None, array)
            setattr(self._local, name, held)
        address: int | None = held[0]
        return address

    def at_once(self, call: Callable[[int, int, int], None], parts: list[tuple[int, int]]) -> None:
        """call(k, first, last) for each part, in a thread each; the first in this one. What a call
        raises is raised here, when all have ended.

        The threads stay, as to start one takes several times longer than to wake one."""
        if len(parts) < 2 or not threading.main_thread().is_alive():
            for k, part in enumerate(parts):  # Python hands no more work to threads as it ends
                call(k, *part)
            return
        pid = os.getpid()
        pool = self._pools.get(pid)
        if pool is None:
            pool = self._pools.setdefault(pid, ThreadPoolExecutor(os.cpu_count()))
        others = [pool.submit(call, k, *part) for k, part in enumerate(parts[1:], 1)]
        try:
            call(0, *parts[0])
        finally:
            wait(others)
        for other in others:
            other.result()


def shares(n: int, threads: int, library: Library) -> list[tuple[int, int]]:
    """n samples as first and last of each thread's: 64 at least, and as many as are worth WORK;
    0 threads is one a core."""
    least = max(64, WORK // max(1, library.n_packed or 0))
    count = max(1, min(threads or os.cpu_count() or 1, n // least))
    cuts = [n * k // count for k in range(count + 1)]
    return list(zip(cuts, cuts[1:], strict=False))


def forward(library: Library, x: Array, packed: Array | None, threads: int) -> Array:
    """y of x, (inputs,) or (n, inputs): row-major, of the library's dtype. `packed` is None where
    the weights are in the code."""
    name = "forward" if x.ndim == 1 else "forward_batch"
    y = np.empty((*x.shape[:-1], library.functions[name].buffers["y"]), library.real)
    weights = () if packed is None else (packed.ctypes.data,)
    if x.ndim == 1:
        library.calls[name](x.ctypes.data, *weights, y.ctypes.data, library.scratch(name))
        return y

    def part(_: int, first: int, last: int) -> None:
        library.calls[name](last - first, x[first:].ctypes.data, *weights, y[first:].ctypes.data,
                            library.scratch(name))

    library.at_once(part, shares(len(x), threads, library))
    return y


def backward(library: Library, x: Array, packed: Array, dy: Array, dx: Array | None,
             dparams: Array | None, threads: int) -> None:
    """The gradients of sum(y * dy), of `forward`'s x and y: dx (of x's shape) is overwritten,
    dparams (n_params,) is added to, in the order of the threads. None for one not wanted."""
    if x.ndim == 1:
        arrays = (x, packed, dy, dx, dparams, library.work("backward"))
        library.calls["backward"](*[None if a is None else a.ctypes.data for a in arrays])
        return
    parts = shares(len(x), threads, library)
    if dparams is None:
        sums: list[Array | None] = [None] * len(parts)
    else:
        sums = [dparams, *[np.zeros_like(dparams) for _ in parts[1:]]]

    def part(k: int, first: int, last: int) -> None:
        arrays = (x[first:], packed, dy[first:], None if dx is None else dx[first:], sums[k],
                  library.work("backward_batch"))
        library.calls["backward_batch"](
            last - first, *[None if a is None else a.ctypes.data for a in arrays])

    library.at_once(part, parts)
    with np.errstate(all="ignore"):  # infinities of either sign may meet
        for more in sums[1:]:
            if dparams is not None and more is not None:
                dparams += more


def aligned(size: int, dtype: Any) -> Array:
    """An uninitialised array of `size` elements at an address that ALIGN divides."""
    item = np.dtype(dtype).itemsize
    raw = np.empty(size * item + ALIGN, np.uint8)
    shift = -raw.ctypes.data % ALIGN
    return raw[shift : shift + size * item].view(dtype)


def placed(array: Array) -> Array:
    """The array itself, or a copy of it where ALIGN does not divide its address."""
    if array.ctypes.data % ALIGN == 0 and array.flags.c_contiguous:
        return array
    copy = aligned(len(array), array.dtype)
    copy[...] = array
    return copy
