"""What the nets of other tools are compared with: outputs of the tools themselves."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / ".." / "shared" / "nets"
# Class C: of the largest output, by the dtype that is computed in.
RELATIVE = {"f32": 1e-5, "f64": 1e-12}


def shared(name: str) -> Path:
    """A file of the shared collection; where that is absent, the test is skipped."""
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
