"""Aggregations, as one fold over (n, w) in in-list order, for every emitter.

`start` makes the accumulator of the first edge, `step` takes a further one in, `finish` makes the
sum that the activation sees. A `sum` with a bias starts from the bias itself: the caller gives it
to the first `step` as the accumulator, and None to `finish`.

    sum, mean   acc = fma(n, w, acc)         under `fused`, else acc + n*w
    mul         acc = acc * (n*w)
    max, min    acc = n*w if n*w > acc else acc              (min: <)
    maxabs      acc = n*w if |n*w| > |acc| else acc

So the first of equals wins, a NaN in the first product stays, and one in a later product loses, as
"only if strictly greater" says.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

V = TypeVar("V")


class Emitter(Protocol[V]):
    @property
    def fused(self) -> bool: ...

    def op(self, name: str, /, *values: V) -> V: ...

    def const(self, value: float, /) -> V: ...


def start(e: Emitter[V], agg: str, n: V, w: V) -> V:
    """The accumulator after the first edge: its rounded product."""
    return e.op("mul", n, w)


def step(e: Emitter[V], agg: str, acc: V, n: V, w: V) -> V:
    """The accumulator after one more edge; ValueError for an unknown aggregation."""
    if agg in ("sum", "mean"):
        if e.fused:
            return e.op("fma", n, w, acc)
        return e.op("add", acc, e.op("mul", n, w))
    product = e.op("mul", n, w)
    if agg in ("max", "min", "mul"):
        return e.op(agg, acc, product)
    if agg == "maxabs":
        larger = e.op("gt", e.op("abs", product), e.op("abs", acc))
        return e.op("select", larger, product, acc)
    raise ValueError(f"unknown aggregation {agg}")


def finish(e: Emitter[V], agg: str, acc: V | None, count: int, bias: V | None) -> V:
    """The activation's argument, of the accumulator (None without edges) over `count` edges."""
    if acc is None:
        if bias is None:
            raise ValueError("a neuron with neither edges nor bias has no sum")
        return bias
    if agg == "mean":
        acc = e.op("div", acc, e.const(float(count)))
    return acc if bias is None else e.op("add", acc, bias)
