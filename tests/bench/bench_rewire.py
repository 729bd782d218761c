"""Sparse training whose edges change (`ncc.Trainer`): python tests/bench/bench_rewire.py

Erdos-Renyi layers as in SET (Mocanu et al. 2018), epsilon 20, relu, cross-entropy, momentum; one
thread, CPU time, medians; steps over images and compiled ones take turns. `--quick` takes small
nets.
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import ncc  # noqa: E402
from ncc.driver.settings import Settings  # noqa: E402
from ncc.images.kinds import kinds_of  # noqa: E402
from ncc.ir.graph import INPUT, NONE, Graph  # noqa: E402
from ncc.machine.codegen import Codegen  # noqa: E402
from ncc.passes.graph.order import order  # noqa: E402
from ncc.runtime.back import training_kernel  # noqa: E402
from ncc.scalar.activations import code_of  # noqa: E402
from ncc.training.image_step import ImageStep  # noqa: E402
from ncc.training.step import TrainStep  # noqa: E402

EPSILON = 20
OPTIMIZER = "sgd:momentum=0.9"


def erdos_renyi(widths, seed):
    """Layers with EPSILON (a + b) edges between layers of a and b neurons, each neuron one at
    least; the last layer has all that fit."""
    rng = np.random.default_rng(seed)
    firsts = np.cumsum([0, *widths])
    sources, targets = [], []
    for k, (a, b) in enumerate(pairwise(widths)):
        reads = rng.random((b, a)) < EPSILON * (a + b) / (a * b)
        reads[np.arange(b), rng.integers(0, a, b)] = True
        t, s = np.nonzero(reads)
        sources.append(s + firsts[k])
        targets.append(t + firsts[k + 1])
    targets = np.concatenate(targets)
    count = int(firsts[-1])
    starts = np.searchsorted(targets, np.arange(count + 1))
    ahead = np.maximum(np.arange(count) - widths[0], 0)
    activations = np.full(count, code_of("relu"), np.int32)
    activations[: widths[0]], activations[firsts[-2] :] = INPUT, 0
    graph = Graph(
        starts=starts.astype(np.int64), sources=np.concatenate(sources).astype(np.int32),
        weights=(np.arange(len(targets)) + ahead[targets]).astype(np.int32),
        biases=np.where(np.arange(count) < widths[0], NONE, starts[1:] + ahead).astype(np.int32),
        activations=activations, aggregations=np.zeros(count, np.int8),
        inputs=np.arange(widths[0], dtype=np.int32),
        outputs=np.arange(firsts[-2], count, dtype=np.int32),
        values=rng.normal(size=len(targets) + count - widths[0]) * 0.1, constants=np.zeros(0))
    return ncc.Net(order(graph))


def samples(net, n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, len(net.inputs))), rng.integers(0, len(net.outputs), n)


def timed(call):
    began = time.process_time()
    call()
    return time.process_time() - began


def row(what, measured, target=""):
    print(f"| {what} | {measured} | {target} |", flush=True)


def kernel(net):
    def make():
        training_kernel(kinds_of([net.graph]), "ce", OPTIMIZER, "f32", cached=False)

    began = time.perf_counter()
    make()
    row("code for one set of kinds, made once", f"{time.perf_counter() - began:.2f} s")


def steps(net, batch, rounds):
    x, y = samples(net, batch)
    x, target = x.astype(np.float32), y[:, None].astype(np.float32)
    began = time.perf_counter()
    one = TrainStep(net.graph, "ce", OPTIMIZER, settings=Settings(cache=False))
    compiled = time.perf_counter() - began
    two = ImageStep(net.graph, "ce", OPTIMIZER)
    times = []
    for k in range(rounds + 1):
        pair = [timed(lambda step=step: step.step(x, target, 0.01)) for step in (one, two)]
        times += [pair] * (k > 0)
    assert np.array_equal(one.params, two.params)
    ratio = median(b / a for a, b in times)
    a, b = (1e3 * median(column) for column in zip(*times, strict=True))
    row(f"step of {net.n_edges:,} edges, batch {batch}",
        f"{ratio:.2f}x the compiled one: {b:.2f} ms against {a:.2f} (and {compiled:.1f} s to "
        "compile)", "<= 1.15x")


def changes(net, rounds):
    x, y = samples(net, 64)
    trainer = ncc.Trainer(net, "ce", OPTIMIZER, batch=32, lr=0.01)
    trainer.epoch(x, y)
    calls = []
    made = Codegen._made
    Codegen._made = lambda self, kind, text: calls.append(kind) or made(self, kind, text)
    try:
        for what, target, how in (
                ("SET", "<= 150 ms", {}),
                ("RigL, 100,000 candidates", "", {"grow": "gradient", "candidates": 100_000})):
            times = []
            for k in range(rounds + 1):
                spent = timed(lambda how=how: trainer.rewire(0.3, **how))
                times += [spent] * (k > 0)
            row(f"30 % of {net.n_edges:,} edges replaced, {what}",
                f"{1e3 * median(times):.0f} ms, least {1e3 * min(times):.0f}", target)
            trainer.epoch(x, y)
    finally:
        Codegen._made = made
    row("calls of LLVM in all of that", f"{len(calls)}", "0")


def epochs(net):
    x, y = samples(net, 203)
    for batch in (2, 32):
        trainer = ncc.Trainer(net, "ce", OPTIMIZER, batch=batch, lr=0.01)
        times = []
        for _ in range(3):
            times.append(timed(lambda trainer=trainer: trainer.epoch(x, y)))
            trainer.rewire(0.3)
        row(f"epoch of 203 samples, batch {batch}, {net.n_edges:,} edges",
            f"{median(times):.2f} s", "<= 0.5 s; SET's: 18 s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shapes = ([784, 1000, 1000, 1000, 10], [3312, 3000, 3000, 3000, 5])
    if given.quick:
        shapes = ([40, 60, 60, 4], [60, 70, 70, 5])
    small, large = [erdos_renyi(widths, given.seed) for widths in shapes]
    rounds = 2 if given.quick else 15
    print("| what | measured | target |\n| --- | --- | --- |")
    kernel(small)
    steps(small, 128, rounds)
    steps(large, 32, rounds)
    changes(large, min(rounds, 9))
    epochs(large)


if __name__ == "__main__":
    main()
