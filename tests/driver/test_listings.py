"""The listings of a net: which neuron each line of every level computes."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import count, islice
from pathlib import Path

import pytest
from linked import TINY, build_of, linked_ops, random_build

import ncc
from ncc.cli import main
from ncc.driver.compiler import Build
from ncc.driver.kinds import KINDS, contents
from ncc.driver.listings import assembly, linking, listings
from ncc.errors import NccError, Source
from ncc.ir.ssa import UNLINKED
from ncc.passes.emit.to_llvm import to_llvm
from ncc.report.listings import instructions, of_syntax

EXAMPLES = Path(__file__).parents[2] / "examples"


def by_listing(build: Build) -> dict[str, list[tuple[str, int]]]:
    found = listings(build)
    assert len({made.name for made in found}) == len(found)
    for made in found:
        assert made.text.count("\n") + 1 == len(made.neurons), made.name
    return {made.name: list(zip(made.text.split("\n"), made.neurons, strict=True))
            for made in found}


# ---- what each line computes


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
    for j, fan_in in enumerate(edges):
        sums = [k for k in forward if made.neurons[k] == j
                and made.lines[k].startswith(("\tvfmadd", "\tvmul"))]
        assert len(sums) >= fan_in


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


@pytest.mark.parametrize(("number", "gradient"), [
    (0, False), *[pytest.param(k, True, marks=pytest.mark.slow) for k in range(3)]])
def test_nearly_every_line_of_random_nets_has_a_neuron(number, gradient):
    """Of all activations and aggregations: forward and backward, of one sample and of batches.
    A batch's backward pass has loops around its unrolled code, of some 60 ops, which are of no
    neuron: in a net of few neurons they are more of it."""
    builds = (random_build(seed, size=60, gradient=gradient) for seed in count())
    large = (build for build in builds if len(build.module.func("forward").ops) > 300)
    ops, lines = shares(next(islice(large, number, None)))
    assert ops >= 0.95
    assert lines >= 0.95


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
