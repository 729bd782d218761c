"""Nets as files of other tools: what they compute there, that nothing is lost, what is refused."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import SINGLE, inputs_for, nets, some_net, to_nal, with_delays
from ulps import nasty, samples

import ncc
from ncc.errors import NccError
from ncc.formats.exporters.registry import EXPORTERS, named, of_path
from ncc.ir.graph import AGGREGATIONS, NONE, Graph
from ncc.ir.labels import Label
from ncc.scalar.activations import ACTIVATIONS

NETS = Path(__file__).parents[2] / ".." / "shared" / "nets"
FUNCTION = "max(x, x^2, min(1, 3*x))/(1+exp(-4.9*x)) - tanh(x)^3/x + step(x)*relu6(x)"
# Only these compute with operations that Python rounds as ncc does: results are equal bits.
EXACT = tuple(a.code for a in ACTIVATIONS if a.name in (
    "identity", "relu", "leaky_relu", "softsign", "hard_sigmoid", "abs", "square", "cube", "sqrt",
    "rsqrt", "recip", "step", "hard_swish", "relu6", "clip"))


def graph_of(text: str) -> Graph:
    return ncc.parse(text).graph


def forward(graph: Graph):
    """The function of the exported Python file, which is imported with nothing else."""
    space: dict[str, object] = {}
    exec(compile(named("python").write(graph, False), "net.py", "exec"), space)
    return space["forward"]


def same_bits(a: float, b: float) -> bool:
    return a != a and b != b or a == b and math.copysign(1, a) == math.copysign(1, b)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
def test_python_computes_each_activation(activation):
    graph = graph_of(f"N 02\n00\n01 {activation.name} 00:=1\n")
    call = forward(graph)
    x = np.concatenate([nasty("f64"), samples("f64", 60)])
    wanted = graph.run(x[:, None], dtype="f64", numerics="strict")[:, 0]
    for at, want in zip(x.tolist(), wanted.tolist(), strict=True):
        [got] = call([at])
        if activation.code in EXACT or not math.isfinite(want) or want == 0 or got == 0:
            # A result that underflows is 0 in one library and the least number in the other.
            small = abs(got) < 1e-300 and abs(want) < 1e-300 and activation.code not in EXACT
            assert same_bits(got, want) or small, at
        else:  # 1 + erf and the like cancel, so an error of theirs counts against the argument
            assert abs(got - want) <= 8 * math.ulp(want) + 1e-15 * min(abs(at), 40), (at, got, want)


def test_python_computes_own_functions():
    graph = graph_of(f"N 02\nfn 20 {FUNCTION}\n00\n01 20 00:=1\n")
    call = forward(graph)
    x = np.concatenate([nasty("f64"), np.linspace(-9, 9, 200)])
    wanted = graph.run(x[:, None], dtype="f64", numerics="strict")[:, 0]
    for at, want in zip(x.tolist(), wanted.tolist(), strict=True):
        [got] = call([at])
        assert same_bits(got, want) or abs(got - want) <= 1e-14 * max(1, abs(want)), at


@pytest.mark.parametrize("text", [
    "x-(x-(1.1-x))", "x+(0.1+(x+0.3))", "(x-0.1)-(x*x-3)*(x-(0.2-x))", "x*(3*(x*0.7))",
    "x/(3/(x/0.7))", "1.7/(x*3)*x", "-(x-0.3)-(-x)*-(0.2+x)", "-x^2-(-x)^3", "(x/3)/(x+0.1)/7",
    "min(x-1,-(x+2),max(x,x*x-(x-1)))", "abs(x-(0.1-x))*-0.3", "x-(-0.1)-(-(0.7))*x"])
def test_python_keeps_the_brackets(text):
    """Each rounds otherwise, or is another number, without one of its brackets."""
    graph = graph_of(f"N 02\nfn 20 {text}\n00\n01 20 00:=1\n")
    call = forward(graph)
    x = np.concatenate([nasty("f64"), np.random.default_rng(0).normal(size=200)])
    wanted = graph.run(x[:, None], dtype="f64", numerics="strict")[:, 0]
    assert all(same_bits(call([at])[0], want)
               for at, want in zip(x.tolist(), wanted.tolist(), strict=True))


@given(nets(activations=EXACT, tame=False).flatmap(
    lambda net: inputs_for(net, wild=True).map(lambda x: (net, x))))
def test_python_agrees_bit_for_bit_where_the_operations_are_exact(drawn):
    net, x = drawn
    graph = graph_of(to_nal(net))
    call = forward(graph)
    for row, want in zip(x, graph.run(x, dtype="f64", numerics="strict"), strict=True):
        got = call(row)
        assert all(map(same_bits, got, want.tolist())), (got, want)


@given(nets().flatmap(lambda net: inputs_for(net).map(lambda x: (net, x))))
def test_python_agrees_nearly_for_every_net(drawn):
    net, x = drawn
    graph = graph_of(to_nal(net))
    call = forward(graph)
    for row, want in zip(x, graph.run(x, dtype="f64", numerics="strict"), strict=True):
        np.testing.assert_allclose(call(row), want, rtol=1e-11, atol=1e-11)


def test_python_of_long_in_lists_and_deep_expressions():
    """No line is long, no bracket deep, whatever the net: Python's own parser has limits."""
    net = ncc.new("fcn", 3000, 1, init="uniform", output_activation="tanh")
    x = np.random.default_rng(0).normal(size=3000)
    assert np.allclose(forward(net.graph)(x), net.graph.run(x, dtype="f64"), rtol=1e-12)
    text = net.to_formula()
    assert max(map(len, text.split("\n"))) < 200
    wide = "N 102\n" + "".join(f"{k:02x}\n" for k in range(256)) + "".join(
        f"{256 + k:02x} {agg} {','.join(f'{i:02x}:{i % 7 - 3}' for i in range(256))}\n"
        for k, agg in enumerate(("00 maxabs", "00 max")))
    graph = graph_of(wide)
    assert forward(graph)(x[:256]) == graph.run(x[:256], dtype="f64", numerics="strict").tolist()
    deep = "gelu(" * 30 + "x" + ")" * 30
    graph = graph_of(f"N 02\nfn 20 {deep}\n00\n01 20 00:=1\n")
    assert np.allclose(forward(graph)([2.0]), graph.run([2.0], dtype="f64"), rtol=1e-12)
    assert len(named("latex").write(graph, False)) < 20_000


