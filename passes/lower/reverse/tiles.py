"""The backward pass through row tiles: rows that share their sources. Each value and each delta is
loaded once for several sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ncc.ir.graph import PLAIN_SUM_CODES, Longs
from ncc.passes.lower.reverse.context import InList, Looped
from ncc.scalar.aggregations import step


class _Tile(NamedTuple):
    """A tile whose loop is open, and what has been loaded of it: its number, its in-list, its
    weights in `packed`, its rows in `values`; their padded height; and an index 0."""

    number: int
    read: InList
    weights: int
    element: int
    height: int
    zero: int


def tiles_backward(f: Looped, s: int, number: int) -> None:
    """What the deltas of class s add to the adjoints of their sources, and to the gradient."""
    b, kind = f.b, f.classes.signatures[number]
    zero = b.index(0)
    tile = f.each_tile(s, number, last_first=True)
    read, weights = f.list_of_tile(tile), f.cell("block_weights", 0, tile)
    element = f.cell("block_places", 0, tile)
    pushes = f.cell("block_inner", 0, tile)
    if "dx" in f.named:  # of those that read inputs alone only then
        pushes = b.op("iadd", pushes, b.op("imul", f.cell("block_outer", 0, tile),
                                           b.emit("given", (), "dx")))
    f.only_if(pushes)
    _push(f, s, _Tile(tile, read, weights, element, kind.height, zero))
    b.close()
    f.only_if(f.wanted)
    rows = range(kind.height)  # those that a tile lacks have elements that nobody reads
    if kind.biased and kind.aggregation in PLAIN_SUM_CODES:
        one, to = b.const(1.0), f.cell("gradient_of_block_biases", 0, tile)
        for i, d in enumerate([b.load("values", i, element) for i in rows]):
            f.add_gradient(d, one, i, to)
    some = f.classes.trained[:-1][f.classes.number == number]
    if not some.all():
        f.only_if(b.op("imin", f.cell("segment_trained", 0, s), b.index(1)))
    if some.any():
        _Gradient(f, number, tile).add()
    if not some.all():
        b.close()
    b.close()
    b.close()


def _push(f: Looped, s: int, tile: _Tile) -> None:
    """Add the tile's deltas times their weights to the adjoints of its sources."""
    b = f.b
    count = f.cell("block_rows", 0, tile.number)
    last = b.op("iadd", count, b.index(-1))
    if f.repeats:
        _push_rows(f, s, tile, count, last)
    else:
        _push_sources(f, s, tile, count, last)


def _push_rows(f: Looped, s: int, tile: _Tile, count: int, last: int) -> None:
    """From the last row on, and in each from the last edge: a source may be twice in an in-list."""
    b = f.b
    r = b.loop(tile.zero, count)[0]
    r = b.op("iadd", b.op("imul", r, b.index(-1)), last)
    edges = f.cell("segment_edges", 0, s)
    k = b.loop(tile.zero, edges)[0]
    k = b.op("iadd", b.op("imul", k, b.index(-1)), b.op("iadd", edges, b.index(-1)))
    by = b.op("iadd", b.op("iadd", tile.weights, b.op("imul", k, b.index(tile.height))), r)
    f.push(f.place(tile.read, k),
           b.load("values", 0, b.op("iadd", tile.element, r)), b.load("packed", 0, by))
    b.close()
    b.close()


