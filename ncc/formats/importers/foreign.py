"""What an importer reads and what it answers: a file of another tool, faults with places, a net."""

from __future__ import annotations

import json
import math
import os
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from ncc.errors import NccError, Source, Span
from ncc.ir.graph import Graph

LARGEST: Final = 2**31  # bytes of a file; where there is no such limit, memory is the limit
MAX_EDGES: Final = 10**8


@dataclass(frozen=True)
class Options:
    """What a user says of a file that the file does not say. A field is an option of the command,
    too (`weight_bias` is --weight-bias); an importer names those that it takes.

    `inputs` and `outputs` are counts.
    """

    inputs: int | None = field(default=None, metadata={
        "metavar": "K", "help": "number of inputs, where the file does not say it"})
    outputs: int | None = None  # --outputs, which nets have, too
    weight_bias: float | None = field(default=None, metadata={
        "metavar": "V", "help": "what is added to every weight of a .wann.json"})
    config: str | Path | None = field(default=None, metadata={
        "metavar": "FILE", "help": "configuration of neat-python, for a pickled genome"})
    time_step: float | None = field(default=None, metadata={
        "metavar": "DT", "help": "time by which a CTRNN of neat-python goes on in a call"})
    fn: tuple[str, ...] | Mapping[str, str] = field(default=(), metadata={
        "metavar": "NAME=EXPR", "help": "formula in x of a function that is the user's own"})
    simple: bool = field(default=False, metadata={
        "help": "one neuron for one of the source, where that rounds in another order"})
    drop_zeros: bool = field(default=False, metadata={"help": "leave out edges of weight 0"})
    activation: str | int | None = None  # --activation, which nets have, too
    bias: float | None = field(default=None, metadata={
        "metavar": "V", "help": "a bias of this value for each neuron of a matrix or edge list"})
    layered: bool = field(default=False, metadata={
        "help": "a square matrix is a layer, not the adjacency matrix of a net"})
    logits: bool = field(default=False, metadata={
        "help": "outputs of a classifier before softmax or logistic"})
    transpose: bool = field(default=False, metadata={
        "help": "matrices are (outputs, inputs), not (inputs, outputs)"})
    allow_pickle: bool = field(default=False, metadata={
        "help": "unpickle a file that may run code as it is read: only one that you trust"})
    tuned: str | Path | None = field(default=None, metadata={
        "metavar": "FILE", "help": "the .wann.json with the weights of a .out"})
    shared: float | None = field(default=None, metadata={
        "metavar": "V", "help": "all weights of a .out are one parameter, of this value"})
    softmax: bool = field(default=False, metadata={
        "help": "outputs are the softmax of those of the file"})
    scaling: bool = field(default=False, metadata={
        "help": "scale inputs and outputs as a FANN file says, which fann_run does not"})
    state: str | None = field(default=None, metadata={
        "metavar": "reset", "help": "a net with state begins each call from zero"})
    batch_dim: str = field(default="0", metadata={
        "metavar": "0|none", "help": "whether the first axis of a tensor is a batch, default 0"})
    no_fold: bool = field(default=False, metadata={
        "help": "leave batch norms as neurons of their own, with parameters of their own"})
    trainable: str = field(default="all", metadata={
        "metavar": "all|none", "help": "whether the parameters of a module stay parameters"})
    shape: tuple[str, ...] | Mapping[str, Sequence[int]] = field(default=(), metadata={
        "metavar": "NAME=1x3x8", "help": "shape of an input of an ONNX model"})
    dim: tuple[str, ...] | Mapping[str, int] = field(default=(), metadata={
        "metavar": "NAME=N", "help": "size of an axis that an ONNX model only names"})
    example: Any = None  # of ncc.from_torch: an input
    state_dict: Mapping[str, Any] | None = None  # parameters and buffers instead of a program's
    max_edges: int = field(default=MAX_EDGES, metadata={
        "metavar": "E", "help": f"most edges of an imported net, default {MAX_EDGES}"})

    @cached_property
    def functions(self) -> dict[str, str]:
        """The formulas of --fn, by name. NccError E801."""
        if isinstance(self.fn, Mapping):
            return dict(self.fn)
        made: dict[str, str] = {}
        for word in self.fn:
            name, equals, text = word.partition("=")
            if not equals or not name.strip() or not text.strip():
                raise NccError("E801", f"--fn {word} is no NAME=EXPR", status=2,
                               help="--fn 'my_act=x*sigmoid(x)'")
            made[name.strip()] = text.strip()
        return made

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of --shape, by the names of inputs. NccError E814."""
        return {name: _sizes("shape", f"{name}={given}", given.split("x")
                             if isinstance(given, str) else given)
                for name, given in _pairs("shape", self.shape)}

    @cached_property
    def dims(self) -> dict[str, int]:
        """The sizes of --dim, by the names of axes. NccError E814."""
        return {name: _sizes("dim", f"{name}={given}", [given])[0]
                for name, given in _pairs("dim", self.dim)}


def _pairs(option: str, given: Sequence[str] | Mapping[str, Any]) -> list[tuple[str, Any]]:
    """NAME=VALUE of an option that may be given often."""
    if isinstance(given, Mapping):
        return list(given.items())
    made = []
    for word in given:
        name, equals, value = word.rpartition("=")
        if not equals or not name:
            raise NccError("E814", f"--{option} {word} is no NAME=VALUE", status=2)
        made.append((name, value))
    return made


def _sizes(option: str, said: str, given: Sequence[Any]) -> tuple[int, ...]:
    try:
        made = tuple(int(size) for size in given)
    except (TypeError, ValueError):
        made = (-1,)
    if any(not 0 <= size < 2**31 for size in made):
        raise NccError("E814", f"--{option} {said}: sizes are whole numbers", status=2)
    return made


@dataclass(frozen=True)
class Foreign(Source):
    """A file of another tool: its name, its text (empty where it is not one), its bytes.

    `path` is where it is on disk, where formats have a second file beside the first.
    """

    data: bytes = b""
    path: Path | None = None

    def fault(self, code: str, message: str, at: str = "", *, line: int = 0, column: int = 1,
              length: int = 0, note: str = "", help: str = "") -> NccError:
        """A fault at a place: a JSON pointer or another path in the file (`at`), or a line."""
        if at:
            return NccError(code, message, Source(f"{self.name}:{at}", ""), note=note, help=help)
        if not line:
            return NccError(code, message, self, note=note, help=help)
        shown = self
        if not self.text:
            with suppress(NccError):  # of another encoding: only the number of the line is told
                shown = self.as_text()
        span = Span(line, column, length or max(len(shown.line(line)), 1))
        return NccError(code, message, shown, span, note=note, help=help)

    @cached_property
    def words(self) -> str:
        """The text, without a byte order mark. NccError E801 where the bytes are no UTF-8."""
        try:
            return self.data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.fault("E801", f"byte {error.start} is not UTF-8: this is no text") from None

    def as_text(self) -> Foreign:
        """The same with `text`, so that faults show lines."""
        return Foreign(self.name, self.words, self.data, self.path)

    def json(self) -> Json:
        """The file as JSON. NccError E801: no JSON, a name twice, NaN or an infinity, too deep."""
        def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
            made = dict(found)
            if len(made) < len(found):
                counts = Counter(name for name, _ in found)
                twice = next(name for name in counts if counts[name] > 1)
                raise self.fault("E801", f"the name {twice[:40]!r} stands twice in one object")
            return made

        def no_number(word: str) -> NoReturn:
            raise self.fault("E801", f"{word} is not a number of JSON")

        try:
            return Json(json.loads(self.words, object_pairs_hook=pairs, parse_constant=no_number),
                        "", self)
        except json.JSONDecodeError as error:
            raise self.as_text().fault("E801", f"this is no JSON: {error.msg}", line=error.lineno,
                                       column=error.colno, length=1) from None
        except RecursionError:
            raise self.fault("E801", "JSON that is nested too deep") from None
        except ValueError as error:  # an integer of thousands of digits
            raise self.fault("E801", f"this is no JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Json:
    """A value in a JSON file, and its place there as a JSON pointer."""

    value: Any
    at: str
    file: Foreign

    def fault(self, code: str, message: str, *, note: str = "", help: str = "") -> NccError:
        return self.file.fault(code, message, self.at or "/", note=note, help=help)

    def __getitem__(self, key: str) -> Json:
        """The member of an object; E801 where it is none, or has not this member."""
        if not isinstance(self.value, dict):
            raise self.fault("E801", f"an object is wanted here, not {kind(self.value)}")
        if key not in self.value:
            raise self.fault("E801", f"{key!r} is missing")
        return self.member(key)

    def member(self, key: str) -> Json:
        return Json(self.value[key], f"{self.at}/{key.replace('~', '~0').replace('/', '~1')}",
                    self.file)

    def has(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def __iter__(self) -> Iterator[Json]:
        """The elements of an array; E801 where it is none."""
        if not isinstance(self.value, list):
            raise self.fault("E801", f"an array is wanted here, not {kind(self.value)}")
        return (Json(value, f"{self.at}/{k}", self.file) for k, value in enumerate(self.value))

    def real(self) -> float:
        """A finite number as float64."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.fault("E801", f"a number is wanted here, not {kind(self.value)}")
        try:
            number = float(self.value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.fault("E801", "a number that overflows")
        return number

    def integer(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.fault("E801", f"an integer is wanted here, not {kind(self.value)}")
        return self.value

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.fault("E801", f"a string is wanted here, not {kind(self.value)}")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.fault("E801", f"true or false is wanted here, not {kind(self.value)}")
        return self.value


def kind(value: Any) -> str:
    """What JSON calls a value."""
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false",
             int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


@dataclass(frozen=True)
class Imported(Source):
    """A net of another tool: `graph`, not ordered; how near it is to that tool's own answers; what
    the importer has taken for granted, left out, or wants to be known, a line each.

    on_cycle   what helps where the net turns out to have a cycle
    tensors    parameters by the names that they have there: the slot of each element (-1 where it
               has none), and its first value
    places     tensors on the way by name: the number of the neuron that is each element, or -1
    exactness  A: equal bits. B: the same operations in the same order, but exp, log, sin and the
               like may differ by some ulp. C: sums are added in another order
    """

    graph: Graph = field(kw_only=True)
    exactness: str = field(kw_only=True)
    importer: str = field(kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    tensors: Mapping[str, tuple[Any, Any]] = field(default_factory=dict, kw_only=True)
    places: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    on_cycle: str = field(default="", kw_only=True)


def opened(path: str | Path) -> Foreign:
    """A file as an importer gets it; - is standard input. NccError E101, E819 beyond LARGEST."""
    try:
        if path == "-":
            if sys.stdin is None:
                raise NccError("E101", "cannot read standard input: it is closed")
            return Foreign("<stdin>", "", sys.stdin.buffer.read(LARGEST))
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode) and found.st_size > LARGEST:
                raise NccError("E819", f"{path} has {found.st_size} bytes, and {LARGEST} are the "
                                       "most")
            return Foreign(str(path), "", file.read(LARGEST), Path(path))
    except OSError as error:
        raise NccError("E101", f"cannot read {path}: {error.strerror or error}") from None


class Importer(NamedTuple):
    """A format of another tool.

    name        what --source calls it
    title       what it is, in the words of a message
    endings     of its files, with the dot: ".json"
    recognises  whether a file of such an ending is one; it looks at the first bytes or keys, and
                raises nothing
    read        files (nearly always one) and options to a net; NccErrors E801 to E819
    takes       the options that it takes
    recognises_object, from_object
                the same for live objects of Python, where it reads such; nothing is imported
    layers      whether several files are one net, a layer each; else a file is a whole net
    """

    name: str
    title: str
    endings: tuple[str, ...]
    recognises: Callable[[Foreign], bool]
    read: Callable[[list[Foreign], Options], Imported]
    takes: tuple[str, ...] = ()
    recognises_object: Callable[[Any], bool] | None = None
    from_object: Callable[[Any, Options], Imported] | None = None
    layers: bool = False


def of_module(value: Any, *names: str) -> bool:
    """Whether an object's class, or one that it derives from, is of a module of one of these names
    or inside it: so that nothing need be imported to recognise it."""
    tops = {cls.__module__.split(".")[0] for cls in type(value).__mro__}
    return not tops.isdisjoint(names)


def listed(words: Iterable[Any], most: int = 8) -> str:
    """The first few of many, for a message."""
    all_of_them = [str(word) for word in words]
    return ", ".join(all_of_them[:most]) + (", ..." if len(all_of_them) > most else "")
