"""The image of the way back: what an engine wants beside the image of a net to make gradients.

A block of words of 32 bits. Its head is HEAD words: those of `Head`, the rest 0. Then, each where
the head says (a value is numbered as in ncc/images/image.py, and is an element of `work`; V values,
R rows, G edges that a gradient goes through, in the lists below)

    whole         (V + 1) words: where each value's list of readers begins, in iterations of
                  `unroll` edges: as many of its edges as fill whole ones
    remainders    (V + 1) words: where what is left of each list begins, behind all of those
    readers       (G) words: the element of `work` with the part that an edge gets: the delta of
                  its row, or, where a row's edges get different parts, one of its own
    edges         (G) words: where in the image the weight of each edge is, in reals
    sources       (G) words: the value that it reads
    ordered       (levels + 2) words: where the edges begin whose gradients are summed in order
                  (ncc/scalar/sum_order.py), by the level of the value that they read, inputs first
    ordered_readers, ordered_sources   words: the same of those edges
    seeds         (V + 1) words: where in `outs` each value's outputs begin
    outs          (outputs) words: the outputs, by value
    parts         (R) words: where in `work` the parts of a row's edges begin, where they differ
    elements      (parameters) words: the element with the gradient of each that has one alone; of
                  the others that behind the last, which has -0
    tied          where in `tied_elements` those of a parameter that has several begin, and that
                  parameter, in pairs; one more begin is last
    tied_elements words
    reals         words: for each of the image's reals, from its first bias on, its number among the
                  parameters, -0, and the constants, from the last (`table`)

A gradient has an element for each of the G edges, in their order, for each row (of its bias), for
the loss, and for each ordered edge; and one more. In `work` are the values, then, where the head
says, the arguments of activations, the seeds, the parts, what stands before each factor of a
product, and the adjoints of a level's rows.
"""

from __future__ import annotations

import zlib
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.images.image import ALIGN, Placed, Words, parts, placed
from ncc.images.kinds import Kinds
from ncc.images.union import union
from ncc.ir.csr import starts, within
from ncc.ir.graph import NONE, SUM_CODES, Graph, Longs
from ncc.ir.graph_run import documented

MAGIC: Final = 0x4243434E  # "NCCB"
VERSION: Final = 1
HEAD: Final = 32  # words
PARTS: Final = ("whole", "remainders", "readers", "edges", "sources", "ordered", "ordered_readers",
                "ordered_sources", "seeds", "outs", "parts", "elements", "tied", "tied_elements",
                "reals")


class Head(NamedTuple):
    """The head, word by word: `size` in bytes, the checksum as in ncc/images/image.py. Where the
    parts are, in words; counts of G, parameters, pairs; elements of `work`; elements."""

    magic: int
    version: int
    size: int
    checksum: int
    unroll: int
    whole: int
    remainders: int
    readers: int
    edges: int
    sources: int
    ordered: int
    ordered_readers: int
    ordered_sources: int
    seeds: int
    outs: int
    parts: int
    elements: int
    tied: int
    tied_elements: int
    reals: int
    n_edges: int
    n_params: int
    n_tied: int
    n_reals: int
    work_sums: int
    work_seeds: int
    work_before: int
    work_pulled: int
    work_size: int
    n_elements: int


AT: Final = {name: k for k, name in enumerate(Head._fields)}


