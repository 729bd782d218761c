"""A net as a text of libfann's (ncc/formats/importers/fann.py has what it means).

Where layers read all of the layer before, and only that, the net is layered; else it is of the type
shortcut, whose neurons may read any before them. FANN holds steepness times the sum within
150/steepness. Functions that have bounds of their own stand as they are; for the others steepness
is 2^-60 and the weights are 2^60 times theirs, which is exact, and leaves the limit at 1.7e20.
Sums are added in FANN's order, whose rounding is another than ncc's.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ncc.errors import NccError
from ncc.formats.exporters.attributes import parameters
from ncc.formats.importers.fann import EDGES, NEURONS
from ncc.formats.importers.fann_functions import FORMULAS, STEPWISE, formula
from ncc.formats.write import in_lists, names_of, sayable
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph, refuse_states
from ncc.scalar.activations import name_of

FREE: Final = 2.0**-60
LARGEST: Final = 3e38  # of a float
# By our names, the number of the function and its steepness.
FUNCTIONS: Final = {
    "identity": (0, FREE), "sigmoid": (3, 0.5), "tanh": (5, 1.0), "gauss": (7, 1.0),
    "softsign": (11, FREE), "clip": (13, 1.0), "sin": (14, FREE), "cos": (15, FREE),
    "relu": (18, FREE), "leaky_relu": (19, FREE),
}
STEEPNESS: Final = re.compile(r"max\(min\(([0-9.e+-]+)\*x,150/")
# What a file says of training, as libfann writes it of a new net.
TRAINING: Final = """learning_momentum=0.000000
training_algorithm=2
train_error_function=1
train_stop_function=0
cascade_output_change_fraction=0.010000
quickprop_decay=-0.000100
quickprop_mu=1.750000
rprop_increase_factor=1.200000
rprop_decrease_factor=0.500000
rprop_delta_min=0.000000
rprop_delta_max=50.000000
rprop_delta_zero=0.100000
cascade_output_stagnation_epochs=12
cascade_candidate_change_fraction=0.010000
cascade_candidate_stagnation_epochs=12
cascade_max_out_epochs=150
cascade_min_out_epochs=50
cascade_max_cand_epochs=150
cascade_min_cand_epochs=50
cascade_num_candidate_groups=2
bit_fail_limit=3.49999994039535522461e-01
cascade_candidate_limit=1.00000000000000000000e+03
cascade_weight_multiplier=4.00000005960464477539e-01
cascade_activation_functions_count=10
cascade_activation_functions=3 5 7 8 10 11 14 15 16 17 
cascade_activation_steepnesses_count=4
cascade_activation_steepnesses=2.50000000000000000000e-01 5.00000000000000000000e-01 \
7.50000000000000000000e-01 1.00000000000000000000e+00 
"""


class Node(NamedTuple):
    """A neuron: function and steepness, its sources and their weights, its bias (0 without one)."""

    function: int
    steepness: float
    sources: list[int]
    weights: list[float]
    bias: float


def fann(graph: Graph, lossy: bool = False) -> bytes:
    """The file. NccError E401 where it cannot say the graph, E607 where a parameter has no value,
    E160 of a net with states."""
    refuse_states(graph, "a net of FANN's")
    sayable(graph, "net", lossy=True)
    nodes = _nodes(graph)
    layers = _layers(graph, nodes)
    return _layered(graph, nodes, layers) if layers is not None else _shortcut(graph, nodes)


def _loss(what: str) -> NccError:
    return NccError("E401", f"a net of FANN's cannot express {what}")


def _nodes(graph: Graph) -> dict[int, Node]:
    """What FANN has to know of each neuron that is no input, of each before those that read it."""
    table = parameters(graph)
    names = names_of(graph)
    found = {}
    for j, sources, weights in in_lists(graph):
        if graph.activations[j] == INPUT:
            continue
        how = AGGREGATIONS[graph.aggregations[j]]
        if how not in ("sum", "sumbias"):
            raise _loss(f"the aggregation {how} (neuron {names[j]})")
        function, steepness = _function(graph, int(graph.activations[j]))
        scale = 2.0**60 if steepness == FREE else 1.0
        bias = float(table[graph.biases[j]]) if graph.biases[j] != NONE else 0.0
        made = Node(function, steepness, sources, [float(table[w]) * scale for w in weights],
                    bias * scale)
        if max(map(abs, (*made.weights, made.bias))) > LARGEST:
            raise _loss(f"weights so large (neuron {names[j]})")
        found[j] = made
    if graph.levels is None:
        return found
    return {j: found[j] for j in sorted(found, key=graph.levels.tolist().__getitem__)}


def _function(graph: Graph, code: int) -> tuple[int, float]:
    """The number and the steepness of a function of FANN's."""
    text = graph.functions.get(code)
    if text is None:
        if name_of(code) not in FUNCTIONS:
            raise _loss(f"the activation {name_of(code)}")
        return FUNCTIONS[name_of(code)]
    for function, stepwise in STEPWISE.items():
        if stepwise == text:
            return function, 1.0
    said = STEEPNESS.search(text)
    steepness = float(said[1]) if said is not None else 1.0
    for function in FORMULAS:
        if formula(function, steepness) == text:
            return function, steepness
    raise _loss(f"the activation {text}")


