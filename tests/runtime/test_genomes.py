"""Genomes of neat-python become nets with neat-python's outputs, or are refused by name."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from types import SimpleNamespace

import neat
import numpy as np
import pytest
from genomes import ACTIVATIONS, AGGREGATIONS, assert_close, config, genomes
from hypothesis import given
from hypothesis import strategies as st

import ncc
from ncc.errors import NccError
from ncc.images.kinds import kinds_of
from ncc.nets.genomes import ACTIVATIONS as FORMULAS
from ncc.nets.genomes import kinds, union

NETS = Path(__file__).parents[2] / "../shared/nets/neat"
EVERY = config()
X = np.random.default_rng(0).normal(size=(12, 3))


def changed(*changes, made=EVERY, count=1):
    """Pairs of genomes whose outputs 0 and 1 read the inputs -1, -2, -3, the last one changed."""
    pairs = genomes(made, count, 0, mutations=0)
    for change in changes:
        change(pairs[-1][1])
    return pairs


def node(key, **genes):
    def change(genome):
        made = genome.nodes.get(key)
        if made is None:
            made = genome.nodes[key] = neat.genes.DefaultNodeGene(key)
            made.bias, made.response = 0.25, 1.0
            made.activation, made.aggregation = "identity", "sum"
        for name, value in genes.items():
            setattr(made, name, value)
    return change


def edge(source, target, weight=0.5, enabled=True):
    def change(genome):
        key = source, target
        gene = neat.genes.DefaultConnectionGene(key, innovation=0)
        gene.weight, gene.enabled = weight, enabled
        genome.connections[key] = gene
    return change


def plain(genome):
    """Outputs that are sums, with response 1."""
    for key in (0, 1):
        node(key, response=1.0, activation="identity", aggregation="sum")(genome)


def compare(pairs, made=EVERY, x=X):
    many = union(pairs, made)
    many.graph.verify()
    assert len(many) == len(pairs)
    for k, (_, genome) in enumerate(pairs):
        net = neat.nn.FeedForwardNetwork.create(genome, made)
        graph = many.net(k)
        graph.verify()
        assert_close(graph.run(x, dtype="f64"), net, x)
    return many


def refused(pairs, made=EVERY, **options):
    with pytest.raises(NccError) as caught:
        union(pairs, made, **options)
    return f"{caught.value.code} {caught.value.message}"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_neat_pythons(name):
    theirs = EVERY.genome_config.activation_defs.get(name)
    x = np.concatenate([np.linspace(-20, 20, 401), [0.0, -0.0, 1e-7, 1e-9, -1e-9, 3.4, 12, 100],
                        np.random.default_rng(0).normal(size=200)])
    graph = ncc.parse(f"N 02\nfn 20 {FORMULAS[name]}\n00\n01 20 00:=1\n").graph
    got = graph.run(x[:, None], dtype="f64", numerics="strict")[:, 0]
    # exp(z) - 1 near 0 is what is left of two numbers near 1.
    np.testing.assert_allclose(got, [theirs(v) for v in x.tolist()], rtol=1e-14, atol=1e-15)


def test_the_activations_are_all_of_neat_pythons():
    assert set(FORMULAS) == set(ACTIVATIONS) == set(EVERY.genome_config.activation_defs.functions)
    assert {*AGGREGATIONS, "median"} == set(
        EVERY.genome_config.aggregation_function_defs.functions)


@pytest.mark.parametrize("response", [1.0, -1.0, 0.0, 2.0, -0.7, 1.3])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_response_times_each_aggregation(aggregation, response):
    many = compare(changed(plain, node(0, aggregation=aggregation, response=response)))
    assert many.graph.n_neurons == 5 + (aggregation != "sum")
    alone = changed(plain, node(0, aggregation=aggregation, response=response), edge(-2, 0, -3.0),
                    edge(-1, 0, enabled=False), edge(-3, 0, enabled=False))
    compare(alone)


def test_of_products_of_one_magnitude_the_first_keeps_its_sign_whatever_the_response():
    """3 * 5 and 5 * -3: times a response they are rounded apart."""
    pairs = changed(plain, node(0, aggregation="maxabs"), edge(-1, 0, 3.0), edge(-2, 0, 5.0))
    x = np.array([[5.0, -3.0, 0.0], [-5.0, 3.0, 0.0]])
    for response in np.random.default_rng(0).normal(size=50).tolist():
        pairs[0][1].nodes[0].response = response
        compare(pairs, x=x)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("activation", ["identity", "sigmoid"])
def test_a_node_without_connections_is_a_constant(activation, aggregation):
    off = [edge(i, 0, enabled=False) for i in (-1, -2, -3)]
    compare(changed(plain, node(0, activation=activation, aggregation=aggregation, response=-0.6),
                    *off))
    compare(changed(plain, node(7, activation=activation, aggregation=aggregation, response=1.7),
                    edge(7, 1)))


def test_genomes_without_connections():
    bare = config(connection="unconnected")
    compare(genomes(bare, 3, 0, mutations=0), bare)
    mixed = genomes(EVERY, 3, 0) + genomes(bare, 3, 0, mutations=0) + genomes(EVERY, 1, 1)
    compare(mixed + genomes(bare, 2, 1, mutations=0))


def test_what_no_output_depends_on_is_dropped_whatever_is_wrong_with_it():
    many = compare(changed(
        plain, node(5, aggregation="median"), node(6, bias=np.nan), edge(0, 5), edge(-1, 6),
        edge(6, 5), edge(5, 6), node(8), edge(-2, 8), edge(8, 1, enabled=False)))
    assert many.graph.n_neurons == 5
    # Outputs may be read, and depend on one another.
    assert compare(changed(plain, node(5), edge(0, 5), edge(5, 1))).graph.n_neurons == 6


def test_connections_are_added_in_the_order_of_the_dict():
    pairs = changed(plain, node(9), edge(9, 0), edge(-3, 9), edge(-1, 9))
    graph = union(pairs, EVERY).net(0)
    lists = np.split(graph.sources, graph.starts[1:-1])
    assert [s.tolist() for s in lists] == [[], [], [], [0, 1, 2, 5], [0, 1, 2], [2, 0]]
    weights = [gene.weight for gene in pairs[0][1].connections.values()]
    params = np.split(graph.values, (graph.starts[1:-1] + [0, 0, 0, 1, 2])[3:])
    assert params[0].tolist() == [*[pairs[0][1].connections[-k, 0].weight for k in (1, 2, 3)], 0.5,
                                  pairs[0][1].nodes[0].bias]
    assert len(weights) == 9


@given(seed=st.integers(0, 10**6), n_in=st.integers(1, 4), n_out=st.integers(1, 3),
       hidden=st.integers(0, 3), response=st.sampled_from([0.0, 0.5]))
def test_random_populations(seed, n_in, n_out, hidden, response):
    made = config(n_in, n_out, hidden=hidden, response=response)
    x = np.random.default_rng(seed).normal(size=(6, n_in))
    many = compare(genomes(made, 12, seed), made, x)
    every = kinds(made, many)
    assert set(kinds_of([many.graph]).kinds) <= set(every.kinds)
    # No genome of the configuration has others, so one engine serves all generations.
    later = union(genomes(made, 12, seed + 1), made)
    assert kinds(made, later) == every


def test_a_population_of_many_sizes_has_each_net_whole():
    made = config(4, 2, response=0.0)
    pairs = [p for m in (0, 30, 5) for p in genomes(made, 40, m, mutations=m)]
    many = compare(pairs, made, np.random.default_rng(0).normal(size=(3, 4)))
    assert many.n_inputs == 4 and many.n_outputs == 2
    assert many.slots[-1] == many.graph.n_params and many.first[-1] == many.graph.n_neurons
    for k in range(len(many)):
        alone = union(pairs[k : k + 1], made).graph
        assert str(alone) == str(many.net(k))


# -- refusals

def test_a_refusal_names_genome_and_gene():
    assert refused(changed(plain, node(1, aggregation="median"), count=3)) == (
        "E811 genome 3, node 1: aggregation median is not one that ncc has a formula of")
    for name, value, where in (("bias", math.inf, "node 0: its bias is not finite"),
                               ("response", math.nan, "node 0: its response is not finite"),
                               ("bias", "much", "node 0: its bias is no number"),
                               ("bias", [], "node 0: its bias is no number"),
                               ("activation", [], "node 0: its activation is no name")):
        assert refused(changed(plain, node(0, **{name: value}), count=2)) == (
            f"E801 genome 2, {where}")
    assert refused(changed(plain, edge(-2, 1, -math.inf))) == (
        "E801 genome 1, node 1: the weight of a connection into it is not finite")
    assert refused(changed(plain, edge(-2, 1, 1e300), node(1, response=1e10))) == (
        "E801 genome 1, node 1: a weight times its response is not finite")
    assert refused(changed(plain, edge(-2, 1, "big"))) == (
        "E801 genome 1, connection (-2, 1): its weight is no number")
    assert refused(changed(plain, edge(4, 1))) == (
        "E801 genome 1, connection (4, 1): 4 is no node")
    assert refused(changed(plain, edge(0, -1), edge(-1, 1))) == (
        "E801 genome 1, node -1: a connection into an input")
    assert refused(changed(lambda g: g.nodes.pop(1))) == "E801 genome 1: output 1 is no node"
    assert refused([(4, "genome")]).startswith("E801 genome 4 is a str")
    assert refused([]) == "E650 a population has a net at least"


def test_a_function_of_the_users_is_refused_even_by_a_name_of_neat_pythons():
    made = config()
    made.genome_config.add_activation("mine", lambda z: z)
    assert refused(changed(plain, node(0, activation="mine"), made=made), made) == (
        "E811 genome 1, node 0: activation mine is not one that ncc has a formula of")
    made.genome_config.add_activation("tanh", lambda z: z)
    assert "activation tanh" in refused(changed(plain, node(1, activation="tanh"), made=made), made)
    made.genome_config.add_aggregation("max", lambda z: z[0])
    assert "aggregation max" in refused(
        changed(plain, node(1, aggregation="max"), made=made), made)
    union(changed(plain, made=made), made)


def test_a_cycle_is_refused_with_its_nodes():
    ring = [plain, *[node(k) for k in (5, 6, 7)], edge(5, 6), edge(6, 7), edge(7, 5)]
    assert refused(changed(*ring, edge(7, 1), count=2)) == (
        "E812 genome 2: a cycle: 5 -> 6 -> 7 -> 5")
    assert refused(changed(plain, edge(1, 1))) == "E812 genome 1: a cycle: 1 -> 1"
    long = [node(k) for k in range(10, 40)] + [edge(k, k + 1) for k in range(10, 39)]
    assert refused(changed(plain, *long, edge(39, 10), edge(20, 0))) == (
        "E812 genome 1: a cycle: 10 -> 11 -> 12 -> 13 -> 14 -> 15 -> 16 -> 17 -> 18 -> 19 -> ... "
        "-> 39 -> 10")
    assert not union(changed(*ring, edge(7, 1)), EVERY, recurrent=True).graph.levels.any()
    compare(changed(*ring, edge(7, 1, enabled=False)))


# -- real genomes

def exported(path):
    """The genome that neat-python wrote as JSON, and as much of a configuration as it tells."""
    held = json.loads(path.read_text())
    inputs, outs = held["topology"]["input_keys"], held["topology"]["output_keys"]
    nodes = {n["id"]: SimpleNamespace(
        bias=n["bias"], response=n["response"], activation=n["activation"]["name"],
        aggregation=n["aggregation"]["name"]) for n in held["nodes"] if n["id"] not in inputs}
    edges = {(c["from"], c["to"]): SimpleNamespace(weight=c["weight"], enabled=c["enabled"])
             for c in held["connections"]}
    made = SimpleNamespace(
        input_keys=inputs, output_keys=outs, activation_defs=EVERY.genome_config.activation_defs,
        aggregation_function_defs=EVERY.genome_config.aggregation_function_defs)
    return SimpleNamespace(nodes=nodes, connections=edges), SimpleNamespace(genome_config=made)


def pickled(path):
    genome = pickle.loads(path.read_bytes())
    made = {"bipedal-winner": config(24, 4)}.get(path.stem, config(3, 2))
    return genome, made


@pytest.mark.skipif(not NETS.exists(), reason="needs ../shared")
@pytest.mark.parametrize("path", [p for p in sorted(NETS.glob("*"))
                                  if p.suffix in (".json", ".pickle")], ids=lambda p: p.name)
def test_real_genomes_have_the_outputs_of_their_tool(path):
    genome, made = (exported if path.suffix == ".json" else pickled)(path)
    held = np.load(path.with_suffix(".npz"))
    needed = neat.graphs.required_for_output(
        made.genome_config.input_keys, made.genome_config.output_keys,
        [key for key, gene in genome.connections.items() if gene.enabled])
    medians = [key for key in needed if genome.nodes[key].aggregation == "median"]
    if medians:
        message = refused([(0, genome)], made)
        assert any(message == f"E811 genome 0, node {key}: aggregation median is not one that ncc "
                              "has a formula of" for key in medians)
        return
    for numerics in ("strict", "fused"):
        y = union([(0, genome)], made).net(0).run(held["x"], dtype="f64", numerics=numerics)
        np.testing.assert_allclose(y, held["y"], rtol=1e-12, atol=0)
