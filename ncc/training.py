"""Training: minibatches, validation and early stopping around the compiled step."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc import losses, optimizers, weights
from ncc.freeze import chosen
from ncc.graph import Graph, Reals
from ncc.net import Net, load
from ncc.runtime import Compiled
from ncc.source import NccError
from ncc.ssa import DTYPES
from ncc.trainer import Trainer

Array = NDArray[Any]
_SHOW_EVERY = 0.1  # seconds between two reports within an epoch


class Epoch(NamedTuple):
    """`loss` is the mean over the epoch's samples, each taken before its minibatch's update;
    `validation` that of the held-out samples after the epoch, NaN where there are none."""

    epoch: int  # from 1
    loss: float
    validation: float


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
    (a loss or a parameter that is no number any more)."""

    epochs: tuple[Epoch, ...]
    best: int
    stopped: str

    def csv(self) -> str:
        """The learning curve: a head line, then an epoch a line; no validation is an empty cell."""
        lines = ["epoch,loss,validation"]
        for row in self.epochs:
            shown = "" if math.isnan(row.validation) else repr(row.validation)
            lines.append(f"{row.epoch},{row.loss!r},{shown}")
        return "\n".join(lines) + "\n"


def fit(net: Net | str | Path, x: Any, y: Any, *, dtype: str = "f32", opt: int = 2,
        threads: int = 1, numerics: str | None = None, cache: bool = True, **how: Any
        ) -> tuple[Compiled, History]:
    """`net` (or the file it names) trained on samples x and targets y: the compiled net with the
    best parameters, and the history. The other options are those of `train`.

    Ctrl-C ends training after the minibatch under way: what was best so far is returned, and
    `history.stopped` is "interrupted". (Only in the main thread, and where SIGINT has Python's
    own handler; elsewhere KeyboardInterrupt passes through, or nothing happens.)
    """
    graph = (net if isinstance(net, Net) else load(net)).graph
    params, history = train(graph, x, y, dtype=dtype, opt=opt, threads=threads,
                            numerics=numerics, cache=cache, **how)
    made = Compiled(graph, params, dtype=dtype, opt=opt, threads=threads, numerics=numerics,
                    cache=cache)
    return made, history


def train(graph: Graph, x: Any, y: Any, *, loss: str = "mse", optimizer: str = "adam",
          lr: float | None = None, batch: int = 32, epochs: int = 100, seed: int = 0,
          validation: float | tuple[Any, Any] = 0.0, patience: int | None = None,
          init: str | None = None, params: Any = None, threads: int = 1, dtype: str = "f32",
          opt: int = 2, numerics: str | None = None,
          progress: Callable[[Status], None] | None = None,
          names: tuple[str, str] = ("x", "y"), cache: bool = True,
          frozen: Any = None) -> tuple[Reals, History]:
    """The best parameters (canonical, float64), and the history.

    x            (samples, n_inputs)
    y            (samples, n_outputs), or (samples,) of one output; for `ce` the class of each
                 sample, a whole number 0 .. n_outputs-1, (samples,) or (samples, 1)
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
    cache        whether the compiled step may come from the cache on disk, and be kept there

    The best epoch has the lowest validation loss; without validation, the lowest loss. The result
    is the same for the same arguments, whatever `threads` is.

    NccError: E630 loss or optimizer, E631 a shape, E632 a label, E633 a value that is not finite
    (in `dtype`), E634 another option, E635 no samples, E636 no epoch whose loss is a number.
    """
    task = losses.parse(loss)
    n_targets = losses.targets(task, len(graph.outputs))
    rate = optimizers.LEARNING_RATE[optimizers.parse(optimizer).name] if lr is None else lr
    _check(rate, batch, epochs, seed, patience, threads)
    if patience is not None and not isinstance(validation, tuple) and not validation:
        raise NccError("E634", "patience is for the validation loss, and nothing is held out",
                       status=2, help="validation=0.1")
    still = None if frozen is None else chosen(graph, frozen)
    if not graph.n_params or (still is not None and still.all()):
        raise NccError("E634", "the net has no parameters to train")
    if dtype not in DTYPES:
        raise NccError("E603", f"no dtype {dtype}", help="f32 or f64", status=2)
    real = np.dtype(DTYPES[dtype])
    inputs, goals = _samples(x, y, task, graph, n_targets, real, names)
    held: tuple[Array, Array] | None = None
    if isinstance(validation, tuple):
        held = _samples(*validation, task, graph, n_targets, real,
                        ("validation x", "validation y"))
    elif validation:
        inputs, goals, held = _split(inputs, goals, validation, seed)
    if params is None:
        params = weights.init(graph, init or "he", seed)
    trainer = Trainer(graph, loss, optimizer, params=params, dtype=dtype, opt=opt,
                      threads=threads, numerics=numerics, cache=cache, frozen=still)
    return _Run(trainer, rate, batch, epochs, patience, progress).run(inputs, goals, held, seed)


