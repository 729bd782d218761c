"""The cost card: what a net's object takes, as data, and as text for people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ncc.errors import NccError

SCHEMA = 1  # of `to_dict`: a key is added without a change of it, none is taken away
SORTS = (".rodata", ".ARM.exidx")  # of sections of tables, of which there may be many
SUFFIXES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
COUNTS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3}


@dataclass(frozen=True)
class Footprint:
    """Bytes: `code` and `tables` in flash; of the caller's memory `packed`, the largest `work` of a
    function, for `training` params and state, and the `state` of a net that has one; `stack` of the
    function that takes most, None where nobody knows."""

    code: int
    tables: int
    packed: int
    work: int
    training: int
    state: int
    stack: int | None

    @property
    def flash(self) -> int:
        return self.code + self.tables

    @property
    def ram(self) -> int:
        return sum(self.memory.values())

    @property
    def memory(self) -> dict[str, int]:
        """The parts of `ram`, by the names that people read."""
        return {"packed": self.packed, "work": self.work, "params and state": self.training,
                "state": self.state}

    def __str__(self) -> str:
        words = {"packed": f"packed {self.packed}", "work": f"work {self.work} at most"}
        words |= {name: f"{name} {n}" for name, n in self.memory.items() if n and name not in words}
        stack = "not known" if self.stack is None else f"{self.stack} at most"
        return (f"flash {self.flash} bytes (code {self.code}, tables {self.tables}), "
                f"RAM {self.ram} ({', '.join(words.values())}), stack {stack}")


@dataclass(frozen=True)
class Section:
    """A section of the object that is in flash: its `kind` is code or tables."""

    name: str
    bytes: int
    kind: str


@dataclass(frozen=True)
class FunctionCost:
    """A function: bytes of `stack` that it takes at most (None where nobody knows) and of `work`.

    Of one call, of one sample: `instructions` of the object that an emulator executes; how often
    the compiler's runtime is called (`runtime`, by name), and the instructions that this takes on
    average (`runtime_instructions`); the bytes of stack that the object's code wrote to
    (`stack_used`); None where not counted, or not known. `cycles` of all that are predicted,
    `cycles_by` what; None where nothing predicts them."""

    stack: int | None
    work: int
    instructions: int | None = None
    runtime: Mapping[str, int] | None = None
    runtime_instructions: int | None = None
    stack_used: int | None = None
    cycles: float | None = None
    cycles_by: str = ""


@dataclass(frozen=True)
class Cost:
    """What a net's object takes on its target.

    takes        the bytes of it, of which `flash` is in the `sections`
    macs, calls  of one sample forward: products of a weight and a value, and how often exp, tanh,
                 a division, ... is computed, by opcode
    functions    each function of the object
    counted_by   the emulator that counted instructions; `why_not` says why none did
    """

    net: str
    target: str
    dtype: str
    numerics: str
    small: bool
    embedded: bool
    forms: Mapping[str, str]
    sections: tuple[Section, ...]
    takes: Footprint
    neurons: int
    edges: int
    parameters: int
    macs: int
    calls: Mapping[str, int]
    functions: Mapping[str, FunctionCost]
    counted_by: str | None = None
    why_not: str = ""

    @property
    def flash(self) -> int:
        return self.takes.flash

    @property
    def ram(self) -> int:
        return self.takes.ram

    @property
    def stack(self) -> int | None:
        return self.takes.stack

    @property
    def cycles(self) -> float | None:
        """Of `forward`: predicted; None where nothing predicts them."""
        return self.functions["forward"].cycles if "forward" in self.functions else None

    @property
    def instructions(self) -> int | None:
        """Of `forward`: counted; None where they were not."""
        return self.functions["forward"].instructions if "forward" in self.functions else None

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; README of ncc/cli/ says what the keys mean."""
        found = asdict(self)
        takes, sections = found.pop("takes"), found.pop("sections")
        found |= {
            "schema": SCHEMA, "forms": dict(self.forms), "calls": dict(self.calls),
            "stack": takes.pop("stack"),
            "flash": {"bytes": self.flash, "code": takes.pop("code"),
                      "tables": takes.pop("tables"), "sections": list(sections)},
            "ram": {"bytes": self.ram, **takes},
            "functions": {name: asdict(f) for name, f in self.functions.items()}}
        return dict(sorted(found.items()))

    @property
    def text(self) -> str:
        """A table for people."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield (f"{self.net} on {self.target}: {self.dtype} {self.numerics}"
               + ", for few bytes" * self.small + ", weights in the code" * self.embedded)
        yield f"  neurons {self.neurons}, edges {self.edges}, parameters {self.parameters}"
        yield "forms " + ", ".join([f"{name} {form}" for name, form in self.forms.items()])
        yield (f"flash {self.flash:>10,}  code {self.takes.code:,}, "
               f"tables {self.takes.tables:,}")
        for name, size in self._grouped().items():
            yield f"  {size:>14,}  {name}"
        parts = [f"{name} {n:,}" for name, n in self.takes.memory.items() if n]
        yield f"RAM   {self.ram:>10,}  {', '.join(parts) or 'none'}"
        yield "stack " + ("  not known" if self.stack is None else f"{self.stack:>10,}")
        yield f"MACs  {self.macs:>10,}  of one sample"
        calls = ", ".join([f"{name} {n:,}" for name, n in self.calls.items()])
        yield f"calls {sum(self.calls.values()):>10,}  {calls or 'none'}"
        yield f"{'function':<22}{'stack':>8}{'work':>9}{'instructions':>14}{'cycles':>12}"
        for name, f in self.functions.items():
            cells = [f.stack, f.work, f.instructions, None if f.cycles is None else round(f.cycles)]
            shown = ["-" if n is None else f"{n:,}" for n in cells]
            yield (f"  {name:<20}{shown[0]:>8}{shown[1]:>9}{shown[2]:>14}{shown[3]:>12}").rstrip()
            if f.runtime:
                below = f.runtime_instructions
                yield (f"    and {'-' if below is None else f'some {below:,}'} in the compiler's "
                       "runtime: " + ", ".join([f"{c} {n:,}" for c, n in f.runtime.items()]))
        if self.counted_by:
            yield f"instructions of one call, counted by {self.counted_by}"
        else:
            yield f"instructions are not counted: {self.why_not}"
        for by in dict.fromkeys([f.cycles_by for f in self.functions.values() if f.cycles_by]):
            yield f"cycles are predicted: {by}"


    def _grouped(self) -> dict[str, int]:
        """Bytes of each section of code, and of the tables of a sort."""
        found: dict[str, int] = {}
        for section in sorted(self.sections, key=lambda section: section.kind):
            sort = [s for s in SORTS if section.name.startswith(s)] or [section.name]
            found[sort[0]] = found.get(sort[0], 0) + section.bytes
        return found


@dataclass(frozen=True)
class Limit:
    """A limit of the cost card: `what` is flash, ram, stack or cycles."""

    what: str
    most: int

    def of(self, cost: Cost) -> float | None:
        """What there is of it; of cycles that nothing predicts the instructions, of which each
        takes one at least."""
        if self.what == "cycles" and cost.cycles is None:
            return cost.instructions
        found: float | None = getattr(cost, self.what)
        return found

    def held(self, cost: Cost) -> bool:
        """Whether it is kept; NccError E403 where nobody knows."""
        found = self.of(cost)
        if found is None:
            why = f": {cost.why_not}" if self.what == "cycles" and cost.why_not else ""
            raise NccError("E403", f"nobody knows the {self.what} of a net on {cost.target}{why}",
                           help=f"no --max-{self.what}")
        return found <= self.most

    def broken(self, cost: Cost) -> str:
        """By how much it is broken, in words."""
        found = self.of(cost)
        assert found is not None
        words = {"ram": "RAM"}.get(self.what, self.what)
        unit = "" if self.what == "cycles" else " bytes"
        over = 100 * (found - self.most) / self.most if self.most else 0.0
        return (f"{words} {found:,.0f}, {found - self.most:,.0f}{unit} more than {self.most:,}"
                + f" ({over:.0f} %)" * bool(self.most))


def amount(text: str, what: str) -> int:
    """A number with a suffix: bytes by 1,024 (8K, 8kB, 8KiB, 1M), cycles by 1,000 (20k). NccError
    E609 (status 2) where it is none."""
    found = re.fullmatch(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([kKmMgG]?)(i?[bB])?\s*", text)
    if found is None or (what == "cycles" and found[3]):
        raise NccError("E609", f"--max-{what} {text[:40]!r} is no number"
                       + (" of bytes" if what != "cycles" else ""),
                       help="20000 or 20k" if what == "cycles" else "8192, 8K or 8kB")
    scale = (COUNTS if what == "cycles" else SUFFIXES)[found[2].lower()]
    return int(float(found[1]) * scale)
