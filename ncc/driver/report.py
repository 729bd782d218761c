"""The report of a net: its picture, levels, cost, curve and the net itself, as one page."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.driver.compiler import Build, missing
from ncc.driver.kinds import contents, pictured, wasm
from ncc.driver.levels import row
from ncc.driver.pipeline import Step, Watch
from ncc.driver.settings import Settings
from ncc.errors import NccError
from ncc.ir.graph import ABSENT, Reals
from ncc.ir.syntax import Syntax
from ncc.machine.targets import TARGETS
from ncc.machine.wasm.files import runtime
from ncc.report.page.facts import facts, numbers
from ncc.report.page.html import page
from ncc.report.svg import svg

LIVE = 500_000  # edges; a larger net does not run in its page, 6 bytes an edge
INSIDE = 100_000  # neurons; of more, only the outputs have values there
SAMPLES = 200_000  # numbers of samples in a page
TEXT = 400_000  # characters of a level's text, 4,000 of a line
LINE = 4000


@dataclass(frozen=True)
class Beside:
    """What a report shows of a net that is not in it: `samples` (n, inputs) and what they are
    called, a learning curve (ncc/report/page/curve.py), and the version of the page, where
    `ncc view` serves it."""

    samples: NDArray[Any] | None = None
    called: str = "samples"
    curve: Mapping[str, Any] | None = None
    view: str = ""


def report(build: Build, title: str, syntax: Syntax | None = None,
           beside: Beside = Beside()) -> str:
    """The page of a net's build, as HTML; `title` is its name, `syntax` its first level. What
    cannot be made of so large a net says so in its place."""
    graph = build.graph
    leveled, drawn = pictured(graph)
    module, why, shown = _live(build)
    rows = beside.samples
    if rows is not None:
        rows = rows[: max(1, SAMPLES // max(1, rows.shape[1]))]
    counts = {"neuron": graph.n_own, "edge": graph.n_edges, "parameter": graph.n_params,
              "input": graph.n_inputs, "output": len(graph.outputs), "state": len(graph.states)}
    counted = [f"{n:,} {word}{'s' * (n != 1)}" for word, n in counts.items()
               if n or word != "state"]
    levels, folded = _levels(build, syntax)
    data = {
        **facts(leveled, drawn), "dtype": build.options["dtype"],
        "why": why, "shown": shown, "listings": levels, "folded": folded, "cost": _cost(build),
        "curve": beside.curve, "sampled": beside.called,
        "samples": [] if rows is None else [numbers(row) for row in rows.tolist()]}
    return page(title, ", ".join(counted), svg(drawn, title), data, module, runtime(), beside.view)


# ---- the net live


def _live(build: Build) -> tuple[bytes, str, list[int]]:
    """The net as a module of WebAssembly whose outputs are all neurons, and which those are; else
    why there is none."""
    graph = build.graph
    if graph.n_edges > LIVE:
        return b"", f"a net of more than {LIVE:,} edges does not run in its page", []
    shown = np.flatnonzero(graph.activations[: graph.n_own] != ABSENT).astype(np.int32)
    if len(shown) > INSIDE:
        shown = graph.outputs
    settings = Settings(build.options["dtype"], "strict", cache=build.cached,
                        passes={"name": "net", "limit": build.options.get("limit", True)})
    try:
        missing(graph.values, graph.n_params)
        made = wasm(Build.of(graph.with_(outputs=shown), TARGETS["wasm32"], settings), "net.wasm")
    except NccError as error:
        return b"", str(error), []
    return made, "", shown.tolist()


# ---- its cost


def _cost(build: Build) -> list[dict[str, Any]]:
    """Tables for the card: a title, and rows of what and how much."""
    rows: list[tuple[str, str]] = []
    try:
        takes = build.footprint()
        rows += [("code", f"{takes.code:,} B"), ("tables", f"{takes.tables:,} B"),
                 ("packed parameters", f"{takes.packed:,} B"), ("work", f"{takes.work:,} B"),
                 ("stack", "not known" if takes.stack is None else f"{takes.stack:,} B")]
        for name, schedule in build.plan.schedules.items():
            cycles = re.search(r"([\d,.]+) cycles a sample", schedule.why)
            rows.append((f"{name}: {schedule.form}",
                         f"{cycles[1]} cycles predicted" if cycles else ""))
    except NccError as error:
        rows.append(("not known", error.message))
    chosen = build.options
    return [{"title": f"{build.target.name}, {chosen['dtype']} {chosen['numerics']}", "rows": rows}]


# ---- its levels


@dataclass
class _Recorder:
    """Texts of the levels after each pass that changed something; which changed nothing."""

    watch: Watch | None
    texts: list[tuple[str, str, str]] = field(default_factory=list)
    idle: list[str] = field(default_factory=list)

    def before(self, step: Step, level: Any, params: Reals | None) -> None:
        if self.watch is not None:
            self.watch.before(step, level, params)

    def after(self, step: Step, old: Any, new: Any, seconds: float, params: Reals | None) -> None:
        if self.watch is not None:
            self.watch.after(step, old, new, seconds, params)
        if isinstance(new, str):
            return
        if new is old or (type(new) is type(old) and str(new) == str(old)):
            self.idle.append(step.name)
        else:
            self.texts.append((row(new).kind, step.name, str(new)))


def _levels(build: Build, syntax: Syntax | None) -> tuple[list[dict[str, Any]], str]:
    """The levels as the page has them, and the passes that changed nothing."""
    recorder = _Recorder(build.watch)
    fresh = replace(build, watch=recorder)
    made = [] if syntax is None else [_listing("ast", "ast", partial(str, syntax))]
    made.append(_listing("graph", "graph", partial(str, build.graph)))
    try:
        fresh.module  # noqa: B018
    except NccError as error:
        recorder.texts.append(("ssa", "lower", str(error)))
    for name, step, text in recorder.texts:
        made.append(_listing(name, f"{name} after {step}", partial(str, text)))
    for name, title in (("llvm", "LLVM"), ("asm", "assembly"), ("c", "C")):
        made.append(_listing(name, title, partial(_text, name, fresh)))
    idle = f"changed nothing: {', '.join(recorder.idle)}" if recorder.idle else ""
    return made, idle


def _text(kind: str, build: Build) -> str:
    return contents(kind, build, "net").decode()


def _listing(name: str, title: str, make: Callable[[], str]) -> dict[str, Any]:
    try:
        text = make()
    except NccError as error:
        text = str(error)
    lines = text.splitlines()
    kept = _clipped(lines)
    found = re.compile(r"^ *([0-9a-f]{2,})(?: |$)") if name in ("ast", "graph", "plan") else None
    neurons = [int(m[1], 16) if found and (m := found.match(line)) else -1 for line in kept]
    if len(kept) < len(lines):
        kept.append(f"... {len(lines) - len(kept):,} more lines: ncc build --emit {name}")
        neurons.append(-1)
    return {"name": name, "title": title, "text": "\n".join(kept), "neurons": neurons}


def _clipped(lines: list[str]) -> list[str]:
    """The first lines, as many as a page has room for."""
    kept, room = [], TEXT
    for line in lines:
        kept.append(line if len(line) <= LINE else line[:LINE] + " ...")
        room -= len(kept[-1]) + 1
        if room < 0:
            break
    return kept
