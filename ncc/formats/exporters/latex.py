"""A net as a LaTeX document: an equation a neuron, and the functions that are not LaTeX's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from ncc.formats.write import in_lists, names_of
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, NONE, Graph
from ncc.scalar.activations import name_of
from ncc.scalar.aggregations import FROM_BIAS, edges_a_term
from ncc.scalar.expressions import Expr, expression

HEAD = r"""\documentclass{article}
\usepackage{amsmath}
\allowdisplaybreaks
\begin{document}
\begin{align*}
"""
TAIL = r"""
\end{align*}
\end{document}
"""
OWN: Final = {"tanh": r"\tanh", "sin": r"\sin", "cos": r"\cos", "exp": r"\exp", "log": r"\ln",
              "atan": r"\arctan"}
# What the opcodes are that LaTeX has no word for.
MEANT: Final = {
    "sigmoid": r"\frac{1}{1 + \exp\bigl(-x\bigr)}",
    "softplus": r"\ln\bigl(1 + \exp\bigl(x\bigr)\bigr)",
    "relu": r"\max\bigl(x, 0\bigr)", "step": r"\begin{cases} 1 & x > 0 \\ 0 & x \le 0 \end{cases}",
    "expm1": r"\exp\bigl(x\bigr) - 1", "log1p": r"\ln\bigl(1 + x\bigr)",
    "erf": r"\frac{2}{\sqrt{\pi}} \int_0^x \exp\bigl(-t^2\bigr) \, dt",
}
WORDS: Final = {"max": r"\max", "min": r"\min", "maximum": r"\max", "minimum": r"\min"}
SUM, PRODUCT, SIGN, ATOM = range(4)  # how tightly a formula binds
TERMS = 4  # of a sum, on a line
LONGEST = 80  # characters of what is written out more than once


class Formula(NamedTuple):
    """LaTeX's spelling of a value."""

    text: str
    rank: int = ATOM

    def within(self, rank: int) -> str:
        return self.text if self.rank >= rank else rf"\bigl({self.text}\bigr)"


class LatexText:
    """An emitter (ncc/scalar/emitter.py) whose values are formulas; `used` collects the opcodes
    that MEANT explains. Where a minimum or maximum looks for a NaN, that is left out."""

    fused = False

    def __init__(self, used: set[str]) -> None:
        self.used = used

    def const(self, value: float) -> Formula:
        return Formula(number(value), SIGN if value < 0 else ATOM)

    def op(self, name: str, *values: Formula) -> Formula:
        if name in ("add", "sub"):
            sign = "+" if name == "add" else "-"
            return Formula(f"{values[0].within(SUM)} {sign} {values[1].within(PRODUCT)}", SUM)
        if name == "mul":
            a, b = values
            if a == b:
                return Formula(f"{{{a.within(ATOM)}}}^2", PRODUCT)
            return Formula(rf"{a.within(PRODUCT)} \cdot {b.within(ATOM)}", PRODUCT)
        if name == "div":
            return Formula(rf"\frac{{{values[0].text}}}{{{values[1].text}}}")
        if name == "neg":
            return Formula(f"-{values[0].within(ATOM)}", SIGN)
        if name == "abs":
            return Formula(rf"\lvert {values[0].text} \rvert")
        if name == "sqrt":
            return Formula(rf"\sqrt{{{values[0].text}}}")
        if name == "une":
            return Formula("")
        if name == "select":  # of a NaN, its own second value
            return values[2]
        return self.call(name, *values)

    def call(self, name: str, *values: Formula) -> Formula:
        arguments = ", ".join(v.text for v in values)
        return Formula(rf"{self.word(name)}\bigl({arguments}\bigr)")

    def word(self, name: str) -> str:
        if name in ("max", "min"):
            return f"\\{name}"
        if name in MEANT:
            self.used.add(name)
        return OWN.get(name) or rf"\operatorname{{{escaped(name)}}}"


def number(value: float) -> str:
    """0.5, or 1.5 \\cdot 10^{-7}."""
    text = repr(value)
    text = text.removesuffix(".0")
    return re.sub(r"^(-?)(.*)e([+-])0*([0-9]+)$",
                  lambda m: rf"{m[1]}{m[2]} \cdot 10^{{{m[3].strip('+')}{m[4]}}}", text)


def escaped(word: str) -> str:
    """A name, which has letters, digits and `_`."""
    return word.replace("_", r"\_")


def latex(graph: Graph, lossy: bool = False) -> bytes:
    """The document. A parameter is its value; one without is a symbol, its tie's name, w_{00,02}
    or b_{02}."""
    used: set[str] = set()
    names = [_neuron(name) for name in names_of(graph)]
    lines = [rf"{names[j]} &= x_{{{k}}}"
             for k, j in enumerate(graph.inputs[: graph.n_inputs].tolist())]
    lines += _neurons(graph, names, used)
    lines += [rf"y_{{{k}}} &= {names[j]}" for k, j in enumerate(graph.outputs.tolist())]
    lines += _functions(graph, used)
    return (HEAD + " \\\\\n".join(lines) + TAIL).encode()


def _neuron(name: str) -> str:
    """n_{00}; of a state neuron, which is another's value in the call before, n_{00}^{t-1}."""
    late = "^{(t-1)}" if name[0] == "~" else ""
    return rf"n_{{\mathrm{{{name.lstrip('~')}}}}}{late}"


