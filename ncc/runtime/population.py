"""Many small nets evaluated together: by one engine, to which they are data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncc.errors import NccError
from ncc.images.blocks import CHUNK, Blocks, blocks
from ncc.images.image import Images, images
from ncc.images.kinds import Kinds, kinds_of
from ncc.images.union import Union, from_edges, packed, union, unpacked
from ncc.ir.graph import Graph, Reals
from ncc.machine.native import aligned
from ncc.nets.net import Net, fixed, load, parse
from ncc.passes.graph.order import order
from ncc.passes.graph.prune import prune
from ncc.runtime.kernel import Kernel, head, kernel

Array = NDArray[Any]
# Of a chunk of which fewer nets are wanted, each is evaluated by itself, which takes so many times
# as long as one of all (measured: 500 and 200 ns for nets of 280 edges).
ALONE = 0.4
GROUP = 64  # nets that go through all samples together: their images stay in the level-2 cache


class Population:
    """Nets with the same number of inputs and outputs, evaluated together: `pop(x)` on the same
    samples, `pop.step(obs)` on a sample of its own each. The values are those of `ncc.compile`, to
    the bit. `len(pop)` nets; `pop[k]` is one of them.

    What it is made of is compiled once for all populations of the same kinds of neurons
    (activation and aggregation), dtype and numerics, and kept in the cache.
    """

    __module__ = "ncc"  # where users import it, and pickles find it

    def __init__(self, many: Union, *, dtype: Any = "f32", numerics: str | None = None,
                 threads: int = 1, recurrent: bool = False, kinds: Kinds | None = None,
                 cache: bool = True) -> None:
        """`many` has levels unless `recurrent`. `kinds` are those of the engine, where it is to
        serve more nets than these; NccError E147 where a net has others."""
        if threads < 0:
            raise ValueError(f"threads is {threads}, not 0 or more")
        self.threads = threads
        self.recurrent = recurrent
        self._union = many
        self._live = many if recurrent else replace(many, graph=prune(many.graph))
        self._kernel = kernel(kinds or kinds_of([self._live.graph]), dtype, numerics, cache)
        self._valued = not np.isnan(many.graph.values).any()
        self._images: Images | None = None
        self._chunks: list[_Chunk] | None = None
        self._last: Array | None = None  # of the last step

    @classmethod
    def from_edges(cls, n_inputs: int, n_outputs: int, neurons: ArrayLike, net: ArrayLike,
                   source: ArrayLike, target: ArrayLike, activation: ArrayLike,
                   weight: ArrayLike | None = None, bias: ArrayLike | None = None,
                   aggregation: ArrayLike | None = None, **options: Any) -> Population:
        """Nets that are arrays, in one go and without a loop over them.

        neurons      (P,) how many each net has: its inputs first, its outputs last
        net          (E,) the net of each edge; `source` and `target` (E,) are neurons, counted from
                     0 in each net. In-lists have edges in the order in which they stand here
        activation   (sum of neurons,) a code for each neuron of each net, net by net; those of
                     inputs are of no meaning
        weight       (E,); without it, all edges of a net share one parameter, which has no value
                     yet and comes before its biases
        bias         (sum of neurons,), NaN where there is none
        aggregation  (sum of neurons,) numbers of sum, mul, mean, max, min, maxabs, sumbias,
                     maximum, minimum, and 10 of div; else sums
        options      those of the class

        NccError E650 where the numbers make no nets, E116 for a cycle; ValueError for a wrong
        shape.
        """
        many = from_edges(n_inputs, n_outputs, neurons, net, source, target, activation, weight,
                          bias, aggregation)
        if options.get("recurrent"):
            return cls(many, **options)
        try:
            ordered = order(many.graph)
        except NccError:
            for k in range(len(many)):
                try:
                    order(many.net(k))
                except NccError as error:
                    raise NccError(error.code, f"net {k}: {error.message}",
                                   help=error.help) from None
            raise
        return cls(replace(many, graph=ordered), **options)

    # -- what it is

    @property
    def dtype(self) -> str:
        return self._kernel.dtype

    @property
    def numerics(self) -> str:
        return self._kernel.numerics

    @property
    def n_inputs(self) -> int:
        return self._union.n_inputs

    @property
    def n_outputs(self) -> int:
        return self._union.n_outputs

    def __len__(self) -> int:
        return len(self._union)

    def __iter__(self) -> Iterator[Net]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, k: int) -> Net:
        """Net k, with its parameters as they are now; for `ncc.compile`, say. IndexError where
        there is none, TypeError where the nets are recurrent: those have cycles."""
        if self.recurrent:
            raise TypeError("a recurrent net has cycles, and is no net for the compiler")
        if not -len(self) <= k < len(self):
            raise IndexError(f"net {k} of {len(self)}")
        return Net(self._union.net(k % len(self)))

    def __repr__(self) -> str:
        g = self._union.graph
        words = [f"{len(self)} nets", f"{self.n_inputs} inputs -> {self.n_outputs} outputs",
                 f"{g.n_neurons} neurons", f"{g.n_edges} edges", f"{self.dtype} {self.numerics}"]
        words += ["recurrent"] * self.recurrent
        words += [f"{self.threads or 'all'} threads"] if self.threads != 1 else []
        return f"Population({', '.join(words)})"

    # -- parameters

    @property
    def params(self) -> list[Reals]:
        """The canonical parameter vector of each net (float64), which cannot be written to;
        settable as a whole, by a sequence of such vectors."""
        values, slots = fixed(self._union.graph.values), self._union.slots
        return [values[slots[k] : slots[k + 1]] for k in range(len(self))]

    @params.setter
    def params(self, vectors: Sequence[Any]) -> None:
        slots = self._union.slots
        if len(vectors) != len(self):
            raise ValueError(f"{len(vectors)} vectors of parameters, the population has "
                             f"{len(self)} nets")
        given = [np.asarray(v, np.float64) for v in vectors]
        for k, vector in enumerate(given):
            if vector.shape != (slots[k + 1] - slots[k],):
                raise ValueError(f"the parameters of net {k} have shape {vector.shape}, it wants "
                                 f"({slots[k + 1] - slots[k]},)")
        values = np.concatenate(given)
        if not np.isfinite(values).all():
            raise ValueError("params holds a value that is not finite")
        with np.errstate(over="ignore"):
            if not np.isfinite(values.astype(self._kernel.real)).all():
                raise ValueError(f"params holds a value that overflows {self.dtype}")
        self._union = _with_values(self._union, values)
        self._live = _with_values(self._live, values)
        self._valued = True
        if self._images is not None:
            self._images.parameters.put(self._images.block, values)
        for chunk in self._chunks or ():
            chunk.fill(values[slots[chunk.first] : slots[chunk.last]])

    # -- the same samples for all

    def __call__(self, x: Any) -> Array:
        """y (nets, n, n_outputs) of x (n, n_inputs), or (nets, n_outputs) of x (n_inputs,), in the
        population's dtype. ValueError where the shape is wrong or a parameter has no value,
        TypeError where the nets are recurrent."""
        if self.recurrent:
            raise TypeError("a recurrent population goes step by step: pop.step(obs)")
        x = np.ascontiguousarray(x, self._kernel.real)
        if x.ndim not in (1, 2) or x.shape[-1] != self.n_inputs:
            raise ValueError(f"x has shape {x.shape}, the nets want ({self.n_inputs},) or "
                             f"(n, {self.n_inputs})")
        self._has_values()
        y = np.empty((len(self), *x.shape[:-1], self.n_outputs), self._kernel.real)
        block, places = self._image()[:2]
        values = int(np.diff(self._union.first).max())

        def part(_: int, first: int, last: int) -> None:
            for low in range(first, last, GROUP):
                high = min(low + GROUP, last)
                names = head(places[low:high], self.n_inputs, self.n_outputs)
                self._kernel.forward(names, block, values, x, y[low:high])

        self._kernel.library.at_once(part, self._parts(np.diff(np.append(places, len(block)))))
        return y

    def _image(self) -> Images:
        if self._images is None:
            made = images(self._live, self._kernel.kinds, self.dtype)
            made.parameters.put(made.block, self._live.graph.values)
            self._images = made
        return self._images

    def _parts(self, work: Sequence[int] | Array) -> list[tuple[int, int]]:
        """First and last of each thread's, of things that take so much work each."""
        count = min(self._kernel.threads(self.threads), len(work))
        if count == 1:
            return [(0, len(work))]
        done = np.concatenate([[0], np.cumsum(work)])
        cuts = np.searchsorted(done, done[-1] * np.arange(1, count) / count).tolist()
        return [(a, b) for a, b in zip([0, *cuts], [*cuts, len(work)], strict=True) if a < b]

    # -- a sample of its own for each

    def step(self, obs: Any, active: Any = None) -> Array:
        """y (nets, n_outputs) of obs (nets, n_inputs): a sample of its own for each net; or
        (nets, k, n_outputs) of (nets, k, n_inputs), one sample after another. With `active`
        (nets,) of truth values, the others take no time and keep the y of the last step (0 before
        the first), and their state. ValueError where a shape is wrong or a parameter has no value.
        """
        obs = np.asarray(obs, self._kernel.real)
        if obs.ndim not in (2, 3) or obs.shape[0] != len(self) or obs.shape[-1] != self.n_inputs:
            raise ValueError(f"obs has shape {obs.shape}, the nets want ({len(self)}, "
                             f"{self.n_inputs}) or ({len(self)}, k, {self.n_inputs})")
        mask = None
        if active is not None:
            mask = np.asarray(active, bool)
            if mask.shape != (len(self),):
                raise ValueError(f"active has shape {mask.shape}, the population has {len(self)} "
                                 "nets")
        self._has_values()
        if obs.ndim == 3:
            return np.stack([self.step(obs[:, k], mask) for k in range(obs.shape[1])], 1
                            ) if obs.shape[1] else np.empty((len(self), 0, self.n_outputs),
                                                            self._kernel.real)
        obs = np.ascontiguousarray(obs)
        y = np.zeros((len(self), self.n_outputs), self._kernel.real)
        if mask is not None and self._last is not None:
            y[:] = self._last
        chunks = self._all_chunks()
        def part(_: int, first: int, last: int) -> None:
            for chunk in chunks[first:last]:
                self._step(chunk, obs, y, mask)

        self._kernel.library.at_once(part, self._parts([len(c.blocks.block) for c in chunks]))
        self._last = y
        return y.copy()

    def _step(self, chunk: _Chunk, obs: Array, y: Array, mask: Array | None) -> None:
        low, high = chunk.first, chunk.last
        wanted = high - low if mask is None else int(np.count_nonzero(mask[low:high]))
        if wanted == high - low:
            chunk.step(self._kernel, obs[low:high], y[low:high])
        elif wanted and (self.recurrent or wanted > ALONE * (high - low)):
            assert mask is not None
            chosen = mask[low:high]
            made = np.empty_like(y[low:high])
            before = chunk.state.copy() if self.recurrent else None
            chunk.step(self._kernel, obs[low:high], made)
            y[low:high][chosen] = made[chosen]
            if before is not None:  # of the nets that are not active it stays
                others = ~np.append(chosen, True)[chunk.blocks.nets]
                chunk.state[others] = before[others]
        elif wanted:
            assert mask is not None
            block, places = self._image()[:2]
            values = int(np.diff(self._union.first).max())
            for k in (low + np.flatnonzero(mask[low:high])).tolist():
                names = head(places[k : k + 1], self.n_inputs, self.n_outputs)
                self._kernel.forward(names, block, values, obs[k], y[k : k + 1])

    def _all_chunks(self) -> list[_Chunk]:
        if self._chunks is None:
            self._chunks = [
                _Chunk(self._live.part(first, min(first + CHUNK, len(self))), first, self._kernel,
                       self.recurrent) for first in range(0, len(self), CHUNK)]
        return self._chunks

    def _has_values(self) -> None:
        if not self._valued:
            missing = np.flatnonzero(np.isnan(self._union.graph.values))
            k = int(np.searchsorted(self._union.slots, missing[0], "right")) - 1
            raise ValueError(f"net {k} has parameters without values: set pop.params")

    # -- state

    @property
    def state(self) -> Array:
        """The values of the last step, a copy, of a recurrent population; settable, to go on from
        there. How they are ordered is the population's own affair. TypeError of others."""
        self._recurs()
        return np.concatenate([c.state for c in self._all_chunks()])

    @state.setter
    def state(self, values: Any) -> None:
        self._recurs()
        given = np.asarray(values, self._kernel.real)
        chunks = self._all_chunks()
        total = sum(len(c.state) for c in chunks)
        if given.shape != (total,):
            raise ValueError(f"state has shape {given.shape}, the population wants ({total},)")
        for c in chunks:
            c.state[:], given = given[: len(c.state)], given[len(c.state) :]

    def reset(self) -> None:
        """All values of the step before are 0 again, as at first. TypeError where the nets are not
        recurrent."""
        self._recurs()
        for c in self._all_chunks():
            c.state[:] = 0

    def _recurs(self) -> None:
        if not self.recurrent:
            raise TypeError("only recurrent nets have a state")

    def __getstate__(self) -> dict[str, Any]:
        """The nets in few bytes, and the state; images are made where they are wanted, in less time
        than it takes to read them, and engines are in the reader's cache, or made, too."""
        k = self._kernel
        return {"nets": packed(self._union), "of": (k.kinds.plain, k.dtype, k.numerics),
                "threads": self.threads, "recurrent": self.recurrent, "last": self._last,
                "state": self.state if self.recurrent else None}

    def __setstate__(self, held: dict[str, Any]) -> None:
        kinds, dtype, numerics = held["of"]
        self.__init__(unpacked(held["nets"], held["recurrent"]), dtype=dtype, numerics=numerics,  # type: ignore[misc]
                      threads=held["threads"], recurrent=held["recurrent"],
                      kinds=Kinds.of_plain(kinds))
        self._last = held["last"]
        if self.recurrent:
            self.state = held["state"]


