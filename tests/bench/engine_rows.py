"""Rows of bench_population.py that neat-python has no part in: engines, and how they compare with
nets that are compiled each for itself."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from functools import partial

import numpy as np
from bench_fast import Cell

import ncc
from ncc.images.kinds import Kind, Kinds, kinds_of
from ncc.machine.llvm import host
from ncc.nets.genomes import union
from ncc.nets.net import Net
from ncc.runtime import kernel as kernels

INPUTS, SAMPLES = 8, 256
ACTIVATIONS = 18  # of neat-python's
TOGETHER = 50  # nets that are compiled side by side
FORMS = ("table", "straight")  # of one sample, in turn; batches are loops


def seconds(call):
    began = time.process_time()
    call()
    return time.process_time() - began


def nets_of(genomes, config):
    """Each of the genomes as a net by itself."""
    many = union(genomes, config, False)
    return [Net(many.net(k)) for k in range(len(many))]


def first_answers(nets):
    x = np.ones(INPUTS, np.float32)
    for net in nets[:9]:  # from the tenth on there is an engine, whatever there was before
        ncc.compile(net, cache=False)(x)
    kernels.kernel(kinds_of([net.graph for net in nets]), "f32")
    times = [1e3 * seconds(lambda net=net: ncc.compile(net, cache=False)(x)) for net in nets[9:]]
    own = [1e3 * seconds(lambda net=net: ncc.compile(net, cache=False, tier="now")(x))
           for net in nets[9:19]]
    ms = statistics.median(times)
    yield Cell("compile to the first answer, the engine at hand", f"{ms:.2f} ms; with tier=\"now\" "
               f"{statistics.median(own):.0f} ms", ms, "<= 3 ms, 1 ms", 3, 1, below=True)


def engines(rounds):
    from ncc.scalar.activations import ACTIVATIONS as KNOWN
    for dtype in ("f32", "f64"):
        chosen = kernels.options(host(), dtype=dtype, name="engine")
        with tempfile.TemporaryDirectory() as folder:
            kept = os.environ.get("NCC_CACHE_DIR")
            os.environ["NCC_CACHE_DIR"] = folder
            try:
                made, found = [], []
                for k in range(rounds):
                    formulas = [f"{a.formula}+{k}*0" for a in KNOWN[:ACTIVATIONS]]
                    some = Kinds(tuple(sorted(Kind("sum", f) for f in formulas)))
                    for times in (made, found):
                        times.append(seconds(partial(kernels._made, some, chosen, True)))
            finally:
                del os.environ["NCC_CACHE_DIR"]
                if kept is not None:
                    os.environ["NCC_CACHE_DIR"] = kept
        yield Cell(f"{dtype}: an engine of {ACTIVATIONS} activations, the first time",
                   f"{min(made):.2f} s", min(made), "<= 3 s, 1 s", 3, 1, below=True)
        yield Cell(f"{dtype}: the same from the cache", f"{1e3 * min(found):.1f} ms",
                   1e3 * min(found), "<= 20 ms", 20, below=True)


def single(genomes, config, rounds):
    """float32: what populations take."""
    count = len(genomes)
    pop = ncc.Population(union(genomes, config, False))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, INPUTS)).astype(np.float32)
    obs = rng.normal(size=(count, INPUTS)).astype(np.float32)
    pop(x[:1]), pop.step(obs)
    ns = min(seconds(lambda: pop(x)) for _ in range(rounds)) / count / SAMPLES * 1e9
    yield Cell(f"f32, the same {SAMPLES} samples for {count:,} nets, a net and sample",
               f"{ns:.1f} ns", ns, "<= 40 ns, 28 ns", 40, 28, below=True)
    ns = min(seconds(lambda: pop.step(obs)) for _ in range(2 * rounds)) / count * 1e9
    yield Cell(f"f32, a sample of its own for each of {count:,} nets, a net", f"{ns:.0f} ns", ns,
               "<= 400 ns, 200 ns", 400, 200, below=True)
    sizes = np.diff(np.append(pop._image().places, len(pop._image().block)))
    edges = np.array([net.n_edges for net in pop])
    near = sizes[np.abs(edges - 280) <= 20]
    if len(near):
        yield Cell("f32, memory of a net of 260 to 300 edges", f"{near.mean():,.0f} B",
                   float(near.mean()), "<= 4,096 B", 4096, below=True)


def threads(genomes, config, rounds):
    """Of wall time, in turns: an idle machine is wanted."""
    many = union(genomes, config, False)
    pops = [ncc.Population(many, threads=t) for t in (1, 2)]
    x = np.random.default_rng(0).normal(size=(SAMPLES, INPUTS)).astype(np.float32)
    times = [[], []]
    for _ in range(rounds + 1):
        for found, pop in zip(times, pops, strict=True):
            began = time.perf_counter()
            pop(x)
            found.append(time.perf_counter() - began)
    one, two = [statistics.median(found[1:]) for found in times]
    yield Cell(f"two threads, {len(many):,} nets, {SAMPLES} samples", f"{one / two:.2f}x",
               one / two, ">= 1.8x", 1.8)


def bits(genomes, config, numerics, alone):
    """How many nets have another bit than compiled code gives, batches and single samples: the
    first `alone` of them each compiled for itself, and all of them side by side, a few in one net
    and so in the same code, which makes 10,000 a matter of minutes."""
    many = union(genomes, config, False)
    pop = ncc.Population(many, numerics=numerics)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(33, INPUTS)).astype(np.float32)
    obs = rng.normal(size=(len(pop), INPUTS)).astype(np.float32)
    y, own = pop(x), pop.step(obs)
    differ = np.zeros(len(pop), bool)

    def compare(first, last, **form):
        net = Net(many.part(first, last).graph)
        fn = ncc.compile(net, numerics=numerics, tier="now", cache=False, limit=False, **form)
        batch = fn(np.tile(x, last - first)).reshape(len(x), last - first, -1).swapaxes(0, 1)
        single = fn(obs[first:last].reshape(-1)).reshape(last - first, -1)
        for k in range(first, last):
            differ[k] |= (batch[k - first].tobytes() != y[k].tobytes()
                          or single[k - first].tobytes() != own[k].tobytes())

    for k in range(min(alone, len(pop))):
        compare(k, k + 1)
    for first in range(0, len(pop), TOGETHER):
        form = FORMS[first // TOGETHER % len(FORMS)]
        compare(first, min(first + TOGETHER, len(pop)), form=form, batch_form="table")
    yield Cell(f"{numerics}: of {len(pop):,} nets, those with another bit than compiled",
               f"{np.count_nonzero(differ)}", np.count_nonzero(differ), "0", 0, below=True)
