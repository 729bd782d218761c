"""Random modules of the ssa level: straight code and loops, constants that tempt a pass."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from ncc.ir.ssa import DTYPES, Buffer, Func, Module, Table
from ncc.ir.ssa_build import Builder

Choose = Callable[[int, int], int]  # an integer, both ends included
SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 1e30, 1e-30, float("inf"), float("-inf"))
BINARY = ("add", "sub", "mul", "div", "max", "min", "add", "mul")
COMPARE = ("lt", "gt", "le", "ge", "eq", "une")
UNARY = ("neg", "abs", "relu", "step")
WORDS = ("wadd", "wsub", "wmul", "wand", "wor", "wxor")


@st.composite
def modules(draw: st.DrawFn, *, loops: bool = True) -> Module:
    return _build(lambda low, high: draw(st.integers(low, high)), loops)


def some_module(seed: int, *, loops: bool = True) -> Module:
    """The module that `modules` might draw, from a seed."""
    return _build(random.Random(seed).randint, loops)


def _build(choose: Choose, loops: bool) -> Module:
    """Function `f` of x 4, p 3, y 6 (out), acc 2 (inout), work 4; with loops perhaps `g`, counted,
    whose samples are lanes, and which adds to acc alone."""
    dtype = ("f32", "f64")[choose(0, 1)]
    numerics = ("strict", "fused")[choose(0, 1)]
    tables = (
        Table("reals", "f", np.array([1.0, -0.0, 0.25, np.inf], DTYPES[dtype])),
        Table("places", "i", np.array([3, 0, 2, 1], np.int32)),
    )
    b = Builder(dtype, numerics == "fused")
    _statements(b, choose, loops, None)
    buffers = (Buffer("x", "in", 4), Buffer("p", "in", 3), Buffer("y", "out", 6),
               Buffer("acc", "inout", 2), Buffer("work", "work", 4))
    funcs = [Func("f", buffers, b.ops)]
    if loops and choose(0, 1):
        b = Builder(dtype, numerics == "fused")
        sample = b.loop(b.index(0), b.emit("count"), lanes=32)[0]
        _statements(b, choose, loops, sample)
        b.close()
        buffers = (*buffers[:4], Buffer("work", "private", 4))
        funcs.append(Func("g", buffers, b.ops, counted=True))
    return Module("random", dtype, numerics, tuple(funcs), tables)


def _statements(b: Builder, choose: Choose, loops: bool, sample: int | None) -> None:
    row_of_x = None if sample is None else b.op("imul", sample, b.index(4))
    row_of_y = None if sample is None else b.op("imul", sample, b.index(6))
    reals = [b.load("x", 0, row_of_x), b.load("p", 0)]
    indices: list[int] = []  # each 0 <= i < 4
    open_loops: list[tuple[list[int], list[int], int]] = []

    def pick(values: list[int]) -> int:
        return values[choose(0, len(values) - 1)]

    for _ in range(choose(3, 30)):
        kind = choose(0, 15)
        if kind == 0:
            reals.append(b.const(SPECIAL[choose(0, len(SPECIAL) - 1)]))
        elif kind == 1:
            at = choose(0, 2)
            reals.append(b.load("p", at) if choose(0, 1) else b.load("x", at, row_of_x))
        elif kind in (2, 3, 4):
            reals.append(b.op(BINARY[choose(0, len(BINARY) - 1)], pick(reals), pick(reals)))
        elif kind == 5:
            reals.append(b.op("fma", pick(reals), pick(reals), pick(reals)))
        elif kind == 6:
            reals.append(b.op(UNARY[choose(0, len(UNARY) - 1)], pick(reals)))
        elif kind == 7:
            truth = b.op(COMPARE[choose(0, len(COMPARE) - 1)], pick(reals), pick(reals))
            reals.append(b.op("select", truth, pick(reals), pick(reals)))
        elif kind == 8:
            # The sign of a NaN is no program's to see: max(constant, x) is none.
            number = b.op("max", b.const(-3.0), pick(reals))
            word = b.op(WORDS[choose(0, len(WORDS) - 1)], b.op("bits", number),
                        b.word(choose(0, 7)))
            reals.append(b.op("select", b.op("wlt", word, b.word(0)), pick(reals), pick(reals)))
        elif kind == 9:
            b.store(pick(reals), "y", choose(0, 5), row_of_y)
        elif kind == 10:
            b.store(pick(reals), "work", choose(0, 3))
        elif kind == 11:
            if sample is None and choose(0, 1):
                b.store(pick(reals), "acc", choose(0, 1))
                reals.append(b.load("acc", choose(0, 1)))
            else:
                reals.append(b.load("work", choose(0, 3)))
        elif kind == 12 and indices:
            i = pick(indices)
            if choose(0, 1):
                i = b.load("places", 0, i)
            if choose(0, 1):
                i = b.op("imul", i, b.index(choose(0, 1)))
            what = choose(0, 3)
            if what == 0:
                b.store(pick(reals), "work", 0, i)
            elif what == 1:
                reals.append(b.load("reals", 0, i))
            elif what == 2:
                reals.append(b.load("x", 0, i if row_of_x is None else b.op("iadd", i, row_of_x)))
            else:
                b.store(pick(reals), "y", choose(0, 2),
                        i if row_of_y is None else b.op("iadd", row_of_y, i))
        elif kind == 13 and loops:
            if open_loops and choose(0, 1):
                _close(b, reals, indices, open_loops.pop(), pick)
            elif len(open_loops) < 2:
                low, high = b.index(choose(0, 1)), b.index(choose(0, 4))
                inits = [pick(reals) for _ in range(choose(0, 2))]
                if choose(0, 3) == 0:
                    high = b.emit("given", (), ("acc", "p")[choose(0, 1)])
                open_loops.append((list(reals), list(indices), len(inits)))
                index, *carries = b.loop(low, high, inits)
                indices.append(index)
                reals += carries
        elif kind == 14:
            value, at = b.op("mask", pick(reals)), pick(indices) if indices else None
            if at is not None and choose(0, 1):
                b.accumulate(value, pick(reals), "acc", 0, b.op("imul", at, b.index(0)))
            else:
                b.accumulate(value, pick(reals), "acc", choose(0, 1))
        elif kind == 15 and indices:
            reals.append(b.op("real", pick(indices)))
    while open_loops:
        _close(b, reals, indices, open_loops.pop(), pick)
    b.store(reals[-1], "y", 0, row_of_y)


def _close(b: Builder, reals: list[int], indices: list[int],
           outside: tuple[list[int], list[int], int], pick: Callable[[list[int]], int]) -> None:
    results = b.close(*[pick(reals) for _ in range(outside[2])])
    reals[:], indices[:] = outside[0] + results, outside[1]


def evaluate(module: Module) -> dict[str, NDArray[np.generic]]:
    """What every function writes, on samples with all that is special, as bits; NaNs are one."""
    real = DTYPES[module.dtype]
    rng = np.random.default_rng(7)
    values = np.array([*SPECIAL, np.nan, 3.0, -0.75, 1e-40], real)
    samples = 24
    out: dict[str, NDArray[np.generic]] = {}
    for func in module.funcs:
        if not func.exported:
            continue
        buffers = {}
        for b in func.buffers:
            if b.kind in ("in", "out", "inout"):
                flat = (b.size * samples,) if b.name in ("x", "y") else (b.size,)
                shape = flat if func.counted else (b.size, samples)
                buffers[b.name] = rng.choice(values, shape)
        module.run(func.name, buffers, samples if func.counted else None)
        for b in func.buffers:
            if b.kind in ("out", "inout"):
                held = buffers[b.name]
                bits = held.view(np.int32 if real is np.float32 else np.int64)
                out[f"{func.name} {b.name}"] = np.where(np.isnan(held), -1, bits)
    return out
