"""The forward part of the looped backward pass: the values that derivatives are made from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS
from ncc.passes.lower.reverse.context import InList, Looped
from ncc.passes.lower.reverse.layout import Signature
from ncc.passes.lower.reverse.rows import Row
from ncc.passes.lower.reverse.tiles import each_tile
from ncc.scalar.aggregations import FROM_BIAS, finish, start, step
from ncc.scalar.derivative import reads_argument
from ncc.scalar.expressions import emit, expression


def stage_values(f: Looped, stage: int | None) -> None:
    """The values of a stage's rows, or of all."""
    b = f.b
    if f.classes.mixed:
        loops, t = f.each_unit(stage)
        _class_values(f, b.loop(*f.bounds("turn_segments", t))[0])
        b.close()
        _activate(f, t)
    else:
        loops, s = f.each_unit(stage)
        _class_values(f, s)
    f.end(loops)
    f.time = None


def _class_values(f: Looped, s: int) -> None:
    """The rows of class s."""
    for number, kind in enumerate(f.classes.signatures):
        if f.is_tiled(kind):
            _tiles(f, s, number)
        else:
            _rows(f, s, number)


def _activate(f: Looped, t: int) -> None:
    """The values of the rows of depth group t, in whose elements stand their sums."""
    b = f.b
    for program, element in f.each_activation(t):
        total = b.load("values", 0, element)
        if reads_argument(program):
            b.store(total, "sums", -f.local, element)
        b.store(emit(program, b, total), "values", 0, element)


def _rows(f: Looped, s: int, number: int) -> None:
    b, rows = f.b, f.classes.rows[number]
    width = 1 if f.classes.mixed else 2 if f.batch else 8
    walk = f.walks["forward"]
    if walk is not None:
        mine = f.mine(number)
        counts = walk.nest.counts[0][np.repeat(mine, np.diff(walk.nest.groups))]
        for rest, some in ((False, counts >= width), (True, counts % width > 0)):
            if some.any():
                loops, nested = walk.open(b, s, mine, f"{number}", width, rest, f.around(walk))
                row = Row(f, None, None, nested)
                _rows_at_once(f, number, s, row, row.number("elements"), 1 if rest else width)
                f.end(loops)
        return
    count = f.cell(f"rows_{number}", 0, s)
    if width == 1:
        _rows_from(f, number, s, b.loop(b.index(0), count)[0], 1)
    elif (rows >= width).any():
        whole = f.table(f"rows_{number}_by_{width}", "i", rows // width)
        q = b.loop(b.index(0), b.load(whole, 0, s))[0]
        _rows_from(f, number, s, b.op("imul", q, b.index(width)), width)
    if (rows % width).any():
        rest_from = f.table(f"rows_{number}_from_{width}", "i", rows // width * width)
        _rows_from(f, number, s, b.loop(b.load(rest_from, 0, s), count)[0], 1)


def _rows_from(f: Looped, number: int, s: int, u: int, count: int) -> None:
    """The values of rows u .. u+count-1 of class s, in a loop that ends here."""
    b = f.b
    row = Row(f, b.op("iadd", f.cell("segment_rows", 0, s), u), None)
    element = b.op("iadd", f.cell("segment_places", 0, s), u)
    _rows_at_once(f, number, s, row, element, count)
    b.close()


def _rows_at_once(f: Looped, number: int, s: int, row: Row, element: int, count: int) -> None:
    """The values of a row of class s and of those that follow, `count` in all, of as many edges
    each (unroll-and-jam)."""
    b, kind = f.b, f.classes.signatures[number]
    edges = f.cell("segment_edges", 0, s)
    agg = AGGREGATIONS[kind.aggregation]
    if row.nested is not None:
        lists = [f.list_of(row, i) for i in range(count)]
    elif "place_bases" in f.names:
        begins, bases = _alike(f, kind, count)
        lists = [InList(row.number("starts", 0 if begins else i),
                        row.number("place_bases", 0 if bases else i)) for i in range(count)]
    else:
        lists = [f.list_of(row)]
        for _ in range(count - 1):
            lists.append(InList(b.op("iadd", lists[-1].at, edges), None))
    weights = [row.number("weights", i) for i in range(count)]
    biases = [b.load("packed", 0, row.number("biases", i)) if kind.biased else None
              for i in range(count)]
    if agg in FROM_BIAS:
        begin = 0
        firsts = [b.const(-0.0) if x is None else x for x in biases]
    else:
        begin = 1
        firsts = [start(b, agg, *f.edge(e, w, b.index(0), kind))
                  for e, w in zip(lists, weights, strict=True)]
    loop = b.loop(b.index(begin), f.terms(kind, edges), firsts)
    accs = [step(b, agg, acc, *f.edge(e, w, loop[0], kind))
            for acc, e, w in zip(loop[1:], lists, weights, strict=True)]
    _finished(f, kind, b.close(*accs), biases, element, s)


def _alike(f: Looped, kind: Signature, count: int) -> tuple[bool, bool]:
    """Whether each `count` rows of this signature that go together have one list in `places`, and
    whether they add the same to it."""
    firsts, rows = f.classes.firsts, f.classes.rows[f.classes.signatures.index(kind)][:-1]
    groups = np.repeat(firsts, rows // count) + csr.within(rows // count) * count
    groups = groups[:, None] + np.arange(count)
    lists = f.elements.lists
    assert lists.bases is not None
    begins, bases = [held[groups] for held in (lists.begins, lists.bases)]
    return bool((begins == begins[:, :1]).all()), bool((bases == bases[:, :1]).all())


def _finished(f: Looped, kind: Signature, accs: Sequence[int], biases: Sequence[int | None],
              element: int, s: int) -> None:
    """Store the values of rows of class s whose edges are summed: the sums themselves, where
    activations come later."""
    b = f.b
    agg = AGGREGATIONS[kind.aggregation]
    for i, acc in enumerate(accs):
        if agg == "mean":
            acc = b.op("div", acc, f.fan_in(s))
        total = finish(b, "sum" if agg == "mean" else agg, acc, 0,
                       None if agg in FROM_BIAS else biases[i])
        if kind.activation is not None:
            program = expression(kind.activation, f.g.functions)
            if reads_argument(program):
                b.store(total, "sums", i - f.local, element)
            total = emit(program, b, total)
        b.store(total, "values", i, element)


def _tiles(f: Looped, s: int, number: int) -> None:
    """Rows that share their sources: each value is loaded once for several sums."""
    b, kind = f.b, f.classes.signatures[number]
    agg = AGGREGATIONS[kind.aggregation]
    count = min(kind.height, f.tile)
    loops, tile = each_tile(f, s, number)
    read, weights = tile.read, tile.number("weights")
    parts = tile.number("parts")
    u = b.loop(b.index(0), parts)[0]
    base = b.op("imul", u, b.index(count))
    biases: list[int | None] = [None] * count
    if kind.biased:
        bias = b.op("iadd", tile.number("biases"), base)
        biases = [b.load("packed", i, bias) for i in range(count)]
    firsts = [x if x is not None and agg == "sum" else b.const(-0.0) for x in biases]
    k, *accs = b.loop(b.index(0), f.edges_of_class(s, number), firsts)
    n = b.load("values", 0, f.place(read, k))
    by = b.op("iadd", b.op("iadd", weights, b.op("imul", k, b.index(kind.height))), base)
    accs = b.close(*[step(b, "sum", acc, n, b.load("packed", i, by))
                     for i, acc in enumerate(accs)])
    _finished(f, kind, accs, biases, b.op("iadd", tile.number("places"), base), s)
    b.close()
    f.end(loops)
