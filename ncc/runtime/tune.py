"""The forms that run a net fastest on this machine: built, timed, and remembered."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from ncc.driver.compiler import Build
from ncc.driver.pipeline import Step
from ncc.errors import NccError
from ncc.ir.graph import Graph
from ncc.machine import cache
from ncc.machine.cache import Entry
from ncc.machine.llvm import host
from ncc.machine.native import Library
from ncc.machine.targets import Target

BATCH = 256  # samples
ROUNDS = 7
SECONDS = 0.003  # of one candidate in one round
STRAIGHT = (12_288, 256)  # edges up to which code without loops is tried: of one sample, of a batch


def tuned(graph: Graph, target: Target, chosen: Mapping[str, Any], opt: int = 2,
          along: Sequence[Step] | None = None, cached: bool = True) -> dict[str, Any]:
    """The options `form`, `batch_form`, `lanes` (and with it `far_lanes` and `alone_lanes`) and
    `lanes_rows` that run `forward` and `forward_batch` fastest here, of the forms that `chosen`
    leaves open, and `timed`: which forms these are.

    Candidates are each form, and in loops over a batch rounds of two and of four vectors of
    samples; they run in turn on random numbers, and the least time of each counts. What was found
    for a net and a machine is kept in the cache. NccError E609 where this machine does not run the
    target's code.
    """
    if (target.triple.split("-")[0] != host().triple.split("-")[0]
            or target.vector_bits > host().vector_bits):
        raise NccError("E609", f"--tune: this machine runs no code for {target.name}")
    name = None
    if cached:
        net = {f.name: getattr(graph, f.name) for f in fields(Graph) if f.name != "values"}
        kept = {k: v for k, v in chosen.items() if k not in ("params", "limit")}
        name = cache.key("tune", net, graph.n_params, target, host().name, kept, opt)
    found = None if name is None else cache.lookup(name)
    if found is None:
        found = Entry(b"", {"options": _fastest(graph, target, chosen, opt, along)})
        if name is not None:
            cache.store(name, found)
    return dict(found.facts["options"])


def _fastest(graph: Graph, target: Target, chosen: Mapping[str, Any], opt: int,
             along: Sequence[Step] | None) -> dict[str, Any]:
    native = chosen["native"]
    sums = chosen["lanes"] // native * chosen["lanes_rows"]
    widths: list[dict[str, int]] = [{}]
    if native > 1:
        widths = [{"lanes": v * native, "lanes_rows": max(1, sums // v), "far_lanes": 0,
                   "alone_lanes": 0} for v in (2, 4)]
    candidates = [("straight", dict[str, int]())] if graph.n_edges <= max(STRAIGHT) else []
    candidates += [(form, width) for form in ("table", "shared") for width in widths]
    calls = []
    for form, width in list(candidates):
        build = Build(graph, target, {**chosen, "form": form, "batch_form": form,
                                      "timed": ("form", "batch_form"),
                                      "gradient": False, "optimizer": None, **width},
                      opt, along=along)
        try:
            calls.append(_calls(build))
        except NccError as error:
            if error.code != "E400":
                raise
            candidates.remove((form, width))  # more than there is to take
    times = _least(calls)

    best: tuple[float, dict[str, Any]] | None = None
    for looped in ("table", "shared"):  # which differ in the order of `packed`
        total = 0.0
        picked: dict[str, Any] = {}
        timed: list[str] = []
        for k, option in enumerate(("form", "batch_form")):
            asked = chosen.get(option, "auto")
            if asked == "straight":
                continue
            mine = [(times[c][k], form, width) for c, (form, width) in enumerate(candidates)
                    if asked in ("auto", form) and (
                        form == looped or (form == "straight" and graph.n_edges <= STRAIGHT[k]))]
            if not mine:
                break
            seconds, form, width = min(mine, key=lambda m: m[0])
            total += seconds / min([t[k] for t in times])
            picked |= width if k and form == looped else {}
            if asked == "auto":
                picked[option] = form
                timed.append(option)
        else:
            if best is None or total < best[0]:
                best = total, picked | {"timed": timed}
    return {} if best is None else best[1]


def _calls(build: Build) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """One call of `forward`, and one of `forward_batch` of BATCH samples."""
    library = Library(build.made, build.options["dtype"])
    rng = np.random.default_rng(0)
    g = build.graph
    x = rng.standard_normal((BATCH, g.n_inputs)).astype(library.real)
    y = np.empty((BATCH, len(g.outputs)), library.real)
    weights = []
    if library.n_packed is not None:
        weights = [library.pack(rng.uniform(-0.1, 0.1, g.n_params).astype(library.real))]
    held = [np.zeros((BATCH, len(g.states)), library.real)] if len(g.states) else []
    single = [x, *weights, y, *held, library.work("forward")]
    batch = [x, *weights, y, *held, library.work("forward_batch")]
    # The calls keep the library, which owns the code.
    return (lambda: library.calls["forward"](*[a.ctypes.data for a in single]),
            lambda: library.calls["forward_batch"](BATCH, *[a.ctypes.data for a in batch]))


def _least(calls: Sequence[Sequence[Callable[[], Any]]]) -> list[list[float]]:
    """The least seconds of a call, of all calls in turn."""
    flat = [call for pair in calls for call in pair]
    counts = []
    for call in flat:
        began = time.perf_counter()
        call()
        call()
        counts.append(max(1, int(2 * SECONDS / max(1e-9, time.perf_counter() - began))))
    times = [float("inf")] * len(flat)
    for _ in range(ROUNDS):
        for k, (call, count) in enumerate(zip(flat, counts, strict=True)):
            began = time.perf_counter()
            for _ in range(count):
                call()
            times[k] = min(times[k], (time.perf_counter() - began) / count)
    return [times[k : k + 2] for k in range(0, len(times), 2)]
