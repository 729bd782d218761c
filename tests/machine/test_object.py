"""The object and its header from outside: linked from C and C++, fenced in, compared by bits."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from nets import random_layers, some_net, to_nal
from objects import (
    AGGREGATES,
    EVERY,
    FENCES,
    FORWARD,
    FUNCTIONS,
    LANGUAGES,
    build,
    compile_with,
    elf,
    run,
    same,
)

import ncc
from ncc.cli import main
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import host

BATCHES = (0, 1, 7, 33)
ROWS = max(BATCHES)

# The object is for x86-64-v3, wherever it is built.
pytestmark = pytest.mark.skipif(
    not (host().triple.startswith("x86_64") and host().fma), reason="needs an x86-64-v3 machine")

# argv: place (end, start, heap), bytes that x and y are off their alignment.
DRIVER = FENCES + r"""
#ifdef EMBEDDED
#define WITH(packed)
#else
#define WITH(packed) packed,
#endif

int main(int count, char **arguments)
{
    static const size_t batches[] = {BATCHES};
    size_t k, off, n = ROWS;
    const size_t in = sizeof(REAL) * NET_INPUTS, out = sizeof(REAL) * NET_OUTPUTS;
    REAL *x, *y;
    void *work, *batch_work;
#ifndef EMBEDDED
    REAL *params, *packed;
#endif
    if (count != 3)
        return 7;
    place = arguments[1][0];
    off = (size_t)atoi(arguments[2]);
    work = buffer(NET_WORK_BYTES, NET_ALIGN, 0);
    batch_work = buffer(NET_BATCH_WORK_BYTES, NET_ALIGN, 0);
#ifndef EMBEDDED
    params = (REAL *)buffer(sizeof(REAL) * NET_PARAMS, sizeof(REAL), 0);
    packed = (REAL *)buffer(sizeof(REAL) * NET_PACKED, NET_ALIGN, 0);
    get(params, sizeof(REAL) * NET_PARAMS, "params.bin");
    seal(params, sizeof(REAL) * NET_PARAMS);
    net_pack(params, packed);
    seal(packed, sizeof(REAL) * NET_PACKED);
#endif
    x = (REAL *)buffer(in * n, 1, off);
    get(x, in * n, "x.bin");
    seal(x, in * n);
    y = (REAL *)buffer(out * n, 1, off);
    for (k = 0; k < n; k++)
        net_forward((const REAL *)((const char *)x + k * in), WITH(packed)
                    (REAL *)((char *)y + k * out), work);
    fwrite(y, 1, out * n, stdout);
    for (k = 0; k < sizeof batches / sizeof *batches; k++) {
        size_t m = batches[k];
        REAL *few_x = (REAL *)buffer(in * m, 1, off), *few_y = (REAL *)buffer(out * m, 1, off);
        if (m)
            memcpy((char *)few_x, (const char *)x, in * m);
        seal(few_x, in * m);
        net_forward_batch(m, few_x, WITH(packed) few_y, batch_work);
        if (m)
            fwrite(few_y, 1, out * m, stdout);
    }
    return 0;
}
"""


def samples(graph, real):
    x = np.random.default_rng(5).uniform(-4, 4, (ROWS, len(graph.inputs)))
    special = [0.0, -0.0, 1e-40, 88.5, -104.0, 709.5, 1e30, -np.inf, np.inf, np.nan]
    for k, value in enumerate(special):
        x[3 * k] = value
    return x.astype(real)


def linked(tmp_path, net, language, dtype, *options):
    """Build the net, link the driver to it; the samples, and what they must give."""
    data, header = build(tmp_path, net, "--dtype", dtype, *options)
    undefined, defined, writable = elf(data)
    embedded = "--embed-weights" in options
    assert not undefined and not writable
    assert defined == (FORWARD if embedded else FUNCTIONS)
    graph = ncc.parse(net).graph
    real = DTYPES[dtype]
    x = samples(graph, real)
    x.tofile(tmp_path / "x.bin")
    graph.values.astype(real).tofile(tmp_path / "params.bin")
    compile_with(tmp_path, DRIVER, ["net.o"], language,
                 f"-DREAL={'float' if dtype == 'f32' else 'double'}", f"-DROWS={ROWS}",
                 f"-DBATCHES={','.join(map(str, BATCHES))}", *["-DEMBEDDED"] * embedded)
    numerics = options[options.index("--numerics") + 1] if "--numerics" in options else "fused"
    y = graph.run(x, graph.values, dtype=dtype, numerics=numerics)
    expected = np.concatenate([y, *[y[:n] for n in BATCHES]])
    return expected, x, header


def check(tmp_path, expected, *arguments, under=()):
    y = np.frombuffer(run(tmp_path, *arguments, under=under), expected.dtype)
    same(y.reshape(expected.shape), expected)


LONG = random_layers([30, 40, 40, 3], 25, seed=7, activation="tanh", weights=True)  # is split
NETS = [EVERY, AGGREGATES, LONG, to_nal(some_net(3, max_neurons=24)),
        to_nal(some_net(4, max_neurons=24)), to_nal(some_net(8, max_neurons=30))]
CHOICES = list(itertools.product(
    ["f32", "f64"], ["strict", "fused"], ["straight", "table"], ["straight", "table"]))


@pytest.mark.parametrize("dtype, numerics, form, batch_form", CHOICES)
@pytest.mark.each_choice
def test_linked_objects_give_the_graphs_bits_and_stay_in_their_buffers(
        tmp_path, dtype, numerics, form, batch_form):
    k = CHOICES.index((dtype, numerics, form, batch_form))
    for j, net in enumerate(NETS):
        if j >= 2 and (k + k // 4) % 4 != j - 2:
            continue
        options = ["--numerics", numerics, "--form", form, "--batch-form", batch_form,
                   f"-O{(k + j) % 4}", *["--embed-weights"] * ((k + j) // 4 % 2)]
        expected, _, _ = linked(tmp_path, net, ("c", "cpp")[(k // 2 + j) % 2], dtype, *options)
        check(tmp_path, expected, "end", 0)
        check(tmp_path, expected, "start", 0)
        check(tmp_path, expected, "end", 1 + j)
        check(tmp_path, expected, "start", 3 + j)


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
@pytest.mark.parametrize("form", [pytest.param("straight", marks=pytest.mark.slow), "table",
                                  pytest.param("shared", marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.each_choice("form")
def test_memcheck_finds_nothing_with_work_of_just_the_stated_size(tmp_path, dtype, form):
    valgrind = ["valgrind", "-q", "--error-exitcode=9", "--partial-loads-ok=no"]
    for net in (AGGREGATES, LONG):
        expected, _, _ = linked(tmp_path, net, "c", dtype, "--form", form, "--batch-form", form)
        for batch in ("0", "3"):
            found = np.frombuffer(run(tmp_path, "heap", batch, under=valgrind), expected.dtype)
            # The tool's own arithmetic loses the sign of some zeros, by which another divides.
            same(np.abs(found).reshape(expected.shape), np.abs(expected))


def test_work_may_be_null_where_its_size_is_0(tmp_path):
    expected, _, header = linked(tmp_path, AGGREGATES, "c", "f32")
    assert re.search(r"NET_WORK_BYTES +0\b", header)
    check(tmp_path, expected, "end", 0)  # the driver gives NULL


TWO = r"""
#include "one.h"
#include "two.h"
#include "one.h"
#include <stdio.h>

