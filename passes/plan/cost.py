"""The cost model: cycles a sample that each form of a plan's functions takes.

Its constants are those of ncc/machine/model.py. They only rank the forms; a factor of two rarely
changes the choice.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir.plan import Plan
from ncc.ir.ssa_build import TILE, Builder
from ncc.machine import model
from ncc.scalar.expressions import Expr, expression
from ncc.scalar.mathlib import SEQUENCES
from ncc.scalar.opcodes import OPCODES

SUM = float(model.LATENCY["fma"])  # cycles from one term of a sum to the next


class Prediction(NamedTuple):
    """Cycles for one sample by `forward`, and for each of many by `forward_batch`."""

    single: float
    batch: float


def predict(plan: Plan, form: str, *, native: int) -> Prediction:
    """What `form` costs: `straight` of any plan, `table` of one without blocks of several rows,
    `shared` of one with them. `native` is the lanes of a vector."""
    g = plan.graph
    n_edges = len(plan.edges)
    ops = _row_ops(plan)
    first = plan.blocks[:-1]
    lengths = np.diff(plan.starts)
    segments = np.array(plan.segments, np.float64).reshape(-1, 5)
    blocks, rows = segments[:, 1] - segments[:, 0], segments[:, 2]
    fan_in, side = segments[:, 3], segments[:, 4]
    columns = [len(g.inputs), len(g.results)]
    ends = sum(c * (model.TILE_COLUMN if c >= TILE else model.COLUMN) for c in columns)
    around = ends + model.OP * float(ops.sum())
    # Every form waits for the longest row of each level, one behind the other.
    assert g.levels is not None
    longest = np.zeros(int(g.levels.max(initial=0)) + 1)
    np.maximum.at(longest, g.levels[plan.rows], lengths + ops)
    least = SUM * float(longest.sum()) / model.WAITS
    if form == "straight":
        edge = model.STRAIGHT_EDGE if n_edges <= model.LONG_EDGES else model.LONG_EDGE
        single = max(least, n_edges * edge + model.OP * float(ops.sum()))
        return Prediction(single, (model.STRAIGHT_VECTOR * n_edges + around) / native)
    alone = rows == 1
    whole = blocks // model.TOGETHER
    tails = blocks - whole * model.TOGETHER
    table = model.TABLE_EDGE * model.TOGETHER * whole * fan_in + tails * np.maximum(
        model.ALONE_EDGE, model.TABLE_EDGE) * fan_in + model.ROW * blocks
    units = blocks / side
    chains = np.minimum(np.maximum(units, 1), np.maximum(1, model.CHAINS // side))
    step = np.maximum(SUM / chains, model.SHARED_EDGE * side)
    if native == 1:  # the rows of a block one after another
        step = model.SHARED_EDGE * rows
    shared = units * (fan_in * step + model.UNIT)
    vectors = np.where(alone, 1.0, np.maximum(1.0, rows / native) / rows) if native > 1 else 1.0
    per_row = np.repeat(vectors * np.ones(len(rows)), _rows_of(plan))
    looped = np.where(alone, table, shared) + model.SEGMENT
    single = float(looped.sum() + model.OP * (ops * per_row).sum())
    single = max(least, single) + sum(columns)
    room = np.diff(plan.blocks)  # the rows that are computed: whole parts of a block
    part = np.minimum(plan.sizes, 8)
    computed = np.where(plan.sizes > 1, -(-room // part) * part, room)
    vector = np.where(plan.sizes > 1, model.SHARED_VECTOR, model.TABLE_VECTOR)
    batch = float((computed * (lengths[first] * vector + model.ROW_VECTOR)).sum())
    return Prediction(single, (batch + around) / native)


def in_order(plan: Plan, form: str) -> float:
    """Cycles for one sample on an in-order core with an FPU."""
    lengths, alone = np.diff(plan.starts), np.ones(len(plan.rows), bool)
    if form == "shared":
        alone = np.repeat(plan.sizes == 1, np.diff(plan.blocks))
    edges = float(lengths[alone].sum()), float(lengths[~alone].sum())
    rows = float(alone.sum()), float((~alone).sum())
    first = model.IN_ORDER["table" if form == "shared" else form]
    sums = [e * edge + r * row for e, r, (edge, row) in zip(
        edges, rows, (first, model.IN_ORDER["shared"]), strict=True)]
    return sum(sums) + model.IN_ORDER_OP * float(_row_ops(plan, False).sum()) + model.IN_ORDER_CALL


def size(plan: Plan, form: str) -> float:
    """About how many bytes `form` takes, of code for `forward` and of its tables."""
    edges, rows = len(plan.edges), len(plan.rows)
    if form == "straight":
        return model.STRAIGHT_BYTES * (edges + rows)
    kinds = len({(run.activation, run.aggregation) for run in plan.runs})
    bytes = model.LOOPED_BYTES * (edges + rows) + model.LOOPS_BYTES + model.KIND_BYTES * kinds
    if form == "shared":  # a list of sources a tile, and code for each kind of tile
        listed = float(np.diff(plan.starts)[plan.blocks[:-1]].sum())
        bytes += model.TILE_BYTES * tiles(plan) - model.SOURCE_BYTES * (edges - listed)
    return bytes


def tiles(plan: Plan) -> int:
    """How many kinds of tiles have code of their own."""
    first = plan.blocks[[segment.first for segment in plan.segments]]
    run_of = np.searchsorted([run.first for run in plan.runs], first, side="right") - 1
    # Where there are many, code for sums is one for all activations.
    what = slice(3, 4) if plan.phased else slice(2, 4)
    return len({(*plan.runs[k][what], segment.rows, segment.side)
                for k, segment in zip(run_of.tolist(), plan.segments, strict=True)})


def _rows_of(plan: Plan) -> list[int]:
    return [int(plan.blocks[s.last] - plan.blocks[s.first]) for s in plan.segments]


def _row_ops(plan: Plan, rare: bool = True) -> NDArray[np.float64]:
    """Of each row how many ops its activation is, those that are `rare`ly executed counted or
    not."""
    codes, which = np.unique(plan.graph.activations[plan.rows], return_inverse=True)
    counts = [ops_of(expression(code, plan.graph.functions), rare) for code in codes.tolist()]
    return np.array(counts, np.float64)[which]


def ops_of(program: Expr, rare: bool = True) -> int:
    """How many ops an activation is, once its functions are arithmetic."""
    return sum([_sequence_ops(node.op, rare) if OPCODES[node.op].math else 1
                for node in program.brief if node.op in OPCODES])


@cache
def _sequence_ops(opcode: str, rare: bool) -> int:
    b = Builder("f32", True)
    SEQUENCES[opcode](b, b.const(0.5))
    made = [op[0] for op in b.ops[1:]]
    if not rare and "for" in made:  # to its end it is a loop that mostly does not run
        made[made.index("for") : made.index("yield")] = []
    return len(made)
