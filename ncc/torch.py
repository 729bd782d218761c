"""A net as a torch.nn.Module: its machine code between torch's own layers, losses, optimizers.

    model = ncc.torch.module("net.nal")
    loss = torch.nn.functional.mse_loss(model(x), target)
    loss.backward()

Torch sees two opaque operators, `ncc::forward` and `ncc::backward`, and an autograd function around
them: torch.compile, torch.export, torch.func and whatever else records or transforms operators gets
calls of the machine code, never the values that it had once. What would have to run where ncc is
not (torch.jit, ONNX) is refused.

Wants torch (`pip install 'ncc-compiler[torch]'`); `import ncc` does not.
"""

from __future__ import annotations

import inspect
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncc.driver.compiler import Build
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import arithmetic, options
from ncc.formats import weights
from ncc.ir.graph import Graph, refuse_states
from ncc.ir.ssa import DTYPES, dtype_name
from ncc.machine.cache import Carried
from ncc.machine.header import graph_hash
from ncc.machine.llvm import host
from ncc.machine.native import KEPT, Library, backward, forward, n_kept, placed, to_keep
from ncc.machine.threads import WORKER
from ncc.nets.net import Net, load
from ncc.progress import Progress
from ncc.runtime.compiled import Array, Compiled

try:
    import torch
except ModuleNotFoundError as error:
    raise ImportError(f"ncc.torch wants torch ({error}): pip install 'ncc-compiler[torch]'"
                      ) from error

__all__ = ["Module", "module"]


