"""CasADi's C interface of functions around a net's own: `casadi.external` calls the net, its
Jacobian and its adjoints (https://web.casadi.org/docs/#sec-external)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ncc.driver.compiler import Build, missing
from ncc.ir import csr
from ncc.ir.graph_run import dependence
from ncc.ir.ssa import Module
from ncc.machine.header import macro
from ncc.machine.header_docs import work_size


class _Port(NamedTuple):
    """An input or an output of a function: its name, and its sparsity as CasADi has it (rows,
    columns, 1 of a dense one, else where each column begins and the row of each element)."""

    name: str
    sparsity: Sequence[int]


class _Function(NamedTuple):
    """A function of CasADi's: its ports, the doubles of memory that it works in, and its lines."""

    name: str
    inputs: Sequence[_Port]
    outputs: Sequence[_Port]
    work: int
    lines: Sequence[str]


def casadi(build: Build, header: str | None) -> str:
    """C text: `NET`, and `jac_NET` and `adj1_NET` where the net has its Jacobian and its gradients,
    for the net's object, whose header has this name (None: it stands above the text).

    The parameters are constants, and all values doubles. An adjoint's second input, y, is not read.
    NccError E607 where a parameter has no value.
    """
    graph, module, name = build.graph, build.module, build.options["name"]
    missing(build.values, graph.n_params, "CasADi calls the net as it is: ")
    n_inputs, n_outputs = graph.n_inputs, len(graph.outputs)
    m, funcs = macro(name), {f.name for f in module.funcs}
    packed = "packed, " if "pack" in funcs else ""
    x, y = _Port("x", (n_inputs, 1, 1)), _Port("y", (n_outputs, 1, 1))
    unread = _Port("out_y", (n_outputs, 1, 0, 0))
    made = [_Function(name, [x], [y], _work(module, "forward"), [
        f"    if (res[0]) {name}_forward(given(arg[0]), {packed}res[0], aligned(w));"])]
    if "jacobian" in funcs:
        pattern = dependence(build.plan.graph)
        work = -(-_work(module, "jacobian") // 8) * 8
        made.append(_Function(
            f"jac_{name}", [x, unread], [_Port("jac_y_x", _columns(pattern))],
            work + pattern.size, [
                f"    double *jac = (double *)aligned(w) + {work};",
                "    if (!res[0]) return 0;",
                f"    {name}_jacobian(given(arg[0]), {packed}jac, aligned(w));",
                *_moved(pattern)]))
    if "backward" in funcs:
        made.append(_Function(
            f"adj1_{name}", [x, unread, _Port("adj_y", y.sparsity)], [_Port("adj_x", x.sparsity)],
            _work(module, "backward"), [
                f"    if (res[0]) {name}_backward(given(arg[0]), {packed}given(arg[2]), res[0],",
                "        NULL, aligned(w));"]))
    parts = [
        f"/* {name} as functions of CasADi: casadi.external(\"{name}\", \"./the_library.so\") */",
        *([] if header is None else [f'#include "{header}"']),
        _HEAD % {"m": m, "size": max(n_inputs, n_outputs, 1)},
        *([_packed(build)] if packed else []), *[_text(function) for function in made],
        "#ifdef __cplusplus\n}\n#endif"]
    return "\n".join(parts) + "\n"


_HEAD = """
#include <stddef.h>
#ifndef casadi_real
#define casadi_real double
#endif
#ifndef casadi_int
#define casadi_int long long int
#endif
#ifndef CASADI_SYMBOL_EXPORT
#if defined(_WIN32)
#define CASADI_SYMBOL_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define CASADI_SYMBOL_EXPORT __attribute__((visibility("default")))
#else
#define CASADI_SYMBOL_EXPORT
#endif
#endif
#ifdef __cplusplus
extern "C" {
#endif

/* An argument that is not given is 0. */
static const double zeros[%(size)d] = {0};
static const double *given(const double *arg) { return arg ? arg : zeros; }

/* The net's functions want memory that %(m)s_ALIGN divides; w has room for that. */
static void *aligned(double *w)
{
    return (char *)w + (%(m)s_ALIGN - (size_t)w %% %(m)s_ALIGN) %% %(m)s_ALIGN;
}
"""


def _work(module: Module, name: str) -> int:
    """Doubles of `work`."""
    return work_size(next(f for f in module.funcs if f.name == name))


def _packed(build: Build) -> str:
    """The parameters, in the order that the code reads them."""
    assert build.values is not None
    plan = build.plan
    table = np.concatenate([build.values, plan.constants[::-1]])
    values = [repr(v) for v in table[plan.packed].tolist()] or ["0"]
    return (f"static const double {macro(build.options['name'])}_ALIGNED packed[] = {{\n"
            + _wrapped(values, 8) + "\n};\n")


def _columns(pattern: np.ndarray) -> list[int]:
    """A pattern (rows, columns) as CasADi has it, column by column."""
    rows, columns = pattern.shape
    if pattern.all():
        return [rows, columns, 1]
    return [rows, columns, *csr.starts(pattern.sum(0)).tolist(),
            *np.nonzero(pattern.T)[1].tolist()]


def _moved(pattern: np.ndarray) -> list[str]:
    """`jac`, row by row, to what of it is in the pattern, column by column."""
    rows, columns = pattern.shape
    if pattern.all():
        return [f"    for (size_t i = 0; i < {columns}; i++)",
                f"        for (size_t o = 0; o < {rows}; o++)",
                f"            res[0][i * {rows} + o] = jac[o * {columns} + i];"]
    column, row = np.nonzero(pattern.T)
    places = [str(k) for k in (row * columns + column).tolist()] or ["0"]
    return [f"    static const unsigned places[] = {{\n{_wrapped(places, 16)}\n    }};",
            f"    for (size_t k = 0; k < {len(row)}; k++) res[0][k] = jac[places[k]];"]


def _wrapped(words: Sequence[str], count: int) -> str:
    return ",\n".join(["    " + ", ".join(words[k : k + count])
                       for k in range(0, len(words), count)])


def _text(f: _Function) -> str:
    """A function and what CasADi asks about it."""
    n = f.name
    lines = [f"CASADI_SYMBOL_EXPORT int {n}(const casadi_real **arg, casadi_real **res, "
             "casadi_int *iw,",
             "    casadi_real *w, int mem)", "{", "    (void)iw;", "    (void)mem;", *f.lines,
             "    return 0;", "}"]
    for way, ports in (("in", f.inputs), ("out", f.outputs)):
        lines.append(f"CASADI_SYMBOL_EXPORT casadi_int {n}_n_{way}(void) {{ return {len(ports)}; "
                     "}")
        names = ", ".join([f'"{port.name}"' for port in ports])
        lines += [f"CASADI_SYMBOL_EXPORT const char *{n}_name_{way}(casadi_int i)", "{",
                  f"    static const char *const names[] = {{{names}}};",
                  f"    return i >= 0 && i < {len(ports)} ? names[i] : NULL;", "}",
                  f"CASADI_SYMBOL_EXPORT const casadi_int *{n}_sparsity_{way}(casadi_int i)", "{"]
        for k, port in enumerate(ports):
            words = [str(number) for number in port.sparsity]
            lines.append(f"    static const casadi_int s{k}[] = {{\n{_wrapped(words, 16)}\n    }};")
        chosen = ", ".join([f"s{k}" for k in range(len(ports))])
        lines += [f"    static const casadi_int *const all[] = {{{chosen}}};",
                  f"    return i >= 0 && i < {len(ports)} ? all[i] : NULL;", "}"]
    # 8 doubles more, so that there is an aligned one to begin with.
    lines += [f"CASADI_SYMBOL_EXPORT int {n}_work(casadi_int *sz_arg, casadi_int *sz_res,",
              "    casadi_int *sz_iw, casadi_int *sz_w)", "{",
              f"    if (sz_arg) *sz_arg = {len(f.inputs)};",
              f"    if (sz_res) *sz_res = {len(f.outputs)};",
              "    if (sz_iw) *sz_iw = 0;", f"    if (sz_w) *sz_w = {f.work + 8};",
              "    return 0;", "}"]
    # Nothing is kept between calls: all of them share memory number 0, which is none.
    lines += [f"CASADI_SYMBOL_EXPORT int {n}_alloc_mem(void) {{ return 0; }}",
              f"CASADI_SYMBOL_EXPORT int {n}_init_mem(int mem) {{ (void)mem; return 0; }}",
              f"CASADI_SYMBOL_EXPORT void {n}_free_mem(int mem) {{ (void)mem; }}",
              f"CASADI_SYMBOL_EXPORT int {n}_checkout(void) {{ return 0; }}",
              f"CASADI_SYMBOL_EXPORT void {n}_release(int mem) {{ (void)mem; }}",
              f"CASADI_SYMBOL_EXPORT void {n}_incref(void) {{ }}",
              f"CASADI_SYMBOL_EXPORT void {n}_decref(void) {{ }}", ""]
    return "\n".join(lines)
