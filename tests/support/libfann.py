"""libfann in float and in double, where it is installed, as functions from a file and samples to
outputs."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import numpy as np


def _library(lib: ctypes.CDLL, kind: Any, real: Any) -> Callable[[Path, Any], Any]:
    lib.fann_create_from_file.restype = ctypes.c_void_p
    lib.fann_create_from_file.argtypes = [ctypes.c_char_p]
    lib.fann_run.restype = ctypes.POINTER(kind)
    lib.fann_run.argtypes = [ctypes.c_void_p, ctypes.POINTER(kind)]
    lib.fann_get_num_output.argtypes = [ctypes.c_void_p]

    def run(path: Path, x: Any) -> Any:
        ann = lib.fann_create_from_file(str(path).encode())
        assert ann
        outputs = lib.fann_get_num_output(ann)
        rows = [lib.fann_run(ann, (kind * len(row))(*row))[:outputs] for row in x.tolist()]
        return np.array(rows, real)
    return run


LIBRARIES = {
    dtype: _library(ctypes.CDLL(found), kind, real)
    for dtype, name, kind, real in (("f32", "floatfann", ctypes.c_float, np.float32),
                                    ("f64", "doublefann", ctypes.c_double, np.float64))
    if (found := find_library(name))}
RECTIFIED = 18  # from this number on, functions are of sources after 2.2.0, which Debian has
