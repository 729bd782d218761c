"""What code generation takes, predicted (ncc/machine/limits.py) beside measured.

    python tests/bench/bench_codegen.py [SEED]

For nets of many kinds, forms, targets and levels: the CPU seconds and megabytes that LLVM takes
for the text, each in a fresh process, beside the estimate; at the end the farthest of each. Status
1 where one is more than limits.SPREAD times off (what takes less than FLOOR counts as FLOOR).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import numpy as np
from nets import random_layers

from ncc.driver.compiler import Build
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import options
from ncc.machine.limits import SPREAD, Need, estimate
from ncc.machine.llvm import Machine, target
from ncc.nets.net import parse

FLOOR = Need(40e6, 0.3)
ALL = ("sigmoid", "tanh", "relu", "gelu", "softplus", "sin", "exp", "abs", "step", "elu")


def mixed(rng, neurons, inputs, fan_in, activations):
    """An irregular net with activations and aggregations mixed, as evolution makes them."""
    lines = [f"N {neurons:x}"] + [f"{j:04x}" for j in range(inputs)]
    for j in range(inputs, neurons):
        sources = np.unique(rng.integers(0, j, rng.integers(1, 2 * fan_in)))
        lines.append(f"{j:04x} {rng.choice(activations)} "
                     + ",".join(f"{i:04x}:{rng.normal():.3f}" for i in sources))
    return "\n".join(lines) + "\n"


def recurrent(steps, width):
    """A gated net, unrolled: per step a dense layer, two of products, one of tanh."""
    lines, state, n = [], [], width
    lines += [f"{j:04x}" for j in range(width)]
    state = list(range(width))
    for _ in range(steps):
        gates = []
        for activation in ("sigmoid", "tanh", "sigmoid"):
            for _ in range(width):
                lines.append(f"{n:04x} {activation} " + ",".join(f"{s:04x}:0.1" for s in state))
                gates.append(n)
                n += 1
        for k in range(width):
            lines.append(f"{n:04x} 00 mul {gates[k]:04x}:1,{gates[width + k]:04x}:1")
            n += 1
        state = list(range(n - width, n))
    return f"N {n:x}\n" + "\n".join(lines) + "\n"


def chain(length):
    return f"N {length:x}\n0000\n" + "".join(
        f"{j:04x} tanh {j - 1:04x}:1\n" for j in range(1, length))


def columns(outputs):
    return f"N {outputs + 1:x}\n0000\n" + "".join(
        f"{j:04x} tanh 0000:1\n" for j in range(1, outputs + 1))


def cases(seed):
    """(name, text, options, target, -O)."""
    rng = np.random.default_rng(seed)
    straight = {"form": "straight", "batch_form": "table"}
    batch = {"form": "table", "batch_form": "straight"}
    table = {"form": "table", "batch_form": "table"}
    gradients = {**table, "gradient": True}
    layers = random_layers([50] * 3, 10, seed, activation="tanh")
    wide = random_layers([125] * 5, 20, seed)
    neat = mixed(rng, 60, 8, 3, ALL[:5])
    yield "layers 10,000", wide, straight, "x86-64-v3", 2
    yield "layers 10,000", wide, table, "x86-64-v3", 2
    yield "layers 2,240", random_layers([70] * 5, 8, seed), batch, "x86-64-v3", 2
    yield "layers 100,000", random_layers([250] * 9, 50, seed), straight, "x86-64-v3", 0
    yield "recurrent 12 x 16", recurrent(12, 16), {}, "x86-64-v3", 2
    yield "recurrent 24 x 16", recurrent(24, 16), table, "x86-64-v3", 2
    yield "chain 300", chain(300), batch, "x86-64-v3", 2
    yield "chain 2,000", chain(2000), straight, "x86-64-v3", 2
    yield "columns 48", columns(48), batch, "x86-64-v3", 2
    for neurons in (60, 120):
        net = mixed(rng, neurons, 8, 3, ALL)
        for forms in (straight, batch, table):
            yield f"mixed {neurons}", net, forms, "x86-64-v3", 2
    for forms in (gradients, {**gradients, "backward_form": "straight"}):
        yield "mixed 60 gradients", neat, forms, "x86-64-v3", 2
        yield "layers 1,000 gradients", layers, forms, "x86-64-v3", 2
    yield "mixed 60 step", neat, {**gradients, "loss": "mse", "optimizer": "adam"}, "x86-64-v3", 2
    for name in ("x86-64-v4", "aarch64", "rv64gc", "cortex-m4f", "cortex-m0", "wasm32"):
        yield "layers 1,000", layers, {"form": "straight", "batch_form": "straight"}, name, 2
        yield "mixed 60", neat, gradients, name, 2
        yield "columns 24", columns(24), batch, name, 2


def one(path, name, opt):
    """Print what the text at `path` takes."""
    text = Path(path).read_text()
    machine = Machine(target(name), opt)
    machine.object("define void @f() { ret void }\n")
    before, began = resident("VmRSS"), time.process_time()
    machine.object(text)
    print(json.dumps([resident("VmHWM") - before, time.process_time() - began]))


def resident(what):
    """Bytes in memory, now (VmRSS) or at most (VmHWM). The ru_maxrss of a process counts what its
    parent had when it was started."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(what + ":")[1].split()[0]) * 1024


def main(seed):
    worst = [1.0, 1.0]
    print(f"{'net':22} {'target':10} -O {'forms':30} {'lines':>8}"
          f" {'MB':>6} {'predicted':>9} {'s':>6} {'predicted':>9}")
    for name, net, chosen, aim, opt in cases(seed):
        to = target(aim)
        text = Build(parse(net, "nal").graph, to, options(to, **chosen), opt,
                     along=AFTER_ORDER).llvm
        need = estimate(text, to.triple.split("-")[0], opt)
        with tempfile.NamedTemporaryFile("w", suffix=".ll") as file:
            file.write(text)
            file.flush()
            done = subprocess.run([sys.executable, __file__, file.name, aim, str(opt)],
                                  capture_output=True, text=True, check=True)
        took = Need(*json.loads(done.stdout))
        off = [max(p, f) / max(t, f) for p, t, f in zip(need, took, FLOOR, strict=True)]
        worst = [max(w, o, 1 / o) for w, o in zip(worst, off, strict=True)]
        forms = " ".join(str(v) for v in chosen.values())[:30]
        print(f"{name:22} {aim:10} {opt:2} {forms:30} {text.count(chr(10)):8}"
              f" {took.memory / 1e6:6.0f} {need.memory / 1e6:9.0f}"
              f" {took.seconds:6.2f} {need.seconds:9.2f}"
              + "  off" * (max(*off, *[1 / o for o in off]) > SPREAD), flush=True)
    print(f"at most {worst[0]:.1f} times off in memory, {worst[1]:.1f} in time")
    return max(worst) > SPREAD


if __name__ == "__main__":
    if len(sys.argv) == 4:
        one(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 1))
