"""What a plan is made of: rows, runs, segments, schedules, the packed layout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import (
    AGGREGATIONS,
    NONE,
    PAIR_CODES,
    SUM_CODES,
    Graph,
    Ints,
    Longs,
    Reals,
    seconds,
)
from ncc.scalar.derivative import reads_argument
from ncc.scalar.expressions import expression
from ncc.scalar.sum_order import BLOCK, in_order

PAIRS = 8  # of an activation and an aggregation: for fewer, each has loops of its own
FORMS = ("straight", "table", "shared")
# The functions that a plan may want: forward, with each sample's parameters, backward, training,
# the Jacobian, of which a batch is one sample after another.
FORWARD = ("pack", "reset", "forward", "forward_batch", "steps")
EACH = ("each", "each_backward")
BACKWARD = ("backward", "backward_batch", "forward_keep", "backward_kept", "forward_batch_keep",
            "backward_batch_kept")
TRAINING = ("train_step", "train_step_batch", "gradient_batch", "update")
JACOBIAN = ("jacobian", "jacobian_batch")
FUNCTIONS = (*FORWARD, *EACH, *BACKWARD, *JACOBIAN, *TRAINING)


def keeper(name: str) -> str:
    """backward_kept -> forward_keep: the function that makes what this one reads."""
    return name.replace("backward", "forward").removesuffix("_kept") + "_keep"


def many_kinds(graph: Graph, rows: Ints) -> bool:
    """Whether there are so many pairs of an activation and an aggregation among these neurons that
    loops sum rows up by aggregation first and apply the activations then, so that their code grows
    with the one and the other, not with the pairs."""
    acts, aggs = graph.activations[rows], graph.aggregations[rows].astype(np.int64)
    pairs = len(np.unique(acts * len(AGGREGATIONS) + aggs))
    return pairs > PAIRS and 5 * pairs > 5 * len(np.unique(aggs)) + 2 * len(np.unique(acts))


class Run(NamedTuple):
    """Consecutive rows with one activation and one aggregation; `biased` where any row of the net
    with this aggregation has a bias."""

    first: int
    last: int
    activation: int
    aggregation: int
    biased: bool


class Segment(NamedTuple):
    """Consecutive blocks of one run and one level, alike: `rows` rows to a block, or fewer, and
    `fan_in` edges to a row; each `side` blocks that follow one another read the same sources."""

    first: int
    last: int
    rows: int
    fan_in: int
    side: int


@dataclass(frozen=True, eq=False)
class Schedule:
    """How one function (single or batch) is computed: its form, and why; its slots in `work`."""

    form: str
    why: str
    slots: Ints | None = None  # (N): a slot for each neuron that needs one, else -1
    work: int = 0  # slots in all, for one sample


class Wanted(NamedTuple):
    """A function that `lower` is to write. Backward functions compute values again rather than to
    keep more than `recompute` bytes of them (0: no limit); those of training have a loss and an
    optimizer, as texts."""

    name: str
    recompute: int = 0
    loss: str = ""
    optimizer: str = ""

    @property
    def batch(self) -> bool:
        return "_batch" in self.name or self.name in EACH

    def __str__(self) -> str:
        """`backward{recompute=64}`, as a pass and its options are spelt."""
        options = [f"{key}={value}" for key, value in self._asdict().items()
                   if key != "name" and value]
        return self.name + (f"{{{','.join(options)}}}" if options else "")


class Cells(NamedTuple):
    """Of each edge (E) and of each row's bias (R) the cell, -1 for none; of each block's biases (B)
    the first; and the parameter code of each cell, as in `packed`."""

    edges: Ints
    biases: Longs
    block_biases: Longs
    codes: Ints


@dataclass(frozen=True, eq=False)
class PlanArrays:
    """A graph cut into runs of rows in evaluation order, the packed layout, and the functions.

    rows    int32 (R)    neurons in evaluation order, inputs left out
    starts  int64 (R+1)  the edges of row r are starts[r] .. starts[r+1] of `edges`
    edges   int32        positions in the graph's edge arrays, in row order
    blocks  int64 (B+1)  the rows of block b, which read the same sources in the same order, are
                         blocks[b] .. blocks[b+1]
    packed  int32        parameter codes (as in Graph) that `pack` writes, in order: straight, those
                         that are used, by their first use; else the weights of each block, source
                         by source (of a dot, pair by pair), in each the rows' (-0.0 for the rows
                         that a block lacks); then the biases of each run that has any, block by
                         block in the same way
    weights, biases  int64 (B)  where those of each block begin in `packed`, -1 for none; empty
                         where all forms are straight. Of repeated structure, such as the
                         positions of a convolution, equal blocks of parameters stand once
                         (`packed_starts`)
    functions            those that `lower` is to write
    """

    graph: Graph
    rows: Ints
    starts: Longs
    edges: Ints
    runs: tuple[Run, ...]
    blocks: Longs
    segments: tuple[Segment, ...]
    packed: Ints
    weights: Longs
    biases: Longs
    single: Schedule
    batch: Schedule
    backward: Schedule | None = None  # None: no gradients are asked for
    backward_batch: Schedule | None = None
    jacobian: Schedule | None = None  # None: no Jacobian is asked for
    each: Schedule | None = None  # None: parameters are the same for all samples
    functions: tuple[Wanted, ...] = ()

    @cached_property
    def constants(self) -> Reals:
        """The graph's, and after them -0.0, the start of a sum without a bias."""
        return np.append(self.graph.constants, -0.0)

    @property
    def looped(self) -> bool:
        """Whether any function is loops, so that `packed` is laid out for those."""
        return any(schedule.form != "straight" for schedule in self.schedules.values())

    def schedule_of(self, wanted: Wanted) -> Schedule:
        """How a function that needs gradients is computed."""
        schedule = self.backward_batch if wanted.batch else self.backward
        if wanted.name in JACOBIAN:
            schedule = self.jacobian
        assert schedule is not None
        return schedule

    @property
    def schedules(self) -> dict[str, Schedule]:
        """How each function that is asked for is computed, by its name."""
        found = {"forward": self.single, "forward_batch": self.batch, "backward": self.backward,
                 "backward_batch": self.backward_batch, "each": self.each,
                 "jacobian": self.jacobian}
        return {name: schedule for name, schedule in found.items() if schedule is not None}

    @cached_property
    def sizes(self) -> Longs:
        """The rows for which each block has room."""
        counts = [segment.last - segment.first for segment in self.segments]
        return np.repeat([segment.rows for segment in self.segments], counts).astype(np.int64)

    @cached_property
    def phased(self) -> bool:
        """Whether loops compute the rows of a level in another order: first the sums of each
        aggregation, then the values of each activation."""
        return many_kinds(self.graph, self.rows)

    @cached_property
    def block_of(self) -> Longs:
        """The block of each row."""
        return csr.owners(self.blocks)

    @cached_property
    def weight_places(self) -> Ints:
        """The position in `packed` of each edge's weight."""
        return _all_places(self, self.weights)

    @cached_property
    def seconds(self) -> NDArray[np.bool_]:
        """Whether each edge is the second one of a pair, and has no weight in `packed`."""
        return seconds(self.starts, self.graph.aggregations[self.rows])

    @cached_property
    def bias_places(self) -> Longs:
        """The position in `packed` of each row's bias, -1 for none."""
        return row_places(self, self.biases)

    @cached_property
    def shares(self) -> bool:
        """Whether blocks have the weights of others, and not behind those of the block before."""
        ends = self.weights + self.sizes * weights_a_row(self)
        return not np.array_equal(self.weights[1:], ends[:-1])

    @cached_property
    def cells(self) -> Cells:
        """A place for each edge and bias, where each block has its own, as gradients want it."""
        weights, biases, length = spread(self)
        return Cells(_all_places(self, weights), row_places(self, biases), biases,
                     packed_codes(self, weights, biases, length))

    @cached_property
    def arguments(self) -> Longs:
        """The rows whose activation's derivative is made from its argument, not its value."""
        read = [a for a in {run.activation for run in self.runs}
                if reads_argument(expression(a, self.graph.functions))]
        return np.flatnonzero(np.isin(self.graph.activations[self.rows], read))

    @property
    def n_kept(self) -> int:
        """Reals of a sample that backward functions need of its forward pass: the values of all
        rows, and the arguments of some."""
        return len(self.rows) + len(self.arguments)

    @cached_property
    def additive(self) -> NDArray[np.bool_]:
        """Whether each row is a sum or a mean, all of whose edges get one delta."""
        chosen: NDArray[np.bool_] = np.isin(self.graph.aggregations[self.rows], SUM_CODES)
        return chosen

    def prefixes(self, dtype: str) -> Longs:
        """Of how many edges of each row the gradient is summed up over the samples in order."""
        g = self.graph
        first = csr.representatives(g.starts, g.sources, self.rows, g.activations, g.aggregations)
        return in_order(first, np.diff(self.starts), self.additive, BLOCK[dtype])

    @cached_property
    def canonical(self) -> Ints:
        """For each of `cells`, where its edge or bias stands among all of the graph: by target
        neuron, in-list, and the bias last; -1 of what is padding."""
        g, cells = self.graph, self.cells
        found = np.full(len(cells.codes), -1, np.int32)
        neuron = np.repeat(self.rows, np.diff(self.starts))
        held = ~self.seconds
        found[cells.edges[held]] = (self.edges + neuron)[held]
        has = cells.biases >= 0
        found[cells.biases[has]] = g.starts[self.rows[has] + 1] + self.rows[has]
        return found

    def broken(self) -> NDArray[np.bool_]:
        """Whether any edge of each row (R) has no slot, or another than the one behind that of the
        edge before."""
        found = np.zeros(len(self.rows), np.bool_)
        for part in csr.parts(np.diff(self.starts)):
            starts = self.starts[part.start : part.stop + 1]
            weights = self.graph.weights[self.edges[starts[0] : starts[-1]]]
            odd = np.diff(weights, prepend=np.int32(0)) != 1
            odd[starts[:-1][np.diff(starts) > 0] - starts[0]] = False
            found[part] = csr.some(starts - starts[0], odd | (weights < 0))
        return found


