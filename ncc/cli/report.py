"""`ncc report`: a net as one page; `ncc view`: the same page, as the net's file changes."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ncc.cli.arguments import (
    Commands,
    Parser,
    common_options,
    pipeline_options,
    reading_options,
)
from ncc.cli.reading import format_of, load_samples
from ncc.cli.request import asked, configure, found_by_tuning, read
from ncc.cli.terminal import put
from ncc.driver.compiler import write
from ncc.driver.observe import Watcher
from ncc.driver.report import Beside, report
from ncc.driver.request import valued
from ncc.errors import NccError
from ncc.machine.header import c_identifier
from ncc.machine.llvm import target
from ncc.nets.net import read as text_file
from ncc.report.page.curve import curve


def arguments(commands: Commands) -> None:
    parser = commands.add_parser(
        "report", allow_abbrev=False, parents=[page_options()],
        help="write a page: picture, levels, cost, the net live")
    parser.add_argument("-o", dest="out", metavar="PAGE",
                        help="the .html file to write, or a folder; - is standard output; default: "
                        "the name of the net, here")
    parser.set_defaults(call=written)


def page_options() -> Parser:
    """What is on the page."""
    group = Parser(add_help=False, allow_abbrev=False,
                   parents=[reading_options(), common_options(), pipeline_options()])
    group.add_argument("net", help="a net of ncc's or another tool's")
    group.add_argument("--input", metavar="X.csv|X.npy",
                       help="samples, one a row, for the net live")
    group.add_argument("--header", action=argparse.BooleanOptionalAction,
                       help="the first row of a CSV names the columns, or does not; default: it "
                       "does if it holds no number")
    group.add_argument("--curve", metavar="CSV",
                       help="the learning curve that ncc train --curve wrote; default: "
                       "NET.curve.csv beside the net, if it is there")
    group.add_argument("--embed-weights", action="store_true",
                       help="show the code with the parameters as constants")
    group.add_argument("--target", metavar="TRIPLE|NAME",
                       help="machine whose code is shown; default: this one")
    group.add_argument("--cpu", help="CPU of the target; native is this one")
    group.add_argument("--features", default="",
                       help="CPU features to add and remove: +name,-name,..")
    return group


def written(args: argparse.Namespace, watcher: Watcher) -> str | None:
    """Write the page; how large it is comes last. NccError E608 where it would overwrite the
    net."""
    if args.net == "-" and args.input == "-":
        raise NccError("E609", "the net and the samples cannot both be standard input")
    name = f"{_stem(args)}.html"
    out = Path(args.out or name)
    if args.out is not None and (out.is_dir() or args.out.endswith("/")):
        out = out / name
    if args.net != "-" and out.exists() and out.samefile(args.net):
        raise NccError("E608", f"{out} is the input: it would be overwritten")
    data = page_of(args, watcher).encode()
    with watcher.working("write"):
        if args.out == "-":
            put(data)
            return None
        write({out: data})
    return f"{out}: {len(data):,} bytes"


def _stem(args: argparse.Namespace) -> str:
    return "net" if args.net == "-" else Path(args.net).stem


def page_of(args: argparse.Namespace, watcher: Watcher, view: str = "") -> str:
    """The page that a command asks for. NccError E604 for a plan or an ssa text."""
    if format_of(args) in ("plan", "ssa"):
        raise NccError("E604", f"a report is of a net, not of a .{format_of(args)} text")
    request = asked(args, target(args.target, args.cpu, args.features), c_identifier(_stem(args)))
    configure(watcher, args, request.options)
    request, graph, syntax = read(request, args, watcher)
    with watcher.working("weights"):
        graph = valued(graph, args.weights, args.init, args.seed)
    build = request.build(graph, watcher, found_by_tuning(request, graph, watcher))
    beside, path = Beside(view=view), curve_of(args)
    if args.input is not None:
        beside = replace(beside, samples=load_samples(args, args.input, graph.n_inputs),
                         called=Path(args.input).name)
    if path is not None:
        beside = replace(beside, curve=curve(text_file(path)))
    with watcher.working("report"):
        return report(build, "net" if args.net == "-" else Path(args.net).name, syntax, beside)


def curve_of(args: argparse.Namespace) -> Path | None:
    """The file of the learning curve: that of --curve, or one beside the net."""
    if args.curve is not None:
        return Path(args.curve)
    beside = Path(args.net).with_suffix(".curve.csv")
    return beside if args.net != "-" and beside.is_file() else None
