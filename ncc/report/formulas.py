"""The texts fwd and bwd: a net and its complete backward pass as formulas.

`ncc build NET --emit fwd` prints a line for each neuron, `--emit bwd` a line for each quantity of
the backward pass, O(W + N) in all. `n04` is neuron 04, `b04` its bias, `w0204` the weight of the
edge from 02 to 04, `f04` the activation of 04, `Df04` its derivative at what it is applied to. This
net

    N 05
    out 04,03
    00
    01
    02 tanh 00@k,01@k
    03 relu 02,01:=2 +
    04 sigmoid max 02,03

(in which `n~02` would be what n02 was in the last call, and `w~0203` the weight of ~02 into 03) has
the forward pass

    n02 = f02( +n00*w0002 +n01*w0102)
    n03 = f03( +n02*w0203 +n01*w0103 +b03)
    n04 = f04( max +n02*w0204 +n03*w0304)

and the backward pass

    Dn04_p0204 = +Df04*s0204
    Dn04_n02 = +Dn04_p0204*w0204
    Dn04_w0204 = +Dn04_p0204*n02
    DLY_w0204 = +DLY_n04*Dn04_w0204
    Dn04_p0304 = +Df04*s0304
    Dn04_n03 = +Dn04_p0304*w0304
    Dn04_w0304 = +Dn04_p0304*n03
    DLY_w0304 = +DLY_n04*Dn04_w0304
    DLY_n03 = +DLY_y03 +DLY_n04*Dn04_n03
    Dn03_n02 = +Df03*w0203
    Dn03_w0203 = +Df03*n02
    DLY_w0203 = +DLY_n03*Dn03_w0203
    Dn03_n01 = +Df03*w0103
    DLY_b03 = +DLY_n03*Df03
    DLY_n02 = +DLY_n03*Dn03_n02 +DLY_n04*Dn04_n02
    Dn02_n00 = +Df02*w0002
    Dn02_w0002 = +Df02*n00
    DLY_w0002 = +DLY_n02*Dn02_w0002
    Dn02_n01 = +Df02*w0102
    Dn02_w0102 = +Df02*n01
    DLY_w0102 = +DLY_n02*Dn02_w0102
    DLY_n00 = +DLY_n02*Dn02_n00
    DLY_n01 = +DLY_n02*Dn02_n01 +DLY_n03*Dn03_n01
    DLY_k = +DLY_w0002 +DLY_w0102

`Dn03_n02` is the derivative of n03 by n02, `DLY_n02` that of the loss. There are these lines:

    DLY_n08 = +DLY_n0c*Dn0c_n08 +DLY_n0d*Dn0d_n08       the loss by n08: one term a reader
    Dn08_n04 = +Df08*w0408                              n08 by n04
    Dn08_w0408 = +Df08*n04                              n08 by the weight of the edge
    DLY_w0408 = +DLY_n08*Dn08_w0408                     the loss by it
    DLY_b08 = +DLY_n08*Df08                             ... and by n08's bias
    DLY_k0 = +DLY_w0006 +DLY_w0106 +DLY_b07             the tie k0: all that bear the name

Every name on a right-hand side is defined on a line above it, or given. Given are the values of the
forward pass (`n04`, `w0004`; also the `w` of a constant weight), the derivatives of activations
(`Df04`), the selectors of max and its like (below), and the seeds: `DLY_n04` of an output that
no neuron reads, which has no line of its own, and `DLY_y03`, a term in the line of an output that
is read. The seed of an output that is named twice is the sum of the caller's two.

Neurons come in the reverse of the evaluation order, the inputs last, ties at the end. What cannot
change the loss is ` = 0`: neurons that reach no output, and the parameters into them. Constant
weights and biases have neither `Dn_w` nor `DLY` lines; the edge keeps its `Dn_n`. So each input,
each neuron and each trainable parameter has exactly one line, or is a seed.

`sumbias`, a sum whose bias is added last, has the lines of a sum. Of other aggregations, where
`p0408` is the product n04*w0408:

    mean       Dm08 = +Df08/3                           3 in-edges, in decimal; it stands for Df08
    max min    Dn08_p0408 = +Df08*s0408                 s0408: 1 at the edge that won (the first of
    maximum    Dn08_n04 = +Dn08_p0408*w0408             equals), 0 at the others
    minimum    Dn08_w0408 = +Dn08_p0408*n04
    maxabs
    mul        p0408 = +n04*w0408                       nothing is divided, so that factors may be
               l0608 = +l0508*p0508                     0: l is the product of the factors to the
               r0408 = +p0508*r0508                     left (none at the first), r of those to the
               Dn08_p0508 = +Df08*l0508*r0508           right; Dn_n and Dn_w as under max
    div        p0408 = +n04*w0408                       q is the quotient with this divisor, u the
               q0508 = +p0408/p0508                     derivative by what it divides; the first
               u0508 = +Df08/p0508                      product has the u of the first divisor
               Dn08_p0508 = -u0508*q0508
    dot        p0408 = +n04*w0408                       of a pair 04*05, whose weight is w0408
               Dn08_p0408 = +Df08*n05                   Dn_n04 and Dn_w as under max
               Dn08_n05 = +Df08*p0408

Terms: 4 an edge and 1 a bias under a sum, at most 8 an edge under a product, and 1 for each
appearance of a tie.

A tie whose name would read as one of the names above (`n08` where indices have two digits) is
written with an @, which no name has: `DLY_@n08`; so is a shared parameter without a name,
`DLY_@p3`.
A second edge between the same neurons, which pairs may be or a pass makes, is `w0408_2`,
`Dn08_n04_2`, ...
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ncc.formats.write import in_lists, names_of
from ncc.ir import csr
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, NONE, Graph, Ints, refuse_states
from ncc.scalar.aggregations import PAIRS, SUMS, edges_a_term


def fwd(graph: Graph) -> str:
    """One line a neuron: n04 = f04( +n00*w0004 +n01*w0104 +b04)."""
    names, lines = names_of(graph), []
    again = _again(graph, csr.owners(graph.starts, np.int32))
    for j, sources, _ in in_lists(graph):
        code = graph.activations[j]
        if code == ABSENT or code == INPUT and not graph.shows_inputs:
            continue
        me = names[j]
        agg = AGGREGATIONS[graph.aggregations[j]]
        words = [] if agg == "sum" else [agg]
        size = edges_a_term(agg)
        first = int(graph.starts[j])
        words += ["*".join([f"+n{names[sources[k]]}",
                            f"w{names[sources[k]]}{me}{again.get(first + k, '')}",
                            *[f"n{names[i]}" for i in sources[k + 1 : k + size]]])
                  for k in range(0, len(sources), size)]
        words += [] if graph.biases[j] == NONE else [f"+b{me}"]
        lines.append(f"n{me} = f{me}({''.join(' ' + word for word in words)})\n")
    return "".join(lines)


def bwd(graph: Graph) -> str:
    """The reverse pass of an ordered graph; ValueError for one without levels, NccError E160 for
    one with states.

    Time and memory O(W + N), for any shape of the net.
    """
    if graph.levels is None:
        raise ValueError("bwd is of an ordered graph")
    refuse_states(graph, "a backward pass")
    n = graph.n_neurons
    names = names_of(graph)
    starts, sources, weights = (a.tolist() for a in (graph.starts, graph.sources, graph.weights))
    biases, aggregations = graph.biases.tolist(), graph.aggregations.tolist()
    activations = graph.activations.tolist()
    targets: Ints = csr.owners(graph.starts, np.int32)
    first_edges, by_source = csr.grouped(graph.sources, n)
    firsts, out_edges = first_edges.tolist(), by_source.tolist()
    readers = targets[by_source].tolist()
    again = _again(graph, targets)

    is_output = np.zeros(n, np.bool_)
    is_output[graph.outputs] = True
    outputs = is_output.tolist()
    live = is_output.tolist()  # those met so far that reach an output
    text: list[str] = []
    for j in np.argsort(-graph.levels, kind="stable").tolist():
        if activations[j] == ABSENT:
            continue
        me, first, last = names[j], starts[j], starts[j + 1]
        ins = [(names[sources[e]], again.get(e, ""), weights[e] >= 0) for e in range(first, last)]
        if not live[j]:
            text.append(f"DLY_n{me} = 0\n")
            text += [f"DLY_w{i}{me}{x} = 0\n" for i, x, trained in ins if trained]
            if biases[j] >= 0:
                text.append(f"DLY_b{me} = 0\n")
            continue
        reads = [f" +DLY_n{names[readers[k]]}*Dn{names[readers[k]]}_n{me}"
                 + (again.get(out_edges[k], "") if again else "")
                 for k in range(firsts[j], firsts[j + 1]) if live[readers[k]]]
        if firsts[j] < firsts[j + 1]:
            seed = f" +DLY_y{me}" if outputs[j] else ""
            text.append(f"DLY_n{me} ={seed}{''.join(reads)}\n")
        if activations[j] == INPUT:
            continue
        for e in range(first, last):
            live[sources[e]] = True
        text.append("".join(_edges(me, AGGREGATIONS[aggregations[j]], ins)))
        if biases[j] >= 0:
            text.append(f"DLY_b{me} = +DLY_n{me}*Df{me}\n")
    return "".join(text + _ties(graph, names, targets, again))


def _edges(me: str, agg: str, ins: Sequence[tuple[str, str, bool]]) -> list[str]:
    """The lines of neuron `me`'s in-edges: (source, suffix, whether the weight is trained)."""
    text: list[str] = []
    adjoint = f"Df{me}"
    if agg in PAIRS:
        for (i, x, trained), (other, y, _) in zip(ins[::2], ins[1::2], strict=True):
            edge = i + me + x
            text += [f"p{edge} = +n{i}*w{edge}\n", f"Dn{me}_p{edge} = +Df{me}*n{other}\n",
                     *_by_product(me, i, x, trained), f"Dn{me}_n{other}{y} = +Df{me}*p{edge}\n"]
        return text
    if agg == "mean":
        adjoint = f"Dm{me}"
        text.append(f"{adjoint} = +Df{me}/{len(ins)}\n")
    each = agg not in SUMS
    if agg == "mul":
        text += _factors(me, [(i, i + me + x) for i, x, _ in ins])
    if agg == "div":
        text += _divisors(me, [(i, i + me + x) for i, x, _ in ins])
    for k, (i, x, trained) in enumerate(ins):
        edge = i + me + x
        if each:
            adjoint = f"Dn{me}_p{edge}"
            if agg == "mul":
                left = f"*l{edge}" if k else ""
                right = f"*r{edge}" if k < len(ins) - 1 else ""
                text.append(f"{adjoint} = +Df{me}{left}{right}\n")
            elif agg == "div":
                first = f"u{ins[1][0]}{me}{ins[1][1]}" if len(ins) > 1 else f"Df{me}"
                text.append(f"{adjoint} = -u{edge}*q{edge}\n" if k else f"{adjoint} = +{first}\n")
            else:
                text.append(f"{adjoint} = +Df{me}*s{edge}\n")
        text += _by_product(me, i, x, trained, adjoint)
    return text


