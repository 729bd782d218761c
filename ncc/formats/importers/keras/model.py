"""Models of Keras by their configuration: layers, and what each reads from which."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign, Json, Options
from ncc.formats.importers.keras.layer import Layer
from ncc.formats.importers.keras.tables import LAYERS, MODELS, REFUSED
from ncc.formats.importers.tensors.net import Neurons, Tensor, TensorNet, Weights
from ncc.ir.graph import Graph

DEEPEST: Final = 40  # models within each other
LARGEST: Final = 2**25  # elements of a tensor


class _Source(Protocol):
    def read(self, place: Any, names: Sequence[str]) -> list[NDArray[np.float64]]: ...


class Ref(NamedTuple):
    """A tensor: output `output` of call `node` of a layer."""

    layer: str
    node: int
    output: int


class Reader:
    """Builds the net of a model; `source` has the weights."""

    def __init__(self, file: Foreign, source: _Source, place: Any, keras: int,
                 options: Options) -> None:
        self.file, self.source, self.keras, self.options = file, source, keras, options
        self.place = place
        self.net = TensorNet(options.max_edges)
        self.parameters: dict[str, Weights] = {}
        self.computed: dict[str, Weights] = {}  # those that are no arrays of the file
        self.notes: list[str] = []
        self.dtype = ""
        self.path: list[str] = []  # the layers that are being called, one within another
        self.between: dict[str, Tensor] = {}  # what calls of layers made, by path

    def run(self, config: Json) -> tuple[Graph, dict[str, tuple[Any, Any]], dict[str, Any]]:
        """The graph, the parameters by name, and the places of what layers make."""
        kind = config["class_name"].text()
        if kind not in MODELS:
            raise config.fault("E810", f"a model of the class {kind[:60]!r}, which is code and no "
                               "structure", help="a Sequential or a Functional model")
        inputs: list[Tensor] = [self.net.input(name, self._shape(name, shape, place))
                                for name, shape, place in self._inputs(config)]
        model = Layer(self, "", kind, config["config"], self.place)
        made = self.model(model, inputs, 0)
        named = [("y" if len(made) == 1 else f"y{k}", self.sized(model, tensor))
                 for k, tensor in enumerate(made)]
        graph, slots, places = self.net.graph(named, dtype=self.dtype or "f32",
                                              between=self.between.items())
        return graph, {name: (slots[name], held.values) for name, held in self.parameters.items()
                       if name in slots}, places

    def parameter(self, name: str, values: NDArray[np.float64], of_file: bool = True) -> Weights:
        """A parameter by its name, once for all calls of its layer."""
        if self.options.trainable == "none":
            return Weights(values)
        held = self.parameters if of_file else self.computed
        if name not in held:
            held[name] = self.net.parameter(name, values)
        return held[name]

    # -- inputs

    def _inputs(self, config: Json) -> Iterator[tuple[str, Json, Json]]:
        """The name and the shape, with the batch, of each input of the outermost model."""
        held = config["config"]
        layers = {self._name(layer): layer for layer in held["layers"]}
        if config["class_name"].value != "Sequential":
            for name in [ref.layer for ref in self.refs(held["input_layers"])]:
                if name not in layers:
                    raise held.fault("E801", f"an input is {name[:60]!r}, which is no layer")
                yield name, self._batch_shape(layers[name]), layers[name]
            return
        if not layers:
            raise held.fault("E801", "a model without layers")
        first = next(iter(layers.values()))
        while first["class_name"].value in MODELS and not first["config"].has("build_input_shape"):
            inner = list(first["config"]["layers"])
            if not inner:
                raise held.fault("E801", "a model without layers")
            first = inner[0]
        shape: Json | None = None
        for where, key in ((first["config"], "batch_shape"), (first["config"], "batch_input_shape"),
                           (first["config"], "build_input_shape"), (held, "build_input_shape"),
                           (config, "build_config"), (first, "build_config")):
            if where.has(key) and where.value[key] is not None:
                shape = where[key]
                break
        if shape is not None and shape.has("input_shape"):
            shape = shape["input_shape"]
        if shape is None:
            raise held.fault("E815", "the model was never built: it does not say the shape of its "
                             "input", help="keras.Input(shape) as its first layer")
        yield self._name(first), shape, first

    def _batch_shape(self, layer: Json) -> Json:
        held = layer["config"]
        return held["batch_input_shape" if held.has("batch_input_shape") else "batch_shape"]

    def _name(self, layer: Json) -> str:
        return layer["config"]["name"].text()

    def _shape(self, name: str, shape: Json, layer: Json) -> tuple[int, ...]:
        """The shape of one sample."""
        if not name or not name.isprintable():
            raise layer.fault("E801", f"{name[:40]!r} is no name of an input")
        sizes = [each.value for each in shape]
        if not sizes or sizes[0] not in (None, 1):
            raise shape.fault("E814", f"input {name!r} has the shape {sizes}, whose first axis is "
                              "the batch")
        for size in sizes[1:]:
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise shape.fault("E814", f"input {name!r} has the shape {sizes}",
                                  help="build the model with a fixed shape: keras.Input((12, 3))")
        if prod(sizes[1:]) > LARGEST:
            raise shape.fault("E819", f"input {name!r} has {prod(sizes[1:])} elements, and "
                              f"{LARGEST} are the most")
        self._kept(Layer(self, name, "InputLayer", layer["config"], self.place))
        return tuple(sizes[1:])

    # -- models

    def refs(self, held: Json) -> list[Ref]:
        """The tensors that a structure of ["layer", node, index] names, in order."""
        value = held.value
        if isinstance(value, list):
            if len(value) in (3, 4) and isinstance(value[0], str):
                return [Ref(value[0], *(each.integer() for each in list(held)[1:3]))]
            return [ref for each in held for ref in self.refs(each)]
        if isinstance(value, dict):
            return [ref for key in value for ref in self.refs(held[key])]
        raise held.fault("E801", "a tensor is wanted here, as [\"layer\", 0, 0]")

    def layer(self, held: Json, place: Any, within: str = "") -> Layer:
        """A layer by its configuration; E810 for one that is the user's own."""
        kind = held["class_name"].text()
        config = held["config"]
        name = config["name"].text() if config.has("name") else within
        made = Layer(self, name, kind, config, place)
        if kind in REFUSED:
            raise made.fault("E810", REFUSED[kind])
        if kind not in LAYERS and kind not in MODELS and kind != "InputLayer":
            raise made.fault("E810", "a layer that has no meaning as neurons, or is not known")
        module = held.value.get("module")
        if isinstance(module, str) and "ops" in module.split("."):
            raise made.fault("E810", f"it is an operation of keras.ops, {kind}",
                             help="the layer of the same name, where there is one")
        registered = held.value.get("registered_name")
        if isinstance(registered, str) and ">" in registered:
            raise made.fault("E810", f"it is the user's own, {registered[:60]!r}")
        self._kept(made)
        return made

    def _kept(self, layer: Layer) -> None:
        """E813 for a dtype that is not kept; the net's is that of the layers."""
        held = layer.config.value.get("dtype") if isinstance(layer.config.value, dict) else None
        if isinstance(held, dict):
            inner = held.get("config")
            held = inner.get("name") if isinstance(inner, dict) else None
        if held is None:
            return
        if held not in ("float32", "float64"):
            code = "E817" if layer.kind == "InputLayer" else "E813"
            raise layer.fault(code, f"its dtype is {str(held)[:40]}, not float32 or float64")
        self.dtype = "f64" if "f64" in (self.dtype, {"float64": "f64"}.get(held)) else "f32"

    def model(self, model: Layer, inputs: list[Tensor], depth: int) -> list[Tensor]:
        """The outputs of a model for these inputs."""
        if depth > DEEPEST:
            raise model.fault("E819", f"more than {DEEPEST} models within each other")
        layers = self._placed(model)
        if model.kind == "Sequential":
            now = inputs
            for layer in layers:
                if layer.kind != "InputLayer":
                    now = self.applied(layer, now, {}, depth)
            return now
        return self._functional(model, {layer.name: layer for layer in layers}, inputs, depth)

    def _placed(self, model: Layer) -> list[Layer]:
        """The layers of a model, with the places of their weights: groups are called by the class
        and a counter, in an `.h5` by the layer's name."""
        counts: dict[str, int] = {}
        made = []
        seen: set[str] = set()
        for each in model.config["layers"]:
            layer = self.layer(each, model.place)
            if layer.name in seen:
                raise layer.fault("E801", "a second layer of this name")
            seen.add(layer.name)
            word = snake(layer.kind)
            count = counts[word] = counts.get(word, -1) + 1
            group = f"layers/{word}_{count}" if count else f"layers/{word}"
            made.append(Layer(self, layer.name, layer.kind, layer.config,
                              model.place.inside(group, layer.name)))
        return made

    def _functional(self, model: Layer, layers: dict[str, Layer], inputs: list[Tensor], depth: int
                    ) -> list[Tensor]:
        """Calls in an order in which each has what it reads."""
        values: dict[tuple[str, int], list[Tensor]] = {}
        entered = self.refs(model.config["input_layers"])
        if len(entered) != len(inputs):
            raise model.fault("E814", f"{len(inputs)} tensors for {len(entered)} inputs")
        for ref, tensor in zip(entered, inputs, strict=True):
            values[ref.layer, ref.node] = [tensor]
        calls, readers, missing = self._calls(model, layers, values)
        ready = [key for key, count in missing.items() if not count]
        for key in list(values):
            for reader in readers.pop(key, ()):
                missing[reader] -= 1
                if not missing[reader]:
                    ready.append(reader)
        while ready:
            key = ready.pop()
            given, kwargs = _mapped(calls[key], lambda ref: self._value(model, ref, values))
            values[key] = self.applied(layers[key[0]], given, kwargs, depth, key[1])
            for reader in readers.pop(key, ()):
                missing[reader] -= 1
                if not missing[reader]:
                    ready.append(reader)
        return [self._value(model, self._counted(ref, layers, True), values)
                for ref in self.refs(model.config["output_layers"])]

    def _counted(self, ref: Ref, layers: dict[str, Layer], output: bool) -> Ref:
        """The same, calls counted from 0: those of a model are counted from 1, by Keras 2 always,
        by Keras 3 among the outputs, and there not those of a Sequential."""
        kind = layers[ref.layer].kind if ref.layer in layers else ""
        if kind not in MODELS or self.keras == 3 and (not output or kind == "Sequential"):
            return ref
        return ref._replace(node=max(ref.node - 1, 0))

    def _calls(self, model: Layer, layers: dict[str, Layer], values: Any) -> tuple[Any, Any, Any]:
        """Each call of a layer: its arguments; which calls read it; how many it still waits for."""
        calls: dict[tuple[str, int], tuple[Any, Any]] = {}
        readers: dict[tuple[str, int], list[tuple[str, int]]] = {}
        missing: dict[tuple[str, int], int] = {}
        for held, layer in zip(model.config["layers"], layers.values(), strict=True):
            if layer.kind == "InputLayer" or not held.has("inbound_nodes"):
                continue
            for node, call in enumerate(held["inbound_nodes"]):
                key = (layer.name, node)
                if key in values:
                    continue
                calls[key] = _mapped(self.arguments(call),
                                     lambda ref: self._counted(ref, layers, False))
                reads = {(ref.layer, ref.node) for ref in _refs(calls[key])}
                missing[key] = len(reads)
                for read in reads:
                    readers.setdefault(read, []).append(key)
        return calls, readers, missing

    def arguments(self, call: Json) -> tuple[list[Any], dict[str, Any]]:
        """Of a call as Keras 3 writes it, {"args": ..., "kwargs": ...}, or as Keras 2 does, a list
        of ["layer", node, index, kwargs]: tensors are Refs."""
        if isinstance(call.value, dict):
            kwargs = call["kwargs"]
            if not isinstance(kwargs.value, dict):
                raise kwargs.fault("E801", "an object is wanted here")
            return ([self._argument(each) for each in call["args"]],
                    {key: self._argument(kwargs[key]) for key in kwargs.value})
        entries = [call] if call.value and isinstance(call.value, list) and isinstance(
            call.value[0], str) else list(call)
        found: list[Any] = []
        more: dict[str, Any] = {}
        for entry in entries:
            found += self.refs(entry)
            if isinstance(entry.value, list) and len(entry.value) == 4 and isinstance(
                    entry.value[3], dict):
                last = list(entry)[3]
                more |= {key: self._argument(last[key]) for key in last.value}
        return ([found] if len(found) > 1 else found), more

    def _argument(self, held: Json) -> Any:
        if isinstance(held.value, list):
            if len(held.value) == 3 and isinstance(held.value[0], str) and isinstance(
                    held.value[1], int):
                return self.refs(held)[0]
            return [self._argument(each) for each in held]
        if held.has("class_name") and held["class_name"].value == "__keras_tensor__":
            return self.refs(held["config"]["keras_history"])[0]
        return held.value

    def _value(self, model: Layer, ref: Ref, values: dict[tuple[str, int], list[Tensor]]) -> Tensor:
        held = values.get((ref.layer, ref.node))
        if held is None or not 0 <= ref.output < len(held):
            raise model.fault("E801", f"nothing makes the tensor {list(ref)}, or it reads itself")
        return held[ref.output]

    # -- layers

    def applied(self, layer: Layer, args: list[Any], kwargs: dict[str, Any], depth: int,
                call: int = 0) -> list[Tensor]:
        """The outputs of a layer or a model for its arguments. In `between` they are called by the
        path, inner/dense, of call k of a shared layer inner/dense:k."""
        self.path.append(f"{layer.name}:{call}" if call else layer.name)
        made = self._applied(layer, args, kwargs, depth)
        name = "/".join(self.path)
        self.path.pop()
        for k, tensor in enumerate(made):
            self.between[f"{name}.{k}" if len(made) > 1 else name] = tensor
        return made

    def _applied(self, layer: Layer, args: list[Any], kwargs: dict[str, Any], depth: int
                 ) -> list[Tensor]:
        if layer.kind in MODELS:
            flat = [each for arg in args for each in (arg if isinstance(arg, list) else [arg])]
            return self.model(layer, flat, depth + 1)
        if layer.kind == "InputLayer":
            raise layer.fault("E801", "an input that reads another layer")
        made = self.called(layer, args, kwargs)
        return [self.sized(layer, each) for each in (made if isinstance(made, list) else [made])]

    def called(self, layer: Layer, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """What the layer's row of the table makes."""
        more = {key: value for key, value in kwargs.items()
                if value is not None and key != "training" and value is not False}
        row = LAYERS[layer.kind]
        for each in (*args, *more.values()):
            if not (each is True or isinstance(each, Neurons | Weights) or isinstance(each, list)
                    and each and all(isinstance(one, Neurons | Weights) for one in each)):
                raise layer.fault("E813", f"it is called with {str(each)[:40]}, not with tensors")
        for key in more:
            if key not in row.keywords:
                raise layer.fault("E813", f"it is called with {key[:40]}, which is not kept")
        try:
            return row.make(layer, *args, **more)
        except NccError:
            raise
        except (ValueError, TypeError, IndexError) as error:
            raise layer.fault("E814", str(error)) from None

    def sized(self, layer: Layer, tensor: Any) -> Tensor:
        if not isinstance(tensor, Neurons | Weights):
            raise layer.fault("E801", "its output is no tensor")
        if prod(tensor.shape) > LARGEST:
            raise layer.fault("E819", f"its output has {prod(tensor.shape)} elements, and "
                              f"{LARGEST} are the most")
        return tensor


def _refs(held: Any) -> Iterator[Ref]:
    if isinstance(held, Ref):
        yield held
    elif isinstance(held, list | tuple):
        for each in held:
            yield from _refs(each)
    elif isinstance(held, dict):
        for each in held.values():
            yield from _refs(each)


def _mapped(held: Any, how: Callable[[Ref], Any]) -> Any:
    """A structure with something else in the place of each Ref."""
    if isinstance(held, Ref):
        return how(held)
    if isinstance(held, list | tuple):
        return type(held)([_mapped(each, how) for each in held])
    if isinstance(held, dict):
        return {key: _mapped(value, how) for key, value in held.items()}
    return held


def snake(name: str) -> str:
    """A class's name as Keras writes it: batch_normalization, p_re_lu, conv2d."""
    apart = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", apart).lower()
