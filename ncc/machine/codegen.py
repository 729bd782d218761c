"""Code generation whose end may be an error, but not the end of the process that asked for it.

LLVM aborts where memory runs out, and cannot be interrupted. So what is sure to be small is made
here, and the rest in a child process: a fresh Python, never a fork, which gets the text on its
standard input and answers with the object on its standard output. Its death is an NccError.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from ncc.errors import NccError
from ncc.machine import limits
from ncc.machine.limits import SMALL, SPREAD, Need, megabytes, refused
from ncc.machine.llvm import Machine
from ncc.machine.targets import Target

LARGE = 1e9  # bytes, from where a child makes the code whatever there is
AMPLE = 500e6  # bytes left, of which a text of SMALL characters takes few
LONG = 5.0  # CPU seconds, likewise: a child can be interrupted
CHILD = 250e6  # bytes, at least, of a child's address space before it begins
SHARE = 0.9  # of what is left, for the child: the rest is for its answer
ENTRY = "import sys; sys.path[:] = sys.argv[1:]; from ncc.machine.codegen import main; main()"
# One thread has nothing to share out, and address space is what may be short.
QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1",
         "PYTHONINSPECT": ""}


@dataclass(frozen=True)
class Codegen:
    """A target at a codegen level 0..3, as Machine is, within limits.

    about     the net and the forms of its functions, for messages
    help      which options would make less of it
    seconds   of CPU, after which it is given up; None: neither time nor memory is limited
    bound     of CPU seconds, which code in the forms that were asked for may not be predicted to
              break by far; None where none were
    working   entered around each stage, for whoever times them
    """

    target: Target
    opt: int = 2
    about: str = ""
    help: str = ""
    seconds: float | None = None
    bound: float | None = None
    working: Callable[[str], AbstractContextManager[None]] | None = None

    def object(self, text: str) -> bytes:
        return self._made("object", text)

    def assembly(self, text: str) -> str:
        return self._made("assembly", text).decode()

    def bitcode(self, text: str) -> bytes:
        return self._made("bitcode", text)

    def measured(self, text: str) -> bytes:
        """The object behind a line about its stack: Machine.measured."""
        return self._made("measured", text)

    def _made(self, kind: str, text: str) -> bytes:
        """NccError E400 (status 4) where memory or time would not do, or did not; E700 where LLVM
        refuses the text or dies of something else."""
        fragile = self.target.gives_up
        if len(text) <= SMALL and limits.own() >= AMPLE and self.bound is None and not fragile:
            return _here(self.target, self.opt, kind, text, self.working)
        need = limits.estimate(text, self.target.triple.split("-")[0], self.opt)
        whole = need._replace(seconds=need.seconds + limits.passes(text))
        if limits.breaks(whole, self.bound, limits.ASKED):
            raise self.beyond(whole)
        left = limits.left()
        small = need.memory * SPREAD <= left and need.memory <= LARGE and need.seconds <= LONG
        if small and not fragile:
            return _here(self.target, self.opt, kind, text, self.working)
        # What is certain not to fit is not tried.
        room = min(limits.shared(), limits.for_another() - CHILD)
        if self.seconds is not None and (
                need.memory / SPREAD > room or need.seconds / SPREAD > self.seconds):
            raise self.refusal(need, room)
        python = _python()
        with (self.working or (lambda stage: nullcontext()))("llvm-codegen"):
            answer = None if python is None else self._child(python, kind, text, need, room)
        if answer is not None:
            return answer
        # No child can be had: the estimate alone decides.
        if self.seconds is not None and (need.memory > left or need.seconds > self.seconds):
            raise self.refusal(need, left)
        return _here(self.target, self.opt, kind, text, self.working)

    def refusal(self, need: Need, room: float) -> NccError:
        """Of a compile that would take more than there is."""
        has = "" if room == math.inf else f" of the {megabytes(max(0.0, room))} left"
        allowed = "" if self.seconds is None else f" of {self.seconds:,.0f} s allowed"
        return refused(f"the code of this net{self.named()} would take about "
                       f"{megabytes(need.memory)}{has} and {need.seconds:,.0f} s{allowed}",
                       self.help)

    def beyond(self, need: Need) -> NccError:
        """Of a form that was asked for, whose compile would take more than the bound."""
        return refused(f"the code of this net{self.named()} would take about {need.seconds:,.1f} s "
                       f"and {megabytes(need.memory)} to compile, beyond the bound of "
                       f"{self.bound or 0:,.2f} s", self.help)

    def named(self) -> str:
        """The net, for the end of a phrase."""
        return f" ({self.about})" if self.about else ""

    def _child(self, python: str, kind: str, text: str, need: Need, room: float) -> bytes | None:
        """What a child made; None where none can be started."""
        memory = None if self.seconds is None or room == math.inf else int(SHARE * room)
        request = pickle.dumps((os.getpid(), self.target, self.opt, kind, memory, self.seconds))
        here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        began = time.monotonic()
        try:
            child = subprocess.Popen(
                [python, *_flags(), "-c", ENTRY, *[p for p in sys.path if p], here],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={**os.environ, **QUIET}, creationflags=getattr(
                    subprocess, "CREATE_NO_WINDOW", 0))
        except OSError:
            return None
        with child:
            try:
                out, err = child.communicate(request + text.encode())
            except BaseException:
                child.kill()
                child.wait()
                raise
        head, _, made = out.partition(b"\n")
        answer: dict[str, Any] = {}
        with suppress(ValueError):
            answer = json.loads(head)
        if "error" in answer:
            code, message, help, status = answer["error"]
            raise NccError(code, message, help=help, status=status)
        if answer.get("size") == len(made):
            return made
        raise self._death(child.returncode, err.decode(errors="replace"), need, memory,
                          time.monotonic() - began)

    def _death(self, status: int, said: str, need: Need, memory: int | None, wall: float
               ) -> NccError:
        """Why a child gave no answer: its exit status, and what it wrote to standard error."""
        last = (said.strip().split("\n") or [""])[-1]
        if -status == getattr(signal, "SIGXCPU", None):
            return refused(f"the code of this net{self.named()} was not made within "
                           f"{self.seconds or 0:,.0f} s of CPU", self.help)
        if self.target.gives_up and status == 1:
            return NccError("E700", f"LLVM gave up: its back end for {self.target.name} did not "
                            f"make the code of this net{self.named()}",
                            help="--emit c, for a compiler of that machine")
        if "LLVM ERROR" in said and not re.search(MEMORY, said):
            return NccError("E700", f"LLVM gave up: {last}")
        how = f"it was ended by {_signal(-status)}" if status < 0 else last or "no answer"
        if re.search(MEMORY, said):
            how = "it ran out of memory"
        has = "" if memory is None else f" with {megabytes(memory)} to take"
        return refused(f"LLVM did not make the code of this net{self.named()}: {how} after "
                       f"{wall:,.1f} s{has}, about {megabytes(need.memory)} predicted", self.help)


MEMORY = r"(?i)out of memory|bad_alloc|MemoryError|cannot allocate"


def _signal(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _python() -> str | None:
    """The interpreter to start; None in a program that has Python inside it."""
    path = sys.executable or ""
    name = os.path.basename(path).lower()
    return path if name.startswith(("python", "pypy")) and not hasattr(sys, "frozen") else None


def _flags() -> list[str]:
    """What this interpreter was told of its surroundings, for the child's."""
    told = (("-I", sys.flags.isolated), ("-E", sys.flags.ignore_environment),
            ("-s", sys.flags.no_user_site), ("-S", sys.flags.no_site))
    return [flag for flag, on in told if on]


def _here(target: Target, opt: int, kind: str, text: str,
          working: Callable[[str], AbstractContextManager[None]] | None = None) -> bytes:
    made: bytes | str = getattr(Machine(target, opt, working), kind)(text)
    return made.encode() if isinstance(made, str) else made


# ---- the child


def main() -> None:
    """Answer the request on standard input, and end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked ends it
    answer = os.dup(1)
    os.dup2(2, 1)  # what LLVM may print is no part of the answer
    parent, target, opt, kind, memory, seconds = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_outlive, args=(parent,), daemon=True).start()
    limits.restrict(memory, seconds)
    made = b""
    head: dict[str, Any]
    try:
        made = _here(target, opt, kind, sys.stdin.buffer.read().decode())
        head = {"size": len(made)}
    except NccError as error:
        head = {"error": (error.code, error.message, error.help, error.status)}
    with suppress(BrokenPipeError), open(answer, "wb") as out:
        out.write(json.dumps(head).encode() + b"\n")
        out.write(made)
    os._exit(0)


def _outlive(parent: int) -> None:
    """End with the process that asked, should it be killed."""
    while os.name == "posix" and os.getppid() == parent:
        time.sleep(0.5)
    if os.name == "posix":
        os._exit(1)
