"""What a hit in the cache of compiled objects costs: python tests/bench/bench_cache.py

Each net is compiled once, and then again and again by `ncc.compile` in the same process; medians.
`--quick` leaves out the large one. And what a worker needs to open the pickle of a compiled net and
to call it, in a new process without a cache, beyond the import of ncc; medians of 9 processes.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nets import random_layers  # noqa: E402

import ncc  # noqa: E402
from ncc.machine import cache  # noqa: E402


def hits(edges, target, rounds=15):
    net = ncc.parse(random_layers([1024] * (edges // (32 * 1024) + 1), 32, 1))
    began = time.perf_counter()
    ncc.compile(net)
    first = time.perf_counter() - began
    keys, times = [], []
    key = cache.key

    def timed(*parts):
        began = time.perf_counter()
        try:
            return key(*parts)
        finally:
            keys.append(time.perf_counter() - began)

    cache.key = timed
    try:
        for _ in range(rounds):
            began = time.perf_counter()
            ncc.compile(net)
            times.append(time.perf_counter() - began)
    finally:
        cache.key = key
    hit, hashed = median(times) * 1e3, median(keys) * 1e3
    print(f"| cache hit, table, {net.n_edges:,} edges, graph to callable "
          f"| {hit:.1f} ms, {hashed:.1f} of it for the key; a miss {first:.2f} s | {target} |",
          flush=True)


OPEN = """
import sys, time
import ncc, pickle
import numpy as np
data = open(sys.argv[1], "rb").read()
x = np.zeros((1, int(sys.argv[2])), np.float32)
began, used = time.perf_counter(), time.process_time()
fn = pickle.loads(data)
fn(x[0])
fn(x)
print(time.perf_counter() - began, time.process_time() - used)
"""


def workers(path, gradient, target, processes=9):
    fn = ncc.compile(path)
    if gradient:
        fn.vjp([0] * len(fn.graph.inputs))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pickle")
        file.write_bytes(pickle.dumps(fn))
        times = []
        for _ in range(processes):
            out = subprocess.run(
                [sys.executable, "-c", OPEN, file, f"{len(fn.graph.inputs)}"], check=True,
                capture_output=True, text=True, env={**os.environ, "NCC_CACHE_SIZE": "0"}).stdout
            times.append([float(word) * 1e3 for word in out.split()])
        wall, cpu = (median(column) for column in zip(*times, strict=True))
        print(f"| pickle to answer in a cold worker, {path.stem}{', with vjp' * gradient}, "
              f"{file.stat().st_size:,} bytes | {wall:.1f} ms, {cpu:.1f} of the CPU | {target} |",
              flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NCC_CACHE_DIR"] = folder
        os.environ.pop("NCC_CACHE_SIZE", None)
        print("| what | measured | target |\n| --- | --- | --- |")
        hits(131_072, "<= 20 ms")
        for gradient in (False, True):
            workers(Path(__file__).parents[2] / "examples/digits.nal", gradient, "<= 30 ms")
        if not quick:
            hits(4_000_000, "")


if __name__ == "__main__":
    main()
