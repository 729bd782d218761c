"""Where a training stands between two epochs, so that it goes on as if it had never stopped."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError

Array = NDArray[Any]
VERSION = 1
# What has to be the same when a training goes on, and what it is called in messages.
SAME = {"net": "another net", "loss": "the loss", "optimizer": "the optimizer",
        "batch": "the batch", "dtype": "the dtype", "numerics": "the numerics", "seed": "the seed",
        "validation": "the validation share", "frozen": "other frozen parameters",
        "samples": "other samples"}
_DIGESTS = ("net", "frozen", "samples")


class Epoch(NamedTuple):
    """`loss` is the mean over the epoch's samples, each taken before its minibatch's update;
    `validation` that of the held-out samples after the epoch, NaN where there are none."""

    epoch: int  # from 1
    loss: float
    validation: float


Epoch.__module__ = "ncc"  # where a pickle finds it; the body of a NamedTuple takes no such line


@dataclass(frozen=True, eq=False)
class State:
    """After `epochs`: the parameters (n_params,) float64, what the optimizer keeps, the generator
    of the shuffles, and the best parameters so far, of epoch `best` (0: none), whose loss is
    `lowest`. `facts` say what it is the state of, by the names in SAME; `lr` is the learning rate
    it was trained with last, which may be another when it goes on.
    """

    __module__ = "ncc"
    facts: dict[str, Any]
    lr: float
    epochs: tuple[Epoch, ...]
    random: Mapping[str, Any]
    params: Array
    optimizer: Array
    best: int
    lowest: float
    kept: Array
    classes: tuple[str, ...] = ()

    def check(self, facts: dict[str, Any], samples: bool = True) -> None:
        """NccError E638 where a training with `facts` is not this one's; `samples` says whether
        they have to be the same, too."""
        for name, what in SAME.items():
            mine, theirs = self.facts[name], facts[name]
            if mine == theirs or (name in ("samples", "validation") and not samples):
                continue
            if name in _DIGESTS:
                raise NccError("E638", f"the state is of {what}", help=(
                    "`--weights`, or params, goes on from values alone" if name != "frozen" else
                    "the same --freeze"))
            raise NccError("E638", f"the state is of {what} {mine}, not {theirs}")

    def encode(self) -> bytes:
        """An `.npz`."""
        words = {"version": VERSION, "facts": self.facts, "lr": self.lr,
                 "random": dict(self.random), "best": self.best, "lowest": self.lowest,
                 "classes": list(self.classes)}
        out = io.BytesIO()
        np.savez(out, ncc_state=json.dumps(words), params=self.params, optimizer=self.optimizer,
                 kept=self.kept, epochs=np.array(self.epochs, np.float64).reshape(-1, 3))
        return out.getvalue()

    def save(self, path: str | Path) -> None:
        Path(path).write_bytes(self.encode())


def load(path: str | Path) -> State:
    """The state in a file; NccError E638 where it holds none."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise NccError("E638", f"cannot read {path}: {error.strerror or error}") from None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            words = json.loads(str(held["ncc_state"]))
            arrays = {name: held[name] for name in ("params", "optimizer", "kept", "epochs")}
        if words["version"] != VERSION:
            raise NccError("E638", f"{path} is a state of another version of ncc")
        epochs = tuple([Epoch(int(e), loss, held_out) for e, loss, held_out
                        in arrays.pop("epochs").tolist()])
        return State(facts={name: words["facts"][name] for name in SAME}, lr=words["lr"],
                     epochs=epochs, random=words["random"], best=words["best"],
                     lowest=words["lowest"], classes=tuple(words["classes"]), **arrays)
    except (NccError, MemoryError):
        raise
    except Exception:
        # numpy, zipfile, zlib and json each have errors of their own for a damaged file.
        raise NccError("E638", f"{path} holds no state of a training",
                       help="`--save-state` writes one") from None


def digest(*arrays: Any) -> str:
    """Of arrays, with their types and shapes."""
    made = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        made.update(f"{array.dtype.str} {array.shape} ".encode())
        made.update(array.tobytes())
    return made.hexdigest()[:32]


def fresh(params: Array, optimizer: Array, facts: dict[str, Any], lr: float, random: Any,
          classes: tuple[str, ...]) -> State:
    """Before the first epoch."""
    return State(facts, lr, (), random.bit_generator.state, params, optimizer, 0, math.inf, params,
                 classes)
