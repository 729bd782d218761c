"""Derivatives of one sample beside CasADi's C: python tests/bench/bench_jacobian.py

Each net is compiled for this machine in f64, and the same net, as an expression of scalars (SX), is
written as C by CasADi and compiled by gcc -O3 -march=native. One C program calls both in turn, in
rounds of CPU time; a time is the median of the rounds. `forward` is y; `dx` the gradients by the
inputs of one seed (adj1_net), `dx, dparams` those by the parameters as well, which CasADi has not;
`jacobian` is all derivatives by the inputs (jac_net). Results differ by 1e-12 at most, or the
script fails. Status 1 where a target is missed. Needs casadi and gcc.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parents[1])]
from nets import random_layers  # noqa: E402

import ncc  # noqa: E402
from ncc.cli import main as command  # noqa: E402
from ncc.formats.write import net_file  # noqa: E402
from ncc.ir.graph import NONE  # noqa: E402
from ncc.scalar.activations import name_of  # noqa: E402

WHAT = ("forward", "dx", "dx, dparams", "jacobian")
JACOBIAN, SPEEDUP, BACKWARD = 1500.0, 2.0, 4.0  # ns and times CasADi's C; forwards: of 6-32-32-4
DENSE = "6-32-32-4, tanh"

PROGRAM = r"""
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <math.h>
#include "net.h"
typedef long long int casadi_int;
#define DECLARED(f) int f(const double **, double **, casadi_int *, double *, int); \
    int f##_work(casadi_int *, casadi_int *, casadi_int *, casadi_int *);
DECLARED(own) DECLARED(jac_own) DECLARED(adj1_own)
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}
static void *room(size_t size) { return aligned_alloc(64, (size + 127) / 64 * 64); }
static double x[NET_INPUTS], dy[NET_OUTPUTS], y[NET_OUTPUTS], dx[NET_INPUTS], dparams[NET_PARAMS];
static double jac[NET_OUTPUTS][NET_INPUTS], y2[NET_OUTPUTS], dx2[NET_INPUTS];
static double jac2[NET_INPUTS * NET_OUTPUTS];
static const double params[] = {%(params)s};
#define TIMED(k, call) { double begin = now(); for (int i = 0; i < calls; i++) { call; \
    __asm__ volatile("" ::: "memory"); } printf("%%d %%.3f\n", k, (now() - begin) / calls); }

