"""Gradients and training from C: fenced in, and compared with Python's and with the graph's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from gradients import close
from nets import random_layers, some_net, to_nal
from objects import (
    AGGREGATES,
    EVERY,
    FENCES,
    FUNCTIONS,
    LANGUAGES,
    TRAINING,
    build,
    compile_with,
    elf,
    run,
    same,
)

import ncc
from ncc.cli import main
from ncc.driver.settings import Settings
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import host
from ncc.scalar import losses
from ncc.training.step import TrainStep

BATCHES = (0, 1, 7, 33, 64, 100)
ROWS, SINGLES = max(BATCHES), 9
STEPS = 3
RATE = 0.05

pytestmark = pytest.mark.skipif(
    not (host().triple.startswith("x86_64") and host().fma), reason="needs an x86-64-v3 machine")

# argv: place (end, start, heap), bytes that x, dy, dx and target are off their alignment. Writes,
# for a sample at a time and then for each batch, dx and dparams for each choice of the two that
# are not NULL; where the object trains, then params, packed and state after STEPS steps of each.
DRIVER = FENCES + r"""
static size_t off;

static void *row(const void *base, size_t size, size_t k)
{
    return (char *)base + size * k;
}

/* A buffer of its own with what `from` holds. */
static REAL *copy(const void *from, size_t size, size_t align, size_t shift)
{
    void *p = buffer(size, align, shift);
    if (size)
        memcpy(p, from, size);
    return (REAL *)p;
}

static void put(const void *p, size_t size)
{
    if (p && size)
        fwrite(p, 1, size, stdout);
}

#ifdef NET_TARGETS
static REAL *zeros(size_t size)
{
    void *p = buffer(size, sizeof(REAL), 0);
    if (size)
        memset(p, 0, size);
    return (REAL *)p;
}
#endif

