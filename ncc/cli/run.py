"""`ncc run`: the outputs of a net, a plan or an ssa text, for a file of samples."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from ncc.cli.arguments import Commands, common_options, pipeline_options, reading_options
from ncc.cli.reading import format_of, load_samples
from ncc.cli.request import asked, compiling, configure, enter, read, ready
from ncc.cli.terminal import show
from ncc.driver.compiler import Build, missing, write
from ncc.driver.net_module import interpret, n_params, n_states, runnable
from ncc.driver.observe import Watcher
from ncc.driver.request import valued
from ncc.errors import NccError
from ncc.formats import samples as data
from ncc.ir.graph import refuse_states
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import host
from ncc.runtime.compiled import Compiled
from ncc.runtime.skip_dead import SkipDead
from ncc.runtime.stateful import Stateful
from ncc.runtime.tiered import for_rows

# Options that say nothing of the net's own code: with these alone, an engine takes few samples.
PLAIN = {"--input", "-o", "--header", "--no-header", "--threads", "--dtype", "--numerics",
         "--weights", "--init", "--seed", "--activation", "--outputs", "--format"}


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("run", allow_abbrev=False, help="evaluate a net on samples",
                                 parents=[reading_options(), common_options(), pipeline_options()])
    parser.add_argument("net",
                        help="a .nal, .nam, .nel, .graph, .plan or .ssa file; - is standard input")
    parser.add_argument("--input", required=True, metavar="X.csv|X.npy",
                        help="samples, one a row, of a net with states the steps of one stream; - "
                        "is standard input")
    parser.add_argument("--header", action=argparse.BooleanOptionalAction,
                        help="the first row of a CSV names the columns, or does not; default: it "
                        "does if it holds no number")
    parser.add_argument("-o", dest="out", metavar="Y",
                        help="outputs, as .npy or else CSV; default: standard output")
    parser.add_argument("--threads", type=int, default=1,
                        help="threads over the samples, default 1; 0: one per core")
    parser.add_argument("--skip-dead", action="store_true",
                        help="drop samples from the batch once all their live activations are "
                        "zero; same results")
    parser.set_defaults(call=run)


def run(args: argparse.Namespace, watcher: Watcher) -> None:
    if args.threads < 0:
        raise NccError("E609", f"--threads {args.threads} is negative")
    if args.net == "-" and args.input == "-":
        raise NccError("E609", "the net and the samples cannot both be standard input")
    how = {"plan": _run_plan, "ssa": _run_ssa}.get(format_of(args), _run_net)
    y = how(args, watcher)
    with watcher.working("write"):
        if args.out in (None, "-"):
            show(data.csv(y))
        elif args.out.endswith("/"):
            raise NccError("E622", f"cannot write {args.out}: it is a folder")
        else:
            write({Path(args.out): data.encode(y, Path(args.out).suffix)})


def _run_net(args: argparse.Namespace, watcher: Watcher) -> Any:
    request = asked(args, host())
    configure(watcher, args, request.options)
    request, graph, _ = read(request, args, watcher)
    with watcher.working("weights"):
        graph = valued(graph, args.weights, args.init, args.seed)
    request.part.reaches("obj")
    missing(graph.values, graph.n_params)
    with watcher.working("samples"):
        x = load_samples(args, args.input, graph.n_inputs)
    if args.given <= PLAIN:
        early = for_rows(graph, len(x), dtype=request.settings.dtype, threads=args.threads,
                         numerics=request.settings.numerics)
        if early is not None:
            with watcher.working("run"), np.errstate(over="ignore"):
                return early(x.astype(DTYPES[early.dtype]))
    if args.skip_dead:
        refuse_states(graph, "--skip-dead")
    build, forms = compiling(request, args, graph, watcher)
    return _outputs(SkipDead if args.skip_dead else Compiled, build, x, args, watcher, forms)


def _outputs(kind: type[Compiled], build: Build, x: Any, args: argparse.Namespace,
             watcher: Watcher, forms: dict[str, Any]) -> Any:
    """y of the build's own machine code; of a net with states, of x as the steps of a stream."""
    if len(build.graph.states):
        kind = Stateful
    with watcher.emitting("obj"):
        fn = kind(build.graph, dtype=build.options["dtype"], opt=build.opt, threads=args.threads,
                  numerics=build.options["numerics"], build=build, cache=build.cached, passes=forms)
    # What overflows the dtype is an infinity, as data may be.
    with watcher.working("run"), np.errstate(over="ignore"):
        return (fn.steps if isinstance(fn, Stateful) else fn)(x.astype(DTYPES[fn.dtype]))


def _run_plan(args: argparse.Namespace, watcher: Watcher) -> Any:
    """y by code in the forms of the plan."""
    if args.skip_dead:
        raise NccError("E609", "--skip-dead is for nets: it cuts them before they have a plan")
    request = asked(args, host())
    build = enter(request, args, watcher)
    request.part.reaches("obj")
    if not (build.plan.wants("forward") and build.plan.wants("forward_batch")):
        raise _not_a_net(args.net)
    missing(build.values, build.graph.n_params)
    with watcher.working("samples"):
        x = load_samples(args, args.input, build.graph.n_inputs)
    ready(build, request, args)
    return _outputs(Compiled, build, x, args, watcher, {})


def _not_a_net(path: str) -> NccError:
    return NccError("E604", f"{path} does not have the functions of a net", status=1,
                    help="pack, forward and forward_batch, as `ncc build --emit` prints")


def _run_ssa(args: argparse.Namespace, watcher: Watcher) -> Any:
    """y by the ssa level's interpreter, which has the bits that the machine code has."""
    if args.skip_dead:
        raise NccError("E609", "--skip-dead is for nets: an ssa text has no neurons")
    build = enter(asked(args, host(), None), args, watcher)
    module = build.module
    if not runnable(module):
        raise _not_a_net(args.net)
    sizes = {b.name: b.size for b in module.func("forward").buffers}
    missing(build.values, n_params(module))
    with watcher.working("samples"):
        x = load_samples(args, args.input, sizes["x"])
    try:
        with watcher.working("run"), np.errstate(all="ignore"):
            if not n_states(module):
                return interpret(module, x, build.values, batch=True)
            state = np.zeros((1, n_states(module)), DTYPES[module.dtype])
            return np.concatenate([np.zeros((0, sizes["y"]), state.dtype), *[
                interpret(module, row[None], build.values, state=state) for row in x]])
    except IndexError as error:
        raise NccError("E316", f"{args.net} reads or writes outside its buffers: {error}") from None
