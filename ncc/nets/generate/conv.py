"""Convolutional nets: filters over pictures, pooling, a dense head."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncc.errors import NccError
from ncc.ir.graph import Graph
from ncc.nets.generate.draft import Draft, activation_code, fits
from ncc.nets.generate.words import number, product, refuse

EXAMPLE = "conv 1x28x28 8k5 max2 16k3p1 max2 10"
WANT = ("not a layer: filters are [COUNT]kSIZE[sSTRIDE][pPADDING][gGROUPS], pools maxSIZE[sSTRIDE] "
        "or meanSIZE[sSTRIDE], a dense layer is a number")


class Shape(NamedTuple):
    """Neurons as channels of pictures, numbered channel by channel, row by row."""

    channels: int
    height: int
    width: int

    @property
    def size(self) -> int:
        return self.channels * self.height * self.width


class Layer(NamedTuple):
    """A layer's word, read. `kind` is filters, max or mean."""

    word: str
    kind: str
    filters: int  # 0 of a pool, which makes as many channels as there are
    kernel: tuple[int, int]
    stride: int
    padding: int
    groups: int

    def of(self, shape: Shape) -> Shape:
        """The shape that it makes of `shape`; E654 where it does not fit."""
        if self.padding >= min(self.kernel):
            raise NccError("E654", f"{self.word}: a padding of {self.padding} around a kernel of "
                           f"{min(self.kernel)}: some places would read nothing")
        sides = [side + 2 * self.padding - k
                 for side, k in zip(shape[1:], self.kernel, strict=True)]
        if min(sides) < 0:
            raise NccError("E654", f"{self.word}: the kernel is larger than the picture of "
                           f"{shape.height}x{shape.width}")
        if shape.channels % self.groups or self.filters % self.groups:
            raise NccError("E654", f"{self.word}: {self.groups} groups of {shape.channels} channels"
                           f" and {self.filters} filters", help="the groups divide both")
        height, width = (side // self.stride + 1 for side in sides)
        return Shape(self.filters or shape.channels, height, width)

    def edges(self, shape: Shape) -> int:
        """An upper bound of the edges on `shape`: the padding's are not there."""
        channels = shape.channels // self.groups if self.filters else 1
        return self.of(shape).size * channels * math.prod(self.kernel)


def conv(words: Sequence[str], seed: int, *, activation: str = "relu",
         output_activation: str = "identity", bias: bool = True, free: bool = False) -> Graph:
    """Layers over a picture: first its size, [CHANNELSx]HEIGHTxWIDTH, then a word a layer.

        8k3        8 filters of 3 x 3 over all channels; k3x5: 3 rows, 5 columns; k3: one filter
        8k3s2p1    a stride of 2, a border of 1 on which no picture is (0, no edges)
        8k3g4      in 4 groups: a filter sees the channels of its group alone
        max2 mean2 pools of 2 x 2, with a stride of as many unless s says another
        10         fully connected

    The weights of a filter and its bias are shared by all places (`c1_0_2_11`: layer 1, filter 0,
    channel 2 of its group, row 1, column 1; `c1_0_b`), unless `free`. The last layer has
    `output_activation`; pools have neither activation nor bias, and constant weights of 1. The
    picture and the layers are labelled: `picture`, `conv1`, `max2`, `dense3`.
    """
    shape, layers, dense = _read(words)
    hidden, last = activation_code(activation), activation_code(output_activation)
    _fits(shape, layers, dense)
    draft = Draft()
    first = draft.inputs(shape.size)
    draft.label(first, "picture", *shape)
    for k, layer in enumerate(layers, 1):
        code = last if k == len(layers) and not dense else hidden
        made = layer.of(shape)
        fans, sources, tie = _windows(layer, shape, made)
        sources += first
        if layer.kind != "filters":
            first = draft.layer(fans, sources, 0, weights=draft.constant(1.0),
                                aggregation=layer.kind)
        elif free:
            first = draft.layer(fans, sources, code, biases=bias)
        else:
            first = _tied(draft, layer, k, shape, made, (fans, sources, tie), code, bias)
        shape = made
        draft.label(first, ("conv" if layer.kind == "filters" else layer.kind) + str(k), *shape)
    count = shape.size
    for k, width in enumerate(dense, 1):
        first = draft.dense(width, first, count, last if k == len(dense) else hidden, bias)
        draft.label(first, f"dense{len(layers) + k}", width)
        count = width
    return draft.graph(count)


def _tied(draft: Draft, layer: Layer, k: int, shape: Shape, made: Shape,
          edges: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]], code: int,
          bias: bool) -> int:
    fans, sources, tie = edges
    channels = range(shape.channels // layer.groups)
    rows, columns = (range(side) for side in layer.kernel)
    mark = "_" if max(layer.kernel) > 10 else ""
    keys = draft.named([f"c{k}_{f}_{c}_{y}{mark}{x}" for f in range(layer.filters) for c in channels
                        for y in rows for x in columns])
    biases: NDArray[np.int64] | bool = False
    if bias:
        named = draft.named([f"c{k}_{f}_b" for f in range(layer.filters)])
        biases = named + np.repeat(np.arange(layer.filters), made.height * made.width)
    return draft.layer(fans, sources, code, weights=keys + tie, biases=biases)


def _windows(layer: Layer, shape: Shape, made: Shape
             ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Fan-in (neurons), sources within the shape and the weight of the filters (edges) of every
    neuron that a layer makes; sources ascend."""
    rows = np.arange(made.height)[:, None] * layer.stride - layer.padding
    columns = np.arange(made.width)[:, None] * layer.stride - layer.padding
    y = (rows + np.arange(layer.kernel[0]))[:, None, :, None]  # (height, 1, kernel, 1)
    x = (columns + np.arange(layer.kernel[1]))[None, :, None, :]
    there = (y >= 0) & (y < shape.height) & (x >= 0) & (x < shape.width)
    pixel = y * shape.width + x  # (height, width, kernel, kernel)
    channels = shape.channels // layer.groups if layer.filters else 1
    mine = np.arange(made.channels) if not layer.filters else (
        np.arange(layer.filters) // (layer.filters // layer.groups) * channels)
    # By filter, place, channel of the group, place in the kernel.
    channel = mine[:, None] + np.arange(channels)
    source = (channel[:, None, None, :, None, None] * (shape.height * shape.width)
              + pixel[None, :, :, None])
    size = math.prod(layer.kernel)
    weight = (np.arange(made.channels * channels).reshape(-1, 1, 1, channels, 1, 1) * size
              + np.arange(size).reshape(layer.kernel))
    mask = np.broadcast_to(there[None, :, :, None], source.shape)
    fans = np.tile(there.sum(axis=(2, 3)).ravel() * channels, made.channels)
    return fans, source[mask], np.broadcast_to(weight, source.shape)[mask]


def _read(words: Sequence[str]) -> tuple[Shape, list[Layer], list[int]]:
    """The picture, the layers over pictures, the widths of dense layers behind them."""
    if len(words) < 2:
        refuse(words, "the size of a picture and a layer or more are wanted", EXAMPLE)
    sides = product(words[0], 2, 3, "not the size of a picture, HxW or CxHxW", EXAMPLE)
    layers: list[Layer] = []
    dense: list[int] = []
    for word in words[1:]:
        width = number(word)
        if width is not None:
            dense.append(width)
            continue
        if dense:
            refuse([word], f"it stands behind the dense layer {dense[-1]}", EXAMPLE)
        layers.append(_layer(word))
    return Shape(*([1, *sides] if len(sides) == 2 else sides)), layers, dense


def _layer(word: str) -> Layer:
    size = "[0-9]{1,10}"
    found = re.fullmatch(f"((?:{size})?k|max|mean)({size})(?:x({size}))?((?:[spg]{size})*)", word)
    options = re.findall("([spg])([0-9]+)", found[4]) if found else []
    letters = [letter for letter, _ in options]
    if not found or len(set(letters)) < len(letters):
        refuse([word], WANT, EXAMPLE)
    pool = found[1] in ("max", "mean")
    values = {"s": int(found[2]) if pool else 1, "p": 0, "g": 1}
    values |= {letter: int(digits) for letter, digits in options}
    kernel = int(found[2]), int(found[3] or found[2])
    count = 0 if pool else int(found[1][:-1] or 1)
    least = (*kernel, values["s"], values["g"], 1 if pool else count)
    if min(least) < 1 or max(*least, values["p"]) >= 2**31:
        refuse([word], "its numbers are 1 or more (a padding 0 or more)", EXAMPLE)
    if pool and {"p", "g"} & set(letters):
        refuse([word], "a pool has neither padding nor groups", EXAMPLE)
    return Layer(word, found[1] if pool else "filters", count, kernel, values["s"], values["p"],
                 values["g"])


def _fits(shape: Shape, layers: Sequence[Layer], dense: Sequence[int]) -> None:
    edges = shape.size
    for layer in layers:
        edges += layer.edges(shape)
        shape = layer.of(shape)
    widths = [shape.size, *dense]
    fits(edges + sum(a * b for a, b in zip(widths, dense, strict=False)))
