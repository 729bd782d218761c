"""How training goes, for people: a bar where a terminal looks, else a line now and then."""

from __future__ import annotations

import math
import os
import time
from typing import TextIO

from ncc.progress import terminal
from ncc.training.loop import Status

_REDRAW = 0.1  # seconds
_LINES = 100  # of one training, about, where nobody looks
_BAR = 20  # cells


class Meter:
    """Called with each Status; `close` ends the bar's line. What cannot be written is let go."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._bar = stream is not None and terminal(stream)
        self._drawn = -math.inf  # when
        self._shown = 0  # characters of the bar that stands there now

    def __call__(self, p: Status) -> None:
        last = p.seen == p.samples and p.epoch == p.epochs
        if self._bar:
            now = time.monotonic()
            if last or now - self._drawn >= _REDRAW:
                text = bar(p)[: self._width() - 1]
                self._write("\r" + text.ljust(self._shown))
                self._drawn, self._shown = now, len(text)
        elif p.seen == p.samples and (last or p.epoch % math.ceil(p.epochs / _LINES) == 0):
            self._write(line(p) + "\n")

    def close(self) -> None:
        if self._shown:
            self._write("\n")

    def _write(self, text: str) -> None:
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                self._stream = None

    def _width(self) -> int:
        try:
            assert self._stream is not None
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80


def bar(p: Status) -> str:
    """`[#####...............] epoch 3/10 loss 0.1234 validation 0.2 1,234 samples/s`"""
    done = ((p.epoch - 1) * p.samples + p.seen) / (p.epochs * p.samples)
    full = int(_BAR * done)
    return f"[{'#' * full}{'.' * (_BAR - full)}] " + _numbers(p, " ")


def line(p: Status) -> str:
    """`epoch 3/10, loss 0.1234, validation 0.2, 1,234 samples/s`"""
    return _numbers(p, ", ")


def _numbers(p: Status, between: str) -> str:
    words = [f"epoch {p.epoch}/{p.epochs}", f"loss {p.loss:.4g}"]
    if not math.isnan(p.validation):
        words.append(f"validation {p.validation:.4g}")
    return between.join([*words, f"{p.rate:,.0f} samples/s"])
