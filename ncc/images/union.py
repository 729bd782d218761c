"""Many nets as one graph, so that array code goes over all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ncc.errors import NccError
from ncc.ir.graph import ABSENT, INPUT, NONE, Graph, Ints, Longs
from ncc.scalar.activations import FREE


@dataclass(frozen=True, eq=False)
class Union:
    """A graph of nets that share nothing but their functions. Net k has the neurons `first[k]` ..
    `first[k + 1]`, of the parameters `slots[k]` .. `slots[k + 1]` and constants of its own; inputs
    and outputs stand net by net, of each net as many."""

    graph: Graph
    first: Longs
    slots: Longs

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

    def net(self, k: int) -> Graph:
        """The graph of net k."""
        return self.part(k, k + 1).graph

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
        return Union(graph, self.first[first : last + 1] - low, self.slots[first : last + 1] - slot)


def union(graphs: Sequence[Graph]) -> Union:
    """The union of graphs, all with levels or all without. NccError E650 where they have not as
    many inputs and outputs as the first one, or where there is none."""
    if not graphs:
        raise NccError("E650", "a population has a net at least")
    shapes = [(len(g.inputs), len(g.outputs)) for g in graphs]
    for k, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise NccError("E650", f"net {k} has {shape[0]} inputs and {shape[1]} outputs, net 0 "
                                   f"has {shapes[0][0]} and {shapes[0][1]}")
    texts: dict[str, int] = {}
    recoded = [_recoded(g, texts) for g in graphs]
    first = _sums([g.n_neurons for g in graphs])
    slots = _sums([g.n_params for g in graphs])
    constants = _sums([len(g.constants) for g in graphs])
    edges = _sums([g.n_edges for g in graphs])

    def codes(given: Sequence[Ints]) -> Ints:
        """Parameter codes, moved to the union's slots and constants."""
        sizes = [len(c) for c in given]
        all_ = np.concatenate(given).astype(np.int64)
        slot, constant = [np.repeat(by[:-1], sizes) for by in (slots, constants)]
        out = np.where(all_ >= 0, all_ + slot, all_ - constant)
        return np.where(all_ == NONE, NONE, out).astype(np.int32)

    by_neuron = np.repeat(first[:-1], [g.n_edges for g in graphs])
    graph = replace(
        graphs[0],
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
    return Union(graph, first, slots)


def _sums(counts: Sequence[int]) -> Longs:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


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
