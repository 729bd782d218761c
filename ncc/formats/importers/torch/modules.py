"""Live modules of torch, and files of exported programs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ncc.errors import NccError, optional
from ncc.formats.importers.foreign import Foreign, Imported, Importer, Options, of_module
from ncc.formats.importers.torch import program


def from_module(module: Any, example: Any, options: Options, name: str = "") -> Imported:
    """The net of a module, as it computes when it is only evaluated, for inputs of the example's
    shapes: a tensor of batch 1, or a tuple of such. NccErrors as of `program.imported`; E814 where
    the samples of a batch have to do with each other."""
    torch = optional("torch", "torch")
    if example is None:
        raise NccError("E815", "a module says nothing of the shape of its input",
                       help="ncc.from_torch(module, torch.zeros(1, 8)): an example of batch 1")
    given = example if isinstance(example, tuple) else (example,)
    for held in given:
        if isinstance(held, torch.Tensor) and not held.dtype.is_floating_point:
            raise NccError("E817", f"the example is of {held.dtype}, not of reals",
                           help=program.ONE_HOT)
    was = module.training
    module.eval()
    try:
        exported = traced(module, given, torch)
        if options.batch_dim != "none":
            _stays_apart(module, given, torch)
    finally:
        module.train(was)
    return program.imported(exported, name or type(module).__name__, options)


def traced(module: Any, given: tuple[Any, ...], torch: Any) -> Any:
    """The exported program of a module for such inputs. NccError E810 where there is none."""
    try:
        return torch.export.export(module, given, strict=False)
    except Exception as error:  # whatever the module's own code raises while it is traced
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NccError("E810", f"torch.export cannot trace the module: {words}") from None


def _stays_apart(module: Any, given: tuple[Any, ...], torch: Any) -> None:
    """E814 where two samples at once do not give what each gives alone."""
    generator = torch.Generator().manual_seed(0)
    two = [torch.randn((2, *held.shape[1:]), generator=generator, dtype=held.dtype)
           if hasattr(held, "shape") and held.ndim and held.dtype.is_floating_point else held
           for held in given]
    single = [[held[k : k + 1] if hasattr(held, "shape") and held.ndim else held for held in two]
              for k in range(2)]
    try:
        with torch.no_grad():
            together = _first(module(*two), torch)
            alone = [_first(module(*one), torch) for one in single]
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return  # a module of batch 1 alone
    same = together.shape == (2, *alone[0].shape[1:]) and np.allclose(
        together, np.concatenate(alone), rtol=1e-3, atol=1e-5, equal_nan=True)
    if not same:
        raise NccError("E814", "the samples of a batch do not stay apart: two at once give another "
                       "result than one at a time",
                       help="batch_dim none, if the first axis of the example is no batch")


def _first(held: Any, torch: Any) -> Any:
    while not isinstance(held, torch.Tensor):
        held = next(iter(held.values() if isinstance(held, dict) else held))
    return held.detach().numpy()


def _recognises(file: Foreign) -> bool:
    return file.data[:4] == b"PK\x03\x04" and b"models/model.json" in file.data


def _read(files: list[Foreign], options: Options) -> Imported:
    (file,) = files
    torch = optional("torch", "torch")
    try:
        exported = torch.export.load(io.BytesIO(file.data))
    except Exception as error:  # of torch's reader, of whatever kind
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise file.fault("E801", f"torch.export.load does not read it: {words}") from None
    return program.imported(exported, file.name, options)


def is_module(value: Any) -> bool:
    return of_module(value, "torch") and hasattr(value, "state_dict") and hasattr(value, "eval")


def is_program(value: Any) -> bool:
    return type(value).__name__ == "ExportedProgram"


def _of_object(value: Any, options: Options) -> Imported:
    if is_program(value):
        return program.imported(value, "ExportedProgram", options)
    return from_module(value, options.example, options)


IMPORTER = Importer(
    "torch", "a program that torch exported", (".pt2",), _recognises, _read,
    ("drop_zeros", "batch_dim", "no_fold", "trainable", "example"),
    recognises_object=lambda value: is_program(value) or is_module(value),
    from_object=_of_object)
