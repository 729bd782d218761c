"""Modules of WebAssembly, which ncc links itself, and their JavaScript in Node: the bits of Python."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from nets import random_layers, some_net, to_nal
from objects import same

import ncc
from ncc.cli import main
from ncc.driver.compiler import Build
from ncc.driver.settings import Settings
from ncc.errors import NccError
from ncc.ir.ssa import DTYPES
from ncc.machine import llvm
from ncc.machine.targets import TARGETS
from ncc.machine.wasm.link import linked
from ncc.machine.native import Library
from ncc.scalar import losses, optimizers

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node")

SMALL = "N 05\n00\n01\n02 tanh 00:-3,01:3 +-1.7\n03 gelu 00:3,01:-3 +-1.7\n04 sigmoid 02:6,03:6 +6\n"
CELL = "N 05\nout 03,04\n00\n01 identity 00:0.25,~01:0.75\n02 tanh 01:2,~00:-1\n03 relu 02:1,~03:1 " \
    "+0.5\n04 02:1,~02:-0.5\n"
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
    """Nets, texts, in Node as in Python, to the bit; `options` of the k-th: dtype, form, training,
    whether with `each`."""
    expected = []
    for k, text in enumerate(nets):
        dtype, form, train, each = options(k)
        folder = tmp_path / str(k)
        build(folder, text, "--dtype", dtype, "--form", form, "--batch-form", form,
              *(["--train", ",".join(train)] if train else []), *["--each"] * each)
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
    agree(tmp_path, [to_nal(some_net(k, max_neurons=8)) for k in range(8)], of_seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_more_random_nets_have_the_bits_of_python(tmp_path, part):
    seeds = range(100 + 20 * part, 120 + 20 * part)
    agree(tmp_path, [to_nal(some_net(k)) for k in seeds], lambda k: of_seed(seeds[k]))


@pytest.mark.slow
def test_layers_train_to_the_bits_of_python(tmp_path):
    texts = [random_layers([12, 24, 5], 7, seed=k, activation="sigmoid", weights=True)
             for k in range(8)]
    agree(tmp_path, texts, lambda k: (("f32", "f64")[k % 2], FORMS[k % 4], TRAINING[k % 4], False))
