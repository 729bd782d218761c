"""Activations as expressions in x: text to a flat program, and its replay on any emitter.

Syntax: `+ - * / ( )`, numbers as C's strtod reads them, `x`, `^` with an integer constant
(-x^2 is -(x^2)), and functions: the named activations, `expm1`, `log1p`, and `min`, `max` of two
or more. Nothing is evaluated by Python, and nothing is folded but the sign of a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

from ncc.errors import NccError, Source, Span
from ncc.parsing import Token, Tree, read, real
from ncc.scalar.activations import ACTIVATIONS, FREE
from ncc.scalar.emitter import Emitter, V
from ncc.scalar.opcodes import OPCODES

DEEPEST = 64  # brackets, calls and signs within each other
LONGEST = 10_000  # nodes of a program, the bodies of called activations included
MAX_EXPONENT = 2**31 - 1


class Node(NamedTuple):
    """`op` is `x`, `const` (its number in `value`), or an opcode over nodes above this one."""

    op: str
    args: tuple[int, ...] = ()
    value: float = 0.0


@dataclass(frozen=True)
class Expr:
    """A program whose last node is its value; `args` of a node are smaller than its index."""

    nodes: tuple[Node, ...]

    def constants(self) -> tuple[float, ...]:
        return tuple(n.value for n in self.nodes if n.op == "const")

    @cached_property
    def direct(self) -> tuple[Node, ...]:
        """The nodes, where `max(c, y)` and `min(c, y)` of a number c are the one opcode that passes
        a NaN of y on, with the same bits; of 0 and -0 it would be the other zero."""
        nodes = list(self.nodes)
        for k, node in enumerate(nodes):
            if node.op != "select":
                continue
            test, y, chosen = node.args
            op, args, _ = nodes[chosen]
            if nodes[test][:2] == ("une", (y, y)) and op in ("max", "min") and args[1] == y:
                number = nodes[args[0]]
                if number.op == "const" and number.value != 0:
                    nodes[k] = Node(op, (y, args[0]))
        return tuple(nodes)

    @cached_property
    def brief(self) -> tuple[Node, ...]:
        """Those of them that the value reads, numbered anew."""
        return _live(self.direct, len(self.direct) - 1).nodes


def emit(expr: Expr, e: Emitter[V], x: V) -> V:
    """The value of `expr` at `x`, at most one op of `e` per node; `x` itself for the identity."""
    values: list[V] = []
    for op, args, number in expr.brief:
        values.append(x if op == "x" else e.const(number) if op == "const" else
                      e.op(op, *[values[a] for a in args]))
    return values[-1]


def abreast(expr: Expr, e: Emitter[V], xs: Sequence[V]) -> list[V]:
    """The values of `expr` at each of `xs`, node by node: equal ops stand side by side."""
    if len(xs) == 1:
        return [emit(expr, e, xs[0])]
    values: list[list[V]] = []
    for op, args, number in expr.brief:
        if op == "x":
            values.append(list(xs))
        elif op == "const":
            values.append([e.const(number)] * len(xs))
        else:
            values.append([e.op(op, *reads)
                           for reads in zip(*[values[a] for a in args], strict=True)])
    return values[-1]


def expression(code: int, functions: Mapping[int, str]) -> Expr:
    """The expression of an activation code; `functions` holds a file's own. Raises KeyError for
    neither."""
    return _parsed(ACTIVATIONS[code].formula if 0 <= code < FREE else functions[code])


@cache
def _parsed(text: str) -> Expr:
    name = text.removesuffix("(x)")
    if name in _primitives() and name != text:  # as it is read below, without a grammar
        return Expr((Node("x"), Node(name, (0,))))
    return parse(Source("<activation>", text), text)


def parse(source: Source, text: str, line: int = 1, column: int = 1) -> Expr:
    """The program of `text`, which stands at `line` and `column` of `source`.

    Raises NccError: E001 outside the grammar, E201 unknown function or variable, E202 a wrong
    number of arguments, E203 a constant divisor 0, E204 a number that is not finite, E205 a bad
    exponent, E206 nesting over DEEPEST or a program over LONGEST (a limit).
    """
    try:
        return _program(Source(source.name, text))
    except NccError as error:
        span = error.span or Span(1, 1)
        if span.line == 1:
            span = Span(line, span.column + column - 1, span.length)
        else:
            span = Span(span.line + line - 1, span.column, span.length)
        raise NccError(error.code, error.message, source, span, note=error.note, help=error.help,
                       status=error.status) from None


class _Builder:
    """The nodes so far, and the values of those that are built of numbers alone."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.nodes: list[Node] = []
        self.known: list[float | None] = []
        self.spreads: list[bool] = []  # whether a node is NaN wherever x is
        self.x: int | None = None  # the one node that is the variable

    def fail(self, code: str, message: str, at: Token | None, **more: str) -> NccError:
        span = Span(at.line or 1, at.column or 1, len(at)) if at is not None else Span(1, 1)
        return NccError(code, message, self.source, span, help=more.get("help", ""))

    def add(self, op: str, args: Sequence[int], at: Token | None, value: float = 0.0) -> int:
        if len(self.nodes) >= LONGEST:
            raise _limit(self.source, at, f"the expression has more than {LONGEST} operations")
        self.nodes.append(Node(op, tuple(args), value))
        self.known.append(self._value(op, args, at, value))
        self.spreads.append(_spreads(op, [self.spreads[a] for a in args]))
        return len(self.nodes) - 1

    def const(self, value: float, at: Token | None) -> int:
        return self.add("const", (), at, value)

    def _value(self, op: str, args: Sequence[int], at: Token | None, value: float) -> float | None:
        """The value of a constant node, as far as + - * / show it; faults of it are reported."""
        if op == "const":
            return value
        operands = [self.known[a] for a in args]
        if op == "div" and operands[1] == 0:
            raise self.fail("E203", "the divisor is a constant 0", at)
        if op not in ("add", "sub", "mul", "div", "neg"):
            return None
        known = [v for v in operands if v is not None]
        if len(known) != len(operands):
            return None
        if op == "neg":
            return -known[0]
        a, b = known
        result = a + b if op == "add" else a - b if op == "sub" else a * b if op == "mul" else a / b
        if not math.isfinite(result):
            raise self.fail("E204", "a constant of the expression overflows", at)
        return result


