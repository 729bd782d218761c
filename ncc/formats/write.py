"""Graphs to net files: .nal, .nel, .nam, .graph; how their texts spell neurons and parameters.

Everything a text holds is an index, a number, a tie name (an identifier) or the name of a label,
which is quoted unless it is plain.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from ncc.errors import NccError
from ncc.ir import csr, labels
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, NONE, PAIR_CODES, Graph, refuse_states
from ncc.scalar.activations import name_of

DENSE = 2**31  # characters of the largest dense text


def refuse_dense(graph: Graph, width: int) -> None:
    """Refuse a text of N x N cells before memory is taken."""
    n = graph.n_neurons
    if n * n * width > DENSE:
        raise NccError("E402", f"a text of {n} x {n} cells is too large",
                       help="fwd, .nal and .nel grow with the edges alone")


def names_of(graph: Graph) -> list[str]:
    """Indices in hex, all with so many digits; of a state neuron `~` and the index of the
    neuron whose last value it is."""
    width = labels.digits(graph.n_own)
    names = [f"{j:0{width}x}" for j in range(graph.n_neurons)]
    for i, j in zip(graph.inputs[graph.n_inputs :].tolist(), graph.states.tolist(), strict=True):
        names[i] = "~" + names[j]
    return names


def in_lists(graph: Graph) -> Iterator[tuple[int, list[int], list[int]]]:
    """Each of the net's own neurons with its sources and weight codes."""
    starts = graph.starts.tolist()
    for j in range(graph.n_own):
        at = slice(starts[j], starts[j + 1])
        yield j, graph.sources[at].tolist(), graph.weights[at].tolist()


def _spelt(graph: Graph, names: list[str]) -> Iterator[tuple[int, list[str], list[int]]]:
    """The same with sources as net files spell them: `04`, `~04`, or `04*05` of a pair of a `dot`,
    which has one weight."""
    for j, sources, weights in in_lists(graph):
        words = [names[i] for i in sources]
        if graph.aggregations[j] in PAIR_CODES:
            words = [f"{a}*{b}" for a, b in zip(words[::2], words[1::2], strict=True)]
            weights = weights[::2]
        yield j, words, weights


def _number(value: float) -> str:
    return repr(float(value))


def weight_text(graph: Graph, code: int, said: set[int] | None = None) -> str:
    """How a net file spells a parameter: =1.0, @k0:0.5, @k0, 0.5, or nothing at all.

    `said` collects the slots of ties: a name's value is given at its first appearance only.
    """
    if code < 0:
        return "=" + _number(graph.constants[-1 - code])
    number = float(graph.values[code])
    value = "" if number != number else repr(number)
    name = graph.names.get(code)
    if name is None:
        return value
    if said is not None and code in said:
        value = ""
    if said is not None:
        said.add(code)
    return f"@{name}:{value}" if value else f"@{name}"


def bias_text(graph: Graph, j: int, said: set[int] | None = None) -> str:
    return "+" + weight_text(graph, int(graph.biases[j]), said)


def net_file(graph: Graph, ending: str, *, lossy: bool = False) -> str:
    """`graph` as the net file of an ending in NETS, E401 where that cannot say it."""
    return str(graph) if ending == "graph" else WRITERS[ending](graph, lossy=lossy)


def holds_values(graph: Graph, ending: str) -> None:
    """E401 where a net file of that ending cannot say `graph` with values."""
    if ending == "nam":
        raise _loss("nam", "values of weights", help=".nal, .nel and .graph can")
    if ending != "graph":
        sayable(graph, ending)


def sayable(graph: Graph, ending: str, *, lossy: bool = False) -> None:
    """E401 where no file of edges and their parameters, in the order of the neurons, can say
    `graph`: only passes, and `.graph` texts, make such."""
    _plain(graph, ending, lossy)
    _order(graph, ending, lossy)


