"""`ncc build`: a net, a plan or an ssa text as any kind of output."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ncc.cli.arguments import Commands, common_options, pipeline_options, reading_options
from ncc.cli.reading import format_of, kinds_asked
from ncc.cli.request import asked, configure, enter, explain, found_by_tuning, read, settings
from ncc.cli.terminal import put
from ncc.driver.compiler import Build, make_folder, plain, write
from ncc.driver.engine import Emitted
from ncc.driver.kinds import (
    BESIDE,
    KINDS,
    companions,
    contents,
    ending,
    folder,
    target_of,
    with_gradient,
)
from ncc.driver.observe import Watcher
from ncc.driver.request import Request, valued
from ncc.errors import NccError, near
from ncc.images.kinds import Kinds
from ncc.ir.ssa import Module
from ncc.ir.syntax import Syntax
from ncc.machine.header import c_identifier
from ncc.machine.llvm import target
from ncc.machine.projects.project import claim
from ncc.scalar import losses, optimizers

SSA_KINDS = tuple(name for name, kind in KINDS.items() if not kind.of_net)
# What an engine, which is of no net, has to do with.
ENGINE_OPTIONS = {"--emit", "-o", "--name", "--kinds", "--target", "--cpu", "--features", "--dtype",
                  "--numerics", "-O", "--no-limit", "--no-cache", "--print-before",
                  "--print-after", "--verify-each", "--time-passes", "--stats"}


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("build", allow_abbrev=False, help="compile a net",
                                 parents=[reading_options(), common_options(), pipeline_options()])
    parser.add_argument("net", nargs="?",
                        help="a .nal, .nam, .nel, .graph, .plan or .ssa file; - is standard input; "
                        "none for --emit engine")
    parser.add_argument("--emit", default="obj", metavar="KIND,..",
                        help=f"what to write, default obj: {' '.join(KINDS)}; or engine, alone")
    parser.add_argument("-o", dest="out", metavar="PATH",
                        help="output file, or a folder for several kinds")
    parser.add_argument("--name", metavar="PREFIX",
                        help="prefix of C names; default: the name of the file")
    parser.add_argument("--kinds", metavar="LIST|FILE",
                        help="kinds of rows of an engine: sum:tanh,max:relu, a file with one a "
                        "line, or net files; of an image, those of its engine (default: its own)")
    code_options(parser)
    parser.set_defaults(call=build)


def code_options(parser: argparse.ArgumentParser) -> None:
    """What an object has, and the machine that it is for."""
    parser.add_argument("--embed-weights", action="store_true",
                        help="make the parameters constants of the code")
    parser.add_argument("--backward", action=argparse.BooleanOptionalAction,
                        help="emit the gradient functions; default: in obj, shared, wasm, "
                        "header and c only, and not of a net with states")
    parser.add_argument("--recompute", type=int, default=0, metavar="BYTES",
                        help="memory budget for stored activations; beyond it the backward pass "
                        "recomputes them (gradient checkpointing); default 0: no limit")
    parser.add_argument("--jacobian", action="store_true",
                        help="emit functions that make the derivatives of all outputs by all "
                        "inputs")
    parser.add_argument("--abi", choices=["casadi"],
                        help="other functions around the net's: casadi, those that CasADi's "
                        "external calls, with the parameters, the Jacobian and f64")
    parser.add_argument("--each", action="store_true",
                        help="emit functions of a batch whose samples have their own parameters")
    parser.add_argument("--train", metavar="LOSS,OPTIMIZER",
                        help="emit a training step: ce,adam or huber:delta=2,sgd:momentum=0.9")
    parser.add_argument("--provenance", action="store_true",
                        help="say in ssa, llvm, asm and c which neuron each line of unrolled code "
                        "computes")
    parser.add_argument("--target", metavar="TRIPLE|NAME",
                        help="machine to compile for; native is this one")
    parser.add_argument("--cpu",
                        help="CPU of the target; native is this one")
    parser.add_argument("--features", default="",
                        help="CPU features to add and remove: +name,-name,..")


def build(args: argparse.Namespace, watcher: Watcher) -> str | None:
    """Write the kinds; what an object takes is the last line of all that is said."""
    if args.name is not None and c_identifier(args.name) != args.name:
        raise NccError("E606", f"--name {args.name} is not a C identifier")
    if "engine" in _named(args):
        return _engine(args, watcher)
    if args.net is None:
        raise NccError("E600", "the following arguments are required: net",
                       help="ncc build --help")
    kinds = _kinds(args)
    if args.abi:
        for_casadi(args, kinds)
    rows = _rows(args, kinds, watcher)
    _links(args, kinds)
    if any(KINDS[kind].folder for kind in kinds):
        return _folder(args, kinds, watcher)
    request, made, syntax = entered(args, kinds, watcher)
    for kind in kinds:
        request.part.reaches(kind)
    if args.explain and not isinstance(made.start, Module):
        explain(made)
    outputs: dict[Path, bytes] = {}
    for kind in kinds:
        path = _path(kind, args, len(kinds) > 1, _stem(args))
        with watcher.emitting(kind, KINDS[kind].level == "llvm"):
            if request.part.chosen and (kind == "c" or KINDS[kind].level == "llvm"):
                request.part.expands(made.module, made.options["native_sqrt"],
                                     "c" if kind == "c" else "llvm")
            data = _contents(kind, made, syntax, path, _stem(args), rows)
            files = {}
            if kind in BESIDE and not isinstance(made.start, Module):
                files = _beside(kind, partial(companions, kind, made), path, watcher)
        if path is not None:
            outputs |= {**files, path: data}
            continue
        with watcher.working("write"):
            put(data)
    for path in outputs:
        if args.net != "-" and os.path.exists(path) and os.path.samefile(path, args.net):
            raise NccError("E608", f"{path} is the input: it would be overwritten")
    with watcher.working("write"):
        write(outputs)
    sized = {"obj", "shared", "wasm"}.intersection(kinds)
    return f"{args.net}: {made.footprint()}" if sized else None


def _folder(args: argparse.Namespace, kinds: list[str], watcher: Watcher) -> str:
    """Write a folder: a project of another build system."""
    kind = kinds[0]
    if len(kinds) > 1:
        raise NccError("E604", f"{kind} is a folder, and emitted alone")
    if args.out == "-":
        raise NccError("E608", f"{kind} is a folder, not for standard output", help="-o FOLDER")
    # What a device computes with is known, unless it is to be trained there.
    args.embed_weights = args.embed_weights or not (args.backward or args.train or args.each)
    request, made, _ = entered(args, kinds, watcher)
    request.part.reaches(kind)
    with watcher.emitting(kind, False):
        request.part.expands(made.module, made.options["native_sqrt"], "c")
        files = folder(kind, made, _compiled(args))
    out = Path(args.out or f"{made.options['name']}-{kind}")
    claim(out, files)
    with watcher.working("write"):
        for path in files:
            make_folder((out / path).parent)
        write({out / path: data for path, data in files.items()})
    return f"{args.net}: {len(files) - 1} files in {out}"


def for_casadi(args: argparse.Namespace, kinds: list[str]) -> None:
    """What CasADi asks of a build: f64, the Jacobian, and a kind that may have C beside it."""
    if not {"obj", "shared", "c"}.issuperset(kinds) or format_of(args) in ("plan", "ssa"):
        raise NccError("E609", "--abi casadi is for a net's obj, shared or c")
    if args.dtype not in (None, "f64"):
        raise NccError("E609", f"--abi casadi: CasADi computes in f64, not {args.dtype}")
    args.dtype, args.jacobian = "f64", True


def _compiled(args: argparse.Namespace) -> bool:
    """Whether a folder is to have an object: where a machine is named."""
    return args.target is not None or args.cpu is not None


def _engine(args: argparse.Namespace, watcher: Watcher) -> str:
    """Write an engine's object and header."""
    if _named(args) != ["engine"] or args.net is not None:
        raise NccError("E604", "an engine is emitted alone, and of no net", help=(
            f"--emit engine --kinds {args.net}" if args.net else "--emit engine --kinds LIST"))
    strange = sorted({word[:2] if word[1] != "-" else word for word in args.given}
                     - ENGINE_OPTIONS)
    if strange:
        raise NccError("E609", f"{strange[0]}: an engine is of no net")
    if args.kinds is None:
        raise NccError("E609", "--emit engine needs --kinds", help="--kinds sum:tanh,sum:sigmoid")
    aim = target(args.target, args.cpu, args.features)
    asked = settings(args, name=args.name or "net", small={"s": True, "3": False}.get(args.effort))
    chosen = asked.options(aim)
    configure(watcher, args, chosen)
    watched = (args.print_before, args.print_after, args.verify_each, args.time_passes, args.stats)
    made = Emitted(kinds_asked(args.kinds, watcher), aim, chosen, asked.opt, watcher,
                   cached=asked.cache and not any(watched))
    path = _path("obj", args, False, "engine")
    with watcher.emitting("engine"):
        code = made.made.code
        files = _beside("obj", lambda at: {at.with_suffix(".h"): made.header().encode()}, path,
                        watcher)
    with watcher.working("write"):
        if path is None:
            put(code)
        else:
            write({path: code, **files})
    return f"engine: {made.footprint()}"