int main(void)
{
    static const float x[ONE_INPUTS] = {0.5f, -1.25f, 2.0f};
    static const double u[TWO_INPUTS] = {0.5, -1.25, 2.0};
    static float y[ONE_OUTPUTS], y2[ONE_OUTPUTS];
    static double v[TWO_OUTPUTS];
    one_forward(x, y, NULL);
    two_forward(u, v, NULL);
    one_forward(x, y2, NULL);
    if (y[0] < y2[0] || y[0] > y2[0] || ONE_ABI_VERSION != 1 || TWO_ALIGN != 32)
        return 1;
    printf("%a %a\n", (double)y[0], v[0]);
    return 0;
}
"""


@pytest.mark.parametrize("language", LANGUAGES)
def test_two_nets_live_in_one_program(tmp_path, language):
    for name, dtype in (("one", "f32"), ("two", "f64")):
        data, _ = build(tmp_path, AGGREGATES, "--dtype", dtype, "--embed-weights", stem=name)
        assert elf(data)[1] == {f"{name}_forward", f"{name}_forward_batch"}
    compile_with(tmp_path, TWO, ["one.o", "two.o"], language)
    shown = [float.fromhex(v) for v in run(tmp_path).decode().split()]
    graph = ncc.parse(AGGREGATES).graph
    assert shown == [graph.run(np.array([[0.5, -1.25, 2]], DTYPES[d]), dtype=d)[0, 0]
                     for d in ("f32", "f64")]


THREADS = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net.h"

enum { THREADS = 4, ROUNDS = 300, ROWS = 19 };
static float x[ROWS * NET_INPUTS], y[ROWS * NET_OUTPUTS], params[NET_PARAMS];
static float packed[NET_PACKED] __attribute__((aligned(NET_ALIGN)));

static void evaluate(float *into, int single)
{
    char *held = (char *)malloc(NET_WORK_BYTES + NET_BATCH_WORK_BYTES + 2 * NET_ALIGN);
    char *work = held + (NET_ALIGN - (size_t)held % NET_ALIGN);
    size_t k;
    if (single)
        for (k = 0; k < ROWS; k++)
            net_forward(x + k * NET_INPUTS, packed, into + k * NET_OUTPUTS, work);
    else
        net_forward_batch(ROWS, x, packed, into, work);
    free(held);
}

static void *work_on(void *bad)
{
    static const size_t bytes = sizeof y;
    float *mine = (float *)malloc(bytes);
    int k;
    for (k = 0; k < ROUNDS; k++) {
        memset(mine, 0, bytes);
        evaluate(mine, k % 2);
        if (memcmp(mine, y, bytes))
            *(int *)bad = 1;
    }
    free(mine);
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    int bad[THREADS] = {0}, k, any = 0;
    for (k = 0; k < ROWS * NET_INPUTS; k++)
        x[k] = (float)(k % 17) / 8.0f - 1.0f;
    for (k = 0; k < NET_PARAMS; k++)
        params[k] = (float)(k % 13) / 16.0f - 0.375f;
    net_pack(params, packed);
    evaluate(y, 1);
    for (k = 0; k < THREADS; k++)
        if (pthread_create(&threads[k], NULL, work_on, &bad[k]))
            return 9;
    for (k = 0; k < THREADS; k++) {
        pthread_join(threads[k], NULL);
        any |= bad[k];
    }
    return any;
}
"""


