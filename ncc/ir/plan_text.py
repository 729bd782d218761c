"""`.plan` texts back to plans: the inverse of `str(plan)`."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import numpy as np

from ncc.errors import NccError, Source, Span
from ncc.ir import csr, graph_text
from ncc.ir.graph import AGGREGATIONS, Graph
from ncc.ir.plan import FORMS, Plan, Run, Schedule, Segment, Wanted
from ncc.ir.plan_verify import faults
from ncc.parsing import Token, Tree, ended
from ncc.parsing import read as tree_of
from ncc.scalar import losses, optimizers

SCHEDULES: Final = ("single", "batch", "each", "backward", "backward_batch", "jacobian")
_SLOT: Final = r"(?:[ \t]++(?:single|batch|each)\[[0-9]{1,9}\])"
_INPUT: Final = re.compile(rf"(?P<neuron>[0-9a-fA-F]{{1,8}})(?P<slots>{_SLOT}*+)")
_ROW: Final = re.compile(
    r"(?P<neuron>[0-9a-fA-F]{1,8})[ \t]++<-[ \t]++"
    rf"(?P<sources>-|[0-9a-fA-F]{{1,8}}\b(?:[ \t]++[0-9a-fA-F]{{1,8}}\b)*+)(?P<slots>{_SLOT}*+)")
_SEGMENT: Final = re.compile(
    r"segment of (?P<fan_in>[0-9]{1,9}) edges a row(?:, tiles of (?P<rows>[0-9]{1,9}) rows)?+"
    r"(?:, (?P<side>[0-9]{1,9}) to an in-list)?+")
_TILE: Final = re.compile(r"tile of (?P<rows>[0-9]{1,9}) rows")
_WANTED: Final = re.compile(
    r"([a-z_]++)(?:\{(?:recompute=([0-9]{1,18}+)(?:,(?=l))?+)?+"
    r"(?:loss=([^{}\n]*?),optimizer=([^{}\n]*+))?+\})?+")
_FORM: Final = re.compile(r"([a-z_]++):[ \t]++([a-z]++),[ \t]++(?:([0-9]++)[ \t]++slots of work"
                          r"|unplaced)[ \t]++\(([^()\n]*+)\)")


def read(source: Source) -> Plan:
    """The plan that the text shows, verified: `str(read(Source(name, str(p)))) == str(p)`, and so
    are the objects.

    Raises NccError (status 1, with line and column): E001 outside the grammar, E313 a malformed
    line or value, E304 a rule of the level that is broken, and those of `.graph` texts.
    """
    source = ended(source)
    try:
        tree = tree_of("plan", source)
    except NccError as error:
        raise _explain(source, error) from None
    return _Reader(source).plan(tree)


def _explain(source: Source, error: NccError) -> NccError:
    """The same error, at the first character of the line that the grammar stopped in."""
    number = error.line or 1
    words = source.line(number).strip()
    if error.message == "the text ends too early" or not words:
        return error
    return NccError("E001", f"no line of a plan text: {words[:60]!r}", source,
                    _span(source, number), note="the lines are those of grammar/plan.lark")


def _span(source: Source, number: int) -> Span:
    """All of a line but the blanks around it."""
    line = source.line(number)
    words = line.strip()
    return Span(number, line.find(words) + 1, max(1, len(words)))


class _Rows(NamedTuple):
    """The lines of all runs, column by column."""

    rows: list[int]
    sources: list[list[int]]
    runs: list[Run]
    blocks: list[int]
    segments: list[Segment]


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        # Where each part stands, as `faults` name them: the field or the number, and its line.
        self.lines: dict[tuple[str, int], int] = {}
        self.slots: dict[str, dict[int, int]] = {"single": {}, "batch": {}, "each": {}}
        self.depths = np.zeros(0, np.int32)  # of the graph's neurons
        self.made = _Rows([], [], [], [0], [])

    def fault(self, line: int, message: str, word: str = "", code: str = "E313", help: str = ""
              ) -> NccError:
        """At the last `word` of the line, or all of it."""
        span, at = _span(self.source, line), self.source.line(line).rfind(word) if word else -1
        return NccError(code, message, self.source,
                        span if at < 0 else Span(line, at + 1, len(word)), help=help, status=1)

    def plan(self, tree: Tree[Token]) -> Plan:
        listed = [t for t in tree.children if isinstance(t, Token)]
        tokens = {t.type: t for t in listed}
        for name in ("PLAN", "FUNCTIONS", "PACKED", "WEIGHTS", "BIASES"):
            self.lines[name.lower(), 0] = _line(tokens[name])
        graph = self.graph(tokens["GRAPH"])
        if graph.levels is None:
            raise self.fault(_line(tokens["GRAPH"]), "its neurons have no depths",
                             help="00 @0 input, as `order` makes them")
        self.depths = graph.levels
        for child in tree.children:
            if not isinstance(child, Token):
                self.block(child, graph)
        rows = np.array(self.made.rows, np.int32)
        lengths = np.diff(graph.starts)[rows]
        ends = [*[s.first for s in self.made.segments[1:]], len(self.made.blocks) - 1]
        self.in_lists(graph, rows)
        schedules = self.schedules([t for t in listed if t.type == "FORM"], graph)
        plan = Plan(
            graph=graph, rows=rows, starts=csr.starts(lengths),
            edges=csr.ranges(graph.starts[rows], lengths).astype(np.int32),
            runs=tuple(self.made.runs), blocks=np.array(self.made.blocks, np.int64),
            segments=tuple(s._replace(last=end) for s, end in zip(
                self.made.segments, ends, strict=bool(self.made.segments))),
            packed=np.array([self.code(tokens["PACKED"], word)
                             for word in _words(tokens["PACKED"])], np.int32),
            weights=_begins(tokens["WEIGHTS"]), biases=_begins(tokens["BIASES"]),
            single=schedules["single"], batch=schedules["batch"],
            backward=schedules.get("backward"), backward_batch=schedules.get("backward_batch"),
            each=schedules.get("each"), jacobian=schedules.get("jacobian"),
            functions=self.functions(tokens["FUNCTIONS"]))
        self.counts(tokens["PLAN"], plan)
        for message, part, k in faults(plan):
            line = self.lines.get((part, k), self.lines["plan", 0])
            raise self.fault(line, message, code="E304")
        return plan

    def graph(self, token: Token) -> Graph:
        """The graph at the end of the text, read as a text of its own whose lines are where they
        are."""
        rest = "\n" * (_line(token) - 1) + str(token)
        return graph_text.read(Source(self.source.name, rest))

    def functions(self, token: Token) -> tuple[Wanted, ...]:
        line = _line(token)
        listed = _stripped(token).split(None, 1)[1]
        wanted = []
        for word in re.split(r",[ \t]+", listed) if listed != "-" else []:
            match = _WANTED.fullmatch(word)
            if match is None:
                raise self.fault(line, f"no function {word[:60]}", word,
                                 help="forward, or train_step{loss=mse,optimizer=sgd:momentum=0.0}")
            name, recompute, loss, optimizer = match.groups(default="")
            if loss or optimizer:
                try:
                    spelt = str(losses.parse(loss)), str(optimizers.parse(optimizer))
                except NccError as error:
                    raise self.fault(line, error.message, word, help=error.help) from None
                if spelt != (loss, optimizer):
                    raise self.fault(line, "options are all said, in order", word,
                                     help=f"loss={spelt[0]},optimizer={spelt[1]}")
            wanted.append(Wanted(name, int(recompute or 0), loss, optimizer))
        return tuple(wanted)

    def schedules(self, tokens: list[Token], graph: Graph) -> dict[str, Schedule]:
        """The schedules by their names, with the slots that the rows say."""
        made: dict[str, Schedule] = {}
        for token in tokens:
            match = _FORM.match(_stripped(token))
            assert match is not None
            name, form, work, why = match.groups()
            line = self.lines[name, 0] = _line(token)
            if name not in SCHEDULES[len(made) :]:
                raise self.fault(line, f"no form of {name} here", name,
                                 help="in this order: " + ", ".join(SCHEDULES))
            if form not in FORMS:
                raise self.fault(line, f"no form {form}", form, help="one of " + ", ".join(FORMS))
            slots = None
            if work is not None:
                slots = np.full(graph.n_neurons, -1, np.int32)
                held = self.slots.get(name, {})
                slots[list(held)] = list(held.values())
            elif self.slots.get(name):
                raise self.fault(line, f"{name} is unplaced, and values have slots of it",
                                 "unplaced")
            made[name] = Schedule(form, why, slots, int(work or 0))
        for name in ("single", "batch"):
            if name not in made:
                raise self.fault(self.lines["functions", 0], f"no form of {name} follows")
        return made

    def block(self, tree: Tree[Token], graph: Graph) -> None:
        """The inputs or a run."""
        head, *bodies = [t for t in tree.children if isinstance(t, Token)]
        lines = [(number, text.partition("//")[0].strip()) for token in bodies[:-1]
                 for number, text in enumerate(str(token).split("\n")[:-1], _line(token))]
        if tree.data == "inputs":
            for number, text in lines:
                self.input(number, text, graph)
        else:
            self.run(_line(head), _stripped(head), lines, graph)

    def input(self, line: int, text: str, graph: Graph) -> None:
        match = _INPUT.fullmatch(text)
        if match is None:
            raise self.fault(line, "no line of an input", help="00  single[0] batch[0]")
        self.placed(line, self.neuron(line, match["neuron"], graph), match["slots"])

    def run(self, line: int, head: str, lines: list[tuple[int, str]], graph: Graph) -> None:
        made, first = self.made, len(self.made.rows)
        words = head.split()
        if words[3] not in AGGREGATIONS:
            raise self.fault(line, f"no aggregation {words[3]}", words[3],
                             help="one of " + ", ".join(AGGREGATIONS))
        self.lines["run", len(made.runs)] = line
        left = 0  # rows that the tile lacks
        shape: tuple[int, ...] | None = None  # of the segment: rows, fan-in, side, and its depth
        for number, text in (*lines, (line, "")):
            segment, tile = _SEGMENT.fullmatch(text), _TILE.fullmatch(text)
            if left and (segment or tile or not text):
                raise self.fault(self.lines["tile", len(made.blocks) - 2],
                                 f"the tile lacks {left} of its rows")
            if segment:
                shape = self.segment(number, *[int(word or 1) for word in segment.groups()])
            elif tile:
                if shape is None or shape[0] == 1:
                    raise self.fault(number, "a tile stands in a segment of tiles",
                                     help="segment of 2 edges a row, tiles of 16 rows")
                left = int(tile["rows"])
                self.lines["tile", len(made.blocks) - 1] = number
                made.blocks.append(made.blocks[-1] + left)
            elif text:
                neuron = self.row(number, text, graph)
                if not left:  # by itself: a segment is all such of one fan-in and depth
                    alone = (1, len(made.sources[-1]), 1, int(self.depths[neuron]))
                    if shape != alone:
                        shape = alone
                        self.segment(number, alone[1], 1, 1)
                    made.blocks.append(len(made.rows))
                left = max(0, left - 1)
        made.runs.append(Run(first, len(made.rows), int(words[2], 16), AGGREGATIONS.index(words[3]),
                             words[-2] == "bias"))

    def segment(self, line: int, fan_in: int, room: int, side: int) -> tuple[int, ...]:
        """The head of a segment, whose end is where the next one begins; its shape."""
        begin = len(self.made.blocks) - 1
        self.lines["segment", len(self.made.segments)] = line
        self.made.segments.append(Segment(begin, begin, room, fan_in, side))
        return room, fan_in, side, -1

    def row(self, line: int, text: str, graph: Graph) -> int:
        match = _ROW.fullmatch(text)
        if match is None:
            raise self.fault(line, "no line of a row", help="02 <- 00 01  single[0] batch[0]")
        neuron = self.neuron(line, match["neuron"], graph)
        self.lines["row", len(self.made.rows)] = line
        self.made.rows.append(neuron)
        words = match["sources"].split() if match["sources"] != "-" else []
        self.made.sources.append([int(word, 16) for word in words])
        self.placed(line, neuron, match["slots"])
        return neuron

    def neuron(self, line: int, word: str, graph: Graph) -> int:
        if int(word, 16) >= graph.n_neurons:
            raise self.fault(line, f"no neuron {word}", word)
        return int(word, 16)

    def placed(self, line: int, neuron: int, words: str) -> None:
        for word in words.split():
            name, slot = word.removesuffix("]").split("[")
            if neuron in self.slots[name]:
                raise self.fault(line, f"neuron {neuron:02x} has a slot of {name} already", word)
            self.slots[name][neuron] = int(slot)

    def in_lists(self, graph: Graph, rows: csr.Ints) -> None:
        """The sources that rows say are those of the graph."""
        starts = graph.starts
        for k, (neuron, said) in enumerate(zip(rows.tolist(), self.made.sources, strict=True)):
            if graph.sources[starts[neuron] : starts[neuron + 1]].tolist() != said:
                raise self.fault(self.lines["row", k], f"neuron {neuron:02x} has another in-list "
                                 "in the graph below")

    def code(self, token: Token, word: str) -> int:
        number = int(word[1:], 16)
        if number >= 1 << 31:
            line = next(k for k in range(_line(token), _line(token) + token.count("\n") + 1)
                        if word in self.source.line(k))
            raise self.fault(line, f"no parameter {word}", word)
        return number if word[0] == "p" else -1 - number

    def counts(self, token: Token, plan: Plan) -> None:
        """The head counts what follows it."""
        words = _stripped(token).split()
        for word, has, what in ((int(words[1], 16), plan.graph.n_neurons, "neurons"),
                                (int(words[3]), len(plan.rows), "rows"),
                                (int(words[5]), len(plan.edges), "edges"),
                                (int(words[7]), len(plan.packed), "packed")):
            if word != has:
                raise self.fault(_line(token), f"the text has {has} {what}, not {word}")


def _line(token: Token) -> int:
    return int(token.line or 1)


def _stripped(token: Token) -> str:
    return str(token).split("//")[0].strip()


def _words(token: Token) -> list[str]:
    return _stripped(token).split()[1:]


def _begins(token: Token) -> csr.Longs:
    return np.array([-1 if word == "-" else int(word) for word in _words(token)], np.int64)
