"""A net as a torch.nn.Module: its machine code between torch's own layers, losses, optimizers.

    model = ncc.torch.module("net.nal")
    loss = torch.nn.functional.mse_loss(model(x), target)
    loss.backward()

Wants torch (`pip install 'ncc-compiler[torch]'`); `import ncc` does not.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ncc import weights
from ncc.build import Build, options
from ncc.graph import Graph
from ncc.library import Library, backward, forward
from ncc.machine import host
from ncc.net import Net, load
from ncc.progress import Progress
from ncc.road import AFTER_ORDER
from ncc.runtime import Array, Compiled
from ncc.ssa import DTYPES, dtype_name

try:
    import torch
except ModuleNotFoundError as error:
    raise ImportError(f"ncc.torch wants torch ({error}): pip install 'ncc-compiler[torch]'"
                      ) from error

__all__ = ["Module", "module"]


def module(net: Net | str | Path, params: Any = None, *, dtype: Any = "f32", opt: int = 2,
           threads: int = 1, numerics: str | None = None, init: str = "he",
           seed: int | None = None) -> Module:
    """`net` (or the file it names) as a torch module.

    params    the canonical vector (n_params,) to start from; the net's values without it, and
              `init` for those it does not have
    dtype     "f32" or "f64" (or numpy's or torch's name of either): of `params`, x and y
    threads   over the samples of a batch; 0 is one a core
    seed      of `init`; drawn by torch's own generator (torch.manual_seed) unless given

    NccError as of `load` and of `init`; ValueError where `params` has another shape or
    is not finite.
    """
    graph = (net if isinstance(net, Net) else load(net)).graph
    if params is None:
        values = graph.values
        if np.isnan(values).any():
            drawn = int(torch.randint(2**31, ()).item()) if seed is None else seed
            values = weights.init(graph, init, drawn)
    else:
        values = np.asarray(params, np.float64)
        if values.shape != (graph.n_params,):
            raise ValueError(f"params has shape {values.shape}, the net wants "
                             f"({graph.n_params},)")
    code = _Code(graph, dtype, opt, threads, numerics)
    with np.errstate(over="ignore"):
        start = values.astype(DTYPES[code.dtype])
    if not np.isfinite(start).all():
        raise ValueError(f"params holds a value that is not finite in {code.dtype}")
    return Module(code, start)


class _Code:
    """A net's machine code, which never changes: copies of a module share it."""

    def __init__(self, graph: Graph, dtype: Any, opt: int, threads: int, numerics: str | None
                 ) -> None:
        if threads < 0:
            raise ValueError(f"threads is {threads}, not 0 or more")
        self.graph = graph
        self.dtype = dtype_name(dtype)
        self.opt = opt
        self.threads = threads
        self.numerics = numerics
        self._lock = threading.Lock()
        self._made: dict[bool, Library] = {}

    def library(self, gradient: bool) -> Library:
        """The functions, with or without the backward ones; compiled when first asked for."""
        with self._lock:
            if gradient not in self._made:
                chosen = options(host(), dtype=self.dtype, numerics=self.numerics,
                                 gradient=gradient)
                with Progress(sys.stderr) as progress, progress.working("emit obj"):
                    made = Build(self.graph, host(), chosen, self.opt, progress, AFTER_ORDER).made
                self._made[gradient] = Library(made, self.dtype)
            return self._made[gradient]

    def __deepcopy__(self, _: Any) -> _Code:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Code, (self.graph, self.dtype, self.opt, self.threads, self.numerics))


