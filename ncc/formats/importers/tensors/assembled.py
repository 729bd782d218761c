"""What a net of arrays is as a graph: blocks of neurons one after another, without what is dead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncc.formats.importers.tensors.simplified import (
    LINEAR,
    SUM,
    Rows,
    without_quotients,
    without_sums,
)
from ncc.ir import csr
from ncc.ir.graph import INPUT, NONE, Graph, Ints
from ncc.ir.labels import Label, fault


class Assembled:
    """All blocks of a TensorNet `net` as one list of neurons, without what is dead and with
    activations put where they belong; `number` says what each neuron of the builder's is then
    (-1: nothing)."""

    def __init__(self, net: Any, outputs: Ints) -> None:
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
        own = self.activations.copy()
        live = self._simplified(self._live(outputs), outputs)
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
            rows = slice(b.first, b.first + len(b.lengths))
            sources = self.sources[self.starts[rows.start] : self.starts[rows.stop]]
            mine = live[rows]
            if mine.all():
                live[sources] = True
            elif mine.any():
                live[sources[np.repeat(mine, self.lengths[rows])]] = True
        return live

    def _simplified(self, live: NDArray[np.bool_], outputs: Ints) -> NDArray[np.bool_]:
        """Without neurons that their readers take in; which are live then."""
        kept = self.activations == INPUT
        kept[outputs] = True
        rows = Rows(self.lengths, self.sources, self.weights, self.biases, self.activations,
                    self.aggregations, kept)
        for change in (without_sums, without_quotients):
            if change(self.net, rows, live):
                self.lengths, self.starts = rows.lengths, rows.starts
                self.sources, self.weights = rows.sources, rows.weights
                live = self._live(outputs)
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

    def places(self, ids: Ints) -> Ints:
        """The number of the neuron that has the value of each element of a tensor of the builder's
        numbers; -1 where none has."""
        there = np.asarray(ids >= 0)
        there[there] = self.same[ids[there]]
        return np.where(there, self.number[ids], -1).astype(np.int32)

    def labels_of(self, places: dict[str, Ints], labels: Sequence[Label]) -> list[Label]:
        """Labels of those tensors whose neurons stand in a row and have none yet."""
        taken = np.zeros(self.net.count + 1, np.bool_)
        names = {label.name for label in labels}
        for label in labels:
            taken[label.first : label.first + max(label.size, 1)] = True
        made = []
        for name, held in places.items():
            mine = held.ravel()
            if name in names or not mine.size or mine[0] < 0:
                continue
            if (np.diff(mine) == 1).all() and not taken[mine].any():
                made.append(Label(int(mine[0]), name, held.shape))
                taken[mine] = True
                names.add(name)
        return made

    def _labels(self, labels: Iterable[Label]) -> tuple[Label, ...]:
        """Those that may be: not by a name that is no printable text."""
        n = int(self.kept.sum())
        return tuple(label for label in labels if fault([label], n) is None)

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
