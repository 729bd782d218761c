"""Gradients, three ways apart from the compiler's: torch's autograd over a plain reading of a net,
central differences, and the calls by which the compiled and the interpreted functions are asked.

`torch` is an argument, since it is optional: `torch = pytest.importorskip("torch")`.
"""

from __future__ import annotations

import numpy as np
from reference import ACTIVATION_NAMES, inputs, outputs, slots, topological

from ncc.driver.compiler import Build
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import options
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import host
from ncc.machine.native import Library

FORMS = ("straight", "table")


# ---- torch


def torch_activations(torch):
    """By name; where torch has the function, with its own slope at a kink."""
    f = torch.nn.functional
    return {
        "identity": lambda x: x, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": f.relu,
        "silu": f.silu, "gelu": f.gelu, "swish": f.silu, "leaky_relu": f.leaky_relu,
        "elu": f.elu, "selu": f.selu, "softplus": lambda x: f.softplus(x, threshold=40),
        # Not f.hardsigmoid, whose slope is 1/6 in float32 whatever the tensor's type.
        "softsign": f.softsign, "hard_sigmoid": lambda x: f.hardtanh(x / 6 + 0.5, 0.0, 1.0),
        "exp": torch.exp,
        "log": torch.log, "abs": torch.abs, "square": torch.square, "cube": lambda x: x**3,
        "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "recip": torch.reciprocal, "sin": torch.sin,
        "cos": torch.cos, "gauss": lambda x: torch.exp(-x * x),
        "step": lambda x: 0 * x + (x > 0),
        "gelu_tanh": lambda x: f.gelu(x, approximate="tanh"), "mish": f.mish,
        "hard_swish": f.hardswish, "relu6": f.relu6, "clip": lambda x: torch.clamp(x, -1, 1),
        "atan": torch.atan, "erf": torch.erf,
    }


def torch_functions(torch):
    """The texts of reference.FUNCTIONS. Of equals the first argument of max and min moves."""
    def most(a, b):
        return torch.where(b > a, b, a)

    def least(a, b):
        return torch.where(b < a, b, a)

    def number(x, value):
        return torch.full_like(x, value)

    return {
        "1/(1+exp(-4.9*x))": lambda x: torch.sigmoid(4.9 * x),
        "max(x, 0.5*x, -1)": lambda x: most(most(x, 0.5 * x), number(x, -1)),
        "-x^2 + 3": lambda x: 3 - x * x,
        "(x - 0.25) / (2 + abs(x))": lambda x: (x - 0.25) / (2 + torch.abs(x)),
        "tanh(min(x, 1.5)) * 1e-1": lambda x: torch.tanh(least(x, number(x, 1.5))) / 10,
        "0.5": lambda x: 0.5 + 0 * x,
    }


def torch_run(torch, net, x, params):
    """The outputs (samples, n_outputs) of tensors x (samples, n_inputs) and params (P,)."""
    places, ties = [], {}
    for k, w in enumerate(slots(net)):
        if w.kind == "tie":
            ties[w.name] = k
        else:
            places.append(k)
    dealt = iter(places)

    def number(w):
        if w.kind == "const":
            return torch.tensor(w.value, dtype=x.dtype)
        return params[ties[w.name] if w.kind == "tie" else next(dealt)]

    held = [([number(w) for _, w in in_list], None if bias is None else number(bias))
            for in_list, bias in zip(net.in_lists, net.biases, strict=True)]
    named, texts = torch_activations(torch), torch_functions(torch)
    n = {j: x[:, k] for k, j in enumerate(inputs(net))}
    for j in topological(net):
        if j in n:
            continue
        weights, bias = held[j]
        products = [n[i] * w for (i, _), w in zip(net.in_lists[j], weights, strict=True)]
        total = torch_aggregate(torch, net.aggregations[j], products)
        if bias is not None:
            total = bias + (torch.zeros(len(x), dtype=x.dtype) if total is None else total)
        code = net.activations[j]
        n[j] = (texts[net.functions[code]] if code in net.functions
                else named[ACTIVATION_NAMES[code]])(total)
    return torch.stack([n[j] for j in outputs(net)], 1)


def torch_aggregate(torch, kind, products):
    """None of no products. Of equals the first moves, under max, min and maxabs."""
    if kind == "dot":
        products = [a * b for a, b in zip(products[::2], products[1::2], strict=True)]
    total = None
    for p in products:
        if total is None:
            total = p
        elif kind in ("sum", "sumbias", "mean", "dot"):
            total = total + p
        elif kind == "mul":
            total = total * p
        elif kind == "div":
            total = total / p
        else:
            later = {"max": p > total, "min": p < total, "maximum": p > total,
                     "minimum": p < total, "maxabs": abs(p) > abs(total)}[kind]
            total = torch.where(later, p, total)
    return total / len(products) if kind == "mean" else total


def torch_gradient(torch, net, x, params, dy):
    """dx and dparams of sum(y dy), float64."""
    at = torch.tensor(np.array(x, np.float64), requires_grad=True)
    p = torch.tensor(np.array(params, np.float64), requires_grad=True)
    y = torch_run(torch, net, at, p)
    if not y.requires_grad:
        return np.zeros(np.shape(x)), np.zeros(len(params))
    (y * torch.tensor(np.array(dy, np.float64))).sum().backward()
    return tuple(np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in (at, p))


