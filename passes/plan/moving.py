"""Slots of plans whose depths repeat, as those of the steps of an RNN do: each step has the slots
of the one before, moved on as far as its inputs are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import Ints, Longs
from ncc.ir.plan import Plan

LEAST = 4  # times that depths repeat
LONG = 8  # periods: what is read later is held until the end
TOGETHER = 8  # rows by themselves that stay neighbours, as loops go through so many at a time
MOST = 256  # pieces of a period, and of what is around the periods


class Steps(NamedTuple):
    """Depths that repeat: from `level` on `times` times the same `length` depths, of `rows` rows
    each from row `first` on. Inputs `inputs` + t*`move` .. are read in period t; none, if they do
    not `move`."""

    level: int
    length: int
    times: int
    first: int
    rows: int
    inputs: int
    move: int


class Piece(NamedTuple):
    """Neighbours in `work`, of `room` slots: rows (positions in a period, or of the plan), written
    at depth `born` and read up to depth `until`, which are counted in the same way."""

    rows: Longs
    room: int
    born: int
    until: int


def moving_slots(plan: Plan, last: Longs) -> Iterator[Ints]:
    """Slots of all neurons where depths repeat, the best first; none where they do not. In some
    values may meet. `last` (N): the last row that reads each neuron, as in `place`.

    A step's values have the slots just before its inputs, where those of earlier steps were, which
    nobody reads any more. So a list of sources of one step is that of the step before, moved. Else
    those of all steps have the same slots, before all inputs.
    """
    levels = plan.graph.levels
    assert levels is not None
    depth = 1 + np.unique(levels[plan.rows], return_inverse=True)[1].astype(np.int64)
    until = np.append(depth, depth.max(initial=0) + 1)[last]
    until[last < 0] = 0
    until[plan.rows] = np.maximum(until[plan.rows], depth)
    found = _steps(plan, depth)
    if found is None:
        return
    for move in dict.fromkeys((found.move, 0)):
        steps = found._replace(move=move, inputs=found.inputs if move else 0)
        pieces, steps = _pieces(plan, steps, depth, until)
        if not 0 < len(pieces) <= MOST:
            continue
        framed = _frame(steps, pieces, _inputs_end(plan, steps, until),
                        len(plan.graph.inputs) - steps.inputs)
        if framed is None:
            continue
        least = min(0, steps.inputs + int(framed[0].min()))
        slots = np.full(plan.graph.n_neurons, -1, np.int64)
        slots[plan.graph.inputs] = np.arange(len(plan.graph.inputs)) - least
        times = np.arange(steps.times)[:, None]
        for piece, begin, by in zip(pieces, *[array.tolist() for array in framed], strict=True):
            rows = plan.rows[steps.first + times * steps.rows + piece.rows]
            slots[rows] = begin + steps.inputs - least + times * by + np.arange(len(piece.rows))
        made = _around(plan, steps, depth, until, slots)
        if made is not None:
            yield made


def _steps(plan: Plan, depth: Longs) -> Steps | None:
    """The depths that repeat most often, if they are half of all."""
    g = plan.graph
    firsts = csr.borders(depth)
    blocks = np.searchsorted(plan.blocks, firsts)
    numbers = [np.diff(plan.blocks), plan.sizes, np.diff(plan.starts)[plan.blocks[:-1]],
               g.activations[plan.rows[plan.blocks[:-1]]],
               g.aggregations[plan.rows[plan.blocks[:-1]]], plan.weights, plan.biases]
    flat = np.stack(numbers, axis=1).astype(np.int32).ravel()
    count = len(firsts) - 1
    keys = csr.representatives(blocks * len(numbers), flat, np.arange(count))
    found = csr.periods(keys, max(1, count // 2))
    if not found or found[0][2] < LEAST:
        return None
    level, length, times = found[0]
    first, rows = int(firsts[level]), int(firsts[level + length] - firsts[level])
    number = np.full(g.n_neurons, -1, np.int64)
    number[g.inputs] = np.arange(len(g.inputs))
    edges = plan.edges[plan.starts[first] : plan.starts[first + rows * times]]
    read = number[g.sources[edges]].reshape(times, -1)
    apart = np.diff(read, axis=0)
    even = (read >= 0).all(axis=0) & (apart == apart[0]).all(axis=0) & (apart[0] > 0)
    if not even.any():
        return Steps(int(depth[first]), length, times, first, rows, 0, 0)
    moves, often = np.unique(apart[0, even], return_counts=True)
    move = int(moves[np.argmax(often)])
    inputs = int(read[0, even & (apart[0] == move)].min())
    return Steps(int(depth[first]), length, times, first, rows, inputs, move)


def _lives(plan: Plan, steps: Steps, until: Longs) -> Longs:
    """Up to which depth the block of each row of a period is read, counted from where the period
    begins; behind LONG periods where that is the end of the net."""
    rows = plan.rows[steps.first : steps.first + steps.rows * steps.times]
    begin = steps.level + np.arange(steps.times)[:, None] * steps.length
    life = until[rows].reshape(steps.times, -1) - begin
    inside = life + begin < steps.level + steps.times * steps.length
    most = np.where(inside, life, -1).max(axis=0)
    held = ~inside[: (steps.times + 1) // 2].all(axis=0)
    lives = np.where(held | (most > LONG * steps.length), (LONG + 1) * steps.length, most)
    block = plan.block_of[steps.first : steps.first + steps.rows]
    found: Longs = np.maximum.reduceat(lives, csr.borders(block)[:-1])[block - block[0]]
    return found


def _pieces(plan: Plan, steps: Steps, depth: Longs, until: Longs) -> tuple[list[Piece], Steps]:
    """The pieces of a period; of several that are one, where what is read in the next one, or later
    still, takes more slots than a period moves on, and is not cut."""
    mine = slice(steps.first, steps.first + steps.rows)
    wide = plan.sizes[plan.block_of[mine]] > 1
    lives, born = _lives(plan, steps, until), depth[mine] - steps.level
    _, group, count = np.unique(np.stack([wide, born, lives], axis=1), axis=0,
                                return_inverse=True, return_counts=True)
    room = np.where(wide, plan.sizes[plan.block_of[mine]],
                    np.minimum(count[group.reshape(-1)], TOGETHER))
    large = (lives >= born + steps.length) & (room > steps.move)
    more = np.where(large, (lives - born) // steps.length + 1, 1)
    forever = large & (lives > LONG * steps.length)
    more[forever] = _ahead(room[forever], steps.move) if steps.move else 1
    most = int(more.max(initial=1))
    if 0 < steps.move < np.count_nonzero(lives > LONG * steps.length):
        # What is held fills several regions; whole pieces leave an eighth of each at most.
        while most * steps.move // TOGETHER * TOGETHER * 8 < most * steps.move * 7:
            most += 1
    steps = steps._replace(length=steps.length * most, times=steps.times // most,
                           rows=steps.rows * most, move=steps.move * most)
    if steps.times < LEAST:
        return [], steps
    mine = slice(steps.first, steps.first + steps.rows)
    lives, born = _lives(plan, steps, until), depth[mine] - steps.level
    # Rows by themselves in the order of their neurons; blocks as they are, neighbours together.
    block = plan.block_of[mine] + 1
    full = plan.sizes[block - 1] == np.diff(plan.blocks)[block - 1]
    order = np.where(plan.sizes[block - 1] > 1, np.arange(steps.rows), plan.rows[mine])
    block[full & (lives < born + steps.length)] = -1
    block[plan.sizes[plan.block_of[mine]] == 1] = 0
    order = np.lexsort((order, np.where(block > 0, 0, lives), block, born))
    cuts = csr.borders(born[order], block[order], np.where(block > 0, 0, lives)[order])
    pieces = []
    for a, b in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        rows = order[a:b]
        first, life = int(born[rows[0]]), int(lives[rows].max())
        if block[rows[0]] > 0:
            size = int(plan.sizes[block[rows[0]] - 1])
            pieces.append(Piece(rows, size, first, life))
            continue
        # Those of the next period are written before these are free.
        part = len(rows)
        if life >= first + steps.length and part > steps.move > 0:
            part = max(1, steps.move // TOGETHER) * TOGETHER
        pieces += [Piece(rows[k : k + part], len(rows[k : k + part]), first, life)
                   for k in range(0, len(rows), part)]
    return pieces, steps


def _inputs_end(plan: Plan, steps: Steps, until: Longs) -> int:
    """Up to which depth the inputs of a period are read, counted from where it begins."""
    mine = plan.graph.inputs[steps.inputs : steps.inputs + steps.times * steps.move]
    period = np.arange(len(mine)) // max(1, steps.move)
    return int((until[mine] - steps.level - period * steps.length).max(initial=0))


def _frame(steps: Steps, pieces: list[Piece], end: int, above: int) -> tuple[Longs, Longs] | None:
    """Where each piece of the first period begins, counted from its inputs, which are read up to
    depth `end`: as high as can be; and how far those of each period are moved on. What is held
    until the end lies behind all that moves on, or `above` all inputs."""
    begins, forever = np.zeros(len(pieces), np.int64), (LONG + 1) * steps.length
    placed = [k for k, piece in enumerate(pieces) if piece.until < forever]
    held = [k for k, piece in enumerate(pieces) if piece.until >= forever]
    spans = np.array([piece[1:] for piece in pieces])  # room, born, until
    for count, k in enumerate(placed):
        room, born, until = spans[k].tolist()
        top = _ahead(born - end, steps.length) * steps.move - room
        others = placed[:count]
        low = _ahead(born - spans[others, 2], steps.length)
        times = np.maximum((until - spans[others, 1]) // steps.length + 1 - low, 0)
        at = np.repeat(begins[others] + low * steps.move, times) + csr.within(times) * steps.move
        ends = at + np.repeat(spans[others, 0], times)
        for first, last in sorted(zip(ends.tolist(), at.tolist(), strict=True), reverse=True):
            if last - room < top < first:
                top = last - room
        begins[k] = top
    total = int(spans[held, 0].sum())
    moves = np.full(len(pieces), steps.move)
    if not steps.move:
        begins[held], moves[held] = above + csr.starts(spans[held, 0])[:-1], total
        return begins, moves
    if (spans[held, 0] > steps.move).any():
        return None
    # The first region moves on behind all others.
    born = int(spans[held, 1].min(initial=steps.length))
    ahead = _ahead(born - np.append(spans[placed, 2], end), steps.length) * steps.move
    room, free = steps.move, int((np.append(begins[placed], 0) + ahead).min()) - steps.move
    for k in held:
        if pieces[k].room > room:
            above, free, room = above + steps.times * steps.move, above, steps.move
        begins[k], free, room = free, free + pieces[k].room, room - pieces[k].room
    return begins, moves


def _ahead(depths: Any, length: int) -> Any:
    """How many periods are as many depths, or more."""
    return -(-depths // length)


def _around(plan: Plan, steps: Steps, depth: Longs, until: Longs, slots: Longs) -> Ints | None:
    """The slots of all, if the periods and the inputs have `slots`: each block of the other rows,
    and those by themselves of a depth, are where nothing is as long as they are read."""
    n_inputs = len(plan.graph.inputs)
    inside = np.zeros(len(plan.rows), np.bool_)
    inside[steps.first : steps.first + steps.rows * steps.times] = True
    rows = np.flatnonzero(inside)
    wide = plan.sizes[plan.block_of] > 1
    whole = rows[~wide[rows] | (plan.blocks[plan.block_of[rows]] == rows)]
    room = np.where(wide[whole], plan.sizes[plan.block_of[whole]], 1)
    ends = until[plan.rows]
    if wide.any():
        ends = np.maximum.reduceat(ends, plan.blocks[:-1])[plan.block_of]
    neurons = np.concatenate([plan.graph.inputs, plan.rows[whole]])
    taken = np.stack([slots[neurons], np.concatenate([np.ones(n_inputs, np.int64), room]),
                      np.concatenate([np.zeros(n_inputs, np.int64), depth[whole]]),
                      np.concatenate([until[plan.graph.inputs], ends[whole]])], axis=1)
    others = np.flatnonzero(~inside)
    block = np.where(wide[others], plan.block_of[others] + 1, 0)
    order = np.lexsort((np.where(block > 0, others, plan.rows[others]), block,
                        np.where(block > 0, 0, ends[others]), depth[others]))
    others, block = others[order], block[order]
    cuts = csr.borders(depth[others], block, np.where(block > 0, 0, ends[others]))
    if len(cuts) > MOST:
        return None
    for a, b in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        mine = others[a:b]
        size = int(plan.sizes[plan.block_of[mine[0]]]) if block[a] else len(mine)
        born, end = int(depth[mine[0]]), int(ends[mine].max())
        met = taken[(taken[:, 2] <= end) & (taken[:, 3] >= born)]
        met = met[np.argsort(met[:, 0], kind="stable")]
        high = np.append(0, np.maximum.accumulate(met[:, 0] + met[:, 1]))
        fits = np.append(met[:, 0] - high[:-1] >= size, True)
        begin = int(high[np.argmax(fits)])
        slots[plan.rows[mine]] = begin + np.arange(len(mine))
        taken = np.concatenate([taken, [[begin, size, born, end]]])
    return slots.astype(np.int32)