@given(nets(activations=EXACT, tame=False), st.integers(0, 2**32))
def test_python_steps_a_net_with_state(net, seed):
    graph = graph_of(with_delays(to_nal(net), seed))
    graph = graph.with_(values=np.nan_to_num(graph.values, nan=0.75))
    call, states = forward(graph), len(graph.states)
    x = np.random.default_rng(0).normal(size=(5, graph.n_inputs))
    state: list[float] | None = None
    for row, want in zip(x, graph.run_steps(x, dtype="f64", numerics="strict"), strict=True):
        if not states:
            got = call(row)
        else:
            got, state = call(row) if state is None else call(row, state)
            assert len(state) == states
        assert all(map(same_bits, got, want.tolist()))


def test_python_needs_values():
    with pytest.raises(NccError, match="2 of 2 parameters have no value"):
        ncc.parse("N 02\n00\n01 relu 00 +\n").to_formula()


@given(nets(valued=False), st.integers(0, 2**32))
def test_latex_is_balanced(net, seed):
    graph = graph_of(with_delays(to_nal(net), seed))
    text = named("latex").write(graph, False).decode()
    for opens, closes in (("{", "}"), (r"\bigl", r"\bigr"), (r"\begin", r"\end")):
        assert text.count(opens) == text.count(closes)
    depth = 0
    for mark in re.findall("[{}]", text):
        depth += 1 if mark == "{" else -1
        assert depth >= 0
    assert not re.search(r"nan|inf|[0-9]e[-+]?[0-9]", text)
    rows = text.split(r"\begin{align*}")[1].split(r"\end{align*}")[0].split("\\\\\n")
    assert sum(row.lstrip().startswith("n_") for row in rows) == graph.n_own
    assert sum(row.lstrip().startswith("y_") for row in rows) == len(graph.outputs)


