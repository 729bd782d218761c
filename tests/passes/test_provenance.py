"""Each op's neuron: from `lower` on through every pass, and at no cost unasked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from linked import TINY, build_of, linked_ops, random_build
from nets import some_net, to_nal

from ncc.driver.listings import linking
from ncc.errors import NccError, Source
from ncc.ir.ssa import Module
from ncc.ir.ssa_build import Builder
from ncc.ir.ssa_text import read as read_ssa
from ncc.passes.lower.lower import lower
from ncc.passes.ssa.cse import cse
from ncc.passes.ssa.dce import dce
from ncc.passes.ssa.fold import fold
from ncc.passes.ssa.split import split
from ncc.report.listings import of_llvm
from ncc.scalar.mathlib import BY_EXP, SEQUENCES, exp_near


def test_each_op_of_a_small_net_by_hand():
    module = linking(build_of(TINY, gradient=True)).module
    assert str(module.func("forward")) == """\
func forward(x in 2, packed in 5, y out 1, work work 0) {
  %0 = load x[0]                        // n00
  %1 = load x[1]                        // n01
  %2 = load packed[2]                   // n02
  %3 = load packed[0]                   // n02
  %4 = fma %0, %3, %2                   // n02
  %5 = load packed[1]                   // n02
  %6 = fma %1, %5, %4                   // n02
  %7 = const 0.0                        // n02
  %8 = le %6, %7                        // n02
  %9 = select %8, %7, %6                // n02
  %10 = load packed[3]                  // n03
  %11 = mul %9, %10                     // n03
  %12 = load packed[4]                  // n03
  %13 = fma %0, %12, %11                // n03
  store %13, y[0]                       // n03
}
"""


def test_an_adjoint_is_of_its_neuron_and_a_gradient_of_the_neuron_that_has_the_parameter():
    func = linking(build_of(TINY, gradient=True)).module.func("backward")
    stores = {op[2]: n for op, n in zip(func.ops, func.neurons, strict=True) if op[0] == "store"}
    assert stores == {("dparams", 0): 2, ("dparams", 1): 2, ("dparams", 2): 2,
                      ("dparams", 3): 3, ("dparams", 4): 3, ("dx", 0): 0, ("dx", 1): 1}
    seed = next(n for op, n in zip(func.ops, func.neurons, strict=True)
                if op[0] == "load" and op[2] == ("dy", 0))
    assert seed == 3


# Rows that take turns, edge by edge.
ABREAST = "N 07\n00\n01\n02\n03\n" + "".join([
    f"{j:02x} tanh {j - 4:02x}:1,{j - 3:02x}:2 +3\n" for j in (4, 5, 6)])


@pytest.mark.parametrize("text", [ABREAST, *[to_nal(some_net(seed, max_neurons=30))
                                             for seed in range(8)]], ids=range(9))
def test_an_op_reads_of_its_neuron_and_of_those_beside_it(text):
    """As `lower` writes them: forward of its sources, backward of those and of its readers, up to
    the gradients, in which parameters may be shared."""
    build = build_of(text, numerics="strict", gradient=True)
    g = build.plan.graph
    sources = {j: set(g.sources[g.starts[j] : g.starts[j + 1]].tolist())
               for j in range(g.n_neurons)}
    module = lower(build.plan, dtype="f32", numerics="strict", provenance=True)
    for name in ("forward", "backward"):
        func = module.func(name)
        for (opcode, reads, _), j in zip(func.ops, func.neurons, strict=True):
            if opcode == "given":
                break
            for r in reads:
                plain = func.ops[r][0] == "const" or (
                    func.ops[r][0] == "load" and func.ops[r][2][0] == "packed")
                i = func.neurons[r]
                assert plain or i == j or i in sources[j] or (
                    name == "backward" and j in sources[i]), (name, opcode, j, i)


def test_what_several_share_is_of_the_first():
    ops = [("load", (), ("x", 0)), ("load", (), ("x", 1)), ("mul", (0, 1), None),
           ("mul", (1, 0), None), ("add", (2, 3), None), ("store", (4,), ("y", 0))]
    func = replace(read_ssa(Source("x.ssa", """module x f32 strict

