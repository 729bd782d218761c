"""Nets with states from C: fenced in, and compared with the graph's interpreter, bit for bit."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from objects import FENCES, LANGUAGES, WARNINGS, build, compile_with, elf, run, same

import ncc
from ncc.cli import main
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import host

pytestmark = pytest.mark.skipif(
    not (host().triple.startswith("x86_64") and host().fma), reason="needs an x86-64-v3 machine")

DELAYS = """N 09
out 08,04
00
01
02 tanh 00:0.5,~02:0.25,~03:-1,~00:2
03 relu 02:1.5,01:-0.5,~01:1 +0.125
04 identity ~05:=1
05 identity ~06:=1
06 sigmoid 02:1,~06:-2
07 00 +=0.5
08 00 mul 03:1,~08:0.5,~07:1
"""
ROWS, STREAMS = 24, (0, 1, 5, 16, 33)
FUNCTIONS = {"net_pack", "net_reset", "net_forward", "net_forward_batch", "net_steps"}

# argv: place (end, start, heap). Writes y of ROWS samples by net_forward, with the state saved in
# the middle and the second half run again from there; by net_steps in two calls; then, for each
# number of streams, y of three steps by net_forward_batch and the state they leave.
DRIVER = FENCES + r"""
#ifdef EMBEDDED
#define PACKED
#else
#define PACKED packed,
#endif

