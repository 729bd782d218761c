"""The targets: their table, other names of them, the CPUs and features that each may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """What the passes have to know of a machine. `fma` and `sqrt` are the dtypes that have the
    instruction; `abi` is LLVM's name of the calling convention, where the triple leaves it open;
    `flash` is the address space of constants, where it is not that of all else."""

    name: str
    triple: str
    cpu: str
    features: str = ""
    abi: str = ""
    vector_bits: int = 0
    index_bits: int = 64
    fma: tuple[str, ...] = ()
    sqrt: tuple[str, ...] = ("f32", "f64")
    soft: tuple[str, ...] = ()  # the dtypes whose arithmetic is calls of libgcc's
    dtypes: tuple[str, ...] = ("f32", "f64")
    flash: int = 0
    divides: bool = True  # whether that division is rounded as IEEE 754 says
    # Whether LLVM's back end may end the process, as it runs out of registers: always at level 0.
    gives_up: bool = False

    @property
    def reach(self) -> int:
        """Bytes from a pointer, in both directions, that an instruction can say in one byte; 0
        where farther ones take no more."""
        return 128 if arch_of(self.triple) == "x86_64" else 0

    @property
    def small(self) -> bool:
        """Whether code for it is made small first: for machines whose memory is counted."""
        return arch_of(self.triple) in ("thumb", "riscv32", "wasm32", "avr")

    @property
    def assembles(self) -> int:
        """The bits of the vectors of ncc's own assembly, where ncc/machine/x86.py writes straight
        functions: instructions, calling convention and object format are its; else 0."""
        return self.vector_bits if (
            self.triple.startswith("x86_64-") and "linux" in self.triple
            and self.fma == BOTH and self.vector_bits >= 256) else 0

    @property
    def registers(self) -> int:
        """Vector registers."""
        arch = arch_of(self.triple)
        return 32 if self.vector_bits > 256 or arch == "aarch64" else 8 if arch == "i686" else 16

    def align(self, dtype: str) -> int:
        """Bytes that `packed` and `work` are aligned to: a vector's, or a number's."""
        return max(self.vector_bits // 8, 4 if dtype == "f32" else 8)

    @property
    def attributes(self) -> str:
        """Function attributes: the CPU, so that the text alone says what it is for (llc and clang
        take it without further options), and the width of vectors, without which LLVM halves
        512-bit ones on some CPUs."""
        words = [f'"target-cpu"="{self.cpu}"']
        if self.features:
            words.append(f'"target-features"="{self.features}"')
        if self.vector_bits:
            words.append(f'"min-legal-vector-width"="{self.vector_bits}"')
            words.append(f'"prefer-vector-width"="{self.vector_bits}"')
        return " ".join(words)


BOTH = ("f32", "f64")
LINUX = "unknown-linux-gnu"
MACOS = "apple-macosx"
WINDOWS = "pc-windows-msvc"
MINGW = "pc-windows-gnu"
TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("x86-64", f"x86_64-{LINUX}", "x86-64", vector_bits=128),
        Target("x86-64-v3", f"x86_64-{LINUX}", "x86-64-v3", vector_bits=256, fma=BOTH),
        Target("x86-64-v4", f"x86_64-{LINUX}", "x86-64-v4", vector_bits=512, fma=BOTH),
        # With SSE2: x87 arithmetic is rounded twice.
        Target("i686", f"i686-{LINUX}", "pentium4", vector_bits=128, index_bits=32),
        Target("aarch64", f"aarch64-{LINUX}", "generic", vector_bits=128, fma=BOTH),
        # VFPv3-D16, as Debian's and Rust's ports have it. NEON flushes subnormal numbers to 0.
        Target("armv7-a", f"armv7-{LINUX}eabihf", "generic", "+vfp3d16,-neon,-d32",
               index_bits=32),
        # All four parts: LLVM would take the environment of `thumbv6m-none-eabi` for the system,
        # forget the EABI, and call __adddf3 with the wrong registers.
        Target("cortex-m0", "thumbv6m-unknown-none-eabi", "cortex-m0", index_bits=32, sqrt=(),
               soft=BOTH),
        Target("cortex-m3", "thumbv7m-unknown-none-eabi", "cortex-m3", index_bits=32, sqrt=(),
               soft=BOTH),
        # The part without an FPU, whatever LLVM thinks of that name.
        Target("cortex-m4", "thumbv7em-unknown-none-eabi", "cortex-m4", "+soft-float,-fpregs",
               index_bits=32, sqrt=(), soft=BOTH),
        Target("cortex-m4f", "thumbv7em-unknown-none-eabihf", "cortex-m4", index_bits=32,
               fma=("f32",), sqrt=("f32",), soft=("f64",)),
        Target("cortex-m7", "thumbv7em-unknown-none-eabihf", "cortex-m7", index_bits=32, fma=BOTH),
        Target("cortex-m33", "thumbv8m.main-unknown-none-eabihf", "cortex-m33", index_bits=32,
               fma=("f32",), sqrt=("f32",), soft=("f64",)),
        # Without its vectors, which flush subnormal numbers to 0.
        Target("cortex-m55", "thumbv8.1m.main-unknown-none-eabihf", "cortex-m55",
               "-mve", index_bits=32, fma=BOTH),
        Target("rv32imc", "riscv32-unknown-none-elf", "generic-rv32", "+m,+c", "ilp32",
               index_bits=32, sqrt=(), soft=BOTH),
        Target("rv32imac", "riscv32-unknown-none-elf", "generic-rv32", "+m,+a,+c", "ilp32",
               index_bits=32, sqrt=(), soft=BOTH),
        Target("rv64gc", f"riscv64-{LINUX}", "generic-rv64", "+m,+a,+f,+d,+c", "lp64d", fma=BOTH),
        Target("wasm32", "wasm32-unknown-unknown", "generic", index_bits=32),
        # Flash is read by instructions of its own; the runtime is avr-libc's.
        Target("avr", "avr-unknown-none-elf", "atmega328p", index_bits=16, sqrt=(), soft=("f32",),
               dtypes=("f32",), flash=1, divides=False, gives_up=True),
        # The systems' first versions that linkers know for these machines.
        Target(f"x86_64-{MACOS}", f"x86_64-{MACOS}10.13.0", "x86-64-v3", vector_bits=256,
               fma=BOTH),
        Target(f"arm64-{MACOS}", f"arm64-{MACOS}11.0.0", "apple-m1", vector_bits=128, fma=BOTH),
        Target(f"x86_64-{WINDOWS}", f"x86_64-{WINDOWS}", "x86-64-v3", vector_bits=256, fma=BOTH),
        Target(f"x86_64-{MINGW}", f"x86_64-{MINGW}", "x86-64-v3", vector_bits=256, fma=BOTH),
        Target(f"arm64-{WINDOWS}", f"aarch64-{WINDOWS}", "generic", vector_bits=128, fma=BOTH),
    )
}
# Target: other names of it. Triples as clang, gcc's packages, Rust and Zig spell them; LLVM's own
# of each target, and versions of a system behind its name, are taken, too.
_NAMES = {
    "x86-64-v3": "x86_64 amd64 x86_64-linux-gnu x86_64-pc-linux-gnu x86_64-redhat-linux "
    "x86_64-linux-musl x86_64-unknown-linux-musl x86_64-pc-linux-musl x86_64-linux x86_64-elf "
    "x86_64-unknown-elf x86_64-none-elf x86_64-unknown-none x86_64-unknown-linux "
    f"x86_64-{LINUX}",
    "i686": "i686-linux-gnu i686-pc-linux-gnu i686-linux-musl i686-unknown-linux-musl "
    "i386-linux-gnu i386-pc-linux-gnu i386-unknown-linux-gnu i586-linux-gnu x86-linux-gnu",
    "aarch64": "arm64 aarch64-linux-gnu aarch64-none-linux-gnu aarch64-pc-linux-gnu "
    "aarch64-linux-musl aarch64-unknown-linux-musl aarch64-none-elf aarch64-unknown-none "
    "aarch64-elf aarch64-linux arm64-linux-gnu armv8-a",
    "armv7-a": "armv7 armv7a armhf armv7-linux-gnueabihf arm-linux-gnueabihf "
    "armv7a-linux-gnueabihf arm-none-linux-gnueabihf arm-unknown-linux-gnueabihf "
    "armv7-unknown-linux-musleabihf arm-linux-musleabihf armv7a-none-eabihf armv7-none-eabihf "
    "armv7a-unknown-none-eabihf",
    "cortex-m0": "thumbv6m-none-eabi thumbv6m-none-unknown-eabi armv6m-none-eabi cortex-m0plus",
    "cortex-m3": "thumbv7m-none-eabi thumbv7m-none-unknown-eabi armv7m-none-eabi",
    "cortex-m4": "thumbv7em-none-eabi thumbv7em-none-unknown-eabi armv7em-none-eabi",
    "cortex-m4f": "thumbv7em-none-eabihf thumbv7em-none-unknown-eabihf armv7em-none-eabihf",
    "cortex-m33": "thumbv8m.main-none-eabihf thumbv8m.main-none-unknown-eabihf "
    "armv8m.main-none-eabihf",
    "cortex-m55": "thumbv8.1m.main-none-eabihf thumbv8.1m.main-none-unknown-eabihf "
    "armv8.1m.main-none-eabihf",
    "rv32imc": "riscv32imc-unknown-none-elf riscv32imc-unknown-elf riscv32imc esp32c3",
    "rv32imac": "riscv32 rv32 riscv32-unknown-elf riscv32-none-elf riscv32imac-unknown-none-elf "
    "riscv32imac-unknown-elf riscv32-elf riscv32imac esp32c6",
    "rv64gc": "riscv64 rv64 riscv64gc riscv64-linux-gnu riscv64gc-unknown-linux-gnu "
    "riscv64-linux-musl riscv64-unknown-linux-musl riscv64gc-unknown-linux-musl "
    "riscv64gc-unknown-none-elf riscv64-unknown-elf",
    "wasm32": "wasm wasm32-unknown wasm32-wasi wasm32-wasip1 wasm32-unknown-wasi wasm32-wasi-musl "
    "wasm32-unknown-emscripten wasm32-emscripten wasm32-freestanding",
    "avr": "avr-none avr-none-elf avr-unknown-unknown avr-unknown-elf avr-unknown-gnu-atmega328 "
    "avr5 arduino-uno",
    f"x86_64-{MACOS}": "x86_64-apple-darwin x86_64-apple-macos x86_64-macos x86_64-macos-none "
    "x86_64-darwin",
    f"arm64-{MACOS}": "arm64-apple-darwin arm64-apple-macos aarch64-apple-macosx "
    "aarch64-apple-darwin aarch64-apple-macos aarch64-macos aarch64-macos-none arm64-macos "
    "arm64-darwin",
    f"x86_64-{WINDOWS}": "x86_64-windows-msvc x86_64-unknown-windows-msvc x86_64-windows "
    "x86_64-pc-windows x86_64-win32 x86_64-pc-win32",
    f"x86_64-{MINGW}": "x86_64-w64-mingw32 x86_64-windows-gnu x86_64-w64-windows-gnu "
    "x86_64-pc-mingw32 x86_64-unknown-windows-gnu x86_64-mingw32",
    f"arm64-{WINDOWS}": "aarch64-pc-windows-msvc aarch64-windows-msvc arm64-windows-msvc "
    "aarch64-unknown-windows-msvc aarch64-windows arm64-windows aarch64-pc-windows",
}
ALIASES = {
    # LLVM's own; of those that several targets have, the last one's that is no special part.
    **{t.triple: t.name for t in TARGETS.values()
       if t.name not in ("x86-64", "x86-64-v4", "cortex-m7", "rv32imc")},
    **{alias: name for name, aliases in _NAMES.items() for alias in aliases.split()},
}
# Machines that a user may ask for and LLVM does not make code for, and why; and their other names.
ELSEWHERE = {
    "xtensa": "LLVM, as llvmlite has it, has no back end for Xtensa",
    "msp430": "LLVM's back end for MSP430 is an experiment, whose results nothing here can check",
}
ELSEWHERE |= dict.fromkeys(
    "esp32 esp32s2 esp32s3 esp8266 xtensa-esp32-elf xtensa-esp32s3-elf xtensa-lx106-elf "
    "xtensa-none-elf xtensa-esp32-none-elf".split(), ELSEWHERE["xtensa"])
ELSEWHERE |= dict.fromkeys("msp430-elf msp430-none-elf msp430-unknown-elf".split(),
                           ELSEWHERE["msp430"])
# The CPUs and features that are accepted: a checked list, as LLVM only warns of others, and a
# bad CPU name can end the process.
CPUS = {
    "x86_64": "x86-64 x86-64-v2 x86-64-v3 x86-64-v4 nehalem westmere sandybridge ivybridge haswell "
    "broadwell skylake skylake-avx512 cascadelake icelake-client icelake-server tigerlake "
    "sapphirerapids alderlake raptorlake silvermont goldmont tremont znver1 znver2 znver3 znver4 "
    "btver2 bdver4 atom core2",
    "i686": "pentium4 pentium-m prescott yonah nocona core2 atom silvermont nehalem haswell "
    "skylake znver1 znver3",
    "aarch64": "generic cortex-a35 cortex-a53 cortex-a55 cortex-a57 cortex-a72 cortex-a76 "
    "cortex-a78 cortex-x1 neoverse-n1 neoverse-n2 neoverse-v1 apple-m1 apple-m2 apple-m3",
    "armv7": "generic cortex-a5 cortex-a7 cortex-a8 cortex-a9 cortex-a12 cortex-a15 cortex-a17",
    # By the architecture of the triple: LLVM would use its instructions on a lesser CPU, too.
    "thumbv6m": "cortex-m0 cortex-m0plus cortex-m1",
    "thumbv7m": "cortex-m3",
    "thumbv7em": "cortex-m4 cortex-m7",
    "thumbv8m.main": "cortex-m33",
    "thumbv8.1m.main": "cortex-m55 cortex-m85",
    "riscv32": "generic-rv32 sifive-e21 sifive-e31",
    "riscv64": "generic-rv64 sifive-u54 sifive-u74",
    "wasm32": "generic mvp bleeding-edge",
    "avr": "atmega328p atmega328 atmega168p atmega168 atmega8 atmega32u4 atmega644p atmega1284p "
    "atmega2560 attiny85",
}
_X86 = ("sse sse2 sse3 ssse3 sse4.1 sse4.2 avx avx2 fma f16c bmi bmi2 avx512f avx512vl avx512dq "
        "avx512bw popcnt lzcnt movbe")
FEATURES = {
    "x86_64": _X86,
    "i686": _X86,
    "aarch64": "neon fp-armv8 sve dotprod fullfp16",
    "armv7": "vfp4d16 fp16",
    "thumb": "fp16 vfp4 vfp4d16sp fp-armv8d16sp dsp",
    "thumbv6m": "",
    "thumbv7m": "",
    "riscv32": "m a c f d zba zbb",
    "riscv64": "m a c f d zba zbb v",
    "wasm32": "simd128 sign-ext bulk-memory nontrapping-fptoint",
}
# What a feature builds upon.
_BASES = {
    "sse2": "sse", "sse3": "sse2", "ssse3": "sse3", "sse4.1": "ssse3", "sse4.2": "sse4.1",
    "avx": "sse4.2", "avx2": "avx", "fma": "avx", "f16c": "avx", "avx512f": "avx2 fma f16c",
    "avx512vl": "avx512f", "avx512dq": "avx512f", "avx512bw": "avx512f",
    "neon": "fp-armv8", "sve": "neon fullfp16", "dotprod": "neon", "fullfp16": "fp-armv8",
    "vfp4": "vfp4d16sp", "vfp4d16": "fp16", "vfp4d16sp": "fp16", "fp-armv8d16sp": "vfp4d16sp",
    "d": "f", "v": "d",
}
# What LLVM divides a feature into.
PARTS = {arch: {"m": ("zmmul",), "a": ("zaamo", "zalrsc"), "c": ("zca",)}
         for arch in ("riscv32", "riscv64")}
# What the calling convention passes numbers in, or strict IEEE arithmetic needs.
NEEDED = {
    "x86_64": ("sse", "sse2"),
    "i686": ("sse", "sse2"),
    "aarch64": ("neon", "fp-armv8"),
    "riscv64": ("f", "d"),
}


def built_upon(name: str) -> set[str]:
    """The features that one builds upon."""
    found: set[str] = set()
    left = [name]
    while left:
        new = set(_BASES.get(left.pop(), "").split()) - found
        found |= new
        left += new
    return found


def arch_of(triple: str) -> str:
    """The architecture of a triple: `thumb` of all its versions."""
    arch = triple.split("-")[0]
    return "thumb" if arch.startswith("thumb") else "aarch64" if arch == "arm64" else arch


def accepted(triple: str, table: Mapping[str, str]) -> list[str]:
    """What a table of CPUs or features has for a triple."""
    return table.get(triple.split("-")[0], table.get(arch_of(triple), "")).split()
