"""A slot in `work` for each neuron, reused after its last reader."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from ncc.plan import Plan, Schedule


def place(plan: Plan) -> Plan:
    """Give every value that is read from memory a slot: as many as the net's widest cut.

        04 <- 00 01                     04 <- 00 01  single[0]
        05 <- 04               =>       05 <- 04  single[0]
        06 <- 05                        06 <- 05

    A linear scan over the rows: a slot is free again at the row that reads it last, which may
    itself take it, since a row stores after its loads (Poletto & Sarkar 1999, "Linear scan
    register allocation", on one array instead of registers). In the table form inputs are copied
    into the first slots, and outputs stay until they are copied out.
    """
    single = _scan(plan, plan.single)
    if plan.batch.form == single.form:
        batch = Schedule(single.form, plan.batch.why, single.slots, single.work)
    else:
        batch = _scan(plan, plan.batch)
    return plan.with_(single=single, batch=batch)


def _scan(plan: Plan, schedule: Schedule) -> Schedule:
    graph, n_rows = plan.graph, len(plan.rows)
    # Positions ascend, so the last assignment to a source is its last reader.
    last = np.full(graph.n_neurons, -1, np.int64)
    last[graph.sources[plan.edges]] = np.repeat(np.arange(n_rows), np.diff(plan.starts))
    slots = np.full(graph.n_neurons, -1, np.int32)
    table = schedule.form == "table"
    if table:
        last[graph.outputs] = n_rows
        slots[graph.inputs] = np.arange(len(graph.inputs))
    used = len(graph.inputs) if table else 0
    ends = last.tolist()
    rows = plan.rows.tolist()
    freed: list[list[int]] = [[] for _ in range(n_rows + 1)]
    free: list[int] = []
    if table:
        for i in graph.inputs.tolist():
            if ends[i] >= 0:
                freed[ends[i]].append(int(slots[i]))
            else:
                heappush(free, int(slots[i]))
    for at, j in enumerate(rows):
        for slot in freed[at]:
            heappush(free, slot)
        freed[at] = []
        if ends[j] < 0:
            # The table form stores every row; one that nothing reads keeps its slot for no time.
            if table:
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
    return Schedule(schedule.form, schedule.why, slots, used)
