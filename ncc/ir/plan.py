"""The plan level: the graph in evaluation order, the form of each function, where values live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph, Ints, Longs, Reals
from ncc.scalar.aggregations import total
from ncc.scalar.derivative import reads_argument
from ncc.scalar.expressions import emit, expression
from ncc.scalar.numpy_eval import Numpy
from ncc.scalar.sum_order import BLOCK, in_order

PAIRS = 8  # of an activation and an aggregation: for fewer, each has loops of its own
FORMS = ("straight", "table", "shared")
# The functions that a plan may want: without gradients, with them, and of training.
FORWARD = ("pack", "forward", "forward_batch")
BACKWARD = ("backward", "backward_batch", "forward_keep", "backward_kept", "forward_batch_keep",
            "backward_batch_kept")
TRAINING = ("train_step", "train_step_batch", "gradient_batch", "update")
FUNCTIONS = (*FORWARD, *BACKWARD, *TRAINING)


def keeper(name: str) -> str:
    """backward_kept -> forward_keep: the function that makes what this one reads."""
    return name.replace("backward", "forward").removesuffix("_kept") + "_keep"


def many_kinds(graph: Graph, rows: Ints) -> bool:
    """Whether there are so many pairs of an activation and an aggregation among these neurons that
    loops sum rows up by aggregation first and apply the activations then, so that their code grows
    with the one and the other, not with the pairs."""
    acts, aggs = graph.activations[rows], graph.aggregations[rows].astype(np.int64)
    pairs = len(np.unique(acts * len(AGGREGATIONS) + aggs))
    return pairs > PAIRS and pairs > len(np.unique(acts)) + len(np.unique(aggs))


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
        return "_batch" in self.name

    def __str__(self) -> str:
        """`backward{recompute=64}`, as a pass and its options are spelt."""
        options = [f"{key}={value}" for key, value in self._asdict().items()
                   if key != "name" and value]
        return self.name + (f"{{{','.join(options)}}}" if options else "")


@dataclass(frozen=True, eq=False)
class Plan:
    """A graph cut into runs of rows in evaluation order, and the packed layout.

    rows    int32 (R)    neurons in evaluation order, inputs left out
    starts  int64 (R+1)  the edges of row r are starts[r] .. starts[r+1] of `edges`
    edges   int32        positions in the graph's edge arrays, in row order
    blocks  int64 (B+1)  the rows of block b, which read the same sources in the same order, are
                         blocks[b] .. blocks[b+1]
    packed  int32        parameter codes (as in Graph) that `pack` writes, in order: straight, those
                         that are used, ascending; else the weights of each block, source by source,
                         in each the rows' (a constant for the rows that a block lacks); then the
                         biases of each run that has any, block by block in the same way
    weights, biases  int64 (B)  where those of each block begin in `packed`, -1 for none
    constants  float64   the graph's, and after them -0.0, the start of a sum without a bias
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
    constants: Reals
    single: Schedule
    batch: Schedule
    backward: Schedule | None = None  # None: no gradients are asked for
    backward_batch: Schedule | None = None
    functions: tuple[Wanted, ...] = ()

    def with_(self, **changes: Any) -> Plan:
        return replace(self, **changes)

    def wanting(self, *functions: Wanted) -> Plan:
        """The plan with these among its functions, each name once."""
        named = {wanted.name: wanted for wanted in (*self.functions, *functions)}
        return self.with_(functions=tuple(named.values()))

    def wants(self, name: str) -> bool:
        return any(wanted.name == name for wanted in self.functions)

    def schedule_of(self, wanted: Wanted) -> Schedule:
        """How a function that needs gradients is computed."""
        schedule = self.backward_batch if wanted.batch else self.backward
        assert schedule is not None
        return schedule

    @property
    def schedules(self) -> dict[str, Schedule]:
        """How each function that is asked for is computed, by its name."""
        found = {"forward": self.single, "forward_batch": self.batch, "backward": self.backward,
                 "backward_batch": self.backward_batch}
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
        return bool((self.sizes == 1).all()) and many_kinds(self.graph, self.rows)

    @cached_property
    def block_of(self) -> Longs:
        """The block of each row."""
        return csr.owners(self.blocks)

    @cached_property
    def weight_places(self) -> Longs:
        """The position in `packed` of each edge's weight."""
        return self.places_of(slice(0, len(self.rows)))

    def places_of(self, rows: slice) -> Longs:
        """The positions in `packed` of the weights of some rows' edges."""
        lengths = np.diff(self.starts)[rows]
        b, r = self.block_of[rows], np.arange(rows.start, rows.stop)
        first, size = self.weights[b] + r - self.blocks[b], self.sizes[b]
        places: Longs = np.repeat(first, lengths) + csr.within(lengths) * np.repeat(size, lengths)
        return places

    @cached_property
    def bias_places(self) -> Longs:
        """The position in `packed` of each row's bias, -1 for none."""
        b, r = self.block_of, np.arange(len(self.rows))
        return np.where(self.biases[b] < 0, -1, self.biases[b] + r - self.blocks[b])

    @cached_property
    def arguments(self) -> Longs:
        """The rows whose activation's derivative is made from its argument, not its value."""
        return np.concatenate([np.zeros(0, np.int64), *[
            np.arange(run.first, run.last) for run in self.runs
            if reads_argument(expression(run.activation, self.graph.functions))]])

    @property
    def n_kept(self) -> int:
        """Reals of a sample that backward functions need of its forward pass: the values of all
        rows, and the arguments of some."""
        return len(self.rows) + len(self.arguments)

    @cached_property
    def additive(self) -> NDArray[np.bool_]:
        """Whether each row is a sum or a mean, all of whose edges get one delta."""
        kinds = [AGGREGATIONS.index(name) for name in ("sum", "mean")]
        chosen: NDArray[np.bool_] = np.isin(self.graph.aggregations[self.rows], kinds)
        return chosen

    def prefixes(self, dtype: str) -> Longs:
        """Of how many edges of each row the gradient is summed up over the samples in order."""
        g = self.graph
        first = csr.representatives(g.starts, g.sources, self.rows, g.activations, g.aggregations)
        return in_order(first, np.diff(self.starts), self.additive, BLOCK[dtype])

    @cached_property
    def canonical(self) -> Longs:
        """For each place in `packed`, where its edge or bias stands among all of the graph: by
        target neuron, in-list, and the bias last; -1 of what is padding."""
        g = self.graph
        found = np.full(len(self.packed), -1, np.int64)
        neuron = np.repeat(self.rows, np.diff(self.starts))
        found[self.weight_places] = self.edges + neuron
        has = self.bias_places >= 0
        found[self.bias_places[has]] = g.starts[self.rows[has] + 1] + self.rows[has]
        return found

    def broken(self) -> Longs:
        """For each number of edges, how many of the first so many have no slot, or in their in-list
        another than the one behind that of the edge before: (E+1,)."""
        weights = self.graph.weights[self.edges]
        odd = np.diff(weights, prepend=0) != 1
        odd[self.starts[:-1][np.diff(self.starts) > 0]] = False
        counts: Longs = np.concatenate([[0], np.cumsum(odd | (weights < 0))])
        return counts

    def __str__(self) -> str:
        g = self.graph
        k = max(2, len(f"{g.n_neurons - 1:x}"))
        lines = [
            f"plan {g.n_neurons:x} neurons, {len(self.rows)} rows, {len(self.edges)} edges, "
            f"{len(self.packed)} packed",
            "functions " + (", ".join(map(str, self.functions)) or "-"),
        ]
        for name, s in (("single", self.single), ("batch", self.batch)):
            lines.append(f"{name}: {s.form}, {s.work} slots of work ({s.why})")
        for run in self.runs:
            lines.append(
                f"run activation {run.activation:02x} {AGGREGATIONS[run.aggregation]}"
                f"{' bias' if run.biased else ''} {{"
            )
            for r in range(run.first, run.last):
                j = self.rows[r]
                at = self.edges[self.starts[r] : self.starts[r + 1]]
                sources = " ".join([f"{i:0{k}x}" for i in g.sources[at].tolist()])
                block = self.block_of[r]
                if self.blocks[block] == r and self.sizes[block] > 1:
                    lines.append(f"  shared by {self.blocks[block + 1] - r} rows of "
                                 f"{self.sizes[block]}")
                places = [
                    f"{name}[{s.slots[j]}]"
                    for name, s in (("single", self.single), ("batch", self.batch))
                    if s.slots is not None and s.slots[j] >= 0
                ]
                lines.append(f"  {j:0{k}x} <- {sources or '-'}  {' '.join(places)}".rstrip())
            lines.append("}")
        return "\n".join(lines) + "\n"

    def verify(self) -> None:
        """Raise an NccError (status 3) unless

        - rows are the graph's living neurons, inputs apart, each once;
        - every source of a row is an input or an earlier row;
        - the runs cover the rows in order, and each run has one activation and one aggregation;
        - the segments cover the blocks and the blocks the rows in order, none crosses a run, and
          the rows of a block read the same sources in the same order;
        - packed codes are slots or constants that exist, and hold each weight and each bias where
          its block has it;
        - where slots are given, no value is overwritten before its last reader;
        - the functions have names that are known, each once, and those that need gradients have a
          schedule: backward functions that read what was kept are loops, and stand behind the
          function that keeps it; without pack all parameters are constants.
        """
        g = self.graph
        n, r = g.n_neurons, len(self.rows)

        def need(good: bool, message: str) -> None:
            if not good:
                raise NccError("E304", f"plan: {message}")

        need(bool(np.array_equal(np.sort(self.rows), np.flatnonzero(g.activations >= 0))),
             "the rows are not the living neurons")
        position = np.full(n, n, np.int64)
        position[g.inputs] = -1
        position[self.rows] = np.arange(r)
        reader = csr.owners(self.starts)
        need(bool((position[g.sources[self.edges]] < reader).all()), "a row reads a later one")
        at = 0
        for run in self.runs:
            need(run.first == at and run.last > at, "the runs do not cover the rows in order")
            at = run.last
            mine = self.rows[run.first : run.last]
            need(bool((g.activations[mine] == run.activation).all()
                      and (g.aggregations[mine] == run.aggregation).all()), "a run is mixed")
        need(at == r, "the runs do not cover the rows in order")
        self._verify_blocks(need)
        low = -1 - len(self.constants)
        need(bool(((self.packed >= low) & (self.packed < g.n_params)).all()), "a bad packed code")
        for s in (self.single, self.batch):
            if s.slots is not None:
                need(_keeps(self, s, position), "a slot is written before its last reader")
        self._verify_functions(need)

    def _verify_functions(self, need: Callable[[bool, str], None]) -> None:
        names = [wanted.name for wanted in self.functions]
        need(len(set(names)) == len(names), "a function is wanted twice")
        for wanted in self.functions:
            name, schedule = wanted.name, self.backward_batch if wanted.batch else self.backward
            need(name in FUNCTIONS, f"no function {name}")
            need(name in FORWARD or name == "update" or schedule is not None,
                 f"{name} has no schedule")
            need(bool(wanted.loss and wanted.optimizer) == (name in TRAINING),
                 f"a loss and an optimizer are for training, not for {name}")
            if name in FUNCTIONS and name.endswith("_kept"):
                need(keeper(name) in names[: names.index(name)],
                     f"{name} has nothing that was kept")
                need(schedule is not None and schedule.form != "straight" and not wanted.recompute,
                     f"{name} is no loop of one block")
        need("forward_batch" not in names or "forward" in names, "forward_batch without forward")
        need("forward" not in names or "pack" in names or bool((self.packed < 0).all()),
             "forward without pack, and not all parameters are constants")

    def _verify_blocks(self, need: Callable[[bool, str], None]) -> None:
        g, r, n_blocks = self.graph, len(self.rows), len(self.blocks) - 1
        ends = [(s.first, s.last) for s in self.segments]
        need([a for a, _ in ends] == [0, *[b for _, b in ends]][: len(ends)]
             and (ends[-1][1] if ends else 0) == n_blocks and all(a < b for a, b in ends),
             "the segments do not cover the blocks in order")
        counts, lengths = np.diff(self.blocks), np.diff(self.starts)
        need(self.blocks[0] == 0 and self.blocks[-1] == r and bool((counts > 0).all())
             and bool((counts <= self.sizes).all()), "the blocks do not cover the rows in order")
        for s in self.segments:
            lo, hi = self.blocks[s.first], self.blocks[s.last]
            need(bool((lengths[lo:hi] == s.fan_in).all()), "a segment has rows of other fan-ins")
            need(any(run.first <= lo and hi <= run.last for run in self.runs),
                 "a segment crosses a run")
        leader = self.blocks[self.block_of]
        for s in self.segments:
            need((s.last - s.first) % s.side == 0, "a segment is not whole sides")
            lead = np.arange(s.first, s.last)
            lead = lead - (lead - s.first) % s.side
            lo, hi = self.blocks[s.first], self.blocks[s.last]
            leader[lo:hi] = self.blocks[lead[self.block_of[lo:hi] - s.first]]
        sources = g.sources[self.edges]
        same = csr.ranges(self.starts[leader], lengths)
        need(bool((sources == sources[same]).all()), "a block's rows read other sources")
        if len(self.weights):
            need(bool((self.packed[self.weight_places] == g.weights[self.edges]).all()),
                 "a weight is not where its block has it")
            biases, places = g.biases[self.rows], self.bias_places
            has = biases != NONE
            need(bool((places[has] >= 0).all()
                      and (self.packed[places[has]] == biases[has]).all()),
                 "a bias is not where its block has it")

    def run(self, x: NDArray[Any], params: NDArray[Any] | None = None, dtype: str = "f32",
            numerics: str = "fused") -> NDArray[Any]:
        """y of x, (n_inputs,) or (batch, n_inputs), through the slots of `single` or of `batch`."""
        g = self.graph
        e = Numpy(dtype, numerics != "strict")
        real = e.const(0.0).dtype
        samples = np.atleast_2d(np.asarray(x, real))
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
        wanted = set(g.outputs.tolist())
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
        columns = [inputs[o] if g.activations[o] == INPUT else y[o] for o in g.outputs.tolist()]
        out = np.stack(columns, axis=1).astype(real)
        return out if np.ndim(x) == 2 else out[0]


