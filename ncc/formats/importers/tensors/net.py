"""Arrays of neurons: a net built by whole arrays of the numbers of its neurons.

A tensor is `Neurons`, an array of neuron numbers, or `Weights`, an array of constants of which some
or all are parameters. Operations that only move elements (reshape, transpose, slice, concatenate)
move numbers and make no neurons; constants meet constants in float64; the rest makes rows of
neurons, each block with arrays of its own.

In an array of neuron numbers ZERO stands for an exact 0, as the border of a convolution has it: an
edge from there is none. ABSENT stands for what takes no part, as a masked score of attention.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncc.errors import NccError
from ncc.formats.importers.tensors.repeated import repeated
from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph, Ints
from ncc.ir.labels import Label
from ncc.scalar.activations import FREE, code_of
from ncc.scalar.expressions import emit, expression
from ncc.scalar.numpy_eval import Numpy

ZERO: Final = -1
ABSENT: Final = -2
SUM: Final = AGGREGATIONS.index("sum")
LINEAR: Final = 0  # the code of the identity
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
        activation   a name of ncc's or an expression in x

        NccError E819 beyond `max_edges`. Of a neuron that a row reads twice it reads a copy. A row
        without edges and without a bias is activation(0).
        """
        n, k = sources.shape
        self.fits(n * k)
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
              ) -> tuple[Graph, dict[str, Ints]]:
        """The graph whose outputs are these tensors, one after another, row-major, each labelled
        where its neurons stand in a row, as are tensors `between` of which no neuron has a label
        yet; and the parameters by name: for each element its slot in the canonical vector, -1 where
        nothing reads it.

        Neurons that no output sees are left out (inputs are not), and so are those whose only
        reader is an activation of just their value, which they get instead.
        """
        ids = self._outputs(outputs)
        held = _Assembled(self, ids)
        labels = [*self.labels]
        at = 0
        for name, tensor in outputs:
            mine = held.number[ids[at : at + prod(tensor.shape)]]
            at += len(mine)
            if len(mine) and (np.diff(mine) == 1).all() and mine[0] >= self.n_inputs and all(
                    name != label.name for label in labels):
                labels.append(Label(int(mine[0]), name, tuple(tensor.shape)))
        labels += held.labels_of(between, labels)
        return held.graph(tuple(labels), dtype, numerics), held.parameters()

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


