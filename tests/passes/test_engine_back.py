"""Engines: the way back over images gives the bits of the graph's gradient, at every level."""

from __future__ import annotations

import numpy as np
import pytest
from nets import random_layers, some_net, to_nal
from objects import AGGREGATES, same

import ncc
from ncc.errors import Source
from ncc.images.image import image
from ncc.images.image_back import AT, back
from ncc.images.kinds import kinds_of
from ncc.ir.ssa_text import read
from ncc.machine.llvm import host, target
from ncc.machine.targets import arch_of
from ncc.passes.lower.data.gradients import gradients
from ncc.passes.ssa.cse import cse
from ncc.passes.ssa.dce import dce
from ncc.passes.ssa.expand import expand
from ncc.passes.ssa.fold import fold
from ncc.runtime.back import back_kernel
from ncc.runtime.compiled import Compiled

REALS = {"f32": np.float32, "f64": np.float64}
EACH = [(dtype, numerics) for dtype in ("f32", "f64") for numerics in ("strict", "fused")]
SIZES = (1, 3, 37, 64, 129, 150)


def drawn(seed, dtype):
    """A random net's graph, samples x, and dy."""
    graph = ncc.parse(to_nal(some_net(seed, max_neurons=24))).graph
    return graph, *samples(graph, SIZES[seed % len(SIZES)], seed, dtype)


def samples(graph, n, seed, dtype):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, len(side))).astype(REALS[dtype])
            for side in (graph.inputs, graph.outputs)]


def arguments(graph, kinds, x, dy, dtype, unroll):
    """The buffers of the interpreter."""
    real = np.dtype(REALS[dtype])
    block = image(graph, kinds, dtype, graph.values)
    way = back(graph, kinds, dtype, unroll)
    sizes = [int(way[AT[name]]) for name in ("n_elements", "n_edges", "work_size")]
    sizes[0] += 1
    gradient, by_reader, work = [np.full(size, np.nan, real) for size in sizes]
    return {"image": block.view(np.uint32), "back": way, "reals": block.view(real),
            "x": x.reshape(-1).copy(), "dy": dy.reshape(-1).copy(),
            "dx": np.full(x.size, np.nan, real), "dparams": np.zeros(graph.n_params, real),
            "gradient": gradient, "by_reader": by_reader, "work": work}


@pytest.mark.parametrize("dtype, numerics", EACH)
@pytest.mark.parametrize("seed", [0, 1, *[
    pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 7)]])
def test_interpreters_of_the_way_back_give_the_bits_of_the_graph(seed, dtype, numerics):
    graph, x, dy = drawn(seed, dtype)
    dx, dparams = graph.gradient(x, dy, dtype=dtype, numerics=numerics)
    kinds = kinds_of([graph])
    for unroll in (4, 8):
        module = gradients(kinds, dtype=dtype, numerics=numerics, unroll=unroll)
        module.verify()
        assert str(read(Source("engine", str(module)))) == str(module)
        for level in (module, expand(dce(cse(fold(module)))))[: 1 + (unroll == 4)]:
            level.verify()
            held = arguments(graph, kinds, x, dy, dtype, unroll)
            level.run("backward_batch", held, n=len(x))
            same(held["dx"].reshape(x.shape), dx)
            same(held["dparams"], dparams)


def checked(kernel, graph, x, dy, numerics):
    """All that can be asked for has the graph's bits."""
    wanted = graph.gradient(x, dy, dtype=kernel.dtype, numerics=numerics)
    images = kernel.images(graph, graph.values)
    for both in (True, False):
        dx, dparams = np.full_like(x, np.nan), np.zeros(graph.n_params, kernel.real)
        kernel.gradient(images, x, dy, dx, dparams if both else None)
        same(dx, wanted[0])
        if not both:
            kernel.gradient(images, x, dy, None, dparams)
        same(dparams, wanted[1])
    return wanted


@pytest.mark.parametrize("dtype, numerics", EACH)
@pytest.mark.parametrize("seeds", [pytest.param(range(20, 24), marks=pytest.mark.slow),
                                   range(31, 33)])
def test_the_kernel_gives_the_bits_of_the_graph_and_of_the_compiled_net(seeds, dtype, numerics):
    if numerics == "fused" and dtype not in host().fma:
        pytest.skip("no FMA")
    cases = [drawn(seed, dtype) for seed in seeds]
    kernel = back_kernel(kinds_of([graph for graph, _, _ in cases]), dtype, numerics)
    for k, (graph, x, dy) in enumerate(cases):
        wanted = checked(kernel, graph, x, dy, numerics)
        if k == 0:
            fn = Compiled(graph, graph.values, dtype=dtype, numerics=numerics,
                          passes={"gradient": True})
            dx, dparams = fn.vjp(x)[1](dy)
            same(dx, wanted[0])
            same(dparams, wanted[1])


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("widths, fan_in", [((19, 40, 33, 5), 19), ((30, 64, 64, 3), 9),
                                            ((16, 70, 1), 16)])
def test_layers_with_sums_in_order_have_the_bits_of_the_graph(widths, fan_in, dtype):
    """Dense ones, whose edges are summed in order in whole blocks, and sparse ones."""
    graph = ncc.parse(random_layers(widths, fan_in, 3)).graph
    kernel = back_kernel(kinds_of([graph]), dtype, None)
    x, dy = samples(graph, 150, 1, dtype)
    checked(kernel, graph, x, dy, "fused" if dtype in host().fma else "strict")


@pytest.mark.skipif(arch_of(host().triple) != "x86_64", reason="these are x86-64's")
@pytest.mark.parametrize("name", ["x86-64", "x86-64-v3"])
@pytest.mark.parametrize("dtype", REALS)
def test_narrower_vectors_give_the_same_bits(name, dtype, monkeypatch):
    numerics = "fused" if dtype in target(name).fma else "strict"
    for file in ("back", "kernel"):
        monkeypatch.setattr(f"ncc.runtime.{file}.host", lambda: target(name))
    monkeypatch.setattr("ncc.runtime.back._kernels", {})
    texts = [to_nal(some_net(1, max_neurons=24)), random_layers((19, 40, 33, 5), 19, 3), AGGREGATES]
    graphs = [ncc.parse(text).graph for text in texts]
    kernel = back_kernel(kinds_of(graphs), dtype, numerics)
    for graph in graphs:
        checked(kernel, graph, *samples(graph, 150, 1, dtype), numerics)


def test_lanes_are_whole_rounds():
    graph = ncc.parse(AGGREGATES).graph
    with pytest.raises(ValueError, match="no whole rounds"):
        gradients(kinds_of([graph]), lanes_back=1)
