"""Modules of WebAssembly, which ncc links itself, in Node: the bits of Python."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from contextlib import suppress

import numpy as np
import pytest
from nets import random_layers, some_net, to_nal
from objects import same
from wasm_engines import chromium, in_chromium, in_node, in_python, in_wasmtime, modules, served

import ncc
from ncc.cli import main
from ncc.driver.compiler import Build
from ncc.driver.settings import Settings
from ncc.errors import NccError
from ncc.ir.ssa import DTYPES
from ncc.machine import llvm
from ncc.machine.native import Library
from ncc.machine.targets import TARGETS
from ncc.machine.wasm.link import linked
from ncc.scalar import losses, optimizers

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node")

SMALL = """N 05
00
01
02 tanh 00:-3,01:3 +-1.7
03 gelu 00:3,01:-3 +-1.7
04 sigmoid 02:6,03:6 +6
"""
CELL = """N 05
out 03,04
00
01 identity 00:0.25,~01:0.75
02 tanh 01:2,~00:-1
03 relu 02:1,~03:1 +0.5
04 identity 02:1,~02:-0.5
"""
ROWS, STEPS, RATE = 37, 3, 0.05

# Of each folder in its arguments: net.mjs on the samples there; what it gives, in out.bin.
DRIVER = r"""
import {readFileSync, writeFileSync} from "node:fs";
for (const folder of process.argv.slice(2)) {
    const {load} = await import(`${folder}/net.mjs`);
    const bytes = readFileSync(`${folder}/net.wasm`);
    if (!WebAssembly.validate(bytes))
        throw new Error(`${folder}: invalid`);
    if (WebAssembly.Module.imports(new WebAssembly.Module(bytes)).length)
        throw new Error(`${folder}: imports`);
    const net = await load(), out = [];
    const Reals = net.dtype === "f32" ? Float32Array : Float64Array;
    const read = (name) => new Reals(new Uint8Array(readFileSync(`${folder}/${name}.bin`)).buffer);
    const rows = (flat, width) => Array.from({length: flat.length / width},
        (_, k) => flat.subarray(k * width, (k + 1) * width));
    const xs = rows(read("x"), net.inputs);
    for (const x of xs)
        out.push(net.forward(x));
    if (net.nStates) {
        const saved = net.state;
        out.push(saved);
        net.reset();
        out.push(net.steps(xs.slice(0, 5)), net.steps(xs.slice(5)), net.state);
        net.state = saved;
        out.push(net.forward(xs[0]));
        net.reset();
        out.push(net.forward(xs), net.forward(xs), net.state);
        net.reset();
        out.push(net.steps([...xs, ...xs], xs.length));
    } else
        out.push(net.forward(xs), net.forward(xs.slice(0, 1)), net.forward([]));
    if (net.exports.net_backward) {
        const dy = read("dy"), [y, back] = net.vjp(xs);
        out.push(y, ...back(dy), ...net.backward(xs[1], rows(dy, net.outputs)[1]));
        if (net.exports.net_train_step) {
            const target = read("target"), losses = new Reals(3);
            for (let k = 0; k < 3; k++)
                losses[k] = net.trainStep(xs, target, RATE);
            out.push(losses, net.params, net.optimizer.slice(1), net.forward(xs), ...back(dy));
        }
        if (net.exports.net_each)
            out.push(net.each(xs, read("each")));
    }
    writeFileSync(`${folder}/out.bin`, Buffer.concat(out.map((a) => Buffer.from(a.buffer))));
}
""".replace("RATE", str(RATE))


def node(folder, script, *arguments):
    (folder / "driver.mjs").write_text(script)
    done = subprocess.run([NODE, "driver.mjs", *map(str, arguments)], cwd=folder, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def build(folder, text, *options, stem="net"):
    folder.mkdir(exist_ok=True)
    (folder / f"{stem}.nal").write_text(text)
    assert main(["build", str(folder / f"{stem}.nal"), "--emit", "wasm", "-o", f"{folder}/",
                 "--no-limit", *options]) == 0
    return (folder / f"{stem}.wasm").read_bytes()


def samples(folder, net, dtype, loss):
    """Samples, gradients, targets and parameters a sample, as the driver reads them."""
    rng, real, n = np.random.default_rng(5), DTYPES[dtype], len(net.outputs)
    classes = losses.targets(losses.parse(loss), n)
    made = {"x": rng.uniform(-1, 1, (ROWS, len(net.inputs))),
            "dy": rng.standard_normal((ROWS, n)),
            "target": rng.integers(0, n, (ROWS, 1)) if loss == "ce"
            else rng.uniform(0, 1, (ROWS, classes)),
            "each": rng.uniform(-1, 1, (ROWS, net.n_params))}
    made = {name: array.astype(real) for name, array in made.items()}
    for name, array in made.items():
        array.tofile(folder / f"{name}.bin")
    return made


def wanted(net, made, dtype, train, each):
    """What the driver writes of a net without a state, by Python."""
    fn = ncc.compile(net, dtype=dtype, numerics="strict", tier="now")
    x, dy, real = made["x"], made["dy"], DTYPES[dtype]
    y, back = fn.vjp(x)
    dx, dparams = back(dy)
    found = [fn(x), y, y[:1], y, dx, dparams, *fn.vjp(x[1])[1](dy[1])]
    if train:
        means, params, state = trained(net, made, dtype, train)
        after = ncc.compile(net, params, dtype=dtype, numerics="strict", tier="now")
        found += [means, params, state[1:], after(x), dx, dparams]
    if each:
        found.append(fn.each(x, made["each"]))
    return np.concatenate([array.astype(real).ravel() for array in found])


def trained(net, made, dtype, train):
    """The losses of some steps of the object's own function on this machine, the parameters and
    the optimizer's state after them."""
    loss, optimizer = str(losses.parse(train[0])), str(optimizers.parse(train[1]))
    library = Library(Build.of(net.graph, llvm.host(), Settings(dtype, "strict"), gradient=True,
                               loss=loss, optimizer=optimizer).made, dtype)
    name = "train_step_batch"
    params = net.params.astype(library.real)
    packed, work = library.pack(params), library.work(name)
    state = np.zeros(library.functions[name].buffers["state"], library.real)
    means = np.zeros(STEPS, library.real)
    for k in range(STEPS):
        arrays = [array.ctypes.data for array in (made["x"], made["target"], params, packed, state)]
        library.calls[name](ROWS, *arrays, RATE, work.ctypes.data)
        means[k] = state[0]
    return means, params, state


