"""What torch's layers of neurons are: sums of products, norms, attention, recurrence; each takes
the reader, the node and the arguments of aten's schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ncc.formats.importers.tensors import attention as attend
from ncc.formats.importers.tensors import contraction, elementwise, norms, recurrent
from ncc.formats.importers.tensors.net import Neurons, Tensor, Weights


class Unkept(Exception):
    """A value of an option that ncc cannot keep; the message names it."""


# -- sums of products

def linear(reader: Any, node: Any, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Any:
    if not isinstance(w, Weights):
        made = contraction.matmul(reader.net, x, w.moved(np.transpose))
        return made if bias is None else elementwise.binary(reader.net, "add", made, bias)
    assert bias is None or isinstance(bias, Weights)
    w, bias, batch_norm = _with_norm(reader, node, w, bias)
    made = contraction.linear(reader.net, x, w, bias)
    return _folded(reader, node, batch_norm, made)


def matmul(reader: Any, node: Any, a: Tensor, b: Tensor) -> Tensor:
    return contraction.matmul(reader.net, a, b)


def addmm(reader: Any, node: Any, bias: Tensor, a: Tensor, b: Tensor, *, beta: Any = 1,
          alpha: Any = 1) -> Tensor:
    if (beta, alpha) != (1, 1):
        raise Unkept(f"beta {beta}, alpha {alpha}")
    if isinstance(b, Weights) and len(bias.shape) == 1 and isinstance(bias, Weights):
        return contraction.linear(reader.net, a, b.moved(np.transpose), bias)
    return elementwise.binary(reader.net, "add", contraction.matmul(reader.net, a, b), bias)


def _with_norm(reader: Any, node: Any, w: Weights, bias: Weights | None
               ) -> tuple[Weights, Weights | None, Any]:
    """Filters and biases, with the batch norm behind them folded into them, and its node."""
    user = reader.conv_like(node)
    if user is None:
        return w, bias, None
    scale, shift, mean, variance = reader.given(user.args[1:5])
    eps = user.args[7] if len(user.args) > 7 else user.args[6]
    values, offsets = norms.folded(w, bias, mean, variance, scale, shift, eps)
    name = _named(reader, w)
    reader.notes.append(f"{user.name} is folded into {node.name}, whose weights it changes")
    return (reader.net.parameter(f"{name or node.name}.folded", values),
            reader.net.parameter(f"{name or node.name}.folded_bias", offsets), user)


def _folded(reader: Any, node: Any, batch_norm: Any, made: Any) -> Any:
    if batch_norm is not None:
        reader.done.add(batch_norm)
        reader.folded.add(node)
    return made


def convolution(dims: int, transposed: bool, reader: Any, node: Any, x: Neurons, w: Weights,
                bias: Weights | None = None, stride: Any = 1, padding: Any = 0, *more: Any
                ) -> Neurons:
    """conv1d .. conv3d (stride, padding, dilation, groups) and conv_transpose1d .. 3d (stride,
    padding, output_padding, groups, dilation)."""
    extra: Any = 0
    if transposed:
        usual: list[Any] = [0, 1, 1]
        extra, groups, dilation = list(more) + usual[len(more) :]
    else:
        usual = [1, 1]
        dilation, groups = list(more) + usual[len(more) :]
    return _convolved(reader, node, x, w, bias, dims, _sizes(stride, dims), padding,
                      _sizes(dilation, dims), groups, transposed, _sizes(extra, dims))


def aten_convolution(reader: Any, node: Any, x: Neurons, w: Weights, bias: Weights | None,
                     stride: Any, padding: Any, dilation: Any, transposed: bool, extra: Any,
                     groups: int) -> Neurons:
    dims = len(w.shape) - 2
    return _convolved(reader, node, x, w, bias, dims, _sizes(stride, dims), padding,
                      _sizes(dilation, dims), groups, transposed, _sizes(extra, dims))


def _convolved(reader: Any, node: Any, x: Neurons, w: Any, bias: Any, dims: int,
               stride: list[int], padding: Any, dilation: list[int], groups: int,
               transposed: bool, extra: list[int]) -> Neurons:
    if not isinstance(w, Weights):
        raise Unkept("filters that depend on the input")
    kernel = w.shape[2:]
    batch_norm = None
    if not transposed:
        w, bias, batch_norm = _with_norm(reader, node, w, bias)
    if padding == "same":
        total = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        border = [(size // 2, size - size // 2) for size in total]
    elif padding == "valid":
        border = [(0, 0)] * dims
    else:
        border = [(size, size) for size in _sizes(padding, dims)]
    batched = len(x.shape) == dims + 2
    made = []
    for sample in x.ids if batched else [x.ids]:
        if transposed:
            made.append(contraction.conv_transposed(
                reader.net, Neurons(sample), w, bias, stride=stride, padding=border,
                dilation=dilation, groups=groups, output_padding=extra).ids)
        else:
            made.append(contraction.conv(reader.net, Neurons(sample), w, bias, stride=stride,
                                         padding=border, dilation=dilation, groups=groups).ids)
    found: Neurons = _folded(reader, node, batch_norm,
                             Neurons(np.stack(made) if batched else made[0]))
    return found


def _sizes(held: Any, dims: int) -> list[int]:
    """An option of a size an axis, which may be given once for all."""
    if isinstance(held, int):
        return [held] * dims
    return list(held) * (dims if len(held) == 1 else 1)


def pool(dims: int, how: str, reader: Any, node: Any, x: Neurons, kernel: Any, stride: Any = None,
         padding: Any = 0, *more: Any) -> Neurons:
    """max_pool1d .. 3d (dilation, ceil_mode) and avg_pool1d .. 3d (ceil_mode, count_include_pad,
    divisor_override)."""
    sizes = _sizes(kernel, dims)
    dilation, ceil, counts = [1] * dims, False, True
    if how == "max":
        dilation = _sizes(more[0] if more else 1, dims)
        ceil = bool(more[1]) if len(more) > 1 else False
    else:
        ceil = bool(more[0]) if more else False
        counts = bool(more[1]) if len(more) > 1 else True
        if len(more) > 2 and more[2] is not None:
            raise Unkept(f"divisor_override {more[2]}")
    if ceil:
        raise Unkept("ceil_mode")
    border = [(size, size) for size in _sizes(padding, dims)]
    return _sampled(x, dims, lambda sample: contraction.pool(
        reader.net, sample, how, sizes, stride=_sizes(stride, dims) if stride else sizes,
        padding=border, dilation=dilation, counts_border=counts))


def adaptive(dims: int, how: str, reader: Any, node: Any, x: Neurons, sizes: Any) -> Any:
    wanted = [size if given is None else given
              for given, size in zip(_sizes(sizes, dims), x.shape[-dims:], strict=True)]
    made = _sampled(x, dims, lambda sample: contraction.adaptive_pool(reader.net, sample, how,
                                                                     wanted))
    return [made, None] if how == "max" else made


def _sampled(x: Neurons, dims: int, how: Callable[[Neurons], Neurons]) -> Neurons:
    """Of (channels, *space), or of each sample of a batch of such."""
    if len(x.shape) == dims + 1:
        return how(x)
    return Neurons(np.stack([how(Neurons(sample)).ids for sample in x.ids]))


# -- norms

def batch_norm(reader: Any, node: Any, x: Neurons, scale: Weights | None, shift: Weights | None,
               mean: Weights | None, variance: Weights | None, training: bool, momentum: float,
               eps: float, *_: Any) -> Neurons:
    if node in reader.done:
        return x
    if training or mean is None or variance is None:
        raise Unkept("training, whose statistics are those of a batch")
    name = "" if scale is None else _named(reader, scale)
    return Neurons(np.stack([norms.batch_norm(reader.net, Neurons(sample), mean, variance, scale,
                                              shift, eps, name).ids for sample in x.ids]))


def batch_norm_legit(reader: Any, node: Any, x: Neurons, scale: Any, shift: Any, mean: Any,
                     variance: Any, momentum: float, eps: float) -> Any:
    return [batch_norm(reader, node, x, scale, shift, mean, variance, False, momentum, eps), None,
            None]


def layer_norm(reader: Any, node: Any, x: Neurons, shape: Sequence[int],
               scale: Weights | None = None, shift: Weights | None = None, eps: float = 1e-5,
               *_: Any) -> Tensor:
    return norms.layer_norm(reader.net, x, len(shape), scale, shift, eps)


def rms_norm(reader: Any, node: Any, x: Neurons, shape: Sequence[int],
             scale: Weights | None = None, eps: float | None = None) -> Tensor:
    return norms.layer_norm(reader.net, x, len(shape), scale, None,
                            float(np.finfo(np.float32).eps) if eps is None else eps, centred=False)


def group_norm(reader: Any, node: Any, x: Neurons, groups: int, scale: Weights | None = None,
               shift: Weights | None = None, eps: float = 1e-5, *_: Any) -> Tensor:
    made = [norms.group_norm(reader.net, Neurons(sample), groups, scale, shift, eps)
            for sample in x.ids]
    return elementwise.concatenated(reader.net, [m.moved(lambda h: h[None]) for m in made], 0)


def instance_norm(reader: Any, node: Any, x: Neurons, scale: Any, shift: Any, mean: Any,
                  variance: Any, by_input: bool, momentum: float, eps: float, *_: Any) -> Tensor:
    if not by_input:
        raise Unkept("running statistics")
    return group_norm(reader, node, x, x.shape[1], scale, shift, eps)


# -- attention and recurrence

def attention(reader: Any, node: Any, q: Neurons, k: Neurons, v: Tensor, mask: Any = None,
              dropout: float = 0.0, causal: bool = False, *, scale: float | None = None,
              enable_gqa: bool = False) -> Tensor:
    if dropout or enable_gqa:
        raise Unkept("dropout" if dropout else "grouped queries")
    t, s = q.shape[-2], k.shape[-2]
    added: Any = None
    if causal:
        added = np.triu(np.full((t, s), -np.inf), 1)
    if mask is not None:
        if isinstance(mask, Neurons):
            raise Unkept("a mask that depends on the input")
        if isinstance(mask, Weights):
            held = mask.values
        else:  # booleans of torch
            held = np.where(np.asarray(mask), 0.0, -np.inf)
        added = held if added is None else added + held
    return attend.attention(reader.net, q, k, v, mask=added,
                            scale=q.shape[-1] ** -0.5 if scale is None else scale)


def recurrent_layers(kind: str, reader: Any, node: Any, x: Neurons, start: Any,
                     params: Sequence[Weights], biases: bool, layers: int, dropout: float,
                     train: bool, both: bool, batch_first: bool) -> list[Tensor]:
    """lstm.input, gru.input, rnn_tanh.input and rnn_relu.input: all layers and directions; the
    outputs, the last h and, of an LSTM, the last c."""
    states = list(start) if isinstance(start, list | tuple) else [start]
    ends = 2 if both else 1
    each = 4 if biases else 2
    if len(params) != layers * ends * each:
        raise Unkept("proj_size")
    flat = len(x.shape) == 2
    time_first = x.ids if flat else x.ids.swapaxes(0, 1) if batch_first else x.ids
    if not flat and time_first.shape[1] != 1:
        raise Unkept(f"a batch of {time_first.shape[1]}")
    now = Neurons(time_first if flat else time_first[:, 0])
    step = {"lstm": recurrent.lstm_step("ifgo"), "gru": recurrent.gru_step("rzn"),
            "rnn_tanh": recurrent.rnn_step("tanh"), "rnn_relu": recurrent.rnn_step("relu")}[kind]
    last: list[list[Neurons]] = [[], []]
    for layer in range(layers):
        parts = []
        for end in range(ends):
            at = layer * ends + end
            cell = _cell(reader, kind, params[at * each : (at + 1) * each])
            h, *c = [_state(reader, held, at, flat) for held in states]
            made, *ended = recurrent.unrolled(reader.net, now, cell, step, h, c[0] if c else None,
                                              backwards=end == 1)
            parts.append(made)
            for held, value in zip(last, ended, strict=True):
                held.append(value)
        now = Neurons(np.concatenate([part.ids for part in parts], axis=1))
    out = now.ids if flat else now.ids[None] if batch_first else now.ids[:, None]
    ended_as = [np.stack([value.ids for value in held]) for held in last]
    return [Neurons(out), *(Neurons(held if flat else held[:, None])
                            for held in ended_as[: 2 if kind == "lstm" else 1])]


def _named(reader: Any, held: Weights) -> str:
    """The name of a parameter, empty for what is none."""
    return next((key for key, slots in reader.net.named.items()
                 if held.slots is not None and slots is held.slots), "")


def _cell(reader: Any, kind: str, params: Sequence[Weights]) -> recurrent.Cell:
    if len(params) == 2:
        return recurrent.Cell(params[0], params[1])
    w_x, w_h, b_x, b_h = params
    n = w_h.shape[1]
    name = _named(reader, b_x)
    apart = slice(2 * n, 3 * n) if kind == "gru" else None
    key = (b_x.slots.tobytes() if b_x.slots is not None else b_x.values.tobytes())
    made = reader.joined
    if key not in made:
        made[key] = recurrent.joined(reader.net, name, b_x, b_h, apart)
        reader.alone(name, made[key].values)
        rest = np.zeros_like(b_h.values)
        if apart is not None:
            rest[apart] = b_h.values[apart]
        reader.alone(_named(reader, b_h), rest)
    return recurrent.Cell(w_x, w_h, made[key], b_h if kind == "gru" else None)


def _state(reader: Any, held: Tensor, at: int, flat: bool) -> Neurons | None:
    """A first state; None where it is 0."""
    mine = held.moved(lambda h: h[at] if flat else h[at, 0])
    if isinstance(mine, Weights) and mine.slots is None and not mine.values.any():
        return None
    return reader.net.neurons(mine)  # type: ignore[no-any-return]
