"""The machine: LLVM text to assembly, objects and running code. Only this file imports llvmlite."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from itertools import islice
from tempfile import TemporaryFile
from threading import Lock
from types import MappingProxyType
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from ncc import start
from ncc.errors import NccError

# What objects are made with, besides ncc itself.
LLVM = f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}"


@dataclass(frozen=True)
class Target:
    """What the passes have to know of a machine. `fma` and `sqrt` are the dtypes that have the
    instruction; `abi` is LLVM's name of the calling convention, where the triple leaves it open."""

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

    @property
    def reach(self) -> int:
        """Bytes from a pointer, in both directions, that an instruction can say in one byte; 0
        where farther ones take no more."""
        return 128 if _arch(self.triple) == "x86_64" else 0

    @property
    def small(self) -> bool:
        """Whether code for it is made small first: for machines whose memory is counted."""
        return _arch(self.triple) in ("thumb", "riscv32", "wasm32")

    @property
    def assembles(self) -> bool:
        """Whether ncc/machine/x86.py writes its straight functions: its instructions, calling
        convention and object format are those."""
        return (self.triple.startswith("x86_64-") and "linux" in self.triple
                and self.fma == BOTH and self.vector_bits >= 256)

    @property
    def registers(self) -> int:
        """Vector registers."""
        arch = _arch(self.triple)
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
    "rv32imc": "riscv32imc-unknown-none-elf riscv32imc-unknown-elf riscv32imc",
    "rv32imac": "riscv32 rv32 riscv32-unknown-elf riscv32-none-elf riscv32imac-unknown-none-elf "
    "riscv32imac-unknown-elf riscv32-elf riscv32imac",
    "rv64gc": "riscv64 rv64 riscv64gc riscv64-linux-gnu riscv64gc-unknown-linux-gnu "
    "riscv64-linux-musl riscv64-unknown-linux-musl riscv64gc-unknown-linux-musl "
    "riscv64gc-unknown-none-elf riscv64-unknown-elf",
    "wasm32": "wasm wasm32-unknown wasm32-wasi wasm32-wasip1 wasm32-unknown-wasi wasm32-wasi-musl "
    "wasm32-unknown-emscripten wasm32-emscripten wasm32-freestanding",
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


# Basic blocks of a function up to which its values are numbered: LLVM's NewGVN keeps all that it
# thought of a value in each round over the loops behind it. With 617 blocks that were 130 MB, with
# 1,469 1.3 GB and 4.4 s of 7, and the code was a tenth smaller.
NUMBERED = 512


@cache
def _ready() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()


@cache
def host() -> Target:
    """This machine."""
    _ready()
    features = llvm.get_host_cpu_features()
    bits = 128
    if features.get("avx2"):
        bits = 256
    if features.get("avx512f"):
        bits = 512
    triple = llvm.get_process_triple()
    arm = triple.startswith(("aarch64", "arm64"))
    cpu = llvm.get_host_cpu_name()
    return Target(f"native/{cpu}", triple, cpu, features.flatten(),
                  vector_bits=bits, fma=BOTH if features.get("fma") or arm else ())


def target(name: str | None = None, cpu: str | None = None, features: str = "") -> Target:
    """The target of `--target`, `--cpu` and `--features`; an NccError E610..E612 where unknown.

    Without a name, the CPU of a friendly name stands for it, and others belong to this machine's
    architecture. x86-64 alone means x86-64-v3, wherever it is compiled.
    """
    base = _named(name, cpu)
    if cpu == "native":
        if _arch(host().triple) != _arch(base.triple):
            raise NccError("E611", f"this machine is no {_arch(base.triple)}", status=2,
                           help=f"--cpu with one of {' '.join(_known(base.triple, _CPUS))}")
        base = host()
    elif cpu is not None and cpu != base.cpu:
        friendly = TARGETS.get(cpu)
        if friendly is not None and friendly.cpu == cpu and (
                _arch(friendly.triple) == _arch(base.triple) == "x86_64"):
            # The same CPUs on every system.
            base = friendly if friendly.triple == base.triple else replace(
                friendly, name=f"{base.name}/{cpu}", triple=base.triple)
        elif friendly is not None and friendly.triple == base.triple:
            base = friendly
        elif cpu not in _known(base.triple, _CPUS):
            raise NccError("E611", f"unknown CPU {cpu} for {base.triple}", status=2,
                           help=f"one of {' '.join(_known(base.triple, _CPUS))}")
        else:
            base = _probed(base, cpu=cpu, name=f"{base.name}/{cpu}")
    return _with_features(base, features) if features else base


