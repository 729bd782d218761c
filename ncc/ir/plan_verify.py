"""The verifier of the plan level; its rules stand at `Plan.verify`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ncc.ir import csr
from ncc.ir.graph import NONE, Longs
from ncc.ir.plan_types import (
    EACH,
    FORMS,
    FORWARD,
    FUNCTIONS,
    JACOBIAN,
    TRAINING,
    PlanArrays,
    Schedule,
    evaluation_order,
    first_uses,
    keeper,
    packed_codes,
    packed_starts,
)

# What is wrong, and with which part: a field, or number k of the "run", "segment", "tile", "row".
Fault = tuple[str, str, int]


def faults(plan: PlanArrays) -> Iterator[Fault]:
    """What is wrong with a plan; what comes after a fault may be none, for later rules trust the
    earlier ones."""
    yield from _arrays(plan)
    yield from _rows(plan)
    yield from _runs(plan)
    yield from _segments(plan)
    yield from _packed(plan)
    yield from _schedules(plan)
    yield from _functions(plan)


def _first(bad: NDArray[np.bool_], message: str, part: str) -> Iterator[Fault]:
    """The fault of the first of the parts, if any, that are bad."""
    yield from ((message, part, k) for k in np.flatnonzero(bad)[:1].tolist())


def _arrays(plan: PlanArrays) -> Iterator[Fault]:
    for name, dtype in (("rows", np.int32), ("starts", np.int64), ("edges", np.int32),
                        ("blocks", np.int64), ("packed", np.int32), ("weights", np.int64),
                        ("biases", np.int64)):
        array = getattr(plan, name)
        if array.dtype != dtype or array.ndim != 1:
            yield f"{name} is no vector of {np.dtype(dtype)}", "plan", 0
    if plan.graph.levels is None:
        yield "the neurons of its graph have no depths", "plan", 0


def _rows(plan: PlanArrays) -> Iterator[Fault]:
    g, rows = plan.graph, plan.rows
    n, r = g.n_neurons, len(rows)
    yield from _first((rows < 0) | (rows >= n), "no such neuron", "row")
    yield from _first(g.activations[rows] < 0, "an input or an absent neuron is no row", "row")
    alive = np.flatnonzero(g.activations >= 0).astype(np.int32)
    seen = np.zeros(n, np.int64)
    np.add.at(seen, rows, 1)
    yield from _first(seen[rows] > 1, "a neuron has two rows", "row")
    if r != len(alive):
        yield f"neuron {np.setdiff1d(alive, rows)[0]:02x} has no row", "plan", 0
    first = csr.representatives(g.starts, g.sources, alive, g.activations, g.aggregations)
    yield from _first(rows != alive[evaluation_order(g, alive, first)],
                      "it is out of order: rows go by depth, activation, aggregation, fan-in, "
                      "in-list and index", "row")
    lengths = np.diff(g.starts)[rows]
    if not np.array_equal(plan.starts, csr.starts(lengths)) or (
            len(plan.edges) != plan.starts[-1]):
        yield "the rows have other numbers of edges than the in-lists", "plan", 0
    wrong = np.zeros(r, np.bool_)
    own = csr.ranges(g.starts[rows], lengths)
    wrong[csr.owners(plan.starts)[plan.edges != own]] = True
    yield from _first(wrong, "its edges are not its in-list", "row")
    position = np.full(n, -1, np.int64)
    position[rows] = np.arange(r)
    wrong[csr.owners(plan.starts)[position[g.sources[own]] >= csr.owners(plan.starts)]] = True
    yield from _first(wrong, "it reads a later row", "row")


def _runs(plan: PlanArrays) -> Iterator[Fault]:
    g, at = plan.graph, 0
    acts, aggs = g.activations[plan.rows], g.aggregations[plan.rows]
    biased = set(aggs[g.biases[plan.rows] != NONE].tolist())
    for k, run in enumerate(plan.runs):
        if run.first != at or not at < run.last <= len(plan.rows):
            yield "the runs do not cover the rows in order", "run", k
        at = run.last
        if not bool((acts[run.first : at] == run.activation).all()
                    and (aggs[run.first : at] == run.aggregation).all()):
            yield "a run is mixed, or of another kind", "run", k
        if k and plan.runs[k - 1][2:4] == run[2:4]:
            yield "two runs that follow one another are of one kind", "run", k
        if run.biased != (run.aggregation in biased):
            yield "a run is biased where a row with its aggregation has a bias", "run", k
    if at != len(plan.rows):
        yield "the runs do not cover the rows in order", "plan", 0


def _segments(plan: PlanArrays) -> Iterator[Fault]:
    g, at, lengths = plan.graph, 0, np.diff(plan.starts)
    counts, levels = np.diff(plan.blocks), g.levels
    assert levels is not None
    if plan.blocks[:1].tolist() != [0] or plan.blocks[-1] != len(plan.rows):
        yield "the blocks do not cover the rows in order", "plan", 0
    yield from _first(counts <= 0, "a block without rows", "tile")
    run_of = np.repeat(np.arange(len(plan.runs)), [run.last - run.first for run in plan.runs])
    representative = np.zeros(len(plan.rows), np.int64)
    for k, s in enumerate(plan.segments):
        if s.first != at or not at < s.last <= len(counts):
            yield "the segments do not cover the blocks in order", "segment", k
        at, low, high = s.last, int(plan.blocks[s.first]), int(plan.blocks[s.last])
        if s.rows < 1 or s.side < 1 or (s.rows == 1 and s.side > 1):
            yield "rows by themselves share no in-list", "segment", k
        if (lengths[low:high] != s.fan_in).any():
            yield "a segment has rows of other fan-ins", "segment", k
        if run_of[low] != run_of[high - 1]:
            yield "a segment crosses a run", "segment", k
        if len(np.unique(levels[plan.rows[low:high]])) > 1:
            yield "a segment has rows of two depths", "segment", k
        if k and plan.segments[k - 1][2:] == s[2:] and run_of[low - 1] == run_of[low] and (
                levels[plan.rows[low - 1]] == levels[plan.rows[low]]):
            yield "two segments that follow one another are of one shape", "segment", k
        if (s.last - s.first) % s.side:
            yield f"its tiles are not whole groups of {s.side} that share an in-list", "segment", k
        large = np.flatnonzero(counts[s.first : at] > s.rows)[:1]
        yield from (("a tile has more rows than its segment says", "tile", s.first + b)
                    for b in large.tolist())
        lead = np.arange(s.first, at)
        lead -= (lead - s.first) % s.side
        representative[low:high] = np.repeat(plan.blocks[lead], counts[s.first : at])
    if at != len(counts):
        yield "the segments do not cover the blocks in order", "plan", 0
    sources = g.sources[plan.edges]
    other = sources != sources[csr.ranges(plan.starts[representative], lengths)]
    wrong = np.zeros(len(plan.rows), np.bool_)
    wrong[csr.owners(plan.starts)[other]] = True
    yield from _first(wrong, "it reads other sources than the rows that it shares a tile with",
                      "row")


def _packed(plan: PlanArrays) -> Iterator[Fault]:
    packed = plan.packed
    if not plan.looped:
        if len(plan.weights) or len(plan.biases):
            yield "unrolled code has no blocks of weights and biases", "weights", 0
        if not np.array_equal(packed, first_uses(plan)):
            yield "packed is not the parameters that are used, by their first use", "packed", 0
        return
    weights, biases, length = packed_starts(plan)
    if len(packed) != length:
        yield f"packed has {len(packed)} elements, and the tiles take {length}", "packed", 0
    if not np.array_equal(plan.weights, weights):
        yield ("the weights of each tile stand behind those of the tile before, or where a tile "
               "before has the same"), "weights", 0
    if not np.array_equal(plan.biases, biases):
        yield ("the biases of each tile stand behind all weights, by run, or where a tile before "
               "has the same"), "biases", 0
    if not np.array_equal(packed, packed_codes(plan, weights, biases, length)):
        yield "a weight or bias is not where its tile has it", "packed", 0


def _schedules(plan: PlanArrays) -> Iterator[Fault]:
    forms = {plan.single.form, plan.batch.form}
    named = {"single": plan.single, "batch": plan.batch, "backward": plan.backward,
             "backward_batch": plan.backward_batch, "each": plan.each, "jacobian": plan.jacobian}
    for name, schedule in named.items():
        if schedule is not None and schedule.form not in FORMS:
            yield f"no form {schedule.form}", name, 0
    if forms == {"table", "shared"}:
        yield "a table's weights are packed in another order than shared ones", "batch", 0
    if "table" in forms and bool((plan.sizes > 1).any()):
        yield "a table has no tiles of several rows", "single", 0
    if (plan.backward is None) != (plan.backward_batch is None):
        yield "a backward function of one sample wants one of a batch, and the other way", "plan", 0
    for name in ("backward", "backward_batch", "jacobian"):
        schedule = named[name]
        if schedule is not None and (schedule.slots is not None or schedule.work):
            yield "backward functions have no slots of work in a plan", name, 0
    for name in ("batch", "each"):
        schedule = named[name]
        if schedule is not None and (plan.single.slots is None) != (schedule.slots is None):
            yield "one function is placed, and the other is not", name, 0
    position = _positions(plan)
    for name in ("single", "batch", "each"):
        schedule = named[name]
        if schedule is None:
            continue
        if schedule.slots is not None:
            yield from ((message, name, 0) for message in _places(plan, schedule, position))
        elif schedule.work:
            yield "slots of work that nothing has", name, 0


def _positions(plan: PlanArrays) -> Longs:
    """The row of each neuron; -1 of inputs, as many as there are neurons of those without one."""
    g = plan.graph
    position = np.full(g.n_neurons, g.n_neurons, np.int64)
    position[g.inputs] = -1
    position[plan.rows] = np.arange(len(plan.rows))
    return position


def _places(plan: PlanArrays, schedule: Schedule, position: Longs) -> Iterator[str]:
    """What is wrong with the slots of a schedule."""
    g, slots = plan.graph, schedule.slots
    assert slots is not None
    if slots.dtype != np.int32 or slots.shape != (g.n_neurons,) or (slots < -1).any():
        yield "slots of work are one for each neuron, or none"
        return
    if (slots[position == g.n_neurons] >= 0).any():
        yield "an absent neuron has a slot"
    if schedule.form == "straight":
        needs = np.zeros(g.n_neurons, np.bool_)
        needs[g.sources[plan.edges]] = True
        needs[g.inputs] = False
        if (slots[g.inputs] >= 0).any():
            yield "unrolled code keeps no inputs in work"
        if (slots[needs] < 0).any():
            yield "a value that is read has no slot"
    else:
        if (np.diff(slots[g.inputs]) != 1).any():
            yield "the inputs have slots one after another in loops"
        if (slots[plan.rows] < 0).any():
            yield "a row has no slot, and loops store every row"
    if not keeps(plan, schedule):
        yield "a slot is written before its last reader, or lies outside work"


def keeps(plan: PlanArrays, schedule: Schedule) -> bool:
    """Whether each slot holds a value from its row (an input: the start) to its last reader, and
    `work` is as many slots as there are."""
    g, slots, position = plan.graph, schedule.slots, _positions(plan)
    assert slots is not None and g.levels is not None
    until = position.copy()
    np.maximum.at(until, g.sources[plan.edges], csr.owners(plan.starts))
    levels, looped = g.levels[plan.rows], schedule.form != "straight"
    held = np.flatnonzero(slots >= 0)
    if looped and plan.phased:  # the rows of a depth are computed in any order
        inner = (until >= 0) & (until < len(plan.rows))  # neither unread nor absent
        until[inner] = np.searchsorted(levels, levels[until[inner]], "right") - 1
    until[g.states[position[g.states] >= 0]] = len(plan.rows)
    if looped:
        until[g.results] = len(plan.rows)
    # A row may take the slot of a value that it is the last to read: it stores after its loads.
    # A block of rows may not, and it writes all the slots for which it has room.
    slot, written, last = slots[held], position[held], until[held]
    if looped and len(plan.rows):
        sizes, first = plan.sizes, plan.blocks[:-1]
        early = np.where(sizes > 1, first - 1, first)
        if plan.phased:
            early = np.searchsorted(levels, levels[first], "left") - 1
        row = position[held]
        written = np.where(row < 0, row, early[plan.block_of[np.maximum(row, 0)]])
        room = sizes - np.diff(plan.blocks)
        wide = np.flatnonzero(room > 0)
        spare = csr.ranges(slots[plan.rows[plan.blocks[wide + 1] - 1]] + 1, room[wide])
        at = np.repeat(early[wide], room[wide])
        slot, written, last = (np.concatenate(pair) for pair in
                               ((slot, spare), (written, at), (last, at)))
        inside = np.arange(len(plan.rows)) - plan.blocks[plan.block_of]
        together = slots[plan.rows] == slots[plan.rows[first]][plan.block_of] + inside
        if not bool(together[sizes[plan.block_of] > 1].all()):
            return False
    if schedule.work != slot.max(initial=-1) + 1:
        return False
    # Of two that are written at once, such as an input that nothing reads and a row of the first
    # depth, the one that goes at once is the first.
    order = np.lexsort((last, written, slot))
    slot, written, last = slot[order], written[order], last[order]
    same = slot[1:] == slot[:-1]
    return bool((written[1:] >= last[:-1])[same].all())


def _functions(plan: PlanArrays) -> Iterator[Fault]:
    names = [wanted.name for wanted in plan.functions]
    problems = []

    def need(good: bool, message: str) -> None:
        if not good:
            problems.append((message, "functions", 0))

    need(len(set(names)) == len(names), "a function is wanted twice")
    for wanted in plan.functions:
        name, schedule = wanted.name, plan.backward_batch if wanted.batch else plan.backward
        schedule = plan.jacobian if name in JACOBIAN else schedule
        need(name in FUNCTIONS, f"no function {name}")
        need((name in (*FORWARD, "each", "update") or schedule is not None)
             and (name not in EACH or plan.each is not None), f"{name} has no schedule")
        need(bool(wanted.loss and wanted.optimizer) == (name in TRAINING)
             and bool(wanted.loss) == bool(wanted.optimizer),
             f"a loss and an optimizer are for training, not for {name}")
        alone = (*FORWARD, *EACH, *JACOBIAN)
        need(wanted.recompute >= 0 and (not wanted.recompute or name not in alone),
             f"{name} computes nothing again")
        if name in FUNCTIONS and name.endswith("_kept"):
            need(keeper(name) in names[: names.index(name)], f"{name} has nothing that was kept")
            need(schedule is not None and schedule.form != "straight" and not wanted.recompute,
                 f"{name} is no loop of one block")
    need("forward_batch" not in names or "forward" in names, "forward_batch without forward")
    stateful = len(plan.graph.states) > 0
    need(stateful or not {"reset", "steps"} & {*names}, "reset or steps of a net without states")
    need("steps" not in names or "forward" in names, "steps without forward")
    need(not stateful or {*names} <= {*FORWARD, "each"} and plan.backward is None
         and plan.jacobian is None,
         "a net with states goes forward only")
    need("forward" not in names or "pack" in names or bool((plan.packed < 0).all()),
         "forward without pack, and not all parameters are constants")
    yield from problems
