"""Moves as loop nests: each row once, in its order, as arrays would say, and fewer cells."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from ncc.ir.ssa import Buffer, Func, Module, Table
from ncc.ir.ssa_build import TILE, Builder
from ncc.machine.llvm import Loaded, Machine, host
from ncc.passes.emit.to_llvm import to_llvm
from ncc.passes.lower.arrays import moves

ROWS, COLUMNS = 30, 40
GRID = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)


def module_of(b: Builder, tables: list[Table], *buffers: Buffer, counted: bool = False) -> Module:
    module = Module("net", "f32", "fused", (Func("f", buffers, b.ops, counted=counted),),
                    tuple(tables))
    module.verify()
    return module


def tabled(tables: list[Table]):
    def table(name: str, type: str, values) -> str:
        tables.append(Table(name, type, np.asarray(values, np.int32)))
        return name
    return table


def addresses(module: Module) -> Loaded:
    text = to_llvm(module, triple=host().triple, vector_bits=host().vector_bits,
                   assembles=host().assembles, attributes=host().attributes)
    return Loaded(Machine(host(), 1).object(text), ["net_f"])


RNG = np.random.default_rng(0)
CASES = {
    "transposed": (GRID.T.ravel(), 20),
    "from the last row on, and from the last column on": (GRID[::-1, ::-1].ravel(), 0),
    "alternating rows": (GRID[np.argsort(np.arange(ROWS) % 2, kind="stable")].ravel(), 20),
    "two transposes and a range": (np.concatenate([
        GRID[:12].T.ravel(), GRID[12:20].ravel(), GRID[20:].T.ravel()]), 30),
    "from the right to the left, row by row": (GRID[:, ::-1].ravel(), 20),
    "falls as it goes on, unevenly": (np.concatenate([
        GRID[20:].T.ravel(), GRID[5:20, ::-1].ravel(), GRID[:5].T.ravel()[::-1]]), 40),
    "irregular": (RNG.permutation(GRID.ravel()), GRID.size),
    "few": (np.array([4, 1, 7]), 3),
    "one": (np.array([4]), 0),
}


@pytest.mark.parametrize("case", CASES)
def test_each_row_once_in_its_order(case: str) -> None:
    """What the machine does with steps that are below 0 included."""
    order, cells = CASES[case]
    b, tables = Builder("f32", True), []
    moves.each(b, tabled(tables), "m", {"from": order, "to": range(len(order))},
               lambda a, k: b.store(b.load("x", 0, a), "y", 0, k))
    module = module_of(b, tables, Buffer("x", "in", GRID.size), Buffer("y", "out", len(order)))
    assert sum(len(t.values) for t in tables) <= cells
    x = RNG.standard_normal(GRID.size).astype(np.float32)
    loaded = addresses(module)
    y = np.zeros(len(order), np.float32)
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2)(loaded.addresses["net_f"])(
        x.ctypes.data, y.ctypes.data)
    np.testing.assert_array_equal(y, x[order])


PLACES = {
    "side by side": (np.arange(7, 60), 0),
    "blocks": (np.concatenate([np.arange(k, k + 40) for k in (300, 200, 100, 0)]), 0),
    "ragged blocks": (np.concatenate([np.arange(k, k + n) for k, n in (
        (300, 33), (250, 17), (130, 49), (10, 100))]), 20),
    "blocks that are shorter than a tile": (
        np.concatenate([np.arange(k, k + TILE // 2) for k in range(300, 0, -TILE)]), 152),
    "irregular": (RNG.permutation(350)[:200], 200),
}


@pytest.mark.parametrize("case", PLACES)
@pytest.mark.parametrize("lanes", [0, 16])
def test_columns_come_from_their_places(case: str, lanes: int) -> None:
    """Of single samples and of lanes, whose last tile starts early."""
    places, cells = PLACES[case]
    b, tables = Builder("f32", True), []
    sample = b.loop(b.index(0), b.emit("count"), lanes=lanes)[0]
    row = b.op("imul", sample, b.index(400))
    k = b.loop(b.index(0), b.index(400))[0]
    b.store(b.load("x", 0, b.op("iadd", row, k)), "held", 0, k)
    b.close()
    row = b.op("imul", sample, b.index(len(places)))
    for k, found in moves.columns(b, tabled(tables), "m", places, lanes > 0):
        values = [b.load("held", *place) for place in found]
        at = b.op("iadd", row, k)
        for c, value in enumerate(values):
            b.store(value, "y", c, at)
    b.close()
    distinct = {t.name: t for t in tables}
    module = module_of(b, list(distinct.values()), Buffer("x", "in", 400),
                       Buffer("y", "out", len(places)),
                       Buffer("held", "private" if lanes else "work", 400), counted=True)
    assert sum(len(t.values) for t in distinct.values()) <= cells
    n = 21
    x = RNG.standard_normal((n, 400)).astype(np.float32)
    y = np.zeros((n, len(places)), np.float32)
    held = np.zeros(400 * max(1, lanes) + 16, np.float32)
    work = held.ctypes.data + -held.ctypes.data % 64
    loaded = addresses(module)
    ctypes.CFUNCTYPE(None, ctypes.c_size_t, *[ctypes.c_void_p] * 3)(loaded.addresses["net_f"])(
        n, x.ctypes.data, y.ctypes.data, work)
    np.testing.assert_array_equal(y, x[:, places])
