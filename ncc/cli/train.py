"""`ncc train`: the parameters of a net fitted to samples."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncc.cli.arguments import Commands, common_options, reading_options
from ncc.cli.reading import load_samples, read_net
from ncc.cli.request import settings
from ncc.cli.terminal import say, show
from ncc.driver.compiler import write
from ncc.driver.observe import Watcher
from ncc.errors import NccError, printable
from ncc.formats import weights
from ncc.formats import write as texts
from ncc.ir.graph import refuse_states
from ncc.ir.ssa import DTYPES
from ncc.passes.graph.unroll import unroll
from ncc.scalar import losses
from ncc.scalar.losses import LOSSES
from ncc.scalar.optimizers import LEARNING_RATE, OPTIMIZERS
from ncc.training import loop
from ncc.training.bar import Meter
from ncc.training.checkpoint import State
from ncc.training.checkpoint import load as load_state
from ncc.training.loop import History


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("train", allow_abbrev=False, help="fit the parameters to samples",
                                 parents=[reading_options(), common_options()])
    parser.add_argument("net", help="a .nal, .nam, .nel or .graph file; - is standard input")
    parser.add_argument("--data", required=True, metavar="X",
                        help="inputs, one sample a row: .npy, .npz (entry x, or its only one), "
                        "else CSV")
    parser.add_argument("--target", required=True, metavar="Y",
                        help="targets, likewise (entry y): the outputs of each sample; for ce its "
                        "class, a number or a name")
    parser.add_argument("--header", action=argparse.BooleanOptionalAction,
                        help="the first row of each CSV names the columns, or does not; default: "
                        "it does if it holds no number")
    parser.add_argument("-o", dest="out", required=True, metavar="WEIGHTS|NET",
                        help="the trained parameters as .npy, .npz or text, or the net with them "
                        "as .nal, .nel or .graph")
    parser.add_argument("--loss", default="mse",
                        help="loss function, default mse: " + " ".join(LOSSES) + ", huber:delta=D")
    parser.add_argument("--optimizer", default="adam",
                        help="optimizer, default adam: " + " ".join(OPTIMIZERS)
                        + ", sgd:momentum=0.9:nesterov=1")
    parser.add_argument("--lr", type=float, metavar="RATE",
                        help="learning rate, default " + ", ".join(
                        f"{rate:g} for {name}" for name, rate in LEARNING_RATE.items()))
    parser.add_argument("--batch", type=int, default=32, help="minibatch size, default 32")
    parser.add_argument("--epochs", type=int, default=100,
                        help="passes over the samples, default 100")
    parser.add_argument("--validation", type=float, default=0.0, metavar="SHARE",
                        help="fraction of the samples to hold out, default 0")
    parser.add_argument("--patience", type=int, metavar="EPOCHS",
                        help="early stopping: stop after so many epochs without a lower "
                        "validation loss")
    parser.add_argument("--freeze", metavar="LIST",
                        help="parameters not to train: ties (@k0), and all weights and biases of "
                        "neurons (0c, 40-7f)")
    parser.add_argument("--save-state", metavar="FILE",
                        help="write the state of training at its end, for --resume")
    parser.add_argument("--resume", metavar="FILE",
                        help="continue from a saved state, up to --epochs in all")
    parser.add_argument("--threads", type=int, default=1,
                        help="threads over the samples of a minibatch, default 1; 0: one per core")
    parser.add_argument("--curve", metavar="CSV",
                        help="write the learning curve: the losses of each epoch")
    parser.add_argument("--plot", metavar="PICTURE",
                        help="draw the learning curve: .png, .svg or .pdf (needs matplotlib)")
    parser.add_argument("--quiet", action="store_true", help="print only warnings and errors")
    parser.set_defaults(call=train)


def train(args: argparse.Namespace, watcher: Watcher) -> None:
    """Write the best parameters, and what else was asked for: all of it also after Ctrl-C, which
    then is raised anew."""
    if [args.net, args.data, args.target].count("-") > 1:
        raise NccError("E609", "only one of net, data and target can be standard input")
    picture = None
    if args.plot is not None:
        picture = _extra("ncc.training.curve", "plot", "matplotlib")
        if Path(args.plot).suffix[1:] not in picture.ENDINGS:
            raise NccError("E608", f"--plot {args.plot}: unknown picture format",
                           help=" ".join(f".{e}" for e in picture.ENDINGS))
    _places(args)
    state = _resumed(args)
    steps, args.unroll = args.unroll, 0
    whole = read_net(args, watcher)  # what is written at the end
    graph = unroll(whole, steps=steps)
    refuse_states(graph, "training")
    if args.weights:
        graph = graph.with_(values=weights.load(args.weights, graph.n_params))
    ending = Path(args.out).suffix[1:]
    if ending in texts.NETS:
        texts.holds_values(whole, ending)
    chosen = settings(args).of(graph)
    loss = losses.parse(args.loss)
    if loss.name == "bce" and (graph.activations[graph.outputs] == 1).any():
        say(f"{args.net}: warning[W002]: an output is a sigmoid already, and bce is for logits")
    columns = losses.targets(loss, len(graph.outputs))
    x = load_samples(args, args.data, len(graph.inputs))
    y = load_samples(args, args.target, columns, entry="y", wanted=(
        "the target of ce is the number of a class, or its name" if loss.name == "ce"
        else f"the net has {columns} outputs"), labels=loss.name in ("ce", "bce") and columns == 1)
    if args.header is None and y.dtype.kind == "U" and len(y) == len(x) + 1:
        say(f"note: {args.target}: its first row, one too many, names the column and is skipped: "
            f"{y[0, 0][:60]}")
        y = y[1:]
    meter = Meter(None if args.quiet else sys.stderr)
    try:
        params, history = loop.train(
            graph, x, y, loss=args.loss, optimizer=args.optimizer, lr=args.lr, batch=args.batch,
            epochs=args.epochs, seed=args.seed, validation=args.validation,
            patience=args.patience, init=args.init, threads=args.threads, progress=meter,
            names=(args.data, args.target), frozen=args.freeze, state=state,
            settings=chosen)
    finally:
        meter.close()
    learnt = params.astype(DTYPES[chosen.dtype])
    outputs: dict[Path, bytes] = {}
    if args.out == "-":
        show(weights.encode(learnt, "").decode())
    elif ending in texts.NETS:
        # In the digits of the dtype, as in a file of weights.
        values = np.array([float(str(value)) for value in learnt])
        text = texts.net_file(whole.with_(values=values), ending)
        head = "//" if ending == "graph" else "%"
        named = f"{head} classes {printable(','.join(history.classes))}\n"
        outputs[Path(args.out)] = ((named if history.classes else "") + text).encode()
    else:
        outputs[Path(args.out)] = weights.encode(learnt, Path(args.out).suffix, history.classes)
    if args.curve is not None:
        outputs[Path(args.curve)] = history.csv().encode()
    if picture is not None:
        outputs[Path(args.plot)] = picture.curve(history, Path(args.plot).suffix[1:])
    if args.save_state is not None and history.state is not None:
        outputs[Path(args.save_state)] = history.state.encode()
    write(outputs)
    if args.save_state is not None and history.state is None:
        say(f"{args.save_state}: warning[W004]: the loss is no number, from where nothing goes on")
    if not args.quiet:
        say(_summary(history, args.out))
    if history.stopped == "interrupted":
        raise KeyboardInterrupt


def _resumed(args: argparse.Namespace) -> State | None:
    """The state that --resume names; what the command line leaves unsaid is as it was there."""
    if args.resume is None:
        return None
    if args.weights or args.init:
        raise NccError("E609", "--resume restores the weights: not with --weights or --init")
    state = load_state(args.resume)
    for name in ("loss", "optimizer", "batch", "dtype", "numerics", "seed", "validation"):
        if f"--{name}" not in args.given and state.facts[name] != "a pair":
            setattr(args, name, state.facts[name])
    if args.lr is None:
        args.lr = state.lr
    return state


def _summary(history: History, out: str) -> str:
    if not history.best:
        return f"{out}: the weights as they were in the first epoch"
    best = history.epochs[history.best - 1]
    held = "" if np.isnan(best.validation) else f", validation {best.validation:.6g}"
    end = {"diverged": "; then the loss was no number",
           "patience": f"; none of the {len(history.epochs) - history.best} after it was better"}
    return (f"{out}: the weights of epoch {best.epoch}, loss {best.loss:.6g}{held}"
            + end.get(history.stopped, "") + _classes(history.classes))


def _classes(names: Sequence[str]) -> str:
    """`; classes 0 cat, 1 dog`"""
    shown = [f"{k} {printable(name)[:30]}" for k, name in enumerate(names)]
    if len(shown) > 8:
        shown = [*shown[:3], "...", shown[-1]]
    return "; classes " + ", ".join(shown) if shown else ""


def _places(args: argparse.Namespace) -> None:
    """What training will write must have a place before it begins."""
    given = [path for path in (args.out, args.curve, args.plot, args.save_state)
             if path not in (None, "-")]
    if len({os.path.realpath(path) for path in given}) < len(given):
        raise NccError("E608", "two of -o, --curve, --plot and --save-state are one file")
    for path in given:
        if os.path.isdir(path) or path.endswith("/"):
            raise NccError("E608", f"{path} is a folder")
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise NccError("E622", f"cannot write {path}: no such folder")
        for source in (args.net, args.data, args.target):
            if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
                raise NccError("E608", f"{path} is an input: it would be overwritten")


def _extra(module: str, extra: str, wants: str) -> Any:
    """A module of ours that needs more than ncc does; E637 (status 5) where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NccError("E637", f"--{extra} needs {wants}: {error}",
                       help=f"pip install 'ncc-compiler[{extra}]'") from None
