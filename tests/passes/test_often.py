"""Windows that many rows read: code of their own, and the bits that it computes."""

from __future__ import annotations

import numpy as np
import pytest
from objects import same

import ncc
from ncc.driver.compiler import Build
from ncc.driver.settings import options
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import target
from ncc.passes.lower.arrays.lists import lists_of
from ncc.passes.lower.arrays.often import LEAST, LONGEST, LOOPED, MOST, WHOLE, cut
from ncc.passes.lower.arrays.windows import round_of

each_choice = pytest.mark.each_choice
TAPS = {
    "1-D": [(0, k) for k in range(3)],
    "2-D": [(y, x) for y in range(3) for x in range(3)],
    "dilated": [(y, x) for y in (0, 2) for x in (0, 3)],
    "from the last": [(0, k) for k in (4, 2, 3, 0)],
}
# How rows aggregate, and what stands behind a source: {} is the tap.
KINDS = {
    "filter": ("relu", "@w{0}"),
    "local": ("tanh", ":0.{0}5"),
    "max": ("identity maximum", ":=1"),
    "min": ("identity minimum", ":=-0.5"),
    "old max": ("identity max", ":=1"),
    "mean": ("identity mean", ":=1"),
    "one constant": ("relu", ":=0.{0}"),
    "minimum": ("identity minimum", ":=0.{0}1"),
    "sumbias": ("relu sumbias", "@w{0}"),
}


def windows(height, width, taps, kind, stride=1, padded=False, layers=2, odd=0):
    """Layers of windows over a plane. Behind each are `odd` rows that read as many sources, but not
    one list, and some rows are read again at the end."""
    activation, weight = KINDS[kind]
    plane = np.arange(height * width).reshape(height, width)
    lines = [f"{j:x}" for j in range(plane.size)]
    rng = np.random.default_rng(0)

    def row(sources):
        edges = ",".join([f"{j:x}{weight.format(k)}" for k, j in sources])
        lines.append(f"{len(lines):x} {activation} {edges}" + (" +@w0" if "@" in weight else ""))
        return len(lines) - 1

    for _ in range(layers):
        made, last = [], plane
        for y in range(0, last.shape[0], stride):
            made.append([])
            for x in range(0, last.shape[1], stride):
                inside = [(k, last[y + dy, x + dx]) for k, (dy, dx) in enumerate(taps)
                          if y + dy < last.shape[0] and x + dx < last.shape[1]]
                if padded or len(inside) == len(taps):
                    made[-1].append(row(inside))
        plane = np.array([found for found in made if found])
        for _ in range(odd):
            row(enumerate(rng.choice(last.ravel(), len(taps), replace=False).tolist()))
    for j in range(height * width, len(lines), 17) if odd else ():
        row([(0, j)])
    made = ncc.parse("\n".join([f"N {len(lines):x}", *lines]) + "\n")
    return ncc.Net(made.graph.with_(values=rng.normal(size=made.n_params)))


def mixed():
    """Windows of more pairs of activation and aggregation than of either: the sums of all rows of
    an aggregation come first, and then the activations."""
    lines = [f"{j:x}" for j in range(26)]
    for activation in ("relu", "tanh", "sigmoid", "softplus"):
        for aggregation in ("sum", "max", "mean", "maximum", "mul"):
            for y in range(24):
                edges = ",".join([f"{y + k:x}:=0.{k + 5}" for k in range(3)])
                lines.append(f"{len(lines):x} {activation} {aggregation} {edges}")
    return ncc.parse("\n".join([f"N {len(lines):x}", *lines]) + "\n")


def repeated():
    """Layers of filters and pools in turn, of which a period stands in the arrays of loops."""
    lines, last = [f"{j:x}" for j in range(90)], range(90)
    for k in range(24):
        activation, weight, bias = (("relu", "@w{0}", " +@w9"), ("identity max", ":=1", ""))[k % 2]
        for y in range(90):
            edges = ",".join([f"{last[j]:x}{weight.format(j - y)}" for j in range(y, y + 3)
                              if j < 90])
            lines.append(f"{len(lines):x} {activation} {edges}{bias}")
        last = range(len(lines) - 90, len(lines))
    made = ncc.parse("\n".join([f"N {len(lines):x}", *lines]) + "\n")
    return ncc.Net(made.graph.with_(values=np.linspace(-1, 1, made.n_params)))


