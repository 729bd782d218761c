"""The command line to a namespace: the parser, and the options that several commands share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from difflib import get_close_matches
from typing import Any, NoReturn, TypeAlias

from ncc.driver.levels import FORMATS
from ncc.errors import NccError, near
from ncc.formats.importers.foreign import Options
from ncc.formats.importers.registry import BY_NAME
from ncc.ir.plan import FORMS
from ncc.ir.ssa import dtype_name


class Parser(argparse.ArgumentParser):
    """Faults of the command line are NccErrors, E600, with what was perhaps meant."""

    def error(self, message: str) -> NoReturn:
        raise NccError("E600", message, help=f"{self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = "command" if action.dest == "command" else "/".join(action.option_strings)
            raise NccError("E600", f"no {what} {value}",
                           help=near(str(value), map(str, action.choices)))

    def known(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings]


def parse(top: Parser, words: Sequence[str]) -> argparse.Namespace:
    """The command line, whose unknown options are found before argparse looks for missing ones."""
    commands = next(a.choices for a in top._actions if a.dest == "command")
    assert isinstance(commands, dict)
    current: Parser = top
    given: set[str] = set()
    for before, word in zip(["", *words], words, strict=False):
        name = word.partition("=")[0]
        if current is top and word in commands:
            current = commands[word]
        elif word == "--" or (current is top and word[:1] != "-"):
            break
        elif re.match("-[A-Za-z-]", name) and " " not in name:
            flags = current.known()
            if name not in flags and not (word[1] != "-" and word[:2] in flags):
                raise _no_option(name, before, current, commands)
            given.add(name)
    args = top.parse_args(words)
    args.given = given
    return args


def _no_option(name: str, before: str, current: Parser, commands: Mapping[str, Parser]
               ) -> NccError:
    has = [other.prog for other in commands.values() if name in other.known()]
    known = {flag.lstrip("-"): flag for flag in current.known() if flag[:2] == "--"}
    close = get_close_matches(name.lstrip("-").lower(), known, 1, 0.5)
    help = f"did you mean `{known[close[0]]}`?" if close else f"{current.prog} --help"
    if before in current.known() and not close:
        help = f"a value that begins with - is written {before}={name}"
    elif has:
        help = f"{' and '.join(has)} {'has' if len(has) == 1 else 'have'} it"
    return NccError("E600", f"{current.prog} has no option {name}", help=help)


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # where each command adds itself


def _steps(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text[:10]):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number of steps from 1 on")
    return int(text[:10])


def reading_options() -> Parser:
    """How a net file is read."""
    group = Parser(add_help=False, allow_abbrev=False)
    group.add_argument("--activation", default="0", metavar="F",
                       help="activation of neurons to which the file gives none: a name or a hex "
                       "code")
    group.add_argument("--outputs", metavar="LIST",
                       help="output neurons, as comma-separated hex indices")
    group.add_argument("--unroll", type=_steps, default=0, metavar="T",
                       help="T steps of a net with states as one net without: T times its inputs "
                       "and outputs, the same parameters")
    group.add_argument("--format", choices=tuple(FORMATS),
                       help="format of the net file, whatever its extension")
    foreign = group.add_argument_group("nets of other tools")
    foreign.add_argument("--source", metavar="FORMAT",
                         help="whose file the net is: " + " ".join(BY_NAME))
    for option in fields(Options):
        if option.metadata:
            _import_option(foreign, option)
    return group


def _import_option(group: argparse._ArgumentGroup, option: Field[Any]) -> None:
    """The option of the command that fills a field of `Options`."""
    flag = "--" + option.name.replace("_", "-")
    more = dict(option.metadata)
    if option.default is False:
        group.add_argument(flag, action="store_true", **more)
    elif option.default == ():
        group.add_argument(flag, action="append", default=[], **more)
    else:
        words = str(option.type)
        parsed = float if "float" in words else int if "int" in words else str
        group.add_argument(flag, type=parsed, default=option.default, **more)


def import_options(args: argparse.Namespace) -> Options:
    """What the command line says of a file of another tool. NccError E609 where --outputs, which
    is a list for nets of ncc's, is no count."""
    said = {option.name: getattr(args, option.name)
            for option in fields(Options) if option.metadata}
    if args.outputs is not None and not args.outputs.isdecimal():
        raise NccError("E609", f"--outputs {args.outputs}: of another tool's file it is the number "
                               "of outputs")
    outputs = None if args.outputs is None else int(args.outputs)
    activation = args.activation if "--activation" in args.given else None
    said |= {name: tuple(said[name]) for name, held in said.items() if isinstance(held, list)}
    return Options(**said, outputs=outputs, activation=activation)


