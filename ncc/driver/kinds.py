"""What a build can be written as: the kinds, each with its row, and the files of a saved net."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ncc.driver import listings
from ncc.driver.abi.casadi import casadi
from ncc.driver.compiler import Build, in_range, missing
from ncc.driver.net_module import carrying
from ncc.driver.pipeline import walk
from ncc.errors import NccError
from ncc.formats import write as texts
from ncc.images.image import image
from ncc.images.kinds import Kinds, kinds_of
from ncc.ir.graph import Graph
from ncc.ir.ssa import DTYPES, Module
from ncc.machine.header import macro
from ncc.machine.header_docs import work_size
from ncc.machine.llvm import host
from ncc.machine.projects import arduino, cmake, zephyr
from ncc.machine.projects.project import Project, marked
from ncc.machine.targets import Target, arch_of
from ncc.machine.wasm import files as wasm_files
from ncc.passes.emit.to_c import to_c
from ncc.passes.graph.merge import numbered
from ncc.passes.graph.order import order
from ncc.passes.graph.prune import seen_of
from ncc.report.dot import dot
from ncc.report.formulas import bwd, fwd
from ncc.report.listings import of_llvm
from ncc.report.matrix import matrix
from ncc.report.picture import Picture, picture
from ncc.report.svg import svg
from ncc.report.weights import weights


class Kind(NamedTuple):
    """A kind of output.

    level     the last level that it is made of, as ncc/driver/levels.py names it
    make      (build, file name) -> what stands in the file: str or bytes; None where it is made of
              no build: the ast is the syntax that was read
    ending    of its files, where that is not its name
    text      whether it may go to a terminal
    gradient  whether it has the gradient functions unless told otherwise
    target    the name of the target that alone has it; None: every target has it
    linked    whether its lines can say which neurons they compute
    of_net    whether it takes the neurons of a net, which an ssa text does not have
    folder    (a project) -> its files by path, of a kind that is a folder and has no `make`
    """

    level: str
    make: Callable[[Build, str], str | bytes] | None
    ending: str = ""
    text: bool = True
    gradient: bool = False
    of_net: bool = False
    target: str | None = None
    linked: bool = False
    folder: Callable[[Project], Mapping[str, str | bytes]] | None = None


def _left(build: Build) -> Graph:
    """The graph behind the graph's passes."""
    graph: Graph = walk(build.graph, build.options, build.watch, until=Graph, along=build.along,
                        params=build.values)
    return graph


def _graph(build: Build, name: str) -> str:
    return str(_left(build))


def _ssa(build: Build, name: str) -> str:
    """The text carries the parameters."""
    return str(carrying(build.module, build.values))


def _llvm(build: Build, name: str) -> str:
    """With the neurons of its lines, where the build has them."""
    return of_llvm(build.llvm).commented(";") if build.linked else build.llvm


def _asm(build: Build, name: str) -> str:
    return (listings.assembly(build).commented(listings.comment(build)) if build.linked
            else build.assembly())


def _c(build: Build, name: str) -> str:
    """Of an ssa text it is a file without the header, which is a net's."""
    text = to_c(build.module,
                "" if isinstance(build.start, Module) else build.header(compiled=False))
    return text + "\n" + casadi(build, None) if build.options.get("abi") == "casadi" else text


def _image(build: Build, name: str) -> bytes:
    return image_of(build, kinds_of([build.graph]))


def drawn(graph: Graph) -> str:
    """The net as an SVG picture."""
    return svg(pictured(graph)[1],
               f"A net of {graph.n_own:,} neurons and {graph.n_edges:,} edges")


def pictured(graph: Graph) -> tuple[Graph, Picture]:
    """The graph with levels, and its picture, in which what the graph's passes remove is grey."""
    leveled = graph if graph.levels is not None else order(graph)
    return leveled, picture(leveled, ~seen_of(leveled),
                            numbered(leveled, fast=False).astype(np.int64))


