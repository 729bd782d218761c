"""What LLVM will take to make code of a text, and what there is to take.

The constants were measured (tests/bench/bench_codegen.py prints predicted beside measured, and
fails where one is farther off than SPREAD): what they are for is to tell what is sure to fit from
what may not, and that from what cannot.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ncc.errors import NccError
from ncc.ir.plan import Plan

try:
    import resource
except ImportError:  # no POSIX system: nothing limits a process there
    resource = None  # type: ignore[assignment]

# As many times more or less than predicted it may be.
SPREAD = 4.0
# Characters of a text of which nothing needs to be known.
SMALL = 200_000
# The bound on CPU seconds of a compile: for any net, for an edge, for each different pair of an
# activation and an aggregation; all of that so many times with gradients.
ANY, AN_EDGE, A_PAIR, GRADIENTS = 0.15, 60e-6, 2e-3, 2.5
# A compile may take so many times the bound, and in any case so many CPU seconds.
TIMES, LEAST = 20.0, 60.0

# Bytes: of LLVM itself, a line of the module, a character, and a line of the longest function,
# which is under way alone.
BASE_BYTES = 12e6
LINE_BYTES, CHARACTER_BYTES, FUNCTION_BYTES = 250.0, 2.0, 800.0
# CPU seconds: of LLVM, of a character, of a line, of a line times the lines of its basic block, of
# a line of a function with loops times its blocks. -O0 has its own.
BASE_SECONDS, CHARACTER_SECONDS = 0.02, 4e-8
LINE_SECONDS, QUICK_LINE_SECONDS = 30e-6, 8e-6
BLOCK_SECONDS, QUICK_BLOCK_SECONDS = {"x86_64": 4e-9, "": 20e-9}, 0.4e-9
LOOPS_SECONDS = 3e-8
# At least, of straight code: an operation of each sample's function, in the passes and in LLVM.
OP_SECONDS, OP_BYTES = 6e-6, 250.0


class Need(NamedTuple):
    """Bytes and CPU seconds."""

    memory: float
    seconds: float


def bound(edges: int, pairs: int, gradient: bool) -> float:
    """CPU seconds within which a compile of default choices stays, by the guide."""
    return (ANY + AN_EDGE * edges + A_PAIR * pairs) * (GRADIENTS if gradient else 1.0)


def longest(edges: int, pairs: int, gradient: bool) -> float:
    """CPU seconds after which a compile is given up."""
    return max(LEAST, TIMES * bound(edges, pairs, gradient))


def estimate(text: str, arch: str, opt: int) -> Need:
    """What codegen of an LLVM text takes, within SPREAD: by its functions, their blocks, and what
    grows in them worse than linearly. `arch` is the first part of the triple."""
    if text.startswith("define "):
        text = "\n" + text
    lines = text.count("\n")
    largest = squares = loops = 0
    end = 0
    while (start := text.find("\ndefine ", end)) >= 0:
        end = text.find("\n}", start)
        blocks = 0
        at = head = text.find("\n", start + 1, end)
        while (label := text.find(":\n", at, end)) >= 0:
            squares += text.count("\n", at, label) ** 2
            blocks += 1
            at = label + 1
        squares += text.count("\n", at, end) ** 2
        size = text.count("\n", start, end)
        largest = max(largest, size)
        if " #2 " in text[start:head]:
            loops += blocks * size
    memory = (BASE_BYTES + LINE_BYTES * lines + CHARACTER_BYTES * len(text)
              + FUNCTION_BYTES * largest)
    seconds = BASE_SECONDS + CHARACTER_SECONDS * len(text)
    if opt == 0:
        return Need(memory, seconds + QUICK_LINE_SECONDS * lines + QUICK_BLOCK_SECONDS * squares)
    block = BLOCK_SECONDS.get(arch, BLOCK_SECONDS[""])
    return Need(memory, seconds + LINE_SECONDS * lines + block * squares + LOOPS_SECONDS * loops)


def straight(plan: Plan) -> Need:
    """What the passes and LLVM take at least for the plan's straight functions, each edge of which
    becomes operations: known before they run."""
    schedules = (plan.single, plan.batch, plan.backward, plan.backward_batch)
    ops = sum([(3 if k < 2 else 6) * len(plan.edges) for k, s in enumerate(schedules)
               if s is not None and s.form == "straight"])
    return Need(OP_BYTES * ops, OP_SECONDS * ops)


# ---- what there is


def left(root: Path = Path("/")) -> float:
    """Bytes that this process may still take: the least that its own limits, its control groups
    and the memory of the machine leave; infinite where nothing says."""
    return max(0.0, min(own(root), shared(root)))


def for_another() -> float:
    """Bytes that a process of this one's limits may take, of address space and of data."""
    return min(_soft().values())