int main(int count, char **arguments)
{
    static const size_t batches[] = {BATCHES};
    const size_t real = sizeof(REAL), in = real * NET_INPUTS, out = real * NET_OUTPUTS;
    const size_t all = real * NET_PARAMS;
    size_t k, j, some;
    REAL *x, *dy, *params, *packed, *start;
    void *work, *batch_work;
    if (count != 3)
        return 7;
    place = arguments[1][0];
    off = (size_t)atoi(arguments[2]);
    work = buffer(NET_BACKWARD_WORK_BYTES, NET_ALIGN, 0);
    batch_work = buffer(NET_BACKWARD_BATCH_WORK_BYTES, NET_ALIGN, 0);
    params = (REAL *)buffer(all, real, 0);
    packed = (REAL *)buffer(real * NET_PACKED, NET_ALIGN, 0);
    start = (REAL *)buffer(all, real, 0);
    x = (REAL *)buffer(in * ROWS, 1, off);
    dy = (REAL *)buffer(out * ROWS, 1, off);
    get(params, all, "params.bin");
    get(start, all, "start.bin");
    get(x, in * ROWS, "x.bin");
    get(dy, out * ROWS, "dy.bin");
    seal(params, all);
    net_pack(params, packed);
    seal(packed, real * NET_PACKED);
    seal(x, in * ROWS);
    seal(dy, out * ROWS);
    for (some = 0; some < 4; some++) {
        REAL *dx = some & 1 ? (REAL *)buffer(in, 1, off) : NULL;
        REAL *dparams = some & 2 ? (REAL *)buffer(all, real, 0) : NULL;
        for (k = 0; k < SINGLES; k++) {
            if (dparams)
                memcpy(dparams, start, all);
            if (dx)
                memset(dx, 0xFF, in);
            net_backward((const REAL *)row(x, in, k), packed, (const REAL *)row(dy, out, k), dx,
                         dparams, work);
            put(dx, in);
            put(dparams, all);
        }
    }
    for (j = 0; j < sizeof batches / sizeof *batches; j++) {
        const size_t n = batches[j];
        REAL *few_x = copy(x, in * n, 1, off), *few_dy = copy(dy, out * n, 1, off);
        seal(few_x, in * n);
        seal(few_dy, out * n);
        for (some = 0; some < 4; some++) {
            REAL *dx = some & 1 ? (REAL *)buffer(in * n, 1, off) : NULL;
            REAL *dparams = some & 2 ? copy(start, all, real, 0) : NULL;
            net_backward_batch(n, few_x, packed, few_dy, dx, dparams, batch_work);
            put(dx, in * n);
            put(dparams, all);
        }
    }
#ifdef NET_TARGETS
    {
        const size_t aim = real * NET_TARGETS;
        REAL *target = (REAL *)buffer(aim * ROWS, 1, off);
        get(target, aim * ROWS, "target.bin");
        seal(target, aim * ROWS);
        work = buffer(NET_TRAIN_WORK_BYTES, NET_ALIGN, 0);
        batch_work = buffer(NET_TRAIN_BATCH_WORK_BYTES, NET_ALIGN, 0);
        for (j = 0; j < 1 + sizeof batches / sizeof *batches; j++) {
            const size_t n = j ? batches[j - 1] : STEPS;
            REAL *few_x = copy(x, in * n, 1, off), *few = copy(target, aim * n, 1, off);
            REAL *p = copy(params, all, real, 0), *state = zeros(real * NET_STATE);
            REAL *q = copy(packed, real * NET_PACKED, NET_ALIGN, 0);
            seal(few_x, in * n);
            seal(few, aim * n);
            for (k = 0; k < STEPS; k++)
                if (j)
                    net_train_step_batch(n, few_x, few, p, q, state, (REAL)RATE, batch_work);
                else
                    net_train_step((const REAL *)row(few_x, in, k),
                                   (const REAL *)row(few, aim, k), p, q, state, (REAL)RATE, work);
            put(p, all);
            put(q, real * NET_PACKED);
            put(state, real * NET_STATE);
            net_pack(p, packed == q ? NULL : q);
            put(q, real * NET_PACKED);
        }
    }
#endif
    return 0;
}
"""


class Case:
    """A net, the samples it is asked about, and the object's driver, built in `folder`."""

    def __init__(self, folder, net, dtype, *options, train=None, language="c"):
        self.folder, self.dtype, self.real = folder, dtype, DTYPES[dtype]
        more = ["--train", train] * bool(train)
        data, self.header = build(folder, net, "--cpu", "native", "--dtype", dtype, *options, *more)
        undefined, defined, writable = elf(data)
        assert not undefined and not writable
        assert defined == (TRAINING if train else FUNCTIONS)
        self.sizes = {k: int(v) for k, v in re.findall(r"#define NET_(\w+) +(\d+)", self.header)}
        self.graph = graph = ncc.parse(net).graph
        rng = np.random.default_rng(3)
        # Above 1, as EVERY takes the logarithm of a logarithm.
        x = rng.uniform(1.2, 2, (ROWS, len(graph.inputs)))
        self.x = x.astype(self.real)
        self.dy = rng.standard_normal((ROWS, len(graph.outputs))).astype(self.real)
        self.params = graph.values.astype(self.real)
        self.begin(np.zeros(graph.n_params))
        held = {"x": self.x, "dy": self.dy, "params": self.params}
        if train:
            self.loss, self.optimizer = train.split(",")
            width = self.sizes["TARGETS"]
            self.target = (rng.integers(0, len(graph.outputs), (ROWS, 1)).astype(self.real)
                           if self.loss == "ce"
                           else rng.uniform(0, 1, (ROWS, width)).astype(self.real))
            held["target"] = self.target
        for name, array in held.items():
            array.tofile(folder / f"{name}.bin")
        self.flags = [f"-DREAL={'float' if dtype == 'f32' else 'double'}", f"-DROWS={ROWS}",
                      f"-DBATCHES={','.join(map(str, BATCHES))}", f"-DSINGLES={SINGLES}",
                      f"-DSTEPS={STEPS}", f"-DRATE={RATE}"]
        compile_with(folder, DRIVER, ["net.o"], language, *self.flags)
        self.fused = "strict" not in options

    def begin(self, start):
        """What the driver's `dparams` hold before a call."""
        self.start = start.astype(self.real)
        self.start.tofile(self.folder / "start.bin")

    def __call__(self, place, off, under=()):
        """What the driver wrote: of each sample and of each batch a list of the four choices' (dx,
        dparams), None where NULL; of each training (params, packed, state, packed again)."""
        raw = np.frombuffer(run(self.folder, place, off, under=under), self.real)
        at = 0

        def take(*shape):
            nonlocal at
            at += int(np.prod(shape))
            assert at <= len(raw)
            return raw[at - int(np.prod(shape)) : at].reshape(shape)

        width, n_params = self.x.shape[1], len(self.params)

        def pair(some, n):
            return (take(n, width) if some & 1 else None, take(n_params) if some & 2 else None)

        single = [[pair(some, 1) for _ in range(SINGLES)] for some in range(4)]
        batch = {n: [pair(some, n) for some in range(4)] for n in BATCHES}
        trained = []
        if hasattr(self, "target"):
            packed = self.sizes["PACKED"]
            trained = [(take(n_params), take(packed), take(self.sizes["STATE"]), take(packed))
                       for _ in range(1 + len(BATCHES))]
        assert at == len(raw)
        return single, batch, trained


