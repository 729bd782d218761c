"""The cost model: cycles a sample that each form of a plan's functions takes.

Its constants were measured on a core with two FMA pipes and two loads a cycle (AVX-512 and AVX2,
tests/passes/test_cost.py prints predicted beside measured); what they are for is the choice between
forms, where a factor of two decides seldom.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ncc.ir.graph import Graph
from ncc.ir.plan import Plan
from ncc.ir.ssa_build import SQUARE, Builder
from ncc.scalar.expressions import emit, expression
from ncc.scalar.mathlib import SEQUENCES
from ncc.scalar.opcodes import OPCODES

LATENCY = 4.0  # of an FMA
WAITS = 3.0  # operations under way at once where a sum waits for what is before it
# One sample.
STRAIGHT_EDGE = 0.75  # two loads and an FMA, all addresses in the code
LONG_EDGE = 1.0  # the same where the code comes from the level-2 cache
LONG_EDGES = 8_000  # where that begins: 12 bytes of code an edge
TABLE_EDGE = 1.2  # three loads and an FMA
TOGETHER = 8  # rows of a table whose sums run side by side
ALONE_EDGE = 1.5  # of a row by itself: its sum is a chain, which overlaps with the next row's
ROW = 3.0  # what a row of a table costs beside its edges
SEGMENT = 4.0  # the loops around a segment's rows
SHARED_EDGE = 1.5  # a vector of rows: its weights, and its share of the source
UNIT = 12.0  # the loop around blocks that stand side by side
# A batch: for each vector of samples.
STRAIGHT_VECTOR = 0.8  # an edge: the weight is spread, the source often in a register
TABLE_VECTOR = 1.2  # an edge: the source comes from the cache
SHARED_VECTOR = 0.65  # an edge: sources and weights serve a tile of sums
ROW_VECTOR = 4.0
SQUARE_COLUMN = 7.0  # a column of x or y, transposed with others
COLUMN = 30.0  # ... and alone, a number at a time
OP = 0.4  # one op of an activation
# Bytes, as of a Cortex-M4F.
STRAIGHT_BYTES = 20.0  # of an edge, or of a row beside its edges
LOOPED_BYTES = 7.0  # the same in tables
LOOPS_BYTES = 500.0
KIND_BYTES = 100.0
FAR = 0.1  # a byte of weights from beyond the level-2 cache, for one sample
LEVEL2 = 1 << 21


class Prediction(NamedTuple):
    """Cycles for one sample by `forward`, and for each of many by `forward_batch`."""

    single: float
    batch: float


def predict(plan: Plan, form: str, *, native: int, dtype: str = "f32") -> Prediction:
    """What `form` costs: `straight` of any plan, `table` of one without blocks of several rows,
    `shared` of one with them. `native` is the lanes of a vector."""
    g = plan.graph
    n_edges = len(plan.edges)
    ops = np.zeros(len(plan.rows))
    counts = {a: _ops(g, a) for a in {run.activation for run in plan.runs}}
    for run in plan.runs:
        ops[run.first : run.last] = counts[run.activation]
    first = plan.blocks[:-1]
    lengths = np.diff(plan.starts)
    segments = np.array(plan.segments, np.float64).reshape(-1, 5)
    blocks, rows = segments[:, 1] - segments[:, 0], segments[:, 2]
    fan_in, side = segments[:, 3], segments[:, 4]
    columns = [len(g.inputs), len(g.outputs)]
    ends = sum(c * (SQUARE_COLUMN if c >= SQUARE else COLUMN) for c in columns)
    around = ends + OP * float(ops.sum())
    # Every form waits for the longest row of each level, one behind the other.
    assert g.levels is not None
    longest = np.zeros(int(g.levels.max(initial=0)) + 1)
    np.maximum.at(longest, g.levels[plan.rows], lengths + ops)
    least = LATENCY * float(longest.sum()) / WAITS
    if form == "straight":
        edge = STRAIGHT_EDGE if n_edges <= LONG_EDGES else LONG_EDGE
        single = max(least, n_edges * edge + OP * float(ops.sum()))
        return Prediction(single, (STRAIGHT_VECTOR * n_edges + around) / native)
    alone = rows == 1
    whole = blocks // TOGETHER
    tails = blocks - whole * TOGETHER
    table = TABLE_EDGE * TOGETHER * whole * fan_in + tails * np.maximum(
        ALONE_EDGE, TABLE_EDGE) * fan_in + ROW * blocks
    units = blocks / side
    chains = np.minimum(np.maximum(units, 1), np.maximum(1, 4 // side))
    step = np.maximum(LATENCY / chains, SHARED_EDGE * side)
    if native == 1:  # the rows of a block one after another
        step = SHARED_EDGE * rows
    shared = units * (fan_in * step + UNIT)
    vectors = np.where(alone, 1.0, np.maximum(1.0, rows / native) / rows) if native > 1 else 1.0
    per_row = np.repeat(vectors * np.ones(len(rows)), _rows_of(plan))
    single = float((np.where(alone, table, shared) + SEGMENT).sum() + OP * (ops * per_row).sum())
    if len(plan.packed) * (4 if dtype == "f32" else 8) > LEVEL2:
        single = max(single, FAR * len(plan.packed) * (4 if dtype == "f32" else 8))
    single = max(least, single) + sum(columns)
    room = np.diff(plan.blocks)  # the rows that are computed: whole parts of a block
    part = np.minimum(plan.sizes, 8)
    computed = np.where(plan.sizes > 1, -(-room // part) * part, room)
    vector = np.where(plan.sizes > 1, SHARED_VECTOR, TABLE_VECTOR)
    batch = float((computed * (lengths[first] * vector + ROW_VECTOR)).sum())
    return Prediction(single, (batch + around) / native)


def size(plan: Plan, form: str) -> float:
    """About how many bytes `form` takes, of code for `forward` and of its tables."""
    edges, rows = len(plan.edges), len(plan.rows)
    if form == "straight":
        return STRAIGHT_BYTES * (edges + rows)
    kinds = len({(run.activation, run.aggregation) for run in plan.runs})
    return LOOPED_BYTES * (edges + rows) + LOOPS_BYTES + KIND_BYTES * kinds


def _rows_of(plan: Plan) -> list[int]:
    return [int(plan.blocks[s.last] - plan.blocks[s.first]) for s in plan.segments]


def _ops(graph: Graph, activation: int) -> int:
    """How many ops an activation is, once its functions are arithmetic."""
    b = Builder("f32", True)
    emit(expression(activation, graph.functions), b, b.const(0.5))
    count = 0
    for opcode, reads, _ in list(b.ops):
        if opcode in OPCODES and OPCODES[opcode].math:
            before = len(b.ops)
            SEQUENCES[opcode](b, reads[0])
            count += len(b.ops) - before
        elif opcode in OPCODES:
            count += 1
    return count