def _rows(args: argparse.Namespace, kinds: list[str], watcher: Watcher) -> Kinds | None:
    """What --kinds says of an image; None where nothing."""
    if args.kinds is None:
        return None
    if "image" not in kinds:
        raise NccError("E609", "--kinds is for --emit image and --emit engine")
    return kinds_asked(args.kinds, watcher)


def _links(args: argparse.Namespace, kinds: list[str]) -> None:
    """NccError E609 where --provenance is for none of the kinds, or for an ssa text."""
    strange = [kind for kind in kinds if not KINDS[kind].linked]
    if args.provenance and (strange or format_of(args) == "ssa"):
        raise NccError("E609", f"--provenance: {strange[0] if strange else 'an ssa text'} has no "
                               "lines of neurons", help="--emit ssa, llvm, asm or c, of a net")


def _named(args: argparse.Namespace) -> list[str]:
    return [k for k in args.emit.replace(" ", "").split(",") if k]


def _kinds(args: argparse.Namespace) -> list[str]:
    """The kinds of --emit, each once. NccError E604 for an unknown one, or one that this format
    does not have."""
    kinds = _named(args)
    format = format_of(args)
    for kind in kinds or [""]:
        if kind not in KINDS:
            raise NccError("E604", f"unknown kind {kind!r}", help=near(kind, (*KINDS, "engine")))
        if format == "ssa" and kind not in SSA_KINDS:
            raise NccError("E604", f"cannot emit {kind} from an ssa text",
                           help=" ".join(SSA_KINDS))
    if format in ("graph", "plan") and "ast" in kinds:
        raise NccError("E604", f"a .{format} file has no ast")
    return list(dict.fromkeys(kinds))