int main(int argc, char **argv)
{
    int rounds = atoi(argv[1]), calls = argc > 2 ? atoi(argv[2]) : 1000;
    double *packed = room(NET_PACKED * sizeof(double));
    void *a = room(NET_WORK_BYTES), *b = room(NET_BACKWARD_WORK_BYTES);
    void *c = room(NET_JACOBIAN_WORK_BYTES);
    const double *arg[16] = {x, NULL, dy};
    double *res[16] = {y2};
    casadi_int s[4], iw[4096];
    size_t most = 0;
    own_work(s, s + 1, s + 2, s + 3);
    most = s[3];
    jac_own_work(s, s + 1, s + 2, s + 3);
    most = most > (size_t)s[3] ? most : (size_t)s[3];
    adj1_own_work(s, s + 1, s + 2, s + 3);
    most = most > (size_t)s[3] ? most : (size_t)s[3];
    double *w = room(most * sizeof(double));
    net_pack(params, packed);
    for (int i = 0; i < NET_INPUTS; i++) x[i] = sin(1 + i);
    for (int k = 0; k < NET_OUTPUTS; k++) dy[k] = cos(1 + k);
    for (int round = 0; round < rounds; round++) {
        TIMED(0, net_forward(x, packed, y, a))
        res[0] = y2;
        TIMED(4, own(arg, res, iw, w, 0))
        TIMED(1, net_backward(x, packed, dy, dx, NULL, b))
        res[0] = dx2;
        TIMED(5, adj1_own(arg, res, iw, w, 0))
        TIMED(2, net_backward(x, packed, dy, dx, dparams, b))
        TIMED(3, net_jacobian(x, packed, &jac[0][0], c))
        res[0] = jac2;
        TIMED(7, jac_own(arg, res, iw, w, 0))
    }
    double worst = 0;
    for (int k = 0; k < NET_OUTPUTS; k++) worst = fmax(worst, fabs(y[k] - y2[k]));
    for (int i = 0; i < NET_INPUTS; i++) worst = fmax(worst, fabs(dx[i] - dx2[i]));
    for (int p = 0; p < %(count)d; p++) {
        static const int row[] = {%(rows)s}, column[] = {%(columns)s};
        worst = fmax(worst, fabs(jac[row[p]][column[p]] - jac2[p]));
    }
    printf("worst %%.3g\n", worst);
}
"""


def nets():
    """Name: `.nal` text."""
    dense = {"activation": "tanh", "init": "xavier", "seed": 3}
    return {
        DENSE: net_file(ncc.new("fcn", 6, 32, 32, 4, **dense).graph, "nal"),
        "20-30-30-8, 4 edges a neuron, tanh": random_layers([20, 30, 30, 8], 4, seed=1,
                                                            activation="tanh"),
        "16-16-10, relu": net_file(ncc.new("fcn", 16, 16, 10, activation="relu", init="he",
                                           seed=3).graph, "nal"),
    }


def casadis(graph, folder):
    """C of the net, its Jacobian and its adjoint by CasADi; the places of the Jacobian's
    elements."""
    import casadi as ca

    meanings = {"identity": lambda a: a, "tanh": ca.tanh, "relu": lambda a: ca.fmax(a, 0),
                "sigmoid": lambda a: 1 / (1 + ca.exp(-a))}
    x = ca.SX.sym("x", graph.n_inputs)
    values = {int(i): x[k] for k, i in enumerate(graph.inputs)}
    table = np.concatenate([graph.values, graph.constants[::-1]])
    for j in np.argsort(graph.levels, kind="stable").tolist():
        if j not in values:
            acc = ca.SX(0 if graph.biases[j] == NONE else table[graph.biases[j]])
            for k in range(graph.starts[j], graph.starts[j + 1]):
                acc += table[graph.weights[k]] * values[int(graph.sources[k])]
            values[j] = meanings[name_of(int(graph.activations[j]))](acc)
    outputs = [values[j] for j in graph.outputs.tolist()]
    own = ca.Function("own", [x], [ca.vertcat(*outputs)], ["x"], ["y"])
    text = ca.CodeGenerator("own.c")
    for function in (own, own.jacobian(), own.reverse(1)):
        text.add(function)
    (folder / "own.c").write_text(text.dump())
    return own.jacobian().sparsity_out(0).get_triplet()


def measured(text, rounds, calls, folder):
    """{number of what: ns}, as the program prints them."""
    path = folder / "net.nal"
    path.write_text(text)
    if command(["build", str(path), "--jacobian", "--dtype", "f64", "--target", "native",
                "-o", str(folder / "net.o")]):
        sys.exit(1)
    graph = ncc.load(path).graph
    rows, columns = casadis(graph, folder)

    def listed(numbers):
        return ", ".join(map(repr, numbers)) or "0"

    (folder / "main.c").write_text(PROGRAM % {
        "params": listed(graph.values.tolist()), "rows": listed(rows),
        "columns": listed(columns), "count": len(rows)})
    subprocess.run(["gcc", "-O3", "-march=native", "-o", "program", "main.c", "own.c", "net.o",
                    "-lm"], cwd=folder, check=True)
    said = subprocess.run([folder / "program", str(rounds), str(calls)], check=True,
                          capture_output=True, text=True).stdout.split("\n")
    found = {}
    for line in said[:-1]:
        what, value = line.split()
        if what == "worst":
            assert float(value) <= 1e-12, f"results differ by {value}"
        else:
            found.setdefault(int(what), []).append(float(value))
    return {what: median(times) for what, times in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200, help="of some calls of each function")
    parser.add_argument("--quick", action="store_true", help="a small net, a few calls")
    arguments = parser.parse_args()
    wanted = nets()
    if arguments.quick:
        wanted = {"4-5-2, tanh": random_layers([4, 5, 2], 4, seed=1, activation="tanh")}
    missed = False
    print("| net, f64 | what | ns | forwards | CasADi's C, ns | ratio | target | met |\n"
          "| --- | --- | --: | --: | --: | --: | --- | --- |")
    for name, text in wanted.items():
        with tempfile.TemporaryDirectory() as folder:
            ns = measured(text, 2 if arguments.quick else arguments.rounds,
                          10 if arguments.quick else 500, Path(folder))
        for number, what in enumerate(WHAT):
            ours, theirs = ns[number], ns.get(number + 4)
            goal, met = "", ""
            if what == "jacobian":
                goal = f">= {SPEEDUP:.0f}x" + f", <= {JACOBIAN:.0f} ns" * (name == DENSE)
                good = theirs >= SPEEDUP * ours and (ours <= JACOBIAN or name != DENSE)
                met = "yes" if good else "no"
            elif what == "dx, dparams" and name == DENSE:
                goal, good = f"<= {BACKWARD:.0f} forwards", ours <= BACKWARD * ns[0]
                met = "yes" if good else "no"
            missed |= met == "no"
            beside = ("", "") if theirs is None else (f"{theirs:,.0f}", f"{theirs / ours:.1f}x")
            print(f"| {name} | {what} | {ours:,.0f} | {ours / ns[0]:.1f} | {beside[0]} | "
                  f"{beside[1]} | {goal} | {met} |", flush=True)
    if missed and not arguments.quick:
        sys.exit(1)


if __name__ == "__main__":
    main()
