"""onnxruntime as what a net is verified against: on the model that it comes from, with all of its
intermediate tensors; on what another net is exported as."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ncc.errors import NccError
from ncc.formats.exporters.onnx_model import onnx_model
from ncc.ir.graph import refuse_states
from ncc.report.comparison import Other, Reals
from ncc.report.oracles.asked import Asked, first_line


def onnxruntime(asked: Asked) -> Other:
    """onnxruntime's own answers: of the model in a file, whose net it is; without a path, of what
    the net is exported as. NccErrors E637 without the library, E810 where it does not run the
    model, E160 of a net with states, and those of the export."""
    onnx, runtime = _libraries()
    graph = asked.graph
    refuse_states(graph, "a comparison with onnxruntime")
    if asked.path is not None:
        return of_model(onnx.load(asked.path), asked, str(Path(asked.path).parent))
    model = onnx_model(graph.with_(dtype=asked.dtype))
    return Other(f"onnxruntime {runtime.__version__}, of the net's export",
                 _Session(model, [("x", (1, graph.n_inputs))], runtime, "").outputs)


def of_model(model: Any, asked: Asked, base: str = "") -> Other:
    """Its answers of a model, whose external data are in the folder `base`. NccErrors E637, E810.
    """
    onnx, runtime = _libraries()
    graph = asked.graph
    known = {held.name for held in model.graph.initializer}
    shapes = {label.name: label.shape for label in graph.labels}
    wanted = shapes.keys() | asked.places.keys()
    inputs = [(held.name, shapes.get(held.name, ())) for held in model.graph.input
              if held.name not in known]
    session = _Session(model, inputs, runtime, base)

    def values(x: Reals, sample: int) -> Mapping[str | int, Any]:
        every = _with_all(model, onnx, wanted)
        try:
            return _Session(every, inputs, runtime, base).named(x[sample])
        except NccError:  # a tensor whose type it cannot tell
            return {}

    def formulas() -> Mapping[str | int, str]:
        return {name: f"{node.op_type}, node {node.name or name}" for node in model.graph.node
                for name in node.output if name in wanted}

    return Other(f"onnxruntime {runtime.__version__}", session.outputs, values, formulas,
                 asked.places)


def _libraries() -> tuple[Any, Any]:
    try:
        return import_module("onnx"), import_module("onnxruntime")
    except ImportError as error:
        raise NccError("E637", f"onnxruntime is not installed: {error}",
                       help="pip install onnxruntime 'ncc-compiler[onnx]'") from None


def _with_all(model: Any, onnx: Any, wanted: Collection[str]) -> Any:
    """The model with further outputs: these tensors."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    there = {held.name for held in made.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name in wanted and name not in there:
                made.graph.output.append(onnx.ValueInfoProto(name=name))
                there.add(name)
    return made


class _Session:
    """A model at work: a row of x is the elements of all inputs, a row of y those of all outputs.
    """

    def __init__(self, model: Any, inputs: list[tuple[str, tuple[int, ...]]], runtime: Any,
                 base: str) -> None:
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        settings.log_severity_level = 4
        if base:
            settings.add_session_config_entry("session.model_external_initializers_file_folder_path",
                                              base)
        self.inputs = inputs
        try:
            self.session = runtime.InferenceSession(model.SerializeToString(), settings,
                                                    providers=["CPUExecutionProvider"])
        except Exception as error:  # its own classes, which its stubs do not name
            raise NccError("E810", "onnxruntime does not run the model: "
                           f"{first_line(error)}") from None
        self.names = [held.name for held in self.session.get_outputs()]
        kinds = {"tensor(double)": np.float64, "tensor(float16)": np.float16}
        self.dtypes: dict[str, Any] = {held.name: kinds.get(held.type, np.float32)
                                       for held in self.session.get_inputs()}

    def named(self, row: Reals) -> Mapping[str | int, Any]:
        """All outputs of one row, by name."""
        feeds, at = {}, 0
        for name, shape in self.inputs:
            size = prod(shape)
            feeds[name] = row[at : at + size].reshape(shape).astype(self.dtypes[name])
            at += size
        try:
            return dict(zip(self.names, self.session.run(None, feeds), strict=True))
        except Exception as error:
            raise NccError("E810", "onnxruntime does not run the model: "
                           f"{first_line(error)}") from None

    def outputs(self, x: Reals) -> Reals:
        return np.array([np.concatenate([np.ravel(held) for held in self.named(row).values()])
                         for row in x])

