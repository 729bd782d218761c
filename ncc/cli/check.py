"""`ncc check`: a net is read, verified and counted."""

from __future__ import annotations

import argparse

from ncc.cli.arguments import Commands, reading_options
from ncc.cli.reading import format_of, read_net, source_of
from ncc.cli.terminal import show
from ncc.driver.net_module import carried, n_params
from ncc.driver.observe import Watcher
from ncc.ir import plan_text, ssa_text


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("check", parents=[reading_options()], allow_abbrev=False,
                                 help="read and verify a net, print its counts")
    parser.add_argument("net",
                        help="a .nal, .nam, .nel, .graph, .plan or .ssa file; - is standard input")
    parser.set_defaults(call=check)


def check(args: argparse.Namespace, watcher: Watcher) -> None:
    if format_of(args) == "ssa":
        module, _ = carried(ssa_text.read(source_of(args.net)))
        show(f"functions {len(module.funcs)}\nops {sum(len(f.ops) for f in module.funcs)}\n"
             f"parameters {n_params(module)}\n")
        return
    if format_of(args) == "plan":
        graph = plan_text.read(source_of(args.net)).graph
    else:
        graph = read_net(args, watcher)
    graph.verify()
    depth = int(graph.levels.max()) if graph.levels is not None and graph.n_neurons else 0
    states = f"states {len(graph.states)}\n" if len(graph.states) else ""
    show(f"neurons {graph.n_own}\nedges {graph.n_edges}\nparameters {graph.n_params}\n"
         f"depth {depth}\ninputs {graph.n_inputs}\noutputs {len(graph.outputs)}\n{states}")