def _by_product(me: str, i: str, x: str, trained: bool, adjoint: str = "") -> list[str]:
    """The lines of what makes a product: the source i, and the weight where it is trained."""
    edge = i + me + x
    adjoint = adjoint or f"Dn{me}_p{edge}"
    text = [f"Dn{me}_n{i}{x} = +{adjoint}*w{edge}\n"]
    if trained:
        text.append(f"Dn{me}_w{edge} = +{adjoint}*n{i}\n"
                    f"DLY_w{edge} = +DLY_n{me}*Dn{me}_w{edge}\n")
    return text


def _divisors(me: str, ins: Sequence[tuple[str, str]]) -> list[str]:
    """Products, quotients, and the derivatives by what is divided, of each edge: (source, edge)."""
    edges = [edge for _, edge in ins]
    text = [f"p{edge} = +n{i}*w{edge}\n" for i, edge in ins] if len(ins) > 1 else []
    for k in range(1, len(edges)):
        text.append(f"q{edges[k]} = +{'q' if k > 1 else 'p'}{edges[k - 1]}/p{edges[k]}\n")
    after = f"Df{me}"
    for edge in edges[:0:-1]:
        text.append(f"u{edge} = +{after}/p{edge}\n")
        after = f"u{edge}"
    return text


def _factors(me: str, ins: Sequence[tuple[str, str]]) -> list[str]:
    """Products, and those to the left and to the right of each edge: (source, edge)."""
    edges = [edge for _, edge in ins]
    text = [f"p{edge} = +n{i}*w{edge}\n" for i, edge in ins] if len(ins) > 1 else []
    for k in range(1, len(edges)):
        before = edges[k - 1]
        text.append(f"l{edges[k]} = +" + (f"l{before}*" if k > 1 else "") + f"p{before}\n")
    for k in range(len(edges) - 2, -1, -1):
        after = edges[k + 1]
        text.append(f"r{edges[k]} = +p{after}" + (f"*r{after}" if k < len(edges) - 2 else "")
                    + "\n")
    return text


