"""What LLVM will take to make code of a text, and what there is to take.

The constants were measured (tests/bench/bench_codegen.py prints predicted beside measured, and
fails where one is farther off than SPREAD): what they are for is to tell what is sure to fit from
what may not, and that from what cannot.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ncc.errors import NccError
from ncc.ir.plan import Plan
from ncc.scalar.expressions import expression
from ncc.scalar.opcodes import OPCODES

try:
    import resource
except ImportError:  # no POSIX system: nothing limits a process there
    resource = None  # type: ignore[assignment]

# As many times more or less than predicted it may be.
SPREAD = 4.0
LABEL, CALL = ":\n", " call fastcc "  # in LLVM text: a block begins, a region ends
# Characters of a text of which nothing needs to be known.
SMALL = 200_000
# The bound on CPU seconds of a compile: for any net, for an edge, for each different pair of an
# activation and an aggregation; all of that so many times with gradients, and with training.
ANY, AN_EDGE, A_PAIR, GRADIENTS, TRAINING = 0.15, 60e-6, 2e-3, 2.5, 2.0
# A compile may take so many times the bound, and in any case so many CPU seconds.
TIMES, LEAST = 20.0, 60.0
# Forms that were asked for may be predicted to take so many times the bound, which is how far off
# a prediction may be; before there is a text, of the edges alone, so many times; and in any case so
# many CPU seconds, for which nobody waits.
ASKED, BY_EDGES, UNNOTICED = 1.5, 3.0, 0.5

# Bytes: of LLVM itself, a line of the module, a character, and a line of the longest function,
# which is under way alone.
BASE_BYTES = 12e6
LINE_BYTES, CHARACTER_BYTES, FUNCTION_BYTES = 250.0, 2.0, 800.0
# CPU seconds: of LLVM, of a character, of a line, of a line times the lines of its region, which is
# a basic block or what lies between calls in it, of a line of a function with calls times their
# number, of a line of a function with loops times its blocks. -O0 has its own.
BASE_SECONDS, CHARACTER_SECONDS = 0.02, 4e-8
LINE_SECONDS, QUICK_LINE_SECONDS = {"x86_64": 30e-6, "aarch64": 30e-6, "": 20e-6}, 8e-6
REGION_SECONDS, QUICK_BLOCK_SECONDS = {"aarch64": 2e-8, "riscv32": 2e-8, "": 2.3e-9}, 0.4e-9
CALL_SECONDS, LOOPS_SECONDS = 2.1e-8, 5e-8
# ... of the passes before it, for a line.
PASSES_SECONDS = 5e-6
# Lines of an edge in the straight functions of one sample and of a batch: forward, and backward.
EDGE_LINES = {"single": 5, "batch": 7, "backward": 8, "backward_batch": 20,
              "jacobian": 12}
PIECE_LINES = 3_000  # of a region in the pieces that `split` cuts of the forward ones
# At least, of straight code: an operation of each sample's function, in the passes and in LLVM.
OP_SECONDS, OP_BYTES = 6e-6, 250.0


class Need(NamedTuple):
    """Bytes and CPU seconds."""

    memory: float
    seconds: float


def bound(edges: int, pairs: int, gradient: bool, training: bool = False) -> float:
    """CPU seconds within which a compile of default choices stays, by the guide."""
    factor = (GRADIENTS if gradient else 1.0) * (TRAINING if training else 1.0)
    return (ANY + AN_EDGE * edges + A_PAIR * pairs) * factor


def longest(edges: int, pairs: int, gradient: bool) -> float:
    """CPU seconds after which a compile is given up."""
    return max(LEAST, TIMES * bound(edges, pairs, gradient))


def breaks(need: Need, bound: float | None, times: float) -> bool:
    """Whether that is `times` the bound or more; None is no bound."""
    return bound is not None and need.seconds > max(UNNOTICED, times * bound)


def estimate(text: str, arch: str, opt: int) -> Need:
    """What codegen of an LLVM text takes, within SPREAD: by its functions, their blocks, and what
    grows in them worse than linearly. `arch` is the first part of the triple."""
    if text.startswith("define "):
        text = "\n" + text
    lines = text.count("\n")
    largest = blocks = regions = calls = loops = 0
    end = 0
    while (start := text.find("\ndefine ", end)) >= 0:
        end = text.find("\n}", start)
        size, of_block, of_region, n_blocks, n_calls = 0, 0, 0, 0, 0
        at = head = text.find("\n", start + 1, end)
        for mark, label in _marks(text, at, end):
            now = text.count("\n", at, mark)
            at = mark
            size, of_block, of_region = size + now, of_block + now, of_region + now
            regions, of_region = regions + of_region**2, 0
            if label:
                blocks, of_block = blocks + of_block**2, 0
                n_blocks += 1
            else:
                n_calls += 1
        rest = text.count("\n", at, end)
        regions, blocks = regions + (of_region + rest) ** 2, blocks + (of_block + rest) ** 2
        size += rest
        largest = max(largest, size)
        calls += n_calls * size
        if " #2 " in text[start:head]:
            loops += n_blocks * size
    memory = (BASE_BYTES + LINE_BYTES * lines + CHARACTER_BYTES * len(text)
              + FUNCTION_BYTES * largest)
    seconds = BASE_SECONDS + CHARACTER_SECONDS * len(text)
    if opt == 0:
        return Need(memory, seconds + QUICK_LINE_SECONDS * lines + QUICK_BLOCK_SECONDS * blocks)
    line, region = _rates(arch)
    return Need(memory, seconds + line * lines + region * regions
                + CALL_SECONDS * calls + LOOPS_SECONDS * loops)


def _marks(text: str, at: int, end: int) -> Iterator[tuple[int, bool]]:
    """Where labels (True) and calls (False) stand in a part of a text, in order."""
    label, call = text.find(LABEL, at, end), text.find(CALL, at, end)
    while label >= 0 or call >= 0:
        if call < 0 or 0 <= label < call:
            yield label, True
            label = text.find(LABEL, label + 1, end)
        else:
            yield call, False
            call = text.find(CALL, call + 1, end)


def _rates(arch: str) -> tuple[float, float]:
    """Seconds of a line, and of a line times the lines of its region."""
    return (LINE_SECONDS.get(arch, LINE_SECONDS[""]), REGION_SECONDS.get(arch, REGION_SECONDS[""]))


def passes(text: str) -> float:
    """CPU seconds that the passes before it took for an LLVM text, about."""
    return PASSES_SECONDS * text.count("\n")


def straight(plan: Plan) -> Need:
    """What the passes and LLVM take at least for the plan's straight functions, each edge of which
    becomes operations: known before they run."""
    schedules = (plan.single, plan.batch, plan.backward, plan.backward_batch, plan.jacobian)
    ops = sum([(3 if k < 2 else 6) * len(plan.edges) for k, s in enumerate(schedules)
               if s is not None and s.form == "straight"])
    return Need(OP_BYTES * ops, OP_SECONDS * ops)


def by_edges(plan: Plan, triple: str, opt: int, vectors: bool, assembles: bool) -> Need:
    """About what the plan's straight functions take in the passes and in LLVM, known before both:
    of `single` only the passes where ncc `assembles` it, of `batch` nothing without `vectors`."""
    schedules = {"single": plan.single, "batch": plan.batch, "backward": plan.backward,
                 "backward_batch": plan.backward_batch, "jacobian": plan.jacobian}
    calls = sum([run.last - run.first for run in plan.runs
                 if any(node.op in OPCODES and OPCODES[node.op].math for node in expression(
                     run.activation, plan.graph.functions).nodes)])
    total, lines, squares = 0, 0, 0.0
    for name, schedule in schedules.items():
        if schedule is None or schedule.form != "straight" or (name == "batch" and not vectors):
            continue
        mine = EDGE_LINES[name if vectors else name.removesuffix("_batch")] * len(plan.edges)
        total += mine
        if name != "single" or not assembles:
            lines += mine
            squares += mine * min(mine / (1 + calls), PIECE_LINES if name in "single batch"
                                  else math.inf)
    line, square = (QUICK_LINE_SECONDS, 0.0) if opt == 0 else _rates(triple.split("-")[0])
    return Need(LINE_BYTES * lines, PASSES_SECONDS * total + line * lines + square * squares)


# ---- what there is


def left(root: Path = Path("/")) -> float:
    """Bytes that this process may still take: the least that its own limits, its control groups
    and the memory of the machine leave; infinite where nothing says."""
    return max(0.0, min(own(root), shared(root)))


def give_back() -> None:
    """Give the system what was freed and the C library keeps, where something small lies behind it:
    some 25 bytes an edge of a large net. It takes milliseconds; only glibc has a call for it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


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
