"""The learning curve as a picture: the one module that wants matplotlib (extra `plot`)."""

from __future__ import annotations

import io
import math

from matplotlib import rc_context
from matplotlib.figure import Figure

from ncc.training.loop import History

ENDINGS = ("png", "svg", "pdf")


def curve(history: History, ending: str) -> bytes:
    """A picture file of the losses by epoch, on a logarithmic scale where all are above 0."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    epochs = [row.epoch for row in history.epochs]
    losses = [row.loss for row in history.epochs]
    held = [row.validation for row in history.epochs]
    mark = "." if len(epochs) == 1 else ""
    axes.plot(epochs, losses, mark + "-", label="training")
    if not all(map(math.isnan, held)):
        axes.plot(epochs, held, mark + "-", label="validation")
    if history.best:
        axes.axvline(history.best, color="0.7", linestyle=":", label=f"best: {history.best}")
    if all(value > 0 for value in losses):
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.legend()
    out = io.BytesIO()
    # Neither dates nor random names in the file: the same history is the same bytes.
    date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending, {})
    with rc_context({"svg.hashsalt": "ncc"}):
        figure.savefig(out, format=ending, metadata=date)
    return out.getvalue()
