"""Every importer, and which of them a file or an object is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ncc.errors import NccError, near
from ncc.formats.importers import (
    fann,
    goneat,
    neat_genome,
    neat_json,
    sharpneat,
    tensorneat,
    wann,
)
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options, listed
from ncc.formats.importers.graphs import graphml, node_link
from ncc.formats.importers.keras import files as keras
from ncc.formats.importers.matrices import edge_list, matrix_market, numpy_files
from ncc.formats.importers.onnx import files as onnx
from ncc.formats.importers.sklearn import files as sklearn
from ncc.formats.importers.torch import modules as torch

# Adding a format is a file with a row IMPORTER, and a line here.
IMPORTERS: tuple[Importer, ...] = (
    neat_json.IMPORTER,
    neat_genome.IMPORTER,
    tensorneat.IMPORTER,
    sharpneat.IMPORTER,
    goneat.IMPORTER,
    fann.IMPORTER,
    wann.IMPORTER,
    node_link.IMPORTER,
    graphml.IMPORTER,
    matrix_market.IMPORTER,
    numpy_files.IMPORTER,
    edge_list.IMPORTER,
    edge_list.CHALLENGE,
    sklearn.IMPORTER,
    torch.IMPORTER,
    onnx.IMPORTER,
    keras.IMPORTER,
)
BY_NAME = {importer.name: importer for importer in IMPORTERS}
ENDINGS = tuple(sorted({ending for importer in IMPORTERS for ending in importer.endings}))


def foreign_ending(path: str | Path) -> bool:
    """Whether a file may be one of another tool, by its ending."""
    return str(path).lower().endswith(ENDINGS)


def importer_of(file: Foreign, source: str | None = None) -> Importer:
    """The importer that `source` names; else that which recognises the file, among those of its
    ending first. NccError E800: an unknown `source`, or a file that nobody or several know."""
    if source is not None:
        if source not in BY_NAME:
            raise NccError("E800", f"no importer is called {source}", status=2,
                           help=near(source, BY_NAME))
        return BY_NAME[source]
    by_ending = [i for i in IMPORTERS if file.name.lower().endswith(i.endings)]
    for among in (by_ending, IMPORTERS):
        found = [i for i in among if i.recognises(file)]
        if len(found) == 1:
            return found[0]
        if found:
            raise file.fault("E800", "it may be " + " or ".join(i.title for i in found),
                             help="--source " + "|".join(i.name for i in found))
    meant = by_ending or list(IMPORTERS)
    raise file.fault("E800", "no importer knows this file",
                     note="it might be " + listed([i.title for i in meant], 12),
                     help="--source says what it is: " + ", ".join(BY_NAME))


def read(files: Sequence[Foreign], source: str | None = None, options: Options | None = None
         ) -> Imported:
    """The net in files of another tool: one, or of some formats one a layer. NccErrors E800 to
    E819; E609 for an option that this format does not take, or a file too many."""
    importer = importer_of(files[0], source)
    asked = options or Options()
    _takes(importer, asked)
    if len(files) > 1 and not importer.layers:
        raise NccError("E609", f"{files[1].name}: a second file, and {importer.title} is a whole "
                               "net", help="of matrices there may be several, one a layer")
    return importer.read(list(files), asked)


def of_object(value: Any, options: Options | None = None) -> Imported:
    """The net of a live object of another library. NccError E800 where no importer knows it."""
    asked = options or Options()
    for importer in IMPORTERS:
        if importer.recognises_object is not None and importer.recognises_object(value):
            assert importer.from_object is not None
            _takes(importer, asked)
            return importer.from_object(value, asked)
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise NccError("E800", f"no importer knows an object of {kind}", note="known are those of "
                   + listed([i.title for i in IMPORTERS if i.recognises_object], 12))


def _takes(importer: Importer, options: Options) -> None:
    for each in fields(Options):
        if each.name in ("example", "state_dict"):  # which may be any object
            continue
        if (getattr(options, each.name) != each.default
                and each.name not in (*importer.takes, "max_edges")):
            raise NccError("E609", f"--{each.name.replace('_', '-')}: {importer.title} has no use "
                                   "for it")
    _ = options.functions  # which refuses a malformed --fn, whether a neuron wants it or not
