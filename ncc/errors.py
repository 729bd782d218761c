"""Where a text came from, and the one error that users see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """What an error code stands for: the exit status (1 the input is wrong, 2 the command line, 3 a
    verification failed, 4 a limit was reached, 5 an outside tool failed, 70 a bug in ncc),
    and what is wrong."""

    status: int
    title: str


# Every code. The table in grammar/README.md is made of this one.
ERRORS: dict[str, Fault] = {
    "E001": Fault(1, "an unexpected character or word, or one that is missing"),
    "E101": Fault(1, "the file cannot be read"),
    "E102": Fault(2, "unknown format"),
    "E103": Fault(1, "the file is not UTF-8 text"),
    "E104": Fault(1, "the net does not start with `N`"),
    "E105": Fault(1, "a second `N`"),
    "E106": Fault(1, "not a hexadecimal index"),
    "E107": Fault(1, "not a number"),
    "E108": Fault(1, "a number that is not finite, or overflows"),
    "E109": Fault(1, "a malformed tie, or a tie that is a constant"),
    "E110": Fault(1, "an index or a code out of range"),
    "E111": Fault(1, "a neuron without a line"),
    "E112": Fault(1, "a second line of a neuron"),
    "E113": Fault(1, "lines that do not ascend"),
    "E114": Fault(1, "a neuron that reads itself"),
    "E115": Fault(1, "a neuron that reads another twice"),
    "E116": Fault(1, "a cycle; the message shows its path"),
    "E117": Fault(1, "an edge list that declares far more neurons than it describes"),
    "E118": Fault(1, "unknown activation"),
    "E119": Fault(1, "unknown aggregation"),
    "E120": Fault(1, "an in-list or a bias without an activation"),
    "E121": Fault(1, "an activation, but neither in-list nor bias"),
    "E122": Fault(1, "an aggregation without in-edges"),
    "E123": Fault(1, "a second bias of a neuron"),
    "E124": Fault(1, "a second aggregation of a neuron"),
    "E125": Fault(1, "a tie whose value is given twice"),
    "E126": Fault(1, "`fn` with a code below 20"),
    "E127": Fault(1, "a function defined twice"),
    "E128": Fault(1, "a second `out`"),
    "E129": Fault(1, "an output named twice"),
    "E130": Fault(1, "an unknown output"),
    "E131": Fault(1, "a net without outputs"),
    "E132": Fault(1, "matrix rows of unequal length"),
    "E133": Fault(1, "a matrix that is not square"),
    "E134": Fault(1, "a character in a matrix row that is neither 0 nor 1"),
    "E135": Fault(1, "`fn` without an expression"),
    "E136": Fault(1, "a range that runs backwards"),
    "E137": Fault(1, "an empty file"),
    "E138": Fault(1, "a pair of sources outside `dot`, or a single source in one"),
    "E139": Fault(1, "a malformed pair of sources"),
    "E140": Fault(1, "a weights file that cannot be read, or is no vector"),
    "E141": Fault(1, "weights of the wrong length"),
    "E142": Fault(1, "a weight that is not finite, or overflows"),
    "E143": Fault(1, "a line of a weights file that is no number"),
    "E144": Fault(2, "an unknown `--init` rule or seed"),
    "E146": Fault(1, "a weight, a constant or a number of a function that overflows the dtype"),
    "E147": Fault(1, "a row of a kind that an engine does not have"),
    "E148": Fault(1, "an image of a net that is cut short, forged, or for another engine"),
    "E150": Fault(1, "a malformed label, or one whose name is no printable text"),
    "E151": Fault(1, "a label of neurons that the net has not"),
    "E152": Fault(1, "a second label of a name"),
    "E153": Fault(1, "unknown numerics or an unknown dtype in a net file"),
    "E154": Fault(1, "a second `numerics` or `dtype`"),
    "E160": Fault(1, "what a net with state does not have, as long as it is not unrolled"),
    "E161": Fault(2, "steps to unroll of a net that has none, or too many"),
    "E201": Fault(1, "an expression with an unknown function or variable"),
    "E202": Fault(1, "a function with the wrong number of arguments"),
    "E203": Fault(1, "a constant divisor 0"),
    "E204": Fault(1, "a number in an expression that is not finite"),
    "E205": Fault(1, "an exponent that is not an integer constant"),
    "E206": Fault(4, "an expression nested too deep, or too long"),
    "E300": Fault(3, "an ssa text or module that breaks a rule of its level"),
    "E301": Fault(3, "a graph that breaks a rule of its level"),
    "E302": Fault(1, "a graph evaluated without its parameters' values"),
    "E303": Fault(1, "a graph with a cycle evaluated"),
    "E304": Fault(3, "a plan that breaks a rule of its level"),
    "E305": Fault(3, "a pass that changed what an output is (`--verify-each`)"),
    "E310": Fault(1, "a malformed line in a `.graph` text"),
    "E311": Fault(1, "a word of a `.graph` text that is no index or number"),
    "E312": Fault(1, "a `.graph` text that breaks a rule of its level"),
    "E313": Fault(1, "a malformed line or value in a `.plan` text"),
    "E315": Fault(1, "a malformed value in an `.ssa` text"),
    "E316": Fault(1, "an ssa text that reads or writes outside its buffers"),
    "E320": Fault(3, "a pass that changed a result (`--check`)"),
    "E321": Fault(3, "outputs that differ from those of another net or tool (`ncc verify`)"),
    "E400": Fault(4, "too little memory, or time, to compile; the message says for what, "
                     "and which option helps"),
    "E401": Fault(1, "something that the output format cannot express; `--lossy` leaves it out"),
    "E402": Fault(4, "a text that would be too large"),
    "E403": Fault(4, "a net that takes more than a limit of `ncc cost`"),
    "E404": Fault(4, "code whose instructions the emulator cannot count"),
    "E500": Fault(5, "no C compiler"),
    "E501": Fault(5, "a C compiler that failed"),
    "E600": Fault(2, "an unknown command or option, or one without its argument"),
    "E601": Fault(2, "`--passes`, `--print-before`, `--print-after`: an unknown pass or "
                     "option, an order that does not fit"),
    "E602": Fault(2, "an unknown form"),
    "E603": Fault(2, "an unknown dtype or numerics, or one that the target cannot do"),
    "E604": Fault(2, "an unknown kind, one that cannot be made of this input, or an unknown "
                     "file extension"),
    "E605": Fault(2, "an environment variable with an invalid value"),
    "E606": Fault(2, "a `--name` that is not a C identifier"),
    "E607": Fault(1, "parameters without values, where values are needed"),
    "E608": Fault(2, "an output file that cannot be written where `-o` says"),
    "E609": Fault(2, "an option that does not go with the input"),
    "E610": Fault(2, "an unknown target"),
    "E611": Fault(2, "an unknown CPU"),
    "E612": Fault(2, "an unknown CPU feature"),
    "E613": Fault(2, "`--kinds`: a row that is no aggregation and activation"),
    "E622": Fault(1, "a file that cannot be written"),
    "E623": Fault(1, "samples that are no numbers"),
    "E624": Fault(1, "samples of the wrong number of columns"),
    "E630": Fault(2, "an unknown loss or optimizer, or an option or value that it does not take"),
    "E631": Fault(1, "training: samples or targets of the wrong shape, or not of real numbers"),
    "E632": Fault(1, "training: a target that is no class, or outside 0..1 under `bce`"),
    "E633": Fault(1, "training: a value that is not finite"),
    "E634": Fault(2, "training: a learning rate, batch size, number of epochs, ... out of range"),
    "E635": Fault(1, "training: no samples"),
    "E636": Fault(1, "training: a loss that is not a number from the first epoch on"),
    "E637": Fault(5, "an optional library that is missing"),
    "E638": Fault(1, "training: a file that is no saved state, or the state of another training"),
    "E639": Fault(1, "rewiring: an edge that the net cannot have, or no room for one"),
    "E640": Fault(2, "`ncc bench`: an unknown peer, or a number out of range"),
    "E641": Fault(3, "`ncc bench`: another library's results differ"),
    "E650": Fault(2, "nets that make no population"),
    "E651": Fault(2, "`ncc new`: an unknown kind of net, or an option that it does not take"),
    "E652": Fault(2, "`ncc new`: sizes that are not those of the kind"),
    "E653": Fault(2, "`ncc new`: a number out of range"),
    "E654": Fault(2, "`ncc new`: sizes that do not fit one another"),
    "E655": Fault(4, "`ncc new`: a net of too many edges"),
    "E656": Fault(2, "`ncc view`: a port that cannot be had"),
    "E700": Fault(70, "a bug in ncc: LLVM rejects a module, or fails on it"),
    "E701": Fault(70, "a bug in ncc"),
    "E702": Fault(70, "a bug in ncc: an object with what its own linkers do not know"),
    "E800": Fault(1, "a file or an object of another tool that no importer knows, or several do"),
    "E801": Fault(1, "a net of another tool that is malformed; the message names the place"),
    "E802": Fault(1, "a version of another tool's format that is not known"),
    "E810": Fault(1, "a part of another tool's net that has no meaning as neurons"),
    "E811": Fault(1, "an activation or aggregation of another tool that ncc has no formula of"),
    "E812": Fault(1, "a net of another tool with a cycle, or state, where it is to feed forward"),
    "E813": Fault(1, "a value in another tool's net that ncc does not keep"),
    "E814": Fault(1, "a shape that is not known, or a batch whose samples do not stay apart"),
    "E815": Fault(1, "what another tool's file does not say, and ncc will not guess"),
    "E816": Fault(1, "numbers in another tool's file that do not fit each other"),
    "E817": Fault(1, "integers or other values of another tool's net that are no reals"),
    "E818": Fault(1, "a pickle that asks for a class off the list, or that may run any code"),
    "E819": Fault(4, "a net of another tool that is too large"),
}


@dataclass(frozen=True)
class Source:
    """A text and the name it is known by in messages."""

    name: str
    text: str

    def line(self, number: int) -> str:
        """Line `number` (from 1), without its end; empty where there is none."""
        start = 0
        for _ in range(number - 1):
            start = self.text.find("\n", start) + 1
            if start == 0:
                return ""
        end = self.text.find("\n", start)
        return self.text[start : end if end >= 0 else None].rstrip("\r")


@dataclass(frozen=True)
class Span:
    """A place in a source: line and column from 1, and how many characters."""

    line: int
    column: int
    length: int = 1


class NccError(Exception):
    """A fault in the input, the command line or the surroundings.

    `code` is one of ERRORS, whose `status` is the exit status of the contract unless another is
    given: a fault of a file, say, that stands on the command line this time. `str(error)` is the
    whole message as the command prints it.
    """

    __module__ = "ncc"  # where users import it: a traceback says ncc.NccError

    def __init__(
        self,
        code: str,
        message: str,
        source: Source | None = None,
        span: Span | None = None,
        *,
        note: str = "",
        help: str = "",
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.source = source
        self.span = span
        self.note = note
        self.help = help
        self.status = ERRORS[code].status if status is None else status

    @property
    def file(self) -> str | None:
        return self.source.name if self.source else None

    @property
    def line(self) -> int | None:
        return self.span.line if self.span else None

    @property
    def column(self) -> int | None:
        return self.span.column if self.span else None

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.code, self.message, self.source, self.span, self.note, self.help,
                           self.status))

    def __str__(self) -> str:
        place = ""
        if self.source is not None:
            place = f"{printable(self.source.name)}:"
            if self.span is not None:
                place += f"{self.span.line}:{self.span.column}:"
            place += " "
        lines = [f"{place}error[{self.code}]: {printable(self.message)}"]
        if self.source is not None and self.span is not None:
            line = self.source.line(self.span.line).replace("\t", " ")
            text = printable(line)
            # What is shown as an escape takes more room than it has columns.
            before = line[: self.span.column - 1]
            column = self.span.column - len(before) + len(printable(before))
            here = line[self.span.column - 1 :][: self.span.length]
            length = self.span.length - len(here) + len(printable(here))
            # A row of a megabyte is shown as the hundred characters around the fault.
            first = max(0, column - 60) if len(text) > 120 else 0
            shown = text[first : first + 120]
            lines.append(f"  {shown}")
            carets = max(1, min(length, first + len(shown) - column + 1))
            lines.append("  " + " " * (column - 1 - first) + "^" * carets)
        if self.note:
            lines.append(f"note: {printable(self.note)}")
        if self.help:
            lines.append(f"help: {printable(self.help)}")
        return "\n".join(lines)


def _rebuild(code: str, message: str, source: Source | None, span: Span | None, note: str,
             help: str, status: int) -> NccError:
    return NccError(code, message, source, span, note=note, help=help, status=status)


def optional(module: str, extra: str) -> Any:
    """A module of a library that comes with an extra of ncc's; NccError E637 where it cannot be
    imported, with the command that installs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise NccError("E637", f"{module.partition('.')[0]} is not installed: {error}",
                       help=f"pip install 'ncc-compiler[{extra}]'") from None


def printable(text: str) -> str:
    """`text` with every control and every undecodable character shown as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def near(word: str, words: Iterable[str]) -> str:
    """A help line that names the word most like `word`, or all of them."""
    known = list(words)
    close = get_close_matches(word[:40].lower(), known, 1, 0.5)
    return f"did you mean `{close[0]}`?" if close else "one of " + ", ".join(known)
