"""Modules of WebAssembly: the same bits in every engine, and what vectors are worth in Node.

    python tests/bench/bench_wasm.py                     200 nets in Node, Chromium and wasmtime
    python tests/bench/bench_wasm.py --nets 20 --neurons 40 -O 2
    python tests/bench/bench_wasm.py --speed             microseconds in Node, without and with them

Of each net: forward of a sample and of a batch, backward, a step of training; half of the modules
have vectors. Python's bits are those of the graph level's interpreter, forward and backward. An
engine that is not here is left out, and said to be. Exit status 1 where any bit differs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(TOP), str(TOP / "tests/support")]

from nets import random_layers  # noqa: E402
from wasm_engines import (  # noqa: E402
    chromium,
    in_chromium,
    in_node,
    in_python,
    in_wasmtime,
    modules,
)

import ncc  # noqa: E402
from ncc.driver import kinds  # noqa: E402
from ncc.driver.compiler import Build  # noqa: E402
from ncc.driver.settings import Settings  # noqa: E402
from ncc.machine.llvm import target  # noqa: E402

TIMES = r"""
const made = [];
for (const [name, vectors, folder, size] of ROWS) {
    const {load} = await import(`./${folder}/net.mjs`);
    made.push({name, vectors, size, net: await load()});
}
const time = (call) => {
    let best = Infinity;
    for (let round = 0; round < 9; round++) {
        const begin = performance.now();
        let count = 0, now;
        do { call(); count++; now = performance.now(); } while (now - begin < 25);
        best = Math.min(best, (now - begin) / count * 1000);
    }
    return best.toFixed(1);
};
for (const {name, vectors, size, net} of made) {
    const xs = Array.from({length: 256}, (_, k) =>
        Float32Array.from({length: net.inputs}, (_, j) => ((7 * k + 3 * j) % 16 - 8) / 8));
    const y = net.forward(xs);
    console.log(`| ${name} | ${vectors} | ${Math.round(size / 1024)} | `
        + [time(() => net.forward(xs[0])), time(() => net.forward(xs)),
           time(() => net.backward(xs, y)), time(() => net.trainStep(xs, y, 0))].join(" | ")
        + " |");
}
"""


def bits(count: int, neurons: int, opt: int) -> int:
    """Every engine's lines beside Node's; how many engines differ."""
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = modules(folder, range(count), opt, max_neurons=neurons)
        lines = in_node(folder, count)
        found = {"the interpreter": in_python(made)}
        if chromium():
            found["Chromium"] = in_chromium(folder, count, 600)
        if importlib.util.find_spec("wasmtime"):
            found["wasmtime"] = in_wasmtime(folder, made)
        for engine in {"Chromium", "wasmtime"} - set(found):
            print(f"there is no {engine}")
        for engine, others in found.items():
            same = sum([line == other or line.startswith(other + " ")
                        for line, other in zip(lines, others, strict=True)])
            print(f"{engine}: {same} of {count} nets have Node's bits")
            wrong += same < count
    return wrong


def speed() -> None:
    """A table of microseconds, of one sample and of batches of 256."""
    nets = {
        "digits": (TOP / "examples/digits.nal").read_text(),
        "xor": (TOP / "examples/xor.nal").read_text(),
        "dense 64-64-64-10, tanh": random_layers([64, 64, 64, 10], 64, seed=1, activation="tanh",
                                                 weights=True),
        "64 x 4, 8 in-edges, relu": random_layers([64] * 4, 8, seed=1, activation="relu",
                                                  weights=True),
    }
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), []
        for title, text in nets.items():
            for vectors in ("no", "yes"):
                aim = target("wasm32", features="+simd128" if vectors == "yes" else "")
                build = Build.of(ncc.parse(text).graph, aim, Settings("f32", "strict", passes={
                    "gradient": True, "loss": "mse", "optimizer": "adam"}))
                place = folder / str(len(rows))
                place.mkdir()
                for path, data in kinds.files("wasm", build, place / "net.wasm").items():
                    path.write_bytes(data)
                rows.append([title, vectors, place.name, (place / "net.wasm").stat().st_size])
        (folder / "times.mjs").write_text(TIMES.replace("ROWS", json.dumps(rows)))
        print("| net | vectors | kB | one sample | batch | backward | training |")
        print("|---|---|---|---|---|---|---|")
        print(subprocess.run(["node", "times.mjs"], cwd=folder, capture_output=True, text=True,
                             check=True).stdout, end="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", type=int, default=200)
    parser.add_argument("--neurons", type=int, default=12, help="of a net at most")
    parser.add_argument("-O", dest="opt", type=int, default=1)
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    if shutil.which("node") is None:
        sys.exit("needs node")
    if args.speed:
        speed()
    else:
        sys.exit(min(1, bits(args.nets, args.neurons, args.opt)))


if __name__ == "__main__":
    main()
