"""Nets of other tools, imported: python tests/bench/bench_imports.py

How far the outputs of imported nets are from those of their tools, by format, as the tests of the
importers find it on `../shared/nets` and on nets that they make; the worst difference is relative
to the largest output. Then how long a million edges take, and the memory beyond that of the process
before, a process each, which has read a small file of the kind, so that what the tool imports of
its own is not counted: of matrices, and of layers, convolutions and an unrolled LSTM of torch, ONNX
and Keras, where these are installed. `--quick` takes one format and few edges.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "formats" / "importers"
# The most that a net of the class may be off, as the tests have it.
LIMITS = {"A": "0", "B": "1e-12, f32 1e-5", "C": "1e-12, f32 1e-5"}
LOAD = """
import pathlib, sys, time
import ncc
def memory(word):
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split(word + ":")[1].split()[0]) * 1024
ncc.load(sys.argv[2])
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = memory("VmRSS")
began = time.process_time()
net = ncc.load(sys.argv[1])
spent = time.process_time() - began
print(net.n_edges, spent, (memory("VmHWM") - before) / net.n_edges)
"""


def differences(folder: Path, quick: bool) -> list[dict[str, object]]:
    """What the tests have compared."""
    kept = folder / "oracles.jsonl"
    tests = TESTS / "test_sharpneat.py" if quick else TESTS
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)],
                   env={**os.environ, "NCC_ORACLES": str(kept)}, cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    return [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []


def origin(path: str) -> str:
    """The folder of `../shared/nets`, or that a test has made the net."""
    parts = Path(path).parts
    if "nets" in parts:
        return parts[parts.index("nets") + 1]
    return parts[0] if len(parts) > 1 and parts[0] != "/" else "made by the tests"


def by_format(rows: list[dict[str, object]]) -> None:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        found[origin(str(row["file"])), str(row["class"])].append(float(str(row["worst"])))
    print("| what | measured | target |")
    print("| --- | --- | --- |")
    for (name, kind), worst in sorted(found.items()):
        print(f"| {name}, class {kind}: {len(worst)} comparisons | {worst.count(0.0)} equal, "
              f"worst {max(worst):.1e} | {LIMITS[kind]} |")


def large(folder: Path, n: int) -> list[Path]:
    """Files of n * n edges: each of n neurons reads n others before it."""
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(n, 2 * n), n)
    sources = np.concatenate([rng.choice(j, n, replace=False) for j in range(n, 2 * n)])
    weights = rng.normal(size=n * n)
    rows = [f"{i + 1} {j + 1} {w!r}" for i, j, w in zip(
        sources.tolist(), targets.tolist(), weights.tolist(), strict=True)]
    market = folder / "large.mtx"
    market.write_text("%%MatrixMarket matrix coordinate real general\n"
                      f"{2 * n} {2 * n} {n * n}\n" + "\n".join(rows) + "\n")
    packed = folder / "large.npz"
    by = np.lexsort((targets, sources))
    starts = np.concatenate([[0], np.cumsum(np.bincount(sources, minlength=2 * n))])
    np.savez(packed, indices=targets[by].astype(np.int32), indptr=starts.astype(np.int32),
             data=weights[by], shape=np.array([2 * n, 2 * n]), format=np.array(b"csr"))
    edges = folder / "large.edges"
    edges.write_text("\n".join(rows) + "\n")
    return [packed, market, edges]


def layered(folder: Path, n: int) -> list[Path]:
    """Files of nets of about n * n edges, by those of torch, ONNX and Keras that are here."""
    made = []
    try:
        import torch
        from torch import nn

        class Steps(nn.Module):
            def __init__(self, size: int) -> None:
                super().__init__()
                self.cells = nn.LSTM(size, size, batch_first=True)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.cells(x)[0]

        side, size = max(n // 55, 4), 64 if n > 500 else 8
        for name, module, shape in (
                ("linear", nn.Linear(n, n), (n,)),
                ("convolutions", nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(),
                                               nn.Conv2d(16, 16, 3, padding=1)), (4, side, side)),
                ("lstm", Steps(size), (max(n * n // (8 * size * size), 1), size))):
            made.append(folder / f"{name}.pt2")
            program = torch.export.export(module.eval(), (torch.zeros(1, *shape),), strict=False)
            torch.export.save(program, made[-1])
    except ImportError:
        print("no torch here")
    try:
        import onnx
        from onnx import TensorProto, helper, numpy_helper
        w = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", n]) for name in "xy")
        graph = helper.make_graph(
            [helper.make_node("Gemm", ["x", "w", "b"], ["y"])], "layer", [x], [y],
            [numpy_helper.from_array(w, "w"), numpy_helper.from_array(w[0], "b")])
        made.append(folder / "gemm.onnx")
        onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[
            helper.make_opsetid("", 17)]), made[-1])
    except ImportError:
        print("no onnx here")
    try:
        os.environ.setdefault("KERAS_BACKEND", "torch")
        import keras
        made.append(folder / "dense.keras")
        keras.Sequential([keras.Input((n,)), keras.layers.Dense(n, "relu")]).save(made[-1])
    except ImportError:
        print("no keras here")
    return made


def main() -> None:
    quick = "--quick" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        by_format(differences(folder, quick))
        n = 100 if quick else 1000
        small = folder / "small"
        small.mkdir()
        matrices = large(folder, n)
        first = [*large(small, 8), *layered(small, 8)]
        for path, tiny in zip([*matrices, *layered(folder, n)], first, strict=True):
            said = subprocess.run([sys.executable, "-c", LOAD, str(path), str(tiny)], check=True,
                                  capture_output=True, text=True, cwd=ROOT).stdout.split()
            assert path not in matrices or int(said[0]) == n * n
            print(f"| {int(said[0]):,} edges in `{path.name}` | {float(said[1]):.2f} s of CPU, "
                  f"{float(said[2]):.0f} bytes an edge | <= 3 s, <= 200 bytes |")


if __name__ == "__main__":
    main()