def write_nal(graph: Graph, *, lossy: bool = False) -> str:
    """`graph` as a .nal, which resolves to the identical graph (E401 where none can)."""
    _plain(graph, "nal", lossy)
    _order(graph, "nal", lossy)
    names, said = names_of(graph), set[int]()
    lines = _head(graph, outputs=_default_outputs(graph))
    for j, sources, weights in _spelt(graph, names):
        if graph.activations[j] == INPUT:
            lines.append(names[j])
            continue
        words = [names[j], _activation(int(graph.activations[j]))]
        if graph.aggregations[j]:
            words.append(AGGREGATIONS[graph.aggregations[j]])
        if sources:
            words.append(",".join(_edge(i, weight_text(graph, w, said))
                                  for i, w in zip(sources, weights, strict=True)))
        if graph.biases[j] != NONE:
            words.append(bias_text(graph, j, said))
        lines.append(" ".join(words))
    return "".join(line + "\n" for line in lines)


def write_nel(graph: Graph, *, lossy: bool = False) -> str:
    """`graph` as a .nel, which resolves to the identical graph (E401 where none can)."""
    _plain(graph, "nel", lossy)
    _order(graph, "nel", lossy)
    names, said = names_of(graph), set[int]()
    lines = _head(graph, outputs=_default_outputs(graph))
    for first, last, code in _runs(graph):
        where = names[first] if first == last else f"{names[first]}-{names[last]}"
        lines.append(f"act {where} {_activation(code)}")
    for j, sources, weights in _spelt(graph, names):
        if graph.aggregations[j]:
            lines.append(f"agg {names[j]} {AGGREGATIONS[graph.aggregations[j]]}")
        for i, w in zip(sources, weights, strict=True):
            lines.append(f"{i} {names[j]} {weight_text(graph, w, said)}".rstrip())
        if graph.biases[j] != NONE:
            lines.append(f"bias {names[j]} {bias_text(graph, j, said)}")
    return "".join(line + "\n" for line in lines)


def write_nam(graph: Graph, *, lossy: bool = False) -> str:
    """The matrix of `graph`: activations, values, biases, ... are E401 unless `lossy`."""
    only_edges(graph, "nam", lossy=lossy, values=False)
    refuse_dense(graph, 1)
    cells = np.full((graph.n_neurons, graph.n_neurons), ord("0"), np.uint8)
    cells[graph.sources, csr.owners(graph.starts)] = ord("1")
    return "".join(row.tobytes().decode() + "\n" for row in cells)


def only_edges(graph: Graph, ending: str, *, lossy: bool, values: bool) -> None:
    """E401 where a file of edges alone, or of edges with `values` of weights, cannot say `graph`,
    unless `lossy`; duplicates in an in-list are refused anyway."""
    _plain(graph, ending, lossy)
    acts = graph.activations[graph.activations >= 0]
    lost = [what for what, there in (
        ("more than one activation", len(np.unique(acts)) > 1),
        ("aggregations", bool(graph.aggregations.any())),
        ("biases", bool((graph.biases != NONE).any())),
        ("constant weights", bool((graph.weights < 0).any())),
        ("values of weights", not values and not bool(np.isnan(graph.values).all())),
        ("ties", bool(graph.names)),
        ("functions", bool(graph.functions)),
        ("labels", bool(graph.labels)),
        ("numerics and dtype", graph.numerics is not None or graph.dtype is not None),
        ("the named outputs", not _default_outputs(graph)),
        ("in-lists that do not ascend", not _ascending(graph)),
        ("values of the last call", bool(len(graph.states))),
    ) if there]
    if len(acts) and acts[0] != 0 and "more than one activation" not in lost:
        lost.insert(0, f"the activation {name_of(int(acts[0]))}")
    if lost and not lossy:
        raise _loss(ending, ", ".join(lost))
    refuse_states(graph, f"a .{ending} file")  # without those edges, neurons would be inputs


WRITERS = {"nal": write_nal, "nel": write_nel, "nam": write_nam}
NETS = (*WRITERS, "graph")


