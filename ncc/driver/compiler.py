"""A graph, a plan or an ssa module at the end of the pipeline: last module, object and header."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.driver.pipeline import (
    AFTER_ORDER,
    PIPELINE,
    Step,
    Watch,
    beyond,
    steps,
    uncollected,
    walk,
)
from ncc.driver.settings import Settings
from ncc.errors import NccError
from ncc.ir import labels
from ncc.ir.graph import Graph, Reals
from ncc.ir.plan import Plan
from ncc.ir.ssa import DTYPES, Module
from ncc.machine import cache, limits
from ncc.machine.cache import Carried, Entry
from ncc.machine.codegen import Codegen
from ncc.machine.footprint import exported, footprint, stacks
from ncc.machine.header import graph_hash, header
from ncc.machine.header_docs import work_size
from ncc.machine.native import aligned, functions
from ncc.machine.targets import Target
from ncc.passes.emit.tables import cell, large
from ncc.report.cost import Footprint
from ncc.scalar.expressions import expression

MANY = 10_000  # edges, from where memory is looked at before the passes run
HASH = "hash of the graph"  # stands for it in headers that are kept


def in_range(graph: Graph, dtype: str) -> None:
    """NccError E146 where a weight, a constant or a number of a function overflows `dtype`."""
    largest = float(np.finfo(DTYPES[dtype]).max)
    numbers = [graph.values, graph.constants]
    for code, text in graph.functions.items():
        numbers.append(np.array(expression(code, {code: text}).constants(), np.float64))
    for values in numbers:
        low, high = np.fmin.reduce(values, initial=0.0), np.fmax.reduce(values, initial=0.0)
        if -largest <= low and high <= largest:  # NaN, which is no value yet, is passed over
            continue
        beyond = np.flatnonzero(np.abs(values) > largest)
        if len(beyond):
            raise NccError("E146", f"{values[beyond[0]]} overflows {dtype}", help="--dtype f64")


def missing(values: Reals | None, count: int, where: str = "") -> None:
    """NccError E607 where one of `count` parameters has no value."""
    without = count if values is None else int(np.isnan(values).sum())
    if without:
        raise NccError("E607", f"{where}{without} of {count} parameters have no value",
                       help="--weights FILE or --init RULE")


@dataclass(frozen=True)
class Build:
    """What one graph becomes on one target with the passes' `options`; each stage made once. Or a
    plan, whose graph it is then; or an ssa module, which has no graph, so no plan and no header;
    its parameters, `params`, are beside it then.

    With `cached`, the object and the header come from the cache where it has them, and then no pass
    runs; what is made is kept there. The object may also be `brought` by a pickle, and is taken
    if it is what would be made here.

    NccError E400 (status 4) where a stage would take more memory or time than there is, or did.
    With the option `limit` False, it takes as long as it takes.
    """

    start: Graph | Plan | Module
    target: Target
    options: Mapping[str, Any]
    opt: int = 2
    watch: Watch | None = None
    along: Sequence[Step] | None = None
    embedded: bool = field(default=False)
    cached: bool = False
    params: Reals | None = None
    brought: Carried | None = None

    @classmethod
    def of(cls, graph: Graph, target: Target, settings: Settings, watch: Watch | None = None,
           **more: Any) -> Build:
        """The build of an ordered graph by all passes; `more` are options of theirs that go before
        those of the settings."""
        return cls(graph, target, settings.of(graph).options(target, **more), settings.opt, watch,
                   AFTER_ORDER, cached=settings.cache)

    @property
    def graph(self) -> Graph:
        """NccError E604 where there is none."""
        if isinstance(self.start, Module):
            raise NccError("E604", "an ssa text is no net: it has functions, not neurons")
        return self.start.graph if isinstance(self.start, Plan) else self.start

    @property
    def linked(self) -> bool:
        """Whether its ops carry their neurons, and its texts of code say them."""
        return bool(self.options.get("provenance"))

    @property
    def values(self) -> Reals | None:
        """The canonical parameters, NaN where one has no value."""
        return self.params if isinstance(self.start, Module) else self.graph.values

    @cached_property
    def plan(self) -> Plan:
        in_range(self.graph, self.options["dtype"])
        plan: Plan = self._walk(self.start, Plan, self._along())
        return plan

    @cached_property
    def module(self) -> Module:
        module: Module
        if isinstance(self.start, Module):
            module = self._walk(self.start, Module, self._along())
            return module
        plan, machine = self.plan, self.machine()
        need, left = limits.straight(plan), limits.left() if len(plan.edges) >= MANY else math.inf
        if machine.seconds is not None and (
                need.memory > left or need.seconds > machine.seconds):
            raise machine.refusal(need, left)
        module = self._walk(plan, Module, beyond(self._along(), Plan))
        return module

    @cached_property
    def llvm(self) -> str:
        text: str = self._walk(self.module, str, beyond(self._along(), Module))
        return text

    def _along(self) -> Sequence[Step]:
        return steps() if self.along is None else self.along

    def _walk(self, level: Any, until: type, along: Sequence[Step]) -> Any:
        try:
            return walk(level, self.options, self.watch, until=until, along=along,
                        params=self.values)
        except MemoryError:
            machine = self.machine() if until is not Plan else Codegen(self.target)
            raise limits.refused("not enough memory to compile this net" + machine.named(),
                                 machine.help) from None

    def machine(self) -> Codegen:
        """What makes code of the LLVM text, and knows whose it is."""
        if isinstance(self.start, Module):
            about, seconds = self.options["name"], limits.LEAST
            help = "-O0" * (self.opt > 0) or "fewer operations"
        else:
            about, help, seconds = self._extent()
        limited = self.options.get("limit", True)
        return Codegen(self.target, self.opt, about, help, seconds if limited else None,
                       self._bound() if limited and self._asked() else None,
                       getattr(self.watch, "working", None))

    def _asked(self) -> list[str]:
        """The options that ask LLVM for straight code, those first that may take most, but for
        forms that were found by timing them; what ncc assembles itself takes little."""
        timed = self.options.get("timed", ())
        if isinstance(self.start, Module):
            return []
        return [name for name in ("backward_form", "batch_form", "form")
                if self.options.get(name) == "straight" and name not in timed
                and (name != "form" or not self.options["assembles"])]

    def _bound(self) -> float:
        """CPU seconds that this compile takes with default forms, by the guide."""
        pairs = {(r.activation, r.aggregation) for r in self.plan.runs}
        return limits.bound(self.graph.n_edges, len(pairs), self.plan.backward is not None,
                            bool(self.options.get("optimizer")))

    def _foresee(self) -> None:
        """NccError E400 where a form that was asked for would take far more than the bound, before
        any pass runs for it; what is less far is told by the text."""
        if not self._asked():
            return
        machine, chosen = self.machine(), self.options
        need = limits.by_edges(self.plan, self.target.triple, self.opt, chosen["native"] > 1,
                               bool(chosen["assembles"]))
        if limits.breaks(need, machine.bound, limits.BY_EDGES):
            raise machine.beyond(need)

    def _addressed(self) -> None:
        """NccError E400 where an array is longer than the target's indices reach, which are signed,
        or all tables are more bytes than it can tell apart."""
        bits = self.target.index_bits
        if bits >= 32:
            return
        tables = sum([len(t.values) * cell(t).itemsize for t in self.module.tables])
        most = max([*[len(t.values) for t in self.module.tables],
                    *[max(b.size, work_size(f)) for f in self.module.funcs for b in f.buffers]],
                   default=0)
        if most >= 1 << bits - 1 or tables >= 1 << bits:
            raise limits.refused(
                f"an array of {most:,} elements, and {tables:,} bytes of tables: {self.target.name}"
                f" has indices and addresses of {bits} bits", "a smaller net")

    def assembly(self) -> str:
        self._foresee()
        self._addressed()
        return self.machine().assembly(self.llvm)

    def _extent(self) -> tuple[str, str, float]:
        """How large the net is, what would make its code smaller, and the seconds it may take."""
        plan = self.plan
        forms = {name: s.form for name, s in (
            ("form", plan.single), ("batch-form", plan.batch), ("backward-form", plan.backward),
            ("backward-form", plan.backward_batch), ("backward-form", plan.jacobian))
            if s is not None}
        edges, pairs = self.graph.n_edges, {(r.activation, r.aggregation) for r in plan.runs}
        smaller = [f"no --{option.replace('_', '-')} straight" for option in self._asked()]
        smaller = [", ".join(smaller)] if smaller else [
            f"--{option} table" for option, form in forms.items() if form == "straight"]
        smaller += ["-O0"] * (self.opt > 0)
        about = f"{edges:,} edges, " + ", ".join([f"{o} {form}" for o, form in forms.items()])
        help = f"{' or '.join(smaller) or 'several nets'}; --no-limit (limit=False) goes on"
        seconds = limits.longest(edges, len(pairs), plan.backward is not None)
        return about, help, seconds

    def object(self) -> bytes:
        return self.made.code

    @cached_property
    def made(self) -> Entry:
        """The object, and five facts: `exports`, its functions' names, `functions`, as
        ncc/machine/native.py has them, `forms`, each function's, `states`, the neurons whose values
        are in `state`, and `stacks`, the bytes of stack that each takes (None with the option
        `outside`: this process has enough)."""

        def make() -> Entry:
            with uncollected():  # until all ops are gone
                text, machine, facts = self._ready()
                if self.options.get("outside"):
                    # This process runs it and wants no header: LLVM may have the memory.
                    self.__dict__.pop("plan", None)
                tables = self._outside()
                if self.options.get("outside"):
                    self.__dict__.pop("module", None)
            if self.options.get("outside"):
                code = machine.object(text)
            else:
                code, facts["stacks"] = self._measured(text, machine)
            return Entry(code, facts, tables)

        return self._kept("object", make)

    def _ready(self) -> tuple[str, Codegen, dict[str, Any]]:
        """What the object is made of: the text, what makes it, the facts."""
        self._foresee()
        self._addressed()
        facts: dict[str, Any] = {
            "exports": [f"{self.options['name']}_{f.name}" for f in self.module.funcs
                        if f.exported],
            "functions": functions(self.module), "stacks": None,
            "forms": {} if isinstance(self.start, Module) else {
                name: s.form for name, s in self.plan.schedules.items()},
            "states": [] if isinstance(self.start, Module)
            else self.plan.graph.states.tolist()}
        return self.llvm, self.machine(), facts

    def _measured(self, text: str, machine: Codegen) -> tuple[bytes, dict[str, int]]:
        """The object, and the bytes of stack that its functions take; none where nobody knows."""
        frames, _, code = machine.measured(text).partition(b"\n")
        return code, exported(stacks(text, json.loads(frames), self.target), self.module)

    def footprint(self) -> Footprint:
        """What the object takes."""
        facts = self.made.facts
        held = [(buffers, work) for _, buffers, work in facts["functions"].values()]
        real = DTYPES[self.options["dtype"]]().itemsize
        return footprint(self.made.code, held, real, facts["stacks"])

    def _outside(self) -> dict[str, NDArray[np.uint8]]:
        """The tables that are not in the object, with the option `outside`, by their symbols."""
        found = {}
        for table in self.module.tables if self.options.get("outside") else ():
            if large(table):
                cells = aligned(len(table.values), cell(table))
                cells[...] = table.values
                found[f"{self.module.name}.{table.name}"] = cells.view(np.uint8)
        return found

    def header(self, compiled: bool = True, anywhere: bool = False) -> str:
        """The header; of the object, unless it is not what is `compiled`, so that its functions'
        stacks are another compiler's; of C that may go `anywhere`, it names no target."""
        def make() -> Entry:
            train = next((f"{f.loss},{f.optimizer}" for f in self.plan.functions if f.loss), "")
            text = header(self.plan, self.module, name=self.options["name"],
                          dtype=self.options["dtype"], embedded=self.embedded,
                          target="any machine, as C" if anywhere else self.target.name,
                          target_note="" if anywhere else self.target.triple,
                          align=self.target.align(self.options["dtype"]),
                          stacks=self.made.facts["stacks"] if compiled else None,
                          soft=self.options["dtype"] in self.target.soft and not anywhere,
                          hash=HASH, graph=self.graph, train=train)
            return Entry(text.encode(), {})

        kind = "header" if compiled else "header of C" + " anywhere" * anywhere
        text = self._kept(kind, make).code.decode()
        # All else in it is the same whatever values the parameters have.
        return text.replace(f'"{HASH}"', f'"{graph_hash(self.graph)}"')

    def _kept(self, kind: str, make: Callable[[], Entry]) -> Entry:
        """What `make` makes, where a pickle has not brought it, nor the cache has it."""
        name = self._key(kind)
        found = cache.brought(self.brought, name)
        if found is None and self.brought is not None:
            self.graph.verify()  # what damaged the code may have damaged the net
        if found is None and self.cached and name is not None:
            found = cache.lookup(name)
        if found is not None:
            in_range(self.graph, self.options["dtype"])  # as `plan` asks of what it is made from
            return found
        found = replace(make(), name=name)
        if self.cached and name is not None:
            cache.store(name, found)
        return found

    def _key(self, kind: str) -> str | None:
        """Of all that the passes see. They see no values of parameters but those that `options`
        has (to embed them), so a net that was trained further finds the code it had."""
        along = self._along()
        if isinstance(self.start, Module) or any(step.call not in PIPELINE for step in along):
            return None
        # What a file asks for is in the options, and its labels are in headers alone.
        unseen = {"values", "labels", "dtype", "numerics"}
        net = {f.name: getattr(self.graph, f.name) for f in fields(Graph) if f.name not in unseen}
        if kind.startswith("header"):
            net["labels"] = "\n".join(labels.lines(self.graph.labels, 2))
        options = {k: v for k, v in self.options.items() if k != "limit"}
        return cache.key(kind, net, self.graph.n_params, self.target, options, self.opt,
                         self.embedded, [(step.name, step.options) for step in along])


