"""Genomes of TensorNEAT beside an evaluator of its rules, written from their description: values of
nodes are an array that begins as NaN, and a NaN among a node's inputs is no input."""

from __future__ import annotations

import io
import random
import zipfile
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import compare

import ncc
from ncc.errors import NccError
from ncc.formats.importers import registry
from ncc.formats.importers.foreign import Foreign, Options
from ncc.formats.importers.tensorneat import ACTIVATIONS, AGGREGATIONS

FUNCTIONS = {
    "scaled_sigmoid": lambda z: 3 / (1 + np.exp(-z)), "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "scaled_tanh": lambda z: 3 * np.tanh(z), "tanh": np.tanh, "sin": np.sin,
    "relu": lambda z: max(z, 0), "lelu": lambda z: z if z > 0 else 0.005 * z,
    "identity": lambda z: z, "inv": lambda z: 1 / (max(z, 1e-7) if z > 0 else min(z, -1e-7)),
    "log": lambda z: np.log(max(z, 1e-7)), "exp": np.exp, "abs": abs,
}
FOLDS = {"sum": np.sum, "product": np.prod, "max": np.max, "min": np.min, "mean": np.mean,
         "maxabs": lambda z: z[np.argmax(np.abs(z))]}
NAMES, WORDS = list(FUNCTIONS), list(FOLDS)


def evaluated(genome, x):
    """y of one sample, in float64."""
    nodes, conns = np.asarray(genome["nodes"], float), np.asarray(genome["conns"], float)
    keys = {int(key): k for k, key in enumerate(nodes[:, 0]) if not np.isnan(key)}
    values = np.full(len(nodes), np.nan)
    values[genome["inputs"]] = x
    left = [k for key, k in keys.items() if key not in genome["inputs"]]
    while left:
        for k in left:
            lists = [(keys[int(a)], w) for a, b, *_, w in conns if b == nodes[k, 0]]
            if not any(row in left for row, _ in lists):
                break
        left.remove(k)
        into = np.full(len(nodes), np.nan)
        for row, weight in lists:
            into[row] = values[row] * weight
        into = into[~np.isnan(into)]
        if len(into):
            response = nodes[k, 2] if nodes.shape[1] == 5 else 1
            z = nodes[k, 1] + response * FOLDS[genome["aggregations"][int(nodes[k, -2])]](into)
            index = -1 if nodes[k, 0] in genome["outputs"] else int(nodes[k, -1])
            values[k] = z if index == -1 else FUNCTIONS[genome["activations"][index]](z)
    return values[genome["outputs"]]


def drawn(seed, activations=NAMES, aggregations=WORDS, columns=5):
    """A genome without cycles, as a dict; some hidden nodes are reached by no input."""
    rng = random.Random(seed)
    inputs, outputs, hidden = [0, 1, 2], [3, 4], rng.sample(range(5, 40), rng.randrange(8))
    rows = []
    for key in [*inputs, *outputs, *hidden]:
        row = [key, rng.gauss(0, 1), rng.choice((1.0, 0.5, -1.25)),
               rng.randrange(len(aggregations)), rng.randrange(-1, len(activations))]
        rows.append(row[:2] + row[2 + 5 - columns:])
    order = [*inputs, *hidden]
    lists = []
    for k, key in enumerate(hidden):
        for source in rng.sample(order[: k + 3], rng.randrange(3)):
            lists.append([source, key, rng.gauss(0, 1)])
    for key in outputs:
        for source in {rng.choice(inputs), *rng.sample(order, rng.randrange(1, 4))}:
            lists.append([source, key, rng.gauss(0, 1)])
    rng.shuffle(lists)
    pad = [[np.nan] * columns] * 2
    return {"nodes": np.array(rows + pad, np.float32),
            "conns": np.array(lists + [[np.nan] * 3], np.float32), "inputs": inputs,
            "outputs": outputs, "activations": activations, "aggregations": aggregations}


def saved(genome):
    held = io.BytesIO()
    np.savez(held, **genome)
    return Foreign("genome.npz", "", held.getvalue())


def run(net, x):
    return net.graph.run(x, dtype="f64", numerics="strict")


def test_all_functions_are_tested():
    assert set(FUNCTIONS) == set(ACTIVATIONS) and set(FOLDS) == set(AGGREGATIONS)


