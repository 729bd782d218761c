"""Nets of other tools beside the outputs of these tools; files broken at random."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncc

SHARED = Path(__file__).parents[2] / ".." / "shared" / "nets"
# Class C: of the largest output, by the dtype that is computed in.
RELATIVE = {"f32": 1e-5, "f64": 1e-12}


def shared(name):
    """A file of the shared collection; where it is absent, the test is skipped."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here")
    return SHARED / name


def compare(path, y, expected, exactness, dtype="f64", bound=None):
    """`y` are `expected` in the class `exactness`: A bit for bit; B and C within the relative error
    of the largest value of `expected`, or within `bound`, where a test knows better. Where
    NCC_ORACLES names a file, a line of it says how far they were apart."""
    y, expected = np.asarray(y, np.float64), np.asarray(expected, np.float64)
    assert y.shape == expected.shape, path
    known = ~np.isnan(expected)
    worst = float(np.abs(y - expected)[known].max(initial=0.0))
    largest = float(np.abs(expected[known]).max(initial=1e-300))
    if exactness == "A":
        assert (y == expected)[known].all(), f"{path}: {worst}"
    else:
        limit = RELATIVE[dtype] * largest if bound is None else bound
        assert (np.abs(y - expected) <= limit)[known].all(), f"{path}: {worst} of {largest}"
    if os.environ.get("NCC_ORACLES"):
        with open(os.environ["NCC_ORACLES"], "a") as file:
            file.write(json.dumps({"file": str(path), "class": exactness, "dtype": dtype,
                                   "worst": worst, "largest": largest,
                                   "equal": float((y == expected)[known].mean())}) + "\n")


def mutants(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Copies of a file, each cut short, with bytes, words or lines changed, lost or twice."""
    rng = random.Random(seed)
    strange = [b"nan", b"-1", b"1e999", b"99999999999", b"-", b"0", b"\xff", b"{", b"[" * 2000,
               b"(", b"\n", b" ", b",", b"2147483648", b"1000000000", b"\x00", b"'", b"#", b"=",
               b"\t", b"-0.0", b"1e-400", b":", b"9" * 5000]
    for _ in range(count):
        made = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 4))):
            a = rng.randrange(len(made) + 1)
            b = min(len(made), a + rng.choice((0, 1, 1, 3, 10, 60)))
            match rng.randrange(5):
                case 0:
                    del made[a:b]
                case 1:
                    made[a:b] = rng.choice(strange)
                case 2:
                    made[a:a] = made[a:b] * rng.choice((1, 2, 50))
                case 3 if made:
                    made[a % len(made)] = rng.randrange(256)
                case 4 if rng.random() < 0.3:
                    del made[a:]
        yield bytes(made)


def survives(path: Path, data: bytes, **options: Any) -> str | None:
    """The code by which a file is refused, None where it is read, into a net that is one. No other
    end is one, nor is one beyond two seconds."""
    path.write_bytes(data)
    begin = time.process_time()
    try:
        ncc.load(path, **options).graph.verify()
    except ncc.NccError as error:
        assert error.code[:2] in ("E8", "E6"), (error, data[:3000])
        return error.code
    finally:
        assert time.process_time() - begin < 2, data[:3000]
    return None
