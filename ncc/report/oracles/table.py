"""The table of the tools that nets are verified against.

Each reads the original file by the original tool, so that a fault of an importer cannot hide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from ncc.errors import NccError
from ncc.formats.importers.foreign import of_module
from ncc.report.comparison import Other, Reals
from ncc.report.oracles import evolved, keras, onnxruntime, torch
from ncc.report.oracles.asked import Asked


class Tool(NamedTuple):
    """A tool: what it computes, whose importers' files it reads, and whether it computes any net,
    by what that is exported as."""

    read: Callable[[Asked], Other]
    importers: tuple[str, ...]
    exports: bool = False


# By what --against calls them.
TOOLS: Final[dict[str, Tool]] = {
    "neat-python": Tool(evolved.neat_python, ("neat", "neat-genome")),
    "sklearn": Tool(evolved.sklearn, ("sklearn",)),
    "fann": Tool(evolved.fann, ("fann",)),
    "torch": Tool(torch.of_file, ("torch",)),
    "keras": Tool(keras.of_file, ("keras",)),
    "onnxruntime": Tool(onnxruntime.onnxruntime, ("onnx",), True)}


def answers(tool: str, asked: Asked) -> Other:
    """What a tool of TOOLS computes. NccErrors of the tool's function, and E321 where the tool
    itself fails, as neat-python does where a float overflows."""
    def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any) -> Any:
            try:
                return call(*args)
            except NccError:
                raise
            except Exception as error:  # any: it is the tool's code that raises
                raise NccError("E321", f"{asked.path}: {tool} itself fails: "
                               f"{type(error).__name__}: {error}") from None

        return made

    other: Other = guarded(TOOLS[tool].read)(asked)
    outputs: Callable[[Reals], Reals] = guarded(other.outputs)
    values: Callable[[Reals, int], Mapping[str | int, float]] | None = (
        None if other.values is None else guarded(other.values))
    return other._replace(outputs=outputs, values=values)


def of_object(value: Any, asked: Asked) -> Other | None:
    """A live network, module, model or estimator, or any function of x (n, inputs); None for
    another object."""
    if of_module(value, "keras") and hasattr(value, "layers"):  # on torch, modules of torch's, too
        return keras.of_model(value, asked)
    if torch.is_program(value) or torch.is_module(value):
        return torch.of_object(value, asked)
    if of_module(value, "onnx") and hasattr(value, "opset_import"):
        return onnxruntime.of_model(value, asked)
    if hasattr(value, "activate"):
        return evolved.neat_network(value)
    if hasattr(value, "predict"):
        return evolved.sklearn_estimator(value)
    if callable(value):
        return Other(getattr(value, "__name__", type(value).__name__), value)
    return None
