"""Training: minibatches, validation and early stopping around the compiled step."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.driver.settings import USUAL, Settings
from ncc.errors import NccError
from ncc.formats import weights
from ncc.ir.graph import Graph, Reals, refuse_states
from ncc.ir.ssa import DTYPES
from ncc.machine.header import graph_hash
from ncc.machine.llvm import host
from ncc.nets.net import Net, load
from ncc.runtime.compiled import Compiled
from ncc.scalar import losses, optimizers
from ncc.training.checkpoint import Epoch, State, digest, fresh
from ncc.training.checkpoint import load as load_state
from ncc.training.freeze import chosen
from ncc.training.step import TrainStep
from ncc.training.weighted_step import WeightedStep

Array = NDArray[Any]
_SHOW_EVERY = 0.1  # seconds between two reports within an epoch


class Status(NamedTuple):
    """What `progress` is called with, at the end of each epoch and ten times a second."""

    epoch: int
    epochs: int
    seen: int  # samples of this epoch
    samples: int  # in an epoch
    loss: float  # of the epoch so far
    validation: float  # the last one; NaN where there is none
    rate: float  # samples a second since training began


@dataclass(frozen=True)
class History:
    """How training went. `best` is the epoch whose parameters were kept, 0 where an interrupt
    came before the first one ended. `stopped` is "done", "patience", "interrupted" or "diverged"
    (a loss or a parameter that is no number any more). `classes` are the names of the classes by
    their numbers, where the targets were names. `state` is where training stands after the last
    whole epoch, for `fit(..., state=)` to go on from; None after "diverged"."""

    __module__ = "ncc"
    epochs: tuple[Epoch, ...]
    best: int
    stopped: str
    classes: tuple[str, ...] = ()
    state: State | None = field(default=None, compare=False, repr=False)

    def csv(self) -> str:
        """The learning curve: a head line, then an epoch a line; no validation is an empty cell.
        Above it stand the classes, if they have names."""
        lines = ["# classes " + ",".join(self.classes)] if self.classes else []
        lines.append("epoch,loss,validation")
        for row in self.epochs:
            shown = "" if math.isnan(row.validation) else repr(row.validation)
            lines.append(f"{row.epoch},{row.loss!r},{shown}")
        return "\n".join(lines) + "\n"


def fit(net: Net | str | Path, x: Any, y: Any, *, dtype: Any = None, opt: int = 2,
        threads: int = 1, numerics: str | None = None, cache: bool = True, limit: bool = True,
        **how: Any) -> tuple[Compiled, History]:
    """`net` (or the file it names) trained on samples x and targets y: the compiled net with the
    best parameters, and the history. The other options are those of `train`.

    Ctrl-C ends training after the minibatch under way: what was best so far is returned, and
    `history.stopped` is "interrupted". (Only in the main thread, and where SIGINT has Python's
    own handler; elsewhere KeyboardInterrupt passes through, or nothing happens.)
    """
    graph = (net if isinstance(net, Net) else load(net)).graph
    settings = Settings(dtype, numerics, opt, cache, {"limit": limit}).of(graph)
    params, history = train(graph, x, y, threads=threads, settings=settings, **how)
    made = Compiled(graph, params, dtype=dtype, opt=opt, threads=threads, numerics=numerics,
                    cache=cache, passes=settings.passes)
    return made, history


def train(graph: Graph, x: Any, y: Any, *, loss: str = "mse", optimizer: str = "adam",
          lr: float | None = None, batch: int = 32, epochs: int = 100, seed: int = 0,
          validation: float | tuple[Any, Any] = 0.0, patience: int | None = None,
          init: str | None = None, params: Any = None, threads: int = 1,
          progress: Callable[[Status], None] | None = None, names: tuple[str, str] = ("x", "y"),
          frozen: Any = None, sample_weight: Any = None, state: State | str | Path | None = None,
          same_samples: bool = True, settings: Settings = USUAL) -> tuple[Reals, History]:
    """The best parameters (canonical, float64), and the history.

    x            (samples, n_inputs)
    y            (samples, n_outputs), or (samples,) of one output; for `ce` the class of each
                 sample, (samples,) or (samples, 1): a whole number 0 .. n_outputs-1, or its name,
                 which are numbered in their order. For `bce` of one output also one of two names
    loss         `losses.parse`; of `bce` and `ce` the outputs are logits
    optimizer    `optimizers.parse`; `lr` defaults to torch's
    batch        samples of a minibatch; the last one of an epoch may be smaller
    seed         of the shuffles, of the held-out part, and of `init`
    validation   the share of the samples to hold out, or a pair (x, y)
    patience     stop after so many epochs whose validation loss is no new minimum
    init         how values are drawn where the net has none: he unless given; `params` are all
    progress     called with a Status
    names        of x and y, in messages
    frozen       the parameters that stay as they are: a text or a mask, `freeze.chosen`
    sample_weight (samples,) of numbers from 0 on: how much each counts, beside the mean of them
    state        where another training stood (`History.state`, or its file), to go on from there
                 up to `epochs` in all: to the bit as if it had never stopped. Net, loss, optimizer,
                 batch, dtype, seed, samples, ... have to be the same, but the samples only where
                 `same_samples`; `lr`, `epochs` and `patience` may be others
    settings     of the compiled step: dtype, numerics, opt, ...; `fit` and this take from the net
                 what they do not say

    The best epoch has the lowest validation loss; without validation, the lowest loss. The result
    is the same for the same arguments, whatever `threads` is.

    NccError: E630 loss or optimizer, E631 a shape, E632 a label, E633 a value that is not finite
    (in `dtype`), E634 another option, E635 no samples, E636 no epoch whose loss is a number, E638
    a state of something else.
    """
    refuse_states(graph, "training")
    task = losses.parse(loss)
    n_targets = losses.targets(task, len(graph.outputs))
    judge = optimizers.parse(optimizer)
    rate = optimizers.LEARNING_RATE[judge.name] if lr is None else lr
    _check(rate, batch, epochs, seed, patience, threads)
    if patience is not None and not isinstance(validation, tuple) and not validation:
        raise NccError("E634", "patience is for the validation loss, and nothing is held out",
                       help="validation=0.1")
    still = None if frozen is None else chosen(graph, frozen)
    if not graph.n_params or (still is not None and still.all()):
        raise NccError("E634", "the net has no parameters to train", status=1)
    settings = settings.of(graph)
    dtype = settings.dtype
    real = np.dtype(DTYPES[dtype])
    inputs, goals, held, classes = _data(x, y, sample_weight, validation, seed, task, graph,
                                         n_targets, real, names)
    old = load_state(state) if isinstance(state, (str, Path)) else state
    rounding = settings.options(host())["numerics"]
    share = "a pair" if isinstance(validation, tuple) else float(validation)
    facts = {"net": graph_hash(graph.with_(values=np.zeros(graph.n_params))), "loss": str(task),
             "optimizer": str(judge), "batch": int(batch), "dtype": dtype, "numerics": rounding,
             "seed": int(seed), "validation": share,
             "frozen": "" if still is None else digest(still),
             "samples": digest(inputs, goals, *(held or ()))}
    if old is not None:
        old.check(facts, same_samples)
        classes = classes or old.classes
    params = _parameters(graph, params, old, epochs, init, seed, real)
    kind = TrainStep if sample_weight is None else WeightedStep
    trainer = kind(graph, loss, optimizer, params=params, threads=threads, frozen=still,
                   settings=settings)
    random = np.random.default_rng([seed, 1])
    start = fresh(trainer.params, trainer.state, facts, rate, random, classes)
    if old is not None:
        start = replace(old, facts=facts, lr=rate, classes=classes)
        random.bit_generator.state = start.random
        trainer.state = start.optimizer
    return _Run(trainer, start, random, batch, epochs, patience, progress).run(inputs, goals, held)


def _data(x: Any, y: Any, sample_weight: Any, validation: float | tuple[Any, Any], seed: int,
          task: losses.Loss, graph: Graph, n_targets: int, real: Any, names: tuple[str, str]
          ) -> tuple[Array, Array, tuple[Array, Array] | None, tuple[str, ...]]:
    """Inputs and targets, those held out, and the names of the classes; where samples have weights,
    these are the last column of the targets."""
    y, classes = _named(y, task, graph, names[1])
    inputs, goals = samples_of(x, y, task, graph, n_targets, real, names)
    if sample_weight is not None:
        goals = np.hstack([goals, _weights(sample_weight, len(goals), real)])
    held: tuple[Array, Array] | None = None
    if isinstance(validation, tuple):
        theirs, _ = _named(validation[1], task, graph, "validation y", classes)
        held = samples_of(validation[0], theirs, task, graph, n_targets, real,
                        ("validation x", "validation y"))
        if sample_weight is not None:
            held = held[0], np.hstack([held[1], np.ones((len(held[1]), 1), real)])
    elif validation:
        inputs, goals, held = _split(inputs, goals, validation, seed)
    return inputs, goals, held, classes


def _parameters(graph: Graph, params: Any, old: State | None, epochs: int, init: str | None,
                seed: int, real: Any) -> Any:
    """The parameters that training starts from: those of a state, the caller's, or drawn."""
    if old is None:
        if params is None:
            params = weights.init(graph, init or "he", seed)
        params = np.asarray(params, np.float64)
        finite(params.reshape(1, -1), "params", real)
        return params
    if len(old.epochs) > epochs:
        raise NccError("E638", f"the state has {len(old.epochs)} epochs behind it, and epochs, "
                       f"which counts them, is {epochs}")
    if params is not None:
        raise NccError("E634", "params are given, and the state has some")
    return old.params


