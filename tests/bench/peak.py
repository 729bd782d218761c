"""The FMA peak of one core: independent float32 FMAs on native vectors, in a loop made by llvmlite.

    python tests/bench/peak.py

`calibrate()` gives 10^9 fused multiply-adds a second (GFMA/s), the unit of every benchmark beside
this file: a ratio to it says how much of the machine a kernel uses, whatever its clock is today.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from typing import NamedTuple

import llvmlite.binding as llvm

# Two FMA pipes of four to five cycles want 8 to 10 sums in flight; twelve leave AVX2's sixteen
# registers room for the two factors.
SUMS = 12
ROUNDS = 400_000


class Peak(NamedTuple):
    """GFMA/s of one core with vectors of 256 and 512 bits (None where the host has none so wide;
    `narrow` is 128 bits on a host without AVX2), and the better of the two."""

    narrow: float
    wide: float | None
    best: float


def calibrate(repeats: int = 9) -> Peak:
    """Medians of `repeats` runs of a few milliseconds each, after a run to warm the clock up."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    narrow = _measure(8 if features.get("avx2") else 4, repeats)
    wide = _measure(16, repeats) if features.get("avx512f") else None
    return Peak(narrow, wide, max(narrow, wide or 0.0))


def _module(lanes: int) -> str:
    """void peak(float *memory, i64 rounds): SUMS sums s = s*a + b, read and written back, so that
    nothing is known of them at compile time."""
    v = f"<{lanes} x float>"
    places = range(SUMS + 2)
    lines = [
        f"declare {v} @llvm.fma.v{lanes}f32({v}, {v}, {v})",
        f'define void @peak(ptr %memory, i64 %rounds) "prefer-vector-width"="{lanes * 32}" {{',
        "entry:",
        *(f"  %p{k} = getelementptr float, ptr %memory, i64 {k * lanes}" for k in places),
        *(f"  %v{k} = load {v}, ptr %p{k}, align 4" for k in places),
        "  br label %loop",
        "loop:",
        "  %i = phi i64 [0, %entry], [%next, %loop]",
        *(f"  %s{k} = phi {v} [%v{k}, %entry], [%t{k}, %loop]" for k in range(SUMS)),
        *(f"  %t{k} = call {v} @llvm.fma.v{lanes}f32({v} %s{k}, {v} %v{SUMS}, {v} %v{SUMS + 1})"
          for k in range(SUMS)),
        "  %next = add i64 %i, 1",
        "  %more = icmp ult i64 %next, %rounds",
        "  br i1 %more, label %loop, label %done",
        "done:",
        *(f"  store {v} %t{k}, ptr %p{k}, align 4" for k in range(SUMS)),
        "  ret void",
        "}",
    ]
    return "\n".join(lines)


def _measure(lanes: int, repeats: int) -> float:
    """GFMA/s, the median of `repeats`."""
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )
    module = llvm.parse_assembly(_module(lanes))
    module.verify()
    with llvm.create_mcjit_compiler(module, machine) as engine:
        engine.finalize_object()
        address = engine.get_function_address("peak")
        peak = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(address)
        # s = s/2 + 1/2 stays at 1: no overflow and no subnormal slows it down.
        count = (SUMS + 2) * lanes
        memory = (ctypes.c_float * count)(*([1.0] * SUMS * lanes + [0.5] * 2 * lanes))
        rates = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            peak(memory, ROUNDS)
            rates.append(SUMS * lanes * ROUNDS / (time.perf_counter() - start) / 1e9)
        if list(memory[: SUMS * lanes]) != [1.0] * SUMS * lanes:
            raise RuntimeError("the calibration loop did not compute what it should")
    return statistics.median(rates[1:])


def main() -> None:
    peak = calibrate()
    wide = "none" if peak.wide is None else f"{peak.wide:.1f}"
    print(f"GFMA/s a core: narrow {peak.narrow:.1f}, 512 bits {wide}, best {peak.best:.1f}")


if __name__ == "__main__":
    main()
