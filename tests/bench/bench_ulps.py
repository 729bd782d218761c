"""The largest errors of the compiler's own arithmetic: python tests/bench/bench_ulps.py

In units in the last place, by compiled nets of one neuron; NumPy in float64 judges float32, in the
C compiler's long double float64. float32 inputs are every `--stride`th of all 2^32 words, or with
`--all` all of them, which takes a few minutes a function; float64 inputs are samples of every
exponent, of where the functions live, and of what lies beside multiples of pi/2. Status 1 where a
bound is broken: 2 in f32, 4 in f64. `--at` prints where each maximum is, too.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE.parents[1])]
from ulps import BITS, BOUNDS, REALS, WIDE, WIDER, Array, nasty, samples, ulps, widen  # noqa: E402

import ncc  # noqa: E402
from ncc.machine.llvm import host  # noqa: E402

CHUNK = 1 << 18
STRIDE = 97  # odd, so that all low bits come up
NAMES = [name for name in WIDE if name != "sqrt"]  # which is rounded correctly
MODES = ("strict", "fused")


def compiled(name: str, dtype: str, numerics: str) -> Callable[[Array], Array]:
    """The function of an array (n,)."""
    net = ncc.parse(f"N 02\nfn 20 {name}(x)\n00\n01 20 00:=1\n")
    call = ncc.compile(net, dtype=dtype, numerics=numerics)
    return lambda x: call(x[:, None])[:, 0]


def judge(name: str, dtype: str) -> Callable[[Array], Array]:
    """The function of x in the wider type."""
    if name == "erf" and dtype == "f32":  # faster than the series
        each = np.frompyfunc(math.erf, 1, 1)
        return lambda x: each(widen(x)).astype(np.float64)
    return lambda x: WIDE[name](widen(x))


def words(stride: int) -> Iterator[Array]:
    """Every `stride`th float32 by its word, in chunks, and those that are special anyway."""
    yield nasty("f32")
    for first in range(0, 1 << 32, CHUNK * stride):
        last = min(first + CHUNK * stride, 1 << 32)
        yield np.arange(first, last, stride, np.uint64).astype(np.uint32).view(np.float32)


def worst(name: str, dtype: str, inputs: Iterable[Array], modes: Iterable[str]
          ) -> dict[str, tuple[float, float]]:
    """The largest error in each mode, and where."""
    calls = {mode: compiled(name, dtype, mode) for mode in modes}
    found = dict.fromkeys(calls, (0.0, 0.0))
    right, word = judge(name, dtype), BITS[dtype]
    for x in inputs:
        with np.errstate(all="ignore"):
            want = right(x)
            rounded = want.astype(x.dtype)
        for mode, call in calls.items():
            got = call(x)
            # What is rounded correctly is at most half a unit away.
            off = np.flatnonzero(got.view(word) != rounded.view(word))
            if not len(off):
                continue
            error = ulps(got[off], want[off])
            k = int(np.argmax(error))
            found[mode] = max(found[mode], (float(error[k]), float(x[off[k]])))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every float32")
    parser.add_argument("--stride", type=int, default=STRIDE)
    parser.add_argument("--samples", type=int, default=100_000, help="of a kind, in float64")
    parser.add_argument("--only", default=",".join(NAMES), metavar="LIST")
    parser.add_argument("--at", action="store_true", help="print the arguments, too")
    asked = parser.parse_args()
    stride = 1 if asked.all else asked.stride
    modes = {dtype: [m for m in MODES if m == "strict" or dtype in host().fma] for dtype in REALS}
    print("| function | " + " | ".join([f"{d} {m}" for d in REALS for m in MODES]) + " |")
    print("| --- |" + " --- |" * (len(REALS) * len(MODES)))
    broken = False
    for name in asked.only.split(","):
        cells = []
        for dtype in REALS:
            found = {}
            if dtype == "f32":
                found = worst(name, dtype, words(stride), modes[dtype])
            elif WIDER:
                chunks = np.array_split(samples(dtype, asked.samples), 10)
                found = worst(name, dtype, chunks, modes[dtype])
            for mode in MODES:
                error, at = found.get(mode, (math.nan, math.nan))
                broken |= error > BOUNDS[dtype]
                text = "-" if math.isnan(error) else f"{error:.2f}"
                cells.append(text + f" at {at.hex()}" * asked.at)
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    sys.exit(broken)


if __name__ == "__main__":
    main()
