"""The plan level: the graph in evaluation order, the form of each function, where values live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph, Longs, code, wrapped
from ncc.ir.graph_run import Reverse, arguments, documented, forward
from ncc.ir.labels import digits
from ncc.ir.plan_types import (
    FORMS,
    FORWARD,
    FUNCTIONS,
    JACOBIAN,
    PlanArrays,
    Run,
    Schedule,
    Segment,
    Wanted,
    keeper,
    many_kinds,
)
from ncc.ir.plan_verify import faults
from ncc.scalar.aggregations import total
from ncc.scalar.expressions import emit, expression
from ncc.scalar.numpy_eval import Numpy

__all__ = ["FORMS", "FORWARD", "FUNCTIONS", "JACOBIAN", "Plan", "Run", "Schedule", "Segment",
           "Wanted", "keeper", "many_kinds"]


@dataclass(frozen=True, eq=False)
class Plan(PlanArrays):
    """The parts of a plan with their verifier, text and interpreter."""

    def with_(self, **changes: Any) -> Plan:
        return replace(self, **changes)

    def wanting(self, *functions: Wanted) -> Plan:
        """The plan with these among its functions, each name once."""
        named = {wanted.name: wanted for wanted in (*self.functions, *functions)}
        return self.with_(functions=tuple(named.values()))

    def wants(self, name: str) -> bool:
        return any(wanted.name == name for wanted in self.functions)
    def __str__(self) -> str:
        """The `.plan` text; `ncc.ir.plan_text.read` makes the identical plan of it."""
        return "\n".join(_lines(self)) + "\n"

    def verify(self) -> None:
        """Raise an NccError (E304, status 3) unless

        - each array has its dtype, and the graph's neurons have depths;
        - rows are the graph's living neurons, inputs apart, each once, in the order that
          `evaluation_order` says; the edges of a row are its in-list;
        - the runs cover the rows in order, each is a longest one of one activation and one
          aggregation, and says whether its aggregation has a bias anywhere;
        - the segments cover the blocks and the blocks the rows in order; each is a longest one of
          one run, depth, fan-in and shape, its blocks have no more rows than it says, and those of
          each `side` blocks read the same sources in the same order;
        - `packed`, `weights` and `biases` are what the fields of Plan say;
        - forms are known, go together, and only loops of the form shared have blocks of several
          rows; `single` and `batch` are placed both or neither, backward functions are not;
        - where slots are given, whatever is read has one, inputs have one after another in loops
          and none in unrolled code, and no value is overwritten before its last reader; `work` ends
          with the last of them;
        - the functions have names that are known, each once, and those that need gradients have a
          schedule: backward functions that read what was kept are loops, and stand behind the
          function that keeps it; without pack all parameters are constants; of a net with states
          they go forward only, and no other has reset and steps.
        """
        for message, part, k in faults(self):
            where = f"row {k} ({self.rows[k]:02x}): " if part == "row" else ""
            raise NccError("E304", f"plan: {where}{message}")

    def run(self, x: NDArray[Any], params: NDArray[Any] | None = None, dtype: str = "f32",
            numerics: str = "fused", state: NDArray[Any] | None = None) -> NDArray[Any]:
        """y of x, (n_inputs,) or (batch, n_inputs), through the slots of `single` or of `batch`.
        `state`, (S,) or (batch, S), is read and overwritten, as by `Graph.run`."""
        g = self.graph
        e = Numpy(dtype, numerics != "strict")
        real = e.const(0.0).dtype
        samples = np.atleast_2d(np.asarray(x, real))
        held = np.zeros((len(samples), len(g.states)), real)
        if state is not None:
            held[...] = state
        samples = np.concatenate([samples, held], axis=1)
        values = g.values if params is None else np.asarray(params, np.float64)
        table = np.concatenate([values, self.constants[::-1]]).astype(real)  # codes index it
        schedule = self.batch if samples.shape[0] > 1 else self.single
        slots = np.arange(g.n_neurons) if schedule.slots is None else schedule.slots
        size = g.n_neurons if schedule.slots is None else schedule.work
        work = np.full((size + 1, samples.shape[0]), np.nan, real)
        inputs = {int(i): samples[:, k] for k, i in enumerate(g.inputs)}
        for i, column in inputs.items():
            if slots[i] >= 0:
                work[slots[i]] = column
        y: dict[int, Any] = {}
        wanted = set(g.results.tolist())
        for run in self.runs:
            program = expression(run.activation, g.functions)
            agg = AGGREGATIONS[run.aggregation]
            for r in range(run.first, run.last):
                j = int(self.rows[r])
                at = self.edges[self.starts[r] : self.starts[r + 1]]
                code = int(g.biases[j])
                bias = None if code == NONE else table[code]
                sources = g.sources[at].tolist()
                ns = [work[slots[i]].copy() if slots[i] >= 0 else inputs[i] for i in sources]
                edges = zip(ns, table[g.weights[at]], strict=True)
                value = np.broadcast_to(emit(program, e, total(e, agg, edges, bias)),
                                        samples.shape[:1])
                if slots[j] >= 0:
                    work[slots[j]] = value
                if j in wanted:
                    y[j] = value
        columns = [inputs[o] if g.activations[o] == INPUT else y[o] for o in g.results.tolist()]
        out = np.stack(columns, axis=1).astype(real)
        if state is not None:
            state[...] = out[:, len(g.outputs) :].reshape(state.shape)
        out = out[:, : len(g.outputs)]
        return out if np.ndim(x) == 2 else out[0]

    def gradient(self, x: NDArray[Any], dy: NDArray[Any], params: NDArray[Any] | None = None,
                 dtype: str = "f32", numerics: str = "fused"
                 ) -> tuple[NDArray[Any], NDArray[Any]]:
        """As `Graph.gradient`, but over the rows of the plan in their order: with its edges, and
        the activations and aggregations of its runs."""
        g = self._said()
        e, samples, table = arguments(g, x, params, dtype, numerics)
        seeds = np.asarray(dy, e.real).reshape(len(samples), len(g.outputs))
        with np.errstate(all="ignore"):
            values, totals = forward(g, samples, table, e)
            dx, dparams = _Reverse(g, table, e, values, totals, rows=self.rows).run(seeds)
        return dx if np.ndim(x) == 2 else dx[0], dparams

    def _said(self) -> Graph:
        """The graph again, of what the rows and runs of the plan say."""
        g = self.graph
        lengths = np.zeros(g.n_neurons, np.int64)
        lengths[self.rows] = np.diff(self.starts)
        activations, aggregations = g.activations.copy(), g.aggregations.copy()
        for run in self.runs:
            activations[self.rows[run.first : run.last]] = run.activation
            aggregations[self.rows[run.first : run.last]] = run.aggregation
        by = np.argsort(self.rows)  # in-lists stand by neurons
        edges = self.edges[csr.ranges(self.starts[:-1][by], lengths[self.rows[by]])]
        return g.with_(starts=csr.starts(lengths), sources=g.sources[edges],
                       weights=g.weights[edges], activations=activations,
                       aggregations=aggregations)


class _Reverse(Reverse):
    """The backward pass in the order of a plan's rows."""

    def __init__(self, *arguments: Any, rows: NDArray[Any]) -> None:
        super().__init__(*arguments)
        self.rows = rows

    def groups(self) -> Iterator[tuple[Longs, Longs]]:
        g = self.graph
        known, prefixes, _ = documented(g, self.levels, self.e.dtype)
        ordered = np.full(g.n_neurons, -1, np.int64)
        ordered[known] = prefixes
        rows = self.rows[ordered[self.rows] >= 0].astype(np.int64)
        keys = np.diff(g.starts)[rows], g.aggregations[rows], g.activations[rows], self.levels[rows]
        for begin, end in pairwise(csr.borders(*keys).tolist()):
            yield rows[begin:end], ordered[rows[begin:end]]