@given(seed=st.integers(0, 10**6), columns=st.sampled_from((4, 5)))
def test_random_genomes_give_what_the_rules_give(seed, columns):
    smooth = ["tanh", "sin", "lelu", "identity", "relu", "sigmoid", "scaled_tanh", "abs"]
    genome = drawn(seed, smooth, columns=columns)
    made = registry.of_object(genome)
    assert (made.exactness, made.graph.dtype, made.graph.numerics) == ("C", "f32", None)
    x = np.random.default_rng(seed).normal(size=(10, 3))
    expected = np.array([evaluated(genome, row) for row in x])
    net = ncc.load(genome)
    compare("a genome of TensorNEAT", run(net, x), expected, "C", bound=1e-11 * np.abs(
        expected).max(initial=1))
    single = net.graph.run(x, dtype="f32")
    assert np.abs(single - expected).max() <= 1e-4 * np.abs(expected).max(initial=1)
    assert str(registry.read([saved(genome)]).graph) == str(made.graph)


@pytest.mark.parametrize("name", NAMES)
def test_each_activation(name):
    genome = drawn(0, [name], ["sum"])
    genome["nodes"] = np.array([[0, 0, 1, 0, 0], [1, 0, 1, 0, -1], [2, 0.25, 2, 0, 0]])
    genome |= {"conns": [[0, 2, 1.0], [2, 1, 1.0]], "inputs": [0], "outputs": [1]}
    x = np.concatenate([[0, -0.0, 1e-8, -1e-8, 50, -50], np.linspace(-4, 4, 30)])[:, None]
    expected = np.array([evaluated(genome, row) for row in x])
    np.testing.assert_allclose(run(ncc.load(genome), x), expected, rtol=1e-13, atol=1e-15)


def test_what_no_input_reaches_is_no_input_rather_than_zero():
    nodes = [[0, 0, 1, 0, 0], [1, 0, 1, 1, 0], [2, 5, 1, 0, 0], [3, 5, 1, 0, 0]]
    conns = [[0, 1, 2.0], [2, 1, 9.0], [3, 2, 1.0]]
    genome = {"nodes": nodes, "conns": conns, "inputs": [0], "outputs": [1],
              "activations": ["identity"], "aggregations": ["sum", "product"]}
    assert run(ncc.load(genome), [[3.0]]).tolist() == [[6.0]]
    assert "2 nodes that no input reaches" in registry.of_object(genome).notes[0]


def of_tensorneat(cls="DefaultGenome", gene="DefaultNode", **changes):
    """(genome, nodes, conns) as TensorNEAT's objects are."""
    module = ModuleType("tensorneat.functions")
    def relu_(z):
        return z
    def sum_(z):
        return z
    for function in (relu_, sum_):
        function.__module__ = module.__name__
    made = type(gene, (), {"__module__": "tensorneat.genome"})()
    made.activation_options, made.aggregation_options = [relu_], [sum_]
    genome = type(cls, (), {"__module__": "tensorneat.genome"})()
    vars(genome).update(network_type="feedforward", node_gene=made, input_transform=None,
                        output_transform=None, input_idx=np.array([0]), output_idx=np.array([1]))
    vars(genome).update(changes)
    return (genome, np.array([[0, 0, 1, 0, 0], [1, 0.5, 1, 0, 0], [np.nan] * 5]),
            np.array([[0, 1, 7, 2.0], [np.nan] * 4]))


def test_a_live_genome_and_a_historical_marker():
    assert run(ncc.load(of_tensorneat()), [[3.0]]).tolist() == [[6.5]]
    for changes, code in (
            ({"cls": "RecurrentGenome", "network_type": "recurrent"}, "E812"),
            ({"cls": "StatefulDefaultGenome"}, "E812"), ({"gene": "RNNNode"}, "E810"),
            ({"output_transform": np.tanh}, "E811"), ({"input_transform": np.tanh}, "E811")):
        with pytest.raises(NccError) as caught:
            ncc.load(of_tensorneat(**changes))
        assert caught.value.code == code
    genome, nodes, conns = of_tensorneat()
    genome.node_gene.activation_options.append(np.tanh)
    with pytest.raises(NccError, match="E811.*tanh"):
        ncc.load((genome, nodes, conns))
    assert ncc.load((genome, nodes, conns), fn={"tanh": "tanh(x)"}).n_edges == 1


def case(name, value):
    genome = {"nodes": np.array([[0, 0, 1, 0, 0], [1, 0.5, 1, 0, 0], [2, 0, 1, 0, 0]]),
              "conns": np.array([[0, 2, 1.0], [2, 1, 2.0]]), "inputs": [0], "outputs": [1],
              "activations": ["tanh"], "aggregations": ["sum"]}
    if callable(value):
        value(genome[name])
    else:
        genome[name] = value
    return genome