def torch_loss(torch, loss, y, t):
    """The mean loss of outputs y and targets t."""
    f = torch.nn.functional
    if loss.name == "huber":
        return f.huber_loss(y, t, delta=loss.option("delta"))
    return {"mse": f.mse_loss, "mae": f.l1_loss, "bce": f.binary_cross_entropy_with_logits,
            "ce": f.cross_entropy}[loss.name](y, t)


def torch_optimizer(torch, optimizer, w, lr):
    """The optimizer of the tensor w."""
    options = dict(optimizer.options)
    if "beta1" in options:
        options["betas"] = options.pop("beta1"), options.pop("beta2")
    for flag in ("nesterov", "amsgrad", "centered"):
        if flag in options:
            options[flag] = bool(options[flag])
    made = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
            "rmsprop": torch.optim.RMSprop}[optimizer.name]
    return made([w], lr=lr, foreach=False, **options)


# ---- differences


def differences(value, at, h=1e-5):
    """The gradient of `value` (an array of n arguments, (n, k), to n numbers) at (k,), central,
    of fourth order."""
    k = len(at)
    steps = h * np.maximum(1.0, np.abs(at))
    moved = [at + c * np.diag(steps) for c in (1, -1, 2, -2)]
    up, down, far, back = (value(m) if k else np.zeros(0) for m in moved)
    return (8 * (up - down) - (far - back)) / (12 * steps)


# ---- compiled


class Backward:
    """The backward functions of a graph: `module` the last ssa module, `machine` compiled."""

    def __init__(self, graph, dtype="f64", backward_form="straight", opt=0, watch=None, **more):
        chosen = options(host(), dtype=dtype, gradient=True, backward_form=backward_form,
                         limit=False, **more)
        self.build = Build(graph, host(), chosen, opt, watch, AFTER_ORDER)
        self.graph, self.dtype, self.real = graph, dtype, DTYPES[dtype]
        self.module = self.build.module
        self._library = None

    @property
    def library(self):
        if self._library is None:
            self._library = Library(self.build.made, self.dtype)
        return self._library

    def __call__(self, x, dy, params, name="backward_batch", dx=True, dparams=True, start=None):
        """dx and dparams by machine code; None where not wanted. Unaligned, NaN where unwritten."""
        library, real = self.library, self.real
        packed = library.pack(np.asarray(params).astype(real))
        work = library.work(name)
        work[:] = np.nan
        x, dy = (np.ascontiguousarray(a, real) for a in (x, dy))
        sums = np.zeros(self.graph.n_params, real) if start is None else start.astype(real)
        moved = np.full(x.shape, np.nan, real)

        def at(array):
            return array.ctypes.data

        rest = (at(packed),), (at(sums) if dparams else None, at(work))
        call = library.calls[name]
        if name == "backward":
            for k in range(len(x)):
                call(at(x[k:]), *rest[0], at(dy[k:]), at(moved[k:]) if dx else None, *rest[1])
        else:
            call(len(x), at(x), *rest[0], at(dy), at(moved) if dx else None, *rest[1])
        return moved if dx else None, sums if dparams else None

    def interpreted(self, x, dy, params, name="backward_batch"):
        return interpreted(self.module, x, dy, params, name)


def interpreted(module, x, dy, params, name="backward_batch"):
    """dx and dparams by the ssa level's interpreter."""
    real = DTYPES[module.dtype]
    x, dy, params = (np.ascontiguousarray(a, real) for a in (x, dy, params))
    packed = np.zeros(module.func("pack").buffers[1].size, real)
    module.run("pack", {"params": params, "packed": packed})
    with np.errstate(all="ignore"):
        if name == "backward":
            moved = np.full(x.T.shape, np.nan, real)
            sums = np.zeros((len(params), len(x)), real)
            module.run(name, {"x": x.T.copy(), "packed": packed, "dy": dy.T.copy(), "dx": moved,
                              "dparams": sums})
            return moved.T, sums.sum(axis=1)
        moved, sums = np.full(x.size, np.nan, real), np.zeros(len(params), real)
        module.run(name, {"x": x.reshape(-1), "packed": packed, "dy": dy.reshape(-1),
                          "dx": moved, "dparams": sums}, len(x))
        return moved.reshape(x.shape), sums


def close(actual, wanted, rel, what=""):
    """Each of (dx, dparams) within rel of the largest magnitude there, 1 at least."""
    for name, a, w in zip(("dx", "dparams"), actual, wanted, strict=False):
        a, w = np.asarray(a, np.float64), np.asarray(w, np.float64)
        assert a.shape == w.shape, (what, name, a.shape, w.shape)
        size = max(1.0, np.abs(w).max()) if w.size else 1.0
        good = (np.abs(a - w) <= rel * size) | (np.isnan(a) & np.isnan(w)) | (a == w)
        at = np.argwhere(~good)[:3].tolist()
        assert good.all(), (what, name, at, [(float(a[tuple(k)]), float(w[tuple(k)])) for k in at])


def smooth(gradient, x, params, rng):
    """Whether a gradient at x and params is no accident of a kink: it moves little with them."""
    here = gradient(x, params)
    there = gradient(x * (1 + 1e-9 * rng.standard_normal(np.shape(x))),
                     params * (1 + 1e-9 * rng.standard_normal(len(params))))
    for a, b in zip(here, there, strict=True):
        size = max(1.0, np.abs(a).max(initial=0))
        if not (np.isfinite(a).all() and size < 1e9 and (np.abs(a - b) <= 1e-4 * size).all()):
            return False
    return True
