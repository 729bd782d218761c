"""Weight-agnostic search: a net that reads digits with any one weight on all its edges.

    python examples/wann.py [--seed N] [--generations N] [--out FOLDER]

After "Weight Agnostic Neural Networks" (Gaier and Ha 2019): what is searched is the topology alone.
A net is judged by its mean loss over six weights, each of them on every edge alike, and by how many
edges it has. A generation is two populations. The first is the net with one change each: a neuron,
an edge more, an edge less, another activation. The second is the net with several at once of those
changes that were of use, judged on more pictures; the best of these is the next net.

Both are an `ncc.Population` made of arrays, for which nothing is compiled; a weight is an
assignment to its parameters. At the end `ncc.fit` gives each edge a weight of its own, and the net
is written to wann.nal, and drawn in wann.svg.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np
from digits import samples
from numpy.typing import NDArray

import ncc

WEIGHTS = (-2.0, -1.0, -0.5, 0.5, 1.0, 2.0)
NAMES = ("identity", "sigmoid", "tanh", "relu", "abs", "gauss", "sin", "cos", "step", "clip")
ACTIVATIONS = (0x00, 0x01, 0x02, 0x03, 0x0F, 0x17, 0x15, 0x16, 0x18, 0x1D)
SIGMOID, STEP = 0x01, 0x18
INPUTS, OUTPUTS = 64, 10
FIXED = INPUTS + OUTPUTS
MANY = 1 << 16  # more than there are neurons
CHANGES, PICTURES = 256, 150  # of a generation's first population; the second looks at all pictures
TOGETHER = 32  # nets of the second
SIZE = 3.0  # of scores: their standard deviation
PRICE = 2e-4  # of an edge, in loss

Ints = NDArray[np.int64]
Reals = NDArray[np.float64]
Singles = NDArray[np.float32]


class Genome(NamedTuple):
    """Neurons are numbered as they came: inputs, outputs, then hidden ones. `edges` (E,) are
    source * MANY + target; `place` (neurons,) rises along every edge; `activation` (neurons,)."""

    edges: Ints
    activation: Ints
    place: Reals


Change = Callable[[Genome], Genome]


def seed_net(rng: np.random.Generator) -> Genome:
    """Each output reads three inputs."""
    sources = np.concatenate([rng.choice(INPUTS, 3, replace=False) for _ in range(OUTPUTS)])
    targets = np.repeat(np.arange(INPUTS, FIXED), 3)
    return Genome(sources * MANY + targets, np.zeros(FIXED, np.int64),
                  (np.arange(FIXED) >= INPUTS).astype(float))


def drawn_change(net: Genome, rng: np.random.Generator) -> Change:
    """What can be done to this net, and to what other such changes make of it."""
    kind, code, count = rng.random(), int(rng.choice(ACTIVATIONS)), len(net.place)
    edge = int(rng.choice(net.edges))
    source, target = divmod(edge, MANY)
    if kind < 0.15:  # a neuron into an edge
        at = rng.uniform(net.place[source], net.place[target])
        return lambda net: neuron(without(net, edge), np.array([source]), target, code, at)
    if kind < 0.35:  # a neuron that reads a few, often for an output
        j = int(rng.integers(INPUTS, FIXED if rng.random() < 0.6 else count))
        place = rng.uniform(0, net.place[j])
        few = rng.choice(np.flatnonzero(net.place < place), int(rng.integers(1, 5)), replace=False)
        return lambda net: neuron(net, few, j, code, place)
    if kind < 0.65:  # an edge
        i, k = 0, 0
        while net.place[i] >= net.place[k]:
            i, k = int(rng.integers(count)), int(rng.integers(INPUTS, count))
        more = i * MANY + k
        return lambda net: net._replace(edges=np.append(net.edges[net.edges != more], more))
    if kind < 0.85:  # an edge less, if it is not the only one that its target has
        return lambda net: without(net, edge) if np.count_nonzero(
            net.edges % MANY == target) > 1 else net
    one = int(rng.integers(INPUTS, count))  # another activation
    return lambda net: net._replace(activation=np.where(
        np.arange(len(net.place)) == one, code, net.activation))


def without(net: Genome, edge: int) -> Genome:
    return net._replace(edges=net.edges[net.edges != edge])


def neuron(net: Genome, sources: Ints, target: int, code: int, place: float) -> Genome:
    """The net with one more, which reads the sources and is read by the target."""
    new = len(net.place)
    return Genome(np.concatenate([net.edges, sources * MANY + new, [new * MANY + target]]),
                  np.append(net.activation, code), np.append(net.place, place))


def tidy(net: Genome) -> Genome:
    """Without hidden neurons that nobody reads."""
    while True:
        kept = np.isin(np.arange(len(net.place)), net.edges // MANY)
        kept[:FIXED] = True
        if kept.all():
            return net
        source, target = np.divmod(net.edges[kept[net.edges % MANY]], MANY)
        new = np.cumsum(kept) - 1
        net = Genome(new[source] * MANY + new[target], net.activation[kept], net.place[kept])


def population(nets: list[Genome], weight: float | None = None) -> ncc.Population:
    """Nets whose edges share a weight; or, where `weight` is given, have one of their own each that
    begins with that."""
    neurons = np.array([len(net.place) for net in nets])
    count = np.array([len(net.edges) for net in nets])
    ends = np.stack(np.divmod(np.concatenate([net.edges for net in nets]), MANY))
    # Outputs go behind the hidden neurons, as `from_edges` has it.
    hidden = np.repeat(neurons, count) - FIXED
    ends = np.where(ends < INPUTS, ends, np.where(ends < FIXED, ends + hidden, ends - OUTPUTS))
    activation = np.concatenate([part for net in nets for part in (
        net.activation[:INPUTS], net.activation[FIXED:], net.activation[INPUTS:FIXED])])
    return ncc.Population.from_edges(
        INPUTS, OUTPUTS, neurons, np.repeat(np.arange(len(nets)), count), *ends, activation,
        None if weight is None else np.full(count.sum(), weight))


def scores(pop: ncc.Population, x: Singles, weight: float) -> Singles:
    """(nets, pictures, 10) logits with this weight on every edge, all of one size: what counts is
    which of them is the largest."""
    pop.params = [[weight]] * len(pop)
    y = pop(x)
    flat = y.reshape(len(pop), -1)
    variance = np.einsum("ij,ij->i", flat, flat) / flat.shape[1] - flat.mean(1) ** 2
    flat *= (SIZE / np.sqrt(np.maximum(variance, 1e-9)))[:, None]
    return y


def costs(nets: list[Genome], x: Singles, labels: Ints) -> Reals:
    """(nets,): the mean cross-entropy over the weights, and what the edges cost."""
    pop, ones = population(nets), np.ones(OUTPUTS, np.float32)
    total = np.array([PRICE * len(WEIGHTS) * len(net.edges) for net in nets])
    with np.errstate(over="ignore", invalid="ignore"):
        for weight in WEIGHTS:
            y = scores(pop, x, weight)
            right = y[:, np.arange(len(x)), labels].mean(1)
            total += np.log(np.exp(y, out=y) @ ones).mean(1) - right
    return np.nan_to_num(total / len(WEIGHTS), nan=np.inf)


def search(x: Singles, labels: Ints, generations: int, seed: int) -> Genome:
    """The net of the last generation."""
    rng = np.random.default_rng(seed)
    net = seed_net(rng)
    began = process_time()
    for generation in range(generations):
        some = rng.choice(len(x), PICTURES, replace=False)
        changes = [drawn_change(net, rng) for _ in range(CHANGES)]
        cost = costs([net, *(change(net) for change in changes)], x[some], labels[some])
        gain = cost[0] - cost[1:]
        good = np.argsort(-gain, kind="stable")[: np.count_nonzero(gain > 0)]
        nets = [net]
        for _ in range(TOGETHER - 1):
            best = good[: int(rng.integers(len(good) + 1))]
            child = net
            for k in best[rng.random(len(best)) < rng.random()].tolist():
                child = changes[k](child)
            nets.append(child)
        cost = costs(nets, x, labels)
        net = tidy(nets[int(np.argmin(cost))])
        if generation % 100 == 99 or generation == generations - 1:
            print(f"generation {generation + 1:4d}  cost {cost.min():.3f}  edges "
                  f"{len(net.edges):4d}  {process_time() - began:6.1f} s", flush=True)
    return net


def report(net: Genome, x: Singles, labels: Ints, title: str, share: Reals | None = None
           ) -> tuple[Reals, float]:
    """The accuracy with each weight, and that of all together, by their mean chances, of which each
    weight's have a share; printed."""
    pop = population([net])
    each = np.stack([scores(pop, x, weight)[0] for weight in WEIGHTS])
    right = (each.argmax(2) == labels).mean(1)
    chances = np.exp(each - each.max(2, keepdims=True))
    chances /= chances.sum(2, keepdims=True)
    together = np.average(chances, axis=0, weights=share)
    ensemble = float((together.argmax(1) == labels).mean())
    shown = ", ".join(f"{w:g}: {r:.1%}" for w, r in zip(WEIGHTS, right, strict=True))
    print(f"{title}: mean {right.mean():.1%} ({shown}), ensemble {ensemble:.1%}", flush=True)
    return right, ensemble


