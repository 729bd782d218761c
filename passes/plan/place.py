"""A slot in `work` for each neuron, reused after its last reader."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import groupby, pairwise

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import Ints, Longs
from ncc.ir.plan import Plan, Schedule
from ncc.ir.plan_verify import keeps
from ncc.passes.plan.moving import moving_slots

# Rows that read alike have one list, moved, only where neighbours have slots that are neighbours.
# Where a scan leaves more than one neuron of so many apart, slots are given level by level, if so
# many times fewer are apart then, and at most so many times the slots are needed.
APART, FEWER, MORE = 64, 4, 2.5
ON = 1.3  # times the slots that are needed at most, where slots of steps move on
PART = 1024  # rows that are looked at together: arrays of all edges would take the most memory


def place(plan: Plan, *, native: int = 1) -> Plan:
    """Give every value that is read from memory a slot: as many as the net's widest cut.

        plan 4 neurons, 3 rows, 3 edges, 3 packed
        functions pack, forward, forward_batch
        single: straight, unplaced (asked for)
        batch: straight, unplaced (asked for)
        ...
        run activation 02 sum {
          01 <- 00
          02 <- 01
          03 <- 02
        }
        ...
        =>
        plan 4 neurons, 3 rows, 3 edges, 3 packed
        functions pack, forward, forward_batch
        single: straight, 1 slots of work (asked for)
        batch: straight, 1 slots of work (asked for)
        ...
        run activation 02 sum {
          01 <- 00  single[0] batch[0]
          02 <- 01  single[0] batch[0]
          03 <- 02
        }
        ...

    A linear scan over the rows: a slot is free again at the row that reads it last, which may
    itself take it, since a row stores after its loads (Poletto & Sarkar 1999, "Linear scan
    register allocation", on one array instead of registers). In loops inputs are copied into the
    first slots, and outputs stay until they are copied out; in every form, so do values
    that the next call reads. Blocks of rows that share
    their sources have consecutive slots, behind all others, for all the rows that they have room
    for; those are free again after the level that reads the last of them. So is every slot where
    loops compute the rows of a level in another order (`plan.phased`), and on machines with vectors
    (`native` lanes) where tiles of weights repeat and a scan leaves neighbours apart: then the rows
    of a level that are read up to the same level have consecutive slots, in the order of their
    neurons, so that windows of one shape read lists that are one list, moved. Where depths repeat,
    as those of the steps of an RNN do, the slots of a step are those of the step before, moved on
    (ncc/passes/plan/moving.py), if that takes few slots more; the first ones of the inputs then
    come behind those of a step.
    """
    single = _slots(plan, plan.single, native)
    if plan.batch.form == single.form:
        batch = Schedule(single.form, plan.batch.why, single.slots, single.work)
    else:
        batch = _slots(plan, plan.batch, native)
    each = None if plan.each is None else _slots(plan, plan.each, native)
    return plan.with_(single=single, batch=batch, each=each)


def _scan(plan: Plan, schedule: Schedule) -> Schedule:
    graph, n_rows = plan.graph, len(plan.rows)
    looped = schedule.form != "straight"
    last = _last_readers(plan, looped)
    slots = np.full(graph.n_neurons, -1, np.int32)
    if looped:
        slots[graph.inputs] = np.arange(len(graph.inputs))
    used = len(graph.inputs) if looped else 0
    ends = (_until_the_level_ends(plan, last) if looped and plan.phased else last).tolist()
    neurons = plan.rows.tolist()
    freed: list[list[int]] = [[] for _ in range(n_rows + 1)]
    free: list[int] = []
    if looped:
        for i in graph.inputs.tolist():
            if ends[i] >= 0:
                freed[ends[i]].append(int(slots[i]))
            else:
                heappush(free, int(slots[i]))
        alone = (plan.sizes[plan.block_of] == 1).tolist()
    for at, j in enumerate(neurons):
        for slot in freed[at]:
            heappush(free, slot)
        freed[at] = []
        if looped and not alone[at]:
            continue
        if ends[j] < 0:
            # The table form stores every row; one that nothing reads keeps its slot for no time.
            if looped:
                slot = free[0] if free else used
                slots[j] = slot
                used = max(used, slot + 1)
            continue
        if free:
            slot = heappop(free)
        else:
            slot, used = used, used + 1
        slots[j] = slot
        freed[ends[j]].append(slot)
    if looped:
        used = _blocks(plan, last, slots, used)
    return Schedule(schedule.form, schedule.why, slots, used)


def _last_readers(plan: Plan, looped: bool) -> Longs:
    """The position of the last row that reads each neuron, -1 where none does; behind all rows
    where the next call does, or `looped` code that copies results out at its end."""
    graph, n_rows = plan.graph, len(plan.rows)
    # Positions ascend, so the last assignment to a source is its last reader.
    last = np.full(graph.n_neurons, -1, np.int64)
    for part in range(0, n_rows, PART):
        rows = np.arange(part, min(part + PART, n_rows))
        begin, end = plan.starts[part], plan.starts[rows[-1] + 1]
        last[graph.sources[plan.edges[begin:end]]] = np.repeat(rows, np.diff(plan.starts)[rows])
    held = graph.states[graph.activations[graph.states] >= 0]
    last[held] = n_rows  # what is read in the next call is stored at the end
    if looped:
        last[graph.results] = n_rows
    return last


def _slots(plan: Plan, schedule: Schedule, native: int) -> Schedule:
    """The schedule with slots by a scan, or level by level where that keeps neighbours together."""
    found = _scan(plan, schedule)
    if native == 1 or found.form == "straight" or not plan.shares:
        return found
    assert found.slots is not None
    for moved in () if plan.phased else moving_slots(plan, _last_readers(plan, looped=True)):
        ends = moved[plan.rows[plan.blocks[:-1]]] + plan.sizes
        work = max(int(moved.max(initial=-1)) + 1, int(ends.max(initial=0)))
        made = Schedule(found.form, found.why, moved, work)
        if made.work <= ON * found.work and keeps(plan, made):
            return made
    alone = np.sort(plan.rows[plan.sizes[plan.block_of] == 1])
    apart = np.count_nonzero(np.diff(found.slots[alone]) != 1)
    if apart * APART < len(alone):
        return found
    slots, work = _by_level(plan, alone)
    if work > MORE * found.work or FEWER * np.count_nonzero(np.diff(slots[alone]) != 1) > apart:
        return found
    return Schedule(found.form, found.why, slots, work)


def _by_level(plan: Plan, alone: Ints) -> tuple[Ints, int]:
    """Slots of the inputs, of the rows `alone` in their blocks, which are given in the order of
    the neurons, and of blocks; and how many these are."""
    graph = plan.graph
    assert graph.levels is not None
    last = _last_readers(plan, looped=True)
    reader = np.append(graph.levels[plan.rows], graph.n_neurons)[last]
    until = np.maximum(np.where(last < 0, 0, reader), graph.levels)
    born = graph.levels[alone].astype(np.int64)
    order = np.lexsort((until[alone], born))
    alone, born = alone[order], born[order]
    cuts = csr.borders(born, until[alone])
    first, rooms = cuts[:-1], np.diff(cuts)
    n_inputs = len(graph.inputs)
    ends = until[graph.inputs]
    inputs = csr.borders(ends)
    held = [(a, b, int(ends[a])) for a, b in pairwise(inputs.tolist())]
    begins, used = _first_fit(born[first], until[alone[first]], rooms, n_inputs, held)
    slots = np.full(graph.n_neurons, -1, np.int32)
    slots[graph.inputs] = np.arange(n_inputs)
    slots[alone] = csr.ranges(begins, rooms)
    return slots, _blocks(plan, last, slots, used)


def _until_the_level_ends(plan: Plan, last: Longs) -> Longs:
    """The position of the row from which on each value may go: the first one of the level after
    that of its last reader, or, where nothing reads it, after its own."""
    assert plan.graph.levels is not None
    n_rows, found = len(plan.rows), last.copy()
    found[plan.rows] = np.where(last[plan.rows] < 0, np.arange(n_rows), last[plan.rows])
    levels = plan.graph.levels[plan.rows]
    after = np.searchsorted(levels, levels, "right")
    held = (found >= 0) & (found < n_rows)
    found[held] = after[found[held]]
    return found


def _blocks(plan: Plan, last: Longs, slots: Ints, used: int) -> int:
    """Give the blocks with room for several rows their slots from `used` up; the end of all."""
    wide = np.flatnonzero(plan.sizes > 1)
    if not len(wide):
        return used
    assert plan.graph.levels is not None
    leader = plan.rows[plan.blocks[wide]]  # in whose order those of a level lie
    wide = wide[np.lexsort((leader, plan.graph.levels[leader]))]
    levels = np.append(plan.graph.levels[plan.rows], plan.graph.n_neurons)
    readers = np.maximum.reduceat(last[plan.rows], plan.blocks[:-1])[wide]
    born = levels[plan.blocks[wide]]
    until = np.where(readers < 0, born, np.maximum(levels[readers], born))
    begins, end = _first_fit(born, until, plan.sizes[wide], used)
    first = np.zeros(len(plan.sizes), np.int64)
    first[wide] = begins
    side = np.arange(len(plan.rows)) - plan.blocks[plan.block_of]
    mine = np.flatnonzero(plan.sizes[plan.block_of] > 1)
    slots[plan.rows[mine]] = first[plan.block_of[mine]] + side[mine]
    return end


def _first_fit(born: Longs, until: Longs, rooms: Longs, end: int,
               held: Sequence[tuple[int, int, int]] = ()) -> tuple[Longs, int]:
    """Where pieces of so many slots begin, which are taken at ascending levels and free again
    behind the level `until`; the end of all. Below `end` all is taken, but what is `held` (from,
    to, until) only until a level."""
    dies: dict[int, list[tuple[int, int]]] = {}  # by level: what nothing reads above it
    for low, high, last in held:
        dies.setdefault(last, []).append((low, high))
    levels = iter(sorted({*dies, *until.tolist()}))
    begins = np.zeros(len(rooms), np.int64)
    holes: list[tuple[int, int]] = []  # free stretches below `end`, ascending, not adjacent
    gone = next(levels, None)
    for level, members in groupby(range(len(rooms)), born.tolist().__getitem__):
        back: list[tuple[int, int]] = []
        while gone is not None and gone < level:
            back += dies.get(gone, [])
            gone = next(levels, None)
        holes = _joined(holes + back)
        tried: dict[int, int] = {}  # by room: no hole before this one is large enough
        for k in members:
            room = int(rooms[k])
            h = tried.get(room, 0)
            while h < len(holes) and holes[h][1] - holes[h][0] < room:
                h += 1
            tried[room] = h
            if h < len(holes):
                begins[k] = holes[h][0]
                holes[h] = (holes[h][0] + room, holes[h][1])
            else:
                begins[k], end = end, end + room
            dies.setdefault(int(until[k]), []).append((int(begins[k]), int(begins[k]) + room))
    return begins, end


def _joined(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for first, last in sorted(stretches):
        if out and out[-1][1] == first:
            out[-1] = (out[-1][0], last)
        elif first < last:
            out.append((first, last))
    return out
