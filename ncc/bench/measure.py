"""`ncc bench`: a compiled net against other libraries on the same net, samples and machine.

The JSON document (`Report.document`), whose keys stay:

    version     of ncc                      net         the file
    neurons, edges, parameters, inputs, outputs, depth  counts, as `ncc check` prints them
    executed    edges that are left after merge and prune: what the machine code multiplies
    filled      how many parameters --init gave values to, and `init` by which rule (or null)
    dtype, numerics, batch, threads, seconds            as asked for; threads 0 is resolved
    clock       "cpu", the CPU time of the process, where threads is 1; else "wall"
    machine     the CPU, as LLVM names it
    peak        GFMA/s of one core: `narrow` (256 bits at most), `wide` (512 bits, or null), `best`
    rows        one for each contender and way of calling, `ncc` first in each way:
        who         "ncc" or a peer's name
        way         "batch"; "single", one sample from Python; "c-call", one from compiled code
        median, min seconds a call, of the samples below
        samples     seconds a call, one entry a round, in the order of the rounds
        calls       how many calls of a round were timed together
        fmas        multiply-adds it executes in a call, zeros counted where it multiplies them
        gfmas       10^9 of them a second, by the median
        peak        their share of the peak of as many cores as the batch has threads, of one core
                    in the other ways
        times_ncc   median over the median of ncc's row of the same way ("single" for "c-call")
        error       largest difference from ncc's result over the largest result
    absent      peers without a row: `who` and `why`
    refused     peers whose result differs from ncc's: `who`, `why`; they were not timed
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from ncc import __version__
from ncc.bench.dense_layers import Array, Layers, layered, unsuitable
from ncc.bench.peak import Peak, kernels, seconds
from ncc.bench.peer import Contender, Peer, Unable
from ncc.bench.peers import PEERS
from ncc.ir.graph import Graph, refuse_states
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import Loaded, Machine, host
from ncc.runtime.compiled import Compiled

WAYS = ("batch", "single", "c-call")
TOLERANCE = 1e-4  # of a peer's result, relative to the largest output
ROUNDS = (3, 1001)  # at least, whatever they take; at most
LONG = 0.05  # seconds of a call that has time to fill the caches itself
PAUSE = 0.003  # seconds: the threads of OpenMP spin for a while when their work is done
CALLS = 64  # of a net in the loop of way "c-call"
SLICE = 0.005  # seconds of a round that one contender's calls take together, at most


@dataclass(frozen=True)
class Row:
    """One contender called one way; the fields are those of the JSON document."""

    who: str
    way: str
    median: float
    min: float
    samples: tuple[float, ...]
    calls: int
    fmas: int
    gfmas: float
    peak: float
    times_ncc: float
    error: float


@dataclass(frozen=True)
class Report:
    """What was measured. `str` is a table, `document()` goes into a JSON file."""

    facts: Mapping[str, Any]
    peak: Peak
    rows: tuple[Row, ...]
    absent: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]

    def document(self) -> dict[str, Any]:
        listed = {key: [{"who": who, "why": why} for who, why in pairs]
                  for key, pairs in (("absent", self.absent), ("refused", self.refused))}
        return {**self.facts, "peak": self.peak._asdict(),
                "rows": [asdict(row) for row in self.rows], **listed}

    def row(self, who: str, way: str = "batch") -> Row | None:
        return next((r for r in self.rows if r.who == who and r.way == way), None)

    def __str__(self) -> str:
        f = self.facts
        executed = f", {f['executed']:,} executed" if f["executed"] != f["edges"] else ""
        threads = f"{f['threads']} thread{'s' if f['threads'] != 1 else ''}"
        lines = [
            f"{f['net']}: {f['neurons']:,} neurons, {f['edges']:,} edges{executed}, depth "
            f"{f['depth']}; {f['dtype']} {f['numerics']}, {threads}"
            + (f"; {f['filled']:,} parameters by --init {f['init']}" if f["filled"] else ""),
            f"FMA peak of one core, calibrated in this run: {self.peak.best:.1f} GFMA/s "
            f"({f['machine']})"]
        for way, title in (("batch", f"batch of {f['batch']}"), ("single", "one sample")):
            rows = [r for r in self.rows if (r.way == "batch") == (way == "batch")]
            lines += ["", f"{title:<22}{'median':>11}{'min':>11}{'GFMA/s':>9}{'% of peak':>11}"
                      f"{'time/ncc':>10}{'rounds':>8}"]
            for r in rows:
                who = "ncc, called from C" if r.way == "c-call" else r.who
                lines.append(f"{who:<22}{_spelt(r.median):>11}{_spelt(r.min):>11}{r.gfmas:>9.2f}"
                             f"{100 * r.peak:>11.1f}{r.times_ncc:>10.2f}{len(r.samples):>8}")
        lines += [""] * bool(self.absent or self.refused)
        lines += [f"absent: {who}: {why}" for who, why in self.absent]
        lines += [f"refused: {who}: {why}" for who, why in self.refused]
        return "\n".join(lines) + "\n"


def measure(fn: Compiled, *, batch: int = 256, budget: float = 5.0,
            peers: Sequence[str] = tuple(PEERS), seed: int = 0, ways: Sequence[str] = WAYS,
            executed: int | None = None, net: str = "net", init: str | None = None,
            filled: int = 0, known: Mapping[str, Peer] = PEERS) -> Report:
    """Time `fn`, whose parameters have values, and peers with as many threads.

    batch     samples of a batch, normal numbers of the seed
    budget    seconds to measure for; every contender has three rounds at least
    peers     names in `known`
    executed  edges that `fn` multiplies, where they are not all
    net, init, filled   for the report: the file, and how values were made up for how many slots
    """
    refuse_states(fn.graph, "a comparison with other libraries")
    graph, dtype = fn.graph.with_(values=fn.params), fn.dtype
    cores = os.cpu_count() or 1
    threads = fn.threads or cores
    executed = graph.n_edges if executed is None else executed
    layers, absent = _layers(graph, dtype, peers, known)
    batched = _samples(graph, batch, seed, dtype)
    rows: list[Row] = []
    refused: list[tuple[str, str]] = []
    widths = [k for k in kernels(dtype) if k is not None]
    rates: list[list[float]] = [[] for _ in widths]
    parts = ("batch" in ways) + ("single" in ways or "c-call" in ways)
    for way, x in (("batch", batched), ("single", batched[0])):
        if way not in ways and not (way == "single" and "c-call" in ways):
            continue
        with ExitStack() as stack:
            stack.enter_context(np.errstate(all="ignore"))
            want = fn(x)
            runs = []
            if way in ways:
                runs.append(("ncc", way, Contender(partial(fn, x), np.asarray, executed), 0.0))
            if way == "single" and "c-call" in ways:
                runs.append(("ncc", "c-call", Contender(Loop(fn, x), np.asarray, executed),
                             0.0))
            for name in peers if way in ways else ():
                if layers is None or any(who == name for who, _ in (*absent, *refused)):
                    continue
                try:
                    run = known[name].make(layers, x, threads, stack)
                    error = _error(run.result(run.call()), want)
                except Unable as why:
                    absent.append((name, str(why)))
                    continue
                except Exception as fault:  # a library's own: no fault of ncc's
                    absent.append((name, f"it failed: {type(fault).__name__}: {fault}"
                                   .split("\n")[0]))
                    continue
                if not error <= TOLERANCE:
                    refused.append((name, f"its result of the {way} differs from ncc's by "
                                    f"{error:.1e} of the largest"))
                    continue
                runs.append((name, way, run, error))
            calls = [run.call for _, _, run, _ in runs]
            timed, counts = interleaved([*calls, *widths], budget / parts, threads)
        for kept, kernel, taken in zip(rates, widths, timed[len(runs) :], strict=True):
            kept += [kernel.fmas() / t / 1e9 for t in taken]
        rows += _rows(runs, timed, counts, batch if way == "batch" else 1)
    middle = [median(r) for r in rates]
    peak = Peak(middle[0], middle[1] if middle[1:] else None, max(middle))
    used = min(threads, cores)
    rows = [_of_peak(row, peak.best * (used if row.way == "batch" else 1)) for row in rows]
    facts = {
        "version": __version__, "net": net, "init": init, "filled": filled,
        "neurons": graph.n_neurons, "edges": graph.n_edges, "parameters": graph.n_params,
        "inputs": len(graph.inputs), "outputs": len(graph.outputs),
        "depth": 0 if graph.levels is None else int(graph.levels.max()),
        "executed": executed, "dtype": dtype, "numerics": fn.numerics, "batch": batch,
        "threads": threads, "seconds": budget, "machine": host().cpu,
        "clock": "cpu" if threads == 1 else "wall",
    }
    return Report(facts, peak, tuple(rows), tuple(absent), tuple(refused))


def interleaved(calls: Sequence[Callable[[], object]], budget: float, threads: int = 1
                ) -> tuple[list[list[float]], list[int]]:
    """Seconds a call of each, round by round in turn, and the calls timed together in a round.

    Rounds go on until `budget` seconds are over, ROUNDS allowing. One thread is timed by the CPU
    time of the process, so that other programs on the machine count for little; several by the
    wall clock, after a pause of PAUSE.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    costs: list[float] = []
    for call in calls:
        call()
        costs.append(max(1e-9, seconds(call)))
    share = min(SLICE, budget / len(calls) / 15)
    counts = [max(1, int(share / cost)) for cost in costs]
    timed: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + budget
    for k in range(ROUNDS[1]):
        if k >= ROUNDS[0] and time.perf_counter() > end:
            break
        for call, cost, count, mine in zip(calls, costs, counts, timed, strict=True):
            if threads > 1:
                time.sleep(PAUSE)
            if cost < LONG:
                call()  # the caches are its own again
            mine.append(seconds(call, count, clock))
    return timed, counts


