"""The files that a command reads: nets and samples."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncc.cli.terminal import say
from ncc.driver.observe import Watcher
from ncc.driver.pipeline import Step, steps, walk
from ncc.errors import NccError, Source, near
from ncc.formats import samples as data
from ncc.formats import weights
from ncc.formats.read import decode
from ncc.formats.read import net as parse_net
from ncc.ir.graph import Graph, Reals
from ncc.ir.syntax import Syntax
from ncc.nets import net
from ncc.passes.graph.resolve import unused_inputs

READING = ("resolve", "order")  # the passes that are a part of reading a net


def source_of(path: str) -> Source:
    if path == "-":
        if sys.stdin is None:
            raise NccError("E101", "cannot read standard input: it is closed")
        return decode("<stdin>", sys.stdin.buffer.read())
    return net.read(path)


def format_of(args: argparse.Namespace) -> str:
    found = args.format or Path(args.net).suffix[1:]
    if found not in (*net.FORMATS, "ssa"):
        raise NccError("E102", f"{args.net}: the ending names no format", status=2,
                       note="--format says it whatever the ending is",
                       help=near(found, (*net.FORMATS, "ssa")))
    return str(found)


def _activation(text: str) -> int | str:
    try:
        return int(text, 16)
    except ValueError:
        return text


def read(args: argparse.Namespace, watcher: Watcher, along: Sequence[Step] = ()
         ) -> tuple[Graph, Syntax | None]:
    """The ordered graph of the file, its unused inputs warned of, and its syntax, if it has one.

    `along` may name resolve and order with options of their own.
    """
    with watcher.working("read"):
        source = source_of(args.net)
    format = format_of(args)
    syntax: Syntax | None = None
    level: Any
    chosen = [s for s in along if s.name in READING]
    common: dict[str, Any] = {"source": source}
    if format == "graph":
        no_reading_options(args, "graph")
        with watcher.working("parse"):
            level = net.graph(source)
        if level.levels is not None:
            chosen = []
        elif not chosen:
            chosen = [s for s in steps() if s.name == "order"]
    elif format == "ssa":
        raise NccError("E604", "an ssa text is no net: it has functions, not neurons", status=2)
    else:
        with watcher.working("parse"):
            level = syntax = parse_net(source, format)
        common |= {"activation": _activation(args.activation), "outputs": args.outputs,
                   "syntax": syntax}
        usual = [s for s in steps() if s.name in READING]
        called = [s.name for s in chosen]
        chosen = [s for s in usual if s.name not in called] + chosen
        chosen.sort(key=lambda step: step.name == "order")
    graph: Graph = walk(level, common, watcher, until=Graph, along=chosen)
    unused = unused_inputs(graph).tolist()
    if unused:
        k = max(2, len(f"{graph.n_neurons - 1:x}"))
        shown = ", ".join([f"{i:0{k}x}" for i in unused[:8]]) + (", ..." if unused[8:] else "")
        say(f"{source.name}: warning[W001]: unused input{'s' if unused[1:] else ''} {shown}")
    return graph, syntax


def no_reading_options(args: argparse.Namespace, level: str) -> None:
    for flag, value, usual in (("--outputs", args.outputs, None),
                               ("--activation", args.activation, "0")):
        if value != usual:
            raise NccError("E609", f"{flag} is for nets: a .{level} text has them", status=2)


def with_values(graph: Graph, args: argparse.Namespace) -> Graph:
    if args.weights:
        graph = graph.with_(values=weights.load(args.weights, graph.n_params))
    if args.init:
        graph = graph.with_(values=weights.init(graph, args.init, args.seed))
    return graph


def load_samples(args: argparse.Namespace, path: str, columns: int, **how: Any) -> Any:
    how |= {"header": args.header, "note": lambda words: say(f"note: {words}")}
    if path == "-":
        if sys.stdin is None:
            raise NccError("E101", "cannot read standard input: it is closed")
        made = data.load("<stdin>", columns, sys.stdin.buffer.read(), **how)
    else:
        made = data.load(path, columns, **how)
    if not len(made) and not path.endswith((".npy", ".npz")):
        say(f"{'<stdin>' if path == '-' else path}: warning[W003]: it holds no samples")
    return made


def missing_values(values: Reals | None, count: int) -> None:
    missing = count if values is None else int(np.isnan(values).sum())
    if missing:
        raise NccError("E607", f"{missing} of {count} parameters have no value",
                       help="--weights FILE or --init RULE")
