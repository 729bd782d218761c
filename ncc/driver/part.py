"""A part of the pipeline: the passes of --passes from the level of a text on, checked to join."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ncc.driver.pipeline import Step, arrives, departs, steps
from ncc.errors import NccError
from ncc.ir.graph import Graph
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module
from ncc.ir.syntax import Syntax
from ncc.scalar.opcodes import OPCODES

LEVELS: tuple[Any, ...] = (Syntax, Graph, Plan, Module, str)
NAMES = ("syntax", "graph", "plan", "ssa", "llvm")
# The last level that a kind is made of, as an index into LEVELS.
MADE_OF = {"graph": 1, "plan": 2, "ssa": 3, "header": 3, "c": 3, "llvm": 4, "asm": 4, "bc": 4,
           "obj": 4, "shared": 4}
READING = ("resolve", "order")  # the passes that are a part of reading a net


@dataclass(frozen=True)
class Part:
    """Steps that join, `end`, the level that they lead to (an index into LEVELS), and whether
    somebody chose them instead of the whole pipeline."""

    steps: tuple[Step, ...]
    end: int = len(LEVELS) - 1
    chosen: bool = False

    @property
    def reading(self) -> list[Step]:
        return [step for step in self.steps if step.name in READING]

    @property
    def behind(self) -> list[Step]:
        """The steps after reading."""
        return [step for step in self.steps if step.name not in READING]

    def reaches(self, kind: str) -> None:
        """NccError E601 (status 2) where the kind is made of a level behind the end."""
        if MADE_OF.get(kind, 0) > self.end:
            raise NccError("E601", f"--passes leads to {NAMES[self.end]}, and {kind} is made of "
                           f"{NAMES[MADE_OF[kind]]}", help=_whole())

    def expands(self, module: Module, native_sqrt: bool, what: str) -> None:
        """NccError E601 (status 2) where chosen passes left mathematical ops in the module, and
        `what` it becomes has none."""
        native = ("sqrt",) if native_sqrt and what != "c" else ()
        for func in module.funcs if self.chosen else ():
            for opcode, _, _ in func.ops:
                if opcode in OPCODES and OPCODES[opcode].math and opcode not in native:
                    raise NccError("E601", f"--passes: {what} has no {opcode}: expand comes first",
                                   help=_whole())


def is_last(kind: str) -> bool:
    """Whether the kind is made of the last level."""
    return MADE_OF.get(kind) == LEVELS.index(str)


def part(passes: str | None, begin: Any) -> Part:
    """The steps of `passes`, as --passes spells them, from the level `begin` on; None is all.
    NccError E601 (status 2) where one does not join on."""
    start = LEVELS.index(begin)
    if passes is None:
        return Part(tuple(s for s in steps() if _index(departs(s.call)) >= start))
    given = steps(passes)
    if start == 0 and not any(s.name == "resolve" for s in given):
        start = 1  # the net is read, resolved and ordered, whatever is done with it then
    joined: list[Step] = []
    at = start  # the level that the steps lead to so far, and the one before it
    for step in given:
        begins, ends = _index(departs(step.call)), _index(arrives(step.call))
        if begins < start:
            continue  # done before the text that is entered was printed
        if begins != at:
            raise NccError("E601", f"--passes: {step.name} starts from {NAMES[begins]}, but the "
                           f"road is at {NAMES[at]} there", help=_whole())
        if step.name == "lower" and begin is not Plan and "place" not in [s.name for s in joined]:
            raise NccError("E601", "--passes: lower wants place before it", help=_whole())
        if any(key in ("params", "source", "syntax", "embedded") for key in step.options):
            raise NccError("E601", f"--passes: an option of {step.name} is not for texts: "
                           + ", ".join(step.options))
        at = ends
        joined.append(step)
    return Part(tuple(joined), at, True)


def _index(level: Any) -> int:
    return next(k for k, known in enumerate(LEVELS) if known == level)


def _whole() -> str:
    return "the road is " + ",".join(s.name for s in steps())
