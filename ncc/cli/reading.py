"""The files that a command reads: nets and samples."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ncc.cli.arguments import import_options
from ncc.cli.terminal import say
from ncc.driver.levels import FORMATS, NETS
from ncc.driver.observe import Watcher
from ncc.driver.request import FOREIGN, Text
from ncc.errors import NccError, Source, near
from ncc.formats import safetensors
from ncc.formats import samples as data
from ncc.formats.importers import registry
from ncc.formats.importers.foreign import Foreign, Imported, opened
from ncc.formats.importers.registry import foreign_ending
from ncc.formats.importers.torch import modules as torch
from ncc.formats.read import decode
from ncc.formats.weights import ByName, Tensors
from ncc.images.kinds import Kinds, kinds_of
from ncc.images.kinds_text import joined, read, split
from ncc.ir.graph import Graph
from ncc.ir.labels import digits
from ncc.nets import net
from ncc.passes.graph.resolve import unused_inputs


def source_of(path: str) -> Source:
    if path == "-":
        if sys.stdin is None:
            raise NccError("E101", "cannot read standard input: it is closed")
        return decode("<stdin>", sys.stdin.buffer.read())
    return net.read(path)


def format_of(args: argparse.Namespace) -> str:
    """One of FORMATS, or FOREIGN for a file of another tool. NccError E102."""
    if args.source is not None and args.format is not None:
        raise NccError("E609", "--source is for files of other tools, --format for ncc's")
    found = args.format or Path(args.net).suffix[1:]
    if args.source is not None or found not in FORMATS and foreign_ending(args.net):
        return FOREIGN
    if found not in FORMATS:
        raise NccError("E102", f"{args.net}: unknown file extension",
                       note="--format gives the format, --source that of another tool, whatever "
                       "the extension",
                       help=near(found, FORMATS))
    return str(found)


def text_of(args: argparse.Namespace) -> Text:
    return Text(args.net, format_of(args), args.activation, args.outputs, args.unroll)


def read_net(args: argparse.Namespace, watcher: Watcher) -> Graph:
    """The ordered graph of the file, its unused inputs warned of."""
    return read_named(args, watcher)[0]


def read_named(args: argparse.Namespace, watcher: Watcher) -> tuple[Graph, Tensors]:
    """The same, and the names of its parameters in the tool that it comes from."""
    with watcher.working("read"):
        source = net_source(args)
    graph, _ = text_of(args).graph(source, watcher)
    warn_of_unused(graph, source)
    return graph, source.tensors if isinstance(source, Imported) else {}


def net_source(args: argparse.Namespace) -> Source:
    """The text of the net, or what an importer makes of it, whose notes are said."""
    if format_of(args) != FOREIGN:
        return source_of(args.net)
    files, weights = [opened(args.net)], str(getattr(args, "weights", None))
    if not weights.endswith(".safetensors"):
        return _read(args, files)
    if registry.importer_of(files[0], args.source) is torch.IMPORTER:
        args.weights = None  # the module gets them, whatever the net makes of them
        return _read(args, files, safetensors.read(weights))
    made = _read(args, files)
    args.weights = ByName(weights, made.tensors)
    return made


def imported(args: argparse.Namespace, paths: Sequence[str]) -> Imported:
    """The net in files of another tool, its notes said. NccErrors E101, E800 to E819."""
    return _read(args, [opened(path) for path in paths])


def _read(args: argparse.Namespace, files: Sequence[Foreign],
          state: Mapping[str, Any] | None = None) -> Imported:
    """The same of open files; of torch's with the arrays `state` in the place of its own."""
    options = replace(import_options(args), state_dict=state)
    made = registry.read(files, args.source, options)
    for note in made.notes:
        say(f"{made.name}: note: {note}")
    return made


def kinds_asked(words: str, watcher: Watcher) -> Kinds:
    """The kinds of rows that --kinds names: items of a list, each a kind, a file of kinds, or a net
    file, whose rows' they are. NccError E613."""
    found = []
    for word in split(words):
        ending = Path(word).suffix[1:]
        if ending in NETS:
            graph, _ = Text(word, ending).graph(source_of(word), watcher)
            found.append(kinds_of([graph]))
        else:
            found.append(read(source_of(word) if Path(word).is_file() else Source("--kinds", word)))
    if not any(kinds.kinds for kinds in found):
        raise NccError("E613", "--kinds names no row", help="--kinds sum:tanh,max:relu")
    return joined(found)


def warn_of_unused(graph: Graph, source: Source) -> None:
    unused = unused_inputs(graph).tolist()
    if unused:
        width = digits(graph.n_own)
        shown = ", ".join([f"{i:0{width}x}" for i in unused[:8]]) + (", ..." if unused[8:] else "")
        say(f"{source.name}: warning[W001]: unused input{'s' if unused[1:] else ''} {shown}")


def load_samples(args: argparse.Namespace, path: str, columns: int, **how: Any) -> Any:
    how |= {"header": args.header, "note": lambda words: say(f"note: {words}")}
    if path == "-":
        if sys.stdin is None:
            raise NccError("E101", "cannot read standard input: it is closed")
        made = data.load("<stdin>", columns, sys.stdin.buffer.read(), **how)
    else:
        made = data.load(path, columns, **how)
    if not len(made) and not path.endswith((".npy", ".npz")):
        say(f"{'<stdin>' if path == '-' else path}: warning[W003]: it holds no samples")
    return made
