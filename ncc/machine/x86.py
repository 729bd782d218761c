"""Straight functions as x86-64 assembly: there is nothing left to select in them, and LLVM's
instruction selection takes most of the time of their compile.

A straight function is loads, stores and arithmetic of reals at constant places, and applies of pure
functions. One pass over its ops writes each as an instruction, operands in memory where an
instruction takes one. Registers are given out as values are made; where all are taken, the value
that is read last of all gives up its own (Belady 1966, "A study of replacement algorithms for a
virtual-storage computer"): it is in memory already, as all inputs, parameters, and neurons with a
slot of `work` are, or is stored on the stack.

The conventions are those of System V: pointers come in %rdi, %rsi, ..., and no vector register
survives a call.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ncc.ir.ssa import UNLINKED, Func, Op, layout
from ncc.scalar.opcodes import COMMUTES

ARGUMENTS = ("%rdi", "%rsi", "%rdx", "%rcx", "%r8", "%r9")
SAVED = ("%rbx", "%rbp", "%r12", "%r13", "%r14", "%r15")  # survive a call
REGISTERS = 16  # more would take a longer encoding
SOME = 64  # ops: LLVM makes the best of fewer, and takes no time
NAMES = tuple([f"%xmm{k}" for k in range(REGISTERS)])
FAR = 1 << 30  # no further use
REACH = 128  # bytes that an address says in one byte, in both directions

# By opcode: the instruction without its suffix, and which reads are its second source (a register
# or memory) and its first.
BINARY = {
    "add": ("vadd", 1, 0),
    "sub": ("vsub", 1, 0),
    "mul": ("vmul", 1, 0),
    "div": ("vdiv", 1, 0),
    # max(a, b) is b > a ? b : a, and the instruction's is first > second ? first : second
    "max": ("vmax", 0, 1),
    "min": ("vmin", 0, 1),
    "lt": ("vcmplt", 1, 0),
    "gt": ("vcmpgt", 1, 0),
    "le": ("vcmple", 1, 0),
    "ge": ("vcmpge", 1, 0),
    "eq": ("vcmpeq", 1, 0),
    "une": ("vcmpneq", 1, 0),
}
KNOWN = frozenset([*BINARY, "fma", "neg", "abs", "sqrt", "select", "const", "load", "store",
                   "apply", "result"])


def fits(func: Func) -> bool:
    """Whether a function is to be written here: straight, of plain ops of reals, and not short."""
    if len(func.ops) <= SOME or func.pure or func.counted or len(func.buffers) > len(ARGUMENTS):
        return False
    if not KNOWN.issuperset([op[0] for op in func.ops]):
        return False
    # All loads and stores are of constant places.
    return not any([len(reads) > (opcode == "store") for opcode, reads, _ in func.ops
                    if opcode in ("load", "store")])


def assembly(func: Func, dtype: str, symbol: str, applied: Sequence[str]) -> str:
    """The body of the function `symbol`, in the syntax of AT&T as LLVM's inline assembly has it (a
    dollar sign is two); `applied` are the symbols of the pure functions, over a vector of 128 bits,
    that its applies call, in order. Where the ops have neurons, each instruction has its one as a
    comment."""
    return _Body(func, dtype, symbol, applied).text()


class _Body:
    def __init__(self, func: Func, dtype: str, symbol: str, applied: Sequence[str]) -> None:
        self.func = func
        self.symbol = symbol
        self.applied = iter(applied)
        self.size = 4 if dtype == "f32" else 8
        self.single = "ss" if dtype == "f32" else "sd"
        self.packed = "ps" if dtype == "f32" else "pd"
        self.move = f"vmov{self.single}"
        self.lines: list[str] = []
        self.pool: dict[bytes, str] = {}
        self.signs: dict[str, str] = {}
        ops = func.ops
        self.uses: list[list[int]] = [[] for _ in ops]  # of each value, the last one first
        for at in range(len(ops) - 1, -1, -1):
            for r in ops[at][1]:
                self.uses[r].append(at)
        # Where each buffer that is read as well is first written.
        written: dict[str, int] = {"work": -1}
        for at in range(len(ops) - 1, -1, -1):
            if ops[at][0] == "store" and ops[at][2][0] != "work":
                written[ops[at][2][0]] = at
        # Which values are inputs or parameters, which stay where they are, or of the last call and
        # read before the next one is written.
        self.stays = [opcode == "load" and (
            imm[0] not in written or written[imm[0]] > (uses[0] if uses else -1))
            for (opcode, _, imm), uses in zip(ops, self.uses, strict=True)]
        self.home: list[str | None] = [None] * len(ops)  # where a value is in memory
        self.register = [-1] * len(ops)
        self.held = [-1] * REGISTERS  # the value in each register
        self.free = list(range(REGISTERS - 1, -1, -1))
        self.slots: dict[str, int] = {}  # the value that each place in `work` holds
        self.stack: list[str] = []  # places on the stack that are free
        self.read: list[str] = []  # and those that the op at hand is the last to read
        self.frame = 0
        self.on_stack: dict[int, str] = {}
        calls = any(op[0] == "apply" for op in ops)
        self.kept: list[str] = []  # registers to save
        self.base: dict[str, str] = {}
        # How far the pointer of a buffer that is read from its start to its end has moved.
        self.moved: dict[str, int] = {}
        offsets, _ = layout(func)
        self.begin: list[str] = []
        memory = ""
        arguments = iter(ARGUMENTS)
        for b in func.buffers:
            here = memory if b.name in offsets and memory else next(arguments)
            if b.name in offsets:
                memory = memory or here
            if calls:
                saved = SAVED[len(self.kept)]
                self.kept.append(saved)
                self.begin.append(f"movq {here}, {saved}")
                self.base[b.name] = saved
            else:
                self.base[b.name] = here
            if b.name in offsets and offsets[b.name]:
                raise ValueError("a straight function has one kind of work")
            self.moved[b.name] = 0

    # -- text

    def text(self) -> str:
        neurons = self.func.neurons
        write = {"fma": self.fma, "load": self.load, "const": self.const, "store": self.store,
                 "neg": self.signed, "abs": self.signed, "sqrt": self.sqrt, "select": self.select,
                 "apply": self.apply, "result": self.nothing, **dict.fromkeys(BINARY, self.binary)}
        for at, op in enumerate(self.func.ops):
            first = len(self.lines)
            write[op[0]](at, op)
            if neurons is not None and neurons[at] != UNLINKED:
                self.lines[first:] = [f"{line} # n{neurons[at]:02x}"
                                      for line in self.lines[first:]]
            if self.read:  # not before: the op's own value may push another out
                self.stack += self.read
                self.read.clear()
        # Below the return address and what is saved; a callee finds the stack aligned to 16.
        above = 8 * (len(self.kept) + 1)
        frame = -(-(self.frame + above) // 16) * 16 - above if self.kept else self.frame
        begin = [f"pushq {r}" for r in self.kept]
        end = [f"popq {r}" for r in reversed(self.kept)]
        if frame:
            begin.append(f"leaq -{frame}(%rsp), %rsp")
            end.insert(0, f"leaq {frame}(%rsp), %rsp")
        lines = [*begin, *self.begin, *self.lines, *end, "retq"]
        for bits, label in self.pool.items():
            words = struct.unpack(f"<{len(bits) // 4}I", bits)
            lines.append(f"{label}: .long " + ", ".join([f"0x{w:08x}" for w in words]))
        return "\n".join(lines)

    def constant(self, bits: bytes) -> str:
        label = self.pool.get(bits)
        if label is None:
            label = self.pool[bits] = f".L{self.symbol}.{len(self.pool)}"
        return f"{label}(%rip)"

    def sign(self, clear: bool) -> str:
        """A vector of the sign bit, or of all bits but it."""
        top = (b"\xff" * (self.size - 1) + b"\x7f" if clear
               else b"\0" * (self.size - 1) + b"\x80")
        return self.constant(top * (16 // self.size))

    def place(self, name: str, offset: int) -> str:
        """The address of an element. The pointer of what is read in order goes along with it, so
        that the address says a distance of one byte."""
        at = offset * self.size - self.moved[name]
        if name != "work" and REACH <= at < 2 * REACH:
            self.lines.append(f"leaq {2 * REACH}({self.base[name]}), {self.base[name]}")
            self.moved[name] += 2 * REACH
            at -= 2 * REACH
        return f"{at}({self.base[name]})" if at else f"({self.base[name]})"

    # -- registers

    def take(self, locked: Sequence[int] = ()) -> int:
        """A register that is free, or is made so; not one of those `locked`."""
        if self.free:
            return self.free.pop()
        best, farthest = -1, -1
        for r, value in enumerate(self.held):
            if value < 0 or r in locked:
                continue
            uses = self.uses[value]
            use = uses[-1] if uses else FAR
            if use > farthest:
                best, farthest = r, use
        self.leave(best)
        return self.free.pop()

    def leave(self, register: int) -> None:
        """Take a register from its value, which stays in memory."""
        value = self.held[register]
        if self.uses[value]:
            self.keep(value, register)
        self.register[value] = self.held[register] = -1
        self.free.append(register)

    def keep(self, value: int, register: int) -> None:
        """Make sure that a value is in memory."""
        if self.home[value] is None and not self.stays[value]:
            if self.stack:
                place = self.stack.pop()
            else:
                place, self.frame = f"{self.frame}(%rsp)", self.frame + self.size
            self.home[value] = self.on_stack[value] = place
            self.lines.append(f"{self.move} {NAMES[register]}, {place}")

    def give(self, value: int, register: int) -> None:
        if self.uses[value]:
            self.register[value], self.held[register] = register, value
        else:
            self.free.append(register)

    def loaded(self, value: int, *locked: int) -> int:
        """The register of a value, which is loaded where it has none, but not to that of one of
        the values `locked`."""
        r = self.register[value]
        if r < 0:
            r = self.take([self.register[v] for v in locked])
            self.lines.append(f"{self.move} {self.source(value)}, {NAMES[r]}")
            self.register[value], self.held[r] = r, value
        return r

    def source(self, value: int) -> str:
        """A value as an operand: its register, or its place in memory."""
        r = self.register[value]
        if r >= 0:
            return NAMES[r]
        if self.stays[value]:
            return self.place(*self.func.ops[value][2])
        home = self.home[value]
        assert home is not None
        return home

    def done(self, at: int, reads: Sequence[int]) -> None:
        """The op at `at` has read these: a value that nothing reads any more has no register."""
        for value in reads:
            uses = self.uses[value]
            if not uses:  # read twice
                continue
            while uses and uses[-1] == at:
                uses.pop()
            if not uses:
                r = self.register[value]
                if r >= 0:
                    self.register[value] = self.held[r] = -1
                    self.free.append(r)
                if value in self.on_stack:
                    self.read.append(self.on_stack.pop(value))

    def result(self, at: int, reads: Sequence[int], instruction: str) -> None:
        """Write an op: its instruction, up to the last operand, which is where its value goes."""
        self.done(at, reads)
        to = self.take()
        self.lines.append(f"{instruction}, {NAMES[to]}")
        self.give(at, to)

    def dies(self, value: int, at: int) -> bool:
        """Whether the op at `at` is the last to read a value."""
        return self.uses[value][0] == at

    # -- ops

    def load(self, at: int, op: Op) -> None:
        if not self.stays[at]:  # `work` in a text that was split by hand, say
            r = self.take()
            self.lines.append(f"{self.move} {self.place(*op[2])}, {NAMES[r]}")
            self.give(at, r)

    def const(self, at: int, op: Op) -> None:
        self.home[at] = self.constant(struct.pack("<f" if self.size == 4 else "<d", op[2]))

    def nothing(self, at: int, op: Op) -> None:
        """Of a result, which its apply has written."""

    def signed(self, at: int, op: Op) -> None:
        opcode, reads, _ = op
        name = "vxor" if opcode == "neg" else "vand"
        r = self.loaded(reads[0])
        self.result(at, reads, f"{name}{self.packed} {self.sign(opcode == 'abs')}, {NAMES[r]}")

    def sqrt(self, at: int, op: Op) -> None:
        r = NAMES[self.loaded(op[1][0])]
        self.result(at, op[1], f"vsqrt{self.single} {r}, {r}")

    def binary(self, at: int, op: Op) -> None:
        opcode, reads, _ = op
        name, to_second, to_first = BINARY[opcode]
        first, second = reads[to_first], reads[to_second]
        if self.register[first] < 0 and opcode in COMMUTES and (
                self.register[second] >= 0 or len(self.uses[second]) > len(self.uses[first])):
            first, second = second, first
        r = self.loaded(first, second)
        operand = self.source(second)
        self.result(at, (first, second), f"{name}{self.single} {operand}, {NAMES[r]}")

    def fma(self, at: int, op: Op) -> None:
        """a*b + c. The result takes the register of c, or of a factor, whichever is not read
        again; the other factor, or c, may be in memory."""
        a, b, c = op[1]
        if self.register[a] < 0 and (self.register[b] >= 0
                                     or len(self.uses[b]) > len(self.uses[a])):
            a, b = b, a
        if self.register[c] < 0 and c not in (a, b):
            dying = [v for v in (a, b) if self.register[v] >= 0 and self.dies(v, at)]
            if dying:
                taken = dying[0]
                other = self.loaded(b if taken == a else a, a, b)
                register, operand = self.register[taken], self.source(c)
                self.lines.append(f"vfmadd213{self.single} {operand}, {NAMES[other]}, "
                                  f"{NAMES[register]}")
                self.finish(at, (a, b, c), taken)
                return
        r = self.loaded(a, b, c)
        if self.register[c] >= 0 and self.dies(c, at):
            self.lines.append(f"vfmadd231{self.single} {self.source(b)}, {NAMES[r]}, "
                              f"{NAMES[self.register[c]]}")
            self.finish(at, (a, b, c), c)
            return
        to = self.take([r, self.register[b], self.register[c]])
        move = "vmovaps" if self.register[c] >= 0 else self.move
        self.lines.append(f"{move} {self.source(c)}, {NAMES[to]}")
        self.lines.append(f"vfmadd231{self.single} {self.source(b)}, {NAMES[r]}, {NAMES[to]}")
        self.done(at, (a, b, c))
        self.give(at, to)

    def finish(self, at: int, reads: tuple[int, ...], taken: int) -> None:
        """The op's value takes the register of one that it is the last to read."""
        r = self.register[taken]
        self.register[taken] = self.held[r] = -1
        self.done(at, reads)
        self.give(at, r)

    def select(self, at: int, op: Op) -> None:
        test, a, b = op[1]
        m = self.loaded(test, a, b)
        zero = [self.func.ops[v][0] == "const" and struct.pack("<d", self.func.ops[v][2]) ==
                b"\0" * 8 for v in (a, b)]
        if zero[0] or zero[1]:
            operand = self.source(b if zero[0] else a)
            if not operand.startswith("%xmm"):  # a vector's worth of memory is not there to read
                operand = NAMES[self.loaded(b if zero[0] else a, test)]
            line = f"{'vandn' if zero[0] else 'vand'}{self.packed} {operand}, {NAMES[m]}"
        else:
            y = self.loaded(b, test, a)
            x = self.loaded(a, test, b)
            line = f"vblendv{self.packed} {NAMES[m]}, {NAMES[x]}, {NAMES[y]}"
        self.result(at, (test, a, b), line)

    def store(self, at: int, op: Op) -> None:
        _, (value,), (name, offset) = op
        r = self.loaded(value)
        place = self.place(name, offset)
        if name == "work":
            old = self.slots.get(place)
            if old is not None and self.home[old] == place:
                if self.uses[old] and old != value:
                    # Passes may have found that a neuron behind its last reader computes the same:
                    # from now on the value is in a register or on the stack.
                    self.loaded(old, value)
                self.home[old] = None
            self.slots[place] = value
        self.lines.append(f"{self.move} {NAMES[r]}, {place}")
        if name == "work" and self.home[value] is None:
            self.home[value] = place
        self.done(at, (value,))

    def apply(self, at: int, op: Op) -> None:
        """A call: of one value, or of up to four side by side in a vector."""
        reads = op[1]
        last = [v for v in reads if self.dies(v, at)]
        for r, value in enumerate(self.held):
            if value >= 0 and value not in last:
                self.keep(value, r)
        for value in reads:
            if self.stays[value]:  # one place in memory is said at a time
                self.loaded(value, *reads)
        wide = len(reads) > 1
        taken = [self.source(v) for v in reads]
        if "%xmm0" in taken[1:]:  # the first value is to be there
            free = next(name for name in NAMES[1:] if name not in taken)
            self.lines.append(f"vmovaps %xmm0, {free}")
            taken = [free if t == "%xmm0" else t for t in taken]
        if taken[0] != "%xmm0":
            move = "vmovaps" if taken[0].startswith("%xmm") else self.move
            self.lines.append(f"{move} {taken[0]}, %xmm0")
        if wide and self.size == 4:
            for k, operand in enumerate(taken[1:], 1):
                self.lines.append(f"vinsertps $${k << 4}, {operand}, %xmm0, %xmm0")
        elif wide:
            self.lines.append(f"vmovhpd {taken[1]}, %xmm0, %xmm0"
                              if not taken[1].startswith("%xmm")
                              else f"vunpcklpd {taken[1]}, %xmm0, %xmm0")
        self.done(at, reads)
        for r, value in enumerate(self.held):
            if value >= 0:
                self.register[value] = self.held[r] = -1
                self.free.append(r)
        self.lines.append(f"callq {next(self.applied)}")
        self.free.remove(0)
        ops = self.func.ops
        k = at + 1
        while k < len(ops) and ops[k][0] == "result":
            lane = ops[k][2]
            r = self.take()
            self.lines.append(
                f"vpermilps $${lane}, %xmm0, {NAMES[r]}" if self.size == 4 else
                f"vpermilpd $$1, %xmm0, {NAMES[r]}")
            self.give(k, r)
            k += 1
        self.give(at, 0)
