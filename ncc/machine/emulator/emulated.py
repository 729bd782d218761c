"""Instructions of a call, counted by the emulator Unicorn, where it is installed (extra `cost`).

An object is placed in the emulated machine's memory, its functions are called as C calls them, and
the basic blocks that run are counted; so a count takes seconds for millions of instructions. What a
machine without floating-point hardware calls of the compiler's runtime is computed here, and
counted by name.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ncc.errors import NccError, optional
from ncc.machine.emulator import timing
from ncc.machine.emulator.elf import Image, placed
from ncc.machine.emulator.libgcc import called
from ncc.machine.targets import Target, arch_of

CODE, STUBS, DATA, STACK = 0x20000, 0x10000, 0x10000000, 0x70000000
PAGE, ROOM = 1 << 16, 1 << 20
PAINT, PAINTED = b"\xa5", 1 << 18  # the stack before a call: what it takes is what it changed
MOST = 100_000_000  # bytes of instructions, after which a count is given up


@dataclass(frozen=True)
class Machine:
    """How Unicorn runs a family of machines: names of its constants, the registers of integer
    arguments and reals, of the return address and the stack; a return instruction; what enables
    floating point, registers and their values."""

    arch: str
    mode: str
    prefix: str
    integers: str
    reals: str
    link: str
    returns: str
    cpu: str = ""
    enabling: tuple[tuple[str, int], ...] = ()

    def constants(self) -> Any:
        return optional(f"unicorn.{self.prefix.lower()}_const", "cost")

    def register(self, name: str) -> Any:
        return getattr(self.constants(), f"UC_{self.prefix}_REG_{name}")


_THUMB = Machine("ARM", "THUMB", "ARM", "R0 R1 R2 R3", "S D", "LR", "7047", "MAX",
                 (("C1_C0_2", 0xF << 20), ("FPEXC", 1 << 30)))
_RISCV = Machine("RISCV", "RISCV32", "RISCV", "A0 A1 A2 A3 A4 A5 A6 A7", "", "X1", "67800000")
MACHINES = {
    "thumb": _THUMB,
    "armv7": replace(_THUMB, mode="ARM", returns="1eff2fe1"),
    "aarch64": Machine("ARM64", "ARM", "ARM64", "X0 X1 X2 X3 X4 X5 X6 X7", "S D", "LR",
                       "c0035fd6", enabling=(("CPACR_EL1", 3 << 20),)),
    "riscv32": _RISCV,
    "riscv64": replace(_RISCV, mode="RISCV64", reals="F F", enabling=(("MSTATUS", 0x6000),)),
    "x86_64": Machine("X86", "64", "X86", "RDI RSI RDX RCX R8 R9", "XMM XMM", "", "c3"),
}


def machine_of(target: Target) -> Machine | None:
    """How a target's code is run; None where Unicorn cannot: it has no AVX, and not these ABIs."""
    arch = arch_of(target.triple)
    if arch == "x86_64" and target.vector_bits > 128:
        return None
    if not ("linux" in target.triple or "none" in target.triple):
        return None
    return MACHINES.get("thumb" if arch.startswith("thumb") else arch)


