"""`ncc export`: a net as a file of another tool, or as formulas."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ncc.cli.arguments import Commands, reading_options
from ncc.cli.reading import read_named
from ncc.cli.terminal import put
from ncc.driver.compiler import write
from ncc.driver.observe import Watcher
from ncc.driver.request import valued
from ncc.errors import NccError
from ncc.formats.exporters.registry import EXPORTERS, named, of_path


def arguments(commands: Commands) -> None:
    rows = "\n".join([f"  {e.name:14} {e.ending:9} {e.what}" for e in EXPORTERS.values()])
    parser = commands.add_parser(
        "export", parents=[reading_options()], allow_abbrev=False,
        help="write a net for another tool, or as formulas, by extension",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"formats:\n{rows}")
    parser.add_argument("net", metavar="NET",
                        help="a .nal, .nam, .nel or .graph file; - is standard input")
    parser.add_argument("-o", dest="out", metavar="PATH",
                        help="file to write; default: standard output, which needs --to")
    parser.add_argument("--to", metavar="FORMAT",
                        help="format, whatever the extension: " + " ".join(EXPORTERS))
    parser.add_argument("--weights", metavar="FILE",
                        help="parameters: .npy, .npz, .safetensors or text, one number a line")
    parser.add_argument("--init", metavar="RULE",
                        help="initialize parameters that have no value: he, xavier, uniform, "
                        "shared:V")
    parser.add_argument("--seed", type=int, default=0, help="random seed of --init, default 0")
    parser.add_argument("--lossy", action="store_true",
                        help="leave out what the format cannot express")
    parser.set_defaults(call=export)


def export(args: argparse.Namespace, watcher: Watcher) -> None:
    to_file = args.out not in (None, "-")
    if args.to is None and not to_file:
        raise NccError("E600", "export needs -o or --to", help="--to " + "|".join(EXPORTERS))
    exporter = of_path(args.out) if args.to is None else named(args.to)
    if not to_file and not exporter.text and sys.stdout is not None and sys.stdout.isatty():
        raise NccError("E608", f"{exporter.name} is no text for a terminal", help="-o PATH")
    graph, tensors = read_named(args, watcher)
    graph = valued(graph, args.weights, args.init, args.seed)
    with watcher.working("write"):
        data = exporter.file(graph, args.lossy, tensors)
        if to_file:
            write({Path(args.out): data})
        else:
            put(data)
