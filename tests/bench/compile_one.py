"""One compile, measured in a process of its own, for bench_compile.py, which starts it:

    python tests/bench/compile_one.py NET WAY GIGABYTES

JSON lines on standard output: what is known before the compile, what it took, and what it made.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import ncc
from ncc import cli
from ncc.machine import llvm as machine
from ncc.runtime import compiled as runtime

TICK = os.sysconf("SC_CLK_TCK")
FIRST, GRADIENT = "first", "gradient"
sizes: list[int] = []


class Library(runtime.Library):
    """A library that notes how long its object is."""

    def __init__(self, entry, dtype):
        sizes.append(len(entry.code))
        super().__init__(entry, dtype)


def status(pid: int, key: str) -> int:
    """Bytes that /proc says of a process; 0 where there is none."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def below(pid: int) -> tuple[float, int]:
    """CPU seconds of all processes that live below `pid`, and bytes that only they have."""
    found, seconds, size = {pid}, 0.0, 0
    stats = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            stats.append((int(folder.name), int(fields[1]), int(fields[11]) + int(fields[12])))
    for other, parent, ticks in sorted(stats):
        if parent in found:
            found.add(other)
            seconds += ticks / TICK
            try:
                text = Path(f"/proc/{other}/smaps_rollup").read_text()
            except OSError:
                continue
            size += sum([int(line.split()[1]) * 1024 for line in text.splitlines()
                         if line.startswith("Private_")])
    return seconds, size


def peak() -> int:
    """Bytes of the larger of this process since `clear_refs` and of its children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return max(status(os.getpid(), "VmHWM"), children)


def used() -> float:
    """CPU seconds of this process, of its children that ended, and of those that live."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + below(os.getpid())[0]


def compiled(path: str, way: str, out: str) -> str:
    """Go that way with the net; "done", or why it came to nothing."""
    kind, *words = way.split()
    if kind == "build":
        said = StringIO()
        with redirect_stderr(said):
            code = cli.main(["build", path, "-o", out, "--no-cache", *words])
        if code:
            named = re.search(r"error\[(E\d+)\]", said.getvalue())
            return f"refused {named.group(1) if named else f'with status {code}'}"
        return "done"
    try:
        fn = ncc.compile(path, cache=False)
        x = [0.5] * len(fn.graph.inputs)
        if GRADIENT in way:
            y, pullback = fn.vjp(x)
            pullback(y)
        else:
            fn(x)
    except ncc.NccError as error:
        return f"refused {error.code}"
    except MemoryError:
        return "memory"
    return "done"


def forms(path: str, way: str) -> str:
    """The forms of the functions, as `--explain` names them."""
    kind, *words = way.split()
    if kind != "build":
        words = ["--target", "native", *["--backward"] * (GRADIENT in way)]
    elif "--no-backward" not in words and "--embed-weights" not in words:
        words.append("--backward")
    said = StringIO()
    with redirect_stderr(said), redirect_stdout(StringIO()):
        cli.main(["build", path, "--emit", "plan", "--explain", "--no-cache", *words])
    return " ".join(re.findall(r"^(?:forward|backward)(?:_batch)?: (\w+)", said.getvalue(), re.M))


def say(**facts) -> None:
    print(json.dumps(facts), flush=True)


def main(path: str, way: str, gigabytes: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, "net.o"))
        machine.Machine(machine.host())
        if FIRST not in way:
            small = Path(folder, "small.nal")
            small.write_text("N 02\n00\n01 00 00:1\n")
            compiled(str(small), way, out)
        runtime.Library = Library
        limit = int(float(gigabytes) * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        Path("/proc/self/clear_refs").write_text("5")
        say(before=status(os.getpid(), "VmRSS"))
        began = used()
        state = compiled(path, way, out)
        say(state=state, cpu=used() - began, peak=peak())
        if state == "done":
            graph = ncc.load(path).graph
            real = graph.activations >= 0
            pairs = set(zip(graph.activations[real].tolist(), graph.aggregations[real].tolist(),
                            strict=True))
            size = os.path.getsize(out) if way.startswith("build") else sum(sizes)
            say(neurons=graph.n_neurons, edges=graph.n_edges, pairs=len(pairs), size=size,
                forms=forms(path, way))


if __name__ == "__main__":
    main(*sys.argv[1:])