def _again(graph: Graph, targets: Ints) -> dict[int, str]:
    """The suffixes of edges whose source stands in the in-list a second time, a third, ..."""
    pairs = targets.astype(np.int64) * graph.n_neurons + graph.sources
    by = np.argsort(pairs, kind="stable")
    found: dict[int, str] = {}
    count = 1
    last = -1
    # Position k repeats the pair at k - 1; a run of repeats counts up.
    for k in (np.flatnonzero(np.diff(pairs[by]) == 0) + 1).tolist():
        count = count + 1 if k == last + 1 else 2
        found[int(by[k])] = f"_{count}"
        last = k
    return found


def _ties(graph: Graph, names: Sequence[str], targets: Ints, again: dict[int, str]) -> list[str]:
    """A line for each slot that has a name or stands more than once, in canonical order; its terms
    by target, in-list order, then the bias."""
    trained = np.flatnonzero(graph.weights >= 0)
    biased = np.flatnonzero(graph.biases >= 0)
    slots = np.concatenate([graph.weights[trained], graph.biases[biased]])
    tied = np.bincount(slots, minlength=graph.n_params) > 1
    tied[list(graph.names)] = True
    owners = np.concatenate([targets[trained], biased])
    edges = np.concatenate([trained, np.full(len(biased), graph.n_edges)])
    at = np.flatnonzero(tied[slots])
    at = at[np.lexsort((edges[at], owners[at], slots[at]))]
    terms: dict[int, list[str]] = {slot: [] for slot in np.flatnonzero(tied).tolist()}
    sources = graph.sources.data
    for slot, j, e in zip(slots[at].tolist(), owners[at].tolist(), edges[at].tolist(), strict=True):
        if e == graph.n_edges:
            terms[slot].append(f" +DLY_b{names[j]}")
        else:
            terms[slot].append(f" +DLY_w{names[sources[e]]}{names[j]}{again.get(e, '')}")
    return [f"DLY_{_tie(graph, names, slot)} ={''.join(words) or ' 0'}\n"
            for slot, words in terms.items()]


def _tie(graph: Graph, names: Sequence[str], slot: int) -> str:
    """A tie's own name, with an @ where it could be read as another."""
    name = graph.names.get(slot)
    if name is None:
        return f"@p{slot:x}"
    k = len(names[0])
    taken = re.fullmatch(f"[bny][0-9a-f]{{{k}}}|w[0-9a-f]{{{2 * k}}}(_[0-9]+)?", name)
    return f"@{name}" if taken else name
