"""Keras's recurrent layers, unrolled over their steps, and the wrappers of layers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ncc.formats.importers.tensors import elementwise
from ncc.formats.importers.tensors import recurrent as unrolling
from ncc.formats.importers.tensors.net import Neurons, Tensor

MOST_STEPS: Final = 10_000
GATES: Final = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}


def layer(layer: Any, x: Any, *states: Any, initial_state: Any = None) -> Any:
    """SimpleRNN, GRU (gates z r h) or LSTM (gates i f c o) over x (steps, inputs)."""
    return _run(layer, layer.kind, layer, "cell", x, states, initial_state)


def of_cell(layer: Any, x: Any, *states: Any, initial_state: Any = None) -> Any:
    """RNN of one cell of these kinds."""
    held = layer.config["cell"]
    kind = held["class_name"].text()
    if kind.removesuffix("Cell") not in GATES or not kind.endswith("Cell"):
        raise layer.fault("E810", f"a cell of the class {kind[:60]!r}")
    cell = type(layer)(layer.reader, layer.name, kind, held["config"], layer.place)
    return _run(layer, kind.removesuffix("Cell"), cell, "cell", x, states, initial_state)


def _run(layer: Any, kind: str, cell: Any, group: str, x: Any, states: Any, initial: Any,
         backwards: bool | None = None) -> Any:
    if isinstance(x, list):  # [x, state, ...], as Keras 2 has it
        x, states = x[0], (*x[1:], *states)
    for key in ("stateful", "time_major"):
        if layer.flag(key, False):
            raise layer.fault("E813", key)
    if len(x.shape) != 2:
        raise ValueError(f"a tensor of shape {x.shape}, and (steps, inputs) is wanted")
    if x.shape[0] > MOST_STEPS:
        raise layer.fault("E819", f"{x.shape[0]} steps, and {MOST_STEPS} are the most")
    begin = initial if isinstance(initial, list) else [] if initial is None else [initial]
    begin = [*states, *begin]
    n = cell.integer("units")
    wanted = 2 if kind == "LSTM" else 1
    if begin and (len(begin) != wanted or any(state.shape != (n,) for state in begin)):
        raise ValueError(f"states of {[state.shape for state in begin]}, and {wanted} of ({n},)")
    h, c, *_ = [*(layer.net.neurons(state) for state in begin), None, None]
    weights = _cell(cell, kind, x.shape[1], n, group)
    layer.fits(x.shape[0] * GATES[kind] * n * (x.shape[1] + n))
    if backwards is None:
        backwards = layer.flag("go_backwards", False)
    rows = x.ids[::-1] if backwards else x.ids
    made, *ended = unrolling.unrolled(layer.net, Neurons(rows), weights, _step(cell, kind), h, c)
    out = made if layer.flag("return_sequences", False) else Neurons(made.ids[-1])
    if not layer.flag("return_state", False):
        return out
    return [out, *ended[:wanted]]


def _step(cell: Any, kind: str) -> Any:
    inner = cell.text("activation", "tanh")
    if kind == "SimpleRNN":
        return unrolling.rnn_step(inner)
    gate = cell.text("recurrent_activation", "sigmoid")
    if kind == "LSTM":
        return unrolling.lstm_step("ifgo", gate, inner, inner)
    return unrolling.gru_step("zrn", gate, inner, _after(cell))


def _after(cell: Any) -> bool:
    return bool(cell.flag("reset_after", cell.reader.keras == 3))


def _cell(cell: Any, kind: str, inputs: int, n: int, group: str) -> unrolling.Cell:
    """The weights of a layer's cell; the two biases of a GRU that resets afterwards are one where
    both are only added."""
    gates = GATES[kind] * n
    after = kind == "GRU" and _after(cell)
    shapes: dict[str, tuple[int, ...]] = {"kernel": (inputs, gates), "recurrent_kernel": (n, gates)}
    if cell.flag("use_bias", True):
        shapes["bias"] = (2, gates) if after else (gates,)
    if not after or "bias" not in shapes:
        w_x, w_h, *bias = cell.weights(shapes, group)
        return unrolling.Cell(w_x.moved(np.transpose), w_h.moved(np.transpose), *bias)
    *_, both = cell.values(shapes, group)
    own = slice(2 * n, 3 * n)  # of the candidate, whose second bias is reset
    first, second = both[0] + both[1], np.zeros(gates)
    first[own], second[own] = both[0, own], both[1, own]
    w_x, w_h, joined = cell.weights(shapes, group, instead={"bias": np.stack([first, second])})
    return unrolling.Cell(w_x.moved(np.transpose), w_h.moved(np.transpose),
                          joined.moved(lambda held: held[0]), joined.moved(lambda held: held[1]))


def bidirectional(layer: Any, x: Any, *states: Any, initial_state: Any = None) -> Any:
    """A layer and its twin, which goes backwards, their outputs merged."""
    held = layer.config["layer"]
    forward = _inside(layer, held, "forward_layer", "forward_")
    if layer.has("backward_layer"):
        backward = _inside(layer, layer.config["backward_layer"], "backward_layer", "backward_")
    else:
        backward = _inside(layer, held, "backward_layer", "backward_")
    begin = list(states) if initial_state is None else list(initial_state)
    half = len(begin) // 2
    ways = []
    if forward.flag("go_backwards", False):
        raise layer.fault("E813", "go_backwards of its forward layer")
    for inner, mine in ((forward, begin[:half]), (backward, begin[half:])):
        if inner.kind not in GATES:
            raise layer.fault("E813", f"layers of the class {inner.kind}")
        made = _run(inner, inner.kind, inner, "cell", x, mine, None, inner is backward)
        ways.append(made if isinstance(made, list) else [made])
    (y, *ended), (back, *ended_back) = ways
    if forward.flag("return_sequences", False):
        back = back.moved(lambda ids: ids[::-1])
    how = layer.config.value.get("merge_mode", "concat")
    if how is None:
        out: list[Tensor] = [y, back]
    elif how == "concat":
        out = [elementwise.concatenated(layer.net, [y, back], -1)]
    elif how in ("sum", "mul"):
        out = [elementwise.binary(layer.net, "add" if how == "sum" else "mul", y, back)]
    elif how == "ave":
        out = [layer.net.sum_of(np.stack([y.ids, back.ids], -1), aggregation="mean")]
    else:
        raise layer.fault("E813", f"merge_mode is {str(how)[:40]!r}")
    made = [*out, *ended, *ended_back]
    return made if len(made) > 1 else made[0]


def time_distributed(layer: Any, x: Tensor) -> Tensor:
    """A layer at each step of x, by the same weights."""
    inner = _inside(layer, layer.config["layer"], "layer", "")
    if inner.kind == "Dense":
        made: Tensor = layer.reader.called(inner, [x], {})
        return made
    if x.shape[0] > MOST_STEPS:
        raise layer.fault("E819", f"{x.shape[0]} steps, and {MOST_STEPS} are the most")
    parts = []
    for k in range(x.shape[0]):
        step = x.moved(lambda held, k=k: held[k])  # type: ignore[misc]
        (part,) = layer.reader.applied(inner, [step], {}, 1, -1)
        parts.append(part.moved(lambda held: held[None]))
    return elementwise.concatenated(layer.net, parts, 0)


def _inside(layer: Any, held: Any, group: str, prefix: str) -> Any:
    """A layer that a wrapper holds, under the name that the wrapper gives it."""
    inner = layer.reader.layer(held, layer.place, layer.name)
    name = inner.name
    if prefix and not name.startswith(prefix):
        name = prefix + name.removeprefix("forward_")
    return type(layer)(layer.reader, name, inner.kind, inner.config,
                       layer.place.inside(group, name))
