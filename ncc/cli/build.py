"""`ncc build`: a net or an ssa text as any kind of output."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ncc.cli.arguments import Commands, common_options, pipeline_options, reading_options
from ncc.cli.passes import (
    LEVELS,
    MADE_OF,
    along_of,
    arithmetic,
    cached,
    configure,
    enter,
    options_of,
    reaches,
    tuned_options,
)
from ncc.cli.reading import READING, format_of, read, with_values
from ncc.cli.terminal import put, say
from ncc.driver.compiler import Build, plain, write
from ncc.driver.kinds import KINDS, LINKED, TEXTS, contents, ending, text
from ncc.driver.observe import Watcher
from ncc.errors import NccError, near
from ncc.ir.graph import AGGREGATIONS, Graph
from ncc.ir.syntax import Syntax
from ncc.machine.header import c_identifier
from ncc.machine.llvm import target
from ncc.scalar import losses, optimizers

SSA_KINDS = ("ssa", "llvm", "asm", "bc", "obj", "shared", "c")


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("build", allow_abbrev=False, help="compile a net",
                                 parents=[reading_options(), common_options(), pipeline_options()])
    parser.add_argument("net", help="a .nal, .nam, .nel, .graph or .ssa file, or -")
    parser.add_argument("--emit", default="obj", metavar="KIND,..", help=" ".join(KINDS))
    parser.add_argument("-o", dest="out", metavar="PATH",
                        help="a file, or a folder for several kinds")
    parser.add_argument("--name", metavar="PREFIX", help="of symbols and macros")
    parser.add_argument("--embed-weights", action="store_true",
                        help="weights as constants of the code")
    parser.add_argument("--backward", action=argparse.BooleanOptionalAction,
                        help="the gradient's functions too: of obj, shared, header and c they are, "
                        "of the other kinds not, unless asked for")
    parser.add_argument("--recompute", type=int, default=0, metavar="BYTES",
                        help="of values that backward functions may keep; beyond, they are "
                        "computed again by blocks of the net")
    parser.add_argument("--train", metavar="LOSS,OPTIMIZER",
                        help="a step of training too: ce,adam or huber:delta=2,sgd:momentum=0.9")
    parser.add_argument("--target", metavar="TRIPLE|NAME",
                        help="the machine to build for, or native")
    parser.add_argument("--cpu",
                        help="of the target; native is this one")
    parser.add_argument("--features", default="",
                        help="+name,-name,.. on top of the CPU")
    parser.set_defaults(call=build)


def build(args: argparse.Namespace, watcher: Watcher) -> str | None:
    """Write the kinds; what an object takes is the last line of all that is said."""
    kinds = [k for k in args.emit.replace(" ", "").split(",") if k]
    for kind in kinds or [""]:
        if kind not in KINDS:
            raise NccError("E604", f"no kind {kind!r} to emit", status=2, help=near(kind, KINDS))
    if args.name is not None and c_identifier(args.name) != args.name:
        raise NccError("E606", f"--name {args.name} is no C identifier", status=2)
    kinds = list(dict.fromkeys(kinds))
    aim = target(args.target, args.cpu, args.features)
    stem = "net" if args.net == "-" else Path(args.net).stem
    format = format_of(args)
    syntax: Syntax | None = None
    build: Build
    if format == "ssa":
        for kind in kinds:
            if kind not in SSA_KINDS:
                raise NccError("E604", f"an ssa text gives no {kind}", status=2,
                               help=" ".join(SSA_KINDS))
        build, end = enter(args, watcher, aim)
    else:
        if format == "graph" and "ast" in kinds:
            raise NccError("E604", "a .graph file has no ast", status=2)
        common = options_of(args, aim, args.name or c_identifier(stem)) | _training(args, kinds)
        configure(watcher, args, common)
        along, end = along_of(args, LEVELS.index(Graph) if format == "graph" else 0)
        graph, syntax = read(args, watcher, along)
        with watcher.working("weights"):
            graph = with_values(graph, args)
        missing = int(np.isnan(graph.values).sum())
        behind = [s for s in along if s.name not in READING]
        common |= tuned_options(args, watcher, graph, aim, common, behind)
        if args.embed_weights:
            if missing:
                raise NccError("E607", f"--embed-weights: {missing} of {graph.n_params} parameters "
                               "have no value", help="--weights FILE or --init RULE", status=1)
            common |= {"params": graph.values, "embedded": True}
        build = Build(graph, aim, common, args.opt, watcher, behind, args.embed_weights,
                      cached=cached(args))
    for kind in kinds:
        reaches(args, kind, end)
    if args.explain and format != "ssa":
        explain(build)
    outputs: dict[Path, bytes] = {}
    for kind in kinds:
        with watcher.emitting(kind, MADE_OF.get(kind) == LEVELS.index(str)):
            text = _emit(kind, build, args, stem, len(kinds) > 1, outputs, syntax, watcher)
        if text is not None:
            with watcher.working("write"):
                put(text)
    for path in outputs:
        if args.net != "-" and os.path.exists(path) and os.path.samefile(path, args.net):
            raise NccError("E608", f"{path} is the input: it would be overwritten", status=2)
    with watcher.working("write"):
        write(outputs)
    return f"{args.net}: {build.footprint()}" if "obj" in kinds or "shared" in kinds else None


def _training(args: argparse.Namespace, kinds: list[str]) -> dict[str, Any]:
    """What the passes have to know of --backward and --train."""
    if args.embed_weights and (args.backward or args.train):
        raise NccError("E609", f"--embed-weights: what --{'train' if args.train else 'backward'} "
                       "moves would be constants", status=2)
    backward = args.backward
    if backward is None:
        linked = any(kind in LINKED for kind in kinds)
        backward = bool(args.train) or (linked and not args.embed_weights)
    # C has no vectors, in which rounds of samples would be summed up at once.
    asked: dict[str, Any] = {"gradient": backward, "recompute": args.recompute,
                             "scalar": "c" in kinds}
    if args.train:
        if not backward:
            raise NccError("E609", "--train without --backward has no gradients", status=2)
        loss, comma, optimizer = args.train.partition(",")
        if not comma:
            raise NccError("E609", f"--train {args.train}: a loss, a comma and an optimizer",
                           status=2, help="--train mse,adam")
        asked["loss"] = str(losses.parse(loss))
        asked["optimizer"] = str(optimizers.parse(optimizer))
    return asked


def _path(kind: str, args: argparse.Namespace, stem: str, several: bool) -> Path | None:
    """Where a kind goes; None is standard output."""
    name = f"{stem}.{ending(kind)}"
    if args.out is None:
        return Path(name) if several or kind not in TEXTS else None
    out = Path(args.out)
    if os.path.isdir(out) or args.out.endswith("/"):
        return out / name
    if several:
        raise NccError("E608", f"several kinds, and -o {args.out} is no folder", status=2)
    return None if args.out == "-" else out


def _emit(kind: str, build: Build, args: argparse.Namespace, stem: str, several: bool,
          outputs: dict[Path, bytes], syntax: Syntax | None, watcher: Watcher) -> bytes | None:
    """Put the kind among the outputs; what goes to standard output is the result instead."""
    path = _path(kind, args, stem, several)
    if path is None and kind not in TEXTS and sys.stdout is not None and sys.stdout.isatty():
        raise NccError("E608", f"{kind} is no text for a terminal", status=2,
                       help=f"-o {stem}.{ending(kind)}")
    if args.passes is not None and kind in ("llvm", "asm", "bc", "obj", "shared", "c"):
        arithmetic(build, "c" if kind == "c" else "llvm")
    if kind in ("obj", "shared", "bc"):
        own = path is not None and plain(path)
        data = contents(kind, build, path.name if path is not None and own else f"{stem}.so")
        # The header goes beside a file, and nowhere else.
        if kind == "obj" and path is not None and own and isinstance(build.start, Graph):
            beside = path.with_suffix(".h")
            if beside == path:
                raise NccError("E608", f"-o {path}: that is where the header goes", status=2)
            with watcher.working("header"):
                outputs[beside] = build.header().encode()
    elif kind == "ast":
        data = (str(syntax).removesuffix("\n") + "\n").encode()
    else:
        data = text(kind, build).encode()
    if path is None:
        return data
    outputs[path] = data
    return None


def explain(build: Build) -> None:
    plan = build.plan
    for name, s in plan.schedules.items():
        keeps = f", {s.work} slots of work" if s.slots is not None else ""
        say(f"{name}: {s.form} ({s.why}){keeps}")
    for run in plan.runs:
        say(f"  {run.last - run.first} neurons, activation {run.activation:02x}, "
            f"{AGGREGATIONS[run.aggregation]}, "
            f"{int(plan.starts[run.last] - plan.starts[run.first])} edges")