def module(net: Net | str | Path, params: Any = None, *, dtype: Any = None, opt: int = 2,
           threads: int = 1, numerics: str | None = None, init: str = "he",
           seed: int | None = None) -> Module:
    """`net` (or the file it names) as a torch module.

    params    the canonical vector (n_params,) to start from; the net's values without it, and
              `init` for those it does not have
    dtype     "f32" or "f64" (or numpy's or torch's name of either): of `params`, x and y;
              without it what the net file asks for, else f32, and so of `numerics`
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
    dtype, numerics = arithmetic(graph, dtype, numerics)
    code = _shared(graph, dtype, opt, threads, numerics)
    with np.errstate(all="ignore"):
        start = values.astype(DTYPES[code.dtype])
    if not np.isfinite(start).all():
        raise ValueError(f"params holds a value that is not finite in {code.dtype}")
    return Module(code, start)


# Of a net's functions with and without the backward ones, in pickles.
TITLES = {False: "forward", True: "both"}


class _Code:
    """A net's machine code, which never changes: copies of a module share it. `key` is its name in
    what torch records."""

    def __init__(self, graph: Graph, dtype: Any, opt: int, threads: int, numerics: str | None,
                 brought: Mapping[str, Carried | None] | None = None) -> None:
        if threads < 0:
            raise ValueError(f"threads is {threads}, not 0 or more")
        refuse_states(graph, "a module of torch")
        self.graph = graph
        self.dtype = dtype_name(dtype)
        self.opt = opt
        self.threads = threads
        self.numerics = numerics
        self._lock = threading.Lock()
        self._made: dict[bool, Library] = {}
        self._brought = dict(brought or {})
        self.key = f"{graph_hash(graph)} {self.dtype} {numerics or 'default'} O{opt} x{threads}"

    def library(self, gradient: bool) -> Library:
        """The functions, with or without the backward ones; compiled when first asked for."""
        with self._lock:
            if gradient not in self._made:
                chosen = options(host(), dtype=self.dtype, numerics=self.numerics,
                                 gradient=gradient, kept=KEPT)
                with Progress(sys.stderr) as progress, progress.working("emit obj"):
                    made = Build(self.graph, host(), chosen, self.opt, progress, AFTER_ORDER,
                                 brought=self._brought.get(TITLES[gradient])).made
                self._made[gradient] = Library(made, self.dtype)
                self._brought.pop(TITLES[gradient], None)
            return self._made[gradient]

    def __deepcopy__(self, _: Any) -> _Code:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        made = {TITLES[g]: library.carried() for g, library in list(self._made.items())}
        if self.threads != 1:
            made["worker"] = WORKER.carried()
        return (_shared, (self.graph, self.dtype, self.opt, self.threads, self.numerics,
                          {**self._brought, **made}))


# The codes of this process, by key, as long as a module has them; and those that are in a recording
# of torch's, which may outlive its module.
_CODES: weakref.WeakValueDictionary[str, _Code] = weakref.WeakValueDictionary()
_RECORDED: dict[str, _Code] = {}


def _shared(graph: Graph, dtype: str, opt: int, threads: int, numerics: str | None,
            brought: Mapping[str, Carried | None] | None = None) -> _Code:
    """The code of a net: that which a module has already, if one has; `brought` by a pickle, if
    none has."""
    code = dict(brought or {})
    WORKER.bring(code.pop("worker", None))
    made = _Code(graph, dtype, opt, threads, numerics, code)
    return _CODES.setdefault(made.key, made)


def _code(key: str) -> _Code:
    code = _CODES.get(key)
    if code is None:
        raise RuntimeError(f"what torch recorded calls a net of ncc that this process has not made "
                           f"({key}): make its module by ncc.torch.module, with the same options")
    return code


class Module(torch.nn.Module):
    """A compiled net. Its one parameter, `params`, is the canonical vector (n_params,).

    `model(x)`: x of shape (..., n_inputs) gives y (..., n_outputs) of the module's dtype, on the
    CPU. First derivatives in x and in `params`; NotImplementedError for a second one. Gradients are
    those at the parameters of the forward pass, whatever became of `params` since. Any thread may
    call it at any time. ValueError for another shape or device, TypeError for another dtype;
    NotImplementedError in torch.jit.trace, torch.jit.script and torch.onnx.export.
    """

    def __init__(self, code: _Code, start: Array) -> None:
        super().__init__()
        self.code = code
        self.params = torch.nn.Parameter(torch.from_numpy(start))

    def forward(self, x: Any) -> Any:
        _refuse()
        code = self.code
        _check(x, self.params, len(code.graph.inputs), code.graph.n_params, code.dtype)
        wanted = torch.is_grad_enabled() and (x.requires_grad or self.params.requires_grad)
        if torch.compiler.is_compiling() or _transformed():
            return _Call.apply(x, self.params, code.key, wanted)[0]
        if wanted:
            return _Eager.apply(x, self.params, code.key)
        return torch.ops.ncc.forward(x, self.params, code.key, False)[0]

    def compiled(self) -> Compiled:
        """The net as `ncc.compile` gives it, of the parameters as they are now: for numpy, and to
        save as an object. ValueError where one of them is not finite."""
        code = self.code
        return Compiled(code.graph, self.params.detach().numpy(), dtype=code.dtype, opt=code.opt,
                        threads=code.threads, numerics=code.numerics)

    def __prepare_scriptable__(self) -> Any:
        _refuse("torch.jit.script")

    def extra_repr(self) -> str:
        g = self.code.graph
        return (f"{g.n_neurons} neurons, {g.n_edges} edges, {g.n_params} parameters, "
                f"{len(g.inputs)} inputs, {len(g.outputs)} outputs, {self.code.dtype}")


def _refuse(asked: str | None = None) -> None:
    """NotImplementedError where torch writes a model that is to run where ncc is not."""
    if torch.onnx.is_in_onnx_export():
        asked = "torch.onnx.export"
    elif torch.jit.is_tracing():
        asked = "torch.jit.trace"
    if asked is not None:
        raise NotImplementedError(
            f"{asked} writes a model that runs without Python and ncc, and the machine code of a "
            "net cannot go along: leave the net out and link its object (module.compiled().save), "
            "or use torch.compile or torch.export")


def _check(x: Any, params: Any, n_inputs: int, n_params: int, dtype: str) -> None:
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x is a {type(x).__name__}, not a tensor")
    for name, tensor in (("x", x), ("params", params)):
        if tensor.device.type != "cpu":
            raise ValueError(f"{name} is on {tensor.device}, and the net's code runs on the CPU")
        if tensor.dtype != (torch.float32 if dtype == "f32" else torch.float64):
            raise TypeError(f"{name} is {tensor.dtype}, and the net's code computes in "
                            f"{dtype}: see dtype= of ncc.torch.module")
    if x.ndim == 0 or x.shape[-1] != n_inputs:
        raise ValueError(f"x has shape {tuple(x.shape)}, the net wants (..., {n_inputs})")
    if params.shape != (n_params,):
        raise ValueError(f"params has shape {tuple(params.shape)}, the net wants ({n_params},)")


_MAPS = hasattr(torch.library, "register_vmap")  # whether vmap maps operators: from torch 2.5 on
# Whether torch.func's transforms are at work: as torch itself asks; where it cannot say, they may.
_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


class _Call(torch.autograd.Function):
    """y of x (..., n_inputs) and params (n_params,), the parameters packed, and what is kept for
    the way back. torch.vmap maps the operators within."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Any, params: Any, key: str, gradient: bool) -> Any:
        return torch.ops.ncc.forward(x, params, key, gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, params, ctx.key, _ = inputs
        _, packed, kept = output
        ctx.mark_non_differentiable(packed, kept)
        ctx.set_materialize_grads(False)
        # Not params: it may change before the way back, which `packed` does not.
        ctx.save_for_backward(x, packed, kept)
        ctx.n_params = params.shape[0]

    @staticmethod
    def backward(ctx: Any, dy: Any, *_: Any) -> Any:
        if dy is None:
            return None, None, None, None
        x, packed, kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        # Who records what is done here may want a second derivative.
        pullback = (_Pullback.apply if torch.is_grad_enabled() or not _MAPS
                    else torch.ops.ncc.backward)
        dx, dparams = pullback(x, packed, kept, dy, ctx.key, ctx.n_params, wanted[0], wanted[1])
        return dx if wanted[0] else None, dparams if wanted[1] else None, None, None


class _Eager(torch.autograd.Function):
    """_Call where nobody transforms or records it: what torch needs for that takes it as long, for
    each call, as a small net's forward pass."""

    backward = staticmethod(_Call.backward)

    @staticmethod
    def forward(ctx: Any, x: Any, params: Any, key: str) -> Any:
        y, packed, kept = torch.ops.ncc.forward(x, params, key, True)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, packed, kept)
        ctx.key, ctx.n_params = key, params.shape[0]
        return y


