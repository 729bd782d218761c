"""A net as Python sees it: read, ordered, ready for the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ncc.driver.compiler import write
from ncc.driver.levels import FORMATS, NETS
from ncc.errors import NccError, Source
from ncc.formats.exporters.attributes import edges, nodes
from ncc.formats.exporters.matrices import rows, valued
from ncc.formats.exporters.registry import named, of_path
from ncc.formats.read import decode
from ncc.ir.graph import Graph, Reals
from ncc.passes.graph.order import order
from ncc.passes.graph.resolve import resolve


@dataclass(frozen=True, repr=False)
class Net:
    """A verified net. Its neurons are numbered 0 .. n_neurons-1."""

    __module__ = "ncc"
    graph: Graph

    def __repr__(self) -> str:
        return (f"Net({self.n_neurons} neurons, {self.n_edges} edges, {self.n_params} parameters, "
                f"{len(self.graph.inputs)} inputs, {len(self.graph.outputs)} outputs)")

    @property
    def n_neurons(self) -> int:
        return self.graph.n_neurons

    @property
    def n_edges(self) -> int:
        return self.graph.n_edges

    @property
    def n_params(self) -> int:
        return self.graph.n_params

    @property
    def inputs(self) -> list[int]:
        """The input neurons, ascending."""
        return [int(i) for i in self.graph.inputs]

    @property
    def outputs(self) -> list[int]:
        """The output neurons, in their order."""
        return [int(i) for i in self.graph.outputs]

    def export(self, path: str | Path, to: str | None = None, *, lossy: bool = False) -> None:
        """Write the net for another tool, in the format `to`, or that of the file's ending: those
        of `ncc export`. NccError E102 for an unknown one, E401 where it cannot say the net (with
        `lossy`, what can be left out is), E607 where it holds values and one is missing."""
        exporter = of_path(str(path)) if to is None else named(to)
        write({Path(path): exporter.write(self.graph, lossy)})

    def to_formula(self, language: str = "python") -> str:
        """The net as text, "python" (a file with `forward(x)`, which needs only `math`) or
        "latex" (a document). NccError E102, E607."""
        if language not in ("python", "latex"):
            raise NccError("E102", f"no formulas in {language}", help="python or latex")
        return named(language).write(self.graph, False).decode()

    def to_networkx(self) -> Any:
        """A `networkx.DiGraph`, its attributes those of ncc/formats/exporters/attributes.py.
        NccError E637 without networkx, E401 for a net that only passes make."""
        made = _optional("networkx", "to_networkx").DiGraph()
        made.add_nodes_from(nodes(self.graph, "graphml"))
        made.add_edges_from(edges(self.graph))
        return made

    def to_scipy(self, *, lossy: bool = False) -> Any:
        """The weights as a `scipy.sparse.csr_array` (n_neurons, n_neurons), w[i, j] of the edge
        from i to j. NccError E637 without scipy, E401 for what it cannot hold (left out with
        `lossy`), E607 for a weight without a value."""
        held = valued(rows(self.graph, "npz", lossy))
        sparse = _optional("scipy.sparse", "to_scipy")
        return sparse.csr_array((held.weights, held.targets, held.starts),
                                shape=(self.n_neurons, self.n_neurons))

    @property
    def params(self) -> Reals | None:
        """The canonical parameter vector (float64), which cannot be written to; None where a slot
        has no value."""
        values = self.graph.values
        return None if np.isnan(values).any() else fixed(values)


def _optional(module: str, wanted_by: str) -> Any:
    """A library of the extra `graphs`, E637 where it is missing."""
    try:
        return import_module(module)
    except ImportError:
        name = module.partition(".")[0]
        raise NccError("E637", f"{wanted_by} needs {name}, which is not installed",
                       help=f"pip install {name}") from None


def fixed(values: Reals) -> Reals:
    """The same values where nobody can write to them: who tries is told by numpy."""
    view = values.view()
    view.flags.writeable = False
    return view


def parse(text: str, format: str = "nal", *, name: str = "<text>", activation: int | str = 0,
          outputs: str | None = None) -> Net:
    """The net that `text` says, in `format` nal, nam, nel or graph; NccError where it is wrong."""
    if format not in NETS:
        raise NccError("E102", f"no format {format}", help="one of " + ", ".join(NETS))
    source = Source(name, text)
    if format == "graph":
        if activation != 0 or outputs is not None:
            raise NccError("E609", "activation and outputs are for nets: a graph has them")
        read_back = FORMATS[format].read(source)
        return Net(read_back if read_back.levels is not None else order(read_back))
    read_net = FORMATS[format].read
    resolved = resolve(read_net(source), activation=activation, outputs=outputs)
    try:
        return Net(order(resolved))
    except NccError:  # a cycle, whose place wants the syntax: else that would cost its memory here
        return Net(order(resolved, source=source, syntax=read_net(source)))


def load(path: str | Path, format: str | None = None, **options: Any) -> Net:
    """The net in a file; the ending chooses the format. NccError where it cannot be read."""
    source = read(path)
    return parse(source.text, format or Path(path).suffix[1:], name=source.name, **options)


def read(path: str | Path) -> Source:
    """The text of a file, E101 where there is none."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise NccError("E101", f"cannot read {path}: {error.strerror or error}") from None
    return decode(str(path), data)
