"""How fast nets are, each row beside its target: python tests/bench/bench_fast.py [--rows LIST]

P is the FMA peak of one core, calibrated in each row's own rounds; peers run in the same rounds,
ratios are of medians. `--list` names the rows, `--seconds` is what each measures for. A row whose
needs are not there (gcc, torch, a part of ncc) says which.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.util
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(TOP / "tests/support"), str(TOP / "examples")]
from nets import random_layers  # noqa: E402

import ncc  # noqa: E402
from ncc.bench import measure as bench  # noqa: E402
from ncc.bench import peak  # noqa: E402
from ncc.formats.weights import init  # noqa: E402
from ncc.ir.graph import NONE, Graph  # noqa: E402
from ncc.nets.net import Net  # noqa: E402
from ncc.scalar.activations import name_of  # noqa: E402
from ncc.training.step import TrainStep  # noqa: E402

SPARSE = ("scipy-csr", "torch-csr", "torch-dense")


class Missing(Exception):
    """What a row wants and does not find."""


class Cell(NamedTuple):
    """One line of the table. `value` is compared with `goal` and `stretch`: at least as large, or
    at most with `below`; None where there is no such bound."""

    what: str
    measured: str
    value: float
    target: str
    goal: float | None
    stretch: float | None = None
    below: bool = False

    def met(self) -> str:
        for bound, word in ((self.stretch, "stretch"), (self.goal, "yes")):
            if bound is not None and (self.value <= bound if self.below else self.value >= bound):
                return word
        return "" if self.goal is None else "no"


# ---- nets


def layers(tables, n_inputs, seed=0):
    """A net of relu layers without biases, he weights: `tables` holds the sources of each layer's
    neurons, (neurons, fan-in), counted from 0 in the layer before."""
    sizes = [n_inputs, *[len(t) for t in tables]]
    firsts = np.cumsum([0, *sizes])
    n = int(firsts[-1])
    lengths = np.concatenate([np.zeros(n_inputs, np.int64),
                              *[np.full(len(t), t.shape[1]) for t in tables]])
    sources = np.concatenate([(t + k).ravel() for t, k in zip(tables, firsts, strict=False)])
    level = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    graph = Graph(
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        sources=sources.astype(np.int32), weights=np.arange(len(sources), dtype=np.int32),
        biases=np.full(n, NONE, np.int32),
        activations=np.where(level == 0, -1, 3).astype(np.int32),
        aggregations=np.zeros(n, np.int8), inputs=np.arange(n_inputs, dtype=np.int32),
        outputs=np.arange(firsts[-2], n, dtype=np.int32), values=np.full(len(sources), np.nan),
        constants=np.empty(0), levels=level)
    return Net(graph.with_(values=init(graph, "he", seed)))


def dense(*widths):
    return layers([np.tile(np.arange(a), (b, 1)) for a, b in zip(widths, widths[1:], strict=False)],
                  widths[0])


def sparse(width, depth, fan_in=32, seed=0):
    rng = np.random.default_rng(seed)
    cuts = np.arange(fan_in + 1) * width // fan_in
    return layers([rng.integers(cuts[:-1], cuts[1:], size=(width, fan_in)) for _ in range(depth)],
                  width, seed)


def irregular(levels=170, neurons=1000, edges=4500, seed=0):
    """Neurons that read one of the level before and some of any earlier one."""
    rng = np.random.default_rng(seed)
    n_inputs = 10
    level = np.concatenate([np.zeros(n_inputs, np.int64),
                            np.sort(np.concatenate([
                                np.arange(1, levels + 1),
                                rng.integers(1, levels + 1, neurons - n_inputs - levels)]))])
    fan_in = rng.multinomial(edges - 2 * (neurons - n_inputs), np.full(neurons - n_inputs, 1 / (
        neurons - n_inputs))) + 2
    lines = [f"N {neurons:x}", *[f"{j:03x}" for j in range(n_inputs)]]
    for j, count in zip(range(n_inputs, neurons), fan_in.tolist(), strict=True):
        first = np.flatnonzero(level == level[j] - 1)
        chosen = {int(rng.choice(first))}
        earlier = int((level < level[j]).sum())
        while len(chosen) < min(count, earlier):
            chosen.add(int(rng.integers(max(0, earlier - 200), earlier)))
        words = [f"{i:03x}:{rng.normal() / math.sqrt(count):.4f}" for i in sorted(chosen)]
        lines.append(f"{j:03x} relu {','.join(words)}")
    return ncc.parse("\n".join(lines) + "\n")


# ---- one sample in C


# Of activations by name, what a C program computes of the sum S.
C_ACTIVATIONS = {
    "identity": "S", "relu": "S > 0 ? S : 0", "sigmoid": "1 / (1 + expf(-S))", "tanh": "tanhf(S)",
    "gauss": "expf(-S * S)", "sin": "sinf(S)", "cos": "cosf(S)", "abs": "fabsf(S)",
    "softplus": "(S > 0 ? S : 0) + log1pf(expf(-fabsf(S)))", "exp": "expf(S)",
    "elu": "S > 0 ? S : expm1f(S)",
}


def naive_c(graph):
    """Straight C of a net of sums as one would write it by hand, every neuron a local."""
    lines = [f"float n{i} = x[{k}];" for k, i in enumerate(graph.inputs)]
    for j in np.argsort(graph.levels, kind="stable"):
        if graph.activations[j] >= 0:
            at = range(graph.starts[j], graph.starts[j + 1])
            terms = [f"n{graph.sources[e]}*w[{graph.weights[e]}]" for e in at]
            if graph.biases[j] != NONE:
                terms.insert(0, f"w[{graph.biases[j]}]")
            value = C_ACTIVATIONS[name_of(int(graph.activations[j]))].replace("S", f"n{j}")
            lines.append(f"float n{j} = {' + '.join(terms)}; n{j} = {value};")
    return "\n".join([*lines, *[f"y[{k}] = n{o};" for k, o in enumerate(graph.outputs)]])


def loops_c(widths):
    """Loops of fixed sizes over dense layers, weights a neuron a row."""
    lines, at = [], 0
    for k, (a, b) in enumerate(zip(widths, widths[1:], strict=False)):
        to, of = ("y" if k == len(widths) - 2 else f"h{k}"), ("x" if k == 0 else f"h{k - 1}")
        lines += [f"float h{k}[{b}];"] * (to != "y")
        lines += [f"for (int j = 0; j < {b}; j++) {{ float s = 0;",
                  f"for (int i = 0; i < {a}; i++) s += {of}[i] * w[{at} + j*{a} + i];",
                  f"{to}[j] = s > 0 ? s : 0; }}"]
        at += a * b
    return "\n".join(lines)


def children():
    """CPU seconds of the processes that this one started and that ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


