"""The command line as a request, what is watched on the way, and a net compiled as it says."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from ncc.cli.reading import net_source, source_of, text_of, warn_of_unused
from ncc.cli.terminal import say
from ncc.driver.compiler import Build
from ncc.driver.observe import Watcher
from ncc.driver.part import part
from ncc.driver.pipeline import steps
from ncc.driver.request import Request
from ncc.driver.settings import Settings
from ncc.errors import NccError, near
from ncc.ir.graph import AGGREGATIONS, Graph
from ncc.ir.labels import titled
from ncc.ir.plan import Plan
from ncc.ir.syntax import Syntax
from ncc.machine.targets import Target
from ncc.runtime.tune import tuned

SHOWN: Final = 4  # labels of a run


def asked(args: argparse.Namespace, aim: Target, name: str | None = "net",
          **more: Any) -> Request:
    """`more` are options of passes that not every command has."""
    text = text_of(args)
    watched = (args.print_before, args.print_after, args.verify_each, args.check, args.time_passes,
               args.stats)
    asked = settings(args, name=name, form=args.form, batch_form=args.batch_form,
                     backward_form=args.backward_form,
                     small={"s": True, "3": False}.get(args.effort), **more)
    if any(watched) or args.passes is not None:  # who watches or chose passes wants them to run
        asked = replace(asked, cache=False)
    return Request(text, aim, asked, part(args.passes, text.level), args.weights, args.init,
                   args.seed, args.tune, getattr(args, "embed_weights", False))


def settings(args: argparse.Namespace, **passes: Any) -> Settings:
    """What the command line says of the code, with more options of `passes`."""
    opt = int(args.effort) if args.effort in ("0", "1", "2", "3") else 2
    return Settings(args.dtype, args.numerics, opt, not args.no_cache,
                    {"limit": not args.no_limit, **passes})


def configure(watcher: Watcher, args: argparse.Namespace, options: Mapping[str, Any]) -> None:
    """What of passes with these options is to be seen. NccError E601 for a pass that is none."""
    watcher.print_before = _names(args.print_before)
    watcher.print_after = _names(args.print_after)
    watcher.verify_each = args.verify_each
    watcher.check = args.check
    watcher.gradient = options.get("gradient", False)
    watcher.time_passes = args.time_passes
    watcher.stats = args.stats
    watcher.computes_in(options)


def _names(text: str) -> tuple[str, ...]:
    known = {step.name for step in steps()}
    names = tuple(n for n in text.replace(" ", "").split(",") if n)
    for name in names:
        if name not in known and name != "all":
            raise NccError("E601", f"unknown pass {name}",
                           help=near(name, ["all", *[s.name for s in steps()]]))
    return names


def read(request: Request, args: argparse.Namespace, watcher: Watcher
         ) -> tuple[Request, Graph, Syntax | None]:
    """The request with what its net asks for, the graph of its text, whose unused inputs are warned
    of, and the syntax, if any."""
    with watcher.working("read"):
        source = net_source(args)
    graph, syntax = request.text.graph(source, watcher, request.part.reading)
    warn_of_unused(graph, source)
    request = request.of(graph)
    watcher.computes_in(request.options)
    return request, graph, syntax


def found_by_tuning(request: Request, graph: Graph, watcher: Watcher) -> dict[str, Any]:
    """What --tune finds of the passes' options; nothing where it is not asked for."""
    if not request.tune:
        return {}
    if request.part.chosen:
        raise NccError("E609", "--tune needs the whole pipeline: not with --passes")
    with watcher.working("tune"):
        return tuned(graph, request.target, request.options, request.settings.opt,
                     request.part.behind, request.settings.cache)


def enter(request: Request, args: argparse.Namespace, watcher: Watcher) -> Build:
    """A plan or an ssa text at the start of its part of the pipeline."""
    with watcher.working("read"):
        source = source_of(request.text.path)
    build = (request.plan if request.text.format == "plan" else request.ssa)(source, watcher)
    configure(watcher, args, build.options)
    return build


def compiling(request: Request, args: argparse.Namespace, graph: Graph, watcher: Watcher
              ) -> tuple[Build, dict[str, Any]]:
    """The build of a net that is to run here, and the options of its forms for `Compiled`."""
    found = found_by_tuning(request, graph, watcher)
    build = request.build(graph, watcher, found)
    ready(build, request, args)
    return build, {"form": args.form, "batch_form": args.batch_form} | found


def ready(build: Build, request: Request, args: argparse.Namespace) -> None:
    """Before a build becomes code that runs here: what is to be explained, what must be so."""
    if args.explain:
        explain(build)
    if request.part.chosen:
        request.part.expands(build.module, build.options["native_sqrt"], "llvm")


def explain(build: Build) -> None:
    """The form of each function, and why; the runs of equal neurons."""
    plan = build.plan
    for name, s in plan.schedules.items():
        keeps = f", {s.work} slots of work" if s.slots is not None else ""
        say(f"{name}: {s.form} ({s.why}){keeps}")
    called = _labels_of_runs(plan)
    for k, run in enumerate(plan.runs):
        say(f"  {run.last - run.first} neurons, activation {run.activation:02x}, "
            f"{AGGREGATIONS[run.aggregation]}, "
            f"{int(plan.starts[run.last] - plan.starts[run.first])} edges"
            + (f": {', '.join(called[k])}" if k in called else ""))


def _labels_of_runs(plan: Plan) -> dict[int, list[str]]:
    """The labels whose first neuron is in a run, by its number: some, and how many more."""
    run_of = np.full(plan.graph.n_neurons, -1)
    for k, run in enumerate(plan.runs):
        run_of[plan.rows[run.first : run.last]] = k
    found: dict[int, list[str]] = {}
    for label in plan.graph.labels:
        found.setdefault(int(run_of[label.first]), []).append(titled(label))
    return {k: [*names[:SHOWN], *([f"{len(names) - SHOWN} more"] if names[SHOWN:] else [])]
            for k, names in found.items()}
