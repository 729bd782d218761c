"""neat-python evolves nets that ncc evaluates: exclusive or, and a cart that swings up its pole.

    python examples/evolve.py xor
    python examples/evolve.py swing_up

Neither the topology nor the weights are given: `neat.Population.run` breeds both, and asks for the
fitness of a generation at a time. `ncc.neat.population` makes one population of its genomes. For
exclusive or, `pop(x)` gives the outputs of all nets for the same four samples. For the cart,
`pop.step(obs)` gives each net what its own cart sees, and the equations of motion are numpy over
all carts; those that have left the track are not stepped any more (`active`).

What is printed at the end says what the time of a generation went into: nets made of genomes, their
evaluation, the tasks themselves, and neat-python's own reproduction and speciation, which is left.

Needs neat-python (pip install 'ncc-compiler[neat]').
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import neat
import numpy as np
from numpy.typing import NDArray

import ncc

Array = NDArray[np.float64]

CONFIG = """\
[NEAT]
fitness_criterion = max
fitness_threshold = {enough}
pop_size = {pop_size}
reset_on_extinction = False
no_fitness_termination = False

[DefaultGenome]
num_inputs = {inputs}
num_hidden = 0
num_outputs = 1
initial_connection = full_direct
feed_forward = True
compatibility_disjoint_coefficient = 1.0
compatibility_weight_coefficient = 0.5
conn_add_prob = 0.5
conn_delete_prob = 0.2
node_add_prob = 0.3
node_delete_prob = 0.1
activation_default = random
activation_options = {activations}
activation_mutate_rate = 0.1
aggregation_default = sum
aggregation_options = sum
aggregation_mutate_rate = 0.0
bias_init_mean = 0.0
bias_init_stdev = 1.0
bias_replace_rate = 0.1
bias_mutate_rate = 0.7
bias_mutate_power = 0.5
bias_max_value = 30.0
bias_min_value = -30.0
response_init_mean = 1.0
response_init_stdev = 0.0
response_replace_rate = 0.0
response_mutate_rate = 0.0
response_mutate_power = 0.0
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
enabled_mutate_rate = 0.01

[DefaultSpeciesSet]
compatibility_threshold = 3.0

[DefaultStagnation]
species_fitness_func = max
max_stagnation = 20
species_elitism = 2

[DefaultReproduction]
elitism = 2
survival_threshold = 0.2
min_species_size = 2
"""

SPENT = Counter[str]()  # seconds of CPU, by what they went into


def timed(what: str, function: Callable[..., Any], *given: Any) -> Any:
    """What the function makes of what is given."""
    began = time.process_time()
    made = function(*given)
    SPENT[what] += time.process_time() - began
    return made


# -- exclusive or

XOR = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def xor(pop: ncc.Population) -> Array:
    """4 less the squared errors (nets,)."""
    y = timed("nets", pop, XOR)
    return 4 - ((y[:, :, 0] - [0, 1, 1, 0]) ** 2).sum(axis=1)


# -- the cart

STEPS, DT = 500, 0.02  # ten seconds
TRACK, FORCE = 2.4, 10.0  # metres to each side, newtons
CART, POLE, LENGTH, GRAVITY, FRICTION = 0.5, 0.5, 0.6, 9.82, 0.1
STARTS = np.array([[0.0, 0.0, np.pi, 0.0], [0.5, 0.0, np.pi + 0.3, 0.0],
                   [-0.5, 0.0, np.pi - 0.1, 0.3]])


def seen(state: Array) -> Array:
    """What a net sees (..., 5) of a state (..., 4): position, velocity, angle, its speed."""
    x, v, angle, spin = np.moveaxis(state, -1, 0)
    return np.stack([x / TRACK, v / 4, np.cos(angle), np.sin(angle), spin / 8], axis=-1)


def moved(state: Array, force: Array) -> Array:
    """The states (..., 4) DT later. The angle is 0 where the pole stands, and counts to the left;
    the pole's mass is uniform along its length (as in Gal, McAllister and Rasmussen 2016)."""
    x, v, angle, spin = np.moveaxis(state, -1, 0)
    s, c = np.sin(angle), np.cos(angle)
    below = 4 * (CART + POLE) - 3 * POLE * c**2
    push = force - FRICTION * v
    pull = (-2 * POLE * LENGTH * spin**2 * s + 3 * POLE * GRAVITY * s * c + 4 * push) / below
    turn = (-3 * POLE * LENGTH * spin**2 * s * c + 6 * (CART + POLE) * GRAVITY * s
            + 6 * push * c) / (LENGTH * below)
    v, spin = v + DT * pull, spin + DT * turn
    return np.stack([x + DT * v, v, angle + DT * spin, spin], axis=-1)


