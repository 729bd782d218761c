"""What is wrong with a line that no grammar takes, in words of its format.

A text outside its grammar is looked at once more, line by hand: only when there is an error.
"""

from __future__ import annotations

import re
from typing import Final

from ncc.errors import NccError, Source, Span, near
from ncc.formats.fields import COMMENTS
from ncc.formats.head import malformed_label
from ncc.ir.graph import AGGREGATIONS, NUMERICS
from ncc.ir.labels import label_of
from ncc.ir.ssa import DTYPES
from ncc.ir.syntax import uncommented
from ncc.parsing import NUMBER

_HEX: Final = re.compile(r"[0-9a-fA-F]+")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD: Final = re.compile(r"[A-Za-z0-9_]+")
_ENDLESS: Final = re.compile(r"[+-]?(?:nan(?:\(\w*\))?|inf(?:inity)?)", re.IGNORECASE)
SKIPPED: Final = re.compile(r"(?:[ \t]*+(?:[%#][^\n]*+)?+\n)*+")
HEAD_WORDS: Final = ("fn", "out", "label", "numerics", "dtype")
_PAIRED_FIRST: Final = re.compile(r"~?[0-9a-fA-F]+\*")
_PAIRED: Final = re.compile(_PAIRED_FIRST.pattern + r"~?[0-9a-fA-F]+")
_BLANKS: Final = re.compile(r"[ \t]*")
_INK: Final = re.compile(r"[^ \t]*")
_ITEM: Final = re.compile(r"[^\s,]*")


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


class _Line:
    """A line and how far it has been read."""

    def __init__(self, source: Source, number: int) -> None:
        self.source = source
        self.number = number
        self.text = uncommented(source.line(number)).rstrip(" \t")
        self.at = 0
        self.blanks()

    def blanks(self) -> None:
        # Never by slices: a line of a million items would be copied a million times.
        self.at = _end(_BLANKS, self.text, self.at)

    @property
    def rest(self) -> str:
        return self.text[self.at :]

    def word(self) -> str:
        """The characters up to the next blank."""
        return self.text[self.at : _end(_INK, self.text, self.at)]

    def take(self, count: int) -> None:
        self.at += count
        self.blanks()

    def fault(self, code: str, message: str, *, skip: int = 0, length: int = 1, note: str = "",
              help: str = "") -> NccError:
        span = Span(self.number, self.at + skip + 1, max(1, length))
        return NccError(code, message, self.source, span, note=note, help=help)

    def hex(self, what: str, help: str = "", *, delayed: bool = False) -> NccError | None:
        """Take a hex index, or say what stands in its place; a `~` before it may be `delayed`."""
        if delayed and self.text.startswith("~", self.at):
            self.at += 1
        word = self.word()
        if not word:
            return self.fault("E001", f"{what} is missing", help=help)
        if not _HEX.fullmatch(word):
            good = _HEX.match(word)
            skip = good.end() if good else 0
            return self.fault("E106", f"{_short(word)} is no hexadecimal index", skip=skip,
                              length=len(word) - skip,
                              help=help or f"{what} is written in the digits 0-9 a-f, without 0x")
        self.take(len(word))
        return None

    def edge_source(self, help: str) -> NccError | None:
        """Take the source of an edge, or the pair that stands for it, or say what is wrong."""
        word = self.word()
        if "*" not in word:
            return self.hex("the source", help, delayed=True)
        match = _PAIRED.match(word)
        if match is None or match.end() < len(word):
            return self.pair(word, match)
        self.take(len(word))
        return None

    def pair(self, item: str, match: re.Match[str] | None) -> NccError:
        """What is wrong with a pair of sources, of which `match` is as much as is well-formed."""
        stop = match.end() if match else 0
        help = "a pair is two indices and a `*`, without blanks: 00*01:0.5"
        if match is not None and item[stop : stop + 1] == "*":
            return self.fault("E139", "more than two sources in a product", skip=stop,
                              length=len(item) - stop, help="a product of more is a neuron of its "
                              "own: 04 identity mul 00:=1,01:=1,02:=1")
        if match is not None:
            return self.fault("E139", f"{_short(item[stop:])} after a pair of sources", skip=stop,
                              length=len(item) - stop, help=help)
        star = item.index("*")
        weight = _HEX.match(item.removeprefix("~"))
        if weight is not None and re.search("[:@]", item[:star]):
            return self.fault("E139", "a weight within a pair of sources", length=len(item),
                              help="it follows the pair: 00*01:0.5")
        which = "second" if _PAIRED_FIRST.match(item) else "first"
        return self.fault("E139", f"the {which} source of a pair is missing, or is no hexadecimal "
                          "index", length=len(item), help=help)

    def aggregation(self, word: str) -> NccError | None:
        """Take the name of an aggregation, or say that there is none of this name."""
        if word not in AGGREGATIONS:
            return self.fault("E119", f"unknown aggregation {_short(word)}", length=len(word),
                              help=near(word, AGGREGATIONS))
        self.take(len(word))
        return None

    def parameter(self, text: str, skip: int, *, edge: bool) -> NccError | None:
        """Is `text`, at `skip` from here, a weight or bias? (`:` may come before in an in-list.)"""
        if edge and text[:1] == ":":
            text, skip = text[1:], skip + 1
            if text[:1] == "@":
                return self.fault("E109", "a tie follows its source directly", skip=skip,
                                  length=len(text), help="write 00@k0 or 00@k0:0.5")
        if text[:1] == "@":
            name, colon, number = text[1:].partition(":")
            if not _NAME.fullmatch(name):
                return self.fault("E109", f"{_short(name)} is no name of a tie", skip=skip + 1,
                                  length=len(name), help="a letter or _, then letters, digits, _")
            if not colon:
                return None
            text, skip = number, skip + 2 + len(name)
            if text[:1] == "=":
                return self.fault("E109", "a tied parameter cannot be a constant", skip=skip,
                                  length=len(text))
        elif text[:1] == "=":
            text, skip = text[1:], skip + 1
        if NUMBER.fullmatch(text):
            return None
        if _ENDLESS.fullmatch(text):
            return self.fault("E108", f"{text} is not a finite number", skip=skip,
                              length=len(text))
        what = f"{_short(text)} is no number" if text else "a number is missing"
        return self.fault("E107", what, skip=skip, length=len(text),
                          help="numbers are decimal floating point: 0.5, -1.25e-3, 0x1.8p3")

    def surplus(self) -> NccError:
        return self.fault("E001", f"unexpected {_short(self.rest)}", length=len(self.rest))


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def explain(source: Source, format: str, error: NccError) -> NccError:
    """The error that a reader of the format wants for `error`, which lark found."""
    number = error.line or 1
    last = source.text.count("\n")
    while number < last and not uncommented(source.line(number)).strip(" \t"):
        number += 1
    line = _Line(source, number)
    if format == "nam":
        return _explain_row(line) or error
    if SKIPPED.match(source.text, 0) and _first_line(source) == number:
        found = _explain_count(line)
    elif line.word() in ("N", "n"):
        found = line.fault("E105", "a second `N` line", length=1)
    elif line.word() == "label":
        found = malformed_label(source, number, str(label_of(source.line(number), COMMENTS)))
    elif line.word() in ("numerics", "dtype"):
        found = _explain_word(line)
    elif line.word() in ("fn", "out"):
        found = _explain_fn(line) if line.word() == "fn" else _explain_out(line)
    else:
        found = _explain_neuron(line) if format == "nal" else _explain_edge(line)
    return found or error


