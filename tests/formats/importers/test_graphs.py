"""NetworkX, GraphML, node-link JSON: values, the rules of attributes, refusals, hostile files."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import SINGLE, nets, some_net, to_nal, with_delays
from oracles import compare, mutants, shared, survives

import ncc
from ncc.cli import main
from ncc.formats.exporters.registry import named
from ncc.formats.importers import registry
from ncc.formats.importers.foreign import Foreign, Options
from ncc.ir.graph import AGGREGATIONS
from ncc.ir.labels import Label
from ncc.nets.net import ordered

networkx = pytest.importorskip("networkx")


def imported(data, source="node-link", **options):
    data = json.dumps(data).encode() if isinstance(data, dict) else data
    return registry.read([Foreign("g", "", data)], source, Options(**options))


def graph_of(data, source="node-link", **options):
    return ordered(imported(data, source, **options))


def text_of(graph):
    """The text of a graph whose own functions stand where they are used: their codes are only
    numbers, and those that no neuron has are none of the net's."""
    lines = str(graph).split("\n")
    texts = {line.split(" ", 2)[1]: line.split(" ", 2)[2]
             for line in lines if line.startswith("fn ")}
    words = [line.split(" ") for line in lines if not line.startswith("fn ")]
    return [[*line[:2], *[texts.get(word, word) for word in line[2:3]], *line[3:]]
            if line[1:2] and line[1][:1] == "@" else line for line in words]


def unlabelled(graph):
    return [line for line in str(graph).split("\n")[1:] if line and line[:5] != "label"]


def net(**changes):
    """a, b -> c -> d."""
    return {"directed": True, "multigraph": False, "graph": {},
            "nodes": [{"id": "a"}, {"id": "b"}, {"id": "c", "activation": "tanh", "bias": 0.5},
                      {"id": "d"}],
            "links": [{"source": "b", "target": "c", "weight": -1.5},
                      {"source": "a", "target": "c", "weight": 2},
                      {"source": "c", "target": "d"}]} | changes


@pytest.mark.parametrize("name", ["random.graphml", "random_node_link.json"])
def test_a_shared_file_has_its_outputs(name):
    path, expected = shared(f"graphs/{name}"), np.load(shared("graphs/random.npz"))
    made = registry.read([Foreign(name, "", path.read_bytes())])
    graph = ordered(made)
    labels = {label.first: label.name for label in graph.labels}
    assert [labels[j] for j in graph.inputs.tolist()] == expected["inputs"].tolist()
    assert [labels[j] for j in graph.outputs.tolist()] == expected["outputs"].tolist()
    assert made.notes == (
        "4 of the inputs have an activation or a bias, which means nothing of an input",)
    compare(path, graph.run(expected["x"], dtype="f64"), expected["y"], made.exactness)


def test_what_nodes_and_edges_say():
    graph = graph_of(net())
    assert unlabelled(graph) == [
        "inputs 00 01", "outputs 03", "values -1.5 2.0 0.5 -", "constants", "00 @0 input",
        "01 @0 input", "02 @1 tanh sum +p2 01*p0 00*p1", "03 @2 identity sum 02*p3"]
    assert [label.name for label in graph.labels] == list("abcd")
    links = [{"source": "b", "target": "c", "weight": -1.5, "tie": "k"},
             {"source": "a", "target": "c", "weight": 2.0, "const": True},
             {"source": "c", "target": "d", "tie": "k"}]
    nodes = [{"id": "a", "output": 2}, {"id": "b"},
             {"id": "c", "activation": "x*sigmoid(x)", "aggregation": "max", "bias": None},
             {"id": "d", "activation": "mine", "bias": 1, "bias_const": True, "output": 1}]
    graph = graph_of(net(nodes=nodes, links=links, graph={"numerics": "strict", "dtype": "f64"}),
                     fn=("mine=x^3",))
    assert unlabelled(graph) == [
        "numerics strict", "dtype f64", "inputs 00 01", "outputs 03 00", "fn 20 x*sigmoid(x)",
        "fn 21 x^3", "values -1.5 -", "constants 2.0 1.0", "name p0 k", "00 @0 input",
        "01 @0 input", "02 @1 20 max +p1 01*p0 00*c0", "03 @2 21 sum +c1 02*p0"]


