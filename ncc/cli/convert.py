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
                                 help="between the formats, by ending")
    parser.add_argument("net", metavar="IN")
    parser.add_argument("out", metavar="OUT")
    parser.add_argument("--weights", metavar="FILE", help="values from .npy, .npz or text")
    parser.add_argument("--init", metavar="RULE", help="values for what has none")
    parser.add_argument("--seed", type=int, default=0, help="of --init")
    parser.add_argument("--lossy", action="store_true",
                        help="leave out what OUT cannot say")
    parser.set_defaults(call=convert)


def convert(args: argparse.Namespace, watcher: Watcher) -> None:
    ending = Path(args.out).suffix[1:]
    if ending not in texts.NETS:
        raise NccError("E102", f"{args.out}: the ending names no format",
                       help=near(ending, texts.NETS))
    graph = valued(read_net(args, watcher), args.weights, args.init, args.seed)
    write({Path(args.out): texts.net_file(graph, ending, lossy=args.lossy).encode()})
