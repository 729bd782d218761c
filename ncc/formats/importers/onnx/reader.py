"""ONNX models, node by node.

A node of constants alone is onnx's own evaluator to compute, in float64; one that only moves
elements is done by that evaluator on the numbers of neurons; the rest stands in the tables of
`operations`; and what has no row there is expanded by the function that ONNX defines it to be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from ncc.errors import NccError
from ncc.formats.importers.foreign import Foreign, Options
from ncc.formats.importers.onnx.evaluate import (
    Node,
    Uncomputed,
    body,
    evaluated,
    library,
    node_of,
)
from ncc.formats.importers.onnx.functions import Unkept
from ncc.formats.importers.onnx.operations import OPERATIONS
from ncc.formats.importers.onnx.values import (
    data_inputs,
    inner_names,
    is_real,
    kind_of,
    made_size,
    masked,
    plain,
)
from ncc.formats.importers.tensors.elementwise import concatenated
from ncc.formats.importers.tensors.net import ABSENT, Neurons, TensorNet, Weights

OLDEST: Final = 7  # before it, broadcasting had attributes of its own
FLOATS: Final = {1: "f32", 11: "f64", 10: "f32", 16: "f32"}  # of TensorProto.DataType
# What moves elements and computes nothing: run on numbers of neurons. The inputs from the second on
# say how, but for Concat's, Where's and the updates of Scatter*.
MOVES: Final = frozenset("""
    Transpose Reshape Slice Gather GatherElements GatherND Concat Split Squeeze Unsqueeze Expand
    Tile Flatten Identity Pad DepthToSpace SpaceToDepth Trilu Compress ReverseSequence Where
    ScatterElements ScatterND Resize CenterCropPad
    """.split())
SHAPES: Final = frozenset(("Shape", "Size", "ConstantOfShape", "EyeLike"))
RANDOM: Final = frozenset(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
                           "Bernoulli", "Multinomial"))
ONE_HOT: Final = "a net's inputs are real: one-hot rows in the place of numbers of classes"
# What takes ABSENT elements, which a mask of -inf makes.
MASKED: Final = frozenset(("Softmax", "Add", "Identity", "Cast", "CastLike"))
DEEPEST: Final = 16  # functions within functions


class Reader:
    """A model under way. `values` are tensors by name: Neurons, Weights, arrays of what is no real
    (integers, booleans), lists of such."""

    def __init__(self, model: Any, name: str, options: Options, batch: int = 1) -> None:
        self.model, self.name, self.options, self.batch = model, name, options, batch
        self.file = Foreign(name, "")
        self.net = TensorNet(options.max_edges, not options.drop_zeros)
        self.values: dict[str, Any] = {}
        self.parameters: dict[str, Any] = {}
        self.notes: list[str] = []
        self.dtype = "f32"
        self.batched: dict[str, Neurons] = {}  # inputs whose first axis is that of the batch
        self.depth = 0
        self.readers: dict[str, list[Node | None]] = {}  # None: what is no node of the same graph
        self.finished: dict[str, str] = {}  # outputs of nodes that the one before has done, too

    def fault(self, code: str, message: str, node: Node | None = None, help: str = "") -> NccError:
        where = "" if node is None else f"node {node.name}: {node.kind}: "
        return self.file.fault(code, where + message, help=help)

    def run(self) -> list[tuple[str, Any]]:
        """The outputs, by name."""
        opset = self.opset()
        graph = self.model.graph
        self.initialisers(graph)
        for held in graph.input:
            if held.name not in self.values:
                self.values[held.name] = self.input(held)
        self.nodes([node_of(proto, opset) for proto in graph.node],
                   {held.name for held in graph.output})
        return [(held.name, self.output(held.name)) for held in graph.output]

    def opset(self) -> int:
        versions = {held.domain: held.version for held in self.model.opset_import}
        newest = library().defs.onnx_opset_version()
        version = int(versions.get("", versions.get("ai.onnx", newest)))
        if not OLDEST <= version <= newest:
            raise self.fault("E802", f"opset {version} is not read, only {OLDEST} to {newest}",
                             help="onnx.version_converter.convert_version(model, 18)")
        return version

    def initialisers(self, graph: Any) -> None:
        if graph.sparse_initializer:
            raise self.fault("E810", f"initialiser {graph.sparse_initializer[0].values.name} is "
                             "sparse")
        for held in graph.initializer:
            self.values[held.name] = self.initialiser(held)

    def initialiser(self, held: Any) -> Any:
        values = self.array(held)
        if not is_real(values):
            return values
        wide = values.astype(np.float64)
        if self.options.trainable == "none" or not np.isfinite(wide).all():
            return Weights(wide)
        self.parameters[held.name] = wide
        return self.net.parameter(held.name, wide)

    def array(self, held: Any) -> Any:
        try:
            return library("onnx.numpy_helper").to_array(held)
        except Exception as error:  # of what stands in the file
            raise self.fault("E816", f"initialiser {held.name} does not hold what its shape says: "
                             f"{str(error).strip().splitlines()[:1]}") from None

    def input(self, held: Any) -> Neurons:
        kind = held.type.WhichOneof("value")
        if kind != "tensor_type":
            raise self.fault("E817", f"input {held.name} is a {kind or 'thing without a type'}")
        tensor = held.type.tensor_type
        if tensor.elem_type not in FLOATS:
            names = {number: name for name, number in library().TensorProto.DataType.items()}
            word = names.get(tensor.elem_type, f"the type {tensor.elem_type}")
            raise self.fault("E817", f"input {held.name} is of {word}, not of reals", help=ONE_HOT)
        if FLOATS[tensor.elem_type] == "f64":
            self.dtype = "f64"
        if tensor.elem_type in (10, 16):
            self.notes.append(f"input {held.name} has 16 bits a number; the net computes in f32")
        shape = self.shape(held.name, tensor)
        size = int(np.prod([float(s) for s in shape]))
        if size > self.options.max_edges:
            raise self.fault("E819", f"input {held.name} has {size} elements, and "
                             f"{self.options.max_edges} are the most")
        made = self.net.input(held.name, shape)
        if self.is_batched(held.name, tensor):
            self.batched[held.name] = made
        return made

    def is_batched(self, name: str, tensor: Any) -> bool:
        """Whether the first axis is left open, so that it is that of the batch."""
        if name in self.options.shapes or self.options.batch_dim == "none" or not tensor.shape.dim:
            return False
        first = tensor.shape.dim[0]
        return (first.WhichOneof("value") != "dim_value"
                and first.dim_param not in self.options.dims)

    def shape(self, name: str, tensor: Any) -> tuple[int, ...]:
        """Of --shape, else of the file, with sizes of --dim; a first one that the file leaves open
        is that of the batch."""
        if name in self.options.shapes:
            return self.options.shapes[name]
        if not tensor.HasField("shape"):
            raise self.fault("E814", f"the shape of input {name} is not known",
                             help=f"--shape {name}=1x3x8x8")
        sizes = []
        for k, dim in enumerate(tensor.shape.dim):
            if dim.WhichOneof("value") == "dim_value" and dim.dim_value >= 0:
                sizes.append(dim.dim_value)
            elif dim.dim_param in self.options.dims:
                sizes.append(self.options.dims[dim.dim_param])
            elif k == 0 and self.is_batched(name, tensor):
                sizes.append(self.batch)
            else:
                raise self.fault("E814", f"axis {k} of input {name} has no size, but is called "
                                 f"{dim.dim_param or 'nothing'}",
                                 help=f"--dim {dim.dim_param}=4" if dim.dim_param
                                 else f"--shape {name}=...")
        return tuple(sizes)

    def output(self, name: str) -> Any:
        value = self.values.get(name)
        if value is None:
            raise self.fault("E801", f"output {name} is made by no node")
        if not isinstance(value, Neurons | Weights):
            raise self.fault("E817", f"output {name} is no tensor of reals")
        if masked(value):
            raise self.fault("E813", f"output {name} is -inf where a mask is")
        return value

    def between(self) -> Iterator[tuple[str, Neurons]]:
        """The tensors that nodes make; not those to which the node behind was added."""
        changed = set(self.finished.values())
        return ((name, held) for name, held in self.values.items()
                if isinstance(held, Neurons) and name not in changed)

    # -- nodes

    def nodes(self, nodes: Sequence[Node], outputs: set[str]) -> None:
        for node in nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
            for name in inner_names(node.proto):
                self.readers.setdefault(name, []).append(None)
        for name in outputs:  # which the caller reads
            self.readers.setdefault(name, []).append(None)
        for node in nodes:
            made = self.call(node)
            for name, value in zip(node.outputs, made, strict=False):
                if name:
                    self.values[name] = value

    def reader_of(self, node: Node, *kinds: str) -> Node | None:
        """The one node that reads the first output of a node, where it is of these kinds."""
        found = self.readers.get(node.outputs[0], [])
        only = found[0] if len(found) == 1 else None
        return only if only is not None and only.kind in kinds and not only.domain else None

    def call(self, node: Node) -> Sequence[Any]:
        if node.outputs[0] in self.finished:
            return [self.values[self.finished[node.outputs[0]]]]
        inputs = [self.given(name, node) for name in node.inputs]
        if node.domain:
            raise self.fault("E810", f"the domain {node.domain} is not read", node,
                             help="a model of the operators of ONNX alone")
        if node.kind in RANDOM:
            raise self.fault("E810", "random numbers are no function of the input", node)
        try:
            return self.computed(node, inputs)
        except Unkept as reason:
            raise self.fault("E813", str(reason), node) from None
        except Uncomputed as reason:
            raise self.fault("E810", str(reason), node) from None
        except MemoryError:
            raise self.fault("E819", "it is larger than the memory", node) from None
        except (ValueError, TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError,
                AttributeError) as error:
            words = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise self.fault("E814", words, node) from None

    def given(self, name: str, node: Node) -> Any:
        if name and name not in self.values:
            raise self.fault("E801", f"it reads {name}, which no node before it makes", node)
        return self.values[name] if name else None

    def computed(self, node: Node, inputs: list[Any]) -> Sequence[Any]:
        if node.kind == "Constant":
            return [self.wrapped(each) for each in evaluated(node, [])]
        if node.kind == "If":
            return self.branch(node, inputs)
        self.fits(node, inputs)
        if node.kind in SHAPES:
            return [self.wrapped(each) for each in evaluated(node, [
                np.broadcast_to(np.float64(0), held.shape) if isinstance(held, Neurons)
                else plain(held) for held in inputs])]
        moving = any(isinstance(held, Neurons) for held in inputs)
        slotted = any(isinstance(held, Weights) and held.slots is not None for held in inputs)
        if node.kind in MOVES and (moving or slotted) and self.moves(node, inputs):
            return self.moved(node, inputs, moving)
        if not moving:
            return self.folded(node, inputs)
        if node.kind not in MASKED and any(masked(held) for held in inputs):
            raise Unkept("-inf of a mask comes to it, and only a softmax takes that")
        if node.kind in OPERATIONS:
            made = OPERATIONS[node.kind](self, node, *inputs)
            return made if isinstance(made, list | tuple) else [made]
        return self.expanded(node, inputs)

    def fits(self, node: Node, inputs: list[Any]) -> None:
        """E819 for what makes more elements than a net may have edges."""
        size = made_size(node, inputs)
        if size > self.options.max_edges:
            raise self.fault("E819", f"it makes {size:.3g} elements, and "
                             f"{self.options.max_edges} are the most", node)

    def branch(self, node: Node, inputs: list[Any]) -> Sequence[Any]:
        """If, of a constant condition: the nodes of the branch, which see the names outside."""
        condition = inputs[0]
        if isinstance(condition, Neurons):
            raise self.fault("E810", "a condition that depends on the input", node)
        taken = node.attrs["then_branch" if bool(np.asarray(plain(condition)).ravel()[0])
                           else "else_branch"]
        outer = dict(self.values)
        self.initialisers(taken)
        self.inside(node, [node_of(proto, node.opset) for proto in taken.node],
                    {held.name for held in taken.output})
        made = [self.values.get(held.name) for held in taken.output]
        self.values = outer
        return made

    def inside(self, node: Node, nodes: Sequence[Node], outputs: set[str]) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.fault("E810", "functions within functions, too deep", node)
        readers, self.readers = self.readers, {}
        finished, self.finished = self.finished, {}
        self.nodes(nodes, outputs)
        self.readers, self.finished = readers, finished
        self.depth -= 1

    def expanded(self, node: Node, inputs: list[Any]) -> Sequence[Any]:
        kinds = [None if held is None else kind_of(held) for held in inputs]
        found = body(node, kinds)
        if found is None:
            word = ("integers and quantised values are no neurons'" if "Quant" in node.kind
                    or "Integer" in node.kind else "it has no meaning as neurons")
            raise self.fault("E817" if "integers" in word else "E810", word, node,
                             help="ncc/formats/importers/README.md lists the operators")
        outer, self.values = self.values, dict.fromkeys(found.inputs)
        self.values.update(zip(found.inputs, inputs, strict=False))
        self.values = {name: held for name, held in self.values.items() if held is not None}
        absent = {name for name in found.inputs if name not in self.values}
        try:
            made = [node_of(proto, found.opset, found.attributes) for proto in found.nodes]
            made = [each._replace(name=f"{node.name}/{each.name}", inputs=tuple(
                "" if name in absent else name for name in each.inputs)) for each in made]
            self.inside(node, made, set(found.outputs))
            return [self.values.get(name) for name in found.outputs]
        finally:
            self.values = outer

    # -- constants, and what only moves

    def folded(self, node: Node, inputs: list[Any]) -> Sequence[Any]:
        """A node of constants. What is made of parameters is parameters of its own, but for those
        that a mask of 0 and 1 prunes, which stay themselves."""
        weights = [held for held in inputs if isinstance(held, Weights)]
        if node.kind == "Mul" and len(weights) == 2:
            for held, mask in (weights, weights[::-1]):
                if held.slots is not None and held.shape == mask.shape and np.isin(
                        mask.values, (0.0, 1.0)).all() and not np.isin(
                        held.values, (0.0, 1.0)).all():
                    kept = mask.values != 0
                    return [Weights(held.values * mask.values,
                                    np.where(kept, held.slots, -1).astype(np.int32))]
        made = evaluated(node, [plain(held) for held in inputs])
        trained = any(held.slots is not None for held in weights)
        if node.kind == "Identity" or node.kind.startswith("Cast"):
            held = inputs[0]
            return [held if isinstance(held, Weights) and is_real(made[0])
                    else self.wrapped(made[0])]
        return [self.wrapped(one, trained) for one in made]

    def wrapped(self, made: Any, trained: bool = False) -> Any:
        if isinstance(made, list):
            return [self.wrapped(one, trained) for one in made]
        if made is None or not is_real(made):
            return made
        values = np.asarray(made, np.float64)
        trained = trained and bool(np.isfinite(values).all())
        return self.net.parameter("", values) if trained else Weights(values)

    def moves(self, node: Node, inputs: list[Any]) -> bool:
        """Whether what says how elements move is constant, and nothing is computed."""
        if node.kind == "Resize" and node.opset == 10:
            return False
        if node.kind == "Resize" and node.attrs.get("mode", "nearest") != "nearest":
            raise Unkept(f"mode {node.attrs['mode']}")
        for name in ("value", "extrapolation_value"):  # which would be taken for a neuron
            if node.kind in ("Pad", "Resize") and node.attrs.get(name):
                raise Unkept(f"{name} {node.attrs[name]}")
        if node.kind.startswith("Scatter") and node.attrs.get("reduction", "none") != "none":
            raise Unkept(f"reduction {node.attrs['reduction']}")
        data = data_inputs(node, len(inputs))
        if any(isinstance(held, Neurons) for k, held in enumerate(inputs) if k not in data):
            raise Unkept("places or a condition that depend on the input")
        return any(isinstance(inputs[k], Neurons | Weights) for k in data)

    def moved(self, node: Node, inputs: list[Any], neurons: bool) -> Sequence[Any]:
        """An operation that moves elements, of neurons (constants among them become some) or of
        parameters. Neurons go as their number plus 1, so that a 0 that it puts in is one."""
        data = data_inputs(node, len(inputs))
        if not neurons and node.kind == "Concat":
            return [concatenated(self.net, [Weights(np.asarray(h)) if isinstance(h, np.ndarray)
                                            else h for h in inputs], node.attrs["axis"])]

        def run(pick: Any) -> list[Any]:
            return evaluated(node, [
                pick(held) if k in data and held is not None else plain(held)
                for k, held in enumerate(inputs)])

        if neurons:
            def ids(held: Any) -> Any:
                if isinstance(held, np.ndarray):
                    held = Weights(np.asarray(held, np.float64))
                if isinstance(held, Weights):
                    held = self.present(held)
                return held.ids.astype(np.float64) + 1

            return [self.nested(one, lambda o: Neurons(np.asarray(o).astype(np.int32) - 1))
                    for one in run(ids)]
        values = run(lambda held: np.asarray(plain(held), np.float64))
        slots = run(lambda held: np.zeros(held.shape) if getattr(held, "slots", None) is None
                    else held.slots.astype(np.float64) + 1)
        return [Weights(np.asarray(v), np.asarray(s).astype(np.int32) - 1)
                for v, s in zip(values, slots, strict=True)]

    def present(self, held: Weights) -> Neurons:
        """Constants as neurons, ABSENT where they are -inf."""
        gone = held.values == -np.inf
        if not gone.any():
            return self.net.neurons(held)
        made = self.net.neurons(Weights(np.where(gone, 0.0, held.values), held.slots))
        return Neurons(np.where(gone, ABSENT, made.ids).astype(np.int32))

    def nested(self, held: Any, how: Any) -> Any:
        return [how(one) for one in held] if isinstance(held, list) else how(held)
