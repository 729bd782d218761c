"""What compiling costs, each net beside its bound: python tests/bench/bench_compile.py

A net and a way to compile it are a row; each runs in a process of its own, without the cache, after
imports, LLVM's initialisation and a net of one edge. CPU seconds are from the file to the first
answer or to the object, those of processes that the compiler starts included; the peak is the
resident memory above that before. The bound: 0.15 s + 60 us an edge + 2 ms a distinct pair of
activation and aggregation, 2.5 times that with gradients, twice as much again with a step of
training; 150 MB + 4 kB an edge where any function is unrolled, else 200 B. Rows with a bar of their
own say so. A form that was asked for and would break the bound is refused: its row is held where
that, E400, came within the bound's time. Ways:

    forward       ncc.compile, for this machine, and one sample
    first forward the same as the first compile of its process
    gradient      the same and the first fn.vjp and its pullback
    build ...     ncc build, with its options; with gradients but for --no-backward

A process is ended at `--patience` times its bound in CPU time ("timeout"), and its address space is
limited to `--gigabytes` ("memory", "signal 6"). A row that misses its time by less than half is run
twice more, and the least time counts: the machine may be shared. `--mixtures N --seed S` adds N
random nets, forward and with gradients. `--short` prints a row for each kind, and one that counts
the others. Status 1 where a row does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
import compile_nets as nets  # noqa: E402
from compile_one import TICK, below, status  # noqa: E402

TOP = Path(__file__).parents[2]
SHARED = TOP.parent / "shared" / "cases" / "compile-time"
BASE, EDGE, PAIR, GRADIENT = 0.15, 60e-6, 2e-3, 2.5  # seconds; a factor
ROOM, UNROLLED, LOOPED = 150e6, 4e3, 200.0  # bytes; an edge
POLL = 0.05  # seconds
REFUSED = "refused E400"

FORWARD, WITH_GRADIENT, FIRST = "forward", "gradient", "first forward"
BUILD, AHEAD = "build", "build --no-backward"
FORMS = "--form {0} --batch-form {0} --backward-form {1}"
UNROLL, LOOP = FORMS.format("straight", "straight"), FORMS.format("table", "table")


# Rows of the short table, as `net: way`.
SHORT = (
    f"XOR: {FORWARD}", f"1,000 edges, relu: {FORWARD}", "NEAT 115, 3 activations, seed 0: forward",
    "NEAT 115, 3 activations, seed 0: gradient", "NEAT 300, 5 activations: forward",
    "NEAT 1,000, 8 activations: forward", "NEAT 1,000, 8 activations: gradient",
    "each activation with each aggregation: forward",
    "each activation with each aggregation: gradient", "41 neurons, 32 activations: build",
    "1 input, 256 outputs: forward", "200 inputs named as outputs: forward",
    "10,000 inputs, one read: gradient", "chain of 10,000 tanh: forward", "fan-in 10,000: forward",
    "6,528 random edges: gradient", "4,256 random edges: build --target aarch64",
    "6,528 random edges: build --embed-weights --target cortex-m4f",
    "LSTM, 40 steps: forward", "LSTM, 40 steps: gradient", "dense 784-300-100-10: gradient",
    "sparse 1,024 x 10: gradient")


class Row(NamedTuple):
    """A net by a name and a function that writes its text, or a file; `way` as above. `bar` and
    `room` are seconds and bytes where the issue sets others than the bound."""

    net: str
    make: Callable[[], str] | Path
    way: str
    bar: float | None = None
    room: float | None = None

    @property
    def backward(self) -> bool:
        return not (self.way.endswith(FORWARD) or "--no-backward" in self.way
                    or "--embed-weights" in self.way)


class Result(NamedTuple):
    """What came of a row; None where it did not come so far. `state` is "done", or why there is
    nothing: timeout, memory, refused E400, signal 6, failed."""

    row: Row
    state: str
    neurons: int | None
    edges: int | None
    pairs: int | None
    cpu: float
    bound: float
    peak: float
    room: float
    size: int | None
    forms: str

    @property
    def late(self) -> float:
        return self.cpu / self.bound

    @property
    def held(self) -> str:
        if self.state == REFUSED and self.late <= 1:
            return "yes: refused"
        if self.state != "done":
            return f"no: {self.state}"
        missed = [f"{what} {used / allowed:.1f}x" for what, used, allowed in (
            ("time", self.cpu, self.bound), ("memory", self.peak, self.room)) if used > allowed]
        return "no: " + ", ".join(missed) if missed else "yes"

    @property
    def holds(self) -> bool:
        return self.held.startswith("yes")


def several(net: str, make: Callable[[], str] | Path, *ways: str) -> list[Row]:
    return [Row(net, make, way) for way in ways]


def rows() -> list[Row]:
    """All but the mixtures; those of the issue first."""
    found = [
        Row("XOR", TOP / "examples" / "xor.nal", FORWARD, bar=0.03),
        Row("XOR", TOP / "examples" / "xor.nal", FIRST),
        Row("XOR", TOP / "examples" / "xor.nal", WITH_GRADIENT),
        Row("XOR", TOP / "examples" / "xor.nal", BUILD),
        Row("1,000 edges, relu", partial(nets.edges_of, 1_000), FORWARD, bar=0.1),
        Row("1,000 edges, relu", partial(nets.edges_of, 1_000), WITH_GRADIENT),
        Row("1,000 edges, tanh", partial(nets.edges_of, 1_000, "tanh"), FORWARD, bar=0.1),
    ]
    for seed in range(3):
        name, make = f"NEAT 115, 3 activations, seed {seed}", partial(nets.neat, 115, 280, 3, seed)
        found.append(Row(name, make, FORWARD, bar=0.3))
        found += several(name, make, *[WITH_GRADIENT, BUILD][: 2 if seed == 0 else 1])
    name, make = "NEAT 300, 5 activations", partial(nets.neat, 300, 1_036, 5)
    found += several(name, make, FORWARD, WITH_GRADIENT, BUILD)
    name, make = "NEAT 1,000, 8 activations", partial(nets.neat, 1_000, 4_500, 8)
    found.append(Row(name, make, FORWARD, bar=0.45))
    found += several(name, make, WITH_GRADIENT, BUILD, f"{BUILD} --dtype f64")
    found += several("NEAT 200, 7 activations", partial(nets.neat, 200, 700, 7), FORWARD,
                     WITH_GRADIENT)
    found += several("50 NEAT nets in one", partial(nets.population, 50), FORWARD, WITH_GRADIENT)
    found += several("150 neurons, all activations, aggregations", partial(nets.every, 0, 150),
                     FORWARD, WITH_GRADIENT)
    every = "each activation with each aggregation"
    found += several(every, nets.every, FORWARD, WITH_GRADIENT, BUILD, f"{BUILD} --dtype f64",
                     f"{BUILD} --numerics strict", f"{BUILD} {UNROLL}", f"{BUILD} {LOOP}",
                     *[f"{BUILD} --target {t}" for t in ("cortex-m4f", "rv32imac", "aarch64")])
    found += several("41 neurons, 32 activations", nets.each_activation, FORWARD, BUILD,
                     f"{BUILD} {LOOP}", f"{BUILD} -O0", f"{BUILD} -O3")
    for count in (64, 256, 1_024):
        found += several(f"1 input, {count:,} outputs", partial(nets.fan_out, count), FORWARD,
                         WITH_GRADIENT)
    found += several("1 input, 256 outputs, tanh", partial(nets.fan_out, 256, "tanh"), FORWARD)
    for count in (200, 2_000):
        found += several(f"{count:,} inputs named as outputs", partial(nets.named_inputs, count),
                         FORWARD, WITH_GRADIENT)
    for count in (784, 3_000, 10_000):
        found += several(f"{count:,} inputs, one read", partial(nets.lonely, count), WITH_GRADIENT)
    found += several("chain of 10,000 tanh", partial(nets.chain, 10_000), FORWARD, WITH_GRADIENT)
    found += several("chain of 2,000, all activations but those that overflow", partial(
        nets.chain, 2_000, [a for a in nets.NAMES if a not in (
            "exp", "log", "rsqrt", "recip", "cube", "square", "sqrt")]), FORWARD, WITH_GRADIENT)
    found += several("fan-in 10,000", partial(nets.fan_in, 10_000), FORWARD, WITH_GRADIENT)
    found += several("fan-in 1,000, each aggregation", partial(
        nets.fan_in, 1_000, nets.AGGREGATIONS), FORWARD, WITH_GRADIENT)
    found += several("fan-ins 1 to 64, 6 levels, 3 activations", partial(
        nets.fan_ins, 64, nets.NEAT[:3], 6), FORWARD, WITH_GRADIENT)
    for count in (2_048, 6_528, 12_000):
        name, make = f"{count:,} random edges", partial(nets.edges_of, count)
        found += several(name, make, FORWARD, WITH_GRADIENT, BUILD)
        if count < 12_000:
            found += several(name, make, f"{BUILD} {UNROLL}", f"{BUILD} {LOOP}")
    small = "--embed-weights --target"
    found += several("6,528 random edges", partial(nets.edges_of, 6_528),
                     *[f"{BUILD} {small} {t}" for t in ("cortex-m4f", "cortex-m0", "rv32imac")],
                     f"{BUILD} --target wasm32", f"{BUILD} --target rv64gc")
    found += several("4,256 random edges", partial(nets.edges_of, 4_256),
                     f"{BUILD} --target aarch64", f"{BUILD} --target aarch64 {UNROLL}")
    found += several("NEAT 115, 3 activations, seed 0", partial(nets.neat, 115, 280, 3),
                     *[f"{BUILD} --target {t}" for t in (
                         "cortex-m4f", "cortex-m0", "rv32imac", "aarch64", "wasm32")],
                     f"{BUILD} --dtype f64", f"{BUILD} --numerics strict",
                     f"{BUILD} --numerics fast", f"{BUILD} {UNROLL}", f"{BUILD} {LOOP}",
                     f"{BUILD} --train mse,adam")
    found += several("LSTM, 10 steps", partial(nets.lstm, 10), FORWARD, WITH_GRADIENT)
    lstm = SHARED / "lstm40.nal"
    for name, net in (("LSTM, 40 steps", partial(nets.lstm, 40)), *(
            [("lstm40.nal", lstm)] if lstm.exists() else [])):
        found.append(Row(name, net, FORWARD, bar=5, room=500e6))
        found.append(Row(name, net, AHEAD, bar=5, room=500e6))
        found.append(Row(name, net, WITH_GRADIENT, bar=12))
        found.append(Row(name, net, BUILD, bar=12))
    gpt2 = SHARED / "gpt2_block_t8_d16.nal"
    if gpt2.exists():
        found += several("gpt2_block_t8_d16.nal", gpt2, FORWARD, BUILD)
    for name, make in (
            ("convolution, windows of 3 x 3", nets.convolution),
            ("residual, 40 blocks of 32", nets.residual),
            ("butterfly of 256", nets.butterfly), ("tree of 1,024 leaves", nets.tree),
            ("10,000 outputs of 3 inputs", nets.wide),
            ("200 outputs that are read", nets.read_outputs),
            ("500 neurons, 16 ties", nets.tied), ("constant weights", nets.constant),
            ("16 functions of its own", nets.functions),
            ("2,000 neurons that merge", nets.twins),
            ("3,000 biases without in-lists", nets.constants_only),
            ("dense 784-300-100-10", partial(nets.layers, (784, 300, 100, 10))),
            ("sparse 256 x 4", partial(nets.layers, (256,) * 5, 32)),
            ("sparse 1,024 x 10", partial(nets.layers, (1_024,) * 11, 32))):
        found += several(name, make, FORWARD, WITH_GRADIENT)
    return found


def mixtures(count: int, seed: int) -> list[Row]:
    return [row for k in range(seed, seed + count)
            for row in several(f"mixture {k}", partial(nets.mixture, k), FORWARD, WITH_GRADIENT)]


def bounds(row: Row, edges: int, pairs: int, forms: str) -> tuple[float, float]:
    """Seconds and bytes that the row may take; `forms` of its functions, unknown where empty."""
    each = LOOPED if forms and "straight" not in forms else UNROLLED
    return row.bar or general(row, edges, pairs), row.room or ROOM + each * edges


def general(row: Row, edges: int, pairs: int) -> float:
    """Seconds that any net of so many edges and pairs may take."""
    factor = (GRADIENT if row.backward else 1) * (2 if "--train" in row.way else 1)
    return (BASE + EDGE * edges + PAIR * pairs) * factor


def counts(text: str) -> tuple[int, int]:
    """Edges and pairs of activation and aggregation of a `.nal` text, as those here are written,
    without ncc's help, which may fail with it."""
    edges, pairs = 0, set()
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] not in ("N", "fn", "out") and line[0] not in "%#":
            named = len(words) > 2 and words[2] in nets.AGGREGATIONS
            pairs.add((words[1], words[2] if named else "sum"))
            in_list = words[3 if named else 2 :]
            edges += sum([1 + word.count(",") + word.count("*")  # a pair is two
                          for word in in_list if word[0] != "+"])
    return edges, len(pairs)


