"""Front end: parse, resolve and order of large nets; seconds, microseconds an edge, peak memory.

    python tests/bench/bench_frontend.py [edges ...]        default 1000000

Each net runs in a process of its own, so that the peak (ru_maxrss) is its own.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FAN_IN = 32
LAYERS = 10
KINDS = ("plain .nal", "values .nal", "ties .nal", "plain .nel", "values .nel")


def write(path: Path, edges: int, kind: str) -> None:
    """Ten random layers, 32 in-edges a neuron, and one layer of inputs."""
    neurons = edges // FAN_IN
    layer = max(neurons // LAYERS, FAN_IN)
    random = np.random.default_rng(1)
    count = neurons + layer
    with path.open("w") as file:
        file.write(f"N {count:x}\n")
        adjacency = kind.endswith("nal")
        if adjacency:
            file.writelines(f"{j:05x}\n" for j in range(layer))
        stride = random.integers(1, max(2, layer // FAN_IN), neurons)
        first = random.integers(0, layer, neurons)
        for j in range(layer, count):
            base = (j // layer - 1) * layer
            step, start = int(stride[j - layer]), int(first[j - layer])
            sources = [base + (start + k * step) % layer for k in range(FAN_IN)]
            weights = [""] * FAN_IN
            if kind.startswith("values"):
                weights = [f"{((i * 7919 + j) % 20000) / 10000 - 1:.6f}" for i in sources]
            elif kind.startswith("ties"):
                weights = [f"@k{(i + j) % 1000}" for i in sources]
            if adjacency:
                marks = [(":" if w and w[0] != "@" else "") + w for w in weights]
                edges_text = ",".join(f"{i:05x}{w}" for i, w in zip(sources, marks, strict=True))
                file.write(f"{j:05x} 03 {edges_text}\n")
            else:
                file.writelines(f"{i:05x} {j:05x} {w}\n".replace(" \n", "\n")
                                for i, w in zip(sources, weights, strict=True))


def measure(path: Path) -> str:
    from ncc.formats.read import decode, net
    from ncc.passes.graph.order import order
    from ncc.passes.graph.resolve import resolve

    times = [time.perf_counter()]
    syntax = net(decode(str(path), path.read_bytes()), path.suffix[1:])
    times.append(time.perf_counter())
    graph = resolve(syntax)
    times.append(time.perf_counter())
    order(graph, syntax=syntax)
    times.append(time.perf_counter())
    parse, resolved, ordered = np.diff(times)
    total = times[-1] - times[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return (f"{graph.n_edges:,} | {parse:.2f} | {resolved:.2f} | {ordered:.2f} | {total:.2f} | "
            f"{total / graph.n_edges * 1e6:.2f} | {peak:.0f}")


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--one"]:
        print(measure(Path(arguments[1])))
        return
    print("| net | edges | parse, s | resolve, s | order, s | total, s | us an edge | MiB |\n"
          "| --- | --- | --- | --- | --- | --- | --- | --- |")
    for edges in [int(a) for a in arguments] or [1_000_000]:
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"net.{kind[-3:]}"
                write(path, edges, kind)
                run = subprocess.run([sys.executable, __file__, "--one", str(path)], check=True,
                                     capture_output=True, text=True)
                print(f"| {kind} | {run.stdout.strip()} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