class Gcc:
    """`gcc()`: bench.CALLS calls, from a loop, of the function with the C text `body`. `seconds` is
    the CPU time that gcc took."""

    def __init__(self, body, params, x, n_outputs):
        if shutil.which("gcc") is None:
            raise Missing("gcc")
        text = ("#include <math.h>\n__attribute__((noinline)) void net(const float *restrict x, "
                "const float *restrict w, float *restrict y) {\n" + body + "\n}\n"
                "void drive(const float *x, const float *w, float *y)\n"
                f"{{ for (int k = 0; k < {bench.CALLS}; k++) {{ net(x, w, y); "
                '__asm__ volatile("" ::: "memory"); } }\n')
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder, "net.c"), Path(folder, "net.so")
            source.write_text(text)
            # Linked apart: gcc links -ffast-math with start-up code that makes the whole process,
            # this one, flush what is subnormal to 0.
            made = Path(folder, "net.o")
            began = children()
            subprocess.run(["gcc", "-O3", "-march=native", "-ffast-math", "-c", "-fPIC",
                            str(source), "-o", str(made)], check=True)
            self.seconds = children() - began
            subprocess.run(["gcc", "-shared", str(made), "-o", str(library), "-lm"], check=True)
            self._drive = ctypes.CDLL(str(library)).drive
        self._drive.argtypes = [ctypes.c_void_p] * 3
        self.y, self._kept = np.zeros(n_outputs, np.float32), (x, params.astype(np.float32))
        self._arguments = (*[a.ctypes.data for a in self._kept], self.y.ctypes.data)

    def __call__(self):
        self._drive(*self._arguments)
        return self.y


def from_c(net, body, seconds):
    """Seconds a call of ncc's and of gcc's, and the edges a cycle of ncc's."""
    fn = ncc.compile(net)
    x = np.random.default_rng(0).standard_normal(len(net.inputs)).astype(np.float32)
    ours, theirs = bench.Loop(fn, x), Gcc(body, net.params, x, len(net.outputs))
    scale = np.abs(ours()).max()
    assert np.allclose(ours(), theirs(), rtol=1e-3, atol=1e-3 * scale)
    narrow, _ = peak.kernels()
    timed, _ = bench.interleaved([ours, theirs, narrow], seconds)
    a, b, c = [median(t) for t in timed]
    # The narrow kernel does two vectors a cycle: cycles from it, whatever the clock is now.
    cycles = narrow.fmas() / narrow.lanes / 2 / c
    return a / bench.CALLS, b / bench.CALLS, net.n_edges * bench.CALLS / a / cycles


