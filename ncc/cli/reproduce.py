"""A level kept where a pass is at fault, and the command that replays it."""

from __future__ import annotations

import argparse
import shlex

from ncc.cli.terminal import say
from ncc.driver.observe import Watcher
from ncc.ir.graph import Graph
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module

SHARED = ("effort", "numerics", "dtype", "check", "no_limit")
# Which a plan has in it.
FORMS, EMBEDDING = ("form", "batch_form", "backward_form"), ("embed_weights",)
OF_BUILD = ("name", "recompute", "train", "target", "cpu", "features")
OF_NETS = ("activation", "outputs")  # which the texts of levels have in them


def keep(watcher: Watcher, args: argparse.Namespace, usual: argparse.Namespace) -> None:
    """Say where the level before the fault is kept, if any; `usual` is a build without options."""
    if watcher.kept is None:
        return
    kept = watcher.reproducer(_flags(watcher, args, usual))
    if kept is not None and watcher.step is not None:
        path, command = kept
        what = f"the level before {watcher.since[0].name}"
        say(f"note: {what} is kept in {path}\nhelp: {command}")


def _flags(watcher: Watcher, args: argparse.Namespace, usual: argparse.Namespace) -> str:
    """The options of this command that bear upon its passes, for a build of what is kept."""
    building = args.command == "build"
    keys = [*SHARED, *(OF_BUILD if building else ())]
    if not isinstance(watcher.kept, Plan):
        keys += [*FORMS, *(EMBEDDING if building else ())]
    if not isinstance(watcher.kept, (Graph, Plan, Module)):
        keys += OF_NETS
    words: list[str] = []
    for key in keys:
        value = getattr(args, key, getattr(usual, key))
        if value != getattr(usual, key):
            flag = "-O" if key == "effort" else "--" + key.replace("_", "-")
            words += [flag] if value is True else [flag, str(value)]
    if building and not isinstance(watcher.kept, Module):
        words += ["--backward" if watcher.gradient else "--no-backward"]
    if args.command in ("run", "bench"):
        words += ["--cpu", "native"]
    return "".join(" " + shlex.quote(word) for word in words)
