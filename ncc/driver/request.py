"""What is asked of a net, a plan or an ssa text: filled once, by a command, and handed down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ncc.driver.compiler import Build, missing
from ncc.driver.levels import FORMATS, LEVELS
from ncc.driver.net_module import carried, n_params
from ncc.driver.observe import Watcher
from ncc.driver.part import Part
from ncc.driver.pipeline import READING, Step, steps, walk
from ncc.driver.settings import Settings, options
from ncc.errors import NccError, Source
from ncc.formats import weights
from ncc.formats.importers.foreign import Imported
from ncc.ir import plan_text, ssa_text
from ncc.ir.graph import Graph
from ncc.ir.syntax import Syntax
from ncc.machine.targets import Target

FOREIGN = "foreign"  # the format of what an importer reads


@dataclass(frozen=True)
class Text:
    """A text called `path` in messages, in a format: `plan`, `ssa`, a net's, or FOREIGN, which is
    another tool's; what it leaves open is said by `activation` and `outputs`. With `unroll`, so
    many steps of it are read as one net."""

    path: str
    format: str
    activation: str = "0"
    outputs: str | None = None
    unroll: int = 0

    @property
    def level(self) -> Any:
        """The level that it is read into."""
        if self.format == FOREIGN:
            return Graph
        read_into = FORMATS[self.format].type
        return next(level.type for level in LEVELS if issubclass(read_into, level.type))

    def graph(self, source: Source, watcher: Watcher, reading: Sequence[Step] = ()
              ) -> tuple[Graph, Syntax | None]:
        """The ordered graph, and its syntax, if the format has one; `reading` may hold resolve,
        order and unroll with options of their own.

        NccError E604 (status 2) for a plan or an ssa text, E609 (status 2) for what a graph has in
        its text, and those of the formats and of resolve and order.
        """
        syntax: Syntax | None = None
        level: Any
        chosen = list(reading)
        common: dict[str, Any] = {"source": source, "steps": self.unroll}
        if self.format == "ssa":
            raise NccError("E604", "an ssa text is no net: it has functions, not neurons")
        if self.format == "plan":
            raise NccError("E604", "a plan text is for build, check and run: its forms are chosen",
                           help="ncc build --emit graph prints its net")
        if isinstance(source, Imported):
            level = source.graph
            wanted = ["order"] * (not chosen) + ["unroll"] * bool(self.unroll)
        elif self.format == "graph":
            self.leaves_nothing_open()
            with watcher.working("parse"):
                level = FORMATS[self.format].read(source)
            chosen = [s for s in chosen if s.name == "unroll" or level.levels is None]
            wanted = ["order"] * (level.levels is None and not chosen)
            wanted += ["unroll"] * bool(self.unroll)
        else:
            with watcher.working("parse"):
                level = syntax = FORMATS[self.format].read(source)
            common |= {"activation": _activation(self.activation), "outputs": self.outputs,
                       "syntax": syntax}
            wanted = ["resolve", "order", *["unroll"] * bool(self.unroll)]
        names = [s.name for s in chosen]
        chosen += [s for s in steps() if s.name in wanted and s.name not in names]
        chosen.sort(key=lambda step: READING.index(step.name))
        try:
            graph: Graph = walk(level, common, watcher, until=Graph, along=chosen)
        except NccError as error:
            if isinstance(source, Imported) and error.code == "E116":
                raise NccError("E812", error.message, source, note=error.note,
                               help=source.on_cycle) from None
            raise
        return graph, syntax

    def leaves_nothing_open(self) -> None:
        """NccError E609 (status 2) where something is said that is in the text."""
        for flag, value, usual in (("--outputs", self.outputs, None),
                                   ("--activation", self.activation, "0")):
            if value != usual:
                raise NccError("E609", f"{flag} is for nets: a .{self.format} text has them")
        if self.unroll and self.format != "graph":
            raise NccError("E609", f"--unroll is for nets: a .{self.format} text is past that")


@dataclass(frozen=True)
class Request:
    """A text and what is to be made of it.

    `part` are the steps from the text on, `weights` is a file of parameters, `init` the rule for
    those without a value. With `embed` the parameters become constants.
    """

    text: Text
    target: Target
    settings: Settings
    part: Part
    weights: str | None = None
    init: str | None = None
    seed: int = 0
    tune: bool = False
    embed: bool = False

    def of(self, graph: Graph) -> Request:
        """This request, with what the net asks for where nothing is said of dtype and numerics."""
        return replace(self, settings=self.settings.of(graph))

    def with_passes(self, **passes: Any) -> Request:
        """The request with other options of passes."""
        return replace(self, settings=replace(self.settings,
                                              passes={**self.settings.passes, **passes}))

    @cached_property
    def options(self) -> dict[str, Any]:
        """The passes' options of a net; NccError E603 where the target has no such numerics."""
        return self.settings.options(self.target)

    def build(self, graph: Graph, watcher: Watcher, tuned: Mapping[str, Any]) -> Build:
        """The pipeline from a graph on, whose request this is, with options that were `tuned`.

        NccError E607 where parameters without a value are to be embedded.
        """
        common = self.options | dict(tuned)
        if self.embed:
            missing(graph.values, graph.n_params, "--embed-weights: ")
            common |= {"params": graph.values, "embedded": True}
        return Build(graph, self.target, common, self.settings.opt, watcher, self.part.behind,
                     self.embed, cached=self.settings.cache)

    def plan(self, source: Source, watcher: Watcher) -> Build:
        """The pipeline from the plan text on. NccError E609 (status 2) for what is said of nets,
        E601 (status 2) for chosen passes that lower a plan without slots."""
        self.text.leaves_nothing_open()
        with watcher.working("parse"):
            plan = plan_text.read(source)
        for key in ("form", "batch_form", "backward_form"):
            if self.settings.passes.get(key, "auto") != "auto":
                raise NccError("E609", f"--{key.replace('_', '-')}: {self.text.path} has its forms")
        if self.tune:
            raise NccError("E609", "--tune is for nets: a plan text has its forms")
        if self.embed:
            raise NccError("E609", "--embed-weights is for nets: a plan text has what is packed")
        if self.settings.passes.get("loss") and plan.backward is None:
            raise NccError("E609", f"--train: {self.text.path} has no backward forms")
        names = [step.name for step in self.part.steps]
        if plan.single.slots is None and "lower" in names and "place" not in names:
            raise NccError("E601", "--passes: lower needs place before it")
        plan = plan.with_(graph=valued(plan.graph, self.weights, self.init, self.seed))
        common = self.of(plan.graph).options | {"vjp": self.settings.passes.get("gradient", False)}
        embedded = plan.wants("forward") and not plan.wants("pack")
        return Build(plan, self.target, common, self.settings.opt, watcher, self.part.steps,
                     embedded)

    def ssa(self, source: Source, watcher: Watcher) -> Build:
        """The pipeline from the ssa text on. NccError E609 (status 2) for what is said of nets."""
        self.text.leaves_nothing_open()
        with watcher.working("parse"):
            module, values = carried(ssa_text.read(source))
        settings = self.settings
        for key, asked, has in (("dtype", settings.dtype, module.dtype),
                                ("numerics", settings.numerics, module.numerics)):
            if asked not in (None, has):
                raise NccError("E609", f"--{key} {asked}: {self.text.path} is {has}")
        if settings.passes["name"] is not None:
            module = module.with_(name=settings.passes["name"])
        if self.weights:
            values = weights.load(self.weights, n_params(module))
        if self.init:
            raise NccError("E609", "--init is for nets: an ssa text does not know fan-ins")
        if self.tune:
            raise NccError("E609", "--tune is for nets: an ssa text has its forms")
        common = options(self.target, dtype=module.dtype, numerics=module.numerics,
                         name=module.name, limit=settings.passes["limit"])
        return Build(module, self.target, common, settings.opt, watcher, self.part.steps,
                     params=values)


def valued(graph: Graph, weights_file: str | None, init: str | None, seed: int) -> Graph:
    """The graph with the parameters of a file, and those without a value drawn by a rule."""
    if weights_file:
        graph = graph.with_(values=weights.load(weights_file, graph.n_params))
    if init:
        graph = graph.with_(values=weights.init(graph, init, seed))
    return graph



def _activation(text: str) -> int | str:
    try:
        return int(text, 16)
    except ValueError:
        return text
