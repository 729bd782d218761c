"""The object of an engine from outside: in C and C++, on every target, on images of every net."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from engines import emitted, images, nets, run, written
from objects import FENCES, LANGUAGES, same, symbols
from simulators import RUNS, SYSTEM, bits, simulated, tools

import ncc
from ncc.cli import main
from ncc.errors import Source
from ncc.images.check import NUMBER
from ncc.images.image import AT, image
from ncc.images.kinds_text import read
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import host
from ncc.machine.targets import TARGETS

KINDS = "mean:sigmoid,max:tanh,sum:relu,sum:sigmoid,sum:tanh,min:x*sin(x)"
FUNCTIONS = {"net_engine_check", "net_forward_nets", "net_forward_batch_nets"}
BATCHES = (0, 1, 7, 131)
REALS = {"f32": "float", "f64": "double"}
# argv: place (end, start, heap), bytes that x and y are off their alignment, images.
DRIVER = FENCES + r"""
static long size_of(const char *path)
{
    FILE *file = fopen(path, "rb");
    long size;
    if (!file || fseek(file, 0, SEEK_END) || (size = ftell(file)) < 0)
        exit(8);
    fclose(file);
    return size;
}

int main(int count, char **arguments)
{
    static const size_t batches[] = {BATCHES};
    size_t k, off;
    int a;
    if (count < 4)
        return 7;
    place = arguments[1][0];
    off = (size_t)atoi(arguments[2]);
    for (a = 3; a < count; a++) {
        size_t bytes = (size_t)size_of(arguments[a]), in, out, n = ROWS;
        void *image = buffer(bytes, NET_IMAGE_ALIGN, 0), *work, *batch_work;
        REAL *x, *y;
        get(image, bytes, arguments[a]);
        seal(image, bytes);
        if (net_engine_check(image, bytes))
            return 6;
        in = sizeof(REAL) * net_inputs(image);
        out = sizeof(REAL) * net_outputs(image);
        x = (REAL *)buffer(in * n, 1, off);
        get(x, in * n, "x.bin");
        seal(x, in * n);
        work = buffer(net_work_bytes(image), NET_ALIGN, 0);
        batch_work = buffer(net_batch_work_bytes(image), NET_ALIGN, 0);
        y = (REAL *)buffer(out * n, 1, off);
        for (k = 0; k < n; k++)
            net_forward(image, (const REAL *)((const char *)x + k * in),
                        (REAL *)((char *)y + k * out), work);
        fwrite(y, 1, out * n, stdout);
        for (k = 0; k < sizeof batches / sizeof *batches; k++) {
            size_t m = batches[k];
            REAL *few_x = (REAL *)buffer(in * m, 1, off), *few_y = (REAL *)buffer(out * m, 1, off);
            if (m)
                memcpy((char *)few_x, (const char *)x, in * m);
            seal(few_x, in * m);
            net_forward_batch(image, m, few_x, few_y, batch_work);
            if (m)
                fwrite(few_y, 1, out * m, stdout);
        }
    }
    return 0;
}
"""


def samples(rows, inputs, real):
    x = np.random.default_rng(5).uniform(-4, 4, (rows, inputs))
    for k, value in enumerate([0.0, -0.0, 1e-40, 88.5, -104.0, 1e30, -np.inf, np.inf, np.nan]):
        x[3 * k] = value
    return x.astype(real)


def alike(seeds, inputs=3, most=8):
    """Graphs of random nets with so many inputs."""
    return [g for g in nets(seeds) if len(g.inputs) == inputs][:most]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("numerics", ["strict", "fused"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.each_choice
def test_images_give_the_graphs_bits_and_stay_in_their_buffers(tmp_path, dtype, numerics, language):
    if numerics == "fused" and dtype not in host().fma:
        pytest.skip("needs a fused multiply-add")
    graphs = alike(range(200))
    kinds, made = images(graphs, dtype)
    engine = emitted(kinds, dtype, numerics=numerics)
    written(tmp_path, engine)
    undefined, defined, writable, _ = symbols(engine.made.code)
    assert (undefined, defined, writable) == (set(), FUNCTIONS, [])
    paths = [f"{k}.image" for k in range(len(made))]
    for path, block in zip(paths, made, strict=True):
        block.tofile(tmp_path / path)
    rows = max(BATCHES)
    x = samples(rows, 3, DTYPES[dtype])
    x.tofile(tmp_path / "x.bin")
    (tmp_path / f"main.{language}").write_text(DRIVER)
    run(*LANGUAGES[language], "-O1", f"-DREAL={REALS[dtype]}", f"-DROWS={rows}",
        f"-DBATCHES={','.join(map(str, BATCHES))}", f"main.{language}", "net.o", "-o", "main",
        cwd=tmp_path)
    ys = [g.run(x, g.values, dtype=dtype, numerics=numerics) for g in graphs]
    wanted = np.concatenate([part.reshape(-1) for y in ys
                             for part in (y, *[y[:n] for n in BATCHES])])
    for place, off in (("end", 0), ("start", 0), ("end", 1), ("start", 3)):
        out = run("./main", place, off, *paths, cwd=tmp_path)
        same(np.frombuffer(out, wanted.dtype), wanted)


MANY = r"""
#include <stdio.h>
#include <string.h>
#include "net.h"
#include "data.h"

