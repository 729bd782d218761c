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
    weights   (edges) reals; that of a pair's second edge is 1

Rows are sorted by level, by kind, and by the graph's order, and edges as in-lists have them.
"""

from __future__ import annotations

import zlib
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.images.kinds import Kinds
from ncc.images.union import Union, union
from ncc.ir.csr import ranges, within
from ncc.ir.csr import starts as csr_starts
from ncc.ir.graph import NONE, Graph, Ints, Longs, Reals
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
    the begin, biases and weights in reals. Of many images, each is an array with a word of each."""

    magic: Any
    version: Any
    dtype: Any
    size: Any
    checksum: Any
    kinds: Any
    n_kinds: Any
    inputs: Any
    outputs: Any
    rows: Any
    edges: Any
    levels: Any
    bounds: Any
    starts: Any
    sources: Any
    outs: Any
    biases: Any
    weights: Any


AT: Final = {name: k for k, name in enumerate(Head._fields)}


class Parts(NamedTuple):
    """Where the parts of an image begin: in words, biases and weights in reals, and `end`, in
    reals, where they end. Of many images, arrays."""

    bounds: Any
    starts: Any
    sources: Any
    outs: Any
    biases: Any
    weights: Any
    end: Any


def parts(kinds: Kinds, levels: Any, rows: Any, edges: Any, outputs: int, dtype: str) -> Parts:
    """The parts of an image, of its counts; or of many images, of arrays of them."""
    starts = HEAD + levels * len(kinds.kinds) + 1
    sources = starts + rows + 1
    outs = sources + edges
    biases = -(-4 * (outs + outputs) // np.dtype(DTYPES[dtype]).itemsize)
    return Parts(HEAD, starts, sources, outs, biases, biases + rows, biases + rows + edges)


class Placed(NamedTuple):
    """How images have a union of nets: `rows` are its neurons, net by net in the image's order,
    `lengths` their fan-in, `levels` from 0 in each net, `kinds` the numbers of their kinds; `edges`
    are the union's in that order; `values` are the number that each neuron's value has in its net
    (-1 where it has none); `nets` is the net of each row."""

    rows: Longs
    nets: Longs
    levels: Longs
    kinds: Longs
    lengths: Longs
    edges: Longs
    values: Longs

    @property
    def starts(self) -> Longs:
        """The first edge of each row, and the end."""
        return csr_starts(self.lengths)


def placed(many: Union, kinds: Kinds) -> Placed:
    """The order of rows and edges in the images of nets; without levels, all rows are at one.
    NccError E147 where a row is of none of the kinds."""
    g = many.graph
    rows, nets = many.rows()
    kind = kinds.of(g, rows)
    level = np.zeros(len(rows), np.int64)
    if g.levels is not None:
        level += g.levels[rows]
    lowest = np.full(len(many), np.iinfo(np.int64).max)
    np.minimum.at(lowest, nets, level)
    level -= lowest[nets]
    span = int(level.max(initial=0)) + 1
    sort = np.argsort((nets * span + level) * len(kinds.kinds) + kind, kind="stable")
    rows = rows[sort]
    lengths = np.diff(g.starts)[rows]
    edges = ranges(g.starts[rows], lengths)
    values = np.full(g.n_neurons, -1, np.int64)
    values[g.inputs] = np.tile(np.arange(many.n_inputs), len(many))
    values[rows] = many.n_inputs + within(np.bincount(nets, minlength=len(many)))
    return Placed(rows, nets, level[sort], kind[sort], lengths, edges, values)


def image(graph: Graph, kinds: Kinds, dtype: str, params: Reals) -> NDArray[np.uint8]:
    """The image of a graph with levels, and params (n_params,) for its parameters. NccError E147
    where a row is of none of the kinds."""
    made = images(union([graph]), kinds, dtype)
    made.parameters.put(made.block, params)
    return sealed(made.block)


def sealed(block: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image, with its checksum."""
    words = block.view(np.uint32)
    words[AT["checksum"]] = 0
    words[AT["checksum"]] = zlib.crc32(block.data)
    return block


class Parameters(NamedTuple):
    """Where a block has biases and weights: its elements `at`, in reals, have the values of the
    parameter codes `codes`."""

    at: Longs
    codes: Ints
    constants: Reals
    dtype: str

    def put(self, block: NDArray[np.uint8], params: Reals) -> None:
        """Write them, of params (n_params,); -0 of NONE, which has none."""
        # Behind the parameters the constants, from the last: code -1-c is the c-th from the end.
        table = np.concatenate([params, [-0.0], self.constants[::-1]])
        chosen = np.where(self.codes == NONE, len(params), self.codes)
        with np.errstate(over="ignore"):
            block.view(DTYPES[self.dtype])[self.at] = table[chosen]


class Images(NamedTuple):
    """Images one behind the other in `block`, which begin at the bytes `places`, and where their
    biases and weights are."""

    block: NDArray[np.uint8]
    places: Longs
    parameters: Parameters


def images(many: Union, kinds: Kinds, dtype: str) -> Images:
    """The images of nets that have levels, without checksums and without values for their
    parameters. NccError E147 where a row is of none of the kinds."""
    g, held, count = many.graph, placed(many, kinds), len(many)
    assert g.levels is not None
    n_kinds, n_in, n_out = len(kinds.kinds), many.n_inputs, many.n_outputs
    real = np.dtype(DTYPES[dtype])
    rows = np.bincount(held.nets, minlength=count)
    edges = np.bincount(held.nets, held.lengths, minlength=count).astype(np.int64)
    levels = np.zeros(count, np.int64)
    np.maximum.at(levels, held.nets, held.levels + 1)
    at = parts(kinds, levels, rows, edges, n_out, dtype)
    _, starts, sources, outs, biases, weights, end = at
    bounds = np.full(count, at.bounds)
    sizes = -(-end * real.itemsize // ALIGN) * ALIGN
    places = np.cumsum(sizes) - sizes
    block = np.zeros(int(sizes.sum()), np.uint8)
    words = block.view(np.uint32)
    base = places // 4
    head = Head(magic=MAGIC, version=VERSION, dtype=CODES[dtype], size=sizes, checksum=0,
                kinds=kinds.digest, n_kinds=n_kinds, inputs=n_in, outputs=n_out, rows=rows,
                edges=edges, levels=levels, bounds=bounds, starts=starts, sources=sources,
                outs=outs, biases=biases, weights=weights)
    for k, value in enumerate(head):
        words[base + k] = value
    # A level's rows of a kind begin where those before end.
    first = np.cumsum(starts - bounds) - (starts - bounds)
    per = np.bincount(first[held.nets] + held.levels * n_kinds + held.kinds,
                      minlength=int((starts - bounds).sum()))
    row_first, edge_first = np.cumsum(rows) - rows, np.cumsum(edges) - edges
    counts = starts - bounds
    _put(words, base + bounds, counts, np.cumsum(per) - per - np.repeat(row_first, counts))
    ends = np.cumsum(held.lengths)
    _put(words, base + starts, rows, ends - held.lengths - np.repeat(edge_first, rows))
    words[base + starts + rows] = edges
    _put(words, base + sources, edges, held.values[g.sources[held.edges]])
    _put(words, base + outs, np.full(count, n_out), held.values[g.outputs])
    base = places // real.itemsize
    return Images(block, places, Parameters(
        np.concatenate([ranges(base + biases, rows), ranges(base + weights, edges)]),
        np.concatenate([g.biases[held.rows], g.weights[held.edges]]), g.constants, dtype))


def _put(words: Words, places: Longs, counts: Longs, values: NDArray[Any]) -> None:
    """Write the values of all nets, `counts` of each from its place on."""
    words[ranges(places, counts)] = values
