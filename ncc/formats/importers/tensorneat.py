"""Genomes of TensorNEAT: arrays of nodes and connections, with what their indices mean.

A node is f(bias + response * aggregation(value * weight, ...)) in float32, whose sums XLA adds in
any order; an output applies no f. What no input reaches has no value (NaN) and is left out of the
lists of those that read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.formats.importers.foreign import (
    Foreign,
    Imported,
    Importer,
    Options,
    listed,
    of_module,
)
from ncc.formats.importers.matrices.numpy_files import Archive
from ncc.formats.importers.neat_net import Function, Network, Node, built, refuse_cycle

# By their names there. A node with the index -1 has the identity, whatever the list.
ACTIVATIONS: Final = {
    "scaled_sigmoid": "1/(1+exp(-x))*3",
    "sigmoid": "1/(1+exp(-x))",
    "scaled_tanh": "tanh(x)*3",
    "tanh": "tanh",
    "sin": "sin",
    "relu": "relu",
    "lelu": "max(x,0)+0.005*min(x,0)",
    "identity": "identity",
    "inv": "1/(step(x)*max(x,1e-7)+(1-step(x))*min(x,-1e-7))",
    "log": "log(max(1e-7,x))",
    "exp": "exp",
    "abs": "abs",
}
AGGREGATIONS: Final = {"sum": "sum", "product": "mul", "max": "max", "min": "min",
                       "maxabs": "maxabs", "mean": "mean"}
ENTRIES: Final = ("nodes", "conns", "inputs", "outputs", "activations", "aggregations")
GENES: Final = {"DefaultNode", "OriginNode", "BiasNode"}
LARGEST_KEY: Final = 2**24  # an integer that float32 holds


class Genome(NamedTuple):
    """What there is to a network, each from the genome or from a file: `nodes` (rows of key, bias,
    response, aggregation, activation; without the response, five columns are four), `conns` (rows
    of source, target, perhaps a historical marker, weight), keys, and lists of functions."""

    nodes: NDArray[np.float64]
    conns: NDArray[np.float64]
    inputs: list[int]
    outputs: list[int]
    activations: list[Function]
    aggregations: list[str]


def recognises(file: Foreign) -> bool:
    return (file.data[:2] == b"PK" and b"nodes.npy" in file.data and b"conns.npy" in file.data)


def recognises_object(value: Any) -> bool:
    """A dict of ENTRIES, or (genome, nodes, conns)."""
    if isinstance(value, tuple):
        return len(value) == 3 and of_module(value[0], "tensorneat")
    return isinstance(value, dict) and {"nodes", "conns"} <= value.keys()


def from_object(value: Any, options: Options) -> Imported:
    """The net of a dict or of (genome, nodes, conns)."""
    file = Foreign("<TensorNEAT genome>", "")
    if isinstance(value, tuple):
        value = _of_genome(file, *value)
    return _net(file, value, options)


def read(files: list[Foreign], options: Options) -> Imported:
    """The net of an `.npz` of ENTRIES, the functions as their names."""
    (file,) = files
    archive = Archive(file, options)
    return _net(file, {name: archive.array(name, len(archive.heads[name].shape))
                       for name in ENTRIES if name in archive.heads}, options)


def _of_genome(file: Foreign, genome: Any, nodes: Any, conns: Any) -> dict[str, Any]:
    word = getattr(genome, "network_type", None)
    if word != "feedforward" or type(genome).__name__ != "DefaultGenome":
        raise file.fault("E812", f"a {type(genome).__name__} of type {word} has state, or a way "
                         "of its own")
    for name in ("input_transform", "output_transform"):
        if getattr(genome, name, None) is not None:
            raise file.fault("E811", f"its {name} is a function of the user's own", f"/{name}")
    gene = genome.node_gene
    if type(gene).__name__ not in GENES or not of_module(gene, "tensorneat"):
        raise file.fault("E810", f"a node gene {type(gene).__name__}", "/node_gene",
                         help="known are " + listed(sorted(GENES)))
    return {"nodes": nodes, "conns": conns, "inputs": genome.input_idx,
            "outputs": genome.output_idx, "activations": gene.activation_options,
            "aggregations": gene.aggregation_options}


def _net(file: Foreign, held: Mapping[str, Any], options: Options) -> Imported:
    genome = _genome(file, held, options)
    rows = {int(key): k for k, key in enumerate(genome.nodes[:, 0].tolist())}
    edges = _edges(file, genome, rows)
    reached = _reached(genome.inputs, edges)
    nodes: dict[int, Node] = {}
    for key, row in rows.items():
        if key in reached and key not in genome.inputs:
            nodes[key] = _node(file, genome, key, row, [
                (source, weight) for source, weight in edges.get(key, ()) if source in reached])
    for key in genome.outputs:
        if key not in nodes:
            raise file.fault("E810", f"output {key} is NaN: no input reaches it",
                             f"/nodes/{rows[key]}")
    left = len(rows) - len(reached)
    notes = [f"{left} nodes that no input reaches, which are NaN, are left out"] if left else []
    net = Network(genome.inputs, genome.outputs, nodes, notes)
    refuse_cycle(file, net)
    return built(file, options, net, importer="tensorneat", exactness="C", dtype="f32",
                 numerics=None)


def _genome(file: Foreign, held: Mapping[str, Any], options: Options) -> Genome:
    """Everything, checked for itself."""
    missing = [name for name in ENTRIES if name not in held]
    if missing:
        raise file.fault("E815", f"{listed(missing)}: not given, and the arrays do not say it",
                         note="indices point into the lists of the node gene's options",
                         help="ncc.load({'nodes': ..., 'conns': ..., 'inputs': genome.input_idx, "
                         "'outputs': genome.output_idx, 'activations': [...], 'aggregations': "
                         "[...]})")
    nodes = _rows(file, held["nodes"], (5, 4), "/nodes")
    if nodes.shape[1] == 4:  # without a response
        nodes = np.insert(nodes, 2, 1.0, axis=1)
    conns = _rows(file, held["conns"], (3, 4), "/conns")
    genome = Genome(
        nodes, conns[:, [0, 1, -1]],
        _keys(file, held["inputs"], "/inputs"), _keys(file, held["outputs"], "/outputs"),
        [_activation(file, item, options, f"/activations/{k}")
         for k, item in enumerate(_options(file, held["activations"], "/activations"))],
        [_aggregation(file, item, f"/aggregations/{k}")
         for k, item in enumerate(_options(file, held["aggregations"], "/aggregations"))])
    keys = nodes[:, 0].tolist()
    for k, key in enumerate(keys):
        if key != int(key) or abs(key) > LARGEST_KEY:
            raise file.fault("E801", f"{key} is no key of a node", f"/nodes/{k}")
    if len(set(keys)) < len(keys):
        raise file.fault("E801", "two nodes of one key", "/nodes")
    for name, wanted in (("inputs", genome.inputs), ("outputs", genome.outputs)):
        for key in wanted:  # the tool has them as rows, and as keys
            if not 0 <= key < len(keys) or keys[key] != key:
                raise file.fault("E801", f"{key} is not the key of row {key} of the nodes",
                                 f"/{name}")
    if len({*genome.inputs, *genome.outputs}) < len(genome.inputs) + len(genome.outputs):
        raise file.fault("E801", "a node that is named twice", "/outputs")
    return genome


def _rows(file: Foreign, value: Any, columns: Sequence[int], at: str) -> NDArray[np.float64]:
    """The rows that are used, in float64 what float32 holds of them."""
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        raise file.fault("E801", "no array", at) from None
    if array.dtype.kind not in "fiu":
        raise file.fault("E817", f"an array of {array.dtype}", at)
    if array.ndim != 2:
        raise file.fault("E801", f"an array of {array.ndim} axes", at)
    if array.shape[1] not in columns:
        raise file.fault("E810", f"{array.shape[1]} columns, and "
                         + " or ".join(map(str, columns)) + " are known", at)
    with np.errstate(over="ignore"):
        made = array.astype(np.float32).astype(np.float64)
    used = np.flatnonzero(~np.isnan(made[:, 0]))
    bad = used[~np.isfinite(made[used]).all(axis=1)]
    if len(bad):
        raise file.fault("E801", "a number that is not finite", f"{at}/{bad[0]}")
    if len(used) and used[-1] != len(used) - 1:
        raise file.fault("E801", "an unused row before used ones", at)
    return made[used]


def _keys(file: Foreign, value: Any, at: str) -> list[int]:
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise file.fault("E801", "no list of keys", at)
    return [int(key) for key in array.tolist()]


def _options(file: Foreign, value: Any, at: str) -> list[Any]:
    """A list of functions, or of their names; one alone is one."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str) or callable(value):
        return [value]
    raise file.fault("E801", "no list of functions", at)


