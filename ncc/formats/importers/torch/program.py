"""Exported programs of torch, operation by operation.

An operation of constants alone is torch's own to compute, in float64; one that only moves elements
is done by torch on the numbers of neurons; the rest stands in the tables of `operations`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import numpy as np

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign, Imported, Options
from ncc.formats.importers.tensors.net import Neurons, TensorNet, Weights
from ncc.formats.importers.torch.layers import Unkept
from ncc.formats.importers.torch.operations import OPERATIONS

# What moves elements and computes nothing: run by torch on numbers of neurons.
MOVES: Final = frozenset("""
    view reshape _unsafe_view flatten unflatten transpose t numpy_T mT permute movedim squeeze
    unsqueeze expand expand_as contiguous clone detach alias select slice narrow split
    split_with_sizes chunk unbind stack cat concat hstack vstack index index_select gather flip roll
    repeat tile repeat_interleave lift_fresh_copy view_as reshape_as swapaxes diagonal unfold
    tensor_split atleast_2d take_along_dim ravel pixel_shuffle channel_shuffle
    """.split())
# What is nothing when a net is only evaluated.
NOTHING: Final = frozenset("""
    dropout feature_dropout alpha_dropout to _to_copy type_as identity lift_fresh
    """.split())
ONE_HOT: Final = "a net's inputs are real: one-hot rows in the place of numbers of classes"
CHECKS: Final = frozenset("_assert_tensor_metadata _assert_scalar sym_constrain_range".split())


def imported(program: Any, name: str, options: Options) -> Imported:
    """The net of an ExportedProgram whose examples have a batch of 1 (or none, `batch_dim` none).

    NccError E810: an operation that is no neurons'; E813: one of its values; E814: shapes; E817: an
    input that is not real.
    """
    torch = import_module("torch")
    found = _Reader(program, name, options, torch)
    outputs = found.run()
    graph, slots, places = found.net.graph(outputs, dtype=found.dtype, between=found.between())
    held = {key: (slots[key], values) for key, values in found.parameters.items() if key in slots}
    if held:  # and what load_state_dict wants besides
        for key in found.program.state_dict.keys() - held.keys():
            values = found.state(key).detach().numpy()
            held[key] = (np.full(values.shape, -1, np.int32), values)
        for key, alike in _shared(found.program.state_dict, held):
            if not (held[key][0] >= 0).any():  # a program reads an array by one of its names
                held[key] = held[alike]
    return Imported(name, "", graph=graph, exactness="C", importer="torch",
                    notes=tuple(found.notes), tensors=held,
                    places=places)


def _shared(state: Mapping[str, Any], held: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The names of arrays that are in one place, as those of tied weights are, each with the one
    that the program reads."""
    def place(key: str) -> Any:
        return state[key].data_ptr(), state[key].shape, state[key].stride()

    read = {place(key): key for key, (slots, _) in held.items() if (slots >= 0).any()}
    yield from [(key, read[place(key)]) for key in held if place(key) in read]


