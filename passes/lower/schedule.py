"""The rows of a straight function in the order in which a machine could start them.

A machine that executes out of order sees some hundred instructions ahead. Level by level, in a net
whose levels are a few rows each, it waits for the longest activation of every level; the longest
path through the net takes half of that time. So rows are listed as in list scheduling (Gibbons &
Muchnick 1986, "Efficient instruction scheduling for a pipelined architecture"): of those whose
sums could be there by now, the one with the longest way to an output comes first, and up to three
more of its kind with it, side by side in a vector.
"""

from __future__ import annotations

from functools import cache
from heapq import heappop, heappush
from typing import NamedTuple

from ncc.ir.plan import Plan
from ncc.ir.ssa_build import Builder
from ncc.machine.model import CALL_CYCLES, LATENCY, RATE, WINDOW
from ncc.scalar.expressions import Expr, emit, expression
from ncc.scalar.mathlib import SEQUENCES

FEW = 32  # rows: all are in sight at once
FREE = ("const", "word", "index")
SUM = LATENCY["fma"]  # an edge
CALL = 8  # ops: of more, a sequence is called


class Row(NamedTuple):
    """What a row of a kind takes: cycles from its sum to its value, and ops."""

    latency: int
    ops: int


@cache
def _sequence(name: str, dtype: str, fused: bool) -> Row:
    b = Builder(dtype, fused)
    x = b.const(0.5)
    return _row(b, SEQUENCES[name](b, x))


def _row(b: Builder, value: int) -> Row:
    """What the ops of a builder, all of them, take to make a value."""
    ends: list[int] = []
    ops = 0
    for opcode, reads, _ in b.ops:
        begin = max([ends[r] for r in reads], default=0)
        if opcode in FREE:
            ends.append(0)
        elif opcode in SEQUENCES:
            row = _sequence(opcode, b.dtype, b.fused)
            ends.append(begin + row.latency + CALL_CYCLES * (row.ops > CALL))
            ops += row.ops
        else:
            ends.append(begin + LATENCY.get(opcode, 1))
            ops += 1
    return Row(ends[value], ops)


@cache
def _activation(program: Expr, dtype: str, fused: bool) -> Row:
    b = Builder(dtype, fused)
    return _row(b, emit(program, b, b.const(0.5)))


def _kind(plan: Plan, activation: int, dtype: str, fused: bool) -> Row:
    return _activation(expression(activation, plan.graph.functions), dtype, fused)


def pays(plan: Plan, dtype: str, fused: bool) -> bool:
    """Whether there is something to wait for: a net of relus alone is its sums, which take turns
    best level by level."""
    return len(plan.rows) > FEW and any(
        [_kind(plan, a, dtype, fused).ops > CALL for a in {run.activation for run in plan.runs}])


def in_time(plan: Plan, dtype: str, fused: bool, side: int) -> list[list[int]]:
    """The plan's rows, each after those that it reads: in groups of up to `side` rows of one kind,
    none of which reads another."""
    g = plan.graph
    kinds: list[int] = []  # of each row: the first run of its activation and aggregation
    first: dict[tuple[int, int], int] = {}
    takes: list[Row] = []
    for k, run in enumerate(plan.runs):
        kind = first.setdefault((run.activation, run.aggregation), k)
        kinds += [kind] * (run.last - run.first)
        if kind == k:
            takes.append(_kind(plan, run.activation, dtype, fused))
        else:
            takes.append(takes[kind])
    row_of = [-1] * g.n_neurons
    for r, j in enumerate(plan.rows.tolist()):
        row_of[j] = r
    bounds = plan.starts.tolist()
    source = [row_of[i] for i in g.sources[plan.edges].tolist()]  # the row, -1 for an input

    n_rows = len(kinds)
    heights = [0] * n_rows  # cycles from a row's sum to the last output that depends on it
    readers: list[list[int]] = [[] for _ in range(n_rows)]
    missing = [0] * n_rows
    for r in range(n_rows - 1, -1, -1):
        heights[r] += takes[kinds[r]].latency
        way = heights[r]
        for e in range(bounds[r + 1] - 1, bounds[r] - 1, -1):
            way += SUM
            s = source[e]
            if s >= 0:
                readers[s].append(r)
                missing[r] += 1
                heights[s] = max(heights[s], way)

    done = [0.0] * n_rows  # when its value is there
    ready = [0.0] * n_rows  # when its sum is
    coming = [(0.0, r) for r in range(n_rows) if not missing[r]]
    # Those whose sums could be there by now, of each kind and of all; here taken ones, too.
    able: dict[int, list[tuple[int, int]]] = {k: [] for k in first.values()}
    waiting: list[tuple[int, int]] = []
    taken = [False] * n_rows
    groups: list[list[int]] = []
    now = 0.0  # when the next op could start, where none waits
    while coming or waiting:
        while coming and coming[0][0] <= now + WINDOW:
            r = heappop(coming)[1]
            heappush(able[kinds[r]], (-heights[r], r))
            heappush(waiting, (-heights[r], r))
        while waiting and taken[waiting[0][1]]:
            heappop(waiting)
        if not waiting:
            if coming:
                now = coming[0][0] - WINDOW
            continue
        kind = kinds[waiting[0][1]]
        rows = able[kind]
        group = [heappop(rows)[1] for _ in range(min(side, len(rows)))]
        begin = max(now, max([ready[r] for r in group])) + takes[kind].latency
        now += takes[kind].ops / RATE
        for r in group:
            taken[r] = True
            now += 2 * (bounds[r + 1] - bounds[r]) / RATE
            done[r] = begin
            for q in readers[r]:
                missing[q] -= 1
                if not missing[q]:
                    when = 0.0
                    for e in range(bounds[q], bounds[q + 1]):
                        s = source[e]
                        when = (max(when, done[s]) if s >= 0 else when) + SUM
                    ready[q] = when
                    heappush(coming, (when, q))
        groups.append(group)
    return groups


def slots_of(plan: Plan, groups: list[list[int]]) -> tuple[list[int], int]:
    """A slot of `work` for each neuron that a row reads, free again after its last reader (of one
    that the next call reads, never), and -1 for the others; how many slots there are."""
    last = [-1] * plan.graph.n_neurons
    bounds, sources = plan.starts.tolist(), plan.graph.sources[plan.edges].tolist()
    for at, group in enumerate(groups):
        for r in group:
            for i in sources[bounds[r] : bounds[r + 1]]:
                last[i] = at
    for j in plan.graph.states.tolist():
        last[j] = len(groups)
    slots = [-1] * plan.graph.n_neurons
    rows = plan.rows.tolist()
    freed: list[list[int]] = [[] for _ in range(len(groups) + 1)]
    free: list[int] = []
    used = 0
    for at, group in enumerate(groups):
        for slot in freed[at]:
            heappush(free, slot)
        for r in group:
            j = rows[r]
            if last[j] >= 0:
                if not free:
                    heappush(free, used)
                    used += 1
                slots[j] = heappop(free)
                freed[last[j]].append(slots[j])
    return slots, used
