"""A compiled net that answers before it is compiled: by an engine, to which nets are data."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.driver.settings import arithmetic, derive
from ncc.errors import NccError
from ncc.images.image import Images, images
from ncc.images.kinds import Kinds, kinds_of
from ncc.images.union import union
from ncc.ir.graph import Graph
from ncc.machine.llvm import host
from ncc.machine.native import reals
from ncc.passes.graph.prune import prune
from ncc.passes.plan.cost import ops_of
from ncc.runtime.compiled import Array, Compiled
from ncc.runtime.kernel import Kernel, at_hand, head, kernel
from ncc.scalar.expressions import expression

# Seconds of CPU that a compile takes, within a factor of two: for any net, an edge of the first
# ones, and an op of each different activation. An engine's code is that of its kinds alone; those
# that are no sums take more, and beyond MOST it is too long to be optimised in full. Least squares
# of the ratios, over 27 nets: layers, genomes and mixtures of tests/bench/compile_nets.py, its tree
# and butterfly, and 1 to 32 activations with 1, 4 and 9 aggregations.
FIXED, AN_EDGE, EDGES, AN_OP = 0.028, 60e-6, 1500, 110e-6
ENGINE, AN_ENGINES_KIND, NO_SUM, AN_ENGINES_OP, MOST = 0.045, 0.008, 0.031, 250e-6, 0.6
AN_EDGES_SAMPLE = 2e-10  # seconds an engine takes for an edge of a sample
SOON = 0.04  # seconds of a compile that nobody minds
SHARE = 0.25  # of a compile's seconds: a net that was evaluated for so long is worth a compile
NEURONS = 100_000  # up to which the values of a round of samples are some megabytes
ROUND = 64  # samples: what a thread has is cut between two rounds

_spent: dict[Kinds, float] = {}  # seconds


def tiered(graph: Graph, params: Any, dtype: Any, threads: int, numerics: str | None, cache: bool
           ) -> Tiered | None:
    """The net by an engine, until its own code is worth a compile; None where that is soon made, or
    an engine for it takes longer. Raises as `Compiled` does."""
    dtype, numerics = arithmetic(graph, dtype, numerics)
    if graph.n_neurons > NEURONS or numerics == "fast" or len(graph.states):
        return None
    kinds, seconds, engine = _estimates(graph)
    if seconds <= SOON:
        return None
    if not at_hand(kinds, dtype, numerics, cache):
        # Who compiled nets of these kinds for as long as an engine takes will compile more of them.
        _spent[kinds] = _spent.get(kinds, 0.0) + seconds
        if _spent[kinds] < engine:
            return None
    return Tiered(graph, params, kinds, seconds, dtype=dtype, threads=threads, numerics=numerics,
                  cache=cache)


def for_rows(graph: Graph, rows: int, *, dtype: Any, threads: int, numerics: str | None
             ) -> Tiered | None:
    """The net by an engine, where that is the sooner done with so many samples; else None. Raises
    as `Compiled` does."""
    dtype, numerics = arithmetic(graph, dtype, numerics)
    if graph.levels is None or graph.n_neurons > NEURONS or numerics == "fast" or len(graph.states):
        return None
    kinds, seconds, engine = _estimates(graph)
    if rows * graph.n_edges * AN_EDGES_SAMPLE > seconds or not (
            seconds > engine or seconds > SOON and at_hand(kinds, dtype, numerics)):
        return None
    return Tiered(graph, None, kinds, seconds, dtype=dtype, threads=threads, numerics=numerics,
                  cache=True)


def _estimates(graph: Graph) -> tuple[Kinds, float, float]:
    """The kinds of a net, and the seconds that a compile of it takes, and one of its engine."""
    kinds = kinds_of([graph])
    others = sum([kind.aggregation != "sum" for kind in kinds.kinds])
    codes = np.unique(graph.activations[graph.activations >= 0]).tolist()
    ops = sum([ops_of(expression(code, graph.functions)) for code in codes])
    engine = ENGINE + AN_ENGINES_KIND * len(kinds.kinds) + NO_SUM * others + AN_ENGINES_OP * ops
    return (kinds, FIXED + AN_EDGE * min(graph.n_edges, EDGES) + AN_OP * ops, min(engine, MOST))


class _Engine(NamedTuple):
    """An engine and what it takes: the net as an image, which has the parameters."""

    kernel: Kernel
    image: Images
    head: NDArray[np.uint32]

    def with_params(self, params: Array | None) -> _Engine:
        """The same for other parameters, in another block: a call in another thread sees the old
        one or the new one, whole."""
        if params is None:
            return self
        image = self.image._replace(block=self.image.block.copy())
        image.parameters.put(image.block, params)
        return self._replace(image=image)


class Tiered(Compiled):
    """Answers by an engine while it is new, with the bits that its own code gives; the engine is
    had when the first sample comes. The net's own code is made in the background when it was
    evaluated for a while, or here when something else is asked of it than `fn(x)` and parameters;
    from then on it is a `Compiled` and nothing more."""

    __module__ = "ncc"

    def __init__(self, graph: Graph, params: Any, kinds: Kinds, seconds: float, *, dtype: Any,
                 threads: int, numerics: str | None, cache: bool) -> None:
        self._begin(graph, dtype, 2, threads, numerics, None, cache, None)
        self.numerics: str = derive(host(), self.dtype, numerics).numerics
        self._kinds = kinds
        self._engine: _Engine | None = None
        self._left = SHARE * seconds  # until it is worth a compile
        self._linking = threading.RLock()
        self._maker: threading.Thread | None = None
        self._params: Array | None = None
        if params is not None or not np.isnan(graph.values).any():
            self._set(graph.values if params is None else params)

    def _evaluator(self) -> _Engine | None:
        """The engine; None where the net has got its own code meanwhile."""
        with self._linking:
            if type(self) is Compiled:
                return None
            if self._engine is None:
                found = kernel(self._kinds, self.dtype, self._numerics, self._cache)
                live = union([prune(self.graph)])
                image = images(live, found.kinds, self.dtype)
                self._engine = _Engine(
                    found, image, head(image.places, live.n_inputs, live.n_outputs)).with_params(
                        self._params)
            return self._engine

    def _set(self, values: Any) -> None:
        with self._linking:
            if type(self) is Compiled:  # meanwhile
                self._set(values)
                return
            array, _ = self._checked(values)
            if self._engine is not None:
                self._engine = self._engine.with_params(array)
            self._params = array

    def __call__(self, x: Any) -> Array:
        if self._params is None:
            self._missing()
        x = reals(x, self._real, "x")
        self._fits(x)
        engine = self._engine or self._evaluator()
        if engine is None:
            return self(x)
        began = perf_counter()
        y = np.empty((1, *x.shape[:-1], self._n_outputs), self._real)
        rounds = -(-len(x) // ROUND) if x.ndim == 2 else 1
        count = max(1, min(engine.kernel.threads(self.threads), rounds))
        cuts = [min(len(x), rounds * k // count * ROUND) for k in range(count + 1)]
        block = engine.image.block
        if count == 1:
            engine.kernel.forward(engine.head, block, self.graph.n_neurons, x, y)
        else:
            engine.kernel.library.at_once(lambda _, a, b: engine.kernel.forward(
                engine.head, block, self.graph.n_neurons, x[a:b], y[:, a:b]),
                list(zip(cuts, cuts[1:], strict=False)))
        self._left -= perf_counter() - began
        if self._left < 0 and self._maker is None:
            self._in_background()
        made: Array = y[0]
        return made

    def __getattr__(self, name: str) -> Any:
        """What only the net's own code has: made here, unless it is under way."""
        if name.startswith("__") or "_linking" not in self.__dict__:
            raise AttributeError(name)
        self._now()
        return getattr(self, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """A pickle carries the net's own code."""
        self._now()
        return Compiled.__reduce__(self)

    # -- the net's own code

    def _now(self) -> None:
        maker = self._maker
        if maker is not None and maker is not threading.current_thread():
            maker.join()
        if type(self) is not Compiled:
            self._own()

    def _in_background(self) -> None:
        with self._linking:
            if self._maker is None:
                self._maker = threading.Thread(target=self._quietly, name="ncc compile")
                self._maker.start()

    def _quietly(self) -> None:
        """What fails here fails again for who waits for it; the engine goes on for the others."""
        try:
            self._own(_WhileWanted())
        except (NccError, _Over):
            pass

    def _own(self, watch: Any = None) -> None:
        """Made beside the engine; then all at once."""
        made = Compiled(self.graph, dtype=self.dtype, threads=self.threads,
                        numerics=self._numerics, cache=self._cache, watch=watch)
        with self._linking:
            if type(self) is Compiled:
                return
            if self._params is not None:
                made.params = self._params
            for name in ("_linking", "_engine", "_left", "_maker"):  # for calls under way
                made.__dict__.setdefault(name, self.__dict__[name])
            self.__dict__.update(made.__dict__)
            self.__class__ = Compiled  # type: ignore[assignment]


class _Over(Exception):
    """The interpreter ends: nobody wants what is being made."""


class _WhileWanted:
    """Watches a build in the background: it ends with the main thread."""

    def before(self, *_: Any) -> None:
        if not threading.main_thread().is_alive():
            raise _Over

    def after(self, *_: Any) -> None:
        pass
