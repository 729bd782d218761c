"""What a module of the ssa level is made of: ops, buffers, tables, functions; their text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError, Source, Span
from ncc.scalar.opcodes import OPS, Opcode

Op = tuple[str, tuple[int, ...], Any]
# What a pure function is made of.
PURE = frozenset(o.name for o in OPS.values() if o.effect in ("", "control"))
DTYPES: dict[str, Any] = {"f32": np.float32, "f64": np.float64}


def dtype_name(given: Any) -> str:
    """"f32" or "f64" of either, of what numpy calls them (`float64`, `np.float64`, `np.dtype("d")`)
    and of torch's. NccError E603 (status 2) where it is another."""
    if isinstance(given, str) and given in DTYPES:
        return given
    try:
        # Of None numpy makes one, too; and the word `float` is 32 bits in C and 64 in numpy.
        real = None if given is None or str(given) == "float" else np.dtype(
            str(given).removeprefix("torch.") if type(given).__module__ == "torch" else given)
    except (TypeError, ValueError):
        real = None
    for name, known in DTYPES.items():
        if real == known and real is not None:
            return name
    shown = given.__name__ if isinstance(given, type) else str(given)
    raise NccError("E603", f"no dtype {shown[:40]}", help="f32 (float32) or f64 (float64)")


# Where op k of a function stands in its text, by name; None: the head of a function or a table.
Place = Callable[[str, int | None], tuple[Source, Span]]
# `value` is one real, passed by value; `indices` are unsigned numbers of 32 bits, to be read as a
# table of indices is; all `work` and `private` buffers are one argument in C.
KINDS = ("in", "out", "inout", "value", "indices", "work", "private")
READ_ONLY = ("in", "value", "indices")
OPEN = -1  # the size of a buffer that is as long as the caller says; in texts, `*`
UNLINKED = -1  # of an op that computes no neuron, or something of several


class Buffer(NamedTuple):
    """`size` in elements (of one sample, where the function takes a count of samples), or OPEN."""

    name: str
    kind: str
    size: int


@dataclass(frozen=True, eq=False)
class Table:
    """A constant array: `type` is `f`, `i` or `w`, as in the opcode table."""

    name: str
    type: str
    values: NDArray[Any]

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, Table):
            return self is other
        mine, others = [(t.name, t.type, t.values.dtype, len(t.values)) for t in (self, other)]
        # By bits, as NaN is no number's equal; without copies, as tables may be large.
        bits = f"u{self.values.itemsize}"
        return mine == others and bool((self.values.view(bits) == other.values.view(bits)).all())

    def __hash__(self) -> int:
        return hash((self.name, self.type))


@dataclass(frozen=True)
class Func:
    """A function; `counted` where it takes a number of samples first; `exported` or internal;
    `pure` where it makes a real of a real, has no buffers, and is applied, not called.

    neurons    the neuron that each op computes (its value, its adjoint, or the gradient of one of
               its parameters), or UNLINKED; None where nobody asked for them (the option
               `provenance` of `lower`), so that they take neither time nor memory. They say where
               an op comes from, not what it is: functions that differ in them alone are equal.
    """

    name: str
    buffers: tuple[Buffer, ...]
    ops: list[Op]
    counted: bool = False
    exported: bool = True
    pure: bool = False
    neurons: list[int] | None = field(default=None, compare=False)

    def with_ops(self, ops: list[Op], new: Sequence[int] | None = None) -> Func:
        """The function with the ops that a pass made of its own, one after another. `new` says for
        each old op which op has its value now, -1 for none: that op, and those that were made on
        the way to it, are of the same neuron. An op that is new of several keeps the first's.
        Without `new` the neurons are lost."""
        if self.neurons is None or new is None:
            return replace(self, ops=ops, neurons=None)
        neurons: list[int] = []
        for neuron, at in zip(self.neurons, new, strict=True):
            neurons += [neuron] * (at + 1 - len(neurons))
        neurons += [UNLINKED] * (len(ops) - len(neurons))
        return replace(self, ops=ops, neurons=neurons)

    def __str__(self) -> str:
        return _print_func(self)


