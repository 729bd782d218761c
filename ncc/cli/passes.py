"""What of the pipeline a command asks for: passes, their options, the kinds at its end."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ncc.cli.reading import no_reading_options, source_of
from ncc.driver.compiler import Build, options
from ncc.driver.observe import Watcher, carried, n_params
from ncc.driver.pipeline import Step, arrives, departs, steps
from ncc.errors import NccError, near
from ncc.formats import weights
from ncc.ir import ssa_text as ssatext
from ncc.ir.graph import Graph
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module
from ncc.ir.syntax import Syntax
from ncc.machine.llvm import Target
from ncc.runtime.tune import tuned
from ncc.scalar.opcodes import OPCODES

LEVELS: tuple[Any, ...] = (Syntax, Graph, Plan, Module, str)
NAMES = ("syntax", "graph", "plan", "ssa", "llvm")
# The last level that a kind is made of, as an index into LEVELS.
MADE_OF = {"graph": 1, "plan": 2, "ssa": 3, "header": 3, "c": 3, "llvm": 4, "asm": 4, "bc": 4,
           "obj": 4, "shared": 4}


def _names(text: str) -> tuple[str, ...]:
    known = {step.name for step in steps()}
    names = tuple(n for n in text.replace(" ", "").split(",") if n)
    for name in names:
        if name not in known and name != "all":
            raise NccError("E601", f"no pass {name}", status=2,
                           help=near(name, ["all", *[s.name for s in steps()]]))
    return names


def configure(watcher: Watcher, args: argparse.Namespace, common: dict[str, Any]) -> None:
    watcher.print_before = _names(args.print_before)
    watcher.print_after = _names(args.print_after)
    watcher.verify_each = args.verify_each
    watcher.check = args.check
    watcher.gradient = common.get("gradient", False)
    watcher.time_passes = args.time_passes
    watcher.stats = args.stats
    watcher.dtype = common["dtype"]
    watcher.numerics = common["numerics"]


def cached(args: argparse.Namespace) -> bool:
    """Whether objects may come from the cache: not where somebody watches the passes, or chose
    them."""
    watched = (args.print_before, args.print_after, args.verify_each, args.check, args.time_passes,
               args.stats)
    return not (args.no_cache or any(watched) or args.passes is not None)


def along_of(args: argparse.Namespace, start: int) -> tuple[tuple[Step, ...], int]:
    """The steps of --passes from level `start` on, and the level at their end; without it the
    whole road. NccError E601 (status 2) where one does not join on."""
    if args.passes is None:
        return tuple(s for s in steps() if _index(departs(s.call)) >= start), len(LEVELS) - 1
    given = steps(args.passes)
    if start == 0 and not any(s.name == "resolve" for s in given):
        start = 1  # the net is read, resolved and ordered, whatever is done with it then
    kept: list[Step] = []
    at = below = start  # where the road is, and the level it was at before
    for step in given:
        begins, ends = _index(departs(step.call)), _index(arrives(step.call))
        if begins < start:
            continue  # done before the text that is entered was printed
        if begins != at and not (begins == below and ends == at):
            raise NccError("E601", f"--passes: {step.name} starts from {NAMES[begins]}, but the "
                           f"road is at {NAMES[at]} there", status=2, help=_road())
        if step.name == "lower" and not any(s.name == "place" for s in kept):
            raise NccError("E601", "--passes: lower wants place before it", status=2, help=_road())
        if any(key in ("params", "source", "syntax", "embedded") for key in step.options):
            raise NccError("E601", f"--passes: an option of {step.name} is not for texts: "
                           + ", ".join(step.options), status=2)
        if ends != at:
            at, below = ends, at
        kept.append(step)
    return tuple(kept), at


def _index(level: Any) -> int:
    return next(k for k, known in enumerate(LEVELS) if known == level)


def _road() -> str:
    return "the road is " + ",".join(s.name for s in steps())


def reaches(args: argparse.Namespace, kind: str, end: int) -> None:
    if MADE_OF.get(kind, 0) > end:
        raise NccError("E601", f"--passes leads to {NAMES[end]}, and {kind} is made of "
                       f"{NAMES[MADE_OF[kind]]}", status=2, help=_road())


def arithmetic(build: Build, what: str) -> None:
    """Refuse an ssa module that still has mathematical ops, where --passes left out expand."""
    native = ("sqrt",) if build.options["native_sqrt"] and what != "c" else ()
    for func in build.module.funcs:
        for opcode, _, _ in func.ops:
            if opcode in OPCODES and OPCODES[opcode].math and opcode not in native:
                raise NccError("E601", f"--passes: {what} has no {opcode}: expand comes first",
                               status=2, help=_road())


def options_of(args: argparse.Namespace, aim: Target, name: str) -> dict[str, Any]:
    return options(aim, dtype=args.dtype, numerics=args.numerics, name=name, form=args.form,
                   batch_form=args.batch_form, backward_form=args.backward_form,
                   small={"s": True, "3": False}.get(args.effort), limit=not args.no_limit)


def tuned_options(args: argparse.Namespace, watcher: Watcher, graph: Graph, aim: Target,
           common: dict[str, Any], behind: Sequence[Step]) -> dict[str, Any]:
    """What --tune finds of the passes' options; nothing where it is not asked for."""
    if not args.tune:
        return {}
    if args.passes is not None:
        raise NccError("E609", "--tune times the whole road: not with --passes", status=2)
    with watcher.working("tune"):
        return tuned(graph, aim, common, args.opt, behind, cached(args))


def enter(args: argparse.Namespace, watcher: Watcher, aim: Target) -> tuple[Build, int]:
    """The ssa text of the command line, at the start of its part of the road, and the end of it."""
    no_reading_options(args, "ssa")
    with watcher.working("read"):
        source = source_of(args.net)
    with watcher.working("parse"):
        module, values = carried(ssatext.read(source))
    for flag, asked, has in (("--dtype", args.dtype, module.dtype),
                             ("--numerics", args.numerics, module.numerics)):
        if asked not in (None, "f32", has):
            raise NccError("E609", f"{flag} {asked}: {args.net} is {has}", status=2)
    name = getattr(args, "name", None)
    if name is not None:
        module = module.with_(name=name)
    if args.weights:
        values = weights.load(args.weights, n_params(module))
    if args.init:
        raise NccError("E609", "--init is for nets: an ssa text does not know fan-ins", status=2)
    if args.tune:
        raise NccError("E609", "--tune is for nets: an ssa text has its forms", status=2)
    along, end = along_of(args, LEVELS.index(Module))
    common = options(aim, dtype=module.dtype, numerics=module.numerics, name=module.name,
                     limit=not args.no_limit)
    configure(watcher, args, common)
    return Build(module, aim, common, args.opt, watcher, along, params=values), end
