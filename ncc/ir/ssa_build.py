"""Ops one after another: the builder of functions, which is an Emitter, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np

from ncc.ir.ssa_types import DTYPES, UNLINKED, Op, Table

TILE = 16  # columns that are transposed with samples at once: a vector's lanes


@dataclass
class Builder:
    """Collects ops; also the Emitter that expressions and sequences are replayed on.

    neuron    the neuron that the next ops compute, as `Func.neurons` has it; whoever writes them
              says so, and only `Linked` notes it
    neurons   of each op, where that is asked for
    """

    dtype: str
    fused: bool
    ops: list[Op] = field(default_factory=list)
    tables: dict[tuple[int, ...], Table] = field(default_factory=dict)
    neuron: int = UNLINKED
    neurons: list[int] | None = None

    def emit(self, opcode: str, reads: tuple[int, ...] = (), imm: Any = None) -> int:
        self.ops.append((opcode, reads, imm))
        return len(self.ops) - 1

    def op(self, name: str, *reads: int) -> int:
        self.ops.append((name, reads, None))
        return len(self.ops) - 1

    def in_turn(self, first: int, neurons: Sequence[int]) -> None:
        """The ops from number `first` on are of these neurons in turn, as `abreast` of
        ncc/scalar/expressions.py writes them; a constant is of the first neuron."""

    def const(self, value: float) -> int:
        """A real, rounded to the dtype."""
        return self.emit("const", (), float(DTYPES[self.dtype](value)))

    def word(self, value: int) -> int:
        bits = 32 if self.dtype == "f32" else 64
        return self.emit("word", (), (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1))

    def index(self, value: int) -> int:
        return self.emit("index", (), value)

    def lookup(self, values: tuple[int, ...], index: int) -> int:
        if values not in self.tables:
            word = np.int32 if self.dtype == "f32" else np.int64
            bits = 32 if self.dtype == "f32" else 64
            array = np.array([v % (1 << bits) for v in values], dtype=f"u{bits // 8}").view(word)
            self.tables[values] = Table(f"words_{len(self.tables)}", "w", array)
        return self.emit("lookup", (index,), self.tables[values].name)

    def rarely(self, condition: int, usual: tuple[int, ...],
               other: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
        """The values of `other` where the condition holds, else the `usual` ones; the others are
        only computed where it holds in any lane."""
        _, *held = self.loop(self.index(0), self.op("any", condition), usual)
        chosen = [self.op("select", condition, a, b)
                  for a, b in zip(other(), held, strict=True)]
        return tuple(self.close(*chosen))

    def load(self, buffer: str, offset: int, index: int | None = None) -> int:
        return self.emit("load", () if index is None else (index,), (buffer, offset))

    def store(self, value: int, buffer: str, offset: int, index: int | None = None) -> None:
        self.emit("store", (value,) if index is None else (value, index), (buffer, offset))

    def accumulate(self, a: int, b: int, buffer: str, offset: int, index: int | None = None,
                   in_order: bool = False) -> None:
        self.emit("accrue" if in_order else "accumulate",
                  (a, b) if index is None else (a, b, index), (buffer, offset))

    def columns(self, width: int, lanes: bool) -> Iterator[tuple[int, int]]:
        """A loop over the columns of rows of samples (x, y, their gradients): the first column of a
        round, and how many its body takes. In `lanes` that is a tile of some samples and as
        many columns, which is transposed at once; the last starts early rather than end late."""
        count = TILE if lanes and width >= TILE else 1
        q = self.loop(self.index(0), self.index(-(-width // count)))[0]
        first = self.op("imul", q, self.index(count))
        if width % count:
            first = self.op("imin", first, self.index(width - count))
        yield first, count

    def loop(self, lo: int, hi: int, carries: Iterable[int] = (), lanes: int = 0) -> list[int]:
        """Open a loop: [index, carry, ...]."""
        first = self.emit("for", (lo, hi), lanes)
        return [first] + [self.emit("carry", (init,)) for init in carries]

    def close(self, *values: int) -> list[int]:
        """Close the innermost loop with the carries' next values: their last values."""
        self.emit("yield", values)
        return [self.emit("result", (), k) for k in range(len(values))]


@dataclass
class Linked(Builder):
    """A builder that notes the neuron of each op."""

    neurons: list[int] = field(default_factory=list)

    def emit(self, opcode: str, reads: tuple[int, ...] = (), imm: Any = None) -> int:
        self.neurons.append(self.neuron)
        return super().emit(opcode, reads, imm)

    def op(self, name: str, *reads: int) -> int:
        self.neurons.append(self.neuron)
        return super().op(name, *reads)

    def in_turn(self, first: int, neurons: Sequence[int]) -> None:
        turns = cycle(neurons)
        self.neurons[first:] = [neurons[0] if op[0] == "const" else next(turns)
                                for op in self.ops[first:]]


def builder(dtype: str, fused: bool, provenance: bool = False) -> Builder:
    """A builder; with `provenance`, one that notes the neuron of each op."""
    return (Linked if provenance else Builder)(dtype, fused)
