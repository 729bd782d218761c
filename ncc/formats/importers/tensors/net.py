"""Arrays of neurons: a net built by whole arrays of the numbers of its neurons.

A tensor is `Neurons`, an array of neuron numbers, or `Weights`, an array of constants of which some
or all are parameters. Operations that only move elements (reshape, transpose, slice, concatenate)
move numbers and make no neurons; constants meet constants in float64; the rest makes rows of
neurons, each block with arrays of its own.

In an array of neuron numbers ZERO stands for an exact 0, as the border of a convolution has it: an
edge from there is none. ABSENT stands for what takes no part, as a masked score of attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncc.errors import NccError
from ncc.formats.importers.tensors.assembled import Assembled
from ncc.formats.importers.tensors.repeated import repeated
from ncc.ir.graph import AGGREGATIONS, NONE, Graph, Ints
from ncc.ir.labels import Label
from ncc.scalar.activations import FREE, code_of
from ncc.scalar.expressions import emit, expression
from ncc.scalar.numpy_eval import Numpy

ZERO: Final = -1
ABSENT: Final = -2
Reals = NDArray[np.float64]
Index = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Neurons:
    """A tensor of values that depend on the input: the numbers of its neurons (or ZERO, ABSENT),
    int32, in the tensor's shape."""

    ids: Ints

    @property
    def shape(self) -> tuple[int, ...]:
        return self.ids.shape

    def moved(self, index: Index) -> Neurons:
        """The same elements elsewhere: `index` makes an array of an array."""
        return Neurons(index(self.ids))


@dataclass(frozen=True, eq=False)
class Weights:
    """A tensor of constants: its values, and for those that are parameters their slots (int32, of
    the same shape; -1 where an element is none), or None where none is one."""

    values: Reals
    slots: Ints | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def moved(self, index: Index) -> Weights:
        return Weights(index(self.values), None if self.slots is None else index(self.slots))


Tensor = Neurons | Weights


class Block(NamedTuple):
    """Rows of one activation and aggregation: E edges of n rows.

    lengths  (n)  of the in-lists
    sources  (E)  neurons
    weights  (E)  parameter codes, a constant's being -1 - its place in the table
    biases   (n)  parameter codes or NONE
    """

    first: int
    activation: int
    aggregation: int
    lengths: NDArray[np.int64]
    sources: Ints
    weights: Ints
    biases: Ints


class Built(NamedTuple):
    """A graph; the parameters by name, for each element its slot in the canonical vector, -1 where
    nothing reads it; tensors on the way by name, for each element the number of its neuron, -1
    where it has none."""

    graph: Graph
    slots: dict[str, Ints]
    places: dict[str, Ints]