def _keeps(plan: Plan, schedule: Schedule, position: Longs) -> bool:
    """Whether each slot holds a value from its row (an input: the start) to its last reader."""
    g, slots = plan.graph, schedule.slots
    assert slots is not None
    reader = csr.owners(plan.starts)
    until = position.copy()
    np.maximum.at(until, g.sources[plan.edges], reader)
    if schedule.form != "straight":
        until[g.outputs] = len(plan.rows)
    held = np.flatnonzero(slots >= 0)
    # A row may take the slot of a value that it is the last to read: it stores after its loads.
    # A block of rows may not, and it writes all the slots for which it has room.
    slot, written, last = slots[held], position[held], until[held]
    if schedule.form != "straight" and len(plan.rows):
        sizes, first = plan.sizes, plan.blocks[:-1]
        early = np.where(sizes > 1, first - 1, first)
        row = position[held]
        written = np.where(row < 0, row, early[plan.block_of[np.maximum(row, 0)]])
        room = sizes - np.diff(plan.blocks)
        wide = np.flatnonzero((room > 0) & (slots[plan.rows[first]] >= 0))
        spare = csr.ranges(slots[plan.rows[plan.blocks[wide + 1] - 1]] + 1, room[wide])
        at = np.repeat(early[wide], room[wide])
        slot, written, last = (np.concatenate(pair) for pair in
                               ((slot, spare), (written, at), (last, at)))
        begins = slots[plan.rows[first]][plan.block_of]
        side = np.arange(len(plan.rows)) - plan.blocks[plan.block_of]
        if not bool((slots[plan.rows] == begins + side)[sizes[plan.block_of] > 1].all()):
            return False
    if len(slot) and slot.max() >= schedule.work:
        return False
    order = np.lexsort((written, slot))
    slot, written, last = slot[order], written[order], last[order]
    same = slot[1:] == slot[:-1]
    return bool((written[1:] >= last[:-1])[same].all())
