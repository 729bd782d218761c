"""Lists of sources that many rows read, each at its own place: rows without a loop over edges."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, Longs
from ncc.ir.plan import Plan, Run
from ncc.ir.ssa_build import Builder
from ncc.passes.lower.arrays.lists import Block, Lists, Within
from ncc.scalar.aggregations import EXTREMES, edges_a_term, extreme, extreme_of, total
from ncc.scalar.expressions import Expr, expression

LEAST = 64  # rows that read a list from where it has code of its own
LONGEST = 32  # edges of such a list
MOST = 256  # edges of all such lists
WHOLE = 8  # rows of a list in a segment are a multiple of as many, which go together or in parts
LOOPED = -1  # of segments whose rows loop over their edges


def cut(plan: Plan, lists: Lists) -> Longs:
    """The segments, cut where rows by themselves begin or end to read a list that has code of its
    own: the fields of `Segment`, and where the list begins, else LOOPED (n, 6).

    Such are the windows of a convolution or a pool, whose sources differ by what is added to each:
    their code says how far apart these are, and reads no list. Most rows come first, until MOST
    edges have code.
    """
    segments = np.array(plan.segments, np.int64).reshape(-1, 5)
    uncut = np.column_stack([segments, np.full(len(segments), LOOPED)])
    short = (segments[:, 2] == 1) & (segments[:, 3] > 0) & (segments[:, 3] <= LONGEST)
    if lists.bases is None or not short.any():
        return uncut
    segment_of = np.repeat(np.arange(len(segments)), segments[:, 1] - segments[:, 0])
    begins = lists.starts[: len(segment_of)]
    borders = csr.borders(segment_of, begins)
    first = borders[:-1]
    count = np.diff(borders) // WHOLE * WHOLE
    count[(count < 2 * WHOLE) | ~short[segment_of[first]]] = 0  # a segment is work, too
    g, rows = plan.graph, plan.rows[plan.blocks[first]]
    keys = np.column_stack([begins[first], g.aggregations[rows],
                            np.where(plan.phased, 0, g.activations[rows])])
    _, at, key_of = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    key_of = key_of.reshape(-1)
    readers = np.bincount(key_of, weights=count)
    edges = segments[segment_of[first[at]], 3]
    order = np.argsort(-readers, kind="stable")
    chosen = np.zeros(len(readers), np.bool_)
    chosen[order] = (readers[order] >= LEAST) & (np.cumsum(edges[order]) <= MOST)
    taken = np.flatnonzero(chosen[key_of] & (count > 0))
    if not len(taken):
        return uncut
    ends = np.unique(np.concatenate([segments[:, :2].ravel(), first[taken],
                                     first[taken] + count[taken]]))
    found = np.column_stack([ends[:-1], ends[1:], uncut[segment_of[ends[:-1]], 2:]])
    found[np.searchsorted(ends, first[taken]), 5] = begins[first[taken]]
    return found


class Rows(Protocol):
    """What the loops over rows have for this."""

    plan: Plan
    lists: Lists
    segments: Longs
    numbers: dict[str, Longs]
    weights: str
    held: str
    lanes_rows: int

    def table(self, name: str, type: str, values: Any) -> str: ...

    def numbered(self, b: Builder, segment: Within) -> int: ...

    def parameter(self, b: Builder, offset: int, index: int) -> int: ...

    def base(self, b: Builder, block: Block, number: int = 0) -> int | None: ...

    def number(self, b: Builder, name: str, block: Block, number: int = 0) -> int: ...

    def value(self, b: Builder, program: Expr, argument: int) -> int: ...

    def put(self, b: Builder, value: int, offset: int, place: int) -> None: ...


def fixed_weights(plan: Plan, blocks: Longs, count: int) -> list[float | None]:
    """The `count` weights of blocks of one row each, where they are one constant for all."""
    codes = plan.packed[np.unique(plan.weights[blocks])[:, None] + np.arange(count)]
    alike = (codes == codes[:1]).all(axis=0)
    return [float(plan.constants[-1 - code]) if code < 0 and one else None
            for code, one in zip(codes[0].tolist(), alike.tolist(), strict=True)]


def unrolled(loops: Rows, b: Builder, run: Run, q: Block, segments: Longs, count: int, same: bool
             ) -> None:
    """Blocks q .. q+count-1 of one row each, which are in these of what `cut` gives, with one list;
    their weights are the `same`, or each has its own."""
    plan, agg = loops.plan, AGGREGATIONS[run.aggregation]
    fan_in, begin = int(segments[0, 3]), int(segments[0, 5])
    slots = loops.lists.sources[begin : begin + fan_in].tolist()
    size = edges_a_term(agg)
    blocks = csr.ranges(segments[:, 0], segments[:, 1] - segments[:, 0])
    fixed = fixed_weights(plan, blocks, fan_in // size)
    values, weights = [], list[int]()
    for i in range(count):
        if i == 0 or not same:
            first = loops.number(b, loops.weights, q, i)
            weights = [loops.parameter(b, j, first) if x is None else b.const(x)
                       for j, x in enumerate(fixed)]
        bias = loops.parameter(b, 0, loops.number(b, "biases", q, i)) if run.biased else None
        base = loops.base(b, q, i)
        edges = [(b.load(loops.held, slot, base), weights[j // size])
                 for j, slot in enumerate(slots)]
        if agg in EXTREMES:
            held = None
            for n, w in edges:
                held = extreme(b, agg, held, n, w)
            assert held is not None
            argument = extreme_of(b, held, bias)
        else:
            argument = total(b, agg, edges, bias)
        program = expression(run.activation, plan.graph.functions)
        values.append(loops.value(b, program, argument))
    for i, value in enumerate(values):
        loops.put(b, value, 0, loops.number(b, "places", q, i))