@dataclass
class Emulated:
    """An object in an emulated machine. NccError E637 without Unicorn, E702 for an object with what
    the linker here does not know."""

    target: Target
    code: bytes
    engine: Any = field(init=False)
    image: Image = field(init=False)
    machine: Machine = field(init=False)
    blocks: Counter[tuple[int, int]] = field(init=False, default_factory=Counter)
    jumps: int = field(init=False, default=0)
    calls: Counter[str] = field(init=False, default_factory=Counter)
    ran: int = field(init=False, default=0)  # bytes of instructions

    def __post_init__(self) -> None:
        found = machine_of(self.target)
        assert found is not None
        self.machine = found
        unicorn = optional("unicorn", "cost")
        self.engine = unicorn.Uc(getattr(unicorn, f"UC_ARCH_{found.arch}"),
                                 getattr(unicorn, f"UC_MODE_{found.mode}"))
        if found.cpu:
            self.engine.ctl_set_cpu_model(getattr(found.constants(), f"UC_CPU_ARM_{found.cpu}"))
        self.image = placed(self.code, CODE, STUBS + 16)
        self._map(CODE, len(self.image.data))
        self.engine.mem_write(CODE, bytes(self.image.data))
        self._map(STUBS, 16 * len(self.image.missing) + 32)
        returns = bytes.fromhex(found.returns)
        self.named = {address & ~1: name for name, address in self.image.missing.items()}
        for address in (STUBS, *self.named):
            self.engine.mem_write(address, returns)
        self._map(STACK - ROOM, ROOM)
        for name, value in found.enabling:
            self.engine.reg_write(found.register(name), value)
        self.thumb = found.mode == "THUMB"
        self.last = 0
        self.free = DATA
        # Of x86-64 each instruction is a block: nobody here knows their lengths.
        kind = unicorn.UC_HOOK_CODE if found.arch == "X86" else unicorn.UC_HOOK_BLOCK
        self.engine.hook_add(kind, self._block)

    def _map(self, start: int, size: int) -> None:
        self.engine.mem_map(start, -(-max(size, 1) // PAGE) * PAGE)

    def allocate(self, data: bytes) -> int:
        """The address of a copy of the bytes, aligned to a cache line."""
        at = self.free
        size = -(-(len(data) + 64) // PAGE) * PAGE
        self._map(at, size)
        self.free += size
        self.engine.mem_write(at, data)
        return at

    def read(self, at: int, size: int) -> bytes:
        return bytes(self.engine.mem_read(at, size))

    def _block(self, engine: Any, address: int, size: int, user: Any) -> None:
        if address in self.named:
            self._runtime(self.named[address])
        elif address != STUBS:
            self.blocks[address, size] += 1
            self.jumps += address != self.last
            self.ran += size
            if self.ran > MOST:
                engine.emu_stop()
        self.last = address + size

    def _runtime(self, name: str) -> None:
        """Compute what a function of the compiler's runtime does."""
        self.calls[name] += 1
        registers = [self.machine.register(r) for r in self.machine.integers.split()]
        words = [self.engine.reg_read(r) & 0xFFFFFFFF for r in registers[:4]]
        for register, word in zip(registers, called(name, words), strict=False):
            self.engine.reg_write(register, word)

    def call(self, symbol: str, arguments: Sequence[int | np.floating[Any]]) -> timing.Count:
        """Call a function with integers and reals as C does. NccError E404 (status 4) where it
        takes more than MOST, or does what Unicorn does not know."""
        machine, engine = self.machine, self.engine
        self.blocks.clear()
        self.calls.clear()
        self.jumps = self.ran = 0
        stack = STACK - 4096
        stack = self._pass(arguments, stack)
        stubs = STUBS | self.thumb
        if machine.link:
            engine.reg_write(machine.register(machine.link), stubs)
        else:
            stack -= 8
            engine.mem_write(stack, struct.pack("<Q", STUBS))
        engine.reg_write(machine.register("RSP" if machine.arch == "X86" else "SP"), stack)
        engine.mem_write(stack - PAINTED, PAINT * PAINTED)
        start = self.image.symbols[symbol]
        self.last = start & ~1
        try:
            engine.emu_start(start, STUBS, count=0, timeout=120_000_000)
        except optional("unicorn", "cost").UcError as error:
            raise NccError("E404", f"{symbol} does not run in Unicorn: {error}") from None
        if self.ran > MOST:
            raise NccError("E404", f"{symbol} executes more than {MOST:,} bytes of instructions")
        return timing.of(self.target, self.read).count(
            self.blocks, self.jumps, self.calls,
            len(self.read(stack - PAINTED, PAINTED).lstrip(PAINT)))

    def _pass(self, arguments: Sequence[int | np.floating[Any]], stack: int) -> int:
        """Put arguments where the ABI wants them; the stack pointer below those in memory."""
        machine, engine = self.machine, self.engine
        wide = machine.arch in ("ARM64", "X86") or machine.mode == "RISCV64"
        word, registers = 8 if wide else 4, machine.integers.split()
        soft = not machine.reals or (machine.arch == "ARM" and self.target.triple.endswith("eabi"))
        used, spilled = 0, b""
        for value in arguments:
            if isinstance(value, np.floating) and not soft:
                self._real(value)
                continue
            raw = value.tobytes() if isinstance(value, np.floating) else value.to_bytes(
                word, "little")
            parts = [raw[k : k + word].ljust(word, b"\0") for k in range(0, len(raw), word)]
            if len(parts) > 1 and machine.arch == "ARM":
                used += used % 2  # a pair begins at an even register; on RISC-V at any
            if used >= len(registers):
                spilled += bytes(-len(spilled) % len(raw))
            for part in parts:
                if used < len(registers):
                    engine.reg_write(machine.register(registers[used]),
                                     int.from_bytes(part, "little"))
                    used += 1
                else:
                    spilled += part
        stack -= -(-len(spilled) // 16) * 16
        if spilled:
            engine.mem_write(stack, spilled)
        return stack

    def _real(self, value: np.floating[Any]) -> None:
        """The one real among the arguments, in the first register of reals."""
        machine = self.machine
        name = machine.reals.split()[value.itemsize == 8]
        raw = int.from_bytes(value.tobytes(), "little")
        if machine.mode == "RISCV64":
            self.engine.reg_write(machine.register("F10"), raw | (
                0xFFFFFFFF00000000 if value.itemsize == 4 else 0))
        else:
            self.engine.reg_write(machine.register(f"{name}0"), raw)


def version() -> str:
    """The emulator's name and version. NccError E637 where it is not installed."""
    return f"unicorn {optional('unicorn', 'cost').__version__}"
