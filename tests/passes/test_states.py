"""Nets with states: every form has the bits of the graph's interpreter, step by step."""

from __future__ import annotations

import random

import numpy as np
import pytest
from nets import some_net, to_nal, with_delays
from objects import same

import ncc
from ncc.driver.observe import Watcher
from ncc.driver.pipeline import AFTER_ORDER, walk
from ncc.driver.settings import options
from ncc.errors import Source
from ncc.ir import plan_text, ssa_text
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module
from ncc.machine.llvm import host, target

FORMS = [("straight", "straight"), ("table", "table"), ("shared", "shared"),
         ("straight", "table"), ("shared", "straight")]


def random_net(seed: int) -> ncc.Net:
    draw = random.Random(seed)
    net = some_net(seed, max_neurons=draw.choice([6, 20, 60]), max_fan_in=draw.choice([3, 8]))
    made = ncc.parse(with_delays(to_nal(net), seed, draw.choice([0.2, 0.5, 0.9])))
    if not made.states:
        return random_net(seed + 1000)
    values = made.graph.values
    return ncc.Net(made.graph.with_(values=np.where(np.isnan(values), 0.5, values)))


def delay_line(taps: int) -> ncc.Net:
    """Each neuron has the value that the one before had, so that no state may be overwritten before
    the next one is stored; and rows enough for ncc's own assembly."""
    lines = [f"N {1 + 2 * taps:x}", "00"]
    lines += [f"{1 + k:x} identity ~{k:x}:=1" for k in range(taps)]
    for k in range(taps):
        other = 1 + (k + 1) % taps
        lines.append(f"{1 + taps + k:x} {('relu', 'tanh')[k % 2]} {1 + k:x}:0.5,{other:x}:0.25,"
                     f"~{1 + taps + k * 7 % taps:x}:0.3 +0.1")
    return ncc.parse("\n".join(lines) + "\n")


def check(net: ncc.Net, seed: int, dtype: str, numerics: str, streams: int, steps: int = 9,
          **chosen) -> None:
    """Single steps, a sequence in one call, and streams side by side."""
    fn = ncc.compile(net, dtype=dtype, numerics=numerics, limit=False, **chosen)
    real = {"f32": np.float32, "f64": np.float64}[dtype]
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((steps, len(net.inputs))).astype(real)
    want = net.graph.run_steps(x, dtype=dtype, numerics=numerics)
    same(np.stack([fn(row) for row in x]), want)
    fn.reset()
    same(fn.steps(x), want)
    xs = draw.standard_normal((4, streams, len(net.inputs))).astype(real)
    fn.reset()
    same(np.stack([fn(rows) for rows in xs]),
         net.graph.run_steps(xs, dtype=dtype, numerics=numerics))


@pytest.mark.parametrize("seed", [pytest.param(k, marks=[pytest.mark.slow] * (k >= 5))
                                  for k in range(60)])
def test_forms_agree(seed):
    draw = random.Random(seed)
    form, batch_form = FORMS[seed % len(FORMS)]
    more = {"piece": 40, "whole": 10} if draw.random() < 0.4 else {}
    check(random_net(seed), seed, draw.choice(["f32", "f64"]), draw.choice(["strict", "fused"]),
          draw.choice([1, 5, 17, 37]), form=form, batch_form=batch_form,
          opt=draw.choice([0, 1, 2]), **more)


@pytest.mark.parametrize(("dtype", "chosen"), [
    pytest.param(dtype, chosen, id=f"{dtype}-{name}",
                 marks=[pytest.mark.slow] * (dtype == "f64" and name != "assembled"))
    for dtype in ("f32", "f64") for name, chosen in (
        ("assembled", {"form": "straight"}), ("table", {"form": "table", "batch_form": "table"}),
        ("pieces", {"form": "straight", "assembles": False, "piece": 50}))])
def test_old_values_are_read_before_new_ones_are_written(chosen, dtype):
    check(delay_line(40), 1, dtype, "fused", 19, steps=60, **chosen)


@pytest.mark.parametrize(("seed", "form", "numerics"), [
    pytest.param(seed, form, numerics, marks=[pytest.mark.slow] * (k != m if seed == 102 else
                                                                   k != 1 or m != 0))
    for seed in (101, 102) for k, form in enumerate(("straight", "table", "shared"))
    for m, numerics in enumerate(("strict", "fused", "fast"))])
def test_every_level_agrees(seed, form, numerics):
    net = random_net(seed)
    for aim in (host(), target("thumbv7em-none-eabihf", None, "")):  # without vectors, too
        chosen = options(aim, dtype="f32", numerics=numerics if aim == host() else "strict",
                         form=form, batch_form=form, piece=40, whole=10)
        watcher = Watcher(verify_each=True, check=True, numerics=chosen["numerics"])
        walk(net.graph, chosen, watcher, until=Module, along=AFTER_ORDER, params=net.graph.values)


@pytest.mark.parametrize("form", ["straight", "table"])
def test_texts_of_levels_read_back(form):
    """`.plan` and `.ssa` texts hold states, on a machine without vectors, too."""
    net = random_net(7)
    for aim in (host(), target("thumbv7em-none-eabihf", None, "")):
        chosen = options(aim, dtype="f32", form=form, batch_form=form)
        plan = walk(net.graph, chosen, None, until=Plan, along=AFTER_ORDER)
        assert str(plan_text.read(Source("plan", str(plan)))) == str(plan)
        module = walk(net.graph, chosen, None, until=Module, along=AFTER_ORDER)
        module.verify()
        assert str(ssa_text.read(Source("ssa", str(module)))) == str(module)


@pytest.mark.parametrize(("words", "message"), [
    ("functions pack, reset, forward, forward_batch, steps, backward", "backward has no schedule"),
    ("functions pack, reset, steps", "steps without forward"),
])
def test_plans_of_states_are_verified(words, message):
    net = ncc.parse("N 02\n00\n01 tanh 00:1,~01:0.5\n")
    plan = str(walk(net.graph, options(host()), None, until=Plan, along=AFTER_ORDER))
    usual = "functions pack, reset, forward, forward_batch, steps"
    assert usual in plan
    with pytest.raises(ncc.NccError, match=message):
        plan_text.read(Source("plan", plan.replace(usual, words)))
    plain = str(walk(ncc.parse("N 02\n00\n01 tanh 00:1\n").graph, options(host()), None,
                     until=Plan, along=AFTER_ORDER))
    with pytest.raises(ncc.NccError, match="of a net without states"):
        plan_text.read(Source("plan", plain.replace("functions pack,", "functions pack, reset,")))
