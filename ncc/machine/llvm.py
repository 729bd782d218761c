"""The machine: LLVM text to assembly, objects and running code. Only this file imports llvmlite."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
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
from ncc.machine.targets import (
    ALIASES,
    BOTH,
    CPUS,
    ELSEWHERE,
    FEATURES,
    NEEDED,
    PARTS,
    TARGETS,
    Target,
    accepted,
    arch_of,
    built_upon,
)

# What objects are made with, besides ncc itself.
LLVM = f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}"

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
    architecture. x86-64 alone means x86-64-v3, wherever it is compiled. An AVR is known by its CPU.
    """
    if cpu is None and name in CPUS["avr"].split():
        name, cpu = "avr", name
    base = _named(name, cpu)
    if cpu == "native":
        if arch_of(host().triple) != arch_of(base.triple):
            raise NccError("E611", f"this machine is no {arch_of(base.triple)}",
                           help=f"--cpu with one of {' '.join(accepted(base.triple, CPUS))}")
        base = host()
    elif cpu is not None and cpu != base.cpu:
        friendly = TARGETS.get(cpu)
        if friendly is not None and friendly.cpu == cpu and (
                arch_of(friendly.triple) == arch_of(base.triple) == "x86_64"):
            # The same CPUs on every system.
            base = friendly if friendly.triple == base.triple else replace(
                friendly, name=f"{base.name}/{cpu}", triple=base.triple)
        elif friendly is not None and friendly.triple == base.triple:
            base = friendly
        elif cpu not in accepted(base.triple, CPUS):
            raise NccError("E611", f"unknown CPU {cpu} for {base.triple}",
                           help=f"one of {' '.join(accepted(base.triple, CPUS))}")
        else:
            base = _probed(base, cpu=cpu, name=f"{base.name}/{cpu}")
    return _with_features(base, features) if features else base


def _named(name: str | None, cpu: str | None) -> Target:
    """The target that `--target` names, or that its absence means."""
    here = arch_of(host().triple)
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
    if key in ELSEWHERE:
        raise NccError("E610", f"no target {name}: {ELSEWHERE[key]}",
                       help="--emit c (or arduino, cmake, zephyr) writes C for its own compiler")
    if key not in TARGETS:
        close = get_close_matches(key[:40].lower(), [*TARGETS, *ALIASES], 1, 0.8)
        raise NccError("E610", f"unknown target {name}", help="".join(
            [f"did you mean `{c}`? Else " for c in close])
            + "one of " + ", ".join([*TARGETS, "native"]) + ", or a triple of theirs")
    return TARGETS[key]


def _with_features(base: Target, features: str) -> Target:
    """`base` with +name and taken from it -name; what builds upon what is taken goes with it.
    NccError E612 where a feature is unknown, asked for and taken, or taken from under another."""
    known = accepted(base.triple, FEATURES)
    asked: dict[str, bool] = {}
    for feature in features.split(","):
        name, on = feature[1:], feature[:1] == "+"
        if feature[:1] not in ("+", "-") or name not in known:
            raise NccError("E612", f"unknown feature {feature} for {base.triple}",
                           help=f"+name or -name, comma-separated, of {' '.join(known)}"
                           if known else f"{base.name} has none to choose")
        if not on and name in NEEDED.get(arch_of(base.triple), ()):
            raise NccError("E612", f"{base.triple} cannot do without {name}")
        if asked.setdefault(name, on) != on:
            raise NccError("E612", f"both +{name} and -{name}")
    for name, on in asked.items():
        for below in built_upon(name) if on else ():
            if asked.get(below) is False:
                raise NccError("E612", f"+{name} needs {below}, which -{below} takes away")
    gone = {name for name in known
            if any(not on and (name == taken or taken in built_upon(name))
                   for taken, on in asked.items())}
    # LLVM takes what a feature brought along for another that brings back the feature: so what is
    # gone is no longer named, and its parts are taken away, too.
    kept = [f for f in base.features.split(",") if f and f[1:] not in gone]
    divided = PARTS.get(arch_of(base.triple), {})
    parts = [part for name in sorted(gone) for part in divided.get(name, ())]
    words = [*kept, *[f"+{name}" for name, on in asked.items() if on],
             *[f"-{name}" for name in (*sorted(gone), *parts)]]
    return _probed(base, features=",".join(words), name=f"{base.name},{features}")


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
    if arch_of(base.triple) == "wasm32":
        given["vector_bits"] = 128 if "+simd128" in given["features"].split(",") else 0
    if arch_of(base.triple) in ("x86_64", "i686"):
        wide = 256 if "cpu" in changes else max(256, base.vector_bits)
        given["vector_bits"] = wide if given["fma"] else 128
    return Target(**given)


