"""The text dot: a net as Graphviz draws it."""

from __future__ import annotations

import numpy as np

from ncc.formats.write import bias_text, in_lists, names_of, weight_text
from ncc.ir.graph import ABSENT, AGGREGATIONS, INPUT, NONE, PAIR_CODES, Graph
from ncc.ir.labels import Names
from ncc.scalar.activations import name_of


def dot(graph: Graph) -> str:
    """The net for Graphviz, inputs on the left; edges that read the last call are dashed."""
    names = names_of(graph)
    outputs = np.zeros(graph.n_neurons, np.bool_)
    outputs[graph.outputs] = True
    called = Names(graph.labels)
    lines = ["digraph net {", "  rankdir=LR;", "  node [shape=circle];"]
    of = dict(zip(graph.inputs[graph.n_inputs :].tolist(), graph.states.tolist(), strict=True))
    for j, name in enumerate(names):
        if j in of:
            continue
        code = int(graph.activations[j])
        if code == ABSENT:
            continue
        shape = ", shape=doublecircle" if outputs[j] else ""
        label = f"n{name}"
        given = called.of(j)
        if given:
            label += "\\n" + given.replace("\\", "\\\\").replace('"', '\\"')
        if code == INPUT:
            shape = ", shape=box"
        else:
            agg = AGGREGATIONS[graph.aggregations[j]]
            label += f"\\n{name_of(code)}" + ("" if agg == "sum" else f" {agg}")
            if graph.biases[j] != NONE:
                label += f"\\n{bias_text(graph, j)}"
        lines.append(f'  n{name} [label="{label}"{shape}];')
    for j, sources, weights in in_lists(graph):
        for k, (i, code) in enumerate(zip(sources, weights, strict=True)):
            spelt = weight_text(graph, code)
            if graph.aggregations[j] in PAIR_CODES:  # each says the other one
                other = names[sources[k ^ 1]]
                spelt = f"*n{other}" if k % 2 else f"{spelt} *n{other}".lstrip()
            words = [f'label="{spelt}"'] if spelt else []
            words += ["style=dashed", "constraint=false"] if i in of else []
            label = f" [{', '.join(words)}]" if words else ""
            lines.append(f"  n{names[of.get(i, i)]} -> n{names[j]}{label};")
    return "\n".join(lines) + "\n}\n"
