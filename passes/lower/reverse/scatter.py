"""Adjoints by scattering: a row adds to those of its sources, edge by edge, where its edges get
different parts, or their sources take parts from such rows, too."""

from __future__ import annotations

from typing import Protocol

from ncc.ir.ssa_build import Builder
from ncc.passes.lower.reverse.context import Looped
from ncc.passes.lower.reverse.layout import Signature
from ncc.passes.lower.reverse.rows import Row
from ncc.scalar.aggregations import divisor_part, start, step, taken


def edges_backward(f: Looped, s: int, row: Row, d: int) -> None:
    """What a row of class s and delta d adds to the adjoints of those sources that do not gather,
    and to the gradient of edges that is made edge by edge."""
    b = f.b
    if f.by_rows:
        if f.any_pushed:
            _push(f, row, d)
        _gradient(f, s, row, d)
        return
    if f.any_pushed:
        first, end = row.bounds("pushed_starts")
        k = b.loop(first, end)[0]  # from the last one on
        k = b.op("iadd", b.op("imul", k, b.index(-1)),
                 b.op("iadd", b.op("iadd", first, end), b.index(-1)))
        element = f.cell("pushed_places", 0, k)
        f.push(element, d, b.load("packed", 0, f.cell("pushed_weights", 0, k)))
        f.only_if(b.op("imul", f.wanted, f.cell("pushed_by_lanes", 0, k)))
        f.add_gradient(d, f.mask(b.load("values", 0, element)), 0, f.cell("pushed_cells", 0, k))
        b.close()
        b.close()
    if f.any_alone:
        f.only_if(f.wanted)
        k = b.loop(*row.bounds("alone_starts"))[0]
        n = f.mask(b.load("values", 0, f.cell("alone_places", 0, k)))
        b.accumulate(d, n, f.sums, 0, f.cell("alone_cells", 0, k), in_order=True)
        b.close()
        b.close()


def _push(f: Looped, row: Row, d: int) -> None:
    """What a row of delta d adds to the adjoints of sources that do not gather, where lists
    repeat."""
    b = f.b
    at, weights = row.number("pushed_starts"), row.number("pushed_weight_starts")
    base, shift = row.base("pushed_bases"), row.base("pushed_weight_bases")
    count = row.number("pushed_counts")
    k = b.loop(b.index(0), count)[0]  # from the last one on
    k = b.op("iadd", b.op("imul", k, b.index(-1)), b.op("iadd", count, b.index(-1)))
    weight = b.load("packed", 0, f.listed("pushed_weights", 0, b.op("iadd", weights, k), shift))
    f.push(f.listed("pushed_places", 0, b.op("iadd", at, k), base), d, weight)
    b.close()


def _gradient(f: Looped, s: int, row: Row, d: int) -> None:
    """The gradient of the edges of a row of class s and delta d: of the first ones in order, if
    any; then as many neighbours at once as a vector holds, then four, then one by one."""
    b, zero = f.b, f.b.index(0)
    f.only_if(f.wanted)
    read, count = f.list_of(row), f.cell("segment_trained", 0, s)
    done, to = zero, row.number("gradient_of_rows")
    if "row_prefix" in f.names:
        # Constant weights have no gradient, in no order: of such rows none is done.
        done = b.op("imin", count, row.number("row_prefix"))
        k = b.loop(zero, done)[0]
        n = f.mask(b.load("values", 0, f.place(read, k)))
        b.accumulate(d, n, f.sums, 0, b.op("iadd", row.number("gradient_of_rows_in_order"), k),
                     in_order=True)
        b.close()
        to = b.op("iadd", to, b.op("imul", done, b.index(-1)))
    most = f.classes.fan_in.max()
    for width in dict.fromkeys((f.native if f.batch else 4, 4, 1)):
        if width > most:
            continue
        left = b.op("iadd", count, b.op("imul", done, b.index(-1)))
        rounds = left if width == 1 else b.op("idiv", left, b.index(width))
        by = b.op("imul", b.loop(zero, rounds)[0], b.index(width))
        k = b.op("iadd", done, by)
        ns = [f.mask(b.load("values", 0, f.place(read, k, i))) for i in range(width)]
        at = b.op("iadd", to, k)
        for i, n in enumerate(ns):
            f.add_gradient(d, n, i, at)
        b.close()
        done = b.op("iadd", done, b.op("imul", rounds, b.index(width)))
    b.close()


class Parts(Protocol):
    """A row whose edges get different parts: `edges`, how many they are (an op); the source's value
    and the weight of one; and what is done with a part. Buffer `products` is theirs, a real an
    edge; part k is added when `products[k]` has been read."""

    edges: int

    def edge(self, k: int) -> tuple[int, int]: ...

    def add(self, k: int, n: int, w: int, part: int) -> None: ...