def own(root: Path = Path("/")) -> float:
    """Bytes that this process may still take by its own limits."""
    soft = _soft()
    words = [] if min(soft.values()) == math.inf else _read(root / "proc/self/statm").split()
    if not words:
        return math.inf
    space, data = [float(int(words[k]) * os.sysconf("SC_PAGE_SIZE")) for k in (0, 5)]
    return min(soft["RLIMIT_AS"] - space, soft["RLIMIT_DATA"] - data)


def _soft() -> dict[str, float]:
    found = {}
    for name in ("RLIMIT_AS", "RLIMIT_DATA"):
        kind = getattr(resource, name, None)
        soft = None if kind is None else resource.getrlimit(kind)[0]
        found[name] = math.inf if soft is None or soft == resource.RLIM_INFINITY else float(soft)
    return found


def restrict(memory: float | None, seconds: float | None) -> None:
    """Memory and CPU time that run out end this process, not others, and it leaves no core file.
    None is no limit but those that there are."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    if resource is None:
        return
    words = _read(Path("/proc/self/statm")).split()
    space = int(words[0]) * os.sysconf("SC_PAGE_SIZE") if words else 0
    for kind, most in ((resource.RLIMIT_CORE, 0.0), (resource.RLIMIT_CPU, seconds),
                       (resource.RLIMIT_AS, None if memory is None else space + memory)):
        if most is not None:
            soft, hard = resource.getrlimit(kind)
            now = math.inf if soft == resource.RLIM_INFINITY else soft
            with suppress(OSError, ValueError):
                resource.setrlimit(kind, (int(min(most, now)), hard))


def shared(root: Path = Path("/")) -> float:
    """Bytes that the control groups and the machine leave to all processes in them."""
    found = [_machine(root)]
    for line in _read(root / "proc/self/cgroup").split("\n"):
        parts = line.split(":", 2)
        if len(parts) < 3:
            continue
        if parts[1] == "":
            top, limit, now, cold = (root / "sys/fs/cgroup", "memory.max", "memory.current",
                                     "inactive_file")
        elif "memory" in parts[1].split(","):
            top, limit, now, cold = (root / "sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                     "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # In a container the path may be the host's, and the folder at the top this group's.
        folder = top / parts[2].strip("/")
        for place in (folder, *folder.parents):
            most, used = _number(place / limit), _number(place / now)
            if most < math.inf and used < math.inf:
                # Pages of files that nobody uses go first, so they count as free.
                found.append(most - used + _field(place / "memory.stat", cold, " "))
            if place == top:
                break
    return min(found)


def _machine(root: Path) -> float:
    available = _field(root / "proc/meminfo", "MemAvailable", ":")
    if available:
        return available * 1024
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _field(path: Path, name: str, mark: str) -> float:
    for line in _read(path).split("\n"):
        if line.startswith(name + mark):
            return float(line[len(name) + 1 :].split()[0])
    return 0.0


def _number(path: Path) -> float:
    text = _read(path).strip()
    return float(text) if text.isdigit() else math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


# ---- messages


def megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"


def refused(message: str, help: str) -> NccError:
    """E400, status 4."""
    return NccError("E400", message, help=help)
