"""Weight-agnostic search: nets that read digits with any one weight on all their edges.

    python examples/wann.py [--seed N] [--generations N] [--out FOLDER]

After "Weight Agnostic Neural Networks" (Gaier and Ha 2019): what is searched is the topology alone.
A net is judged by its mean loss with each of six weights, the same one on every edge, and by how
many edges it has; a generation's nets come out of tournaments, and each is changed in one place: an
edge is split by a new neuron, added, or taken out, or an activation is another.

All nets of a generation are one `ncc.Population`, made of arrays; each weight is one assignment to
its parameters. The champion's edges then get weights of their own by `ncc.fit`, and it becomes an
object and a picture.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np
from digits import samples
from numpy.typing import NDArray

import ncc

WEIGHTS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
# By code: identity, sigmoid, tanh, relu, abs, gauss, sin, cos, step, clip.
ACTIVATIONS = (0x00, 0x01, 0x02, 0x03, 0x0F, 0x17, 0x15, 0x16, 0x18, 0x1D)
INPUTS, OUTPUTS = 64, 10
NETS, CHOSEN, TOURNAMENT = 192, 12, 8
BATCH = 300  # pictures a generation looks at
SIZE = 3.0  # of scores: their standard deviation

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]


class Genome(NamedTuple):
    """Neurons are numbered as they came: inputs, outputs, then hidden ones. `place` (neurons,)
    rises along every edge; edges are columns of `edges` (2, E); `activation` (neurons,)."""

    edges: Ints
    activation: Ints
    place: Reals


def seed_net(rng: np.random.Generator) -> Genome:
    """Each output reads a few inputs."""
    source = np.concatenate([rng.choice(INPUTS, 3, replace=False) for _ in range(OUTPUTS)])
    target = np.repeat(INPUTS + np.arange(OUTPUTS), 3)
    place = np.concatenate([np.zeros(INPUTS), np.ones(OUTPUTS)])
    return Genome(np.stack([source, target]), np.zeros(INPUTS + OUTPUTS, np.int64), place)


def changed(net: Genome, rng: np.random.Generator) -> Genome:
    """The net with a change in one place, where the one that was drawn is possible."""
    edges, activation, place = net
    drawn = rng.random()
    if drawn < 0.25:  # a neuron into an edge
        k = int(rng.integers(edges.shape[1]))
        i, j = edges[:, k]
        new = len(place)
        more = np.array([[i, new], [new, j]])
        return Genome(np.concatenate([np.delete(edges, k, 1), more], 1),
                      np.append(activation, rng.choice(ACTIVATIONS)),
                      np.append(place, rng.uniform(place[i], place[j])))
    if drawn < 0.65:  # an edge
        i, j = int(rng.integers(len(place))), int(rng.integers(INPUTS, len(place)))
        if place[i] < place[j] and not (edges == [[i], [j]]).all(0).any():
            return net._replace(edges=np.concatenate([edges, [[i], [j]]], 1))
    elif drawn < 0.8:  # an edge less, if it is not the only one that its neuron has
        k = int(rng.integers(edges.shape[1]))
        if np.count_nonzero(edges[1] == edges[1, k]) > 1:
            return net._replace(edges=np.delete(edges, k, 1))
    else:  # another activation
        j = int(rng.integers(INPUTS, len(place)))
        activation = activation.copy()
        activation[j] = rng.choice(ACTIVATIONS)
        return net._replace(activation=activation)
    return net


def population(nets: list[Genome], weight: float | None = None) -> ncc.Population:
    """With inputs first and outputs last, as `from_edges` has it; edges have a weight of their own
    each, where one is given to begin with."""
    neurons = np.array([len(net.place) for net in nets])
    edges = [net.edges.shape[1] for net in nets]
    ends = np.concatenate([net.edges for net in nets], 1)
    size = np.repeat(neurons, edges)
    # Outputs go behind the hidden ones, whose numbers come down.
    ends = np.where(ends < INPUTS, ends, np.where(
        ends < INPUTS + OUTPUTS, ends + size - INPUTS - OUTPUTS, ends - OUTPUTS))
    activation = np.concatenate([np.concatenate([
        a[:INPUTS], a[INPUTS + OUTPUTS :], a[INPUTS : INPUTS + OUTPUTS]])
        for a in [net.activation for net in nets]])
    return ncc.Population.from_edges(
        INPUTS, OUTPUTS, neurons, np.repeat(np.arange(len(nets)), edges), *ends, activation,
        None if weight is None else np.full(sum(edges), weight))


def scores(pop: ncc.Population, x: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """(nets, pictures, 10) logits with this weight on every edge."""
    pop.params = [[weight]] * len(pop)
    return np.clip(np.nan_to_num(pop(x)), -30, 30)


def losses(pop: ncc.Population, x: NDArray[np.float32], labels: Ints) -> Reals:
    """(nets,): the mean cross-entropy over the weights, of scores of one size whatever the weight:
    what counts is which is the largest."""
    total = np.zeros(len(pop))
    for weight in WEIGHTS:
        y = scores(pop, x, weight)
        y *= SIZE / (y.std((1, 2), keepdims=True) + 1e-6)
        chosen = y[:, np.arange(len(x)), labels]
        np.exp(y, out=y)
        total += (np.log(y.sum(2)) - chosen).mean(1)
    return total / len(WEIGHTS)


def search(x: NDArray[np.float32], labels: Ints, generations: int, seed: int) -> list[Genome]:
    """The best nets of the last generation, by all samples, the best first."""
    rng = np.random.default_rng(seed)
    nets = [seed_net(rng) for _ in range(NETS)]
    began = process_time()
    for generation in range(generations + 1):
        last = generation == generations
        some = np.arange(len(x)) if last else rng.choice(len(x), BATCH, replace=False)
        loss = losses(population(nets), x[some], labels[some])
        edges = np.array([net.edges.shape[1] for net in nets])
        best = np.argsort(loss, kind="stable")
        if generation % 100 == 0 or last:
            print(f"generation {generation:5d}  loss {loss[best[0]]:.3f}  edges "
                  f"{edges[best[0]]:4d}  {process_time() - began:6.1f} s", flush=True)
        if last:
            return [nets[k] for k in best.tolist()]
        following = [nets[k] for k in best[:CHOSEN].tolist()]
        while len(following) < NETS:
            drawn = rng.integers(NETS, size=TOURNAMENT).tolist()
            winner, small = drawn[0], rng.random() < 0.2
            for k in drawn[1:]:  # by loss, or by loss and size
                if loss[k] < loss[winner] and (not small or edges[k] <= edges[winner]):
                    winner = k
            following.append(changed(nets[winner], rng))
        nets = following
    return nets


def report(champion: Genome, x: NDArray[np.float32], labels: Ints, title: str) -> float:
    """Prints the accuracy with each weight, their mean, and that of all of them together."""
    pop = population([champion])
    each = [scores(pop, x, weight)[0] for weight in WEIGHTS]
    right = [float((y.argmax(1) == labels).mean()) for y in each]
    together = sum(np.exp(y) / np.exp(y).sum(1, keepdims=True) for y in each)
    ensemble = float((np.asarray(together).argmax(1) == labels).mean())
    shown = "  ".join(f"{w:g}: {r:.1%}" for w, r in zip(WEIGHTS, right, strict=True))
    print(f"{title}: mean {np.mean(right):.1%} ({shown}), ensemble {ensemble:.1%}")
    return float(np.mean(right))


def drawn(champion: Genome) -> str:
    """An SVG picture: pixels on the left, digits on the right, each hidden neuron at its place."""
    edges, activation, place = champion
    fixed = INPUTS + OUTPUTS
    at = np.empty((len(place), 2))
    at[:INPUTS] = np.stack([np.arange(INPUTS) % 8 * 16 + 20, np.arange(INPUTS) // 8 * 16 + 100], 1)
    at[INPUTS:fixed] = np.stack([np.full(OUTPUTS, 780), np.arange(OUTPUTS) * 36 + 30], 1)
    by = np.argsort(place[fixed:])
    at[fixed + by] = np.stack([180 + 560 * place[fixed:][by],
                               30 + (np.arange(len(by)) * 137) % 340], 1)
    hue = {code: 360 * k // len(ACTIVATIONS) for k, code in enumerate(ACTIVATIONS)}
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 400" font-size="12">',
             '<rect width="820" height="400" fill="white"/>']
    for i, j in edges.T.tolist():
        (x, y), (u, v) = at[i], at[j]
        parts.append(f'<path d="M{x:.0f} {y:.0f}L{u:.0f} {v:.0f}" stroke="#0003"/>')
    for j, (x, y) in enumerate(at):
        fill = "#888" if j < INPUTS else f"hsl({hue[int(activation[j])]} 70% 50%)"
        parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{4 if j < INPUTS else 6}" '
                     f'fill="{fill}"/>')
        if INPUTS <= j < fixed:
            parts.append(f'<text x="{x + 12:.0f}" y="{y + 4:.0f}">{j - INPUTS}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--generations", type=int, default=1200)
    parser.add_argument("--out", type=Path, default=Path("."), help="for wann.o and wann.svg")
    arguments = parser.parse_args()
    x, held, labels, held_labels = samples()
    x, held = x.astype(np.float32), held.astype(np.float32)
    champion = search(x, labels, arguments.generations, arguments.seed)[0]
    report(champion, x, labels, "search")
    mean = report(champion, held, held_labels, "held out")

    best = min(WEIGHTS, key=lambda w: float((scores(population([champion]), x, w)[0].argmax(1)
                                             != labels).mean()))
    net = population([champion], best)[0]
    fn, _ = ncc.fit(net, x, labels, loss="ce", lr=0.01, epochs=100, seed=arguments.seed)
    right = float((fn(held).argmax(1) == held_labels).mean())
    print(f"trained: {net.n_edges} edges, held out {right:.1%}")
    (arguments.out / "wann.svg").write_text(drawn(champion))
    fn.save(arguments.out / "wann.nal")
    print(f"wann.nal and wann.svg are in {arguments.out}")
    if arguments.generations >= 1200 and (mean < 0.65 or right < 0.9):
        sys.exit(1)


if __name__ == "__main__":
    main()