func forward(x in 2, y out 1) {
  %0 = load x[0]
  store %0, y[0]
}
""")).funcs[0], ops=ops, neurons=[0, 1, 2, 3, 4, 4])
    made = cse(Module("x", "f32", "strict", (func,))).funcs[0]
    assert [op[0] for op in made.ops] == ["load", "load", "mul", "add", "store"]
    assert made.neurons == [0, 1, 2, 4, 4]


@pytest.mark.parametrize("seed", [1, 3, *[pytest.param(k, marks=pytest.mark.slow)
                                          for k in range(4, 12)]])
@pytest.mark.parametrize("more", [{"each": True}, {"loss": "ce", "optimizer": "adam"},
                                  {"loss": "mse", "optimizer": "sgd"}], ids=str)
def test_ops_are_the_same_with_neurons(seed, more):
    plain = random_build(seed, size=20, gradient=True, **more)
    if more.get("loss") == "ce" and len(plain.graph.outputs) == 1:
        return  # ce is for two classes
    linked = linking(plain)
    assert linked.module == plain.module
    for mine, other in zip(linked.module.funcs, plain.module.funcs, strict=True):
        assert other.neurons is None and mine.ops == other.ops
    linked.module.verify()
    assert read_ssa(Source("x.ssa", str(linked.module))) == plain.module
    assert "\n".join(of_llvm(linked.llvm).lines) == plain.llvm


@pytest.mark.parametrize("seed", range(4, 8))
def test_each_pass_keeps_them(seed):
    """An op that a pass leaves as it is has the neuron that it had; `split` makes loads anew."""
    module = linking(random_build(seed)).module
    func = next(f for f in module.funcs if f.name == "forward")
    for call in (fold, cse, dce, lambda m: split(m, piece=40, whole=0)):
        made = call(module)
        parts = [f for f in made.funcs if f.name.startswith("forward") and "batch" not in f.name]
        stored = {op[2]: n for f in parts for op, n in zip(f.ops, f.neurons or (), strict=False)
                  if op[0] == "store" and op[2][0] == "y"}
        assert stored == {op[2]: n for op, n in zip(func.ops, func.neurons, strict=True)
                          if op[0] == "store" and op[2][0] == "y"}
        made.verify()


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_the_value_of_a_sequence_is_its_last_op(dtype):
    """`expand` gives all ops up to the value to the neuron."""
    for sequence in (*SEQUENCES.values(), *BY_EXP.values(), exp_near):
        b = Builder(dtype, True)
        assert sequence(b, b.emit("argument")) == len(b.ops) - 1


def test_a_function_has_a_neuron_for_each_op():
    module = linking(build_of(TINY)).module
    func = replace(module.funcs[-1], neurons=[1, 2])
    with pytest.raises(NccError, match="2 neurons of"):
        module.with_(funcs=(func,)).verify()


def test_nobody_pays_who_has_not_asked():
    """No array, no line, no comment."""
    build = build_of(TINY, gradient=True)
    assert all(func.neurons is None for func in build.module.funcs)
    assert "!dbg" not in build.llvm and "//" not in str(build.module)


@pytest.mark.parametrize("seed", range(6))
def test_every_op_of_a_sample_has_a_neuron(seed):
    """Whatever the net: of the backward pass all but two `if`s, of what the caller wants."""
    module = linking(random_build(seed, gradient=True)).module
    assert len(set(linked_ops(module.func("forward")))) == 1
    linked, ops = linked_ops(module.func("backward"))
    assert ops - linked <= 7


def test_a_pure_function_of_one_neuron_is_of_it():
    text = "N 0e\n00\n" + "".join([f"{j:02x} tanh 00:{j}\n" for j in range(1, 12)]) + (
        "0c sigmoid 01:1\n0d 00 " + ",".join([f"{j:02x}:1" for j in range(1, 13)]) + "\n")
    plain = build_of(text, gradient=True)
    linked = linking(plain)
    for func in linked.module.funcs:
        if func.pure:
            assert func.neurons == ([12] * len(func.ops) if func.name == "sigmoid" else None)
    assert {f.name for f in linked.module.funcs if f.pure} >= {"tanh", "sigmoid"}
    made = of_llvm(linked.llvm)
    assert "\n".join(made.lines) == plain.llvm
    at = next(k for k, line in enumerate(made.lines) if "@net_sigmoid" in line
              and line.startswith("define"))
    assert set(made.neurons[at + 2 : at + 20]) == {12}