def types(func: Func, tables: Mapping[str, str]) -> list[str]:
    """The type letter of every op's value, '' where it makes none; `tables` are their types."""
    cells = {**{b.name: "i" for b in func.buffers if b.kind == "indices"}, **tables}
    out: list[str] = []
    carries: list[list[int]] = []
    done: list[int] = []
    for at, (opcode, reads, imm) in enumerate(func.ops):
        result = OPS[opcode].result
        if result == "*":
            result = out[reads[-1]]
        elif result == "?":
            result = cells.get(imm[0], "f") if opcode == "load" else out[done[imm]]
        out.append(result)
        if opcode == "for":
            carries.append([])
        elif opcode == "carry":
            carries[-1].append(at)
        elif opcode == "yield":
            done = carries.pop()
        elif opcode == "apply":
            done = [at] * len(reads)
    return out


def layout(func: Func, elements: int = 16) -> tuple[dict[str, int], int]:
    """Where in the caller's one `work` each work and private buffer begins, and the size of it all,
    in elements; each begins at a multiple of `elements`, a private one has a cell a lane. An open
    one is the last, and counts as empty."""
    lanes = max([op[2] for op in func.ops if op[0] == "for"] or [0])
    offsets: dict[str, int] = {}
    end = 0
    for b in func.buffers:
        if b.kind in ("work", "private"):
            at = -(-end // elements) * elements
            offsets[b.name] = at
            end = at + max(0, b.size) * (max(1, lanes) if b.kind == "private" else 1)
    return offsets, end


# ---- text


def _print_func(func: Func) -> str:
    buffers = ", ".join(f"{b.name} {b.kind} {'*' if b.size == OPEN else b.size}"
                        for b in func.buffers)
    head = "func" if func.exported else "pure" if func.pure else "internal"
    count = "count, " if func.counted and buffers else "count" if func.counted else ""
    lines = [f"{head} {func.name}({count}{buffers}) {{"]
    depth = 1
    for at, (opcode, reads, imm) in enumerate(func.ops):
        if opcode == "yield":
            depth -= 1
        lines.append("  " * depth + print_op(at, opcode, reads, imm))
        if opcode == "for":
            depth += 1
    if func.neurons is not None:
        lines[1:] = map(linked, lines[1:], func.neurons)
    lines.append("}\n")
    return "\n".join(lines)


def linked(line: str, neuron: int, comment: str = "//") -> str:
    """A line of code with the neuron that it computes, if any, as a comment behind it."""
    if neuron == UNLINKED:
        return line
    return f"{line}{' ' * max(1, 40 - len(line.expandtabs()))}{comment} n{neuron:02x}"


def print_op(at: int, opcode: str, reads: tuple[int, ...], imm: Any) -> str:
    """The line of an op; one that is in no table is shown like arithmetic."""
    row = OPS.get(opcode, Opcode(opcode, "...", "?"))
    values = [f"%{r}" for r in reads]
    if row.imm == "lanes":
        lanes = f" lanes {imm}" if imm else ""
        said = f"{opcode} {values[0]}..{values[1]}{lanes} {{"
    elif row.imm == "call":
        said = f"{opcode} {imm[0]} " + ", ".join(
            [f"{name}[{value}]" for name, value in zip(imm[1], values, strict=True)])
    elif row.imm == "place":
        values[row.values :] = [_place(imm, reads[row.values :])]
        said = f"{opcode} {', '.join(values)}"
    else:
        shown = "" if imm is None else f" {imm!r}" if row.imm == "real" else f" {imm}"
        said = f"{opcode}{shown} {', '.join(values)}".rstrip()
    if opcode == "yield":
        return "} " + said
    return f"%{at} = {said}" if row.result else said


def print_any(at: int, op: Op) -> str:
    """As print_op, of an op that may be ill-formed."""
    try:
        return print_op(at, *op)
    except (TypeError, ValueError, IndexError):
        return f"%{at} = {op!r}"


def _place(imm: tuple[str, int], index: tuple[int, ...]) -> str:
    name, offset = imm
    if not index:
        return f"{name}[{offset}]"
    return f"{name}[%{index[0]}{f' + {offset}' if offset else ''}]"
