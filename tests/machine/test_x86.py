"""ncc's own assembly of straight functions: the bits of the interpreter, however few the registers
are for what is alive."""

from __future__ import annotations

import ctypes
import random
from typing import Any

import numpy as np
import pytest

from ncc.ir.ssa import DTYPES, Buffer, Func, Module
from ncc.ir.ssa_build import Builder
from ncc.machine.llvm import Loaded, Machine, host
from ncc.machine.x86 import fits
from ncc.passes.emit.to_llvm import to_llvm

pytestmark = pytest.mark.skipif(not host().triple.startswith("x86_64"), reason="x86-64's assembly")

BUFFERS = (Buffer("x", "in", 24), Buffer("packed", "in", 100), Buffer("y", "out", 12),
           Buffer("state", "inout", 4), Buffer("work", "work", 8))
PURE = Func("bend", (), [("argument", (), None), ("mul", (0, 0), None), ("sub", (1, 0), None),
                         ("return", (2,), None)], exported=False, pure=True)


def some_function(seed: int) -> Module:
    """A straight function of most ops that the writer knows, and of more values alive at once than
    there are registers: operands are inputs, parameters, constants, values on the stack, in `work`
    and in registers; values are read once or often, soon or late."""
    rng = random.Random(seed)
    dtype, fused = rng.choice(["f32", "f64"]), rng.random() < 0.5
    b = Builder(dtype, fused)
    near = rng.choice([8, 20, 40])  # how far back most reads are
    values = [b.load("x", k) for k in range(rng.randint(1, 24))] + [b.load("state", 1)]
    width = 4 if dtype == "f32" else 2
    kept: dict[int, int] = {}

    def some() -> int:
        drawn = rng.random()
        if drawn < 0.15:
            return b.load("packed", rng.randrange(100))
        if drawn < 0.2:
            return b.const(rng.choice([0.0, -0.0, 0.5, -3.0, 1.0]))
        return rng.choice(values[-near:] if drawn < 0.8 else values)

    for _ in range(rng.randint(80, 300)):
        kind = rng.choice(["binary"] * 8 + ["fma"] * (4 * fused) + ["unary", "select", "apply",
                                                                   "keep", "group", "group"])
        if kind == "binary":
            values.append(b.op(rng.choice(["add", "sub", "mul", "mul", "div", "max", "min"]),
                               some(), some()))
        elif kind == "fma":
            values.append(b.op("fma", some(), some(), some()))
        elif kind == "unary":
            values.append(b.op(rng.choice(["neg", "abs", "sqrt"]), some()))
        elif kind == "select":
            test = b.op(rng.choice(["lt", "gt", "le", "ge", "eq", "une"]), some(), some())
            values.append(b.op("select", test, some(), some()))
        elif kind == "apply":
            count = rng.randint(1, width)
            values.append(b.emit("apply", tuple(some() for _ in range(count)), "bend"))
            values += [b.emit("result", (), k) for k in range(1, count)]
        elif kind == "group":  # many of a kind at once, as activations side by side are
            first, opcode = some(), rng.choice(["mul", "add", "max", "div"])
            values += [b.op(opcode, value, first)
                       for value in rng.choices(values, k=rng.randint(4, 14))]
        else:
            slot = rng.randrange(8)
            kept[slot] = rng.choice(values)
            b.store(kept[slot], "work", slot)
    for k in range(12):
        b.store(rng.choice(values), "y", k)
    for k in range(4):
        b.store(rng.choice(values), "state", k)
    return Module("net", dtype, "fused" if fused else "strict",
                  (PURE, Func("f", BUFFERS, b.ops)), ())


@pytest.mark.parametrize("seed", [
    *range(25), *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(25, 300)]])
def test_the_interpreters_bits(seed: int) -> None:
    module = some_function(seed)
    module.verify()
    assert fits(module.funcs[1])
    real = DTYPES[module.dtype]
    rng = np.random.default_rng(seed)
    held: dict[str, Any] = {
        b.name: np.zeros(b.size, real) if b.kind in ("out", "work")
        else rng.standard_normal(b.size).astype(real) for b in BUFFERS}
    found = {name: array.copy() for name, array in held.items()}
    with np.errstate(all="ignore"):
        module.run("f", held)
    text = to_llvm(module, triple=host().triple, vector_bits=host().vector_bits,
                   attributes=host().attributes, assembles=True)
    assert "naked" in text
    loaded = Loaded(Machine(host(), 0).object(text), ["net_f"])
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(BUFFERS))(loaded.addresses["net_f"])
    call(*[array.ctypes.data for array in found.values()])
    for name in ("y", "state"):
        np.testing.assert_array_equal(found[name], held[name], name)