def _lines(plan: Plan) -> Iterator[str]:
    g = plan.graph
    width = digits(g.n_neurons)
    names = [f"{j:0{width}x}" for j in range(g.n_neurons)]
    yield (f"plan {g.n_neurons:x} neurons, {len(plan.rows)} rows, {len(plan.edges)} edges, "
           f"{len(plan.packed)} packed")
    yield "functions " + (", ".join(map(str, plan.functions)) or "-")
    for name, s in (("single", plan.single), ("batch", plan.batch), ("each", plan.each),
                    ("backward", plan.backward), ("backward_batch", plan.backward_batch),
                    ("jacobian", plan.jacobian)):
        if s is not None:
            memory = "unplaced" if s.slots is None else f"{s.work} slots of work"
            yield f"{name}: {s.form}, {memory} ({s.why})"
    slots = [(name, s.slots.tolist()) for name, s in (
        ("single", plan.single), ("batch", plan.batch), ("each", plan.each))
        if s is not None and s.slots is not None]

    def placed(neuron: int) -> str:
        held = [f"{name}[{slot[neuron]}]" for name, slot in slots if slot[neuron] >= 0]
        return "  " + " ".join(held) if held else ""

    inputs = [f"  {names[i]}{placed(i)}" for i in g.inputs.tolist() if placed(i)]
    if inputs:
        yield from ("inputs {", *inputs, "}")
    sources, starts = g.sources[plan.edges].tolist(), plan.starts.tolist()
    rows, blocks = plan.rows.tolist(), plan.blocks.tolist()
    runs = iter(plan.runs)
    run = None
    for segment in plan.segments:
        if run is None or blocks[segment.first] == run.last:
            if run is not None:
                yield "}"
            run = next(runs)
            yield (f"run activation {run.activation:02x} {AGGREGATIONS[run.aggregation]}"
                   f"{' bias' if run.biased else ''} {{")
        if segment.rows > 1:
            yield (f"  segment of {segment.fan_in} edges a row, tiles of {segment.rows} rows"
                   + f", {segment.side} to an in-list" * (segment.side > 1))
        for block in range(segment.first, segment.last):
            if segment.rows > 1:
                yield f"  tile of {blocks[block + 1] - blocks[block]} rows"
            for r in range(blocks[block], blocks[block + 1]):
                read = " ".join([names[i] for i in sources[starts[r] : starts[r + 1]]])
                yield f"  {names[rows[r]]} <- {read or '-'}{placed(rows[r])}"
    if run is not None:
        yield "}"
    yield from wrapped("packed", [code(c) for c in plan.packed.tolist()])
    for name, begins in (("weights", plan.weights), ("biases", plan.biases)):
        yield from wrapped(name, ["-" if b < 0 else str(b) for b in begins.tolist()])
    yield str(g).rstrip("\n")
