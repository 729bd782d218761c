"""The form in which each function computes the net, and the order of the rows."""

from __future__ import annotations

import numpy as np

from ncc.graph import NONE, Graph
from ncc.plan import FORMS, Plan, Run, Schedule
from ncc.source import NccError

STRAIGHT_EDGES = 4_096  # above it a table runs as fast and compiles ten times faster
STRAIGHT_BATCH_EDGES = 256  # above it a table costs no more than code, which grows by the lanes
# The sweep back is twice as long, and keeps more at hand.
STRAIGHT_BACKWARD_EDGES = 256
STRAIGHT_BACKWARD_BATCH_EDGES = 64


def group(graph: Graph, *, form: str = "auto", batch_form: str = "auto", gradient: bool = False,
          backward_form: str = "auto") -> Plan:
    """Cut an ordered graph into runs of rows and choose a form for each function.

        04 03 00,01                     run activation 03 sum {
        05 03 00,01,02         =>         04 <- 00 01
        08 02 04,05                       05 <- 00 01 02 }  run activation 02 sum { 08 <- 04 05 }

    Rows are sorted by level, activation, aggregation, fan-in and index; a run is a longest stretch
    with one activation and one aggregation, so a net of one kind of neuron is one run. Forms of
    backward functions are chosen where a `gradient` is asked for.
    """
    for name in (form, batch_form, backward_form):
        if name not in ("auto", *FORMS):
            raise NccError("E602", f"no form {name}", help=f"one of {', '.join(FORMS)}", status=2)
    assert graph.levels is not None
    alive = np.flatnonzero(graph.activations >= 0)
    fan_in = np.diff(graph.starts)
    keys = (alive, fan_in[alive], graph.aggregations[alive], graph.activations[alive],
            graph.levels[alive])
    rows = alive[np.lexsort(keys)].astype(np.int32)
    lengths = fan_in[rows]
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    shift = np.repeat(graph.starts[:-1][rows] - starts[:-1], lengths)
    edges = np.arange(starts[-1], dtype=np.int64) + shift
    single = _choose(form, len(edges), STRAIGHT_EDGES)
    batch = _choose(batch_form, len(edges), STRAIGHT_BATCH_EDGES)
    backward = backward_batch = None
    if gradient:
        backward = _choose(backward_form, len(edges), STRAIGHT_BACKWARD_EDGES)
        backward_batch = _choose(backward_form, len(edges), STRAIGHT_BACKWARD_BATCH_EDGES)
    forms = [s.form for s in (single, batch, backward, backward_batch) if s is not None]

    act, agg = graph.activations[rows], graph.aggregations[rows]
    cuts = np.flatnonzero((act[1:] != act[:-1]) | (agg[1:] != agg[:-1])) + 1
    bounds = [0, *cuts.tolist(), len(rows)] if len(rows) else []
    runs = []
    at = len(edges)
    codes = [graph.weights[edges]]
    minus_zero = -1 - len(graph.constants)
    for first, last in zip(bounds, bounds[1:], strict=False):
        biases = graph.biases[rows[first:last]]
        biased = bool((biases != NONE).any())
        runs.append(Run(first, last, int(act[first]), int(agg[first]), biased, at))
        if biased:
            codes.append(np.where(biases == NONE, minus_zero, biases).astype(np.int32))
            at += last - first
    if "table" in forms:
        packed = np.concatenate(codes)
    else:
        used = np.unique(np.concatenate([codes[0], graph.biases[rows]]))
        packed = used[used >= 0].astype(np.int32)
    constants = np.append(graph.constants, -0.0)
    return Plan(graph, rows, starts, edges, tuple(runs), packed, constants, single, batch,
                backward, backward_batch)


def _choose(form: str, edges: int, limit: int) -> Schedule:
    if form != "auto":
        return Schedule(form, "asked for")
    if edges <= limit:
        return Schedule("straight", f"{edges} edges, at most {limit}")
    return Schedule("table", f"{edges} edges, more than {limit}")