def evaluation_order(graph: Graph, neurons: Ints, first: Longs) -> Longs:
    """The positions of `neurons` (int32, ascending) in the order of rows: by depth, activation,
    aggregation, fan-in, in-list and index; `first` are their representatives (ncc/ir/csr.py). It is
    no target's own, for it is the order of sums, too (ncc/scalar/sum_order.py)."""
    assert graph.levels is not None
    return np.lexsort((neurons, first, np.diff(graph.starts)[neurons], graph.aggregations[neurons],
                       graph.activations[neurons], graph.levels[neurons]))


def first_uses(plan: PlanArrays) -> Ints:
    """`packed` of unrolled code: in the order of their first use, so that neighbours in time are
    neighbours in memory."""
    g = plan.graph
    codes = np.insert(g.weights[plan.edges], plan.starts[1:], g.biases[plan.rows])
    used, first = np.unique(codes, return_index=True)
    used = used[np.argsort(first)]
    return used[used >= 0].astype(np.int32)


def weights_a_row(plan: PlanArrays) -> Longs:
    """How many weights a row of each block has: one an edge, or one a pair of a `dot`."""
    lead = plan.blocks[:-1]
    pairs = np.isin(plan.graph.aggregations[plan.rows[lead]], PAIR_CODES)
    found: Longs = np.diff(plan.starts)[lead] // np.where(pairs, 2, 1)
    return found