def entered(args: argparse.Namespace, kinds: list[str], watcher: Watcher
             ) -> tuple[Request, Build, Syntax | None]:
    """What is asked for, the text at the start of the pipeline, and its syntax, if it has one."""
    aim = target(target_of(kinds) if args.target is None else args.target, args.cpu,
                 args.features)
    if format_of(args) == "ssa":
        request = asked(args, aim, args.name)
        return request, enter(request, args, watcher), None
    name = args.name or c_identifier(_stem(args))
    request = asked(args, aim, name, **_training(args, kinds))
    if format_of(args) == "plan":
        entered = enter(request, args, watcher)
        if args.backward and entered.plan.backward is None:
            raise NccError("E609", f"--backward: {args.net} has no backward forms")
        return request, entered, None
    configure(watcher, args, request.options)
    request, graph, syntax = read(request, args, watcher)
    with watcher.working("weights"):
        graph = valued(graph, args.weights, args.init, args.seed)
    if len(graph.states) and args.backward is None and not (args.train or args.jacobian):
        request = request.with_passes(gradient=False)  # which it has not, as it is
        watcher.gradient = False
    found = found_by_tuning(request, graph, watcher)
    return request, request.build(graph, watcher, found), syntax


def _training(args: argparse.Namespace, kinds: list[str]) -> dict[str, Any]:
    """What the passes have to know of --backward, --jacobian, --each and --train."""
    if args.embed_weights and (args.backward or args.train or args.each):
        word = "train" if args.train else "backward" if args.backward else "each"
        raise NccError("E609", f"--embed-weights: what --{word} moves would be constants")
    backward = args.backward
    if backward is None:
        linked = any(map(with_gradient, kinds))
        backward = bool(args.train) or (linked and not args.embed_weights)
    # C has no vectors, in which rounds of samples would be summed up at once.
    asked: dict[str, Any] = {"provenance": True} if args.provenance else {}
    asked |= {"gradient": backward, "recompute": args.recompute, "each": args.each,
              "scalar": "c" in kinds or not _compiled(args) and any(
                  [KINDS[kind].folder for kind in kinds])}
    if args.abi:
        asked["abi"] = args.abi
    if args.jacobian:
        asked["jacobian"] = True
    if args.train:
        if not backward:
            raise NccError("E609", "--train without --backward has no gradients")
        loss, comma, optimizer = args.train.partition(",")
        if not comma:
            raise NccError("E609", f"--train {args.train}: a loss, a comma and an optimizer",
                           help="--train mse,adam")
        asked["loss"] = str(losses.parse(loss))
        asked["optimizer"] = str(optimizers.parse(optimizer))
    return asked


