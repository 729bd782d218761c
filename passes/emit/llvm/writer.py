"""What all files of this room share: a unit, that is a module that is being written, and a writer,
that is one of its functions: its lines, its values, and what is open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from ncc.ir.ssa import Func, Module, Op, types
from ncc.passes.emit.anchors import Window, windows
from ncc.passes.emit.links import Links
from ncc.passes.emit.llvm.varying import turning_loops, varying_values, wanted_in_lanes
from ncc.passes.emit.tables import cell
from ncc.passes.emit.tile_moves import Move

ROWS = 400  # ops: a straight function longer than this gets a basic block a row
Stride = int | str  # a constant, or the operand that has it


class Variant(NamedTuple):
    """A pure function over `parts` vectors of `native` reals each; 1, 1: over one real."""

    name: str
    native: int
    parts: int

    @property
    def symbol(self) -> str:
        """Its name in the module."""
        many = self.native * self.parts > 1
        return f"{self.name}.{self.native}x{self.parts}" if many else self.name


@dataclass
class Unit:
    """What the functions of a module share: the target, and what they want besides themselves."""

    module: Module
    vector_bits: int
    index_bits: int
    reach: int  # bytes
    registers: int
    elf: bool
    flash: int
    divides: bool
    assembles: int  # bits of the vectors of ncc's own assembly
    links: Links = field(default_factory=Links)
    used: set[str] = field(default_factory=set)  # declarations and constants
    applied: dict[Variant, None] = field(default_factory=dict)
    rare: dict[tuple[Op, ...], Func] = field(default_factory=dict)  # by their ops

    @property
    def bits(self) -> int:
        """Of a real."""
        return 32 if self.module.dtype == "f32" else 64

    @cached_property
    def cells(self) -> dict[str, str]:
        """The type of each table's cells in memory, where those are integers."""
        return {t.name: f"i{8 * cell(t).itemsize}" for t in self.module.tables}

    @cached_property
    def signed(self) -> set[str]:
        """The tables that have a negative integer."""
        return {t.name for t in self.module.tables
                if t.type == "i" and t.values.min(initial=0) < 0}

    def symbol(self, name: str) -> str:
        """Of a function, its name in the object."""
        return f"{self.module.name}_{name}"


@dataclass
class LanesLoop:
    """The lanes loop that is open: where the samples of its lanes are."""

    step: str = ""  # its index: the round's first sample
    whole: bool = False  # whether its rounds are, all of them
    chains: bool = False  # whether each lane is a chain of samples
    samples: list[int] = field(default_factory=list)  # of the elements of a round of lanes
    # Lane-dependent indices: the sample's, times a stride, plus something the same in every lane:
    # (stride, the operand or None). A stride may be an operand, too.
    affine: dict[int, tuple[Stride, str | None]] = field(default_factory=dict)
    firsts: dict[Stride, str] = field(default_factory=dict)  # by stride, of the round
    offsets: dict[Stride, list[str]] = field(default_factory=dict)  # from there, of the lanes
    # By stride, an array for the offsets of the lanes, and the line for them to be kept there.
    held: dict[Stride, tuple[str, int]] = field(default_factory=dict)
    most: str = ""  # in all lanes, how far the last sample is from the round's first
    real_lanes: list[str] = field(default_factory=list)  # by part, which hold a sample of their own
    kept_masks: str = ""  # an array of those


@dataclass
class Tile:
    """Square tiles between memory and vectors."""

    # The one that is read but not written yet: its first load, and the stores of its columns so
    # far, as (column, address).
    waiting: tuple[int, list[tuple[int, str]]] | None = None
    addresses: dict[int, str] = field(default_factory=dict)  # of loads that a tile's store makes
    # Tiles that ncc's own assembly moves, by their last stores; the ops that these make, too; and
    # the loops that they are in.
    moves: dict[int, Move] = field(default_factory=dict)
    moved: set[int] = field(default_factory=set)
    rolled: set[int] = field(default_factory=set)