def runs(pop: ncc.Population, state: Array, steps: int) -> Iterator[tuple[Array, Array]]:
    """After each step the states (nets, runs, 4) of each net's carts, which begin at `state`, and
    which of them (nets, runs) have not left the track: the others stay where they are."""
    alive = np.ones(state.shape[:2], bool)
    for _ in range(steps):
        y = timed("nets", pop.step, seen(state), alive.any(axis=1))[:, :, 0]
        state = np.where(alive[..., None], moved(state, FORCE * np.clip(y, -1, 1)), state)
        alive = alive & (np.abs(state[..., 0]) <= TRACK)
        yield state, alive


def swing_up(pop: ncc.Population, steps: int = STEPS) -> Array:
    """How well the pole stands, 0 to 1 on average over the steps and the starts (nets,): above the
    cart, slowly, near the middle of the track. A fifth is for being high at all."""
    total = np.zeros(len(pop))
    for state, alive in runs(pop, np.tile(STARTS, (len(pop), 1, 1)), steps):
        x, _, angle, spin = np.moveaxis(state, -1, 0)
        stands = np.maximum(np.cos(angle), 0) ** 2 / (1 + (spin / 1.5) ** 2)
        reward = (0.8 * stands + 0.1 * (1 + np.cos(angle))) * np.cos(x / TRACK * np.pi / 2)
        total += np.where(alive, reward, 0).mean(axis=1)
    return total / steps


def stands(pop: ncc.Population, count: int = 100) -> int:
    """Of so many other starts, how often the pole stands all through the last two seconds."""
    rng = np.random.default_rng(0)
    middle, spread = (0, 0, np.pi, 0), (0.3, 0.1, 0.3, 0.1)
    held = np.ones((1, count), bool)
    start = rng.normal(middle, spread, (1, count, 4))
    for step, (state, alive) in enumerate(runs(pop, start, STEPS)):
        if step >= STEPS - 2 / DT:
            held &= alive & (np.cos(state[..., 2]) > 0.9)
    return int(held.sum())


# -- evolution

TASKS: dict[str, tuple[Callable[[ncc.Population], Array], dict[str, Any]]] = {
    # With sin or gauss, which rise and fall, one neuron would do.
    "xor": (xor, {"inputs": 2, "activations": "sigmoid", "enough": 3.9, "pop_size": 150}),
    "swing_up": (swing_up, {"inputs": 5, "activations": "tanh sigmoid sin gauss relu",
                            "enough": 0.7, "pop_size": 200}),
}


def configuration(task: str, **changes: Any) -> neat.Config:
    """neat-python's configuration of a task, which it reads from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config")
        path.write_text(CONFIG.format(**{**TASKS[task][1], **changes}))
        return neat.Config(neat.DefaultGenome, neat.DefaultReproduction, neat.DefaultSpeciesSet,
                           neat.DefaultStagnation, str(path))


def evolve(task: str, config: neat.Config, seed: int, generations: int) -> tuple[Any, str]:
    """The best genome, and a line that says what the time went into."""
    fitness = TASKS[task][0]
    best: list[float] = []

    def evaluate(genomes: list[tuple[int, Any]], config: neat.Config) -> None:
        pop = timed("populations", ncc.neat.population, genomes, config)
        values = timed("evaluation", fitness, pop)
        for (_, genome), value in zip(genomes, values.tolist(), strict=True):
            genome.fitness = value
        best.append(values.max())

    population = neat.Population(config, seed=seed)
    # The engine is compiled or read once: that is no part of a generation.
    ncc.neat.population(list(population.population.items()), config)
    SPENT.clear()
    winner = timed("all", population.run, evaluate, generations)
    whole, nets = SPENT["all"], SPENT["nets"]
    bred = whole - SPENT["populations"] - SPENT["evaluation"]
    return winner, (
        f"{len(best)} generations of {config.pop_size}, {1e3 * whole / len(best):.0f} ms each: "
        f"{SPENT['populations'] / whole:.0%} to make nets of genomes, {nets / whole:.0%} to "
        f"evaluate them, {(SPENT['evaluation'] - nets) / whole:.0%} what they were tried on, "
        f"{bred / whole:.0%} neat-python's reproduction")


def main() -> None:
    parser = argparse.ArgumentParser(description="Evolve nets by neat-python, evaluated by ncc.")
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--generations", type=int, default=300, help="at most")
    arguments = parser.parse_args()
    config = configuration(arguments.task)
    winner, times = evolve(arguments.task, config, arguments.seed, arguments.generations)
    nodes, edges = winner.size()
    print(f"fitness {winner.fitness:.3f}: {nodes} nodes, {edges} connections")
    if arguments.task == "swing_up":
        count = stands(ncc.neat.population([(winner.key, winner)], config))
        print(f"from 100 other starts the pole stands at the end {count} times")
    print(times)
    if winner.fitness < config.fitness_threshold:
        sys.exit(1)


if __name__ == "__main__":
    main()