def test_latex_reads_well():
    text = ncc.parse("N 08\n00\n01\n02 tanh 00:-3.5,01:1 +1e-7\n03 relu 02,01@k_1 +\n"
                     "04 sigmoid max 02:2,03:=-1 +0.5\n05 00 sumbias 02:2,~03:3 +1\n"
                     "06 00 dot 02*03:=-2,03*03:1 +1\n07 00 div 02:=1,03:=-1,00:2 +1\n"
                     ).to_formula("latex")
    n = [rf"n_{{\mathrm{{0{k}}}}}" for k in range(8)]
    for line in (
            rf"{n[0]} &= x_{{0}}",
            rf"{n[2]} &= \tanh\bigl(1 \cdot 10^{{-7}} - 3.5 \, {n[0]} + {n[1]}\bigr)",
            rf"{n[3]} &= \operatorname{{relu}}\bigl(b_{{\mathrm{{03}}}} + "
            rf"w_{{\mathrm{{02,03}}}} \, {n[2]} + \mathrm{{k\_1}} \, {n[1]}\bigr)",
            rf"{n[4]} &= \operatorname{{sigmoid}}\bigl(\max\bigl(2 \, {n[2]}, -{n[3]}\bigr) "
            r"+ 0.5\bigr)",
            rf"{n[5]} &= 2 \, {n[2]} + 3 \, {n[3]}^{{(t-1)}} + 1",
            rf"{n[6]} &= 1 - 2 \, {n[2]} \, {n[3]} + {n[3]} \, {n[3]}",
            rf"{n[7]} &= \bigl({n[2]}\bigr) / \bigl(\bigl(-{n[3]}\bigr) \cdot 2 \, {n[0]}\bigr)"
            r" + 1",
            rf"y_{{0}} &= {n[4]}", r"\operatorname{relu}\bigl(x\bigr) &= \max\bigl(x, 0\bigr)"):
        assert f"{line} \\\\\n" in text or f"{line}\n" in text, line


def normal(graph: Graph) -> str:
    """A text of what a graph means: own functions by their texts, constants by their values."""
    words = dict(enumerate(graph.constants.tolist()))
    text = re.sub(r"(?<=[*+])c([0-9a-f]+)", lambda m: f"={words[int(m[1], 16)]!r}", str(graph))
    for code, formula in graph.functions.items():
        text = re.sub(f"(?m)^([0-9a-f]+ @[0-9]+) {code:02x} ",
                      lambda m, f=formula: f"{m[1]} [{f}] ", text)
    return re.sub(r"(?m)^fn .*\n|^constants.*\n(    .*\n)*", "", text)


@given(nets(valued=False, aggregations=SINGLE))
@pytest.mark.parametrize("to", ["graphml", "node-link"])
def test_what_is_exported_is_imported_as_the_same_net(tmp_path_factory, to, net):
    graph = graph_of(to_nal(net))
    path = tmp_path_factory.mktemp("net") / f"net{named(to).ending}"
    path.write_bytes(named(to).write(graph, False))
    again = ncc.load(path).graph
    assert normal(again) == normal(graph)
    assert named(to).write(again, False) == path.read_bytes()


def test_networkx_and_scipy_come_back():
    networkx = pytest.importorskip("networkx")
    net = ncc.parse("N 04\nout 03,02\n00\n01\n02 tanh 01:1,00@k:0.5 +\n03 gelu 02@k,00:=1\n")
    assert type(net.to_networkx()) is networkx.DiGraph
    assert str(ncc.from_networkx(net.to_networkx()).graph) == str(net.graph)
    pytest.importorskip("scipy.sparse")
    assert str(ncc.from_scipy(weighted().to_scipy()).graph) == str(weighted().graph)


@pytest.mark.parametrize("to", ["matrix-market", "scipy"])
def test_matrices_come_back(to, tmp_path):
    path = tmp_path / f"net{named(to).ending}"
    weighted().export(path)
    assert str(ncc.load(path).graph) == str(weighted().graph)


