"""`ncc convert`: a net file of one format to another."""

from __future__ import annotations

import argparse
from pathlib import Path

from ncc.cli.arguments import Commands, reading_options
from ncc.cli.reading import read_net
from ncc.driver.compiler import write
from ncc.driver.observe import Watcher
from ncc.driver.request import valued
from ncc.errors import NccError, near
from ncc.formats import write as texts


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("convert", parents=[reading_options()], allow_abbrev=False,
                                 help="convert a net file to another format, by extension")
    parser.add_argument("net", metavar="IN",
                        help="a .nal, .nam, .nel or .graph file; - is standard input")
    parser.add_argument("out", metavar="OUT", help="a .nal, .nam, .nel or .graph file to write")
    parser.add_argument("--weights", metavar="FILE",
                        help="parameters: .npy, .npz or text, one number a line")
    parser.add_argument("--init", metavar="RULE",
                        help="initialize parameters that have no value: he, xavier, uniform, "
                        "shared:V")
    parser.add_argument("--seed", type=int, default=0, help="random seed of --init, default 0")
    parser.add_argument("--lossy", action="store_true",
                        help="leave out what the format of OUT cannot express")
    parser.set_defaults(call=convert)


def convert(args: argparse.Namespace, watcher: Watcher) -> None:
    ending = Path(args.out).suffix[1:]
    if ending not in texts.NETS:
        raise NccError("E102", f"{args.out}: unknown file extension",
                       help=near(ending, texts.NETS))
    graph = valued(read_net(args, watcher), args.weights, args.init, args.seed)
    write({Path(args.out): texts.net_file(graph, ending, lossy=args.lossy).encode()})
