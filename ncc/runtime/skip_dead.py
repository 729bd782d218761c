"""Dead samples leave a batch on their way: a net cut into pieces, with a look between them.

Between two levels of a net flow the values that later neurons (or the caller) still read, and
nothing else. Where all of them are +0 the sample is dead: what comes of it is the same for every
dead sample, whatever its inputs were. So the net is compiled as pieces, cut at some of its levels;
after each piece the samples whose values are not all +0 go on, packed together, and the others get
the outputs that a row of zeros leads to, which is computed once for each vector of parameters. No
sample's bits change.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.driver.compiler import Build
from ncc.driver.pipeline import AFTER_ORDER, walk
from ncc.driver.settings import options
from ncc.ir import csr
from ncc.ir.graph import ABSENT, INPUT, NONE, Graph, Ints, Longs
from ncc.machine.cache import Carried
from ncc.machine.llvm import host
from ncc.machine.model import EDGES_TO_CROSS, LEVEL2
from ncc.machine.native import Array, Library, shares
from ncc.runtime.compiled import Compiled

# Samples die early or not at all, so each cut has this much more work before it than the last one.
GROWTH = 2
BLOCK_BYTES = LEVEL2 // 2  # of values at a cut: they are looked at while the cache has them
CHUNK_BYTES = 2**24  # of values at a cut: what goes from piece to piece


def cuts(graph: Graph) -> list[int]:
    """The levels, ascending, after which a look at the samples is worth its while. O(W + N)."""
    if graph.levels is None:
        raise ValueError("cuts wants a graph with levels")
    depth = int(graph.levels.max(initial=0))
    last = _last_read(graph, depth)
    # The values read beyond a level: each begins at its neuron's level and ends at its last reader.
    read = last > graph.levels
    change = np.bincount(graph.levels[read], minlength=depth + 2)
    change[: depth + 2] -= np.bincount(last[read], minlength=depth + 2)
    widths = np.cumsum(change)
    work = np.bincount(graph.levels, np.diff(graph.starts), depth + 1).cumsum()
    found: list[int] = []
    done = 0.0
    for level in range(1, depth):
        enough = max(done * (GROWTH - 1), EDGES_TO_CROSS * float(widths[level]))
        if work[level] - done >= enough and work[-1] - work[level] >= enough:
            found.append(level)
            done = float(work[level])
    return found


def _last_read(graph: Graph, depth: int) -> Longs:
    """The level of each neuron's last reader; an output is read after the last level. Constant
    neurons (-1) need not cross a cut: each piece has its own."""
    assert graph.levels is not None
    last = np.full(graph.n_neurons, -1, np.int64)
    np.maximum.at(last, graph.sources, np.repeat(graph.levels, np.diff(graph.starts)))
    last[graph.outputs] = depth + 1
    last[_constant(graph)] = -1
    return last


def _constant(graph: Graph) -> NDArray[np.bool_]:
    return (graph.levels == 0) & (graph.activations >= 0)


class Piece(NamedTuple):
    """A part of a net: `graph` computes the values at its end from those at its start.

    Its slots are those of the whole net that it has: slot k is `slots[k]` there.
    """

    graph: Graph
    slots: Longs


def pieces(graph: Graph, levels: list[int]) -> list[Piece]:
    """The net cut after each of `levels`: what one piece puts out, ascending, the next takes in."""
    assert graph.levels is not None
    depth = int(graph.levels.max(initial=0))
    last = _last_read(graph, depth)
    fan_in = np.diff(graph.starts)
    out = []
    inputs, begin = graph.inputs, 0
    for end in [*levels, depth]:
        mine = (graph.levels > begin) & (graph.levels <= end) & (graph.activations >= 0)
        mine |= _constant(graph)
        edges = np.flatnonzero(np.repeat(mine, fan_in))
        activations = np.where(mine, graph.activations, ABSENT).astype(np.int32)
        activations[inputs] = INPUT
        outputs = np.flatnonzero((graph.levels <= end) & (last > end)).astype(np.int32)
        used = np.zeros(graph.n_params, np.bool_)
        for codes in (graph.weights[edges], graph.biases[mine]):
            used[codes[codes >= 0]] = True
        slots = np.flatnonzero(used)
        lengths = np.where(mine, fan_in, 0)
        out.append(Piece(graph.with_(
            starts=csr.starts(lengths),
            sources=graph.sources[edges],
            weights=_renamed(graph.weights[edges], used),
            biases=_renamed(np.where(mine, graph.biases, NONE), used),
            activations=activations,
            aggregations=np.where(mine, graph.aggregations, 0).astype(np.int8),
            inputs=inputs,
            outputs=graph.outputs if end == depth else outputs,
            values=graph.values[slots],
            names={},
        ), slots))
        inputs, begin = outputs, end
    return out


def _renamed(codes: Ints, used: NDArray[np.bool_]) -> Ints:
    """Parameter codes where slots are counted among those `used`."""
    slots = codes >= 0
    renamed = codes.astype(np.int32)
    renamed[slots] = (np.cumsum(used, dtype=np.int32) - 1)[codes[slots]]
    return renamed


class _State(NamedTuple):
    """What belongs to one vector of parameters: each piece's packed ones, and for each cut the
    outputs of a sample that is dead there."""

    packed: list[Array | None]
    dead: Array


class SkipDead(Compiled):
    """A compiled net whose batches leave dead samples behind. Everything else is Compiled's."""

    __module__ = "ncc"

    def __init__(self, graph: Graph, params: Any = None, **more: Any) -> None:
        """As Compiled's."""
        self._setting = threading.Lock()
        self._parts: list[tuple[Library, Longs]] = []
        self._state: _State | None = None
        super().__init__(graph, params, **more)
        chosen = options(host(), dtype=self.dtype, numerics=self._numerics, **self._asked)
        # Neurons that are equal on both sides of a cut are found before it is made.
        whole = walk(graph, chosen, until=Graph, along=AFTER_ORDER)
        levels = cuts(whole)
        for k, piece in enumerate(pieces(whole, levels) if levels else []):
            made = Build(piece.graph, host(), chosen, self.opt, more.get("watch"), AFTER_ORDER,
                         cached=self._cache, brought=self._brought.pop(f"piece {k}", None)).made
            self._parts.append((Library(made, self.dtype), piece.slots))
        if self._params is not None:
            self._set(self._params)

    def _carried(self) -> dict[str, Carried | None]:
        pieces = {f"piece {k}": part.carried() for k, (part, _) in enumerate(self._parts)}
        return super()._carried() | pieces

    def _set(self, values: Any) -> None:
        with self._setting:
            super()._set(values)
            if self._parts and self._params is not None:
                given = self._params.astype(self._real)
                packed = [None if part.n_packed is None else part.pack(given[slots])
                          for part, slots in self._parts]
                # At each cut a row of zeros joins those of the cuts before it.
                x = np.empty((0, _width(self._parts[1][0], "x")), self._real)
                for (part, _), held in zip(self._parts[1:], packed[1:], strict=True):
                    zeros = np.zeros((1, x.shape[1]), self._real)
                    x = np.concatenate([x, zeros])
                    y = np.empty((len(x), _width(part, "y")), self._real)
                    x = _call(part, held, x, y, part.work("forward_batch"))
                self._state = _State(packed, x)

    def _run_batch(self, x: Array) -> Array:
        state = self._state
        if state is None or not len(x):
            return super()._run_batch(x)
        y = np.zeros((len(x), self._n_outputs), self._real)
        self._library.at_once(
            lambda _, first, last: self._through(x[first:last], y[first:last], state),
            shares(len(x), self.threads, self._library, 1))
        return y

    def _through(self, x: Array, y: Array, state: _State) -> None:
        """y (n, n_outputs) of x (n, n_inputs), some thousand samples at a time."""
        widths = [_width(part, "y") for part, _ in self._parts[:-1]]
        chunk = min(len(x), _rows(CHUNK_BYTES, max(widths), x.itemsize))
        desk = _Desk(
            [part.work("forward_batch") for part, _ in self._parts],
            np.empty(max(min(chunk, _rows(BLOCK_BYTES, width, x.itemsize)) * width
                         for width in widths), x.dtype),
            (np.empty(chunk * max(widths), x.dtype), np.empty(chunk * max(widths), x.dtype)))
        for first in range(0, len(x), chunk):
            self._chunk(x[first : first + chunk], y[first : first + chunk], state, desk)

    def _chunk(self, x: Array, y: Array, state: _State, desk: _Desk) -> None:
        """y of x, piece by piece, each on the samples still alive; y is +0 before."""
        rows: Longs = np.arange(len(x))
        for k, (part, _) in enumerate(self._parts[:-1]):
            x, live = _survivors(part, state.packed[k], x, desk, k)
            if _any(state.dead[k]):
                y[rows[~live]] = state.dead[k]
            rows = rows[live]
            if not len(rows):
                return
        part, _ = self._parts[-1]
        last = np.empty((len(x), y.shape[1]), y.dtype)
        y[rows] = _call(part, state.packed[-1], x, last, desk.work[-1])