def as_python(case, single, batch, form):
    """The gradients are those of vjp, bit for bit, and nearly the graph's. They are compiled at
    -O0, which takes a fifth of the time and changes no bit: the object's level is the case's."""
    numerics = "fused" if case.fused else "strict"
    fn = ncc.Compiled(case.graph, case.params, dtype=case.dtype, numerics=numerics, opt=0,
                      passes={"backward_form": form, "limit": False})
    for k in range(0, SINGLES, 4):
        dx, dparams = fn.vjp(case.x[k])[1](case.dy[k])
        for some in range(4):
            got = single[some][k]
            assert (got[0] is None, got[1] is None) == (not some & 1, not some & 2)
            if some & 1:
                same(got[0][0], dx)
            if some & 2:
                same(got[1], dparams)
    for n in BATCHES:
        dx, dparams = fn.vjp(case.x[:n])[1](case.dy[:n])
        for some in range(4):
            if some & 1:
                same(batch[n][some][0], dx)
            if some & 2:
                same(batch[n][some][1], dparams)
        close(batch[n][3], case.graph.gradient(case.x[:n], case.dy[:n], case.params, dtype="f64"),
              2e-4 if case.dtype == "f32" else 1e-11)


LONG = random_layers([16, 30, 30, 3], 16, seed=7, activation="tanh", weights=True)  # is split
TIES = to_nal(some_net(4, max_neurons=24))
NETS = {"every": EVERY, "aggregates": AGGREGATES, "long": LONG, "ties": TIES}
SMALL = random_layers([7, 12, 12, 4], 6, seed=3, activation="tanh", weights=True)
FORMS = ("straight", "table")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "long"))
                                  for name in NETS])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.each_choice
