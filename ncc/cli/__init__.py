"""The command `ncc`: argparse and messages; what it does stands in the other rooms."""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import math
import os
import re
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

import ncc
from ncc import start
from ncc.bench import measure as bench
from ncc.bench.peers import PEERS
from ncc.driver.compiler import Build, options, plain, write
from ncc.driver.kinds import KINDS, LINKED, TEXTS, contents, ending, text
from ncc.driver.observe import Watcher, carried, interpret, n_params, runnable
from ncc.driver.pipeline import Step, arrives, departs, steps, walk
from ncc.errors import NccError, Source, near, printable
from ncc.formats import samples as data
from ncc.formats import weights
from ncc.formats import write as texts
from ncc.formats.read import decode
from ncc.formats.read import net as parse_net
from ncc.ir import ssa_text as ssatext
from ncc.ir.graph import AGGREGATIONS, Graph, Reals
from ncc.ir.plan import FORMS, Plan
from ncc.ir.ssa import DTYPES, Module, dtype_name
from ncc.ir.syntax import Syntax
from ncc.machine import cache, limits
from ncc.machine.cache import Entry
from ncc.machine.codegen import Codegen
from ncc.machine.header import c_identifier
from ncc.machine.llvm import Target, host, target
from ncc.machine.native import functions
from ncc.nets import net
from ncc.passes.graph.order import order
from ncc.passes.graph.resolve import resolve, unused_inputs
from ncc.progress import Progress
from ncc.runtime.compiled import Compiled
from ncc.runtime.skip_dead import SkipDead
from ncc.runtime.tune import tuned
from ncc.scalar import losses, optimizers
from ncc.scalar.losses import LOSSES
from ncc.scalar.opcodes import OPCODES
from ncc.scalar.optimizers import LEARNING_RATE, OPTIMIZERS
from ncc.training.bar import Meter
from ncc.training.checkpoint import State
from ncc.training.checkpoint import load as load_state
from ncc.training.loop import History, train

SSA_KINDS = ("ssa", "llvm", "asm", "bc", "obj", "shared", "c")
LEVELS: tuple[Any, ...] = (Syntax, Graph, Plan, Module, str)
NAMES = ("syntax", "graph", "plan", "ssa", "llvm")
# The last level that a kind is made of, as an index into LEVELS.
MADE_OF = {"graph": 1, "plan": 2, "ssa": 3, "header": 3, "c": 3, "llvm": 4, "asm": 4, "bc": 4,
           "obj": 4, "shared": 4}


