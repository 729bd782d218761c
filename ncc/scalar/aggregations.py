"""Aggregations, as one fold over (n, w) in in-list order, for every emitter.

`start` makes the accumulator of the first edge, `step` takes a further one in, `finish` makes the
sum that the activation sees; `total` is all three, where the edges come one by one. A `sum` or
`dot` (FROM_BIAS) with a bias starts from the bias itself: the caller gives it to the first `step`
as the accumulator, and None to `finish`.

    sum, sumbias, mean   acc = fma(n, w, acc)      under `fused`, else acc + n*w
    dot                  acc = fma(n0*w, n1, acc)  under `fused`, else acc + (n0*w)*n1
    mul, div             acc = acc * (n*w), acc / (n*w)
    max, min             acc = n*w if n*w > acc else acc              (min: <)
    maxabs               acc = n*w if |n*w| > |acc| else acc
    maximum, minimum     as max, min, but acc = n*w where n*w is a NaN

So the first of equals wins (of +0 and -0, too), a NaN in the first product stays, and one in a
later product loses, as "only if strictly greater" says; of maximum and minimum it wins and stays.

`sumbias` starts from the first product and adds the bias last, rounded by itself, as most tools do;
without edges it is the bias.

The edges of a `dot` come in pairs, (n0, w) and (n1, 1): its terms are products of two sources. What
is folded is made of a pair by `term`: (n1, n0*w), of which a `dot` is the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ncc.scalar.emitter import Emitter, V

FROM_BIAS: Final = ("sum", "dot")  # what begins with the bias, where there is one
PAIRS: Final = ("dot",)  # whose in-lists are pairs of edges; the second of a pair has the weight 1
PLAIN_SUMS: Final = ("sum", "sumbias")  # each product has the adjoint of the sum
SUMS: Final = (*PLAIN_SUMS, "mean")  # all products have one adjoint
EXTREMES: Final = ("maximum", "minimum")  # of which a NaN wins
# Those that choose a product: the op that says what is greater, of the products themselves.
CHOICES: Final = {"max": "gt", "min": "lt", "maximum": "gt", "minimum": "lt", "maxabs": "gt"}


def edges_a_term(agg: str) -> int:
    """How many edges of an in-list are folded together."""
    return 2 if agg in PAIRS else 1


def term(e: Emitter[V], agg: str, ns: Sequence[V], w: V) -> tuple[V, V]:
    """What `start` and `step` take, of the sources of a term's edges and the weight of the first
    one."""
    if len(ns) != edges_a_term(agg):
        raise ValueError(f"{len(ns)} edges are no term of {agg}")
    return (ns[0], w) if len(ns) == 1 else (ns[1], e.op("mul", ns[0], w))


def start(e: Emitter[V], agg: str, n: V, w: V) -> V:
    """The accumulator after the first term: its rounded product."""
    return e.op("mul", n, w)


def step(e: Emitter[V], agg: str, acc: V, n: V, w: V) -> V:
    """The accumulator after one more term; ValueError for an unknown aggregation."""
    if agg in SUMS or agg in PAIRS:
        if e.fused:
            return e.op("fma", n, w, acc)
        return e.op("add", acc, e.op("mul", n, w))
    product = e.op("mul", n, w)
    if agg in ("max", "min", "mul", "div"):
        return e.op(agg, acc, product)
    if agg in EXTREMES:
        greatest = e.op("max" if agg == "maximum" else "min", acc, product)
        return e.op("select", e.op("une", product, product), product, greatest)
    if agg == "maxabs":
        return e.op("select", taken(e, agg, acc, product), product, acc)
    raise ValueError(f"unknown aggregation {agg}")


def taken(e: Emitter[V], agg: str, acc: V, product: V) -> V:
    """Whether one of CHOICES takes a product after acc, by which its adjoint goes. A NaN is never
    taken: where maximum or minimum is one, the adjoint goes to the extreme of what else there is,
    up to the first NaN."""
    if agg == "maxabs":
        product, acc = e.op("abs", product), e.op("abs", acc)
    return e.op(CHOICES[agg], product, acc)


def total(e: Emitter[V], agg: str, edges: Iterable[tuple[V, V]], bias: V | None) -> V:
    """The activation's argument, of all edges (n, w), taken one by one, and the bias."""
    acc = bias if agg in FROM_BIAS else None
    count, coming = 0, iter(edges)
    for n, w in coming:
        ns = [n, *[next(coming)[0] for _ in range(edges_a_term(agg) - 1)]]
        made = term(e, agg, ns, w)
        acc = start(e, agg, *made) if acc is None else step(e, agg, acc, *made)
        count += 1
    return finish(e, agg, acc, count, None if agg in FROM_BIAS else bias)