class _Pullback(torch.autograd.Function):
    """dx and dparams of x, packed, kept and dy. A function of its own, for `create_graph=True`: who
    differentiates what is made of them is told, where gradients without a history would be taken
    for constants."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Any, packed: Any, kept: Any, dy: Any, key: str, n_params: int, of_x: bool,
                of_params: bool) -> Any:
        return torch.ops.ncc.backward(x, packed, kept, dy, key, n_params, of_x, of_params)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise NotImplementedError("a net of ncc has first derivatives only, and this wants a "
                                  "second one")


# Torch asks for the signature at each call, and to find it out takes as long as all the rest.
_functions: list[Any] = [_Call.forward, _Pullback.forward]
for _function in _functions:
    _function.__signature__ = inspect.signature(_function)


def _forward(x: Any, params: Any, key: str, gradient: bool) -> tuple[Any, Any, Any]:
    """y (..., n_outputs) of x (..., n_inputs), and params (n_params,) as the functions want them,
    with `gradient` those that go backward too, which find in (..., n_kept) what was made here."""
    code = _code(key)
    library = code.library(gradient)
    # Always: torch's count of a tensor's changes misses those through `.data`, and to compare
    # with what was packed before takes as long.
    packed = library.pack(_rows(params))
    rows = _rows(x)
    kept = to_keep(library, rows)
    y = forward(library, rows, packed, code.threads, kept)
    return (torch.from_numpy(y).reshape(*x.shape[:-1], len(code.graph.outputs)),
            torch.from_numpy(packed), x.new_empty((*x.shape[:-1], 0)) if kept is None
            else torch.from_numpy(kept).reshape(*x.shape[:-1], kept.shape[-1]))


def _backward(x: Any, packed: Any, kept: Any, dy: Any, key: str, n_params: int, of_x: bool,
              of_params: bool) -> tuple[Any, Any]:
    """The gradients of sum(y * dy) in x and in params, (0,) for one that is not wanted."""
    code = _code(key)
    rows = _rows(x)
    dx = np.empty_like(rows) if of_x else None
    dparams = np.zeros(n_params, rows.dtype) if of_params else None
    backward(code.library(True), rows, placed(_rows(packed)), _rows(dy), dx, dparams, code.threads,
             _rows(kept) if kept.shape[-1] else None)
    return (x.new_empty(0) if dx is None else torch.from_numpy(dx).reshape(x.shape),
            x.new_empty(0) if dparams is None else torch.from_numpy(dparams))


def _rows(tensor: Any) -> Array:
    """(..., n) as (n,) or (rows, n), row-major; its own memory where that is so already."""
    if tensor.ndim > 2:
        tensor = tensor.reshape(tensor.shape[:-1].numel(), tensor.shape[-1])
    array: Array = tensor.detach().contiguous().numpy(force=True)
    return array


def _forward_shapes(x: Any, params: Any, key: str, gradient: bool) -> tuple[Any, Any, Any]:
    """What `_forward` returns, without values, for who records its call."""
    _refuse()
    code = _RECORDED[key] = _code(key)
    library = code.library(gradient)
    return (x.new_empty((*x.shape[:-1], len(code.graph.outputs))),
            params.new_empty(library.n_packed or 0),
            x.new_empty((*x.shape[:-1], n_kept(library, x.ndim) or 0)))


def _backward_shapes(x: Any, packed: Any, kept: Any, dy: Any, key: str, n_params: int, of_x: bool,
                     of_params: bool) -> tuple[Any, Any]:
    return (x.new_empty(x.shape if of_x else 0), x.new_empty(n_params if of_params else 0))


def _forward_each(info: Any, dims: Any, x: Any, params: Any, key: str, gradient: bool) -> Any:
    """`_forward` under vmap: with parameters for all, the samples are one batch."""
    if dims[1] is None:
        made = torch.ops.ncc.forward(x.movedim(dims[0], 0), params, key, gradient)
        return made, (0, None, 0)
    return _one_by_one(torch.ops.ncc.forward, info, dims, x, params, key, gradient)


def _backward_each(info: Any, dims: Any, *given: Any) -> Any:
    """`_backward` under vmap: gradients of the parameters are sums, and each has its own."""
    return _one_by_one(torch.ops.ncc.backward, info, dims, *given)


def _one_by_one(op: Any, info: Any, dims: Any, *given: Any) -> Any:
    count = info.batch_size
    if count == 0:  # what one would give says the shapes
        given = tuple([a if d is None else a.new_zeros((*a.shape[:d], 1, *a.shape[d + 1 :]))
                       for a, d in zip(given, dims, strict=True)])
    made = [op(*[a if d is None else a.select(d, k) for a, d in zip(given, dims, strict=True)])
            for k in range(max(1, count))]
    stacked = tuple([torch.stack(each)[:count] for each in zip(*made, strict=True)])
    return stacked, (0,) * len(stacked)


def _no_vmap(*_: Any) -> Any:
    raise NotImplementedError(f"vmap of a net of ncc wants torch 2.5, this is {torch.__version__}")


torch.library.define("ncc::forward", "(Tensor x, Tensor params, str key, bool gradient) -> "
                                     "(Tensor y, Tensor packed, Tensor kept)",
                     tags=torch.Tag.pt2_compliant_tag)
torch.library.define("ncc::backward", "(Tensor x, Tensor packed, Tensor kept, Tensor dy, str key, "
                                      "int n_params, bool of_x, bool of_params) -> "
                                      "(Tensor dx, Tensor dparams)",
                     tags=torch.Tag.pt2_compliant_tag)
torch.library.impl("ncc::forward", "CPU", _forward)
torch.library.impl("ncc::backward", "CPU", _backward)
_fake = getattr(torch.library, "register_fake", None) or torch.library.impl_abstract  # before 2.4
_fake("ncc::forward", _forward_shapes)
_fake("ncc::backward", _backward_shapes)
if _MAPS:
    torch.library.register_vmap("ncc::forward", _forward_each)
    torch.library.register_vmap("ncc::backward", _backward_each)
else:  # torch before 2.5: torch.compile leaves the net as it is, between two graphs
    _Call.vmap = _Pullback.vmap = staticmethod(_no_vmap)
    _Call.generate_vmap_rule = _Pullback.generate_vmap_rule = False
    _module: Any = Module
    _module.forward = torch.compiler.disable(Module.forward)