class _Chunk:
    """Some nets of a population, `first` .. `last`, in blocks."""

    def __init__(self, many: Union, first: int, engine: Kernel, recurrent: bool) -> None:
        self.first, self.last = first, first + len(many)
        self.blocks = blocks(many, engine.kinds, engine.dtype, recurrent)
        self.fill(many.graph.values)
        self.own = aligned(self.blocks.values, engine.real) if recurrent else None
        if self.own is not None:
            self.state[:] = 0

    def fill(self, params: Reals) -> None:
        self.blocks.parameters.put(self.blocks.block, params)

    @property
    def state(self) -> Array:
        assert self.own is not None
        held: Blocks = self.blocks
        return self.own[held.before : held.before + held.state]

    def step(self, engine: Kernel, obs: Array, y: Array) -> None:
        work = engine.work(self.blocks.values) if self.own is None else self.own
        engine.step(self.blocks.block, obs, y, work)


def _with_values(many: Union, values: Reals) -> Union:
    return replace(many, graph=many.graph.with_(values=values))


def population(nets: Sequence[Net | str | Path], *, dtype: Any = None,
               numerics: str | None = None, threads: int = 1, cache: bool = True) -> Population:
    """A population of nets: `Net`s, files, or texts of the format nal.

    dtype    "f32" or "f64" (or numpy's name or type of either): what is computed in; without it
             what all net files ask for, else f32
    numerics "strict" or "fused"; without it what all net files ask for, else that of `ncc.compile`
    threads  over the nets; 0 is one a core
    cache    whether the engine may come from the cache on disk, and be kept there

    NccError E650 where a net has another number of inputs or outputs than the first one, or asks
    for another dtype or other numerics and nothing is said of them here, or where there is none;
    what `ncc.load` and `ncc.parse` raise.
    """
    graphs = [_graph(net) for net in nets]
    many = union(graphs)
    if dtype is None:
        dtype = _common("dtype", [graph.dtype for graph in graphs]) or "f32"
    if numerics is None:
        numerics = _common("numerics", [graph.numerics for graph in graphs])
    return Population(many, dtype=dtype, numerics=numerics, threads=threads, cache=cache)


def _common(what: str, asked: Sequence[str | None]) -> str | None:
    """What the files of all nets ask for, which one engine can evaluate."""
    if any(word != asked[0] for word in asked):
        k = next(k for k, word in enumerate(asked) if word != asked[0])
        said = [word or f"no {what}" for word in (asked[0], asked[k])]
        raise NccError("E650", f"net 0 asks for {said[0]}, net {k} for {said[1]}",
                       help=f"{what}= says it for all")
    return asked[0]


def _graph(net: Net | str | Path) -> Graph:
    if isinstance(net, Net):
        return net.graph
    return (parse(net) if isinstance(net, str) and "\n" in net else load(net)).graph
