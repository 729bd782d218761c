"""The head lines, the same in .nal and .nel: the count, functions, outputs, directives."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ncc.errors import NccError, Source, Span, near
from ncc.formats.fields import COMMENTS, hex_index, words_of
from ncc.ir.graph import NUMERICS, Label
from ncc.ir.labels import label_of
from ncc.ir.ssa import DTYPES
from ncc.ir.syntax import Count, Directives, Function, Out, Parameters, uncommented
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


def directives_of(source: Source, tokens: list[Token]) -> Directives:
    """What `label`, `numerics` and `dtype` lines say: E150 for a malformed label, E153 for an
    unknown word, E154 for a second line of a kind."""
    found: list[Label] = []
    lines: list[int] = []
    for token in of_kind(tokens, "LABELS"):
        for number, line in enumerate(token.split("\n")[:-1], token.line or 1):
            label = label_of(line, COMMENTS)
            if isinstance(label, str):
                raise malformed_label(source, number, label)
            found.append(label)
            lines.append(number)
    return Directives(tuple(found), tuple(lines),
                      _word(source, of_kind(tokens, "NUMERICS"), "numerics", NUMERICS),
                      _word(source, of_kind(tokens, "DTYPE"), "dtype", tuple(DTYPES)))


def malformed_label(source: Source, number: int, message: str) -> NccError:
    return NccError("E150", message, source, Span(number, 1, len(source.line(number).rstrip())),
                    help="label 04 left-eye, or label 10 conv1 8x26x26")


def _word(source: Source, tokens: list[Token], what: str, known: tuple[str, ...]) -> str | None:
    """The word of the directive `what`, if there is one."""
    if len(tokens) > 1:
        _, span = words_of(tokens[1])[0]
        raise NccError("E154", f"a second `{what}` line", source, span,
                       note=f"the first is on line {tokens[0].line}")
    if not tokens:
        return None
    _, (word, span) = words_of(tokens[0])
    if word not in known:
        raise NccError("E153", f"no {what} {word[:40]}", source, span, help=near(word, known))
    return word


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