def rebuilt(nodes, edges, functions) -> str:
    """The .nal of a graph with attributes; own functions get the codes that they had."""
    codes = {text: f"{code:02x}" for code, text in functions.items()}
    names = {name: f"{k:02x}" for k, (name, _) in enumerate(nodes)}
    said: set[str] = set()

    def parameter(value, tie, const, sign=""):
        number = "" if value is None or value != value else repr(value)
        if const:
            return f"{sign}={number}"
        if tie is None:
            return f"{sign}{number}"
        number = "" if tie in said else number
        said.add(tie)
        return f"@{tie}" + (f":{number}" if number else "")

    lists: dict[str, list[tuple[str, dict]]] = {name: [] for name in names}
    for source, target, held in edges:
        lists[target].append((source, held))
    lines = [f"N {len(names):02x}", *[f"fn {code} {text}" for text, code in codes.items()]]
    ranked = sorted((held["output"], name) for name, held in nodes if "output" in held)
    lines.append("out " + ",".join(names[name] for _, name in ranked))
    for name, held in nodes:
        words = [names[name]]
        if not held.get("input"):
            words += [codes.get(held["activation"], held["activation"]),
                      held.get("aggregation", "")]
            words.append(",".join(
                names[source] + (text if text[:1] in ("", "@") else f":{text}")
                for source, edge in lists[name]
                for text in [parameter(edge.get("weight"), edge.get("tie"), edge.get("const"))]))
            if "bias" in held:
                words.append("+" + parameter(held["bias"], held.get("bias_tie"),
                                             held.get("bias_const")))
        lines.append(" ".join(filter(None, words)))
    return "\n".join(lines) + "\n"


@given(nets(valued=False, aggregations=SINGLE))
def test_nothing_is_lost_in_node_link_json(net):
    graph = graph_of(to_nal(net))
    held = json.loads(named("node-link").write(graph, False), parse_constant=lambda c: 1 / 0)
    nodes = [(node["id"], node) for node in held["nodes"]]
    links = [(link["source"], link["target"], link) for link in held["links"]]
    assert str(graph_of(rebuilt(nodes, links, graph.functions))) == str(graph)


@given(nets(valued=False, aggregations=SINGLE))
def test_nothing_is_lost_in_graphml(net):
    graph = graph_of(to_nal(net))
    root = ElementTree.fromstring(named("graphml").write(graph, False))
    space = "{http://graphml.graphdrawing.org/xmlns}"
    types = {key.get("id"): READ[key.get("attr.type")] for key in root.iter(f"{space}key")}

    def held(element):
        return {data.get("key"): types[data.get("key")](data.text)
                for data in element.iter(f"{space}data")}

    nodes = [(node.get("id"), held(node)) for node in root.iter(f"{space}node")]
    edges = [(edge.get("source"), edge.get("target"), held(edge))
             for edge in root.iter(f"{space}edge")]
    assert str(graph_of(rebuilt(nodes, edges, graph.functions))) == str(graph)


READ = {"boolean": lambda text: text == "true", "int": int, "double": float, "string": str}


@pytest.mark.parametrize("seed", range(6))
def test_networkx_reads_graphml_and_json(seed, tmp_path):
    networkx = pytest.importorskip("networkx")
    net = ncc.parse(to_nal(some_net(seed, valued=seed % 2 == 0, aggregations=SINGLE)))
    net.export(tmp_path / "net.graphml")
    net.export(tmp_path / "net.json")
    made = net.to_networkx()
    linked = networkx.node_link_graph(json.loads((tmp_path / "net.json").read_text()),
                                      edges="links")
    for graph in (made, linked):  # whose in-lists stand in `pred`, in their order
        assert type(graph) is networkx.DiGraph
        edges = [(i, j, graph.edges[i, j]) for j in graph for i in graph.pred[j]]
        again = rebuilt(list(graph.nodes(data=True)), edges, net.graph.functions)
        assert str(graph_of(again)) == str(net.graph)
    read = networkx.read_graphml(tmp_path / "net.graphml")  # networkx sorts the edges by source
    assert list(read) == list(made) and sorted(map(repr, read.edges(data=True))) == sorted(
        map(repr, made.edges(data=True)))
    assert list(map(repr, read.nodes(data=True))) == list(map(repr, made.nodes(data=True)))


def weighted(seed: int = 0) -> ncc.Net:
    return ncc.new("fcn", 4, 6, 2, activation="identity", bias=False, init="he", seed=seed)


def dense(net: ncc.Net) -> np.ndarray:
    w = np.zeros((net.n_neurons, net.n_neurons))
    g = net.graph
    for j in range(net.n_neurons):
        for e in range(g.starts[j], g.starts[j + 1]):
            w[g.sources[e], j] = g.values[g.weights[e]]
    return w


