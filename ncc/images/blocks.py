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
rows of the step before where nets are recurrent; and the rows. A row of fewer edges than its block
has turns takes edges that leave its aggregate as it is, to the bit: 0 * -0 to a sum or a mean,
1 * 1 to a product, its last edge again to a greatest or least one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.images.image import placed, reals
from ncc.images.kinds import Kinds
from ncc.images.union import Union
from ncc.ir.graph import Longs, Reals
from ncc.ir.ssa import DTYPES

WIDTH: Final = {"f32": 16, "f64": 8}  # rows: a vector of 64 bytes, on every target
CHUNK: Final = 256  # nets: their values fit in the level-2 cache
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


def blocks(many: Union, kinds: Kinds, dtype: str, params: Reals, recurrent: bool = False
           ) -> Blocks:
    """The blocks of a union of nets, with the parameters of the union. Where they are `recurrent`,
    each edge from a row reads the value of the step before; levels are of no meaning then.
    NccError E147 where a row is of none of the kinds."""
    g, held, width = many.graph, placed(many, kinds, flat=recurrent), WIDTH[dtype]
    real, n_kinds, n_rows = np.dtype(DTYPES[dtype]), len(kinds.kinds), len(held.rows)
    # Rows by level, kind and fan-in; then each group is filled up to whole blocks.
    group = held.levels * n_kinds + held.kinds
    sort = np.lexsort((held.lengths, group))
    group, lengths = group[sort], held.lengths[sort]
    groups = (int(held.levels.max(initial=-1)) + 1) * n_kinds
    sizes = np.bincount(group, minlength=groups)
    cells = -(-sizes // width)
    bounds = np.concatenate([[0], np.cumsum(cells)])
    place = np.arange(n_rows) + np.repeat(bounds[:-1] * width - (np.cumsum(sizes) - sizes), sizes)
    n_blocks = int(bounds[-1])
    lanes = np.zeros(n_blocks * width, np.int64)  # the fan-in of each lane's row
    lanes[place] = lengths
    turns = lanes.reshape(n_blocks, width).max(axis=1, initial=0)
    first = np.concatenate([[0], np.cumsum(turns)])
    # The number of each neuron's value.
    n_in = len(g.inputs)
    state = n_blocks * width if recurrent else 0
    top = FIXED + n_in + state
    values = np.zeros(g.n_neurons, np.int64)
    values[g.inputs] = FIXED + np.arange(n_in)
    row = np.empty(n_rows, np.int64)
    row[sort] = place
    values[held.rows] = top + row
    read = values.copy()
    if recurrent:
        read[held.rows] = FIXED + n_in + row
    # Where edge k of the union's order goes: its row's lane, turn by turn.
    own = np.repeat(row, held.lengths)
    ends = np.cumsum(held.lengths)
    turn = np.arange(len(held.edges)) - np.repeat(ends - held.lengths, held.lengths)
    at = (first[own // width] + turn) * width + own % width
    kind = np.repeat(np.arange(groups) % max(1, n_kinds), cells)  # of each block
    aggregations = np.array([k.aggregation for k in kinds.kinds] or [""])[kind]
    product = np.repeat(np.repeat(aggregations == "mul", turns), width)
    sources = np.where(product, ONE, ZERO)
    weights = np.where(product, 1.0, -0.0)
    sources[at] = read[g.sources[held.edges]]
    weights[at] = reals(g.weights[held.edges], g.constants, params)
    # The last edge again.
    chosen = ~np.isin(aggregations, ("sum", "mean", "mul"))[row // width]
    mine, left = row[chosen], (turns[row // width] - held.lengths)[chosen]
    again = np.arange(int(left.sum())) - np.repeat(np.cumsum(left) - left, left)
    last = np.repeat((first[mine // width] + held.lengths[chosen] - 1) * width + mine % width, left)
    sources[last + (again + 1) * width] = sources[last]
    weights[last + (again + 1) * width] = weights[last]
    biases = np.zeros(n_blocks * width)
    biases[row] = reals(g.biases[held.rows], g.constants, params)
    counts = np.ones(n_blocks * width)
    counts[row] = held.lengths
    words: list[Longs] = [bounds, first, sources, values[g.outputs]]
    starts = HEAD + np.concatenate([[0], np.cumsum([len(w) for w in words])])
    begin = -(-4 * int(starts[-1]) // real.itemsize)
    parts = [biases, counts, weights]
    begins = begin + np.concatenate([[0], np.cumsum([len(p) for p in parts])])
    block = np.zeros(-(-int(begins[-1]) * real.itemsize // 64) * 64, np.uint8)
    block.view(np.uint32)[: len(Head._fields)] = Head(
        inputs=n_in, outputs=len(g.outputs), state=state, levels=groups // max(1, n_kinds),
        bounds=int(starts[0]), edges=int(starts[1]), sources=int(starts[2]), outs=int(starts[3]),
        rows=top, biases=int(begins[0]), counts=int(begins[1]), weights=int(begins[2]))
    block.view(np.uint32)[HEAD : starts[-1]] = np.concatenate(words)
    with np.errstate(over="ignore"):
        block.view(real)[begin : begins[-1]] = np.concatenate(parts)
    nets = np.full(state, -1, np.int64)
    nets[row[: len(row) * recurrent]] = held.nets[: len(row) * recurrent]
    return Blocks(block, top + n_blocks * width, state, FIXED + n_in, nets)
