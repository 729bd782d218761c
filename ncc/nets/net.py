"""A net as Python sees it: read, ordered, ready for the pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncc.driver.levels import FORMATS, NETS
from ncc.errors import NccError, Source
from ncc.formats.read import decode
from ncc.ir.graph import Graph, Reals
from ncc.passes.graph.order import order
from ncc.passes.graph.resolve import resolve
from ncc.passes.graph.unroll import unroll as unrolled


@dataclass(frozen=True, repr=False)
class Net:
    """A verified net. Its neurons are numbered 0 .. n_neurons-1; `states` are those whose value of
    the last call some neuron reads, ascending."""

    __module__ = "ncc"
    graph: Graph

    def __repr__(self) -> str:
        return (f"Net({self.n_neurons} neurons, {self.n_edges} edges, {self.n_params} parameters, "
                f"{self.graph.n_inputs} inputs, {len(self.graph.outputs)} outputs"
                + (f", {len(self.graph.states)} states" if len(self.graph.states) else "") + ")")

    @property
    def n_neurons(self) -> int:
        return self.graph.n_own

    @property
    def n_edges(self) -> int:
        return self.graph.n_edges

    @property
    def n_params(self) -> int:
        return self.graph.n_params

    @property
    def inputs(self) -> list[int]:
        """The input neurons, ascending."""
        return [int(i) for i in self.graph.inputs[: self.graph.n_inputs]]

    @property
    def outputs(self) -> list[int]:
        """The output neurons, in their order."""
        return [int(i) for i in self.graph.outputs]

    @property
    def states(self) -> list[int]:
        """The neurons whose value of the last call is read, ascending: the order of the state."""
        return [int(i) for i in self.graph.states]

    @property
    def params(self) -> Reals | None:
        """The canonical parameter vector (float64), which cannot be written to; None where a slot
        has no value."""
        values = self.graph.values
        return None if np.isnan(values).any() else fixed(values)


def unroll(net: Net, steps: int) -> Net:
    """`steps` steps of a net with states, from the reset on, as one net without: x are the inputs
    of the first step, then those of the second, ..., y likewise; the parameters are the same
    vector. So it has gradients: those through time. NccError E161 where `steps` is no number from 1
    on, the net has no states, or it would be too large."""
    if steps < 1:
        raise NccError("E161", f"{steps} steps", help="ncc.unroll(net, 10)")
    return Net(unrolled(net.graph, steps=steps))


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
