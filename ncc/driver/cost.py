"""The cost card of a build: facts of its plan and its object, and what an emulator counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from itertools import combinations
from typing import Any

import numpy as np

from ncc.driver.compiler import Build, missing
from ncc.driver.settings import Settings
from ncc.errors import NccError
from ncc.ir.graph import Graph
from ncc.ir.plan import Plan
from ncc.ir.ssa import DTYPES
from ncc.ir.ssa_build import Builder
from ncc.machine.footprint import kind_of
from ncc.machine.llvm import sections
from ncc.machine.native import Function
from ncc.machine.targets import Target
from ncc.passes.plan.cost import in_order, predict
from ncc.report.cost import Cost, FunctionCost, Limit, Section
from ncc.scalar import losses, optimizers
from ncc.scalar.expressions import emit, expression
from ncc.scalar.opcodes import OPCODES

SHORT = ("relu", "step")  # a comparison each
MANUAL = "by the processor's manual, without wait states"
MODEL = "by the cost model, of the processor that it was fitted to"
# Edges of a net up to which other options are tried, and up to which in pairs.
TRIED, TRIED_IN_PAIRS = 20_000, 500


@dataclass(frozen=True)
class Chosen:
    """A net on a target, and how its object is made."""

    graph: Graph
    target: Target
    settings: Settings
    embed: bool = False
    name: str = "net"

    @classmethod
    def of(cls, graph: Graph, target: Target, dtype: Any, numerics: str | None,
           opt: int | str | None, embed: bool, backward: bool | None, train: str | None,
           form: str) -> Chosen:
        """As Python asks: `ncc.nets.net.Net.cost`. NccErrors E609 for an `opt` that is none, and
        for gradients of parameters that are constants; E630."""
        if opt not in (None, 0, 1, 2, 3, "s"):
            raise NccError("E609", f"opt {opt!r}", help='0, 1, 2, 3 or "s"')
        if embed and (backward or train):
            raise NccError("E609", "embed: what gradients and training move would be constants")
        if backward is None:
            backward = not embed and not len(graph.states)
        passes: dict[str, Any] = {"gradient": backward, "form": form, "name": "net",
                                  "small": {"s": True, 3: False}.get(opt)}
        if train:
            loss, _, optimizer = train.partition(",")
            passes |= {"gradient": True, "loss": str(losses.parse(loss)),
                       "optimizer": str(optimizers.parse(optimizer))}
        return cls(graph, target, Settings(dtype, numerics, opt if isinstance(opt, int) else 2,
                                           passes=passes), embed)

    def build(self) -> Build:
        """NccError E607 where parameters without a value are to be embedded."""
        more: dict[str, Any] = {}
        if self.embed:
            missing(self.graph.values, self.graph.n_params, "--embed-weights: ")
            more = {"params": self.graph.values, "embedded": True}
        made = Build.of(self.graph, self.target, self.settings, **more)
        return replace(made, embedded=self.embed)

    def passes(self, **passes: Any) -> Chosen:
        """This with other options of passes."""
        settings = replace(self.settings, passes={**self.settings.passes, **passes})
        return replace(self, settings=settings)


Change = Callable[[Chosen], Chosen]


def cost(build: Build, *, name: str = "net", count: bool = True) -> Cost:
    """The cost card of a build of a net; instructions are counted where `count` is asked for and an
    emulator is there."""
    plan, facts = build.plan, build.made.facts
    graph, chosen = build.graph, build.options
    code = build.made.code
    real = DTYPES[chosen["dtype"]]
    functions = {f: Function(*found) for f, found in facts["functions"].items()}
    counted, why_not = _counted(build, functions) if count else ({}, "not asked for")
    predicted = _predicted(build, functions)
    stacks = facts["stacks"] or {}
    costs = {}
    for f, found in functions.items():
        card = FunctionCost(stacks.get(f), found.work * real().itemsize)
        if f in predicted:
            card = replace(card, cycles=predicted[f], cycles_by=MODEL)
        seen = counted.get(f)
        if seen is not None:
            card = replace(card, instructions=seen.instructions, runtime=seen.calls,
                           runtime_instructions=seen.below, stack_used=seen.stack)
            if seen.cycles is not None:
                card = replace(card, cycles=float(seen.cycles), cycles_by=MANUAL)
        costs[f] = card
    return Cost(
        net=name, target=build.target.name, dtype=chosen["dtype"], numerics=chosen["numerics"],
        small=chosen["small"], embedded=build.embedded, forms=facts["forms"],
        sections=tuple([Section(s, size, kind_of(s)) for s, size in sections(code)
                        if kind_of(s) and size]),
        takes=build.footprint(), neurons=graph.n_own, edges=graph.n_edges,
        parameters=graph.n_params,
        macs=len(plan.edges), calls=_calls(plan), functions=costs,
        counted_by=emulator().version() if counted else None, why_not=why_not)


def _calls(plan: Plan) -> dict[str, int]:
    """How often each function that is no instruction, and the division, is computed for one
    sample."""
    found: Counter[str] = Counter()
    for run in plan.runs:
        b = Builder("f32", True)
        emit(expression(run.activation, plan.graph.functions), b, b.const(0.5))
        for opcode, _, _ in b.ops:
            row = OPCODES.get(opcode)
            if (row is not None and row.math and opcode not in SHORT) or opcode == "div":
                found[opcode] += run.last - run.first
    return dict(sorted(found.items()))


def _predicted(build: Build, functions: Mapping[str, Function]) -> dict[str, float]:
    """Cycles by the cost models: of processors with vectors, of in-order cores with an FPU."""
    plan, found = build.plan, {}
    if build.options["native"] == 1:
        fits = build.target.triple.startswith("thumb") and build.options["dtype"] in (
            build.target.fma)
        return {"forward": in_order(plan, plan.single.form)} if fits else {}
    for name, schedule, k in (("forward", plan.single, 0), ("forward_batch", plan.batch, 1)):
        if name in functions:
            found[name] = predict(plan, schedule.form, native=build.options["native"])[k]
    return found


def emulator() -> Any:
    """What executes code for other machines, of which few who import ncc have need."""
    return import_module("ncc.machine.emulator.emulated")


def _counted(build: Build, functions: Mapping[str, Function]) -> tuple[dict[str, Any], str]:
    """What the emulator counts of each function of one sample; why it counts none."""
    if emulator().machine_of(build.target) is None:
        return {}, f"no emulator of ours executes code for {build.target.name}"
    try:
        machine = emulator().Emulated(build.target, build.made.code)
        return dict(_calling(build, machine, functions)), ""
    except NccError as error:
        if error.code not in ("E637", "E404"):
            raise
        return {}, f"{error.message} ({error.help})" if error.help else error.message


def _calling(build: Build, machine: Any, functions: Mapping[str, Function]
             ) -> Iterator[tuple[str, Any]]:
    """Each function of one sample, and its count; `pack`, by which the others have weights, comes
    first."""
    rng, real = np.random.default_rng(0), DTYPES[build.options["dtype"]]
    values = build.values
    params = rng.normal(size=build.graph.n_params) / 2 if values is None else np.where(
        np.isnan(values), 0.5, values)
    at: dict[str, int] = {}

    def address(name: str, size: int) -> int:
        if name not in at:
            data = np.zeros(size)
            if name == "params":
                data[: len(params)] = params
            elif name in ("x", "dy"):
                data[:] = rng.normal(size=size)
            at[name] = machine.allocate(data.astype(real).tobytes())
        return at[name]

    for name in sorted(functions, key=lambda f: f != "pack"):
        signature, buffers, work = functions[name]
        if "n" in signature:
            continue
        arguments: list[Any] = [
            real(0.01) if letter == "v" else address(buffer, size)
            for letter, (buffer, size) in zip(signature, buffers.items(), strict=False)]
        if len(signature) > len(arguments):
            arguments.append(address(f"work of {name}", work))
        yield name, machine.call(f"{build.options['name']}_{name}", arguments)


def help_for(asked: Chosen, limits: Sequence[Limit], now: Cost,
             counts: Callable[[Chosen], Cost]) -> str:
    """Which options would keep the limits, found by trying: one of them, or two (of larger nets,
    which each bring what is broken down), or all that do; else those that come nearest."""
    if asked.graph.n_edges > TRIED:
        return ""
    best = _far(limits, now), "", now
    better: list[tuple[str, Change]] = []

    def tries(changes: Sequence[tuple[str, Change]]) -> bool:
        """Whether these together bring it nearer, or do it."""
        nonlocal best
        found = asked
        for _, change in changes:
            found = change(found)
        try:
            tried = counts(found)
        except NccError:  # which cannot be made so
            return False
        far = _far(limits, tried)
        if far < best[0] and best[0] > 1.0:  # of those that do, the first
            best = far, " ".join([words for words, _ in changes]), tried
        return far < _far(limits, now)

    changes = list(_changes(asked, now))
    for change in changes:
        if tries([change]):
            better.append(change)
    pairs = combinations(changes if asked.graph.n_edges <= TRIED_IN_PAIRS else better, 2)
    for several in (*pairs, tuple(better)):
        if best[0] > 1.0:
            tries(several)
    far, words, cost = best
    if not words:
        return "no option of ncc's makes it smaller: a net of fewer edges or neurons"
    rest = "" if far <= 1.0 else "; for the rest a net of fewer edges or neurons"
    return f"{words}: {', '.join([f'{m.what} {m.of(cost):,.0f}' for m in limits])}{rest}"


def _far(limits: Sequence[Limit], cost: Cost) -> float:
    """The largest share of a limit that is taken."""
    found = [limit.of(cost) for limit in limits]
    return max([math.inf if n is None else n / max(limit.most, 1)
                for n, limit in zip(found, limits, strict=True)])


def _changes(asked: Chosen, now: Cost) -> Iterator[tuple[str, Change]]:
    """Options that may make code smaller or faster, those first that change least."""
    passes = asked.settings.passes
    trains = bool(passes.get("loss"))
    yield ("-O3" if now.small else "-Os"), lambda a: a.passes(small=not now.small)
    if passes.get("gradient") and not trains:
        yield "--no-backward", lambda a: a.passes(gradient=False)
    if not asked.embed and not trains and not passes.get("each"):
        yield "--embed-weights", lambda a: replace(a.passes(gradient=False), embed=True)
    for form in ("table", "straight"):
        if now.forms.get("single", "") != form:
            yield f"--form {form}", partial(Chosen.passes, form=form)
    if now.dtype == "f64":
        yield "--dtype f32", lambda a: replace(a, settings=replace(a.settings, dtype="f32"))