def back(graph: Graph, kinds: Kinds, dtype: str, unroll: int) -> Words:
    """The image of the way back of a graph that has levels, whose image is for these kinds;
    `unroll` edges at a time. NccError E147 where a row is of none of them."""
    assert graph.levels is not None
    held = placed(union([graph]), kinds)
    n_in, n_rows, n_edges = len(graph.inputs), len(held.rows), len(held.edges)
    n_values = n_in + n_rows
    live, prefixes, _ = documented(graph, graph.levels, dtype)
    live_rows = held.values[live] - n_in
    fan_in = held.lengths
    row_of = np.repeat(np.arange(n_rows), fan_in)
    position = within(fan_in)
    source = held.values[graph.sources[held.edges]]
    # The parts of edges: the delta of their row, or elements of their own.
    additive = np.isin(graph.aggregations[held.rows], SUM_CODES)
    own = np.where(additive, 0, fan_in)
    sums = n_values
    seeds = sums + n_rows
    first_part = seeds + len(graph.outputs)
    own_parts = first_part + np.cumsum(own) - own
    before = first_part + int(own.sum())
    pulled = before + int(own.max(initial=0))
    widest = int(np.bincount(held.levels + 1).max(initial=0))
    reader = np.where(additive[row_of], n_in + row_of, own_parts[row_of] + position)
    # Each value's readers: the last row first, and in it the last edge.
    counts = fan_in[live_rows]
    edges = (np.repeat(held.starts[:-1][live_rows], counts) + within(counts))[::-1]
    edges = edges[np.argsort(_narrow(source[edges], n_values), kind="stable")]
    lengths = np.bincount(source[edges], minlength=n_values)
    whole = lengths // unroll * unroll
    in_whole = within(lengths) < np.repeat(whole, lengths)
    edges = np.concatenate([edges[in_whole], edges[~in_whole]])
    n_whole = int(whole.sum())
    # Those that are summed in order have elements of their own, behind the loss's.
    prefix = np.zeros(n_rows, np.int64)
    prefix[live_rows] = prefixes
    ordered = np.flatnonzero(position < prefix[row_of])
    level = np.zeros(n_values, np.int64)
    level[n_in:] = held.levels + 1
    ordered = ordered[np.argsort(level[source[ordered]], kind="stable")]
    ordered_starts = np.searchsorted(level[source[ordered]],
                                     np.arange(int(level.max(initial=0)) + 2))
    element = np.full(n_edges, -1, np.int64)
    element[edges] = np.arange(len(edges))
    element[ordered] = len(edges) + n_rows + 1 + np.arange(len(ordered))
    alive = np.zeros(n_rows, np.bool_)
    alive[live_rows] = True
    n_elements = len(edges) + n_rows + 1 + len(ordered)
    elements, tied, tied_elements = _sums(graph, held, element, np.where(
        alive, len(edges) + np.arange(n_rows), -1), n_elements)
    outs = held.values[graph.outputs]
    weights = parts(kinds, int(held.levels.max(initial=-1)) + 1, n_rows, n_edges, len(outs),
                    dtype).weights
    codes = np.concatenate([graph.biases[held.rows], graph.weights[held.edges]])
    # Codes index `table`, negative ones from its end.
    reals = np.where(codes >= 0, codes, np.where(
        codes == NONE, graph.n_params, graph.n_params + 1 + len(graph.constants) + codes))
    made = {
        "whole": starts(whole // unroll), "remainders": n_whole + starts(lengths - whole),
        "readers": reader[edges], "edges": weights + edges, "sources": source[edges],
        "ordered": ordered_starts, "ordered_readers": reader[ordered],
        "ordered_sources": source[ordered],
        "seeds": starts(np.bincount(outs, minlength=n_values)),
        "outs": np.argsort(outs, kind="stable"), "parts": own_parts, "elements": elements,
        "tied": tied, "tied_elements": tied_elements, "reals": reals}
    return _block(made, {
        "unroll": unroll, "n_edges": len(edges), "n_params": graph.n_params,
        "n_tied": len(tied) // 2, "n_reals": len(reals), "work_sums": sums, "work_seeds": seeds,
        "work_before": before, "work_pulled": pulled, "work_size": pulled + widest,
        "n_elements": n_elements})


def _block(made: dict[str, NDArray[Any]], numbers: dict[str, int]) -> Words:
    """The parts in their order, behind a head with these numbers."""
    places, end = {}, HEAD
    for name in PARTS:
        places[name] = end
        end += len(made[name])
    block = np.zeros(-(-4 * end // ALIGN) * ALIGN // 4, np.uint32)
    block[: len(Head._fields)] = Head(magic=MAGIC, version=VERSION, size=block.nbytes, checksum=0,
                                      **places, **numbers)
    for name in PARTS:
        block[places[name] : places[name] + len(made[name])] = made[name]
    block[AT["checksum"]] = zlib.crc32(block.data)
    return block


def _narrow(values: Longs, end: int) -> NDArray[Any]:
    """Values below `end`, in as few bits as numpy sorts in linear time, if they fit."""
    return values.astype(np.uint16) if end <= 1 << 16 else values


def _sums(graph: Graph, held: Placed, edges: Longs, biases: Longs, none: int
           ) -> tuple[Longs, Longs, Longs]:
    """`elements`, `tied` and `tied_elements`, of the element of each edge and bias, -1 where it has
    none."""
    of_edges = np.empty(graph.n_edges, np.int64)
    of_edges[held.edges] = edges
    of_neurons = np.full(graph.n_neurons, -1, np.int64)
    of_neurons[held.rows] = biases
    codes = np.insert(graph.weights, graph.starts[1:], graph.biases)
    elements = np.insert(of_edges, graph.starts[1:], of_neurons)
    used = (codes >= 0) & (elements >= 0)
    codes, elements = codes[used], elements[used]
    counts = np.bincount(codes, minlength=graph.n_params)
    alone = np.full(graph.n_params, none, np.int64)
    alone[codes] = elements
    alone[counts > 1] = none
    shared = np.flatnonzero(counts[codes] > 1) if (counts > 1).any() else np.zeros(0, np.int64)
    codes, elements = codes[shared], elements[shared]
    by = np.argsort(codes, kind="stable")
    codes, elements = codes[by], elements[by]
    first = np.flatnonzero(np.diff(codes, prepend=-1))
    tied = np.stack([first, codes[first]], 1).reshape(-1)
    return alone, np.append(tied, len(codes)), elements


def table(graph: Graph, params: NDArray[Any]) -> NDArray[Any]:
    """What codes index: params (n_params,), -0, and the constants from the last."""
    return np.concatenate([params, [-0.0], graph.constants[::-1]])
