"""--check: what the interpreters answer before and after a pass, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.driver import evaluate
from ncc.driver.evaluate import Evaluator
from ncc.driver.levels import row
from ncc.errors import NccError
from ncc.ir.graph import Graph, Reals
from ncc.ir.ssa import DTYPES

Answers = tuple[NDArray[Any], NDArray[Any]]
SAMPLES = 5


def evaluator(level: Any, values: Reals | None, dtype: str, numerics: str) -> Evaluator | None:
    """The interpreter of a level; None where it has none."""
    make = row(level).evaluator
    return None if make is None else make(level, values, dtype, numerics)


@np.errstate(all="ignore")  # infinities and NaN are values
def answers(level: Any, values: Reals | None, dtype: str, numerics: str) -> Answers | None:
    """y of the level's interpreter for fixed samples: (2, n_outputs) one at a time, as `forward`
    does, and (SAMPLES, n_outputs) as a batch. None of a level that has no interpreter."""
    net = evaluator(level, values, dtype, numerics)
    if net is None:
        return None
    x = _samples(net.n_inputs, net.dtype)
    return net.run(x[:2], False), net.run(x, True)


@np.errstate(all="ignore")
def gradients(level: Any, values: Reals | None, dtype: str, numerics: str
              ) -> list[tuple[str, NDArray[Any]]] | None:
    """dx and dparams of the level's reverse interpreter for fixed samples, one at a time and as a
    batch. None of a level that has none, such as a module without backward functions."""
    net = evaluator(level, values, dtype, numerics)
    if net is None or net.gradient is None:
        return None
    x, dy = _samples(net.n_inputs, net.dtype), _seeds(net.n_outputs, net.dtype)
    names = ("dx of backward", "dparams of backward", "dx of backward_batch",
             "dparams of backward_batch")
    return list(zip(names, [*net.gradient(x, dy, False), *net.gradient(x, dy, True)], strict=True))


def same_answers(name: str, before: Answers, after: Answers, numerics: str) -> None:
    """NccError E320 where the pass of this name changed an answer: under `fast`, which may
    reassociate, only a gross difference is a fault."""
    for function, a, b in zip(("forward", "forward_batch"), before, after, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise NccError("E320", f"{name} makes {function} give {b.dtype} {b.shape}, not "
                           f"{a.dtype} {a.shape}")
        if numerics == "fast":
            close = 1e-3 if a.dtype == np.float32 else 1e-9
            wrong = ~np.isclose(a, b, close, close, equal_nan=True)
        else:
            word = np.uint32 if a.dtype == np.float32 else np.uint64
            wrong = (a.view(word) != b.view(word)) & ~(np.isnan(a) & np.isnan(b))
        if wrong.any():
            at = _first(wrong)
            raise NccError("E320", f"{name} changes output {at[1]} of sample {at[0]} in "
                           f"{function}: {a[at]!r} became {b[at]!r}")


@np.errstate(all="ignore")
def same_steps(name: str, old: Graph, new: Graph, values: Reals | None, dtype: str,
               numerics: str) -> None:
    """NccError E320 where the pass of this name, which made some steps of `old` one net, changed an
    answer."""
    net = evaluate.graph(new, values, dtype, numerics)
    x = _samples(net.n_inputs, net.dtype)
    steps = x.reshape(len(x), -1, old.n_inputs).swapaxes(0, 1)
    params = evaluate.drawn(old.values if values is None else values)
    y = old.run_steps(steps, params, dtype, numerics).swapaxes(0, 1).reshape(len(x), -1)
    same_answers(name, (y, y), (net.run(x, True), net.run(x, True)), numerics)


@np.errstate(all="ignore")
def same_gradients(name: str, old: Any, new: Any, values: Reals | None, dtype: str,
                   numerics: str) -> None:
    """NccError E320 where the pass of this name changed a gradient.

    From the plan on, sums have one order, and so gradients one answer. Passes over graphs make
    neurons one or leave some out, whose parts are then added otherwise: there, and under `fast`,
    only a gross difference is a fault.
    """
    before = gradients(old, values, dtype, numerics)
    after = gradients(new, values, dtype, numerics)
    if before is None or after is None:
        return
    exact = numerics != "fast" and not isinstance(new, Graph)
    for (what, a), (_, b) in zip(before, after, strict=True):
        if exact:
            wrong = (a != b) & ~(np.isnan(a) & np.isnan(b))
        else:
            good = np.isfinite(a) & np.isfinite(b)
            close = (1e-3 if a.dtype == np.float32 else 1e-9) * max(
                1.0, float(np.abs(a[good]).max(initial=0.0)))
            wrong = good & (np.abs(a - b) > close)
        if wrong.any():
            at = _first(wrong)
            raise NccError("E320", f"{name} changes {what}{list(at)}: {a[at]!r} became {b[at]!r}")


def _first(wrong: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(int(k) for k in np.argwhere(wrong)[0])


def _seeds(n_outputs: int, dtype: str) -> NDArray[Any]:
    return np.random.default_rng(2).standard_normal((SAMPLES, n_outputs)).astype(DTYPES[dtype])


def _samples(n_inputs: int, dtype: str) -> NDArray[Any]:
    x = np.random.default_rng(0).standard_normal((SAMPLES, n_inputs))
    x[-1] = 0.0
    x[-2] *= 100.0
    return x.astype(DTYPES[dtype])