def _spreads(op: str, args: Sequence[bool]) -> bool:
    """Whether a node is NaN wherever x is, where it is known of its arguments."""
    if op == "x":
        return True
    if op in ("min", "max"):  # pass a NaN of the first argument on
        return args[0]
    if op == "select":  # its test is false or true of a NaN: either way it is of one of them
        return all(args[1:])
    return op not in ("const", "step", "une") and any(args)


def _program(source: Source) -> Expr:
    _shallow(source)
    build = _Builder(source)
    values: list[int] = []  # of the operands that are done, as on any stack machine
    work: list[tuple[Tree[Token] | Token, bool, int]] = [(read("expression", source), False, 0)]
    while work:
        item, done, depth = work.pop()
        if isinstance(item, Token):
            continue
        if done:
            _reduce(build, item, values)
            continue
        if item.data in ("negative", "positive", "group", "call"):
            depth += 1
            if depth > DEEPEST:
                tokens = [t for t in item.children if isinstance(t, Token)]
                raise _too_deep(source, tokens[0] if tokens else None)
        work.append((item, True, depth))
        work.extend((child, False, depth) for child in reversed(item.children))
    return _live(build.nodes, values[0])


def _live(nodes: Sequence[Node], result: int) -> Expr:
    """The nodes that `result` reads, in their order."""
    needed = [False] * len(nodes)
    needed[result] = True
    for index in range(result, -1, -1):
        if needed[index]:
            for a in nodes[index].args:
                needed[a] = True
    numbers = [0] * len(nodes)
    kept: list[Node] = []
    for index, node in enumerate(nodes):
        if needed[index]:
            numbers[index] = len(kept)
            kept.append(Node(node.op, tuple(numbers[a] for a in node.args), node.value))
    return Expr(tuple(kept))


def _shallow(source: Source) -> None:
    """Refuse deep brackets before the parser sees them."""
    depth = 0
    for place, character in enumerate(source.text):
        depth += (character == "(") - (character == ")")
        if depth > DEEPEST:
            before = source.text[:place].split("\n")
            at = Token("LPAR", "(", line=len(before), column=len(before[-1]) + 1)
            raise _too_deep(source, at)


def _too_deep(source: Source, at: Token | None) -> NccError:
    return _limit(source, at, f"the expression is nested deeper than {DEEPEST}")


def _limit(source: Source, at: Token | None, message: str) -> NccError:
    span = Span(at.line or 1, at.column or 1) if at is not None else Span(1, 1)
    return NccError("E206", message, source, span)


_BINARY = {"+": "add", "-": "sub", "*": "mul", "/": "div"}