def measured(row: Row, patience: float, gigabytes: float) -> Result:
    """Compile it once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.nal")
        text = row.make.read_text() if isinstance(row.make, Path) else row.make()
        path.write_text(text)
        edges, pairs = counts(text)
        bound, room = bounds(row, edges, pairs, "")
        facts = run([str(path), row.way, str(gigabytes)], folder,
                    patience * max(bound, general(row, edges, pairs)))
        if "edges" in facts:
            edges, pairs = facts["edges"], facts["pairs"]
            bound, room = bounds(row, edges, pairs, facts["forms"])
        return Result(row, facts["state"], facts.get("neurons"), edges, pairs,
                      facts.get("cpu", 0.0), bound, facts["peak"] - facts.get("before", 0), room,
                      facts.get("size"), facts.get("forms", ""))


def run(words: list[str], folder: str, seconds: float) -> dict[str, Any]:
    """What compile_one.py says, started with `words` and ended, with all that it started, where
    the compile takes more CPU `seconds`; `state` and `peak` are always there."""
    said, wrong = Path(folder, "said"), Path(folder, "wrong")
    path = os.pathsep.join([str(TOP), os.environ.get("PYTHONPATH", "")])
    with said.open("w") as out, wrong.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("compile_one.py")), *words], stdout=out,
            stderr=errors, cwd=folder, start_new_session=True,
            env={**os.environ, "NCC_CACHE_SIZE": "0", "PYTHONPATH": path})
    late = False
    peak, start, cpu = 0, None, 0.0
    # Others may share the machine, so the wall clock may show many times the CPU time.
    end = time.monotonic() + 10 * seconds + 60
    try:
        while process.poll() is None:
            time.sleep(POLL)
            lines = said.read_text().splitlines()
            if time.monotonic() > end:
                late = True
                break
            if len(lines) != 1:  # not yet begun, or over
                continue
            living, size = below(process.pid)
            now = own(process.pid) + living
            start = now if start is None else start
            cpu = now - start
            # Of processes side by side what they hold now, of one alone what it held at its peak.
            peak = max(peak, size + status(process.pid, "VmRSS"), status(process.pid, "VmHWM"))
            if cpu > seconds:
                late = True
                break
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    facts: dict[str, Any] = {}
    for line in said.read_text().splitlines():
        facts |= json.loads(line)
    if "state" not in facts and late:
        facts["state"] = "timeout"
    elif "state" not in facts:
        last = (wrong.read_text().strip().splitlines() or ["no word"])[-1]
        facts["state"] = (f"signal {-process.returncode}" if process.returncode < 0
                          else "memory" if "MemoryError" in last else f"failed: {last}")
    return {"cpu": cpu} | facts | {"peak": max(peak, facts.get("peak", 0))}


def own(pid: int) -> float:
    """CPU seconds of a process and of its children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICK


