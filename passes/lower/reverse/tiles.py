"""The backward pass through row tiles: rows that share their sources. Each value and each delta is
loaded once for several sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ncc.ir.graph import PLAIN_SUM_CODES, Longs
from ncc.passes.lower.arrays import nests
from ncc.passes.lower.reverse.context import InList, Looped
from ncc.passes.lower.reverse.rows import CELLS
from ncc.scalar.aggregations import step


class Tile(NamedTuple):
    """A tile whose loops are open, of a signature."""

    f: Looped
    kind: int
    row: nests.Row

    def number(self, name: str) -> int:
        """Its number of this name."""
        return self.row.number(self.f.b, name)

    def numbers(self, name: str) -> Longs:
        """Those that tiles of its signature have."""
        tiles = self.f.tiles
        mine = np.repeat(self.f.classes.rows[self.kind] > 0, np.diff(tiles.groups))
        found: Longs = tiles.numbers[name][mine]
        return found

    def cell(self, name: str, u: int, row: int) -> int:
        """Where its row number u + row begins in the cells of this name."""
        f, b = self.f, self.f.b
        if (name, self.kind) in f.tiles.uneven:
            return f.cell(CELLS[name], row, b.op("iadd", self.number(name), u))
        at = b.op("iadd", u, b.index(row))
        return b.op("iadd", self.number(name), b.op("imul", at, self.number(f"{name}_apart")))

    @property
    def read(self) -> InList:
        """The in-list of its rows."""
        base = self.number("bases") if "bases" in self.f.tiles.numbers else None
        return InList(self.number("lists"), base)


def each_tile(f: Looped, s: int, number: int, last_first: bool = False) -> tuple[int, Tile]:
    """Open loops over the tiles of class s, if they are of this signature: how many loops, and
    the tile."""
    assert f.tile_walk is not None
    loops, row = f.tile_walk.open(f.b, s, f.mine(number), f"{number}",
                                  around=f.around(f.tile_walk), last_first=last_first)
    return loops, Tile(f, number, row)


def tiles_backward(f: Looped, s: int, number: int) -> None:
    """What the deltas of class s add to the adjoints of their sources, and to the gradient."""
    b, kind = f.b, f.classes.signatures[number]
    loops, tile = each_tile(f, s, number, last_first=True)
    pushes = tile.number("inner")
    if "dx" in f.named:  # of those that read inputs alone only then
        outer = b.op("iadd", b.index(1), b.op("imul", pushes, b.index(-1)))
        pushes = b.op("iadd", pushes, b.op("imul", outer, b.emit("given", (), "dx")))
    f.only_if(pushes)
    if f.tiles.repeats:
        _push_rows(f, s, tile)
    else:
        _push_sources(f, s, tile)
    b.close()
    f.only_if(f.wanted)
    rows = range(kind.height)  # those that a tile lacks have elements that nobody reads
    if kind.biased and kind.aggregation in PLAIN_SUM_CODES:
        one, to, element = b.const(1.0), tile.number("bias_cells"), tile.number("places")
        for i, d in enumerate([b.load("values", i, element) for i in rows]):
            f.add_gradient(d, one, i, to)
    some = f.classes.trained[:-1][f.classes.number == number]
    if not some.all():
        f.only_if(b.op("imin", f.cell("segment_trained", 0, s), b.index(1)))
    if some.any():
        _Gradient(f, tile).add()
    if not some.all():
        b.close()
    b.close()
    f.end(loops)


def _push_rows(f: Looped, s: int, tile: Tile) -> None:
    """Add the tile's deltas times their weights to the adjoints of its sources: from the last row
    on, and in each from the last edge, as a source may be twice in an in-list."""
    b, height = f.b, f.classes.signatures[tile.kind].height
    r = f.from_last(b.index(0), tile.number("rows"))
    k = f.from_last(b.index(0), f.edges_of_class(s, tile.kind))
    by = b.op("iadd", b.op("iadd", tile.number("weights"), b.op("imul", k, b.index(height))), r)
    f.push(f.place(tile.read, k),
           b.load("values", 0, b.op("iadd", tile.number("places"), r)), b.load("packed", 0, by))
    b.close()
    b.close()


def _push_sources(f: Looped, s: int, tile: Tile) -> None:
    """The same, some sources at a time, each from the last row on."""
    b, height = f.b, f.classes.signatures[tile.kind].height
    read, weights, element = tile.read, tile.number("weights"), tile.number("places")
    count = tile.number("rows")
    last = b.op("iadd", count, b.index(-1))
    edges, fan_in = f.edges_of_class(s, tile.kind), f.classes.fan_in[:-1]
    for wide, k in f.portions(edges, dict.fromkeys((f.tile, 1)),
                              fan_in[f.classes.number == tile.kind]):
        sources = [f.place(read, k, i) for i in range(wide)]
        r, *accs = b.loop(b.index(0), count, [b.load("adjoints", 0, i) for i in sources])
        r = b.op("iadd", b.op("imul", r, b.index(-1)), last)
        d = b.load("values", 0, b.op("iadd", element, r))
        by = b.op("iadd", b.op("iadd", weights, b.op("imul", k, b.index(height))), r)
        accs = b.close(*[step(b, "sum", acc, d, b.load("packed", i * height, by))
                         for i, acc in enumerate(accs)])
        for i, acc in zip(sources, accs, strict=True):
            b.store(acc, "adjoints", 0, i)


class _Gradient:
    """What a tile adds to the gradient of its weights.

    Sums in order, of tiles that together are whole blocks of ncc/scalar/sum_order.py's: of all
    their rows and many sources at a time. Sums by lanes: of two rows and four sources."""

    def __init__(self, f: Looped, tile: Tile) -> None:
        self.f, self.b, self.tile = f, f.b, tile
        self.kind = f.classes.signatures[tile.kind]
        self.element, self.read = tile.number("places"), tile.read
        self.to = "dparams" if self.kind.direct else f.sums

    def add(self) -> None:
        f, b, tile, native = self.f, self.b, self.tile, self.f.native
        prefix, by_row = tile.numbers("prefix"), tile.numbers("ordered")
        edges, zero = tile.number("prefix"), b.index(0)
        for tiles in f.tiles.abreast if self.kind.height == native > 1 else ():
            if not tile.numbers(f"abreast_{tiles}").any():
                continue
            f.only_if(tile.number(f"abreast_{tiles}"))
            ds = self.deltas(zero, tiles * native)  # transposed once for all edges
            for wide, k in f.portions(edges, (max(8, native),), prefix):
                self.edges("ordered_cells", k, k, wide, zero, ds)
            b.close()
        if by_row.any():
            self.rows("ordered_cells", tile.number("ordered"), by_row, zero)
        self.rows("cells", tile.number("rest"), tile.numbers("rest"), edges)

    def deltas(self, u: int, rows: int) -> list[int]:
        at = self.b.op("iadd", self.element, u)
        return [self.b.load("values", i, at) for i in range(rows)]

    def edges(self, name: str, edge: int, to: int, count: int, u: int, ds: Sequence[int]) -> None:
        """The edges edge .. edge+count-1 of the tile's rows u .., whose deltas are `ds`, added to
        each row's cells, by this name, from number `to` on."""
        f, b = self.f, self.b
        ns = [b.load("values", 0, f.place(self.read, edge, i)) for i in range(count)]
        begins = [b.op("iadd", self.tile.cell(name, u, j), to) for j in range(len(ds))]
        for d, begin in zip(ds, begins, strict=True):  # nothing stands between what is added
            for i, n in enumerate(ns):
                b.accumulate(n, d, self.to, i, begin, in_order=name == "ordered_cells")

    def rows(self, name: str, count: int, counts: Longs, begin: int) -> None:
        """Of `count` edges, one of `counts`, from number `begin` on: four, two, one at a time, of
        two rows and one."""
        f, b, tile = self.f, self.b, self.tile
        for wide, k in f.portions(count, (4, 2, 1), counts):
            for some, u in f.portions(tile.number("rows"), (2, 1), tile.numbers("rows")):
                self.edges(name, b.op("iadd", begin, k), k, wide, u, self.deltas(u, some))
