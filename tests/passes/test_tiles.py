"""Tiles that ncc's own assembly moves between rows of samples and private memory: what is moved,
and that all of it arrives, for any number of columns and samples, and nothing beside it."""

from __future__ import annotations

import ctypes
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ncc.ir.ssa import DTYPES, Buffer, Func, Module, Table
from ncc.ir.ssa_build import Builder
from ncc.machine.footprint import stacks
from ncc.machine.llvm import Loaded, Machine, host
from ncc.machine.targets import TARGETS
from ncc.passes.emit.to_llvm import to_llvm

GUARD = 7.5  # around what is written


def copy(dtype: str, width: int, lanes: int, count: int | None = None, cells: int = 0,
         twice: bool = False, summed: bool = False) -> tuple[Module, np.ndarray]:
    """y = x, in the order of the columns that is the second result: by private memory, from whose
    elements a table of cells of so many bytes says which go to y, or, of none, in their own order.
    Of `count` samples, or as many as the caller says. `twice` reads a column for a sum, too."""
    b = Builder(dtype, True)
    sample = b.loop(b.index(0), b.emit("count") if count is None else b.index(count),
                    lanes=lanes)[0]
    row = b.op("imul", sample, b.index(width))
    far = {0: 0, 1: 0, 2: 300, 4: 70_000}[cells]
    order = np.arange(width)
    if cells:
        order = np.random.default_rng(width).permutation(width)
    for k, wide in b.columns(width, True):
        at = b.op("iadd", row, k)
        values = [b.load("x", c, at) for c in range(wide)]
        for c, value in enumerate(values):
            b.store(value, "held", far + c, k)
        if twice:
            b.store(values[0], "held", far + width)
        b.close()
    if summed:
        b.accumulate(b.op("mask", b.load("held", far)), b.const(1.0), "sum", 0)
    for k, wide in b.columns(width, True):
        values = [b.load("held", 0, b.load("order", c, k)) if cells else b.load("held", c, k)
                  for c in range(wide)]
        at = b.op("iadd", row, k)
        for c, value in enumerate(values):
            b.store(value, "y", c, at)
        b.close()
    b.close()
    buffers = (Buffer("x", "in", width), Buffer("y", "out", width), Buffer("sum", "inout", 1),
               Buffer("held", "private", far + width + 1))
    tables = (Table("order", "i", (far + order).astype(np.int32)),) if cells else ()
    module = Module("net", dtype, "fused",
                    (Func("f", buffers, b.ops, counted=count is None),), tables)
    module.verify()
    return module, order


def text_of(module: Module, bits: int, assembles: int) -> str:
    return to_llvm(module, triple=host().triple, vector_bits=bits, assembles=assembles,
                   attributes=host().attributes)


def check(module: Module, order: np.ndarray, text: str, width: int, lanes: int,
          counts: Sequence[int], given: bool = True, opt: int = 1) -> None:
    loaded = Loaded(Machine(host(), opt).object(text), ["net_f"])
    real, func = DTYPES[module.dtype], module.funcs[0]
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_size_t] * given, *[ctypes.c_void_p] * 4)(
        loaded.addresses["net_f"])
    held = np.zeros(func.buffers[3].size * lanes + 16, real)
    work = held.ctypes.data + -held.ctypes.data % 64
    for n in counts:
        x = np.random.default_rng(n).standard_normal((n, width)).astype(real)
        y = np.full((n + 2) * width, GUARD, real)
        total = np.zeros(1, real)
        call(*[n] * given, x.ctypes.data, y[width:].ctypes.data, total.ctypes.data, work)
        assert np.array_equal(y[width:-width].reshape(n, width), x[:, order]), (width, n)
        assert (y[:width] == GUARD).all() and (y[-width:] == GUARD).all()


here = pytest.mark.skipif(not host().assembles, reason="x86-64's assembly")
WIDTHS = [15, 16, 17, 31, 40]