def edge_places(plan: PlanArrays, weights: Longs, rows: slice) -> Longs:
    """The place of each edge of some rows, where the weights of block b begin at weights[b]; of
    both edges of a pair that of the first one's."""
    lengths = np.diff(plan.starts)[rows]
    b, r = plan.block_of[rows], np.arange(rows.start, rows.stop)
    first, size = weights[b] + r - plan.blocks[b], plan.sizes[b]
    within = csr.within(lengths)
    pairs = np.isin(plan.graph.aggregations[plan.rows[rows]], PAIR_CODES)
    if pairs.any():
        within >>= np.repeat(pairs, lengths)
    places: Longs = np.repeat(first, lengths) + within * np.repeat(size, lengths)
    return places


def _all_places(plan: PlanArrays, weights: Longs) -> Ints:
    """The places of the edges of all rows, a part of them at a time."""
    places = np.empty(len(plan.edges), np.int32)
    for part in csr.parts(np.diff(plan.starts)):
        places[plan.starts[part.start] : plan.starts[part.stop]] = edge_places(plan, weights, part)
    return places


def row_places(plan: PlanArrays, biases: Longs) -> Longs:
    """The place of each row's bias, -1 for none, where those of block b begin at biases[b]."""
    b, r = plan.block_of, np.arange(len(plan.rows))
    return np.where(biases[b] < 0, -1, biases[b] + r - plan.blocks[b])