@dataclass
class _Run:
    trainer: TrainStep
    start: State
    random: np.random.Generator
    batch: int
    epochs: int
    patience: int | None
    progress: Callable[[Status], None] | None

    def run(self, x: Array, y: Array, held: tuple[Array, Array] | None) -> tuple[Reals, History]:
        random, start = self.random, self.start
        done = list(start.epochs)
        best, lowest, kept = start.best, start.lowest, start.kept
        # What the state after the last whole epoch is made of, when it is over.
        last: dict[str, Any] = {}
        stopped = "done"
        self.validation = done[-1].validation if done else math.nan
        self.began = time.perf_counter()
        with _Interrupt() as interrupt:
            for number in range(len(done) + 1, self.epochs + 1):
                if self.patience is not None and done and len(done) - best >= self.patience:
                    stopped = "patience"
                    break
                loss = self._epoch(number, x, y, random.permutation(len(x)), interrupt)
                if interrupt.came:
                    stopped = "interrupted"
                    break
                if held is not None:
                    self.validation = self.trainer.loss(*held)
                done.append(Epoch(number, loss, self.validation))
                self._report(number, len(x), len(x), loss)
                judged = loss if held is None else self.validation
                whole = math.isfinite(loss)
                if judged < lowest:
                    params = self.trainer.params
                    whole = bool(np.isfinite(params).all())
                    if whole:
                        best, lowest, kept = number, judged, params
                last = {"random": random.bit_generator.state, "params": self.trainer.params,
                        "optimizer": self.trainer.state, "best": best, "lowest": lowest,
                        "kept": kept}
                if interrupt.came or not whole:
                    stopped = "interrupted" if interrupt.came else "diverged"
                    break
                if self.patience is not None and number - best >= self.patience:
                    stopped = "patience"
                    break
        if best == 0:
            if stopped != "interrupted" and done:
                epoch = done[-1]
                also = "" if held is None else f", {epoch.validation} of the held-out samples"
                raise NccError("E636", f"epoch {epoch.epoch} left a loss of {epoch.loss}{also}, "
                               "and no parameters worth keeping",
                               help="a smaller learning rate, or samples of a smaller range")
            if np.isfinite(self.trainer.params).all():
                kept = self.trainer.params
        state = None if stopped == "diverged" else replace(start, epochs=tuple(done), **last)
        return kept, History(tuple(done), best, stopped, start.classes, state)

    def _epoch(self, number: int, x: Array, y: Array, order: Array, interrupt: _Interrupt
               ) -> float:
        """A step a minibatch, until an interrupt: the mean loss."""
        total, shown = 0.0, time.perf_counter()
        for first in range(0, len(x), self.batch):
            part = order[first : first + self.batch]
            total += self.trainer.step(x[part], y[part], self.start.lr) * len(part)
            if interrupt.came:
                break
            now, seen = time.perf_counter(), first + len(part)
            if now - shown > _SHOW_EVERY and seen < len(x):
                shown = now
                self._report(number, seen, len(x), total / seen)
        return total / len(x)

    def _report(self, number: int, seen: int, samples: int, loss: float) -> None:
        if self.progress is not None:
            elapsed = time.perf_counter() - self.began
            rate = ((number - 1 - len(self.start.epochs)) * samples + seen) / max(elapsed, 1e-9)
            self.progress(Status(number, self.epochs, seen, samples, loss, self.validation,
                                   rate))


