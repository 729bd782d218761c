"""A compiled net with states: its calls are steps of a stream of samples, or of many."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from ncc.driver.compiler import Build
from ncc.ir.graph import refuse_states
from ncc.machine.native import forward, reals, shares
from ncc.runtime.compiled import Array, Compiled


class Stateful(Compiled):
    """A net some of whose neurons read values of the last call, as machine code: `fn(x)` is the
    next step.

    x of shape (n_inputs,) is the next sample of one stream, x (batch, n_inputs) one sample of each
    of `batch` streams side by side, which know nothing of each other; y is (n_outputs,) or
    (batch, n_outputs). What the next step reads is `fn.state`: all 0 at first and after
    `fn.reset()`, when the first call says how many streams there are. ValueError where the shape is
    wrong, or x is of other streams than the state.

    Calls of several threads are made one after another, in any order: threads with streams of their
    own want a function each, such as `pickle` or `copy.deepcopy` makes, with a state of its own. A
    pickle holds the state. Gradients are those of the unrolled net, `ncc.unroll`.
    """

    __module__ = "ncc"
    _stateful = True

    def __init__(self, *args: Any, **options: Any) -> None:
        self._state: Array | None = None  # None: all 0, of as many streams as the next call has
        self._turn = threading.Lock()
        super().__init__(*args, **options)

    def _link(self, build: Build) -> None:
        super()._link(build)
        self._states: list[int] = build.made.facts["states"]

    @property
    def states(self) -> list[int]:
        """The neurons whose values are in `fn.state`, in that order: those that an output depends
        on in some later step."""
        return list(self._states)

    @property
    def state(self) -> Array:
        """What the next step reads, a copy: (S,) of one stream, (batch, S) of several, S the length
        of `fn.states`, in the net's dtype; (S,) zeros where no call has said how many there are.
        Settable, to go on from there. ValueError where the shape is wrong."""
        with self._turn:
            held = self._state
            return np.zeros(len(self._states), self._real) if held is None else held.copy()

    @state.setter
    def state(self, values: Any) -> None:
        given = reals(values, self._real, "state").copy()
        if given.ndim not in (1, 2) or given.shape[-1] != len(self._states):
            raise ValueError(f"state has shape {given.shape}, the net wants "
                             f"({len(self._states)},) or (batch, {len(self._states)})")
        with self._turn:
            self._state, self._desks = given, []

    def reset(self) -> None:
        """The next call is the first step again, of as many streams as it has."""
        with self._turn:
            self._state, self._desks = None, []

    def __call__(self, x: Any) -> Array:
        if type(x) is np.ndarray and x.dtype is self._real and x.shape == self._copied:
            with self._turn:
                if not self._desks:
                    state = self._held(())
                    self._desks = [self._desk(state if self._states else None)]
                mine, y, function, call, _ = self._desks[0]
                mine[...] = x
                function(call)
                return y.copy()
        x = self._real_rows(x, "x")
        self._fits(x)
        held = self._arguments
        if self._packs and not held:
            self._missing()
        with self._turn:
            return self._step(x, held, self._held(x.shape[:-1]))

    def _step(self, x: Array, held: tuple[Any, ...], state: Array) -> Array:
        """y of x and `state`, which is overwritten, with the parameters `held`."""
        return forward(self._library, x, held[1] if held else None, self.threads,
                       state=state if self._states else None)

    def steps(self, xs: Any) -> Array:
        """Steps one after another: y (steps, n_outputs) of xs (steps, n_inputs), the samples of one
        stream; or (steps, batch, n_outputs) of (steps, batch, n_inputs), of several side by side.
        The same as `fn(x)` of each, of one stream in one call of the code. ValueError as there."""
        xs = self._real_rows(xs, "xs")
        if xs.ndim not in (2, 3) or xs.shape[-1] != self._n_inputs:
            raise ValueError(f"xs has shape {xs.shape}, the net wants (steps, {self._n_inputs}) or "
                             f"(steps, batch, {self._n_inputs})")
        held = self._arguments
        packed = self._weights(held)
        ys = np.empty((*xs.shape[:-1], self._n_outputs), self._real)
        with self._turn:
            state = self._held(xs.shape[1:-1])
            if xs.ndim == 2 and self._states:
                self._library.calls["steps"](
                    len(xs), xs.ctypes.data, *packed, ys.ctypes.data, state.ctypes.data,
                    self._library.scratch("steps"))
            else:
                for x, y in zip(xs, ys, strict=True):
                    y[...] = self._step(x, held, state)
        return ys

    def _held(self, streams: tuple[int, ...]) -> Array:
        """The state of so many streams."""
        if self._state is None:
            self._state = np.zeros((*streams, len(self._states)), self._real)
        if self._state.shape[:-1] != streams:
            raise ValueError(f"the state is of {_said(self._state.shape[:-1])}, x of "
                             f"{_said(streams)}: fn.reset() begins anew")
        return self._state

    def vjp(self, x: Any) -> Any:
        """NccError E160: what a step leaves for the next ones has gradients, too."""
        refuse_states(self.graph, "a gradient")

    def each(self, x: Any, params: Any, *, shared: bool = False) -> Array:
        """A step of n streams whose parameters are their own: y (n, n_outputs) of x (n, n_inputs)
        and params (n, n_params), either of them one row for all streams, or both, of one stream.
        The state is that of `fn(x)` of as many streams, `fn.state` (n, S). ValueError where the
        shapes do not fit, or samples are to be `shared`."""
        if shared:
            raise ValueError("shared samples are for nets without a state: each stream has its own")
        x, params = self._rows_of(x, params, False)
        if not self._states:
            return super().each(x, params)
        streams = max(x.shape[:-1], params.shape[:-1])
        n = streams[0] if streams else 1
        x, params = [np.ascontiguousarray(np.broadcast_to(rows, (n, rows.shape[-1])))
                     for rows in (x, params)]
        library = self._each()
        y = np.empty((n, self._n_outputs), self._real)
        with self._turn:
            at = [(rows.ctypes.data, rows.strides[0])
                  for rows in (x, params, y, self._held(streams))]
            library.spread("each", lambda first, last: (
                last - first, *[address + first * stride for address, stride in at]),
                shares(n, self.threads, library, 2))
        return y if streams else y[0]

    def each_vjp(self, x: Any, params: Any) -> Any:
        """NccError E160, as of `fn.vjp`."""
        refuse_states(self.graph, "a gradient")

    def __reduce__(self) -> tuple[Any, ...]:
        with self._turn:
            return (*super().__reduce__(), {"_state": self._state})


def _said(streams: tuple[int, ...]) -> str:
    return f"{streams[0]} streams" if streams else "one stream"
