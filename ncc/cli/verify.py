"""`ncc verify`: a net beside another, or beside the tool that it comes from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np

from ncc.cli.arguments import Commands, common_options, reading_options
from ncc.cli.reading import format_of, imported, load_samples, net_source, text_of
from ncc.cli.terminal import show
from ncc.driver.compiler import missing
from ncc.driver.observe import Watcher
from ncc.driver.request import FOREIGN, valued
from ncc.driver.settings import arithmetic
from ncc.errors import NccError, near
from ncc.formats.importers.foreign import Imported
from ncc.formats.importers.registry import foreign_ending
from ncc.ir.graph import Graph
from ncc.ir.ssa import DTYPES
from ncc.nets import net
from ncc.report.comparison import Limits, Other, compared, limits_of, of_graph
from ncc.report.oracles.asked import Asked
from ncc.report.oracles.table import TOOLS, answers
from ncc.runtime.compiled import Compiled
from ncc.runtime.stateful import Stateful

MOST: Final = 50_000_000  # inputs and outputs of all samples that are drawn: some 2 GB of arrays


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("verify", allow_abbrev=False,
                                 help="compare a net with another, or with the tool it comes from",
                                 parents=[reading_options(), common_options()])
    parser.add_argument("net", help="a net of ncc's or another tool's; - is standard input")
    parser.add_argument("--against", required=True, metavar="NET|TOOL",
                        help="another net, or the tool that reads the same file: "
                        + " ".join(TOOLS))
    samples_options(parser)
    parser.add_argument("--max-ulp", type=int, metavar="U",
                        help="limit in steps between neighbouring floats")
    parser.add_argument("--atol", type=float, metavar="A", help="limit of absolute differences")
    parser.set_defaults(call=verify)


def samples_options(parser: Any) -> None:
    """Samples from a file, or drawn."""
    parser.add_argument("--input", metavar="X.csv|X.npy",
                        help="samples, one a row; default: drawn from a normal distribution by "
                        "--seed")
    parser.add_argument("--samples", type=int, default=100, metavar="N",
                        help="how many are drawn, default 100")
    parser.add_argument("--header", action=argparse.BooleanOptionalAction,
                        help="the first row of a CSV names the columns, or does not; default: it "
                        "does if it holds no number")


def computed_in(args: argparse.Namespace, graph: Graph) -> tuple[str, str]:
    """The dtype and the numerics: of the command line, else of the net, else f32 and fused."""
    dtype, numerics = arithmetic(graph, args.dtype, args.numerics)
    return dtype, numerics or "fused"


def samples(args: argparse.Namespace, graph: Graph, dtype: str) -> Any:
    """x (n, n_inputs), of `dtype`."""
    if args.input is not None:
        with np.errstate(over="ignore"):
            return load_samples(args, args.input, graph.n_inputs).astype(DTYPES[dtype])
    if args.samples < 1:
        raise NccError("E609", f"--samples {args.samples}: there must be one at least")
    if args.samples * (graph.n_inputs + len(graph.outputs)) > MOST:
        raise NccError("E400", f"--samples {args.samples}: their inputs and outputs are more than "
                               f"{MOST} numbers", help="give fewer, or others by --seed")
    drawn = np.random.default_rng(args.seed).normal(size=(args.samples, graph.n_inputs))
    return drawn.astype(DTYPES[dtype])


def verify(args: argparse.Namespace, watcher: Watcher) -> None:
    """Print the comparison. NccError E321 (status 3) where outputs are beyond the limits."""
    with watcher.working("read"):
        source = net_source(args)
    graph, _ = text_of(args).graph(source, watcher)
    graph = valued(graph, args.weights, args.init, args.seed)
    missing(graph.values, graph.n_params)
    dtype, numerics = computed_in(args, graph)
    x = samples(args, graph, dtype)
    with watcher.emitting("obj"):
        kind = Stateful if len(graph.states) else Compiled
        fn = kind(graph, dtype=dtype, numerics=numerics, cache=not args.no_cache,
                  passes={"limit": not args.no_limit})
    y = fn.steps(x) if isinstance(fn, Stateful) else fn(x)
    if (args.max_ulp or 0) < 0 or not (args.atol or 0.0) >= 0.0:
        raise NccError("E609", "--max-ulp, --atol: limits are 0 or more")
    other, limits = _against(args, source, graph, watcher, dtype, numerics)
    if args.max_ulp is not None or args.atol is not None:
        limits = Limits(args.max_ulp, args.atol or 0.0)
    try:
        made = compared(graph, y, other, x, limits, numerics)
    except ValueError as error:
        raise NccError("E321", str(error)) from None
    show(f"{source.name}, {dtype} {numerics}, {made.text}")
    if not made.ok:
        raise NccError("E321", f"{source.name}: {int((~made.within).sum())} outputs differ from "
                               f"those of {other.title} by more than the limit")


def _against(args: argparse.Namespace, source: Any, graph: Graph, watcher: Watcher, dtype: str,
             numerics: str) -> tuple[Other, Limits]:
    """What --against names, and how near the two are to be."""
    if args.against in TOOLS and not Path(args.against).exists():
        tool = TOOLS[args.against]
        own = getattr(source, "importer", "") in tool.importers and args.net != "-"
        if not own and tool.exports:
            return answers(args.against, Asked(graph, dtype)), limits_of("C", dtype)
        _fits(args, source)
        asked = Asked(graph, dtype, args.net, source.places, args.allow_pickle,
                      getattr(args, "config", None))
        other = answers(args.against, asked)
        return other, limits_of(source.exactness, "f32" if other.single else dtype)
    if not Path(args.against).suffix and not Path(args.against).exists():
        raise NccError("E609", f"--against {args.against}: neither a file nor one of "
                               + ", ".join(TOOLS),
                       help=near(args.against, TOOLS))
    given = argparse.Namespace(**vars(args) | {"net": args.against, "source": None,
                                               "format": None})
    if format_of(given) == FOREIGN or foreign_ending(args.against):
        theirs = net.ordered(imported(given, [args.against]))
    else:
        theirs = net.load(args.against).graph
    if np.isnan(theirs.values).any():  # it is given those that the first net is given
        theirs = valued(theirs, args.weights, args.init, args.seed)
    missing(theirs.values, theirs.n_params)
    return of_graph(theirs, args.against, dtype, numerics), Limits(0)


def _fits(args: argparse.Namespace, source: Any) -> None:
    """Whether the tool reads this file, and computes what the options ask for. NccError E609."""
    what = f"--against {args.against}"
    if args.net == "-":
        raise NccError("E609", f"{what}: the tool reads the file itself, standard input is none")
    if not isinstance(source, Imported) or source.importer not in TOOLS[args.against].importers:
        raise NccError("E609", f"{what}: {args.net} is not a file of that tool's")
    if args.logits:
        raise NccError("E609", f"--logits: what {args.against} computes are probabilities")
    if args.scaling:
        raise NccError("E609", "--scaling: fann_run does not scale")
    if args.unroll:
        raise NccError("E609", f"--unroll: {args.against} makes a step a call; compare the net "
                               "itself, whose samples are steps")
