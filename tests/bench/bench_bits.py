"""Whether gradients and training have one answer everywhere: python tests/bench/bench_bits.py

Random nets, each with its samples by a seed: `y`, `dx`, `dparams` and steps of training, compared
bit for bit (but for the payloads of NaN) with the graph's own, in the order of
ncc/scalar/sum_order.py. A net is compiled for each target in another form (straight, table, shared,
table that computes again, and what ncc chooses itself), so that five nets in a row have every
target in every form, and `--full` means all forms for each. Calls are of one sample, of batches of
1, 3, 17, 128 and 300, of whole chunks one after another, of ragged pieces where only `dx` is asked
for, and in two threads; steps of training are of a loss and an optimizer each. So are, on a part of
the nets, `fn.vjp` and the `Trainer` behind `ncc.fit`, with frozen parameters, in one thread and in
two.

x86-64-v2 has no fused multiply-add: there, and on a third of the nets, numerics are strict. Objects
for aarch64 and rv64 run in qemu, 25 nets a process. A fault ends with the smallest net that has it,
and the command that shows it; status 1. `--nets N --seed S` are nets S .. S+N-1.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parents[1])]
import compile_nets  # noqa: E402
from compile_nets import AGGREGATIONS, FUNCTIONS, NAMES, Text, scaled  # noqa: E402
from nets import some_net, to_nal  # noqa: E402

import ncc  # noqa: E402
from ncc.driver.compiler import Build  # noqa: E402
from ncc.driver.pipeline import AFTER_ORDER  # noqa: E402
from ncc.driver.settings import Settings, options  # noqa: E402
from ncc.ir import graph_run  # noqa: E402
from ncc.ir.graph import Graph  # noqa: E402
from ncc.ir.ssa import DTYPES  # noqa: E402
from ncc.machine import native as library  # noqa: E402
from ncc.machine.cache import Entry  # noqa: E402
from ncc.machine.llvm import host, target  # noqa: E402
from ncc.machine.native import Library  # noqa: E402
from ncc.machine.targets import Target  # noqa: E402
from ncc.passes.graph.merge import merge  # noqa: E402
from ncc.passes.graph.prune import prune  # noqa: E402
from ncc.runtime.compiled import Compiled  # noqa: E402
from ncc.scalar import losses, optimizers  # noqa: E402
from ncc.scalar import sum_order as sums  # noqa: E402
from ncc.scalar.numpy_eval import Numpy  # noqa: E402
from ncc.training.freeze import freeze  # noqa: E402
from ncc.training.step import TrainStep  # noqa: E402

ROWS = 300  # samples of a net
TOGETHER = 25  # nets of a process of the emulator
RATE = 0.05
EFFORTS = (0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1)  # of LLVM, which are slow; a prime number of them
LONG = 1_000_000  # bytes of LLVM text, above which it is compiled without optimisation
SHRINKING = 120.0  # seconds
BACKWARD, BACKWARD_BATCH, STEP, STEP_BATCH, FORWARD, FORWARD_BATCH = KINDS = (
    "backward", "backward_batch", "train_step", "train_step_batch", "forward", "forward_batch")
VALUES = (FORWARD, FORWARD_BATCH)
LOSSES = ("mse", "ce", "huber:delta=0.5", "bce", "mae")
OPTIMIZERS = ("adam", "sgd:momentum=0.9:nesterov=1", "rmsprop:centered=1", "sgd", "adamw",
              "adam:amsgrad=1:weight_decay=0.01", "rmsprop:momentum=0.5")


# ---- where


class Place(NamedTuple):
    """A target by its short name; the compiler and the emulator, where it needs one."""

    name: str
    target: Target
    tools: tuple[str, ...] = ()

    @property
    def absent(self) -> str:
        """Why nothing can run there; empty where it can."""
        if self.tools:
            return " ".join([f"no {tool}" for tool in self.tools if shutil.which(tool) is None])
        here = host()
        if not here.triple.startswith("x86_64"):
            return "needs an x86-64 machine"
        if self.target.vector_bits > here.vector_bits or (self.target.fma and not here.fma):
            return f"needs an {self.target.cpu} machine"
        return ""


PLACES = {p.name: p for p in (
    Place("v2", target("x86-64", "x86-64-v2")),
    Place("v3", target("x86-64-v3")),
    Place("v4", target("x86-64-v4")),
    Place("aarch64", target("aarch64"), ("aarch64-linux-gnu-gcc", "qemu-aarch64")),
    Place("rv64", target("rv64gc"), ("riscv64-linux-gnu-gcc", "qemu-riscv64")),
)}
TABLE = {"form": "table", "batch_form": "table", "backward_form": "table"}
FORMS: dict[str, dict[str, Any]] = {
    "straight": {"form": "straight", "batch_form": "straight", "backward_form": "straight"},
    "table": TABLE,
    "shared": {"form": "shared", "batch_form": "shared", "backward_form": "table"},
    "recompute": {**TABLE, "recompute": 500},
    "auto": {},
}


class Way(NamedTuple):
    """A target, a form and an effort; with `training`, of a step, else of gradients."""

    place: Place
    form: str
    opt: int
    training: bool = False

    def __str__(self) -> str:
        return f"{self.place.name}, {self.form}, -O{self.opt}" + ", training" * self.training


def ways(seed: int, places: Iterable[Place], full: bool = False) -> Iterator[Way]:
    """Of a net, by its seed: each target in another form, steps of training on one of them."""
    names = [*FORMS]
    every = [*PLACES.values()]
    for place in places:
        k = every.index(place)
        for shift in range(len(names) if full else 1):
            form = names[(seed + k + shift) % len(names)]
            turn = seed // len(names)
            yield Way(place, form, EFFORTS[(turn + k) % len(EFFORTS)])
            if full or (turn + k) % len(every) == 0:
                yield Way(place, form, EFFORTS[turn % len(EFFORTS)], True)


# ---- nets


def text_of(seed: int) -> str:
    """A net of 2 to 400 neurons, most of them of at most 16, one of 64 of 100 and more: every
    activation and aggregation, ties, constants, rows without readers, in-lists of their own, dense
    ones and such as many rows share."""
    rng = random.Random(seed)
    kind = seed % 8
    if seed % 64 == 63:
        return blocks(rng, rng.randint(100, 400))
    neurons = rng.randint(2, 16) if rng.random() < 0.75 else rng.randint(10, 60)
    if kind == 1:
        neurons += 12  # its inputs and outputs
        return compile_nets.neat(neurons, rng.randint(neurons, 3 * neurons), rng.randint(2, 8),
                                 seed)
    if kind == 2:
        return compile_nets.mixture(seed, 3 * neurons)
    if kind in (5, 7):
        return blocks(rng, neurons)
    return to_nal(some_net(seed, max_neurons=neurons, max_fan_in=rng.choice((3, 5, 9, 16))))


def blocks(rng: random.Random, neurons: int) -> str:
    """Groups of rows, each of one in-list, of all of the last group, or of in-lists of its own."""
    text = Text(FUNCTIONS[:4])
    quiet = [a for a in NAMES if a not in ("exp", "log", "square", "cube", "sqrt", "rsqrt",
                                           "recip")]
    custom = [f"{0x20 + k:x}" for k in range(4)]
    last = text.inputs(rng.randint(1, 24))
    seen = [*last]

    def number() -> str:
        drawn = rng.random()
        return (f"@k{rng.randrange(5)}" if drawn < 0.1 else ":=" + rng.choice(
            ["0.5", "1", "-1", "0", "0.3"]) if drawn < 0.2 else "")

    neurons = max(neurons, len(seen) + 1)
    while text.n < neurons:
        width = rng.choice((1, 2, 3, 8, 16, 17, 20, 33))
        kind = rng.choice(("shared", "dense", "own"))
        mixed = rng.random() < 0.3
        some = rng.random() < 0.3  # ties and constants
        choice = rng.choice
        activation = choice(NAMES if rng.random() < 0.15 else quiet + custom)
        aggregation = choice(AGGREGATIONS) if rng.random() < 0.4 else "sum"
        shared = sorted(rng.sample(seen, min(len(seen), rng.randint(1, 40))))
        shared = last if kind == "dense" else shared
        group = []
        for _ in range(width):
            if mixed:
                activation, aggregation = choice(quiet), choice(AGGREGATIONS)
            sources = shared
            if kind == "own":
                sources = rng.sample(seen, min(len(seen), rng.randint(0, 9)))
            if aggregation == "mul":
                sources = sources[:6]
            values: list[object] = [(some and number()) or w
                                    for w in scaled(rng, max(1, len(sources)))]
            bias: object = rng.choice(("", f"{rng.gauss(0, 0.5):.3f}"))
            if some and rng.random() < 0.3 or not sources:
                bias = number().lstrip(":") or "0.25"
            group.append(text.neuron(activation, sources, values[:len(sources)], bias,
                                     aggregation))
        seen += group
        last = group
    if rng.random() < 0.5:
        text.out(rng.sample(seen, min(len(seen), rng.randint(1, 5))))
    return str(text)


class Call(NamedTuple):
    """A call of a function for the samples first .. last; `dx` (of values: y) and `dparams`:
    whether they are wanted; `fresh`: what there is in dparams before it is the start again, not the
    last sums."""

    kind: str
    first: int
    last: int
    dx: bool = True
    dparams: bool = True
    fresh: bool = True


GRADIENTS = (
    *[Call(FORWARD, k, k + 1, dparams=False) for k in (7, 299)],
    *[Call(FORWARD_BATCH, *part, dparams=False) for part in ((0, 300), (10, 27))],
    *[Call(BACKWARD, k, k + 1) for k in (7, 299)],
    Call(BACKWARD, 7, 8, dx=False), Call(BACKWARD, 7, 8, dparams=False),
    *[Call(BACKWARD_BATCH, *part) for part in ((299, 300), (5, 8), (10, 27), (0, 128), (0, 300))],
    Call(BACKWARD_BATCH, 0, 128), Call(BACKWARD_BATCH, 128, 256, fresh=False),
    Call(BACKWARD_BATCH, 256, 300, fresh=False),
    Call(BACKWARD_BATCH, 0, 128), Call(BACKWARD_BATCH, 128, 300, fresh=False),
    *[Call(BACKWARD_BATCH, *part, dparams=False)
      for part in ((0, 1), (1, 4), (4, 21), (21, 150), (150, 300))],
    Call(BACKWARD_BATCH, 0, 300, dx=False), Call(BACKWARD_BATCH, 5, 8, dx=False),
)
# Pullbacks of `fn.vjp`.
PULLED = (Call(BACKWARD_BATCH, 0, 300), Call(BACKWARD_BATCH, 10, 27), Call(BACKWARD, 7, 8))
# Three, each from where the last one ended.
STEPS = (Call(STEP_BATCH, 0, 140), Call(STEP, 7, 8), Call(STEP_BATCH, 140, 157))


def chunks(call: Call) -> list[tuple[int, int]]:
    """The parts of a call's samples that are summed up by themselves."""
    return [(first, min(call.last, first + sums.CHUNK))
            for first in range(call.first, call.last, sums.CHUNK)]