def _layers(graph: Graph, dtype: str, peers: Sequence[str], known: Mapping[str, Peer]
            ) -> tuple[Layers | None, list[tuple[str, str]]]:
    """The layers, None where no peer wants them; who is absent, and why."""
    why = unsuitable(graph)
    absent: list[tuple[str, str]] = []
    for name in peers:
        missing = known[name].absent() or why
        if missing:
            absent.append((name, missing))
    return None if len(absent) == len(peers) else layered(graph, dtype), absent


def _samples(graph: Graph, batch: int, seed: int, dtype: str) -> Array:
    """(batch, inputs), normal."""
    x = np.random.default_rng(seed).standard_normal((batch, len(graph.inputs)))
    return x.astype(DTYPES[dtype])


class Loop:
    """`loop()`: CALLS calls of net_forward on the one sample x from a compiled loop, which is what
    a C program sees; gives y."""

    def __init__(self, fn: Compiled, x: Array) -> None:
        packed = fn._library.n_packed is not None
        reads = ["ptr %x", *["ptr %packed"] * packed, "ptr %y", "ptr %work"]
        text = f"""define void @drive(ptr %f, ptr %x, ptr %packed, ptr %y, ptr %work) {{
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  call void %f({", ".join(reads)})
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, {CALLS}
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""
        self.y = np.empty(len(fn.graph.outputs), x.dtype)
        # What the addresses in `_arguments` point into, and the code itself.
        self._kept = loaded, held, _, _ = (Loaded(Machine(host()).object(text), ["drive"]),
                                           fn._arguments, fn, x)
        self._drive = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5)(loaded.addresses["drive"])
        self._arguments = (ctypes.cast(fn._single, ctypes.c_void_p), x.ctypes.data,
                           held[0] if packed else None, self.y.ctypes.data,
                           fn._library.scratch("forward"))

    def __call__(self) -> Array:
        self._drive(*self._arguments)
        return self.y


def _error(y: Array, want: Array) -> float:
    """The largest difference over the largest finite result; infinite where the shape, or what is
    not finite, is not the same."""
    if y.shape != want.shape:
        return float("inf")
    finite = np.isfinite(want)
    if not np.array_equal(y[~finite], want[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    y, want = y[finite].astype(np.float64), want[finite].astype(np.float64)
    largest, worst = float(np.abs(want).max()), float(np.abs(y - want).max())
    return worst / largest if largest else worst


def _rows(runs: Sequence[tuple[str, str, Contender, float]], timed: Sequence[Sequence[float]],
          counts: Sequence[int], batch: int) -> list[Row]:
    rows: list[Row] = []
    base = 0.0
    for (who, way, run, error), taken, calls in zip(runs, timed, counts, strict=False):
        repeats = CALLS if way == "c-call" else 1
        samples = tuple([t / repeats for t in taken])
        middle = median(samples)
        base = base or middle
        fmas = run.fmas * batch
        rows.append(Row(who, way, middle, min(samples), samples, calls * repeats, fmas,
                        fmas / middle / 1e9, 0.0, middle / base, error))
    return rows


def _of_peak(row: Row, peak: float) -> Row:
    return Row(**{**asdict(row), "samples": row.samples, "peak": row.gfmas / peak})


def _spelt(time: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if time * scale >= 1:
            return f"{time * scale:.4g} {unit}"
    return f"{time * 1e9:.4g} ns"