def _reduce(build: _Builder, tree: Tree[Token], values: list[int]) -> None:
    """Replace the operands of `tree`, on top of `values`, by its value."""
    tokens = [child for child in tree.children if isinstance(child, Token)]
    if tree.data == "number":
        values.append(build.const(_number(build, tokens[0]), tokens[0]))
    elif tree.data == "name":
        if tokens[0] != "x":
            raise _unknown(build, tokens[0], "variable")
        if build.x is None:
            build.x = build.add("x", (), tokens[0])
        values.append(build.x)
    elif tree.data in ("sum", "product"):
        operands = values[-len(tokens) - 1 :]
        del values[-len(operands) :]
        total = operands[0]
        for operator, operand in zip(tokens, operands[1:], strict=True):
            total = build.add(_BINARY[str(operator)], (total, operand), operator)
        values.append(total)
    elif tree.data == "negative":
        operand = values.pop()
        node = build.nodes[operand]
        if node.op == "const":  # exact in every dtype, so no folding that could change a result
            values.append(build.const(-node.value, tokens[0]))
        else:
            values.append(build.add("neg", (operand,), tokens[0]))
    elif tree.data == "power":
        values.append(_power(build, values.pop(), tokens))
    elif tree.data == "call":
        count = len(tree.children) - 1
        arguments = values[-count:]
        del values[-count:]
        values.append(_call(build, tokens[0], arguments))


def _number(build: _Builder, token: Token) -> float:
    value = real(token)
    if not math.isfinite(value):
        raise build.fail("E204", f"{token[:40]} overflows", token)
    return value


def _power(build: _Builder, base: int, tokens: Sequence[Token]) -> int:
    """base^n by repeated squaring, from the lowest bit of n; base^-n is 1/base^n, base^0 is 1."""
    at = tokens[-1]
    if not at.isdigit():
        raise build.fail("E205", f"the exponent {at[:40]} is not an integer constant", at,
                         help="multiply x with itself, or write exp(y*log(x))")
    if len(at) > 10 or int(at) > MAX_EXPONENT:
        raise build.fail("E205", f"the exponent is larger than {MAX_EXPONENT}", at)
    n = int(at)
    if n == 0:
        return build.const(1.0, at)
    result: int | None = None
    square = base
    while True:
        if n & 1:
            result = square if result is None else build.add("mul", (result, square), at)
        n >>= 1
        if n == 0:
            break
        square = build.add("mul", (square, square), at)
    assert result is not None
    if tokens[0] == "-":
        return build.add("div", (build.const(1.0, at), result), at)
    return result


def _call(build: _Builder, name: Token, arguments: Sequence[int]) -> int:
    if name in ("min", "max"):
        if len(arguments) < 2:
            raise build.fail("E202", f"{name} takes two or more arguments", name)
        total = arguments[0]
        for argument in arguments[1:]:
            total = _extreme(build, name, total, argument)
        return total
    if name not in _functions():
        raise _unknown(build, name, "function")
    if len(arguments) != 1:
        raise build.fail("E202", f"{name} takes one argument, not {len(arguments)}", name)
    if name in _primitives():
        return build.add(str(name), arguments, name)
    # The body of a named activation, in place: its nodes renumbered, its x the argument.
    numbers: list[int] = []
    for node in _body(str(name)).nodes:
        if node.op == "x":
            numbers.append(arguments[0])
        else:
            args = [numbers[a] for a in node.args]
            numbers.append(build.add(node.op, args, name, node.value))
    return numbers[-1]


def _extreme(build: _Builder, name: Token, a: int, b: int) -> int:
    """The opcodes `b if b > a else a` pass a NaN in a on and lose one in b."""
    chosen = build.add(str(name), (a, b), name)
    if build.known[b] is not None or (b == build.x and build.spreads[a]):
        return chosen
    lost = build.add("une", (b, b), name)
    return build.add("select", (lost, b, chosen), name)


def _unknown(build: _Builder, token: Token, kind: str) -> NccError:
    if token in ("nan", "inf", "NaN", "infinity"):
        return build.fail("E204", f"{token} is no number of an expression", token)
    names = ", ".join((*_functions(), "min", "max"))
    text = "the only variable is x" if kind == "variable" else f"functions are {names}"
    return build.fail("E201", f"unknown {kind} {token[:40]}", token, help=text)


@cache
def _primitives() -> tuple[str, ...]:
    return (*(o.name for o in OPCODES.values() if o.math), "abs")


@cache
def _functions() -> tuple[str, ...]:
    named = tuple(a.name for a in ACTIVATIONS)
    return named + tuple(name for name in _primitives() if name not in named)


@cache
def _body(name: str) -> Expr:
    formula = next(a.formula for a in ACTIVATIONS if a.name == name)
    return parse(Source(f"<{name}>", formula), formula)
