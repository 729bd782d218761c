"""`ncc import`: a net of another tool as a net file."""

from __future__ import annotations

import argparse
from pathlib import Path

from ncc.cli.arguments import Commands, reading_options
from ncc.cli.reading import imported, warn_of_unused
from ncc.driver.compiler import write
from ncc.driver.observe import Watcher
from ncc.driver.request import FOREIGN, Text
from ncc.errors import NccError, near
from ncc.formats import write as texts
from ncc.formats.importers.foreign import Imported
from ncc.ir.graph import Graph

CLASSES = {
    "A": "equal bits",
    "B": "the same operations in the same order; exp, sin and the like may differ by some ulp",
    "C": "sums are added in another order",
}


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("import", parents=[reading_options()], allow_abbrev=False,
                                 help="read a net of another tool, write one of ncc's")
    parser.add_argument("nets", nargs="+", metavar="SRC",
                        help="the file (of matrices: one a layer); - is standard input")
    parser.add_argument("-o", dest="out", required=True, metavar="OUT",
                        help="the .nal, .nel, .nam or .graph file to write")
    parser.add_argument("--lossy", action="store_true",
                        help="leave out what the format of OUT cannot express")
    parser.set_defaults(call=import_)


def import_(args: argparse.Namespace, watcher: Watcher) -> str:
    """Write the net; the line that says what it is comes last."""
    ending = Path(args.out).suffix[1:]
    if ending not in texts.NETS:
        raise NccError("E102", f"{args.out}: unknown file extension",
                       help=near(ending, texts.NETS))
    if args.format is not None:
        raise NccError("E609", "--format is for nets of ncc's own formats")
    with watcher.working("read"):
        made = imported(args, args.nets)
    graph, _ = Text(args.nets[0], FOREIGN, unroll=args.unroll).graph(made, watcher)
    warn_of_unused(graph, made)
    with watcher.working("write"):
        write({Path(args.out): texts.net_file(graph, ending, lossy=args.lossy).encode()})
    return summary(made, graph)


def summary(made: Imported, graph: Graph) -> str:
    """One line: of which format, how large, how exact."""
    also = [word for word in (graph.numerics, graph.dtype) if word is not None]
    return (f"{made.name}: {made.importer}, {graph.n_own} neurons, {graph.n_edges} edges, "
            f"{graph.n_inputs} inputs, {len(graph.outputs)} outputs"
            + (f", {len(graph.states)} states" if len(graph.states) else "")
            + (f"; {' '.join(also)}" if also else "")
            + f"; class {made.exactness}: {CLASSES[made.exactness]}")
