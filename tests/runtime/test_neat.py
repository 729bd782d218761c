"""`ncc.neat`: populations and networks in the place of neat-python's give its outputs."""

from __future__ import annotations

import math
import pickle
import random
import subprocess
import sys
from types import SimpleNamespace

import neat
import numpy as np
import pytest
from genomes import ACTIVATIONS, assert_close, config, genomes
from hypothesis import given
from hypothesis import strategies as st
from objects import same

import ncc
import ncc.neat
from ncc.errors import NccError

LOOPS = config(feed_forward=False, hidden=2, connection="full_direct", response=0.3)
SMOOTH = ("sigmoid", "tanh", "sin", "gauss", "relu", "clamped", "hat", "softplus")
EVERY = config()
X = np.random.default_rng(0).normal(size=(50, 3))


def test_a_population_of_every_function_has_neat_pythons_outputs():
    pairs = genomes(EVERY, 40, 3)
    pop = ncc.neat.population(pairs, EVERY)
    assert (len(pop), pop.n_inputs, pop.n_outputs, pop.dtype) == (40, 3, 2, "f64")
    used = {gene.activation for _, genome in pairs for gene in genome.nodes.values()}
    assert used == set(ACTIVATIONS)
    batch, own = pop(X[:8]), pop.step(X[:40])
    for k, (_, genome) in enumerate(pairs):
        net = neat.nn.FeedForwardNetwork.create(genome, EVERY)
        assert_close(batch[k], net, X[:8])
        assert_close(own[k : k + 1], net, X[k : k + 1])
    for k in (0, 1):
        fn = ncc.compile(pop[k], dtype="f64", numerics="strict", opt=0)
        same(fn(X[:8]), batch[k])


def test_equal_products_cancel_as_in_python():
    """1/0 is 0 there, and 1/1e-17 is not."""
    made = config(2, 1, ("inv",), ("sum",), response=0.0)
    (_, genome), = genomes(made, 1, 0, mutations=0)
    genome.nodes[0].bias = 0.0
    for key, weight in ((-1, 0.1), (-2, -0.1)):
        genome.connections[key, 0].weight = weight
    net = ncc.neat.FeedForwardNetwork.create(genome, made)
    theirs = neat.nn.FeedForwardNetwork.create(genome, made)
    for x in np.random.default_rng(0).normal(size=50).tolist():
        assert net.activate([x, x]) == theirs.activate([x, x]) == [0.0]


def test_in_single_precision_and_on_threads():
    pairs = genomes(EVERY, 12, 4, mutations=4)
    pop = ncc.neat.population(pairs, EVERY)
    few = ncc.neat.population(pairs, EVERY, dtype="f32", threads=2)
    assert few.dtype == "f32" and few(X).dtype == np.float32
    double, single = pop(X), few(X)
    known = np.isfinite(double) & (np.abs(double) < 1e3)
    assert np.median(np.abs(single - double)[known]) < 1e-6
    same(ncc.neat.population(pairs, EVERY, threads=2)(X), double)


@given(seed=st.integers(0, 10**6))
def test_a_drop_in_network_activates_as_neat_pythons(seed):
    for _, genome in genomes(EVERY, 4, seed):
        ours = ncc.neat.FeedForwardNetwork.create(genome, EVERY)
        theirs = neat.nn.FeedForwardNetwork.create(genome, EVERY)
        assert (ours.input_nodes, ours.output_nodes) == (theirs.input_nodes, theirs.output_nodes)
        y = [ours.activate(row) for row in X[:10].tolist()]
        assert all(type(v) is float for row in y for v in row)
        assert_close(np.array(y), theirs, X[:10])
        same(ours.population(X[:10])[0], np.array(y))
        same(ours.activate_batch(X[:10]), np.array(y))
        same(ours.activate_batch(X[:3]), np.array(y[:3]))


@given(seed=st.integers(0, 10**6))
def test_a_recurrent_drop_in_over_fifty_steps_and_again_after_reset(seed):
    for _, genome in genomes(LOOPS, 3, seed):
        ours = ncc.neat.RecurrentNetwork.create(genome, LOOPS)
        theirs = neat.nn.RecurrentNetwork.create(genome, LOOPS)
        y = np.array([ours.activate(row) for row in X.tolist()])
        assert_close(y, theirs, X)
        ours.reset()
        same(np.array([ours.activate(row) for row in X.tolist()]), y)


@pytest.mark.parametrize("aggregation", ["product", "max", "min", "maxabs", "mean"])
def test_each_aggregation_in_recurrent_nets_whatever_the_response(aggregation):
    made = config(feed_forward=False, hidden=2, connection="full_direct", response=1.5,
                  activations=("tanh", "hat"), aggregations=(aggregation,))
    pairs = genomes(made, 20, 5)
    pop = ncc.neat.population(pairs, made, recurrent=True)
    responses = [gene.response for _, g in pairs for gene in g.nodes.values()]
    assert min(responses) < 0 < 1 < max(responses)
    # An aggregate is a row of its own, so that no pair of functions needs code.
    assert len(pop._kernel.kinds.kinds) == 4
    y = np.stack([pop.step(np.broadcast_to(row, (20, 3))) for row in X], 1)
    for k, (_, genome) in enumerate(pairs):
        assert_close(y[k], neat.nn.RecurrentNetwork.create(genome, made), X)


