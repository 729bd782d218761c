"""Recurrent layers, unrolled over the steps of a sequence: the weights are tied over the steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ncc.formats.importers.tensors.contraction import linear
from ncc.formats.importers.tensors.elementwise import binary, unary
from ncc.formats.importers.tensors.net import ZERO, Neurons, Tensor, TensorNet, Weights


class Cell(NamedTuple):
    """The weights of one direction of a layer, its gates one after another in the tool's order.

    w_x, w_h    (gates * h, inputs), (gates * h, h)
    b           (gates * h), added to both products, or none
    b_h         (gates * h), added to w_h h alone, before a GRU resets it, or none
    peephole    (3, h): what the cell gives to the gates i, o, f, or none
    """

    w_x: Weights
    w_h: Weights
    b: Weights | None = None
    b_h: Weights | None = None
    peephole: Weights | None = None

    def gate(self, k: int) -> Cell:
        n = self.w_h.shape[1]
        at = slice(k * n, (k + 1) * n)
        return Cell(*(None if held is None else held.moved(lambda h: h[at])
                      for held in self[:4]))  # type: ignore[arg-type]


Step = Callable[[TensorNet, Neurons, Neurons, Neurons, Cell], tuple[Neurons, Neurons]]


def zeros(n: int) -> Neurons:
    return Neurons(np.full(n, ZERO, np.int32))


def summed(net: TensorNet, x: Neurons, h: Neurons, cell: Cell, activation: str,
           more: Neurons | None = None, peephole: Weights | None = None) -> Neurons:
    """activation(w_x x + w_h h + b), a neuron an element; `more` are read by weights `peephole`.
    """
    n = cell.w_h.shape[0]
    sources = [np.broadcast_to(x.ids, (n, len(x.ids))), np.broadcast_to(h.ids, (n, len(h.ids)))]
    codes = [net.codes(cell.w_x), net.codes(cell.w_h)]
    if more is not None and peephole is not None:
        sources.append(more.ids[:, None])
        codes.append(net.codes(peephole)[:, None])
    return Neurons(net.rows(np.concatenate(sources, axis=1), np.concatenate(codes, axis=1),
                            None if cell.b is None else net.codes(cell.b), activation))


def joined(net: TensorNet, name: str, b_x: Weights, b_h: Weights, apart: slice | None = None
           ) -> Weights:
    """Two biases that are only ever added, as one parameter of the name of the first, which is
    their sum; but for the elements `apart`, which are those of the first alone."""
    values = b_x.values + b_h.values
    if apart is not None:
        values[apart] = b_x.values[apart]
    return net.parameter(name, values)


def rnn_step(activation: str) -> Step:
    def step(net: TensorNet, x: Neurons, h: Neurons, c: Neurons, cell: Cell
             ) -> tuple[Neurons, Neurons]:
        return summed(net, x, h, cell, activation), c

    return step


def lstm_step(order: str = "ifgo", gate: str = "sigmoid", cell_in: str = "tanh",
              cell_out: str = "tanh") -> Step:
    """An LSTM whose gates stand in this order: i, f, o, and g, which is the candidate."""
    def step(net: TensorNet, x: Neurons, h: Neurons, c: Neurons, cell: Cell
             ) -> tuple[Neurons, Neurons]:
        peep = {} if cell.peephole is None else {
            name: cell.peephole.moved(lambda p, k=k: p[k])  # type: ignore[misc]
            for k, name in enumerate("iof")}

        def made(name: str, state: Neurons) -> Neurons:
            return summed(net, x, h, cell.gate(order.index(name)),
                          cell_in if name == "g" else gate, state, peep.get(name))

        i, f, g = made("i", c), made("f", c), made("g", c)
        new = Neurons(net.dots(np.stack([f.ids, i.ids], axis=-1),
                               np.stack([c.ids, g.ids], axis=-1)))
        o = made("o", new)
        shown = unary(net, new, cell_out)
        assert isinstance(shown, Neurons)
        return _times(net, o, shown), new

    return step


def gru_step(order: str = "rzn", gate: str = "sigmoid", candidate: str = "tanh",
             reset_after: bool = True) -> Step:
    """A GRU: h' = (1 - z) n + z h, where n reads r (W_h h + b_h) if `reset_after`, else W_h (r h).
    """
    def step(net: TensorNet, x: Neurons, h: Neurons, c: Neurons, cell: Cell
             ) -> tuple[Neurons, Neurons]:
        r = summed(net, x, h, cell.gate(order.index("r")), gate)
        z = summed(net, x, h, cell.gate(order.index("z")), gate)
        part = cell.gate(order.index("n"))
        if reset_after:
            inner = linear(net, h, part.w_h, part.b_h)
            assert isinstance(inner, Neurons)
            reset = _times(net, r, inner)
            n = _with(net, x, part.w_x, part.b, reset, candidate)
        else:
            n = summed(net, x, _times(net, r, h), part, candidate)
        rest = unary(net, z, "1-x")
        assert isinstance(rest, Neurons)
        return Neurons(net.dots(np.stack([rest.ids, z.ids], axis=-1),
                                np.stack([n.ids, h.ids], axis=-1))), c

    return step


def _with(net: TensorNet, x: Neurons, w: Weights, bias: Weights | None, more: Neurons,
          activation: str) -> Neurons:
    """activation(w x + bias + more)."""
    n = len(more.ids)
    sources = np.concatenate([np.broadcast_to(x.ids, (n, len(x.ids))), more.ids[:, None]], axis=1)
    codes = np.concatenate([net.codes(w), np.full((n, 1), net.code(1.0), np.int32)], axis=1)
    return Neurons(net.rows(sources, codes, None if bias is None else net.codes(bias), activation))


def _times(net: TensorNet, a: Neurons, b: Neurons) -> Neurons:
    made = binary(net, "mul", a, b)
    assert isinstance(made, Neurons)
    return made


def unrolled(net: TensorNet, x: Neurons, cell: Cell, step: Step, h: Neurons | None = None,
             c: Neurons | None = None, backwards: bool = False
             ) -> tuple[Neurons, Neurons, Neurons]:
    """One direction over x (steps, inputs): all h (steps, n) in the order of the steps, and the
    last h and c (n). A state that is not given is 0, and has no edges."""
    n = cell.w_h.shape[1]
    h, c = h or zeros(n), c or zeros(n)
    steps = range(len(x.ids))
    out: dict[int, Neurons] = {}
    for t in reversed(steps) if backwards else steps:
        h, c = step(net, Neurons(x.ids[t]), h, c, cell)
        out[t] = h
    return Neurons(np.stack([out[t].ids for t in steps])), h, c


def stacked(parts: list[Neurons], axis: int) -> Tensor:
    return Neurons(np.concatenate([part.ids for part in parts], axis))