def _push_sources(f: Looped, s: int, tile: _Tile, count: int, last: int) -> None:
    """Some sources at a time, each from the last row on."""
    b = f.b
    done = np.zeros_like(f.classes.fan_in)
    for wide in dict.fromkeys((f.tile, 1)):
        left = f.classes.fan_in - done
        if not (left >= wide).any():
            continue
        rounds = f.table(f"tile_rounds_{wide}", "i", left // wide)
        after = f.table(f"tile_after_{wide}", "i", done)
        q = b.loop(tile.zero, b.load(rounds, 0, s))[0]
        k = b.op("iadd", b.load(after, 0, s), b.op("imul", q, b.index(wide)))
        sources = [f.place(tile.read, k, i) for i in range(wide)]
        r, *accs = b.loop(tile.zero, count, [b.load("adjoints", 0, i) for i in sources])
        r = b.op("iadd", b.op("imul", r, b.index(-1)), last)
        d = b.load("values", 0, b.op("iadd", tile.element, r))
        by = b.op("iadd", b.op("iadd", tile.weights, b.op("imul", k, b.index(tile.height))), r)
        accs = b.close(*[step(b, "sum", acc, d, b.load("packed", i * tile.height, by))
                         for i, acc in enumerate(accs)])
        for i, acc in zip(sources, accs, strict=True):
            b.store(acc, "adjoints", 0, i)
        b.close()
        done = done + left // wide * wide


class _Gradient:
    """What a tile adds to the gradient of its weights.

    Sums in order, of tiles that together are whole blocks of ncc/scalar/sum_order.py's: of all
    their rows and many sources at a time. Sums by lanes: of two rows and four sources."""

    def __init__(self, f: Looped, number: int, tile: int) -> None:
        self.f, self.b, self.tile = f, f.b, tile
        self.kind = f.classes.signatures[number]
        self.first, self.element = f.cell("block_firsts", 0, tile), f.cell("block_places", 0, tile)
        self.read = f.list_of_tile(tile)
        self.to = "dparams" if self.kind.direct else f.sums

    def add(self) -> None:
        f, b, plan = self.f, self.b, self.f.plan
        prefix = f.routes.prefix[plan.blocks[:-1]]
        length = np.diff(plan.starts)[plan.blocks[:-1]]
        by_row = prefix
        if self.kind.height == f.native > 1:
            together, by_row = f.tiles_together
            for tiles in np.unique(together[together > 0]).tolist():
                chosen = f.table(f"abreast_{tiles}", "i", together == tiles)
                f.only_if(b.load(chosen, 0, self.tile))
                ds = self.deltas(b.index(0), tiles * f.native)  # transposed once for all edges
                wide = max(8, f.native)
                k = f.some(self.tile, "edges", prefix, np.zeros_like(prefix), wide)
                self.edges("gradient_of_rows_in_order", k, k, wide, b.index(0), ds)
                b.close()
                b.close()
        if by_row.any():
            self.rows("gradient_of_rows_in_order", by_row, None)
        self.rows("gradient_of_rows", length - prefix, prefix)

    def deltas(self, u: int, rows: int) -> list[int]:
        at = self.b.op("iadd", self.element, u)
        return [self.b.load("values", i, at) for i in range(rows)]

    def edges(self, name: str, edge: int, to: int, count: int, u: int, ds: Sequence[int]) -> None:
        """The edges edge .. edge+count-1 of the tile's rows u .., whose deltas are `ds`, added to
        each row's elements from number `to` on."""
        f, b = self.f, self.b
        row = b.op("iadd", self.first, u)
        ns = [b.load("values", 0, f.place(self.read, edge, i)) for i in range(count)]
        begins = [b.op("iadd", f.cell(name, j, row), to) for j in range(len(ds))]
        for d, begin in zip(ds, begins, strict=True):
            for i, n in enumerate(ns):
                b.accumulate(n, d, self.to, i, begin, in_order=name.endswith("order"))

    def rows(self, name: str, counts: Longs, begin: Longs | None) -> None:
        """Of counts[tile] edges, from number begin[tile] on: four, two, one at a time, of two rows
        and one."""
        f, b = self.f, self.b
        sizes = np.diff(f.plan.blocks)
        done = np.zeros_like(counts)
        short = "ordered" if name.endswith("order") else "left"
        from_ = None if begin is None else b.load(f.table("block_prefix", "i", begin), 0,
                                                  self.tile)
        for count in (4, 2, 1):
            if not (counts - done >= count).any():
                continue
            k = f.some(self.tile, f"{short}_{count}", counts, done, count)
            edge = k if from_ is None else b.op("iadd", from_, k)
            rows_done = np.zeros_like(sizes)
            for rows in (2, 1):
                if not (sizes - rows_done >= rows).any():
                    continue
                u = f.some(self.tile, f"rows_{rows}", sizes, rows_done, rows)
                self.edges(name, edge, k, count, u, self.deltas(u, rows))
                b.close()
                rows_done = rows_done + (sizes - rows_done) // rows * rows
            b.close()
            done = done + (counts - done) // count * count
