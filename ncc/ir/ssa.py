"""The ssa level: functions of scalar ops over buffers.

An op is `(opcode, reads, imm)`. A value is the number of the op that makes it, and an op reads only
values above it, in its own or an enclosing loop: one comparison proves SSA form. The one control
form is the counted loop with carried values; in the flat list of ops it is

    for  carry*  ...body...  yield  result*

A `lanes` loop says that its iterations are independent and may run side by side; a `private` buffer
is one that every iteration of a lanes loop has to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.ir.ssa_run import run
from ncc.ir.ssa_types import (
    DTYPES,
    KINDS,
    OPEN,
    READ_ONLY,
    UNLINKED,
    Buffer,
    Func,
    Op,
    Place,
    Table,
    dtype_name,
    layout,
    types,
)
from ncc.ir.ssa_verify import Verifier
from ncc.scalar.numpy_eval import Numpy

__all__ = ["DTYPES", "KINDS", "OPEN", "READ_ONLY", "UNLINKED", "Buffer", "Func", "Module", "Op",
           "Place", "Table", "dtype_name", "layout", "types"]


@dataclass(frozen=True)
class Module:
    """The ssa level: functions that share constant tables, one dtype and one numerics."""

    name: str
    dtype: str
    numerics: str
    funcs: tuple[Func, ...]
    tables: tuple[Table, ...] = ()

    @property
    def fused(self) -> bool:
        return self.numerics != "strict"

    def func(self, name: str) -> Func:
        for func in self.funcs:
            if func.name == name:
                return func
        raise KeyError(name)

    def with_(self, **changes: Any) -> Module:
        return replace(self, **changes)

    def __str__(self) -> str:
        """The text that `grammar/ssa.lark` reads back to an identical module."""
        parts = [f"module {self.name} {self.dtype} {self.numerics}\n"]
        for t in self.tables:
            shown = " ".join(map(repr if t.type == "f" else str, t.values.tolist()))
            parts.append(f"table {t.name} {t.type}: {shown}\n")
        parts += [str(f) for f in self.funcs]
        return "\n".join(parts)

    def verify(self, place: Place | None = None) -> None:
        """Raise an NccError (status 3; status 1 and its place, where `place` is given) unless

        - function and table names are unique; buffer names are unique in a function and differ
          from the tables';
        - every opcode is known and has as many reads as its row says, each of the right type;
        - an op reads only values made above it, in its own or an enclosing loop;
        - `carry` stands directly after its `for` (or another carry of it), `result` directly after
          its `yield`, which names as many values as there are carries, of their types;
        - a function with neurons has one for each op;
        - loops are closed; lanes loops do not nest and carry nothing;
        - loads and stores name a buffer of the function (a table only to load), a constant index
          lies inside it, and nothing is stored to an `in` buffer or to `indices`, or loaded from an
          `out` one; of `work` and private buffers only the last may be open;
        - a private buffer is used only inside a lanes loop;
        - a lanes loop that accumulates has lanes for whole rounds, or one;
        - a lookup names a table of words;
        - a call names an internal function whose buffers this one has, and which calls nothing;
        - a call_at names an exported function that is not counted, likewise, outside of lanes;
        - an apply names a pure function; that is internal, has no buffers, and consists of one
          `argument`, arithmetic, constants, lookups, plain loops, applies of pure functions above
          it, and a `return` at its end.
        """
        Verifier(self.dtype, self.numerics, self.funcs, self.tables, place).check()

    def run(self, name: str, buffers: Mapping[str, NDArray[Any]], n: int | None = None) -> None:
        """Interpret function `name` over `buffers`, which are written in place.

        Without `n`, an axis after the first is a batch: a buffer of shape (size, B) makes every
        value of its B samples at once. `n` is the count of samples of a counted function, whose
        buffers are flat.
        """
        evaluate = Numpy(self.dtype, self.fused)
        # Indices are computed as wide as pointers, whatever their table's cells.
        tables = {t.name: t.values.astype(np.int64) if t.type == "i" else t.values
                  for t in self.tables}
        run({f.name: f for f in self.funcs}, self.func(name), dict(buffers), tables, n, evaluate)
