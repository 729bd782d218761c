"""The functions of a compiled module, loaded into this process, for ctypes to call."""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir.ssa import DTYPES, Module, layout
from ncc.machine import cache
from ncc.machine.cache import Carried, Entry
from ncc.machine.llvm import Loaded
from ncc.machine.model import PRODUCTS_A_THREAD
from ncc.machine.threads import Worker, hire, release
from ncc.scalar.sum_order import CHUNK

Array = NDArray[Any]
ALIGN = 64
# Bytes that a forward pass keeps for the way back at most; and samples, whole chunks, of which it
# is run again at a time where it kept nothing.
KEPT = 1 << 28
AGAIN = 8 * CHUNK


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
        self._entry = replace(entry, tables=self._tables)  # for pickles
        self.calls: dict[str, Any] = {}
        self.addresses: dict[str, int] = {}
        for symbol in entry.facts["exports"]:
            # The longest that fits: each_backward, not backward.
            name = max([n for n in self.functions if symbol.endswith(f"_{n}")], key=len)
            arguments = [types[letter] for letter in self.functions[name].signature]
            self.addresses[name] = self._loaded.addresses[symbol]
            self.calls[name] = ctypes.CFUNCTYPE(None, *arguments)(self.addresses[name])
        self._local = threading.local()
        self._rooms: dict[tuple[int, str], Array] = {}
        self._pools: dict[int, ThreadPoolExecutor] = {}  # by process: a fork has no threads

    def carried(self) -> Carried | None:
        """What a pickle is to carry, so that who opens it need not compile the functions."""
        return cache.carried(self._entry)

    @property
    def n_packed(self) -> int | None:
        """Elements of `packed`; None where the weights are in the code."""
        held = self.functions.get("pack")
        return None if held is None else held.buffers.get("packed")

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

    def spread(self, name: str, arguments: Callable[[int, int], tuple[int, ...]],
               parts: list[tuple[int, int]]) -> None:
        """Call a function with arguments(first, last) and its work for each part, in a thread each
        as far as there are cores; the first in this one."""
        hired: list[tuple[Worker, tuple[int, int]]] = []
        for part in parts[1:]:
            worker = hire()
            if worker is None:
                break
            hired.append((worker, part))
        for worker, part in hired:
            worker.post(self.addresses[name], (*arguments(*part), self._room(worker, name)))
        try:
            for part in (parts[0], *parts[1 + len(hired) :]):
                self.calls[name](*arguments(*part), self.scratch(name))
        finally:
            for worker, _ in hired:
                worker.join()
                release(worker)

    def _room(self, worker: Worker, name: str) -> int:
        """The address of a worker's work for a function."""
        key = worker.number, name
        if key not in self._rooms:
            self._rooms[key] = self.work(name)
        address: int = self._rooms[key].ctypes.data
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


