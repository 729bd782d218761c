"""The observer of the pipeline, told of each pass: it prints levels, times, sizes, and checks."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, TextIO

import numpy as np

from ncc.driver import compare
from ncc.driver.levels import format_of, row
from ncc.driver.net_module import carrying
from ncc.driver.pipeline import Step
from ncc.ir.equivalence import prove
from ncc.ir.graph import ABSENT, Graph, Reals
from ncc.ir.labels import digits
from ncc.ir.ssa import Module
from ncc.progress import Progress

PROVED = ("fold", "cse", "dce", "split")


@dataclass
class Watcher:
    """What the command line asked to see; `err` is where it goes.

    `dtype` and `numerics` are what --check computes graphs and plans in; an ssa module says its
    own. The canonical parameters come with each level, NaN where one has no value.
    """

    print_before: tuple[str, ...] = ()
    print_after: tuple[str, ...] = ()
    verify_each: bool = False
    check: bool = False
    gradient: bool = False  # whether --check compares gradients, too
    time_passes: bool = False
    stats: bool = False
    dtype: str = "f32"
    numerics: str = "fused"
    err: TextIO = field(default_factory=lambda: sys.stderr)
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    times: list[tuple[str, float]] = field(default_factory=list)  # of each row, without those in it
    began: float = field(default_factory=perf_counter)
    progress: Progress = field(default_factory=Progress)
    step: Step | None = None  # the last step begun,
    done: bool = False  # and whether it has ended well
    making: str | None = None  # the kind that is being made of the last level
    kept: Any = None  # the last level before the step that a text can enter again,
    since: list[Step] = field(default_factory=list)  # and the steps begun from there
    checked: tuple[Any, Any] = (None, None)  # the level checked last, and its answers
    inner: list[float] = field(default_factory=list)  # seconds within what is being timed

    def imported(self, began: float) -> None:
        """The command began earlier, at `began`: until now it was importing."""
        self.times.append(("import", self.began - began))
        self.began = began

    def computes_in(self, options: Mapping[str, Any]) -> None:
        """What --check computes in from here on: the passes' options, which may be the net's."""
        self.dtype, self.numerics = options["dtype"], options["numerics"]
        self.checked = (None, None)

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Around a stage that is no pass: it has a row of --time-passes, and a word of progress."""
        began = perf_counter()
        self.inner.append(0.0)
        try:
            with self.progress.working(what):
                yield
        finally:
            self._spent(what, perf_counter() - began, self.inner.pop())

    def _spent(self, what: str, seconds: float, inner: float = 0.0) -> None:
        """Of `seconds`, `inner` are in the rows of what is within."""
        self.times.append((what, seconds - inner))
        if self.inner:
            self.inner[-1] += seconds

    @contextmanager
    def emitting(self, kind: str, last: bool = True) -> Iterator[None]:
        """Around the making of a kind, of the `last` level or not: what goes wrong there after all
        passes replays by making it again."""
        self.making = kind if last else None
        with self.working(f"emit {kind}"):
            yield
        self.making = None

    def before(self, step: Step, level: Any, params: Reals | None = None) -> None:
        self.step, self.done = step, False
        if format_of(level) is not None:
            self.kept, self.since = level, []
        self.since.append(step)
        if step.name in self.print_before or "all" in self.print_before:
            self._dump("before", step, level, params)
        self.progress.before(step, level)

    def after(self, step: Step, old: Any, new: Any, seconds: float,
              params: Reals | None = None) -> None:
        self.progress.after(step, old, new, seconds)
        self._spent(step.name, seconds)
        self.rows.append((step.name, row(old).size(old), row(new).size(new) + lost(old, new)))
        if step.name in self.print_after or "all" in self.print_after:
            self._dump("after", step, new, params)
        if self.verify_each:
            with self.working("verify"):
                if hasattr(new, "verify"):
                    new.verify()
                if step.name in PROVED and isinstance(new, Module):
                    prove(old, new)
        if self.check:
            with self.working("check"):
                self._check(step, old, new, params)
        self.done = True

    def _dump(self, when: str, step: Step, level: Any, params: Reals | None) -> None:
        if isinstance(level, Module):
            level = carrying(level, params)
        text = str(level)
        end = "" if text.endswith("\n") else "\n"
        self.err.write(f"// ---- {when} {step.name}\n{text}{end}")

    def _check(self, step: Step, old: Any, new: Any, params: Reals | None) -> None:
        if isinstance(new, Graph) and new.levels is None:
            return  # `order` has yet to say whether it has a meaning
        checked, before = self.checked
        if isinstance(old, Graph) and isinstance(new, Graph) and old.n_inputs != new.n_inputs:
            compare.same_steps(step.name, old, new, params, self.dtype, self.numerics)
            return
        if checked is not old:
            before = compare.answers(old, params, self.dtype, self.numerics)
        after = compare.answers(new, params, self.dtype, self.numerics)
        self.checked = (new, after)
        if before is None or after is None:
            return
        compare.same_answers(step.name, before, after, self.numerics)
        if self.gradient:
            compare.same_gradients(step.name, old, new, params, self.dtype, self.numerics)

    def report(self) -> None:
        """The tables of --time-passes and --stats."""
        if self.time_passes:
            total = perf_counter() - self.began
            rest = total - sum(seconds for _, seconds in self.times)
            self.err.write("// ---- time of passes\n")
            for name, seconds in (*self.times, ("other", rest), ("total", total)):
                self.err.write(f"{name:13} {seconds * 1e3:10.2f} ms {seconds / total:6.1%}\n")
        if self.stats:
            self.err.write("// ---- statistics\n")
            for name, old, new in self.rows:
                self.err.write(f"{name:10} {old} -> {new}\n")


def lost(old: Any, new: Any) -> str:
    """Which neurons a graph pass has made away with, eight of them by name."""
    if not (isinstance(old, Graph) and isinstance(new, Graph)) or old.n_neurons != new.n_neurons:
        return ""
    gone = np.flatnonzero((old.activations != ABSENT) & (new.activations == ABSENT)).tolist()
    if not gone:
        return ""
    width = digits(old.n_own)
    shown = " ".join([f"{j:0{width}x}" for j in gone[:8]]) + (" ..." if gone[8:] else "")
    return f" (gone: {shown})"
