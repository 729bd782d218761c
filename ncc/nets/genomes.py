"""Genomes of neat-python as nets: a whole population at once, by array code.

A node is activation(bias + response * aggregation(source * weight, ...)), the enabled connections
in the order of the genome's dict; nodes that no output depends on are dropped. A row of ncc's is
activation(bias + aggregation), so

- a sum's response goes into its weights;
- a node with another aggregation is two rows, the aggregate and activation(bias + response * it):
  no product is rounded in another way, and activations and aggregations need no row for each pair.
  Recurrent nets have these second rows at a level of their own, where they read this step's
  aggregates.

A node without connections is activation(bias + response * empty), where the empty product is 1 and
what else is empty 0; in a recurrent net it is 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, count
from operator import attrgetter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.formats.importers.neat_functions import ACTIVATIONS, OURS, own_name
from ncc.images.kinds import Kind, Kinds, kinds_of
from ncc.images.union import Union
from ncc.ir import csr
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph, Ints, Longs, Reals
from ncc.nets.genome_faults import cycle, malformed, refusal
from ncc.passes.graph.order import order
from ncc.scalar.activations import FREE

CODES: Final = {name: 0 if text == "x" else FREE + k
                for k, (name, text) in enumerate(ACTIVATIONS.items())}
UNKNOWN: Final = -3  # the code of a function that has no formula here
SUM, MUL = AGGREGATIONS.index("sum"), AGGREGATIONS.index("mul")
Genomes = Sequence[tuple[Any, Any]]  # as neat-python has them: (id, genome)


class Genes(NamedTuple):
    """The genes of P genomes, genome by genome, each in the order of its dicts: N nodes, E
    connections. An end of a connection is a number: of the inputs first, then of the nodes.

    nodes, edges                    (P)  how many a genome has
    activations, aggregations       (N)  codes
    biases, responses, weights      (N), (N), (E)
    enabled                         (E)
    ends                            (2 E)  source and target
    outputs                         (P, outputs)
    """

    nodes: Longs
    edges: Longs
    activations: Ints
    aggregations: NDArray[np.int8]
    biases: Reals
    responses: Reals
    weights: Reals
    enabled: NDArray[np.bool_]
    ends: Ints
    outputs: Ints


def union(genomes: Genomes, config: Any, recurrent: bool = False) -> Union:
    """The nets of `genomes` under neat-python's `config`; levels are those of ncc/images/blocks.py
    where they are `recurrent`. Each has the inputs as its first neurons, and the nodes that an
    output depends on in their order.

    NccError E650 without genomes; else it names genome and gene: E801 where it is malformed (an
    output or an end of a connection that is no node, a number that is none or not finite), E811 for
    a function that is not neat-python's own, and for the median, E812 for a cycle.
    """
    if not len(genomes):
        raise NccError("E650", "a population has a net at least")
    inputs, outputs = config.genome_config.input_keys, config.genome_config.output_keys
    try:
        held = genes(genomes, config)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise malformed(genomes, inputs, outputs) or error from None
    nets = _Nets(held, len(inputs))
    nets.prune()
    if fault := nets.fault():
        code, what, neuron = fault
        raise refusal(code, what, genomes[nets.net(neuron)], inputs, nets.number(neuron))
    nets.respond()
    graph, slots = nets.graph(recurrent)
    if not recurrent:
        try:
            graph = order(graph)
        except NccError:
            raise cycle(genomes, outputs) from None
    return Union(graph, nets.first, slots)


def genes(genomes: Genomes, config: Any) -> Genes:
    """Flat arrays of genomes. KeyError, AttributeError, TypeError where one is malformed."""
    inputs, outputs = config.genome_config.input_keys, config.genome_config.output_keys
    acts, aggs = codes(config)
    nodes = np.array([len(g.nodes) for _, g in genomes], np.int64)
    edges = np.array([len(g.connections) for _, g in genomes], np.int64)
    outs: list[int] = []

    def ends() -> Iterator[Iterator[int]]:
        for _, g in genomes:
            number = dict(zip(chain(inputs, g.nodes), count()))  # noqa: B905 (count has no end)
            outs.extend(map(number.__getitem__, outputs))
            yield map(number.__getitem__, chain.from_iterable(g.connections))

    def of(name: str, dicts: Sequence[Any]) -> Iterator[Any]:
        return map(attrgetter(name), chain.from_iterable([d.values() for d in dicts]))

    by_node = [g.nodes for _, g in genomes]
    by_edge = [g.connections for _, g in genomes]
    n, e = int(nodes.sum()), int(edges.sum())
    numbers = ends()
    found = np.fromiter(chain.from_iterable(numbers), np.int32, 2 * e)
    deque(numbers, maxlen=0)  # genomes without connections, after the last one that has any
    return Genes(
        nodes, edges,
        activations=np.fromiter(map(acts.__getitem__, of("activation", by_node)), np.int32, n),
        aggregations=np.fromiter(map(aggs.__getitem__, of("aggregation", by_node)), np.int8, n),
        biases=np.fromiter(of("bias", by_node), np.float64, n),
        responses=np.fromiter(of("response", by_node), np.float64, n),
        weights=np.fromiter(of("weight", by_edge), np.float64, e),
        enabled=np.fromiter(of("enabled", by_edge), np.bool_, e),
        ends=found,
        outputs=np.array(outs, np.int32).reshape(len(genomes), len(outputs)))


class _Codes(dict[str, int]):
    def __missing__(self, name: str) -> int:
        return UNKNOWN


def codes(config: Any) -> tuple[dict[str, int], dict[str, int]]:
    """The codes of activations and of aggregations by name, those that are neat-python's own."""
    held = config.genome_config

    def own(known: Sequence[str], defs: Any, ending: str) -> Iterator[str]:
        for name in known:
            if own_name(defs.functions.get(name), ending) == name:
                yield name

    return (_Codes({name: CODES[name] for name in own(
                list(ACTIVATIONS), held.activation_defs, "activation")}),
            _Codes({name: AGGREGATIONS.index(OURS[name]) for name in own(
                list(OURS), held.aggregation_function_defs, "aggregation")}))


