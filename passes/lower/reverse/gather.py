"""Adjoints by gathering: each value sums up its readers' deltas times their weights, over the
transposed in-lists; the gradient of the same edges goes along, while their deltas are at hand."""

from __future__ import annotations

from ncc.passes.lower.reverse.context import Looped
from ncc.passes.lower.reverse.rows import Row
from ncc.scalar.aggregations import step


def row_adjoint(f: Looped, row: Row, element: int) -> int:
    """The adjoint of the value of a row."""
    b = f.b
    if f.scatters:
        d = b.load("adjoints", 0, element)
    elif len(f.stages) > 1:
        d = b.load("adjoints", 0, row.number("slots"))
    else:
        d = seeded(f, row)
    return gathered(f, row, d, element)


def seeded(f: Looped, row: Row) -> int:
    """The seeds of a row's or an input's value, if it is an output: 0 in inactive lanes, so that
    all deltas are."""
    b = f.b
    k, acc = b.loop(*row.bounds("seed_starts"), [b.const(-0.0)])
    (acc,) = b.close(b.op("add", acc, f.mask(b.load("seeds", 0, k))))
    return acc


def gathered(f: Looped, row: Row, acc: int, element: int) -> int:
    """acc, and the deltas of the readers of a row, times their weights. Where the gradient is
    wanted, that of the edges of whole iterations, too: `element` is that of the value which they
    read."""
    b = f.b
    if f.by_rows:
        return _moved(f, row, acc)
    if "dx" not in f.named:
        acc = _iterations(f, row, b.index(1), acc, f.mask(b.load("values", 0, element)))
    else:
        unwanted = b.op("iadd", b.index(1), b.op("imul", f.wanted, b.index(-1)))
        acc = _iterations(f, row, f.wanted, acc, f.mask(b.load("values", 0, element)))
        acc = _iterations(f, row, unwanted, acc, None)
    return _remainder(f, row, acc)


def adjoint_alone(f: Looped, row: Row, acc: int) -> int:
    """acc, and the deltas of the readers of a row, times their weights; no gradient."""
    if f.by_rows:
        return _moved(f, row, acc)
    return _remainder(f, row, _iterations(f, row, f.b.index(1), acc, None))


def gradient_alone(f: Looped, row: Row, n: int) -> None:
    """The gradient of the edges in the whole iterations of a row's list, which read the value n."""
    if not f.readers.n_whole:
        return
    at, _ = _open_iterations(f, row, f.b.index(1), [])
    for i in range(f.unroll):
        f.add_gradient(f.b.load("values", 0, f.cell("readers", i, at)), n, i, at)
    f.b.close()


def remainder_gradient(f: Looped, group: int) -> None:
    """The gradient of the remainder edges of a group's values (those of no whole iteration)."""
    b = f.b
    if not f.group_rests.any() or f.by_rows:
        return
    f.only_if(f.wanted)
    to = f.cell("group_rests", 0, group)

    def pair(k: int, i: int) -> tuple[int, int]:
        at = b.op("iadd", to, k)
        source = f.cell("rest_sources", i - f.readers.n_whole, at)
        return (b.load("values", 0, f.cell("readers", i, at)),
                f.mask(b.load("values", 0, source)))

    f.in_vectors_of("rests", f.group_rests, group, pair, to)
    b.close()


def _moved(f: Looped, row: Row, acc: int) -> int:
    """`acc` after the list of a row, where lists repeat."""
    b = f.b
    at, weights = row.number("reader_starts"), row.number("weight_starts")
    base, shift = row.base("reader_bases"), row.base("weight_bases")
    q, acc = b.loop(b.index(0), row.number("reader_counts"), [acc])
    d = b.load("values", 0, f.listed("readers", 0, b.op("iadd", at, q), base))
    weight = b.load("packed", 0, f.listed("reader_edges", 0, b.op("iadd", weights, q), shift))
    return b.close(step(b, "sum", acc, d, weight))[0]


def _iterations(f: Looped, row: Row, wanted: int, acc: int, n: int | None) -> int:
    """`acc` after the whole iterations of a row's list, if `wanted` is 1. The edges' gradient goes
    with the value n, if there is one."""
    b = f.b
    if not f.readers.n_whole:
        return acc
    at, accs = _open_iterations(f, row, wanted, [acc])
    for i in range(f.unroll):
        d = b.load("values", 0, f.cell("readers", i, at))
        accs = [_weighted(f, at, i, d, accs[0])]
        if n is not None:
            f.add_gradient(d, n, i, at)
    return b.close(*accs)[0]


def _open_iterations(f: Looped, row: Row, wanted: int, carries: list[int]
                     ) -> tuple[int, list[int]]:
    b = f.b
    start, rounds = row.number("reader_starts"), row.number("reader_rounds")
    q, *carries = b.loop(b.index(0), b.op("imul", rounds, wanted), carries)
    return b.op("iadd", start, b.op("imul", q, b.index(f.unroll))), carries


def _remainder(f: Looped, row: Row, acc: int) -> int:
    b = f.b
    at, acc = b.loop(*row.bounds("reader_rests"), [acc])
    d = b.load("values", 0, f.cell("readers", 0, at))
    return b.close(_weighted(f, at, 0, d, acc))[0]


def _weighted(f: Looped, at: int, i: int, d: int, acc: int) -> int:
    """acc + the delta d times the weight of the edge whose reader is number at + i."""
    b = f.b
    weight = (b.load("turned", i, at) if f.batch
              else b.load("packed", 0, f.cell("reader_edges", i, at)))
    return step(b, "sum", acc, d, weight)
