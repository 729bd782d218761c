"""The head lines, the same in .nal and .nel: the count, functions, outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ncc.errors import NccError, Source, Span
from ncc.formats.fields import hex_index, words_of
from ncc.ir.syntax import Count, Function, Out, Parameters, uncommented
from ncc.parsing import Token


def count_of(token: Token) -> Count:
    _, (text, span) = words_of(token)
    return Count(int(text, 16), span)


def functions_of(tokens: Iterable[Token]) -> tuple[Function, ...]:
    functions = []
    for token in tokens:
        _, (code, span), (_, body), *_ = words_of(token)
        text = uncommented(token.rstrip("\n"))[body.column - 1 :].rstrip(" \t")
        place = Span(body.line, body.column, len(text))
        functions.append(Function(hex_index(code), text, span, place))
    return tuple(functions)


def out_of(source: Source, tokens: list[Token]) -> Out | None:
    """The `out` line, if there is one; E128 where there are two."""
    if len(tokens) > 1:
        _, span = words_of(tokens[1])[0]
        raise NccError("E128", "a second `out` line", source, span,
                       note=f"the first is on line {tokens[0].line}")
    if not tokens:
        return None
    _, *fields = words_of(tokens[0])
    return Out(tuple(hex_index(text) for text, _ in fields), tuple(span for _, span in fields))


def of_kind(tokens: list[Token], kind: str) -> list[Token]:
    """Those of the tokens that are of a kind of the grammar."""
    return [t for t in tokens if t.type == kind]


def finite(source: Source, parameters: Parameters, place: Callable[[int], Span]) -> None:
    """E108, at `place` of the first, where a parameter is infinite."""
    if parameters.values.strides == (0,):
        return
    bad = np.flatnonzero(np.isinf(parameters.values))
    if len(bad):
        raise NccError("E108", "the number overflows", source, place(int(bad[0])))
