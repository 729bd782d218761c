"""An object of wasm32 as a module that runs as it is: no linker, nothing imported.

An object is a module whose memory and globals are imported, and which says by symbols and
relocations (the custom sections `linking` and `reloc.CODE`, `reloc.DATA`) where addresses and
indices have to be filled in; each stands there as a LEB128 number of five bytes, or as four bytes.
The format: https://github.com/WebAssembly/tool-conventions, Linking.md. ncc's objects call nothing,
so the functions keep their numbers. What else an object may have is an NccError E702.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ncc.errors import NccError

MAGIC = b"\0asm\1\0\0\0"
# Sections by their numbers.
CUSTOM, TYPE, IMPORT, FUNCTION, MEMORY, GLOBAL, EXPORT, CODE, DATA, DATA_COUNT = (
    0, 1, 2, 3, 5, 6, 7, 10, 11, 12)
# Parts of the section `linking`, and kinds of symbols.
SEGMENT_INFO, SYMBOLS = 5, 8
OF_FUNCTION, OF_DATA, OF_GLOBAL = 0, 1, 2
LOCAL, HIDDEN, UNDEFINED, NAMED = 2, 4, 16, 64  # flags of symbols
I32, CONST, END = 0x7F, 0x41, 0x0B
# Memory begins with what no pointer leads to; the stack, where there is one, goes down to that, so
# that one too deep is a trap and no damage; then data.
LEAST, STACK = 1024, 1 << 16
PAGE = 1 << 16
BASE = "__memory_base"  # 0: an address relative to it is the address
TOP = "__stack_pointer"

# Kinds of relocations: what is filled in, and how: five bytes of LEB128, unsigned or signed, or
# four bytes.
RELOCATIONS = {
    0: ("function", "leb"),
    3: ("memory", "leb"),
    4: ("memory", "sleb"),
    5: ("memory", "word"),
    6: ("type", "leb"),
    7: ("global", "leb"),
    11: ("memory", "sleb"),  # relative to BASE
}


def strange(what: str) -> NccError:
    return NccError("E702", f"an object for wasm32 with {what}")


class Reader:
    """Numbers and names of a stretch of bytes, one after another."""

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data, self.at = data, at
        self.end = len(data) if end is None else end

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> bytes:
        if self.at + count > self.end:
            raise strange("an end too soon")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, signed: bool = False) -> int:
        """A LEB128 number of at most ten bytes."""
        value = 0
        for shift in range(0, 70, 7):
            more = self.byte()
            value |= (more & 127) << shift
            if more < 128:
                return value - (1 << shift + 7) if signed and more & 64 else value
        raise strange("a number of more than ten bytes")

    def name(self) -> str:
        return self.take(self.number()).decode(errors="replace")

    def part(self) -> Reader:
        """What comes next, with its size before it."""
        size = self.number()
        self.take(size)
        return Reader(self.data, self.at - size, self.at)

    def rest(self) -> bytes:
        return self.take(self.end - self.at)

    def __bool__(self) -> bool:
        return self.at < self.end


@dataclass
class Symbol:
    """A function's or a global's `value` is its index, a datum's its offset in a segment."""

    kind: int
    name: str
    flags: int
    value: int
    segment: int = 0


@dataclass
class Obj:
    """What an object says: its sections of types, functions and counts as they are, its globals'
    names and types, its segments of data with their alignments, its symbols, its relocations."""

    sections: dict[int, bytes] = field(default_factory=dict)
    globals: list[tuple[str, bytes]] = field(default_factory=list)
    segments: list[tuple[int, bytes]] = field(default_factory=list)  # where in DATA, what
    alignments: list[int] = field(default_factory=list)
    symbols: list[Symbol] = field(default_factory=list)
    relocations: list[tuple[int, int, int, int, int]] = field(default_factory=list)


