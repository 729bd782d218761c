"""One sample of nets as evolution leaves them, ncc beside gcc: python tests/bench/bench_neat.py

Random acyclic nets of 50, 200 and 1,000 neurons with fan-ins of 1 to 9 and seven activations mixed.
ncc's function, as compiled for this CPU by default, and straight C of the same net with libm, as
gcc -O3 -march=native -ffast-math compiles it, are called from compiled loops, in turn; a ratio is
the median of those of the rounds. Both have to give the same result within 1e-4. Compile times are
CPU seconds, ncc's from the graph to the callable, batches included. `--seeds` nets of each size;
status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path[:0] = [str(Path(__file__).parent)]
import compile_nets as nets  # noqa: E402
from bench_fast import Cell, Gcc, Missing, children, naive_c  # noqa: E402

import ncc  # noqa: E402
from ncc.bench import measure as bench  # noqa: E402

SIZES = (50, 200, 1_000)
ACTIVATIONS = ("sigmoid", "tanh", "relu", "gauss", "sin", "softplus", "abs")
GOAL, STRETCH = 1.2, 1.6  # times gcc's speed


def genome(neurons, seed):
    """8 inputs, 4 outputs at least; each other neuron reads 1 to 9 of those before it, one of them
    of the last twenty, so that the net is deep."""
    rng, text = random.Random(seed), nets.Text()
    known = text.inputs(8)
    while len(known) < neurons:
        fan_in = rng.randint(1, 9)
        chosen = {rng.choice(known[-20:])}
        while len(chosen) < min(fan_in, len(known)):
            chosen.add(rng.choice(known))
        # Weights of variance 1/fan-in: a net that amplifies would say more of its condition than
        # of either compiler's arithmetic.
        known.append(text.neuron(rng.choice(ACTIVATIONS), sorted(chosen),
                                 nets.scaled(rng, fan_in)[: len(chosen)],
                                 f"{rng.gauss(0, 0.5):.3f}"))
    return str(text)


def beside_gcc(net, seconds):
    """Nanoseconds of ncc's and of gcc's call, the ratio, and the CPU seconds of each compiler."""
    x = np.random.default_rng(0).standard_normal(len(net.inputs)).astype(np.float32)
    began = time.process_time() + children()
    fn = ncc.compile(net, cache=False)
    took = time.process_time() + children() - began
    ours, theirs = bench.Loop(fn, x), Gcc(naive_c(net.graph), net.params, x, len(net.outputs))
    assert np.abs(ours() - theirs()).max() <= 1e-4 * np.abs(ours()).max(), "another result"
    (a, b), _ = bench.interleaved([ours, theirs], seconds)
    ratio = median([theirs / ours for ours, theirs in zip(a, b, strict=True)])
    scale = 1e9 / bench.CALLS
    return scale * median(a), scale * median(b), ratio, took, theirs.seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="nets of each size")
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), metavar="LIST")
    parser.add_argument("--seconds", type=float, default=2.0, help="that each net is timed for")
    arguments = parser.parse_args()
    print("| net | ncc, ns a sample | gcc -O3, ns | ratio | to compile: ncc, gcc, CPU s | target, "
          "stretch | met |\n| --- | --- | --- | --- | --- | --- | --- |")
    missed = False
    for size in map(int, arguments.sizes.split(",")):
        ratios = []
        for seed in range(arguments.seed, arguments.seed + arguments.seeds):
            net = ncc.parse(genome(size, seed))
            try:
                ours, theirs, ratio, ncc_took, gcc_took = beside_gcc(net, arguments.seconds)
            except Missing as missing:
                print(f"| {size:,} neurons | wants {missing} | | | | | |")
                continue
            ratios.append(ratio)
            print(f"| {size:,} neurons, {net.n_edges:,} edges, depth {net.graph.levels.max()}, "
                  f"seed {seed} | {ours:.0f} | {theirs:.0f} | {ratio:.2f}x | {ncc_took:.2f}, "
                  f"{gcc_took:.2f} | | |", flush=True)
        if ratios:
            cell = Cell("", "", median(ratios), "", GOAL, STRETCH)
            missed |= cell.met() == "no"
            print(f"| {size:,} neurons, median | | | {cell.value:.2f}x | | >= {GOAL}x, {STRETCH}x "
                  f"| {cell.met()} |", flush=True)
    if missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