# ---- rows


def batch(what, net, seconds, goal, stretch, peers=SPARSE, ratio=None, against="best peer",
          ways=("batch",)):
    """A share of P, and, with `ratio` (goal, stretch), how much longer the best peer takes."""
    report = bench.measure(ncc.compile(net), budget=seconds, peers=peers, ways=ways)
    assert not report.refused, report.refused
    ours = report.row("ncc")
    yield Cell(f"batch 256, {what}", f"{100 * ours.peak:.0f} % P, {ours.gfmas:.1f} GFMA/s",
               100 * ours.peak, f">= {goal} % P, {stretch} %", goal, stretch)
    if ratio is not None:
        others = [r for r in report.rows if r.who != "ncc"]
        if not others:
            raise Missing(" or ".join(peers))
        best = min(others, key=lambda r: r.median)
        # Of the net's own edges: what a peer multiplies by zero is no merit.
        times = ", ".join([f"{r.who} {100 * ours.peak / r.times_ncc:.0f} % P" for r in others])
        yield Cell(f"the same against the {against}", f"{best.times_ncc:.2f}x {best.who} ({times})",
                   best.times_ncc, f">= {ratio[0]}x" + (f", {ratio[1]}x" if ratio[1] else ""),
                   ratio[0], ratio[1])


def challenge():
    """examples/graph_challenge.py, which has the generators."""
    if importlib.util.find_spec("graph_challenge") is None:
        raise Missing("examples/graph_challenge.py")
    return importlib.import_module("graph_challenge")


def radix(seconds):
    tables = challenge().net(1024, 120, 0)
    yield from batch("RadiX 1,024 x 120, random weights", layers(tables, 1024), seconds, 70, 90,
                     ratio=(5, 8))


def sparse_256(seconds):
    yield from batch("random 256 x 4, 32 in-edges", sparse(256, 4), seconds, 45, 60, ratio=(3, 5))


def sparse_1024(seconds):
    yield from batch("random 1,024 x 10, 32 in-edges", sparse(1024, 10), seconds, 40, 60,
                     ratio=(3, 5))


def dense_512(seconds):
    yield from batch("dense 512 x 4", dense(*[512] * 5), seconds, 80, 95, ("torch-dense",),
                     (0.9, None), "dense torch")


def dense_784(seconds):
    yield from batch("dense 784-300-100-10", dense(784, 300, 100, 10), seconds, 70, 95,
                     ("torch-dense",), (0.9, None), "dense torch")


def one_dense(seconds):
    report = bench.measure(ncc.compile(dense(*[512] * 5)), budget=seconds, ways=("single",),
                           peers=("torch-dense", "onnxruntime"))
    ours = report.row("ncc", "single")
    others = [r for r in report.rows if r.who != "ncc"]
    if not others:
        raise Missing("torch or onnxruntime")
    best = min(others, key=lambda r: r.median)
    times = ", ".join([f"{r.who} {1e6 * r.median:.0f} us" for r in others])
    yield Cell("one sample, dense 512 x 4", f"{best.times_ncc:.2f}x the better ({times}), "
               f"{1e6 * ours.median:.0f} us", best.times_ncc, ">= 1.2x torch, onnxruntime", 1.2)


def one_tagger(seconds):
    widths = (16, 64, 32, 32, 5)
    ours, theirs, _ = from_c(dense(*widths), loops_c(widths), seconds)
    yield Cell("one sample, 16-64-32-32-5, from C",
               f"{1e9 * ours:.0f} ns, gcc -O3 on loops {1e9 * theirs:.0f} ns", 1e9 * ours,
               "<= 250 ns, 150 ns", 250, 150, below=True)


def one_sparse(seconds):
    net = ncc.parse(random_layers([125] * 5, 20, 1, biases=False))
    ours, theirs, rate = from_c(net, naive_c(net.graph), seconds)
    yield Cell("one sample, random 10,000 edges, from C", f"{rate:.2f} edges a cycle", rate,
               ">= 0.8, 1.0", 0.8, 1.0)
    yield Cell("the same against gcc -O3", f"{theirs / ours:.2f}x", theirs / ours, ">= 1.15x", 1.15)