class _Assembled:
    """All blocks as one list of neurons, without what is dead and with activations put where they
    belong; `number` says what each neuron of the builder's is then (-1: nothing)."""

    def __init__(self, net: TensorNet, outputs: Ints) -> None:
        self.net = net
        blocks = net.blocks
        n = net.count
        self.lengths = np.concatenate([np.zeros(net.n_inputs, np.int64),
                                       *(b.lengths for b in blocks)])
        self.starts = csr.starts(self.lengths)
        self.sources = np.concatenate([np.zeros(0, np.int32), *(b.sources for b in blocks)])
        self.weights = np.concatenate([np.zeros(0, np.int32), *(b.weights for b in blocks)])
        self.biases = np.concatenate([np.full(net.n_inputs, NONE, np.int32),
                                      *(b.biases for b in blocks)])
        self.activations = np.full(n, INPUT, np.int32)
        self.aggregations = np.zeros(n, np.int8)
        for b in blocks:
            at = slice(b.first, b.first + len(b.lengths))
            self.activations[at], self.aggregations[at] = b.activation, b.aggregation
        live = self._live(outputs)
        own = self.activations.copy()
        into = self._fused(live, outputs)  # what each neuron is read as
        self.same = own == self.activations[into]  # whose value it still is
        kept = live & (into == np.arange(n))
        self.number = np.full(n, -1, np.int64)
        self.number[kept] = np.arange(int(kept.sum()))
        self.number = self.number[into]
        self.number[~live] = -1
        self.kept, self.outputs = kept, outputs

    def _live(self, outputs: Ints) -> NDArray[np.bool_]:
        """Which neurons an output sees; blocks only read those before them."""
        live = np.zeros(self.net.count, np.bool_)
        live[: self.net.n_inputs] = True
        live[outputs] = True
        for b in reversed(self.net.blocks):
            mine = live[b.first : b.first + len(b.lengths)]
            if mine.all():
                live[b.sources] = True
            elif mine.any():
                live[b.sources[np.repeat(mine, b.lengths)]] = True
        return live

    def _fused(self, live: NDArray[np.bool_], outputs: Ints) -> NDArray[np.int64]:
        """An identity whose one reader is f(1 * it) becomes f, and the reader is it."""
        n = self.net.count
        target = csr.owners(self.starts)
        readers = np.bincount(self.sources[live[target]], minlength=n)
        readers[outputs] += 2  # an output stays what it is
        one = self.net.code(1.0)
        alone = ((self.lengths == 1) & (self.aggregations == SUM) & (self.biases == NONE)
                 & (self.activations != INPUT) & live)
        at = np.flatnonzero(alone)
        source = self.sources[self.starts[at]]
        good = ((self.weights[self.starts[at]] == one) & (self.activations[source] == LINEAR)
                & (readers[source] == 1))
        into = np.arange(n, dtype=np.int64)
        pairs = dict(zip(at[good].tolist(), source[good].tolist(), strict=True))
        for reader, read in pairs.items():  # ascending: a chain ends at its first neuron
            root = int(into[read])
            if self.activations[root] == LINEAR:
                self.activations[root] = self.activations[reader]
                into[reader] = root
        return into

    def graph(self, labels: tuple[Label, ...], dtype: str | None, numerics: str | None) -> Graph:
        net, kept = self.net, self.kept
        edges = np.repeat(kept, self.lengths)
        starts = csr.starts(self.lengths[kept])
        sources = self.number[self.sources[edges]].astype(np.int32)
        weights, biases = self.weights[edges].copy(), self.biases[kept].copy()
        values = np.concatenate([np.zeros(0), *net.values])
        # Slots by first appearance: by target, in-list, then the bias.
        codes = np.insert(weights, starts[1:], biases)
        used = codes[codes >= 0]
        slots, first, times = np.unique(used, return_index=True, return_counts=True)
        by = np.argsort(first, kind="stable")
        self.slot = np.full(net.n_slots, -1, np.int64)
        self.slot[slots[by]] = np.arange(len(slots))
        for held in (weights, biases):
            at = held >= 0
            held[at] = self.slot[held[at]]
        table = np.array(list(net._table), np.int64).view(np.float64)
        shared = slots[times > 1]
        graph = Graph(
            starts=starts, sources=sources, weights=weights, biases=biases,
            activations=self.activations[kept], aggregations=self.aggregations[kept],
            inputs=np.arange(net.n_inputs, dtype=np.int32),
            outputs=self.number[self.outputs].astype(np.int32), values=values[slots[by]],
            constants=table, names=self._names(shared),
            functions={code: text for text, code in net.functions.items()
                       if bool((self.activations[kept] == code).any())},
            labels=self._labels(labels), numerics=numerics, dtype=dtype)
        graph.verify()
        return graph

    def labels_of(self, tensors: Iterable[tuple[str, Tensor]], labels: Sequence[Label]
                  ) -> list[Label]:
        """Labels of those tensors whose neurons stand in a row and have none yet."""
        taken = np.zeros(self.net.count + 1, np.bool_)
        names = {label.name for label in labels}
        for label in labels:
            taken[label.first : label.first + max(label.size, 1)] = True
        made = []
        for name, tensor in tensors:
            ids = tensor.ids.ravel() if isinstance(tensor, Neurons) else np.zeros(0, np.int32)
            if name in names or not ids.size or ids.min() < 0 or not self.same[ids].all():
                continue
            mine = self.number[ids]
            if mine[0] >= 0 and (np.diff(mine) == 1).all() and not taken[mine].any():
                made.append(Label(int(mine[0]), name, tuple(tensor.shape)))
                taken[mine] = True
                names.add(name)
        return made

    def _labels(self, labels: Iterable[Label]) -> tuple[Label, ...]:
        n = int(self.kept.sum())
        return tuple(label for label in labels if label.first + label.size <= n)

    def _names(self, shared: Ints) -> dict[int, str]:
        """Names of the slots that several edges share: the parameter's and the element's number."""
        owner = np.full(self.net.n_slots, -1, np.int64)
        place = np.zeros(self.net.n_slots, np.int64)
        words = []
        for k, (name, slots) in enumerate(self.net.named.items()):
            here = np.flatnonzero(slots.ravel() >= 0)
            owner[slots.ravel()[here]] = k
            place[slots.ravel()[here]] = here
            words.append(re.sub(r"\W", "_", name, flags=re.ASCII))
        found = {}
        for slot, who, k in zip(shared.tolist(), owner[shared].tolist(), place[shared].tolist(),
                                strict=True):
            found[int(self.slot[slot])] = f"{words[who]}_{k}" if who >= 0 else f"t_{slot}"
        return {slot: word if word[:1].isalpha() or word[:1] == "_" else f"p_{word}"
                for slot, word in sorted(found.items())}

    def parameters(self) -> dict[str, Ints]:
        return {name: np.where(slots >= 0, self.slot[slots], -1).astype(np.int32) if self.slot.size
                else slots for name, slots in self.net.named.items()}