def trained(net: Genome, x: Singles, labels: Ints, epochs: int = 100) -> ncc.Compiled:
    """The net with weights of its own. A step has no slope, and an output that is bounded no large
    logit: sigmoids and identities stand in for them."""
    activation = np.where(net.activation == STEP, SIGMOID, net.activation)
    activation[INPUTS:FIXED] = 0
    start = population([net._replace(activation=activation)], 0.5)[0]
    return ncc.fit(start, x, labels, loss="ce", lr=0.01, batch=128, epochs=epochs)[0]


def drawn(net: Genome) -> str:
    """An SVG picture: pixels on the left, digits on the right, each hidden neuron at its place,
    in the colour of its activation, as the row below has them."""
    def dot(x: float, y: float, fill: str, text: object = "") -> str:
        label = f'<text x="{x + 12:.0f}" y="{y + 4:.0f}">{text}</text>' if text != "" else ""
        return f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5" fill="{fill}"/>{label}'

    colours = [f"hsl({36 * k}, 70%, 50%)" for k in range(len(ACTIVATIONS))]
    at = np.empty((len(net.place), 2))
    at[:INPUTS] = np.stack([np.arange(INPUTS) % 8 * 16 + 20, np.arange(INPUTS) // 8 * 16 + 130], 1)
    at[INPUTS:FIXED] = np.stack([np.full(OUTPUTS, 880), np.arange(OUTPUTS) * 38 + 30], 1)
    hidden = np.argsort(np.argsort(net.place[FIXED:]))
    at[FIXED:] = np.stack([180 + 660 * (hidden + 0.5) / max(1, len(hidden)),
                           20 + hidden * 137 % 360], 1)
    lines = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 430" font-size="12">',
             '<rect width="920" height="430" fill="white"/>']
    for edge in net.edges.tolist():
        (x, y), (u, v) = at[edge // MANY], at[edge % MANY]
        lines.append(f'<path d="M{x:.0f} {y:.0f}L{u:.0f} {v:.0f}" stroke="black" '
                     'stroke-opacity="0.15"/>')
    for j, (x, y) in enumerate(at.tolist()):
        colour = "gray" if j < INPUTS else colours[ACTIVATIONS.index(net.activation[j])]
        lines.append(dot(x, y, colour, j - INPUTS if INPUTS <= j < FIXED else ""))
    lines += [dot(180 + 68 * k, 412, colours[k], name) for k, name in enumerate(NAMES)]
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--generations", type=int, default=800)
    parser.add_argument("--out", type=Path, default=Path("."), help="for wann.nal and wann.svg")
    asked = parser.parse_args()
    x, held, labels, held_labels = samples()
    x, held = x.astype(np.float32), held.astype(np.float32)
    net = search(x, labels, asked.generations, asked.seed)
    each, _ = report(net, x, labels, "searched on")
    # Each weight counts as its odds are to be right.
    right, ensemble = report(net, held, held_labels, "held out", each / (1.001 - each))
    fn = trained(net, x, labels)
    best = float((fn(held).argmax(1) == held_labels).mean())
    print(f"trained: {len(net.edges)} edges, held out {best:.1%}")
    fn.save(asked.out / "wann.nal")
    (asked.out / "wann.svg").write_text(drawn(net))
    if right.mean() < 0.65 or ensemble <= right.max() or best < 0.9:
        sys.exit(1)


if __name__ == "__main__":
    main()