class _Desk(NamedTuple):
    """A thread's memory: each piece's work, a block of values at a cut, and two places for the
    values of the samples alive, which each piece takes from one and leaves in the other."""

    work: list[Array]
    block: Array
    alive: tuple[Array, Array]


def _rows(size: int, width: int, itemsize: int) -> int:
    """Rows of `width` values in `size` bytes, whole 64s."""
    return max(64, size // (width * itemsize) // 64 * 64)


def _survivors(part: Library, packed: Array | None, x: Array, desk: _Desk, k: int
               ) -> tuple[Array, NDArray[np.bool_]]:
    """The values at the end of piece k of those samples where they are not all +0, and which of x
    those are."""
    width = _width(part, "y")
    block = min(len(x), _rows(BLOCK_BYTES, width, x.itemsize))
    values = desk.block[: block * width].reshape(block, width)
    alive = desk.alive[k % 2][: len(x) * width].reshape(len(x), width)
    live = np.empty(len(x), np.bool_)
    count = 0
    for first in range(0, len(x), block):
        some = _call(part, packed, x[first : first + block], values, desk.work[k])
        mine = _any(some)
        live[first : first + block] = mine
        which = np.flatnonzero(mine)
        # Of the modes of `take`, only "raise" would make a copy first.
        np.take(some, which, axis=0, out=alive[count : count + len(which)], mode="clip")
        count += len(which)
    return alive[:count], live


def _any(values: Array) -> Any:
    """Whether a row has anything but +0 in it."""
    return np.bitwise_or.reduce(values.view(f"u{values.itemsize}"), axis=-1) != 0


def _width(part: Library, name: str) -> int:
    return part.functions["forward_batch"].buffers[name]


def _call(part: Library, packed: Array | None, x: Array, y: Array, work: Array) -> Array:
    """The first len(x) rows of y, which it sets."""
    arrays = [x, *([] if packed is None else [packed]), y, work]
    part.calls["forward_batch"](len(x), *[array.ctypes.data for array in arrays])
    return y[: len(x)]
