"""An engine as an object and a header, for C programs on any target."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ncc.driver.compiler import Build
from ncc.driver.engine_check import check_text
from ncc.driver.engine_header import header, of_many
from ncc.driver.observe import Watcher
from ncc.errors import NccError
from ncc.images.kinds import Kinds
from ncc.machine import cache
from ncc.machine.cache import Entry
from ncc.machine.footprint import footprint, stacks
from ncc.machine.targets import Target
from ncc.passes.lower.data.engine import engine


@dataclass(frozen=True)
class Emitted:
    """The engine of these kinds for a target, with the passes' `options`. With `cached`, its object
    comes from the cache where it has it. NccError E400 where it would take too much, E604 for a
    target whose indices are too short for an image's."""

    kinds: Kinds
    target: Target
    options: Mapping[str, Any]
    opt: int = 2
    watch: Watcher | None = None
    cached: bool = False

    def __post_init__(self) -> None:
        if self.target.index_bits < 32:
            raise NccError("E604", f"no engine for {self.target.name}: its indices have "
                           f"{self.target.index_bits} bits, those of images 32",
                           help="--emit obj, of each net")

    @property
    def lanes(self) -> int:
        lanes: int = self.options["lanes_data"]
        return lanes

    @cached_property
    def build(self) -> Build:
        """Its functions but the check, along the pipeline."""
        chosen = self.options
        module = engine(self.kinds, name=chosen["name"], dtype=chosen["dtype"],
                        numerics=chosen["numerics"], lanes_data=self.lanes)
        return Build(of_many(module), self.target, chosen, self.opt, self.watch)

    @cached_property
    def llvm(self) -> str:
        """The text of the whole object."""
        triple = self.target.triple
        return self.build.llvm + check_text(
            self.options["name"], self.kinds, self.options["dtype"], lanes=self.lanes,
            index_bits=self.target.index_bits, elf="linux" in triple or "none" in triple)

    @cached_property
    def made(self) -> Entry:
        """The object, and the bytes of stack that its functions take, by symbol; none where nobody
        knows."""
        options = {k: v for k, v in self.options.items() if k != "limit"}
        name = cache.key("engine object", self.kinds.kinds, self.target, options,
                         self.opt) if self.cached else None
        entry = None if name is None else cache.lookup(name)
        if entry is not None:
            return entry
        frames, _, code = self.build.machine().measured(self.llvm).partition(b"\n")
        found = stacks(self.llvm, json.loads(frames), self.target) or {}
        exported = [f"{self.options['name']}_{f.name}" for f in self.build.module.funcs
                    if f.exported] + [f"{self.options['name']}_engine_check"]
        entry = Entry(code, {"stacks": {f: found[f] for f in exported if f in found}})
        if name is not None:
            cache.store(name, entry)
        return entry

    def header(self) -> str:
        return header(self.kinds, self.build.module, self.target, self.lanes,
                      self.made.facts["stacks"])

    def footprint(self) -> str:
        """What the object takes; of memory each image says its own."""
        takes = footprint(self.made.code, [], 1, self.made.facts["stacks"])
        stack = "not known" if takes.stack is None else f"{takes.stack} at most"
        return (f"flash {takes.code + takes.tables} bytes (code {takes.code}, tables "
                f"{takes.tables}), RAM as an image wants it, stack {stack}")
