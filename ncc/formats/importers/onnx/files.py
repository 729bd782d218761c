"""Files of ONNX models, and models in Python."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options, of_module
from ncc.formats.importers.onnx.evaluate import library
from ncc.formats.importers.onnx.reader import Reader
from ncc.formats.importers.tensors.net import Neurons, TensorNet
from ncc.ir import csr
from ncc.ir.csr import Ints


def from_model(model: Any, name: str, options: Options) -> Imported:
    """The net of a ModelProto, for inputs of its shapes. NccErrors as of `reader.imported`."""
    onnx = library()
    file = Foreign(name, "")
    if not model.HasField("graph"):
        raise file.fault("E801", "a model without a graph")
    if model.functions:
        try:
            model = library("onnx.inliner").inline_local_functions(model)
        except Exception as error:  # of what its functions say
            raise file.fault("E801", f"its functions cannot be inlined: {words(error)}") from None
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, or what the checker stumbles over
        raise file.fault("E801", f"this is no valid model: {words(error)}") from None
    return imported(model, name, options)


def imported(model: Any, name: str, options: Options) -> Imported:
    """The net of a model. NccErrors E801 to E819; E814 where the samples of a batch have to do with
    each other."""
    from_model = Reader(model, name, options)
    outputs = from_model.run()
    if not sum(int(np.prod(value.shape)) for _, value in outputs):
        raise from_model.fault("E814", "its outputs have no elements")
    if not all(np.isfinite(held).all() for held in from_model.net.values):
        raise from_model.fault("E813", "a parameter that is not finite")
    try:
        graph, slots, places = from_model.net.graph(outputs, dtype=from_model.dtype,
                                                    between=from_model.between())
    except NccError as error:
        if error.code != "E301":
            raise
        raise from_model.fault("E813", error.message) from None
    held = {key: (slots[key], values) for key, values in from_model.parameters.items()
            if key in slots}
    if from_model.batched:
        _stays_apart(model, name, options, outputs)
    return Imported(name, "", graph=graph, exactness="C", importer="onnx",
                    notes=tuple(from_model.notes), tensors=held,
                    places=places)


def _stays_apart(model: Any, name: str, options: Options, single: list[tuple[str, Any]]) -> None:
    """E814 where the net of a batch of two is not one of two samples, each of which sees its own
    inputs alone."""
    two = Reader(model, name, replace(options, max_edges=2 * options.max_edges), batch=2)
    help = "--batch-dim none and --dim, if the first axis is no batch"
    try:
        outputs = two.run()
    except NccError as error:
        raise two.fault("E814", f"it does not compute a batch of two: {error.message}",
                        help=help) from None
    seen = _seen(two.net, [held.ids for held in two.batched.values()])
    for (output, alone), (_, held) in zip(single, outputs, strict=True):
        apart = held.shape[:1] == (2,) and alone.shape[:1] == (1,)
        if apart and isinstance(held, Neurons):
            reached = np.where(held.ids >= 0, seen[held.ids], 0)
            apart = not (reached[0] & 2).any() and not (reached[1] & 1).any()
        if not apart:
            raise two.fault("E814", f"output {output}: the samples of a batch do not stay apart",
                            help=help)


def _seen(net: TensorNet, batches: Iterable[Ints]) -> NDArray[np.uint8]:
    """Of each neuron which samples it depends on, of arrays of inputs (2, ...): 1 the first, 2 the
    second, 3 both."""
    made = np.zeros(net.count, np.uint8)
    for ids in batches:
        made[ids[0]], made[ids[1]] = 1, 2
    for b in net.blocks:
        at = np.flatnonzero(b.lengths)
        if at.size:
            starts = csr.starts(b.lengths)[at]
            made[b.first + at] = np.bitwise_or.reduceat(made[b.sources], starts)
    return made


def words(error: Exception) -> str:
    """The first line of what a library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _recognises(file: Foreign) -> bool:
    """By the first field: ir_version, a small number, or a string that producers write first."""
    return file.name.lower().endswith(".onnx") or (
        file.data[:1] == b"\x08" and 3 <= (file.data[1:2] or b"\0")[0] <= 30
        and file.data[2:3] in (b"\x12", b"\x1a", b"\x3a", b"B"))


def _read(files: list[Foreign], options: Options) -> Imported:
    (file,) = files
    onnx = library()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(file.data)
    except Exception as error:  # DecodeError
        raise file.fault("E801", f"this is no ONNX model: {words(error)}") from None
    if not file.data:
        raise file.fault("E801", "an empty file")
    outside = _outside(model)
    if outside:
        if file.path is None:
            raise file.fault("E815", f"{outside} stands in another file, which is not known",
                             help="give the path of the model")
        try:
            library("onnx.external_data_helper").load_external_data_for_model(
                model, str(file.path.parent))
        except Exception as error:  # a missing file, a place outside of it
            raise file.fault("E815", f"{outside} stands in another file: {words(error)}") from None
    return from_model(model, file.name, options)


def _outside(model: Any) -> str:
    """The first initialiser whose data is in another file; empty where none is."""
    return next((held.name or "an initialiser" for held in model.graph.initializer
                 if held.data_location == held.EXTERNAL), "")


def _of_object(value: Any, options: Options) -> Imported:
    outside = _outside(value)
    if outside:
        raise NccError("E815", f"{outside} stands in another file, which is not known",
                       help="give the path of the model, or onnx.load(path)")
    return from_model(value, value.graph.name or "ModelProto", options)


IMPORTER = Importer(
    "onnx", "an ONNX model", (".onnx",), _recognises, _read,
    ("drop_zeros", "batch_dim", "no_fold", "trainable", "shape", "dim"),
    recognises_object=lambda value: of_module(value, "onnx") and hasattr(value, "graph")
    and hasattr(value, "opset_import"),
    from_object=_of_object)
