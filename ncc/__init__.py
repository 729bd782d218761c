"""ncc, the neural C compiler: a net as a graph of neurons in, machine code out."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncc.start import guard

guard()  # before what follows, which takes long to import

# ruff: noqa: E402
from ncc.errors import NccError
from ncc.ir.graph import Graph as Graph
from ncc.ir.graph import Label as Label
from ncc.ir.graph import refuse_states
from ncc.nets.generate.kinds import new
from ncc.nets.net import (
    Net,
    from_keras,
    from_neat,
    from_networkx,
    from_onnx,
    from_scipy,
    from_sklearn,
    from_torch,
    load,
    parse,
    unroll,
)
from ncc.progress import Progress
from ncc.runtime.compiled import Compiled
from ncc.runtime.population import Population, population
from ncc.runtime.skip_dead import SkipDead
from ncc.runtime.stateful import Stateful as Stateful
from ncc.runtime.tiered import tiered
from ncc.training.checkpoint import Epoch as Epoch
from ncc.training.checkpoint import State as State
from ncc.training.loop import History, fit
from ncc.training.trainer import Trainer

if TYPE_CHECKING:
    from ncc import neat as neat
    from ncc import torch as torch
    from ncc.sklearn import NetClassifier as NetClassifier
    from ncc.sklearn import NetRegressor as NetRegressor
else:

    def __getattr__(name: str) -> Any:
        """What wants a library of an extra, imported when it is asked for first."""
        if name in ("neat", "torch"):
            return import_module(f"ncc.{name}")
        if name in ("NetClassifier", "NetRegressor"):
            return getattr(import_module("ncc.sklearn"), name)
        raise AttributeError(f"module 'ncc' has no attribute {name!r}")


__version__ = "0.2.0"
__all__ = ["Compiled", "History", "Net", "NccError", "Population", "Trainer", "compile", "fit",
           "from_keras", "from_neat", "from_networkx", "from_onnx", "from_scipy", "from_sklearn",
           "from_torch", "load", "new", "parse", "population", "unroll"]


def compile(net: Net | str | Path, params: Any = None, dtype: Any = None, opt: int = 2,
            threads: int = 1, cache: bool = True, skip_dead: bool = False, tune: bool = False,
            tier: str = "auto", **options: Any) -> Compiled:
    """Machine code for `net` (or the file it names) on this machine. After two seconds a line on
    standard error says how far it is, where that is a terminal, and goes at the end.

    params   the canonical vector, where the file gives no values or others are wanted
    dtype    "f32" or "f64" (or numpy's name or type of either): what the code computes in; without
             it what the net file asks for, else f32
    opt      0..3, never changes a result
    threads  over the samples of a batch; 0 is one a core
    cache    whether the object may come from the cache on disk, and be kept there
    skip_dead  whether the samples of a batch are looked at on their way and leave it when nothing
             but zeros goes on: same bits, worth it where many samples die
    tune     whether the forms are timed on this machine first, and the fastest taken
    tier     "auto": a net whose compile takes more than some 30 ms is at first evaluated by an
             engine of ncc's, which takes any net as data and is compiled once for its kinds of
             neurons; the net's own code is made in the background when it was evaluated for a
             while. All bits are the same. "now": it is compiled here. Options of passes, `opt`,
             `tune` and `skip_dead` are of that code, and ask for it now
    options  `numerics` ("strict", "fused", "fast"; without it what the net file asks for, else
             fused where there is an FMA) and options of the passes, such as `form`; with `limit`
             False, no compile is given up

    Of a net with states it is a `Stateful`, whose calls are steps, compiled here.

    NccError E400 where the code would take, or took, more memory or time than there is: what may be
    large is made in a child process, and this one goes on.
    """
    if tier not in ("auto", "now"):
        raise ValueError(f"tier is {tier!r}, not 'auto' or 'now'")
    numerics = options.pop("numerics", None)
    with Progress(sys.stderr) as progress:
        with progress.working("read"):
            graph = (net if isinstance(net, Net) else load(net)).graph
        if skip_dead:
            refuse_states(graph, "skip_dead")
        kind = SkipDead if skip_dead else Stateful if len(graph.states) else Compiled
        if tier == "auto" and not (options or skip_dead or tune) and opt == 2:
            early = tiered(graph, params, dtype, threads, numerics, cache)
            if early is not None:
                return early
        with progress.working("emit obj"):
            return kind(graph, params, dtype=dtype, opt=opt, threads=threads,
                        numerics=numerics, passes=options, cache=cache, watch=progress, tune=tune)
