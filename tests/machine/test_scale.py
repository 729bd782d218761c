"""Large nets: what compiling one keeps in memory, and the tables that stay outside its object."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import random_layers

import ncc
from ncc.driver.compiler import Build
from ncc.driver.pipeline import AFTER_ORDER
from ncc.driver.settings import options
from ncc.ir import csr
from ncc.ir.csr import representatives
from ncc.machine import cache
from ncc.machine.limits import give_back
from ncc.machine.llvm import Loaded, host

COMPILES = """import os, sys
import ncc

def most():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024

ncc.compile(ncc.load(sys.argv[1]), cache=False, tier="now")  # what ncc and LLVM take once
before = most()
net = ncc.load(sys.argv[2])
fn = ncc.compile(net, cache=False, tier="now")
print((most() - before - os.path.getsize(sys.argv[2])) / net.n_edges)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells the peak of its memory")
def test_a_compile_takes_less_than_45_bytes_an_edge(tmp_path: Path) -> None:
    """Some 37 above the file, for a net of 600,000 edges, most of them in its reading; 33 of
    4,000,000."""
    paths = [tmp_path / "small.nal", tmp_path / "large.nal"]
    for path, layers in zip(paths, (2, 20), strict=True):
        path.write_text(random_layers([1024] * layers, 32, 1))
    out = subprocess.run([sys.executable, "-c", COMPILES, *map(str, paths)], capture_output=True,
                         text=True, check=True).stdout
    assert 8 < float(out) < 45


@pytest.mark.parametrize(("widths", "fan_in", "wanted", "most"), [
    ([1024] * 5, 32, {}, 40), ([360] * 2, 360, {}, 30),
    ([1024] * 5, 32, {"gradient": True, "forwards": False}, 135),
    ([360] * 2, 360, {"gradient": True, "forwards": False}, 95),
], ids=["sparse", "dense", "sparse gradients", "dense gradients"])
def test_arrays_that_live_at_once_in_a_compile(widths: list[int], fan_in: int,
                                               wanted: dict[str, Any], most: int,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes an edge beside the net, without what is of one size in nets of all sizes: some 30 and
    21, and with gradients 109 and 76."""
    net = ncc.parse(random_layers(widths, fan_in, 1))
    build = Build(net.graph, host(), options(host(), outside=True, **wanted), along=AFTER_ORDER)
    monkeypatch.setattr(csr, "PART", 1 << 12)
    tracemalloc.start()
    assert build.made.code
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 8 < peak / net.n_edges < most


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked to")
def test_what_was_freed_goes_back_to_the_system() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    kept, freed = [], []
    for _ in range(400):  # 26 MB, with something small behind each part
        freed.append(np.ones(8192))
        kept.append(np.ones(100))
    del freed[:]
    before = resident()
    give_back()
    assert before - resident() > 13 << 20


@pytest.fixture(scope="module")
def net() -> ncc.Net:
    """80,000 edges: its sources take more than `outside` leaves in."""
    return ncc.parse(random_layers([512] * 6, 32, 1))


# Rows of a `table`; blocks of `shared`.
@pytest.mark.parametrize("fan_in", [32, pytest.param(512, marks=pytest.mark.slow)])
def test_tables_outside_the_object_give_the_same_bits(fan_in: int, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCC_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NCC_CACHE_SIZE", "64M")
    text = random_layers([512] * 6 if fan_in == 32 else [512] * 2, fan_in, 1)
    text = text.replace("\n0205 relu", "\n0205 tanh")  # another kind of row, and of block
    net = ncc.parse(text)
    inside = ncc.compile(net, cache=False, outside=False, tier="now")
    x = np.random.default_rng(0).standard_normal((37, 512)).astype(np.float32)
    for kept in (False, True, True):  # compiled; compiled and kept; from the cache
        fn = ncc.compile(net, cache=kept, tier="now")
        assert kept == bool(list(tmp_path.iterdir()))
        assert fn(x).tobytes() == inside(x).tobytes()
        assert fn(x[0]).tobytes() == inside(x[0]).tobytes()
        for mine, other in zip(fn.vjp(x)[1](fn(x)), inside.vjp(x)[1](fn(x)), strict=True):
            assert mine.tobytes() == other.tobytes()


def test_what_is_outside_and_what_is_saved(net: ncc.Net, tmp_path: Path) -> None:
    made = Build(net.graph, host(), options(host(), outside=True), along=AFTER_ORDER).made
    assert "net.sources" in made.tables
    assert sum(map(len, made.tables.values())) > 4 * len(made.code)
    exports = made.facts["exports"]
    with pytest.raises(RuntimeError, match="net_forward"):  # what it reads is not found
        Loaded(made.code, exports)
    # An object for others has all it reads.
    fn = ncc.compile(net, cache=False, tier="now")
    fn.save(tmp_path / "net.o")
    assert len((tmp_path / "net.o").read_bytes()) > sum(map(len, made.tables.values()))
    Loaded((tmp_path / "net.o").read_bytes(), exports)


def test_tables_are_kept_with_their_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCC_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NCC_CACHE_SIZE", "64M")
    tables = {"net.b": np.arange(200, dtype=np.uint8), "net.a": np.zeros(0, np.uint8),
              "net.c": np.full(3, 7, np.uint8)}
    cache.store("a" * 64, cache.Entry(b"code", {"exports": []}, tables))
    found = cache.lookup("a" * 64)
    assert found is not None and found.code == b"code" and found.facts == {"exports": []}
    assert [(k, v.tolist()) for k, v in found.tables.items()] == [
        (k, v.tolist()) for k, v in tables.items()]


def test_leaders_across_parts() -> None:
    """Rows with one in-list are found however many edges stand between them, and no others."""
    rng = np.random.default_rng(0)
    kinds = [",".join(f"{k:x}" for k in rng.permutation(400)) for _ in range(3)]
    which = rng.integers(0, 3, 2000)  # 800,000 edges: several parts
    lines = [f"{k:x}" for k in range(400)]
    lines += [f"{400 + k:x} relu {kinds[w]}" for k, w in enumerate(which)]
    graph = ncc.parse("\n".join([f"N {len(lines):x}", *lines, ""])).graph
    alive = np.flatnonzero(graph.activations >= 0).astype(np.int32)
    firsts = np.array([int(np.flatnonzero(which == w)[0]) for w in which])
    assert representatives(graph.starts, graph.sources, alive, graph.activations,
                           graph.aggregations).tolist() == firsts.tolist()
