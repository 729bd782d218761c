"""The quick run keeps a case of each kind; the whole run leaves nothing out, and tells of skips."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiers import each_choice, may_skip

TESTS = Path(__file__).parents[1]
FEW = """
import pytest
from hypothesis import settings

@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.each_choice
def test_grid(dtype, form): ...

@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.each_choice("dtype")
def test_named(dtype, form): ...

@pytest.mark.slow
def test_long(): ...

def test_examples():
    assert settings.default.max_examples == {examples}

@pytest.mark.skipif(True, reason="needs qemu-arm")
def test_installed(): ...

def test_machine():
    pytest.skip("needs an x86-64-v4 machine")
"""
MODULE = "import pytest\ntorch = pytest.importorskip('no_such_module')\ndef test_it(): ..."


def test_each_value_has_a_case_and_combinations_vary():
    grid = list(itertools.product(range(6), ["f32", "f64"], ["straight", "table", "shared"]))
    chosen = [grid[k] for k in each_choice(grid)]
    assert len(chosen) == 6 and [len(set(column)) for column in zip(*chosen, strict=True)] == [
        6, 2, 3]
    assert len({case[1:] for case in chosen}) == 6  # each dtype with each form
    assert each_choice(grid) == each_choice(list(grid))
    assert each_choice([(1,), (1,), (2,)]) == {0, 2} and each_choice([]) == set()


def test_reasons():
    assert may_skip("needs an x86-64-v4 machine") and may_skip("no shared/cases")
    assert not may_skip("needs qemu-arm") and not may_skip("could not import 'torch'")


@pytest.mark.parametrize("words, examples, counts", [
    ([], 6, {"passed": 6, "deselected": 8, "skipped": 3}),
    # Who names a test means all of it.
    pytest.param(["test_few.py::test_named"], 6, {"passed": 6}, marks=pytest.mark.slow),
    pytest.param(["--slow"], 30, {"passed": 14, "skipped": 3}, marks=pytest.mark.slow),
    pytest.param(["--slow", "--no-skips"], 30, {"error": 1}, marks=pytest.mark.slow),  # a module
    pytest.param(["--slow", "--no-skips", "test_few.py"], 30,
                 {"passed": 14, "error": 1, "skipped": 1}, marks=pytest.mark.slow),
])
def test_runs(tmp_path, words, examples, counts):
    shutil.copy(TESTS / "conftest.py", tmp_path)
    shutil.copytree(TESTS / "support", tmp_path / "support",
                    ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "test_few.py").write_text(FEW.replace("{examples}", str(examples)))
    (tmp_path / "test_module.py").write_text(MODULE)
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words],
                          cwd=tmp_path, text=True, stdout=subprocess.PIPE)
    found = re.findall(r"(\d+) (passed|failed|skipped|deselected|error)",
                       done.stdout.splitlines()[-1])
    assert {word: int(n) for n, word in found} == counts, done.stdout