def spread(plan: PlanArrays) -> tuple[Longs, Longs, int]:
    """Where the weights and the biases of each block begin, and where all end, in a layout that has
    those of each block: the weights, block by block, then the biases of each run that has any."""
    lengths = weights_a_row(plan)
    ends = np.cumsum(plan.sizes * lengths)
    at = int(ends[-1]) if len(ends) else 0
    biases = np.full(len(ends), -1, np.int64)
    for run in plan.runs:
        if run.biased:
            lo, hi = np.searchsorted(plan.blocks, [run.first, run.last])
            until = at + np.cumsum(plan.sizes[lo:hi])
            biases[lo:hi] = until - plan.sizes[lo:hi]
            at = int(until[-1])
    return ends - plan.sizes * lengths, biases, at


def packed_starts(plan: PlanArrays) -> tuple[Longs, Longs, int]:
    """`weights` and `biases` of a plan of loops, and the length of `packed`: as `spread` has them,
    or, where that leaves at most half of it, with those of equal blocks once."""
    g = plan.graph
    weights, biases, length = spread(plan)
    codes = np.where(plan.seconds, 0, g.weights[plan.edges])
    used = np.zeros(g.n_params + len(plan.constants), np.bool_)
    used[codes] = True
    if 2 * np.count_nonzero(used) > length:
        return weights, biases, length
    lengths = weights_a_row(plan)
    own, end = _once(plan.sizes * lengths, csr.representatives(
        plan.starts[plan.blocks], codes, np.arange(len(weights)), plan.sizes, lengths))
    some = np.flatnonzero(biases >= 0)
    shifts, more = _once(plan.sizes[some], csr.representatives(
        plan.blocks, g.biases[plan.rows], some, plan.sizes))
    if 2 * (end + more) > length:
        return weights, biases, length
    biases[some] = end + shifts
    return own, biases, end + more


def _once(sizes: Longs, first: Longs) -> tuple[Longs, int]:
    """Where each of some tiles begins, and where all end, if each stands where `first` says that
    its first equal one does."""
    begins = csr.starts(np.where(first == np.arange(len(first)), sizes, 0))
    return begins[:-1][first], int(begins[-1])


def packed_codes(plan: PlanArrays, weights: Longs, biases: Longs, length: int) -> Ints:
    """The parameter codes of a layout in which the tiles of the blocks begin there."""
    g = plan.graph
    codes = np.full(length, -len(plan.constants), np.int32)  # the code of -0.0
    for part in csr.parts(np.diff(plan.starts)):
        bounds = slice(plan.starts[part.start], plan.starts[part.stop])
        held = ~plan.seconds[bounds]
        codes[edge_places(plan, weights, part)[held]] = g.weights[plan.edges[bounds][held]]
    own, places = g.biases[plan.rows], row_places(plan, biases)
    codes[places[own != NONE]] = own[own != NONE]
    return codes
