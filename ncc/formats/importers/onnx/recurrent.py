"""ONNX's RNN, LSTM and GRU: gates i o f c and z r h, weights (directions, gates * h, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ncc.formats.importers.onnx.evaluate import Node
from ncc.formats.importers.onnx.functions import Unkept, attribute, fixed, formula
from ncc.formats.importers.tensors import recurrent
from ncc.formats.importers.tensors.net import Neurons, Tensor, Weights

DEFAULTS: Final = {"RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}
ALPHA: Final = frozenset(("Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid",
                          "Elu"))
BETA: Final = frozenset(("Affine", "ScaledTanh", "HardSigmoid"))


def functions(node: Node, directions: int) -> list[list[str]]:
    """The expressions of each direction. Values of activation_alpha and activation_beta go to those
    functions that have one, in their order."""
    each = len(DEFAULTS[node.kind])
    names = list(attribute(node, "activations") or DEFAULTS[node.kind] * directions)
    if len(names) != each * directions:
        raise Unkept(f"{len(names)} activations, where {each * directions} are wanted")
    known = {name.lower(): name for name in (
        *ALPHA, "Relu", "Tanh", "Sigmoid", "Softsign", "Softplus")}
    alphas = iter(attribute(node, "activation_alpha") or ())
    betas = iter(attribute(node, "activation_beta") or ())
    made = []
    for given in names:
        name = known.get(given.lower())
        if name is None:
            raise Unkept(f"the activation {given}")
        made.append(formula(name, next(alphas, None) if name in ALPHA else None,
                            next(betas, None) if name in BETA else None))
    return [made[k * each : (k + 1) * each] for k in range(directions)]


def rnn(reader: Any, node: Node, x: Any, w: Any, r: Any, b: Any = None, lens: Any = None,
        h: Any = None) -> list[Any]:
    return layer(reader, node, x, w, r, b, lens, h)


def lstm(reader: Any, node: Node, x: Any, w: Any, r: Any, b: Any = None, lens: Any = None,
         h: Any = None, c: Any = None, p: Any = None) -> list[Any]:
    if attribute(node, "input_forget", 0):
        raise Unkept("input_forget 1")
    return layer(reader, node, x, w, r, b, lens, h, c, p)


def gru(reader: Any, node: Node, x: Any, w: Any, r: Any, b: Any = None, lens: Any = None,
        h: Any = None) -> list[Any]:
    return layer(reader, node, x, w, r, b, lens, h)


def layer(reader: Any, node: Node, x: Any, w: Any, r: Any, b: Any, lens: Any, h: Any,
          c: Any = None, p: Any = None) -> list[Any]:
    """The outputs Y, Y_h and, of an LSTM, Y_c; x (steps, batch, inputs), Y (steps, directions,
    batch, n), states (directions, batch, n); with layout 1 the batch comes first."""
    if attribute(node, "clip") is not None:
        raise Unkept(f"clip {attribute(node, 'clip')}")
    direction = attribute(node, "direction", "forward")
    ends = 2 if direction == "bidirectional" else 1
    if direction not in ("forward", "reverse", "bidirectional"):
        raise Unkept(f"direction {direction}")
    for held in (w, r, *(one for one in (b, p) if one is not None)):
        if not isinstance(held, Weights):
            raise Unkept("weights that depend on the input")
    if not isinstance(x, Neurons):
        x = reader.net.neurons(x)
    first = attribute(node, "layout", 0)
    steps = x.ids.swapaxes(0, 1) if first else x.ids
    if lens is not None and (fixed(lens) != steps.shape[0]).any():
        raise Unkept("sequence_lens other than all steps")
    found = functions(node, ends)
    made, last = [], []
    for end in range(ends):
        cell = _cell(reader, node, end, w, r, b, p)
        step = _step(node, found[end])
        backwards = end == 1 or direction == "reverse"
        samples = [recurrent.unrolled(
            reader.net, Neurons(steps[:, k]), cell, step, _state(reader, h, end, k, first),
            _state(reader, c, end, k, first), backwards) for k in range(steps.shape[1])]
        made.append(np.stack([out.ids for out, _, _ in samples], axis=1))
        last.append([np.stack([one[part].ids for one in samples]) for part in (1, 2)])
    y = np.stack(made, axis=1)  # (steps, directions, batch, n)
    states = [np.stack([one[part] for one in last]) for part in (0, 1)]
    if first:
        y = y.transpose(2, 0, 1, 3)
        states = [held.swapaxes(0, 1) for held in states]
    return [Neurons(y), *(Neurons(held) for held in states[: 2 if node.kind == "LSTM" else 1])]


def _step(node: Node, found: Sequence[str]) -> recurrent.Step:
    if node.kind == "LSTM":
        return recurrent.lstm_step("iofg", *found)
    if node.kind == "GRU":
        return recurrent.gru_step("zrn", found[0], found[1],
                                  bool(attribute(node, "linear_before_reset", 0)))
    return recurrent.rnn_step(found[0])


def _cell(reader: Any, node: Node, end: int, w: Weights, r: Weights, b: Weights | None,
          p: Weights | None) -> recurrent.Cell:
    n = r.shape[2]
    gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[node.kind]
    if w.shape[1] != gates * n or r.shape[1] != gates * n or attribute(node, "hidden_size", n) != n:
        raise ValueError(f"weights of shapes {w.shape} and {r.shape}, hidden_size "
                         f"{attribute(node, 'hidden_size')}")
    peephole = None if p is None else p.moved(lambda held: held[end].reshape(3, n))
    w_x, w_h = (held.moved(lambda one: one[end]) for held in (w, r))
    if b is None:
        return recurrent.Cell(w_x, w_h, peephole=peephole)
    b_x, b_h = (b.moved(lambda one, at=at: one[end][at])  # type: ignore[misc]
                for at in (slice(gates * n), slice(gates * n, None)))
    apart = node.kind == "GRU" and bool(attribute(node, "linear_before_reset", 0))
    rest = slice(2 * n, 3 * n) if apart else None
    joined = recurrent.joined(reader.net, f"{node.inputs[3]}.joined{end}", b_x, b_h, rest)
    if b.slots is None:
        joined = Weights(joined.values)
    return recurrent.Cell(w_x, w_h, joined, b_h if apart else None, peephole)


def _state(reader: Any, held: Tensor | None, end: int, k: int, first: bool) -> Neurons | None:
    """A first state; None where it is 0."""
    if held is None:
        return None
    mine = held.moved(lambda h: h[k, end] if first else h[end, k])
    if isinstance(mine, Weights) and mine.slots is None and not mine.values.any():
        return None
    return reader.net.neurons(mine)  # type: ignore[no-any-return]