def pruned(graph: Graph) -> Graph:
    """The graph whose order the sums of its gradients have."""
    return prune(merge(graph))


class Case:
    """A net and what it is asked; `wanted` by the graph. All arrays are of the dtype."""

    def __init__(self, text: str, seed: int, dtype: str = "", numerics: str = "") -> None:
        self.text, self.seed = text, seed
        # Drawn, so that no form or target has always the same.
        draw = random.Random(seed)
        self.dtype = dtype or draw.choices(("f32", "f64"), (6, 1))[0]
        self.numerics = numerics or draw.choices(("fused", "strict"), (2, 1))[0]
        self.loss, self.optimizer = draw.choice(LOSSES), draw.choice(OPTIMIZERS)
        self.graph = graph = ncc.parse(text).graph
        self.real = real = DTYPES[self.dtype]
        rng = np.random.default_rng(seed)
        self.x = rng.uniform(-2, 2, (ROWS, len(graph.inputs))).astype(real)
        if draw.random() < 0.2 and self.x.size:  # what one sample overflows, others do not see
            self.x[299, rng.integers(self.x.shape[1])] = np.inf
            self.x[5, 0] = 0.0
        self.dy = rng.standard_normal((ROWS, len(graph.outputs))).astype(real)
        values = np.where(np.isnan(graph.values), rng.uniform(-0.5, 0.5, graph.n_params),
                          graph.values)
        self.params = values.astype(real)
        self.start = rng.standard_normal(graph.n_params).astype(real)
        if len(graph.outputs) < 2 and self.loss == "ce":
            self.loss = "mse"
        of = losses.parse(self.loss)
        self.n_targets = losses.targets(of, len(graph.outputs))
        self.target = (rng.integers(0, len(graph.outputs), (ROWS, 1)).astype(real)
                       if self.loss == "ce" else rng.random((ROWS, self.n_targets)).astype(real))
        self.frozen = rng.random(graph.n_params) < 0.3
        self._wanted: dict[tuple[bool, str], list[np.ndarray]] = {}
        self._parts: dict[str, tuple[np.ndarray, np.ndarray, dict[tuple[int, int],
                                                                  np.ndarray]]] = {}

    def numerics_of(self, aim: Target) -> str:
        return self.numerics if self.dtype in aim.fma else "strict"

    def wanted(self, training: bool, numerics: str) -> list[np.ndarray]:
        """What each of GRADIENTS or of STEPS leaves behind, one array after another."""
        key = training, numerics
        if key not in self._wanted:
            with np.errstate(all="ignore"):
                self._wanted[key] = (self.steps(self.graph, self.params, numerics, True)
                                     if training else self._gradients(numerics))
        return self._wanted[key]

    def parts(self, numerics: str) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int],
                                                                         np.ndarray]]:
        """y and dx of all samples, and the sums dparams of each part of the samples that some call
        needs, at most a chunk each; by the graph as `prune` leaves it, in one backward pass."""
        if numerics not in self._parts:
            parts = sorted({part for call in (*GRADIENTS, *PULLED) for part in chunks(call)})
            graph = pruned(self.graph)
            with np.errstate(all="ignore"):
                e, samples, table = graph_run.arguments(
                    graph, self.x, self.params.astype(np.float64), self.dtype, numerics)
                work, totals = graph_run.forward(graph, samples, table, e)
                dx, dparams = graph_run.Reverse(graph, table, e, work, totals,
                                                parts).by_parts(self.dy)
            self._parts[numerics] = (work[graph.outputs].T.copy(), dx,
                                     dict(zip(parts, dparams, strict=True)))
        return self._parts[numerics]

    def summed(self, numerics: str, call: Call, start: np.ndarray) -> np.ndarray:
        """dparams of a call: the chunks' sums, added to what there is."""
        for part in chunks(call):
            start = start + self.parts(numerics)[2][part]
        return start

    def _gradients(self, numerics: str) -> list[np.ndarray]:
        y, dx, _ = self.parts(numerics)
        out = []
        held = self.start
        for call in GRADIENTS:
            if call.dx:
                out.append((y if call.kind in VALUES else dx)[call.first : call.last])
            if call.dparams:
                held = self.summed(numerics, call, self.start if call.fresh else held)
                out.append(held)
        return out

    def steps(self, graph: Graph, params: np.ndarray, numerics: str, whole: bool
               ) -> list[np.ndarray]:
        """Of each step params and state; `whole`: its mean loss stands before the state."""
        e = Numpy(self.dtype, numerics != "strict")
        optimizer = optimizers.parse(self.optimizer)
        state = np.zeros(optimizers.state_size(optimizer, graph.n_params), self.real)
        out = []
        for call in STEPS:
            if not whole and call.kind == STEP:
                continue
            x, target = self.x[call.first : call.last], self.target[call.first : call.last]
            y = graph.run(x, params.astype(np.float64), self.dtype, numerics)
            loss, dy = self._loss(e, y, target)
            dparams = pruned(graph).gradient(x, dy, params.astype(np.float64), self.dtype,
                                             numerics)[1]
            total = e.const(0.0)
            for first in range(0, len(x), sums.CHUNK):
                some = loss[first : first + sums.CHUNK]
                total = e.op("add", total, sums.by_lanes(e, some, np.ones_like(some),
                                                         e.const(0.0)))
            scale = e.const(1.0 / losses.scale(losses.parse(self.loss), y.shape[1]))
            if call.kind == STEP_BATCH:
                scale = e.op("div", scale, e.const(float(len(x))))
            params, state = self._update(e, optimizer, params, state, e.op("mul", dparams, scale))
            mean = np.array([e.op("mul", total, scale)], self.real)
            out += [params, np.concatenate([mean, state]) if whole else state]
        return out

    def _loss(self, e: Numpy, y: np.ndarray, target: np.ndarray
              ) -> tuple[np.ndarray, np.ndarray]:
        """The loss (n,) of each sample and its slopes (n, n_outputs)."""
        loss, columns = losses.parse(self.loss), list(y.T)
        total = np.zeros(len(y), self.real)
        if loss.name != "ce":
            slopes = []
            for value, wanted in zip(columns, target.T, strict=True):
                value, slope = losses.element(e, loss, value, wanted)
                total = e.op("add", total, value)
                slopes.append(slope)
            return total, np.stack(slopes, 1)
        label = target[:, 0]
        top = chosen = columns[0]
        numbers = [e.const(float(k)) for k in range(len(columns))]
        for value, k in zip(columns[1:], numbers[1:], strict=True):
            top = losses.ce_top(e, top, value)
            chosen = losses.ce_gather(e, chosen, value, k, label)
        terms = [losses.ce_term(e, value, top) for value in columns]
        for term in terms:
            total = e.op("add", total, term)
        slopes = [losses.ce_derivative(e, term, total, k, label)
                  for term, k in zip(terms, numbers, strict=True)]
        return losses.ce_loss(e, total, top, chosen), np.stack(slopes, 1)

    def _update(self, e: Numpy, optimizer: optimizers.Optimizer, params: np.ndarray,
                state: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scalars, rest = np.split(state, [optimizer.scalars])
        kept, shared = optimizers.begin(e, optimizer, list(scalars), e.const(RATE))
        slots = list(rest.reshape(optimizer.slots, len(params)))
        moved, slots_after = optimizers.element(e, optimizer, params, g, slots, shared)
        return moved, np.concatenate([np.array(kept, self.real), *slots_after])

    def build(self, way: Way, name: str = "net") -> Entry:
        """The object of a way."""
        aim = way.place.target
        more = {"loss": self.loss, "optimizer": self.optimizer, "vjp": False} if way.training \
            else {}
        chosen = options(aim, dtype=self.dtype, numerics=self.numerics_of(aim), name=name,
                         gradient=True, limit=False, **more, **FORMS[way.form])
        made = Build(self.graph, aim, chosen, way.opt, None, AFTER_ORDER)
        if way.opt and len(made.llvm) > LONG:
            made = Build(self.graph, aim, chosen, 0, None, AFTER_ORDER)
        return made.made


def parts_of(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[k : k + size] for k in range(0, len(items), size)]


def labels(training: bool) -> list[str]:
    """What the arrays of `Case.wanted` are."""
    out = []
    for call in STEPS if training else GRADIENTS:
        parts = (("params", True), ("state", True)) if training else (
            ("y" if call.kind in VALUES else "dx", call.dx), ("dparams", call.dparams))
        out += [f"{what} of {call.kind} {call.first}:{call.last}" for what, is_ in parts if is_]
    return out


def apart(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], names: Sequence[str]) -> str:
    """The first difference, in words; empty where all bits are equal, NaN payloads aside."""
    for a, b, name in zip(found, wanted, names, strict=True):
        a, b = np.ravel(a), np.ravel(b)
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"{name}: {a.dtype} {a.shape}, not {b.dtype} {b.shape}"
        word = f"u{a.itemsize}"
        equal = (a.view(word) == b.view(word)) | (np.isnan(a) & np.isnan(b))
        if not equal.all():
            k = int(np.flatnonzero(~equal)[0])
            return f"{name}: [{k}] is {a[k]!r}, not {b[k]!r}; {int((~equal).sum())} of {len(a)}"
    return ""