class _Interrupt:
    """Notes Ctrl-C within its block instead of raising wherever it comes: a step is whole."""

    def __init__(self) -> None:
        self.came = False
        self._mine = (threading.current_thread() is threading.main_thread()
                      and signal.getsignal(signal.SIGINT) is signal.default_int_handler)

    def __enter__(self) -> _Interrupt:
        if self._mine:
            signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, *_: Any) -> None:
        self.came = True

    def __exit__(self, *_: Any) -> None:
        if self._mine:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _check(lr: float, batch: int, epochs: int, seed: int, patience: int | None, threads: int
           ) -> None:
    if not (math.isfinite(lr) and lr > 0):
        raise NccError("E634", f"the learning rate is {lr}, not a number above 0")
    for name, value, least in (("batch", batch, 1), ("epochs", epochs, 1), ("seed", seed, 0),
                               ("patience", patience, 1), ("threads", threads, 0)):
        if value is None:
            continue
        if not isinstance(value, (int, np.integer)) or value < least:
            raise NccError("E634", f"{name} is {value}, not a whole number from {least} on")


def samples_of(x: Any, y: Any, task: losses.Loss, graph: Graph, n_targets: int, real: Any,
               names: tuple[str, str]) -> tuple[Array, Array]:
    """Both as (samples, columns) in the dtype, checked."""
    inputs = _table(x, len(graph.inputs), names[0], real)
    goals = _table(y, n_targets, names[1], real,
                   "ce wants the number of its class a sample" if task.name == "ce" else "")
    if len(inputs) != len(goals):
        raise NccError("E631", f"{names[0]} has {len(inputs)} samples, {names[1]} has {len(goals)}")
    if not len(inputs):
        raise NccError("E635", f"{names[0]} has no samples")
    if task.name == "ce":
        classes = len(graph.outputs)
        _labels(goals, (goals == np.floor(goals)) & (goals >= 0) & (goals < classes),
                names[1], f"a class: 0..{classes - 1}")
    elif task.name == "bce":
        _labels(goals, (goals >= 0) & (goals <= 1), names[1], "in 0..1, as bce wants")
    return inputs, goals


