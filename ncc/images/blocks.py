"""Images of many nets side by side, for a sample of its own each: rows as lanes.

The rows of a chunk of nets are sorted by level, kind and fan-in, whatever their net, and cut into
blocks of WIDTH rows, which a vector's lanes compute at once. A block is a row of data, as an image
(ncc/images/image.py) is:

    bounds    (levels * kinds + 1) words: the first block of each level's blocks of each kind
    edges     (blocks + 1) words: the first turn of each block; in a turn each row takes an edge
    sources   (turns * WIDTH) words: the values that edges read
    outs      (nets * outputs) words: the values that are outputs, net by net
    biases    (blocks * WIDTH) reals
    counts    (blocks * WIDTH) reals: the edges of each row
    weights   (turns * WIDTH) reals

The values are ZERO and ONE, two constants; the inputs, net by net; `state` values, which are the
rows of the step before where nets are recurrent; and the rows. Recurrent nets may have levels all
the same: an edge into a later level reads the value of this step, any other that of the step
before. A row of fewer edges than its block
has turns takes edges that leave its aggregate as it is, to the bit: 0 * -0 to a sum, a mean or a
dot, 1 * 1 to a product or a quotient, its last edge again to a greatest or least one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.images.image import Parameters, Placed, placed
from ncc.images.kinds import Kinds
from ncc.images.union import Union
from ncc.ir.csr import ranges, starts, within
from ncc.ir.graph import Graph, Longs
from ncc.ir.ssa import DTYPES
from ncc.scalar.aggregations import PAIRS, SUMS

WIDTH: Final = {"f32": 16, "f64": 8}  # rows: a vector of 64 bytes, on every target
CHUNK: Final = 256  # nets: their values fit in the level-2 cache
PRODUCTS: Final = ("mul", "div")  # whose aggregate a factor of 1 leaves as it is
ZERO, ONE, FIXED = 0, 1, 2  # the numbers of the constants, and how many there are


class Head(NamedTuple):
    """The head of the blocks of a chunk, word by word: counts, and where the parts are, in words
    from the begin, biases, counts and weights in reals; `rows` is the number of the first row's
    value."""

    inputs: int
    outputs: int
    state: int
    levels: int
    bounds: int
    edges: int
    sources: int
    outs: int
    rows: int
    biases: int
    counts: int
    weights: int


AT: Final = {name: k for k, name in enumerate(Head._fields)}
HEAD: Final = 16  # words


class Blocks(NamedTuple):
    """The blocks of a chunk of nets: `block` is the memory, `values` how many values there are;
    `state` of them, from number `before` on, are of the step before, and `nets` is the net of each
    (-1 of what fills up a block)."""

    block: NDArray[np.uint8]
    values: int
    state: int
    before: int
    nets: Longs
    parameters: Parameters


class _Cut(NamedTuple):
    """Rows of a union in blocks: `row` is the lane of each, counted through all blocks, `bounds`
    the blocks of each level and kind, `first` the first turn of each block, `aggregations` what
    each block computes."""

    row: Longs
    bounds: Longs
    first: Longs
    aggregations: NDArray[np.str_]


def _cut(held: Placed, kinds: Kinds, width: int) -> _Cut:
    """Rows by level, kind and fan-in, each level's of a kind filled up to whole blocks."""
    n_kinds, n_rows = len(kinds.kinds), len(held.rows)
    group = held.levels * n_kinds + held.kinds
    sort = np.lexsort((held.lengths, group))
    groups = (int(held.levels.max(initial=-1)) + 1) * n_kinds
    sizes = np.bincount(group, minlength=groups)
    cells = -(-sizes // width)
    bounds = starts(cells)
    place = ranges(bounds[:-1] * width, sizes)
    lanes = np.zeros(int(bounds[-1]) * width, np.int64)  # the fan-in of each lane's row
    lanes[place] = held.lengths[sort]
    row = np.empty(n_rows, np.int64)
    row[sort] = place
    kind = np.repeat(np.arange(groups) % max(1, n_kinds), cells)
    return _Cut(row, bounds, starts(lanes.reshape(-1, width).max(axis=1, initial=0)),
                np.array([k.aggregation for k in kinds.kinds] or [""])[kind])


def blocks(many: Union, kinds: Kinds, dtype: str, recurrent: bool = False) -> Blocks:
    """The blocks of a union of nets, without values for their parameters. Where they are
    `recurrent`, an edge from a row reads the value of the step before, but into a later level.
    NccError E147 where a row is of none of the kinds."""
    g, held, width = many.graph, placed(many, kinds), WIDTH[dtype]
    row, bounds, first, aggregations = cut = _cut(held, kinds, width)
    real, n_blocks = np.dtype(DTYPES[dtype]), len(cut.first) - 1
    # The number of each neuron's value.
    n_in = len(g.inputs)
    state = n_blocks * width if recurrent else 0
    top = FIXED + n_in + state
    values = np.zeros(g.n_neurons, np.int64)
    values[g.inputs] = FIXED + np.arange(n_in)
    values[held.rows] = top + row
    read = values[g.sources[held.edges]]
    if recurrent:
        read = _read(g, held, values, row + FIXED + n_in)
    # Where each edge of the image's order goes: its row's lane, turn by turn.
    at = (np.repeat(first[row // width], held.lengths) + within(held.lengths)) * width + np.repeat(
        row % width, held.lengths)
    # The last edge again, where a row has fewer than its block has turns, and 0 * -0 and 1 * 1 do
    # not leave its aggregate as it is.
    left = np.diff(first)[row // width] - held.lengths
    left[np.isin(aggregations, (*SUMS, *PAIRS, *PRODUCTS))[row // width]] = 0
    again = np.repeat(np.cumsum(held.lengths) - 1, left)
    at = np.concatenate([at, at[again] + (within(left) + 1) * width])
    edges = np.concatenate([held.edges, held.edges[again]])
    product = np.repeat(np.repeat(np.isin(aggregations, PRODUCTS), np.diff(first)), width)
    sources = np.where(product, ONE, ZERO)
    sources[at] = np.append(read, read[again])
    counts = np.ones(n_blocks * width)
    counts[row] = held.lengths
    words = [bounds, first, sources, values[g.outputs]]
    places = HEAD + starts(np.array([len(w) for w in words]))
    parts = [np.zeros(n_blocks * width), counts, np.where(product, 1.0, -0.0)]
    begins = -(-4 * int(places[-1]) // real.itemsize) + starts(np.array([len(p) for p in parts]))
    block = np.zeros(int(begins[-1]) * real.itemsize, np.uint8)
    block.view(np.uint32)[: len(Head._fields)] = Head(
        inputs=n_in, outputs=len(g.outputs), state=state,
        levels=(len(bounds) - 1) // max(1, len(kinds.kinds)), bounds=int(places[0]),
        edges=int(places[1]), sources=int(places[2]), outs=int(places[3]), rows=top,
        biases=int(begins[0]), counts=int(begins[1]), weights=int(begins[2]))
    block.view(np.uint32)[HEAD : places[-1]] = np.concatenate(words)
    block.view(real)[begins[0] : begins[-1]] = np.concatenate(parts)
    nets = np.full(state, -1, np.int64)
    if recurrent:
        nets[row] = held.nets
    return Blocks(block, top + n_blocks * width, state, FIXED + n_in, nets, Parameters(
        np.concatenate([begins[0] + row, begins[2] + at]),
        np.concatenate([g.biases[held.rows], g.weights[edges]]), g.constants, dtype))


def _read(g: Graph, held: Placed, values: Longs, before: Longs) -> Longs:
    """What each edge of recurrent nets reads: `values` (neurons,) have the number of each neuron's
    value, `before` (rows,) that of each row's of the step before."""
    old = values.copy()
    old[held.rows] = before
    sources = g.sources[held.edges]
    if g.levels is None:
        return old[sources]
    later = np.repeat(g.levels[held.rows], held.lengths) > g.levels[sources]
    return np.where(later, values[sources], old[sources])