TRAINING = (("mse", "adam"), ("bce", "sgd:momentum=0.9"), ("ce", "rmsprop"), ("huber", "sgd"))
FORMS = ("auto", "straight", "table", "shared")


def agree(tmp_path, nets, options, **more):
    """Nets, texts, in Node as in Python, to the bit, every other with vectors; `options` of the
    k-th: dtype, form, training, whether with `each`."""
    expected = []
    for k, text in enumerate(nets):
        dtype, form, train, each = options(k)
        folder = tmp_path / str(k)
        build(folder, text, "--dtype", dtype, "--form", form, "--batch-form", form,
              *(["--train", ",".join(train)] if train else []), *["--each"] * each,
              *["--features=+simd128"] * (k // 2 % 2))
        net = ncc.parse(text)
        made = samples(folder, net, dtype, train[0] if train else "mse")
        expected.append((folder, dtype, wanted(net, made, dtype, train, each)))
    node(tmp_path, DRIVER, *[folder for folder, _, _ in expected])
    for folder, dtype, want in expected:
        same(np.fromfile(folder / "out.bin", DTYPES[dtype]), want)


def of_seed(seed):
    """Options of a random net: without training on, where its values may be no probabilities."""
    return (("f32", "f64")[seed % 2], FORMS[seed // 2 % 4], TRAINING[0] if seed % 3 == 0 else None,
            seed % 4 == 1)


def test_random_nets_have_the_bits_of_python(tmp_path):
    agree(tmp_path, [to_nal(some_net(k, max_neurons=6)) for k in range(8)], of_seed)


@pytest.mark.slow
def test_larger_random_nets_have_the_bits_of_python(tmp_path):
    seeds = range(100, 116)
    agree(tmp_path, [to_nal(some_net(k)) for k in seeds], lambda k: of_seed(seeds[k]))


def test_vectors_are_a_feature(tmp_path):
    assert llvm.target("wasm32").vector_bits == 0
    assert llvm.target("wasm32", features="+simd128").vector_bits == 128
    assert llvm.target("wasm32", features="+sign-ext").vector_bits == 0
    add = b"\xfd\xe4\x01"  # f32x4.add
    assert add not in build(tmp_path, SMALL)
    assert add in build(tmp_path, SMALL, "--features=+simd128")


@pytest.mark.slow
def test_layers_train_to_the_bits_of_python(tmp_path):
    texts = [random_layers([12, 24, 5], 7, seed=k, activation="sigmoid", weights=True)
             for k in range(8)]
    agree(tmp_path, texts, lambda k: (("f32", "f64")[k % 2], FORMS[k % 4], TRAINING[k % 4], False))


@pytest.mark.parametrize("dtype", ["f32", pytest.param("f64", marks=pytest.mark.slow)])
def test_steps_of_a_net_with_a_state_have_the_bits_of_python(tmp_path, dtype):
    build(tmp_path, CELL, "--dtype", dtype)
    net = ncc.parse(CELL)
    x = samples(tmp_path, net, dtype, "mse")["x"]
    fn = ncc.compile(net, dtype=dtype, numerics="strict")
    found = [*[fn(row) for row in x], fn.state, fn.steps(np.empty((0, 1))).reshape(-1)]
    saved = fn.state
    fn.reset()
    found += [fn.steps(x), fn.state]
    fn.state = saved
    found.append(fn(x[0]))
    fn.reset()
    found += [fn(x), fn(x), fn.state]
    fn.reset()
    found.append(fn.steps(np.array([x, x])))
    node(tmp_path, DRIVER, tmp_path)
    same(np.fromfile(tmp_path / "out.bin", DTYPES[dtype]),
         np.concatenate([array.ravel() for array in found]))


def test_weights_in_the_code(tmp_path):
    build(tmp_path, SMALL, "--embed-weights")
    net = ncc.parse(SMALL)
    x = samples(tmp_path, net, "f32", "mse")["x"]
    y = ncc.compile(net, numerics="strict", tier="now")(x)
    node(tmp_path, DRIVER, tmp_path)
    same(np.fromfile(tmp_path / "out.bin", np.float32), np.concatenate([y, y, y[:1]]).ravel())
    assert node(tmp_path, """
        import {load} from "./net.mjs";
        const net = await load();
        let said = "";
        for (const wrong of [() => net.params = [], () => net.vjp([0, 1]), () => net.each([], []),
                             () => net.trainStep([], [], 1)])
            try { wrong(); } catch (error) { said += error.message + "\\n"; }
        console.log(net.params, said);
    """).splitlines() == [
        "null the parameters are constants of the code",
        *[f"the module has no {name}: ncc build {option} makes one" for name, option in (
            ("backward", "--backward"), ("each", "--each"),
            ("train_step", "--train LOSS,OPTIMIZER"))], ""]


# Sources of a module, and what is wrong with arguments; argv: the address of a server.
API = r"""
import {readFileSync} from "node:fs";
import {load, Net} from "./net.mjs";
const bytes = readFileSync("net.wasm"), module = await WebAssembly.compile(bytes);
const y = (await load()).forward([1, 2])[0];
const url = new URL("net.wasm", process.argv[2]);
for (const source of [bytes, bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length),
                      module, "net.wasm", new URL("net.wasm", import.meta.url), url, fetch(url)])
    if ((await load(source)).forward([1, 2])[0] !== y)
        throw new Error(`${source}`);
const net = new Net(module), other = new Net(module);
const says = async (call) => {
    try { await call(); } catch (error) { console.log(`${error.name}: ${error.message}`); }
};
await says(() => load(new URL("none.wasm", url)));
await says(() => load(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])));
await says(() => net.forward([1, 2, 3]));
await says(() => net.forward([[1, 2, 3]]));
await says(() => net.forward([[1, 2], [1]]));
await says(() => net.forward(1));
await says(() => net.backward([1, 2], [1, 2]));
await says(() => { net.params = [1]; });
await says(() => { net.params = [...net.params].fill(1e39); });
net.params = [...net.params].fill(0);
const big = new Float32Array(2e6).fill(1), ys = net.forward(big);
console.log(ys.length, ys.every((value) => value === 0.5), other.forward([1, 2])[0] === y);
console.log(other.forward(big).every((value, k, all) => value === all[0]), net.params.length);
"""


def test_where_a_module_comes_from_and_what_is_refused(tmp_path):
    build(tmp_path, SMALL)
    with served(tmp_path) as (address, _):
        said = node(tmp_path, API, address)
    assert said.splitlines()[1:] == [
        "TypeError: no module of ncc's",
        "RangeError: x has 3 numbers, the net wants 2",
        "RangeError: x has rows of 3 numbers, the net wants 2",
        "RangeError: row 1 has 1 numbers, row 0 2",
        "TypeError: not an array of numbers",
        "RangeError: dy has 2 numbers, the net wants 1",
        "RangeError: params has 1 numbers, the net wants 9",
        "RangeError: params holds a value that is not finite in f32",
        "1000000 true true", "true 9"]


def test_parameters_without_values_are_asked_for(tmp_path):
    build(tmp_path, "N 03\n00\n01\n02 identity 00,01 +\n")
    assert node(tmp_path, """
        import {load} from "./net.mjs";
        const net = await load();
        try { net.forward([1, 1]); } catch (error) { console.log(error.message, net.params); }
        net.params = [1, 2, 3];
        console.log(net.forward([2, 2])[0]);
    """).splitlines() == ["the parameters have no values: set net.params null", "9"]


# ---- other engines

@pytest.mark.slow
def test_200_nets_have_the_same_bits_in_node_chromium_and_wasmtime(tmp_path):
    """Each forward, of a batch, backward and after a step of training; half of them with vectors.
    `python tests/bench/bench_wasm.py` does so with larger nets."""
    if chromium() is None:
        pytest.skip("needs chromium")
    pytest.importorskip("wasmtime")
    made = modules(tmp_path, range(200), max_neurons=4, max_fan_in=3)
    lines = in_node(tmp_path, 200)
    assert in_chromium(tmp_path, 200) == lines
    assert in_wasmtime(tmp_path, made) == lines
    for line, beginning in zip(lines, in_python(made), strict=True):
        assert line.startswith(beginning + " ")


# ---- the files


def test_no_linker_runs_and_the_bytes_are_the_same(tmp_path, monkeypatch):
    first = build(tmp_path / "a", SMALL)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setenv("NCC_CACHE_SIZE", "0")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process"))
    assert build(tmp_path / "b", SMALL) == first
    for ending in (".mjs", ".d.mts"):
        files = [(tmp_path / folder / f"net{ending}").read_bytes() for folder in "ab"]
        assert files[0] == files[1]


def test_where_the_files_go(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a net.nal").write_text(SMALL)

    def status(*words):
        return main(["build", "a net.nal", "--emit", *words])

    assert status("wasm") == 0
    assert {p.name for p in tmp_path.iterdir()} == {
        "a net.nal", "a net.wasm", "a net.mjs", "a net.d.mts"}
    assert 'new URL("a%20net.wasm", import.meta.url)' in (tmp_path / "a net.mjs").read_text()
    assert "Reals = Float32Array" in (tmp_path / "a net.d.mts").read_text()
    assert b"flash" in capfdbinary.readouterr().err
    assert status("wasm", "-o", "-") == 0
    assert capfdbinary.readouterr().out == (tmp_path / "a net.wasm").read_bytes()
    (tmp_path / "out").mkdir()
    assert status("wasm,obj,llvm", "-o", "out", "--dtype", "f64", "--no-backward") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        f"a net{ending}" for ending in (".wasm", ".mjs", ".d.mts", ".o", ".h", ".ll")}
    assert "Reals = Float64Array" in (tmp_path / "out/a net.d.mts").read_text()
    assert (tmp_path / "out/a net.o").read_bytes()[:4] == b"\0asm"
    assert status("wasm", "-o", "net.mjs") == 2 and status("wasm", "--target", "native") == 2
    assert b"E604" in capfdbinary.readouterr().err
    ncc.compile(ncc.parse(SMALL)).save(tmp_path / "saved.wasm")
    assert (tmp_path / "saved.mjs").exists() and (tmp_path / "saved.d.mts").exists()


# ---- the linker


def made(text):
    """The object of LLVM text for wasm32."""
    return llvm.Machine(TARGETS["wasm32"]).object(text)


OBJECT = """
@words = internal constant [4 x i32] [i32 1, i32 2, i32 3, i32 40]
@at = internal constant [2 x ptr] [ptr getelementptr (i32, ptr @words, i32 3), ptr @words]
@bytes = internal constant [3 x i8] c"abc", align 1
@wide = internal constant [2 x i64] [i64 5, i64 600], align 16
define i32 @word(i32 %k) {
  %p = getelementptr [4 x i32], ptr @words, i32 0, i32 %k
  %v = load i32, ptr %p
  ret i32 %v
}
define i32 @through(i32 %k) {
  %p = getelementptr [2 x ptr], ptr @at, i32 0, i32 %k
  %q = load ptr, ptr %p
  %v = load i32, ptr %q
  ret i32 %v
}
define i32 @byte(i32 %k) {
  %p = getelementptr [3 x i8], ptr @bytes, i32 0, i32 %k
  %v = load i8, ptr %p
  %w = zext i8 %v to i32
  ret i32 %w
}
define i32 @where() {
  %w = ptrtoint ptr @wide to i32
  ret i32 %w
}
define i32 @kept(i32 %k) {
  %p = alloca [100 x i32]
  %q = getelementptr [100 x i32], ptr %p, i32 0, i32 %k
  call void @write(ptr %q, i32 %k)
  %v = load volatile i32, ptr %q
  ret i32 %v
}
define internal void @write(ptr %p, i32 %v) noinline {
  store volatile i32 %v, ptr %p
  ret void
}
define void @deep(i32 %n) {
  %p = alloca [4000 x i32]
  call void @write(ptr %p, i32 %n)
  %m = add i32 %n, 1
  call void @deep(i32 %m)
  call void @write(ptr %p, i32 %n)
  ret void
}
"""


def test_what_an_object_may_have_is_placed(tmp_path):
    code = linked(made(OBJECT), {"note": b"hello"})
    assert code == linked(made(OBJECT), {"note": b"hello"})
    (tmp_path / "net.wasm").write_bytes(code)
    assert node(tmp_path, """
        import {readFileSync} from "node:fs";
        const bytes = readFileSync("net.wasm"), module = new WebAssembly.Module(bytes);
        const e = new WebAssembly.Instance(module).exports;
        const deep = () => {
            try { e.deep(0); } catch (error) { return error.name; }
        };
        console.log(JSON.stringify([WebAssembly.validate(bytes), Object.keys(e), e.word(3),
            e.through(0), e.through(1), e.byte(2), e.where() % 16, e.kept(99), deep(), e.word(0),
            e.__heap_base.value % 64, e.__heap_base.value > e.where(),
            Buffer.from(WebAssembly.Module.customSections(module, "note")[0]).toString()]));
    """).strip() == json.dumps(
        [True, ["memory", "__heap_base", "word", "through", "byte", "where", "kept", "deep"], 40,
         40, 1, 99, 0, 99, "RuntimeError", 1, 0, True, "hello"], separators=(",", ":"))


LOAD = "define i32 @g() {\n  %v = load i32, ptr @a\n  ret i32 %v\n}\n"


@pytest.mark.parametrize(("text", "said"), [
    ("declare void @f()\ndefine void @g() {\n  call void @f()\n  ret void\n}", "env.f"),
    ("@a = external global i32\n" + LOAD, "import GOT.mem.a"),
    ("define internal void @f() noinline {\n  ret void\n}\ndefine ptr @g() {\n  ret ptr @f\n}",
     "table"),
], ids=["function", "data", "pointer"])
def test_what_a_module_cannot_have_is_an_error(text, said):
    with pytest.raises(NccError, match=said) as caught:
        linked(made(text))
    assert caught.value.code == "E702"


def test_forged_relocations_are_an_error():
    code = made(OBJECT)
    at = code.index(b"reloc.CODE") + len(b"reloc.CODE") + 1
    assert code[at + 1] < 12  # behind the count: the first one's kind
    refused = set()
    for kind in range(256):
        try:
            linked(code[: at + 1] + bytes([kind]) + code[at + 2 :])
        except NccError as error:
            assert error.code == "E702"
            refused.add(kind)
    assert refused >= {1, 2, *range(8, 11), *range(12, 256)}


def test_damaged_objects_are_an_error_or_a_module():
    code = made(OBJECT)
    for size in range(len(code)):
        with suppress(NccError):
            linked(code[:size])
    rng = random.Random(7)
    for _ in range(600):
        damaged = bytearray(code)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(code))] = rng.randrange(256)
        try:
            linked(bytes(damaged))
        except NccError as error:
            assert error.code == "E702"
