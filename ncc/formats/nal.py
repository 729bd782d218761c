"""Tokens of a .nal file to its syntax."""

from __future__ import annotations

import re
from typing import Final

import numpy as np

from ncc.errors import Source
from ncc.formats.fields import (
    COMMENT,
    PAIR,
    Column,
    ParameterColumns,
    decimals,
    hex_list,
    hexes,
    int_column,
    no_parameters,
    nowhere,
    octets_of,
    parameters_of,
    pieces,
    places_of,
    scatter,
    undelayed,
)
from ncc.formats.head import count_of, directives_of, finite, functions_of, of_kind, out_of
from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS
from ncc.ir.syntax import AdjacencyList
from ncc.parsing import Token

# The look behind keeps a long run of blanks from being tried at each of them.
_COMMA: Final = re.compile(r"(?<![ \t])[ \t]*+,[ \t]*+")
_AGGREGATIONS: Final = {name: code for code, name in enumerate(AGGREGATIONS)}
_ITEM_WEIGHT: Final = re.compile(r"[:@][^,]*")


class _Neurons:
    """The lines of NEURONS tokens, as arrays, a piece a token."""

    def __init__(self, source: Source) -> None:
        self.source = source
        # Every line but the last has an end, every edge but a line's last a comma.
        lines = source.text.count("\n")
        edges = lines + source.text.count(",") + source.text.count("*")
        self.words: dict[str, int] = {}
        self.ties: dict[str, int] = {}
        self.indices = int_column(lines)
        self.lines: list[int] = []
        self.activations: list[int] = []
        self.aggregations: list[int] = []
        self.counts: list[int] = []
        self.sources = int_column(edges)
        self.delayed = Column(edges, np.False_)
        self.paired = Column(edges, np.False_)
        self.weights = ParameterColumns(edges)
        self.biased: list[bool] = []
        self.biases = ParameterColumns(lines)

    def add(self, token: Token) -> None:
        line = token.line or 1
        for text in pieces(self.source.text, "\n", token.start_pos or 0, token.end_pos):
            self._lines(text, line)
            line += text.count("\n") + 1

    def _lines(self, text: str, number: int) -> None:
        """The lines of `text`, of which the first one is line `number` of the file."""
        if "%" in text or "#" in text:
            text = COMMENT.sub("", text)
        if " ," in text or ", " in text or "\t" in text:
            text = _COMMA.sub(",", text)
        words = self.words
        indices: list[str] = []
        lists: list[str] = []
        biases: list[str] = []
        first = len(self.biased)
        for line, content in enumerate(text.split("\n"), number):
            fields = content.split()
            if not fields:
                continue
            indices.append(fields[0])
            self.lines.append(line)
            bias = aggregation = ""
            edges = ""
            if len(fields) > 2:
                edges = fields[2]
                if len(fields) > 3 or edges[0] in "+smd":
                    edges = ""
                    for field in fields[2:]:
                        # An in-list starts with a hex digit or ~.
                        if field[0] == "+":
                            bias = field
                        elif field[0] in "smd" and field in _AGGREGATIONS:
                            aggregation = field
                        else:
                            edges = field
            self.activations.append(
                words.setdefault(fields[1], len(words)) if len(fields) > 1 else -1)
            self.aggregations.append(_AGGREGATIONS[aggregation] if aggregation else -1)
            self.counts.append(edges.count(",") + edges.count("*") + 1 if edges else 0)
            if edges:
                lists.append(edges)
            self.biased.append(bool(bias))
            if bias:
                biases.append(bias[1:])
        self.indices.add(hex_list(",".join(indices)))
        for piece in pieces(",".join(lists), ","):
            self._edges(piece)
        where = np.array(self.biased[first:], np.bool_)
        self.biases.add(scatter(parameters_of(biases, self.ties), where) if biases
                        else no_parameters(len(where)))

    def _edges(self, text: str) -> None:
        text = self._pairs(text)
        if ":" not in text and "@" not in text and "~" not in text:
            sources = hex_list(text)
            self.sources.add(sources)
            self.delayed.add(nowhere(len(sources)))
            self.weights.add(no_parameters(len(sources)))
            return
        octets = octets_of(text)
        commas = np.flatnonzero(octets == ord(","))
        begins, ends = np.append(0, commas + 1), np.append(commas, len(octets))
        delayed = nowhere(len(begins))
        if "~" in text:
            begins, delayed = undelayed(octets, begins)
        self.delayed.add(delayed)
        if "@" not in text and "=" not in text:
            stops = places_of(octets, ":", begins, ends)
            self.sources.add(hexes(octets, begins, stops))
            weighted = stops < ends
            if weighted.all():
                self.weights.add(decimals(octets, stops + 1, ends))
            else:
                some = decimals(octets, stops[weighted] + 1, ends[weighted])
                self.weights.add(scatter(some, weighted))
            return
        # An index ends at the first `:` or `@` of its item, if there is one.
        marks = np.append(np.flatnonzero((octets == ord(":")) | (octets == ord("@"))), len(octets))
        stops = np.minimum(marks[np.searchsorted(marks, begins)], ends)
        texts = [t.lstrip(":") for t in _ITEM_WEIGHT.findall(text)]
        self.sources.add(hexes(octets, begins, stops))
        self.weights.add(scatter(parameters_of(texts, self.ties), stops < ends))


    def _pairs(self, text: str) -> str:
        """The items of in-lists with two for each pair: 00*01:0.5 is 00:0.5,01:=1. Which items are
        the first of one is noted."""
        if "*" not in text:
            self.paired.add(nowhere(text.count(",") + bool(text)))
            return text
        octets = octets_of(text)
        commas, stars = np.flatnonzero(octets == ord(",")), np.flatnonzero(octets == ord("*"))
        paired = np.zeros(len(commas) + 1 + len(stars), np.bool_)
        paired[np.searchsorted(commas, stars) + np.arange(len(stars))] = True
        self.paired.add(paired)
        return PAIR.sub(r"\1\3,\2:=1", text)


def adjacency_list(source: Source, tokens: list[Token]) -> AdjacencyList:
    neurons = _Neurons(source)
    for token in of_kind(tokens, "NEURONS"):
        neurons.add(token)
    starts = csr.starts(np.array(neurons.counts, np.int64))
    syntax = AdjacencyList(
        source=source,
        count=count_of(tokens[0]),
        functions=functions_of(of_kind(tokens, "FUNCTION")),
        out=out_of(source, of_kind(tokens, "OUT")),
        directives=directives_of(source, tokens),
        words=tuple(neurons.words),
        ties=tuple(neurons.ties),
        indices=neurons.indices.whole(),
        lines=np.array(neurons.lines, np.int32),
        activations=np.array(neurons.activations, np.int32),
        aggregations=np.array(neurons.aggregations, np.int8),
        starts=starts,
        sources=neurons.sources.whole(),
        delayed=neurons.delayed.whole(),
        paired=neurons.paired.whole(),
        weights=neurons.weights.whole(),
        biased=np.array(neurons.biased, np.bool_),
        biases=neurons.biases.whole(),
    )
    finite(source, syntax.weights, syntax.edge_span)
    finite(source, syntax.biases, lambda s: syntax.part_span(s, "bias"))
    return syntax
