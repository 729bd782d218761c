"""What a hit in the cache of compiled objects costs: python tests/bench/bench_cache.py

Each net is compiled once, and then again and again by `ncc.compile` in the same process; medians.
`--quick` leaves out the large one.
"""

from __future__ import annotations

import argparse
import os
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NCC_CACHE_DIR"] = folder
        os.environ.pop("NCC_CACHE_SIZE", None)
        print("| what | measured | target |\n| --- | --- | --- |")
        hits(131_072, "<= 20 ms")
        if not quick:
            hits(4_000_000, "")


if __name__ == "__main__":
    main()