@dataclass
class Sums:
    """Sums over the lanes that are not finished, and outer products."""

    chains: dict[int, list[str]] = field(default_factory=dict)  # of accumulates
    open: list[list[str]] = field(default_factory=list)  # chains whose sums are still to be made
    neighbours: int = 0  # how many they will be
    # By the first accrue of an outer product, its factors; by the last load of the second, that
    # factor, and what it is turned: a vector for each sample.
    outer: dict[int, tuple[list[int], tuple[int, ...]]] = field(default_factory=dict)
    turning: dict[int, tuple[int, ...]] = field(default_factory=dict)
    columns: dict[tuple[int, ...], list[list[str]]] = field(default_factory=dict)


class Writer:
    """A function that is being written: `lines` so far, and what its ops' values are called.

    `at` is the number of an op and of its value everywhere. A value that is the same in all lanes
    has an operand in `scalar`; one that varies has vectors in `vectors`, each of `native` lanes.
    """

    def __init__(self, unit: Unit, func: Func) -> None:
        module = unit.module
        self.unit, self.module, self.func = unit, module, func
        self.used = unit.used
        self.bits, self.size = unit.bits, unit.bits // 8  # of a real; its bytes
        self.real = "float" if module.dtype == "f32" else "double"
        self.index = f"i{unit.index_bits}"
        # The LLVM types of the ssa level's.
        self.kinds = {"f": self.real, "w": f"i{self.bits}", "i": self.index, "b": "i1"}
        self.widest = max(1, unit.vector_bits // self.bits)
        self.table = f"ptr addrspace({unit.flash})" if unit.flash else "ptr"  # to cells of tables
        self.gathers = unit.vector_bits >= 512
        self.flags = "reassoc contract nsz arcp " if module.numerics == "fast" else ""
        self.tables = {t.name: t for t in module.tables}
        self.private = {b.name for b in func.buffers if b.kind == "private"}
        self.indices = {b.name for b in func.buffers if b.kind == "indices"}
        self.by_value = {b.name for b in func.buffers if b.kind == "value"}
        self.plain = {b.name for b in func.buffers if b.kind not in ("private", "value", "indices")}
        self.types = types(func, {t.name: t.type for t in module.tables})
        self.varying = varying_values(func, self.private)
        self.splatted, self.entering = wanted_in_lanes(func, self.types, self.varying)
        # Loops whose vectors take turns; whether a mask is among their ops.
        self.elementwise = turning_loops(func, self.types, self.private, self.varying)
        self.lines: list[str] = []
        self.links = unit.links.of(func, self.lines)
        self.stack: list[str] = []  # arrays of the function's frame
        self.fresh = self.pointers = 0  # names, and pointers of windows, so far
        self.block = "entry"  # the block that is written
        self.done = 0  # the ops below this one are written
        self.scalar: dict[int, str] = {}
        self.vectors: dict[int, list[str]] = {}
        self.templates: dict[tuple[str, str, int], list[str]] = {}  # see `arithmetic.instruction`
        # One basic block a row: selecting instructions grows worse than linearly with a block.
        self.rows = len(func.ops) > ROWS and not any(op[0] == "for" for op in func.ops)
        self.windows: dict[int, Window] = {}  # of loads and stores
        if self.rows and unit.reach:
            near = [(at, *op[2]) for at, op in enumerate(func.ops)
                    if op[0] in ("load", "store") and op[2][0] in self.plain]
            self.windows = windows(near, 2 * unit.reach * 8 // self.bits)

        self.loops: list[tuple[int, list[int]]] = []  # that are open: `for`, carries
        self.holes: dict[tuple[int, int], int] = {}  # lines of phis that want their next value
        self.latches: list[tuple[int, str]] = []  # the lines that count, and their loops' names
        self.half: int | None = None  # which half of the lanes' vectors is written, if not all
        self.again = 0  # the `for` of the loop that is written twice
        self.adding: dict[int, bool] = {}  # whether a loop accumulates
        self.lanes = self.native = 1  # of the lanes loop that is open, and of a vector in it
        self.part = ""  # of the vector whose turn it is, its first lane
        self.open = LanesLoop()
        self.tile = Tile()
        self.sums = Sums()

    @cached_property
    def uses(self) -> list[int]:
        """How often each op's value is read."""
        found = [0] * len(self.func.ops)
        for op in self.func.ops:
            for r in op[1]:
                found[r] += 1
        return found

    def type(self, letter: str, vector: bool = False) -> str:
        """The LLVM type of a value of an ssa type, or of its vectors."""
        scalar = self.kinds[letter]
        return f"<{self.native} x {scalar}>" if vector and self.native > 1 else scalar

    def add(self, text: str) -> str:
        """Write an instruction: the name of its value."""
        self.fresh += 1
        name = f"%t{self.fresh}"
        self.lines.append(f"  {name} = {text}")
        return name

    def load(self, kind: str, place: str, align: int, to: str = "ptr") -> str:
        """Write a load of a value of the type `kind`; `to` is the type of the pointer."""
        return self.add(f"load {kind}, {to} {place}, align {align}")

    def store(self, kind: str, value: str, place: str, align: int) -> None:
        """Write a store."""
        self.lines.append(f"  store {kind} {value}, ptr {place}, align {align}")

    def beyond(self, base: str, far: str, element: str = "", to: str = "ptr") -> str:
        """Write the address of the element that is `far`, a typed operand, from `base`; of reals,
        where `element` does not say of what."""
        return self.add(f"getelementptr inbounds {element or self.real}, {to} {base}, {far}")

    def extract(self, element: str, vector: str, lane: int) -> str:
        """One lane of a vector; of a vector of one lane, itself."""
        return vector if self.native == 1 else self.add(
            f"extractelement <{self.native} x {element}> {vector}, i64 {lane}")

    def inserted(self, element: str, lanes: Iterable[str]) -> str:
        """A vector of scalars, each written when its turn comes; of a single lane, the scalar."""
        value = "poison"
        for lane, one in enumerate(lanes):
            value = one if self.native == 1 else self.add(
                f"insertelement <{self.native} x {element}> {value}, {element} {one}, i64 {lane}")
        return value

    def rolled(self) -> str:
        """The end of a jump to the head of a loop that is not to be unrolled."""
        self.used.add('!0 = distinct !{!0, !{!"llvm.loop.unroll.disable"}}')
        return ", !llvm.loop !0"

    def parts(self) -> int:
        """The number of vectors of a value that varies."""
        return 1 if self.part else max(1, self.lanes // self.native)

    def window(self) -> range:
        """The vectors of the lanes that are written now."""
        count = self.parts()
        return (range(count) if self.half is None
                else range(count // 2) if self.half == 0 else range(count // 2, count))

    def inside(self) -> int:
        """The lanes of a vector within 128 bits."""
        return min(self.native, 128 // self.bits)

    def splat(self, value: int) -> None:
        """Give a value that is the same in all lanes its vectors."""
        scalar = self.scalar[value]
        letter = self.types[value]
        if self.native == 1:
            self.vectors[value] = [scalar] * self.parts()
            return
        t = self.type(letter)
        full = f"splat ({t} {scalar})" if scalar[0] != "%" else self.broadcast(t, scalar)
        self.vectors[value] = [full] * self.parts()

    def broadcast(self, element: str, scalar: str) -> str:
        """A vector with a value of the LLVM type `element` in every lane."""
        v = f"<{self.native} x {element}>"
        one = self.add(f"insertelement {v} poison, {element} {scalar}, i64 0")
        return self.add(f"shufflevector {v} {one}, {v} poison, "
                        f"<{self.native} x i32> zeroinitializer")
