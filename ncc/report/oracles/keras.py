"""Keras as what a net is verified against: a saved or live model, with what each layer makes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from ncc.errors import NccError
from ncc.report.comparison import Other, Reals
from ncc.report.oracles.asked import Asked, first_line


def of_file(asked: Asked) -> Other:
    """The model of a `.keras` or an `.h5`, by Keras itself, on torch where the environment names no
    other backend. NccErrors E637 without Keras, E801 where it does not read the file."""
    keras = _keras()
    assert asked.path is not None
    try:
        model = keras.saving.load_model(asked.path, compile=False)
    except Exception as error:  # of Keras's reader, of whatever kind
        raise NccError("E801", f"{asked.path}: Keras does not read it: {first_line(error)}"
                       ) from None
    return of_model(model, asked)


def of_model(model: Any, asked: Asked) -> Other:
    """A live model, a copy of it in float64 for a net of f64; on torch, Keras's products of
    matrices are of float32 even there."""
    keras = _keras()
    if asked.dtype == "f64":
        with _float(keras, "float64"):
            model = _widened(model, keras)
    run = _Run(model, asked, keras)
    return Other(f"Keras {keras.__version__} on {keras.backend.backend()}", run.outputs,
                 run.values, run.formulas, asked.places, True)


def _keras() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        return import_module("keras")
    except ImportError as error:
        raise NccError("E637", f"Keras is not installed: {error}",
                       help="pip install keras torch") from None


def _widened(model: Any, keras: Any) -> Any:
    """The same model in float64."""
    def wide(held: Any) -> Any:
        if isinstance(held, dict):
            return {key: wide(value) for key, value in held.items()}
        if isinstance(held, list | tuple):
            return type(held)([wide(value) for value in held])
        return "float64" if held == "float32" else held

    made = keras.saving.deserialize_keras_object(wide(keras.saving.serialize_keras_object(model)))
    made.set_weights(model.get_weights())
    return made


class _Run:
    """A model at work: a row of x is the elements of all inputs, a row of y those of all outputs.
    """

    def __init__(self, model: Any, asked: Asked, keras: Any) -> None:
        self.model, self.keras, self.places = model, keras, asked.places
        order = [label.name for label in asked.graph.labels if label.first < asked.graph.n_inputs]
        names = [held.name for held in model.inputs]
        self.inputs = ([model.inputs[names.index(name)] for name in order]
                       if sorted(order) == sorted(names) else model.inputs)

    def called(self, x: Reals) -> Any:
        given: dict[int, Any] = {}
        at = 0
        for held in self.inputs:
            shape = tuple(held.shape)[1:]
            size = int(np.prod(shape))
            given[id(held)] = self.keras.ops.convert_to_tensor(
                np.ascontiguousarray(x[:, at : at + size]).reshape(len(x), *shape))
            at += size
        flat = [given[id(held)] for held in self.model.inputs]
        struct = getattr(self.model, "_inputs_struct", None)
        if struct is not None and not isinstance(struct, list | tuple):
            flat = self.keras.tree.pack_sequence_as(struct, flat)
        elif len(flat) == 1:
            (flat,) = flat
        with _float(self.keras, str(x.dtype)):
            return self.model(flat, training=False)

    def numbers(self, held: Any) -> list[Reals]:
        """The tensors of a structure, as numpy's."""
        return [np.asarray(self.keras.ops.convert_to_numpy(one))
                for one in self.keras.tree.flatten(held) if hasattr(one, "shape")]

    def outputs(self, x: Reals) -> Reals:
        return np.concatenate([held.reshape(len(x), -1) for held in self.numbers(self.called(x))],
                              axis=1)

    def values(self, x: Reals, sample: int) -> Mapping[str | int, Any]:
        found: dict[str | int, Any] = {}

        def heard(name: str, made: Any) -> None:
            several = self.numbers(made)
            for k, held in enumerate(several):
                found[f"{name}.{k}" if len(several) > 1 else name] = held

        with _watched(self.model, heard):
            self.called(x[sample : sample + 1])
        return found

    def formulas(self) -> Mapping[str | int, str]:
        """The class of the layer that makes a tensor, but for models, which only pass one on."""
        kinds: dict[str, str] = {}

        def named(model: Any, path: str) -> None:
            for layer in model.layers:
                if hasattr(layer, "layers"):
                    named(layer, f"{path}{layer.name}/")
                else:
                    kinds[path + layer.name] = f"{type(layer).__name__}, layer {path}{layer.name}"

        named(self.model, "")
        bare = {name: re.sub(r":\d+(?=/|$)", "", name) for name in self.places}
        return {name: kinds[layer] for name, layer in bare.items() if layer in kinds}


@contextmanager
def _float(keras: Any, dtype: str) -> Iterator[None]:
    """While it is entered, Keras's own constants are of this dtype."""
    was = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(was)


@contextmanager
def _watched(model: Any, heard: Callable[[str, Any], None]) -> Iterator[None]:
    """While it is entered, each call of a layer tells its name and what it makes: inner/dense, the
    k-th node of a layer that is shared inner/dense:k, as the importer counts them."""
    stack: list[str] = []
    times: dict[str, int] = {}
    changed: list[Any] = []

    def watch(layer: Any, nodes: list[int]) -> None:
        call = layer.call

        def told(*args: Any, **kwargs: Any) -> Any:
            at = "/".join((*stack, layer.name))
            nth = times[at] = times.get(at, -1) + 1
            node = nodes[nth] if nth < len(nodes) else nth
            stack.append(layer.name + (f":{node}" if node else ""))
            try:
                made = call(*args, **kwargs)
                heard("/".join(stack), made)
            finally:
                stack.pop()
            return made

        object.__setattr__(layer, "call", told)
        changed.append(layer)

    def enter(model: Any) -> None:
        order = _order(model)
        for layer in model.layers:
            if all(layer is not held for held in changed):
                watch(layer, order.get(id(layer), []))
                if hasattr(layer, "layers"):
                    enter(layer)

    try:
        enter(model)
        yield
    finally:
        for layer in changed:
            object.__delattr__(layer, "call")


def _order(model: Any) -> dict[int, list[int]]:
    """In which order a functional model runs the nodes of each of its layers, by id."""
    found: dict[int, list[int]] = {}
    depths = getattr(model, "_nodes_by_depth", {})
    mine = {id(node) for nodes in depths.values() for node in nodes}
    for depth in sorted(depths, reverse=True):
        for node in depths[depth]:
            layer = node.operation
            own = [id(held) for held in layer._inbound_nodes if id(held) in mine]
            found.setdefault(id(layer), []).append(own.index(id(node)))
    return found
