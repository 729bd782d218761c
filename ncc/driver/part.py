"""A part of the pipeline: the passes of --passes from the level of a text on, checked to join."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ncc.driver.kinds import KINDS
from ncc.driver.levels import NAMES, rank
from ncc.driver.pipeline import ORDERS, READING, Step, arrives, departs, steps
from ncc.errors import NccError
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module
from ncc.scalar.opcodes import OPCODES


@dataclass(frozen=True)
class Part:
    """Steps that join, `end`, the level that they lead to (an index into NAMES), and whether
    somebody chose them instead of the whole pipeline."""

    steps: tuple[Step, ...]
    end: int = len(NAMES) - 1
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
        level = NAMES.index(KINDS[kind].level)
        if level > self.end:
            raise NccError("E601", f"--passes ends at the {NAMES[self.end]} level, but {kind} "
                           f"is made of {NAMES[level]}", help=_whole())

    def expands(self, module: Module, native_sqrt: bool, what: str) -> None:
        """NccError E601 (status 2) where chosen passes left mathematical ops in the module, and
        `what` it becomes has none."""
        native = ("sqrt",) if native_sqrt and what != "c" else ()
        for func in module.funcs if self.chosen else ():
            for opcode, _, _ in func.ops:
                if opcode in OPCODES and OPCODES[opcode].math and opcode not in native:
                    raise NccError("E601", f"--passes: {what} has no {opcode}: expand must "
                                   "run first", help=_whole())


def part(passes: str | None, begin: Any) -> Part:
    """The steps of `passes`, as --passes spells them, from the level `begin` on; None is all.
    NccError E601 (status 2) where one does not join on."""
    start = rank(begin)
    if passes is None:
        return Part(tuple(s for s in steps() if rank(departs(s.call)) >= start))
    given = steps(passes)
    if start == 0 and not any(s.name == "resolve" for s in given):
        start = 1  # the net is read, resolved and ordered, whatever is done with it then
    joined: list[Step] = []
    at = start  # the level that the steps lead to so far, and the one before it
    for step in given:
        begins, ends = rank(departs(step.call)), rank(arrives(step.call))
        if begins < start:
            continue  # done before the text that is entered was printed
        if begins != at:
            raise NccError("E601", f"--passes: {step.name} takes the {NAMES[begins]} level, not "
                           f"{NAMES[at]}", help=_whole())
        for need in ORDERS:
            if need.needed and step.call is need.then and begin is not Plan and not any(
                    s.call is need.first for s in joined):
                raise NccError("E601", f"--passes: {step.name} needs {need.first.__name__} before "
                               f"it: {need.why}", help=_whole())
        if any(key in ("params", "source", "syntax", "embedded") for key in step.options):
            raise NccError("E601", f"--passes: {step.name} takes no such option here: "
                           + ", ".join(step.options))
        at = ends
        joined.append(step)
    return Part(tuple(joined), at, True)


def _whole() -> str:
    return "the pipeline is " + ",".join(s.name for s in steps())
