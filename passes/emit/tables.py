"""The tables of an ssa module as constants of LLVM text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ncc.ir.ssa import Module, Table

LARGE = 1 << 16  # bytes of a table that is worth a symbol of its own
_ESCAPES = [f"\\{b:02X}" for b in range(256)]


def cell(table: Table) -> Any:
    """The dtype of a table's cells in memory: indices take two bytes where all of them can, since a
    loop that reads an index an edge waits for memory as often as for arithmetic; one byte, too.
    They are signed where any is negative."""
    if table.type != "i":
        return table.values.dtype
    least, most = int(table.values.min(initial=0)), int(table.values.max(initial=0))
    kind = "i" if least < 0 else "u"
    most = max(most, -1 - least) << (least < 0)
    return np.dtype(f"{kind}1" if most < 1 << 8 else f"{kind}2" if most < 1 << 16 else np.int32)


def large(table: Table) -> bool:
    """Whether the table is one of those that `outside` leaves out."""
    size: int = len(table.values) * cell(table).itemsize
    return size >= LARGE


def constants(module: Module, outside: bool, elf: bool, vector_bits: int, flash: int
              ) -> Iterator[str]:
    """The definition of each table of a module; of those that are left `outside`, that they are
    somewhere. On a machine with vectors each starts a cache line; `elf` files have a section for
    each, and `flash` is the address space of them all."""
    for table in module.tables:
        if outside and large(table):
            size = len(table.values) * cell(table).itemsize
            yield f"@{module.name}.{table.name} = external constant [{size} x i8], align 64"
        else:
            yield _table(table, module.name, elf, vector_bits, flash)


def _table(table: Table, prefix: str, elf: bool, vector_bits: int, flash: int) -> str:
    # At the start of a cache line, where there may be one; flash is for bytes that mean something.
    align = 64 if vector_bits else cell(table).itemsize
    raw = np.ascontiguousarray(table.values, cell(table)).tobytes()
    shown = "".join(map(_ESCAPES.__getitem__, raw)) if len(raw) < 512 else _escaped(raw)
    section = ".progmem.data" if flash else ".rodata"
    space = f"addrspace({flash}) " if flash else ""
    return (f'@{prefix}.{table.name} = private unnamed_addr {space}constant [{len(raw)} x i8] '
            f'c"{shown}", '
            + (f'section "{section}.{prefix}.{table.name}", ' if elf else "") + f"align {align}")


def _escaped(raw: bytes) -> str:
    digits = np.frombuffer(b"0123456789ABCDEF", np.uint8)
    data = np.frombuffer(raw, np.uint8)
    out = np.empty((len(data), 3), np.uint8)
    out[:, 0] = ord("\\")
    for k in range(0, len(data), 1 << 16):  # an index takes eight bytes
        part = data[k : k + (1 << 16)]
        out[k : k + len(part), 1] = digits[part >> 4]
        out[k : k + len(part), 2] = digits[part & 15]
    return str(out.data.cast("B"), "ascii")
