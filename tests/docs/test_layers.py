"""Imports point down, third parties stay in their file, rooms stay small, the passes join."""

from __future__ import annotations

import ast
import re
import tomllib
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

import ncc
from ncc.driver.pipeline import PIPELINE, arrives, departs

ROOT = Path(__file__).parents[2]
# Files and rooms from the ground up: a file imports from above its own line in this list, and
# within its room without a cycle.
FLOORS = [
    "start",
    "errors",
    "parsing",
    "progress",
    "scalar",
    "ir",
    "images",
    "formats",
    "report",
    "machine",
    "passes.graph",
    "passes.plan",
    "passes.lower.arrays",
    "passes.lower",
    "passes.lower.data",
    "passes.ssa",
    "passes.emit",
    "driver",
    "nets",
    "runtime",
    "training",
    "neat",
    "torch",
    "sklearn",
    "ncc",
    "bench",
    "cli",
    "__main__",
]
PASSES = [floor.removeprefix("passes.") for floor in FLOORS if floor.startswith("passes.")]
# No folder that is a link is entered: ncc/passes and ncc/grammar are those of the root.
FILES = sorted([*ROOT.glob("ncc/**/*.py"), *ROOT.glob("passes/**/*.py")])

# No file over so many lines, no function over so many; what still is stands in these lists, which
# only become shorter.
LINES, FUNCTION_LINES = 450, 80
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()


def name(path):
    """ncc/ir/ssa.py -> ncc.ir.ssa, passes/ssa/cse.py -> ncc.passes.ssa.cse; a room's own name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("ncc", *parts) if parts[0] == "passes" else parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {name(path) for path in FILES}


def imports(path):
    """The modules that a file imports, each by its whole name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def floor(module):
    """The line of FLOORS that a module of ncc's stands on."""
    parts = module.split(".")[1:]
    if not parts:
        return "ncc"
    return ".".join(parts[: 2 if parts[0] == "passes" else 1])


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_point_down(path):
    module = name(path)
    if module == "ncc.passes":
        assert not list(imports(path))
        return
    here = FLOORS.index(floor(module))
    for imported in imports(path):
        top = imported.split(".")[0]
        assert top not in ("grammar", "passes")
        assert top != "lark" or module == "ncc.parsing"
        assert top != "llvmlite" or module == "ncc.machine.llvm"
        if top == "ncc":
            there = FLOORS.index(floor(imported))
            same_room = there == here and module != floor(module)
            assert there < here or same_room, f"{module} imports {imported}"


@pytest.mark.parametrize("room", sorted({floor(m) for m in MODULES}))
def test_no_room_has_a_cycle(room):
    edges = {name(path): {i for i in imports(path) if i.startswith("ncc") and floor(i) == room}
             for path in FILES if floor(name(path)) == room}
    tuple(TopologicalSorter(edges).static_order())


def test_no_pass_imports_another():
    """What two of them share is a file beside them, which is no pass."""
    passes = {name(path) for path in FILES if re.search(
        rf"^def {path.stem}\(", path.read_text(), re.M) and name(path).startswith("ncc.passes.")}
    assert {f"{call.__module__}" for call in PIPELINE} < passes
    for path in FILES:
        if name(path).startswith("ncc.passes."):
            assert not passes & set(imports(path)), path


def test_rooms_are_small_and_no_room_hides_a_public_name():
    listed = [p for p in (ROOT / "ncc").iterdir() if p.name != "__pycache__"]
    assert len(listed) <= 25
    rooms = {path.parent for path in FILES}
    for room in rooms - {ROOT / "ncc"}:
        # The hearts: a level has up to six files; what one neuron computes is many small tables;
        # a subcommand is a file, and so are a format of another tool and a function's lowering.
        most = {"ir": 22, "machine": 14, "scalar": 16, "driver": 18, "cli": 22,
                "importers": 20, "report": 14, "lower": 15}.get(room.name, 13)
        assert len([p for p in FILES if p.parent == room]) <= most, room
    assert not {room.name for room in rooms} & {*ncc.__all__, "train", "inspect"}
    assert callable(ncc.parse) and callable(ncc.load) and callable(ncc.compile)


def functions(tree, prefix):
    """(whole name, lines) of each function within a tree, with its decorators."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            whole = f"{prefix}.{node.name}"
            if not isinstance(node, ast.ClassDef):
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                yield whole, node.end_lineno - first + 1
            yield from functions(node, whole)
        else:
            yield from functions(node, prefix)


def test_files_and_functions_are_short():
    texts = {name(path): path.read_text() for path in FILES}
    assert {module for module, text in texts.items() if text.count("\n") > LINES} == LONG_FILES
    assert {whole for module, text in texts.items()
            for whole, lines in functions(ast.parse(text), module)
            if lines > FUNCTION_LINES} == LONG_FUNCTIONS


def test_the_package_list_is_the_tree():
    """A folder that the list lacks would be missing from the wheel, and from nowhere else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {path.parent for path in [*FILES, *ROOT.glob("grammar/**/*.py")]}
    for folder in folders:
        assert (folder / "__init__.py").exists(), folder
    listed = project["tool"]["setuptools"]["packages"]
    assert listed == sorted("ncc.grammar" if folder.name == "grammar" else
                            name(folder / "__init__.py") for folder in folders)


def test_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ncc.__version__
    assert f"\n- **{ncc.__version__}**" in (ROOT / "ncc/README.md").read_text()


def test_the_map_shows_every_file():
    shown, folder = set(), ""
    for line in (ROOT / "ncc/README.md").read_text().split("```text\n")[1].split("\n"):
        if match := re.match(r"(\S+)/ ", line):
            folder = match[1]
        elif match := re.match(r"    (\S+\.py) +\S", line):
            shown.add(f"{folder}/{match[1]}")
    rooms = {path.relative_to(ROOT).as_posix() for path in FILES}
    assert shown == {path for path in rooms if not path.endswith("__init__.py")} | {
        "ncc/__init__.py", "ncc/cli/__init__.py"}



@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_import_hides_in_a_function(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            inner = [n for n in ast.walk(node) if isinstance(n, (ast.Import, ast.ImportFrom))]
            assert not inner, f"{path.name}:{node.lineno}"


def test_the_passes_of_the_pipeline_join():
    for a, b in pairwise(PIPELINE):
        assert arrives(a) == departs(b), f"{a.__name__} -> {b.__name__}"


def test_a_pass_stands_in_the_file_of_its_name():
    for call in PIPELINE:
        assert re.fullmatch(rf"ncc\.passes\.({'|'.join(PASSES)})\.{call.__name__}", call.__module__)
