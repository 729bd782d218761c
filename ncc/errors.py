"""Where a text came from, and the one error that users see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Source:
    """A text and the name it is known by in messages."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """Line `number` (from 1), without its end; empty where there is none."""
        start = 0
        for _ in range(number - 1):
            start = self.text.find("\n", start) + 1
            if start == 0:
                return ""
        end = self.text.find("\n", start)
        return self.text[start : end if end >= 0 else None].rstrip("\r")


@dataclass(frozen=True)
class Span:
    """A place in a source: line and column from 1, and how many characters."""

    line: int
    column: int
    length: int = 1


class NccError(Exception):
    """A fault in the input, the command line or the surroundings.

    `code` is an E and three digits; `status` the exit status of the contract (1 the input is
    wrong, 2 the command line, 3 a verification failed, 4 a limit was reached, 5 an outside tool
    failed, 70 a fault of ncc's own). `str(error)` is the whole message as the command prints it.
    """

    __module__ = "ncc"  # where users import it: a traceback says ncc.NccError

    def __init__(
        self,
        code: str,
        message: str,
        source: Source | None = None,
        span: Span | None = None,
        *,
        note: str = "",
        help: str = "",
        status: int = 1,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.source = source
        self.span = span
        self.note = note
        self.help = help
        self.status = status

    @property
    def file(self) -> str | None:
        return self.source.name if self.source else None

    @property
    def line(self) -> int | None:
        return self.span.line if self.span else None

    @property
    def column(self) -> int | None:
        return self.span.column if self.span else None

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.code, self.message, self.source, self.span, self.note, self.help,
                           self.status))

    def __str__(self) -> str:
        place = ""
        if self.source is not None:
            place = f"{printable(self.source.name)}:"
            if self.span is not None:
                place += f"{self.span.line}:{self.span.column}:"
            place += " "
        lines = [f"{place}error[{self.code}]: {printable(self.message)}"]
        if self.source is not None and self.span is not None:
            line = self.source.line(self.span.line).replace("\t", " ")
            text = printable(line)
            # What is shown as an escape takes more room than it has columns.
            before = line[: self.span.column - 1]
            column = self.span.column - len(before) + len(printable(before))
            here = line[self.span.column - 1 :][: self.span.length]
            length = self.span.length - len(here) + len(printable(here))
            # A row of a megabyte is shown as the hundred characters around the fault.
            first = max(0, column - 60) if len(text) > 120 else 0
            shown = text[first : first + 120]
            lines.append(f"  {shown}")
            carets = max(1, min(length, first + len(shown) - column + 1))
            lines.append("  " + " " * (column - 1 - first) + "^" * carets)
        if self.note:
            lines.append(f"note: {printable(self.note)}")
        if self.help:
            lines.append(f"help: {printable(self.help)}")
        return "\n".join(lines)


def _rebuild(code: str, message: str, source: Source | None, span: Span | None, note: str,
             help: str, status: int) -> NccError:
    return NccError(code, message, source, span, note=note, help=help, status=status)


def printable(text: str) -> str:
    """`text` with every control and every undecodable character shown as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def near(word: str, words: Iterable[str]) -> str:
    """A help line that names the word most like `word`, or all of them."""
    known = list(words)
    close = get_close_matches(word[:40].lower(), known, 1, 0.5)
    return f"did you mean `{close[0]}`?" if close else "one of " + ", ".join(known)
