"""Nets of neat-python: its JSON, live networks, genomes; outputs of the tool itself."""

from __future__ import annotations

import json
import math
import random

import neat
import numpy as np
import pytest
from genomes import ACTIVATIONS, AGGREGATIONS, assert_close, config, genomes, outputs
from hypothesis import given
from hypothesis import strategies as st
from neat.export import export_network_json
from objects import same
from oracles import NETS, compare, shared

import ncc
from ncc.formats import write
from ncc.formats.importers import registry
from ncc.formats.importers.foreign import Foreign, Options, opened
from ncc.formats.importers.neat_functions import EXACT
from ncc.formats.importers.neat_net import selection

FILES = NETS / "neat"
NAMES = [path.stem for path in sorted(FILES.glob("*.json"))]
EVERY = config(aggregations=(*AGGREGATIONS, "median"))
# Each value stays in bounds, so that recurrent networks do, too.
BOUNDED = ("clamped", "hat", "tanh", "sin", "gauss", "sigmoid")
LOOPS = config(feed_forward=False, hidden=3, connection="full_direct", response=0.5,
               activations=BOUNDED, aggregations=(*AGGREGATIONS, "median"))
PIECEWISE = config(feed_forward=False, hidden=3, connection="full_direct", response=0.5,
                   activations=("clamped", "hat"), aggregations=(*AGGREGATIONS, "median"))
X = np.random.default_rng(0).normal(size=(20, 3))


def run(net, x):
    return net.graph.run(x, dtype="f64", numerics="strict")


def steps(net, x):
    return net.graph.run_steps(x, dtype="f64", numerics="strict")


def exported(net, folder):
    path = folder / "net.json"
    export_network_json(net, str(path))
    return path


@pytest.mark.skipif(not NAMES, reason="../shared is absent")
@pytest.mark.parametrize("name", NAMES)
def test_files_of_json_give_what_neat_python_gave(name):
    path = FILES / f"{name}.json"
    made = registry.read([opened(path)])
    held = np.load(FILES / f"{name}.npz")
    assert made.exactness == ("A" if "piecewise" in str(held.get("class_")) else "B")
    assert (made.graph.numerics, made.graph.dtype) == ("strict", "f64")
    net = ncc.load(path)
    y = run(net, held["x"])
    compare(path, y, held["y"], made.exactness)
    same(ncc.compile(net, dtype="f64", numerics="strict")(held["x"]), y)
    compare(path, run(ncc.load(path, simple=True), held["x"]), held["y"], "C")


@pytest.mark.skipif(not NAMES, reason="../shared is absent")
@pytest.mark.parametrize("name, of", [("genome_0", "many.cfg"), ("genome_1", "many.cfg"),
                                      ("bipedal-winner", "bipedal-config")])
def test_files_of_pickled_genomes_give_what_neat_python_gave(name, of, ncc_, tmp_path):
    path = FILES / f"{name}.pickle"
    held = np.load(FILES / f"{name}.npz")
    y = run(ncc.load(path, config=FILES / of), held["x"])
    compare(path, y, held["y"], "B")
    assert (y == held["y"]).mean() >= 0.95
    assert np.abs(y - held["y"]).max() <= 8 * np.spacing(np.abs(held["y"]).max())
    status, _, err = ncc_("import", path, "--config", FILES / of, "-o", tmp_path / "net.nal")
    assert status == 0 and "strict f64" in err
    same(run(ncc.load(tmp_path / "net.nal"), held["x"]), y)


@pytest.mark.parametrize("name", ["random_0.json", "random_2.json", "bipedal-winner.pickle"])
def test_neat_python_itself_verifies_files(name, ncc_):
    words = () if "json" in name else ("--config", shared("neat/bipedal-config"), "--allow-pickle")
    status, out, err = ncc_("verify", shared(f"neat/{name}"), "--against", "neat-python", *words)
    assert status == 0 and "held" in out, err


def node(activation, aggregation="sum", links=((-1, 1.0),), bias=0.0, response=1.0):
    """A network of one node, as neat-python makes it."""
    held = EVERY.genome_config
    return neat.nn.FeedForwardNetwork([-1, -2, -3], [0], [(
        0, held.activation_defs.get(activation), held.aggregation_function_defs.get(aggregation),
        bias, response, list(links))])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_activation_over_all_magnitudes(name):
    rng = np.random.default_rng(1)
    values = np.concatenate([
        [0.0, -0.0, 1.0, -1.0, 3.4, -3.4, 12.0, -12.0, 24.0, 60.0, -60.0, 1e-7, 1e-300, -1e-300],
        rng.normal(size=300), rng.normal(size=300) * 100, 10.0 ** rng.uniform(-30, 30, 300)])
    theirs, net = node(name), ncc.load(node(name))
    expected = outputs(theirs, np.stack([values] * 3, 1))
    y = run(net, np.stack([values] * 3, 1))
    known = np.isfinite(expected)
    assert known.mean() > 0.7
    if name in EXACT:
        assert (y == expected)[known].all()
    else:
        np.testing.assert_allclose(y[known], expected[known], rtol=4e-15, atol=2e-15)