@dataclass
class _Run:
    trainer: Trainer
    lr: float
    batch: int
    epochs: int
    patience: int | None
    progress: Callable[[Status], None] | None

    def run(self, x: Array, y: Array, held: tuple[Array, Array] | None, seed: int
            ) -> tuple[Reals, History]:
        random = np.random.default_rng([seed, 1])
        done: list[Epoch] = []
        best, lowest = 0, math.inf
        kept = self.trainer.params
        stopped = "done"
        self.validation = math.nan
        self.began = time.perf_counter()
        with _Interrupt() as interrupt:
            for number in range(1, self.epochs + 1):
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
                if interrupt.came or not whole:
                    stopped = "interrupted" if interrupt.came else "diverged"
                    break
                if self.patience is not None and number - best >= self.patience:
                    stopped = "patience"
                    break
        if best == 0:
            if stopped != "interrupted":
                last = done[-1]
                also = "" if held is None else f", {last.validation} of the held-out samples"
                raise NccError("E636", f"epoch {last.epoch} left a loss of {last.loss}{also}, and "
                               "no parameters worth keeping",
                               help="a smaller learning rate, or samples of a smaller range")
            if np.isfinite(self.trainer.params).all():
                kept = self.trainer.params
        return kept, History(tuple(done), best, stopped)

    def _epoch(self, number: int, x: Array, y: Array, order: Array, interrupt: _Interrupt
               ) -> float:
        """A step a minibatch, until an interrupt: the mean loss."""
        total, shown = 0.0, time.perf_counter()
        for first in range(0, len(x), self.batch):
            part = order[first : first + self.batch]
            total += self.trainer.step(x[part], y[part], self.lr) * len(part)
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
            rate = ((number - 1) * samples + seen) / max(elapsed, 1e-9)
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
        raise NccError("E634", f"the learning rate is {lr}, not a number above 0", status=2)
    for name, value, least in (("batch", batch, 1), ("epochs", epochs, 1), ("seed", seed, 0),
                               ("patience", patience, 1), ("threads", threads, 0)):
        if value is None:
            continue
        if not isinstance(value, (int, np.integer)) or value < least:
            raise NccError("E634", f"{name} is {value}, not a whole number from {least} on",
                           status=2)


def _samples(x: Any, y: Any, task: losses.Loss, graph: Graph, n_targets: int, real: Any,
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
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(array, real)
    wrong = np.argwhere(~np.isfinite(made))
    if len(wrong):
        row, column = wrong[0]
        raise NccError("E633", f"row {row}, column {column} of {name} is {array[row, column]}: "
                       f"not a finite {real}", help="rows and columns count from 0")
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
        raise NccError("E634", f"validation is {share}, not a share from 0 to below 1", status=2)
    count = max(1, round(share * len(x)))
    if count >= len(x):
        raise NccError("E635", f"{len(x)} samples leave none to train on beside {count} held out")
    out = np.zeros(len(x), np.bool_)
    out[np.random.default_rng([seed, 0]).permutation(len(x))[:count]] = True
    return x[~out], y[~out], (x[out], y[out])
