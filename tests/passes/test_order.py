"""The order of the passes: each reason in `ORDERS` is true of a net or module that shows it, and
neighbours of the pipeline that have no such reason may change places."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from modules import evaluate, some_module

import ncc
from ncc.driver.part import part
from ncc.driver.pipeline import ORDERS, PIPELINE, READING, arrives, departs, steps
from ncc.errors import NccError, Source
from ncc.formats.read import net
from ncc.ir.graph import Graph
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module
from ncc.ir.ssa_text import read
from ncc.passes.emit.to_llvm import to_llvm
from ncc.passes.graph.embed import embed
from ncc.passes.graph.merge import merge
from ncc.passes.graph.order import order
from ncc.passes.graph.prune import prune
from ncc.passes.graph.resolve import resolve
from ncc.passes.graph.unroll import unroll
from ncc.passes.lower.lower import lower
from ncc.passes.plan.differentiate import differentiate
from ncc.passes.plan.group import group
from ncc.passes.plan.place import place
from ncc.passes.plan.train import train
from ncc.passes.ssa.cse import cse
from ncc.passes.ssa.dce import dce
from ncc.passes.ssa.expand import expand
from ncc.passes.ssa.fold import fold
from ncc.passes.ssa.split import split

Pass = Callable[..., Any]
TWINS = "N 05\n00\n01\n02 tanh 00:{0},01:2\n03 tanh 00:1,01:2\n04 relu 02:1,03:{1}\n"
# What each reason is shown by: a level, the options, and what is counted.
TANHS = """module m f32 fused

func f(x in 1, y out 3, work work 0) {
  %0 = load x[0]
  %1 = const 1.0
  %2 = mul %0, %1
  %3 = tanh %0
  %4 = tanh %2
  %5 = exp %0
  store %3, y[0]
  store %4, y[1]
}
"""
SHORT = {"piece": 20, "whole": 0}


def graph(text: str) -> Graph:
    return ncc.parse(text).graph


def embedded(graph: Graph, **options: Any) -> Graph:
    return embed(graph, params=graph.values)


def edges(level: Graph) -> int:
    return level.n_edges


def ops(level: Module) -> int:
    return sum(len(f.ops) for f in level.funcs)


def longest(level: Module) -> int:
    return max(len(f.ops) for f in level.funcs)


def tanhs() -> Module:
    return read(Source("tanhs", TANHS))


def fast(call: Pass) -> Pass:
    return lambda level: call(level, numerics="fast")


# By pair: the level to start from, the two passes with their options, what is counted of all that
# they make; it is less in the right order.
WITNESSES: dict[tuple[Pass, Pass], tuple[Any, Pass, Pass, Callable[[Any], int]]] = {
    (embed, merge): (graph(TWINS.format(1, -1)), embedded, merge, edges),
    (embed, prune): (graph(TWINS.format(0, -1)), embedded, fast(prune), edges),
    (merge, prune): (embedded(graph(TWINS.format(1, -1))), fast(merge), fast(prune), edges),
    (fold, cse): (tanhs(), fold, cse, ops),
    (fold, dce): (tanhs(), fold, dce, ops),
    (cse, expand): (fold(tanhs()), cse, expand, ops),
    (dce, expand): (tanhs(), dce, expand, ops),
    (expand, split): (tanhs(), expand, lambda level: split(level, **SHORT), longest),
}


@pytest.mark.parametrize("pair", WITNESSES, ids=lambda pair: "-".join(p.__name__ for p in pair))
def test_a_reason_is_true(pair):
    level, first, then, count = WITNESSES[pair]
    right, wrong = [], []
    for calls, made in (((first, then), right), ((then, first), wrong)):
        at = level
        for call in calls:
            at = call(at)
            made.append(count(at))
    if count is longest:  # of the end alone: what split has not seen is long before, too
        right, wrong = right[-1:], wrong[-1:]
    assert sum(right) < sum(wrong)


def test_passes_that_want_depths_have_none_without_order():
    bare = graph(TWINS.format(1, 1)).with_(levels=None)
    for call in (merge, prune, group):
        with pytest.raises((AssertionError, ValueError)):
            call(bare)
        call(order(bare))


def test_a_cycle_has_the_numbers_of_the_nets_own_neurons():
    """Which is why `order` comes before `unroll`, and both are a part of reading a net."""
    text = Source("net", "N 03\n00\n01 tanh 00,02,~02\n02 relu 01\n")
    cyclic = resolve(net(text, "nal"))
    with pytest.raises(NccError, match="a cycle: 01 -> 02 -> 01"):
        order(cyclic)
    assert unroll(cyclic, steps=2).n_neurons == 7  # which would be shown as one of these
    assert tuple([call.__name__ for call in PIPELINE[: len(READING)]]) == READING
    made = ncc.unroll(ncc.parse("N 02\n00\n01 tanh 00:1,~01:2\n"), 2).graph
    assert made.names and embedded(made).names == made.names


def test_lower_wants_slots_and_llvm_wants_arithmetic_and_short_functions():
    plan = group(graph(TWINS.format(1, 1)), form="table", batch_form="table")
    with pytest.raises(AssertionError):
        lower(plan)
    module = lower(place(plan))
    with pytest.raises(KeyError):
        to_llvm(module)
    to_llvm(expand(module))
    assert longest(split(expand(tanhs()), **SHORT)) < longest(expand(tanhs()))


def test_every_reason_is_shown():
    shown = {*WITNESSES, (order, unroll), (unroll, embed), (order, merge), (order, prune),
             (order, group), (place, lower),
             (expand, to_llvm), (split, to_llvm)}
    assert {(o.first, o.then) for o in ORDERS} == shown
    assert all(o.why for o in ORDERS)


def test_the_pipeline_keeps_the_order():
    for o in ORDERS:
        assert PIPELINE.index(o.first) < PIPELINE.index(o.then)
        assert arrives(o.first) is departs(o.then)  # levels alone do not say it


def test_a_part_of_the_pipeline_has_what_is_needed():
    needed = [o for o in ORDERS if o.needed]
    assert needed
    for o in needed:
        names = [s.name for s in steps() if s.call is not o.first]
        chosen = ",".join(names[: names.index(o.then.__name__) + 1])
        with pytest.raises(NccError, match=f"{o.then.__name__} needs {o.first.__name__}") as caught:
            part(chosen, Graph)
        assert o.why in str(caught.value)
        assert part(",".join(s.name for s in steps()), Graph).chosen


def test_neighbours_without_a_reason_may_change_places():
    """What is left of pairs of neighbours of one level: the same comes out either way."""
    bound = {(o.first, o.then) for o in ORDERS}
    free = {(a, b) for a, b in pairwise(PIPELINE) if (a, b) not in bound
            and departs(a) is arrives(a) is departs(b) is arrives(b)}
    assert free == {(place, differentiate), (differentiate, train), (cse, dce)}
    twins = graph(TWINS.format(1, -1)).with_(levels=None)
    plan: Plan = group(order(twins), form="table", batch_form="table", gradient=True)
    assert str(differentiate(place(plan))) == str(place(differentiate(plan)))

    def trained(plan: Plan) -> Plan:
        return train(plan, loss="mse", optimizer="sgd")

    both = trained(differentiate(plan)), differentiate(trained(plan))
    assert set(both[0].functions) == set(both[1].functions)
    assert str(lower(place(both[0]))) == str(lower(place(both[1])))
    for seed in range(20):
        module = fold(some_module(seed))
        assert ops(dce(cse(module))) == ops(cse(dce(module)))
        assert evaluate(cse(dce(module))).keys() == evaluate(dce(cse(module))).keys()
