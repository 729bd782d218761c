"""The forward pass's speed and size, each row with its target: python tests/bench/bench_forward.py

Every figure is of this run on this machine; ratios are to peers measured in the same minute,
interleaved, medians. `--quick` leaves out the rows of more than a million edges.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from bench_fast import Gcc, naive_c  # noqa: E402
from nets import random_layers  # noqa: E402

import ncc  # noqa: E402
from ncc.bench import measure as bench  # noqa: E402
from ncc.bench.peak import calibrate  # noqa: E402
from ncc.driver.compiler import Build  # noqa: E402
from ncc.driver.settings import options  # noqa: E402
from ncc.machine.targets import TARGETS  # noqa: E402


def interleaved(functions, rounds=15, seconds=0.01):
    """Median seconds a call of each function, their rounds taken in turn."""
    counts = []
    for f in functions:
        began = time.perf_counter()
        f()
        f()
        counts.append(max(1, int(seconds / max(1e-9, (time.perf_counter() - began) / 2))))
    times = [[] for _ in functions]
    for _ in range(rounds):
        for f, count, mine in zip(functions, counts, times, strict=True):
            began = time.perf_counter()
            for _ in range(count):
                f()
            mine.append((time.perf_counter() - began) / count)
    return [median(mine) for mine in times]


def row(what, measured, target):
    print(f"| {what} | {measured} | {target} |", flush=True)


def front(edges, target):
    width = 4096
    text = random_layers([width] * (edges // (32 * width) + 1), 32, 1, weights=False,
                         biases=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.nal")
        path.write_text(text)
        # A process of its own, so that its peak memory is the front end's.
        script = ("import ncc, sys, time, resource\n"
                  "began = time.perf_counter(); net = ncc.load(sys.argv[1])\n"
                  "print(net.n_edges, time.perf_counter() - began, "
                  "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
        out = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True,
                             text=True, check=True).stdout.split()
    row(f"parse + resolve + order, {int(out[0]):,} edges",
        f"{float(out[1]):.2f} s, {int(out[2]) / 2**20:.2f} GB", target)


def object_time(width, depth, fan_in, form, target):
    text = random_layers([width] * depth, fan_in, 2)
    began = time.process_time()
    net = ncc.parse(text)
    chosen = options(TARGETS["x86-64-v3"], form=form)
    made = Build(net.graph, TARGETS["x86-64-v3"], chosen)
    size = len(made.object())
    seconds = time.process_time() - began
    row(f"{form}, {net.n_edges:,} edges, file to object",
        f"{seconds / net.n_edges * 1e6:.1f} us an edge of CPU, {size:,} bytes", target)


def callable_time(edges, target):
    text = random_layers([1024] * (edges // (32 * 1024) + 1), 32, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.nal")
        path.write_text(text)
        began = time.perf_counter()
        ncc.compile(path)
        row(f"table, {edges:,} edges, file to callable",
            f"{time.perf_counter() - began:.2f} s", target)


def single(peak):
    net = ncc.parse(random_layers([125] * 5, 20, 1, activation="relu", biases=False))
    x = np.random.default_rng(0).standard_normal(125).astype(np.float32)
    ours, table = [bench.Loop(ncc.compile(net, form=f), x) for f in ("straight", "table")]
    theirs = Gcc(naive_c(net.graph), net.params, x, len(net.outputs))
    assert np.allclose(ours(), theirs(), rtol=1e-3, atol=1e-3)
    a, b, c = [t / bench.CALLS for t in interleaved([ours, theirs, table], 41)]
    # Two FMAs a cycle make the calibrated peak: cycles from it, whatever the clock is now.
    cycles = peak.best / (2 * (16 if peak.wide else 8))
    row("one sample, straight, 10,000 random edges",
        f"{net.n_edges / a / 1e9 / cycles:.2f} edges a cycle, {b / a:.2f}x gcc -O3",
        ">= 0.65, >= 1x")
    row("the same net as a table",
        f"{net.n_edges / c / 1e9 / cycles:.2f} edges a cycle, {b / c:.2f}x gcc -O3", "")


def python_call():
    fn = ncc.compile(ncc.parse(random_layers([6, 8, 6], 4, 1, weights=True)))
    x = np.ones(6, np.float32)
    (seconds,) = interleaved([lambda: fn(x)], 101, 0.002)
    row("Python call, 20 neurons", f"{seconds * 1e6:.2f} us", "<= 2.5 us")


def batch(width, depth, peak):
    import scipy.sparse as sparse  # of the benchmarks only

    net = ncc.parse(random_layers([width] * depth, 32, 1, activation="relu", biases=False))
    g = net.graph
    fn = ncc.compile(net)
    x = np.random.default_rng(0).standard_normal((256, width)).astype(np.float32)
    layers = []
    for k in range(1, depth):
        at = slice(g.starts[k * width], g.starts[(k + 1) * width])
        starts = g.starts[k * width : (k + 1) * width + 1] - g.starts[k * width]
        layers.append(sparse.csr_matrix(
            (net.params[g.weights[at]].astype(np.float32), g.sources[at] - (k - 1) * width,
             starts), shape=(width, width)))
    columns = np.ascontiguousarray(x.T)

    def scipy():
        h = columns
        for layer in layers:
            h = np.maximum(layer @ h, 0)
        return h

    a, b = interleaved([lambda: fn(x), scipy])
    assert np.allclose(fn(x), scipy().T, rtol=1e-3, atol=1e-3)
    rate = net.n_edges * 256 / a / 1e9
    row(f"batch 256, random {width} x {depth - 1}, 32 in-edges",
        f"{rate:.1f} GFMA/s, {rate / peak.best:.0%} of peak, {b / a:.1f}x scipy CSR",
        ">= 20 %, >= 2x")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    peak = calibrate()
    print(f"FMA peak of one core, calibrated in this run: {peak.best:.1f} GFMA/s (f32)\n")
    print("| what | measured | target |\n| --- | --- | --- |")
    python_call()
    single(peak)
    batch(256, 5, peak)
    batch(1024, 5, peak)
    object_time(125, 5, 20, "straight", "<= 60 us")
    if not quick:
        object_time(500, 11, 20, "straight", "<= 60 us")
    object_time(1024, 5, 32, "table", "")
    front(1_000_000, "<= 1.5 s")
    if not quick:
        front(10_000_000, "<= 15 s, <= 1.5 GB")
        callable_time(4_000_000, "<= 10 s")
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory of this process {used:.2f} GB")


if __name__ == "__main__":
    main()
