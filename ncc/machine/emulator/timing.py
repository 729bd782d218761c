"""Instructions and cycles of basic blocks, by the manuals of in-order cores.

Cycles are those of code and data in memory without wait states. Sources: Arm's Technical Reference
Manuals, "Instruction set summary" with its tables of cycles: Cortex-M0 (DDI 0432C, 3.3), Cortex-M3
(DDI 0337I, 3.3), Cortex-M4 (DDI 0439D, 3.3, and 7.2.3 for its FPU). Of other cores no manual says
them instruction by instruction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ncc.machine.targets import Target, arch_of

DIVIDE, ROOT = 14, 14  # vdiv.f32, vsqrt.f32
INTEGER_DIVIDE = 12  # at most
REFILL = 2  # cycles beside its own of a branch that is taken
# Instructions and cycles of a call of libgcc's, of __aeabi_fadd the first, on average over operands
# of a normal distribution: measured of GCC 12.2 by `python tests/bench/bench_size.py --runtime`.
_M0 = {
    "fadd": (72, 107), "fsub": (76, 113), "fmul": (118, 150), "fdiv": (378, 502),
    "fcmplt": (34, 58), "fcmpgt": (35, 59), "fcmple": (35, 59), "fcmpeq": (24, 45),
    "fcmpun": (14, 16), "fcmpge": (34, 59), "dadd": (135, 191), "dsub": (149, 215),
    "dmul": (294, 363), "ddiv": (636, 827), "dcmplt": (57, 95), "dcmpgt": (56, 93),
    "dcmple": (56, 94), "dcmpeq": (40, 72), "dcmpun": (22, 39), "dcmpge": (56, 93),
    "ui2f": (37, 58), "ui2d": (39, 59), "lmul": (41, 58), "llsl": (12, 12), "llsr": (12, 12),
    "lasr": (9, 11)}
_M3 = {
    "fadd": (52, 55), "fsub": (53, 56), "fmul": (32, 32), "fdiv": (148, 158), "fcmplt": (33, 54),
    "fcmpgt": (37, 58), "fcmple": (33, 54), "fcmpeq": (33, 54), "fcmpun": (8, 12),
    "fcmpge": (37, 58), "dadd": (68, 86), "dsub": (70, 88), "dmul": (50, 59), "ddiv": (575, 610),
    "dcmplt": (40, 55), "dcmpgt": (47, 64), "dcmple": (40, 55), "dcmpeq": (40, 55),
    "dcmpun": (8, 12), "dcmpge": (47, 64), "ui2f": (24, 28), "ui2d": (32, 42), "lmul": (5, 5),
    "llsl": (12, 12), "llsr": (12, 12), "lasr": (9, 11)}
_RV32 = {name: (n, n) for name, n in {  # with the multiplier; nobody says its cycles
    "__addsf3": 73, "__subsf3": 78, "__mulsf3": 107, "__divsf3": 101, "__ltsf2": 21, "__gtsf2": 20,
    "__lesf2": 20, "__eqsf2": 17, "__unordsf2": 14, "__gesf2": 21, "__adddf3": 103, "__subdf3": 103,
    "__muldf3": 199, "__divdf3": 206, "__ltdf2": 24, "__gtdf2": 24, "__ledf2": 24, "__eqdf2": 18,
    "__unorddf2": 14, "__gedf2": 23, "__floatunsisf": 38, "__floatunsidf": 39, "__muldi3": 52,
    "__ashldi3": 11, "__lshrdi3": 11}.items()}
RUNTIME = {"thumbv6m": _M0, "thumbv7m": _M3, "thumbv7em": _M3, "riscv32": _RV32}


class Count(NamedTuple):
    """Of one call: `instructions` of the object; `calls` of the compiler's runtime by name, and the
    instructions that these take on average (`below`), None where nobody has measured them; `cycles`
    of both by the machine's manual, None where that does not say; the bytes of `stack` that it
    wrote to, the runtime's own apart."""

    instructions: int
    calls: dict[str, int]
    below: int | None
    cycles: int | None
    stack: int