def extreme(e: Emitter[V], agg: str, held: tuple[V, V] | None, n: V, w: V) -> tuple[V, V]:
    """What is held of the edges of `maximum` or `minimum` up to one more, in two chains: what is
    greatest (least) beside NaNs, and the last NaN. In one, LLVM joins both choices of a step, so
    that there is no instruction for a maximum."""
    product = e.op("mul", n, w)
    if held is None:
        return product, product
    acc = e.op("max" if agg == "maximum" else "min", held[0], product)
    return acc, e.op("select", e.op("une", product, product), product, held[1])


def extreme_of(e: Emitter[V], held: tuple[V, V], bias: V | None) -> V:
    """What `total` is of `maximum` or `minimum`, and the same bits, of what `extreme` held."""
    acc, last = held
    acc = e.op("select", e.op("une", last, last), last, acc)
    return acc if bias is None else e.op("add", acc, bias)


def pull(e: Emitter[V], agg: str, ns: Sequence[V], ws: Sequence[V], d: V) -> list[V]:
    """The adjoint of each product n*w, of the adjoint d of the aggregate of one edge or more.

    A mean divides by the number of edges; a product of products is taken apart by what stands
    before and behind each, so that factors of 0 do no harm; a quotient q = p/c has 1/c and -q/c;
    a pair of a `dot` has n1 and n0*w; of one of CHOICES the last that was `taken` gets all. Raises
    ValueError for an unknown aggregation.
    """
    if agg in PLAIN_SUMS:
        return [d] * len(ns)
    if agg == "mean":
        return [e.op("div", d, e.const(float(len(ns))))] * len(ns)
    products = [e.op("mul", n, w) for n, w in zip(ns, ws, strict=True)]
    if agg in PAIRS:
        return [e.op("mul", d, x) for k in range(0, len(ns), 2) for x in (ns[k + 1], products[k])]
    before = [products[0]]
    for n, w in zip(ns[1:], ws[1:], strict=True):
        before.append(step(e, agg, before[-1], n, w))
    out: list[V] = []
    for k in range(len(ns) - 1, 0, -1):
        acc, product = before[k - 1], products[k]
        if agg == "mul":
            out.append(e.op("mul", d, acc))
            d = e.op("mul", d, product)
        elif agg == "div":
            d = e.op("div", d, product)
            out.append(divisor_part(e, d, before[k]))
        else:
            zero = e.const(0.0)
            chosen = taken(e, agg, acc, product)
            out.append(e.op("select", chosen, d, zero))
            d = e.op("select", chosen, zero, d)
    return [d, *reversed(out)]


def divisor_part(e: Emitter[V], d: V, quotient: V) -> V:
    """The adjoint of the divisor c of p/c = quotient, of the adjoint d of p."""
    return e.op("neg", e.op("mul", d, quotient))


def finish(e: Emitter[V], agg: str, acc: V | None, count: int, bias: V | None) -> V:
    """The activation's argument, of the accumulator (None without edges) over `count` edges."""
    if acc is None:
        if bias is None:
            raise ValueError("a neuron with neither edges nor bias has no sum")
        return bias
    if agg == "mean":
        acc = e.op("div", acc, e.const(float(count)))
    return acc if bias is None else e.op("add", acc, bias)
