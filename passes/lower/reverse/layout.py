"""Rows, edges and buffer elements of a plan as its looped backward pass walks them.

Each record is made of the plan by the function below it. `arrays()` are its constant arrays, by
the names that they have in the module behind `back_`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import SUM_CODES, Ints, Longs
from ncc.ir.plan import Plan
from ncc.passes.lower.arrays.lists import MANY

ALTERNATING, PAIRS = 2, 4  # pairs of an activation and an aggregation: that alternate; in all

Arrays = dict[str, NDArray[np.integer] | NDArray[np.bool_]]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges of a plan between its values, which are the inputs, then the rows.

    number  (N)  the value that each neuron is
    source  (E)  the value that each edge reads
    reader  (E)  the row that reads it
    """

    number: Ints
    source: Ints
    reader: Ints


def edges_of(plan: Plan) -> Edges:
    g = plan.graph
    n_in, n_rows = len(g.inputs), len(plan.rows)
    number = np.zeros(g.n_neurons, np.int32)
    number[g.inputs] = np.arange(n_in)
    number[plan.rows] = n_in + np.arange(n_rows)
    return Edges(number, number[g.sources[plan.edges]],
                 csr.owners(plan.starts, np.int32))


class Once(NamedTuple):
    """Lists of which those stand once that differ by what is added to each element: list k is
    `elements` from begins[k] on, with bases[k] added. Without `bases` nothing is, and each list has
    elements of its own, one list after another."""

    elements: Ints
    begins: Longs
    bases: Ints | None

    def arrays(self, elements: str, begins: str, bases: str) -> Arrays:
        """Its arrays by these names."""
        made: Arrays = {elements: self.elements, begins: self.begins}
        return made if self.bases is None else {**made, bases: self.bases}


def once(starts: Longs, elements: Ints) -> Once:
    """Lists of numbers from 0 on (ncc/ir/csr.py), those that are many once, where they repeat."""
    lengths = np.diff(starts)
    found = csr.repeated(lengths, elements) if len(lengths) >= MANY else None
    if found is None:
        return Once(elements, starts[:-1], None)
    begins, bases, kept = found
    return Once(kept, begins, bases)


# -- row classes


class Signature(NamedTuple):
    """What the code of a row depends on. `height` is the padded height of its tiles; `direct` where
    the weights of each row are consecutive parameters, to whose gradient a tile adds in `dparams`
    itself; `trained` where any weight is a parameter, or rows are sums. No activation where rows of
    all signatures are summed before any is activated."""

    activation: int | None
    aggregation: int
    biased: bool
    height: int
    direct: bool
    trained: bool


@dataclass(frozen=True, eq=False)
class RowClasses:
    """Consecutive rows of one signature, depth and fan-in (the plan's segments). One piece of code
    serves all classes of a signature; a last class without rows stands for the inputs.

    signatures            each once
    number    (S)         which of them each class has
    firsts    (S)         first row of each class
    fan_in    (S+1)
    trained   (S+1)       whether any of its weights is a parameter
    rows      each (S+1)  for each signature, how many of its rows lie in each class
    tiles     (S+1)       first tile (the plan's blocks) of each class
    n_tiles   (S+1)
    mixed                 whether there are so many signatures that rows of one depth are summed
                          first and activated then, so that code for each stays short
    """

    signatures: list[Signature]
    number: Longs
    firsts: Longs
    fan_in: Longs
    trained: Flags
    rows: list[Longs]
    tiles: Longs
    n_tiles: Longs
    mixed: bool

    def __len__(self) -> int:
        return len(self.firsts)

    def per_row(self, n_rows: int) -> Longs:
        """The class of each row."""
        owners: Longs = csr.owners(np.append(self.firsts, n_rows))
        return owners

    def arrays(self, n_rows: int) -> Arrays:
        return {"segment_rows": np.append(self.firsts, [n_rows] * 2),
                "segment_edges": self.fan_in,
                "segment_trained": np.where(self.trained, self.fan_in, 0),
                **{f"rows_{k}": rows for k, rows in enumerate(self.rows)}}