@pytest.mark.parametrize("response", [1.0, -0.7, 0.0])
@pytest.mark.parametrize("aggregation", [*AGGREGATIONS, "median"])
def test_each_aggregation_of_each_number_of_connections_bit_for_bit(aggregation, response):
    rng = np.random.default_rng(2)
    for count in (0, 1, 2, 3, 4, 5, 8, 11, 16):
        keys = [-1 - k for k in range(max(count, 1))]
        links = [(key, float(w)) for key, w in zip(keys[:count], rng.normal(size=count),
                                                   strict=True)]
        rng.shuffle(links)
        theirs = neat.nn.FeedForwardNetwork(keys, [0], [(
            0, neat.activations.identity_activation,
            EVERY.genome_config.aggregation_function_defs.get(aggregation),
            0.3, response, [tuple(link) for link in links])])
        made = registry.of_object(theirs)
        assert made.exactness == "A"
        x = np.round(rng.normal(size=(40, len(keys))), 1)  # with equal ones
        assert (run(ncc.load(theirs), x) == outputs(theirs, x)).all(), count
        loose = run(ncc.load(theirs, simple=True), x)
        np.testing.assert_allclose(loose, outputs(theirs, x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("count", range(3, 17))
def test_a_network_of_comparators_selects_the_middle(count):
    middle = [count // 2] if count % 2 else [count // 2 - 1, count // 2]
    rng = np.random.default_rng(3)
    # The 0-1 principle: a network that is right for all zeros and ones is right for all numbers.
    cases = (np.arange(2**count)[:, None] >> np.arange(count)) & 1 if count <= 12 else \
        rng.integers(0, 2, (4000, count))
    lines = cases.T.copy()
    for i, j, low, high in selection(count, middle):
        least, most = np.minimum(lines[i], lines[j]), np.maximum(lines[i], lines[j])
        lines[i], lines[j] = (least if low else 9), (most if high else 9)
    assert (lines[middle] == np.sort(cases, axis=1).T[middle]).all()


@given(seed=st.integers(0, 10**6))
def test_genomes_networks_and_their_json_are_one_net(seed):
    for _, genome in genomes(EVERY, 1, seed):
        theirs = neat.nn.FeedForwardNetwork.create(genome, EVERY)
        net = ncc.from_neat(genome, EVERY)
        y = run(net, X)
        assert_close(y, theirs, X)
        same(run(ncc.from_neat(theirs), X), y)
        text = Foreign("net.json", "", export_network_json(theirs).encode())
        same(registry.read([text]).graph.run(X, dtype="f64", numerics="strict"), y)
        for ending in ("graph", "nal", "nel"):
            read = ncc.parse(write.net_file(net.graph, ending), ending).graph
            assert str(read) == str(net.graph), ending


def test_every_function_occurs_in_these_genomes():
    drawn = [genome for seed in range(60) for _, genome in genomes(EVERY, 1, seed)]
    nodes = [gene for genome in drawn for gene in genome.nodes.values()]
    assert {gene.activation for gene in nodes} == set(ACTIVATIONS)
    assert {gene.aggregation for gene in nodes} == {*AGGREGATIONS, "median"}
    assert any(gene.response != 1 for gene in nodes)


def test_a_recurrent_network_of_comparisons_gives_the_same_bits_for_a_thousand_steps(tmp_path):
    x = np.random.default_rng(4).normal(size=(1000, 3))
    moved = 0
    for k, (_, genome) in enumerate(genomes(PIECEWISE, 10, 11, mutations=6)):
        theirs = neat.nn.RecurrentNetwork.create(genome, PIECEWISE)
        count = 20 if k > 2 else 1000
        expected = np.array([theirs.activate(row) for row in x[:count].tolist()])
        compiled = ncc.compile(ncc.from_neat(genome, PIECEWISE))
        compare("a recurrent network of comparisons", compiled.steps(x[:count]), expected, "A")
        for other in (theirs, exported(theirs, tmp_path)):
            assert (steps(ncc.load(other), x[:20]) == expected[:20]).all()
        moved += np.ptp(expected, axis=0).max() > 0
    assert moved > 4


@given(seed=st.integers(0, 10**6))
def test_a_recurrent_network_of_any_functions_step_by_step(seed):
    for _, genome in genomes(LOOPS, 1, seed, mutations=6):
        theirs = neat.nn.RecurrentNetwork.create(genome, LOOPS)
        net = ncc.from_neat(genome, LOOPS)
        assert_close(steps(net, X), theirs, X)
        text = write.net_file(net.graph, "nal")
        same(steps(ncc.parse(text), X), steps(net, X))


def test_a_thousand_steps_of_a_recurrent_network_that_forgets():
    rng = random.Random(5)
    held = LOOPS.genome_config
    names = ["tanh", "sigmoid", "sin"]
    evals = [(key, held.activation_defs.get(names[key % 3]),
              held.aggregation_function_defs.get("sum"), rng.gauss(0, 0.3), 1.0 if key else 0.5,
              [(i, rng.gauss(0, 0.1)) for i in (-1, -2, -3, 0, 1, 2, 3)]) for key in range(4)]
    theirs = neat.nn.RecurrentNetwork([-1, -2, -3], [0, 1], evals)
    x = np.random.default_rng(6).normal(size=(1000, 3))
    expected = np.array([theirs.activate(row) for row in x.tolist()])
    net = ncc.load(theirs)
    y = ncc.compile(net).steps(x)
    compare("a recurrent network", y, expected, "B")
    same(steps(net, x[:20]), y[:20])


@pytest.mark.parametrize("names, exactness", [(("clamped", "hat"), "A"), (("tanh", "sin"), "B")])
def test_a_ctrnn_step_by_step_to_the_bit_where_the_step_is_a_power_of_two(names, exactness,
                                                                          tmp_path):
    made = config(feed_forward=False, hidden=3, connection="full_direct", response=0.5,
                  activations=names, aggregations=("sum", "mean"))
    x = np.random.default_rng(7).normal(size=(100, 3))
    moved = 0
    for _, genome in genomes(made, 2, 3, mutations=6):
        for k, gene in enumerate(genome.nodes.values()):
            gene.time_constant = (0.5, 2.0, 0.3)[k % 3]
        for step in (0.125, 0.1):
            theirs = neat.ctrnn.CTRNN.create(genome, made)
            expected = np.array([theirs.advance(row, step, step) for row in x.tolist()])
            theirs.reset()
            sources = (theirs, (genome, made), exported(theirs, tmp_path))
            for source in sources[: 3 if step == 0.125 else 1]:
                y = ncc.compile(ncc.load(source, time_step=step)).steps(x)
                if exactness == "A" and step == 0.125:
                    assert (y == expected).all()
                np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)
            moved += np.ptp(expected, axis=0).max() > 0
        assert registry.of_object(theirs, Options(time_step=0.125)).exactness == exactness
    assert moved > 2
    for step, code in ((None, "E812"), (0, "E609"), (-1, "E609"), (math.inf, "E609")):
        with pytest.raises(ncc.NccError) as caught:
            ncc.load(theirs, time_step=step)
        assert caught.value.code == code
    with pytest.raises(ncc.NccError, match="--time-step is for a CTRNN"):
        ncc.load(node("tanh"), time_step=1)
    del genome.nodes[0].time_constant
    with pytest.raises(ncc.NccError, match="E815.*time constant"):
        ncc.from_neat(genome, made, time_step=1)
    theirs.node_evals[0].time_constant = 0
    with pytest.raises(ncc.NccError, match="E801.*time constant"):
        ncc.load(theirs, time_step=0.1)


def test_the_command_says_how_many_states_there_are(tmp_path, ncc_):
    (_, genome), = genomes(PIECEWISE, 1, 2, mutations=0)
    path = exported(neat.nn.RecurrentNetwork.create(genome, PIECEWISE), tmp_path)
    status, _, err = ncc_("import", path, "-o", tmp_path / "net.nal")
    assert status == 0 and ", 3 inputs, 2 outputs, " in err and " states; " in err
    same(steps(ncc.load(tmp_path / "net.nal"), X), steps(ncc.load(path), X))
    held = json.loads(path.read_text()) | {"network_type": "ctrnn"}
    for item in held["nodes"]:
        item["time_constant"] = 1.0
    path.write_text(json.dumps(held))
    status, _, err = ncc_("verify", path, "--time-step", "1", "--against", "neat-python")
    assert status == 1 and "error[E812]" in err


def test_recurrent_nodes_without_connections_are_zero_and_outputs_have_their_order():
    sum_, same_ = neat.aggregations.sum_aggregation, neat.activations.identity_activation
    net = neat.nn.RecurrentNetwork([-2, -1], [3, 0, 1], [
        (0, same_, sum_, 0.5, 1.0, [(-1, 1.0), (0, 1.0), (9, 4.0)]),
        (1, same_, neat.aggregations.max_aggregation, 0.0, 1.0, [(-2, 1.0), (9, 1.0)])])
    x = np.array([[-5.0, 1.0], [2.0, 10.0], [3.0, 100.0]])
    y = steps(ncc.load(net), x)
    assert y.tolist() == [net.activate(row) for row in x.tolist()]
    assert y.tolist() == [[0, 1.5, 0], [0, 12, 2], [0, 112.5, 3]]


def test_a_function_of_the_users_own_by_its_formula(tmp_path):
    made = config(2, 1)
    made.genome_config.add_activation("swish", swish)
    (_, genome), = genomes(made, 1, 0, mutations=0)
    genome.nodes[0].activation, genome.nodes[0].aggregation = "swish", "sum"
    formula = {"swish": "x/(1+exp(-x))"}
    theirs = neat.nn.FeedForwardNetwork.create(genome, made)
    for source, how in (((genome, made), formula), (theirs, formula),
                        (exported(theirs, tmp_path), ["swish=x/(1+exp(-x))"])):
        net = ncc.load(source, fn=how)
        np.testing.assert_allclose(run(net, X[:, :2]), outputs(theirs, X[:, :2]), rtol=1e-13)
        with pytest.raises(ncc.NccError) as caught:
            ncc.load(source)
        assert caught.value.code == "E811" and "swish" in str(caught.value)


def swish(z):
    return z / (1 + math.exp(-z))


def sigmoid_activation(z):
    return z


def test_a_name_of_neat_pythons_with_another_function_is_the_users():
    made = config(2, 1)
    made.genome_config.add_activation("sigmoid", sigmoid_activation)
    made.genome_config.add_activation("mine", neat.activations.tanh_activation)
    (_, genome), = genomes(made, 1, 0, mutations=0)
    genome.nodes[0].activation = "sigmoid"
    for source in ((genome, made), neat.nn.FeedForwardNetwork.create(genome, made)):
        with pytest.raises(ncc.NccError, match="E811"):
            ncc.load(source)
    genome.nodes[0].activation = "mine"
    theirs = neat.nn.FeedForwardNetwork.create(genome, made)
    assert_close(run(ncc.from_neat(genome, made), X[:, :2]), theirs, X[:, :2])


def test_what_no_output_depends_on_is_left_out_and_said():
    made = config(2, 1, ("tanh",), ("sum",))
    (_, genome), = genomes(made, 1, 0, mutations=0)
    for key in (5, 6, 7):
        genome.nodes[key] = genome.nodes[0].copy()
    for ends, enabled in (((-1, 5), True), ((6, 0), True), ((5, 7), True), ((7, 0), False)):
        gene = genome.connections[ends] = neat.genes.DefaultConnectionGene(ends, innovation=9)
        gene.weight, gene.enabled = 0.5, enabled
    read = registry.of_object((genome, made), Options())
    assert read.notes == ("1 disabled connections are left out",
                          "2 nodes that no output depends on are left out",
                          "1 nodes without connections are constants, as in neat-python 1.1 and "
                          "later")
    assert [label.name for label in read.graph.labels] == ["-1", "-2", "0", "6"]
    assert_close(run(ncc.from_neat(genome, made), X[:, :2]),
                 neat.nn.FeedForwardNetwork.create(genome, made), X[:, :2])


def test_parameters_are_weights_responses_and_biases():
    read = json.loads(export_network_json(node("tanh", links=[(-1, 2.0), (-2, 3.0)],
                                                           bias=5.0, response=7.0)))
    assert read["nodes"][0]["response"] == 7.0
    net = ncc.load(node("tanh", links=[(-1, 2.0), (-2, 3.0)], bias=5.0, response=7.0))
    assert net.params.tolist() == [2.0, 3.0, 7.0, 5.0]
    plain = ncc.load(node("tanh", links=[(-1, 2.0), (-2, 3.0)], bias=5.0))
    assert plain.params.tolist() == [2.0, 3.0, 5.0] and plain.n_neurons == 4
