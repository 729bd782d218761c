"""The compiler's own arithmetic: each mathematical opcode as a sequence of plain ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

Value = Any  # whatever the emitter's values are: numpy arrays, ssa values, C expressions


class Emitter(Protocol):
    """What a sequence is written against: numpy evaluates it, `expand` writes it down as ops."""

    @property
    def dtype(self) -> str: ...  # "f32" or "f64"

    @property
    def fused(self) -> bool: ...  # whether the target has an FMA

    def op(self, name: str, *args: Value) -> Value: ...

    def const(self, value: float) -> Value: ...

    def word(self, value: int) -> Value: ...

    def lookup(self, values: tuple[int, ...], index: Value) -> Value: ...


def relu(e: Emitter, x: Value) -> Value:
    """x where x > 0, NaN where NaN, else +0: max keeps x where it is -0 or NaN, adding +0 turns
    -0 into +0."""
    zero = e.const(0.0)
    return e.op("add", e.op("max", x, zero), zero)


def step(e: Emitter, x: Value) -> Value:
    """1 where x > 0, else +0 (NaN too)."""
    zero = e.const(0.0)
    return e.op("select", e.op("gt", x, zero), e.const(1.0), zero)


SEQUENCES: dict[str, Callable[[Emitter, Value], Value]] = {
    "relu": relu,
    "step": step,
}