def put(where, number):
    return lambda array: array.__setitem__(where, number)


@pytest.mark.parametrize("name, value, code, place", [
    ("nodes", np.zeros(3), "E801", "/nodes: "), ("nodes", np.zeros((2, 6)), "E810", "/nodes: "),
    ("nodes", [["a"] * 5], "E817", "/nodes: "), ("nodes", [[1, 2], [3]], "E801", "/nodes: "),
    ("nodes", put((1, 1), np.nan), "E801", "/nodes/1: "),
    ("nodes", put((1, 2), np.inf), "E801", "/nodes/1: "),
    ("nodes", put((1, 1), 1e300), "E801", "/nodes/1: "),
    ("nodes", put((0, 0), np.nan), "E801", "/nodes: "),
    ("nodes", put((1, 0), 0.5), "E801", "/nodes/1: "),
    ("nodes", put((2, 0), 1), "E801", "/nodes: "),
    ("nodes", put((1, 3), 1), "E801", "/nodes/1: "),
    ("nodes", put((1, 4), -2), "E801", "/nodes/1: "),
    ("nodes", put((1, 4), 0.5), "E801", "/nodes/1: "),
    ("nodes", put((slice(1, 3), 0), [2, 1]), "E801", "/outputs: "),
    ("conns", put((0, 1), 9), "E801", "/conns/0: "),
    ("conns", put((1, 1), 0), "E801", "/conns/1: "),
    ("conns", put((0, 2), np.nan), "E801", "/conns/0: "),
    ("conns", put(1, [0, 2, 1]), "E801", "/conns/1: "),
    ("conns", np.zeros((0, 3)), "E810", "/nodes/1: "),
    ("conns", [[0, 1, 1], [2, 1, 1], [2, 2, 1], [0, 2, 1]], "E812", "2 -> 2"),
    ("inputs", [0.5], "E801", "/inputs: "), ("inputs", [7], "E801", "/inputs: "),
    ("outputs", [1, 1], "E801", "/outputs: "), ("outputs", [0], "E801", "/outputs: "),
    ("activations", ["swish"], "E811", "/activations/0: "), ("activations", 3, "E801", "/activ"),
    ("aggregations", ["median"], "E811", "/aggregations/0: "),
])
def test_arrays_are_refused_with_code_and_place(name, value, code, place):
    with pytest.raises(NccError) as caught:
        ncc.load(case(name, value))
    assert caught.value.code == code and place in str(caught.value), caught.value


def test_arrays_alone_do_not_say_enough():
    genome = case("inputs", [0])
    for name in ("inputs", "outputs", "activations", "aggregations"):
        few = {key: value for key, value in genome.items() if key != name}
        for source in (lambda few=few: ncc.load(few),
                       lambda few=few: registry.read([saved(few)])):
            with pytest.raises(NccError, match=name) as caught:
                source()
            assert caught.value.code == "E815"


def test_files_that_are_damaged_forged_or_hostile():
    good = saved(drawn(3)).data
    rng = random.Random(0)
    bad = [good[: len(good) // 2], good[:-30]]
    for _ in range(150):
        held = bytearray(good)
        for _ in range(rng.choice((1, 3))):
            held[rng.randrange(len(held))] = rng.randrange(256)
        bad.append(bytes(held))
    for pieces in ({"nodes": np.array([object()])}, {"nodes": np.zeros(3, "V4")}):
        bad.append(saved(drawn(3) | pieces).data)
    forged = io.BytesIO()
    np.save(forged, np.zeros((100, 5)))
    with zipfile.ZipFile(whole := io.BytesIO(), "w") as held:
        for name in ("nodes", "conns"):
            held.writestr(f"{name}.npy", forged.getvalue().replace(b"(100, 5)", b"(9999999999, 5)"))
    bad.append(whole.getvalue())
    codes = set()
    for data in bad:
        try:
            registry.read([Foreign("genome.npz", "", data)], "tensorneat", Options())
        except NccError as error:
            codes.add(error.code)
    assert {"E801", "E817", "E819"} <= codes and all(code[:2] == "E8" for code in codes)


def test_another_dict_or_archive_is_not_its():
    for other in ({}, {"nodes": [], "links": []}, (1, 2, 3), SimpleNamespace()):
        with pytest.raises(NccError, match="no importer knows"):
            ncc.load(other)