class _Parts:
    """A row of a backward pass, of so many edges, of a signature: what is added to the adjoints of
    its sources and to the gradient."""

    def __init__(self, f: Looped, row: Row, edges: int, kind: Signature) -> None:
        self.f, self.b, self.kind, self.edges = f, f.b, kind, edges
        self.read, self.weight = f.list_of(row), row.number("weights")
        self.gradient = row.number("gradient_of_rows")

    def edge(self, k: int) -> tuple[int, int]:
        return self.f.edge(self.read, self.weight, k, self.kind)

    def add(self, k: int, n: int, w: int, part: int) -> None:
        f, b = self.f, self.b
        f.push(f.place(self.read, k), part, w)
        if self.kind.trained:
            f.add_gradient(f.mask(part), f.mask(n), 0, b.op("iadd", self.gradient, k))


def factors_backward(f: Looped, row: Row, edges: int, d: int, kind: Signature) -> None:
    """A row of delta d, which is a product."""
    factors(f.b, _Parts(f, row, edges, kind), d)


def divisors_backward(f: Looped, row: Row, edges: int, d: int, kind: Signature) -> None:
    """A row of delta d, which is a quotient."""
    divisors(f.b, _Parts(f, row, edges, kind), d)


def pairs_backward(f: Looped, row: Row, edges: int, d: int, kind: Signature) -> None:
    """A row of delta d adds products n0*w*n1: from the last pair to the first, and in each first
    what n1 gets, which is the second edge's source."""
    b, of = f.b, _Parts(f, row, edges, kind)
    pairs = f.terms(kind, edges)
    k = b.loop(b.index(0), pairs)[0]
    back = b.op("iadd", b.op("imul", k, b.index(-1)), b.op("iadd", pairs, b.index(-1)))
    at = b.op("imul", back, b.index(2))
    by = back if kind.height == 1 else b.op("imul", back, b.index(kind.height))
    w = b.load("packed", 0, b.op("iadd", of.weight, by))
    places = [f.place(of.read, at, i) for i in (0, 1)]
    n0, n1 = [b.load("values", 0, place) for place in places]
    f.push(places[1], b.op("mul", d, b.op("mul", n0, w)))
    part = b.op("mul", d, n1)
    f.push(places[0], part, w)
    if kind.trained:
        f.add_gradient(f.mask(part), f.mask(n0), 0, b.op("iadd", of.gradient, back))
    b.close()


def choice_backward(f: Looped, agg: str, row: Row, edges: int, d: int, kind: Signature) -> None:
    """A row of delta d, which is one of CHOICES."""
    choice(f.b, agg, _Parts(f, row, edges, kind), d)


def parts(b: Builder, agg: str, row: Parts, d: int) -> None:
    """The parts of delta d that the edges of a row get, which is neither a sum nor one of pairs."""
    if agg == "mul":
        factors(b, row, d)
    elif agg == "div":
        divisors(b, row, d)
    else:
        choice(b, agg, row, d)


def factors(b: Builder, row: Parts, d: int) -> None:
    """The row is a product: each factor gets that of the others."""
    edges = row.edges
    k, before = b.loop(b.index(0), edges, [b.const(1.0)])
    b.store(before, "products", 0, k)
    n, w = row.edge(k)
    b.close(b.op("mul", before, b.op("mul", n, w)))
    k, behind = b.loop(b.index(0), edges, [d])
    back = b.op("iadd", b.op("imul", k, b.index(-1)), b.op("iadd", edges, b.index(-1)))
    n, w = row.edge(back)
    row.add(back, n, w, b.op("mul", behind, b.load("products", 0, back)))
    b.close(b.op("mul", behind, b.op("mul", n, w)))


def divisors(b: Builder, row: Parts, d: int) -> None:
    """The row is a quotient: from the last divisor to the first, then what is divided."""
    edges = row.edges
    loop = b.loop(b.index(1), edges, [start(b, "div", *row.edge(b.index(0)))])
    quotient = step(b, "div", loop[1], *row.edge(loop[0]))
    b.store(quotient, "products", 0, loop[0])
    b.close(quotient)
    k, left = b.loop(b.index(1), edges, [d])
    back = b.op("iadd", b.op("imul", k, b.index(-1)), edges)
    n, w = row.edge(back)
    left = b.op("div", left, b.op("mul", n, w))
    row.add(back, n, w, divisor_part(b, left, b.load("products", 0, back)))
    (left,) = b.close(left)
    row.add(b.index(0), *row.edge(b.index(0)), left)


def choice(b: Builder, agg: str, row: Parts, d: int) -> None:
    """The row is one of CHOICES: all goes to the first edge that has the value that was chosen,
    down the chain of choices, from the last edge up to the first."""
    edges = row.edges
    loop = b.loop(b.index(1), edges, [start(b, agg, *row.edge(b.index(0)))])
    b.store(loop[1], "products", 0, loop[0])
    b.close(step(b, agg, loop[1], *row.edge(loop[0])))
    k, left = b.loop(b.index(1), edges, [d])
    back = b.op("iadd", b.op("imul", k, b.index(-1)), edges)
    n, w = row.edge(back)
    product, acc, zero = b.op("mul", n, w), b.load("products", 0, back), b.const(0.0)
    chosen = taken(b, agg, acc, product)
    row.add(back, n, w, b.op("select", chosen, left, zero))
    (left,) = b.close(b.op("select", chosen, zero, left))
    row.add(b.index(0), *row.edge(b.index(0)), left)
