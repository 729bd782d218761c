"""`pack`, with tiles of dense layers and without: `packed` is what the plan says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import ncc
from ncc.driver.compiler import Build
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import options
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import host
from ncc.machine.native import Library
from ncc.passes.lower import forward

WIDTHS = (21, 53, 40, 20, 6)


def layers(how: str) -> str:
    """Layers that are dense: rows by sixteen and left over, sources that are no whole tiles; with
    weights that are tied, or constants, among them."""
    lines, first = [f"N {sum(WIDTHS):x}", *[f"{i:x}" for i in range(WIDTHS[0])]], 0
    for layer, (before, width) in enumerate(pairwise(WIDTHS)):
        for row in range(width):
            edges = [f"{first + k:x}" for k in range(before)]
            if how == "tied" and layer == 1:
                edges = [f"{first + k:x}@k{k}" for k in range(before)]
            if how == "fixed" and layer == 1 and row % 16 == 3:
                edges[2] = f"{first + 2:x}:=0.5"
            bias = " +" if layer != 2 or row % 2 else ""  # with which rows lie unevenly far apart
            lines.append(f"{first + before + row:x} tanh {','.join(edges)}{bias}")
        first += before
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("how", ["", "tied", "fixed"])
def test_pack(how: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = ncc.parse(layers(how)).graph
    real = DTYPES[dtype]
    params = np.random.default_rng(0).standard_normal(graph.n_params).astype(real)
    made, names = [], []
    for least in (0, 1 << 30):
        monkeypatch.setattr(forward, "TILED", least)
        chosen = options(host(), dtype=dtype, form="shared", batch_form="shared")
        build = Build(graph, host(), chosen, 0, along=AFTER_ORDER)
        plan, module = build.plan, build.module
        module.verify()
        packed = Library(build.made, dtype).pack(params)
        codes = plan.packed
        expected = np.empty(len(codes), real)
        expected[codes >= 0] = params[codes[codes >= 0]]
        expected[codes < 0] = plan.constants[-1 - codes[codes < 0]]
        assert packed.tobytes() == expected.tobytes()
        held = {"params": params, "packed": np.full(len(codes), np.nan, real)}
        module.run("pack", held)
        assert held["packed"].tobytes() == expected.tobytes()
        made.append(packed.tobytes())
        names.append({table.name for table in module.tables})
    assert made[0] == made[1]
    tiled = any(name.startswith("square_slots") for name in names[0])
    assert tiled == (host().vector_bits > 128)
    assert not any(name.startswith("square_slots") for name in names[1])
