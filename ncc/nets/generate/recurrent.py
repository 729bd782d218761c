"""LSTMs and GRUs, unrolled over their steps, as torch computes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ncc.errors import NccError
from ncc.formats.importers.tensors import elementwise
from ncc.formats.importers.tensors.contraction import linear
from ncc.formats.importers.tensors.net import Neurons, Tensor, TensorNet, Weights
from ncc.formats.importers.tensors.recurrent import Cell, gru_step, lstm_step, unrolled
from ncc.nets.generate.draft import MOST, activation_code, fits
from ncc.nets.generate.made import Made, fresh, made
from ncc.nets.generate.rnn import sizes
from ncc.scalar.activations import name_of


def lstm(words: Sequence[str], seed: int, *, output_activation: str = "identity",
         bias: bool = True, bidirectional: bool = False, residual: bool = False) -> Made:
    """An LSTM (Hochreiter and Schmidhuber 1997; gates i f g o) of several layers, unrolled: `2x3 h4
    l2` is 3 steps of 2 inputs, 2 layers with a state of 4 each. The outputs, as many as a step has
    inputs or as `o5` says, read the last state of the last layer.

    bidirectional  each layer has a twin that begins with the last step; their states stand side by
                   side, and the outputs read the last ones of both
    residual       what a layer reads is added to what it gives, where they are of one width

    The inputs come first, step by step. Parameters are those of torch's: `rnn.weight_ih_l0`, ...,
    `head.weight`, `head.bias`; of two biases that are only added one is all of both.
    """
    return _net("lstm", words, output_activation, bias, bidirectional, residual)


def gru(words: Sequence[str], seed: int, *, output_activation: str = "identity",
        bias: bool = True, bidirectional: bool = False, residual: bool = False) -> Made:
    """A GRU (Cho et al. 2014; gates r z n, the recurrent part of n reset by r), otherwise as
    `lstm`."""
    return _net("gru", words, output_activation, bias, bidirectional, residual)


def _net(kind: str, words: Sequence[str], output_activation: str, bias: bool,
         bidirectional: bool, residual: bool) -> Made:
    example = f"{kind} 2x3 h4 l2 o1"
    (inputs, steps), states, outputs = sizes(words, False, example)
    last = activation_code(output_activation)
    ends, gates = 2 if bidirectional else 1, {"lstm": 4, "gru": 3}[kind]
    below = [inputs, *[ends * h for h in states]]
    if residual and not any(ends * h == b for h, b in zip(states, below, strict=False)):
        raise NccError("E654", "residual: no layer gives as much as it reads",
                       help=f"two layers of the same width, as in {example}")
    fits(steps * ends * sum(gates * h * (h + b + 4) for h, b in zip(states, below, strict=False)))
    net = TensorNet(MOST)
    now = net.input("x", (steps, inputs))
    step = lstm_step("ifgo") if kind == "lstm" else gru_step("rzn")
    rest: dict[str, Weights] = {}  # elements that are no parameters: 0
    for k, h in enumerate(states):
        parts = [unrolled(net, now, _cell(net, rest, kind, f"l{k}{'_reverse' * end}", below[k], h,
                                          bias), step, backwards=end == 1) for end in range(ends)]
        out: Tensor = Neurons(np.concatenate([part[0].ids for part in parts], axis=1))
        final: Tensor = Neurons(np.concatenate([part[1].ids for part in parts]))
        if residual and out.shape == now.shape:
            read = Neurons(np.concatenate([now.ids[-1, : below[k] // ends],
                                           now.ids[0, below[k] // ends :]])
                           if bidirectional else now.ids[-1])
            final = elementwise.binary(net, "add", final, read)
            out = elementwise.binary(net, "add", out, now)
        assert isinstance(out, Neurons)
        now = out
    y = linear(net, final, fresh(net, "head.weight", outputs, below[-1]),
               fresh(net, "head.bias", outputs) if bias else None)
    if last:
        y = elementwise.unary(net, y, name_of(last) or "identity")
    return made(net, y, rest)


def _cell(net: TensorNet, rest: dict[str, Weights], kind: str, name: str, inputs: int, h: int,
          bias: bool) -> Cell:
    gates = {"lstm": 4, "gru": 3}[kind]
    w_x = fresh(net, f"rnn.weight_ih_{name}", gates * h, inputs)
    w_h = fresh(net, f"rnn.weight_hh_{name}", gates * h, h)
    if not bias:
        return Cell(w_x, w_h)
    b = fresh(net, f"rnn.bias_ih_{name}", gates * h)
    values, slots = np.zeros(gates * h), np.full(gates * h, -1, np.int32)
    held = Weights(values, slots)
    if kind == "gru":  # the candidate's own, which is reset
        own = net.parameter("", np.full(h, np.nan))
        assert own.slots is not None
        values[2 * h :], slots[2 * h :] = own.values, own.slots
    rest[f"rnn.bias_hh_{name}"] = held
    return Cell(w_x, w_h, b, held if kind == "gru" else None)