CASES = [
    (repeated, ()),
    (mixed, ()),
    (windows, (1, 80, TAPS["1-D"], "filter")),
    (windows, (11, 12, TAPS["2-D"], "filter")),
    (windows, (11, 12, TAPS["2-D"], "filter", 1, True)),
    (windows, (12, 13, TAPS["dilated"], "local", 1, True)),
    (windows, (1, 170, TAPS["from the last"], "filter", 2)),
    (windows, (11, 12, TAPS["2-D"], "max", 1, True)),
    (windows, (18, 19, TAPS["dilated"], "min", 2, True)),
    (windows, (1, 80, TAPS["1-D"], "old max")),
    (windows, (11, 12, TAPS["2-D"], "mean", 1, True)),
    (windows, (10, 11, TAPS["2-D"], "one constant", 1, False, 2, 30)),
    (windows, (1, 90, TAPS["from the last"], "filter")),
    (windows, (19, 23, TAPS["2-D"], "minimum", 2, True, 1)),
    (windows, (12, 15, TAPS["dilated"], "sumbias", 1, False, 2)),
]


def unrolled(net, machine="x86-64-v4", **asked):
    """How many rows of a net have code of their own, of which lists (begin, edges)."""
    found = target(machine)
    plan = Build(net.graph, found, options(found, form="table", batch_form="table", **asked)).plan
    segments = cut(plan, lists_of(plan, plan.batch.slots))
    assert (np.diff(segments[:, :2]) > 0).all() and (segments[1:, 0] == segments[:-1, 1]).all()
    mine = segments[segments[:, 5] != LOOPED]
    assert not ((mine[:, 1] - mine[:, 0]) % WHOLE).any()
    return int((mine[:, 1] - mine[:, 0]).sum()), {(row[5], row[3]) for row in mine.tolist()}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "numerics"), [("f32", "fused"), ("f64", "strict")])
@each_choice
def test_windows_have_the_interpreters_bits(case, dtype, numerics):
    made, arguments = case
    net = made(*arguments)
    rows, _ = unrolled(net)
    assert rows >= LEAST
    assert Build(net.graph, target("x86-64-v4"), options(target("x86-64-v4"))).plan.phased == (
        made is mixed)
    fn = ncc.compile(net, dtype=dtype, numerics=numerics, form="table", batch_form="table",
                     cache=False)
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 3, (37, len(net.inputs))).astype(DTYPES[dtype])  # of equals the first wins
    x[rng.random(x.shape) < 0.2] = -0.0
    x[5:9][rng.random(x[5:9].shape) < 0.05] = np.nan
    same(fn(x), net.graph.run(x, dtype=dtype, numerics=numerics))
    if net.n_params:
        params = rng.normal(size=(5, net.n_params)).astype(x.dtype)
        for y, row, own in zip(fn.each(x[:5], params), x, params, strict=False):
            same(y, net.graph.run(row, own, dtype=dtype, numerics=numerics))


def test_a_batch_of_windows_reads_no_list():
    net = windows(1, 80, TAPS["1-D"], "filter", layers=1)
    machine = target("x86-64-v3")
    for small in (False, True):
        module = Build(net.graph, machine, options(machine, small=small, form="table",
                                                   batch_form="table")).module
        batch = next(f for f in module.funcs if f.name == "forward_batch")
        within = [op for op in batch.ops if op[0] == "load" and op[2][0] == "work" and op[1]]
        assert any(op[2][1] > 0 for op in within) != small


