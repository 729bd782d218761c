"""The interpreters of the levels, all called alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.driver.net_module import interpret, interpret_backward, n_params, n_states, runnable
from ncc.ir.graph import Graph, Reals
from ncc.ir.plan import Plan
from ncc.ir.ssa import DTYPES, Module

Array = NDArray[Any]
SEED = 1  # of the parameters that have no value


class Evaluator(NamedTuple):
    """A level as functions of samples, its parameters filled in.

    dtype      what it computes in
    run        (x (n, n_inputs), batch) -> y (n, n_outputs); one at a time unless a `batch`. Of a
               net with states, the steps of a stream; a batch are n streams, of which y are two
               steps, (2n, n_outputs)
    gradient   (x, dy (n, n_outputs), batch) -> dx (n, n_inputs), and dparams, (n_params,), summed,
               of a `batch`, else (n, n_params); None where the level has no gradients
    """

    n_inputs: int
    n_outputs: int
    dtype: str
    run: Callable[[Array, bool], Array]
    gradient: Callable[[Array, Array, bool], tuple[Array, Array]] | None


def graph(level: Graph, values: Reals | None, dtype: str, numerics: str) -> Evaluator:
    """A graph, which answers alike for one sample and a batch; `values` are its parameters, its own
    where None. Those without a value are drawn: the same for every level of one net."""
    params = drawn(level.values if values is None else values)

    run = _stepping(len(level.states), dtype, lambda x, state, batch: level.run(
        x, params, dtype, numerics, state))
    whole = level.levels is not None and not len(level.states)
    return Evaluator(level.n_inputs, len(level.outputs), dtype, run,
                     _gradient(level, params, dtype, numerics) if whole else None)


def _gradient(level: Graph | Plan, params: Reals, dtype: str, numerics: str
              ) -> Callable[[Array, Array, bool], tuple[Array, Array]]:
    def gradient(x: Array, dy: Array, batch: bool) -> tuple[Array, Array]:
        if batch:
            return level.gradient(x, dy, params, dtype, numerics)
        parts = [level.gradient(row, d, params, dtype, numerics)
                 for row, d in zip(x, dy, strict=True)]
        return np.stack([dx for dx, _ in parts]), np.stack([dw for _, dw in parts])

    return gradient


def _stepping(states: int, dtype: str, run: Callable[[Array, Array, bool], Array]
              ) -> Callable[[Array, bool], Array]:
    """`Evaluator.run` by run(x (n, n_inputs), state (n, S), batch), which writes to `state`."""

    def steps(x: Array, batch: bool) -> Array:
        if not states:
            return run(x, np.zeros((len(x), 0), DTYPES[dtype]), batch)
        rows = [x, x[::-1]] if batch else [row[None] for row in x]
        state = np.zeros((len(rows[0]) if rows else 0, states), DTYPES[dtype])
        return np.concatenate([run(x[:0], state[:0], batch),
                               *[run(row, state, batch) for row in rows]])

    return steps


def plan(level: Plan, values: Reals | None, dtype: str, numerics: str) -> Evaluator:
    """A plan, in its order of evaluation, back and forth."""
    params = drawn(level.graph.values if values is None else values)

    def run(x: Array, state: Array, batch: bool) -> Array:
        if batch or not len(x):
            return level.run(x, params, dtype, numerics, state)
        return np.stack([level.run(row, params, dtype, numerics, held)
                         for row, held in zip(x, state, strict=True)])

    of_graph = graph(level.graph, values, dtype, numerics)
    back = None if of_graph.gradient is None else _gradient(level, params, dtype, numerics)
    return of_graph._replace(run=_stepping(len(level.graph.states), dtype, run), gradient=back)


def module(level: Module, values: Reals | None, dtype: str, numerics: str) -> Evaluator | None:
    """An ssa module, which says its own dtype and numerics; None where it is not that of a net."""
    if not runnable(level):
        return None
    count = n_params(level)
    params = drawn(np.full(count, np.nan) if values is None or len(values) != count else values)
    sizes = {b.name: b.size for b in level.func("forward").buffers}

    def gradient(x: Array, dy: Array, batch: bool) -> tuple[Array, Array]:
        return interpret_backward(level, x, dy, params, batch=batch)

    has = {"backward", "backward_batch"} <= {f.name for f in level.funcs}
    run = _stepping(n_states(level), level.dtype, lambda x, state, batch: interpret(
        level, x, params, batch=batch, state=state))
    return Evaluator(sizes["x"], sizes["y"], level.dtype, run, gradient if has else None)


def drawn(values: Reals) -> Reals:
    """Parameters, those without a value drawn."""
    drawn = np.random.default_rng(SEED).standard_normal(len(values))
    return np.where(np.isnan(values), drawn, values)
