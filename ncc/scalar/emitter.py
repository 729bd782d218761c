"""What a formula is written over: the one protocol of interpreters, builders and provers.

An emitter makes values of values, by the opcodes of `ncc/scalar/opcodes.py`. With numpy as the
emitter (`Numpy`) a formula is computed, with the ssa `Builder` it becomes code, with one that only
takes notes it tells what it reads. Expressions, aggregations, derivatives, losses and optimizers
use `fused`, `op` and `const`; the sequences of `ncc/scalar/mathlib.py` use words, too, which is
`MathEmitter`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

V = TypeVar("V")  # whatever the emitter's values are: numpy arrays, numbers of ssa values, texts


class Emitter(Protocol[V]):
    """Arithmetic of reals."""

    @property
    def fused(self) -> bool:
        """Whether a product that is only added to is one `fma`."""

    def op(self, name: str, /, *values: V) -> V:
        """The value of an op of `OPCODES`."""

    def const(self, value: float, /) -> V:
        """A real, rounded to the dtype."""


class MathEmitter(Emitter[V], Protocol[V]):
    """Arithmetic of reals and of the words that they consist of."""

    @property
    def dtype(self) -> str:
        """f32 or f64: how wide reals and words are."""

    def word(self, value: int, /) -> V:
        """A word: `value` modulo 2 to the width."""

    def lookup(self, values: tuple[int, ...], index: V, /) -> V:
        """values[index], of a constant table of words."""

    def rarely(self, condition: V, usual: tuple[V, ...], other: Callable[[], tuple[V, ...]], /
               ) -> tuple[V, ...]:
        """The values of `other` where the condition holds, else the `usual` ones; the others need
        not be computed where it holds nowhere."""
