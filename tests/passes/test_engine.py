"""Engines: functions that evaluate images give the bits of the compiled net, at every level."""

from __future__ import annotations

import ctypes
import subprocess

import numpy as np
import pytest
from nets import some_net, to_nal
from objects import same

import ncc
from ncc.errors import NccError, Source
from ncc.images.image import AT, image
from ncc.images.kinds import Kind, Kinds, kinds_of
from ncc.ir.ssa import OPEN, Buffer, Func, Module
from ncc.ir.ssa_build import Builder
from ncc.ir.ssa_text import read
from ncc.machine.llvm import host
from ncc.machine.native import aligned
from ncc.passes.emit.to_c import to_c
from ncc.passes.lower.data.engine import engine
from ncc.passes.ssa.cse import cse
from ncc.passes.ssa.dce import dce
from ncc.passes.ssa.expand import expand
from ncc.passes.ssa.fold import fold
from ncc.runtime.kernel import head, kernel

REALS = {"f32": np.float32, "f64": np.float64}
EACH = [(dtype, numerics) for dtype in ("f32", "f64") for numerics in ("strict", "fused")]


def graphs(seeds, **options):
    """Graphs with the same number of inputs and outputs as the first of them."""
    found = []
    for seed in seeds:
        g = ncc.parse(to_nal(some_net(seed, max_neurons=24, **options))).graph
        if not found or (len(g.inputs), len(g.outputs)) == (
                len(found[0].inputs), len(found[0].outputs)):
            found.append(g)
    return found


def joined(images):
    """Images one behind the other, and where each begins."""
    places = np.cumsum([0, *[len(i) for i in images]])
    block = aligned(places[-1], np.uint8)
    block[:] = np.concatenate(images)
    return block, places[:-1]


def samples(graph, n, real, seed=0):
    return np.random.default_rng(seed).normal(size=(n, len(graph.inputs))).astype(real)


def arguments(gs, block, places, x, real):
    """The buffers of the interpreter."""
    g = gs[0]
    return {"nets": head(places, len(g.inputs), len(g.outputs)), "image": block.view(np.uint32),
            "reals": block.view(real), "x": x.reshape(-1).copy(),
            "y": np.full(len(gs) * x.size // x.shape[-1] * len(g.outputs), np.nan, real),
            "work": np.zeros(max(g.n_neurons for g in gs), real)}


@pytest.mark.parametrize("dtype, numerics", EACH)
@pytest.mark.parametrize("seed", [0, 6, *[
    pytest.param(seed, marks=pytest.mark.slow) for seed in range(12, 60, 6)]])
def test_every_reading_of_an_engine_gives_the_bits_of_the_graph(seed, dtype, numerics):
    gs = graphs(range(seed, seed + 6))
    kinds, real = kinds_of(gs), np.dtype(REALS[dtype])
    block, places = joined([image(g, kinds, dtype, g.values) for g in gs])
    x = samples(gs[0], 37, real)
    wanted = np.stack([g.run(x, dtype=dtype, numerics=numerics) for g in gs])
    module = engine(kinds, dtype=dtype, numerics=numerics)
    module.verify()
    assert str(read(Source("engine", str(module)))) == str(module)
    for level in (module, expand(dce(cse(fold(module))))):
        level.verify()
        held = arguments(gs, block, places, x, real)
        level.run("forward_batch", held, n=len(x))
        same(held["y"].reshape(wanted.shape), wanted)
        held = arguments(gs, block, places, x[:1], real)
        level.run("forward", held)
        same(held["y"].reshape(wanted[:, :1].shape), wanted[:, :1])
    if numerics == "fused" and dtype not in host().fma:
        return
    made = kernel(kinds, dtype, numerics)
    most = max(g.n_neurons for g in gs)
    names = head(places, len(gs[0].inputs), len(gs[0].outputs))
    y = np.empty(wanted.shape, real)
    made.forward(names, block, most, x, y)
    same(y, wanted)
    y = np.empty(wanted[:, 0].shape, real)
    made.forward(names, block, most, x[0], y)
    same(y, wanted[:, 0])


@pytest.mark.parametrize("dtype", REALS)
def test_an_engine_in_c_gives_the_bits_of_the_graph(tmp_path, dtype):
    gs = graphs(range(9))
    kinds, real = kinds_of(gs), np.dtype(REALS[dtype])
    module = expand(fold(engine(kinds, dtype=dtype, numerics="strict")))
    source = tmp_path / "engine.c"
    source.write_text(to_c(module))
    subprocess.run(["gcc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion",
                    "-Werror", "-shared", "-fPIC", "-o", tmp_path / "engine.so", source, "-lm"],
                   check=True)
    block, places = joined([image(g, kinds, dtype, g.values) for g in gs])
    x = samples(gs[0], 21, real)
    held = arguments(gs, block, places, x, real)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in held.values()]
    ctypes.CDLL(str(tmp_path / "engine.so")).net_forward_batch(ctypes.c_size_t(len(x)), *pointers)
    wanted = np.stack([g.run(x, dtype=dtype, numerics="strict") for g in gs])
    same(held["y"].reshape(wanted.shape), wanted)


def test_an_engine_says_which_kind_it_lacks():
    graph = ncc.parse("N 02\n00\n01 tanh 00:1\n").graph
    with pytest.raises(NccError, match=r"E147.*sum tanh\(x\)"):
        image(graph, Kinds((Kind("sum", "relu(x)"),)), "f32", graph.values)


def test_an_image_says_what_it_is():
    graph = ncc.parse("N 04\n00\n01\n02 tanh 00:1,01:2\n03 relu 02:3,00:=4 +5\n").graph
    kinds = kinds_of([graph])
    block = image(graph, kinds, "f32", graph.values)
    words = block.view(np.uint32)
    assert words[AT["size"]] == len(block) and len(block) % 64 == 0
    assert [int(words[AT[name]]) for name in ("inputs", "outputs", "rows", "edges", "levels")] == [
        2, 1, 2, 4, 2]
    at = words[AT["weights"]]
    assert block.view(np.float32)[at : at + 4].tolist() == [1, 2, 3, 4]


def test_buffers_of_indices_and_open_ones_have_their_rules():
    b = Builder("f32", True)
    b.store(b.load("x", 7), "y", 0, b.load("where", 3))
    buffers = (Buffer("where", "indices", OPEN), Buffer("x", "in", OPEN), Buffer("y", "out", 4))
    good = Module("net", "f32", "fused", (Func("f", buffers, b.ops),))
    good.verify()
    y = np.zeros(4, np.float32)
    good.run("f", {"where": np.array([0, 0, 0, 2], np.uint32),
                   "x": np.arange(8, dtype=np.float32), "y": y})
    assert y.tolist() == [0, 0, 7, 0]

    def fault(*buffers, ops=b.ops):
        with pytest.raises(NccError, match="E300") as caught:
            Module("net", "f32", "fused", (Func("f", buffers, ops),)).verify()
        return str(caught.value)

    assert "bad buffer" in fault(*buffers, Buffer("a", "work", OPEN), Buffer("b", "work", 1))
    assert "bad buffer" in fault(*buffers[:2], Buffer("y", "out", -2))
    assert "lies outside" in fault(Buffer("where", "indices", 3), *buffers[1:])
    stores = [("const", (), 1.0), ("store", (0,), ("y", 0))]
    assert "store of y, which is indices" in fault(Buffer("y", "indices", 4), ops=stores)
