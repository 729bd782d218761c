"""The levels of the pipeline and the texts that ncc reads: a row each, and nothing beside."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ncc.driver import evaluate
from ncc.driver.evaluate import Evaluator
from ncc.errors import Source
from ncc.formats.read import net
from ncc.ir import graph_text, plan_text, ssa_text
from ncc.ir.graph import Graph
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module
from ncc.ir.syntax import AdjacencyList, EdgeList, Matrix, Syntax


class Format(NamedTuple):
    """A text that is read: its name, which is the ending of its files, too.

    type      what it is read into
    comment   what begins a comment in it
    read      Source -> `type`; NccError where the text is wrong
    """

    name: str
    type: type
    comment: str
    read: Callable[[Source], Any]


FORMATS = {f.name: f for f in (
    Format("nal", AdjacencyList, "%", partial(net, format="nal")),
    Format("nam", Matrix, "%", partial(net, format="nam")),
    Format("nel", EdgeList, "%", partial(net, format="nel")),
    Format("graph", Graph, "//", graph_text.read),
    Format("plan", Plan, "//", plan_text.read),
    Format("ssa", Module, "//", ssa_text.read),
)}
# Those that hold a net and nothing of its code.
NETS = tuple(name for name, format in FORMATS.items() if format.type not in (Plan, Module))


def format_of(level: Any) -> Format | None:
    """The format in which the text of a level can be read again, if there is one."""
    return next((f for f in FORMATS.values() if f.type is type(level)), None)


class Level(NamedTuple):
    """A level of the pipeline.

    name        in messages
    kind        what --emit calls its text
    type        what isinstance takes
    size        how much one holds, for --stats
    evaluator   its interpreter (`ncc/driver/evaluate.py`), if it has one
    """

    name: str
    kind: str
    type: Any
    size: Callable[[Any], str]
    evaluator: Callable[..., Evaluator | None] | None = None


def _of_graph(graph: Graph) -> str:
    return f"{int((graph.activations >= -1).sum())} neurons, {graph.n_edges} edges"


def _of_plan(plan: Plan) -> str:
    return f"{len(plan.rows)} rows, {len(plan.edges)} edges, {plan.single.work} slots"


def _of_module(module: Module) -> str:
    return f"{sum(len(f.ops) for f in module.funcs)} ops, {len(module.funcs)} functions"


# In the order of the pipeline.
LEVELS = (
    Level("syntax", "ast", Syntax, lambda syntax: "syntax"),
    Level("graph", "graph", Graph, _of_graph, evaluate.graph),
    Level("plan", "plan", Plan, _of_plan, evaluate.plan),
    Level("ssa", "ssa", Module, _of_module, evaluate.module),
    Level("llvm", "llvm", str, lambda text: f"{len(text)} characters"),
)
NAMES = tuple(level.name for level in LEVELS)


def row(level: Any) -> Level:
    """The row of something on a level: a Graph, a Module, ..."""
    return next(known for known in LEVELS if isinstance(level, known.type))


def rank(type: Any) -> int:
    """The place in LEVELS of a level's type."""
    return next(k for k, known in enumerate(LEVELS) if known.type == type)
