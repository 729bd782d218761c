"""Repeated structure: weights and in-lists that stand once, and the bits that they compute."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gradients import interpreted
from objects import same

import ncc
from ncc.driver.compiler import Build
from ncc.driver.net_module import interpret
from ncc.driver.settings import options
from ncc.errors import NccError, Source
from ncc.ir import csr
from ncc.ir.plan_text import read
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import target
from ncc.passes.graph.merge import merge
from ncc.passes.graph.prune import prune
from ncc.passes.lower.arrays import lists, nests, sequences
from ncc.runtime.compiled import Compiled


def irregular(steps):
    """Steps that are one but for this and that: rows of 20 edges (so that some sums are in order),
    whose last one reads the same input in all steps; neurons that read, or are read by, nothing;
    ties within an in-list; products, maxima, dots and constants among trainable sums; every third
    step reads an input of its own by another weight."""
    lines, before = [f"{i:x}\n" for i in range(17 + 4 * steps)], [*range(1, 17)]
    given = set()

    def at(source, name):
        """An edge; the value of a tie where it is named first."""
        value = "" if name in given else f":{math.sin(len(given)) / 4:.3f}"
        given.add(name)
        return f"{source:x}@{name}{value}"

    for t in range(steps):
        x = [17 + 4 * t + i for i in range(3)]  # the fourth has no reader
        h = [*range(len(lines), len(lines) + 16)]
        for j in range(16):
            edges = [at(i, f"w{j}_{k}") for k, i in enumerate([*x, *before, 0])]
            lines.append(f"{len(lines):x} tanh {','.join(edges)} +@b{j}{':0.1' * (t == 0)}\n")
        for rest in (f"0 mul {h[0]:x}:=1,{x[0]:x}:=2",
                     f"0 max {at(h[1], 'm')},{at(h[2], 'm')},{at(x[1], 'n')}",
                     f"0 dot {h[3]:x}*{h[4]:x}:=1,{x[2]:x}*{h[3]:x}:=1",
                     f"tanh {at(h[5], 's')},{at(h[6], 's')},{x[0]:x}:=0.5",
                     "0 " + ",".join([f"{i:x}:=-1" for i in (h[7], h[8], *h[10:])]),
                     f"0 +@z{t}:0.5",
                     f"0 {at(h[9], f'o{t % 3}')},{at(17 + t // 3 * 12, 'o3')}"):
            lines.append(f"{len(lines):x} {rest}\n")
        before = [*h[:9], *range(h[-1] + 1, len(lines))]
    outs = ",".join([f"{j:x}" for j in (*before, h[15], 1)])
    return ncc.parse(f"N {len(lines):x}\nout {outs}\n" + "".join(lines))


NETS = {
    "irregular": lambda: irregular(5),
    "convolution": lambda: ncc.new("conv", "1x8x8", "4k3p1", "max2", "3k3", 4, init="he"),
    "depthwise": lambda: ncc.new("conv", "4x6x6", "4k3g4", 3, init="he"),
    "lstm": lambda: ncc.new("lstm", "3x8", "h4", init="xavier"),
    "transformer": lambda: ncc.new("transformer", "6x4", "d4", "h2", "l1", init="xavier"),
}
each_choice = pytest.mark.each_choice


def side_by_side(first, second):
    """Two nets as one."""
    a, b = first.graph, second.graph

    def moved(codes, params, constants):  # a constant k has the code -1 - k, NONE is far below
        return np.where(codes >= 0, codes + params,
                        np.where(codes >= -len(b.constants), codes - constants, codes)
                        ).astype(np.int32)

    ends = (b.sources, b.inputs, b.outputs)
    sources, inputs, outputs = [(ids + a.n_neurons).astype(np.int32) for ids in ends]
    weights, biases = [moved(codes, a.n_params, len(a.constants)) for codes in (
        b.weights, b.biases)]
    joined = {name: np.concatenate([getattr(a, name), more]) for name, more in {
        "starts": b.starts[1:] + a.n_edges, "sources": sources, "weights": weights,
        "biases": biases, "activations": b.activations, "aggregations": b.aggregations,
        "inputs": inputs, "outputs": outputs, "values": b.values, "constants": b.constants,
        "levels": b.levels}.items()}
    graph = a.with_(**joined, names={}, labels=())
    graph.verify()
    return ncc.Net(graph)


def other_ends(net):
    """A net whose first and last neurons have other activations than those like them."""
    g = net.graph
    activations = g.activations.copy()
    computed = np.flatnonzero(np.isin(activations, (1, 2)))
    activations[computed[[0, 1, -2]]] = 3
    return ncc.Net(g.with_(activations=activations))


def built(net, target_name="x86-64-v4", **asked):
    machine = target(target_name)
    return Build(net.graph, machine, options(machine, name="net", **asked))


def lists_and_packed(plan, tables):
    return len(next(t for t in tables if t.name == "sources").values), len(plan.packed)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("form", ["table", "shared"])
@pytest.mark.parametrize(("dtype", "numerics"), [("f32", "fused"), ("f64", "strict")])
@each_choice
def test_every_form_has_the_interpreters_bits(name, form, dtype, numerics):
    net = NETS[name]()
    fn = ncc.compile(net, dtype=dtype, numerics=numerics, form=form, batch_form=form,
                     backward_form=form, cache=False)
    x = np.random.default_rng(0).normal(size=(37, len(net.inputs))).astype(DTYPES[dtype])
    wanted = net.graph.run(x, dtype=dtype, numerics=numerics)
    same(fn(x), wanted)
    same(fn(x[3]), wanted[3])
    params = np.random.default_rng(1).normal(size=(5, net.n_params)).astype(x.dtype)
    for y, row, own in zip(fn.each(x[:5], params), x, params, strict=False):
        same(y, net.graph.run(row, own, dtype=dtype, numerics=numerics))
    dy = np.cos(np.arange(wanted.size, dtype=x.dtype)).reshape(wanted.shape)
    for count in (1, 37):
        y, pullback = fn.vjp(x[:count] if count > 1 else x[0])
        dy_ = dy[:count].reshape(y.shape)
        gradients = net.graph.gradient(x[:count].reshape(-1, x.shape[1]), dy_, dtype=dtype,
                                       numerics=numerics)
        for mine, theirs in zip(pullback(dy_), gradients, strict=True):
            same(mine, np.asarray(theirs).reshape(mine.shape))


@pytest.mark.parametrize("form", ["shared", "table"])
def test_sources_that_are_merged_are_read_twice_in_order(form):
    """Of equal neurons one is left, which rows of one in-list read several times."""
    lines = [f"{i:x}\n" for i in range(2)] + [f"{j:x} tanh 0@a,1@b\n" for j in range(2, 5)]
    lines += [f"{j:x} identity " + ",".join(
        [f"{i:x}" for i in range(5)]) + "\n" for j in range(5, 21)]
    net = ncc.parse("N 15\n" + "".join(lines))
    params = np.sin(np.arange(net.n_params, dtype=np.float32))
    fn = ncc.compile(net, params, form=form, batch_form=form, backward_form="table", cache=False)
    x = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    left = prune(merge(net.graph))
    for given in (x, *x):
        y, pullback = fn.vjp(given)
        for mine, theirs in zip(pullback(y), left.gradient(
                np.atleast_2d(given), np.atleast_2d(y), params, numerics=fn.numerics), strict=True):
            same(mine, theirs.reshape(mine.shape))


@pytest.mark.parametrize(("dtype", "width"), [("f32", 16), ("f64", 8)])
def test_fixed_layers_among_trained_ones_have_no_gradient(dtype, width):
    """Steps with a layer of constants, so large that gradients would be summed up in order."""
    lines = [f"{i:x}\n" for i in range(width)]
    h = [*range(width)]
    for _ in range(2):
        for weight in (lambda i, j: f":={math.sin(7 * i + j):.3f}", lambda i, j: f"@w{i}_{j}"):
            row = len(lines)
            lines += [f"{row + j:x} tanh " + ",".join(
                [f"{i:x}{weight(k, j)}" for k, i in enumerate(h)]) + "\n" for j in range(width)]
            h = [*range(row, row + width)]
    net = ncc.parse(f"N {len(lines):x}\n" + "".join(lines))
    params = np.cos(np.arange(net.n_params))
    x = np.random.default_rng(0).normal(size=(9, width)).astype(DTYPES[dtype])
    fn = ncc.compile(net, params, dtype=dtype, form="table", batch_form="table",
                     backward_form="table", cache=False)
    y, pullback = fn.vjp(x)
    for mine, theirs in zip(pullback(y), net.graph.gradient(
            x, y, params.astype(x.dtype), dtype, fn.numerics), strict=True):
        same(mine, theirs)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("machine", ["x86-64-v3", "cortex-m4f"])
@each_choice
def test_a_step_of_training_packs_shared_weights_anew(name, machine):
    net = NETS[name]()
    build = built(net, machine, form="table", batch_form="table", backward_form="table",
                  loss="mse", optimizer="sgd", gradient=True)
    build.plan.verify()
    module = build.module
    x = np.random.default_rng(0).normal(size=(3, len(net.inputs)))
    same(interpret(module, x, net.params), net.graph.run(x))
    step = next(f for f in module.funcs if f.name == "train_step")
    held = {buffer.name: np.zeros(buffer.size, np.float32) for buffer in step.buffers}
    pack = next(f for f in module.funcs if f.name == "pack")
    held["params"][:] = net.params
    module.run(pack.name, {"params": held["params"], "packed": held["packed"]})
    held["x"][:], held["lr"][:] = x[0], 0.01
    module.run(step.name, held)
    anew = np.zeros_like(held["packed"])
    module.run(pack.name, {"params": held["params"], "packed": anew})
    assert (held["params"] != np.float32(net.params)).any()
    same(held["packed"], anew)


@pytest.mark.parametrize("form", ["table", "shared"])
def test_arrays_follow_distinct_groups_not_positions(form):
    def sizes(net):
        build = built(net, form=form, batch_form=form)
        return lists_and_packed(build.plan, build.module.tables)

    small, large = [ncc.new("conv", f"2x{n}x{n}", "4k3") for n in (12, 24)]
    assert large.n_edges > 4 * small.n_edges
    assert sizes(small) == sizes(large) and sizes(large)[1] <= 2 * large.n_params
    short, long = [sizes(ncc.new("lstm", f"3x{steps}", "h8")) for steps in (10, 40)]
    assert long[1] == short[1]
    assert form == "shared" or long[0] < 3 * short[0]


ODD = {
    "deep both ways": lambda: ncc.new("lstm", "8x6", "h8", "l2", bidirectional=True, init="xavier"),
    "padded": lambda: ncc.new("conv", "1x16x16", "4k3p1", "max2", 3, init="he"),
    "gates with resets": lambda: ncc.new("gru", "8x16", "h8", init="xavier"),
    "two at once": lambda: side_by_side(*[ncc.new("lstm", f"{width}x14", "h8", init="xavier")
                                          for width in (4, 8)]),
    "other ends": lambda: other_ends(ncc.new("lstm", "8x10", "h8", init="he")),
}
LITTLE = {("padded", "table"), ("gates with resets", "shared")}  # that may save no half


def shared_by(build):
    """The tables of `build`, by name, and whether blocks share their numbers."""
    tables = {table.name: table.values for table in build.module.tables}
    return tables, "chunks" in tables


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("form", ["table", "shared"])
@pytest.mark.parametrize("machine", ["x86-64-v4", "atmega2560"])
@each_choice
def test_odd_repeats_have_the_interpreters_bits(name, form, machine, monkeypatch):
    """Chunks where steps and borders are not all alike."""
    monkeypatch.setattr(lists, "FEW", 16)
    net = ODD[name]()
    build = built(net, machine, form=form, batch_form=form)
    assert shared_by(build)[1] or (name, form) in LITTLE
    x = np.random.default_rng(0).normal(size=(2, len(net.inputs)))
    same(interpret(build.module, x, net.params),
         net.graph.run(x, numerics=build.module.numerics))
    if machine != "x86-64-v4":
        return
    fn = ncc.compile(net, form=form, batch_form=form, cache=False)
    x = np.random.default_rng(1).normal(size=(67, len(net.inputs))).astype(np.float32)
    wanted = net.graph.run(x)
    same(fn(x), wanted)
    same(fn(x[5]), wanted[5])


@pytest.mark.parametrize("seed", range(20))
def test_descriptors_say_each_number(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 70, 12)
    bounds = csr.starts(sizes)
    sides = rng.integers(1, 4, 12)
    segments = np.stack([bounds[:-1], bounds[1:], np.ones(12, int), np.full(12, 3), sides], axis=1)
    count = int(bounds[-1])
    period = int(rng.integers(1, 9))
    at = np.arange(count)
    arrays = {name: at % period * rng.integers(1, 5) + at // 16 * by
              for name, by in (("starts", 3), ("bases", 5), ("places", 0))}
    arrays |= {"weights": at % period, "biases": np.zeros(count, int),
               "rows": 1 + at % 2 * (seed % 2), "ends": arrays["starts"] + 3}
    single = rng.random(12) < 0.2
    found = lists.descriptors(arrays, segments, single)
    if found is None:
        assert count < 2 * lists.FEW or period > 4
        return
    for s, (first, last, *_, side) in enumerate(segments.tolist()):
        chunk_size = int(lists.chunk_of(np.array(side)))
        for b in range(first, last):
            chunk = found.begins[s] + (b - first) // chunk_size
            place = (found.position[b] if single[s] else
                     found.at[chunk] + (b - first) % chunk_size)
            for name in set(arrays) - {"ends"}:
                moved = 0 if single[s] or name not in found.moved else found.moved[name][chunk]
                assert found.arrays[name][place] + moved == arrays[name][b]
        like = segments[found.firsts[found.classes[s]]]
        assert like[1] - like[0] == last - first and like[4] == side


@pytest.mark.parametrize("form", ["table", "shared"])
def test_numbers_of_blocks_follow_distinct_steps(form):
    def cells(steps):
        tables, shared = shared_by(built(ncc.new("lstm", f"4x{steps}", "h4"), form=form,
                                         batch_form=form))
        assert shared
        kept = sum(len(tables[name]) for name in ("starts", "bases", "weights", "biases", "places"))
        outer = sum(len(values) for name, values in tables.items()
                    if name.startswith(("segment", "chunk", "turn", "pattern")))
        return kept, outer, tables

    (short, few, _), (long, many, tables) = cells(40), cells(160)
    assert long < 2 * short and long < 800
    assert many <= few < 700
    assert max(len(values) for name, values in tables.items() if name.startswith("rounds")) < 60


@pytest.mark.parametrize("net", [ODD["padded"], lambda: other_ends(
    ncc.new("lstm", "2x9", "h4", init="he"))])
def test_nests_of_blocks_have_the_graphs_bits(net, monkeypatch):
    """The gradient and the Jacobian of one sample, whose loops go through blocks."""
    monkeypatch.setattr(sequences, "FEW", 16)
    monkeypatch.setattr(sequences, "LESS", 1)
    net = net()
    forms = {"form": "shared", "batch_form": "shared", "backward_form": "table"}
    assert "back_nests" in shared_by(built(net, gradient=True, **forms))[0]
    fn = Compiled(net.graph, passes=forms, opt=1)
    x = np.random.default_rng(0).normal(size=len(net.inputs)).astype(np.float32)
    y, pullback = fn.vjp(x)
    for mine, theirs in zip(pullback(y), net.graph.gradient(x, y), strict=True):
        same(mine, np.asarray(theirs).reshape(mine.shape))
    same(fn.jacobian(x), prune(merge(fn.graph)).jacobian(x, fn.params))


def test_arrays_of_a_samples_gradient_follow_distinct_steps():
    def cells(steps):
        module = built(ncc.new("lstm", f"4x{steps}", "h4"), form="shared", batch_form="shared",
                       backward_form="table", gradient=True).module
        (func,) = [func for func in module.funcs if func.name == "backward"]
        read = {imm[0] for opcode, _, imm in func.ops if opcode == "load"}
        return {t.name: len(t.values) for t in module.tables if t.name in read
                and t.name.startswith("back_") and not t.name.startswith(("back_tied", "back_out"))}

    short, long = cells(80), cells(160)
    assert short == long and sum(long.values()) < 1000


def tied_numbers(net):
    """How many numbers list the elements of tied parameters."""
    tables = built(net, "x86-64-v3", gradient=True).module.tables
    return sum(len(t.values) for t in tables if t.name.startswith("back_tied"))


def test_elements_of_tied_parameters_are_listed_once_for_a_filter():
    net = ncc.new("conv", "2x12x12", "4k3")
    assert 0 < tied_numbers(net) * 10 <= net.n_edges


def test_elements_of_tied_parameters_of_more_steps_take_no_more_numbers():
    short, long = [tied_numbers(ncc.new("lstm", f"8x{steps}", "h16")) for steps in (40, 60)]
    assert 0 < long <= short


def test_sums_of_tied_parameters_of_a_sample_are_vectors():
    """Of neighbouring weights, whose cells are neighbours at each step."""
    module = built(ncc.new("lstm", "8x6", "h8"), "x86-64-v3", gradient=True).module
    ops = next(f for f in module.funcs if f.name == "backward").ops
    last = max(k for k, (opcode, _, imm) in enumerate(ops) if opcode == "store" and imm[0] == "dx")
    assert max(imm for opcode, _, imm in ops[last:] if opcode == "for") >= 4


@pytest.mark.parametrize("form", ["table", "shared"])
@pytest.mark.parametrize("machine", ["cortex-m4f", "x86-64-v3"])
def test_arrays_of_gradients_follow_rows_not_edges(machine, form):
    """Of an RNN whose edges are 12 times its rows: every array; and twice the steps list less
    elements more than there are rows more."""
    lists = [f"back_{name}" for name in ("places", "readers", "reader_edges", "pushed_places",
                                         "pushed_weights")]
    held, rows = [], []
    for steps in (8, 16):
        net = ncc.new("lstm", f"12x{steps}", "h12")
        build = built(net, machine, form=form, batch_form=form, backward_form="table",
                      gradient=True)
        rows.append(len(build.plan.rows) + len(net.inputs) + 1)
        assert net.n_edges > 12 * rows[-1]
        most = max(rows[-1], net.n_params, len(build.plan.packed))
        assert all(len(t.values) <= most for t in build.module.tables)
        held.append(sum([len(t.values) for t in build.module.tables
                         if t.name.rstrip("_0123456789") in lists]))
    assert 0 < held[1] - held[0] < rows[1] - rows[0]


def test_arrays_of_tiles_follow_distinct_groups_not_positions():
    def cells(width):
        net = ncc.new("conv", f"1x{width}x{width}", "8k3", "16k3")
        build = built(net, batch_form="shared", backward_form="table", gradient=True)
        assert np.all(build.plan.sizes > 1) and len(build.plan.sizes) >= nests.FEW
        return {t.name: len(t.values) for t in build.module.tables if "_tile_" in t.name}

    assert cells(12) == cells(16)


def test_a_tiles_rows_may_have_their_parameters_anywhere():
    """Two activations in turn, so that those of the rows of one are not equally far apart."""
    kinds = ["tanh" if 7 * j % 5 < 2 else "relu" for j in range(40)]
    lines = [f"{i:x}\n" for i in range(9)]
    lines += [f"{9 + j:x} {kind} " + ",".join(
        [f"{i:x}:{math.sin(9 * j + i):.3f}" for i in range(9)]) + " +0.1\n"
        for j, kind in enumerate(kinds)]
    net = ncc.parse(f"N {len(lines):x}\nout {','.join([f'{9 + j:x}' for j in range(40)])}\n"
                    + "".join(lines))
    module = built(net, batch_form="shared", backward_form="table", gradient=True).module
    assert any(t.name.startswith("back_gradient_of_rows") for t in module.tables)
    x = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    dy = np.cos(np.arange(200, dtype=np.float32)).reshape(5, 40)
    wanted = net.graph.gradient(x, dy)
    for mine, theirs in zip(interpreted(module, x, dy, net.params), wanted, strict=True):
        same(mine, theirs)


def test_a_net_that_repeats_nothing_has_its_weights_in_order():
    net = ncc.new("random", 40, 60, 30, 5, density=0.3, init="he")
    build = built(net, form="table", batch_form="table")
    plan = build.plan
    assert not plan.shares and len(np.unique(plan.packed)) == len(plan.packed)
    assert lists_and_packed(plan, build.module.tables)[0] == len(plan.edges)
    assert not any(t.name == "bases" for t in build.module.tables)


def test_positions_side_by_side_load_a_weight_once():
    """Of rows by themselves with the weights of one filter, in a batch, two at a time."""
    few = ncc.new("conv", "4x4x8", "4k3g4", 3, init="he")  # too few for code of their own
    module = built(few, "x86-64-v3", form="table", batch_form="table").module
    batch = next(f for f in module.funcs if f.name == "forward_batch")
    inner: list[list[str]] = [[]]  # what each loop loads
    most = 0
    for opcode, _, imm in batch.ops:
        if opcode == "for":
            inner.append([])
        elif opcode == "load":
            inner[-1].append(imm[0])
        elif opcode == "yield":
            loads = inner.pop()
            if loads.count("packed") == 1:
                most = max(most, loads.count("work"))
    assert most >= 2


def test_plans_with_shared_weights_are_read_back_and_verified():
    plan = built(NETS["convolution"](), form="shared", batch_form="shared").plan
    assert plan.shares
    text = str(plan)
    again = read(Source("net.plan", text))
    assert str(again) == text
    plan.verify()
    first = np.flatnonzero(plan.weights == plan.weights[-1])
    wrong = plan.weights.copy()
    wrong[-1] = plan.weights[plan.weights != plan.weights[-1]][0]
    for bad in (plan.with_(weights=wrong),
                plan.with_(biases=np.where(plan.biases >= 0, plan.biases.max(), -1)),
                plan.with_(packed=plan.packed[:-1]),
                plan.with_(packed=np.where(plan.packed == plan.packed[0], plan.packed[1],
                                           plan.packed))):
        with pytest.raises(NccError) as caught:
            bad.verify()
        assert caught.value.code == "E304"
    assert len(first)


def test_lists_that_differ_by_what_is_added_are_one():
    lists = [[4, 5, 7], [6, 7, 9], [], [9, 8], [1, 0], [0, 1, 3]] * 8
    lengths = np.array([len(row) for row in lists])
    flat = np.array([x for row in lists for x in row], np.int32)
    found = csr.repeated(lengths, flat)
    assert found is not None
    begins, bases, kept = found
    assert kept.tolist() == [0, 1, 3, 1, 0] and kept.dtype == np.int32
    for row, begin, base in zip(lists, begins.tolist(), bases.tolist(), strict=True):
        assert (kept[begin : begin + len(row)] + base).tolist() == row
    assert csr.repeated(np.array([3, 3]), np.array([1, 2, 5, 1, 3, 5], np.int32)) is None
    assert csr.repeated(np.zeros(0, np.int64), np.zeros(0, np.int32)) is None
