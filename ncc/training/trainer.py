"""Training of a net whose edges change on the way, without compiling anything anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.driver.settings import arithmetic
from ncc.errors import NccError
from ncc.formats import weights
from ncc.ir.graph import Graph, Longs, Reals, refuse_states
from ncc.ir.graph_run import seen
from ncc.nets.net import Net, load
from ncc.runtime.compiled import Compiled
from ncc.scalar import losses, optimizers
from ncc.training.freeze import chosen
from ncc.training.image_step import ImageStep
from ncc.training.loop import samples_of
from ncc.training.rewire import (
    Changed,
    Edges,
    LevelPair,
    changeable,
    changed,
    checked,
    dropped,
    level_pairs,
    lowest,
    targets_of,
)

Array = NDArray[Any]
Scores = Callable[[Edges], Any]
Growth = Callable[[Net, int, np.random.Generator], tuple[Any, Any]]


class Rewired(NamedTuple):
    """What `rewire` did: the edges that went and those that came, (k, 2) both, each a source and a
    target; and the neurons that no output sees any more, whose parameters stand still."""

    dropped: Longs
    grown: Longs
    dead: list[int]


class Trainer:
    """A net (or the file it names) in training. `epoch` trains; between epochs `rewire` replaces
    edges. The code is compiled once, for the kinds of neurons that the net has: its edges are data.
    To the bit, epochs do what `ncc.fit` does.

    loss, optimizer   their texts, as of `ncc.fit`
    batch             samples of a minibatch
    lr                the learning rate; torch's default without. `lr` may be set between epochs
    params            the canonical vector (n_params,) to start from; without, the net's values, or,
                      where it has none, those drawn by the rule `init`
    frozen            the parameters that stay as they are: a text or a mask, as of `ncc.fit`. Their
                      edges never go
    seed              of the shuffles, of `init`, and of the changes of edges
    threads, dtype, numerics, cache   as of `ncc.fit`

    NccError as of `ncc.fit`.
    """

    def __init__(self, net: Net | str | Path, loss: str = "mse", optimizer: str = "adam",
                 batch: int = 32, *, lr: float | None = None, params: Any = None,
                 init: str | None = None, frozen: Any = None, seed: int = 0, threads: int = 1,
                 dtype: Any = None, numerics: str | None = None, cache: bool = True) -> None:
        graph = (net if isinstance(net, Net) else load(net)).graph
        refuse_states(graph, "training")
        if batch < 1 or int(batch) != batch:
            raise NccError("E634", f"batch is {batch}, not a whole number from 1 on")
        self._loss = losses.parse(loss)
        judge = optimizers.parse(optimizer)
        self.lr = optimizers.LEARNING_RATE[judge.name] if lr is None else lr
        self.batch = int(batch)
        self.seed = seed
        if params is None:
            params = weights.init(graph, init or "he", seed)
        self._frozen = (np.zeros(graph.n_params, np.bool_) if frozen is None
                        else chosen(graph, frozen))
        if self._frozen.all():
            raise NccError("E634", "the net has no parameters to train", status=1)
        dtype, numerics = arithmetic(graph, dtype, numerics)
        self._how = {"dtype": dtype, "threads": threads, "numerics": numerics, "cache": cache}
        self._step = ImageStep(graph, loss, optimizer, params=params, frozen=self._frozen,
                               **self._how)
        self._random = np.random.default_rng([seed, 1])
        self._changes = 0
        self._last: tuple[Array, Array] | None = None  # the last minibatch

    # -- the net as it is now

    @property
    def params(self) -> Reals:
        """The canonical parameters (n_params,), float64, a copy; settable."""
        return self._step.params

    @params.setter
    def params(self, values: Any) -> None:
        self._step.params = values

    @property
    def state(self) -> Array:
        """What the optimizer keeps between steps, a copy: its scalars, then for each slot a real of
        each parameter that is not frozen (torch's momentum, or its two moments)."""
        return self._step.state

    @property
    def frozen(self) -> NDArray[np.bool_]:
        """The parameters that stay as they are (n_params,), a copy."""
        return self._frozen.copy()

    @property
    def net(self) -> Net:
        """The net, with its parameters as values."""
        return Net(self._step.graph.with_(values=self.params))

    def compiled(self, **options: Any) -> Compiled:
        """The net as machine code of its own; options as of `ncc.compile`."""
        threads, numerics = [options.pop(name, self._how[name]) for name in ("threads", "numerics")]
        return Compiled(self._step.graph, self.params, dtype=self._how["dtype"], threads=threads,
                        numerics=numerics, cache=self._how["cache"], passes=options)

    # -- training

    def epoch(self, x: Any, y: Any) -> float:
        """Train on samples x (n, n_inputs) and y (n, n_targets), which for `ce` are numbers of
        classes, (n,) too, in minibatches of an order of its own: the mean loss.

        NccError E631, E632, E633, E635 for samples that cannot be."""
        x, y = self._samples(x, y)
        order = self._random.permutation(len(x))
        total = 0.0
        for first in range(0, len(x), self.batch):
            part = order[first : first + self.batch]
            self._last = x[part], y[part]
            total += self._step.step(*self._last, self.lr) * len(part)
        return total / len(x)

    def loss(self, x: Any, y: Any) -> float:
        """The mean loss of samples. Nothing changes."""
        return self._step.loss(*self._samples(x, y))

    def _samples(self, x: Any, y: Any) -> tuple[Array, Array]:
        return samples_of(x, y, self._loss, self._step.graph, self._step.n_targets,
                          self._step.real, ("x", "y"))

    # -- its edges

    def rewire(self, drop: float = 0.3, by: str | Scores = "magnitude",
               grow: str | Growth = "random", *, seed: int | None = None,
               candidates: int | None = None, layers: bool = True) -> Rewired:
        """Replace edges: the share `drop` of them goes, and as many others come, with weight 0.

        by       "magnitude": those of the smallest weights go; or a function: (edges) -> scores,
                 one an edge that may go, of which the lowest do
        grow     "random": any pairs of neurons (SET, Mocanu et al. 2018); "gradient": of pairs that
                 are drawn, those on which the loss of the last minibatch depends most (RigL, Evci
                 et al. 2020); or a function: (net, count, random) -> (sources, targets), of a net
                 without the edges that went
        seed     of what is drawn; without, the trainer's and the number of changes before
        candidates   how many pairs "gradient" looks at; ten times as many as are to come without
        layers   whether the share is that of each layer, not of the whole net

        Edges into neurons that sum are meant, whose weights are trained; no neuron loses its last.
        Pairs are drawn from between the levels that the edges joined which went. What the optimizer
        keeps goes with each parameter, and is 0 for new ones.

        NccError E634 for an option that cannot be, E639 for an edge that cannot be: one that leads
        to no higher level (with the path that it would close), or is there; E633 for scores that
        are no numbers.
        """
        if not 0 <= drop < 1:
            raise NccError("E634", f"drop is {drop}, not a share from 0 to below 1")
        if not callable(by) and by != "magnitude":
            raise NccError("E634", f"by is {by!r}", help="magnitude, or a function")
        if not callable(grow) and grow not in ("random", "gradient"):
            raise NccError("E634", f"grow is {grow!r}", help="random, gradient, or a function")
        random = np.random.default_rng([self.seed, 2, self._changes] if seed is None else seed)
        graph, params = self._step.graph, self.params
        graph = graph.with_(values=params)
        gone = self._dropped(graph, by, drop, layers)
        targets = targets_of(graph)[gone]
        went = np.stack([graph.sources[gone].astype(np.int64), targets], 1)
        if callable(grow):
            nothing = np.zeros(0, np.int64)
            left = changed(graph, ~gone, nothing, nothing, levels=False).graph
            sources, targets = [np.asarray(side) for side in grow(Net(left), len(went), random)]
            checked(left, sources, targets, len(went))
        else:
            sources, targets = self._grown(graph, ~gone, went, grow, candidates, random)
        made = changed(graph, ~gone, sources, targets)
        self._moved(made)
        self._changes += 1
        assert made.graph.levels is not None
        dead = np.flatnonzero(~seen(made.graph, made.graph.levels)
                              & (made.graph.activations >= 0))
        return Rewired(went, np.stack([sources, targets], 1).astype(np.int64), dead.tolist())

    def _dropped(self, graph: Graph, by: str | Scores, drop: float, layers: bool
                 ) -> NDArray[np.bool_]:
        """The edges that go."""
        may = changeable(graph, self._frozen)
        values = np.append(graph.values, np.full(len(graph.constants), np.nan))[graph.weights]
        scores = np.abs(values)
        if callable(by):
            made = np.asarray(by(Edges(graph.sources[may].astype(np.int64),
                                       targets_of(graph)[may], values[may])), np.float64)
            if made.shape != (int(may.sum()),):
                raise NccError("E634", f"by gave scores of shape {made.shape} for {may.sum()} "
                               "edges")
            scores[may] = made
        return dropped(graph, may, scores, drop, layers)

    def _grown(self, graph: Graph, stays: NDArray[np.bool_], went: Longs, grow: str,
               candidates: int | None, random: np.random.Generator) -> tuple[Longs, Longs]:
        """As many edges as went: drawn, or of those drawn the ones with the largest gradients."""
        count = len(went)
        wanted = level_pairs(graph, stays, went[:, 0], went[:, 1])
        pairs = [(pair.drawn(few, random)) for pair, few in wanted] if grow == "random" else []
        if grow == "gradient" and count:
            pairs = self._steepest(graph, stays, wanted, max(count, candidates or 10 * count),
                                   random)
        sources, targets = [np.concatenate([np.zeros(0, np.int64), *[pair[k] for pair in pairs]])
                            for k in (0, 1)]
        return sources, targets

    def _steepest(self, graph: Graph, stays: NDArray[np.bool_], wanted: list[tuple[LevelPair, int]],
                  candidates: int, random: np.random.Generator) -> list[tuple[Longs, Longs]]:
        """Of pairs that are drawn in each pair those with the largest gradients: as edges of
        weight 0, which change no value, they have a gradient like any other."""
        if self._last is None:
            raise NccError("E634", "a gradient is that of the last minibatch, and there was none",
                           help="an epoch first")
        total = sum(few for _, few in wanted)
        drawn = [pair.drawn(min(pair.free, max(few, candidates * few // total)), random)
                 for pair, few in wanted]
        ends = np.cumsum([0, *[len(pair[0]) for pair in drawn]]).tolist()
        sources, targets = [np.concatenate([pair[k] for pair in drawn]) for k in (0, 1)]
        by = np.argsort(targets, kind="stable")
        tried = changed(graph, stays, sources[by], targets[by], levels=False)
        sizes = np.abs(self._step.gradient_of(tried.graph, tried.graph.values, *self._last))
        steep = np.empty(len(by), sizes.dtype)
        steep[by] = -sizes[tried.kept < 0]  # new ones are numbered by target
        steep[np.isnan(steep)] = np.inf
        made = []
        for (_, few), first, last in zip(wanted, ends, ends[1:], strict=False):
            best = first + np.sort(lowest(steep[first:last], few))
            made.append((sources[best], targets[best]))
        return made

    def _moved(self, made: Changed) -> None:
        """Go on with another graph: parameters, what is frozen, and the optimizer's reals move."""
        kept, frozen = made.kept, self._frozen
        number = np.cumsum(~frozen) - 1  # among the trained ones
        stays = kept >= 0
        self._frozen = np.where(stays, frozen[np.maximum(kept, 0)], False)
        trained = np.where(stays, number[np.maximum(kept, 0)], -1)[~self._frozen]
        self._step.change(made.graph, made.graph.values, self._frozen, trained)
