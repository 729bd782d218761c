"""Populations of small irregular nets, beside neat-python: python tests/bench/bench_population.py

The NEAT set: random acyclic genomes with 8 inputs, 4 outputs, 20 to 200 neurons and 2.5 times as
many connections, of sigmoid, tanh and relu. Times are CPU time, the least of some rounds, in which
ncc and neat-python take turns; those of neat-python are of a few of the genomes. A population is
made when it has answered once. The seed is drawn anew for each run, unless `--seed` names it.
Status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
import engine_rows  # noqa: E402
from bench_fast import Cell  # noqa: E402

import ncc  # noqa: E402

try:
    import genomes as made_by
    import neat
except ModuleNotFoundError as error:
    sys.exit(f"bench_population.py wants neat-python ({error})")

INPUTS, OUTPUTS, SAMPLES = 8, 4, 256
FEW = 20  # genomes that neat-python takes a turn with


def least(rounds, *calls):
    """The least CPU seconds of each of the calls, which take turns."""
    found = [[] for _ in calls]
    for _ in range(rounds):
        for times, call in zip(found, calls, strict=True):
            began = time.process_time()
            call()
            times.append(time.process_time() - began)
    return [min(times) for times in found]


class Set:
    """Genomes, their population, and neat-python's nets of the first few of them."""

    def __init__(self, count, seed):
        self.config = made_by.config(INPUTS, OUTPUTS, ("sigmoid", "tanh", "relu"), ("sum",))
        self.genomes = made_by.neat_set(self.config, count, seed)
        self.few = [genome for _, genome in self.genomes[:FEW]]
        self.x = np.random.default_rng(seed).normal(size=(SAMPLES, INPUTS))
        self.pop = self.ready()
        self.create()

    def ready(self):
        pop = ncc.neat.population(self.genomes, self.config)
        pop(self.x[0])
        return pop

    def create(self):
        self.nets = [neat.nn.FeedForwardNetwork.create(genome, self.config) for genome in self.few]

    def activate(self):
        row = self.x[0].tolist()
        for net in self.nets:
            net.activate(row)


def beside(what, ours, theirs, unit, scale, goal=None, stretch=None):
    """A row: seconds of ncc and of neat-python, each for one of what is counted."""
    target = "" if goal is None else f"<= {goal} {unit}, {stretch} {unit}"
    return Cell(what, f"{ours * scale:,.1f} {unit}, neat-python {theirs * scale:,.0f} {unit}: "
                f"{theirs / ours:,.0f}x", ours * scale, target, goal, stretch, below=True)


def of_size(count, seed, rounds):
    held = Set(count, seed)
    ours, theirs = least(rounds, held.ready, held.create)
    yield beside(f"genomes to a population, {count:,} nets, a net", ours / count,
                 theirs / len(held.few), "us", 1e6, 350, 150)
    obs = np.resize(held.x, (count, INPUTS))
    repeats = max(1, 10_000 // count)
    batch, step, theirs = least(rounds, lambda: held.pop(held.x),
                                lambda: [held.pop.step(obs) for _ in range(repeats)], held.activate)
    step, theirs = step / repeats, theirs / len(held.few)
    yield beside(f"f64, the same {SAMPLES} samples for {count:,} nets, a net and sample",
                 batch / count / SAMPLES, theirs, "ns", 1e9)
    yield beside(f"f64, a sample of its own for each of {count:,} nets, a net", step / count,
                 theirs, "ns", 1e9)


def alone(seed, rounds):
    """One net after another, as neat-python's classes have it."""
    held = Set(FEW, seed)
    create = ncc.neat.FeedForwardNetwork.create
    nets = [create(genome, held.config) for genome in held.few]
    row = held.x[0].tolist()
    a, b = least(rounds, lambda: [create(g, held.config) for g in held.few], held.create)
    c, d = least(rounds, lambda: [net.activate(row) for net in nets for _ in range(20)],
                 held.activate)
    yield beside("FeedForwardNetwork.create, a net", a / FEW, b / FEW, "us", 1e6)
    yield beside("its activate, a sample", c / FEW / 20, d / FEW, "us", 1e6)


def differences(seed, count):
    """The greatest relative difference from neat-python's outputs, in float64, less what some units
    in the last place of its weights make of them: that much is the net's own."""
    held, every = Set(count, seed), made_by.config(3, 2)
    sets = (("the NEAT set", held.config, held.genomes, held.x[:8]),
            ("all 18 activations, 6 aggregations, responses", every,
             made_by.genomes(every, count, seed), held.x[:8, :3]))
    for what, config, genomes, x in sets:
        y, worst, whole = ncc.neat.population(genomes, config)(x), 0.0, 0.0
        for mine, (_, genome) in zip(y, genomes, strict=True):
            net = neat.nn.FeedForwardNetwork.create(genome, config)
            theirs = made_by.outputs(net, x)
            own = made_by.condition(net, x, np.random.default_rng(0))
            known = ~np.isnan(theirs) & (mine != theirs)
            far, size = np.abs(mine - theirs)[known], np.abs(theirs[known])
            with np.errstate(divide="ignore"):
                worst = max([worst, *(np.maximum(0, far - own[known]) / size).tolist()])
                whole = max([whole, *(far / size).tolist()])
        yield Cell(f"f64, {what}, {count:,} genomes: relative difference",
                   f"{worst:.1e}; {whole:.1e} with the nets' own", worst, "<= 1e-12", 1e-12,
                   below=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--sizes", default="150,1000,10000", metavar="LIST")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--genomes", type=int, default=200, help="of which outputs are compared")
    parser.add_argument("--bits", type=int, default=500,
                        help="genomes of a seed whose bits are compared with compiled ones")
    parser.add_argument("--alone", type=int, default=20, help="of these, each compiled for itself")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    config = made_by.config(INPUTS, OUTPUTS, ("sigmoid", "tanh", "relu"), ("sum",))
    seed = secrets.randbelow(10**6) if arguments.seed is None else arguments.seed
    print(f"seed {seed}\n\n| what | measured | target, stretch | met |\n| --- | --- | --- | --- |")
    missed = False

    def show(cells):
        nonlocal missed
        for cell in cells:
            missed |= cell.met() == "no"
            print(f"| {cell.what} | {cell.measured} | {cell.target} | {cell.met()} |", flush=True)

    for size in map(int, arguments.sizes.split(",")):
        show(of_size(size, seed, arguments.rounds))
        genomes = made_by.neat_set(config, size, seed + 1)
        show(engine_rows.single(genomes, config, arguments.rounds))
    show(engine_rows.threads(genomes, config, arguments.rounds))
    show(engine_rows.first_answers(engine_rows.nets_of(genomes[:150], config)))
    show(engine_rows.engines(3))
    for k in range(arguments.seeds):
        genomes = made_by.neat_set(config, arguments.bits, seed + 2 + k)
        for numerics in ("strict", "fused"):
            show(engine_rows.bits(genomes, config, numerics, arguments.alone))
    show(alone(seed, arguments.rounds))
    show(differences(seed, arguments.genomes))
    if missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
