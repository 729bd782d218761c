"""The constant arrays of a module that is being written."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import numpy as np

from ncc.ir.ssa import DTYPES, Table


class Tables:
    """The constant arrays of all functions, each under a name of its own.

    Functions of one kind are written together, and name their arrays as they like. What functions
    of an earlier kind have already is that array, by its name there.
    """

    def __init__(self, dtype: str) -> None:
        self.real = DTYPES[dtype]
        self.made: dict[str, Table] = {}
        self.before: dict[tuple[str, bytes], str] = {}  # the name of what earlier kinds have
        self.own: dict[str, Table] = {}  # of the kind that is being written, by its names for them
        self.names: dict[str, str] = {}  # and the names of these in the module

    def begin(self) -> None:
        """Functions of another kind follow."""
        self.before = {_content(table): name for name, table in self.made.items()}
        self.own, self.names = {}, {}

    def add(self, name: str, type: str, values: Any) -> str:
        """The name of an array in the module: `type` is `f` or `i`. One with a number, where there
        is another of this name."""
        array = (np.asarray(values, self.real) if type == "f"
                 else np.ascontiguousarray(values, np.int32))
        table = Table(name, type, array)
        while self.own.setdefault(table.name, table) != table:
            table = Table(f"{name}_{len(self.own)}", type, array)
        if table.name not in self.names:
            self.names[table.name] = self._placed(table)
        return self.names[table.name]

    def _placed(self, table: Table) -> str:
        name = self.before.get(_content(table)) if self.before else None
        if name is None:
            name = table.name if table.name not in self.made else f"{table.name}_{len(self.made)}"
            self.made[name] = Table(name, table.type, table.values)
        return name


def _content(table: Table) -> tuple[str, bytes]:
    return table.type, sha256(np.ascontiguousarray(table.values).data).digest()
