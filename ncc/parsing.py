"""Grammars to trees: the only file that imports lark."""

from __future__ import annotations

import re
from functools import cache
from math import inf
from typing import Final

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken
from lark.lexer import TerminalDef

from ncc.errors import NccError, Source, Span

__all__ = ["NUMBER", "Token", "Tree", "ended", "read", "real", "text_of"]

NUMBER: Final = re.compile(
    r"[+-]?(?:0[xX](?:[0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?"
    r"|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
)
FAT = {"nal": "NEURONS", "nam": "ROWS", "nel": "EDGES"}  # the terminals of thousands of lines


def real(text: str) -> float:
    """What NUMBER matches, as strtod reads it; infinite where it overflows."""
    if "x" not in text and "X" not in text:
        return float(text)
    try:
        return float.fromhex(text)
    except OverflowError:
        return -inf if text.startswith("-") else inf


@cache
def _language(name: str) -> Lark:
    return Lark.open_from_package(
        "ncc.grammar", f"{name}.lark", parser="lalr", propagate_positions=False,
        lexer_callbacks={FAT[name]: _placed} if name in FAT else {},
        edit_terminals=_committed if name in FAT else None,
    )


def _committed(terminal: TerminalDef) -> None:
    """The lists in a terminal without a way back, as its inner quantifiers are, which lark's own
    `*` cannot say: half as fast again. What follows an item is no part of one."""
    terminal.pattern.value = terminal.pattern.value.replace(")*)", ")*+)")


def _placed(token: Token) -> Token:
    """A fat token without its text: all of them would be the file twice more in memory."""
    return token.update(value="")


def ended(source: Source) -> Source:
    """The text without byte order mark and carriage returns, and with an end to its last line."""
    text = source.text.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.endswith("\n"):
        text += "\n"
    return source if text is source.text else Source(source.name, text)


def text_of(token: Token, source: Source) -> str:
    """What a token of `source` covers, the fat ones too."""
    return source.text[token.start_pos : token.end_pos]


def read(language: str, source: Source) -> Tree[Token]:
    """Parse `source` by `grammar/<language>.lark`; a text outside it is an NccError E001.

    The tokens in FAT have their place alone: see `text_of`."""
    try:
        return _language(language).parse(source.text)
    except UnexpectedToken as error:
        token = error.token
        if token.type == "$END":
            raise _at_end(source) from None
        text = text_of(token, source)
        span = Span(token.line or 1, token.column or 1, max(1, len(text.rstrip("\n"))))
        shown = text.strip().split("\n")[0][:40]
        raise NccError("E001", f"unexpected {shown!r}", source, span) from None
    except UnexpectedCharacters as error:
        span = Span(error.line, error.column)
        raise NccError("E001", "unexpected character", source, span) from None
    except UnexpectedEOF:
        raise _at_end(source) from None


def _at_end(source: Source) -> NccError:
    lines = source.text.rstrip("\n").split("\n")
    span = Span(len(lines), len(lines[-1]) + 1)
    return NccError("E001", "the text ends too early", source, span)
