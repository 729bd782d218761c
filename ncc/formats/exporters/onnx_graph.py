"""Nodes and constants of an ONNX graph under way, and the operators that activations are."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import optional

IR_VERSION: Final = 9  # which older runtimes read, too
DTYPES: Final = {"f32": np.float32, "f64": np.float64}


class Operator(NamedTuple):
    """One operator: its attributes, its further arguments, the first opset that has it, and whether
    it is of 32 bits alone: numbers in it are rounded so, or onnxruntime has no other."""

    kind: str
    attributes: dict[str, Any] = {}
    more: tuple[float, ...] = ()
    opset: int = 13
    single: bool = False


OPERATORS: Final[dict[str, Operator]] = {
    "sigmoid": Operator("Sigmoid"),
    "tanh": Operator("Tanh"),
    "relu": Operator("Relu"),
    "gelu": Operator("Gelu", opset=20),
    "leaky_relu": Operator("LeakyRelu", {"alpha": 0.01}, single=True),
    "elu": Operator("Elu", single=True),
    "selu": Operator("Selu", single=True),
    "softplus": Operator("Softplus", single=True),
    "softsign": Operator("Softsign", single=True),
    "hard_sigmoid": Operator("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, single=True),
    "exp": Operator("Exp"),
    "log": Operator("Log"),
    "abs": Operator("Abs"),
    "sqrt": Operator("Sqrt"),
    "recip": Operator("Reciprocal"),
    "square": Operator("Pow", {}, (2.0,)),
    "cube": Operator("Pow", {}, (3.0,)),
    "sin": Operator("Sin"),
    "cos": Operator("Cos"),
    "gelu_tanh": Operator("Gelu", {"approximate": "tanh"}, opset=20),
    "mish": Operator("Mish", opset=18),
    "hard_swish": Operator("HardSwish", opset=14, single=True),
    "relu6": Operator("Clip", {}, (0.0, 6.0)),
    "clip": Operator("Clip", {}, (-1.0, 1.0)),
    "atan": Operator("Atan"),
    "erf": Operator("Erf"),
}


def library(name: str) -> Any:
    """A module of onnx; NccError E637 where it is missing."""
    return optional(name, "onnx")


class OnnxGraph:
    """A value is its name. `dtype` is f32 or f64; `dtype_number` what ONNX calls it."""

    def __init__(self, dtype: str, opset: int) -> None:
        self.helper = library("onnx.helper")
        self.from_array = library("onnx.numpy_helper").from_array
        self.dtype = np.dtype(DTYPES[dtype])
        self.dtype_number = self.helper.np_dtype_to_tensor_dtype(self.dtype)
        self.opset = opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: NDArray[Any], name: str = "") -> str:
        """An initialiser."""
        name = name or f"c{len(self.constants)}"
        self.constants.append(self.from_array(array, name))
        return name

    def real(self, value: float) -> str:
        """A number, in a node of its own, which no importer takes for a parameter."""
        return self.fixed(np.array(value, self.dtype))

    def fixed(self, array: NDArray[Any]) -> str:
        return self.node("Constant", value=self.from_array(array, ""))

    def node(self, op: str, *reads: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(op, list(reads), [name], **attributes))
        return name

    def act(self, name: str, h: str, exact: bool = False) -> str | None:
        """An activation of ncc's by its operator; None where this opset has none, or none whose
        attributes, which are of 32 bits, are `exact` in float64."""
        if name == "identity":
            return h
        if name in ("silu", "swish"):
            return self.node("Mul", h, self.node("Sigmoid", h))
        found = OPERATORS.get(name)
        if found is None or found.opset > self.opset:
            return None
        if exact and found.single and self.dtype == np.float64:
            return None
        return self.node(found.kind, h, *[self.real(value) for value in found.more],
                         **found.attributes)

    def model(self, inputs: dict[str, int], outputs: dict[str, int]) -> Any:
        """The ModelProto of float inputs and outputs (batch, width)."""
        def infos(held: dict[str, int]) -> list[Any]:
            return [self.helper.make_tensor_value_info(name, self.dtype_number, ["batch", width])
                    for name, width in held.items()]

        graph = self.helper.make_graph(self.nodes, "net", infos(inputs), infos(outputs),
                                       self.constants)
        model = self.helper.make_model(
            graph, opset_imports=[self.helper.make_opsetid("", self.opset)], producer_name="ncc")
        model.ir_version = IR_VERSION
        return model
