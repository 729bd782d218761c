"""A small irregular net learns, by evolution, to swing a pole up on a cart and to hold it there.

    python examples/swingup.py                     evolve, print, fail where it is not solved
    python examples/swingup.py --generations 20    no more than so many
    python examples/swingup.py --seed 1            another run

CMA-ES (Hansen 2016, "The CMA evolution strategy: a tutorial", arXiv:1604.00772) draws a population
of parameter vectors from a normal distribution, and moves and shapes it by the better half. All of
them drive their carts at once: a step is one call of `fn.each`, in which every cart has parameters
of its own, and a few lines of numpy.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ncc

Array = NDArray[np.floating[Any]]

# Of the cart, its pole and the track, and the force that pushes it: metres, kilograms, newtons.
GRAVITY, CART, POLE, LENGTH, FRICTION, PUSH, TRACK = 9.82, 0.5, 0.5, 0.6, 0.1, 10.0, 2.4
STEPS, DT = 500, 0.02  # of an episode: ten seconds
LAST = 100  # steps, two seconds, in which the pole is to be up
SENSES = 5  # position, its speed, cosine and sine of the angle (0: up), its speed
POPULATION, STARTS, GENERATIONS, RESTART, SEED = 32, 4, 750, 250, 0
TRIALS, SOLVED = 64, 0.9  # starts that nobody learns from; the reward of the last steps in them


def nal(hidden: int = 10, seed: int = 1) -> str:
    """An irregular net, without values: each neuron reads three before it, the output all."""
    rng = np.random.default_rng(seed)
    n = SENSES + hidden
    lines = [f"N {n + 1:x}", *[f"{j:x}" for j in range(SENSES)]]
    for j in range(SENSES, n):
        sources = ",".join([f"{i:x}" for i in np.sort(rng.choice(j, 3, replace=False))])
        lines.append(f"{j:x} {('tanh', 'gauss', 'sin')[rng.integers(3)]} {sources} +")
    return "\n".join([*lines, f"{n:x} tanh {','.join([f'{i:x}' for i in range(n)])} +"]) + "\n"


def starts(count: int, rng: np.random.Generator) -> Array:
    """Position, angle and their speeds (4, count) of carts at rest whose poles hang down."""
    still = np.zeros(count)
    return np.stack([rng.uniform(-0.5, 0.5, count), np.pi + rng.uniform(-0.3, 0.3, count), still,
                     still])


def episode(policy: Callable[[Array], Array], state: Array) -> Array:
    """The rewards (STEPS, count) of carts that start from `state` (4, count) and are pushed by
    policy: senses (count, SENSES) -> (count, 1) in -1..1. It is 1 for an upright pole in the
    middle of the track, and 0 for one that hangs, and once the cart has left the track."""
    x, angle, speed, spin = state
    rewards, on = np.empty((STEPS, len(x))), np.ones(len(x), np.bool_)
    for step in range(STEPS):
        c, s = np.cos(angle), np.sin(angle)
        push = PUSH * policy(np.stack([x, speed, c, s, spin], axis=1))[:, 0]
        speed, spin = accelerated(push - FRICTION * speed, c, s, speed, spin)
        x, angle = x + DT * speed, angle + DT * spin
        on &= np.abs(x) < TRACK
        rewards[step] = on * (1 + np.cos(angle)) / 2 * np.cos(np.pi / 2 * np.clip(x / TRACK, -1, 1))
    return rewards


def accelerated(force: Array, c: Array, s: Array, speed: Array, spin: Array
                ) -> tuple[Array, Array]:
    """The speeds a moment later: Lagrange's equations of a uniform pole on a cart, whose angle
    grows against the cart's direction."""
    mass, swing = CART + POLE, POLE * LENGTH * spin**2 * s
    below = 4 * mass - 3 * POLE * c**2
    return (speed + DT * (4 * force - 2 * swing + 3 * POLE * GRAVITY * s * c) / below,
            spin + DT * (6 * force * c - 3 * swing * c + 6 * mass * GRAVITY * s) / (LENGTH * below))