def _functions(graph: Graph, used: set[str]) -> Iterator[str]:
    """The activations that are formulas of others, then these."""
    e = LatexText(used)
    for code in np.unique(graph.activations[graph.activations > 0]).tolist():
        lines, formula = _function(expression(code, graph.functions), e, _name(code))
        if formula != e.op(_name(code), Formula("x")) and _name(code) not in OWN:
            yield from lines
            yield rf"{_word(code)}\bigl(x\bigr) &= {formula.text}"
    for name, text in MEANT.items():
        if name in used:
            yield rf"\operatorname{{{name}}}\bigl(x\bigr) &= {text}"


def _function(expr: Expr, e: LatexText, name: str) -> tuple[list[str], Formula]:
    """The formula of an activation. What is long and read more than once has a line before it."""
    readers = Counter(a for node in expr.nodes for a in node.args)
    lines: list[str] = []
    values: list[Formula] = []
    for k, node in enumerate(expr.nodes):
        if node.op == "x":
            value = Formula("x")
        elif node.op == "const":
            value = e.const(node.value)
        else:
            value = e.op(node.op, *[values[a] for a in node.args])
            if readers[k] > 1 and len(value.text) > LONGEST or len(value.text) > 8 * LONGEST:
                part = rf"u_{{\mathrm{{{escaped(name)}}},{len(lines) + 1}}}"
                lines.append(f"{part} &= {value.text}")
                value = Formula(part)
        values.append(value)
    return lines, values[-1]


def _name(code: int) -> str:
    return name_of(code) if code < 0x20 else f"f{code:02x}"


def _word(code: int) -> str:
    name = _name(code)
    return OWN.get(name) or rf"\operatorname{{{escaped(name)}}}"


def _neurons(graph: Graph, names: Sequence[str], used: set[str]) -> Iterator[str]:
    """An equation a neuron, in the order of evaluation."""
    assert graph.levels is not None
    indices = names_of(graph)
    lists = {j: (sources, weights) for j, sources, weights in in_lists(graph)}
    for j in np.argsort(graph.levels, kind="stable").tolist():
        code = int(graph.activations[j])
        if code in (INPUT, ABSENT):
            continue
        sources, weights = lists[j]
        size = edges_a_term(AGGREGATIONS[graph.aggregations[j]])
        terms = [_term(_parameter(graph, weights[k],
                                  rf"w_{{\mathrm{{{_index(indices[sources[k]])},{indices[j]}}}}}"),
                       r" \, ".join(names[i] for i in sources[k : k + size]))
                 for k in range(0, len(sources), size)]
        bias = None if graph.biases[j] == NONE else _parameter(
            graph, int(graph.biases[j]), rf"b_{{\mathrm{{{indices[j]}}}}}")
        total = _total(AGGREGATIONS[graph.aggregations[j]], terms, bias)
        name = _name(code)
        if name in MEANT:
            used.add(name)
        if code:
            total = rf"{_word(code)}\bigl({total}\bigr)"
        yield f"{names[j]} &= {total}"


def _index(name: str) -> str:
    return name.replace("~", r"\sim")


def _term(weight: str, name: str) -> str:
    return {"1": name, "-1": f"-{name}"}.get(weight, rf"{weight} \, {name}")


def _total(agg: str, terms: Sequence[str], bias: str | None) -> str:
    """What the activation is applied to."""
    if agg in FROM_BIAS:
        return _sum([*([] if bias is None else [bias]), *terms])
    if agg == "sumbias":
        return _sum([*terms, *([] if bias is None else [bias])])
    if agg == "mean":
        made = rf"\tfrac{{1}}{{{len(terms)}}} \bigl({_sum(terms)}\bigr)"
    elif agg == "mul":
        made = _broken([rf"\bigl({term}\bigr)" if term[0] == "-" else term for term in terms],
                       r" \cdot ")
    elif agg == "div":
        made = terms[0]
        if len(terms) > 1:
            under = _broken([rf"\bigl({term}\bigr)" if term[0] == "-" else term
                             for term in terms[1:]], r" \cdot ")
            made = rf"\bigl({made}\bigr) / \bigl({under}\bigr)"
    else:
        word = WORDS.get(agg) or rf"\operatorname{{{escaped(agg)}}}"
        made = rf"{word}\bigl({_broken(terms, ', ')}\bigr)"
    return made if bias is None else _sum([made, bias])


def _sum(terms: Sequence[str]) -> str:
    """Terms with their signs: a + b - c."""
    signed = [terms[0], *[f"- {t[1:]}" if t[0] == "-" else f"+ {t}" for t in terms[1:]]]
    return _broken(signed, " ")


def _broken(terms: Sequence[str], between: str) -> str:
    """Terms, TERMS a line."""
    lines = [between.join(terms[k : k + TERMS]) for k in range(0, len(terms), TERMS)]
    return (between.rstrip() + " \\\\\n&\\quad {} ").join(lines)


def _parameter(graph: Graph, code: int, symbol: str) -> str:
    if code < 0:
        return number(float(graph.constants[-1 - code]))
    value = float(graph.values[code])
    if value == value:
        return number(value)
    tie: Mapping[int, str] = graph.names
    return rf"\mathrm{{{escaped(tie[code])}}}" if code in tie else symbol