def test_which_nodes_are_inputs_and_outputs():
    nodes = [{"id": "c", "bias": 1.0}, {"id": "a"}, {"id": "b", "input": False}, {"id": "d"}]
    links = [{"source": s, "target": "d", "weight": 1.0} for s in "abc"]
    graph = graph_of(net(nodes=nodes, links=links))
    assert graph.inputs.tolist() == [1] and graph.outputs.tolist() == [3]
    assert graph.run(np.array([[5.0]])).tolist() == [[6.0]]  # 5 + 0 + 1
    nodes[0]["input"] = True
    assert graph_of(net(nodes=nodes, links=links)).inputs.tolist() == [0, 1]
    # Where all ends have a bias they are the inputs nevertheless, and a note says so.
    made = imported(net(nodes=[{"id": "a", "bias": 3.0}, {"id": "d"}], links=links[:1]))
    assert made.graph.inputs.tolist() == [0]
    assert made.notes[0].startswith("1 of the inputs has an activation or a bias")
    # An input that nothing reads is no output; one that is marked is.
    assert graph_of(net(nodes=[*net()["nodes"], {"id": "e"}])).outputs.tolist() == [3]
    marked = [*net()["nodes"], {"id": "e", "output": True}]
    assert graph_of(net(nodes=marked)).outputs.tolist() == [4]


def test_unknown_attributes_are_noted_once():
    nodes = [node | {"colour": "red", "x": k} for k, node in enumerate(net()["nodes"])]
    links = [link | {"delay": 1} for link in net()["links"]]
    made = imported(net(nodes=nodes, links=links, graph={"name": "g"}))
    assert made.notes == ("attributes of nodes that say nothing here: 'colour', 'x'",
                          "attributes of edges that say nothing here: 'delay'",
                          "attributes of the graph that say nothing here: 'name'")
    assert text_of(ordered(made)) == text_of(graph_of(net()))


def test_the_option_gives_the_activation_of_nodes_that_say_none(tmp_path, capsys):
    assert "03 @2 relu sum" in str(graph_of(net(), activation="relu"))
    path = tmp_path / "g.json"
    path.write_text(json.dumps(net()))
    out = tmp_path / "g.nal"
    assert main(["import", str(path), "--activation", "2*x", "-o", str(out)]) == 0
    assert "fn 20 2*x" in out.read_text() and "03 20 02\n" in out.read_text()
    assert "node-link, 4 neurons, 3 edges, 2 inputs, 1 outputs" in capsys.readouterr().err
    assert main(["check", str(path)]) == 0


def both(place, **changes):
    """The net with changes at a place such as nodes/2 or links/0."""
    top = net()
    if not place:
        return top | changes
    word, k = place.split("/")
    top[word][int(k)] |= changes
    return top


