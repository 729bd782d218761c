"""The line that says what a long compile is doing: on a terminal, and nowhere else."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ncc.driver.observe import Watcher
from ncc.driver.pipeline import steps
from ncc.progress import AFTER, Progress

# The command, or Python's compile, with a slow pass; SECONDS of it and the time before the first
# line come from the test.
SCRIPT = """
import sys, time
import numpy, ncc, ncc.cli, ncc.progress
from ncc.driver.pipeline import Step
from ncc.driver.settings import Settings
from ncc.training.step import TrainStep
seconds, after, what, *words = sys.argv[1:]
ncc.progress.AFTER = float(after)
real = Step.__call__

def slowly(self, level, common):
    if self.name == "merge":
        time.sleep(float(seconds))
        if what == "fails":
            raise ncc.NccError("E146", "a fault of this test")
    return real(self, level, common)

if words:
    Step.__call__ = slowly
    sys.exit(ncc.cli.main(words))
net = ncc.load("net.nal")
if what == "vjp":
    fn = ncc.compile(net, numpy.ones(3), cache=False)
Step.__call__ = slowly
if what == "vjp":
    fn.vjp(numpy.ones(3))
elif what == "train":
    TrainStep(net.graph, "mse", "sgd", params=numpy.ones(3), settings=Settings(cache=False))
else:
    ncc.compile("net.nal", cache=False)
"""
# A line while LLVM says something, in two parts.
LISTENS = """
import os, sys
from ncc.machine.llvm import _heard
from ncc.progress import Progress
p = Progress(sys.stderr)
with _heard() as lines:
    os.write(2, b"warning: stack frame size (8) exceeds ")
    p._write("ncc: x")
    os.write(2, b"limit (0) in function 'f'\\n")
p._write("")
print(len(lines))
"""
NET = "N 05\n00\n01\n02\n03 tanh 00:1,01:2\n04 relu 03:1\n"  # 02 is unused: a warning


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.nal").write_text(NET)


def run(*words: str, terminal: bool = True, out: bool = False) -> tuple[str, str, int]:
    """What the script writes to its terminal (standard error, and with `out` standard output too),
    what to standard output, and its status."""
    command = [sys.executable, "-c", SCRIPT, *words]
    if not terminal:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.stderr, done.stdout, done.returncode
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs if out else subprocess.PIPE, stderr=theirs) as p:
        os.close(theirs)
        text = b""
        while True:
            try:
                more = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            text += more
        os.close(ours)
        printed = b"" if p.stdout is None else p.stdout.read()
    return text.decode().replace("\r\n", "\n"), printed.decode(), p.returncode


def screen(text: str) -> str:
    """What stands on the terminal in the end."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return "\n".join(lines)


def without_sizes(text):
    """`text` less the line of sizes with which a build ends."""
    return re.sub(r"(?m)^net\.nal: flash .*\n", "", text)



def test_a_long_step_is_named_with_its_seconds_and_wiped():
    text, out, status = run("0.6", "0.1", "", "build", "net.nal", "--emit", "fwd,obj")
    seen = re.findall(r"\rncc: merge (\d\.\d) s", text)
    assert len(seen) > 2 and seen == sorted(seen) and float(seen[-1]) < 5
    assert status == 0 and out == ""
    assert without_sizes(screen(text)) == "net.nal: warning[W001]: unused input 02\n"


def test_a_short_compile_says_nothing():
    assert AFTER == 2.0
    text, _, _ = run("0.2", "60", "", "build", "net.nal")
    assert without_sizes(text) == "net.nal: warning[W001]: unused input 02\n"


@pytest.mark.parametrize("what", ["compile", "vjp", "train"])
def test_python_says_it_too(what):
    text, out, status = run("0.5", "0.1", what)
    assert "\rncc: merge 0." in text and screen(text) == "" and (out, status) == ("", 0)


def test_no_terminal_no_line():
    warning = "net.nal: warning[W001]: unused input 02\n"
    err, *others = run("0.5", "0", "", "build", "net.nal", terminal=False)
    assert (without_sizes(err), *others) == (warning, "", 0)
    assert run("0.5", "0", "", terminal=False) == ("", "", 0)


def test_outputs_and_errors_stand_alone():
    text, _, _ = run("0.3", "0", "", "build", "net.nal", "--emit", "ssa", out=True)
    plain, out, _ = run("0", "9", "", "build", "net.nal", "--emit", "ssa", terminal=False)
    assert "\rncc: merge 0." in text and screen(text) == plain + out
    text, _, status = run("0.3", "0", "fails", "build", "net.nal")
    assert "\rncc: merge 0." in text and status == 1
    assert screen(text).splitlines()[1:] == ["error[E146]: a fault of this test"]


def test_dumps_keep_the_terminal_to_themselves():
    words = ["build", "net.nal", "--print-after", "merge"]
    text, _, _ = run("0.3", "0", "", *words)
    assert text == run("0", "9", "", *words, terminal=False)[0]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def until(true):
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("nothing came")


def test_inner_steps_are_named_and_then_the_outer_one_again(monkeypatch):
    monkeypatch.setattr("ncc.progress.AFTER", 0.0)
    monkeypatch.setattr("ncc.progress.EVERY", 0.01)
    err = Terminal()
    with Progress(err) as progress, progress.working("a long outer step"):
        until(lambda: "outer" in screen(err.getvalue()))
        step = steps("dce")[0]
        progress.before(step, None)
        until(lambda: re.fullmatch(r"ncc: dce \d\.\d s", screen(err.getvalue())))
        progress.after(step, None, None, 0.0)
        until(lambda: "outer" in screen(err.getvalue()))
    assert screen(err.getvalue()) == "" and err.getvalue().endswith("\r")
    written = err.getvalue()
    time.sleep(0.05)
    assert err.getvalue() == written


def test_a_terminal_that_goes_away_is_no_fault(monkeypatch):
    monkeypatch.setattr("ncc.progress.AFTER", 0.0)
    monkeypatch.setattr("ncc.progress.EVERY", 0.01)

    class Gone(Terminal):
        asked = 0

        def write(self, text):
            self.asked += 1
            raise OSError(5, "Input/output error")

    err = Gone()
    with Progress(err) as progress, progress.working("a step"):
        until(lambda: err.asked > 2)
    closed = Terminal()
    closed.close()
    for nobody in (None, closed, io.StringIO()):
        with Progress(nobody) as progress, progress.working("a step"):
            pass
    Watcher().after(steps("dce")[0], "", "", 0.0)  # nothing was begun


def test_the_line_is_no_part_of_what_llvm_says():
    """While file 2 is listened to, the line goes to the terminal itself."""
    ours, theirs = pty.openpty()
    done = subprocess.run([sys.executable, "-c", LISTENS], stdout=subprocess.PIPE, stderr=theirs,
                          text=True, timeout=60)
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert (done.stdout, text) == ("1\n", "\rncc: x\r      \r")
