"""The compiled net as a Python callable."""

from __future__ import annotations

import ctypes
import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ncc.driver import kinds as emit
from ncc.driver.compiler import Build, write
from ncc.driver.pipeline import AFTER_ORDER, Watch
from ncc.driver.settings import arithmetic, options
from ncc.ir.graph import Graph, refuse_states
from ncc.ir.ssa import DTYPES
from ncc.machine.cache import Carried
from ncc.machine.header import c_identifier
from ncc.machine.helpers import CALL
from ncc.machine.llvm import host, target
from ncc.machine.native import KEPT, Library, aligned, forward, reals, shares, to_keep
from ncc.machine.threads import WORKER
from ncc.nets.net import fixed
from ncc.progress import Progress
from ncc.runtime.derivatives import jacobian, vjp
from ncc.runtime.each import evaluate, pull
from ncc.runtime.tune import tuned

Array = NDArray[Any]
# An argument made of an array's first byte: four times faster than `array.ctypes.data`.
_First: Any = ctypes.c_char * 1
# Inputs up to which one sample is copied to where its call's arguments point already, which is
# faster than to make arguments of its address.
COPIED = 1024
_ndarray = np.ndarray


class Compiled:
    """A net as machine code, called with numpy arrays.

    `fn(x)`: x of shape (n_inputs,) or (batch, n_inputs) gives y (n_outputs,) or
    (batch, n_outputs) of the same dtype as the net's. Any thread may call it at any time; the GIL
    is released while it computes. ValueError where the shape is wrong or parameters are missing.
    """

    __module__ = "ncc"  # where users import it: no pickle depends on the rooms of this house
    _stateful = False  # whether its calls may leave something for the next ones

    def __init__(self, graph: Graph, params: Any = None, *, dtype: Any = None, opt: int = 2,
                 threads: int = 1, numerics: str | None = None,
                 passes: Mapping[str, Any] | None = None, build: Build | None = None,
                 cache: bool = True, watch: Watch | None = None, tune: bool = False,
                 brought: Mapping[str, Carried | None] | None = None) -> None:
        """`build` is the graph's, where the caller has one already; `passes` made it. `cache` says
        whether the object may come from the cache on disk, and be kept there; `tune`, whether the
        forms are timed first; `brought` is the code that `_carried` put into a pickle.

        TypeError for an option that no pass has.
        """
        self._begin(graph, dtype, opt, threads, numerics, passes, cache, brought)
        self._make(watch, build, tune)
        self._params: Array | None = None
        if params is not None:
            self.params = params
        elif not np.isnan(graph.values).any():
            self._set(graph.values)

    def _begin(self, graph: Graph, dtype: Any, opt: int, threads: int, numerics: str | None,
               passes: Mapping[str, Any] | None, cache: bool,
               brought: Mapping[str, Carried | None] | None) -> None:
        """What is asked for, checked."""
        asked = dict(passes or {})
        unknown = [name for name in asked if name not in _known_options()]
        if unknown:
            raise TypeError(f"no pass has an option {', '.join(unknown)}")
        if opt not in range(4):
            raise ValueError(f"opt is {opt!r}, not 0..3")
        if threads < 0:
            raise ValueError(f"threads is {threads}, not 0 or more")
        if not self._stateful:
            refuse_states(graph, type(self).__name__)
        self.graph = graph
        self.dtype, self._numerics = arithmetic(graph, dtype, numerics)
        self._real = np.dtype(DTYPES[self.dtype])
        self._n_inputs = graph.n_inputs
        self._n_outputs = len(graph.outputs)
        self._shape = (self._n_inputs,)
        self.opt = opt
        self.threads = threads
        self._asked = asked
        self._cache = cache
        self._brought = dict(brought or {})
        CALL.bring(self._brought.pop("call", None))
        WORKER.bring(self._brought.pop("worker", None))

    def _make(self, watch: Watch | None = None, build: Build | None = None, tune: bool = False
              ) -> None:
        """The code. (The build's levels, which take more memory than the parameters, go here.)"""
        if build is None:
            target = host()
            chosen = options(target, dtype=self.dtype, numerics=self._numerics,
                             **{"outside": True, **self._asked})
            if tune:
                self._asked |= tuned(self.graph, target, chosen, self.opt, AFTER_ORDER, self._cache)
                chosen |= self._asked
            build = Build(self.graph, target, chosen, self.opt, watch, AFTER_ORDER,
                          cached=self._cache, brought=self._brought.pop("forward", None))
        self.numerics: str = build.options["numerics"]
        self._link(build)

    def __repr__(self) -> str:
        g, forms = self.graph, self._forms
        words = [f"{g.n_inputs} inputs -> {len(g.outputs)} outputs", f"{g.n_own} neurons",
                 f"{g.n_edges} edges",
                 f"{g.n_params} parameters" + (" without values" if self._params is None else ""),
                 f"{self.dtype} {self.numerics}",
                 f"one sample {forms['forward']}, batch {forms['forward_batch']}"]
        words += [f"{self.threads or 'all'} threads"] if self.threads != 1 else []
        return f"{type(self).__name__}({', '.join(words)})"

    def _link(self, build: Build) -> None:
        self._library = library = Library(build.made, self.dtype)
        self._forms: dict[str, str] = build.made.facts["forms"]
        self._single = library.calls["forward"]
        self._batch = library.calls["forward_batch"]
        self._packs = library.n_packed is not None
        self._arguments: tuple[Any, ...] = ()
        self._later: dict[str, Library] = {}  # what is compiled when it is first asked for
        self._packed_for: tuple[Array, Array, Array | None] | None = None
        self._lock = threading.Lock()
        # The shape that the fast path takes; where x is copied by no call, one that no array has.
        self._copied = self._shape if self._n_inputs <= COPIED else None
        self._desks: list[_Desk] = []

    @property
    def params(self) -> Array | None:
        """The canonical parameter vector (float64), or None; settable as a whole. What it gives
        cannot be written to, and stays as it is when others are set."""
        return None if self._params is None else fixed(self._params)

    @params.setter
    def params(self, values: Any) -> None:
        self._set(values)

    def _set(self, values: Any) -> None:
        array, given = self._checked(values)
        if self._packs:
            packed = self._library.pack(given)
            # One assignment: a call in another thread sees the old vector or the new one, whole.
            self._arguments = (packed.ctypes.data, packed)
            self._desks = []
        self._params = array

    def _checked(self, values: Any) -> tuple[Array, Array]:
        """A canonical vector that nobody else writes to, and the same in the net's dtype."""
        array = reals(values, np.dtype(np.float64), "params")
        if values is not self.graph.values:  # nobody writes to those
            array = array.copy()
        if array.shape != (self.graph.n_params,):
            raise ValueError(f"params has shape {array.shape}, the net wants "
                             f"({self.graph.n_params},)")
        if not np.isfinite(array).all():
            raise ValueError("params holds a value that is not finite")
        given = reals(array, self._real, "params")
        if not np.isfinite(given).all():
            raise ValueError(f"params holds a value that overflows {self.dtype}")
        return array, given

    def _weights(self, held: tuple[Any, ...]) -> tuple[Any, ...]:
        """The argument `packed` of `held`, which the caller keeps alive while it is used."""
        if not self._packs:
            return ()
        if not held:
            self._missing()
        return held[:1]

    def _missing(self) -> NoReturn:
        raise ValueError(
            f"the net has {self.graph.n_params} parameters and "
            f"{int(np.isnan(self.graph.values).sum())} of them have no value: set fn.params")

    def _desk(self, state: Array | None = None) -> _Desk:
        """Places for x, y and work, and what `forward` is called with there; and with `state`, of a
        net that has one."""
        held = self._arguments
        packed = self._weights(held)
        x, y = aligned(self._n_inputs, self._real), aligned(self._n_outputs, self._real)
        work = self._library.work("forward")
        call = np.zeros(6, np.uintp)
        more = () if state is None else (state.ctypes.data,)
        addresses = (self._library.addresses["forward"], x.ctypes.data, *packed, y.ctypes.data,
                     *more, work.ctypes.data)
        call[: len(addresses)] = addresses
        # Without argument types, ctypes passes a c_void_p on as it is.
        caller = CALL.loaded()  # kept: threads that make it at once make one each
        function = ctypes.CFUNCTYPE(None)(caller.addresses["call"])
        keep = (call, work, held, caller, state)
        return x, y, function, ctypes.c_void_p(call.ctypes.data), keep

    def __call__(self, x: Any) -> Array:
        if type(x) is _ndarray and x.dtype is self._real and x.shape == self._copied:
            # Nobody else has what was taken from a list, neither a thread nor a signal's handler.
            desks = self._desks
            try:
                desk = desks.pop()
            except IndexError:
                desk = self._desk()
            mine, y, function, call, _ = desk
            mine[...] = x
            function(call)
            y = y.copy()
            desks.append(desk)
            return y
        return self._general(x)

    def _real_rows(self, values: Any, what: str) -> Array:
        """`values` as a row-major array of the net's dtype: itself, without a look, where it is."""
        if type(values) is _ndarray and values.dtype is self._real and values.flags.c_contiguous:
            return values
        return reals(values, self._real, what)

    def _general(self, x: Any) -> Array:
        if not (type(x) is np.ndarray and x.dtype is self._real and x.flags.c_contiguous):
            x = reals(x, self._real, "x")
        if x.shape == self._shape:
            held = self._arguments
            y = np.empty(self._n_outputs, self._real)
            packed = held[:1] if held else self._weights(held)
            work = self._library.scratch("forward")
            try:
                self._single(_First.from_buffer(x), *packed, _First.from_buffer(y), work)
            except (TypeError, ValueError):  # x cannot be written, or an array is empty
                self._single(x.ctypes.data, *packed, y.ctypes.data, work)
            del held
            return y
        self._fits(x)
        return self._run_batch(x)

    def _fits(self, x: Array) -> None:
        if x.ndim not in (1, 2) or x.shape[-1] != self._n_inputs:
            raise ValueError(f"x has shape {x.shape}, the net wants ({self._n_inputs},) or "
                             f"(batch, {self._n_inputs})")

    def _run_batch(self, x: Array) -> Array:
        held = self._arguments
        packed = self._weights(held)
        if len(shares(len(x), self.threads, self._library, 1)) > 1:
            return forward(self._library, x, held[1] if held else None, self.threads)
        y = np.empty((len(x), self._n_outputs), self._real)
        work = self._library.scratch("forward_batch")
        self._batch(len(x), x.ctypes.data, *packed, y.ctypes.data, work)
        return y

    def each(self, x: Any, params: Any, *, shared: bool = False) -> Array:
        """y[k] = net(x[k], params[k]): a batch whose samples have parameters of their own, with
        the bits that `fn.params = params[k]; fn(x[k])` gives. `fn.params` stays as it is.

            x (n, n_inputs)   params (n, n_params)  ->  (n, n_outputs)
            x (n_inputs,)     params (n, n_params)  ->  (n, n_outputs)     one sample for all
            x (n, n_inputs)   params (n_params,)    ->  (n, n_outputs)     one vector for all
            x (m, n_inputs)   params (n, n_params)  ->  (n, m, n_outputs)  `shared`: every sample
                                                                           with every vector

        Parameters are canonical vectors, of the net's dtype or converted to it, and may hold
        infinities and NaN. The code is compiled at the first call. ValueError where the shapes do
        not fit.
        """
        x, params = self._rows_of(x, params, shared)
        return evaluate(self._each, self._library if self._packs else None, x, params, shared,
                        self.threads)

    def _each(self) -> Library:
        return self._on_demand("each", each=True)

    def each_vjp(self, x: Any, params: Any
                 ) -> tuple[Array, Callable[[Any], tuple[Array, Array]]]:
        """y = fn.each(x, params), and the pullback: dy, of y's shape, to dx (n, n_inputs) and
        dparams (n, n_params), the gradients of sum(y[k] * dy[k]) for each k by itself, without the
        axis n where neither x nor params has it. They have the bits that `fn.vjp(x[k])` gives with
        params[k]. With one vector for all samples, params (n_params,), they are the gradients of
        each sample.

        The pullback may be called at any time and again; it uses x and params as they were here.
        The code is compiled at the first call. ValueError as of `fn.each`, and where dy's shape is
        wrong.
        """
        x, params = [np.array(rows) for rows in self._rows_of(x, params, False)]
        y = self.each(x, params)

        def pullback(dy: Any) -> tuple[Array, Array]:
            dy = reals(dy, self._real, "dy")
            if dy.shape != y.shape:
                raise ValueError(f"dy has shape {dy.shape}, y has {y.shape}")
            return pull(self._each_backward, self._backward, x, params, dy, self.threads)

        return y, pullback

    def _each_backward(self) -> Library:
        return self._on_demand("each_backward", each=True, gradient=True, vjp=False)

    def _rows_of(self, x: Any, params: Any, shared: bool) -> tuple[Array, Array]:
        """x and params of `each` as arrays of the net's dtype, whose shapes fit."""
        x, params = self._real_rows(x, "x"), self._real_rows(params, "params")
        self._fits(x)
        if params.ndim not in (1, 2) or params.shape[-1] != self.graph.n_params:
            raise ValueError(f"params has shape {params.shape}, the net wants "
                             f"({self.graph.n_params},) or (n, {self.graph.n_params})")
        if shared and (x.ndim, params.ndim) != (2, 2):
            raise ValueError(f"x has shape {x.shape} and params {params.shape}: shared samples are "
                             f"(m, {self._n_inputs}), with params (n, {self.graph.n_params})")
        if not shared and x.ndim == params.ndim == 2 and len(x) != len(params):
            raise ValueError(f"x has shape {x.shape} and params {params.shape}: a row of each for "
                             "each y; shared=True takes all rows of x with all of params")
        return x, params

    def vjp(self, x: Any) -> tuple[Array, Callable[[Any], tuple[Array, Array]]]:
        """y = fn(x), and the pullback: dy, of y's shape, to dx, of x's, and dparams (n_params,),
        in canonical order and summed over the batch: the gradients of sum(y * dy).

        The pullback may be called at any time and again; it uses x and the parameters as they were
        here, and, up to 256 MB of them, the values that were made here, which live as long as it
        does. The backward functions are compiled at the first call. ValueError as of `fn(x)`, and
        where dy's shape is wrong.
        """
        x = np.array(reals(x, self._real, "x"))
        self._fits(x)
        params = self._known()
        library = self._backward()
        kept = to_keep(library, x, KEPT)
        packed, own = self._packed_both(library, params, kept is None)
        return vjp(library, self._library, x, packed, own, kept, self.graph.n_params, self.threads)

    def jacobian(self, x: Any) -> Array:
        """The derivative of each output by each input: (n_outputs, n_inputs) of x (n_inputs,),
        (batch, n_outputs, n_inputs) of x (batch, n_inputs).

        A net that has fewer inputs than outputs goes forward for each input, any other back for
        each output: row k has then the bits of dx of `fn.vjp`, for a dy of 1 at k and 0 elsewhere.
        It is +0 where no path leads from the input to the output. The code is compiled at the
        first call. ValueError as of `fn(x)`.
        """
        x = self._real_rows(x, "x")
        self._fits(x)
        params = self._known()
        library = self._on_demand("jacobian", jacobian=True)
        packed, _ = self._packed_both(library, params, False)
        return jacobian(library, x, packed, self._n_outputs, self.threads)

    def _known(self) -> Array:
        """The parameters as they are now: another thread may set others meanwhile."""
        params = self._params
        if params is None:
            self._weights(())
            params = self.graph.values
        return params

    def _packed_both(self, library: Library, params: Array, both: bool
                     ) -> tuple[Array, Array | None]:
        """`packed` of the backward functions and, where `both` are wanted, of `forward` (None where
        the weights are in its code), made anew only for other parameters, which are never written
        to."""
        made = self._packed_for
        old = made is None or made[0] is not params
        if made is None or old or (both and self._packs and made[2] is None):
            given = reals(params, self._real, "params")
            packed = library.pack(given) if made is None or old else made[1]
            own = self._library.pack(given) if both and self._packs else None
            # One assignment, as in `_set`.
            made = self._packed_for = (params, packed, own)
        return made[1:]

    def _backward(self) -> Library:
        """The backward functions."""
        return self._on_demand("backward", gradient=True, kept=KEPT)

    def _on_demand(self, name: str, **wanted: Any) -> Library:
        """Functions beside the forward ones, compiled when they are first asked for: `wanted` are
        options of the passes."""
        library = self._later.get(name)
        if library is not None:
            return library
        with self._lock:
            if name not in self._later:
                # Weights that stand in the forward code are parameters here: they have gradients.
                asked = {k: v for k, v in self._asked.items() if k not in ("params", "embedded")}
                chosen = options(host(), dtype=self.dtype, numerics=self._numerics,
                                 **{"outside": True, **asked, "forwards": False, **wanted})
                with Progress(sys.stderr) as progress, progress.working("emit obj"):
                    made = Build(self.graph, host(), chosen, self.opt, progress, AFTER_ORDER,
                                 cached=self._cache, brought=self._brought.get(name)).made
                self._later[name] = Library(made, self.dtype)
                self._brought.pop(name, None)
            return self._later[name]

    def save(self, path: str | Path) -> None:
        """Write the net, with its parameters as they are now where the file has any, as what the
        ending says: what `ncc build --emit` gives, for this machine (.o .so .c .h .ll .s .bc .ssa
        .plan .graph .image .fwd .bwd .matrix .dot) or WebAssembly (.wasm), or its text (.nal .nel
        .nam). Objects (a header beside them), C files, headers and .wasm (.mjs beside it) have the
        gradients. NccError E604 for another ending, E622 where it cannot be written."""
        path = Path(path)
        kind = emit.kind_of(path)
        aim = target(emit.target_of([kind], "native"))
        chosen = options(aim, dtype=self.dtype, numerics=self._numerics,
                         **{"gradient": self._packs and not len(self.graph.states)
                            and emit.with_gradient(kind), **self._asked,
                            "scalar": kind == "c", "name": c_identifier(path.stem)})
        graph = self.graph.with_(values=self._values())
        build = Build(graph, aim, chosen, self.opt, None, AFTER_ORDER, not self._packs,
                      cached=self._cache)
        write(emit.files(kind, build, path))

    def _values(self) -> Array:
        return self.graph.values if self._params is None else self._params

    def _carried(self) -> dict[str, Carried | None]:
        """The code that a pickle carries: all that is compiled, and what a pickle brought that was
        not wanted yet."""
        found = {**self._brought, "forward": self._library.carried(), "call": CALL.carried()}
        found |= {name: library.carried() for name, library in self._later.items()}
        if self.threads != 1:
            found["worker"] = WORKER.carried()
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        made = partial(type(self), dtype=self.dtype, opt=self.opt, threads=self.threads,
                       numerics=self._numerics, passes=self._asked, cache=self._cache,
                       brought=self._carried())
        return (made, (self.graph, self._params))


# x, y, the function that computes y there, its argument, and what has to live as long as they do.
_Desk = tuple[Array, Array, Callable[..., None], ctypes.c_void_p, Any]


def _known_options() -> list[str]:
    """The names of the passes' keyword-only parameters, and of what `options` chooses by."""
    found = ["name", "limit"]
    for step in AFTER_ORDER:
        parameters = inspect.signature(step.call).parameters.values()
        found += [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return found
