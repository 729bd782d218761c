"""A net as SharpNEAT's `.net`, version 4 (ncc/formats/importers/sharpneat.py has what it means).

Such a net has one function, sums without biases, and in each call all neurons see current values
(`acyclic`), or inputs are current and all other values those of the last call (`cyclic 1`).
SharpNEAT adds up in an order of its own, sources by depth and then by id: where an in-list has
another one, sums round otherwise.
"""

from __future__ import annotations

import numpy as np

from ncc.errors import NccError
from ncc.formats.exporters.attributes import parameters
from ncc.formats.importers.sharpneat import FUNCTIONS
from ncc.formats.write import in_lists, names_of, sayable
from ncc.ir.graph import AGGREGATIONS, INPUT, NONE, Graph, Reals
from ncc.scalar.activations import ACTIVATIONS, name_of
from ncc.scalar.expressions import expression

# Of ncc's own activations those that are one of SharpNEAT's, in another spelling.
SAME = {"sigmoid": "Logistic", "clip": "Linear"}


def sharpneat(graph: Graph, lossy: bool = False) -> bytes:
    """The file. NccError E401 where it cannot say the graph, E607 where a weight has no value."""
    sayable(graph, "net", lossy=True)
    table = parameters(graph)
    function = _function(graph)
    _sums(graph, table)
    ids = _ids(graph)
    late = {i: j for i, j in zip(graph.inputs[graph.n_inputs:].tolist(), graph.states.tolist(),
                                 strict=True)}
    inputs = set(graph.inputs[:graph.n_inputs].tolist())
    rows = []
    for j, sources, weights in in_lists(graph):
        for i, code in zip(sources, weights, strict=True):
            if late and i not in inputs and late.get(i, i) == i:
                raise _loss(f"current values beside those of the last call (neuron "
                            f"{names_of(graph)[j]} reads {names_of(graph)[i]})")
            if late.get(i) in inputs:
                raise _loss("an input's value of the last call")
            rows.append((ids[late.get(i, i)], ids[j], float(table[code])))
    rows.sort()
    lines = ["# Input and output node counts.", f"{graph.n_inputs}\t{len(graph.outputs)}", "",
             "# Cyclic/acyclic indicator.", "cyclic\t1" if late else "acyclic", "",
             "# Connections (source target weight)."]
    lines += [f"{i}\t{j}\t{w!r}" for i, j, w in rows]
    lines += ["", "# Activation functions (functionId functionCode).", f"0\t{function}", ""]
    return ("\n".join(lines) + "\n").encode()


def _loss(what: str) -> NccError:
    return NccError("E401", f"a .net of SharpNEAT's cannot express {what}")


def _function(graph: Graph) -> str:
    """The name of the one function there."""
    codes = np.unique(graph.activations[graph.activations != INPUT]).tolist()
    if len(codes) > 1:
        raise _loss("more than one activation: " + ", ".join(
            graph.functions.get(code) or name_of(code) for code in codes[:4]))
    program = expression(codes[0], graph.functions)
    code_of_builtin = {a.name: a.code for a in ACTIVATIONS}
    if codes[0] in graph.functions or name_of(codes[0]) not in SAME:
        for name, text in FUNCTIONS.items():
            other = (expression(code_of_builtin[text], {}) if text in code_of_builtin
                     else expression(0x20, {0x20: text}))
            if other == program:
                return name
        raise _loss(f"the activation {graph.functions.get(codes[0]) or name_of(codes[0])}")
    return SAME[name_of(codes[0])]


def _sums(graph: Graph, table: Reals) -> None:
    """E401 for what is no sum from 0 of one product or more."""
    names = names_of(graph)
    hidden = np.ones(graph.n_neurons, np.bool_)
    hidden[graph.outputs] = False
    for j in np.flatnonzero(graph.activations != INPUT).tolist():
        how = AGGREGATIONS[graph.aggregations[j]]
        if how not in ("sum", "sumbias"):
            raise _loss(f"the aggregation {how} (neuron {names[j]})")
        if graph.biases[j] != NONE and table[graph.biases[j]] != 0:
            raise NccError("E401", f"a .net of SharpNEAT's cannot express biases (neuron {names[j]}"
                           ")", help="let the neuron read an input that is always 1")
        if graph.starts[j] == graph.starts[j + 1] and hidden[j]:
            raise _loss(f"a constant neuron ({names[j]}) that others read")


def _ids(graph: Graph) -> list[int]:
    """Inputs from 0, then outputs, then the others in their order."""
    inputs = graph.inputs[:graph.n_inputs].tolist()
    outputs = graph.outputs.tolist()
    if set(outputs) & set(graph.inputs.tolist()):
        raise _loss("an input that is an output")
    first = {*inputs, *outputs}
    ids = [0] * graph.n_neurons
    others = [j for j in range(graph.n_own) if j not in first]
    for k, j in enumerate([*inputs, *outputs, *others]):
        ids[j] = k
    return ids
