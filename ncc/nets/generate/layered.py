"""Nets of layers: dense, RadiX-Nets, random sparse."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ncc.errors import NccError
from ncc.ir.graph import Graph
from ncc.nets.generate.draft import Draft, activation_code, fits
from ncc.nets.generate.drawing import drawn
from ncc.nets.generate.words import numbers, product, refuse, share


def fcn(words: Sequence[str], seed: int, *, activation: str = "relu",
        output_activation: str = "identity", bias: bool = True) -> Graph:
    """Fully connected layers, the first word the inputs, the last the outputs: `4 4 4 2`."""
    widths = numbers(words, 2, "the widths of two layers or more are wanted", "fcn 4 4 4 2")
    hidden, last = _codes(activation, output_activation)
    fits(sum(math.prod(widths[k : k + 2]) for k in range(len(widths) - 1)))
    draft = Draft()
    first = draft.inputs(widths[0])
    for k, width in enumerate(widths[1:], 1):
        code = last if k == len(widths) - 1 else hidden
        first = draft.dense(width, first, widths[k - 1], code, bias)
    return draft.graph(widths[-1])


def radix(words: Sequence[str], seed: int, *, activation: str = "relu",
          output_activation: str = "identity", bias: bool = True, repeat: int = 1,
          factor: int = 1) -> Graph:
    """A RadiX-Net (Robinett and Kepner 2018). A word is a mixed-radix system, `2x2x2`: a layer for
    each of its numbers N_i, of N' = N_1 N_2 ... places, in which place p reads the places
    p - j v (mod N'), j = 0 .. N_i - 1, v being the product of the numbers before. Systems follow
    one another, `repeat` times; all have one N', the last one a divisor of it. Each place is
    `factor` neurons, which read all neurons of a place (the Kronecker product with ones)."""
    example = "radix 2x2x2 2x2x2"
    if not words:
        refuse(words, "a mixed-radix system or more is wanted", example)
    systems = [product(word, 1, 31, "not a mixed-radix system: integers of 2 or more", example)
               for word in words]
    for word, system in zip(words, systems, strict=True):
        if min(system) < 2:
            refuse([word], "a radix is 2 or more", example)
    if repeat < 1 or factor < 1:
        raise NccError("E653", f"repeat and factor are {repeat} and {factor}, not 1 or more")
    places = math.prod(systems[0])
    for k, (word, system) in enumerate(zip(words, systems, strict=True)):
        own, last = math.prod(system), k == len(systems) - 1
        if places % own if last and repeat == 1 else own != places:
            raise NccError("E654", f"{word}: its product is {own}, that of {words[0]} {places}",
                           help="all systems have one product; the last one may have a divisor")
    fits(places * factor * factor * sum(map(sum, systems)) * repeat)
    radices = [(n, math.prod(system[:i]))
               for system in systems for i, n in enumerate(system)] * repeat
    hidden, output = _codes(activation, output_activation)
    draft = Draft()
    width = places * factor
    first = draft.inputs(width)
    for k, (n, value) in enumerate(radices):
        read = np.sort((np.arange(places)[:, None] - value * np.arange(n)) % places, axis=1)
        neurons = (read[:, :, None] * factor + np.arange(factor)).reshape(places, -1)
        code = output if k == len(radices) - 1 else hidden
        first = draft.layer(np.full(width, n * factor),
                            (first + np.repeat(neurons, factor, axis=0)).ravel(), code,
                            biases=bias)
    return draft.graph(width)


def random(words: Sequence[str], seed: int, *, activation: str = "relu",
           output_activation: str = "identity", bias: bool = True, density: float = 0.1,
           distribution: str = "uniform") -> Graph:
    """Sparse layers, `64 256 10`. Of all edges of the dense net a share `density` is drawn, every
    neuron has one in-edge at least. `distribution` says how many a layer of n_in by n_out has:

    uniform  the same density in all layers
    erk      Erdos-Renyi-Kernel: density in proportion to (n_in + n_out) / (n_in n_out), and a
             layer in which that is above 1 dense (Mocanu et al. 2018, Evci et al. 2020)
    """
    widths = numbers(words, 2, "the widths of two layers or more are wanted", "random 64 256 10")
    share(density, "density")
    if distribution not in ("uniform", "erk"):
        raise NccError("E653", f"distribution is {distribution!r}, not uniform or erk")
    hidden, last = _codes(activation, output_activation)
    sizes = [a * b for a, b in zip(widths, widths[1:], strict=False)]
    shares = [density] * len(sizes) if distribution == "uniform" else _erk(widths, density)
    counts = [max(width, round(d * size))
              for d, size, width in zip(shares, sizes, widths[1:], strict=True)]
    fits(sum(counts))
    draft, rng = Draft(), np.random.default_rng([seed, 1])  # not the stream of --init
    first = draft.inputs(widths[0])
    for k, (before, width) in enumerate(zip(widths, widths[1:], strict=False)):
        fans, sources = drawn(rng, np.full(width, before), counts[k])
        code = last if k == len(sizes) - 1 else hidden
        first = draft.layer(fans, sources + first, code, biases=bias)
    return draft.graph(widths[-1])


def _erk(widths: Sequence[int], density: float) -> list[float]:
    """The density of each layer. Those for which the rule asks more than all edges are dense, and
    the others share what is left."""
    layers = list(zip(widths, widths[1:], strict=False))
    dense: set[int] = set()
    while True:
        budget = density * sum(a * b for a, b in layers) - sum(
            math.prod(layers[k]) for k in dense)
        rest = [k for k in range(len(layers)) if k not in dense]
        scale = max(0.0, budget) / max(1, sum(sum(layers[k]) for k in rest))
        full = [k for k in rest if scale * sum(layers[k]) > math.prod(layers[k])]
        if not full:
            return [1.0 if k in dense else scale * sum(layers[k]) / math.prod(layers[k])
                    for k in range(len(layers))]
        dense.update(full)


def _codes(hidden: str, output: str) -> tuple[int, int]:
    return activation_code(hidden), activation_code(output)
