"""`ncc trace`: what every neuron is for given samples."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ncc.cli.arguments import Commands, common_options, reading_options
from ncc.cli.reading import read_net
from ncc.cli.terminal import show
from ncc.cli.verify import computed_in, samples, samples_options
from ncc.driver.compiler import missing, write
from ncc.driver.observe import Watcher
from ncc.driver.request import valued
from ncc.errors import NccError
from ncc.formats.samples import encode
from ncc.report import trace as text


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("trace", allow_abbrev=False,
                                 help="print the value of every neuron for samples",
                                 parents=[reading_options(), common_options()])
    parser.add_argument("net", help="a net of ncc's or another tool's; - is standard input")
    samples_options(parser)
    parser.add_argument("-o", dest="out", metavar="T",
                        help="the values, a row a sample and a column a neuron, as .csv (with a "
                        "row of names) or .npy; default: a line a neuron, on standard output")
    parser.set_defaults(call=trace, samples=1)


def trace(args: argparse.Namespace, watcher: Watcher) -> None:
    if args.net == "-" and args.input == "-":
        raise NccError("E609", "the net and the samples cannot both be standard input")
    graph = valued(read_net(args, watcher), args.weights, args.init, args.seed)
    missing(graph.values, graph.n_params)
    dtype, numerics = computed_in(args, graph)
    x = samples(args, graph, dtype)
    if args.out is None:
        for block in text.trace(graph, x, dtype, numerics):
            show(block)
        return
    if args.out.endswith(".npy"):
        data = encode(np.asarray(text.traced(graph, x, dtype, numerics)[0]), ".npy")
    else:
        data = text.table(graph, x, dtype, numerics).encode()
    write({Path(args.out): data})
