"""The pipeline from a net file to LLVM text: one tuple that anyone can read, and how it is run."""

from __future__ import annotations

import gc
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import Any, NamedTuple, Protocol

from ncc.errors import NccError, near
from ncc.ir.graph import Reals
from ncc.passes.emit.to_llvm import to_llvm
from ncc.passes.graph.embed import embed
from ncc.passes.graph.merge import merge
from ncc.passes.graph.order import order
from ncc.passes.graph.prune import prune
from ncc.passes.graph.resolve import resolve
from ncc.passes.graph.unroll import unroll
from ncc.passes.lower.lower import lower
from ncc.passes.plan.differentiate import differentiate
from ncc.passes.plan.group import group
from ncc.passes.plan.place import place
from ncc.passes.plan.train import train
from ncc.passes.ssa.cse import cse
from ncc.passes.ssa.dce import dce
from ncc.passes.ssa.expand import expand
from ncc.passes.ssa.fold import fold
from ncc.passes.ssa.split import split

Pass = Callable[..., Any]

PIPELINE: tuple[Pass, ...] = (
    resolve,  # syntax -> graph   names, counts, codes checked; the file format is forgotten
    order,  # graph  -> graph   levels; a cycle is reported here, with its path
    unroll,  # graph  -> graph   steps of a net with states, where asked for, as one net
    embed,  # graph  -> graph   parameters become constants, where asked for
    merge,  # graph  -> graph   neurons that must be equal are made once
    prune,  # graph  -> graph   neurons that no output can see
    group,  # graph  -> plan    the order of the rows, the form of each function
    place,  # plan   -> plan    a slot in `work` for each value, reused after its last reader
    differentiate,  # plan -> plan  gradient functions are wanted, too
    train,  # plan   -> plan    a step of training is wanted, too, where one is asked for
    lower,  # plan   -> ssa     the functions that are wanted, in their forms
    fold,  # ssa    -> ssa     constants and identities
    cse,  # ssa    -> ssa     equal ops made once
    dce,  # ssa    -> ssa     ops that nothing needs
    expand,  # ssa    -> ssa     exp, tanh, erf, ... become arithmetic
    split,  # ssa    -> ssa     functions small enough for LLVM's worse-than-linear parts
    to_llvm,  # ssa    -> llvm    one module, as text
)


class Order(NamedTuple):
    """A pass that comes before another of its level or the next, and why; what levels leave open.
    `needed`: `--passes` may not name the second without the first."""

    first: Pass
    then: Pass
    why: str
    needed: bool = False


ORDERS: tuple[Order, ...] = (
    Order(order, unroll, "a cycle is shown in the numbers of the net's own neurons"),
    Order(unroll, embed, "it is a part of reading a net, whose parameters it names"),
    Order(order, merge, "neurons are compared depth by depth"),
    Order(order, prune, "what an output sees is found from the last depth to the first"),
    Order(order, group, "rows go by depth"),
    Order(embed, merge, "neurons whose parameters became equal constants are equal"),
    Order(embed, prune, "an edge whose weight became the constant 0 goes under `fast`"),
    Order(merge, prune, "edges that `fast` joins may sum up to weight 0"),
    Order(place, lower, "values in memory have slots by then", needed=True),
    Order(fold, cse, "ops that folding makes equal are made once"),
    Order(fold, dce, "constants that were folded away are read by nothing"),
    Order(cse, expand, "equal functions are one before they are sequences"),
    Order(dce, expand, "a function that nothing reads becomes no sequence"),
    Order(expand, split, "functions are cut by the length of their arithmetic"),
    Order(expand, to_llvm, "LLVM has no tanh; `Part.expands` asks whether any is left"),
    Order(split, to_llvm, "LLVM takes more than linear time for a long function"),
)


@cache
def taken(call: Pass) -> tuple[str, ...]:
    """The names of a pass's options."""
    known = inspect.signature(call).parameters.values()
    return tuple([p.name for p in known if p.kind is inspect.Parameter.KEYWORD_ONLY])


