"""Jacobians: `fn.jacobian` and the compiled functions have the bits of the graph's own, which are
those of `vjp` with unit seeds, row by row, or of the forward mode, column by column."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from nets import random_layers, some_net, to_nal
from simulators import SYSTEM, bits, simulated

import ncc
from ncc.cli import main
from ncc.driver.compiler import Build
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import options
from ncc.errors import NccError
from ncc.formats.write import net_file
from ncc.ir.graph_run import dependence, tangential
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import host
from ncc.passes.graph.merge import merge
from ncc.passes.graph.prune import prune
from ncc.runtime.compiled import Compiled

# Every aggregation, an output twice, one that no input reaches, one that is an input, a slope that
# is infinite at 0; more outputs than inputs, or (as `few`) fewer.
ODD = """N 0f
out 0a,0b,0c,08,09,01,0e,0d
00
01
02
03 tanh 00:0.5,01:-1 +0.25
04 exp mul 00:0.5,01:-1,02:0.3
05 sin max 00:0.5,01:-1,02:0.3
06 03 mean 03:0.5,04:-1,05:0.7
07 tanh min 03:0.5,04:-1,05:0.7
08 relu 06:1,05:0.5,07:2
09 tanh +1
0a 00 maxabs 08:1,06:2,09:0.4
0b tanh maximum 03@a:1,02@b:0.3
0c tanh sumbias 02:3,08:1 +0.5
0d 00 minimum 08:1,02:-2
0e tanh maximum 03@a,02@b
"""
# Rows of every aggregation that share an in-list, in tiles of several rows.
SHARED = "\n".join([
    "N 16", "out 14,15,13,12,11,10", "00", "01", "02", "03",
    *[f"{4 + k:02x} tanh {agg} 00:0.{k + 1},01:-0.4,02:0.7,03:1.{k} +0.1" for k, agg in enumerate(
        ["mul", "mul", "max", "max", "mean", "mean", "mean"])],
    *[f"{11 + k:02x} tanh dot 04*05:0.{k + 3},06*0a:-0.7 +0.2" for k in range(3)],
    *[f"{14 + k:02x} tanh div 06:0.{k + 3},0a:1.7,00:1.2" for k in range(3)],
    *[f"{17 + k:02x} sin {agg} 0b:0.5,0e:-1.{k},0c:0.25" for k, agg in enumerate(
        ["sum", "sum", "sumbias", "maxabs", "min"])]])


def dense(*widths, activation, seed):
    graph = ncc.new("fcn", *widths, activation=activation, init="xavier", seed=seed).graph
    return net_file(graph, "nal")


NETS = {
    "odd": ODD, "few": ODD.replace(ODD.splitlines()[1], "out 0b,0e"),
    "layers": dense(6, 19, 17, 4, activation="tanh", seed=3),
    "wide": dense(3, 17, 9, 20, activation="sigmoid", seed=4),
    "shared": SHARED, "shared, few": SHARED.replace(SHARED.splitlines()[1], "out 14,15"),
    "sparse": random_layers([9, 12, 12, 11], 3, seed=5, activation="gelu", weights=True),
    "one": dense(5, 11, 1, activation="relu", seed=6),
}
FORMS = ("auto", "straight", "table", "shared")


def compiled(text, form="auto", dtype="f32", numerics="fused", **more):
    forms = {} if form == "auto" else {"backward_form": form}
    if form in ("table", "shared"):
        forms |= {"form": form, "batch_form": form}
    return Compiled(ncc.parse(text).graph, dtype=dtype, numerics=numerics, passes=forms | more,
                    opt=1)


def wanted(fn, x):
    """What the graph says, as the passes leave it."""
    return prune(merge(fn.graph)).jacobian(x, fn.params, fn.dtype, fn.numerics)


def same(a, b):
    return a.shape == b.shape and a.tobytes() == b.astype(a.dtype).tobytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.each_choice
def test_it_has_the_bits_of_the_graph_in_every_form(name, form):
    """In each dtype and under both numerics, in turn."""
    number = list(NETS).index(name) + list(FORMS).index(form)
    dtype, numerics = ("f32", "f64")[number % 2], ("fused", "strict")[number // 2 % 2]
    fn = compiled(NETS[name], form, dtype, numerics)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = rng.standard_normal(fn.graph.n_inputs).astype(DTYPES[dtype])
        assert same(fn.jacobian(x), wanted(fn, x))
    xs = rng.standard_normal((5, fn.graph.n_inputs)).astype(DTYPES[dtype])
    assert same(fn.jacobian(xs), np.stack([fn.jacobian(x) for x in xs]))


@pytest.mark.parametrize("name", ["few", pytest.param("layers", marks=pytest.mark.slow), "one"])
def test_a_row_is_dx_of_vjp_with_a_unit_seed(name):
    fn = compiled(NETS[name], dtype="f64")
    assert not tangential(fn.graph)
    x = np.random.default_rng(1).standard_normal(fn.graph.n_inputs)
    reached = dependence(prune(fn.graph))
    for o, (row, on) in enumerate(zip(fn.jacobian(x), reached, strict=True)):
        dx, _ = fn.vjp(x)[1](np.eye(len(reached))[o])
        assert same(row[on], dx[on])
        assert same(row[~on], np.zeros((~on).sum()))


@pytest.mark.parametrize("name", ["odd", pytest.param("wide", marks=pytest.mark.slow), "few"])
def test_it_is_the_limit_of_differences(name):
    fn = compiled(NETS[name], dtype="f64")
    x = np.random.default_rng(2).standard_normal(fn.graph.n_inputs)
    h = 1e-6
    steps = [(fn(x + h * e) - fn(x - h * e)) / (2 * h) for e in np.eye(len(x))]
    assert np.allclose(fn.jacobian(x), np.stack(steps, 1), rtol=1e-7, atol=1e-8)


def test_what_no_path_leads_to_is_plus_zero_whatever_the_values_are():
    fn = compiled("N 06\nout 04,05\n00\n01\n02 tanh 00:-1\n03 sqrt 01:-1\n04 00 02:-2\n"
                  "05 00 03:-1\n", dtype="f64")
    for x in ([1.0, -2.0], [0.0, 0.0], [np.inf, np.nan]):
        made = fn.jacobian(np.array(x))
        assert same(made[[0, 1], [1, 0]], np.zeros(2))
        assert same(made, wanted(fn, np.array(x))) or np.isnan(made).any()


@pytest.mark.parametrize("seed", [*range(4), *[pytest.param(s, marks=pytest.mark.slow)
                                               for s in range(4, 16)]])
def test_random_nets_by_the_interpreter_of_ssa(seed):
    graph = ncc.parse(to_nal(some_net(seed))).graph
    params = np.random.default_rng(seed).standard_normal(graph.n_params)
    x = np.random.default_rng(seed).standard_normal(graph.n_inputs)
    for form in ("straight", "table"):
        chosen = options(host(), dtype="f64", jacobian=True, backward_form=form, limit=False)
        build = Build(graph, host(), chosen, 0, None, AFTER_ORDER)
        build.plan.verify()
        module = build.module
        module.verify()
        packed = np.zeros(len(build.plan.packed))
        module.run("pack", {"params": params, "packed": packed})
        jac = np.full(len(graph.outputs) * graph.n_inputs, np.nan)
        with np.errstate(all="ignore"):
            module.run("jacobian", {"x": x, "packed": packed, "jac": jac})
        expected = build.plan.graph.jacobian(x, params, "f64", chosen["numerics"])
        assert np.array_equal(jac.reshape(expected.shape), expected, equal_nan=True)


def test_threads_and_pickles_change_no_bit():
    fn = compiled(NETS["layers"])
    xs = np.random.default_rng(3).standard_normal((700, fn.graph.n_inputs)).astype("f4")
    alone = fn.jacobian(xs)
    fn.threads = 2
    assert same(fn.jacobian(xs), alone)
    assert fn.jacobian(xs[:0]).shape == (0, 4, 6)


def test_shapes_are_checked_and_states_refused():
    fn = compiled(NETS["layers"])
    for shape in ((5,), (2, 5), (1, 2, 6)):
        with pytest.raises(ValueError, match="x has shape"):
            fn.jacobian(np.zeros(shape))
    with pytest.raises(NccError, match="E160"):
        ncc.parse("N 02\n00\n01 tanh 00:1,~01:1\n").graph.jacobian(np.zeros(1))


DRIVER = r"""
#include "net.h"
%(data)s
static %(real)s jac[2][NET_OUTPUTS][NET_INPUTS];
static %(real)s packed[NET_PACKED] NET_ALIGNED;
static char work[NET_JACOBIAN_WORK_BYTES + NET_JACOBIAN_BATCH_WORK_BYTES] NET_ALIGNED;
%(start)s
{
    net_pack((const %(real)s *)params, packed);
    net_jacobian((const %(real)s *)x, packed, &jac[0][0][0], work);
    net_jacobian_batch(1, (const %(real)s *)x, packed, &jac[1][0][0], work);
    %(end)s
}
"""


@pytest.mark.parametrize("net, name, dtype", [
    ("odd", "aarch64", "f32"), ("wide", "rv64gc", "f64"), ("layers", "cortex-m4f", "f32"),
    ("shared", "aarch64", "f64"), ("layers", "x86-64", "f64")])
@pytest.mark.slow
def test_other_machines_have_the_bits_of_the_graph(tmp_path, capsys, net, name, dtype):
    graph = built(tmp_path, net, "--target", name, "--dtype", dtype, "--numerics", "strict")
    real = {"f32": "float", "f64": "double"}[dtype]
    data, x = numbers(graph, dtype)
    (tmp_path / "driver.c").write_text(DRIVER % {
        "data": data, "real": real, "start": SYSTEM + "void _start(void)",
        "end": "put(jac, sizeof jac); call(EXIT, 0, 0, 0);"})
    out = np.frombuffer(simulated(tmp_path, name, "driver.c", "net.o"), DTYPES[dtype])
    left = prune(merge(graph))
    expected = left.jacobian(x, graph.values, dtype, "strict")
    assert same(out.reshape(2, *expected.shape), np.stack([expected] * 2))


def test_the_c_file_has_the_bits_of_the_graph(tmp_path, capsys):
    graph = built(tmp_path, "odd", "--emit", "c,header", "--dtype", "f64", "--numerics",
                     "strict")
    data, x = numbers(graph, "f64")
    start = "#include <stdio.h>\nint main(void)"
    (tmp_path / "driver.c").write_text(DRIVER % {
        "data": data, "real": "double", "start": start,
        "end": "fwrite(jac, 1, sizeof jac, stdout); return 0;"})
    subprocess.run(["gcc", "-O1", "-fno-strict-aliasing", "-ffp-contract=off", "-o",
                    tmp_path / "program", tmp_path / "driver.c", tmp_path / "net.c"], check=True)
    done = subprocess.run([tmp_path / "program"], capture_output=True, check=True)
    expected = prune(merge(graph)).jacobian(x, graph.values, "f64", "strict")
    assert same(np.frombuffer(done.stdout).reshape(2, *expected.shape), np.stack([expected] * 2))


def built(folder, net, *arguments):
    path = folder / "net.nal"
    path.write_text(NETS[net])
    assert main(["build", str(path), "--jacobian", "--no-cache", *arguments,
                 "-o", f"{folder}/"]) == 0
    return ncc.load(path).graph


def numbers(graph, dtype):
    x = np.random.default_rng(7).standard_normal(graph.n_inputs).astype(DTYPES[dtype])
    params = graph.values.astype(DTYPES[dtype])
    return bits("x", x) + bits("params", params), x
