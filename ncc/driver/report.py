"""The report of a net: its picture, levels, cost, curve and the net itself, as one page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.driver.compiler import Build, missing
from ncc.driver.cost import cost
from ncc.driver.kinds import pictured, wasm
from ncc.driver.listings import listings
from ncc.driver.settings import Settings
from ncc.errors import NccError
from ncc.ir.graph import ABSENT
from ncc.ir.syntax import Syntax
from ncc.machine.targets import TARGETS
from ncc.machine.wasm.files import runtime
from ncc.report.listings import Listing
from ncc.report.page.card import tables
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
    data = {
        **facts(leveled, drawn), "dtype": build.options["dtype"],
        "why": why, "shown": shown, "listings": _levels(build, syntax), "cost": _cost(build, title),
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


def _cost(build: Build, name: str) -> list[dict[str, Any]]:
    """The tables of its card; what cannot be compiled has none, and says why."""
    try:
        return tables(cost(build, name=name))
    except NccError as error:
        return [{"title": error.message, "rows": [], "head": False, "note": ""}]


# ---- its levels


def _levels(build: Build, syntax: Syntax | None) -> list[dict[str, Any]]:
    """The levels as the page has them: as much of each as there is room for."""
    return [_clipped(each) for each in listings(build, syntax)]


def _clipped(listing: Listing) -> dict[str, Any]:
    """The first lines of a listing."""
    lines, level = listing.text.split("\n"), listing.name.partition(".")[0]
    room, count = TEXT, 0
    while count < len(lines) and room >= 0:
        room -= min(len(lines[count]), LINE) + 1
        count += 1
    kept = [line if len(line) <= LINE else line[:LINE] + " ..." for line in lines[:count]]
    if count < len(lines):
        kept.append(f"... {len(lines) - count:,} more lines: ncc build --emit {level}")
    neurons = [*listing.neurons[:count], *[-1] * len(kept)][: len(kept)]
    return {"name": level, "title": listing.title, "text": "\n".join(kept), "neurons": neurons}