def _name(item: Any) -> tuple[str, bool]:
    """What a function is called, and whether it may be TensorNEAT's own."""
    if isinstance(item, str):
        return item.removesuffix("_"), True
    name = str(getattr(item, "__name__", type(item).__name__)).removesuffix("_")
    return name, str(getattr(item, "__module__", "")).startswith("tensorneat.")


def _activation(file: Foreign, item: Any, options: Options, at: str) -> Function:
    name, own = _name(item)
    if own and name in ACTIVATIONS:
        return Function(ACTIVATIONS[name])
    if name in options.functions:
        return Function(options.functions[name])
    raise file.fault("E811", f"the activation {name[:40]} is not one of TensorNEAT's", at,
                     help=f"give its formula: --fn '{name[:40]}=x*sigmoid(x)'")


def _aggregation(file: Foreign, item: Any, at: str) -> str:
    name, own = _name(item)
    if not own or name not in AGGREGATIONS:
        raise file.fault("E811", f"the aggregation {name[:40]} is not one of TensorNEAT's", at,
                         help="known are " + listed(AGGREGATIONS))
    return AGGREGATIONS[name]


def _edges(file: Foreign, genome: Genome, rows: Mapping[int, int]
           ) -> dict[int, list[tuple[int, float]]]:
    """The in-lists, by the rows of their sources, which is the order of TensorNEAT's arrays."""
    found: dict[int, dict[int, float]] = {}
    for k, (source, target, weight) in enumerate(genome.conns.tolist()):
        at = f"/conns/{k}"
        for key in (source, target):
            if key not in rows:
                raise file.fault("E801", f"{key:g} is no node", at)
        if target in genome.inputs:
            raise file.fault("E801", "a connection into an input", at)
        held = found.setdefault(int(target), {})
        if source in held:
            raise file.fault("E801", f"a second connection from {source:g} to {target:g}", at)
        held[int(source)] = weight
    return {key: sorted(held.items(), key=lambda edge: rows[edge[0]])
            for key, held in found.items()}