def common_options() -> Parser:
    """Parameters and arithmetic of every command that computes."""
    group = Parser(add_help=False, allow_abbrev=False)
    group.add_argument("-O", dest="effort", choices=("0", "1", "2", "3", "s"),
                       help="optimization level of LLVM, default 2; s: smallest code, the default "
                       "for small devices; never changes a result")
    group.add_argument("--numerics", choices=("strict", "fused", "fast"),
                       help="rounding of sums; default what the net file asks for, else fused "
                       "where the target has an FMA, else strict")
    group.add_argument("--weights", metavar="FILE",
                       help="parameters: .npy, .npz (entry params), .safetensors (by the names "
                       "that the net has) or text, one number a line")
    group.add_argument("--init", metavar="RULE",
                       help="initialize parameters that have no value: he, xavier, uniform, or "
                       "shared:VALUE for one value")
    group.add_argument("--seed", type=int, default=0,
                       help="random seed, default 0: of --init, and of the shuffles of train")
    group.add_argument("--dtype", type=dtype_name, metavar="f32|f64",
                       help="floating-point type of the code, default what the net file asks for, "
                       "else f32; also float32, float64")
    group.add_argument("--no-limit", action="store_true",
                       help="compile even if it takes too much time or memory")
    group.add_argument("--no-cache", action="store_true",
                       help="do not use the cache of compiled objects")
    return group


def pipeline_options() -> Parser:
    """Forms, passes, and what is shown of them."""
    group = Parser(add_help=False, allow_abbrev=False)
    group.add_argument("--form", choices=("auto", *FORMS), default="auto",
                       help="code form of the single-sample function: straight is unrolled, "
                       "table a loop over index arrays (CSR), shared register tiles of neurons "
                       "with one in-list; default: chosen by a cost model")
    group.add_argument("--batch-form", choices=("auto", *FORMS), default="auto",
                       help="code form of the batch function")
    group.add_argument("--backward-form", choices=("auto", "straight", "table"), default="auto",
                       help="code form of the gradient functions")
    group.add_argument("--tune", action="store_true",
                       help="time the code forms on this machine and take the fastest")
    group.add_argument("--passes", metavar="LIST",
                       help="run only these passes, comma-separated, options in braces: "
                       "fold,split{whole=0}")
    group.add_argument("--print-before", default="", metavar="PASS,..|all",
                       help="print the IR before these passes to standard error")
    group.add_argument("--print-after", default="", metavar="PASS,..|all",
                       help="print the IR after these passes to standard error")
    group.add_argument("--verify-each", action="store_true",
                       help="verify the IR after each pass, and prove that fold, cse, dce and "
                       "split change no result")
    group.add_argument("--check", action="store_true",
                       help="run the interpreters before and after each pass and compare the "
                       "results, bit for bit")
    group.add_argument("--time-passes", action="store_true",
                       help="print the time of each pass and stage")
    group.add_argument("--stats", action="store_true",
                       help="print the size of the IR before and after each pass")
    group.add_argument("--explain", action="store_true",
                       help="print the code form of each function, and why it was chosen")
    return group
