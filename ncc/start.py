"""The first module of a process that is the command `ncc`, before numpy and LLVM are there: from
here on Ctrl-C and a lack of memory end it with a message and a status, never with a traceback.

In every other process, which only imports ncc, it does nothing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from time import perf_counter
from types import TracebackType
from typing import Any

ERRORS = 2  # the file of messages, which is another while what LLVM says is listened to
SWITCHING = threading.Lock()  # while it becomes another, and while a thread writes to it

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

BEGAN = perf_counter()
INTERRUPTED, NO_MEMORY = 130, 4  # exit statuses
# Bytes of address space, and of data; with less, libraries end the process as they please.
LEAST = {"RLIMIT_AS": 256 << 20, "RLIMIT_DATA": 64 << 20}
PATIENCE = 1.0  # seconds after Ctrl-C that a call of LLVM or numpy may go on


def is_command(argv: list[str], original: list[str]) -> bool:
    """Whether this process runs `ncc ...`, or `python -m ncc ...`, whose argv[0] is `-m` as long
    as the package is imported."""
    if not argv:
        return False
    if argv[0] == "-m":
        return "-mncc" in original or ("-m", "ncc") in zip(original, original[1:], strict=False)
    return os.path.basename(argv[0]).removesuffix(".exe").removesuffix("-script.py") == "ncc"


COMMAND = is_command(sys.argv, sys.orig_argv)


def guard() -> None:
    """Until `take_over`: an interrupt ends the process at once, as do uncaught exceptions."""
    if not COMMAND:
        return
    sys.excepthook = _uncaught
    _quit_on_interrupt()
    for name, room in _limits().items():
        if room < LEAST[name]:
            _end(NO_MEMORY, f"error[E400]: not enough memory: ncc wants {LEAST[name] >> 20} MiB to "
                 f"start, and may have {room >> 20} ({name})")
    if _limits():
        # It takes memory for each of its threads, and where there is none it ends the process.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def take_over() -> None:
    """From here on the command handles its exceptions itself, KeyboardInterrupt among them. A call
    into a library does not see that one: where it goes on for too long, the process ends."""
    if COMMAND and signal.getsignal(signal.SIGINT) is _interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _watch_interrupts()


def leave() -> None:
    """The command has said all that it had to say, and only Python's own end is left."""
    _ended.set()
    if COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _quit_on_interrupt()


_ended = threading.Event()


def _quit_on_interrupt() -> None:
    # Not where it was ignored from the beginning, as behind a shell's `&`.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)


def _interrupted(*_: Any) -> None:
    _end(INTERRUPTED, "ncc: interrupted")


def _watch_interrupts() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))

    def watch() -> None:
        while os.read(read, 1):
            # Whoever has a handler of their own, as training has, ends when they like.
            if (not _ended.wait(PATIENCE)
                    and signal.getsignal(signal.SIGINT) is signal.default_int_handler):
                _end(INTERRUPTED, "ncc: interrupted")

    try:
        threading.Thread(target=watch, name="ncc interrupts", daemon=True).start()
    except RuntimeError:  # no memory for a thread
        signal.set_wakeup_fd(-1)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        _interrupted()
    words = str(error).strip().splitlines() or [kind.__name__]
    if isinstance(error, MemoryError) or (_limits() and isinstance(error, (ImportError, OSError))):
        _end(NO_MEMORY, f"error[E400]: not enough memory to start\nnote: {words[-1]}")
    if isinstance(error, ImportError):
        _end(5, f"error[E637]: a library that ncc wants cannot be imported: {words[-1]}\n"
             "help: pip install ncc-compiler")
    _end(70, f"error[E701]: a bug in ncc: {kind.__name__}: {words[-1]}")


def _limits() -> dict[str, int]:
    """The bytes that this process may have, where that is limited."""
    found = {}
    for name in LEAST if resource is not None else ():
        soft = resource.getrlimit(getattr(resource, name))[0]
        if soft != resource.RLIM_INFINITY:
            found[name] = soft
    return found


def _end(status: int, message: str) -> None:
    """At once: no `finally`, no exception that a library could swallow."""
    try:
        os.write(ERRORS, f"{message}\n".encode())
    except OSError:
        pass
    os._exit(status)
