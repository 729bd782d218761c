"""The interpreters of the levels, all called alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.driver.net_module import interpret, interpret_backward, n_params, runnable
from ncc.ir.graph import Graph, Reals
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module

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
    params = _drawn(level.values if values is None else values)

    def gradient(x: Array, dy: Array, batch: bool) -> tuple[Array, Array]:
        if batch:
            return level.gradient(x, dy, params, dtype, numerics)
        parts = [level.gradient(row, d, params, dtype, numerics)
                 for row, d in zip(x, dy, strict=True)]
        return np.stack([dx for dx, _ in parts]), np.stack([dw for _, dw in parts])

    def run(x: Array, batch: bool) -> Array:
        if not len(level.states):
            return level.run(x, params, dtype, numerics)
        if batch:
            return np.concatenate(list(level.run_steps([x, x[::-1]], params, dtype, numerics)))
        return level.run_steps(x, params, dtype, numerics)

    whole = level.levels is not None and not len(level.states)
    return Evaluator(level.n_inputs, len(level.outputs), dtype, run, gradient if whole else None)


def plan(level: Plan, values: Reals | None, dtype: str, numerics: str) -> Evaluator:
    """A plan, in its order of evaluation; it has no gradient but that of its graph."""
    params = _drawn(level.graph.values if values is None else values)

    def run(x: Array, batch: bool) -> Array:
        if batch:
            return level.run(x, params, dtype, numerics)
        return np.stack([level.run(row, params, dtype, numerics) for row in x])

    return graph(level.graph, values, dtype, numerics)._replace(run=run)


def module(level: Module, values: Reals | None, dtype: str, numerics: str) -> Evaluator | None:
    """An ssa module, which says its own dtype and numerics; None where it is not that of a net."""
    if not runnable(level):
        return None
    count = n_params(level)
    params = _drawn(np.full(count, np.nan) if values is None or len(values) != count else values)
    sizes = {b.name: b.size for b in level.func("forward").buffers}

    def gradient(x: Array, dy: Array, batch: bool) -> tuple[Array, Array]:
        return interpret_backward(level, x, dy, params, batch=batch)

    has = {"backward", "backward_batch"} <= {f.name for f in level.funcs}
    return Evaluator(sizes["x"], sizes["y"], level.dtype,
                     lambda x, batch: interpret(level, x, params, batch=batch),
                     gradient if has else None)


def _drawn(values: Reals) -> Reals:
    drawn = np.random.default_rng(SEED).standard_normal(len(values))
    return np.where(np.isnan(values), drawn, values)