def cma(n: int, size: int, rng: np.random.Generator, sigma: float = 0.5
        ) -> Iterator[tuple[Array, Callable[[Array], Array]]]:
    """Generations of CMA-ES: vectors (size, n), and what takes their losses (size,) and returns
    the mean of the distribution (n,). The constants are those of the tutorial's table 1."""
    w = np.log((size + 1) / 2) - np.log(np.arange(1, size // 2 + 1))
    w /= w.sum()
    mu = 1 / (w**2).sum()
    c_sigma, c_path = (mu + 2) / (n + mu + 5), (4 + mu / n) / (n + 4 + 2 * mu / n)
    c_one = 2 / ((n + 1.3) ** 2 + mu)
    c_mu = min(1 - c_one, 2 * (mu - 2 + 1 / mu) / ((n + 2) ** 2 + mu))
    damping = 1 + 2 * max(0, np.sqrt((mu - 1) / (n + 1)) - 1) + c_sigma
    expected = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
    mean, covariance, path, path_sigma = np.zeros(n), np.eye(n), np.zeros(n), np.zeros(n)
    while True:
        lengths, axes = np.linalg.eigh(covariance)
        lengths = np.sqrt(np.maximum(lengths, 1e-20))
        drawn = (rng.standard_normal((size, n)) * lengths) @ axes.T

        def tell(losses: Array, drawn: Array = drawn, lengths: Array = lengths,
                 axes: Array = axes) -> Array:
            nonlocal mean, covariance, path, path_sigma, sigma
            best = drawn[np.argsort(losses, kind="stable")[: len(w)]]
            step = w @ best
            mean = mean + sigma * step
            whitened = axes @ ((axes.T @ step) / lengths)
            path_sigma = (1 - c_sigma) * path_sigma + np.sqrt(
                c_sigma * (2 - c_sigma) * mu) * whitened
            path = (1 - c_path) * path + np.sqrt(c_path * (2 - c_path) * mu) * step
            covariance = ((1 - c_one - c_mu) * covariance + c_one * np.outer(path, path)
                          + c_mu * (best.T * w) @ best)
            sigma *= np.exp(c_sigma / damping * (np.linalg.norm(path_sigma) / expected - 1))
            return mean

        yield mean + sigma * drawn, tell


def evolve(generations: int = GENERATIONS, seed: int = SEED) -> list[float]:
    """Evolve until it is solved: every ten generations the reward of the last steps, of the mean
    of the distribution, over the trials."""
    net = ncc.parse(nal())
    print(f"{net.n_neurons} neurons, {net.n_edges} edges, {net.n_params} parameters")
    fn, rng = ncc.compile(net), np.random.default_rng(seed)
    trials = starts(TRIALS, np.random.default_rng(1_000_000))
    found: list[float] = []
    for k in range(1, generations + 1):
        if k % RESTART == 1:  # from where it began: one search in four is lost on a plateau
            search = cma(net.n_params, POPULATION, rng)
        vectors, tell = next(search)
        own = np.repeat(vectors, STARTS, axis=0).astype(np.float32)  # STARTS carts of each vector
        carts = np.tile(starts(STARTS, rng), (1, POPULATION))
        rewards = episode(lambda senses, own=own: fn.each(senses, own), carts).mean(axis=0)
        mean = tell(-rewards.reshape(POPULATION, STARTS).mean(axis=1))
        if k % 10 and k < generations:
            continue
        tried = episode(lambda senses, mean=mean: fn.each(senses, mean), trials)
        found.append(float(tried[-LAST:].mean()))
        done = k == generations or found[-1] >= SOLVED
        if done or k % 50 == 0:
            print(f"generation {k}: reward {rewards.mean():.2f}, in trials {tried.mean():.2f}, "
                  f"at their end {found[-1]:.2f}")
        if done:
            break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--generations", type=int, default=GENERATIONS)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    if evolve(arguments.generations, arguments.seed)[-1] < SOLVED:
        sys.exit(1)


if __name__ == "__main__":
    main()
