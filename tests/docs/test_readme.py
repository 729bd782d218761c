"""The guides are right: every block in them runs, and prints what they say it prints.

In every README.md of the tree, by the fence's first word:

- `console`: `$ command` lines, `> ` lines that go on with them, then what they print, standard
  error included. A line `...` stands for any lines, `...` within one for any characters.
- `sh`: run as it stands, but for installing and for the tests, which are under way.
- `python`: doctests, one session a file. Those that import torch or neat run where it is installed.
- Any other with a file name behind it (`nal tiny.nal`) is that file.

The blocks of a guide run in order, in a folder of their own that holds a copy of examples/.
`pytest --bless` writes what commands print now into the `console` blocks that say otherwise.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from texts import matches

import ncc
from ncc.cli import main
from ncc.driver.kinds import KINDS
from ncc.driver.pipeline import PIPELINE
from ncc.machine.llvm import host
from ncc.machine.targets import TARGETS

TOP = Path(__file__).parents[2]
# Resolved, since ncc/passes and ncc/grammar are links to folders of the root.
GUIDES = ["README.md", *sorted({path.resolve().relative_to(TOP.resolve()).as_posix()
                                for folder in ("examples", "grammar", "ncc", "passes", "tests")
                                for path in (TOP / folder).glob("**/README.md")})]
RUN = [name for name in GUIDES
       if re.search("^```(console|python)$", (TOP / name).read_text(), re.MULTILINE)]
FENCE = re.compile(r"^```(\S+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What is shown was made on such a machine; elsewhere targets, and so dumps, are others.
pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or not host().fma, reason="the guides show x86-64 with FMA")


class Block(NamedTuple):
    kind: str
    name: str
    text: str
    line: int


def blocks(path: Path) -> list[Block]:
    text = path.read_text()
    return [Block(m[1], m[2] or "", m[3], text[: m.start()].count("\n") + 2)
            for m in FENCE.finditer(text)]


def bash(command: str, folder: Path) -> str:
    """What `command` prints, with the ncc of these tests first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", f"exec 2>&1\n{command}"], cwd=folder,
                          env={**os.environ, "PATH": path}, stdout=subprocess.PIPE, text=True)
    return done.stdout + (f"[exit {done.returncode}]\n" if done.returncode else "")


def in_process(command: str) -> str | None:
    """What `bash` would print of a command that is `ncc` and plain words, without the start of a
    process; None of any other."""
    words = shlex.split(command.replace("\\\n", " "))
    if words[0] != "ncc" or re.search(r"[|&;<>$*~`]", command):
        return None
    printed = io.BytesIO()
    with (io.TextIOWrapper(printed, "utf-8", write_through=True) as both,
          contextlib.redirect_stdout(both), contextlib.redirect_stderr(both)):
        status = main(words[1:])
        return printed.getvalue().decode() + (f"[exit {status}]\n" if status else "")


def console(text: str) -> list[tuple[str, str]]:
    """The commands of a block, each with the text expected of it."""
    out: list[tuple[str, str]] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            out.append((line[2:], ""))
        elif line.startswith("> ") and not out[-1][1]:
            out[-1] = (out[-1][0] + line[2:], "")
        else:
            out[-1] = (out[-1][0], out[-1][1] + line)
    return out


def guides() -> str:
    return "\n".join([(TOP / name).read_text() for name in GUIDES])


def test_there_are_guides() -> None:
    """Whoever moves one finds out here: nothing else would notice that its blocks run no more."""
    assert {"README.md", "examples/README.md", "examples/embed/README.md", "ncc/README.md",
            "ncc/cli/README.md", "ncc/runtime/README.md", "ncc/training/README.md",
            "passes/README.md"} <= set(RUN)
    assert {"grammar/README.md", "tests/bench/README.md"} <= set(GUIDES)


def test_the_first_guide_is_short() -> None:
    assert len((TOP / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if name == "examples/README.md" else name
    for name in RUN])