def rounds(net, machine, **asked):
    """Of each loop over rows of windows in `forward_batch`: how many values it loads, how many it
    stores."""
    found = target(machine)
    module = Build(net.graph, found, options(found, form="table", batch_form="table",
                                             **asked)).module
    batch = next(f for f in module.funcs if f.name == "forward_batch")
    made, bodies = [], [[0, 0]]
    for opcode, _, imm in batch.ops:
        if opcode == "for":
            bodies.append([0, 0])
        elif opcode == "yield":
            made.append(tuple(bodies.pop()))
        elif opcode in ("load", "store") and imm[0] == "work":
            bodies[-1][opcode == "store"] += 1
    return {body for body in made if body[0] > 2 and body[1]}  # others loop over edges, or copy


@pytest.mark.parametrize(("taps", "kind", "stride", "wide", "narrow"), [
    # 4 rows of 3 x 3 read 3 x 6 values; with 16 registers, 2 read 3 x 4. What is left goes one by
    # one.
    ("2-D", "filter", 1, {(18, 4), (9, 1)}, {(12, 2), (9, 1)}),
    # Of ten, three times three load no more than two times four.
    ("2-D", "mean", 2, {(21, 3), (9, 1)}, {(15, 2)}),
    ("2-D", "max", 1, {(18, 4), (9, 1)}, {(12, 2), (9, 1)}),
    ("1-D", "filter", 1, {(6, 4)}, {(4, 2)}),
    # Each second row shares: two of four, none of two.
    ("dilated", "filter", 1, {(14, 4), (4, 1)}, {(8, 2)}),
    # Nothing is shared but weights, or not even these: only numbers of rows are not loaded.
    ("1-D", "filter", 3, {(12, 4)}, {(6, 2)}),
    ("1-D", "mean", 3, {(6, 2)}, {(6, 2)}),
])
def test_neighbours_load_once_what_they_share(taps, kind, stride, wide, narrow):
    shape = (17, 21) if taps != "1-D" else (1, 209 * stride + 2)
    net = windows(*shape, TAPS[taps], kind, stride, layers=1)
    for machine, bodies in (("x86-64-v4", wide), ("x86-64-v3", narrow)):
        assert rounds(net, machine) == bodies


def test_loads_of_neighbours_are_in_the_order_of_each_row():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, rows, apart = (int(k) for k in rng.integers(1, [9, 6, 4]))
        slots = rng.permutation(20)[:n]
        slots = [slots, np.sort(slots), np.sort(slots)[::-1]][rng.integers(3)].tolist()
        made = round_of(slots, apart, rows)
        for row in range(rows):
            assert [(slot, j) for slot, i, j in made.loads if i == row] == [
                (slot + row * apart, j) for j, slot in enumerate(slots)]
        at = [slot for slot, _, _ in made.loads]
        assert made.distinct == len({*at})
        assert made.held == max(len({*at[: k + 1]} & {*at[k:]}) for k in range(len(at)))
    assert round_of([0, 1, 2], 1, 4)[3:] == round_of([2, 1, 0], 1, 4)[3:] == (6, 1)


def test_few_rows_and_long_lists_are_looped():
    one = [(0, k) for k in range(LONGEST + 1)]
    assert not unrolled(windows(1, 200, one, "filter", layers=1))[0]
    assert unrolled(windows(1, 200, one[1:], "filter", layers=1))[0]
    assert not unrolled(windows(1, LEAST + 1, TAPS["1-D"], "filter", layers=1))[0]
    _, lists = unrolled(windows(9, 90, [(y, x) for y in range(5) for x in range(6)], "mean", 1,
                                True, 1))
    assert 0 < sum(edges for _, edges in lists) <= MOST


def test_neighbours_have_slots_side_by_side_where_windows_repeat():
    """Padded windows, whose rows are sorted by fan-in: layers later on read few lists, too."""
    net = windows(12, 14, TAPS["2-D"], "filter", 1, True, 4)
    wide, narrow = target("x86-64-v4"), target("cortex-m4f")
    plans = [Build(net.graph, m, options(m, form="table", batch_form="table")).plan
             for m in (wide, narrow)]
    counts = [len(np.unique(lists_of(plan, plan.single.slots).starts)) for plan in plans]
    assert counts[0] < 30 < counts[1]
    # Memory is dearer without vectors.
    assert plans[1].single.work < plans[0].single.work <= 2.5 * plans[1].single.work
    for plan in plans:
        plan.verify()
