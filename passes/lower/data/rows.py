"""The value of a row, from what is known when the engine runs."""

from __future__ import annotations

from collections.abc import Callable

from ncc.errors import Source
from ncc.images.kinds import Kinds
from ncc.ir.ssa_build import Builder
from ncc.scalar.aggregations import FROM_BIAS, PAIRS, finish, start, step, term
from ncc.scalar.expressions import emit, parse


class Rows:
    """What the functions of one engine share: its kinds, and how a row of a kind is computed."""

    def __init__(self, kinds: Kinds, dtype: str, fused: bool) -> None:
        self.kinds = kinds
        self.dtype = dtype
        self.fused = fused
        self.programs = [parse(Source("<activation>", kind.activation), kind.activation)
                         for kind in kinds.kinds]

    def argument(self, b: Builder, number: int, first: int, last: int, bias: int,
                 count: Callable[[], int], edge: Callable[[int], tuple[int, int]]) -> int:
        """The argument of the activation of a row of this kind, with the edges first .. last;
        `edge` makes source and weight of one, `count` how many there are, a real, where their mean
        is wanted. A row without a bias has -0, which leaves all as it is."""
        agg = self.kinds.kinds[number].aggregation
        if agg in PAIRS:
            return self.pairs(b, agg, first, last, bias, edge)
        begin, acc = first, bias
        if agg not in FROM_BIAS:
            begin, acc = b.op("iadd", first, b.index(1)), start(b, agg, *edge(first))
        e, held = b.loop(begin, last, [acc])
        (acc,) = b.close(step(b, agg, held, *edge(e)))
        if agg == "mean":  # finish() divides by a number known here
            acc = b.op("div", acc, count())
        return finish(b, "sum" if agg == "mean" else agg, acc, 0,
                      None if agg in FROM_BIAS else bias)

    def pairs(self, b: Builder, agg: str, first: int, last: int, bias: int,
              edge: Callable[[int], tuple[int, int]]) -> int:
        """The same of a row whose edges are pairs; the weights of second ones are not looked at."""
        edges = b.op("iadd", last, b.op("imul", first, b.index(-1)))
        k, held = b.loop(b.index(0), b.op("idiv", edges, b.index(2)), [bias])
        e = b.op("iadd", first, b.op("imul", k, b.index(2)))
        (n0, w), (n1, _) = edge(e), edge(b.op("iadd", e, b.index(1)))
        return b.close(step(b, agg, held, *term(b, agg, (n0, n1), w)))[0]

    def activated(self, b: Builder, number: int, argument: int) -> int:
        """The value of a row of this kind."""
        return emit(self.programs[number], b, argument)
