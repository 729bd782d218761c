"""Genomes of neat-python for tests and measurements: configurations, populations, outputs."""

from __future__ import annotations

import math
import random
import tempfile
from pathlib import Path

import neat
import numpy as np
from neat.innovation import InnovationTracker

ACTIVATIONS = ("sigmoid", "tanh", "sin", "gauss", "relu", "elu", "lelu", "selu", "softplus",
               "identity", "clamped", "inv", "log", "exp", "abs", "hat", "square", "cube")
AGGREGATIONS = ("sum", "product", "max", "min", "maxabs", "mean")
CONFIG = """\
[NEAT]
fitness_criterion = max
fitness_threshold = 1e9
pop_size = {pop_size}
reset_on_extinction = False
no_fitness_termination = True

[DefaultGenome]
num_inputs = {n_in}
num_hidden = {hidden}
num_outputs = {n_out}
initial_connection = {connection}
feed_forward = {feed_forward}
compatibility_disjoint_coefficient = 1.0
compatibility_weight_coefficient = 0.5
conn_add_prob = 0.7
conn_delete_prob = 0.2
node_add_prob = 0.5
node_delete_prob = 0.1
activation_default = random
activation_options = {activations}
activation_mutate_rate = 0.3
aggregation_default = random
aggregation_options = {aggregations}
aggregation_mutate_rate = 0.3
bias_init_mean = 0.0
bias_init_stdev = 1.0
bias_replace_rate = 0.1
bias_mutate_rate = 0.7
bias_mutate_power = 0.5
bias_max_value = 30.0
bias_min_value = -30.0
response_init_mean = 1.0
response_init_stdev = {response}
response_replace_rate = {response}
response_mutate_rate = {response}
response_mutate_power = {response}
response_max_value = 30.0
response_min_value = -30.0
weight_init_mean = 0.0
weight_init_stdev = 1.0
weight_replace_rate = 0.1
weight_mutate_rate = 0.8
weight_mutate_power = 0.5
weight_max_value = 30
weight_min_value = -30
enabled_default = True
enabled_mutate_rate = 0.1

[DefaultSpeciesSet]
compatibility_threshold = {threshold}

[DefaultStagnation]
species_fitness_func = max
max_stagnation = 20
species_elitism = 2

[DefaultReproduction]
elitism = 2
survival_threshold = 0.2
min_species_size = 2
"""


def config(n_in=3, n_out=2, activations=ACTIVATIONS, aggregations=AGGREGATIONS, *, hidden=0,
           connection="full_direct", feed_forward=True, response=0.3, pop_size=20, threshold=3.0):
    """A configuration of neat-python's, in which genomes can be made and mutated at once."""
    text = CONFIG.format(n_in=n_in, n_out=n_out, activations=" ".join(activations), hidden=hidden,
                         aggregations=" ".join(aggregations), connection=connection,
                         feed_forward=feed_forward, response=response, pop_size=pop_size,
                         threshold=threshold)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config")
        path.write_text(text)
        made = neat.Config(neat.DefaultGenome, neat.DefaultReproduction, neat.DefaultSpeciesSet,
                           neat.DefaultStagnation, str(path))
    made.genome_config.innovation_tracker = InnovationTracker()
    return made


def genomes(made, count, seed, mutations=12):
    """[(id, genome), ...], each mutated up to so many times."""
    random.seed(seed)
    found = []
    for key in range(1, count + 1):
        genome = neat.DefaultGenome(key)
        genome.configure_new(made.genome_config)
        for _ in range(random.randrange(mutations + 1)):
            genome.mutate(made.genome_config)
        found.append((key, genome))
    return found


def outputs(net, x):
    """y (n, outputs) of x (n, inputs), step by step, a recurrent net's from its reset; NaN where
    Python cannot compute it, or some neuron's value is not finite."""
    return traced(net, x)[0]