def _named(name: str | None, cpu: str | None) -> Target:
    """The target that `--target` names, or that its absence means."""
    here = _arch(host().triple)
    if name in ("native", "host") and cpu in (None, "native"):
        return host()
    if name in (None, "native", "host"):
        if cpu is None or cpu == "native":
            return TARGETS["x86-64-v3"] if here == "x86_64" else host()
        key = cpu if cpu in TARGETS else "aarch64" if here == "aarch64" else "x86-64"
    else:
        key = ALIASES.get(str(name), str(name))
    if key not in TARGETS:  # a version may stand behind the system's name: macosx14.0
        bare = re.sub(r"(macosx|macos|darwin)[\d.]+$", r"\1", key.lower())
        key = ALIASES.get(bare, bare)
    if key not in TARGETS:
        close = get_close_matches(key[:40].lower(), [*TARGETS, *ALIASES], 1, 0.8)
        raise NccError("E610", f"unknown target {name}", status=2, help="".join(
            [f"did you mean `{c}`? Else " for c in close])
            + "one of " + ", ".join([*TARGETS, "native"]) + ", or a triple of theirs")
    return TARGETS[key]


def _with_features(base: Target, features: str) -> Target:
    """`base` with +name and taken from it -name; what builds upon what is taken goes with it.
    NccError E612 where a feature is unknown, asked for and taken, or taken from under another."""
    known = _known(base.triple, _FEATURES)
    asked: dict[str, bool] = {}
    for feature in features.split(","):
        name, on = feature[1:], feature[:1] == "+"
        if feature[:1] not in ("+", "-") or name not in known:
            raise NccError("E612", f"unknown feature {feature} for {base.triple}", status=2,
                           help=f"+name or -name, comma-separated, of {' '.join(known)}"
                           if known else f"{base.name} has none to choose")
        if not on and name in _NEEDED.get(_arch(base.triple), ()):
            raise NccError("E612", f"{base.triple} cannot do without {name}", status=2)
        if asked.setdefault(name, on) != on:
            raise NccError("E612", f"both +{name} and -{name}", status=2)
    for name, on in asked.items():
        for below in _below(name) if on else ():
            if asked.get(below) is False:
                raise NccError("E612", f"+{name} needs {below}, which -{below} takes away",
                               status=2)
    gone = {name for name in known
            if any(not on and (name == taken or taken in _below(name))
                   for taken, on in asked.items())}
    # LLVM takes what a feature brought along for another that brings back the feature: so what is
    # gone is no longer named, and its parts are taken away, too.
    kept = [f for f in base.features.split(",") if f and f[1:] not in gone]
    divided = _PARTS.get(_arch(base.triple), {})
    parts = [part for name in sorted(gone) for part in divided.get(name, ())]
    words = [*kept, *[f"+{name}" for name, on in asked.items() if on],
             *[f"-{name}" for name in (*sorted(gone), *parts)]]
    return _probed(base, features=",".join(words), name=f"{base.name},{features}")


def _below(name: str) -> set[str]:
    """The features that one builds upon."""
    found: set[str] = set()
    left = [name]
    while left:
        new = set(_BASES.get(left.pop(), "").split()) - found
        found |= new
        left += new
    return found


# A name that is an instruction of wasm's stands behind a point there: f32.sqrt.
_CALLED = r"(?<![.\w])(fmaf?|sqrtf?|__aeabi_[fd]add|__add[sd]f3)(?![.\w])"


def _probed(base: Target, **changes: str) -> Target:
    """`base` changed, and what its machine then has, asked of LLVM by what it makes of a sum, a
    root and an FMA."""
    text = ["target triple = \"" + base.triple + "\""]
    for real, n in (("float", 32), ("double", 64)):
        text += [
            f"declare {real} @llvm.fma.f{n}({real}, {real}, {real})",
            f"declare {real} @llvm.sqrt.f{n}({real})",
            f"define {real} @f{n}({real} %a, {real} %b) {{",
            f"  %c = fadd {real} %a, %b",
            f"  %d = call {real} @llvm.sqrt.f{n}({real} %c)",
            f"  %e = call {real} @llvm.fma.f{n}({real} %d, {real} %b, {real} %c)",
            f"  ret {real} %e", "}",
        ]
    given: dict[str, Any] = {**base.__dict__, **changes}
    assembly = Machine(Target(**given), 0).assembly("\n".join(text) + "\n")
    called = {str(c) for c in re.findall(_CALLED, assembly)}
    names = (("f32", "fmaf", "sqrtf", ("__aeabi_fadd", "__addsf3")),
             ("f64", "fma", "sqrt", ("__aeabi_dadd", "__adddf3")))
    given["soft"] = tuple([d for d, _, _, adds in names if not called.isdisjoint(adds)])
    given["fma"] = tuple([d for d, fma, _, _ in names if fma not in called])
    given["sqrt"] = tuple([d for d, _, sqrt, _ in names if sqrt not in called])
    if _arch(base.triple) in ("x86_64", "i686"):
        wide = 256 if "cpu" in changes else max(256, base.vector_bits)
        given["vector_bits"] = wide if given["fma"] else 128
    return Target(**given)