def test_gradients_are_pythons_and_stay_in_their_buffers(tmp_path, dtype, form, name):
    k = 2 * [*NETS].index(name) + FORMS.index(form) + [*DTYPES].index(dtype)
    case = Case(tmp_path, NETS[name], dtype, "--backward-form", form, f"-O{k % 4}",
                "--numerics", ("strict", "fused")[k // 2 % 2], language=("c", "cpp")[k % 2])
    first = case("end", 0)
    as_python(case, *first[:2], form)
    for place, off in (("start", 0), ("end", 1 + k), ("start", 3 + k)):
        single, batch, _ = case(place, off)
        for some in range(4):
            for a, b in zip([*single[some], *[batch[n][some] for n in BATCHES]],
                            [*first[0][some], *[first[1][n][some] for n in BATCHES]], strict=True):
                for left, right in zip(a, b, strict=True):
                    assert (left is None) == (right is None)
                    if left is not None:
                        same(left, right)


@pytest.mark.parametrize("form", [pytest.param("straight", marks=pytest.mark.slow), "table"])
def test_dparams_is_added_to_and_dx_is_not(tmp_path, form):
    case = Case(tmp_path, LONG, "f64", "--backward-form", form)
    made = [case("end", 0)]
    assert not np.any(case.start)
    case.begin(np.random.default_rng(4).standard_normal(len(case.start)))
    made.append(case("end", 0))
    for some in (2, 3):
        for k in range(SINGLES):
            np.testing.assert_allclose(made[1][0][some][k][1] - case.start,
                                       made[0][0][some][k][1], rtol=0, atol=1e-11)
        for n in BATCHES:
            np.testing.assert_allclose(made[1][1][n][some][1] - case.start,
                                       made[0][1][n][some][1], rtol=0, atol=1e-10)
            assert n or np.array_equal(made[1][1][n][some][1], case.start)
    for n in BATCHES:
        same(made[1][1][n][3][0], made[0][1][n][3][0])


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype, train", [("f32", "ce,adam"), ("f64", "huber,sgd:momentum=0.9")])
@pytest.mark.slow
def test_memcheck_finds_nothing_in_gradients_and_training(tmp_path, dtype, train, form):
    valgrind = ["valgrind", "-q", "--error-exitcode=9", "--partial-loads-ok=no"]
    case = Case(tmp_path, SMALL, dtype, "--backward-form", form, "--cpu", "x86-64-v3", train=train)
    case("heap", 0, under=valgrind)
    case("heap", 3, under=valgrind)


def test_a_batch_of_a_net_with_sizes_0(tmp_path):
    """No parameters, or no inputs: the pointers of what is empty are NULL."""
    for k, net in enumerate(("N 3\n00\n01\n02 tanh 00:=1,01:=2\n",
                             "N 2\nout 01\n00 00 +0.5\n01 tanh 00:2\n")):
        folder = tmp_path / str(k)
        folder.mkdir()
        single, batch, _ = (case := Case(folder, net, "f64", train="mse,sgd"))("end", 0)
        as_python(case, single, batch, "auto")


# ---- training


def loss_of(case, params, n):
    """The mean loss of the first n samples, in float64, by numpy."""
    y = case.graph.run(case.x[:n].astype(np.float64), params.astype(np.float64), dtype="f64")
    t = case.target[:n].astype(np.float64)
    if case.loss == "ce":
        z = y - y.max(axis=1, keepdims=True)
        chosen = np.take_along_axis(z, t.astype(int), 1)[:, 0]
        return float(np.mean(np.log(np.exp(z).sum(axis=1)) - chosen))
    d = y - t
    return float(np.mean({
        "mse": d * d, "mae": abs(d),
        "huber": np.where(abs(d) <= 1, d * d / 2, abs(d) - 0.5),
        "bce": np.maximum(y, 0) - y * t + np.log1p(np.exp(-abs(y)))}[case.loss]))


TRAINED = [("mse,sgd", "f32"), ("mae,sgd:momentum=0.9:nesterov=1", "f64"), ("huber,rmsprop", "f64"),
           ("bce,adamw", "f64"), ("ce,adam", "f64"),
           ("ce,sgd:momentum=0.9:weight_decay=0.01", "f32")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("train, dtype", [
    pytest.param(*row, marks=[pytest.mark.slow] * (k < 3)) for k, row in enumerate(TRAINED)])
@pytest.mark.each_choice("dtype", "form")
def test_steps_of_training_are_pythons_and_stay_in_their_buffers(tmp_path, monkeypatch, train,
                                                                 dtype, form):
    # The trainers below are one object.
    monkeypatch.setenv("NCC_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setenv("NCC_CACHE_SIZE", "64M")
    k = [t[0] for t in TRAINED].index(train)
    case = Case(tmp_path, SMALL, dtype, "--backward-form", form, train=train,
                language=("c", "cpp")[k % 2])
    trained = case("end", 0)[2]
    for place, off in (("start", 1 + k), ("end", 3)):
        for a, b in zip(case(place, off)[2], trained, strict=True):
            for left, right in zip(a, b, strict=True):
                same(left, right)
    rel = 2e-5 if dtype == "f32" else 1e-9
    # The first are of one sample after the other; with those of 0 samples nothing has a slope.
    parts = [[slice(s, s + 1) for s in range(STEPS)]] + [[slice(0, n)] * STEPS for n in BATCHES]
    for n, steps, (params, packed, state, again) in zip((1, *BATCHES), parts, trained, strict=True):
        same(packed, again)
        trainer = TrainStep(case.graph, *train.split(","), params=case.params, threads=1,
                          settings=Settings(dtype, passes={"backward_form": form}))
        for at in steps:
            before = trainer.params
            mean = trainer.step(case.x[at], case.target[at], RATE)
        close((params, state[1:]), (trainer.params, trainer.state), rel, (train, n))
        assert abs(state[0] - mean) <= rel * max(1.0, abs(mean))
        if n > 1:
            wanted = loss_of(case, before, n)
            assert abs(state[0] - wanted) <= 10 * rel * max(1.0, abs(wanted))
        assert n == 0 or np.any(params != case.params)


def test_training_from_c_learns(tmp_path):
    """The loss of each step is below the one before, and the state says so."""
    program = r"""
#include <stdio.h>
#include "net.h"
static float packed[NET_PACKED], state[NET_STATE];
static union { unsigned char bytes[NET_TRAIN_BATCH_WORK_BYTES + 1]; double d; } room
    __attribute__((aligned(NET_ALIGN)));
int main(void)
{
    static const float x[8] = {0, 0, 0, 1, 1, 0, 1, 1}, t[4] = {0, 1, 1, 0};
    float params[NET_PARAMS] = {1, -1, 0.5f, -1, 1, 0.5f, 1, 1, -1}, last = 1e9f;
    int k;
    net_pack(params, packed);
    for (k = 0; k < 400; k++) {
        net_train_step_batch(4, x, t, params, packed, state, 0.3f, &room);
        if (k % 40 == 0) {
            if (state[0] >= last)
                return 1;
            last = state[0];
        }
    }
    printf("%g\n", (double)last);
    return state[0] > 0.05f;
}
"""
    build(tmp_path, "N 05\n00\n01\n02 tanh 00,01 +\n03 tanh 00,01 +\n04 0 02,03 +\n",
          "--train", "bce,sgd:momentum=0.5")
    (tmp_path / "main.c").write_text(program)
    done = subprocess.run(["gcc", "-O1", str(tmp_path / "main.c"), str(tmp_path / "net.o"), "-o",
                           str(tmp_path / "main")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 0 < float(run(tmp_path)) < 0.05


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype, train", [
    pytest.param("f32", "ce,sgd:momentum=0.9", marks=pytest.mark.slow), ("f64", "bce,adam")])
@pytest.mark.each_choice("dtype")
def test_the_c_file_gives_the_same_gradients_and_steps(tmp_path, dtype, train, form):
    case = Case(tmp_path, SMALL, dtype, "--backward-form", form, train=train)
    made = case("end", 0)
    # Its header is its own: without vectors, work has another size.
    assert main(["build", str(tmp_path / "net.nal"), "--emit", "c,header", "-o", str(tmp_path),
                 "--cpu", "native", "--dtype", dtype, "--backward-form", form,
                 "--train", train]) == 0
    done = subprocess.run([*LANGUAGES["c"], "-O2", "-mfma", "-fno-math-errno", "-c",
                           str(tmp_path / "net.c"), "-o", str(tmp_path / "net.o")],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    compile_with(tmp_path, DRIVER, ["net.o"], "c", *case.flags)
    again = case("end", 0)
    rel = 1e-5 if dtype == "f32" else 1e-11
    for some in range(4):
        for k in range(SINGLES):  # of one sample there is one order
            for a, b in zip(again[0][some][k], made[0][some][k], strict=True):
                if a is not None:
                    same(a, b)
        for n in BATCHES:
            a, b = again[1][n][some], made[1][n][some]
            if some & 1:
                same(a[0], b[0])
            if some & 2:
                close(a[1:], b[1:], rel)
    for a, b in zip(again[2], made[2], strict=True):
        close(a, b, rel * 10)


# ---- the object


def test_the_same_input_gives_the_same_training_whatever_the_hash_seed(tmp_path):
    net = tmp_path / "net.nal"
    net.write_text(TIES)
    seen = []
    for seed in ("0", "1", "4242"):
        out = tmp_path / f"out{seed}"
        out.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "ncc", "build", str(net), "--emit", "obj,c,ssa,llvm", "--train",
             "huber:delta=2,adam", "--no-cache", "-o", str(out)],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        seen.append({p.name: p.read_bytes() for p in sorted(out.iterdir())})
    assert len(seen[0]) == 5
    assert seen[0] == seen[1] == seen[2]


def test_a_linker_drops_the_functions_that_nobody_calls(tmp_path):
    build(tmp_path, LONG, "--train", "mse,adam")
    (tmp_path / "main.c").write_text(
        '#include "net.h"\nint main(void)\n{\n'
        "    static float x[NET_INPUTS], y[NET_OUTPUTS], packed[NET_PACKED] "
        "__attribute__((aligned(64)));\n"
        "    static char work[NET_WORK_BYTES + 1] __attribute__((aligned(64)));\n"
        "    net_forward(x, packed, y, work);\n    return y[0] > 1;\n}\n")
    sizes, names = [], []
    for flags in ([], ["-Wl,--gc-sections"]):
        done = subprocess.run(["gcc", "-O1", *flags, str(tmp_path / "main.c"),
                               str(tmp_path / "net.o"), "-o", str(tmp_path / "main")],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        run(tmp_path)
        sizes.append(os.path.getsize(tmp_path / "main"))
        shown = subprocess.run(["nm", str(tmp_path / "main")], capture_output=True, text=True)
        names.append(set(re.findall(r"\b(net_\w+)$", shown.stdout, re.M)) & TRAINING)
    assert names == [TRAINING, {"net_forward"}]
    kept, dropped = sizes
    object_size = os.path.getsize(tmp_path / "net.o")
    assert dropped < kept - object_size / 3, (sizes, object_size)


@pytest.mark.parametrize("language", LANGUAGES)
def test_gradients_of_two_nets_live_in_one_program(tmp_path, language):
    for name, dtype in (("one", "f32"), ("two", "f64")):
        build(tmp_path, AGGREGATES, "--dtype", dtype, "--train", "mse,sgd", stem=name)
    source = """#include "one.h"
#include "two.h"
#include "one.h"
int main(void)
{
    static const float x[ONE_INPUTS] = {0}, dy[ONE_OUTPUTS] = {0};
    static const double u[TWO_INPUTS] = {0}, t[TWO_TARGETS] = {0};
    static float packed[ONE_PACKED];
    static double params[TWO_PARAMS], held[TWO_PACKED], state[TWO_STATE];
    static char work[TWO_TRAIN_WORK_BYTES + ONE_BACKWARD_WORK_BYTES + 8];
    one_backward(x, packed, dy, NULL, NULL, work);
    two_train_step(u, t, params, held, state, 0.0, work);
    return state[0] < 0;
}
"""
    compile_with(tmp_path, source, ["one.o", "two.o"], language)
    run(tmp_path)


# ---- the command


@pytest.mark.parametrize("words", [
    ["--train", "mse"], ["--train", "zork,adam"], ["--train", "mse,zork"],
    ["--train", "mse,adam", "--no-backward"], ["--train", "mse,adam", "--embed-weights"],
    ["--backward", "--embed-weights"], ["--train", "huber:delta=-1,adam"],
    ["--train", "ce,adam", "--outputs", "09"], ["--backward-form", "dense"],
])
def test_a_wrong_way_to_ask_for_training_is_exit_2(tmp_path, capsys, words):
    net = tmp_path / "net.nal"
    net.write_text(AGGREGATES)
    assert main(["build", str(net), "-o", str(tmp_path / "net.o"), *words]) == 2
    assert not (tmp_path / "net.o").exists()
    assert "error" in capsys.readouterr().err


def test_what_the_object_has_is_what_was_asked_for(tmp_path):
    forward = {"net_pack", "net_forward", "net_forward_batch"}
    for words, wanted in (([], FUNCTIONS), (["--no-backward"], forward),
                          (["--embed-weights"], forward - {"net_pack"}),
                          (["--train", "mae,rmsprop"], TRAINING)):
        data, header = build(tmp_path, AGGREGATES, *words)
        assert elf(data)[1] == wanted
        named = set(re.findall(r"^void (net_\w+)\(", header, re.M))
        assert named == wanted
        macros = set(re.findall(r"#define NET_(\w+_WORK_BYTES)", header))
        assert ("BACKWARD_WORK_BYTES" in macros) == ("net_backward" in wanted)
        assert ("TRAIN_BATCH_WORK_BYTES" in macros) == ("net_train_step" in wanted)


def test_the_sizes_in_the_header(tmp_path):
    for train, targets, state in (("mse,sgd", 4, 1), ("ce,sgd:momentum=0.9", 1, None),
                                  ("bce,adam", 4, None)):
        _, header = build(tmp_path, SMALL, "--train", train)
        sizes = {k: int(v) for k, v in re.findall(r"#define NET_(\w+) +(\d+)", header)}
        assert sizes["TARGETS"] == targets == losses.targets(
            losses.parse(train.split(",")[0]), sizes["OUTPUTS"])
        trainer = TrainStep(ncc.parse(SMALL).graph, *train.split(","))
        assert sizes["STATE"] == 1 + len(trainer.state)
        assert state is None or sizes["STATE"] == state
