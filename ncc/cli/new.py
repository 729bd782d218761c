"""`ncc new`: a net of a kind, as a net file."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ncc.cli.arguments import Commands
from ncc.cli.terminal import put
from ncc.driver.compiler import write
from ncc.driver.observe import Watcher
from ncc.errors import NccError, near
from ncc.formats import nam_labels
from ncc.formats import write as texts
from ncc.ir.graph import INPUT, Graph
from ncc.nets.generate.kinds import KINDS, new

# What a .nam, which has nothing but edges, cannot hold.
VALUED = ("--init", "--activation", "--output-activation")


def arguments(commands: Commands) -> None:
    kinds = "\n".join([f"  {kind.name:7} {kind.sizes}\n            ncc new {kind.name} "
                       f"{kind.example}" for kind in KINDS.values()])
    parser = commands.add_parser(
        "new", allow_abbrev=False, help="make a net of layers, filters, steps, or at random",
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"kinds:\n{kinds}")
    parser.add_argument("kind", metavar="KIND", help=" ".join(KINDS))
    parser.add_argument("sizes", nargs="*", metavar="SIZE", help="sizes, as below")
    parser.add_argument("-o", dest="out", metavar="PATH",
                        help="file to write, its format by its extension; default: standard output")
    parser.add_argument("--format", choices=texts.NETS,
                        help="format of the net file, default nal")
    parser.add_argument("--labels", choices=nam_labels.STYLES, default="none",
                        help="labels of rows and columns of a .nam; default none")
    parser.add_argument("--activation", metavar="F", help="activation of hidden neurons; default "
                        "relu, of rnn tanh")
    parser.add_argument("--output-activation", metavar="F",
                        help="activation of the outputs; default identity")
    parser.add_argument("--bias", action=argparse.BooleanOptionalAction,
                        help="biases, the default; of a .nam none")
    parser.add_argument("--free", action="store_true", default=None,
                        help="conv, rnn: do not share weights over places and steps")
    parser.add_argument("--stream", action="store_true", default=None,
                        help="rnn: a step a call, with a state, in place of unrolled steps")
    parser.add_argument("--bidirectional", action="store_true", default=None,
                        help="lstm, gru: each layer has a twin that goes backwards")
    parser.add_argument("--residual", action="store_true", default=None,
                        help="lstm, gru: what a layer reads is added to what it gives")
    parser.add_argument("--causal", action="store_true", default=None,
                        help="attention: a step sees none behind it")
    parser.add_argument("--additive", action="store_true", default=None,
                        help="attention: scores are w tanh(q + k)")
    parser.add_argument("--last", action="store_true", default=None,
                        help="transformer: only the logits behind the last position")
    parser.add_argument("--density", type=float, metavar="D",
                        help="random, dag: share of the possible edges, default 0.1")
    parser.add_argument("--distribution", metavar="uniform|erk",
                        help="random: the same density in all layers, or Erdos-Renyi-Kernel")
    parser.add_argument("--edges", type=int, metavar="N", help="dag: number of edges")
    parser.add_argument("--probability", type=float, metavar="P",
                        help="wann: probability of each edge and bias, default 0.5")
    parser.add_argument("--repeat", type=int, metavar="N",
                        help="radix: the systems N times, one after another")
    parser.add_argument("--factor", type=int, metavar="N", help="radix: neurons a place")
    parser.add_argument("--init", metavar="RULE",
                        help="values of the parameters: he, xavier, uniform, shared:V; default "
                        "none")
    parser.add_argument("--seed", type=int, default=0,
                        help="random seed of edges and values, default 0")
    parser.set_defaults(call=make)


def make(args: argparse.Namespace, watcher: Watcher) -> str | None:
    """Write the net; its counts are the last line where it is a file."""
    format = _format(args)
    known = {name for kind in KINDS.values() for name in kind.options}
    options = {name: value for name in sorted(known)
               if (value := getattr(args, name)) is not None}
    if format == "nam":
        options |= _bare(args)
    elif args.labels != "none":
        raise NccError("E609", f"--labels are of a .nam, not of a .{format}")
    with watcher.working("make"):
        net = new(args.kind, *args.sizes, init=args.init, seed=args.seed, **options)
    g = net.graph
    if format == "nam":
        _edges_alone(g)
    with watcher.working("write"):
        text = texts.net_file(g, format, lossy=format == "nam")
        if format == "nam":
            text = nam_labels.labelled(g, text, args.labels)
        if args.out in (None, "-"):
            put(text.encode())
            return None
        write({Path(args.out): text.encode()})
    return (f"{args.out}: {g.n_own} neurons, {g.n_edges} edges, {g.n_params} parameters, "
            f"{g.n_inputs} inputs, {len(g.outputs)} outputs")


def _edges_alone(graph: Graph) -> None:
    """NccError E401 where a matrix of edges is another net."""
    bare = (np.diff(graph.starts) == 0) & (graph.activations != INPUT)
    if len(graph.states) or bare.any():
        what = ("values of the last call" if len(graph.states) else
                f"neuron {int(np.flatnonzero(bare)[0]):02x}, which only has a bias")
        raise NccError("E401", f".nam cannot express: {what}", help="--format nal")


def _format(args: argparse.Namespace) -> str:
    ending = Path(args.out).suffix[1:] if args.out not in (None, "-") else "nal"
    found = args.format or ending
    if found not in texts.NETS:
        raise NccError("E102", f"{args.out}: unknown file extension",
                       note="--format gives the format, whatever the extension",
                       help=near(found, texts.NETS))
    return str(found)


def _bare(args: argparse.Namespace) -> dict[str, bool]:
    """What a net is made with that a .nam holds. NccError E609 where other things are asked for."""
    asked = sorted(set(VALUED) & args.given) or (["--bias"] if args.bias else [])
    if asked:
        raise NccError("E609", f"{asked[0]}: a .nam says which neurons read which, no more",
                       help="--format nal, or the option where the .nam is read")
    kind = KINDS.get(args.kind)
    return {"bias": False} if kind is not None and "bias" in kind.options else {}