int main(int count, char **arguments)
{
    static const size_t streams[] = {STREAMS};
    const size_t real = sizeof(REAL), half = ROWS / 2;
    REAL *x, *y, *state, *saved;
    void *work, *batch_work;
    size_t j, k;
#ifndef EMBEDDED
    REAL *params, *packed;
#endif
    if (count != 2)
        return 7;
    place = arguments[1][0];
#ifndef EMBEDDED
    params = (REAL *)buffer(real * NET_PARAMS, real, 0);
    packed = (REAL *)buffer(real * NET_PACKED, NET_ALIGN, 0);
    get(params, real * NET_PARAMS, "params.bin");
    net_pack(params, packed);
    seal(packed, real * NET_PACKED);
#endif
    work = buffer(NET_WORK_BYTES, NET_ALIGN, 0);
    batch_work = buffer(NET_BATCH_WORK_BYTES, NET_ALIGN, 0);
    x = (REAL *)buffer(real * NET_INPUTS * ROWS, real, 0);
    y = (REAL *)buffer(real * NET_OUTPUTS * ROWS, real, 0);
    state = (REAL *)buffer(NET_STATE_BYTES, real, 0);
    saved = (REAL *)buffer(NET_STATE_BYTES, real, 0);
    get(x, real * NET_INPUTS * ROWS, "x.bin");
    seal(x, real * NET_INPUTS * ROWS);
    net_reset(state);
    for (k = 0; k < ROWS; k++) {
        if (k == half)
            memcpy(saved, state, NET_STATE_BYTES);
        net_forward(x + k * NET_INPUTS, PACKED y + k * NET_OUTPUTS, state, work);
    }
    fwrite(y, real, NET_OUTPUTS * ROWS, stdout);
    memcpy(state, saved, NET_STATE_BYTES);
    for (k = half; k < ROWS; k++)
        net_forward(x + k * NET_INPUTS, PACKED y + k * NET_OUTPUTS, state, work);
    fwrite(y, real, NET_OUTPUTS * ROWS, stdout);
    net_reset(state);
    net_steps(half, x, PACKED y, state, work);
    net_steps(ROWS - half, x + half * NET_INPUTS, PACKED y + half * NET_OUTPUTS, state, work);
    fwrite(y, real, NET_OUTPUTS * ROWS, stdout);
    fwrite(state, real, NET_STATES, stdout);
    for (j = 0; j < sizeof streams / sizeof *streams; j++) {
        const size_t n = streams[j];
        REAL *few = (REAL *)buffer(real * NET_INPUTS * n, real, 0);
        REAL *made = (REAL *)buffer(real * NET_OUTPUTS * n, real, 0);
        REAL *held = (REAL *)buffer(NET_STATE_BYTES * n, real, 0);
        for (k = 0; k < n; k++)
            net_reset(held + k * NET_STATES);
        for (k = 0; k < 3; k++) {
            char name[32];
            snprintf(name, sizeof name, "x%d_%d.bin", (int)n, (int)k);
            get(few, real * NET_INPUTS * n, name);
            net_forward_batch(n, few, PACKED made, held, batch_work);
            if (n)
                fwrite(made, real, NET_OUTPUTS * n, stdout);
        }
        if (n)
            fwrite(held, real, NET_STATES * n, stdout);
    }
    return 0;
}
"""


def wanted(graph, x, many, dtype, numerics):
    """What the driver writes, by the interpreter."""
    real = DTYPES[dtype]
    state = np.zeros(len(graph.states), real)
    y = graph.run_steps(x, dtype=dtype, numerics=numerics, state=state)
    parts = [y, y, y, state]
    for xs in many:
        held = np.zeros((xs.shape[1], len(graph.states)), real)
        parts += [graph.run_steps(xs, dtype=dtype, numerics=numerics, state=held), held]
    return np.concatenate([part.reshape(-1) for part in parts])


def samples(folder, graph, dtype):
    rng, real = np.random.default_rng(5), DTYPES[dtype]
    x = rng.standard_normal((ROWS, graph.n_inputs)).astype(real)
    many = [rng.standard_normal((3, n, graph.n_inputs)).astype(real) for n in STREAMS]
    x.tofile(folder / "x.bin")
    graph.values.astype(real).tofile(folder / "params.bin")
    for n, xs in zip(STREAMS, many, strict=True):
        for k, rows in enumerate(xs):
            rows.tofile(folder / f"x{n}_{k}.bin")
    return x, many


def flags(dtype, embedded=False):
    return [f"-DREAL={'float' if dtype == 'f32' else 'double'}", f"-DROWS={ROWS}",
            f"-DSTREAMS={','.join(map(str, STREAMS))}", *["-DEMBEDDED"] * embedded]




CASES = [("f32", [], "c"), ("f64", ["--numerics", "strict"], "cpp"),
         ("f32", ["--form", "table", "--batch-form", "table"], "c"),
         ("f64", ["--form", "shared", "--batch-form", "shared", "-Os"], "c"),
         ("f32", ["--embed-weights"], "c"), ("f32", ["--cpu", "x86-64", "-O0"], "c")]


@pytest.mark.parametrize(("dtype", "options", "language"), CASES)
def test_objects_have_the_bits_of_the_interpreter(tmp_path, dtype, options, language):
    cpu = [] if "--cpu" in options else ["--cpu", "native"]
    data, header = build(tmp_path, DELAYS, *cpu, "--dtype", dtype, *options)
    undefined, defined, writable = elf(data)
    embedded = "--embed-weights" in options
    assert not undefined and not writable
    assert defined == FUNCTIONS - ({"net_pack"} if embedded else set())
    assert "#define NET_STATES" in header and "#define NET_STATE " not in header
    graph = ncc.parse(DELAYS).graph
    x, many = samples(tmp_path, graph, dtype)
    compile_with(tmp_path, DRIVER, ["net.o"], language, *flags(dtype, embedded))
    numerics = "strict" if "strict" in options or "x86-64" in options else "fused"
    want = wanted(graph, x, many, dtype, numerics)
    for place in ("end", "start"):
        same(np.frombuffer(run(tmp_path, place), DTYPES[dtype]), want)


def test_c_has_the_bits_of_the_interpreter(tmp_path):
    (tmp_path / "net.nal").write_text(DELAYS)
    for kind in ("c", "header"):
        assert main(["build", str(tmp_path / "net.nal"), "--emit", kind, "-o",
                     str(tmp_path / f"net.{'h' if kind == 'header' else kind}"),
                     "--cpu", "native"]) == 0
    done = subprocess.run(["gcc", "-std=c99", *WARNINGS, "-O2", "-mfma", "-c", "net.c", "-o",
                           "net.o"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    graph = ncc.parse(DELAYS).graph
    x, many = samples(tmp_path, graph, "f32")
    compile_with(tmp_path, DRIVER, ["net.o"], "c", *flags("f32"), "-lm")
    same(np.frombuffer(run(tmp_path, "end"), np.float32),
         wanted(graph, x, many, "f32", "fused"))


def test_a_large_state_is_reset_without_a_call(tmp_path):
    """Nothing makes the loop of `reset` a call of memset."""
    text = "\n".join(["N 201", "00", *[f"{k:x} identity ~{k - 1:x}:=1" for k in range(1, 0x201)]])
    for options in ([], ["-O3"], ["--target", "thumbv7em-none-eabihf"]):
        undefined, defined, writable = elf(build(tmp_path, text + "\n", *options)[0])
        assert not undefined and not writable and "net_reset" in defined


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_header_is_clean(tmp_path, language):
    build(tmp_path, DELAYS)
    compile_with(tmp_path, '#include "net.h"\nint main(void) { return 0; }\n', [], language)
