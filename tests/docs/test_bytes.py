"""The tool that compares outputs of two commits sees a difference, and none where there is none."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
FEW = "--only=twins.nal --embed-weights"


def run(tree: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, tree / "tests/bytes.py", *words, FEW], text=True,
                          stdout=subprocess.PIPE, cwd=tree)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout's compiler as the one commit of a repository of its own."""
    tree = tmp_path_factory.mktemp("commit") / "tree"
    for name in ("ncc", "passes", "grammar", "examples"):
        shutil.copytree(TOP / name, tree / name, symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "tests").mkdir()
    shutil.copy(TOP / "tests/bytes.py", tree / "tests")
    (tree / ".gitignore").write_text("__pycache__/\n")
    for words in (["init", "-q"], ["add", "-A"],
                  ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], cwd=tree, check=True)
    return tree


def test_every_kind_of_a_case_has_its_hash(tree):
    status, out = run(tree)
    assert status == 0
    assert [line.split()[1] for line in out.splitlines()] == ["ssa", "llvm", "c", "header", "obj"]
    hashes = [line[:64] for line in out.splitlines()]
    assert all(re.fullmatch("[0-9a-f]{64}", h) for h in hashes) and len(set(hashes)) == 5
    assert run(tree) == (0, out)  # and the same at the next run


@pytest.mark.slow
def test_a_change_of_an_output_is_seen_and_only_where_it_is(tree):
    assert run(tree, "--against", "HEAD") == (0, "every output is that of HEAD\n")
    changed = [p for p in tree.glob("ncc/**/*.py") if "\nABI_VERSION = 1\n" in p.read_text()]
    assert len(changed) == 1
    changed[0].write_text(changed[0].read_text().replace("ABI_VERSION = 1", "ABI_VERSION = 2"))
    status, out = run(tree, "--against", "HEAD")
    assert status == 1
    assert [line[:1] + line[2:].split()[1] for line in out.splitlines()] == [
        "-c", "+c", "-header", "+header"]
    left = subprocess.run(["git", "worktree", "list"], cwd=tree, text=True, stdout=subprocess.PIPE)
    assert len(left.stdout.splitlines()) == 1  # what it checked out is gone