@dataclass(frozen=True)
class Timing:
    """What is known of a target: how long its instructions are, and what they take, None where
    nobody says; `read` gives the bytes at an address."""

    arch: str
    cycles: Callable[[int, int], int] | None
    runtime: Mapping[str, tuple[int, int]]
    read: Callable[[int, int], bytes]

    def count(self, blocks: Mapping[tuple[int, int], int], jumps: int, calls: Counter[str],
              stack: int) -> Count:
        """Of basic blocks (address, bytes) that ran so often, with so many changes of address."""
        total = cycles = 0
        for (address, size), often in blocks.items():
            found = self.instructions(self.read(address, size))
            total += often * len(found)
            if self.cycles is not None:
                cycles += often * sum([self.cycles(*words) for words in found])
        known = None if self.cycles is None else cycles + REFILL * jumps
        called = [(self.runtime.get(name.removeprefix("__aeabi_")), often)
                  for name, often in sorted(calls.items())]
        below: int | None = 0
        for takes, often in called:
            if takes is None or below is None:
                below = known = None
            else:
                below += often * takes[0]
                known = None if known is None else known + often * takes[1]
        return Count(total, dict(sorted(calls.items())), below, known, stack)

    def instructions(self, code: bytes) -> list[tuple[int, int]]:
        """The instructions of a block, each as two words of 16 bits, the second 0 where there is
        none."""
        found, at = [], 0
        while at < len(code):
            first = int.from_bytes(code[at : at + 2], "little")
            if self.arch == "thumb":
                wide = first >> 11 >= 0b11101
            elif self.arch.startswith("riscv"):
                wide = first & 3 == 3
            else:  # x86-64's are told one by one
                wide = True
            second = int.from_bytes(code[at + 2 : at + 4], "little") if wide else 0
            found.append((first, second))
            at += len(code) if self.arch == "x86_64" else 4 if wide else 2
        return found


def of(target: Target, read: Callable[[int, int], bytes]) -> Timing:
    """What is known of a target's instructions."""
    sort = "" if target.cpu == "cortex-m7" else target.triple.split("-")[0]
    cycles = {"thumbv6m": _cortex_m0, "thumbv7m": _cortex_m4, "thumbv7em": _cortex_m4}.get(sort)
    return Timing(arch_of(target.triple), cycles, RUNTIME.get(sort, {}), read)


def _narrow(word: int) -> int:
    """Cycles of an instruction of 16 bits, a taken branch's refill apart."""
    if word >> 9 in (0b1011010, 0b1011110):  # push, pop
        return 1 + (word & 0x1FF).bit_count()
    if word >> 12 == 0b1100:  # ldm, stm
        return 1 + (word & 0xFF).bit_count()
    if word >> 11 == 0b01001 or 0b0101 <= word >> 12 <= 0b1001:  # ldr, str
        return 2
    return 1


def _cortex_m0(first: int, second: int) -> int:
    if second:  # bl
        return 2
    return _narrow(first) + (first >> 8 == 0b10111101)  # pop with pc


def _cortex_m4(first: int, second: int) -> int:
    if first >> 11 < 0b11101:
        return _narrow(first)
    if first & 0xEC00 == 0xEC00 and second >> 9 & 7 == 0b101:
        return _floating(first, second)
    if first >> 9 == 0b1110100:  # ldm, stm; ldrd, strd
        return 3 if first & 0x40 else 1 + second.bit_count()
    if first >> 9 == 0b1111100:  # ldr, str
        return 2
    if first & 0xFFD0 == 0xFB90:  # sdiv, udiv
        return INTEGER_DIVIDE
    return 1


def _floating(first: int, second: int) -> int:
    """An instruction of the Cortex-M4's FPU."""
    if first >> 8 & 0xF != 0xE:
        if first & 0x0FE0 == 0x0C40:  # two registers
            return 2
        return 2 if first & 0x0120 == 0x0100 else 1 + (second & 0xFF)  # vldr, vstr; vldm, vstm
    if second & 0x10:  # vmov from and to a core register, vmrs
        return 1
    kind = first >> 4 & 0b1011
    if kind == 0b1011:
        return ROOT if first & 0xF == 1 and second & 0xC0 == 0xC0 else 1
    if kind == 0b1000:
        return DIVIDE
    return 1 if kind in (0b0010, 0b0011) else 3  # vmul, vadd, vsub; vfma and its like
