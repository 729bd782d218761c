"""`--abi casadi`: CasADi's `external` calls the net, its Jacobian and its adjoints."""

from __future__ import annotations

import ctypes
import subprocess

import numpy as np
import pytest

import ncc
from ncc.cli import main
from ncc.formats.write import net_file
from ncc.ir.graph import NONE
from ncc.ir.graph_run import dependence

WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
# Outputs that see some of the inputs each, and an input that is one.
PARTS = """N 0a
out 07,08,09,02
00
01
02
03 tanh 00:0.5,01:-1 +0.25
04 sigmoid 01:0.7
05 tanh 02:0.3 +0.1
06 tanh 03:0.5,04:-1
07 00 06:1.5,03:-0.3 +0.2
08 tanh 05:0.4
09 00 04:2
"""


@pytest.fixture
def casadi():
    return pytest.importorskip("casadi")


def built(folder, text, *options, name="net"):
    path = folder / f"{name}.nal"
    path.write_text(text)
    out = folder / f"{name}.so"
    assert main(["build", str(path), "--abi", "casadi", "--emit", "shared", "--no-cache", *options,
                 "-o", str(out)]) == 0
    return ncc.load(path).graph, str(out)


def dense(*widths, seed=0):
    graph = ncc.new("fcn", *widths, activation="tanh", init="xavier", seed=seed).graph
    return net_file(graph, "nal")


def own(casadi, graph):
    """The same net as an expression of CasADi's."""
    ca, table = casadi, np.concatenate([graph.values, graph.constants[::-1]])
    x = ca.MX.sym("x", graph.n_inputs)
    values = {int(i): x[k] for k, i in enumerate(graph.inputs)}
    meanings = {0: lambda a: a, 2: ca.tanh, 1: lambda a: 1 / (1 + ca.exp(-a))}
    for j in np.argsort(graph.levels, kind="stable").tolist():
        if j not in values:
            at = range(graph.starts[j], graph.starts[j + 1])
            terms = [table[graph.weights[k]] * values[int(graph.sources[k])] for k in at]
            bias = 0 if graph.biases[j] == NONE else table[graph.biases[j]]
            values[j] = meanings[int(graph.activations[j])](sum(terms) + bias)
    outputs = [values[j] for j in graph.outputs.tolist()]
    return ca.Function("own", [x], [ca.vertcat(*outputs)], ["x"], ["y"])


@pytest.mark.parametrize("options", [(), ("--embed-weights",), ("--no-backward",)])
@pytest.mark.parametrize("net", ["parts", "dense"])
@pytest.mark.each_choice
def test_an_external_is_the_net_and_its_derivatives(tmp_path, casadi, net, options):
    graph, path = built(tmp_path, PARTS if net == "parts" else dense(3, 9, 4), *options)
    made, wanted = casadi.external("net", path), own(casadi, graph)
    rng = np.random.default_rng(0)
    assert made.name_in() == ["x"] and made.name_out() == ["y"]
    x, seed = rng.standard_normal(graph.n_inputs), rng.standard_normal(len(graph.outputs))
    assert np.allclose(made(x).full(), wanted(x).full(), rtol=1e-12, atol=1e-15)
    jac = made.jacobian()
    assert str(jac).startswith("jac_net:")
    pattern = dependence(graph)
    assert jac.sparsity_out(0).nnz() == pattern.sum()
    assert np.array_equal(np.array(jac.sparsity_out(0).get_triplet()).T, np.argwhere(pattern.T)[
        :, ::-1])
    assert np.allclose(jac(x, 0).full(), wanted.jacobian()(x, 0).full(), rtol=1e-12, atol=1e-15)
    for a, b in ((made.reverse(1), wanted.reverse(1)), (made.reverse(2), wanted.reverse(2))):
        seeds = np.outer(seed, np.arange(1, 1 + a.size_in(2)[1]))
        assert np.allclose(a(x, 0, seeds).full(), b(x, 0, seeds).full(), rtol=1e-12, atol=1e-15)


