"""Choices spelt as text: `name:option=value:option=value`, as losses and optimizers are given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import NamedTuple

from ncc.errors import NccError
from ncc.parsing import NUMBER


class Option(NamedTuple):
    """A real option of a choice: its value unless given, and the values it may have."""

    usual: float
    low: float = -math.inf
    high: float = math.inf
    low_too: bool = True  # whether `low` itself may be
    high_too: bool = True
    flag: bool = False  # 0 or 1

    def range(self) -> str:
        if self.flag:
            return "0 or 1"
        left = f"{self.low:g} {'<=' if self.low_too else '<'} " if self.low > -math.inf else ""
        right = f" {'<=' if self.high_too else '<'} {self.high:g}" if self.high < math.inf else ""
        return f"a finite number, {left}value{right}" if left or right else "a finite number"

    def takes(self, value: float) -> bool:
        if self.flag:
            return value in (0.0, 1.0)
        return (math.isfinite(value)
                and (self.low <= value if self.low_too else self.low < value)
                and (value <= self.high if self.high_too else value < self.high))


def read(text: str, what: str, choices: Mapping[str, Mapping[str, Option]]
         ) -> tuple[str, tuple[tuple[str, float], ...]]:
    """The name that `text` chooses, and all options of it in the table's order.

    `what` is the noun in messages. NccError E630 (status 2) for an unknown name or option, an
    option given twice, or a value that the option does not take.
    """
    name, *words = text.split(":")
    if name not in choices:
        raise NccError("E630", f"no {what} {name!r}", help=_help(name, tuple(choices)))
    known = choices[name]
    given: dict[str, float] = {}
    for word in words:
        key, equals, number = word.partition("=")
        if key not in known:
            raise NccError("E630", f"{name} has no option {key!r}",
                           help=_help(key, tuple(known)) if known else "it has none")
        if key in given:
            raise NccError("E630", f"{name}: {key} is given twice")
        if not equals or not NUMBER.fullmatch(number) or "x" in number.lower():
            raise NccError("E630", f"{name}: {word!r} gives no number",
                           help=f"{name}:{key}={known[key].usual:g}")
        given[key] = float(number)
        if not known[key].takes(given[key]):
            raise NccError("E630", f"{name}: {key} is {number}",
                           help=f"{key} is {known[key].range()}")
    return name, tuple((key, given.get(key, option.usual)) for key, option in known.items())


def spelt(name: str, options: tuple[tuple[str, float], ...]) -> str:
    """The text that `read` reads back."""
    return ":".join([name, *[f"{key}={value!r}" for key, value in options]])


def _help(word: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(word, known, 1)
    return f"did you mean {close[0]}?" if close else "one of " + ", ".join(known)