def _reached(inputs: Sequence[int], edges: Mapping[int, list[tuple[int, float]]]) -> set[int]:
    """The inputs, and what reads them, directly or not."""
    readers: dict[int, list[int]] = {}
    for key, held in edges.items():
        for source, _ in held:
            readers.setdefault(source, []).append(key)
    reached, left = set(inputs), list(inputs)
    while left:
        for key in readers.get(left.pop(), ()):
            if key not in reached:
                reached.add(key)
                left.append(key)
    return reached


def _node(file: Foreign, genome: Genome, key: int, row: int, edges: list[tuple[int, float]]
          ) -> Node:
    at = f"/nodes/{row}"
    _, bias, response, aggregation, activation = genome.nodes[row].tolist()
    if not aggregation.is_integer() or not 0 <= aggregation < len(genome.aggregations):
        raise file.fault("E801", f"aggregation {aggregation:g} of {len(genome.aggregations)}", at)
    if not activation.is_integer() or not -1 <= activation < len(genome.activations):
        raise file.fault("E801", f"activation {activation:g} of {len(genome.activations)}", at)
    plain = activation == -1 or key in genome.outputs
    function = Function("identity") if plain else genome.activations[int(activation)]
    return Node(function, genome.aggregations[int(aggregation)], bias, response, edges, at)


IMPORTER = Importer("tensorneat", "a genome of TensorNEAT", (".npz",), recognises, read,
                    ("fn", "simple"), recognises_object, from_object)