def test_matrix_market():
    net = weighted()
    lines = named("matrix-market").write(net.graph, False).decode().split("\n")
    assert lines[0] == "%%MatrixMarket matrix coordinate real general"
    assert lines[2] == "12 12 36" and lines[-1] == ""
    w = np.zeros((12, 12))
    for line in lines[3:-1]:
        i, j, value = line.split()
        w[int(i) - 1, int(j) - 1] = float(value)
    assert np.array_equal(w, dense(net)) and np.count_nonzero(w) == 36
    pattern = named("matrix-market").write(ncc.parse("N 03\n00\n01 00 00\n02 00 00,01\n").graph,
                                           False).decode().split("\n")
    assert pattern[0].split()[3] == "pattern" and pattern[3:] == ["1 2", "1 3", "2 3", ""]


def test_scipy_reads_both_matrices(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    scipy_io = pytest.importorskip("scipy.io")
    net = weighted(3)
    net.export(tmp_path / "net.mtx")
    net.export(tmp_path / "net.npz")
    for held in (scipy_io.mmread(tmp_path / "net.mtx"), sparse.load_npz(tmp_path / "net.npz"),
                 net.to_scipy()):
        assert np.array_equal(held.toarray(), dense(net)) and held.nnz == 36
    assert sparse.load_npz(tmp_path / "net.npz").has_canonical_format


def test_npz_is_scipys_layout_and_always_the_same_bytes():
    graph = ncc.parse("N 03\n00\n01 00 00:2\n02 00 01:0,00:4\n").graph
    data = named("scipy").write(graph, True)
    held = np.load(io.BytesIO(data), allow_pickle=False)
    assert {name: held[name].tolist() for name in held.files} == {
        "indices": [1, 2, 2], "indptr": [0, 2, 3, 3], "format": b"csr", "shape": [3, 3],
        "data": [2.0, 4.0, 0.0]}
    assert named("scipy").write(graph, True) == data


@pytest.mark.parametrize("to", ["graphml", "node-link", "neat", "fann", "sharpneat"])
def test_edges_that_are_no_pairs_do_not_say_a_dot(to):
    with pytest.raises(NccError, match="pairs|aggregation dot|dot") as caught:
        named(to).write(graph_of("N 03\n00\n01\n02 relu dot 00*01:1,00*00:2\n"), True)
    assert caught.value.code == "E401"


LOST = {
    "N 03\n00\n01\n02 relu 00:1,01:1\n": "the activation relu",
    "N 03\n00\n01\n02 00 00:1,01:1 +1\n": "biases",
    "N 03\n00\n01\n02 00 max 00:1,01:1\n": "aggregations",
    "N 03\n00\n01\n02 00 00@k:1,01@k\n": "ties",
    "N 03\n00\n01\n02 00 00:=1,01:2\n": "constant weights",
    "N 03\n00\n01\n02 00 01:1,00:2\n": "in-lists that do not ascend",
    "N 04\nout 02\n00\n01\n02 00 01:1\n03 00 00:2\n": "the named outputs",
    "N 03\nfn 20 x*x\n00\n01\n02 20 00:1,01:1\n": "functions",
}


@pytest.mark.parametrize("to", ["matrix-market", "scipy"])
@pytest.mark.parametrize("text", LOST, ids=LOST.values())
def test_a_matrix_refuses_what_it_would_lose(text, to):
    graph = graph_of(text)
    with pytest.raises(NccError, match=LOST[text]) as caught:
        named(to).write(graph, False)
    assert caught.value.code == "E401"
    assert named(to).write(graph, True)


def test_a_matrix_has_no_state():
    graph = graph_of("N 03\n00\n01 00 00:1\n02 00 01:1,~01:1\n")
    for to in ("matrix-market", "scipy"):
        with pytest.raises(NccError, match="a matrix of a net with state"):
            named(to).write(graph, True)


def test_a_matrix_holds_all_values_or_none():
    graph = graph_of("N 03\n00\n01\n02 00 00:1,01\n")
    for to in ("matrix-market", "scipy"):
        with pytest.raises(NccError, match="1 of 2 weights have no value") as caught:
            named(to).write(graph, False)
        assert caught.value.code == "E607"


def test_what_only_passes_make_is_refused():
    graph = graph_of("N 03\n00\n01\n02 00 00:1,01:1\n")
    twice = graph.with_(sources=np.zeros(2, np.int32))
    shared = graph.with_(weights=np.zeros(2, np.int32), values=np.ones(1))
    for wrong, why in ((twice, "duplicate sources"), (shared, "shared and has no name")):
        for to in ("graphml", "node-link"):
            with pytest.raises(NccError, match=why):
                named(to).write(wrong, False)
    assert graph.biases.tolist() == [NONE] * 3


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    net = weighted()
    for call, name in ((net.to_networkx, "networkx"), (net.to_scipy, "scipy")):
        with pytest.raises(NccError, match=f"{name} is not installed") as caught:
            call()
        assert (caught.value.code, caught.value.help) == (
                "E637", "pip install 'ncc-compiler[graphs]'")


def test_the_command(ncc_, tmp_path):
    (tmp_path / "net.nal").write_text("N 03\n00\n01\n02 00 00:1,01:1\n")
    net = str(tmp_path / "net.nal")
    graph = ncc.load(net).graph
    for exporter in EXPORTERS.values():
        if exporter.ending == ".net":  # of two tools; test_exported_nets.py
            continue
        first = next(e for e in EXPORTERS.values() if e.ending == exporter.ending)
        assert of_path(f"x{exporter.ending}") is first
        path = tmp_path / f"out{exporter.ending}"
        to = () if first is exporter else ("--to", exporter.name)
        assert ncc_("export", net, *to, "-o", path) == (0, "", "")
        assert path.read_bytes() == exporter.write(graph, False)
        if exporter.text:
            assert ncc_("export", net, "--to", exporter.name)[1].encode() == path.read_bytes()
    status, out, _ = ncc_("export", "--help")
    assert status == 0 and all(f"  {name} " in out for name in EXPORTERS)


@pytest.mark.parametrize(("words", "code", "status"), [
    ((), "E600", 2), (("-o", "x.pdf"), "E102", 2), (("--to", "pyton"), "E102", 2),
    (("--to", "scipy", "--lossy", "--init", "he", "-o", "no/such/folder.npz"), "E622", 1),
    (("--to", "matrix-market", "--init", "he"), "E401", 1), (("--to", "python"), "E607", 1)])
def test_what_the_command_refuses(ncc_, tmp_path, words, code, status):
    (tmp_path / "net.nal").write_text("N 03\n00\n01\n02 relu 00,01 +\n")
    got, out, err = ncc_("export", tmp_path / "net.nal", *words)
    assert (got, out) == (status, "") and f"error[{code}]" in err


@pytest.mark.slow
def test_nets_of_other_tools_go_out_again(tmp_path):
    """Each that has values is the same to 1e-12 as Python, and the same bytes as a graph."""
    if not NETS.is_dir():
        pytest.skip("no nets of other tools here")
    counts = {"python": 0, "graphml": 0, "node-link": 0}
    for file in sorted(NETS.glob("*/*")):
        try:
            graph = ncc.load(file).graph
        except NccError:
            continue
        for to in ("graphml", "node-link"):
            path = tmp_path / f"net{named(to).ending}"
            if "dot" in {AGGREGATIONS[code] for code in graph.aggregations}:
                with pytest.raises(NccError, match="pairs of sources"):
                    named(to).write(graph, False)
                continue
            path.write_bytes(named(to).write(graph, False))
            assert named(to).write(ncc.load(path).graph, False) == path.read_bytes(), file
            counts[to] += 1
        if np.isnan(graph.values).any():
            continue
        x = np.random.default_rng(0).normal(size=(5, graph.n_inputs))
        call, got, state = forward(graph), [], [0.0] * len(graph.states)
        for row in x:
            if state:
                y, state = call(row, state)
            else:
                y = call(row)
            got.append(y)
        want = (graph.run_steps(x, dtype="f64", numerics="strict") if state else
                graph.run(x, dtype="f64", numerics="strict"))
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12, err_msg=str(file))
        counts["python"] += 1
    assert min(counts.values()) > 30, counts


def test_python_shows_labels():
    graph = graph_of("N 03\n00\n01 00 00:2\n02 00 01:1\n")
    graph = graph.with_(labels=(Label(0, "eye"), Label(2, "# left"), Label(2, "again")))
    text = named("python").write(graph, False).decode()
    assert text.endswith("    [n00] = map(float, x)\n    n01 = n00*2.0\n"
                         "    n02 = n01*1.0  # # left\n    return [n02]\n")


def test_python_names():
    net = ncc.parse("N 02\n00\n01 relu 00:2\n")
    for language in ("python", "latex"):
        assert net.to_formula(language).encode() == named(language).write(net.graph, False)
    with pytest.raises(NccError, match="no formulas in c"):
        net.to_formula("c")
