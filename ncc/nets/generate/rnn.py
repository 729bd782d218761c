"""Recurrent nets, unrolled over their steps."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ncc.ir.graph import Graph
from ncc.nets.generate.draft import Draft, activation_code, fits
from ncc.nets.generate.words import number, product, refuse

EXAMPLE = "rnn 2x3 h4 l2 o2"


def rnn(words: Sequence[str], seed: int, *, activation: str = "tanh",
        output_activation: str = "identity", bias: bool = True, free: bool = False,
        stream: bool = False) -> Graph:
    """A recurrent net (Elman 1990) of several layers, unrolled: `2x3 h4 l2` is 3 steps of 2 inputs,
    2 layers with a state of 4 each, and as many outputs as a step has inputs, or as `o5` says.
    `h8 h4` are two layers of 8 and 4.

    The inputs come first, step by step; then the states of the first layer, step by step, those of
    the next layer, ...; then the outputs, which read the last state of the last layer. A state
    reads its step's inputs (or the layer below at its step), then the state before, of which the
    first step has none. They are labelled `x`, `h1`, `h2`, ..., `y`. All steps share their weights,
    unless `free`: `wx1_0_2` (layer 1, neuron 0, input 2), `wh1_0_2`, `b1_0`.

    A net that is to `stream` is of one step, `2 h4 l2`: its states read their values of the call
    before, so that it makes a step a call. Its parameters have the same names.
    """
    (inputs, steps), states, outputs = sizes(words, stream, EXAMPLE)
    hidden, last = activation_code(activation), activation_code(output_activation)
    below = [inputs, *states]
    fits(steps * sum(h * (h + b) for h, b in zip(states, below, strict=False))
         + outputs * states[-1])
    draft = Draft()
    first = draft.inputs(inputs * steps)
    draft.label(first, "x", steps, inputs)
    for k, (count, width) in enumerate(zip(below, states, strict=False), 1):
        keys = None if free else _named(draft, k, width, count, bias)
        before, under, began = -1, first, -1
        for step in range(steps):
            here = np.arange(under + step * count, under + (step + 1) * count)
            if stream:
                read = np.concatenate([here, -1 - np.arange(draft.count, draft.count + width)])
            elif step:
                read = np.concatenate([here, np.arange(before, before + width)])
            else:
                read = here
            weights = None if keys is None else keys[0][:, : len(read)].ravel()
            biases = bias if keys is None or not bias else keys[1]
            before = draft.layer(np.full(width, len(read)), np.tile(read, width), hidden,
                                 weights=weights, biases=biases)
            began = before if step == 0 else began
        first = began
        draft.label(first, f"h{k}", steps, width)
    y = draft.dense(outputs, draft.count - states[-1], states[-1], last, bias)
    draft.label(y, "y", outputs)
    return draft.graph(outputs)


def _named(draft: Draft, k: int, width: int, count: int, bias: bool
           ) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], ...]:
    """Keys of the weights of layer k, (width, count + width), and of its biases (width)."""
    weights = draft.named([f"{word}{k}_{j}_{i}" for j in range(width)
                           for word, n in (("wx", count), ("wh", width)) for i in range(n)])
    biases = draft.named([f"b{k}_{j}" for j in range(width)] if bias else [])
    return (weights + np.arange(width * (count + width)).reshape(width, -1),
            biases + np.arange(width))


def sizes(words: Sequence[str], stream: bool, example: str
          ) -> tuple[list[int], list[int], int]:
    """[inputs, steps], the width of each layer's state, the outputs."""
    if not words:
        refuse(words, "inputs and steps are wanted, and a state", example)
    if stream:
        first = [*product(words[0], 1, 1, "not a step's INPUTS, without a number of steps",
                          "rnn 2 h4 l2 --stream"), 1]
    else:
        first = product(words[0], 2, 2, "not INPUTSxSTEPS", example)
    states: list[int] = []
    once: dict[str, int] = {}
    for word in words[1:]:
        found = re.fullmatch("([hlo])([0-9]+)", word)
        value = number(found[2]) if found else None
        if found is None or value is None or found[1] in once:
            refuse([word], "not a state h4, once a number of layers l2 and of outputs o2", example)
        if found[1] == "h":
            states.append(value)
        else:
            once[found[1]] = value
    layers = once.get("l")
    if not states:
        refuse(words, "a state is wanted, h4", example)
    if layers is not None and layers != len(states):
        if len(states) > 1:
            refuse(words, f"{layers} layers, but {len(states)} states", example)
        states *= layers
    return first, states, once.get("o", first[0])