def refuse_pairs(graph: Graph, ending: str) -> None:
    """E401 where a neuron is a dot: its pairs of sources are no edges."""
    mine = np.flatnonzero(np.isin(graph.aggregations, PAIR_CODES))
    if len(mine):
        raise _loss(ending, f"pairs of sources (neuron {names_of(graph)[mine[0]]})",
                    help=".nal, .nel, .graph, .onnx, .py and .tex can")


def _head(graph: Graph, outputs: bool) -> list[str]:
    names = names_of(graph)
    lines = [f"N {graph.n_own:02x}"]
    lines += [f"fn {code:02x} {text}" for code, text in graph.functions.items()]
    if not outputs:
        lines.append("out " + ",".join(names[j] for j in graph.outputs.tolist()))
    lines += [f"{what} {word}" for what, word in (
        ("numerics", graph.numerics), ("dtype", graph.dtype)) if word is not None]
    return [*lines, *labels.lines(graph.labels, len(names[0]) if names else 2)]


def _edge(source: str, weight: str) -> str:
    """00, 00@k0, 00:0.5, 00:=1.0"""
    return source + (weight if not weight or weight[0] == "@" else ":" + weight)


def _activation(code: int) -> str:
    return name_of(code)


def _runs(graph: Graph) -> Iterator[tuple[int, int, int]]:
    """(first, last, activation) of the runs of neighbours that have one activation."""
    acts = graph.activations
    for first, last in pairwise(csr.borders(acts).tolist()):
        if acts[first] >= 0:
            yield first, last - 1, int(acts[first])


def _default_outputs(graph: Graph) -> bool:
    """Whether the outputs are those that a file gets when it names none."""
    read = np.zeros(graph.n_neurons, np.bool_)
    read[graph.sources] = True
    free = np.flatnonzero(~read & (graph.activations != INPUT))
    return bool(np.array_equal(graph.outputs, free))


def _ascending(graph: Graph) -> bool:
    rises = np.diff(graph.sources) > 0
    rises[graph.starts[1:-1][(graph.starts[1:-1] > 0)
                             & (graph.starts[1:-1] < graph.n_edges)] - 1] = True
    return bool(rises.all())


def _plain(graph: Graph, target: str, lossy: bool) -> None:
    """What no net file can say: what only passes make."""
    if (graph.activations == ABSENT).any():
        raise _loss(target, "neurons that a pass has removed")
    target_of = csr.owners(graph.starts)
    edges = target_of * graph.n_neurons + graph.sources
    edges = np.sort(edges[~np.isin(graph.aggregations, PAIR_CODES)[target_of]])
    if (edges[1:] == edges[:-1]).any():
        raise _loss(target, "duplicate sources in an in-list")
    if len(np.unique(graph.outputs)) != len(graph.outputs):
        raise _loss(target, "duplicate outputs")
    if (np.diff(graph.states) <= 0).any():
        raise _loss(target, "states that do not ascend, or two of one neuron")


def _order(graph: Graph, target: str, lossy: bool) -> None:
    """A file's parameters are numbered as they appear; a graph text may number them otherwise."""
    seen = _appearance(graph)
    used = seen[np.sort(np.unique(seen, return_index=True)[1])]
    repeated = np.bincount(seen, minlength=graph.n_params) > 1
    unnamed = [s for s in np.flatnonzero(repeated).tolist() if s not in graph.names]
    if unnamed:
        raise _loss(target, f"parameter {unnamed[0]:x}, which is shared and has no name")
    if not lossy and not np.array_equal(used, np.arange(graph.n_params)):
        raise _loss(target, "parameters out of canonical order, or unused ones")


def _appearance(graph: Graph) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """The slots as they appear: by target, in-list order, then the bias."""
    codes = np.insert(graph.weights, graph.starts[1:], graph.biases)
    return codes[codes >= 0]


def _loss(target: str, what: str, help: str = "--lossy leaves out what it can") -> NccError:
    return NccError("E401", f".{target} cannot express: {what}", help=help)