int main(void)
{
    static NET_IMAGE_ALIGNED unsigned char images[sizeof image_bits];
    static NET_ALIGNED float work[WORK];
    static float y[3 * N * OUTPUTS];
    const float *x = (const float *)x_bits;
    const uint32_t nets[] = {3, INPUTS, OUTPUTS, FIRST, SECOND, THIRD};
    memcpy(images, image_bits, sizeof images);
    net_forward_batch_nets(N, nets, (const uint32_t *)images, (const float *)images, x, y, work);
    fwrite(y, 1, sizeof y, stdout);
    net_forward_nets(nets, (const uint32_t *)images, (const float *)images, x, y, work);
    fwrite(y, 1, 3 * OUTPUTS * sizeof *y, stdout);
    return 0;
}
"""


def test_images_side_by_side_are_evaluated_in_one_call(tmp_path):
    by_shape = {}
    for g in nets(range(120)):
        by_shape.setdefault((len(g.inputs), len(g.outputs)), []).append(g)
    (n_in, n_out), graphs = max(by_shape.items(), key=lambda item: len(item[1]))
    graphs = graphs[:3]
    kinds, made = images(graphs, "f32")
    engine = emitted(kinds, numerics="strict")
    written(tmp_path, engine)
    x = samples(37, n_in, np.float32)
    places = np.cumsum([0, *[len(block) // 4 for block in made]])
    work = engine.lanes * max(g.n_neurons for g in graphs)
    (tmp_path / "data.h").write_text(
        f"enum {{ N = 37, INPUTS = {n_in}, OUTPUTS = {n_out}, WORK = {work}, "
        f"FIRST = {places[0]}, SECOND = {places[1]}, THIRD = {places[2]} }};\n"
        + bits("image_bits", np.concatenate(made).view(np.uint32)) + bits("x_bits", x))
    (tmp_path / "main.c").write_text(MANY)
    run("gcc", "-std=c99", "-O1", "-fno-strict-aliasing", "main.c", "net.o", "-o", "main",
        cwd=tmp_path)
    out = np.frombuffer(run("./main", cwd=tmp_path), np.float32)
    wanted = np.stack([g.run(x, g.values, dtype="f32", numerics="strict") for g in graphs])
    same(out[: wanted.size].reshape(wanted.shape), wanted)
    same(out[wanted.size :].reshape(3, n_out), wanted[:, 0])


# ---- every target


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in TARGETS if TARGETS[name].index_bits > 16])
@pytest.mark.each_choice
def test_every_target_has_an_engine_that_calls_only_what_its_header_lists(tmp_path, name, dtype):
    engine = emitted(read(Source("--kinds", KINDS)), dtype, TARGETS[name])
    header = engine.header()
    assert engine.footprint().startswith("flash ")
    assert f'NET_TARGET        "{name}"' in header
    if name == "wasm32":
        assert engine.made.code[:4] == b"\0asm" and "STACK" not in header
        return
    undefined, defined, writable, _ = symbols(engine.made.code)
    assert defined == FUNCTIONS and not writable
    undefined -= {"_GLOBAL_OFFSET_TABLE_", "_fltused", "__chkstk", "___chkstk_ms"}
    listed = set(re.findall(r"^ \*     (__\w+)$", header, re.MULTILINE))
    assert undefined <= listed
    assert bool(undefined) == (dtype in TARGETS[name].soft)
    assert re.search(r"^#define NET_STACK_BYTES +\d+ ", header, re.MULTILINE)


def test_an_engine_is_small_where_flash_is():
    """A bound that whoever makes the code larger has to move knowingly."""
    takes = emitted(read(Source("--kinds", KINDS)), "f32", TARGETS["cortex-m4f"]).footprint()
    assert int(re.match(r"flash (\d+) ", takes)[1]) < 5000, takes


ON_TARGETS = SYSTEM.join(('#include "net.h"\n#include "data.h"\n', r"""
static unsigned char NET_ALIGNED work[BYTES];
static REAL y[2 * N * OUTPUTS];
static NET_IMAGE_ALIGNED uint32_t copy[sizeof image_bits / 4];