def _first_line(source: Source) -> int:
    match = SKIPPED.match(source.text)
    return source.text.count("\n", 0, match.end() if match else 0) + 1


def _explain_count(line: _Line) -> NccError | None:
    head = "a net starts with its neuron count: N 0e"
    if line.word() not in ("N", "n"):
        word = line.word()
        return line.fault("E104", f"`N` is missing before {_short(word)}", length=len(word),
                          help=head)
    line.take(1)
    return line.hex("the neuron count", head) or (line.surplus() if line.rest else None)


def _explain_fn(line: _Line) -> NccError | None:
    line.take(2)
    found = line.hex("the code of the function", "fn 20 1/(1+exp(-x))")
    if found is None and not line.rest:
        found = line.fault("E135", "the expression is missing", help="fn 20 1/(1+exp(-x))")
    return found


def _explain_out(line: _Line) -> NccError | None:
    line.take(3)
    if not line.rest:
        return line.fault("E001", "an output is missing", help="out 0c,0d")
    return _explain_items(line, weights=False) or (line.surplus() if line.rest else None)


def _explain_items(line: _Line, *, weights: bool) -> NccError | None:
    """The items between commas, up to the first that nothing follows."""
    while True:
        item = line.text[line.at : _end(_ITEM, line.text, line.at)]
        if weights and "*" in item:
            good = _PAIRED.match(item)
            if good is None or item[good.end() :][:1] not in ("", ":", "@"):
                return line.pair(item, good)
        else:
            if weights and item.startswith("~"):
                line.at, item = line.at + 1, item[1:]
            good = _HEX.match(item)
        if not item:
            return line.fault("E001", "an index is missing")
        stop = good.end() if good else 0
        if stop == 0 or (stop < len(item) and not (weights and item[stop] in ":@")):
            return line.fault("E106", f"{_short(item)} is no hexadecimal index", skip=stop,
                              length=len(item) - stop,
                              help="indices are written in the digits 0-9 a-f, without 0x")
        if stop < len(item):
            found = line.parameter(item[stop:], stop, edge=True)
            if found:
                return found
        line.take(len(item))
        if weights and line.text.startswith("*", line.at):
            return line.pair(line.word(), None)
        if not line.text.startswith(",", line.at):
            return None
        line.take(1)


