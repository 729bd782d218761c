"""What a build can be written as: the kinds, the endings of their files, what stands in them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from ncc.driver.compiler import Build
from ncc.driver.observe import carrying
from ncc.driver.pipeline import walk
from ncc.errors import NccError
from ncc.formats import write as texts
from ncc.ir.graph import Graph
from ncc.ir.ssa import Module
from ncc.machine.llvm import host
from ncc.machine.targets import Target
from ncc.passes.emit.to_c import to_c
from ncc.report.dot import dot
from ncc.report.formulas import bwd, fwd
from ncc.report.matrix import matrix

TEXTS = ("ast", "graph", "plan", "ssa", "llvm", "asm", "header", "c", "fwd", "bwd", "matrix",
         "dot")
KINDS = (*TEXTS, "bc", "obj", "shared")
ENDINGS = {"llvm": "ll", "asm": "s", "obj": "o", "header": "h", "shared": "so"}
LINKED = ("obj", "shared", "header", "c")  # kinds that hold the gradient unless told otherwise
FORMATS = {"nal": texts.write_nal, "nel": texts.write_nel, "nam": texts.write_nam}
_OF_GRAPHS = {"fwd": fwd, "bwd": bwd, "matrix": matrix, "dot": dot}


def ending(kind: str) -> str:
    return ENDINGS.get(kind, kind)


# What a file's ending asks of a net that is compiled: the kinds but the ast, and the net's formats.
SAVED = {ending(kind): kind for kind in (*KINDS, *FORMATS) if kind != "ast"}


def kind_of(path: Path) -> str:
    """What a file is to hold, by its ending; NccError E604 with the list of them."""
    kind = SAVED.get(path.suffix[1:])
    if kind is None:
        raise NccError("E604", f"{path}: the ending names nothing that a net can be saved as",
                       help=" ".join(f".{e}" for e in SAVED))
    return kind


def files(kind: str, build: Build, path: Path) -> dict[Path, bytes]:
    """A kind of a graph's build (or a net in one of FORMATS) as the file `path`, an object with its
    header beside it."""
    if kind in FORMATS:
        return {path: FORMATS[kind](build.graph).encode()}
    if kind in TEXTS:
        return {path: text(kind, build).encode()}
    made = {path: contents(kind, build, path.name)}
    if kind == "obj":
        made[path.with_suffix(".h")] = build.header().encode()
    return made


def contents(kind: str, build: Build, name: str) -> bytes:
    """obj, shared (of this `name`, its SONAME) or bc."""
    if kind == "obj":
        return build.object()
    return shared(build, name) if kind == "shared" else build.machine().bitcode(build.llvm)


def text(kind: str, build: Build) -> str:
    """Any of TEXTS but the ast, with a newline at its end; an ssa text carries the parameters. The
    C file of an ssa text has no header in it."""
    if kind == "graph":
        made = str(walk(build.graph, build.options, build.watch, until=Graph, along=build.along,
                        params=build.values))
    elif kind == "ssa":
        made = str(carrying(build.module, build.values))
    elif kind == "asm":
        made = build.machine().assembly(build.llvm)
    elif kind == "header":
        made = build.header()
    elif kind == "c":
        made = to_c(build.module, "" if isinstance(build.start, Module)
                    else build.header(compiled=False))
    elif kind in _OF_GRAPHS:
        made = _OF_GRAPHS[kind](build.graph)
    else:
        made = str(build.plan if kind == "plan" else build.llvm)
    return made if not made or made.endswith("\n") else made + "\n"


def shared(build: Build, name: str) -> bytes:
    """A shared object of this `name` (its SONAME), linked by a C compiler for the target."""
    command = compiler(build.target)
    with tempfile.TemporaryDirectory() as folder:
        made, out = Path(folder, "net.o"), Path(folder, "net.so")
        made.write_bytes(build.object())
        try:
            done = subprocess.run(
                [*command, "-shared", "-nostdlib", "-Xlinker", "-soname", "-Xlinker", name,
                 "-o", str(out), str(made)],
                capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise NccError("E501", f"{command[0]} does not run: {error.strerror}") from None
        if done.returncode or not out.is_file():
            raise NccError("E501", f"{command[0]} failed: {done.stderr.strip()}")
        return out.read_bytes()


def compiler(aim: Target) -> list[str]:
    """The C compiler that links for a target. NccError E604 where ncc knows none, E500 where there
    is none."""
    arch, _, system = aim.triple.partition("-")
    if "linux" not in system:
        raise NccError("E604", f"no shared libraries for {aim.name}, only for Linux",
                       help="--emit obj")
    here = host().triple.split("-")[0]
    if arch == here or (arch, here) == ("i686", "x86_64"):
        names, more = ["cc", "gcc"], ["-m32"] if arch != here else []
    else:
        family = f"{'arm' if arch == 'armv7' else arch}-linux-gnu{system.partition('gnu')[2]}"
        names, more = [f"{family}-gcc"], []
    for name in names:
        found = shutil.which(name)
        if found is not None:
            return [found, *more]
    raise NccError("E500", f"no C compiler ({names[0]}) to link a shared library with")
