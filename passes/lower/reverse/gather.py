"""Adjoints by gathering: each value sums up its readers' deltas times their weights, over the
transposed in-lists; the gradient of the same edges goes along, while their deltas are at hand."""

from __future__ import annotations

from ncc.passes.lower.reverse.context import Looped
from ncc.scalar.aggregations import step


def row_adjoint(f: Looped, k: int, r: int, element: int) -> int:
    """The adjoint of the value of row r, number k in the order of the backward pass."""
    b = f.b
    if f.scatters:
        d = b.load("adjoints", 0, element)
    elif len(f.stages) > 1:
        d = b.load("adjoints", 0, f.cell("slots", 0, r))
    else:
        d = seeded(f, b.op("iadd", r, b.index(f.n_inputs)))
    return gathered(f, k, d, element)


def seeded(f: Looped, v: int) -> int:
    """The seeds of value number v, if it is an output: 0 in inactive lanes, so that all deltas
    are."""
    b = f.b
    k, acc = b.loop(*f.bounds("seed_starts", v), [b.const(-0.0)])
    (acc,) = b.close(b.op("add", acc, f.mask(b.load("seeds", 0, k))))
    return acc


def gathered(f: Looped, k: int, acc: int, element: int) -> int:
    """acc, and the deltas of the readers on list k, times their weights. Where the gradient is
    wanted, that of the edges of whole iterations, too: `element` is that of the value which they
    read."""
    b = f.b
    if f.by_rows:
        return _moved(f, k, acc)
    if "dx" not in f.named:
        acc = _iterations(f, k, b.index(1), acc, f.mask(b.load("values", 0, element)))
    else:
        unwanted = b.op("iadd", b.index(1), b.op("imul", f.wanted, b.index(-1)))
        acc = _iterations(f, k, f.wanted, acc, f.mask(b.load("values", 0, element)))
        acc = _iterations(f, k, unwanted, acc, None)
    return _remainder(f, k, acc)


def adjoint_alone(f: Looped, k: int, acc: int) -> int:
    """acc, and the deltas of the readers on list k, times their weights; no gradient."""
    if f.by_rows:
        return _moved(f, k, acc)
    return _remainder(f, k, _iterations(f, k, f.b.index(1), acc, None))


def gradient_alone(f: Looped, k: int, n: int) -> None:
    """The gradient of the edges in the whole iterations of list k, which read the value n."""
    if not f.readers.n_whole:
        return
    at, _ = _open_iterations(f, k, f.b.index(1), [])
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


def _moved(f: Looped, k: int, acc: int) -> int:
    """`acc` after list k, where lists repeat."""
    b = f.b
    at, weights = f.cell("reader_starts", 0, k), f.cell("weight_starts", 0, k)
    base, shift = f.base("reader_bases", k), f.base("weight_bases", k)
    q, acc = b.loop(b.index(0), f.cell("reader_counts", 0, k), [acc])
    d = b.load("values", 0, f.listed("readers", 0, b.op("iadd", at, q), base))
    weight = b.load("packed", 0, f.listed("reader_edges", 0, b.op("iadd", weights, q), shift))
    return b.close(step(b, "sum", acc, d, weight))[0]


def _iterations(f: Looped, k: int, wanted: int, acc: int, n: int | None) -> int:
    """`acc` after the whole iterations of list k, if `wanted` is 1. The edges' gradient goes with
    the value n, if there is one."""
    b = f.b
    if not f.readers.n_whole:
        return acc
    at, accs = _open_iterations(f, k, wanted, [acc])
    for i in range(f.unroll):
        d = b.load("values", 0, f.cell("readers", i, at))
        accs = [_weighted(f, at, i, d, accs[0])]
        if n is not None:
            f.add_gradient(d, n, i, at)
    return b.close(*accs)[0]


def _open_iterations(f: Looped, k: int, wanted: int, carries: list[int]) -> tuple[int, list[int]]:
    b = f.b
    start, rounds = f.cell("reader_starts", 0, k), f.cell("reader_rounds", 0, k)
    q, *carries = b.loop(b.index(0), b.op("imul", rounds, wanted), carries)
    return b.op("iadd", start, b.op("imul", q, b.index(f.unroll))), carries


def _remainder(f: Looped, k: int, acc: int) -> int:
    b = f.b
    at, acc = b.loop(*f.bounds("reader_rests", k), [acc])
    d = b.load("values", 0, f.cell("readers", 0, at))
    return b.close(_weighted(f, at, 0, d, acc))[0]


def _weighted(f: Looped, at: int, i: int, d: int, acc: int) -> int:
    """acc + the delta d times the weight of the edge whose reader is number at + i."""
    b = f.b
    weight = (b.load("turned", i, at) if f.batch
              else b.load("packed", 0, f.cell("reader_edges", i, at)))
    return step(b, "sum", acc, d, weight)