def image_of(build: Build, kinds: Kinds) -> bytes:
    """The net as the graph's passes leave it, with the parameters' values, as an image for an
    engine of these kinds. NccError E147 where a row is of none of the kinds, E607 where a parameter
    has no value."""
    missing(build.values, build.graph.n_params, "an image holds them: ")
    in_range(build.graph, build.options["dtype"])
    graph = _left(build)
    return image(graph, kinds, build.options["dtype"], graph.values).tobytes()


def shared(build: Build, name: str) -> bytes:
    """A shared object of this `name` (its SONAME), linked by a C compiler for the target."""
    command = compiler(build.target)
    with tempfile.TemporaryDirectory() as folder:
        made, out = Path(folder, "net.o"), Path(folder, "net.so")
        made.write_bytes(build.object())
        more = []
        if build.options.get("abi") == "casadi":
            Path(folder, "net.h").write_text(build.header())
            around = Path(folder, "net_casadi.c")
            around.write_text(casadi(build, "net.h"))
            more = ["-O2", "-fPIC", str(around)]
        try:
            done = subprocess.run(
                [*command, "-shared", "-nostdlib", "-Xlinker", "-soname", "-Xlinker", name,
                 "-o", str(out), str(made), *more],
                capture_output=True, text=True, errors="replace", check=False)
        except OSError as error:
            raise NccError("E501", f"{command[0]} does not run: {error.strerror}") from None
        if done.returncode or not out.is_file():
            raise NccError("E501", f"{command[0]} failed: {done.stderr.strip()}")
        return out.read_bytes()


def wasm(build: Build, name: str) -> bytes:
    """A module of WebAssembly that imports nothing. NccError E604 for another target."""
    if arch_of(build.target.triple) != "wasm32":
        raise NccError("E604", f"no module of WebAssembly for {build.target.name}",
                       help="--target wasm32")
    return wasm_files.module(
        build.object(), build.made.facts["functions"], build.graph, name=build.options["name"],
        dtype=build.options["dtype"], numerics=build.options["numerics"],
        embedded=build.embedded)


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


KINDS = {
    "ast": Kind("syntax", None, of_net=True),
    "graph": Kind("graph", _graph, of_net=True),
    "plan": Kind("plan", lambda build, name: str(build.plan), of_net=True),
    "ssa": Kind("ssa", _ssa, linked=True),
    "llvm": Kind("llvm", _llvm, "ll", linked=True),
    "asm": Kind("llvm", _asm, "s", linked=True),
    "header": Kind("ssa", lambda build, name: build.header(), "h", gradient=True, of_net=True),
    "c": Kind("ssa", _c, gradient=True, linked=True),
    "fwd": Kind("graph", lambda build, name: fwd(build.graph), of_net=True),
    "bwd": Kind("graph", lambda build, name: bwd(build.graph), of_net=True),
    "matrix": Kind("graph", lambda build, name: matrix(build.graph), of_net=True),
    "weights": Kind("graph", lambda build, name: weights(build.graph), of_net=True),
    "dot": Kind("graph", lambda build, name: dot(build.graph), of_net=True),
    "svg": Kind("graph", lambda build, name: drawn(build.graph), of_net=True),
    "bc": Kind("llvm", lambda build, name: build.machine().bitcode(build.llvm), text=False),
    "obj": Kind("llvm", lambda build, name: build.object(), "o", text=False, gradient=True),
    "image": Kind("graph", _image, text=False, of_net=True),
    "shared": Kind("llvm", shared, "so", text=False, gradient=True),
    "wasm": Kind("llvm", wasm, text=False, gradient=True, of_net=True, target="wasm32"),
    # C for boards that may have no FPU, so without an FMA.
    "arduino": Kind("ssa", None, text=False, of_net=True, target="cortex-m0", folder=arduino.files),
    "cmake": Kind("ssa", None, text=False, of_net=True, folder=cmake.files),
    "zephyr": Kind("ssa", None, text=False, of_net=True, target="cortex-m0", folder=zephyr.files),
}
# Kinds with files beside theirs, and what those are called.
BESIDE = {"obj": "header", "wasm": "JavaScript"}


