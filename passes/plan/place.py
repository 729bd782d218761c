"""A slot in `work` for each neuron, reused after its last reader."""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import groupby

import numpy as np

from ncc.ir.graph import Ints, Longs
from ncc.ir.plan import Plan, Schedule

PART = 1024  # rows that are looked at together: arrays of all edges would take the most memory


def place(plan: Plan) -> Plan:
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
    register allocation", on one array instead of registers). In the table form inputs are copied
    into the first slots, and outputs stay until they are copied out; in every form, so do values
    that the next call reads. Blocks of rows that share
    their sources have consecutive slots, behind all others, for all the rows that they have room
    for; those are free again after the level that reads the last of them. So is every slot where
    loops compute the rows of a level in another order (`plan.phased`).
    """
    single = _scan(plan, plan.single)
    if plan.batch.form == single.form:
        batch = Schedule(single.form, plan.batch.why, single.slots, single.work)
    else:
        batch = _scan(plan, plan.batch)
    each = None if plan.each is None else _scan(plan, plan.each)
    return plan.with_(single=single, batch=batch, each=each)


def _scan(plan: Plan, schedule: Schedule) -> Schedule:
    graph, n_rows = plan.graph, len(plan.rows)
    # Positions ascend, so the last assignment to a source is its last reader.
    last = np.full(graph.n_neurons, -1, np.int64)
    for part in range(0, n_rows, PART):
        rows = np.arange(part, min(part + PART, n_rows))
        begin, end = plan.starts[part], plan.starts[rows[-1] + 1]
        last[graph.sources[plan.edges[begin:end]]] = np.repeat(rows, np.diff(plan.starts)[rows])
    slots = np.full(graph.n_neurons, -1, np.int32)
    looped = schedule.form != "straight"
    held = graph.states[graph.activations[graph.states] >= 0]
    last[held] = n_rows  # what is read in the next call is stored at the end
    if looped:
        last[graph.results] = n_rows
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
    levels = np.append(plan.graph.levels[plan.rows], plan.graph.n_neurons)
    readers = np.maximum.reduceat(last[plan.rows], plan.blocks[:-1])[wide]
    born = levels[plan.blocks[wide]]
    until = np.where(readers < 0, born, np.maximum(levels[readers], born))
    rooms = plan.sizes[wide].tolist()
    dies: dict[int, list[int]] = {}  # by level: the blocks that nothing reads above it
    for k, level in enumerate(until.tolist()):
        dies.setdefault(level, []).append(k)
    begins = [0] * len(wide)
    holes: list[tuple[int, int]] = []  # free stretches below `end`, ascending, not adjacent
    end = used
    pending = deque(sorted(dies))
    for level, members in groupby(range(len(wide)), born.tolist().__getitem__):
        back: list[tuple[int, int]] = []
        while pending and pending[0] < level:
            back += [(begins[k], begins[k] + rooms[k]) for k in dies[pending.popleft()]]
        holes = _joined(holes + back)
        tried: dict[int, int] = {}  # by room: no hole before this one is large enough
        for k in members:
            room = rooms[k]
            h = tried.get(room, 0)
            while h < len(holes) and holes[h][1] - holes[h][0] < room:
                h += 1
            tried[room] = h
            if h < len(holes):
                begins[k] = holes[h][0]
                holes[h] = (holes[h][0] + room, holes[h][1])
            else:
                begins[k], end = end, end + room
    first = np.zeros(len(plan.sizes), np.int64)
    first[wide] = begins
    side = np.arange(len(plan.rows)) - plan.blocks[plan.block_of]
    mine = np.flatnonzero(plan.sizes[plan.block_of] > 1)
    slots[plan.rows[mine]] = first[plan.block_of[mine]] + side[mine]
    return end


def _joined(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for first, last in sorted(stretches):
        if out and out[-1][1] == first:
            out[-1] = (out[-1][0], last)
        elif first < last:
            out.append((first, last))
    return out