void _start(void)
{
    const REAL *x = (const REAL *)x_bits;
    int reasons[4];
    unsigned k;
    reasons[0] = net_engine_check(image_bits, sizeof image_bits);
    if (net_work_bytes(image_bits) > sizeof work || net_batch_work_bytes(image_bits) > sizeof work)
        call(EXIT, 1, 0, 0);
    for (k = 0; k < N; k++)
        net_forward(image_bits, x + k * net_inputs(image_bits), y + k * OUTPUTS, work);
    net_forward_batch(image_bits, N, x, y + N * OUTPUTS, work);
    for (k = 0; k < sizeof image_bits / 4; k++)
        copy[k] = image_bits[k];
    copy[40] ^= 64;
    reasons[1] = net_engine_check(copy, sizeof copy);
    copy[40] ^= 64;
    reasons[2] = net_engine_check(copy, sizeof copy - 4);
    reasons[3] = net_engine_check(forged_bits, sizeof copy);
    put(y, (long)sizeof y);
    put(reasons, (long)sizeof reasons);
    call(EXIT, 0, 0, 0);
    for (;;) {}
}
"""))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.each_choice
def test_targets_give_the_bits_of_the_host(tmp_path, name, dtype):
    tools(name)
    real = np.dtype(DTYPES[dtype])
    kinds = read(Source("--kinds", KINDS + ",sum:x"))
    graph = ncc.parse("N 0a\nfn 20 x*sin(x)\n00\n01\n02\n03 relu 00:0.5,01:1.5,02:-2 +0.25\n"
                      "04 sigmoid mean 00:1,03:1,02:0.3\n05 tanh max 00:1,01:=-1,02@k:0.75 +@k\n"
                      "06 20 min 03:1,04:1,05:1\n07 01 06:1,05:-1\n08 02 07:1\n"
                      "09 00 08:1,00:=1 +=-0.5\n").graph
    good = image(graph, kinds, dtype, graph.values)
    forged = good.view(np.uint32).copy()
    forged[9] = 0xFFFFFFFF  # rows
    engine = emitted(kinds, dtype, TARGETS[name])
    x = samples(37, 3, real)
    written(tmp_path, engine)
    aligned = [bits(f"{key}_bits", array).replace("static const", "NET_IMAGE_ALIGNED static const")
               for key, array in (("image", good.view(np.uint32)), ("forged", forged))]
    (tmp_path / "data.h").write_text(
        f"typedef {REALS[dtype]} REAL;\nenum {{ N = {len(x)}, OUTPUTS = 1, BYTES = "
        f"{graph.n_neurons * engine.lanes * real.itemsize} }};\n" + bits("x", x).replace(
            " x[]", " x_bits[]") + "".join(aligned))
    (tmp_path / "driver.c").write_text(ON_TARGETS)
    out = simulated(tmp_path, name, "driver.c", "net.o")
    wanted = graph.run(x, graph.values, dtype=dtype, numerics=engine.options["numerics"])
    for part in np.split(np.frombuffer(out[:-16], real).reshape(-1, 1), 2):
        same(part, wanted)
    assert np.frombuffer(out[-16:], np.int32).tolist() == [
        0, NUMBER["CHECKSUM"], NUMBER["SIZE"], NUMBER["CHECKSUM"]]


# A page in which nets arrive: argv are samples, bytes of a real.
NODE = r"""
const fs = require("fs");
const [n, real] = process.argv.slice(2).map(Number);
const e = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync("net.wasm"))).exports;
e.memory.grow(64);
let top = e.__heap_base.value;
const take = (size) => { const at = top = (top + 63) & ~63; top += size; return at; };
const put = (data) => {
    const at = take(data.length);
    new Uint8Array(e.memory.buffer).set(data, at);
    return at;
};
const file = fs.readFileSync("0.image"), image = put(file), x = put(fs.readFileSync("x.bin"));
const words = new Uint32Array(e.memory.buffer, image, 18);
const [inputs, outputs, rows] = words.slice(7, 10);
const nets = put(new Uint8Array(new Uint32Array([1, inputs, outputs, 0]).buffer));
const work = take((inputs + rows) * real), y = take(2 * n * outputs * real);
const answers = [e.net_engine_check(image, file.length), e.net_engine_check(image + 4, 1000),
                 e.net_engine_check(image, file.length - 1)];
