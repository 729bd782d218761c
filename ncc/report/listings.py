"""Texts of a net at every level, line by line, with the neuron that each line computes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ncc.ir.graph import Graph
from ncc.ir.ssa import UNLINKED
from ncc.ir.ssa_types import linked
from ncc.ir.syntax import AdjacencyList, EdgeList, Matrix, Syntax


@dataclass(frozen=True)
class Listing:
    """One text.

    name      of the level and, behind a point, of the pass that made it: `graph.merge`, `llvm`
    title     the same for people, with the passes behind it that changed nothing
    text      its lines, without a newline behind the last one
    neurons   for each line the neuron that it computes, UNLINKED (-1) where none or several
    """

    name: str
    title: str
    text: str
    neurons: tuple[int, ...]


class Lines(NamedTuple):
    """Lines of a text, and the neuron of each."""

    lines: list[str]
    neurons: list[int]

    def commented(self, comment: str) -> str:
        """The text, with the neurons as comments that begin so."""
        return "\n".join([linked(line, neuron, comment) if line else line
                          for line, neuron in zip(self.lines, self.neurons, strict=True)])

    def listing(self, name: str, title: str) -> Listing:
        lines, neurons = self.lines, self.neurons
        while lines and not lines[-1]:
            lines, neurons = lines[:-1], neurons[:-1]
        return Listing(name, title, "\n".join(lines), tuple(neurons))


def of_syntax(syntax: Syntax) -> Lines:
    """A line of `.nal` is of its neuron, a row of `.nam` too; an edge of `.nel` of its target."""
    lines = str(syntax).split("\n")
    if isinstance(syntax, Matrix):
        return Lines(lines, [k if k < syntax.size else UNLINKED for k in range(len(lines))])
    if isinstance(syntax, EdgeList):
        return _matched(lines, r"(?:bias +|agg +|~?[0-9a-f]+ +)([0-9a-f]+)\b")
    assert isinstance(syntax, AdjacencyList)
    return _matched(lines, r"([0-9a-f]+)(?: |$)")


def of_graph(graph: Graph) -> Lines:
    """The last lines are those of the neurons, in their order."""
    lines = str(graph).removesuffix("\n").split("\n")
    n = graph.n_neurons
    return Lines(lines, [UNLINKED] * (len(lines) - n) + list(range(n)))


def of_plan(text: str) -> Lines:
    """The rows of runs, the inputs, and the neurons of the graph below."""
    return _matched(text.split("\n"), r" +([0-9a-f]+)  ?(?:<-|single|batch|back|each)"
                                      r"|([0-9a-f]+) @[0-9]")


def _matched(lines: Sequence[str], pattern: str) -> Lines:
    found = [re.match(pattern, line) for line in lines]
    return Lines(list(lines), [int(m[m.lastindex or 0], 16) if m else UNLINKED for m in found])


def of_comments(text: str) -> Lines:
    """A text whose lines end with their neurons as comments, as ssa and C have them."""
    lines, neurons = [], []
    for line in text.split("\n"):
        match = re.search(r" +// n([0-9a-f]{2,})$", line)
        lines.append(line if match is None else line[: match.start()])
        neurons.append(UNLINKED if match is None else int(match[1], 16))
    return Lines(lines, neurons)


# ---- LLVM text and assembly

_LOCATION = re.compile(r"(!\d+) = !DILocation\(line: (\d+), ")
_NODE = re.compile(r"![1-9]\d* = |!llvm\.(?:dbg\.cu|module\.flags) = ")
_SAID = re.compile(r",? !dbg (!\d+)(?=$| \{$)")
_IN_ASSEMBLY = re.compile(r' # n([0-9a-f]{2,})(?=\\0A|"|$)')


def of_llvm(text: str) -> Lines:
    """LLVM text with debug locations (ncc/passes/emit/links.py), without them, and the neurons that
    they say: the text that it were if nobody had asked for neurons."""
    places = {m[1]: int(m[2]) - 1 for m in _LOCATION.finditer(text)}
    lines, neurons = [], []
    for line in text.split("\n"):
        if _NODE.match(line):
            continue
        said = _SAID.search(line)
        lines.append(_IN_ASSEMBLY.sub("", _SAID.sub("", line, 1)))
        neurons.append(places.get(said[1], UNLINKED) if said is not None else UNLINKED)
    return Lines(lines, neurons)


def spread(text: str, made: Lines) -> Lines:
    """`of_llvm(text)` for reading: a function that is assembly line by line."""
    whole = {k: line for k, line in enumerate(
        [line for line in text.split("\n") if not _NODE.match(line)])
        if line.lstrip().startswith("call void asm sideeffect")}
    lines, neurons = [], []
    for k, (line, neuron) in enumerate(zip(*made, strict=True)):
        for part in whole[k].split("\\0A") if k in whole else [line]:
            said = _IN_ASSEMBLY.search(part)
            lines.append(("    " if k in whole and not part.startswith(" ") else "")
                         + _IN_ASSEMBLY.sub("", part))
            neurons.append(int(said[1], 16) if said is not None else neuron)
    return Lines(lines, neurons)


_LOC = re.compile(r"\t(?:\.loc\t\d+|\.cv_loc\t\d+ \d+) (\d+)")
_LOCAL = re.compile(r"\.?L[A-Za-z_]+\d")
_SAID_BY_ASSEMBLY = re.compile(r"\t?# n([0-9a-f]{2,})$")


def _instructions(lines: Iterable[str]) -> Iterator[tuple[int, str, str, int]]:
    """The instructions of an assembly text: number of the line, function, text, neuron."""
    function, neuron = "", UNLINKED
    for k, line in enumerate(lines):
        if line[:1] != "\t":
            if line and not _LOCAL.match(line) and ":" in line:
                function, neuron = line.partition(":")[0], UNLINKED
        elif line[1:2] == ".":
            loc = _LOC.match(line)
            if loc is not None:
                neuron = int(loc[1]) - 1
        elif line[1:2] != "#":  # APP, NO_APP
            said = _SAID_BY_ASSEMBLY.search(line)
            text = line if said is None else line[: said.start()]
            yield (k, function, re.sub(r"L(tmp)\d+", r"L\1", text),
                   neuron if said is None else int(said[1], 16))


def of_assembly(plain: str, located: str) -> Lines:
    """Assembly, and the neurons that the same assembly has whose directives say them. Between
    directives the machine may order instructions of a function otherwise: the first of equal ones
    is the first of them in both. What has none, as LLVM moved it elsewhere, has that of the first
    reader."""
    said: dict[tuple[str, str], list[int]] = {}
    for _, function, text, neuron in _instructions(located.split("\n")):
        said.setdefault((function, text), []).append(neuron)
    for found in said.values():
        found.reverse()
    lines = plain.split("\n")
    neurons = [UNLINKED] * len(lines)
    for k, function, text, _ in _instructions(lines):
        rest = said.get((function, text))
        if rest:
            neurons[k] = rest.pop()
    _by_readers(lines, neurons)
    return Lines(lines, neurons)


# Where values are: vector registers, whatever their width, and places on the stack.
_VALUES = re.compile(r"%[xyz]mm(?P<x86>\d+)|(?P<stack>-?\d*\(%rsp\)|\[sp[^]]*\])"
                     r"|\b[bhsdqv](?P<arm>\d+)\b")
_NO_RESULT = re.compile(r"v?u?comis|fcmp|cmp|test")
_STORE = re.compile(r"st[rpu]")  # of a machine whose results stand first


def _by_readers(lines: Sequence[str], neurons: list[int]) -> None:
    """Give each instruction that makes a value and has no neuron that of the next one that reads
    the value, from the last to the first."""
    readers: dict[str, int] = {}
    function = None
    for k, here, text, _ in reversed(list(_instructions(lines))):
        if here != function:
            readers, function = {}, here
        word, _, operands = text.strip().partition("\t")
        found = list(_VALUES.finditer(operands))
        values = [next(f"{kind}{v}" for kind, v in m.groupdict().items() if v) for m in found]
        # x86's results stand last, and so do the places that others store to.
        last = "%" in operands or _STORE.match(word) is not None
        result = None
        if found and not _NO_RESULT.match(word) and (
                found[-1].end() == len(operands) if last else found[0].start() == 0):
            result = values.pop(-1 if last else 0)
        if neurons[k] == UNLINKED and result is not None:
            neurons[k] = readers.get(result, UNLINKED)
        if result is not None and not word.startswith(("vfm", "vfnm", "fml")):  # which add to it
            readers.pop(result, None)
        if neurons[k] != UNLINKED:
            readers |= dict.fromkeys(values, neurons[k])


def instructions(plain: str) -> list[int]:
    """Which lines of an assembly text are instructions."""
    return [k for k, _, _, _ in _instructions(plain.split("\n"))]