def test_ipopt_finds_the_optimum_of_a_predictive_control(tmp_path, casadi):
    graph, path = built(tmp_path, dense(6, 16, 16, 4, seed=1))
    found = [controlled(casadi, f) for f in (casadi.external("net", path), own(casadi, graph))]
    assert np.allclose(found[0][0], found[1][0], rtol=0, atol=1e-8)
    assert abs(found[0][1] - found[1][1]) <= 1e-10
    assert found[0][2]


def controlled(ca, f, steps=10):
    """u (2, steps) that brings a state of 4 to 0 at least cost, the cost, whether it converged."""
    u, state, cost = ca.MX.sym("u", 2, steps), ca.DM([0.5, -0.3, 0.2, 0.1]), 0
    for k in range(steps):
        state = state + 0.1 * f(ca.vertcat(state, u[:, k]))
        cost = cost + ca.sumsqr(state) + 0.1 * ca.sumsqr(u[:, k])
    solver = ca.nlpsol("solver", "ipopt", {"x": ca.vec(u), "f": cost}, {
        "ipopt.hessian_approximation": "limited-memory", "ipopt.print_level": 0, "print_time": 0,
        "ipopt.sb": "yes", "ipopt.tol": 1e-10})
    done = solver(x0=0, lbx=-1, ubx=1)
    return done["x"].full(), float(done["f"]), solver.stats()["success"]


@pytest.mark.parametrize("kind", ["obj", "c"])
def test_the_text_compiles_without_a_warning(tmp_path, kind):
    """And is what CasADi's interface says, without CasADi: no argument is 0, no result is left."""
    path = tmp_path / "net.nal"
    path.write_text(PARTS)
    assert main(["build", str(path), "--abi", "casadi", "--emit", kind, "--no-cache",
                 "-o", str(tmp_path / ("net.o" if kind == "obj" else "net.c"))]) == 0
    sources = ["net.o", "net_casadi.c"] if kind == "obj" else ["net.c"]
    subprocess.run(["gcc", *(WARNINGS if kind == "obj" else []), "-ffp-contract=off", "-shared",
                    "-fPIC", "-o", "net.so", *sources], check=True, cwd=tmp_path)
    library = ctypes.CDLL(str(tmp_path / "net.so"))
    sizes = [ctypes.c_longlong() for _ in range(4)]
    library.jac_net_work(*map(ctypes.byref, sizes))
    work, jac = np.full(sizes[3].value + 3, np.nan), np.full(12, np.nan)
    real = ctypes.POINTER(ctypes.c_double)
    for start in range(2):  # of any alignment
        results = (real * 1)(jac.ctypes.data_as(real))
        assert library.jac_net((real * 2)(), results, None, ctypes.c_void_p(
            work.ctypes.data + 8 * start), 0) == 0
        fn = ncc.compile(ncc.load(path), dtype="f64")
        pattern = dependence(fn.graph)
        count = int(pattern.sum())
        wanted = fn.jacobian(np.zeros(3)).T[pattern.T]
        assert np.allclose(jac[:count], wanted, rtol=1e-15) and np.isnan(jac[count:]).all()
    assert np.isnan(work[-1])
    assert library.net((real * 1)(), (real * 1)(), None, None, 0) == 0


@pytest.mark.parametrize("options", [("--dtype", "f32"), ("--emit", "asm"), ("--emit", "obj,ssa")])
def test_what_casadi_cannot_call_is_refused(tmp_path, capsys, options):
    path = tmp_path / "net.nal"
    path.write_text(PARTS)
    assert main(["build", str(path), "--abi", "casadi", *options]) == 2
    assert "error[E609]: --abi casadi" in capsys.readouterr().err


def test_parameters_need_values(tmp_path, capsys):
    path = tmp_path / "net.nal"
    path.write_text("N 02\n00\n01 tanh 00\n")
    assert main(["build", str(path), "--abi", "casadi", "-o", str(tmp_path / "net.o")]) == 1
    assert "E607" in capsys.readouterr().err