def held(row: Row, patience: float, gigabytes: float) -> Result:
    """Compile it, twice more where it is only a little late."""
    found = measured(row, patience, gigabytes)
    for _ in range(2):
        if found.state != "done" or not 1 < found.late < 1.5:
            break
        again = measured(row, patience, gigabytes)
        if again.state == "done" and again.cpu < found.cpu:
            found = again
    return found


def table(results: Iterator[Result], short: bool = False) -> list[Result]:
    """Print rows as they come; in short those of SHORT, and one for the others."""
    print("| net | neurons | edges | pairs | how | CPU s | bound s | peak MB | bound MB | bytes "
          "| held |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    kept, others = [], []
    for r in results:
        kept.append(r)
        if short and f"{r.row.net}: {r.row.way}" not in SHORT:
            others.append(r)
            continue
        neurons, size = ["" if n is None else f"{n:,}" for n in (r.neurons, r.size)]
        more = ">" if r.state == "timeout" else ""
        bar = " (its own)" if r.row.bar else ""
        print(f"| {r.row.net} | {neurons} | {r.edges:,} | {r.pairs} | {r.row.way} | "
              f"{more}{r.cpu:.3f} | {r.bound:.3f}{bar} | {r.peak / 1e6:.0f} | {r.room / 1e6:.0f} | "
              f"{size} | {r.held} |", flush=True)
    if others:
        done = [r for r in others if r.state == "done"]
        time_, memory = [f"at most {max(shares, default=0):.2f} of the bound" for shares in (
            [r.late for r in done], [r.peak / r.room for r in done])]
        print(f"| {len(others)} others, {sum(r.row.net.startswith('mixture') for r in others)} of "
              f"them of random mixtures | | | | | {time_} | | {memory} | | | "
              f"{sum(r.holds for r in others)} of {len(others)} |")
    return kept


def summary(results: list[Result]) -> str:
    done = [r for r in results if r.state == "done"]
    lines = [f"{sum(r.holds for r in results)} of {len(results)} rows held"]
    if done:
        slow, large = max(done, key=lambda r: r.late), max(done, key=lambda r: r.peak / r.room)
        lines += [f"most of its time, of those that ended: {slow.late:.2f} ({slow.row.net}, "
                  f"{slow.row.way})",
                  f"most of its memory: {large.peak / large.room:.2f} ({large.row.net}, "
                  f"{large.row.way})"]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", metavar="REGEX", default="", help="of `net: how`")
    parser.add_argument("--mixtures", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the first mixture")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--forward", action="store_true", help="only rows without gradients")
    which.add_argument("--backward", action="store_true", help="only rows with gradients")
    parser.add_argument("--quick", action="store_true", help="only nets of at most 1,000 edges")
    parser.add_argument("--short", action="store_true", help="the table as README has it")
    parser.add_argument("--patience", type=float, default=10.0, metavar="TIMES")
    parser.add_argument("--gigabytes", type=float, default=6.0, help="of address space")
    parser.add_argument("--json", action="store_true", help="a document, after the table's end")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    chosen = rows() + mixtures(arguments.mixtures, arguments.seed)
    chosen = [r for r in chosen if re.search(arguments.only, f"{r.net}: {r.way}")
              and (r.backward or not arguments.backward)
              and not (r.backward and arguments.forward)]
    if arguments.quick:
        chosen = [r for r in chosen if not isinstance(r.make, Path) and counts(r.make())[0] <= 1000]
    if arguments.list:
        print("\n".join([f"{r.net}: {r.way}" for r in chosen]))
        return
    began = time.perf_counter()
    results = table((held(r, arguments.patience, arguments.gigabytes) for r in chosen),
                    arguments.short)
    print(f"\n{summary(results)}\n{time.perf_counter() - began:.0f} s in all")
    if arguments.json:
        print(json.dumps([{"net": r.row.net, "how": r.row.way, "held": r.holds,
                           **{k: v for k, v in r._asdict().items() if k != "row"}}
                          for r in results], indent=1))
    if not all(r.holds for r in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