@pytest.mark.parametrize("place, changes, code, at, words", [
    ("", {"directed": False}, "E810", "/directed", "undirected"),
    ("", {"nodes": 3}, "E801", "/nodes", "array"),
    ("", {"links": {}}, "E801", "/links", "array"),
    ("", {"nodes": []}, "E801", "/links/0", "from b, which is no node"),
    ("", {"nodes": [], "links": []}, "E801", "", "without outputs"),
    ("", {"graph": {"dtype": "f16"}}, "E801", "/graph/dtype", "f32, f64"),
    ("nodes/1", {"id": "a"}, "E801", "/nodes/1", "a second node a"),
    ("nodes/1", {"id": None}, "E801", "/nodes/1/id", "a text, a number"),
    ("nodes/1", {"id": [["a"]]}, "E801", "/nodes/1/id/0", "a text, a number"),
    ("nodes/1", {"id": 2**60}, "E801", "/nodes/1/id", "a text, a number"),
    ("nodes/2", {"activation": "my_act"}, "E811", "/nodes/2/activation", "my_act"),
    ("nodes/2", {"activation": 3}, "E801", "/nodes/2/activation", "text"),
    ("nodes/2", {"aggregation": "median"}, "E811", "/nodes/2/aggregation", "median"),
    ("nodes/2", {"aggregation": "dot"}, "E811", "/nodes/2/aggregation", "pairs"),
    ("nodes/2", {"bias": "1"}, "E817", "/nodes/2/bias", "not str"),
    ("nodes/2", {"bias": True}, "E817", "/nodes/2/bias", "not bool"),
    ("nodes/2", {"bias": 10**400}, "E801", "/nodes/2/bias", "no finite number"),
    ("nodes/2", {"bias": 2**53 + 1}, "E801", "/nodes/2/bias", "no finite number of float64"),
    ("nodes/2", {"bias": None, "bias_const": True}, "E801", "/nodes/2/bias_const", "constant"),
    ("nodes/2", {"input": True}, "E801", "/nodes/2/input", "has an edge into it"),
    ("nodes/2", {"input": "yes"}, "E801", "/nodes/2/input", "true, false"),
    ("nodes/2", {"state": "q"}, "E801", "/nodes/2/state", "names another node"),
    ("nodes/2", {"array": "h", "array_shape": "0x3"}, "E801", "/nodes/2/array_shape", "no shape"),
    ("nodes/2", {"array": "h", "array_shape": "9x9"}, "E801", "", "label"),
    ("links/0", {"source": "q"}, "E801", "/links/0", "from q, which is no node"),
    ("links/0", {"target": "q"}, "E801", "/links/0", "to q, which is no node"),
    ("links/0", {"source": "a"}, "E801", "/links/1", "a second edge from a to c"),
    ("links/0", {"weight": [1]}, "E817", "/links/0/weight", "not list"),
    ("links/0", {"const": 1}, "E801", "/links/0/const", "true or false"),
    ("links/0", {"const": True, "tie": "k"}, "E801", "/links/0/const", "no tie"),
    ("links/0", {"tie": "k k"}, "E801", "/links/0/tie", "no identifier"),
    ("links/0", {"source": "d"}, "E812", "", "a cycle: c -> d -> c"),
    ("links/0", {"source": "c"}, "E812", "", "a cycle: c -> c"),
    ("links/0", {"source": "c"}, "E812", "", "the attribute `state`"),
])
def test_what_is_refused_is_told_with_its_place(place, changes, code, at, words):
    with pytest.raises(ncc.NccError) as caught:
        graph_of(both(place, **changes))
    assert caught.value.code == code, caught.value
    assert f"g:{at}: " in str(caught.value) or not at
    assert words in str(caught.value)


def test_outputs_with_numbers_and_ties_with_values_must_agree():
    for numbers, at in (((1, 1), 3), ((1, True), 3), ((True, 1), 2)):
        nodes = net()["nodes"]
        nodes[2]["output"], nodes[3]["output"] = numbers
        with pytest.raises(ncc.NccError, match=f"g:/nodes/{at}/output: .*a number"):
            graph_of(net(nodes=nodes))
    links = [link | {"tie": "k"} for link in net()["links"]]
    with pytest.raises(ncc.NccError, match="g:/links/1/weight: .*2.0 for tie k, which is -1.5"):
        graph_of(net(links=links))