# Extensions of RISC-V that are parts of others, by which alone GNU's assembler knows them.
_IMPLIED = r"_(zmmul|zaamo|zalrsc|zca|zcf|zcd)\d+p\d+"


def for_gnu(assembly: str) -> str:
    """LLVM's text as GNU's assembler (2.40) takes it."""
    text = assembly.replace("\t#APP\n\t#NO_APP\n", "")  # around nothing: windows, loops
    # What it does not know, or would take for an older machine, stands once, at the beginning.
    head, text = text[:4096], text[4096:]
    head = re.sub(r"(?m)^\t\.attribute\t5, .*$", lambda m: re.sub(_IMPLIED, "", m[0]), head)
    head = re.sub(r"\t\.cpu\tcortex-m(55|85)\n",
                  "\t.arch\tarmv8.1-m.main\n\t.arch_extension\tdsp\n", head)
    if head.startswith("\t.syntax\tunified\n") and not re.search(r"\t\.(cpu|arch)\t", head):
        head = head.replace("\n", "\n\t.arch\tarmv7-a\n", 1)
    return head + text


def _loop_passes(function: Any) -> Any:
    """What a function with loops gets, by its size."""
    passes = llvm.create_new_function_pass_manager()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_loop_rotate_pass()
    passes.add_loop_unroll_pass()
    if sum(1 for _ in islice(function.blocks, NUMBERED + 1)) <= NUMBERED:
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
            cpu=target.cpu, features=target.features, opt=max(opt, int(target.gives_up)),
            reloc="pic", codemodel="small", abiname=target.abi)

    def module(self, text: str) -> Any:
        """Parsed, verified, and with the loops rotated, unrolled and simplified of functions that
        ask for it by the attribute "loops".

        Straight functions get no mid-level pass: the ssa passes have done that work, and LLVM's
        grow worse than linearly. Without fast-math flags none of these changes a bit.
        """
        with self._working("llvm-parse"):
            try:
                # In a context of its own: bitcode numbers what its context has met before.
                module = llvm.parse_assembly(text, llvm.create_context())
                module.verify()
            except RuntimeError as error:
                raise NccError("E700", f"LLVM refuses the module: {error}") from None
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
        for function in module.functions:
            if any(b'"loops"' in attribute for attribute in function.attributes):
                _loop_passes(function).run(function, builder)

    def assembly(self, text: str) -> str:
        module = self.module(text)
        with self._working("llvm-codegen"):
            made = str(self.llvm.emit_assembly(module))
        if self.target.flash:  # avr-as (2.26) knows no `unique`, and the sections have own names
            made = re.sub(r"(?m),unique,\d+$", "", made)
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
        with start.SWITCHING:
            start.ERRORS = own if own >= 0 else 2
            os.dup2(kept.fileno(), 2)
        try:
            yield lines
        finally:
            with start.SWITCHING:
                if own < 0:
                    os.close(2)
                else:
                    os.dup2(own, 2)
                start.ERRORS = 2  # before its own number is nobody's: an interrupt may write now
                if own >= 0:
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
