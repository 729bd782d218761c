"""A step of training beside its peers: python tests/bench/bench_train.py [--rows LIST]

Forward, backward and Adam's update of a minibatch of 128, one thread. P is the FMA peak of one
core, and a step counts 3 FMA an edge and sample. Peers: the same step written by hand over torch's
CSR tensors (dW only where the net has edges), with dense matrices and masked gradients, and torch's
own modules and backward(), of which `ncc.torch.module` makes one; all with its fused Adam. They
take turns and are timed by CPU time; all have to make the same step first. Ratios are of medians.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

sys.path[:0] = [str(Path(__file__).parent)]
import bench_fast as fast  # noqa: E402
from bench_fast import LR, Cell, TrainStep, bench, dense, minibatch, sparse, stepped  # noqa: E402

import ncc  # noqa: E402
from ncc.driver.settings import options  # noqa: E402
from ncc.machine.llvm import host  # noqa: E402
from ncc.passes.lower.reverse.frame import lanes  # noqa: E402


def ms(median, least):
    return f"{1e3 * median:.2f} ms, least {1e3 * least:.2f}"


def train_sparse(seconds):
    found = stepped(sparse(1024, 4), ("csr", "masked"), seconds, "adam")
    ours, csr, masked = found.times
    texts = [ms(a, b) for a, b in zip(found.times, found.least, strict=True)]
    yield Cell("step, random 1,024 x 4, 32 in-edges", f"{100 * found.share:.0f} % P, {texts[0]}",
               100 * found.share, ">= 25 %, 35 %, 55 % P", 25, 55)
    yield Cell("the same against torch CSR by hand", f"{csr / ours:.1f}x ({texts[1]})",
               csr / ours, ">= 2x", 2)
    yield Cell("the same against torch masked dense", f"{masked / ours:.1f}x ({texts[2]})",
               masked / ours, ">= 8x", 8)


def train_dense(seconds):
    found = stepped(dense(784, 300, 100, 10), ("dense", "autograd", "module"), seconds, "adam")
    ours, by_hand, modules, module = found.times
    texts = [ms(a, b) for a, b in zip(found.times, found.least, strict=True)]
    yield Cell("step, dense 784-300-100-10", f"{100 * found.share:.0f} % P, {texts[0]}",
               100 * found.share, "", None)
    yield Cell("the same against torch, eager", f"{modules / ours:.2f}x ({texts[2]})",
               modules / ours, ">= 0.5x, 1x, 1.5x", 0.5, 1.5)
    yield Cell("the same against torch by hand", f"{by_hand / ours:.2f}x ({texts[1]})",
               by_hand / ours, "", None)
    yield Cell("the same step of the net in `ncc.torch.module` against torch, eager",
               f"{modules / module:.2f}x ({texts[3]})", modules / module, "", None)


def parts(seconds):
    """What a step consists of, each part called by itself."""
    net = sparse(1024, 4)
    x, goal = minibatch(net)
    made = TrainStep(net.graph, "mse", "adam", params=net.params)
    fn = ncc.compile(net)
    timed, _ = bench.interleaved(
        [lambda: made.step(x, goal, LR), lambda: made.update(128, LR), lambda: fn(x)], seconds)
    whole, update, forward = [median(t) for t in timed]
    share = 100 * update / whole
    yield Cell("of the sparse step, Adam's update and pack",
               f"{share:.0f} % ({ms(update, min(timed[1]))})", share, "<= 20 %, 10 %", 20, 10,
               below=True)
    yield Cell("of the sparse step, a forward pass as compiled alone",
               f"{100 * forward / whole:.0f} % ({ms(forward, min(timed[2]))})", 0, "", None)


def widths(seconds):
    """As many edges in narrower layers, whose values lie in nearer caches: what the way forward
    gains by that was lost to them, what the way back does not gain is lost to something else."""
    nets = [sparse(width, 4096 // width) for width in (64, 256, 1024)]
    calls = []
    for net in nets:
        x, goal = minibatch(net)
        made = TrainStep(net.graph, "mse", "adam", params=net.params)
        for call in (made.loss, made.accumulate):
            calls.append(lambda call=call, x=x, goal=goal: call(x, goal))
    timed, _ = bench.interleaved(calls, seconds)
    times = [median(t) for t in timed]
    for net, forward, both in zip(nets, times[::2], times[1::2], strict=True):
        fmas = net.n_edges * 128 / 1e9
        yield Cell(f"layers of {len(net.inputs):,}, {net.n_edges:,} edges in all: forward, back",
                   f"{fmas / forward:.1f}, {2 * fmas / (both - forward):.1f} GFMA/s", 0, "", None)


def memory(seconds):
    """What a trainer holds after a step, beside one value a neuron and lane, the parameters, their
    gradients and Adam's two moments; a lane is a sample of those that go together."""
    tile = lanes(options(host())["native"], "f32")
    for name, net in (("random 1,024 x 4", sparse(1024, 4)),
                      ("dense 784-300-100-10", dense(784, 300, 100, 10))):
        made = TrainStep(net.graph, "mse", "adam", params=net.params)
        made.step(*minibatch(net), LR)
        held = made.memory
        total, allowed = sum(held.values()), 4 * (net.n_neurons * tile + 4 * net.n_params)
        each = ", ".join([f"{key} {count / 2**20:.2f}" for key, count in held.items()])
        yield Cell(f"memory of a step, {name}", f"{total / allowed:.1f}x, {total / 2**20:.2f} MiB: "
                   + each, total / allowed, f"<= 1x, {allowed / 2**20:.2f} MiB", 1, below=True)


ROWS = {f.__name__.replace("_", "-"): f for f in (
    train_sparse, parts, widths, train_dense, memory)}

if __name__ == "__main__":
    fast.main(ROWS, __doc__)
