"""The command from its first module on: Ctrl-C and a lack of memory, while numpy and LLVM are
imported and at any time after; and that an import of ncc changes nothing in other processes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ncc import start

# Before the module named by argv[1] is imported, a fault happens: argv[2] says which.
SCRIPT = """
import builtins, os, signal, sys
module, what, *sys.argv = sys.argv[1:]
real = builtins.__import__

def fault():
    if what == "interrupt":
        signal.raise_signal(signal.SIGINT)
    elif what == "swallowed":
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            pass
    elif what == "kept":
        raise KeyboardInterrupt
    elif what == "memory":
        raise MemoryError
    elif what == "map":
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (1 << 40, resource.RLIM_INFINITY))
        raise ImportError("libx.so: failed to map segment from shared object")
    elif what == "missing":
        raise ModuleNotFoundError("No module named 'x'")
    elif what == "fault":
        raise ZeroDivisionError("odd")

def importing(name, *more, **also):
    global module
    if name == module:
        module = None
        fault()
    return real(name, *more, **also)

builtins.__import__ = importing
from ncc.cli import main
print("imported")
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("net.nal").write_text("N 02\n00\n01 tanh 00:1\n")
    return tmp_path


def process(*words, **more):
    return subprocess.run([sys.executable, *map(str, words)], text=True, timeout=60,
                          capture_output=True, **more)


@pytest.mark.parametrize("module", ["numpy", "subprocess"])
@pytest.mark.parametrize("what, status, message", [
    ("interrupt", 130, "ncc: interrupted"), ("swallowed", 130, "ncc: interrupted"),
    ("kept", 130, "ncc: interrupted"), ("memory", 4, "error[E400]: not enough memory"),
    ("map", 4, "error[E400]: not enough memory to start\nnote: libx.so"),
    ("missing", 5, "error[E637]: "), ("fault", 70, "error[E701]: "),
])
def test_what_comes_during_the_imports_ends_the_command(module, what, status, message):
    made = process("-c", SCRIPT, module, what, "/usr/bin/ncc", "check", "net.nal")
    assert made.returncode == status, made.stderr
    assert made.stderr.startswith(message) and "Traceback" not in made.stderr
    assert made.stdout == "" and made.stderr.count("\n") <= 2


def test_other_processes_keep_their_own_ways():
    """A program that imports ncc has its tracebacks, and its Ctrl-C."""
    made = process("-c", SCRIPT, "lark", "interrupt", "program.py")
    assert made.returncode not in (0, 130) and "Traceback" in made.stderr
    made = process("-c", "import signal, sys; before = signal.getsignal(signal.SIGINT), "
                   "sys.excepthook; import ncc.cli; ncc.cli.main(['check', 'net.nal']); "
                   "assert before == (signal.getsignal(signal.SIGINT), sys.excepthook); "
                   "assert signal.set_wakeup_fd(-1) == -1")
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("argv, original, yes", [
    (["-m", "check"], ["python3", "-m", "ncc", "check"], True),
    (["-m"], ["python3", "-X", "dev", "-mncc"], True),
    (["-m"], ["python3", "-m", "pytest", "ncc"], False),
    (["/usr/bin/ncc"], ["python3", "/usr/bin/ncc"], True), (["ncc.exe"], [], True),
    ([""], ["python3"], False), ([], [], False), (["-c"], ["python3", "-c", "1"], False),
    (["/home/me/ncc/run.py"], [], False), (["my-ncc"], [], False),
])
def test_which_processes_are_the_command(argv, original, yes):
    assert start.is_command(argv, original) == yes


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space")
@pytest.mark.parametrize("name, most", [("RLIMIT_AS", 20 << 20), ("RLIMIT_AS", 100 << 20),
                                        ("RLIMIT_AS", 257 << 20), ("RLIMIT_DATA", 20 << 20)])
def test_too_little_memory_to_start(name, most):
    limit = getattr(resource, name)
    made = process("-m", "ncc", "check", "net.nal",
                   preexec_fn=lambda: resource.setrlimit(limit, (most, most)))
    assert made.returncode in ((4,) if most < start.LEAST[name] else (0, 4)), made.stderr
    assert "Traceback" not in made.stderr
    assert (made.returncode == 0) == (made.stderr == "")
    assert made.returncode == 0 or made.stderr.startswith("error[E400]: not enough memory")


# The command, in which LLVM does not come back: no handler of Python's runs meanwhile.
LONG = """
import ctypes, sys
sys.argv = ["ncc", *sys.argv[1:]]
import ncc.cli
from ncc import start
from ncc.machine.llvm import Machine
start.PATIENCE = 0.2

def blocked(self, text):
    print("llvm", flush=True)
    mutex = ctypes.create_string_buffer(256)
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)

Machine.object = blocked
sys.exit(ncc.cli.main())
"""


def test_an_interrupt_ends_a_call_that_python_cannot():
    made = subprocess.Popen([sys.executable, "-c", LONG, "build", "net.nal",
                             "--no-cache"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)
    assert made.stdout.readline() == "llvm\n"
    made.send_signal(signal.SIGINT)
    _, err = made.communicate(timeout=30)
    assert (made.returncode, err) == (130, "ncc: interrupted\n")
    assert sorted(os.listdir()) == ["net.nal"]


def test_an_interrupt_between_the_outputs_and_the_end_of_python():
    script = ("import atexit, signal, sys; sys.argv = ['ncc', 'check', 'net.nal']; "
              "import ncc.cli; atexit.register(signal.raise_signal, signal.SIGINT); "
              "sys.exit(ncc.cli.main())")
    made = process("-c", script)
    assert (made.returncode, made.stderr) == (130, "ncc: interrupted\n")
    assert made.stdout.startswith("neurons 2\n")