def test_a_multigraph_has_parallel_edges_or_is_a_graph():
    several = networkx.MultiDiGraph()
    several.add_edge("a", "b", weight=2.0)
    single = networkx.DiGraph([("a", "b", {"weight": 2.0})])
    linked = networkx.node_link_data(several, edges="links")
    for made in (ncc.from_networkx(several).graph, graph_of(linked)):
        assert text_of(made) == text_of(ncc.from_networkx(single).graph)
    several.add_edge("a", "b", weight=3.0)
    with pytest.raises(ncc.NccError, match=r"E810.*a second edge from a to b"):
        ncc.from_networkx(several)
    with pytest.raises(ncc.NccError, match=r"/links/1: error\[E810"):
        graph_of(networkx.node_link_data(several, edges="links"))
    with pytest.raises(ncc.NccError, match=r"E810.*undirected"):
        ncc.load(networkx.Graph(single))


def test_live_attributes_of_numpy_and_places():
    graph = networkx.DiGraph()
    graph.add_node((0, 1))
    graph.add_node(2.5, bias=np.float32(0.1), activation="relu", output=np.True_)
    graph.add_edge((0, 1), 2.5, weight=np.int64(3))
    net = ncc.from_networkx(graph)
    assert net.graph.values.tolist() == [3.0, float(np.float32(0.1))]
    assert [label.name for label in net.graph.labels] == ["(0, 1)", "2.5"]
    for weight, code in ((1j, "E817"), (np.inf, "E801"), (np.ones(2), "E817"), ("1", "E817")):
        graph.edges[(0, 1), 2.5]["weight"] = weight
        with pytest.raises(ncc.NccError) as caught:
            ncc.load(graph)
        assert caught.value.code == code
        assert "edge (0, 1) -> 2.5/weight: " in str(caught.value)


def test_ids_that_look_alike_have_names_of_their_own():
    graph = networkx.DiGraph([(1, "1"), ("1", "\n"), ("\n", "n03")])
    names = {label.first: label.name for label in ncc.from_networkx(graph).graph.labels}
    assert names == {0: "1", 1: "'1'", 2: repr("\n")}  # n03 is the name of a neuron without one


# Round trips --------------------------------------------------------------------------------------


def returned(net):
    """What comes back of a net by each of the ways that a graph with attributes can go."""
    for to in ("graphml", "node-link"):
        yield graph_of(named(to).write(net.graph, False), to)
    live = net.to_networkx()
    yield ncc.from_networkx(live).graph
    for word in ("links", "edges"):
        linked = networkx.node_link_data(live, edges=word)
        assert word in linked
        # networkx lists edges by source; ours stay in their order as they are added.
        edges = {(e["source"], e["target"]): e for e in linked[word]}
        linked[word] = [edges[source, target] for target in live for source in live.pred[target]]
        yield graph_of(json.loads(json.dumps(linked), parse_constant=lambda _: None))


@given(nets(valued=False, aggregations=SINGLE), st.booleans())
def test_an_exported_graph_comes_back(net, delayed):
    text = to_nal(net)
    net = ncc.parse(with_delays(text, len(text)) if delayed else text)
    for back in returned(net):
        assert text_of(back) == text_of(net.graph)


def test_labels_directives_and_arrays_come_back():
    plain = ncc.parse(to_nal(some_net(3, aggregations=SINGLE))).graph
    net = ncc.Net(plain.with_(
        labels=(Label(0, "left"), Label(1, "the right"), Label(0, "h", (1, 2))),
        numerics="strict", dtype="f64"))
    assert len(net.graph.labels) == 3 and net.graph.dtype == "f64"
    for back in returned(net):
        assert set(back.labels) == set(net.graph.labels)
        assert (back.numerics, back.dtype) == ("strict", "f64")