def row_classes(plan: Plan, vectors: bool) -> RowClasses:
    """`vectors`: whether tiles may add to `dparams` itself, which takes vectors of samples."""
    bounds = np.array([(plan.blocks[p.first], plan.blocks[p.last]) for p in plan.segments],
                      np.int64).reshape(-1, 2)
    first, last = bounds[:, 0], bounds[:, 1]
    run_of = np.searchsorted([run.first for run in plan.runs], first, side="right") - 1
    params = csr.starts(csr.some(plan.starts, plan.graph.weights[plan.edges] >= 0))
    trained = params[last] > params[first]
    signatures = [
        Signature(run.activation, run.aggregation, run.biased, segment.rows,
                  vectors and segment.rows > 1 and direct,
                  some or run.aggregation in SUM_CODES)
        for segment, run, direct, some in zip(
            plan.segments, [plan.runs[k] for k in run_of.tolist()],
            consecutive(plan, first, last).tolist(), trained.tolist(), strict=True)]
    pairs = [signature[:2] for signature in signatures]
    alternating = sum([a != b for a, b in pairwise(pairs)]) >= len(set(pairs))
    mixed = len(set(pairs)) > (ALTERNATING if alternating else PAIRS)
    if mixed:
        signatures = [signature._replace(activation=None) for signature in signatures]
    each = list(dict.fromkeys(signatures))
    number = np.array([each.index(signature) for signature in signatures], np.int64)
    return RowClasses(
        each, number, first,
        np.array([*[p.fan_in for p in plan.segments], 0], np.int64), np.append(trained, False),
        [np.append(np.where(number == k, last - first, 0), 0) for k in range(len(each))],
        np.array([*[p.first for p in plan.segments], 0], np.int64),
        np.array([*[p.last - p.first for p in plan.segments], 0]), mixed)


def consecutive(plan: Plan, first: Longs, last: Longs) -> Flags:
    """Whether the weights of each row first[s] .. last[s] are consecutive parameters, none of which
    has a second edge, or is a bias too: those are added up edge by edge."""
    g = plan.graph
    broken = plan.broken()
    weights = g.weights[plan.edges]
    codes = np.concatenate([weights, g.biases[plan.rows]])
    uses = np.bincount(codes[codes >= 0], minlength=g.n_params + 1)
    tied = csr.some(plan.starts, (weights >= 0) & (uses[np.maximum(weights, 0)] > 1))
    odd = csr.starts(broken | tied)
    consecutive: Flags = odd[last] == odd[first]
    return consecutive


# -- how adjoints get to their sources


@dataclass(frozen=True, eq=False)
class Routes:
    """For each edge, how its reader's part of the adjoint gets to its source.

    heights   (R)  padded height of each row's tile
    tiled     (R)  rows whose parts go out tile by tile
    scattered (R)  those, and rows whose edges do not all get the same part; all of their edges add
                   to `adjoints`, and so do the other edges from the same sources:
    pushed    (E)
    gathered  (E)  edges whose source gathers its readers' parts; nobody writes them
    prefix    (R)  of how many edges of each row the gradient is summed in order
    """

    heights: Longs
    tiled: Flags
    scattered: Flags
    pushed: Flags
    gathered: Flags
    prefix: Longs

    @property
    def scatters(self) -> bool:
        return bool(self.scattered.any())


def routes_of(plan: Plan, edges: Edges, batch: bool, dtype: str) -> Routes:
    prefix = plan.prefixes(dtype) if batch else np.zeros(len(plan.rows), np.int64)
    heights = plan.sizes[plan.block_of]
    tiled = plan.additive & (heights > 1) & batch
    scattered = ~plan.additive | tiled
    scatters = scattered[edges.reader]
    mixed = np.zeros(len(plan.graph.inputs) + len(plan.rows), bool)
    mixed[edges.source[scatters]] = True
    mixed = mixed[edges.source]
    return Routes(heights, tiled, scattered, ~scatters & mixed, ~scatters & ~mixed, prefix)


# -- checkpoints


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """Rows cut into stages, whose values are computed again before the backward pass enters them.

    rows    (C+1)  borders of the stages
    of_row  (R)    the stage of each row
    live           rows whose values another stage reads (live across a checkpoint)
    widest         rows of the largest stage
    """

    rows: Longs
    of_row: Longs
    live: Longs
    widest: int

    def __len__(self) -> int:
        return len(self.rows) - 1


