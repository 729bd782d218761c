"""A line on the terminal that says what a long compile is doing."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, Self, TextIO

from ncc import start

AFTER = 2.0  # seconds of which nobody needs to be told
EVERY = 0.1  # seconds between two lines


class Progress:
    """Says, from AFTER seconds on, the current step and its seconds, each time over the last line,
    which is wiped when a step ends: whatever else is printed then stands alone.

    On a terminal only: without one (or where `err` is None) nothing is ever written. It may watch
    a pipeline.
    """

    def __init__(self, err: TextIO | None = None) -> None:
        self._err = err
        self._lock = threading.Lock()
        self._steps: list[tuple[str, float]] = []  # under way, and when they began
        self._shown = 0  # characters of the line that stands there now
        self._closed = threading.Event()
        if err is not None and terminal(err):
            threading.Thread(target=self._run, name="ncc progress", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Wipe the line; nothing is written from here on."""
        self._closed.set()
        with self._lock:
            self._wipe()

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Around something that may take long; steps within it are named instead of it."""
        self.begin(what)
        try:
            yield
        finally:
            self.end()

    def begin(self, what: str) -> None:
        with self._lock:
            self._steps.append((what, monotonic()))

    def end(self) -> None:
        with self._lock:
            del self._steps[-1:]
            self._wipe()

    def before(self, step: Any, level: Any, params: Any = None) -> None:
        self.begin(step.name)

    def after(self, step: Any, old: Any, new: Any, seconds: float, params: Any = None) -> None:
        self.end()

    def _run(self) -> None:
        wait = AFTER
        while not self._closed.wait(wait):
            wait = EVERY
            with self._lock:
                if self._steps and not self._closed.is_set():
                    what, began = self._steps[-1]
                    self._write(f"ncc: {what} {monotonic() - began:.1f} s")

    def _wipe(self) -> None:
        if self._shown:
            self._write("")

    def _write(self, line: str) -> None:
        # Blanks over what is longer, not an escape sequence, which a dumb terminal would show.
        blank = " " * (self._shown - len(line))
        text = f"\r{line}{blank}" + "\r" * (not line)
        with suppress(OSError, ValueError):  # the terminal is gone
            assert self._err is not None
            if descriptor(self._err) == 2:
                with start.SWITCHING:
                    os.write(start.ERRORS, text.encode())
            else:
                self._err.write(text)
                self._err.flush()
        self._shown = len(line)


def descriptor(err: TextIO) -> int | None:
    """The number of the file that a stream writes to, if it is one of the system's."""
    try:
        return err.fileno()
    except (OSError, ValueError, AttributeError):
        return None


def terminal(err: TextIO) -> bool:
    """Whether somebody looks."""
    try:
        return err.isatty()
    except (OSError, ValueError, AttributeError):  # closed, or no stream at all
        return False