def _layers(graph: Graph, nodes: dict[int, Node]) -> list[list[int]] | None:
    """The net as layers of which each reads all of the one before, in its order, and the outputs
    are the last; None where it is none."""
    layers = [graph.inputs.tolist()]
    depth = dict.fromkeys(layers[0], 0)
    for j, node in nodes.items():
        depth[j] = max((depth[i] for i in node.sources), default=0) + 1
        if depth[j] == len(layers):
            layers.append([])
        layers[depth[j]].append(j)
    if layers[-1] != graph.outputs.tolist() or len(layers) < 2:
        return None
    for before, layer in zip(layers, layers[1:], strict=False):
        if any(nodes[j].sources != before for j in layer):
            return None
    return layers


def _layered(graph: Graph, nodes: dict[int, Node], layers: list[list[int]]) -> bytes:
    neurons: list[tuple[int, int, float]] = []
    edges: list[tuple[int, float]] = []
    base = 0
    for k, layer in enumerate(layers):
        if k == 0:
            neurons += [(0, 0, 0.0)] * (len(layer) + 1)
            continue
        before = len(layers[k - 1])
        for j in layer:
            node = nodes[j]
            neurons.append((before + 1, node.function, node.steepness))
            edges += zip(range(base, base + before + 1), [*node.weights, node.bias], strict=True)
        neurons.append((0, 0, 0.0))
        base += before + 1
    return _text(0, 1.0, [len(layer) + 1 for layer in layers], neurons, edges)


def _shortcut(graph: Graph, nodes: dict[int, Node]) -> bytes:
    """Each neuron a layer, but for the outputs, which are the last; where others read an output, or
    it is an input, the last layer has a copy."""
    inputs, outputs = graph.inputs.tolist(), graph.outputs.tolist()
    read = {i for node in nodes.values() for i in node.sources}
    copied = any(j in read or j not in nodes for j in outputs)
    place = {j: k for k, j in enumerate(inputs)}
    neurons: list[tuple[int, int, float]] = [(0, 0, 0.0)] * (len(inputs) + 1)
    edges: list[tuple[int, float]] = []
    full = True
    last = set(outputs)
    hidden = [j for j in nodes if copied or j not in last]
    for j in [*hidden, *([] if copied else outputs)]:
        node = nodes[j]
        terms = sorted([*((place[i], w) for i, w in zip(node.sources, node.weights, strict=True)),
                        *([(len(inputs), node.bias)] if node.bias or not node.sources else [])])
        place[j] = len(neurons)
        neurons.append((len(terms), node.function, node.steepness))
        full &= [i for i, _ in terms] == list(range(len(inputs) + 1 + min(
            len(neurons) - len(inputs) - 2, len(hidden))))
        edges += terms
    for j in outputs if copied else []:
        neurons.append((1, 0, FREE))
        edges.append((place[j], 1 / FREE))
        full = False
    rate = 1.0 if full else min(0.999, len(edges) / max(len(neurons) ** 2 / 2, 1))
    sizes = [len(inputs) + 1, *[1] * len(hidden), len(outputs)]
    return _text(1, rate, sizes, neurons, edges)


def _text(kind: int, rate: float, sizes: list[int], neurons: list[tuple[int, int, float]],
          edges: list[tuple[int, float]]) -> bytes:
    """A file of version 2.1, with the numbers as libfann writes them."""
    said = "".join([f"({k}, {f}, {s:.20e}) " for k, f, s in neurons])
    read = "".join([f"({i}, {w:.20e}) " for i, w in edges])
    return (f"FANN_FLO_2.1\nnum_layers={len(sizes)}\nlearning_rate=0.700000\n"
            f"connection_rate={rate:.6f}\nnetwork_type={kind}\n{TRAINING}"
            f"layer_sizes={' '.join(map(str, sizes))} \nscale_included=0\n"
            f"{NEURONS}={said}\n{EDGES}={read}\n").encode()
