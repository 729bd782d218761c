"""The one hook between the steps of the road: dumps, times, statistics, checks, reproducers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from ncc.driver.pipeline import Step, arrives
from ncc.errors import NccError
from ncc.ir.equivalence import prove
from ncc.ir.graph import ABSENT, Graph, Reals
from ncc.ir.plan import Plan
from ncc.ir.ssa import DTYPES, Module, Table
from ncc.ir.syntax import AdjacencyList, EdgeList, Matrix
from ncc.progress import Progress

PROVED = ("fold", "cse", "dce", "split")
# The levels that a text enters again, with the endings of those texts and their comment signs.
READ_BACK: dict[type, tuple[str, str]] = {
    AdjacencyList: ("nal", "%"), EdgeList: ("nel", "%"), Matrix: ("nam", "%"),
    Graph: ("graph", "//"), Plan: ("plan", "//"), Module: ("ssa", "//"),
}
KIND_OF: dict[type, str] = {Graph: "graph", Plan: "plan", Module: "ssa", str: "llvm"}
# The table in which an ssa text carries the canonical parameters; no buffer has this name.
VALUES = "parameters"
SAMPLES = 5


@dataclass
class Watcher:
    """What the command line asked to see; `err` is where it goes.

    `dtype` and `numerics` are what --check computes graphs and plans in; an ssa module says its
    own. The canonical parameters come with each level, NaN where one has no value.
    """

    print_before: tuple[str, ...] = ()
    print_after: tuple[str, ...] = ()
    verify_each: bool = False
    check: bool = False
    gradient: bool = False  # whether --check compares gradients, too
    time_passes: bool = False
    stats: bool = False
    dtype: str = "f32"
    numerics: str = "fused"
    err: TextIO = field(default_factory=lambda: sys.stderr)
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    times: list[tuple[str, float]] = field(default_factory=list)  # of each row, without those in it
    began: float = field(default_factory=perf_counter)
    progress: Progress = field(default_factory=Progress)
    step: Step | None = None  # the last step begun,
    done: bool = False  # and whether it has ended well
    making: str | None = None  # the kind that is being made of the last level
    kept: Any = None  # the last level before the step that a text can enter again,
    since: list[Step] = field(default_factory=list)  # and the steps begun from there
    seen: tuple[Any, Any] = (None, None)  # the level checked last, and its answers
    inner: list[float] = field(default_factory=list)  # seconds within what is being timed

    def imported(self, began: float) -> None:
        """The command began earlier, at `began`: until now it was importing."""
        self.times.append(("import", self.began - began))
        self.began = began

    @contextmanager
    def working(self, what: str) -> Iterator[None]:
        """Around a stage that is no pass: it has a row of --time-passes, and a word of progress."""
        began = perf_counter()
        self.inner.append(0.0)
        try:
            with self.progress.working(what):
                yield
        finally:
            self._spent(what, perf_counter() - began, self.inner.pop())

    def _spent(self, what: str, seconds: float, inner: float = 0.0) -> None:
        """Of `seconds`, `inner` are in the rows of what is within."""
        self.times.append((what, seconds - inner))
        if self.inner:
            self.inner[-1] += seconds

    @contextmanager
    def emitting(self, kind: str, last: bool = True) -> Iterator[None]:
        """Around the making of a kind, of the `last` level or not: what goes wrong there after all
        passes replays by making it again."""
        self.making = kind if last else None
        with self.working(f"emit {kind}"):
            yield
        self.making = None

    def before(self, step: Step, level: Any, params: Reals | None = None) -> None:
        self.step, self.done = step, False
        if type(level) in READ_BACK:
            self.kept, self.since = level, []
        self.since.append(step)
        if step.name in self.print_before or "all" in self.print_before:
            self._dump("before", step, level, params)
        self.progress.before(step, level)

    def after(self, step: Step, old: Any, new: Any, seconds: float,
              params: Reals | None = None) -> None:
        self.progress.after(step, old, new, seconds)
        self._spent(step.name, seconds)
        self.rows.append((step.name, size(old), size(new) + lost(old, new)))
        if step.name in self.print_after or "all" in self.print_after:
            self._dump("after", step, new, params)
        if self.verify_each:
            with self.working("verify"):
                if hasattr(new, "verify"):
                    new.verify()
                if step.name in PROVED and isinstance(new, Module):
                    prove(old, new)
        if self.check:
            with self.working("check"):
                self._check(step, old, new, params)
        self.done = True

    def _dump(self, when: str, step: Step, level: Any, params: Reals | None) -> None:
        if isinstance(level, Module):
            level = carrying(level, params)
        text = str(level)
        end = "" if text.endswith("\n") else "\n"
        self.err.write(f"// ---- {when} {step.name}\n{text}{end}")

    @np.errstate(all="ignore")  # infinities and NaN are values
    def _check(self, step: Step, old: Any, new: Any, params: Reals | None) -> None:
        if isinstance(new, Graph) and new.levels is None:
            return  # `order` has yet to say whether it has a meaning
        held, before = self.seen
        if held is not old:
            before = self._answers(old, params)
        after = self._answers(new, params)
        self.seen = (new, after)
        if before is None or after is None:
            return
        fast = self.numerics == "fast"
        for name, a, b in zip(("forward", "forward_batch"), before, after, strict=True):
            if a.shape != b.shape or a.dtype != b.dtype:
                raise NccError("E320", f"{step.name} makes {name} give {b.dtype} {b.shape}, not "
                               f"{a.dtype} {a.shape}")
            if not fast:
                word = np.uint32 if a.dtype == np.float32 else np.uint64
                wrong = (a.view(word) != b.view(word)) & ~(np.isnan(a) & np.isnan(b))
            else:  # it may reassociate, so only a gross difference is a fault
                close = 1e-3 if a.dtype == np.float32 else 1e-9
                wrong = ~np.isclose(a, b, close, close, equal_nan=True)
            if wrong.any():
                at = tuple(int(k) for k in np.argwhere(wrong)[0])
                raise NccError("E320", f"{step.name} changes output {at[1]} of sample {at[0]} in "
                               f"{name}: {a[at]!r} became {b[at]!r}")

        if self.gradient:
            self._check_gradients(step, old, new, params)

    def _check_gradients(self, step: Step, old: Any, new: Any, params: Reals | None) -> None:
        """From the plan on, sums have one order, and so gradients one answer. Passes over graphs
        make neurons one or leave some out, whose parts are then added otherwise: there, and under
        `fast`, only a gross difference is a fault."""
        before = gradients(old, params, self.dtype, self.numerics)
        after = gradients(new, params, self.dtype, self.numerics)
        if before is None or after is None:
            return
        exact = self.numerics != "fast" and not isinstance(new, Graph)
        for (name, a), (_, b) in zip(before, after, strict=True):
            if exact:
                wrong = (a != b) & ~(np.isnan(a) & np.isnan(b))
            else:
                good = np.isfinite(a) & np.isfinite(b)
                close = (1e-3 if a.dtype == np.float32 else 1e-9) * max(
                    1.0, float(np.abs(a[good]).max(initial=0.0)))
                wrong = good & (np.abs(a - b) > close)
            if wrong.any():
                at = tuple(int(k) for k in np.argwhere(wrong)[0])
                raise NccError("E320", f"{step.name} changes {name}{list(at)}: {a[at]!r} became "
                               f"{b[at]!r}")

    def _answers(self, level: Any, params: Reals | None
                 ) -> tuple[NDArray[Any], NDArray[Any]] | None:
        return answers(level, params, self.dtype, self.numerics)

    def report(self) -> None:
        """The tables of --time-passes and --stats."""
        if self.time_passes:
            total = perf_counter() - self.began
            rest = total - sum(seconds for _, seconds in self.times)
            self.err.write("// ---- time of passes\n")
            for name, seconds in (*self.times, ("other", rest), ("total", total)):
                self.err.write(f"{name:13} {seconds * 1e3:10.2f} ms {seconds / total:6.1%}\n")
        if self.stats:
            self.err.write("// ---- statistics\n")
            for name, old, new in self.rows:
                self.err.write(f"{name:10} {old} -> {new}\n")

    def reproducer(self, flags: str) -> tuple[Path, str] | None:
        """Keep the text of the last level before the guilty pass that can be entered again: the
        file, and the command that replays the fault; the file's first line holds it too.

        `flags` are the command's other options.
        """
        if self.step is None or self.kept is None or (self.done and self.making is None):
            return None
        ending, comment = READ_BACK[type(self.kept)]
        path = Path(f"ncc-fault-{self.step.name}.{ending}")
        passes = ",".join(spelled(step) for step in self.since)
        if any(c in passes for c in "{} "):
            passes = f"'{passes}'"
        goal = self.making if self.done else KIND_OF[arrives(self.step.call)]
        command = f"ncc build {path} --passes {passes} --emit {goal}{flags} --verify-each"
        try:
            path.write_text(f"{comment} {command}\n{self.kept}")
        except OSError:
            return None
        return path, command


def spelled(step: Step) -> str:
    """A step as --passes takes it: `split{piece=500}`."""
    options = ",".join(f"{key}={value}" for key, value in step.options.items())
    return step.name + (f"{{{options}}}" if options else "")


def size(level: Any) -> str:
    """How much a level holds: edges and neurons, or ops."""
    if isinstance(level, Graph):
        return f"{int((level.activations >= -1).sum())} neurons, {level.n_edges} edges"
    if isinstance(level, Plan):
        return f"{len(level.rows)} rows, {len(level.edges)} edges, {level.single.work} slots"
    if isinstance(level, Module):
        return f"{sum(len(f.ops) for f in level.funcs)} ops, {len(level.funcs)} functions"
    if isinstance(level, str):
        return f"{len(level)} characters"
    return "syntax"


def lost(old: Any, new: Any) -> str:
    """Which neurons a graph pass has made away with, eight of them by name."""
    if not (isinstance(old, Graph) and isinstance(new, Graph)):
        return ""
    gone = np.flatnonzero((old.activations != ABSENT) & (new.activations == ABSENT)).tolist()
    if not gone:
        return ""
    k = max(2, len(f"{old.n_neurons - 1:x}"))
    shown = " ".join([f"{j:0{k}x}" for j in gone[:8]]) + (" ..." if gone[8:] else "")
    return f" (gone: {shown})"


def answers(level: Any, values: Reals | None, dtype: str, numerics: str
            ) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """y of the level's interpreter for fixed samples: (2, n_outputs) one at a time, as `forward`
    does, and (SAMPLES, n_outputs) as a batch. None of a level that has no interpreter.

    Parameters without a value are drawn: the same for every level of one net.
    """
    with np.errstate(all="ignore"):
        if isinstance(level, (Graph, Plan)):
            graph = level if isinstance(level, Graph) else level.graph
            params = _drawn(graph.values if values is None else values)
            x = _samples(len(graph.inputs), dtype)
            y = level.run(x, params, dtype, numerics)
            if isinstance(level, Graph):
                return y[:2], y
            return np.stack([level.run(row, params, dtype, numerics) for row in x[:2]]), y
        if isinstance(level, Module) and runnable(level):
            buffers = {b.name: b.size for b in level.func("forward").buffers}
            x = _samples(buffers["x"], level.dtype)
            count = n_params(level)
            missing = np.full(count, np.nan)
            params = _drawn(missing if values is None or len(values) != count else values)
            return interpret(level, x[:2], params), interpret(level, x, params, batch=True)
    return None


def gradients(level: Any, values: Reals | None, dtype: str, numerics: str
              ) -> list[tuple[str, NDArray[Any]]] | None:
    """dx and dparams of the level's reverse interpreter for fixed samples, one at a time and as a
    batch. None of a level that has none, such as a module without backward functions."""
    with np.errstate(all="ignore"):
        if isinstance(level, (Graph, Plan)):
            graph = level if isinstance(level, Graph) else level.graph
            if graph.levels is None:
                return None
            x = _samples(len(graph.inputs), dtype)
            params = _drawn(graph.values if values is None else values)
            dy = _seeds(len(graph.outputs), dtype)
            alone = [graph.gradient(row, d, params, dtype, numerics)
                     for row, d in zip(x, dy, strict=True)]
            both = [(np.stack([dx for dx, _ in alone]), np.stack([dw for _, dw in alone])),
                    graph.gradient(x, dy, params, dtype, numerics)]
        elif isinstance(level, Module) and runnable(level) and {
                "backward", "backward_batch"} <= {f.name for f in level.funcs}:
            sizes = {b.name: b.size for b in level.func("backward").buffers}
            count = n_params(level)
            missing = np.full(count, np.nan)
            params = _drawn(missing if values is None or len(values) != count else values)
            x = _samples(sizes["x"], level.dtype)
            dy = _seeds(sizes["dy"], level.dtype)
            both = [interpret_backward(level, x, dy, params, batch=batch)
                    for batch in (False, True)]
        else:
            return None
    names = ("dx of backward", "dparams of backward", "dx of backward_batch",
             "dparams of backward_batch")
    return list(zip(names, [*both[0], *both[1]], strict=True))


def _seeds(n_outputs: int, dtype: str) -> NDArray[Any]:
    return np.random.default_rng(2).standard_normal((SAMPLES, n_outputs)).astype(DTYPES[dtype])


def _samples(n_inputs: int, dtype: str) -> NDArray[Any]:
    x = np.random.default_rng(0).standard_normal((SAMPLES, n_inputs))
    x[-1] = 0.0
    x[-2] *= 100.0
    return x.astype(DTYPES[dtype])


def _drawn(values: Reals) -> Reals:
    drawn = np.random.default_rng(1).standard_normal(len(values))
    return np.where(np.isnan(values), drawn, values)


# ---- ssa modules that stand for a net


def runnable(module: Module) -> bool:
    """Whether it has the functions that `lower` makes of a net, over the buffers that they have."""
    funcs = {f.name: [b.name for b in f.buffers] for f in module.funcs}
    packed = ["packed"] if "pack" in funcs else []
    wanted = ["x", *packed, "y", "work"]
    return (funcs.get("forward") == wanted and funcs.get("forward_batch") == wanted
            and funcs.get("pack") in ([], None, ["params", "packed"]))


def n_params(module: Module) -> int:
    """How many canonical parameters `pack` reads; 0 where the code holds them."""
    found = [b.size for f in module.funcs if f.name == "pack" for b in f.buffers
             if b.name == "params"]
    return found[0] if found else 0


def carrying(module: Module, values: Reals | None) -> Module:
    """The module with its canonical parameters beside it, in a table that no op reads, so that
    its text is a whole net."""
    count = n_params(module)
    if not count or values is None or len(values) != count or np.isnan(values).any():
        return module
    if any(t.name == VALUES for t in module.tables):
        return module
    table = Table(VALUES, "f", values.astype(DTYPES[module.dtype]))
    return module.with_(tables=(*module.tables, table))


def carried(module: Module) -> tuple[Module, Reals | None]:
    """The inverse of `carrying`: the module that passes see, and the parameters, if it has them."""
    found = [t for t in module.tables if t.name == VALUES and t.type == "f"]
    if not found or len(found[0].values) != n_params(module):
        return module, None
    rest = tuple(t for t in module.tables if t.name != VALUES)
    return module.with_(tables=rest), found[0].values.astype(np.float64)


def interpret_backward(module: Module, x: Any, dy: Any, params: Any, *, batch: bool = False
                       ) -> tuple[Any, Any]:
    """dx (batch, n_inputs) and dparams of an ssa module's own `backward`, (batch, n_params), or
    `backward_batch`, summed: x (batch, n_inputs), dy (batch, n_outputs)."""
    real = DTYPES[module.dtype]
    x, dy = np.asarray(x, real), np.asarray(dy, real)
    n, count = len(x), n_params(module)
    packed = np.zeros(sum(b.size for b in module.func("pack").buffers if b.name == "packed"), real)
    module.run("pack", {"params": np.asarray(params, np.float64).astype(real), "packed": packed})
    if batch:
        flat = {"x": x.reshape(-1), "packed": packed, "dy": dy.reshape(-1),
                "dx": np.zeros(x.size, real), "dparams": np.zeros(count, real)}
        module.run("backward_batch", flat, n)
        return flat["dx"].reshape(x.shape), flat["dparams"]
    # An axis behind the first is a batch, whose samples have a gradient each.
    buffers = {"x": np.ascontiguousarray(x.T), "packed": packed, "dy": np.ascontiguousarray(dy.T),
               "dx": np.zeros(x.T.shape, real), "dparams": np.zeros((count, n), real)}
    module.run("backward", buffers)
    return buffers["dx"].T, buffers["dparams"].T


def interpret(module: Module, x: Any, params: Any, *, batch: bool = False) -> Any:
    """y of an ssa module's own `forward`, or `forward_batch`: x (batch, n_inputs)."""
    real = DTYPES[module.dtype]
    x = np.asarray(x, real)
    funcs = {f.name: f for f in module.funcs}
    func = funcs["forward_batch" if batch else "forward"]
    sizes = {b.name: b.size for b in func.buffers}
    n = len(x)
    buffers: dict[str, Any] = {}
    if "packed" in sizes:
        packed = np.zeros((sizes["packed"],), real)
        module.run("pack", {"params": np.asarray(params, np.float64).astype(real),
                            "packed": packed})
        buffers["packed"] = packed
    if batch:
        buffers["x"] = np.ascontiguousarray(x).reshape(-1)
        buffers["y"] = np.zeros(n * sizes["y"], real)
        module.run(func.name, buffers, n)
        return buffers["y"].reshape(n, sizes["y"])
    buffers = {"x": np.ascontiguousarray(x.T), **buffers, "y": np.zeros((sizes["y"], n), real)}
    module.run(func.name, buffers)
    return buffers["y"].T
