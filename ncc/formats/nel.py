"""Tokens of a .nel file to its syntax."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncc.errors import Source, Span
from ncc.formats.fields import (
    COMMENT,
    Column,
    ParameterColumns,
    decimals,
    hex_index,
    hexes,
    int_column,
    no_parameters,
    nowhere,
    octets_of,
    parameters_of,
    places_of,
    scatter,
    undelayed,
    words_of,
)
from ncc.formats.head import count_of, directives_of, finite, functions_of, of_kind, out_of
from ncc.ir.graph import AGGREGATIONS, Longs
from ncc.ir.syntax import Act, Agg, Bias, EdgeList, Parameters
from ncc.parsing import Token, text_of


def edge_list(source: Source, tokens: list[Token]) -> EdgeList:
    ties: dict[str, int] = {}
    most = source.text.count("\n") + source.text.count("*")
    lines, sources, targets = int_column(most), int_column(most), int_column(most)
    delayed, paired = Column(most, np.False_), Column(most, np.False_)
    weights = ParameterColumns(most)
    acts: list[Act] = []
    biases: list[Bias] = []
    written: list[str] = []
    aggs: list[Agg] = []
    for token in tokens:
        if token.type == "EDGES":
            _edge_run(source, token, ties, lines, sources, delayed, paired, targets, weights)
        elif token.type == "ACT":
            acts.append(_act(words_of(token)))
        elif token.type == "BIAS_LINE":
            _, (index, span), (text, _) = words_of(token)
            biases.append(Bias(hex_index(index), span))
            written.append(text[1:])
        elif token.type == "AGG":
            _, (index, span), (name, _) = words_of(token)
            aggs.append(Agg(hex_index(index), AGGREGATIONS.index(name), span))
    syntax = EdgeList(
        source=source,
        count=count_of(tokens[0]),
        functions=functions_of(of_kind(tokens, "FUNCTION")),
        out=out_of(source, of_kind(tokens, "OUT")),
        directives=directives_of(source, tokens),
        acts=tuple(acts),
        bias=tuple(biases),
        aggs=tuple(aggs),
        biases=parameters_of(written, ties),
        ties=tuple(ties),
        lines=lines.whole(),
        sources=sources.whole(),
        delayed=delayed.whole(),
        paired=paired.whole(),
        targets=targets.whole(),
        weights=weights.whole(),
    )
    finite(source, syntax.weights, lambda e: syntax.edge_span(e, 2))
    finite(source, syntax.biases, lambda k: syntax.bias[k].span)
    return syntax


def _edge_run(source: Source, token: Token, ties: dict[str, int], lines: Column, sources: Column,
              delayed: Column, paired: Column, targets: Column, weights: ParameterColumns) -> None:
    text = text_of(token, source)
    if "%" in text or "#" in text:
        text = COMMENT.sub("", text)
    octets = octets_of(text)
    ink = octets > ord(" ")
    edges = np.diff(ink.astype(np.int8), prepend=np.int8(0), append=np.int8(0))
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    # The place of a word in its line: 0 for the source, 1 for the target, 2 for the weight.
    row = np.cumsum(octets == ord("\n"), dtype=np.int32)[begins]
    heads = np.flatnonzero(np.diff(row, prepend=np.int32(-1)))
    sizes = np.diff(np.append(heads, len(begins)))
    firsts, stops = begins[heads], ends[heads]
    # The edges of each line: one, or the two of a pair.
    pair = nowhere(len(heads))
    of = np.arange(len(heads))
    if "*" in text:
        stars = places_of(octets, "*", firsts, stops)
        pair = stars < stops
        of = np.repeat(of, 1 + pair)
        second = np.diff(of, prepend=-1) == 0
        firsts, stops = (np.where(second, stars[of] + 1, firsts[of]),
                         np.where(second, stops[of], stars[of]))
        paired.add(pair[of] & ~second)
    else:
        paired.add(pair)
    lines.add(row[heads][of] + np.int32(token.line or 1))
    marked = nowhere(len(of))
    if "~" in text:
        firsts, marked = undelayed(octets, firsts)
    sources.add(hexes(octets, firsts, stops))
    delayed.add(marked)
    targets.add(hexes(octets, begins[heads + 1], ends[heads + 1])[of])
    weighted = sizes == 3
    if not weighted.any() and not pair.any():
        weights.add(no_parameters(len(of)))
        return
    thirds = heads[weighted] + 2
    if pair.any() or "@" in text or "=" in text:
        texts = [text[b:e] for b, e in zip(begins[thirds].tolist(), ends[thirds].tolist(),
                                           strict=True)]
        some = parameters_of(texts, ties)
    else:
        some = decimals(octets, begins[thirds], ends[thirds])
    made = some if weighted.all() else scatter(some, weighted)
    weights.add(made if not pair.any() else _with_ones(made, of, second))


def _with_ones(parameters: Parameters, of: Longs, second: NDArray[np.bool_]) -> Parameters:
    """The parameters of lines as those of edges, which are `of` them: of a second one of a pair a
    constant 1."""
    return Parameters(np.where(second, -1, parameters.ties[of]).astype(np.int32),
                      np.where(second, 1.0, parameters.values[of]),
                      second | parameters.constant[of])


def _act(fields: list[tuple[str, Span]]) -> Act:
    word, word_span = fields[-1]
    if len(fields) == 2:
        return Act(None, None, word, word_span, word_span)
    text, span = fields[1]
    first, _, last = text.partition("-")
    return Act(hex_index(first), hex_index(last or first), word, span, word_span)