def _named(y: Any, task: losses.Loss, graph: Graph, name: str, known: tuple[str, ...] = ()
           ) -> tuple[Any, tuple[str, ...]]:
    """Targets that are names of classes as their numbers, and the names, sorted (or as `known`);
    others as they are."""
    array = np.asarray(y)
    if array.dtype.kind == "O" and all(isinstance(word, str) for word in array.flat):
        array = array.astype(np.str_)
    if array.dtype.kind != "U" or not array.size:
        return y, known
    outputs = len(graph.outputs)
    count = outputs if task.name == "ce" else 2 if (task.name, outputs) == ("bce", 1) else 0
    if not count:
        raise NccError("E631", f"{name} holds texts, not real numbers",
                       help="names of classes are for ce, and for bce of one output")
    if array.shape not in ((len(array),), (len(array), 1)):
        raise NccError("E631", f"{name} has shape {array.shape}: one name a sample")
    words = array.reshape(-1)
    classes = known or tuple(str(word) for word in np.unique(words))
    if len(classes) > count:
        shown = ", ".join(classes[:8]) + (", ..." if classes[8:] else "")
        raise NccError("E632", f"{name} names {len(classes)} classes, and the net is for {count}",
                       note=shown)
    numbers = {word: k for k, word in enumerate(classes)}
    for row, word in enumerate(words.tolist()):
        if word not in numbers:
            raise NccError("E632", f"row {row} of {name} has {word!r}, which is not a class: "
                           + ", ".join(classes[:8]), help="rows count from 0")
    return np.array([numbers[word] for word in words.tolist()], np.float64), classes