def folder(kind: str, build: Build, compiled: bool) -> dict[str, bytes]:
    """The files of a kind that is a folder, by their paths in it: C for any compiler, or the object
    of the build, where it is to be `compiled`. NccError E604 where the kind has no objects."""
    make = KINDS[kind].folder
    assert make is not None
    if compiled and KINDS[kind].target:
        raise NccError("E604", f"{kind} is C for every board: there is no target to choose",
                       help="--emit cmake, or obj, of one machine")
    name = build.options["name"]
    code = "" if compiled else to_c(build.module)
    forward = build.module.func("forward")
    graph, real = build.graph, DTYPES[build.options["dtype"]]()
    if not build.embedded:
        missing(build.values, graph.n_params, f"{kind} holds them: ")
    made = make(Project(
        name=name, macro=macro(name), real="float" if real.itemsize == 4 else "double",
        about=f"A neural net of {graph.n_own:,} neurons and {graph.n_edges:,} edges.",
        header=build.header(compiled=compiled, anywhere=not compiled), code=code,
        object=build.object() if compiled else b"",
        buffers=tuple(dict.fromkeys("work" if b.kind in ("work", "private") else b.name
                                    for b in forward.buffers)),
        work=work_size(forward) * real.itemsize,
        params=None if build.embedded else build.values, math="<math.h>" in code))
    files = {path: data if isinstance(data, bytes) else data.encode()
             for path, data in made.items()}
    return marked(kind, name, files)


def ending(kind: str) -> str:
    return KINDS[kind].ending or kind


def with_gradient(kind: str) -> bool:
    """Whether it has the gradient functions unless told otherwise; a net's own format has none."""
    return kind in KINDS and KINDS[kind].gradient


def contents(kind: str, build: Build, name: str, kinds: Kinds | None = None) -> bytes:
    """What stands in a file of this `name`, which is the SONAME of a shared object; a text has a
    newline at its end, an image is for an engine of these `kinds` (None: those of the net)."""
    if kind == "image" and kinds is not None:
        return image_of(build, kinds)
    make = KINDS[kind].make
    assert make is not None
    made = make(build, name)
    if isinstance(made, bytes):
        return made
    return (made if not made or made.endswith("\n") else made + "\n").encode()


# What a file's ending asks of a net that is compiled: the kinds that are made of a build, and the
# net's own formats.
SAVED = {ending(name): name for name, kind in KINDS.items() if kind.make is not None}
SAVED |= {name: name for name in texts.WRITERS}


def kind_of(path: Path) -> str:
    """What a file is to hold, by its ending: a kind or a net's format; NccError E604 with the list
    of them."""
    kind = SAVED.get(path.suffix[1:])
    if kind is None:
        raise NccError("E604", f"{path}: unknown file extension",
                       help=" ".join(f".{e}" for e in SAVED))
    return kind


def target_of(kinds: Iterable[str], usual: str | None = None) -> str | None:
    """The name of the target that one of these kinds alone is for, else the `usual` one."""
    return next((KINDS[kind].target for kind in kinds
                 if kind in KINDS and KINDS[kind].target), usual)


def companions(kind: str, build: Build, path: Path) -> dict[Path, bytes]:
    """The files that go beside the file `path` of a kind: the header of an object, what calls a
    module of WebAssembly."""
    if kind == "obj":
        header = path.with_suffix(".h")
        files = {header: build.header().encode()}
        if build.options.get("abi") == "casadi":
            files[path.with_name(f"{path.stem}_casadi.c")] = casadi(build, header.name).encode()
        return files
    if kind == "wasm":
        beside = wasm_files.beside(path.name, build.options["dtype"])
        return {path.with_suffix(ending): text.encode() for ending, text in beside.items()}
    return {}


def files(kind: str, build: Build, path: Path) -> dict[Path, bytes]:
    """A kind of a graph's build, or a net in its own format, as the file `path`, with those that
    go beside it."""
    if kind not in KINDS:
        return {path: texts.net_file(build.graph, kind).encode()}
    return {path: contents(kind, build, path.name), **companions(kind, build, path)}
