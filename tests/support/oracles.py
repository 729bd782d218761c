"""Nets of other tools against the outputs of these tools, by class; and files broken at random."""

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

NETS = Path(__file__).parents[3] / "shared/nets"
LIMITS = {"float32": 1e-5, "float64": 1e-12}  # of the largest |output|, in the classes B and C


def shared(name: str) -> Path:
    """A file of the shared collection; where it is absent, the test is skipped."""
    if not NETS.is_dir():
        pytest.skip("../shared is not here")
    return NETS / name


def compare(path: Path | str, y: Any, expected: Any, exactness: str, bound: float | None = None
            ) -> float:
    """Assert that outputs are those of the tool: the same numbers in class A, else within LIMITS
    of the largest one, or within `bound` of it, where a test knows better. The worst difference, so
    scaled, is returned, and goes to the file that the environment names (NCC_ORACLES), a JSON
    object a line."""
    assert y.shape == expected.shape and y.dtype == expected.dtype
    assert (np.isnan(y) == np.isnan(expected)).all()
    with np.errstate(invalid="ignore"):
        apart = np.where((y == expected) | np.isnan(y), 0, abs(y - expected))
    scale = max(float(np.nanmax(abs(expected))), np.finfo(y.dtype).tiny)
    worst = float(apart.max()) / scale
    if report := os.environ.get("NCC_ORACLES"):
        with open(report, "a", encoding="utf-8") as file:
            file.write(json.dumps({"file": str(path), "class": exactness, "worst": worst}) + "\n")
    if bound is None:
        bound = 0 if exactness == "A" else LIMITS[str(y.dtype)]
    assert worst <= bound, path
    return worst


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
