"""Activations by code: names, and their expressions (the formulas are in
`ncc/scalar/formulas.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ncc.errors import Source
from ncc.scalar.expressions import Expr, parse
from ncc.scalar.formulas import ACTIVATIONS, FREE, Activation

__all__ = ["ACTIVATIONS", "FREE", "Activation", "code_of", "expression", "name_of"]


def code_of(name: str) -> int | None:
    """The code of a built-in activation, None where there is none of that name."""
    return _codes().get(name)


def name_of(code: int) -> str:
    """The name of a built-in, the code in hex for a file's own function."""
    return ACTIVATIONS[code].name if 0 <= code < FREE else f"{code:02x}"


def expression(code: int, functions: Mapping[int, str]) -> Expr:
    """The expression of a code; `functions` holds a file's own. Raises KeyError for neither."""
    return _parsed(ACTIVATIONS[code].formula if 0 <= code < FREE else functions[code])


@cache
def _codes() -> dict[str, int]:
    return {a.name: a.code for a in ACTIVATIONS}


@cache
def _parsed(text: str) -> Expr:
    return parse(Source("<activation>", text), text)
