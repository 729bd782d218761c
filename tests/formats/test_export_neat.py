"""ncc export to neat-python's JSON: neat-python computes the same bits of it."""

from __future__ import annotations

import json

import neat
import numpy as np
import pytest
from genomes import AGGREGATIONS, config, genomes, outputs
from hypothesis import given
from hypothesis import strategies as st
from neat.export import export_network_json
from oracles import shared

import ncc
from ncc.errors import NccError
from ncc.formats.exporters.neat_json import neat_json
from ncc.formats.importers import registry
from ncc.formats.importers.foreign import Foreign
from ncc.nets.net import ordered
from ncc.report.oracles.evolved import _neat_json as network_of

EVERY = config()
MEDIANS = config(aggregations=(*AGGREGATIONS, "median"))
LOOPS = config(feed_forward=False, hidden=3, connection="full_direct", response=0.5,
               activations=("clamped", "hat"))
X = np.random.default_rng(0).normal(size=(20, 3))


def imported(text):
    return ordered(registry.read([Foreign("net.json", "", text)], "neat"))


def parts(top):
    """What a file says, but for the order of nodes and of the in-lists among each other, and how
    the value of a node without connections is spelt."""
    lists = {}
    for edge in top["connections"]:
        lists.setdefault(edge["to"], []).append((edge["from"], edge["weight"], edge["enabled"]))
    for node in top["nodes"]:
        if node["id"] not in lists and node["type"] != "input":
            empty = node["aggregation"]["name"] == "product"
            node |= {"bias": node["bias"] + node["response"] * empty, "response": 1.0,
                     "aggregation": "any"}
    return (top["network_type"], top["topology"], lists,
            sorted(top["nodes"], key=lambda node: node["id"]))


@given(seed=st.integers(0, 10**6))
def test_there_and_back_is_the_same_file(seed):
    for made, kind in ((EVERY, neat.nn.FeedForwardNetwork), (LOOPS, neat.nn.RecurrentNetwork)):
        (_, genome), = genomes(made, 1, seed, mutations=6)
        text = export_network_json(kind.create(genome, made)).encode()
        back = json.loads(neat_json(imported(text)))
        assert parts(back) == parts(json.loads(text))


@given(seed=st.integers(0, 10**6))
def test_medians_become_nodes_with_the_same_values(seed):
    (_, genome), = genomes(MEDIANS, 1, seed)
    theirs = neat.nn.FeedForwardNetwork.create(genome, MEDIANS)
    graph = imported(export_network_json(theirs).encode())
    back = network_of(json.loads(neat_json(graph)), neat)
    np.testing.assert_array_equal(outputs(back, X), outputs(theirs, X))


@pytest.mark.parametrize("name", ["xor_winner", *(f"random_{k}" for k in range(6))])
def test_shared_files_there_and_back(name):
    path = shared(f"neat/{name}.json")
    back = json.loads(neat_json(imported(path.read_bytes())))
    top = json.loads(path.read_text())
    if "median" not in path.read_text():
        assert parts(back) == parts(top)
    x = np.random.default_rng(1).normal(size=(20, len(top["topology"]["input_keys"])))
    np.testing.assert_array_equal(outputs(network_of(back, neat), x),
                                  outputs(network_of(top, neat), x))


NET = """N 08
fn 20 tanh(max(-60,min(60, 2.5*x)))
out 06,01,07
00
01
02
03 20 00:0.5,01:-1 +=0.5
04 relu mul 03:2,02:0.25 +0.75
05 00 mean 03:1,04:2,02:0.125
06 identity 05:-1.5 +0.25
07 abs max 03:1,00:1
"""


def test_a_net_of_nccs_own_gets_ids_responses_and_a_node_for_an_input_that_is_an_output():
    text = NET.replace("+=0.5", "+=0")
    graph = ncc.parse(text).graph
    top = json.loads(neat_json(graph))
    assert top["topology"]["input_keys"] == [-1, -2, -3]
    assert top["topology"]["output_keys"] == [0, 5, 2]
    nodes = {node["id"]: node for node in top["nodes"]}
    assert (nodes[0]["response"], nodes[0]["aggregation"]["name"]) == (-1.5, "mean")
    back = network_of(top, neat)
    expected = graph.run(X, dtype="f64", numerics="strict")
    np.testing.assert_allclose(outputs(back, X), expected, rtol=1e-14, atol=1e-15)
    same = imported(neat_json(graph)).run(X, dtype="f64", numerics="strict")
    np.testing.assert_array_equal(same, expected)


@pytest.mark.parametrize("line, new, words", [
    ("+=0.5", "+=0.5", "neuron 03 starts from its bias"), ("03 20 ", "03 tanh ", "activation tanh"),
    ("abs max", "abs maximum", "aggregation maximum"), ("2.5*x", "2.4*x", "max(-60,min(60, 2.4"),
    ("03:1,00:1", "03@k:1,00@k", "parameters that are shared"),
    ("07 abs max 03:1,00:1", "07 abs ~04:1", "neuron 04 reads 03 as it is now"),
])
def test_what_neat_python_would_compute_otherwise_is_refused(line, new, words):
    text = NET.replace(line, new)
    if words[:10] != "neuron 03 ":
        text = text.replace("+=0.5", "+=0")
    with pytest.raises(NccError) as caught:
        neat_json(ncc.parse(text).graph)
    assert caught.value.code == "E401" and words in caught.value.message


@pytest.mark.parametrize("name", ["identity", "relu", "abs", "square", "cube", "clip"])
def test_activations_that_both_have(name):
    graph = ncc.parse(f"N 02\n00\n01 {name} 00:1\n").graph
    x = np.array([[0.0], [-0.0], [0.3], [-0.7], [1.5], [-2.5], [1e9]])
    y = graph.run(x, dtype="f64", numerics="strict")
    np.testing.assert_array_max_ulp(outputs(network_of(json.loads(neat_json(graph)), neat), x), y)


def test_lossy_leaves_out_what_is_no_function(ncc_, tmp_path):
    net = tmp_path / "net.nal"
    net.write_text(NET.replace("03:1,00:1", "03@k:1,00@k"))
    out = tmp_path / "champion.json"
    assert ncc_("export", net, "--to", "neat", "-o", out)[0] == 1
    assert ncc_("export", net, "--to", "neat", "--lossy", "-o", out)[0] == 0
    y = ncc.load(out).graph.run(X, dtype="f64", numerics="strict")
    expected = ncc.load(net).graph.run(X, dtype="f64", numerics="strict")
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-14)
    with pytest.raises(NccError, match="E607"):
        neat_json(ncc.parse("N 02\n00\n01 relu 00\n").graph)