def traced(net, x):
    """`outputs`, and the values of all neurons (n, neurons)."""
    steps = hasattr(net, "reset")
    if steps:
        net.reset()
    held = net.values[0] if steps else net.values
    keys = [*held, *[key for key, *_ in net.node_evals if key not in held]]
    y, values = np.full((len(x), len(net.output_nodes)), np.nan), np.full((len(x), len(keys)), 0.0)
    for k, row in enumerate(x.tolist()):
        try:
            made = net.activate(row)
        except OverflowError:
            made = [math.nan]
        held = net.values[net.active] if steps else net.values
        values[k] = [held[key] for key in keys]
        if np.isfinite(made).all() and np.isfinite(values[k]).all():
            y[k] = made
        elif steps:
            break
    return y, values


def condition(net, x, rng):
    """How far y (n, outputs) moves where weights, biases and responses change by some units in the
    last place: what roundings may do to it. Infinity for a recurrent net from where on it does not
    forget them: a neuron's value moves by 1e-9 of it. `net` is neat-python's."""
    (y, values), evals = traced(net, x), net.node_evals
    far, most = np.zeros_like(y), np.zeros(len(x))

    def moved(value):
        return value * (1 + 2.0**-49 * rng.uniform(-1, 1))

    for _ in range(6):
        net.node_evals = [(node, act, agg, moved(bias), moved(response),
                           [(i, moved(w)) for i, w in links])
                          for node, act, agg, bias, response, links in evals]
        other, others = traced(net, x)
        far = np.fmax(far, np.abs(other - y))
        with np.errstate(all="ignore"):
            moves = np.abs(others - values) / np.abs(values)
        most = np.fmax(most, np.nanmax(moves, axis=1, initial=0))
    net.node_evals = evals
    if hasattr(net, "reset"):
        far = np.maximum.accumulate(far)
        far[np.maximum.accumulate(most > 1e-9)] = np.inf
    return far


def assert_close(ours, net, x, seed=0):
    """`ours` (n, outputs), of x (n, inputs), is within 1e-12 of what neat-python's `net` gives step
    by step, relative, and within some times what the net makes of roundings."""
    theirs = outputs(net, x)
    with np.errstate(all="ignore"):
        bound = 1e-12 * np.abs(theirs) + 4 * condition(net, x, np.random.default_rng(seed))
    known = ~np.isnan(theirs)
    assert ours.shape == theirs.shape
    assert (np.abs(ours - theirs) <= bound)[known].all(), np.abs(ours - theirs)[known].max()


def neat_set(made, count, seed, activations=("sigmoid", "tanh", "relu"), sizes=(20, 200)):
    """[(id, genome), ...] of acyclic genomes whose neurons, inputs included, are as many as drawn
    between `sizes`, with 2.5 connections for each."""
    rng, found, numbers = random.Random(seed), [], {}
    inputs, outs = made.genome_config.input_keys, made.genome_config.output_keys
    for key in range(count):
        genome = neat.DefaultGenome(key)
        size = rng.randint(*sizes)
        hidden = [len(outs) + k for k in range(max(0, size - len(inputs) - len(outs)))]
        order = [*inputs, *hidden]
        for node in [*outs, *hidden]:
            gene = genome.nodes[node] = neat.genes.DefaultNodeGene(node)
            gene.bias, gene.response, gene.time_constant = rng.gauss(0, 1), 1.0, 1.0
            gene.activation, gene.aggregation = rng.choice(activations), "sum"

        def add(*ends, connections=genome.connections):
            gene = neat.genes.DefaultConnectionGene(ends, numbers.setdefault(ends, len(numbers)))
            gene.weight, gene.enabled = rng.gauss(0, 1), True
            connections.setdefault(ends, gene)

        for k, node in enumerate(hidden):
            add(rng.choice(order[: len(inputs) + k]), node)
            add(node, rng.choice([*hidden[k + 1 :], *outs]))
        for node in outs:
            add(rng.choice(order), node)
        while len(genome.connections) < 2.5 * size:
            k = rng.randrange(len(hidden) + len(outs))
            if k < len(hidden):
                add(rng.choice(order[: len(inputs) + k]), hidden[k])
            else:
                add(rng.choice(order), outs[k - len(hidden)])
        found.append((key, genome))
    return found
