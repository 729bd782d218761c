"""Nets of many activations: what stands once in their code, and the bits that it computes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from objects import same

import ncc
from ncc.driver.compiler import Build
from ncc.driver.settings import options
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import target
from ncc.passes.emit.llvm import loops
from ncc.scalar.activations import ACTIVATIONS

XOR = "N 05\n00\n01\n02 tanh 00,01 +\n03 tanh 00,01 +\n04 sigmoid 02,03 +\n"
NAMES = [activation.name for activation in ACTIVATIONS]


def net_of(names, turns=2):
    """`turns` levels, in each a sum of three with each of the activations."""
    lines = ["0", "1", "2", "3"]
    for turn in range(turns):
        for name in names:
            k = len(lines)
            reads = [k % 4, (k + 1) % 4] if not turn else [k - len(names), k % 4]
            edges = ",".join([f"{r:x}:{0.1 + (k * 7 + r) % 9 / 5}" for r in reads])
            lines.append(f"{k:x} {name} {edges} +{k % 5 / 4}")
    return ncc.parse(f"N {len(lines):x}\n" + "\n".join(lines) + "\n")


def samples(net, count):
    rng = np.random.default_rng(count)
    x = rng.normal(size=(count, len(net.inputs))) * 10.0 ** rng.integers(-3, 6, (count, 1))
    x[1, 0], x[2, 1], x[3, 2] = np.inf, -np.inf, np.nan
    return x


@pytest.mark.parametrize(("dtype", "numerics"), [("f32", "fused"), ("f64", "strict")])
def test_batches_of_all_activations_have_the_interpreters_bits(dtype, numerics):
    net = net_of(NAMES)
    fn = ncc.compile(net, dtype=dtype, numerics=numerics, batch_form="table",
                     backward_form="table", tier="now", cache=False, limit=False)
    for count in (5, 71):
        x = samples(net, count).astype(DTYPES[dtype])
        y, pullback = fn.vjp(x)
        wanted = net.graph.run(x, dtype=dtype, numerics=numerics)
        same(np.nan_to_num(fn(x), nan=7), np.nan_to_num(wanted, nan=7))
        same(np.nan_to_num(y, nan=7), np.nan_to_num(wanted, nan=7))
        dy = np.ones_like(wanted)
        for mine, theirs in zip(pullback(dy), net.graph.gradient(
                x, dy, dtype=dtype, numerics=numerics), strict=True):
            same(np.nan_to_num(mine, nan=7), np.nan_to_num(theirs, nan=7))


def relus(fan_in, inputs=16, total=50):
    """Each neuron reads those before it."""
    rows = [f"{k:x}" for k in range(inputs)]
    for k in range(inputs, total):
        rows.append(f"{k:x} relu " + ",".join([f"{j:x}" for j in range(k - fan_in, k)]))
    return ncc.parse(f"N {total:x}\n" + "\n".join(rows) + "\n")


def defined(text, name):
    """The text of a function."""
    return text[text.index(f"@net_{name}(") :].split("\n}")[0]


def test_llvm_improves_loops_where_that_pays():
    """Neither many loops, of many kinds, which do not even say that they count, nor straight code
    in a single one."""
    machine = target("x86-64-v4")
    xor = ncc.parse("N 05\n00\n01\n02 tanh 00,01 +\n03 tanh 00,01 +\n04 sigmoid 02,03 +\n")
    straight = Build(xor.graph, machine, options(machine, name="net")).llvm
    for text, name, improved, hidden in (
            (text_of(relus(3)), "backward", True, False),
            (text_of(net_of(NAMES)), "backward_batch", False, True),
            (straight, "forward_batch", False, False)):
        body = defined(text, name)
        head = body.split("\n")[0]
        assert (" #2 " in head, " #0 " in head) == (improved, not improved)
        count = len(re.findall(r"%k\w+ = phi i64", body))
        assert count and body.count('asm "", "=r,0"') == count * hidden


def tree(fan_in, leaves):
    """Each neuron reads its own `fan_in` of the level before."""
    rows = [f"{k:x}" for k in range(leaves)]
    first = 0
    while len(rows) - first > 1:
        level = range(first, len(rows), fan_in)
        first = len(rows)
        for k in level:
            rows.append(f"{len(rows):x} tanh " + ",".join([f"{k + j:x}" for j in range(fan_in)]))
    return ncc.parse(f"N {len(rows):x}\n" + "\n".join(rows) + "\n")


def test_short_loops_of_one_sample_are_not_unrolled(monkeypatch):
    """Where a table says how many rounds there are, and that is no more than four."""
    def rolled(net):
        return defined(text_of(net), "backward").count("!llvm.loop !0")

    few, more = tree(2, 64), tree(8, 512)
    short, long = rolled(few), rolled(more)
    monkeypatch.setattr(loops, "SHORT", 0)
    assert rolled(few) < short and rolled(more) == long


def text_of(net):
    machine = target("x86-64-v4")
    return Build(net.graph, machine, options(
        machine, name="net", batch_form="table", backward_form="table", gradient=True)).llvm


def test_vectors_take_turns_where_activations_are_many():
    few, many = text_of(net_of(NAMES[1:5])), text_of(net_of(NAMES))
    tanh = re.compile(r"call fastcc [^@]*@net_tanh\.16x(\d)\(")
    assert set(tanh.findall(many)) == {"1"}
    assert "urem" in many and "urem" not in few


def test_sums_of_many_activations_stand_once():
    functions = re.findall(r"^define [^\n]*@net_forward_batch\(.*?^}", text_of(net_of(NAMES)),
                           re.M | re.S)
    # of each vector, the sum over the edges
    assert functions[0].count("@llvm.fma.v16f32") <= 8 < len(NAMES)


def test_sine_and_cosine_share_what_is_rare():
    text = text_of(net_of(NAMES))
    rare = re.findall(r"^define internal fastcc [^@\n]*@net_(rare\d+)\.16x1\(", text, re.M)
    assert rare == ["rare0"]
    for name in ("sin", "cos"):
        body = re.search(rf"^define [^\n]*@net_{name}\.16x1\(.*?^}}", text, re.M | re.S)
        assert body is not None and "@net_rare0.16x1(" in body[0]
