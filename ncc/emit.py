"""What a build can be written as: the kinds, the endings of their files, what stands in them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from ncc import texts
from ncc.build import Build
from ncc.bwdtext import bwd
from ncc.graph import Graph, Reals
from ncc.passes.to_c import to_c
from ncc.road import walk
from ncc.source import NccError
from ncc.watch import carrying

TEXTS = ("ast", "graph", "plan", "ssa", "llvm", "asm", "header", "c", "fwd", "bwd", "matrix",
         "dot")
KINDS = (*TEXTS, "bc", "obj", "shared")
ENDINGS = {"llvm": "ll", "asm": "s", "obj": "o", "header": "h", "shared": "so"}
LINKED = ("obj", "shared", "header", "c")  # kinds that hold the gradient unless told otherwise
FORMATS = {"nal": texts.write_nal, "nel": texts.write_nel, "nam": texts.write_nam}
_OF_GRAPHS = {"fwd": texts.fwd, "bwd": bwd, "matrix": texts.matrix, "dot": texts.dot}


def ending(kind: str) -> str:
    return ENDINGS.get(kind, kind)


# What a file's ending asks of a net that is compiled: the kinds but the ast, and the net's formats.
SAVED = {ending(kind): kind for kind in (*KINDS, *FORMATS) if kind != "ast"}


def kind_of(path: Path) -> str:
    """What a file is to hold, by its ending; NccError E604 with the list of them."""
    kind = SAVED.get(path.suffix[1:])
    if kind is None:
        raise NccError("E604", f"{path}: the ending names nothing that a net can be saved as",
                       help=" ".join(f".{e}" for e in SAVED), status=2)
    return kind


def files(kind: str, build: Build, values: Reals, path: Path) -> dict[Path, bytes]:
    """A kind of a graph's build (or a net in one of FORMATS) as the file `path`, an object with its
    header beside it."""
    if kind in FORMATS:
        return {path: FORMATS[kind](build.graph).encode()}
    if kind in TEXTS:
        return {path: text(kind, build, values).encode()}
    made = {path: contents(kind, build)}
    if kind == "obj":
        made[path.with_suffix(".h")] = build.header().encode()
    return made


def contents(kind: str, build: Build) -> bytes:
    """obj, shared or bc."""
    if kind == "obj":
        return build.object()
    return shared(build) if kind == "shared" else build.machine().bitcode(build.llvm)


def text(kind: str, build: Build, values: Reals | None, header: bool = True) -> str:
    """Any of TEXTS but the ast, with a newline at its end; `values` are the parameters that an ssa
    text carries. Without `header` a C file has none in it."""
    if kind == "graph":
        made = str(walk(build.graph, build.options, build.watch, until=Graph, along=build.along))
    elif kind == "ssa":
        made = str(carrying(build.module, values))
    elif kind == "asm":
        made = build.machine().assembly(build.llvm)
    elif kind == "header":
        made = build.header()
    elif kind == "c":
        made = to_c(build.module, build.header() if header else "")
    elif kind in _OF_GRAPHS:
        made = _OF_GRAPHS[kind](build.graph)
    else:
        made = str(build.plan if kind == "plan" else build.llvm)
    return made if made.endswith("\n") else made + "\n"


def shared(build: Build) -> bytes:
    """The object as a shared library, linked by cc; NccError E500 or E501 where that fails."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NccError("E500", "no C compiler (cc) to link a shared library with", status=5)
    with tempfile.TemporaryDirectory() as folder:
        made, out = Path(folder, "net.o"), Path(folder, "net.so")
        made.write_bytes(build.object())
        try:
            done = subprocess.run([compiler, "-shared", "-nostdlib", "-o", str(out), str(made)],
                                  capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise NccError("E501", f"{compiler} does not run: {error.strerror}", status=5) from None
        if done.returncode or not out.is_file():
            raise NccError("E501", f"{compiler} failed: {done.stderr.strip()}", status=5)
        return out.read_bytes()
