"""The forward part of the looped backward pass: the values that derivatives are made from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS
from ncc.passes.lower.reverse.context import InList, Looped
from ncc.passes.lower.reverse.layout import Signature
from ncc.scalar.aggregations import FROM_BIAS, finish, start, step
from ncc.scalar.derivative import reads_argument
from ncc.scalar.expressions import emit, expression


def stage_values(f: Looped, stage: int | None) -> None:
    """The values of a stage's rows, or of all."""
    b = f.b
    if f.classes.mixed:
        t = b.loop(*f.groups_of(stage))[0]
        _class_values(f, b.loop(*f.bounds("turn_segments", t))[0])
        b.close()
        _activate(f, t)
        b.close()
        return
    _class_values(f, b.loop(*f.classes_of(stage))[0])
    b.close()


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
    b, kind = f.b, f.classes.signatures[number]
    count = f.cell(f"rows_{number}", 0, s)
    if f.classes.mixed:
        u = b.loop(b.index(0), count)[0]
        _rows_at_once(f, kind, s, u, 1)
        b.close()
        return
    width = 2 if f.batch else 8
    rows = f.classes.rows[number]
    if (rows >= width).any():
        whole = f.table(f"rows_{number}_by_{width}", "i", rows // width)
        q = b.loop(b.index(0), b.load(whole, 0, s))[0]
        _rows_at_once(f, kind, s, b.op("imul", q, b.index(width)), width)
        b.close()
    if (rows % width).any():
        rest = f.table(f"rows_{number}_from_{width}", "i", rows // width * width)
        u = b.loop(b.load(rest, 0, s), count)[0]
        _rows_at_once(f, kind, s, u, 1)
        b.close()


def _rows_at_once(f: Looped, kind: Signature, s: int, u: int, count: int) -> None:
    """The values of rows u .. u+count-1 of class s, of as many edges each (unroll-and-jam)."""
    b = f.b
    first, edges = f.cell("segment_rows", 0, s), f.cell("segment_edges", 0, s)
    element = b.op("iadd", f.cell("segment_places", 0, s), u)
    agg = AGGREGATIONS[kind.aggregation]
    r = b.op("iadd", first, u)
    if "place_bases" in f.names:
        begins, bases = _alike(f, kind, count)
        lists = [InList(f.cell("starts", 0 if begins else i, r),
                        f.cell("place_bases", 0 if bases else i, r)) for i in range(count)]
    else:
        lists = [f.list_of(r)]
        for _ in range(count - 1):
            lists.append(InList(b.op("iadd", lists[-1].at, edges), None))
    weights = [f.cell("weights", i, r) for i in range(count)]
    biases = [b.load("packed", 0, f.cell("biases", i, r)) if kind.biased else None
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
    loops, tile = f.each_tile(s, number)
    read, weights = tile.read, tile.number("weights")
    parts = b.op("idiv", b.op("iadd", tile.number("rows"), b.index(count - 1)), b.index(count))
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
