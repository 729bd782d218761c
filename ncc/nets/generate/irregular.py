"""Nets without layers: random graphs, and what a weight-agnostic search begins with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ncc.errors import NccError
from ncc.ir.graph import Graph
from ncc.nets.generate.draft import NO_KEY, Draft, activation_code, fits
from ncc.nets.generate.drawing import drawn
from ncc.nets.generate.words import numbers, refuse, share


def dag(words: Sequence[str], seed: int, *, activation: str = "relu",
        output_activation: str = "identity", bias: bool = True, density: float | None = None,
        edges: int | None = None) -> Graph:
    """A random graph without layers: `8 100 4` are 8 inputs, 100 hidden neurons, 4 outputs. A
    hidden neuron may read all inputs and the hidden neurons before it, an output all of these. Of
    these edges `edges` or a share `density` (0.1) are drawn, one at least into each neuron."""
    example = "dag 8 100 4 --density 0.1"
    sizes = numbers(words, 3, "inputs, hidden neurons and outputs are wanted", example)
    if len(sizes) > 3:
        refuse(words, "inputs, hidden neurons and outputs are three numbers", example)
    inputs, hidden, outputs = sizes
    if density is not None and edges is not None:
        raise NccError("E653", "density and edges say the same: one of them is wanted")
    possible = hidden * inputs + hidden * (hidden - 1) // 2 + outputs * (inputs + hidden)
    count = edges if edges is not None else round(
        share(0.1 if density is None else density, "density") * possible)
    if not 1 <= count <= possible:
        raise NccError("E653", f"{count} edges, where 1 to {possible:,} are possible")
    fits(max(count, hidden + outputs))
    codes = activation_code(activation), activation_code(output_activation)
    choices = np.concatenate([np.arange(inputs, inputs + hidden),
                              np.full(outputs, inputs + hidden)])
    fans, sources = drawn(np.random.default_rng([seed, 1]), choices, count)
    draft = Draft()
    draft.inputs(inputs)
    cut = int(fans[:hidden].sum())
    draft.layer(fans[:hidden], sources[:cut], codes[0], biases=bias)
    draft.layer(fans[hidden:], sources[cut:], codes[1], biases=bias)
    return draft.graph(outputs)


def wann(words: Sequence[str], seed: int, *, output_activation: str = "identity",
         probability: float = 0.5) -> Graph:
    """What a search for weight-agnostic nets begins with (Gaier and Ha 2019): `4 2` are 4 inputs
    and 2 outputs, no hidden neurons. Each output reads each input, and has a bias, with this
    `probability`; one that would have neither reads one input. One parameter, `w`, is all weights
    and all biases."""
    example = "wann 4 2 --probability 0.5"
    sizes = numbers(words, 2, "inputs and outputs are wanted", example)
    if len(sizes) > 2:
        refuse(words, "inputs and outputs are two numbers", example)
    inputs, outputs = sizes
    share(probability, "probability", closed=True)
    fits(inputs * outputs)
    code = activation_code(output_activation)
    rng = np.random.default_rng([seed, 1])
    there = rng.random((outputs, inputs + 1)) < probability
    bare = np.flatnonzero(~there.any(axis=1))
    there[bare, rng.integers(inputs, size=len(bare))] = True
    draft = Draft()
    draft.inputs(inputs)
    key = draft.named(["w"])
    rows, sources = np.nonzero(there[:, :inputs])
    draft.layer(np.bincount(rows, minlength=outputs), sources, code, weights=key,
                biases=np.where(there[:, inputs], key, NO_KEY))
    return draft.graph(outputs)