def one_irregular(seconds):
    net = irregular()
    ours, theirs, rate = from_c(net, naive_c(net.graph), seconds)
    depth = int(net.graph.levels.max())
    yield Cell(f"one sample, irregular, {net.n_neurons:,} neurons, {net.n_edges:,} edges, {depth} "
               "levels", f"{theirs / ours:.2f}x gcc -O3, {rate:.2f} edges a cycle", theirs / ours,
               ">= 1.1x, 1.5x", 1.1, 1.5)


def python_call(seconds):
    fn = ncc.compile(ncc.parse(random_layers([6, 8, 6], 4, 1)))
    x = np.ones(6, np.float32)
    timed, _ = bench.interleaved([lambda: fn(x)], min(seconds, 1))
    yield Cell("Python call, 20 neurons", f"{1e6 * median(timed[0]):.2f} us",
               1e6 * median(timed[0]), "<= 2 us, 0.7 us", 2, 0.7, below=True)


def graph_challenge(seconds):
    made = challenge()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "challenge.nal")
        path.write_bytes(made.nal(1024, 120, 0))
        net = ncc.load(path)
    try:
        fn = ncc.compile(net, threads=2, skip_dead=True)
    except TypeError as error:
        raise Missing(f"compaction of dead samples ({error})") from None
    x = made.pictures(60_000, 1024)
    y = fn(x)
    alive = float(y.any(axis=1).mean())
    assert np.isin(y, (0, 32)).all() and 0.02 < alive < 0.04, alive
    took = min([peak.seconds(lambda: fn(x)) for _ in range(3)])
    yield Cell("Graph Challenge 1,024 x 120, 60,000 rows, 2 threads, dead compacted",
               f"{took:.2f} s, {60_000 * net.n_edges / took:.2g} edges/s, {alive:.1%} alive", took,
               "<= 1.0 s, 0.4 s", 1.0, 0.4, below=True)


def threads(seconds):
    """Two compiled nets, as `threads` is an option of compiling; their rounds alternate."""
    if (os.cpu_count() or 1) < 2:
        raise Missing("a second core")
    net = sparse(1024, 10)
    x = np.random.default_rng(0).standard_normal((512, 1024)).astype(np.float32)
    one, two = ncc.compile(net), ncc.compile(net, threads=2)
    timed, _ = bench.interleaved([lambda: one(x), lambda: two(x)], seconds, threads=2)
    ratio = median(timed[0]) / median(timed[1])
    yield Cell("batch 512, random 1,024 x 10, two threads", f"{ratio:.2f}x one", ratio, ">= 1.8x",
               1.8)


LR = 1e-6  # of the steps that are timed: the net stays what it was


def trainer(net, x, goal, optimizer="sgd"):
    """`step(lr)`, compiled, of mean squared error; and the parameters now."""
    made = TrainStep(net.graph, "mse", optimizer, params=net.params)
    return lambda lr=LR: made.step(x, goal, lr), lambda: made.params