def _table(values: Any, columns: int, name: str, real: Any, help: str = "") -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise NccError("E631", f"{name} holds {array.dtype}, not real numbers")
    wanted = f"(samples, {columns})"
    if columns == 1:
        wanted += " or (samples,)"
        if array.ndim == 1:
            array = array[:, None]
    if array.ndim != 2 or array.shape[1] != columns:
        raise NccError("E631", f"{name} has shape {np.shape(values)}, the net wants {wanted}",
                       help=help)
    return finite(array, name, real)


def finite(array: Array, name: str, real: Any) -> Array:
    """A table in the dtype `real`; NccError E633 with the place of what is not finite there."""
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(array, real)
    wrong = np.argwhere(~np.isfinite(made))
    if len(wrong):
        row, column = wrong[0]
        raise NccError("E633", f"row {row}, column {column} of {name} is {array[row, column]}: "
                       f"not a finite {real}", help="rows and columns count from 0")
    return made


def _weights(given: Any, samples: int, real: Any) -> Array:
    """As a column, their mean 1."""
    column = _table(given, 1, "sample_weight", np.dtype(np.float64))
    if len(column) != samples:
        raise NccError("E631", f"sample_weight has {len(column)} numbers for {samples} samples")
    if (column < 0).any() or not column.any():
        raise NccError("E634", "sample_weight holds a negative number, or nothing but 0",
                       status=1)
    column = column / column.max()  # or their sum may overflow
    made: Array = (column / column.mean()).astype(real)
    return made


def _labels(goals: Array, right: Array, name: str, wanted: str) -> None:
    wrong = np.argwhere(~right)
    if len(wrong):
        row, column = wrong[0]
        raise NccError("E632", f"row {row} of {name} has {goals[row, column]:g}, which is not "
                       + wanted, help="rows count from 0")


def _split(x: Array, y: Array, share: float, seed: int
           ) -> tuple[Array, Array, tuple[Array, Array]]:
    """The samples to train on, and the held-out ones: drawn by the seed, each part in order."""
    if not 0 < share < 1:
        raise NccError("E634", f"validation is {share}, not a share from 0 to below 1")
    count = max(1, round(share * len(x)))
    if count >= len(x):
        raise NccError("E635", f"{len(x)} samples leave none to train on beside {count} held out")
    out = np.zeros(len(x), np.bool_)
    out[np.random.default_rng([seed, 0]).permutation(len(x))[:count]] = True
    return x[~out], y[~out], (x[out], y[out])
