"""Kinds of rows, and the turns in which the loops of a forward pass go through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ncc.ir.graph import Longs
from ncc.ir.plan import Plan, Run

SHORT = 3  # rows: of segments that are shorter on average, each row has a loop of its own


class Kind(NamedTuple):
    """Rows with one activation and one aggregation: their segments, and where those of each turn
    begin and end: among all, or, if they are `listed`, among these."""

    run: Run
    name: str
    segments: Longs
    first: Longs
    last: Longs
    listed: bool = False


class Turn(NamedTuple):
    """The turn that open loops are at (ops): its number, and, where turns are gone through several
    times, how often they were before."""

    at: int
    time: int | None = None


def spans(keys: Longs, wanted: Longs) -> tuple[Longs, Longs]:
    """Where each of the `wanted` keys begins and ends in ascending `keys`."""
    return np.searchsorted(keys, wanted), np.searchsorted(keys, wanted, "right")


def short(kind: Kind, segments: Longs) -> bool:
    """Whether segments of this kind have so few rows that each row has a loop of its own."""
    counts = segments[kind.segments, 1] - segments[kind.segments, 0]
    return (not kind.listed and bool((segments[kind.segments, 2] == 1).all())
            and int(counts.sum()) < SHORT * len(counts))


def stretches(plan: Plan, segments: Longs) -> Iterator[tuple[int, list[Kind]]]:
    """The kinds of rows, in loops of so many turns: where each kind's segments follow one
    another, each has a loop of its own of one turn; else all take turns, depth by depth, so
    that the code of a kind stands once however often it returns."""
    levels = plan.graph.levels
    assert levels is not None
    first = plan.blocks[segments[:, 0]]
    run_of = np.searchsorted([run.first for run in plan.runs], first, side="right") - 1
    keys = [(run.activation, run.aggregation) for run in plan.runs]
    names = {key: k for k, key in enumerate(sorted(dict.fromkeys(keys)))}
    number = np.array([names[key] for key in keys], np.int64)[run_of]
    runs = {key: run for key, run in zip(keys, plan.runs, strict=True)}
    alternate = np.count_nonzero(np.diff(number)) >= len(names)
    # Every turn goes through the kinds in their order, as the rows of a depth do.
    turn = np.zeros(len(first), np.int64)
    if alternate:
        turn = np.unique(levels[plan.rows[first]], return_inverse=True)[1]
    count = int(turn.max(initial=-1)) + 1
    made = []
    for key, k in names.items():
        mine = np.flatnonzero(number == k)
        order = np.arange(count + 1)
        bounds = np.searchsorted(turn * len(names) + number, order * len(names) + k)
        ends = np.searchsorted(turn * len(names) + number, order * len(names) + k, "right")
        if not alternate:
            bounds, ends = mine[:1], mine[-1:] + 1
        made.append(Kind(runs[key], f"{k}", mine, bounds[:count], ends[:count]))
    if alternate:
        yield count, made
    else:
        yield from ((1, [kind]) for kind in sorted(made, key=lambda kind: kind.first[0]))
