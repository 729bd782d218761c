"""The table of what a net can be exported as."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ncc.errors import NccError, near
from ncc.formats.exporters.fann import fann
from ncc.formats.exporters.graphs import graphml, node_link
from ncc.formats.exporters.latex import latex
from ncc.formats.exporters.matrices import matrix_market, scipy_npz
from ncc.formats.exporters.neat_json import neat_json
from ncc.formats.exporters.onnx_model import onnx_file
from ncc.formats.exporters.parameters import safetensors_file
from ncc.formats.exporters.python_text import python
from ncc.formats.exporters.sharpneat import sharpneat
from ncc.formats.weights import Tensors
from ncc.ir.graph import Graph


class Exporter(NamedTuple):
    """A format that is written and not compiled.

    name    what `--to` and `to_formula` call it
    ending  of its files, with the dot; where two formats have one, the first in the table gets it
    write   (ordered graph, lossy) -> the file. NccError E401 where the format cannot say the graph
            (`lossy`: what can be left out is), E607 where it holds values and one is missing
    what    in a line of the help
    text    whether it may go to a terminal
    by_name (graph, names of its parameters in the tool that it comes from) -> the file, of a format
            that has such names; else `write` is what writes
    """

    name: str
    ending: str
    write: Callable[[Graph, bool], bytes]
    what: str
    text: bool = True
    by_name: Callable[[Graph, Tensors], bytes] | None = None

    def file(self, graph: Graph, lossy: bool, tensors: Tensors) -> bytes:
        return self.write(graph, lossy) if self.by_name is None else self.by_name(graph, tensors)


EXPORTERS = {exporter.name: exporter for exporter in (
    Exporter("python", ".py", python, "a Python file with forward(x), which needs only math"),
    Exporter("latex", ".tex", latex, "a LaTeX document, an equation a neuron"),
    Exporter("matrix-market", ".mtx", matrix_market, "the weights as a Matrix Market file"),
    Exporter("scipy", ".npz", scipy_npz, "the weights as a CSR matrix of scipy.sparse", text=False),
    Exporter("sharpneat", ".net", sharpneat, "a net of SharpNEAT's: one function, no biases"),
    Exporter("fann", ".net", fann, "a net of libfann's: sums, biases, FANN's functions"),
    Exporter("graphml", ".graphml", graphml, "a graph with attributes, GraphML"),
    Exporter("node-link", ".json", node_link, "the same as the JSON of networkx and D3"),
    Exporter("onnx", ".onnx", onnx_file, "an ONNX model, opset 17", text=False),
    Exporter("safetensors", ".safetensors", lambda graph, lossy: safetensors_file(graph, {}),
             "the parameters by the names that they come with", False, safetensors_file),
    Exporter("neat", ".json", neat_json, "the JSON of neat-python, which computes the same bits"),
)}


def of_path(path: str) -> Exporter:
    """The format that a file's ending asks for; NccError E102."""
    ending = Path(path).suffix
    for exporter in EXPORTERS.values():
        if exporter.ending == ending:
            return exporter
    raise NccError("E102", f"{path}: no format to export to has this extension",
                   note="--to gives the format, whatever the extension",
                   help=near(ending, sorted({e.ending for e in EXPORTERS.values()})))


def named(name: str) -> Exporter:
    """The format of a name; NccError E102."""
    found = EXPORTERS.get(name)
    if found is None:
        raise NccError("E102", f"no format {name} to export to", help=near(name, EXPORTERS))
    return found
