"""`ncc cost`: what a net's object takes on its target, and whether that is within limits."""

from __future__ import annotations

import argparse
import json
from typing import Final

from ncc.cli.arguments import Commands, common_options, pipeline_options, reading_options
from ncc.cli.build import code_options, entered, for_casadi
from ncc.cli.reading import format_of
from ncc.cli.request import explain
from ncc.cli.terminal import show
from ncc.driver.cost import Chosen, cost, help_for
from ncc.driver.observe import Watcher
from ncc.errors import NccError
from ncc.report.cost import Cost, Limit, amount

LIMITS: Final = ("flash", "ram", "stack", "cycles")


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("cost", allow_abbrev=False,
                                 help="flash, RAM, stack, instructions and cycles of a net",
                                 parents=[reading_options(), common_options(), pipeline_options()])
    parser.add_argument("net",
                        help="a net of ncc's or another tool's; - is standard input")
    code_options(parser)
    parser.add_argument("--json", action="store_true", help="print the card as JSON")
    parser.add_argument("--no-count", action="store_true",
                        help="do not count instructions in an emulator")
    for what in LIMITS:
        unit = "N" if what == "cycles" else "BYTES"
        parser.add_argument(f"--max-{what}", metavar=unit, help=(
            "limit of the predicted cycles of forward, as 20000 or 20k" if what == "cycles" else
            f"limit of the {what.replace('ram', 'RAM')}, as 8192 or 8K") + "; beyond it the "
            "exit status is 4")
    # The object that `ncc build` makes with the same options.
    parser.set_defaults(call=card, emit="obj", name=None)


def card(args: argparse.Namespace, watcher: Watcher) -> None:
    """Print the card. NccError E403 (status 4) where it exceeds a limit, E604 for what is no
    net."""
    asked = {what: getattr(args, f"max_{what}") for what in LIMITS}
    limits = [Limit(what, amount(text, what)) for what, text in asked.items() if text is not None]
    if format_of(args) in ("plan", "ssa"):
        raise NccError("E604", f"a .{format_of(args)} text has no cost card: it is of a net")
    if args.abi:
        for_casadi(args, ["obj"])
    request, made, _ = entered(args, ["obj"], watcher)
    request.part.reaches("obj")
    if args.explain:
        explain(made)
    with watcher.emitting("obj"):
        found = cost(made, name=args.net, count=not args.no_count)
    if args.json:
        show(json.dumps(found.to_dict() | {"limits": [
            {"what": limit.what, "most": limit.most, "is": limit.of(found),
             "held": limit.held(found)} for limit in limits]}, indent=1) + "\n")
    else:
        show(found.text)
    broken = [limit for limit in limits if not limit.held(found)]
    if broken:
        tried = Chosen(made.graph, request.target, request.settings, request.embed)
        counts = any(limit.what == "cycles" for limit in limits)

        def again(other: Chosen) -> Cost:
            return cost(other.build(), name=args.net, count=counts)

        raise NccError("E403", f"{args.net}: " + "; ".join([b.broken(found) for b in broken]),
                       help=help_for(tried, limits, found, again) or "a smaller net")