def test_a_recurrent_population_steps_with_those_that_are_active():
    made = config(feed_forward=False, hidden=1, activations=SMOOTH, aggregations=("sum",))
    pairs = genomes(made, 30, 6, mutations=4)
    pop = ncc.neat.population(pairs, made, recurrent=True)
    nets = [neat.nn.RecurrentNetwork.create(genome, made) for _, genome in pairs]
    rng = np.random.default_rng(1)
    last = np.zeros((30, 2))
    for _ in range(20):
        obs, active = rng.normal(size=(30, 3)), rng.random(30) < 0.7
        y = pop.step(obs, active=active)
        same(y[~active], last[~active])
        wanted = np.array([net.activate(row) for net, row, on in zip(
            nets, obs.tolist(), active, strict=True) if on])
        np.testing.assert_allclose(y[active], wanted, rtol=1e-8, atol=1e-8)
        last = y


def test_a_pickled_population_goes_on_where_it_was():
    pop = ncc.neat.population(genomes(EVERY, 9, 7), EVERY)
    same(pickle.loads(pickle.dumps(pop))(X), pop(X))
    pop = ncc.neat.population(genomes(LOOPS, 9, 7, mutations=4), LOOPS, recurrent=True)
    for row in X[:3]:
        pop.step(np.tile(row, (9, 1)))
    copy = pickle.loads(pickle.dumps(pop))
    same(copy.step(np.tile(X[3], (9, 1))), pop.step(np.tile(X[3], (9, 1))))
    for mine, kept in zip(copy.params, pop.params, strict=True):
        same(mine, kept)


def test_a_recurrent_node_without_connections_is_zero_and_one_on_itself_remembers():
    made = config(1, 2, activations=("identity",), aggregations=("sum",), feed_forward=False,
                  connection="unconnected", response=0.0)
    (_, genome), = genomes(made, 1, 0, mutations=0)
    genome.nodes[0].bias = genome.nodes[1].bias = 0.5
    for key in ((-1, 1), (1, 1)):
        gene = genome.connections[key] = neat.genes.DefaultConnectionGene(key, innovation=0)
        gene.weight, gene.enabled = 1.0, True
    net = ncc.neat.RecurrentNetwork.create(genome, made)
    assert [net.activate([x]) for x in (1, 2, 3)] == [[0, 1.5], [0, 4], [0, 7.5]]
    copy = pickle.loads(pickle.dumps(net))
    net.reset()
    assert copy.activate([0]) == [0, 8] and net.activate([0]) == [0, 0.5]


def test_a_network_says_what_neat_pythons_says():
    (_, genome), = genomes(EVERY, 1, 0)
    ours, theirs = [kind.create(genome, EVERY) for kind in (
        ncc.neat.FeedForwardNetwork, neat.nn.FeedForwardNetwork)]
    for net in (ours, theirs):
        with pytest.raises(RuntimeError, match="Expected 3 inputs, got 2"):
            net.activate([1, 2])
    assert ours.activate((1, 2, 3)) == ours.activate(np.array([1.0, 2.0, 3.0]))
    assert pickle.loads(pickle.dumps(ours)).activate([1, 2, 3]) == ours.activate([1, 2, 3])
    genome.nodes[0].aggregation = "median"
    with pytest.raises(NccError, match="genome 1, node 0: aggregation median"):
        ncc.neat.FeedForwardNetwork.create(genome, EVERY)


def test_neat_python_evolves_with_one_engine_for_all_generations():
    made = config(2, 1, ("sigmoid", "tanh", "relu"), ("sum", "max"), hidden=1, pop_size=30,
                  connection="full_nodirect", threshold=30.0)
    x = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    engines, seen = set(), []

    def evaluate(pairs, given):
        pop = ncc.neat.population(pairs, given)
        engines.add(id(pop._kernel))
        y = pop(x)
        seen.append(sum(len(genome.nodes) for _, genome in pairs))
        for (_, genome), mine in zip(pairs, y, strict=True):
            net = neat.nn.FeedForwardNetwork.create(genome, given)
            assert_close(mine, net, x)
            genome.fitness = -float(((mine[:, 0] - (0, 1, 1, 0)) ** 2).sum())

    random.seed(5)
    best = neat.Population(made).run(evaluate, 8)
    assert len(seen) == 8 and len(set(seen)) > 1 and len(engines) == 1
    assert math.isfinite(best.fitness)


def test_neither_ncc_nor_its_door_imports_neat_python():
    code = ("import sys; sys.modules['neat'] = None; import ncc; ncc.neat.population; "
            "assert not [m for m in sys.modules if m.startswith('neat.')]")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_who_gives_something_else_is_told():
    with pytest.raises(NccError, match="E801.*genome 3 is a Net"):
        ncc.neat.population([(3, ncc.parse("N 02\n00\n01 relu 00:1\n"))], EVERY)
    with pytest.raises(NccError, match="E650"):
        ncc.neat.population([], EVERY)
    with pytest.raises(AttributeError):
        ncc.neat.population([(3, SimpleNamespace())], SimpleNamespace())
