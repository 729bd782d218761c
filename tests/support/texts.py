"""Texts in tests: with `...` for what is left out, and as the levels that passes start from."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ncc.driver.pipeline import PIPELINE, departs
from ncc.errors import Source
from ncc.formats.read import net
from ncc.ir.graph import Graph
from ncc.ir.graph_text import read as read_graph
from ncc.ir.plan import Plan
from ncc.ir.plan_text import read as read_plan
from ncc.ir.ssa import Module
from ncc.ir.ssa_text import read as read_ssa
from ncc.ir.syntax import Syntax
from ncc.passes.emit.to_c import to_c

PASSES: dict[str, Callable[..., Any]] = {call.__name__: call for call in (*PIPELINE, to_c)}
READ: dict[Any, Callable[[Source], Any]] = {
    Syntax: lambda source: net(source, "nal"), Graph: read_graph, Plan: read_plan,
    Module: read_ssa,
}


def matches(expected: str, got: str) -> bool:
    """Whether `got` is `expected`, in which a line `...`, however far indented, stands for any
    lines, and `...` within a line for any characters."""
    pattern = ""
    for line in expected.splitlines():
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, line.split("..."))) + r"\n"
    return re.fullmatch(pattern, got) is not None


def level(name: str, source: Source, format: str = "nal") -> Any:
    """What the pass `name` starts from, read from its text; of a net file in one of the formats."""
    start = departs(PASSES[name])
    return net(source, format) if start is Syntax else READ[start](source)


def options(words: list[str]) -> dict[str, Any]:
    """`name=value` words: integers, reals with a comma behind each but the last, or text."""
    def value(text: str) -> Any:
        if "," in text:
            return [float(number) for number in text.split(",")]
        return int(text) if text.isdecimal() else text

    return {name: value(text) for name, text in (word.split("=", 1) for word in words)}