def _stem(args: argparse.Namespace) -> str:
    """What files are named after that have no name of their own."""
    return "net" if args.net == "-" else Path(args.net).stem


def _path(kind: str, args: argparse.Namespace, several: bool, stem: str) -> Path | None:
    """Where a kind goes; None is standard output."""
    name = f"{stem}.{ending(kind)}"
    path: Path | None
    if args.out is None:
        path = Path(name) if several or not KINDS[kind].text else None
    elif os.path.isdir(args.out) or args.out.endswith("/"):
        path = Path(args.out) / name
    elif several:
        raise NccError("E608", f"several kinds, but -o {args.out} is not a folder")
    else:
        path = None if args.out == "-" else Path(args.out)
    if path is None and not KINDS[kind].text and sys.stdout is not None and sys.stdout.isatty():
        raise NccError("E608", f"{kind} is binary, not for a terminal", help=f"-o {name}")
    return path


def _contents(kind: str, build: Build, syntax: Syntax | None, path: Path | None, stem: str,
              rows: Kinds | None) -> bytes:
    """What a kind is as a file; an image is for an engine of these `rows`."""
    if kind == "ast":
        return (str(syntax).removesuffix("\n") + "\n").encode()
    named = path.name if path is not None and plain(path) else f"{stem}.{ending(kind)}"
    return contents(kind, build, named, rows)


def _beside(kind: str, make: Callable[[Path], dict[Path, bytes]], path: Path | None,
            watcher: Watcher) -> dict[Path, bytes]:
    """The files that go beside a file and nowhere else: the header of an object, what calls a
    module of WebAssembly."""
    if path is None or not plain(path):
        return {}
    with watcher.working(BESIDE[kind]):
        files = make(path)
    if path in files:
        raise NccError("E608", f"-o {path}: the {BESIDE[kind]} has this name, too")
    return files
