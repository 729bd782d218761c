"""A worker: python open_pickle.py PICKLE ANSWERS

It opens a pickle of (compiled net, module of torch or estimator; samples) where nothing can be
compiled, and writes what the thing says of the samples.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import ncc
from ncc.machine import codegen, llvm, native


def refuse(*_: Any) -> NoReturn:
    raise AssertionError("LLVM is called")


_WHOLE = (llvm.Machine.module, llvm.Machine.object, codegen.Codegen.object,
          codegen.Codegen.measured)


def compile_nothing(refused: bool = True) -> None:
    """From now on whatever would be compiled in this process is refused, or is no more."""
    machine, child = llvm.Machine, codegen.Codegen
    machine.module, machine.object, child.object, child.measured = (
        [refuse] * 4 if refused else _WHOLE)


def answers(thing: Any, x: Any) -> list[Any]:
    """All that the code of a thing is for, each as an array."""
    if isinstance(thing, ncc.Compiled):
        y, pullback = thing.vjp(x)
        return [thing(x), thing(x[0]), y, *pullback(np.ones_like(y))]
    if hasattr(thing, "predict"):
        return [thing.predict(x), thing.compiled_(x[0])]
    import torch

    given = torch.from_numpy(x).requires_grad_()
    y = thing(given)
    y.sum().backward()
    with torch.no_grad():
        whole = thing(given)
    return [a.detach().numpy() for a in (whole, y, given.grad, thing.params.grad)]


if __name__ == "__main__":
    compile_nothing()
    native.PRODUCTS_A_THREAD = 0  # threads, however little there is to do
    thing, x = pickle.loads(Path(sys.argv[1]).read_bytes())
    Path(sys.argv[2]).write_bytes(pickle.dumps(answers(thing, x)))