class Module(torch.nn.Module):
    """A compiled net. Its one parameter, `params`, is the canonical vector (n_params,).

    `model(x)`: x of shape (..., n_inputs) gives y (..., n_outputs) of the module's dtype, on the
    CPU. First derivatives in x and in `params`; NotImplementedError for a second one. Gradients are
    those at the parameters of the forward pass, whatever became of `params` since. Any thread may
    call it at any time. ValueError for another shape or device, TypeError for another dtype.
    """

    def __init__(self, code: _Code, start: Array) -> None:
        super().__init__()
        self.code = code
        self.params = torch.nn.Parameter(torch.from_numpy(start))

    def forward(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"x is a {type(x).__name__}, not a tensor")
        wanted = torch.is_grad_enabled() and (x.requires_grad or self.params.requires_grad)
        return _Call.apply(x, self.params, self.code, wanted)

    def compiled(self) -> Compiled:
        """The net as `ncc.compile` gives it, of the parameters as they are now: for numpy, and to
        save as an object. ValueError where one of them is not finite."""
        code = self.code
        return Compiled(code.graph, self.params.detach().numpy(), dtype=code.dtype, opt=code.opt,
                        threads=code.threads, numerics=code.numerics)

    def extra_repr(self) -> str:
        g = self.code.graph
        return (f"{g.n_neurons} neurons, {g.n_edges} edges, {g.n_params} parameters, "
                f"{len(g.inputs)} inputs, {len(g.outputs)} outputs, {self.code.dtype}")


class _Call(torch.autograd.Function):
    """y of x (..., n_inputs) and params (n_params,)."""

    @staticmethod
    def forward(ctx: Any, x: Any, params: Any, code: _Code, gradient: bool) -> Any:
        n_inputs = len(code.graph.inputs)
        for name, tensor in (("x", x), ("params", params)):
            if tensor.device.type != "cpu":
                raise ValueError(f"{name} is on {tensor.device}, and the net's code runs on the "
                                 "CPU")
            if tensor.dtype != (torch.float32 if code.dtype == "f32" else torch.float64):
                raise TypeError(f"{name} is {tensor.dtype}, and the net's code computes in "
                                f"{code.dtype}: see dtype= of ncc.torch.module")
        if x.ndim == 0 or x.shape[-1] != n_inputs:
            raise ValueError(f"x has shape {tuple(x.shape)}, the net wants (..., {n_inputs})")
        if params.shape != (code.graph.n_params,):
            raise ValueError(f"params has shape {tuple(params.shape)}, the net wants "
                             f"({code.graph.n_params},)")
        ctx.library = code.library(gradient)
        # Always: torch's count of a tensor's changes misses those through `.data`, and to compare
        # with what was packed before takes as long.
        ctx.packed = ctx.library.pack(_rows(params))
        ctx.params, ctx.threads = params, code.threads
        # Not for params: it may change before the way back, which `packed` does not.
        ctx.save_for_backward(x)
        y = forward(ctx.library, _rows(x), ctx.packed, code.threads)
        return torch.from_numpy(y).reshape(*x.shape[:-1], len(code.graph.outputs))

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        (x,) = ctx.saved_tensors
        return (*_Pullback.apply(x, ctx.params, dy, ctx), None, None)


class _Pullback(torch.autograd.Function):
    """dx and dparams of x, params and dy. A function of its own, for `create_graph=True`: who
    differentiates what is made of them is told, where gradients without a history would be taken
    for constants."""

    @staticmethod
    def forward(ctx: Any, x: Any, params: Any, dy: Any, call: Any) -> Any:
        rows = _rows(x)
        dx = np.empty_like(rows) if call.needs_input_grad[0] else None
        dparams = np.zeros(len(params), rows.dtype) if call.needs_input_grad[1] else None
        backward(call.library, rows, call.packed, _rows(dy), dx, dparams, call.threads)
        return (None if dx is None else torch.from_numpy(dx).reshape(x.shape),
                None if dparams is None else torch.from_numpy(dparams))

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError("a net of ncc has first derivatives only, and this wants a "
                                  "second one")


def _rows(tensor: Any) -> Array:
    """(..., n) as (n,) or (rows, n), row-major; its own memory where that is so already."""
    if tensor.ndim > 2:
        tensor = tensor.reshape(tensor.shape[:-1].numel(), tensor.shape[-1])
    array: Array = tensor.detach().contiguous().numpy(force=True)
    return array