def descriptor(path: Path) -> int | None:
    """The number of an open file that the path is a name of: what it leads to may be a plain file,
    which others write to as well."""
    named = {"/dev/stdout": "1", "/dev/stderr": "2"}.get(str(path))
    found = re.fullmatch(r"/(?:dev|proc/self)/fd/([0-9]{1,9})", str(path))
    number = named or (found[1] if found else None)
    return None if number is None else int(number)


def plain(path: Path) -> bool:
    """Whether the path is, or will be, a file of its own, which others may lie beside."""
    return descriptor(path) is None and (os.path.isfile(path) or not os.path.exists(path))


def write(files: Mapping[Path, bytes]) -> None:
    """Write all files or none: each beside its place first, then renamed into it.

    A device or a pipe is written to as it is, what is open already (/dev/stdout) where it stands,
    and a symbolic link keeps pointing. NccError E622.
    """
    made: list[tuple[Path, Path]] = []
    try:
        for path, data in files.items():
            try:
                if path.is_dir():
                    raise IsADirectoryError(21, "is a directory")
                number = descriptor(path)
                if number is not None:
                    with open(number, "wb", closefd=False) as opened:
                        opened.write(data)
                    continue
                if path.exists() and not path.is_file():
                    path.write_bytes(data)
                    continue
                place = path.resolve() if path.is_symlink() else path
                # Named after nothing, as the name may already be as long as names can be. Opened
                # by `open`, not by tempfile, whose files have other rights than new files have.
                beside = place.parent / f".ncc-{os.getpid()}-{token_hex(8)}"
                with open(beside, "xb") as out:
                    made.append((beside, place))
                    out.write(data)
            except OSError as error:
                raise _unwritten(path, error) from None
        while made:
            beside, place = made[0]
            try:
                os.replace(beside, place)
            except OSError as error:
                raise _unwritten(place, error) from None
            made.pop(0)
    finally:
        for beside, _ in made:
            beside.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it. NccError E622."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritten(path, error) from None


def _unwritten(path: Path, error: OSError) -> NccError:
    return NccError("E622", f"cannot write {path}: {error.strerror or error}")