def test_blocks(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                request: pytest.FixtureRequest) -> None:
    bless = request.config.getoption("--bless")
    shutil.copytree(TOP / "examples", tmp_path / "examples",
                    ignore=shutil.ignore_patterns("*.o", "*.h"))
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {"__name__": "__main__"}
    # The first guide's commands are processes, and all guides' with --slow.
    processes = name == "README.md" or request.config.getoption("--slow") or bless
    ran = 0
    for block in blocks(TOP / name):
        at = f"{name}:{block.line}"
        if block.name:
            (tmp_path / block.name).write_text(block.text)
        elif block.kind == "console":
            for command, expected in console(block.text):
                tool = command.split()[0]
                if tool in ("make", "node") and shutil.which(tool) is None:
                    continue
                got = None if processes else in_process(command)
                got = bash(command, tmp_path) if got is None else got
                if bless and not matches(expected, got):
                    whole = (TOP / name).read_text()
                    shown = "\n> ".join(command.splitlines()) + "\n"
                    assert whole.count(f"$ {shown}{expected}") == 1, f"{at}: {command}"
                    now = whole.replace(f"$ {shown}{expected}", f"$ {shown}{got}")
                    (TOP / name).write_text(now)
                    continue
                assert matches(expected, got), f"{at}: {command}{got}"
                ran += 1
        elif block.kind == "sh":
            for command in block.text.splitlines():
                if command.startswith("python -m pytest"):
                    continue
                got = bash(re.sub(r"^pip install \S+ \S+ && ", "", command), tmp_path)
                assert "[exit" not in got, f"{at}: {command}\n{got}"
                ran += 1
        elif block.kind == "python":
            if any(f"import {name}\n" in block.text and find_spec(name) is None
                   for name in ("torch", "neat")):
                continue
            test = doctest.DocTestParser().get_doctest(block.text, session, at, name, block.line)
            runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
            report: list[str] = []
            runner.run(test, out=report.append, clear_globs=False)
            session.update(test.globs)
            assert not report, "".join(report)
            ran += 1
    assert ran > 2 or bless, name


def test_the_first_net_is_the_example() -> None:
    shown = blocks(TOP / "README.md")[0].text
    file = (TOP / "examples/xor.nal").read_text()
    assert shown == "".join(s for s in file.splitlines(True) if not s.startswith("%"))


def test_every_kind_option_target_and_pass_is_in_a_guide() -> None:
    command = (TOP / "ncc/cli/README.md").read_text()
    passes = (TOP / "passes/README.md").read_text()
    for kind in KINDS:
        assert f"`{kind}`" in command, kind
    for name in TARGETS:
        assert f"`{name}`" in command, name
    for step in PIPELINE:
        assert f"| `{step.__name__}` |" in passes, step
    commands = "build check run train convert bench cache new export"
    options = "".join([in_process(f"ncc {command} --help") or "" for command in commands.split()])
    assert options.count("usage: ") == len(commands.split())
    for option in sorted(set(re.findall(r"--[a-z][a-z-]+", options)) - {"--help", "--emit"}):
        assert f"`{option}" in guides(), option


def test_ci_finds_the_test_command() -> None:
    """The quick run, and with --slow what CI runs."""
    lines = (TOP / "README.md").read_text().splitlines()
    quick, slow = [s for s in lines if s.startswith("python -m pytest")]
    assert slow == f"{quick} --slow"
    assert "grep -m1 -E '^python -m pytest .*--slow' README.md" in (TOP / ".ci/run").read_text()


def anchors(text: str) -> set[str]:
    """The names that headings have as targets of links."""
    titles = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", GUIDES)
def test_links_lead_somewhere(name: str) -> None:
    path = TOP / name
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text()):
        other = path.parent / target if target else path
        assert other.exists(), target
        assert not heading or heading in anchors(other.read_text()), f"{target}#{heading}"


def test_the_anchors_of_headings() -> None:
    assert anchors("# A `b`, c\n```sh\n# no\n```\n## D\n") == {"a-b-c", "d"}


def test_the_comparison_can_fail() -> None:
    assert matches("a\n...\nd\n", "a\nb\nc\nd\n")
    assert matches("a ... c\n", "a b c\n")
    assert not matches("a\n...\nd\n", "a\nb\nc\n")
    assert not matches("a\n", "a\nb\n")
    assert not matches("a.c\n", "abc\n")
    shown = "$ cat <<E\n> a\n> E\na\n$ true\n"
    assert console(shown) == [("cat <<E\na\nE\n", "a\n"), ("true\n", "")]


def indented(text: str) -> list[str]:
    """The indented blocks of a text."""
    found = re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", text, re.MULTILINE)
    return [re.sub("^    ", "", block, flags=re.MULTILINE) for block in found]


@pytest.mark.parametrize("format", ["nal", "nel", "nam"])
def test_the_formats_guide_shows_nets(format: str) -> None:
    section = (TOP / "grammar/README.md").read_text().split(f"## `.{format}`")[1].split("\n## ")[0]
    nets = indented(section)
    assert nets
    for text in nets:
        assert ncc.parse(text, format).n_neurons > 1


def test_the_formats_guide_shows_expressions_and_an_error() -> None:
    text = (TOP / "grammar/README.md").read_text()
    functions = indented(text.split("## Expressions")[1].split("\n## ")[0])[0].splitlines()
    assert functions
    for line in functions:
        code = line.split()[1]
        assert ncc.parse(f"N 02\n{line}\n00\n01 {code} 00:1\n").n_edges == 1
    shown = indented(text.split("## Errors")[1])[0]
    with pytest.raises(ncc.NccError) as caught:
        ncc.parse("N 02\n00\n01 rellu 00\n", name="net.nal")
    assert str(caught.value) == shown.rstrip("\n")
