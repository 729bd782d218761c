"""The one hook between the steps of the road: dumps, times, statistics, checks, reproducers."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ncc.evaluate import Numpy
from ncc.graph import Graph
from ncc.plan import Plan
from ncc.road import Step
from ncc.source import NccError
from ncc.ssa import DTYPES, Module
from ncc.terms import prove

PROVED = ("fold", "cse", "dce", "split")
ENDINGS = {Graph: "graph", Plan: "plan", Module: "ssa", str: "ll"}


@dataclass
class Watcher:
    """What the command line asked to see; `err` is where it goes."""

    print_before: tuple[str, ...] = ()
    print_after: tuple[str, ...] = ()
    verify_each: bool = False
    check: bool = False
    time_passes: bool = False
    stats: bool = False
    err: TextIO = field(default_factory=lambda: sys.stderr)
    rows: list[tuple[str, str, str, float]] = field(default_factory=list)
    step: Step | None = None  # the step under way, for a reproducer
    level: Any = None

    def before(self, step: Step, level: Any) -> None:
        self.step, self.level = step, level
        if step.name in self.print_before or "all" in self.print_before:
            self._dump("before", step, level)

    def after(self, step: Step, old: Any, new: Any, seconds: float) -> None:
        self.rows.append((step.name, size(old), size(new), seconds))
        if step.name in self.print_after or "all" in self.print_after:
            self._dump("after", step, new)
        if self.verify_each:
            if hasattr(new, "verify"):
                new.verify()
            if step.name in PROVED and isinstance(new, Module):
                prove(old, new)
        if self.check:
            self._check(step, old, new)
        self.step = None

    def _dump(self, when: str, step: Step, level: Any) -> None:
        self.err.write(f"// ---- {when} {step.name}\n{level}")
        if not str(level)[-1:] == "\n":
            self.err.write("\n")

    def _check(self, step: Step, old: Any, new: Any) -> None:
        a, b = sample(old), sample(new)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            return
        if not np.array_equal(a, b, equal_nan=True):
            at = tuple(int(k) for k in np.argwhere((a != b) & ~(np.isnan(a) & np.isnan(b)))[0])
            raise NccError("E310", f"{step.name} changes output {at[-1]} of sample {at[0]}: "
                           f"{a[at]!r} became {b[at]!r}", status=3)

    def report(self) -> None:
        """The tables of --time-passes and --stats."""
        if self.time_passes:
            total = sum(row[3] for row in self.rows) or 1.0
            self.err.write("// ---- time of passes\n")
            for name, _, _, seconds in self.rows:
                self.err.write(f"{name:10} {seconds * 1e3:10.2f} ms {seconds / total:6.1%}\n")
        if self.stats:
            self.err.write("// ---- statistics\n")
            for name, old, new, _ in self.rows:
                self.err.write(f"{name:10} {old} -> {new}\n")

    def reproducer(self) -> Path | None:
        """Keep the text of the level before the guilty pass; what it is called."""
        if self.step is None or type(self.level) not in ENDINGS:
            return None
        path = Path(f"ncc-fault-{self.step.name}.{ENDINGS[type(self.level)]}")
        try:
            path.write_text(str(self.level))
        except OSError:
            return None
        return path


def size(level: Any) -> str:
    """How much a level holds: edges and neurons, or ops."""
    if isinstance(level, Graph):
        return f"{int((level.activations >= -1).sum())} neurons, {level.n_edges} edges"
    if isinstance(level, Plan):
        return f"{len(level.rows)} rows, {len(level.edges)} edges, {level.single.work} slots"
    if isinstance(level, Module):
        return f"{sum(len(f.ops) for f in level.funcs)} ops, {len(level.funcs)} functions"
    if isinstance(level, str):
        return f"{len(level)} characters"
    return "syntax"


def sample(level: Any) -> Any:
    """y of the level's interpreter for four fixed samples, parameters drawn where none are given.

    float32 throughout: of a graph and a plan under `fused`, of an ssa module as it says.
    """
    rng = np.random.default_rng(0)
    if isinstance(level, (Graph, Plan)):
        graph = level if isinstance(level, Graph) else level.graph
        if graph.levels is None:
            return None
        x = rng.standard_normal((4, len(graph.inputs))).astype(np.float32)
        params = np.where(np.isnan(graph.values), rng.standard_normal(graph.n_params), graph.values)
        return level.run(x, params)
    return None


def interpret(module: Module, x: Any, params: Any, *, batch: bool = False) -> Any:
    """y of an ssa module's own `forward`, or `forward_batch`: x (batch, n_inputs)."""
    real = DTYPES[module.dtype]
    x = np.asarray(x, real)
    funcs = {f.name: f for f in module.funcs}
    func = funcs["forward_batch" if batch else "forward"]
    sizes = {b.name: b.size for b in func.buffers}
    n = len(x)
    buffers: dict[str, Any] = {}
    if "packed" in sizes:
        packed = np.zeros((sizes["packed"],), real)
        module.run("pack", {"params": np.asarray(params, np.float64).astype(real),
                            "packed": packed})
        buffers["packed"] = packed
    if batch:
        buffers["x"] = np.ascontiguousarray(x).reshape(-1)
        buffers["y"] = np.zeros(n * sizes["y"], real)
        module.run(func.name, buffers, n)
        return buffers["y"].reshape(n, sizes["y"])
    buffers = {"x": np.ascontiguousarray(x.T), **buffers, "y": np.zeros((sizes["y"], n), real)}
    module.run(func.name, buffers)
    return buffers["y"].T


__all__ = ["Numpy", "Watcher", "interpret", "sample"]
