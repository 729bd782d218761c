"""Many nets as one graph, so that array code goes over all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncc.errors import NccError
from ncc.ir.csr import starts, within
from ncc.ir.graph import (
    ABSENT,
    AGGREGATIONS,
    INPUT,
    NONE,
    PAIR_CODES,
    Graph,
    Ints,
    Longs,
    refuse_states,
    settled,
)
from ncc.ir.labels import Label
from ncc.scalar.activations import FREE


class Says(NamedTuple):
    """What a net's file says that no value depends on: fields of `Graph`."""

    shows_inputs: bool
    labels: tuple[Label, ...]
    numerics: str | None
    dtype: str | None


SILENT = Says(False, (), None, None)


@dataclass(frozen=True, eq=False)
class Union:
    """A graph of nets that share nothing but their functions. Net k has the neurons `first[k]` ..
    `first[k + 1]`, of the parameters `slots[k]` .. `slots[k + 1]` and constants of its own; inputs
    and outputs stand net by net, of each net as many. The graph says nothing; what the files of the
    nets do is in `says`, of each net, or of none where no file says anything."""

    graph: Graph
    first: Longs
    slots: Longs
    says: tuple[Says, ...] = ()

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def n_inputs(self) -> int:
        return len(self.graph.inputs) // max(1, len(self))

    @property
    def n_outputs(self) -> int:
        return len(self.graph.outputs) // max(1, len(self))

    def rows(self) -> tuple[Longs, Longs]:
        """The neurons that are computed, ascending, and the net of each."""
        g = self.graph
        rows = np.flatnonzero((g.activations != INPUT) & (g.activations != ABSENT))
        bounds = np.searchsorted(rows, self.first)
        return rows, np.repeat(np.arange(len(self)), np.diff(bounds))

    def verify(self, recurrent: bool = False) -> None:
        """Raise NccError (E301, status 3) unless the graph is one, but for the levels of
        `recurrent` nets, and consists of nets that share nothing. Of any other the images would
        lead out of their memory."""
        g, count = self.graph, len(self)
        for bounds, end in ((self.first, g.n_neurons), (self.slots, g.n_params)):
            if len(bounds) != count + 1 or bounds[0] or bounds[-1] != end or (
                    np.diff(bounds) < 0).any():
                raise NccError("E301", "the bounds of the nets do not ascend to the end")
        # Names are unique in a net, not among nets.
        if g.levels is None and not recurrent:
            raise NccError("E301", "nets without levels")
        g = g.with_(levels=None if recurrent else g.levels, names={})
        g.verify()
        if not np.array_equal(g.aggregations, settled(g.starts, g.aggregations)):
            raise NccError("E301", "a sumbias without an in-list")
        net = np.repeat(np.arange(count), np.diff(self.first))
        slot = np.repeat(np.arange(count), np.diff(self.slots))
        targets = np.repeat(net, np.diff(g.starts))
        for name, mine, owner in (("an input", net[g.inputs], None),
                                  ("an output", net[g.outputs], None),
                                  ("a source", net[g.sources], targets),
                                  ("a weight", slot[g.weights[g.weights >= 0]],
                                   targets[g.weights >= 0]),
                                  ("a bias", slot[g.biases[g.biases >= 0]], net[g.biases >= 0])):
            if owner is None:  # of each net as many
                if len(mine) % count:
                    raise NccError("E301", f"{name} more than other nets have")
                owner = np.repeat(np.arange(count), len(mine) // count)
            if not np.array_equal(mine, owner):
                raise NccError("E301", f"{name} of another net")
        if g.levels is not None and (len(g.levels) != g.n_neurons or g.n_neurons and not (
                0 <= g.levels.min() and g.levels.max() < g.n_neurons)):
            raise NccError("E301", "a level that no net has")
        if len(self.says) not in (0, count):
            raise NccError("E301", "what the files of the nets say is not that of each")
        for k, says in enumerate(self.says):
            if says != SILENT:
                self.net(k).verify()

    def net(self, k: int) -> Graph:
        """The graph of net k."""
        part = self.part(k, k + 1)
        return part.graph.with_(**part.says[0]._asdict()) if self.says else part.graph

    def part(self, first: int, last: int) -> Union:
        """The union of the nets first .. last."""
        g = self.graph
        low, high = int(self.first[first]), int(self.first[last])
        slot, end = int(self.slots[first]), int(self.slots[last])
        edges = slice(int(g.starts[low]), int(g.starts[high]))
        n_in, n_out = self.n_inputs, self.n_outputs
        codes = np.concatenate([g.weights[edges], g.biases[low:high]])
        fixed = np.unique(codes[(codes < 0) & (codes != NONE)])[::-1]  # -1-c, c ascending

        def moved(given: Ints) -> Ints:
            # searchsorted wants them ascending.
            own = -1 - np.searchsorted(-fixed, -given.astype(np.int64))
            return np.where(given == NONE, NONE, np.where(given >= 0, given - slot, own)
                            ).astype(np.int32)

        used = np.unique(g.activations[low:high]).tolist()
        graph = Graph(
            starts=g.starts[low : high + 1] - g.starts[low],
            sources=g.sources[edges] - np.int32(low),
            weights=moved(g.weights[edges]), biases=moved(g.biases[low:high]),
            activations=g.activations[low:high].copy(),
            aggregations=g.aggregations[low:high].copy(),
            inputs=g.inputs[first * n_in : last * n_in] - np.int32(low),
            outputs=g.outputs[first * n_out : last * n_out] - np.int32(low),
            values=g.values[slot:end].copy(), constants=g.constants[-1 - fixed],
            names={s - slot: name for s, name in g.names.items() if slot <= s < end},
            functions={code: text for code, text in g.functions.items() if code in used},
            levels=None if g.levels is None else g.levels[low:high].copy())
        return Union(graph, self.first[first : last + 1] - low, self.slots[first : last + 1] - slot,
                     self.says[first:last])


def union(graphs: Sequence[Graph]) -> Union:
    """The union of graphs, all with levels or all without. NccError E650 where they have not as
    many inputs and outputs as the first one, or where there is none."""
    if not graphs:
        raise NccError("E650", "a population has a net at least")
    for g in graphs:
        refuse_states(g, "an image")
    shapes = [(len(g.inputs), len(g.outputs)) for g in graphs]
    for k, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise NccError("E650", f"net {k} has {shape[0]} inputs and {shape[1]} outputs, net 0 "
                                   f"has {shapes[0][0]} and {shapes[0][1]}")
    texts: dict[str, int] = {}
    recoded = [_recoded(g, texts) for g in graphs]
    first = starts(np.array([g.n_neurons for g in graphs]))
    slots = starts(np.array([g.n_params for g in graphs]))
    constants = starts(np.array([len(g.constants) for g in graphs]))
    edges = starts(np.array([g.n_edges for g in graphs]))

    def codes(given: Sequence[Ints]) -> Ints:
        """Parameter codes, moved to the union's slots and constants."""
        sizes = [len(c) for c in given]
        all_ = np.concatenate(given).astype(np.int64)
        slot, constant = [np.repeat(by[:-1], sizes) for by in (slots, constants)]
        out = np.where(all_ >= 0, all_ + slot, all_ - constant)
        return np.where(all_ == NONE, NONE, out).astype(np.int32)

    by_neuron = np.repeat(first[:-1], [g.n_edges for g in graphs])
    says = tuple([Says(*[getattr(g, name) for name in Says._fields]) for g in graphs])
    graph = Graph(
        starts=np.concatenate([np.concatenate([g.starts[:-1] for g in graphs]) + np.repeat(
            edges[:-1], np.diff(first)), edges[-1:]]),
        sources=(np.concatenate([g.sources for g in graphs]) + by_neuron).astype(np.int32),
        weights=codes([g.weights for g in graphs]), biases=codes([g.biases for g in graphs]),
        activations=np.concatenate(recoded),
        aggregations=np.concatenate([g.aggregations for g in graphs]),
        inputs=_moved([g.inputs for g in graphs], first),
        outputs=_moved([g.outputs for g in graphs], first),
        values=np.concatenate([g.values for g in graphs]),
        constants=np.concatenate([g.constants for g in graphs]),
        names={s + int(slot): name for g, slot in zip(graphs, slots, strict=False)
               for s, name in g.names.items()},
        functions={code: text for text, code in texts.items()},
        levels=None if graphs[0].levels is None else np.concatenate(
            [g.levels for g in graphs if g.levels is not None]))
    return Union(graph, first, slots, says if any([s != SILENT for s in says]) else ())


def _moved(parts: Sequence[Ints], first: Longs) -> Ints:
    by = np.repeat(first[:-1], [len(p) for p in parts])
    return (np.concatenate(parts) + by).astype(np.int32)


def _recoded(graph: Graph, texts: dict[str, int]) -> Ints:
    """The activation codes, where a function has the code that its text has in all nets."""
    codes = graph.activations
    for code, text in graph.functions.items():
        new = texts.setdefault(text, FREE + len(texts))
        if new != code:
            codes = codes.copy() if codes is graph.activations else codes
            codes[graph.activations == code] = new
    return codes


# ---- of arrays


def from_edges(n_inputs: int, n_outputs: int, neurons: ArrayLike, net: ArrayLike,
               source: ArrayLike, target: ArrayLike, activation: ArrayLike,
               weight: ArrayLike | None, bias: ArrayLike | None,
               aggregation: ArrayLike | None) -> Union:
    """See `Population.from_edges`."""
    first = starts(np.asarray(neurons, np.int64))
    count, total = len(first) - 1, int(first[-1])
    if count == 0:
        raise NccError("E650", "a population has a net at least")
    if (np.diff(first) < n_inputs + n_outputs).any() or n_inputs < 0 or n_outputs < 1:
        k = int(np.argmax(np.diff(first) < n_inputs + n_outputs))
        raise NccError("E650", f"net {k} has {int(np.diff(first)[k])} neurons, and is to have "
                               f"{n_inputs} inputs and {n_outputs} outputs")
    nets = np.asarray(net, np.int64)
    ends = [np.asarray(given, np.int64) for given in (source, target)]
    for name, numbers, least in (("source", ends[0], 0), ("target", ends[1], n_inputs)):
        if numbers.shape != nets.shape:
            raise ValueError(f"{name} has shape {numbers.shape}, net has {nets.shape}")
        bad = np.flatnonzero((nets < 0) | (nets >= count) | (numbers < least) | (
            numbers >= np.diff(first)[np.clip(nets, 0, count - 1)]))
        if len(bad):
            raise NccError("E650", f"edge {bad[0]}: {name} {numbers[bad[0]]} of net "
                                   f"{nets[bad[0]]} is none")
    targets = first[nets] + ends[1]
    by = np.argsort(targets, kind="stable")
    lengths = np.bincount(targets, minlength=total)
    places = within(np.diff(first))
    rows = places >= n_inputs

    def of_neurons(given: ArrayLike | None, usual: float) -> NDArray[Any]:
        values = np.full(total, usual) if given is None else np.asarray(given)
        if values.shape != (total,):
            raise ValueError(f"of {total} neurons there are values of shape {values.shape}")
        return values

    biases = of_neurons(bias, np.nan)
    biased = ~np.isnan(biases) & rows
    bare = np.flatnonzero(rows & ~biased & (lengths == 0))
    if len(bare):
        k = int(np.searchsorted(first, bare[0], "right")) - 1
        raise NccError("E650", f"neuron {bare[0] - first[k]} of net {k} has neither edges nor bias")
    folds = np.where(rows, of_neurons(aggregation, 0), 0)
    wrong = np.flatnonzero((folds < 0) | (folds >= len(AGGREGATIONS)) | np.isin(folds, PAIR_CODES))
    if len(wrong):
        k = int(np.searchsorted(first, wrong[0], "right")) - 1
        raise NccError("E650", f"neuron {wrong[0] - first[k]} of net {k} has the aggregation "
                       f"{folds[wrong[0]]}, which is none of single edges")
    csr = starts(lengths)
    if weight is None:  # one for all edges of a net; its biases behind it
        slots = starts(1 + np.add.reduceat(biased.astype(np.int64), first[:-1]))
        weights = slots[nets[by]]
        own = np.cumsum(biased) - biased
        before = own - np.repeat(own[first[:-1]], np.diff(first))
        codes = np.repeat(slots[:-1], np.diff(first)) + 1 + before
        values = np.full(int(slots[-1]), np.nan)
    else:
        given = np.asarray(weight, np.float64)
        if given.shape != nets.shape:
            raise ValueError(f"weight has shape {given.shape}, net has {nets.shape}")
        plain, codes = _plain(csr, biased)
        weights = plain.astype(np.int64)
        slots = (csr + starts(biased))[first]
        values = np.empty(int(slots[-1]))
        values[weights] = given[by]
    values[codes[biased]] = biases[biased]
    activations = np.where(rows, of_neurons(activation, 0), INPUT).astype(np.int32)
    graph = Graph(
        starts=csr, sources=(first[nets] + ends[0])[by].astype(np.int32),
        weights=weights.astype(np.int32), biases=np.where(biased, codes, NONE).astype(np.int32),
        activations=activations,
        aggregations=settled(csr, folds.astype(np.int8)),
        inputs=np.flatnonzero(~rows).astype(np.int32),
        outputs=(np.repeat(first[1:], n_outputs) - n_outputs + np.tile(
            np.arange(n_outputs), count)).astype(np.int32),
        values=values, constants=np.zeros(0))
    return Union(graph, first, slots)


# ---- as few bytes as its numbers need


def packed(many: Union) -> dict[str, Any]:
    """What `unpacked` makes the union of again: neurons and slots are counted from their net's
    first, integers take as few bytes as the largest of them."""
    g = many.graph
    edges = np.diff(g.starts[many.first])
    neurons = np.diff(many.first)
    plain = all(map(np.array_equal, (g.weights, g.biases), _plain(g.starts, g.biases != NONE)))
    held = {
        "lengths": np.diff(g.starts), "neurons": neurons, "slots": np.diff(many.slots),
        "activations": g.activations, "aggregations": g.aggregations, "levels": g.levels,
        "sources": g.sources - np.repeat(many.first[:-1], edges),
        "inputs": g.inputs - np.repeat(many.first[:-1], many.n_inputs),
        "outputs": g.outputs - np.repeat(many.first[:-1], many.n_outputs),
        # Where each edge and bias has a slot of its own, in order, a bit says which there are.
        "biases": np.packbits(g.biases != NONE) if plain else g.biases,
        "weights": None if plain else g.weights}
    return {**{name: a if a is None or not a.size else a.astype(np.result_type(
        np.min_scalar_type(a.min()), np.min_scalar_type(a.max()))) for name, a in held.items()},
        "values": g.values, "constants": g.constants, "names": g.names, "functions": g.functions,
        "says": [(shows, [tuple(label) for label in labels], *rest)
                 for shows, labels, *rest in many.says]}


def unpacked(held: dict[str, Any], recurrent: bool = False) -> Union:
    """The union that `packed` was made of, verified: it comes from outside."""
    first, slots = starts(held["neurons"]), starts(held["slots"])
    begins = starts(held["lengths"])
    count = len(first) - 1

    def moved(name: str, sizes: Any) -> Ints:
        numbers: Longs = held[name] + np.repeat(first[:-1], sizes)
        return numbers.astype(np.int32)

    if held["weights"] is None:
        biased = np.unpackbits(held["biases"], count=int(first[-1])).astype(bool)
        weights, biases = _plain(begins, biased)
    else:
        weights, biases = [held[name].astype(np.int32) for name in ("weights", "biases")]
    levels = held["levels"]
    graph = Graph(
        starts=begins, sources=moved("sources", np.diff(begins[first])), weights=weights,
        biases=biases, activations=held["activations"].astype(np.int32),
        aggregations=held["aggregations"].astype(np.int8),
        inputs=moved("inputs", len(held["inputs"]) // count),
        outputs=moved("outputs", len(held["outputs"]) // count), values=held["values"],
        constants=held["constants"], names=held["names"], functions=held["functions"],
        levels=None if levels is None else levels.astype(np.int32))
    says = tuple([Says(shows, tuple([Label(*label) for label in labels]), *rest)
                  for shows, labels, *rest in held["says"]])
    made = Union(graph, first, slots, says)
    made.verify(recurrent)
    return made


def _plain(begins: Longs, biased: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """The codes of weights and biases where each has a slot of its own, in canonical order."""
    before: Longs = np.cumsum(biased) - biased
    weights = np.arange(begins[-1]) + np.repeat(before, np.diff(begins))
    biases = np.where(biased, begins[1:] + before, NONE)
    return weights.astype(np.int32), biases.astype(np.int32)
