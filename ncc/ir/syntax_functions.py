"""The words for activations in net files, and the functions that these define."""

from __future__ import annotations

from ncc.errors import NccError, Source, Span, near
from ncc.ir.graph import AGGREGATIONS, NONE
from ncc.ir.syntax import OUT_OF_RANGE, Function
from ncc.scalar.activations import ACTIVATIONS, FREE, code_of
from ncc.scalar.expressions import parse


def functions_of(source: Source, functions: tuple[Function, ...]) -> dict[int, str]:
    """The texts of `fn` lines by ascending code: E110, E126, E127, E201 .. E206."""
    lines: dict[int, int] = {}
    for f in functions:
        if f.code < FREE:
            raise NccError("E126", f"code {f.code:02x} is {ACTIVATIONS[f.code].name}", source,
                           f.span, help=f"codes from {FREE:02x} on are free")
        if f.code >= OUT_OF_RANGE:
            raise NccError("E110", "the code is out of range", source, f.span,
                           help=f"codes from {FREE:02x} on are free")
        if f.code in lines:
            raise NccError("E127", f"function {f.code:02x} is defined twice", source, f.span,
                           note=f"the first is on line {lines[f.code]}")
        lines[f.code] = f.span.line
        parse(source, f.text, f.body.line, f.body.column)
    return {f.code: f.text for f in sorted(functions, key=lambda f: f.code)}


def activation_code(word: str, functions: dict[int, str]) -> int:
    """The code that a number or a name stands for; NONE where there is no such activation."""
    code = code_of(word)
    if code is not None:
        return code
    if not is_hex(word):
        return NONE
    number = int(word, 16)
    return number if 0 <= number < FREE or number in functions else NONE


def is_hex(word: str) -> bool:
    return word != "" and not word.strip("0123456789abcdefABCDEF")


def unknown(word: str, functions: dict[int, str], source: Source | None,
             span: Span | None) -> NccError:
    shown = word if len(word) <= 40 else word[:37] + "..."
    if is_hex(word):
        help = f"codes are 00 to {FREE - 1:02x}, or defined by `fn {shown} ...`"
    elif word in AGGREGATIONS:
        help = "an aggregation comes after the activation: 09 00 mul 04,05"
    else:
        help = near(word, [a.name for a in ACTIVATIONS])
    return NccError("E118", f"unknown activation {shown}", source, span, help=help,
                    status=1 if source else 2)