def checkpoints_of(plan: Plan, edges: Edges, classes: RowClasses, size: int, budget: int
                   ) -> Checkpoints:
    """One stage, or as few as keep the values, of `size` bytes each, within the budget (0: no
    limit); where none do, those that take least."""
    n_inputs = len(plan.graph.inputs)
    best: tuple[int, Checkpoints] | None = None
    count = 1
    while count <= max(1, len(classes)):
        made = _cut(plan, edges, classes.firsts, count)
        need = (n_inputs + len(made.live) + made.widest) * size
        if best is None or need < best[0]:
            best = need, made
        if not budget or need <= budget:
            break
        count += max(1, count // 2)
    assert best is not None
    return best[1]


def _cut(plan: Plan, edges: Edges, firsts: Longs, count: int) -> Checkpoints:
    """About `count` stages of as many rows each, cut where a row class begins."""
    n_rows, n_inputs = len(plan.rows), len(plan.graph.inputs)
    ideal = np.arange(count + 1) * n_rows / count
    ends = np.append(firsts, n_rows)
    rows = np.unique(ends[np.searchsorted(ends, ideal)])
    rows = rows if len(rows) > 1 else np.array([0, n_rows])
    stage = np.searchsorted(rows, np.arange(n_rows), side="right") - 1
    row = edges.source - n_inputs
    inner = row >= 0
    across = row[inner][stage[row[inner]] != stage[edges.reader[inner]]]
    outputs = edges.number[plan.graph.outputs] - n_inputs
    if len(rows) > 2:
        across = np.concatenate([across, outputs[outputs >= 0]])
    return Checkpoints(rows, stage, np.unique(across), int(np.diff(rows).max(initial=0)))


# -- elements of `values` and `adjoints`


@dataclass(frozen=True, eq=False)
class Elements:
    """Where values live: in `values` the inputs, the live rows, the rows of one stage; their
    adjoints in `adjoints`, at the same elements.

    local          the first element of a stage's rows
    own      (R)   of each row, as long as its stage is computed
    adjoint  (V)   of the adjoint of each value, between stages; `nowhere` of what is not live
    nowhere        the last element of `adjoints`, to which nothing is added
    read     (E)   where each edge finds what it reads
    inside   (E)   whether that is a row of the reader's stage
    lists          `read` row by row
    """

    local: int
    own: Longs
    adjoint: Longs
    nowhere: int
    read: Ints
    inside: Flags
    lists: Once

    def arrays(self, plan: Plan, classes: RowClasses) -> Arrays:
        first = plan.weights[plan.block_of] + np.arange(len(plan.rows)) - plan.blocks[plan.block_of]
        return {**self.lists.arrays("places", "starts", "place_bases"),
                "weights": np.maximum(first, 0),  # of each row, where they begin in `packed`
                "biases": np.maximum(plan.bias_places, 0),
                "segment_places": np.append(self.own[classes.firsts], 0)}

    def stage_arrays(self, plan: Plan, classes: RowClasses, checkpoints: Checkpoints) -> Arrays:
        n, live = len(checkpoints), checkpoints.live
        return {"passed_starts": np.searchsorted(checkpoints.of_row[live], np.arange(n + 1)),
                "passed_places": self.own[live],
                "slots": self.adjoint[len(plan.graph.inputs):],
                "block_segments": np.searchsorted(classes.firsts, checkpoints.rows),
                "again": np.arange(n) < n - 1}


def elements_of(plan: Plan, edges: Edges, checkpoints: Checkpoints, scatters: bool) -> Elements:
    n_in, n_rows = len(plan.graph.inputs), len(plan.rows)
    live, stage = checkpoints.live, checkpoints.of_row
    local = n_in + len(live)
    own = local + np.arange(n_rows) - checkpoints.rows[stage]
    nowhere = local + (checkpoints.widest if scatters else 0)
    adjoint = np.full(n_in + n_rows, nowhere)
    adjoint[:n_in] = np.arange(n_in)
    adjoint[n_in + live] = n_in + np.arange(len(live))
    row = edges.source - n_in
    inside = row >= 0
    inside[inside] = stage[row[inside]] == stage[edges.reader[inside]]
    read = adjoint.astype(np.int32)[edges.source]
    read[inside] = own[row[inside]]
    return Elements(local, own, adjoint, nowhere, read, inside, once(plan.starts, read))


# -- rows of one depth


@dataclass(frozen=True, eq=False)
class DepthGroups:
    """The rows of one depth and one stage, which do not read each other; in each group, which rows
    have which activation.

    classes      (D+1)   first row class of each group
    elements     (D+1)   of its first row; 0 of the inputs
    widest               rows of the largest
    stages       (C+1)   first group of each stage
    activations          codes, each once
    by_activation  (R)   elements of the rows by group and activation
    starts  (D+1)*A + 1  where those of each group and activation begin
    """

    classes: Longs
    elements: Longs
    widest: int
    stages: Longs
    activations: list[int]
    by_activation: Longs
    starts: Longs

    def __len__(self) -> int:
        return len(self.classes) - 1

    def arrays(self, n_classes: int) -> Arrays:
        return {"turn_segments": np.append(self.classes, n_classes + 1),  # and of the inputs
                "turn_places": self.elements, "block_turns": self.stages,
                "act_places": self.by_activation, "act_starts": self.starts}


def depth_groups(plan: Plan, classes: RowClasses, checkpoints: Checkpoints, elements: Elements
                 ) -> DepthGroups:
    g = plan.graph
    assert g.levels is not None
    stage = checkpoints.of_row
    new = (np.diff(g.levels[plan.rows], prepend=-1) != 0) | (np.diff(stage, prepend=-1) != 0)
    group = np.cumsum(new) - 1
    borders = np.append(np.flatnonzero(new), len(group))
    acts, number = np.unique(g.activations[plan.rows], return_inverse=True)
    key = group * len(acts) + number
    return DepthGroups(
        np.searchsorted(classes.firsts, borders), np.append(elements.own[borders[:-1]], 0),
        int(np.diff(borders).max()),
        np.searchsorted(borders[:-1], np.searchsorted(stage, np.arange(len(checkpoints) + 1))),
        acts.tolist(), elements.own[np.argsort(key, kind="stable")],
        np.searchsorted(np.sort(key), np.arange((int(group[-1]) + 2) * len(acts) + 1)))
