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
from ncc.scalar.activations import ACTIVATIONS

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
