"""The peak of one core: independent fused multiply-adds on native vectors, calibrated.

The unit of every benchmark is 10^9 fused multiply-adds a second (GFMA/s), and a ratio to the peak
says how much of the machine a kernel uses, whatever its clock is today.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import numpy as np

from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import Loaded, Machine, host
from ncc.machine.targets import Target

# Two FMA pipes of four to five cycles want 8 to 10 sums in flight; twelve leave AVX2's sixteen
# registers room for the two factors.
SUMS = 12
ROUNDS = 400_000  # of `calibrate`: some milliseconds


class Peak(NamedTuple):
    """GFMA/s of one core with vectors of 256 and 512 bits (None where the host has none so wide;
    `narrow` is the native width on a host without AVX2), and the better of the two."""

    narrow: float
    wide: float | None
    best: float


class Kernel:
    """`kernel(rounds)` runs SUMS * lanes * rounds multiply-adds in registers."""

    def __init__(self, lanes: int, dtype: str = "f32") -> None:
        self.lanes = lanes
        text = _module(host(), lanes, dtype)
        self._loaded = Loaded(Machine(host()).object(text), ["peak"])
        signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
        self._call = signature(self._loaded.addresses["peak"])
        # s = s/2 + 1/2 stays at 1: no overflow and no subnormal slows it down.
        self._memory = np.full((SUMS + 2) * lanes, 0.5, DTYPES[dtype])
        self._memory[: SUMS * lanes] = 1

    def __call__(self, rounds: int = ROUNDS) -> None:
        self._call(self._memory.ctypes.data, rounds)
        if (self._memory[: SUMS * self.lanes] != 1).any():
            raise RuntimeError("the calibration loop did not compute what it should")

    def fmas(self, rounds: int = ROUNDS) -> int:
        return SUMS * self.lanes * rounds


def kernels(dtype: str = "f32") -> tuple[Kernel, Kernel | None]:
    """Of the native vectors, 256 bits at most, and of 512 bits where the host has them."""
    bits, item = host().vector_bits, 8 * np.dtype(DTYPES[dtype]).itemsize
    narrow = Kernel(min(bits, 256) // item, dtype)
    return narrow, Kernel(bits // item, dtype) if bits > 256 else None


def calibrate(repeats: int = 9, dtype: str = "f32") -> Peak:
    """Medians of `repeats` runs of a few milliseconds each, after a run to warm the clock up."""
    narrow, wide = kernels(dtype)
    a, b = _rate(narrow, repeats), None if wide is None else _rate(wide, repeats)
    return Peak(a, b, max(a, b or 0.0))


def _rate(kernel: Kernel, repeats: int) -> float:
    kernel()
    return kernel.fmas() / median([seconds(kernel) for _ in range(repeats)]) / 1e9


def seconds(call: Callable[[], object], calls: int = 1,
            clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds a call, of `calls` in a row."""
    began = clock()
    for _ in range(calls):
        call()
    return (clock() - began) / calls


def _module(target: Target, lanes: int, dtype: str) -> str:
    """void peak(real *memory, i64 rounds): SUMS sums s = s*a + b, read and written back, so that
    nothing is known of them at compile time. Without an FMA, a product and a sum."""
    real, width = {"f32": ("float", 32), "f64": ("double", 64)}[dtype]
    v, fma = f"<{lanes} x {real}>", f"@llvm.fma.v{lanes}f{width}"
    a, b = f"%v{SUMS}", f"%v{SUMS + 1}"
    places = range(SUMS + 2)

    def step(k: int) -> list[str]:
        if dtype in target.fma:
            return [f"  %t{k} = call {v} {fma}({v} %s{k}, {v} {a}, {v} {b})"]
        return [f"  %m{k} = fmul {v} %s{k}, {a}", f"  %t{k} = fadd {v} %m{k}, {b}"]

    lines = [
        f"declare {v} {fma}({v}, {v}, {v})",
        f'define void @peak(ptr %memory, i64 %rounds) "prefer-vector-width"="{lanes * width}" {{',
        "entry:",
        *(f"  %p{k} = getelementptr {real}, ptr %memory, i64 {k * lanes}" for k in places),
        *(f"  %v{k} = load {v}, ptr %p{k}, align {width // 8}" for k in places),
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [0, %entry], [%next, %loop]",
        *(f"  %s{k} = phi {v} [%v{k}, %entry], [%t{k}, %loop]" for k in range(SUMS)),
        *(line for k in range(SUMS) for line in step(k)),
        "  %next = add i64 %i, 1",
        "  %more = icmp ult i64 %next, %rounds",
        "  br i1 %more, label %loop, label %done",
        "done:",
        *(f"  store {v} %t{k}, ptr %p{k}, align {width // 8}" for k in range(SUMS)),
        "  ret void",
        "}",
    ]
    return "\n".join(lines) + "\n"
