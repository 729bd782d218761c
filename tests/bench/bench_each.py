"""Parameters as lanes, `fn.each`, beside a call for each vector: python tests/bench/bench_each.py

The net of the first rows is an evolved one of 287 edges and 107 activations (115 neurons); each
vector of parameters has a sample of its own. `a call a vector` is the loop `fn.params = p; fn(x)`
over LOOP of the same vectors, in turn with `fn.each` in the same rounds, and a ratio is the median
of those of the rounds; `fn(x)` is a batch of as many samples with one vector. Gradients are beside
`fn.vjp(x)[1](dy)`, again a vector at a time, without setting the parameters. All is CPU time of one
thread, and both sides have the same bits, or the script fails. Status 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

import numpy as np

sys.path[:0] = [str(Path(__file__).parent)]
import compile_nets as nets  # noqa: E402
from bench_fast import Cell, random_layers  # noqa: E402

import ncc  # noqa: E402
from ncc.bench import measure as bench  # noqa: E402
from ncc.ir.ssa import DTYPES  # noqa: E402

GENOME, DENSE = "107 activations, 287 edges", "dense 64-64-64-4"
SPEEDUP, NANOSECONDS = 300.0, 120.0  # at 1,024 vectors of the first net, in float32
LOOP = 64  # vectors of the loop that is compared with


def net_of(name):
    return ncc.parse(nets.neat(115, 287) if name == GENOME else random_layers(
        [64, 64, 64, 4], 64, seed=1, weights=True, activation="tanh"))


class Measured:
    """`fn.each` of n vectors of a net, beside a call for each of the first LOOP."""

    def __init__(self, name, n, dtype):
        self.what = f"{name}, {n:,} vectors" + ", f64" * (dtype == "f64")
        self.n, self.few = n, min(n, LOOP)
        net = net_of(name)
        self.fn, rng = ncc.compile(net, dtype=dtype), np.random.default_rng(0)
        widths = len(net.inputs), net.n_params, len(net.outputs)
        self.x, self.params, self.dy = [rng.standard_normal((n, width)).astype(DTYPES[dtype])
                                        for width in widths]
        self.params *= 0.5

    def each(self):
        return self.fn.each(self.x, self.params)

    def batch(self):
        return self.fn(self.x)

    def loop(self):
        fn = self.fn
        y = []
        for x, params in zip(self.x[: self.few], self.params[: self.few], strict=True):
            fn.params = params
            y.append(fn(x))
        return np.array(y)

    def gradients(self):
        return self.fn.each_vjp(self.x, self.params)[1](self.dy)[1]

    def gradients_loop(self):
        return np.array([self.fn.vjp(x)[1](dy)[1] for x, dy in zip(
            self.x[: self.few], self.dy[: self.few], strict=True)])

    def check(self):
        """Both sides have the same bits."""
        assert self.each()[: self.few].tobytes() == self.loop().tobytes(), "other bits"
        self.fn.params = self.params[0]
        one = self.fn.each_vjp(self.x, self.params[0])[1](self.dy)[1][: self.few]
        assert one.tobytes() == self.gradients_loop().tobytes(), "other bits"

    def rows(self, seconds, targets, gradients):
        self.check()
        (ours, loop, batch), _ = bench.interleaved([self.each, self.loop, self.batch], seconds)
        ratio = median([b / self.few / (a / self.n) for a, b in zip(ours, loop, strict=True)])
        ns = [1e9 * median(times) / count for times, count in (
            (ours, self.n), (loop, self.few), (batch, self.n))]
        goals = (SPEEDUP, NANOSECONDS) if targets else (None, None)
        beside = f"a call a vector {ns[1]:,.0f} ns, fn(x) {ns[2]:.0f} ns"
        yield Cell(self.what, f"{ns[0]:.0f} ns a vector", ns[0], beside, goals[1], below=True)
        yield Cell("... times the speed of a call a vector", f"{ratio:.0f}x", ratio, "", goals[0])
        if gradients:
            (ours, loop), _ = bench.interleaved([self.gradients, self.gradients_loop], seconds)
            ratio = median([b / self.few / (a / self.n) for a, b in zip(ours, loop, strict=True)])
            ns = [1e9 * median(ours) / self.n, 1e9 * median(loop) / self.few]
            yield Cell("... y and gradients of each vector",
                       f"{ns[0]:.0f} ns a vector, {ratio:.0f}x", ratio,
                       f"vjp a vector {ns[1]:,.0f} ns", None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="that each row is timed for")
    parser.add_argument("--quick", action="store_true", help="two rows, of few vectors")
    arguments = parser.parse_args()
    wanted = [(GENOME, 1024, "f32", True, True), (GENOME, 256, "f32", False, False),
              (GENOME, 8192, "f32", False, False), (GENOME, 1024, "f64", False, True),
              (DENSE, 1024, "f32", False, True)]
    if arguments.quick:
        wanted = [(GENOME, 70, "f32", False, True)]
    print("| what | measured | beside | target | met |\n| --- | --- | --- | --- | --- |")
    missed = False
    for name, n, dtype, targets, gradients in wanted:
        for cell in Measured(name, n, dtype).rows(arguments.seconds, targets, gradients):
            goal = "" if cell.goal is None else f"<= {cell.goal:.0f} ns" if cell.below else (
                f">= {cell.goal:.0f}x")
            print(f"| {cell.what} | {cell.measured} | {cell.target} | {goal} | {cell.met()} |",
                  flush=True)
            missed |= cell.met() == "no"
    if missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
