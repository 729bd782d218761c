"""Many nets as modules of WebAssembly, each run by Node, Chromium, wasmtime and the interpreter of
the graph level: what they give, as lines of hexadecimal digits."""

from __future__ import annotations

import json
import queue
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
from nets import some_net, to_nal

import ncc
from ncc.driver import kinds
from ncc.driver.compiler import Build
from ncc.driver.settings import Settings
from ncc.ir.ssa import DTYPES
from ncc.machine.llvm import target

# Of the nets in COUNT folders, a line of arrays each: y of a batch and of a sample; dx, dparams;
# the loss, the parameters and the optimizer after a step of training. As f64, which holds f32; of
# NaNs there is one.
SHOWN = r"""
const lines = [];
for (let folder = 0; folder < COUNT; folder++) {
    const {load} = await import(`./${folder}/net.mjs`);
    const net = await load(), out = [];
    const xs = Array.from({length: ROWS}, (_, k) => Array.from({length: net.inputs},
        (_, j) => ((7 * k + 3 * j) % 16 - 8) / 8));
    const [y, back] = net.vjp(xs);
    out.push(y, net.forward(xs[0]), ...back(y));
    out.push([net.trainStep(xs, y.map((v) => v / 2), 0.125)], net.params, net.optimizer);
    lines.push(out.map((a) => Array.from(new Uint8Array(
        Float64Array.from(a, (v) => v === v ? v : NaN).buffer),
        (byte) => byte.toString(16).padStart(2, "0")).join("")).join(" "));
}
const text = lines.join("\n");
"""
ROWS, RATE = 21, 0.125


def modules(folder, seeds, opt=0, **nets):
    """Files of the nets of these seeds in folders 0, 1, .., half of them with vectors; the nets,
    and the dtype of each."""
    found = []
    for k, seed in enumerate(seeds):
        net, dtype = ncc.parse(to_nal(some_net(seed, **nets))), ("f32", "f64")[seed % 2]
        aim = target("wasm32", features="+simd128" if seed // 2 % 2 else "")
        build = Build.of(net.graph, aim, Settings(
            dtype, "strict", opt, False, {"gradient": True, "loss": "mse", "optimizer": "adam"}))
        (folder / str(k)).mkdir()
        for path, data in kinds.files("wasm", build, folder / str(k) / "net.wasm").items():
            path.write_bytes(data)
        found.append((net, dtype))
    return found


def shown(arrays):
    """A line of arrays."""
    arrays = [np.asarray(array).astype(np.float64).ravel() for array in arrays]
    return " ".join([np.where(np.isnan(a), np.nan, a).tobytes().hex() for a in arrays])


def inputs(net, dtype):
    k, j = np.ogrid[:ROWS, : len(net.inputs)]
    return (((7 * k + 3 * j) % 16 - 8) / 8).astype(DTYPES[dtype])


# ---- engines


def script(count):
    return SHOWN.replace("COUNT", str(count)).replace("ROWS", str(ROWS))


def in_node(folder, count):
    """The lines of Node."""
    (folder / "all.mjs").write_text(script(count) + "console.log(text)")
    return subprocess.run(["node", "all.mjs"], cwd=folder, capture_output=True, text=True,
                          check=True).stdout.splitlines()


def chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser")


def in_chromium(folder, count, seconds=180):
    """The lines of headless Chromium, which is started once."""
    (folder / "index.html").write_text(f"""<!doctype html><script type=module>{script(count)}
        fetch("shown", {{method: "POST", body: text}});</script>""")
    with served(folder) as (address, posted), subprocess.Popen(
            [chromium(), "--headless", "--no-sandbox", "--disable-gpu",
             "--remote-debugging-port=0", f"--user-data-dir={folder}/u", address],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            return posted.get(timeout=seconds).splitlines()
        finally:
            browser.terminate()


@contextmanager
def served(folder):
    """A folder as a web server of this machine's: its address, and a queue of what is posted."""
    posted = queue.Queue()

    class Quiet(SimpleHTTPRequestHandler):
        extensions_map: ClassVar = {**SimpleHTTPRequestHandler.extensions_map,
                                    ".mjs": "text/javascript"}

        def do_POST(self):
            posted.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", posted
    finally:
        server.shutdown()
        server.server_close()


def in_wasmtime(folder, made):
    """The lines of wasmtime, whose nets and dtypes are `made`."""
    import wasmtime

    config = wasmtime.Config()
    config.cranelift_opt_level = "none"  # no result changes by it
    engine = wasmtime.Engine(config)
    lines = []
    for k, (net, dtype) in enumerate(made):
        one = Instance(wasmtime, engine, (folder / str(k) / "net.wasm").read_bytes(), dtype)
        x, real = inputs(net, dtype), DTYPES[dtype]
        params, n = net.params.astype(real), len(net.outputs)
        packed = one.call("pack", None, params=params)["packed"]
        y = one.call("forward_batch", ROWS, x=x, packed=packed)["y"]
        arrays = [y, one.call("forward", None, x=x[0], packed=packed)["y"]]
        back = one.call("backward_batch", ROWS, x=x, packed=packed, dy=y)
        after = one.call("train_step_batch", ROWS, x=x, target=(y / real(2)), params=params,
                         packed=packed, lr=RATE)
        state = after["state"]
        lines.append(shown([*arrays, back["dx"], back["dparams"], state[:1], after["params"],
                            state]))
        assert len(y) == ROWS * n
    return lines


class Instance:
    """A module in wasmtime, whose functions are called with arrays."""

    SAMPLES = ("x", "y", "dy", "dx", "target")  # a row each

    def __init__(self, wasmtime, engine, code, dtype):
        about = json.loads(re.search(rb'{"name":"net".*\]}}', code)[0])
        self.functions, self.real = about["functions"], np.dtype(DTYPES[dtype])
        self.store = wasmtime.Store(engine)
        self.exports = wasmtime.Instance(
            self.store, wasmtime.Module(engine, code), []).exports(self.store)
        self.free = self.exports["__heap_base"].value(self.store)
        self.exports["memory"].grow(self.store, 8)

    def call(self, name, n, **given):
        """Every array after the call; those that are not given are 0 before."""
        _, buffers, work = self.functions[name]
        at, places, words = self.free, {}, [] if n is None else [n]
        if name != "pack":
            buffers = {**buffers, "work": work}
        sizes = {key: size * (n or 1) if key in self.SAMPLES else size
                 for key, size in buffers.items()}
        for key, size in sizes.items():
            if key == "lr":
                words.append(given[key])
                continue
            data = np.zeros(size, self.real)
            data[:] = np.ravel(given.get(key, 0))
            self.exports["memory"].write(self.store, data.tobytes(), at)
            places[key] = at
            words.append(at)
            at += -(-data.nbytes // 64) * 64
        self.exports[f"net_{name}"](self.store, *words)
        return {key: np.frombuffer(bytes(self.exports["memory"].read(
            self.store, place, place + sizes[key] * self.real.itemsize)), self.real)
            for key, place in places.items()}


def in_python(made):
    """The beginnings of the lines, up to dparams, by the interpreter."""
    lines = []
    for net, dtype in made:
        x = inputs(net, dtype)
        with np.errstate(all="ignore"):
            y = net.graph.run(x, net.params, dtype=dtype, numerics="strict")
            lines.append(shown([y, y[0], *net.graph.gradient(x, y, None, dtype, "strict")]))
    return lines
