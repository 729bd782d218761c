"""ONNX's own evaluator and its own definitions, one node at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncc.errors import optional


class Uncomputed(Exception):
    """A node that ONNX's evaluator does not compute; the message says why."""


class Node(NamedTuple):
    """A node of a model.

    name     its own, or that of its first output
    opset    the version of the operators that it is of
    attrs    its attributes as Python has them: numbers, strings, lists, tensors, graphs
    proto    the NodeProto, with no reference to attributes of a function
    """

    name: str
    kind: str
    domain: str
    opset: int
    attrs: Mapping[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    proto: Any


def library(name: str = "onnx") -> Any:
    """A module of onnx; NccError E637 where it is missing."""
    return optional(name, "onnx")


def node_of(proto: Any, opset: int, given: Mapping[str, Any] | None = None) -> Node:
    """A NodeProto as a Node. `given` are the attributes (AttributeProto) of the function whose body
    it stands in."""
    onnx = library()
    made = proto
    if any(a.ref_attr_name for a in proto.attribute):
        made = onnx.NodeProto()
        made.CopyFrom(proto)
        kept = []
        for a in made.attribute:
            if not a.ref_attr_name:
                kept.append(a)
            elif given is not None and a.ref_attr_name in given:
                other = onnx.AttributeProto()
                other.CopyFrom(given[a.ref_attr_name])
                other.name = a.name
                kept.append(other)
        del made.attribute[:]
        made.attribute.extend(kept)
    attrs = {a.name: value(a) for a in made.attribute}
    outputs = tuple(made.output)
    domain = "" if made.domain == "ai.onnx" else made.domain
    return Node(made.name or next((o for o in outputs if o), made.op_type), made.op_type, domain,
                opset, attrs, tuple(made.input), outputs, made)


def value(attribute: Any) -> Any:
    found = library("onnx.helper").get_attribute_value(attribute)
    if isinstance(found, bytes):
        return found.decode("utf-8", "replace")
    if isinstance(found, list | tuple) and found and isinstance(found[0], bytes):
        return [each.decode("utf-8", "replace") for each in found]
    return found


def evaluated(node: Node, feeds: Sequence[Any]) -> list[Any]:
    """The outputs of a node by onnx.reference, of arrays (None for an input that is not there).
    Uncomputed where it fails, whatever the reason."""
    helper = library("onnx.helper")
    evaluator = library("onnx.reference").ReferenceEvaluator
    names = [f"i{k}" if held is not None else "" for k, held in enumerate(feeds)]
    proto = library().NodeProto()
    proto.CopyFrom(node.proto)
    del proto.input[:], proto.output[:]
    while names and not names[-1]:
        names.pop()
    proto.input.extend(names)
    outputs = [f"o{k}" if name else "" for k, name in enumerate(node.outputs)]
    proto.output.extend(outputs)
    unknown = helper.make_tensor_value_info
    graph = helper.make_graph([proto], "one", [unknown(n, 0, None) for n in names if n],
                              [unknown(n, 0, None) for n in outputs if n])
    try:
        with np.errstate(all="ignore"):
            run = evaluator(graph, opsets={node.domain: node.opset})
            found = iter(run.run(None, {f"i{k}": held for k, held in enumerate(feeds)
                                        if held is not None}))
        return [next(found) if name else None for name in outputs]
    except Exception as error:  # of the evaluator's code for an operator, of whatever kind
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Uncomputed(f"onnx's evaluator does not compute it: {words[:200]}") from None


class Body(NamedTuple):
    """What an operator is made of: a function of other operators."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: Sequence[Any]
    opset: int
    attributes: Mapping[str, Any]


def body(node: Node, shapes: Sequence[tuple[int, Any] | None]) -> Body | None:
    """The function that ONNX defines an operator to be; None where there is none.

    shapes   element type and shape of each input
    """
    onnx = library()
    helper = library("onnx.helper")
    try:
        schema = onnx.defs.get_schema(node.kind, node.opset, node.domain)
    except Exception:  # SchemaError, which older versions do not have
        return None
    attributes = {name: a.default_value for name, a in schema.attributes.items()
                  if a.default_value.name}
    attributes |= {a.name: a for a in node.proto.attribute}
    function = onnx.FunctionProto()
    wholes = [v for v in schema.function_opset_versions if v <= node.opset]
    parts = [v for v in schema.context_dependent_function_opset_versions if v <= node.opset]
    if wholes:
        function.ParseFromString(schema.get_function_with_opset_version(max(wholes)))
    elif parts:
        types = [helper.make_tensor_type_proto(*(held or (1, None))).SerializeToString()
                 for held in shapes]
        try:
            function.ParseFromString(schema.get_context_dependent_function_with_opset_version(
                max(parts), node.proto.SerializeToString(), types))
        except Exception:  # a context that it has no function for
            return None
    if not function.node:
        return None
    opset = next((o.version for o in function.opset_import if o.domain in ("", "ai.onnx")),
                 node.opset)
    return Body(tuple(function.input), tuple(function.output), function.node, opset, attributes)