class Step(NamedTuple):
    """A pass of the pipeline with the options that were written for it alone."""

    call: Pass
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.call.__name__

    def __call__(self, level: Any, common: Mapping[str, Any]) -> Any:
        chosen = {name: common[name] for name in taken(self.call) if name in common}
        return self.call(level, **{**chosen, **self.options})


class Watch(Protocol):
    """Told of each step: the level before it, and what it made after `seconds`; each with the
    canonical parameters, which are beside the level, where they are known."""

    def before(self, step: Step, level: Any, params: Reals | None) -> None: ...

    def after(self, step: Step, old: Any, new: Any, seconds: float,
              params: Reals | None) -> None: ...


def steps(text: str | None = None) -> tuple[Step, ...]:
    """The pipeline, or the passes of `text`: `fold,cse,split{piece=500,whole=0}`."""
    if text is None:
        return tuple(Step(call, {}) for call in PIPELINE)
    named = {call.__name__: call for call in PIPELINE}
    out = []
    for part in _parts(text):
        name, brace, rest = part.partition("{")
        if name not in named:
            raise NccError("E601", f"unknown pass {name}",
                           help=near(name, named))
        options = {}
        known = inspect.signature(named[name]).parameters
        for item in rest.rstrip("}").split(",") if brace else []:
            key, _, value = item.partition("=")
            if key not in known or known[key].kind is not inspect.Parameter.KEYWORD_ONLY:
                raise NccError("E601", f"pass {name} has no option {key}")
            options[key] = _value(name, key, value, known[key].default)
        out.append(Step(named[name], options))
    return tuple(out)


READING = ("resolve", "order", "unroll")  # the passes that are a part of reading a net
# A Net is resolved and in order already.
AFTER_ORDER = tuple(step for step in steps() if step.name not in READING)


def _parts(text: str) -> list[str]:
    out, depth = [""], 0
    for c in text.replace(" ", ""):
        depth += (c == "{") - (c == "}")
        if c == "," and depth == 0:
            out.append("")
        else:
            out[-1] += c
    return [part for part in out if part]


def _value(name: str, key: str, value: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False, "1": True, "0": False}[value.lower()]
        return type(default)(value) if default is not None else value
    except (ValueError, KeyError):
        raise NccError(
            "E601", f"pass {name}: {key}={value} is not of type {type(default).__name__}") from None


@cache
def departs(call: Pass) -> type:
    """The level that a pass starts from."""
    first = next(iter(inspect.signature(call).parameters))
    return _plain(typing.get_type_hints(call)[first])


@cache
def arrives(call: Pass) -> type:
    return _plain(typing.get_type_hints(call)["return"])


def _plain(hint: Any) -> type:
    return typing.cast(type, hint)  # Syntax is a union of classes, which isinstance takes too


def beyond(along: Sequence[Step], level: type) -> tuple[Step, ...]:
    """The steps after the last one that arrives at `level`."""
    last = max((k for k, s in enumerate(along) if arrives(s.call) is level), default=-1)
    return tuple(along[last + 1 :])


def walk(level: Any, common: Mapping[str, Any], watch: Watch | None = None, *,
         until: type = str, along: Sequence[Step] | None = None,
         params: Reals | None = None) -> Any:
    """Take `level` along the pipeline to the last step that arrives at `until`, from the first step
    that starts from it."""
    passes = steps() if along is None else along
    for step in passes[: len(passes) - len(beyond(passes, until))]:
        if not isinstance(level, departs(step.call)):
            continue
        if watch is not None:
            watch.before(step, level, params)
        began = perf_counter()
        with uncollected():
            new = step(level, common)
        seconds = perf_counter() - began
        if watch is not None:
            watch.after(step, level, new, seconds, params)
        level = new
    return level


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection: passes make a million small tuples and no cycle among them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
