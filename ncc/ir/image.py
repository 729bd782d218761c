"""The image of a net: what an engine evaluates, one block of memory without pointers.

A block is words of 32 bits, little-endian, and reals behind them, and begins at a multiple of 64
bytes. Its head is HEAD words: those of `Head`, the rest 0. Then, each where the head says,

    bounds    (levels * kinds + 1) words: the first row of each level's rows of each kind; the last
              is the number of rows
    starts    (rows + 1) words: the first edge of each row
    sources   (edges) words: the values that edges read, by number; value k is input k, and row k is
              value inputs + k
    outs      (outputs) words: the values that are outputs
    biases    (rows) reals: of a row without one, what leaves its aggregate as it is: -0
    weights   (edges) reals

Rows are sorted by level, by kind, and by the graph's order, and edges as in-lists have them.
"""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, NONE, Graph, Ints, Longs, Reals
from ncc.ir.kinds import Kinds
from ncc.ir.ssa import DTYPES

MAGIC: Final = 0x4943434E  # "NCCI"
VERSION: Final = 1
HEAD: Final = 32  # words
ALIGN: Final = 64  # bytes
CODES: Final = {"f32": 1, "f64": 2}
Words = NDArray[np.uint32]


class Head(NamedTuple):
    """The head of an image, word by word. `size` is in bytes, and the checksum is the CRC-32 of
    all of them, this word counted as 0; `kinds` is their digest. Where the parts are: in words from
    the begin, biases and weights in reals."""

    magic: int
    version: int
    dtype: int
    size: int
    checksum: int
    kinds: int
    n_kinds: int
    inputs: int
    outputs: int
    rows: int
    edges: int
    levels: int
    bounds: int
    starts: int
    sources: int
    outs: int
    biases: int
    weights: int


AT: Final = {name: k for k, name in enumerate(Head._fields)}


class Order(NamedTuple):
    """How an image has a graph: `rows` are neurons, `edges` the graph's edges in the image's order,
    `starts` as in the image, `values` the number of each neuron's value (-1 where it has none),
    `bounds` as in the image."""

    rows: Longs
    edges: Longs
    starts: Longs
    values: Longs
    bounds: Longs


def order(graph: Graph, kinds: Kinds) -> Order:
    """The order of rows and edges in the image of a graph that has levels. NccError E147 where a
    row is of none of the kinds."""
    assert graph.levels is not None
    numbers = kinds.numbers(graph)
    rows = np.flatnonzero((graph.activations != INPUT) & (graph.activations != ABSENT))
    many = len(AGGREGATIONS)
    keys = graph.activations[rows].astype(np.int64) * many + graph.aggregations[rows]
    known = np.array(sorted([code * many + agg for agg, code in numbers]), np.int64)
    number = np.array([numbers[key % many, key // many] for key in known.tolist()], np.int64)
    kind = number[np.searchsorted(known, keys)]
    level = np.unique(graph.levels[rows], return_inverse=True)[1]
    place = level * len(kinds.kinds) + kind
    sort = np.argsort(place, kind="stable")
    rows, place = rows[sort], place[sort]
    levels = int(level.max(initial=-1)) + 1
    bounds = np.searchsorted(place, np.arange(levels * len(kinds.kinds) + 1))
    lengths = np.diff(graph.starts)[rows]
    starts = np.concatenate([[0], np.cumsum(lengths)])
    edges = np.arange(starts[-1]) + np.repeat(graph.starts[rows] - starts[:-1], lengths)
    values = np.full(graph.n_neurons, -1, np.int64)
    values[graph.inputs] = np.arange(len(graph.inputs))
    values[rows] = len(graph.inputs) + np.arange(len(rows))
    return Order(rows, edges, starts, values, bounds)


def reals(codes: Ints, constants: Reals, params: Reals) -> Reals:
    """The values that parameter codes have; -0 of NONE, which has none."""
    # Behind the parameters the constants, from the last: code -1-c is the c-th from the end.
    table = np.concatenate([params, [-0.0], constants[::-1]])
    return table[np.where(codes == NONE, len(params), codes)]


def biases_at(held: Order, outputs: int, dtype: str) -> int:
    """Where the biases of an image begin, in reals."""
    words = HEAD + len(held.bounds) + len(held.starts) + len(held.edges) + outputs
    item: int = np.dtype(DTYPES[dtype]).itemsize
    return -(-4 * words // item)


def image(graph: Graph, kinds: Kinds, dtype: str, params: Reals) -> NDArray[np.uint8]:
    """The image of a graph with levels, and params (n_params,) for its parameters. NccError E147
    where a row is of none of the kinds."""
    held = order(graph, kinds)
    real = np.dtype(DTYPES[dtype])
    parts = [held.bounds, held.starts, held.values[graph.sources[held.edges]],
             held.values[graph.outputs]]
    places = [HEAD]
    for part in parts:
        places.append(places[-1] + len(part))
    first = biases_at(held, len(graph.outputs), dtype)
    biases, weights = [reals(codes, graph.constants, params).astype(real)
                       for codes in (graph.biases[held.rows], graph.weights[held.edges])]
    end = first + len(biases) + len(weights)
    size = -(-end * real.itemsize // ALIGN) * ALIGN
    block = np.zeros(size, np.uint8)
    words = block.view(np.uint32)
    bounds, starts, sources, outs, _ = places
    words[: len(Head._fields)] = Head(
        magic=MAGIC, version=VERSION, dtype=CODES[dtype], size=size, checksum=0,
        kinds=kinds.digest, n_kinds=len(kinds.kinds), inputs=len(graph.inputs),
        outputs=len(graph.outputs), rows=len(held.rows), edges=len(held.edges),
        levels=(len(held.bounds) - 1) // max(1, len(kinds.kinds)), bounds=bounds, starts=starts,
        sources=sources, outs=outs, biases=first, weights=first + len(biases))
    for part, at in zip(parts, places, strict=False):
        words[at : at + len(part)] = part
    block.view(real)[first:end] = np.concatenate([biases, weights])
    words[AT["checksum"]] = zlib.crc32(block.data)
    return block
