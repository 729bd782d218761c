"""A level kept where a pass is at fault, and the command that replays it."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from ncc.cli.terminal import say
from ncc.driver.levels import LEVELS, format_of, rank
from ncc.driver.observe import Watcher
from ncc.driver.pipeline import Step, arrives
from ncc.ir.graph import Graph
from ncc.ir.plan import Plan
from ncc.ir.ssa import Module

SHARED = ("effort", "numerics", "dtype", "check", "no_limit")
# Which a plan has in it.
FORMS, EMBEDDING = ("form", "batch_form", "backward_form"), ("embed_weights",)
OF_BUILD = ("name", "recompute", "train", "target", "cpu", "features")
OF_NETS = ("activation", "outputs")  # which the texts of levels have in them


def keep(watcher: Watcher, args: argparse.Namespace, usual: argparse.Namespace) -> None:
    """Keep the text of the last level before the guilty pass that can be read again, and say
    where, and the command that replays the fault, which is in the first line of the file, too.

    `usual` is a build without options.
    """
    level, step = watcher.kept, watcher.step
    format = format_of(level)
    if step is None or format is None or (watcher.done and watcher.making is None):
        return
    path = Path(f"ncc-fault-{step.name}.{format.name}")
    passes = shlex.quote(",".join(_spelled(passed) for passed in watcher.since))
    made = LEVELS[rank(arrives(step.call))].kind
    goal = watcher.making if watcher.done else made
    command = (f"ncc build {path} --passes {passes} --emit {goal}{_flags(watcher, args, usual)} "
               "--verify-each")
    try:
        path.write_text(f"{format.comment} {command}\n{level}")
    except OSError:
        return
    say(f"note: the level before {watcher.since[0].name} is kept in {path}\nhelp: {command}")


def _spelled(step: Step) -> str:
    """A step as --passes takes it: `split{piece=500}`."""
    options = ",".join(f"{key}={value}" for key, value in step.options.items())
    return step.name + (f"{{{options}}}" if options else "")


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
