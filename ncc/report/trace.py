"""The text trace: what every neuron is for given samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.formats.write import names_of
from ncc.ir import graph_run
from ncc.ir.graph import ABSENT, INPUT, Graph
from ncc.ir.labels import Names
from ncc.report.comparison import formula, titles


@np.errstate(all="ignore")  # infinities and NaN are values
def traced(graph: Graph, x: NDArray[Any], dtype: str, numerics: str
           ) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values and arguments of activations (n, N) for samples x (n, inputs), which are steps of one
    stream where the net has state."""
    if not len(graph.states):
        e, samples, table = graph_run.arguments(graph, x, None, dtype, numerics)
        work, totals = graph_run.forward(graph, samples, table, e)
        return work.T, totals.T
    state = np.zeros(len(graph.states), np.float64 if dtype == "f64" else np.float32)
    rows = []
    for row in x:
        e, samples, table = graph_run.arguments(graph, row, None, dtype, numerics, state)
        work, totals = graph_run.forward(graph, samples, table, e)
        state = work[graph.states, 0].copy()
        rows.append((work[:, 0], totals[:, 0]))
    values = np.array([value for value, _ in rows]).reshape(len(rows), graph.n_neurons)
    return values, np.array([total for _, total in rows]).reshape(values.shape)


def trace(graph: Graph, x: NDArray[Any], dtype: str, numerics: str) -> Iterator[str]:
    """A block of lines a sample: each neuron in order of depth, its value, the argument of its
    activation, its formula."""
    assert graph.levels is not None
    by_depth = np.argsort(graph.levels, kind="stable").tolist()
    title = titles(graph)
    names = {j: title(j) for j in by_depth}
    indices = names_of(graph)
    formulas = {j: formula(graph, j, indices) for j in by_depth if graph.activations[j] != ABSENT}
    outputs = set(graph.outputs.tolist())
    values, totals = traced(graph, x, dtype, numerics)
    for sample, (value, total) in enumerate(zip(values, totals, strict=True)):
        yield f"sample {sample}\n"
        for j in by_depth:
            if graph.activations[j] == ABSENT:
                continue
            role = " output" if j in outputs else ""
            if graph.activations[j] == INPUT:
                was = " state" if j >= graph.n_own else " input"
                yield f"  {names[j]} = {value[j]!s}{was}{role}\n"
            else:
                yield f"  {names[j]} = {value[j]!s}{role}, of {total[j]!s}: {formulas[j]}\n"


def table(graph: Graph, x: NDArray[Any], dtype: str, numerics: str) -> str:
    """The values as CSV: a row of names, then a row a sample, a column a neuron."""
    called = Names(graph.labels)
    head = [called.of(j) or name for j, name in enumerate(names_of(graph))]
    quoted = ['"' + word.replace('"', '""') + '"' if set(word) & set(',"\n') else word
              for word in head]
    values, _ = traced(graph, x, dtype, numerics)
    return "\n".join([",".join(quoted), *(",".join(map(repr, row)) for row in values.tolist())
                      ]) + "\n"
