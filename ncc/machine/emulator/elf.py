"""ELF objects as our back ends make them, placed in memory: sections, symbols, relocations.

A linker for the emulator alone: one object, whose functions call each other and the compiler's
runtime. Sizes of sections, of any format, are LLVM's to read (ncc/machine/llvm.py).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ncc.errors import NccError

ALLOC, EXECUTABLE = 2, 4  # SHF_ALLOC, SHF_EXECINSTR
PROGBITS = 1
WORD = {40: 2, 243: 1}  # an address, by machine: ABS32, R_RISCV_32
TABLE = {2: "symbols", 4: "rela", 9: "rel"}


class Section(NamedTuple):
    """One row of the section header table."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry: int


@dataclass(frozen=True)
class Image:
    """An object in memory: its bytes from `base` on, the addresses of its functions, and those that
    stand for functions that it calls and does not have."""

    base: int
    data: bytearray
    symbols: Mapping[str, int]
    missing: Mapping[str, int]


def placed(code: bytes, base: int, stubs: int) -> Image:
    """The object as it lies in memory from `base` on; what it calls and has not is at `stubs`, 16
    bytes each. NccError E702 for what is no ELF object of ours."""
    if code[:4] != b"\x7fELF" or code[5:6] != b"\1":
        raise NccError("E702", "no ELF object, little-endian")
    wide = code[4] == 2
    head = struct.unpack_from("<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH", code, 16)
    machine, table, size, count = head[1], head[5], head[10], head[11]
    layout = "<IIQQQQIIQQ" if wide else "<IIIIIIIIII"
    sections = [Section(*struct.unpack_from(layout, code, table + k * size))
                for k in range(count)]
    data, at = bytearray(), {}
    for k, section in enumerate(sections):
        if section.type == PROGBITS and section.flags & ALLOC:
            data += bytes(-len(data) % max(section.align, 1))
            at[k] = base + len(data)
            data += code[section.offset : section.offset + section.size]
    symbols = next(s for s in sections if TABLE.get(s.type) == "symbols")
    names = sections[symbols.link].offset
    found: dict[str, int] = {}
    missing: dict[str, int] = {}
    addresses: list[int] = []
    for k in range(symbols.size // symbols.entry):
        where = symbols.offset + k * symbols.entry
        if wide:
            name, info, _, index, value, _ = struct.unpack_from("<IBBHQQ", code, where)
        else:
            name, value, _, info, _, index = struct.unpack_from("<IIIBBH", code, where)
        text = code[names + name : code.index(b"\0", names + name)].decode(errors="replace")
        if index in at:
            value += at[index]
            if info & 15 == 2:
                found[text] = value
        elif index == 0 and text:
            value = missing.setdefault(text, stubs + 16 * len(missing))
        addresses.append(value)
    image = Image(base, data, found, missing)
    for section in sections:
        if TABLE.get(section.type) in ("rel", "rela") and section.info in at:
            runs = bool(sections[section.info].flags & EXECUTABLE)
            _relocate(image, code, section, machine, wide, at[section.info], addresses, runs)
    return image


def _relocate(image: Image, code: bytes, section: Section, machine: int, wide: bool, start: int,
              addresses: list[int], runs: bool) -> None:
    """Tables want addresses (of a switch), and what unwinds, which nobody reads."""
    apply = _Relocations(image, machine)
    rela = TABLE[section.type] == "rela"
    layout = ("<QQq" if rela else "<QQ") if wide else "<IIi" if rela else "<II"
    for k in range(section.size // section.entry):
        row = struct.unpack_from(layout, code, section.offset + k * section.entry)
        symbol, kind = (row[1] >> 32, row[1] & 0xFFFFFFFF) if wide else (row[1] >> 8, row[1] & 255)
        if runs or kind == WORD.get(machine):
            apply(kind, start + row[0], addresses[symbol], row[2] if rela else None)


class _Relocations:
    """The relocations that our objects have, by the numbers of each machine's ABI."""

    def __init__(self, image: Image, machine: int) -> None:
        self.image = image
        self.machine = machine
        self.high: dict[int, int] = {}  # RISC-V: what the low part belongs to, by its address

    def get(self, at: int) -> int:
        return int.from_bytes(self.image.data[at - self.image.base :][:4], "little")

    def put(self, at: int, word: int) -> None:
        k = at - self.image.base
        self.image.data[k : k + 4] = (word & 0xFFFFFFFF).to_bytes(4, "little")

    def __call__(self, kind: int, at: int, symbol: int, addend: int | None) -> None:
        """Make the cell at an address what it is with the symbol there; `addend` None where the
        cell has it."""
        known = {40: self.arm, 62: self.x86_64, 183: self.aarch64, 243: self.riscv}
        apply = known.get(self.machine)
        if apply is None or not apply(kind, at, symbol, addend or 0):
            raise NccError("E702", f"a relocation of kind {kind} for machine {self.machine}")

    def x86_64(self, kind: int, at: int, symbol: int, addend: int) -> bool:
        if kind not in (2, 4):  # PC32, PLT32
            return False
        self.put(at, symbol + addend - at)
        return True

    def arm(self, kind: int, at: int, symbol: int, addend: int) -> bool:
        word = self.get(at)
        if kind == 42:  # PREL31, of tables for unwinding
            return True
        if kind in (2, 3):  # ABS32, REL32
            self.put(at, word + symbol - at * (kind == 3))
        elif kind == 28:  # CALL: 24 bits of words, from two instructions on
            offset = (symbol - at - 8) >> 2
            self.put(at, (word & 0xFF000000) | (offset & 0xFFFFFF))
        elif kind in (10, 30):  # THM_CALL, THM_JUMP24
            offset = (symbol & ~1) - at - 4
            s, j1, j2 = offset >> 24 & 1, offset >> 23 & 1, offset >> 22 & 1
            upper = 0xF000 | s << 10 | (offset >> 12 & 0x3FF)
            lower = (word >> 16 & 0xD000) | (1 ^ j1 ^ s) << 13 | (1 ^ j2 ^ s) << 11 | (
                offset >> 1 & 0x7FF)
            self.put(at, upper | lower << 16)
        else:
            return False
        return True

    def aarch64(self, kind: int, at: int, symbol: int, addend: int) -> bool:
        word, target = self.get(at), symbol + addend
        scale = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}.get(kind)
        if kind == 275:  # ADR_PREL_PG_HI21
            pages = (target >> 12) - (at >> 12)
            self.put(at, word | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5)
        elif scale is not None:  # ADD_ABS_LO12_NC, LDSTn_ABS_LO12_NC
            self.put(at, word | (target & 0xFFF) >> scale << 10)
        elif kind in (282, 283):  # JUMP26, CALL26
            self.put(at, word | ((target - at) >> 2 & 0x3FFFFFF))
        else:
            return False
        return True

    def riscv(self, kind: int, at: int, symbol: int, addend: int) -> bool:
        word, offset = self.get(at), symbol + addend - at
        if kind in (18, 19):  # CALL, CALL_PLT: auipc and jalr
            self.put(at, word & 0xFFF | (offset + 0x800) & ~0xFFF)
            self.put(at + 4, self.get(at + 4) & 0xFFFFF | (offset & 0xFFF) << 20)
        elif kind == 1:  # 32
            self.put(at, symbol + addend)
        elif kind == 23:  # PCREL_HI20
            self.high[at] = offset
            self.put(at, word & 0xFFF | (offset + 0x800) & ~0xFFF)
        elif kind in (24, 25) and symbol in self.high:  # PCREL_LO12_I, _S: symbol is the high part
            low = self.high[symbol] & 0xFFF
            if kind == 24:
                self.put(at, word & 0xFFFFF | low << 20)
            else:
                self.put(at, word & 0x1FFF07F | (low >> 5) << 25 | (low & 31) << 7)
        elif kind == 16:  # BRANCH
            self.put(at, word & 0x1FFF07F | (offset >> 12 & 1) << 31 | (offset >> 5 & 63) << 25
                     | (offset >> 1 & 15) << 8 | (offset >> 11 & 1) << 7)
        elif kind == 17:  # JAL
            self.put(at, word & 0xFFF | (offset >> 20 & 1) << 31 | (offset >> 1 & 1023) << 21
                     | (offset >> 11 & 1) << 20 | (offset >> 12 & 255) << 12)
        elif kind != 51:  # RELAX changes nothing
            return False
        return True