words[9] = 0xffffffff;
answers.push(e.net_engine_check(image, file.length));
words[9] = rows;
for (let k = 0; k < n; k++)
    e.net_forward_nets(nets, image, image, x + k * inputs * real, y + k * outputs * real, work);
e.net_forward_batch_nets(n, nets, image, image, x, y + n * outputs * real, work);
fs.writeFileSync("y.bin", new Uint8Array(e.memory.buffer, y, 2 * n * outputs * real));
console.log(answers.join(" "));
"""


@pytest.mark.parametrize("dtype", DTYPES)
def test_wasm_gives_the_bits_of_the_host(tmp_path, dtype):
    linker = shutil.which("wasm-ld")
    if linker is None or shutil.which("node") is None:
        pytest.skip("needs wasm-ld and node")
    (graph,) = alike(range(100), most=1)
    kinds, (block,) = images([graph], dtype)
    written(tmp_path, emitted(kinds, dtype, TARGETS["wasm32"]))
    run(linker, "--no-entry", "--export-all", "--fatal-warnings", "net.o", "-o", "net.wasm",
        cwd=tmp_path)
    x = samples(37, 3, DTYPES[dtype])
    x.tofile(tmp_path / "x.bin")
    block.tofile(tmp_path / "0.image")
    (tmp_path / "driver.js").write_text(NODE)
    answers = run("node", "driver.js", len(x), x.itemsize, cwd=tmp_path).split()
    assert [*map(int, answers)] == [0, NUMBER["POINTER"], NUMBER["SIZE"], NUMBER["CHECKSUM"]]
    wanted = graph.run(x, graph.values, dtype=dtype, numerics="strict")
    for part in np.split(np.fromfile(tmp_path / "y.bin", wanted.dtype), 2):
        same(part.reshape(wanted.shape), wanted)


# ---- the command


def test_the_command_writes_what_the_driver_reads(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.nal").write_text("N 04\n00\n01\n02 tanh 00,01 +\n03 max 02\n".replace(
        "max 02", "00 max 02"))
    (tmp_path / "kinds").write_text("sum tanh  % the usual one\nmax x\n\n")
    assert main(["build", "--emit", "engine", "--kinds", "kinds", "--name", "brain",
                 "-o", "brain.o"]) == 0
    said = capfd.readouterr().err
    assert re.fullmatch(r"engine: flash \d+ bytes .*, RAM as an image .*, stack \d+ at .*\n", said)
    header = (tmp_path / "brain.h").read_text()
    assert "int brain_engine_check(" in header and " *     sum tanh(x)\n" in header
    assert main(["build", "net.nal", "--emit", "image"]) == 1
    assert "E607" in capfd.readouterr().err and not (tmp_path / "net.image").exists()
    for more in (["--kinds", "kinds"], ["--kinds", "sum:tanh,max:identity"],
                 ["--kinds", "net.nal"], []):
        assert main(["build", "net.nal", "--emit", "image", "--init", "xavier", *more]) == 0
        made = (tmp_path / "net.image").read_bytes()
        digest = int.from_bytes(made[20:24], "little")
        assert f"0x{digest:08x}" in header
    assert main(["build", "net.nal", "--emit", "image", "--init", "xavier",
                 "--kinds", "sum:tanh"]) == 1
    assert "no rows of the kind max x" in capfd.readouterr().err


@pytest.mark.parametrize("arguments, code, status", [
    (["net.nal", "--emit", "engine", "--kinds", "sum:tanh"], "E604", 2),
    (["--emit", "engine,obj", "--kinds", "sum:tanh"], "E604", 2),
    (["--emit", "engine"], "E609", 2),
    (["--emit", "engine", "--kinds", "sum:tanh", "--weights", "w.npy"], "E609", 2),
    (["--emit", "engine", "--kinds", "sum:tanh", "--check"], "E609", 2),
    (["--emit", "engine", "--kinds", "sum:tanh", "--name", "9"], "E606", 2),
    (["--emit", "engine", "--kinds", ","], "E613", 2),
    (["--emit", "engine", "--kinds", "sum:tan"], "E613", 2),
    (["--emit", "engine", "--kinds", "som:tanh"], "E613", 2),
    (["--emit", "engine", "--kinds", "sum:x+y"], "E201", 1),
    (["--emit", "engine", "--kinds", "none.nal"], "E101", 1),
    (["--emit", "engine", "--kinds", "sum:tanh", "-o", "x.h"], "E608", 2),
    (["net.nal", "--kinds", "sum:tanh"], "E609", 2),
    (["--emit", "image"], "E600", 2),
])
def test_what_is_no_engine_is_refused(tmp_path, monkeypatch, capfd, arguments, code, status):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.nal").write_text("N 02\n00\n01 tanh 00:1\n")
    assert main(["build", *arguments]) == status
    assert code in capfd.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["net.nal"]


def test_an_object_from_the_cache_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("NCC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("NCC_CACHE_SIZE")
    monkeypatch.chdir(tmp_path)
    made = []
    for _ in range(2):
        assert main(["build", "--emit", "engine", "--kinds", "sum:tanh"]) == 0
        made.append([(tmp_path / f"engine.{e}").read_bytes() for e in "oh"])
    assert made[0] == made[1] and list((tmp_path / "cache").glob("*.entry"))


def test_an_image_is_of_the_net_as_the_passes_leave_it(tmp_path, monkeypatch):
    """What no output reads takes no memory, but its kinds are all that the file has."""
    monkeypatch.chdir(tmp_path)
    text = "N 05\nout 04\n00\n01\n02 tanh 00:1,01:2\n03 relu 00:1\n04 tanh 02:1\n"
    (tmp_path / "net.nal").write_text(text)
    ncc.compile(ncc.parse(text)).save("saved.image")
    for more in ([], ["--embed-weights"], ["--dtype", "f64"]):
        assert main(["build", "net.nal", "--emit", "image", *more]) == 0
        words = np.fromfile("net.image", np.uint32)
        assert [int(words[AT[k]]) for k in ("rows", "edges", "n_kinds")] == [2, 3, 2]
        if not more:
            assert words.tobytes() == (tmp_path / "saved.image").read_bytes()
