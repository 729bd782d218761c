"""Attention over the steps of a sequence, and a small transformer that is made of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ncc.errors import NccError
from ncc.formats.importers.tensors import attention as attend
from ncc.formats.importers.tensors import elementwise, norms
from ncc.formats.importers.tensors.contraction import linear, matmul
from ncc.formats.importers.tensors.net import ABSENT, Neurons, Tensor, TensorNet
from ncc.nets.generate.draft import MOST, activation_code, fits
from ncc.nets.generate.made import Made, fresh, made, ones
from ncc.nets.generate.words import number, product, refuse
from ncc.scalar.activations import name_of


def attention(words: Sequence[str], seed: int, *, bias: bool = True, causal: bool = False,
              additive: bool = False) -> Made:
    """Self-attention: `4x8 h2` is a sequence of 4 steps of 8 inputs, with 2 heads, and gives as
    many outputs as inputs. A head is softmax(q k^T / sqrt(d)) v of linear maps of the inputs
    (Vaswani et al. 2017), and a linear map of all heads is the output. Parameters are those of
    torch's MultiheadAttention: `in_proj_weight`, `in_proj_bias`, `out_proj.weight`, ...

    causal    a step sees itself and the steps before it alone
    additive  scores are w tanh(q + k) in the place of q k^T (Bahdanau et al. 2015), of one head;
              what is summed are the inputs themselves. Parameters: `query.weight`, `query.bias`,
              `key.weight`, `score.weight`
    """
    example = "attention 4x8 h2 --causal"
    if not words:
        refuse(words, "steps and the width of a step are wanted", example)
    steps, width = product(words[0], 2, 2, "not STEPSxWIDTH", example)
    heads = _counts(words[1:], "h", example).get("h", 1)
    _split(width, heads)
    if additive and heads > 1:
        raise NccError("E654", f"{heads} heads: additive attention has one")
    fits(steps * steps * width * 5 + steps * width * width * 4)
    net = TensorNet(MOST)
    x = net.input("x", (steps, width))
    if not additive:
        return made(net, _heads(net, x, "in_proj_", "out_proj.", heads, bias, causal))
    q = linear(net, x, fresh(net, "query.weight", width, width),
               fresh(net, "query.bias", width) if bias else None)
    k = linear(net, x, fresh(net, "key.weight", width, width))
    assert isinstance(q, Neurons) and isinstance(k, Neurons)
    score = fresh(net, "score.weight", 1, width).moved(np.ravel)
    scores = attend.additive(net, q, k, score)
    if causal:
        scores = Neurons(np.where(np.tri(steps, dtype=np.bool_), scores.ids, np.int32(ABSENT)))
    return made(net, matmul(net, elementwise.softmax(net, scores), x))


def transformer(words: Sequence[str], seed: int, *, activation: str = "gelu", bias: bool = True,
                last: bool = False) -> Made:
    """A decoder as GPT-2 has it (Radford et al. 2019), small: `8x16 d16 h2 l1` reads 8 one-hot rows
    of 16 symbols, has a width of 16, 2 heads and 1 block. A block is x + attention(norm(x)),
    causal, then x + mlp(norm(x)) with 4 times the width; the outputs are the logits of the next
    symbol at each position, or (`last`) behind the last one alone. The embedding is tied: what maps
    symbols to the width maps back to logits. Positions are learned.

    Parameters are named as in GPT-2, matrices (outputs, inputs): `wte.weight`, `wpe.weight`,
    `h.0.ln_1.weight`, `h.0.attn.c_attn.weight`, `h.0.attn.c_proj.weight`, `h.0.mlp.c_fc.weight`,
    `ln_f.weight`, ... The gains of norms begin as 1.
    """
    example = "transformer 8x16 d16 h2 l1"
    if not words:
        refuse(words, "positions and symbols are wanted", example)
    steps, symbols = product(words[0], 2, 2, "not POSITIONSxSYMBOLS", example)
    counts = _counts(words[1:], "dhl", example)
    width, heads, layers = counts.get("d", 16), counts.get("h", 1), counts.get("l", 1)
    _split(width, heads)
    code = activation_code(activation)
    fits(layers * (12 * steps * width * width + 4 * steps * steps * width)
         + 2 * steps * symbols * width)
    net = TensorNet(MOST)
    x = net.input("x", (steps, symbols))
    embed = fresh(net, "wte.weight", symbols, width)
    places = fresh(net, "wpe.weight", steps, width)
    rows = [linear(net, Neurons(x.ids[t : t + 1]), embed.moved(np.transpose),
                   places.moved(lambda held, t=t: held[t]))  # type: ignore[misc]
            for t in range(steps)]
    now: Tensor = elementwise.concatenated(net, rows, 0)
    for k in range(layers):
        seen = _norm(net, now, f"h.{k}.ln_1.", width, bias)
        now = elementwise.binary(net, "add", now, _heads(
            net, seen, f"h.{k}.attn.c_attn.", f"h.{k}.attn.c_proj.", heads, bias, True))
        inner = _map(net, _norm(net, now, f"h.{k}.ln_2.", width, bias), f"h.{k}.mlp.c_fc.",
                     4 * width, bias)
        inner = elementwise.unary(net, inner, name_of(code) or "identity")
        now = elementwise.binary(net, "add", now,
                                 _map(net, inner, f"h.{k}.mlp.c_proj.", width, bias))
    if last:
        now = now.moved(lambda held: held[-1:])
    return made(net, linear(net, _norm(net, now, "ln_f.", width, bias), embed))


def _heads(net: TensorNet, x: Tensor, into: str, out: str, heads: int, bias: bool, causal: bool
           ) -> Tensor:
    """Heads of x (steps, width); the maps of q, k and v are one matrix (3 width, width)."""
    steps, width = x.shape
    each = width // heads
    w = fresh(net, f"{into}weight", 3 * width, width)
    b = fresh(net, f"{into}bias", 3 * width) if bias else None
    found = linear(net, x, w, b).moved(lambda held: held.reshape(steps, 3, heads, each))
    q, k, v = (found.moved(lambda held, n=n: held[:, n].swapaxes(0, 1))  # type: ignore[misc]
               for n in range(3))
    assert isinstance(q, Neurons) and isinstance(k, Neurons)
    mask = np.triu(np.full((steps, steps), -np.inf), 1) if causal else None
    seen = attend.attention(net, q, k, v, scale=each ** -0.5, mask=mask)
    return _map(net, seen.moved(lambda held: held.swapaxes(0, 1).reshape(steps, width)), out, width,
                bias)


def _map(net: TensorNet, x: Tensor, name: str, width: int, bias: bool) -> Tensor:
    return linear(net, x, fresh(net, f"{name}weight", width, x.shape[-1]),
                  fresh(net, f"{name}bias", width) if bias else None)


def _norm(net: TensorNet, x: Tensor, name: str, width: int, bias: bool) -> Tensor:
    assert isinstance(x, Neurons)
    return norms.layer_norm(net, x, 1, ones(net, f"{name}weight", width),
                            fresh(net, f"{name}bias", width) if bias else None, 1e-5)


def _counts(words: Sequence[str], letters: str, example: str) -> dict[str, int]:
    """Words like d16, each letter once."""
    found: dict[str, int] = {}
    for word in words:
        match = re.fullmatch(f"([{letters}])([0-9]+)", word)
        value = number(match[2]) if match else None
        if match is None or value is None or match[1] in found:
            refuse([word], "not one of " + ", ".join(f"{letter}4" for letter in letters)
                   + ", each once", example)
        found[match[1]] = value
    return found


def _split(width: int, heads: int) -> None:
    if width % heads:
        raise NccError("E654", f"{heads} heads of a width of {width}", help="they divide it")
