"""fwd, matrix, dot, and the writers of net files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from nets import nets, to_nal
from reference import Net

from ncc.errors import NccError, Source
from ncc.formats import write as texts
from ncc.formats.read import net as syntax_of
from ncc.ir.graph import NONE, Graph
from ncc.passes.graph.merge import merge
from ncc.passes.graph.order import order
from ncc.passes.graph.prune import prune
from ncc.passes.graph.resolve import resolve
from ncc.report.dot import dot
from ncc.report.formulas import fwd
from ncc.report.matrix import matrix

SEED = Path(__file__).parents[1] / "seed"
NETS = sorted(p for p in SEED.iterdir() if p.suffix in (".nal", ".nam"))
WRITERS = {"nal": texts.write_nal, "nel": texts.write_nel, "nam": texts.write_nam}


def graph_of(text: str, format: str = "nal") -> Graph:
    return order(resolve(syntax_of(Source(f"net.{format}", text), format)))


def seed(path: Path) -> Graph:
    return graph_of(path.read_text(), path.suffix[1:])


def again(graph: Graph, format: str, *, lossy: bool = False) -> Graph:
    """There and back; `.nam` alone labels its inputs."""
    text = WRITERS[format](graph, lossy=lossy)
    return graph_of(text, format).with_(shows_inputs=graph.shows_inputs)


@pytest.mark.parametrize("name", ["nn00.nal", "nn00.nam"])
def test_fwd_is_the_seeds(name: str) -> None:
    expected = (SEED / f"{name}.fwd").read_text()
    assert fwd(seed(SEED / name)) == expected and len(expected) > 400


def test_matrix_is_the_seeds() -> None:
    assert matrix(seed(SEED / "nn00.nam")) == (SEED / "nn00.nam.matrix").read_text()
    assert matrix(seed(SEED / "nn00.nal")) == (SEED / "nn00.nam.matrix").read_text()


def test_matrix_counts_words_per_row() -> None:
    line = matrix(seed(SEED / "conv_4x4_k3.nam")).split("\n")[0]
    assert line == "83 3 6889 996"


def test_fwd_of_biases_and_aggregations() -> None:
    graph = graph_of("N 06\n00\n01\n02 relu 01,00 +\n03 tanh max 00,02 +=1\n04 00 +=2\n"
                     "05 00 mul 03,04\n")
    assert fwd(graph) == (
        "n02 = f02( +n01*w0102 +n00*w0002 +b02)\n"
        "n03 = f03( max +n00*w0003 +n02*w0203 +b03)\n"
        "n04 = f04( +b04)\n"
        "n05 = f05( mul +n03*w0305 +n04*w0405)\n")
    small = prune(graph.with_(outputs=np.array([3], np.int32)))
    assert [line[:3] for line in fwd(small).split("\n")] == ["n02", "n03", ""]


def test_names_are_as_wide_as_the_last() -> None:
    lines = [f"{j:x}" for j in range(256)] + ["100 00 00,ff"]
    graph = graph_of("N 101\n" + "\n".join(lines) + "\n")
    assert fwd(graph) == "n100 = f100( +n000*w000100 +n0ff*w0ff100)\n"
    cells = matrix(graph).split("\n")[2].split(" ")
    assert cells[0] == "n000" and cells[-1] == "+n000*w000100" and set(map(len, cells[1:])) == {13}


def test_dot() -> None:
    graph = graph_of("N 03\n00\n01\n02 relu max 00@k:0.5,01:=-1 +\n")
    assert dot(graph) == (
        "digraph net {\n  rankdir=LR;\n  node [shape=circle];\n"
        '  n00 [label="n00", shape=box];\n  n01 [label="n01", shape=box];\n'
        '  n02 [label="n02\\nrelu max\\n+", shape=doublecircle];\n'
        '  n00 -> n02 [label="@k:0.5"];\n  n01 -> n02 [label="=-1.0"];\n}\n')
    assert "n02" not in dot(prune(graph.with_(outputs=graph.inputs)))


@pytest.mark.parametrize("format", ["nal", "nel", "nam"])
@pytest.mark.parametrize("path", NETS, ids=lambda p: p.name)
def test_seed_nets_convert(path: Path, format: str) -> None:
    graph = seed(path)
    if format == "nam" and path.suffix == ".nal":
        with pytest.raises(NccError, match="activation relu"):
            texts.write_nam(graph)
        back = again(graph, format, lossy=True)
        assert str(back) == str(graph).replace(" relu ", " identity ")
    else:
        assert str(again(graph, format)) == str(graph)


@given(nets(valued=False))
def test_lists_keep_everything(net: Net) -> None:
    graph = graph_of(to_nal(net))
    for format in ("nal", "nel"):
        assert str(again(graph, format)) == str(graph)
    assert str(again(again(graph, "nel"), "nal")) == str(graph)


def test_a_tie_says_its_value_once() -> None:
    graph = graph_of("N 04\n00\n01\n02 relu 00@k,01@k:0.5 +@k\n03 relu 02:1,00@b:0.1 +-0.25\n")
    assert texts.write_nal(graph) == (
        "N 04\n00\n01\n02 relu 00@k:0.5,01@k +@k\n03 relu 02:1.0,00@b:0.1 +-0.25\n")
    assert texts.write_nel(graph) == (
        "N 04\nact 02-03 relu\n00 02 @k:0.5\n01 02 @k\nbias 02 +@k\n"
        "02 03 1.0\n00 03 @b:0.1\nbias 03 +-0.25\n")


def test_outputs_and_functions_are_written() -> None:
    text = ("N 05\nfn 20 x^2\nfn 2a 1/(1+exp(-x))\nout 04,00,02\n00\n01\n02 20 00:=1,01\n"
            "03 2a mean 02 +=-0.0\n04 identity +1.5\n")
    graph = graph_of(text)
    for format in ("nal", "nel"):
        assert str(again(graph, format)) == str(graph)
    assert texts.write_nel(graph).split("\n")[1:4] == ["fn 20 x^2", "fn 2a 1/(1+exp(-x))",
                                                       "out 04,00,02"]


@pytest.mark.parametrize(("line", "what"), [
    ("02 relu 00,01", "the activation relu"),
    ("02 00 max 00,01", "aggregations"),
    ("02 00 00,01 +", "biases"),
    ("02 00 00:=1,01", "constant weights"),
    ("02 00 00:0.5,01", "values of weights"),
    ("02 00 00@a,01@b", "ties"),
    ("02 00 01,00", "in-lists that do not ascend"),
])
def test_what_a_matrix_cannot_say(line: str, what: str) -> None:
    graph = graph_of(f"N 03\n00\n01\n{line}\n")
    with pytest.raises(NccError) as caught:
        texts.write_nam(graph)
    assert caught.value.message == f".nam cannot express: {what}"
    assert texts.write_nam(graph, lossy=True) == "001\n001\n000\n"


def test_what_else_a_matrix_cannot_say() -> None:
    for text, what in (("N 04\n00\n01\n02 00 00,01\n03 relu 02\n", "more than one activation"),
                       ("N 04\nout 02\n00\n01\n02 00 00,01\n03 00 02\n", "the named outputs"),
                       ("N 03\nfn 20 x\n00\n01\n02 00 00,01\n", "functions")):
        with pytest.raises(NccError, match=what):
            texts.write_nam(graph_of(text))


@pytest.mark.parametrize("format", ["nal", "nel", "nam"])
def test_what_no_net_file_can_say(format: str) -> None:
    write = WRITERS[format]
    equal = graph_of("N 05\n00\n01 relu 00:=2\n02 relu 00:=2\n03 00 01:=1,02:=1\n04 00 01:=3\n")
    for graph, what in (
            (merge(equal), "removed"),
            (merge(equal).with_(activations=equal.activations, biases=np.where(
                np.arange(5) == 2, 0, NONE).astype(np.int32), values=np.ones(1)),
             "duplicate sources"),
            (equal.with_(outputs=np.array([3, 3], np.int32)), "duplicate outputs")):
        graph.verify()
        with pytest.raises(NccError, match=what):
            write(graph, lossy=True)


@pytest.mark.parametrize("format", ["nal", "nel"])
def test_canonical_order_is_never_lost_silently(format: str) -> None:
    graph = graph_of("N 03\n00\n01\n02 relu 00:0.5,01:0.25\n")
    turned = graph.with_(weights=graph.weights[::-1].copy())
    unused = graph.with_(values=np.ones(3))
    for other in (turned, unused):
        other.verify()
        with pytest.raises(NccError, match="canonical order"):
            WRITERS[format](other)
        WRITERS[format](other, lossy=True)
    shared = graph.with_(weights=np.zeros(2, np.int32), values=np.ones(1))
    with pytest.raises(NccError, match="parameter 0, which is shared"):
        WRITERS[format](shared)


def test_dense_texts_have_a_limit() -> None:
    wide = graph_of("N 10000\nfffe ffff\n", "nel")
    for write in (matrix, texts.write_nam):
        with pytest.raises(NccError, match="65536 x 65536 cells") as caught:
            write(wide)
        assert caught.value.status == 4
