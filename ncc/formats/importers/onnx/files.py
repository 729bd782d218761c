"""Files of ONNX models, and models in Python."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options, of_module
from ncc.formats.importers.onnx.evaluate import library
from ncc.formats.importers.onnx.reader import imported

CHECKED: Final = 10**6  # edges up to which samples are run to see that they stay apart


def from_model(model: Any, name: str, options: Options) -> Imported:
    """The net of a ModelProto, for inputs of its shapes. NccErrors as of `reader.imported`; E814
    where the samples of a batch have to do with each other."""
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
    made, batched = imported(model, name, options)
    if batched and made.graph.n_edges <= CHECKED:
        _stays_apart(model, options, file)
    return made


def words(error: Exception) -> str:
    """The first line of what a library says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _stays_apart(model: Any, options: Options, file: Foreign) -> None:
    """E814 where two samples at once do not give what each gives alone, or no batch of two."""
    rng = np.random.default_rng(0)
    helper = library("onnx.helper")
    known = {held.name for held in model.graph.initializer}
    two: dict[str, Any] = {}
    single: list[dict[str, Any]] = [{}, {}]
    for held in model.graph.input:
        if held.name in known:
            continue
        tensor = held.type.tensor_type
        if held.name in options.shapes:
            return  # of sizes that the user says
        sizes = [dim.dim_value if dim.WhichOneof("value") == "dim_value"
                 else options.dims.get(dim.dim_param) for dim in tensor.shape.dim]
        batch = bool(sizes) and sizes[0] is None
        x = rng.standard_normal([2 if size is None else size for size in sizes]).astype(
            helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        two[held.name] = x
        for k, one in enumerate(single):
            one[held.name] = x[k : k + 1] if batch else x
    try:
        run = library("onnx.reference").ReferenceEvaluator(model)
        with np.errstate(all="ignore"):
            alone = [run.run(None, one) for one in single]
    except Exception:  # what the evaluator has no code for
        return
    try:
        with np.errstate(all="ignore"):
            together = run.run(None, two)
    except Exception as error:
        raise file.fault("E814", f"it does not compute a batch of two: {words(error)}",
                         help="--batch-dim none and --dim, if the first axis is no batch"
                         ) from None
    for name, both, first, second in zip(model.graph.output, together, *alone, strict=True):
        if both.shape[:1] != (2,) or not np.allclose(both, np.concatenate([first, second]),
                                                     rtol=1e-3, atol=1e-5, equal_nan=True):
            raise file.fault("E814", f"output {name.name}: the samples of a batch do not stay "
                             "apart: two at once give another result than one at a time",
                             help="--batch-dim none and --dim, if the first axis is no batch")


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