class TensorNet:
    """Inputs first, then blocks of neurons, each of which reads neurons before it.

        net = TensorNet()
        x = net.input("x", (4,))
        w = net.parameter("fc.weight", numpy_array)
        y = net.rows(x.ids[None], net.codes(w), None, "tanh")
    """

    def __init__(self, max_edges: int = 10**8, keep_zeros: bool = True) -> None:
        self.max_edges = max_edges
        self.keep_zeros = keep_zeros
        self.count = 0
        self.edges = 0
        self.blocks: list[Block] = []
        self.labels: list[Label] = []
        self.n_inputs = 0
        self.functions: dict[str, int] = {}
        self.values: list[Reals] = []
        self.n_slots = 0
        self.named: dict[str, Ints] = {}  # parameters by the names of their tool: slots
        self._table: dict[int, int] = {}  # bits of a constant: its place
        self._zero: int | None = None

    # -- tensors

    def input(self, name: str, shape: Sequence[int]) -> Neurons:
        """A tensor of further inputs, row-major, labelled with its name and shape."""
        if self.blocks:
            raise ValueError("inputs come first")
        ids = np.arange(self.count, self.count + prod(shape), dtype=np.int32).reshape(shape)
        if ids.size:
            self.labels.append(Label(self.count, name, tuple(shape)))
        self.count += ids.size
        self.n_inputs += ids.size
        return Neurons(ids)

    def parameter(self, name: str, values: ArrayLike) -> Weights:
        """A tensor of parameters, each element with a slot of its own."""
        held = np.asarray(values, np.float64)
        slots = np.arange(self.n_slots, self.n_slots + held.size,
                          dtype=np.int32).reshape(held.shape)
        self.n_slots += held.size
        self.values.append(held.ravel())
        if name:
            self.named[name] = slots
        return Weights(held, slots)

    def constants(self, values: ArrayLike) -> Weights:
        return Weights(np.asarray(values, np.float64))

    def fresh(self, made: Weights, name: str = "") -> Weights:
        """What was computed of parameters as parameters of its own; constants as they are."""
        return made if made.slots is None else self.parameter(name, made.values)

    def codes(self, held: Weights) -> Ints:
        """The parameter codes of a tensor of constants, in its shape."""
        flat = held.values.ravel() + 0.0 if held.slots is None else held.values.ravel()
        codes = np.empty(flat.size, np.int32)
        fixed = np.ones(flat.size, np.bool_)
        if held.slots is not None:
            slots = held.slots.ravel()
            fixed = slots < 0
            codes[~fixed] = slots[~fixed]
        if fixed.any():
            bits, where = np.unique(np.ascontiguousarray(flat[fixed]).view(np.int64),
                                    return_inverse=True)
            places = [self._table.setdefault(b, len(self._table)) for b in bits.tolist()]
            codes[fixed] = -1 - np.array(places, np.int32)[where]
        return codes.reshape(held.shape)

    def code(self, value: float) -> int:
        """The parameter code of one constant."""
        return int(self.codes(Weights(np.array(value)))[()])

    # -- neurons

    def rows(self, sources: NDArray[Any], weights: NDArray[Any] | int,
             biases: NDArray[Any] | int | None = None, activation: str = "identity",
             aggregation: str = "sum") -> Ints:
        """A neuron for each row: the numbers (n) of n neurons.

        sources      (n, k); an edge from ZERO or ABSENT is left out
        weights      codes, (n, k) or what broadcasts to that
        biases       codes (n), NONE where a row has none
        aggregation  of ncc's; `dots` makes the pairs of a dot
        activation   a name of ncc's or an expression in x

        NccError E819 beyond `max_edges`. Of a neuron that a row reads twice it reads a copy. A row
        without edges and without a bias is activation(0).
        """
        n, k = sources.shape
        self.fits(n * k)
        if aggregation != "dot":
            sources = self._distinct(sources)
        kept = sources >= 0
        lengths = kept.sum(axis=1, dtype=np.int64)
        total = int(lengths.sum())
        self.edges += total
        if self.edges > self.max_edges or self.count + n > 2**31 - 2:
            raise NccError("E819", f"{self.edges} edges and more, and {self.max_edges} are the "
                           "most", help="--max-edges gives another limit")
        wide = np.broadcast_to(np.asarray(weights, np.int32), (n, k))
        held = np.full(n, NONE, np.int32) if biases is None else np.broadcast_to(
            np.asarray(biases, np.int32), (n,)).copy()
        every = total == n * k
        bare = (lengths == 0) & (held == NONE)
        if bare.any():
            held[bare] = self.code(0.0)
        self.blocks.append(Block(
            self.count, self.activation(activation), AGGREGATIONS.index(aggregation), lengths,
            (sources.ravel() if every else sources[kept]).astype(np.int32),
            wide.ravel() if every else wide[kept], held))
        self.count += n
        return np.arange(self.count - n, self.count, dtype=np.int32)

    def dots(self, left: NDArray[Any], right: NDArray[Any],
             weights: NDArray[Any] | int | None = None, biases: NDArray[Any] | int | None = None,
             activation: str = "identity") -> Ints:
        """A neuron (n) for each row of pairs: the sum of products left * right * weight (n, k), as
        `rows`; a pair with ZERO or ABSENT in it is left out. Weights are 1 where none are given."""
        n, k = left.shape
        self.fits(2.0 * n * k)
        gone = (left < 0) | (right < 0)
        codes = np.broadcast_to(np.asarray(self.code(1.0) if weights is None else weights,
                                           np.int32), (n, k))
        held = None if biases is None else np.broadcast_to(np.asarray(biases, np.int32), (n,))
        bare = gone.all(axis=1)
        if bare.any():  # a dot has one pair at least
            made, rest = np.empty(n, np.int32), ~bare
            for rows, of in ((bare, None), (rest, left[rest])):
                mine = None if held is None else held[rows]
                if of is None:
                    made[rows] = self.rows(np.zeros((int(rows.sum()), 0), np.int32), 0, mine,
                                           activation)
                elif len(of):
                    made[rows] = self.dots(of, right[rows], codes[rows], mine, activation)
            return made
        sources = np.stack([left, right], axis=-1)
        sources[gone] = ZERO
        pairs = np.full((n, k, 2), self.code(1.0), np.int32)
        pairs[..., 0] = codes
        return self.rows(sources.reshape(n, 2 * k), pairs.reshape(n, 2 * k), held, activation,
                         "dot")

    def fits(self, terms: float) -> None:
        """NccError E819 where arrays of so many terms, of which some are edges, are too large."""
        if terms > 4 * self.max_edges:
            raise NccError("E819", f"{terms:.3g} terms, and {self.max_edges} edges are the most",
                           help="--max-edges gives another limit")

    def _distinct(self, sources: NDArray[Any]) -> NDArray[Any]:
        """The same sources, where a row reads a neuron again a copy of it."""
        found = repeated(sources)
        return sources if found is None else found.put(
            self.rows(found.neurons[:, None], self.code(1.0)))

    def activation(self, text: str) -> int:
        """The code of a name or an expression."""
        code = code_of(text)
        if code is None:
            code = self.functions.setdefault(text, FREE + len(self.functions))
        return code

    def zero(self) -> int:
        """A neuron that is 0, for where an edge that is none will not do."""
        if self._zero is None:
            self._zero = int(self.rows(np.zeros((1, 0), np.int32), 0, self.code(0.0))[0])
        return self._zero

    def neurons(self, held: Tensor) -> Neurons:
        """A tensor as neurons that are all there: constants as neurons with a bias alone."""
        if isinstance(held, Weights):
            flat = self.codes(held).ravel()
            return Neurons(self.rows(np.zeros((flat.size, 0), np.int32), 0, flat).reshape(
                held.shape))
        if (held.ids == ZERO).any():
            return Neurons(np.where(held.ids == ZERO, np.int32(self.zero()), held.ids))
        return held

    def sum_of(self, sources: Ints, weights: NDArray[Any] | int = 0, *, unit: bool = True,
               biases: NDArray[Any] | None = None, activation: str = "identity",
               aggregation: str = "sum") -> Neurons:
        """Neurons of the shape sources.shape[:-1] that read the last axis; `unit` weights are 1."""
        flat = sources.reshape(-1, sources.shape[-1])
        codes: NDArray[Any] | int = self.code(1.0) if unit else np.broadcast_to(
            weights, sources.shape).reshape(flat.shape)
        held = None if biases is None else np.broadcast_to(biases, sources.shape[:-1]).ravel()
        return Neurons(self.rows(flat, codes, held, activation, aggregation).reshape(
            sources.shape[:-1]))

    def computed(self, text: str, values: Reals) -> Reals:
        """An activation or expression of constants."""
        e = Numpy("f64", True)
        functions = {code: word for word, code in self.functions.items()}
        with np.errstate(all="ignore"):
            found = emit(expression(self.activation(text), functions), e, values)
        return np.asarray(np.broadcast_to(found, values.shape), np.float64)

    # -- the graph

    def graph(self, outputs: Sequence[tuple[str, Tensor]], *, dtype: str | None = None,
              numerics: str | None = None, between: Iterable[tuple[str, Tensor]] = ()
              ) -> Built:
        """The graph whose outputs are these tensors, one after another, row-major, each labelled
        where its neurons stand in a row, as are tensors `between` of which no neuron has a label
        yet.

        Neurons that no output sees are left out (inputs are not), and so are those whose only
        reader is an activation of just their value, which they get instead.
        """
        ids = self._outputs(outputs)
        held = Assembled(self, ids)
        labels = [*self.labels]
        at = 0
        for name, tensor in outputs:
            mine = held.number[ids[at : at + prod(tensor.shape)]]
            at += len(mine)
            if len(mine) and (np.diff(mine) == 1).all() and mine[0] >= self.n_inputs and all(
                    name != label.name for label in labels):
                labels.append(Label(int(mine[0]), name, tuple(tensor.shape)))
        places = {name: held.places(tensor.ids) for name, tensor in between
                  if isinstance(tensor, Neurons)}
        labels += held.labels_of(places, labels)
        return Built(held.graph(tuple(labels), dtype, numerics), held.parameters(), places)

    def _outputs(self, outputs: Sequence[tuple[str, Tensor]]) -> Ints:
        """The neurons of all outputs, each once: an input or a neuron that comes again is copied by
        a neuron of its own."""
        all_of_them = [self.neurons(tensor).ids.ravel() for _, tensor in outputs]
        ids = np.concatenate(all_of_them) if all_of_them else np.zeros(0, np.int32)
        again = np.ones(len(ids), np.bool_)
        again[np.unique(ids, return_index=True)[1]] = False
        again |= ids < self.n_inputs
        if again.any():
            ids = ids.copy()
            ids[again] = self.rows(ids[again][:, None], self.code(1.0))
        return ids