# ---- on this machine


def here(case: Case, entry: Entry, training: bool) -> list[np.ndarray]:
    """What the calls leave behind, by an object for this machine."""
    held = Library(entry, case.dtype)
    real = case.real

    def at(array: np.ndarray | None) -> int | None:
        return None if array is None else array.ctypes.data

    params, out = case.params.copy(), []
    packed = held.pack(params)
    sums_so_far = case.start.copy()
    if training:
        state = np.zeros(held.functions[STEP].buffers["state"], real)
    for call in STEPS if training else GRADIENTS:
        work = held.work(call.kind)
        work[:] = np.nan
        x = case.x[call.first : call.last].copy()
        count = (len(x),) if call.kind.endswith("batch") else ()
        if training:
            target = case.target[call.first : call.last].copy()
            held.calls[call.kind](*count, at(x), at(target), at(params), at(packed), at(state),
                                  RATE, at(work))
            out += [params.copy(), state.copy()]
            continue
        dy = case.dy[call.first : call.last].copy()
        if call.kind in VALUES:
            y = np.full_like(dy, np.nan)
            held.calls[call.kind](*count, at(x), at(packed), at(y), at(work))
            out.append(y)
            continue
        if call.fresh:
            sums_so_far = case.start.copy()
        moved = np.full(x.shape, np.nan, real)
        held.calls[call.kind](*count, at(x), at(packed), at(dy), at(moved) if call.dx else None,
                              at(sums_so_far) if call.dparams else None, at(work))
        out += [moved] * call.dx + [sums_so_far.copy()] * call.dparams
    return out


