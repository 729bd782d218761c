"""The readers of each value: the in-lists of a plan transposed, as the backward pass walks them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import Ints, Longs
from ncc.ir.plan import Plan
from ncc.passes.lower.reverse.layout import (
    Arrays,
    Checkpoints,
    Edges,
    Elements,
    Flags,
    Once,
    Routes,
    RowClasses,
    once,
)


@dataclass(frozen=True, eq=False)
class Readers:
    """Lists of readers: for each row those in its own stage, in `order`; then for each stage the
    values from outside that it reads (with one stage: all inputs, whose adjoints are dx).

    The edges of all lists stand in one array: first the whole unrolled iterations of all lists, one
    list after another as they are walked, so that memory is read from end to end; then what is left
    of them. In a list the last reader comes first.

    order    (R)    rows in the order in which the backward pass walks those of a class
    outside         values that stages read from outside, stage by stage
    stages   (C+1)  where those of each stage begin, after the rows
    starts   (L)    for each list where its iterations begin
    rounds   (L)    how many they are
    rests    (L+1)  where what is left of it begins
    edges    (G)    the edges (positions in the plan's)
    n_whole         of how many of them whole iterations are made

    Where lists repeat, there are no iterations, and `once` has of all lists the elements of the
    readers, and where the weights stand in `packed`; else it is None.
    """

    order: Longs
    outside: Longs
    stages: Longs
    starts: Longs
    rounds: Longs
    rests: Longs
    edges: Ints
    n_whole: int
    once: tuple[Once, Once] | None

    def groups(self, classes: RowClasses) -> Longs:
        """What is left of the lists of each class, then of those of each stage: where it begins."""
        rests: Longs = self.rests[np.concatenate([classes.firsts, len(self.order) + self.stages])]
        return rests

    def counts(self, plan: Plan, classes: RowClasses) -> Longs:
        """How many edges are left of the lists of each class and stage whose gradient is wanted: of
        weights that are all constant that of none."""
        groups = self.groups(classes)
        wanted = csr.starts(plan.graph.weights[plan.edges[self.edges[self.n_whole:]]] >= 0)
        some = np.diff(wanted[groups - self.n_whole]) > 0
        return np.where(some, np.diff(groups), 0)

    def arrays(self, plan: Plan, edges: Edges, classes: RowClasses, elements: Elements) -> Arrays:
        own, inputs = elements.own, np.arange(len(plan.graph.inputs))
        walk = {"order": self.order, "order_places": np.append(own[self.order], inputs)}
        if self.once is not None:
            return {**walk, "reader_counts": np.diff(self.rests),
                    **self.once[0].arrays("readers", "reader_starts", "reader_bases"),
                    **self.once[1].arrays("reader_edges", "weight_starts", "weight_bases")}
        return {**walk, "reader_starts": self.starts, "reader_rounds": self.rounds,
                "reader_rests": self.rests, "readers": own[edges.reader[self.edges]],
                "reader_edges": plan.weight_places[self.edges],
                "rest_sources": elements.read[self.edges[self.n_whole:]],
                "group_rests": self.groups(classes)[:-1]}

    def stage_arrays(self, elements: Elements) -> Arrays:
        return {"import_starts": self.stages, "import_slots": elements.adjoint[self.outside]}


def readers_of(plan: Plan, edges: Edges, classes: RowClasses, routes: Routes,
               checkpoints: Checkpoints, elements: Elements, unroll: int) -> Readers:
    """The lists of the edges that are gathered, `unroll` readers an iteration (0: one by one)."""
    n_rows, n_in = len(plan.rows), len(plan.graph.inputs)
    gathered, keys = _by_list(n_rows, n_in, edges, routes, checkpoints, elements)
    outside = np.unique(keys[np.searchsorted(keys, n_rows):])
    stages = np.arange(len(checkpoints) + 1)
    if len(checkpoints) == 1:
        outside, stages = n_rows + np.arange(n_in), np.array([0, n_in])
    else:
        stages = np.searchsorted((outside - n_rows) // (n_in + n_rows), stages)
    listed = np.concatenate([np.arange(n_rows), outside])
    begins = np.searchsorted(keys, listed)
    counts = np.searchsorted(keys, listed, side="right") - begins
    # The lists of a class by length: the machine predicts loops of one length after another. But
    # rows that scatter go from the last one on.
    order = np.lexsort((-np.arange(n_rows) if routes.scatters else counts[:n_rows],
                        classes.per_row(n_rows)))
    lists = np.concatenate([order, np.arange(n_rows, len(counts))])
    begins, counts = begins[lists], counts[lists]
    gathered = gathered[csr.ranges(begins, counts)]
    slots = once(csr.starts(counts), elements.own.astype(np.int32)[edges.reader[gathered]])
    found = None
    if slots.bases is not None:
        unroll = 0
        found = slots, once(csr.starts(counts), plan.weight_places[gathered])
    whole = counts // unroll * unroll if unroll else np.zeros_like(counts)
    rest = csr.within(counts) >= np.repeat(whole, counts)
    gathered = np.concatenate([gathered[~rest], gathered[rest]])
    n_whole = int(whole.sum())
    return Readers(order, (outside - n_rows) % (n_in + n_rows), stages, np.cumsum(whole) - whole,
                   whole // max(1, unroll),
                   n_whole + csr.starts(counts - whole), gathered, n_whole, found)


def _by_list(n_rows: int, n_in: int, edges: Edges, routes: Routes, checkpoints: Checkpoints,
             elements: Elements) -> tuple[Ints, Longs]:
    """The edges that are gathered, by their lists, in each the last one first, and a number for the
    list of each: the row that it reads, or, behind all rows, a stage and a value from outside."""
    gathered = np.flatnonzero(routes.gathered)[::-1].astype(np.int32)
    source = edges.source[gathered]
    keys = checkpoints.of_row[edges.reader[gathered]]
    keys *= n_in + n_rows
    keys += source + n_rows
    np.subtract(source, n_in, out=keys, where=elements.inside[gathered])
    by = np.argsort(keys, kind="stable")
    return gathered[by], keys[by]


def seed_arrays(plan: Plan, edges: Edges, elements: Elements, stages: int) -> Arrays:
    """The outputs as readers: `seeds` has their adjoints in the order of their values."""
    n_in, n_rows = len(plan.graph.inputs), len(plan.rows)
    outputs = edges.number[plan.graph.outputs]
    by_value = np.argsort(outputs, kind="stable")
    counts = np.bincount(outputs, minlength=n_in + n_rows)
    at = elements.adjoint if stages > 1 else np.concatenate([np.arange(n_in), elements.own])
    return {"seed_starts": csr.starts(counts), "output_places": at[outputs],
            "seed_places": at[outputs][by_value], "seed_ranks": np.argsort(by_value)}


def unread_inputs(plan: Plan, edges: Edges) -> Flags:
    """Whether each input has no reader, and is no output."""
    n_in = len(plan.graph.inputs)
    read = np.zeros(n_in, bool)
    for values in (edges.source, edges.number[plan.graph.outputs]):
        read[values[values < n_in]] = True
    return ~read