class _Parser(argparse.ArgumentParser):
    """Faults of the command line are NccErrors, E600, with what was perhaps meant."""

    def error(self, message: str) -> NoReturn:
        raise NccError("E600", message, status=2, help=f"{self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = "command" if action.dest == "command" else "/".join(action.option_strings)
            raise NccError("E600", f"no {what} {value}", status=2,
                           help=near(str(value), map(str, action.choices)))

    def known(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line, whose unknown options are found before argparse looks for missing ones."""
    top = parser()
    commands = next(a.choices for a in top._actions if a.dest == "command")
    assert isinstance(commands, dict)
    held: _Parser = top
    given: set[str] = set()
    for before, word in zip(["", *words], words, strict=False):
        name = word.partition("=")[0]
        if held is top and word in commands:
            held = commands[word]
        elif word == "--" or (held is top and word[:1] != "-"):
            break
        elif re.match("-[A-Za-z-]", name) and " " not in name:
            flags = held.known()
            if name not in flags and not (word[1] != "-" and word[:2] in flags):
                raise _no_option(name, before, held, commands)
            given.add(name)
    args = top.parse_args(words)
    args.given = given
    return args


def _no_option(name: str, before: str, held: _Parser, commands: Mapping[str, _Parser]
               ) -> NccError:
    has = [other.prog for other in commands.values() if name in other.known()]
    known = {flag.lstrip("-"): flag for flag in held.known() if flag[:2] == "--"}
    close = get_close_matches(name.lstrip("-").lower(), known, 1, 0.5)
    help = f"did you mean `{known[close[0]]}`?" if close else f"{held.prog} --help"
    if before in held.known() and not close:
        help = f"a value that begins with - is written {before}={name}"
    elif has:
        help = f"{' and '.join(has)} {'has' if len(has) == 1 else 'have'} it"
    return NccError("E600", f"{held.prog} has no option {name}", status=2, help=help)


def parser() -> _Parser:
    top = _Parser(prog="ncc", description=ncc.__doc__, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"ncc {ncc.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    reading = _Parser(add_help=False, allow_abbrev=False)
    reading.add_argument("--activation", default="0", metavar="F",
                         help="of neurons that the file gives none (hex code or name)")
    reading.add_argument("--outputs", metavar="LIST", help="hex indices, comma-separated")
    reading.add_argument("--format", choices=net.FORMATS + ("ssa",), help="instead of the ending")

    common = _Parser(add_help=False, allow_abbrev=False)
    common.add_argument("-O", dest="effort", choices=("0", "1", "2", "3", "s"),
                        help="effort of LLVM, or s: the fewest bytes, which is the default for "
                        "small devices; never changes a result")
    common.add_argument("--numerics", choices=("strict", "fused", "fast"),
                        help="how a sum rounds; fused where the target can, else strict")
    common.add_argument("--weights", metavar="FILE", help=".npy, .npz (params) or text, one a line")
    common.add_argument("--init", metavar="RULE", help="he, xavier, uniform or shared:VALUE")
    common.add_argument("--seed", type=int, default=0,
                        help="of --init; of train, of all that is drawn")
    common.add_argument("--dtype", type=dtype_name, default="f32", metavar="f32|f64",
                        help="what the code computes in; numpy's names do, too")
    common.add_argument("--no-limit", action="store_true",
                        help="go on where the code would take too much time or memory")
    common.add_argument("--no-cache", action="store_true",
                        help="neither take objects from the cache nor keep them there")

    road = _Parser(add_help=False, allow_abbrev=False)
    road.add_argument("--form", choices=("auto", *FORMS), default="auto",
                        help="of the function of one sample")
    road.add_argument("--batch-form", choices=("auto", *FORMS), default="auto",
                        help="of the batch function")
    road.add_argument("--backward-form", choices=("auto", "straight", "table"), default="auto",
                        help="of the gradient's functions")
    road.add_argument("--tune", action="store_true",
                      help="time the forms on this machine, and take the fastest")
    road.add_argument("--passes", metavar="LIST", help="instead of the whole road")
    road.add_argument("--print-before", default="", metavar="PASS,..|all",
                        help="the level before a pass, to standard error")
    road.add_argument("--print-after", default="", metavar="PASS,..|all",
                        help="the level after a pass, to standard error")
    road.add_argument("--verify-each", action="store_true",
                        help="verify every level, prove fold, cse, dce and split")
    road.add_argument("--check", action="store_true",
                      help="compare the interpreters before and after each pass")
    road.add_argument("--time-passes", action="store_true",
                        help="a table of seconds")
    road.add_argument("--stats", action="store_true",
                        help="what each pass made of how much")
    road.add_argument("--explain", action="store_true",
                        help="the form of each function, and why")

    build = commands.add_parser("build", parents=[reading, common, road], allow_abbrev=False,
                                help="compile a net")
    build.add_argument("net", help="a .nal, .nam, .nel, .graph or .ssa file, or -")
    build.add_argument("--emit", default="obj", metavar="KIND,..", help=" ".join(KINDS))
    build.add_argument("-o", dest="out", metavar="PATH",
                        help="a file, or a folder for several kinds")
    build.add_argument("--name", metavar="PREFIX", help="of symbols and macros")
    build.add_argument("--embed-weights", action="store_true",
                        help="weights as constants of the code")
    build.add_argument("--backward", action=argparse.BooleanOptionalAction,
                       help="the gradient's functions too: of obj, shared, header and c they are, "
                       "of the other kinds not, unless asked for")
    build.add_argument("--recompute", type=int, default=0, metavar="BYTES",
                       help="of values that backward functions may keep; beyond, they are computed "
                       "again by blocks of the net")
    build.add_argument("--train", metavar="LOSS,OPTIMIZER",
                       help="a step of training too: ce,adam or huber:delta=2,sgd:momentum=0.9")
    build.add_argument("--target", metavar="TRIPLE|NAME",
                        help="the machine to build for, or native")
    build.add_argument("--cpu",
                        help="of the target; native is this one")
    build.add_argument("--features", default="",
                        help="+name,-name,.. on top of the CPU")

    check = commands.add_parser("check", parents=[reading], allow_abbrev=False,
                                help="read and verify a net")
    check.add_argument("net", help="a .nal, .nam, .nel, .graph or .ssa file, or -")

    run = commands.add_parser("run", parents=[reading, common, road], allow_abbrev=False,
                              help="evaluate a batch")
    run.add_argument("net", help="a .nal, .nam, .nel, .graph or .ssa file, or -")
    run.add_argument("--input", required=True, metavar="X.csv|X.npy")
    run.add_argument("--header", action=argparse.BooleanOptionalAction,
                     help="whether the first row of a CSV names columns; if it has no number, "
                     "unless said")
    run.add_argument("-o", dest="out", metavar="Y",
                        help=".npy, else CSV; standard output by default")
    run.add_argument("--threads", type=int, default=1,
                        help="over the samples; 0 is one a core")
    run.add_argument("--skip-dead", action="store_true",
                        help="samples of which nothing but zeros goes on leave the batch")

    timed = commands.add_parser("bench", parents=[reading, common, road], allow_abbrev=False,
                                help="time a net beside other libraries")
    timed.add_argument("net", help="a .nal, .nam, .nel or .graph file, or -")
    timed.add_argument("--batch", type=int, default=256, help="samples of a batch")
    timed.add_argument("--threads", type=int, default=1,
                       help="of ncc over a batch, and of each library; 0 is one a core")
    timed.add_argument("--seconds", type=float, default=5.0, help="to measure for")
    timed.add_argument("--json", action="store_true", help="a document instead of a table")
    timed.add_argument("--peers", metavar="LIST",
                       help="of " + " ".join(PEERS) + ", or none; all by default")

    train = commands.add_parser("train", parents=[reading, common], allow_abbrev=False,
                                help="fit the parameters to samples")
    train.add_argument("net", help="a .nal, .nam, .nel or .graph file, or -")
    train.add_argument("--data", required=True, metavar="X",
                       help=".npy, .npz (x, or its only entry), else CSV: a sample a row")
    train.add_argument("--target", required=True, metavar="Y",
                       help="likewise (y): its outputs; for ce the number of its class")
    train.add_argument("--header", action=argparse.BooleanOptionalAction,
                       help="whether the first row of each CSV names columns; if it has no number, "
                       "unless said")
    train.add_argument("-o", dest="out", required=True, metavar="WEIGHTS|NET",
                       help=".npy, .npz or text, as --weights reads it; or .nal, .nel or .graph: "
                       "the net with its values")
    train.add_argument("--loss", default="mse", help=" ".join(LOSSES) + ", huber:delta=D")
    train.add_argument("--optimizer", default="adam",
                       help=" ".join(OPTIMIZERS) + ", sgd:momentum=0.9:nesterov=1")
    train.add_argument("--lr", type=float, metavar="RATE",
                       help="learning rate; " + ", ".join(
                           f"{rate:g} for {name}" for name, rate in LEARNING_RATE.items()))
    train.add_argument("--batch", type=int, default=32, help="samples of a step")
    train.add_argument("--epochs", type=int, default=100, help="times through the samples")
    train.add_argument("--validation", type=float, default=0.0, metavar="SHARE",
                       help="of the samples to hold out")
    train.add_argument("--patience", type=int, metavar="EPOCHS",
                       help="stop after so many without a lower validation loss")
    train.add_argument("--freeze", metavar="LIST",
                       help="parameters that stay as they are: ties (@k0), and all that leads into "
                       "neurons (0c, 40-7f)")
    train.add_argument("--save-state", metavar="FILE",
                       help="where training stands at its end, for --resume")
    train.add_argument("--resume", metavar="FILE",
                       help="go on where another training stood, up to --epochs in all")
    train.add_argument("--threads", type=int, default=1,
                       help="over the samples of a step; 0 is one a core")
    train.add_argument("--curve", metavar="CSV", help="the losses by epoch")
    train.add_argument("--plot", metavar="PICTURE",
                       help="of them: .png, .svg or .pdf (wants matplotlib)")
    train.add_argument("--quiet", action="store_true", help="only warnings and errors")

    convert = commands.add_parser("convert", parents=[reading], allow_abbrev=False,
                                  help="between the formats, by ending")
    convert.add_argument("net", metavar="IN")
    convert.add_argument("out", metavar="OUT")
    convert.add_argument("--weights", metavar="FILE", help="values from .npy, .npz or text")
    convert.add_argument("--init", metavar="RULE", help="values for what has none")
    convert.add_argument("--seed", type=int, default=0, help="of --init")
    convert.add_argument("--lossy", action="store_true",
                        help="leave out what OUT cannot say")

    kept = commands.add_parser("cache", allow_abbrev=False,
                               help="the cache of compiled objects: folder, entries, bytes")
    kept.add_argument("--clear", action="store_true", help="remove its entries")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status of the contract."""
    watcher = Watcher()
    args = argparse.Namespace()
    try:
        start.take_over()
        if start.COMMAND:
            watcher.imported(start.BEGAN)
        try:
            args = _arguments(sys.argv[1:] if arguments is None else arguments)
            effort = getattr(args, "effort", None)
            args.opt = int(effort) if effort in ("0", "1", "2", "3") else 2
        except SystemExit as stop:
            return int(stop.code or 0)
        commands = {"build": _build, "check": _check, "run": _run, "train": _train,
                    "convert": _convert, "bench": _bench, "cache": _cache}
        dumps = getattr(args, "print_before", "") or getattr(args, "print_after", "")
        with Progress(None if dumps else sys.stderr) as watcher.progress:
            commands[args.command](args, watcher)
        watcher.report()
        if sys.stdout is not None:
            sys.stdout.flush()
        if getattr(args, "sizes", ""):
            _say(args.sizes)
        return 0
    except NccError as error:
        _say(str(error))
        if error.status in (3, 70):
            _keep(watcher, args)
        return error.status
    except KeyboardInterrupt:
        _say("ncc: interrupted")
        return 130
    except BrokenPipeError:
        _abandon()
        return 1
    except OSError as error:
        _abandon()
        if error.errno == errno.ENOMEM:
            _say("error[E400]: not enough memory")
            return 4
        _say(f"error[E622]: {error.strerror or error}"
             + (f": {error.filename}" if error.filename else " (standard output?)"))
        return 1
    except MemoryError:
        _say("error[E400]: not enough memory")
        return 4
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            return _fault(error, watcher, args)
        _say("error[E400]: not enough memory for a thread")
        return 4
    except Exception as error:  # a fault of ours: kept, named, and never shown as a traceback
        return _fault(error, watcher, args)
    finally:
        start.leave()


def _fault(error: Exception, watcher: Watcher, args: argparse.Namespace) -> int:
    _say(f"error[E701]: a fault of ncc's own: {type(error).__name__}: {error}")
    place = traceback.extract_tb(error.__traceback__)[-1]
    _say(f"note: in {Path(place.filename).name}:{place.lineno}")
    _keep(watcher, args)
    return 70


def _say(message: str) -> None:
    """To standard error, if anybody listens."""
    if sys.stderr is not None:
        try:
            print(message, file=sys.stderr, flush=True)
        except OSError:
            pass


def _abandon() -> None:
    """Nobody reads standard output: what is left in its buffer goes nowhere, or Python would
    complain of it at the end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):
        pass


def _print(text: str) -> None:
    _put(text.encode())


def _put(data: bytes) -> None:
    """To standard output."""
    if sys.stdout is None:
        raise NccError("E622", "cannot write standard output: it is closed")
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(data.decode())
        return
    # Python's unbuffered standard output (PYTHONUNBUFFERED) drops what one write leaves over.
    rest = memoryview(data)
    while rest:
        rest = rest[buffer.write(rest) or 0 :]


def _keep(watcher: Watcher, args: argparse.Namespace) -> None:
    kept = watcher.reproducer(_flags(args), getattr(args, "making", None))
    if kept is not None and watcher.step is not None:
        path, command = kept
        what = f"the level before {watcher.since[0].name}"
        _say(f"note: {what} is kept in {path}\nhelp: {command}")


def _flags(args: argparse.Namespace) -> str:
    """The options of this command that bear upon what its passes do."""
    usual = parser().parse_args(["build", "net"])
    words: list[str] = []
    for key in ("effort", "numerics", "dtype", "form", "batch_form", "backward_form", "name",
                "embed_weights", "backward", "recompute", "train", "target", "cpu", "features",
                "activation", "outputs", "check", "no_limit"):
        value = getattr(args, key, getattr(usual, key))
        if key in ("activation", "outputs") and not args.entered == "syntax":
            continue
        if value != getattr(usual, key):
            flag = "-O" if key == "effort" else "--" + key.replace("_", "-")
            if value is False:
                flag, value = flag.replace("--", "--no-"), True
            words += [flag] if value is True else [flag, str(value)]
    if args.command == "run":
        words += ["--cpu", "native"]
    return "".join(" " + shlex.quote(word) for word in words)


def _names(text: str) -> tuple[str, ...]:
    known = {step.name for step in steps()}
    names = tuple(n for n in text.replace(" ", "").split(",") if n)
    for name in names:
        if name not in known and name != "all":
            raise NccError("E601", f"no pass {name}", status=2,
                           help=near(name, ["all", *[s.name for s in steps()]]))
    return names


def _configure(watcher: Watcher, args: argparse.Namespace, common: dict[str, Any]) -> None:
    watcher.print_before = _names(args.print_before)
    watcher.print_after = _names(args.print_after)
    watcher.verify_each = args.verify_each
    watcher.check = args.check
    watcher.gradient = common.get("gradient", False)
    watcher.time_passes = args.time_passes
    watcher.stats = args.stats
    watcher.dtype = common["dtype"]
    watcher.numerics = common["numerics"]


def _source(path: str) -> Source:
    if path == "-":
        if sys.stdin is None:
            raise NccError("E101", "cannot read standard input: it is closed")
        return decode("<stdin>", sys.stdin.buffer.read())
    return net.read(path)


def _format(args: argparse.Namespace) -> str:
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


def _cached(args: argparse.Namespace) -> bool:
    """Whether objects may come from the cache: not where somebody watches the passes, or chose
    them."""
    watched = (args.print_before, args.print_after, args.verify_each, args.check, args.time_passes,
               args.stats)
    return not (args.no_cache or any(watched) or args.passes is not None)


# ---- the passes that were asked for


def _along(args: argparse.Namespace, start: int) -> tuple[tuple[Step, ...], int]:
    """The steps of --passes from level `start` on, and the level at their end; without it the
    whole road. NccError E601 (status 2) where one does not join on."""
    if args.passes is None:
        return tuple(s for s in steps() if _index(departs(s.call)) >= start), len(LEVELS) - 1
    given = steps(args.passes)
    if start == 0 and not any(s.call is resolve for s in given):
        start = 1  # the net is read, resolved and ordered, whatever is done with it then
    kept: list[Step] = []
    at = start  # where the road is
    for step in given:
        begins, ends = _index(departs(step.call)), _index(arrives(step.call))
        if begins < start:
            continue  # done before the text that is entered was printed
        if begins != at:
            raise NccError("E601", f"--passes: {step.name} starts from {NAMES[begins]}, but the "
                           f"road is at {NAMES[at]} there", status=2, help=_road())
        if step.name == "lower" and not any(s.name == "place" for s in kept):
            raise NccError("E601", "--passes: lower wants place before it", status=2, help=_road())
        if any(key in ("params", "source", "syntax", "embedded") for key in step.options):
            raise NccError("E601", f"--passes: an option of {step.name} is not for texts: "
                           + ", ".join(step.options), status=2)
        at = ends
        kept.append(step)
    return tuple(kept), at


def _index(level: Any) -> int:
    return next(k for k, known in enumerate(LEVELS) if known == level)


def _road() -> str:
    return "the road is " + ",".join(s.name for s in steps())


def _reaches(args: argparse.Namespace, kind: str, end: int) -> None:
    if MADE_OF.get(kind, 0) > end:
        raise NccError("E601", f"--passes leads to {NAMES[end]}, and {kind} is made of "
                       f"{NAMES[MADE_OF[kind]]}", status=2, help=_road())


def _arithmetic(build: Build, what: str) -> None:
    """Refuse an ssa module that still has mathematical ops, where --passes left out expand."""
    native = ("sqrt",) if build.options["native_sqrt"] and what != "c" else ()
    for func in build.module.funcs:
        for opcode, _, _ in func.ops:
            if opcode in OPCODES and OPCODES[opcode].math and opcode not in native:
                raise NccError("E601", f"--passes: {what} has no {opcode}: expand comes first",
                               status=2, help=_road())


# ---- reading


def _read(args: argparse.Namespace, watcher: Watcher, along: Sequence[Step] = ()
          ) -> tuple[Graph, Syntax | None]:
    """The ordered graph of the file, its unused inputs warned of, and its syntax, if it has one.

    `along` may name resolve and order with options of their own.
    """
    with watcher.working("read"):
        source = _source(args.net)
    format = _format(args)
    args.entered = "graph" if format == "graph" else "syntax"
    syntax: Syntax | None = None
    level: Any
    mine = [s for s in along if s.call in (resolve, order)]
    common: dict[str, Any] = {"source": source}
    if format == "graph":
        _no_reading_options(args, "graph")
        with watcher.working("parse"):
            level = net.graph(source)
        if level.levels is not None:
            mine = []
        elif not mine:
            mine = [s for s in steps() if s.call is order]
    elif format == "ssa":
        raise NccError("E604", "an ssa text is no net: it has functions, not neurons", status=2)
    else:
        with watcher.working("parse"):
            level = syntax = parse_net(source, format)
        common |= {"activation": _activation(args.activation), "outputs": args.outputs,
                   "syntax": syntax}
        usual = [s for s in steps() if s.call in (resolve, order)]
        called = [s.call for s in mine]
        mine = [s for s in usual if s.call not in called] + mine
        mine.sort(key=lambda step: step.call is order)
    graph: Graph = walk(level, common, watcher, until=Graph, along=mine)
    unused = unused_inputs(graph).tolist()
    if unused:
        k = max(2, len(f"{graph.n_neurons - 1:x}"))
        shown = ", ".join([f"{i:0{k}x}" for i in unused[:8]]) + (", ..." if unused[8:] else "")
        _say(f"{source.name}: warning[W001]: unused input{'s' if unused[1:] else ''} {shown}")
    return graph, syntax


def _no_reading_options(args: argparse.Namespace, level: str) -> None:
    for flag, value, usual in (("--outputs", args.outputs, None),
                               ("--activation", args.activation, "0")):
        if value != usual:
            raise NccError("E609", f"{flag} is for nets: a .{level} text has them", status=2)


def _values(graph: Graph, args: argparse.Namespace) -> Graph:
    if args.weights:
        graph = graph.with_(values=weights.load(args.weights, graph.n_params))
    if args.init:
        graph = graph.with_(values=weights.init(graph, args.init, args.seed))
    return graph


def _options(args: argparse.Namespace, aim: Target, name: str) -> dict[str, Any]:
    return options(aim, dtype=args.dtype, numerics=args.numerics, name=name, form=args.form,
                   batch_form=args.batch_form, backward_form=args.backward_form,
                   small={"s": True, "3": False}.get(args.effort), limit=not args.no_limit)


def _tuned(args: argparse.Namespace, watcher: Watcher, graph: Graph, aim: Target,
           common: dict[str, Any], behind: Sequence[Step]) -> dict[str, Any]:
    """What --tune finds of the passes' options; nothing where it is not asked for."""
    if not args.tune:
        return {}
    if args.passes is not None:
        raise NccError("E609", "--tune times the whole road: not with --passes", status=2)
    with watcher.working("tune"):
        return tuned(graph, aim, common, args.opt, behind, _cached(args))


def _training(args: argparse.Namespace, kinds: list[str]) -> dict[str, Any]:
    """What the passes have to know of --backward and --train."""
    if args.embed_weights and (args.backward or args.train):
        raise NccError("E609", f"--embed-weights: what --{'train' if args.train else 'backward'} "
                       "moves would be constants", status=2)
    if args.backward is None:
        linked = any(kind in LINKED for kind in kinds)
        args.backward = bool(args.train) or (linked and not args.embed_weights)
    # C has no vectors, in which rounds of samples would be summed up at once.
    asked: dict[str, Any] = {"gradient": args.backward, "recompute": args.recompute,
                             "scalar": "c" in kinds}
    if args.train:
        if not args.backward:
            raise NccError("E609", "--train without --backward has no gradients", status=2)
        loss, comma, optimizer = args.train.partition(",")
        if not comma:
            raise NccError("E609", f"--train {args.train}: a loss, a comma and an optimizer",
                           status=2, help="--train mse,adam")
        asked["loss"] = str(losses.parse(loss))
        asked["optimizer"] = str(optimizers.parse(optimizer))
    return asked


# ---- ssa texts


@dataclass(frozen=True)
class Entered(Build):
    """The road from an ssa text on: there is no graph, so no plan and no header."""

    text: Module | None = None

    @cached_property
    def module(self) -> Module:
        module: Module = walk(self.text, self.options, self.watch, until=Module,
                              along=self._along())
        return module

    @cached_property
    def made(self) -> Entry:
        code, found = self._measured(self.llvm, self.machine())
        return Entry(code, {"functions": functions(self.module), "stacks": found})

    def machine(self) -> Codegen:
        seconds = limits.LEAST if self.options["limit"] else None
        return Codegen(self.target, self.opt, self.options["name"],
                       "-O0" * (self.opt > 0) or "fewer operations", seconds,
                       getattr(self.watch, "working", None))


def _enter(args: argparse.Namespace, watcher: Watcher, aim: Target) -> tuple[Entered, int]:
    """The ssa text of the command line, at the start of its part of the road, and the end of it."""
    args.entered = "ssa"
    _no_reading_options(args, "ssa")
    with watcher.working("read"):
        source = _source(args.net)
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
    along, end = _along(args, LEVELS.index(Module))
    common = options(aim, dtype=module.dtype, numerics=module.numerics, name=module.name,
                     limit=not args.no_limit)
    _configure(watcher, args, common)
    watcher.values = values
    made = Entered(cast(Any, None), aim, common, args.opt, watcher, along, text=module)
    return made, end


# ---- build


def _build(args: argparse.Namespace, watcher: Watcher) -> None:
    kinds = [k for k in args.emit.replace(" ", "").split(",") if k]
    for kind in kinds or [""]:
        if kind not in KINDS:
            raise NccError("E604", f"no kind {kind!r} to emit", status=2, help=near(kind, KINDS))
    if args.name is not None and c_identifier(args.name) != args.name:
        raise NccError("E606", f"--name {args.name} is no C identifier", status=2)
    kinds = list(dict.fromkeys(kinds))
    aim = target(args.target, args.cpu, args.features)
    stem = "net" if args.net == "-" else Path(args.net).stem
    format = _format(args)
    syntax: Syntax | None = None
    build: Build
    if format == "ssa":
        for kind in kinds:
            if kind not in SSA_KINDS:
                raise NccError("E604", f"an ssa text gives no {kind}", status=2,
                               help=" ".join(SSA_KINDS))
        build, end = _enter(args, watcher, aim)
    else:
        if format == "graph" and "ast" in kinds:
            raise NccError("E604", "a .graph file has no ast", status=2)
        common = _options(args, aim, args.name or c_identifier(stem)) | _training(args, kinds)
        _configure(watcher, args, common)
        along, end = _along(args, LEVELS.index(Graph) if format == "graph" else 0)
        graph, syntax = _read(args, watcher, along)
        with watcher.working("weights"):
            graph = _values(graph, args)
        missing = int(np.isnan(graph.values).sum())
        watcher.values = graph.values
        behind = [s for s in along if s.call not in (resolve, order)]
        common |= _tuned(args, watcher, graph, aim, common, behind)
        if args.embed_weights:
            if missing:
                raise NccError("E607", f"--embed-weights: {missing} of {graph.n_params} parameters "
                               "have no value", help="--weights FILE or --init RULE", status=1)
            common |= {"params": graph.values, "embedded": True}
        build = Build(graph, aim, common, args.opt, watcher, behind, args.embed_weights,
                      cached=_cached(args))
    for kind in kinds:
        _reaches(args, kind, end)
    if args.explain and format != "ssa":
        _explain(build)
    outputs: dict[Path, bytes] = {}
    for kind in kinds:
        args.making = kind if MADE_OF.get(kind) == LEVELS.index(str) else None
        with watcher.working(f"emit {kind}"):
            text = _emit(kind, build, args, stem, len(kinds) > 1, outputs, syntax, watcher)
        if text is not None:
            with watcher.working("write"):
                _put(text)
    for path in outputs:
        if args.net != "-" and os.path.exists(path) and os.path.samefile(path, args.net):
            raise NccError("E608", f"{path} is the input: it would be overwritten", status=2)
    with watcher.working("write"):
        write(outputs)
    if "obj" in kinds or "shared" in kinds:
        args.sizes = f"{args.net}: {build.footprint()}"  # the last line of all


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
        _arithmetic(build, "c" if kind == "c" else "llvm")
    if kind in ("obj", "shared", "bc"):
        own = path is not None and plain(path)
        data = contents(kind, build, path.name if path is not None and own else f"{stem}.so")
        # The header goes beside a file, and nowhere else.
        if kind == "obj" and path is not None and own and not isinstance(build, Entered):
            beside = path.with_suffix(".h")
            if beside == path:
                raise NccError("E608", f"-o {path}: that is where the header goes", status=2)
            with watcher.working("header"):
                outputs[beside] = build.header().encode()
    elif kind == "ast":
        data = (str(syntax).removesuffix("\n") + "\n").encode()
    else:
        values = build.watch.values if isinstance(build.watch, Watcher) else None
        data = text(kind, build, values, header=not isinstance(build, Entered)).encode()
    if path is None:
        return data
    outputs[path] = data
    return None


def _explain(build: Build) -> None:
    plan = build.plan
    for name, s in plan.schedules.items():
        keeps = f", {s.work} slots of work" if s.slots is not None else ""
        _say(f"{name}: {s.form} ({s.why}){keeps}")
    for run in plan.runs:
        _say(f"  {run.last - run.first} neurons, activation {run.activation:02x}, "
             f"{AGGREGATIONS[run.aggregation]}, "
             f"{int(plan.starts[run.last] - plan.starts[run.first])} edges")


# ---- check, run, convert


def _check(args: argparse.Namespace, watcher: Watcher) -> None:
    if _format(args) == "ssa":
        module, _ = carried(ssatext.read(_source(args.net)))
        _print(f"functions {len(module.funcs)}\nops {sum(len(f.ops) for f in module.funcs)}\n"
               f"parameters {n_params(module)}\n")
        return
    graph, _ = _read(args, watcher)
    graph.verify()
    depth = int(graph.levels.max()) if graph.levels is not None and graph.n_neurons else 0
    _print(f"neurons {graph.n_neurons}\nedges {graph.n_edges}\nparameters {graph.n_params}\n"
           f"depth {depth}\ninputs {len(graph.inputs)}\noutputs {len(graph.outputs)}\n")


def _run(args: argparse.Namespace, watcher: Watcher) -> None:
    if args.threads < 0:
        raise NccError("E609", f"--threads {args.threads} is negative", status=2)
    if args.net == "-" and args.input == "-":
        raise NccError("E609", "the net and the samples cannot both be standard input", status=2)
    y = _run_ssa(args, watcher) if _format(args) == "ssa" else _run_net(args, watcher)
    with watcher.working("write"):
        if args.out in (None, "-"):
            _print(data.csv(y))
        elif args.out.endswith("/"):
            raise NccError("E622", f"cannot write {args.out}: it names a folder")
        else:
            write({Path(args.out): data.encode(y, Path(args.out).suffix)})


def _samples(args: argparse.Namespace, path: str, columns: int, **how: Any) -> Any:
    how |= {"header": args.header, "note": lambda words: _say(f"note: {words}")}
    if path == "-":
        if sys.stdin is None:
            raise NccError("E101", "cannot read standard input: it is closed")
        made = data.load("<stdin>", columns, sys.stdin.buffer.read(), **how)
    else:
        made = data.load(path, columns, **how)
    if not len(made) and not path.endswith((".npy", ".npz")):
        _say(f"{'<stdin>' if path == '-' else path}: warning[W003]: it holds no samples")
    return made


def _missing(values: Reals | None, count: int) -> None:
    missing = count if values is None else int(np.isnan(values).sum())
    if missing:
        raise NccError("E607", f"{missing} of {count} parameters have no value",
                       help="--weights FILE or --init RULE")


def _run_net(args: argparse.Namespace, watcher: Watcher) -> Any:
    aim = host()
    common = _options(args, aim, "net")
    _configure(watcher, args, common)
    along, end = _along(args, LEVELS.index(Graph) if _format(args) == "graph" else 0)
    graph, _ = _read(args, watcher, along)
    with watcher.working("weights"):
        graph = _values(graph, args)
    _reaches(args, "obj", end)
    _missing(graph.values, graph.n_params)
    watcher.values = graph.values
    with watcher.working("samples"):
        x = _samples(args, args.input, len(graph.inputs))
    behind = [s for s in along if s.call not in (resolve, order)]
    found = _tuned(args, watcher, graph, aim, common, behind)
    build = Build(graph, aim, common | found, args.opt, watcher, behind, cached=_cached(args))
    if args.explain:
        _explain(build)
    if args.passes is not None:
        _arithmetic(build, "llvm")
    args.making = "obj"
    kind = SkipDead if args.skip_dead else Compiled
    with watcher.working("emit obj"):
        fn = kind(graph, dtype=args.dtype, opt=args.opt, threads=args.threads,
                  numerics=args.numerics, build=build, cache=_cached(args),
                  passes={"form": args.form, "batch_form": args.batch_form} | found)
    # What overflows the dtype is an infinity, as data may be.
    with watcher.working("run"), np.errstate(over="ignore"):
        return fn(x.astype(DTYPES[args.dtype]))


def _run_ssa(args: argparse.Namespace, watcher: Watcher) -> Any:
    """y by the ssa level's interpreter, which has the bits that the machine code has."""
    if args.skip_dead:
        raise NccError("E609", "--skip-dead is for nets: an ssa text has no neurons", status=2)
    build, _ = _enter(args, watcher, host())
    module = build.module
    if not runnable(module):
        raise NccError("E604", f"{args.net} has not the functions of a net", status=1,
                       help="pack, forward and forward_batch, as `ncc build --emit ssa` prints")
    sizes = {b.name: b.size for b in module.func("forward").buffers}
    _missing(watcher.values, n_params(module))
    with watcher.working("samples"):
        x = _samples(args, args.input, sizes["x"])
    try:
        with watcher.working("run"), np.errstate(all="ignore"):
            return interpret(module, x, watcher.values, batch=True)
    except IndexError as error:
        raise NccError("E316", f"{args.net} leaves its buffers: {error}") from None


def _train(args: argparse.Namespace, watcher: Watcher) -> None:
    """Write the best parameters, and what else was asked for: all of it also after Ctrl-C, which
    then is raised anew."""
    if [args.net, args.data, args.target].count("-") > 1:
        raise NccError("E609", "only one of net, data and target can be standard input", status=2)
    picture = None
    if args.plot is not None:
        picture = _extra("ncc.training.curve", "plot", "matplotlib")
        if Path(args.plot).suffix[1:] not in picture.ENDINGS:
            raise NccError("E608", f"--plot {args.plot}: the ending names no kind of picture",
                           status=2, help=" ".join(f".{e}" for e in picture.ENDINGS))
    _places(args)
    state = _resumed(args)
    graph, _ = _read(args, watcher)
    if args.weights:
        graph = graph.with_(values=weights.load(args.weights, graph.n_params))
    ending = Path(args.out).suffix[1:]
    if ending in texts.NETS:
        texts.holds_values(graph, ending)
    loss = losses.parse(args.loss)
    if loss.name == "bce" and (graph.activations[graph.outputs] == 1).any():
        _say(f"{args.net}: warning[W002]: an output is a sigmoid already, and bce is for logits")
    columns = losses.targets(loss, len(graph.outputs))
    x = _samples(args, args.data, len(graph.inputs))
    y = _samples(args, args.target, columns, entry="y", wanted=(
        "the target of ce is the number of a class, or its name" if loss.name == "ce"
        else f"the net has {columns} outputs"), labels=loss.name in ("ce", "bce") and columns == 1)
    if args.header is None and y.dtype.kind == "U" and len(y) == len(x) + 1:
        _say(f"note: {args.target}: its first row, one too many, names the column and is skipped: "
             f"{y[0, 0][:60]}")
        y = y[1:]
    meter = Meter(None if args.quiet else sys.stderr)
    try:
        params, history = train(
            graph, x, y, loss=args.loss, optimizer=args.optimizer, lr=args.lr, batch=args.batch,
            epochs=args.epochs, seed=args.seed, validation=args.validation,
            patience=args.patience, init=args.init, threads=args.threads, dtype=args.dtype,
            opt=args.opt, numerics=args.numerics, progress=meter, names=(args.data, args.target),
            cache=not args.no_cache, frozen=args.freeze, state=state,
            limit=not args.no_limit)
    finally:
        meter.close()
    learnt = params.astype(DTYPES[args.dtype])
    outputs: dict[Path, bytes] = {}
    if args.out == "-":
        _print(weights.encode(learnt, "").decode())
    elif ending in texts.NETS:
        # In the digits of the dtype, as in a file of weights.
        values = np.array([float(str(value)) for value in learnt])
        text = texts.net_file(graph.with_(values=values), ending)
        head = "//" if ending == "graph" else "%"
        named = f"{head} classes {printable(','.join(history.classes))}\n"
        outputs[Path(args.out)] = ((named if history.classes else "") + text).encode()
    else:
        outputs[Path(args.out)] = weights.encode(learnt, Path(args.out).suffix, history.classes)
    if args.curve is not None:
        outputs[Path(args.curve)] = history.csv().encode()
    if picture is not None:
        outputs[Path(args.plot)] = picture.curve(history, Path(args.plot).suffix[1:])
    if args.save_state is not None and history.state is not None:
        outputs[Path(args.save_state)] = history.state.encode()
    write(outputs)
    if args.save_state is not None and history.state is None:
        _say(f"{args.save_state}: warning[W004]: the loss is no number, from where nothing goes on")
    if not args.quiet:
        _say(_summary(history, args.out))
    if history.stopped == "interrupted":
        raise KeyboardInterrupt


def _resumed(args: argparse.Namespace) -> State | None:
    """The state that --resume names; what the command line leaves unsaid is as it was there."""
    if args.resume is None:
        return None
    if args.weights or args.init:
        raise NccError("E609", "--resume has its weights: not with --weights or --init", status=2)
    state = load_state(args.resume)
    for name in ("loss", "optimizer", "batch", "dtype", "numerics", "seed", "validation"):
        if f"--{name}" not in args.given and state.facts[name] != "a pair":
            setattr(args, name, state.facts[name])
    if args.lr is None:
        args.lr = state.lr
    return state


def _summary(history: History, out: str) -> str:
    if not history.best:
        return f"{out}: the weights as they were in the first epoch"
    best = history.epochs[history.best - 1]
    held = "" if np.isnan(best.validation) else f", validation {best.validation:.6g}"
    end = {"diverged": "; then the loss was no number",
           "patience": f"; none of the {len(history.epochs) - history.best} after it was better"}
    return (f"{out}: the weights of epoch {best.epoch}, loss {best.loss:.6g}{held}"
            + end.get(history.stopped, "") + _classes(history.classes))


def _classes(names: Sequence[str]) -> str:
    """`; classes 0 cat, 1 dog`"""
    shown = [f"{k} {printable(name)[:30]}" for k, name in enumerate(names)]
    if len(shown) > 8:
        shown = [*shown[:3], "...", shown[-1]]
    return "; classes " + ", ".join(shown) if shown else ""


def _places(args: argparse.Namespace) -> None:
    """What training will write must have a place before it begins."""
    given = [path for path in (args.out, args.curve, args.plot, args.save_state)
             if path not in (None, "-")]
    if len({os.path.realpath(path) for path in given}) < len(given):
        raise NccError("E608", "two of -o, --curve, --plot and --save-state are one file", status=2)
    for path in given:
        if os.path.isdir(path) or path.endswith("/"):
            raise NccError("E608", f"{path} is a folder", status=2)
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise NccError("E622", f"cannot write {path}: no such folder")
        for read in (args.net, args.data, args.target):
            if os.path.exists(path) and os.path.exists(read) and os.path.samefile(path, read):
                raise NccError("E608", f"{path} is an input: it would be overwritten", status=2)


def _extra(module: str, extra: str, wants: str) -> Any:
    """A module of ours that needs more than ncc does; E637 (status 5) where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NccError("E637", f"--{extra} wants {wants}: {error}", status=5,
                       help=f"pip install 'ncc-compiler[{extra}]'") from None


def _cache(args: argparse.Namespace, watcher: Watcher) -> None:
    if args.clear:
        cache.clear()
        return
    entries, size = cache.contents()
    why = cache.unused()
    if why is not None:
        _say(f"note: the cache is not used: {why}")
    _print(f"folder {cache.folder() or '(none)'}\nentries {entries}\nbytes {size}\n"
           f"limit {cache.limit()}\n")


def _bench(args: argparse.Namespace, watcher: Watcher) -> None:
    for flag, value, right in (("--batch", args.batch, 0 < args.batch < 1 << 31),
                               ("--threads", args.threads, args.threads >= 0),
                               ("--seconds", args.seconds, 0 < args.seconds < math.inf)):
        if not right:
            raise NccError("E640", f"{flag} {value}: out of range", status=2)
    peers = list(PEERS)
    if args.peers is not None:
        peers = [p for p in dict.fromkeys(args.peers.replace(" ", "").split(",")) if p != "none"]
    for name in peers:
        if name not in PEERS:
            raise NccError("E640", f"no peer {name!r}", status=2, help=near(name, [*PEERS, "none"]))
    aim = host()
    common = _options(args, aim, "net")
    _configure(watcher, args, common)
    along, end = _along(args, LEVELS.index(Graph) if _format(args) == "graph" else 0)
    graph, _ = _read(args, watcher, along)
    if args.weights:
        graph = graph.with_(values=weights.load(args.weights, graph.n_params))
    filled, rule = int(np.isnan(graph.values).sum()), args.init or "he"
    graph = graph.with_(values=weights.init(graph, rule, args.seed))
    if filled and not args.init:
        _say(f"note: {filled} of {graph.n_params} parameters have no value: --init he")
    _reaches(args, "obj", end)
    watcher.values = graph.values
    behind = [s for s in along if s.call not in (resolve, order)]
    found = _tuned(args, watcher, graph, aim, common, behind)
    build = Build(graph, aim, common | found, args.opt, watcher, behind, cached=_cached(args))
    if args.explain:
        _explain(build)
    if args.passes is not None:
        _arithmetic(build, "llvm")
    args.making = "obj"
    fn = Compiled(graph, dtype=args.dtype, opt=args.opt, threads=args.threads,
                  numerics=args.numerics, build=build,
                  passes={"form": args.form, "batch_form": args.batch_form} | found)
    left = walk(graph, common, None, until=Graph, along=build.along)
    args.making = None  # what goes wrong from here on is no fault of a pass
    report = bench.measure(fn, batch=args.batch, budget=args.seconds, peers=peers,
                           seed=args.seed, executed=left.n_edges, net=args.net,
                           init=rule if filled else None, filled=filled)
    if args.json:
        _print(json.dumps(report.document(), indent=1) + "\n")
    else:
        _print(str(report))
    if report.refused:
        raise NccError("E641", "another library computes something else: "
                       + ", ".join([who for who, _ in report.refused]), status=3)


def _convert(args: argparse.Namespace, watcher: Watcher) -> None:
    ending = Path(args.out).suffix[1:]
    if ending not in texts.NETS:
        raise NccError("E102", f"{args.out}: the ending names no format", status=2,
                       help=near(ending, texts.NETS))
    graph, _ = _read(args, watcher)
    graph = _values(graph, args)
    write({Path(args.out): texts.net_file(graph, ending, lossy=args.lossy).encode()})