def threaded(case: Case, entry: Entry, numerics: str) -> str:
    """The difference that two threads make to a batch's gradient."""
    held = Library(entry, case.dtype)
    names = labels(False)
    wanted = case.wanted(False, numerics)
    places = [names.index(f"{what} of {BACKWARD_BATCH} 0:300") for what in ("dx", "dparams")]
    dx, dparams = np.full_like(case.x, np.nan), case.start.copy()
    library.backward(held, case.x, held.pack(case.params), case.dy, dx, dparams, 2)
    return apart([dx, dparams], [wanted[k] for k in places], ["dx", "dparams"])


Compared = tuple[np.ndarray, np.ndarray, str]  # what was found, what is wanted, and its name


def pulled(case: Case) -> Iterator[Compared]:
    """What `fn.vjp` gives, in one or two threads: of several pullbacks that live at once, each
    called twice, and of a single sample."""
    numerics, zeros = case.numerics_of(host()), np.zeros_like(case.start)
    values, dx, _ = case.parts(numerics)
    form = FORMS[[*FORMS][case.seed // 4 % len(FORMS)]]
    fn = Compiled(case.graph, case.params, dtype=case.dtype, numerics=numerics,
                  passes={**form, "limit": False}, cache=False, opt=case.seed // len(HERE_TOO) % 2)
    parts = [slice(c.first, c.last) if c.kind == BACKWARD_BATCH else c.first for c in PULLED]
    for threads in (1, 2):
        fn.threads = threads
        made = [fn.vjp(case.x[part]) for part in parts]
        for call, part, (y, pullback) in reversed([*zip(PULLED, parts, made, strict=True)]):
            wanted = [values[part], dx[part], case.summed(numerics, call, zeros)]
            for again in ("", ", again"):
                names = [f"{what} of {call.first}:{call.last}, {threads} threads{again}"
                         for what in ("y", "dx", "dparams")]
                yield from zip([y, *pullback(case.dy[part])], wanted, names, strict=True)


def trained(case: Case) -> Iterator[Compared]:
    """What the steps of a `Trainer` give, in one or two threads; of every other net a part of the
    parameters is frozen."""
    seed = case.seed // 4
    frozen = case.frozen if seed % 2 else np.zeros_like(case.frozen)
    graph = freeze(case.graph, frozen, case.params.astype(np.float64))
    numerics = case.numerics_of(host())
    with np.errstate(all="ignore"):
        wanted = case.steps(graph, case.params[~frozen], numerics, False)
    form = {} if seed % 3 == 0 else FORMS[("straight", "table")[seed % 2]]
    for threads in (1, 2):
        trainer = TrainStep(case.graph, case.loss, case.optimizer, threads=threads, frozen=frozen,
                          params=case.params.astype(np.float64), settings=Settings(
                              case.dtype, numerics, seed % 2, cache=False, passes=form))
        found = []
        for call in STEPS:
            if call.kind == STEP_BATCH:
                trainer.step(case.x[call.first : call.last], case.target[call.first : call.last],
                             RATE)
                found += [trainer.params[~frozen].astype(case.real), trainer.state]
        names = [f"{what}, step {k}, {threads} threads" for k in (1, 2)
                 for what in ("params", "state")]
        yield from zip(found, wanted, names, strict=True)


# What this machine is asked by Python: on one net of HERE_EACH each, unless all is asked for.
HERE_EACH = 12
HERE_TOO: dict[str, Callable[[Case], Iterator[Compared]]] = {
    "host, vjp": pulled, "host, Trainer": trained}


# ---- in an emulator

DRIVER = r"""
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct net {
    size_t real, inputs, outputs, params, packed, targets, state, work, calls;
    void (*pack)(const void *, void *);
    void (*backward)(const void *, const void *, const void *, void *, void *, void *);
    void (*backward_batch)(size_t, const void *, const void *, const void *, void *, void *,
                           void *);
    void (*step)(void);
    void (*step_batch)(void);
    void (*forward)(const void *, const void *, void *, void *);
    void (*forward_batch)(size_t, const void *, const void *, void *, void *);
};
typedef void step_f(const void *, const void *, void *, void *, void *, float, void *);
typedef void step_d(const void *, const void *, void *, void *, void *, double, void *);
typedef void steps_f(size_t, const void *, const void *, void *, void *, void *, float, void *);
typedef void steps_d(size_t, const void *, const void *, void *, void *, void *, double, void *);

#include "nets.h"

static FILE *from, *to;

static char *room(size_t size)
{
    char *p = aligned_alloc(64, (size + 127) / 64 * 64);
    if (!p)
        exit(9);
    return p;
}

static char *get(size_t size)
{
    char *p = room(size);
    if (size && fread(p, 1, size, from) != size)
        exit(8);
    return p;
}

static void put(const void *p, size_t size)
{
    if (size && fwrite(p, 1, size, to) != size)
        exit(7);
}

static void gradient(const struct net *n, const int *c, const char *x, const char *packed,
                     const char *dy, char *dx, char *sums, const char *start, char *work)
{
    const size_t first = (size_t)c[1], count = (size_t)(c[2] - c[1]);
    const char *at = x + first * n->inputs * n->real, *dyat = dy + first * n->outputs * n->real;
    const size_t all = n->params * n->real, rows = count * n->inputs * n->real;
    if (c[5])
        memcpy(sums, start, all);
    memset(dx, 0xFF, rows);
    if (c[0] == 0)
        n->backward(at, packed, dyat, c[3] ? dx : NULL, c[4] ? sums : NULL, work);
    else
        n->backward_batch(count, at, packed, dyat, c[3] ? dx : NULL, c[4] ? sums : NULL, work);
    if (c[3])
        put(dx, rows);
    if (c[4])
        put(sums, all);
}

static void values(const struct net *n, const int *c, const char *x, const char *packed, char *y,
                   char *work)
{
    const size_t first = (size_t)c[1], count = (size_t)(c[2] - c[1]);
    const size_t rows = count * n->outputs * n->real;
    memset(y, 0xFF, rows);
    if (c[0] == 4)
        n->forward(x + first * n->inputs * n->real, packed, y, work);
    else
        n->forward_batch(count, x + first * n->inputs * n->real, packed, y, work);
    put(y, rows);
}

static void train(const struct net *n, const int *c, const char *x, const char *target,
                  char *params, char *packed, char *state, char *work)
{
    const size_t first = (size_t)c[1], count = (size_t)(c[2] - c[1]);
    const char *at = x + first * n->inputs * n->real, *aim = target + first * n->targets * n->real;
    if (c[0] == 2 && n->real == sizeof(float))
        ((step_f *)n->step)(at, aim, params, packed, state, (float)RATE, work);
    else if (c[0] == 2)
        ((step_d *)n->step)(at, aim, params, packed, state, RATE, work);
    else if (n->real == sizeof(float))
        ((steps_f *)n->step_batch)(count, at, aim, params, packed, state, (float)RATE, work);
    else
        ((steps_d *)n->step_batch)(count, at, aim, params, packed, state, RATE, work);
    put(params, n->params * n->real);
    put(state, n->state * n->real);
}

int main(int count, char **arguments)
{
    size_t j, k;
    if (count != 3 || !(from = fopen(arguments[1], "rb")) || !(to = fopen(arguments[2], "wb")))
        return 6;
    for (j = 0; j < sizeof nets / sizeof *nets; j++) {
        const struct net *n = nets + j;
        int *calls = (int *)get(n->calls * 6 * sizeof(int));
        char *params = get(n->params * n->real), *start = get(n->params * n->real);
        char *x = get(ROWS * n->inputs * n->real), *dy = get(ROWS * n->outputs * n->real);
        char *target = get(ROWS * n->targets * n->real);
        char *packed = room(n->packed * n->real), *state = room(n->state * n->real);
        char *work = room(n->work * n->real), *sums = room(n->params * n->real);
        char *dx = room(ROWS * n->inputs * n->real), *y = room(ROWS * n->outputs * n->real);
        memset(state, 0, n->state * n->real);
        n->pack(params, packed);
        for (k = 0; k < n->calls; k++) {
            memset(work, 0xFF, n->work * n->real);
            if (calls[6 * k] < 2)
                gradient(n, calls + 6 * k, x, packed, dy, dx, sums, start, work);
            else if (calls[6 * k] > 3)
                values(n, calls + 6 * k, x, packed, y, work);
            else
                train(n, calls + 6 * k, x, target, params, packed, state, work);
        }
        free(calls), free(params), free(start), free(x), free(dy), free(target), free(packed);
        free(state), free(work), free(sums), free(dx), free(y);
    }
    return fclose(to) != 0;
}
"""


class Pending(NamedTuple):
    """An object that waits for the emulator."""

    case: Case
    way: Way
    entry: Entry

    def row(self, name: str) -> str:
        """Its entry of the driver's list of nets."""
        functions, c = self.entry.facts["functions"], self.case
        sizes = [np.dtype(c.real).itemsize, c.x.shape[1], c.dy.shape[1], len(c.params),
                 functions["pack"][1]["packed"], c.n_targets,
                 functions[STEP][1]["state"] if self.way.training else 0,
                 max(work for _, _, work in functions.values()),
                 len(STEPS if self.way.training else GRADIENTS)]
        calls = [f"{name}_{kind}" if (kind in (STEP, STEP_BATCH)) == self.way.training else "NULL"
                 for kind in KINDS]
        return "{" + ", ".join([*map(str, sizes), f"{name}_pack", *calls]) + "}"

    def declared(self, name: str) -> str:
        x, to = "const void *", "void *"
        if self.way.training:
            calls = {STEP: "void", STEP_BATCH: "void"}
        else:
            calls = {BACKWARD: ", ".join([x, x, x, to, to, to])}
            calls[BACKWARD_BATCH] = "size_t, " + calls[BACKWARD]
            calls[FORWARD] = ", ".join([x, x, to, to])
            calls[FORWARD_BATCH] = "size_t, " + calls[FORWARD]
        calls["pack"] = f"{x}, {to}"
        return "".join([f"void {name}_{kind}({what});\n" for kind, what in calls.items()])

    def data(self) -> bytes:
        c = self.case
        calls = np.array([(KINDS.index(call.kind), *call[1:])
                          for call in (STEPS if self.way.training else GRADIENTS)], np.int32)
        return b"".join([a.tobytes() for a in (calls, c.params, c.start, c.x, c.dy, c.target)])


class Failed(Exception):
    """The emulator's program ended otherwise than well."""


def emulated(place: Place, pending: Sequence[Pending], names: Sequence[str]
             ) -> list[list[np.ndarray]]:
    """What the calls of several objects, whose prefixes are `names`, leave behind."""
    compiler, emulator = place.tools
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        head = f"enum {{ ROWS = {ROWS} }};\n#define RATE {RATE}\n"
        for name, p in zip(names, pending, strict=True):
            (top / f"{name}.o").write_bytes(p.entry.code)
            head += p.declared(name)
        rows = ",\n".join([p.row(name) for name, p in zip(names, pending, strict=True)])
        (top / "nets.h").write_text(f"{head}static const struct net nets[] = {{\n{rows}\n}};\n")
        (top / "data.bin").write_bytes(b"".join([p.data() for p in pending]))
        (top / "driver.c").write_text(DRIVER)
        done = subprocess.run([compiler, "-O1", "-static", "driver.c",
                               *[f"{name}.o" for name in names], "-o", "driver"], cwd=top,
                              capture_output=True, text=True)
        if done.returncode:
            raise Failed(done.stderr)
        done = subprocess.run([emulator, "driver", "data.bin", "out.bin"], cwd=top,
                              capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"{emulator}: status {done.returncode} {done.stderr[-500:]}")
        written = (top / "out.bin").read_bytes()
    found, at = [], 0
    for p in pending:
        mine = []
        for array in p.case.wanted(p.way.training, p.case.numerics_of(p.way.place.target)):
            mine.append(np.frombuffer(written, array.dtype, array.size, at))
            at += array.nbytes
        found.append(mine)
    return found


# ---- all of it


class Fault(NamedTuple):
    seed: int
    way: Way | str  # a name of HERE_TOO
    what: str

    @property
    def place(self) -> str:
        return self.way if isinstance(self.way, str) else self.way.place.name

    def __str__(self) -> str:
        return f"net {self.seed}, {self.way}: {self.what}"


class Report:
    """By target: forms, nets, comparisons of numbers, how many were finite; and the faults."""

    def __init__(self) -> None:
        self.forms: dict[str, set[str]] = {}
        self.nets: dict[str, set[int]] = {}
        self.compared: Counter[str] = Counter()
        self.finite: Counter[str] = Counter()
        self.faults: list[Fault] = []

    def add(self, case: Case, name: str, form: str, arrays: Iterable[np.ndarray]) -> None:
        self.forms.setdefault(name, set()).add(form)
        self.nets.setdefault(name, set()).add(case.seed)
        for array in arrays:
            self.compared[name] += array.size
            self.finite[name] += int(np.isfinite(array).sum())

    def join(self, other: Report) -> None:
        for name, forms in other.forms.items():
            self.forms.setdefault(name, set()).update(forms)
            self.nets.setdefault(name, set()).update(other.nets[name])
        self.compared += other.compared
        self.finite += other.finite
        self.faults += other.faults

    def rows(self) -> Iterator[str]:
        yield "| target | forms | nets | comparisons | of them finite | faults |"
        yield "| --- | --- | --: | --: | --: | --: |"
        for name in [n for n in (*PLACES, *HERE_TOO) if n in self.forms]:
            faults = sum(1 for f in self.faults if f.place == name)
            share = self.finite[name] / max(1, self.compared[name])
            yield (f"| {name} | {', '.join(sorted(self.forms[name]))} | "
                   f"{len(self.nets[name]):,} | {self.compared[name]:,} | {share:.0%} | "
                   f"{faults} |")


def caught(check: Callable[[Case], str], case: Case) -> str:
    """What a check says, or fails with: a compiler that fails is a fault, and its net is wanted."""
    try:
        return check(case)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def by(check: Callable[[Case], Iterator[Compared]], case: Case) -> tuple[str, list[np.ndarray]]:
    """The first difference in what is compared, and what was wanted so far."""
    met = []

    def differs(case: Case) -> str:
        for found, wanted, name in check(case):
            met.append(wanted)
            if difference := apart([found], [wanted], [name]):
                return difference
        return ""

    return caught(differs, case), met


def tried(case: Case, way: Way, report: Report, pending: list[Pending]) -> None:
    """One way of one net; an object for another machine is left in `pending`."""
    numerics = case.numerics_of(way.place.target)
    wanted = case.wanted(way.training, numerics)

    def check(case: Case) -> str:
        emulate = bool(way.place.tools)
        entry = case.build(way, f"n{len(pending)}" if emulate else "net")
        if emulate:
            pending.append(Pending(case, way, entry))
            return ""
        difference = apart(here(case, entry, way.training), wanted, labels(way.training))
        return difference or ("" if way.training else threaded(case, entry, numerics))

    waiting = len(pending)
    difference = caught(check, case)
    if len(pending) > waiting:
        return
    report.add(case, way.place.name, way.form, wanted)
    if difference:
        report.faults.append(Fault(case.seed, way, difference))


def settle(place: Place, pending: Sequence[Pending], report: Report,
           names: Sequence[str] | None = None) -> None:
    """Run what was left for an emulator; if that fails, one by one."""
    names = names or [f"n{k}" for k in range(len(pending))]
    if not pending:
        return
    try:
        found = emulated(place, pending, names)
    except Failed as error:
        if len(pending) > 1:
            for p, name in zip(pending, names, strict=True):
                settle(place, [p], report, [name])
            return
        report.faults.append(Fault(pending[0].case.seed, pending[0].way, str(error)))
        return
    for p, arrays in zip(pending, found, strict=True):
        wanted = p.case.wanted(p.way.training, p.case.numerics_of(p.way.place.target))
        report.add(p.case, place.name, p.way.form, wanted)
        if difference := apart(arrays, wanted, labels(p.way.training)):
            report.faults.append(Fault(p.case.seed, p.way, difference))


def examined(cases: Iterable[Case], names: Sequence[str], full: bool = False,
             by_python: bool = True) -> Report:
    """The cases on the targets of these names, as many as can run, and `by_python`."""
    report = Report()
    places = [PLACES[name] for name in names if not PLACES[name].absent]
    pending: dict[str, list[Pending]] = {name: [] for name in names}
    library.PRODUCTS_A_THREAD = 0  # as many threads as are asked for
    for case in cases:
        for way in ways(case.seed, places, full):
            tried(case, way, report, pending[way.place.name])
        for k, (name, check) in enumerate(HERE_TOO.items() if by_python else ()):
            if full or (case.seed + case.seed // 8) % HERE_EACH == k * HERE_EACH // 2:
                difference, met = by(check, case)
                report.add(case, name, "one of them", met)
                if difference:
                    report.faults.append(Fault(case.seed, name, difference))
    for place in places:
        settle(place, pending[place.name], report)
    return report


def by_seeds(seeds: Sequence[int], names: Sequence[str], full: bool) -> Report:
    gc.disable()  # what a compile makes goes by its references: a sixth of the time
    gc.collect()
    return examined([Case(text_of(seed), seed) for seed in seeds], names, full)


# ---- what has a fault, made small


class Rows:
    """A net's text, taken apart: heads, and of each neuron [activation, aggregation], in-list and
    bias; an edge is its source, or the two of a pair, and its weight."""

    def __init__(self, text: str) -> None:
        self.functions, self.out, self.rows = [], [], []
        for line in text.splitlines():
            words = line.split()
            if words[0] == "N":
                continue
            if words[0] == "fn":
                self.functions.append(line)
            elif words[0] == "out":
                self.out = [int(j, 16) for j in words[1].split(",")]
            else:
                bias = words.pop() if words[-1].startswith("+") else ""
                at = 3 if len(words) > 2 and words[2] in AGGREGATIONS else 2
                edges = []
                for edge in words[at].split(",") if len(words) > at else []:
                    source = edge.replace("@", ":").split(":")[0]
                    edges.append((tuple([int(i, 16) for i in source.split("*")]),
                                  edge[len(source):]))
                self.rows.append((words[1:at], edges, bias))
        if not self.out:
            read = {i for _, edges, _ in self.rows for of, _ in edges for i in of}
            self.out = [j for j in range(len(self.rows)) if j not in read]

    def with_(self, out: Iterable[int] | None = None,
              rows: dict[int, Any] | None = None) -> Rows:
        made = object.__new__(Rows)
        made.functions = self.functions
        made.out = self.out if out is None else list(out)
        made.rows = [(rows or {}).get(j, row) for j, row in enumerate(self.rows)]
        return made

    def without_unread(self) -> Rows:
        """Renumbered, without the neurons that no output sees."""
        seen, left = set(), [*self.out]
        while left:
            j = left.pop()
            if j not in seen:
                seen.add(j)
                left += [i for of, _ in self.rows[j][1] for i in of]
        place = {j: k for k, j in enumerate(sorted(seen))}
        made = self.with_([place[j] for j in self.out])
        made.rows = [(head, [(tuple([place[i] for i in of]), w) for of, w in edges], bias)
                     for head, edges, bias in [self.rows[j] for j in sorted(seen)]]
        return made

    def __str__(self) -> str:
        lines = [f"N {len(self.rows):02x}"]
        used = {head[0] for head, _, _ in self.rows if head}
        lines += [line for line in self.functions if line.split()[1] in used]
        lines.append("out " + ",".join([f"{j:02x}" for j in self.out]))
        for j, (head, edges, bias) in enumerate(self.rows):
            listed = ["*".join([f"{i:02x}" for i in of]) + w for of, w in edges]
            words = [f"{j:02x}", *head, ",".join(listed), bias]
            lines.append(" ".join([w for w in words if w]))
        return "\n".join(lines) + "\n"

    def smaller(self) -> Iterator[Rows]:
        """Nets with less in them, those with much less first."""
        yield self.without_unread()
        n = len(self.rows)
        computed = [j for j in range(n) if self.rows[j][1] or self.rows[j][2]]
        size = len(computed) // 2
        while size:
            for part in parts_of(computed, size):
                yield self.with_(rows=dict.fromkeys(part, ([], [], ""))).without_unread()
            size //= 2
        for k in range(len(self.out)):
            if len(self.out) > 1:
                yield self.with_(self.out[:k] + self.out[k + 1 :]).without_unread()
        for j in computed:
            head, edges, bias = self.rows[j]
            if len(head) > 1:
                single = list(dict.fromkeys([of[0] for of, _ in edges]))
                yield self.with_(rows={j: (head[:1], [((i,), ":1") for i in single]
                                           if head[1] == "dot" else edges, bias)})
            if head and head[0] not in ("identity", "00"):
                yield self.with_(rows={j: (["identity", *head[1:]], edges, bias)})
            if bias and edges:
                yield self.with_(rows={j: (head, edges, "")})
            for part in (edges[: len(edges) // 2], edges[len(edges) // 2 :]):
                if part and len(part) < len(edges):
                    yield self.with_(rows={j: (head, part, bias)})
            for k in range(len(edges) if len(edges) > 2 else 0):
                yield self.with_(rows={j: (head, edges[:k] + edges[k + 1 :], bias)})
            if any(w != ":1" for _, w in edges):
                yield self.with_(rows={j: (head, [(i, ":1") for i, _ in edges], bias)})


def shrunk(text: str, fails: Callable[[str], bool], seconds: float = SHRINKING) -> str:
    """The smallest net that still fails, of those met in that time."""
    until = time.monotonic() + seconds
    best = Rows(text)
    again = True
    while again and time.monotonic() < until:
        again = False
        for other in best.smaller():
            if time.monotonic() > until:
                break
            if len(str(other)) < len(str(best)) and fails(str(other)):
                best, again = other, True
                break
    return str(best) if fails(str(best)) else text


def has(fault: Fault, text: str, dtype: str, numerics: str) -> bool:
    """Whether another net has a fault in the same way."""
    try:
        case = Case(text, fault.seed, dtype, numerics)
    except Exception:
        return False
    if isinstance(fault.way, str):
        return bool(by(HERE_TOO[fault.way], case)[0])
    report, pending = Report(), []
    tried(case, fault.way, report, pending)
    settle(fault.way.place, pending, report)
    return bool(report.faults)


def shown(fault: Fault, case: Case) -> str:
    """A fault, the smallest net that has it and the command."""
    text = shrunk(case.text, lambda text: has(fault, text, case.dtype, case.numerics))
    where = "" if isinstance(fault.way, str) else f" --only-target {fault.place}"
    how = f"--seed {fault.seed} --dtype {case.dtype} --numerics {case.numerics}{where}"
    return (f"{fault}\n\n{text}\npython tests/bench/bench_bits.py --nets 1 --full {how}\n"
            f"(or with the net above in a file: --net FILE)")


def spent() -> float:
    """CPU seconds of this process, and of those that it waited for."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first net")
    parser.add_argument("--only-target", default=",".join(PLACES), metavar="LIST",
                        help=",".join(PLACES))
    parser.add_argument("--full", action="store_true", help="every form for every target")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--net", type=Path, help="a file instead of random nets")
    parser.add_argument("--dtype", default="", choices=("f32", "f64"))
    parser.add_argument("--numerics", default="", choices=("strict", "fused"))
    found = parser.parse_args()
    found.names = found.only_target.split(",")
    for name in found.names:
        if name not in PLACES:
            parser.error(f"no target {name}: one of {', '.join(PLACES)}")
    return found


def main() -> None:
    asked = arguments()
    began = time.monotonic()
    report = Report()
    for name in asked.names:
        if reason := PLACES[name].absent:
            print(f"{name} skipped: {reason}")
    seeds = range(asked.seed, asked.seed + asked.nets)

    def case(seed: int) -> Case:
        text = asked.net.read_text() if asked.net else text_of(seed)
        return Case(text, seed, asked.dtype, asked.numerics)

    if asked.net or asked.dtype or asked.numerics:
        seeds = seeds[:1] if asked.net else seeds
        report = examined([case(seed) for seed in seeds], asked.names, asked.full or asked.net)
    else:
        with ProcessPoolExecutor(asked.jobs) as pool:
            parts = parts_of(seeds, TOGETHER)
            done = 0
            map_ = map if asked.jobs == 1 else pool.map
            for part, found in zip(parts, map_(by_seeds, parts, [asked.names] * len(parts),
                                               [asked.full] * len(parts)), strict=True):
                report.join(found)
                done += len(part)
                print(f"{done} nets, {len(report.faults)} faults, {time.monotonic() - began:.0f} s "
                      f"(CPU {spent():.0f}); to go on: --seed {asked.seed + done} "
                      f"--nets {asked.nets - done}", file=sys.stderr, flush=True)
                for fault in found.faults:
                    print(fault, file=sys.stderr, flush=True)
    print("\n".join(report.rows()))
    if report.faults:
        print("\n" + "\n".join(map(str, report.faults[:20])) + "\n")
        print(shown(report.faults[0], case(report.faults[0].seed)))
        sys.exit(1)


if __name__ == "__main__":
    main()
