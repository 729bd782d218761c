"""The machine: LLVM text to assembly, objects and running code. Only this file imports llvmlite."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from threading import Lock
from types import MappingProxyType
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from ncc.source import NccError

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
        """Whether ncc/x86.py writes its straight functions: its instructions, calling convention
        and object format are those."""
        return (self.triple.startswith("x86_64-") and "linux" in self.triple
                and self.fma == BOTH and self.vector_bits >= 256)

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
TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("x86-64", f"x86_64-{LINUX}", "x86-64", vector_bits=128),
        Target("x86-64-v3", f"x86_64-{LINUX}", "x86-64-v3", vector_bits=256, fma=BOTH),
        Target("x86-64-v4", f"x86_64-{LINUX}", "x86-64-v4", vector_bits=512, fma=BOTH),
        Target("aarch64", f"aarch64-{LINUX}", "generic", vector_bits=128, fma=BOTH),
        # All four parts: LLVM would take the environment of `thumbv6m-none-eabi` for the system,
        # forget the EABI, and call __adddf3 with the wrong registers.
        Target("cortex-m0", "thumbv6m-unknown-none-eabi", "cortex-m0", index_bits=32, sqrt=(),
               soft=BOTH),
        Target("cortex-m4f", "thumbv7em-unknown-none-eabihf", "cortex-m4", index_bits=32,
               fma=("f32",), sqrt=("f32",), soft=("f64",)),
        Target("cortex-m33", "thumbv8m.main-unknown-none-eabihf", "cortex-m33", index_bits=32,
               fma=("f32",), sqrt=("f32",), soft=("f64",)),
        Target("rv32imac", "riscv32-unknown-none-elf", "generic-rv32", "+m,+a,+c", "ilp32",
               index_bits=32, sqrt=(), soft=BOTH),
        Target("rv64gc", f"riscv64-{LINUX}", "generic-rv64", "+m,+a,+f,+d,+c", "lp64d", fma=BOTH),
        Target("wasm32", "wasm32-unknown-unknown", "generic", index_bits=32),
    )
}
ALIASES = {
    "riscv64": "rv64gc",
    "arm64": "aarch64",
    "thumbv6m-none-eabi": "cortex-m0",
    "thumbv7em-none-eabihf": "cortex-m4f",
    "thumbv8m.main-none-eabihf": "cortex-m33",
    "riscv32-unknown-elf": "rv32imac",
    **{t.triple: t.name for t in TARGETS.values() if not t.triple.startswith("x86_64")},
    **{f"{t.triple.split('-')[0]}-linux-gnu": t.name for t in TARGETS.values()
       if t.triple.endswith(LINUX) and t.name in ("aarch64", "rv64gc", "x86-64-v3")},
    f"x86_64-{LINUX}": "x86-64-v3",
    "x86_64-pc-linux-gnu": "x86-64-v3",
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
        if friendly is not None and friendly.triple == base.triple:
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
    if key not in TARGETS:
        raise NccError("E610", f"unknown target {name}", status=2,
                       help="one of " + ", ".join([*TARGETS, "native"]))
    return TARGETS[key]


def _with_features(base: Target, features: str) -> Target:
    known = _known(base.triple, _FEATURES)
    for feature in features.split(","):
        if feature[:1] not in ("+", "-") or feature[1:] not in known:
            raise NccError("E612", f"unknown feature {feature} for {base.triple}", status=2,
                           help=f"+name or -name, comma-separated, of {' '.join(known)}")
        if feature[0] == "-" and feature[1:] in _NEEDED.get(_arch(base.triple), ()):
            raise NccError("E612", f"{base.triple} cannot do without {feature[1:]}", status=2)
    return _probed(base, features=",".join([f for f in (base.features, features) if f]),
                   name=f"{base.name},{features}")


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
    if _arch(base.triple) == "x86_64":
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
    "aarch64": "generic cortex-a35 cortex-a53 cortex-a55 cortex-a57 cortex-a72 cortex-a76 "
    "cortex-a78 cortex-x1 neoverse-n1 neoverse-n2 neoverse-v1 apple-m1 apple-m2 apple-m3",
    # By the architecture of the triple: LLVM would use its instructions on a lesser CPU, too.
    "thumbv6m": "cortex-m0 cortex-m0plus cortex-m1 cortex-m3",
    "thumbv7em": "cortex-m4 cortex-m7",
    "thumbv8m.main": "cortex-m33 cortex-m55",
    "riscv32": "generic-rv32 sifive-e21 sifive-e31",
    "riscv64": "generic-rv64 sifive-u54 sifive-u74",
    "wasm32": "generic mvp bleeding-edge",
}
_FEATURES = {
    "x86_64": "sse sse2 sse3 ssse3 sse4.1 sse4.2 avx avx2 fma f16c bmi bmi2 avx512f avx512vl "
    "avx512dq avx512bw popcnt lzcnt movbe",
    "aarch64": "neon fp-armv8 sve dotprod fullfp16",
    "thumb": "fp16 vfp4 vfp4d16sp fp-armv8d16sp dsp",
    "riscv32": "m a c f d zba zbb",
    "riscv64": "m a c f d zba zbb v",
    "wasm32": "simd128 sign-ext bulk-memory nontrapping-fptoint",
}


# What the calling convention passes numbers in, or strict IEEE arithmetic needs.
_NEEDED = {
    "x86_64": ("sse", "sse2"),
    "aarch64": ("neon", "fp-armv8"),
    "riscv64": ("f", "d"),
}


def _arch(triple: str) -> str:
    arch = triple.split("-")[0]
    return "thumb" if arch.startswith("thumb") else "aarch64" if arch == "arm64" else arch


def _known(triple: str, table: Mapping[str, str]) -> list[str]:
    return table.get(triple.split("-")[0], table.get(_arch(triple), "")).split()


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

    def __init__(self, target: Target, opt: int = 2) -> None:
        _ready()
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
        try:
            module = llvm.parse_assembly(text)
            module.verify()
        except RuntimeError as error:
            raise NccError("E700", f"LLVM refuses the module: {error}", status=70) from None
        # The data layout belongs to the machine, not to the text.
        module.data_layout = str(self.llvm.target_data)
        module.triple = self.target.triple
        if self.opt == 0:
            return module
        options = llvm.create_pipeline_tuning_options(speed_level=self.opt)
        options.slp_vectorization = False
        options.loop_vectorization = False
        builder = llvm.create_pass_builder(self.llvm, options)
        numbering, plain = _loop_passes(True), _loop_passes(False)
        for function in module.functions:
            if any(b'"loops"' in attribute for attribute in function.attributes):
                few = sum(1 for _ in islice(function.blocks, NUMBERED + 1)) <= NUMBERED
                (numbering if few else plain).run(function, builder)
        return module

    def assembly(self, text: str) -> str:
        made = str(self.llvm.emit_assembly(self.module(text)))
        return made.replace("\t#APP\n\t#NO_APP\n", "")  # around the pointers of windows

    def bitcode(self, text: str) -> bytes:
        return bytes(self.module(text).as_bitcode())

    def object(self, text: str) -> bytes:
        return bytes(self.llvm.emit_object(self.module(text)))


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
