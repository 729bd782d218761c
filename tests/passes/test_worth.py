"""What merge, cse and place are for: nets whose work they bring down to what it has to be."""

from __future__ import annotations

import numpy as np
from nets import random_layers

import ncc
from ncc.driver.compiler import Build
from ncc.driver.net_module import interpret
from ncc.driver.observe import Watcher
from ncc.driver.pipeline import steps
from ncc.driver.settings import options
from ncc.machine.llvm import host
from ncc.machine.targets import TARGETS
from ncc.passes.graph.order import order
from ncc.passes.graph.resolve import resolve
from ncc.passes.plan.cost import in_order


def built(text, passes=None, **more):
    graph = ncc.parse(text).graph
    along = [s for s in steps(passes) if s.call not in (resolve, order)]
    chosen = options(host(), form="straight", batch_form="table", **more)
    return Build(graph, host(), chosen, watch=Watcher(verify_each=True), along=along)


def count(build, opcode):
    return sum(op[0] == opcode for f in build.module.funcs for op in f.ops
               if f.name.startswith("forward") and "batch" not in f.name)


WITHOUT_MERGE = "embed,prune,group,place,lower,fold,cse,dce,expand,split,to_llvm"


def test_tied_neurons_are_one():
    """A filter over the same sources, forty times: one neuron's work."""
    rows = [f"{j:02x} tanh 00@a,01@b +@c" for j in range(2, 42)]
    text = "\n".join(["N 2b", "00", "01", *rows, "2a 0 " + ",".join(
        f"{j:02x}:0.5" for j in range(2, 42))])
    one = built(text)
    assert len(one.plan.rows) == 2
    by_cse = built(text, WITHOUT_MERGE)
    assert len(by_cse.plan.rows) == 41
    assert count(by_cse, "fma") + count(by_cse, "mul") <= count(one, "fma") + count(one, "mul")


def test_one_shared_constant_makes_a_product_a_neuron_under_strict():
    """W = 64 edges of n inputs into 8 neurons, all of weight 0.3: n products, not W."""
    rows = [f"{j:02x} relu " + ",".join(f"{(i + j) % 8:02x}:=0.3" for i in range(8 - j % 3))
            for j in range(8, 16)]
    text = "\n".join(["N 10", *[f"{i:02x}" for i in range(8)], *rows])
    strict, fused = built(text, numerics="strict"), built(text, numerics="fused")
    edges = len(strict.plan.edges)
    assert count(strict, "mul") == 8 < edges
    assert count(fused, "fma") + count(fused, "mul") == edges
    x = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    for build, numerics in ((strict, "strict"), (fused, "fused")):
        y = interpret(build.module, x, np.zeros(0))
        assert np.array_equal(y, build.graph.run(x, numerics=numerics))


def tree(depth):
    """A sum of sums, each repeated below: 2**depth leaves of the same two inputs."""
    lines, at, level = ["00", "01"], 2, []
    for _ in range(2**depth):
        lines.append(f"{at:04x} 0 00:=1,01:=2")
        level.append(at)
        at += 1
    while len(level) > 1:
        level, pairs = [], list(zip(level[::2], level[1::2], strict=True))
        for a, b in pairs:
            lines.append(f"{at:04x} 0 {a:04x}:=1,{b:04x}:=1")
            level.append(at)
            at += 1
    return "\n".join([f"N {at:x}", *lines])


def test_a_tree_of_repeated_sums_comes_back_to_a_chain():
    depth = 8
    by_merge, by_cse = built(tree(depth)), built(tree(depth), WITHOUT_MERGE)
    assert len(by_merge.plan.rows) == depth + 1
    assert len(by_cse.plan.rows) == 2 ** (depth + 1) - 1
    for build in (by_merge, by_cse):
        assert sum(count(build, op) for op in ("add", "mul", "fma")) <= 2 * (depth + 1)


def test_work_is_the_widest_cut_not_the_neurons():
    net = ncc.parse(random_layers([256] * 30, 8, seed=1))
    plan = Build(net.graph, host(), options(host())).plan
    assert plan.single.form == plan.batch.form == "table"
    assert plan.batch.work <= 2 * 256
    plan.verify()


def test_code_of_a_table_does_not_grow_with_the_edges():
    def instructions(width, layers):
        net = ncc.parse(random_layers([width] * layers, 8, seed=1))
        text = Build(net.graph, host(), options(host(), form="table")).llvm
        return sum(" = " in line and "constant" not in line for line in text.split("\n"))

    assert instructions(64, 4) == instructions(128, 12)


def test_small_devices_with_an_fpu_unroll_small_nets():
    """Unless the fewest bytes are asked for; without one loops are as fast; larger nets stay in
    them."""
    def form(net, name, small):
        chosen = options(TARGETS[name], small=small)
        return Build(net.graph, TARGETS[name], chosen).plan.single.form

    few, many = ncc.new("fcn", 4, 8, 8, 2), ncc.new("fcn", 16, 32, 8, 2)
    assert [form(few, "cortex-m4f", s) for s in (None, True, False)] == [
        "straight", "table", "straight"]
    assert form(few, "cortex-m0", None) == "table"
    assert {form(many, "cortex-m4f", s) for s in (None, True)} == {"shared"}


def test_an_in_order_core_waits_for_what_its_form_loads():
    """The rare half of a sine does not count, and rows alone go by the table's loop."""
    net, sine = ncc.new("fcn", 4, 8, 8, 2), ncc.new("fcn", 4, 8, 8, 2, activation="sin")
    plans = {f: Build(net.graph, host(), options(host(), form=f, batch_form=f)).plan
             for f in ("straight", "table", "shared")}
    cycles = {f: in_order(plan, f) for f, plan in plans.items()}
    assert cycles["straight"] < cycles["shared"] < cycles["table"]
    plan = Build(sine.graph, host(), options(host(), form="straight")).plan
    assert in_order(plan, "straight") < 4 * cycles["straight"]
