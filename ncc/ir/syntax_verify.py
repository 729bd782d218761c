"""The rules of the syntax level, and what checking them needs: the in-lists by target.

A net file that keeps them is a net, but for cycles, which `order` finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError, Source, Span
from ncc.ir import csr, labels
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, PAIR_CODES, Ints, Longs
from ncc.ir.labels import digits
from ncc.ir.syntax import (
    OUT_OF_RANGE,
    AdjacencyList,
    Directives,
    EdgeList,
    Matrix,
    Parameters,
    Syntax,
    activation_code,
    functions_of,
    unknown,
)

ROOM = 2**16  # neurons that even the shortest edge list may declare
UNSAID = -3  # the activation code of a neuron that has one, which the file does not say


def verify(syntax: Syntax) -> None:
    """Raise an NccError, at its place in the file, unless

    - functions have codes from 0x20 on, each its own, and texts that are expressions
      (E110, E126, E127, E201 .. E206);
    - an adjacency list has a line for each of its N neurons, ascending (E110 .. E113);
    - an edge list's N is no larger than its length lets one believe (E117);
    - indices are below N (E110);
    - activations are known (E118), ranges of them do not run backwards (E136), and a neuron that
      has one has an in-list or a bias (E121);
    - no neuron has two biases (E123) or two aggregations (E124), and one with an aggregation has an
      in-list (E122);
    - the in-list of a dot is pairs of sources, `00*01`, and no other has such (E138);
    - no neuron reads itself but for its value of the last call (E114), nor, but for a dot, another
      twice (E115);
    - the value of a tie is given once (E125);
    - labels have printable names (E150), each its own (E152), and name neurons (E151);
    - outputs are neurons (E130), each named once (E129), and there is one (E131).
    """
    in_lists(syntax)


def in_lists(syntax: Syntax, *, outputs: bool = True) -> InLists:
    """The net of a file that keeps the rules of `verify`; without `outputs` those of its `out` line
    do not count, in whose place the caller has others."""
    functions = {} if isinstance(syntax, Matrix) else functions_of(syntax.source, syntax.functions)
    if isinstance(syntax, AdjacencyList):
        net = _adjacency(syntax, functions)
    elif isinstance(syntax, Matrix):
        net = _matrix(syntax)
    else:
        net = _edges(syntax, functions)
    _sound_pairs(net)
    _sound_edges(net)
    _no_idle_aggregation(net)
    _one_value_a_tie(net)
    if not isinstance(syntax, Matrix):
        _sound_labels(syntax.source, syntax.directives, net.n_neurons)
    if outputs:
        _sound_outputs(syntax, net)
    return net


# What every format comes to ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class InLists:
    """A net as CSR by target, with the parameters as the file has them.

    `starts` int64 (N+1), `sources` int32 (E), `delayed` bool (E): whether an edge reads its
    source's value of the last call; `activations` int32 (N) codes, INPUT or UNSAID;
    `aggregations` int8 (N), -1 where none is said; `functions` by ascending code; `paired` bool
    (E): whether an edge is the first one of a pair, with the weight, and the next one the second.
    `edge_span` takes an edge of the file; `order` (or None: as it is) maps ours to it.
    `bias_span` takes an entry of `biases`, of which `biased` are the neurons, ascending.
    """

    source: Source
    starts: Longs
    sources: Ints
    delayed: NDArray[np.bool_]
    paired: NDArray[np.bool_]
    weights: Parameters
    biased: Ints
    biases: Parameters
    ties: tuple[str, ...]
    functions: dict[int, str]
    activations: Ints
    aggregations: NDArray[np.int8]
    edge_span: Callable[[int], Span]
    bias_span: Callable[[int], Span]
    agg_span: Callable[[int], Span]
    order: Longs | None = None

    @property
    def n_neurons(self) -> int:
        return len(self.starts) - 1

    @property
    def late(self) -> bool:
        """Whether any edge is delayed."""
        return self.delayed.strides != (0,) and bool(self.delayed.any())

    def name(self, neuron: int) -> str:
        return f"{neuron:0{digits(self.n_neurons)}x}"

    def place(self, edge: int) -> Span:
        return self.edge_span(edge if self.order is None else int(self.order[edge]))


def _adjacency(syntax: AdjacencyList, functions: dict[int, str]) -> InLists:
    count = syntax.count.value
    _one_line_each(syntax)
    lengths = np.diff(syntax.starts)
    codes = [activation_code(word, functions) for word in syntax.words]
    codes.append(INPUT)  # of -1, none
    activations = np.array(codes, np.int32)[syntax.activations]
    nameless = np.flatnonzero(activations == NONE)
    if len(nameless):
        s = int(nameless[0])
        word = syntax.words[syntax.activations[s]]
        raise unknown(word, functions, syntax.source, syntax.part_span(s, "word"))
    idle = np.flatnonzero((activations >= 0) & (lengths == 0) & ~syntax.biased
                          & (syntax.aggregations < 0))
    if len(idle):
        s = int(idle[0])
        raise NccError(
            "E121", "an activation, but neither in-list nor bias", syntax.source,
            syntax.part_span(s, "word"),
            help="an input is its index alone; a constant neuron has a bias, as in 0a 00 +=1")
    biased = np.flatnonzero(syntax.biased).astype(np.int32)
    given = syntax.biases
    biases = Parameters(given.ties[biased], given.values[biased], given.constant[biased])
    assert len(activations) == count
    return InLists(
        source=syntax.source, starts=syntax.starts, sources=syntax.sources,
        delayed=syntax.delayed, paired=syntax.paired, weights=syntax.weights, biased=biased,
        biases=biases, ties=syntax.ties, functions=functions,
        activations=activations, aggregations=syntax.aggregations,
        edge_span=syntax.edge_span,
        bias_span=lambda k: syntax.part_span(int(biased[k]), "bias"),
        agg_span=lambda s: syntax.part_span(s, "aggregation"),
    )


def _matrix(syntax: Matrix) -> InLists:
    count = len(syntax.sources)
    starts, order = csr.grouped(syntax.targets, syntax.size)
    return InLists(
        source=syntax.source, starts=starts, sources=syntax.sources[order],
        delayed=np.broadcast_to(np.False_, count), paired=np.broadcast_to(np.False_, count),
        weights=_nothing(count),
        biased=np.zeros(0, np.int32), biases=_nothing(0), ties=(), functions={},
        activations=np.where(np.diff(starts) > 0, UNSAID, INPUT).astype(np.int32),
        aggregations=np.full(syntax.size, -1, np.int8),
        edge_span=syntax.edge_span, bias_span=syntax.edge_span, agg_span=syntax.edge_span,
        order=order,
    )


def _edges(syntax: EdgeList, functions: dict[int, str]) -> InLists:
    count = syntax.count.value
    most = max(ROOM, len(syntax.source.text))
    if count > most:
        raise NccError("E117", f"N is larger than what a file of {len(syntax.source.text)} "
                       "characters can speak of", syntax.source, syntax.count.span)
    for word, indices in ((0, syntax.sources), (1, syntax.targets)):
        wrong = np.flatnonzero(indices >= count)
        if len(wrong):
            raise _out_of_range(count, syntax.source, syntax.edge_span(int(wrong[0]), word))
    starts, order = csr.grouped(syntax.targets, count)
    biased = _said_once(syntax, "bias", [(b.index, b.span) for b in syntax.bias])
    aggregated = _said_once(syntax, "agg", [(a.index, a.span) for a in syntax.aggs])
    aggregations = np.full(count, -1, np.int8)
    aggregations[aggregated] = [a.aggregation for a in syntax.aggs]
    computed = np.diff(starts) > 0
    computed[biased] = True
    activations = np.where(computed, UNSAID, INPUT).astype(np.int32)
    for act in syntax.acts:
        code = activation_code(act.word, functions)
        if code == NONE:
            raise unknown(act.word, functions, syntax.source, act.word_span)
        if act.first is None or act.last is None:
            activations[computed] = code
            continue
        if act.last >= count:
            raise _out_of_range(count, syntax.source, act.span)
        if act.first > act.last:
            raise NccError("E136", "the range runs backwards", syntax.source, act.span,
                           help="the smaller index comes first: act 04-0d 03")
        idle = np.flatnonzero(~computed[act.first : act.last + 1])
        if len(idle):
            name = f"{act.first + int(idle[0]):0{digits(count)}x}"
            raise NccError("E121", f"neuron {name} gets an activation, but has neither in-edge "
                           "nor bias", syntax.source, act.span, help="an input has no activation")
        activations[act.first : act.last + 1] = code
    ascending = np.argsort(biased, kind="stable")
    weights, biases = syntax.weights, syntax.biases
    return InLists(
        source=syntax.source, starts=starts, sources=syntax.sources[order],
        delayed=syntax.delayed[order] if syntax.delayed.strides != (0,) else syntax.delayed,
        paired=syntax.paired[order] if syntax.paired.strides != (0,) else syntax.paired,
        weights=_at(weights, order), biased=biased[ascending].astype(np.int32),
        biases=_at(biases, ascending), ties=syntax.ties, functions=functions,
        activations=activations, aggregations=aggregations,
        edge_span=syntax.edge_span,
        bias_span=lambda k: syntax.bias[int(ascending[k])].span,
        agg_span=lambda n: next(a.span for a in syntax.aggs if a.index == n),
        order=order,
    )


def _nothing(count: int) -> Parameters:
    return Parameters(np.broadcast_to(np.int32(-1), count),
                      np.broadcast_to(np.float64(np.nan), count),
                      np.broadcast_to(np.False_, count))


def silent(parameters: Parameters) -> bool:
    """Whether nothing is said of any, which the parser keeps as arrays of stride 0."""
    return parameters.values.strides == (0,)


def plain(parameters: Parameters) -> bool:
    """Whether none is tied or a constant."""
    return not (parameters.ties >= 0).any() and not parameters.constant.any()


def _at(parameters: Parameters, order: Longs) -> Parameters:
    if silent(parameters):
        return parameters
    return Parameters(parameters.ties[order], parameters.values[order], parameters.constant[order])


def _said_once(syntax: EdgeList, what: str, said: list[tuple[int, Span]]) -> Longs:
    lines: dict[int, int] = {}
    for index, span in said:
        if index >= syntax.count.value:
            raise _out_of_range(syntax.count.value, syntax.source, span)
        if index in lines:
            code = "E123" if what == "bias" else "E124"
            raise NccError(code, f"a second `{what}` of one neuron", syntax.source, span,
                           note=f"the first is on line {lines[index]}")
        lines[index] = span.line
    return np.array([index for index, _ in said], np.int64)


# Checks -----------------------------------------------------------------------------------------


def _out_of_range(count: int, source: Source, span: Span) -> NccError:
    word = source.line(span.line)[span.column - 1 :][: min(span.length, 40)]
    shown = re.split("[:@]", word, maxsplit=1)[0]  # without what is behind it
    last = f"the last neuron is {count - 1:0{digits(count)}x}" if count else "the net is empty"
    return NccError("E110", f"index {shown} is out of range", source, span, note=last)


def _one_line_each(syntax: AdjacencyList) -> None:
    """Each index 0 .. N-1 has one line, ascending."""
    count, indices, source = syntax.count.value, syntax.indices, syntax.source
    width = digits(min(count, OUT_OF_RANGE))
    wrong = np.flatnonzero(indices != np.arange(len(indices)))
    k = int(wrong[0]) if len(wrong) else len(indices)
    if k == len(indices) == count:
        return
    beyond = np.flatnonzero(indices[k:] >= count)
    if k > count or (len(beyond) and not beyond[0]):
        raise _out_of_range(count, source, syntax.part_span(min(k, count), "index"))
    if k == len(indices):
        raise NccError("E111", f"N says more neurons than the {k} that have lines", source,
                       syntax.count.span, note=f"the first without a line is {k:0{width}x}")
    if not (indices[k:] == k).any() and int(indices[k]) > k:
        raise NccError("E111", f"neuron {k:0{width}x} has no line", source,
                       syntax.part_span(k, "index"),
                       help=f"an input is its index alone: {k:0{width}x}")
    # Neuron k has its line further down, so the indices fall somewhere: where they do first.
    falls = max(1, k) + np.flatnonzero(indices[max(1, k):] <= indices[max(1, k) - 1 : -1])
    k = int(falls[0])
    if len(beyond) and wrong[0] + beyond[0] < k:
        k = int(wrong[0] + beyond[0])
        raise _out_of_range(count, source, syntax.part_span(k, "index"))
    index, span = int(indices[k]), syntax.part_span(k, "index")
    before = np.flatnonzero(indices[:k] == index)
    if len(before):
        raise NccError("E112", f"a second line of neuron {index:0{width}x}", source, span,
                       note=f"the first is line {syntax.lines[before[0]]}")
    raise NccError("E113", "the lines do not ascend", source, span,
                   note=f"neuron {int(indices[k - 1]):0{width}x} stands above it, on line "
                   f"{syntax.lines[k - 1]}")


def _sound_pairs(net: InLists) -> None:
    """All edges of a dot are of pairs, and no others are."""
    wants = np.isin(net.aggregations, PAIR_CODES)
    has = net.paired.strides != (0,)
    if not has and not wants.any():
        return
    inside = net.paired.copy()
    inside[1:] |= net.paired[:-1]
    target = csr.owners(net.starts)
    wrong = np.flatnonzero(inside != wants[target])
    if not len(wrong):
        return
    e = int(wrong[0])
    if inside[e]:
        agg = AGGREGATIONS[max(0, net.aggregations[target[e]])]
        raise NccError("E138", f"a pair of sources, in the in-list of a {agg}", net.source,
                       net.place(e), help="a dot, which others may read, adds products of two "
                       "sources: 04 identity dot 00*01:0.5")
    raise NccError("E138", "one source, in the in-list of a dot", net.source, net.place(e),
                   help="a dot has pairs alone, as 00*01:0.5; a sum may read the dot beside "
                   "single sources")


def _sound_edges(net: InLists) -> None:
    """Sources exist, none is its own target, none comes twice into one neuron, if it is no dot."""
    wrong = np.flatnonzero(net.sources >= net.n_neurons)
    if len(wrong):
        raise _out_of_range(net.n_neurons, net.source, net.place(int(wrong[0])))
    targets: Ints = csr.owners(net.starts, np.int32)
    loops = net.sources == targets
    if net.late:
        loops &= ~net.delayed
    loops = np.flatnonzero(loops)
    if len(loops):
        e = int(loops[0])
        raise NccError("E114", f"neuron {net.name(int(targets[e]))} reads itself", net.source,
                       net.place(e), help=f"~{net.name(int(targets[e]))} is its value of the last "
                       "call")
    same = targets[1:] == targets[:-1]
    dots = np.isin(net.aggregations, PAIR_CODES)
    if dots.any():
        same &= ~dots[targets[1:]]
    if not bool((same & (net.sources[1:] <= net.sources[:-1])).any()):
        return  # ascending in-lists have no repeats
    del same
    keys = targets.astype(np.int64)
    keys *= 2 * net.n_neurons
    keys += net.sources
    if net.late:
        keys += net.n_neurons * net.delayed  # the value of the last call is another one
    if dots.any():
        keys = keys[~dots[targets]]
    keys.sort()
    repeats = keys[1:][keys[1:] == keys[:-1]]
    if len(repeats):
        target, source = divmod(int(repeats[0]), 2 * net.n_neurons)
        late, source = divmod(source, net.n_neurons)
        start = int(net.starts[target])
        mine = slice(start, int(net.starts[target + 1]))
        places = np.flatnonzero((net.sources[mine] == source) & (net.delayed[mine] == late))
        first = net.place(start + int(places[0]))
        raise NccError("E115", f"neuron {net.name(target)} reads {'~' * late}{net.name(source)} "
                       "twice",
                       net.source, net.place(start + int(places[1])),
                       note=f"first at {first.line}:{first.column}",
                       help="give the edge the sum of the weights")


def _no_idle_aggregation(net: InLists) -> None:
    idle = np.flatnonzero((net.aggregations >= 0) & (np.diff(net.starts) == 0))
    if len(idle):
        n = int(idle[0])
        raise NccError("E122", f"{AGGREGATIONS[net.aggregations[n]]} of nothing: neuron "
                       f"{net.name(n)} has no in-edges", net.source, net.agg_span(n))


def _one_value_a_tie(net: InLists) -> None:
    given = [np.flatnonzero((p.ties >= 0) & ~np.isnan(p.values)) if not plain(p)
             else np.zeros(0, np.int64) for p in (net.weights, net.biases)]
    if not sum(len(places) for places in given):
        return
    edges, biases = given
    # In canonical order: an edge after the biases of the neurons before its target.
    target = np.searchsorted(net.starts, edges, side="right") - 1
    places = np.concatenate([edges + np.searchsorted(net.biased, target),
                             net.starts[net.biased[biases] + 1] + biases])
    ties = np.concatenate([net.weights.ties[edges], net.biases.ties[biases]])
    order = np.lexsort((places, ties))
    names = ties[order]
    again = np.flatnonzero(names[1:] == names[:-1])
    if not len(again):
        return
    k = int(again[0])
    first, second = sorted(
        [net.place(int(edges[i])) if i < len(edges) else net.bias_span(int(biases[i - len(edges)]))
         for i in order[k : k + 2].tolist()], key=lambda s: (s.line, s.column))
    raise NccError("E125", f"the value of @{net.ties[names[k]][:40]} is given twice", net.source,
                   second, note=f"first at {first.line}:{first.column}",
                   help="give it at one place; the others share it")


_LABEL_CODES = {"text": "E150", "range": "E151", "twice": "E152"}


def _sound_labels(source: Source, directives: Directives, count: int) -> None:
    wrong = labels.fault(directives.labels, count)
    if wrong is None:
        return
    line = directives.lines[wrong.number]
    note = ""
    if wrong.kind == "twice":
        note = f"the first is on line {directives.lines[wrong.earlier]}"
    raise NccError(_LABEL_CODES[wrong.kind], wrong.message, source,
                   Span(line, 1, len(source.line(line).rstrip())), note=note)


def _sound_outputs(syntax: Syntax, net: InLists) -> None:
    out = None if isinstance(syntax, Matrix) else syntax.out
    if out is None:
        # Where every computed neuron is read there is a cycle, which `order` reports.
        if bool((net.activations != INPUT).any()):
            return
        span = Span(int(syntax.lines[0]), 1) if isinstance(syntax, Matrix) else syntax.count.span
        raise NccError("E131", "the net has no outputs: it has nothing but inputs", net.source,
                       span, help="an output is a neuron that no other reads, or named by `out`")
    seen: dict[int, Span] = {}
    for index, span in zip(out.indices, out.spans, strict=True):
        if index >= net.n_neurons:
            error = _out_of_range(net.n_neurons, net.source, span)
            raise NccError("E130", error.message.replace("index", "output"), net.source, span,
                           note=error.note)
        if index in seen:
            raise NccError("E129", f"{net.name(index)} is an output twice", net.source, span,
                           note=f"first at {seen[index].line}:{seen[index].column}")
        seen[index] = span
