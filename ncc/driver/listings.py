"""The listings of a net: its text at every level, each line with the neuron that it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from ncc.driver.compiler import Build
from ncc.driver.pipeline import Step
from ncc.errors import NccError
from ncc.ir.graph import Graph, Reals
from ncc.ir.plan import Plan
from ncc.ir.ssa import UNLINKED, Module
from ncc.ir.syntax import Syntax
from ncc.machine.targets import arch_of
from ncc.passes.emit.to_c import to_c
from ncc.report import listings as texts
from ncc.report.listings import Lines, Listing


@dataclass
class _Levels:
    """Watches the pipeline: each level that a pass made and that is another than before."""

    made: list[tuple[str, Any]] = field(default_factory=list)  # the pass, the level
    same: dict[int, list[str]] = field(default_factory=dict)  # behind which of them, which passes

    def before(self, step: Step, level: Any, params: Reals | None) -> None:
        if not self.made:
            self.made.append(("", level))

    def after(self, step: Step, old: Any, new: Any, seconds: float, params: Reals | None) -> None:
        if new is old or type(new) is type(old) and _equal(new, old):
            self.same.setdefault(len(self.made) - 1, []).append(step.name)
        else:
            self.made.append((step.name, new))

    def of(self, type: Any) -> Iterator[tuple[str, Any, str]]:
        """The levels of this type: the pass, the level, and who changed nothing behind it."""
        for k, (name, level) in enumerate(self.made):
            if isinstance(level, type):
                same = self.same.get(k, [])
                yield name, level, f" (unchanged by {', '.join(same)})" if same else ""


def _equal(new: Any, old: Any) -> bool:
    """Whether two levels of a type have the same text; of graphs and modules, which may be large,
    whether they hold the same."""
    if isinstance(new, Module):
        return bool(new == old)
    if isinstance(new, Graph):
        return all(np.array_equal(getattr(new, f.name), getattr(old, f.name), equal_nan=True)
                   if isinstance(getattr(new, f.name), np.ndarray)
                   else getattr(new, f.name) == getattr(old, f.name) for f in fields(Graph))
    return str(new) == str(old)


def listings(build: Build, syntax: Syntax | None = None) -> list[Listing]:
    """The texts of a net: the syntax that it was read from, if any; the graph at the beginning and
    behind each of its passes that changed it; the plan; ssa behind each pass that changed it; LLVM
    text; assembly; C. Functions that are assembly already are spread out in the LLVM text.

    All passes run anew, and LLVM twice. A text that cannot be made, as of too large a net, is the
    error that says why; one of the passes before (E146, say) is raised.
    """
    levels = _Levels()
    build = linking(replace(build, watch=levels, cached=False))
    build.plan  # noqa: B018
    code = [_listing("llvm", "LLVM", lambda: texts.spread(build.llvm, texts.of_llvm(build.llvm))),
            _listing("asm", f"assembly for {build.target.name}", lambda: assembly(build)),
            _listing("c", "C", lambda: texts.of_comments(_c(build)))]
    made = [] if syntax is None else [texts.of_syntax(syntax).listing("ast", "syntax")]
    for name, graph, same in levels.of(Graph):
        made.append(texts.of_graph(graph).listing(*_named("graph", name, same)))
    for _, plan, _ in list(levels.of(Plan))[-1:]:
        made.append(texts.of_plan(str(plan)).listing("plan", "plan"))
    for name, module, same in levels.of(Module):
        made.append(texts.of_comments(str(module)).listing(*_named("ssa", name, same)))
    return made + code


def _listing(name: str, title: str, make: Callable[[], Lines]) -> Listing:
    try:
        return make().listing(name, title)
    except NccError as error:
        lines = str(error).split("\n")
        return Lines(lines, [UNLINKED] * len(lines)).listing(name, title)


def _named(level: str, name: str, same: str) -> tuple[str, str]:
    return (f"{level}.{name}" if name else level,
            (f"{level} after {name}" if name else level) + same)


def linking(build: Build) -> Build:
    """The same build, whose ops carry their neurons."""
    return replace(build, options={**build.options, "provenance": True})


def assembly(build: Build) -> Lines:
    """The assembly of a build whose ops carry their neurons: instruction for instruction what it is
    where they do not."""
    plain = "\n".join(texts.of_llvm(build.llvm).lines)
    return texts.of_assembly(build.machine().assembly(plain), build.assembly())


def comment(build: Build) -> str:
    """What begins a comment in the assembly of a build's target."""
    arch = arch_of(build.target.triple)
    return {"aarch64": "//", "armv7": "@", "thumb": "@", "avr": ";"}.get(arch, "#")


def _c(build: Build) -> str:
    """The functions in C, which sums gradients sample by sample."""
    options = {**build.options, "scalar": True}
    return to_c(replace(build, options=options, watch=None).module)
