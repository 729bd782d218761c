"""Lanes loops whose rounds are whole: vectors of consecutive elements, one answer everywhere."""

from __future__ import annotations

import ctypes
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import random_layers

import ncc
from ncc.errors import Source
from ncc.ir.equivalence import prove
from ncc.ir.ssa import DTYPES, Buffer, Func, Module, Table
from ncc.ir.ssa_build import Builder
from ncc.ir.ssa_text import read
from ncc.machine.llvm import Loaded, Machine, host
from ncc.passes.emit.to_c import to_c
from ncc.passes.emit.to_llvm import to_llvm
from ncc.passes.ssa.cse import cse
from ncc.passes.ssa.dce import dce
from ncc.passes.ssa.fold import fold

BUFFERS = (Buffer("a", "in", 128), Buffer("b", "inout", 64), Buffer("y", "out", 64))


def some_module(seed: int) -> Module:
    """A function of lanes loops, one behind the other, over `a`, `b` (in place) and `y`: constant
    bounds, rounds that are whole or not, inner loops that carry a sum, several strides."""
    rng = random.Random(seed)
    dtype = rng.choice(["f32", "f64"])
    b = Builder(dtype, True)
    tables = (Table("reals", "f", (np.arange(64) / 8 - 3).astype(DTYPES[dtype])),
              Table("apart", "i", np.array([-8, 8, -3, 16], np.int32)))
    outside = [b.load("a", 3), b.const(0.75)]
    for _ in range(rng.randint(1, 4)):
        lanes = rng.choice([1, 2, 4, 8, 12, 16, 32])
        low = rng.randint(0, 8)
        rounds = lanes * rng.randint(0, 32 // lanes)
        high = low + (rounds if rng.randint(0, 3) else rng.randint(0, 32))
        k = b.loop(b.index(low), b.index(high), lanes=lanes)[0]
        moved = b.op("iadd", b.load("apart", rng.randint(0, 3)), b.op("iadd", k, b.index(8)))
        values = [*outside, b.load("a", rng.randint(0, 31), k), b.load("b", 0, k),
                  b.load("a", rng.randint(0, 15), b.op("imul", k, b.index(2))),
                  b.load("a", 1, moved), b.load("reals", 0, k),
                  b.load("a", 0, b.op("imul", moved, b.index(rng.randint(0, 1))))]
        for _ in range(rng.randint(1, 4)):
            values.append(b.op("fma", *rng.choices(values, k=3)) if rng.randint(0, 1)
                          else b.op("max", *rng.choices(values, k=2)))
        if rng.randint(0, 1):
            j, total, uniform = b.loop(b.index(0), b.index(rng.randint(0, 4)),
                                       [values[-1], outside[1]])
            at = b.op("iadd", b.op("imul", j, b.index(8)), k)
            total = b.op("fma", b.load("a", 0, at), b.load("a", 0, j), total)
            values += b.close(total, b.op("add", uniform, b.load("reals", 0, j)))
        b.store(values[-1], "b", 0, k)
        b.store(b.op("add", *rng.choices(values, k=2)), "y", 8,
                b.op("imul", k, b.index(rng.choice([0, 1, 1]))))
        b.close()
    return Module("net", dtype, "fused", (Func("f", BUFFERS, b.ops),), tables)


def inputs(module: Module, *batch: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {b.name: rng.standard_normal((b.size, *batch)).astype(DTYPES[module.dtype])
            for b in BUFFERS}


def machine(module: Module, vector_bits: int) -> dict[str, Any]:
    text = to_llvm(module, triple=host().triple, vector_bits=vector_bits,
                   attributes=host().attributes)
    held = inputs(module)
    loaded = Loaded(Machine(host(), 2).object(text), ["net_f"])
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(loaded.addresses["net_f"])
    call(*[array.ctypes.data for array in held.values()])
    return held


@pytest.mark.parametrize("seed", [
    *range(12), *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(12, 40)]])
def test_every_reading_agrees(seed: int, tmp_path: Path) -> None:
    module = some_module(seed)
    module.verify()
    assert read(Source("net.ssa", str(module))) == module
    expected = inputs(module)
    module.run("f", expected)
    small = dce(cse(fold(module)))
    prove(module, small)
    for one in (module, small):
        held = inputs(one)
        one.run("f", held)
        for bits in (0, 128, 256, 512):
            for name, array in machine(one, bits).items():
                assert np.array_equal(array, expected[name]), (bits, name)
        assert all(np.array_equal(held[name], expected[name]) for name in expected)
    batch = inputs(module, 3)
    module.run("f", batch)
    for column in range(3):
        held = {name: np.ascontiguousarray(a[:, column]) for name, a in inputs(module, 3).items()}
        module.run("f", held)
        assert all(np.array_equal(held[name], batch[name][:, column]) for name in held)
    if seed < 4:
        (tmp_path / "net.c").write_text(to_c(module))
        subprocess.run(["gcc", "-std=c99", "-O2", "-fPIC", "-shared", "-o", tmp_path / "net.so",
                        tmp_path / "net.c", "-lm"], check=True)
        held = inputs(module)
        ctypes.CDLL(str(tmp_path / "net.so")).net_f(
            *[ctypes.c_void_p(a.ctypes.data) for a in held.values()])
        assert all(np.array_equal(held[name], expected[name]) for name in expected)


def update(size: int, lanes: int, step: str = "") -> str:
    """b[k] += a[k] * 0.5, for k in 0..size."""
    text = f"""module net f32 fused

func f(a in 64, b inout 64) {{
  %0 = const 0.5
  %1 = index 0
  %2 = index {size}
  %3 = for %1..%2 lanes {lanes} {{
    %4 = load a[%3]
    %5 = load b[%3]
    %6 = fma %4, %0, %5
    store %6, b[%3]
  }} yield
}}
"""
    return to_llvm(read(Source("net.ssa", text)), vector_bits=256)


def test_whole_rounds_load_and_store_whole_vectors() -> None:
    text = update(64, 32)
    assert len(re.findall(r"load <8 x float>, ptr %\w+, align 4", text)) == 8
    assert len(re.findall(r"store <8 x float> %\w+, ptr %\w+, align 4", text)) == 4
    assert "insertelement" not in text and "extractelement" not in text
    assert "select" not in text  # no lane is beyond the end


def test_a_ragged_loop_and_lanes_that_fill_no_vector_stay_right() -> None:
    assert "load <8 x float>" not in update(63, 32)
    assert "load <4 x float>" in update(60, 12)
    assert "load float" in update(60, 1)


def test_strides_known_at_run_time_come_in_one_order_under_any_hash_seed() -> None:
    """Operands of strides are texts: a set of them has no order of its own."""
    at = range(1, 9)
    text = """module net f32 fused

table sizes i: 1 2 3 4 5 6 7 8

func f(count, x in 64, y out 64) {
  %0 = index 0
  %1 = count
""" + "".join([f"  %{1 + k} = load sizes[{k - 1}]\n" for k in at]) + """  %10 = for %0..%1 lanes 1 {
""" + "".join([f"    %{8 + 3 * k} = imul %10, %{1 + k}\n    %{9 + 3 * k} = load x[%{8 + 3 * k}]\n"
               f"    store %{9 + 3 * k}, y[%{8 + 3 * k}]\n" for k in at]) + """  } yield
}
"""
    made = re.findall(r"mul nsw i64 %k10, (%\w+)", to_llvm(read(Source("net.ssa", text))))
    assert len(made) == 8 and made == sorted(made)


# ---- tile transposes: samples and columns


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("bits", [128, 256, 512])
@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.each_choice
def test_wide_rows_are_transposed(dtype: str, bits: int, form: str) -> None:
    net = ncc.parse(random_layers([37, 16, 50], 3, seed=bits, weights=True))
    fn = ncc.compile(net, dtype=dtype, form=form, batch_form=form, vector_bits=bits,
                     native=bits // (32 if dtype == "f32" else 64),
                     lanes=2 * bits // (32 if dtype == "f32" else 64))
    x = np.random.default_rng(bits).standard_normal((70, 37)).astype(DTYPES[dtype])
    one = np.stack([fn(row) for row in x])
    for n in (1, 3, 16, 33, 70):
        assert np.array_equal(fn(x[:n]), one[:n])


def test_a_square_is_loaded_by_rows() -> None:
    text = """module net f32 fused

func f(count, x in 8, y out 8) {
  %0 = index 0
  %1 = count
  %2 = index 8
  %3 = for %0..%1 lanes 8 {
    %4 = imul %3, %2
""" + "".join([f"    %{5 + k} = load x[%4{f' + {k}' if k else ''}]\n" for k in range(8)]) + "".join(
        [f"    store %{12 - k}, y[%4{f' + {k}' if k else ''}]\n" for k in range(8)]) + """  } yield
}
"""
    module = read(Source("net.ssa", text))
    made = to_llvm(module, vector_bits=256)
    assert made.count("load <8 x float>") == made.count("store <8 x float>") == 8
    assert made.count("shufflevector") == 2 * 8 * 3 + 1  # how far the last sample is, in all lanes
    assert "insertelement <8 x float>" not in made and "extractelement <8 x float>" not in made
    # Columns with a gap are no square.
    other = to_llvm(read(Source("net.ssa", text.replace("x[%4 + 3]", "x[%4 + 2]"))),
                    vector_bits=256)
    assert "load <8 x float>" not in other and other.count("store <8 x float>") == 8


# ---- sums over the lanes

SUMS = """module net {} fused

func f(a in 64, acc inout 18, work work 4) {{
  %0 = const 0.5
  %1 = index 0
  %2 = index {}
  %3 = load a[1]
  accumulate %3, %0, acc[0]
  accumulate %3, %3, acc[1]
  store %0, work[0]
  %7 = for %1..%2 lanes {} {{
    %8 = load a[%7]
    %9 = mask %8
    accumulate %9, %0, acc[2]
    accumulate %9, %8, acc[3]
    accumulate %9, %9, acc[4]
    accumulate %9, %3, acc[5]
    %14 = mask %3
    accumulate %14, %0, acc[6]
    accumulate %0, %14, acc[7]
    accumulate %9, %0, work[0]
    %18 = index 3
    %19 = for %1..%18 {{
      accumulate %9, %8, acc[%19 + 8]
      accumulate %9, %9, acc[%19 + 15]
    }} yield
    accrue %9, %8, acc[12]
    accrue %0, %14, acc[13]
  }} yield
  %26 = load work[0]
  accumulate %26, %0, acc[11]
  accumulate %26, %0, acc[11]
  accrue %26, %26, acc[14]
}}
"""


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("lanes", [1, 32, 64])
def test_accumulate_sums_over_the_lanes(dtype: str, lanes: int) -> None:
    """Neighbours together and others alone, of uniform values too, in the loop and outside it: in
    vectors of every width the bits of the interpreter."""
    real = DTYPES[dtype]
    a = np.random.default_rng(0).standard_normal(64).astype(real)
    for n in (0, 1, 13, 64):
        module = read(Source("t.ssa", SUMS.format(dtype, n, lanes)))
        module.verify()
        wanted = np.ones(18, real)
        module.run("f", {"a": a, "acc": wanted})
        assert wanted[2] == pytest.approx(1 + a[:n].sum(dtype="d") / 2, rel=1e-4)
        assert wanted[6] == pytest.approx(1 + n * a[1] / 2, rel=1e-4)
        for bits in (0, 64, 128, 256, 512):
            text = to_llvm(module, triple=host().triple, vector_bits=bits,
                           attributes=host().attributes)
            loaded = Loaded(Machine(host(), 0).object(text), ["net_f"])
            found, work = np.ones(18, real), np.full(4, np.nan, real)
            call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(loaded.addresses["net_f"])
            call(a.ctypes.data, found.ctypes.data, work.ctypes.data)
            assert np.array_equal(found, wanted), (lanes, n, bits)


@pytest.mark.parametrize("count, turns", [(2, 1), (4, 2)])
def test_sums_that_no_registers_hold_take_turns(count: int, turns: int) -> None:
    """The loop of four sums of four vectors stands there twice, and each sum is what it was."""
    b = Builder("f32", True)
    sample = b.loop(b.index(0), b.index(60), lanes=32)[0]
    for k in range(8):
        b.store(b.load("a", k, sample), "held", k)
    k, *sums = b.loop(b.index(0), b.index(8), [b.const(float(i)) for i in range(count)])
    values = b.load("held", 0, k)
    sums = b.close(*[b.op("fma", values, b.load("b", i, k), acc) for i, acc in enumerate(sums)])
    for acc in sums[1:]:
        sums[0] = b.op("max", sums[0], acc)
    b.store(sums[0], "y", 0, sample)
    b.close()
    func = Func("f", (*BUFFERS, Buffer("held", "private", 8)), b.ops)
    module = Module("net", "f32", "fused", (func,))
    module.verify()
    expected = inputs(module)
    module.run("f", expected)
    text = to_llvm(module, triple=host().triple, vector_bits=256, attributes=host().attributes)
    assert len(re.findall(r"^head", text, re.MULTILINE)) == 1 + turns
    loaded = Loaded(Machine(host(), 2).object(text), ["net_f"])
    held = {**inputs(module), "held": np.zeros(8 * 32 + 16, np.float32)}
    held["held"] = held["held"][-held["held"].ctypes.data // 4 % 16 :]
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(loaded.addresses["net_f"])
    call(*[array.ctypes.data for array in held.values()])
    assert np.array_equal(held["y"], expected["y"])


def test_tables_of_small_indices_take_half_the_room() -> None:
    for largest, cell in ((65535, "i16"), (65536, "i32")):
        table = Table("t", "i", np.array([3, largest], np.int32))
        b = Builder("f32", True)
        k = b.loop(b.index(0), b.index(1))[0]
        b.store(b.load("a", 0, b.load("t", 0, k)), "y", 0, k)
        b.close()
        text = to_llvm(Module("net", "f32", "fused", (Func("f", BUFFERS, b.ops),), (table,)))
        assert f"load {cell}, ptr" in text and f"zext {cell}" in text
        assert f"[{4 if cell == 'i16' else 8} x i8]" in text