# The CPUs and features that are accepted: a checked list, as LLVM only warns of others, and a
# bad CPU name can end the process.
_CPUS = {
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
}
_X86 = ("sse sse2 sse3 ssse3 sse4.1 sse4.2 avx avx2 fma f16c bmi bmi2 avx512f avx512vl avx512dq "
        "avx512bw popcnt lzcnt movbe")
_FEATURES = {
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
_PARTS = {arch: {"m": ("zmmul",), "a": ("zaamo", "zalrsc"), "c": ("zca",)}
          for arch in ("riscv32", "riscv64")}


# What the calling convention passes numbers in, or strict IEEE arithmetic needs.
_NEEDED = {
    "x86_64": ("sse", "sse2"),
    "i686": ("sse", "sse2"),
    "aarch64": ("neon", "fp-armv8"),
    "riscv64": ("f", "d"),
}


def _arch(triple: str) -> str:
    arch = triple.split("-")[0]
    return "thumb" if arch.startswith("thumb") else "aarch64" if arch == "arm64" else arch


def _known(triple: str, table: Mapping[str, str]) -> list[str]:
    return table.get(triple.split("-")[0], table.get(_arch(triple), "")).split()


# Extensions of RISC-V that are parts of others, by which alone GNU's assembler knows them.
_IMPLIED = r"_(zmmul|zaamo|zalrsc|zca|zcf|zcd)\d+p\d+"


def for_gnu(assembly: str) -> str:
    """LLVM's text as GNU's assembler (2.40) takes it."""
    text = assembly.replace("\t#APP\n\t#NO_APP\n", "")  # around the pointers of windows
    # What it does not know, or would take for an older machine, stands once, at the beginning.
    head, text = text[:4096], text[4096:]
    head = re.sub(r"(?m)^\t\.attribute\t5, .*$", lambda m: re.sub(_IMPLIED, "", m[0]), head)
    head = re.sub(r"\t\.cpu\tcortex-m(55|85)\n", "\t.arch\tarmv8.1-m.main\n", head)
    if head.startswith("\t.syntax\tunified\n") and not re.search(r"\t\.(cpu|arch)\t", head):
        head = head.replace("\n", "\n\t.arch\tarmv7-a\n", 1)
    return head + text


def _loop_passes(numbering: bool) -> Any:
    """What functions with loops get; value numbering among it where that is wanted."""
    passes = llvm.create_new_function_pass_manager()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_loop_simplify_pass()
    passes.add_loop_rotate_pass()
    passes.add_loop_unroll_pass()
    if numbering:
        passes.add_new_gvn_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    return passes


class Machine:
    """A target at a codegen level 0..3: text to assembly, bitcode, objects."""

    def __init__(self, target: Target, opt: int = 2,
                 working: Callable[[str], AbstractContextManager[None]] | None = None) -> None:
        """`working(stage)` is entered around each stage, for whoever times them."""
        _ready()
        self._working = working or (lambda stage: nullcontext())
        self.target = target
        self.opt = opt
        found = llvm.Target.from_triple(target.triple)
        self.llvm = found.create_target_machine(
            cpu=target.cpu, features=target.features, opt=opt, reloc="pic", codemodel="small",
            abiname=target.abi)

    def module(self, text: str) -> Any:
        """Parsed, verified, and with its loops simplified, rotated and unrolled.

        Straight functions get no mid-level pass: the ssa passes have done that work, and LLVM's
        grow worse than linearly. Without fast-math flags none of these changes a bit.
        """
        with self._working("llvm-parse"):
            try:
                # In a context of its own: bitcode numbers what its context has met before.
                module = llvm.parse_assembly(text, llvm.create_context())
                module.verify()
            except RuntimeError as error:
                raise NccError("E700", f"LLVM refuses the module: {error}", status=70) from None
        # The data layout belongs to the machine, not to the text.
        module.data_layout = str(self.llvm.target_data)
        module.triple = self.target.triple
        if self.opt:
            with self._working("llvm-optimise"):
                self._optimise(module)
        return module

    def _optimise(self, module: Any) -> None:
        options = llvm.create_pipeline_tuning_options(speed_level=self.opt)
        options.slp_vectorization = False
        options.loop_vectorization = False
        builder = llvm.create_pass_builder(self.llvm, options)
        numbering, plain = _loop_passes(True), _loop_passes(False)
        for function in module.functions:
            if any(b'"loops"' in attribute for attribute in function.attributes):
                few = sum(1 for _ in islice(function.blocks, NUMBERED + 1)) <= NUMBERED
                (numbering if few else plain).run(function, builder)

    def assembly(self, text: str) -> str:
        module = self.module(text)
        with self._working("llvm-codegen"):
            made = str(self.llvm.emit_assembly(module))
        return for_gnu(made)

    def bitcode(self, text: str) -> bytes:
        return bytes(self.module(text).as_bitcode())

    def object(self, text: str) -> bytes:
        module = self.module(text)
        with self._working("llvm-codegen"):
            return bytes(self.llvm.emit_object(module))

    def measured(self, text: str) -> bytes:
        """The object, behind a line of JSON that has the bytes of its functions' frames by their
        symbols: LLVM says them when it is asked to warn of every frame."""
        marked = re.sub(r"(?m)^(attributes #\d+ = \{)", r'\1 "warn-stack-size"="0"', text)
        with _heard() as lines:
            code = self.object(marked)
        found = [_FRAME.search(line) for line in lines]
        frames = {m[2]: int(m[1]) for m in found if m}
        return json.dumps(frames, sort_keys=True).encode() + b"\n" + code


def sections(code: bytes) -> list[tuple[str, int]]:
    """Names and sizes of an object's sections, whatever its format."""
    found = llvm.ObjectFileRef.from_data(code).sections()
    return [((s.name() or b"").decode(errors="replace"), s.size()) for s in found]


_FRAME = re.compile(r"stack frame size \((\d+)\) exceeds limit \(0\) in function '([^']*)'")
_listening = Lock()


@contextmanager
def _heard() -> Iterator[list[str]]:
    """The lines that are written to file 2 meanwhile, which is where LLVM warns; those that are no
    warnings of frames are passed on."""
    lines: list[str] = []
    with _listening, TemporaryFile() as kept:
        try:
            own = os.dup(2)
        except OSError:  # nobody listens there
            own = -1
        os.dup2(kept.fileno(), 2)
        start.ERRORS = own if own >= 0 else 2
        try:
            yield lines
        finally:
            start.ERRORS = 2
            if own < 0:
                os.close(2)
            else:
                os.dup2(own, 2)
                os.close(own)
            kept.seek(0)
            for line in kept.read().decode(errors="replace").splitlines(keepends=True):
                if _FRAME.search(line):
                    lines.append(line)
                elif own >= 0:
                    os.write(2, line.encode())


_compilers = Lock()


class Loaded:
    """An object in this process. It owns the engine: the addresses live as long as it does.

    `outside` are the addresses of what the object reads and does not have, which must live as long
    too: what has none is at address 0."""

    def __init__(self, object_code: bytes, symbols: list[str],
                 outside: Mapping[str, int] = MappingProxyType({})) -> None:
        _ready()
        builder = llvm.JITLibraryBuilder().add_object_img(object_code)
        for symbol, address in outside.items():
            builder.import_symbol(symbol, address)
        for symbol in symbols:
            builder.export_symbol(symbol)
        with _compilers:
            self._engine = llvm.create_lljit_compiler()
            self._library = builder.link(self._engine, "net")
        self.addresses = {s: int(self._library[s]) for s in symbols}


@cache
def calls() -> Loaded:
    """`call(a)` calls the function a[0] with the pointers a[1], ..., a[4]: ctypes takes as long to
    make four arguments as all else of a small net's call. One that takes fewer does not look at
    the others, in the C conventions of every machine that ncc runs on."""
    lines = ["define void @call(ptr %a) {", "  %f = load ptr, ptr %a"]
    for k in range(1, 5):
        lines += [f"  %at{k} = getelementptr ptr, ptr %a, i64 {k}",
                  f"  %p{k} = load ptr, ptr %at{k}"]
    lines += ["  tail call void %f(ptr %p1, ptr %p2, ptr %p3, ptr %p4)", "  ret void", "}", ""]
    return Loaded(Machine(host()).object("\n".join(lines)), ["call"])
