"""Standard output and standard error, which may be closed, or a pipe that nobody reads."""

from __future__ import annotations

import os
import sys

from ncc.errors import NccError


def say(message: str) -> None:
    """To standard error, if anybody listens."""
    if sys.stderr is not None:
        try:
            print(message, file=sys.stderr, flush=True)
        except OSError:
            pass


def abandon() -> None:
    """Nobody reads standard output: what is left in its buffer goes nowhere, or Python would
    complain of it at the end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):
        pass


def show(text: str) -> None:
    put(text.encode())


def put(data: bytes) -> None:
    """To standard output."""
    if sys.stdout is None:
        raise NccError("E622", "cannot write standard output: it is closed")
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:
        sys.stdout.write(data.decode())
        return
    # Python's unbuffered standard output (PYTHONUNBUFFERED) drops what one write leaves over.
    rest = memoryview(data)
    while rest:
        rest = rest[buffer.write(rest) or 0 :]