@here
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("bits", [128, 256, 512])
@pytest.mark.parametrize("width", [*WIDTHS, *[
    pytest.param(w, marks=pytest.mark.slow) for w in range(1, 41) if w not in WIDTHS]])
def test_all_arrives(dtype: str, bits: int, width: int) -> None:
    """Of ragged rounds, too, in one to four vectors of lanes."""
    if bits > host().vector_bits:
        pytest.skip("vectors that this machine does not have")
    native = bits // (32 if dtype == "f32" else 64)
    lanes = native * (1 + width % 4)
    module, order = copy(dtype, width, lanes, cells=1)
    text = text_of(module, bits, bits)
    assert ("asm sideeffect" in text) == (width >= 16)
    check(module, order, text, width, lanes, range(1, 71) if width == 40 else (1, 5, lanes, 70))


@here
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("case", [
    {"cells": 0}, {"cells": 2}, {"cells": 4}, {"count": 24}, {"count": 24, "cells": 1},
    {"summed": True, "cells": 1}])
def test_wherever_the_columns_are(dtype: str, case: dict[str, int]) -> None:
    """Side by side or as cells of any size say, in whole rounds, in chains of samples, and where a
    round has three vectors, so that a column is no power of two bytes."""
    bits = host().vector_bits
    native = bits // (32 if dtype == "f32" else 64)
    lanes = native * (4 if "summed" in case else 1 if "count" in case else 3)
    count = case.get("count") and 3 * lanes
    module, order = copy(dtype, 37, lanes, **{**case, "count": count})
    text = text_of(module, bits, bits)
    assert text.count("asm sideeffect") == 2
    check(module, order, text, 37, lanes, [count] if count else [1, lanes - 1, lanes, 2 * lanes],
          given=not count)


@here
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("bits", [256, 512])
def test_a_tile_with_other_readers_is_turned_in_registers(dtype: str, bits: int) -> None:
    """Loads and stores are LLVM's, shuffles not; with AVX-512, too, whose registers are more than
    some instructions know."""
    if bits > host().vector_bits:
        pytest.skip("vectors that this machine does not have")
    lanes = 2 * bits // (32 if dtype == "f32" else 64)
    module, order = copy(dtype, 20, lanes, twice=True)
    text = text_of(module, bits, bits)
    assert text.count("asm sideeffect") == 1 and " asm \"" in text
    for opt in (0, 1):
        check(module, order, text, 20, lanes, [1, lanes, 2 * lanes - 1], opt=opt)


def test_other_targets_and_vectors_that_are_too_wide_are_left_to_llvm() -> None:
    for twice in (False, True):
        module, _ = copy("f32", 16, 16, twice=twice)
        for assembles, found in ((256, True), (128, False), (0, False)):
            text = to_llvm(module, vector_bits=256, assembles=assembles)
            assert (" asm " in text) == found
            assert (text.count("shufflevector <8 x float> %") > 16) != found


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("opt", [0, 2])
def test_a_frame_is_known_and_gnu_takes_it(name: str, opt: int, tmp_path: Path) -> None:
    """The function is none that is assembly as a whole: LLVM says what stack it takes."""
    target = TARGETS[name]
    module, _ = copy("f32", 20, 32, cells=1)
    text = to_llvm(module, triple=target.triple, vector_bits=target.vector_bits,
                   assembles=target.assembles, attributes=target.attributes)
    assert text.count("asm sideeffect") == 2
    machine = Machine(target, opt)
    frames, _, _ = machine.measured(text).partition(b"\n")
    found = stacks(text, json.loads(frames), target)
    assert found is not None and found["net_f"] >= 32 * 4  # where the lanes' samples are
    (tmp_path / "f.s").write_text(machine.assembly(text))
    if host().triple.startswith("x86_64"):
        subprocess.run(["as", "-o", tmp_path / "f.o", tmp_path / "f.s"], check=True)
