"""The functions that a plan names: who asks for them, the rules, what `lower` writes."""

from __future__ import annotations

import numpy as np
import pytest

import ncc
from ncc.errors import NccError
from ncc.ir.plan import FUNCTIONS, Plan, Wanted
from ncc.machine.model import EDGES_TO_KEEP
from ncc.passes.graph.embed import embed
from ncc.passes.lower.arrays.tables import Tables
from ncc.passes.lower.lower import lower
from ncc.passes.plan.differentiate import differentiate
from ncc.passes.plan.group import group
from ncc.passes.plan.place import place
from ncc.passes.plan.train import train

NET = "N 06\n00\n01\n02 tanh 00,01 +\n03 tanh 00,01 +\n04 relu 02,03\n05 relu 02,03\n"


def planned(**options) -> Plan:
    forms = {name: "table" for name in ("form", "batch_form", "backward_form")}
    return place(group(ncc.parse(NET).graph, **{**forms, **options}))


def names(plan: Plan) -> list[str]:
    return [wanted.name for wanted in plan.functions]


def written(plan: Plan) -> list[str]:
    module = lower(plan)
    module.verify()
    return [func.name for func in module.funcs]


def test_each_pass_asks_for_its_functions():
    plan = planned(gradient=True)
    assert names(plan) == ["pack", "forward", "forward_batch"]
    fixed = embed(ncc.parse(NET).graph, params=np.ones(10))
    assert names(group(fixed, embedded=True)) == ["forward", "forward_batch"]
    assert names(planned(forwards=False)) == ["pack"]
    both = differentiate(plan)
    assert names(both) == [*names(plan), "backward", "backward_batch"]
    assert names(differentiate(plan, vjp=False)) == names(plan) == names(train(plan))
    step = train(both, loss="mse", optimizer="sgd")
    assert names(step) == [*names(both), "train_step", "train_step_batch"]
    apart = train(both, loss="mse", optimizer="sgd", apart=True)
    assert names(apart) == [*names(both), "gradient_batch", "update"]
    alone = planned()  # without a schedule for gradients there are none
    assert names(differentiate(alone)) == names(alone)
    assert names(train(alone, loss="mse", optimizer="sgd")) == names(alone)
    for each in (plan, both, step, apart, alone):
        each.verify()
        assert written(each) == names(each)


def test_what_is_kept_is_asked_for_in_two_functions():
    wide = "\n".join(f"{j:02x} tanh " + ",".join(f"{i:02x}" for i in range(64))
                     for j in range(64, 80))
    graph = ncc.parse("N 50\n" + "".join(f"{i:02x}\n" for i in range(64)) + wide + "\n").graph
    plan = place(group(graph, gradient=True, backward_form="table"))
    assert plan.n_kept * EDGES_TO_KEEP <= len(plan.edges)
    kept = differentiate(plan, kept=4 * plan.n_kept)  # of one sample, and no chunk of them
    assert names(kept)[3:] == ["forward_keep", "backward_kept", "backward_batch"]
    kept.verify()
    assert written(kept) == names(kept)
    assert names(differentiate(plan, kept=1 << 20, recompute=64))[3:] == [
        "backward", "backward_batch"]


def test_a_pass_that_runs_twice_asks_once():
    once = differentiate(planned(gradient=True))
    assert names(differentiate(once)) == names(once)
    assert differentiate(once, recompute=64).functions[-1] == Wanted("backward_batch", 64)


def test_only_what_is_named_is_written():
    plan = differentiate(planned(gradient=True))
    for some in (["pack"], ["pack", "forward"], ["backward"], ["backward_batch", "backward"]):
        assert written(plan.with_(functions=tuple(map(Wanted, some)))) == some
    assert written(plan.with_(functions=())) == []


def test_functions_of_one_kind_stand_together():
    plan = differentiate(train(planned(gradient=True), loss="mse", optimizer="sgd"))
    assert names(plan)[3] == "train_step"
    assert written(plan)[3:] == ["backward", "backward_batch", "train_step", "train_step_batch"]


@pytest.mark.parametrize("functions, why", [
    ([Wanted("pack"), Wanted("pack")], "wanted twice"),
    ([Wanted("sideways")], "no function sideways"),
    ([Wanted("pack"), Wanted("forward_batch")], "forward_batch without forward"),
    ([Wanted("forward")], "forward without pack"),
    ([Wanted("pack", loss="mse", optimizer="sgd")], "for training"),
    ([Wanted("train_step")], "for training"),
    ([Wanted("train_step", loss="mse")], "for training"),
    ([Wanted("backward_kept")], "nothing that was kept"),
    ([Wanted("backward_kept"), Wanted("forward_keep")], "nothing that was kept"),
    ([Wanted("forward_keep"), Wanted("backward_kept", recompute=64)], "no loop of one block"),
])
def test_a_plan_whose_functions_break_a_rule_is_caught(functions, why):
    plan = planned(gradient=True)
    with pytest.raises(NccError, match="E304") as caught:
        plan.with_(functions=tuple(functions)).verify()
    assert why in str(caught.value)


def test_gradients_want_a_schedule():
    for name in FUNCTIONS[3:-1]:
        with pytest.raises(NccError, match="E304"):
            planned().with_(functions=(Wanted(name, 0, "mse", "sgd"),)).verify()


def test_a_plan_says_its_functions():
    plan = train(differentiate(planned(gradient=True), recompute=64), loss="mse",
                 optimizer="rmsprop")
    line = str(plan).splitlines()[1]
    assert line.startswith("functions pack, forward, forward_batch, backward{recompute=64}, ")
    assert "train_step{loss=mse,optimizer=rmsprop:" in line
    assert str(plan.with_(functions=())).splitlines()[1] == "functions -"


def test_an_array_has_one_name_in_the_module():
    tables = Tables("f32")
    assert tables.add("starts", "i", [0, 2]) == "starts"
    assert tables.add("starts", "i", np.array([0, 2], np.int64)) == "starts"
    assert tables.add("starts", "i", [0, 3]) == "starts_1"
    assert tables.add("ends", "i", [0, 2]) == "ends"  # functions of one kind do not look
    tables.begin()
    assert tables.add("lists", "i", [0, 3]) == "starts_1"  # ... those of the next do
    assert tables.add("ends", "i", [7]) == "ends_3"  # a name that another has
    assert tables.add("ends", "i", [7]) == "ends_3"
    assert tables.add("reals", "f", [0, 3]) == "reals"
    assert [(t.name, t.type, t.values.tolist()) for t in tables.made.values()] == [
        ("starts", "i", [0, 2]), ("starts_1", "i", [0, 3]), ("ends", "i", [0, 2]),
        ("ends_3", "i", [7]), ("reals", "f", [0.0, 3.0])]
