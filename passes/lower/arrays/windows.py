"""Windows side by side: rows of one list whose sources are evenly apart, which load what they share
once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, Longs
from ncc.ir.plan import Run
from ncc.ir.ssa_build import Builder
from ncc.machine.model import CHAINS
from ncc.passes.lower.arrays.lists import Within
from ncc.passes.lower.arrays.nests import Nest, Row, Walk, nest_of
from ncc.passes.lower.arrays.often import LOOPED, Rows, fixed_weights
from ncc.passes.lower.arrays.turns import Kind
from ncc.scalar.aggregations import (
    EXTREMES,
    FROM_BIAS,
    edges_a_term,
    extreme,
    extreme_of,
    finish,
    start,
    step,
)
from ncc.scalar.expressions import expression

LESS = 8  # rows to a nest of loops, from where on these are worth it


class Round(NamedTuple):
    """The loads of so many rows of a list of `slots`, as (slot, row, edge) in an order in which
    each row takes its edges in theirs; of `distinct` slots, of which `held` are in registers at a
    time."""

    slots: list[int]
    rows: int
    loads: list[tuple[int, int, int]]
    distinct: int
    held: int


def round_of(slots: list[int], apart: int, rows: int) -> Round:
    """What neighbours share comes together where their lists ascend, or descend.

        slots 0 1 2, 1 apart, 2 rows  =>  0: row 0; 1: rows 0 and 1; 2: rows 0 and 1; 3: row 1
    """
    found = []
    for sign in (1, -1):
        heads, loads = [0] * rows, list[tuple[int, int, int]]()
        while len(loads) < rows * len(slots):
            at, i = min([(sign * (slots[j] + i * apart), i) for i, j in enumerate(heads)
                         if j < len(slots)])
            loads.append((sign * at, i, heads[i]))
            heads[i] += 1
        first = {at: k for k, (at, _, _) in reversed([*enumerate(loads)])}
        last = {at: k for k, (at, _, _) in enumerate(loads)}
        live = np.zeros(len(loads) + 1, np.int64)
        np.add.at(live, [*first.values()], 1)
        np.add.at(live, [k + 1 for k in last.values()], -1)
        found.append(Round(slots, rows, loads, len(first), int(np.cumsum(live).max())))
    return min(found, key=lambda made: made.held)


class Windows(NamedTuple):
    """The rows of a kind that have one list: nests of them, segment by segment, what a round takes,
    how many rounds there are in the innermost loop of each nest (Q), and the weights that all rows
    have as one constant."""

    nest: Nest
    round: Round
    rounds: Longs
    fixed: list[float | None]


def _windows(loops: Rows, run: Run, mine: Longs, count: int) -> Windows | None:
    """The windows of these segments, which are `mine`, of what `cut` gives: rows of one list. None
    where these are few or odd, so that rounds of `count` rows, each with loads of its own, load no
    more."""
    segments, agg = loops.segments, AGGREGATIONS[run.aggregation]
    fan_in, begin = segments[mine[0], [3, 5]].tolist()
    numbers = loops.numbers
    if edges_a_term(agg) > 1 or "bases" not in numbers:
        return None
    sizes = np.zeros(len(segments), np.int64)
    sizes[mine] = segments[mine, 1] - segments[mine, 0]
    blocks = csr.ranges(segments[mine, 0], sizes[mine])
    nest = nest_of({name: numbers[name][blocks] for name in (
        "bases", "weights", "places", "biases")}, csr.starts(sizes))
    if not len(nest.counts) or LESS * len(nest.first) > len(blocks):
        return None
    times, length = nest.counts[1:].prod(axis=0), nest.counts[0]
    aparts, shares = nest.steps[0][:, :2].T
    apart = int(np.argmax(np.bincount(np.maximum(aparts, 0), times * length)))
    fixed = fixed_weights(loops.plan, blocks, fan_in)
    weights = sum(weight is None for weight in fixed)
    slots = loops.lists.sources[begin : begin + fan_in].tolist()

    def loaded(rows: int, distinct: int, alike: Longs) -> int:
        return int((times * alike * (distinct + weights * np.where(shares == 0, 1, rows))).sum())

    # As many sums, and values that wait for theirs, as registers hold beside some weights.
    chains = 1 + (agg in EXTREMES)
    # Without loops each row loads its numbers, too.
    best, least = None, loaded(count, count * fan_in, length) // count + len(blocks) * (
        2 + run.biased)
    for rows in range(2, CHAINS + 1):
        made = round_of(slots, apart, rows)
        if rows > 2 and chains * (rows + made.held) >= 2 * loops.lanes_rows:
            continue
        rounds = np.where(aparts == apart, length // rows, 0)
        loads = loaded(rows, made.distinct, rounds) + loaded(1, fan_in, length - rounds * rows)
        if rounds.any() and loads < least:
            best, least = Windows(nest, made, rounds, fixed), loads
    return best


def side_by_side(loops: Rows, b: Builder, kind: Kind, segment: Within, count: int) -> list[int]:
    """The rows of a segment of a kind that share loads, where that is less than of `count` rows
    with loads of their own: the lists, by where they begin, whose rows these are."""
    found, lists = [], loops.segments[kind.segments, 5]
    for listed in np.unique(lists[lists != LOOPED]).tolist():
        windows = _windows(loops, kind.run, kind.segments[lists == listed], count)
        if windows is not None:
            _walk(loops, b, kind.run, loops.numbered(b, segment), windows, kind.segments,
                  f"{kind.name}_{listed}")
            found.append(listed)
    return found


def _walk(loops: Rows, b: Builder, run: Run, s: int, windows: Windows, mine: Longs,
          name: str) -> None:
    """The rows of segment s, if it is one of `mine`, in the order in which they are: some at a time
    in each run of neighbours, and what is left of it row by row."""
    nest, many = windows.nest, windows.round.rows
    count = len(nest.groups) - 1
    walk = Walk(nest, lambda table, values: loops.table(f"{table}_{name}", "i", values))
    chosen, every = np.arange(len(nest.first)), np.arange(count)
    q = b.loop(b.index(0), walk.cell(b, "nests_of", np.diff(nest.groups), s, every))[0]
    q = b.op("iadd", walk.cell(b, "nests", nest.groups[:-1], s, mine), q)
    at: dict[int, int] = {}
    for loop in reversed(range(1, len(nest.counts))):
        if (nest.counts[loop] > 1).any():
            at[loop] = b.loop(b.index(0), walk.cell(b, f"count_{loop}", nest.counts[loop], q,
                                                    chosen))[0]
    whole = walk.cell(b, "rounds", windows.rounds, q, chosen)
    k = b.op("imul", b.loop(b.index(0), whole)[0], b.index(many))
    within = np.flatnonzero(windows.rounds)
    _rows(loops, b, run, Row(walk, q, {**at, 0: k}, within), windows.round, windows.fixed)
    b.close()
    rest = nest.counts[0] - windows.rounds * many
    if rest.any():
        alone = round_of(windows.round.slots, 0, 1)
        done = walk.cell(b, "done", windows.rounds * many, q, chosen)
        k = b.loop(done, walk.cell(b, "count", nest.counts[0], q, chosen))[0]
        _rows(loops, b, run, Row(walk, q, {**at, 0: k}, np.flatnonzero(rest)), alone, windows.fixed)
        b.close()
    for _ in range(1 + len(at)):
        b.close()


def _rows(loops: Rows, b: Builder, run: Run, row: Row, round: Round, fixed: list[float | None]
          ) -> None:
    """The rows from `row` on that one round computes; each sum in the order of its in-list."""
    agg, many = AGGREGATIONS[run.aggregation], round.rows
    program = expression(run.activation, loops.plan.graph.functions)
    biases: list[int | None] = [None] * many
    if run.biased:
        biases = [loops.parameter(b, offset, at) for at, offset in _numbers(b, row, "biases", many)]
    base, begins = row.number(b, "bases"), _numbers(b, row, "weights", many)
    values, weights = dict[int, int](), dict[tuple[tuple[int, int], int], int]()
    sums: list[int | None] = [bias if agg in FROM_BIAS else None for bias in biases]
    held: list[tuple[int, int] | None] = [None] * many
    for slot, i, j in round.loads:
        if slot not in values:
            values[slot] = b.load(loops.held, slot, base)
        weight, (begin, offset) = fixed[j], begins[i]
        if (begins[i], j) not in weights:
            weights[begins[i], j] = (loops.parameter(b, offset + j, begin) if weight is None
                                     else b.const(weight))
        n, w, acc = values[slot], weights[begins[i], j], sums[i]
        if agg in EXTREMES:
            held[i] = extreme(b, agg, held[i], n, w)
        else:
            sums[i] = start(b, agg, n, w) if acc is None else step(b, agg, acc, n, w)
    made = []
    for acc, chains, bias in zip(sums, held, biases, strict=True):
        argument = (extreme_of(b, chains, bias) if chains is not None
                    else finish(b, agg, acc, len(fixed), None if agg in FROM_BIAS else bias))
        made.append(loops.value(b, program, argument))
    for value, (place, offset) in zip(made, _numbers(b, row, "places", many), strict=True):
        loops.put(b, value, offset, place)


def _numbers(b: Builder, row: Row, name: str, many: int) -> list[tuple[int, int]]:
    """The numbers of neighbours, each with what is to be added."""
    nest, first = row.walk.nest, row.number(b, name)
    steps = nest.steps[0][row.chosen, nest.names.index(name)]
    if many == 1 or ((steps == steps[0]).all() and steps[0] >= 0):
        return [(first, i * int(steps[0])) for i in range(many)]
    return [(row.number(b, name, i), 0) for i in range(many)]
