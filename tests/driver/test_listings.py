"""Which neuron each line computes: at every level, through every pass, and at no cost unasked."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from nets import some_net, to_nal

import ncc
from ncc.cli import main
from ncc.driver.compiler import Build
from ncc.driver.kinds import KINDS, contents
from ncc.driver.listings import assembly, linking, listings
from ncc.driver.settings import Settings
from ncc.errors import NccError, Source
from ncc.ir.ssa import UNLINKED, Func, Module
from ncc.ir.ssa_build import Builder
from ncc.ir.ssa_text import read as read_ssa
from ncc.machine.llvm import target
from ncc.passes.emit.to_llvm import to_llvm
from ncc.passes.ssa.cse import cse
from ncc.passes.ssa.dce import dce
from ncc.passes.ssa.fold import fold
from ncc.passes.ssa.split import split
from ncc.report.listings import instructions, of_llvm, of_syntax
from ncc.scalar.mathlib import BY_EXP, SEQUENCES, exp_near

EXAMPLES = Path(__file__).parents[2] / "examples"
STRAIGHT = {"form": "straight", "batch_form": "straight", "backward_form": "straight"}
TINY = "N 04\n00\n01\n02 relu 00:2,01:-1 +0.5\n03 00 02:3,00\n"


def build_of(text: str, aim: str = "x86-64-v3", numerics: str | None = None, **more) -> Build:
    graph = ncc.parse(text).graph
    return Build.of(graph, target(aim), Settings(cache=False, numerics=numerics), limit=False,
                    **{**STRAIGHT, **more})


def random_build(seed: int, aim: str = "x86-64-v3", size: int = 30, **more) -> Build:
    return build_of(to_nal(some_net(seed, max_neurons=size)), aim, "strict", **more)


def linked_ops(func: Func) -> tuple[int, int]:
    """Of a function how many ops have a neuron, and how many there are."""
    assert func.neurons is not None and len(func.neurons) == len(func.ops)
    return sum(n != UNLINKED for n in func.neurons), len(func.ops)


def by_listing(build: Build) -> dict[str, list[tuple[str, int]]]:
    found = listings(build)
    assert len({made.name for made in found}) == len(found)
    for made in found:
        assert made.text.count("\n") + 1 == len(made.neurons), made.name
    return {made.name: list(zip(made.text.split("\n"), made.neurons, strict=True))
            for made in found}


# ---- what each line computes


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


def test_lines_of_every_level_of_a_small_net():
    made = by_listing(build_of(TINY))
    assert dict(made["graph"])["02 @1 relu sum +p2 00*p0 01*p1"] == 2
    assert dict(made["plan"])["  02 <- 00 01  single[0] batch[0]"] == 2
    for name, head, neurons in (
            # ncc's texts: loads of x, of packed (address, value), arithmetic, store, return
            ("llvm", "define void @net_forward(", [-1, 0, 1, 1, *[2] * 9, *[3] * 7, -1]),
            # two loads, sums with operands in memory, the comparison with 0
            ("asm", "net_forward:", [0, 2, 2, 1, 2, 2, 2, 2, 3, 3, 3, -1]),
            ("c", "void net_forward(", [-1, -1, -1, 2, 2, 2, 2, 3, 3, 3, -1])):
        at = next(k for k, (line, _) in enumerate(made[name]) if line.startswith(head)) + 1
        assert [n for _, n in made[name][at : at + len(neurons)]] == neurons, name


def test_syntax_lines():
    nal = ncc.formats.read.net(Source("x.nal", TINY), "nal")
    assert of_syntax(nal).neurons[:5] == [-1, 0, 1, 2, 3]
    nel = ncc.formats.read.net(Source("x.nel", "N 03\nact 02 relu\n00 02 2\n~02 01 1\n"), "nel")
    assert of_syntax(nel).neurons[:4] == [-1, -1, 2, 1]
    nam = ncc.formats.read.net(Source("x.nam", "01\n00\n"), "nam")
    assert of_syntax(nam).neurons[:2] == [0, 1]


def test_passes_that_change_nothing_are_named_and_not_shown():
    twins = "N 06\nout 04\n00\n01\n02 tanh 00@k:1,01@l\n03 tanh 00@k,01@l\n04 00 02:1,03:2\n" \
            "05 relu 00:1\n"
    found = {made.name: made for made in listings(build_of(twins))}
    assert [name for name in found if name.startswith("graph")] == [
        "graph", "graph.merge", "graph.prune"]
    assert found["graph"].title == "graph (unchanged by embed)"
    lines = dict(zip(found["graph.merge"].text.split("\n"), found["graph.merge"].neurons,
                     strict=True))
    assert lines["03 @1 absent"] == 3
    ssa = [name for name in found if name.startswith("ssa")]
    assert ssa[0] == "ssa.lower"
    assert len({found[name].text for name in ssa}) == len(ssa)


def test_a_text_that_cannot_be_made_says_why(monkeypatch):
    def refused(build):
        raise NccError("E400", "the code of this net would take too long", help="-O0")

    monkeypatch.setattr("ncc.driver.listings.assembly", refused)
    made = {each.name: each for each in listings(build_of(TINY))}
    assert made["asm"].text.startswith("error[E400]: the code of this net")
    assert set(made["asm"].neurons) == {UNLINKED}
    assert max(made["llvm"].neurons) == 3


# ---- through the passes


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
        pytest.skip("ce is for two classes")
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


# ---- to machine code


@pytest.mark.parametrize(("aim", "gradient"), [
    ("x86-64-v3", False), ("cortex-m4f", True), ("wasm32", True),
    *[pytest.param(aim, True, marks=pytest.mark.slow) for aim in (
        "x86-64-v3", "x86-64", "aarch64", "arm64-apple-macosx", "x86_64-pc-windows-msvc")]])
def test_instructions_are_the_same_with_neurons(aim, gradient):
    """All of them, but for the order in which a machine takes some."""
    batch = "straight" if gradient else "table"
    build = build_of((EXAMPLES / "xor.nal").read_text(), aim, gradient=gradient, batch_form=batch)
    plain, located = build.assembly(), linking(build).assembly()
    of = [text.split("\n") for text in (plain, located)]
    words = [sorted([text[k].split("#")[0].split("\t")[1] for k in instructions("\n".join(text))])
             for text in of]
    assert words[0] == words[1]
    made = assembly(linking(build))
    assert "\n".join(made.lines) == plain


def test_instructions_of_ones_own_assembly():
    """Nearly every line has a neuron, and every neuron its multiplications."""
    build = linking(build_of((EXAMPLES / "digits.nal").read_text(), batch_form="table"))
    assert linked_ops(build.module.func("forward")) == (5764, 5764)
    made = assembly(build)
    forward = [k for k in instructions("\n".join(made.lines))
               if "net_forward:" in made.lines[:k] and "net_forward_batch:" not in made.lines[:k]]
    assert len(forward) > 3000
    neurons = [made.neurons[k] for k in forward]
    assert neurons.count(UNLINKED) <= 10
    edges = [int(k) for k in build.graph.starts[1:] - build.graph.starts[:-1]]
    for j, count in enumerate(edges):
        sums = [k for k in forward if made.neurons[k] == j
                and made.lines[k].startswith(("\tvfmadd", "\tvmul"))]
        assert len(sums) >= count


def shares(build: Build) -> tuple[float, float]:
    """Which share of ops, and of instructions, of unrolled functions has a neuron."""
    build = linking(build)
    counts = [linked_ops(f) for f in build.module.funcs if f.neurons is not None and any(
        n != UNLINKED for n in f.neurons)]
    made = assembly(build)
    unrolled = {f"{build.module.name}_{f.name}:" for f in build.module.funcs
                if f.neurons is not None and any(n != UNLINKED for n in f.neurons)}
    linked, function = [], ""
    lines = set(instructions("\n".join(made.lines)))
    for k, line in enumerate(made.lines):
        if line[:1].isalpha() and line.endswith(":"):
            function = line
        if k in lines and function in unrolled:
            linked.append(made.neurons[k] != UNLINKED)
    return (sum(a for a, _ in counts) / sum(b for _, b in counts), sum(linked) / len(linked))


@pytest.mark.parametrize(("seed", "gradient"), [
    (2, False), *[pytest.param(seed, True, marks=pytest.mark.slow) for seed in (2, 5, 6)]])
def test_nearly_every_line_of_random_nets_has_a_neuron(seed, gradient):
    """Of some 50 neurons of all activations and aggregations: forward and backward, of one sample
    and of batches. A batch's backward pass has loops around its unrolled code, of some 60 ops,
    which are of no neuron: in a net of few neurons they are more."""
    build = random_build(seed, size=60, gradient=gradient)
    assert build.graph.n_neurons > 40
    ops, lines = shares(build)
    assert ops >= 0.95
    assert lines >= 0.95


@pytest.mark.parametrize("seed", range(6))
def test_every_op_of_a_sample_has_a_neuron(seed):
    """Whatever the net: of the backward pass all but two `if`s, of what the caller wants."""
    module = linking(random_build(seed, gradient=True)).module
    assert len(set(linked_ops(module.func("forward")))) == 1
    linked, count = linked_ops(module.func("backward"))
    assert count - linked <= 7


# ---- as texts


def test_the_option_of_the_command(tmp_path, capsys):
    (tmp_path / "x.nal").write_text(TINY)
    command = ["build", str(tmp_path / "x.nal"), "--provenance", "--no-cache", "--emit"]
    assert main([*command, "asm,obj"]) == 2
    assert "E609]: --provenance: obj has no lines of neurons" in capsys.readouterr().err
    assert main([*command, "ssa"]) == 0
    made = capsys.readouterr().out
    assert "  %11 = mul %9, %10                     // n03\n" in made
    (tmp_path / "x.ssa").write_text(made)
    assert main(["build", str(tmp_path / "x.ssa"), "--emit", "ssa"]) == 0
    assert re.sub(" +// n.*", "", made) == capsys.readouterr().out
    assert main(["build", str(tmp_path / "x.ssa"), "--emit", "ssa", "--provenance"]) == 2


def test_comments_say_neurons():
    build = linking(build_of(TINY))
    for kind, comment in (("ssa", " // n02"), ("llvm", " ; n02"), ("asm", " # n02"),
                          ("c", " // n02")):
        assert KINDS[kind].linked and comment in contents(kind, build, "x").decode(), kind
    assert to_llvm(build.module, triple="") != to_llvm(build_of(TINY).module, triple="")


def test_assembly_with_comments_is_assembled(tmp_path):
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("no C compiler")
    for kind, ending in (("asm", "s"), ("c", "c")):
        path = tmp_path / f"x.{ending}"
        path.write_bytes(contents(kind, linking(build_of(TINY)), path.name))
        subprocess.run([cc, "-c", str(path), "-o", str(tmp_path / "x.o")], check=True)
