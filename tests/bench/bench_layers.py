"""Nets of layers as neurons, beside torch: python tests/bench/bench_layers.py [--only REGEX]

Modules of torch come in by `ncc.from_torch`: a block of GPT-2 (16 positions of 32, 4 heads,
causal), an LSTM of 8 inputs and 16 cells over 10 and 40 steps, two convolutions with pools (28 x
28). Each is compiled in a process of its own: CPU seconds and the most memory that it adds, forward
(`ncc.compile`) and with the functions of gradients of a batch besides; the bytes of the object with
these, of its constant arrays and of `packed`, which follow the number of distinct groups where
structure is repeated: `rows`, in `blocks` that read the same sources, of which `lists` have sources
and `tiles` have weights of their own. Batches are of 64 in float32, one thread, CPU time, in turn
with torch's module: forward, and gradients of x and of all parameters. Status 1 where a bar is
missed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import median

import numpy as np

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent)]
from compile_one import peak, status, used  # noqa: E402

import ncc  # noqa: E402
from ncc.bench import measure as bench  # noqa: E402
from ncc.driver.compiler import Build  # noqa: E402
from ncc.driver.pipeline import AFTER_ORDER  # noqa: E402
from ncc.driver.settings import options  # noqa: E402
from ncc.machine.llvm import host  # noqa: E402
from ncc.passes.emit.tables import cell  # noqa: E402
from ncc.passes.lower.arrays.lists import lists_of  # noqa: E402

BATCH = 64
# Of each net: the shape of a sample; the bars: CPU s forward, with gradients, MB, times torch.
NETS = {
    "GPT-2 block": ((16, 32), (None, 3.0, 300, 1.0)),
    "LSTM, 10 steps": ((10, 8), (None, None, None, None)),
    "LSTM, 40 steps": ((40, 8), (2.0, 12.0, 500, None)),
    "convolutions": ((1, 28, 28), (None, 3.0, None, 5.0)),
}


def module_of(name):
    """The module of torch, with the weights that it draws from seed 0."""
    import torch
    from torch import nn

    class Block(nn.Module):
        """As in GPT-2 (Radford et al. 2019): x + attention(norm(x)), then the same with two dense
        layers and gelu."""

        def __init__(self, width=32, heads=4):
            super().__init__()
            self.heads = heads
            self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            n, t, width = x.shape
            q, k, v = [part.view(n, t, self.heads, -1).transpose(1, 2)
                       for part in self.qkv(self.norms[0](x)).split(width, -1)]
            met = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(met.transpose(1, 2).reshape(n, t, width))
            up = nn.functional.gelu(self.up(self.norms[1](x)), approximate="tanh")
            return x + self.down(up)

    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = nn.LSTM(8, 16, batch_first=True)

        def forward(self, x):
            return self.cells(x)[0]

    torch.manual_seed(0)
    if name == "GPT-2 block":
        made = Block()
    elif name.startswith("LSTM"):
        made = Steps()
    else:
        made = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3),
            nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(576, 10),
            nn.Softmax(-1))
    return made.eval()


def net_of(name):
    """The module and its net."""
    import torch

    module = module_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module, ncc.from_torch(module, torch.zeros(1, *NETS[name][0]))


def one(path):
    """In a process of its own: JSON on standard output of what the compiles of a net take."""
    net = ncc.load(path)
    ncc.compile(ncc.parse("N 02\n00\n01 00 00:1\n"), cache=False, tier="now")
    facts = {"neurons": net.n_neurons, "edges": net.n_edges, "slots": net.n_params}
    for way in ("forward", "gradients"):
        Path("/proc/self/clear_refs").write_text("5")
        before, began = status(os.getpid(), "VmRSS"), used()
        if way == "forward":
            fn = ncc.compile(net, cache=False, tier="now")
        else:
            y, pullback = fn.vjp(np.zeros((2, len(net.inputs)), np.float32))
            pullback(y)
        facts[way] = used() - began
        facts[f"{way} MB"] = (peak() - before) / 1e6
    chosen = options(host(), gradient=True)
    build = Build(net.graph, host(), chosen, along=AFTER_ORDER)
    plan, tables = build.plan, build.module.tables
    lists = lists_of(plan, plan.batch.slots).starts[: len(plan.weights)]
    facts |= {"rows": len(plan.rows), "blocks": len(plan.weights), "lists": len(np.unique(lists)),
              "tiles": len(np.unique(plan.weights)), "object": len(build.object()),
              "tables": sum(len(t.values) * cell(t).itemsize for t in tables),
              "packed": 4 * len(plan.packed),
              "forms": "/".join(s.form for s in plan.schedules.values())}
    print(json.dumps(facts))


def compiled(name, net, folder):
    path = Path(folder, "net.graph")
    path.write_text(str(net.graph))
    said = subprocess.run(
        [sys.executable, __file__, "--one", str(path)], check=True, text=True,
        stdout=subprocess.PIPE, env={**os.environ, "NCC_CACHE_SIZE": "0", "PYTHONPATH":
            os.pathsep.join([str(TOP), os.environ.get("PYTHONPATH", "")])})
    return json.loads(said.stdout.splitlines()[-1])


def beside_torch(name, module, net, seconds):
    """Medians of a batch in ms: forward, torch's, gradients, torch's."""
    import torch

    torch.set_num_threads(1)
    fn = ncc.compile(net, cache=False, tier="now")
    x = np.random.default_rng(0).standard_normal((BATCH, len(net.inputs))).astype(np.float32)
    tensor = torch.tensor(x).reshape(BATCH, *NETS[name][0])
    dy = np.ones((BATCH, len(net.outputs)), np.float32)
    with torch.no_grad():
        want = module(tensor).reshape(BATCH, -1).numpy()
        assert np.abs(fn(x) - want).max() < 1e-5, "another result than torch's"
        forward, _ = bench.interleaved([lambda: fn(x), lambda: module(tensor)], seconds)
    tensor.requires_grad_(True)

    def back():
        module.zero_grad()
        tensor.grad = None
        module(tensor).sum().backward()

    gradients, _ = bench.interleaved([lambda: fn.vjp(x)[1](dy), back], seconds)
    return [1e3 * median(times) for times in (*forward, *gradients)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="REGEX", default="")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each comparison")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        return one(arguments.one)
    names = [name for name in NETS if re.search(arguments.only, name)]
    missed = False

    def against(value, bar, unit=""):
        nonlocal missed
        missed |= bar is not None and value > bar
        return f"{value:.2f}" + (f" (bar {bar:g}{unit})" if bar is not None else "")

    print("| net | neurons, edges, slots | rows, blocks, lists, tiles | forward s, MB | gradients "
          "too s, MB | object, arrays, packed kB | batch ms, times torch | gradients ms, times "
          "torch |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            module, net = net_of(name)
            f = compiled(name, net, folder)
            forward, both, room, bar = NETS[name][1]
            counts = [", ".join([f"{f[key]:,}" for key in keys.split()]) for keys in (
                "neurons edges slots", "rows blocks lists tiles")]
            most = max(f["forward MB"], f["gradients MB"])
            sizes = ", ".join([f"{f[key] / 1e3:.0f}" for key in ("object", "tables", "packed")])
            ours, torchs, back, torchs_back = beside_torch(name, module, net, arguments.seconds)
            missed |= bar is not None and torchs / ours < bar
            print(f"| {name} | {counts[0]} | {counts[1]} | {against(f['forward'], forward)}, "
                  f"{f['forward MB']:.0f} | {against(f['forward'] + f['gradients'], both)}, "
                  f"{against(most, room)} | {sizes} | {ours:.3f}, {torchs / ours:.2f}x"
                  + (f" (bar {bar:g}x)" if bar else "")
                  + f" | {back:.3f}, {torchs_back / back:.2f}x |", flush=True)
    if missed:
        sys.exit(1)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
