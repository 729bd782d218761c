"""Grammars to trees: the only file that imports lark."""

from __future__ import annotations

from functools import cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken

from ncc.source import NccError, Source, Span

__all__ = ["Token", "Tree", "read"]


@cache
def _language(name: str) -> Lark:
    return Lark.open_from_package(
        "ncc.grammar", f"{name}.lark", parser="lalr", propagate_positions=False
    )


def read(language: str, source: Source) -> Tree[Token]:
    """Parse `source` by `grammar/<language>.lark`; a text outside it is an NccError E001."""
    try:
        return _language(language).parse(source.text)
    except UnexpectedToken as error:
        token = error.token
        if token.type == "$END":
            raise _at_end(source) from None
        span = Span(token.line or 1, token.column or 1, max(1, len(str(token).rstrip("\n"))))
        shown = str(token).strip().split("\n")[0][:40]
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