def shares(n: int, threads: int, library: Library, reads: int = 3, weights: int | None = None
           ) -> list[tuple[int, int]]:
    """n samples as first and last of each thread's: 64 at least, and as many as make
    PRODUCTS_A_THREAD, where all weights (as many as are given, or packed) are read `reads` times: 1
    forward, 3 for gradients. Between threads no vectors are cut. 0 threads is one a core."""
    least = max(64, PRODUCTS_A_THREAD // (reads * max(1, library.n_packed or 0 if weights is None
                                                      else weights)))
    count = max(1, min(threads or os.cpu_count() or 1, n // least))
    cuts = [n * k // count // 32 * 32 for k in range(count)] + [n]
    return list(zip(cuts, cuts[1:], strict=False))


def forward(library: Library, x: Array, packed: Array | None, threads: int,
            kept: Array | None = None, state: Array | None = None) -> Array:
    """y of x, (inputs,) or (n, inputs): row-major, of the library's dtype. `packed` is None where
    the weights are in the code. `kept`, which `to_keep` makes, is written for `backward`. `state`,
    (S,) or (n, S), is read and written, of a net that has one."""
    name = _name("forward", x.ndim) + ("" if kept is None else "_keep")
    y = np.empty((*x.shape[:-1], library.functions[name].buffers["y"]), library.real)
    weights = () if packed is None else (packed.ctypes.data,)
    made = tuple([array for array in (y, kept, state) if array is not None])
    if x.ndim == 1:
        library.calls[name](x.ctypes.data, *weights, *_addresses(*made), library.scratch(name))
        return y

    from_x, to = x.ctypes.data, [(array.ctypes.data, array.strides[0]) for array in made]

    def arguments(first: int, last: int) -> tuple[int, ...]:
        return (last - first, from_x + first * x.strides[0], *weights,
                *[address + first * stride for address, stride in to])

    library.spread(name, arguments, shares(len(x), threads, library, 1))
    return y


def to_keep(library: Library, x: Array, most: float = math.inf) -> Array | None:
    """Memory (.., n_kept) for what `forward` keeps of x for `backward`; None where it cannot keep
    anything, or would keep more than `most` bytes."""
    size = n_kept(library, x.ndim)
    if size is None or math.prod(x.shape[:-1]) * size * x.itemsize > most:
        return None
    return np.empty((*x.shape[:-1], size), library.real)


def n_kept(library: Library, ndim: int) -> int | None:
    """Reals that `forward` keeps of a sample of an x of so many axes; None where it cannot."""
    held = library.functions.get(_name("forward", ndim) + "_keep")
    return None if held is None else held.buffers["kept"]


def _name(title: str, ndim: int) -> str:
    return title if ndim == 1 else f"{title}_batch"


def backward(library: Library, x: Array, packed: Array, dy: Array, dx: Array | None,
             dparams: Array | None, threads: int, kept: Array | None = None) -> None:
    """The gradients of sum(y * dy), of `forward`'s x and y: dx (of x's shape) is overwritten,
    dparams (n_params,) is added to, chunk by chunk. None for one not wanted. From where `forward`
    has `kept` its values; without them it is run again."""
    name = _name("backward", x.ndim)
    split = f"{name}_kept" in library.calls
    name += "_kept" * split

    def part(first: int, last: int, sums: Array | None) -> None:
        many = AGAIN if split and kept is None else max(1, last - first)
        for lo in range(first, last, many):
            rows = slice(lo, min(lo + many, last)) if x.ndim > 1 else ...
            held: tuple[Array | None, ...] = ()
            if split:
                held = (to_keep(library, x[rows]) if kept is None else kept[rows],)
                if kept is None:
                    forward(library, x[rows], packed, 1, *held)
            counted = () if x.ndim == 1 else (len(x[rows]),)
            library.calls[name](*counted, *_addresses(
                x[rows], packed, *held, dy[rows], None if dx is None else dx[rows], sums),
                library.scratch(name))

    if x.ndim == 1:
        part(0, 1, dparams)
    elif dparams is None:
        library.at_once(lambda _, first, last: part(first, last, None),
                        shares(len(x), threads, library))
    else:
        in_chunks(library, len(x), threads, (dparams,),
                  lambda _, first, last, sums: part(first, last, *sums))


def _addresses(*arrays: Array | None) -> list[int | None]:
    return [None if array is None else array.ctypes.data for array in arrays]


Sums = tuple[Array, ...]


def in_chunks(library: Library, n: int, threads: int, totals: Sums,
              call: Callable[[int, int, int, Sums], None], apart: bool = False,
              weights: int | None = None) -> None:
    """Add to `totals` what `call(thread, first, last, sums)` adds to sums for samples first .. last
    of n: in one call for all of them, or, in several threads or `apart`, chunk by chunk, each to
    zeros of its own, which are added to `totals` in the order of the chunks. `weights` as in
    `shares`."""
    chunks = -(-n // CHUNK)
    count = min(len(shares(n, threads, library, weights=weights)), chunks)
    if count < 2 and not apart:
        call(0, 0, n, totals)
        return
    turns = threading.Condition()
    taken = added = 0

    def worker(thread: int, *_: int) -> None:
        nonlocal taken, added
        sums = tuple([np.zeros_like(total) for total in totals])
        while True:
            with turns:
                mine, taken = taken, taken + 1
            if mine >= chunks:
                return
            try:
                call(thread, mine * CHUNK, min(n, (mine + 1) * CHUNK), sums)
                with turns:
                    while added != mine:
                        turns.wait()
                with np.errstate(all="ignore"):  # infinities of either sign may meet
                    for total, more in zip(totals, sums, strict=True):
                        np.add(total, more, out=total)
                        more[...] = 0
            finally:
                with turns:
                    added = max(added, mine + 1)
                    turns.notify_all()

    library.at_once(worker, [(k, k + 1) for k in range(max(1, count))])


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


def reals(values: Any, dtype: np.dtype[Any], what: str) -> Array:
    """`values` as a row-major array of reals, itself where it is one."""
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise ValueError(f"{what} is complex ({array.dtype}), the net is real")
    with np.errstate(all="ignore"):  # what overflows is an infinity, which is no fault of x's
        return np.asarray(array, dtype, order="C")
