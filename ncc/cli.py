"""The command `ncc`: argparse and messages; what it does stands in the other rooms."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import ncc
from ncc import data, net, ssatext, texts, weights
from ncc.build import Build, options, write
from ncc.cheader import c_identifier
from ncc.graph import AGGREGATIONS, Graph
from ncc.machine import Target, host, target
from ncc.parse import decode
from ncc.parse import net as parse_net
from ncc.passes.order import order
from ncc.passes.resolve import resolve, unused_inputs
from ncc.passes.to_c import to_c
from ncc.road import LEVELS, steps, walk
from ncc.runtime import Compiled
from ncc.source import NccError, Source
from ncc.ssa import Module
from ncc.watch import Watcher

TEXTS = ("ast", "graph", "plan", "ssa", "llvm", "asm", "header", "c", "fwd", "matrix", "dot")
KINDS = (*TEXTS, "bc", "obj", "shared", "bwd")
ENDINGS = {"llvm": "ll", "asm": "s", "obj": "o", "header": "h", "shared": "so"}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="ncc", description=ncc.__doc__, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"ncc {ncc.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    reading = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    reading.add_argument("--activation", default="0", metavar="F",
                         help="of neurons that the file gives none (hex code or name)")
    reading.add_argument("--outputs", metavar="LIST", help="hex indices, comma-separated")
    reading.add_argument("--format", choices=net.FORMATS + ("ssa",), help="instead of the ending")

    road = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    road.add_argument("-O", dest="opt", type=int, choices=range(4), default=2,
                      help="0..3; never changes a result")
    road.add_argument("--numerics", choices=("strict", "fused", "fast"))
    road.add_argument("--weights", metavar="FILE", help=".npy, .npz (params) or text, one a line")
    road.add_argument("--init", metavar="RULE", help="he, xavier, uniform or shared:VALUE")
    road.add_argument("--seed", type=int, default=0)
    road.add_argument("--dtype", choices=("f32", "f64"), default="f32")
    road.add_argument("--form", choices=("auto", "straight", "table"), default="auto")
    road.add_argument("--batch-form", choices=("auto", "straight", "table"), default="auto")
    road.add_argument("--passes", metavar="LIST", help="instead of the whole road")
    road.add_argument("--print-before", default="", metavar="PASS,..|all")
    road.add_argument("--print-after", default="", metavar="PASS,..|all")
    road.add_argument("--verify-each", action="store_true")
    road.add_argument("--check", action="store_true",
                      help="compare the interpreters before and after each pass")
    road.add_argument("--time-passes", action="store_true")
    road.add_argument("--stats", action="store_true")
    road.add_argument("--explain", action="store_true")

    build = commands.add_parser("build", parents=[reading, road], allow_abbrev=False,
                                help="compile a net")
    build.add_argument("net")
    build.add_argument("--emit", default="obj", metavar="KIND,..", help=" ".join(KINDS))
    build.add_argument("-o", dest="out", metavar="PATH")
    build.add_argument("--name", metavar="PREFIX", help="of symbols and macros")
    build.add_argument("--embed-weights", action="store_true")
    build.add_argument("--target", metavar="TRIPLE|NAME")
    build.add_argument("--cpu")
    build.add_argument("--features", default="")

    check = commands.add_parser("check", parents=[reading], allow_abbrev=False,
                                help="read and verify a net")
    check.add_argument("net")

    run = commands.add_parser("run", parents=[reading, road], allow_abbrev=False,
                              help="evaluate a batch")
    run.add_argument("net")
    run.add_argument("--input", required=True, metavar="X.csv|X.npy")
    run.add_argument("-o", dest="out", metavar="Y")
    run.add_argument("--threads", type=int, default=1)

    convert = commands.add_parser("convert", parents=[reading], allow_abbrev=False,
                                  help="between the formats, by ending")
    convert.add_argument("net", metavar="IN")
    convert.add_argument("out", metavar="OUT")
    convert.add_argument("--lossy", action="store_true")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status of the contract."""
    watcher = Watcher()
    try:
        try:
            args = parser().parse_args(arguments)
        except SystemExit as stop:
            return int(stop.code or 0)
        commands = {"build": _build, "check": _check, "run": _run, "convert": _convert}
        commands[args.command](args, watcher)
        watcher.report()
        sys.stdout.flush()
        return 0
    except NccError as error:
        print(error, file=sys.stderr)
        if error.status in (3, 70):
            _keep(watcher)
        return error.status
    except KeyboardInterrupt:
        print("ncc: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except MemoryError:
        print("error[E400]: not enough memory", file=sys.stderr)
        return 4
    except Exception as error:  # a fault of ours: kept, named, and never shown as a traceback
        print(f"error[E701]: a fault of ncc's own: {type(error).__name__}: {error}",
              file=sys.stderr)
        place = traceback.extract_tb(error.__traceback__)[-1]
        print(f"note: in {Path(place.filename).name}:{place.lineno}", file=sys.stderr)
        _keep(watcher)
        return 70


def _keep(watcher: Watcher) -> None:
    path = watcher.reproducer()
    if path is not None and watcher.step is not None:
        name = watcher.step.name
        print(f"note: the level before {name} is kept in {path}\n"
              f"help: ncc build {path} --passes {name} --emit {path.suffix[1:]} --verify-each",
              file=sys.stderr)


def _names(text: str) -> tuple[str, ...]:
    known = {step.name for step in steps()}
    names = tuple(n for n in text.replace(" ", "").split(",") if n)
    for name in names:
        if name not in known and name != "all":
            raise NccError("E201", f"no pass {name}", status=2,
                           help="passes: " + ", ".join(s.name for s in steps()))
    return names


def _configure(watcher: Watcher, args: argparse.Namespace) -> None:
    watcher.print_before = _names(args.print_before)
    watcher.print_after = _names(args.print_after)
    watcher.verify_each = args.verify_each
    watcher.check = args.check
    watcher.time_passes = args.time_passes
    watcher.stats = args.stats


def _source(path: str) -> Source:
    if path == "-":
        return decode("<stdin>", sys.stdin.buffer.read())
    return net.read(path)


def _format(args: argparse.Namespace) -> str:
    found = args.format or Path(args.net).suffix[1:]
    if found not in (*net.FORMATS, "ssa"):
        raise NccError("E102", f"{args.net}: the ending names no format", status=2,
                       help="--format " + "|".join(net.FORMATS))
    return str(found)


def _activation(text: str) -> int | str:
    try:
        return int(text, 16)
    except ValueError:
        return text


def _read(args: argparse.Namespace, watcher: Watcher) -> Graph:
    """The ordered graph of the file, its unused inputs warned of."""
    source = _source(args.net)
    format = _format(args)
    if format == "graph":
        graph = net.parse(source.text, format, name=source.name).graph
    else:
        syntax = parse_net(source, format)
        common = {"activation": _activation(args.activation), "outputs": args.outputs,
                  "source": source, "syntax": syntax}
        along = [s for s in steps() if s.call in (resolve, order)]
        graph = walk(syntax, common, watcher, until=Graph, along=along)
    unused = unused_inputs(graph).tolist()
    if unused:
        k = max(2, len(f"{graph.n_neurons - 1:x}"))
        shown = ", ".join([f"{i:0{k}x}" for i in unused[:8]]) + (", ..." if unused[8:] else "")
        print(f"{source.name}: warning[W001]: unused input{'s' if unused[1:] else ''} {shown}",
              file=sys.stderr)
    return graph


def _values(graph: Graph, args: argparse.Namespace) -> Graph:
    if args.weights:
        graph = graph.with_(values=weights.load(args.weights, graph.n_params))
    if args.init:
        graph = graph.with_(values=weights.init(graph, args.init, args.seed))
    return graph


def _build(args: argparse.Namespace, watcher: Watcher) -> None:
    _configure(watcher, args)
    kinds = [k for k in args.emit.replace(" ", "").split(",") if k]
    for kind in kinds or [""]:
        if kind not in KINDS:
            raise NccError("E204", f"no kind {kind!r} to emit", status=2, help=" ".join(KINDS))
    if "bwd" in kinds:
        raise NccError("E205", "--emit=bwd is not built yet", status=2)
    if args.name is not None and c_identifier(args.name) != args.name:
        raise NccError("E206", f"--name {args.name} is no C identifier", status=2)
    aim = target(args.target, args.cpu, args.features)
    stem = "net" if args.net == "-" else Path(args.net).stem
    name = args.name or c_identifier(stem)
    common = _options(args, aim, name)
    if _format(args) == "ssa":
        made: Any = ssatext.read(_source(args.net))
        made.verify()
        made = walk(made, common, watcher, along=steps(args.passes), until=LEVELS["ssa"])
        _entered(made, kinds, args, aim, common, stem)
        return
    graph = _values(_read(args, watcher), args)
    if args.embed_weights:
        missing = int(np.isnan(graph.values).sum())
        if missing:
            raise NccError("E207", f"--embed-weights: {missing} of {graph.n_params} parameters "
                           "have no value", help="--weights FILE or --init RULE", status=1)
        common |= {"params": graph.values, "embedded": True}
    build = Build(graph, aim, common, args.opt, watcher,
                  [s for s in steps(args.passes) if s.call not in (resolve, order)],
                  args.embed_weights)
    if args.explain:
        _explain(build)
    outputs: dict[Path, bytes] = {}
    for kind in kinds:
        _emit(kind, build, args, stem, len(kinds) > 1, outputs)
    write(outputs)


def _options(args: argparse.Namespace, aim: Target, name: str) -> dict[str, Any]:
    return options(aim, dtype=args.dtype, numerics=args.numerics, name=name, form=args.form,
                   batch_form=args.batch_form)


def _entered(module: Module, kinds: Sequence[str], args: argparse.Namespace, aim: Target,
             common: dict[str, Any], stem: str) -> None:
    """What can be made of an ssa text, which carries no graph and so no header."""
    build = Build(None, aim, {**common, "name": module.name}, args.opt)  # type: ignore[arg-type]
    build.__dict__["module"] = module
    outputs: dict[Path, bytes] = {}
    for kind in kinds:
        if kind not in ("ssa", "llvm", "asm", "bc", "obj"):
            raise NccError("E204", f"an ssa text gives no {kind}", status=2,
                           help="ssa llvm asm bc obj")
        if kind == "obj":
            outputs[_path("obj", args, stem, False) or Path(f"{stem}.o")] = build.object()
        else:
            _emit(kind, build, args, stem, len(kinds) > 1, outputs)
    write(outputs)


def _path(kind: str, args: argparse.Namespace, stem: str, several: bool) -> Path | None:
    """Where a kind goes; None is standard output."""
    ending = ENDINGS.get(kind, kind)
    if args.out is None:
        return Path(f"{stem}.{ending}") if several or kind not in TEXTS else None
    out = Path(args.out)
    if out.is_dir() or args.out.endswith("/"):
        return out / f"{stem}.{ending}"
    if several:
        raise NccError("E208", f"several kinds, and -o {args.out} is no folder", status=2)
    return None if args.out == "-" else out


def _emit(kind: str, build: Build, args: argparse.Namespace, stem: str, several: bool,
          outputs: dict[Path, bytes]) -> None:
    path = _path(kind, args, stem, several)
    if kind == "obj":
        path = path or Path(f"{stem}.o")
        outputs[path] = build.object()
        outputs[path.with_suffix(".h")] = build.header().encode()
        return
    if kind == "shared":
        outputs[path or Path(f"{stem}.so")] = _shared(build)
        return
    if kind == "bc":
        outputs[path or Path(f"{stem}.bc")] = build.machine().bitcode(build.llvm)
        return
    text = _text(kind, build, args)
    if not text.endswith("\n"):
        text += "\n"
    if path is None:
        sys.stdout.write(text)
    else:
        outputs[path] = text.encode()


def _text(kind: str, build: Build, args: argparse.Namespace) -> str:
    if kind == "ast":
        format = _format(args)
        if format in ("graph", "ssa"):
            raise NccError("E204", f"a .{format} file has no ast", status=2)
        return str(parse_net(_source(args.net), format))
    if kind == "graph":
        return str(walk(build.graph, build.options, build.watch, until=Graph, along=build.along))
    if kind in ("plan", "llvm"):
        return str(getattr(build, kind))
    if kind == "ssa":
        return str(build.module)
    if kind == "asm":
        return build.machine().assembly(build.llvm)
    if kind == "header":
        return build.header()
    if kind == "c":
        return to_c(build.module, build.header())
    return str({"fwd": texts.fwd, "matrix": texts.matrix, "dot": texts.dot}[kind](build.graph))


def _shared(build: Build) -> bytes:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NccError("E500", "no C compiler (cc) to link a shared library with", status=5)
    with tempfile.TemporaryDirectory() as folder:
        made, out = Path(folder, "net.o"), Path(folder, "net.so")
        made.write_bytes(build.object())
        done = subprocess.run([compiler, "-shared", "-nostdlib", "-o", str(out), str(made)],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            raise NccError("E501", f"cc failed: {done.stderr.strip()}", status=5)
        return out.read_bytes()


def _explain(build: Build) -> None:
    plan = build.plan
    for name, s in (("forward", plan.single), ("forward_batch", plan.batch)):
        print(f"{name}: {s.form} ({s.why}), {s.work} slots of work", file=sys.stderr)
    for run in plan.runs:
        print(f"  {run.last - run.first} neurons, activation {run.activation:02x}, "
              f"{AGGREGATIONS[run.aggregation]}, "
              f"{int(plan.starts[run.last] - plan.starts[run.first])} edges", file=sys.stderr)


def _check(args: argparse.Namespace, watcher: Watcher) -> None:
    graph = _read(args, watcher)
    graph.verify()
    depth = int(graph.levels.max()) if graph.levels is not None and graph.n_neurons else 0
    print(f"neurons {graph.n_neurons}\nedges {graph.n_edges}\nparameters {graph.n_params}\n"
          f"depth {depth}\ninputs {len(graph.inputs)}\noutputs {len(graph.outputs)}")


def _run(args: argparse.Namespace, watcher: Watcher) -> None:
    _configure(watcher, args)
    if args.format == "ssa" or args.net.endswith(".ssa"):
        raise NccError("E204", "an ssa text is no whole net to run", status=2)
    graph = _values(_read(args, watcher), args)
    if np.isnan(graph.values).any():
        raise NccError("E207", f"{int(np.isnan(graph.values).sum())} of {graph.n_params} "
                       "parameters have no value", help="--weights FILE or --init RULE")
    x = data.load(args.input, len(graph.inputs))
    watching = [args.print_before, args.print_after, args.verify_each, args.check,
                args.time_passes, args.stats, args.explain]
    if any(watching):
        build = Build(graph, host(), _options(args, host(), "net"), args.opt, watcher,
                      [s for s in steps(args.passes) if s.call not in (resolve, order)])
        if args.explain:
            _explain(build)
        build.llvm  # noqa: B018  the walk is what is watched
    fn = Compiled(graph, dtype=args.dtype, opt=args.opt, threads=args.threads,
                  numerics=args.numerics, passes={"form": args.form,
                                                  "batch_form": args.batch_form})
    y = fn(x.astype(np.float32 if args.dtype == "f32" else np.float64))
    if args.out is None:
        sys.stdout.write(data.csv(y))
    else:
        write({Path(args.out): data.encode(y, Path(args.out).suffix)})


def _convert(args: argparse.Namespace, watcher: Watcher) -> None:
    graph = _read(args, watcher)
    ending = Path(args.out).suffix[1:]
    writers = {"nal": texts.write_nal, "nam": texts.write_nam, "nel": texts.write_nel}
    if ending == "graph":
        text = str(graph)
    elif ending in writers:
        text = writers[ending](graph, lossy=args.lossy)
    else:
        raise NccError("E102", f"{args.out}: the ending names no format", status=2,
                       help=".nal .nam .nel .graph")
    write({Path(args.out): text.encode()})
