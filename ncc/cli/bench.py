"""`ncc bench`: a net timed beside other libraries."""

from __future__ import annotations

import argparse
import json
import math

import numpy as np

from ncc.bench import measure
from ncc.bench.peers import PEERS
from ncc.cli.arguments import Commands, common_options, pipeline_options, reading_options
from ncc.cli.request import asked, compiling, configure, read
from ncc.cli.terminal import say, show
from ncc.driver.observe import Watcher
from ncc.driver.pipeline import walk
from ncc.errors import NccError, near
from ncc.formats import weights
from ncc.ir.graph import Graph, refuse_states
from ncc.machine.llvm import host
from ncc.runtime.compiled import Compiled


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("bench", allow_abbrev=False,
                                 help="time a net beside other libraries",
                                 parents=[reading_options(), common_options(), pipeline_options()])
    parser.add_argument("net", help="a .nal, .nam, .nel or .graph file; - is standard input")
    parser.add_argument("--batch", type=int, default=256, help="samples of a batch, default 256")
    parser.add_argument("--threads", type=int, default=1,
                        help="threads of ncc and of each library, default 1; 0: one per core")
    parser.add_argument("--seconds", type=float, default=5.0, help="time to measure for, default 5")
    parser.add_argument("--json", action="store_true",
                        help="print a JSON document instead of a table")
    parser.add_argument("--peers", metavar="LIST",
                        help="libraries to compare with, default all that are installed: "
                        + " ".join(PEERS) + ", or none")
    parser.set_defaults(call=bench)


def bench(args: argparse.Namespace, watcher: Watcher) -> None:
    for flag, value, right in (("--batch", args.batch, 0 < args.batch < 1 << 31),
                               ("--threads", args.threads, args.threads >= 0),
                               ("--seconds", args.seconds, 0 < args.seconds < math.inf)):
        if not right:
            raise NccError("E640", f"{flag} {value}: out of range")
    peers = list(PEERS)
    if args.peers is not None:
        peers = [p for p in dict.fromkeys(args.peers.replace(" ", "").split(",")) if p != "none"]
    for name in peers:
        if name not in PEERS:
            raise NccError("E640", f"no peer {name!r}", help=near(name, [*PEERS, "none"]))
    request = asked(args, host())
    configure(watcher, args, request.options)
    request, graph, _ = read(request, args, watcher)
    refuse_states(graph, "a comparison with other libraries")
    if args.weights:
        graph = graph.with_(values=weights.load(args.weights, graph.n_params))
    filled, rule = int(np.isnan(graph.values).sum()), args.init or "he"
    graph = graph.with_(values=weights.init(graph, rule, args.seed))
    if filled and not args.init:
        say(f"note: {filled} of {graph.n_params} parameters have no value: --init he")
    request.part.reaches("obj")
    build, forms = compiling(request, args, graph, watcher)
    with watcher.emitting("obj"):
        fn = Compiled(graph, dtype=build.options["dtype"], opt=request.settings.opt,
                      threads=args.threads, numerics=build.options["numerics"], build=build,
                      passes=forms)
    left = walk(graph, request.options, None, until=Graph, along=build.along)
    report = measure.measure(fn, batch=args.batch, budget=args.seconds, peers=peers,
                           seed=args.seed, executed=left.n_edges, net=args.net,
                           init=rule if filled else None, filled=filled)
    if args.json:
        show(json.dumps(report.document(), indent=1) + "\n")
    else:
        show(str(report))
    if report.refused:
        raise NccError("E641", "another library computes something else: "
                       + ", ".join([who for who, _ in report.refused]))