@st.composite
def graphs(draw):
    """A DiGraph such as users make: edges in any order, some attributes, some not."""
    n = draw(st.integers(2, 9))
    made = networkx.DiGraph()
    made.add_nodes_from(f"v{k}" for k in draw(st.permutations(range(n))))
    pairs = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), min_size=1))
    for a, b in pairs:
        if a < b:
            made.add_edge(f"v{a}", f"v{b}", weight=draw(st.integers(-8, 8)) / 4)
    if not made.edges:
        made.add_edge("v0", "v1", weight=0.5)
    for node in made:
        if draw(st.booleans()) and made.pred[node]:
            made.nodes[node]["activation"] = draw(st.sampled_from(["relu", "abs(x)/2", "identity"]))
            made.nodes[node]["aggregation"] = draw(st.sampled_from(
                [name for name in AGGREGATIONS if name not in ("dot", "div")]))
            made.nodes[node]["bias"] = draw(st.integers(-8, 8)) / 4
    return made


def evaluated(graph, row):
    """The outputs by a walk over the graph in Python, for numbers that all sums have exactly."""
    values = {}
    inputs = [node for node in graph if not graph.pred[node] and "bias" not in graph.nodes[node]]
    values.update(zip(inputs, row, strict=True))
    for node in networkx.topological_sort(graph):
        if node in values:
            continue
        held = graph.nodes[node]
        terms = [values[source] * edge["weight"] for source, edge in graph.pred[node].items()]
        how = held.get("aggregation", "sum")
        folded = {"sum": sum, "sumbias": sum, "mul": np.prod, "mean": np.mean, "max": max,
                  "min": min, "maximum": max, "minimum": min,
                  "maxabs": lambda t: max(t, key=abs)}[how](terms)
        x = folded + held.get("bias", 0)
        values[node] = {"relu": max(x, 0), "abs(x)/2": abs(x) / 2}.get(
            held.get("activation"), x)
    return [values[node] for node in graph if not graph.succ[node] and graph.pred[node]]


@given(graphs(), st.integers(0, 99))
def test_a_random_graph_computes_what_it_says(graph, seed):
    net = ncc.from_networkx(graph)
    x = np.random.default_rng(seed).integers(-8, 9, (3, len(net.inputs))) / 2
    np.testing.assert_allclose(net.graph.run(x, dtype="f64"), [evaluated(graph, row) for row in x],
                               rtol=1e-12, atol=1e-12)
    file = io.BytesIO()
    networkx.write_graphml(graph, file)
    back = graph_of(file.getvalue(), "graphml")
    np.testing.assert_allclose(back.run(x, dtype="f64"), net.graph.run(x, dtype="f64"),
                               rtol=1e-12, atol=1e-12)


# GraphML ------------------------------------------------------------------------------------------

GRAPHML = """<?xml version="1.0"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:y="http://www.yworks.com/xml/graphml">
  <key id="w" for="edge" attr.name="weight" attr.type="double"><default>0.5</default></key>
  <key id="act" for="node" attr.name="activation" attr.type="string"/>
  <key id="c" for="edge" attr.name="const" attr.type="boolean"/>
  <key id="draw" for="node" yfiles.type="nodegraphics"/>
  <graph id="G" edgedefault="directed">
    <desc>two <b>neurons</b></desc>
    <node id="a"><data key="draw"><y:ShapeNode><y:Geometry height="30"/>text</y:ShapeNode></data>
    </node>
    <node id="b"><data key="act"> tanh </data></node>
    <edge source="a" target="b"/>
  </graph>
</graphml>
"""


def test_graphml_with_defaults_and_drawings():
    made = imported(GRAPHML.encode(), "graphml")
    assert made.graph.values.tolist() == [0.5]
    assert made.notes == ("attributes of nodes that say nothing here: 'draw'",)
    assert "01 @1 tanh sum 00*p0" in str(ordered(made))
    again = GRAPHML.replace('version="1.0"', 'version="1.0" encoding="utf-16"').encode("utf-16")
    assert text_of(graph_of(again, "graphml")) == text_of(ordered(made))


