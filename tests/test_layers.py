"""Imports point down the road, third parties stay in their room, the road's steps join."""

from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

from ncc.road import ROAD, arrives, departs

ROOT = Path(__file__).parents[1]
# From the bottom up: a module imports only modules above it in this list.
ORDER = [
    "start",
    "source",
    "opcodes",
    "reader",
    "formulas",
    "arithmetic",
    "evaluate",
    "expressions",
    "activations",
    "adjoint",
    "aggregate",
    "sums",
    "graph",
    "graphtext",
    "syntax",
    "parse",
    "settings",
    "losses",
    "optimizers",
    "weights",
    "freeze",
    "texts",
    "bwdtext",
    "data",
    "plan",
    "ssa",
    "cost",
    "intime",
    "ssatext",
    "terms",
    "windows",
    "x86",
    "limits",
    "machine",
    "footprint",
    "codegen",
    "sweep",
    "straight",
    "places",
    "tabled",
    "reverse",
    "passes",
    "cheader",
    "road",
    "progress",
    "watch",
    "net",
    "cache",
    "crew",
    "library",
    "build",
    "emit",
    "tune",
    "runtime",
    "dead",
    "state",
    "trainer",
    "weighted",
    "training",
    "meter",
    "plot",
    "layers",
    "torch",
    "sklearn",
    "ncc",
    "layered",
    "peak",
    "peers",
    "bench",
    "cli",
    "__main__",
]
FILES = sorted([*ROOT.glob("ncc/*.py"), *ROOT.glob("passes/*.py")])


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "ncc":
                yield from (f"ncc.{alias.name}" for alias in node.names)
            else:
                yield node.module


def room(path):
    if path.parent.name == "passes":
        return "passes"
    return "ncc" if path.name == "__init__.py" else path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_imports_point_down(path):
    here = ORDER.index(room(path))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "lark":
            assert path.name == "reader.py"
        if parts[0] == "llvmlite":
            assert path.name == "machine.py"
        if parts[0] != "ncc":
            assert parts[0] not in ("grammar", "passes")
            continue
        target = parts[1] if len(parts) > 1 else "ncc"
        if target not in ORDER:
            target = "ncc"  # a name that the package's door exports
        if path.parent.name == "passes":
            assert target != "passes", f"{path.name} imports another pass"
        assert ORDER.index(target) < here, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_no_import_hides_in_a_function(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            inner = [n for n in ast.walk(node) if isinstance(n, (ast.Import, ast.ImportFrom))]
            assert not inner, f"{path.name}:{node.lineno}"


def test_the_steps_of_the_road_join():
    for a, b in pairwise(ROAD):
        beside = departs(b) == departs(a) and arrives(b) == arrives(a)
        assert arrives(a) == departs(b) or beside, f"{a.__name__} -> {b.__name__}"


def test_a_pass_stands_in_the_file_of_its_name_and_shows_a_picture():
    for call in ROAD:
        assert call.__module__ == f"ncc.passes.{call.__name__}"
        assert call.__doc__


def test_every_error_code_stands_in_the_guide():
    """Neither a code that the guide leaves out, nor a row for one that is gone."""
    guide = set(re.findall(r"E\d{3}", "".join(
        line.split("|")[1] for line in (ROOT / "grammar/README.md").read_text().split("\n")
        if re.match(r"\| E\d{3}", line))))
    said = {code for path in FILES for code in re.findall(r"\bE\d{3}\b", path.read_text())}
    assert said == guide
