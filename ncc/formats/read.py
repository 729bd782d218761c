"""Net files to syntax: bytes to text, text to fat tokens (lark), fat tokens to arrays (numpy)."""

from __future__ import annotations

import re
from typing import Final

from ncc.errors import NccError, Source, Span
from ncc.formats.diagnose import SKIPPED, explain
from ncc.formats.nal import adjacency_list
from ncc.formats.nam import bit_matrix
from ncc.formats.nel import edge_list
from ncc.ir.syntax import FORMATS, Syntax
from ncc.parsing import Token, read


def decode(name: str, data: bytes) -> Source:
    """The text of a file; E103 where it is not UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        source = Source(name, data.decode("utf-8", "replace"))
        raise NccError(
            "E103", f"byte {data[error.start]:02x} is not UTF-8", source, Span(line, column),
            help="a net is a text file; is this one?",
        ) from None
    return _plain(Source(name, text))


def net(source: Source, format: str) -> Syntax:
    """What a net file says. Raises NccError, see grammar/README.md for the codes."""
    if format not in FORMATS:
        raise NccError("E102", f"unknown format {format!r}", help="one of " + ", ".join(FORMATS))
    source = _plain(source)
    if SKIPPED.fullmatch(source.text):
        raise NccError("E137", "the file holds no net", source, Span(1, 1),
                       help=_LINE_ENDS if "\r" in source.text else "")
    try:
        tokens = [t for t in read(format, source).children if isinstance(t, Token)]
    except NccError as error:
        raise explain(source, format, error) from None
    if format == "nam":
        return bit_matrix(source, tokens)
    return adjacency_list(source, tokens) if format == "nal" else edge_list(source, tokens)


def _plain(source: Source) -> Source:
    """Without byte order mark and carriage returns, and with an end to the last line.

    E001 at a carriage return that ends no line, but in a comment, where anything may stand.
    """
    text = source.text.removeprefix("\ufeff")
    if "\r" in text:  # one character is looked for five times faster than two
        text = text.replace("\r\n", "\n")
        if "\r" in text:
            text = re.sub(r"\r+(?:\n|\Z)", "\n", text)
            _no_lone_return(Source(source.name, text))
    if not text.endswith("\n"):
        text += "\n"
    return source if text is source.text else Source(source.name, text)


_LINE_ENDS: Final = "lines end with LF or CRLF; with CR alone, as old Macs wrote, they do not"


def _no_lone_return(source: Source) -> None:
    number, start = 1, 0
    for found in re.finditer("\r", source.text):
        number += source.text.count("\n", start, found.start())
        start = source.text.rfind("\n", 0, found.start()) + 1
        if re.search("[%#]|//", source.text[start : found.start()]) is None:
            raise NccError("E001", "a carriage return that ends no line", source,
                           Span(number, found.start() - start + 1), help=_LINE_ENDS)
        start = found.start()