@pytest.mark.parametrize("old, new, code, line, words", [
    ('<?xml version="1.0"?>', '<!DOCTYPE g [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>', "E801", 1,
     "document type"),
    ('<?xml version="1.0"?>', '<!DOCTYPE g SYSTEM "file:///etc/passwd">', "E801", 1, "document"),
    ("> tanh <", ">&b;<", "E801", 11, "no XML: undefined entity"),
    ("<graphml", "<gexf", "E801", 14, "mismatched tag"),
    ('edgedefault="directed"', 'edgedefault="undirected"', "E810", 12, "undirected"),
    ('edgedefault="directed"', "", "E801", 7, "<graph> has no edgedefault"),
    ('target="b"/>', 'target="b" directed="false"/>', "E810", 12, "undirected"),
    ('target="b"/>', 'target="c"/>', "E801", 12, "which is no node"),
    ('target="b"/>', "/>", "E801", 12, "<edge> has no target"),
    ('target="b"/>', 'target="b"/><edge source="a" target="b"/>', "E810", 12, "a second edge"),
    ('target="b"/>', 'target="b"><data key="w">x</data></edge>', "E801", 12, "is no double"),
    ('target="b"/>', 'target="b"><data key="w">1_0</data></edge>', "E801", 12, "is no double"),
    ('target="b"/>', 'target="b"><data key="w">INF</data></edge>', "E801", 12, "no finite number"),
    ('target="b"/>', 'target="b"><data key="c">yes</data></edge>', "E801", 12, "is no boolean"),
    ('target="b"/>', 'target="b"><data key="z">1</data></edge>', "E801", 12, "no <key> declares z"),
    ('target="b"/>', 'target="b"><data key="w">1</data><data key="w">1</data></edge>', "E801", 12,
     "a second value of w"),
    ("> tanh <", ">my_act<", "E811", 11, "my_act"),
    ('<node id="b">', '<node id="b"><port name="p"/>', "E810", 11, "port"),
    ('<node id="b">', '<node id="b"><graph edgedefault="directed"/>', "E810", 11, "second <graph>"),
    ('<node id="b">', '<hyperedge/><node id="b">', "E810", 11, "hyperedge"),
    ('<node id="b">', '<node id="b"><node id="e"/>', "E801", 11, "<node> within <node>"),
    ('<key id="c"', '<key id="w"', "E801", 5, "a second <key> w"),
    ("</graphml>", '<graph edgedefault="directed"/></graphml>', "E810", 14, "second <graph>"),
    ("</graphml>", "", "E801", 15, "no XML: no element found"),
    ("<desc>", "<desc>" + "<a>" * 99, "E801", 8, "within each other"),
    ("two <b>", "two \udcff", "E801", 8, "not well-formed"),
])
def test_graphml_that_is_refused(old, new, code, line, words):
    data = GRAPHML.replace(old, new, 1).encode("utf-8", "surrogateescape")
    assert GRAPHML.count(old) >= 1
    with pytest.raises(ncc.NccError) as caught:
        graph_of(data, "graphml")
    assert (caught.value.code, caught.value.span.line) == (code, line), caught.value
    assert words in str(caught.value)


def test_no_graph_in_the_file():
    for data, words in ((b"<graphml/>", "no <graph>"), (b"<svg/>", "no <graph>"), (b"", "no XML"),
                        (b"<?xml version='1.0' encoding='ebcdic-x'?><graphml/>", "no XML"),
                        (b"<graph/>", "whose first element is <graphml>")):
        with pytest.raises(ncc.NccError, match=words):
            imported(data, "graphml")


@pytest.mark.parametrize("ending", [".json", ".graphml"])
@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_files_that_are_broken_at_random(tmp_path, ending, count):
    data = GRAPHML.encode() if ending == ".graphml" else json.dumps(
        net(nodes=[node | {"output": 1} for node in net()["nodes"][:1]] + net()["nodes"][1:]),
        indent=1).encode()
    codes = {survives(tmp_path / f"m{ending}", made, source={
        ".json": "node-link"}.get(ending, "graphml")) for made in mutants(data, count, count)}
    assert {None, "E801"} <= codes