def linked(code: bytes, more: Mapping[str, bytes] | None = None) -> bytes:
    """The module of an object: it imports nothing and exports `memory`, `__heap_base` (the first
    address that is free) and the functions that others see, by their names. `more` are custom
    sections by name, at its end. NccError E702 where the object has what this does not know."""
    obj = read(code)
    stacked = any(name == TOP for name, _ in obj.globals)
    at, places = STACK if stacked else LEAST, []
    for (_, held), align in zip(obj.segments, obj.alignments, strict=True):
        at = -(-at // align) * align
        places.append(at)
        at += len(held)
    heap = -(-at // 64) * 64
    body = {number: bytearray(data) for number, data in obj.sections.items()}
    for section, *relocation in obj.relocations:
        _relocate(obj, body[section], places, *relocation)
    initial = {BASE: 0, TOP: STACK}
    globals_ = [held + bytes([CONST]) + signed(initial[name]) + bytes([END])
                for name, held in obj.globals]
    globals_.append(bytes([I32, 0, CONST]) + signed(heap) + bytes([END]))
    exports = [named("memory") + b"\2\0",
               named("__heap_base") + b"\3" + unsigned(len(globals_) - 1)]
    exports += [named(s.name) + b"\0" + unsigned(s.value) for s in obj.symbols
                if s.kind == OF_FUNCTION and not s.flags & (LOCAL | HIDDEN)]
    segments = [
        b"\0" + bytes([CONST]) + signed(place) + bytes([END]) + unsigned(len(held))
        + bytes(body[DATA][first : first + len(held)])
        for (first, held), place in zip(obj.segments, places, strict=True)]
    made = {TYPE: bytes(body.get(TYPE, b"\0")), FUNCTION: bytes(body.get(FUNCTION, b"\0")),
            MEMORY: b"\1\0" + unsigned(-(-heap // PAGE)), GLOBAL: counted(globals_),
            EXPORT: counted(exports), DATA_COUNT: unsigned(len(segments)),
            CODE: bytes(body.get(CODE, b"\0")), DATA: counted(segments)}
    out = MAGIC + b"".join([bytes([n]) + sized(data) for n, data in made.items()])
    return out + b"".join([bytes([CUSTOM]) + sized(named(name) + data)
                           for name, data in (more or {}).items()])


def _relocate(obj: Obj, body: bytearray, places: list[int], kind: int, offset: int, index: int,
              addend: int) -> None:
    """Fill in a relocation of a section's `body`."""
    if kind not in RELOCATIONS:
        raise strange(f"a relocation of kind {kind}")
    wanted, how = RELOCATIONS[kind]
    size = 4 if how == "word" else 5
    if offset + size > len(body):
        raise strange("a relocation outside its section")
    if wanted == "type":
        value = index
    else:
        if index >= len(obj.symbols):
            raise strange("a relocation of a symbol that it has not")
        symbol = obj.symbols[index]
        if symbol.kind != {"function": OF_FUNCTION, "memory": OF_DATA, "global": OF_GLOBAL}[wanted]:
            raise strange(f"a relocation of kind {kind} of {symbol.name}, which is no {wanted}")
        value = symbol.value + addend
        if wanted == "memory":
            value += places[symbol.segment]
    if how == "word":
        body[offset : offset + 4] = value.to_bytes(4, "little")
    else:
        body[offset : offset + 5] = bytes(
            [value >> shift & 127 | 128 for shift in (0, 7, 14, 21)] + [value >> 28 & 127])


# ---- reading


def read(code: bytes) -> Obj:
    """An object's parts. NccError E702 where it is cut short, or has what is not known here."""
    if code[:8] != MAGIC:
        raise strange("another beginning")
    obj, reader, order = Obj(), Reader(code, 8), []
    while reader:
        number, part = reader.byte(), reader.part()
        order.append(number)
        first = part.at
        if number == CUSTOM:
            _custom(obj, part.name(), part, order)
        elif number == IMPORT:
            obj.globals = list(_imports(part))
        elif number in (TYPE, FUNCTION, CODE, DATA, DATA_COUNT):
            obj.sections[number] = Reader(code, first, part.end).rest()
            if number == DATA:
                obj.segments = list(_segments(part, first))
        else:
            raise strange(f"a section of number {number}")
    if len(obj.alignments) != len(obj.segments):
        raise strange("segments of data that it does not describe")
    for symbol in obj.symbols:
        if symbol.kind == OF_DATA and symbol.segment >= len(obj.segments):
            raise strange(f"{symbol.name} in a segment that it has not")
    return obj


def _imports(part: Reader) -> Iterator[tuple[str, bytes]]:
    """The globals that it imports, and their types."""
    for _ in range(part.number()):
        module, name, kind = part.name(), part.name(), part.byte()
        if kind == 2 and name == "__linear_memory":
            limits = part.number()
            part.number()
            if limits & 1:
                part.number()
        elif kind == 3 and name in (BASE, TOP):
            yield name, part.take(2)
        else:
            raise strange(f"the import {module}.{name}")


def _segments(part: Reader, section: int) -> Iterator[tuple[int, bytes]]:
    """Segments of data, and where in the section's bytes they are."""
    for _ in range(part.number()):
        if part.number() or part.byte() != CONST:
            raise strange("data that is not placed by a number")
        part.number(signed=True)
        if part.byte() != END:
            raise strange("data that is not placed by a number")
        size = part.number()
        yield part.at - section, part.take(size)


def _custom(obj: Obj, name: str, part: Reader, order: list[int]) -> None:
    """What a custom section says; one that only describes says nothing here."""
    if name == "linking":
        if part.number() != 2:
            raise strange("another version of the section `linking`")
        while part:
            kind, inner = part.byte(), part.part()
            if kind == SEGMENT_INFO:
                for _ in range(inner.number()):
                    inner.name()
                    obj.alignments.append(1 << min(inner.number(), 16))
                    if inner.number() & ~1:  # strings, which a linker might share
                        raise strange("data of threads")
            elif kind == SYMBOLS:
                obj.symbols = [_symbol(obj, inner) for _ in range(inner.number())]
            else:
                raise strange(f"part {kind} of the section `linking`")
    elif name.startswith("reloc."):
        section = part.number()
        if section >= len(order) or order[section] not in (CODE, DATA):
            raise strange("relocations of a section that has none")
        for _ in range(part.number()):
            kind, offset, index = part.byte(), part.number(), part.number()
            wants = RELOCATIONS.get(kind, ("", ""))[0]
            addend = part.number(signed=True) if wants == "memory" else 0
            obj.relocations.append((order[section], kind, offset, index, addend))
            if kind not in RELOCATIONS:
                raise strange(f"a relocation of kind {kind}")
    elif name not in ("target_features", "producers", "name"):
        raise strange(f"the custom section {name}")


def _symbol(obj: Obj, part: Reader) -> Symbol:
    kind, flags = part.byte(), part.number()
    missing = flags & UNDEFINED
    if kind == OF_DATA:
        name = part.name()
        if missing:
            raise strange(f"the symbol {name}, which it does not define")
        segment, value = part.number(), part.number()
        part.number()
        return Symbol(kind, name, flags, value, segment)
    if kind == OF_GLOBAL:
        index = part.number()
        if not missing or flags & NAMED or index >= len(obj.globals):
            raise strange("a global of its own")
        return Symbol(kind, obj.globals[index][0], flags, index)
    if kind != OF_FUNCTION or missing:
        raise strange(f"a symbol of kind {kind} that it does not define")
    index = part.number()
    return Symbol(kind, part.name(), flags, index)


# ---- writing


def unsigned(value: int) -> bytes:
    """LEB128."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def signed(value: int) -> bytes:
    """LEB128 of a number that is not negative, with a bit for its sign."""
    out = bytearray()
    while value > 63:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def sized(data: bytes) -> bytes:
    return unsigned(len(data)) + data


def named(name: str) -> bytes:
    return sized(name.encode())


def counted(items: list[bytes]) -> bytes:
    return unsigned(len(items)) + b"".join(items)
