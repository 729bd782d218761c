"""The ssa module as the text of an LLVM module."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from ncc.ir.ssa import READ_ONLY, Func, Module, Op, Table, layout, types
from ncc.machine.model import PAGE
from ncc.machine.x86 import assembly, fits
from ncc.machine.x86_transpose import WIDTHS, Places, registers, turned
from ncc.passes.emit.anchors import Window, windows
from ncc.passes.emit.divide import division
from ncc.passes.emit.links import Links
from ncc.passes.emit.moves import Move, moves
from ncc.scalar.opcodes import EFFECTS, OPCODES, SUMS
from ncc.scalar.sum_order import CHAIN, ROUND

# {t} the type, {n} its width; {0} {1} {2} the operands. Two lines make two instructions.
INSTRUCTIONS = {
    "add": "fadd {t} {0}, {1}",
    "sub": "fsub {t} {0}, {1}",
    "mul": "fmul {t} {0}, {1}",
    "div": "fdiv {t} {0}, {1}",
    "fma": "call {t} @llvm.fma.{m}({t} {0}, {t} {1}, {t} {2})",
    "neg": "fneg {t} {0}",
    "abs": "call {t} @llvm.fabs.{m}({t} {0})",
    "sqrt": "call {t} @llvm.sqrt.{m}({t} {0})",
    "lt": "fcmp olt {t} {0}, {1}",
    "gt": "fcmp ogt {t} {0}, {1}",
    "le": "fcmp ole {t} {0}, {1}",
    "ge": "fcmp oge {t} {0}, {1}",
    "eq": "fcmp oeq {t} {0}, {1}",
    "une": "fcmp une {t} {0}, {1}",
    "bits": "bitcast {t} {0} to {w}",
    "unbits": "bitcast {w} {0} to {t}",
    "wadd": "add {w} {0}, {1}",
    "wsub": "sub {w} {0}, {1}",
    "wmul": "mul {w} {0}, {1}",
    "wand": "and {w} {0}, {1}",
    "wor": "or {w} {0}, {1}",
    "wxor": "xor {w} {0}, {1}",
    "wshl": "shl {w} {0}, {1}",
    "wshr": "lshr {w} {0}, {1}",
    "wsar": "ashr {w} {0}, {1}",
    "weq": "icmp eq {w} {0}, {1}",
    "wlt": "icmp slt {w} {0}, {1}",
    "iadd": "add {i} {0}, {1}",
    "imul": "mul {i} {0}, {1}",
    "imin": "icmp slt {i} {1}, {0}",
    "idiv": "udiv {i} {0}, {1}",
    # max(a, b) is b > a ? b : a: an instruction of its own where the machine has this very one
    "max": "fcmp ogt {t} {1}, {0}",
    "min": "fcmp olt {t} {1}, {0}",
    "select": "select {b} {0}, {s} {1}, {s} {2}",
    "real": "uitofp {i} {0} to {t}",
}
ROWS = 400  # ops: a straight function longer than this gets a basic block a row
LARGE = 1 << 16  # bytes of a table that is worth a symbol of its own
FAST = {"add", "sub", "mul", "div", "fma", "neg"}
BARRIERS = (EFFECTS - {"accumulate"}) | {"for", "yield"}  # between accumulates
INTRINSICS = ("fma", "abs", "sqrt")
ABREAST = 2  # vectors that a pure function takes at once: the one's latency hides the other's
# Loops of a function over rows that have no sums but activations, say, each of another kind: from
# so many on the vectors of their lanes take turns, so that the code stands once.
KINDS = 8
TURNING = 4  # ops of vectors in such a loop, at least
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


def to_llvm(module: Module, *, triple: str = "", vector_bits: int = 0, index_bits: int = 64,
            reach: int = 0, registers: int = 16, attributes: str = "", outside: bool = False,
            assembles: int = 0, flash: int = 0, divides: bool = True) -> str:
    """One LLVM module, as text.

        func forward(x in 2, y out 1) {
          %0 = load x[0]
          %1 = load x[1]
          %2 = fma %0, %1, %1
          store %2, y[0]
        }
        =>
        ...
        define void @net_forward(ptr noalias readonly %x, ptr noalias %y) #0 {
        entry:
          %t1 = load float, ptr %x, align 4
          %a1 = getelementptr inbounds float, ptr %x, i64 1
          %l1 = load float, ptr %a1, align 4
          %t2 = call float @llvm.fma.f32(float %t1, float %l1, float %l1)
          store float %t2, ptr %y, align 4
          ret void
        }
        ...

    Values of a lanes loop that differ from lane to lane become vectors of `vector_bits`, as many
    as the lanes need; a load is a vector load from a private buffer and one load a lane from
    elsewhere. A last round with too few samples repeats the last sample in the lanes left over,
    which then store the same bits to the same place. Where the loop's bounds are constants and
    its rounds are whole, consecutive elements are loaded and stored as whole vectors, of any
    alignment. As many loads (or stores) in a row, of consecutive elements of each lane's, as a
    vector has lanes are vector loads and a transposition. In long straight functions memory is
    addressed from pointers at most `reach` bytes away, where that is given
    (passes/emit/anchors.py).

    No function is called but intrinsics that are one instruction, and no name of a user's stands in
    the text.

    A loop whose sums are more than half of the `registers` is written twice, for one half of the
    lanes' vectors after the other: more rows share what is loaded, and no sum leaves its register.
    Where many loops do nothing but elementwise arithmetic on private memory, as those of many
    activations do, the vectors of their lanes take turns in a loop of their own.
    In a loop that accumulates, each lane of a vector is a chain of samples of
    ncc/scalar/sum_order.py: four vectors hold them, one sample each, and a vector may be longer
    than a round. Accrues of the outer product of values and a whole number of vectors' lanes of
    deltas are sums over the samples, one after the other, in which the deltas are the lanes; half
    of the registers hold sums.

    Straight functions of plain reals are assembly, ncc's own (ncc/machine/x86.py), on a target for
    which it `assembles`; so are, with vectors of up to so many bits, tiles that move between rows
    of samples and private memory (passes/emit/moves.py, ncc/machine/x86_transpose.py).

    Functions whose ops have neurons say those of their instructions (passes/emit/links.py).
    Tables are in the address space `flash`; where the target `divides` not, the module does.
    `outside` leaves out the cells of large tables: the process that loads the object has them in
    memory, and tells where. As text each of their bytes is three, which LLVM reads and copies.
    """
    real = "float" if module.dtype == "f32" else "double"
    # The name of the object's own file (its symbol of type FILE), which has none.
    head = [f'source_filename = "{module.name}"', f'target triple = "{triple}"']
    elf = "linux" in triple or "none" in triple
    lines = [*(head if triple else []), "", *_tables(module, outside, elf, vector_bits, flash)]
    used: set[str] = set()
    applied: dict[Variant, None] = {}
    rare: dict[tuple[Op, ...], Func] = {}
    links = Links()

    def writer(func: Func) -> _Writer:
        return _Writer(module, func, real, vector_bits, index_bits, reach, registers, used,
                       applied, rare, elf, flash, divides, links, assembles)

    for func in module.funcs:
        if assembles and func.exported and fits(func):
            lines.append(_assembled(module, func, applied, elf))
        elif not func.pure:
            lines.append(writer(func).text())
    lines += [*_variants(module, applied, rare, writer), *sorted(used), *links.lines]
    return "\n".join([*lines, *_attributes(module, attributes, assembles, bool(applied))]) + "\n"


def _variants(module: Module, applied: dict[Variant, None], rare: dict[tuple[Op, ...], Func],
              writer: Callable[[Func], _Writer]) -> Iterator[str]:
    """The texts of pure functions that are applied, each of which may apply others."""
    written: set[Variant] = set()
    while rest := [v for v in applied if v not in written]:
        written.update(rest)
        pure = {func.name: func for func in (*module.funcs, *rare.values())}
        yield from [writer(pure[v.name]).variant(v) for v in rest]


def _attributes(module: Module, attributes: str, assembles: int, applied: bool) -> list[str]:
    """The groups of attributes that functions name."""
    usual = "nounwind norecurse mustprogress"
    lines = [f"attributes #0 = {{ {usual} {attributes} }}",
             # The machine improves functions with loops; straight ones are as they should be.
             f'attributes #2 = {{ {usual} "loops" {attributes} }}',
             f"attributes #1 = {{ nounwind noinline norecurse {attributes} }}"]
    if any(func.exported for func in module.funcs) and assembles:
        lines.append(f"attributes #4 = {{ naked nounwind {attributes} }}")
    if applied:
        lines.append("attributes #3 = { nounwind noinline norecurse willreturn memory(none) "
                     f"{attributes} }}")
    return lines


def cell(table: Table) -> Any:
    """The dtype of a table's cells in memory: indices take two bytes where all of them can, since a
    loop that reads an index an edge waits for memory as often as for arithmetic; one byte, too."""
    if table.type != "i":
        return table.values.dtype
    most = int(table.values.max(initial=0)) if table.values.min(initial=0) >= 0 else 1 << 16
    return np.dtype(np.uint8 if most < 1 << 8 else np.uint16 if most < 1 << 16 else np.int32)


def large(table: Table) -> bool:
    """Whether the table is one of those that `outside` leaves out."""
    size: int = len(table.values) * cell(table).itemsize
    return size >= LARGE


def _tables(module: Module, outside: bool, elf: bool, vector_bits: int, flash: int
            ) -> Iterator[str]:
    for table in module.tables:
        if outside and large(table):
            size = len(table.values) * cell(table).itemsize
            yield f"@{module.name}.{table.name} = external constant [{size} x i8], align 64"
        else:
            yield _table(table, module.name, elf, vector_bits, flash)


def _table(table: Table, prefix: str, elf: bool, vector_bits: int, flash: int) -> str:
    # At the start of a cache line, where there may be one; flash is for bytes that mean something.
    align = 64 if vector_bits else cell(table).itemsize
    raw = np.ascontiguousarray(table.values, cell(table)).tobytes()
    shown = "".join(map(_ESCAPES.__getitem__, raw)) if len(raw) < 4096 else _escaped(raw)
    section = ".progmem.data" if flash else ".rodata"
    space = f"addrspace({flash}) " if flash else ""
    return (f'@{prefix}.{table.name} = private unnamed_addr {space}constant [{len(raw)} x i8] '
            f'c"{shown}", '
            + (f'section "{section}.{prefix}.{table.name}", ' if elf else "") + f"align {align}")


_ESCAPES = [f"\\{b:02X}" for b in range(256)]


def _escaped(raw: bytes) -> str:
    digits = np.frombuffer(b"0123456789ABCDEF", np.uint8)
    data = np.frombuffer(raw, np.uint8)
    out = np.empty((len(data), 3), np.uint8)
    out[:, 0] = ord("\\")
    for k in range(0, len(data), 1 << 16):  # an index takes eight bytes
        part = data[k : k + (1 << 16)]
        out[k : k + len(part), 1] = digits[part >> 4]
        out[k : k + len(part), 2] = digits[part & 15]
    return str(out.data.cast("B"), "ascii")


def _assembled(module: Module, func: Func, applied: dict[Variant, None], elf: bool) -> str:
    """The text of a function that is assembly."""
    called = []
    for opcode, _, imm in func.ops:
        if opcode == "apply":
            # Over vectors even where it is one real: those have their words in the same registers,
            # and it is one variant to compile.
            variant = Variant(imm, 128 // (32 if module.dtype == "f32" else 64), 1)
            applied[variant] = None
            called.append(f"{module.name}_{variant.symbol}")
    symbol = f"{module.name}_{func.name}"
    body = assembly(func, module.dtype, symbol, called).replace("\n", "\\0A")
    arguments = ", ".join([f"ptr %{b.name}" for b in func.buffers])
    section = f' section ".text.{symbol}"' if elf else ""
    return (f"define void @{symbol}({arguments}) #4{section} {{\nentry:\n"
            f'  call void asm sideeffect "{body}", ""()\n  unreachable\n}}\n')


class _Writer:
    def __init__(self, module: Module, func: Func, real: str, vector_bits: int, index_bits: int,
                 reach: int, registers: int, used: set[str], applied: dict[Variant, None],
                 rare: dict[tuple[Op, ...], Func], elf: bool, flash: int, divides: bool,
                 links: Links, assembles: int) -> None:
        self.module = module
        self.func, self.real = func, real
        self.registers = registers
        self.used = used
        self.applied, self.rare = applied, rare
        self.elf, self.divides = elf, divides
        self.table = f"ptr addrspace({flash})" if flash else "ptr"  # to cells of tables
        self.bits = 32 if real == "float" else 64
        self.index = f"i{index_bits}"
        self.widest = max(1, vector_bits // self.bits)
        self.native = 1  # the elements of a vector, in the lanes loop that is open
        self.whole = False  # whether its rounds are, all of them
        self.tables = {t.name: t for t in module.tables}
        self.cells = {t.name: f"i{8 * cell(t).itemsize}" for t in module.tables}
        self.private = {b.name for b in func.buffers if b.kind == "private"}
        self.indices = {b.name for b in func.buffers if b.kind == "indices"}
        self.by_value = {b.name for b in func.buffers if b.kind == "value"}
        self.plain = {b.name for b in func.buffers
                      if b.kind not in ("private", "value", "indices")}
        self.types = types(func, {t.name: t.type for t in module.tables})
        self.lines: list[str] = []
        self.links = links.of(func, self.lines)
        self.holes: dict[tuple[int, int], int] = {}  # lines of phis that want their next value
        self.scalar: dict[int, str] = {}
        self.vectors: dict[int, list[str]] = {}
        self.loops: list[tuple[int, list[int]]] = []  # that are open: `for`, carries
        self.again = 0  # the `for` of the loop that is written twice
        self.templates: dict[tuple[str, str, int], str] = {}
        # One basic block a row: selecting instructions grows worse than linearly with a block.
        self.rows = len(func.ops) > ROWS and not any(op[0] == "for" for op in func.ops)
        self.lanes = 1
        self.flags = "reassoc contract nsz arcp " if module.numerics == "fast" else ""
        self.varying, self.splatted, self.entering = self.analyse()
        # Lane-dependent indices: the sample's, times a stride, plus something the same in every
        # lane: (stride, the operand or None). A stride may be an operand, too.
        self.affine: dict[int, tuple[Stride, str | None]] = {}
        self.firsts: dict[Stride, str] = {}
        self.most = ""  # in all lanes, how far the last sample is from the round's first
        self.offsets: dict[Stride, list[str]] = {}
        self.gathers = vector_bits >= 512
        self.done = 0  # the ops below this one are written
        self.uses: list[int] = []
        self.lists = False  # whether any loop is not to be unrolled
        # A tile that is read but not written yet: its first load, and the stores of its columns
        # so far, as (column, address).
        self.waiting: tuple[int, list[tuple[int, str]]] | None = None
        self.stack: list[str] = []  # arrays of the function's frame
        # By stride, an array for the offsets of the lanes, and the line for them to be kept there.
        self.held: dict[Stride, tuple[str, int]] = {}
        self.parts_end = "", ""  # of a loop over parts: the next one, and whether there is one
        self.part = self.kept_masks = ""  # of the vector whose turn it is, its first lane; an array
        self.elementwise = self.find_elementwise()  # loops whose vectors take turns
        self.block = "entry"  # the block that is written
        self.addresses: dict[int, str] = {}  # of loads that their tile's store makes
        # Accumulates whose sums over the lanes are still to be made: vectors of chains.
        self.sums: list[list[str]] = []
        # By the first accumulate of an outer product, its factors; by the last load of the second,
        # that factor, and what it is turned: a vector for each sample.
        self.products_of: dict[int, tuple[list[int], tuple[int, ...]]] = {}
        self.turning: dict[int, tuple[int, ...]] = {}
        self.columns: dict[tuple[int, ...], list[list[str]]] = {}
        self.adding: dict[int, bool] = {}  # whether a loop accumulates
        self.find_products()
        self.moves = self.find_moves(assembles)
        self.moving: set[int] = set()  # loops that hold one
        self.skipped = {at for move in self.moves.values() for at in move.ops}
        self.half: int | None = None  # which half of the lanes' vectors is written, if not all
        self.products: dict[int, list[str]] = {}  # of accumulates, their chains
        self.neighbours = 0  # how many they will be
        self.samples: list[int] = []  # of the elements of a round of lanes
        self.chains = False  # whether each lane is a chain of samples
        self.step = ""  # the index of the lanes loop that is open
        self.real_lanes: list[str] = []  # for each part, which lanes hold a sample of their own
        self.windows: dict[int, Window] = {}  # of loads and stores
        self.fresh = self.pointers = 0  # names, and pointers of windows, so far
        if self.rows and reach:
            near = [(at, *op[2]) for at, op in enumerate(func.ops)
                    if op[0] in ("load", "store") and op[2][0] in self.plain]
            self.windows = windows(near, 2 * reach * 8 // self.bits)

    # -- which values differ from lane to lane

    def analyse(self) -> tuple[list[bool], list[bool], dict[int, dict[int, None]]]:
        """Which values vary; which others a vector op reads, so that they are wanted in every
        lane; and those of them that stand above a lanes loop, by the loop's number."""
        ops = self.func.ops
        varying = [False] * len(ops)
        entering: dict[int, dict[int, None]] = {}
        if not any(op[0] == "for" and op[2] for op in ops):
            return varying, varying, entering
        changed = True
        while changed:
            changed = False
            loops: list[list[int]] = []
            done: list[int] = []
            in_lanes: list[bool] = [False]
            for at, (opcode, reads, imm) in enumerate(ops):
                if opcode == "for":
                    loops.append([])
                    in_lanes.append(in_lanes[-1] or imm > 0)
                    now = imm > 0
                elif opcode == "any":
                    now = False
                elif opcode == "mask":
                    now = in_lanes[-1]
                elif opcode == "load":
                    now = imm[0] in self.private or any(varying[r] for r in reads)
                elif opcode == "apply":
                    now = any(varying[r] for r in reads)
                    done = [at] * len(reads)
                elif opcode == "result":
                    now = varying[done[imm]]
                else:
                    now = varying[at] or any(varying[r] for r in reads)
                if opcode == "carry":
                    loops[-1].append(at)
                elif opcode == "yield":
                    done = loops.pop()
                    in_lanes.pop()
                    for c, r in zip(done, reads, strict=True):
                        if varying[r] and not varying[c]:
                            varying[c] = changed = True
                    now = False
                varying[at] = now or varying[at]
        splatted = [False] * len(ops)
        loops = []
        start, depth = -1, 0  # the lanes loop that is open, and how deep
        for at, (opcode, reads, imm) in enumerate(ops):
            if opcode == "for":
                loops.append([])
                if imm:
                    start, depth = at, len(loops)
                    entering[at] = {}
            elif opcode == "carry":
                loops[-1].append(at)
            carries = loops.pop() if opcode == "yield" else []
            for k, r in enumerate(reads):
                mixed = varying[carries[k]] if carries else varying[at] or (
                    opcode in ("store", *SUMS))
                if start >= 0 and not varying[r] and mixed and self.types[r] in "fwb":
                    if r > start:
                        splatted[r] = True
                    else:
                        entering[start][r] = None
            if opcode == "yield" and len(loops) < depth:
                start, depth = -1, 0
        return varying, splatted, entering

    def find_elementwise(self) -> dict[int, bool]:
        """The loops over rows that do nothing but load private vectors, compute with them and store
        them, where there are many; and whether a mask is among their ops."""
        found: dict[int, bool] = {}
        start, vectors, masks = -1, 0, False  # of the innermost loop, while it is such a one
        in_lanes = False
        for at, (opcode, reads, imm) in enumerate(self.func.ops):
            if opcode == "for":
                in_lanes |= imm > 0
                start, vectors, masks = (-1 if imm or not in_lanes else at), 0, False
            elif opcode == "yield":
                if start >= 0 and vectors >= TURNING:
                    found[start] = masks
                start = -1
            elif start >= 0:
                vectors += TURNING if opcode == "apply" else self.varying[at]
                masks |= opcode == "mask"
                known = (opcode in ("const", "word", "index", "apply")
                         or opcode in OPCODES and opcode != "any" and self.types[at] != "i"
                         or opcode in ("load", "store") and imm[0] in self.private
                         or not self.varying[at] and (opcode == "load" or opcode in OPCODES))
                if not known or any(self.varying[r] and r < start for r in reads):
                    start = -1
        return found if len(found) > KINDS else {}

    # -- names and types

    def type(self, letter: str, vector: bool = False) -> str:
        scalar = {"f": self.real, "w": f"i{self.bits}", "i": self.index, "b": "i1"}[letter]
        return f"<{self.native} x {scalar}>" if vector and self.native > 1 else scalar

    def name(self) -> str:
        self.fresh += 1
        return f"%t{self.fresh}"

    def add(self, text: str) -> str:
        name = self.name()
        self.lines.append(f"  {name} = {text}")
        return name

    def parts(self) -> int:
        return 1 if self.part else max(1, self.lanes // self.native)

    def vector(self, value: int) -> list[str]:
        return self.vectors[value]

    def splat(self, value: int) -> None:
        scalar = self.scalar[value]
        letter = self.types[value]
        if self.native == 1:
            self.vectors[value] = [scalar] * self.parts()
            return
        t, v = self.type(letter), self.type(letter, True)
        if scalar[0] != "%":  # a literal
            self.vectors[value] = [f"splat ({t} {scalar})"] * self.parts()
            return
        one = self.add(f"insertelement {v} poison, {t} {scalar}, i64 0")
        mask = f"<{self.native} x i32> zeroinitializer"
        full = self.add(f"shufflevector {v} {one}, {v} poison, {mask}")
        self.vectors[value] = [full] * self.parts()

    # -- text

    def text(self) -> str:
        func = self.func
        offsets, _ = layout(func)
        arguments = [f"{self.index} %n"] if func.counted else []
        for b in func.buffers:
            if b.kind == "value":
                arguments.append(f"{self.real} %{b.name}")
            elif b.name in offsets and func.exported and len(offsets) > 1:
                if "ptr noalias %memory" not in arguments:
                    arguments.append("ptr noalias %memory")
                self.lines.append(f"  %{b.name} = getelementptr inbounds {self.real}, ptr %memory, "
                                  f"i64 {offsets[b.name]}")
            else:
                readonly = "readonly " if b.kind in READ_ONLY else ""
                arguments.append(f"ptr noalias {readonly}%{b.name}")
        self.body()
        ops = func.ops
        self.lines.append("  ret void")
        if self.lists:
            self.used.add('!0 = distinct !{!0, !{!"llvm.loop.unroll.disable"}}')
        kind, attribute = ("", "#0") if func.exported else ("internal fastcc ", "#1")
        lines = self.lines
        if any(op[0] == "for" for op in ops):
            attribute = "#2"
        if self.elf and func.exported:  # of its own, so that a linker drops what nobody calls
            attribute += f' section ".text.{self.symbol(func.name)}"'
        if self.links is not None:
            located, lines = self.links.end(self.symbol(func.name))
            attribute += located
        return (f"define {kind}void @{self.symbol(func.name)}({', '.join(arguments)}) {attribute} "
                "{\nentry:\n" + "\n".join([*self.stack, *filter(None, lines)]) + "\n}\n")

    def body(self) -> None:
        """Write the ops."""
        ops = self.func.ops
        self.block = "entry"
        at = -1
        while at + 1 < len(ops):
            at += 1
            opcode, reads, imm = ops[at]
            if at < self.done or opcode == "carry" or at in self.skipped:
                continue  # its `for` has written a carry, the last store of a tile what it moves
            if self.waiting is not None and not self.waits(at):
                self.write_tile()
            if self.links is not None:
                self.links.begin(at)
            varying = self.varying[at]
            if opcode == "const":
                self.scalar[at] = self.literal(imm)
            elif opcode in ("word", "index"):
                self.scalar[at] = str(imm)
            elif opcode == "count":
                self.scalar[at] = "%n"
            elif opcode in OPCODES:
                self.arithmetic(at)
            elif opcode == "apply":
                self.apply(at)
            elif opcode == "given":
                held = self.add(f"icmp ne ptr %{imm}, null")
                self.scalar[at] = self.add(f"zext i1 {held} to {self.index}")
            elif opcode in SUMS:
                self.accumulate(at)
            elif opcode == "load":
                self.write_load(at)
            elif opcode == "store":
                self.write_store(at)
            elif opcode == "lookup":
                self.lookup(at, varying)
            elif opcode == "for":
                self.open_loop(at)
                if self.func.pure:
                    self.apply_rare(at)
            elif opcode == "yield" and self.close_loop(at):  # and now the other vectors
                at = self.again - 1
                continue
            elif opcode in ("call", "call_at"):
                self.call(at)
            if self.splatted[at] and not varying and opcode != "for":
                self.splat(at)
            if at in self.turning:
                ds = self.turning[at]
                self.columns[ds] = [
                    [column for p in range(self.parts()) for column in self.transposed(
                        [self.vector(d)[p] for d in ds[k : k + self.native]])]
                    for k in range(0, len(ds), self.native)]
        if self.links is not None:
            self.links.begin(-1)

    def arithmetic(self, at: int) -> None:
        """Write an op of the table of opcodes."""
        opcode, reads, _ = self.func.ops[at]
        varying = self.varying[at]
        if varying and OPCODES[opcode].result == "i":
            self.affine[at] = self.lane_index(opcode, reads)
        elif opcode == "any":
            self.scalar[at] = self.any(reads[0])
        elif opcode == "idiv" and self.power(reads[1]):
            # What would be a call where a machine does not divide, and at -O0 stays one.
            self.scalar[at] = self.add(f"lshr {self.index} {self.scalar[reads[0]]}, "
                                       f"{self.power(reads[1])}")
        elif opcode == "mask":
            if varying:
                self.vectors[at] = self.masked(self.vector(reads[0]))
            else:
                self.scalar[at] = self.scalar[reads[0]]
        elif varying:
            args = [self.vector(r) for r in reads]
            letter = self.types[reads[-1]]
            self.vectors[at] = [
                self.instruction(opcode, [a[p] for a in args], letter, True)
                if p in self.window() else "" for p in range(self.parts())
            ]
        else:
            operands = [self.scalar[r] for r in reads]
            self.scalar[at] = self.instruction(opcode, operands, self.types[reads[-1]], False)

    def write_load(self, at: int) -> None:
        _, reads, imm = self.func.ops[at]
        name, offset = imm
        if name in self.by_value:
            self.scalar[at] = f"%{name}"
        # Most of the ops of straight code.
        elif (not reads and name in self.plain and self.half is None
                and (offset or at in self.windows)):
            self.scalar[at] = loaded = f"%l{at}"
            base, far = self.pointer(at)
            self.lines.append(f"  %a{at} = getelementptr inbounds {self.real}, ptr {base}, "
                              f"i64 {far}")
            self.lines.append(f"  {loaded} = load {self.real}, ptr %a{at}, "
                              f"align {self.bits // 8}")
        elif self.varying[at] and self.is_tile(at):
            self.load_tile(at)
        elif name in self.private and self.delayed(at):
            self.addresses[at] = self.address(
                name, offset, self.scalar[reads[0]] if reads else None, self.lanes)
        else:
            if self.loops and self.loops[-1][1] and self.streams(at):
                self.prefetch(name, self.scalar[reads[0]])
            self.load(at, reads, imm, self.varying[at])

    def write_store(self, at: int) -> None:
        _, reads, imm = self.func.ops[at]
        name, offset = imm
        if at in self.moves:
            self.move(self.moves[at])
        elif self.waiting is not None:
            index = self.scalar[reads[1]] if len(reads) > 1 else None
            self.waiting[1].append((reads[0] - self.waiting[0],
                                    self.address(name, offset, index, self.lanes)))
        elif self.is_tile(at):
            self.store_tile(at)
        elif at in self.windows:
            base, far = self.pointer(at)
            self.lines.append(f"  %a{at} = getelementptr inbounds {self.real}, ptr {base}, "
                              f"i64 {far}")
            self.lines.append(f"  store {self.real} {self.scalar[reads[0]]}, ptr %a{at}, "
                              f"align {self.bits // 8}")
        else:
            self.store(reads, imm)
        if self.rows and name == "work":
            self.lines += [f"  br label %row{at}", f"row{at}:"]

    def call(self, at: int) -> None:
        opcode, reads, imm = self.func.ops[at]
        if opcode == "call":
            passed = ", ".join([f"ptr %{b.name}" for b in self.module.func(imm).buffers])
            self.lines.append(f"  call fastcc void @{self.symbol(imm)}({passed})")
            return
        moved = dict(zip(imm[1], reads, strict=True))
        passed = ", ".join(["ptr " + (
            self.address(b.name, 0, self.scalar[moved[b.name]]) if b.name in moved
            else f"%{b.name}") for b in self.module.func(imm[0]).buffers])
        self.lines.append(f"  call void @{self.symbol(imm[0])}({passed})")

    # -- loops

    def open_loop(self, at: int) -> None:
        """Write the head of a loop, with its carries."""
        ops = self.func.ops
        _, reads, lanes = ops[at]
        mine: list[int] = []
        while ops[at + 1 + len(mine)][0] == "carry":
            mine.append(at + 1 + len(mine))
        self.loops.append((at, mine))
        if lanes:
            self.native, self.lanes = self.shape(at)
        lo, hi = self.scalar[reads[0]], self.scalar[reads[1]]
        turns = self.parts() if at in self.elementwise else 1
        if turns > 1:
            lo, hi = [f"{int(bound) * turns}" if bound[0] != "%" else self.add(
                f"mul {self.index} {bound}, {turns}") for bound in (lo, hi)]
        if self.half is None and self.too_many(at, mine):
            self.half = 0
        turn = f"{at}again" if self.half else f"{at}"
        self.lines += [f"  br label %head{turn}", f"head{turn}:"]
        self.scalar[at] = f"%k{turn}"
        self.lines.append(f"  %k{turn} = phi {self.index} [ {lo}, %{self.block} ], "
                          f"[ %next{turn}, %latch{turn} ]")
        for c in mine:
            self.carry(c, turn, self.block, ops[c][1][0])
        self.lines += [f"  %go{turn} = icmp slt {self.index} %k{turn}, {hi}",
                       f"  br i1 %go{turn}, label %body{turn}, label %exit{turn}",
                       f"body{turn}:"]
        self.block = f"body{turn}"
        if lanes:
            self.open_lanes(at, reads, hi)
        for c in mine:
            if self.splatted[c]:
                self.splat(c)
        if turns > 1:
            self.scalar[at] = self.add(f"udiv {self.index} %k{turn}, {turns}")
            number = self.add(f"urem {self.index} %k{turn}, {turns}")
            self.part = self.add(f"mul {self.index} {number}, {self.native}")

    def close_loop(self, at: int) -> bool:
        """Write the end of a loop, at its yield; whether it is written once `again`, from its `for`
        on, for the other half of the lanes' vectors."""
        ops, reads = self.func.ops, self.func.ops[at][1]
        start, done = self.loops.pop()
        self.part = ""
        turn = f"{start}again" if self.half else f"{start}"
        step = self.lanes if ops[start][2] else 1
        # A loop that begins where a table says is over a list, and most lists are short.
        # One that carries nothing hides no latency when it is unrolled.
        first, last = [ops[r][0] for r in ops[start][1]]
        # Assembly is one instruction to LLVM, however long it is.
        listed = (first == "load" or not done and last not in ("index", "count")
                  or start in self.moving)
        self.lists |= listed
        self.lines += [f"  br label %latch{turn}", f"latch{turn}:",
                       f"  %next{turn} = add nuw nsw {self.index} %k{turn}, {step}",
                       f"  br label %head{turn}" + ", !llvm.loop !0" * listed, f"exit{turn}:"]
        self.block = f"exit{turn}"
        for c, r in zip(done, reads, strict=True):
            for p in self.window() if self.varying[c] else range(1):
                value = self.vectors[r][p] if self.varying[c] else self.scalar[r]
                hole = self.holes[(c, p)]
                self.lines[hole] = self.lines[hole].replace("?", value)
        if self.half == 0:
            self.half, self.again = 1, start
            return True
        self.half = None
        for later in range(at + 1, min(len(ops), at + 1 + len(done))):
            if ops[later][0] == "result":
                c = done[ops[later][2]]
                if self.varying[c]:
                    self.vectors[later] = self.vectors[c]
                else:
                    self.scalar[later] = self.scalar[c]
        if ops[start][2]:
            self.lanes = self.native = 1
        return False

    def symbol(self, name: str) -> str:
        return f"{self.module.name}_{name}"

    # -- pure functions

    def variant(self, variant: Variant) -> str:
        """The text of a pure function that takes its arguments as vectors."""
        self.native = variant.native
        self.lanes = variant.native * variant.parts
        arguments = [f"%a{p}" for p in range(variant.parts)]
        ops = self.func.ops
        if self.lanes > 1:
            fixed = ("const", "word")
            self.splatted = [op[0] in fixed for op in ops]
            self.varying = [letter in ("f", "w", "b") and op[0] not in fixed
                            for letter, op in zip(self.types, ops, strict=True)]
        for at, (opcode, _, _) in enumerate(ops):
            if opcode == "argument":
                self.vectors[at], self.scalar[at] = arguments, arguments[0]
        self.body()
        results = [(self.type(self.types[r], True), part) for r in ops[-1][1]
                   for part in (self.vectors[r] if self.lanes > 1 else [self.scalar[r]])]
        kind = self.type("f", True)
        whole = self.several(variant, [self.types[r] for r in ops[-1][1]])
        result = results[0][1]
        if len(results) > 1:
            result = "poison"
            for p, (each, part) in enumerate(results):
                result = self.add(f"insertvalue {whole} {result}, {each} {part}, {p}")
        self.lines.append(f"  ret {whole} {result}")
        located, lines = "", self.lines
        if self.links is not None:
            located, lines = self.links.end(self.symbol(variant.symbol))
        parameters = ", ".join([f"{kind} {a}" for a in arguments])
        return (f"define internal fastcc {whole} @{self.symbol(variant.symbol)}({parameters}) "
                f"#3{located} {{\nentry:\n" + "\n".join(lines) + "\n}\n")

    def several(self, variant: Variant, letters: Sequence[str] = "f") -> str:
        """The type of so many vectors of each of these types."""
        kinds = []
        for letter in letters:
            scalar = self.type(letter)
            kind = f"<{variant.native} x {scalar}>" if variant.native > 1 else scalar
            kinds += [kind] * variant.parts
        return f"{{ {', '.join(kinds)} }}" if len(kinds) > 1 else kinds[0]

    def apply(self, at: int) -> None:
        """Write an apply, and the results behind it: of vectors, ABREAST in a call."""
        _, reads, name = self.func.ops[at]
        for result, read in enumerate(reads, at):
            if not self.varying[at]:
                self.scalar[result] = self.called(Variant(name, 1, 1), [self.scalar[read]])[0]
                continue
            parts = self.vector(read)
            self.vectors[result] = [
                value for p in range(0, len(parts), ABREAST) for value in self.called(
                    Variant(name, self.native, len(parts[p : p + ABREAST])),
                    parts[p : p + ABREAST])]

    def apply_rare(self, at: int) -> None:
        """What a loop of a pure function computes of one value where something rare holds: applied,
        as other functions have the same, and it is long."""
        ops = self.func.ops
        count = len(self.loops[-1][1])
        first, end = at + 1 + count, next(
            k for k in range(at, len(ops)) if ops[k][0] == "yield") - count
        if ops[ops[at][1][1]][0] != "any" or {op[0] for op in ops[end : end + count]} != {"select"}:
            return
        above = sorted({r for op in ops[first:end] for r in op[1] if r < first})
        argument = [r for r in above if ops[r][0] not in ("const", "word")]
        made = [op[1][1] for op in ops[end : end + count]]
        if len(argument) != 1 or self.types[argument[0]] != "f" or min(made) < first:
            return
        number = {r: k for k, r in enumerate([*argument, *[r for r in above if r != argument[0]],
                                              *range(first, end)])}
        body: list[Op] = [("argument", (), None)]
        for r in list(number)[1:]:
            opcode, reads, imm = ops[r]
            body.append((opcode, tuple([number[k] for k in reads]), imm))
        body.append(("return", tuple([number[r] for r in made]), None))
        func = self.rare.setdefault(tuple(body), Func(
            f"rare{len(self.rare)}", (), body, exported=False, pure=True))
        variant = Variant(func.name, self.native, self.parts())
        x = self.vector(argument[0]) if self.varying[argument[0]] else [self.scalar[argument[0]]]
        results = self.called(variant, x, [self.types[r] for r in made])
        for k, r in enumerate(made):
            mine = results[k * len(x) : (k + 1) * len(x)]
            self.vectors[r], self.scalar[r] = mine, mine[0]
        self.done = end

    def called(self, variant: Variant, arguments: Sequence[str], letters: Sequence[str] = "f"
               ) -> list[str]:
        self.applied[variant] = None
        kind, whole = self.several(variant._replace(parts=1)), self.several(variant, letters)
        result = self.add(f"call fastcc {whole} @{self.symbol(variant.symbol)}("
                          + ", ".join([f"{kind} {a}" for a in arguments]) + ")")
        if variant.parts * len(letters) == 1:
            return [result]
        return [self.add(f"extractvalue {whole} {result}, {p}")
                for p in range(variant.parts * len(letters))]

    def too_many(self, at: int, carries: list[int]) -> bool:
        """Whether the sums of a loop are more than half the registers hold, so that it is written
        twice, for one half of the lanes' vectors after the other. It does nothing else then."""
        if len(carries) * self.parts() <= self.registers // 2 or self.parts() % 2 or not all(
                [self.varying[c] for c in carries]):
            return False
        end = at + 1 + len(carries)
        for k, (opcode, _, imm) in enumerate(self.func.ops[end:], end):
            if opcode == "yield":
                return True
            if opcode == "load" and self.varying[k] and imm[0] not in self.private or (
                    opcode not in ("load", "const", "index", "iadd", "imul", "fma", "mul", "add")):
                return False
        return False

    def window(self) -> range:
        """The vectors of the lanes that are written now."""
        count = self.parts()
        return (range(count) if self.half is None
                else range(count // 2) if self.half == 0 else range(count // 2, count))

    def carry(self, c: int, turn: str, block: str, init: int) -> None:
        letter = self.types[c]
        if self.varying[c]:
            self.vectors[c] = [f"%c{c}_{p}" for p in range(self.parts())]
            t = self.type(letter, True)
            for p in self.window():
                self.holes[(c, p)] = len(self.lines)
                self.lines.append(f"  %c{c}_{p} = phi {t} [ {self.vector(init)[p]}, %{block} ], "
                                  f"[ ?, %latch{turn} ]")
        else:
            self.holes[(c, 0)] = len(self.lines)
            self.lines.append(f"  %c{c} = phi {self.type(letter)} "
                              f"[ {self.scalar[init]}, %{block} ], [ ?, %latch{turn} ]")
            self.scalar[c] = f"%c{c}"

    def literal(self, value: float) -> str:
        # A double's bits serve both: LLVM writes a float constant as the double of its value.
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"

    def instruction(self, opcode: str, args: Sequence[str], letter: str, vector: bool) -> str:
        if opcode == "div" and not self.divides:
            self.used.add(division(self.module.name))
            return self.add(f"call float @{self.module.name}.divide(float {args[0]}, "
                            f"float {args[1]})")
        key = (opcode, letter, self.native if vector else 0)
        template = self.templates.get(key)
        if template is None:
            template = self.templates[key] = self.template(opcode, letter, vector)
        result = self.add(template.format(*args))
        if opcode in ("max", "min", "imin"):
            t = self.type("i" if opcode == "imin" else "f", vector)
            result = self.add(f"select {self.type('b', vector)} {result}, {t} {args[1]}, "
                              f"{t} {args[0]}")
        return result

    def template(self, opcode: str, letter: str, vector: bool) -> str:
        """The instruction with its types filled in and its operands open."""
        t = self.type("f", vector)
        many = vector and self.native > 1
        m = f"v{self.native}f{self.bits}" if many else f"f{self.bits}"
        text = INSTRUCTIONS[opcode].format(
            "{0}", "{1}", "{2}", t=t, m=m, w=self.type("w", vector), i=self.index,
            b=self.type("b", vector), s=self.type(letter, vector))
        if opcode in INTRINSICS:
            name = text.split("@")[1].split("(")[0]
            arguments = ", ".join([t] * len(OPCODES[opcode].reads))
            self.used.add(f"declare {t} @{name}({arguments})")
        if self.flags and opcode in FAST:
            word, rest = text.split(" ", 1)
            text = f"{word} {self.flags}{rest}"
        return text

    def power(self, value: int) -> int:
        """Of which power of two a constant index is the value; 0 of none, and of 1."""
        opcode, _, imm = self.func.ops[value]
        return imm.bit_length() - 1 if opcode == "index" and imm > 0 and not imm & imm - 1 else 0

    def any(self, value: int) -> str:
        """Whether a truth value holds in any lane, as an index."""
        if not self.varying[value]:
            return self.add(f"zext i1 {self.scalar[value]} to {self.index}")
        parts, t = self.vector(value), self.type("b", True)
        while len(parts) > 1:
            parts = [*parts[2:], self.add(f"or {t} {parts[0]}, {parts[1]}")]
        held = parts[0]
        if self.native > 1:
            name = f"@llvm.vector.reduce.or.v{self.native}i1"
            self.used.add(f"declare i1 {name}({t})")
            held = self.add(f"call i1 {name}({t} {held})")
        return self.add(f"zext i1 {held} to {self.index}")

    # -- memory

    def address(self, name: str, offset: int, index: str | None, scale: int = 1) -> str:
        """The address of element (index + offset) * scale."""
        table = self.tables.get(name)
        base = f"@{self.module.name}.{name}" if table is not None else f"%{name}"
        element = self.element(name)
        if index is None:
            if offset == 0:  # a gep by 0 makes LLVM half as slow again over a whole function
                return base
            return self.add(f"getelementptr inbounds {element}, {self.to(name)} {base}, "
                            f"{self.index} {offset * scale}")
        if offset:
            index = self.add(f"add nsw {self.index} {index}, {offset}")
        if scale != 1:
            index = self.add(f"mul nsw {self.index} {index}, {scale}")
        return self.add(f"getelementptr inbounds {element}, {self.to(name)} {base}, "
                        f"{self.index} {index}")

    def to(self, name: str) -> str:
        """The type of a pointer to a table or a buffer."""
        return self.table if name in self.tables else "ptr"

    def own(self, base: str) -> str:
        """The address of the vector whose turn it is, of the lanes at `base`."""
        return self.beside(base, self.part) if self.part else base

    def element(self, name: str) -> str:
        """The type of the elements of a table or a buffer in memory."""
        table = self.tables.get(name)
        if name in self.indices:
            return "i32"
        if table is None or table.type == "f":
            return self.real
        return self.cells[name] if table.type == "i" else f"i{self.bits}"

    def pointer(self, at: int) -> tuple[str, int]:
        """The pointer from which the load or store at `at` is addressed, and how far from it."""
        name, element = self.func.ops[at][2]
        window = self.windows.get(at)
        if window is None:
            return f"%{name}", element
        if window.number == self.pointers:
            self.pointers += 1
            center = self.address(name, window.center, None)
            # No instruction, but one that LLVM does not look into: it would add up the distances.
            self.lines.append(f'  %w{window.number} = call ptr asm "", "=r,0"(ptr {center})')
        return f"%w{window.number}", element - window.center

    def streams(self, at: int) -> bool:
        """Whether the loads from here on, in a loop of sums, are of a block's weights: neighbours,
        the same for all lanes. They follow one another in memory and are read once a round of
        samples, so those of a large net come from afar each time."""
        opcode, reads, (name, offset) = self.func.ops[at]
        return (self.native > 1 and len(reads) == 1 and offset == 0 and self.types[at] == "f"
                and name not in self.private and not self.varying[at]
                and self.func.ops[at + 1] == (opcode, reads, (name, 1)))

    def prefetch(self, name: str, index: str) -> None:
        one = self.address(name, 0, index)
        ahead = self.add(f"getelementptr i8, ptr {one}, i64 {PAGE}")  # past the end, at the end
        self.lines.append(f"  call void @llvm.prefetch.p0(ptr {ahead}, i32 0, i32 3, i32 1)")
        self.used.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")

    def load(self, at: int, reads: tuple[int, ...], imm: Any, varying: bool) -> None:
        name, offset = imm
        size = self.bits // 8
        if name in self.private:
            index = self.scalar[reads[0]] if reads else None
            base = self.own(self.address(name, offset, index, self.lanes))
            v = self.type("f", True)
            align = size * self.native
            self.vectors[at] = [""] * self.parts()
            for p in self.window():
                a = base if p == 0 else self.add(
                    f"getelementptr inbounds {self.real}, ptr {base}, i64 {p * self.native}")
                self.vectors[at][p] = self.add(f"load {v}, ptr {a}, align {align}")
        elif varying and name in self.indices:
            if self.contiguous(reads[0]):
                self.vectors[at] = [self.add(f"load <{self.native} x i32>, ptr {a}, align 4")
                                    for a in self.vector_addresses(name, offset, reads[0])]
            else:
                self.vectors[at] = [self.inserted("i32", [
                    self.add(f"load i32, ptr {a}, align 4") for a in self.lane_addresses(
                        name, offset, reads[0], p)]) for p in range(self.parts())]
        elif varying and reads[0] not in self.affine:
            base = self.address(name, offset, None)
            self.vectors[at] = [self.gathered(name, base, part)
                                for part in self.vector(reads[0])]
        elif varying and self.contiguous(reads[0]):
            v = self.type("f", True)
            self.vectors[at] = [self.add(f"load {v}, ptr {a}, align {size}")
                                for a in self.vector_addresses(name, offset, reads[0])]
        elif varying:
            t, v = self.real, self.type("f", True)
            self.vectors[at] = []
            for p in range(self.parts()):
                if self.gathers and self.native > 1 and not self.whole:
                    a = self.all_addresses(name, offset, reads[0], p)
                    self.vectors[at].append(self.gather(a, "f"))
                    continue
                value = "poison"
                for lane, a in enumerate(self.lane_addresses(name, offset, reads[0], p)):
                    one = self.add(f"load {t}, {self.to(name)} {a}, align {size}")
                    if self.native == 1:
                        value = one
                    else:
                        value = self.add(f"insertelement {v} {value}, {t} {one}, i64 {lane}")
                self.vectors[at].append(value)
        else:
            table = self.tables.get(name)
            a = self.address(name, offset, self.scalar[reads[0]] if reads else None)
            if name in self.indices or table is not None and table.type == "i":
                stored = self.element(name)
                loaded = self.add(f"load {stored}, {self.to(name)} {a}, "
                                  f"align {int(stored[1:]) // 8}")
                self.scalar[at] = self.widened(loaded, stored)
            else:
                t = self.real if table is None or table.type == "f" else f"i{self.bits}"
                self.scalar[at] = self.add(f"load {t}, {self.to(name)} {a}, align {size}")

    def widened(self, loaded: str, stored: str) -> str:
        """An index of the type `stored` as one of the machine's."""
        if stored == self.index:
            return loaded
        word = "trunc" if int(stored[1:]) > int(self.index[1:]) else "zext"
        return self.add(f"{word} {stored} {loaded} to {self.index}")

    def inserted(self, element: str, lanes: list[str]) -> str:
        """A vector of scalars; of a single lane, the scalar."""
        value = "poison"
        for lane, one in enumerate(lanes):
            value = one if self.native == 1 else self.add(
                f"insertelement <{self.native} x {element}> {value}, {element} {one}, i64 {lane}")
        return value

    def gathered(self, name: str, base: str, indices: str) -> str:
        """The reals at a vector of indices of 32 bits, each from `base`, which is in `name`."""
        n = self.native
        if self.gathers and n > 1:
            return self.gather(self.add(f"getelementptr inbounds {self.real}, ptr {base}, "
                                        f"<{n} x i32> {indices}"), "f")
        lanes = [indices] if n == 1 else [
            self.add(f"extractelement <{n} x i32> {indices}, i64 {lane}") for lane in range(n)]
        to = self.to(name)
        lanes = [self.add(f"getelementptr inbounds {self.real}, {to} {base}, i32 {lane}")
                 for lane in lanes]
        return self.inserted(self.real, [
            self.add(f"load {self.real}, {to} {a}, align {self.bits // 8}") for a in lanes])

    def gather(self, addresses: str, letter: str) -> str:
        """A load of a real or a word for each lane."""
        n, v = self.native, self.type(letter, True)
        kind = f"v{n}{'f' if letter == 'f' else 'i'}{self.bits}"
        name = f"{v} @llvm.masked.gather.{kind}.v{n}p0"
        self.used.add(f"declare {name}(<{n} x ptr>, i32, <{n} x i1>, {v})")
        return self.add(f"call {name}(<{n} x ptr> {addresses}, i32 {self.bits // 8}, "
                        f"<{n} x i1> splat (i1 true), {v} poison)")

    def store(self, reads: tuple[int, ...], imm: Any) -> None:
        name, offset = imm
        size = self.bits // 8
        value = reads[0]
        if name in self.private:
            base = self.own(self.address(
                name, offset, self.scalar[reads[1]] if len(reads) > 1 else None, self.lanes))
            v = self.type("f", True)
            for p, part in enumerate(self.vector(value)):
                a = base if p == 0 else self.add(
                    f"getelementptr inbounds {self.real}, ptr {base}, i64 {p * self.native}")
                self.lines.append(f"  store {v} {part}, ptr {a}, align {size * self.native}")
        elif len(reads) > 1 and self.varying[reads[1]] and self.contiguous(reads[1]):
            v = self.type("f", True)
            for part, a in zip(self.vector(value),
                               self.vector_addresses(name, offset, reads[1]), strict=True):
                self.lines.append(f"  store {v} {part}, ptr {a}, align {size}")
        elif len(reads) > 1 and self.varying[reads[1]]:
            for p, lanes in self.storing(reads[1]):
                part = self.vector(value)[p]
                if self.gathers and self.native > 1 and not self.whole:
                    v, n = self.type("f", True), self.native
                    call = (f"void @llvm.masked.scatter.v{n}f{self.bits}.v{n}p0({v}",
                            f"<{n} x ptr>", f"<{n} x i1>")
                    self.used.add(f"declare {call[0]}, {call[1]}, i32, {call[2]})")
                    a = self.all_addresses(name, offset, reads[1], p)
                    # Not of the lanes that repeat the last sample: they may have other values.
                    own = self.add(f"icmp ule <{n} x i32> {self.numbered(p)}, {self.most}")
                    self.lines.append(f"  call {call[0]} {part}, {call[1]} {a}, i32 {size}, "
                                      f"{call[2]} {own})")
                    continue
                addresses = self.lane_addresses(name, offset, reads[1], p)
                for lane in lanes:
                    one, a = part, addresses[lane]
                    if self.native > 1:
                        one = self.add(f"extractelement {self.type('f', True)} {part}, i64 {lane}")
                    self.lines.append(f"  store {self.real} {one}, ptr {a}, align {size}")
        else:
            a = self.address(name, offset, self.scalar[reads[1]] if len(reads) > 1 else None)
            self.lines.append(f"  store {self.real} {self.scalar[value]}, ptr {a}, align {size}")

    def storing(self, index: int) -> list[tuple[int, list[int]]]:
        """The vectors of the lanes, and the lanes of each, in the order in which they store: of
        those that repeat a sample, whose masks are 0, none comes after the one that has it for its
        own."""
        n = self.native
        vectors = [self.samples[p * n : (p + 1) * n] for p in range(self.parts())]
        if self.whole or not self.affine[index][0]:
            return [(p, list(range(n))) for p in range(len(vectors))]
        chain = CHAIN if self.chains else 1
        order = sorted(range(len(vectors)), key=lambda p: (vectors[p][0] % chain, p), reverse=True)
        return [(p, sorted(range(n), key=vectors[p].__getitem__, reverse=True)) for p in order]

    # -- sums over the lanes

    def masked(self, parts: list[str]) -> list[str]:
        """`parts`, and +0 in the lanes that repeat the last sample."""
        if not self.real_lanes:
            return parts
        v, w = self.type("f", True), self.type("w", True)
        masks = self.real_lanes
        if self.part:
            own = self.add(f"getelementptr inbounds i{self.bits}, ptr {self.kept_masks}, "
                           f"{self.index} {self.part}")
            masks = [self.add(f"load {w}, ptr {own}, align {self.bits // 8 * self.native}")]
        words = [self.add(f"and {w} {mask}, " + self.add(f"bitcast {v} {part} to {w}"))
                 for mask, part in zip(masks, parts, strict=True)]
        return [self.add(f"bitcast {w} {word} to {v}") for word in words]

    def accumulate(self, at: int) -> None:
        """Write the accumulate at `at`; those that add to neighbouring cells share the steps of
        their sums over the lanes, where the last of them stands."""
        _, reads, (name, offset) = self.func.ops[at]
        size = self.bits // 8
        if at in self.products_of:
            self.product_of(at)
            return
        if self.lanes > 1 and self.func.ops[at][0] == "accrue":
            self.accrue(at)
            return
        if self.lanes == 1:
            a = self.address(name, offset, self.scalar[reads[2]] if len(reads) > 2 else None)
            one, two = [self.vector(r)[0] if self.varying[r] else self.scalar[r]
                        for r in reads[:2]]
            old = self.add(f"load {self.real}, ptr {a}, align {size}")
            new = self.product(one, two, old, False)
            self.lines.append(f"  store {self.real} {new}, ptr {a}, align {size}")
            return
        if not self.sums:
            self.neighbours = self.together(at)
        if at not in self.products:
            self.side_by_side(at)
        self.sums.append(self.products.pop(at))
        count = self.neighbours
        if len(self.sums) < count:
            return
        rounds = self.reduced(self.sums)
        self.sums = []
        a = self.address(name, offset + 1 - count, self.scalar[reads[2]] if len(reads) > 2
                         else None)
        v = self.type("f", True)
        t = self.real if count == 1 else f"<{count} x {self.real}>"
        total = self.add(f"load {t}, ptr {a}, align {size}")
        for vector in rounds:
            if count == 1 and self.native > 1:
                vector = self.add(f"extractelement {v} {vector}, i64 0")
            elif count < self.native:
                vector = self.add(f"shufflevector {v} {vector}, {v} poison, "
                                  f"{self.selection(range(count))}")
            total = self.add(f"fadd {self.flags}{t} {total}, {vector}")
        self.lines.append(f"  store {t} {total}, ptr {a}, align {size}")

    def find_products(self) -> None:
        """The runs of accrues that add up the outer product of the values of some sources and
        the deltas of as many rows as one or more vectors have lanes, all from memory of each
        sample's own."""
        ops, n, at = self.func.ops, 1, 0

        def private(values: Sequence[int]) -> bool:
            return all(ops[v][0] == "load" and ops[v][2][0] in self.private for v in values)

        while at < len(ops):
            opcode, reads, imm = ops[at]
            begin = at
            at += 1
            if opcode == "for" and imm:
                n = self.shape(begin)[0]
            if opcode != "accrue" or n < 2 or len(reads) < 3:
                continue
            while at < len(ops) and ops[at][0] == "accrue":
                at += 1
            run = ops[begin:at]
            wide = next((k for k, op in enumerate(run) if op[1][1] != run[0][1][1]), len(run))
            ns, ds = ([op[1][0] for op in run[:wide]], [op[1][1] for op in run[::wide]])
            if (wide % n == len(ds) % n == 0 and wide * len(ds) == len(run)
                    and private(ns + ds) and all([
                    op[1][:2] == (ns[k % wide], ds[k // wide])
                    and op[1][2:] == run[k // wide * wide][1][2:]
                    and op[2] == (imm[0], imm[1] + k % wide) for k, op in enumerate(run)])):
                self.products_of[begin] = (ns, tuple(ds))
                self.turning[max(ds)] = tuple(ds)

    def product_of(self, at: int) -> None:
        """Write a run of accrues as sums over the samples, one after the other, in which the rows
        are the lanes: all that has to be turned are the rows' deltas, and the sums."""
        ops = self.func.ops
        ns, ds = self.products_of[at]
        bases = [self.address(ops[n][2][0], ops[n][2][1], self.scalar[ops[n][1][0]], self.lanes)
                 for n in ns]
        v, size = self.type("f", True), self.bits // 8
        rows = self.columns[ds]
        count = max(1, self.registers // 2 // len(rows))  # sources whose sums are in registers
        for elements in self.in_rounds():
            totals: list[list[str | None]] = [[None] * len(ns) for _ in rows]
            for first in range(0, len(ns), count):
                for element in elements:
                    for k in range(first, min(first + count, len(ns))):
                        a = self.add(f"getelementptr inbounds {self.real}, ptr {bases[k]}, "
                                     f"i64 {element}")
                        one = self.add(f"load {self.real}, ptr {a}, align {size}")
                        some = self.add(f"insertelement {v} poison, {self.real} {one}, i64 0")
                        full = self.add(f"shufflevector {v} {some}, {v} poison, "
                                        f"<{self.native} x i32> zeroinitializer")
                        for sums, columns in zip(totals, rows, strict=True):
                            sums[k] = self.product(full, columns[element], sums[k], True)
            for side, first in product(range(len(rows)), range(0, len(ns), self.native)):
                made = self.transposed([str(t) for t in totals[side][first : first + self.native]])
                for j, row in enumerate(made, side * self.native):
                    _, reads, (name, offset) = ops[at + j * len(ns) + first]
                    a = self.address(name, offset, self.scalar[reads[2]])
                    old = self.add(f"load {v}, ptr {a}, align {size}")
                    new = self.add(f"fadd {self.flags}{v} {old}, {row}")
                    self.lines.append(f"  store {v} {new}, ptr {a}, align {size}")
        self.done = at + len(ns) * len(ds)

    def in_rounds(self) -> list[list[int]]:
        """For each round of the lanes, the elements of its samples, in order."""
        width = ROUND[self.module.dtype]
        by = sorted(range(self.lanes), key=self.samples.__getitem__)
        return [by[first : first + width] for first in range(0, self.lanes, width)]

    def accrue(self, at: int) -> None:
        """Write an accrue by itself, a sample at a time."""
        _, reads, (name, offset) = self.func.ops[at]
        size, v = self.bits // 8, self.type("f", True)
        a = self.address(name, offset, self.scalar[reads[2]] if len(reads) > 2 else None)
        total = self.add(f"load {self.real}, ptr {a}, align {size}")
        for elements in self.in_rounds():
            chain: str | None = None
            for element in elements:
                part, lane = divmod(element, self.native)
                x, y = [self.vector(r)[part] for r in reads[:2]]
                if self.native > 1:
                    x, y = [self.add(f"extractelement {v} {z}, i64 {lane}") for z in (x, y)]
                chain = self.product(x, y, chain, False)
            total = self.instruction("add", [total, str(chain)], "f", False)
        self.lines.append(f"  store {self.real} {total}, ptr {a}, align {size}")

    def side_by_side(self, at: int) -> None:
        """The chains of the accumulates from here on: a vector of all of them at a time, as they
        share factors."""
        ops = self.func.ops
        end = at + 1
        while end < len(ops) and ops[end][0] == "accumulate" and end - at < 8:
            end += 1
        for k in range(at, end):
            self.products[k] = []
        for group in range(0, self.parts(), CHAIN):
            totals: list[str | None] = [None] * (end - at)
            for p in range(group, group + CHAIN):
                for k in range(end - at):
                    x, y = [self.vector(r)[p] for r in ops[at + k][1][:2]]
                    totals[k] = self.product(x, y, totals[k], True)
            for k, total in enumerate(totals):
                self.products[at + k].append(str(total))

    def together(self, at: int) -> int:
        """How many accumulates from here on add to neighbouring cells, with nothing between them
        that stores, jumps, or reads those cells: a power of two, at most a vector's lanes."""
        _, reads, (name, offset) = self.func.ops[at]
        count = 1
        for opcode, others, imm in self.func.ops[at + 1 :]:
            if count == self.native or opcode in BARRIERS or (
                    opcode == "load" and imm[0] == name):
                break
            if opcode == "accumulate":
                if others[2:] != reads[2:] or imm != (name, offset + count):
                    break
                count += 1
        return 1 << (count.bit_length() - 1)

    def product(self, a: str, b: str, total: str | None, vector: bool) -> str:
        """total + a*b."""
        if total is None:
            return self.instruction("mul", [a, b], "f", vector)
        if self.module.fused:
            return self.instruction("fma", [a, b, total], "f", vector)
        return self.instruction(
            "add", [total, self.instruction("mul", [a, b], "f", vector)], "f", vector)

    def reduced(self, chains: list[list[str]]) -> list[str]:
        """For each round of the lanes one vector, whose first elements are the sums of each of
        `chains`, a power of two of them."""
        each = [list(vectors) for vectors in zip(*chains, strict=True)]
        width = ROUND[self.module.dtype] // CHAIN  # chains of a round
        if self.native > width:
            return [row for vectors in each for row in self.folded(vectors, width)]
        rows = [self.folded(vectors, self.native)[0] for vectors in each]
        while self.native < width:
            width //= 2
            rows = [self.add(f"fadd {self.flags}{self.type('f', True)} {a}, {b}")
                    for a, b in zip(rows[::2], rows[1::2], strict=True)]
        return rows

    def folded(self, vectors: list[str], width: int) -> list[str]:
        """For each `width` lanes one vector, whose first elements are the sums over those lanes of
        each of `vectors`: a transposition that adds at each step. First within 128 bits, where
        shuffles are cheap, then across; a single vector is paired with itself."""
        v = self.type("f", True)
        n = self.native
        inside = self.inside()
        steps: list[tuple[list[int], int]] = []  # what the first shuffle takes, how far the second
        block = 1
        while block < inside:
            half = inside // (2 * block)
            steps.append(([which * n + lane * inside + part * block + k
                           for lane in range(n // inside) for part in range(half)
                           for which in (0, 1) for k in range(block)], half * block))
            block *= 2
        lanes = n // inside
        even = [which * n + lane * inside + k for which in (0, 1)
                for lane in range(0, lanes, 2) for k in range(inside)]
        steps += [(even, inside)] * (lanes.bit_length() - 1)
        apart = (n // width).bit_length() - 1  # the last steps, in which nothing is added
        if apart > 1:
            raise ValueError(f"a vector of {n // width} rounds")
        for number, (low, shift) in enumerate(steps):
            first, second = self.selection(low), self.selection([k + shift for k in low])
            pairs = list(zip(vectors[::2], vectors[1::2], strict=False)) or [(vectors[0],) * 2]
            vectors = []
            for a, b in pairs:
                both = [self.add(f"shufflevector {v} {a}, {v} {b}, {chosen}")
                        for chosen in (first, second)]
                if number < len(steps) - apart:
                    both = [self.add(f"fadd {self.flags}{v} {both[0]}, {both[1]}")]
                vectors += both
        return vectors

    def inside(self) -> int:
        """The lanes of a vector within 128 bits."""
        return min(self.native, 128 // self.bits)

    def selection(self, elements: Iterable[int]) -> str:
        chosen = list(elements)
        return f"<{len(chosen)} x i32> <{', '.join([f'i32 {k}' for k in chosen])}>"

    # -- tiles that are moved by ncc's own assembly

    def find_moves(self, bits: int) -> dict[int, Move]:
        """Those that vectors of up to so many bits move, by their last stores."""
        if not any(op[0] == "for" and op[2] > 1 for op in self.func.ops):
            return {}
        found = moves(self.func, private=self.private, plain=self.plain, varying=self.varying,
                      tables={t.name for t in self.module.tables if t.type == "i"},
                      uses=self.count_uses(), aside=self.aside)
        kept = {}
        for at, move in found:
            start = max(k for k in range(at) if self.func.ops[k][0] == "for"
                        and self.func.ops[k][2])
            n, lanes = self.shape(start)
            chains = lanes > 1 and self.accumulates(start)
            if (n * self.bits <= bits and n * self.bits // 8 in WIDTHS and move.count % n == 0
                    and (lanes // n <= CHAIN or not chains)):
                kept[at] = move
        return kept

    def move(self, move: Move) -> None:
        """Write a move: the vectors of lanes one after the other; back, the last one first."""
        self.moving.add(self.loops[-1][0])
        stride, uniform = self.affine[move.index]
        n, size, parts, table = self.native, self.bits // 8, self.parts(), move.columns.table
        first, step = (0, 1) if move.into else (parts - 1, -1)
        base = self.address(move.name, move.offset, uniform)
        columns = self.address(
            move.columns.name, move.columns.beyond if table else move.columns.offset,
            None if table or move.columns.index is None else self.scalar[move.columns.index],
            self.lanes)
        if first:
            columns = self.add(f"getelementptr inbounds {self.real}, ptr {columns}, "
                               f"i64 {first * n}")
        # The first two move: as operands they are results, and then arguments.
        operands = [columns]
        if self.whole:
            assert isinstance(stride, int)
            begin = self.add(f"mul nsw {self.index} {self.step}, {stride}")
            far = first * n * stride
            if far:
                begin = self.add(f"add nsw {self.index} {begin}, {far}")
            operands.append(self.add(f"getelementptr inbounds {self.real}, ptr {base}, "
                                     f"{self.index} {begin}"))
            rows, moved = Places("$1", stride * size), n * stride * size
        else:
            operands += [self.places(stride, first * n), self.first_lane(base, stride)]
            rows, moved = Places("$4", size, "$1"), n * 4
        lists = Places("$0", self.lanes * size)
        if table:
            lists = lists._replace(cells=f"${len(operands) + 2}",
                                   bytes=cell(self.tables[table]).itemsize)
            operands.append(self.address(
                table, move.columns.offset,
                None if move.columns.index is None else self.scalar[move.columns.index]))
        wide = range(0, move.count, n)
        each = [[rows._replace(offset=k * size) for k in wide],
                [lists._replace(first=k) for k in wide]]
        order = range(n) if move.into else self.storing(move.index)[0][1]
        sources, targets = each if move.into else each[::-1]
        text = "\\0A".join(turned(size, n, sources, targets, order, parts,
                                 [("$0", step * n * size), ("$1", step * moved)]))
        changed = ",".join(["=&r,=&r,0,1", *["r"] * (len(operands) - 2),
                            *[f"~{{{r}}}" for r in registers(size, n)],
                            "~{memory},~{flags},~{dirflag},~{fpsr}"])
        passed = ", ".join([f"ptr {o}" for o in operands])
        self.add(f'call {{ ptr, ptr }} asm sideeffect "{text}", "{changed}"({passed})')

    # -- tile transposes: of a square tile, as many consecutive elements of each lane's as there are
    # lanes in a vector

    def is_tile(self, at: int) -> bool:
        """Whether the loads, or the stores, from here on are of one."""
        opcode, reads, (name, offset) = self.func.ops[at]
        index = reads[-1] if len(reads) == (2 if opcode == "store" else 1) else -1
        if self.native < 2 or index < 0 or name in self.private or not self.varying[index]:
            return False
        # Of a later op the index may not be written yet; in whole rounds it is, or is from memory.
        if self.whole and index not in self.affine:
            return False
        if self.contiguous(index) or self.element(name) != self.real:
            return False
        following = self.func.ops[at : at + self.native]
        return len(following) == self.native and all(
            op[0] == opcode and op[2] == (name, offset + k) and op[1][-1:] == (index,)
            for k, op in enumerate(following))

    # One part of the lanes at a time, from its loads to its stores: the registers hold a tile,
    # and not one of each part.

    def load_tile(self, at: int) -> None:
        self.waiting = (at, [])
        self.done = at + self.native

    def waits(self, at: int) -> bool:
        """Whether this op is written before the tile that waits, or is a store of its column."""
        assert self.waiting is not None
        opcode, reads, imm = self.func.ops[at]
        if opcode == "store":
            column = reads[0] - self.waiting[0]
            return imm[0] in self.private and 0 <= column < self.native
        return self.aside(at)

    def aside(self, at: int) -> bool:
        """An index of constants and tables."""
        opcode, _, imm = self.func.ops[at]
        return self.types[at] == "i" and (
            opcode in ("index", "iadd", "imul")
            or opcode == "load" and imm[0] in self.tables and not self.varying[at])

    def write_tile(self) -> None:
        assert self.waiting is not None
        first, stores = self.waiting
        self.waiting = None
        _, (index,), (name, offset) = self.func.ops[first]
        v, size = self.type("f", True), self.bits // 8

        def written(rows: list[str], part: int | str) -> list[str]:
            columns = self.transposed(
                [self.add(f"load {v}, ptr {a}, align {size}") for a in rows])
            for k, a in stores:
                self.lines.append(f"  store {v} {columns[k]}, ptr {self.beside(a, part)}, "
                                  f"align {size * self.native}")
            return columns

        uses = self.count_uses()
        if self.parts() > 1 and all([sum([k == column for column, _ in stores])
                                     == uses[first + k] for k in range(self.native)]):
            part = self.open_parts(first)
            written(self.part_addresses(name, offset, index, part), part)
            self.close_parts(first)
            return
        made: list[list[str]] = [[] for _ in range(self.native)]
        for p in range(self.parts()):
            columns = written(self.lane_addresses(name, offset, index, p), p)
            for column, value in zip(made, columns, strict=True):
                column.append(value)
        for k, vectors in enumerate(made):
            self.vectors[first + k] = vectors

    # A tile of each part in a loop: shuffles take LLVM long, many times as long as other ops.

    def open_parts(self, at: int, from_last: bool = False) -> str:
        """Open a loop over the parts of the lanes: the number of the first lane of each."""
        n, i = self.native, self.index
        first, step, end = (self.lanes - n, -n, -n) if from_last else (0, n, self.lanes)
        self.lines += [f"  br label %part{at}", f"part{at}:",
                       f"  %p{at} = phi {i} [ {first}, %{self.block} ], [ %q{at}, %part{at} ]"]
        self.block = f"part{at}"
        self.parts_end = f"  %q{at} = add {i} %p{at}, {step}", f"icmp ne {i} %q{at}, {end}"
        return f"%p{at}"

    def close_parts(self, at: int) -> None:
        step, goes = self.parts_end
        self.lines.append(step)
        self.lines += [f"  br i1 {self.add(goes)}, label %part{at}, label %whole{at}, "
                       "!llvm.loop !0", f"whole{at}:"]
        self.lists = True
        self.block = f"whole{at}"

    def part_addresses(self, name: str, offset: int, index: int, part: str) -> list[str]:
        """`lane_addresses` of the part whose first lane has a number known at run time."""
        stride, uniform = self.affine[index]
        base = self.address(name, offset, uniform)
        i = self.index
        if self.whole:
            assert isinstance(stride, int)
            first = self.add(f"mul nsw {i} {self.add(f'add nsw {i} {self.step}, {part}')}, "
                             f"{stride}")
            base = self.add(f"getelementptr inbounds {self.real}, ptr {base}, {i} {first}")
            return [self.add(f"getelementptr inbounds {self.real}, ptr {base}, {i} "
                             f"{stride * lane}") for lane in range(self.native)]
        base = self.first_lane(base, stride)
        here = self.places(stride, part)
        found = []
        for lane in range(self.native):
            a = self.add(f"getelementptr inbounds i32, ptr {here}, i64 {lane}")
            far = self.add(f"load i32, ptr {a}, align 4")
            found.append(self.add(f"getelementptr inbounds {self.real}, ptr {base}, i32 {far}"))
        return found

    def places(self, stride: Stride, lane: int | str) -> str:
        """The address of the offset of a lane, in an array of all of them."""
        places, hole = self.held[stride]
        if not self.lines[hole]:
            self.stack.append(f"  {places} = alloca [{self.lanes} x i32], align 64")
            v = f"<{self.native} x i32>"
            self.lines[hole] = "\n".join([
                f"  {places}_{p} = getelementptr inbounds i32, ptr {places}, i64 "
                f"{p * self.native}\n  store {v} {lanes}, ptr {places}_{p}, "
                f"align {4 * self.native}" for p, lanes in enumerate(self.offsets[stride])])
        return self.add(f"getelementptr inbounds i32, ptr {places}, {self.index} {lane}")

    def beside(self, address: str, part: int | str) -> str:
        """The address of a part of the lanes: by its number, or its first lane's at run time."""
        if isinstance(part, str):
            return self.add(f"getelementptr inbounds {self.real}, ptr {address}, "
                            f"{self.index} {part}")
        return address if part == 0 else self.add(
            f"getelementptr inbounds {self.real}, ptr {address}, i64 {part * self.native}")

    def count_uses(self) -> list[int]:
        """How often each op's value is read."""
        if not self.uses:
            self.uses = [0] * len(self.func.ops)
            for op in self.func.ops:
                for r in op[1]:
                    self.uses[r] += 1
        return self.uses

    def delayed(self, at: int) -> bool:
        """Whether a private load is read by the stores of a tile alone, and nothing is written
        between."""
        ops = self.func.ops
        if self.native < 2 or self.lanes == self.native:
            return False
        end = at + 1
        while end < len(ops) and (self.aside(end) or (
                ops[end][0] == "load" and ops[end][2][0] in self.private)):
            end += 1
        if end == len(ops) or ops[end][0] != "store" or not self.is_tile(end):
            return False
        uses = self.count_uses()
        values = [op[1][0] for op in ops[end : end + self.native]]
        return at in values and all([
            ops[r][0] == "load" and ops[r][2][0] in self.private and uses[r] == 1
            and (r >= at or r in self.addresses) for r in values])

    def store_tile(self, at: int) -> None:
        _, (_, index), (name, offset) = self.func.ops[at]
        v, size = self.type("f", True), self.bits // 8
        values = [op[1][0] for op in self.func.ops[at : at + self.native]]

        def written(places: list[str], columns: list[str], lanes: list[int]) -> None:
            rows = self.transposed(columns)
            for lane in lanes:
                self.lines.append(f"  store {v} {rows[lane]}, ptr {places[lane]}, align {size}")

        def loaded(r: int, part: int | str) -> str:
            return self.add(f"load {v}, ptr {self.beside(self.addresses[r], part)}, "
                            f"align {size * self.native}")

        storing = self.storing(index)
        parts, lanes = [p for p, _ in storing], storing[0][1]
        if (len(parts) > 1 and sorted(parts, reverse=True) == parts
                and all([other == lanes for _, other in storing])
                and all([r in self.addresses for r in values])):
            part = self.open_parts(at, from_last=True)
            written(self.part_addresses(name, offset, index, part),
                    [loaded(r, part) for r in values], lanes)
            self.close_parts(at)
        else:
            for p, lanes in storing:
                written(self.lane_addresses(name, offset, index, p),
                        [loaded(r, p) if r in self.addresses else self.vector(r)[p]
                         for r in values], lanes)
        self.done = at + self.native

    def transposed(self, rows: list[str]) -> list[str]:
        """The columns of a square tile of vectors, in log2 of its side many steps of two-vector
        shuffles: in each 128 bits first, where each is one instruction of x86 and of Arm."""
        n, v = self.native, self.type("f", True)
        rows = list(rows)

        def shuffle(a: int, b: int, mask: list[int]) -> str:
            shown = ", ".join([f"i32 {k}" for k in mask])
            return self.add(f"shufflevector {v} {rows[a]}, {v} {rows[b]}, <{n} x i32> <{shown}>")

        def steps(step: int, low: list[int], high: list[int]) -> None:
            for a in range(n):
                if not a & step:
                    rows[a], rows[a + step] = (shuffle(a, a + step, low),
                                               shuffle(a, a + step, high))

        small = min(n, 128 // self.bits)
        if self.bits == 32 and n >= 4:  # unpack singles, then pairs: rows 1 and 2 change places
            fours = range(0, n, 4)
            steps(1, [k for f in fours for k in (f, n + f, f + 1, n + f + 1)],
                  [k for f in fours for k in (f + 2, n + f + 2, f + 3, n + f + 3)])
            steps(2, [k for f in fours for k in (f, f + 1, n + f, n + f + 1)],
                  [k for f in fours for k in (f + 2, f + 3, n + f + 2, n + f + 3)])
            for f in fours:
                rows[f + 1], rows[f + 2] = rows[f + 2], rows[f + 1]
        else:
            steps(1, [k + n * (k & 1) - (k & 1) for k in range(n)],
                  [k + 1 if not k & 1 else n + k for k in range(n)])
        if n == 4 * small:  # of four times 128 bits, the even ones of two vectors, and the odd
            halves = [[q * small + k for q in (h, h + 2, h + 4, h + 6) for k in range(small)]
                      for h in (0, 1)]
            steps(small, *halves)
            steps(2 * small, *halves)
            return rows
        step = small
        while step < n:  # exchange this bit of the row's number and of the column's
            steps(step, [n + k - step if k & step else k for k in range(n)],
                  [n + k if k & step else k + step for k in range(n)])
            step *= 2
        return rows

    def lookup(self, at: int, varying: bool) -> None:
        _, reads, table = self.func.ops[at]
        if varying:
            self.vectors[at] = self.lookup_lanes(table, reads[0])
            return
        word = f"i{self.bits}"
        place = self.add(f"getelementptr inbounds {word}, {self.table} "
                         f"@{self.module.name}.{table}, {word} {self.scalar[reads[0]]}")
        self.scalar[at] = self.add(f"load {word}, {self.table} {place}, align {self.bits // 8}")

    def lookup_lanes(self, table: str, index: int) -> list[str]:
        word, v = f"i{self.bits}", self.type("w", True)
        out = []
        for part in self.vector(index):
            if self.gathers and self.native > 1:
                a = self.add(f"getelementptr inbounds {word}, ptr @{self.module.name}.{table}, "
                             f"{v} {part}")
                out.append(self.gather(a, "w"))
                continue
            value = "poison"
            for lane in range(self.native):
                one = part
                if self.native > 1:
                    one = self.add(f"extractelement {v} {part}, i64 {lane}")
                a = self.add(f"getelementptr inbounds {word}, {self.table} "
                             f"@{self.module.name}.{table}, {word} {one}")
                got = self.add(f"load {word}, {self.table} {a}, align {self.bits // 8}")
                value = got if self.native == 1 else self.add(
                    f"insertelement {v} {value}, {word} {got}, i64 {lane}")
            out.append(value)
        return out

    # -- lanes

    def open_lanes(self, at: int, bounds: tuple[int, ...], hi: str) -> None:
        """The sample of each lane; past the end the last sample again."""
        for value in self.entering[at]:
            self.splat(value)
        self.affine[at] = (1, None)
        self.step = f"%k{at}"
        first, last = (self.func.ops[r] for r in bounds)
        self.whole = (first[0] == last[0] == "index" and self.native > 1
                      and (last[2] - first[2]) % self.lanes == 0)
        self.offsets = {}
        self.real_lanes = []
        self.chains = self.lanes > 1 and self.accumulates(at)
        self.samples = list(range(self.lanes))
        if self.chains:
            self.whole = False
            self.samples = [CHAIN * self.chain(part // CHAIN * self.native + lane) + part % CHAIN
                            for part in range(self.parts()) for lane in range(self.native)]
        if self.whole:
            return
        if self.lanes == 1:
            self.firsts = {stride: self.step if stride == 1 else self.add(
                f"mul nsw {self.index} {self.step}, {stride}") for stride in self.strides(at)}
        else:
            self.find_samples(at, hi)
        if self.lanes > 1 and any(op[0] == "mask" for op in self.func.ops):
            # A select between a value and 0, stored where the value was, would become a masked
            # store, which takes some machines tens of cycles: words from a table stay words.
            left = self.add(f"sub {self.index} {hi}, %k{at}")
            few = self.add(f"icmp slt {self.index} {left}, {self.lanes}")
            real = self.add(f"select i1 {few}, {self.index} {left}, {self.index} {self.lanes}")
            if self.chains:
                self.mask_chains(real)
            else:
                self.mask_samples(real)
            if any(self.elementwise.values()):
                self.keep_masks(at)

    def find_samples(self, at: int, hi: str) -> None:
        """For each stride, where the round's first sample is, and how far from it each lane's: in
        vectors of 32 bits, as a scalar a lane would be spilled to memory and found again. Past the
        end it is the last sample, or the last of those that have the same place in their chain, if
        there is one."""
        last = self.add(f"sub {self.index} {hi}, 1")
        left = self.add(f"sub {self.index} {last}, {self.step}")
        few = self.add(f"icmp slt {self.index} {left}, {self.lanes}")
        left = self.add(f"select i1 {few}, {self.index} {left}, {self.index} {self.lanes}")
        if self.index != "i32":
            left = self.add(f"trunc {self.index} {left} to i32")
        ends = [left]
        if self.chains:
            ends = []
            for p in range(CHAIN):
                place = self.add(f"sub i32 {left}, {p}")
                some = self.add(f"add i32 {self.add(f'and i32 {place}, {-CHAIN}')}, {p}")
                none = self.add(f"icmp slt i32 {place}, 0")
                ends.append(self.add(f"select i1 {none}, i32 {left}, i32 {some}"))
        v = f"<{self.native} x i32>"

        def spread(scalar: str) -> str:
            one = self.add(f"insertelement {v} poison, i32 {scalar}, i64 0")
            return self.add(f"shufflevector {v} {one}, {v} poison, {v} zeroinitializer")

        self.most = spread(left)
        most = [spread(end) for end in ends] if self.chains else [self.most]
        minimum = f"@llvm.umin.v{self.native}i32"
        self.used.add(f"declare {v} {minimum}({v}, {v})")
        lanes = [self.add(f"call {v} {minimum}({v} {self.numbered(p)}, {v} {most[p % len(most)]})")
                 for p in range(self.parts())]
        self.firsts = {}
        self.held = {}
        for stride in sorted(self.strides(at), key=str):
            self.firsts[stride] = self.step if stride == 1 else self.add(
                f"mul nsw {self.index} {self.step}, {stride}")
            far = f"splat (i32 {stride})"
            if isinstance(stride, str):
                far = spread(stride if self.index == "i32" else self.add(
                    f"trunc {self.index} {stride} to i32"))
            self.offsets[stride] = lanes if stride == 1 else [
                self.add(f"mul nsw {v} {lane}, {far}") for lane in lanes]
            self.held[stride] = f"%places{at}_{len(self.held)}", len(self.lines)
            self.lines.append("")

    def mask_samples(self, real: str) -> None:
        """All ones in the first `real` lanes."""
        base = self.words(f"real_{self.lanes}", [k < self.lanes for k in range(2 * self.lanes)],
                          self.add(f"sub {self.index} {self.lanes}, {real}"))
        self.real_lanes = [self.mask(base, p * self.native) for p in range(self.parts())]

    def mask_chains(self, real: str) -> None:
        """All ones in the lanes of the first `real` samples: of each sample of the chains another
        number of them."""
        chains = self.lanes // CHAIN
        cells = [self.chain(k) < count for count in range(chains + 1) for k in range(chains)]
        masks = {}
        for p in range(CHAIN):
            up = self.add(f"add {self.index} {real}, {CHAIN - 1 - p}")
            count = self.add(f"udiv {self.index} {up}, {CHAIN}")
            base = self.words(f"chains_{chains}_{self.inside()}", cells,
                              self.add(f"mul {self.index} {count}, {chains}"))
            for group in range(0, self.parts(), CHAIN):
                masks[group + p] = self.mask(base, group // CHAIN * self.native)
        self.real_lanes = [masks[p] for p in range(self.parts())]

    def keep_masks(self, at: int) -> None:
        """Keep the masks where those take them from whose vectors take turns."""
        w, align = self.type("w", True), self.bits // 8 * self.native
        self.kept_masks = f"%masks{at}"
        self.stack.append(f"  {self.kept_masks} = alloca [{self.lanes} x i{self.bits}], "
                          f"align {align}")
        for p, mask in enumerate(self.real_lanes):
            a = self.add(f"getelementptr inbounds i{self.bits}, ptr {self.kept_masks}, "
                         f"i64 {p * self.native}")
            self.lines.append(f"  store {w} {mask}, ptr {a}, align {align}")

    def words(self, name: str, ones: Sequence[bool], at: str) -> str:
        """The address of a cell of a table of words, of ones or of zeros."""
        word, name = f"i{self.bits}", f"@{self.module.name}.{name}"
        cells = ", ".join([f"{word} {-one}" for one in ones])
        section = f', section ".rodata.{name[1:]}"' if self.elf else ""
        self.used.add(f"{name} = private unnamed_addr constant [{len(ones)} x {word}] "
                      f"[{cells}]{section}, align 64")
        return self.add(f"getelementptr inbounds {word}, ptr {name}, {self.index} {at}")

    def mask(self, base: str, lane: int) -> str:
        a = self.add(f"getelementptr inbounds i{self.bits}, ptr {base}, i64 {lane}")
        return self.add(f"load {self.type('w', True)}, ptr {a}, align {self.bits // 8}")

    def shape(self, at: int) -> tuple[int, int]:
        """The lanes of a vector, and all lanes, in the lanes loop that opens at `at`."""
        lanes = self.func.ops[at][2]
        if lanes > 1 and self.accumulates(at):  # four vectors hold chains, one sample each
            return gcd(self.widest, lanes // CHAIN), lanes
        # Lanes that no whole number of registers holds are made of narrower vectors.
        native = gcd(self.widest, lanes)
        return native, lanes if native > 1 else 1

    def accumulates(self, at: int) -> bool:
        """Whether anything accumulates in the loop that opens at `at`."""
        if at not in self.adding:
            depth = 0
            self.adding[at] = False
            for opcode, _, _ in self.func.ops[at:]:
                depth += (opcode == "for") - (opcode == "yield")
                if depth == 0:
                    break
                if opcode in SUMS:
                    self.adding[at] = True
                    break
        return self.adding[at]

    def chain(self, number: int) -> int:
        """Which chain of samples a lane holds, of those of all vectors of the first samples: within
        128 bits those that are added first are half as far apart as they may be, so that `folded`
        needs one kind of shuffle."""
        inside = self.inside()
        place, turned = number % inside, 0
        for _ in range(inside.bit_length() - 1):
            turned = 2 * turned + place % 2
            place //= 2
        return number - number % inside + turned

    def strides(self, start: int) -> set[Stride]:
        """The strides of all indices that are made of a lanes loop's own."""
        found: dict[int, Stride] = {start: 1}
        for at in range(start + 1, len(self.func.ops)):
            opcode, reads, _ = self.func.ops[at]
            if opcode in ("iadd", "imul") and self.varying[at]:
                mine = [found[r] for r in reads if r in found]
                if mine:
                    found[at] = self.stride(mine[0], reads) if opcode == "imul" else mine[0]
        return set(found.values())

    def stride(self, stride: Stride, reads: tuple[int, ...]) -> Stride:
        """That of a product with what has a stride: with a constant, above or inside the loop, or
        of the sample itself with any index that is made above it."""
        for r in reads:
            if self.func.ops[r][0] == "index" and isinstance(stride, int):
                return stride * int(self.func.ops[r][2])
        above = [self.scalar[r] for r in reads if not self.varying[r] and r in self.scalar]
        if stride != 1 or not above:
            raise ValueError("a sample's index is multiplied by a constant only")
        return above[0]

    def lane_index(self, opcode: str, reads: tuple[int, ...]) -> tuple[Stride, str | None]:
        a, b = reads
        if not self.varying[a]:
            a, b = b, a
        stride, uniform = self.affine[a]
        if self.varying[b]:
            raise ValueError("an index adds no two samples' indices")
        other = self.scalar[b]
        if opcode == "imul":
            if uniform is not None:
                uniform = self.add(f"mul nsw {self.index} {uniform}, {other}")
            return self.stride(stride, reads), uniform
        if uniform is not None:
            other = self.add(f"add nsw {self.index} {uniform}, {other}")
        return stride, other

    def contiguous(self, index: int) -> bool:
        """Whether the lanes of every round lie side by side."""
        return self.whole and self.affine[index][0] == 1

    def vector_addresses(self, name: str, offset: int, index: int) -> list[str]:
        """Where each vector of consecutive elements starts."""
        uniform = self.affine[index][1]
        first = self.step if uniform is None else self.add(
            f"add nsw {self.index} {uniform}, {self.step}")
        base = self.address(name, offset, first)
        return [base, *[self.add(f"getelementptr inbounds {self.element(name)}, {self.to(name)} "
                                 f"{base}, {self.index} {part * self.native}")
                        for part in range(1, self.parts())]]

    def lane_addresses(self, name: str, offset: int, index: int, part: int) -> list[str]:
        stride, uniform = self.affine[index]
        element = self.element(name)
        base = self.address(name, offset, uniform)
        if self.whole:
            first = self.add(f"mul nsw {self.index} {self.step}, {stride}")
            base = self.add(f"getelementptr inbounds {element}, ptr {base}, "
                            f"{self.index} {first}")
            assert isinstance(stride, int)
            return [self.add(f"getelementptr inbounds {element}, ptr {base}, {self.index} "
                             f"{stride * lane}")
                    for lane in range(part * self.native, (part + 1) * self.native)]
        base = self.first_lane(base, stride, element, self.to(name))
        if self.lanes == 1:
            return [base]
        lanes = [self.add(f"extractelement <{self.native} x i32> {self.offsets[stride][part]}, "
                          f"i64 {lane}") for lane in range(self.native)]
        return [self.add(f"getelementptr inbounds {element}, ptr {base}, i32 {lane}")
                for lane in lanes]

    def numbered(self, part: int) -> str:
        own = [f"i32 {self.samples[part * self.native + k]}" for k in range(self.native)]
        return f"<{', '.join(own)}>"

    def first_lane(self, base: str, stride: Stride, element: str = "", to: str = "ptr") -> str:
        return self.add(f"getelementptr inbounds {element or self.real}, {to} {base}, "
                        f"{self.index} {self.firsts[stride]}")

    def all_addresses(self, name: str, offset: int, index: int, part: int) -> str:
        """A vector of the lanes' addresses, for machines that gather and scatter."""
        stride, uniform = self.affine[index]
        base = self.first_lane(self.address(name, offset, uniform), stride)
        return self.add(f"getelementptr inbounds {self.real}, ptr {base}, "
                        f"<{self.native} x i32> {self.offsets[stride][part]}")
