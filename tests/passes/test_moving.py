"""Slots of depths that repeat: those of each step are those of the step before, moved on."""

from __future__ import annotations

import numpy as np
import pytest

import ncc
from ncc.driver.compiler import Build
from ncc.driver.settings import options
from ncc.machine.llvm import target
from ncc.passes.lower.arrays.lists import lists_of
from ncc.passes.plan import place

MACHINE = target("x86-64-v4")
NETS = {
    "lstm": ("lstm", "8x{}", "h16"),
    "narrow": ("lstm", "3x{}", "h8"),
    "wide": ("lstm", "20x{}", "h12"),
    "gru": ("gru", "8x{}", "h16"),
    "rnn": ("rnn", "8x{}", "h20"),
    "tiles that are not full": ("lstm", "8x{}", "h20"),
    "two layers": ("lstm", "6x{}", "h8", "l2"),
}


def planned(net, form="shared"):
    return Build(net.graph, MACHINE, options(MACHINE, form=form, batch_form=form)).plan


def every_step(net):
    """The net, whose outputs are what its own read, of all steps."""
    g = net.graph
    kinds = np.stack([g.activations, g.aggregations, np.diff(g.starts)])
    like = g.sources[g.starts[g.outputs[0]]]
    outputs = np.flatnonzero((kinds == kinds[:, [like]]).all(axis=0)).astype(np.int32)
    return ncc.Net(g.with_(outputs=outputs, labels=()))


@pytest.mark.parametrize(("name", "form", "held"), [
    *[(name, "shared", held) for name in NETS for held in (False, True)], ("lstm", "table", False)])
def test_lists_of_sources_follow_one_step(name, form, held, monkeypatch):
    kind, size, *more = NETS[name]

    def made(steps):
        net = ncc.new(kind, size.format(steps), *more)
        return every_step(net) if held else net

    def cells(steps):
        plan = planned(made(steps), form)
        plan.verify()
        return len(lists_of(plan, plan.batch.slots).sources), plan.batch.work, plan

    (few, _, _), (many, work, plan) = cells(14), cells(26)
    assert many == few
    monkeypatch.setattr(place, "moving_slots", lambda *_: ())
    scanned = planned(made(26), form)
    assert work <= 1.3 * scanned.batch.work
    assert (plan.batch.slots != scanned.batch.slots).any()


def test_slots_stay_where_steps_go_both_ways(monkeypatch):
    def cells(steps):
        build = Build(ncc.new("lstm", f"4x{steps}", "h8", bidirectional=True).graph, MACHINE,
                      options(MACHINE, form="shared", batch_form="shared"))
        build.plan.verify()
        return sum(len(table.values) for table in build.module.tables), build.plan.batch.work

    (few, _), (many, work) = cells(48), cells(80)
    monkeypatch.setattr(place, "moving_slots", lambda *_: ())
    (short, _), (long, least) = cells(48), cells(80)
    assert work <= 1.3 * least
    assert many - few < (long - short) / 3