def _explain_word(line: _Line) -> NccError | None:
    what = line.word()
    line.take(len(what))
    known = NUMERICS if what == "numerics" else tuple(DTYPES)
    word = line.word()
    if not word:
        return line.fault("E153", f"`{what}` says nothing", help=f"{what} {known[0]}")
    if word not in known:
        return line.fault("E153", f"no {what} {_short(word)}", length=len(word),
                          help=near(word, known))
    line.take(len(word))
    return line.surplus() if line.rest else None


def _explain_neuron(line: _Line) -> NccError | None:
    word = line.word()
    meant = near(word, HEAD_WORDS) if _NAME.fullmatch(word) and not _HEX.match(word) else ""
    if meant.startswith("did you"):
        return line.fault("E106", f"{_short(word)} is no hexadecimal index", length=len(word),
                          help=meant)
    found = line.hex("the neuron's index", "a line is: index activation in-list, as 04 03 00,01")
    if found:
        return found
    word = line.word()
    if word[:1] in ("+", "-"):
        return line.fault("E120", "a bias without an activation", length=len(word),
                          help="the activation comes first: 04 03 00,01 +0.5")
    if not _WORD.fullmatch(word):
        if re.match("~|[0-9a-fA-F]+[,:@*]", word):
            return line.fault("E120", "an in-list without an activation", length=len(word),
                              help="the activation comes first: 04 03 00,01")
        return line.surplus()
    before = line.at
    line.take(len(word))
    if line.rest.startswith(","):
        line.at = before
        return line.fault("E120", "an in-list without an activation", length=len(word),
                          help="the activation comes first: 04 03 00,01")
    word = line.word()
    if _NAME.fullmatch(word) and not _HEX.fullmatch(word):
        found = line.aggregation(word)
        if found:
            return found
    if line.rest and line.rest[0] not in "+-":
        found = _explain_items(line, weights=True)
        if found:
            return found
    return _explain_bias(line) or (line.surplus() if line.rest else None)


def _explain_bias(line: _Line) -> NccError | None:
    word = line.word()
    if word[:1] == "-":
        return line.fault("E107", "a bias starts with `+`", length=len(word),
                          help=f"write +{word[:40]}")
    if word[:1] == "+":
        found = line.parameter(word[1:], 1, edge=False) if len(word) > 1 else None
        if found:
            return found
        line.take(len(word))
    return None


def _explain_edge(line: _Line) -> NccError | None:
    word = line.word()
    if _NAME.fullmatch(word) and not _HEX.fullmatch(word):
        if word == "act":
            return _explain_act(line)
        if word in ("bias", "agg"):
            return _explain_said(line, word)
        return line.fault("E106", f"{_short(word)} is no hexadecimal index", length=len(word),
                          help=near(word, ("act", "agg", "bias", *HEAD_WORDS)))
    help = "an edge is: source target weight, as 00 04 0.5"
    found = line.edge_source(help) or line.hex("the target", help)
    if found or not line.rest:
        return found
    word = line.word()
    found = line.parameter(word, 0, edge=False)
    line.take(len(word))
    return found or (line.surplus() if line.rest else None)


def _explain_act(line: _Line) -> NccError | None:
    line.take(3)
    if not line.rest:
        return line.fault("E001", "the activation is missing", help="act 04-0d relu")
    word = line.word()
    if len(word) < len(line.rest):
        for part in word.split("-", 1):
            if not _HEX.fullmatch(part):
                return line.fault("E106", f"{_short(part)} is no hexadecimal index",
                                  length=len(word), help="act 04 03 or act 04-0d 03")
        line.take(len(word))
        word = line.word()
    if not _WORD.fullmatch(word):
        return line.surplus()
    line.take(len(word))
    return line.surplus() if line.rest else None


def _explain_said(line: _Line, what: str) -> NccError | None:
    line.take(len(what))
    example = "bias 04 +0.1" if what == "bias" else "agg 09 mul"
    found = line.hex("the neuron's index", example)
    if found:
        return found
    word = line.word()
    if not word:
        return line.fault("E001", f"{what} says nothing of the neuron", help=example)
    if what == "agg":
        found = line.aggregation(word)
        if found:
            return found
    elif word[:1] not in ("+", "-"):
        return line.fault("E107", "a bias starts with `+`", length=len(word),
                          help=f"write +{word[:40]}")
    return _explain_bias(line) or (line.surplus() if line.rest else None)


def _explain_row(line: _Line) -> NccError | None:
    label = re.compile(r"[A-Za-z0-9_]*\|[ \t]*|[A-Za-z](?=[ \t]*[01])[ \t]*").match(line.text,
                                                                                   line.at)
    if label:
        line.at = label.end()
    good = re.compile(r"[01]*").match(line.text, line.at)
    skip = len(good[0]) if good else 0
    shown = line.rest[skip : skip + 1]
    what = f"{shown!r} in a row of 0 and 1" if shown else "a row without digits"
    return line.fault("E134", what, skip=skip, help="a row is N digits 0 or 1, after its label")
