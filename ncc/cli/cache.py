"""`ncc cache`: what the cache of compiled objects holds."""

from __future__ import annotations

import argparse

from ncc.cli.arguments import Commands
from ncc.cli.terminal import say, show
from ncc.driver.observe import Watcher
from ncc.machine import cache as objects


def arguments(commands: Commands) -> None:
    parser = commands.add_parser("cache", allow_abbrev=False,
                                 help="show or empty the cache of compiled objects")
    parser.add_argument("--clear", action="store_true", help="remove all entries")
    parser.set_defaults(call=cache)


def cache(args: argparse.Namespace, watcher: Watcher) -> None:
    if args.clear:
        objects.clear()
        return
    entries, size = objects.contents()
    why = objects.unused()
    if why is not None:
        say(f"note: the cache is not used: {why}")
    show(f"folder {objects.folder() or '(none)'}\nentries {entries}\nbytes {size}\n"
         f"limit {objects.limit()}\n")
