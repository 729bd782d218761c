"""Windows: straight code is addressed from pointers nearby, and computes the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import random_layers

import ncc
from ncc.driver.compiler import Build
from ncc.driver.settings import options
from ncc.machine.llvm import target
from ncc.passes.emit.anchors import KEPT, WORTH, windows
from ncc.runtime.compiled import Compiled


@given(st.lists(st.tuples(st.sampled_from("wpx"), st.integers(0, 999)), max_size=300))
def test_every_access_is_within_its_window(pairs):
    accesses = [(3 * k, buffer, element) for k, (buffer, element) in enumerate(pairs)]
    found = windows(accesses, 64)
    uses = {}
    for op, buffer, element in accesses:
        if op in found:
            window = found[op]
            assert window.buffer == buffer and -32 <= element - window.center < 32
            uses.setdefault(window.number, []).append(op)
    # Numbers ascend in the order of the first use, as the writer makes them.
    assert list(uses) == list(range(len(uses)))
    for op, _, _ in accesses:
        assert sum(at[0] <= op <= at[-1] for at in uses.values()) <= KEPT


def test_a_pointer_has_to_pay():
    assert not windows([(k, "w", 0) for k in range(WORTH - 1)], 64)
    assert len(windows([(k, "w", k) for k in range(WORTH)], 64)) == WORTH


@pytest.mark.parametrize("numerics", [pytest.param("strict", marks=pytest.mark.slow), "fused"])
def test_the_code_is_shorter_and_the_results_are_the_same(numerics):
    net = ncc.parse(random_layers([60] * 4, 20, 3))
    x = np.random.default_rng(0).standard_normal((5, 60)).astype(np.float32)
    sizes, results = [], []
    for reach in (0, 128):
        chosen = options(target("x86-64-v3"), numerics=numerics, form="straight",
                         batch_form="table", reach=reach, assembles=False, limit=False)
        build = Build(net.graph, target("x86-64-v3"), chosen)
        sizes.append(len(build.object()))
        fn = Compiled(net.graph, net.params, numerics=numerics,
                      passes={"form": "straight", "batch_form": "table", "reach": reach,
                              "assembles": False, "limit": False})
        results.append([fn(row) for row in x])
    assert sizes[1] < 0.9 * sizes[0]
    np.testing.assert_array_equal(*results)
    table = Compiled(net.graph, net.params, numerics=numerics, passes={"form": "table"})
    np.testing.assert_array_equal(results[0], table(x))
