"""The sizes of a net as words: 4, 2x3, h4, 8k3s2p1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NoReturn

from ncc.errors import NccError

LARGEST = 2**31 - 1


def refuse(words: Sequence[str], want: str, example: str) -> NoReturn:
    """NccError E652: these words are not what is wanted."""
    said = " ".join(words)
    raise NccError("E652", f"{said!r}: {want}" if words else want, help=f"ncc new {example}")


def number(text: str, least: int = 1) -> int | None:
    """The decimal integer that `text` is, if it is one of `least` .. 2^31 - 1."""
    if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= LARGEST:
        return None
    return int(text)


def numbers(words: Sequence[str], count: int, want: str, example: str) -> list[int]:
    """Integers of 1 or more, `count` of them or more; E652."""
    found = [number(word) for word in words]
    whole = [n for n in found if n is not None]
    if len(whole) < len(found):
        refuse([words[found.index(None)]], "not an integer of 1 or more", example)
    if len(whole) < count:
        refuse(words, want, example)
    return whole


def product(word: str, least: int, most: int, want: str, example: str) -> list[int]:
    """The factors of a word like 2x3; E652."""
    factors = [number(part) for part in word.split("x")]
    whole = [n for n in factors if n is not None]
    if len(whole) < len(factors) or not least <= len(whole) <= most:
        refuse([word], want, example)
    return whole


def share(value: float, what: str, closed: bool = False) -> float:
    """A number above 0 and at most 1, or (`closed`) at least 0; E653."""
    if not (0 <= value <= 1 and (closed or value > 0)):
        raise NccError("E653", f"{what} is {value}, not {'in' if closed else 'above 0 and at most'}"
                       f"{' 0 .. 1' if closed else ' 1'}")
    return value