@pytest.mark.parametrize("form", ["straight", "table", "shared"])
def test_threads_with_their_own_work_do_not_meet(tmp_path, form):
    build(tmp_path, LONG, "--form", form, "--batch-form", form)
    compile_with(tmp_path, THREADS, ["net.o"], "c", "-pthread")
    run(tmp_path)


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_whatever_the_hash_seed(tmp_path):
    kinds = "obj,llvm,asm,c,bc,ast,graph,plan,ssa,fwd,matrix,dot"
    net = tmp_path / "net.nal"
    net.write_text(to_nal(some_net(4, max_neurons=24)))
    seen = []
    for seed in ("0", "1", "4242"):
        out = tmp_path / f"out{seed}"
        out.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "ncc", "build", str(net), "-O0", "--emit", kinds, "-o",
             str(out)],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        seen.append({p.name: p.read_bytes() for p in sorted(out.iterdir())})
    assert len(seen[0]) == len(kinds.split(",")) + 1  # the header
    assert seen[0] == seen[1] == seen[2]


def test_a_shared_object_is_named_after_its_file_and_has_no_trace_of_where_it_was_made(tmp_path):
    (tmp_path / "net.nal").write_text(AGGREGATES)
    made = []
    for folder, name in (("a", "libnet.so"), ("b", "libnet.so"), ("b", "my,net.so.1")):
        (tmp_path / folder).mkdir(exist_ok=True)
        out = tmp_path / folder / name
        assert main(["build", str(tmp_path / "net.nal"), "--emit", "shared", "-o", str(out)]) == 0
        shown = subprocess.run(["readelf", "-dW", str(out)], capture_output=True, text=True).stdout
        assert re.search(r"SONAME.*\[(.*)\]", shown)[1] == name
        made.append(out.read_bytes())
    assert made[0] == made[1]
    assert str(tmp_path).encode() not in made[0]


@pytest.mark.parametrize("name", ["x86-64-v3", "aarch64", "cortex-m4f", "rv32imac", "i686"])
def test_the_file_of_an_object_is_the_net(tmp_path, name):
    """And not what LLVM calls a text that came from nowhere."""
    build(tmp_path, AGGREGATES, "--target", name, "--name", "own", stem="some net")
    shown = subprocess.run(["readelf", "-sW", str(tmp_path / "some net.o")], capture_output=True,
                           text=True).stdout
    assert re.findall(r" FILE .* (\S+)$", shown, re.MULTILINE) == ["own"]
    assert main(["build", str(tmp_path / "some net.nal"), "--name", "own", "--target", name,
                 "--emit", "asm", "-o", str(tmp_path / "x.s")]) == 0
    assert '.file\t"own"' in (tmp_path / "x.s").read_text()


