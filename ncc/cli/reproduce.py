"""A level kept where a pass is at fault, and the command that replays it."""

from __future__ import annotations

import argparse
import shlex

from ncc.cli.terminal import say
from ncc.driver.observe import Watcher


def keep(watcher: Watcher, args: argparse.Namespace, usual: argparse.Namespace) -> None:
    kept = watcher.reproducer(_flags(args, usual), getattr(args, "making", None))
    if kept is not None and watcher.step is not None:
        path, command = kept
        what = f"the level before {watcher.since[0].name}"
        say(f"note: {what} is kept in {path}\nhelp: {command}")


def _flags(args: argparse.Namespace, usual: argparse.Namespace) -> str:
    """The options of this command that bear upon what its passes do."""
    words: list[str] = []
    for key in ("effort", "numerics", "dtype", "form", "batch_form", "backward_form", "name",
                "embed_weights", "backward", "recompute", "train", "target", "cpu", "features",
                "activation", "outputs", "check", "no_limit"):
        value = getattr(args, key, getattr(usual, key))
        if key in ("activation", "outputs") and not args.entered == "syntax":
            continue
        if value != getattr(usual, key):
            flag = "-O" if key == "effort" else "--" + key.replace("_", "-")
            if value is False:
                flag, value = flag.replace("--", "--no-"), True
            words += [flag] if value is True else [flag, str(value)]
    if args.command == "run":
        words += ["--cpu", "native"]
    return "".join(" " + shlex.quote(word) for word in words)
