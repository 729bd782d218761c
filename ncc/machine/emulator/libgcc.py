"""What the compiler's runtime does on machines without floating-point hardware: libgcc's functions
that our objects call, on the registers that hold their arguments. By their names in GCC's internals
manual, "The GCC low-level runtime library", and in ARM's IHI 0043, "Run-time ABI for the Arm
Architecture"."""

from __future__ import annotations

import operator
import re
import struct
from collections.abc import Callable, Sequence

import numpy as np

from ncc.errors import NccError

ARITHMETIC: dict[str, Callable[[np.floating, np.floating], np.floating]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv}
COMPARES = {"lt": operator.lt, "gt": operator.gt, "le": operator.le, "ge": operator.ge,
            "eq": operator.eq, "ne": operator.ne}
ALL = (1 << 64) - 1


def called(name: str, words: Sequence[int]) -> list[int]:
    """The words, 32 bits each, that a function of this name makes of the first argument registers'.
    NccError E702 for another name."""
    with np.errstate(all="ignore"):
        for pattern, function in _FUNCTIONS:
            found = re.fullmatch(pattern, name)
            if found:
                return function(found, words)
    raise NccError("E702", f"the emulator does not know {name}")


def _reals(letter: str, words: Sequence[int]) -> tuple[np.floating, np.floating]:
    wide = letter == "d"
    raw = struct.pack("<4I", *words)
    first, second = np.frombuffer(raw, "<f8" if wide else "<f4")[:2]
    return first, second


def _bits(value: np.floating) -> list[int]:
    raw = value.tobytes()
    return list(struct.unpack(f"<{len(raw) // 4}I", raw))


def _arithmetic(found: re.Match[str], words: Sequence[int]) -> list[int]:
    return _bits(ARITHMETIC[found["op"]](*_reals(found["of"].replace("s", "f"), words)))


def _compare(found: re.Match[str], words: Sequence[int]) -> list[int]:
    """As ARM has them: 1 where it holds, else 0."""
    a, b = _reals(found["of"], words)
    unordered = bool(np.isnan(a) or np.isnan(b))
    return [int(unordered if found["op"] == "un" else COMPARES[found["op"]](a, b))]


def _three_way(found: re.Match[str], words: Sequence[int]) -> list[int]:
    """As GCC has them: a number whose relation to 0 is that of the two."""
    a, b = _reals(found["of"].replace("s", "f"), words)
    if np.isnan(a) or np.isnan(b):
        return [ALL & 0xFFFFFFFF if found["op"] in ("gt", "ge") else 1]
    if found["op"] == "unord":
        return [0]
    return [(int(a > b) - int(a < b)) & 0xFFFFFFFF]


def _wide(found: re.Match[str], words: Sequence[int]) -> list[int]:
    """Words of 64 bits."""
    value, by = words[0] | words[1] << 32, words[2]
    signed = value - (value >> 63 << 64)
    made = {"mul": value * (words[2] | words[3] << 32), "lsl": value << (by & 63),
            "ashl": value << (by & 63), "lsr": value >> (by & 63), "lshr": value >> (by & 63),
            "asr": signed >> (by & 63), "ashr": signed >> (by & 63)}[found["op"]] & ALL
    return [made & 0xFFFFFFFF, made >> 32]


def _real_of(found: re.Match[str], words: Sequence[int]) -> list[int]:
    return _bits((np.float64 if found["of"] == "d" else np.float32)(words[0]))


_FUNCTIONS: tuple[tuple[str, Callable[[re.Match[str], Sequence[int]], list[int]]], ...] = (
    (r"__aeabi_(?P<of>[fd])(?P<op>add|sub|mul|div)", _arithmetic),
    (r"__(?P<op>add|sub|mul|div)(?P<of>[sd])f3", _arithmetic),
    (r"__aeabi_(?P<of>[fd])cmp(?P<op>lt|gt|le|ge|eq|un)", _compare),
    (r"__(?P<op>lt|gt|le|ge|eq|ne|unord)(?P<of>[sd])f2", _three_way),
    (r"__aeabi_l(?P<op>mul|lsl|lsr|asr)", _wide),
    (r"__(?P<op>mul|ashl|lshr|ashr)di3", _wide),
    (r"__aeabi_ui2(?P<of>[fd])", _real_of),
    (r"__floatunsi(?P<of>[sd])f", _real_of),
)