class _Reader:
    def __init__(self, program: Any, name: str, options: Options, torch: Any) -> None:
        self.program, self.name, self.torch = program, name, torch
        self.options = options
        self.net = TensorNet(options.max_edges, not options.drop_zeros)
        self.values: dict[Any, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.notes: list[str] = []
        self.dtype = "f32"
        self.folded: set[Any] = set()  # what batch norms are folded into
        self.done: set[Any] = set()  # batch norms that are folded into what is before them
        self.joined: dict[bytes, Weights] = {}  # biases that are only added, by the first

    def alone(self, name: str, values: Any) -> None:
        """What a parameter of the module is to begin with, where one of two has all of their sum.
        """
        if name in self.parameters:
            self.parameters[name] = values

    def fault(self, code: str, message: str, node: Any = None, help: str = "") -> NccError:
        where = "" if node is None else (path_of(node) or node.name) + ": "
        return Foreign(self.name, "").fault(code, where + message, help=help)

    def run(self) -> list[tuple[str, Any]]:
        """The outputs, by name."""
        signature = self.program.graph_signature
        specs = {spec.arg.name: spec for spec in signature.input_specs
                 if hasattr(spec.arg, "name")}
        changed = [spec for spec in signature.output_specs if spec.kind.name != "USER_OUTPUT"]
        if changed:
            raise self.fault("E810", f"it changes a buffer, {changed[0].target}, as training does",
                             help="module.eval() before it is exported")
        for node in self.program.graph_module.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self.placeholder(node, specs[node.name])
            elif node.op == "call_function":
                self.values[node] = self.call(node)
            elif node.op == "get_attr":
                self.values[node] = self.constant(getattr(self.program.graph_module, node.target))
            elif node.op == "output":
                return self.outputs(node.args[0])
        raise self.fault("E801", "a program without outputs")

    def between(self) -> Iterator[tuple[str, Neurons]]:
        """What operations compute, by `tensor_name`; not what a batch norm behind was folded into.
        """
        for node, held in self.values.items():
            if (node.op == "call_function" and isinstance(held, Neurons)
                    and op_name(node.target) not in MOVES and node not in self.folded):
                yield tensor_name(node), held

    def placeholder(self, node: Any, spec: Any) -> Any:
        kind = spec.kind.name
        if kind == "USER_INPUT":
            held = node.meta.get("val")
            if not hasattr(held, "shape"):
                return held
            if not held.dtype.is_floating_point:
                raise self.fault("E817", f"input {node.name} is of {held.dtype}, not of reals",
                                 help=ONE_HOT)
            if any(not isinstance(size, int) for size in held.shape):
                raise self.fault("E814", f"input {node.name} has the shape {tuple(held.shape)}",
                                 help="export with an example of batch 1, without dynamic shapes")
            if self.options.batch_dim != "none" and held.ndim and held.shape[0] != 1:
                raise self.fault("E814", f"input {node.name} has a batch of {held.shape[0]}, not 1",
                                 help="an example of batch 1; or batch_dim none, for an input "
                                 "without a batch")
            if held.dtype == self.torch.float64:
                self.dtype = "f64"
            return self.net.input(node.name, tuple(held.shape))
        if kind == "PARAMETER":
            values = self.state(spec.target).detach().double().numpy()
            self.parameters[spec.target] = values
            if self.options.trainable == "none":
                return Weights(np.asarray(values))
            return self.net.parameter(spec.target, values)
        if spec.target in self.program.state_dict:
            return self.constant(self.state(spec.target))
        return self.constant(self.program.constants[spec.target])

    def state(self, name: str) -> Any:
        """A parameter or a buffer of the program's, or what is given in its place. NccError E816.
        """
        own, given = self.program.state_dict[name], self.options.state_dict
        if given is None:
            return own
        if name not in given:
            raise self.fault("E816", f"the parameters in its place have no {name}")
        if tuple(given[name].shape) != tuple(own.shape):
            raise self.fault("E816", f"{name} has the shape {tuple(own.shape)}, and what is in its "
                             f"place {tuple(given[name].shape)}")
        made = self.torch.as_tensor(np.array(given[name]))
        if own.is_floating_point() and not bool(self.torch.isfinite(made).all()):
            raise self.fault("E816", f"what is in the place of {name} is not finite")
        return made.to(own.dtype) if made.is_floating_point() != own.is_floating_point() else made

    def constant(self, held: Any) -> Any:
        return Weights(held.detach().double().numpy()) if held.dtype.is_floating_point else held

    def outputs(self, held: Any) -> list[tuple[str, Any]]:
        made = [(node, self.values[node]) for node in flat(held) if node is not None]
        named = []
        for k, (_, value) in enumerate(made):
            if not isinstance(value, Neurons | Weights):
                raise self.fault("E817", f"output {k} is no tensor of reals")
            named.append(("y" if len(made) == 1 else f"y{k}", value))
        return named

    # -- operations

    def call(self, node: Any) -> Any:
        name = op_name(node.target)
        args, kwargs = self.given(node.args), self.given(node.kwargs)
        if name == "getitem":
            return args[0][args[1]]
        if name in CHECKS:
            return None
        if name in NOTHING and not (name.endswith("dropout") and args[2]):
            return args[0]
        tensors = self.tensors((args, kwargs))
        moving = [held for held in tensors if isinstance(held, Neurons)]
        try:
            if name in MOVES and (moving or any(held.slots is not None for held in tensors)):
                return self.moved(node, args, kwargs, bool(moving))
            if not moving:
                return self.computed(node, args, kwargs, tensors)
            if name not in OPERATIONS:
                raise self.fault("E810", f"{node.target} has no meaning as neurons", node)
            return OPERATIONS[name](self, node, *args, **kwargs)
        except Unkept as reason:
            raise self.fault("E813", f"{node.target}: {reason}", node) from None
        except (ValueError, TypeError, IndexError) as error:
            raise self.fault("E814", f"{node.target}: {error}", node) from None

    def given(self, held: Any) -> Any:
        """Arguments with the values of nodes in their place."""
        return self.torch.fx.node.map_arg(held, lambda node: self.values[node])

    def tensors(self, held: Any) -> list[Any]:
        if isinstance(held, Neurons | Weights):
            return [held]
        if isinstance(held, Mapping):
            held = list(held.values())
        if isinstance(held, list | tuple):
            return [tensor for value in held for tensor in self.tensors(value)]
        return []

    def replaced(self, held: Any, how: Any) -> Any:
        if isinstance(held, Neurons | Weights):
            return how(held)
        if isinstance(held, Mapping):
            return {key: self.replaced(value, how) for key, value in held.items()}
        if isinstance(held, list | tuple):
            return type(held)([self.replaced(value, how) for value in held])
        return held

    def moved(self, node: Any, args: Any, kwargs: Any, neurons: bool) -> Any:
        """An operation that moves elements, of neurons (constants among them become some) or of
        parameters."""
        def run(pick: Any) -> Any:
            return node.target(*self.replaced(args, pick), **self.replaced(kwargs, pick))

        as_tensor = self.torch.as_tensor
        if neurons:
            found = run(lambda held: as_tensor(
                held.ids if isinstance(held, Neurons) else self.net.neurons(held).ids))
            return self.each(found, lambda ids: Neurons(ids.numpy()))
        values = run(lambda held: as_tensor(held.values))
        slots = run(lambda held: as_tensor(
            np.full(held.shape, -1, np.int32) if held.slots is None else held.slots))
        if isinstance(values, list | tuple):
            return [Weights(v.numpy(), s.numpy()) for v, s in zip(values, slots, strict=True)]
        return Weights(values.numpy(), slots.numpy())

    def each(self, found: Any, how: Any) -> Any:
        return [how(one) for one in found] if isinstance(found, list | tuple) else how(found)

    def computed(self, node: Any, args: Any, kwargs: Any, tensors: Sequence[Weights]) -> Any:
        """An operation of constants, by torch. What is made of parameters is parameters of its own,
        but for those that a mask of 0 and 1 prunes, which stay themselves."""
        if op_name(node.target) == "mul" and len(tensors) == 2:
            for held, mask in (tensors, tensors[::-1]):
                if held.slots is not None and mask.slots is None and np.isin(
                        mask.values, (0.0, 1.0)).all() and held.shape == mask.shape:
                    kept = mask.values != 0
                    return Weights(held.values * mask.values,
                                   np.where(kept, held.slots, -1).astype(np.int32))
        found = node.target(*self.replaced(args, lambda h: self.torch.as_tensor(h.values)),
                            **self.widened(kwargs))
        trained = any(held.slots is not None for held in tensors)

        def kept_as(one: Any) -> Any:
            if not hasattr(one, "dtype") or not one.dtype.is_floating_point:
                return one
            values = one.detach().double().numpy()
            return self.net.parameter("", values) if trained else Weights(values)

        return self.each(found, kept_as)

    def widened(self, kwargs: Any) -> Any:
        """Options with tensors, and with float64 where reals are asked for."""
        made = self.replaced(kwargs, lambda h: self.torch.as_tensor(h.values))
        dtype = made.get("dtype")
        if dtype is not None and dtype.is_floating_point:
            made["dtype"] = self.torch.float64
        return made

    def conv_like(self, node: Any) -> Any:
        """The batch norm that alone reads a convolution or a dense layer, to be folded into it."""
        users = list(node.users)
        if len(users) != 1 or self.options.no_fold or users[0].op != "call_function":
            return None
        user = users[0]
        name = op_name(user.target)
        if name not in ("batch_norm", "_native_batch_norm_legit_no_training"):
            return None
        return user if name != "batch_norm" or not user.args[5] else None


def flat(held: Any) -> list[Any]:
    """The nodes in a structure of outputs, in order."""
    if isinstance(held, Mapping):
        return [node for value in held.values() for node in flat(value)]
    if isinstance(held, list | tuple):
        return [node for value in held for node in flat(value)]
    return [held]


def path_of(node: Any) -> str:
    """The path of the module whose operation a node is, as encoder.layers.0.linear1; empty for the
    outermost one's."""
    stack = node.meta.get("nn_module_stack") or {}
    path = [entry[0] for entry in stack.values() if entry[0]]
    return str(path[-1]) if path else ""


def tensor_name(node: Any) -> str:
    """What the tensor of a node is called: encoder.layers.0.linear1/linear_3. The parts of what an
    LSTM makes are lstm.0, ..."""
    path, name = path_of(node), node.name
    if op_name(node.target) == "getitem":
        name = f"{node.args[0].name}.{node.args[1]}"
    return f"{path}/{name}" if path else str(name)


def op_name(target: Any) -> str:
    """linear of aten.linear.default, getitem of operator.getitem."""
    schema = getattr(target, "_schema", None)
    return str(schema.name).split("::")[-1] if schema is not None else getattr(
        target, "__name__", str(target))