def torch_step(net, x, goal, kind, optimizer="sgd"):
    """The same step in torch. By hand: "csr" over CSR tensors, "dense" with dense matrices (zeros
    in them are trained), "masked" with masked gradients. "autograd": its modules, eager; "module":
    the net as such a module."""
    if importlib.util.find_spec("torch") is None:
        raise Missing("torch")
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    if kind == "autograd":
        return torch_autograd(torch, *torch_modules(torch, net), x, goal, optimizer)
    if kind == "module":
        module = importlib.import_module("ncc.torch").module(net)
        return torch_autograd(torch, module, [module.params], x, goal, optimizer)
    found = bench.layered(net.graph, "f32").layers
    x, goal = [torch.from_numpy(np.ascontiguousarray(a.T)) for a in (x, goal)]
    weights, transposed, orders, masks = [], [], [], []
    for layer in found:
        shape = (layer.rows, layer.high - layer.low)
        if kind != "csr":
            full = np.zeros(shape, np.float32)
            full[:, layer.read()] = layer.dense()
            weights.append(torch.from_numpy(full))
            masks.append(weights[-1] != 0)
            continue
        starts = layer.starts.astype(np.int32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that CSR is in beta
            weights.append(torch.sparse_csr_tensor(
                *[torch.from_numpy(a) for a in (starts, layer.columns, layer.weights)],
                size=shape))
        rows = np.repeat(np.arange(shape[0], dtype=np.int32), np.diff(starts))
        order = np.lexsort((rows, layer.columns))
        other = np.concatenate([[0], np.cumsum(np.bincount(layer.columns, minlength=shape[1]))])
        transposed.append(torch.sparse_csr_tensor(
            *[torch.from_numpy(a) for a in (other.astype(np.int32), rows[order],
                                            layer.weights[order])], size=shape[::-1]))
        orders.append(torch.from_numpy(order))

    held = [w.values() if kind == "csr" else w for w in weights]
    adam = torch.optim.Adam(held, fused=True) if optimizer == "adam" else None

    def update(k, slope, lr):
        if adam is None:
            held[k].sub_(slope, alpha=lr)
        else:
            held[k].grad = slope

    def step(lr=LR):
        values = [x]
        for w in weights:
            values.append(torch.relu_(w @ values[-1]))
        flow = (values[-1] - goal) * (2 / goal.numel())
        for k in range(len(weights) - 1, -1, -1):
            flow *= values[k + 1] > 0
            before = None
            if kind == "csr":
                slope = torch.sparse.sampled_addmm(weights[k], flow, values[k].t(), beta=0.0)
                if k:
                    transposed[k].values().copy_(weights[k].values()[orders[k]])
                    before = transposed[k] @ flow
                update(k, slope.values(), lr)
            else:
                slope = flow @ values[k].t()
                if k:
                    before = weights[k].t() @ flow
                if kind == "masked":
                    slope *= masks[k]
                update(k, slope, lr)
            flow = before
        if adam is not None:
            adam.param_groups[0]["lr"] = lr
            adam.step()

    def params():
        if kind == "csr":
            return torch.cat(held).numpy()
        return torch.cat([w[mask] for w, mask in zip(weights, masks, strict=True)]).numpy()

    return step, params


def torch_modules(torch, net):
    """Linear layers and relus of a dense net, and their weights."""
    linear = []
    for layer in bench.layered(net.graph, "f32").layers:
        linear.append(torch.nn.Linear(layer.high - layer.low, layer.rows, bias=False))
        with torch.no_grad():
            linear[-1].weight.copy_(torch.from_numpy(layer.dense()))
    model = torch.nn.Sequential(*[part for one in linear for part in (one, torch.nn.ReLU())])
    return model, [one.weight for one in linear]


def torch_autograd(torch, model, weights, x, goal, optimizer):
    """backward() of a model, and torch's optimizer."""
    x, goal = torch.from_numpy(x), torch.from_numpy(goal)
    kind = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    updates = kind(model.parameters(), LR, fused=True)

    def step(lr=LR):
        updates.param_groups[0]["lr"] = lr
        updates.zero_grad()
        torch.nn.functional.mse_loss(model(x), goal).backward()
        updates.step()

    return step, lambda: torch.cat([w.detach().flatten() for w in weights]).numpy()


def minibatch(net):
    """128 samples and what they should give."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((128, len(which))).astype(np.float32)
            for which in (net.inputs, net.outputs)]


class Steps(NamedTuple):
    """Seconds of ncc's step and of each of torch's, medians and least; ncc's share of P, of those
    medians, at 3 FMA an edge and sample."""

    times: list[float]
    least: list[float]
    share: float


def stepped(net, kinds, seconds, optimizer="sgd"):
    """Steps of ncc and of torch's `kinds`, which all have to make the same one first."""
    x, goal = minibatch(net)

    def contenders():
        return [trainer(net, x, goal, optimizer),
                *[torch_step(net, x, goal, kind, optimizer) for kind in kinds]]

    moved = []
    for step, params in contenders():
        # SGD's far more than the rounding of the parameters; Adam's first is lr times the sign.
        step(goal.size / 100 if optimizer == "sgd" else 0.01)
        moved.append(params() - net.params)
    for other in moved[1:]:
        # By norms: a sum of almost 0 may come out on the other side of relu's kink.
        allowed = 1e-3 if optimizer == "sgd" else 1e-2
        assert np.linalg.norm(other - moved[0]) <= allowed * np.linalg.norm(moved[0]), "another"
    made = contenders()
    kernels = [k for k in peak.kernels() if k is not None]
    timed, _ = bench.interleaved([*[step for step, _ in made], *kernels], seconds)
    times = [median(t) for t in timed]
    best = max([k.fmas() / t for k, t in zip(kernels, times[len(made):], strict=True)])
    return Steps(times[:len(made)], [min(t) for t in timed[:len(made)]],
                 3 * net.n_edges * 128 / times[0] / best)


def train_sparse(seconds):
    net = sparse(1024, 4)
    (a, b, c), _, share = stepped(net, ("csr", "masked"), seconds)
    yield Cell("training step, random 1,024 x 4, 32 in-edges, batch 128, SGD",
               f"{100 * share:.0f} % P, {1e3 * a:.2f} ms", 100 * share, ">= 35 % P, 55 %", 35, 55)
    yield Cell("the same against torch CSR by hand", f"{b / a:.1f}x", b / a, ">= 2x", 2)
    yield Cell("the same against torch masked dense", f"{c / a:.1f}x", c / a, ">= 8x", 8)


def train_adam(seconds):
    net = sparse(1024, 4)
    x, goal = minibatch(net)
    made = TrainStep(net.graph, "mse", "adam", params=net.params)
    timed, _ = bench.interleaved([lambda: made.step(x, goal, LR), lambda: made.update(128, LR)],
                                 seconds)
    whole, update = [median(t) for t in timed]
    share = 100 * update / whole
    yield Cell("Adam's share of that step", f"{share:.0f} % of {1e3 * whole:.2f} ms", share,
               "<= 20 %, 10 %", 20, 10, below=True)


def train_dense(seconds):
    (a, b), _, share = stepped(dense(784, 300, 100, 10), ("dense",), seconds)
    yield Cell("training step, dense 784-300-100-10, batch 128, SGD",
               f"{b / a:.2f}x torch by hand, {100 * share:.0f} % P", b / a, ">= 1x, 1.5x", 1, 1.5)


LOADS = """import os, sys, time
import ncc

def held(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) * 1024

before = held("VmRSS")
began = time.perf_counter()
net = ncc.load(sys.argv[1])
fn = ncc.compile(net, cache=False)
took = time.perf_counter() - began
print(net.n_edges, took, (held("VmHWM") - before - os.path.getsize(sys.argv[1])) / net.n_edges)
"""


def callable_of(edges, goal, stretch):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.nal")
        path.write_text(random_layers([1024] * (edges // (32 * 1024) + 2), 32, 1))
        # A process of its own, so that its peak memory is this compile's.
        out = subprocess.run([sys.executable, "-c", LOADS, str(path)], capture_output=True,
                             text=True, check=True).stdout.split()
    count, took, bytes_ = int(out[0]), float(out[1]), float(out[2])
    yield Cell(f"file to callable, {count:,} edges", f"{took:.2f} s", took,
               f"<= {goal} s, {stretch} s", goal, stretch, below=True)
    yield Cell("peak memory of that compile, above the file", f"{bytes_:.0f} B an edge", bytes_,
               "<= 40 B, 24 B", 40, 24, below=True)


def callable_4m(seconds):
    yield from callable_of(4_000_000, 5, 2)


def callable_10m(seconds):
    yield from callable_of(10_000_000, 15, 6)


ROWS = {f.__name__.replace("_", "-"): f for f in (
    radix, sparse_256, sparse_1024, dense_512, dense_784, one_dense, one_tagger, one_sparse,
    one_irregular, python_call, threads, graph_challenge, train_sparse, train_adam, train_dense,
    callable_4m, callable_10m)}


def main(rows=ROWS, what=__doc__):
    parser = argparse.ArgumentParser(description=what.splitlines()[0])
    parser.add_argument("--rows", metavar="LIST", help=",".join(rows))
    parser.add_argument("--seconds", type=float, default=3.0, help="that each row measures for")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(rows))
        return
    chosen = arguments.rows.split(",") if arguments.rows else list(rows)
    for name in chosen:
        if name not in rows:
            parser.error(f"no row {name}: one of {', '.join(rows)}")
    began = time.perf_counter()
    print(f"FMA peak of one core before the rows: {peak.calibrate().best:.1f} GFMA/s (f32)\n")
    print("| what | measured | target, stretch | met |\n| --- | --- | --- | --- |")
    failed = False
    for name in chosen:
        try:
            for cell in rows[name](arguments.seconds):
                print(f"| {cell.what} | {cell.measured} | {cell.target} | {cell.met()} |",
                      flush=True)
        except Missing as missing:
            print(f"| {name} | wants {missing} | | |", flush=True)
        except Exception as fault:  # one row's, which the others outlive
            failed = True
            print(f"| {name} | failed: {type(fault).__name__}: {fault} | | no |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s in all")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