# Every array just as aligned as the header wants it, and no more.
BARELY = r"""
#include <stdio.h>
#include <string.h>
#include "net.h"

enum { ROWS = 37, MORE = 128 };
NET_ALIGNED static unsigned char packed_room[NET_PACKED * sizeof(float) + MORE];
NET_ALIGNED static unsigned char work_room[NET_WORK_BYTES + NET_BATCH_WORK_BYTES + MORE];
static float x[ROWS * NET_INPUTS], y[ROWS * NET_OUTPUTS], z[ROWS * NET_OUTPUTS];
static float params[NET_PARAMS];

static void *barely(unsigned char *room)
{
    size_t off = 0;
    while (((size_t)(room + off)) % (2 * NET_ALIGN) != NET_ALIGN)
        off++;
    return room + off;
}

int main(void)
{
    float *packed = (float *)barely(packed_room);
    void *work = barely(work_room);
    int k;
    if ((size_t)packed_room % NET_ALIGN || (size_t)work_room % NET_ALIGN)
        return 2;
    for (k = 0; k < ROWS * NET_INPUTS; k++)
        x[k] = (float)(k % 17) / 8.0f - 1.0f;
    for (k = 0; k < NET_PARAMS; k++)
        params[k] = (float)(k % 13) / 16.0f - 0.375f;
    net_pack(params, packed);
    for (k = 0; k < ROWS; k++)
        net_forward(x + k * NET_INPUTS, packed, y + k * NET_OUTPUTS, work);
    net_forward_batch(ROWS, x, packed, z, work);
    return memcmp(y, z, sizeof y) != 0;
}
"""


@pytest.mark.parametrize("form", ["straight", "table", "shared"])
@pytest.mark.parametrize("name, align", [("x86-64", 16), ("x86-64-v3", 32), ("x86-64-v4", 64)])
@pytest.mark.each_choice
def test_memory_needs_no_more_alignment_than_the_targets_vectors(tmp_path, name, align, form):
    if host().vector_bits < 8 * align:
        pytest.skip(f"needs an {name} machine")
    _, header = build(tmp_path, LONG, "--target", name, "--form", form, "--batch-form", form)
    assert re.search(rf"#define NET_ALIGN +{align} ", header)
    for language in LANGUAGES:
        compile_with(tmp_path, BARELY, ["net.o"], language)
        run(tmp_path)


@pytest.mark.parametrize("name, dtype, align", [
    ("cortex-m4f", "f32", 4), ("cortex-m4f", "f64", 8), ("rv32imac", "f32", 4),
    ("wasm32", "f64", 8),
    ("aarch64", "f32", 16), ("i686", "f64", 16), ("rv64gc", "f32", 4),
])
def test_the_alignment_is_the_targets(tmp_path, name, dtype, align):
    _, header = build(tmp_path, AGGREGATES, "--target", name, "--dtype", dtype)
    assert re.search(rf"#define NET_ALIGN +{align} ", header)


@pytest.mark.parametrize("stem, prefix", [
    ("2-layers", "n2_layers"), ("int", "int"), ("a b", "a_b"), ("naïve", "na_ve"), ("_", "_"),
])
def test_any_stem_gives_names_that_c_takes(tmp_path, stem, prefix):
    data, header = build(tmp_path, AGGREGATES, "--embed-weights", stem=stem)
    assert f"void {prefix}_forward(" in header
    assert elf(data)[1] == {f"{prefix}_forward", f"{prefix}_forward_batch"}
    source = f'#include "{stem}.h"\nint main(void) {{ return {prefix.upper()}_INPUTS - 3; }}\n'
    for language in LANGUAGES:
        compile_with(tmp_path, source, [f"{stem}.o"], language)
        run(tmp_path)


@pytest.mark.parametrize("name", ["", "a b", "9x", "a;b", "naïve", "a\nb"])
def test_a_name_that_c_does_not_take_is_refused(tmp_path, capsys, name):
    net = tmp_path / "net.nal"
    net.write_text(AGGREGATES)
    assert main(["build", str(net), "-o", str(tmp_path / "net.o"), "--name", name]) == 2
    assert not (tmp_path / "net.o").exists()
    assert "error[" in capsys.readouterr().err
