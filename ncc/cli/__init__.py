"""The command `ncc`: its subcommands, one a module, and its exit statuses; what a subcommand does
stands in the other rooms."""

from __future__ import annotations

import argparse
import errno
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import ncc
from ncc import start
from ncc.cli import (
    bench,
    build,
    cache,
    check,
    convert,
    cost,
    export,
    import_,
    new,
    report,
    run,
    trace,
    train,
    verify,
    view,
)
from ncc.cli.arguments import Parser, parse
from ncc.cli.reproduce import keep
from ncc.cli.terminal import abandon, say
from ncc.driver.observe import Watcher
from ncc.errors import NccError
from ncc.progress import Progress

# As the help lists them.
COMMANDS = (build, check, run, cost, bench, train, new, convert, import_, export, verify, trace,
            report, view, cache)


def parser() -> Parser:
    top = Parser(prog="ncc", description=ncc.__doc__, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"ncc {ncc.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.arguments(commands)
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
            args = parse(parser(), sys.argv[1:] if arguments is None else arguments)
        except SystemExit as stop:
            return int(stop.code or 0)
        dumps = getattr(args, "print_before", "") or getattr(args, "print_after", "")
        with Progress(None if dumps else sys.stderr) as watcher.progress:
            last: str | None = args.call(args, watcher)
        watcher.report()
        if sys.stdout is not None:
            sys.stdout.flush()
        if last is not None:
            say(last)
        return 0
    except NccError as error:
        say(str(error))
        if error.status in (3, 70):
            keep(watcher, args, parser().parse_args(["build", "net"]))
        return error.status
    except KeyboardInterrupt:
        say("ncc: interrupted")
        return 130
    except BrokenPipeError:
        abandon()
        return 1
    except OSError as error:
        abandon()
        if error.errno == errno.ENOMEM:
            say("error[E400]: not enough memory")
            return 4
        say(f"error[E622]: {error.strerror or error}"
            + (f": {error.filename}" if error.filename else " (standard output?)"))
        return 1
    except MemoryError:
        say("error[E400]: not enough memory")
        return 4
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            return _own_fault(error, watcher, args)
        say("error[E400]: not enough memory for a thread")
        return 4
    except Exception as error:  # a fault of ours: kept, named, and never shown as a traceback
        return _own_fault(error, watcher, args)
    finally:
        start.leave()


def _own_fault(error: Exception, watcher: Watcher, args: argparse.Namespace) -> int:
    say(f"error[E701]: a bug in ncc: {type(error).__name__}: {error}")
    place = traceback.extract_tb(error.__traceback__)[-1]
    say(f"note: in {Path(place.filename).name}:{place.lineno}")
    keep(watcher, args, parser().parse_args(["build", "net"]))
    return 70