def kinds(config: Any, made: Union, recurrent: bool = False) -> Kinds:
    """The kinds of rows that `config` gives any genome, so that one engine serves all generations,
    and those in `made` that it does not."""
    held = config.genome_config
    acts, aggs = codes(config)
    texts = {ACTIVATIONS[name] for name in held.activation_options if name in acts}
    folds = {AGGREGATIONS[aggs[name]] for name in held.aggregation_options if name in aggs}
    wanted = {Kind("sum", text) for text in texts}
    wanted |= {Kind(fold, "x") for fold in folds if fold != "sum"}
    if recurrent:
        wanted.add(Kind("sum", "x"))  # nodes without connections
    return Kinds(tuple(sorted({*wanted, *kinds_of([made.graph]).kinds})))


class _Nets:
    """What becomes of genes, step by step. Neurons are numbered genome by genome: those of genome k
    are `first[k]` .. `first[k + 1]`, its inputs and then its nodes; `origin` are their numbers
    before any was dropped, where `began` was what `first` is now."""

    def __init__(self, held: Genes, n_in: int) -> None:
        self.first = self.began = csr.starts(held.nodes + n_in)
        base, total = self.first[:-1], int(self.first[-1])
        self.origin = np.arange(total)
        self.inputs = base[:, None] + np.arange(n_in)
        self.outputs = base[:, None] + held.outputs
        is_node = np.ones(total, np.bool_)
        is_node[self.inputs] = False

        def by_neuron(values: NDArray[Any], of_input: float) -> NDArray[Any]:
            out = np.full(total, of_input, values.dtype)
            out[is_node] = values
            return out

        self.activations: Ints = by_neuron(held.activations, INPUT)
        self.aggregations: NDArray[np.int8] = by_neuron(held.aggregations, SUM)
        self.biases: Reals = by_neuron(held.biases, 0.0)
        self.responses: Reals = by_neuron(held.responses, 1.0)
        self.bare = ~is_node  # without a bias
        ends = held.ends.reshape(-1, 2) + np.repeat(base, held.edges)[:, None]
        on = held.enabled
        self.in_lists(ends[on, 0], ends[on, 1], held.weights[on])

    def in_lists(self, sources: Longs, targets: Longs, weights: Reals) -> None:
        """Sort edges by target; those of one target stay in their order."""
        starts, by = csr.grouped(targets, len(self.activations))
        self.sources, self.targets, self.weights = sources[by], targets[by], weights[by]
        self.starts = starts

    def prune(self) -> None:
        """Drop the nodes that no output depends on, from the outputs back, a frontier at a time."""
        kept = self.activations == INPUT
        last = np.empty(len(kept), np.int64)
        met = self.outputs.ravel()
        while len(met):
            kept[met] = True
            turn = np.arange(len(met))
            last[met] = turn
            front = met[last[met] == turn]  # each once
            begins = self.starts[front]
            met = self.sources[csr.ranges(begins, self.starts[front + 1] - begins)]
            met = met[~kept[met]]
        if not kept.all():
            number = np.cumsum(kept) - 1
            self.renumber(np.flatnonzero(kept), number)
            edges = kept[self.targets]
            self.in_lists(number[self.sources[edges]], number[self.targets[edges]],
                          self.weights[edges])

    def renumber(self, picked: Longs, number: Longs) -> None:
        """The neurons are `picked` of those before, and neuron j is `number[j]`."""
        for name in ("activations", "aggregations", "biases", "responses", "bare", "origin"):
            setattr(self, name, getattr(self, name)[picked])
        self.first = np.searchsorted(self.origin, self.began)
        self.inputs, self.outputs = number[self.inputs], number[self.outputs]

    def net(self, neuron: int) -> int:
        """The genome that a neuron is of."""
        return int(np.searchsorted(self.first, neuron, "right")) - 1

    def number(self, neuron: int) -> int:
        """A neuron's number among those of its genome, before any was dropped."""
        return int(self.origin[neuron] - self.began[self.net(neuron)])

    def fault(self) -> tuple[str, str, int] | None:
        """What is wrong with a neuron: code, text, and which; None where all is well."""
        def first(bad: NDArray[np.bool_], neurons: Longs | None = None) -> int | None:
            at = np.flatnonzero(bad)[:1]
            return next(iter((at if neurons is None else neurons[at]).tolist()), None)

        into = np.diff(self.starts) * (self.activations == INPUT) > 0
        finite = np.isfinite
        with np.errstate(over="ignore"):
            products = self.weights * self.responses[self.targets]
        for code, what, neuron in (
                ("E801", "a connection into an input", first(into)),
                ("E801", "its bias is not finite", first(~finite(self.biases))),
                ("E801", "its response is not finite", first(~finite(self.responses))),
                ("E801", "the weight of a connection into it is not finite",
                 first(~finite(self.weights), self.targets)),
                ("E801", "a weight times its response is not finite",
                 first(~finite(products), self.targets)),
                ("E811", "activation", first(self.activations == UNKNOWN)),
                ("E811", "aggregation", first(self.aggregations == UNKNOWN))):
            if neuron is not None:
                return code, what, neuron
        return None

    def respond(self) -> None:
        """Leave no response but 1, and no aggregation of a row with an activation but the sum."""
        empty = (np.diff(self.starts) == 0) & (self.activations != INPUT)
        product = empty & (self.aggregations == MUL)
        self.biases[product] += self.responses[product]
        self.aggregations[empty] = SUM
        self.split(self.aggregations != SUM)
        if (self.responses != 1).any():
            self.weights = self.weights * self.responses[self.targets]

    def split(self, chosen: NDArray[np.bool_]) -> None:
        """Of each of these nodes two rows: its aggregate, and what reads that by a weight that is
        the response."""
        self.second = np.zeros(len(chosen), np.bool_)
        if not chosen.any():
            return
        second = np.cumsum(1 + chosen) - 1
        reads = second - chosen
        a, b, responses = reads[chosen], second[chosen], self.responses[chosen]
        self.renumber(np.repeat(np.arange(len(chosen)), 1 + chosen), second)
        self.second = np.zeros(len(self.origin), np.bool_)
        self.second[b] = True
        self.activations[a], self.aggregations[b] = CODES["identity"], SUM
        self.bare[a] = True
        self.responses[a] = self.responses[b] = 1.0
        self.in_lists(np.concatenate([second[self.sources], a]),
                      np.concatenate([reads[self.targets], b]),
                      np.concatenate([self.weights, responses]))

    def graph(self, recurrent: bool) -> tuple[Graph, Longs]:
        """The graph, and where each genome's parameters begin. It has levels where it is
        `recurrent`."""
        lengths = np.diff(self.starts)
        bare, activations = self.bare, self.activations
        still = np.zeros(len(bare), np.bool_)
        if recurrent:  # there, nodes without connections are 0
            still = (lengths == 0) & (activations != INPUT)
            bare, activations = bare | still, np.where(still, np.int32(CODES["identity"]),
                                                       activations)
        before = csr.starts(~bare)  # biases
        weights = np.arange(len(self.weights)) + np.repeat(before[:-1], lengths)
        biases = np.where(bare, NONE, self.starts[1:] + before[:-1])
        values = np.empty(len(weights) + int(before[-1]))
        values[weights] = self.weights
        values[biases[~bare]] = self.biases[~bare]
        biases[still] = -1
        used = np.flatnonzero(np.bincount(activations - INPUT)) + INPUT
        texts = list(ACTIVATIONS.values())
        graph = Graph(
            starts=self.starts, sources=self.sources.astype(np.int32),
            weights=weights.astype(np.int32), biases=biases.astype(np.int32),
            activations=activations, aggregations=self.aggregations,
            inputs=self.inputs.ravel().astype(np.int32),
            outputs=self.outputs.ravel().astype(np.int32), values=values,
            constants=np.zeros(int(still.any())),
            functions={code: texts[code - FREE] for code in used.tolist() if code >= FREE},
            levels=self.second.astype(np.int32) if recurrent else None)
        return graph, (self.starts + before)[self.first]
