"""A net as Python sees it: read, ordered, ready for the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncc.driver.compiler import Build, write
from ncc.driver.cost import Chosen
from ncc.driver.cost import cost as card
from ncc.driver.kinds import drawn
from ncc.driver.levels import FORMATS, NETS
from ncc.driver.report import Beside, report
from ncc.driver.settings import Settings, arithmetic
from ncc.errors import NccError, Source, optional
from ncc.formats.exporters.attributes import directives, edges, nodes
from ncc.formats.exporters.matrices import rows, valued
from ncc.formats.exporters.onnx_model import onnx_model
from ncc.formats.exporters.parameters import state_dict
from ncc.formats.exporters.registry import named, of_path
from ncc.formats.importers import registry
from ncc.formats.importers.foreign import Imported, Options, opened
from ncc.formats.read import decode
from ncc.ir.graph import Graph, Reals
from ncc.machine.llvm import host
from ncc.machine.llvm import target as machine
from ncc.passes.graph.order import order
from ncc.passes.graph.resolve import resolve
from ncc.passes.graph.unroll import unroll as unrolled
from ncc.report.comparison import Comparison, Limits, Other, compared, limits_of, of_graph
from ncc.report.cost import Cost
from ncc.report.oracles.asked import Asked
from ncc.report.oracles.table import of_object
from ncc.report.page.curve import curve


@dataclass(frozen=True, repr=False)
class Net:
    """A verified net. Its neurons are numbered 0 .. n_neurons-1; `states` are those whose value of
    the last call some neuron reads, ascending.

    tensors  of a net of torch's or the like, its parameters there: for each name its slots (-1
             where an element has none) and its first values
    places   of such a net, the tensors on the way: for each name the numbers of the neurons that
             its elements are, -1 where one is none
    """

    __module__ = "ncc"
    graph: Graph
    tensors: Mapping[str, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)
    places: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (f"Net({self.n_neurons} neurons, {self.n_edges} edges, {self.n_params} parameters, "
                f"{self.graph.n_inputs} inputs, {len(self.graph.outputs)} outputs"
                + (f", {len(self.graph.states)} states" if len(self.graph.states) else "") + ")")

    @property
    def n_neurons(self) -> int:
        return self.graph.n_own

    @property
    def n_edges(self) -> int:
        return self.graph.n_edges

    @property
    def n_params(self) -> int:
        return self.graph.n_params

    @property
    def inputs(self) -> list[int]:
        """The input neurons, ascending."""
        return [int(i) for i in self.graph.inputs[: self.graph.n_inputs]]

    @property
    def outputs(self) -> list[int]:
        """The output neurons, in their order."""
        return [int(i) for i in self.graph.outputs]

    def export(self, path: str | Path, to: str | None = None, *, lossy: bool = False) -> None:
        """Write the net for another tool, in the format `to`, or that of the file's ending: those
        of `ncc export`. NccError E102 for an unknown one, E401 where it cannot say the net (with
        `lossy`, what can be left out is), E607 where it holds values and one is missing."""
        exporter = of_path(str(path)) if to is None else named(to)
        write({Path(path): exporter.file(self.graph, lossy, self.tensors)})

    def to_formula(self, language: str = "python") -> str:
        """The net as text, "python" (a file with `forward(x)`, which needs only `math`) or
        "latex" (a document). NccError E102, E607."""
        if language not in ("python", "latex"):
            raise NccError("E102", f"no formulas in {language}", help="python or latex")
        return named(language).write(self.graph, False).decode()

    def to_svg(self) -> str:
        """The net as a picture, the same as `ncc build --emit svg`: a text of at most 300 kB."""
        return drawn(self.graph)

    def report(self, path: str | Path, x: ArrayLike | None = None, *,
               params: ArrayLike | None = None, history: Any = None) -> None:
        """Write the page of `ncc report`: the picture, every level of its code for this machine,
        what that costs, and the net itself, to be tried, in one file of HTML.

        x        samples (n, n_inputs) that it begins with
        params   (n_params,) instead of the net's own
        history  of `ncc.fit`: its learning curve

        ValueError for samples or parameters of another shape; NccError E622.
        """
        rows = None if x is None else np.atleast_2d(np.asarray(x, np.float64))
        if rows is not None and (rows.ndim > 2 or rows.shape[1] != self.graph.n_inputs):
            raise ValueError(f"x has shape {rows.shape}, the net has {self.graph.n_inputs} inputs")
        held = self.graph.values if params is None else np.asarray(params, np.float64)
        if held.shape != (self.n_params,):
            raise ValueError(f"params have shape {held.shape}, the net has {self.n_params}")
        build = Build.of(self.graph.with_(values=held), host(),
                         Settings(passes={"name": "net", "gradient": False}))
        lines = None if history is None else curve(Source("history", history.csv()))
        page = report(build, Path(path).stem, beside=Beside(rows, curve=lines))
        write({Path(path): page.encode()})

    def _repr_svg_(self) -> str:
        """What notebooks show."""
        return self.to_svg()

    def to_state_dict(self, params: ArrayLike | None = None) -> dict[str, NDArray[Any]]:
        """The parameters `params` (n_params,), by default the net's own, as arrays by the names
        that they have in the module that the net comes from; elements that are no parameters, such
        as pruned ones, keep their values. NccError E401 for a net that comes from none, or some of
        whose parameters were computed from several of the module's, as a batch norm's are."""
        held = self.graph.values if params is None else np.asarray(params, np.float64)
        if held.shape != (self.n_params,):
            raise ValueError(f"params have shape {held.shape}, the net has {self.n_params}")
        return state_dict(held, self.tensors)

    def to_onnx(self) -> Any:
        """An `onnx.ModelProto` of opset 17, x (batch, inputs) to y (batch, outputs), in the dtype
        that the net asks for, else float32; a net with states has `state` and `next_state`, too.
        NccError E401 for a function that is not written as ONNX, E607, E637 without onnx."""
        return onnx_model(self.graph)

    def to_networkx(self) -> Any:
        """A `networkx.DiGraph`, its attributes those of ncc/formats/exporters/attributes.py.
        NccError E637 without networkx, E401 for a net that only passes make."""
        made = optional("networkx", "graphs").DiGraph(
            **directives(self.graph))
        made.add_nodes_from(nodes(self.graph, "graphml"))
        made.add_edges_from(edges(self.graph))
        return made

    def to_scipy(self, *, lossy: bool = False) -> Any:
        """The weights as a `scipy.sparse.csr_array` (n_neurons, n_neurons), w[i, j] of the edge
        from i to j. NccError E637 without scipy, E401 for what it cannot hold (left out with
        `lossy`), E607 for a weight without a value."""
        held = valued(rows(self.graph, "npz", lossy))
        sparse = optional("scipy.sparse", "graphs")
        return sparse.csr_array((held.weights, held.targets, held.starts),
                                shape=(self.n_neurons, self.n_neurons))

    @property
    def states(self) -> list[int]:
        """The neurons whose value of the last call is read, ascending: the order of the state."""
        return [int(i) for i in self.graph.states]

    @property
    def labels(self) -> dict[str, int | NDArray[np.int64]]:
        """The neurons that each label names: a number, or an array of numbers of its shape, which
        cannot be written to."""
        numbers = np.arange(self.n_neurons)
        numbers.setflags(write=False)
        return {name: numbers[first : first + prod(shape)].reshape(shape) if shape else first
                for first, name, shape in self.graph.labels}

    @property
    def params(self) -> Reals | None:
        """The canonical parameter vector (float64), which cannot be written to; None where a slot
        has no value."""
        values = self.graph.values
        return None if np.isnan(values).any() else fixed(values)

    def cost(self, target: str | None = None, *, dtype: Any = None, numerics: str | None = None,
             cpu: str | None = None, features: str = "", opt: int | str | None = None,
             embed: bool = False, backward: bool | None = None, train: str | None = None,
             form: str = "auto", count: bool = True) -> Cost:
        """What the net's object takes, as `ncc build` makes it: `.flash`, `.ram`, `.stack`,
        `.cycles`, ... of the returned card, whose `.text` is for people, `.to_dict()` for JSON.

        target, cpu, features, dtype, numerics, form
                  as the options of these names; None for their defaults
        opt       0 to 3, or "s" for the fewest bytes; None is 2, or "s" of small devices
        embed     whether the parameters are constants of the code; then there are no gradients
        backward  whether it has the gradient functions; None: if it can
        train     a loss and an optimizer, "mse,adam", of a training step
        count     whether instructions are counted, where unicorn is installed

        NccErrors E400, E602, E603, E607, E610 to E612, E630, as of `ncc build`.
        """
        return card(Chosen.of(self.graph, machine(target, cpu, features), dtype, numerics, opt,
                             embed, backward, train, form).build(), name="net", count=count)

    def verify(self, other: Any, x: ArrayLike | None = None, *, samples: int = 100, seed: int = 0,
               dtype: str | None = None, numerics: str | None = None, max_ulp: int | None = None,
               atol: float | None = None) -> Comparison:
        """This net's outputs beside another's, for x (n, n_inputs), or `samples` drawn from a
        normal distribution; `.ok` says whether all are within the limits, `.text` how far they are
        apart and which neuron is the first to differ.

        other     a Net, the path of a net file, a live network of neat-python's, an estimator of
                  scikit-learn's, a module or an exported program of torch's, a model of Keras's or
                  of ONNX, or a function: y (n, n_outputs) of x
        dtype, numerics
                  what this net, and another Net, is evaluated in; default: the net's, else f32
                  and fused
        max_ulp, atol
                  limits, by steps between neighbouring floats, and absolutely: within either. The
                  default is equal bits of nets, and 1e-5 (f64: 1e-12) of the largest output of
                  anything else

        ValueError for outputs of another shape, or an object that cannot be evaluated.
        """
        dtype, asked = arithmetic(self.graph, dtype, numerics)
        numerics = asked or "fused"
        real = np.float64 if dtype == "f64" else np.float32
        if x is None:
            x = np.random.default_rng(seed).normal(size=(samples, self.graph.n_inputs))
        rows = np.atleast_2d(np.asarray(x)).astype(real)
        limits = Limits(0)
        if isinstance(other, Net | str | Path):
            theirs = other if isinstance(other, Net) else load(other)
            found: Other | None = of_graph(theirs.graph, repr(theirs), dtype, numerics)
        else:
            found = of_object(other, Asked(self.graph, dtype, places=self.places))
            limits = limits_of("C", "f32" if found is None or found.single else dtype)
        if found is None:
            raise ValueError(f"a {type(other).__qualname__} cannot be evaluated")
        if max_ulp is not None or atol is not None:
            limits = Limits(max_ulp, atol or 0.0)
        return compared(self.graph, of_graph(self.graph, "", dtype, numerics).outputs(rows), found,
                        rows, limits, numerics)


def unroll(net: Net, steps: int) -> Net:
    """`steps` steps of a net with states, from the reset on, as one net without: x are the inputs
    of the first step, then those of the second, ..., y likewise; the parameters are the same
    vector. So it has gradients: those through time. NccError E161 where `steps` is no number from 1
    on, the net has no states, or it would be too large."""
    if steps < 1:
        raise NccError("E161", f"{steps} steps", help="ncc.unroll(net, 10)")
    return Net(unrolled(net.graph, steps=steps))


def fixed(values: Reals) -> Reals:
    """The same values where nobody can write to them: who tries is told by numpy."""
    view = values.view()
    view.flags.writeable = False
    return view


def parse(text: str, format: str = "nal", *, name: str = "<text>", activation: int | str = 0,
          outputs: str | None = None) -> Net:
    """The net that `text` says, in `format` nal, nam, nel or graph; NccError where it is wrong."""
    if format not in NETS:
        raise NccError("E102", f"no format {format}", help="one of " + ", ".join(NETS))
    source = Source(name, text)
    if format == "graph":
        if activation != 0 or outputs is not None:
            raise NccError("E609", "activation and outputs are for nets: a graph has them")
        read_back = FORMATS[format].read(source)
        return Net(read_back if read_back.levels is not None else order(read_back))
    read_net = FORMATS[format].read
    resolved = resolve(read_net(source), activation=activation, outputs=outputs)
    try:
        return Net(order(resolved))
    except NccError:  # a cycle, whose place wants the syntax: else that would cost its memory here
        return Net(order(resolved, source=source, syntax=read_net(source)))


def load(net: Any, format: str | None = None, *, source: str | None = None, **options: Any) -> Net:
    """The net in a file, of ncc's or another tool's, or in an object of another library.

    net      the path of a file, whose ending says what it is; or a list of paths, of a matrix each,
             for a net of layers; else the object: a network of neat-python's, an estimator of
             scikit-learn, a DiGraph of networkx, a matrix or a list of them, one a layer
    format   of a file of ncc's, whatever its ending: nal, nam, nel or graph
    source   the importer of a file of another tool, whatever its ending: `neat`, ...
    options  of ncc's formats those of `parse`; of others, fields of `Options` in
             ncc/formats/importers/foreign.py

    NccError where it cannot be read, or would be another function (E800 to E819).
    """
    if isinstance(net, list) and net and all(isinstance(each, str | Path) for each in net):
        files = [opened(each) for each in net]
        return Net(ordered(registry.read(files, source, Options(**options))))
    if not isinstance(net, str | Path):
        return _imported(registry.of_object(net, Options(**options)))
    if source is not None or (format is None and Path(net).suffix[1:] not in NETS
                              and registry.foreign_ending(net)):
        return _imported(registry.read([opened(net)], source, Options(**options)))
    text = read(net)
    return parse(text.text, format or Path(net).suffix[1:], name=text.name, **options)


def _imported(made: Imported) -> Net:
    return Net(ordered(made), made.tensors, made.places)


def from_torch(module: Any, example: Any = None, *, batch_dim: str = "0", no_fold: bool = False,
               drop_zeros: bool = False, trainable: str = "all") -> Net:
    """The net of a module of torch's (or an exported program), as it computes in evaluation, with
    the tensors of inputs one after another, row-major, and so the outputs. It is `load`, of a
    module.

    example    an input with a batch of 1, or a tuple of inputs
    batch_dim  "none" where the first axis of the example is no batch
    no_fold    a batch norm behind a convolution or a dense layer stays apart, with parameters of
               its own, instead of changing those of the layer
    drop_zeros leaves out weights of 0; those that a mask of torch.nn.utils.prune holds at 0 are no
               edges in any case
    trainable  "none": the module's parameters are constants

    `net.to_state_dict(params)` gives trained parameters the names and shapes of the module's.
    NccErrors E810: an operation that is no neurons'; E813: one of its values; E814: a batch whose
    samples do not stay apart; E815: no example; E817: an input that is not real.
    """
    return load(module, example=example, batch_dim=batch_dim, no_fold=no_fold,
                drop_zeros=drop_zeros, trainable=trainable)


def from_onnx(model: Any, *, shape: Mapping[str, Sequence[int]] | None = None,
              dim: Mapping[str, int] | None = None, batch_dim: str = "0", no_fold: bool = False,
              drop_zeros: bool = False, trainable: str = "all") -> Net:
    """The net of an ONNX model, a `ModelProto` or the path of a file, with the tensors of inputs
    one after another, row-major, and so the outputs. It is `load`, of a model.

    shape      shapes of inputs by name, where the model does not say them: {"x": (1, 3, 8, 8)}
    dim        sizes of axes that it only names: {"steps": 4}
    batch_dim  a first axis without a size is that of the batch; "none": it wants a size, too
    no_fold, drop_zeros, trainable
               as of `from_torch`; the parameters are the initialisers of reals

    NccErrors E801, E802: no model; E810: an operator that is no neurons'; E813: one of its values;
    E814: a shape that is not known, or a batch whose samples do not stay apart; E817: integers.
    """
    return load(model, **({"source": "onnx"} if isinstance(model, str | Path) else {}),
                shape=shape or {}, dim=dim or {}, batch_dim=batch_dim, no_fold=no_fold,
                drop_zeros=drop_zeros, trainable=trainable)


def from_neat(net: Any, config: Any = None, **options: Any) -> Net:
    """The net of a network of neat-python's, live: a FeedForwardNetwork, or a RecurrentNetwork,
    which is one with state; or of a genome under a configuration. It is `load`, of what these are.

    options  `fn` gives formulas in x of functions that are the user's own,
             {"my_act": "x*sigmoid(x)"}; `simple` makes one neuron of each node

    NccErrors E801 to E819, with the place in the network or the genome.
    """
    return load(net if config is None else (net, config), **options)


def from_sklearn(estimator: Any, *, logits: bool = False, drop_zeros: bool = False) -> Net:
    """The net of a fitted estimator of scikit-learn, or a pipeline of scalers and one: an
    MLPClassifier, a LogisticRegression, ... (ncc/formats/importers/sklearn/models.py has all).

    Its outputs are `predict_proba` of a classifier that has it, `decision_function` of one that has
    not, `predict` of a regressor; with `logits` the scores before softmax or logistic. `drop_zeros`
    leaves out weights of 0. It is `load`, of an estimator.

    NccErrors E801 (not fitted), E810 (not read as neurons), E816, E817, E819.
    """
    return load(estimator, logits=logits, drop_zeros=drop_zeros)


def from_keras(path: str | Path, *, trainable: str = "all", **options: Any) -> Net:
    """The net of a model that Keras 2 or 3 has saved, `.keras` or `.h5`, with weights: a Sequential
    or a Functional one, channels last, by h5py alone. Tensors of inputs are one after another,
    row-major, and so the outputs. It is `load`, of a file of Keras's.

    trainable  "none": the model's weights are constants

    `net.tensors` has the parameters by the names of layers: "dense/kernel". NccErrors E637 without
    h5py; E810: a layer that is no neurons', or code; E813: one of its options; E814: shapes that
    are not fixed; E815: weights without a model; E816: weights of another model.
    """
    return load(path, source="keras", trainable=trainable, **options)


def from_networkx(graph: Any, *, activation: str | int | None = None, **options: Any) -> Net:
    """The net of a DiGraph of networkx, by the attributes of its nodes and edges
    (ncc/formats/importers/graphs/attributes.py): activation, aggregation, bias, input, output;
    weight, tie, const. An in-list is in the order in which its edges were added.

    activation  of nodes that say none: a name or an expression in x; default identity
    options     `fn`, formulas in x of other names

    It is `load`, of a graph. NccErrors E801, E810 (undirected, parallel edges), E811, E812 (a
    cycle), E817.
    """
    return load(graph, activation=activation, **options)


def from_scipy(matrix: Any, *, activation: str | int | None = None, bias: float | None = None,
               transpose: bool = False, layered: bool = False, **options: Any) -> Net:
    """The net of a matrix of scipy.sparse or numpy. A square one is the adjacency matrix of a net,
    w[i, j] the weight of the edge from i to j; another is a layer from its rows to its columns; a
    list of matrices is a net of layers.

    activation  of all neurons but the inputs: a name or an expression in x; default identity
    bias        of all of them; default none
    transpose   whether matrices are (outputs, inputs)
    layered     whether a single square matrix is a layer
    options     `drop_zeros`, `fn`, `max_edges`

    It is `load`, of matrices. NccErrors E801, E812 (a cycle), E816 (shapes), E817, E819.
    """
    return load(matrix, activation=activation, bias=bias, transpose=transpose, layered=layered,
                **options)


def ordered(made: Imported) -> Graph:
    """An imported graph with its levels. NccError E812 for a cycle."""
    try:
        return order(made.graph)
    except NccError as error:
        raise NccError("E812", error.message, made, note=error.note,
                       help=made.on_cycle) from None


def read(path: str | Path) -> Source:
    """The text of a file, E101 where there is none."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise NccError("E101", f"cannot read {path}: {error.strerror or error}") from None
    return decode(str(path), data)
